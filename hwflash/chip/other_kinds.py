"""Chips that answer 9Fh and are no NOR flash: SPI NAND and DataFlash.

Read and page program have the same opcodes there and mean something else, so such a chip is
refused by its id, whatever the user insists on.

Ref: Linux drivers/mtd/nand/spi (ids, with and without a dummy byte before them);
AT45DB081D data sheet (id, buffers, pages of 264 bytes).
Limits: the ids of NAND parts are not ordered as those of NOR parts are; these are known ones.
"""

from __future__ import annotations

from typing import Final

from hwflash.errors import ChipUnsupported

#: Maker and the device bytes of its SPI NAND parts.
_NAND: Final = {
    0xEF: frozenset((0xAA, 0xAB, 0xBA, 0xBC, 0xBF)),  # W25N, W25M02GV, W35N
    0xC2: frozenset((0x12, 0x14, 0x22, 0x24, 0x26, 0x92, 0x96, 0xA2, 0xA6)),  # MX35
    0x2C: frozenset((0x14, 0x15, 0x24, 0x25, 0x34, 0x36, 0x46)),  # MT29F
    0xC8: frozenset((0xB1, 0xB2, 0xB4, 0xC1, 0xC9, 0xD1, 0xD2, 0xD4, 0xD9, 0xF1, 0xF2, 0xF4)),
    0x98: frozenset((0xC2, 0xCB, 0xCD, 0xE2, 0xE4, 0xEB, 0xED)),  # Kioxia TC58
}
_ADESTO: Final = 0x1F
_DATAFLASH: Final = range(0x22, 0x2A)  # AT45DB011D to AT45DB642D and their successors


def refuse_other_kinds(answer: bytes) -> None:
    """Refuse a chip that is known to be something else.

    Args:
        answer: the bytes after 9Fh.

    Raises:
        ChipUnsupported: SPI NAND (``chip.nand``) or DataFlash (``chip.dataflash``).
    """
    # NAND parts want an address or dummy byte after 9Fh; what they say meanwhile is no id.
    shifted = answer[1:] if answer[:1] in (b"\x00", b"\xff") else answer
    maker, device = (*shifted[:2], 0, 0)[:2]
    if device in _NAND.get(maker, ()):
        raise ChipUnsupported(
            f"the chip answers id {shifted[:3].hex()}: this is SPI NAND, with bad blocks and pages "
            "that are loaded before they are read; it is not read, and not written",
            code="chip.nand",
            jedec_id=shifted[:3].hex(),
        )
    if maker == _ADESTO and device in _DATAFLASH:
        raise ChipUnsupported(
            f"the chip answers id {answer[:3].hex()}: this is DataFlash (AT45DB), with pages of "
            "264 or 528 bytes behind buffers and commands of its own; it is not read, and not "
            "written",
            code="chip.dataflash",
            jedec_id=answer[:3].hex(),
        )
