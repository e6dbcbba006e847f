"""Secure Boot's key databases: which there are, what they say, and what a change makes of one.

Changes here are of values; `enrolment` makes whole variable writes of them. Ref: edk2
SecurityPkg/Library/AuthVariableLib/AuthService.c (FilterSignatureList) and
AuthVariableLib.c (modes when the firmware starts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from hwflash.errors import ImageError, UsageError
from hwflash.uefi import guids
from hwflash.uefi.authenticated import TrustAnchor
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.guids import CERT_SHA256, CERT_X509
from hwflash.uefi.keylists import (
    KINDS,
    Entry,
    certificate_der,
    certificates,
    check_lists,
    entries,
    select,
)
from hwflash.uefi.others import Listed
from hwflash.uefi.records import Attribute
from hwflash.uefi.siglist import OWNER_SIZE, Signature, SignatureList, parse_signature_lists
from hwflash.uefi.store import VariableStore

#: Attributes of every key database.
KEY_ATTRIBUTES: Final = (
    Attribute.NON_VOLATILE
    | Attribute.BOOTSERVICE_ACCESS
    | Attribute.RUNTIME_ACCESS
    | Attribute.TIME_BASED_AUTHENTICATED_WRITE_ACCESS
)
_SWITCHES: Final = (
    ("SecureBootEnable", guids.SECURE_BOOT_ENABLE),
    ("CustomMode", guids.CUSTOM_MODE),
)


@dataclass(frozen=True, slots=True)
class Database:
    """A key database.

    Attributes:
        name: of the variable.
        guid: of its vendor.
        purpose: what its entries do, in a few words.
        hashes: whether it may hold hashes of images.
        signers: databases whose certificates may sign updates of it.
    """

    name: str
    guid: UUID
    purpose: str
    hashes: bool
    signers: tuple[str, ...]


DATABASES: Final[dict[str, Database]] = {
    item.name: item
    for item in (
        Database("PK", guids.GLOBAL_VARIABLE, "the platform's owner", False, ("PK",)),
        Database("KEK", guids.GLOBAL_VARIABLE, "may sign updates of db and dbx", False, ("PK",)),
        Database("db", guids.IMAGE_SECURITY, "may boot", True, ("PK", "KEK")),
        Database("dbx", guids.IMAGE_SECURITY, "may not boot", True, ("PK", "KEK")),
        Database("dbt", guids.IMAGE_SECURITY, "may sign time stamps", False, ("PK", "KEK")),
        Database("dbr", guids.IMAGE_SECURITY, "may recover the system", True, ("PK", "KEK")),
    )
}


def find_database(name: str) -> Database:
    """A database by its name, in upper or lower case.

    Raises:
        UsageError: there is none (``usage.database``).
    """
    for item in DATABASES.values():
        if item.name.lower() == name.lower():
            return item
    raise UsageError(
        f"{name!r} is no key database; there are {', '.join(DATABASES)}",
        code="usage.database",
        name=name,
    )


@dataclass(frozen=True, slots=True)
class Change:
    """What a change makes of a database.

    Attributes:
        data: the new value; empty when nothing is left, which deletes the variable.
        added: how many entries came in.
        removed: how many went.
        notes: what was left out or is worth knowing, in sentences.
    """

    data: bytes
    added: int = 0
    removed: int = 0
    notes: tuple[str, ...] = ()


def with_certificate(data: bytes, certificate: bytes, owner: UUID) -> Change:
    """Add a certificate, in a list of its own as firmware does it.

    Args:
        data: the value so far; empty when the variable does not exist.
        certificate: DER or PEM.
        owner: who enrols it.

    Raises:
        ImageError: it is no certificate (``uefi.certificate``), or the lists are damaged
            (``uefi.signature-list``).
    """
    der = certificate_der(certificate)
    same = _present(data, CERT_X509, der)
    if same is not None:
        return Change(data, notes=(_already(same),))
    part = SignatureList(CERT_X509, (Signature(owner, der),))
    return Change(data + part.build(), added=1)


def with_hash(data: bytes, sha256: bytes, owner: UUID) -> Change:
    """Add a SHA-256 of an image, to the last list of such hashes or to a new one.

    Args:
        data: the value so far; empty when the variable does not exist.
        sha256: the 32 bytes, over an image as Authenticode counts them.
        owner: who enrols it.

    Raises:
        UsageError: it has another length (``usage.hash``).
        ImageError: the lists are damaged (``uefi.signature-list``).
    """
    if len(sha256) != 32:
        raise UsageError(
            f"a SHA-256 has 32 bytes, this has {len(sha256)}", code="usage.hash", size=len(sha256)
        )
    same = _present(data, CERT_SHA256, sha256)
    if same is not None:
        return Change(data, notes=(_already(same),))
    parts = list(parse_signature_lists(data))
    new = Signature(owner, sha256)
    for index in reversed(range(len(parts))):
        part = parts[index]
        fits = part.signature_type == CERT_SHA256 and part.signature_size == OWNER_SIZE + 32
        if fits and not part.header and not part.padding:
            parts[index] = replace(part, signatures=(*part.signatures, new))
            break
    else:
        parts.append(SignatureList(CERT_SHA256, (new,)))
    return Change(_built(parts), added=1)


def without(data: bytes, selector: str) -> Change:
    """Remove one entry.

    Args:
        data: the value so far.
        selector: ``#3`` or ``3`` (its index), the beginning of its fingerprint or hash (four
            digits or more), or a part of its certificate's subject.

    Raises:
        UsageError: nothing fits (``usage.key``), or several entries do
            (``usage.key-ambiguous``); ``context["candidates"]`` lists them.
        ImageError: the lists are damaged (``uefi.signature-list``).
    """
    gone = select(entries(data), selector)
    kept: list[SignatureList] = []
    index = 0
    for part in parse_signature_lists(data):
        place = gone.index - index
        index += len(part.signatures)
        if not 0 <= place < len(part.signatures):
            kept.append(part)
            continue
        rest = part.signatures[:place] + part.signatures[place + 1 :]
        if rest:
            kept.append(replace(part, signatures=rest))
    notes = (f"removed {gone.title}",) if kept else (f"removed {gone.title}, the last entry",)
    return Change(_built(kept), removed=1, notes=notes)


def apply_update(data: bytes, payload: bytes, *, append: bool = True) -> Change:
    """Take over the payload of an update: signature lists, appended or in place of the old.

    Entries that are already there, owner and all, are left out when appending (edk2
    FilterSignatureList); what is left keeps its lists.

    Args:
        data: the value so far.
        payload: signature lists.
        append: keep what is there.

    Raises:
        ImageError: firmware would not take the payload, or the old lists are damaged
            (``uefi.signature-list``).
    """
    new = check_lists(payload)
    old = entries(data)
    if not append:
        count = sum(len(part.signatures) for part in new)
        return Change(payload, added=count, removed=len(old))
    known = {
        (part.signature_type, item.owner, item.data)
        for part in parse_signature_lists(data)
        for item in part.signatures
    }
    kept: list[SignatureList] = []
    left_out = 0
    for part in new:
        fresh = tuple(
            item
            for item in part.signatures
            if (part.signature_type, item.owner, item.data) not in known
        )
        left_out += len(part.signatures) - len(fresh)
        if fresh:
            kept.append(replace(part, signatures=fresh))
    notes = (f"{left_out} entries are there already and left out",) if left_out else ()
    added = sum(len(part.signatures) for part in kept)
    return Change(data + _built(kept), added=added, notes=notes)


def _present(data: bytes, kind: UUID, wanted: bytes) -> Entry | None:
    name = KINDS[kind][0]
    found = (item for item in entries(data) if item.kind == name and item.data == wanted)
    return next(found, None)


def _already(entry: Entry) -> str:
    return f"{entry.title} is there already, as #{entry.index}"


def _built(parts: Iterable[SignatureList]) -> bytes:
    return b"".join(part.build() for part in parts)


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """A key database as it stands in a store.

    Attributes:
        data: the value; empty when the variable does not exist.
        timestamp: of the record.
        attributes: of the record.
        offset: image offset of the value, for error messages.
    """

    data: bytes = b""
    timestamp: EfiTime = field(default=EfiTime())
    attributes: int = int(KEY_ATTRIBUTES)
    offset: int = 0


@dataclass(frozen=True, slots=True)
class KeyStore:
    """The variables of a store that decide on Secure Boot.

    Attributes:
        databases: those that exist, by name.
        secure_boot_enable: value of SecureBootEnable, or None without one.
        custom_mode: value of CustomMode, or None without one.
    """

    databases: Mapping[str, StoredKeys]
    secure_boot_enable: int | None = None
    custom_mode: int | None = None

    @classmethod
    def of(cls, store: VariableStore) -> KeyStore:
        """Those of a variable store.

        Raises:
            ImageError: it cannot hold authenticated variables (``uefi.plain-store``).
        """
        if store.kind != "authenticated":
            raise ImageError(
                f"the store at 0x{store.base:06X} has no time stamps: its firmware has no "
                "authenticated variables",
                code="uefi.plain-store",
                offset=store.base,
            )
        return cls.found_by(store.find)

    @classmethod
    def found_by(cls, find: Callable[[str, UUID], Listed | None]) -> KeyStore:
        """Those of whatever store.

        Args:
            find: the live record of a name and GUID, or None.
        """
        found: dict[str, StoredKeys] = {}
        for item in DATABASES.values():
            record = find(item.name, item.guid)
            if record is not None:
                found[item.name] = StoredKeys(
                    record.data, record.time, record.attributes, record.data_offset
                )
        values: list[int | None] = []
        for name, guid in _SWITCHES:
            record = find(name, guid)
            values.append(record.data[0] if record is not None and record.data else None)
        return cls(found, *values)

    def keys(self, name: str) -> StoredKeys:
        """A database; an empty one when the variable does not exist."""
        return self.databases.get(name, StoredKeys())

    @property
    def setup_mode(self) -> bool:
        """Whether there is no platform key, so that firmware takes key writes unsigned."""
        return "PK" not in self.databases

    @property
    def state(self) -> tuple[str, ...]:
        """What the firmware makes of these variables when it starts, in sentences."""
        words: list[str] = []
        if self.setup_mode:
            words.append("there is no platform key: setup mode, Secure Boot is off")
            if self.secure_boot_enable is not None:
                words.append("SecureBootEnable counts for nothing without a platform key")
        elif self.secure_boot_enable is None:
            words.append("user mode: the firmware creates SecureBootEnable, Secure Boot is on")
        elif self.secure_boot_enable == 1:
            words.append("user mode: Secure Boot is on")
        else:
            words.append("user mode: SecureBootEnable switches Secure Boot off")
        if self.enforcing and "db" not in self.databases:
            words.append("there is no db: no signed image is trusted")
        if self.custom_mode:
            words.append("the firmware sets CustomMode back to standard when it starts")
        return tuple(words)

    @property
    def enforcing(self) -> bool:
        """Whether firmware that has Secure Boot will check images."""
        return not self.setup_mode and self.secure_boot_enable in (None, 1)

    def anchors(self, name: str, payload: bytes = b"") -> tuple[TrustAnchor, ...]:
        """The certificates that may sign writes of a database.

        Args:
            name: of the database.
            payload: the new value; the first platform key must sign itself.
        """
        if self.setup_mode and name == "PK":
            own = certificates(payload)[:1]
            return tuple(TrustAnchor("the new PK", item) for item in own)
        found: list[TrustAnchor] = []
        for signer in DATABASES[name].signers:
            stored = self.keys(signer)
            known = certificates(stored.data, stored.offset)
            found += [TrustAnchor(signer, item) for item in known]
        return tuple(found)
