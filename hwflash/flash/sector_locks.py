"""Reading and changing the lock bits of single sectors.

The volatile ones are written one by one. Of the non-volatile ones single bits can be set only; to
clear one, all are erased and the others set again, which wears them and is open to a power cut.
So they are changed only where that was asked for.

Ref: see `hwflash.chip.sectors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from hwflash.bus.spi import Transfer
from hwflash.chip import opcodes
from hwflash.chip.model import SectorLocks
from hwflash.chip.sectors import (
    SectorCommands,
    SectorMode,
    SectorState,
    commands_of,
    mode_of,
    overlapping,
    sectors_of,
)
from hwflash.errors import ChipError, ChipProtected
from hwflash.flash.lock_bus import DISABLE, ENABLE, LockBus, locks_refused
from hwflash.flash.pipeline import StatusPoller
from hwflash.units import Range

_POLL: Final = 0.001
_WPSEL: Final = 0x80
#: Setting a bit takes about a page program, clearing them an erase; a busy computer takes longer.
_PATIENCE: Final = 3.0
_VOLATILE_PATIENCE: Final = 0.5


class SectorAccess:
    """The lock bits of the sectors of one chip.

    Args:
        bus: its bus.
        poller: waits for it.
    """

    def __init__(self, bus: LockBus, poller: StatusPoller) -> None:
        self._lock_bus = bus
        self._poller = poller
        self._commands = commands_of(bus.chip)

    def read(self, places: Sequence[Range] | None = None) -> SectorState | None:
        """The bits; None when the chip has none, or none that are in force.

        Args:
            places: only sectors that share a byte with these.

        Raises:
            BusUnstable: two reads differ (``chip.unstable-register``).
        """
        commands, chip = self._commands, self._lock_bus.chip
        if commands is None:
            return None
        exclusive = chip.sector_locks is SectorLocks.MACRONIX
        if exclusive and not self._register(opcodes.READ_SECURITY_STATUS)[0] & _WPSEL:
            return None
        mode: SectorMode | None = SectorMode.DEFAULT
        if commands.persistent is not None:
            mode = mode_of(self._register(commands.mode, 2))
            if mode is None and not commands.by_mode:
                return None
        sectors = tuple(sectors_of(chip))
        if places is not None:
            sectors = overlapping(sectors, places)
        dynamic = self._ask(commands, sectors)
        persistent: list[int] = []
        frozen = False
        if commands.persistent is not None and mode is not None:
            opcode = commands.persistent[0]
            persistent = self._answers(
                [Transfer(self._lock_bus.addressed(opcode, item, 4), 1) for item in sectors]
            )
            frozen = not self._register(commands.freeze)[0] & 1
        return SectorState(
            dynamic=_those(sectors, map(commands.locks, dynamic)),
            persistent=_those(sectors, map(commands.persistent_locks, persistent)),
            held=_those(sectors, map(commands.holds, dynamic)),
            frozen=frozen,
            mode=mode or SectorMode.DEFAULT,
            exclusive=exclusive,
        )

    def apply(self, wanted: SectorState, *, persistent: bool) -> bool:
        """Bring the bits into a state, and prove it.

        Args:
            wanted: the state; only its bits are looked at.
            persistent: the non-volatile ones may be changed, too.

        Returns:
            Whether anything was sent that could change the chip.

        Raises:
            ChipProtected: the bits cannot be changed now (``protection.held``,
                ``protection.frozen``), or the chip does not take it (``protection.refused``);
                it is as it was.
            ChipStateUnknown: it is neither as it was nor as it should be.
        """
        now, commands = self.read(), self._commands
        if now is None or commands is None:
            if wanted.ranges:
                raise ChipProtected(
                    "the lock bits of the chip's sectors are not in force",
                    code="protection.refused",
                )
            return False
        moved = set(now.dynamic) ^ set(wanted.dynamic)
        stuck = moved & set(now.held)
        if stuck:
            raise held(sorted(stuck))
        bits = persistent and set(now.persistent) != set(wanted.persistent)
        if bits and now.frozen:
            raise frozen(now)
        if bits:
            self._apply_persistent(commands, now, wanted)
        if moved:
            self._apply_dynamic(commands, sorted(moved), wanted)
        if not (moved or bits):
            return False
        found = self.read()
        same = found is not None and set(found.dynamic) == set(wanted.dynamic)
        if bits:
            same = same and found is not None and set(found.persistent) == set(wanted.persistent)
        if not same:
            raise locks_refused(found == now, "lock bits of single sectors")
        return True

    # --- inside -------------------------------------------------------------------------

    def _apply_dynamic(
        self, commands: SectorCommands, moved: Sequence[Range], wanted: SectorState
    ) -> None:
        bus, locked = self._lock_bus, set(wanted.dynamic)
        width = 0 if commands.by_mode else 4
        for sector in moved:
            value = commands.lock if sector in locked else commands.unlock
            order = Transfer(bus.addressed(commands.write, sector, width) + bytes((value,)))
            sent = [ENABLE, order]
            bus.bus.execute(bus.in_mode(sent) if commands.by_mode else sent)
            self._poller.wait_ready(_VOLATILE_PATIENCE, 0.0, "lock of a sector", sector.address)
        bus.bus.execute([DISABLE])

    def _apply_persistent(
        self, commands: SectorCommands, now: SectorState, wanted: SectorState
    ) -> None:
        if commands.persistent is None:
            return
        _, program, erase = commands.persistent
        there = set(now.persistent)
        if there - set(wanted.persistent):
            self._send(bytes((erase,)), "erase of the sectors' lock bits", 0)
            there = set[Range]()
        for sector in sorted(set(wanted.persistent) - there):
            order = self._lock_bus.addressed(program, sector, 4)
            self._send(order, "lock bit of a sector", sector.address)

    def _send(self, command: bytes, what: str, address: int) -> None:
        self._lock_bus.bus.execute([ENABLE, Transfer(command)])
        try:
            self._poller.wait_ready(_PATIENCE, _POLL, what, address)
        except ChipError as exc:
            if exc.code not in ("chip.program-failed", "chip.erase-failed"):
                raise
            # What became of it is read back.

    def _ask(self, commands: SectorCommands, sectors: Sequence[Range]) -> list[int]:
        bus, width = self._lock_bus, 0 if commands.by_mode else 4
        asked = [Transfer(bus.addressed(commands.read, item, width), 1) for item in sectors]
        return self._answers(bus.in_mode(asked) if commands.by_mode else asked)

    def _answers(self, asked: Sequence[Transfer]) -> list[int]:
        return [answer[0] for answer in self._lock_bus.twice(asked) if answer] if asked else []

    def _register(self, opcode: int, length: int = 1) -> bytes:
        return self._lock_bus.twice([Transfer(bytes((opcode,)), length)])[0]


def held(sectors: Sequence[Range]) -> ChipProtected:
    """The error of a volatile lock that cannot be changed."""
    return ChipProtected(
        f"the lock of {', '.join(map(str, sectors[:4]))} cannot be changed until the supply of the "
        "chip goes away",
        code="protection.held",
        ranges=[{"address": item.address, "length": item.length} for item in sectors],
    )


def frozen(state: SectorState) -> ChipProtected:
    """The error of non-volatile bits that cannot be changed."""
    how = "without its password" if state.mode is SectorMode.PASSWORD else (
        "until the supply of the chip goes away"
    )  # fmt: skip
    return ChipProtected(
        f"the non-volatile lock bits of the chip cannot be changed {how}",
        code="protection.frozen",
        mode=state.mode.value,
    )


def _those(sectors: Sequence[Range], chosen: Iterable[bool]) -> tuple[Range, ...]:
    return tuple(item for item, hit in zip(sectors, chosen, strict=False) if hit)
