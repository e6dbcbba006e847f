"""What the firmware's variable services refuse, and with which status.

Checks only: nothing is read from flash and nothing changed. Their order is that of edk2, since
a call can be wrong in several ways and has one status.

Ref: edk2 MdeModulePkg/Universal/Variable/RuntimeDxe/Variable.c
(VariableServiceSetVariable, UpdateVariable, VariableServiceQueryVariableInfo),
MdeModulePkg/Library/VarCheckUefiLib (hardware error records),
SecurityPkg/Library/AuthVariableLib/AuthService.c.
"""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.find import Found
from hwflash.uefi.records import LAYOUTS, Attribute, Record, StoreFormat, short_attributes
from hwflash.uefi.recover import store_fault
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.uefi.variable_limits import AUTHENTICATED, Limits
from hwflash.uefi.window import decode_utf16, encode_utf16, printable

#: EfiHardwareErrorVariable.
HARDWARE_ERROR: Final = UUID("414e6bdd-e47b-47cc-b244-bb61020cf516")
HARDWARE_ERROR_NAME: Final = re.compile(r"HwErrRec[0-9A-Fa-f]{4}")
#: Attributes that SetVariable knows (edk2 EFI_VARIABLE_ATTRIBUTES_MASK).
ATTRIBUTES_MASK: Final = 0x7F
ACCESS: Final = int(Attribute.BOOTSERVICE_ACCESS | Attribute.RUNTIME_ACCESS)
#: Errors of a store that a refusal names; the others are counted.
SHOWN: Final = 3


def canonical(name: str) -> str:
    """A name as it is read back: two lone surrogates that make a pair are one character.

    A NUL is kept, to be refused.
    """
    if "\0" in name or name.isascii():
        return name
    return decode_utf16(encode_utf16(name))


def check_request(
    name: str,
    guid: UUID,
    attributes: int,
    data: bytes,
    *,
    kind: StoreFormat,
    limits: Limits,
    force: bool,
) -> None:
    """What SetVariable refuses before it looks for the variable.

    Raises:
        EfiError: ``efi.invalid-parameter``, ``efi.security-violation``.
    """
    if not name:
        reason = "its name is empty"
    elif "\0" in name:
        reason = "its name has a NUL"
    else:
        reason = _bad_attributes(attributes) or _not_taken(attributes, kind, limits)
    if reason:
        raise invalid(name, attributes, reason)
    if attributes & AUTHENTICATED and not force:
        raise _unsigned(name, attributes)
    check_size(name, attributes, len(data), kind=kind, limits=limits)
    deletes = not attributes or not (data or attributes & Attribute.APPEND_WRITE)
    named = guid == HARDWARE_ERROR and HARDWARE_ERROR_NAME.fullmatch(name)
    if attributes & Attribute.HARDWARE_ERROR_RECORD and not deletes and not named:
        reason = f"a hardware error record is HwErrRec#### of {HARDWARE_ERROR}"
        raise invalid(name, attributes, reason)


def check_size(name: str, attributes: int, size: int, *, kind: StoreFormat, limits: Limits) -> None:
    """Refuse a value of ``size`` bytes that the firmware would not take.

    Raises:
        EfiError: ``efi.invalid-parameter``, which is what edk2 returns here.
    """
    total = len(encode_utf16(name)) + size
    most = max(limits.largest(attributes) - LAYOUTS[kind].size, 0)
    if total > most:
        text = f"name and data have {total} bytes, the firmware takes {most}"
        raise invalid(name, attributes, text, size=total, limit=most)


def check_match(stored: Record, attributes: int, *, visible: bool, force: bool) -> None:
    """What SetVariable refuses because of the variable that is there.

    Args:
        stored: the live record.
        attributes: those of the call; 0 deletes.
        visible: it is boot time, or the variable has run-time access.
        force: authenticated variables are written without a signature.

    Raises:
        EfiError: ``efi.write-protected``, ``efi.invalid-parameter``,
            ``efi.security-violation``.
    """
    name = stored.name
    if not visible:
        raise EfiError(
            EfiStatus.WRITE_PROTECTED,
            f"{printable(name)} has no run-time access and cannot be changed at run time",
            name=name,
            offset=stored.offset,
        )
    if attributes and attributes & ~int(Attribute.APPEND_WRITE) != stored.attributes:
        have = short_attributes(stored.attributes)
        raise invalid(name, attributes, f"it is stored with {have}", stored=stored.attributes)
    if stored.attributes & AUTHENTICATED and not force:
        raise _unsigned(name, stored.attributes)


def check_new(name: str, attributes: int, *, at_runtime: bool) -> None:
    """What SetVariable refuses to create.

    Raises:
        EfiError: without run-time access at run time (``efi.invalid-parameter``); volatile,
            which firmware would keep in memory (``efi.unsupported``).
    """
    if at_runtime and not attributes & Attribute.RUNTIME_ACCESS:
        raise invalid(name, attributes, "at run time only variables with RT are created")
    if attributes & Attribute.NON_VOLATILE:
        return
    if at_runtime:
        raise invalid(name, attributes, "at run time only variables with NV are created")
    raise EfiError(
        EfiStatus.UNSUPPORTED,
        f"{printable(name)} would be volatile ({short_attributes(attributes)}): firmware keeps "
        "those in memory, this store holds non-volatile variables",
        name=name,
        attributes=attributes,
    )


def check_query(attributes: int, *, kind: StoreFormat, limits: Limits, at_runtime: bool) -> None:
    """What QueryVariableInfo refuses.

    Raises:
        EfiError: ``efi.invalid-parameter``, ``efi.unsupported``.
    """
    access = attributes & ACCESS
    volatile = not attributes & Attribute.NON_VOLATILE
    status, reason = EfiStatus.INVALID_PARAMETER, ""
    if not attributes:
        reason = "no attribute is given"
    elif not attributes & ATTRIBUTES_MASK:
        status, reason = EfiStatus.UNSUPPORTED, "no known attribute is given"
    elif access == Attribute.RUNTIME_ACCESS:
        reason = "RT needs BS"
    elif at_runtime and not attributes & Attribute.RUNTIME_ACCESS:
        reason = "at run time RT is needed"
    elif volatile and attributes & Attribute.HARDWARE_ERROR_RECORD:
        reason = "HR needs NV"
    elif taken := _not_taken(attributes, kind, limits):
        status, reason = EfiStatus.UNSUPPORTED, taken
    elif volatile:
        status, reason = EfiStatus.UNSUPPORTED, "volatile variables are not in this store"
    if reason:
        shown = short_attributes(attributes)
        raise EfiError(status, f"no answer for {shown}: {reason}", attributes=attributes)


def check_store(found: Found) -> None:
    """Refuse a store in which a change would be lost at the next boot, or do harm.

    An error of a store makes firmware hang, lose data or start over, so each of them counts.

    Raises:
        ImageError: a fault-tolerant write is pending, or the work space is to be restored from
            the spare area (``ftw.pending``); there are errors, or live records that the chain
            does not reach (``uefi.unhealthy``).
    """
    ftw = found.ftw
    # An entry that nobody has allocated is a torn one: the next write renews the work space.
    pending = ftw.pending is not None and ftw.pending.header_allocated
    if pending or ftw.verdict == "restore-work-space":
        offset = found.base if ftw.work is None else ftw.work.address
        raise ImageError(
            f"a fault-tolerant write is not finished in the work space at 0x{offset:06X}: "
            f"{ftw.text}",
            code="ftw.pending",
            offset=offset,
            verdict=ftw.verdict,
        )
    errors = [item for item in found.anomalies if item.severity == "error"]
    if errors:
        text = "; ".join(str(item) for item in errors[:SHOWN])
        more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise ImageError(
            f"the variable store at 0x{found.base:06X} has errors: {text}{more}",
            code="uefi.unhealthy",
            offset=found.base,
            anomalies=[item.code for item in errors],
        )
    areas = found.areas.variables
    unreachable = store_fault(found.window.within(areas.address, areas.length), found)
    if unreachable is not None:
        raise ImageError(
            f"{unreachable}: a reclaim would lose them", code="uefi.unhealthy", offset=found.base
        )


def not_found(name: str, guid: UUID) -> EfiError:
    """EFI_NOT_FOUND for a variable."""
    text = f"there is no variable {printable(name)!r} {guid}"
    return EfiError(EfiStatus.NOT_FOUND, text, name=name, guid=str(guid))


def full(record: Record, room: int, why: str) -> EfiError:
    """EFI_OUT_OF_RESOURCES for a record that does not fit."""
    return EfiError(
        EfiStatus.OUT_OF_RESOURCES,
        f"{printable(record.name)} needs {record.size} bytes, the store has {room}: {why}",
        name=record.name,
        needed=record.size,
        room=room,
    )


def invalid(name: str, attributes: int, reason: str, **context: object) -> EfiError:
    """EFI_INVALID_PARAMETER for a variable."""
    return EfiError(
        EfiStatus.INVALID_PARAMETER,
        f"variable {printable(name)!r} ({short_attributes(attributes)}): {reason}",
        name=name,
        attributes=attributes,
        **context,
    )


def _unsigned(name: str, attributes: int) -> EfiError:
    return EfiError(
        EfiStatus.SECURITY_VIOLATION,
        f"{printable(name)} is authenticated ({short_attributes(attributes)}): firmware takes "
        "signed writes only",
        name=name,
        attributes=attributes,
    )


def _bad_attributes(attributes: int) -> str:
    """What no firmware takes, in words; empty when there is nothing."""
    if attributes & ~ATTRIBUTES_MASK:
        return f"unknown attributes 0x{attributes & ~ATTRIBUTES_MASK:X}"
    if attributes & ACCESS == Attribute.RUNTIME_ACCESS:
        return "RT needs BS"
    if attributes & AUTHENTICATED == AUTHENTICATED:
        return "AW and AT exclude each other"
    return ""


def _not_taken(attributes: int, kind: StoreFormat, limits: Limits) -> str:
    """What this store does not take, in words; empty when it does."""
    if attributes & AUTHENTICATED:
        return "the store has no authenticated variables" if kind == "plain" else ""
    if attributes & Attribute.HARDWARE_ERROR_RECORD and not limits.hardware_error_storage:
        return "the store has no room for hardware error records"
    return ""
