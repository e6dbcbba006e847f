"""Which protection settings a chip has, and the one that is nearest to what is wanted.

BP bits can name a few dozen ranges only, so most wishes cannot be had exactly. What can be had
is found by decoding every setting with `hwflash.chip.protection.locked`; chips with a lock for
every block (SST26, individual block locks) take any set of whole blocks.

Ref: W25Q128JV Rev. F §7.1; SST26VF064B DS20005119 table 5-6.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from hwflash.chip.model import Chip, ProtectionStyle, RegisterBit
from hwflash.chip.protection import lock_units, locked, sst26_blocks
from hwflash.chip.registers import masks
from hwflash.chip.sectors import SectorState, sectors_of
from hwflash.units import Range, merge_ranges


@dataclass(frozen=True, slots=True)
class Locks:
    """Everything by which a chip locks bytes, as read or as it should be.

    Attributes:
        registers: every status register.
        bpr: the block-protection register of an SST26, first byte first; else None.
        individual: the blocks whose individual lock is set, where those are in force; else None.
        sectors: the lock bits of single sectors; None when the chip has none in force.
    """

    registers: Mapping[int, int]
    bpr: bytes | None = None
    individual: tuple[Range, ...] | None = None
    sectors: SectorState | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be had of a wish.

    Attributes:
        exact: locks exactly what was wanted, or None.
        more: locks all that was wanted, and as little besides as can be; None when a one-time
            bit would be needed.
        less: locks nothing that was not wanted, and as much of it as can be.
    """

    exact: Locks | None
    more: Locks | None
    less: Locks | None


def ranges_of(chip: Chip, locks: Locks) -> tuple[Range, ...]:
    """What a state of the locks locks, ascending and joined."""
    return locked(chip, locks.registers, locks.bpr, locks.individual, sectors=locks.sectors).ranges


def protection_bits(chip: Chip) -> tuple[RegisterBit, ...]:
    """The bits that say which range is locked."""
    layout = chip.protection
    return tuple(bit for bit in (*layout.bp, layout.tb, layout.sec, layout.cmp) if bit is not None)


def settings(chip: Chip, now: Locks, *, one_time: bool = False) -> dict[tuple[Range, ...], Locks]:
    """Every range the BP bits can lock, with the plainest setting that does.

    That is one without CMP where there is one, which the next tool that sets or clears BP would
    turn inside out, and then the one with the fewest bits set.

    Args:
        chip: a chip whose protection is told by BP bits.
        now: its present state; bits that do not say which range is locked are taken from it.
        one_time: a top/bottom bit that can be set once may be set.
    """
    bits = protection_bits(chip)
    mask = masks(bits)
    fixed = chip.protection.tb if "tb-one-time" in chip.quirks else None
    turned = chip.protection.cmp
    found: dict[tuple[Range, ...], tuple[tuple[int, int], Locks]] = {}
    for values in itertools.product((0, 1), repeat=len(bits)):
        registers = {number: old & ~mask.get(number, 0) for number, old in now.registers.items()}
        for bit, value in zip(bits, values, strict=True):
            registers[bit.register] |= value << bit.bit
        if fixed is not None:
            old = now.registers[fixed.register] >> fixed.bit & 1
            new = registers[fixed.register] >> fixed.bit & 1
            if new != old and (old or not one_time):
                continue
        place = locked(chip, registers).ranges
        cost = values[bits.index(turned)] if turned is not None else 0, sum(values)
        if place not in found or cost < found[place][0]:
            found[place] = cost, Locks(registers)
    return {place: locks for place, (_, locks) in found.items()}


def choose(
    chip: Chip,
    now: Locks,
    wanted: Sequence[Range],
    *,
    one_time: bool = False,
    persistent: bool = False,
) -> Choice:
    """The settings nearest to a wish.

    Args:
        chip: the chip.
        now: its present state.
        wanted: what is to be locked, and nothing else; empty: nothing at all. What non-volatile
            bits of sectors lock stays locked all the same, unless they may be cleared.
        one_time: see `settings`.
        persistent: non-volatile bits of sectors may be cleared.
    """
    target = merge_ranges(list(wanted))
    if chip.protection.style is ProtectionStyle.SST26 or now.individual is not None:
        return _by_block(chip, now, target)
    if now.sectors is None:
        bare = SectorState()
        return _nearest(chip, now, target, bare, bare, one_time=one_time)
    if not persistent:
        target = merge_ranges([*target, *now.sectors.persistent])
    if now.sectors.exclusive:
        return _by_sector(chip, now, now.sectors, target, persistent=persistent)
    more = now.sectors.kept(lambda at: _hit(at, target), persistent=persistent)
    less = now.sectors.kept(lambda at: _held(at, target), persistent=persistent)
    return _nearest(chip, now, target, more, less, one_time=one_time)


def _nearest(
    chip: Chip,
    now: Locks,
    target: Sequence[Range],
    more: SectorState,
    less: SectorState,
    *,
    one_time: bool,
) -> Choice:
    """Of the ranges of the BP bits, each with the sectors' locks that are to be kept."""
    by_range = settings(chip, now, one_time=one_time)

    def total(place: Sequence[Range], kept: SectorState) -> list[Range]:
        return merge_ranges([*place, *kept.ranges])

    def best(places: list[tuple[Range, ...]], kept: SectorState, sign: int) -> Locks | None:
        if not places:
            return None
        # Of several that lock the same with the sectors, the one with the smaller BP range.
        place = min(places, key=lambda item: (sign * _total(total(item, kept)), _total(item)))
        return replace(by_range[place], sectors=kept if now.sectors is not None else None)

    exact = [item for item in by_range if total(item, less) == list(target)]
    outside = [item for item in by_range if _inside(target, total(item, more))]
    inside = [item for item in by_range if _inside(total(item, less), target)]
    return Choice(best(exact, less, 1), best(outside, more, 1), best(inside, less, -1))


def _by_sector(
    chip: Chip, now: Locks, sectors: SectorState, target: Sequence[Range], *, persistent: bool
) -> Choice:
    """Any set of whole sectors, by their volatile bits."""

    def make(wanted: Callable[[Range], bool]) -> Locks:
        kept = sectors.kept(wanted, persistent=persistent)
        # What a non-volatile bit locks needs no volatile one besides.
        dynamic = tuple(
            sector
            for sector in sectors_of(chip)
            if wanted(sector) and (sector in sectors.dynamic or sector not in kept.persistent)
        )
        return replace(now, sectors=replace(kept, dynamic=dynamic))

    more = make(lambda sector: _hit(sector, target))
    less = make(lambda sector: _held(sector, target))
    return Choice(more if list(ranges_of(chip, more)) == list(target) else None, more, less)


def _hit(sector: Range, places: Sequence[Range]) -> bool:
    return any(sector.overlaps(place) for place in places)


def _held(sector: Range, places: Sequence[Range]) -> bool:
    return any(place.contains(sector) for place in places)


def _by_block(chip: Chip, now: Locks, target: Sequence[Range]) -> Choice:
    def make(wanted: Callable[[Range], bool]) -> Locks:
        if now.bpr is None:
            units = tuple(unit for unit in lock_units(chip.size) if wanted(unit))
            return Locks(now.registers, individual=units)
        value = int.from_bytes(now.bpr, "big")
        for block in sst26_blocks(chip.size):
            value &= ~(1 << block.write_bit)
            value |= wanted(block.range) << block.write_bit
        return Locks(now.registers, value.to_bytes(len(now.bpr), "big"))

    more = make(lambda unit: _hit(unit, target))
    less = make(lambda unit: _held(unit, target))
    exact = more if list(ranges_of(chip, more)) == list(target) else None
    return Choice(exact, more, less)


def _inside(inner: Sequence[Range], outer: Sequence[Range]) -> bool:
    return all(any(item.contains(place) for item in outer) for place in inner)


def _total(places: Sequence[Range]) -> int:
    return sum(place.length for place in places)
