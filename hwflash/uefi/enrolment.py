"""Changes of Secure Boot's keys as whole variable writes, and what they lead to.

An offline edit needs nobody's signature: it takes the place of the firmware, which would ask for
one. Ref: edk2 SecurityPkg/Library/AuthVariableLib/AuthVariableLib.c (modes at start) and
AuthService.c (ProcessVarWithPk, ProcessVarWithKek, AuthServiceInternalUpdateVariable...).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from hwflash.errors import ImageError, UsageError
from hwflash.uefi import secureboot
from hwflash.uefi.authenticated import AuthenticatedUpdate, SignatureReport, verify
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.keylists import entries
from hwflash.uefi.records import Attribute
from hwflash.uefi.secureboot import (
    DATABASES,
    KEY_ATTRIBUTES,
    Change,
    KeyStore,
    StoredKeys,
    find_database,
)

_BYPASS: Final = "no signature authorizes this: the write goes past the firmware"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A variable write that changes a key database.

    Attributes:
        name: of the variable.
        guid: of its vendor.
        attributes: as they are stored, without the append bit.
        data: the whole new value; empty deletes the variable.
        timestamp: to be stored; None when the stored one stays, being no earlier.
        changed: whether there is anything to write.
        added: entries that come in.
        removed: entries that go.
        notes: what happens and what it leads to, in sentences.
        report: the judgment of a signed update; None for an edit of our own.
    """

    name: str
    guid: UUID
    attributes: int
    data: bytes
    timestamp: EfiTime | None
    changed: bool
    added: int = 0
    removed: int = 0
    notes: tuple[str, ...] = ()
    report: SignatureReport | None = None


def after(store: KeyStore, change: KeyChange) -> KeyStore:
    """The variables as they are once a change is made."""
    left = {name: item for name, item in store.databases.items() if name != change.name}
    if change.data:
        time = change.timestamp or store.keys(change.name).timestamp
        left[change.name] = StoredKeys(change.data, time, change.attributes)
    return replace(store, databases=left)


def efi_time(moment: datetime) -> EfiTime:
    """A moment as firmware wants it in a time stamp: UTC, whole seconds."""
    utc = moment.astimezone(UTC)
    return EfiTime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second)


def enrol_certificate(
    store: KeyStore,
    name: str,
    certificate: bytes,
    owner: UUID,
    now: EfiTime,
    *,
    replacing: bool = False,
) -> KeyChange:
    """Add a certificate to a database, or put it in the place of all others.

    Args:
        store: the variables as they are.
        name: of the database.
        certificate: DER or PEM.
        owner: who enrols it.
        now: time stamp to store, unless the stored one is later.
        replacing: remove all entries first; the one way to change a platform key.

    Raises:
        UsageError: PK holds another certificate already (``usage.platform-key``).
        ImageError: it is no certificate (``uefi.certificate``), or the database is damaged
            (``uefi.signature-list``).
    """
    database = find_database(name)
    old = store.keys(database.name)
    if replacing:
        made = secureboot.with_certificate(b"", certificate, owner)
        made = replace(made, removed=_count(old))
    else:
        made = secureboot.with_certificate(_readable(old), certificate, owner)
    return _edit(store, database.name, made, now)


def enrol_hash(store: KeyStore, name: str, sha256: bytes, owner: UUID, now: EfiTime) -> KeyChange:
    """Add the SHA-256 of an image to a database.

    Raises:
        UsageError: the database holds certificates only (``usage.key-kind``), or it is no
            SHA-256 (``usage.hash``).
        ImageError: the database is damaged (``uefi.signature-list``).
    """
    database = find_database(name)
    if not database.hashes:
        raise UsageError(
            f"{database.name} holds certificates, not hashes of images",
            code="usage.key-kind",
            database=database.name,
        )
    made = secureboot.with_hash(_readable(store.keys(database.name)), sha256, owner)
    return _edit(store, database.name, made, now)


def enrol_lists(
    store: KeyStore, name: str, lists: bytes, now: EfiTime, *, replacing: bool = False
) -> KeyChange:
    """Add the entries of signature lists (`*.esl` files) to a database, or replace it by them.

    Raises:
        UsageError: PK would not hold one certificate (``usage.platform-key``).
        ImageError: the lists are none (``uefi.signature-list``, ``uefi.certificate``).
    """
    database = find_database(name)
    old = store.keys(database.name)
    if replacing:
        made = secureboot.apply_update(b"", lists, append=False)
        made = replace(made, removed=_count(old))
    else:
        made = secureboot.apply_update(_readable(old), lists)
    return _edit(store, database.name, made, now)


def remove(store: KeyStore, name: str, selector: str, now: EfiTime) -> KeyChange:
    """Remove one entry from a database; with the last one the variable goes too.

    Raises:
        UsageError: nothing fits (``usage.key``), or several entries do
            (``usage.key-ambiguous``).
        ImageError: the database is damaged (``uefi.signature-list``).
    """
    database = find_database(name)
    made = secureboot.without(_readable(store.keys(database.name)), selector)
    return _edit(store, database.name, made, now)


def clear(store: KeyStore, name: str, now: EfiTime) -> KeyChange:
    """Delete a database, damaged or not. Without PK the firmware is in setup mode."""
    database = find_database(name)
    made = Change(b"", removed=_count(store.keys(database.name)))
    return _edit(store, database.name, made, now)


def verify_update(
    store: KeyStore, name: str, update: AuthenticatedUpdate
) -> tuple[SignatureReport, bool]:
    """Judge a signed update of a database, and find out whether it is meant to be appended.

    The append bit is signed along with everything else, and no file says whether it was set:
    both are tried.

    Args:
        store: the variables as they are.
        name: of the database.
        update: the signed write.

    Returns:
        The report, and whether it appends.

    Raises:
        ImageError: a database that may have signed it is damaged (``uefi.signature-list``).
    """
    database = find_database(name)
    old = store.databases.get(database.name)
    anchors = store.anchors(database.name, update.payload)
    stored = old.timestamp if old is not None else None
    reports: list[tuple[SignatureReport, bool]] = []
    for append in (True, False):
        attributes = KEY_ATTRIBUTES | (Attribute.APPEND_WRITE if append else 0)
        report = verify(update, database.name, database.guid, attributes, anchors, stored)
        if report.intact:
            return report, append
        reports.append((report, append))
    return reports[1] if database.name == "PK" else reports[0]


def apply_signed(
    store: KeyStore, name: str, update: AuthenticatedUpdate, *, force: bool = False
) -> KeyChange:
    """Do to a database what the firmware would do with a signed update.

    Args:
        store: the variables as they are.
        name: of the database.
        update: the signed write.
        force: take it even if the firmware would not.

    Raises:
        UsageError: PK would not hold one certificate (``usage.platform-key``).
        ImageError: the firmware would not take it (``uefi.signature``; ``context["report"]``),
            its payload is no signature lists (``uefi.signature-list``).
    """
    database = find_database(name)
    old = store.keys(database.name)
    report, append = verify_update(store, name, update)
    unsigned = store.setup_mode and database.name != "PK"
    if not (report.valid or unsigned or force):
        raise ImageError(
            f"the firmware would not take this update of {database.name}: {report.reason}",
            code="uefi.signature",
            database=database.name,
            fault=report.fault,
            report=report,
        )
    made = secureboot.apply_update(_readable(old) if append else b"", update.payload, append=append)
    if not append:
        made = replace(made, removed=_count(old))
    notes = [f"signed at {update.timestamp}" + (", to be appended" if append else "")]
    if not report.valid:
        notes.append(f"the signature does not count: {report.reason}")
        notes.append("setup mode: the firmware would take it" if unsigned else _BYPASS)
    # Firmware keeps the later time stamp of an append, and takes replacements only if later.
    # One that is forced in must not let older updates in behind it.
    time = _later(old.timestamp, update.timestamp)
    return _written(store, database.name, made, time, tuple(notes), report)


def _readable(old: StoredKeys) -> bytes:
    """The value, once it is known to hold whole signature lists."""
    entries(old.data, old.offset)
    return old.data


def _count(old: StoredKeys) -> int:
    """How many entries go; none can be counted in a damaged database."""
    try:
        return len(entries(old.data, old.offset))
    except ImageError:
        return 0


def _later(one: EfiTime, other: EfiTime) -> EfiTime:
    return one if one.order > other.order else other


def _edit(store: KeyStore, name: str, made: Change, now: EfiTime) -> KeyChange:
    old = store.keys(name)
    time = _later(old.timestamp, now)
    notes = [_BYPASS]
    if time != now:
        notes.append(f"the stored time stamp {time} is later than {now} and stays")
    if made.data:
        notes.append(f"the firmware will take signed replacements of {name} after {time} only")
    return _written(store, name, made, time, tuple(notes), None)


def _written(
    store: KeyStore,
    name: str,
    made: Change,
    time: EfiTime,
    notes: tuple[str, ...],
    report: SignatureReport | None,
) -> KeyChange:
    database = DATABASES[name]
    if name == "PK" and made.data:
        _check_platform_key(made.data)
    old = store.keys(name)
    changed = made.data != old.data
    stays = bool(old.data) and time.order <= old.timestamp.order
    change = KeyChange(
        name, database.guid, old.attributes, made.data, None if stays else time, changed,
        made.added, made.removed, report=report,
    )  # fmt: skip
    if not changed:
        return replace(change, notes=(*made.notes, f"{name} stays as it is"))
    told = [*made.notes, *notes]
    if old.attributes != KEY_ATTRIBUTES:
        told.append(f"{name} has attributes 0x{old.attributes:02X}, not 0x{KEY_ATTRIBUTES:02X}")
    return replace(change, notes=(*told, *after(store, change).state))


def _check_platform_key(data: bytes) -> None:
    found = entries(data)
    if len(found) != 1 or found[0].certificate is None:
        titles = ", ".join(item.title for item in found[:4])
        raise UsageError(
            f"PK holds one certificate; this would make it {len(found)}: {titles}",
            code="usage.platform-key",
            entries=len(found),
        )
