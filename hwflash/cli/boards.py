"""``hwflash boards``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner
from hwflash.units import format_hz, format_size

if TYPE_CHECKING:
    from hwflash.boards import Board, ExpectedDescriptor


@click.group("boards")
def command() -> None:
    """List, show and check board files."""


@command.command("list")
@params.json_option
@runner.command("boards list")
def list_(run: runner.Run) -> runner.Outcome:
    """List the boards that -b finds by name."""
    from hwflash.boards import list_boards

    found = list_boards()
    keys = [
        {
            "name": entry.name,
            "origin": entry.origin,
            "description": entry.description,
            "file": entry.file,
            "faults": [{"path": fault.path, "message": fault.message} for fault in entry.faults],
        }
        for entry in found
    ]
    lines = [
        f"{entry.name:<24} "
        + (entry.description if not entry.faults else f"{len(entry.faults)} faults in {entry.file}")
        for entry in found
    ]
    return runner.Outcome({"boards": keys}, lines)


@command.command("show")
@click.argument("board", type=params.BoardName())
@params.json_option
@runner.command("boards show")
def show(run: runner.Run, board: Any) -> runner.Outcome:
    """Show BOARD: chip, wiring, regions, and where the facts are from."""
    return runner.Outcome({"board": board.model_dump(mode="json")}, _board_lines(board))


@command.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@params.json_option
@runner.command("boards check")
def check(run: runner.Run, file: Path) -> runner.Outcome:
    """List every fault of a board FILE with its place; exit code 7 when there is one."""
    from hwflash.boards import check_board
    from hwflash.errors import BoardError

    faults = check_board(file)
    if faults:
        raise BoardError(
            f"{file} has {len(faults)} fault{'s' if len(faults) > 1 else ''}",
            file=str(file),
            faults=[str(fault) for fault in faults],
        )
    return runner.Outcome({"file": str(file), "faults": []}, [f"{file}: no faults"])


@command.command("schema")
@params.json_option
@runner.command("boards schema")
def schema(run: runner.Run) -> runner.Outcome:
    """Print the JSON Schema of board files, for editors."""
    from hwflash.boards import json_schema

    found = json_schema()
    return runner.Outcome({"schema": found}, [json.dumps(found, indent=2)])


def _board_lines(board: Any) -> list[str]:
    flash, wiring, programmer = board.flash, board.wiring, board.programmer
    chips = " or ".join(flash.chip) or "any chip"
    volts = f", {flash.voltage:g} V" if flash.voltage else ""
    lines = [
        board.name,
        f"  {board.description}",
        f"  flash   {chips}, {format_size(flash.size)}{volts}",
    ]
    if programmer.url:
        lines.append(f"  programmer {programmer.url}")
    if programmer.frequency:
        lines.append(f"  SCK at most {format_hz(programmer.frequency)}")
    if wiring.connector or wiring.notes:
        lines.append(f"  wiring  {' '.join((wiring.connector + '. ' + wiring.notes).split())}")
    lines += [
        f"    {pin.pin:>4}  {pin.signal:<10} {pin.to}" + (f"  ({pin.note})" if pin.note else "")
        for pin in wiring.pin
    ]
    regions = list(board.region_map())
    if regions:
        lines.append("  regions")
    lines += [
        f"    {region.name:<16} {region.range}  {format_size(region.range.length):>9}"
        + ("  protected" if region.protected else "")
        + (f"  {region.description}" if region.description else "")
        for region in regions
    ]
    lines += [f"  expects {text}" for text in _expected(board)]
    lines += [f"  source  {source}" for source in board.source]
    return lines


def _expected(board: Board) -> list[str]:
    """What is looked at before a write."""
    expect, kind = board.expect, board.layout.kind if board.layout is not None else None
    found: list[str] = []
    if expect.unique_id:
        found.append(f"unique id {expect.unique_id}")
    if expect.descriptor is not None:
        found += _descriptor(expect.descriptor)
    elif kind == "ifd":
        found.append("a flash descriptor")
    found += [f"volume {item.guid} at 0x{item.at:06X}" for item in expect.volume]
    found += [f"volume {guid}" for guid in expect.volumes]
    if expect.fmap or kind == "fmap":
        found.append("an FMAP" + (f" with {', '.join(expect.fmap)}" if expect.fmap else ""))
    return found


def _descriptor(wanted: ExpectedDescriptor) -> list[str]:
    found = [f"descriptor, sha256 {wanted.sha256}" if wanted.sha256 else "a flash descriptor"]
    if wanted.components:
        sizes = " and ".join(map(format_size, wanted.components))
        found.append(f"descriptor of chips of {sizes}")
    if wanted.straps_sha256:
        found.append(f"straps, sha256 {wanted.straps_sha256}")
    return found + [
        f"region {name} at 0x{area.start:06X}, {format_size(area.length)}"
        for name, area in wanted.regions.items()
    ]
