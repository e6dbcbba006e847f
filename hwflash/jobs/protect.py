"""What ``protect`` does: show, set, clear and lock the protection of a chip.

A change is decided on from registers read twice, asked for, sent, and read back. What the chip
cannot do is refused with what it can; what cannot be undone wants more than a yes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from hwflash.chip.model import Chip, ProtectionStyle, RegisterBit
from hwflash.chip.protection_choice import Locks, choose, ranges_of
from hwflash.chip.registers import masks
from hwflash.errors import ChipProtected, UsageError
from hwflash.flash.protection import ProtectionAccess
from hwflash.flash.sector_locks import frozen
from hwflash.jobs.lifting import (
    forget_lifted,
    pending,
    range_mask,
    require_open,
    require_told,
)
from hwflash.jobs.protect_change import Proposal, Protected, ProtectOptions, carry_out
from hwflash.jobs.protect_journal import close, of_chip
from hwflash.jobs.protect_status import said_of
from hwflash.jobs.session import Session
from hwflash.progress import Reporter
from hwflash.units import Range, merge_ranges, subtract_ranges


class LockMode(StrEnum):
    """What is to keep the registers from being written."""

    NONE = "none"
    WP_PIN = "wp-pin"
    POWER_CYCLE = "power-cycle"
    PERMANENT = "permanent"


def set_protection(
    session: Session, wanted: Sequence[Range], options: ProtectOptions, reporter: Reporter
) -> Protected:
    """Lock some bytes, and no others.

    Raises:
        UsageError: the chip cannot lock exactly these (``usage.protect-range``).
        ChipProtected: its registers are locked, or non-volatile bits lock sectors outside of
            these (``protection.persistent``).
        ChipUnsupported: its protection is not known for certain.
        Interrupted: not confirmed, nothing changed.
        ChipStateUnknown: it failed half way.
    """
    access, now = begin(session)
    target = merge_ranges(list(wanted))
    _require_inside(session.chip, target)
    left = subtract_ranges(now.sectors.persistent, target) if now.sectors is not None else []
    if left:
        raise ChipProtected(
            f"{_text(left)} of {session.chip.part} is locked by non-volatile bits of sectors",
            code="protection.persistent",
            ranges=[{"address": item.address, "length": item.length} for item in left],
        )
    return _decide(session, access, now, target, "more", options, reporter)


def clear_protection(
    session: Session, freed: Sequence[Range] | None, options: ProtectOptions, reporter: Reporter
) -> Protected:
    """Unlock some bytes, or all; as `set_protection`.

    Non-volatile bits of sectors are cleared, too: all of the chip are erased, and those that are
    to stay set again.

    Raises:
        ChipProtected: also where these cannot be changed now (``protection.frozen``).
    """
    access, now = begin(session)
    _require_inside(session.chip, freed or ())
    target = [] if freed is None else subtract_ranges(ranges_of(session.chip, now), freed)
    return _decide(session, access, now, target, "less", options, reporter)


def lock_registers(
    session: Session, mode: LockMode, options: ProtectOptions, reporter: Reporter
) -> Protected:
    """Keep the registers from being written, or let them be written again.

    Raises:
        UsageError: the chip has no such lock (``usage.protect-lock``).
        ChipProtected: its registers are locked already, by more than the WP# pin; or a write
            lifted the protection and did not put it back (``protection.lifted``), or an
            earlier change stopped half way (``protection.unfinished``).
        Interrupted: not confirmed, nothing changed.
        ChipStateUnknown: it failed half way.
    """
    access, now = begin(session)
    if mode is not LockMode.NONE:
        _require_put_back(session, options.state)
    chip, srp = session.chip, session.chip.protection.srp
    down = chip.protection.style is ProtectionStyle.SST26 and mode is LockMode.POWER_CYCLE
    needed = 2 if mode in (LockMode.POWER_CYCLE, LockMode.PERMANENT) else 1
    if len(srp) < needed and not down:
        raise UsageError(
            f"{chip.part} has no lock of its registers of the kind {mode.value}",
            code="usage.protect-lock",
            part=chip.part,
            mode=mode.value,
        )
    allow: dict[int, int] = {} if down else masks(srp[:needed])
    wanted = {
        LockMode.NONE: (0,),
        LockMode.WP_PIN: (1,),
        LockMode.POWER_CYCLE: (0, 1),
        LockMode.PERMANENT: (1, 1),
    }[mode]
    registers = dict(now.registers) if down else _with(now.registers, srp, wanted)
    places = ranges_of(chip, now)
    proposal = Proposal(
        part=chip.part,
        before=now,
        after=replace(now, registers=registers),
        locked_before=places,
        locked_after=places,
        exact=True,
        for_ever=mode is LockMode.PERMANENT,
        words=_LOCK_WORDS[mode].format(part=chip.part),
    )
    send = (lambda: _lock_down(access)) if down else None
    return carry_out(session, access, proposal, allow, options, reporter, send)


# --- inside ---------------------------------------------------------------------------------

_LOCK_WORDS: Mapping[LockMode, str] = {
    LockMode.NONE: "the registers of {part} can be written again",
    LockMode.WP_PIN: "the registers of {part} cannot be written while WP# is low",
    LockMode.POWER_CYCLE: "the registers of {part} cannot be written until its supply goes away",
    LockMode.PERMANENT: "the registers of {part} can NEVER be written again, nor what is locked",
}


def begin(session: Session) -> tuple[ProtectionAccess, Locks]:
    """What a change of the protection begins with: all that can refuse it, and how it is now."""
    session.require_writable()
    require_told(session)
    access = ProtectionAccess(session.flash)
    now = access.read()
    require_open(session, now)
    return access, now


def _require_put_back(session: Session, state: Path) -> None:
    """Refuse to lock a protection that an unfinished write lifted, or a change left half way."""
    left = [record.name for record in pending(session, state) if record.unique_id is not None]
    if left:
        raise ChipProtected(
            f"{left[0]} lifted the protection of this chip and did not put it back: what would be "
            "locked is the lifted one",
            code="protection.lifted",
            unfinished=left,
        )
    stopped = [change.name for change in of_chip(session, state)]
    if stopped:
        raise ChipProtected(
            f"{stopped[0]} stopped half way, and what would be locked is what it left",
            code="protection.unfinished",
            changes=stopped,
        )


def _require_inside(chip: Chip, places: Sequence[Range]) -> None:
    for place in places:
        if place.end > chip.size or place.length <= 0:
            raise UsageError(
                f"{place} is not inside {chip.part}",
                code="usage.address",
                address=place.address,
                length=place.length,
                size=chip.size,
            )


def _decide(
    session: Session,
    access: ProtectionAccess,
    now: Locks,
    target: Sequence[Range],
    side: str,
    options: ProtectOptions,
    reporter: Reporter,
) -> Protected:
    chip = session.chip
    clears = side == "less"
    found = choose(chip, now, target, one_time=options.one_time, persistent=clears)
    near = found.more if side == "more" else found.less
    after = found.exact or (near if options.nearest else None)
    if after is None:
        raise UsageError(
            f"{chip.part} cannot lock exactly {_text(target)}",
            code="usage.protect-range",
            part=chip.part,
            more=_text(ranges_of(chip, found.more)) if found.more else None,
            less=_text(ranges_of(chip, found.less)) if found.less else None,
        )
    places = ranges_of(chip, after)
    tb = chip.protection.tb
    burns = (
        "tb-one-time" in chip.quirks
        and tb is not None
        and bool((after.registers[tb.register] ^ now.registers[tb.register]) >> tb.bit & 1)
    )
    words = (
        f"{_text(places)} of {chip.part} will be locked, and nothing else"
        if places
        else f"nothing of {chip.part} will be locked any more"
    )
    if now.sectors is not None and now.sectors.frozen and _said_of_sectors(now, after):
        raise frozen(now.sectors)
    proposal = Proposal(
        part=chip.part,
        before=now,
        after=after,
        locked_before=ranges_of(chip, now),
        locked_after=places,
        exact=found.exact is not None,
        for_ever=burns,
        words=words
        + _said_of_sectors(now, after)
        + ("; TB is a bit that can NEVER be cleared again" if burns else ""),
    )
    mask = range_mask(session, one_time=options.one_time)
    left = of_chip(session, options.state)
    for change in left:
        reporter.warning(said_of(session.chip, change, now), change=change.name)
    done = carry_out(session, access, proposal, mask, options, reporter, persistent=clears)
    if not options.dry_run:  # which range is to be locked was said anew
        forget_lifted(session, options.state)
        for change in left:
            close(change, reporter)
    return done


def _said_of_sectors(now: Locks, after: Locks) -> str:
    if now.sectors is None or after.sectors is None:
        return ""
    if now.sectors.persistent == after.sectors.persistent:
        return ""
    kept = len(after.sectors.persistent)
    return "; the non-volatile lock bits of all sectors will be erased" + (
        f" and {kept} of them set again" if kept else ""
    )


def _lock_down(access: ProtectionAccess) -> None:
    access.lock_down()
    if not access.registers()[1] & 0x10:
        raise ChipProtected(
            "the chip did not lock its block-protection register", code="protection.refused"
        )


def _with(
    registers: Mapping[int, int], bits: Sequence[RegisterBit], values: Sequence[int]
) -> dict[int, int]:
    found = dict(registers)
    for bit, value in zip(bits, values, strict=False):
        found[bit.register] = found[bit.register] & ~(1 << bit.bit) | value << bit.bit
    return found


def _text(places: Sequence[Range]) -> str:
    return ", ".join(map(str, places)) or "nothing"
