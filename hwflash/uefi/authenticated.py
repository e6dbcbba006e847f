"""Signed writes of variables: EFI_VARIABLE_AUTHENTICATION_2 and its signature.

Files such as `dbxupdate_x64.bin` and `*.auth` hold a time stamp, a certificate header, PKCS#7
SignedData and the new value. Ref: UEFI 2.10 §8.2.6, edk2 SecurityPkg/Library/AuthVariableLib/
AuthService.c (VerifyTimeBasedPayload, ProcessVarWithPk, ProcessVarWithKek).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.guids import describe, from_bytes
from hwflash.uefi.layouts import Layout, c
from hwflash.uefi.pkcs7 import (
    SignatureFault,
    SignedData,
    Unverified,
    check_signature,
    find_chain,
    parse_signed_data,
    subject_of,
)
from hwflash.uefi.records import Attribute
from hwflash.uefi.window import printable

WIN_CERTIFICATE_UEFI_GUID: Final = Layout(
    "length" / c.Int32ul,
    "revision" / c.Int16ul,
    "certificate_type" / c.Int16ul,
    "kind" / c.Bytes(16),
)
TIME_SIZE: Final = 16
HEADER_SIZE: Final = TIME_SIZE + WIN_CERTIFICATE_UEFI_GUID.size
REVISION: Final = 0x0200
#: WIN_CERT_TYPE_EFI_GUID.
CERTIFICATE_TYPE: Final = 0x0EF1
PKCS7: Final = UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")

#: Why a signed write is refused, or "" for none.
Fault = SignatureFault | Literal["", "pkcs7", "time-fields", "time-stamp", "untrusted"]


@dataclass(frozen=True, slots=True)
class AuthenticatedUpdate:
    """A signed write as it is handed to the firmware.

    Attributes:
        timestamp: when it was made.
        pkcs7: the signature, bare SignedData or ContentInfo, DER.
        payload: the new value, or what is to be appended.
        revision: of the certificate header, 0x0200.
        offset: where the write begins in its file, for error messages.
    """

    timestamp: EfiTime
    pkcs7: bytes
    payload: bytes
    revision: int = REVISION
    offset: int = 0

    def build(self) -> bytes:
        """Time stamp, certificate header, signature and payload."""
        head = WIN_CERTIFICATE_UEFI_GUID.build(
            length=WIN_CERTIFICATE_UEFI_GUID.size + len(self.pkcs7),
            revision=self.revision,
            certificate_type=CERTIFICATE_TYPE,
            kind=PKCS7.bytes_le,
        )
        return self.timestamp.build() + head + self.pkcs7 + self.payload


def parse_update(data: bytes, offset: int = 0) -> AuthenticatedUpdate:
    """Read a signed write: its parts, not yet the signature itself.

    Args:
        data: the whole file.
        offset: where it begins, for error messages.

    Raises:
        ImageError: it is none (``uefi.authentication``).
    """
    if len(data) < HEADER_SIZE:
        raise _bad(offset, f"has {len(data)} bytes, its header needs {HEADER_SIZE}")
    length, revision, kind, guid = WIN_CERTIFICATE_UEFI_GUID.unpack(data, TIME_SIZE)
    if kind != CERTIFICATE_TYPE:
        raise _bad(offset + 22, f"has certificate type {kind:04X}, not {CERTIFICATE_TYPE:04X}")
    if from_bytes(guid) != PKCS7:
        raise _bad(offset + 24, f"has a certificate of type {describe(from_bytes(guid))}")
    if length < WIN_CERTIFICATE_UEFI_GUID.size:
        size = WIN_CERTIFICATE_UEFI_GUID.size
        raise _bad(offset + 16, f"claims {length} bytes of certificate, its header has {size}")
    if TIME_SIZE + length > len(data):
        left = len(data) - TIME_SIZE
        raise _bad(offset + 16, f"claims {length} bytes of certificate, {left} are left")
    end = TIME_SIZE + length
    timestamp = EfiTime.parse(data[:TIME_SIZE])
    return AuthenticatedUpdate(timestamp, data[HEADER_SIZE:end], data[end:], revision, offset)


def _bad(offset: int, text: str) -> ImageError:
    return ImageError(
        f"the signed variable write at 0x{offset:06X} {text}",
        code="uefi.authentication",
        offset=offset,
    )


def signed_bytes(name: str, guid: UUID, attributes: int, time: EfiTime, payload: bytes) -> bytes:
    """What the signature of a write is made over.

    Args:
        name: of the variable; stands there without a terminator.
        guid: of its vendor.
        attributes: of the SetVariable call, so with the append bit when appending.
        time: the time stamp.
        payload: the new value.
    """
    return (
        name.encode("utf-16-le", "surrogatepass")
        + guid.bytes_le
        + attributes.to_bytes(4, "little")
        + time.build()
        + payload
    )


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A certificate that may sign writes, or whose issued certificates may.

    Attributes:
        database: where it is enrolled: ``PK``, ``KEK``, ...
        certificate: DER.
    """

    database: str
    certificate: bytes


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """What is known of the signature of a write.

    Attributes:
        valid: firmware with these trust anchors would take it.
        fault: why not, in a word; "" when valid.
        reason: why not, as a sentence; or whom it is trusted by.
        intact: the signature is by the signer over exactly this write, trusted or not.
        signer: subject of the signer's certificate; "" when it is not there.
        digest: digest algorithm, such as ``sha256``.
        algorithm: kind of signature, such as ``rsassa_pkcs1v15``.
        trusted_by: the certificate it chains to, or None.
        chain: subjects from the signer to that certificate.
        notes: what some firmware minds.
    """

    valid: bool
    fault: Fault
    reason: str
    intact: bool = False
    signer: str = ""
    digest: str = ""
    algorithm: str = ""
    trusted_by: TrustAnchor | None = None
    chain: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def verify(
    update: AuthenticatedUpdate,
    name: str,
    guid: UUID,
    attributes: int,
    anchors: Sequence[TrustAnchor],
    stored: EfiTime | None = None,
) -> SignatureReport:
    """Judge a signed write as firmware does.

    A platform key must itself be among the certificates of the signature (AuthVarTypePk: "no
    chaining"); any other anchor may also have issued the signer's certificate, over others that
    the signature brings along. Validity periods are not looked at.

    Args:
        update: the write.
        name: of the variable it is for.
        guid: of its vendor.
        attributes: of the SetVariable call.
        anchors: certificates that may sign writes of this variable.
        stored: time stamp of the variable as it is; None when it does not exist.
    """
    if not update.pkcs7:
        return SignatureReport(False, "pkcs7", "it carries no signature")
    try:
        signed = parse_signed_data(update.pkcs7, update.offset + HEADER_SIZE)
    except ImageError as error:
        return SignatureReport(False, "pkcs7", error.message)
    notes = _notes(update, signed)
    content = signed_bytes(name, guid, attributes, update.timestamp, update.payload)
    try:
        certificate = check_signature(signed, content)
    except Unverified as error:
        return _report(signed, error.fault, str(error), notes=notes)
    signer = printable(subject_of(certificate))
    for anchor in anchors:
        if anchor.database == "PK" and anchor.certificate not in signed.certificates:
            continue
        chain = find_chain(certificate, signed.certificates, anchor.certificate)
        if chain:
            break
    else:
        text = _untrusted(signer or "the signer", anchors)
        return _report(signed, "untrusted", text, signer, intact=True, notes=notes)
    names = tuple(printable(subject_of(item)) for item in chain)
    trusted: tuple[Fault, str] = ("", f"{anchor.database}: {names[-1]}")
    fault, text = _time_fault(update.timestamp, attributes, stored) or trusted
    return _report(signed, fault, text, signer, anchor, names, intact=True, notes=notes)


def _untrusted(signer: str, anchors: Sequence[TrustAnchor]) -> str:
    if not anchors:
        return f"{signer} signed it, and there is no certificate to trust"
    databases = " or ".join(dict.fromkeys(anchor.database for anchor in anchors))
    return f"{signer} is neither in {databases} nor issued by a certificate there"


def _report(
    signed: SignedData,
    fault: Fault,
    reason: str,
    signer: str = "",
    anchor: TrustAnchor | None = None,
    chain: tuple[str, ...] = (),
    *,
    intact: bool = False,
    notes: tuple[str, ...] = (),
) -> SignatureReport:
    return SignatureReport(
        valid=not fault,
        fault=fault,
        reason=reason,
        intact=intact,
        signer=signer,
        digest=signed.digest,
        algorithm=signed.algorithm,
        trusted_by=anchor,
        chain=chain,
        notes=notes,
    )


def _time_fault(time: EfiTime, attributes: int, stored: EfiTime | None) -> tuple[Fault, str] | None:
    if time.pad1 or time.nanosecond or time.time_zone or time.daylight or time.pad2:
        text = "pads, nanoseconds, time zone or daylight of the time stamp are not zero"
        return "time-fields", text
    appending = attributes & Attribute.APPEND_WRITE
    if stored is not None and not appending and time.order <= stored.order:
        return "time-stamp", f"its time stamp {time} is not later than the stored one, {stored}"
    return None


def _notes(update: AuthenticatedUpdate, signed: SignedData) -> tuple[str, ...]:
    """What is right by the standards and not taken by every firmware."""
    found: list[str] = []
    if update.revision != REVISION:
        found.append(f"the certificate header has revision {update.revision:04X}, not 0200")
    if signed.wrapped:
        found.append("the SignedData stands in a ContentInfo, which older EDK II does not take")
    if signed.digest != "sha256":
        found.append(f"the digest is {signed.digest}; older EDK II takes sha256 alone")
    if update.pkcs7[1:2] != b"\x82":
        found.append("the signature's length is not encoded in two bytes, as EDK II expects")
    if signed.embedded:
        found.append("the SignedData holds the content itself, which UEFI does not provide for")
    return tuple(found)
