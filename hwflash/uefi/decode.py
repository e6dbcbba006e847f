"""What a variable's value means.

Ref: UEFI 2.10 §3.3 (globally defined variables), §32.3 (Secure Boot), edk2
SecurityPkg/Include/Guid/AuthenticatedVariableFormat.h and ImageAuthentication.h. A value that
is not of the form its name promises is shown as bytes, and the reason is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi import guids
from hwflash.uefi.certificates import read_certificate
from hwflash.uefi.devicepath import (
    END,
    END_ENTIRE,
    DevicePath,
    Node,
    looks_like_device_path,
    parse_device_path,
)
from hwflash.uefi.guids import describe
from hwflash.uefi.loadoption import parse_load_option
from hwflash.uefi.siglist import HASH_NAMES, Signature, SignatureList, parse_signature_lists
from hwflash.uefi.window import decode_utf16, printable

_OPTION: Final = re.compile(r"(Boot|Driver|SysPrep|PlatformRecovery|OsRecovery)[0-9A-F]{4}")
_ORDER: Final = re.compile(r"(Boot|Driver|SysPrep|OsRecovery)Order")
_CONSOLE: Final = re.compile(r"(ConIn|ConOut|ErrOut)(Dev)?")
_DATABASES: Final = frozenset(
    name + suffix
    for name in ("PK", "KEK", "db", "dbx", "dbt", "dbr")
    for suffix in ("", "Default", "Backup")
) | {"MokList", "MokListX", "MokListRT", "MokListXRT", "MokNew", "MokDel"}
_DATABASE_GUIDS: Final = (guids.GLOBAL_VARIABLE, guids.IMAGE_SECURITY, guids.SHIM_LOCK)
_BOOLEANS: Final = {
    guids.GLOBAL_VARIABLE: frozenset(
        {"SecureBoot", "SetupMode", "AuditMode", "DeployedMode", "VendorKeys"}
    ),
    guids.SECURE_BOOT_ENABLE: frozenset({"SecureBootEnable"}),
    guids.CUSTOM_MODE: frozenset({"CustomMode"}),
    guids.VENDOR_KEYS_NV: frozenset({"VendorKeysNv"}),
    guids.SHIM_LOCK: frozenset({"MokSBState", "MokDBState", "MokIgnoreDB"}),
}
_ASCII: Final = frozenset({"Lang", "LangCodes", "PlatformLang", "PlatformLangCodes"})
_U16: Final = frozenset({"BootNext", "BootCurrent", "Timeout"})
_OS_INDICATIONS: Final = {
    0x01: "boot to firmware user interface",
    0x02: "time stamp revocation",
    0x04: "file capsule delivery",
    0x08: "FMP capsules",
    0x10: "capsule result variable",
    0x20: "start OS recovery",
    0x40: "start platform recovery",
    0x80: "JSON configuration data",
}
#: Entries and hashes in a summary.
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Decoded:
    """A value in words.

    Attributes:
        kind: ``load-option``, ``option-order``, ``device-path``, ``signature-database``,
            ``certificate-database``, ``boolean``, ``integer``, ``string``, ``flags`` or
            ``bytes``.
        summary: one line.
        lines: everything, for people; empty where the summary says it all.
        facts: the same for scripts, ready for JSON.
        fault: why the value is not what its name promises, or "".
    """

    kind: str
    summary: str
    lines: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    fault: str = ""


def decode(name: str, guid: UUID, data: bytes, offset: int = 0) -> Decoded:
    """Decode a variable's value by its name and GUID, and by its look where these are unknown.

    Args:
        name: of the variable.
        guid: of its vendor.
        data: the value.
        offset: image offset of the value, for faults.
    """
    decoder = _decoder_for(name, guid)
    if decoder is None:
        return _guess(data)
    try:
        return decoder(data, offset)
    except ImageError as error:
        plain = _bytes(data)
        return Decoded(plain.kind, f"{plain.summary} ({error.message})", fault=error.message)


def _decoder_for(name: str, guid: UUID) -> Callable[[bytes, int], Decoded] | None:
    if name in _DATABASES and guid in _DATABASE_GUIDS:
        return _signatures
    if name in _BOOLEANS.get(guid, ()):
        return _boolean
    if guid == guids.CERT_DB and name in ("certdb", "certdbv"):
        return _certdb
    if guid == guids.MONOTONIC_COUNTER and name == "MTC":
        return _integer(4)
    if guid != guids.GLOBAL_VARIABLE:
        return None
    if _OPTION.fullmatch(name):
        return _load_option
    if found := _ORDER.fullmatch(name):
        return _order(found[1])
    if _CONSOLE.fullmatch(name):
        return _device_path
    if name in _ASCII:
        return _ascii
    if name in _U16:
        return _boot_number if name.startswith("Boot") else _integer(2)
    return _os_indications if name.startswith("OsIndications") else None


def vendor_of(name: str) -> UUID | None:
    """The GUID under which the UEFI specification or edk2 has a variable of this name."""
    if name in ("db", "dbx", "dbt", "dbr"):
        return guids.IMAGE_SECURITY
    for guid, names in _BOOLEANS.items():
        if name in names:
            return guid
    forms = (_OPTION, _ORDER, _CONSOLE)
    defined = any(form.fullmatch(name) for form in forms) or name in _ASCII | _U16 | {"PK", "KEK"}
    return guids.GLOBAL_VARIABLE if defined or name.startswith("OsIndications") else None


def _bad(text: str, offset: int) -> ImageError:
    return ImageError(f"the value at 0x{offset:06X} {text}", code="uefi.value", offset=offset)


def _load_option(data: bytes, offset: int) -> Decoded:
    option = parse_load_option(data, offset)
    path = option.device_path
    description = printable(option.description)
    state = "" if option.active else "[inactive] "
    lines = [
        f"description    {description}",
        f"attributes     0x{option.attributes:08X} {', '.join(option.flags)}".rstrip(),
        f"device path    {path.text}",
    ]
    rest = path.rest
    while rest and not path.fault:
        further = parse_device_path(rest)
        lines.append(f"further path   {further.text}")
        if further.fault or len(further.rest) == len(rest):
            break
        rest = further.rest
    text = _as_text(option.optional_data)
    if option.optional_data:
        shown = f'"{text}"' if text else option.optional_data.hex()
        lines.append(f"optional data  {shown}")
    facts = {
        "description": option.description,
        "attributes": option.attributes,
        "active": option.active,
        "flags": option.flags,
        "device_path": path.text,
        "optional_data": option.optional_data.hex(),
    }
    summary = f"{state}{description}: {path.text}"
    return Decoded("load-option", summary, tuple(lines), facts, path.fault)


def _order(prefix: str) -> Callable[[bytes, int], Decoded]:
    def decoder(data: bytes, offset: int) -> Decoded:
        if len(data) % 2:
            raise _bad(f"has {len(data)} bytes, an order has two for each entry", offset)
        names = [
            f"{prefix}{int.from_bytes(data[at : at + 2], 'little'):04X}"
            for at in range(0, len(data), 2)
        ]
        shown = ", ".join(names[:64]) + (f" and {len(names) - 64} more" if names[64:] else "")
        return Decoded("option-order", shown or "empty", facts={"order": names})

    return decoder


def _boot_number(data: bytes, offset: int) -> Decoded:
    if len(data) != 2:
        raise _bad(f"has {len(data)} bytes, not 2", offset)
    name = f"Boot{int.from_bytes(data, 'little'):04X}"
    return Decoded("option-order", name, facts={"order": [name]})


def _device_path(data: bytes, offset: int) -> Decoded:
    path = parse_device_path(data)
    if path.fault and not path.nodes:
        raise _bad(f"is no device path: {path.fault}", offset)
    several = any(node.is_instance_end for node in path.nodes)
    lines = tuple(_instances(path)) if several else ()
    return Decoded("device-path", path.text, lines, {"device_path": path.text}, path.fault)


def _instances(path: DevicePath) -> list[str]:
    """The text of each instance of a multi-instance path."""
    found: list[str] = []
    nodes: list[Node] = []
    for node in (*path.nodes, Node(END, END_ENTIRE)):
        if not (node.is_end or node.is_instance_end):
            nodes.append(node)
        elif nodes:
            found.append(DevicePath(tuple(nodes)).text)
            nodes = []
    return found


def _boolean(data: bytes, offset: int) -> Decoded:
    if len(data) != 1:
        raise _bad(f"has {len(data)} bytes, not 1", offset)
    words = {0: "off", 1: "on"}.get(data[0], f"0x{data[0]:02X}")
    return Decoded("boolean", words, facts={"value": data[0]})


def _integer(size: int) -> Callable[[bytes, int], Decoded]:
    def decoder(data: bytes, offset: int) -> Decoded:
        if len(data) != size:
            raise _bad(f"has {len(data)} bytes, not {size}", offset)
        value = int.from_bytes(data, "little")
        return Decoded("integer", str(value), facts={"value": value})

    return decoder


def _os_indications(data: bytes, offset: int) -> Decoded:
    if len(data) != 8:
        raise _bad(f"has {len(data)} bytes, not 8", offset)
    value = int.from_bytes(data, "little")
    names = [text for bit, text in _OS_INDICATIONS.items() if value & bit]
    unknown = value & ~sum(_OS_INDICATIONS)
    names += [f"0x{unknown:X}"] if unknown else []
    return Decoded("flags", ", ".join(names) or "none", facts={"value": value, "flags": names})


def _ascii(data: bytes, _offset: int) -> Decoded:
    text = data.partition(b"\0")[0].decode("latin-1")
    return Decoded("string", printable(text), facts={"value": text})


# --- Secure Boot -------------------------------------------------------------------------


def _signatures(data: bytes, offset: int) -> Decoded:
    lines: list[str] = []
    facts: list[dict[str, Any]] = []
    names: list[str] = []
    hashes: dict[str, int] = {}
    for entry in parse_signature_lists(data, offset):
        for item in entry.signatures:
            fact, text, name = _signature(entry, item)
            facts.append(fact)
            lines += text
            if name:
                names.append(name)
            else:
                kind = HASH_NAMES.get(entry.signature_type) or describe(entry.signature_type)
                hashes[kind] = hashes.get(kind, 0) + 1
    shown = names[:_SHOWN] + ([f"{len(names) - _SHOWN} more"] if names[_SHOWN:] else [])
    shown += [f"{count} x {kind}" for kind, count in hashes.items()]
    summary = "; ".join(shown) or "no signatures"
    return Decoded("signature-database", summary, tuple(lines), {"signatures": facts})


def _signature(
    entry: SignatureList, item: Signature
) -> tuple[dict[str, Any], list[str], str | None]:
    """Facts, lines, and the name of a certificate; None for anything else."""
    owner = describe(item.owner)
    facts: dict[str, Any] = {
        "type": describe(entry.signature_type),
        "owner": str(item.owner),
        "size": len(item.data),
    }
    found = read_certificate(item.data) if entry.is_x509 else None
    if found is not None:
        facts |= {
            "subject": found.subject,
            "issuer": found.issuer,
            "not_before": found.not_before.isoformat(),
            "not_after": found.not_after.isoformat(),
            "serial": found.serial,
            "sha256": found.sha256,
        }
        name = printable(found.common_name)
        return facts, [
            f"certificate {name}",
            f"  subject  {printable(found.subject)}",
            f"  issuer   {printable(found.issuer)}",
            f"  valid    {found.not_before:%Y-%m-%d} to {found.not_after:%Y-%m-%d}",
            f"  serial   {found.serial}",
            f"  sha256   {found.sha256}",
            f"  owner    {owner}",
        ], name  # fmt: skip
    facts["data"] = item.data.hex()
    if entry.is_x509:
        text = "bytes that are no X.509 certificate"
        return facts, [f"{text}: {item.data[:32].hex()}"], text
    kind = HASH_NAMES.get(entry.signature_type)
    if kind is None:
        return facts, [f"{describe(entry.signature_type)} {item.data.hex()} (owner {owner})"], None
    return facts, [f"{kind} {item.data.hex()} (owner {owner})"], None


def _certdb(data: bytes, offset: int) -> Decoded:
    """Signers of private authenticated variables. Name sizes count UTF-16 characters."""
    if len(data) < 4 or int.from_bytes(data[:4], "little") != len(data):
        raise _bad("has another length than its first four bytes say", offset)
    at = 4
    entries: list[dict[str, Any]] = []
    while at < len(data):
        head = data[at : at + 28]
        if len(head) < 28:
            raise _bad("ends inside an entry", offset + at)
        size, characters, cert_size = (
            int.from_bytes(head[i : i + 4], "little") for i in (16, 20, 24)
        )
        if size != 28 + 2 * characters + cert_size or at + size > len(data):
            raise _bad("has an entry of a wrong size", offset + at)
        name = decode_utf16(data[at + 28 : at + 28 + 2 * characters] + b"\0\0")
        certificate = data[at + size - cert_size : at + size]
        entries.append(
            {"name": name, "guid": str(guids.from_bytes(head[:16])), "data": certificate.hex()}
        )
        at += size
    lines = tuple(f"{printable(item['name'])} {item['guid']}: {item['data']}" for item in entries)
    summary = f"{len(entries)} signers" if len(entries) != 1 else "1 signer"
    return Decoded("certificate-database", summary, lines, {"entries": entries})


# --- by the look -------------------------------------------------------------------------


def _guess(data: bytes) -> Decoded:
    text = _as_text(data)
    if text is not None:
        return Decoded("string", f'"{text}"', facts={"value": text})
    if looks_like_device_path(data):
        path = parse_device_path(data).text
        return Decoded("device-path", path, facts={"device_path": path})
    if len(data) in (1, 2, 4, 8):
        value = int.from_bytes(data, "little")
        shown = f"{data.hex(' ')} ({value})"
        return Decoded("integer", shown, facts={"value": value})
    return _bytes(data)


def _as_text(data: bytes) -> str | None:
    """Text, if the bytes are printable UTF-16 or ASCII with at most a NUL behind."""
    if len(data) >= 4 and len(data) % 2 == 0 and data[1::2].count(0) == len(data) // 2:
        wide = data[::2]
        body = wide.removesuffix(b"\0")
        if body and all(0x20 <= byte < 0x7F for byte in body):
            return body.decode("ascii")
    body = data.removesuffix(b"\0")
    if len(body) >= 4 and all(0x20 <= byte < 0x7F for byte in body):
        return body.decode("ascii")
    return None


def _bytes(data: bytes) -> Decoded:
    if not data:
        return Decoded("bytes", "no bytes")
    shown = data[:16].hex(" ") + (" ..." if len(data) > 16 else "")
    return Decoded("bytes", shown)
