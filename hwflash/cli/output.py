"""stdout is data, stderr is talk.

`Console` is what a command prints through: for people, or as JSON Lines with ``--json``. The
schema of the lines is ``docs/output.schema.json``.

A reader that goes away (``| head -1``) or a full disk behind ``>`` never stops a job: half a
write is worse than a lost line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from hwflash import diagnostics
from hwflash.errors import HwflashError
from hwflash.progress import PLAN, Progress
from hwflash.units import KIB

VERSION: Final = 1
#: Without a terminal, a phase says something at each tenth of it or after this many seconds.
QUIET_SECONDS: Final = 5.0
#: JSON progress lines per phase and second, at most.
JSON_INTERVAL: Final = 0.1


def silence(stream: TextIO) -> None:
    """Send what is still printed to a stream that cannot be written to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _open(stream: TextIO | None) -> TextIO:
    """A standard stream; one that was closed before we began (``2>&-``) is None in Python."""
    return stream if stream is not None else Path(os.devnull).open("w", encoding="utf-8")


#: Commands that never touch a chip.
WITHOUT_CHIP: Final = frozenset(
    {"list", "doctor", "bench", "completion", "chips", "boards", "qemu", "history", "tui"}
)


class Console:
    """Where a command's words go; also the `hwflash.progress.Reporter` of its job.

    Args:
        command: name of the command.
        json_lines: print JSON Lines on stdout.
        out: standard output.
        err: standard error.
    """

    def __init__(
        self,
        command: str,
        *,
        json_lines: bool,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self.command = command
        self.json_lines = json_lines
        self.out = out or _open(sys.stdout)
        self.err = err or _open(sys.stderr)
        self.terminal = self.err.isatty() and not json_lines
        self._bars = _Bars(self.err) if self.terminal else None
        self._said: dict[str, tuple[float, int]] = {}
        #: Something that was to go to stdout could not be written, as on a full disk.
        self.lost = False

    # --- what commands print --------------------------------------------------------------

    def begin(self, task: str, **facts: object) -> None:
        """A job begins."""
        if self.json_lines:
            self._json("task_begin", task=task, **facts)

    def data(self, lines: Sequence[str]) -> None:
        """The answer, for people; nothing with ``--json``."""
        self.stop_bars()
        if not self.json_lines:
            for line in lines:
                self._print(line, self.out)

    def talk(self, line: str) -> None:
        """A remark on stderr; nothing with ``--json``."""
        self.stop_bars()
        if not self.json_lines:
            self._print(line, self.err)

    def event(self, kind: str, **keys: object) -> None:
        """A line of JSON; nothing without ``--json``."""
        if self.json_lines:
            self._json(kind, **keys)

    def result(self, exit_code: int, keys: Mapping[str, object]) -> None:
        """The last line of a command that came to its end."""
        self.stop_bars()
        if self.json_lines:
            self._json(
                "result",
                command=self.command,
                ok=exit_code == 0,
                exit_code=exit_code,
                **keys,
            )
        self._print("", self.out, end="")

    def failure(self, error: HwflashError, keys: Mapping[str, object] | None = None) -> None:
        """The last words of a command that failed; ``keys`` are what it found all the same."""
        self.stop_bars()
        if self.json_lines:
            self._json(
                "result",
                command=self.command,
                ok=False,
                exit_code=error.exit_code,
                error=diagnostics.as_dict(error),
                **(keys or {}),
            )
        else:
            for line in diagnostics.as_lines(
                error, about_chip=self.command.split()[0] not in WITHOUT_CHIP
            ):
                self._print(line, self.err)
        self._print("", self.out, end="")

    # --- reporter -------------------------------------------------------------------------

    def progress(self, event: Progress, /) -> None:
        """Show how far a phase is."""
        if self._bars is not None:
            self._bars.update(event)
        elif (self.json_lines or event.phase != PLAN) and self._due(event):
            if self.json_lines:
                self._json(
                    "progress",
                    phase=event.phase,
                    done=event.done,
                    total=event.total,
                    address=event.address,
                )
            else:
                percent = 100 * event.done // max(event.total, 1)
                self._print(f"{event.phase}: {percent} %", self.err)

    def info(self, message: str, /, **context: object) -> None:
        """Pass on a remark."""
        if self.json_lines:
            self._json("info", message=message, context=context)
        else:
            self.talk(message)

    def warning(self, message: str, /, **context: object) -> None:
        """Pass on a warning."""
        if self.json_lines:
            self._json("warning", message=message, context=context)
        else:
            self.talk(f"warning: {message}")

    # --- inside ---------------------------------------------------------------------------

    def stop_bars(self) -> None:
        """Take the progress bar off the terminal before something else is printed."""
        if self._bars is not None:
            self._bars.stop()

    def _due(self, event: Progress) -> bool:
        now = time.monotonic()
        tenth = 10 * event.done // max(event.total, 1)
        limit = JSON_INTERVAL if self.json_lines else QUIET_SECONDS
        # Phases take turns (erase, program, erase, ...): each has a pace of its own.
        last, said = self._said.get(event.phase, (-limit, -1))
        if tenth != said or event.done >= event.total or now - last >= limit:
            self._said[event.phase] = now, tenth
            return True
        return False

    def _print(self, line: str, stream: TextIO, end: str = "\n") -> None:
        try:
            print(line, file=stream, end=end, flush=True)
        except OSError as exc:
            silence(stream)
            if stream is self.out and not isinstance(exc, BrokenPipeError):
                self.lost = True
                # With --json too: who reads lines that do not come has only this.
                self._print(f"warning: the output cannot be written: {exc.strerror}", self.err)

    def _json(self, kind: str, **keys: object) -> None:
        line = {"v": VERSION, "type": kind, **keys}
        self._print(json.dumps(line, default=str), self.out)


class _Bars:
    """A progress bar per phase and one for the whole plan, drawn by rich.

    rich is loaded when the first bar is needed.
    """

    def __init__(self, err: TextIO) -> None:
        self._err = err
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, float] = {}

    def update(self, event: Progress) -> None:
        if self._progress is None:
            self._progress = self._make()
            self._progress.start()
        if event.phase not in self._tasks:
            self._began[event.phase] = time.monotonic()
            self._tasks[event.phase] = self._progress.add_task(
                event.phase, total=event.total, amount=""
            )
        self._progress.update(
            self._tasks[event.phase],
            completed=event.done,
            total=event.total,
            amount=self._amount(event),
        )

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
            self._tasks = {}

    def _amount(self, event: Progress) -> str:
        if event.phase == PLAN:
            return f"{100 * event.done // max(event.total, 1)} %"
        seconds = max(time.monotonic() - self._began[event.phase], 1e-3)
        rate = event.done / seconds / KIB
        return f"{event.done / KIB:,.0f} of {event.total / KIB:,.0f} KiB, {rate:,.0f} KiB/s"

    def _make(self) -> Any:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        console = RichConsole(file=self._err, no_color="NO_COLOR" in os.environ)
        return RichProgress(
            TextColumn("{task.description:>8}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(),
            console=console,
        )
