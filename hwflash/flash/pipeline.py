"""Pipelined page programming.

Pages are queued blind, many to a batch: write enable, status, page program, a wait of about
the typical program time, status. Nothing is read back until the batch is over; the status
bytes then prove, page by page, what was programmed.

Why this is safe (Ref: write enable and page program of any SPI NOR data sheet): a busy chip
ignores write enable and page program, so a page that takes longer than the wait makes the
*next* page be skipped; it is never misplaced. A page counts as programmed only when the
status before it showed WEL = 1 and WIP = 0 exactly, and the page before it was seen to be
finished: WIP = 0 and WEL = 0. Some parts clear WIP a moment before WEL; a page sent in that
moment could show a stale WEL = 1 and be skipped, which the second condition rules out. Every
other page is read back and, if it differs, queued again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hwflash.bus.spi import Op, SpiBus, Transfer, Wait
from hwflash.chip import opcodes
from hwflash.chip.commands import CommandSet
from hwflash.chip.model import Chip, FailFlags
from hwflash.errors import ChipError, ChipTimeout

BATCH_PAGES: Final = 256
ATTEMPTS: Final = 8
#: A chip may take this much longer than its data sheet's maximum before it is given up.
MAXIMUM_MARGIN: Final = 2.0

_READY_MASK: Final = opcodes.STATUS_WIP | opcodes.STATUS_WEL


@dataclass(frozen=True, slots=True)
class Page:
    """Bytes to program within one page."""

    address: int
    data: bytes


class AdaptiveWait:
    """The wait after each page, found by trying.

    Too short a wait makes pages be skipped and sent again, too long a wait costs every page,
    and where the best lies depends on the chip: one whose pages all take nearly the same time
    wants a wait just above it, one with a few very slow pages does not want to wait for them
    every time. So the time each proven page cost is what counts: a step in one direction is
    kept while it makes pages cheaper, taken back and the other direction tried when not.
    """

    START: Final = 1.05
    STEP: Final = 1.05
    GAIN: Final = 0.995
    WINDOW: Final = 512
    HOLD: Final = 4
    HOLD_LIMIT: Final = 64

    def __init__(self, typical: float, maximum: float) -> None:
        self._floor = typical / 2
        self._ceiling = max(maximum, typical * self.START)
        self.seconds = typical * self.START
        self._best: tuple[float, float] | None = None
        self._factor = self.STEP
        self._hold = 0
        self._next_hold = self.HOLD
        self._pages = 0
        self._spent = 0.0

    def observe(self, proven: int, seconds: float) -> None:
        """Learn from one batch: how many pages it proved and what it took altogether."""
        self._pages += proven
        self._spent += seconds
        if self._pages < self.WINDOW:
            return
        cost = self._spent / self._pages
        self._pages, self._spent = 0, 0.0
        if self._hold:
            self._hold -= 1
            if self._hold:
                return
        elif self._best is not None and cost > self._best[1] * self.GAIN:
            self.seconds = self._best[0]
            self._best = None
            self._factor = 1 / self._factor
            self._hold, self._next_hold = self._next_hold, min(self._next_hold * 2, self.HOLD_LIMIT)
            return
        self._best = (self.seconds, cost)
        self.seconds = min(max(self.seconds * self._factor, self._floor), self._ceiling)


class StatusPoller:
    """Waits for a chip to get ready, and reads why it failed.

    Stacked Micron parts (quirk ``flag-status-poll``) tell the end of an operation in the flag
    status register, bit 7, and want it read after each.
    """

    def __init__(self, bus: SpiBus, chip: Chip) -> None:
        self._bus = bus
        self._fail_flags = chip.fail_flags
        self._flag_status = "flag-status-poll" in chip.quirks
        opcode = opcodes.READ_FLAG_STATUS if self._flag_status else opcodes.READ_STATUS_1
        self.poll = Transfer(bytes((opcode,)), 1)

    def busy(self, answer: int) -> bool:
        """Whether an answer to `poll` says that the chip is busy."""
        if self._flag_status:
            return not answer & opcodes.FLAG_STATUS_READY
        return bool(answer & opcodes.STATUS_WIP)

    def finished(self, answer: int) -> bool:
        """Whether an answer to `poll` says that a write is over and its write enable spent."""
        return not self.busy(answer) and (self._flag_status or not answer & opcodes.STATUS_WEL)

    def wait_ready(self, maximum: float, interval: float, what: str, address: int) -> None:
        """Poll until WIP is 0 and no failure is flagged.

        Args:
            maximum: data-sheet maximum in seconds; the limit is `MAXIMUM_MARGIN` times it.
            interval: seconds between two polls.
            what: the operation, for the error.
            address: where it works, for the error.

        Raises:
            ChipTimeout: still busy after the limit.
            ChipError: the chip flags a failure (``chip.program-failed``,
                ``chip.erase-failed``).
        """
        limit = self._bus.clock.now() + maximum * MAXIMUM_MARGIN
        while True:
            # Before the status: the computer may stop for a while between the two.
            late = self._bus.clock.now() > limit
            status = self._bus.execute([self.poll])[0][0]
            if self._fail_flags is FailFlags.SPANSION_SR1 and status & 0x60 and status != 0xFF:
                # WIP stays 1 after a failure on these parts until the flags are cleared.
                self.check_failure(address, status)
            if not self.busy(status):
                break
            if late:
                raise ChipTimeout(
                    f"{what} at 0x{address:06X} is not over after {maximum * MAXIMUM_MARGIN:g} s "
                    f"(status {status:02X}h)",
                    address=address,
                    operation=what,
                    limit=maximum * MAXIMUM_MARGIN,
                    status=status,
                )
            if interval > 0:
                self._bus.execute([Wait(interval)])
        self.check_failure(address, status)

    def check_failure(self, address: int, status: int) -> None:
        """Raise if the chip's fail flags are up; they are cleared first."""
        erase, program, clear = self._flags(status)
        if not erase and not program:
            return
        if clear is not None:
            self._bus.execute([Transfer(bytes((clear,)))])
        raise _failure("erase" if erase else "program", address, status)

    def _flags(self, status: int) -> tuple[bool, bool, int | None]:
        """(erase failed, program failed, opcode that clears the flags)."""
        match self._fail_flags:
            case FailFlags.NONE:
                return False, False, None
            case FailFlags.SPANSION_SR1:
                return bool(status & 0x20), bool(status & 0x40), opcodes.CLEAR_STATUS
            case FailFlags.MICRON_FSR:
                flags = self._register(opcodes.READ_FLAG_STATUS)
                # Bit 1 tells of a protected target; the operation was refused.
                return bool(flags & 0x20), bool(flags & 0x10), opcodes.CLEAR_FLAG_STATUS
            case FailFlags.MACRONIX_SCUR:
                flags = self._register(opcodes.READ_SECURITY_STATUS)
                # Cleared by the next successful operation, not by a command.
                return bool(flags & 0x40), bool(flags & 0x20), None

    def _register(self, opcode: int) -> int:
        return self._bus.execute([Transfer(bytes((opcode,)), 1)])[0][0]


def _refused(address: int) -> ChipError:
    """The error for a page that the chip leaves as it is."""
    return ChipError(
        f"the page at 0x{address:06X} cannot be programmed: "
        f"the chip was ready {ATTEMPTS} times and left it as it was",
        code="chip.program-refused",
        address=address,
        attempts=ATTEMPTS,
    )


def program_failed(address: int, found: str) -> ChipError:
    """The error for bytes that hold neither what was there nor what was sent."""
    return ChipError(
        f"the bytes at 0x{address:06X} are not what was programmed",
        code="chip.program-failed",
        address=address,
        found=found,
    )


def _failure(kind: str, address: int, status: object) -> ChipError:
    return ChipError(
        f"the chip reports that the {kind} at 0x{address:06X} failed",
        code=f"chip.{kind}-failed",
        address=address,
        status=status,
    )


class Programmer(ABC):
    """Programs lists of pages in rounds, until each is proven.

    Attributes:
        programs: program commands sent.
        retries: pages that had to be sent again.
    """

    def __init__(self, batch: int) -> None:
        self._pages = batch
        self.programs: int = 0
        self.retries: int = 0

    def program(
        self, pages: Sequence[Page], done: Callable[[Sequence[Page]], None] | None = None
    ) -> None:
        """Program pages; their erased state is the caller's business.

        Args:
            pages: what to program. No page may cross a page limit of the chip.
            done: called with the pages of each batch that are proven programmed.

        Raises:
            ChipTimeout: the chip did not get ready.
            ChipError: a page cannot be programmed (``chip.program-refused``,
                ``chip.program-failed``).
        """
        queue = deque((page, 0) for page in pages)
        while queue:
            batch = [queue.popleft() for _ in range(min(self._pages, len(queue)))]
            again = self._round(batch)
            for page, attempts in again:
                if attempts >= ATTEMPTS:
                    raise _refused(page.address)
            queue.extendleft(reversed(again))
            self.retries += len(again)
            if done is not None:
                missing = {page.address for page, _ in again}
                done([page for page, _ in batch if page.address not in missing])

    @abstractmethod
    def _round(self, batch: Sequence[tuple[Page, int]]) -> list[tuple[Page, int]]:
        """Program a batch of pages, each with its attempts so far; gives what is missing."""


class PageProgrammer(Programmer):
    """Programs lists of pages through a `SpiBus`.

    Attributes:
        wait: the adaptive wait, kept from call to call.
    """

    def __init__(self, bus: SpiBus, commands: CommandSet) -> None:
        super().__init__(BATCH_PAGES)
        self._bus = bus
        self._commands = commands
        self._time = commands.chip.page_program
        self._poller = StatusPoller(bus, commands.chip)
        self.wait = AdaptiveWait(self._time.typical, self._time.maximum)

    def _round(self, batch: Sequence[tuple[Page, int]]) -> list[tuple[Page, int]]:
        before = self._bus.clock.now()
        doubts = self._batch([page for page, _ in batch])
        missing = self._missing([page for page, _ in batch if page.address in doubts])
        again = [
            (page, attempts + doubts[page.address])
            for page, attempts in batch
            if page.address in missing
        ]
        self.wait.observe(len(batch) - len(again), self._bus.clock.now() - before)
        return again

    def _batch(self, pages: Sequence[Page]) -> dict[int, bool]:
        """Program a batch blind.

        Returns:
            The address of each page whose status does not prove it; True if the chip was
            ready for it. A page that was skipped because the one before it took long has not
            been tried; the first page of a batch always is, so every batch gets on.
        """
        answers = self._bus.execute([op for page in pages for op in self._page_ops(page)])
        self.programs += len(pages)
        doubts: dict[int, bool] = {}
        finished = True
        started = pages[0].address
        for page, pre, post in zip(pages, answers[1::5], answers[4::5], strict=True):
            if not finished or pre[0] & _READY_MASK != opcodes.STATUS_WEL:
                doubts[page.address] = finished
            else:
                started = page.address
            finished = self._poller.finished(post[0])
        try:
            if not finished:
                self._poller.wait_ready(self._time.maximum, 0.0, "page program", started)
            else:
                self._poller.check_failure(started, answers[-1][0])
        except ChipError as exc:
            if exc.code != "chip.program-failed":
                raise
            # Flags may stay up while later pages go well: only the content tells which failed.
            tried = [page for page in pages if page.address not in doubts]
            failed = min(self._missing(tried), default=started)
            raise _failure("program", failed, exc.context["status"]) from exc
        return doubts

    def _page_ops(self, page: Page) -> tuple[Op, ...]:
        return (
            Transfer(bytes((opcodes.WRITE_ENABLE,))),
            Transfer(bytes((opcodes.READ_STATUS_1,)), 1),
            Transfer(self._commands.program(page.address, page.data)),
            Wait(self.wait.seconds),
            self._poller.poll,
        )

    def _missing(self, suspects: Sequence[Page]) -> set[int]:
        """Addresses of the pages that the chip does not hold.

        Reading first keeps a page from being programmed twice, which chips with ECC dislike.
        """
        reads = [Transfer(self._commands.read(page.address), len(page.data)) for page in suspects]
        answers = self._bus.execute(reads) if reads else []
        return {
            page.address
            for page, found in zip(suspects, answers, strict=True)
            if found != page.data
        }
