"""Layout files of flashrom: a line ``start:end name`` for each region, in hexadecimal.

Ref: flashrom(8), option -l.
Limits: the end is that of the last byte. Names have no spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hwflash.errors import ImageError
from hwflash.layout.regions import Region, RegionMap
from hwflash.units import Range

_LINE = re.compile(r"^(?:0x)?([0-9A-Fa-f]{1,16}):(?:0x)?([0-9A-Fa-f]{1,16})\s+(\S+)$")


def parse(text: str, name: str, size: int | None = None) -> RegionMap:
    """Read a layout file.

    Args:
        text: of the file; empty lines and lines that begin with ``#`` are passed over.
        name: of the file, for errors.
        size: bytes of the flash, or None when not known.

    Raises:
        ImageError: ``layout.syntax``, with the lines at fault in ``context["faults"]``; or what
            `RegionMap` finds.
    """
    regions: list[Region] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        match = _LINE.match(words)
        if match is None:
            faults.append(f"line {number}: {words[:60]!r} is not START:END NAME in hexadecimal")
            continue
        start, end = int(match[1], 16), int(match[2], 16)
        if end < start:
            faults.append(f"line {number}: {match[3]} ends before it begins")
            continue
        regions.append(Region(match[3], Range(start, end - start + 1)))
    if not regions and not faults:
        faults.append("line 1: the file names no region")
    if faults:
        raise ImageError(
            f"{name} is no layout file: {faults[0]}", code="layout.syntax", file=name, faults=faults
        )
    return RegionMap(regions, size, nested=True)


def dump(regions: Iterable[Region]) -> str:
    """The text of a layout file."""
    return "".join(
        f"{item.range.address:08x}:{item.range.end - 1:08x} {item.name.replace(' ', '_')}\n"
        for item in regions
    )
