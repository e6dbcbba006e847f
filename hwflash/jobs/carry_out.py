"""Carrying out what was prepared: the journal begun, the chip changed, the outcome remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hwflash.errors import ChipStateUnknown, HwflashError
from hwflash.flash import journal as journals
from hwflash.flash.journal import JobRecord, Journal
from hwflash.flash.plan import Plan
from hwflash.jobs.lift import PROTECTION
from hwflash.jobs.lifting import lift_for, lifted, not_put_back
from hwflash.jobs.prepare import Job, Prepared
from hwflash.jobs.remember import FACTS, Facts, remember, told
from hwflash.uefi.flashops import Operation, dump_operations
from hwflash.units import Range, merge_ranges

#: File of a job with its operations in order.
OPERATIONS: Final = "operations.json"


def begin(
    job: Job,
    prepared: Prepared,
    facts: Facts,
    backup: Path,
    operations: Sequence[Operation] = (),
) -> Journal:
    """Start the journal: from here on the write can be resumed.

    Args:
        job: what is written where.
        prepared: the plan.
        facts: for the history; the unique id is that of the chip.
        backup: the file to which the old content went.
        operations: the plan's steps with their data, where their order matters.
    """
    lift = lift_for(job, prepared.plan.changed, checked=True)
    described = {
        "programmer": job.session.programmer.url,
        "jedec_id": job.session.chip.jedec_id.hex(),
        "unique_id": facts.unique_id,
        "backup": str(backup),
        "order": "as-listed" if operations else "any",
    }
    target = [window.new for window in prepared.windows]
    more = {FACTS: told(job, facts).dump()}
    if lift is not None:
        more[PROTECTION] = lift.dump()
    if operations:
        more[OPERATIONS] = dump_operations(operations)
    return Journal.create(job.options.state / "jobs", prepared.plan, target, described, more)


def reopen(job: Job, record: JobRecord, plan: Plan) -> Journal:
    """Go on with the journal of a write that stopped half way.

    Args:
        job: what is written where.
        record: that write.
        plan: what is left of it.

    Raises:
        ChipProtected: the protection is in the way and cannot be lifted.
        EnvironmentFault: the journal cannot be written.
    """
    lift = lift_for(job, plan.changed, record, checked=True)
    journal = Journal.reopen(record.folder, begun=record.begun, lifted=record.lifted)
    # A protection that somebody set since is not to be replaced by the one of before.
    journal.keep(PROTECTION, lift.dump() if lift is not None else None)
    return journal


def carry_out(
    job: Job, journal: Journal, backup: Path, facts: Facts, change: Callable[[], object]
) -> int | None:
    """Change the chip, and know afterwards what became of it.

    Args:
        job: what is written where.
        journal: open; closed at the end.
        backup: the way back.
        facts: for the history.
        change: carries the plan out and verifies it.

    Returns:
        The number of its entry in the history, or None when it could not be recorded.

    Raises:
        ChipStateUnknown: it failed or was stopped after the chip was touched.
        HwflashError: it failed before that.
    """
    verified = False
    try:
        with lifted(job, journal):
            change()
            verified = True
    except HwflashError as exc:
        if not (journal.begun or journal.lifted):
            raise
        if not verified:
            entry = remember(
                job, facts, "unknown", error=exc.code, backup=backup, journal=journal.name
            )
            raise _unknown(job, exc, journal, backup, entry) from exc
        failed = not_put_back(exc, journal, job.session.programmer.url, backup)
        entry = remember(
            job, facts, "unknown", error=failed.code, backup=backup, journal=journal.name
        )
        failed.context = {**failed.context, "history": entry}
        raise failed from exc
    finally:
        journal.close()
    return remember(job, facts, "ok", backup=backup, journal=journal.name)


def supersede(
    job: Job,
    journal: Journal,
    written: Sequence[Range],
    unique_id: str | None,
    *,
    ordered: bool = False,
) -> None:
    """Close older unfinished writes of this chip that this one has made pointless.

    Args:
        job: what was written where.
        journal: that of this write.
        written: what was written over in full; or, of a change of a variable store, where the
            store is: only changes of the same store are then closed.
        unique_id: that of the chip.
        ordered: it was a change of a variable store.
    """
    covered = merge_ranges(list(written))
    for record in journals.unfinished_jobs(job.options.state / "jobs"):
        same = (record.programmer, record.jedec_id, record.unique_id) == (
            job.session.programmer.url,
            job.session.chip.jedec_id.hex(),
            unique_id,
        )
        done = all(any(place.contains(item) for place in covered) for item in record.plan.changed)
        if not (same and done) or record.name == journal.name or (ordered and not record.ordered):
            continue
        try:
            older = Journal.reopen(record.folder)
            older.finish()
            older.close()
        except HwflashError as exc:  # the write itself is done and good
            job.reporter.warning(f"{record.name} could not be closed: {exc}", code=exc.code)
        else:
            job.reporter.info(f"{record.name} need not be resumed any more", job=record.name)


def _unknown(
    job: Job, exc: HwflashError, journal: Journal, backup: Path, entry: int | None
) -> ChipStateUnknown:
    """The failure, with what it takes to go on or back.

    A lost programmer also keeps block locks from being put back; that second failure hides
    the first, and is no less the end of a write that had begun.
    """
    facts = _facts(exc.context)
    message, code = exc.message, exc.code
    if not isinstance(exc, ChipStateUnknown):
        facts = {"cause": exc.code, "facts": facts}
        message, code = f"the write stopped half way: {exc}", ChipStateUnknown.code
    if journal.lifted:
        message += "; the chip's protection is still lifted"
    facts |= {
        "resume": journal.name,
        "backup": str(backup),
        "programmer": job.session.programmer.url,
        "history": entry,
    }
    return ChipStateUnknown(message, code=code, **facts)


def _facts(context: Mapping[str, object]) -> dict[str, Any]:
    return {key: value for key, value in context.items() if key != "code"}
