"""Programming of parts that take a byte or a word at a time.

A byte takes microseconds, so nothing can be asked after each: runs of up to 256 bytes are queued
blind, many to a batch, with the data sheet's longest time after every program. What was there is
read before, in the same batch, and what is there afterwards is the proof.

Why this is safe, as far as is known: a busy chip ignores the next program (an assumption).
By single bytes (02h) that leaves a hole, which is filled in the next round. In auto address
increment (ADh, AFh) all that follows would land too low, within the run: that cannot be made
good without an erase, and is told as a failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hwflash.bus.spi import Op, SpiBus, Transfer, Wait
from hwflash.chip import opcodes
from hwflash.chip.commands import CommandSet
from hwflash.chip.model import Programming
from hwflash.flash.pipeline import (
    MAXIMUM_MARGIN,
    Page,
    Programmer,
    StatusPoller,
    program_failed,
)

#: Runs of 256 bytes in one batch: a quarter of a second on the bus.
BATCH_RUNS: Final = 64
#: Shorter runs are programmed byte by byte: leaving auto address increment costs as much.
SHORTEST_AAI: Final = 4
#: The wait grows by this after a batch in which something was lost.
GROWTH: Final = 1.5
#: Seconds to wait for the end of the last program: microseconds are no measure on a computer.
PATIENCE: Final = 0.01

_ENABLE: Final = Transfer(bytes((opcodes.WRITE_ENABLE,)))
_DISABLE: Final = Transfer(bytes((opcodes.WRITE_DISABLE,)))


@dataclass(slots=True)
class GrowingWait:
    """The wait after each program, in seconds: the data sheet's maximum, or more."""

    seconds: float


class ByteProgrammer(Programmer):
    """Programs runs of bytes through a `SpiBus`.

    Attributes:
        wait: the wait after each program.
    """

    def __init__(self, bus: SpiBus, commands: CommandSet) -> None:
        super().__init__(BATCH_RUNS)
        self._bus = bus
        self._commands = commands
        self._time = commands.chip.page_program
        self._how = commands.chip.programming
        self._poller = StatusPoller(bus, commands.chip)
        self.wait = GrowingWait(self._time.maximum)

    def _round(self, batch: Sequence[tuple[Page, int]]) -> list[tuple[Page, int]]:
        again = list(self._lost(batch))
        if again:  # slower than its data sheet
            limit = self._time.maximum * MAXIMUM_MARGIN
            self.wait.seconds = min(self.wait.seconds * GROWTH, limit)
        return again

    def _lost(self, batch: Sequence[tuple[Page, int]]) -> Iterator[tuple[Page, int]]:
        """Program a batch blind; gives what is still missing, with one attempt more."""
        pages = [page for page, _ in batch]
        reads = [Transfer(self._commands.read(page.address), len(page.data)) for page in pages]
        # A run that is sent again goes byte by byte: whatever is lost then leaves a hole only.
        programs = [op for page, attempts in batch for op in self._ops(page, attempts > 0)]
        old = self._bus.execute([*reads, *programs])[: len(reads)]
        self._poller.wait_ready(PATIENCE, 0.0, "program", pages[-1].address)
        for (page, attempts), before, after in zip(
            batch, old, self._bus.execute(reads), strict=True
        ):
            goal = bytes(a & b for a, b in zip(before, page.data, strict=True))
            if after == goal:
                continue
            if any(found & wanted != wanted for found, wanted in zip(after, goal, strict=True)):
                raise program_failed(page.address, after.hex())
            # FF changes nothing, so what is there already is not sent again.
            data = bytes(
                0xFF if found == wanted else wanted
                for found, wanted in zip(after, goal, strict=True)
            )
            yield Page(page.address, data), attempts + 1

    def _ops(self, page: Page, single: bool) -> Iterator[Op]:
        wait = Wait(self.wait.seconds)
        start, end = 0, len(page.data)
        if self._how is Programming.BYTE or single or end < SHORTEST_AAI:
            yield from self._bytes(page.address, page.data)
            return
        if self._how is Programming.AAI_WORD:  # words begin at even addresses
            start = page.address % 2
            end -= (end - start) % 2
        yield from self._bytes(page.address, page.data[:start])
        yield _ENABLE
        for command in self._commands.auto_increment(page.address + start, page.data[start:end]):
            yield Transfer(command)
            yield wait
            self.programs += 1
        yield _DISABLE
        yield from self._bytes(page.address + end, page.data[end:])

    def _bytes(self, address: int, data: bytes) -> Iterator[Op]:
        for place, value in enumerate(data, address):
            if value != 0xFF:
                yield _ENABLE
                yield Transfer(self._commands.program(place, bytes((value,))))
                yield Wait(self.wait.seconds)
                self.programs += 1
