"""FMAP: the table of areas in images of coreboot and ChromeOS.

Ref: flashmap's lib/fmap.h (version 1.1): ``__FMAP__``, version, base, size, name, number of areas,
then offset, size, name and flags of each area; all little endian.
Limits: areas may lie in one another, but not cross each other's border.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hwflash.errors import ImageError
from hwflash.layout.regions import Region, RegionMap
from hwflash.units import Range

SIGNATURE: Final = b"__FMAP__"
HEADER: Final = struct.Struct("<8sBBQI32sH")
AREA: Final = struct.Struct("<II32sH")
_MAJOR: Final = 1
_FLAGS: Final = {1: "static", 2: "compressed", 4: "read only", 8: "preserved"}
_READ_ONLY: Final = 4
#: More areas are in no image seen, and more would take long to compare with one another.
LIMIT: Final = 512


@dataclass(frozen=True, slots=True)
class Fmap:
    """A flash map.

    Attributes:
        offset: where it lies in the image.
        name: of the map.
        base: physical address of the flash.
        size: bytes of the flash it describes.
        regions: its areas, in the order of the table.
        skipped: names of areas without bytes.
    """

    offset: int
    name: str
    base: int
    size: int
    regions: tuple[Region, ...]
    skipped: tuple[str, ...]


def places(image: bytes) -> Iterator[int]:
    """Every offset at which the signature is."""
    at = image.find(SIGNATURE)
    while at >= 0:
        yield at
        at = image.find(SIGNATURE, at + 1)


def find(image: bytes, size: int | None = None) -> Fmap | None:
    """The first usable map of an image; None: it has none.

    Args:
        image: to be searched.
        size: bytes of the flash, where the image is a part of it.

    The signature also stands in programs that look for it, so a place that is none is passed over.

    Raises:
        ImageError: there are places that begin like a map, and none is usable.
    """
    problem: ImageError | None = None
    for at in places(image):
        try:
            table = image[at : at + HEADER.size + LIMIT * AREA.size]
            return parse(table, at, len(image) if size is None else size)
        except ImageError as error:
            if error.code != "fmap.version":
                problem = problem or error
    if problem is not None:
        raise problem
    return None


def parse(data: bytes, offset: int, size: int | None = None) -> Fmap:
    """Read a map.

    Args:
        data: from the signature on.
        offset: where in the image that is.
        size: bytes of the image; areas beyond it are a fault.

    Raises:
        ImageError: it is none, or of another version (``fmap.version``); cut off or with a wrong
            number of areas (``fmap.truncated``); an area outside (``layout.outside``), twice the
            same name (``layout.duplicate``), areas that cross (``layout.overlap``).
    """
    if len(data) < HEADER.size or data[:8] != SIGNATURE:
        raise ImageError("there is no FMAP", code="fmap.version", offset=offset)
    _, major, _minor, base, claimed, name, count = HEADER.unpack_from(data)
    if major != _MAJOR or not _text(name):
        raise ImageError(
            f"at 0x{offset:X} is no FMAP of version {_MAJOR}", code="fmap.version", offset=offset
        )
    if count > LIMIT or HEADER.size + count * AREA.size > len(data):
        raise ImageError(
            f"the FMAP at 0x{offset:X} claims {count} areas, which do not fit",
            code="fmap.truncated",
            offset=offset,
            areas=count,
        )
    found: list[Region] = []
    skipped: list[str] = []
    for number in range(count):
        at, length, label, flags = AREA.unpack_from(data, HEADER.size + number * AREA.size)
        title = _text(label) or f"area{number}"
        if not length:
            skipped.append(title)
            continue
        words = ", ".join(word for bit, word in _FLAGS.items() if flags & bit)
        found.append(Region(title, Range(at, length), bool(flags & _READ_ONLY), words))
    RegionMap(found, size if size is not None else claimed, nested=True)  # finds what is wrong
    return Fmap(offset, _text(name), base, claimed, tuple(found), tuple(skipped))


def build(found: Fmap) -> bytes:
    """The bytes of a map, version 1.1."""
    words = {word: bit for bit, word in _FLAGS.items()}
    parts = [
        HEADER.pack(
            SIGNATURE, _MAJOR, 1, found.base, found.size, found.name.encode(), len(found.regions)
        )
    ]
    for region in found.regions:
        flags = sum(words.get(word, 0) for word in region.description.split(", "))
        where = region.range
        parts.append(AREA.pack(where.address, where.length, region.name.encode(), flags))
    return b"".join(parts)


def _text(field: bytes) -> str:
    """A name up to its first zero; "" when it is none that can be printed."""
    text = field.split(b"\0", 1)[0].decode("latin-1")
    return text if text.isascii() and text.isprintable() else ""
