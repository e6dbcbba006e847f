"""The firmware volumes of an image, with their addresses in the machine's memory.

A volume is found by the signature in its header. The four bytes also occur in code that compares
with them, so a header must besides be plausible: a right checksum, or a file system that is
known. Volumes inside others, and inside compressed sections, are not listed.

Ref: edk2 MdePkg/Include/Pi/PiFirmwareVolume.h (headers), OvmfPkg/OvmfPkgX64.fdf (FvNameGuid).
Limits: 2048 signatures an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hwflash.uefi.guids import NV_VOLUME, from_bytes
from hwflash.uefi.layouts import VOLUME_HEADER
from hwflash.uefi.volume import REVISION, SIGNATURE, FirmwareVolume, parse_volume
from hwflash.uefi.window import Anomaly, Window
from hwflash.units import Range

FFS2: Final = UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3")
FFS3: Final = UUID("5473c07a-3dcb-4dca-bd6f-1e9689e7349a")
#: Names of volumes, from their extended header.
NAMES: Final = {
    UUID("48db5e17-707c-472d-91cd-1613e7ef51b0"): "FVMAIN_COMPACT",
    UUID("763bed0d-de9f-48f5-81f1-3e90e1b1a015"): "SECFV",
    UUID("6938079b-b503-4e3d-9d24-b28337a25806"): "PEIFV",
}
HIT_LIMIT: Final = 2048
#: A header claims no more in any image seen.
_HEADER_LIMIT: Final = 0x1000


@dataclass(frozen=True, slots=True)
class Volume:
    """A firmware volume in an image.

    Attributes:
        header: as it is.
        name: of the volume, from its extended header; None when it has none.
        room: bytes from its start to the end of the image.
    """

    header: FirmwareVolume
    name: UUID | None
    room: int

    @property
    def range(self) -> Range:
        """Where it lies in the image; clipped where it claims more than there is."""
        return Range(self.header.base, min(self.header.length, self.room))

    @property
    def label(self) -> str:
        """What it is called: its name, or by its file system."""
        if self.name is not None:
            return NAMES.get(self.name, str(self.name))
        return "NV data" if self.header.file_system == NV_VOLUME else "volume"

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """What is wrong with the header."""
        header, found = self.header, list[Anomaly]()
        if not header.checksum_ok:
            text = (
                f"the volume header's checksum is 0x{header.checksum:04X}, "
                f"its content needs 0x{header.computed_checksum:04X}"
            )
            found.append(Anomaly("volume.checksum", header.base + 50, text, "error"))
        if header.length > self.room:
            text = f"the volume claims 0x{header.length:X} bytes, the image has 0x{self.room:X}"
            found.append(Anomaly("volume.length", header.base + 32, text, "error"))
        if header.revision != REVISION:
            text = f"the volume header's revision is {header.revision}, not {REVISION}"
            found.append(Anomaly("volume.revision", header.base + 55, text, "warning"))
        return tuple(found)


def list_volumes(image: bytes | Window) -> tuple[Volume, ...]:
    """The firmware volumes of an image, in order of offsets, without those inside others."""
    window = image if isinstance(image, Window) else Window(image)
    found: list[Volume] = []
    reached = window.base
    for offset in _hits(window):
        if offset < reached:
            continue
        header = parse_volume(window, offset)
        room = window.end - offset
        if not _plausible(header, room):
            continue
        volume = Volume(header, _name(window, header), room)
        found.append(volume)
        reached = volume.range.end
    return tuple(found)


def _hits(window: Window) -> Iterator[int]:
    data = window.data
    at = data.find(SIGNATURE)
    for _ in range(HIT_LIMIT):
        if at < 0:
            return
        start = at - 40
        if start >= 0 and start + VOLUME_HEADER.size <= len(data):
            yield window.base + start
        at = data.find(SIGNATURE, at + 1)


def _plausible(header: FirmwareVolume, room: int) -> bool:
    if not VOLUME_HEADER.size < header.header_length <= min(_HEADER_LIMIT, room):
        return False
    if header.length < header.header_length or header.header_length % 2:
        return False
    # A damaged header counts only where its other half says what it is.
    known = header.file_system in (NV_VOLUME, FFS2, FFS3)
    return known or (header.checksum_ok and header.length <= room)


def _name(window: Window, header: FirmwareVolume) -> UUID | None:
    at = header.ext_header_offset
    if at < header.header_length or at + 20 > header.length:
        return None
    raw = window.at(header.base + at, 16)
    return from_bytes(raw) if len(raw) == 16 else None
