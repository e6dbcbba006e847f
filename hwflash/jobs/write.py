"""Writing: check, read, plan, back up, confirm, execute with a journal, verify.

Nothing is sent to the chip that could change it before everything that can be known and saved
is known and saved. Erasing is writing FF.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwflash.errors import (
    BusUnstable,
    ChipError,
    ChipStateUnknown,
    HwflashError,
    ImageError,
    Interrupted,
    UsageError,
)
from hwflash.flash import backup as backups
from hwflash.flash import journal as journals
from hwflash.flash.execute import Executor, differences, read_range, read_ranges
from hwflash.flash.journal import JobRecord, Journal
from hwflash.flash.plan import Plan, Window, content_hash, make_plan, windows_for
from hwflash.flash.steady import until_steady
from hwflash.jobs.known import from_image, from_journal, report_wrong, spot_check
from hwflash.jobs.session import Session
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, Reporter
from hwflash.units import Range, format_size, merge_ranges


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How to write.

    Attributes:
        state: the state directory.
        backup_folder: where backups go; None is a folder of the state directory.
        verify_full: read back everything the image covers, not only what was touched.
        dry_run: stop after planning.
        confirm: asked with the plan before anything is changed; False stops.
        named_regions: protected regions of the board that the user named.
        assume: what the chip is said to hold; spot-checked instead of read.
    """

    state: Path
    backup_folder: Path | None = None
    verify_full: bool = False
    dry_run: bool = False
    confirm: Callable[[Plan], bool] | None = None
    named_regions: frozenset[str] = frozenset()
    assume: tuple[Segment, ...] = ()


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


@dataclass(slots=True)
class _Job:
    """What the steps of a write share."""

    session: Session
    options: WriteOptions
    reporter: Reporter
    cancel: CancelToken
    result: dict[str, Any] = field(default_factory=dict[str, Any])


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
    job = _Job(session, options, reporter, cancel)
    _check_targets(session, targets)
    session.require_writable()
    _check_regions(session, targets, options.named_regions)
    windows, plan, backup = until_steady(
        session.programmer.bus, reporter, lambda: _prepare(job, targets)
    )
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
    facts = {
        "programmer": session.programmer.url,
        "jedec_id": session.chip.jedec_id.hex(),
        "unique_id": session.unique_id(),
        "backup": str(backup.path),
    }
    journal = Journal.create(
        options.state / "jobs", plan, [window.new for window in windows], facts
    )
    mismatches = _execute(job, plan, windows, journal, backup.path, plan.changed)
    return WriteResult(
        plan,
        executed=True,
        bytes=result.bytes,
        sha256=result.sha256,
        changed=tuple(plan.changed),
        mismatches=mismatches,
        backup=backup.path,
        seconds=session.seconds,
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
    _same_chip(session, record.jedec_id, record.unique_id, record.plan.size)
    job = _Job(session, options, reporter, cancel)
    target = record.target()
    places = [place for place, _ in target]
    contents = from_journal(session.flash, record)
    if contents is None or not spot_check(session.flash, places, contents, reporter):
        contents = read_ranges(
            session.flash, places, phase="read", reporter=reporter, cancel=cancel
        )
    windows = [
        Window(
            place.address,
            old,
            new,
            tuple(item for item in record.unfinished if place.contains(item)),
        )
        for (place, new), old in zip(target, contents, strict=True)
    ]
    plan = make_plan(session.chip.part, session.flash.geometry, windows)
    backup = Path(record.backup)
    if plan.steps:
        session.require_unlocked(plan.changed)
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


def _check_targets(session: Session, targets: Sequence[Segment]) -> None:
    size = session.chip.size
    last: Segment | None = None
    for target in sorted(targets, key=lambda item: item.address):
        if not target.data:
            raise ImageError("there is nothing to write", code="image.empty")
        if target.address < 0 or target.range.end > size:
            raise UsageError(
                f"{format_size(len(target.data))} at 0x{target.address:X} reach beyond the end "
                f"of {session.chip.part} ({format_size(size)})",
                code="usage.address",
                address=target.address,
                length=len(target.data),
                size=size,
            )
        if last is not None and last.range.overlaps(target.range):
            raise UsageError(
                f"two parts of the image overlap at 0x{target.address:X}",
                code="usage.overlap",
                address=target.address,
            )
        last = target


def _check_regions(session: Session, targets: Sequence[Segment], named: frozenset[str]) -> None:
    """Regions that the board file protects are written only when they are named."""
    if session.board is None:
        return
    for region in session.board.region_map():
        touched = any(target.range.overlaps(region.range) for target in targets)
        if region.protected and touched and region.name not in named:
            raise UsageError(
                f"region {region.name} ({region.range}) of board {session.board.name} is "
                "protected; it is written only when it is named",
                code="usage.protected-region",
                region=region.name,
                address=region.range.address,
                length=region.range.length,
            )


def _prepare(
    job: _Job, targets: Sequence[Segment]
) -> tuple[list[Window], Plan, backups.Backup | None]:
    """Everything before the first change; no backup when nothing is to be changed.

    Raises:
        BusUnstable: what will change read differently the second time.
        ChipProtected: the chip's protection covers bytes to be changed.
    """
    flash = job.session.flash
    places = windows_for([target.range for target in targets], flash.geometry)
    assumed = from_image(job.options.assume, places) if job.options.assume else None
    if assumed is not None and spot_check(flash, places, assumed, job.reporter):
        found = _plan(job, targets, places, assumed)
        differing = _read_again(job, found[1], found[0])
        # A plan without steps would be success without having looked.
        if found[1].steps and not differing:
            return (*found, _back_up(job, *found))
        if differing:
            report_wrong(job.reporter, differing[0].address)
    contents = read_ranges(flash, places, phase="read", reporter=job.reporter, cancel=job.cancel)
    found = _plan(job, targets, places, contents)
    differing = _read_again(job, found[1], found[0])
    if differing:
        raise BusUnstable(
            f"two reads of the chip differ in {sum(r.length for r in differing)} bytes, "
            f"the first at 0x{differing[0].address:06X}",
            code="chip.unstable-read",
            address=differing[0].address,
            differing=[{"address": r.address, "length": r.length} for r in differing[:64]],
        )
    return (*found, _back_up(job, *found))


def _plan(
    job: _Job, targets: Sequence[Segment], places: Sequence[Range], contents: Sequence[bytes]
) -> tuple[list[Window], Plan]:
    windows: list[Window] = []
    for place, old in zip(places, contents, strict=True):
        new = bytearray(old)
        for target in targets:
            if place.contains(target.range):
                at = target.address - place.address
                new[at : at + len(target.data)] = target.data
        windows.append(Window(place.address, old, bytes(new)))
    plan = make_plan(job.session.chip.part, job.session.flash.geometry, windows)
    if plan.steps:
        job.session.require_unlocked(plan.changed)
    return windows, plan


def _read_again(job: _Job, plan: Plan, windows: Sequence[Window]) -> list[Range]:
    """Read what will change once more; where that differs from what is known."""
    if job.options.dry_run:
        return []
    flash = job.session.flash
    differing: list[Range] = []
    changed = merge_ranges([flash.geometry.align(item) for item in plan.changed])
    total = sum(place.length for place in changed)
    before = 0
    for place in changed:
        again = read_range(
            flash, place, phase="backup", reporter=job.reporter, cancel=job.cancel,
            before=before, total=total,
        )  # fmt: skip
        before += place.length
        window = next(item for item in windows if item.range.contains(place))
        start = place.address - window.address
        known = window.old[start : start + place.length]
        differing += differences(place.address, again, known)
    return differing


def _back_up(job: _Job, windows: Sequence[Window], plan: Plan) -> backups.Backup | None:
    """Put all that is known of the old content on the disk."""
    if job.options.dry_run or not plan.steps:
        return None
    saved = backups.save(
        job.options.backup_folder or job.options.state / "backups",
        [(window.address, window.old) for window in windows],
        jedec_id=job.session.chip.jedec_id.hex(),
        unique_id=job.session.unique_id(),
        part=job.session.chip.part,
        size=job.session.chip.size,
    )
    job.reporter.info(f"backup: {saved.path}", backup=str(saved.path), sha256=saved.sha256)
    return saved


def _execute(
    job: _Job,
    plan: Plan,
    windows: Sequence[Window],
    journal: Journal,
    backup: Path,
    touched: Sequence[Range],
) -> tuple[Range, ...]:
    executor = Executor(job.session.flash, journal, job.reporter, job.cancel)
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


def _remember(job: _Job, plan: Plan, backup: Path, outcome: str, code: str | None) -> None:
    """Add a line to the history; a full disk must not turn a good write into a failure."""
    chip = job.session.chip
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "job": "write",
        "outcome": outcome,
        "error": code,
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


def _unknown(job: _Job, exc: HwflashError, journal: Journal, backup: Path) -> ChipStateUnknown:
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
