"""``hwflash read``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import gang, params, reports, runner
from hwflash.cli.results import range_keys, state_for_history
from hwflash.errors import EnvironmentFault, UsageError
from hwflash.units import format_seconds, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwflash.jobs.gang_devices import Device
    from hwflash.jobs.opening import Request
    from hwflash.jobs.selection import Selection


@click.command("read")
@click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@params.gang_options
@params.selection_options
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Read this often and say where the reads disagree.",
)
@params.format_option
@reports.report_option
@runner.command("read")
@reports.reported
def command(run: runner.Run, file: Path | None, repeat: int, kind: str, **options: Any) -> Any:
    """Read the chip, or parts of it, into FILE (raw, Intel HEX or S-record; - is stdout)."""
    from hwflash.jobs.read import read
    from hwflash.jobs.selection import ranges
    from hwflash.jobs.session import open_session

    devices = gang.taken(options)
    chosen = params.selection(options)
    request = params.request(options)
    params.require_file(file, chosen)
    _require_folders([file, *(item.file for item in chosen.regions)])
    if devices is not None:
        return _read_gang(run, devices, file, repeat, kind, chosen, request)
    if str(file) == "-" and sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise UsageError("standard output is closed", code="usage.selection")
    if str(file) == "-" and run.console.json_lines:
        raise UsageError("--json and - both want stdout", code="usage.selection")
    with open_session(request, run.console) as session:
        session.use_layout(chosen.layout)
        parts = ranges(chosen, session.chip.size, session.region)
        _require_one_run(file, [part.range for part in parts if part.file is None], kind)
        places = [part.range for part in parts]
        run.console.begin("read", ranges=range_keys(places))
        state = state_for_history(run.console)
        found = read(session, places, run.console, run.cancel, repeat, state)
        stats = session.stats()
    by_file: dict[Path | None, list[tuple[Any, bytes]]] = {}
    for part, piece in zip(parts, found.pieces, strict=True):
        by_file.setdefault(part.file, []).append(piece)
    for target, pieces in by_file.items():
        _save(target or file, pieces, kind)
    total = sum(place.length for place in places)
    keys = {
        "bytes": total,
        "sha256": found.sha256,
        "seconds": round(found.seconds, 6),
        "changed": [],
        "mismatches": range_keys(found.disagreements),
        "backup": None,
        "stats": stats,
        "history": found.entry,
    }
    lines = [f"read {format_size(total)} in {format_seconds(found.seconds)}, sha256 {found.sha256}"]
    if repeat > 1:
        lines.append(_agreement(repeat, found.disagreements))
    if str(file) == "-":
        for line in lines:
            run.console.talk(line)
        lines = []
    return runner.Outcome(keys, lines, 1 if found.disagreements else 0)


def _read_gang(
    run: runner.Run,
    devices: Sequence[Device],
    file: Path | None,
    repeat: int,
    kind: str,
    chosen: Selection,
    request: Request,
) -> runner.Outcome:
    from hwflash.jobs.gang import Terms
    from hwflash.jobs.gang_task import NUMBER, UNIQUE_ID, ReadTask
    from hwflash.state import state_dir

    for name in [item.file or file for item in chosen.regions] or [file]:
        if NUMBER not in str(name) and UNIQUE_ID not in str(name):
            raise UsageError(
                f"{name} would be the file of every chip: put {NUMBER}, the number of the "
                f"programmer, or {UNIQUE_ID}, the chip's unique id, into its name",
                code="usage.gang",
            )
    state = state_dir(os.environ)  # a gang's programmers are locked there
    task = ReadTask(chosen, file, repeat, kind, state)
    return gang.run_gang(run, devices, request, state, lambda _: task, Terms())[1]


def _require_folders(files: list[Path | None]) -> None:
    """A missing folder is better noticed now than after minutes of reading."""
    for file in files:
        if file is not None and str(file) != "-" and not file.parent.is_dir():
            raise EnvironmentFault(
                f"there is no folder {file.parent}",
                code="environment.unwritable",
                file=str(file),
            )


def _agreement(repeat: int, disagreements: Any) -> str:
    if not disagreements:
        return f"all {repeat} reads agree"
    from hwflash.cli.show import places_text

    total = sum(item.length for item in disagreements)
    places = places_text(disagreements)
    return f"{repeat} reads disagree within {total} bytes, at the slowest clock too: {places}"


def _require_one_run(file: Path | None, places: list[Any], kind: str) -> None:
    """A raw file has no addresses: it can hold one run of bytes only."""
    from hwflash.layout.files import format_for

    wanted: Any = kind  # click has checked that it is one of the formats
    if len(places) > 1 and file is not None and format_for(file, wanted) == "raw":
        raise UsageError(
            f"{len(places)} regions do not fit into one raw file; give each its own "
            "(--region NAME:FILE), or use Intel HEX or S-record",
            code="usage.selection",
        )


def _save(target: Path | None, pieces: list[tuple[Any, bytes]], kind: str) -> None:
    from hwflash.layout.files import Segment, save_image

    segments = [Segment(place.address, data) for place, data in pieces]
    where: Any = sys.stdout.buffer if str(target) == "-" else target
    save_image(where, segments, kind)  # type: ignore[arg-type]
