"""Pipelined page programming.

Pages are queued blind, many to a batch: write enable, status, page program, a wait of about
the typical program time, status. Nothing is read back until the batch is over; the status
bytes then prove, page by page, what was programmed.

Why this is safe (Ref: W25Q128JV Rev. F §8.2.13, and any SPI NOR data sheet): a busy chip
ignores write enable and page program, so a page that takes longer than the wait makes the
*next* page be skipped; it is never misplaced. A page counts as programmed only when the
status before it showed WEL = 1 and WIP = 0 exactly, and the page before it was seen to be
finished. Some parts clear WIP a moment before WEL; a skipped page could then show a stale
WEL = 1, which the second condition rules out. Every other page is read back and, if it
differs, queued again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hwflash.bus.spi import Op, SpiBus, Transfer, Wait
from hwflash.chip import opcodes
from hwflash.chip.commands import CommandSet
from hwflash.chip.model import FailFlags
from hwflash.errors import ChipError, ChipTimeout

BATCH_PAGES: Final = 128
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

    Too short a wait costs retries, too long a wait costs every page. Above 2 % retries a
    longer wait is tried, without any for a while a shorter one; a trial that does not make
    the pages pass faster is taken back.
    """

    STEP_UP: Final = 1.2
    STEP_DOWN: Final = 0.95
    RETRY_SHARE: Final = 0.02
    CALM_BATCHES: Final = 4
    HOLD_BATCHES: Final = 12

    def __init__(self, typical: float, maximum: float) -> None:
        self.seconds = typical
        self._floor = typical / 2
        self._ceiling = maximum
        self._before: tuple[float, float] | None = None
        self._calm = 0
        self._hold = 0

    def observe(self, pages: int, retries: int, seconds: float) -> None:
        """Learn from one batch: its pages, how many must be repeated, how long it took."""
        cost = seconds / max(pages - retries, 1)
        if self._before is not None:
            wait, old_cost = self._before
            self._before = None
            if cost >= old_cost:
                self.seconds = wait
                self._hold = self.HOLD_BATCHES
                return
        self._calm = 0 if retries else self._calm + 1
        if self._hold:
            self._hold -= 1
        elif retries > pages * self.RETRY_SHARE:
            self._try(self.seconds * self.STEP_UP, cost)
        elif self._calm >= self.CALM_BATCHES:
            self._calm = 0
            self._try(self.seconds * self.STEP_DOWN, cost)

    def _try(self, wait: float, cost: float) -> None:
        self._before = (self.seconds, cost)
        self.seconds = min(max(wait, self._floor), self._ceiling)


class StatusPoller:
    """Waits for a chip to get ready, and reads why it failed."""

    def __init__(self, bus: SpiBus, fail_flags: FailFlags) -> None:
        self._bus = bus
        self._fail_flags = fail_flags

    def status(self) -> int:
        """Status register 1."""
        return self._bus.execute([Transfer(bytes((opcodes.READ_STATUS_1,)), 1)])[0][0]

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
            status = self.status()
            if self._fail_flags is FailFlags.SPANSION_SR1 and status & 0x60 and status != 0xFF:
                # WIP stays 1 after a failure on these parts until the flags are cleared.
                self.check_failure(address, status)
            if not status & opcodes.STATUS_WIP:
                break
            if self._bus.clock.now() > limit:
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
        kind = "erase" if erase else "program"
        raise ChipError(
            f"the chip reports that the {kind} at 0x{address:06X} failed",
            code=f"chip.{kind}-failed",
            address=address,
            status=status,
        )

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


class PageProgrammer:
    """Programs lists of pages through a `SpiBus`.

    Attributes:
        programs: page programs sent.
        retries: pages that were not proven programmed at the first go.
        wait: the adaptive wait, kept from call to call.
    """

    def __init__(self, bus: SpiBus, commands: CommandSet) -> None:
        self._bus = bus
        self._commands = commands
        self._time = commands.chip.page_program
        self._poller = StatusPoller(bus, commands.chip.fail_flags)
        self.wait = AdaptiveWait(self._time.typical, self._time.maximum)
        self.programs = 0
        self.retries = 0

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
            batch = [queue.popleft() for _ in range(min(BATCH_PAGES, len(queue)))]
            suspects = self._batch([page for page, _ in batch])
            again: list[tuple[Page, int]] = []
            for page, attempts in batch:
                if page.address not in suspects or self._holds(page):
                    continue
                if attempts + 1 >= ATTEMPTS:
                    raise ChipError(
                        f"the page at 0x{page.address:06X} cannot be programmed: "
                        f"{ATTEMPTS} attempts left it unchanged",
                        code="chip.program-refused",
                        address=page.address,
                        attempts=ATTEMPTS,
                    )
                again.append((page, attempts + 1))
            queue.extendleft(reversed(again))
            if done is not None:
                repeat = {page.address for page, _ in again}
                done([page for page, _ in batch if page.address not in repeat])

    def _batch(self, pages: Sequence[Page]) -> set[int]:
        """Program a batch blind; the addresses of the pages it does not prove."""
        before = self._bus.clock.now()
        answers = self._bus.execute([op for page in pages for op in self._page_ops(page)])
        seconds = self._bus.clock.now() - before
        self.programs += len(pages)
        suspects: set[int] = set()
        finished = True
        for page, pre, post in zip(pages, answers[1::5], answers[4::5], strict=True):
            if not finished or pre[0] & _READY_MASK != opcodes.STATUS_WEL:
                suspects.add(page.address)
            finished = not post[0] & opcodes.STATUS_WIP
        last = pages[-1].address
        if not finished:
            self._poller.wait_ready(self._time.maximum, 0.0, "page program", last)
        else:
            self._poller.check_failure(last, answers[-1][0])
        self.retries += len(suspects)
        self.wait.observe(len(pages), len(suspects), seconds)
        return suspects

    def _page_ops(self, page: Page) -> tuple[Op, ...]:
        status = Transfer(bytes((opcodes.READ_STATUS_1,)), 1)
        return (
            Transfer(bytes((opcodes.WRITE_ENABLE,))),
            status,
            Transfer(self._commands.program(page.address, page.data)),
            Wait(self.wait.seconds),
            status,
        )

    def _holds(self, page: Page) -> bool:
        """Whether the chip already holds what the page should become.

        Reading first keeps a page from being programmed twice, which chips with ECC dislike.
        """
        command = Transfer(self._commands.read(page.address), len(page.data))
        return self._bus.execute([command])[0] == page.data
