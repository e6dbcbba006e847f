"""Block protection against the tables of the data sheets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.chip import catalog
from hwflash.chip.model import Chip, ProtectionLayout, ProtectionStyle
from hwflash.chip.protection import RegisterLock, locked, sst26_bpr_length, unlock_values
from hwflash.errors import UsageError
from hwflash.units import Range

NONE = None
CHIPS = {part.chip.part: part.chip for part in catalog.load().parts}


def spans(name: str, *registers: int, bpr: bytes | None = None) -> list[tuple[int, int]]:
    """The locked ranges of a part as (first, last)."""
    state = locked(CHIPS[name], dict(enumerate(registers, 1)), bpr)
    assert state.known
    assert len(state.sentences) == len(state.ranges)
    return [(span.address, span.end - 1) for span in state.ranges]


def expected(row: tuple[int, int] | None) -> list[tuple[int, int]]:
    return [] if row is None else [row]


# Ref: W25Q128JV Revision F, table 7.1.16 (CMP = 0): SEC, TB, BP2-0, first and last byte.
W25Q128JV_CMP_0 = [
    *[(sec, tb, 0b000, NONE) for sec in (0, 1) for tb in (0, 1)],
    (0, 0, 0b001, (0xFC0000, 0xFFFFFF)),
    (0, 0, 0b010, (0xF80000, 0xFFFFFF)),
    (0, 0, 0b011, (0xF00000, 0xFFFFFF)),
    (0, 0, 0b100, (0xE00000, 0xFFFFFF)),
    (0, 0, 0b101, (0xC00000, 0xFFFFFF)),
    (0, 0, 0b110, (0x800000, 0xFFFFFF)),
    (0, 1, 0b001, (0x000000, 0x03FFFF)),
    (0, 1, 0b010, (0x000000, 0x07FFFF)),
    (0, 1, 0b011, (0x000000, 0x0FFFFF)),
    (0, 1, 0b100, (0x000000, 0x1FFFFF)),
    (0, 1, 0b101, (0x000000, 0x3FFFFF)),
    (0, 1, 0b110, (0x000000, 0x7FFFFF)),
    *[(sec, tb, 0b111, (0x000000, 0xFFFFFF)) for sec in (0, 1) for tb in (0, 1)],
    (1, 0, 0b001, (0xFFF000, 0xFFFFFF)),
    (1, 0, 0b010, (0xFFE000, 0xFFFFFF)),
    (1, 0, 0b011, (0xFFC000, 0xFFFFFF)),
    (1, 0, 0b100, (0xFF8000, 0xFFFFFF)),
    (1, 0, 0b101, (0xFF8000, 0xFFFFFF)),
    (1, 1, 0b001, (0x000000, 0x000FFF)),
    (1, 1, 0b010, (0x000000, 0x001FFF)),
    (1, 1, 0b011, (0x000000, 0x003FFF)),
    (1, 1, 0b100, (0x000000, 0x007FFF)),
    (1, 1, 0b101, (0x000000, 0x007FFF)),
]

# Ref: W25Q128JV Revision F, table 7.1.17 (CMP = 1).
W25Q128JV_CMP_1 = [
    *[(sec, tb, 0b000, (0x000000, 0xFFFFFF)) for sec in (0, 1) for tb in (0, 1)],
    (0, 0, 0b001, (0x000000, 0xFBFFFF)),
    (0, 0, 0b010, (0x000000, 0xF7FFFF)),
    (0, 0, 0b011, (0x000000, 0xEFFFFF)),
    (0, 0, 0b100, (0x000000, 0xDFFFFF)),
    (0, 0, 0b101, (0x000000, 0xBFFFFF)),
    (0, 0, 0b110, (0x000000, 0x7FFFFF)),
    (0, 1, 0b001, (0x040000, 0xFFFFFF)),
    (0, 1, 0b010, (0x080000, 0xFFFFFF)),
    (0, 1, 0b011, (0x100000, 0xFFFFFF)),
    (0, 1, 0b100, (0x200000, 0xFFFFFF)),
    (0, 1, 0b101, (0x400000, 0xFFFFFF)),
    (0, 1, 0b110, (0x800000, 0xFFFFFF)),
    *[(sec, tb, 0b111, NONE) for sec in (0, 1) for tb in (0, 1)],
    (1, 0, 0b001, (0x000000, 0xFFEFFF)),
    (1, 0, 0b010, (0x000000, 0xFFDFFF)),
    (1, 0, 0b011, (0x000000, 0xFFBFFF)),
    (1, 0, 0b100, (0x000000, 0xFF7FFF)),
    (1, 0, 0b101, (0x000000, 0xFF7FFF)),
    (1, 1, 0b001, (0x001000, 0xFFFFFF)),
    (1, 1, 0b010, (0x002000, 0xFFFFFF)),
    (1, 1, 0b011, (0x004000, 0xFFFFFF)),
    (1, 1, 0b100, (0x008000, 0xFFFFFF)),
    (1, 1, 0b101, (0x008000, 0xFFFFFF)),
]


@pytest.mark.parametrize(
    ("cmp", "sec", "tb", "bp", "row"),
    [(0, *row) for row in W25Q128JV_CMP_0] + [(1, *row) for row in W25Q128JV_CMP_1],
)
def test_w25q128jv_table(cmp: int, sec: int, tb: int, bp: int, row: tuple[int, int] | None) -> None:
    assert spans("W25Q128JV", sec << 6 | tb << 5 | bp << 2, cmp << 6, 0) == expected(row)


# Ref: GD25Q64C data sheet, chapter "Data protection", table for CMP = 0: BP4-BP0.
GD25Q64C = [
    (0b00000, NONE),
    (0b11000, NONE),
    (0b00001, (0x7E0000, 0x7FFFFF)),
    (0b00010, (0x7C0000, 0x7FFFFF)),
    (0b00011, (0x780000, 0x7FFFFF)),
    (0b00100, (0x700000, 0x7FFFFF)),
    (0b00101, (0x600000, 0x7FFFFF)),
    (0b00110, (0x400000, 0x7FFFFF)),
    (0b01001, (0x000000, 0x01FFFF)),
    (0b01010, (0x000000, 0x03FFFF)),
    (0b01011, (0x000000, 0x07FFFF)),
    (0b01100, (0x000000, 0x0FFFFF)),
    (0b01101, (0x000000, 0x1FFFFF)),
    (0b01110, (0x000000, 0x3FFFFF)),
    (0b00111, (0x000000, 0x7FFFFF)),
    (0b11111, (0x000000, 0x7FFFFF)),
    (0b10001, (0x7FF000, 0x7FFFFF)),
    (0b10010, (0x7FE000, 0x7FFFFF)),
    (0b10011, (0x7FC000, 0x7FFFFF)),
    (0b10100, (0x7F8000, 0x7FFFFF)),
    (0b10101, (0x7F8000, 0x7FFFFF)),
    (0b10110, (0x7F8000, 0x7FFFFF)),
    (0b11001, (0x000000, 0x000FFF)),
    (0b11010, (0x000000, 0x001FFF)),
    (0b11011, (0x000000, 0x003FFF)),
    (0b11100, (0x000000, 0x007FFF)),
    (0b11101, (0x000000, 0x007FFF)),
    (0b11110, (0x000000, 0x007FFF)),
]


@pytest.mark.parametrize(("bp", "row"), GD25Q64C)
def test_gd25q64c_table(bp: int, row: tuple[int, int] | None) -> None:
    assert spans("GD25Q64C", bp << 2, 0, 0) == expected(row)


# Ref: MX25L12835F PM1795, table 2 "Protected Area Sizes": BP3-BP0 with T/B = 0 and T/B = 1.
MX25L12835F = [
    (0b0000, NONE, NONE),
    (0b0001, (0xFF0000, 0xFFFFFF), (0x000000, 0x00FFFF)),
    (0b0010, (0xFE0000, 0xFFFFFF), (0x000000, 0x01FFFF)),
    (0b0011, (0xFC0000, 0xFFFFFF), (0x000000, 0x03FFFF)),
    (0b0100, (0xF80000, 0xFFFFFF), (0x000000, 0x07FFFF)),
    (0b0101, (0xF00000, 0xFFFFFF), (0x000000, 0x0FFFFF)),
    (0b0110, (0xE00000, 0xFFFFFF), (0x000000, 0x1FFFFF)),
    (0b0111, (0xC00000, 0xFFFFFF), (0x000000, 0x3FFFFF)),
    (0b1000, (0x800000, 0xFFFFFF), (0x000000, 0x7FFFFF)),
    *[(bp, (0x000000, 0xFFFFFF), (0x000000, 0xFFFFFF)) for bp in range(0b1001, 0b10000)],
]


@pytest.mark.parametrize(("bp", "top", "bottom"), MX25L12835F)
@pytest.mark.parametrize("quad_enable", [0x00, 0x40])
def test_mx25l12835f_table(
    bp: int, top: tuple[int, int] | None, bottom: tuple[int, int] | None, quad_enable: int
) -> None:
    assert spans("MX25L12835F", bp << 2 | quad_enable, 0x00) == expected(top)
    assert spans("MX25L12835F", bp << 2 | quad_enable, 0x08) == expected(bottom)


# Ref: MX25L6406E data sheet, table "Protected Area Sizes": blocks of 64 KiB, 0 to 127.
MX25L6406E = [
    (0b0000, NONE),
    (0b0001, (126, 127)),
    (0b0010, (124, 127)),
    (0b0011, (120, 127)),
    (0b0100, (112, 127)),
    (0b0101, (96, 127)),
    (0b0110, (64, 127)),
    (0b0111, (0, 127)),
    (0b1000, (0, 127)),
    (0b1001, (0, 63)),
    (0b1010, (0, 95)),
    (0b1011, (0, 111)),
    (0b1100, (0, 119)),
    (0b1101, (0, 123)),
    (0b1110, (0, 125)),
    (0b1111, (0, 127)),
]


@pytest.mark.parametrize(("bp", "blocks"), MX25L6406E)
def test_mx25l6406e_table(bp: int, blocks: tuple[int, int] | None) -> None:
    row = blocks and (blocks[0] << 16, (blocks[1] << 16) + 0xFFFF)
    assert spans("MX25L6406E", bp << 2) == expected(row)


# Ref: N25Q128A 3V, tables "Protected Area Sizes - Upper Area" and "- Lower Area": BP3 is bit 6.
N25Q128A = [
    (0b0000, NONE, NONE),
    (0b0001, (255, 255), (0, 0)),
    (0b0010, (254, 255), (0, 1)),
    (0b0011, (252, 255), (0, 3)),
    (0b0100, (248, 255), (0, 7)),
    (0b0101, (240, 255), (0, 15)),
    (0b0110, (224, 255), (0, 31)),
    (0b0111, (192, 255), (0, 63)),
    (0b1000, (128, 255), (0, 127)),
    *[(bp, (0, 255), (0, 255)) for bp in range(0b1001, 0b10000)],
]


@pytest.mark.parametrize(("bp", "upper", "lower"), N25Q128A)
def test_n25q128a_table(
    bp: int, upper: tuple[int, int] | None, lower: tuple[int, int] | None
) -> None:
    value = (bp & 7) << 2 | (bp >> 3) << 6
    for sectors, tb in ((upper, 0x00), (lower, 0x20)):
        row = sectors and (sectors[0] << 16, (sectors[1] << 16) + 0xFFFF)
        assert spans("N25Q128A", value | tb) == expected(row)


# Ref: SST26VF064B DS20005119, table 5-6: bit of the register, first and last byte of its block.
# 143 down to 128 are pairs, the read lock first, of which the second (even) is the write lock.
SST26VF064B = [
    (142, (0x7FE000, 0x7FFFFF)),
    (140, (0x7FC000, 0x7FDFFF)),
    (138, (0x7FA000, 0x7FBFFF)),
    (136, (0x7F8000, 0x7F9FFF)),
    (134, (0x006000, 0x007FFF)),
    (132, (0x004000, 0x005FFF)),
    (130, (0x002000, 0x003FFF)),
    (128, (0x000000, 0x001FFF)),
    (127, (0x7F0000, 0x7F7FFF)),
    (126, (0x008000, 0x00FFFF)),
    (125, (0x7E0000, 0x7EFFFF)),
    (124, (0x7D0000, 0x7DFFFF)),
    (64, (0x410000, 0x41FFFF)),
    (1, (0x020000, 0x02FFFF)),
    (0, (0x010000, 0x01FFFF)),
]


@pytest.mark.parametrize(("bit", "row"), SST26VF064B)
def test_sst26vf064b_table(bit: int, row: tuple[int, int]) -> None:
    register = (1 << bit).to_bytes(18, "big")
    assert spans("SST26VF064B", 0, 0, bpr=register) == [row]
    if bit >= 128:
        read_lock = (2 << bit).to_bytes(18, "big")
        state = locked(CHIPS["SST26VF064B"], {1: 0, 2: 0}, read_lock)
        assert state.ranges == ()
        assert state.read_locked == (Range(row[0], 0x2000),)


@pytest.mark.parametrize(
    ("name", "length"), [("SST26VF016B", 6), ("SST26VF032B", 10), ("SST26VF064B", 18)]
)
def test_sst26_is_wholly_locked_at_power_up(name: str, length: int) -> None:
    chip = CHIPS[name]
    assert sst26_bpr_length(chip.size) == length
    power_up = bytes.fromhex("5555") + b"\xff" * (length - 2)
    assert spans(name, 0, 0, bpr=power_up) == [(0, chip.size - 1)]
    assert spans(name, 0, 0, bpr=bytes(length)) == []
    with pytest.raises(UsageError) as caught:
        locked(chip, {1: 0, 2: 0}, bytes(length - 1))
    assert caught.value.code == "protection.register-length"
    unread = locked(chip, {1: 0, 2: 0})
    assert not unread.known
    assert unread.ranges == ()


# Ref: W25Q80DV data sheet, table "Status Register Memory Protection (CMP = 0)": 8 Mbit reach
# "all" with BP = 101 already, and SEC = x, BP = 11x is all.
@pytest.mark.parametrize(
    ("sec", "tb", "bp", "row"),
    [
        (0, 0, 0b001, (0x0F0000, 0x0FFFFF)),
        (0, 0, 0b100, (0x080000, 0x0FFFFF)),
        (0, 1, 0b011, (0x000000, 0x03FFFF)),
        (0, 0, 0b101, (0x000000, 0x0FFFFF)),
        (1, 0, 0b101, (0x0F8000, 0x0FFFFF)),
        (1, 1, 0b100, (0x000000, 0x007FFF)),
        (0, 0, 0b110, (0x000000, 0x0FFFFF)),
        (1, 0, 0b110, (0x000000, 0x0FFFFF)),
        (1, 1, 0b111, (0x000000, 0x0FFFFF)),
    ],
)
def test_w25q80dv_rows(sec: int, tb: int, bp: int, row: tuple[int, int]) -> None:
    assert spans("W25Q80DV", sec << 6 | tb << 5 | bp << 2, 0) == [row]


# Ref: W25Q256JV data sheet, tables "Memory Protection" (CMP = 0, CMP = 1): BP3-BP0, TB is bit 6.
@pytest.mark.parametrize(
    ("tb", "bp", "plain", "complement"),
    [
        (0, 0b0000, NONE, (0x0000000, 0x1FFFFFF)),
        (0, 0b0001, (0x1FF0000, 0x1FFFFFF), (0x0000000, 0x1FEFFFF)),
        (0, 0b1001, (0x1000000, 0x1FFFFFF), (0x0000000, 0x0FFFFFF)),
        (1, 0b0011, (0x0000000, 0x003FFFF), (0x0040000, 0x1FFFFFF)),
        (1, 0b1010, (0x0000000, 0x1FFFFFF), NONE),
        (0, 0b1100, (0x0000000, 0x1FFFFFF), NONE),
    ],
)
def test_w25q256jv_rows(
    tb: int, bp: int, plain: tuple[int, int] | None, complement: tuple[int, int] | None
) -> None:
    value = tb << 6 | bp << 2
    assert spans("W25Q256JV", value, 0x00, 0) == expected(plain)
    assert spans("W25Q256JV", value, 0x40, 0) == expected(complement)


# Ref: W25Q128JV Revision F, chapter 7.1, "Status Register Protect".
@pytest.mark.parametrize(
    ("srp", "srl", "lock"),
    [
        (0, 0, RegisterLock.NONE),
        (1, 0, RegisterLock.WP_PIN),
        (0, 1, RegisterLock.POWER_CYCLE),
        (1, 1, RegisterLock.PERMANENT),
    ],
)
def test_register_lock(srp: int, srl: int, lock: RegisterLock) -> None:
    state = locked(CHIPS["W25Q128JV"], {1: srp << 7, 2: srl, 3: 0})
    assert state.register_lock is lock
    assert state.ranges == ()


def test_one_srp_bit_means_the_wp_pin() -> None:
    state = locked(CHIPS["N25Q128A"], {1: 0x80})
    assert state.register_lock is RegisterLock.WP_PIN
    assert "WP#" in state.summary


def test_individual_locks_are_told_apart() -> None:
    chip = CHIPS["W25Q128JV"]
    state = locked(chip, {1: 0x1C, 2: 0, 3: 0x04})
    assert state.individual
    assert not state.known
    assert state.ranges == ()
    assert "individual block locks" in state.summary.lower()
    assert unlock_values(chip, {1: 0x1C, 2: 0, 3: 0x64}) == {1: 0x00, 2: 0, 3: 0x60}


def test_words() -> None:
    state = locked(CHIPS["W25Q128JV"], {1: 0x10, 2: 0, 3: 0})
    assert state.sentences == (
        "0xE00000-0xFFFFFF (the upper 2 MiB) can be neither programmed nor erased.",
    )
    assert state.locks(Range(0xDFFFFF, 2))
    assert not state.locks(Range(0, 0xE00000))
    assert locked(CHIPS["W25Q128JV"], {1: 0, 2: 0, 3: 0}).summary.startswith("No block is")


def test_a_missing_register_is_an_error() -> None:
    for call in (locked, unlock_values):
        with pytest.raises(UsageError) as caught:
            call(CHIPS["W25Q128JV"], {1: 0})
        assert caught.value.code == "protection.register-missing"


def test_a_chip_without_a_description_is_unknown() -> None:
    chip = CHIPS["EN25Q64"]
    assert chip.protection == ProtectionLayout()
    state = locked(chip, {1: 0xFF})
    assert not state.known
    assert state.ranges == ()


def test_the_trap_of_cmp() -> None:
    """With CMP set, clearing only BP would lock the whole chip."""
    chip = CHIPS["W25Q64JV"]
    assert unlock_values(chip, {1: 0x04, 2: 0x42, 3: 0x60}) == {1: 0x00, 2: 0x02, 3: 0x60}


BP_CHIPS = [
    chip
    for chip in CHIPS.values()
    if chip.protection.style in (ProtectionStyle.BP, ProtectionStyle.BP_MIRRORED)
]


@given(
    chip=st.sampled_from(BP_CHIPS),
    values=st.tuples(*[st.integers(0, 255)] * 3),
)
def test_unlock_always_unlocks_and_touches_nothing_else(
    chip: Chip, values: tuple[int, int, int]
) -> None:
    before = dict(enumerate(values, 1))
    after = unlock_values(chip, before)
    state = locked(chip, after)
    assert state.known
    assert state.ranges == ()
    layout = chip.protection
    may_change = {bit for bit in (*layout.bp, layout.cmp, layout.wps) if bit is not None}
    changed = {
        (register, bit)
        for register, value in after.items()
        for bit in range(8)
        if (value ^ before[register]) >> bit & 1
    }
    assert changed <= {(bit.register, bit.bit) for bit in may_change}
    assert all(after[register] <= before[register] for register in before)
    for span in locked(chip, before).ranges:
        assert span.address >= 0
        assert span.end <= chip.size
