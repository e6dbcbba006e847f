"""The firmware volume header in front of a variable store.

Ref: UEFI PI 1.8 volume 3 §3.2.1; edk2 MdePkg/Include/Pi/PiFirmwareVolume.h. The header's
16-bit words add up to zero. Who checks what at boot differs: OVMF's flash driver (edk2
OvmfPkg/QemuFlashFvbServicesRuntimeDxe) checks revision, signature, sum, length and block size,
and erases everything when one of them is wrong; the variable driver looks at signature and
GUID only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Final
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.guids import NV_VOLUME, from_bytes
from hwflash.uefi.layouts import BLOCK_MAP_ENTRY, VOLUME_HEADER
from hwflash.uefi.window import Anomaly, Severity, Window

if TYPE_CHECKING:
    from hwflash.uefi.areas import KnownLayout

SIGNATURE: Final = b"_FVH"
REVISION: Final = 2
#: Header with a block map of one entry and its end, as every NV volume seen has it.
USUAL_HEADER: Final = VOLUME_HEADER.size + 2 * BLOCK_MAP_ENTRY.size
#: A header claims 64 KiB at most; this much of it is kept.
HEADER_LIMIT: Final = 0x1000


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Blocks of one size, in the block map."""

    count: int
    length: int


@dataclass(frozen=True, slots=True)
class FirmwareVolume:
    """A firmware volume header.

    Attributes:
        base: image offset of the volume.
        length: bytes the volume claims (FvLength).
        header_length: bytes the header claims.
        checksum: as stored.
        map_bytes: the header behind its fixed part, as far as it is there: the block map.
    """

    base: int
    zero_vector: bytes
    file_system: UUID
    length: int
    signature: bytes
    attributes: int
    header_length: int
    checksum: int
    ext_header_offset: int
    reserved: int
    revision: int
    map_bytes: bytes

    @property
    def block_map(self) -> tuple[BlockRun, ...]:
        """The runs of blocks, without the {0, 0} that ends the map."""
        return tuple(takewhile(lambda run: run.count or run.length, self._runs()))

    @property
    def block_map_ended(self) -> bool:
        """Whether the block map has its {0, 0}."""
        return any(not (run.count or run.length) for run in self._runs())

    @property
    def block_size(self) -> int | None:
        """Size of the volume's blocks; None when the map has no block or several sizes."""
        sizes = {run.length for run in self.block_map}
        return sizes.pop() or None if len(sizes) == 1 else None

    @property
    def computed_checksum(self) -> int:
        """The checksum that makes the header's words add up to zero."""
        return checksum(replace(self, checksum=0).build())

    @property
    def checksum_ok(self) -> bool:
        """Whether the stored checksum is right."""
        return self.checksum == self.computed_checksum

    @property
    def is_nv(self) -> bool:
        """Whether signature and GUID are those of an NV volume."""
        return self.signature == SIGNATURE and self.file_system == NV_VOLUME

    def with_checksum(self) -> FirmwareVolume:
        """The same header with the right checksum."""
        return replace(self, checksum=self.computed_checksum)

    def build(self) -> bytes:
        """The header's bytes."""
        fixed = VOLUME_HEADER.build(
            zero_vector=self.zero_vector,
            file_system=self.file_system.bytes_le,
            length=self.length,
            signature=self.signature,
            attributes=self.attributes,
            header_length=self.header_length,
            checksum=self.checksum,
            ext_header_offset=self.ext_header_offset,
            reserved=self.reserved,
            revision=self.revision,
        )
        return fixed + self.map_bytes

    def _runs(self) -> Iterable[BlockRun]:
        size = BLOCK_MAP_ENTRY.size
        for offset in range(0, len(self.map_bytes) - size + 1, size):
            yield BlockRun(*BLOCK_MAP_ENTRY.unpack(self.map_bytes, offset))


def checksum(data: bytes) -> int:
    """Two's complement of the sum of 16-bit words; an odd last byte counts as a word."""
    total = sum(data[0::2]) + (sum(data[1::2]) << 8)
    return -total & 0xFFFF


def make_volume(
    length: int, block_size: int, *, base: int = 0, attributes: int = 0x4FEFF
) -> FirmwareVolume:
    """The header of a new NV volume, as OVMF's build makes it.

    Args:
        length: bytes of the volume, a multiple of ``block_size``.
        block_size: bytes of a block.
        base: where it will lie in the image.
        attributes: EFI_FVB_ATTRIBUTES_2; OVMF's by default.
    """
    runs = BLOCK_MAP_ENTRY.build(count=length // block_size, length=block_size)
    return FirmwareVolume(
        base=base,
        zero_vector=bytes(16),
        file_system=NV_VOLUME,
        length=length,
        signature=SIGNATURE,
        attributes=attributes,
        header_length=USUAL_HEADER,
        checksum=0,
        ext_header_offset=0,
        reserved=0,
        revision=REVISION,
        map_bytes=runs + BLOCK_MAP_ENTRY.build(count=0, length=0),
    ).with_checksum()


def parse_volume(window: Window, offset: int) -> FirmwareVolume:
    """Read a header, whatever is wrong with it; `volume_anomalies` says what.

    Raises:
        ImageError: the image ends inside the fixed part of the header (``uefi.truncated``).
    """
    if not window.has(offset, VOLUME_HEADER.size):
        raise ImageError(
            f"a firmware volume header at 0x{offset:06X} needs {VOLUME_HEADER.size} bytes, the "
            f"image ends at 0x{window.end:06X}",
            code="uefi.truncated",
            offset=offset,
            end=window.end,
        )
    values = VOLUME_HEADER.fields(window.data, offset - window.base)
    values["file_system"] = from_bytes(values["file_system"])
    rest = min(max(values["header_length"], VOLUME_HEADER.size), HEADER_LIMIT) - VOLUME_HEADER.size
    return FirmwareVolume(
        base=offset, map_bytes=window.at(offset + VOLUME_HEADER.size, rest), **values
    )


def volume_anomalies(
    volume: FirmwareVolume, image_end: int, known: KnownLayout | None = None
) -> list[Anomaly]:
    """What is wrong with a header, and what the firmware would make of it.

    Args:
        volume: the header.
        image_end: image offset that the volume cannot reach beyond.
        known: the build that it belongs to, which insists on its own length and block size
            whatever the checksum says (edk2 InitializeVariableFvHeader; measured).
    """
    found: list[Anomaly] = []

    def add(code: str, at: int, text: str, severity: Severity = "error") -> None:
        found.append(Anomaly(f"volume.{code}", volume.base + at, text, severity))

    if any(volume.zero_vector):
        text = "the volume's zero vector is not zero; no firmware looks at it but in the checksum"
        add("zero-vector", 0, text, "note")
    if volume.signature != SIGNATURE:
        add("signature", 40, f"the volume's signature is {volume.signature!r}, not {SIGNATURE!r}")
    if volume.file_system != NV_VOLUME:
        add("guid", 16, f"the volume's GUID is {volume.file_system}, not that of NV data")
    if not volume.checksum_ok:
        add(
            "checksum", 50, f"the volume header's checksum is 0x{volume.checksum:04X}, "
            f"its content needs 0x{volume.computed_checksum:04X}",
        )  # fmt: skip
    if volume.header_length < USUAL_HEADER or volume.header_length % 2:
        add("header-length", 48, f"the volume header claims {volume.header_length} bytes")
    if volume.revision != REVISION:
        add("revision", 55, f"the volume header's revision is {volume.revision}, not {REVISION}")
    if volume.length < volume.header_length or volume.base + volume.length > image_end:
        add(
            "length", 32, f"the volume claims 0x{volume.length:X} bytes, "
            f"the image has 0x{image_end - volume.base:X} from its start",
        )  # fmt: skip
    elif known is not None and volume.length != known.length:
        add(
            "length", 32, f"the volume claims 0x{volume.length:X} bytes, {known.name} has "
            f"0x{known.length:X}: the firmware does not accept it",
        )  # fmt: skip
    size = volume.block_size
    if not volume.block_map_ended or size is None or size & (size - 1) or size > volume.length:
        add("block-map", 56, "the volume's block map has no usable end or block size")
    elif known is not None and known.block not in (None, size):
        add(
            "block-size", 60, f"the volume's blocks have 0x{size:X} bytes, in {known.name} "
            f"0x{known.block:X}: the firmware does not accept it",
        )  # fmt: skip
    elif (covered := sum(run.count * run.length for run in volume.block_map)) != volume.length:
        add(
            "block-map-length", 56, f"the volume's block map covers 0x{covered:X} bytes, "
            f"the volume has 0x{volume.length:X} (usual in AAVMF)", "note",
        )  # fmt: skip
    return found
