"""From SFDP alone to a `Chip`: erase regions, address modes, times.

Ref: JESD216F §6.4 to §6.6. What SFDP cannot say (supply, protection, security registers, die
erase opcodes) is left to the catalog.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hwflash.chip import opcodes
from hwflash.chip.model import (
    Addressing,
    Chip,
    Dies,
    Duration,
    EnterFourByte,
    EraseRegion,
    EraseType,
    FailFlags,
    StatusCommands,
)
from hwflash.chip.sfdp.basic_types import (
    AddressBytes,
    BasicErase,
    BasicFlash,
    EnterMethods,
    Polling,
    QuadEnable,
    ResetMethods,
    StatusWrite,
)
from hwflash.chip.sfdp.decode import THREE_BYTE_LIMIT, Sfdp
from hwflash.chip.sfdp.header import Note
from hwflash.chip.sfdp.sector_map import (
    ConfigurationMap,
    DetectionCommand,
    MapRegion,
    select_map,
)
from hwflash.errors import ChipUnsupported, SfdpError

# Times for tables without dwords 10 and 11 (JESD216 1.0). Typical as in 3 V parts of that
# generation (W25Q128JV, MX25L12835F); no maximum is below that of any shipped table that tells
# one, so that a good chip never times out.
DEFAULT_PAGE_PROGRAM: Final = Duration(0.7e-3, 12.5e-3)
DEFAULT_ERASE_4K: Final = Duration(0.06, 1.0)
DEFAULT_ERASE_32K: Final = Duration(0.2, 3.5)
DEFAULT_ERASE_64K: Final = Duration(0.3, 6.5)

# No NOR flash in the field programs more at once; 2 KiB pages mark the parts of other kinds. One
# that is described by a chip file may have them.
MAX_PAGE: Final = 1024

# Parts whose erased bits read 0: JEDEC id, part, erased value.
# Ref: Linux, patch adding Infineon CYRS17B512 (the part erases to 00h).
_ERASED_VALUES: Final = {bytes.fromhex("c1601a"): ("CYRS17B512", 0x00)}

# Stacked Micron parts take C4h for each die and have no C7h.
# Ref: Linux drivers/mtd/spi-nor/micron-st.c (n25q00, mt25qu01g, mt35xu01gbba: die erase C4h).
_MICRON: Final = frozenset({0x20, 0x2C})
_MICRON_STACKED: Final = 1 << 27
# Their dies have 256 or 512 Mbit, and a read goes on at the start of its die: reads that end at the
# borders of the smaller one are right for both.
_MICRON_DIE: Final = 1 << 25

# SEMPER parts, by the first two id bytes: on-die ECC over 16-byte units, each to be programmed
# once. Ref: Linux drivers/mtd/spi-nor/spansion.c, cypress_nor_ecc_init.
_SEMPER: Final = (b"\x34\x2a", b"\x34\x2b", b"\x34\x5a", b"\x34\x5b")

_ENTER: Final = (
    (EnterMethods.B7, EnterFourByte.B7),
    (EnterMethods.WREN_B7, EnterFourByte.WREN_B7),
    (EnterMethods.BANK_REGISTER, EnterFourByte.BANK_REGISTER),
    (EnterMethods.EXTENDED_ADDRESS_REGISTER, EnterFourByte.EXTENDED_ADDRESS_REGISTER),
)


@dataclass(frozen=True, slots=True)
class EraseLayout:
    """Erase regions over the whole chip, and what was odd about finding them."""

    regions: tuple[EraseRegion, ...]
    notes: tuple[Note, ...]


def detection_commands(sfdp: Sfdp) -> tuple[DetectionCommand, ...]:
    """The commands whose answers choose the sector map; none for a uniform chip."""
    return () if sfdp.sector_map is None else sfdp.sector_map.commands


def _default_erase(size: int) -> Duration:
    if size <= 4 << 10:
        return DEFAULT_ERASE_4K
    if size <= 32 << 10:
        return DEFAULT_ERASE_32K
    blocks = max(size >> 16, 1)
    return Duration(DEFAULT_ERASE_64K.typical * blocks, DEFAULT_ERASE_64K.maximum * blocks)


def _erase_type(sfdp: Sfdp, item: BasicErase) -> EraseType:
    opcode_4byte = None if sfdp.four_byte is None else sfdp.four_byte.erases.get(item.index)
    return EraseType(item.size, item.opcode, item.time or _default_erase(item.size), opcode_4byte)


def _usable(sfdp: Sfdp, items: Iterable[BasicErase], notes: list[Note]) -> tuple[EraseType, ...]:
    """Erase types of one region, smallest first, without those that share an opcode.

    SST26 erases 8, 32 or 64 KiB by D8h, depending on the place: without a map that says which,
    the opcode must not be used.
    """
    found = sorted(items, key=lambda item: item.size)
    counts = Counter(item.opcode for item in found)
    for opcode in (opcode for opcode, count in counts.items() if count > 1):
        text = f"{opcode:02X}h erases different sizes; it is not used"
        notes.append(Note("ambiguous-erase-opcode", text))
    return tuple(_erase_type(sfdp, item) for item in found if counts[item.opcode] == 1)


def _uniform(sfdp: Sfdp) -> EraseLayout:
    notes: list[Note] = []
    basic = sfdp.bfpt
    types = _usable(sfdp, basic.erases, notes)
    if not types and not basic.erases and basic.erase_4k_opcode not in (None, 0x00, 0xFF):
        text = f"no erase type but 4 KiB by {basic.erase_4k_opcode:02X}h of dword 1"
        notes.append(Note("erase-types-missing", text))
        types = (EraseType(4096, basic.erase_4k_opcode or 0, DEFAULT_ERASE_4K),)
    if not types:
        raise SfdpError(
            "no usable erase type is told",
            code="sfdp.erase",
            opcodes=[item.opcode for item in basic.erases],
        )
    return EraseLayout((EraseRegion(0, basic.size, types),), tuple(notes))


def _fitted(found: ConfigurationMap, size: int) -> tuple[MapRegion, ...]:
    """The regions of a map, which must cover the chip; a single larger region is cut."""
    if found.length == size:
        return found.regions
    if len(found.regions) == 1 and found.length > size:
        return (MapRegion(size, found.regions[0].erase_types),)
    raise SfdpError(
        f"sector map {found.configuration:02X}h covers {found.length} of {size} bytes",
        code="sfdp.sector-map",
        configuration=found.configuration,
        covered=found.length,
        size=size,
    )


def erase_layout(sfdp: Sfdp, answers: Sequence[int] | None = None) -> EraseLayout:
    """Where which erase types work, from address 0 to the end of the chip.

    Args:
        sfdp: the decoded tables.
        answers: the bytes answered to `detection_commands`, in order and as read; None when
            the chip cannot be asked.

    Returns:
        Regions without holes, types smallest first, and notes.

    Raises:
        SfdpError: ``sfdp.sector-map`` (no such map, or it does not cover the chip) or
            ``sfdp.erase`` (no usable erase type).
    """
    if sfdp.sector_map is None:
        return _uniform(sfdp)
    size = sfdp.bfpt.size
    chosen, found = select_map(sfdp.sector_map, answers, size)
    notes = list(found)
    regions: list[EraseRegion] = []
    start = 0
    for region in _fitted(chosen, size):
        here = [item for item in sfdp.bfpt.erases if item.index in region.erase_types]
        types = _usable(sfdp, here, notes)
        if not types:
            raise SfdpError(
                f"no erase type works at 0x{start:X}",
                code="sfdp.erase",
                address=start,
                length=region.length,
                erase_types=list(region.erase_types),
            )
        regions.append(EraseRegion(start, region.length, types))
        start += region.length
    return EraseLayout(tuple(regions), tuple(notes))


def erase_regions(sfdp: Sfdp, answers: Sequence[int] | None = None) -> tuple[EraseRegion, ...]:
    """The regions of `erase_layout` (same arguments and errors)."""
    return erase_layout(sfdp, answers).regions


def addressing(sfdp: Sfdp) -> Addressing:
    """Address widths: dword 1, the methods of dword 16, and the 4-byte table.

    Dword 1 rules: 3-byte parts up to 16 MiB fill the methods with ones (MX25R6435F), "always"
    included. Ways that change non-volatile registers (B1h) are never chosen.
    """
    basic = sfdp.bfpt
    opcodes_4byte = sfdp.four_byte is not None and sfdp.four_byte.complete
    if basic.address_bytes is AddressBytes.FOUR:
        return Addressing(False, EnterFourByte.ALWAYS, opcodes_4byte)
    if basic.address_bytes is AddressBytes.THREE and basic.size <= THREE_BYTE_LIMIT:
        return Addressing(True, EnterFourByte.NONE, opcodes_4byte)
    methods = basic.enter_4byte
    if methods is None:
        # 9-dword tables: B7h is all that chips of that time knew; some want 06h before it,
        # the others do not mind.
        told = basic.address_bytes is AddressBytes.THREE_OR_FOUR
        enter = EnterFourByte.WREN_B7 if told else EnterFourByte.NONE
        return Addressing(True, enter, opcodes_4byte)
    enter = next((way for method, way in _ENTER if method in methods), EnterFourByte.NONE)
    return Addressing(True, enter, opcodes_4byte)


def _refuse(sfdp: Sfdp, jedec_id: bytes) -> None:
    facts = _ERASED_VALUES.get(jedec_id[:3])
    page = sfdp.bfpt.page_size
    if facts is not None:
        part, erased = facts
        raise ChipUnsupported(
            f"{part} erases to {erased:02X}h, not to FFh: what is programmed there, and what an "
            "erase undoes, is the other way round",
            code="chip.erased-value",
            part=part,
            jedec_id=jedec_id.hex(),
            erased_value=erased,
            page_size=page,
            size=sfdp.size,
        )
    if page > MAX_PAGE:
        raise ChipUnsupported(
            f"pages of {page} bytes: this is no ordinary NOR flash",
            code="chip.page-size",
            jedec_id=jedec_id.hex(),
            page_size=page,
            size=sfdp.size,
        )


def _status(basic: BasicFlash) -> StatusCommands:
    read, write = {1: opcodes.READ_STATUS_1}, {1: opcodes.WRITE_STATUS_1}
    quad = None if basic.quad is None else basic.quad.quad_enable
    if quad in (QuadEnable.SR2_BIT1_35, QuadEnable.SR2_BIT1_31):
        read[2] = opcodes.READ_STATUS_2
    if quad is QuadEnable.SR2_BIT1_31:
        write[2] = opcodes.WRITE_STATUS_2
    volatile = StatusWrite.VOLATILE_ONES_50 | StatusWrite.BOTH_06_50
    return StatusCommands(
        read,
        write,
        volatile_enable=basic.status_write is not None and bool(basic.status_write & volatile),
    )


def _stacked(basic: BasicFlash, jedec_id: bytes) -> bool:
    return jedec_id[:1] != b"" and jedec_id[0] in _MICRON and basic.size >= _MICRON_STACKED


def _chip_erase(basic: BasicFlash, jedec_id: bytes) -> tuple[int, Duration] | None:
    if _stacked(basic, jedec_id):
        return None
    if basic.times is not None:
        return opcodes.CHIP_ERASE, basic.times.chip_erase
    return opcodes.CHIP_ERASE, _default_erase(basic.size)


def to_chip(
    sfdp: Sfdp,
    jedec_id: bytes,
    answers: Sequence[int] | None = None,
    part: str = "",
    manufacturer: str = "",
) -> Chip:
    """Describe a chip from its SFDP alone.

    Args:
        sfdp: the decoded tables.
        jedec_id: the bytes answered to 9Fh.
        answers: as for `erase_layout`.
        part: name of the part, if known.
        manufacturer: its maker, if known.

    Raises:
        ChipUnsupported: erased bits are 0 (``chip.erased-value``), or pages larger than any NOR
            flash has (``chip.page-size``).
        SfdpError: as `erase_layout`.
    """
    _refuse(sfdp, jedec_id)
    basic = sfdp.bfpt
    reset = basic.reset or ResetMethods(0)
    polling = basic.polling or Polling(0)
    down = basic.power_down
    micron = jedec_id[:1] and jedec_id[0] in _MICRON and Polling.FLAG_STATUS_70 in polling
    return Chip(
        part=part,
        manufacturer=manufacturer,
        jedec_id=jedec_id,
        size=basic.size,
        page_size=basic.page_size,
        erase=erase_layout(sfdp, answers).regions,
        page_program=DEFAULT_PAGE_PROGRAM if basic.times is None else basic.times.page,
        chip_erase=_chip_erase(basic, jedec_id),
        addressing=addressing(sfdp),
        dies=Dies(basic.size // _MICRON_DIE) if _stacked(basic, jedec_id) else Dies(),
        fail_flags=FailFlags.MICRON_FSR if micron else FailFlags.NONE,
        status=_status(basic),
        quirks=frozenset({"no-reprogram"} if jedec_id[:2] in _SEMPER else ()),
        soft_reset=ResetMethods.RESET_66_99 in reset,
        deep_power_down=down is not None
        and (down.enter, down.exit) == (opcodes.POWER_DOWN, opcodes.RELEASE_POWER_DOWN),
    )
