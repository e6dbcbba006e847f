"""``hwflash power``: boards switched on and off, as their board files say."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hwflash.cli import params, runner
from hwflash.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.jobs.opening import Request
    from hwflash.jobs.power import BoardPower

F = TypeVar("F", bound=Callable[..., Any])


def board_options(function: F) -> F:
    """The board, which must be named, and its programmer."""
    function = params.json_option(function)
    function = click.option(
        "-p", "--programmer", metavar="URL",
        help="Programmer URL. Default: $HWFLASH_PROGRAMMER, the board's, or the only one.",
    )(function)  # fmt: skip
    return click.option(
        "-b", "--board", type=params.BoardName(), required=True,
        help="Board: a name or a board file.",
    )(function)  # fmt: skip


def board_request(board: Board, programmer: str | None) -> Request:
    """The request for a board."""
    from hwflash.jobs.opening import Request

    return Request(programmer=programmer, board=board, environ=os.environ)


_for_option = click.option(
    "--for", "seconds", type=click.FloatRange(min=0), help="Switch off again after so many seconds."
)


@click.group("power")
def command() -> None:
    """Switch a board on and off, as the [power] of its board file says.

    While a board is on, no command drives its bus.
    """


@command.command("on")
@board_options
@_for_option
@runner.command("power on")
def on(
    run: runner.Run, board: Board, programmer: str | None, seconds: float | None
) -> runner.Outcome:
    """Switch the board on.

    A supply that needs a running hwflash (a pin of the FT232H, QEMU) stays on until Ctrl-C.
    """
    with _opened(run, board, programmer) as power:
        _require_end(run, power, seconds)
        power.on()
        return _stay_on(run, board, power, seconds)


@command.command("off")
@board_options
@runner.command("power off")
def off(run: runner.Run, board: Board, programmer: str | None) -> runner.Outcome:
    """Switch the board off, and wait until it is without supply."""
    with _opened(run, board, programmer) as power:
        power.off()
        return _outcome(board, power)


@command.command("cycle")
@board_options
@_for_option
@runner.command("power cycle")
def cycle(
    run: runner.Run, board: Board, programmer: str | None, seconds: float | None
) -> runner.Outcome:
    """Switch the board off and on again."""
    with _opened(run, board, programmer) as power:
        _require_end(run, power, seconds)
        power.off()
        power.on()
        return _stay_on(run, board, power, seconds)


@command.command("status")
@board_options
@runner.command("power status")
def status(run: runner.Run, board: Board, programmer: str | None) -> runner.Outcome:
    """Say what is known of the board: on, off, or unknown. Nothing is switched or measured."""
    from hwflash.jobs.power import known_state

    state, mark = known_state(board_request(board, programmer))
    since = mark.since if mark is not None else None
    words = {
        "on": f"on since {since}",
        "off": "off",
        "unknown": "unknown: hwflash has not left it on",
    }[state]
    keys = {
        "board": board.name,
        "method": board.power.method,
        "state": state,
        "since": since,
    }
    return runner.Outcome(keys, [f"{board.name}: {words}"])


def _opened(run: runner.Run, board: Board, programmer: str | None) -> BoardPower:
    from hwflash.jobs.power import open_power

    return open_power(board_request(board, programmer), run.console, run.cancel)


def _require_end(run: runner.Run, power: BoardPower, seconds: float | None) -> None:
    """A script that waits for a result would wait for ever.

    Raises:
        UsageError: the supply ends with this command, and nobody says when (``usage.power-for``).
    """
    if not power.lasting and seconds is None and run.console.json_lines:
        raise UsageError(
            f"{power.name} ends with this command: say --for how long", code="usage.power-for"
        )


def _stay_on(
    run: runner.Run, board: Board, power: BoardPower, seconds: float | None
) -> runner.Outcome:
    """A board that was switched on: left so, or kept so for a while."""
    import time

    if power.lasting and seconds is None:
        power.keep()
        return _outcome(board, power)
    until = "Ctrl-C" if seconds is None else f"{seconds:g} s are over"
    run.console.talk(f"{board.name} is on until {until}")
    limit = None if seconds is None else time.monotonic() + seconds
    while not run.cancel.cancelled and (limit is None or time.monotonic() < limit):
        time.sleep(0.05)
    power.off()
    if limit is not None and run.cancel.cancelled:
        raise Interrupted("stopped on request; the board is switched off")
    return _outcome(board, power)


def _outcome(board: Board, power: BoardPower) -> runner.Outcome:
    keys = {"board": board.name, "method": board.power.method, "state": power.state}
    return runner.Outcome(keys, [f"{board.name} is {power.state}: {power.name}"])
