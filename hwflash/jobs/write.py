"""Writing: check, read, plan, back up, confirm, execute with a journal, verify.

Nothing is sent to the chip that could change it before everything that can be known and saved
is known and saved. Erasing is writing FF.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from hwflash.errors import (
    BusUnstable,
    ChipError,
    HwflashError,
    Interrupted,
    UsageError,
)
from hwflash.flash import backup as backups
from hwflash.flash import journal as journals
from hwflash.flash.execute import Executor, read_ranges
from hwflash.flash.journal import JobRecord, Journal
from hwflash.flash.plan import Plan, Window, content_hash, make_plan
from hwflash.jobs.carry_out import begin, carry_out, reopen, supersede
from hwflash.jobs.known import first_stranger, from_journal, require_written, spot_check
from hwflash.jobs.lifting import lift_for, put_back_left
from hwflash.jobs.prepare import (
    Job,
    WriteOptions,
    kept_ranges,
    prepare,
    read_again,
    save_what_was_read,
)
from hwflash.jobs.regions import EVERY
from hwflash.jobs.remember import (
    Facts,
    facts_to_resume,
    ranges_detail,
    remember,
    remembering,
)
from hwflash.jobs.session import Session
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, Reporter
from hwflash.units import Range, merge_ranges

__all__ = [
    "WriteOptions",
    "WriteResult",
    "restore_targets",
    "resume",
    "still_half_written",
    "unfinished",
    "write",
]


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write did.

    Attributes:
        plan: what was planned.
        executed: False after a dry run, and when nothing differed.
        bytes: bytes the image covers.
        sha256: hash of the image's bytes.
        changed: what was touched on the chip.
        mismatches: what verified wrong at first and was written again.
        backup: path of the backup, or None when none was needed.
        seconds: time of the whole job.
        entry: its number in the history; None when it is not there.
    """

    plan: Plan
    executed: bool
    bytes: int
    sha256: str
    changed: tuple[Range, ...] = ()
    mismatches: tuple[Range, ...] = ()
    backup: Path | None = None
    seconds: float = 0.0
    entry: int | None = None


def write(
    session: Session,
    targets: Sequence[Segment],
    options: WriteOptions,
    reporter: Reporter,
    cancel: CancelToken,
) -> WriteResult:
    """Bring targets onto the chip; every byte outside of them stays.

    Args:
        session: programmer and chip.
        targets: what should stand where; must not overlap.
        options: how.
        reporter: is told how it goes.
        cancel: a request to stop.

    Raises:
        UsageError: a target outside the chip, or two that overlap.
        ChipProtected: the chip's protection covers bytes to be changed.
        BusUnstable: two reads of what is to be changed differ.
        EnvironmentFault: backup or journal cannot be written.
        Interrupted: stopped or not confirmed, nothing changed.
        ChipStateUnknown: stopped or failed after the chip was touched.
    """
    job = Job(session, options, reporter, cancel)
    with remembering(job):
        return _write(job, targets)


def _write(job: Job, targets: Sequence[Segment]) -> WriteResult:
    session, options = job.session, job.options
    prepared = prepare(job, targets)
    plan, backup = prepared.plan, prepared.backup
    result = WriteResult(
        plan,
        executed=False,
        bytes=sum(target.range.length for target in targets),
        sha256=content_hash([target.data for target in targets]),
        seconds=session.seconds,
    )
    places = [target.range for target in targets]
    facts = Facts(
        options.kind,
        result.bytes,
        image_sha256=result.sha256 if options.kind != "erase" else None,
        details=ranges_detail(places),
    )
    if backup is None:
        if options.dry_run:
            return result
        put_back_left(job, lambda: options.confirm is None or options.confirm(plan))
        facts = replace(facts, unique_id=session.unique_id())
        return replace(result, entry=remember(job, facts, "unchanged"))
    if options.confirm is not None and not options.confirm(plan):
        raise Interrupted("not confirmed", code="interrupted.declined", backup=str(backup.path))
    job.cancel.check()
    facts = replace(facts, unique_id=session.unique_id(), backup_sha256=backup.sha256)
    journal = begin(job, prepared, facts, backup.path)
    mismatches, entry = _execute(
        job, plan, prepared.windows, journal, backup.path, plan.changed, facts
    )
    supersede(job, journal, places, facts.unique_id)
    return replace(
        result,
        executed=True,
        changed=tuple(plan.changed),
        mismatches=mismatches,
        backup=backup.path,
        seconds=session.seconds,
        entry=entry,
    )


def resume(
    session: Session,
    record: JobRecord,
    options: WriteOptions,
    reporter: Reporter,
    cancel: CancelToken,
) -> WriteResult:
    """Go on with a write that stopped half way.

    The chip is read anew and planned anew against the stored target; blocks whose erase was
    cut short are erased again whatever they read as.

    Raises:
        ChipError: another chip is on the programmer (``journal.other-chip``).
        ImageError: the job's files are damaged.
        Interrupted: not confirmed, nothing changed by this call.
        ChipStateUnknown: stopped or failed again.
    """
    # What was named when the write began is not asked for again.
    options = replace(options, kind="resume", named_regions=frozenset({EVERY}))
    job = Job(session, options, reporter, cancel)
    with remembering(job):
        return _resume(job, record)


def _resume(job: Job, record: JobRecord) -> WriteResult:
    session, options = job.session, job.options
    _same_chip(session, record.jedec_id, record.unique_id, record.plan.size)
    if record.finished:
        return _put_back_only(job, record)
    if record.ordered:
        from hwflash.jobs.uefi_resume import resume_operations

        left, executed, entry = resume_operations(job, record)
        return WriteResult(
            left, executed, sum(place.length for place in record.plan.windows),
            record.plan.sha256, tuple(record.plan.changed), backup=Path(record.backup),
            seconds=session.seconds, entry=entry,
        )  # fmt: skip
    target = record.target()
    places = [place for place, _ in target]
    contents = _content_to_resume(job, record, places)
    windows = [
        Window(place.address, old, new, tuple(filter(place.contains, record.unfinished)))
        for (place, new), old in zip(target, contents, strict=True)
    ]
    plan = make_plan(session.chip.part, session.flash.geometry, windows, kept_ranges(job))
    backup = Path(record.backup)
    if plan.steps:
        lift_for(job, plan.changed, record)
        if record.unique_id is None:
            _back_up_again(job, windows, plan)
    if options.dry_run:
        return WriteResult(plan, False, sum(p.length for p, _ in target), plan.sha256)
    if plan.steps and options.confirm is not None and not options.confirm(plan):
        raise Interrupted("not confirmed", code="interrupted.declined", backup=str(backup))
    journal = reopen(job, record, plan)
    touched = merge_ranges(record.plan.changed + plan.changed)
    mismatches, entry = _execute(
        job, plan, windows, journal, backup, touched, facts_to_resume(record)
    )
    return WriteResult(
        plan,
        executed=True,
        bytes=sum(place.length for place, _ in target),
        sha256=plan.sha256,
        changed=tuple(touched),
        mismatches=mismatches,
        backup=backup,
        seconds=session.seconds,
        entry=entry,
    )


def _put_back_only(job: Job, record: JobRecord) -> WriteResult:
    """The content is verified; what is left is the protection that was lifted for it."""
    plan = replace(record.plan, steps=())
    result = WriteResult(plan, False, 0, plan.sha256, backup=Path(record.backup))
    job.reporter.info("only the chip's protection is left to be put back", job=record.name)
    if record.unique_id is None:
        places = record.plan.windows
        reporter, cancel = job.reporter, job.cancel
        contents = read_ranges(
            job.session.flash, places, phase="read", reporter=reporter, cancel=cancel
        )
        require_written(record, contents)
    if job.options.dry_run:
        return result
    if job.options.confirm is not None and not job.options.confirm(plan):
        raise Interrupted("not confirmed", code="interrupted.declined", backup=record.backup)
    journal, facts = reopen(job, record, plan), facts_to_resume(record)
    entry = carry_out(job, journal, Path(record.backup), facts, lambda: None)
    return replace(result, executed=True, seconds=job.session.seconds, entry=entry)


def _back_up_again(job: Job, windows: Sequence[Window], plan: Plan) -> None:
    """Save what a chip without unique id holds: it may be another one after all.

    The way back stays the backup of before the write began.
    """
    if read_again(job, plan, windows):
        raise BusUnstable("two reads of the chip differ", code="chip.unstable-read")
    save_what_was_read(job, windows, plan)


def _content_to_resume(job: Job, record: JobRecord, places: Sequence[Range]) -> list[bytes]:
    """What the chip holds: by the journal where that can be relied on, else read.

    Raises:
        ChipError: a chip without unique id holds other bytes than the backup where the write
            had not come yet: it is another one, or was written since (``journal.other-chip``).
        ImageError: such a chip, and the backup that would tell cannot be read.
    """
    flash = job.session.flash
    if record.unique_id is not None and not journals.overtaken(record):
        contents = from_journal(flash, record)
        if contents is not None and spot_check(flash, places, contents, job.reporter):
            return contents
    contents = read_ranges(flash, places, phase="read", reporter=job.reporter, cancel=job.cancel)
    if record.unique_id is None:
        stranger = first_stranger(record, contents)
        if stranger is not None:
            raise ChipError(
                f"this is another chip than the one {record.name} began on, or it was written "
                f"since: it differs from the backup at 0x{stranger:06X}, where that write had "
                "not come yet",
                code="journal.other-chip",
                address=stranger,
            )
    return contents


def restore_targets(session: Session, path: Path) -> list[Segment]:
    """What a backup would put back onto the chip.

    Raises:
        ImageError: no backup, or a damaged one.
        ChipError: it is of another chip (``backup.other-chip``).
    """
    backup = backups.load(path)
    _same_chip(session, backup.jedec_id, backup.unique_id, backup.size, "backup.other-chip")
    return [Segment(place.address, data) for place, data in backup.contents()]


def unfinished(state: Path, name: str | None) -> JobRecord:
    """The job to resume: the named one, or the only unfinished one.

    Raises:
        UsageError: none, several, or no such job (``usage.resume``).
    """
    found = journals.unfinished_jobs(state / "jobs")
    names = [record.name for record in found]
    if name is not None and (state / "jobs" / name).is_dir():
        journals.load(state / "jobs" / name)  # a damaged job says so itself
    if name is not None:
        found = [record for record in found if record.name == name]
    if len(found) == 1:
        return found[0]
    if not found:
        what = f"no unfinished write {name}" if name else "there is no unfinished write"
        raise UsageError(what, code="usage.resume", unfinished=names)
    raise UsageError(
        f"{len(found)} writes are unfinished; say which", code="usage.resume", unfinished=names
    )


@contextmanager
def still_half_written(record: JobRecord, options: Sequence[str] = ()) -> Generator[None]:
    """Let the failure of a resume know what it takes to go on or back.

    This attempt may have changed nothing; the chip is half written all the same.

    Args:
        record: the write that is resumed.
        options: what the commands for it must repeat.
    """
    try:
        yield
    except HwflashError as exc:
        exc.context = {
            "unfinished": record.name,
            "resume": record.name,
            "backup": record.backup,
            "programmer": record.programmer,
            "options": list(options),
            **exc.context,
        }
        raise


def _execute(
    job: Job,
    plan: Plan,
    windows: Sequence[Window],
    journal: Journal,
    backup: Path,
    touched: Sequence[Range],
    facts: Facts,
) -> tuple[tuple[Range, ...], int | None]:
    executor = Executor(job.session.flash, journal, job.reporter, job.cancel, kept_ranges(job))
    verify = [window.range for window in windows] if job.options.verify_full else list(touched)
    entry = carry_out(job, journal, backup, facts, lambda: executor.run(plan, windows, verify))
    return tuple(executor.mismatches), entry


def _same_chip(
    session: Session,
    jedec_id: str,
    unique_id: str | None,
    size: int,
    code: str = "journal.other-chip",
) -> None:
    chip = session.chip
    found = (chip.jedec_id.hex()[:6], session.unique_id(), chip.size)
    if found != (jedec_id[:6], unique_id, size):
        raise ChipError(
            f"this is another chip: expected {jedec_id} {unique_id or ''} of {size} bytes, "
            f"found {found[0]} {found[1] or ''} of {found[2]} bytes",
            code=code,
            expected={"jedec_id": jedec_id, "unique_id": unique_id, "size": size},
            found={"jedec_id": found[0], "unique_id": found[1], "size": found[2]},
        )
