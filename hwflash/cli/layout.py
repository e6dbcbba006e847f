"""``hwflash layout``: what is where in a firmware image."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hwflash.cli import params, runner
from hwflash.cli.layout_import import import_lines, import_regions
from hwflash.cli.layout_show import map_keys, map_lines
from hwflash.errors import ImageError, UsageError
from hwflash.layout.textfile import dump
from hwflash.units import Range, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwflash.boards import Board
    from hwflash.jobs.opening import Request
    from hwflash.jobs.selection import RegionChoice
    from hwflash.jobs.source import Source
    from hwflash.layout.ifd import Descriptor
    from hwflash.layout.regions import Region, RegionMap
    from hwflash.qemu.imagemap import ImageMap
    from hwflash.qemu.volumes import Volume

#: Characters of the widest bar.
BAR: Final = 20


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS: list[Callable[[Any], Any]] = [
    click.argument("source", metavar="SOURCE"),
    click.option("-b", "--board", type=params.BoardName(), help="Board whose regions are shown."),
    *params.CHIP_OPTIONS,
    click.option(
        "--base", type=params.SIZE,
        help="Physical address of the first byte. Default: that of OVMF's build.",
    ),
    click.option(
        "--layout", "file", type=params.PATH, metavar="FILE",
        help="Show the regions of this layout file (START:END NAME a line).",
    ),
    click.option(
        "--save", type=params.PATH, metavar="FILE",
        help="Write the regions as a layout file for flashrom and others.",
    ),
    click.option(
        "--export", "exports", type=params.REGION, multiple=True, metavar="NAME:FILE",
        help="Write the bytes of a region to a file; repeatable.",
    ),
    click.option(
        "--import", "imports", type=params.REGION, multiple=True, metavar="NAME:FILE",
        help="Replace a region of an image file by FILE: its bytes, or a whole image that has "
        "them in the same place; repeatable. `write --region` does it on a chip.",
    ),
    click.option(
        "-o", "--output", type=params.PATH,
        help="With --import: write the result there, and leave SOURCE as it is.",
    ),
    click.option("-y", "--yes", is_flag=True, help="With --import: do not ask."),
    click.option("-n", "--dry-run", is_flag=True, help="With --import: change nothing."),
    click.option(
        "--backup-dir", type=click.Path(path_type=Path, file_okay=False),
        help="With --import: folder for the backup. Default: in the state directory.",
    ),
    params.json_option,
]  # fmt: skip


@click.command("layout")
@_options
@runner.command("layout")
def command(
    run: runner.Run,
    source: str,
    base: int | None,
    file: Path | None,
    save: Path | None,
    exports: Sequence[RegionChoice],
    imports: Sequence[RegionChoice],
    output: Path | None,
    **options: Any,
) -> runner.Outcome:
    """Draw the map of SOURCE, an image, a programmer URL, or board:NAME.

    Regions and firmware volumes, with their offsets and with the physical addresses at which a
    machine shows them. Regions are those of a layout file, of the board, of the Intel flash
    descriptor or the FMAP in the image, or of a known build.
    """
    from hwflash.jobs.source import open_source
    from hwflash.qemu.imagemap import map_image

    def request() -> Request:
        return params.request({"programmer": None, **options})

    load = partial(params.load_file, run)
    with open_source(source, options["board"], request, run.console, load) as place:
        image = _whole(run, place)
        board = place.board
    found = map_image(image, base)
    kind, own, descriptor = _told(image, board, file)
    regions: Sequence[Region] = own.regions if own is not None else found.regions
    if exports:
        _export(image, regions, exports)
    done: dict[str, Any] = {"executed": False}
    if imports:
        done = import_regions(run, place, image, regions, imports, output, options)
    elif output is not None:
        raise UsageError("--output goes with --import", code="usage.output")
    if save is not None:
        _save(save, dump(regions).encode())
    name = source if source == "-" else os.path.basename(source)  # noqa: PTH119 - may be a URL
    keys = {**_keys(source, found, regions), "map": map_keys(kind, own, descriptor), **done}
    lines = _lines(name, found, regions, [] if own is None else map_lines(kind, own, descriptor))
    return runner.Outcome(keys, import_lines(done) if imports else lines)


def _told(
    image: bytes, board: Board | None, file: Path | None
) -> tuple[str | None, RegionMap | None, Descriptor | None]:
    """Who tells the regions, the regions, and the descriptor where there is one."""
    from hwflash.jobs.regions import image_regions, read_layout_file
    from hwflash.layout import ifd

    if file is not None:
        return "file", read_layout_file(file, len(image)), None
    if board is not None and board.region:
        return "board", board.region_map(), None
    try:
        told = image_regions(image, board)
    except ImageError as error:
        if error.code not in ("ifd.none", "fmap.none"):
            raise
        told = None  # what the board's flash should hold, this image does not: drawn all the same
    if told is None:
        return None, None, None
    kind, regions = told
    return kind, regions, ifd.parse(image, len(image)) if kind == "ifd" else None


def _export(image: bytes, regions: Sequence[Region], exports: Sequence[RegionChoice]) -> None:
    """Write regions to files of their own."""
    from hwflash.jobs.regions import image_region

    pieces: list[tuple[Path, bytes]] = []
    for choice in exports:
        if choice.file is None:
            raise UsageError(
                f"--export {choice.name} wants a file: {choice.name}:FILE", code="usage.selection"
            )
        where = image_region(choice.name, image, regions)
        pieces.append((choice.file, image[where.address : where.end]))
    for path, data in pieces:
        _save(path, data)


def _save(path: Path, data: bytes) -> None:
    from hwflash.layout.files import Segment, save_image

    save_image(path, [Segment(0, data)], "raw")


def _whole(run: runner.Run, place: Source) -> bytes:
    """Every byte there is; what a HEX file leaves out is FF."""
    if not place.ranges:
        raise UsageError("there is nothing to draw", code="usage.selection")
    start, end = place.ranges[0].address, place.ranges[-1].end
    if len(place.ranges) == 1:
        return place.read(place.ranges, run.console, run.cancel)[0]
    image = bytearray(b"\xff" * (end - start))
    for where, data in zip(
        place.ranges, place.read(place.ranges, run.console, run.cancel), strict=True
    ):
        image[where.address - start : where.end - start] = data
    return bytes(image)


# --- for scripts ----------------------------------------------------------------------------


def _keys(source: str, found: ImageMap, regions: Sequence[Region]) -> dict[str, Any]:
    return {
        "source": source,
        "size": found.size,
        "build": found.fit.build.name if found.fit else None,
        "part": found.fit.part if found.fit else None,
        "base": found.base,
        "regions": [
            {
                "name": region.name,
                "protected": region.protected,
                "description": region.description,
                **_place(found, region.range),
            }
            for region in regions
        ],
        "volumes": [
            {
                "name": volume.label,
                "name_guid": str(volume.name) if volume.name else None,
                "file_system": str(volume.header.file_system),
                "checksum_ok": volume.header.checksum_ok,
                "anomalies": [
                    {"code": item.code, "offset": item.offset, "message": item.text}
                    for item in volume.anomalies
                ],
                **_place(found, volume.range),
            }
            for volume in found.volumes
        ],
        "stores": [
            {
                "kind": "edk2",
                "healthy": store.healthy,
                **_place(found, Range(store.base, store.length)),
            }
            for store in found.stores
        ]
        + [
            {"kind": store.kind, "healthy": store.healthy, **_place(found, store.range)}
            for store in found.others
        ],
        "notes": list(found.notes),
    }


def _place(found: ImageMap, where: Range) -> dict[str, int | None]:
    return {
        "offset": where.address,
        "length": where.length,
        "physical": found.physical(where.address),
    }


# --- for people -----------------------------------------------------------------------------


def _lines(name: str, found: ImageMap, regions: Sequence[Region], told: Sequence[str]) -> list[str]:
    kind = "" if told and found.fit is None else f"{found.kind}, "
    lines = [f"{name}: {kind}{format_size(found.size)}"]
    if found.base is not None:
        last = found.base + found.size - 1
        lines.append(f"  in memory at 0x{found.base:08X}-0x{last:08X}")
    if regions:
        lines += ["", "  regions"]
    wide = max((len(region.name) for region in regions), default=0)
    lines += [
        f"  {_where(found, region.range)}  {region.name:<{wide}}  "
        f"{_bar(region.range.length, found.size)}  {region.description}".rstrip()
        for region in regions
    ]
    lines += told
    if found.volumes:
        lines += ["", "  firmware volumes"]
    wide = max((len(volume.label) for volume in found.volumes), default=0)
    for volume in found.volumes:
        lines.append(f"  {_where(found, volume.range)}  {volume.label:<{wide}}  {_state(volume)}")
        lines += [f"    {item.severity}: {item}" for item in volume.anomalies]
    if found.others:
        lines += ["", "  variable stores of other formats"]
    lines += [
        f"  {_where(found, store.range)}  {store.title}, {len(store.live)} variables"
        for store in found.others
    ]
    notes = () if told and found.fit is None else found.notes
    lines += ["", *(f"  note: {note}" for note in notes)] if notes else []
    return lines


def _where(found: ImageMap, where: Range) -> str:
    physical = found.physical(where.address)
    memory = "" if physical is None else f"0x{physical:08X}  "
    return f"{memory}{where}  {format_size(where.length):>9}"


def _bar(length: int, size: int) -> str:
    """How much of the image it is, at least one mark."""
    return f"{'#' * max(1, round(BAR * length / size)):<{BAR}}"


def _state(volume: Volume) -> str:
    from hwflash.uefi.guids import describe

    checksum = "checksum right" if volume.header.checksum_ok else "checksum wrong"
    return f"{describe(volume.header.file_system)}, {checksum}"
