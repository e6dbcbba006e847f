"""From what a chip answers to what it is: JEDEC id, SFDP and catalog brought together.

SFDP comes from the chip itself and rules the geometry; the catalog knows what SFDP does not
tell (voltage, protection, real times, quirks); the user may name a part. Where SFDP and
catalog disagree, the difference is a `Conflict`, never silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwflash.chip.model import (
    Addressing,
    Chip,
    DieAccess,
    EnterFourByte,
    EraseRegion,
    EraseType,
    RegisterBit,
)
from hwflash.chip.twins import cautious
from hwflash.errors import ChipUnknown, UsageError

#: JEDEC manufacturer codes (JEP106, bank 1, as SPI NOR chips answer them).
MANUFACTURERS = {
    0x01: "Spansion/Infineon", 0x0B: "XTX", 0x1C: "Eon", 0x1F: "Adesto/Renesas", 0x20: "Micron/XMC",
    0x2C: "Micron", 0x34: "Cypress/Infineon", 0x37: "AMIC", 0x5E: "Zbit", 0x68: "Boya",
    0x85: "Puya", 0x9D: "ISSI", 0xA1: "Fudan", 0xBF: "Microchip/SST", 0xC2: "Macronix",
    0xC8: "GigaDevice", 0xEF: "Winbond",
}  # fmt: skip

#: Spansion FL-S: the 4 KiB sectors are at the top. One-time programmable.
TBPARM = RegisterBit(2, 2)

#: What a `Conflict` can be about.
FIELDS = ("size", "page_size", "erase")


@dataclass(frozen=True, slots=True)
class Conflict:
    """One fact on which two sources disagree.

    Attributes:
        field: ``size``, ``page_size`` or ``erase``.
        sfdp: what SFDP says, in words.
        catalog: what the catalog says, in words.
        dangerous: writing by the wrong one would destroy data (size, erase geometry).
    """

    field: str
    sfdp: str
    catalog: str
    dangerous: bool

    def __str__(self) -> str:
        return f"{self.field}: SFDP says {self.sfdp}, the catalog says {self.catalog}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What the sources together say.

    Attributes:
        chip: the chip.
        source: ``sfdp``, ``catalog`` or ``override``: where the geometry is from.
        conflicts: where SFDP and catalog disagree.
        twins: other parts of the catalog with the same id that fit as well; ``chip`` is
            treated so that it is right for each of them.
        settled: fields on which the user has the last word.
    """

    chip: Chip
    source: str
    conflicts: tuple[Conflict, ...] = ()
    twins: tuple[Chip, ...] = ()
    settled: frozenset[str] = frozenset()

    @property
    def doubts(self) -> tuple[Conflict, ...]:
        """Conflicts that make writing dangerous and that the user has not settled."""
        return tuple(
            item for item in self.conflicts if item.dangerous and item.field not in self.settled
        )


def manufacturer_name(jedec_id: bytes) -> str:
    """The maker behind the first id byte, or ``unknown (xx)``."""
    return MANUFACTURERS.get(jedec_id[0], f"unknown ({jedec_id[0]:02x})")


def resolve(
    jedec_id: bytes,
    sfdp: Chip | None,
    candidates: Sequence[Chip],
    *,
    override: Chip | None = None,
    size: int | None = None,
) -> Resolved:
    """Decide what the chip is.

    Args:
        jedec_id: what 9Fh answered.
        sfdp: the chip as its SFDP tables describe it, or None.
        candidates: catalog parts with this id.
        override: the part the user insists on.
        size: the size in bytes the user insists on.

    Raises:
        ChipUnknown: no source describes it.
    """
    if sfdp is not None:
        sfdp = _whole_stack(sfdp, candidates if override is None else [override])
    if override is not None:
        against = conflicts(sfdp, override) if sfdp else ()
        found = Resolved(override, "override", against, settled=frozenset(FIELDS))
    elif sfdp is None and not candidates:
        raise ChipUnknown(
            f"the chip answers id {jedec_id.hex()}; it has no SFDP and is not in the catalog",
            jedec_id=jedec_id.hex(),
            manufacturer=manufacturer_name(jedec_id),
        )
    elif sfdp is None:
        chip, *rest = candidates
        found = Resolved(cautious(chip, rest, geometry_known=False), "catalog", twins=tuple(rest))
    elif not candidates:
        found = Resolved(sfdp, "sfdp")
    else:
        ranked = sorted(candidates, key=lambda chip: _distance(sfdp, chip))
        nearest = _distance(sfdp, ranked[0])
        best, *rest = (chip for chip in ranked if _distance(sfdp, chip) == nearest)
        chip = cautious(combine(sfdp, best), [*rest, sfdp], geometry_known=True)
        found = Resolved(chip, "sfdp", conflicts(sfdp, best), tuple(rest))
    if size is None or size == found.chip.size:
        return found
    return replace(
        found,
        chip=resize(found.chip, size),
        source="override",
        settled=found.settled | {"size"},
    )


def _whole_stack(sfdp: Chip, candidates: Sequence[Chip]) -> Chip:
    """The tables of a die that is selected describe that die: all of them together."""
    for part in candidates:
        if part.dies.access is DieAccess.SELECT and sfdp.size == part.die_size:
            return replace(resize(sfdp, part.size), chip_erase=None)
    return sfdp


def _distance(sfdp: Chip, catalog: Chip) -> tuple[int, int]:
    """How badly a part fits the tables: conflicts, then erase commands only one of them has."""
    ours = {(kind.opcode, kind.size) for kind in sfdp.erase_types}
    theirs = {(kind.opcode, kind.size) for kind in catalog.erase_types}
    return len(conflicts(sfdp, catalog)), len(ours ^ theirs)


def conflicts(sfdp: Chip, catalog: Chip) -> tuple[Conflict, ...]:
    """Where two descriptions of a chip differ in geometry."""
    found: list[Conflict] = []
    if sfdp.size != catalog.size:
        found.append(Conflict("size", str(sfdp.size), str(catalog.size), dangerous=True))
    if sfdp.page_size != catalog.page_size:
        found.append(
            Conflict("page_size", str(sfdp.page_size), str(catalog.page_size), dangerous=False)
        )
    theirs = {(kind.opcode, kind.size) for kind in catalog.erase_types}
    ours = {(kind.opcode, kind.size) for kind in sfdp.erase_types}
    by_opcode = dict(theirs)
    clash = {
        opcode for opcode, size in ours
        if opcode in by_opcode and (opcode, size) not in theirs
    }  # fmt: skip
    if clash:
        found.append(Conflict("erase", _erases(ours), _erases(theirs), dangerous=True))
    return tuple(found)


def combine(sfdp: Chip, catalog: Chip) -> Chip:
    """Geometry and addressing of SFDP, everything else of the catalog.

    SFDP rounds times up to its coarse units; the data sheet's are used where the same erase
    type is known.
    """
    times = {(kind.opcode, kind.size): kind.time for kind in catalog.erase_types}

    def timed(kind: EraseType) -> EraseType:
        return replace(kind, time=times.get((kind.opcode, kind.size), kind.time))

    regions = tuple(
        EraseRegion(region.start, region.length, tuple(timed(kind) for kind in region.types))
        for region in sfdp.erase
    )
    return replace(
        catalog,
        jedec_id=sfdp.jedec_id,
        size=sfdp.size,
        page_size=sfdp.page_size,
        erase=regions,
        addressing=_addressing(sfdp, catalog),
        quirks=catalog.quirks | sfdp.quirks,
    )


def resize(chip: Chip, size: int) -> Chip:
    """The same chip with another size, for parts whose tables are wrong.

    The erase map is cut off or its last region is drawn out. A smaller one has no chip erase:
    that would not stop at the size.

    Raises:
        UsageError: not a whole number of the smallest erase blocks (``usage.size``).
    """
    end = max((region for region in chip.erase if region.start < size), default=None, key=_start)
    unit = end.types[0].size if end is not None and end.types else 1
    if end is None or size % unit:
        raise UsageError(
            f"{size} bytes are no whole number of the {unit}-byte erase blocks of {chip.part}",
            code="usage.size",
            part=chip.part,
            size=size,
        )
    regions: list[EraseRegion] = []
    for region in chip.erase:
        if region.start < size:
            length = min(region.length, size - region.start)
            regions.append(EraseRegion(region.start, length, region.types))
    last = regions[-1]
    regions[-1] = EraseRegion(last.start, size - last.start, last.types)
    chip_erase = chip.chip_erase if size >= chip.size else None
    return replace(chip, size=size, erase=tuple(regions), chip_erase=chip_erase)


def mirrored(chip: Chip) -> Chip:
    """The chip with its erase map turned round: parameter sectors at the other end."""
    regions = tuple(
        EraseRegion(chip.size - region.start - region.length, region.length, region.types)
        for region in reversed(chip.erase)
    )
    return replace(chip, erase=regions)


def top_parameters(chip: Chip) -> bool:
    """Whether a bit of this chip, and no table, says where its 4 KiB sectors are (`TBPARM`)."""
    return (
        "sector-map-configurable" in chip.quirks
        and chip.addressing.enter is EnterFourByte.BANK_REGISTER
        and 2 in chip.status.read
    )


def _start(region: EraseRegion) -> int:
    return region.start


def _addressing(sfdp: Chip, catalog: Chip) -> Addressing:
    """SFDP's addressing, unless it claims 3-byte only for a part that is larger."""
    reaches = sfdp.addressing.opcodes or sfdp.addressing.enter.value != "none"
    return sfdp.addressing if reaches or sfdp.size <= 1 << 24 else catalog.addressing


def _erases(kinds: set[tuple[int, int]]) -> str:
    return ", ".join(f"{opcode:02X}h={size}" for opcode, size in sorted(kinds))
