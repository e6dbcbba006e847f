"""Secure Boot keys of a store: what is there, and a change of it written as firmware would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.uefi.authenticated import SignatureReport
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.enrolment import KeyChange, KeyStore, efi_time
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.rewrite import Order
from hwflash.uefi.secureboot import Entry, entries
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import printable

#: Bytes of a file at most: the largest is a UEFI program whose hash is enrolled.
FILE_LIMIT = 64 << 20


def now() -> EfiTime:
    """The present moment, as a time stamp."""
    return efi_time(datetime.now(UTC))


def load_file(path: Path) -> bytes:
    """The bytes of a certificate, of signature lists or of a signed update.

    Raises:
        EnvironmentFault: it cannot be read (``environment.unreadable``).
        ImageError: it is longer than anything of this kind (``image.too-large``).
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be read: {error.strerror or error}",
            code="environment.unreadable",
            file=str(path),
            errno=error.errno,
        ) from error
    if len(content) > FILE_LIMIT:
        raise ImageError(
            f"{path} has more than {FILE_LIMIT} bytes", code="image.too-large", file=str(path)
        )
    return content


def change_keys(nvram: Nvram, made: Callable[[KeyStore], KeyChange], order: Order) -> KeyChange:
    """Make a change of a database and write it.

    Args:
        nvram: the store.
        made: the change, from the keys as they are.
        order: of a rewrite of the store.

    Raises:
        UsageError, ImageError: what `hwflash.uefi.enrolment` says of the change.
        EfiError: what firmware would answer.
    """
    change = made(KeyStore.of(nvram.store))
    if change.changed:
        services = VariableServices(nvram, order=order)
        services.set_variable(
            change.name, change.guid, change.attributes, change.data,
            timestamp=change.timestamp, force=True,
        )  # fmt: skip
    return change


def database_keys(store: KeyStore) -> list[dict[str, Any]]:
    """The databases as scripts get them."""
    found: list[dict[str, Any]] = []
    for name, stored in store.databases.items():
        fault = ""
        listed: tuple[Entry, ...] = ()
        try:
            listed = entries(stored.data, stored.offset)
        except ImageError as error:
            fault = error.message
        found.append(
            {
                "name": name,
                "size": len(stored.data),
                "timestamp": None if stored.timestamp.is_zero else str(stored.timestamp),
                "entries": [_entry_keys(entry) for entry in listed],
                "fault": fault,
            }
        )
    return found


def _entry_keys(entry: Entry) -> dict[str, Any]:
    known = entry.certificate
    return {
        "index": entry.index,
        "kind": entry.kind,
        "owner": str(entry.owner),
        "title": entry.title,
        "fingerprint": entry.fingerprint,
        "subject": printable(entry.subject),
        "issuer": printable(known.issuer) if known is not None else "",
        "not_before": str(known.not_before) if known is not None else None,
        "not_after": str(known.not_after) if known is not None else None,
        "revoked_at": str(entry.revoked_at) if entry.revoked_at is not None else None,
    }


def report_keys(report: SignatureReport) -> dict[str, Any]:
    """The judgment of a signature as scripts get it."""
    return {
        "valid": report.valid,
        "fault": report.fault,
        "reason": report.reason,
        "intact": report.intact,
        "signer": report.signer,
        "digest": report.digest,
        "algorithm": report.algorithm,
        "trusted_by": report.trusted_by.database if report.trusted_by is not None else None,
        "chain": list(report.chain),
        "notes": list(report.notes),
    }
