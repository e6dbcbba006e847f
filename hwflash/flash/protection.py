"""Reading and changing what locks a chip: status registers, block locks, SST26's register.

Registers are read twice before anything is made of them, written with the bits that may change
named, and read back after every change. Nothing here decides; see
`hwflash.chip.protection_choice` and `hwflash.jobs.lifting`.

Ref: W25Q128JV Rev. F §8.2.5 (50h), §8.2.41-45 (36h, 39h, 3Dh); SST26VF064B DS20005119 §5
(72h, 42h, 8Dh, E8h); MX25L12835F PM1795 (2Bh).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hwflash.bus.spi import Transfer
from hwflash.chip import opcodes
from hwflash.chip.model import FailFlags, ProtectionStyle, SectorLocks
from hwflash.chip.protection import lock_units, sst26_bpr_length
from hwflash.chip.protection_choice import Locks
from hwflash.chip.registers import (
    failed,
    live_bits,
    merged,
    one_time_bits,
    register_writes,
    suspended,
)
from hwflash.chip.sectors import SectorState
from hwflash.errors import ChipProtected, ChipStateUnknown
from hwflash.flash.lock_bus import DISABLE, ENABLE, LockBus, locks_refused
from hwflash.flash.nor import NorFlash
from hwflash.flash.pipeline import StatusPoller
from hwflash.flash.sector_locks import SectorAccess
from hwflash.units import Range

_POLL: Final = 0.001
#: A few milliseconds are no measure on a computer that is busy, or across a network.
_PATIENCE: Final = 0.5
#: A write that cleared bits of another register is made good so often.
_ROUNDS: Final = 2

#: Code of the error when 50h does nothing: the chip can still be written without it.
VOLATILE_REFUSED: Final = "protection.volatile-refused"


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
        self._live = live_bits(flash.chip)
        live = {flash.chip.status.read[number]: mask for number, mask in self._live.items()}
        self._locks = LockBus(flash, live)
        self._sectors = SectorAccess(self._locks, self._poller)

    # --- reading ------------------------------------------------------------------------

    def read(self) -> Locks:
        """Everything by which the chip locks bytes.

        Raises:
            BusUnstable: two reads differ (``chip.unstable-register``).
        """
        registers, sectors = self.registers(), self._sectors.read()
        if self._chip.protection.style is ProtectionStyle.SST26:
            length = sst26_bpr_length(self._chip.size)
            ask = Transfer(bytes((opcodes.READ_BLOCK_PROTECTION,)), length)
            return Locks(registers, self._locks.twice([ask])[0])
        wps = self._chip.protection.wps
        if wps is not None and registers[wps.register] >> wps.bit & 1:
            return Locks(registers, individual=self._individual(tuple(lock_units(self._chip.size))))
        return Locks(registers, sectors=sectors)

    def sectors(self, places: Sequence[Range] | None = None) -> SectorState | None:
        """The lock bits of single sectors; see `SectorAccess.read`."""
        return self._sectors.read(places)

    def registers(self) -> dict[int, int]:
        """Every status register, without the bits that are no settings.

        Raises:
            BusUnstable: two reads differ (``chip.unstable-register``).
        """
        return {number: value & ~self._live.get(number, 0) for number, value in self._raw().items()}

    def security(self) -> int | None:
        """The security register (2Bh) of parts that may have WPSEL; None for others.

        None, too, for those whose `sectors` are read: these are None unless WPSEL is set.
        """
        if "wpsel" not in self._chip.quirks or self._chip.sector_locks is not SectorLocks.NONE:
            return None
        return self._locks.twice([Transfer(bytes((opcodes.READ_SECURITY_STATUS,)), 1)])[0][0]

    # --- changing -----------------------------------------------------------------------

    def apply(
        self,
        wanted: Locks,
        allow: Mapping[int, int],
        *,
        volatile: bool = False,
        persistent: bool = False,
    ) -> bool:
        """Bring the chip's locks into a state, and prove it.

        Args:
            wanted: the state; individual locks and the block-protection register as they are
                there, of the registers only the bits of ``allow``.
            allow: the register bits that may change, as a mask for each register.
            volatile: until the supply goes away; only for chips with ``status.volatile_enable``.
            persistent: non-volatile lock bits of single sectors may be changed, too.

        Returns:
            Whether anything was sent that could change the chip.

        Raises:
            BusUnstable: two reads of a register differ; nothing was sent.
            ChipProtected: the chip does not take it, and is as it was (``protection.refused``;
                ``protection.volatile-refused`` where it was to be volatile), or it was not asked
                because an operation is suspended (``protection.suspended``).
            ChipStateUnknown: it is neither as it was nor as it should be
                (``protection.verify-failed``).
        """
        sent = self._apply_registers(wanted.registers, allow, volatile=volatile)
        if wanted.bpr is not None:
            sent |= self._apply_bpr(wanted.bpr)
        if wanted.individual is not None:
            sent |= self._apply_individual(wanted.individual)
        if wanted.sectors is not None:
            sent |= self._sectors.apply(wanted.sectors, persistent=persistent)
        return sent

    def lock_down(self) -> None:
        """8Dh: the block-protection register of an SST26 cannot be written until power-up."""
        self._bus.execute([ENABLE, Transfer(bytes((opcodes.LOCK_BLOCK_PROTECTION,)))])

    # --- status registers ---------------------------------------------------------------

    def _raw(self) -> dict[int, int]:
        numbers = list(self._chip.status.read)
        if self._chip.fail_flags is FailFlags.SPANSION_SR1:
            self._clear_failure()
        answers = self._locks.twice(
            [Transfer(bytes((self._chip.status.read[number],)), 1) for number in numbers]
        )
        return {number: answer[0] for number, answer in zip(numbers, answers, strict=True)}

    def _clear_failure(self) -> None:
        """These parts answer little else, and take nothing, while error bits are up."""
        status = self._bus.execute([Transfer(bytes((opcodes.READ_STATUS_1,)), 1)])[0][0]
        if status != 0xFF and failed(self._chip, {1: status}):
            self._bus.execute([Transfer(bytes((opcodes.CLEAR_STATUS,)))])

    def _require_not_suspended(self) -> None:
        raw = self._raw()
        if suspended(self._chip, raw):
            raise ChipProtected(
                "a program or erase of the chip is suspended, and until it is over the chip takes "
                f"no register write ({_text(raw)})",
                code="protection.suspended",
                registers=_text(raw),
            )

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
            if not sent:
                self._require_not_suspended()
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
        self._bus.execute([DISABLE])
        if now == before and volatile:
            raise ChipProtected(
                "the chip does not take a volatile register write (50h): "
                f"{_text(now)} stays, {_text(goal)} was sent",
                code=VOLATILE_REFUSED,
                registers=_text(now),
                wanted=_text(goal),
            )
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
        if before is None or before == wanted:
            return False
        found = self._write_bpr(wanted)
        old, new, now = (int.from_bytes(value) for value in (before, wanted, found))
        stuck = now & ~new
        # All but some locks opened: blocks that are locked down for ever, which no command tells.
        # The others are locked again.
        if stuck and now != old and now == new | stuck and self._write_bpr(before) == before:
            raise ChipProtected(
                f"{stuck.bit_count()} blocks cannot be unlocked: they are locked down for ever "
                f"(block-protection register {found.hex()})",
                code="protection.locked-down",
                register=found.hex(),
            )
        if found != wanted:
            raise locks_refused(found == before, "block-protection register")
        return True

    def _write_bpr(self, value: bytes) -> bytes:
        self._bus.execute(
            [ENABLE, Transfer(bytes((opcodes.WRITE_BLOCK_PROTECTION,)) + value), DISABLE]
        )
        return self.read().bpr or b""

    def _individual(self, units: Sequence[Range]) -> tuple[Range, ...]:
        ask = [Transfer(self._locks.addressed(opcodes.READ_BLOCK_LOCK, unit), 1) for unit in units]
        with_mode = self._locks.in_mode(ask)
        answers = [answer for answer in self._locks.twice(with_mode) if answer]
        return tuple(unit for unit, answer in zip(units, answers, strict=True) if answer[0] & 1)

    def _apply_individual(self, wanted: Sequence[Range]) -> bool:
        units = tuple(lock_units(self._chip.size))
        before = set(self._individual(units))
        changes: list[Transfer] = []
        for unit in units:
            if (unit in before) != (unit in wanted):
                opcode = opcodes.LOCK_BLOCK if unit in wanted else opcodes.UNLOCK_BLOCK
                changes += [ENABLE, Transfer(self._locks.addressed(opcode, unit))]
        if not changes:
            return False
        self._bus.execute(self._locks.in_mode(changes))
        found = set(self._individual(units))
        if found != set(wanted):
            raise locks_refused(found == before, "individual block locks")
        return True


def _text(registers: Mapping[int, int]) -> str:
    return " ".join(f"SR{number}={value:02X}h" for number, value in sorted(registers.items()))
