"""``hwflash job``: job files, checked and run."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import asking, gang, params, reports, runner
from hwflash.cli.job_boot import command as boot_
from hwflash.cli.job_endurance import command as endurance_
from hwflash.cli.write import repeatable
from hwflash.errors import HwflashError, Interrupted, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hwflash.jobs.gang_devices import Device
    from hwflash.jobs.job_batch import Batch
    from hwflash.jobs.job_result import UnitResult
    from hwflash.jobs.jobrun import Run
    from hwflash.jobs.opening import Request

UNITS_LIMIT = 100_000


@click.group("job")
def command() -> None:
    """Check and run job files; boot a board, and cut its power."""


command.add_command(boot_)
command.add_command(endurance_)


@command.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@params.json_option
@runner.command("job check")
def check(run: runner.Run, file: Path) -> runner.Outcome:
    """List every fault of a job FILE and of the files it names; exit code 1 when there is one.

    No hardware is touched, and no number is handed out.
    """
    from hwflash.jobs.jobfile import check_job

    checked = check_job(file)
    keys = {
        "file": str(file),
        "faults": [{"path": fault.path, "message": fault.message} for fault in checked.faults],
        "notes": list(checked.notes),
        "files": _files(checked.batch),
    }
    count = len(checked.faults)
    if count:
        head = f"{file} has {count} fault{'s' if count > 1 else ''}"
        return runner.Outcome(keys, [head, *(f"  {fault}" for fault in checked.faults)], 1)
    lines = [f"{file}: no faults"]
    lines += [f"  sha256 {item['sha256']}  {item['file']}" for item in _files(checked.batch)]
    return runner.Outcome(keys, [*lines, *(f"  {note}" for note in checked.notes)])


@command.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@params.which_programmers
@click.option(
    "-f", "--frequency", type=params.FREQUENCY, help="Highest SCK, such as 10M. Default: 30M."
)
@click.option(
    "--allow-voltage", is_flag=True,
    help="The chip takes less than 3.3 V and is properly level-shifted.",
)  # fmt: skip
@click.option(
    "-n", "--units", type=click.IntRange(1, UNITS_LIMIT), default=1, show_default=True,
    help="How many units: one after the other, or to whichever programmer is free.",
)  # fmt: skip
@click.option("-y", "--yes", is_flag=True, help="Do not ask, neither before nor between units.")
@click.option(
    "--backup-dir", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the backups. Default: in the state directory.",
)  # fmt: skip
@params.json_option
@reports.report_option
@runner.command("job run")
@reports.reported
def run_(run: runner.Run, file: Path, units: int, yes: bool, **options: Any) -> runner.Outcome:
    """Run a job FILE: each unit gets the image, its variables and numbers of its own.

    The file is checked first. A number is on the disk as taken before anything is written to
    the unit, and is never handed out twice. {unit} in a URL is the number of the unit, for
    simulated programmers. With several programmers, each takes the next unit when it is free.
    """
    from hwflash.jobs.jobfile import load_job
    from hwflash.jobs.jobrun import Run
    from hwflash.jobs.serials import SerialStore
    from hwflash.state import state_dir

    if not yes and asking.nobody_is_there(run):
        raise UsageError("nobody is there to confirm the job", code="usage.job-confirm")
    batch = load_job(file, os.environ)
    devices = gang.taken(options, batch.form.job.programmer)
    state = state_dir(os.environ)
    if not yes:
        _confirm(run, batch, units)
    if devices is not None:
        return _run_gang(run, batch, devices, units, state, options, ask=not yes)
    with SerialStore(state) if batch.supply.series else nullcontext() as store:
        work = Run(
            batch,
            _requests(batch, options),
            store,
            state,
            run.console,
            run.cancel,
            options["backup_dir"],
        )
        results, stopped = _units(run, work, units, ask=not yes)
    return _outcome(batch, results, units, options, stopped)


def _run_gang(
    run: runner.Run,
    batch: Batch,
    devices: Sequence[Device],
    units: int,
    state: Path,
    options: dict[str, Any],
    *,
    ask: bool,
) -> runner.Outcome:
    from hwflash.cli.gang_show import GangView
    from hwflash.jobs.gang import Gang
    from hwflash.jobs.gang_pool import Pool
    from hwflash.jobs.gang_rules import GangRules
    from hwflash.jobs.gang_task import JobTask
    from hwflash.jobs.unit_entry import new_batch

    name = new_batch(batch.form.job.name)
    view = GangView(run.console, devices)
    with Pool() as pool:
        task = JobTask.of(batch, pool, state, options["backup_dir"], name)
        pool.seal()
        request = replace(_requests(batch, options)(0), environ=dict(os.environ))
        rules = GangRules(batch.form.job.on_failure == "stop", asked=ask)
        operator = gang.Keyboard(view, units) if ask else None
        try:
            with Gang(devices, task, request, pool, state, view, run.cancel) as workers:
                rows = workers.run_units(units, operator, rules.ends_batch, rules.out_of_work)
                stopped = workers.declined
        finally:
            view.close()
    more: dict[str, object] = {"job": batch.form.job.name, "batch": name}
    return gang.outcome(rows, units, "unit", _words(batch, options), more, stopped=stopped)


def _files(batch: Batch | None) -> list[dict[str, str]]:
    if batch is None:
        return []
    return [{"file": str(path), "sha256": digest} for path, digest in sorted(batch.digests.items())]


def _requests(batch: Batch, options: dict[str, Any]) -> Callable[[int], Request]:
    """What is known of the programmer of each unit."""
    from hwflash.jobs.opening import ENVIRONMENT, Request

    given = options["programmer"]
    if given is None:
        given = os.environ.get(ENVIRONMENT) or batch.form.job.programmer

    def request(unit: int) -> Request:
        return Request(
            programmer=given.replace("{unit}", str(unit)) if given is not None else None,
            board=batch.board,
            frequency=options["frequency"],
            allow_voltage=options["allow_voltage"],
            environ=os.environ,
        )

    return request


def _units(
    run: runner.Run, work: Run, units: int, *, ask: bool
) -> tuple[list[UnitResult], Interrupted | None]:
    """What became of the units that were begun, and the stop between two of them."""
    from hwflash.jobs.jobrun import run_batch

    def connect(unit: int) -> None:
        if unit > 1:
            question = f"Connect unit {unit} of {units}. Write to it now?"
            asking.ask(run, question, f"stopped before unit {unit} of {units}")

    results: list[UnitResult] = []
    try:
        for result in run_batch(work, units, connect if ask else None):
            results.append(result)
            run.console.stop_bars()
            run.console.info(str(result), unit_result=result.as_dict())
    except Interrupted as stopped:
        return results, stopped
    return results, None


def _confirm(run: runner.Run, batch: Batch, units: int) -> None:
    form = batch.form
    run.console.talk(f"job {form.job.name}: {form.job.description}".rstrip(": "))
    for item in _files(batch):
        run.console.talk(f"  sha256 {item['sha256']}  {item['file']}")
    for variable in form.variable:
        run.console.talk(f"  variable {variable.name}")
    for place in form.bytes:
        run.console.talk(f"  bytes at 0x{place.at:06X}")
    asking.ask(run, f"Write to {units} unit{'s' if units > 1 else ''} now?", "not confirmed")


def _outcome(
    batch: Batch,
    results: list[UnitResult],
    units: int,
    options: dict[str, Any],
    stopped: Interrupted | None,
) -> runner.Outcome:
    """The end of a run; the first failure that is more than a step's is the command's own.

    Raises:
        HwflashError: that one, or else the stop between two units, with how many were done.
    """
    from hwflash.jobs.after_steps import AfterFailed

    done = sum(item.ok for item in results)
    failed = len(results) - done
    keys: dict[str, object] = {
        "job": batch.form.job.name,
        "wanted": units,
        "done": done,
        "failed": failed,
        "units": [item.as_dict() for item in results],
    }
    counts: dict[str, object] = {"done": done, "failed": failed, "wanted": units}
    counts["entries"] = [unit.history for unit in results if unit.history is not None]
    if len(results) > 1 or stopped is not None:
        counts["chip_state"] = _chip_states(results)
    errors = [(item, item.error) for item in results if item.error is not None]
    for item, error in errors:
        if not isinstance(error, AfterFailed):
            _raise(batch, item, error, counts, options)
    if stopped is not None:
        if results:
            stopped.context = {"job": batch.form.job.name, **stopped.context, **counts}
        raise stopped
    tail = f", {failed} failed, {units - len(results)} not begun" if failed else ""
    lines = [f"job {batch.form.job.name}: {done} of {units} done{tail}"]
    lines += [str(item) for item in results]
    return runner.Outcome(keys, lines, 1 if failed else 0)


def _chip_states(results: list[UnitResult]) -> str:
    """What is known of the chips of several units: one that failed says nothing of the others."""
    unknown = [item for item in results if item.error is not None and item.error.exit_code == 6]
    done = sum(item.changed for item in results if item not in unknown)
    counts = {
        "done": done,
        "unchanged": len(results) - done - len(unknown),
        "in an unknown state": len(unknown),
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _raise(
    batch: Batch,
    item: UnitResult,
    error: HwflashError,
    counts: dict[str, object],
    options: dict[str, Any],
) -> None:
    words = _words(batch, options)
    known = {key: value for key, value in error.context.items() if key != "code"}
    error.context = {"job": batch.form.job.name, **known, "unit": item.unit, **counts}
    # A store that was being changed is also recovered by hand.
    in_store = bool(batch.form.variable) and any(step.step == "image" for step in item.wrote)
    source = item.chip["programmer"] if item.chip is not None and in_store else None
    more = {"store": source} if source else {}
    with repeatable(words, **more):
        raise error


def _words(batch: Batch, options: dict[str, Any]) -> list[str]:
    """Options that printed commands repeat."""
    board = batch.form.job.board
    if board is not None and ("/" in board or board.endswith(".toml")):
        board = str(batch.folder / board)
    words = ["-b", board] if board is not None else []
    if options["frequency"] is not None:
        words += ["-f", f"{options['frequency']:.0f}"]
    return words + (["--allow-voltage"] if options["allow_voltage"] else [])
