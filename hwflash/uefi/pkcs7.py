"""PKCS#7 SignedData: who signed, what was signed, and whether the signature is right.

Ref: RFC 2315, RFC 5652 (SignedData, signed attributes). Chains are built as EDK II has OpenSSL
build them (edk2 CryptoPkg/Library/BaseCryptLib, Pkcs7Verify): a chain may end at any trusted
certificate, and validity periods and key purposes are not looked at.

asn1crypto and cryptography are loaded when the first signature is looked at, and not before.
"""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from hwflash.errors import ImageError

if TYPE_CHECKING:
    from cryptography import x509

#: More certificates than any signature in the field has; each pair may cost a verification.
CERTIFICATE_LIMIT: Final = 32
#: Certificates between a signer and the trusted one.
DEPTH_LIMIT: Final = 8
#: Digests that EDK II accepts (AuthService.c, FindHashAlgorithmIndex); older ones the first alone.
DIGESTS: Final = ("sha256", "sha384", "sha512")

#: What asn1crypto raises on bytes that are not what they should be.
_UNREADABLE: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)


SignatureFault = Literal["digest", "signer", "signature", "algorithm"]


class Unverified(Exception):
    """A signature that does not hold; the text says why.

    Attributes:
        fault: stable word: ``digest``, ``signer``, ``signature`` or ``algorithm``.
    """

    def __init__(self, fault: SignatureFault, text: str) -> None:
        super().__init__(text)
        self.fault: SignatureFault = fault


@dataclass(frozen=True, slots=True)
class SignedData:
    """A SignedData with its one signer.

    Attributes:
        wrapped: it stands in a ContentInfo.
        digests: the digest algorithms it names.
        certificates: DER, as they stand in it.
        embedded: it holds the signed content itself, which UEFI does not want.
        signer: index of the signer's certificate, or None when it is not among them.
        digest: digest algorithm of the signer, such as ``sha256``.
        algorithm: ``rsassa_pkcs1v15``, ``rsassa_pss``, ``ecdsa``, or an OID.
        signature: the signature.
        attributes: DER of the signed attributes, as they are signed; empty without any.
        message_digest: what the signed attributes claim; empty without any.
    """

    wrapped: bool
    digests: tuple[str, ...]
    certificates: tuple[bytes, ...]
    embedded: bool
    signer: int | None
    digest: str
    algorithm: str
    signature: bytes
    attributes: bytes
    message_digest: bytes


def _asn1(name: str) -> Any:
    # asn1crypto carries no annotations: its names enter as Any.
    return importlib.import_module(f"asn1crypto.{name}")


def parse_signed_data(data: bytes, offset: int = 0) -> SignedData:
    """Read SignedData, bare or in a ContentInfo.

    Args:
        data: DER; nothing may follow.
        offset: where it lies, for error messages.

    Raises:
        ImageError: it is none, or has not exactly one signer (``uefi.authentication``).
    """
    try:
        wrapped, signed = _load(data)
        return _signed_data(signed, wrapped, offset)
    except _UNREADABLE as error:
        text = str(error).partition("\n")[0] or type(error).__name__
        raise _bad(offset, f"is no SignedData: {text}") from error


def _load(data: bytes) -> tuple[bool, Any]:
    cms, core = _asn1("cms"), _asn1("core")
    first = core.Sequence.load(data, strict=True)[0]
    if not isinstance(first, core.ObjectIdentifier):
        return False, cms.SignedData.load(data, strict=True)
    found = cms.ContentInfo.load(data, strict=True)
    if found["content_type"].native != "signed_data":
        raise ValueError(f"its content is {found['content_type'].native}")
    return True, found["content"]


def _signed_data(signed: Any, wrapped: bool, offset: int) -> SignedData:
    choices = list(signed["certificates"])
    certificates = [item.chosen for item in choices if item.name == "certificate"]
    if len(certificates) > CERTIFICATE_LIMIT:
        raise _bad(offset, f"has {len(certificates)} certificates, more than {CERTIFICATE_LIMIT}")
    signers = list(signed["signer_infos"])
    if len(signers) != 1:
        raise _bad(offset, f"has {len(signers)} signers, not one")
    info = signers[0]
    names = [item["algorithm"].native for item in signed["digest_algorithms"]]
    attributes, message_digest = _attributes(info["signed_attrs"])
    return SignedData(
        wrapped=wrapped,
        digests=tuple(map(str, names)),
        certificates=tuple(bytes(item.dump()) for item in certificates),
        embedded=bool(signed["encap_content_info"]["content"].native is not None),
        signer=_find_signer(info["sid"], certificates),
        digest=str(info["digest_algorithm"]["algorithm"].native),
        algorithm=_algorithm(info),
        signature=bytes(info["signature"].native),
        attributes=attributes,
        message_digest=message_digest,
    )


def _algorithm(info: Any) -> str:
    """The kind of signature; where its name includes a digest, that must be the signer's."""
    found = info["signature_algorithm"]
    try:
        kind = str(found.signature_algo)
    except ValueError:
        return str(found["algorithm"].native)
    name = str(found["algorithm"].native)
    digest = str(info["digest_algorithm"]["algorithm"].native)
    if name not in ("rsassa_pkcs1v15", "rsassa_pss", "ecdsa") and not name.startswith(digest):
        raise ValueError(f"its signature is {name}, its digest {digest}")
    return kind


def _attributes(found: Any) -> tuple[bytes, bytes]:
    """DER of the signed attributes, and the message digest they hold."""
    if found.native is None:
        return b"", b""
    digests = [
        value.native
        for item in found
        if item["type"].native == "message_digest"
        for value in item["values"]
    ]
    if len(digests) != 1:
        raise ValueError(f"its signed attributes have {len(digests)} message digests, not one")
    # They are stored with tag [0] and signed with that of a SET (RFC 5652).
    return b"\x31" + bytes(found.dump())[1:], bytes(digests[0])


def _find_signer(name: Any, certificates: list[Any]) -> int | None:
    by_key = name.name == "subject_key_identifier"
    for index, item in enumerate(certificates):
        if by_key:
            value = item.key_identifier_value
            if value is not None and value.native == name.chosen.native:
                return index
        elif (
            item.serial_number == name.chosen["serial_number"].native
            and item.issuer == name.chosen["issuer"]
        ):
            return index
    return None


def check_signature(signed: SignedData, content: bytes) -> x509.Certificate:
    """Check that a signature is by the certificate it names, over this content.

    Returns:
        The signer's certificate; whether it is trusted is another question.

    Raises:
        Unverified: it is not.
    """
    if signed.digest not in DIGESTS:
        text = f"the digest algorithm is {signed.digest}; firmware takes {', '.join(DIGESTS)}"
        raise Unverified("algorithm", text)
    if signed.digest not in signed.digests:
        raise Unverified("algorithm", f"the SignedData does not name the digest {signed.digest}")
    if signed.signer is None:
        raise Unverified("signer", "the signer's certificate is not in the SignedData")
    certificate = load_certificate(signed.certificates[signed.signer])
    if certificate is None:
        raise Unverified("signer", "the signer's certificate cannot be read")
    message = content
    if signed.attributes:
        if hashlib.new(signed.digest, content).digest() != signed.message_digest:
            text = "the content has another digest than the one that was signed"
            raise Unverified("digest", text)
        message = signed.attributes
    _check(certificate, signed, message)
    return certificate


def _check(certificate: x509.Certificate, signed: SignedData, message: bytes) -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    digest = {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}
    algorithm = digest[signed.digest]()
    try:
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and signed.algorithm == "rsassa_pkcs1v15":
            key.verify(signed.signature, message, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey) and signed.algorithm == "ecdsa":
            key.verify(signed.signature, message, ec.ECDSA(algorithm))
        else:
            kind = type(key).__name__.removeprefix("_").removesuffix("PublicKey")
            text = f"signatures of the kind {signed.algorithm} by a key of the kind {kind}"
            raise Unverified("algorithm", f"{text} are not checked")
    except InvalidSignature:
        raise Unverified("signature", "the signature does not fit the content") from None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unverified("signer", f"the signer's key cannot be used: {error}") from error


def load_certificate(der: bytes) -> x509.Certificate | None:
    """A certificate of cryptography, or None."""
    from cryptography import x509

    # Old keys in the field have oddities that cryptography warns of.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return x509.load_der_x509_certificate(der)
        except (ValueError, TypeError, x509.InvalidVersion):
            return None


def find_chain(
    signer: x509.Certificate, included: Sequence[bytes], trusted: bytes
) -> tuple[x509.Certificate, ...]:
    """A chain from a signer to a trusted certificate.

    Args:
        signer: its certificate.
        included: certificates of the SignedData, DER.
        trusted: where the chain must end, DER.

    Returns:
        The signer first, the trusted certificate last; empty when there is no chain.
    """
    end = load_certificate(trusted)
    if end is None:
        return ()
    others = [found for found in map(load_certificate, included) if found is not None]
    if signer == end:
        return (signer,) if _sound(signer, others) else ()
    waiting: list[tuple[x509.Certificate, ...]] = [(signer,)]
    seen = [signer]
    while waiting:
        chain = waiting.pop(0)
        last = chain[-1]
        if len(chain) > DEPTH_LIMIT:
            continue
        below = _depth(chain)
        if _issued(end, last, below, trusted=True):
            return (*chain, end)
        for item in others:
            if item not in seen and _issued(item, last, below, trusted=False):
                seen.append(item)
                waiting.append((*chain, item))
    return ()


def _sound(signer: x509.Certificate, others: Sequence[x509.Certificate]) -> bool:
    """Whether the issuers that a trusted signer brings along are authorities.

    OpenSSL needs none of them, and yet refuses a chain that has one which is not.
    """
    chain = [signer]
    while len(chain) <= DEPTH_LIMIT and not _self_issued(chain[-1]):
        above = [item for item in others if item not in chain and _names(item, chain[-1])]
        if not above:
            break
        chain.append(above[0])
    return all(
        _issued(chain[at], chain[at - 1], _depth(chain[:at]), trusted=at == len(chain) - 1)
        for at in range(1, len(chain))
    )


def _depth(chain: Sequence[x509.Certificate]) -> int:
    """What counts against the path length of the next issuer."""
    return sum(not _self_issued(item) for item in chain[1:])


def _names(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    """Whether a certificate has the name of another's issuer."""
    try:
        return issuer.subject == subject.issuer
    except ValueError:
        return False


def _issued(
    issuer: x509.Certificate, subject: x509.Certificate, below: int, *, trusted: bool
) -> bool:
    """Whether one certificate issued another, and may issue any.

    Ref: OpenSSL crypto/x509 (X509_check_issued, X509_check_ca): key usage must allow it, basic
    constraints say "CA"; a trusted certificate without basic constraints may do when it is an
    old self-signed one or when its key usage allows signing certificates.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        if not _names(issuer, subject):
            return False
        usage = _extension(issuer, x509.KeyUsage)
        basic = _extension(issuer, x509.BasicConstraints)
        if usage is not None and not usage.key_cert_sign:
            return False
        if basic is not None:
            if not basic.ca or (basic.path_length is not None and below > basic.path_length):
                return False
        elif not trusted or not (usage is not None or _old_root(issuer)):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject.verify_directly_issued_by(issuer)
    except (
        ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):  # fmt: skip
        return False
    return True


def _old_root(certificate: x509.Certificate) -> bool:
    return certificate.version.name == "v1" and _self_issued(certificate)


def _self_issued(certificate: x509.Certificate) -> bool:
    try:
        return certificate.subject == certificate.issuer
    except ValueError:
        return False


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def subject_of(certificate: x509.Certificate) -> str:
    """The subject as RFC 4514 text; empty when it cannot be read."""
    try:
        return certificate.subject.rfc4514_string()
    except ValueError:
        return ""


def _bad(offset: int, text: str) -> ImageError:
    return ImageError(
        f"the PKCS#7 signature at 0x{offset:06X} {text}", code="uefi.authentication", offset=offset
    )
