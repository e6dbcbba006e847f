"""What can be wrong with the records of a variable store.

Ref: edk2 ArmVirtPkg and OvmfPkg validate states, names and padding at boot
(ValidateFvHeader, PlatformValidateNvVarStore); the variable driver itself checks nothing, hangs
on two live records of one variable, and reads beyond the store where a size says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from hwflash.uefi.guids import describe
from hwflash.uefi.records import (
    LAYOUTS,
    START_ID,
    STATE_NAMES,
    Attribute,
    Record,
    State,
    torn,
)
from hwflash.uefi.window import Anomaly, Severity, filled_with, printable

_START: Final = START_ID.to_bytes(2, "little")
# As an int: the complement of a flag would leave out the unknown bits that are looked for.
_KNOWN_BITS: Final = sum(int(bit) for bit in Attribute if bit != Attribute.APPEND_WRITE)
#: Start ids looked at inside one value; a value of start ids only must not take seconds.
_INNER_LIMIT: Final = 64


def record_anomalies(record: Record, end: int) -> list[Anomaly]:
    """What is odd about one record.

    Args:
        record: the record.
        end: image offset behind the store.
    """
    found: list[Anomaly] = []

    def add(code: str, text: str, severity: Severity, at: int = 0) -> None:
        found.append(Anomaly(f"record.{code}", record.offset + at, text, severity))

    if record.sizes_erased:
        text = f"a header of {record.header_size} bytes that was never finished"
        add("torn-header", text, "note")
        return found
    if record.state not in STATE_NAMES:
        add("state", f"unknown state {record.state:02X}", "warning", 2)
    elif record.state == State.HEADER_VALID_ONLY:
        add("half-written", f"{_title(record)} was not written to its end", "note", 2)
    if record.cut_short:
        add(
            "size", f"{_title(record)} claims {record.name_size} bytes of name and "
            f"{record.data_size} of data and would reach beyond the store's end at 0x{end:06X}",
            "error", record.header_size - 24,
        )  # fmt: skip
        return found
    if record.state in (State.ADDED, State.IN_DELETED_TRANSITION):
        found += _live_anomalies(record)
    inner = _swallowed(record)
    if inner is not None:
        text = f"{_title(record)} holds what looks like a record: its sizes may be wrong"
        found.append(Anomaly("record.overlap", inner, text, "warning"))
    if not filled_with(record.padding, 0xFF):
        add("padding", "the padding behind the record is not FF", "note", record.size)
    return found


def duplicate_anomalies(records: Sequence[Record]) -> list[Anomaly]:
    """Several live records of one variable."""
    by_key: defaultdict[tuple[str, UUID], list[Record]] = defaultdict(list)
    for record in records:
        if record.state in (State.ADDED, State.IN_DELETED_TRANSITION) and record.name_bytes:
            by_key[record.key].append(record)
    found: list[Anomaly] = []
    for same in by_key.values():
        added = [record for record in same if record.state == State.ADDED]
        if len(added) > 1:
            where = ", ".join(f"0x{record.offset:06X}" for record in added[:4])
            text = (
                f"{_title(added[0])} has {len(added)} live records ({where}): the firmware "
                "hangs at boot"
            )
            found.append(Anomaly("record.duplicate", added[1].offset, text, "error"))
        elif not added and len(same) > 1:
            text = (
                f"{_title(same[0])} has {len(same)} records in deleted transition and none "
                "added: the firmware reads the last, and keeps the first at a reclaim"
            )
            found.append(Anomaly("record.transitions", same[1].offset, text, "warning"))
    return found


def _live_anomalies(record: Record) -> list[Anomaly]:
    found: list[Anomaly] = []

    def add(code: str, text: str, at: int, severity: Severity = "warning") -> None:
        found.append(Anomaly(f"record.{code}", record.offset + at, text, severity))

    size = record.header_size
    if not record.name_bytes:
        add("name", "a live record without a name: the firmware never finds it", size)
    elif record.name_size % 2:
        add("name", f"{_title(record)}: the name has {record.name_size} bytes, an odd number", size)
    elif record.name_bytes[-2:] != b"\0\0":
        add("name", f"{_title(record)}: the name has no terminator", size)
    if record.attributes & ~_KNOWN_BITS or not record.attributes & Attribute.NON_VOLATILE:
        add("attributes", f"{_title(record)}: attributes 0x{record.attributes:08X} are not stored "
            "by any firmware", 4)  # fmt: skip
    return found


def _title(record: Record) -> str:
    name = printable(record.name)
    shown = name if len(name) <= 60 else name[:57] + "..."
    return f"{shown or 'a record without a name'} ({describe(record.guid)})"


def _swallowed(record: Record) -> int | None:
    """Image offset of a plausible record inside a record's value, or None."""
    layout = LAYOUTS[record.format]
    data = record.data
    at = data.find(_START)
    for _ in range(_INNER_LIMIT):
        if at < 0 or at + layout.size > len(data):
            return None
        if (record.data_offset + at - record.offset) % 4 == 0:
            _, state, reserved, attributes, *_middle = fields = layout.unpack(data, at)
            name_size, data_size = fields[-3:-1]
            begin = at + layout.size
            name = data[begin : begin + name_size] if name_size <= 1024 else b""
            if (
                state in STATE_NAMES
                and reserved == 0
                and attributes & Attribute.NON_VOLATILE
                and not attributes & ~_KNOWN_BITS
                and not torn(state, attributes, name_size, data_size)
                and len(name) == name_size >= 4
                and name[-2:] == b"\0\0"
                and name[1] == 0
                and begin + name_size + data_size <= len(data) + 3
            ):
                return record.data_offset + at
        at = data.find(_START, at + 2)
    return None
