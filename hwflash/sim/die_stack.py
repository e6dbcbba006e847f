"""Several dies in one package: which of them listens, and erasing one of them.

Ref: Linux drivers/mtd/spi-nor/winbond.c (C2h, then the status register of that die); W25M512JV
Rev. D (two dies of 256 Mbit, concurrent operation).
Limits: that C2h changes the address space of W25M512JV, and that a read of a stack goes on at the
start of its die, are assumptions; the dies of a stack share one set of status registers.
"""

from __future__ import annotations

from typing import Any, Final

from hwflash.chip import opcodes as op
from hwflash.chip.model import DieAccess
from hwflash.sim.die_command import MODE, Command
from hwflash.sim.die_core import DieCore

#: What each die of a stack has of its own.
_OWN: Final = (
    "wel", "volatile_enabled", "four_byte", "extended", "bank", "deep", "operation", "suspended",
    "program_failed", "erase_failed", "protection_failed", "error_hold", "flag_unread",
)  # fmt: skip


class StackCommands:
    """Select and erase of a die; none for a chip of one die.

    Attributes:
        table: command by opcode.
    """

    def __init__(self, die: DieCore) -> None:
        self._die = die
        self.table: dict[int, Command] = {}
        dies = die.chip.dies
        if dies.access is not DieAccess.ADDRESS:
            self.table[op.SELECT_DIE] = Command(
                act=self._select, least=1, most=1, while_busy=True, memory=False
            )
        if dies.erase is not None:
            self.table[dies.erase[0]] = Command(act=self._erase, address=MODE, needs_wel=True)

    def _select(self, _address: int, data: bytes) -> None:
        die, number = self._die, data[0]
        if number >= die.chip.dies.count or number == die.active:
            return
        if die.chip.dies.access is DieAccess.SELECT:
            fresh: dict[str, Any] = {
                name: None if name in ("operation", "suspended") else 0 for name in _OWN
            }
            die.parked[die.active] = {name: getattr(die, name) for name in _OWN}
            for name, value in die.parked.pop(number, fresh).items():
                setattr(die, name, value)
        die.active = number

    def _erase(self, address: int, _data: bytes) -> None:
        die = self._die
        erase, size = die.chip.dies.erase, die.chip.die_size
        start = address - address % size
        if erase is None or die.locks.any() or die.suspended is not None:
            die.refuse("erase")
            return
        die.start(die.array.erase(start, size), "erase", erase[1], suspendable=False)
