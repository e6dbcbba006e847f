"""Who a certificate in a signature database is.

`cryptography` is loaded when the first certificate is looked at, and not before.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts of an X.509 certificate.

    Attributes:
        subject: RFC 4514 text.
        issuer: RFC 4514 text.
        common_name: the subject's CN, or its whole text.
        not_before: start of validity, UTC.
        not_after: end of validity, UTC.
        serial: serial number, hexadecimal.
        sha256: fingerprint of the certificate.
    """

    subject: str
    issuer: str
    common_name: str
    not_before: datetime
    not_after: datetime
    serial: str
    sha256: str


def read_certificate(der: bytes) -> Certificate | None:
    """The facts of a DER certificate; None when the bytes are none."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    readable = {NameOID.EMAIL_ADDRESS: "emailAddress"}
    # Old keys in the field have oddities that cryptography warns of; a reader is not the
    # place to judge them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = x509.load_der_x509_certificate(der)
            names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            subject = found.subject.rfc4514_string(readable)
            return Certificate(
                subject=subject,
                issuer=found.issuer.rfc4514_string(readable),
                common_name=str(names[0].value) if names else subject,
                not_before=found.not_valid_before_utc,
                not_after=found.not_valid_after_utc,
                serial=f"{found.serial_number:x}",
                sha256=hashlib.sha256(der).hexdigest(),
            )
        except (ValueError, TypeError, x509.InvalidVersion):
            return None
