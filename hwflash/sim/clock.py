"""Virtual time of one simulated programmer: it moves only when somebody says so."""

from __future__ import annotations

import threading


class VirtualClock:
    """A clock that never waits: sleeping moves it.

    Every part of one simulated programmer lives on one such clock, so that bus times, busy
    times and time-outs add up to one deterministic figure. May be used from several threads.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds of virtual time; never runs backwards."""
        return self._now

    def sleep(self, seconds: float, /) -> None:
        """Let ``seconds`` pass at once; a negative span is none."""
        self.advance(seconds)

    def advance(self, seconds: float, /) -> None:
        """Move on by ``seconds``; a negative span is none."""
        if seconds > 0:
            with self._lock:
                self._now += seconds

    def advance_to(self, instant: float, /) -> None:
        """Move on to ``instant``, unless it has passed already."""
        with self._lock:
            self._now = max(self._now, instant)
