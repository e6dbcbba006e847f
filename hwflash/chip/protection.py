"""Which bytes the block-protection bits of a chip lock, and how to lift the lock.

Ref: W25Q128JV Rev. F chapter 7.1 (BP, TB, SEC, CMP, SRP, SRL, WPS); MX25L12835F PM1795 and
N25Q128A, tables "Protected Area Sizes"; SST26VF064B DS20005119 table 5-6.
Individual block locks are not told by the status register: they are decoded where the caller has
read them (WPS of Winbond), and `ProtectionState.individual` says that they are in force.
Lock bits of single sectors (`hwflash.chip.sectors`) are added where they have been read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from hwflash.chip.model import Chip, ProtectionLayout, ProtectionStyle, RegisterBit
from hwflash.errors import UsageError
from hwflash.units import KIB, Range, format_size, merge_ranges

if TYPE_CHECKING:
    from hwflash.chip.sectors import SectorState

_SECTOR_UNIT = 4 * KIB
_SECTOR_LIMIT = 32 * KIB


#: WPLD of an SST26's status register: 8Dh locked the block-protection register.
_SST26_LOCK_DOWN = RegisterBit(1, 4)
#: WPSEL in the security register (2Bh) of Macronix parts.
_WPSEL = 0x80


class RegisterLock(StrEnum):
    """What keeps the status registers from being written."""

    NONE = "none"  # they can be written
    WP_PIN = "wp-pin"  # while WP# is low
    POWER_CYCLE = "power-cycle"  # until the power is removed
    PERMANENT = "permanent"  # for ever


_REGISTER_LOCK_WORDS = {
    RegisterLock.NONE: "The status registers can be written.",
    RegisterLock.WP_PIN: "The status registers cannot be written while WP# is low.",
    RegisterLock.POWER_CYCLE: "The status registers are locked until the power is removed.",
    RegisterLock.PERMANENT: (
        "The status registers are locked for ever, or, on parts whose one-time lock needs a "
        "command flow of its own, until the power is removed."
    ),
}


@dataclass(frozen=True, slots=True)
class Sst26Block:
    """A block of an SST26 and its bits in the block-protection register, counted from the last.

    Attributes:
        range: the block.
        write_bit: its write lock.
        read_bit: its read lock; only the 8 KiB blocks have one.
    """

    range: Range
    write_bit: int
    read_bit: int | None = None


@dataclass(frozen=True, slots=True)
class ProtectionState:
    """What is locked.

    Attributes:
        ranges: the bytes that can be neither programmed nor erased, ascending and joined.
        sentences: one for each of ``ranges``, in the same order.
        read_locked: the bytes that cannot even be read (SST26).
        known: ``ranges`` tells everything. False when the chip's protection is not described,
            or when individual block locks are in force.
        individual: individual block locks are in force instead of the status register.
        register_lock: what keeps the status registers from being written.
        summary: the whole state in words.
    """

    ranges: tuple[Range, ...]
    sentences: tuple[str, ...]
    read_locked: tuple[Range, ...]
    known: bool
    individual: bool
    register_lock: RegisterLock
    summary: str

    def locks(self, span: Range) -> bool:
        """Whether at least one byte of ``span`` is known to be locked."""
        return any(item.overlaps(span) for item in self.ranges)


def locked(
    chip: Chip,
    registers: Mapping[int, int],
    sst26_bpr: bytes | None = None,
    individual: Sequence[Range] | None = None,
    security: int | None = None,
    sectors: SectorState | None = None,
) -> ProtectionState:
    """Decode the block protection of a chip.

    Args:
        chip: the chip; its ``protection`` says where the bits are.
        registers: value by register number, as in `hwflash.chip.model.StatusCommands`.
        sst26_bpr: what an SST26 answers to 72h, first byte first.
        individual: the blocks whose individual lock is set, where those were read.
        security: what a Macronix part answers to 2Bh.
        sectors: the lock bits of single sectors, where those were read and are in force.

    Raises:
        UsageError: a register that holds a protection bit is missing, or the block-protection
            register has the wrong length.
    """
    layout = chip.protection
    lock = _register_lock(layout, registers)
    if layout.style is ProtectionStyle.NONE:
        return _state(chip, [], lock, known=False, words="The block protection is not known.")
    if layout.style is ProtectionStyle.SST26:
        if sst26_bpr is None:
            words = "The block-protection register has not been read."
            return _state(chip, [], lock, known=False, words=words)
        value = _sst26_value(chip.size, sst26_bpr)
        blocks = list(sst26_blocks(chip.size))
        if registers.get(1, 0) >> _SST26_LOCK_DOWN.bit & 1:
            lock = RegisterLock.POWER_CYCLE
        return _state(
            chip,
            [block.range for block in blocks if value >> block.write_bit & 1],
            lock,
            read_locked=[
                block.range
                for block in blocks
                if block.read_bit is not None and value >> block.read_bit & 1
            ],
        )
    if sectors is not None and sectors.exclusive:
        return _state(chip, list(sectors.ranges), lock, individual=True)
    if security is not None and security & _WPSEL and "wpsel" in chip.quirks:
        words = "WPSEL is set: individual block locks are in force for ever, and are not read here."
        return _state(chip, [], lock, known=False, individual=True, words=words)
    if individual is not None:
        return _state(chip, list(individual), lock, individual=True)
    if layout.wps is not None and _bit(layout.wps, registers):
        words = "Individual block locks are in force; the status register does not tell which."
        return _state(chip, [], lock, known=False, individual=True, words=words)
    more = list(sectors.ranges) if sectors is not None else []
    return _state(chip, _bp_ranges(chip, registers) + more, lock)


def unlock_values(chip: Chip, registers: Mapping[int, int]) -> Mapping[int, int]:
    """Register values that lift the block protection.

    BP, CMP and WPS are cleared. TB and SEC stay, since they mean nothing without BP and TB can
    be one-time programmable; the lock of the registers themselves (SRP) stays as well. The
    blocks of an SST26 are unlocked by 98h, not by a register value.

    Returns:
        Every register of ``registers`` with its new value.

    Raises:
        UsageError: a register that holds a protection bit is missing.
    """
    layout = chip.protection
    values = dict(registers)
    for bit in (*layout.bp, layout.cmp, layout.wps):
        if bit is not None:
            _bit(bit, registers)  # a missing register is an error, not a zero
            values[bit.register] &= ~(1 << bit.bit) & 0xFF
    return values


def sst26_bpr_length(size: int) -> int:
    """Bytes of the block-protection register of an SST26 of ``size`` bytes (a whole number).

    Two bits for each of eight 8 KiB blocks, one for each of two 32 KiB blocks and for every
    64 KiB block between them. Ref: SST26VF064B DS20005119 table 5-6.
    """
    return (16 + size // (64 * KIB)) // 8


def sst26_blocks(size: int) -> Iterator[Sst26Block]:
    """Every block of an SST26 of ``size`` bytes; see `sst26_bpr_length`."""
    middle = size // (64 * KIB) - 2
    for index in range(middle):
        yield Sst26Block(Range((index + 1) * 64 * KIB, 64 * KIB), index)
    yield Sst26Block(Range(32 * KIB, 32 * KIB), middle)
    yield Sst26Block(Range(size - 64 * KIB, 32 * KIB), middle + 1)
    for index in range(8):
        start = index * 8 * KIB if index < 4 else size - (8 - index) * 8 * KIB
        place = middle + 2 + 2 * index
        yield Sst26Block(Range(start, 8 * KIB), place, place + 1)


def lock_units(size: int) -> Iterator[Range]:
    """The blocks that have an individual lock (WPS): 4 KiB in the first and last 64 KiB, else 64.

    Ref: W25Q128JV Rev. F figure 4d.
    """
    block = 64 * KIB
    for start in range(0, size, block):
        step = _SECTOR_UNIT if start in (0, size - block) else block
        for address in range(start, start + block, step):
            yield Range(address, step)


def _bit(bit: RegisterBit, registers: Mapping[int, int]) -> int:
    if bit.register not in registers:
        raise UsageError(
            f"status register {bit.register} is needed to decode the protection",
            code="protection.register-missing",
            register=bit.register,
        )
    return registers[bit.register] >> bit.bit & 1


def _bp_ranges(chip: Chip, registers: Mapping[int, int]) -> list[Range]:
    layout = chip.protection
    code = sum(_bit(bit, registers) << place for place, bit in enumerate(layout.bp))
    length, flipped = _bp_length(chip, registers, code)
    bottom = bool(layout.tb is not None and _bit(layout.tb, registers))
    span = Range(0, length) if bottom else Range(chip.size - length, length)
    if flipped != bool(layout.cmp is not None and _bit(layout.cmp, registers)):
        span = Range(span.end, chip.size - length) if bottom else Range(0, chip.size - length)
    return [span]


def _bp_length(chip: Chip, registers: Mapping[int, int], code: int) -> tuple[int, bool]:
    """Length the BP code protects, and whether it is what stays free instead."""
    layout = chip.protection
    ones = (1 << len(layout.bp)) - 1
    if code == 0:
        return 0, False
    if code == ones:
        return chip.size, False
    if layout.style is ProtectionStyle.BP_MIRRORED and code > ones // 2:
        # 1001 is "all but what 0110 protects"; 1000 is the whole chip.
        other = ones - code
        whole = other == ones // 2
        return (chip.size, False) if whole else (min(layout.unit << (other - 1), chip.size), True)
    length = min(layout.unit << (code - 1), chip.size)
    if layout.sec is not None and _bit(layout.sec, registers):
        # Small parts list "SEC = x, BP = 11x: all", larger ones "SEC = 1, BP = 110: 32 KiB".
        if code == ones - 1 and length == chip.size:
            return chip.size, False
        return min(_SECTOR_UNIT << (code - 1), _SECTOR_LIMIT), False
    return length, False


def _sst26_value(size: int, register: bytes) -> int:
    if len(register) != sst26_bpr_length(size):
        raise UsageError(
            f"the block-protection register has {len(register)} bytes, "
            f"expected {sst26_bpr_length(size)}",
            code="protection.register-length",
            length=len(register),
            expected=sst26_bpr_length(size),
        )
    return int.from_bytes(register, "big")


def _register_lock(layout: ProtectionLayout, registers: Mapping[int, int]) -> RegisterLock:
    bits = [_bit(bit, registers) for bit in layout.srp]
    srp0, srp1 = (*bits, 0, 0)[:2]
    if srp1:
        return RegisterLock.PERMANENT if srp0 else RegisterLock.POWER_CYCLE
    return RegisterLock.WP_PIN if srp0 else RegisterLock.NONE


def _sentence(chip: Chip, span: Range) -> str:
    size = format_size(span.length)
    if span.length == chip.size:
        where = f"the whole chip, {size}"
    elif span.end == chip.size:
        where = f"the upper {size}"
    elif span.address == 0:
        where = f"the lower {size}"
    else:
        where = size
    return f"{span} ({where}) can be neither programmed nor erased."


def _state(
    chip: Chip,
    ranges: list[Range],
    lock: RegisterLock,
    *,
    known: bool = True,
    individual: bool = False,
    read_locked: list[Range] | None = None,
    words: str = "",
) -> ProtectionState:
    joined = tuple(merge_ranges(ranges))
    hidden = tuple(merge_ranges(read_locked or []))
    sentences = tuple(_sentence(chip, span) for span in joined)
    parts = [words] if words else list(sentences) or ["No block is protected."]
    parts += [f"{span} cannot be read." for span in hidden]
    if chip.protection.srp:
        parts.append(_REGISTER_LOCK_WORDS[lock])
    return ProtectionState(
        ranges=joined,
        sentences=sentences,
        read_locked=hidden,
        known=known,
        individual=individual,
        register_lock=lock,
        summary=" ".join(parts),
    )
