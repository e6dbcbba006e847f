"""Register writes: what was asked for and nothing else, on a die for every part of the catalog."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from support import DieBus, small_chip

from hwflash.bus.spi import Transfer
from hwflash.chip import catalog
from hwflash.chip.model import (
    Addressing,
    Chip,
    EnterFourByte,
    ProtectionLayout,
    ProtectionStyle,
)
from hwflash.chip.protection import lock_units
from hwflash.chip.protection_choice import Locks, choose, protection_bits, settings
from hwflash.chip.registers import live_bits, masks, one_time_bits
from hwflash.errors import BusUnstable, ChipProtected, ChipStateUnknown
from hwflash.flash.nor import NorFlash
from hwflash.flash.protection import ProtectionAccess
from hwflash.sim.faults import Faults
from hwflash.units import KIB, Range

SIZE = 1024 * KIB


def like(part: str) -> Chip:
    """A small chip with the registers and the protection of a part."""
    chip = catalog.load().by_name(part).chip
    return small_chip(
        SIZE,
        part=chip.part,
        jedec_id=chip.jedec_id,
        status=chip.status,
        protection=replace(chip.protection, unit=min(chip.protection.unit, 64 * KIB)),
        otp=chip.otp,
        quirks=chip.quirks - {"flag-status-poll"},
        fail_flags=chip.fail_flags,
    )


PARTS = [
    part.chip.part
    for part in catalog.load().parts
    if part.chip.protection.style in (ProtectionStyle.BP, ProtectionStyle.BP_MIRRORED)
    and part.chip.status.power_up is None  # nothing of theirs is stored
]
WRITES = {0x01: 1, 0x31: 2, 0x11: 3, 0x42: 2}


def open_registers(chip: Chip, seed: str) -> dict[int, int]:
    """Any content that lets itself be written: settings, quad enable, burnt lock bits."""
    draw = random.Random(seed)
    closed = masks(chip.protection.srp)
    wps = masks([chip.protection.wps])
    # What the simulated die does not know to be one-time would be cleared there.
    known = masks(area.lock for area in chip.otp)
    unknown = {n: one_time_bits(chip).get(n, 0) & ~known.get(n, 0) for n in chip.status.read}
    tb = masks([chip.protection.tb] if "tb-one-time" in chip.quirks else [])
    return {
        number: draw.randrange(256)
        & ~closed.get(number, 0)
        & ~wps.get(number, 0)
        & ~(unknown[number] & ~tb.get(number, 0))
        & ~live_bits(chip).get(number, 0)
        for number in chip.status.read
    }


def sent_registers(chip: Chip, bus: DieBus) -> list[dict[int, int]]:
    """What each register write of a bus tried to set."""
    own = {code: number for number, code in chip.status.write.items()}
    found: list[dict[int, int]] = []
    for op in bus.sent:
        if isinstance(op, Transfer) and len(op.write) > 1 and op.write[0] in own:
            first = own[op.write[0]]
            found.append({first + place: value for place, value in enumerate(op.write[1:])})
    return found


def bench(chip: Chip, registers: dict[int, int]) -> tuple[DieBus, ProtectionAccess]:
    bus = DieBus(chip)
    assert set(registers) <= set(bus.die.status.numbers)
    bus.die.status.stored.update(registers)
    bus.die.restart()
    access = ProtectionAccess(NorFlash(bus, chip))
    bus.sent.clear()
    return bus, access


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("seed", range(2))
def test_only_what_was_asked_for_is_set(part: str, seed: int) -> None:
    chip = like(part)
    before = open_registers(chip, f"{part}{seed}")
    bus, access = bench(chip, before)
    now = access.read()
    assert dict(now.registers) == before
    choices = list(settings(chip, now).values())
    wanted = random.Random(seed).choice(choices)
    allow = masks(protection_bits(chip))
    volatile = chip.status.volatile_enable and seed == 1
    access.apply(wanted, allow, volatile=volatile)

    expected = {n: v & ~allow.get(n, 0) | wanted.registers[n] & allow.get(n, 0)
                for n, v in before.items()}  # fmt: skip
    assert {n: bus.die.status.live[n] for n in before} == expected
    kept = before if volatile else expected
    assert {n: bus.die.status.stored[n] for n in before} == kept
    once = one_time_bits(chip)
    for write in sent_registers(chip, bus):
        for number, value in write.items():
            burns = value & once.get(number, 0) & ~allow.get(number, 0)
            assert not burns, f"SR{number}={value:02X}h would burn {burns:02X}h"
            moved = (value ^ before[number]) & ~allow.get(number, 0) & ~once.get(number, 0)
            assert not moved, f"SR{number}={value:02X}h changes {moved:02X}h"


@pytest.mark.parametrize("part", ["W25Q80DV", "W25Q128JV", "GD25Q128E", "S25FL128L", "XM25QH128C"])
def test_a_bit_read_wrongly_twice_is_not_burnt(part: str) -> None:
    """LB1 and SRP1 read as 1 by a stuck line: they go out as 0 all the same."""
    chip = like(part)
    bus, access = bench(chip, dict.fromkeys(chip.status.read, 0))

    def lie(op: Transfer) -> bytes | None:
        return b"\x38" if op.write == b"\x35" else None

    bus.override = lie
    wanted = choose(chip, access.read(), [Range(0, SIZE)]).exact
    assert wanted is not None
    allow = masks(protection_bits(chip))
    access.apply(wanted, allow)
    written = sent_registers(chip, bus)
    assert written
    assert all(not write.get(2, 0) & 0x3C for write in written)
    assert not bus.die.status.stored[2] & 0x3C


def test_registers_that_read_differently_are_not_written() -> None:
    chip = like("W25Q128JV")
    bus, access = bench(chip, {1: 0, 2: 2, 3: 0})
    answers = iter([b"\x02", b"\x42"] * 10)
    bus.override = lambda op: next(answers) if op.write == b"\x35" else None
    with pytest.raises(BusUnstable):
        access.read()
    with pytest.raises(BusUnstable):
        access.apply(Locks({1: 4, 2: 2, 3: 0}), {1: 0x1C})
    assert sent_registers(chip, bus) == []


def test_refused_means_unchanged() -> None:
    chip = like("W25Q128JV")
    bus, access = bench(chip, {1: 0x84, 2: 2, 3: 0})
    bus.die.wp = False
    with pytest.raises(ChipProtected) as caught:
        access.apply(Locks({1: 0x80, 2: 2, 3: 0}), {1: 0x1C})
    assert caught.value.code == "protection.refused"
    assert bus.die.status.live == {1: 0x84, 2: 2, 3: 0}
    assert not bus.die.wel, "the write enable is taken back"


def test_a_mode_of_two_bits_never_ends_in_the_permanent_one() -> None:
    """From SRP0 to power-cycle, with a first write that does not take: SRP1 is not set."""
    chip = like("W25Q128JV")
    bus, access = bench(chip, {1: 0x80, 2: 0, 3: 0})
    bus.override = lambda op: b"" if op.write[:1] == b"\x01" else None
    with pytest.raises(ChipProtected):
        access.apply(Locks({1: 0, 2: 1, 3: 0}), {1: 0x80, 2: 1})
    assert all(2 not in write for write in sent_registers(chip, bus))
    assert bus.die.status.stored[2] == 0


def test_a_write_that_takes_something_else_is_an_unknown_state() -> None:
    chip = like("W25Q128JV")
    bus, access = bench(chip, {1: 0, 2: 0, 3: 0})

    def other(op: Transfer) -> bytes | None:
        if op.write[:1] == b"\x01":
            bus.die.status.stored[1] = bus.die.status.live[1] = 0x10
            return b""
        return None

    bus.override = other
    with pytest.raises(ChipStateUnknown) as caught:
        access.apply(Locks({1: 0x1C, 2: 0, 3: 0}), {1: 0x1C})
    assert caught.value.code == "protection.verify-failed"


def test_a_second_register_that_is_cleared_on_the_way_is_put_back() -> None:
    """Parts with 31h that clear QE when 01h comes with one byte."""
    chip = replace(like("XM25QH128C"), quirks=frozenset({"wrsr-clears-second-register"}))
    bus, access = bench(chip, {1: 0, 2: 0x42})
    access.apply(Locks({1: 0x1C, 2: 0x42}), {1: 0x1C})
    assert {n: bus.die.status.stored[n] for n in (1, 2)} == {1: 0x1C, 2: 0x42}


@pytest.mark.parametrize("size", [SIZE, 32 * 1024 * KIB], ids=["3-byte", "4-byte"])
def test_individual_locks(size: int) -> None:
    addressing = Addressing(enter=EnterFourByte.B7, opcodes=size > SIZE)
    base = small_chip(size, addressing=addressing)
    chip = replace(base, status=like("W25Q128JV").status, protection=like("W25Q128JV").protection)
    bus, access = bench(chip, {1: 0, 2: 0, 3: 4})
    everything = tuple(lock_units(size))
    assert access.read().individual == everything, "all locked at power-up"
    wanted = [Range(0, 4 * KIB), Range(64 * KIB, 64 * KIB), Range(size - 64 * KIB, 64 * KIB)]
    choice = choose(chip, access.read(), wanted)
    assert choice.exact is not None
    access.apply(choice.exact, {})
    for unit in everything:
        expected = any(item.contains(unit) for item in wanted)
        assert bus.die.locks.block_locked(unit.address) == expected, unit
    assert not bus.die.four_byte, "the mode is left as it was"
    near = choose(chip, access.read(), [Range(100, 70 * KIB)])
    assert near.exact is None
    assert near.more is not None
    assert near.less is not None
    assert Range(64 * KIB, 64 * KIB) in (near.more.individual or ())
    assert near.less.individual == tuple(Range(a, 4096) for a in range(4096, 65536, 4096))


@pytest.mark.parametrize(
    ("part", "opcode", "mask"),
    [
        ("S25FL128S", 0x05, 0x63),  # P_ERR, E_ERR, WEL, WIP
        ("W25Q128JV", 0x35, 0x80),  # SUS
        ("GD25Q128E", 0x35, 0x84),  # SUS1, SUS2
        ("IS25LP064A", 0x48, 0x0C),  # ESUS, PSUS
    ],
)
def test_bits_that_come_and_go_are_no_settings(part: str, opcode: int, mask: int) -> None:
    chip = like(part)
    bus, access = bench(chip, dict.fromkeys(chip.status.read, 0))
    draw, telling = random.Random(part), True

    def noisy(op: Transfer) -> bytes | None:
        if op.write != bytes((opcode,)) or not telling:
            return None
        number = next(n for n, code in chip.status.read.items() if code == opcode)
        # A chip that stays busy would be waited for: WIP comes and goes elsewhere.
        shown = draw.randrange(256) & mask & ~(0x61 if opcode == 5 else 0)
        return bytes((bus.die.status.live[number] | shown,))

    bus.override = noisy
    assert access.registers() == dict.fromkeys(chip.status.read, 0)
    allow = masks(chip.protection.bp)
    wanted = Locks({n: v | allow.get(n, 0) for n, v in access.registers().items()})
    telling = opcode == 5  # the others say that the chip takes no write at all
    access.apply(wanted, allow)
    assert bus.die.status.stored[1] == allow[1]
    assert all(not write.get(n, 0) & live_bits(chip).get(n, 0)
               for write in sent_registers(chip, bus) for n in write)  # fmt: skip


def test_a_failure_that_was_left_up_is_cleared_first() -> None:
    """The chip answers its status only, and takes nothing, until 30h."""
    chip = like("S25FL128S")
    bus, access = bench(chip, {1: 0, 2: 0x02})
    bus.die.refuse("erase")
    assert bus.die.error_hold
    assert access.registers() == {1: 0, 2: 0x02}
    bus.die.refuse("program")
    access.apply(Locks({1: 0x1C, 2: 0x02}), {1: 0x1C})
    assert bus.die.status.stored == {1: 0x1C, 2: 0x02}


@pytest.mark.parametrize("part", ["W25Q128JV", "GD25Q128E", "IS25LP064A"])
def test_nothing_is_sent_while_an_erase_is_suspended(part: str) -> None:
    chip = like(part)
    bus, access = bench(chip, dict.fromkeys(chip.status.read, 0))
    bus.execute([Transfer(b"\x06"), Transfer(b"\x20\0\0\0"), Transfer(b"\x75")])
    bus.clock.sleep(1e-3)
    assert bus.die.suspended is not None
    bus.sent.clear()
    with pytest.raises(ChipProtected) as caught:
        access.apply(Locks({1: 0x1C}), {1: 0x1C})
    assert caught.value.code == "protection.suspended"
    assert sent_registers(chip, bus) == []


def test_a_chip_that_does_not_take_50h() -> None:
    chip = like("W25Q128JV")
    bus = DieBus(chip, faults=Faults.parse("volatile=ignored"))
    access = ProtectionAccess(NorFlash(bus, chip))
    with pytest.raises(ChipProtected) as caught:
        access.apply(Locks({1: 0x1C, 2: 0, 3: 0}), {1: 0x1C}, volatile=True)
    assert caught.value.code == "protection.volatile-refused"
    assert not any(bus.die.status.live.values())


def test_blocks_that_are_locked_down_for_ever() -> None:
    chip = small_chip(SIZE, protection=ProtectionLayout(style=ProtectionStyle.SST26))
    bus = DieBus(chip)
    access = ProtectionAccess(NorFlash(bus, chip))
    before = access.read().bpr
    assert before is not None
    mask = bytes(len(before) - 1) + b"\x01"
    bus.execute([Transfer(b"\x06"), Transfer(b"\xe8" + mask)])
    free = choose(chip, access.read(), []).exact
    assert free is not None
    with pytest.raises(ChipProtected) as caught:
        access.apply(free, {})
    assert caught.value.code == "protection.locked-down"
    assert bus.die.locks.bpr == before, "the others are locked again"
    kept = choose(chip, access.read(), [Range(64 * KIB, 64 * KIB)]).exact
    assert kept is not None
    access.apply(kept, {})
    bus.execute([Transfer(b"\x06"), Transfer(b"\x98")])
    assert bus.die.locks.bpr == mask
