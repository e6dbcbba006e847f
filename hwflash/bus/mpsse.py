"""MPSSE command streams for SPI mode 0 on an FT232H.

Pure: operations in, command bytes and expected reply lengths out.

Ref: FTDI AN_108 "Command Processor for MPSSE and MCU Host Bus Emulation Modes" §3; FTDI
AN_135 §4 (bad-command synchronisation).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hwflash.bus.spi import Op, Transfer, Wait
from hwflash.errors import UsageError
from hwflash.units import format_hz

# AN_108 §3.3 to §3.8.
WRITE_BYTES_FALLING_MSB: Final = 0x11
READ_BYTES_RISING_MSB: Final = 0x20
EXCHANGE_BYTES_MSB: Final = 0x31
SET_LOW_PINS: Final = 0x80
GET_LOW_PINS: Final = 0x81
SET_HIGH_PINS: Final = 0x82
GET_HIGH_PINS: Final = 0x83
LOOPBACK_ON: Final = 0x84
LOOPBACK_OFF: Final = 0x85
SET_DIVISOR: Final = 0x86
SEND_IMMEDIATE: Final = 0x87
DIVIDE_BY_5_OFF: Final = 0x8A
THREE_PHASE_OFF: Final = 0x8D
CLOCK_BYTES_NO_DATA: Final = 0x8F
ADAPTIVE_OFF: Final = 0x97
BAD_COMMAND: Final = 0xFA

#: An opcode no engine knows; it is echoed as FA AA, which proves where the stream stands.
SYNC_OPCODE: Final = 0xAA

MAX_SHIFT: Final = 0x10000
BASE_CLOCK: Final = 60e6

SETUP: Final = bytes((DIVIDE_BY_5_OFF, ADAPTIVE_OFF, THREE_PHASE_OFF, LOOPBACK_OFF))

SCK: Final = 0x01
MOSI: Final = 0x02


def divisor_for(frequency: float) -> int:
    """The smallest clock divisor whose SCK does not exceed ``frequency``.

    SCK = 60 MHz / (2 * (1 + divisor)). pyftdi rounds to the nearest instead, which can
    exceed what the chip allows.

    Raises:
        UsageError: the engine cannot clock so slowly (``usage.frequency``).
    """
    lowest = frequency_of(0xFFFF)
    if not frequency >= lowest:
        raise UsageError(
            f"{frequency:g} Hz is below the slowest SCK, {format_hz(lowest)}",
            code="usage.frequency",
            frequency=frequency,
            lowest=lowest,
        )
    return max(-int(-BASE_CLOCK / (2 * frequency) // 1) - 1, 0)


def frequency_of(divisor: int) -> float:
    """SCK in hertz for a divisor."""
    return BASE_CLOCK / (2 * (1 + divisor))


@dataclass(frozen=True, slots=True)
class Pins:
    """Levels and directions of the sixteen pins while the chip is deselected.

    Bit n of the low byte is ADBUSn, of the high byte ACBUSn.

    Attributes:
        value: levels of the outputs, CS high, 16 bits.
        direction: ones are outputs, 16 bits.
        cs: mask of the chip-select pin, in the low byte.
    """

    value: int
    direction: int
    cs: int

    @property
    def deselect(self) -> bytes:
        """The command that raises CS."""
        return bytes((SET_LOW_PINS, self.value & 0xFF, self.direction & 0xFF))

    @property
    def select(self) -> bytes:
        """The command that lowers CS."""
        return bytes((SET_LOW_PINS, self.value & ~self.cs & 0xFF, self.direction & 0xFF))

    @property
    def high(self) -> bytes:
        """The command that sets the ACBUS pins."""
        return bytes((SET_HIGH_PINS, self.value >> 8 & 0xFF, self.direction >> 8 & 0xFF))


def write_bytes(data: bytes) -> bytes:
    """Shift ``data`` out, in commands of up to 64 KiB."""
    if 0 < len(data) <= MAX_SHIFT:
        length = len(data) - 1
        return bytes((WRITE_BYTES_FALLING_MSB, length & 0xFF, length >> 8)) + data
    return b"".join(
        write_bytes(data[start : start + MAX_SHIFT]) for start in range(0, len(data), MAX_SHIFT)
    )


def read_bytes(count: int) -> bytes:
    """Shift ``count`` (1 to 65,536) bytes in."""
    length = count - 1
    return bytes((READ_BYTES_RISING_MSB, length & 0xFF, length >> 8))


def clock_bytes(seconds: float, frequency: float) -> bytes:
    """Toggle SCK for at least ``seconds`` without moving data.

    Each command makes 8 * (n + 1) clocks.
    """
    count = max(1, -int(-seconds * frequency // 8))
    stream = bytearray()
    while count:
        part = min(count, MAX_SHIFT)
        stream += bytes((CLOCK_BYTES_NO_DATA, (part - 1) & 0xFF, (part - 1) >> 8))
        count -= part
    return bytes(stream)


@dataclass(frozen=True, slots=True)
class Round:
    """A piece of a batch that is written in one go and answered in one go.

    Attributes:
        stream: MPSSE commands.
        reply: bytes the engine will answer.
        seconds: least time the commands keep the wire busy.
    """

    stream: bytes
    reply: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass without talking to the engine."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Streaming:
    """A transfer whose answer is larger than the engine's FIFO.

    Attributes:
        head: select the chip and shift the command out.
        read: bytes to read.
        tail: deselect the chip.
    """

    head: bytes
    read: int
    tail: bytes


Step = Round | Sleep | Streaming


class Compiler:
    """Turns batches into steps.

    The FT232H answers into a 1 KiB FIFO, and stops when that is full; a host that goes on
    writing then is blocked for ever. So either the replies of a round fit that FIFO, or its
    commands fit the other one, from which the engine takes them as the host reads. A
    transfer that asks for more than one FIFO becomes a `Streaming` step of its own.

    Args:
        pins: pins and their levels.
        frequency: SCK in hertz.
        fifo: bytes of either FIFO that may be relied on.
        stream_limit: bytes of a round.
        clocked_wait_limit: longest wait made by toggling SCK, in seconds; a longer one is
            left to the host's clock.
    """

    def __init__(
        self,
        pins: Pins,
        frequency: float,
        *,
        fifo: int,
        stream_limit: int,
        clocked_wait_limit: float,
    ) -> None:
        self._pins = pins
        self._frequency = frequency
        self._fifo = fifo
        self._stream_limit = stream_limit
        self._clocked_wait_limit = clocked_wait_limit
        self._unanswered = 0.0

    def compile(self, ops: Sequence[Op]) -> Iterator[Step]:
        """The steps of a batch, in order.

        The engine may still be at work on what it was given and need not answer, so a wait
        on the host's clock is longer by the wire time of that.
        """
        stream = bytearray()
        reply = 0
        seconds = 0.0
        for op in ops:
            if isinstance(op, Transfer) and op.read > self._fifo:
                piece, answer, busy = b"", 0, 0.0
            elif isinstance(op, Wait):
                if op.seconds <= 0:
                    continue
                clocked = op.seconds <= self._clocked_wait_limit
                piece = clock_bytes(op.seconds, self._frequency) if clocked else b""
                answer, busy = 0, op.seconds if clocked else 0.0
            else:
                piece = self._transfer(op)
                answer, busy = op.read, (len(op.write) + op.read) * 8 / self._frequency
            length = len(stream) + len(piece)
            blocked = reply + answer > self._fifo and length > self._fifo
            if stream and (not piece or blocked or length > self._stream_limit):
                yield Round(bytes(stream), reply, seconds)
                stream, reply, seconds = bytearray(), 0, 0.0
            if piece:
                stream += piece
                reply += answer
                seconds += busy
                self._unanswered = 0.0 if answer else self._unanswered + busy
                continue
            pause, self._unanswered = self._unanswered, 0.0
            if isinstance(op, Wait):
                yield Sleep(op.seconds + pause)
            else:
                head = self._pins.select + write_bytes(op.write)
                yield Streaming(head, op.read, self._pins.deselect)
        if stream:
            yield Round(bytes(stream), reply, seconds)

    def _transfer(self, op: Transfer) -> bytes:
        read = read_bytes(op.read) if op.read else b""
        return self._pins.select + write_bytes(op.write) + read + self._pins.deselect
