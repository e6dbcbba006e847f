"""Watching the USB for programmers that are plugged in or taken away.

A thread of its own, because listing devices may take a while. Devices that are known are not
spoken to: somebody may be at work with them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hwflash.errors import HwflashError
from hwflash.jobs.look import FoundProgrammer, attached

PERIOD: Final = 1.0

Lister = Callable[[list[FoundProgrammer]], list[FoundProgrammer]]


@dataclass(frozen=True, slots=True)
class Plugged:
    """What is attached: (URL, name) pairs, or why that cannot be told."""

    programmers: tuple[tuple[str, str], ...]
    error: HwflashError | None = None


class PlugWatch:
    """Looks once in a while; `latest` is what it saw.

    Args:
        lister: lists what is attached, given what was.
    """

    def __init__(self, lister: Lister = attached) -> None:
        self._lister = lister
        self._stop = threading.Event()
        self._latest: Plugged | None = None
        self._thread = threading.Thread(target=self._run, name="plug watch", daemon=False)
        self._thread.start()

    @property
    def latest(self) -> Plugged | None:
        """What was seen last; None before the first time."""
        return self._latest

    def close(self) -> None:
        """Ask it to end; see `join`."""
        self._stop.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end; whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        known: list[FoundProgrammer] = []
        while not self._stop.is_set():
            try:
                known = self._lister(known)
                self._latest = Plugged(_named(known))
            except HwflashError as exc:
                self._latest = Plugged((), exc)
            self._stop.wait(PERIOD)


def _named(found: Sequence[FoundProgrammer]) -> tuple[tuple[str, str], ...]:
    return tuple((item.url, item.name) for item in found)
