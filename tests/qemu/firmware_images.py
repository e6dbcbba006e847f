"""Firmware images made for tests: volumes, stores, tables and constants, and no code."""

from __future__ import annotations

import lzma
import struct
from uuid import UUID

from hwflash.layout.ovmf import OvmfBuild
from hwflash.qemu.codeimage import LZMA_SECTION, TABLE_FOOTER, TDX_OFFSET
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.ftw import make_work_space
from hwflash.uefi.layouts import BLOCK_MAP_ENTRY
from hwflash.uefi.records import make_record
from hwflash.uefi.store import make_store
from hwflash.uefi.volume import USUAL_HEADER, FirmwareVolume, make_volume

FFS2 = UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3")
MAIN = UUID("48db5e17-707c-472d-91cd-1613e7ef51b0")
SEC = UUID("763bed0d-de9f-48f5-81f1-3e90e1b1a015")


def code_volume(length: int, name: UUID | None = None, body: bytes = b"") -> bytearray:
    """A volume of a file system, with a name in its extended header."""
    runs = BLOCK_MAP_ENTRY.build(count=length // 0x1000, length=0x1000)
    header = FirmwareVolume(
        base=0, zero_vector=bytes(16), file_system=FFS2, length=length, signature=b"_FVH",
        attributes=0x4FEFF, header_length=0x48, checksum=0, ext_header_offset=0x60 if name else 0,
        reserved=0, revision=2, map_bytes=runs + BLOCK_MAP_ENTRY.build(count=0, length=0),
    ).with_checksum()  # fmt: skip
    image = bytearray(b"\xff" * length)
    image[:0x48] = header.build()
    if name is not None:
        image[0x60:0x74] = name.bytes_le + (20).to_bytes(4, "little")
    image[0x100 : 0x100 + len(body)] = body
    return image


def compressed(content: bytes) -> bytes:
    """A GUIDed section with LZMA compressed content."""
    packed = lzma.compress(content, lzma.FORMAT_ALONE)
    header = (24 + len(packed)).to_bytes(3, "little") + b"\x02"
    return header + LZMA_SECTION.bytes_le + struct.pack("<HH", 24, 1) + packed


def constants(build: OvmfBuild) -> bytes:
    """What a driver of a build has among its code: addresses of work space and spare area."""
    places = (build.base + build.work.address, build.base + build.spare.address)
    return b"\x90" * 999 + b"".join(b"\xb8" + place.to_bytes(4, "little") for place in places)


def reset_table(address: int, size: int) -> bytes:
    """The end of an image: TDX metadata, the table that leads to it, the reset vector."""
    sections = struct.pack("<IIQQII", 0x20000, 0x1000, 0xFFE20000, 0x1000, 0, 1)
    sections += struct.pack("<IIQQII", 0, size, address, size, 1, 0)
    metadata = b"TDVF" + struct.pack("<III", 16 + len(sections), 1, 2) + sections
    other = bytes(8) + struct.pack("<H", 26) + UUID(int=7).bytes_le
    tail_of_table = struct.pack("<H", 18 + 22 + 26) + TABLE_FOOTER.bytes_le
    distance = len(metadata) + 22 + 26 + 18 + 0x20
    tdx = struct.pack("<I", distance) + struct.pack("<H", 22) + TDX_OFFSET.bytes_le
    return metadata + tdx + other + tail_of_table + b"\x90" * 0x20


def code_image(
    build: OvmfBuild, *, knows: OvmfBuild | None = None, tdx: tuple[int, int] | None = None
) -> bytes:
    """A CODE file of a build; ``knows`` is the build whose addresses its drivers have."""
    body = compressed(constants(knows)) if knows else b""
    image = bytearray()
    for name, guid in (("fvmain-compact", MAIN), ("seccode", SEC)):
        image += code_volume(dict(build.volumes)[name], guid, body if guid == MAIN else b"")
    if tdx is not None:
        table = reset_table(*tdx)
        image[-len(table) :] = table
    return bytes(image)


def store_image(layout: KnownLayout, block: int = 0x1000) -> bytes:
    """A healthy VARS file with one variable."""
    image = bytearray(b"\xff" * layout.length)
    image[:USUAL_HEADER] = make_volume(layout.length, block).build()
    record = make_record("Name", UUID(int=5), 3, b"value")
    store = make_store([record], layout.variables - USUAL_HEADER, base=USUAL_HEADER)
    image[USUAL_HEADER : layout.variables] = store.build()
    work = make_work_space(layout.work.length, base=layout.work.address)
    image[layout.work.address : layout.work.end] = work.build()
    return bytes(image)
