"""Commands of the simulated die on areas that are no security registers of the 44h kind.

Ref: as `hwflash.sim.die_otp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from hwflash.chip import opcodes as op
from hwflash.chip.model import OtpAccess
from hwflash.sim.die_command import MODE, Command
from hwflash.sim.die_core import DieCore, Stream

_READS: Final = (op.READ, op.FAST_READ, op.READ_4BYTE, op.FAST_READ_4BYTE)
_PROGRAMS: Final = (op.PAGE_PROGRAM, op.PAGE_PROGRAM_4BYTE)


class OtpCommands:
    """The areas of Macronix, Micron and Spansion.

    Args:
        die: the die.
        memory: the commands so far, of which some go to the area of Macronix parts.

    Attributes:
        table: command by opcode.
    """

    def __init__(self, die: DieCore, memory: Mapping[int, Command]) -> None:
        self._die = die
        self._otp = die.otp
        self.table: dict[int, Command] = {}
        if not self._otp.areas or self._otp.access is OtpAccess.SECURITY:
            return
        if self._otp.access is OtpAccess.MACRONIX:
            self._add_mode(memory)
            return
        self.table[op.READ_OTP] = Command(self._read, address=MODE, dummy=1, memory=False)
        self.table[op.PROGRAM_OTP] = Command(
            act=self._program, address=MODE, least=1, most=None, needs_wel=True, memory=False
        )

    def _add_mode(self, memory: Mapping[int, Command]) -> None:
        def mode(entered: bool, _address: int, _data: bytes) -> None:
            self._otp.entered = entered

        self.table[op.ENTER_OTP] = Command(act=partial(mode, True))
        self.table[op.EXIT_OTP] = Command(act=partial(mode, False))
        self.table[op.LOCK_OTP] = Command(act=self._lock_down, needs_wel=True)
        for opcode in _READS:
            if opcode in memory:
                self.table[opcode] = self._reading(memory[opcode])
        for opcode, command in memory.items():
            if opcode in _PROGRAMS:
                self.table[opcode] = self._writing(command, self._program)
            elif command.needs_wel and opcode in _erases(self._die):
                self.table[opcode] = self._writing(command, self._refuse)

    def _reading(self, command: Command) -> Command:
        memory = command.stream
        if memory is None:
            return command

        def stream(address: int) -> Stream:
            return self._read(address) if self._otp.entered else memory(address)

        return replace(command, stream=stream)

    def _writing(self, command: Command, other: object) -> Command:
        memory = command.act
        if memory is None or not callable(other):
            return command

        def act(address: int, data: bytes) -> None:
            (other if self._otp.entered else memory)(address, data)

        return replace(command, act=act)

    def _read(self, address: int) -> Stream:
        position, otp = 0, self._otp

        def stream(length: int) -> bytes:
            nonlocal position
            data = otp.read(address, position, length)
            position += length
            return data

        return stream

    def _program(self, address: int, data: bytes) -> None:
        die, area = self._die, self._otp.find(address)
        if area is None or die.suspended or self._otp.refuses(address, data, die.status):
            die.refuse("program")
            return
        change = self._otp.program(area, address, data)
        die.start(change, "program", die.chip.page_program, suspendable=False)

    def _refuse(self, _address: int, _data: bytes) -> None:
        self._die.refuse("erase")

    def _lock_down(self, _address: int, _data: bytes) -> None:
        self._otp.locked_down = True
        self._die.wel = False


def _erases(die: DieCore) -> set[int]:
    kinds = {kind.opcode for kind in die.chip.erase_types}
    return kinds | {kind.opcode_4byte or 0 for kind in die.chip.erase_types} | {
        op.CHIP_ERASE, op.CHIP_ERASE_ALTERNATE,
    }  # fmt: skip
