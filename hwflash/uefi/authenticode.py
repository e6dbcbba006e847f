"""The hash by which firmware knows an EFI program: Authenticode's, over a PE file.

Left out are what signing changes: the checksum, the directory entry of the certificate table,
and the table itself. Ref: edk2 SecurityPkg/Library/DxeImageVerificationLib (HashPeImage).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from hwflash.errors import ImageError

PE32: Final = 0x10B
PE32_PLUS: Final = 0x20B
#: Offset of NumberOfRvaAndSizes in the optional header, by its magic; the directories follow.
_DIRECTORIES: Final = {PE32: 92, PE32_PLUS: 108}
_CHECKSUM: Final = 64
_SIZE_OF_HEADERS: Final = 60
#: Index of the certificate table among the directories.
_SECURITY: Final = 4
_SECTION_SIZE: Final = 40


@dataclass(frozen=True, slots=True)
class _Parts:
    """File offsets of what the hash counts and leaves out."""

    checksum: int
    directory: int | None
    headers: int
    sections: tuple[tuple[int, int], ...]
    certificates: int


def image_sha256(data: bytes) -> bytes:
    """The SHA-256 that db and dbx hold of an EFI program, signed or not.

    Signing pads a file to a multiple of 8 bytes; one that was not such a multiple has another
    hash afterwards.

    Args:
        data: the whole file.

    Raises:
        ImageError: it is no PE file, or its parts lie outside of it (``uefi.pe``).
    """
    parts = _parts(data)
    counted = parts.headers + sum(size for _, size in parts.sections)
    if counted + parts.certificates > len(data):
        raise _bad(f"has {len(data)} bytes, its parts claim {counted + parts.certificates}")
    found = hashlib.sha256(data[: parts.checksum])
    at = parts.checksum + 4
    if parts.directory is not None:
        found.update(data[at : parts.directory])
        at = parts.directory + 8
    found.update(data[at : parts.headers])
    for start, size in parts.sections:
        found.update(data[start : start + size])
    found.update(data[counted : len(data) - parts.certificates])
    return found.digest()


def _parts(data: bytes) -> _Parts:
    if data[:2] != b"MZ":
        raise _bad("does not begin with MZ")
    pe = _number(data, 0x3C, 4)
    if data[pe : pe + 4] != b"PE\0\0":
        raise _bad(f"has no PE header at 0x{pe:X}")
    optional = pe + 24
    magic = _number(data, optional, 2)
    if magic not in _DIRECTORIES:
        raise _bad(f"has an optional header of the unknown kind 0x{magic:X}")
    headers = _number(data, optional + _SIZE_OF_HEADERS, 4)
    count = _number(data, optional + _DIRECTORIES[magic], 4)
    first = optional + _DIRECTORIES[magic] + 4
    directory, certificates = None, 0
    if count > _SECURITY:
        directory = first + 8 * _SECURITY
        certificates = _number(data, directory + 4, 4)
    table = optional + _number(data, pe + 20, 2)
    sections = sorted(
        (_number(data, at + 20, 4), _number(data, at + 16, 4))
        for at in range(table, table + _SECTION_SIZE * _number(data, pe + 6, 2), _SECTION_SIZE)
    )
    kept = tuple((start, size) for start, size in sections if size)
    if not (optional + _CHECKSUM + 4 <= headers <= len(data)) or (directory or 0) + 8 > headers:
        raise _bad(f"claims 0x{headers:X} bytes of headers")
    for start, size in kept:
        if start + size > len(data):
            raise _bad(f"has a section at 0x{start:X}+0x{size:X}, behind its end")
    return _Parts(optional + _CHECKSUM, directory, headers, kept, certificates)


def _number(data: bytes, offset: int, size: int) -> int:
    if offset + size > len(data):
        raise _bad(f"ends inside its headers, at 0x{len(data):X}")
    return int.from_bytes(data[offset : offset + size], "little")


def _bad(text: str) -> ImageError:
    return ImageError(f"the EFI program {text}", code="uefi.pe")
