"""The flash device protocol and its geometry.

A chip behind a programmer, a chip model in QEMU, QEMU's pflash and an image file all satisfy
`FlashDevice`; layouts, planner and everything else above are written once against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from hwflash.chip.model import Chip, Duration, EraseRegion, EraseType, Programming
from hwflash.units import Range

#: Where single bytes or words are programmed, this many are one piece of work.
BYTE_RUN: Final = 256
_UNITS: Final = {Programming.BYTE: 1, Programming.AAI_BYTE: 1, Programming.AAI_WORD: 2}


@dataclass(frozen=True, slots=True)
class EraseBlock:
    """One erasable block: where it is and what erasing it takes."""

    range: Range
    kind: EraseType


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes and times of a flash device.

    Attributes:
        size: bytes.
        page_size: bytes one page program may span, or of a run of single bytes.
        regions: erase map, in order, without holes.
        page_program: time of one page program.
        chip_erase: time of erasing everything at once, or None.
        byte_seconds: time to move one byte over the wire.
        program_unit: bytes one program command takes at most, where that is not a page.
        reprogram: bits may be cleared in a page that already holds data. False for chips
            whose on-die ECC covers a programmed unit once.
    """

    size: int
    page_size: int
    regions: tuple[EraseRegion, ...]
    page_program: Duration
    chip_erase: Duration | None = None
    byte_seconds: float = 0.0
    program_unit: int = 0
    reprogram: bool = True

    @classmethod
    def of(cls, chip: Chip, byte_seconds: float) -> Geometry:
        """The geometry of a chip on a wire."""
        unit = _UNITS.get(chip.programming, 0)
        return cls(
            size=chip.size,
            page_size=BYTE_RUN if unit else chip.page_size,
            regions=tuple(_with_dies(region, chip) for region in chip.erase),
            page_program=chip.page_program,
            chip_erase=chip.chip_erase[1] if chip.chip_erase else None,
            byte_seconds=byte_seconds,
            program_unit=unit,
            reprogram="no-reprogram" not in chip.quirks,
        )

    def region_at(self, address: int) -> EraseRegion:
        """The region that holds an address of the device."""
        for region in self.regions:
            if region.start <= address < region.start + region.length:
                return region
        raise AssertionError(f"address 0x{address:X} is outside the device")

    def blocks_at(self, address: int) -> tuple[EraseBlock, ...]:
        """The erase blocks that hold an address, smallest first."""
        region = self.region_at(address)
        return tuple(EraseBlock(clip(region, kind, address), kind) for kind in region.types)

    def block_for(self, target: Range) -> EraseBlock | None:
        """The erase block that is exactly ``target``, or None."""
        if 0 <= target.address < self.size:
            for block in self.blocks_at(target.address):
                if block.range == target:
                    return block
        return None

    def align(self, target: Range) -> Range:
        """The smallest run of whole smallest erase blocks around ``target``."""
        first = self.blocks_at(target.address)[0].range.address
        last = self.blocks_at(max(target.end - 1, target.address))[0].range.end
        return Range(first, last - first)

    def pages(self, target: Range) -> Iterator[Range]:
        """The pages in ``target``, the first and last one clipped to it."""
        address = target.address
        while address < target.end:
            end = min((address // self.page_size + 1) * self.page_size, target.end)
            yield Range(address, end - address)
            address = end

    def page_seconds(self, length: int) -> float:
        """Predicted time to program ``length`` bytes of one page.

        On the wire: write enable, two status reads, command and address, data. Where bytes or
        words are programmed: command and data of each, after the longest time.
        """
        if self.program_unit:
            count = -(-length // self.program_unit)
            return count * (self.page_program.maximum + (self.program_unit + 1) * self.byte_seconds)
        return self.page_program.typical + (length + 10) * self.byte_seconds


def _with_dies(region: EraseRegion, chip: Chip) -> EraseRegion:
    """The region with the erase of a whole die, where the chip has that and the region dies."""
    if chip.dies.erase is None or region.start % chip.die_size or region.length % chip.die_size:
        return region
    opcode, time = chip.dies.erase
    whole = EraseType(chip.die_size, opcode, time, opcode)
    return EraseRegion(region.start, region.length, (*region.types, whole))


def clip(region: EraseRegion, kind: EraseType, address: int) -> Range:
    """The block of a type around an address: aligned to its size, clipped to its region."""
    start = address // kind.size * kind.size
    first = max(start, region.start)
    end = min(start + kind.size, region.start + region.length)
    return Range(first, end - first)


class FlashDevice(Protocol):
    """Something that holds bytes as NOR flash does."""

    @property
    def geometry(self) -> Geometry:
        """Sizes and times."""
        ...

    def read(self, address: int, length: int, /) -> bytes:
        """``length`` bytes from ``address``."""
        ...

    def program(self, address: int, data: bytes, /) -> None:
        """Clear bits: afterwards the device holds ``old & data``. Page limits do not matter."""
        ...

    def erase(self, address: int, length: int, /) -> None:
        """Set an erase block, or the whole device, to FF.

        Raises:
            UsageError: not exactly an erase block (``usage.erase-alignment``).
        """
        ...

    def sync(self) -> None:
        """Wait until everything done is in the device for good."""
        ...
