"""Stores of other formats, put together byte by byte from their published layouts.

Nothing of hwflash is used here, so that what reads them is not judged by itself. Ref: UEFITool
common/nvram.h and common/ksy; UEFI PI 1.8 volume 3 for volumes and files.
"""

from __future__ import annotations

import struct
import zlib
from uuid import UUID

GLOBAL = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SETUP = UUID("ec87d643-eba4-4bb5-a1e5-3f3e36b20da9")
SECURITY = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
NV_VOLUME = UUID("fff12b8d-7696-4c8b-a985-2747075b4f50")
FFS2 = UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3")
NVAR_FILE = UUID("cef5b9a3-476d-497f-9fdc-e98143e0422c")
DEFAULTS_FILE = UUID("9221315b-30bb-46b5-813e-1b1bf4712bd3")

RUNTIME, ASCII, GUID, DATA_ONLY, EXTENDED, HARDWARE, AUTH, VALID = (1 << bit for bit in range(8))
LAST = 0xFFFFFF


def utf16(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


# --- volumes and files ----------------------------------------------------------------------


def volume(body: bytes, system: UUID, size: int, *, polarity: bool = True) -> bytes:
    """A firmware volume of 4 KiB blocks with this behind its header."""
    attributes = 0x4FEFF if polarity else 0x4F6FF
    header = bytearray(
        bytes(16) + system.bytes_le
        + struct.pack("<Q4sIHHHBB", size, b"_FVH", attributes, 72, 0, 0, 0, 2)
        + struct.pack("<4I", size // 4096, 4096, 0, 0)
    )  # fmt: skip
    total = sum(struct.unpack("<36H", header)) & 0xFFFF
    header[50:52] = struct.pack("<H", -total & 0xFFFF)
    return (bytes(header) + body).ljust(size, b"\xff" if polarity else b"\0")


def ffs_file(name: UUID, content: bytes, *, state: int = 0xF8) -> bytes:
    """A raw file, padded to 8 bytes."""
    size = (24 + len(content)).to_bytes(3, "little")
    head = bytearray(name.bytes_le + b"\0\xaa\x01\0" + size + b"\0")
    head[16] = -(sum(head) - 0xAA) & 0xFF
    head[23] = state
    whole = bytes(head) + content
    return whole + b"\xff" * (-len(whole) % 8)


# --- AMI NVAR ---------------------------------------------------------------------------------


def nvar_entry(
    name: str = "", data: bytes = b"", *, bits: int = VALID | ASCII, guid: UUID | int = 0,
    following: int = LAST, extended: bytes | None = None,
) -> bytes:  # fmt: skip
    """One entry; ``extended`` is the extended header without checksum and size."""
    body = b""
    if not bits & DATA_ONLY:
        if isinstance(guid, UUID):
            bits |= GUID
            body += guid.bytes_le
        else:
            body += bytes([guid])
        body += (
            name.encode("latin-1") + b"\0" if bits & ASCII else (name + "\0").encode("utf-16-le")
        )
    tail = b""
    if extended is not None:
        bits |= EXTENDED
        tail = extended + (b"\0" if extended[0] & 1 else b"") + bytes(2)
        tail = tail[:-2] + struct.pack("<H", len(tail))
    size = 10 + len(body) + len(data) + len(tail)
    if extended is not None and extended[0] & 1:
        total = sum(body) + sum(data) + sum(tail) + sum(struct.pack("<H", size)) + bits
        tail = tail[:-3] + bytes([-total & 0xFF]) + tail[-2:]
    head = b"NVAR" + struct.pack("<H", size) + struct.pack("<I", following | bits << 24)
    return head + body + data + tail


def nvar_store(entries: list[bytes], guids: list[UUID], size: int) -> bytes:
    """Entries from the start, GUIDs from the end downwards, FF between them."""
    table = b"".join(guid.bytes_le for guid in reversed(guids))
    body = b"".join(entries)
    return body + b"\xff" * (size - len(body) - len(table)) + table


def nvar_sample(size: int = 0x2000) -> bytes:
    """Old and new values, a deleted variable, all kinds of names and extended headers."""
    timeout_new = nvar_entry(data=b"\5\0", bits=VALID | DATA_ONLY)
    timeout_mid = nvar_entry(data=b"\3\0", bits=VALID | DATA_ONLY, following=len(timeout_new))
    lang = nvar_entry("PlatformLang", b"en-US\0", bits=VALID | ASCII | RUNTIME)
    head = nvar_entry("Timeout", b"\1\0", bits=VALID | ASCII | RUNTIME, following=LAST)
    head = nvar_entry(
        "Timeout", b"\1\0", bits=VALID | ASCII | RUNTIME, following=len(head) + len(lang)
    )
    signed = nvar_entry(
        "db", b"keys", bits=VALID | ASCII | RUNTIME | AUTH, guid=2,
        extended=b"\x21" + bytes.fromhex("0011223344556677") + bytes(range(32)),
    )  # fmt: skip
    inner = nvar_store([nvar_entry("Setup", b"\7" * 8)], [SETUP], 64)
    entries = [
        head, lang, timeout_mid, timeout_new,
        nvar_entry("Setup", b"\1" * 8, guid=1),
        nvar_entry("Wide", b"utf", bits=VALID, guid=SETUP),
        nvar_entry("Gone", b"old", bits=ASCII),
        nvar_entry("Checked", b"sum", guid=1, extended=b"\x01"),
        signed,
        nvar_entry("HwErr", b"\2", bits=VALID | ASCII | HARDWARE | RUNTIME),
        nvar_entry("StdDefaults", inner, guid=1),
    ]  # fmt: skip
    return nvar_store(entries, [GLOBAL, SETUP, SECURITY], size)


def nvar_image(store: bytes | None = None, size: int = 0x4000) -> bytes:
    """A volume with the AMI file."""
    content = nvar_sample() if store is None else store
    return volume(ffs_file(NVAR_FILE, content), FFS2, size)


# --- $VSS ---------------------------------------------------------------------------------------


def vss_plain(
    name: str, data: bytes, guid: UUID = GLOBAL, *, state: int = 0x7F, attributes: int = 7
) -> bytes:
    wide = utf16(name)
    head = struct.pack("<HBBIII", 0x55AA, state, 0, attributes, len(wide), len(data))
    return head + guid.bytes_le + wide + data


def vss_apple(
    name: str, data: bytes, guid: UUID = GLOBAL, *, state: int = 0x7F, crc: int | None = None
) -> bytes:
    wide = utf16(name)
    return (
        struct.pack("<HBBIII", 0x55AA, state, 0, 0x80000007, len(wide), len(data)) + guid.bytes_le
        + struct.pack("<I", zlib.crc32(data) if crc is None else crc) + wide + data
    )  # fmt: skip


def vss_auth(
    name: str, data: bytes, guid: UUID = SECURITY, *, state: int = 0x7F, attributes: int = 0x27,
    time: bytes = bytes(16), count: int = 0,
) -> bytes:  # fmt: skip
    wide = utf16(name)
    return (
        struct.pack("<HBBIQ", 0x55AA, state, 0, attributes, count) + time
        + struct.pack("<III", 0, len(wide), len(data)) + guid.bytes_le + wide + data
    )  # fmt: skip


def vss_legacy(name: str, data: bytes, guid: UUID = GLOBAL, *, state: int = 0xFC) -> bytes:
    wide = utf16(name)
    size = 28 + len(wide) + len(data)
    return struct.pack("<HBBII", 0x55AA, state, 0, 7, size) + guid.bytes_le + wide + data


def vss_store(
    records: list[bytes], size: int, *, signature: bytes = b"$VSS", align: int = 1
) -> bytes:
    """Header, records, FF to the end."""
    head = signature + struct.pack("<IBBHI", size, 0x5A, 0xFE, 0, 0)
    for record in records:
        head += record + b"\xff" * (-len(head + record) % align)
    return head.ljust(size, b"\xff")


def vss_image(store: bytes, size: int = 0x4000) -> bytes:
    """An NV volume with this behind its header."""
    return volume(store, NV_VOLUME, size)


def vss_sample(size: int = 0x2000) -> bytes:
    """The records of a Phoenix or Insyde board: what counts is in state 7F."""
    stamp = struct.pack("<HBBBBBBIhBB", 2024, 5, 17, 10, 20, 30, 0, 0, 0, 0, 0)
    return vss_store(
        [
            vss_plain("Timeout", b"\1\0", state=0x7D),
            vss_plain("Timeout", b"\5\0"),
            vss_auth("db", b"keys", time=stamp),
            vss_plain("Setup", bytes(range(16)), SETUP, attributes=3),
            vss_plain("Moved", b"old", state=0x7E),
        ],
        size,
    )


def factory_copy(store: bytes) -> bytes:
    """What Insyde has in front of the copy of its defaults."""
    head = volume(b"", NV_VOLUME, 0x1000)[:72]
    return b"_FDC" + struct.pack("<I", 0x50 + len(store)) + head + store


# --- EVSA, Fsys ---------------------------------------------------------------------------------


def evsa_entry(kind: int, body: bytes, *, size: int | None = None) -> bytes:
    head = struct.pack("<H", 4 + len(body) if size is None else size)
    summed = head + (body if size is None else body[: size - 4])
    return bytes([kind, -sum(summed) & 0xFF]) + head + body


def evsa_data(guid: int, name: int, data: bytes, *, kind: int = 0xE3, attributes: int = 7) -> bytes:
    return evsa_entry(kind, struct.pack("<HHI", guid, name, attributes) + data)


def evsa_long(guid: int, name: int, data: bytes) -> bytes:
    """A value whose size stands in front of it; the entry's own size is that of its header."""
    head = struct.pack("<HHII", guid, name, 0x10000007, len(data))
    return evsa_entry(0xE3, head + data, size=16)


def evsa_store(entries: list[bytes], size: int) -> bytes:
    head = evsa_entry(0xEC, b"EVSA" + struct.pack("<III", 0, size, 0))
    return (head + b"".join(entries)).ljust(size, b"\xff")


def evsa_guid(number: int, guid: UUID, *, kind: int = 0xE1) -> bytes:
    return evsa_entry(kind, struct.pack("<H", number) + guid.bytes_le)


def evsa_name(number: int, text: str, *, kind: int = 0xE2) -> bytes:
    return evsa_entry(kind, struct.pack("<H", number) + utf16(text))


def evsa_sample(size: int = 0x1000) -> bytes:
    return evsa_store(
        [
            evsa_guid(0, GLOBAL),
            evsa_guid(1, SETUP, kind=0xED),
            evsa_name(0, "Timeout"), evsa_name(1, "Setup"), evsa_name(2, "Long"),
            evsa_data(0, 0, b"\1\0", kind=0x83),
            evsa_data(0, 0, b"\3\0"),
            evsa_data(1, 1, b"\1" * 8, kind=0xEF, attributes=3),
            evsa_data(0, 0, b"\5\0"),
            evsa_long(1, 2, b"long value"),
        ],
        size,
    )  # fmt: skip


def fsys_entry(name: str, data: bytes, *, deleted: bool = False) -> bytes:
    return bytes([len(name) | deleted << 7]) + name.encode() + struct.pack("<H", len(data)) + data


def fsys_store(entries: list[bytes], size: int, *, signature: bytes = b"Fsys") -> bytes:
    body = signature + b"\1\x0d\0\0\0" + struct.pack("<H", size) + b"".join(entries) + b"\3EOF"
    body = body.ljust(size - 4, b"\0")
    return body + struct.pack("<I", zlib.crc32(body))


def fsys_sample(size: int = 0x800) -> bytes:
    entries = [
        fsys_entry("ssn", b"C02TEST00000"), fsys_entry("hwc", b"XXXX"),
        fsys_entry("old", b"gone", deleted=True),
    ]  # fmt: skip
    return fsys_store(entries, size)
