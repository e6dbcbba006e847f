"""ACPI tables in a guest's memory: found, listed, checked, as an operating system finds them.

Ref: ACPI 6.5 §5.2.5 (RSDP), §5.2.6 (table header), §5.2.7 (RSDT), §5.2.8 (XSDT), §5.2.9 (FADT),
§5.2.10 (FACS).
Limits: tables by way of the root table, and the two that only the FADT names. Root pointers are
searched for by their signature, not taken from UEFI's configuration table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import construct

from hwflash.errors import ReferenceFailed
from hwflash.qemu.guest_memory import Memory
from hwflash.uefi.window import printable

# construct carries no annotations: its names enter as Any.
c: Any = construct

RSDP_SIGNATURE: Final = b"RSD PTR "
#: Bytes of the first version, which have a checksum of their own.
RSDP_FIRST: Final = 20
#: From this revision on there is an XSDT.
_EXTENDED: Final = 2
_SIGNATURE: Final = re.compile(rb"[A-Z0-9]{4}")
#: More tables, or a larger one, than any firmware has.
_TABLES: Final = 1024
_TABLE_BYTES: Final = 4 << 20

RSDP: Final = c.Struct(
    "signature" / c.Bytes(8), "checksum" / c.Int8ul, "oem_id" / c.Bytes(6), "revision" / c.Int8ul,
    "rsdt" / c.Int32ul, "length" / c.Int32ul, "xsdt" / c.Int64ul, "extended_checksum" / c.Int8ul,
    "reserved" / c.Bytes(3),
)  # fmt: skip
HEADER: Final = c.Struct(
    "signature" / c.Bytes(4), "length" / c.Int32ul, "revision" / c.Int8ul, "checksum" / c.Int8ul,
    "oem_id" / c.Bytes(6), "oem_table_id" / c.Bytes(8), "oem_revision" / c.Int32ul,
    "creator_id" / c.Bytes(4), "creator_revision" / c.Int32ul,
)  # fmt: skip
HEADER_BYTES: Final = 36

#: Fields of the FADT: offset and size.
_FACS, _DSDT, _PM1A_CONTROL, _GPE0 = (36, 4), (40, 4), (64, 4), (80, 4)
_X_FACS, _X_DSDT = (132, 8), (140, 8)
#: Offset of the waking vector in the FACS.
WAKING_VECTOR: Final = 12


@dataclass(frozen=True, slots=True)
class Rsdp:
    """A root pointer.

    Attributes:
        address: where it lies.
        revision: 0, or 2 and above: then it has an XSDT.
        rsdt: address of the table of 32-bit pointers, or 0.
        xsdt: address of the table of 64-bit pointers, or 0.
        oem_id: who made it.
    """

    address: int
    revision: int
    rsdt: int
    xsdt: int
    oem_id: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        address: where it lies; 0 in a file.
        signature: such as ``SSDT``.
        oem_table_id: without blanks at its end.
        data: all of it, header and checksum included.
    """

    address: int
    signature: str
    oem_table_id: str
    data: bytes

    @property
    def ok(self) -> bool:
        """Whether its bytes sum up to zero; the FACS has no checksum."""
        return self.signature == "FACS" or sum(self.data) & 0xFF == 0

    @property
    def name(self) -> str:
        """Signature, and what tells it from others of that signature."""
        return f"{self.signature} {self.oem_table_id}".rstrip()

    def number(self, offset: int, size: int) -> int:
        """A field; 0 where an older revision ends before it."""
        return int.from_bytes(self.data[offset : offset + size], "little")


def find_rsdps(data: bytes, base: int) -> list[Rsdp]:
    """The root pointers in a piece of memory whose checksums are right.

    Args:
        data: the piece.
        base: its address.
    """
    found: list[Rsdp] = []
    at = data.find(RSDP_SIGNATURE)
    while at >= 0:
        # Firmware puts them on 16 bytes; a second one right behind the first is not.
        if (base + at) % 4 == 0 and (item := _rsdp(data, at, base)) is not None:
            found.append(item)
        at = data.find(RSDP_SIGNATURE, at + 1)
    return found


def _rsdp(data: bytes, at: int, base: int) -> Rsdp | None:
    first = data[at : at + RSDP_FIRST]
    if len(first) < RSDP_FIRST or sum(first) & 0xFF:
        return None
    found = RSDP.parse(first.ljust(RSDP.sizeof(), b"\0"))
    xsdt = 0
    if found.revision >= _EXTENDED:
        whole = data[at : at + RSDP.sizeof()]
        if len(whole) < RSDP.sizeof():
            return None
        found = RSDP.parse(whole)
        covered = data[at : at + found.length]
        if not RSDP.sizeof() <= found.length == len(covered) or sum(covered) & 0xFF:
            return None
        xsdt = found.xsdt
    return Rsdp(base + at, found.revision, found.rsdt, xsdt, _text(found.oem_id))


def newest(found: Sequence[Rsdp]) -> Rsdp:
    """The root pointer that an operating system takes: the one of the highest revision.

    Raises:
        ReferenceFailed: there is none (``reference.acpi-rsdp``).
    """
    if not found:
        raise ReferenceFailed("there is no ACPI root pointer", code="reference.acpi-rsdp")
    return max(found, key=lambda item: item.revision)


def read_table(memory: Memory, address: int) -> Table:
    """The table at an address.

    Raises:
        ReferenceFailed: it cannot be one (``reference.acpi-table``), or see `Memory.read`.
    """
    head = memory.read(address, 8)
    length = int.from_bytes(head[4:8], "little")
    if not HEADER_BYTES <= length <= _TABLE_BYTES:
        raise _no_table(address, head, length)
    return make_table(memory.read(address, length), address)


def make_table(data: bytes, address: int = 0) -> Table:
    """A table from its bytes.

    Raises:
        ReferenceFailed: they cannot be one (``reference.acpi-table``).
    """
    length = int.from_bytes(data[4:8], "little")
    signature = data[:4]
    if len(data) < HEADER_BYTES or length != len(data) or not _SIGNATURE.fullmatch(signature):
        raise _no_table(address, data[:8], length)
    oem_table_id = "" if signature == b"FACS" else _text(data[16:24])
    return Table(address, signature.decode(), oem_table_id, data)


def split_tables(data: bytes) -> Iterator[Table]:
    """The tables that lie one behind the other in a file, whatever is between and behind them.

    QEMU puts them into ``etc/acpi/tables`` in this way.
    """
    hit = _SIGNATURE.search(data)
    while hit is not None:
        at = hit.start()
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        whole = HEADER_BYTES <= length <= len(data) - at
        if whole:
            yield make_table(data[at : at + length], at)
        hit = _SIGNATURE.search(data, at + (length if whole else 1))


def read_tables(memory: Memory, rsdp: Rsdp) -> tuple[Table, ...]:
    """The root table, what it names, and the FACS and the DSDT that the FADT names.

    Raises:
        ReferenceFailed: something on the way is no table (``reference.acpi-table``), there is
            no root table (``reference.acpi-root``), or see `Memory.read`.
    """
    address, width, name = (rsdp.xsdt, 8, "XSDT") if rsdp.xsdt else (rsdp.rsdt, 4, "RSDT")
    if not address:
        raise ReferenceFailed("the ACPI root pointer names no table", code="reference.acpi-root")
    root = read_table(memory, address)
    pointers = root.data[HEADER_BYTES:]
    if root.signature != name or len(pointers) % width or len(pointers) // width > _TABLES:
        raise ReferenceFailed(
            f"what should be the {name} at 0x{address:X} is {root.name or 'nothing'} with "
            f"{len(pointers):,} bytes of pointers",
            code="reference.acpi-root",
            address=address,
        )
    places = [
        int.from_bytes(pointers[at : at + width], "little") for at in range(0, len(pointers), width)
    ]
    found = [root, *(read_table(memory, place) for place in places)]
    for table in [item for item in found if item.signature == "FACP"]:
        found += [read_table(memory, place) for place in (facs_of(table), dsdt_of(table)) if place]
    return tuple(found)


# --- the FADT -----------------------------------------------------------------------------------


def facs_of(fadt: Table) -> int:
    """Address of the FACS, or 0."""
    return fadt.number(*_X_FACS) or fadt.number(*_FACS)


def dsdt_of(fadt: Table) -> int:
    """Address of the DSDT, or 0."""
    return fadt.number(*_X_DSDT) or fadt.number(*_DSDT)


def sleep_port(fadt: Table) -> int:
    """I/O port of the register that puts the machine to sleep (PM1a control)."""
    return fadt.number(*_PM1A_CONTROL)


def event_port(fadt: Table) -> int:
    """I/O port of the status bits of general purpose events (GPE0)."""
    return fadt.number(*_GPE0)


def one(tables: Sequence[Table], signature: str, oem_table_id: str | None = None) -> Table:
    """The one table of a signature, and of a table id if one is given.

    Raises:
        ReferenceFailed: there is none, or there are several (``reference.acpi-missing``).
    """
    found = [
        item for item in tables
        if item.signature == signature and oem_table_id in (None, item.oem_table_id)
    ]  # fmt: skip
    if len(found) != 1:
        what = f"{signature} {oem_table_id or ''}".rstrip()
        raise ReferenceFailed(
            f"{len(found)} tables {what}: {', '.join(item.name for item in tables)}",
            code="reference.acpi-missing",
            table=what,
        )
    return found[0]


def _text(field: bytes) -> str:
    return printable(field.rstrip(b"\0 ").decode("ascii", "replace"))


def _no_table(address: int, head: bytes, length: int) -> ReferenceFailed:
    return ReferenceFailed(
        f"at 0x{address:X} is no ACPI table: {head[:8].hex(' ')}",
        code="reference.acpi-table",
        address=address,
        length=length,
    )
