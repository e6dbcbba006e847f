"""Phoenix EVSA: a store of tagged entries; names, GUIDs and values refer to each other by number.

Each entry has a type, a checksum, and its size (u16). The first one (EC) is the store's own, with
"EVSA", attributes and the size of the store. ED and E1 give a GUID a number, EE and E2 a name;
EF and E3 hold a value with the numbers of both and its attributes, 83 is a value that was
deleted. Bit 28 of the attributes says that the size of the data, then longer than 64 KiB, stands
in front of it. The checksum makes the bytes from the size on add up to zero.

Ref: UEFITool common/nvram.h (types, bit 28), common/ksy/phoenix_evsa.ksy, nvramparser.cpp of A62
(what the checksum covers, size of an extended value); chipsec hal/uefi_platform.py (the last of
several values counts; FF FF FFFF ends the entries).

Limits: what tells ED from E1, EE from E2 and EF from E3 is not published; they are read alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from uuid import UUID

from hwflash.uefi.guids import from_bytes
from hwflash.uefi.layouts import EVSA_DATA, EVSA_ENTRY, EVSA_STORE
from hwflash.uefi.others import OtherStore, OtherVariable, size_anomaly, tail_anomaly
from hwflash.uefi.store import RECORD_LIMIT
from hwflash.uefi.window import Anomaly, Severity, Window, decode_utf16

SIGNATURE: Final = b"EVSA"
STORE_TYPE: Final = 0xEC
GUID_TYPES: Final = (0xED, 0xE1)
NAME_TYPES: Final = (0xEE, 0xE2)
DATA_TYPES: Final = (0xEF, 0xE3)
DELETED_TYPE: Final = 0x83
#: Of the first entry.
HEADER: Final = EVSA_ENTRY.size + EVSA_STORE.size
_EXTENDED: Final = 1 << 28
_SIZE_LIMIT: Final = 16 << 20


def size_at(window: Window, base: int) -> int | None:
    """Bytes of the store whose first entry is at an offset; None where there is none."""
    if not window.has(base, HEADER):
        return None
    kind, _, size = EVSA_ENTRY.unpack(window.data, base - window.base)
    signature, _, store, _ = EVSA_STORE.unpack(window.data, base - window.base + EVSA_ENTRY.size)
    if (kind, size, signature) != (STORE_TYPE, HEADER, SIGNATURE):
        return None
    return store if HEADER <= store <= _SIZE_LIMIT else None


def parse_evsa(window: Window, base: int, most: int = RECORD_LIMIT) -> OtherStore | None:
    """Read the store whose first entry is at ``base``; None where there is none.

    Args:
        window: the image, or a part of it.
        base: image offset of the first entry.
        most: entries to read at most.
    """
    size = size_at(window, base)
    return None if size is None else _Reader(window, base, size, most).store()


class _Reader:
    def __init__(self, window: Window, base: int, size: int, most: int) -> None:
        self.window = window
        self.base = base
        self.size = size
        self.end = min(base + size, window.end)
        self.most = most
        self.guids: dict[int, UUID] = {}
        self.names: dict[int, str] = {}
        self.values: list[tuple[OtherVariable, int, int]] = []
        self.tables = 0
        self.anomalies: list[Anomaly] = []

    def odd(self, code: str, at: int, text: str, severity: Severity = "error") -> None:
        self.anomalies.append(Anomaly(f"evsa.{code}", at, text, severity))

    def store(self) -> OtherStore:
        beyond = size_anomaly("evsa", self.base + 12, self.base, self.size, self.window.end)
        self._checksum(self.base, HEADER)
        stop = self._walk()
        tail = self.window.at(stop, self.end - stop)
        rubbish = tail_anomaly("evsa", stop, tail)
        self.anomalies += [item for item in (beyond, rubbish) if item is not None]
        return OtherStore(
            "evsa", "Phoenix EVSA store", self.base, self.size, self._variables(),
            tuple(sorted(self.anomalies, key=lambda item: item.offset)),
            0 if rubbish else len(tail),
            HEADER + self.tables,
        )  # fmt: skip

    def _walk(self) -> int:
        """Read the entries; where they end."""
        at, count = self.base + HEADER, 0
        while at + EVSA_ENTRY.size <= self.end:
            kind, checksum, size = EVSA_ENTRY.unpack(self.window.data, at - self.window.base)
            if (kind, checksum, size) == (0xFF, 0xFF, 0xFFFF):
                break
            if count >= self.most:
                self.odd("limit", at, f"only the first {self.most} entries are read", "warning")
                break
            whole = self._entry(kind, at, size)
            if whole is None:
                text = (
                    f"the entry of type {kind:02X} claims {size} bytes, there is room for "
                    f"{self.end - at}; what follows is not read"
                )
                self.odd("entry", at, text)
                break
            at, count = at + whole, count + 1
        return at

    def _entry(self, kind: int, at: int, size: int) -> int | None:
        """Take one entry in; its size, or None where it cannot be."""
        body = self.window.at(at + EVSA_ENTRY.size, size - EVSA_ENTRY.size)
        if size < EVSA_ENTRY.size or at + size > self.end:
            return None
        whole = size
        if kind in GUID_TYPES and len(body) == 18:
            self.guids[int.from_bytes(body[:2], "little")] = from_bytes(body[2:])
            self.tables += size
        elif kind in NAME_TYPES and len(body) >= 2:
            self.names[int.from_bytes(body[:2], "little")] = decode_utf16(body[2:])
            self.tables += size
        elif kind in (*DATA_TYPES, DELETED_TYPE) and len(body) >= EVSA_DATA.size:
            whole = self._value(kind, at, size)
            if at + whole > self.end:
                return None
        else:
            self.odd("type", at, f"an entry of type {kind:02X} and {size} bytes is left out",
                     "warning")  # fmt: skip
        self._checksum(at, size)
        return whole

    def _value(self, kind: int, at: int, size: int) -> int:
        start = at + EVSA_ENTRY.size
        guid, name, attributes = EVSA_DATA.unpack(self.window.data, start - self.window.base)
        data, length = start + EVSA_DATA.size, size - EVSA_ENTRY.size - EVSA_DATA.size
        if attributes & _EXTENDED:
            length = int.from_bytes(self.window.at(data, 4), "little")
            data += 4
        whole = data + length - at
        if at + whole <= self.end:
            self.values.append((
                OtherVariable(
                    at, whole, kind, "deleted" if kind == DELETED_TYPE else "added", "", None,
                    attributes & ~_EXTENDED, self.window.at(data, length), data,
                    details={"guid_id": guid, "name_id": name},
                ), guid, name,
            ))  # fmt: skip
        return whole

    def _checksum(self, at: int, size: int) -> None:
        data = self.window.at(at, size)
        wanted = -sum(data[2:]) % 256
        if data[1] != wanted:
            text = f"the entry's checksum is {data[1]:02X}, its content needs {wanted:02X}"
            self.odd("checksum", at, text)

    def _variables(self) -> tuple[OtherVariable, ...]:
        last = {
            (guid, name): item.offset
            for item, guid, name in self.values
            if item.state_name == "added"
        }
        older: dict[tuple[int, int], list[int]] = {}
        found: list[OtherVariable] = []
        for item, guid, name in self.values:
            for number, known, word in ((guid, self.guids, "GUID"), (name, self.names, "name")):
                if number not in known and item.state_name == "added":
                    self.odd("number", item.offset, f"no entry has {word} number {number}")
            made = replace(item, name=self.names.get(name, ""), guid=self.guids.get(guid))
            if item.state_name == "added":
                before = older.setdefault((guid, name), [])
                if last[guid, name] == item.offset:
                    made = replace(made, older=tuple(before))
                else:
                    made = replace(made, state_name="superseded")
                    before.append(item.offset)
            found.append(made)
        return tuple(found)
