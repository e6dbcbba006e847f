"""The variable driver of edk2 with its copy of the store in RAM: a part of `edk2_model`.

Ref: edk2 MdeModulePkg/Universal/Variable/RuntimeDxe/VariableParsing.c, VariableNonVolatile.c and
Variable.c, as they were until 2022.11. Nothing of hwflash is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from edk2_ftw import AUTHENTICATED, NV_FV, ORDINARY, Ftw, Layout, Nor

Key = tuple[str, UUID]
ADDED, IN_TRANSITION, DELETED = 0x3F, 0x3E, 0x3D
STORE_HEADER: Final = 28


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as edk2 walks over it; offsets from the start of the store."""

    at: int
    end: int
    state: int
    attributes: int
    key: tuple[bytes, bytes]
    data: bytes

    @property
    def live(self) -> bool:
        return self.state in (ADDED, IN_TRANSITION)


def walk(store: bytes | bytearray, limit: int | None = None) -> Iterator[Entry]:
    """The records of a store: IsValidVariableHeader and GetNextVariablePtr."""
    limit = len(store) if limit is None else limit
    authenticated = store[:16] == AUTHENTICATED
    head = 60 if authenticated else 32
    sizes = struct.Struct("<2xBxI28xII16s") if authenticated else struct.Struct("<2xBxIII16s")
    at = STORE_HEADER
    while at + 2 <= limit and store[at : at + 2] == b"\xaa\x55":
        header = store[at : at + head].ljust(head, b"\xff")
        state, attributes, name_size, data_size, guid = sizes.unpack(header)
        if state == 0xFF or 0xFFFFFFFF in (attributes, name_size, data_size):
            name_size = data_size = 0
        data_at = at + head + name_size
        data_end = data_at + data_size
        key = (guid, bytes(store[at + head : data_at]))
        end = (data_end + 3) & ~3
        yield Entry(at, end, state, attributes, key, bytes(store[data_at:data_end]))
        at = end


def find(entries: Sequence[Entry], key: tuple[bytes, bytes]) -> tuple[Entry | None, Entry | None]:
    """FindVariableEx: the record that counts, and an older one in deleted transition."""
    older = None
    for entry in entries:
        if entry.key == key and entry.live:
            if entry.state == ADDED:
                return entry, older
            older = entry
    return older, None


def raw_key(name: str, guid: UUID) -> tuple[bytes, bytes]:
    return guid.bytes_le, (name + "\0").encode("utf-16-le", "surrogatepass")


def store_valid(store: bytes | bytearray) -> bool:
    """GetVariableStoreStatus, and the size that everything after it counts on."""
    (size,) = struct.unpack_from("<I", store, 16)
    return (
        bytes(store[:16]) in (AUTHENTICATED, ORDINARY)
        and store[20:22] == b"\x5a\xfe"
        and size == len(store)
    )


class Variables:
    """The variable driver with its copy of the store in RAM."""

    def __init__(self, nor: Nor, ftw: Ftw, layout: Layout, base: int) -> None:
        self.nor, self.ftw, self.layout, self.base = nor, ftw, layout, base
        self.cache = bytearray()
        self.store = 0
        self.last = self.total = 0
        self.reclaimed = False
        self._entries: list[Entry] | None = None

    def load(self, hob: int | None) -> bool:
        """InitNonVolatileVariableStore; ``hob``: where the content of the spare belongs."""
        size = self.layout.variables
        area = bytearray(self.nor.read(self.base, size))
        if hob is not None and 0 <= hob < size:
            area[hob:] = self.nor.read(self.base + self.layout.spare, size - hob)
        if area[40:44] != b"_FVH" or area[16:32] != NV_FV:
            return False
        (header,) = struct.unpack_from("<H", area, 48)
        self.store = self.base + header
        self.cache = area[header:]
        if len(self.cache) < STORE_HEADER or not store_valid(self.cache):
            return False
        self._measure()
        return True

    @property
    def entries(self) -> list[Entry]:
        """The records in RAM."""
        if self._entries is None:
            self._entries = list(walk(self.cache))
        return self._entries

    def _measure(self) -> None:
        self._entries = None
        self.last = self.entries[-1].end if self.entries else STORE_HEADER
        self.total = self.last - STORE_HEADER

    def start_writing(self) -> None:
        """VariableWriteServiceInitialize: is the free area really free, in RAM?"""
        tail = self.cache[self.last :]
        if tail.count(0xFF) != len(tail):
            self.reclaim()

    def reclaim(
        self, updated: Sequence[Entry] = (), new: tuple[tuple[bytes, bytes], bytes] | None = None
    ) -> bool:
        """Reclaim: records come from the flash, not from RAM."""
        length = len(self.cache)
        flash = self.nor.read(self.store, length)
        (size,) = struct.unpack_from("<I", flash, 16)
        if size != length:
            return False
        places = {entry.at for entry in updated}
        entries = [item for item in walk(flash) if item.at not in places and item.live]
        kept = [flash[item.at : item.end] for item in entries if item.state == ADDED]
        there = {item.key for item in entries if item.state == ADDED}
        for item in entries:
            if item.state == IN_TRANSITION and item.key not in there:
                there.add(item.key)
                part = flash[item.at : item.end]
                kept.append(part[:2] + bytes([ADDED]) + part[3:])
        if new is not None:
            kept.append(new[1])
        image = flash[:STORE_HEADER] + b"".join(kept)
        if len(image) > length:
            return False
        done = self.ftw.write(self.store - self.base, image.ljust(length, b"\xff"))
        self.cache = bytearray(self.nor.read(self.store, length))
        self._measure()
        self.reclaimed |= done
        return done

    def _update(self, at: int, data: bytes) -> None:
        """UpdateVariableStore: flash and RAM at the same offset."""
        self._entries = None
        self.nor.program(self.store + at, data)
        self.cache[at : at + len(data)] = data

    def set(self, name: str, guid: UUID, attributes: int, data: bytes) -> bool:
        """UpdateVariable of a non-volatile variable at boot time, without authentication."""
        key = raw_key(name, guid)
        current, older = find(self.entries, key)
        if current is not None and not data:
            for entry in (older, current):
                if entry is not None:
                    self._update(entry.at + 2, bytes([entry.state & DELETED]))
            return True
        if current is not None and current.data == data:
            return True
        if current is not None:
            self._update(current.at + 2, bytes([current.state & 0xFE]))
        header = struct.pack("<HBBI", 0x55AA, 0xFF, 0, attributes)
        header += bytes(28) if self.cache[:16] == AUTHENTICATED else b""
        header += struct.pack("<II", len(key[1]), len(data)) + key[0]
        size = (len(header) + len(key[1]) + len(data) + 3) & ~3
        if size + self.total > len(self.cache) - STORE_HEADER:
            record = (header[:2] + b"\x3f" + header[3:] + key[1] + data).ljust(size, b"\xff")
            return self.reclaim([item for item in (current, older) if item], (key, record))
        at = self.last
        self._update(at, header)
        self._update(at + 2, b"\x7f")
        self._update(at + len(header), key[1] + data)
        self._update(at + 2, b"\x3f")
        self.last += size
        self.total += size
        for entry in (older, current):
            if entry is not None:
                self._update(entry.at + 2, bytes([self.cache[entry.at + 2] & DELETED]))
        return True

    def ready_to_boot(self) -> None:
        """ReclaimForOS."""
        if len(self.cache) - STORE_HEADER - self.total < self.layout.largest:
            self.reclaim()

    def duplicates(self) -> frozenset[tuple[bytes, bytes]]:
        return twice(self.entries)

    @property
    def stale(self) -> bool:
        return self.cache != self.nor.data[self.store : self.store + len(self.cache)]


def twice(entries: Iterable[Entry]) -> frozenset[tuple[bytes, bytes]]:
    """Variables with two ADDED records: an enumeration never gets past them."""
    seen: set[tuple[bytes, bytes]] = set()
    added = [entry.key for entry in entries if entry.state == ADDED]
    return frozenset(key for key in added if key in seen or seen.add(key))


def named(key: tuple[bytes, bytes]) -> Key:
    name = key[1].decode("utf-16-le", "replace").split("\0")[0]
    return name, UUID(bytes_le=key[0])
