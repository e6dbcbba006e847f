"""Variable records: header, name, data, in every state a power cut can leave.

Ref: edk2 MdeModulePkg/Include/Guid/VariableFormat.h and
Universal/Variable/RuntimeDxe/VariableParsing.c (sizes of torn headers, order of fields).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag
from typing import Any, Final, Literal
from uuid import UUID

from hwflash.errors import UsageError
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.guids import AUTHENTICATED_STORE, PLAIN_STORE
from hwflash.uefi.layouts import AUTHENTICATED_RECORD, PLAIN_RECORD, Layout
from hwflash.uefi.window import decode_utf16, encode_utf16

StoreFormat = Literal["authenticated", "plain"]

FORMATS: Final[dict[UUID, StoreFormat]] = {
    AUTHENTICATED_STORE: "authenticated",
    PLAIN_STORE: "plain",
}
LAYOUTS: Final[dict[StoreFormat, Layout]] = {
    "authenticated": AUTHENTICATED_RECORD,
    "plain": PLAIN_RECORD,
}
START_ID: Final = 0x55AA
ERASED32: Final = 0xFFFFFFFF
#: Records begin at a multiple of this, counted from the store.
ALIGNMENT: Final = 4


class State(IntEnum):
    """The state byte; it advances by clearing bits."""

    ERASED = 0xFF
    HEADER_VALID_ONLY = 0x7F
    ADDED = 0x3F
    IN_DELETED_TRANSITION = 0x3E
    DELETED_AFTER_TRANSITION = 0x3C
    DELETED = 0x3D


STATE_NAMES: Final[dict[int, str]] = {
    State.ERASED: "torn-header",
    State.HEADER_VALID_ONLY: "header-valid-only",
    State.ADDED: "added",
    State.IN_DELETED_TRANSITION: "in-deleted-transition",
    State.DELETED_AFTER_TRANSITION: "deleted",
    State.DELETED: "deleted",
}


class Attribute(IntFlag):
    """Attributes of a variable. Ref: UEFI 2.10 §8.2."""

    NON_VOLATILE = 0x01
    BOOTSERVICE_ACCESS = 0x02
    RUNTIME_ACCESS = 0x04
    HARDWARE_ERROR_RECORD = 0x08
    AUTHENTICATED_WRITE_ACCESS = 0x10
    TIME_BASED_AUTHENTICATED_WRITE_ACCESS = 0x20
    APPEND_WRITE = 0x40
    ENHANCED_AUTHENTICATED_ACCESS = 0x80


#: Short forms for tables, as efivar and `dmpstore` readers know them.
SHORT_ATTRIBUTES: Final[dict[int, str]] = {
    Attribute.NON_VOLATILE: "NV",
    Attribute.BOOTSERVICE_ACCESS: "BS",
    Attribute.RUNTIME_ACCESS: "RT",
    Attribute.HARDWARE_ERROR_RECORD: "HR",
    Attribute.AUTHENTICATED_WRITE_ACCESS: "AW",
    Attribute.TIME_BASED_AUTHENTICATED_WRITE_ACCESS: "AT",
    Attribute.APPEND_WRITE: "AP",
    Attribute.ENHANCED_AUTHENTICATED_ACCESS: "EA",
}


def attribute_names(attributes: int) -> list[str]:
    """Names of the bits that are set; unknown bits as one hexadecimal number."""
    names = [str(bit.name) for bit in Attribute if attributes & bit]
    unknown = attributes & ~0xFF
    return names + ([f"0x{unknown:08X}"] if unknown else [])


def parse_attributes(text: str) -> int:
    """Attributes as people write them: ``NV+BS+RT``, ``non_volatile,boot...``, ``0x7``.

    Raises:
        UsageError: a word that is none (``usage.attributes``).
    """
    names = {name.lower(): int(bit) for bit, name in SHORT_ATTRIBUTES.items()}
    names |= {str(bit.name).lower(): int(bit) for bit in Attribute}
    found = 0
    for word in re.split(r"[+,|\s]+", text.strip()):
        try:
            found |= names[word.lower()] if word.lower() in names else int(word, 0)
        except ValueError:
            raise UsageError(
                f"{word!r} is no attribute; attributes are {'+'.join(SHORT_ATTRIBUTES.values())}",
                code="usage.attributes",
                text=text,
            ) from None
    if not 0 <= found < 1 << 32:
        raise UsageError(f"{text!r} is no 32-bit number", code="usage.attributes", text=text)
    return found


def short_attributes(attributes: int) -> str:
    """``NV+BS+RT``."""
    names = [name for bit, name in SHORT_ATTRIBUTES.items() if attributes & bit]
    unknown = attributes & ~0xFF
    return "+".join(names + ([f"0x{unknown:X}"] if unknown else [])) or "none"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a variable store.

    Attributes:
        offset: image offset of its header.
        format: form of the header.
        state: the state byte.
        monotonic_count, timestamp, public_key_index: 0, zeros and 0 in plain records.
        name_size: bytes of the name as the header says.
        data_size: bytes of the data as the header says.
        name_bytes: the name as stored; empty when the firmware takes both sizes as zero.
        data: the value as stored; likewise.
        padding: bytes up to the next record.
    """

    offset: int
    format: StoreFormat
    state: int
    reserved: int
    attributes: int
    name_size: int
    data_size: int
    guid: UUID
    name_bytes: bytes = b""
    data: bytes = b""
    padding: bytes = b""
    monotonic_count: int = 0
    timestamp: bytes = bytes(16)
    public_key_index: int = 0

    @property
    def name(self) -> str:
        """The name up to its first NUL; it may hold lone surrogates."""
        return decode_utf16(self.name_bytes)

    @property
    def key(self) -> tuple[str, UUID]:
        """What makes a variable the same variable: name and GUID."""
        return self.name, self.guid

    @property
    def time(self) -> EfiTime:
        """The time stamp of an authenticated variable; zeros otherwise."""
        return EfiTime.parse(self.timestamp)

    @property
    def state_name(self) -> str:
        """The state in a word: ``added``, ``deleted``, ..., ``unknown``."""
        return STATE_NAMES.get(self.state, "unknown")

    @property
    def header_size(self) -> int:
        """60 bytes, or 32 in a plain store."""
        return LAYOUTS[self.format].size

    @property
    def sizes_erased(self) -> bool:
        """The header was not completely written: it counts as a header alone."""
        return torn(self.state, self.attributes, self.name_size, self.data_size)

    @property
    def cut_short(self) -> bool:
        """Name and data reach beyond the store."""
        wanted = 0 if self.sizes_erased else self.name_size + self.data_size
        return len(self.name_bytes) + len(self.data) < wanted

    @property
    def end(self) -> int:
        """Image offset behind the padding: where the next record begins."""
        return self.offset + self.size + len(self.padding)

    @property
    def size(self) -> int:
        """Bytes of header, name and data."""
        return self.header_size + len(self.name_bytes) + len(self.data)

    @property
    def data_offset(self) -> int:
        """Image offset of the data."""
        return self.offset + self.header_size + len(self.name_bytes)

    def build(self) -> bytes:
        """Header, name, data and padding."""
        values: dict[str, Any] = {
            "start_id": START_ID,
            "state": self.state,
            "reserved": self.reserved,
            "attributes": self.attributes,
            "monotonic_count": self.monotonic_count,
            "timestamp": self.timestamp,
            "public_key_index": self.public_key_index,
            "name_size": self.name_size,
            "data_size": self.data_size,
            "guid": self.guid.bytes_le,
        }
        return LAYOUTS[self.format].build(**values) + self.name_bytes + self.data + self.padding

    def moved(self, offset: int) -> Record:
        """The same record at another place."""
        return replace(self, offset=offset)


def torn(state: int, attributes: int, name_size: int, data_size: int) -> bool:
    """Whether the firmware takes name and data of a record as empty.

    Ref: edk2 NameSizeOfVariable, DataSizeOfVariable: state or any of the three still erased.
    """
    return state == State.ERASED or ERASED32 in (attributes, name_size, data_size)


def aligned(size: int) -> int:
    """A size rounded up to where the next record begins."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def make_record(
    name: str,
    guid: UUID,
    attributes: int,
    data: bytes,
    *,
    kind: StoreFormat = "authenticated",
    offset: int = 0,
    state: int = State.ADDED,
    timestamp: bytes = bytes(16),
    monotonic_count: int = 0,
    public_key_index: int = 0,
) -> Record:
    """A new record as SetVariable would leave it, padded with FF to the next record.

    Args:
        name: without a terminator; one is added.
        guid: the vendor's GUID.
        attributes: `Attribute` bits, without the append bit, which is never stored.
        data: the value.
        kind: form of the store.
        offset: image offset it will have.
        state: `State`.
        timestamp: 16 bytes of EFI_TIME.
        monotonic_count: of deprecated counter-based authentication.
        public_key_index: likewise.
    """
    name_bytes = encode_utf16(name)
    size = LAYOUTS[kind].size + len(name_bytes) + len(data)
    return Record(
        offset=offset,
        format=kind,
        state=state,
        reserved=0,
        attributes=attributes,
        name_size=len(name_bytes),
        data_size=len(data),
        guid=guid,
        name_bytes=name_bytes,
        data=data,
        padding=b"\xff" * (aligned(size) - size),
        monotonic_count=monotonic_count,
        timestamp=timestamp,
        public_key_index=public_key_index,
    )
