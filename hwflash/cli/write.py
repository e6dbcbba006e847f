"""``hwflash write``, and what it shares with ``erase``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import asking, gang, params, reports, runner
from hwflash.cli.results import range_keys
from hwflash.errors import ChipStateUnknown, HwflashError, UsageError
from hwflash.units import format_seconds, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from hwflash.flash.plan import Plan
    from hwflash.jobs.gang_devices import Device
    from hwflash.jobs.gang_pool import Pool
    from hwflash.jobs.selection import Selection
    from hwflash.jobs.write import WriteOptions, WriteResult


@click.command("write")
@click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@params.gang_options
@params.selection_options
@params.format_option
@params.change_options
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[NAME]",
    help="Go on with a write that stopped half way: the only one, or the named one.",
)
@click.option("--restore", type=params.PATH, metavar="BACKUP", help="Write a backup back.")
@click.option(
    "--assume",
    type=params.PATH,
    metavar="FILE",
    help="The chip holds this image: look in a few places instead of reading it all.",
)
@gang.all_or_nothing_option
@reports.report_option
@runner.command("write")
@reports.reported
def command(
    run: runner.Run,
    file: Path | None,
    kind: str,
    resume: str | None,
    restore: Path | None,
    assume: Path | None,
    all_or_nothing: bool,
    **options: Any,
) -> runner.Outcome:
    """Write FILE into the chip (raw, Intel HEX or S-record; - is stdin).

    Identify, check, read and back up what will change, plan, ask, write, verify. What lies
    outside the file's range stays as it is. Several programmers (-p URL -p URL, --all) work at
    once; without --yes nothing is written before all plans are shown and confirmed.
    """
    devices = gang.taken(options)
    sources = [
        word for word, given in (("FILE", file), ("--resume", resume), ("--restore", restore))
        if given is not None
    ]  # fmt: skip
    if assume is not None and file is None:
        raise UsageError("--assume goes with a FILE to write", code="usage.selection")
    if len(sources) > 1:
        raise UsageError(f"{' and '.join(sources)} cannot be used together", code="usage.selection")
    chosen = params.selection(options)
    if resume is not None or restore is not None:
        if chosen.at is not None or chosen.range is not None or chosen.regions:
            raise UsageError(
                f"{sources[0]} knows its addresses; select nothing", code="usage.selection"
            )
        if devices is not None:
            raise UsageError(f"{sources[0]} is for one programmer at a time", code="usage.gang")
        if resume is not None:
            return _resume(run, resume, options)
    how = write_options(run, options, chosen.named, piped=str(file) == "-")
    if devices is not None:
        return _write_gang(run, devices, file, kind, assume, chosen, how, options, all_or_nothing)
    gang.require_one(all_or_nothing)
    if assume is not None:
        how = replace(how, assume=params.load_file(run, assume).segments)
    return _write(run, file, kind, restore, chosen, how, options)


def _write_gang(
    run: runner.Run,
    devices: Sequence[Device],
    file: Path | None,
    kind: str,
    assume: Path | None,
    chosen: Selection,
    how: WriteOptions,
    options: dict[str, Any],
    all_or_nothing: bool,
) -> runner.Outcome:
    from hwflash.jobs.gang_task import WriteTask

    params.require_file(file, chosen)

    def make(pool: Pool) -> WriteTask:
        found = gang.sources(run, pool, file, kind, chosen)
        known = pool.add_image(params.load_file(run, assume)) if assume is not None else None
        return WriteTask("write", chosen, replace(how, confirm=None), found, known)

    terms = gang.change_terms(run, how, all_or_nothing=all_or_nothing)
    words = params.repeated(options)
    request = params.request(options)
    return gang.run_gang(run, devices, request, how.state, make, terms, words)[1]


def _write(
    run: runner.Run,
    file: Path | None,
    kind: str,
    restore: Path | None,
    chosen: Selection,
    how: WriteOptions,
    options: dict[str, Any],
) -> runner.Outcome:
    from dataclasses import replace

    from hwflash.jobs.regions import EVERY
    from hwflash.jobs.selection import segments
    from hwflash.jobs.session import open_session
    from hwflash.jobs.write import restore_targets, write

    if restore is None:
        params.require_file(file, chosen)
    image = params.load_file(run, file, kind) if file is not None else None
    words = params.repeated(options)
    with repeatable(words), open_session(params.request(options), run.console) as session:
        session.use_layout(chosen.layout)
        if restore is not None:
            how = replace(how, kind="restore")
            targets = restore_targets(session, restore)
            # A backup that is named names what it holds.
            how = replace(how, named_regions=frozenset({EVERY}))
        else:
            targets = segments(
                chosen, image, lambda path: params.load_file(run, path, kind), session.chip.size,
                session.region,
            )  # fmt: skip
        run.console.begin("write", ranges=range_keys(item.range for item in targets))
        result = write(session, targets, how, run.console, run.cancel)
        stats = session.stats()
    if how.assume and not how.verify_full and result.executed:
        run.console.talk("what was not touched was not read: it is taken to be as assumed")
    return outcome(result, stats, "written", dry_run=how.dry_run)


def _resume(run: runner.Run, name: str, options: dict[str, Any]) -> runner.Outcome:
    from hwflash.jobs.opening import ENVIRONMENT
    from hwflash.jobs.session import open_session
    from hwflash.jobs.write import resume, still_half_written, unfinished

    how = write_options(run, options, frozenset(), piped=False)
    record = unfinished(how.state, name or None)
    words = params.repeated(options)
    request = params.request(options)
    if request.programmer is None and ENVIRONMENT not in request.environ:
        request = replace(request, programmer=record.programmer)
    run.console.info(f"resuming {record.name}", job=record.name)
    failing = still_half_written(record, words)
    with failing, repeatable(words), open_session(request, run.console) as session:
        run.console.begin("resume", job=record.name)
        result = resume(session, record, how, run.console, run.cancel)
        stats = session.stats()
    return outcome(result, stats, "resumed", dry_run=how.dry_run)


@contextmanager
def repeatable(words: Sequence[str], **more: object) -> Generator[None]:
    """Let a failure know the options that the commands it prints must repeat.

    Args:
        words: the options.
        more: what else the failure should know.
    """
    try:
        yield
    except HwflashError as exc:
        if isinstance(exc, ChipStateUnknown) or exc.context.get("unfinished"):
            exc.context = {**exc.context, **more, "options": list(words)}
        raise


def write_options(
    run: runner.Run, options: dict[str, Any], named: frozenset[str], *, piped: bool
) -> WriteOptions:
    """Take the options of a changing command out of ``options``.

    Raises:
        UsageError: nobody can be asked, and neither ``--yes`` nor ``--dry-run`` was given
            (``usage.confirm``); better now than after minutes of reading.
    """
    import os

    from hwflash.jobs.write import WriteOptions
    from hwflash.state import state_dir

    yes, dry_run = options.pop("yes"), options.pop("dry_run")
    nobody = piped or asking.nobody_is_there(run)
    if nobody and not yes and not dry_run:
        raise UsageError("nobody is there to confirm the plan", code="usage.confirm")
    accepts = bool(options.get("accept_other_board"))
    return WriteOptions(
        state=state_dir(os.environ),
        backup_folder=options.pop("backup_dir"),
        verify_full=options.pop("verify") == "full",
        dry_run=dry_run,
        lift_protection=options.pop("lift_protection", False),
        accept_other_board=accepts,
        details={"accept_other_board": True} if accepts else {},
        confirm=None if yes else _asker(run),
        named_regions=named,
        kind=run.console.command,
    )


def _asker(run: runner.Run) -> Callable[[Plan], bool]:
    """Shows the plan and asks; the end of input is a no."""

    def ask(plan: Plan) -> bool:
        from hwflash.cli.show import plan_lines

        for line in plan_lines(plan.as_dict()):
            run.console.talk(line)
        return asking.agrees(run, f"Write to {plan.part} now?")

    return ask


def outcome(
    result: WriteResult, stats: dict[str, Any], verb: str, *, dry_run: bool
) -> runner.Outcome:
    """The result of a write or an erase."""
    from hwflash.cli.show import plan_lines

    keys = {
        "bytes": result.bytes,
        "sha256": result.sha256,
        "seconds": round(result.seconds, 6),
        "changed": range_keys(result.changed),
        "mismatches": range_keys(result.mismatches),
        "backup": str(result.backup) if result.backup else None,
        "stats": stats,
        "dry_run": dry_run,
        "plan": result.plan.as_dict(),
        "history": result.entry,
    }
    if dry_run:
        return runner.Outcome(
            keys, [*plan_lines(result.plan.as_dict()), "dry run: nothing was written"]
        )
    if not result.executed:
        return runner.Outcome(keys, ["nothing to do: the chip holds this already"])
    touched = sum(item.length for item in result.changed)
    how = f"{format_size(result.bytes)} in {format_seconds(result.seconds)}"
    lines = [
        f"{verb} and verified: {how}, {format_size(touched)} touched",
        f"sha256 {result.sha256}",
        f"backup {result.backup}",
    ]
    return runner.Outcome(keys, lines)
