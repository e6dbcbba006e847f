"""Recovery: finish from outside what the firmware's fault-tolerant write driver promises.

What is different from the driver, and why:

- The queue is read before the volume header is judged. OVMF's flash driver wipes the volume,
  spare included, when it finds block 0 erased; here the spare still counts.
- Blocks that are right already are left alone, and block 0 is erased only when it differs, and
  last. Of a new block 0 the volume header comes last of all. A cut anywhere leaves the queue
  with *spare complete*, so recovery begins again and comes to the same content.
- While the volume header is right and other blocks are not, the store's last four bytes are
  made 00. A plain build of OVMF reads the store before it finishes the write; bytes behind the
  last record make it rewrite the store from the finished flash, not from what it read.
- The spare is looked at before it is believed. An implausible copy is refused.
- A store that is broken is never followed by anything that erases the spare.

Ref: edk2 MdeModulePkg/Universal/FaultTolerantWriteDxe (InitFtwProtocol, FtwRestart, FtwAbort);
OvmfPkg/QemuFlashFvbServicesRuntimeDxe (InitializeVariableFvHeader).

Limits: a pending write whose target holds the work space, or is the boot block, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from hwflash.errors import ImageError
from hwflash.uefi.erase_blocks import Geometry, geometry
from hwflash.uefi.find import Found
from hwflash.uefi.flashops import Erase, Program
from hwflash.uefi.ftw import WriteEntry, WriteRecord
from hwflash.uefi.ftw_write import (
    abort,
    flush_spare_to_work_space,
    initialise_work_space,
    mark_complete,
    mark_destination_complete,
    reclaim_work_space,
)
from hwflash.uefi.headers import is_store, volume_at
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.recovery import Verdict
from hwflash.uefi.salvage import scan
from hwflash.uefi.store import VariableStore, findable, parse_store
from hwflash.uefi.volume import volume_anomalies
from hwflash.uefi.window import Anomaly, Window, filled_with

#: Bytes at the store's end that say to a plain build of OVMF that the store needs a rewrite.
CANARY: Final = bytes(4)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery did.

    Attributes:
        verdict: what the firmware's driver would have done.
        actions: what was done, one sentence each; one that says so where nothing was.
        changed: whether anything has to be written.
    """

    verdict: Verdict
    actions: tuple[str, ...]
    changed: bool


def recover(nvram: Nvram) -> Recovery:
    """Bring a volume to where no fault-tolerant write is pending and its work space is usable.

    A second recovery does nothing. An error means that nothing was recorded.

    Raises:
        ImageError: the pending write cannot be believed (``ftw.replay-implausible``), its
            target cannot be one (``ftw.target``, ``ftw.working-block``, ``ftw.boot-block``);
            the store is broken and what the firmware would do now loses it
            (``ftw.store-broken``); or the flash does not allow it, see
            `hwflash.uefi.erase_blocks.geometry`.
    """
    found = nvram.found
    verdict = found.ftw.verdict
    begin = len(nvram.operations)
    actions: list[str] = []
    if verdict == "restore-work-space":
        flush_spare_to_work_space(nvram)
        actions.append("The work space was copied back from the spare area.")
        if nvram.found.ftw.pending is not None:
            # Its content was in the spare before the work space's copy was.
            abort(nvram)
            actions.append("The write in its queue was dropped: the spare has no content for it.")
    elif verdict == "initialise-work-space":
        _require_sound(found, "an empty work space would drop what the spare area holds")
        if _spare_has_records(nvram):
            text = "the work space is lost and the spare area holds variables"
            _refuse("ftw.store-broken", text, nvram.base)
        initialise_work_space(nvram)
        actions.append("A new, empty work space was written.")
    elif verdict != "unknown":
        actions += _finish(nvram)
    if verdict == "unknown":
        actions.append("The volume has no work space: there is nothing to be recovered.")
    elif not actions:
        actions.append("Nothing is pending: nothing was done.")
    actions += _tail(nvram)
    done = nvram.operations[begin:]
    changed = any(isinstance(step, Program | Erase) for step in done)
    return Recovery(verdict, tuple(actions), changed)


def _finish(nvram: Nvram) -> list[str]:
    """Carry out or drop what is pending in a valid work space, and clean the queue."""
    actions: list[str] = []
    space = nvram.work_space
    pending = space.pending
    dirty = not space.walkable or any(item.code == "ftw.tail" for item in space.anomalies)
    # A header whose sizes were not written leads nowhere, once it is marked complete.
    half = pending is not None and (
        not pending.header_allocated
        or pending.offset + pending.total_size > space.base + space.size
    )
    allocated = pending is not None and not half and space.walkable
    record = _current(pending) if pending is not None and allocated else None
    copies = record is not None and record.spare_complete
    if dirty or half:
        geometry(nvram)
        if not copies:
            _require_sound(nvram.found, "a new work space is written by way of the spare area")
    if pending is not None and copies:
        actions.append(replay(nvram, pending))
    elif pending is not None and allocated:
        abort(nvram)
        done = pending.records and pending.records[-1].destination_complete
        actions.append(
            "The write was done; its last mark was set."
            if done
            else "The pending write was dropped: its spare copy was not finished, the old "
            "content counts."
        )
    if dirty or half:
        reclaim_work_space(nvram)
        actions.append("The queue could not be added to; a new one was begun.")
    return actions


def replay(nvram: Nvram, entry: WriteEntry) -> str:
    """Copy a complete spare over the target, so that a cut anywhere leaves it to be done again.

    Args:
        nvram: the variable store.
        entry: the pending entry, *spare complete*.

    Returns:
        What was done, as a sentence.

    Raises:
        ImageError: as `recover`.
    """
    place = geometry(nvram)
    record = _current(entry)
    if record is None:
        _refuse("ftw.replay-implausible", "the pending entry has no records", entry.offset)
    first, length = _target(nvram, place, record)
    flash = nvram.flash
    content = flash.read(place.spare.address, length)
    _require_plausible(nvram, record, first, content)
    wanted = Window(content, first)
    if _differing(nvram, place, wanted):
        _set_canary(nvram, place, wanted)
    count = write_blocks(nvram, place, wanted, "copy the spare area over the target")
    mark_destination_complete(nvram, entry)
    mark_complete(nvram, entry)
    return (
        f"The pending write was finished: {count} of {length // place.erase} blocks at "
        f"0x{first:06X} were copied from the spare area."
    )


def write_blocks(nvram: Nvram, place: Geometry, wanted: Window, why: str) -> int:
    """Write whole erase blocks, the first one last and of that the volume header last.

    Blocks that are right are left alone, erased only where a bit must be set, and read back.

    Args:
        nvram: the variable store.
        place: its geometry.
        wanted: content, at its address.
        why: what this is for.

    Returns:
        How many blocks were written.
    """
    flash = nvram.flash
    todo = _differing(nvram, place, wanted)
    head = wanted.base
    for at in [*(at for at in todo if at != head), *(at for at in todo if at == head)]:
        flash.because(f"recovery: {why}")
        new = wanted.at(at, place.erase)
        if not _only_clears(flash.read(at, place.erase), new):
            flash.erase(at, place.erase)
        cut = _header_length(new) if at == head else 0
        flash.program(at + cut, new[cut:])
        flash.program(at, new[:cut])
    flash.verify(wanted.base, len(wanted.data))
    return len(todo)


def _only_clears(old: bytes, new: bytes) -> bool:
    return int.from_bytes(old, "big") & int.from_bytes(new, "big") == int.from_bytes(new, "big")


def _header_length(block: bytes) -> int:
    """Bytes of a volume header at the start of a block; 0 where there is none."""
    volume = volume_at(Window(block), 0)
    return min(volume.header_length, len(block)) if volume is not None else 0


def _differing(nvram: Nvram, place: Geometry, wanted: Window) -> list[int]:
    step = place.erase
    return [
        at
        for at in range(wanted.base, wanted.end, step)
        if nvram.flash.read(at, step) != wanted.at(at, step)
    ]


def _set_canary(nvram: Nvram, place: Geometry, wanted: Window) -> None:
    """Make a half-copied store one that the firmware rewrites, see the module's text."""
    end = nvram.areas.variables.end
    if not wanted.has(end - 4, 4) or wanted.at(end - 4, 4) != b"\xff" * 4:
        return
    volume = volume_at(nvram.flash.window(), place.base)
    if volume is None or not volume.checksum_ok:
        return
    last = end - 1 - (end - 1 - wanted.base) % place.erase
    others = [at for at in _differing(nvram, place, wanted) if at not in (last, wanted.base)]
    if others and nvram.flash.read(end - 4, 4) == b"\xff" * 4:
        nvram.flash.because("recovery: mark the store as not finished")
        nvram.flash.program(end - 4, CANARY)


def _current(entry: WriteEntry) -> WriteRecord | None:
    """The record that is not done. Ref: edk2 FtwGetLastWriteRecord."""
    return next((item for item in entry.records if not item.destination_complete), None)


def _target(nvram: Nvram, place: Geometry, record: WriteRecord) -> tuple[int, int]:
    """First address and bytes of a target, when it can be one."""
    first = place.spare.address + record.relative_offset
    length = -(-(record.start + record.length) // place.block) * place.block
    if record.boot_block_update:
        text = "the pending write replaces the boot block, which the firmware swaps"
        _refuse("ftw.boot-block", text, record.offset)
    inside = place.base <= first and first + length <= place.spare.address
    named = place.base + record.lba * place.block
    if first != named or not inside or not 0 < length <= place.spare.length:
        text = (
            f"the pending write names block {record.lba} and 0x{length:X} bytes at "
            f"0x{first & (1 << 64) - 1:06X}, which is no target in the volume"
        )
        _refuse("ftw.target", text, record.offset)
    if first < place.work_block.end and place.work_block.address < first + length:
        text = f"the target 0x{first:06X}+0x{length:X} of the pending write holds the work space"
        _refuse("ftw.working-block", text, record.offset)
    if (first - nvram.flash.origin) % place.erase or length % place.erase:
        text = f"0x{first:06X}+0x{length:X} are not whole erase blocks of 0x{place.erase:X} bytes"
        _refuse("uefi.erase-block", text, first)
    return first, length


def _require_plausible(nvram: Nvram, record: WriteRecord, first: int, content: bytes) -> None:
    """Refuse a replay after which the firmware would find no good store."""
    areas = nvram.areas
    base, length = areas.variables.address, areas.variables.length
    if first >= areas.variables.end:
        return
    after = bytearray(nvram.flash.read(base, length))
    after[first - base : first - base + len(content)] = content[: length - (first - base)]
    reason = store_fault(Window(bytes(after), base), nvram.found, exact=True)
    if reason is not None:
        text = f"the spare area holds no plausible content for the pending write: {reason}"
        _refuse("ftw.replay-implausible", text, record.offset)


def store_fault(area: Window, found: Found, *, exact: bool = False) -> str | None:
    """Why a variable area is not one that the firmware works with, or None.

    Args:
        area: volume header and store.
        found: the store, for its places and length.
        exact: also take bytes behind the last record as a fault, which a new store has not.
    """
    end = found.areas.variables.end
    at = area.base
    volume = volume_at(area, at)
    bare = volume is None and is_store(area, at)
    if not bare:
        if volume is None:
            return f"there is no volume header at 0x{at:06X}"
        faults = _errors(volume_anomalies(volume, found.base + found.length, found.areas.known))
        if faults:
            return str(faults[0])
        at += volume.header_length
    if not is_store(area, at):
        return f"there is no variable store header at 0x{at:06X}"
    store = parse_store(area, at, end)
    faults = _errors(store.anomalies)
    if not faults and found.areas.layout != "derived" and store.base + store.size != end:
        return f"the store at 0x{at:06X} ends at 0x{at + store.size:06X}, not at 0x{end:06X}"
    if not faults and exact and not filled_with(store.tail, 0xFF):
        return f"bytes behind the last record at 0x{store.free_offset:06X} are not erased"
    if not faults:
        return _unreachable(area, store)
    return str(faults[0])


def _errors(anomalies: list[Anomaly] | tuple[Anomaly, ...]) -> list[Anomaly]:
    return [item for item in anomalies if item.severity == "error"]


def _unreachable(area: Window, store: VariableStore) -> str | None:
    """Live records behind the end of the chain: something in it is damaged."""
    if store.kind is None or filled_with(store.tail, 0xFF):
        return None
    end = store.base + store.size
    found = scan(area, store.base + 28, end, store.kind, store.base)
    behind = [item for item in found.records if item.offset >= store.free_offset]
    live = [item for item in behind if findable(item)]
    if not live:
        return None
    return f"{len(live)} records behind 0x{store.free_offset:06X} cannot be reached by the chain"


def _require_sound(found: Found, why: str) -> None:
    area = found.window.within(found.areas.variables.address, found.areas.variables.length)
    reason = store_fault(area, found)
    if reason is not None:
        _refuse("ftw.store-broken", f"{reason}; {why}", found.base)


def _spare_has_records(nvram: Nvram) -> bool:
    spare, store = nvram.spare, nvram.store
    area = nvram.flash.window().within(spare.address, spare.length)
    if store.kind is None:
        return False
    found = scan(area, area.base, area.end, store.kind, area.base)
    return any(findable(item) for item in found.records)


def _tail(nvram: Nvram) -> list[str]:
    """Bytes behind the last record: told, and left to a reclaim."""
    store = nvram.found.store
    for item in store.anomalies if store is not None else ():
        if item.code == "store.tail":
            return [
                (
                    f"Bytes behind the last record at 0x{item.offset:06X} are not erased: nothing "
                    "can be added before a reclaim."
                )
            ]
    return []


def _refuse(code: str, text: str, offset: int) -> NoReturn:
    raise ImageError(text, code=code, offset=offset)
