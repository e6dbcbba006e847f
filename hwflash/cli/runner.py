"""What happens around every command: signals, errors, the last line, the exit code."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import click

from hwflash import diagnostics
from hwflash.cli.output import Console, silence
from hwflash.errors import EnvironmentFault, HwflashError, Interrupted
from hwflash.progress import CancelToken

DEBUG: Final = "HWFLASH_DEBUG"
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command found.

    Attributes:
        keys: the command's own keys of the JSON result.
        lines: the same for people, on stdout.
        exit_code: 0 done, 1 differs.
        error: the command failed all the same, as when one of many units did: what it found is
            then talk.
    """

    keys: Mapping[str, object] = field(default_factory=dict[str, object])
    lines: Sequence[str] = ()
    exit_code: int = 0
    error: HwflashError | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What a command is given: where to print, and the request to stop."""

    console: Console
    cancel: CancelToken

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Wait for somebody else (an answer, a pipe): a stop signal ends the wait at once.

        Elsewhere a signal only sets the cancel token, and Python resumes the read that it
        interrupted (PEP 475), for ever if nothing comes.

        Raises:
            Interrupted: a stop was asked for.
        """

        def stop(_number: int, _frame: object) -> None:
            self.cancel.cancel()
            raise KeyboardInterrupt

        self.cancel.check()
        before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
        try:
            yield
        except KeyboardInterrupt as exc:
            raise Interrupted from exc
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def command(name: str) -> Callable[[Callable[..., Outcome]], Callable[..., None]]:
    """Make a function ``(run, **options) -> Outcome`` the body of a click command.

    The options must have ``json_lines``, from `hwflash.cli.params.json_option`.
    """

    def decorate(function: Callable[..., Outcome]) -> Callable[..., None]:
        @functools.wraps(function)
        def body(*, json_lines: bool, **options: Any) -> None:
            console = Console(name, json_lines=json_lines)
            run = Run(console, CancelToken())
            with stop_signals(run):
                exit_code = _carry_out(function, run, options)
            leave(exit_code)

        return body

    return decorate


def _carry_out(function: Callable[..., Outcome], run: Run, options: dict[str, Any]) -> int:
    try:
        outcome = function(run, **options)
        if outcome.error is not None:
            for line in outcome.lines:
                run.console.talk(line)
            run.console.failure(outcome.error, outcome.keys)
            return outcome.error.exit_code
        run.console.data(outcome.lines)
        run.console.result(outcome.exit_code, outcome.keys)
        # An answer that nobody got is no success. What asks before it writes has written: that is
        # one, and the codes of failures say that nothing was changed, or that nobody knows what.
        wrote = "yes" in options and outcome.keys.get("executed") is not False
        unheard = run.console.lost and not wrote
        return (
            EnvironmentFault.exit_code if unheard and not outcome.exit_code else outcome.exit_code
        )
    except HwflashError as exc:
        debug_traceback()
        run.console.failure(exc)
        return exc.exit_code
    except KeyboardInterrupt:
        run.console.failure(Interrupted())
        return diagnostics.INTERRUPTED
    except click.ClickException:
        raise
    except Exception as exc:
        debug_traceback()
        run.console.failure(HwflashError(f"internal error: {exc!r}", code="internal"))
        return diagnostics.INTERNAL


@contextmanager
def stop_signals(run: Run) -> Generator[None]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a request to stop at the next safe point."""

    def stop(number: int, _frame: object) -> None:
        run.cancel.cancel()
        # The signal may have come in the middle of a print to the same stream, which must not
        # be entered twice.
        with suppress(RuntimeError):
            run.console.talk(f"{signal.Signals(number).name}: stopping after this block")

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fail(name: str, error: HwflashError, *, json_lines: bool) -> NoReturn:
    """Report an error that came before a command's body, such as a bad option."""
    Console(name, json_lines=json_lines).failure(error)
    leave(error.exit_code)


def leave(exit_code: int) -> NoReturn:
    """End the process; output that nobody takes any more is not worth a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # pyright: ignore[reportUnnecessaryComparison] - closed by `>&-`
            continue
        try:
            stream.flush()
        except OSError:
            silence(stream)
    raise SystemExit(exit_code)


def debug_traceback() -> None:
    """Print where an error came from, when asked for by ``HWFLASH_DEBUG``."""
    if os.environ.get(DEBUG):
        traceback.print_exc()


def set_up_logging() -> None:
    """Log lines go to stderr: errors, or everything with ``HWFLASH_DEBUG``."""
    handler = logging.StreamHandler(sys.stderr)
    # On the handler, because pyftdi sets levels on its own loggers.
    handler.setLevel(logging.DEBUG if os.environ.get(DEBUG) else logging.ERROR)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logging.root.handlers = [handler]
