"""Regions of an image replaced by bytes of other files; everything around them stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwflash.errors import ImageError, UsageError
from hwflash.jobs.regions import image_region
from hwflash.jobs.selection import RegionChoice, Selection, segments
from hwflash.jobs.source import FileSource, Source
from hwflash.layout.files import Image
from hwflash.layout.regions import Region
from hwflash.units import Range, format_size


@dataclass(frozen=True, slots=True)
class Imported:
    """An image with other bytes in some of its regions.

    Attributes:
        data: all of it.
        names: of the regions, in the order they were asked for.
        places: where they are.
    """

    data: bytes
    names: tuple[str, ...]
    places: tuple[Range, ...]


def require_file(place: Source) -> FileSource:
    """The image file that is to be changed.

    Raises:
        UsageError: it is a chip, or does not begin at address 0 (``usage.layout-import``).
    """
    if not isinstance(place, FileSource):
        raise UsageError(
            f"{place.name} is no image file; regions are imported into files only",
            code="usage.layout-import",
        )
    if place.ranges[0].address:
        raise UsageError(
            f"{place.name} begins at 0x{place.ranges[0].address:X}; regions are counted from 0",
            code="usage.layout-import",
        )
    return place


def imported(
    image: bytes,
    regions: Sequence[Region],
    choices: Sequence[RegionChoice],
    load: Callable[[Path], Image],
) -> Imported:
    """Replace regions.

    Args:
        image: all bytes of it, from address 0 on.
        regions: those of the image.
        choices: which, each with a file.
        load: reads a file.

    Raises:
        UsageError: no such region (``usage.region``), one without a file (``usage.selection``), or
            two that share bytes (``usage.overlap``).
        ImageError: a file that is larger or smaller than its region (``image.larger-than-region``,
            ``image.smaller-than-region``) and no whole image, or has it in another place
            (``image.other-layout``).
    """
    data, places = bytearray(image), list[Range]()
    for choice in choices:
        where = image_region(choice.name, image, regions)
        for number, other in enumerate(places):
            if other.overlaps(where):
                text = f"{choice.name} and {choices[number].name} share bytes"
                raise UsageError(text, code="usage.overlap", address=where.address)
        places.append(where)
        found = segments(
            Selection(regions=(choice,)), None, load, len(image), lambda _, at=where: at
        )
        if sum(item.range.length for item in found) != where.length:
            length = sum(item.range.length for item in found)
            raise ImageError(
                f"{choice.file} has {format_size(length)} for region {choice.name} of "
                f"{format_size(where.length)}",
                code="image.smaller-than-region",
                file=str(choice.file),
                bytes=length,
                length=where.length,
            )
        for item in found:
            data[item.address : item.range.end] = item.data
    return Imported(bytes(data), tuple(choice.name for choice in choices), tuple(places))
