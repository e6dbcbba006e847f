"""4-byte Address Instruction Table (id FF84): commands that always take a 4-byte address.

Ref: JESD216F §6.6; bit positions as in Linux drivers/mtd/spi-nor/sfdp.c (bits 0 to 15) and an
xSPI device's register manual (bits 20 to 24).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hwflash.chip.sfdp.basic_types import BasicFlash, ReadMode
from hwflash.chip.sfdp.header import Note

# Bit of dword 1, opcode with 3-byte address, opcode with 4-byte address.
_READS: Final = (
    (0, 0x03, 0x13),
    (1, 0x0B, 0x0C),
    (2, 0x3B, 0x3C),
    (3, 0xBB, 0xBC),
    (4, 0x6B, 0x6C),
    (5, 0xEB, 0xEC),
    (13, 0x0D, 0x0E),
    (14, 0xBD, 0xBE),
    (15, 0xED, 0xEE),
)
_OCTAL_READS: Final = ((20, 0x8B, 0x7C), (21, 0xCB, 0xCC))
_PROGRAMS: Final = ((6, "1S-1S-1S", 0x12), (7, "1S-1S-4S", 0x34), (8, "1S-4S-4S", 0x3E))
_OCTAL_PROGRAMS: Final = ((23, "1S-1S-8S", 0x84), (24, "1S-8S-8S", 0x8E))
_FIRST_ERASE: Final = 9

# Before JESD216C bits 20 and up were reserved and left at 1 (W25Q64JW): they are believed only
# beside a basic table that knows octal reads.
_OCTAL_DWORDS: Final = 17


@dataclass(frozen=True, slots=True)
class FourByteInstructions:
    """The 4-byte address instruction table.

    Attributes:
        revision: major and minor of the table.
        support: dword 1 as it stands.
        reads: opcode with 3-byte address to the one with 4-byte address.
        programs: protocol to opcode.
        erases: erase type index (1 to 4) to opcode.
    """

    revision: tuple[int, int]
    support: int
    reads: dict[int, int]
    programs: dict[str, int]
    erases: dict[int, int]

    @property
    def complete(self) -> bool:
        """13h, 0Ch and 12h are there: read and program need no 4-byte mode."""
        return {0x13, 0x0C} <= set(self.reads.values()) and 0x12 in self.programs.values()


def parse_four_byte(
    table: bytes, revision: tuple[int, int], basic: BasicFlash
) -> tuple[FourByteInstructions, tuple[Note, ...]]:
    """Decode the table.

    Args:
        table: at least 8 bytes.
        revision: major and minor of the table.
        basic: the basic table, whose erase types dword 2 refers to.

    Returns:
        The decoded table and the oddities met.
    """
    support = int.from_bytes(table[:4], "little")
    octal = len(basic.dwords) >= _OCTAL_DWORDS
    notes: list[Note] = []
    erases: dict[int, int] = {}
    for index in range(1, 5):
        opcode = table[3 + index]
        if support >> (_FIRST_ERASE + index - 1) & 1:
            if opcode in (0x00, 0xFF):
                if any(item.index == index for item in basic.erases):
                    text = f"erase type {index} is supported, but its opcode is {opcode:02X}h"
                    notes.append(Note("4bait-erase-opcode-missing", text))
            else:
                erases[index] = opcode
    found = FourByteInstructions(
        revision,
        support,
        {
            three: four
            for bit, three, four in _READS + (_OCTAL_READS if octal else ())
            if support >> bit & 1
        },
        {
            name: opcode
            for bit, name, opcode in _PROGRAMS + (_OCTAL_PROGRAMS if octal else ())
            if support >> bit & 1
        },
        erases,
    )
    return found, tuple(notes) + _gaps(found, basic)


def _gaps(found: FourByteInstructions, basic: BasicFlash) -> tuple[Note, ...]:
    if not found.reads and not found.programs and not found.erases:
        text = f"the support word {found.support:08x} names no command"
        return (Note("4bait-empty", text),)
    notes: list[Note] = []
    if not found.complete:
        missing = [
            f"{opcode:02X}h"
            for opcode in (0x13, 0x0C, 0x12)
            if opcode not in (*found.reads.values(), *found.programs.values())
        ]
        notes.append(Note("4bait-incomplete", f"without {', '.join(missing)}"))
    for item in basic.erases:
        if item.index not in found.erases:
            code = f"4bait-missing-{item.size >> 10}k"
            notes.append(Note(code, f"no 4-byte opcode for the {item.size} byte erase"))
    return tuple(notes)


def read_modes(basic: BasicFlash, four_byte: FourByteInstructions | None) -> tuple[ReadMode, ...]:
    """Every read command, with the opcodes for 3-byte (``four_byte`` None) or 4-byte addresses.

    03h and 0Bh with 8 dummy clocks are taken for granted by SFDP, and so are listed without
    being in the basic table. A 2S-2S-2S or 4S-4S-4S read has no bit of its own in the 4-byte
    table: it is there when its opcode is.
    """
    known = (
        ReadMode("1S-1S-1S", 0x03, 0, 0),
        ReadMode("1S-1S-1S", 0x0B, 0, 8),
        *basic.reads,
    )
    if four_byte is None:
        return known
    # Macronix octal parts list 7Ch, which is a 4-byte command already, in the basic table.
    forms = {**{four: four for four in four_byte.reads.values()}, **four_byte.reads}
    return tuple(
        ReadMode(mode.protocol, forms[mode.opcode], mode.mode_clocks, mode.wait_states)
        for mode in known
        if mode.opcode in forms
    )
