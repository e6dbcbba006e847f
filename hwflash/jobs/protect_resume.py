"""Finishing or taking back a change of the protection that stopped half way.

What is on the disk is no authority on which bits may change: some can be set only once. It says
where to go; the chip that is there says what may be sent to it.
"""

from __future__ import annotations

from dataclasses import replace

from hwflash.chip.model import ProtectionStyle
from hwflash.chip.protection import RegisterLock, locked, sst26_bpr_length
from hwflash.chip.protection_choice import Locks, ranges_of
from hwflash.chip.registers import masks, merged, one_time_bits
from hwflash.chip.sectors import SectorState
from hwflash.errors import ChipError, ChipProtected, ImageError, UsageError
from hwflash.flash.protection import ProtectionAccess
from hwflash.jobs.lifting import range_mask, require_open, require_told
from hwflash.jobs.protect_change import Proposal, Protected, ProtectOptions, carry_out
from hwflash.jobs.protect_journal import Change, damaged, of_chip, unfinished
from hwflash.jobs.protect_status import reached, said_of
from hwflash.jobs.session import Session
from hwflash.progress import Reporter


def end_change(
    session: Session, name: str | None, options: ProtectOptions, reporter: Reporter, *, back: bool
) -> Protected:
    """Bring a change that stopped half way to its end, or the chip back to what it was before.

    Args:
        session: programmer and chip.
        name: of the change; None: the only one of this chip.
        options: how.
        reporter: is told what the chip holds, what was wanted, what it was.
        back: take the change back instead of finishing it.

    Raises:
        UsageError: no such change, or several (``usage.change``).
        ChipError: it was begun on another chip (``journal.other-chip``).
        ImageError: what is on the disk is damaged, or not of this part (``journal.damaged``).
        ChipProtected: the registers are locked, or a bit that can be set only once cannot be
            taken back (``protection.one-time``).
        Interrupted: not confirmed, nothing changed by this call.
        ChipStateUnknown: it stopped half way again.
    """
    session.require_writable()
    require_told(session)
    change = _find(session, name, options)
    access = ProtectionAccess(session.flash)
    now = access.read()
    _require_same(session, change, now)
    reporter.info(said_of(session.chip, change, now), change=change.name)
    goal = change.lift.before if back else change.lift.during
    allow = _allowed(session, change)
    registers = merged(now.registers, goal.registers, allow)
    clears = change.kind == "protect clear"
    after = replace(goal, registers=registers, sectors=_sectors(now, goal, persistent=clears))
    if after != now:  # else only the folder is left to be closed
        require_open(session, now)
        _require_possible(session, now, after)
    chip = session.chip
    state = locked(chip, registers, after.bpr, after.individual, sectors=after.sectors)
    lock = state.register_lock
    proposal = Proposal(
        part=chip.part,
        before=now,
        after=after,
        locked_before=ranges_of(chip, now),
        locked_after=ranges_of(chip, after),
        exact=True,
        for_ever=lock is RegisterLock.PERMANENT or _burns(session, now, after),
        words=f"{change.name} will be {'taken back' if back else 'finished'}",
    )
    how = replace(options, volatile=change.lift.volatile, one_time=change.one_time)
    return carry_out(
        session, access, proposal, allow, how, reporter, change=change, persistent=clears
    )


def _find(session: Session, name: str | None, options: ProtectOptions) -> Change:
    every = unfinished(options.state)
    if name is not None:
        found = [change for change in every if change.name == name]
        if not found and name in damaged(options.state):
            raise ImageError(
                f"change {name} of a protection is damaged", code="journal.damaged", change=name
            )
    else:
        found = of_chip(session, options.state)
    names = [change.name for change in every]
    if not found:
        what = f"no unfinished change {name}" if name else "no unfinished change of this chip"
        raise UsageError(f"there is {what}", code="usage.change", changes=names)
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} changes stopped half way; say which", code="usage.change", changes=names
        )
    return found[0]


def _require_same(session: Session, change: Change, now: Locks) -> None:
    """Refuse another chip, and one that was set otherwise since, where that may be another."""
    chip = session.chip
    found = (chip.jedec_id.hex(), session.unique_id())
    if found != (change.jedec_id, change.unique_id):
        raise ChipError(
            f"{change.name} began on another chip: {change.jedec_id} {change.unique_id or ''}, "
            f"found {found[0]} {found[1] or ''}",
            code="journal.other-chip",
            expected={"jedec_id": change.jedec_id, "unique_id": change.unique_id},
            found={"jedec_id": found[0], "unique_id": found[1]},
        )
    before, wanted = change.lift.before, change.lift.during
    length = sst26_bpr_length(chip.size) if chip.protection.style is ProtectionStyle.SST26 else 0
    for state in (before, wanted):
        if set(state.registers) != set(chip.status.read) or len(state.bpr or b"") != length:
            raise ImageError(
                f"{change.name} is not a change of the protection of {chip.part}",
                code="journal.damaged",
                change=change.name,
            )
    if change.unique_id is not None or reached(wanted, now, change) or reached(before, now, change):
        return
    # Only bits that differ between the two were written: others tell of another chip.
    for number, value in now.registers.items():
        stays = ~(before.registers[number] ^ wanted.registers[number])
        if (value ^ before.registers[number]) & stays & change.lift.allow.get(number, 0):
            raise ChipError(
                f"the protection was set since {change.name} stopped, or this is another chip: "
                f"{said_of(chip, change, now)}",
                code="journal.other-chip",
                change=change.name,
            )


def _sectors(now: Locks, goal: Locks, *, persistent: bool) -> SectorState | None:
    if now.sectors is None or goal.sectors is None:
        return now.sectors
    return replace(
        now.sectors,
        dynamic=goal.sectors.dynamic,
        persistent=goal.sectors.persistent if persistent else now.sectors.persistent,
    )


def _allowed(session: Session, change: Change) -> dict[int, int]:
    """The bits a change of its kind may touch, and no others, whatever the file says."""
    allow = range_mask(session, one_time=change.one_time)
    if change.kind == "protect lock":
        allow = masks(session.chip.protection.srp)
    return {
        number: mask & change.lift.allow.get(number, 0)
        for number, mask in allow.items()
        if number in session.chip.status.read
    }


def _burns(session: Session, now: Locks, after: Locks) -> bool:
    """Whether a bit that can be set only once would be set; SRP1 by itself ends with the supply."""
    once = _once(session)
    return any(
        value & ~now.registers[number] & once.get(number, 0)
        for number, value in after.registers.items()
    )


def _require_possible(session: Session, now: Locks, after: Locks) -> None:
    once = _once(session)
    left = {
        number: found
        for number, value in now.registers.items()
        if (found := value & ~after.registers[number] & once.get(number, 0))
    }
    if left:
        raise ChipProtected(
            "a bit that can be set only once was set by then and stays: "
            + ", ".join(f"SR{number} {mask:02X}h" for number, mask in left.items()),
            code="protection.one-time",
            bits={str(number): mask for number, mask in left.items()},
        )


def _once(session: Session) -> dict[int, int]:
    srp = masks(session.chip.protection.srp)
    return {
        number: mask & ~srp.get(number, 0) for number, mask in one_time_bits(session.chip).items()
    }
