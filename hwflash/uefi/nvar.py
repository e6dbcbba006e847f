"""AMI NVAR: a store without a header, of entries that are linked to newer ones.

An entry has "NVAR", its size (u16), the distance to the entry that holds a newer value (u24,
all ones: there is none) and an attribute byte. Then come the GUID, as 16 bytes or as the number
of one in the table that grows downwards from the end of the store, the name (ASCII or UTF-16,
ended by NUL) and the data. Entries with newer values have the data alone. With an extended
header the last two bytes are its size; it begins with attributes, then an 8-byte time stamp
and a SHA-256 where the variable is authenticated by time, then a checksum.

Ref: UEFITool common/nvram.h (bits, file GUIDs), common/ksy/ami_nvar.ksy and nvramparser.cpp
(links, what the checksum covers); chipsec hal/uefi_platform.py (bits as UEFI attributes, the
value is that of the last link).

Limits: the checksum, with the size and the attributes, covers everything behind the 10 bytes in
UEFITool A62, and data and extended header alone in later releases; either is taken as right. The
time stamp and the hash are shown as they are stored; nobody has published what the hash covers.
Links only lead forwards, so they cannot run in circles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntFlag
from typing import Final
from uuid import UUID

from hwflash.uefi.guids import from_bytes
from hwflash.uefi.layouts import NVAR_HEADER
from hwflash.uefi.others import OtherState, OtherStore, OtherVariable, duplicates, tail_anomaly
from hwflash.uefi.records import Attribute
from hwflash.uefi.store import RECORD_LIMIT
from hwflash.uefi.window import Anomaly, Severity, Window, decode_utf16, filled_with, utf16_end

SIGNATURE: Final = b"NVAR"
#: Raw files in a firmware volume whose content is a store, and what they hold.
FILES: Final[dict[UUID, str]] = {
    UUID("cef5b9a3-476d-497f-9fdc-e98143e0422c"): "AMI NVAR store",
    UUID("9221315b-30bb-46b5-813e-1b1bf4712bd3"): "AMI NVAR store of external defaults",
    UUID("77d3dc50-d42b-4916-ac80-8f469035d150"): "AMI NVAR store of external defaults for PEI",
    UUID("af516361-b4c5-436e-a7e3-a149a31b1461"): "AMI NVAR store of boot block defaults",
}
MAIN_FILE: Final = next(iter(FILES))
#: Size of the extended header behind its content, and before it attributes and checksum.
_EXTENDED_LEAST: Final = 3
_GUID_SIZE: Final = 16
_HASH_SIZE: Final = 32


class Bit(IntFlag):
    """Attributes of an entry."""

    RUNTIME = 0x01
    ASCII_NAME = 0x02
    GUID = 0x04
    DATA_ONLY = 0x08
    EXTENDED_HEADER = 0x10
    HARDWARE_ERROR = 0x20
    AUTHENTICATED = 0x40
    VALID = 0x80


class ExtendedBit(IntFlag):
    """Attributes in the extended header; the last two have their values of UEFI."""

    CHECKSUM = 0x01
    AUTHENTICATED_WRITE = 0x10
    TIME_BASED = 0x20


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry by itself; ``next`` is an image offset, or None at the end of a chain."""

    offset: int
    size: int
    next: int | None
    bits: int
    name: str
    guid: UUID | None
    index: int | None
    data: bytes
    data_offset: int
    extended: int
    details: dict[str, str | int]

    @property
    def valid(self) -> bool:
        return bool(self.bits & Bit.VALID)

    @property
    def data_only(self) -> bool:
        return bool(self.bits & Bit.DATA_ONLY)

    @property
    def attributes(self) -> int:
        """What UEFI would show; the extended header says which kind of authentication it is."""
        found = Attribute.NON_VOLATILE | Attribute.BOOTSERVICE_ACCESS
        if self.bits & Bit.RUNTIME:
            found |= Attribute.RUNTIME_ACCESS
        if self.bits & Bit.HARDWARE_ERROR:
            found |= Attribute.HARDWARE_ERROR_RECORD
        if self.bits & Bit.AUTHENTICATED:
            found |= self.extended & (ExtendedBit.AUTHENTICATED_WRITE | ExtendedBit.TIME_BASED)
        return int(found)


def parse_nvar(
    window: Window,
    base: int,
    end: int,
    title: str = FILES[MAIN_FILE],
    *,
    erased: int = 0xFF,
    table: bool = True,
    most: int = RECORD_LIMIT,
) -> OtherStore:
    """Read a store, whatever is wrong with it; its anomalies say what.

    Args:
        window: the image, or a part of it.
        base: image offset of the first entry.
        end: image offset behind the store.
        title: what it is, in words.
        erased: the byte of erased flash: 00 in a volume of the other erase polarity.
        table: whether the table of GUIDs is known to be at ``end``.
        most: entries to read at most.
    """
    return _Reader(window, base, min(end, window.end), erased, table, most).store(title)


def run_end(window: Window, base: int, end: int, most: int = RECORD_LIMIT) -> int:
    """Image offset behind the entries that follow each other from an offset on.

    Args:
        window: the image, or a part of it.
        base: image offset of the first entry.
        end: image offset that none reaches beyond.
        most: entries to read at most.
    """
    return _behind(_Reader(window, base, end, 0xFF, False, most).walk(), base)


def _behind(entries: list[_Entry], base: int) -> int:
    return entries[-1].offset + entries[-1].size if entries else base


class _Reader:
    def __init__(
        self, window: Window, base: int, end: int, erased: int, table: bool, most: int
    ) -> None:
        self.window = window
        self.base = base
        self.end = end
        self.erased = erased
        self.table = table
        self.most = most
        self.anomalies: list[Anomaly] = []
        self.guids: dict[int, UUID | None] = {}

    def odd(self, code: str, at: int, text: str, severity: Severity = "error") -> None:
        self.anomalies.append(Anomaly(f"nvar.{code}", at, text, severity))

    def store(self, title: str) -> OtherStore:
        entries = self.walk()
        stop = _behind(entries, self.base)
        indices = [item.index for item in entries if item.index is not None]
        room = max(self.end - stop, 0)
        taken = min((max(indices) + 1) * _GUID_SIZE, room) if indices and self.table else 0
        free = room - taken
        tail = self.window.at(stop, free)
        rubbish = tail_anomaly("nvar", stop, tail, self.erased)
        if rubbish is not None:
            self.anomalies.append(rubbish)
            free = 0
        records = tuple(self._linked(entries))
        self.anomalies += duplicates(records, "nvar")
        return OtherStore(
            "ami-nvar", title, self.base, self.end - self.base, records,
            tuple(sorted(self.anomalies, key=lambda item: item.offset)), free, taken,
        )  # fmt: skip

    # --- entries ----------------------------------------------------------------------

    def walk(self) -> list[_Entry]:
        """The entries that follow each other."""
        found: list[tuple[int, int, int, int]] = []
        at = self.base
        while at + NVAR_HEADER.size <= self.end:
            head = self.window.at(at, NVAR_HEADER.size)
            signature, size, following, bits = NVAR_HEADER.unpack(head)
            if signature != SIGNATURE:
                break
            if len(found) >= self.most:
                self.odd("limit", at, f"only the first {self.most} entries are read", "warning")
                break
            if size < NVAR_HEADER.size or at + size > self.end:
                text = (
                    f"the entry claims {size} bytes, there is room for {self.end - at}; what "
                    "follows is not read"
                )
                self.odd("size", at, text)
                break
            found.append((at, size, int.from_bytes(following, "little"), bits))
            at += size
        return [self._entry(*item, stop=at) for item in found]

    def _entry(self, at: int, size: int, following: int, bits: int, stop: int) -> _Entry:
        body = self.window.at(at + NVAR_HEADER.size, size - NVAR_HEADER.size)
        name, guid, index, skip = "", None, None, 0
        if not bits & Bit.DATA_ONLY:
            if bits & Bit.GUID:
                skip = _GUID_SIZE
                guid = from_bytes(body[:skip]) if len(body) >= skip else None
            elif body:
                skip, index = 1, body[0]
                guid = self._guid(index, at, stop)
            name, skip = self._name(body, skip, bits, at)
        extended, taken, details = self._extended(body, skip, size, bits, at)
        if index is not None:
            details["guid_index"] = index
        last = 0xFFFFFF if self.erased else 0
        return _Entry(
            at, size, None if following == last else at + following, bits, name, guid, index,
            body[skip : len(body) - taken], at + NVAR_HEADER.size + skip, extended, details,
        )  # fmt: skip

    def _guid(self, index: int, at: int, stop: int) -> UUID | None:
        """The GUID of a number; a number counts from the end of the store."""
        if index not in self.guids:
            place = self.end - _GUID_SIZE * (index + 1)
            stored = self.window.at(place, _GUID_SIZE) if self.table and place >= stop else b""
            if self.table and not stored:
                self.odd("guid-index", at, f"GUID number {index} would lie inside the entries")
            elif filled_with(stored, self.erased) and stored:
                self.odd("guid-index", at, f"GUID number {index} was never written")
                stored = b""
            self.guids[index] = from_bytes(stored) if stored else None
        return self.guids[index]

    def _name(self, body: bytes, skip: int, bits: int, at: int) -> tuple[str, int]:
        """The name, and where the data begins."""
        ascii_name = bool(bits & Bit.ASCII_NAME)
        end = body.find(b"\0", skip) if ascii_name else utf16_end(body, skip)
        width = 1 if ascii_name else 2
        if end < 0:
            if bits & Bit.VALID:
                self.odd("name", at, "the name does not end inside the entry")
            end, width = len(body), 0
        raw = body[skip:end]
        name = raw.decode("latin-1") if ascii_name else decode_utf16(raw)
        return name, min(end + width, len(body))

    def _extended(
        self, body: bytes, skip: int, size: int, bits: int, at: int
    ) -> tuple[int, int, dict[str, str | int]]:
        """Attributes and size of the extended header, and what it holds."""
        details: dict[str, str | int] = {}
        if not bits & Bit.EXTENDED_HEADER:
            return 0, 0, details
        taken = int.from_bytes(body[-2:], "little")
        if not _EXTENDED_LEAST <= taken <= len(body) - skip:
            if bits & Bit.VALID:
                text = f"the extended header claims {taken} bytes of {len(body) - skip}"
                self.odd("extended-header", at, text)
            return 0, 0, details
        header = body[len(body) - taken :]
        extended, content = header[0], header[1:-2]
        details["extended_attributes"] = extended
        if extended & ExtendedBit.CHECKSUM and content:
            # Old and new releases of UEFITool differ in whether GUID and name are counted.
            outer = sum(size.to_bytes(2, "little")) + bits
            total = sum(body) + outer
            details["checksum"] = content[-1]
            if total % 256 and (sum(body[skip:]) + outer) % 256 and bits & Bit.VALID:
                wanted = (content[-1] - total) % 256
                text = f"the entry's checksum is {content[-1]:02X}, its content needs {wanted:02X}"
                self.odd("checksum", at, text)
            content = content[:-1]
        if extended & ExtendedBit.TIME_BASED and len(content) >= 8:
            details["timestamp"] = content[:8].hex()
            if len(content) >= 8 + _HASH_SIZE and not bits & Bit.DATA_ONLY:
                details["hash"] = content[8 : 8 + _HASH_SIZE].hex()
        return extended, taken, details

    # --- links ------------------------------------------------------------------------

    def _linked(self, entries: list[_Entry]) -> list[OtherVariable]:
        """Every entry as a variable: newer values get the name of the entry they belong to."""
        targets = {item.offset: item for item in entries if item.valid and item.data_only}
        heads: dict[int, _Entry] = {}
        chains: dict[int, list[int]] = {}
        found: list[OtherVariable] = []
        for item in entries:
            head = heads.get(item.offset) if item.data_only else item
            target = self._target(item, targets, heads)
            state = _state(item, head, target is not None)
            chain = chains.setdefault(head.offset if head else item.offset, [])
            older = tuple(chain) if state == "added" else ()
            chain.append(item.offset)
            found.append(_variable(item, head or item, state, older))
            if state == "orphaned":
                text = "an entry of data alone, and no valid entry links to it"
                self.odd("orphan", item.offset, text, "note")
            if target is not None and head is not None:
                heads[target.offset] = head
        return found

    def _target(
        self, item: _Entry, targets: dict[int, _Entry], taken: dict[int, _Entry]
    ) -> _Entry | None:
        """The entry with the newer value, where the link leads to one."""
        if item.next is None or not item.valid:
            return None
        target = targets.get(item.next) if item.next > item.offset else None
        if target is None or target.offset in taken:
            why = "is another entry's already" if target else "leads to no valid entry of data"
            text = f"the link to 0x{item.next:06X} {why}; the value before it is shown"
            self.odd("link", item.offset, text)
            return None
        return target


def _state(item: _Entry, head: _Entry | None, newer: bool) -> OtherState:
    # Deleting clears the valid bit of the first entry; the rest of its chain is then orphaned.
    if not item.valid:
        return "deleted"
    if head is None:
        return "orphaned"
    return "superseded" if newer else "added"


def _variable(
    item: _Entry, head: _Entry, state: OtherState, older: tuple[int, ...]
) -> OtherVariable:
    attributes = replace(head, extended=head.extended or item.extended).attributes
    return OtherVariable(
        item.offset, item.size, item.bits, state, head.name, head.guid, attributes, item.data,
        item.data_offset, older=older, details=item.details,
    )  # fmt: skip
