"""Variables of a store whose chain of records is broken, or whose headers are gone.

The firmware follows the chain and loses everything behind a damaged record. From outside the
rest can be searched. A start id proves nothing, names and values contain it, so a candidate
counts only when everything about it is as a firmware writes it: a known state, reserved byte 0,
attributes that are stored, sizes that stay inside, a name with its one terminator at its end.

Ref: edk2 MdeModulePkg/Universal/Variable/RuntimeDxe/VariableParsing.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from hwflash.uefi.records import (
    LAYOUTS,
    START_ID,
    Attribute,
    Record,
    State,
    StoreFormat,
    aligned,
    torn,
)
from hwflash.uefi.store import findable, walk
from hwflash.uefi.window import Window, filled_with

Key = tuple[str, UUID]

_START: Final = START_ID.to_bytes(2, "little")
_STATES: Final = frozenset(State) - {State.ERASED, State.HEADER_VALID_ONLY}
_STORED_BITS: Final = sum(int(bit) for bit in Attribute if bit != Attribute.APPEND_WRITE)
#: Bytes of a name; the longest that firmware was seen to store has some 60 characters.
_NAME_LIMIT: Final = 1024
#: Start ids looked at inside one value, and in one area.
_INNER_LIMIT: Final = 64
_SEARCH_LIMIT: Final = 50_000


@dataclass(frozen=True, slots=True)
class Scan:
    """What a search found.

    Attributes:
        records: proven records, live and dead, in order of offsets.
        broken_at: image offset at which the chain could not be trusted any more, or None.
        lost: ranges of bytes, first and end, that are neither proven records nor erased.
    """

    records: tuple[Record, ...]
    broken_at: int | None
    lost: tuple[tuple[int, int], ...]


def value(record: Record) -> tuple[int, bytes, bytes]:
    """What two records of a variable must share to be the same value."""
    return record.attributes, record.data, record.timestamp


def winners(*copies: Sequence[Record]) -> tuple[Record, ...]:
    """One record for each variable, from several copies of a store.

    An added record wins over one in deleted transition wherever it is; among equals that of
    the earlier copy; inside a copy the first added or the last in transition, as the firmware
    searches (edk2 FindVariableEx).
    """
    found: dict[Key, Record] = {}
    for state in (State.ADDED, State.IN_DELETED_TRANSITION):
        for records in copies:
            here: dict[Key, Record] = {}
            for record in records:
                if record.state != state or not findable(record):
                    continue
                if state == State.IN_DELETED_TRANSITION or record.key not in here:
                    here[record.key] = record
            for key, record in here.items():
                found.setdefault(key, record)
    return tuple(found.values())


def fresh_record(record: Record) -> Record:
    """A record as a reclaim writes it: added, padded with FF."""
    padding = b"\xff" * (aligned(record.size) - record.size)
    return replace(record, state=int(State.ADDED), padding=padding)


def scan(window: Window, first: int, end: int, kind: StoreFormat, base: int) -> Scan:
    """Follow the chain while it can be trusted, then search.

    Args:
        window: the image.
        first: image offset at which the first record belongs.
        end: image offset behind the store.
        kind: form of the records.
        base: image offset that alignment counts from.
    """
    end = min(end, window.end)
    records: list[Record] = []
    odd: list[tuple[int, int]] = []
    at = first
    for record in walk(window, first, end, kind, base):
        if not _trusted(window, record, end):
            break
        if findable(record) and prove(window, record.offset, end, kind, base) is None:
            odd.append((record.offset, record.end))
            at = record.end
            continue
        records.append(record)
        at = record.end
    if filled_with(window.at(at, end - at), 0xFF):
        return Scan(tuple(records), None, tuple(odd))
    searched = list(_search(window, at, end, kind, base))
    return Scan((*records, *searched), at, (*odd, *_gaps(window, at, end, searched)))


def _trusted(window: Window, record: Record, end: int) -> bool:
    """Whether a record of the chain is what it says, as far as the next one shows."""
    if record.sizes_erased:
        return _followed(window, record.offset + record.header_size, end)
    if record.cut_short or record.state not in frozenset(State):
        return False
    if findable(record) and not _sane_name(record.name_bytes):
        return False
    return _followed(window, record.end, end) or not _swallows(window, record)


def _followed(window: Window, at: int, end: int) -> bool:
    """Whether a record, or erased flash, or the end, comes next."""
    return at >= end or window.at(at, 2) == _START or filled_with(window.at(at, 32), 0xFF)


def _swallows(window: Window, record: Record) -> bool:
    """Whether a proven record begins inside another one's value."""
    at = record.data_offset
    for _ in range(_INNER_LIMIT):
        at = _next(window, at, record.data_offset + len(record.data), record.offset)
        if at < 0:
            return False
        if prove(window, at, window.end, record.format, record.offset) is not None:
            return True
        at += 4
    return False


def _search(window: Window, first: int, end: int, kind: StoreFormat, base: int) -> Iterator[Record]:
    at = first
    for _ in range(_SEARCH_LIMIT):
        at = _next(window, at, end, base)
        if at < 0:
            return
        record = prove(window, at, end, kind, base)
        if record is None or not _trusted(window, record, end):
            at += 4
            continue
        yield record
        at = record.end


def _next(window: Window, first: int, end: int, base: int) -> int:
    """Image offset of the next aligned start id, or -1."""
    shift, stop = window.base, max(end - window.base, 0)
    at = window.data.find(_START, first - shift, stop)
    while at >= 0 and (at + shift - base) % 4:
        at = window.data.find(_START, at + 1, stop)
    return at + shift if at >= 0 else -1


def prove(window: Window, at: int, end: int, kind: StoreFormat, base: int) -> Record | None:
    """The record at an offset, or None when anything about it is not as firmware writes it."""
    layout = LAYOUTS[kind]
    if at + layout.size > min(end, window.end):
        return None
    start, state, reserved, attributes, *_rest = fields = layout.unpack(
        window.data, at - window.base
    )
    name_size, data_size = fields[-3:-1]
    if start != START_ID or state not in _STATES or reserved:
        return None
    if not attributes & Attribute.NON_VOLATILE or attributes & ~_STORED_BITS:
        return None
    if torn(state, attributes, name_size, data_size) or not 4 <= name_size <= _NAME_LIMIT:
        return None
    if name_size % 2 or not data_size or at + layout.size + name_size + data_size > end:
        return None
    if not _sane_name(window.at(at + layout.size, name_size)):
        return None
    return next(walk(window, at, end, kind, base), None)


def _sane_name(name: bytes) -> bool:
    """Whether a name is text with its one terminator at its end."""
    letters = [int.from_bytes(name[i : i + 2], "little") for i in range(0, len(name), 2)]
    if len(name) % 2 or letters[-1]:
        return False
    return not any(letter < 0x20 or letter == 0xFFFF for letter in letters[:-1])


def _gaps(
    window: Window, first: int, end: int, records: Iterable[Record]
) -> Iterator[tuple[int, int]]:
    """What lies between records and is not erased, without the FF around it."""
    at = first
    for start, stop in [*((item.offset, item.end) for item in records), (end, end)]:
        gap = window.at(at, start - at)
        bare = gap.strip(b"\xff")
        if bare:
            begin = at + len(gap) - len(gap.lstrip(b"\xff"))
            yield begin, begin + len(bare)
        at = stop


def erased_run(window: Window, least: int) -> tuple[int, int] | None:
    """The longest run of erased bytes, as first offset and end, if it has so many bytes."""
    best: tuple[int, int] | None = None
    data, at = window.data, window.data.find(b"\xff" * 64)
    while at >= 0:
        rest = data[at : at + 0x1000]
        stop = at
        while rest and filled_with(rest, 0xFF):
            stop += len(rest)
            rest = data[stop : stop + 0x1000]
        stop += len(rest) - len(rest.lstrip(b"\xff"))
        if stop - at >= least and (best is None or stop - at > best[1] - best[0]):
            best = (window.base + at, window.base + stop)
        at = data.find(b"\xff" * 64, stop)
    return best
