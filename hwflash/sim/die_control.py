"""Commands of the simulated die on address modes, block locks, power, reset and suspension.

Ref: W25Q256JV Rev. G chapter 8; N25Q256A Rev. U (B7h after 06h); S25FL128S Rev. M (16h, 17h, F0h);
SST26VF064B DS20005119 (72h, 42h, 8Dh, 98h).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from hwflash.chip import opcodes as op
from hwflash.chip.model import Chip, EnterFourByte, FailFlags
from hwflash.sim.die_command import MODE, Command, cycle
from hwflash.sim.die_core import DieCore

_LARGE: Final = 16 * 1024 * 1024


class ControlCommands:
    """Everything that changes how the chip listens.

    Attributes:
        table: command by opcode.
    """

    def __init__(self, die: DieCore) -> None:
        self._die = die
        self._chip: Chip = die.chip
        self.table: dict[int, Command] = {}
        self._add_addressing()
        self._add_locks()
        self._add_power()

    # --- addressing, locks, power ------------------------------------------------------------

    def _add_addressing(self) -> None:
        die, table, enter = self._die, self.table, self._chip.addressing.enter
        if enter is EnterFourByte.ALWAYS or not self._chip.addressing.three_byte:
            die.always_four_byte()
            return

        def mode(wide: bool, _address: int, _data: bytes) -> None:
            die.four_byte = wide

        if enter in (EnterFourByte.B7, EnterFourByte.WREN_B7):
            needs_wel = enter is EnterFourByte.WREN_B7
            table[op.ENTER_4BYTE] = Command(act=partial(mode, True), needs_wel=needs_wel)
            table[op.EXIT_4BYTE] = Command(act=partial(mode, False), needs_wel=needs_wel)
        if enter is EnterFourByte.BANK_REGISTER:
            table[op.WRITE_BANK_REGISTER] = Command(act=self._write_bank, least=1, most=1)
            table[op.READ_BANK_REGISTER] = Command(lambda _: cycle(bytes((die.bank,))))
        elif enter is not EnterFourByte.NONE and self._chip.size > _LARGE:
            table[op.WRITE_EXTENDED_ADDRESS] = Command(
                act=self._write_extended, least=1, most=1, needs_wel=True
            )
            table[op.READ_EXTENDED_ADDRESS] = Command(lambda _: cycle(bytes((die.extended,))))

        if self._chip.fail_flags is FailFlags.MICRON_FSR:
            table[op.READ_NONVOLATILE_CONFIGURATION] = Command(
                lambda _: cycle(die.nonvolatile.to_bytes(2, "little"))
            )
        if self._chip.fail_flags is FailFlags.MICRON_FSR and self._chip.size > _LARGE:
            table[op.WRITE_NONVOLATILE_CONFIGURATION] = Command(
                act=self._write_nonvolatile, least=2, most=2, needs_wel=True
            )

    def _write_nonvolatile(self, _address: int, data: bytes) -> None:
        """In force from the next power-up on; bit 0 = 0 is the 4-byte mode."""
        self._die.nonvolatile = int.from_bytes(data, "little")
        self._die.wel = False

    def _write_extended(self, _address: int, data: bytes) -> None:
        self._die.extended = data[0]

    def _write_bank(self, _address: int, data: bytes) -> None:
        die = self._die
        die.bank = data[0]
        die.four_byte = bool(data[0] & 0x80)
        die.extended = data[0] & 0x7F

    def _add_locks(self) -> None:
        die, table, locks = self._die, self.table, self._die.locks

        def unlock(_address: int, _data: bytes) -> None:
            locks.unlock_all()
            die.wel = False

        def lock(_address: int, _data: bytes) -> None:
            locks.lock_all()
            die.wel = False

        def lock_block(value: bool, address: int, _data: bytes) -> None:
            locks.lock_block(address, lock=value)
            die.wel = False

        def write_bpr(_address: int, data: bytes) -> None:
            locks.write_bpr(data)
            die.wel = False

        def lock_down(_address: int, _data: bytes) -> None:
            locks.bpr_locked = True
            die.wel = False

        def lock_for_ever(_address: int, data: bytes) -> None:
            locks.lock_down_blocks(data)
            die.wel = False

        if locks.has_bpr:
            table[op.READ_BLOCK_PROTECTION] = Command(lambda _: cycle(locks.bpr))
            table[op.WRITE_BLOCK_PROTECTION] = Command(
                act=write_bpr, least=1, most=None, needs_wel=True
            )
            table[0x8D] = Command(act=lock_down, needs_wel=True)
            table[0xE8] = Command(act=lock_for_ever, least=1, most=None, needs_wel=True)
        elif self._chip.protection.wps is not None:
            table[0x7E] = Command(act=lock, needs_wel=True)
            for opcode, value in ((0x36, True), (0x39, False)):
                table[opcode] = Command(
                    act=partial(lock_block, value), address=MODE, needs_wel=True
                )
            table[0x3D] = Command(
                lambda address: cycle(bytes((locks.block_locked(address),))), address=MODE
            )
        else:
            return
        table[op.GLOBAL_UNLOCK] = Command(act=unlock, needs_wel=True)

    def _add_power(self) -> None:
        die, table = self._die, self.table

        def down(_address: int, _data: bytes) -> None:
            die.deep = True

        def enable_reset(_address: int, _data: bytes) -> None:
            die.reset_enabled = True

        def reset(_address: int, _data: bytes) -> None:
            if die.reset_armed:
                die.reset()

        if self._chip.deep_power_down:
            table[op.POWER_DOWN] = Command(act=down)
        if self._chip.soft_reset:
            table[op.ENABLE_RESET] = Command(act=enable_reset, while_busy=True)
            table[op.RESET] = Command(act=reset, while_busy=True)
        elif self._chip.fail_flags is FailFlags.SPANSION_SR1:
            table[0xF0] = Command(act=lambda _address, _data: die.reset(), while_busy=True)
        table[op.SUSPEND] = Command(act=lambda _address, _data: die.suspend(), while_busy=True)
        table[op.RESUME] = Command(act=lambda _address, _data: die.resume())
