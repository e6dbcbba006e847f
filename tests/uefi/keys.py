"""Keys, certificates and signed writes for the tests of Secure Boot, made when they are needed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from hwflash.uefi.authenticated import AuthenticatedUpdate, signed_bytes
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.guids import CERT_SHA256, CERT_X509, parse_guid
from hwflash.uefi.secureboot import DATABASES, KEY_ATTRIBUTES
from hwflash.uefi.siglist import Signature, SignatureList

OWNER = parse_guid("11111111-2222-3333-4444-555555555555")
APPEND = KEY_ATTRIBUTES | 0x40
T1 = EfiTime(2024, 1, 2, 3, 4, 5)
T2 = EfiTime(2025, 1, 2, 3, 4, 5)
T3 = EfiTime(2026, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Key:
    private: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def private_pem(self) -> bytes:
        return self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @property
    def list(self) -> bytes:
        return SignatureList(CERT_X509, (Signature(OWNER, self.der),)).build()


@functools.cache
def private_key(kind: str, number: int) -> Any:
    # 2048 bits take a tenth of a second; each is made once for the whole run.
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


@functools.cache
def make_key(
    name: str,
    issuer: Key | None = None,
    *,
    kind: str = "rsa",
    ca: bool | None = True,
    path_length: int | None = None,
    signs: bool | None = None,
) -> Key:
    """A key with its certificate, by itself or by an issuer."""
    key = private_key(kind, hash(name))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Firmware has no clock it trusts: this has long expired.
        .not_valid_before(datetime(2011, 1, 2, tzinfo=UTC))
        .not_valid_after(datetime(2012, 1, 2, tzinfo=UTC))
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    if ca is not None:
        length = path_length if ca else None
        builder = builder.add_extension(x509.BasicConstraints(ca, length), critical=True)
    if signs is not None:
        names = ["digital_signature", "content_commitment", "key_encipherment",
                 "data_encipherment", "key_agreement", "crl_sign", "encipher_only",
                 "decipher_only"]  # fmt: skip
        bits = dict.fromkeys(names, False) | {"digital_signature": True, "key_cert_sign": signs}
        builder = builder.add_extension(x509.KeyUsage(**bits), critical=True)
    made = builder.sign(issuer.private if issuer else key, hashes.SHA256())
    return Key(key, made)


def hash_list(*values: bytes, owner: Any = OWNER) -> bytes:
    return SignatureList(CERT_SHA256, tuple(Signature(owner, item) for item in values)).build()


def sign(
    content: bytes,
    key: Key,
    *others: Key,
    digest: hashes.HashAlgorithm | None = None,
    attributes: bool = False,
    wrapped: bool = False,
) -> bytes:
    """PKCS#7 over content, with the certificates of the signer and of others."""
    builder = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(content)
        .add_signer(key.certificate, key.private, digest or hashes.SHA256())
    )
    for other in others:
        builder = builder.add_certificate(other.certificate)
    options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
    if not attributes:
        options.append(pkcs7.PKCS7Options.NoAttributes)
    made = builder.sign(serialization.Encoding.DER, options)
    return made if wrapped else cms.ContentInfo.load(made)["content"].untag().dump()


def signed_update(
    name: str,
    payload: bytes,
    key: Key,
    *others: Key,
    time: EfiTime = T2,
    append: bool = False,
    **options: Any,
) -> AuthenticatedUpdate:
    """A write of a key database, signed."""
    guid = DATABASES[name].guid
    content = signed_bytes(name, guid, APPEND if append else KEY_ATTRIBUTES, time, payload)
    return AuthenticatedUpdate(time, sign(content, key, *others, **options), payload)
