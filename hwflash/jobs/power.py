"""Switching a board on and off, as the ``[power]`` of its board file says.

A board that is on has its chip to itself: what drives SPI meanwhile would fight it. So the lock
of the programmer is held from before the board is switched on until it is off and without supply,
and a mark beside the lock tells every other process. A supply that outlasts hwflash (a command, a
relay) keeps its mark until it is switched off.

Left behind: off. `BoardPower.close` switches off whatever was switched on, after an exception and
after Ctrl-C too, unless `BoardPower.keep` was called. Only death by SIGKILL leaves a lasting supply
on, and its mark says so.

Limits: that a board is really on or off is never measured; the state is what was last done.
A board that nobody has marked (switched on by hand) is not known to be on.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

from hwflash.errors import HwflashError, ProgrammerBusy, UsageError
from hwflash.jobs.history_entry import utc
from hwflash.jobs.lock import Mark, ProgrammerLock, read_mark
from hwflash.jobs.opening import Request, board_key, locks, programmer_key
from hwflash.progress import CancelToken, Reporter

if TYPE_CHECKING:
    from pathlib import Path

    from hwflash.boards import Board
    from hwflash.console import Console

State = Literal["on", "off", "unknown"]
#: What is known of a chip after an error, when its board has run.
RAN = "the board has run since, and its firmware may have changed its variables"


class Switch(Protocol):
    """What switches a supply: a pin, a command, a relay, QEMU.

    Attributes:
        name: how messages call it.
        lasting: the supply stays as it is when hwflash ends.
        shares_lock: it opens the programmer itself, and so holds its lock.
    """

    name: str
    lasting: bool
    shares_lock: bool

    def switch(self, on: bool, /) -> None:
        """Switch.

        Raises:
            HwflashError: it did not work (``power.…``).
        """
        ...

    @property
    def console(self) -> Console | None:
        """The console that comes with the supply, as QEMU's; None: the board file has it."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class Power(Protocol):
    """The supply of a board; use it in a ``with`` statement.

    Attributes:
        name: what switches it, as messages call it.
        lasting: the supply stays as it is when hwflash ends.
    """

    name: str
    lasting: bool

    @property
    def state(self) -> State:
        """What was last done; ``unknown`` before anything was, and after a failure."""
        ...

    @property
    def console(self) -> Console | None:
        """The console that comes with the supply while the board is on; else None."""
        ...

    def on(self) -> None:
        """Switch the board on; nothing happens when it is on.

        Raises:
            ProgrammerBusy: the programmer of the board is in use, or another process has
                switched the board on (``power.board-on``).
            HwflashError: it did not work (``power.…``); the board was switched off again if
                that was possible.
        """
        ...

    def off(self) -> None:
        """Switch the board off, and wait until it is without supply.

        Raises:
            HwflashError: it did not work (``power.…``): the board may still be on.
        """
        ...

    def close(self) -> None:
        """Switch off what was switched on, and let go. May be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class PowerOptions:
    """How a supply is opened.

    Attributes:
        log: file for the lines of a console that comes with the supply, or None.
        console_cancel: ends waits on that console; None is the job's own.
    """

    log: Path | None = None
    console_cancel: CancelToken | None = None


class BoardPower:
    """A `Power` that reserves the programmer of the board while it is on.

    Args:
        board: the board.
        switch: what switches.
        folder: where locks are kept.
        keys: names of the locks that are held while the board is on.
        reporter: is told what became of the supply.

    Attributes:
        switch: as given.
    """

    def __init__(
        self, board: Board, switch: Switch, folder: Path, keys: list[str], reporter: Reporter
    ) -> None:
        self.name = switch.name
        self.lasting = switch.lasting
        self.switch = switch
        self._board = board
        self._folder = folder
        self._keys = keys
        self._reporter = reporter
        self._held: list[ProgrammerLock] = []
        self._touched = False
        self._ran = False
        self._closed = False
        self._state: State = "unknown"

    @property
    def state(self) -> State:
        """See `Power.state`."""
        return self._state

    @property
    def console(self) -> Console | None:
        """See `Power.console`."""
        return self.switch.console if self._state == "on" else None

    def on(self) -> None:
        """See `Power.on`."""
        if self._state == "on":
            return
        self._reserve()
        mark = Mark(self._board.name, utc(time.time()), self.lasting)
        self._touched, self._ran, self._state = True, True, "unknown"
        try:
            for lock in self._held:  # before: whatever happens next, it is known
                lock.set_mark(mark)
            self.switch.switch(True)
        except BaseException:
            self._off_after_failure()
            raise
        self._state = "on"

    def off(self) -> None:
        """See `Power.off`."""
        if self._state == "off":
            return
        self._reserve()
        self._touched, self._state = True, "unknown"
        self.switch.switch(False)
        # What drives the bus of a board that still has some supply feeds it through its pins.
        if self._board.power.method != "qemu":
            time.sleep(self._board.power.discharge)
        if self.switch.shares_lock:
            self.switch.close()
        for lock in self._held:
            lock.set_mark(None)
        self._state, self._touched = "off", False
        self._release()

    def keep(self) -> None:
        """Leave the board as it is at the end."""
        self._touched = False

    def add_to(self, error: HwflashError) -> None:
        """Let a failure say that the board has run, if it has: then its chip may have changed."""
        if self._ran:
            error.context = {"chip_state": RAN, **error.context}

    def close(self) -> None:
        """See `Power.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._touched:
                self.off()
                self._reporter.info(f"board {self._board.name} is switched off", power="off")
        finally:
            self._release()
            self.switch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, HwflashError):
            self.add_to(error)
        try:
            self.close()
        except HwflashError as failed:
            if error is None:
                raise
            # The first error says why; that the board is on must be known all the same.
            self._warn(failed)

    def _off_after_failure(self) -> None:
        try:
            self.off()
        except HwflashError as failed:
            self._warn(failed)
            self._touched = False
            self._release()

    def _warn(self, failed: HwflashError) -> None:
        self._reporter.warning(
            f"board {self._board.name} could not be switched off and may be on: {failed.message}",
            code=failed.code,
            power="unknown",
        )

    def _reserve(self) -> None:
        if self._held:
            return
        try:
            for key in self._keys:
                self._held.append(ProgrammerLock(self._folder, key, switching=True))
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        for lock in self._held:
            lock.release()
        self._held = []


def open_power(
    request: Request,
    reporter: Reporter,
    cancel: CancelToken,
    options: PowerOptions | None = None,
) -> BoardPower:
    """The supply of the board of a request; nothing is switched yet.

    Args:
        request: board and programmer.
        reporter: is told what becomes of the supply.
        cancel: a request to stop; switching off is not stopped by it.
        options: see there.

    Raises:
        UsageError: no board, or one that cannot be switched (``power.none``); a simulated board
            without a simulated chip (``power.not-simulated``).
    """
    options = options or PowerOptions()
    board = request.board
    if board is None or board.power.method == "none":
        what = f"board {board.name} has no [power]" if board else "no board is named"
        raise UsageError(f"{what}: it cannot be switched on and off", code="power.none")
    switch = _switch(request, board, reporter, cancel, options)
    keys = [board_key(board)] if switch.lasting else []
    if not switch.shares_lock and (key := programmer_key(request)) is not None:
        keys.append(key)
    return BoardPower(board, switch, locks(request), keys, reporter)


def known_state(request: Request) -> tuple[State, Mark | None]:
    """What is known of a board without switching it: marked as on, or nothing.

    Raises:
        UsageError: no board is named (``power.none``).
    """
    if request.board is None:
        raise UsageError("no board is named", code="power.none")
    folder = locks(request)
    for name in filter(None, (board_key(request.board), programmer_key(request))):
        mark = read_mark(folder, name)
        if mark is not None and not mark.lasting:
            # It is true while its process lives, which then holds the lock.
            with suppress(ProgrammerBusy):
                ProgrammerLock(folder, name).release()
            mark = read_mark(folder, name)
        if mark is not None:
            return "on", mark
    return "unknown", None


def _switch(
    request: Request,
    board: Board,
    reporter: Reporter,
    cancel: CancelToken,
    options: PowerOptions,
) -> Switch:
    match board.power.method:
        case "gpio":
            from hwflash.jobs.power_switches import PinSwitch

            return PinSwitch(request)
        case "relay":
            from hwflash.jobs.power_switches import RelaySwitch

            return RelaySwitch(board.power)
        case "qemu":
            from hwflash.jobs.power_qemu import QemuSwitch

            return QemuSwitch(
                request, board, reporter, options.console_cancel or cancel, options.log
            )
        case _:
            from hwflash.jobs.power_switches import CommandSwitch

            return CommandSwitch(board, request.environ, cancel)
