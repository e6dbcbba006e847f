"""``hwflash job endurance``: power cut at random moments while the firmware writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner
from hwflash.cli.asking import ask, nobody_is_there
from hwflash.cli.power import board_options, board_request
from hwflash.cli.results import state_for_history
from hwflash.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from collections import Counter

    from hwflash.boards import Board
    from hwflash.jobs.endurance_result import Cycle, EnduranceResult


@click.command("endurance")
@board_options
@click.option(
    "-n", "--cycles", type=click.IntRange(1, 100_000), default=30, show_default=True,
    help="Power cuts.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of all that is random.")  # fmt: skip
@click.option(
    "--window", type=click.FloatRange(min=0.1), default=30.0, show_default=True,
    help="Longest time on, in seconds of the board's own clock.",
)  # fmt: skip
@click.option(
    "--stress", type=click.Choice(["shell", "boot"]),
    help="Set variables by the UEFI Shell on the console, or leave the writing to the boot. "
    "Default: shell for a simulated board, boot for others.",
)  # fmt: skip
@click.option(
    "--fill", type=params.SIZE, metavar="SIZE",
    help="Before a cycle, fill the store with dead records until SIZE bytes are free: the "
    "firmware must reclaim it.",
)  # fmt: skip
@click.option("--ignore", multiple=True, help="Not these variables: NAME or NAME:GUID; * is any.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the content before, lost stores and the report. Default: in the state "
    "directory.",
)  # fmt: skip
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@runner.command("job endurance")
def command(
    run: runner.Run, board: Board, programmer: str | None, yes: bool, output: Path | None,
    stress: Any, **options: Any,
) -> runner.Outcome:  # fmt: skip
    """Cut the power while the board writes its variables, again and again, and look.

    A store that is lost is kept in the output folder, put back and counted; exit code 1. At the
    end the store is as it was before.
    """
    from hwflash.jobs.endurance import EnduranceOptions, run_endurance
    from hwflash.jobs.endurance_result import html_page
    from hwflash.jobs.report import save_report

    if not yes:
        _confirm(run, board, options["cycles"])
    folder = _folder(output, board.name)
    if stress is None:
        stress = "shell" if board.power.method == "qemu" else "boot"
    told = EnduranceOptions(
        folder=folder, stress=stress, state=state_for_history(run.console), **options
    )
    run.console.begin("endurance", board=board.name, folder=str(folder), seed=told.seed)

    def heard(cycle: Cycle) -> None:
        run.console.info(cycle_line(cycle), cycle=cycle.as_dict())

    request = board_request(board, programmer)
    result = run_endurance(request, told, run.console, run.cancel, heard)
    report = folder / "report.html"
    save_report(report, html_page(result))
    lines = [*_lines(result), f"report {report}"]
    keys = {**result.as_dict(), "report": str(report)}
    return runner.Outcome(keys, lines, 1 if result.lost else 0)


def cycle_line(cycle: Cycle) -> str:
    """A cycle in a line."""
    why = f" ({cycle.why})" if cycle.why else ""
    odd = f", {cycle.impossible} impossible programs" if cycle.impossible else ""
    return (
        f"cycle {cycle.number}: {cycle.seconds:.1f} s on, {cycle.operations} operations, cut "
        f"{cycle.cut}: {cycle.state}: {cycle.verdict}{why}{odd}"
    )


def _lines(result: EnduranceResult) -> list[str]:
    lines = [
        f"{result.board}: {len(result.cycles)} power cuts, {result.lost} stores lost",
        "what the cuts have left:",
        *_table(result.by_state()),
        "what became of a board that was switched on with it:",
        *_table(result.by_start()),
    ]
    if result.impossible:
        lines.append(f"in {result.impossible} cycles the firmware programmed what no chip could")
    return lines


def _table(counts: dict[str, Counter[str]]) -> list[str]:
    from hwflash.jobs.endurance_result import VERDICTS

    width = max([len(name) for name in counts], default=0)
    head = f"  {'':<{width}}" + "".join(f"{name:>13}" for name in VERDICTS)
    return [head] + [
        f"  {name:<{width}}" + "".join(f"{counted[verdict] or '-':>13}" for verdict in VERDICTS)
        for name, counted in counts.items()
    ]


def _confirm(run: runner.Run, board: Board, cycles: int) -> None:
    if nobody_is_there(run):
        raise UsageError("nobody is there to confirm the test", code="usage.job-confirm")
    ask(run, f"Cut the power of {board.name} {cycles} times while it writes?", "not confirmed")


def _folder(output: Path | None, board: str) -> Path:
    import os
    import time

    from hwflash.state import state_dir

    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = output or state_dir(os.environ) / "endurance" / f"{board}-{stamp}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise EnvironmentFault(
            f"{folder} cannot be made: {exc.strerror}", code="environment.unwritable",
            file=str(folder),
        ) from exc  # fmt: skip
    return folder
