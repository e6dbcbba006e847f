"""Where the regions of a chip are: told by a layout file, the board file, or the chip itself.

A chip that begins with an Intel flash descriptor is treated by it also without a board: descriptor,
management engine and network settings are written only when they are named; so are the read-only
areas of an FMAP. Regions of a board file are added to that: they take the place of names only.

Limits: an FMAP that is not at a multiple of 64 KiB protects a chip only where it is read anyway,
as before a write of the whole chip, or where the board file says that there is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
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
STRIDE: Final = 4 * KIB
#: Where it is looked for before any write: a search of each 4 KiB would take longer than a small
#: write.
MAP_STRIDE: Final = 64 * KIB
_GUID = re.compile(r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")

#: Where a flash descriptor is.
DESCRIPTOR: Final = Range(0, ifd.DESCRIPTOR_SIZE)
#: Stands for the name of every region.
EVERY: Final = "*"

Lookup = Callable[[str], Range]
#: Gives the bytes of many short ranges.
Read = Callable[[Sequence[Range]], list[bytes]]


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


class ChipLayout:
    """What a chip tells of its regions itself; read when it is asked for, and once.

    Attributes:
        problem: why its descriptor, or else its FMAP, could not be used, once it was looked at.
    """

    def __init__(self, flash: NorFlash) -> None:
        self._flash = flash
        self._size = flash.chip.size
        self._descriptor: RegionMap | None = None
        self._maps: list[RegionMap] = []
        self._whole_map: RegionMap | None = None
        self._looked = False
        self.problem: ImageError | None = None

    def regions(self, board: Board | None) -> RegionMap:
        """The regions by which the chip is treated, none where nothing tells them.

        Raises:
            ImageError: the board says that the chip tells them, and it does not (``ifd.none``,
                ``fmap.none``), or not in a usable way.
            BusUnstable: two reads of its start differ.
        """
        kind = told_by(board)
        if kind == "fmap":
            if self._whole_map is None:
                self._whole_map = _fmap(self._flash)
            return self._whole_map
        self._look()
        if kind == "ifd" and self.problem is not None and self.problem.code.startswith("ifd"):
            raise self.problem
        if kind == "ifd" and self._descriptor is None:
            raise ImageError("the chip has no Intel flash descriptor", code="ifd.none")
        return self._descriptor or RegionMap((), self._size)

    def protected(self) -> tuple[Region, ...]:
        """Regions of its descriptor that are not the host's, and read-only areas of its FMAPs.

        An image may hold several maps, and nobody knows which its firmware goes by.

        Raises:
            BusUnstable: two reads of its start differ.
        """
        self._look()
        return tuple(
            region
            for found in (self._descriptor, *self._maps)
            if found is not None
            for region in found
            if region.protected
        )

    def areas(self) -> RegionMap | None:
        """Its FMAP, at any multiple of 4 KiB.

        Raises:
            ImageError: there is one, and it cannot be used.
        """
        return quick_fmap(self._flash.read_pieces, self._size)

    def notice(self, contents: Sequence[bytes]) -> None:
        """Look for an FMAP in what was read, where it is not at a multiple of 64 KiB."""
        for content in contents:
            if not self._maps and fmap.SIGNATURE in content:
                self._search(content)

    def _look(self) -> None:
        if self._looked:
            return
        if ifd.find(_twice(self._flash, 0x14)) is not None:
            head = _twice(self._flash, ifd.DESCRIPTOR_SIZE)
            try:
                self._descriptor = ifd.region_map(ifd.parse(head, self._size), self._size)
            except ImageError as error:
                self.problem = error
        for found in _quick_fmaps(self._flash.read_pieces, self._size, MAP_STRIDE):
            if isinstance(found, ImageError):
                self.problem = self.problem or found
            else:
                self._maps.append(found)
        self._looked = True

    def _search(self, content: bytes) -> None:
        try:
            found = fmap.find(content, self._size)
        except ImageError as error:
            self.problem = self.problem or error
            return
        if found is not None:
            self._maps.append(RegionMap(found.regions, self._size, nested=True))


def told_by(board: Board | None) -> str | None:
    """What on the chip tells the regions of a board: ``ifd`` or ``fmap``; None: no board says."""
    if board is None or board.layout is None or board.region:
        return None
    return board.layout.kind if board.layout.kind in ("ifd", "fmap") else None


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


def image_region(name: str, image: bytes, regions: Iterable[Region]) -> Range:
    """Where a region of an image is, or a firmware volume by its GUID.

    Args:
        name: of it.
        image: all of it, from address 0 on.
        regions: those that are known of it.

    Raises:
        UsageError: there is none of that name (``usage.region``).
    """
    known = RegionMap(regions, nested=True)
    if name in known:
        return known[name].range
    return (volume_region(name, lambda: image) or known[name]).range


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
    found = quick_fmap(flash.read_pieces, size)
    if found is not None:
        return found
    everywhere = fmap.find(flash.read(0, size))
    if everywhere is None:
        raise ImageError("the chip has no FMAP", code="fmap.none")
    return RegionMap(everywhere.regions, size, nested=True)


def quick_fmap(read: Read, size: int, stride: int = STRIDE) -> RegionMap | None:
    """The first map of a flash, where builds put it; None when it is not there.

    Args:
        read: gives the bytes of many short ranges.
        size: bytes of the flash.
        stride: of what it is looked for at a multiple.

    Raises:
        ImageError: there is one, and it cannot be used.
    """
    for found in _quick_fmaps(read, size, stride):
        if isinstance(found, ImageError):
            raise found
        return found
    return None


def _quick_fmaps(read: Read, size: int, stride: int) -> Iterator[RegionMap | ImageError]:
    places = [Range(at, 8) for at in range(0, size, stride)]
    for place, head in zip(places, read(places), strict=True):
        if head != fmap.SIGNATURE:
            continue
        try:
            found = fmap.parse(_map_at(read, place.address, size), place.address, size)
        except ImageError as error:
            if error.code != "fmap.version":
                yield error
        else:
            yield RegionMap(found.regions, size, nested=True)


def _map_at(read: Read, at: int, size: int) -> bytes:
    """A map with as many areas as it claims, in pieces that any programmer reads at once."""
    (head,) = read([Range(at, min(fmap.HEADER.size, size - at))])
    if len(head) < fmap.HEADER.size:
        return head
    areas = min(fmap.HEADER.unpack(head)[-1], fmap.LIMIT)
    end = min(at + fmap.HEADER.size + areas * fmap.AREA.size, size)
    return b"".join(read([Range(x, min(STRIDE, end - x)) for x in range(at, end, STRIDE)]))
