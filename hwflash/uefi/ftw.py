"""Fault-tolerant write: the work space and its queue.

Ref: edk2 MdeModulePkg/Universal/FaultTolerantWriteDxe (FtwMisc.c, FaultTolerantWrite.h) and
Include/Guid/SystemNvDataGuid.h. A flag is set by clearing its bit. The CRC-32 is zlib's, over
the header's 32 bytes with the CRC, the state byte and the reserved bytes as FF.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.guids import NV_VOLUME, WORK_SPACE, from_bytes
from hwflash.uefi.layouts import WORK_SPACE_HEADER, WRITE_HEADER, WRITE_RECORD
from hwflash.uefi.window import Anomaly, Severity, Window, filled_with

#: Signatures of a work space: today's, and that of very old firmware.
SIGNATURES: Final = (WORK_SPACE, NV_VOLUME)
#: A reclaim is one record; nobody was seen to queue more than a few.
RECORD_LIMIT: Final = 4096
#: A work space of 256 KiB, the largest seen, has room for 3,276 entries of one record.
ENTRY_LIMIT: Final = 8192

HEADER_ALLOCATED: Final = 0x01
WRITES_ALLOCATED: Final = 0x02
COMPLETE: Final = 0x04
BOOT_BLOCK_UPDATE: Final = 0x01
SPARE_COMPLETE: Final = 0x02
DESTINATION_COMPLETE: Final = 0x04
WORK_SPACE_VALID: Final = 0x01
WORK_SPACE_INVALID: Final = 0x02

WorkSpaceState = Literal["valid", "invalid", "being-replaced", "not-yet-valid", "damaged"]


@dataclass(frozen=True, slots=True)
class WriteRecord:
    """One write of an entry: which bytes of which block, and where their target lies.

    Attributes:
        offset: image offset of the record.
        lba: first block in the volume.
        start: first byte in that block.
        length: bytes.
        relative_offset: address of the target block less that of the spare area.
    """

    offset: int
    lba: int
    start: int
    length: int
    relative_offset: int
    flags: int = 0xFF
    reserved: bytes = b"\xff" * 7
    private_data: bytes = b""

    @property
    def boot_block_update(self) -> bool:
        """Whether the target is the boot block, which is swapped, not copied."""
        return not self.flags & BOOT_BLOCK_UPDATE

    @property
    def spare_complete(self) -> bool:
        """The spare holds all the new content: from here on the write will be finished."""
        return not self.flags & SPARE_COMPLETE

    @property
    def destination_complete(self) -> bool:
        """The target holds all the new content."""
        return not self.flags & DESTINATION_COMPLETE

    def build(self) -> bytes:
        """The record with its private data."""
        fixed = WRITE_RECORD.build(
            flags=self.flags,
            reserved=self.reserved,
            lba=self.lba,
            offset=self.start,
            length=self.length,
            relative_offset=self.relative_offset,
        )
        return fixed + self.private_data


@dataclass(frozen=True, slots=True)
class WriteEntry:
    """An entry of the queue: a write header and its records.

    Attributes:
        offset: image offset of the write header.
        caller: who allocated it.
        number_of_writes: records, as the header says.
        private_data_size: bytes of private data behind each record, as the header says.
        records: those that are in the image.
    """

    offset: int
    caller: UUID
    number_of_writes: int
    private_data_size: int
    flags: int = 0xFF
    reserved: bytes = b"\xff" * 3
    gap: bytes = b"\xff" * 4
    records: tuple[WriteRecord, ...] = ()

    @property
    def header_allocated(self) -> bool:
        """The write header is in use."""
        return not self.flags & HEADER_ALLOCATED

    @property
    def writes_allocated(self) -> bool:
        """The write header is complete, records may follow."""
        return not self.flags & WRITES_ALLOCATED

    @property
    def complete(self) -> bool:
        """Nothing is left to be done."""
        return not self.flags & COMPLETE

    @property
    def total_size(self) -> int:
        """Bytes of the entry, as its header says."""
        return entry_size(self.number_of_writes, self.private_data_size)

    def build(self) -> bytes:
        """Write header and records."""
        fixed = WRITE_HEADER.build(
            flags=self.flags,
            reserved=self.reserved,
            caller=self.caller.bytes_le,
            gap=self.gap,
            number_of_writes=self.number_of_writes,
            private_data_size=self.private_data_size,
        )
        return fixed + b"".join(record.build() for record in self.records)


@dataclass(frozen=True, slots=True)
class WorkSpace:
    """A work space: its header and its queue.

    Attributes:
        base: image offset.
        crc: as stored.
        state_byte: as stored.
        write_queue_size: bytes of the queue, as the header says.
        entries: the entries in use, complete or not, in order.
        tail: the bytes behind them, to the end of the work space.
        anomalies: what is odd.
    """

    base: int
    signature: UUID
    crc: int
    state_byte: int
    reserved: bytes
    write_queue_size: int
    entries: tuple[WriteEntry, ...] = ()
    tail: bytes = b""
    anomalies: tuple[Anomaly, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of the work space, as the header says."""
        return WORK_SPACE_HEADER.size + self.write_queue_size

    @property
    def computed_crc(self) -> int:
        """The CRC-32 that belongs into the header."""
        return header_crc(self.signature, self.write_queue_size)

    @property
    def crc_ok(self) -> bool:
        """Whether the stored CRC is right."""
        return self.crc == self.computed_crc

    @property
    def state(self) -> WorkSpaceState:
        """What the state byte says, when signature and CRC are right."""
        if self.signature not in SIGNATURES or not self.crc_ok:
            return "damaged"
        valid = not self.state_byte & WORK_SPACE_VALID
        invalid = not self.state_byte & WORK_SPACE_INVALID
        if valid and invalid:
            return "being-replaced"
        return "valid" if valid else "invalid" if invalid else "not-yet-valid"

    @property
    def valid(self) -> bool:
        """Whether the firmware accepts it."""
        return self.state == "valid"

    @property
    def last(self) -> WriteEntry | None:
        """The last entry, or None in a queue that was never used."""
        return self.entries[-1] if self.entries else None

    @property
    def pending(self) -> WriteEntry | None:
        """The entry that is allocated and not complete, or None."""
        last = self.last
        return last if last is not None and not last.complete else None

    @property
    def free_offset(self) -> int:
        """Image offset at which the next entry would be allocated."""
        used = sum(len(entry.build()) for entry in self.entries)
        return self.base + WORK_SPACE_HEADER.size + used

    @property
    def free(self) -> int:
        """Bytes left in the queue."""
        return max(self.base + self.size - self.free_offset, 0)

    @property
    def walkable(self) -> bool:
        """Whether the queue can be followed to its end."""
        return not any(item.code == "ftw.queue" for item in self.anomalies)

    def header(self) -> bytes:
        """The header's bytes."""
        return WORK_SPACE_HEADER.build(
            signature=self.signature.bytes_le,
            crc=self.crc,
            state=self.state_byte,
            reserved=self.reserved,
            write_queue_size=self.write_queue_size,
        )

    def build(self) -> bytes:
        """Header, entries and tail."""
        return self.header() + b"".join(entry.build() for entry in self.entries) + self.tail


def entry_size(number_of_writes: int, private_data_size: int) -> int:
    """Bytes of a write header with its records (edk2 FTW_WRITE_TOTAL_SIZE)."""
    return WRITE_HEADER.size + number_of_writes * (WRITE_RECORD.size + private_data_size)


def header_crc(signature: UUID, write_queue_size: int) -> int:
    """The CRC-32 of a work-space header."""
    blank = WORK_SPACE_HEADER.build(
        signature=signature.bytes_le,
        crc=0xFFFFFFFF,
        state=0xFF,
        reserved=b"\xff" * 3,
        write_queue_size=write_queue_size,
    )
    return zlib.crc32(blank)


def make_work_space(size: int, *, base: int = 0, signature: UUID = WORK_SPACE) -> WorkSpace:
    """A fresh, empty, valid work space of ``size`` bytes, header included."""
    queue = size - WORK_SPACE_HEADER.size
    return WorkSpace(
        base=base,
        signature=signature,
        crc=header_crc(signature, queue),
        state_byte=0xFF & ~WORK_SPACE_VALID,
        reserved=b"\xff" * 3,
        write_queue_size=queue,
        tail=b"\xff" * queue,
    )


def parse_work_space(window: Window, offset: int, limit: int | None = None) -> WorkSpace:
    """Read a work space, whatever is wrong with it.

    Args:
        window: the image.
        offset: image offset of the header.
        limit: image offset the work space cannot reach beyond.

    Raises:
        ImageError: the image ends inside the header (``uefi.truncated``).
    """
    if not window.has(offset, WORK_SPACE_HEADER.size):
        raise ImageError(
            f"a work-space header at 0x{offset:06X} needs {WORK_SPACE_HEADER.size} bytes, the "
            f"image ends at 0x{window.end:06X}",
            code="uefi.truncated",
            offset=offset,
            end=window.end,
        )
    values: dict[str, Any] = WORK_SPACE_HEADER.fields(window.data, offset - window.base)
    space = WorkSpace(
        base=offset,
        signature=from_bytes(values["signature"]),
        crc=values["crc"],
        state_byte=values["state"],
        reserved=values["reserved"],
        write_queue_size=values["write_queue_size"],
    )
    limit = window.end if limit is None else min(limit, window.end)
    end = min(offset + space.size, limit)
    anomalies = _header_anomalies(space, limit)
    if space.signature not in SIGNATURES or not space.crc_ok:
        # The queue's size is one of the things that cannot be trusted.
        begin = offset + WORK_SPACE_HEADER.size
        return replace(space, tail=window.at(begin, end - begin), anomalies=tuple(anomalies))
    entries: list[WriteEntry] = []
    for entry in _entries(window, space, end):
        entries.append(entry)
        anomalies += _entry_anomalies(entry, end)
    free = offset + WORK_SPACE_HEADER.size + sum(len(entry.build()) for entry in entries)
    tail = window.at(free, max(end - free, 0))
    if not filled_with(tail, 0xFF):
        where = free + next(index for index, byte in enumerate(tail) if byte != 0xFF)
        text = "bytes behind the last entry of the queue are not erased: the firmware reclaims it"
        anomalies.append(Anomaly("ftw.tail", where, text, "warning"))
    return replace(space, entries=tuple(entries), tail=tail, anomalies=tuple(anomalies))


def _header_anomalies(space: WorkSpace, limit: int) -> list[Anomaly]:
    found: list[Anomaly] = []

    def add(code: str, at: int, text: str, severity: Severity = "error") -> None:
        found.append(Anomaly(f"ftw.{code}", space.base + at, text, severity))

    if space.signature not in SIGNATURES:
        add("signature", 0, f"the work space's signature is {space.signature}")
    elif not space.crc_ok:
        add(
            "crc", 16, f"the work space's CRC is 0x{space.crc:08X}, its content needs "
            f"0x{space.computed_crc:08X}",
        )  # fmt: skip
    elif not space.valid:
        add("state", 20, f"the work space is {space.state} (state {space.state_byte:02X})")
    if space.signature == NV_VOLUME:
        add("old-signature", 0, "the work space has the signature of very old firmware", "note")
    if space.base + space.size > limit:
        add(
            "size", 24, f"the work space claims 0x{space.size:X} bytes, there is room for "
            f"0x{max(limit - space.base, 0):X}",
        )  # fmt: skip
    return found


def _entries(window: Window, space: WorkSpace, end: int) -> Iterator[WriteEntry]:
    """Entries as edk2 FtwGetLastWriteHeader follows them: on from complete ones only."""
    offset = space.base + WORK_SPACE_HEADER.size
    for _ in range(ENTRY_LIMIT):
        if offset + WRITE_HEADER.size > end:
            return
        if filled_with(window.at(offset, WRITE_HEADER.size), 0xFF):
            return
        entry = _entry(window, offset, end)
        yield entry
        if not entry.complete or offset + entry.total_size > end:
            return
        offset += entry.total_size


def _entry(window: Window, offset: int, end: int) -> WriteEntry:
    values: dict[str, Any] = WRITE_HEADER.fields(window.data, offset - window.base)
    values["caller"] = from_bytes(values["caller"])
    entry = WriteEntry(offset=offset, **values)
    if not entry.header_allocated or not (entry.writes_allocated or entry.complete):
        return entry
    step = WRITE_RECORD.size + entry.private_data_size
    records: list[WriteRecord] = []
    for index in range(min(entry.number_of_writes, RECORD_LIMIT)):
        at = offset + WRITE_HEADER.size + index * step
        if at + step > end:
            break
        fields: dict[str, Any] = WRITE_RECORD.fields(window.data, at - window.base)
        fields["start"] = fields.pop("offset")
        private = window.at(at + WRITE_RECORD.size, entry.private_data_size)
        records.append(WriteRecord(offset=at, private_data=private, **fields))
    return replace(entry, records=tuple(records))


def _entry_anomalies(entry: WriteEntry, end: int) -> list[Anomaly]:
    promised = entry.header_allocated and (entry.writes_allocated or entry.complete)
    if promised and entry.offset + entry.total_size > end:
        text = (
            f"an entry of {entry.number_of_writes} writes with {entry.private_data_size} bytes "
            f"of private data reaches beyond the work space's end at 0x{end:06X}"
        )
        return [Anomaly("ftw.queue", entry.offset, text, "error")]
    return []
