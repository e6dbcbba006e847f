"""Headers of a variable store with one field destroyed, as ready scenarios.

The eleven fields are those that microsoft/mu_basecore asks to be tested in issue 1090 ("Verify
FTW Test Results"): seven of the volume header, four of the variable store header behind it.

A field of the volume header is under the header's checksum, so that a firmware which adds up the
header sees the damage of any of them, and its own check of the field is never tried. Each but the
checksum itself therefore comes a second time, *sealed*: with the checksum that fits the damage.

Ref: edk2 MdePkg/Include/Pi/PiFirmwareVolume.h (EFI_FIRMWARE_VOLUME_HEADER),
MdeModulePkg/Include/Guid/VariableFormat.h (VARIABLE_STORE_HEADER).

Limits: the block map has one run and its end, as every NV volume seen has it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from hwflash.errors import ImageError
from hwflash.uefi.find import Found
from hwflash.uefi.layouts import BLOCK_MAP_ENTRY, STORE_HEADER, VOLUME_HEADER
from hwflash.uefi.volume import parse_volume
from hwflash.uefi.window import Window
from hwflash.units import Range

Pattern = Literal["inverted", "erased", "cleared"]


@dataclass(frozen=True, slots=True)
class Corruption:
    """One field of a header, destroyed.

    Attributes:
        name: short and stable, such as ``volume-guid``.
        text: what is destroyed, in words.
        header: which header it is in.
        field: as the specification calls it.
        offset: bytes from the start of that header.
        size: bytes of the field.
        sealed: the volume header's checksum is made right again.
    """

    name: str
    text: str
    header: Literal["volume", "store"]
    field: str
    offset: int
    size: int
    sealed: bool = False

    def place(self, found: Found) -> Range:
        """Where the field is in the image.

        Raises:
            ImageError: the store has no volume header, or no header of its own
                (``uefi.no-store``).
        """
        volume, store = found.volume, found.store
        if volume is None or store is None:
            raise ImageError(
                f"the variable store at 0x{found.base:06X} lacks a header already",
                code="uefi.no-store",
                offset=found.base,
            )
        base = volume.base if self.header == "volume" else store.base
        return Range(base + self.offset, self.size)

    def of(self, found: Found, pattern: Pattern = "inverted") -> bytes:
        """The image with the field destroyed; all of `Found.window`.

        Args:
            found: a store, as `hwflash.uefi.find` returns it.
            pattern: ``inverted`` turns every bit of the field; ``erased`` leaves FF there, as a
                torn program or erase does; ``cleared`` 00. The last two can be what was there.

        Raises:
            ImageError: see `place`.
        """
        window, place = found.window, self.place(found)
        at = place.address - window.base
        old = window.data[at : at + place.length]
        new = {
            "inverted": bytes(byte ^ 0xFF for byte in old),
            "erased": b"\xff" * len(old),
            "cleared": bytes(len(old)),
        }[pattern]
        image = window.data[:at] + new + window.data[at + len(new) :]
        return _sealed(Window(image, window.base), found.base) if self.sealed else image


def _sealed(window: Window, base: int) -> bytes:
    """An image with the checksum that the volume header at ``base`` needs."""
    head = parse_volume(window, base).with_checksum().build()
    at = base - window.base
    return window.data[:at] + head + window.data[at + len(head) :]


def _volume(name: str, text: str, spec: str, field: str) -> Corruption:
    return Corruption(f"volume-{name}", text, "volume", spec, *VOLUME_HEADER.place(field))


def _block_map(index: int, text: str) -> Corruption:
    size = BLOCK_MAP_ENTRY.size
    at = VOLUME_HEADER.size + index * size
    return Corruption(f"block-map-{index}", text, "volume", f"BlockMap[{index}]", at, size)


def _store(name: str, text: str) -> Corruption:
    spec = name.capitalize()
    return Corruption(f"store-{name}", text, "store", spec, *STORE_HEADER.place(name))


#: The eleven, in the order of the issue, which is that of the headers.
ELEVEN: Final[tuple[Corruption, ...]] = (
    _volume("zero-vector", "the volume's zero vector", "ZeroVector", "zero_vector"),
    _volume("guid", "the volume's file system GUID", "FileSystemGuid", "file_system"),
    _volume("length", "the volume's length", "FvLength", "length"),
    _volume("signature", "the volume's signature", "Signature", "signature"),
    _volume("checksum", "the volume header's checksum", "Checksum", "checksum"),
    _block_map(0, "the block map's run: count and size of the blocks"),
    _block_map(1, "the end of the block map"),
    _store("signature", "the store's signature GUID"),
    _store("size", "the store's size"),
    _store("format", "the store's format"),
    _store("state", "the store's state of health"),
)

#: The same under a right checksum: what a check of the sum cannot see.
SEALED: Final[tuple[Corruption, ...]] = tuple(
    replace(item, name=f"{item.name}-sealed", text=f"{item.text}, with the right checksum",
            sealed=True)
    for item in ELEVEN
    if item.header == "volume" and item.field != "Checksum"
)  # fmt: skip
