"""When the power goes: at a random time, or when a byte of the flash changes.

A simulated board's flash can be watched while it runs. A change of a byte in the FTW work space,
in the spare area or behind the last record shows that the firmware is in the middle of a write;
the cut comes a random moment later. Of a real board only the time is known.

Limits: the watch looks some thousand times a second; the cut comes up to a millisecond late.
"""

from __future__ import annotations

import mmap
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hwflash.jobs.endurance_judge import Place
from hwflash.progress import CancelToken
from hwflash.uefi.find import Found
from hwflash.units import Range

if TYPE_CHECKING:
    from pathlib import Path

#: How many cuts of a simulated board are triggered by a byte.
BY_BYTE: Final = 0.8
_LOOK_EVERY: Final = 0.0003
_LOOK_AT_CLOCK: Final = 0.01


class LinkedToken(CancelToken):
    """A request to stop of its own, and that of a parent.

    Args:
        parent: stops this one too.
    """

    def __init__(self, parent: CancelToken) -> None:
        super().__init__()
        self._parent = parent

    @property
    def cancelled(self) -> bool:
        """Whether a stop was asked for, here or of the parent."""
        return self._parent.cancelled or self._event.is_set()

    def reset(self) -> None:
        """Take the own request back; the parent's stays."""
        self._event.clear()

    def check(self) -> None:
        """See `CancelToken.check`."""
        self._parent.check()
        super().check()


@dataclass(frozen=True, slots=True)
class CutPlan:
    """When to cut.

    Attributes:
        after: seconds of the board's clock after which it is cut at the latest.
        address: byte on the chip whose change triggers the cut, or None.
        delay: seconds from that change to the cut.
        where: in words.
    """

    after: float
    address: int | None
    delay: float
    where: str


def plan_cut(
    chance: random.Random, window: float, place: Place, found: Found | None, *, watched: bool
) -> CutPlan:
    """Draw the moment of a cut.

    Args:
        chance: seeded; the same draws for the same seed, whatever is found.
        window: the longest time on, in seconds of the board's clock.
        place: where the store is.
        found: the store as it is; None when it is not known.
        watched: bytes can be watched.
    """
    draws = [chance.random() for _ in range(5)]
    if not watched or draws[0] >= BY_BYTE:
        return CutPlan(draws[1] * window, None, 0.0, "at a random time")
    where, span, longest = _target(draws[3], place, found)
    address = span.address + int(draws[4] * span.length)
    return CutPlan(window, address, longest * draws[2] ** 3, f"on a change in the {where}")


def _target(draw: float, place: Place, found: Found | None) -> tuple[str, Range, float]:
    """Bytes that a firmware which writes is likely to change, and the longest delay behind it."""
    space = found.ftw.work_space if found is not None else None
    store = found.store if found is not None else None
    first, end = place.variables.address, place.variables.end
    # What a reclaim keeps comes first, in the spare area and in the store.
    live = 0x80 + store.usage.used if store is not None else 0x1000
    if place.work is not None and draw < 0.15:
        at = space.free_offset if space is not None and space.valid else place.work.address
        return "work space", _within(at, 0x40, place.work.end), 1.0
    if place.spare is not None and draw < 0.45:
        return "spare area", _within(place.spare.address, live, place.spare.end), 3.0
    if store is not None and draw < 0.65:
        return "room behind the last record", _within(store.free_offset, 0x80, end), 0.2
    return "variables", _within(first, live, end), 2.0


def _within(at: int, length: int, end: int) -> Range:
    start = min(at, end - 1)
    return Range(start, min(length, end - start))


class Cutter(threading.Thread):
    """Cuts when its plan says so; use it in a ``with`` statement.

    Args:
        plan: when.
        clock: the board's.
        cut: what cuts; called once, from this thread.
        image: the chip's content, for a plan that watches a byte.
        cancel: ends the wait without a cut.
    """

    def __init__(
        self,
        plan: CutPlan,
        clock: Callable[[], float],
        cut: Callable[[], None],
        image: Path | None,
        cancel: CancelToken,
    ) -> None:
        super().__init__(daemon=True)
        self.plan = plan
        self.fired = threading.Event()
        self.by_byte = False
        self._clock = clock
        self._cut = cut
        self._image = image
        self._cancel = cancel
        self._over = threading.Event()
        self._failed: Exception | None = None

    def run(self) -> None:
        """Wait for the moment, and cut."""
        try:
            self._wait_and_cut()
        except Exception as exc:  # of this thread: nobody else would hear of it
            self._failed = exc
            self.fired.set()  # who waits for the cut waits no longer

    def _wait_and_cut(self) -> None:
        limit = self._clock() + self.plan.after
        if self.plan.address is not None and self._image is not None:
            with self._image.open("rb") as stream:
                view = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
                with view:
                    self.by_byte = self._watch(view, self.plan.address, limit)
        else:
            self._wait(lambda: False, limit, _LOOK_AT_CLOCK)
        if self.by_byte and self.plan.delay:
            self._wait(lambda: False, self._clock() + self.plan.delay, _LOOK_EVERY)
        if not (self._over.is_set() or self._cancel.cancelled):
            self.fired.set()
            self._cut()

    def __enter__(self) -> Cutter:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self.join()
        if self._failed is not None and kind is None:
            raise self._failed

    def _watch(self, view: mmap.mmap, address: int, limit: float) -> bool:
        first = view[address]
        return self._wait(lambda: view[address] != first, limit, _LOOK_EVERY)

    def _wait(self, happened: Callable[[], bool], limit: float, pace: float) -> bool:
        """Whether it happened before the clock reached the limit."""
        looked = 0.0
        while not self._over.is_set():
            if happened():
                return True
            now = time.monotonic()
            if now - looked >= _LOOK_AT_CLOCK:
                looked = now
                if self._cancel.cancelled or self._clock() >= limit:
                    return False
            time.sleep(pace)
        return False
