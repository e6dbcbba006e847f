"""SFDP bytes made to order, and short ways to the shipped tables."""

import struct

from hwflash.chip import dumps, sfdp
from hwflash.chip.model import Chip


def table_of(name: str) -> sfdp.Sfdp:
    """A shipped table, decoded."""
    return sfdp.parse(dumps.load(name).sfdp)


def codes(table: sfdp.Sfdp) -> set[str]:
    """Names of the oddities of a table."""
    return {note.code for note in table.notes}


def header(identity: int, dwords: int, pointer: int, minor: int = 6, major: int = 1) -> bytes:
    """A parameter header."""
    place = pointer.to_bytes(3, "little")
    return bytes([identity & 0xFF, minor, major, dwords]) + place + bytes([identity >> 8])


def build(
    *tables: tuple[int, list[int]], nph: int | None = None, minor: int = 6, extra: bytes = b""
) -> bytes:
    """SFDP bytes of tables (id, dwords), one behind the other from 0x80 on."""
    count = len(tables) if nph is None else nph
    head = b"SFDP" + bytes([minor, 1, count - 1, 0xFF])
    body = b""
    for identity, dwords in tables:
        head += header(identity, len(dwords), 0x80 + len(body))
        body += struct.pack(f"<{len(dwords)}I", *dwords)
    return (head + extra).ljust(0x80, b"\xff") + body


def basic(name: str = "W25Q128JV", **changed: int) -> tuple[int, list[int]]:
    """The basic table of a real part, with dwords changed: ``basic(d2=0x0FFFFFFF)``."""
    dwords = list(table_of(name).bfpt.dwords)
    for key, value in changed.items():
        dwords[int(key[1:]) - 1] = value
    return 0xFF00, dwords


def chip(table: sfdp.Sfdp, answers: list[int] | None = None) -> Chip:
    """The chip of a table, under the id of a W25Q128."""
    return sfdp.to_chip(table, b"\xef\x40\x18", answers)
