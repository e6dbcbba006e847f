"""Commands of the simulated die on write enable and registers.

Ref: W25Q128JV Rev. F §8.2.1 to §8.2.5; N25Q256A Rev. U (70h, 50h); MX25L25645G Rev. 1.4 (2Bh);
S25FL128S Rev. M (30h); SST26VF064B DS20005119 §4.3 (WPLD).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hwflash.chip import opcodes as op
from hwflash.chip.model import Chip, DieAccess, FailFlags, OtpAccess, Programming
from hwflash.sim.die_array import Change
from hwflash.sim.die_command import Command, same
from hwflash.sim.die_core import DieCore


class StatusCommands:
    """Write enable, status registers, fail flags.

    Attributes:
        table: command by opcode.
    """

    def __init__(self, die: DieCore) -> None:
        self._die = die
        self._chip: Chip = die.chip
        self.table: dict[int, Command] = {}
        self._add_enable()
        self._add_status()

    # --- write enable and registers ----------------------------------------------------------

    def _add_enable(self) -> None:
        die, table = self._die, self.table

        def enable(_address: int, _data: bytes) -> None:
            die.wel = True

        def disable(_address: int, _data: bytes) -> None:
            die.wel = False
            die.aai = None

        table[op.WRITE_ENABLE] = Command(act=enable)
        table[op.WRITE_DISABLE] = Command(act=disable, in_aai=True)
        if self._chip.fail_flags is FailFlags.MICRON_FSR:
            clear: Callable[[int, bytes], None] = lambda _address, _data: die.clear_status()  # noqa: E731
            table[op.CLEAR_FLAG_STATUS] = Command(act=clear)
        elif self._chip.status.volatile_enable or self._chip.status.power_up is not None:

            def enable_volatile(_address: int, _data: bytes) -> None:
                die.volatile_enabled = not die.faults.volatile

            table[op.VOLATILE_WRITE_ENABLE] = Command(act=enable_volatile)

    def _add_status(self) -> None:
        die, table = self._die, self.table
        commands = self._chip.status
        for number, opcode in {**commands.read, 1: op.READ_STATUS_1}.items():
            stream = die.status_stream(partial(self._register, number))
            table[opcode] = Command(partial(same, stream), while_busy=True, in_aai=number == 1)
        own = {n: code for n, code in commands.write.items() if code != op.WRITE_STATUS_1}
        joined = [1, *(n for n in die.status.numbers if n > 1 and n not in own)]
        # Parts with 31h take register 2 as the second byte of 01h all the same.
        if joined == [1] and own.get(2) == op.WRITE_STATUS_2:
            joined = [1, 2]
        write = partial(self._write_registers, tuple(joined))
        table[op.WRITE_STATUS_1] = Command(act=write, least=1, most=len(joined))
        for number, opcode in own.items():
            write = partial(self._write_registers, (number,))
            table[opcode] = Command(act=write, least=1, most=1)
        flags: dict[FailFlags, tuple[int, Callable[[bool], int]]] = {
            FailFlags.MICRON_FSR: (op.READ_FLAG_STATUS, self._flag_status),
            FailFlags.MACRONIX_SCUR: (op.READ_SECURITY_STATUS, self._security_status),
        }
        if self._chip.fail_flags in flags:
            opcode, value = flags[self._chip.fail_flags]
            table[opcode] = Command(partial(same, die.status_stream(value)), while_busy=True)
        elif self._chip.otp_access is OtpAccess.MACRONIX:  # it has that register all the same
            stream = die.status_stream(self._security_status)
            table[op.READ_SECURITY_STATUS] = Command(partial(same, stream), while_busy=True)
        if self._chip.fail_flags is FailFlags.SPANSION_SR1:
            table[op.CLEAR_STATUS] = Command(act=self._clear_errors, while_busy=True)

    def _clear_errors(self, _address: int, _data: bytes) -> None:
        if self._die.operation is None:
            self._die.clear_status()

    def _register(self, number: int, busy: bool) -> int:
        die = self._die
        suspended = die.suspended.kind if die.suspended is not None else ""
        value = die.status.shown(number, four_byte=die.four_byte, suspended=suspended)
        if number == 1:
            busy = busy and self._shows_busy()
            value = value & 0xFC | (die.wel << 1) | busy
            if self._chip.programming is not Programming.PAGE:
                value = value & ~op.STATUS_AAI | (die.aai is not None) * op.STATUS_AAI
            if die.locks.has_bpr:
                value |= die.locks.bpr_locked << 4  # WPLD
            if self._chip.fail_flags is FailFlags.SPANSION_SR1:
                value |= die.erase_failed << 5 | die.program_failed << 6
        return value

    def _shows_busy(self) -> bool:
        """The register of a die whose neighbour is busy shows nothing of that."""
        operation = self._die.operation
        if self._chip.dies.access is not DieAccess.STATUS or operation is None:
            return True
        change = operation.change
        place = change.address if isinstance(change, Change) else None
        return place is None or place // self._chip.die_size == self._die.active

    def _flag_status(self, busy: bool) -> int:
        die = self._die
        if not busy:
            die.flag_unread = False
        erasing = die.suspended is not None and die.suspended.kind == "erase"
        programming = die.suspended is not None and not erasing
        return (
            (not busy) << 7
            | erasing << 6
            | die.erase_failed << 5
            | die.program_failed << 4
            | programming << 2
            | die.protection_failed << 1
            | die.four_byte
        )

    def _security_status(self, _busy: bool) -> int:
        die = self._die
        wpsel = die.locks.bits.wpsel
        return (
            wpsel << 7
            | die.erase_failed << 6
            | die.program_failed << 5
            | die.otp.locked_down << 1  # LDSO
        )

    def _write_registers(self, numbers: tuple[int, ...], _address: int, data: bytes) -> None:
        die = self._die
        volatile, die.volatile_enabled = die.volatile_enabled, False
        if not (volatile or (die.wel and self._chip.status.enable == op.WRITE_ENABLE)):
            return
        if self._chip.status.power_up is not None:
            volatile, die.wel = True, False
        if die.status.locked(die.wp):
            die.wel = False
            return
        values = dict(zip(numbers, data, strict=False))
        if "wrsr-clears-second-register" in self._chip.quirks and len(data) < len(numbers):
            values[numbers[1]] = 0
        change = die.status.write(values, volatile=volatile)
        if volatile:
            change.commit()
        else:
            die.start(change, "status", self._chip.status.write_time, suspendable=False)
