"""What ``protect status`` tells: which bytes are locked, by what, and how it can be lifted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwflash.chip.model import Chip, ProtectionStyle, RegisterBit
from hwflash.chip.protection import ProtectionState, RegisterLock, locked
from hwflash.chip.protection_choice import Locks, ranges_of, settings
from hwflash.flash.protection import ProtectionAccess
from hwflash.jobs.lifting import pending
from hwflash.jobs.protect_journal import Change, of_chip
from hwflash.jobs.session import Session
from hwflash.units import Range


@dataclass(frozen=True, slots=True)
class Status:
    """The protection of a chip.

    Attributes:
        state: what is locked.
        locks: the registers and locks it was told by.
        by: the same as values of bits, in words.
        lift: how it can be lifted: ``command``, ``wp-pin``, ``power-cycle``, ``never``;
            ``unknown`` where it is not known what is locked; ``none`` where nothing is.
        volatile: the chip takes settings that last until the supply goes away.
        possible: every range the chip can lock; empty where each block has its own lock.
        unfinished: names of writes that lifted the protection and did not put it back.
        changes: changes of the protection that stopped half way.
    """

    state: ProtectionState
    locks: Locks
    by: str
    lift: str
    volatile: bool
    possible: tuple[tuple[Range, ...], ...]
    unfinished: tuple[str, ...]
    changes: tuple[Change, ...] = ()


def status(session: Session, state_folder: Path | None = None) -> Status:
    """Read the protection of a chip.

    Raises:
        BusUnstable: two reads of a register differ.
    """
    chip, access = session.chip, ProtectionAccess(session.flash)
    locks = access.read()
    state = locked(chip, locks.registers, locks.bpr, locks.individual, access.security())
    told = chip.protection.style in (ProtectionStyle.BP, ProtectionStyle.BP_MIRRORED)
    possible = settings(chip, locks) if told and not state.individual else {}
    return Status(
        state=state,
        locks=locks,
        by=told_by(chip, locks),
        lift=_lift(state),
        volatile=chip.status.volatile_enable,
        possible=tuple(sorted(possible)),
        unfinished=tuple(item.name for item in pending(session, state_folder))
        if state_folder is not None
        else (),
        changes=tuple(of_chip(session, state_folder)) if state_folder is not None else (),
    )


def said_of(chip: Chip, change: Change, now: Locks) -> str:
    """What became of a change that stopped half way, by what the chip holds now."""
    lift = change.lift
    holds = in_words(chip, now)
    if reached(lift.during, now, change):
        holds += ", which is what was wanted"
    elif reached(lift.before, now, change):
        holds += ", which is what it was before"
    return (
        f"`{change.kind}` ({change.name}) stopped half way; the chip holds: {holds}; wanted: "
        f"{in_words(chip, lift.during)}; before: {in_words(chip, lift.before)}"
    )


def changes_keys(chip: Chip, found: Status) -> list[dict[str, str]]:
    """The changes that stopped half way, as data."""
    return [
        {
            "name": change.name,
            "command": change.kind,
            "holds": in_words(chip, found.locks),
            "wanted": in_words(chip, change.lift.during),
            "before": in_words(chip, change.lift.before),
            "state": "as-wanted"
            if reached(change.lift.during, found.locks, change)
            else "as-before"
            if reached(change.lift.before, found.locks, change)
            else "between",
        }
        for change in found.changes
    ]


def reached(goal: Locks, now: Locks, change: Change) -> bool:
    """Whether the chip holds a state, as far as the change was to touch it."""
    return (
        goal.bpr == now.bpr
        and goal.individual == now.individual
        and all(
            not (goal.registers.get(number, 0) ^ value) & change.lift.allow.get(number, 0)
            for number, value in now.registers.items()
        )
    )


def in_words(chip: Chip, locks: Locks) -> str:
    """What is locked, and by which bits."""
    places = ", ".join(map(str, ranges_of(chip, locks))) or "nothing"
    by = told_by(chip, locks)
    return f"{places} locked ({by})" if by else f"{places} locked"


def told_by(chip: Chip, locks: Locks) -> str:
    """The bits and locks that tell the protection, and their values."""
    if locks.bpr is not None:
        return f"block-protection register {locks.bpr.hex()}"
    if locks.individual is not None:
        return f"individual locks of {len(locks.individual)} blocks"
    layout = chip.protection
    if not layout.bp:
        return ""

    def value(bit: RegisterBit) -> int:
        return locks.registers[bit.register] >> bit.bit & 1

    parts = [f"BP{len(layout.bp) - 1}-BP0=" + "".join(str(value(b)) for b in layout.bp[::-1])]
    names = (("TB", layout.tb), ("SEC", layout.sec), ("CMP", layout.cmp), ("WPS", layout.wps))
    parts += [f"{name}={value(bit)}" for name, bit in names if bit is not None]
    parts += [f"SRP{place}={value(bit)}" for place, bit in enumerate(layout.srp)]
    return " ".join(parts)


def _lift(state: ProtectionState) -> str:
    if not state.known:
        return "unknown"
    if not state.ranges:
        return "none"
    return {
        RegisterLock.NONE: "command",
        RegisterLock.WP_PIN: "wp-pin",
        RegisterLock.POWER_CYCLE: "power-cycle",
        RegisterLock.PERMANENT: "never",
    }[state.register_lock]
