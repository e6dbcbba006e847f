"""How long the simulated die takes: seeded draws between typical and maximum.

Most chips of one type need nearly the same time for the same operation, and now and then one
operation takes much longer: a normal distribution of 5 % around the typical time, cut at three
standard deviations, with a tail of 0.4 % that is spread evenly up to the maximum.
"""

from __future__ import annotations

from random import Random
from typing import Final, Literal

from hwflash.chip.model import Duration

Timing = Literal["typical", "max", "datasheet"]

_SPREAD: Final = 0.05
_TAIL: Final = 0.004


class BusyTimes:
    """Draws busy times.

    Args:
        timing: ``typical`` draws, ``max`` is always the maximum, ``datasheet`` always typical.
        seed: of the draws; equal seeds give equal times.
        slow: share of page programs that take 80 to 100 % of the maximum, in every mode.
    """

    def __init__(self, timing: Timing, seed: int, slow: float = 0.0) -> None:
        self._timing = timing
        self._slow = slow
        self._random = Random(f"busy-{seed}")

    def draw(self, time: Duration, *, page: bool = False) -> float:
        """Seconds of one operation; ``page`` tells a page program, which may be slow."""
        if page and self._slow and self._random.random() < self._slow:
            return time.maximum * self._random.uniform(0.8, 1.0)
        if self._timing == "max":
            return time.maximum
        if self._timing == "datasheet":
            return time.typical
        if self._random.random() < _TAIL:
            return self._random.uniform(time.typical, time.maximum)
        spread = max(-3.0, min(3.0, self._random.gauss(0.0, 1.0))) * _SPREAD
        return min(time.maximum, time.typical * (1.0 + spread))
