"""Auto address increment programming of the simulated die: SST25 parts.

The first command carries an address, the next ones only data. Until write disable ends it the
chip listens to nothing but more data, write disable and the status register; a command that
comes while a word is still being programmed is lost, and all that follows lands too low.

Ref: SST25VF040B DS20005051D (AAI, busy on SO); Linux drivers/mtd/spi-nor/sst.c (ADh, odd ends).
Limits: AFh, lost words and the end by protection are assumptions; an odd address of a word is
taken as the even one below.
"""

from __future__ import annotations

from hwflash.chip import opcodes as op
from hwflash.chip.model import Programming
from hwflash.sim.die_array import and_change
from hwflash.sim.die_command import Command
from hwflash.sim.die_core import DieCore

_ADDRESS = 3


class AaiCommands:
    """The commands of auto address increment; none for other parts.

    Attributes:
        table: command by opcode.
    """

    def __init__(self, die: DieCore) -> None:
        self._die = die
        self.table: dict[int, Command] = {}
        how = die.chip.programming
        if how not in (Programming.AAI_BYTE, Programming.AAI_WORD):
            return
        word = how is Programming.AAI_WORD
        self._unit = 2 if word else 1
        self.table[op.AAI_WORD if word else op.AAI_BYTE] = Command(
            act=self._program, least=self._unit, most=_ADDRESS + self._unit,
            needs_wel=True, in_aai=True,
        )  # fmt: skip
        if word:
            self.table[op.AAI_BUSY_ON] = Command(act=self._show_busy)
            self.table[op.AAI_BUSY_OFF] = Command(act=self._hide_busy)

    def _program(self, _address: int, sent: bytes) -> None:
        die = self._die
        address = die.aai
        if len(sent) != self._unit + (_ADDRESS if address is None else 0):
            return
        if address is None:
            address = int.from_bytes(sent[:_ADDRESS]) % die.chip.size // self._unit * self._unit
        if die.locks.refuses(address, self._unit):
            die.aai = None
            die.refuse("program")
            return
        change = and_change(die.array.content, address, sent[-self._unit :])
        after = address + self._unit
        # Behind the last address that can be programmed it ends by itself.
        ends = after >= die.chip.size or die.locks.refuses(after, self._unit)
        die.aai = None if ends else after
        die.start(change, "program", die.chip.page_program, suspendable=False)

    def _show_busy(self, _address: int, _data: bytes) -> None:
        self._die.busy_on_miso = True

    def _hide_busy(self, _address: int, _data: bytes) -> None:
        self._die.busy_on_miso = False
