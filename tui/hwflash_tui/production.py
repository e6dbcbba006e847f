"""Counting units: done, failed, yield, and when to stop."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hwflash.jobs.job_result import UnitResult

#: Units whose lines are kept on the screen.
KEPT: Final = 100
#: Failures one after the other after which a line stops, if nothing else is said.
STOP_AFTER: Final = 3


@dataclass(slots=True)
class Tally:
    """What a line has done since it was started.

    Attributes:
        stop_after: failures one after the other after which it stops.
        done: units that passed.
        failed: units that did not.
        streak: failures one after the other at the end.
        last: the last unit, or None.
        lines: a line for each of the last units, the newest first.
        halted: why it stopped, or "".
    """

    stop_after: int = STOP_AFTER
    done: int = 0
    failed: int = 0
    streak: int = 0
    last: UnitResult | None = None
    lines: deque[str] = field(default_factory=lambda: deque[str](maxlen=KEPT))
    halted: str = ""

    @property
    def units(self) -> int:
        """All of them."""
        return self.done + self.failed

    @property
    def yield_text(self) -> str:
        """The share that passed; not before there is one."""
        return f"{100 * self.done / self.units:.1f} %" if self.units else "-"

    def add(self, result: UnitResult, fatal: bool) -> None:
        """Count a unit.

        Args:
            result: what became of it.
            fatal: no other unit would be spared.
        """
        self.last = result
        self.lines.appendleft(f"{'✓' if result.ok else '✗'} {result}")
        if result.ok:
            self.done += 1
            self.streak = 0
            return
        self.failed += 1
        self.streak += 1
        if fatal and result.error is not None:
            self.halted = f"no other unit would fare better: {result.error.message}"
        elif self.streak >= self.stop_after:
            count = "one unit" if self.streak == 1 else f"{self.streak} units one after the other"
            self.halted = f"{count} failed: call whoever is in charge"

    def resume(self) -> None:
        """Whoever is in charge lets it go on."""
        self.halted = ""
        self.streak = 0
