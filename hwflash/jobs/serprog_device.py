"""The device end of the serial flasher protocol, in front of any `SpiBus`.

`SerprogDevice` is fed the bytes of a client and gives the bytes to answer; sockets and
terminals are `hwflash.jobs.serve_serprog`'s business. Commands that came together go to the bus
as one batch, so a client that sends ahead costs no round trip a command.

Ref: flashrom, Documentation/serprog-protocol.txt (version 1).
Limits: SPI only. A command whose lengths are beyond the maximum is refused with NAK and its data
are skipped: read as commands they could do anything to the chip.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from hwflash.bus import serprog_protocol as sp
from hwflash.bus.abilities import limits_of, releasable
from hwflash.bus.spi import Op, RealClock, SpiBus, Transfer, Wait

MAX_WRITE: Final = 1 << 16
MAX_READ: Final = 1 << 20
#: A socket and a pty have flow control, for which the protocol wants this answer.
SERIAL_BUFFER: Final = 0xFFFF
OPERATION_BUFFER: Final = 1024
#: Longest time one execution of the operation buffer may take.
MAX_DELAY: Final = 10.0
#: A batch ends when its answers or its waits reach this.
BATCH_REPLY: Final = 1 << 20
BATCH_WAIT: Final = 0.5

_ACK: Final = bytes((sp.ACK,))
_NAK: Final = bytes((sp.NAK,))
_PARAMETERS: Final = {
    sp.S_BUSTYPE: 1,
    sp.O_DELAY: 4,
    sp.O_SPIOP: 6,
    sp.S_SPI_FREQ: 4,
    sp.S_PIN_STATE: 1,
}


class SerprogDevice:
    """One programmer, as a serprog client sees it.

    Args:
        bus: where operations go. Its frequency at this moment is the highest a client may set.
        name: what the client is told, at most 16 ASCII characters.
    """

    def __init__(self, bus: SpiBus, name: str = "hwflash") -> None:
        self._bus = bus
        self._releasable = releasable(bus)
        self._ceiling = bus.frequency
        limits = limits_of(bus)
        self._max_write = min(MAX_WRITE, limits.write)
        self._max_read = min(MAX_READ, limits.read)
        self._handlers: dict[int, Callable[[bytes], bytes]] = {
            sp.S_BUSTYPE: self._set_bus_type,
            sp.O_DELAY: self._delay,
            sp.O_EXEC: self._execute,
            sp.O_INIT: self._initialise,
            sp.S_SPI_FREQ: self._set_frequency,
        }
        if self._releasable is not None:
            self._handlers[sp.S_PIN_STATE] = self._set_pins
        self._fixed = self._answers(name)
        self._driven = True
        self._real = isinstance(bus.clock, RealClock)
        self._seen = time.monotonic()
        self.operations = 0
        self.reset()

    def reset(self) -> None:
        """Forget the client: half a command, its operation buffer. The chip is left alone."""
        self._buffer = bytearray()
        self._skip = 0
        self._delays: list[float] = []
        self._ops: list[Op] = []
        self._replies: list[bytes | int] = []

    def release(self) -> None:
        """Let go of the chip's pins, if the bus can, until the next operation.

        Raises:
            ProgrammerError: the bus failed.
        """
        self._drive(False)

    def feed(self, data: bytes) -> None:
        """Take bytes of the client; `step` acts on them."""
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        self._buffer += data[skipped:]

    @property
    def ready(self) -> bool:
        """Whether `step` has a command to carry out."""
        return bool(self._buffer) and len(self._buffer) >= self._needed()

    @property
    def partial(self) -> bool:
        """Whether a command has begun whose end has not come."""
        return bool(self._skip) or (bool(self._buffer) and not self.ready)

    def step(self) -> bytes:
        """Carry out commands that are complete, up to about `BATCH_REPLY` bytes of answer.

        Raises:
            ProgrammerError: the bus failed.
        """
        size, waits = 0, 0.0
        while self.ready and size < BATCH_REPLY and waits < BATCH_WAIT:
            count = self._needed()
            command = bytes(self._buffer[:count])
            del self._buffer[:count]
            if command[0] == sp.O_SPIOP:
                size += self._operation(command)
            else:
                waits += sum(self._delays) if command[0] == sp.O_EXEC else 0.0
                reply = self._answer(command)
                self._replies.append(reply)
                size += len(reply)
        return self._flush()

    # --- commands ---------------------------------------------------------------------------

    def _needed(self) -> int:
        """Bytes of the command at the head of the buffer, as far as they are known."""
        opcode = self._buffer[0]
        if opcode not in self._fixed and opcode not in self._handlers and opcode != sp.O_SPIOP:
            return 1
        needed = 1 + _PARAMETERS.get(opcode, 0)
        if opcode == sp.O_SPIOP and len(self._buffer) >= sp.SPIOP_HEADER:
            write, _ = _lengths(self._buffer)
            # Too long: answered at once, and what follows is skipped.
            needed += write if self._acceptable() else 0
        return needed

    def _acceptable(self) -> bool:
        write, read = _lengths(self._buffer)
        return write <= self._max_write and read <= self._max_read

    def _operation(self, command: bytes) -> int:
        """Queue an SPI operation; the bytes its answer will have."""
        write, read = _lengths(command)
        if write > self._max_write or read > self._max_read:
            self._replies.append(_NAK)
            had = min(write, len(self._buffer))
            del self._buffer[:had]
            self._skip = write - had
            return 1
        self._drive(True)  # for clients that do not know of pins
        self._replies += [_ACK, len(self._ops)]
        self._ops.append(Transfer(command[sp.SPIOP_HEADER :], read))
        return 1 + read

    def _answer(self, command: bytes) -> bytes:
        if command[0] in self._fixed:
            return self._fixed[command[0]]
        handler = self._handlers.get(command[0])
        return _NAK if handler is None else handler(command[1:])

    def _flush(self) -> bytes:
        ops, replies = self._ops, self._replies
        self._ops, self._replies = [], []
        answers = self._carry_out(ops) if ops else []
        self.operations += len(ops)
        return b"".join(answers[item] if isinstance(item, int) else item for item in replies)

    def _carry_out(self, ops: list[Op]) -> list[bytes]:
        """Execute; a simulated chip's time goes on between two batches as its client's does.

        The client waits for a busy chip by the real clock, and on a crowded computer its next
        poll may come long after.
        """
        clock = self._bus.clock
        if not self._real:
            clock.sleep(time.monotonic() - self._seen)
        began, modelled = time.monotonic(), clock.now()
        try:
            return self._bus.execute(ops)
        finally:
            # What the batch took longer than its model is made up for before the next one.
            self._seen = min(time.monotonic(), began + clock.now() - modelled)

    def _set_bus_type(self, parameters: bytes) -> bytes:
        return _ACK if parameters[0] & sp.BUS_SPI else _NAK

    def _initialise(self, _parameters: bytes) -> bytes:
        self._delays = []
        return _ACK

    def _delay(self, parameters: bytes) -> bytes:
        seconds = int.from_bytes(parameters, "little") / 1e6
        room = sp.DELAY_SIZE * (len(self._delays) + 1) <= OPERATION_BUFFER
        if not room or sum(self._delays) + seconds > MAX_DELAY:
            return _NAK
        self._delays.append(seconds)
        return _ACK

    def _execute(self, _parameters: bytes) -> bytes:
        if self._delays:
            self._ops.append(Wait(sum(self._delays)))
            self._delays = []
        return _ACK

    def _set_frequency(self, parameters: bytes) -> bytes:
        wanted = int.from_bytes(parameters, "little")
        if not wanted:
            return _NAK
        self._catch_up()
        self._bus.set_frequency(min(float(wanted), self._ceiling))
        return _ACK + min(int(self._bus.frequency), 0xFFFFFFFF).to_bytes(4, "little")

    def _set_pins(self, parameters: bytes) -> bytes:
        self._drive(bool(parameters[0]))
        return _ACK

    def _drive(self, on: bool) -> None:
        if self._releasable is not None and self._driven != on:
            self._catch_up()
            self._releasable.drive(on)
            self._driven = on

    def _catch_up(self) -> None:
        """Carry out what is queued before the bus changes under it."""
        self._replies = [self._flush()]

    def _answers(self, name: str) -> dict[int, bytes]:
        """Answers that never change."""
        text = name.encode("ascii", "replace")[: sp.NAME_LENGTH].ljust(sp.NAME_LENGTH, b"\0")
        fixed = {
            sp.NOP: b"",
            sp.Q_IFACE: sp.VERSION.to_bytes(2, "little"),
            sp.Q_PGMNAME: text,
            sp.Q_SERBUF: SERIAL_BUFFER.to_bytes(2, "little"),
            sp.Q_BUSTYPE: bytes((sp.BUS_SPI,)),
            sp.Q_OPBUF: OPERATION_BUFFER.to_bytes(2, "little"),
            sp.Q_WRNMAXLEN: self._max_write.to_bytes(3, "little"),
            sp.Q_RDNMAXLEN: self._max_read.to_bytes(3, "little"),
        }
        offered = {*fixed, *self._handlers, sp.Q_CMDMAP, sp.SYNCNOP, sp.O_SPIOP}
        fixed[sp.Q_CMDMAP] = sp.command_map(offered)
        return {opcode: _ACK + answer for opcode, answer in fixed.items()} | {
            sp.SYNCNOP: sp.SYNC_ANSWER
        }


def _lengths(command: bytes | bytearray) -> tuple[int, int]:
    """(bytes out, bytes in) of an SPI operation."""
    return int.from_bytes(command[1:4], "little"), int.from_bytes(command[4:7], "little")
