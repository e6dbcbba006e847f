"""A part of an image that knows where it lies, and what is found to be odd in it."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

#: Categories of Unicode: control characters, marks of format (direction among them), surrogates,
#: separators of lines and paragraphs.
_ESCAPED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
Severity = Literal["note", "warning", "error"]

#: Parts of a GUID that are looked at; an image full of them is searched for the whole of it.
_PARTS_LIMIT: Final = 256


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that a healthy image does not have.

    Attributes:
        code: stable, dotted name such as ``record.torn-header``.
        offset: where it is, in bytes from the start of the image.
        text: a sentence with the figures.
        severity: ``note`` is normal after a power cut and harmless, ``warning`` makes the
            firmware act (a reclaim, a repair), ``error`` makes it lose data or hang.
    """

    code: str
    offset: int
    text: str
    severity: Severity

    def __str__(self) -> str:
        return f"0x{self.offset:06X}: {self.text}"


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes of an image.

    Attributes:
        data: the bytes.
        base: offset of the first of them in the image.
    """

    data: bytes
    base: int = 0

    @property
    def end(self) -> int:
        """Image offset behind the last byte."""
        return self.base + len(self.data)

    def at(self, offset: int, length: int) -> bytes:
        """``length`` bytes from an image offset; fewer where the window ends."""
        start = max(offset - self.base, 0)
        return self.data[start : max(offset + length - self.base, start)]

    def has(self, offset: int, length: int) -> bool:
        """Whether all these bytes are in the window."""
        return offset >= self.base and length >= 0 and offset + length <= self.end

    def within(self, offset: int, length: int) -> Window:
        """A smaller window; clipped to this one."""
        first = min(max(offset, self.base), self.end)
        return Window(self.at(first, max(offset + length - first, 0)), first)


def find_guid(data: bytes, guid: bytes, start: int, end: int) -> int:
    """Where a GUID's bytes are next, or -1; as ``data.find``, and quick in flash that is blank.

    CPython's search goes ahead byte by byte where the next byte shares its low six bits with
    one it looks for. Searched for is a part of the GUID that has no such bytes for FF and 00.
    """
    skip, part = _telling(guid)
    at = start - 1
    for _ in range(_PARTS_LIMIT):
        at = data.find(part, at + 1 + skip, end) - skip
        if at < start or data[at : at + len(guid)] == guid:
            return at if start <= at <= end - len(guid) else -1
    return data.find(guid, at + 1, end)


@cache
def _telling(guid: bytes) -> tuple[int, bytes]:
    """The longest part of a GUID without such bytes, and where it begins."""
    parts = [
        (first, guid[first:end])
        for first in range(len(guid))
        for end in range(first + 4, len(guid) + 1)
        if not any(byte & 63 in (0, 63) for byte in guid[first:end])
    ]
    return max(parts, key=lambda item: len(item[1]), default=(0, guid))


def filled_with(data: bytes, value: int) -> bool:
    """Whether all bytes have this value; true for no bytes."""
    # Compared as a whole: eight times as fast as counting.
    return not data or (data[0] == value and data == data[:1] * len(data))


def printable(text: str) -> str:
    """Text as it can be printed.

    Escaped is what moves the cursor, turns the direction of what follows, or cannot be encoded.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _ESCAPED else char for char in text
    )


def decode_utf16(data: bytes) -> str:
    """UTF-16 up to the first NUL; an odd byte at the end is left out, lone surrogates stay."""
    even = data[: len(data) & ~1]
    return even.decode("utf-16-le", "surrogatepass").partition("\0")[0]


def utf16_end(data: bytes, start: int) -> int:
    """Where the NUL is that ends UTF-16 text which begins at ``start``; -1 when there is none."""
    end = data.find(b"\0\0", start)
    while end >= 0 and (end - start) % 2:
        end = data.find(b"\0\0", end + 1)
    return end


def encode_utf16(text: str) -> bytes:
    """UTF-16 with a terminating NUL, as names and descriptions are stored."""
    return (text + "\0").encode("utf-16-le", "surrogatepass")
