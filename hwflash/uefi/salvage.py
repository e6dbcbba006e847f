"""Variables of a store whose chain of records is broken, or whose headers are gone.

The firmware follows the chain and loses everything behind a damaged record. From outside the
rest can be searched. A start id proves nothing, names and values contain it, so a candidate
counts only when everything about it is as a firmware writes it: a known state, reserved byte 0,
attributes that are stored, sizes that stay inside, a name with its one terminator at its end.

Ref: edk2 MdeModulePkg/Universal/Variable/RuntimeDxe/VariableParsing.c.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final
from uuid import UUID

from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.records import (
    FORMATS,
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
# As an int: a flag takes ten times as long, and every header of a dump is looked at.
_NON_VOLATILE: Final = int(Attribute.NON_VOLATILE)
_STORED_BITS: Final = sum(int(bit) for bit in Attribute if bit != Attribute.APPEND_WRITE)
#: Bytes of a name; the longest that firmware was seen to store has some 60 characters.
_NAME_LIMIT: Final = 1024
#: Start ids looked at inside one value, and in one area.
_INNER_LIMIT: Final = 64
#: Erased bytes that end a value which took in the free space behind the records.
_ERASED_RUN: Final = 32
_SIGNATURES: Final = frozenset(guid.bytes_le for guid in FORMATS)
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
                if state == State.IN_DELETED_TRANSITION:
                    here[record.key] = record
                else:
                    here.setdefault(record.key, record)
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
    return _scan(Window(window.at(first, end - first), first), kind, base)


# By value: a check and a rescue look at the same copies several times.
@lru_cache(maxsize=4)
def _scan(window: Window, kind: StoreFormat, base: int) -> Scan:
    """The same, of bytes that begin with the first record and end with the store."""
    first, end = window.base, window.end
    records: list[Record] = []
    odd: list[tuple[int, int]] = []
    at, begin = first, 0
    for record in walk(window, first, end, kind, base):
        if not _trusted(window, record, end) or swallows(window, record, end, sure=True):
            begin = at + 4
            break
        if findable(record) and not _as_written(record):
            odd.append((record.offset, record.end))
            at = record.end
            continue
        records.append(record)
        at = record.end
    if filled_with(window.at(at, end - at), 0xFF):
        return Scan(tuple(records), None, tuple(odd))
    searched = list(_search(window, begin or at, end, kind, base))
    return Scan((*records, *searched), at, (*odd, *_gaps(window, at, end, searched)))


def _trusted(window: Window, record: Record, end: int) -> bool:
    """Whether a record of the chain is what it says, as far as the next one shows."""
    if record.sizes_erased:
        return _followed(window, record.offset + record.header_size, end)
    if record.cut_short or record.state not in frozenset(State):
        return False
    if findable(record) and not _sane_name(record.name_bytes):
        return False
    return _followed(window, record.end, end) or not swallows(window, record, end, sure=False)


def _followed(window: Window, at: int, end: int) -> bool:
    """Whether a record, or erased flash, or the end, comes next."""
    return at >= end or window.at(at, 2) == _START or filled_with(window.at(at, 32), 0xFF)


def swallows(window: Window, record: Record, end: int, *, sure: bool) -> bool:
    """Whether a proven record begins inside another one's name or value.

    A value may be a copy of a record, or of a store. With ``sure`` a record at its very start,
    behind a store's header, or alone does not count; only those that a size which is too large
    took in: several with the erased bytes behind them, or with a last one that leaves the value.
    """
    at, stop = record.offset + record.header_size, record.end
    for _ in range(_INNER_LIMIT):
        at = _next(window, at, stop, record.offset)
        if at < 0:
            return False
        if prove(window, at, end, record.format, record.offset) is None:
            at += 4
            continue
        if not sure:
            return True
        after, count = _inner_chain(window, at, stop, end, record)
        copied = window.at(at - STORE_HEADER.size, 16) in _SIGNATURES or at == record.data_offset
        free = window.at(after, stop - after)
        erased = count > 1 and len(free) >= _ERASED_RUN and filled_with(free, 0xFF)
        if not copied and (erased or (after > stop and not _followed(window, stop, end))):
            return True
        at = max(after, at + 4)
    return False


def _inner_chain(window: Window, at: int, stop: int, end: int, record: Record) -> tuple[int, int]:
    """Where the chain of records that begins at ``at`` inside a value ends, and its live ones."""
    after, count = at, 0
    for inner in walk(window, at, end, record.format, record.offset):
        if inner.offset >= stop or (findable(inner) and not _as_written(inner)):
            break
        # What is not live says nothing about what lies around it.
        if inner.end > stop and not findable(inner):
            break
        after = inner.end
        count += findable(inner)
    return after, count


def unreached(window: Window, chain: Sequence[Record], searched: Scan, end: int) -> list[Record]:
    """Proven live records that the firmware's walk does not come to.

    Behind the end of the chain, or inside a record of it. A value that may be a copy of a
    store is not counted.

    Args:
        window: the image.
        chain: the records of the walk.
        searched: what a search of the same store found.
        end: image offset behind the store.
    """
    offsets = [record.offset for record in chain]
    known = frozenset(offsets)
    found: list[Record] = []
    sure: dict[int, bool] = {}
    for record in searched.records:
        if record.offset in known or not findable(record):
            continue
        index = bisect_right(offsets, record.offset) - 1
        outer = chain[index] if index >= 0 else None
        if outer is not None and record.offset < outer.end:
            if index not in sure:
                odd = findable(outer) and not _sane_name(outer.name_bytes)
                sure[index] = odd or swallows(window, outer, end, sure=True)
            if not sure[index]:
                continue
        found.append(record)
    return found


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
    start, *known, name_size, data_size, _guid = layout.unpack(window.data, at - window.base)
    state, reserved, attributes = known[:3]
    if start != START_ID or not _fields_fit(state, reserved, attributes, name_size, data_size):
        return None
    if at + layout.size + name_size + data_size > end:
        return None
    if not _sane_name(window.at(at + layout.size, name_size)):
        return None
    return next(walk(window, at, end, kind, base), None)


def _fields_fit(state: int, reserved: int, attributes: int, name_size: int, data_size: int) -> bool:
    """Whether a header has what firmware writes."""
    if state not in _STATES or reserved:
        return False
    if not attributes & _NON_VOLATILE or attributes & ~_STORED_BITS:
        return False
    if torn(state, attributes, name_size, data_size) or not 4 <= name_size <= _NAME_LIMIT:
        return False
    return not name_size % 2 and data_size > 0


def _as_written(record: Record) -> bool:
    """What `prove` asks of a record, of one that was read already."""
    return (
        _fields_fit(
            record.state, record.reserved, record.attributes, record.name_size, record.data_size
        )
        and not record.cut_short
        and _sane_name(record.name_bytes)
    )


def _sane_name(name: bytes) -> bool:
    """Whether a name is text with its one terminator at its end."""
    if len(name) % 2 or name[-2:] != b"\0\0":
        return False
    letters = struct.unpack(f"<{len(name) // 2 - 1}H", name[:-2])
    return not letters or (min(letters) >= 0x20 and max(letters) < 0xFFFF)


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
