"""Intel HEX and Motorola S-record text, to and from segments of bytes.

Ref: Intel Hexadecimal Object File Format Specification, revision A (1988); Motorola
M68000 Family Programmer's Reference Manual, appendix C (S-records).

Single records are decoded by bincopy; what they say together (overlaps, a missing end, a
wrong count) is judged here, because a text file cut short must never reach a chip.

Limits: 32-bit addresses. Word-addressed HEX files are not known.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hwflash.errors import ImageError
from hwflash.units import Range

RecordFormat = Literal["ihex", "srec"]
ADDRESS_LIMIT = 1 << 32


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of bytes and the flash address of its first byte."""

    address: int
    data: bytes

    @property
    def range(self) -> Range:
        """Where the bytes lie."""
        return Range(self.address, len(self.data))


def parse_records(content: bytes, kind: RecordFormat, name: str) -> tuple[Segment, ...]:
    """Read a whole HEX or S-record file.

    Args:
        content: the file, without a byte order mark.
        kind: which of the two it is.
        name: the file's name, for errors.

    Returns:
        Segments in address order, joined where they touch; empty if no record has data.

    Raises:
        ImageError: ``image.hex-syntax`` (``context``: ``file``, ``line``) or
            ``image.overlap``.
    """
    runs = _Runs()
    parse = _parse_ihex if kind == "ihex" else _parse_srec
    line = 0

    def lines() -> Iterator[str]:
        nonlocal line
        for raw in content.splitlines():
            line += 1
            if text := raw.strip():
                yield text.decode("ascii")

    try:
        parse(lines(), lambda address, data: runs.add(address, data, line))
    except ValueError as error:  # bad digits, or bytes that are not ASCII
        raise _syntax(name, line, kind, "a record with bytes that are no hex digits") from error
    except _RecordError as error:
        raise _syntax(name, line, kind, str(error)) from error
    return runs.segments(name)


def render_records(segments: Sequence[Segment], kind: RecordFormat) -> bytes:
    """Write segments, in address order and without overlaps, as HEX or S-record text."""
    binary = _bincopy().BinFile()
    for item in segments:
        binary.add_binary(item.data, address=item.address)
    if kind == "ihex":
        return binary.as_ihex().encode("ascii")
    # Brings the termination record, which tells a reader that nothing is missing.
    binary.execution_start_address = 0
    return binary.as_srec().encode("ascii")


def ordered(segments: Sequence[Segment], name: str) -> list[Segment]:
    """Segments in address order, empty ones left out.

    Raises:
        ImageError: ``image.empty`` nothing is left, ``image.overlap`` two share an address.
    """
    found = sorted((item for item in segments if item.data), key=lambda item: item.address)
    if not found:
        raise ImageError("there is no data to write", code="image.empty", file=name)
    for one, two in itertools.pairwise(found):
        if one.range.overlaps(two.range):
            raise _overlap(name, two.address)
    return found


class _Runs:
    """Collects data records; neighbours in the file that touch are joined at once."""

    def __init__(self) -> None:
        self._runs: list[tuple[int, bytearray, int]] = []  # address, data, first line

    def add(self, address: int, data: bytes, line: int) -> None:
        if self._runs:
            start, run, _ = self._runs[-1]
            if start + len(run) == address:
                run += data
                return
        if data:
            self._runs.append((address, bytearray(data), line))

    def segments(self, name: str) -> tuple[Segment, ...]:
        joined: list[tuple[int, bytearray]] = []
        for address, data, line in sorted(self._runs, key=lambda run: (run[0], run[2])):
            if joined:
                end = joined[-1][0] + len(joined[-1][1])
                if address < end:
                    raise _overlap(name, address, line)
                if address == end:
                    joined[-1][1].extend(data)
                    continue
            joined.append((address, data))
        return tuple(Segment(address, bytes(data)) for address, data in joined)


class _RecordError(Exception):
    """A record that makes the file unusable; the line is added by the caller."""


_Sink = Callable[[int, bytes], None]


def _bincopy() -> Any:
    # Most images are raw and never need it.
    return importlib.import_module("bincopy")


def _decoder(kind: RecordFormat) -> Callable[[str], tuple[int | str, int, bytes]]:
    bincopy = _bincopy()
    unpack = bincopy.unpack_ihex if kind == "ihex" else bincopy.unpack_srec

    def decode(record: str) -> tuple[int | str, int, bytes]:
        try:
            record_type, address, _, data = unpack(record)
        except bincopy.Error as error:
            raise _RecordError(str(error)) from error
        return record_type, address, bytes(data)

    return decode


def _parse_ihex(records: Iterator[str], sink: _Sink) -> None:
    decode = _decoder("ihex")
    base, wraps, ended = 0, False, False
    for record in records:
        if ended:
            raise _RecordError("a record behind the end-of-file record")
        kind, offset, data = decode(record)
        if kind == 0:
            if wraps and offset + len(data) > 0x10000:
                raise _RecordError("a data record that leaves its 64 KiB segment")
            sink(_checked(base + offset, data), data)
        elif kind == 1:
            ended = True
        elif kind in (2, 4):
            if len(data) != 2:
                raise _RecordError(f"an address record with {len(data)} bytes instead of 2")
            # Either record replaces the other's base; they never add up.
            wraps = kind == 2
            base = int.from_bytes(data, "big") << (4 if wraps else 16)
        elif kind not in (3, 5):
            raise _RecordError(f"a record of the unknown type {kind:02X}")
    if not ended:
        raise _RecordError("no end-of-file record, the file is cut short")


def _parse_srec(records: Iterator[str], sink: _Sink) -> None:
    decode = _decoder("srec")
    count, closed = 0, False
    for record in records:
        kind, address, data = decode(record)
        if kind in ("1", "2", "3"):
            if closed:
                raise _RecordError("a data record behind the end of the file")
            count += 1
            sink(_checked(address, data), data)
        elif kind in ("5", "6"):
            if address != count:
                raise _RecordError(f"{count} data records, but a count record of {address}")
            closed = True
        elif kind in ("7", "8", "9"):
            closed = True
    if not closed:
        raise _RecordError("no count or termination record, the file is cut short")


def _checked(address: int, data: bytes) -> int:
    if address + len(data) > ADDRESS_LIMIT:
        raise _RecordError("a data record beyond 32-bit addresses")
    return address


def _syntax(name: str, line: int, kind: RecordFormat, text: str) -> ImageError:
    return ImageError(
        f"{name}, line {line}: {text}",
        code="image.hex-syntax",
        file=name,
        line=line,
        format=kind,
    )


def _overlap(name: str, address: int, line: int | None = None) -> ImageError:
    where = name if line is None else f"{name}, line {line}"
    return ImageError(
        f"{where}: data for address 0x{address:X} is given twice",
        code="image.overlap",
        file=name,
        line=line,
        address=address,
    )
