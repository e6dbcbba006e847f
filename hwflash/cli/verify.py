"""``hwflash verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hwflash.cli import params, runner
from hwflash.cli.results import range_keys, state_for_history
from hwflash.units import format_seconds, format_size


@click.command("verify")
@click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@params.programmer_options
@params.selection_options
@params.format_option
@runner.command("verify")
def command(run: runner.Run, file: Path | None, kind: str, **options: Any) -> runner.Outcome:
    """Compare the chip with FILE; exit code 1 when they differ."""
    from hwflash.cli.show import places_text
    from hwflash.jobs.read import verify
    from hwflash.jobs.selection import segments
    from hwflash.jobs.session import open_session

    chosen = params.selection(options)
    params.require_file(file, chosen)
    request = params.request(options)
    image = params.load_file(run, file, kind) if file is not None else None
    with open_session(request, run.console) as session:
        params.use_layout(session, chosen)
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
    }
    total = sum(item.length for item in found.mismatches)
    if total:
        line = f"differs in {format_size(total)}: {places_text(found.mismatches)}"
    else:
        line = f"equal: {format_size(found.bytes)} in {format_seconds(found.seconds)}"
    return runner.Outcome(keys, [line, f"sha256 of the chip {found.sha256}"], 1 if total else 0)
