"""Apple's Fsys, Gaid, SysF and Diag stores: named values of a Mac under one CRC-32.

An 11-byte header has the signature, five bytes whose meaning is not known, and the size of the
store (u16). Each entry is the length of its name (bit 7: it does not count any more), the name
in ASCII, the length of the data (u16), the data. A name "EOF" without data ends them; zeros
follow, and the last four bytes are the CRC-32 of everything before.

Ref: UEFITool common/nvram.h, common/ksy/apple_fsys.ksy and apple_sysf.ksy, nvramparser.cpp.

Limits: there are no GUIDs and no attributes in these stores. ``Fsys`` holds the serial number,
``Gaid`` a machine's other identities; they are shown as they are.
"""

from __future__ import annotations

import zlib
from typing import Final

from hwflash.uefi.layouts import FSYS_HEADER
from hwflash.uefi.others import OtherStore, OtherVariable, duplicates, size_anomaly, tail_anomaly
from hwflash.uefi.window import Anomaly, Window

SIGNATURES: Final = (b"Fsys", b"Gaid", b"SysF", b"Diag")
_CRC: Final = 4
_DELETED: Final = 0x80
_END: Final = b"EOF"


def size_at(window: Window, base: int) -> int | None:
    """Bytes that the store at an offset would have; None where there cannot be one."""
    if window.at(base, 4) not in SIGNATURES or not window.has(base, FSYS_HEADER.size):
        return None
    size = FSYS_HEADER.fields(window.data, base - window.base)["size"]
    length = window.at(base + FSYS_HEADER.size, 1)
    if size <= FSYS_HEADER.size + _CRC or not length or not length[0] & 0x7F:
        return None
    name = window.at(base + FSYS_HEADER.size + 1, length[0] & 0x7F)
    return size if all(0x20 <= byte < 0x7F for byte in name.rstrip(b"\0")) else None


def parse_fsys(window: Window, base: int) -> OtherStore | None:
    """Read the store at ``base``; None where there is none.

    The signatures are words that stand in texts, too: the checksum must be right, or the entries
    must go on to an EOF. A store has 64 KiB at most and needs no limit of its own.
    """
    size = size_at(window, base)
    if size is None:
        return None
    whole = window.at(base, size)
    sealed = zlib.crc32(whole[:-_CRC]) == int.from_bytes(whole[-_CRC:], "little")
    if not sealed and bytes([len(_END)]) + _END not in whole:
        return None
    anomalies: list[Anomaly] = []

    def odd(code: str, at: int, text: str) -> None:
        anomalies.append(Anomaly(f"fsys.{code}", at, text, "error"))

    name = window.at(base, 4).decode()
    end = base + size - _CRC
    beyond = size_anomaly("fsys", base + 9, base, size, window.end)
    if beyond is not None:
        anomalies.append(beyond)
        end = window.end
    elif not sealed:
        stored, actual = int.from_bytes(whole[-_CRC:], "little"), zlib.crc32(whole[:-_CRC])
        odd("crc", end, f"the store's CRC-32 is {stored:08X}, its content needs {actual:08X}")
    records: list[OtherVariable] = []
    at = base + FSYS_HEADER.size
    while True:
        record = _entry(window, at, end)
        if record is None:
            if anomalies:
                return None
            odd("entry", at, "an entry reaches beyond the store, or there is no EOF")
            break
        at = record.end
        if record.name == _END.decode() and not record.data_offset:
            break
        records.append(record)
    tail = window.at(at, end - at)
    rubbish = tail_anomaly("fsys", at, tail, 0)
    anomalies += [rubbish] if rubbish is not None else []
    variables = tuple(records)
    anomalies += duplicates(variables, "fsys")
    return OtherStore(
        "apple-fsys", f"Apple {name} store", base, size, variables,
        tuple(sorted(anomalies, key=lambda item: item.offset)),
        0 if rubbish else len(tail),
        FSYS_HEADER.size + 1 + len(_END) + _CRC,
    )  # fmt: skip


def _entry(window: Window, at: int, end: int) -> OtherVariable | None:
    """The entry at an offset; EOF has data offset 0. None where it reaches beyond the store."""
    first = window.at(at, 1)
    if not first or at >= end:
        return None
    length = first[0] & 0x7F
    name = window.at(at + 1, length).rstrip(b"\0")
    body = at + 1 + length
    if not length or body > end:
        return None
    if name == _END:
        return OtherVariable(at, body - at, first[0], "added", "EOF", None, 0, b"", 0)
    size = int.from_bytes(window.at(body, 2), "little")
    data = body + 2
    if data + size > end:
        return None
    state = "deleted" if first[0] & _DELETED else "added"
    return OtherVariable(
        at, data + size - at, first[0], state, name.decode("latin-1"), None, 0,
        window.at(data, size), data,
    )  # fmt: skip
