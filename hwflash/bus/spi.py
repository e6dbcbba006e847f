"""The seam between chip commands and the wire.

A *batch* of operations is the unit, not one exchange: an FT232H turns a batch into one MPSSE
stream and one reply, serprog pipelines it, a simulator just loops. Nobody above knows which.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Transfer:
    """One chip-select window: shift ``write`` out, then shift ``read`` bytes in (mode 0)."""

    write: bytes
    read: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """At least ``seconds`` with the chip deselected."""

    seconds: float


Op = Transfer | Wait


class Clock(Protocol):
    """Time as the bus knows it: real for hardware, virtual for the simulated one."""

    def now(self) -> float:
        """Seconds since an arbitrary start; never runs backwards."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Let at least ``seconds`` pass."""
        ...


class RealClock:
    """The computer's own monotonic clock."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float, /) -> None:
        """Sleep for real."""
        if seconds > 0:
            time.sleep(seconds)


@dataclass(slots=True)
class BusStats:
    """What a bus has carried since it was opened.

    Attributes:
        usb_out: bulk OUT transfers.
        usb_in: bulk IN transfers.
        bytes_out: bytes in them, command overhead included.
        bytes_in: bytes in them, status bytes included.
        sck_bytes: bytes clocked with the chip selected.
    """

    usb_out: int = 0
    usb_in: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    sck_bytes: int = 0

    def as_dict(self) -> dict[str, int]:
        """The counters by name, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class SpiBus(Protocol):
    """A way to one chip."""

    @property
    def clock(self) -> Clock:
        """The time to measure chip time-outs by."""
        ...

    @property
    def stats(self) -> BusStats:
        """What was carried so far."""
        ...

    @property
    def frequency(self) -> float:
        """SCK in hertz, as it really is."""
        ...

    def execute(self, ops: Sequence[Op], /) -> list[bytes]:
        """Carry out a batch in order.

        Returns:
            One answer per operation, in order: exactly ``read`` bytes for a `Transfer`,
            ``b""`` for a `Wait`.

        Raises:
            ProgrammerLost: the programmer stopped answering; how much of the batch reached
                the chip is not known.
        """
        ...

    def set_frequency(self, hertz: float, /) -> None:
        """Change SCK to at most ``hertz``; `frequency` tells what it became."""
        ...

    def close(self) -> None:
        """Deselect the chip, release the pins and the programmer. May be called twice."""
        ...
