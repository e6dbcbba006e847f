"""Which bytes the simulated die refuses to program and erase.

Ref: W25Q128JV Rev. F §7.1 and §8.2.41-45 (WPS, individual block locks 36h, 39h, 3Dh, 7Eh, 98h);
SST26VF064B DS20005119 §4.5, table 5-6 (block-protection register 72h, 42h, 98h, 8Dh; E8h).
"""

from __future__ import annotations

from typing import Final

from hwflash.chip.model import Chip, ProtectionStyle
from hwflash.chip.protection import locked, sst26_bpr_length
from hwflash.sim.die_registers import Registers
from hwflash.sim.die_sectors import LockBits
from hwflash.units import KIB, Range

_SECTOR: Final = 4 * KIB
_BLOCK: Final = 64 * KIB


class Locks:
    """The protection in force.

    Attributes:
        bpr: the block-protection register of an SST26, b"" for other chips.
        bpr_locked: 8Dh made that register read only until the next power-up.
        locked_down: bits of that register which E8h locked for ever; no command tells them.
        bits: the lock bits of single sectors.
    """

    def __init__(self, chip: Chip, registers: Registers) -> None:
        self._chip = chip
        self._registers = registers
        self._cache_key: object = None
        self._cache: tuple[Range, ...] = ()
        self._hidden: tuple[Range, ...] = ()
        self._individual: set[int] = set()
        self.bpr = b""
        self.bpr_locked = False
        self.bits = LockBits(chip)
        self.locked_down = 0
        self.power_up()

    @property
    def has_bpr(self) -> bool:
        """Whether this is an SST26."""
        return self._chip.protection.style is ProtectionStyle.SST26

    @property
    def individual(self) -> bool:
        """Whether individual block locks are in force instead of the BP bits."""
        return self._registers.bit(self._chip.protection.wps)

    def power_up(self) -> None:
        """Everything that is lockable by block is locked, as after power-up."""
        self._individual = set(self._units())
        self.bpr_locked = False
        self.bits.power_up()
        if self.has_bpr:
            length = sst26_bpr_length(self._chip.size)
            # Write locks on; the read locks of the 8 KiB blocks (odd bits) off.
            self.bpr = b"\x55\x55" + b"\xff" * (length - 2)

    def write_bpr(self, value: bytes) -> None:
        """Set the block-protection register, unless it is locked down or the wrong length."""
        if len(value) == len(self.bpr) and not self.bpr_locked:
            self.bpr = self._with_locked_down(bytes(value))

    def lock_down_blocks(self, value: bytes) -> None:
        """E8h: blocks are write-locked for ever; read locks (odd bits of the 8 KiB) are not."""
        if len(value) == len(self.bpr):
            length = len(self.bpr)
            self.locked_down |= int.from_bytes(value) & ~(0xAAAA << 8 * (length - 2))
            self.bpr = self._with_locked_down(self.bpr)

    def _with_locked_down(self, value: bytes) -> bytes:
        return (int.from_bytes(value) | self.locked_down).to_bytes(len(value))

    def unlock_all(self) -> None:
        """98h: every block may be written."""
        self._individual.clear()
        if self.has_bpr and not self.bpr_locked:
            # Read locks (odd bits of the first two bytes) are not touched by 98h.
            first = int.from_bytes(self.bpr[:2]) & 0xAAAA
            self.bpr = self._with_locked_down(first.to_bytes(2) + bytes(len(self.bpr) - 2))

    def lock_all(self) -> None:
        """7Eh: every individual lock is set."""
        self._individual = set(self._units())

    def lock_block(self, address: int, *, lock: bool) -> None:
        """36h and 39h: the lock of one block."""
        unit = self._unit(address)
        (self._individual.add if lock else self._individual.discard)(unit)

    def block_locked(self, address: int) -> bool:
        """3Dh: the lock of one block."""
        return self._unit(address) in self._individual

    def refuses(self, address: int, length: int) -> bool:
        """Whether a program or erase of the range is refused."""
        if self.bits.refuses(address, length):
            return True
        if self.bits.exclusive:
            return False
        if self.individual:
            units = self._individual
            step = range(address, address + length, _SECTOR)
            return any(self._unit(place) in units for place in step)
        end = address + length
        return any(item.address < end and address < item.end for item in self._ranges())

    def hides(self, address: int, length: int) -> bool:
        """Whether the range holds bytes that may not be read (SST26)."""
        if not self.has_bpr:
            return False
        self._ranges()
        end = address + length
        return any(item.address < end and address < item.end for item in self._hidden)

    def any(self) -> bool:
        """Whether anything is locked, which makes a chip erase impossible."""
        if self.bits.any() or self.bits.exclusive:
            return self.bits.any()
        return bool(self._individual) if self.individual else bool(self._ranges())

    def _ranges(self) -> tuple[Range, ...]:
        key = (self.bpr, tuple(self._registers.live.values()))
        if key != self._cache_key:
            state = locked(self._chip, self._registers.live, self.bpr or None)
            self._cache, self._hidden = state.ranges, state.read_locked
            self._cache_key = key
        return self._cache

    def _unit(self, address: int) -> int:
        """First address of the lockable block: 4 KiB in the first and last 64 KiB, else 64 KiB."""
        edge = address < _BLOCK or address >= self._chip.size - _BLOCK
        size = _SECTOR if edge else _BLOCK
        return address - address % size

    def _units(self) -> list[int]:
        if self._chip.protection.wps is None:
            return []
        size = self._chip.size
        edges = [*range(0, min(_BLOCK, size), _SECTOR), *range(size - _BLOCK, size, _SECTOR)]
        return edges + list(range(_BLOCK, size - _BLOCK, _BLOCK))
