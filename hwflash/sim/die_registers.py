"""Status and configuration registers of the simulated die.

Ref: W25Q128JV Rev. F §7.1 (SRP, SRL, one-time lock bits, volatile writes), W25Q256JV Rev. G
§7.1.11 (ADS, ADP), S25FL128S Rev. M §7.6 (error bits), MX25L12835F Rev. 1.6 §9 (WEL, SRWD).
Limits: bits without a meaning in the chip's description are plain storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from hwflash.chip.model import Chip, EnterFourByte, FailFlags, RegisterBit

WINBOND: Final = 0xEF

_ADS: Final = 0x01  # register 3: the current address mode, read only
_ADP: Final = 0x02  # register 3: the address mode after power-up
_GIGADEVICE: Final = 0xC8
_READ_FUNCTION: Final = 0x48  # ISSI


class Registers:
    """Values of the registers.

    Attributes:
        stored: the non-volatile values by register number.
        live: the values in force.
    """

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        layout = chip.protection
        places = (*layout.bp, layout.tb, layout.sec, layout.cmp, *layout.srp, layout.wps)
        named = {place.register for place in places if place is not None}
        named |= {area.lock.register for area in chip.otp if area.lock is not None}
        self.numbers = tuple(sorted({1, *chip.status.read, *chip.status.write, *named}))
        self.stored = dict.fromkeys(self.numbers, 0)
        self.live = dict(self.stored)
        self._suspend_bits = _suspend_bits(chip)
        self._has_address_mode = (
            chip.jedec_id[0] == WINBOND
            and 3 in self.numbers
            and chip.addressing.enter in (EnterFourByte.B7, EnterFourByte.WREN_B7)
        )
        self._once = {(area.lock.register, area.lock.bit) for area in chip.otp if area.lock}
        if "tb-one-time" in chip.quirks and chip.protection.tb:
            self._once.add((chip.protection.tb.register, chip.protection.tb.bit))

    def bit(self, place: RegisterBit | None) -> bool:
        """A bit in force; None reads as 0."""
        return place is not None and bool(self.live.get(place.register, 0) >> place.bit & 1)

    def power_up(self) -> None:
        """Take the non-volatile values; a power-supply lock-down ends."""
        srp = self._chip.protection.srp
        if len(srp) > 1:
            mask0, mask1 = 1 << srp[0].bit, 1 << srp[1].bit
            if self.stored[srp[1].register] & mask1 and not self.stored[srp[0].register] & mask0:
                self.stored[srp[1].register] &= ~mask1
        self.live = dict(self.stored)
        if self._chip.status.power_up is not None:
            self.live[1] = self._chip.status.power_up

    def starts_in_four_byte_mode(self) -> bool:
        """Whether ADP says that the chip powers up in the 4-byte mode."""
        return self._has_address_mode and bool(self.stored[3] & _ADP)

    def locked(self, wp: bool) -> bool:
        """Whether the registers refuse to be written; ``wp`` is the level of WP#."""
        bits = [self.bit(place) for place in self._chip.protection.srp]
        srp0, srp1 = (*bits, False, False)[:2]
        return srp1 or (srp0 and not wp)

    def write(self, values: dict[int, int], *, volatile: bool) -> RegisterChange:
        """A write of some registers, masked to the bits that can be written."""
        new: dict[int, int] = {}
        for number, value in values.items():
            mask = self._writable(number)
            old = self.live[number] if volatile else self.stored[number]
            merged = old & ~mask | value & mask
            for register, bit in self._once:
                if register == number:
                    merged |= old & 1 << bit
            new[number] = merged & 0xFF
        return RegisterChange(self, new, dict(self.stored), dict(self.live), volatile)

    def shown(self, number: int, *, four_byte: bool, suspended: str) -> int:
        """The value a read command answers, without WIP, WEL and error bits."""
        value = self.live[number]
        if number == 3 and self._has_address_mode:
            value = value & ~_ADS | (_ADS if four_byte else 0)
        if number == 2 and suspended:
            value |= self._suspend_bits.get(suspended, 0)
        return value

    def _writable(self, number: int) -> int:
        if number == 1:
            return 0x9C if self._chip.fail_flags is FailFlags.SPANSION_SR1 else 0xFC
        if number == 2 and self._suspend_bits:
            return 0xF3 if self._chip.status.read[2] == _READ_FUNCTION else 0x7B
        if number == 3 and self._has_address_mode:
            return 0xFE
        return 0xFF


def _suspend_bits(chip: Chip) -> dict[str, int]:
    """Read-only bits of register 2 that are up while a program or erase is suspended."""
    opcode = chip.status.read.get(2)
    if opcode == _READ_FUNCTION:  # PSUS, ESUS
        return {"program": 0x04, "erase": 0x08}
    if opcode != 0x35 or chip.fail_flags is FailFlags.SPANSION_SR1:
        return {}
    if chip.jedec_id[0] == _GIGADEVICE:
        return {"program": 0x04, "erase": 0x80}
    return {"program": 0x80, "erase": 0x80}


@dataclass(slots=True)
class RegisterChange:
    """A register write that can be torn."""

    registers: Registers
    new: dict[int, int]
    old_stored: dict[int, int]
    old_live: dict[int, int]
    volatile: bool

    def commit(self) -> None:
        """Carry it out."""
        self.registers.live.update(self.new)
        if not self.volatile:
            self.registers.stored.update(self.new)

    def tear(self, random: Random) -> None:
        """The power went away: the old or the new value, as luck has it."""
        if random.random() < 0.5:
            self.commit()
        else:
            self.registers.stored = dict(self.old_stored)
            self.registers.live = dict(self.old_live)

    def overlaps(self, address: int, length: int) -> bool:
        """A register write touches no memory."""
        return False
