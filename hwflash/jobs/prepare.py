"""Everything before the first change: check, read, plan, read again, back up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwflash.boards import Board
from hwflash.errors import BusUnstable, ImageError, UsageError
from hwflash.flash import backup as backups
from hwflash.flash.execute import differences, read_range, read_ranges
from hwflash.flash.plan import Plan, Window, make_plan, windows_for
from hwflash.flash.steady import until_steady
from hwflash.jobs.expectations import require_board
from hwflash.jobs.known import from_image, report_wrong, spot_check
from hwflash.jobs.lifting import lift_for
from hwflash.jobs.regions import DESCRIPTOR, EVERY, unnamed_protected
from hwflash.jobs.session import Session
from hwflash.layout.files import Segment
from hwflash.layout.regions import Region
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
        lift_protection: lift the chip's protection for the write, and put it back.
        accept_other_board: the chip need not hold what the board file expects.
        kind: what the history calls it: ``write``, ``erase``, ``restore``.
        details: more for the history, such as whose unit it is; JSON values.
    """

    state: Path
    backup_folder: Path | None = None
    verify_full: bool = False
    dry_run: bool = False
    confirm: Callable[[Plan], bool] | None = None
    named_regions: frozenset[str] = frozenset()
    assume: tuple[Segment, ...] = ()
    lift_protection: bool = False
    accept_other_board: bool = False
    kind: str = "write"
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Job:
    """What the steps of a write share.

    Attributes:
        session: programmer and chip.
        options: how to write.
        reporter: is told how it goes.
        cancel: a request to stop.
        began: when it began, as of `time.time`.
        started: the session's seconds when it began: a session may serve several jobs.
    """

    session: Session
    options: WriteOptions
    reporter: Reporter
    cancel: CancelToken
    began: float = field(default_factory=time.time)
    started: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "started", self.session.seconds)  # the class is frozen


@dataclass(frozen=True, slots=True)
class Prepared:
    """A write that is ready to begin.

    Attributes:
        windows: what is known of the old content, and the new.
        plan: what to do.
        backup: what was saved; None when nothing is to be changed, or in a dry run.
    """

    windows: tuple[Window, ...]
    plan: Plan
    backup: backups.Backup | None


def prepare(job: Job, targets: Sequence[Segment]) -> Prepared:
    """Check targets, read, plan and back up; nothing is changed.

    Raises:
        UsageError: a target outside the chip, two that overlap, or a protected region.
        ChipError, ImageError: chip or image are of another board; see
            `hwflash.jobs.expectations.require_board`.
        ChipUnsupported: facts about the chip are in doubt.
        ChipProtected: the chip's protection covers bytes to be changed.
        BusUnstable: what will change reads differently the second time.
        EnvironmentFault: the backup cannot be written.
    """
    _check_targets(job.session, targets)
    job.session.require_writable()
    return until_steady(job.session.programmer.bus, job.reporter, lambda: _prepare(job, targets))


def _require_allowed(job: Job, targets: Sequence[Segment]) -> None:
    """Refuse targets by what board file and chip say of regions, whatever they hold.

    Raises:
        UsageError: a region that the board file protects (``usage.protected-region``), or the
            whole chip while its descriptor cannot say what is protected
            (``usage.unusable-descriptor``).
    """
    session, named = job.session, job.options.named_regions
    session.guarded(named)  # the chip's own layout is looked at
    changed = [target.range for target in targets]
    problem = session.layout.problem
    if problem is not None:
        job.reporter.warning(
            f"the chip's own layout cannot be used and protects nothing: {problem}",
            code=problem.code,
        )
        start = session.unnamed(DESCRIPTOR, named) if problem.code.startswith("ifd.") else []
        if EVERY not in named and any(a.overlaps(b) for a in start for b in changed):
            raise UsageError(
                "the chip's flash descriptor cannot be used: what it protects is not known, and "
                f"this would write over it ({problem.message})",
                code="usage.unusable-descriptor",
                problem=problem.code,
            )
    board = session.board
    if board is not None and board.region:  # a board's word is kept whatever the chip holds
        stated = session.guarded(named, chip=False)
        require_regions(stated, board, changed, named)


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


def require_regions(
    regions: Sequence[Region],
    board: Board | None,
    changed: Sequence[Range],
    named: frozenset[str],
) -> None:
    """Regions that are protected by their layout are written only when they are named.

    Args:
        regions: those of the layout.
        board: whose they are as far as it names them; the others are the chip's own.
        changed: what is to be changed.
        named: the regions that were named.

    Raises:
        UsageError: one is not (``usage.protected-region``).
    """
    for region in unnamed_protected(regions, named):
        if any(item.overlaps(region.range) for item in changed):
            theirs = board is not None and region.name in board.region_map()
            owner = f"board {board.name}" if board and theirs else "the chip's layout"
            raise UsageError(
                f"region {region.name} ({region.range}) of {owner} is "
                "protected; it is written only when it is named",
                code="usage.protected-region",
                region=region.name,
                address=region.range.address,
                length=region.range.length,
            )


def kept_ranges(job: Job) -> tuple[Range, ...]:
    """Protected regions that were not named: not to be erased on the way either."""
    regions = unnamed_protected(
        job.session.guarded(job.options.named_regions), job.options.named_regions
    )
    return tuple(region.range for region in regions)


def _prepare(job: Job, targets: Sequence[Segment]) -> Prepared:
    flash = job.session.flash
    require_board(job, targets)
    _require_allowed(job, targets)
    places = windows_for([target.range for target in targets], flash.geometry, kept_ranges(job))
    assume = () if job.options.verify_full else job.options.assume  # all is read then anyway
    assumed = from_image(assume, places) if assume else None
    if assumed is not None and spot_check(flash, places, assumed, job.reporter):
        found = _plan(job, targets, places, assumed)
        differing = read_again(job, found[1], found[0])
        # A plan without steps would be success without having looked.
        if found[1].steps and not differing:
            return save_what_was_read(job, *_narrowed(job, *found))
        if differing:
            report_wrong(job.reporter, differing[0].address)
    contents = read_ranges(flash, places, phase="read", reporter=job.reporter, cancel=job.cancel)
    found = _plan(job, targets, places, contents)
    require_same(read_again(job, found[1], found[0]))
    return save_what_was_read(job, *found)


def require_same(differing: Sequence[Range]) -> None:
    """Refuse to go on when what `read_again` found differs.

    Raises:
        BusUnstable: it does (``chip.unstable-read``).
    """
    if differing:
        raise BusUnstable(
            f"two reads of the chip differ in {sum(r.length for r in differing)} bytes, "
            f"the first at 0x{differing[0].address:06X}",
            code="chip.unstable-read",
            address=differing[0].address,
            differing=[{"address": r.address, "length": r.length} for r in differing[:64]],
        )


def _plan(
    job: Job, targets: Sequence[Segment], places: Sequence[Range], contents: Sequence[bytes]
) -> tuple[list[Window], Plan]:
    windows: list[Window] = []
    for place, old in zip(places, contents, strict=True):
        new = bytearray(old)
        for target in targets:
            if place.contains(target.range):
                at = target.address - place.address
                new[at : at + len(target.data)] = target.data
        windows.append(Window(place.address, old, bytes(new)))
    job.session.layout.notice([window.old for window in windows])
    _require_kept(job, windows)
    geometry = job.session.flash.geometry
    plan = make_plan(job.session.chip.part, geometry, windows, kept_ranges(job))
    if plan.steps:
        lift_for(job, plan.changed)
    return windows, plan


def _require_kept(job: Job, windows: Sequence[Window]) -> None:
    """Refuse windows that change a protected region which was not named."""
    regions = job.session.guarded(job.options.named_regions)
    for region in unnamed_protected(regions, job.options.named_regions):
        for window in windows:
            start = max(region.range.address, window.address) - window.address
            end = min(region.range.end, window.range.end) - window.address
            if start < end and window.old[start:end] != window.new[start:end]:
                board, named = job.session.board, job.options.named_regions
                require_regions(regions, board, [region.range], named)


def _narrowed(job: Job, windows: Sequence[Window], plan: Plan) -> tuple[list[Window], Plan]:
    """The same with windows around what will change only, which was read.

    What is merely assumed must neither get into a backup nor into the target of a resume.
    """
    geometry = job.session.flash.geometry
    changed = merge_ranges([geometry.align(item) for item in plan.changed])
    read: list[Window] = []
    for place in changed:
        window = next(item for item in windows if item.range.contains(place))
        part = slice(place.address - window.address, place.end - window.address)
        read.append(Window(place.address, window.old[part], window.new[part]))
    return read, make_plan(plan.part, geometry, read, kept_ranges(job))


def read_again(job: Job, plan: Plan, windows: Sequence[Window]) -> list[Range]:
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


def save_what_was_read(job: Job, windows: Sequence[Window], plan: Plan) -> Prepared:
    """Put all that was read of the old content on the disk."""
    if job.options.dry_run or not plan.steps:
        return Prepared(tuple(windows), plan, None)
    saved = backups.save(
        job.options.backup_folder or job.options.state / "backups",
        [(window.address, window.old) for window in windows],
        jedec_id=job.session.chip.jedec_id.hex(),
        unique_id=job.session.unique_id(),
        part=job.session.chip.part,
        size=job.session.chip.size,
    )
    job.reporter.info(f"backup: {saved.path}", backup=str(saved.path), sha256=saved.sha256)
    return Prepared(tuple(windows), plan, saved)
