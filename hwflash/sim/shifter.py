"""Pins and shift registers of the simulated MPSSE engine, and what clock edges do to data.

Clock edges. The chip listens at rising edges of SCK and drives after falling ones. Data
written on the falling edge (opcode bit 0) arrive right; written on the rising edge each bit
arrives one clock late, behind the level MOSI had before. Reading on the rising edge is right
in mode 0 and 3. Reading on the falling edge (opcode bit 2) is right in mode 0 as well: the
chip changes MISO only after that edge, which is what pyftdi counts on; with SCK idling high
it gives each bit one clock late.

Ref: FTDI AN_108 §2.2 and §3.2; data sheets of SPI NOR chips on modes 0 and 3.
"""

from __future__ import annotations

from typing import Final

from hwflash.sim.wiring import CS, MOSI, SCK, Wiring

REVERSE: Final = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))
"""A byte with its bits the other way round."""

_WRITE_FALLING: Final = 0x01
_READ_FALLING: Final = 0x04
_LSB: Final = 0x08
_WRITE: Final = 0x10


class Shifter:
    """Shifts data through the wires as an opcode says.

    Attributes:
        wires: where the data go.
        loopback: what is written is read back.
        clocked: bytes clocked while CS# was driven low.
    """

    def __init__(self, wires: Wiring) -> None:
        self.wires = wires
        self.clocked = 0
        self.loopback = False
        self._value = self._direction = 0
        self._last_bit = 0

    def reset(self) -> None:
        """All pins are inputs."""
        self.loopback = False
        self._value = self._direction = 0
        self._last_bit = 0
        self.wires.drive(0, 0)

    def set_pins(self, value: int, direction: int, shift: int) -> None:
        """Set ADBUS (``shift`` 0) or ACBUS (``shift`` 8)."""
        rising = value & ~self._value & direction & SCK if not shift else 0
        other = 0xFF00 if not shift else 0x00FF
        self._value = self._value & other | value << shift
        self._direction = self._direction & other | direction << shift
        self._last_bit = self._value >> 1 & 1
        self.wires.drive(self._value, self._direction)
        if rising and self.wires.die.selected and not self.wires.bitwise:
            self.wires.exchange_bits(self._mosi(), 1)  # a clock made by hand

    def run(self, opcode: int, data: bytes, count: int) -> bytes:
        """``count`` bytes; ``data`` for opcodes that write."""
        lsb = opcode & _LSB
        if opcode & _WRITE:
            if lsb:
                data = data.translate(REVERSE)
            sent = data if opcode & _WRITE_FALLING else _late(data, self._last_bit)
            self._last_bit = data[-1] & 1
            if not self._direction & MOSI:
                sent = b"\xff" * count
        else:
            data = sent = (b"\xff" if self._mosi() else b"\x00") * count
        wires = self.wires
        if not self._direction & SCK:
            answer = wires.disturb(b"\xff" * count)
        else:
            answer = wires.die.exchange(sent) if wires.plain else wires.exchange(sent)
            if self._direction & CS and not self._value & CS:
                self.clocked += count
        if wires.deaf:
            answer = bytes(count)
        elif self.loopback:
            answer = data
        elif opcode & _READ_FALLING and self._value & SCK:
            answer = _late(answer, 1)
        return answer.translate(REVERSE) if lsb else answer

    def bits(self, opcode: int, data: int, count: int) -> int:
        """``count`` bits, highest first."""
        if not opcode & _WRITE:
            data = -self._mosi() & (1 << count) - 1
        sent = data
        if opcode & _WRITE:
            if not opcode & _WRITE_FALLING:
                sent = self._last_bit << count - 1 | data >> 1
            self._last_bit = data & 1
            if not self._direction & MOSI:
                sent = (1 << count) - 1
        answer = (1 << count) - 1
        if self._direction & SCK:
            answer = self.wires.exchange_bits(sent, count)
        if self.wires.deaf:
            return 0
        if self.loopback:
            return data
        if opcode & _READ_FALLING and self._value & SCK:
            return 1 << count - 1 | answer >> 1
        return answer

    def idle(self, count: int) -> None:
        """``count`` clocks without data; a selected chip takes them all the same."""
        wires = self.wires
        if not (self._direction & SCK and (wires.die.selected or wires.bitwise)):
            return
        level = self._mosi()
        wires.exchange((b"\xff" if level else b"\x00") * (count // 8))
        rest = count % 8
        if rest:
            wires.exchange_bits(-level & (1 << rest) - 1, rest)

    def _mosi(self) -> int:
        """The level MOSI rests at."""
        return self._last_bit if self._direction & MOSI else 1


def _late(data: bytes, before: int) -> bytes:
    """Every bit one clock late, behind the level that was there before."""
    size = len(data)
    return ((int.from_bytes(data) | before << 8 * size) >> 1).to_bytes(size)
