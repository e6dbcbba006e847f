"""What a job touches: files, addresses, ranges and regions turned into segments of the chip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hwflash.errors import ImageError, UsageError
from hwflash.jobs.regions import EVERY, Lookup
from hwflash.layout import ifd
from hwflash.layout.files import Image, Segment
from hwflash.units import Range, format_size


@dataclass(frozen=True, slots=True)
class RegionChoice:
    """A region the user named, with a file of its own or none."""

    name: str
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What the user selected; nothing means the whole chip.

    Attributes:
        at: address at which the file belongs.
        range: the only part of the chip to touch.
        regions: regions of the layout.
        layout: a layout file of flashrom that says where regions are.
        every: protected regions may be written as well.
    """

    at: int | None = None
    range: Range | None = None
    regions: tuple[RegionChoice, ...] = ()
    layout: Path | None = None
    every: bool = False

    def check(self) -> None:
        """Refuse combinations that contradict each other.

        Raises:
            UsageError: more than one kind of selection (``usage.selection``).
        """
        used = [
            name
            for name, value in (("--at", self.at), ("--range", self.range),
                                ("--region", self.regions or None))
            if value is not None
        ]  # fmt: skip
        if len(used) > 1:
            raise UsageError(
                f"{' and '.join(used)} cannot be used together", code="usage.selection", used=used
            )

    @property
    def named(self) -> frozenset[str]:
        """Names of the regions the user named."""
        every = [EVERY] if self.every else []
        return frozenset([*every, *(choice.name for choice in self.regions)])


@dataclass(frozen=True, slots=True)
class Part:
    """A range of the chip and the file it goes to; None is the command's own file."""

    range: Range
    file: Path | None


def ranges(selection: Selection, size: int, lookup: Lookup | None) -> list[Part]:
    """What to read or erase.

    Raises:
        UsageError: outside the chip, or an unknown region.
    """
    selection.check()
    if selection.regions:
        return [Part(_region(choice, lookup, size), choice.file) for choice in selection.regions]
    if selection.range is not None:
        return [Part(_inside(selection.range, size), None)]
    if selection.at is not None:
        return [Part(_inside(Range(selection.at, max(size - selection.at, 1)), size), None)]
    return [Part(Range(0, size), None)]


def segments(
    selection: Selection,
    image: Image | None,
    load: Callable[[Path], Image],
    size: int,
    lookup: Lookup | None,
) -> list[Segment]:
    """What to write or verify.

    A file as large as the chip is cut to the selected range or region; a smaller one is put
    at its start.

    Args:
        selection: what the user selected.
        image: the command's own file, or None.
        load: reads the files that regions name.
        size: size of the chip in bytes.
        lookup: where regions are looked up.

    Raises:
        ImageError: the file does not fit the chip, range or region; or its own descriptor has
            the region elsewhere (``image.other-layout``).
        UsageError: a contradiction, or an unknown region.
    """
    selection.check()
    found: list[Segment] = []
    if selection.regions:
        for choice in selection.regions:
            source = image if choice.file is None else load(choice.file)
            if source is None:
                raise UsageError(
                    f"no file is given for region {choice.name}",
                    code="usage.selection",
                    region=choice.name,
                )
            place = _region(choice, lookup, size)
            if selection.layout is None:
                _require_same_place(source, choice.name, place, size)
            found += _cut(source, place, size, f"region {choice.name}")
        return sorted(found, key=lambda item: item.address)
    if image is None:
        raise UsageError("no file is given", code="usage.selection")
    if selection.range is not None:
        return _cut(image, _inside(selection.range, size), size, "the range")
    if selection.at is not None:
        return _placed(image, selection.at)
    return _whole(image, size)


def _placed(image: Image, address: int) -> list[Segment]:
    if image.absolute:
        raise UsageError(
            f"{image.name} has addresses of its own; --at cannot move them",
            code="usage.selection",
            file=image.name,
        )
    return [Segment(address, image.segments[0].data)]


def _whole(image: Image, size: int) -> list[Segment]:
    if not image.absolute and image.size != size:
        what = "larger" if image.size > size else "smaller"
        raise ImageError(
            f"{image.name} has {format_size(image.size)}, {what} than the chip of "
            f"{format_size(size)}",
            code=f"image.{what}-than-chip",
            file=image.name,
            bytes=image.size,
            size=size,
        )
    outside = [item for item in image.segments if item.range.end > size]
    if outside:
        raise ImageError(
            f"{image.name} has data at 0x{outside[0].range.end - 1:X}, beyond the end of the "
            f"chip of {format_size(size)}",
            code="image.larger-than-chip",
            file=image.name,
            address=outside[0].address,
            size=size,
        )
    return list(image.segments)


def _require_same_place(image: Image, name: str, place: Range, size: int) -> None:
    """Refuse to cut a region from a whole image whose own descriptor has it elsewhere.

    What would be cut is then not the region, but pieces of several. A board may name a part.
    """
    if image.absolute or image.size != size or ifd.find(image.segments[0].data[:0x14]) is None:
        return
    try:
        own = ifd.parse(image.segments[0].data, size).regions
    except ImageError:
        return  # nothing can be told by it
    for region in own:
        if region.name == name and not region.range.contains(place):
            raise ImageError(
                f"{image.name} has region {name} at {region.range}, the chip has it at {place}",
                code="image.other-layout",
                file=image.name,
                region=name,
                address=place.address,
                length=place.length,
            )


def _cut(image: Image, place: Range, size: int, what: str) -> list[Segment]:
    if image.absolute:
        inside = [
            Segment(first, item.data[first - item.address : end - item.address])
            for item in image.segments
            if (first := max(item.address, place.address)) < (end := min(item.range.end, place.end))
        ]
        if not inside:
            raise ImageError(
                f"{image.name} has no data in {what} ({place})",
                code="image.empty",
                file=image.name,
                address=place.address,
                length=place.length,
            )
        return inside
    data = image.segments[0].data
    if len(data) == size:
        return [Segment(place.address, data[place.address : place.end])]
    if len(data) > place.length:
        raise ImageError(
            f"{image.name} has {format_size(len(data))}, more than {what} of "
            f"{format_size(place.length)}",
            code="image.larger-than-region",
            file=image.name,
            bytes=len(data),
            length=place.length,
        )
    return [Segment(place.address, data)]


def _region(choice: RegionChoice, lookup: Lookup | None, size: int) -> Range:
    if lookup is None:
        raise UsageError(
            f"region {choice.name} needs a board that says where it is",
            code="usage.region-board",
            region=choice.name,
        )
    return _inside(lookup(choice.name), size)


def _inside(place: Range, size: int) -> Range:
    if place.end > size:
        raise UsageError(
            f"{place} reaches beyond the chip of {format_size(size)}",
            code="usage.address",
            address=place.address,
            length=place.length,
            size=size,
        )
    return place
