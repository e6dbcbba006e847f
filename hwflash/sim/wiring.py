"""The wires between the simulated FT232H and the simulated die, with what is wrong on them.

ADBUS0 is SCK, ADBUS1 MOSI, ADBUS2 MISO, ADBUS3 CS#. Every pin has a weak pull-up: what nobody
drives reads high, except where a strap or a fault says otherwise.
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

    Raises:
        UsageError: code ``usage.pin``: the map names a pin that does not exist.
    """

    def __init__(self, die: NorDie, pins: PinMap, wp: int, faults: Faults, seed: int) -> None:
        self.die = die
        self._faults = faults
        self._random = Random(f"wire-{seed}")
        self._wp, self._hold = _mask(pins.wp), _mask(pins.hold)
        self._reset, self._power = _mask(pins.reset), _mask(pins.power)
        self._side = self._wp | self._hold | self._reset | self._power
        self._wp_strap = bool(wp)
        self._level = 0xFFFF
        self._driven = 0
        self._until_flip = self._next_flip()
        self.plain = not (faults.flip or faults.stuck)
        self._side_band()
        if faults.cs == "low":
            die.select()

    def drive(self, value: int, direction: int) -> None:
        """Set all 16 pins: ADBUS in the low byte, ACBUS in the high one; 1 is output."""
        level = (value & direction) | (~direction & 0xFFFF)
        changed = (self._level ^ level) | (self._driven ^ direction)
        self._level, self._driven = level, direction
        if changed & self._side:
            self._side_band()
        if changed & CS and not self._faults.cs:
            if level & CS:
                self.die.deselect()
            elif not self.die.selected:
                self.die.select()

    def _side_band(self) -> None:
        die, level = self.die, self._level
        die.wp = self._read(self._wp, self._wp_strap)
        die.hold = self._read(self._hold, self._faults.hold != "low")
        if self._power:
            if level & self._power:
                die.restore_power()
            else:
                die.power_off()
        if self._reset:
            die.set_reset(bool(level & self._reset))

    def _read(self, mask: int, strap: bool) -> bool:
        return bool(self._level & mask) if self._driven & mask else strap

    def pins(self) -> int:
        """Levels of all 16 pins as the programmer reads them."""
        level = self._level
        for mask, seen in ((self._wp, self.die.wp), (self._hold, self.die.hold)):
            level = level | mask if seen else level & ~mask
        return level | MISO if self._miso() else level & ~MISO

    def exchange(self, mosi: bytes) -> bytes:
        """Clock bytes through; what comes back has passed the faults."""
        return self.disturb(self.die.exchange(mosi))

    def exchange_bits(self, value: int, count: int) -> int:
        """Clock bits through, highest first."""
        answer = self.die.exchange_bits(value, count)
        if self.plain:
            return answer
        return int.from_bytes(self.disturb((answer << 8 - count).to_bytes())) >> 8 - count

    def disturb(self, data: bytes) -> bytes:
        """What the MISO wire makes of data."""
        faults = self._faults
        if faults.stuck:
            return (b"\xff" if faults.stuck == "miso-high" else b"\x00") * len(data)
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
            place += 1 + self._next_flip()
        self._until_flip = place - bits
        return bytes(flipped)

    def _miso(self) -> bool:
        if self._faults.stuck:
            return self._faults.stuck == "miso-high"
        return bool(self.die.miso())

    def _next_flip(self) -> int:
        """Bits that come through unharmed before the next flipped one (geometric)."""
        rate = self._faults.flip
        if not rate or rate == 1:
            return 0
        return int(log(1.0 - self._random.random()) / log(1.0 - rate))


def _mask(name: str | None) -> int:
    if name is None:
        return 0
    if name not in _PINS:
        raise UsageError(f"there is no pin {name!r}", code="usage.pin", pin=name)
    return 1 << _PINS[name]
