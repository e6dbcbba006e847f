"""``hwflash layout``: what is where in a firmware image."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from hwflash.cli import params, runner
from hwflash.errors import UsageError
from hwflash.units import Range, format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hwflash.jobs.opening import Request
    from hwflash.jobs.source import Source
    from hwflash.layout.regions import Region
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
    params.json_option,
]  # fmt: skip


@click.command("layout")
@_options
@runner.command("layout")
def command(run: runner.Run, source: str, base: int | None, **options: Any) -> runner.Outcome:
    """Draw the map of SOURCE, an image, a programmer URL, or board:NAME.

    Regions and firmware volumes, with their offsets and with the physical addresses at which a
    machine shows them.
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
    regions: Sequence[Region] = found.regions
    if board is not None and (own := board.region_map().regions):
        regions = own
    name = source if source == "-" else os.path.basename(source)  # noqa: PTH119 - may be a URL
    return runner.Outcome(_keys(source, found, regions), _lines(name, found, regions))


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
            {"healthy": store.healthy, **_place(found, Range(store.base, store.length))}
            for store in found.stores
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


def _lines(name: str, found: ImageMap, regions: Sequence[Region]) -> list[str]:
    lines = [f"{name}: {found.kind}, {format_size(found.size)}"]
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
    if found.volumes:
        lines += ["", "  firmware volumes"]
    wide = max((len(volume.label) for volume in found.volumes), default=0)
    for volume in found.volumes:
        lines.append(f"  {_where(found, volume.range)}  {volume.label:<{wide}}  {_state(volume)}")
        lines += [f"    {item.severity}: {item}" for item in volume.anomalies]
    lines += ["", *(f"  note: {note}" for note in found.notes)] if found.notes else []
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
