"""Lock bits of single sectors: who has which, how they are reached, what they say.

Two kinds of bits lock a sector: a volatile one, changed by command as often as one likes (DPB,
DYB, lock register), and on most families a non-volatile one (SPB, PPB, lock bit), which is set
sector by sector and cleared for the whole chip at once. The non-volatile ones can be frozen until
the supply goes away, and one-time modes decide what lifts that: nothing, or a password.

Ref: MX25L12835F PM1795 §9-31 to 9-38 (WPSEL, SPB, DPB, lock register); N25Q256A Rev. W table 4
(sector lock register); MT25QL256ABA Rev. K tables 13 to 16 (volatile and non-volatile lock bits,
sector protection register, global freeze bit); S25FL128S Rev. M §8.4 (ASP: DYB, PPB, PPB lock).
Limits: the commands with four address bytes; passwords are neither set nor sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from hwflash.chip.model import Chip, SectorLocks
from hwflash.chip.protection import lock_units
from hwflash.units import KIB, Range, merge_ranges


class SectorMode(StrEnum):
    """What lifts a freeze of the non-volatile bits."""

    DEFAULT = "default"  # a power cycle; a one-time mode can still be chosen
    PERSISTENT = "persistent"  # a power cycle, for ever
    PASSWORD = "password"  # noqa: S105 - the password, for ever; frozen from power-up


@dataclass(frozen=True, slots=True)
class SectorState:
    """The lock bits of single sectors.

    Attributes:
        dynamic: sectors whose volatile bit locks them, ascending, not joined.
        persistent: sectors whose non-volatile bit does.
        held: sectors whose volatile bit cannot be changed until the supply goes away.
        frozen: the non-volatile bits cannot be changed now.
        mode: what lifts that.
        exclusive: they are in force instead of the BP bits (WPSEL), not beside them.
    """

    dynamic: tuple[Range, ...] = ()
    persistent: tuple[Range, ...] = ()
    held: tuple[Range, ...] = ()
    frozen: bool = False
    mode: SectorMode = SectorMode.DEFAULT
    exclusive: bool = False

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The bytes they lock, ascending and joined."""
        return tuple(merge_ranges([*self.dynamic, *self.persistent]))

    def kept(self, keep: Callable[[Range], bool], *, persistent: bool) -> SectorState:
        """The state with only those locks that are to be kept.

        Args:
            keep: whether the lock of a sector stays.
            persistent: non-volatile ones may go, too.
        """
        return replace(
            self,
            dynamic=tuple(filter(keep, self.dynamic)),
            persistent=tuple(filter(keep, self.persistent)) if persistent else self.persistent,
        )


@dataclass(frozen=True, slots=True)
class SectorCommands:
    """How the bits of a family are reached.

    Attributes:
        names: of the volatile and of the non-volatile bit.
        read, write: opcodes of the volatile bit.
        by_mode: these take an address as wide as the mode the chip is in, else four bytes.
        lock, unlock: the byte that is written.
        locks: whether an answer says that the volatile bit locks.
        holds: whether an answer says that it cannot be changed.
        persistent: opcodes that read, set and clear (all) the non-volatile bits, or None.
        persistent_locks: whether an answer says that one locks.
        mode: opcode of the register that tells the one-time mode, bits 1 and 2.
        freeze: opcode that reads the freeze bit, 0 when it is on.
    """

    names: tuple[str, str]
    read: int
    write: int
    lock: int
    unlock: int
    locks: Callable[[int], bool]
    by_mode: bool = False
    holds: Callable[[int], bool] = lambda _: False
    persistent: tuple[int, int, int] | None = None
    persistent_locks: Callable[[int], bool] = lambda _: False
    mode: int = 0
    freeze: int = 0xA7


def _odd(answer: int) -> bool:
    return bool(answer & 1)


def _even(answer: int) -> bool:
    return not answer & 1


def _micron_locks(answer: int) -> bool:
    # Bits 7 to 2 are reserved and 0: FF is no answer, and no lock.
    return answer & 0xFD == 1


def _micron_holds(answer: int) -> bool:
    return answer & 0xFE == 2


_MICRON: Final = SectorCommands(
    names=("lock register", "lock bit"), read=0xE8, write=0xE5, lock=1, unlock=0,
    locks=_micron_locks, by_mode=True, holds=_micron_holds,
)  # fmt: skip
_COMMANDS: Final = MappingProxyType(
    {
        SectorLocks.MACRONIX: SectorCommands(
            names=("DPB", "SPB"), read=0xE0, write=0xE1, lock=0xFF, unlock=0, locks=_odd,
            persistent=(0xE2, 0xE3, 0xE4), persistent_locks=_odd, mode=0x2D,
        ),
        SectorLocks.MICRON: _MICRON,
        SectorLocks.MICRON_BITS: replace(
            _MICRON, persistent=(0xE2, 0xE3, 0xE4), persistent_locks=_even, mode=0x2D
        ),
        SectorLocks.SPANSION: SectorCommands(
            names=("DYB", "PPB"), read=0xE0, write=0xE1, lock=0, unlock=0xFF, locks=_even,
            persistent=(0xE2, 0xE3, 0xE4), persistent_locks=_even, mode=0x2B,
        ),
    }
)  # fmt: skip


def commands_of(chip: Chip) -> SectorCommands | None:
    """How the bits of a chip are reached; None when it has none."""
    return _COMMANDS.get(chip.sector_locks)


def sectors_of(chip: Chip) -> Iterator[Range]:
    """The sectors of a chip that have bits of their own, ascending."""
    if chip.sector_locks is SectorLocks.MACRONIX:
        yield from lock_units(chip.size)
    elif chip.sector_locks in (SectorLocks.MICRON, SectorLocks.MICRON_BITS):
        yield from (Range(at, 64 * KIB) for at in range(0, chip.size, 64 * KIB))
    elif chip.sector_locks is SectorLocks.SPANSION:
        for region in chip.erase:
            at, end, size = region.start, region.start + region.length, region.types[0].size
            while at < end:
                stop = min(at - at % size + size, end)
                yield Range(at, stop - at)
                at = stop


def mode_of(register: bytes) -> SectorMode | None:
    """What the mode register says; None when the chip has no such register.

    Bits 2 and 1 are never both programmed, so zeros are a chip that does not know the command.
    """
    password, persistent = not register[0] & 4, not register[0] & 2
    if password and persistent:
        return None
    if password:
        return SectorMode.PASSWORD
    return SectorMode.PERSISTENT if persistent else SectorMode.DEFAULT


def overlapping(sectors: Sequence[Range], places: Sequence[Range]) -> tuple[Range, ...]:
    """Those sectors that share a byte with a place."""
    return tuple(item for item in sectors if any(item.overlaps(place) for place in places))
