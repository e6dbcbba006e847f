"""What ``protect status`` tells: which bytes are locked, by what, and how it can be lifted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hwflash.chip.model import Chip, ProtectionStyle, RegisterBit
from hwflash.chip.protection import ProtectionState, RegisterLock, locked
from hwflash.chip.protection_choice import Locks, ranges_of, settings
from hwflash.chip.sectors import SectorMode, SectorState, commands_of
from hwflash.flash.protection import ProtectionAccess
from hwflash.jobs.lifting import pending
from hwflash.jobs.protect_journal import Change, of_chip
from hwflash.jobs.session import Session
from hwflash.units import Range, merge_ranges


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of lock that is on.

    Attributes:
        by: its name: ``BP bits``, ``DYB``, ``SPB`` and so on.
        ranges: the bytes it locks, ascending and joined.
        lift: how it can be lifted, as in `Status`.
    """

    by: str
    ranges: tuple[Range, ...]
    lift: str


#: From the easiest to the hardest.
_LIFTS: Final = ("none", "command", "wp-pin", "power-cycle", "password", "never")


@dataclass(frozen=True, slots=True)
class Status:
    """The protection of a chip.

    Attributes:
        state: what is locked.
        locks: the registers and locks it was told by.
        by: the same as values of bits, in words.
        lift: how it can be lifted: ``command``, ``wp-pin``, ``power-cycle``, ``password``,
            ``never``, the hardest where several locks are on; ``unknown`` where it is not known
            what is locked; ``none`` where nothing is.
        sources: what locks which bytes, each with how it can be lifted.
        volatile: the chip takes settings that last until the supply goes away.
        possible: every range the chip can lock; empty where each block has its own lock.
        unfinished: names of writes that lifted the protection and did not put it back.
        changes: changes of the protection that stopped half way.
    """

    state: ProtectionState
    locks: Locks
    by: str
    lift: str
    sources: tuple[Source, ...]
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
    state = locked(
        chip, locks.registers, locks.bpr, locks.individual, access.security(), locks.sectors
    )
    sources = _sources(chip, locks, state)
    told = chip.protection.style in (ProtectionStyle.BP, ProtectionStyle.BP_MIRRORED)
    possible = settings(chip, locks) if told and not state.individual else {}
    return Status(
        state=state,
        locks=locks,
        by=told_by(chip, locks),
        lift=max((item.lift for item in sources), key=_LIFTS.index, default="none")
        if state.known
        else "unknown",
        sources=sources,
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
        and _bits(goal) == _bits(now)
        and all(
            not (goal.registers.get(number, 0) ^ value) & change.lift.allow.get(number, 0)
            for number, value in now.registers.items()
        )
    )


def _bits(locks: Locks) -> tuple[tuple[Range, ...], ...]:
    return (locks.sectors.dynamic, locks.sectors.persistent) if locks.sectors is not None else ()


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
    layout, sectors = chip.protection, locks.sectors
    more = told_by_sectors(chip, sectors) if sectors is not None else ""
    if not layout.bp or (sectors is not None and sectors.exclusive):
        return more

    def value(bit: RegisterBit) -> int:
        return locks.registers[bit.register] >> bit.bit & 1

    parts = [f"BP{len(layout.bp) - 1}-BP0=" + "".join(str(value(b)) for b in layout.bp[::-1])]
    names = (("TB", layout.tb), ("SEC", layout.sec), ("CMP", layout.cmp), ("WPS", layout.wps))
    parts += [f"{name}={value(bit)}" for name, bit in names if bit is not None]
    parts += [f"SRP{place}={value(bit)}" for place, bit in enumerate(layout.srp)]
    return " ".join(parts) + (f"; {more}" if more else "")


def _sources(chip: Chip, locks: Locks, state: ProtectionState) -> tuple[Source, ...]:
    if not state.known:
        return ()
    registers = {
        RegisterLock.NONE: "command",
        RegisterLock.WP_PIN: "wp-pin",
        RegisterLock.POWER_CYCLE: "power-cycle",
        RegisterLock.PERMANENT: "never",
    }[state.register_lock]
    sectors, commands = locks.sectors, commands_of(chip)
    if sectors is None or commands is None:
        by = "block-protection register" if locks.bpr is not None else (
            "block locks" if locks.individual is not None else "BP bits"
        )  # fmt: skip
        return (Source(by, state.ranges, registers),) if state.ranges else ()
    found: list[Source] = []
    if not sectors.exclusive:
        plain = locked(chip, locks.registers).ranges
        found.append(Source("BP bits", plain, registers))
    stuck = set(sectors.held)
    dynamic, persistent = commands.names
    found += [
        Source(dynamic, _joined(at for at in sectors.dynamic if at not in stuck), "command"),
        Source(dynamic, _joined(at for at in sectors.dynamic if at in stuck), "power-cycle"),
    ]
    thaw = "password" if sectors.mode is SectorMode.PASSWORD else "power-cycle"
    found.append(
        Source(persistent, _joined(sectors.persistent), thaw if sectors.frozen else "command")
    )
    return tuple(item for item in found if item.ranges)


def _joined(places: Iterable[Range]) -> tuple[Range, ...]:
    return tuple(merge_ranges(list(places)))


def told_by_sectors(chip: Chip, sectors: SectorState) -> str:
    """The lock bits of single sectors: how many of each kind are set."""
    commands = commands_of(chip)
    if commands is None:
        return ""
    parts = [f"{commands.names[0]} of {len(sectors.dynamic)} sectors"]
    if commands.persistent is not None:
        parts.append(f"{commands.names[1]} of {len(sectors.persistent)}")
        if sectors.frozen:
            parts.append(f"{commands.names[1]} frozen")
        if sectors.mode is not SectorMode.DEFAULT:
            parts.append(f"{sectors.mode.value} mode for ever")
    return ", ".join(parts)
