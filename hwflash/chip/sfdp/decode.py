"""The whole SFDP: headers and every table, with everything odd noted by name.

Ref: JESD216F §6. Tables other than the basic one, the sector map and the 4-byte instructions
are kept as bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from hwflash.chip.sfdp.basic import MIN_DWORDS, parse_basic
from hwflash.chip.sfdp.basic_types import (
    AddressBytes,
    BasicFlash,
    EnterMethods,
    ExitMethods,
)
from hwflash.chip.sfdp.four_byte import FourByteInstructions, parse_four_byte
from hwflash.chip.sfdp.header import (
    BASIC,
    FOUR_BYTE,
    MAJOR,
    SECTOR_MAP,
    Header,
    Note,
    ParameterHeader,
    parse_header,
    parse_parameter_headers,
)
from hwflash.chip.sfdp.sector_map import SectorMap, parse_sector_map
from hwflash.errors import SfdpError

THREE_BYTE_LIMIT: Final = 1 << 24  # 16 MiB, the reach of a 3-byte address
_REVERSIBLE: Final = (
    EnterMethods.B7
    | EnterMethods.WREN_B7
    | EnterMethods.BANK_REGISTER
    | EnterMethods.EXTENDED_ADDRESS_REGISTER
)
_TEXT: Final = re.compile(rb"[ -~]{6,}")
_FILLER: Final = frozenset(b"\x00\xff")


@dataclass(frozen=True, slots=True)
class RawTable:
    """A table that is not decoded.

    Attributes:
        header: its parameter header.
        data: its bytes, as many as there are (fewer than promised in a truncated dump).
    """

    header: ParameterHeader
    data: bytes


@dataclass(frozen=True, slots=True)
class Sfdp:
    """All that a chip says about itself.

    Attributes:
        revision: major and minor of the SFDP structure.
        access_protocol: byte 7 of the header, FFh for 1S-1S-1S.
        headers: every parameter header.
        bfpt: the basic flash parameter table in force, the newest of several.
        four_byte: the 4-byte address instruction table.
        sector_map: the sector map.
        tables: every other table, raw.
        notes: oddities, in the order met.
    """

    revision: tuple[int, int]
    access_protocol: int
    headers: tuple[ParameterHeader, ...]
    bfpt: BasicFlash
    four_byte: FourByteInstructions | None
    sector_map: SectorMap | None
    tables: tuple[RawTable, ...]
    notes: tuple[Note, ...]

    @property
    def size(self) -> int:
        """Bytes of flash."""
        return self.bfpt.size

    @property
    def vendor_tables(self) -> tuple[RawTable, ...]:
        """The raw tables that are a vendor's."""
        return tuple(table for table in self.tables if table.header.vendor)

    def noted(self, code: str) -> bool:
        """Whether an oddity of that name was met."""
        return any(note.code == code for note in self.notes)


def _basic_header(data: bytes, headers: tuple[ParameterHeader, ...]) -> ParameterHeader:
    """The newest basic table of which enough is there."""
    found = [item for item in headers if item.id == BASIC and item.major == MAJOR]
    if not found:
        raise SfdpError(
            "no basic flash parameter table",
            code="sfdp.bfpt",
            offset=8,
            tables=[f"{item.id:04x}" for item in headers],
        )
    long = [item for item in found if item.dwords >= MIN_DWORDS]
    if not long:
        raise SfdpError(
            f"a basic flash parameter table of {found[0].dwords} dwords, at least 9 are needed",
            code="sfdp.bfpt",
            offset=found[0].offset,
            dwords=found[0].dwords,
        )
    within = [item for item in long if item.pointer + 4 * MIN_DWORDS <= len(data)]
    if not within:
        raise SfdpError(
            f"the basic flash parameter table at 0x{long[0].pointer:X} is not in {len(data)} bytes",
            code="sfdp.truncated",
            offset=long[0].pointer,
            needed=long[0].pointer + 4 * MIN_DWORDS,
            length=len(data),
        )
    return max(within, key=lambda item: (item.minor, item.dwords))


def _header_notes(data: bytes, header: Header, headers: tuple[ParameterHeader, ...]) -> list[Note]:
    notes: list[Note] = []
    counted = [item for item in headers if not item.beyond_nph]
    if len(counted) < header.headers:
        text = f"{len(counted)} of {header.headers} parameter headers are in {len(data)} bytes"
        notes.append(Note("truncated-headers", text))
    beyond = [item for item in headers if item.beyond_nph]
    if beyond:
        ids = ", ".join(f"{item.id:04X}" for item in beyond)
        text = f"NPH tells {header.headers} headers; behind them stands {ids}"
        notes.append(Note("headers-beyond-nph", text))
    if sum(item.id == BASIC for item in counted) > 1:
        notes.append(Note("multiple-bfpt", "several basic tables; the newest is taken"))
    if counted and counted[0].id != BASIC:
        notes.append(Note("bfpt-not-first", f"the first table is {counted[0].id:04X}"))
    for item in headers:
        name = f"{item.name} {item.id:04X} at 0x{item.pointer:X}"
        if item.end > len(data):
            text = f"{name}: {max(len(data) - item.pointer, 0)} of {4 * item.dwords} bytes"
            notes.append(Note("truncated-table", text))
        if item.dwords == 0:
            notes.append(Note("empty-table", name))
        if item.pointer < header.end:
            notes.append(Note("table-overlaps-headers", name))
        if item.major != MAJOR and not item.vendor:
            notes.append(Note("table-revision", f"{name}: revision {item.major}.{item.minor}"))
    return notes


def _strays(data: bytes, header: Header, headers: tuple[ParameterHeader, ...]) -> list[Note]:
    """Bytes that belong to no table: Winbond lets users write into the SFDP area."""
    covered = bytearray(data)
    spans = [(0, header.end)]
    spans += [(item.offset, item.offset + 8) for item in headers]
    spans += [(item.pointer, item.end) for item in headers]
    for start, end in spans:
        length = max(min(end, len(data)) - start, 0)
        covered[start : start + length] = b"\xff" * length
    if set(covered) <= _FILLER:
        return []
    text = _TEXT.search(covered)
    if text is not None:
        sample = text[0][:32].decode("ascii")
        return [Note("user-text-in-sfdp", f"{sample!r} at 0x{text.start():X}")]
    first = next(place for place, byte in enumerate(covered) if byte not in _FILLER)
    return [Note("bytes-outside-tables", f"from 0x{first:X} on")]


def _address_notes(basic: BasicFlash, four_byte: FourByteInstructions | None) -> list[Note]:
    """How a chip above 16 MiB is reached, if the tables leave that open."""
    notes: list[Note] = []
    methods = basic.enter_4byte or EnterMethods(0)
    if EnterMethods.ALWAYS in methods and basic.address_bytes is not AddressBytes.FOUR:
        text = f"dword 16 says always 4 address bytes, dword 1 says {basic.address_bytes}"
        notes.append(Note("always-4byte-contradicted", text))
    if basic.size <= THREE_BYTE_LIMIT or basic.address_bytes is AddressBytes.FOUR:
        return notes
    if EnterMethods.OPCODES in methods and four_byte is None:
        text = "4-byte commands exist, but no table tells which"
        notes.append(Note("4byte-opcodes-without-4bait", text))
    by_b7 = methods & (EnterMethods.B7 | EnterMethods.WREN_B7)
    left_by = (basic.exit_4byte or ExitMethods(0)) & (ExitMethods.E9 | ExitMethods.WREN_E9)
    if by_b7 and not left_by:
        text = "B7h enters the 4-byte mode, but E9h does not leave it"
        notes.append(Note("4byte-exit-without-e9", text))
    if four_byte is not None and four_byte.complete:
        return notes
    if basic.enter_4byte is None and basic.address_bytes is AddressBytes.THREE_OR_FOUR:
        text = "not told how the 4-byte mode is entered: 06h and B7h are assumed"
        notes.append(Note("4byte-entry-assumed", text))
    elif not methods & _REVERSIBLE:
        text = "no way to addresses above 16 MiB is told"
        notes.append(Note("4byte-entry-unknown", text))
    return notes


def parse(data: bytes) -> Sfdp:
    """Decode SFDP bytes.

    Args:
        data: the SFDP space from address 0; `length_needed` tells how much of it. A truncated
            dump is decoded as far as it goes, with notes.

    Raises:
        SfdpError: ``sfdp.truncated``, ``sfdp.signature``, ``sfdp.revision``, ``sfdp.bfpt`` or
            ``sfdp.density``; nothing else, whatever the bytes are.
    """
    header = parse_header(data)
    headers = parse_parameter_headers(data, header)
    chosen = _basic_header(data, headers)
    notes = _header_notes(data, header, headers)
    basic, found = parse_basic(
        data[chosen.pointer : chosen.end], (chosen.major, chosen.minor), chosen.pointer
    )
    notes += found
    four_byte: FourByteInstructions | None = None
    sector_map: SectorMap | None = None
    tables: list[RawTable] = []
    for item in headers:
        table = data[item.pointer : item.end]
        whole = item.major == MAJOR and not item.beyond_nph and len(table) == 4 * item.dwords
        if item.id == BASIC:
            continue
        if item.id == FOUR_BYTE and whole and item.dwords >= 2 and four_byte is None:
            four_byte, found = parse_four_byte(table, (item.major, item.minor), basic)
            notes += found
        elif item.id == SECTOR_MAP and whole and item.dwords and sector_map is None:
            sector_map, found = parse_sector_map(table, (item.major, item.minor), basic.size)
            notes += found
        else:
            tables.append(RawTable(item, table))
    notes += _address_notes(basic, four_byte)
    notes += _strays(data, header, headers)
    return Sfdp(
        (header.major, header.minor),
        header.access_protocol,
        headers,
        basic,
        four_byte,
        sector_map,
        tuple(tables),
        tuple(notes),
    )
