"""The wires between the simulated FT232H and the simulated die, with what is wrong on them.

ADBUS0 is SCK, ADBUS1 MOSI, ADBUS2 MISO, ADBUS3 CS#. Every pin has a weak pull-up: what nobody
drives reads high, except where a strap or a fault says otherwise. Where wires are crossed, open
or shorted, `hwflash.sim.crossed` takes this one's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from random import Random
from typing import Final

from hwflash.errors import UsageError
from hwflash.sim.die import NorDie
from hwflash.sim.faults import Faults

SCK: Final = 0x01
MOSI: Final = 0x02
MISO: Final = 0x04
CS: Final = 0x08

_PINS: Final = {
    **{f"ADBUS{number}": number for number in range(4, 8)},
    **{f"ACBUS{number}": number + 8 for number in range(8)},
}


@dataclass(frozen=True, slots=True)
class PinMap:
    """Which programmer pin drives which pin of the board, by name (``ADBUS4``, ``ACBUS0``).

    Attributes:
        wp: the pin on WP#, or None.
        hold: the pin on HOLD#, or None.
        reset: the pin on RESET#, or None.
        power: the pin that switches the supply of the chip on when high, or None.
    """

    wp: str | None = "ADBUS4"
    hold: str | None = "ADBUS5"
    reset: str | None = None
    power: str | None = None


class Wiring:
    """Carries levels and bytes.

    Args:
        die: what hangs on the wires.
        pins: the map of the side-band pins.
        wp: level of WP# while the programmer does not drive it.
        faults: what is broken.
        seed: of the bit flips.
        second: another chip on the same four lines, or None.

    Attributes:
        plain: nothing stands between die and programmer.
        bitwise: every level goes through `drive` and `exchange`, clocks made by hand too.
        deaf: the programmer's own input is broken.

    Raises:
        UsageError: code ``usage.pin``: the map names a pin that does not exist.
    """

    bitwise = False

    def __init__(
        self,
        die: NorDie,
        pins: PinMap,
        wp: int,
        faults: Faults,
        seed: int,
        second: NorDie | None = None,
    ) -> None:
        self.die = die
        self._dies = (die,) if second is None else (die, second)
        self._faults = faults
        self._random = Random(f"wire-{seed}")
        self._wp, self._hold = _mask(pins.wp), _mask(pins.hold)
        self._reset, self._power = _mask(pins.reset), _mask(pins.power)
        self._side = self._wp | self._hold | self._reset | self._power
        self._wp_strap = bool(wp)
        self._level = 0xFFFF
        self._driven = 0
        self._until_flip = self._gap(faults.flip)
        self._until_ring = self._gap(faults.ring)
        self._window = 0  # bytes since CS# fell
        self._broken_down = False
        self._last = 1  # the level MISO had before, for one that comes late
        self._shorted = faults.stuck if faults.stuck.startswith("miso") else ""
        disturbed = faults.flip or self._shorted or faults.sag or faults.slip or faults.ring
        self.plain = not disturbed and second is None
        self.deaf = faults.engine == "deaf"
        if faults.supply == "off":
            die.power_off()
        self._start()

    def _start(self) -> None:
        self._side_band()
        if self._faults.cs == "low":
            self._select()

    def drive(self, value: int, direction: int) -> None:
        """Set all 16 pins: ADBUS in the low byte, ACBUS in the high one; 1 is output."""
        level = (value & direction) | (~direction & 0xFFFF)
        changed = (self._level ^ level) | (self._driven ^ direction)
        self._level, self._driven = level, direction
        if changed & self._side:
            self._side_band()
        if changed & CS and not self._faults.cs:
            if level & CS:
                self._deselect()
            elif not self.die.selected:
                self._select()

    def _select(self) -> None:
        for die in self._dies:
            die.select()

    def _deselect(self) -> None:
        for die in self._dies:
            die.deselect()
        self._window, self._last = 0, 1
        if self._broken_down:
            self._broken_down = False
            self.die.restore_power()

    def _side_band(self) -> None:
        die, level, faults = self.die, self._level, self._faults
        die.wp = self._read("wp", self._wp, self._wp_strap)
        die.hold = self._read("hold", self._hold, faults.hold != "low")
        if self._power and faults.supply != "off":
            if level & self._power:
                die.restore_power()
            else:
                die.power_off()
        if self._reset or faults.reset:
            die.set_reset(bool(level & self._reset) and not faults.reset)

    def _read(self, name: str, mask: int, strap: bool) -> bool:
        """The level of a side-band pin of the chip."""
        line, _, level = self._faults.stuck.partition("-")
        if line == name:
            return level == "high"
        if self._faults.open == name:
            return strap
        return bool(self._level & mask) if self._driven & mask else strap

    def pins(self) -> int:
        """Levels of all 16 pins as the programmer reads them."""
        level = self._level
        for name, mask, seen in (
            ("wp", self._wp, self.die.wp), ("hold", self._hold, self.die.hold),
        ):  # fmt: skip
            if self._faults.open != name:
                level = level | mask if seen else level & ~mask
        if self._driven & MISO and not self._shorted:
            return level
        return level | MISO if self._miso() else level & ~MISO

    def exchange(self, mosi: bytes) -> bytes:
        """Clock bytes through; what comes back has passed the faults."""
        faults = self._faults
        if not faults.sag or self.die.sck_hz <= faults.sag_above or not self.die.selected:
            return self.disturb(self._carry(mosi))
        left = max(0, faults.sag - self._window)
        self._window += len(mosi)
        if len(mosi) <= left:
            return self.disturb(self._carry(mosi))
        answer = self._carry(mosi[:left])
        self.die.power_off()
        self._broken_down = True
        return self.disturb(answer + b"\xff" * (len(mosi) - left))

    def exchange_bits(self, value: int, count: int) -> int:
        """Clock bits through, highest first."""
        answer = (1 << count) - 1
        for die in self._dies:
            answer &= die.exchange_bits(value, count)
        if self.plain:
            return answer
        return int.from_bytes(self.disturb((answer << 8 - count).to_bytes())) >> 8 - count

    def _carry(self, mosi: bytes) -> bytes:
        """Clock bytes through; where two chips drive MISO, the one that pulls low wins."""
        faults = self._faults
        if faults.ring and self.die.sck_hz > faults.ring_above and self.die.selected:
            return self._ringing(mosi)
        answer = self.die.exchange(mosi)
        for die in self._dies[1:]:
            other = int.from_bytes(die.exchange(mosi))
            answer = (int.from_bytes(answer) & other).to_bytes(len(mosi))
        return answer

    def _ringing(self, mosi: bytes) -> bytes:
        """Some rising edges of CLK count twice: the chip is ahead of the programmer then."""
        if self._until_ring >= 8 * len(mosi):
            self._until_ring -= 8 * len(mosi)
            return self.die.exchange(mosi)
        answer = bytearray()
        for byte in mosi:
            if self._until_ring >= 8:
                self._until_ring -= 8
                answer += self.die.exchange(bytes((byte,)))
                continue
            out = 0
            for place in range(7, -1, -1):
                bit = byte >> place & 1
                out = out << 1 | self.die.exchange_bits(bit, 1)
                if self._until_ring:
                    self._until_ring -= 1
                else:
                    self.die.exchange_bits(bit, 1)
                    self._until_ring = self._gap(self._faults.ring)
            answer.append(out)
        return bytes(answer)

    def disturb(self, data: bytes) -> bytes:
        """What the MISO wire makes of data."""
        faults = self._faults
        if self._shorted:
            return (b"\xff" if self._shorted == "miso-high" else b"\x00") * len(data)
        if faults.slip and data and self.die.sck_hz > faults.slip_above:
            late = (int.from_bytes(data) | self._last << 8 * len(data)) >> 1
            self._last = data[-1] & 1
            data = late.to_bytes(len(data))
        if not faults.flip or self.die.sck_hz <= faults.flip_above:
            return data
        bits = 8 * len(data)
        if self._until_flip >= bits:
            self._until_flip -= bits
            return data
        flipped = bytearray(data)
        place = self._until_flip
        while place < bits:
            flipped[place >> 3] ^= 0x80 >> (place & 7)
            place += 1 + self._gap(faults.flip)
        self._until_flip = place - bits
        return bytes(flipped)

    def _miso(self) -> bool:
        if self._shorted:
            return self._shorted == "miso-high"
        return all(die.miso() for die in self._dies)

    def _gap(self, rate: float) -> int:
        """Bits that come through unharmed before the next one that does not (geometric)."""
        if not rate or rate == 1:
            return 0
        return int(log(1.0 - self._random.random()) / log(1.0 - rate))


def _mask(name: str | None) -> int:
    if name is None:
        return 0
    if name not in _PINS:
        raise UsageError(f"there is no pin {name!r}", code="usage.pin", pin=name)
    return 1 << _PINS[name]
