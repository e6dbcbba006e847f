"""Reading and changing what locks a chip: status registers, block locks, SST26's register.

Registers are read twice before anything is made of them, written with the bits that may change
named, and read back after every change. Nothing here decides; see
`hwflash.chip.protection_choice` and `hwflash.jobs.lifting`.

Ref: W25Q128JV Rev. F §8.2.5 (50h), §8.2.41-45 (36h, 39h, 3Dh); SST26VF064B DS20005119 §5
(72h, 42h, 8Dh); MX25L12835F PM1795 (2Bh).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hwflash.bus.spi import Transfer
from hwflash.chip import opcodes
from hwflash.chip.commands import THREE_BYTE_SPAN
from hwflash.chip.model import EnterFourByte, ProtectionStyle
from hwflash.chip.protection import lock_units, sst26_bpr_length
from hwflash.chip.protection_choice import Locks
from hwflash.chip.registers import merged, one_time_bits, register_writes
from hwflash.errors import BusUnstable, ChipProtected, ChipStateUnknown
from hwflash.flash.nor import NorFlash
from hwflash.flash.pipeline import StatusPoller
from hwflash.units import Range

_POLL: Final = 0.001
#: A few milliseconds are no measure on a computer that is busy, or across a network.
_PATIENCE: Final = 0.5
#: A write that cleared bits of another register is made good so often.
_ROUNDS: Final = 2
#: Bits that say what the chip is doing, not how it is set.
_LIVE: Final = opcodes.STATUS_WIP | opcodes.STATUS_WEL

_ENABLE: Final = Transfer(bytes((opcodes.WRITE_ENABLE,)))
_DISABLE: Final = Transfer(bytes((opcodes.WRITE_DISABLE,)))


class ProtectionAccess:
    """The locks of one chip.

    Args:
        flash: the chip on its bus.
    """

    def __init__(self, flash: NorFlash) -> None:
        self._flash = flash
        self._bus = flash.bus
        self._chip = flash.chip
        self._poller = StatusPoller(flash.bus, flash.chip)

    # --- reading ------------------------------------------------------------------------

    def read(self) -> Locks:
        """Everything by which the chip locks bytes.

        Raises:
            BusUnstable: two reads differ (``chip.unstable-register``).
        """
        registers = self.registers()
        if self._chip.protection.style is ProtectionStyle.SST26:
            length = sst26_bpr_length(self._chip.size)
            ask = Transfer(bytes((opcodes.READ_BLOCK_PROTECTION,)), length)
            return Locks(registers, self._twice([ask])[0])
        wps = self._chip.protection.wps
        if wps is not None and registers[wps.register] >> wps.bit & 1:
            return Locks(registers, individual=self._individual(tuple(lock_units(self._chip.size))))
        return Locks(registers)

    def registers(self) -> dict[int, int]:
        """Every status register, without WIP and WEL.

        Raises:
            BusUnstable: two reads differ (``chip.unstable-register``).
        """
        numbers = list(self._chip.status.read)
        answers = self._twice(
            [Transfer(bytes((self._chip.status.read[number],)), 1) for number in numbers]
        )
        found = {number: answer[0] for number, answer in zip(numbers, answers, strict=True)}
        found[1] &= ~_LIVE
        return found

    def security(self) -> int | None:
        """The security register (2Bh) of parts that may have WPSEL; None for others."""
        if "wpsel" not in self._chip.quirks:
            return None
        return self._twice([Transfer(bytes((opcodes.READ_SECURITY_STATUS,)), 1)])[0][0]

    # --- changing -----------------------------------------------------------------------

    def apply(self, wanted: Locks, allow: Mapping[int, int], *, volatile: bool = False) -> bool:
        """Bring the chip's locks into a state, and prove it.

        Args:
            wanted: the state; individual locks and the block-protection register as they are
                there, of the registers only the bits of ``allow``.
            allow: the register bits that may change, as a mask for each register.
            volatile: until the supply goes away; only for chips with ``status.volatile_enable``.

        Returns:
            Whether anything was sent that could change the chip.

        Raises:
            BusUnstable: two reads of a register differ; nothing was sent.
            ChipProtected: the chip does not take it, and is as it was (``protection.refused``).
            ChipStateUnknown: it is neither as it was nor as it should be
                (``protection.verify-failed``).
        """
        sent = self._apply_registers(wanted.registers, allow, volatile=volatile)
        if wanted.bpr is not None:
            sent |= self._apply_bpr(wanted.bpr)
        if wanted.individual is not None:
            sent |= self._apply_individual(wanted.individual)
        return sent

    def lock_down(self) -> None:
        """8Dh: the block-protection register of an SST26 cannot be written until power-up."""
        self._bus.execute([_ENABLE, Transfer(bytes((opcodes.LOCK_BLOCK_PROTECTION,)))])

    # --- status registers ---------------------------------------------------------------

    def _apply_registers(
        self, wanted: Mapping[int, int], allow: Mapping[int, int], *, volatile: bool
    ) -> bool:
        before = now = self.registers()
        goal = merged(before, wanted, allow)
        may = dict(allow)
        sent = False
        for _ in range(_ROUNDS):
            writes = register_writes(self._chip, now, goal, may)
            if not writes:
                break
            for write in writes:
                self._write(write.command, volatile=volatile)
                sent = True
                now = self.registers()
                # Locks of the registers are modes of two bits: the second must never be set on
                # top of a first that did not take.
                if any(now[number] != goal[number] for number in write.registers):
                    break
            # Some parts clear bits of the second register when the first is written alone:
            # they are put back, as they were read before, but never a one-time bit.
            once = one_time_bits(self._chip)
            may = {
                number: allow.get(number, 0) | (now[number] ^ goal[number]) & ~once.get(number, 0)
                for number in now
            }
        if now == goal:
            return sent
        self._bus.execute([_DISABLE])
        if now == before:
            raise ChipProtected(
                "the chip does not let its status registers be written: "
                f"{_text(now)} stays, {_text(goal)} was sent",
                code="protection.refused",
                registers=_text(now),
                wanted=_text(goal),
            )
        raise ChipStateUnknown(
            f"the status registers read {_text(now)}, not {_text(goal)} as they should",
            code="protection.verify-failed",
            registers=_text(now),
            wanted=_text(goal),
            before=_text(before),
        )

    def _write(self, command: bytes, *, volatile: bool) -> None:
        own = self._chip.status.enable
        enable = Transfer(bytes((opcodes.VOLATILE_WRITE_ENABLE if volatile else own,)))
        self._bus.execute([enable, Transfer(command)])
        maximum = max(self._chip.status.write_time.maximum, _PATIENCE)
        self._poller.wait_ready(maximum, _POLL, "status register write", 0)

    # --- block locks --------------------------------------------------------------------

    def _apply_bpr(self, wanted: bytes) -> bool:
        before = self.read().bpr
        if before == wanted:
            return False
        self._bus.execute(
            [_ENABLE, Transfer(bytes((opcodes.WRITE_BLOCK_PROTECTION,)) + wanted), _DISABLE]
        )
        found = self.read().bpr
        if found != wanted:
            raise _locks_refused(found == before, "block-protection register")
        return True

    def _individual(self, units: Sequence[Range]) -> tuple[Range, ...]:
        ask = [Transfer(self._addressed(opcodes.READ_BLOCK_LOCK, unit), 1) for unit in units]
        with_mode = self._in_mode(ask)
        answers = [answer for answer in self._twice(with_mode) if answer]
        return tuple(unit for unit, answer in zip(units, answers, strict=True) if answer[0] & 1)

    def _apply_individual(self, wanted: Sequence[Range]) -> bool:
        units = tuple(lock_units(self._chip.size))
        before = set(self._individual(units))
        changes: list[Transfer] = []
        for unit in units:
            if (unit in before) != (unit in wanted):
                opcode = opcodes.LOCK_BLOCK if unit in wanted else opcodes.UNLOCK_BLOCK
                changes += [_ENABLE, Transfer(self._addressed(opcode, unit))]
        if not changes:
            return False
        self._bus.execute(self._in_mode(changes))
        found = set(self._individual(units))
        if found != set(wanted):
            raise _locks_refused(found == before, "individual block locks")
        return True

    def _addressed(self, opcode: int, unit: Range) -> bytes:
        width = 4 if self._chip.size > THREE_BYTE_SPAN else 3
        return bytes((opcode,)) + unit.address.to_bytes(width, "big")

    def _in_mode(self, transfers: Sequence[Transfer]) -> list[Transfer]:
        """In the 4-byte mode on large chips: block locks have no 4-byte commands of their own."""
        enter = self._chip.addressing.enter
        if self._chip.size <= THREE_BYTE_SPAN or self._flash.in_four_byte_mode:
            return list(transfers)
        first = [_ENABLE] if enter is EnterFourByte.WREN_B7 else []
        leave, back = (
            Transfer(bytes((opcodes.EXIT_4BYTE,))),
            Transfer(bytes((opcodes.ENTER_4BYTE,))),
        )
        return [*first, back, *transfers, *first, leave, _DISABLE]

    def _twice(self, asked: Sequence[Transfer]) -> list[bytes]:
        """Answers that came twice the same."""
        answers = self._bus.execute([*asked, *asked])
        first, second = answers[: len(asked)], answers[len(asked) :]
        same = all(
            a == b or (op.write[0] == opcodes.READ_STATUS_1 and not (a[0] ^ b[0]) & ~_LIVE)
            for op, a, b in zip(asked, first, second, strict=True)
        )
        if not same:
            raise BusUnstable(
                "two reads of the chip's protection registers differ",
                code="chip.unstable-register",
                first=b"".join(first[:8]).hex(),
                second=b"".join(second[:8]).hex(),
            )
        return first


def _locks_refused(unchanged: bool, what: str) -> ChipProtected | ChipStateUnknown:
    if unchanged:
        return ChipProtected(
            f"the chip does not let its {what} be written", code="protection.refused"
        )
    return ChipStateUnknown(f"the {what} is not what was written", code="protection.verify-failed")


def _text(registers: Mapping[int, int]) -> str:
    return " ".join(f"SR{number}={value:02X}h" for number, value in sorted(registers.items()))
