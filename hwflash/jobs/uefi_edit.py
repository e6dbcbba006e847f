"""Changing the UEFI variable store of a SOURCE.

The store is read, changed in memory, and what comes out is a list of flash operations whose
order survives a power cut at any point. On a chip they are carried out one by one, with backup,
journal and verification; a file is replaced as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from hwflash.errors import ChipUnsupported, ImageError, Interrupted
from hwflash.flash.device import Geometry
from hwflash.flash.execute import differences
from hwflash.flash.plan import Plan, Step, content_hash
from hwflash.flash.plan import Window as PlanWindow
from hwflash.flash.steady import until_steady
from hwflash.jobs.carry_out import begin, carry_out, supersede
from hwflash.jobs.edit_file import names_same_file, remember_file, replace_file, write_other
from hwflash.jobs.erase_steps import fit_erases, fold_erases
from hwflash.jobs.expectations import require_board
from hwflash.jobs.lifting import lift_for, put_back_left
from hwflash.jobs.prepare import (
    Job,
    Prepared,
    WriteOptions,
    require_regions,
    require_same,
    save_what_was_read,
)
from hwflash.jobs.remember import edit_facts, remember, remembering
from hwflash.jobs.run_operations import run_operations
from hwflash.jobs.source import ChipSource, FileSource, Source
from hwflash.jobs.uefi_others import (
    nearest,
    read_only,
    require_no_factory_copy,
    several,
)
from hwflash.jobs.uefi_read import Reading, chosen, others_over, read_stores
from hwflash.jobs.uefi_settle import Repair, require_sound, settle
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, Reporter
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.find import Found, assume
from hwflash.uefi.flashops import Erase, Operation, Program, Verify, carried_out
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.rewrite import Order
from hwflash.uefi.window import Window
from hwflash.units import Range

T = TypeVar("T")

#: Erase block of an image file: that of OVMF's variable store, and of QEMU's pflash on a PC.
FILE_BLOCK = 0x1000


@dataclass(frozen=True, slots=True)
class EditOptions:
    """How to change a store.

    Attributes:
        write: backup, confirmation, dry run.
        store: which of several stores: its offset, or that of its volume.
        full: search every byte for stores.
        repair: what to do first to a store that `hwflash.uefi.check` finds broken. A pending
            fault-tolerant write is always finished or dropped first.
        order: of operations when the whole store has to be rewritten.
        erase_foreign: places that a board file names may be erased whatever they hold.
        place: a build and the offset of its volume, where no header tells any more.
        output: for a file, write the result there and leave the file as it is.
    """

    write: WriteOptions
    store: int | None = None
    full: bool = False
    repair: Repair = "none"
    order: Order = "suffix"
    erase_foreign: bool = False
    place: tuple[KnownLayout, int] | None = None
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Edited(Generic[T]):
    """What a change of a store did.

    Attributes:
        value: what the change itself returned.
        before: the store as it was found.
        after: as it is, or would be after a dry run.
        first: what had to be repaired before, in words.
        plan: the operations as a plan; its steps are carried out in this very order.
        operations: the same with their data and their reasons.
        executed: False after a dry run, and when there was nothing to do.
        backup: path of the backup, or None when none was needed.
        seconds: time of the whole job on the programmer.
        entry: its number in the history; None when it is not there.
    """

    value: T
    before: Found
    after: Found
    first: tuple[str, ...]
    plan: Plan
    operations: tuple[Operation, ...]
    executed: bool = False
    backup: Path | None = None
    seconds: float = 0.0
    entry: int | None = None


def edit(
    source: Source,
    options: EditOptions,
    change: Callable[[Nvram], T],
    reporter: Reporter,
    cancel: CancelToken,
) -> Edited[T]:
    """Change the variable store of a source.

    Args:
        source: an image file or a chip.
        options: how.
        change: makes the change in memory; may be called again when the bus was unsteady.
        reporter: is told how it goes.
        cancel: a request to stop.

    Raises:
        ImageError: no store, or one that must be repaired first (``uefi.unhealthy``).
        UsageError: several stores, and none was chosen (``usage.store``).
        ChipStateUnknown: stopped or failed after the chip was touched.
    """
    if isinstance(source, ChipSource):
        return _edit_chip(source, options, change, reporter, cancel)
    if not isinstance(source, FileSource):
        raise AssertionError(f"{source.name} is neither a file nor a chip")
    return _edit_file(source, options, change, reporter, cancel)


def one_store(reading: Reading, store: int | None) -> Found:
    """The store that is meant.

    Raises:
        UsageError: there are several, or none at that offset (``usage.store``).
    """
    found = chosen(reading, store)
    if len(found) > 1:
        raise several([item.base for item in found])
    return next(iter(found))


def _located(
    source: Source, options: EditOptions, reporter: Reporter, cancel: CancelToken
) -> tuple[Found, Window]:
    """The store that is meant, and what was read around it."""
    if options.place is not None:
        known, base = options.place
        span = Range(base, known.length)
        if not any(item.contains(span) for item in source.ranges):
            raise ImageError(
                f"a volume of {known.name} at 0x{base:06X} reaches beyond {source.name}",
                code="uefi.truncated",
                offset=base,
            )
        window = Window(source.read([span], reporter, cancel)[0], base)
        found = assume(window, known, base)
        others = others_over(source, found, window, reporter, cancel)
        if others:
            raise read_only(nearest(others))
        return found, window
    reading = read_stores(source, reporter, cancel, full=options.full)
    found = one_store(reading, options.store)
    require_no_factory_copy(found)
    return found, next(item for item in reading.windows if item.base <= found.base < item.end)


def extent(found: Found) -> Range:
    """All the bytes that a change of a store may touch."""
    areas = found.areas
    parts = [areas.variables, areas.work, areas.spare, Range(found.base, found.length)]
    found_parts = [part for part in parts if part is not None]
    start = min(part.address for part in found_parts)
    return Range(start, max(part.end for part in found_parts) - start)


# --- a chip -----------------------------------------------------------------------------------


def _edit_chip(
    source: ChipSource,
    options: EditOptions,
    change: Callable[[Nvram], T],
    reporter: Reporter,
    cancel: CancelToken,
) -> Edited[T]:
    session = source.session
    session.require_writable()
    job = Job(session, options.write, reporter, cancel)
    with remembering(job):
        return _edit_flash(source, job, options, change)


def _edit_flash(
    source: ChipSource, job: Job, options: EditOptions, change: Callable[[Nvram], T]
) -> Edited[T]:
    session, reporter, cancel = job.session, job.reporter, job.cancel
    geometry = session.flash.geometry
    if not geometry.reprogram:
        raise ChipUnsupported(
            f"{session.chip.part} does not let bits be cleared in a page that holds data; a "
            "variable store needs that",
            code="chip.no-reprogram",
            part=session.chip.part,
        )
    edited, prepared = until_steady(
        session.programmer.bus, reporter, lambda: _prepare(source, job, options, change)
    )
    backup = prepared.backup
    facts = edit_facts(options.write.kind, edited)
    if backup is None:
        edited = replace(edited, seconds=session.seconds)
        if options.write.dry_run:
            return edited
        put_back_left(job, lambda: _confirmed(options.write, edited.plan))
        facts = replace(facts, unique_id=session.unique_id())
        return replace(edited, entry=remember(job, facts, "unchanged"))
    if not _confirmed(options.write, edited.plan):
        raise Interrupted("not confirmed", code="interrupted.declined", backup=str(backup.path))
    cancel.check()
    facts = replace(facts, unique_id=session.unique_id(), backup_sha256=backup.sha256)
    journal = begin(job, prepared, facts, backup.path, edited.operations)
    new = prepared.windows[0]
    entry = carry_out(
        job,
        journal,
        backup.path,
        facts,
        lambda: run_operations(
            session.flash,
            edited.operations,
            edited.plan,
            new,
            journal,
            reporter,
            cancel,
            full=options.write.verify_full,
        ),
    )
    supersede(job, journal, [new.range], facts.unique_id, ordered=True)
    return replace(edited, executed=True, backup=backup.path, seconds=session.seconds, entry=entry)


def _confirmed(options: WriteOptions, plan: Plan) -> bool:
    return options.confirm is None or options.confirm(plan)


def _prepare(
    source: ChipSource, job: Job, options: EditOptions, change: Callable[[Nvram], T]
) -> tuple[Edited[T], Prepared]:
    """Read, change in memory, plan, read again, back up."""
    session, geometry = source.session, source.session.flash.geometry
    repairs = options.repair != "none" or options.place is not None
    if not repairs:
        require_board(job)
    found, window = _located(source, options, job.reporter, job.cancel)
    whole = geometry.align(extent(found))
    sizes = [
        min(kind.size for kind in region.types)
        for region in geometry.regions
        if Range(region.start, region.length).overlaps(whole)
    ]
    if not (window.base <= whole.address and whole.end <= window.end):
        window = Window(source.read([whole], job.reporter, job.cancel)[0], whole.address)
    window = window.within(whole.address, whole.length)
    edited = _edited(window, found, max(sizes), 0, options, change, job.reporter)
    folded = fold_erases(fit_erases(edited.operations, geometry), geometry)
    steps = tuple(_step(item, geometry) for item in folded if not isinstance(item, Verify))
    new = bytes(_after(window, edited).data)
    if repairs:  # what is broken there cannot be what the board expects
        require_board(job, [Segment(whole.address, new)], extent(found))
    plan = replace(
        edited.plan, part=session.chip.part, size=session.chip.size, windows=(whole,),
        steps=steps, sha256=content_hash([new]),
    )  # fmt: skip
    edited = replace(edited, plan=plan, operations=tuple(folded))
    windows = [PlanWindow(whole.address, window.data, new)]
    if steps:
        require_regions(
            session.guarded(job.options.named_regions),
            session.board,
            plan.changed,
            job.options.named_regions,
        )
        lift_for(job, plan.changed)
        if not job.options.dry_run:
            # All of it was decided on: one wrong bit in a state byte would be a wrong decision.
            (again,) = source.read([whole], job.reporter, job.cancel)
            require_same(differences(whole.address, again, window.data))
    return edited, save_what_was_read(job, windows, plan)


def _step(step: Program | Erase, geometry: Geometry) -> Step:
    if isinstance(step, Program):
        seconds = sum(geometry.page_seconds(page.length) for page in geometry.pages(step.range))
        return Step("program", step.range, seconds)
    block = geometry.block_for(step.range)
    return Step("erase", step.range, block.kind.time.typical if block is not None else 0.0)


# --- a file -----------------------------------------------------------------------------------


def _edit_file(
    source: FileSource,
    options: EditOptions,
    change: Callable[[Nvram], T],
    reporter: Reporter,
    cancel: CancelToken,
) -> Edited[T]:
    began = time.time()
    found, window = _located(source, options, reporter, cancel)
    origin = found.base % FILE_BLOCK
    edited = _edited(window, found, FILE_BLOCK, origin, options, change, reporter)
    steps = tuple(
        Step("program" if isinstance(item, Program) else "erase", item.range, 0.0)
        for item in edited.operations
        if not isinstance(item, Verify)
    )
    new = _after(window, edited)
    plan = replace(
        edited.plan, part=source.name, windows=(Range(new.base, len(new.data)),), steps=steps,
        sha256=content_hash([new.data]),
    )  # fmt: skip
    edited = replace(edited, plan=plan)
    output = options.output
    if options.write.dry_run or (not steps and output is None):
        return edited
    if source.board is not None:
        named = options.write.named_regions
        board = source.board
        require_regions(board.region_map().regions, board, plan.changed, named)
    if output is not None and not names_same_file(source.name, output):
        replaces = output.exists()
        if replaces and not _confirmed(options.write, plan):
            raise Interrupted("not confirmed", code="interrupted.declined")
        write_other(source, new, output)
        entry = remember_file(
            source,
            output,
            None,
            options.write,
            edit_facts(options.write.kind, edited),
            began,
            reporter,
        )
        return replace(edited, executed=True, entry=entry)
    backup = replace_file(source, new, options.write, plan, reporter)
    entry = remember_file(
        source, None, backup, options.write, edit_facts(options.write.kind, edited), began, reporter
    )
    return replace(edited, executed=True, backup=backup, entry=entry)


def _edited(
    window: Window,
    found: Found,
    erase_size: int,
    origin: int,
    options: EditOptions,
    change: Callable[[Nvram], T],
    reporter: Reporter,
) -> Edited[T]:
    """The change made in memory."""
    nvram = Nvram(window, found, erase_size, origin)
    first = settle(nvram, options, reporter)
    for text in first:
        reporter.info(f"first: {text}")
    value = change(nvram)
    if options.repair != "as-is":
        require_sound(nvram)
    plan = Plan("", len(window.data), (), (), "")
    return Edited(value, found, nvram.found, tuple(first), plan, tuple(nvram.operations))


def _after(window: Window, edited: Edited[T]) -> Window:
    return carried_out(window, edited.operations)
