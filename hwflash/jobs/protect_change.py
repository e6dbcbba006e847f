"""Carrying out a change of a chip's protection: asked, written down, sent, proven, remembered.

Whatever stops it half way, what was wanted and what was before stay on the disk
(`hwflash.jobs.protect_journal`); where the chip still answers, the error says what it holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwflash.chip.protection_choice import Locks
from hwflash.errors import (
    ChipError,
    ChipStateUnknown,
    ChipUnsupported,
    HwflashError,
    Interrupted,
    UsageError,
)
from hwflash.flash.protection import ProtectionAccess
from hwflash.jobs.lift import Lift
from hwflash.jobs.protect_journal import Change, begin, close
from hwflash.jobs.protect_status import in_words, told_by
from hwflash.jobs.remember import Facts, chip_entry, record
from hwflash.jobs.session import Session
from hwflash.progress import Reporter
from hwflash.units import Range


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change of the protection that is to be decided on.

    Attributes:
        part: name of the chip.
        before: as it is.
        after: as it would be.
        locked_before: the bytes locked now.
        locked_after: the bytes locked then.
        exact: it is exactly what was asked for.
        for_ever: it cannot be undone.
        words: what it does, for people.
    """

    part: str
    before: Locks
    after: Locks
    locked_before: tuple[Range, ...]
    locked_after: tuple[Range, ...]
    exact: bool
    for_ever: bool
    words: str


@dataclass(frozen=True, slots=True)
class ProtectOptions:
    """How to change a protection.

    Attributes:
        state: the state directory.
        volatile: until the supply goes away.
        nearest: take the nearest setting where the very one cannot be had.
        one_time: a bit that can be set once may be set.
        dry_run: stop before anything is sent.
        confirm: asked before anything is sent; False stops.
        kind: what the history calls it.
    """

    state: Path
    volatile: bool = False
    nearest: bool = False
    one_time: bool = False
    dry_run: bool = False
    confirm: Callable[[Proposal], bool] | None = None
    kind: str = "protect set"


@dataclass(frozen=True, slots=True)
class Protected:
    """What a change of the protection did.

    Attributes:
        proposal: what was decided on.
        executed: False after a dry run, and when the chip was so already.
        entry: its number in the history; None when it is not there.
        volatile: it lasts until the supply goes away.
    """

    proposal: Proposal
    executed: bool
    entry: int | None = None
    volatile: bool = False


def carry_out(
    session: Session,
    access: ProtectionAccess,
    proposal: Proposal,
    allow: Mapping[int, int],
    options: ProtectOptions,
    reporter: Reporter,
    send: Callable[[], None] | None = None,
    change: Change | None = None,
    *,
    persistent: bool = False,
) -> Protected:
    """Ask, write down, change, prove, remember.

    Args:
        session: programmer and chip.
        access: its locks.
        proposal: what is to be done.
        allow: the register bits that may change, as a mask for each register.
        options: how.
        reporter: is told how it goes.
        send: does it by one command, which cannot stop half way, instead of register writes.
        change: the unfinished change that goes on or back, if it is one.
        persistent: non-volatile lock bits of single sectors may be changed, too.

    Raises:
        ChipUnsupported: the chip has no volatile writes (``protection.no-volatile``).
        UsageError: what cannot be undone was to be volatile (``usage.protect-volatile``).
        Interrupted: not confirmed, nothing changed.
        ChipProtected: the chip does not take it, and is as it was.
        ChipStateUnknown: it stopped half way; ``change`` in its context names what was written
            down, ``holds``, ``goal`` and ``was`` say how the chip is, should be and was.
        HwflashError: it failed, and the chip was seen to be as before.
    """
    if options.volatile and not session.chip.status.volatile_enable:
        raise ChipUnsupported(
            f"{session.chip.part} has no volatile register writes",
            code="protection.no-volatile",
            part=session.chip.part,
        )
    if options.volatile and proposal.for_ever:
        raise UsageError("what cannot be undone cannot be volatile", code="usage.protect-volatile")
    nothing = proposal.before == proposal.after and send is None
    if options.dry_run or nothing:
        if nothing and change is not None and not options.dry_run:
            close(change, reporter)
        return Protected(proposal, executed=False, volatile=options.volatile)
    if options.confirm is not None and not options.confirm(proposal):
        raise Interrupted("not confirmed", code="interrupted.declined")
    story = _Story(session, options, proposal, reporter)
    written = change
    if written is None and send is None:
        lift = Lift(proposal.before, proposal.after, allow, options.volatile)
        written = begin(options.state, session, options.kind, lift, one_time=options.one_time)
    try:
        if send is not None:
            send()
        else:
            access.apply(proposal.after, allow, volatile=options.volatile, persistent=persistent)
    except HwflashError as exc:
        failed = _stopped(access, story, exc, written, new=change is None)
        if failed is exc:
            raise
        raise failed from exc
    if written is not None:
        close(written, reporter)
    return Protected(proposal, True, story.tell("ok"), options.volatile)


def _stopped(
    access: ProtectionAccess, story: _Story, exc: HwflashError, written: Change | None, *, new: bool
) -> HwflashError:
    """What a failure is, by what the chip holds now: no change, or one that stopped half way."""
    chip, proposal = story.session.chip, story.proposal
    now = None
    with suppress(HwflashError):  # the bus may be gone
        now = access.read()
    if now == proposal.before and not isinstance(exc, ChipStateUnknown):
        if new and written is not None:
            close(written, story.reporter)
        elif written is not None:
            exc.context = {"unfinished": written.name, **exc.context}
        story.tell("failed", exc)
        return exc
    story.tell("unknown", exc)
    holds = in_words(chip, now) if now is not None else "not known, the chip cannot be read"
    own = isinstance(exc, ChipStateUnknown)
    return ChipStateUnknown(
        exc.message if own else f"changing the protection stopped half way: {exc}",
        code=exc.code if own else ChipStateUnknown.code,
        **({} if own else {"cause": exc.code}),
        holds=holds,
        goal=in_words(chip, proposal.after),
        was=in_words(chip, proposal.before),
        change=written.name if written is not None else None,
        programmer=story.session.programmer.url,
    )


@dataclass(frozen=True, slots=True)
class _Story:
    """What the history is told of a change."""

    session: Session
    options: ProtectOptions
    proposal: Proposal
    reporter: Reporter
    began: float = field(default_factory=time.time)

    def tell(self, outcome: str, error: HwflashError | None = None) -> int | None:
        chip = self.session.chip
        details: dict[str, Any] = {
            "before": told_by(chip, self.proposal.before),
            "after": told_by(chip, self.proposal.after),
            "volatile": self.options.volatile,
        }
        unique_id = None
        if error is None or not isinstance(error, ChipError | ChipStateUnknown):
            try:
                unique_id = self.session.unique_id()
            except HwflashError:
                unique_id = None  # the bus is gone
        facts = Facts(self.options.kind, 0, unique_id=unique_id, details=details)
        entry = chip_entry(self.session, facts, outcome, self.began)
        return record(self.options.state, entry, self.reporter)
