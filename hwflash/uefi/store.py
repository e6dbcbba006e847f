"""A variable store: header, records, and what the firmware makes of them.

The walk is that of the firmware (edk2 VariableParsing.c, GetNextVariablePtr): from the header
on, 4-byte aligned, while the start id is there. It never searches for a start id, which names
and values contain, and never stops at a torn record, because live ones lie behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.guids import AUTHENTICATED_STORE, PLAIN_STORE, from_bytes
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.record_checks import duplicate_anomalies, record_anomalies
from hwflash.uefi.records import (
    FORMATS,
    LAYOUTS,
    START_ID,
    Record,
    State,
    StoreFormat,
    aligned,
    torn,
)
from hwflash.uefi.window import Anomaly, Severity, Window, filled_with

FORMATTED: Final = 0x5A
HEALTHY: Final = 0xFE
#: Stores that were seen have 256 KiB at most; torn headers of 60 bytes fill 1 MiB with fewer.
RECORD_LIMIT: Final = 20_000
#: A full store has one vendor GUID in thousands of records, and making a `UUID` takes long.
_guid: Final = lru_cache(maxsize=256)(from_bytes)


@dataclass(frozen=True, slots=True)
class Usage:
    """How the bytes behind the store's header are used; the three add up to ``capacity``.

    Attributes:
        capacity: bytes for records.
        used: bytes of live variables, headers and padding included.
        free: bytes that can be appended to without a reclaim; 0 when anything but FF
            follows the last record, since the firmware then reclaims first.
        reclaimable: bytes a reclaim would win: dead records, and a tail that is not erased.
    """

    capacity: int
    used: int
    free: int
    reclaimable: int


@dataclass(frozen=True, slots=True)
class VariableStore:
    """A variable store as it is found, or to be built.

    Attributes:
        base: image offset of the store's header.
        signature: the GUID that says the form of its records.
        size: bytes as the header says, header included.
        format: 5A when formatted.
        state: FE when healthy.
        records: everything that begins with a start id, in order.
        tail: the bytes behind the last record, to the end of the store.
        anomalies: what is odd, in order of offsets.
    """

    base: int
    signature: UUID
    size: int
    format: int = FORMATTED
    state: int = HEALTHY
    reserved: int = 0
    reserved1: int = 0
    records: tuple[Record, ...] = ()
    tail: bytes = b""
    anomalies: tuple[Anomaly, ...] = ()
    _live: tuple[Record, ...] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def kind(self) -> StoreFormat | None:
        """Form of the records; None when the signature is not known."""
        return FORMATS.get(self.signature)

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong that the firmware would stumble over."""
        return not any(item.severity == "error" for item in self.anomalies)

    @property
    def free_offset(self) -> int:
        """Image offset at which the firmware would append: where the walk ends."""
        return self.records[-1].end if self.records else self.base + STORE_HEADER.size

    @property
    def end(self) -> int:
        """Image offset behind the store, as far as it lies in the image."""
        return self.free_offset + len(self.tail)

    @property
    def live(self) -> tuple[Record, ...]:
        """The variables the firmware would find, one for each name and GUID, in order.

        Added records; one in deleted transition only if there is no added one anywhere. Of
        several added ones the first is found, of several in transition the last (edk2
        FindVariableEx).
        """
        if self._live is None:
            # Asked for again and again; worked out from fields that cannot change.
            object.__setattr__(self, "_live", self._find_live())
        return self._live or ()

    def _find_live(self) -> tuple[Record, ...]:
        found: dict[tuple[str, UUID], Record] = {}
        for record in self.records:
            if not findable(record):
                continue
            key = record.key
            known = found.get(key)
            if known is None or known.state == State.IN_DELETED_TRANSITION:
                found[key] = record
        return tuple(sorted(found.values(), key=lambda record: record.offset))

    @property
    def usage(self) -> Usage:
        """Bytes used, free and reclaimable."""
        capacity = self.end - self.base - STORE_HEADER.size
        used = sum(record.end - record.offset for record in self.live)
        free = len(self.tail) if filled_with(self.tail, 0xFF) else 0
        return Usage(capacity, used, free, capacity - used - free)

    def find(self, name: str, guid: UUID) -> Record | None:
        """The live record of a variable, or None."""
        return next((record for record in self.live if record.key == (name, guid)), None)

    def named(self, name: str) -> tuple[Record, ...]:
        """The live records of this name, under whatever GUIDs."""
        return tuple(record for record in self.live if record.name == name)

    def header(self) -> bytes:
        """The store header's bytes."""
        return STORE_HEADER.build(
            signature=self.signature.bytes_le,
            size=self.size,
            format=self.format,
            state=self.state,
            reserved=self.reserved,
            reserved1=self.reserved1,
        )

    def build(self) -> bytes:
        """Header, records and tail."""
        return self.header() + b"".join(record.build() for record in self.records) + self.tail


def findable(record: Record) -> bool:
    """Whether the firmware's search looks at a record: added or in deleted transition, whole."""
    return (
        record.state in (State.ADDED, State.IN_DELETED_TRANSITION)
        and bool(record.name_bytes)
        and not record.cut_short
    )


def make_store(
    records: Iterable[Record], size: int, *, base: int = 0, kind: StoreFormat = "authenticated"
) -> VariableStore:
    """A new store of ``size`` bytes with these records, one behind the other.

    Raises:
        ImageError: they do not fit (``uefi.store-full``).
    """
    placed: list[Record] = []
    offset = base + STORE_HEADER.size
    for record in records:
        placed.append(record.moved(offset))
        offset = placed[-1].end
    if offset > base + size:
        raise ImageError(
            f"{len(placed)} variables need {offset - base} bytes, the store at 0x{base:06X} "
            f"has {size}",
            code="uefi.store-full",
            offset=base,
            needed=offset - base,
            size=size,
        )
    signature = AUTHENTICATED_STORE if kind == "authenticated" else PLAIN_STORE
    tail = b"\xff" * (base + size - offset)
    return VariableStore(base, signature, size, records=tuple(placed), tail=tail)


def parse_store(
    window: Window, offset: int, limit: int | None = None, most: int = RECORD_LIMIT
) -> VariableStore:
    """Read a store, whatever is wrong with it; `VariableStore.anomalies` says what.

    Args:
        window: the image, or a part of it.
        offset: image offset of the store's header.
        limit: image offset the store cannot reach beyond: the end of its volume, or of the
            variable area where that is known.
        most: records to read at most.

    Raises:
        ImageError: the image ends inside the header (``uefi.truncated``), or the signature is
            that of no store (``uefi.no-store``).
    """
    header = _header(window, offset)
    limit = window.end if limit is None else min(limit, window.end)
    return _parse(Window(window.at(offset, limit - offset), offset), header, limit, most)


# By value: a check looks at the same bytes as the search before it, and a write path looks at
# them after each step that changed something else.
@lru_cache(maxsize=4)
def _parse(window: Window, header: VariableStore, limit: int, most: int) -> VariableStore:
    """The store behind a header, from the bytes up to ``limit``."""
    offset = header.base
    first = offset + STORE_HEADER.size
    claimed = offset + header.size
    usable = header.size >= STORE_HEADER.size
    end = max(min(claimed, limit), first) if usable else max(limit, first)
    anomalies = _header_anomalies(header, limit, usable)
    records: list[Record] = []
    for record in walk(window, first, end, FORMATS[header.signature], offset):
        if len(records) == most:
            text = f"more than {most} records; the rest is not looked at"
            anomalies.append(Anomaly("store.records", record.offset, text, "error"))
            break
        records.append(record)
        anomalies += record_anomalies(record, end)
    anomalies += duplicate_anomalies(records)
    free = records[-1].end if records else first
    tail = window.at(free, end - free)
    if not filled_with(tail, 0xFF):
        where = free + next(index for index, byte in enumerate(tail) if byte != 0xFF)
        text = "bytes behind the last record are not erased: the firmware reclaims at the next boot"
        anomalies.append(Anomaly("store.tail", where, text, "warning"))
    return VariableStore(
        header.base,
        header.signature,
        header.size,
        header.format,
        header.state,
        header.reserved,
        header.reserved1,
        tuple(records),
        tail,
        tuple(sorted(anomalies, key=lambda item: item.offset)),
    )


def walk(window: Window, first: int, end: int, kind: StoreFormat, base: int) -> Iterator[Record]:
    """Records from image offset ``first`` on, as the firmware walks them.

    Args:
        window: the image.
        first: image offset of the first header.
        end: image offset behind the store.
        kind: form of the records.
        base: image offset that alignment counts from.
    """
    layout = LAYOUTS[kind]
    offset = first
    data, shift, stop = window.data, window.base, min(end, window.end)
    while offset + layout.size <= stop:
        fields = layout.unpack(data, offset - shift)
        if fields[0] != START_ID:
            return
        state, reserved, attributes = fields[1:4]
        name_size, data_size, guid = fields[-3:]
        body = offset + layout.size - shift
        name_bytes = value = b""
        if not torn(state, attributes, name_size, data_size):
            middle = min(body + name_size, stop - shift)
            name_bytes = data[body:middle]
            value = data[middle : min(middle + data_size, stop - shift)]
        after = offset + layout.size + len(name_bytes) + len(value)
        following = min(base + aligned(after - base), stop)
        more: tuple[Any, ...] = fields[4:7] if kind == "authenticated" else (0, bytes(16), 0)
        yield Record(
            offset, kind, state, reserved, attributes, name_size, data_size, _guid(guid),
            name_bytes, value, data[after - shift : following - shift], *more,
        )  # fmt: skip
        offset = following


def _header(window: Window, offset: int) -> VariableStore:
    if not window.has(offset, STORE_HEADER.size):
        raise ImageError(
            f"a variable store header at 0x{offset:06X} needs {STORE_HEADER.size} bytes, the "
            f"image ends at 0x{window.end:06X}",
            code="uefi.truncated",
            offset=offset,
            end=window.end,
        )
    values = STORE_HEADER.fields(window.data, offset - window.base)
    values["signature"] = from_bytes(values["signature"])
    if values["signature"] not in FORMATS:
        raise ImageError(
            f"there is no variable store at 0x{offset:06X}: its signature is {values['signature']}",
            code="uefi.no-store",
            offset=offset,
        )
    return VariableStore(base=offset, **values)


def _header_anomalies(header: VariableStore, limit: int, usable: bool) -> list[Anomaly]:
    found: list[Anomaly] = []

    def add(code: str, at: int, text: str, severity: Severity = "error") -> None:
        found.append(Anomaly(f"store.{code}", header.base + at, text, severity))

    if not usable:
        add("size", 16, f"the store claims {header.size} bytes, less than its own header")
    elif header.base + header.size > limit:
        add(
            "size", 16, f"the store claims 0x{header.size:X} bytes, there is room for "
            f"0x{max(limit - header.base, 0):X} before 0x{limit:06X}",
        )  # fmt: skip
    if header.format != FORMATTED:
        add("format", 20, f"the store's format is {header.format:02X}, not {FORMATTED:02X}")
    if header.state != HEALTHY:
        add("state", 21, f"the store's state is {header.state:02X}, not {HEALTHY:02X} (healthy)")
    return found
