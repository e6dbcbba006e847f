"""Lifting a chip's protection for the time of a write, and putting it back whatever happens.

What is to be put back is on the disk, in the folder of the job, before the chip is touched, and
the journal says when it was lifted and when it was back: after a pulled cable, a power cut or a
killed process ``write --resume`` puts it back, and so does any later write to the same chip.
Where the chip takes volatile register writes (50h) these are used: a power cut then brings the
protection back by itself.

Only as much is lifted as the write needs and the chip can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwflash.chip.model import ProtectionStyle
from hwflash.chip.protection import RegisterLock, locked, sst26_bpr_length
from hwflash.chip.protection_choice import Locks, choose, protection_bits, ranges_of
from hwflash.chip.registers import masks
from hwflash.chip.sectors import overlapping
from hwflash.errors import (
    ChipProtected,
    ChipStateUnknown,
    ChipUnsupported,
    HwflashError,
    ImageError,
    Interrupted,
)
from hwflash.flash import journal as journals
from hwflash.flash.journal import JobRecord, Journal
from hwflash.flash.protection import VOLATILE_REFUSED, ProtectionAccess
from hwflash.flash.sector_locks import held
from hwflash.jobs.lift import PROTECTION, Lift, load_lift
from hwflash.jobs.protect_journal import of_chip
from hwflash.jobs.session import Session
from hwflash.units import Range, merge_ranges, subtract_ranges

if TYPE_CHECKING:
    from hwflash.jobs.prepare import Job


def lift_for(
    job: Job,
    changed: Sequence[Range],
    record: JobRecord | None = None,
    *,
    checked: bool = False,
) -> Lift | None:
    """What a write has to lift.

    Args:
        job: what is written where.
        changed: what it changes.
        record: the unfinished write that goes on, if it is one.
        checked: it was asked before whether something is in the way.

    Returns:
        None when nothing is in the way and nothing is to be put back.

    Raises:
        ChipProtected: something is in the way, and lifting was not asked for (``chip.protected``)
            or is not possible now (``protection.register-locked``).
        ChipUnsupported: twins of the chip keep their protection elsewhere
            (``protection.twins``).
        BusUnstable: two reads of the registers differ.
    """
    session = job.session
    if not checked:
        for change in of_chip(session, job.options.state):
            job.reporter.warning(
                f"`{change.kind}` stopped half way on this chip: `hwflash protect status` says "
                "what it holds",
                change=change.name,
            )
    left = _left_lifted(job, record)
    own = record is not None and (record.folder / PROTECTION).exists()
    volatile_locks = session.chip.locked_at_power_up
    if not (job.options.lift_protection or own or volatile_locks):
        if not checked:
            session.require_unlocked(list(changed))
        if left is None:
            return None
    require_told(session)
    now = ProtectionAccess(session.flash).read()
    aligned = merge_ranges([session.flash.geometry.align(item) for item in changed])
    before = left.before if left is not None else now
    if not any(place.overlaps(item) for place in ranges_of(session.chip, now) for item in aligned):
        if left is None:
            return None
        return replace(left, during=now)  # nothing to lift, something to put back
    require_open(session, now)
    _require_liftable(now, aligned)
    wanted = subtract_ranges(ranges_of(session.chip, before), aligned)
    during = choose(session.chip, before, wanted).less
    if during is None:
        raise AssertionError("no setting locks nothing")
    if not checked:
        kept = ", ".join(map(str, ranges_of(session.chip, during))) or "nothing"
        job.reporter.info(f"the chip's protection is in the way; during the write {kept} is locked")
    return Lift(before, during, range_mask(session), session.chip.status.volatile_enable)


def _require_liftable(now: Locks, places: Sequence[Range]) -> None:
    """Refuse what a lift cannot undo for a while and put back exactly.

    Raises:
        ChipProtected: non-volatile bits of sectors are in the way (``protection.persistent``), or
            volatile ones that cannot be changed before the supply was off (``protection.held``).
    """
    if now.sectors is None:
        return
    lasting = overlapping(now.sectors.persistent, places)
    if lasting:
        raise ChipProtected(
            f"{', '.join(map(str, lasting[:4]))} is locked by non-volatile bits, which only can be "
            "cleared for the whole chip at once",
            code="protection.persistent",
            ranges=[{"address": item.address, "length": item.length} for item in lasting],
        )
    stuck = [
        sector for sector in overlapping(now.sectors.held, places) if sector in now.sectors.dynamic
    ]
    if stuck:
        raise held(stuck)


def require_told(session: Session) -> None:
    """Refuse to change a protection that is not known for certain.

    Raises:
        ChipUnsupported: it is not described (``protection.unknown``), or parts with the same id
            keep it elsewhere (``protection.twins``).
    """
    chip = session.chip
    if chip.protection.style is ProtectionStyle.NONE:
        raise ChipUnsupported(
            f"the protection of {chip.part} is not known",
            code="protection.unknown",
            part=chip.part,
        )
    for twin in session.identity.resolved.twins:
        if (twin.protection, twin.status) != (chip.protection, chip.status):
            raise ChipUnsupported(
                f"the chip is a {chip.part} or a {twin.part}, which keep their protection in "
                "different bits",
                code="protection.twins",
                parts=[chip.part, twin.part],
            )


def require_open(session: Session, now: Locks) -> None:
    """Refuse to change a protection whose registers are locked, before anything is sent.

    Raises:
        ChipProtected: they are, until the power is removed or for ever
            (``protection.register-locked``); or WPSEL is set.
    """
    security = ProtectionAccess(session.flash).security()
    state = locked(session.chip, now.registers, now.bpr, now.individual, security, now.sectors)
    if not state.known:
        raise ChipProtected(state.summary, code="protection.individual", summary=state.summary)
    if state.register_lock in (RegisterLock.POWER_CYCLE, RegisterLock.PERMANENT):
        raise ChipProtected(
            f"the protection of {session.chip.part} cannot be changed now: {state.summary}",
            code="protection.register-locked",
            register_lock=state.register_lock.value,
            summary=state.summary,
        )


def range_mask(session: Session, *, one_time: bool = False) -> dict[int, int]:
    """The register bits that say which range is locked, without one that can be set only once."""
    bits = protection_bits(session.chip)
    if "tb-one-time" in session.chip.quirks and not one_time:
        bits = tuple(bit for bit in bits if bit != session.chip.protection.tb)
    return masks(bits)


@contextmanager
def lifted(job: Job, journal: Journal) -> Generator[None]:
    """Lift what the job's folder says, and put it back at the end.

    Raises:
        ChipProtected: the chip does not let its protection be lifted; it is as it was.
        HwflashError: it could not be put back; ``journal.lifted`` is then still true.
    """
    lift = load_lift(journal.folder)
    if lift is None:
        yield
        return
    access = ProtectionAccess(job.session.flash)
    journal.lift()
    try:
        lift = _lift_now(job, journal, access, lift)
        yield
    except BaseException:
        # What went wrong first says whether the chip was touched; a programmer that is lost
        # keeps the protection from being put back too, and must not hide it.
        with suppress(HwflashError):
            _put_back(job, journal, access, lift)
        raise
    _put_back(job, journal, access, lift)


def _lift_now(job: Job, journal: Journal, access: ProtectionAccess, lift: Lift) -> Lift:
    """Lift, by lasting register writes where the chip does not take volatile ones (50h).

    Returns:
        How it was lifted. The folder says the same before a lasting write is sent: a power cut
        does not bring that protection back.
    """
    try:
        access.apply(lift.during, lift.allow, volatile=lift.volatile)
        return lift
    except ChipProtected as exc:
        if exc.code != VOLATILE_REFUSED or not job.session.chip.status.lasting_instead:
            raise
    job.reporter.warning(
        "the chip does not take volatile register writes (50h); its protection is lifted by "
        "lasting ones, which a power cut does not undo",
        code=VOLATILE_REFUSED,
    )
    lasting = replace(lift, volatile=False)
    journal.keep(PROTECTION, lasting.dump())
    access.apply(lasting.during, lasting.allow)
    return lasting


def _put_back(job: Job, journal: Journal, access: ProtectionAccess, lift: Lift) -> None:
    job.session.flash.sync()
    access.apply(lift.before, lift.allow, volatile=lift.volatile)
    journal.put_back()
    job.reporter.info("the chip's protection is as it was")
    forget_lifted(job.session, job.options.state, but=journal.name)


def pending(session: Session, state: Path) -> list[JobRecord]:
    """Unfinished writes that lifted the protection of this chip and did not put it back."""
    jedec_id = session.chip.jedec_id.hex()
    found = [
        record
        for record in journals.unfinished_jobs(state / "jobs")
        if record.lifted and record.jedec_id == jedec_id
    ]
    if not found:
        return []
    unique_id, url = session.unique_id(), session.programmer.url
    return [
        record
        for record in found
        if record.unique_id == unique_id and (unique_id is not None or record.programmer == url)
    ]


def _left_lifted(job: Job, record: JobRecord | None) -> Lift | None:
    """What an earlier write, or the one that goes on, is still to put back."""
    found = pending(job.session, job.options.state)  # the oldest knows how it was at first
    if record is not None and record.lifted and all(item.name != record.name for item in found):
        found.append(record)  # a chip without unique id, on another programmer than then
    for item in found:
        mine = record is not None and item.name == record.name
        if item.unique_id is None and not mine:
            # It may be another chip of the same kind, whose protection is its own affair.
            job.reporter.warning(
                f"{item.name} lifted the protection of a chip like this one and did not put it "
                f"back: `hwflash write --resume {item.name}`",
                job=item.name,
            )
            continue
        if not mine:
            job.reporter.warning(
                f"{item.name} lifted the protection of this chip and did not put it back; this "
                "write will",
                job=item.name,
            )
        lift = load_lift(item.folder)
        if lift is None:
            raise ImageError(
                f"job {item.name}: what it lifted of the chip's protection is not there any more",
                code="journal.damaged",
                path=str(item.folder / PROTECTION),
            )
        fitting = _fitting(lift, item, job.session)
        return fitting if item.unique_id is not None else _unless_set_since(fitting, item, job)
    return None


def _unless_set_since(lift: Lift, record: JobRecord, job: Job) -> Lift:
    """What a chip without unique id is to get back: its own setting, where the write cannot have
    left it so. Somebody set it since, or it is another chip.
    """
    now = ProtectionAccess(job.session.flash).read()
    for number, mask in lift.allow.items():
        known = {state.registers.get(number, 0) & mask for state in (lift.before, lift.during)}
        if now.registers[number] & mask not in known:
            was = ", ".join(map(str, ranges_of(job.session.chip, lift.before))) or "nothing"
            job.reporter.warning(
                f"the chip's protection was set since {record.name} stopped, or it is another "
                f"chip: it stays as it is; at that time {was} was locked",
                job=record.name,
            )
            return replace(lift, before=now, during=now)
    return lift


def _fitting(lift: Lift, record: JobRecord, session: Session) -> Lift:
    """What a file says, as far as it may be sent to the chip that is there.

    The file is no authority on which bits may change: some can be set only once.
    """
    chip, before = session.chip, lift.before
    length = sst26_bpr_length(chip.size) if chip.protection.style is ProtectionStyle.SST26 else 0
    if set(before.registers) != set(chip.status.read) or len(before.bpr or b"") != length:
        raise ImageError(
            f"job {record.name}: the protection it lifted is not one of {chip.part}",
            code="journal.damaged",
            path=str(record.folder / PROTECTION),
        )
    return replace(lift, allow=range_mask(session))


def put_back_left(job: Job, agreed: Callable[[], bool]) -> None:
    """Put back what an earlier write left lifted, where this one has nothing to change.

    Args:
        job: the write.
        agreed: asked before anything is sent; False stops.

    Raises:
        Interrupted: not agreed, nothing changed.
        ChipStateUnknown: it could not be put back (``protection.not-restored``).
    """
    lift = _left_lifted(job, None)
    if lift is None:
        return
    if not agreed():
        raise Interrupted("not confirmed", code="interrupted.declined")
    try:
        require_told(job.session)
        ProtectionAccess(job.session.flash).apply(lift.before, lift.allow, volatile=lift.volatile)
    except HwflashError as exc:
        raise ChipStateUnknown(
            f"nothing had to be written, but the protection was not put back: {exc}",
            code="protection.not-restored",
            cause=exc.code,
            programmer=job.session.programmer.url,
        ) from exc
    forget_lifted(job.session, job.options.state)
    job.reporter.info("the chip's protection is as it was")


def forget_lifted(session: Session, state: Path, but: str | None = None) -> None:
    """What older writes had lifted is back, or is not to come back any more.

    Args:
        session: the chip.
        state: the state directory.
        but: name of a write that speaks for itself.
    """
    for record in pending(session, state):
        if record.name == but or record.unique_id is None:
            continue
        with suppress(HwflashError):
            older = Journal.reopen(record.folder, begun=record.begun, lifted=True)
            older.put_back()
            older.close()


def not_put_back(
    exc: HwflashError, journal: Journal, programmer: str, backup: Path
) -> ChipStateUnknown:
    """The failure of a write that is done and verified, but left the protection lifted."""
    return ChipStateUnknown(
        f"written and verified, but the protection was not put back: {exc}",
        code="protection.not-restored",
        cause=exc.code,
        resume=journal.name,
        backup=str(backup),
        programmer=programmer,
    )
