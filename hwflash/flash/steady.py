"""Slowing down until a bus answers twice the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from hwflash.bus.spi import SpiBus
from hwflash.errors import BusUnstable
from hwflash.progress import Reporter
from hwflash.units import format_hz

#: Wires that do not work at this clock do not work.
SLOWEST_HZ: Final = 400e3

T = TypeVar("T")


def until_steady(bus: SpiBus, reporter: Reporter, attempt: Callable[[], T]) -> T:
    """Make an attempt, and again at half the clock as long as its reads disagree.

    Args:
        bus: the bus; stays at the clock that worked.
        reporter: is told of every step down.
        attempt: what to do; raises `BusUnstable` when two reads differ.

    Raises:
        BusUnstable: the reads disagree at the slowest clock too.
    """
    while True:
        try:
            return attempt()
        except BusUnstable as exc:
            before = bus.frequency
            if before / 2 < SLOWEST_HZ:
                raise
            bus.set_frequency(before / 2)
            if bus.frequency >= before:  # a programmer whose clock cannot be changed
                raise
            reporter.warning(
                f"{exc}; {format_hz(before)} is too fast for these wires, "
                f"going on at {format_hz(bus.frequency)}",
                code=exc.code,
                unstable_hz=before,
                frequency=bus.frequency,
            )
