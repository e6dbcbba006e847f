"""State of the simulated die: supply, reset, and the operation it is busy with.

Ref: W25Q128JV Rev. F chapters 7 to 9; S25FL128S Rev. M §7.6 (a failed operation keeps WIP).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from random import Random
from typing import Any, Final, Protocol

from hwflash.chip.model import Chip, Duration, FailFlags
from hwflash.sim.die_array import Change, FlashArray
from hwflash.sim.die_locks import Locks
from hwflash.sim.die_map import Configuration
from hwflash.sim.die_otp import SecurityRegisters
from hwflash.sim.die_registers import RegisterChange, Registers
from hwflash.sim.die_sectors import LockBitChange
from hwflash.sim.die_timing import BusyTimes, Timing
from hwflash.sim.faults import Faults

_POWER_UP: Final = 20e-6  # tVSL: nothing is answered (W25Q128JV table 9.3)
_RESET: Final = 30e-6  # tRST
_SUSPEND: Final = 20e-6  # tSUS

Stream = Callable[[int], bytes]
"""Gives the next n bytes of an answer."""


class Now(Protocol):
    """Where the die reads the time."""

    def now(self) -> float:
        """Seconds of virtual time."""
        ...


@dataclass(slots=True)
class Operation:
    """Something the die is busy with, or was when it was suspended."""

    change: Change | RegisterChange | LockBitChange
    kind: str
    end: float
    suspendable: bool
    failed: bool = False


class DieCore:
    """What the commands act on; `hwflash.sim.die.NorDie` adds the wires and tells the arguments.

    Attributes:
        chip, clock: as given.
        array, status, locks, otp: memory, registers, protection, security registers.
        configuration: where which erase command works.
        wel: the write enable latch.
        volatile_enabled: 50h was sent.
        four_byte: the 4-byte mode is on.
        extended, bank: the extended address register, the bank register.
        deep: in deep power-down.
        continuous: in a continuous read: what comes is an address, until FFh ends it.
        aai: next address of auto address increment, None while that is off.
        busy_on_miso: MISO shows busy during auto address increment.
        active, parked: the die of a stack that listens, and what the others keep meanwhile.
        nonvolatile: nonvolatile configuration register (Micron).
        reset_enabled, reset_armed: 66h was sent; it was the command before this one.
        faults: what is broken.
        operation, suspended: what goes on, and what was suspended.
        program_failed, erase_failed, protection_failed: fail flags.
        error_hold: a failure keeps the chip busy until 30h.
        flag_unread: 70h was not read since the last operation (chips with ``flag-status-poll``).
        primitives: programs, erases and status writes begun so far.
        cut: what the power cut interrupted, or None.
        on_power_cut: called when that happens.
    """

    def __init__(
        self,
        chip: Chip,
        clock: Now,
        *,
        seed: int,
        timing: Timing,
        power_cut: int | None,
        wp: int,
        faults: Faults,
        content: bytearray | None,
    ) -> None:
        self.chip = chip
        self.clock = clock
        self.random = Random(f"die-{seed}")
        self.array = FlashArray(chip, content)
        self.status = Registers(chip)
        self.locks = Locks(chip, self.status)
        self.configuration = Configuration(chip, self.status)
        self.otp = SecurityRegisters(chip)
        self.times = BusyTimes(timing, seed, faults.slow)
        self.power_cut = power_cut
        self.wp = bool(wp)
        self.hold = True
        self.sck_hz = 0.0
        self.primitives = 0
        self.cut: dict[str, object] | None = None
        self.on_power_cut: Callable[[], None] = _nothing
        self.powered = True
        self.selected = False
        self.operation: Operation | None = None
        self.suspended: Operation | None = None
        self.reset_armed = False
        self.faults = faults
        self.nonvolatile = 0xFFFF
        self.active = 0
        self.parked: dict[int, dict[str, Any]] = {}
        self._stuck_busy = False
        self._always_four_byte = False
        self._suspending_until = 0.0
        self.ignore_until = 0.0
        self._clear()

    @property
    def content(self) -> bytearray:
        """The memory itself; writing to it changes the chip without wear and time."""
        return self.array.content

    @property
    def wear(self) -> list[int]:
        """Erases of each block of the smallest erase size."""
        return list(self.array.wear)

    @property
    def registers(self) -> dict[int, int]:
        """The register values in force, by register number, without WIP and WEL."""
        return dict(self.status.live)

    # --- power and reset -------------------------------------------------------------------

    def power_off(self) -> None:
        """The supply goes away; what was going on is torn."""
        if not self.powered:
            return
        self._abort()
        self.powered = False
        self.selected = False

    def restore_power(self) -> None:
        """The supply comes (back); volatile state is new, a power cut is over."""
        if self.powered:
            return
        self.powered = True
        self._clear()
        self.ignore_until = self.clock.now() + _POWER_UP

    def reset(self) -> None:
        """Reset by 99h or RESET#: an operation going on is torn."""
        self._abort()
        extended = self.extended
        self._clear()
        if "address-register-survives" in self.chip.quirks:
            self.extended = extended
        self.ignore_until = self.clock.now() + _RESET

    def always_four_byte(self) -> None:
        """The chip knows 4-byte addresses only."""
        self._always_four_byte = True

    def restart(self) -> None:
        """Take up the non-volatile state that was just loaded from outside."""
        self._clear()

    def found(self, state: str) -> None:
        """Be in the state a programmer finds: ``asleep``, ``busy``, ``reading`` or ""."""
        self.deep, self.continuous = state == "asleep", state == "reading"
        if state == "busy":
            region = self.chip.erase[0]
            kind = region.types[-1]
            change = self.array.erase(region.start, min(kind.size, region.length))
            self.start(change, "erase", kind.time, suspendable=True)

    def _abort(self) -> None:
        self.busy()
        elsewhere: list[Operation | None] = [
            state["operation"]
            for _, state in sorted(self.parked.items())
            if state["operation"] and self.clock.now() < state["operation"].end
        ]
        for operation in (self.operation, self.suspended, *elsewhere):
            if operation is not None:
                operation.change.tear(self.random)
        self.operation = self.suspended = None

    def _clear(self) -> None:
        self.status.power_up()
        self.locks.power_up()
        self.wel = self.volatile_enabled = self.deep = self.reset_enabled = False
        self.continuous = self.otp.entered = False
        self.program_failed = self.erase_failed = self.protection_failed = False
        self.error_hold = self._stuck_busy = self.flag_unread = False
        self.operation = self.suspended = None
        self.extended = self.bank = self.active = 0
        self.parked = {}
        self.aai: int | None = None
        self.busy_on_miso = False
        self.four_byte = self.status.starts_in_four_byte_mode() or not self.nonvolatile & 1

    # --- operations ------------------------------------------------------------------------

    def busy(self) -> bool:
        """Whether an operation is going on; ends it when its time is over."""
        operation = self.operation
        if operation is None:
            return self.error_hold or self.clock.now() < self._suspending_until
        if self.clock.now() < operation.end:
            return True
        self._finish(operation)
        return self.error_hold

    def start(
        self,
        change: Change | RegisterChange | LockBitChange,
        kind: str,
        time: Duration,
        *,
        suspendable: bool,
    ) -> None:
        """Begin a primitive: ``program``, ``erase`` or ``status``."""
        if self.flag_unread:  # the data sheet wants 70h to be read first: not carried out
            self.wel = False
            return
        self.primitives += 1
        if self.primitives == self.power_cut:
            change.tear(self.random)
            address = change.address if isinstance(change, Change) else None
            self.cut = {"primitive": self.primitives, "kind": kind, "address": address}
            self.operation = self.suspended = None
            self.powered = self.selected = False
            self.on_power_cut()
            return
        failed = self.primitives == self.faults.fail
        if failed:
            change.tear(self.random)
        else:
            change.commit()
        if self.primitives == self.faults.never_ready:
            self._stuck_busy = True
        seconds = inf if self._stuck_busy else self.times.draw(time, page=kind == "program")
        self.operation = Operation(change, kind, self.clock.now() + seconds, suspendable, failed)

    def refuse(self, kind: str) -> None:
        """A program or erase of protected bytes: nothing happens, the write enable is gone."""
        self.protection_failed = True
        self._note_failure(kind)
        if not self.error_hold:
            self.wel = False

    def _finish(self, operation: Operation) -> None:
        self.operation = None
        self.flag_unread = "flag-status-poll" in self.chip.quirks
        if operation.failed:
            self._note_failure(operation.kind)
        elif self.chip.fail_flags is FailFlags.MACRONIX_SCUR:
            self._clear_flag(operation.kind)
        if not self.error_hold and self.aai is None:
            self.wel = False

    def _note_failure(self, kind: str) -> None:
        if kind == "erase":
            self.erase_failed = True
        else:
            self.program_failed = True
        self.error_hold = self.chip.fail_flags is FailFlags.SPANSION_SR1

    def _clear_flag(self, kind: str) -> None:
        if kind == "erase":
            self.erase_failed = False
        else:
            self.program_failed = False

    def suspend(self) -> None:
        """75h: the operation stops half way, the rest of the memory can be used."""
        operation = self.operation
        if not self.busy() or operation is None or not operation.suspendable or self.suspended:
            return
        now = self.clock.now()
        operation.end -= now  # what is left
        operation.change.tear(self.random)
        self.operation, self.suspended = None, operation
        self.wel = False
        self._suspending_until = now + _SUSPEND

    def resume(self) -> None:
        """7Ah: the suspended operation goes on."""
        if self.suspended is None or self.busy():
            return
        operation, self.suspended = self.suspended, None
        operation.change.commit()
        operation.end += self.clock.now()
        self.operation = operation
        self.wel = True

    def clear_status(self) -> None:
        """30h (Spansion) and 50h (Micron): the fail flags go, and with them the hold."""
        self.program_failed = self.erase_failed = self.protection_failed = False
        self.error_hold = False

    def pause(self, seconds: float) -> None:
        """Answer nothing for a while."""
        self.ignore_until = self.clock.now() + seconds

    def status_stream(self, value: Callable[[bool], int]) -> Stream:
        """A register that is read on and on and changes when the chip gets ready."""

        def stream(size: int) -> bytes:
            if not self.busy():
                return bytes((value(False),)) * size
            before = size
            operation = self.operation
            if size > 1 and self.sck_hz and operation is not None and operation.end != inf:
                left = operation.end - self.clock.now()
                before = min(size, ceil(left * self.sck_hz / 8))
            answer = bytes((value(True),)) * before
            if before < size and operation is not None:
                self._finish(operation)
                answer += bytes((value(self.error_hold),)) * (size - before)
            return answer

        return stream

    def address_bytes(self) -> int:
        """3 or 4, by the mode the chip is in."""
        return 4 if self.four_byte or self._always_four_byte else 3


def _nothing() -> None:
    pass
