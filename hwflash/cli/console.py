"""``hwflash console``: what a board says on its serial port."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwflash.cli import params, runner
from hwflash.cli.power import board_options, board_request
from hwflash.errors import Interrupted

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.jobs.watch import Watched


@click.command("console")
@board_options
@click.option(
    "--until", multiple=True, metavar="REGEX",
    help="Stop when a line matches; of several, when each has come. Exit code 1 if it never does.",
)  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to watch. Default: no end.")
@click.option("--log", type=params.PATH, help="Write every line with its time to this file.")
@click.option(
    "--power", "switch", is_flag=True,
    help="Switch the board on first, and off at the end; a simulated board always is.",
)  # fmt: skip
@runner.command("console")
def command(
    run: runner.Run,
    board: Board,
    programmer: str | None,
    until: tuple[str, ...],
    timeout: float | None,
    log: Path | None,
    switch: bool,
) -> runner.Outcome:
    """Print what the board says on its serial console, until Ctrl-C."""
    import time

    from hwflash.jobs.rig import Rig, open_console
    from hwflash.jobs.watch import check_patterns, watch

    check_patterns(until)
    spoken = 0

    def heard(line: str) -> None:
        nonlocal spoken
        spoken += 1
        if run.console.json_lines:
            run.console.info(line)
        else:
            run.console.data([line])

    try:
        with ExitStack() as stack:
            if switch or board.power.method == "qemu":
                request = board_request(board, programmer)
                rig = stack.enter_context(Rig(request, run.console, run.cancel, log))
                rig.on()
                console, clock = rig.console, rig.seconds
            else:
                console, clock = open_console(board, log, run.cancel), time.monotonic
                stack.callback(console.close)
            watched = watch(console, until, timeout, clock=clock, on_line=heard)
    except Interrupted:
        if until:
            raise
        return runner.Outcome({"board": board.name, "lines": spoken, "heard": [], "missing": []})
    return _outcome(board, watched)


def _outcome(board: Board, watched: Watched) -> runner.Outcome:
    keys = {"board": board.name, **watched_keys(watched)}
    if watched.missing:
        return runner.Outcome(keys, missing_lines(watched), 1)
    return runner.Outcome(keys)


def watched_keys(watched: Watched) -> dict[str, object]:
    """What was seen on a console, as scripts get it."""
    return {
        "heard": [
            {"pattern": item.pattern, "line": item.line, "seconds": item.seconds}
            for item in watched.heard
        ],
        "missing": list(watched.missing),
        "lines": watched.lines,
        "seconds": watched.seconds,
        "tail": list(watched.tail),
    }


def missing_lines(watched: Watched) -> list[str]:
    """What did not come, for people."""
    what = ", ".join(map(repr, watched.missing))
    if not watched.lines:
        return [f"{what} did not come in {watched.seconds:.1f} s: the console was silent"]
    return [f"{what} did not come in {watched.seconds:.1f} s; the last of {watched.lines} lines:",
            *(f"  {line}" for line in watched.tail)]  # fmt: skip
