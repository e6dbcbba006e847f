"""Going on with a change of a variable store that stopped half way, in its own order.

What the chip holds tells how far it came. From there the operations go on as they were planned,
so that a second power cut is as harmless as the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hwflash.errors import ImageError, Interrupted
from hwflash.flash import backup as backups
from hwflash.flash.execute import read_ranges
from hwflash.flash.journal import JobRecord
from hwflash.flash.plan import Plan, Step, Window
from hwflash.jobs.carry_out import OPERATIONS, carry_out, reopen
from hwflash.jobs.lifting import lift_for
from hwflash.jobs.prepare import Job
from hwflash.jobs.remember import facts_to_resume
from hwflash.jobs.run_operations import run_operations
from hwflash.uefi.flashops import Operation, Verify, done_so_far, load_operations
from hwflash.uefi.window import Window as Content
from hwflash.units import Range


def resume_operations(job: Job, record: JobRecord) -> tuple[Plan, bool, int | None]:
    """Carry out what is left of a change.

    Args:
        job: the chip, which is the one the change began on.
        record: the change.

    Returns:
        What is left, as a plan, whether it was carried out, and the number of its entry in the
        history.

    Raises:
        ImageError: the job's files are damaged (``journal.damaged``); the chip holds what the
            change never left behind, since somebody else went on (``journal.overtaken``).
        Interrupted: not confirmed, nothing changed by this call.
        ChipStateUnknown: stopped or failed again.
    """
    session = job.session
    operations = _operations(record)
    ((place, new),) = record.target()
    content, index = _how_far(job, record, place, operations)
    left = operations[index:]
    plan = replace(record.plan, steps=_steps(record.plan, operations, index))
    if plan.steps:
        lift_for(job, plan.changed, record)
    if job.options.dry_run:
        return plan, False, None
    if plan.steps and job.options.confirm is not None and not job.options.confirm(plan):
        raise Interrupted("not confirmed", code="interrupted.declined", backup=record.backup)
    journal = reopen(job, record, plan)
    window = Window(place.address, content, new)
    entry = carry_out(
        job,
        journal,
        Path(record.backup),
        facts_to_resume(record),
        lambda: run_operations(
            session.flash, left, plan, window, journal, job.reporter, job.cancel, full=True
        ),
    )
    return plan, True, entry


def _how_far(
    job: Job, record: JobRecord, place: Range, operations: Sequence[Operation]
) -> tuple[bytes, int]:
    """What the chip holds, and the first operation that is not done."""
    old = _content_before(record, place)
    (content,) = read_ranges(
        job.session.flash, [place], phase="read", reporter=job.reporter, cancel=job.cancel
    )
    index = done_so_far(Content(old, place.address), operations, content)
    if index is None:
        raise ImageError(
            f"the store at 0x{place.address:06X} was changed since {record.name} stopped; it "
            "cannot be resumed",
            code="journal.overtaken",
            offset=place.address,
            job=record.name,
        )
    return content, index


def _operations(record: JobRecord) -> list[Operation]:
    try:
        return load_operations((record.folder / OPERATIONS).read_bytes())
    except OSError as exc:
        raise ImageError(
            f"job {record.name} cannot be resumed: {exc.strerror}",
            code="journal.damaged",
            path=str(record.folder),
        ) from exc


def _content_before(record: JobRecord, place: Range) -> bytes:
    for piece, content in backups.load(Path(record.backup)).contents():
        if piece.contains(place):
            start = place.address - piece.address
            return content[start : start + place.length]
    raise ImageError(
        f"the backup of {record.name} does not hold {place}",
        code="journal.damaged",
        path=record.backup,
    )


def _steps(plan: Plan, operations: Sequence[Operation], index: int) -> tuple[Step, ...]:
    done = sum(not isinstance(item, Verify) for item in operations[:index])
    return plan.steps[done:]
