"""Flash descriptors as a chipset's tool makes them, by the tables of the data sheets."""

from __future__ import annotations

import struct

KIB = 1024
#: Region by number: first and last byte.
Places = dict[int, tuple[int, int]]
V1: Places = {
    0: (0, 0xFFF), 3: (0x1000, 0x2FFF), 2: (0x3000, 0x1FFFFF), 1: (0x200000, 0x7FFFFF)
}  # fmt: skip
V2: Places = {
    0: (0, 0xFFF), 3: (0x1000, 0x2FFF), 2: (0x3000, 0x2FFFFF), 8: (0x300000, 0x31FFFF),
    1: (0x400000, 0xFFFFFF),
}  # fmt: skip
#: Read and write rights of host, ME and GbE as masks of region numbers.
RIGHTS = ((0x0B, 0x0A), (0x0D, 0x0C), (0x08, 0x08))


def descriptor(
    version: int, places: Places, *, density: tuple[int, ...] = (), rights: object = RIGHTS
) -> bytearray:
    """4 KiB with a descriptor; the straps hold a pattern that nobody may change."""
    data = bytearray(b"\xff" * 0x1000)
    regions_at, masters_at = 0x40, (0x60 if version == 1 else 0x80)
    components_at, straps_at = 0x30, 0x100
    chips = density or ((4,) if version == 1 else (5,))
    map0 = components_at >> 4 | (len(chips) - 1) << 8 | regions_at >> 4 << 16 | 4 << 24
    map1 = masters_at >> 4 | 2 << 8 | straps_at >> 4 << 16 | 0x12 << 24
    struct.pack_into("<IIII", data, 0x10, 0x0FF0A55A, map0, map1, 0x20)
    bits = 3 if version == 1 else 4
    flcomp = sum(code << bits * number for number, code in enumerate(chips))
    if version == 2 and len(chips) == 1:
        flcomp |= 0xF0
    flcomp |= (0 if version == 1 else 6) << 17
    struct.pack_into("<II", data, components_at, flcomp, 0)
    slots = 5 if version == 1 else 16
    for number in range(slots):
        base, limit = places.get(number, ((0x1FFF if version == 1 else 0x7FFF) << 12, 0))
        struct.pack_into("<I", data, regions_at + 4 * number, base >> 12 | limit >> 12 << 16)
    for number, (read, write) in enumerate(rights):
        word = read << 16 | write << 24 if version == 1 else read << 8 | write << 20
        struct.pack_into("<I", data, masters_at + 4 * number, word)
    struct.pack_into("<I", data, 0xEFC, 0xDF)  # upper map: an empty table of VSCC entries
    for at in range(0x100, 0x148):
        data[at] = at & 0xFF
    return data


def image(version: int, **changes: object) -> bytearray:
    """A whole flash: descriptor, and bytes that tell the regions apart."""
    places = V1 if version == 1 else V2
    size = 8192 * KIB if version == 1 else 16384 * KIB
    data = bytearray(b"\xff" * size)
    for number, (first, last) in places.items():
        data[first : last + 1] = bytes([0xA0 + number]) * (last + 1 - first)
    data[:0x1000] = descriptor(version, places, **changes)
    data[0x1000:0x3000] = gbe("001122334455") * 2
    return data


def gbe(mac: str) -> bytes:
    """One copy of the GbE settings with a right checksum."""
    copy = bytearray(b"\xff" * 0x1000)
    copy[:6] = bytes.fromhex(mac)
    copy[6:0x7E] = bytes(range(6, 0x7E))
    total = sum(struct.unpack_from("<63H", copy))
    struct.pack_into("<H", copy, 0x7E, 0xBABA - total & 0xFFFF)
    return bytes(copy)
