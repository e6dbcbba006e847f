"""An image file as a flash device."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from hwflash.chip import opcodes
from hwflash.chip.model import Duration, EraseRegion, EraseType
from hwflash.errors import EnvironmentFault, ImageError, UsageError
from hwflash.flash.device import Geometry
from hwflash.units import Range

#: Erase block of an image file: that of OVMF's variable store and of QEMU's pflash as the PC
#: board sets it up (QEMU hw/i386/pc_sysfw.c: sector size 4096).
SECTOR: Final = 4096


class ImageFlash:
    """`hwflash.flash.device.FlashDevice` on a raw image file, changed in place.

    Programming only clears bits, as on a chip: content prepared on an image can be carried
    out on the chip in the same steps.

    Args:
        path: the file.
        writable: open it for change.

    Raises:
        ImageError: it cannot be opened, is empty, or is no multiple of 4 KiB.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        try:
            self._file = path.open("r+b" if writable else "rb")
        except OSError as exc:
            raise ImageError(
                f"{path} cannot be opened: {exc.strerror}", code="image.unreadable", path=str(path)
            ) from exc
        size = os.fstat(self._file.fileno()).st_size
        if size == 0 or size % SECTOR:
            self._file.close()
            raise ImageError(
                f"{path} has {size} bytes, which is not a multiple of {SECTOR}",
                code="image.size",
                path=str(path),
                size=size,
            )
        instant = Duration(0.0, 0.0)
        kind = EraseType(SECTOR, opcodes.SECTOR_ERASE_4K, instant)
        self._geometry = Geometry(
            size=size,
            page_size=256,
            regions=(EraseRegion(0, size, (kind,)),),
            page_program=instant,
        )

    @property
    def geometry(self) -> Geometry:
        """4 KiB erase blocks, no times."""
        return self._geometry

    def read(self, address: int, length: int, /) -> bytes:
        """``length`` bytes from ``address``."""
        self._check(address, length)
        self._file.seek(address)
        data = self._file.read(length)
        if len(data) != length:
            raise ImageError(
                f"{self.path} became shorter while it was in use",
                code="image.changed",
                path=str(self.path),
            )
        return data

    def program(self, address: int, data: bytes, /) -> None:
        """Clear bits."""
        old = int.from_bytes(self.read(address, len(data)), "big")
        new = (old & int.from_bytes(data, "big")).to_bytes(len(data), "big")
        self._write(address, new)

    def erase(self, address: int, length: int, /) -> None:
        """Set one 4 KiB block, or the whole image, to FF."""
        target = Range(address, length)
        whole = target == Range(0, self._geometry.size)
        if not whole and self._geometry.block_for(target) is None:
            raise UsageError(
                f"0x{address:06X}+{length} is not an erase block of {self.path}",
                code="usage.erase-alignment",
                address=address,
                length=length,
            )
        self._write(address, b"\xff" * length)

    def sync(self) -> None:
        """Bring everything to the disk."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, address: int, data: bytes) -> None:
        try:
            self._file.seek(address)
            self._file.write(data)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> EnvironmentFault:
        return EnvironmentFault(
            f"{self.path} cannot be written: {exc.strerror or exc}",
            code="image.unwritable",
            path=str(self.path),
        )

    def _check(self, address: int, length: int) -> None:
        if address < 0 or length < 0 or address + length > self._geometry.size:
            raise UsageError(
                f"0x{address:06X}+{length} is outside the image of {self._geometry.size} bytes",
                code="usage.address",
                address=address,
                length=length,
                size=self._geometry.size,
            )
