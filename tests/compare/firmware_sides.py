"""Small firmware volumes with modules, and sides made of bytes."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Sequence
from dataclasses import replace
from uuid import UUID

from uefi.volumes import OVMF_4M, volume_bytes

from hwflash.compare.sides import Side
from hwflash.jobs.compare import make_side
from hwflash.qemu.volumes import FFS2
from hwflash.uefi.records import Record
from hwflash.uefi.volume import make_volume
from hwflash.uefi.window import encode_utf16

PE32, UI, RAW, GUIDED, VOLUME = 0x10, 0x15, 0x19, 0x02, 0x17
DRIVER, VOLUME_FILE, FREEFORM, PAD = 0x07, 0x0B, 0x02, 0xF0
LZMA = UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
MIB = 1 << 20


def guid(number: int) -> UUID:
    return UUID(int=0xAAAA0000_0000_0000_0000_000000000000 + number)


def section(kind: int, data: bytes) -> bytes:
    body = (len(data) + 4).to_bytes(3, "little") + bytes([kind]) + data
    return body.ljust(-(-len(body) // 4) * 4, b"\0")


def module(number: int, name: str | None, code: bytes, kind: int = DRIVER) -> bytes:
    body = section(PE32, code)
    if name is not None:
        body += section(UI, encode_utf16(name))
    return file(guid(number), kind, body)


def file(name: UUID, kind: int, body: bytes, state: int = 0x07) -> bytes:
    size = 24 + len(body)
    head = name.bytes_le + b"\0\0" + bytes([kind, 0])
    data = head + size.to_bytes(3, "little") + bytes([state ^ 0xFF]) + body
    return data.ljust(-(-len(data) // 8) * 8, b"\xff")


def compressed(volume: bytes) -> bytes:
    """A file that holds a volume in an LZMA section, as OVMF's FVMAIN_COMPACT does."""
    packed = bytearray(lzma.compress(section(VOLUME, volume), lzma.FORMAT_ALONE))
    # The size is in the header, as edk2's tool writes it, and no end marker is counted on.
    packed[5:13] = len(section(VOLUME, volume)).to_bytes(8, "little")
    head = LZMA.bytes_le + (24).to_bytes(2, "little") + (1).to_bytes(2, "little")
    return file(guid(0xF0), VOLUME_FILE, section(GUIDED, head + bytes(packed)))


def volume(files: Iterable[bytes], length: int = 0x10000) -> bytes:
    header = make_volume(length, 0x1000)
    header = replace(header, file_system=FFS2).with_checksum().build()
    data = header + b"".join(files)
    assert len(data) <= length
    return data.ljust(length, b"\xff")


def firmware(
    records: Sequence[Record] = (), code: Sequence[bytes] = (), last: bytes = b""
) -> bytes:
    """4 MiB laid out as OVMF: variable store, a large and a small volume."""
    large = volume(code, 0x348000)
    small = volume([last] if last else [], 0x34000)
    return bytes(volume_bytes(records, OVMF_4M)) + large + small


def side(data: bytes, name: str = "side", base: int = 0) -> Side:
    return make_side(name, [(base, data)])


def changed(data: bytes, *places: int) -> bytes:
    """The same with single bytes inverted."""
    found = bytearray(data)
    for place in places:
        found[place] ^= 0xFF
    return bytes(found)
