"""Changes of a variable store that are cut: start images, operations, and what may be there.

Every store begins with what the firmware itself keeps, from a board that has booted
(`Board.warm`), and has so many further variables that all its erase blocks are in use or the
change needs a reclaim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from hwflash.errors import ReferenceFailed
from hwflash.qemu.cut_judge import (
    Board,
    Variables,
    only_store,
    store_of,
    variables_of,
    with_records,
)
from hwflash.qemu.cuts import Cut, FtwPhase, PhaseOf, in_place, phase_by_reason, some_cuts
from hwflash.qemu.trace import fold, replayed
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.flashops import Erase, Operation
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Record, State, make_record
from hwflash.uefi.rewrite import reclaim, replace_records
from hwflash.uefi.services import VariableServices
from hwflash.uefi.store import findable
from hwflash.uefi.volume import USUAL_HEADER
from hwflash.uefi.window import Window

GUID: Final = UUID("3c0d54b1-0a6e-4a2c-9d33-5f1a7f1c9be0")
_NV_BS: Final = 3
#: Free bytes left in a store that the firmware is to reclaim by itself.
_ALMOST_FULL: Final = 0x100
TARGET: Final = ("CutTarget", GUID)
GONE: Final = ("CutGone", GUID)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a variable store, to be cut.

    Attributes:
        name: short.
        start: the volume before.
        operations: what is done to it.
        allowed: sets of variables that may be there after a cut, without the firmware's own
            boot; the last one is the new set.
        phase: how its phases are told apart.
        atomic: the operations were observed in QEMU's flash, see `cut_images`.
    """

    name: str
    start: bytes
    operations: tuple[Operation, ...]
    allowed: tuple[Variables, ...]
    phase: PhaseOf
    atomic: bool = False

    @property
    def erases(self) -> bool:
        """Whether it erases anything."""
        return any(isinstance(step, Erase) for step in self.operations)

    def cuts(self, count: int) -> list[Cut]:
        """Some of its power cuts."""
        return some_cuts(self.start, self.operations, self.phase, count, atomic=self.atomic)


def rewrites(warm: bytes, layout: KnownLayout) -> Iterator[Change]:
    """What hwflash does to a store: without an erase, and by rewriting its suffix.

    Args:
        warm: the volume of a board that has booted.
        layout: its layout.
    """
    own, half = _own(warm), half_full(warm, layout)
    new = make_record("CutNew", GUID, _NV_BS, b"new" * 250)
    yield _planned("set", half, lambda nvram: _set_target(nvram))
    moved = replace(_head()[0], data=b"moved" * 50, data_size=250)

    def rewrite(nvram: Nvram) -> None:
        live = [item for item in nvram.store.live if item.key not in (TARGET, GONE)]
        replace_records(nvram, [moved, *live, new])

    yield _planned("rewrite", half, rewrite)
    end = store_of(half).end
    dirty = half[: end - 8] + bytes(4) + half[end - 4 :]
    yield _planned("rewrite, bytes behind the last record", dirty, rewrite)
    used = sum(len(item.build()) for item in (*_head(), *own))
    full = with_records(warm, [*_head(), *own, *_filled(_room(layout) - used, layout)])
    yield _planned("set in a full store", full, lambda nvram: _set_target(nvram))


def half_full(warm: bytes, layout: KnownLayout) -> bytes:
    """A store with the firmware's own variables and many others; every third one is dead."""
    return with_records(warm, [*_head(), *_own(warm), *_some(_room(layout) // 2, layout)])


def reclaim_start(warm: bytes, layout: KnownLayout) -> bytes:
    """A store that the firmware reclaims at its next boot: there is no room for its records."""
    records = [*_head(), *_own(warm), *_some(_room(layout) // 4, layout)]
    used = sum(len(item.build()) for item in records)
    most = 0x1800
    while (left := _room(layout) - used - _ALMOST_FULL) > most // 8:
        dead = make_record("CutDead", GUID, _NV_BS, b"x" * (min(left, most) - 80),
                           state=State.DELETED_AFTER_TRANSITION)  # fmt: skip
        records.append(dead)
        used += len(dead.build())
    return with_records(warm, records)


def own_changes(board: Board, warm: bytes) -> tuple[Change, Change]:
    """What the firmware does at a boot of `reclaim_start`, as recorded.

    Returns:
        What it writes before the reclaim, such as its counter of boots, and the reclaim with
        what follows.

    Raises:
        ReferenceFailed: the firmware did not reclaim the store (``reference.no-reclaim``).
    """
    start = reclaim_start(warm, board.layout)
    after = board.switch_on(start)
    found = only_store(start)
    spare, work = found.areas.spare, found.areas.work
    steps = list(fold(after.operations))
    erased = {step.address for step in steps if isinstance(step, Erase)}
    if after.outcome != "shell" or spare is None or work is None or spare.address not in erased:
        raise ReferenceFailed(
            "the firmware has not reclaimed a full store: "
            f"it came to a {after.outcome}, and erased {len(erased)} blocks",
            code="reference.no-reclaim",
        )
    first = next(index for index, step in enumerate(steps) if step.address >= work.address)
    middle = replayed(Window(start), steps[:first]).data
    sets = [variables_of(store_of(image)) for image in (start, middle, after.image)]
    return (
        Change("the firmware's own writes", start, tuple(steps[:first]), (sets[0], sets[1]),
               in_place, atomic=True),
        Change("the firmware's reclaim", middle, tuple(steps[first:]), (sets[1], sets[2]),
               FtwPhase(found.areas), atomic=True),
    )  # fmt: skip


def firmwares_order(warm: bytes, layout: KnownLayout) -> Change:
    """The same reclaim as hwflash does it in the firmware's order, with torn pages and erases."""
    start = half_full(warm, layout)
    found = only_store(start)
    change = _planned(
        "a reclaim in the firmware's order", start, lambda nvram: reclaim(nvram, order="edk2")
    )
    return replace(change, phase=FtwPhase(found.areas))


def _planned(name: str, start: bytes, change: Callable[[Nvram], object]) -> Change:
    found = only_store(start)
    nvram = Nvram(Window(start), found)
    change(nvram)
    old, new = variables_of(store_of(start)), variables_of(nvram.store)
    # What is deleted goes last and can be there next to everything new.
    kept = new | {key: value for key, value in old.items() if key == GONE}
    sets = (old, new) if kept == new else (old, kept, new)
    return Change(name, start, tuple(nvram.operations), sets, phase_by_reason)


def _set_target(nvram: Nvram) -> None:
    VariableServices(nvram).set_variable(*TARGET, _NV_BS, b"a new value" * 30)


def _own(warm: bytes) -> list[Record]:
    """The live variables of a store, as added records."""
    live = [item for item in store_of(warm).live if findable(item)]
    return [replace(item, state=int(State.ADDED)) for item in live]


def _head() -> list[Record]:
    """Variables of the first erase block that are changed, deleted, and left alone."""
    return [
        make_record(*TARGET, _NV_BS, b"old value" * 5),
        make_record(*GONE, _NV_BS, b"to be deleted"),
        make_record("CutStays", GUID, _NV_BS, b"in the first erase block"),
    ]


def _size(layout: KnownLayout) -> int:
    """Bytes of data of one variable, so that some dozens fill a store."""
    return layout.variables // 180


def _room(layout: KnownLayout) -> int:
    return layout.variables - USUAL_HEADER - STORE_HEADER.size


def _some(room: int, layout: KnownLayout) -> list[Record]:
    """Variables of many sizes that take ``room`` bytes at most, every third one dead."""
    found: list[Record] = []
    for index in range(room):
        dead = index % 3 == 2
        record = make_record(
            f"{'CutDead' if dead else 'CutLive'}{index}", GUID, _NV_BS,
            bytes([index % 251 + 1]) * (_size(layout) + index * 7 % 61),
            state=State.DELETED_AFTER_TRANSITION if dead else State.ADDED,
        )  # fmt: skip
        room -= len(record.build())
        if room < 0:
            break
        found.append(record)
    return found


def _filled(room: int, layout: KnownLayout) -> list[Record]:
    """Variables up to the last byte, dead ones among them, the last one dead."""
    found = _some(room - 0x200, layout)
    left = room - sum(len(item.build()) for item in found)
    name = "CutLast"
    bare = len(make_record(name, GUID, _NV_BS, b"").build())
    dead = make_record(name, GUID, _NV_BS, b"x" * ((left - bare) // 4 * 4),
                       state=State.DELETED_AFTER_TRANSITION)  # fmt: skip
    return [*found, dead]
