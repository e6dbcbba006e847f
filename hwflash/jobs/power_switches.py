"""Switches of a real board's supply: a pin of the FT232H, a command, a relay on a serial port.

Ref: LC Technology's LCUS relay cards (CH340, 9600 baud): a message is A0, the number of the relay,
1 or 0, and the sum of the three modulo 256. Cards that take other bytes are given them by
``on_bytes`` and ``off_bytes``.
Limits: a relay card does not answer; that the bytes were sent is all that is known. A command is
believed by its exit code.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hwflash.bus.ftdi import Ft232hBus
from hwflash.console_port import open_port
from hwflash.errors import EnvironmentFault, ProgrammerError, UsageError
from hwflash.jobs.opening import Request, open_programmer
from hwflash.jobs.programmer import Programmer
from hwflash.jobs.run_command import run_command
from hwflash.progress import CancelToken
from hwflash.uefi.window import printable

if TYPE_CHECKING:
    from hwflash.boards import Board, Power
    from hwflash.console import Console

LCUS_START: Final = 0xA0
#: Bits a byte takes on a serial line, and what a card needs to act on the last one.
_BITS: Final = 10
_RELAY_SECONDS: Final = 0.05
#: Characters of a command's output that an error shows.
_SAID: Final = 300


def lcus_message(channel: int, on: bool) -> bytes:
    """What an LCUS relay card is sent for a relay, numbered from 1."""
    message = (LCUS_START, channel, int(on))
    return bytes((*message, sum(message) & 0xFF))


class RelaySwitch:
    """A relay card on a serial port, opened for each message.

    Args:
        power: the ``[power]`` of a board file.
    """

    lasting = True
    shares_lock = False
    console: Console | None = None

    def __init__(self, power: Power) -> None:
        self._port = power.port or ""
        self._baud = power.baud
        if power.on_bytes is not None and power.off_bytes is not None:
            self._messages = bytes.fromhex(power.off_bytes), bytes.fromhex(power.on_bytes)
            self.name = f"relay card {self._port}"
        else:
            self._messages = (
                lcus_message(power.channel, on=False),
                lcus_message(power.channel, on=True),
            )
            self.name = f"relay {power.channel} of {self._port}"

    def switch(self, on: bool, /) -> None:
        """See `hwflash.jobs.power.Switch`.

        Raises:
            ProgrammerError: no such port, or not for us (``power.relay-absent``,
                ``power.relay-inaccessible``, ``power.relay-busy``), or it takes no bytes
                (``power.relay-lost``).
        """
        message = self._messages[on]
        try:
            port = open_port(self._port, self._baud)
            try:
                port.write(message)
                time.sleep(_RELAY_SECONDS + _BITS * len(message) / self._baud)
            finally:
                port.close()
        except ProgrammerError as exc:
            word = exc.code.rpartition(".")[2]
            raise type(exc)(
                exc.message.replace("the console at", "the relay card at"),
                code=f"power.relay-{word}",
                port=self._port,
            ) from exc

    def close(self) -> None:
        """Nothing is held."""


class CommandSwitch:
    """Two commands of the board file. They get ``HWFLASH_BOARD``, and no input.

    Args:
        board: the board.
        environ: their environment variables.
        cancel: a request to stop ends the command that switches on; never the other.
    """

    lasting = True
    shares_lock = False
    console: Console | None = None

    def __init__(self, board: Board, environ: Mapping[str, str], cancel: CancelToken) -> None:
        self._board = board
        self._environ = {**environ, "HWFLASH_BOARD": board.name}
        self._cancel = cancel
        self.name = f"command {board.power.on[0]}"

    def switch(self, on: bool, /) -> None:
        """See `hwflash.jobs.power.Switch`.

        Raises:
            EnvironmentFault: the command cannot be started, fails, takes too long or prints
                without end (``power.command``). Its whole process group is ended.
            Interrupted: a stop was asked for while the board was being switched on.
        """
        power = self._board.power
        words = power.on if on else power.off
        ran = run_command(
            words,
            folder=Path.cwd(),
            timeout=power.timeout,
            environ=self._environ,
            # Half switched off is the worst of all states.
            cancel=self._cancel if on else CancelToken(),
        )
        if on:
            self._cancel.check()
        if ran.exit_code != 0:
            said = printable((ran.err or ran.out).decode("utf-8", "replace").strip()[-_SAID:])
            problem = ran.problem or f"ended with {ran.exit_code}"
            raise EnvironmentFault(
                f"the command that switches {self._board.name} {'on' if on else 'off'}, "
                f"{words[0]}, {problem}" + (f": {said}" if said else ""),
                code="power.command",
                command=list(words),
                exit_code=ran.exit_code,
            )

    def close(self) -> None:
        """Nothing is held."""


class PinSwitch:
    """The power pin of the FT232H that is also the programmer.

    While the board runs, every other pin of the FT232H is an input: SPI, WP#, HOLD# and reset are
    the board's. When the device is let go the pin floats, and a board needs its pull-down to stay
    without supply.

    Args:
        request: board and programmer.
    """

    lasting = False
    shares_lock = True
    console: Console | None = None

    def __init__(self, request: Request) -> None:
        wiring = request.board.programmer if request.board is not None else None
        self.name = f"pin {wiring.power if wiring else ''} of the programmer"
        self._request = request
        self._programmer: Programmer | None = None

    def switch(self, on: bool, /) -> None:
        """See `hwflash.jobs.power.Switch`.

        Raises:
            UsageError: the programmer is no FT232H (``power.pin``).
            ProgrammerError: absent, busy, not accessible, or lost; without it no pin is driven.
        """
        self._bus().let_go(supply=on)

    def close(self) -> None:
        """Let the FT232H go; its pins float."""
        programmer, self._programmer = self._programmer, None
        if programmer is not None:
            programmer.release()

    def _bus(self) -> Ft232hBus:
        if self._programmer is None:
            self._programmer = open_programmer(self._request, idle=True)
        bus = self._programmer.bus
        if not isinstance(bus, Ft232hBus) or not bus.switches_supply:
            name = self._programmer.name
            self.close()
            raise UsageError(
                f"{name} has no pin that switches a board: that takes an FT232H, and a power pin",
                code="power.pin",
                programmer=name,
            )
        return bus
