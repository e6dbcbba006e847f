"""Parts that cannot be told apart: same id, same tables, different data sheets.

Whoever must treat a chip without knowing which of its twins it is takes what is right for all of
them: the longest time limit, the addressing and the erase commands that every twin has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hwflash.chip.model import (
    Addressing,
    Chip,
    Dies,
    Duration,
    EnterFourByte,
    EraseRegion,
    EraseType,
    SectorLocks,
)

#: Those that have non-volatile bits, which a twin may lack.
_TELLING = frozenset({SectorLocks.MACRONIX, SectorLocks.MICRON_BITS, SectorLocks.SPANSION})


def cautious(chip: Chip, twins: Sequence[Chip], *, geometry_known: bool) -> Chip:
    """A chip that is treated right whichever of its twins it is.

    Args:
        chip: the best guess.
        twins: the other parts it may be.
        geometry_known: erase map and addressing are from the chip itself (SFDP) and stand.
    """
    if not twins:
        return chip
    if not geometry_known:
        chip = replace(chip, addressing=_common_addressing(chip, twins))
        chip = replace(chip, erase=tuple(_common(region, twins) for region in chip.erase))
        if any(twin.chip_erase is None or twin.chip_erase[0] != chip.chip_erase[0]
               for twin in twins if chip.chip_erase is not None):  # fmt: skip
            chip = replace(chip, chip_erase=None)
    chip = replace(chip, dies=_common_dies(chip, twins))
    regions = tuple(
        replace(region, types=tuple(_patient(kind, twins) for kind in region.types))
        for region in chip.erase
    )
    slowest = max((chip, *twins), key=lambda part: part.page_program.maximum)
    program = Duration(chip.page_program.typical, slowest.page_program.maximum)
    whole = chip.chip_erase
    if whole is not None:
        limits = [twin.chip_erase[1].maximum for twin in twins if twin.chip_erase is not None]
        whole = (whole[0], Duration(whole[1].typical, max(whole[1].maximum, *limits, 0.0)))
    # Asking for lock bits harms no part that has none, and tells that it has none.
    locks = next(
        (part.sector_locks for part in (chip, *twins) if part.sector_locks in _TELLING),
        chip.sector_locks,
    )
    return replace(chip, erase=regions, page_program=program, chip_erase=whole, sector_locks=locks)


def _common_dies(chip: Chip, twins: Sequence[Chip]) -> Dies:
    """The smallest dies of them, so that no read crosses a border, and an erase that all have.

    The erase of a die takes more than was thought where the dies are larger.
    """
    dies = max((chip.dies, *(twin.dies for twin in twins)), key=lambda item: item.count)
    known = [(part.dies.count, part.dies.erase and part.dies.erase[0]) for part in (chip, *twins)]
    if len(set(known)) > 1:
        return replace(dies, access=chip.dies.access, erase=None)
    return chip.dies


def same_blocks(chip: Chip, twin: Chip) -> bool:
    """Whether every erase command the two share erases the same bytes, at every address.

    An erase that takes more than was thought destroys what lies beside.
    """
    borders = sorted({region.start for part in (chip, twin) for region in part.erase})
    for place in borders:
        ours, theirs = (_blocks_at(part, place) for part in (chip, twin))
        if any(theirs.get(opcode, size) != size for opcode, size in ours.items()):
            return False
    return True


def _blocks_at(chip: Chip, address: int) -> dict[int, int]:
    """Size by opcode of the erase commands that work at an address."""
    for region in chip.erase:
        if region.start <= address < region.start + region.length:
            return {kind.opcode: min(kind.size, region.length) for kind in region.types}
    return {}


def _patient(kind: EraseType, twins: Sequence[Chip]) -> EraseType:
    limits = [
        other.time.maximum
        for twin in twins
        for other in twin.erase_types
        if (other.opcode, other.size) == (kind.opcode, kind.size)
    ]
    return replace(kind, time=Duration(kind.time.typical, max(kind.time.maximum, *limits, 0.0)))


def _common(region: EraseRegion, twins: Sequence[Chip]) -> EraseRegion:
    """The region with the erase commands that every twin has too."""
    known = [
        {(kind.opcode, kind.size): kind.opcode_4byte for kind in twin.erase_types} for twin in twins
    ]
    kept = tuple(
        kind if all(table[kind.opcode, kind.size] for table in known)
        else replace(kind, opcode_4byte=None)
        for kind in region.types
        if all((kind.opcode, kind.size) in table for table in known)
    )  # fmt: skip
    return replace(region, types=kept or region.types)


def _common_addressing(chip: Chip, twins: Sequence[Chip]) -> Addressing:
    ways = {part.addressing.enter for part in (chip, *twins)}
    if ways == {EnterFourByte.B7, EnterFourByte.WREN_B7}:
        ways = {EnterFourByte.WREN_B7}  # the write enable harms nobody; it is taken back
    return replace(
        chip.addressing,
        opcodes=all(part.addressing.opcodes for part in (chip, *twins)),
        enter=ways.pop() if len(ways) == 1 else chip.addressing.enter,
    )
