"""A part of an image that knows where it lies, and what is found to be odd in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["note", "warning", "error"]

#: Characters that would move the cursor, or cannot be encoded, in what is printed.
_ESCAPED: Final = frozenset(range(0x20)) | frozenset(range(0x7F, 0xA0))


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


def filled_with(data: bytes, value: int) -> bool:
    """Whether all bytes have this value; true for no bytes."""
    return data.count(value) == len(data)


def printable(text: str) -> str:
    """Text as it can be printed: control characters and lone surrogates escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"\\u{ord(char):04x}" if ord(char) in _ESCAPED or 0xD800 <= ord(char) < 0xE000 else char
        for char in text
    )


def decode_utf16(data: bytes) -> str:
    """UTF-16 up to the first NUL; an odd byte at the end is left out, lone surrogates stay."""
    even = data[: len(data) & ~1]
    return even.decode("utf-16-le", "surrogatepass").partition("\0")[0]


def encode_utf16(text: str) -> bytes:
    """UTF-16 with a terminating NUL, as names and descriptions are stored."""
    return (text + "\0").encode("utf-16-le", "surrogatepass")
