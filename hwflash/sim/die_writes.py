"""Commands of the simulated die that program and erase.

Ref: W25Q128JV Rev. F §8.2.17 to §8.2.21 and §8.2.35 to §8.2.37.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hwflash.chip import opcodes as op
from hwflash.chip.model import (
    Chip,
    DieAccess,
    Duration,
    OtpAccess,
    Programming,
)
from hwflash.sim.die_command import MODE, Command
from hwflash.sim.die_core import DieCore


class WriteCommands:
    """Programs and erases, of the memory and of the security registers.

    Attributes:
        table: command by opcode.
    """

    def __init__(self, die: DieCore) -> None:
        self._die = die
        self._chip: Chip = die.chip
        self.table: dict[int, Command] = {}
        self._add_program()
        self._add_erase()

    # --- program and erase -------------------------------------------------------------------

    def _add_program(self) -> None:
        act, table = self._program, self.table
        most = None if self._chip.programming is Programming.PAGE else 1
        page: Callable[[int], Command] = lambda width: Command(  # noqa: E731
            act=act, address=width, least=1, most=most, needs_wel=True
        )
        table[op.PAGE_PROGRAM] = page(MODE)
        if self._chip.addressing.opcodes:
            table[op.PAGE_PROGRAM_4BYTE] = page(4)
        if self._chip.otp and self._die.otp.access is OtpAccess.SECURITY:
            table[op.PROGRAM_SECURITY] = Command(
                act=self._program_otp, address=MODE, least=1, most=None,
                needs_wel=True, memory=False,
            )  # fmt: skip
            table[op.ERASE_SECURITY] = Command(
                act=self._erase_otp, address=MODE, needs_wel=True, memory=False
            )

    def _program(self, address: int, data: bytes) -> None:
        die = self._die
        page = address - address % self._chip.page_size
        if die.locks.refuses(page, self._chip.page_size) or self._suspended_at(page):
            die.refuse("program")
            return
        change = die.array.program(address, data)
        die.start(change, "program", self._chip.page_program, suspendable=True)

    def _suspended_at(self, page: int) -> bool:
        """A program into a suspended operation, or during a suspended program, is refused."""
        operation = self._die.suspended
        return operation is not None and (
            operation.kind == "program" or operation.change.overlaps(page, self._chip.page_size)
        )

    def _program_otp(self, address: int, data: bytes) -> None:
        die = self._die
        area = die.otp.find(address)
        if area is None or die.status.bit(area.lock) or die.suspended:
            die.refuse("program")
            return
        change = die.otp.program(area, address, data)
        die.start(change, "program", self._chip.page_program, suspendable=False)

    def _erase_otp(self, address: int, _data: bytes) -> None:
        die = self._die
        area = die.otp.find(address)
        if area is None or die.status.bit(area.lock) or die.suspended:
            die.refuse("erase")
            return
        die.start(die.otp.erase(area), "erase", self._sector_time(), suspendable=False)

    def _sector_time(self) -> Duration:
        kinds = self._chip.erase_types
        return kinds[0].time if kinds else Duration(0.05, 0.4)

    def _add_erase(self) -> None:
        for kind in self._chip.erase_types:
            for opcode, width in ((kind.opcode, MODE), (kind.opcode_4byte, 4)):
                if opcode is not None:
                    act = partial(self._erase, opcode)
                    self.table[opcode] = Command(act=act, address=width, needs_wel=True)
        if self._chip.chip_erase is not None:
            command = Command(act=self._erase_chip, needs_wel=True)
            opcode = self._chip.chip_erase[0]
            both = (op.CHIP_ERASE, op.CHIP_ERASE_ALTERNATE)
            for code in both if opcode in both else (opcode,):
                self.table[code] = command

    def _erase(self, opcode: int, address: int, _data: bytes) -> None:
        die = self._die
        for region in die.configuration.regions():
            kind = next(
                (kind for kind in region.types if opcode in (kind.opcode, kind.opcode_4byte)), None
            )
            end = region.start + region.length
            if kind is not None and region.start <= address < end:
                # The aligned block, clipped to its region: the 60 KiB of a hybrid map.
                start = max(address - address % kind.size, region.start)
                length = min(address - address % kind.size + kind.size, end) - start
                if die.suspended is not None or die.locks.refuses(start, length):
                    die.refuse("erase")
                    return
                change = die.array.erase(start, length)
                die.start(change, "erase", kind.time, suspendable=True)
                return

    def _erase_chip(self, _address: int, _data: bytes) -> None:
        die = self._die
        if self._chip.chip_erase is None or die.locks.any() or die.suspended is not None:
            die.refuse("erase")
            return
        start, length = 0, self._chip.size
        if self._chip.dies.access is DieAccess.SELECT:
            length = self._chip.die_size
            start = die.active * length
        change = die.array.erase(start, length)
        die.start(change, "erase", self._chip.chip_erase[1], suspendable=False)
