"""What a command of the simulated die is, and the answers several of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hwflash.sim.die_core import Stream

MODE: Final = -1
"""An address as wide as the mode the chip is in."""


@dataclass(frozen=True, slots=True)
class Command:
    """One opcode.

    Attributes:
        stream: begins an answer for an address; None when the command answers nothing.
        act: carried out at the rising edge of CS#, with the address and the data bytes.
        address: address bytes, or -1 for as many as the mode says.
        dummy: bytes between the address and the answer.
        least, most: data bytes that ``act`` wants; another number makes it an aborted command.
        needs_wel: ``act`` needs the write enable latch.
        while_busy: works while an operation is going on.
        in_aai: works during auto address increment.
        wakes: works in deep power-down.
        slow: the clock limit of Read 03h counts.
        memory: the address is one of the main memory and wraps at the end of the chip.
    """

    stream: Callable[[int], Stream] | None = None
    act: Callable[[int, bytes], None] | None = None
    address: int = 0
    dummy: int = 0
    least: int = 0
    most: int | None = 0
    needs_wel: bool = False
    while_busy: bool = False
    in_aai: bool = False
    wakes: bool = False
    slow: bool = False
    memory: bool = True


def same(stream: Stream, _address: int) -> Stream:
    """An answer that does not depend on the address."""
    return stream


def cycle(pattern: bytes) -> Stream:
    """The pattern over and over."""
    position = 0

    def stream(length: int) -> bytes:
        nonlocal position
        start = position % len(pattern)
        position += length
        return (pattern * (2 + length // len(pattern)))[start : start + length]

    return stream


def padded(table: bytes, address: int) -> Stream:
    """A table with FF behind its end."""
    position = address

    def stream(length: int) -> bytes:
        nonlocal position
        data = table[position : position + length]
        position += length
        return data + b"\xff" * (length - len(data))

    return stream
