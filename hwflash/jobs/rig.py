"""A board on the bench: its supply, its console and its chip, one at a time.

The chip is the programmer's while the board is off, and the board's while it is on; `Rig.session`
refuses the one during the other.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from hwflash.console import Console
from hwflash.console_port import open_port
from hwflash.errors import (
    ChipStateUnknown,
    HwflashError,
    ProgrammerAbsent,
    ProgrammerBusy,
    UsageError,
)
from hwflash.jobs.opening import Request
from hwflash.jobs.power import BoardPower, PowerOptions, open_power
from hwflash.jobs.power_qemu import QemuSwitch
from hwflash.progress import CancelToken, Reporter

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.jobs.session import Session

#: How long a console that is on the board itself, and comes with its supply, may take to appear.
APPEAR_SECONDS: Final = 10.0
_LOOK_EVERY: Final = 0.1


def behind_a_change(error: HwflashError, done: str, facts: Mapping[str, Any]) -> ChipStateUnknown:
    """A failure that came when the chip had been changed: it must not count as none.

    Args:
        error: the failure.
        done: what was, and what was not.
        facts: of the failure, and of the chip.
    """
    if isinstance(error, ChipStateUnknown):
        error.context = dict(facts)
        return error
    known = {key: value for key, value in facts.items() if key not in ("code", "cause")}
    return ChipStateUnknown(f"{done}: {error.message}", cause=error.code, **known)


def open_console(
    board: Board, log: Path | None = None, cancel: CancelToken | None = None
) -> Console:
    """The console that a board file names.

    Raises:
        UsageError: it names none (``console.none``).
        ProgrammerError: see `hwflash.console_port.SerialPort`.
        EnvironmentFault: the log cannot be written (``console.log``).
    """
    if board.console is None:
        raise UsageError(f"board {board.name} has no [console]", code="console.none")
    port = open_port(board.console.port, board.console.baud)
    try:
        return Console(port, log, cancel)
    except BaseException:
        port.close()
        raise


class Rig:
    """A board that can be switched; use it in a ``with`` statement, which leaves it off.

    Args:
        request: board and programmer.
        reporter: is told what becomes of the supply.
        cancel: a request to stop ends every wait.
        log: file for the console's lines, or None.
        console_cancel: ends waits on the console too; None is the job's own request.

    Attributes:
        board: the board.
        request: as given.
        power: its supply.

    Raises:
        UsageError: see `hwflash.jobs.power.open_power`.
    """

    def __init__(
        self,
        request: Request,
        reporter: Reporter,
        cancel: CancelToken,
        log: Path | None = None,
        console_cancel: CancelToken | None = None,
    ) -> None:
        options = PowerOptions(log, console_cancel)
        self.power: BoardPower = open_power(request, reporter, cancel, options)
        assert request.board is not None  # noqa: S101 - open_power has looked
        self.board: Board = request.board
        self.request = request
        self._reporter = reporter
        self._cancel = cancel
        self._console_cancel = console_cancel or cancel
        self._log = log
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """The console of the board that is on.

        Raises:
            UsageError: the board file names none (``console.none``), or a simulated board is
                off (``power.is-off``).
        """
        found = self.power.console or self._console
        if found is None:
            if self.board.console is None and self.board.power.method != "qemu":
                raise UsageError(f"board {self.board.name} has no [console]", code="console.none")
            raise UsageError(f"board {self.board.name} is off", code="power.is-off")
        return found

    def seconds(self) -> float:
        """The clock by which patience with the board is counted: a guest's own, or the wall's."""
        switch = self.power.switch
        return switch.seconds() if isinstance(switch, QemuSwitch) else time.monotonic()

    def on(self) -> None:
        """Switch the board on, its console open before: not a byte is lost.

        A console that comes with the supply, on the board itself, is opened when it appears.

        Raises:
            HwflashError: see `hwflash.jobs.power.Power.on` and `open_console`; then the board
                is off, as far as that can be done.
        """
        wanted = self.board.console is not None and self._console is None
        if wanted:
            try:
                self._console = open_console(self.board, self._log, self._console_cancel)
            except ProgrammerAbsent:
                wanted = self.power.state != "on"
        self.power.on()
        if wanted and self._console is None:
            self._console = self._when_it_appears()

    def off(self) -> None:
        """Switch the board off, and close its console.

        Raises:
            HwflashError: see `hwflash.jobs.power.Power.off`.
        """
        try:
            self.power.off()
        finally:
            self._close_console()

    def session(self) -> Session:
        """The chip of the board, which must be off.

        Raises:
            ProgrammerBusy: it is on (``power.board-on``).
            HwflashError: see `hwflash.jobs.session.open_session`.
        """
        from hwflash.jobs.session import open_session

        if self.power.state == "on":
            raise ProgrammerBusy(
                f"board {self.board.name} is on: the programmer must not drive the bus of a "
                "board that runs",
                code="power.board-on",
                board=self.board.name,
            )
        return open_session(self.request, self._reporter)

    def close(self) -> None:
        """Switch the board off, and let go of everything."""
        try:
            self.power.close()
        finally:
            self._close_console()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.power.__exit__(kind, error, trace)
        finally:
            self._close_console()

    def _when_it_appears(self) -> Console:
        limit = time.monotonic() + APPEAR_SECONDS
        while True:
            self._cancel.check()
            try:
                return open_console(self.board, self._log, self._console_cancel)
            except ProgrammerAbsent:
                if time.monotonic() >= limit:
                    self.power.off()
                    raise
            time.sleep(_LOOK_EVERY)

    def _close_console(self) -> None:
        console, self._console = self._console, None
        if console is not None:
            console.close()
