"""Phase, rate and time left, from progress events and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hwflash.progress import PLAN, Progress
from hwflash.units import KIB, MIB, format_seconds

#: What phases are called at the bench; others are called by their own name.
PHASES: Final = {
    "read": "reading the chip",
    "backup": "reading again what will change",
    "erase": "erasing",
    "program": "programming",
    "verify": "verifying",
    "search": "searching",
    "contact": "testing the contact",
    PLAN: "writing",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a meter shows.

    Attributes:
        phase: in words.
        fraction: of the phase, or of the plan while it is carried out; 0 to 1.
        rate: bytes a second in this phase, or None while it is not known.
        left: seconds to the end of phase or plan, or None.
        address: where on the chip the last work was done, or None.
    """

    phase: str
    fraction: float
    rate: float | None
    left: float | None
    address: int | None

    @property
    def text(self) -> str:
        """One line: ``programming 42 %, 310 KiB/s, 12 s left``."""
        parts = [f"{self.phase} {100 * self.fraction:.0f} %"]
        if self.rate is not None:
            parts.append(format_rate(self.rate))
        if self.left is not None:
            parts.append(f"{format_seconds(self.left)} left")
        return ", ".join(parts)


def format_rate(rate: float) -> str:
    """``310 KiB/s``, ``1.2 MiB/s``."""
    if rate >= MIB:
        return f"{rate / MIB:.1f} MiB/s"
    return f"{rate / KIB:.0f} KiB/s"


class Meter:
    """Follows one job."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[float, int]] = {}
        self._last: dict[str, Progress] = {}
        self._current: Progress | None = None

    @property
    def last(self) -> dict[str, Progress]:
        """The last event of each phase."""
        return self._last

    def update(self, event: Progress, now: float) -> None:
        """Take an event in; ``now`` in seconds of a clock that never runs backwards."""
        before = self._last.get(event.phase)
        if before is None or event.done < before.done or event.total != before.total:
            self._began[event.phase] = now, 0 if before is None else event.done
        self._last[event.phase] = event
        if event.phase != PLAN or self._current is None:
            self._current = event

    def reading(self, now: float) -> Reading | None:
        """What to show; None before the first event."""
        event = self._current
        if event is None:
            return None
        whole = self._last.get(PLAN) if event.phase in ("erase", "program", PLAN) else None
        counted = whole or event
        fraction = min(counted.done / counted.total, 1.0) if counted.total else 1.0
        return Reading(
            PHASES.get(event.phase, event.phase),
            fraction,
            self._rate(event, now),
            self._left(counted, fraction, now),
            event.address,
        )

    def _rate(self, event: Progress, now: float) -> float | None:
        began, base = self._began[event.phase]
        seconds = now - began
        if event.phase in (PLAN, "contact") or seconds < 0.05 or event.done <= base:
            return None
        return (event.done - base) / seconds

    def _left(self, event: Progress, fraction: float, now: float) -> float | None:
        began, _ = self._began[event.phase]
        seconds = now - began
        if seconds < 0.2 or not 0 < fraction < 1:
            return None
        return seconds * (1 - fraction) / fraction
