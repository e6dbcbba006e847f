"""Writing: check, read, plan, back up, confirm, execute with a journal, verify.

Nothing is sent to the chip that could change it before everything that can be known and saved
is known and saved. Erasing is writing FF.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hwflash.errors import (
    BusUnstable,
    ChipError,
    ChipStateUnknown,
    HwflashError,
    Interrupted,
    UsageError,
)
from hwflash.flash import backup as backups
from hwflash.flash import journal as journals
from hwflash.flash.execute import Executor, read_ranges
from hwflash.flash.journal import JobRecord, Journal
from hwflash.flash.plan import Plan, Window, content_hash, make_plan
from hwflash.jobs.known import first_stranger, from_journal, spot_check
from hwflash.jobs.prepare import (
    Job,
    Prepared,
    WriteOptions,
    kept_ranges,
    prepare,
    read_again,
    save_what_was_read,
)
from hwflash.jobs.session import Session
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, Reporter
from hwflash.units import Range, merge_ranges

__all__ = ["WriteOptions", "WriteResult", "restore_targets", "resume", "unfinished", "write"]


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
    """

    plan: Plan
    executed: bool
    bytes: int
    sha256: str
    changed: tuple[Range, ...] = ()
    mismatches: tuple[Range, ...] = ()
    backup: Path | None = None
    seconds: float = 0.0


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
    prepared = prepare(job, targets)
    plan, backup = prepared.plan, prepared.backup
    result = WriteResult(
        plan,
        executed=False,
        bytes=sum(target.range.length for target in targets),
        sha256=content_hash([target.data for target in targets]),
        seconds=session.seconds,
    )
    if backup is None:
        return result
    if options.confirm is not None and not options.confirm(plan):
        raise Interrupted("not confirmed", code="interrupted.declined", backup=str(backup.path))
    cancel.check()
    unique_id = session.unique_id()
    journal = _begin(job, prepared, unique_id, backup.path)
    mismatches = _execute(job, plan, prepared.windows, journal, backup.path, plan.changed)
    _supersede(job, journal, [target.range for target in targets], unique_id)
    return replace(
        result,
        executed=True,
        changed=tuple(plan.changed),
        mismatches=mismatches,
        backup=backup.path,
        seconds=session.seconds,
    )


def _begin(job: Job, prepared: Prepared, unique_id: str | None, backup: Path) -> Journal:
    """Start the journal: from here on the write can be resumed."""
    facts = {
        "programmer": job.session.programmer.url,
        "jedec_id": job.session.chip.jedec_id.hex(),
        "unique_id": unique_id,
        "backup": str(backup),
    }
    target = [window.new for window in prepared.windows]
    return Journal.create(job.options.state / "jobs", prepared.plan, target, facts)


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
    _same_chip(session, record.jedec_id, record.unique_id, record.plan.size)
    job = Job(session, replace(options, kind="resume"), reporter, cancel)
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
        session.require_unlocked(plan.changed)
        if record.unique_id is None:
            _back_up_again(job, windows, plan)
    if options.dry_run:
        return WriteResult(plan, False, sum(p.length for p, _ in target), plan.sha256)
    if plan.steps and options.confirm is not None and not options.confirm(plan):
        raise Interrupted("not confirmed", code="interrupted.declined", backup=str(backup))
    journal = Journal.reopen(record.folder)
    touched = merge_ranges(record.plan.changed + plan.changed)
    mismatches = _execute(job, plan, windows, journal, backup, touched)
    return WriteResult(
        plan,
        executed=True,
        bytes=sum(place.length for place, _ in target),
        sha256=plan.sha256,
        changed=tuple(touched),
        mismatches=mismatches,
        backup=backup,
        seconds=session.seconds,
    )


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


def _execute(
    job: Job,
    plan: Plan,
    windows: Sequence[Window],
    journal: Journal,
    backup: Path,
    touched: Sequence[Range],
) -> tuple[Range, ...]:
    executor = Executor(job.session.flash, journal, job.reporter, job.cancel, kept_ranges(job))
    verify = [window.range for window in windows] if job.options.verify_full else list(touched)
    verified = False
    try:
        with job.session.flash.unlocked():
            executor.run(plan, windows, verify)
            verified = True
    except HwflashError as exc:
        if not journal.begun:
            raise
        if not verified:
            _remember(job, plan, backup, "unknown", exc.code)
            raise _unknown(job, exc, journal, backup) from exc
        job.reporter.warning(
            f"written and verified, but the block locks were not put back: {exc}", code=exc.code
        )
    finally:
        journal.close()
    _remember(job, plan, backup, "ok", None)
    return tuple(executor.mismatches)


def _supersede(job: Job, journal: Journal, written: Sequence[Range], unique_id: str | None) -> None:
    """Close older unfinished writes of this chip that this one has written over in full."""
    covered = merge_ranges(list(written))
    for record in journals.unfinished_jobs(job.options.state / "jobs"):
        same = (record.programmer, record.jedec_id, record.unique_id) == (
            job.session.programmer.url,
            job.session.chip.jedec_id.hex(),
            unique_id,
        )
        done = all(any(place.contains(item) for place in covered) for item in record.plan.changed)
        if not (same and done) or record.name == journal.name:
            continue
        try:
            older = Journal.reopen(record.folder)
            older.finish()
            older.close()
        except HwflashError as exc:  # the write itself is done and good
            job.reporter.warning(f"{record.name} could not be closed: {exc}", code=exc.code)
        else:
            job.reporter.info(f"{record.name} need not be resumed any more", job=record.name)


def _remember(job: Job, plan: Plan, backup: Path, outcome: str, code: str | None) -> None:
    """Add a line to the history; a full disk must not turn a good write into a failure."""
    chip = job.session.chip
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "job": job.options.kind,
        "outcome": outcome,
        "error": code,
        "bytes": sum(window.length for window in plan.windows),
        "seconds": round(job.session.seconds, 3),
        "programmer": job.session.programmer.url,
        "part": chip.part,
        "jedec_id": chip.jedec_id.hex(),
        "sha256": plan.sha256,
        "backup": str(backup),
    }
    path = job.options.state / "history.jsonl"
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
    except OSError as exc:
        job.reporter.warning(f"the history {path} cannot be written: {exc.strerror}")


def _unknown(job: Job, exc: HwflashError, journal: Journal, backup: Path) -> ChipStateUnknown:
    """The failure, with what it takes to go on or back.

    A lost programmer also keeps block locks from being put back; that second failure hides
    the first, and is no less the end of a write that had begun.
    """
    facts = _facts(exc.context)
    message, code = exc.message, exc.code
    if not isinstance(exc, ChipStateUnknown):
        facts = {"cause": exc.code, "facts": facts}
        message, code = f"the write stopped half way: {exc}", ChipStateUnknown.code
    facts |= {
        "resume": journal.name,
        "backup": str(backup),
        "programmer": job.session.programmer.url,
    }
    return ChipStateUnknown(message, code=code, **facts)


def _facts(context: Mapping[str, object]) -> dict[str, Any]:
    return {key: value for key, value in context.items() if key != "code"}


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
