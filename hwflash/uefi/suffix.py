"""Rewriting a variable store without ever erasing its first erase block.

Everything behind the first erase block, the *suffix*, is written to the spare area and from
there over the store, as one fault-tolerant write to the end of the variable area. What comes
before, the *head*, holds the volume header and the store header: it is never erased, only bits
are cleared in it. The flag *spare complete* is the one moment at which the new content takes
the place of the old: before it the firmware drops the write, behind it it repeats it.

The order, and what the firmware finds after a power cut in each step:

1. A filler, dead from its first bit on, takes up what is free in the head, so that new records
   all begin in the suffix. Copies of variables that are hidden by their live one are marked
   dead, so that nothing can come back to life later. Neither changes what is live.
2. The queue entry, the spare area, read back. The firmware drops the entry: the old content.
3. Records of the head that get a new one in the suffix are marked *in deleted transition*.
   They stay live as long as there is no added one: the old content.
4. The canary: a byte that is not FF behind the last record. Builds without SMM copy the store
   to memory before they repair the flash, and go on to work with that torn copy, except when
   something behind its last record is not erased; then they rebuild the store from the
   repaired flash. So there has to be such a byte until the suffix is complete.
5. *Spare complete*. From here on: the new content. A variable has one added record at most,
   in the head or in the suffix; what is in transition in the head is hidden by it.
6. The gate is closed: the start id of the first record of the suffix is cleared. The firmware's
   walk ends there, and everything behind it is bytes that are not erased. Without this, a size
   that a torn erase or program leaves in a header could lead the walk beyond the canary.
7. The erase blocks of the suffix in ascending order, each read back; the last one takes the
   canary with it. The start id at the gate is left out, and programmed when all else is done.
8. *Destination complete*, *complete*, then the last marks in the head: deleted.

Variables of the head that are to be deleted are marked in step 8, one by one: each is there or
not there at any time, but after a power cut they can still be there next to the new content.

The head is the first erase block, and further ones as long as a record's header or name lies
across its end: sizes have to stay readable while the suffix is torn. When the store is full,
the canary is the start id of a dead record at the end, which is cleared: the walk ends there,
and no live one is behind it. Without such a record, or when the head reaches into the last
erase block, the store is refused (``uefi.no-canary``).

Where the volume's block is larger than the erase block (AAVMF) the entry names the whole
block, head included, since firmware can repeat only whole blocks; the spare area then holds
the head as it will be. What is done from here still erases only the suffix.

Ref: measured on OVMF 2022.11 with and without SMM, on AAVMF 2022.11 (docs/qemu-power-cuts.md,
full stores included), and without the gate on OVMF 2026.08. Why it works: edk2
MdeModulePkg/Universal/Variable/RuntimeDxe (the walk, and the check of the free area when
writing starts).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hwflash.errors import ImageError
from hwflash.uefi.ftw_write import (
    allocate,
    mark_complete,
    mark_destination_complete,
    mark_spare_complete,
    prepare,
)
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Record, State
from hwflash.uefi.seal import seal_tail
from hwflash.uefi.suffix_plan import START_ID_SIZE, SuffixPlan, plan_suffix
from hwflash.units import Range

#: Clearing this bit of a state marks a record as deleted, whatever it was.
_DELETED: Final = 0x02
#: Where the state is in a record's header.
_STATE: Final = 2


def rewrite_suffix(nvram: Nvram, wanted: Sequence[Record]) -> None:
    """Make these records the content of the store, without erasing its first erase block.

    Args:
        nvram: the variable store.
        wanted: added records, one for each variable, padded.

    Raises:
        EfiError: they do not fit behind what stays in the first erase block
            (``efi.out-of-resources``); nothing is changed.
        ImageError: volume header or store header are damaged (``uefi.volume-damaged``,
            ``uefi.store-damaged``); a write is pending (``ftw.pending``); the work space is
            not valid (``ftw.work-space-invalid``), shares blocks with variables
            (``ftw.work-space-shared``); there is nothing behind the first erase block
            (``uefi.erase-block``), or no way to get there (``uefi.first-block``); no canary
            can be had (``uefi.no-canary``); the spare area is too small
            (``ftw.spare-small``); or as `geometry`.
    """
    try:
        plan = plan_suffix(nvram, wanted)
    except ImageError as error:
        # The remains of a header in the first erase block can be made a dead record.
        if error.code != "uefi.first-block" or not seal_tail(nvram):
            raise
        plan = plan_suffix(nvram, wanted)
    changed = _changed(nvram, plan)
    # Where the suffix stays as it is no queue entry is needed, and a filler would take up free
    # bytes for good.
    if changed or not _quiet(nvram):
        prepare(nvram)
    if plan.filler is not None and changed:
        _fill_up(nvram, plan.filler)
    _delete(nvram, plan.hidden, "delete a copy that another record hides")
    changed = _changed(nvram, plan)
    if changed:
        _write_suffix(nvram, plan, changed)
    _delete(nvram, (*plan.moved, *plan.gone), "delete what the new content leaves out")


def _quiet(nvram: Nvram) -> bool:
    """Whether the work space is valid and nothing in it can replace the store."""
    space = nvram.work_space
    pending = space.pending
    return space.valid and (pending is None or not pending.header_allocated)


def _fill_up(nvram: Nvram, filler: Record) -> None:
    """Step 1: a dead record in what is free in the head."""
    nvram.flash.because("fill up the first erase block with a dead record")
    # The name comes last: behind a header that is not yet valid it would be bytes that are
    # not erased.
    nvram.flash.program(filler.offset, filler.build()[: filler.header_size])
    _set_state(nvram, filler, State.HEADER_VALID_ONLY)
    nvram.flash.program(filler.offset + filler.header_size, filler.name_bytes)


def _write_suffix(nvram: Nvram, plan: SuffixPlan, changed: list[int]) -> None:
    """Steps 2 to 7, up to *complete*."""
    flash, place = nvram.flash, plan.place
    first = plan.start - (plan.start - place.base) % place.erase
    changed = sorted({*changed, first, plan.last} - {place.variables.end})
    lba = place.lba(changed[0])
    target = place.base + lba * place.block
    entry = allocate(nvram, lba, 0, place.variables.end - target)
    used = _copy_to_spare(nvram, plan, target)
    mark_in_transition(nvram, plan.moved)
    flash.because("a canary behind the last record, until the store is complete")
    flash.program(*plan.canary)
    flash.verify(plan.canary[0], len(plan.canary[1]))
    mark_spare_complete(nvram, entry)
    flash.because("clear the start id that the walk over the new records will begin with")
    gate = min(START_ID_SIZE, nvram.store.end - plan.start)
    flash.program(plan.start, bytes(gate))
    flash.verify(plan.start, gate)
    for block in changed:
        _write_block(nvram, plan, block)
    if plan.gate:
        flash.because("the start id that makes the new records visible")
        flash.program(plan.start, plan.at(plan.start, START_ID_SIZE))
        flash.verify(plan.start, START_ID_SIZE)
    mark_destination_complete(nvram, entry)
    mark_complete(nvram, entry)
    flash.because("erase the spare area")
    flash.erase_unless_blank(used.address, used.length)


def mark_in_transition(nvram: Nvram, records: Sequence[Record]) -> None:
    """Records that are live only as long as there is no added one of their variable."""
    nvram.flash.because("the old record makes way for the new one")
    for record in records:
        _set_state(nvram, record, State.IN_DELETED_TRANSITION)
    for record in records:
        nvram.flash.verify(record.offset + _STATE, 1)


def _copy_to_spare(nvram: Nvram, plan: SuffixPlan, target: int) -> Range:
    """Write what will stand from ``target`` on to the spare area; returns where it is."""
    flash, place = nvram.flash, plan.place
    content = bytearray(flash.read(target, max(plan.head_end - target, 0)))
    for record in plan.moved:
        if record.offset >= target:
            content[record.offset + _STATE - target] = State.IN_DELETED_TRANSITION
    content += plan.at(max(target, plan.head_end), place.variables.end)
    used = Range(place.spare.address, len(content))
    flash.because("copy the new content to the spare area")
    flash.erase_unless_blank(place.spare.address, place.spare.length)
    for at in range(0, len(content), place.erase):
        flash.program(used.address + at, bytes(content[at : at + place.erase]))
    flash.verify(used.address, used.length)
    return Range(used.address, -(-used.length // place.erase) * place.erase)


def _write_block(nvram: Nvram, plan: SuffixPlan, block: int) -> None:
    flash, size = nvram.flash, plan.place.erase
    content = bytearray(plan.at(block, size))
    begin = plan.start - block
    if plan.gate and 0 <= begin < size:
        content[begin : begin + START_ID_SIZE] = b"\xff" * START_ID_SIZE
    flash.because("copy the new content over the store")
    flash.erase_unless_blank(block, size)
    flash.program(block, bytes(content))
    flash.verify(block, size)


def _blocks(plan: SuffixPlan) -> range:
    return range(plan.head_end, plan.place.variables.end, plan.place.erase)


def _changed(nvram: Nvram, plan: SuffixPlan) -> list[int]:
    """Erase blocks of the suffix that do not hold yet what the plan has for them."""
    size = plan.place.erase
    return [
        block for block in _blocks(plan) if nvram.flash.read(block, size) != plan.at(block, size)
    ]


def _delete(nvram: Nvram, records: Sequence[Record], why: str) -> None:
    nvram.flash.because(why)
    for record in records:
        state = nvram.flash.read(record.offset + _STATE, 1)[0]
        nvram.flash.program(record.offset + _STATE, bytes([state & ~_DELETED]))


def _set_state(nvram: Nvram, record: Record, state: int) -> None:
    nvram.flash.program(record.offset + _STATE, bytes([state]))
