"""SFDP header and parameter headers, and how much of the SFDP space a reader must fetch.

Ref: JESD216F §6.2, §6.3. Read SFDP is 5Ah, a 3-byte address and 8 dummy clocks.
Limits: nothing is looked for above `MAX_BYTES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hwflash.chip.sfdp.layout import PARAMETER_HEADER, SFDP_HEADER, fields
from hwflash.errors import SfdpError

SIGNATURE: Final = b"SFDP"
MAJOR: Final = 1

# The highest table of all known parts ends at 4.4 KiB (S25FL512S); a pointer far above is a
# damaged header, and 64 KiB is still read in 20 ms.
MAX_BYTES: Final = 0x10000

# W25Q01JV has one header more than NPH admits; a few more places are looked at.
EXTRA_HEADERS: Final = 4

BASIC: Final = 0xFF00
SECTOR_MAP: Final = 0xFF81
FOUR_BYTE: Final = 0xFF84

TABLE_NAMES: Final = {
    BASIC: "basic flash parameters",
    0xFF03: "replay-protected monotonic counters",
    0xFF05: "xSPI profile 1.0",
    0xFF06: "xSPI profile 2.0",
    0xFF0A: "command sequences to octal DDR",
    SECTOR_MAP: "sector map",
    FOUR_BYTE: "4-byte address instructions",
    0xFF87: "status, control and configuration registers",
    0xFF88: "status, control and configuration registers of further dies",
}


@dataclass(frozen=True, slots=True)
class Note:
    """An oddity of a table: a stable ``code`` and a sentence with the figures."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class ParameterHeader:
    """One parameter header.

    Attributes:
        id: 16 bits; FFxx is a JEDEC table, or a vendor's in tables of revision 1.0.
        major: major revision of the table.
        minor: minor revision of the table.
        dwords: length of the table in 4-byte words.
        pointer: address of the table in the SFDP space.
        offset: address of this header.
        beyond_nph: it stands behind the headers that the SFDP header counts.
    """

    id: int
    major: int
    minor: int
    dwords: int
    pointer: int
    offset: int
    beyond_nph: bool = False

    @property
    def end(self) -> int:
        """The first address behind the table."""
        return self.pointer + 4 * self.dwords

    @property
    def vendor(self) -> bool:
        """The table is a vendor's.

        JEDEC's own FFxx ids have an even number of ones in xx; an odd number is a JEP106
        maker code (C2 Macronix, C8 GigaDevice), as the one-byte ids of JESD216 1.0 were.
        """
        return self.id >> 8 != 0xFF or (self.id & 0xFF).bit_count() % 2 == 1

    @property
    def name(self) -> str:
        """What the table is, in words."""
        if self.vendor:
            return "vendor table"
        return TABLE_NAMES.get(self.id, "JEDEC table")


@dataclass(frozen=True, slots=True)
class Header:
    """The 8 bytes at address 0.

    Attributes:
        major: major revision of the SFDP structure, always 1.
        minor: 0 JESD216, 5 A, 6 B, 8 D; up to 10 have been seen.
        headers: number of parameter headers counted (NPH + 1).
        access_protocol: how 5Ah is to be sent; FFh is 1S-1S-1S with 3-byte address.
    """

    major: int
    minor: int
    headers: int
    access_protocol: int

    @property
    def end(self) -> int:
        """The first address behind the counted parameter headers."""
        return 8 + 8 * self.headers


def parse_header(data: bytes) -> Header:
    """Decode the SFDP header.

    Raises:
        SfdpError: ``sfdp.truncated``, ``sfdp.signature`` or ``sfdp.revision``.
    """
    if len(data) < 8:
        raise SfdpError(
            f"an SFDP header has 8 bytes, there are {len(data)}",
            code="sfdp.truncated",
            offset=0,
            needed=8,
            length=len(data),
        )
    if data[:4] != SIGNATURE:
        raise SfdpError(
            f"no SFDP signature: {data[:4].hex(' ')} instead of {SIGNATURE.hex(' ')}",
            code="sfdp.signature",
            offset=0,
            found=data[:4].hex(),
        )
    found = SFDP_HEADER.parse(data)
    if found.major != MAJOR:
        raise SfdpError(
            f"SFDP revision {found.major}.{found.minor} is not known",
            code="sfdp.revision",
            offset=5,
            major=int(found.major),
            minor=int(found.minor),
        )
    return Header(int(found.major), int(found.minor), found.nph + 1, int(found.access_protocol))


def _parameter_header(data: bytes, offset: int, beyond: bool) -> ParameterHeader:
    found = fields(PARAMETER_HEADER, data[offset : offset + 8])
    return ParameterHeader(
        found["id_msb"] << 8 | found["id_lsb"],
        found["major"],
        found["minor"],
        found["dwords"],
        found["pointer"],
        offset,
        beyond,
    )


def _plausible(header: ParameterHeader) -> bool:
    """Whether bytes behind the counted headers are a header and not filler or a user's text."""
    return (
        header.id >> 8 == 0xFF
        and header.id != 0xFFFF
        and header.major == MAJOR
        and header.dwords > 0
        and header.pointer % 4 == 0
        and header.offset + 8 <= header.pointer < MAX_BYTES
    )


def parse_parameter_headers(data: bytes, header: Header) -> tuple[ParameterHeader, ...]:
    """Decode all parameter headers that are wholly in ``data``, uncounted ones included.

    The uncounted ones end at the first 8 bytes that are no header, or where a table begins.
    """
    found = [
        _parameter_header(data, offset, False)
        for offset in range(8, min(header.end, len(data) - 7), 8)
    ]
    limit = min((item.pointer for item in found if item.pointer >= header.end), default=MAX_BYTES)
    for offset in range(header.end, header.end + 8 * EXTRA_HEADERS, 8):
        if offset + 8 > min(len(data), limit):
            break
        extra = _parameter_header(data, offset, True)
        if not _plausible(extra):
            break
        found.append(extra)
    return tuple(found)


def length_needed(first_bytes: bytes) -> int:
    """How many bytes from address 0 a reader must fetch to know the whole SFDP.

    To be asked again with what has been read until the answer is not more than that: 8 bytes
    for the header, then all parameter headers (and a few places behind them, where some parts
    keep headers they do not count), then the tables. Three rounds at most.

    Args:
        first_bytes: what has been read so far, from address 0; may be empty.

    Returns:
        A number of bytes from 8 to `MAX_BYTES` (tables above are left out).

    Raises:
        SfdpError: ``sfdp.signature``, ``sfdp.revision``; ``sfdp.pointer`` when no basic table
            can be reached.
    """
    if len(first_bytes) < 8:
        return 8
    header = parse_header(first_bytes)
    listed = header.end + 8 * EXTRA_HEADERS
    if len(first_bytes) < listed:
        return listed
    headers = parse_parameter_headers(first_bytes, header)
    reachable = [item for item in headers if item.end <= MAX_BYTES]
    if not any(item.id == BASIC and item.dwords for item in reachable):
        raise SfdpError(
            "no parameter header points to a basic flash parameter table",
            code="sfdp.pointer",
            offset=8,
            pointers=[item.pointer for item in headers],
        )
    return max(listed, *(item.end for item in reachable))
