"""What a code image of OVMF knows of its variable store.

Two things in it say where the store must lie. Builds for X64 carry the TDX metadata, which names
the configuration volume: its address and size. And the compressed volume holds the addresses of
work space and spare area as constants of the flash and FTW drivers.

Ref: edk2 OvmfPkg/ResetVector/X64 (TDX metadata, and the GUIDed table it is reached by). Checked
against Debian's 2M and 4M builds of 2022.11.
Limits: LZMA compressed volumes; sections that unpack to 64 MiB at most.
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hwflash.layout.ovmf import AAVMF, BUILDS, OvmfBuild
from hwflash.units import MIB, Range

TABLE_FOOTER: Final = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
TDX_OFFSET: Final = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
LZMA_SECTION: Final = UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf")
#: The table ends this many bytes before the image does, above the reset vector.
_FOOTER_END: Final = 0x20
_ENTRY: Final = 18  # u16 length and the GUID, behind an entry's data
#: A GUIDed section: 4 bytes of header, the GUID, offset and attributes.
_SECTION_HEADER: Final = 24
_CONFIGURATION_VOLUME: Final = 1
_SECTION_LIMIT: Final = 32
_UNPACKED_LIMIT: Final = 64 * MIB
#: Compressed sections looked into.
_LZMA_LIMIT: Final = 4


@dataclass(frozen=True, slots=True)
class Expectation:
    """Where a code image wants its variable store.

    Attributes:
        source: ``TDX metadata`` or ``addresses in the code``.
        vars: physical addresses of the store's flash.
    """

    source: str
    vars: Range


def expectations(image: bytes) -> tuple[Expectation, ...]:
    """What a code image, or a whole one, says of its store; the surest first."""
    found: list[Expectation] = []
    volume = tdx_configuration_volume(image)
    if volume is not None:
        found.append(Expectation("TDX metadata", volume))
    build = build_by_addresses(image)
    if build is not None:
        where = Range(build.base, build.vars_size)
        found.append(Expectation("addresses in the code", where))
    return tuple(found)


def table_entries(image: bytes) -> Iterator[tuple[UUID, bytes]]:
    """The entries of the GUIDed table below the reset vector, from its end; none: no table."""
    end = len(image) - _FOOTER_END
    if end < _ENTRY or image[end - 16 : end] != TABLE_FOOTER.bytes_le:
        return
    (total,) = struct.unpack_from("<H", image, end - _ENTRY)
    start = max(end - total, 0)
    at = end - _ENTRY
    while at - _ENTRY >= start:
        (length,) = struct.unpack_from("<H", image, at - _ENTRY)
        if length < _ENTRY or at - length < start:
            return
        yield UUID(bytes_le=image[at - 16 : at]), image[at - length : at - _ENTRY]
        at -= length


def tdx_configuration_volume(image: bytes) -> Range | None:
    """Address and size of the configuration volume in the TDX metadata, or None."""
    for guid, data in table_entries(image):
        if guid == TDX_OFFSET and len(data) == 4:
            return _configuration_volume(image, len(image) - int.from_bytes(data, "little"))
    return None


def _configuration_volume(image: bytes, at: int) -> Range | None:
    if at < 0 or at + 16 > len(image) or image[at : at + 4] != b"TDVF":
        return None
    _length, _version, count = struct.unpack_from("<III", image, at + 4)
    for place in range(min(count, _SECTION_LIMIT)):
        section = at + 16 + 32 * place
        if section + 32 > len(image):
            return None
        _offset, size, address, _memory, kind = struct.unpack_from("<IIQQI", image, section)
        if kind == _CONFIGURATION_VOLUME:
            return Range(address, size)
    return None


def build_by_addresses(image: bytes) -> OvmfBuild | None:
    """The one build of which work space and spare area are constants in the code, or None."""
    found: set[str] = set()
    for unpacked in unpacked_sections(image):
        for build in BUILDS:
            if build is AAVMF:
                continue
            places = (build.base + build.work.address, build.base + build.spare.address)
            if all(place.to_bytes(4, "little") in unpacked for place in places):
                found.add(build.name)
    named = [build for build in BUILDS if build.name in found]
    return named[0] if len(named) == 1 else None


def unpacked_sections(image: bytes) -> Iterator[bytes]:
    """The content of LZMA compressed sections, as far as they can be unpacked."""
    at = image.find(LZMA_SECTION.bytes_le)
    for _ in range(_LZMA_LIMIT):
        if at < 0:
            return
        # In front of the GUID is the section's header of 4 bytes, behind it the data's offset.
        offset = int.from_bytes(image[at + 16 : at + 18], "little")
        if at >= 4 and offset >= _SECTION_HEADER:
            yield _unpack(memoryview(image)[at - 4 + offset :])
        at = image.find(LZMA_SECTION.bytes_le, at + 1)


def _unpack(body: memoryview) -> bytes:
    with suppress(lzma.LZMAError, EOFError):  # no LZMA, or damaged
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(body, _UNPACKED_LIMIT)
    return b""
