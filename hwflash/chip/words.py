"""What is odd about a chip, in words: how it is addressed, programmed, erased, and its dies."""

from __future__ import annotations

from typing import Final

from hwflash.chip import opcodes
from hwflash.chip.commands import CommandSet
from hwflash.chip.model import Chip, DieAccess, EnterFourByte, Programming
from hwflash.errors import ChipUnsupported
from hwflash.units import format_size

_MODES: Final = {
    EnterFourByte.B7: "the 4-byte mode, entered by B7h and left by E9h",
    EnterFourByte.WREN_B7: "the 4-byte mode, entered by 06h B7h and left by 06h E9h",
}
_SEGMENTS: Final = {
    EnterFourByte.EXTENDED_ADDRESS_REGISTER: "the extended address register (C5h, C8h)",
    EnterFourByte.BANK_REGISTER: "the bank register (17h, 16h)",
}
_PROGRAMMING: Final = {
    Programming.BYTE: "single bytes (02h)",
    Programming.AAI_BYTE: "bytes one after the other by auto address increment (AFh)",
    Programming.AAI_WORD: "words of 2 bytes by auto address increment (ADh), single bytes by 02h",
}
_REACHED: Final = {
    DieAccess.ADDRESS: "reached by the address; a read ends at the border of its die",
    DieAccess.STATUS: "reached by the address; C2h says whose status register is read",
    DieAccess.SELECT: "one is selected by C2h; each has an address space of its own",
}


def addressing_words(chip: Chip) -> str:
    """How hwflash addresses the chip."""
    try:
        commands = CommandSet.choose(chip, 1e6)
    except ChipUnsupported:
        return "no way beyond the first 16 MiB is known"
    enter = chip.addressing.enter
    if commands.segmented:
        return f"3 bytes, the fourth in {_SEGMENTS[enter]}"
    if commands.width == 3:
        return "3 bytes"
    if commands.dedicated:
        return "4 bytes by commands of their own (13h, 0Ch, 12h); no mode is changed"
    if enter in _MODES:
        why = "; only the reads have 4-byte commands" if chip.addressing.read_opcodes else ""
        return f"4 bytes in {_MODES[enter]}{why}"
    return "4 bytes always"


def programming_words(chip: Chip) -> str:
    """What one program command takes."""
    if chip.programming is Programming.PAGE:
        return f"pages of {format_size(chip.page_size)}"
    return _PROGRAMMING[chip.programming]


def dies_words(chip: Chip) -> str:
    """The dies in the package."""
    dies = chip.dies
    if dies.count == 1:
        return "one die"
    text = f"{dies.count} dies of {format_size(chip.die_size)}, {_REACHED[dies.access]}"
    return text + (f"; {dies.erase[0]:02X}h erases one" if dies.erase else "")


def erase_words(chip: Chip) -> str:
    """The erase map."""
    sizes = sorted({kind.size for kind in chip.erase_types})
    smallest = sorted({region.types[0].size for region in chip.erase})
    if len(chip.erase) == 1:
        text = f"alike everywhere, {format_size(sizes[0])} at least"
    else:
        ends = [
            name
            for name, region in (("start", chip.erase[0]), ("end", chip.erase[-1]))
            if region.length < chip.size // 2
        ]
        blocks = f"{format_size(smallest[0])} to {format_size(sizes[-1])}"
        text = f"blocks of {blocks}, other ones at the {' and at the '.join(ends)}"
    if chip.chip_erase is None:
        return f"{text}; no chip erase"
    also = (opcodes.CHIP_ERASE, opcodes.CHIP_ERASE_ALTERNATE)
    return f"{text}; chip erase {chip.chip_erase[0]:02X}h" if chip.chip_erase[0] in also else text
