import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_chips import W25Q128, Bench, sfdp_table
from support import examples

from hwflash.units import KIB, MIB


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_identity(bench: Bench) -> None:
    assert bench("9f", 7).hex() == "ef4018ef4018ef"
    assert bench("90000000", 4).hex() == "ef17ef17"
    assert bench("90000001", 3).hex() == "17ef17"
    assert bench("ab000000", 2).hex() == "1717"
    assert len(set(bench("4b00000000", 8))) > 1
    assert bench("4b00000000", 16) == bench("4b00000000", 8) * 2


def test_unique_id_is_of_the_seed_or_given() -> None:
    assert Bench(seed=1)("4b00000000", 8) != Bench(seed=2)("4b00000000", 8)
    assert Bench(seed=1)("4b00000000", 8) == Bench(seed=1)("4b00000000", 8)
    assert Bench(unique_id=b"12345678")("4b00000000", 8) == b"12345678"


def test_sfdp_has_eight_dummy_clocks_and_ff_behind_its_end() -> None:
    table = sfdp_table("W25Q128JV")
    bench = Bench(sfdp=table)
    assert bench("5a00000000", len(table) + 4) == table + b"\xff" * 4
    assert bench("5a00000400", 4) == table[4:8]
    assert Bench()("5a00000000", 4) == b"\xff" * 4


def test_program_is_an_and_and_takes_its_time(bench: Bench) -> None:
    bench("06")
    assert bench.status() == 0x02
    bench("02000010 f0f0")
    assert bench.status() == 0x03, "busy keeps the write enable latch"
    bench.wait(0.00039)
    assert bench.status() == 0x03
    bench.wait(0.00002)
    assert bench.status() == 0x00, "both end together"
    bench.program(0x10, b"\x3c\xff")
    assert bench("0300000f", 4).hex() == "ff30f0ff"
    assert bench("0b00001000", 2).hex() == "30f0"


def test_program_and_erase_need_the_write_enable_latch(bench: Bench) -> None:
    bench("0200000000")
    bench("06")
    bench("04")
    bench("0200000000")
    assert bench("03000000", 1) == b"\xff"
    bench.program(0, b"\x00")
    bench("20000000")
    bench.wait()
    assert bench("03000000", 1) == b"\x00"
    assert bench.die.primitives == 1


def test_page_wraps_and_the_last_page_size_bytes_count(bench: Bench) -> None:
    bench.program(0x1F8, bytes(range(16)))
    assert bench("030001f8", 8) == bytes(range(8))
    assert bench("03000100", 8) == bytes(range(8, 16))
    assert bench("03000200", 8) == b"\xff" * 8
    data = bytes(range(256)) + b"\xaa" * 4
    bench.program(0x1000, data)
    assert bench("03001000", 256) == b"\xaa" * 4 + bytes(range(4, 256))


@pytest.mark.slow
@settings(max_examples=examples(60), deadline=None)
@given(
    st.integers(0, 255), st.binary(min_size=1, max_size=600), st.binary(min_size=256, max_size=256)
)
def test_page_buffer_is_a_ring(offset: int, data: bytes, before: bytes) -> None:
    bench = Bench(content=bytearray(before) + bytearray(b"\xff") * (16 * MIB - 256))
    ring = [0xFF] * 256
    for place, value in enumerate(data):
        ring[(offset + place) % 256] = value
    bench.program(offset, data)
    assert bench("03000000", 256) == bytes(a & b for a, b in zip(before, ring, strict=True))


def test_erase_sizes_alignment_and_wear(bench: Bench) -> None:
    bench.die.content[0 : 128 * KIB] = bytes(128 * KIB)
    bench.write("20001234")
    assert bench("03000ffe", 4).hex() == "0000ffff"
    assert bench("03001ffe", 4).hex() == "ffff0000"
    bench.write("5200ffff")
    assert bench("03007ffe", 4).hex() == "0000ffff"
    bench.write("d801abcd")
    assert bench("0301fffe", 4).hex() == "ffffffff"
    wear = bench.die.wear
    assert len(wear) == 4096
    assert (wear[0], wear[1], wear[8], wear[15], wear[16], wear[31], wear[32]) == (
        0,
        1,
        1,
        1,
        1,
        1,
        0,
    )


def test_chip_erase(bench: Bench) -> None:
    bench.die.content[5 * MIB] = 0
    bench("06")
    bench("60")
    bench.wait(39)
    assert bench.status() == 3
    bench.wait(1.1)
    assert bench.status() == 0
    assert bench.die.content.count(0xFF) == 16 * MIB
    assert set(bench.die.wear) == {1}


def test_busy_chip_ignores_all_but_status(bench: Bench) -> None:
    bench("06")
    bench("02000000 00")
    assert bench("9f", 3) == b"\xff" * 3
    assert bench("03000000", 1) == b"\xff"
    bench("04")
    assert bench.status() == 3, "a write disable is ignored, too"
    bench("06")
    bench("02000100 00")
    bench.wait()
    assert bench.status() == 0, "the ignored write enable has left nothing"
    assert bench("03000000", 1) == b"\x00"
    assert bench("03000100", 1) == b"\xff"
    assert bench.die.primitives == 1


def test_status_is_live_in_one_window(bench: Bench) -> None:
    bench.die.sck_hz = 30e6
    bench("06")
    bench("02000000 00")
    busy = round(0.0004 * 30e6 / 8)
    answer = bench("05", 2000)
    assert answer == b"\x03" * busy + b"\x00" * (2000 - busy)
    assert bench.status() == 0


def test_aborted_commands_do_nothing(bench: Bench) -> None:
    bench.die.content[0] = 0
    for command in ("02000000", "200000", "2000000000", "c700", "0200", "01", "01000000"):
        bench("06")
        bench(command)
        assert bench.status() == 0x02, command
    bench.die.select()
    bench.die.exchange(b"\x20\x00\x00\x00")
    bench.die.exchange_bits(1, 3)
    bench.die.deselect()
    assert bench.status() == 0x02
    bench("0600")
    assert bench.die.primitives == 0
    bench("04")
    bench("0600")
    assert bench.status() == 0


def test_bits_and_bytes_mix(bench: Bench) -> None:
    die = bench.die
    die.select()
    assert die.exchange_bits(0x9, 4) == 0xF
    assert die.exchange_bits(0xF, 4) == 0xF
    assert die.exchange_bits(0, 3) == 0xEF >> 5
    assert die.exchange(b"\x00\x00") == ((0xEF4018 >> 5) & 0xFFFF).to_bytes(2, "big")
    assert die.exchange_bits(0, 5) == 0x18 & 0x1F
    assert die.exchange(b"\x00") == b"\xef"
    die.deselect()


def test_miso_can_be_looked_at(bench: Bench) -> None:
    die = bench.die
    assert die.miso() == 1
    die.select()
    assert die.miso() == 1
    die.exchange(b"\x9f")
    assert die.miso() == 1
    assert die.exchange(bytes(2)).hex() == "ef40"
    assert die.miso() == 0
    assert die.exchange_bits(0, 8) == 0x18
    die.deselect()
    die.select()
    assert die.miso() == 1
    assert die.exchange(b"\x9f" + bytes(3)).hex() == "ffef4018"


def test_read_wraps_at_the_end_of_the_chip(bench: Bench) -> None:
    bench.die.content[-2:] = b"\x12\x34"
    bench.die.content[:2] = b"\x56\x78"
    assert bench("03fffffe", 4).hex() == "12345678"
    bench.die.select()
    bench.die.exchange(b"\x03\xff\xff\xff")
    assert bench.die.exchange(bytes(1)) == b"\x34"
    assert bench.die.exchange(bytes(16 * MIB + 1))[-2:].hex() == "3456"
    bench.die.deselect()


def test_read_above_its_clock_is_disturbed_and_fast_read_is_not(bench: Bench) -> None:
    bench.die.content[:] = bytes(16 * MIB)
    bench.die.sck_hz = 50e6
    assert bench("03000000", 4096) == bytes(4096)
    bench.die.sck_hz = 60e6
    first, second = bench("03000000", 4096), bench("03000000", 4096)
    assert first != second
    wrong = int.from_bytes(first).bit_count()
    assert 4096 * 8 / 64 < wrong < 4096 * 8 / 16
    assert bench("0b00000000", 4096) == bytes(4096)


def test_deselected_die_answers_nothing(bench: Bench) -> None:
    assert bench.die.exchange(b"\x9f\x00") == b"\xff\xff"
    bench.die.deselect()
    assert bench("ee", 2) == b"\xff\xff"


def test_deep_power_down(bench: Bench) -> None:
    bench("b9")
    assert bench("9f", 3) == b"\xff" * 3
    bench("06")
    assert bench("ab000000", 1) == b"\x17"
    assert bench("9f", 3) == b"\xff" * 3, "tRES1 is not over"
    bench.wait(4e-6)
    assert bench("9f", 3).hex() == "ef4018"
    assert bench.status() == 0
    bench("b9")
    bench("ab")
    bench.wait(4e-6)
    assert bench("9f", 1) == b"\xef"


def test_software_reset_needs_both_commands_in_a_row(bench: Bench) -> None:
    bench("06")
    bench("99")
    assert bench.status() == 2
    bench("66")
    bench("05", 1)
    bench("99")
    assert bench.status() == 2
    bench("66")
    bench("99")
    assert bench.status() == 0xFF, "tRST is not over"
    bench.wait(31e-6)
    assert bench.status() == 0


def test_reset_tears_a_running_erase(bench: Bench) -> None:
    bench.die.content[: 64 * KIB] = bytes(64 * KIB)
    bench("06")
    bench("d8000000")
    bench.wait(0.01)
    bench("66")
    bench("99")
    bench.wait(31e-6)
    assert bench.status() == 0
    left = bench("03000000", 64 * KIB)
    assert left not in (bytes(64 * KIB), b"\xff" * 64 * KIB)


def test_suspend_and_resume(bench: Bench) -> None:
    bench.die.content[: 128 * KIB] = bytes(128 * KIB)
    bench("06")
    bench("d8000000")
    bench.wait(0.05)
    bench("75")
    assert bench.status() & 1, "tSUS"
    bench.wait(21e-6)
    assert bench.status() == 0
    assert bench("35", 1) == b"\x80"
    assert bench("03010000", 4) == bytes(4)
    assert bench("03000000", 64 * KIB) != b"\xff" * 64 * KIB
    bench.program(0x20000, b"\x5a")
    bench.program(0x100, b"\x00")  # inside the suspended block: refused
    bench.write("20030000")  # an erase during a suspended erase: refused
    assert bench.die.primitives == 2
    bench("7a")
    assert bench.status() == 3
    assert bench("35", 1) == b"\x00"
    bench.wait(0.09)
    assert bench.status() == 3
    bench.wait(0.02)
    assert bench.status() == 0
    assert bench("03000000", 64 * KIB) == b"\xff" * 64 * KIB
    assert bench("03020000", 1) == b"\x5a"
    bench("7a")
    assert bench.status() == 0


def test_suspend_is_ignored_when_idle_or_writing_registers(bench: Bench) -> None:
    bench("75")
    assert bench("35", 1) == b"\x00"
    bench("06")
    bench("0104")
    bench("75")
    bench.wait(0.005)
    assert bench.status() == 0x07
    assert bench("35", 1) == b"\x00"


def test_reset_tears_a_suspended_erase(bench: Bench) -> None:
    bench.die.content[:4096] = bytes(4096)
    bench("06")
    bench("20000000")
    bench("75")
    bench.wait(21e-6)
    bench("66")
    bench("99")
    bench.wait(31e-6)
    assert bench("35", 1) == b"\x00"
    assert bench("03000000", 4096) != b"\xff" * 4096


def test_security_registers(bench: Bench) -> None:
    def read(address: int, size: int) -> bytes:
        return bench(b"\x48" + address.to_bytes(3, "big") + b"\x00", size)

    bench.write("42002010 1234")
    assert read(0x200F, 4).hex() == "ff1234ff"
    bench.write(bytes.fromhex("420010fe") + b"\x01\x02\x03")
    assert read(0x10FE, 4).hex() == "010203ff"
    assert read(0x5000, 2) == b"\xff\xff"
    bench.write("44002000")
    assert read(0x2010, 2) == b"\xff\xff"
    assert read(0x10FE, 2).hex() == "0102"
    bench.write("42005000 00")
    bench.write("44005000")
    assert bench.die.primitives == 3
    bench.write("3108")
    bench.write("42001020 00")
    bench.write("44001000")
    assert read(0x10FE, 2).hex() == "0102"
    assert read(0x1020, 1) == b"\xff"
    bench.write("3100")
    assert bench("35", 1) == b"\x08", "a lock bit is set once"


def test_typical_times_vary_around_the_typical_time_and_reach_beyond() -> None:
    bench = Bench(timing="typical", seed=3)
    times = [bench.die.times.draw(W25Q128.page_program) for _ in range(5000)]
    mean = sum(times) / len(times)
    assert 0.00039 < mean < 0.00042
    assert min(times) >= 0.0004 * 0.85
    assert 5 < sum(time > 0.0005 for time in times) < 60
    assert max(times) <= 0.003
    assert Bench(timing="max").die.times.draw(W25Q128.page_program) == 0.003
    assert Bench(timing="datasheet").die.times.draw(W25Q128.page_program) == 0.0004


def test_equal_seeds_give_equal_times() -> None:
    draw = [Bench(timing="typical", seed=9).die.times.draw(W25Q128.page_program) for _ in range(2)]
    assert draw[0] == draw[1]
