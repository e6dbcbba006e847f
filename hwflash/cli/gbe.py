"""``hwflash gbe``: MAC address and checksum of Intel's Ethernet settings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner
from hwflash.errors import ImageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwflash.jobs.opening import Request
    from hwflash.jobs.source import FileSource, Source
    from hwflash.jobs.write import WriteOptions
    from hwflash.layout.gbe import GbeCopy
    from hwflash.units import Range


@click.group("gbe")
def command() -> None:
    """Show and change the MAC address in the GbE region of an image, a chip or a board."""


def _source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.argument("source", metavar="SOURCE"),
            click.option("-b", "--board", type=params.BoardName(), help="Board with the region."),
            *params.CHIP_OPTIONS,
            params.json_option,
        ]
    ):
        function = option(function)
    return function


@command.command("show")
@_source_options
@runner.command("gbe show")
def show(run: runner.Run, source: str, **options: Any) -> runner.Outcome:
    """Show MAC address and checksum of each copy."""
    with _open(run, source, options) as place:
        where = _region(place, run)
        (data,) = place.read([where], run.console, run.cancel)
    copies = _read(data)
    keys = {"source": source, "address": where.address, "copies": _keys(copies)}
    return runner.Outcome(keys, _lines(copies))


@command.command("set")
@_source_options
@params.change_options
@click.option("--mac", metavar="MAC", help="The address, such as 00:11:22:33:44:55.")
@click.option("--checksum", is_flag=True, help="Keep the addresses, mend the checksums.")
@click.option(
    "-o", "--output", type=params.PATH, help="For a file: write the result there instead."
)
@runner.command("gbe set")
def set_(
    run: runner.Run,
    source: str,
    mac: str | None,
    checksum: bool,
    output: Path | None,
    **options: Any,
) -> runner.Outcome:
    """Set the MAC address, with right checksums, in every copy that is not erased."""
    from hwflash.cli.write import write_options
    from hwflash.jobs.source import FileSource
    from hwflash.layout.gbe import parse_mac, with_mac

    if (mac is None) == (not checksum):
        raise UsageError("say --mac MAC, or --checksum", code="usage.selection")
    address = parse_mac(mac) if mac is not None else None
    if output is not None and not output.exists():  # nothing that exists is changed
        options["yes"] = True
    how = write_options(run, options, frozenset({"gbe"}), piped=source == "-")
    with _open(run, source, options) as place:
        where = _region(place, run)
        (old,) = place.read([where], run.console, run.cancel)
        new = with_mac(old, address)
        keys = {
            "source": source,
            "address": where.address,
            "copies": _keys(_read(new)),
            "executed": False,
            "dry_run": how.dry_run,
            "backup": None,
        }
        if new == old and output is None:
            return runner.Outcome(keys, ["nothing to do: it is so already"])
        if isinstance(place, FileSource):
            if not how.dry_run:
                keys["backup"] = _change_file(run, place, where, old, new, how, output)
        elif output is not None:
            raise UsageError("--output goes with a file", code="usage.output")
        else:
            keys["backup"] = _change_chip(run, place, where, new, how)
    keys["executed"] = not how.dry_run
    lines = _lines(_read(new))
    return runner.Outcome(keys, [*lines, "dry run: nothing was written"] if how.dry_run else lines)


def _open(run: runner.Run, source: str, options: dict[str, Any]) -> Any:
    from hwflash.jobs.source import open_source

    def request() -> Request:
        return params.request({"programmer": None, **options})

    return open_source(
        source, options["board"], request, run.console, partial(params.load_file, run)
    )


def _region(place: Source, run: runner.Run) -> Range:
    """Where the GbE region is: an image of 8 KiB is one itself."""
    from hwflash.jobs.regions import image_regions
    from hwflash.jobs.source import ChipSource
    from hwflash.layout import gbe
    from hwflash.layout.ifd import DESCRIPTOR_SIZE
    from hwflash.layout.regions import RegionMap
    from hwflash.units import Range

    if isinstance(place, ChipSource):
        return place.session.region("gbe")
    (whole, *more) = place.ranges or (Range(0, 0),)
    if not more and whole.length == gbe.COPY * gbe.COPIES:
        return whole
    regions: RegionMap | None = None
    if place.board is not None and place.board.region:
        regions = place.board.region_map()
    elif whole.address == 0 and whole.length >= DESCRIPTOR_SIZE:
        (image,) = place.read([whole], run.console, run.cancel)
        told = image_regions(image, place.board)
        regions = told[1] if told is not None else None
    if regions is None:
        raise ImageError(f"nothing tells where the GbE region of {place.name} is", code="gbe.none")
    return regions["gbe"].range


def _change_file(
    run: runner.Run,
    source: FileSource,
    where: Range,
    old: bytes,
    new: bytes,
    how: WriteOptions,
    output: Path | None,
) -> str | None:
    from hwflash.jobs.edit_file import change_file
    from hwflash.jobs.remember import Facts
    from hwflash.uefi.window import Window

    facts = Facts("gbe set", len(new), details={"mac": new[:6].hex(), "old_mac": old[:6].hex()})
    window = Window(new, where.address)
    backup = change_file(source, window, [where], how, facts, output, run.console)
    return str(backup) if backup else None


def _change_chip(
    run: runner.Run, place: Any, where: Range, new: bytes, how: WriteOptions
) -> str | None:
    from dataclasses import replace

    from hwflash.jobs.write import write
    from hwflash.layout.files import Segment

    result = write(
        place.session,
        [Segment(where.address, new)],
        replace(how, kind="gbe set"),
        run.console,
        run.cancel,
    )
    return str(result.backup) if result.backup else None


def _read(data: bytes) -> tuple[GbeCopy, ...]:
    from hwflash.layout import gbe

    return gbe.read(data)


def _keys(copies: tuple[GbeCopy, ...]) -> list[dict[str, Any]]:
    return [
        {
            "offset": item.offset,
            "mac": None if item.blank else item.mac.hex(":"),
            "checksum": item.checksum,
            "valid": item.valid,
            "blank": item.blank,
        }
        for item in copies
    ]


def _lines(copies: tuple[GbeCopy, ...]) -> list[str]:
    words = {True: "right", False: "WRONG: the other copy is used, or none"}
    return [
        f"copy {number}: erased"
        if item.blank
        else f"copy {number}: {item.mac.hex(':')}, checksum {item.checksum:04X}h is "
        f"{words[item.valid]}"
        for number, item in enumerate(copies, 1)
    ]
