"""Where which erase commands of the simulated die work, as its configuration bits have it.

Ref: S25FL128S Rev. M §7.6 (TBPARM turns the map round); S25HS01GT (CFR1: TB4KBS, SP4KBS; CFR3:
UNHYSA; 65h reads them).
Limits: 71h, which writes them, is not modelled: `Configuration.any_registers` is set from outside.
"""

from __future__ import annotations

from typing import Final

from hwflash.chip.identity import TBPARM, mirrored, top_parameters
from hwflash.chip.model import Chip, EraseRegion
from hwflash.sim.die_registers import Registers
from hwflash.units import KIB

READ_ANY: Final = 0x65
_SEMPER: Final = 0x34  # first id byte of Cypress' S25HL and S25HS
_CFR1: Final = 0x800002
_CFR3: Final = 0x800004
_TOP: Final = 0x04
_SPLIT: Final = 0x40
_UNIFORM: Final = 0x08
_PARAMETERS: Final = 128 * KIB


class Configuration:
    """The erase map in force.

    Attributes:
        any_registers: what 65h reads, by address; empty for parts without 65h.
    """

    def __init__(self, chip: Chip, registers: Registers) -> None:
        self._chip = chip
        self._registers = registers
        hybrid = chip.jedec_id[0] == _SEMPER and len(chip.erase) > 1
        self.any_registers = {_CFR1: 0, _CFR3: 0} if hybrid else {}

    def regions(self) -> tuple[EraseRegion, ...]:
        """The regions, in order."""
        if self.any_registers:
            return self._semper()
        if top_parameters(self._chip) and self._registers.bit(TBPARM):
            return mirrored(self._chip).erase
        return self._chip.erase

    def _semper(self) -> tuple[EraseRegion, ...]:
        size = self._chip.size
        small, *_, large = self._chip.erase_types
        first, third = self.any_registers[_CFR1], self.any_registers[_CFR3]
        if third & _UNIFORM:
            return (EraseRegion(0, size, (large,)),)
        ends = [0]
        length = _PARAMETERS
        if first & _SPLIT:
            ends, length = [0, size - _PARAMETERS // 2], _PARAMETERS // 2
        elif first & _TOP:
            ends = [size - length]
        found: list[EraseRegion] = []
        start = 0
        for end in [*ends, size]:
            # What is left of the sector that the small ones lie in is erased by itself.
            for border in (large.size, size - large.size, end):
                if start < border <= end:
                    found.append(EraseRegion(start, border - start, (large,)))
                    start = border
            if end < size:
                found.append(EraseRegion(end, length, (small,)))
                start = end + length
        return tuple(found)
