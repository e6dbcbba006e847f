"""Configuration registers of the simulated die that only tell: they are as delivered.

Ref: N25Q256A Rev. W tables 6 to 11 (85h, 65h); S25FL128S Rev. M §7.6.2 (07h).
Limits: their write commands are not modelled.
"""

from __future__ import annotations

from functools import partial

from hwflash.chip.model import FailFlags
from hwflash.sim.die_command import Command, cycle, same
from hwflash.sim.die_core import DieCore


class ConfigCommands:
    """Reads of configuration registers.

    Attributes:
        table: command by opcode.
    """

    def __init__(self, die: DieCore) -> None:
        self._die = die
        self.table: dict[int, Command] = {}
        if die.chip.fail_flags is FailFlags.MICRON_FSR:
            for opcode, value in ((0x85, b"\xfb"), (0x65, b"\xdf")):
                self.table[opcode] = Command(lambda _, value=value: cycle(value))
        if die.chip.fail_flags is FailFlags.SPANSION_SR1:
            stream = die.status_stream(self._suspended)
            self.table[0x07] = Command(partial(same, stream), while_busy=True)

    def _suspended(self, _busy: bool) -> int:
        operation = self._die.suspended
        if operation is None:
            return 0
        return 2 if operation.kind == "erase" else 1
