"""What ``otp`` does: read, write and lock the security registers of a chip."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwflash.chip.model import OtpAccess, OtpArea
from hwflash.chip.protection_choice import Locks
from hwflash.chip.registers import masks
from hwflash.errors import (
    ChipProtected,
    ChipStateUnknown,
    ChipUnsupported,
    EnvironmentFault,
    HwflashError,
    Interrupted,
    UsageError,
)
from hwflash.flash.otp import SecurityAccess
from hwflash.flash.protection import ProtectionAccess
from hwflash.jobs.lifting import require_open, require_told
from hwflash.jobs.remember import Facts, chip_entry, record
from hwflash.jobs.session import Session
from hwflash.layout.files import write_atomically
from hwflash.progress import Reporter


@dataclass(frozen=True, slots=True)
class Register:
    """One security register.

    Attributes:
        number: 1 and up, as data sheets count them.
        area: where it is.
        data: its content.
        locked: its lock bit is set.
    """

    number: int
    area: OtpArea
    data: bytes
    locked: bool


@dataclass(frozen=True, slots=True)
class OtpOptions:
    """How to change a security register.

    Attributes:
        state: the state directory; a copy of the old content goes there.
        dry_run: stop before anything is sent.
        confirm: asked with what will happen before anything is sent; False stops.
        kind: what the history calls it.
    """

    state: Path
    dry_run: bool = False
    confirm: Callable[[str], bool] | None = None
    kind: str = "otp write"


@dataclass(frozen=True, slots=True)
class OtpResult:
    """What a change did.

    Attributes:
        register: as it is, or would be after a dry run.
        executed: False after a dry run, and when there was nothing to do.
        backup: file with the old content, or None.
        entry: its number in the history.
    """

    register: Register
    executed: bool
    backup: Path | None = None
    entry: int | None = None


def read_registers(session: Session) -> tuple[Register, ...]:
    """Every security register of the chip.

    Raises:
        ChipUnsupported: it has none that can be read (``otp.none``), or parts with the same id
            have others (``otp.twins``).
        BusUnstable: two reads differ.
    """
    chip = session.chip
    if not chip.otp:
        raise ChipUnsupported(
            f"no security registers of {chip.part} are known", code="otp.none", part=chip.part
        )
    for twin in session.identity.resolved.twins:
        if (twin.otp, twin.otp_access) != (chip.otp, chip.otp_access):
            raise ChipUnsupported(
                f"the chip is a {chip.part} or a {twin.part}, which have other security registers",
                code="otp.twins",
                parts=[chip.part, twin.part],
            )
    registers = ProtectionAccess(session.flash).registers()
    access = SecurityAccess(session.flash)
    return tuple(
        Register(
            number,
            area,
            access.read(area),
            access.locked(area, registers),
        )
        for number, area in enumerate(chip.otp, 1)
    )


def write_register(
    session: Session, number: int, at: int, data: bytes, options: OtpOptions, reporter: Reporter
) -> OtpResult:
    """Write bytes into a security register; the others in it stay.

    Raises:
        UsageError: no such register, or the bytes do not fit (``usage.otp``).
        ChipProtected: it is locked (``otp.locked``), or bits would have to be set where none can
            be set again (``otp.one-time``).
        Interrupted: not confirmed, nothing changed.
        ChipStateUnknown: it failed half way, or reads other than written.
    """
    session.require_writable()
    old = _register(session, number)
    if not data or at < 0 or at + len(data) > old.area.size:
        raise UsageError(
            f"{len(data)} bytes at {at} do not fit into security register {number} of "
            f"{old.area.size} bytes",
            code="usage.otp",
            size=old.area.size,
        )
    if old.locked:
        raise ChipProtected(f"security register {number} is locked for ever", code="otp.locked")
    new = old.data[:at] + data + old.data[at + len(data) :]
    after = Register(number, old.area, new, locked=False)
    erases = any(b & ~a & 0xFF for a, b in zip(old.data, new, strict=True))
    once = not SecurityAccess(session.flash).erasable
    if erases and once:
        raise ChipProtected(
            f"security register {number} of {session.chip.part} can be programmed once only, and "
            "bits that are 0 there would have to be 1",
            code="otp.one-time",
            number=number,
        )
    if new == old.data or options.dry_run:
        return OtpResult(after, executed=False)
    words = f"security register {number} will be {'erased and ' if erases else ''}written" + (
        "; what is written there can NEVER be erased" if once else ""
    )
    if options.confirm is not None and not options.confirm(words):
        raise Interrupted("not confirmed", code="interrupted.declined")
    backup = _back_up(session, old, options.state)
    reporter.info(f"backup: {backup}", backup=str(backup))
    began, access = time.time(), SecurityAccess(session.flash)
    try:
        if erases:
            access.erase(old.area)
        access.program(old.area, new)
        if access.read(old.area) != new:
            raise ChipStateUnknown(
                f"security register {number} does not hold what was written",
                code="chip.verify-failed",
                address=old.area.address,
            )
    except HwflashError as exc:
        _tell(session, options, began, "unknown", number, reporter)
        if isinstance(exc, ChipStateUnknown):
            raise
        raise ChipStateUnknown(
            f"writing security register {number} stopped half way: {exc}; its old content is in "
            f"{backup}",
            cause=exc.code,
        ) from exc
    entry = _tell(session, options, began, "ok", number, reporter)
    return OtpResult(after, True, backup, entry)


def lock_register(
    session: Session, number: int, options: OtpOptions, reporter: Reporter
) -> OtpResult:
    """Lock a security register for ever.

    Raises:
        UsageError: no such register (``usage.otp``).
        ChipUnsupported: it has no lock bit (``otp.no-lock``).
        ChipProtected: the status registers are locked.
        Interrupted: not confirmed, nothing changed.
        ChipStateUnknown: it failed half way.
    """
    session.require_writable()
    found = _register(session, number)
    bit, own = found.area.lock, session.chip.otp_access is not OtpAccess.SECURITY
    if bit is None and not own:
        raise ChipUnsupported(
            f"how security register {number} of {session.chip.part} is locked is not known",
            code="otp.no-lock",
            part=session.chip.part,
        )
    after = Register(number, found.area, found.data, locked=True)
    if found.locked or options.dry_run:
        return OtpResult(after, executed=False)
    if not own:
        require_told(session)
        require_open(session, ProtectionAccess(session.flash).read())
    if options.confirm is not None and not options.confirm(
        f"security register {number} of {session.chip.part} can NEVER be changed again"
    ):
        raise Interrupted("not confirmed", code="interrupted.declined")
    began = time.time()
    try:
        _lock(session, found.area)
    except ChipProtected:
        _tell(session, options, began, "failed", number, reporter)
        raise
    except HwflashError as exc:
        _tell(session, options, began, "unknown", number, reporter)
        if isinstance(exc, ChipStateUnknown):
            raise
        raise ChipStateUnknown(
            f"locking security register {number} stopped half way: {exc}", cause=exc.code
        ) from exc
    return OtpResult(after, True, entry=_tell(session, options, began, "ok", number, reporter))


def _lock(session: Session, area: OtpArea) -> None:
    """Lock an area, and prove it.

    Raises:
        ChipProtected: the chip does not take it, and is as it was.
    """
    access = ProtectionAccess(session.flash)
    registers = access.registers()
    if area.lock is not None:
        mask = masks([area.lock])
        access.apply(Locks({n: value | mask.get(n, 0) for n, value in registers.items()}), mask)
        return
    own = SecurityAccess(session.flash)
    own.lock(area)
    if not own.locked(area, registers):
        raise ChipProtected(
            f"the chip did not lock its area at 0x{area.address:X}", code="protection.refused"
        )


def _register(session: Session, number: int) -> Register:
    found = read_registers(session)
    if not 1 <= number <= len(found):
        raise UsageError(
            f"{session.chip.part} has security registers 1 to {len(found)}, not {number}",
            code="usage.otp",
            number=number,
        )
    return found[number - 1]


def _back_up(session: Session, old: Register, state: Path) -> Path:
    digest = hashlib.sha256(old.data).hexdigest()[:16]
    part = session.chip.part.lower()
    path = state / "backups" / f"{part}-otp{old.number}-{digest}.otp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, old.data)
    except OSError as exc:
        raise EnvironmentFault(
            f"{path} cannot be written: {exc.strerror}", code="backup", path=str(path)
        ) from exc
    return path


def _tell(
    session: Session, options: OtpOptions, began: float, outcome: str, number: int,
    reporter: Reporter,
) -> int | None:  # fmt: skip
    details: dict[str, Any] = {"register": number}
    unique_id = session.unique_id() if outcome == "ok" else None
    facts = Facts(options.kind, 0, unique_id=unique_id, details=details)
    return record(options.state, chip_entry(session, facts, outcome, began), reporter)
