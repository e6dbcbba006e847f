"""Variable stores of formats that are not EDK2's: what all of them have in common.

Each format has a module that reads it (`nvar`, `vss`, `evsa`, `fsys`) into the two types here,
so that what lists and shows variables is written once. `find_others` finds them.

Limits: read only. How the firmware of these vendors writes, reclaims and recovers its store is
not published, so no order of flash operations is known that survives a power cut; `REASONS` says
what is in the way of each kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, Protocol
from uuid import UUID

from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.window import Anomaly, filled_with
from hwflash.units import Range

Kind = Literal["ami-nvar", "vss", "evsa", "apple-fsys"]
#: ``added`` is the value the firmware uses; ``superseded`` an older one of the same variable;
#: ``orphaned`` data whose variable is not known. The others are those of EDK2.
OtherState = Literal[
    "added", "superseded", "in-deleted-transition", "deleted", "header-valid-only", "torn-header",
    "orphaned", "unknown",
]  # fmt: skip
#: Form of the records of a ``$VSS`` store.
Form = Literal["plain", "authenticated", "apple-checksum", "intel-legacy", "mixed"]

#: Why a store is not written.
REASONS: Final[dict[Kind, str]] = {
    "ami-nvar": "AMI's driver links new values to old entries and rewrites the whole file when it "
    "is full, by rules that are not published; no order of flash operations is known that its "
    "next boot survives after a power cut",
    "vss": "where the vendor's driver keeps its work space, and how it reclaims the store, is not "
    "published; no fault-tolerant write of this format is known",
    "evsa": "Phoenix numbers and checksums every entry and reclaims them by rules that are not "
    "published; no fault-tolerant write of this format is known",
    "apple-fsys": "one checksum covers the whole store, so a change means erasing it, and no order "
    "of flash operations is known that keeps the Mac's identity after a power cut",
}


class Listed(Protocol):
    """What is shown of a variable, of whatever store."""

    @property
    def offset(self) -> int:
        """Image offset of its header."""
        ...

    @property
    def name(self) -> str:
        """Its name; may be empty."""
        ...

    @property
    def guid(self) -> UUID | None:
        """Of its vendor; None where the format has none."""
        ...

    @property
    def attributes(self) -> int:
        """`hwflash.uefi.records.Attribute` bits."""
        ...

    @property
    def data(self) -> bytes:
        """The value."""
        ...

    @property
    def data_offset(self) -> int:
        """Image offset of the value."""
        ...

    @property
    def state(self) -> int:
        """The state byte."""
        ...

    @property
    def state_name(self) -> str:
        """The state in a word."""
        ...

    @property
    def time(self) -> EfiTime:
        """Of the last authenticated write; zeros where none is stored."""
        ...


@dataclass(frozen=True, slots=True)
class OtherVariable:
    """One entry of a store: a variable, or an older value of one.

    Attributes:
        offset: image offset of its header.
        size: bytes of the entry, header and padding included.
        state: the byte that says the state; in NVAR the attributes of the entry.
        state_name: what it means.
        name: without a terminator; empty where it is not known.
        guid: of its vendor; None where the format has none, or it cannot be read.
        attributes: `hwflash.uefi.records.Attribute` bits, as UEFI would show them.
        data: the value.
        data_offset: image offset of the value.
        time: of the last authenticated write, where the format has it as an EFI_TIME.
        older: image offsets of the entries with older values, the first one first.
        details: fields that only this format has, for people and scripts.
    """

    offset: int
    size: int
    state: int
    state_name: OtherState
    name: str
    guid: UUID | None
    attributes: int
    data: bytes
    data_offset: int
    time: EfiTime = field(default_factory=EfiTime)
    older: tuple[int, ...] = ()
    details: dict[str, str | int] = field(default_factory=dict[str, str | int])

    @property
    def end(self) -> int:
        """Image offset behind the entry."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class OtherStore:
    """A variable store of another format.

    Attributes:
        kind: the format.
        title: what it is, in words.
        base: image offset of its first byte.
        size: bytes it says, or has; it may reach beyond the image.
        records: every entry, in order of offsets.
        anomalies: what is odd, in order of offsets.
        free: bytes that are erased and can still be appended to.
        header: bytes of the store that are neither entries nor free: header, GUID table, checksum.
        form: of the records of a ``$VSS`` store.
        volume: the firmware volume it lies in, or None.
        copy: defaults or a factory copy: values that the firmware does not use at present.
    """

    kind: Kind
    title: str
    base: int
    size: int
    records: tuple[OtherVariable, ...]
    anomalies: tuple[Anomaly, ...] = ()
    free: int = 0
    header: int = 0
    form: Form | None = None
    volume: Range | None = None
    copy: bool = False

    @property
    def range(self) -> Range:
        """The bytes it claims."""
        return Range(self.base, self.size)

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong that loses a variable."""
        return not any(item.severity == "error" for item in self.anomalies)

    @property
    def reason(self) -> str:
        """Why it is not written."""
        return REASONS[self.kind]

    @property
    def live(self) -> tuple[OtherVariable, ...]:
        """The variables as the firmware would find them.

        A record in deleted transition counts where no added one of its name and GUID is left.
        """
        keys = {(item.name, item.guid) for item in self.records if item.state_name == "added"}
        return tuple(
            item
            for item in self.records
            if item.state_name == "added"
            or (item.state_name == "in-deleted-transition" and (item.name, item.guid) not in keys)
        )

    def find(self, name: str, guid: UUID | None) -> OtherVariable | None:
        """The live record of a variable, or None."""
        return next((item for item in self.live if (item.name, item.guid) == (name, guid)), None)

    @property
    def used(self) -> int:
        """Bytes of header and live variables."""
        return self.header + sum(item.size for item in self.live)

    @property
    def reclaimable(self) -> int:
        """Bytes that are neither used nor free."""
        return max(self.size - self.used - self.free, 0)


def tail_anomaly(code: str, offset: int, tail: bytes, erased: int = 0xFF) -> Anomaly | None:
    """What is odd about the bytes behind the last entry, or None.

    Args:
        code: of the format.
        offset: image offset of the first of them.
        tail: the bytes.
        erased: what they should be.
    """
    if filled_with(tail, erased):
        return None
    at = offset + len(tail) - len(tail.lstrip(bytes([erased])))
    text = f"bytes behind the last entry are not {erased:02X}: half an entry, or something else"
    return Anomaly(f"{code}.tail", at, text, "warning")


def size_anomaly(code: str, at: int, base: int, size: int, end: int) -> Anomaly | None:
    """That a store reaches beyond the image, or None.

    Args:
        code: of the format.
        at: image offset of the field that says its size.
        base: image offset of the store.
        size: bytes it claims.
        end: image offset behind the image.
    """
    if base + size <= end:
        return None
    text = f"the store claims 0x{size:X} bytes, there is room for 0x{end - base:X}"
    return Anomaly(f"{code}.size", at, text, "error")


def duplicates(records: tuple[OtherVariable, ...], code: str) -> list[Anomaly]:
    """An anomaly for each added record whose name and GUID an earlier one has.

    A GUID that cannot be read is told from others by its number.
    """
    seen: dict[tuple[object, ...], int] = {}
    found: list[Anomaly] = []
    for item in records:
        if item.state_name != "added":
            continue
        key = item.name, item.guid, item.details.get("guid_index")
        first = seen.setdefault(key, item.offset)
        if first != item.offset:
            text = f"the variable at 0x{first:06X} has the same name and GUID, and both count"
            found.append(Anomaly(f"{code}.duplicate", item.offset, text, "warning"))
    return found
