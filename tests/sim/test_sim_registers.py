from dataclasses import replace

import pytest
from sim_chips import MT25Q256, MX25L128, S25FL128, SST26, W25Q128, Bench

from hwflash.chip.model import StatusCommands
from hwflash.chip.protection import sst26_bpr_length
from hwflash.sim.faults import Faults
from hwflash.units import KIB, MIB


@pytest.fixture
def bench() -> Bench:
    return Bench()


def refused(bench: Bench, address: int) -> bool:
    """Whether a program at the address changes nothing, and an erase neither."""
    bench.die.content[address] = 0xFF
    bench.program(address, b"\x00")
    programmed = bench.die.content[address] == 0
    bench.die.content[address] = 0x5A
    bench.write(b"\x20" + address.to_bytes(3, "big"))
    erased = bench.die.content[address] == 0xFF
    assert programmed is erased
    return not programmed


# Winbond W25Q128JV Rev. F tables 7.1.16 (CMP = 0) and 7.1.17 (CMP = 1).
RANGES = [
    (0x00, 0x00, []),
    (0x04, 0x00, [(0xFC0000, 0x40000)]),
    (0x18, 0x00, [(0x800000, 0x800000)]),
    (0x24, 0x00, [(0, 0x40000)]),
    (0x38, 0x00, [(0, 0x800000)]),
    (0x1C, 0x00, [(0, 16 * MIB)]),
    (0x44, 0x00, [(0xFFF000, 0x1000)]),
    (0x6C, 0x00, [(0, 0x4000)]),
    (0x50, 0x00, [(0xFF8000, 0x8000)]),
    (0x00, 0x40, [(0, 16 * MIB)]),
    (0x04, 0x40, [(0, 0xFC0000)]),
    (0x64, 0x40, [(0x1000, 0xFFF000)]),
    (0x1C, 0x40, []),
]


@pytest.mark.parametrize(("first", "second", "ranges"), RANGES)
def test_block_protection_ranges(first: int, second: int, ranges: list[tuple[int, int]]) -> None:
    bench = Bench()
    bench.die.status.stored.update({1: first, 2: second})
    bench.die.restart()
    places = {0, 0x800, 0x7FFF00, 0x800000, 0xFBFF00, 0xFFEF00, 0xFFFF00}
    for start, length in ranges:
        places |= {start, start + length - 1}
        places |= {p for p in (start - 1, start + length) if 0 <= p < 16 * MIB}
    for place in sorted(places):
        expected = any(start <= place < start + length for start, length in ranges)
        # an erase acts on a whole 4 KiB sector, which none of these ranges cuts in two
        assert refused(bench, place) is expected, hex(place)


def test_refused_program_leaves_no_write_enable_and_no_busy_time(bench: Bench) -> None:
    bench.write("011c")
    bench("06")
    bench("0200000000")
    assert bench.status() == 0x1C
    bench("06")
    bench("c7")
    assert bench.status() == 0x1C
    assert set(bench.die.wear) == {0}


def test_status_write_takes_time_and_is_masked(bench: Bench) -> None:
    bench("06")
    bench("01ff")
    assert bench.status() == 0xFF
    bench.wait(0.011)
    assert bench.status() == 0xFC
    bench.die.status.stored[1] = 0
    bench.die.restart()
    bench.write("31c2")
    assert bench("35", 1) == b"\x42", "SUS is read only"
    bench.write("1160")
    assert bench("15", 1) == b"\x60"
    bench.write("010400")
    assert bench.die.registers == {1: 0x04, 2: 0x00, 3: 0x60}


def test_status_write_needs_the_write_enable_latch(bench: Bench) -> None:
    bench("0104")
    bench.wait()
    assert bench.status() == 0


def test_volatile_status_write(bench: Bench) -> None:
    bench("50")
    assert bench.status() == 0, "no write enable latch"
    bench("0104")
    assert bench.status() == 4, "at once"
    bench("0100")
    assert bench.status() == 4, "50h is good for one write"
    assert bench.die.primitives == 0
    assert refused(bench, 0xFFFF00)
    bench("66")
    bench("99")
    bench.wait()
    assert bench.status() == 0


def test_second_register_without_opcode_is_the_second_byte() -> None:
    chip = replace(
        W25Q128,
        status=StatusCommands(read={1: 0x05, 2: 0x35}, write={1: 0x01}),
        protection=replace(W25Q128.protection, wps=None),
    )
    bench = Bench(chip)
    bench.write("010442")
    assert bench.die.registers == {1: 4, 2: 0x42}
    bench.write("0108")
    assert bench.die.registers == {1: 8, 2: 0x42}
    bench.write("01085500")
    assert bench.die.registers == {1: 8, 2: 0x42}, "three bytes are too many"
    clears = replace(chip, quirks=frozenset({"wrsr-clears-second-register"}))
    bench = Bench(clears)
    bench.write("010442")
    bench.write("0108")
    assert bench.die.registers == {1: 8, 2: 0}


def test_srp_and_the_wp_pin() -> None:
    bench = Bench(wp=0)
    bench.write("0180")
    bench.write("0184")
    assert bench.status() == 0x80
    bench("06")
    bench("0100")
    assert bench.status() == 0x80, "refused at once, no write enable left"
    bench.die.wp = True
    bench.write("0100")
    assert bench.status() == 0


def test_power_supply_lock_down(bench: Bench) -> None:
    bench.write("3101")
    bench.write("0104")
    assert bench.die.registers == {1: 0, 2: 1, 3: 0}
    bench.die.power_off()
    bench.die.restore_power()
    bench.wait()
    assert bench.die.registers == {1: 0, 2: 0, 3: 0}
    bench.write("0104")
    assert bench.status() == 4


def test_permanent_lock(bench: Bench) -> None:
    bench.write("0180")
    bench.write("3101")
    bench.die.power_off()
    bench.die.restore_power()
    bench.wait()
    bench.write("0100")
    bench.write("3100")
    assert bench.die.registers == {1: 0x80, 2: 1, 3: 0}


def test_individual_block_locks(bench: Bench) -> None:
    bench.write("1104")
    assert refused(bench, 0x12000)
    assert refused(bench, 0x200000)
    assert bench("3d200000", 1) == b"\x01"
    bench.write("39200000")
    assert bench("3d20ffff", 1) == b"\x00"
    assert not refused(bench, 0x20F000)
    assert refused(bench, 0x210000)
    bench.write("39001000")
    assert not refused(bench, 0x1000)
    assert refused(bench, 0x2000), "4 KiB locks in the first 64 KiB"
    bench("06")
    bench("c7")
    assert bench.status() == 0
    bench("98")
    assert refused(bench, 0x2000), "98h needs the write enable latch"
    bench.write("98")
    assert not refused(bench, 0x2000)
    bench.write("36300000")
    assert refused(bench, 0x300000)
    bench.write("7e")
    assert refused(bench, 0x2000)


def test_sst26_is_locked_at_power_up_until_the_global_unlock() -> None:
    bench = Bench(SST26)
    length = sst26_bpr_length(8 * MIB)
    assert length == 18
    assert bench("72", 18) == b"\x55\x55" + b"\xff" * 16
    for address in (0, 0x8000, 0x10000, 0x7F0000, 0x7FE000):
        assert refused(bench, address)
    bench("98")
    assert refused(bench, 0)
    bench.write("98")
    assert bench("72", 18) == bytes(18)
    for address in (0, 0x8000, 0x10000, 0x7F0000, 0x7FE000):
        assert not refused(bench, address)
    bench.die.power_off()
    bench.die.restore_power()
    bench.wait()
    assert refused(bench, 0)


def test_sst26_block_protection_register() -> None:
    bench = Bench(SST26)
    value = bytearray(18)
    value[17] = 0x01  # bit 0: 010000 to 01FFFF
    bench.write(b"\x42" + bytes(value))
    assert bench("72", 18) == bytes(value)
    assert refused(bench, 0x10000)
    assert refused(bench, 0x1F000)
    assert not refused(bench, 0x20000)
    bench.write(b"\x42" + bytes(5))
    assert bench("72", 18) == bytes(value), "the wrong length is ignored"
    bench.write("8d")
    bench.write(b"\x42" + bytes(18))
    bench.write("98")
    assert bench("72", 18) == bytes(value), "locked down"


def test_sst26_read_lock_hides_a_block() -> None:
    bench = Bench(SST26)
    value = bytearray(18)
    value[1] = 0x02  # bit 129: read lock of 000000 to 001FFF
    bench.write(b"\x42" + bytes(value))
    assert bench("03001ffe", 4).hex() == "0000ffff"
    bench.write("98")
    assert bench("03001ffe", 4).hex() == "0000ffff", "98h leaves read locks"


def test_sst26_erases_by_one_opcode_what_the_place_has() -> None:
    bench = Bench(SST26)
    bench.write("98")
    for address, start, size in (
        (0x3FFF, 0x2000, 8 * KIB),
        (0x9000, 0x8000, 32 * KIB),
        (0x2ABCD, 0x20000, 64 * KIB),
        (0x7F1000, 0x7F0000, 32 * KIB),
        (0x7FF000, 0x7FE000, 8 * KIB),
    ):
        bench.die.content[:] = bytes(8 * MIB)
        bench.write(b"\xd8" + address.to_bytes(3, "big"))
        content = bench.die.content
        assert content[start : start + size] == b"\xff" * size
        assert content.count(0xFF) == size
    bench.write("c7", 1)
    assert content.count(0xFF) == 8 * MIB


def test_micron_flag_status() -> None:
    bench = Bench(MT25Q256, faults=Faults(fail=2))
    assert bench("9f", 6).hex() == "20ba19104420"
    assert bench("70", 1) == b"\x80"
    bench("06")
    bench("0200000000")
    assert bench("70", 2) == b"\x00\x00"
    bench.wait()
    assert bench("70", 1) == b"\x80"
    bench.write("0200010000")
    assert bench("70", 1) == b"\x90"
    bench.write("0200020000")
    assert bench("70", 1) == b"\x90", "sticky"
    bench("50")
    assert bench("70", 1) == b"\x80"
    bench.write("017c")
    bench.write("20000000")
    assert bench("70", 1) == b"\xa2"
    bench.write("0200000000")
    assert bench("70", 1) == b"\xb2"


def test_micron_flag_status_shows_suspension_and_address_mode() -> None:
    bench = Bench(MT25Q256)
    bench("06")
    bench("d8000000")
    bench("75")
    bench.wait(21e-6)
    assert bench("70", 1) == b"\xc0"
    bench("7a")
    bench.wait()
    bench("06")
    bench("0200000000")
    bench("75")
    bench.wait(21e-6)
    assert bench("70", 1) == b"\x84"
    bench.program(0x100, b"\x00")  # a program during a suspended program is refused
    assert bench.die.content[0x100] == 0xFF
    bench("7a")
    bench.wait()
    bench("06")
    bench("b7")
    assert bench("70", 1)[0] & 0x81 == 0x81


def test_spansion_failure_keeps_the_chip_busy_until_it_is_cleared() -> None:
    bench = Bench(S25FL128, faults=Faults(fail=1))
    bench.write("0200000000")
    assert bench.status() == 0x43
    assert bench("9f", 3) == b"\xff" * 3
    bench.wait()
    assert bench.status() == 0x43
    bench("30")
    assert bench.status() == 0x02
    bench("04")
    assert bench("9f", 3).hex() == "010219"
    bench.write("011c00")
    bench.write("d8000000")
    assert bench.status() == 0x1C | 0x23, "a protected erase is a failure, too"
    bench("30")
    assert bench.status() == 0x1E
    bench.write("0160")
    assert bench.status() == 0x00, "the error bits cannot be written"


def test_clear_status_does_not_end_a_program() -> None:
    bench = Bench(S25FL128)
    bench("06")
    bench("0200000000")
    bench("30")
    assert bench.status() == 3


def test_tb_is_set_once_where_the_data_sheet_says_so() -> None:
    bench = Bench(S25FL128)
    bench.write("010020")
    assert bench("35", 1) == b"\x20"
    bench.write("010000")
    assert bench("35", 1) == b"\x20"


def test_macronix_security_register() -> None:
    bench = Bench(MX25L128, faults=Faults(fail=1))
    bench.write("0200000000")
    assert bench("2b", 1) == b"\x20"
    bench.write("20000000")
    assert bench("2b", 1) == b"\x20"
    bench.write("0200000000")
    assert bench("2b", 1) == b"\x00", "the next good program clears it"
    bench.write("013c")
    bench.write("20000000")
    assert bench("2b", 1) == b"\x40"
    bench.write("0100")
    bench.write("20000000")
    assert bench("2b", 1) == b"\x00"
    bench.write("010008")
    assert bench("15", 1) == b"\x08"


def test_failure_on_a_chip_without_flags_shows_only_in_the_data() -> None:
    bench = Bench(faults=Faults(fail=1))
    bench.program(0, bytes(256))
    assert bench.status() == 0
    assert bench("03000000", 256) not in (bytes(256), b"\xff" * 256)


def test_never_ready() -> None:
    bench = Bench(faults=Faults(never_ready=2))
    bench.program(0, b"\x00")
    assert bench.status() == 0
    bench.program(1, b"\x00")
    bench.wait(1e6)
    assert bench.status() == 3
    assert bench("05", 3) == b"\x03" * 3
    bench("66")
    bench("99")
    bench.wait()
    assert bench.status() == 0
