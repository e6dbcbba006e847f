"""What a suffix rewrite is going to do, worked out before anything is changed.

See `hwflash.uefi.suffix` for the order and the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.erase_blocks import Geometry, geometry
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import LAYOUTS, Record, State, aligned, make_record
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.uefi.store import VariableStore, findable
from hwflash.uefi.window import filled_with

#: Bytes of a record's start id, which begins its header.
START_ID_SIZE: Final = 2
_CANARY: Final = 4
#: Bytes of the filler's name, the least that firmware's checks accept.
_FILLER_NAME: Final = 4
#: Faults of a store header that no rewrite of records can mend.
_HEADER_FAULTS: Final = ("store.size", "store.format", "store.state", "store.layout-size")


@dataclass(frozen=True, slots=True)
class SuffixPlan:
    """What a suffix rewrite is going to do. All addresses are image offsets.

    Attributes:
        place: blocks and areas.
        head_end: the head's end; nothing before it is erased.
        start: where the records of the suffix begin.
        filler: the dead record that takes up what is free in the head, or None.
        hidden: records that are marked dead first; another one of their variable is live.
        moved: live records of the head that get a new one in the suffix.
        gone: live records of the head that are deleted.
        content: the suffix, from ``head_end`` to the end of the variable area.
        canary: what is programmed to end the walk, and where.
        gate: whether a record begins at ``start``; its start id is then programmed last.
    """

    place: Geometry
    head_end: int
    start: int
    filler: Record | None
    hidden: tuple[Record, ...]
    moved: tuple[Record, ...]
    gone: tuple[Record, ...]
    content: bytes
    canary: tuple[int, bytes]
    gate: bool

    @property
    def last(self) -> int:
        """The last erase block of the variable area."""
        return self.place.variables.end - self.place.erase

    def at(self, address: int, length: int) -> bytes:
        """Content of the suffix."""
        begin = address - self.head_end
        return self.content[begin : begin + length]


def plan_suffix(nvram: Nvram, wanted: Sequence[Record]) -> SuffixPlan:
    """What `rewrite_suffix` would do; changes nothing.

    Raises:
        EfiError, ImageError: as `rewrite_suffix`.
    """
    place = _preconditions(nvram)
    store = nvram.store
    head_end = _head_end(place, store)
    length = place.variables.end - place.base - place.lba(head_end) * place.block
    if length > place.spare.length:
        text = f"0x{length:X} bytes do not fit into the spare area {place.spare}"
        _refuse("ftw.spare-small", text, place.spare.address)
    start, filler = _start(store, head_end)
    hidden, moved, gone, staying = _sorted_out(store, head_end, wanted)
    added = b"".join(record.build() for record in wanted if record.key not in staying)
    if start + len(added) > store.end:
        raise EfiError(
            EfiStatus.OUT_OF_RESOURCES,
            f"{len(added)} bytes of variables do not fit between 0x{start:06X} and the end of the "
            f"store at 0x{store.end:06X}; what is before stays in the first erase block",
            offset=start,
            needed=len(added),
            size=store.end - start,
        )
    content = _content(nvram, place, store, head_end, start, added)
    last = place.variables.end - place.erase
    if start >= last and not filled_with(content[last - head_end : store.end - head_end], 0xFF):
        text = f"the last erase block at 0x{last:06X} cannot be rewritten behind a canary"
        _refuse("uefi.no-canary", text, last)
    room = store.end - (store.free_offset if filler is None else filler.end)
    canary = _canary(nvram, store, head_end, last, room)
    return SuffixPlan(
        place, head_end, start, filler, hidden, moved, gone, content, canary, bool(added)
    )  # fmt: skip


def _sorted_out(
    store: VariableStore, head_end: int, wanted: Sequence[Record]
) -> tuple[tuple[Record, ...], tuple[Record, ...], tuple[Record, ...], set[tuple[str, UUID]]]:
    """What becomes of the stored records: hidden, moved, gone, and the keys of those that stay."""
    head = [record for record in store.records if record.offset < head_end]
    live = {record.offset for record in store.live}
    stored = {record.key: record for record in head if record.offset in live}
    news = {record.key: record for record in wanted}
    staying = {
        key
        for key, record in stored.items()
        if key in news and record.state == State.ADDED and _same(record, news[key])
    }
    moved = tuple(stored[key] for key in stored if key in news and key not in staying)
    gone = tuple(stored[key] for key in stored if key not in news)
    # Of several in transition the firmware finds the last, but its reclaim keeps the first.
    marked = {record.key for record in store.live if record.state != State.ADDED}
    marked |= {record.key for record in moved}
    hidden = tuple(
        record
        for record in store.records
        if findable(record) and record.offset not in live
        and (record.offset < head_end or record.key in marked)
    )  # fmt: skip
    return hidden, moved, gone, staying


def _preconditions(nvram: Nvram) -> Geometry:
    found = nvram.found
    faults = (
        ["it has no volume header"]
        if found.volume is None
        else [item.text for item in found.volume_faults]
    )
    if faults:
        text = f"the volume at 0x{found.base:06X} is damaged: {faults[0]}"
        _refuse("uefi.volume-damaged", text, found.base)
    store = nvram.store
    bad = [item.text for item in (*found.notes, *store.anomalies) if item.code in _HEADER_FAULTS]
    if bad or store.kind is None or store.end != store.base + store.size:
        text = f"the variable store at 0x{store.base:06X} is damaged: {(*bad, 'it is cut off')[0]}"
        _refuse("uefi.store-damaged", text, store.base)
    place = geometry(nvram)
    if place.shared:
        text = f"the work space shares the blocks {place.work_block} with variables"
        _refuse("ftw.work-space-shared", text, place.work.address)
    if place.base + place.erase >= place.variables.end:
        text = (
            f"the variable area {place.variables} lies in one erase block of 0x{place.erase:X} "
            "bytes with the volume header"
        )
        _refuse("uefi.erase-block", text, place.base)
    return place


def _head_end(place: Geometry, store: VariableStore) -> int:
    """The first end of an erase block that no record's header or name lies across."""
    kind = store.kind or "authenticated"
    filler = LAYOUTS[kind].size + _FILLER_NAME
    end = place.base + place.erase
    while end < place.variables.end:
        before = [record for record in store.records if record.offset < end]
        clear = not before or before[-1].data_offset <= end
        if clear and not store.free_offset < end < store.free_offset + filler:
            break
        end += place.erase
    else:
        text = f"a record's header or name lies across each erase block of {place.variables}"
        _refuse("uefi.first-block", text, store.base)
    return end


def _start(store: VariableStore, head_end: int) -> tuple[int, Record | None]:
    """Where the suffix's records begin, and the filler that is needed to get there."""
    first = next((item.offset for item in store.records if item.offset >= head_end), None)
    if first is not None:
        return first, None
    free = store.free_offset
    if free >= head_end:
        return free, None
    if not filled_with(store.tail, 0xFF):
        text = (
            f"the list of variables ends at 0x{free:06X} in the first erase block, and the bytes "
            "behind it are not erased"
        )
        _refuse("uefi.first-block", text, free)
    kind = store.kind or "authenticated"
    data = b"\xff" * (aligned(head_end - free) - LAYOUTS[kind].size - _FILLER_NAME)
    filler = make_record("-", store.signature, 1, data, kind=kind, offset=free, state=0xFF)
    return filler.end, filler


def _content(
    nvram: Nvram,
    place: Geometry,
    store: VariableStore,
    head_end: int,
    start: int,
    added: bytes,
) -> bytes:
    """The suffix: what the head's last record has in it, the records, FF, what is not the store."""
    before = nvram.flash.read(head_end, start - head_end)
    erased = b"\xff" * (store.end - start - len(added))
    behind = nvram.flash.read(store.end, place.variables.end - store.end)
    return before + added + erased + behind


def _canary(
    nvram: Nvram, store: VariableStore, head_end: int, last: int, room: int
) -> tuple[int, bytes]:
    """A program after which something behind the last record is not erased, until ``last`` is.

    Bytes at the end that are not erased to begin with are a canary as they are.
    """
    end = store.end - _CANARY
    if room >= _CANARY:
        there = nvram.flash.read(end, _CANARY)
        return end, bytes(_CANARY) if filled_with(there, 0xFF) else there
    live = {record.offset for record in store.live}
    dead: Record | None = None
    for record in reversed(store.records):
        if record.offset in live or record.offset < head_end:
            break
        dead = record
    rest = b"" if dead is None else nvram.flash.read(max(dead.offset, last), 0x10)
    if dead is None or filled_with(rest, 0xFF):
        text = (
            f"the store is full up to 0x{store.end:06X}: there are no {_CANARY} erased bytes at "
            "its end, and no dead record"
        )
        _refuse("uefi.no-canary", text, store.end)
    return dead.offset, bytes(START_ID_SIZE)


def _same(one: Record, other: Record) -> bool:
    """Whether two records are the same variable with the same value."""

    def content(item: Record) -> tuple[object, ...]:
        times = (item.monotonic_count, item.timestamp, item.public_key_index)
        return (item.guid, item.name_bytes, item.attributes, item.data, *times)

    return content(one) == content(other)


def _refuse(code: str, text: str, offset: int) -> NoReturn:
    raise ImageError(text, code=code, offset=offset)
