"""Sizes, addresses and ranges as people write them and as they are printed.

``64K`` is 65,536 bytes: flash is counted in powers of two, so K, M and G are 1024-based.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hwflash.errors import UsageError

KIB = 1024
MIB = 1024 * 1024

_SIZE = re.compile(r"^\s*(0x[0-9a-f]+|\d+)\s*(?:([kmg])(?:i?b)?|b)?\s*$", re.IGNORECASE)
_FACTOR = {"": 1, "k": KIB, "m": MIB, "g": 1024 * MIB}
_HERTZ = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kM])?(?:Hz)?\s*$")


def parse_size(text: str) -> int:
    """Read a size or address: ``4096``, ``0x1000``, ``64K``, ``16M``, ``16MiB``.

    Raises:
        UsageError: the text is not a size.
    """
    match = _SIZE.match(text)
    if match is None:
        raise UsageError(f"{text!r} is not a size or an address", code="usage.size", text=text)
    return (
        int(match[1], 0 if match[1][:2].lower() == "0x" else 10) * _FACTOR[(match[2] or "").lower()]
    )


def parse_frequency(text: str) -> float:
    """Read a frequency in hertz: ``30M``, ``500k``, ``1000000``, ``12.5MHz``.

    Raises:
        UsageError: the text is not a frequency above zero.
    """
    match = _HERTZ.match(text)
    value = float(match[1]) * {None: 1.0, "k": 1e3, "M": 1e6}[match[2]] if match else 0.0
    if value <= 0:
        raise UsageError(f"{text!r} is not a frequency", code="usage.frequency", text=text)
    return value


def format_size(size: int) -> str:
    """Print a size in the largest unit that divides it: ``16 MiB``, ``4 KiB``, ``123 bytes``."""
    for factor, name in ((1024 * MIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size and size % factor == 0:
            return f"{size // factor} {name}"
    return "1 byte" if size == 1 else f"{size:,} bytes"


def format_hz(frequency: float) -> str:
    """Print a frequency: ``30 MHz``, ``12.5 MHz``, ``500 kHz``."""
    if frequency >= 1e6:
        return f"{frequency / 1e6:g} MHz"
    return f"{frequency / 1e3:g} kHz"


def format_seconds(seconds: float) -> str:
    """Print a time span: ``0.35 s``, ``31 s``, ``2 min 05 s``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """A run of bytes: ``address`` and ``length``, both in bytes."""

    address: int
    length: int

    @property
    def end(self) -> int:
        """The first address behind the range."""
        return self.address + self.length

    def contains(self, other: Range) -> bool:
        """Whether ``other`` lies wholly inside."""
        return self.address <= other.address and other.end <= self.end

    def overlaps(self, other: Range) -> bool:
        """Whether at least one byte is in both."""
        return self.address < other.end and other.address < self.end

    def __str__(self) -> str:
        return f"0x{self.address:06X}-0x{max(self.end - 1, self.address):06X}"


def parse_range(text: str) -> Range:
    """Read ``START:LENGTH``, each a size (`parse_size`).

    Raises:
        UsageError: not two sizes, or a length of zero.
    """
    start, colon, length = text.partition(":")
    if not colon:
        raise UsageError(f"{text!r} is not START:LENGTH", code="usage.range", text=text)
    found = Range(parse_size(start), parse_size(length))
    if found.length == 0:
        raise UsageError(f"{text!r} is an empty range", code="usage.range", text=text)
    return found


def merge_ranges(ranges: list[Range], gap: int = 0) -> list[Range]:
    """Sort ranges and join those that touch, overlap, or are at most ``gap`` bytes apart."""
    merged: list[Range] = []
    for item in sorted(ranges):
        if item.length == 0:
            continue
        if merged and item.address <= merged[-1].end + gap:
            last = merged[-1]
            merged[-1] = Range(last.address, max(last.end, item.end) - last.address)
        else:
            merged.append(item)
    return merged


def subtract_ranges(ranges: Sequence[Range], taken: Sequence[Range]) -> list[Range]:
    """The bytes of ``ranges`` that are in none of ``taken``, ascending and joined."""
    left = merge_ranges(list(ranges))
    for hole in taken:
        left = [piece for item in left for piece in _without(item, hole)]
    return left


def _without(item: Range, hole: Range) -> list[Range]:
    if not item.overlaps(hole):
        return [item]
    ends = [(item.address, hole.address), (hole.end, item.end)]
    return [Range(start, end - start) for start, end in ends if start < end]
