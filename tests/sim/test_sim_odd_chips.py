"""Byte programming, auto address increment and stacks of dies, as the data sheets have them."""

from dataclasses import replace

from sim_chips import MT25Q256, W25Q128, Bench, uniform

from hwflash.chip import catalog
from hwflash.chip.model import (
    Addressing,
    DieAccess,
    Dies,
    Duration,
    EnterFourByte,
    EraseType,
)
from hwflash.units import KIB, MIB

SMALL = uniform(256 * KIB, EraseType(4 * KIB, 0x20, Duration(0.045, 0.4), 0x21))


def part(name: str) -> Bench:
    bench = Bench(catalog.load().by_name(name).chip)
    bench(bytes((bench.die.chip.status.enable,)))
    bench("0100")
    return bench


def test_everything_is_locked_at_power_up_and_the_lock_is_volatile() -> None:
    bench = Bench(catalog.load().by_name("SST25VF016B").chip)
    assert bench.status() == 0x1C
    bench.write("02000000 00")
    assert bench.die.content[0] == 0xFF
    bench("06")
    bench("0100")
    assert bench.status() == 0, "at once, and the write enable is gone"
    bench.write("02000000 00")
    assert bench.die.content[0] == 0
    bench.die.power_off()
    bench.die.restore_power()
    bench.wait()
    assert bench.status() == 0x1C


def test_the_first_generation_wants_50h_and_answers_90h_only() -> None:
    bench = Bench(catalog.load().by_name("SST25VF512A").chip)
    assert bench("9f", 3) == b"\xff" * 3
    assert bench("90000000", 4).hex() == "bf48bf48"
    assert bench("90000001", 2).hex() == "48bf"
    bench("06")
    bench("0100")
    assert bench.status() & 0x0C == 0x0C
    bench("04")
    bench("50")
    bench("0100")
    assert bench.status() == 0


def test_one_byte_a_program() -> None:
    bench = part("SST25VF016B")
    bench.write("02000010 1122")
    assert bench.die.content[0x10:0x12] == b"\xff\xff", "two bytes are no byte program"
    bench.write("02000010 11")
    assert bench.die.content[0x10:0x12] == b"\x11\xff"


def test_auto_address_increment_of_words() -> None:
    bench = part("SST25VF016B")
    content = bench.die.content
    bench("ad000010 1122")
    assert content[0x10] == 0xFF, "it needs write enable"
    bench("06")
    bench("ad000010 1122")
    assert bench.status() == 0x43, "busy, write enable, AAI"
    bench("ad 3344")
    bench.wait(20e-6)
    assert bench.status() == 0x42
    bench("ad 5566")
    bench.wait(20e-6)
    assert content[0x10:0x16].hex() == "11225566ffff", "what comes too early is lost"
    assert bench("9f", 3) == b"\xff" * 3, "it listens to nothing else"
    assert bench("03000010", 1) == b"\xff"
    bench.write("20000000")
    assert content[0x10] == 0x11
    bench("04")
    assert bench.status() == 0
    assert bench("03000010", 4).hex() == "11225566"
    bench("ad 7788")
    assert content[0x14:0x16] == b"\xff\xff", "it has ended"


def test_auto_address_increment_of_bytes() -> None:
    bench = part("SST25VF512A")
    bench("06")
    for command in ("af000011 01", "af 02", "af 03"):
        bench(command)
        bench.wait(20e-6)
    bench("04")
    assert bench.die.content[0x10:0x15].hex() == "ff010203ff"


def test_auto_address_increment_ends_behind_the_last_address() -> None:
    bench = part("SST25VF016B")
    bench("06")
    bench("ad1ffffc 0102")
    bench.wait(20e-6)
    assert bench.status() == 0x42
    bench("ad 0304")
    bench.wait(20e-6)
    assert bench.status() == 0
    assert bench.die.content[-4:].hex() == "01020304"
    bench("ad 0506")
    assert bench.die.content[:2] == b"\xff\xff", "it does not wrap"


def test_it_ends_before_what_is_locked() -> None:
    bench = part("SST25VF016B")
    bench("06")
    bench("0104")  # the upper 64 KiB
    bench("06")
    bench("ad1efffe 0102")
    bench.wait(20e-6)
    assert bench.status() == 0x04
    bench("ad 0304")
    assert bench.die.content[0x1EFFFE:0x1F0002].hex() == "0102ffff"


def test_miso_tells_busy_after_70h() -> None:
    bench = part("SST25VF016B")
    bench("70")
    bench("06")
    bench("ad000000 1122")
    bench.die.select()
    assert bench.die.exchange(b"\0") == b"\x00"
    bench.wait(20e-6)
    assert bench.die.exchange(b"\0") == b"\xff"
    bench.die.deselect()
    bench("04")
    bench("80")
    bench("06")
    bench("ad000010 1122")
    bench.die.select()
    assert bench.die.exchange(b"\0") == b"\xff"
    bench.die.deselect()


def test_reads_end_at_their_die_and_c4_erases_one() -> None:
    chip = replace(
        MT25Q256,
        size=256 * KIB,
        erase=SMALL,
        dies=Dies(2, erase=(0xC4, Duration(10.0, 20.0))),
        addressing=Addressing(),
        quirks=frozenset({"flag-status-poll"}),
    )
    bench = Bench(chip)
    bench.die.content[:] = bytes(128 * KIB) + b"\x01" * (128 * KIB)
    assert bench("0301ffff", 2).hex() == "0000"
    assert bench("0303ffff", 2).hex() == "0101", "at the start of the second die, not of the chip"
    bench("06")
    bench("c7")
    assert bench.status() == 2, "there is no chip erase"
    bench("c4020000")
    assert bench.status() & 1
    bench.wait()
    assert bench.die.content == bytes(128 * KIB) + b"\xff" * (128 * KIB)
    bench.write("c4000000")
    assert bench.die.content.count(0) == 128 * KIB, "70h was not read since"
    bench("70", 1)
    bench.write("c4000000")
    assert bench.die.content.count(0xFF) == 256 * KIB


def test_each_die_of_a_selected_stack_lives_for_itself() -> None:
    chip = replace(
        W25Q128,
        size=64 * MIB,
        erase=uniform(64 * MIB, *W25Q128.erase_types),
        dies=Dies(2, DieAccess.SELECT),
        addressing=Addressing(enter=EnterFourByte.B7, opcodes=True),
    )
    bench = Bench(chip)
    content = bench.die.content
    content[0x10], content[32 * MIB + 0x10] = 1, 2
    assert bench("03000010", 1) == b"\x01"
    assert bench("1302000010", 1) == b"\x01", "beyond its end a die begins anew"
    bench("b7")
    bench("06")
    bench("2000000000")
    assert bench.status() == 3
    bench("c201")
    assert bench.status() == 0, "the other one is neither busy nor enabled"
    assert bench("03000010", 1) == b"\x02", "nor in the 4-byte mode"
    bench.write("02000020 07")
    assert content[32 * MIB + 0x20] == 7
    bench("c205")
    assert bench("03000010", 1) == b"\x02", "there is no sixth die"
    bench("c200")
    assert content[0x10] == 0xFF
    assert bench.status() == 0
    bench.die.content[0] = content[32 * MIB] = 0
    bench.write("c7")
    assert (content[0], content[32 * MIB]) == (0xFF, 0), "a chip erase is one of a die"


def test_power_goes_away_while_another_die_works() -> None:
    chip = replace(W25Q128, size=256 * KIB, erase=SMALL, dies=Dies(2, DieAccess.SELECT))
    bench = Bench(chip)
    bench.die.content[:] = bytes(256 * KIB)
    bench("06")
    bench("20000000")
    bench("c201")
    bench.die.power_off()
    torn = bytes(bench.die.content[:4096])
    assert torn != b"\xff" * 4096
    bench.die.restore_power()
    bench.wait()
    assert bench("03000000", 4) == torn[:4], "the first die listens again"


def test_the_status_register_of_the_selected_die() -> None:
    chip = replace(W25Q128, size=256 * KIB, erase=SMALL, dies=Dies(2, DieAccess.STATUS))
    bench = Bench(chip)
    bench("06")
    bench("20020000")
    assert bench.status() & 1 == 0, "the first die has nothing to do"
    bench("c201")
    assert bench.status() & 1 == 1
    bench("c200")
    assert bench("03000000", 1) == b"\xff"
    bench.wait()
    assert bench.status() == 0


def test_micron_powers_up_as_its_configuration_says() -> None:
    bench = Bench(MT25Q256)
    bench.die.content[0x1000010] = 3
    assert bench("b5", 2).hex() == "ffff"
    bench.write("b1feff")
    assert bench("70", 1)[0] & 1 == 0, "not before the next power-up"
    bench.die.power_off()
    bench.die.restore_power()
    bench.wait()
    assert bench("70", 1)[0] & 1 == 1
    assert bench("0301000010", 1) == b"\x03"


def test_reads_alone_have_4_byte_commands() -> None:
    chip = replace(
        W25Q128, size=32 * MIB, addressing=Addressing(enter=EnterFourByte.B7, read_opcodes=True)
    )
    bench = Bench(chip)
    bench.die.content[0x1000010] = 3
    assert bench("1301000010", 1) == b"\x03"
    assert bench("0c0100001000", 1) == b"\x03"
    bench.write("1201000010 00")
    assert bench.die.content[0x1000010] == 3
