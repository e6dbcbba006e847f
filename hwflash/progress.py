"""Progress events: what a running job tells whoever watches it.

A job takes a `Reporter` and never prints. The command line turns events into bars or
lines, the TUI into a chip map, tests into lists.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from hwflash.errors import Interrupted

#: The phase that stands for a whole plan; it counts predicted milliseconds, not bytes.
PLAN = "plan"


@dataclass(frozen=True, slots=True)
class Progress:
    """State of one phase of a job.

    Attributes:
        phase: short name of the phase: ``read``, ``backup``, ``erase``, ``program``, ``verify``,
            or `PLAN`.
        done: work finished in this phase, in bytes (`PLAN`: milliseconds).
        total: all the work of this phase, likewise.
        address: where on the chip the last work was done, or None.
    """

    phase: str
    done: int
    total: int
    address: int | None = None


class Reporter(Protocol):
    """Receives what a job has to say. Calls come from the job's own thread."""

    def progress(self, event: Progress, /) -> None:
        """Work went on."""
        ...

    def info(self, message: str, /, **context: object) -> None:
        """Something the user wants to know; ``context`` holds the facts for scripts."""
        ...

    def warning(self, message: str, /, **context: object) -> None:
        """Something the user must know, though the job goes on."""
        ...


class NullReporter:
    """A reporter that tells nobody."""

    def progress(self, event: Progress, /) -> None:
        """Drop the event."""

    def info(self, message: str, /, **context: object) -> None:
        """Drop the message."""

    def warning(self, message: str, /, **context: object) -> None:
        """Drop the message."""


class CancelToken:
    """A request to stop, looked at between pages and erase blocks; no thread is ever killed."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the job to stop at the next safe point. May be called from any thread."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Wait, or until a stop is asked for, and then raise as `check` does."""
        self._event.wait(seconds)
        self.check()

    def check(self) -> None:
        """Raise `hwflash.errors.Interrupted` if a stop was asked for."""
        if self._event.is_set():
            raise Interrupted
