"""Commands of the simulated die on the lock bits of single sectors.

Ref: as `hwflash.sim.die_sectors`.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from hwflash.chip.model import Duration, SectorLocks
from hwflash.sim.die_command import MODE, Command, cycle
from hwflash.sim.die_core import DieCore, Stream
from hwflash.sim.die_sectors import LockBitChange

_ERASE: Final = Duration(0.05, 0.5)


class SectorLockCommands:
    """Reading, setting and clearing the bits, the freeze, and WPSEL.

    Attributes:
        table: command by opcode.
    """

    def __init__(self, die: DieCore) -> None:
        self._die = die
        self._bits = die.locks.bits
        self.table: dict[int, Command] = {}
        style = self._bits.style
        if style in (SectorLocks.MICRON, SectorLocks.MICRON_BITS):
            self._add_dynamic(0xE8, 0xE5, MODE)
        elif style is not SectorLocks.NONE:
            self._add_dynamic(0xE0, 0xE1, 4)
        if style in (SectorLocks.MICRON_BITS, SectorLocks.MACRONIX, SectorLocks.SPANSION):
            self._add_persistent(0x2B if style is SectorLocks.SPANSION else 0x2D)
        if style is SectorLocks.MACRONIX:
            self.table[0x68] = Command(act=self._select, needs_wel=True)
            self.table[0x7E] = Command(act=partial(self._all, True), needs_wel=True)
            self.table[0x98] = Command(act=partial(self._all, False), needs_wel=True)

    # --- volatile -------------------------------------------------------------------------

    def _add_dynamic(self, read: int, write: int, width: int) -> None:
        self.table[read] = Command(self._read_dynamic, address=width)
        self.table[write] = Command(
            act=self._write_dynamic, address=width, least=1, most=1, needs_wel=True
        )

    def _read_dynamic(self, address: int) -> Stream:
        sector = self._bits.at(address)
        locks = sector in self._bits.dynamic
        if self._bits.style is SectorLocks.SPANSION:
            return cycle(b"\x00" if locks else b"\xff")
        if self._bits.style is SectorLocks.MACRONIX:
            return cycle(b"\xff" if locks else b"\x00")
        return cycle(bytes((locks | (sector in self._bits.held) << 1,)))

    def _write_dynamic(self, address: int, data: bytes) -> None:
        if self._bits.in_force:
            self._bits.set_dynamic(address, data[0])
        self._die.wel = False

    def _all(self, lock: bool, _address: int, _data: bytes) -> None:
        if self._bits.in_force:
            self._bits.dynamic = set(self._bits.sectors) if lock else set()
        self._die.wel = False

    def _select(self, _address: int, _data: bytes) -> None:
        self._bits.wpsel = True
        self._bits.power_up()
        self._die.wel = False

    # --- non-volatile ---------------------------------------------------------------------

    def _add_persistent(self, mode: int) -> None:
        table = self.table
        table[0xE2] = Command(self._read_persistent, address=4)
        table[0xE3] = Command(act=self._program, address=4, needs_wel=True)
        table[0xE4] = Command(act=self._erase, needs_wel=True)
        table[0xA6] = Command(act=self._freeze, needs_wel=True)
        # Macronix and Spansion answer a byte, Micron a bit; all of them 0 when it is on.
        table[0xA7] = Command(lambda _: cycle(b"\x00" if self._bits.frozen else b"\xff"))
        table[mode] = Command(lambda _: cycle(self._bits.mode.to_bytes(2, "little")))

    def _read_persistent(self, address: int) -> Stream:
        locks = self._bits.at(address) in self._bits.persistent
        if self._bits.style is SectorLocks.MACRONIX:
            return cycle(b"\xff" if locks else b"\x00")
        return cycle(b"\x00" if locks else b"\xff")

    def _program(self, address: int, _data: bytes) -> None:
        self._change("program", self._bits.persistent | {self._bits.at(address)})

    def _erase(self, _address: int, _data: bytes) -> None:
        self._change("erase", set())

    def _change(self, kind: str, new: set[int]) -> None:
        bits, die = self._bits, self._die
        if bits.frozen or not bits.in_force:
            die.refuse(kind)
            return
        change = LockBitChange(bits, frozenset(bits.persistent), frozenset(new))
        time = _ERASE if kind == "erase" else die.chip.page_program
        die.start(change, kind, time, suspendable=False)

    def _freeze(self, _address: int, _data: bytes) -> None:
        if self._bits.in_force:
            self._bits.frozen = True
        self._die.wel = False
