"""Entries of Secure Boot's key databases: reading, choosing and checking them.

Ref: UEFI 2.10 §32.4.1 (signature lists), edk2 SecurityPkg/Library/AuthVariableLib/AuthService.c
(mSupportSigItem, CheckSignatureListFormat).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hwflash.errors import ImageError, UsageError
from hwflash.uefi import guids
from hwflash.uefi.certificates import Certificate, read_certificate
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.guids import CERT_SHA256, CERT_X509
from hwflash.uefi.siglist import OWNER_SIZE, Signature, SignatureList, parse_signature_lists
from hwflash.uefi.window import printable

#: Kinds of entries by type GUID, and the bytes of their data; 0 is any size. A certificate
#: revoked by its hash has a time of 16 bytes behind the hash.
KINDS: Final[dict[UUID, tuple[str, int]]] = {
    CERT_X509: ("x509", 0),
    CERT_SHA256: ("sha256", 32),
    guids.parse_guid("EfiCertSha1"): ("sha1", 20),
    guids.parse_guid("EfiCertSha224"): ("sha224", 28),
    guids.parse_guid("EfiCertSha384"): ("sha384", 48),
    guids.parse_guid("EfiCertSha512"): ("sha512", 64),
    guids.parse_guid("EfiCertX509Sha256"): ("x509-sha256", 48),
    guids.parse_guid("EfiCertX509Sha384"): ("x509-sha384", 64),
    guids.parse_guid("EfiCertX509Sha512"): ("x509-sha512", 80),
    guids.parse_guid("EfiCertRsa2048"): ("rsa2048", 256),
    guids.parse_guid("EfiCertRsa2048Sha1"): ("rsa2048-sha1", 256),
    guids.parse_guid("EfiCertRsa2048Sha256"): ("rsa2048-sha256", 256),
}
TIME_SIZE: Final = 16
#: Candidates in an error message.
_SHOWN: Final = 6
#: Shortest part of a fingerprint that selects.
SHORTEST: Final = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a database.

    Attributes:
        index: its place, counted from 0 over all lists.
        kind: ``x509``, ``sha256``, ``x509-sha256``, ..., or the GUID of an unknown type.
        owner: who enrolled it.
        data: the certificate, or the hash with what follows it.
        fingerprint: SHA-256 of a certificate, the hash itself, or SHA-256 of anything else;
            hexadecimal.
        certificate: its facts; None for a hash and for what cannot be read.
        revoked_at: since when a certificate known by its hash is not trusted, or None.
    """

    index: int
    kind: str
    owner: UUID
    data: bytes
    fingerprint: str
    certificate: Certificate | None = None
    revoked_at: EfiTime | None = None

    @property
    def subject(self) -> str:
        """The subject of a certificate, or ""."""
        return self.certificate.subject if self.certificate is not None else ""

    @property
    def title(self) -> str:
        """What it is, in one line."""
        if self.certificate is not None:
            return f"{self.kind} {printable(self.certificate.common_name)}"
        return f"{self.kind} {self.fingerprint}"


def entries(data: bytes, offset: int = 0) -> tuple[Entry, ...]:
    """The entries of a database, in order.

    Args:
        data: the variable's value.
        offset: image offset of the value, for error messages.

    Raises:
        ImageError: the lists are damaged (``uefi.signature-list``).
    """
    pairs = [
        (part, item) for part in parse_signature_lists(data, offset) for item in part.signatures
    ]
    return tuple(_entry(index, part, item) for index, (part, item) in enumerate(pairs))


def _entry(index: int, part: SignatureList, item: Signature) -> Entry:
    kind, size = KINDS.get(part.signature_type, (str(part.signature_type), 0))
    if part.is_x509:
        found = read_certificate(item.data)
        print_ = hashlib.sha256(item.data).hexdigest()
        return Entry(index, kind, item.owner, item.data, print_, found)
    if not size or len(item.data) != size or kind.startswith("rsa"):
        print_ = hashlib.sha256(item.data).hexdigest()
        return Entry(index, kind, item.owner, item.data, print_)
    if kind.startswith("x509-"):
        time = EfiTime.parse(item.data[-TIME_SIZE:])
        print_ = item.data[:-TIME_SIZE].hex()
        return Entry(index, kind, item.owner, item.data, print_, revoked_at=time)
    return Entry(index, kind, item.owner, item.data, item.data.hex())


def select(found: tuple[Entry, ...], selector: str) -> Entry:
    """The one entry a selector means; see `without`.

    Raises:
        UsageError: nothing fits (``usage.key``), or several do (``usage.key-ambiguous``).
    """
    wanted = selector.strip()
    number = wanted.removeprefix("#")
    # A number that is short enough is an index; longer ones are the digits of a hash.
    if number.isascii() and number.isdigit() and (number != wanted or len(number) < SHORTEST):
        return _one([item for item in found if item.index == int(number)], found, selector)
    digits = wanted.replace(":", "").lower()
    rules: list[Callable[[Entry], bool]] = []
    if len(digits) >= SHORTEST and set(digits) <= set("0123456789abcdef"):
        rules.append(lambda item: item.fingerprint.startswith(digits))
    if wanted:
        rules.append(lambda item: item.subject.lower() == wanted.lower())
        rules.append(lambda item: wanted.lower() in item.subject.lower())
    for rule in rules:
        hits = [item for item in found if rule(item)]
        if hits:
            return _one(hits, found, selector)
    return _one([], found, selector)


def _one(hits: list[Entry], found: tuple[Entry, ...], selector: str) -> Entry:
    if len(hits) == 1:
        return hits[0]
    listed = hits or list(found)
    candidates = [f"#{item.index} {item.title}" for item in listed]
    shown = ", ".join(candidates[:_SHOWN]) + (", ..." if candidates[_SHOWN:] else "")
    text = f"{len(hits)} entries fit {selector!r}" if hits else f"no entry fits {selector!r}"
    raise UsageError(
        f"{text}: {shown}" if shown else f"{text}: the database is empty",
        code="usage.key-ambiguous" if hits else "usage.key",
        selector=selector,
        candidates=candidates,
    )


def check_lists(data: bytes, offset: int = 0) -> tuple[SignatureList, ...]:
    """Read signature lists as strictly as firmware does before it stores them.

    Ref: edk2 CheckSignatureListFormat: known types, their sizes, no header, nothing left over.

    Raises:
        ImageError: firmware would not store them (``uefi.signature-list``,
            ``uefi.certificate``).
    """
    parts = parse_signature_lists(data, offset)
    at = offset
    for part in parts:
        kind = KINDS.get(part.signature_type)
        if kind is None:
            raise _bad(at, f"is of the unknown type {part.signature_type}")
        name, size = kind
        found = part.signature_size - OWNER_SIZE
        if size and found != size:
            raise _bad(at, f"has entries of {found} bytes, {name} has {size}")
        if part.header or part.padding:
            odd = len(part.header) or len(part.padding)
            raise _bad(at, f"has {odd} bytes that belong to no entry")
        if part.is_x509:
            for item in part.signatures:
                certificate_der(item.data, at)
        at += len(part.build())
    return parts


def certificate_der(data: bytes, offset: int | None = None) -> bytes:
    """A certificate's DER, from DER or PEM.

    Args:
        data: the file.
        offset: where it lies in an image, for the error message; None for a file of its own.

    Raises:
        ImageError: it is none, or holds several (``uefi.certificate``).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    if read_certificate(data) is not None:
        return data
    if b"-----BEGIN" in data:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = x509.load_pem_x509_certificates(data)
                several = [item.public_bytes(Encoding.DER) for item in found]
            except (ValueError, TypeError, x509.InvalidVersion) as error:
                raise _no_certificate(f"is no PEM certificate: {error}", offset) from error
        if len(several) != 1:
            raise _no_certificate(f"holds {len(several)} certificates, not one", offset)
        if read_certificate(several[0]) is not None:
            return several[0]
    raise _no_certificate(f"of {len(data)} bytes is no X.509 certificate", offset)


def certificates(data: bytes, offset: int = 0) -> tuple[bytes, ...]:
    """DER of the certificates in a database that can be read.

    Args:
        data: the variable's value.
        offset: image offset of the value, for error messages.

    Raises:
        ImageError: the lists are damaged (``uefi.signature-list``).
    """
    return tuple(item.data for item in entries(data, offset) if item.certificate is not None)


def _bad(offset: int, text: str) -> ImageError:
    return ImageError(
        f"the signature list at 0x{offset:06X} {text}", code="uefi.signature-list", offset=offset
    )


def _no_certificate(text: str, offset: int | None) -> ImageError:
    where = "the certificate" if offset is None else f"the certificate at 0x{offset:06X}"
    context = {} if offset is None else {"offset": offset}
    return ImageError(f"{where} {text}", code="uefi.certificate", **context)
