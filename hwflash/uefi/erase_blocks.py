"""Blocks of a volume and erase blocks of the flash: what can be rewritten, and what only grows.

A fault-tolerant write counts in blocks of the volume. The chip erases in blocks of its own,
which may be smaller (AAVMF: one block of 256 KiB for all variables) or larger (a chip that only
erases 64 KiB). Its promise holds only while variables, work space and spare area never share an
erase block, and while the block with the volume header is never erased.

Ref: edk2 MdeModulePkg/Universal/FaultTolerantWriteDxe/FtwMisc.c, FindFvbForFtw (alignment of
work space and spare area) and InitFtwProtocol (the working block).
"""

from __future__ import annotations

from dataclasses import dataclass

from hwflash.errors import ImageError
from hwflash.uefi.nvram import Nvram
from hwflash.units import Range, format_size


@dataclass(frozen=True, slots=True)
class Geometry:
    """A volume, as a fault-tolerant write sees it. All addresses are image offsets.

    Attributes:
        base: the volume's first byte.
        block: bytes of a block of the volume.
        erase: bytes of an erase block of the flash.
        variables: volume header and variable store, in whole blocks of the volume.
        work: the work space.
        work_block: what is erased to renew the work space. The work space itself, or, where
            it is smaller than a block, all the blocks before it that the spare has room for.
        spare: the spare area.
    """

    base: int
    block: int
    erase: int
    variables: Range
    work: Range
    work_block: Range
    spare: Range

    @property
    def work_in_spare(self) -> int:
        """Where the copy of the work space lies while the working block is in the spare."""
        return self.spare.address + self.work.address - self.work_block.address

    @property
    def shared(self) -> bool:
        """Whether the working block holds variables as well."""
        return self.work_block.address < self.variables.end

    def lba(self, address: int) -> int:
        """The block of the volume that an address lies in."""
        return (address - self.base) // self.block


@dataclass(frozen=True, slots=True)
class EraseLimits:
    """What can be done to a variable store on this flash.

    Attributes:
        in_place: variables can be added and deleted by clearing bits.
        suffix: the store can be rewritten without erasing its first block.
        edk2: the store can be rewritten as the firmware does it.
        code: code of the error that a rewrite would raise; empty when there is none.
        text: sentences for people.
    """

    in_place: bool
    suffix: bool
    edk2: bool
    code: str
    text: tuple[str, ...]


def geometry(nvram: Nvram) -> Geometry:
    """Blocks and areas of a volume, checked against the flash.

    Raises:
        ImageError: a block size that cannot be (``uefi.block-size``), areas that are not
            made of whole blocks (``uefi.block-areas``) or share an erase block
            (``uefi.erase-block``), no work space (``ftw.no-work-space``) or spare area
            (``ftw.no-spare``).
    """
    block = _block_size(nvram)
    work, spare = _work(nvram), nvram.spare
    base, erase = nvram.base, nvram.flash.erase_size
    store = nvram.found.store
    end = nvram.areas.variables.end
    if store is not None and store.base + store.size <= end:
        # A larger size is that of a header that was only half written.
        end = store.base + store.size
    variables = Range(base, -(-(end - base) // block) * block)
    if not end <= min(work.address, spare.address):
        _bad_areas(nvram, f"the variable store ends at 0x{end:06X}, behind the start of the rest")
    if variables.end > spare.address:
        _bad_areas(nvram, f"variables and spare area share the block at 0x{spare.address:06X}")
    if (spare.address - base) % block or spare.length % block or not spare.length:
        _bad_areas(nvram, f"the spare area {spare} is not made of blocks of 0x{block:X} bytes")
    work_block = _working_block(nvram, block, work, spare)
    found = Geometry(base, block, erase, variables, work, work_block, spare)
    if nvram.flash.end < max(variables.end, work_block.end, spare.end):
        _bad_areas(nvram, f"the image ends at 0x{nvram.flash.end:06X}, before the areas do")
    _check_erase_blocks(nvram, found)
    return found


def erase_limits(nvram: Nvram) -> EraseLimits:
    """What is possible on this flash, in words; never raises."""
    grow = "Variables can be added, changed and deleted in place, which erases nothing."
    try:
        found = geometry(nvram)
    except ImageError as error:
        text = f"The store cannot be rewritten: {error.message}."
        return EraseLimits(True, False, False, error.code, (grow, text))
    for fault in nvram.found.volume_faults:
        text = f"The store cannot be rewritten: {fault.text}."
        return EraseLimits(True, False, False, "uefi.volume-damaged", (grow, text))
    first = found.base + found.erase
    sizes = (
        f"The volume counts in blocks of {format_size(found.block)}, the flash erases "
        f"{format_size(found.erase)} at a time."
    )
    whole_fits = found.variables.length <= found.spare.length
    rest = found.variables.end - found.base - found.lba(first) * found.block
    if rest > found.spare.length:
        text = f"The spare area {found.spare} is too small for a copy of the store."
        return EraseLimits(True, False, False, "ftw.spare-small", (sizes, grow, text))
    if found.shared:
        whole = found.work_block.address == found.base and found.variables.end >= found.work.end
        how = (
            "so a rewrite must erase the block with the volume header, as the firmware does"
            if whole
            else "but not all of them, so the store cannot be rewritten"
        )
        text = f"The work space shares the blocks {found.work_block} with variables, {how}."
        return EraseLimits(True, False, whole, "ftw.work-space-shared", (sizes, grow, text))
    if first >= found.variables.end:
        text = (
            f"All variables lie in one erase block of {format_size(found.erase)} with the volume "
            "header, so a rewrite must erase it, as the firmware does."
        )
        return EraseLimits(True, False, whole_fits, "uefi.erase-block", (sizes, grow, text))
    text = (
        f"The store can be rewritten from 0x{first:06X} to 0x{found.variables.end:06X}; the "
        f"first {format_size(first - found.base)}, with the volume header, are never erased."
    )
    return EraseLimits(True, True, whole_fits, "", (sizes, grow, text))


def _block_size(nvram: Nvram) -> int:
    """The block size, when a volume can have it."""
    block, volume = nvram.block_size, nvram.found.volume
    believed = volume is not None and volume.is_nv and volume.checksum_ok
    # Of a known build the size is known, whatever its block map says.
    if volume is not None and believed and nvram.areas.known is None:
        block = volume.block_size or 0
    length = nvram.flash.end - nvram.base
    if block < 0x100 or block & (block - 1) or block > length:
        raise ImageError(
            f"the volume at 0x{nvram.base:06X} has blocks of {block:,} bytes; "
            f"it has 0x{length:X} bytes in all",
            code="uefi.block-size",
            offset=nvram.base,
            block_size=block,
        )
    return block


def _work(nvram: Nvram) -> Range:
    work = nvram.areas.work
    if work is None:
        raise ImageError(
            f"the volume at 0x{nvram.base:06X} has no FTW work space",
            code="ftw.no-work-space",
            offset=nvram.base,
        )
    return work


def _working_block(nvram: Nvram, block: int, work: Range, spare: Range) -> Range:
    """Ref: edk2 InitFtwProtocol, NumberOfWorkBlock and FtwWorkBlockLba."""
    base = nvram.base
    at = (work.address - base) % block
    if work.length >= block:
        if at or work.length % block:
            _bad_areas(nvram, f"the work space {work} is not made of blocks of 0x{block:X} bytes")
        result = work
    else:
        if at + work.length > block:
            _bad_areas(nvram, f"the work space {work} lies across a block of 0x{block:X} bytes")
        end = work.address - at + block
        length = min(end - base, spare.length)
        result = Range(end - length, length)
    if result.length > spare.length:
        _bad_areas(nvram, f"the work space {work} is larger than the spare area {spare}")
    if result.end > spare.address and spare.end > result.address:
        _bad_areas(nvram, f"the work space {work} and the spare area {spare} share a block")
    return result


def _check_erase_blocks(nvram: Nvram, found: Geometry) -> None:
    erase, origin = found.erase, nvram.flash.origin
    parts = (("variables", found.variables), ("work", found.work_block), ("spare", found.spare))
    for name, part in parts:
        for edge in (part.address, part.end):
            if (edge - origin) % erase:
                whole = {"variables": "variable area", "work": "work space", "spare": "spare area"}
                raise ImageError(
                    f"the {whole[name]} {part} is not made of whole erase blocks: the flash "
                    f"erases 0x{erase:X} bytes at a time, and 0x{edge:06X} is inside of a block",
                    code="uefi.erase-block",
                    offset=edge,
                    erase_size=erase,
                    block_size=found.block,
                )


def _bad_areas(nvram: Nvram, text: str) -> None:
    raise ImageError(text, code="uefi.block-areas", offset=nvram.base)
