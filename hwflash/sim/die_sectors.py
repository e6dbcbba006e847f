"""Lock bits of single sectors of the simulated die: DPB and SPB, DYB and PPB, lock registers.

Ref: MX25L12835F PM1795 §9-31 to 9-38; N25Q256A Rev. W table 4 and MT25QL256ABA Rev. K tables 13 to
16; S25FL128S Rev. M §8.4 and §9.9.
Limits: passwords are not modelled, the password mode is always locked; a chip erase with a locked
sector is refused as a whole, where some families pass that sector over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from hwflash.chip.model import Chip, SectorLocks
from hwflash.units import KIB

_BLOCK: Final = 64 * KIB
_SECTOR: Final = 4 * KIB
_PASSWORD: Final = 0x04
_ALL_ONES: Final = 0xFFFF


class LockBits:
    """The lock bits of one chip, sectors named by their first address.

    Attributes:
        style: whose they are.
        wpsel: Macronix: they are in force, for ever.
        dynamic: sectors whose volatile bit is set.
        held: sectors whose volatile bit cannot be changed before power-up.
        persistent: sectors whose non-volatile bit is set.
        frozen: the non-volatile bits cannot be changed.
        mode: the one-time mode register.
    """

    def __init__(self, chip: Chip) -> None:
        self.style = chip.sector_locks
        self._chip = chip
        self.sectors = dict(self._layout())
        self._starts = sorted(self.sectors)
        self.wpsel = False
        self.dynamic: set[int] = set()
        self.held: set[int] = set()
        self.persistent: set[int] = set()
        self.frozen = False
        self.mode = _ALL_ONES
        self.power_up()

    def _layout(self) -> Iterator[tuple[int, int]]:
        """First address and length of each sector."""
        size = self._chip.size
        if self.style is SectorLocks.SPANSION:
            for region in self._chip.erase:
                step, at = region.types[0].size, region.start
                while at < region.start + region.length:
                    end = min(at // step * step + step, region.start + region.length)
                    yield at, end - at
                    at = end
            return
        if self.style is SectorLocks.NONE:
            return
        for block in range(0, size, _BLOCK):
            fine = self.style is SectorLocks.MACRONIX and block in (0, size - _BLOCK)
            step = _SECTOR if fine else _BLOCK
            yield from ((at, step) for at in range(block, block + _BLOCK, step))

    @property
    def in_force(self) -> bool:
        """Whether the bits mean anything."""
        return self.wpsel if self.style is SectorLocks.MACRONIX else bool(self.sectors)

    @property
    def exclusive(self) -> bool:
        """Whether they are in force instead of the BP bits."""
        return self.style is SectorLocks.MACRONIX and self.wpsel

    def power_up(self) -> None:
        """The volatile bits as after power-up: Macronix locks everything, the others nothing."""
        self.dynamic = set(self.sectors) if self.style is SectorLocks.MACRONIX else set()
        self.held = set()
        self.frozen = not self.mode & _PASSWORD

    def at(self, address: int) -> int:
        """The sector of an address."""
        return self._starts[max(bisect_right(self._starts, address) - 1, 0)]

    def refuses(self, address: int, length: int) -> bool:
        """Whether a program or erase of the range is refused by these bits."""
        if not self.in_force:
            return False
        end = address + length
        return any(
            start < end and address < start + self.sectors[start]
            for start in self.dynamic | self.persistent
        )

    def any(self) -> bool:
        """Whether a sector is locked."""
        return self.in_force and bool(self.dynamic or self.persistent)

    def set_dynamic(self, address: int, value: int) -> None:
        """A write of the volatile bit of a sector."""
        sector = self.at(address)
        if sector in self.held:
            return
        micron = self.style in (SectorLocks.MICRON, SectorLocks.MICRON_BITS)
        locks = not value & 1 if self.style is SectorLocks.SPANSION else bool(value & 1)
        (self.dynamic.add if locks else self.dynamic.discard)(sector)
        if micron and value & 2:
            self.held.add(sector)

    def dump(self) -> dict[str, Any]:
        """What is kept without supply."""
        return {
            "wpsel": self.wpsel, "mode": self.mode, "persistent": sorted(self.persistent),
        }  # fmt: skip

    def load(self, found: Any) -> None:
        """Take up what was kept.

        Raises:
            ValueError: it is not of this chip.
        """
        persistent = {int(at) for at in found["persistent"]}
        if not persistent <= set(self.sectors) or not 0 <= int(found["mode"]) <= _ALL_ONES:
            raise ValueError("the lock bits are not those of the chip")
        self.wpsel, self.mode, self.persistent = (
            bool(found["wpsel"]), int(found["mode"]), persistent,
        )  # fmt: skip


@dataclass(slots=True)
class LockBitChange:
    """A change of non-volatile lock bits that can be torn."""

    bits: LockBits
    old: frozenset[int]
    new: frozenset[int]

    def commit(self) -> None:
        """Carry it out."""
        self.bits.persistent = set(self.new)

    def tear(self, random: Random) -> None:
        """The power went away: each bit is old or new, as luck has it."""
        moved = sorted(self.old ^ self.new)
        flipped = {at for at in moved if random.random() < 0.5}
        self.bits.persistent = set(self.old) ^ flipped

    def overlaps(self, address: int, length: int) -> bool:
        """It touches no memory."""
        return False
