"""Rescue: what neither the firmware nor a recovery does.

Two copies of the variables can be there, that in the variable area and that in the spare. What
is chosen, and why:

``nothing``, ``recover``
    A recovery on a copy in memory is tried first. When it leaves a sound store, that is all.
``keep``
    The store in place is sound; only the work space is lost, or a write is queued that cannot
    be believed, or a variable has two live records. The variables are not touched, except that
    of several live records all but the one that the firmware would find are marked deleted,
    which clears bits only.
``spare``
    The store in place is not sound, the spare's is, and nothing live in place differs from it.
    The same is true when the work space is lost and the store in place, although it looks
    whole, has only some of the spare's variables: that is how a half-copied store looks whose
    erased blocks follow its first records. The copy is entered into the queue as a write with
    *spare complete* and replayed: from that mark on `recover` finishes it, and so does
    firmware. The spare is not erased.
``headers``
    The chain of records in place is whole, only volume or store header are not. They are
    programmed over what is left of them where that only clears bits. Otherwise a new store of
    the live records goes through the spare; those in place stay until the spare is complete.
``salvage``
    The chain is broken, and the spare is older or broken too. Records are collected from both
    copies. When the spare alone has them all, the variable area is rewritten at once. Otherwise
    records that only the spare has are first copied into erased bytes of the variable area,
    to the end of the longest run of them and so never where the chain begins; then the variable
    area alone has them all, and the new store goes through the spare.
``lost``, ``fresh``
    No variable is left. An empty store is made only when somebody asks for it.

A write through the spare puts the volume header there last, so that a half-written spare is
not taken for a copy. Where records are collected, the copy that is replaced is struck out first
and its new records become live when all of them are complete: a value that was cut in the
middle must not win over the whole one. So after a cut the copy that still has everything is
found by the same comparison, with the same variables.

The work space is renewed in place here, not by way of the spare as the firmware does it, since
the spare may be the only good copy. It holds nothing by then that is still wanted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, NoReturn

from hwflash.errors import ImageError
from hwflash.uefi.diagnosis import (
    Choice,
    Copy,
    CopyFacts,
    Diagnosis,
    diagnose,
    good_volume,
    kept_by,
    read_copies,
    right_headers,
    store_base,
    store_kind,
)
from hwflash.uefi.erase_blocks import Geometry, geometry
from hwflash.uefi.ftw import (
    HEADER_ALLOCATED,
    SPARE_COMPLETE,
    WRITES_ALLOCATED,
    WriteEntry,
    WriteRecord,
    make_work_space,
)
from hwflash.uefi.ftw_write import DRIVER_CALLER, ENTRY, abort, allocate, mark_spare_complete
from hwflash.uefi.layouts import STORE_HEADER, WORK_SPACE_HEADER
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Record, State
from hwflash.uefi.recover import recover, replay, write_blocks
from hwflash.uefi.salvage import erased_run, fresh_record
from hwflash.uefi.store import findable, make_store, parse_store
from hwflash.uefi.window import Window, printable

__all__ = ["Choice", "CopyFacts", "Diagnosis", "Rescue", "diagnose", "rescue"]

#: Bytes left erased in front of records that are put aside: no chain leads into them.
_GAP: Final = 64
#: Where the state byte is in the work space's header.
_STATE: Final = 20


@dataclass(frozen=True, slots=True)
class Rescue:
    """What a rescue did.

    Attributes:
        choice: what was chosen.
        kept: the records that are there afterwards, as they were found.
        lost: what is not, in words.
        actions: what was done, one sentence each.
    """

    choice: Choice
    kept: tuple[Record, ...]
    lost: tuple[str, ...]
    actions: tuple[str, ...]


def rescue(nvram: Nvram, *, choice: Choice | None = None, fresh: bool = False) -> Rescue:
    """Bring back a sound store with all variables that are left.

    Args:
        nvram: the variable store.
        choice: one of the options of the `Diagnosis`; its own choice when None.
        fresh: make an empty store where no variable is left.

    Raises:
        ImageError: no variable is left (``rescue.lost``); the choice is none of the options
            (``rescue.choice``); records must be put aside and there is no room
            (``rescue.no-room``); the variables do not fit (``uefi.store-full``); the length of
            the volume is not known (``rescue.no-volume``); or the flash does not allow it, see
            `hwflash.uefi.erase_blocks.geometry`.
    """
    found = diagnose(nvram)
    chosen = choice or found.choice
    if chosen == "lost" and fresh:
        chosen = "fresh"
    if chosen == "lost":
        _refuse("rescue.lost", f"{found.text}: {'; '.join(found.lost)}", nvram.base)
    if chosen not in found.options:
        text = f"{chosen!r} is not possible here; possible are {', '.join(found.options)}"
        _refuse("rescue.choice", text, nvram.base)
    # Once in memory of its own: what is refused half way must leave no operations behind.
    flash = nvram.flash
    _carry_out(Nvram(flash.window(), nvram.found, flash.erase_size, flash.origin), found, chosen)
    kept, actions = _carry_out(nvram, found, chosen)
    lost = found.lost
    if chosen != found.choice:
        have = {record.key for record in kept}
        lost = tuple(
            f"{printable(item.name)} ({item.guid})"
            for item in found.variables
            if item.key not in have
        )
        lost = lost or (found.lost if found.choice == "lost" else ())
    return Rescue(chosen, kept, lost, tuple(actions))


def _carry_out(
    nvram: Nvram, found: Diagnosis, chosen: Choice
) -> tuple[tuple[Record, ...], list[str]]:
    """The records kept, and what was done."""
    actions: list[str] = []
    if found.recovery is not None and chosen != "fresh":
        recovery = recover(nvram)
        actions += recovery.actions if recovery.changed else ()
    here, spare = read_copies(nvram)
    kept = found.variables if chosen == found.choice else kept_by(chosen, here, spare)
    if chosen == "keep":
        actions += _keep(nvram)
    elif chosen == "spare":
        actions += _use_spare(nvram)
    elif chosen == "headers":
        actions += _write_headers(nvram, here)
    elif chosen == "salvage":
        actions += _salvage(nvram, kept, here, spare)
    elif chosen == "fresh":
        actions += [*_through_spare(nvram, _image(nvram, ())), "An empty store was written."]
    return kept, actions


def _keep(nvram: Nvram) -> list[str]:
    """Leave the variables in place; drop what is queued and renew a lost work space."""
    actions = _drop_duplicates(nvram)
    ftw = nvram.found.ftw
    if ftw.verdict in ("idle", "unknown"):
        return actions
    if not _drop_pending(nvram) or nvram.found.ftw.verdict != "idle":
        _renew_in_place(nvram, geometry(nvram))
        actions.append("A new, empty work space was written in place.")
    else:
        actions.append("The pending write was dropped.")
    return actions


def _drop_duplicates(nvram: Nvram) -> list[str]:
    """Mark all live records of a variable deleted but the one that is found first."""
    store = nvram.store
    chosen = {record.key: record.offset for record in store.live}
    actions: list[str] = []
    for record in store.records:
        if record.state != State.ADDED or not findable(record):
            continue
        if chosen[record.key] == record.offset:
            continue
        nvram.flash.because("rescue: delete a second live record of a variable")
        nvram.flash.program(record.offset + 2, bytes([record.state & State.DELETED]))
        actions.append(
            f"The second live record of {printable(record.name)} at 0x{record.offset:06X} was "
            "marked deleted."
        )
    return actions


def _use_spare(nvram: Nvram) -> list[str]:
    """Enter the spare's content into the queue as a complete write, and finish it."""
    place = geometry(nvram)
    length = _area_length(nvram, place)
    _drop_pending(nvram)
    if _has_room(nvram):
        mark_spare_complete(nvram, allocate(nvram, 0, 0, length))
        return [_replay(nvram)]
    # The entry is there before the work space is valid: an empty one would make the store in
    # place the good one.
    at = place.work.address + WORK_SPACE_HEADER.size
    record = WriteRecord(
        at, 0, 0, length, place.base - place.spare.address, flags=0xFF & ~SPARE_COMPLETE
    )
    flags = 0xFF & ~HEADER_ALLOCATED & ~WRITES_ALLOCATED
    entry = WriteEntry(at, DRIVER_CALLER, 1, 0, flags=flags, records=(record,))
    _renew_in_place(nvram, place, entry.build())
    return ["A new work space with the pending write was written in place.", _replay(nvram)]


def _write_headers(nvram: Nvram, here: Copy) -> list[str]:
    """Write volume and store header in front of records that are whole."""
    head = _headers(nvram)
    base = here.area.base
    if _only_clears(here.area.data[: len(head)], head):
        nvram.flash.because("rescue: complete the headers")
        split = store_base(nvram.found) - base
        nvram.flash.program(base + split, head[split:])
        nvram.flash.program(base, head[:split])
        nvram.flash.verify(base, len(head))
        return ["The headers were completed without an erase.", *_keep(nvram)]
    actions = _through_spare(nvram, _image(nvram, here.live))
    return [*actions, "Headers and live records were written anew, by way of the spare."]


def _salvage(nvram: Nvram, kept: tuple[Record, ...], here: Copy, spare: Copy | None) -> list[str]:
    """Build a new store of all that was proven; see the module's text for the order."""
    image = _image(nvram, kept)
    place = geometry(nvram)
    if spare is not None and all(spare.has(record) for record in kept):
        _replace_copy(nvram, place, here, image)
        return ["The new store was written over the variable area.", *_keep(nvram)]
    if spare is None:
        _refuse("ftw.no-spare", "there is no spare area to write the new store to", nvram.base)
    aside = [record for record in kept if not here.has(record)]
    actions = _put_aside(nvram, here, aside) if aside else []
    actions += _make_room(nvram, place)
    entry = allocate(nvram, 0, 0, len(image))
    _replace_copy(nvram, place, spare, image)
    mark_spare_complete(nvram, entry)
    return [*actions, "The new store was written to the spare area.", _replay(nvram)]


def _replace_copy(nvram: Nvram, place: Geometry, copy: Copy, image: bytes) -> None:
    """Write a new store over one copy while the other one has everything.

    Nothing in the copy may be taken for a variable before it is whole: headers and start ids
    are struck out, the new records are written in state FF, and become live from the last to
    the first, so that no chain is whole before the first is. The headers come last.
    """
    flash, at = nvram.flash, copy.facts.base
    flash.because("rescue: strike out the copy that is replaced")
    head = store_base(nvram.found) - nvram.areas.variables.address + STORE_HEADER.size
    # With the start id of whatever the chain begins with, proven or not.
    flash.program(at, bytes(head + 2))
    shift = at - copy.area.base
    for record in copy.scan.records:
        flash.program(record.offset + shift, bytes(2))
    store = parse_store(Window(image, at), at + head - STORE_HEADER.size)
    content = bytearray(image)
    content[:head] = b"\xff" * head
    states = [record.offset + 2 for record in store.records]
    for state in states:
        content[state - at] = State.ERASED
    write_blocks(nvram, place, Window(bytes(content), at), "write the new store")
    flash.because("rescue: make the new records live")
    for state in reversed(states):
        flash.program(state, bytes([State.ADDED]))
    flash.because("rescue: write the headers of the new store")
    flash.program(at + head - STORE_HEADER.size, image[head - STORE_HEADER.size : head])
    flash.program(at, image[: head - STORE_HEADER.size])
    flash.verify(at, len(image))


def _put_aside(nvram: Nvram, here: Copy, records: list[Record]) -> list[str]:
    """Copy records into erased bytes of the variable area, the last one to the end."""
    fresh = [fresh_record(record) for record in records]
    needed = sum(record.end - record.offset for record in fresh)
    run = erased_run(here.area, needed + _GAP + 4)
    if run is None:
        text = (
            f"{len(records)} variables that only the spare area has need {needed:,} erased bytes "
            "in the variable area, to be put aside while the spare area is rewritten"
        )
        _refuse("rescue.no-room", text, nvram.base)
    base = store_base(nvram.found)
    at = run[1] - (run[1] - base) % 4
    nvram.flash.because("rescue: put a record of the spare aside")
    for record in reversed(fresh):
        at -= record.end - record.offset
        content = replace(record, state=int(State.ERASED)).build()
        nvram.flash.program(at, content)
        nvram.flash.program(at + 2, bytes([State.ADDED]))
        nvram.flash.verify(at, len(content))
    return [f"{len(records)} variables were first copied from the spare area."]


def _through_spare(nvram: Nvram, image: bytes) -> list[str]:
    """Write a new variable area as a fault-tolerant write, the spare's first block last."""
    place = geometry(nvram)
    actions = _make_room(nvram, place)
    entry = allocate(nvram, 0, 0, len(image))
    spare = Window(image, place.spare.address)
    write_blocks(nvram, place, spare, "write the new store to the spare area")
    mark_spare_complete(nvram, entry)
    return [*actions, _replay(nvram)]


def _replay(nvram: Nvram) -> str:
    pending = nvram.found.ftw.pending
    if pending is None:
        _refuse("ftw.nothing-pending", "no write is pending", nvram.base)
    return replay(nvram, pending)


def _make_room(nvram: Nvram, place: Geometry) -> list[str]:
    """A work space with nothing pending and room for an entry, without using the spare."""
    _drop_pending(nvram)
    if _has_room(nvram):
        return []
    _renew_in_place(nvram, place)
    return ["A new, empty work space was written in place."]


def _has_room(nvram: Nvram) -> bool:
    ftw = nvram.found.ftw
    return ftw.verdict == "idle" and ftw.work_space is not None and ftw.work_space.free >= ENTRY


def _drop_pending(nvram: Nvram) -> bool:
    """Abort what is pending; False where that cannot be done."""
    pending = nvram.found.ftw.pending
    if pending is None or not pending.header_allocated:
        return False
    try:
        abort(nvram)
    except ImageError:
        return False
    return True


def _renew_in_place(nvram: Nvram, place: Geometry, entry: bytes = b"") -> None:
    """Erase the work space and write a new one, empty or with an entry."""
    if place.work_block != place.work:
        text = f"the work space {place.work} shares the block {place.work_block} with other data"
        _refuse("ftw.work-space-shared", text, place.work.address)
    flash, work = nvram.flash, place.work
    flash.because("rescue: renew the work space in place")
    fresh = replace(make_work_space(work.length), state_byte=0xFF).header()
    flash.erase_unless_blank(work.address, work.length)
    flash.program(work.address, fresh + entry)
    flash.program(work.address + _STATE, b"\xfe")


def _headers(nvram: Nvram) -> bytes:
    found = nvram.found
    if good_volume(found) is None and found.areas.layout == "derived":
        text = f"the length of the volume at 0x{found.base:06X} is not known"
        _refuse("rescue.no-volume", text, found.base)
    return right_headers(found, store_kind(found), nvram.block_size)


def _image(nvram: Nvram, records: tuple[Record, ...]) -> bytes:
    """A variable area with these records."""
    found = nvram.found
    head = _headers(nvram)
    at = store_base(found)
    size = found.areas.variables.end - at
    kind = store_kind(found)
    store = make_store((fresh_record(item) for item in records), size, base=at, kind=kind)
    return _padded(nvram, head[: at - found.areas.variables.address] + store.build())


def _padded(nvram: Nvram, area: bytes) -> bytes:
    """A variable area up to the end of its last block, with what stands there."""
    place = geometry(nvram)
    base, length = place.base, _area_length(nvram, place)
    return area + nvram.flash.read(base + len(area), length - len(area))


def _area_length(nvram: Nvram, place: Geometry) -> int:
    """Bytes of the variable area in whole blocks, whatever the store's header says."""
    return -(-nvram.areas.variables.length // place.block) * place.block


def _only_clears(old: bytes, new: bytes) -> bool:
    return all(want & ~was == 0 for was, want in zip(old, new, strict=True))


def _refuse(code: str, text: str, offset: int) -> NoReturn:
    raise ImageError(text, code=code, offset=offset)
