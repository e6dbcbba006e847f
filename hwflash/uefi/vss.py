"""``$VSS`` and its kin: a store header, then records that begin with AA 55.

The 16-byte header has ``$VSS`` (Phoenix, Insyde, Apple), ``$SVS`` or ``$NSS`` (Apple); Phoenix's
VSS2 has a GUID instead, as EDK2 does, and 28 bytes. A record has one of four headers: EDK2's
plain one (32 bytes), EDK2's authenticated one (60), Apple's with a CRC-32 of the data where bit
31 of the attributes is set (36), and Intel's old one with one size for name and data, which is
known by its states FC and F8 (28). One store may hold several.

Phoenix and Insyde leave a variable that counts in state 7F, EDK2 goes on to 3F. In a store that
has no record with bit 6 cleared, 7F is therefore taken as added.

Ref: UEFITool common/nvram.h, common/ksy/edk2_vss.ksy, phoenix_vss2.ksy (headers, states; a
record with a zero size in the plain header is an authenticated one), insyde_fdc.ksy; chipsec
hal/uefi_platform.py (records may be aligned up to 8 bytes); edk2 VariableFormat.h.

Limits: of a header whose sizes were never written only the header is stepped over.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.guids import from_bytes
from hwflash.uefi.layouts import (
    APPLE_RECORD,
    AUTHENTICATED_RECORD,
    LEGACY_RECORD,
    PLAIN_RECORD,
    STORE_HEADER,
    VSS_HEADER,
    Layout,
)
from hwflash.uefi.others import (
    Form,
    OtherState,
    OtherStore,
    OtherVariable,
    duplicates,
    size_anomaly,
    tail_anomaly,
)
from hwflash.uefi.records import ERASED32, Attribute
from hwflash.uefi.store import FORMATTED, HEALTHY, RECORD_LIMIT
from hwflash.uefi.window import Anomaly, Severity, Window, decode_utf16, filled_with, utf16_end

SIGNATURES: Final = (b"$VSS", b"$SVS", b"$NSS")
#: The GUID of Phoenix's VSS2; the other one it uses is that of EDK2's authenticated store.
VSS2: Final = UUID("ddcf3617-3275-4164-98b6-fe85707ffe7d")
#: What an Insyde factory data copy has in front of its store: signature, size, volume header.
FACTORY_COPY: Final = b"_FDC"
FACTORY_HEADER: Final = 0x50
#: No store seen is larger than 1 MiB.
SIZE_LIMIT: Final = 16 << 20

_START: Final = b"\xaa\x55"
_CHECKED: Final = 1 << 31
_AUTHENTICATED: Final = (
    Attribute.AUTHENTICATED_WRITE_ACCESS
    | Attribute.TIME_BASED_AUTHENTICATED_WRITE_ACCESS
    | Attribute.APPEND_WRITE
)
_LAYOUTS: Final[dict[str, Layout]] = {
    "plain": PLAIN_RECORD,
    "authenticated": AUTHENTICATED_RECORD,
    "apple-checksum": APPLE_RECORD,
    "intel-legacy": LEGACY_RECORD,
}
_LEGACY_ADDED: Final = 0xFC
_LEGACY_DELETED: Final = 0xF8
_guid: Final = lru_cache(maxsize=256)(from_bytes)


def header_at(window: Window, offset: int) -> tuple[int, int] | None:
    """Bytes of the header and of the store at an offset; None where there is none."""
    if window.at(offset, 4) in SIGNATURES and window.has(offset, VSS_HEADER.size):
        layout = VSS_HEADER
    elif window.at(offset, 16) == VSS2.bytes_le and window.has(offset, STORE_HEADER.size):
        layout = STORE_HEADER
    else:
        return None
    fields = layout.fields(window.data, offset - window.base)
    if fields["format"] != FORMATTED or not layout.size < fields["size"] <= SIZE_LIMIT:
        return None
    return layout.size, fields["size"]


def parse_vss(window: Window, base: int, most: int = RECORD_LIMIT) -> OtherStore | None:
    """Read the store whose header is at ``base``; None where there is none.

    Args:
        window: the image, or a part of it.
        base: image offset of the header.
        most: records to read at most.
    """
    header = header_at(window, base)
    return None if header is None else _Reader(window, base, *header, most).store()


class _Reader:
    def __init__(self, window: Window, base: int, header: int, size: int, most: int) -> None:
        self.window = window
        self.base = base
        self.header = header
        self.size = size
        self.end = min(base + size, window.end)
        self.most = most
        self.forms: set[Form] = set()
        self.anomalies: list[Anomaly] = []

    def odd(self, code: str, at: int, text: str, severity: Severity = "error") -> None:
        self.anomalies.append(Anomaly(f"vss.{code}", at, text, severity))

    def store(self) -> OtherStore:
        signature = self.window.at(self.base, 4)
        name = signature.decode() if signature in SIGNATURES else "Phoenix VSS2"
        copy = self.window.at(self.base - FACTORY_HEADER, 4) == FACTORY_COPY
        title = f"{name} store" + (" in an Insyde factory data copy (_FDC)" if copy else "")
        at = self.base + self.header - 12
        beyond = size_anomaly("vss", at, self.base, self.size, self.window.end)
        state = self.window.at(self.base + self.header - 7, 1)[0]
        if state != HEALTHY:
            at = self.base + self.header - 7
            self.odd("state", at, f"the store's state is {state:02X}, not {HEALTHY:02X} (healthy)")
        records, stop = self._walk()
        records = self._settled(records)
        tail = self.window.at(stop, self.end - stop)
        rubbish = tail_anomaly("vss", stop, tail)
        self.anomalies += [item for item in (beyond, rubbish) if item is not None]
        self.anomalies += duplicates(records, "vss")
        form = None if not self.forms else self.forms.pop() if len(self.forms) == 1 else "mixed"
        return OtherStore(
            "vss", title, self.base, self.size, records,
            tuple(sorted(self.anomalies, key=lambda item: item.offset)),
            0 if rubbish else len(tail), self.header,
            form=form, copy=copy,
        )  # fmt: skip

    def _walk(self) -> tuple[tuple[OtherVariable, ...], int]:
        """The records, and where the walk ends."""
        found: list[OtherVariable] = []
        at = self.base + self.header
        form: Form = "plain"
        while at + LEGACY_RECORD.size <= self.end and self.window.at(at, 2) == _START:
            if len(found) >= self.most:
                self.odd("limit", at, f"only the first {self.most} records are read", "warning")
                break
            chosen = self._form(at, form)
            if chosen is None:
                text = "no header of a record fits the bytes here; what follows is not read"
                self.odd("record", at, text)
                break
            form = chosen
            record = self._record(at, form)
            following = self._next(record.end)
            found.append(replace(record, size=following - at))
            at = following
        return tuple(found), at

    def _next(self, end: int) -> int:
        """Where the next record begins: at once, or aligned to 4 or 8 bytes."""
        for step in (1, 4, 8):
            at = self.base + -(-(end - self.base) // step) * step
            if self.window.at(at, 2) == _START and at + 2 <= self.end:
                gap = self.window.at(end, at - end)
                if filled_with(gap, 0xFF) or filled_with(gap, 0):
                    return at
        return end

    # --- one record ---------------------------------------------------------------------

    def _form(self, at: int, before: Form) -> Form | None:
        """The form of a record: the first one whose sizes and name make sense."""
        state = self.window.at(at + 2, 1)[0]
        if state in (_LEGACY_ADDED, _LEGACY_DELETED):
            return "intel-legacy" if self._fits(at, "intel-legacy") else None
        if self._torn(at, before):
            return before
        head = PLAIN_RECORD.fields(self.window.at(at, 32).ljust(32, b"\0"))
        short: Form = "apple-checksum" if head["attributes"] & _CHECKED else "plain"
        order: list[Form] = [short, "authenticated"]
        if head["attributes"] & _AUTHENTICATED or not (head["name_size"] and head["data_size"]):
            order.reverse()
        for form in order:
            if self._fits(at, form) and self._name_ends(at, form):
                return form
        # A name that does not end where it should is taken when no other form fits.
        return next((form for form in order if self._fits(at, form)), None)

    def _fits(self, at: int, form: Form) -> bool:
        layout = _LAYOUTS[form]
        if at + layout.size > self.end:
            return False
        name_size, data_size = self._sizes(at, form)
        return (
            name_size >= 2
            and name_size % 2 == 0
            and at + layout.size + name_size + data_size <= self.end
        )

    def _torn(self, at: int, form: Form) -> bool:
        """Whether the header was not completely written, as EDK2 sees it: then it is alone."""
        layout = _LAYOUTS[form]
        if at + layout.size > self.end:
            return False
        head = layout.fields(self.window.data, at - self.window.base)
        sizes = [head[name] for name in ("name_size", "data_size", "total_size") if name in head]
        return head["state"] == 0xFF or ERASED32 in (head["attributes"], *sizes)

    def _name_ends(self, at: int, form: Form) -> bool:
        """Whether the name has its NUL where the sizes of this form say."""
        end = at + _LAYOUTS[form].size + self._sizes(at, form)[0]
        return self.window.at(end - 2, 2) == b"\0\0"

    def _sizes(self, at: int, form: Form) -> tuple[int, int]:
        """Bytes of name and data; in Intel's form the name ends with its NUL."""
        layout = _LAYOUTS[form]
        head = layout.fields(self.window.data, at - self.window.base)
        if form != "intel-legacy":
            return head["name_size"], head["data_size"]
        room = head["total_size"] - layout.size
        body = self.window.at(at + layout.size, max(min(room, self.end - at), 0))
        end = utf16_end(body, 0)
        if end < 0:
            return 0, 0
        return end + 2, room - end - 2

    def _record(self, at: int, form: Form) -> OtherVariable:
        layout = _LAYOUTS[form]
        head: dict[str, Any] = layout.fields(self.window.data, at - self.window.base)
        torn = self._torn(at, form)
        name_size, data_size = (0, 0) if torn else self._sizes(at, form)
        if not torn:
            self.forms.add(form)
        body = at + layout.size
        data = self.window.at(body + name_size, data_size)
        details: dict[str, str | int] = {}
        if form == "apple-checksum" and not torn:
            details["crc"] = head["crc"]
            actual = zlib.crc32(data)
            if actual != head["crc"]:
                text = f"the data's CRC-32 is {actual:08X}, the record says {head['crc']:08X}"
                self.odd("crc", at, text)
        time = EfiTime.parse(head["timestamp"]) if form == "authenticated" else EfiTime()
        return OtherVariable(
            at, layout.size + name_size + data_size, head["state"],
            "torn-header" if torn else "unknown",
            decode_utf16(self.window.at(body, name_size)), _guid(head["guid"]),
            head["attributes"] & ~_CHECKED, data, body + name_size, time, details=details,
        )  # fmt: skip

    def _settled(self, records: tuple[OtherVariable, ...]) -> tuple[OtherVariable, ...]:
        """The records with what their states mean in this store."""
        legacy = (_LEGACY_ADDED, _LEGACY_DELETED)
        goes_on = any(not item.state & 0x40 for item in records if item.state not in legacy)
        return tuple(replace(item, state_name=_meaning(item, goes_on)) for item in records)


def _meaning(item: OtherVariable, goes_on: bool) -> OtherState:
    """A state byte in a word.

    Args:
        item: the record.
        goes_on: whether records of this store get beyond 7F.
    """
    state = item.state
    if item.state_name == "torn-header":
        return item.state_name
    if state == _LEGACY_ADDED:
        return "added"
    if state == _LEGACY_DELETED or not state & 0x02:
        return "deleted"
    if state & 0x80:
        return "unknown"
    if not state & 0x01:
        return "in-deleted-transition"
    return "header-valid-only" if goes_on and state & 0x40 else "added"
