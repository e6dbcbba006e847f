"""Where the regions of a chip are: told by a layout file, the board file, or the chip itself.

A chip that begins with an Intel flash descriptor is treated by it also without a board: descriptor,
management engine and network settings are written only when they are named. A board file with
``[[region]]`` entries takes its place: what it does not call protected is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hwflash.errors import BusUnstable, ImageError, UsageError
from hwflash.layout import fmap, ifd, textfile
from hwflash.layout.regions import Region, RegionMap
from hwflash.units import KIB, Range

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.flash.nor import NorFlash

#: A map begins at a multiple of this in images that were built to be searched.
_STRIDE: Final = 4 * KIB
_GUID = re.compile(r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")

#: Stands for the name of every region.
EVERY: Final = "*"

Lookup = Callable[[str], Range]


def read_layout_file(path: Path, size: int | None = None) -> RegionMap:
    """Read a layout file of flashrom.

    Raises:
        ImageError: it cannot be read, or has faults (``layout.syntax``).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ImageError(f"cannot read {path}: {exc}", code="layout.unreadable") from exc
    return textfile.parse(text, str(path), size)


def board_lookup(board: Board | None) -> Lookup | None:
    """Regions by the board file alone, where there is no chip to ask."""
    return (lambda name: board.region_map()[name].range) if board is not None else None


def chip_regions(flash: NorFlash, board: Board | None) -> tuple[RegionMap, ImageError | None]:
    """The regions of a chip.

    Returns:
        The regions, none where nothing tells them; and why the descriptor of a chip could not be
        used, where no board demands it.

    Raises:
        ImageError: the board says that the chip tells its regions, and it does not (``ifd.none``,
            ``fmap.none``), or not in a usable way.
        BusUnstable: two reads of its start differ.
    """
    size = flash.chip.size
    kind = board.layout.kind if board is not None and board.layout is not None else None
    if board is not None and board.region:
        return board.region_map(), None
    if kind == "fmap":
        return _fmap(flash), None
    if ifd.find(_twice(flash, 0x14)) is None:
        if kind == "ifd":
            raise ImageError("the chip has no Intel flash descriptor", code="ifd.none")
        return RegionMap((), size), None
    try:
        found = ifd.parse(_twice(flash, ifd.DESCRIPTOR_SIZE), size)
        return ifd.region_map(found, size), None
    except ImageError as error:
        if kind == "ifd":
            raise
        return RegionMap((), size), error


def _twice(flash: NorFlash, length: int) -> bytes:
    """The first bytes of a chip; what protects the rest must not hang on one wrong bit."""
    first, second = flash.read_pieces([Range(0, length), Range(0, length)])
    if first != second:
        raise BusUnstable(
            "two reads of the start of the chip differ", code="chip.unstable-read", address=0
        )
    return first


def image_regions(image: bytes, board: Board | None = None) -> tuple[str, RegionMap] | None:
    """The regions an image itself tells: ``ifd`` or ``fmap`` and the map; None: it tells none.

    A map that the board demands and that the image does not have is a fault.

    Raises:
        ImageError: there is one, and it cannot be used; or there is none, and the board wants it.
    """
    kind = board.layout.kind if board is not None and board.layout is not None else None
    if kind != "fmap" and ifd.find(image[:0x14]) is not None:
        return "ifd", ifd.region_map(ifd.parse(image, len(image)), len(image))
    if kind == "ifd":
        raise ImageError("the image has no Intel flash descriptor", code="ifd.none")
    found = fmap.find(image)
    if found is not None:
        return "fmap", RegionMap(found.regions, len(image), nested=True)
    if kind == "fmap":
        raise ImageError("the image has no FMAP", code="fmap.none")
    return None


def volume_region(name: str, read: Callable[[], bytes]) -> Region | None:
    """A firmware volume as a region, by its GUID; None when the name is no GUID.

    Args:
        name: ``GUID`` or ``fv:GUID``: the name of a volume in its extended header.
        read: gives the whole flash.

    Raises:
        UsageError: no volume has the name, or several have (``usage.region``).
    """
    text = name.removeprefix("fv:")
    if not _GUID.match(text):
        return None
    from hwflash.qemu.volumes import list_volumes

    named = [item for item in list_volumes(read()) if item.name is not None]
    hits = [item for item in named if str(item.name).lower() == text.lower()]
    if len(hits) == 1:
        return Region(name, hits[0].range, description="firmware volume")
    raise UsageError(
        f"{len(hits) or 'no'} firmware volumes have the name {text}",
        code="usage.region",
        name=name,
        known=sorted({str(item.name) for item in named}),
        places=[str(item.range) for item in hits],
    )


def unnamed_protected(regions: Sequence[Region], named: frozenset[str]) -> list[Region]:
    """Protected regions that were not named, nor lie in one that was."""
    if EVERY in named:
        return []
    inside = [item.range for item in regions if item.name in named]
    return [
        item
        for item in regions
        if item.protected
        and item.name not in named
        and not any(outer.contains(item.range) for outer in inside)
    ]


def _fmap(flash: NorFlash) -> RegionMap:
    """The map of a chip, looked for where builds put it, and then everywhere."""
    size = flash.chip.size
    found = quick_fmap(flash)
    if found is not None:
        return found
    everywhere = fmap.find(flash.read(0, size))
    if everywhere is None:
        raise ImageError("the chip has no FMAP", code="fmap.none")
    return RegionMap(everywhere.regions, size, nested=True)


def quick_fmap(flash: NorFlash) -> RegionMap | None:
    """The map of a chip, where builds put it; None when it is not there.

    Raises:
        ImageError: there is one, and it cannot be used.
    """
    size = flash.chip.size
    places = [Range(at, 8) for at in range(0, size, _STRIDE)]
    heads = flash.read_pieces(places)
    length = fmap.HEADER.size + fmap.LIMIT * fmap.AREA.size
    for place, head in zip(places, heads, strict=True):
        if head != fmap.SIGNATURE:
            continue
        at = place.address
        try:
            found = fmap.parse(flash.read(at, min(length, size - at)), at, size)
        except ImageError as error:
            if error.code == "fmap.version":
                continue
            raise
        return RegionMap(found.regions, size, nested=True)
    return None
