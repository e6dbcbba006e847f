"""Fault-tolerant writes, as the firmware's driver does them: queue, spare area, target.

A write is promised by four flags, each set by clearing one bit: the entry is allocated, the
spare area holds all the new content, the target holds it, the entry is complete. From *spare
complete* on, whoever finds the queue finishes the write; before that, it never happened.

The order of operations is the driver's, byte for byte (compared with a recorded reclaim of
OVMF 2022.11). It erases the target's first block first; `hwflash.uefi.rewrite` has an order
that does not. Verifications are added where the driver trusts its flash.

Ref: edk2 MdeModulePkg/Universal/FaultTolerantWriteDxe: FaultTolerantWrite.c (FtwAllocate,
FtwWrite, FtwWriteRecord, FtwRestart, FtwAbort), FtwMisc.c (FlushSpareBlockToTargetBlock,
FlushSpareBlockToWorkingBlock), UpdateWorkingBlock.c (WorkSpaceRefresh, FtwReclaimWorkSpace).

Limits: one record for each entry, no private data; a boot block, which is swapped instead of
copied, is refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NoReturn
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.erase_blocks import Geometry, geometry
from hwflash.uefi.ftw import (
    COMPLETE,
    DESTINATION_COMPLETE,
    HEADER_ALLOCATED,
    SPARE_COMPLETE,
    WORK_SPACE_INVALID,
    WORK_SPACE_VALID,
    WRITES_ALLOCATED,
    WorkSpace,
    WriteEntry,
    WriteRecord,
    entry_size,
    make_work_space,
    parse_work_space,
)
from hwflash.uefi.layouts import WORK_SPACE_HEADER, WRITE_HEADER
from hwflash.uefi.nvram import Nvram

#: Who allocated an entry: the drivers that run before and inside of SMM.
DRIVER_CALLER: Final = UUID("fe5cea76-4f72-49e8-986f-2cd899dffe5d")
SMM_CALLER: Final = UUID("470cb248-e8ac-473c-bb4f-81069a1fe6fd")
#: A write needs this much of the queue.
ENTRY: Final = entry_size(1, 0)
#: Where the state byte is in the work space's header.
_STATE: Final = 20


def ftw_write(
    nvram: Nvram, lba: int, offset: int, data: bytes, *, caller: UUID = DRIVER_CALLER
) -> None:
    """Write bytes of the volume so that a power cut leaves the old or the new ones.

    The work space is renewed first where less than one entry is left, or where the queue
    cannot be followed.

    Args:
        nvram: the variable store.
        lba: first block of the volume.
        offset: first byte in that block.
        data: what is to stand there.
        caller: who asks for it, as kept in the queue.

    Raises:
        ImageError: a write is pending (``ftw.pending``), the work space is not valid
            (``ftw.work-space-invalid``), the target is not inside the volume, overlaps the
            spare area or is larger (``ftw.target``), or the places do not allow it, see
            `geometry`.
    """
    place = geometry(nvram)
    first = place.base + lba * place.block
    length = -(-(offset + len(data)) // place.block) * place.block
    _check_target(nvram, place, first, length)
    if offset < 0 or not data:
        _refuse("ftw.target", f"0x{len(data):X} bytes at {offset} are no target", first)
    entry = allocate(nvram, lba, offset, len(data), caller=caller)
    flash = nvram.flash
    content = bytearray(flash.read(first, length))
    content[offset : offset + len(data)] = data
    kept = flash.read(place.spare.address, place.spare.length)
    flash.because("FTW: copy the new content to the spare area")
    flash.erase(place.spare.address, place.spare.length)
    _program_blocks(nvram, place.spare.address, bytes(content), place.block)
    flash.verify(place.spare.address, length)
    mark_spare_complete(nvram, entry)
    _write_record(nvram, place, entry)
    flash.because("FTW: restore the spare area")
    flash.erase(place.spare.address, place.spare.length)
    _program_blocks(nvram, place.spare.address, kept, place.block)


def prepare(nvram: Nvram) -> WorkSpace:
    """A work space with room for an entry; renewed where the firmware would renew it.

    Raises:
        ImageError: ``ftw.work-space-invalid``, ``ftw.pending``.
    """
    space = _valid(nvram)
    pending = space.pending
    if pending is not None and pending.header_allocated:
        _refuse("ftw.pending", f"a write is pending: {nvram.found.ftw.text}", pending.offset)
    dirty = any(item.code == "ftw.tail" for item in space.anomalies)
    if pending is not None or dirty or not space.walkable or space.free < ENTRY:
        reclaim_work_space(nvram)
        space = _valid(nvram)
    return space


def allocate(
    nvram: Nvram, lba: int, offset: int, length: int, *, caller: UUID = DRIVER_CALLER
) -> WriteEntry:
    """Enter a write into the queue; nothing is promised yet.

    Args:
        nvram: the variable store.
        lba: first block of the volume.
        offset: first byte in that block.
        length: bytes.
        caller: who asks for it.

    Returns:
        The entry, with one record, as it stands in the queue.

    Raises:
        ImageError: as `prepare` and `geometry`.
    """
    place = geometry(nvram)
    at = prepare(nvram).free_offset
    relative = place.base + lba * place.block - place.spare.address
    record = WriteRecord(at + WRITE_HEADER.size, lba, offset, length, relative)
    entry = WriteEntry(at, caller, 1, 0, flags=0xFF & ~HEADER_ALLOCATED)
    flash = nvram.flash
    flash.because(f"FTW: allocate an entry for block {lba} of the volume")
    flash.program(at, entry.build())
    _set_flag(nvram, at, WRITES_ALLOCATED)
    flash.because("FTW: say what is going to be written")
    flash.program(record.offset, record.build())
    return replace(entry, flags=entry.flags & ~WRITES_ALLOCATED, records=(record,))


def mark_spare_complete(nvram: Nvram, entry: WriteEntry) -> None:
    """The spare area holds the new content: from here on the write will be finished."""
    nvram.flash.because("FTW: spare complete, the new content counts from here on")
    _set_flag(nvram, _current(entry).offset, SPARE_COMPLETE)


def mark_destination_complete(nvram: Nvram, entry: WriteEntry) -> None:
    """The target holds the new content."""
    nvram.flash.because("FTW: destination complete")
    _set_flag(nvram, _current(entry).offset, DESTINATION_COMPLETE)


def mark_complete(nvram: Nvram, entry: WriteEntry) -> None:
    """Nothing is left to be done for an entry."""
    nvram.flash.because("FTW: complete")
    _set_flag(nvram, entry.offset, COMPLETE)


def abort(nvram: Nvram) -> None:
    """Drop the pending entry, or set its last mark.

    Raises:
        ImageError: ``ftw.work-space-invalid``, ``ftw.nothing-pending``.
    """
    entry = _pending(nvram)
    nvram.flash.because("FTW: abort the pending entry")
    _set_flag(nvram, entry.offset, COMPLETE)


def restart(nvram: Nvram) -> None:
    """Finish the pending write from the spare area, in the driver's order.

    Raises:
        ImageError: ``ftw.work-space-invalid``, ``ftw.nothing-pending``, the spare is not
            complete or the target already is (``ftw.spare-incomplete``), it is a boot block
            (``ftw.boot-block``), or the queue names a target that cannot be (``ftw.target``).
    """
    entry = _pending(nvram)
    place = geometry(nvram)
    record = _current(entry)
    if not record.spare_complete or record.destination_complete:
        text = "the pending write has nothing to be copied from the spare area"
        _refuse("ftw.spare-incomplete", text, record.offset)
    _write_record(nvram, place, entry)
    nvram.flash.because("FTW: erase the spare area")
    nvram.flash.erase(place.spare.address, place.spare.length)


def reclaim_work_space(nvram: Nvram, *, keep_last: bool = False) -> None:
    """Start a new queue, by way of the spare area, which is restored afterwards.

    Args:
        nvram: the variable store.
        keep_last: keep the entry that is allocated and not complete.

    Raises:
        ImageError: the entry to be kept does not fit (``ftw.queue``), or as `geometry`.
    """
    place = geometry(nvram)
    entry = b""
    space = nvram.found.ftw.work_space
    last = space.pending if space is not None else None
    if keep_last and last is not None and last.header_allocated:
        if last.total_size > place.work.length - WORK_SPACE_HEADER.size:
            text = f"the pending entry of {last.total_size:,} bytes is larger than the work space"
            _refuse("ftw.queue", text, last.offset)
        entry = nvram.flash.read(last.offset, last.total_size)
    _renew(nvram, place, entry)


def initialise_work_space(nvram: Nvram) -> None:
    """Write an empty work space, whatever stands in its place; the spare area is restored.

    Raises:
        ImageError: as `geometry`.
    """
    _renew(nvram, geometry(nvram), b"")


def flush_spare_to_work_space(nvram: Nvram) -> None:
    """Copy the working block back from the spare area.

    Raises:
        ImageError: the spare has no valid copy where the firmware looks for it
            (``ftw.no-copy``), or as `geometry`.
    """
    place = geometry(nvram)
    copy = parse_work_space(nvram.flash.window(), place.work_in_spare, place.spare.end)
    if copy.header() != make_work_space(place.work.length).header():
        text = f"there is no valid copy of the work space at 0x{place.work_in_spare:06X}"
        _refuse("ftw.no-copy", text, place.work_in_spare)
    _flush_working_block(nvram, place)


def _renew(nvram: Nvram, place: Geometry, entry: bytes) -> None:
    """Ref: edk2 FtwReclaimWorkSpace."""
    flash, spare, block = nvram.flash, place.spare, place.work_block
    content = bytearray(flash.read(block.address, block.length))
    fresh = replace(make_work_space(place.work.length), state_byte=0xFF).build()
    begin = place.work.address - block.address
    content[begin : begin + place.work.length] = fresh
    queue = begin + WORK_SPACE_HEADER.size
    content[queue : queue + len(entry)] = entry
    kept = flash.read(spare.address, spare.length)
    flash.because("FTW: write a new work space to the spare area")
    flash.erase(spare.address, spare.length)
    _program_blocks(nvram, spare.address, bytes(content), place.block)
    flash.verify(spare.address, block.length)
    flash.because("FTW: the copy of the work space in the spare area is valid")
    _set_flag(nvram, place.work_in_spare + _STATE, WORK_SPACE_VALID)
    flash.because("FTW: the work space is being replaced")
    _set_flag(nvram, place.work.address + _STATE, WORK_SPACE_INVALID)
    _flush_working_block(nvram, place)
    flash.because("FTW: restore the spare area")
    flash.erase(spare.address, spare.length)
    _program_blocks(nvram, spare.address, kept, place.block)


def _write_record(nvram: Nvram, place: Geometry, entry: WriteEntry) -> None:
    """Copy the spare over the target and set the marks. Ref: edk2 FtwWriteRecord."""
    record = _current(entry)
    first = place.base + record.lba * place.block
    length = -(-(record.start + record.length) // place.block) * place.block
    if record.boot_block_update:
        text = "the target is the boot block, which the firmware swaps and does not copy"
        _refuse("ftw.boot-block", text, record.offset)
    if first != place.spare.address + record.relative_offset:
        text = (
            f"the pending write names block {record.lba} at 0x{first:06X} and the address "
            f"0x{place.spare.address + record.relative_offset:06X}"
        )
        _refuse("ftw.target", text, record.offset)
    _check_target(nvram, place, first, length)
    flash = nvram.flash
    if _is_working_block(place, first):
        flash.because("FTW: spare complete, in the spare's copy of the queue")
        in_spare = place.work_in_spare + record.offset - place.work.address
        _set_flag(nvram, in_spare, SPARE_COMPLETE)
        _flush_working_block(nvram, place)
    else:
        content = flash.read(place.spare.address, length)
        flash.because("FTW: copy the spare area over the target")
        flash.erase(first, length)
        _program_blocks(nvram, first, content, place.block)
        flash.verify(first, length)
    mark_destination_complete(nvram, entry)
    if record is entry.records[-1]:
        mark_complete(nvram, entry)


def _flush_working_block(nvram: Nvram, place: Geometry) -> None:
    """Ref: edk2 FlushSpareBlockToWorkingBlock."""
    flash, block = nvram.flash, place.work_block
    flash.because("FTW: the copy of the work space in the spare area is valid")
    _set_flag(nvram, place.work_in_spare + _STATE, WORK_SPACE_VALID)
    content = bytearray(flash.read(place.spare.address, block.length))
    begin = place.work.address - block.address
    header = replace(make_work_space(place.work.length), state_byte=0xFF).header()
    content[begin : begin + len(header)] = header
    flash.because("FTW: the work space is being replaced")
    _set_flag(nvram, place.work.address + _STATE, WORK_SPACE_INVALID)
    flash.because("FTW: copy the work space from the spare area")
    flash.erase(block.address, block.length)
    _program_blocks(nvram, block.address, bytes(content), place.block)
    flash.verify(block.address, block.length)
    flash.because("FTW: the work space is valid")
    _set_flag(nvram, place.work.address + _STATE, WORK_SPACE_VALID)


def _check_target(nvram: Nvram, place: Geometry, first: int, length: int) -> None:
    """Whether the blocks of a target can be its target."""
    end = first + length
    inside = place.base <= first and end <= min(nvram.flash.end, place.spare.address)
    if not inside or not 0 < length <= place.spare.length:
        text = (
            f"0x{first:06X}+0x{length:X} cannot be the target of a write through the spare "
            f"area {place.spare}"
        )
        _refuse("ftw.target", text, first)
    for edge in (first, end):
        if (edge - nvram.flash.origin) % place.erase:
            text = f"0x{edge:06X} is inside of an erase block of 0x{place.erase:X} bytes"
            _refuse("uefi.erase-block", text, edge)
    work = place.work
    touches = first < place.work_block.end and end > place.work_block.address
    whole = first == place.work_block.address and end >= work.end
    if touches and not (whole and place.shared and end <= place.work_block.end):
        # The driver copies the spare from its start over the whole working block; only a
        # write that begins with that block and reaches over the work space comes out right.
        text = f"0x{first:06X}+0x{length:X} covers only a part of the working block"
        _refuse("ftw.working-block", text, first)


def _is_working_block(place: Geometry, first: int) -> bool:
    return place.work_block.address <= first < place.work_block.end


def _current(entry: WriteEntry) -> WriteRecord:
    """The record that is not done, or else the last. Ref: edk2 FtwGetLastWriteRecord."""
    if not entry.records or len(entry.records) < entry.number_of_writes:
        _refuse("ftw.queue", "the pending entry is not wholly in the work space", entry.offset)
    return next(
        (item for item in entry.records if not item.destination_complete), entry.records[-1]
    )


def _pending(nvram: Nvram) -> WriteEntry:
    space = _valid(nvram)
    entry = space.pending
    if entry is None or not entry.header_allocated:
        _refuse("ftw.nothing-pending", "no write is pending", space.base)
    return entry


def _valid(nvram: Nvram) -> WorkSpace:
    """The work space, when its header is exactly what the driver wants.

    Ref: edk2 IsValidWorkSpace, which compares all bytes.
    """
    space, work = nvram.work_space, nvram.areas.work
    fits = work is not None and space.size == work.length
    # A header is built only for a size that was found to be the right one.
    if not fits or not space.valid or space.header() != _header(space):
        state = space.state if fits else f"it says 0x{space.size:X} bytes"
        text = f"the FTW work space at 0x{space.base:06X} is not as the firmware wants it: {state}"
        _refuse("ftw.work-space-invalid", text, space.base)
    return space


def _header(space: WorkSpace) -> bytes:
    return make_work_space(space.size, signature=space.signature).header()


def _set_flag(nvram: Nvram, address: int, bit: int) -> None:
    """Set a flag by clearing its bit; what follows counts on it."""
    byte = nvram.flash.read(address, 1)[0]
    nvram.flash.program(address, bytes([byte & ~bit & 0xFF]))
    nvram.flash.verify(address, 1)


def _program_blocks(nvram: Nvram, address: int, content: bytes, block: int) -> None:
    """Program content that belongs on erased flash, a block at a time."""
    for at in range(0, len(content), block):
        nvram.flash.program(address + at, content[at : at + block])


def _refuse(code: str, text: str, offset: int) -> NoReturn:
    raise ImageError(text, code=code, offset=offset)
