"""The Intel flash descriptor: regions, components, and who may read and write what.

The descriptor is in the first 4 KiB of the flash. It is read, never written: straps and all else
that is not listed here are left alone.

Ref: Intel I/O Controller Hub 8 data sheet, chapter "SPI flash descriptor" (version 1); Intel 100
Series PCH SPI programming guide, and coreboot's util/ifdtool and flashrom's ich_descriptors.h
(version 2: 15-bit bases, 4-bit densities, 12-bit masters, 16 regions).
Limits: descriptors with the signature at 0x10 (ICH8 and later) or at 0. The version is told by the
read clock, as ifdtool tells it: 20 MHz is version 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from hwflash.errors import ImageError
from hwflash.layout.regions import Region, RegionMap
from hwflash.units import KIB, Range, format_size

SIGNATURE: Final = 0x0FF0A55A
#: Bytes that hold all of it.
DESCRIPTOR_SIZE: Final = 0x1000
_PLACES: Final = (0x10, 0)
#: Region names as flashrom has them.
NAMES: Final = (
    "fd", "bios", "me", "gbe", "pd", "reg5", "bios2", "reg7", "ec", "reg9", "ie", "10gbe0",
    "10gbe1", "reg13", "reg14", "ptt",
)  # fmt: skip
_WORDS: Final = {
    "fd": "flash descriptor",
    "bios": "host firmware",
    "me": "management engine",
    "gbe": "gigabit Ethernet settings",
    "pd": "platform data",
    "bios2": "second host firmware",
    "ec": "embedded controller",
    "ie": "innovation engine",
    "10gbe0": "10-gigabit Ethernet settings",
    "10gbe1": "10-gigabit Ethernet settings",
    "ptt": "platform trust",
}
#: What is not to be written unless it is named: it is none of the host firmware's.
PROTECTED: Final = frozenset(NAMES) - {"bios", "bios2"}
MASTERS: Final = ("host", "me", "gbe", "reserved", "ec", "master6", "master7", "master8")
_READ_20_MHZ: Final = 0


@dataclass(frozen=True, slots=True)
class Master:
    """What a bus master may do.

    Attributes:
        name: ``host``, ``me``, ``gbe``, ``ec``.
        read, write: names of the regions it may read and write.
    """

    name: str
    read: tuple[str, ...]
    write: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A flash descriptor.

    Attributes:
        version: 1 or 2.
        components: bytes of each flash chip.
        regions: those in use, in the order of their numbers.
        masters: in order.
        notes: what is odd, and does not make it unusable.
    """

    version: Literal[1, 2]
    components: tuple[int, ...]
    regions: tuple[Region, ...]
    masters: tuple[Master, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all chips together."""
        return sum(self.components)


def find(head: bytes) -> int | None:
    """Where the signature is in the first bytes of a flash; None: it has no descriptor."""
    for place in _PLACES:
        if head[place : place + 4] == SIGNATURE.to_bytes(4, "little"):
            return place
    return None


def parse(head: bytes, size: int | None = None) -> Descriptor:
    """Read a descriptor.

    Args:
        head: the first 4 KiB of the flash, or more.
        size: bytes of the flash or image; regions beyond it are a fault, unless it is the first
            of the two chips that the descriptor tells of.

    Raises:
        ImageError: no descriptor (``ifd.none``); tables outside of it (``ifd.pointer``); a
            region that leaves the flash (``ifd.outside``) or shares bytes with another
            (``ifd.overlap``); no descriptor region at 0 (``ifd.region``).
    """
    place = find(head)
    if place is None:
        raise ImageError("there is no Intel flash descriptor", code="ifd.none")
    head = head[:DESCRIPTOR_SIZE]
    map0, map1 = (_word(head, place + at, "map") for at in (4, 8))
    components = _byte(map0, 0) << 4
    regions_at = _byte(map0, 16) << 4
    masters_at = _byte(map1, 0) << 4
    flcomp = _word(head, components, "component")
    version: Literal[1, 2] = 1 if flcomp >> 17 & 7 == _READ_20_MHZ else 2
    notes: list[str] = []
    chips = _components(flcomp, (map0 >> 8 & 3) + 1, version, notes)
    slots = _slots(map0, regions_at, masters_at, version)
    regions = _regions(head, regions_at, slots, version, notes)
    first = next(iter(chips), 0)
    first_of_two = sum(chips) > first and size == first
    _require_sound(regions, sum(chips) if first_of_two else size, notes, sum(chips))
    if first_of_two:
        notes.append("this is the first of two chips; what lies on the second is left out")
        regions = tuple(_clipped(regions, first))
    masters = _masters(head, masters_at, min((map1 >> 8 & 7) + 1, 8), version, slots)
    if place == 0:
        notes.append("the signature is at 0, as on the first chips that had a descriptor")
    again = head.find(SIGNATURE.to_bytes(4, "little"), place + 4)
    if again >= 0:
        notes.append(f"the signature is there again, at 0x{again:X}; the first one counts")
    return Descriptor(version, chips, regions, masters, tuple(notes))


def straps(head: bytes) -> bytes:
    """The straps of the chipset, as they are: 4 bytes each; the processor's are not among them.

    Raises:
        ImageError: no descriptor (``ifd.none``), or a table outside of it (``ifd.pointer``).
    """
    place = find(head)
    if place is None:
        raise ImageError("there is no Intel flash descriptor", code="ifd.none")
    map1 = _word(head, place + 8, "map")
    start, count = _byte(map1, 16) << 4, _byte(map1, 24)
    if count:
        _word(head[:DESCRIPTOR_SIZE], start + 4 * (count - 1), "strap")
    return bytes(head[start : start + 4 * count])


def region_map(descriptor: Descriptor, size: int) -> RegionMap:
    """The regions of a descriptor as a map of the whole flash."""
    return RegionMap(descriptor.regions, size)


def _components(flcomp: int, count: int, version: int, notes: list[str]) -> tuple[int, ...]:
    bits, ones = (3, 7) if version == 1 else (4, 15)
    found: list[int] = []
    for number in range(min(count, 2)):
        code = flcomp >> bits * number & ones
        if version == 2 and code == ones:
            continue  # not fitted
        if code > (5 if version == 1 else 8):
            notes.append(f"chip {number + 1} has the reserved density code {code}")
            continue
        found.append(512 * KIB << code)
    return tuple(found)


def _clipped(regions: tuple[Region, ...], size: int) -> Iterator[Region]:
    """What of the regions lies on the first chip."""
    for region in regions:
        where = region.range
        if where.address < size:
            kept = Range(where.address, min(where.end, size) - where.address)
            yield replace(region, range=kept)


def _slots(map0: int, regions_at: int, masters_at: int, version: int) -> int:
    """How many regions the descriptor can name."""
    if version == 1:
        told = (map0 >> 24 & 7) + 1
        return min(told, 5)
    room = (masters_at - regions_at) // 4 if masters_at > regions_at else 16
    return min(room, len(NAMES))


def _regions(
    head: bytes, start: int, slots: int, version: int, notes: list[str]
) -> tuple[Region, ...]:
    mask = 0x1FFF if version == 1 else 0x7FFF
    found: list[Region] = []
    for number in range(slots):
        word = _word(head, start + 4 * number, "region")
        base, limit = word & mask, word >> 16 & mask
        name = NAMES[number]
        if limit < base or (number and word in (0, 0xFFFFFFFF)):
            continue  # not used
        if word & ~(mask | mask << 16):
            notes.append(f"region {name} has reserved bits set: {word:08X}h")
        where = Range(base << 12, (limit - base + 1) << 12)
        found.append(Region(name, where, name in PROTECTED, _WORDS.get(name, "not named")))
    return tuple(found)


def _require_sound(
    regions: tuple[Region, ...], size: int | None, notes: list[str], chips: int
) -> None:
    if not regions or regions[0].name != "fd" or regions[0].range.address != 0:
        raise ImageError(
            "the descriptor does not say that it lies at the start of the flash", code="ifd.region"
        )
    for index, region in enumerate(regions):
        if size is not None and region.range.end > size:
            raise ImageError(
                f"region {region.name} ({region.range}) reaches beyond the flash of "
                f"{format_size(size)}",
                code="ifd.outside",
                region=region.name,
                address=region.range.address,
                length=region.range.length,
                size=size,
            )
        for other in regions[:index]:
            if other.range.overlaps(region.range):
                raise ImageError(
                    f"region {region.name} ({region.range}) overlaps {other.name} ({other.range})",
                    code="ifd.overlap",
                    region=region.name,
                    other=other.name,
                    address=region.range.address,
                    length=region.range.length,
                )
    if size is not None and chips and chips != size:
        notes.append(f"the descriptor tells of {format_size(chips)}, there are {format_size(size)}")


def _masters(head: bytes, start: int, count: int, version: int, slots: int) -> tuple[Master, ...]:
    read, write, bits = (16, 24, 8) if version == 1 else (8, 20, 12)
    names = NAMES[: min(slots, bits)]
    found: list[Master] = []
    for number in range(count):
        word = _word(head, start + 4 * number, "master")
        may = [
            tuple(name for index, name in enumerate(names) if word >> shift + index & 1)
            for shift in (read, write)
        ]
        found.append(Master(MASTERS[number], may[0], may[1]))
    return tuple(found)


def _word(head: bytes, at: int, what: str) -> int:
    if at < 0 or at + 4 > len(head):
        raise ImageError(
            f"the {what} section of the descriptor would be at 0x{at:X}, outside of it",
            code="ifd.pointer",
            offset=at,
        )
    return int(struct.unpack_from("<I", head, at)[0])


def _byte(word: int, shift: int) -> int:
    return word >> shift & 0xFF
