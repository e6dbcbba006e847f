"""Signature lists: the content of PK, KEK, db, dbx and their like.

Ref: UEFI 2.10 §32.4.1: lists one behind the other, each of signatures of one type and size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.guids import CERT_SHA256, CERT_X509, from_bytes
from hwflash.uefi.layouts import SIGNATURE_LIST_HEADER

OWNER_SIZE: Final = 16
#: Types whose signatures are hashes, by GUID; certificates revoked by hash have a time behind.
HASH_NAMES: Final[dict[UUID, str]] = {
    CERT_SHA256: "SHA-256",
    UUID("826ca512-cf10-4ac9-b187-be01496631bd"): "SHA-1",
    UUID("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd"): "SHA-224",
    UUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"): "SHA-384",
    UUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"): "SHA-512",
    UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed"): "SHA-256 of a certificate",
    UUID("7076876e-80c2-4ee6-aad2-28b349a6865b"): "SHA-384 of a certificate",
    UUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"): "SHA-512 of a certificate",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: who enrolled it, and its data (a certificate, a hash)."""

    owner: UUID
    data: bytes


@dataclass(frozen=True, slots=True)
class SignatureList:
    """Signatures of one type.

    Attributes:
        signature_type: GUID of the type.
        signatures: in order.
        header: bytes between the list's header and the first signature; empty in all types
            that are defined today.
        signature_size: bytes of each, owner included.
        padding: bytes at the end that make no whole signature.
    """

    signature_type: UUID
    signatures: tuple[Signature, ...]
    header: bytes = b""
    signature_size: int = 0
    padding: bytes = b""

    @property
    def is_x509(self) -> bool:
        """Whether the signatures are certificates."""
        return self.signature_type == CERT_X509

    def build(self) -> bytes:
        """The list's bytes."""
        size = self.signature_size or OWNER_SIZE + max(
            (len(item.data) for item in self.signatures), default=0
        )
        body = self.header + b"".join(item.owner.bytes_le + item.data for item in self.signatures)
        body += self.padding
        head = SIGNATURE_LIST_HEADER.build(
            signature_type=self.signature_type.bytes_le,
            list_size=SIGNATURE_LIST_HEADER.size + len(body),
            header_size=len(self.header),
            signature_size=size,
        )
        return head + body


def parse_signature_lists(data: bytes, offset: int = 0) -> tuple[SignatureList, ...]:
    """Read all lists of a value.

    Args:
        data: the value of the variable.
        offset: image offset of the value, for error messages.

    Raises:
        ImageError: sizes that contradict each other (``uefi.signature-list``).
    """
    found: list[SignatureList] = []
    at = 0
    head = SIGNATURE_LIST_HEADER.size
    while at < len(data):
        if at + head > len(data):
            raise _bad(offset + at, f"{len(data) - at} bytes are left, its header needs {head}")
        kind, list_size, header_size, size = SIGNATURE_LIST_HEADER.unpack(data, at)
        if list_size < head + header_size or at + list_size > len(data):
            raise _bad(offset + at, f"it claims {list_size} bytes, {len(data) - at} are left")
        if size < OWNER_SIZE:
            raise _bad(offset + at, f"its signatures claim {size} bytes each")
        first, end = at + head + header_size, at + list_size
        count = (end - first) // size
        signatures = tuple(
            Signature(
                from_bytes(data[place : place + OWNER_SIZE]),
                data[place + OWNER_SIZE : place + size],
            )
            for place in range(first, first + count * size, size)
        )
        padding = data[first + count * size : end]
        found.append(
            SignatureList(from_bytes(kind), signatures, data[at + head : first], size, padding)
        )
        at = end
    return tuple(found)


def _bad(offset: int, text: str) -> ImageError:
    return ImageError(
        f"the signature list at 0x{offset:06X} is damaged: {text}",
        code="uefi.signature-list",
        offset=offset,
    )
