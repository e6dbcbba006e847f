"""Load options: Boot####, Driver####, SysPrep####, PlatformRecovery####.

Ref: UEFI 2.10 §3.1.3: attributes, length of the device paths, description, device paths,
optional data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from hwflash.errors import ImageError
from hwflash.uefi.devicepath import DevicePath, parse_device_path
from hwflash.uefi.layouts import LOAD_OPTION_HEADER
from hwflash.uefi.window import decode_utf16

CATEGORY_MASK: Final = 0x1F00


class LoadFlag(IntFlag):
    """Attributes of a load option."""

    ACTIVE = 0x01
    FORCE_RECONNECT = 0x02
    HIDDEN = 0x08
    CATEGORY_APP = 0x100


@dataclass(frozen=True, slots=True)
class LoadOption:
    """One load option.

    Attributes:
        attributes: `LoadFlag` bits.
        description_bytes: the description as stored, with its terminator.
        paths: the device path list as stored; the first path is what is loaded.
        optional_data: what is handed to the program.
    """

    attributes: int
    description_bytes: bytes
    paths: bytes
    optional_data: bytes = b""

    @property
    def description(self) -> str:
        """What the boot menu shows."""
        return decode_utf16(self.description_bytes)

    @property
    def active(self) -> bool:
        """Whether the boot manager tries it by itself."""
        return bool(self.attributes & LoadFlag.ACTIVE)

    @property
    def flags(self) -> list[str]:
        """Names of the attributes that are set; unknown ones as one hexadecimal number."""
        names = [str(flag.name).lower().replace("_", "-") for flag in LoadFlag
                 if self.attributes & flag]  # fmt: skip
        unknown = self.attributes & ~sum(LoadFlag)
        return names + ([f"0x{unknown:X}"] if unknown else [])

    @property
    def device_path(self) -> DevicePath:
        """The first device path of the list."""
        return parse_device_path(self.paths)

    def build(self) -> bytes:
        """The value of the variable."""
        header = LOAD_OPTION_HEADER.build(
            attributes=self.attributes, file_path_size=len(self.paths)
        )
        return header + self.description_bytes + self.paths + self.optional_data


def parse_load_option(data: bytes, offset: int = 0) -> LoadOption:
    """Read a load option.

    Args:
        data: the value of the variable.
        offset: image offset of the value, for error messages.

    Raises:
        ImageError: it ends too early (``uefi.load-option``).
    """
    start = LOAD_OPTION_HEADER.size
    if len(data) < start:
        raise _cut(offset, "its header", len(data))
    attributes, path_size = LOAD_OPTION_HEADER.unpack(data)
    end = start
    while data[end : end + 2] not in (b"\0\0", b""):
        end += 2
    if len(data) < end + 2:
        raise _cut(offset, "its description", len(data))
    paths_end = end + 2 + path_size
    if len(data) < paths_end:
        raise _cut(offset, "its device paths", len(data))
    return LoadOption(attributes, data[start : end + 2], data[end + 2 : paths_end],
                      data[paths_end:])  # fmt: skip


def _cut(offset: int, part: str, length: int) -> ImageError:
    return ImageError(
        f"a load option of {length} bytes at 0x{offset:06X} ends inside {part}",
        code="uefi.load-option",
        offset=offset,
        length=length,
    )
