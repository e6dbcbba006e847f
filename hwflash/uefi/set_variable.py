"""How a variable is written, replaced and deleted in flash, and what an append makes of it.

New record: header with state FF, state 7F, name and data, state 3F. Replacing one marks the
old record 3E first and 3C after the new one is in. Whatever operation is the last that was
carried out, the search finds the old value or the new one: 3E counts until there is a 3F of the
same name and GUID.

A power cut can leave a still older record in transition behind. edk2 marks it deleted after the
new record is in, and one such record only. Here all of them are marked first: with two records
in transition and none added firmware reads the last and keeps the first at a reclaim, so that a
second power cut could bring an old value back.

This is the order of firmware up to edk2-stable202311. Later ones write header, name and data in
one go with state FF; a cut in that leaves bytes behind a record that counts as a header alone.

Ref: edk2 MdeModulePkg/Universal/Variable/RuntimeDxe/Variable.c (UpdateVariable) and
SecurityPkg/Library/AuthVariableLib/AuthService.c (FilterSignatureList and its caller).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.guids import GLOBAL_VARIABLE, IMAGE_SECURITY
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Attribute, Record, State, aligned
from hwflash.uefi.siglist import SignatureList, parse_signature_lists
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.uefi.store import VariableStore, findable
from hwflash.uefi.window import filled_with, printable

#: Offset of the state byte in a record's header.
STATE_OFFSET: Final = 2
#: Variables whose appends leave out what is there already (edk2 AuthService.c).
SIGNATURE_DATABASES: Final = frozenset(
    {
        ("KEK", GLOBAL_VARIABLE),
        ("db", IMAGE_SECURITY),
        ("dbx", IMAGE_SECURITY),
        ("dbt", IMAGE_SECURITY),
    }
)
#: Variables that hold signature lists and nothing else.
SIGNED: Final = SIGNATURE_DATABASES | {("PK", GLOBAL_VARIABLE)}


def fits(store: VariableStore, record: Record) -> bool:
    """Whether a record can be appended without a reclaim: there is room, and it is erased."""
    return aligned(record.size) <= len(store.tail) and filled_with(store.tail, 0xFF)


def append_record(nvram: Nvram, record: Record, stored: Record | None) -> None:
    """Write a record behind the last one, and retire the one it replaces.

    Args:
        nvram: the store; `fits` must hold.
        record: the new record; its offset is not looked at.
        stored: the live record of the same variable, or None.
    """
    flash = nvram.flash
    store = nvram.store
    title = printable(record.name)
    placed = record.moved(store.free_offset)
    _retire(nvram, others(store, record.key, stored))
    if stored is not None:
        flash.because(f"{title}: the old record goes into deleted transition")
        _advance(nvram, stored, State.IN_DELETED_TRANSITION)
    header = placed.header_size
    flash.because(f"{title}: header of the new record")
    flash.program(placed.offset, replace(placed, state=State.ERASED).build()[:header])
    flash.because(f"{title}: the new header is valid")
    flash.program(placed.offset + STATE_OFFSET, bytes([State.HEADER_VALID_ONLY]))
    flash.because(f"{title}: name and data of the new record")
    flash.program(placed.offset + header, placed.name_bytes + placed.data)
    # Two added records of one variable would hang OVMF, and none would lose it: the old one must
    # be known to be in transition before the new one is added, and that before the old one goes.
    if stored is not None:
        flash.verify(stored.offset + STATE_OFFSET, 1)
    flash.verify(placed.offset, placed.size)
    flash.because(f"{title}: the new record is added")
    flash.program(placed.offset + STATE_OFFSET, bytes([State.ADDED]))
    if stored is not None:
        flash.verify(placed.offset + STATE_OFFSET, 1)
        flash.because(f"{title}: the old record is deleted")
        # The state byte is 3E by now: with the bit of DELETED cleared as well it is 3C.
        _advance(nvram, stored, State.DELETED_AFTER_TRANSITION)


def delete_record(nvram: Nvram, stored: Record) -> None:
    """Mark a variable deleted: older records in deleted transition first, the live one last."""
    _retire(nvram, others(nvram.store, stored.key, stored))
    nvram.flash.because(f"{printable(stored.name)}: the variable is deleted")
    _advance(nvram, stored, State.DELETED)


def others(store: VariableStore, key: tuple[str, UUID], current: Record | None) -> list[Record]:
    """Further records of a variable that a search would look at."""
    place = None if current is None else current.offset
    return [
        item
        for item in store.records
        if item.key == key and item.offset != place and findable(item)
    ]


def _retire(nvram: Nvram, older: Iterable[Record]) -> None:
    """Mark records deleted that the live one hides."""
    for item in older:
        nvram.flash.because(f"{printable(item.name)}: an older record is deleted")
        _advance(nvram, item, State.DELETED)


def _advance(nvram: Nvram, record: Record, state: State) -> None:
    """Clear the bits of a record's state byte that are clear in ``state``."""
    nvram.flash.program(record.offset + STATE_OFFSET, bytes([record.state & state]))


def appended(name: str, guid: UUID, stored: Record, data: bytes) -> bytes:
    """The value after an append.

    Signatures that a signature database has already are left out; other values are put one
    behind the other.

    Raises:
        EfiError: the new data are no signature lists (``efi.invalid-parameter``).
        ImageError: the stored ones are damaged (``uefi.signature-list``).
    """
    if (name, guid) not in SIGNATURE_DATABASES:
        return stored.data + data
    known = parse_signature_lists(stored.data, stored.data_offset)
    fresh = [_without(known, item) for item in checked_lists(name, data)]
    return stored.data + b"".join(item.build() for item in fresh if item.signatures)


def checked_lists(name: str, data: bytes) -> tuple[SignatureList, ...]:
    """The signature lists of a value that is to be written.

    Raises:
        EfiError: it is not made of signature lists (``efi.invalid-parameter``).
    """
    try:
        lists = parse_signature_lists(data)
    except ImageError as error:
        raise EfiError(
            EfiStatus.INVALID_PARAMETER,
            f"{printable(name)} takes signature lists only: {error.message}",
            name=name,
        ) from error
    signatures = sum(len(item.signatures) for item in lists)
    odd = next((item for item in lists if item.padding), None)
    if odd is not None:
        raise EfiError(
            EfiStatus.INVALID_PARAMETER,
            f"{printable(name)} takes signature lists only: one of {len(odd.build())} bytes "
            f"is not a whole number of signatures of {odd.signature_size} bytes",
            name=name,
        )
    if data and (signatures == 0 or (name == "PK" and signatures > 1)):
        raise EfiError(
            EfiStatus.INVALID_PARAMETER,
            f"{printable(name)} cannot hold {signatures} signatures",
            name=name,
            signatures=signatures,
        )
    return lists


def _without(known: Iterable[SignatureList], new: SignatureList) -> SignatureList:
    """A list without the signatures that lists of its type and size have already."""
    present = {
        signature
        for item in known
        if item.signature_type == new.signature_type and item.signature_size == new.signature_size
        for signature in item.signatures
    }
    kept = tuple(signature for signature in new.signatures if signature not in present)
    return replace(new, signatures=kept)


def stored_time(
    name: str, stored: Record | None, attributes: int, timestamp: EfiTime | None
) -> bytes:
    """The time stamp of the record that is to be written, by the firmware's rules.

    A time must be later than the stored one; an append takes any, and keeps the later one.
    An append that makes a new variable has its time left zero, as in edk2. Without a time the
    stored one stays.

    Raises:
        EfiError: a time for a variable that is not time-based (``efi.invalid-parameter``);
            one that is not later, or has more than date and time (``efi.security-violation``).
    """
    before = bytes(16) if stored is None else stored.timestamp
    if timestamp is None:
        return before
    if not attributes & Attribute.TIME_BASED_AUTHENTICATED_WRITE_ACCESS:
        raise EfiError(
            EfiStatus.INVALID_PARAMETER,
            f"{printable(name)} is not time-based authenticated: it has no time stamp",
            name=name,
        )
    fields = (timestamp.pad1, timestamp.nanosecond, timestamp.time_zone)
    if any((*fields, timestamp.daylight, timestamp.pad2)):
        raise EfiError(
            EfiStatus.SECURITY_VIOLATION,
            f"the time stamp {timestamp} has more than date and time of day",
            name=name,
        )
    append = bool(attributes & Attribute.APPEND_WRITE)
    if stored is None:
        return before if append else timestamp.build()
    if timestamp.order > stored.time.order:
        return timestamp.build()
    if append:
        return before
    raise EfiError(
        EfiStatus.SECURITY_VIOLATION,
        f"{printable(name)} has the time stamp {stored.time}; {timestamp} is not later",
        name=name,
        stored=str(stored.time),
        wanted=str(timestamp),
    )
