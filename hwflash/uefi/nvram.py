"""A variable store that is being changed: volume, work space and spare area in memory.

All write paths, `services`, `ftw_write`, `rewrite`, `recover` and `rescue`, work on an `Nvram`.
What they do is recorded by its flash; nothing reaches a chip or a file from here.
"""

from __future__ import annotations

from typing import Final

from hwflash.errors import ImageError
from hwflash.uefi.areas import Areas
from hwflash.uefi.find import Found, read_again
from hwflash.uefi.flashops import Operation, ShadowFlash
from hwflash.uefi.ftw import WorkSpace
from hwflash.uefi.store import VariableStore
from hwflash.uefi.window import Window
from hwflash.units import Range

#: Block size of a volume whose header is gone: that of every OVMF build.
USUAL_BLOCK: Final = 0x1000


class Nvram:
    """A variable store with its volume, in memory.

    Args:
        window: what was read of the image; holds the whole volume.
        found: the store in it.
        erase_size: bytes of the smallest erase block of the flash that holds it.
        origin: address from which erase blocks are counted.
    """

    def __init__(
        self, window: Window, found: Found, erase_size: int = 0x1000, origin: int = 0
    ) -> None:
        self.flash = ShadowFlash(window, erase_size, origin)
        self._found = found
        self._seen = 0

    @property
    def found(self) -> Found:
        """The store as it is now."""
        done = len(self.flash.operations)
        if done != self._seen:
            self._found = read_again(self.flash.window(), self._found)
            self._seen = done
        return self._found

    @property
    def operations(self) -> list[Operation]:
        """What has been done so far, in order."""
        return self.flash.operations

    @property
    def areas(self) -> Areas:
        """Where the parts lie."""
        return self._found.areas

    @property
    def base(self) -> int:
        """Address of the volume."""
        return self._found.base

    @property
    def block_size(self) -> int:
        """Bytes of a block of the volume, in which the firmware counts and erases."""
        found = self._found
        known = found.areas.known
        if known and known.block:
            return known.block
        for volume in (found.volume, found.ftw.spare_volume):
            # A header that was only half written has any block map.
            if volume is None or not (volume.is_nv and volume.checksum_ok and volume.block_size):
                continue
            if not known or known.spare.length % volume.block_size == 0:
                return volume.block_size
        return known.spare.length if known else USUAL_BLOCK

    @property
    def store(self) -> VariableStore:
        """The variable store.

        Raises:
            ImageError: its header is not there (``uefi.no-store``).
        """
        store = self.found.store
        if store is None:
            raise ImageError(
                f"the volume at 0x{self.base:06X} has no variable store header",
                code="uefi.no-store",
                offset=self.base,
            )
        return store

    @property
    def work_space(self) -> WorkSpace:
        """The FTW work space, valid or not.

        Raises:
            ImageError: there is none (``ftw.no-work-space``).
        """
        space = self.found.ftw.work_space
        if space is None:
            raise ImageError(
                f"the volume at 0x{self.base:06X} has no FTW work space",
                code="ftw.no-work-space",
                offset=self.base,
            )
        return space

    @property
    def spare(self) -> Range:
        """The FTW spare area.

        Raises:
            ImageError: there is none (``ftw.no-spare``).
        """
        if self.areas.spare is None:
            raise ImageError(
                f"the volume at 0x{self.base:06X} has no FTW spare area",
                code="ftw.no-spare",
                offset=self.base,
            )
        return self.areas.spare
