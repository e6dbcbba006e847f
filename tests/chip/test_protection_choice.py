"""The nearest setting, one-time bits, and locks that the status register does not tell."""

from __future__ import annotations

import pytest

from hwflash.chip import catalog
from hwflash.chip.model import Chip
from hwflash.chip.protection import RegisterLock, lock_units, locked, sst26_bpr_length
from hwflash.chip.protection_choice import Locks, choose, ranges_of, settings
from hwflash.chip.registers import one_time_bits, register_writes
from hwflash.units import KIB, MIB, Range, subtract_ranges


def chip(part: str) -> Chip:
    return catalog.load().by_name(part).chip


def zero(part: str) -> Locks:
    return Locks(dict.fromkeys(chip(part).status.read, 0))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("W25Q128JV", {2: 0x3D}),
        ("W25Q80DV", {2: 0x3D}),
        ("GD25Q128E", {2: 0x3D}),
        ("GD25Q256E", {2: 0x7C}),
        ("S25FL128L", {2: 0x3D}),
        ("MX25L12835F", {2: 0x08}),
        ("IS25LP256D", {2: 0xF2}),
        ("S25FL128S", {2: 0x2C}),
        ("N25Q128A", {}),
    ],
)
def test_one_time_bits(part: str, expected: dict[int, int]) -> None:
    assert one_time_bits(chip(part)) == expected


def test_the_plainest_setting_is_taken() -> None:
    for part in ("W25Q128JV", "GD25Q64C", "S25FL128L"):
        found = settings(chip(part), zero(part))
        assert found[()].registers == zero(part).registers, "nothing: all 0, no CMP"
        assert not found[(Range(0, chip(part).size),)].registers[2] & 0x40, "all: without CMP"


def test_nearest() -> None:
    part = "W25Q128JV"
    wish = [Range(0x10000, 3 * MIB)]
    found = choose(chip(part), zero(part), wish)
    assert found.exact is None
    assert found.more is not None
    assert found.less is not None
    assert ranges_of(chip(part), found.more) == (Range(0, 4 * MIB),)
    assert ranges_of(chip(part), found.less) == ()
    for place in settings(chip(part), zero(part)):
        exact = choose(chip(part), zero(part), place).exact
        assert exact is not None
        assert ranges_of(chip(part), exact) == place


def test_a_one_time_bit_is_left_alone() -> None:
    part = "MX25L12835F"
    wish = [Range(0, 64 * KIB)]
    assert choose(chip(part), zero(part), wish).exact is None
    exact = choose(chip(part), zero(part), wish, one_time=True).exact
    assert exact is not None
    assert exact.registers[2] == 0x08
    burnt = Locks({1: 0, 2: 0x08})
    top = [Range(chip(part).size - 64 * KIB, 64 * KIB)]
    assert choose(chip(part), burnt, top, one_time=True).exact is None, "never cleared again"


def test_a_register_that_is_not_changed_is_not_written() -> None:
    part = chip("MX25L12835F")
    (write,) = register_writes(part, {1: 0x40, 2: 0x08}, {1: 0x04, 2: 0}, {1: 0x3C})
    assert write.command == bytes((0x01, 0x44)), "quad enable stays, TB is not sent"
    assert register_writes(part, {1: 0x44, 2: 0x08}, {1: 0x04}, {1: 0x3C}) == ()
    (write,) = register_writes(chip("W25Q80DV"), {1: 0, 2: 0x42}, {1: 0x04}, {1: 0x1C})
    assert write.command == bytes((0x01, 0x04, 0x42)), "one byte would clear the second register"


def test_locks_that_registers_do_not_tell() -> None:
    state = locked(chip("MX25L12835F"), {1: 0x3C, 2: 0}, security=0x80)
    assert (state.known, state.individual, state.ranges) == (False, True, ())
    assert locked(chip("MX25L12835F"), {1: 0x3C, 2: 0}, security=0).ranges
    state = locked(chip("W25Q128JV"), {1: 0, 2: 0, 3: 4}, individual=[Range(0, 4096)])
    assert (state.known, state.ranges) == (True, (Range(0, 4096),))
    sst = chip("SST26VF064B")
    bpr = bytes(sst26_bpr_length(sst.size))
    state = locked(sst, {1: 0x10, 2: 0}, bpr)
    assert state.register_lock is RegisterLock.POWER_CYCLE


@pytest.mark.parametrize("size", [128 * KIB, MIB, 16 * MIB])
def test_lock_units_cover_the_chip(size: int) -> None:
    units = list(lock_units(size))
    assert units[0].length == units[-1].length == 4 * KIB
    assert [unit.end for unit in units[:-1]] == [unit.address for unit in units[1:]]
    assert (units[0].address, units[-1].end) == (0, size)
    assert len(units) == 32 + size // (64 * KIB) - 2


def test_subtract_ranges() -> None:
    whole = [Range(0, 100), Range(200, 100)]
    assert subtract_ranges(whole, [Range(50, 200)]) == [Range(0, 50), Range(250, 50)]
    assert subtract_ranges(whole, [Range(10, 10), Range(0, 300)]) == []
    assert subtract_ranges(whole, []) == whole
    assert subtract_ranges([], [Range(0, 1)]) == []
