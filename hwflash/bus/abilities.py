"""What some buses can do or cannot do, beyond `hwflash.bus.spi.SpiBus`.

A bus that says nothing carries transfers of any length, with its pins driven as long as it
is open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from hwflash.bus.spi import SpiBus


@dataclass(frozen=True, slots=True)
class Limits:
    """The longest transfer: one chip-select window cannot be cut in two.

    Attributes:
        write: bytes shifted out in one window, opcode and address included.
        read: bytes shifted in.
    """

    write: int
    read: int


NO_LIMITS: Final = Limits(1 << 32, 1 << 32)


@runtime_checkable
class Limited(Protocol):
    """A bus whose transfers have a longest length."""

    @property
    def limits(self) -> Limits:
        """The longest transfer."""
        ...


@runtime_checkable
class Releasable(Protocol):
    """A bus that can let go of the chip's pins and take them again while it is open."""

    def drive(self, on: bool) -> None:
        """Drive the pins, or make every one an input."""
        ...


def limits_of(bus: SpiBus) -> Limits:
    """The longest transfer of a bus."""
    return bus.limits if isinstance(bus, Limited) else NO_LIMITS


def releasable(bus: object) -> Releasable | None:
    """The bus, if it can let go of the chip's pins."""
    return bus if isinstance(bus, Releasable) else None
