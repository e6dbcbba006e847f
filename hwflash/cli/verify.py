"""``hwflash verify``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import gang, params, reports, runner
from hwflash.cli.results import range_keys, state_for_history
from hwflash.units import format_seconds, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwflash.jobs.gang_devices import Device
    from hwflash.jobs.opening import Request
    from hwflash.jobs.selection import Selection


@click.command("verify")
@click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@params.gang_options
@params.selection_options
@params.format_option
@reports.report_option
@runner.command("verify")
@reports.reported
def command(run: runner.Run, file: Path | None, kind: str, **options: Any) -> runner.Outcome:
    """Compare the chip with FILE; exit code 1 when they differ."""
    from hwflash.cli.show import places_text
    from hwflash.jobs.read import verify
    from hwflash.jobs.selection import segments
    from hwflash.jobs.session import open_session

    devices = gang.taken(options)
    chosen = params.selection(options)
    params.require_file(file, chosen)
    request = params.request(options)
    if devices is not None:
        return _verify_gang(run, devices, file, kind, chosen, request)
    image = params.load_file(run, file, kind) if file is not None else None
    with open_session(request, run.console) as session:
        session.use_layout(chosen.layout)
        targets = segments(
            chosen, image, lambda path: params.load_file(run, path, kind), session.chip.size,
            session.region,
        )  # fmt: skip
        run.console.begin("verify", ranges=range_keys(item.range for item in targets))
        state = state_for_history(run.console)
        found = verify(session, targets, run.console, run.cancel, state)
        stats = session.stats()
    keys = {
        "bytes": found.bytes,
        "sha256": found.sha256,
        "seconds": round(found.seconds, 6),
        "changed": [],
        "mismatches": range_keys(found.mismatches),
        "backup": None,
        "stats": stats,
        "history": found.entry,
    }
    total = sum(item.length for item in found.mismatches)
    if total:
        line = f"differs in {format_size(total)}: {places_text(found.mismatches)}"
    else:
        line = f"equal: {format_size(found.bytes)} in {format_seconds(found.seconds)}"
    return runner.Outcome(keys, [line, f"sha256 of the chip {found.sha256}"], 1 if total else 0)


def _verify_gang(
    run: runner.Run,
    devices: Sequence[Device],
    file: Path | None,
    kind: str,
    chosen: Selection,
    request: Request,
) -> runner.Outcome:
    from hwflash.jobs.gang import Terms
    from hwflash.jobs.gang_task import VerifyTask
    from hwflash.state import state_dir

    state = state_dir(os.environ)  # a gang's programmers are locked there
    return gang.run_gang(
        run, devices, request, state,
        lambda pool: VerifyTask(chosen, gang.sources(run, pool, file, kind, chosen), state),
        Terms(),
    )[1]  # fmt: skip
