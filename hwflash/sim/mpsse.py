"""The command processor of a simulated FT232H (MPSSE), on its own time line.

The engine takes commands from the OUT FIFO and puts answers into the IN FIFO. It runs behind
or beside the host: `Mpsse.run` lets it go on until a moment, a wanted answer, or a stall.

Ref: FTDI AN_108 (opcodes), AN_135 §2 (clocks); a pin or set-up command takes 0.5 µs, as
measured by pyftdi's author on the FT2232H (``Ftdi.mpsse_bit_delay``).

Limits: TMS commands (4xh, 6xh) and the CPU bus commands (90h to 93h) are answered as bad.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from hwflash.sim.shifter import REVERSE, Shifter
from hwflash.sim.wiring import Wiring

FIFO: Final = 1024
"""Bytes of each FIFO."""

_COMMAND: Final = 0.5e-6
_BASE: Final = 60e6
_GPIOL1: Final = 0x20

_Handler = Callable[[bytearray, int], None]


class Mpsse:
    """The engine.

    Attributes:
        time: how far the engine has come, in seconds of virtual time.
        inbox: the IN FIFO, without status bytes.
        oldest: when the oldest byte of ``inbox`` came, meaningless while it is empty.
        newest: when the last answer byte came.
        flush: bytes of ``inbox`` that a send-immediate command (87h) made visible.
        shifter: the pins and shift registers.
    """

    def __init__(self, wires: Wiring) -> None:
        self.shifter = Shifter(wires)
        self.time = 0.0
        self._table = self._build()
        self.reset()

    def reset(self) -> None:
        """The state after power-up or a change of the bit mode: pins are inputs, ÷5 is on."""
        self._buffer = bytearray()
        self._position = 0
        self.inbox = bytearray()
        self.oldest = self.newest = 0.0
        self.flush = 0
        self._adaptive = self._three_phase = False
        self._divide_by_five = True
        self._divisor = 0
        self._transfer = 0  # opcode of the byte transfer that is going on
        self._left = 0
        self._hung: Callable[[], bool] | None = None
        self._waiting = True
        self._wake = False
        self._wake_at: float = inf
        self._capacity = FIFO
        self._stretch = True
        self._until = 0.0
        self.shifter.reset()
        self._set_clock()

    # --- FIFOs -----------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Bytes of commands not yet taken."""
        return len(self._buffer) - self._position

    def feed(self, data: bytes, now: float) -> None:
        """Put command bytes behind those that are waiting."""
        self._resume(now)
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        self._buffer += data

    def drop(self, count: int) -> None:
        """Take back the last ``count`` bytes."""
        if count:
            del self._buffer[-count:]

    def purge_out(self) -> None:
        """Forget all waiting commands."""
        self._buffer.clear()
        self._position = 0

    def purge_in(self, now: float) -> None:
        """Forget all answers."""
        self.inbox.clear()
        self.flush = 0
        self._resume(now)

    def take(self, count: int, now: float) -> bytes:
        """Remove ``count`` bytes from the IN FIFO."""
        self._resume(now)
        data = bytes(self.inbox[:count])
        del self.inbox[:count]
        self.flush = max(0, self.flush - count)
        return data

    def pins(self) -> int:
        """Levels of the 16 pins."""
        return self.shifter.wires.pins()

    # --- running ---------------------------------------------------------------------------

    def run(
        self,
        now: float,
        until: float,
        *,
        keep: int = 0,
        capacity: int = FIFO,
        want: float = inf,
        stretch: bool = True,
    ) -> None:
        """Go on.

        Args:
            now: the host's time; an engine that was waiting wakes up here.
            until: no command is begun after this moment.
            keep: stop when no more than this many command bytes are waiting.
            capacity: bytes the IN FIFO takes, more than `FIFO` while the host is reading.
            want: stop when the IN FIFO holds this many bytes; an 87h stops as well.
            stretch: a read of many bytes may run past ``until``.
        """
        self._resume(now)
        self._capacity, self._wake_at, self._until = capacity, want, until
        self._stretch, self._wake = stretch, False
        buffer, table = self._buffer, self._table
        size = len(buffer)
        end = size - keep
        while self.time <= until and not self._wake and not self._waiting:
            position = self._position
            if self._left:
                if keep and position >= end:
                    break
                self._continue(end if keep else size)
                continue
            if position >= end:
                self._waiting = position >= size
                break
            if self._hung is not None and not self._hung():
                self._waiting = True
                break
            self._hung = None
            length, handler = table[buffer[position]]
            if position + length > size:
                self._waiting = True
                break
            self._position = position + length
            handler(buffer, position)

    def _resume(self, now: float) -> None:
        """An engine that was waiting looks again; it has not worked until now."""
        if self._waiting:
            self.time = max(self.time, now)
            self._waiting = False

    def _push(self, data: bytes, start: float) -> None:
        inbox = self.inbox
        if not inbox:
            self.oldest = start
        inbox += data
        self.newest = self.time
        if len(inbox) >= self._wake_at:
            self._wake = True

    def _room(self) -> int:
        return self._capacity - len(self.inbox)

    def _again(self, position: int) -> None:
        """The IN FIFO is full: the command waits."""
        self._position = position
        self._waiting = True

    # --- byte transfers --------------------------------------------------------------------

    def _begin_transfer(self, buffer: bytearray, position: int) -> None:
        self._transfer = buffer[position]
        self._left = 1 + buffer[position + 1] + (buffer[position + 2] << 8)
        if self._adaptive:
            self._hang_up(_never)

    def _continue(self, end: int) -> None:
        """Move as many bytes of the transfer as data, room and time allow."""
        opcode, count = self._transfer, self._left
        position = self._position
        if self._hung is not None:
            self._waiting = True
            return
        if opcode & 0x10:
            count = min(count, end - position)
        if opcode & 0x20:
            count = min(count, self._room())
            if not self._stretch:
                count = min(count, 1 + int((self._until - self.time) / self.byte_time))
        if count <= 0:
            self._waiting = True
            return
        data = b""
        if opcode & 0x10:
            data = bytes(self._buffer[position : position + count])
            self._position = position + count
        self._left -= count
        answer = self.shifter.run(opcode, data, count)
        start = self.time
        self.time = start + count * self.byte_time
        if opcode & 0x20:
            self._push(answer, start + self.byte_time)

    def _bits(self, buffer: bytearray, position: int) -> None:
        """12h to 3Eh: one to eight bits."""
        opcode = buffer[position]
        if opcode & 0x20 and self._room() < 1:
            self._again(position)
            return
        count = (buffer[position + 1] & 7) + 1
        lsb = bool(opcode & 0x08)
        data = 0
        if opcode & 0x10:
            value = buffer[position + 2]
            data = (REVERSE[value] if lsb else value) >> 8 - count
        answer = self.shifter.bits(opcode, data, count)
        self.time += count * self.byte_time / 8
        if opcode & 0x20:
            # Bits enter the byte at its low end (MSB first) or at its high end (LSB first).
            self._push(bytes((REVERSE[answer] if lsb else answer,)), self.time)

    def _idle_clocks(self, buffer: bytearray, position: int) -> None:
        """8Eh and 8Fh: clocks without data."""
        if buffer[position] == 0x8E:
            bits = (buffer[position + 1] & 7) + 1
        else:
            bits = 8 * (1 + buffer[position + 1] + (buffer[position + 2] << 8))
        self.time += bits * self.byte_time / 8
        self.shifter.idle(bits)

    # --- pins, clock, waiting ----------------------------------------------------------------

    def _set_pins(self, buffer: bytearray, position: int) -> None:
        self.time += _COMMAND
        shift = 8 if buffer[position] == 0x82 else 0
        self.shifter.set_pins(buffer[position + 1], buffer[position + 2], shift)

    def _get_pins(self, buffer: bytearray, position: int) -> None:
        if self._room() < 1:
            self._again(position)
            return
        self.time += _COMMAND
        shift = 8 if buffer[position] == 0x83 else 0
        self._push(bytes((self.shifter.wires.pins() >> shift & 0xFF,)), self.time)

    def _set_up(self, buffer: bytearray, position: int) -> None:
        """Switches in pairs of opcodes."""
        self.time += _COMMAND
        opcode = buffer[position]
        if opcode in (0x84, 0x85):
            self.shifter.loopback = opcode == 0x84
        elif opcode in (0x8A, 0x8B):
            self._divide_by_five = opcode == 0x8B
        elif opcode in (0x8C, 0x8D):
            self._three_phase = opcode == 0x8C
        else:
            self._adaptive = opcode == 0x96
        self._set_clock()

    def _set_divisor(self, buffer: bytearray, position: int) -> None:
        self.time += _COMMAND
        self._divisor = buffer[position + 1] | buffer[position + 2] << 8
        self._set_clock()

    def _set_clock(self) -> None:
        base = _BASE / 5 if self._divide_by_five else _BASE
        frequency = base / (2 * (1 + self._divisor))
        if self._three_phase:
            frequency *= 2 / 3
        self.byte_time = 8 / frequency
        self.shifter.wires.die.sck_hz = frequency

    def _nothing(self, _buffer: bytearray, _position: int) -> None:
        self.time += _COMMAND

    def _send_now(self, _buffer: bytearray, _position: int) -> None:
        self.flush = len(self.inbox)
        if self.flush and self._wake_at != inf:
            self._wake = True

    def _gpio_is(self, level: bool) -> bool:
        return bool(self.shifter.wires.pins() & _GPIOL1) is level

    def _hang_up(self, awake: Callable[[], bool]) -> None:
        if not awake():
            self._hung = awake

    def _wait_pin(self, buffer: bytearray, position: int) -> None:
        """88h, 89h, 94h, 95h: wait for GPIOL1; without a change it is for ever."""
        self.time += _COMMAND
        level = buffer[position] in (0x88, 0x94)
        self._hang_up(lambda: self._gpio_is(level))

    def _clock_until_pin(self, buffer: bytearray, position: int) -> None:
        """9Ch, 9Dh: clock bytes until GPIOL1 has the level, or the count is reached."""
        if not self._gpio_is(buffer[position] == 0x9C):
            bits = 8 * (1 + buffer[position + 1] + (buffer[position + 2] << 8))
            self.time += bits * self.byte_time / 8
            self.shifter.idle(bits)

    def _bad(self, buffer: bytearray, position: int) -> None:
        if self._room() < 2:
            self._again(position)
            return
        self.time += _COMMAND
        self._push(bytes((0xFA, buffer[position])), self.time)

    def _build(self) -> list[tuple[int, _Handler]]:
        """Length and handler of every opcode."""
        known: dict[int, tuple[int, _Handler]] = {
            0x80: (3, self._set_pins),
            0x81: (1, self._get_pins),
            0x82: (3, self._set_pins),
            0x83: (1, self._get_pins),
            0x86: (3, self._set_divisor),
            0x87: (1, self._send_now),
            0x8E: (2, self._idle_clocks),
            0x8F: (3, self._idle_clocks),
            0x9C: (3, self._clock_until_pin),
            0x9D: (3, self._clock_until_pin),
            0x9E: (3, self._nothing),
        }
        known |= dict.fromkeys((136, 137, 148, 149), (1, self._wait_pin))
        switches = (0x84, 0x85, 0x8A, 0x8B, 0x8C, 0x8D, 0x96, 0x97)
        known |= dict.fromkeys(switches, (1, self._set_up))
        for order in (0x00, 0x08):
            for code in (0x10, 0x11, 0x20, 0x24, 0x31, 0x34):
                known[code | order] = (3, self._begin_transfer)
            for code in (0x12, 0x13, 0x33, 0x36):
                known[code | order] = (3, self._bits)
            for code in (0x22, 0x26):
                known[code | order] = (2, self._bits)
        return [known.get(code, (1, self._bad)) for code in range(256)]


def _never() -> bool:
    return False
