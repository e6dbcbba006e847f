"""The firmware volume block services on a flash: what FTW and variable drivers stand on.

Blocks are those of the volume's block map, addressed by LBA from the volume's start. A write
clears bits and never erases; a read or write ends where its block ends.

Ref: edk2 MdePkg/Include/Protocol/FirmwareVolumeBlock.h, MdePkg/Include/Pi/PiFirmwareVolume.h
(attribute bits), OvmfPkg/QemuFlashFvbServicesRuntimeDxe/FwBlockService.c (rules of
SetAttributes, the check of all ranges before an erase). OVMF's own reads and writes do not stop
at the end of a block; here they do, as the protocol says.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

from hwflash.errors import ImageError
from hwflash.uefi.areas import known_layout
from hwflash.uefi.flashops import Flash
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.units import Range, format_size, merge_ranges

FOUR_GIB: Final = 1 << 32
#: Where QEMU's aarch64 "virt" machine maps its second flash, which holds the variables.
AAVMF_UNIT_1: Final = 0x0400_0000
#: Where the OVMF 4M build lies; a VARS file alone does not say it, its length does.
OVMF_4M_BASE: Final = 0xFFC0_0000


class FvbAttribute(IntFlag):
    """EFI_FVB_ATTRIBUTES_2 without the alignment, which is a number in bits 16 to 20."""

    READ_DISABLED_CAP = 0x0001
    READ_ENABLED_CAP = 0x0002
    READ_STATUS = 0x0004
    WRITE_DISABLED_CAP = 0x0008
    WRITE_ENABLED_CAP = 0x0010
    WRITE_STATUS = 0x0020
    LOCK_CAP = 0x0040
    LOCK_STATUS = 0x0080
    STICKY_WRITE = 0x0200
    MEMORY_MAPPED = 0x0400
    ERASE_POLARITY = 0x0800
    READ_LOCK_CAP = 0x1000
    READ_LOCK_STATUS = 0x2000
    WRITE_LOCK_CAP = 0x4000
    WRITE_LOCK_STATUS = 0x8000


#: The attributes in the volume headers that OVMF's build makes.
OVMF_ATTRIBUTES: Final = 0x4FEFF
_STATUS: Final = int(
    FvbAttribute.READ_STATUS | FvbAttribute.WRITE_STATUS | FvbAttribute.LOCK_STATUS
)
_LOCKS: Final = int(FvbAttribute.READ_LOCK_STATUS | FvbAttribute.WRITE_LOCK_STATUS)
_ALIGNMENT: Final = 0x1F0000
#: What nobody may change: every defined bit that is no status.
_FIXED: Final = (sum(int(bit) for bit in FvbAttribute) | _ALIGNMENT) & ~(_STATUS | _LOCKS)
#: A status, whether it is being set or cleared, and the capability that takes.
_CAPABILITIES: Final = (
    (FvbAttribute.READ_STATUS, False, FvbAttribute.READ_DISABLED_CAP),
    (FvbAttribute.READ_STATUS, True, FvbAttribute.READ_ENABLED_CAP),
    (FvbAttribute.WRITE_STATUS, False, FvbAttribute.WRITE_DISABLED_CAP),
    (FvbAttribute.WRITE_STATUS, True, FvbAttribute.WRITE_ENABLED_CAP),
    (FvbAttribute.LOCK_STATUS, True, FvbAttribute.LOCK_CAP),
)


class ShortTransfer(EfiError):
    """EFI_BAD_BUFFER_SIZE: a read or write ended at the end of its block.

    Attributes:
        count: bytes that were read or written.
        data: the bytes that were read; empty after a write.
    """

    def __init__(self, message: str, count: int, data: bytes = b"", /, **context: object) -> None:
        super().__init__(EfiStatus.BAD_BUFFER_SIZE, message, count=count, **context)
        self.count = count
        self.data = data


class FirmwareVolumeBlock:
    """The six services on the blocks of one volume.

    Args:
        flash: what holds the volume.
        volume: where it lies in the flash.
        block_size: bytes of a block of the volume.
        attributes: EFI_FVB_ATTRIBUTES_2, usually those of the volume header.
        physical_base: address of the volume in the processor's memory; None when it is not
            known (`physical_base` knows some).
        erase_size: bytes of the smallest erase block of the flash; by default what the flash
            says, else the volume's block size. Blocks are counted from address 0, or from
            where the flash says (`ShadowFlash.origin`).

    Raises:
        ImageError: the volume is not a whole number of blocks (``fvb.blocks``).
    """

    def __init__(
        self,
        flash: Flash,
        volume: Range,
        block_size: int,
        *,
        attributes: int = OVMF_ATTRIBUTES,
        physical_base: int | None = None,
        erase_size: int | None = None,
    ) -> None:
        if block_size <= 0 or volume.length <= 0 or volume.length % block_size:
            raise ImageError(
                f"the volume at 0x{volume.address:06X} with 0x{volume.length:X} bytes is not a "
                f"whole number of blocks of 0x{block_size:X}",
                code="fvb.blocks",
                offset=volume.address,
                length=volume.length,
                block_size=block_size,
            )
        self.flash = flash
        self.volume = volume
        self.block_size = block_size
        self.physical_base = physical_base
        own = getattr(flash, "erase_size", None) if erase_size is None else erase_size
        self.erase_size: int = own if isinstance(own, int) and own > 0 else block_size
        origin = getattr(flash, "origin", 0)
        self.origin: int = origin if isinstance(origin, int) else 0
        self._attributes = attributes

    @property
    def blocks(self) -> int:
        """Blocks of the volume."""
        return self.volume.length // self.block_size

    def get_attributes(self) -> int:
        """EFI_FVB_ATTRIBUTES_2 as they are now."""
        return self._attributes

    def set_attributes(self, attributes: int) -> int:
        """Change the read, write and lock status; returns the new attributes.

        The lock states of reading and writing are not changed by this, as in OVMF.

        Raises:
            EfiError: a capability or another fixed bit differs, or the volume is not capable
                of this status (``efi.invalid-parameter``); the volume is locked
                (``efi.access-denied``).
        """
        old = self._attributes
        if (old ^ attributes) & _FIXED:
            raise EfiError(
                EfiStatus.INVALID_PARAMETER,
                f"attributes 0x{attributes:08X} change more than the status bits of 0x{old:08X}",
                attributes=attributes,
                current=old,
            )
        if old & FvbAttribute.LOCK_STATUS and (old ^ attributes) & _STATUS:
            raise EfiError(
                EfiStatus.ACCESS_DENIED,
                f"the volume at 0x{self.volume.address:06X} is locked: its attributes stay "
                f"0x{old:08X}",
                attributes=attributes,
                current=old,
            )
        for status, value, capability in _CAPABILITIES:
            if bool(attributes & status) is value and not old & capability:
                raise EfiError(
                    EfiStatus.INVALID_PARAMETER,
                    f"attributes 0x{attributes:08X} need {capability.name}, which the volume at "
                    f"0x{self.volume.address:06X} does not have",
                    attributes=attributes,
                    current=old,
                )
        self._attributes = (old & ~_STATUS) | (attributes & _STATUS)
        return self._attributes

    def get_physical_address(self) -> int:
        """Address of the volume in the processor's memory.

        Raises:
            EfiError: it is not memory mapped, or the address is not known
                (``efi.unsupported``).
        """
        if self.physical_base is None or not self._attributes & FvbAttribute.MEMORY_MAPPED:
            raise EfiError(
                EfiStatus.UNSUPPORTED,
                f"the volume at 0x{self.volume.address:06X} has no known address in memory",
                offset=self.volume.address,
            )
        return self.physical_base

    def get_block_size(self, lba: int) -> tuple[int, int]:
        """Bytes of a block, and how many blocks of this size begin with it.

        Raises:
            EfiError: there is no such block (``efi.invalid-parameter``).
        """
        self._address(lba, 0)
        return self.block_size, self.blocks - lba

    def read(self, lba: int, offset: int, length: int) -> bytes:
        """Bytes from one block.

        Raises:
            EfiError: reading is disabled (``efi.access-denied``); no such block, or the offset
                is behind it (``efi.invalid-parameter``).
            ShortTransfer: the block ends before; the error has what was read.
        """
        self._enabled(FvbAttribute.READ_STATUS)
        address = self._address(lba, offset, length)
        count = min(length, self.block_size - offset)
        data = self.flash.read(address, count) if count else b""
        if count < length:
            raise ShortTransfer(self._short("read", lba, length, count), count, data, lba=lba)
        return data

    def write(self, lba: int, offset: int, data: bytes) -> int:
        """Clear bits in one block; returns the bytes written.

        Raises:
            EfiError: writing is disabled (``efi.access-denied``); no such block, or the offset
                is behind it (``efi.invalid-parameter``).
            ShortTransfer: the block ends before; the bytes up to its end were written.
        """
        self._enabled(FvbAttribute.WRITE_STATUS)
        address = self._address(lba, offset)
        count = min(len(data), self.block_size - offset)
        if count:
            self.flash.program(address, data[:count])
        if count < len(data):
            raise ShortTransfer(self._short("write", lba, len(data), count), count, lba=lba)
        return count

    def erase_blocks(self, *ranges: tuple[int, int]) -> None:
        """Erase ranges of blocks; all are checked before one is erased.

        Args:
            ranges: first block and number of blocks, each.

        Raises:
            EfiError: writing is disabled (``efi.access-denied``); no such block, or a range of
                none (``efi.invalid-parameter``).
            ImageError: the flash cannot erase these blocks alone (``fvb.erase-block``).
        """
        self._enabled(FvbAttribute.WRITE_STATUS)
        wanted = [self._blocks(lba, count) for lba, count in ranges]
        for item in merge_ranges(wanted):
            edges = (item.address - self.origin, item.end - self.origin)
            if any(edge % self.erase_size for edge in edges):
                raise ImageError(
                    f"{item} cannot be erased alone: the flash erases "
                    f"{format_size(self.erase_size)} at once, a block of the volume has "
                    f"{format_size(self.block_size)}",
                    code="fvb.erase-block",
                    offset=item.address,
                    length=item.length,
                    erase_size=self.erase_size,
                    block_size=self.block_size,
                )
        # Blocks that are larger than erase blocks keep the caller's order.
        alone = self.block_size % self.erase_size == 0
        done: set[int] = set()
        for item in wanted if alone else merge_ranges(wanted):
            for address in range(item.address, item.end, self.erase_size):
                if address not in done:
                    done.add(address)
                    self.flash.erase(address, self.erase_size)

    def _blocks(self, lba: int, count: int) -> Range:
        if count <= 0 or lba < 0 or lba + count > self.blocks:
            raise EfiError(
                EfiStatus.INVALID_PARAMETER,
                f"{count} blocks from block {lba} on are not in the volume at "
                f"0x{self.volume.address:06X}, which has {self.blocks}",
                lba=lba,
                count=count,
                blocks=self.blocks,
            )
        return Range(self.volume.address + lba * self.block_size, count * self.block_size)

    def _address(self, lba: int, offset: int, length: int = 0) -> int:
        if not 0 <= lba < self.blocks or not 0 <= offset <= self.block_size or length < 0:
            raise EfiError(
                EfiStatus.INVALID_PARAMETER,
                f"block {lba}, byte {offset} is not in the volume at "
                f"0x{self.volume.address:06X}, which has {self.blocks} blocks of "
                f"0x{self.block_size:X} bytes",
                lba=lba,
                offset=offset,
                blocks=self.blocks,
            )
        return self.volume.address + lba * self.block_size + offset

    def _enabled(self, status: FvbAttribute) -> None:
        if not self._attributes & status:
            verb = "reading from" if status == FvbAttribute.READ_STATUS else "writing to"
            raise EfiError(
                EfiStatus.ACCESS_DENIED,
                f"{verb} the volume at 0x{self.volume.address:06X} is disabled "
                f"(attributes 0x{self._attributes:08X})",
                attributes=self._attributes,
            )

    def _short(self, verb: str, lba: int, length: int, count: int) -> str:
        end = self.volume.address + (lba + 1) * self.block_size
        return f"a {verb} of {length} bytes ended after {count}: block {lba} ends at 0x{end:06X}"


def physical_base(volume: Range, image_size: int, code_size: int | None = None) -> int | None:
    """Where a volume of a known build lies in the processor's memory.

    On x86 flash ends at 4 GiB: a unified image by itself, a file of variables right below the
    file of code. The 1M and the 2M build of OVMF have the same file of variables, so that one
    alone has no known address.

    Args:
        volume: where the volume lies in the image.
        image_size: bytes of the image, or of the flash.
        code_size: bytes of the file of code that goes with a file of variables.

    Returns:
        The address of the volume, or None when it cannot be known.
    """
    known = known_layout(volume.length)
    if known is not None and known.name == "AAVMF":
        return AAVMF_UNIT_1 + volume.address
    if code_size is not None:
        start = FOUR_GIB - code_size - image_size
    elif image_size > volume.length:
        start = FOUR_GIB - image_size
    elif known is not None and known.name == "OVMF 4M":
        start = OVMF_4M_BASE
    else:
        return None
    return start + volume.address if start >= 0 else None
