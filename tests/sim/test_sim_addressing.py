from dataclasses import replace

from sim_chips import MT25Q256, S25FL128, W25Q128, W25Q256, Bench

from hwflash.chip.model import Addressing, EnterFourByte
from hwflash.units import MIB


def marked(chip) -> Bench:
    bench = Bench(chip)
    bench.die.content[0x10:0x12] = b"\x11\x22"
    bench.die.content[0x1000010:0x1000012] = b"\x33\x44"
    return bench


def test_b7_and_e9() -> None:
    bench = marked(W25Q256)
    assert bench("03000010", 2).hex() == "1122"
    assert bench("15", 1) == b"\x00"
    bench("b7")
    assert bench("15", 1) == b"\x01", "ADS"
    assert bench("0301000010", 2).hex() == "3344"
    assert bench("0b0100001000", 2).hex() == "3344"
    bench.write("0201000010 00")
    assert bench.die.content[0x1000010] == 0
    bench.write("2001000fff")
    assert bench.die.content[0x1000010:0x1000012] == b"\xff\xff"
    bench.die.content[0x1000010] = 0x33
    bench.write("20010000", 1)
    assert bench.die.content[0x1000010] == 0x33, "three address bytes are an aborted erase now"
    bench("e9")
    assert bench("03000010", 2).hex() == "1122"


def test_unique_id_has_five_dummy_bytes_in_the_4byte_mode() -> None:
    bench = Bench(W25Q256)
    before = bench("4b00000000", 8)
    bench("b7")
    assert bench("4b0000000000", 8) == before


def test_sfdp_and_ids_do_not_care_for_the_mode() -> None:
    bench = Bench(W25Q256, sfdp=b"SFDP1234")
    bench("b7")
    assert bench("5a00000000", 8) == b"SFDP1234"
    assert bench("90000000", 2).hex() == "ef18"


def test_dedicated_opcodes_take_four_bytes_in_both_modes() -> None:
    bench = marked(W25Q256)
    for _ in range(2):
        assert bench("1301000010", 2).hex() == "3344"
        assert bench("0c0100001000", 2).hex() == "3344"
        bench("b7")
    bench("e9")
    bench.write("1201000010 0f")
    assert bench.die.content[0x1000010] == 0x03
    bench.write("2101000010")
    assert bench.die.content[0x1000010] == 0xFF
    bench.die.content[0x1010000] = 0
    bench.write("dc0101ffff")
    assert bench.die.content[0x1010000] == 0xFF


def test_small_chip_has_neither_mode_nor_opcodes() -> None:
    bench = Bench(W25Q128)
    bench.die.content[0:4] = b"\x01\x02\x03\x04"
    bench("b7")
    bench("06")
    bench("c501")
    assert bench("03000000", 4).hex() == "01020304"
    assert bench("1300000000", 4) == b"\xff" * 4
    assert bench("c8", 1) == b"\xff"


def test_micron_needs_write_enable_and_keeps_it() -> None:
    bench = marked(MT25Q256)
    bench("b7")
    assert bench("03000010", 2).hex() == "1122"
    bench("06")
    bench("b7")
    assert bench.status() == 2
    assert bench("0301000010", 2).hex() == "3344"
    bench("04")
    bench("e9")
    assert bench("0301000010", 2).hex() == "3344"
    bench("06")
    bench("e9")
    assert bench("03000010", 2).hex() == "1122"


def test_extended_address_register() -> None:
    chip = replace(W25Q256, addressing=Addressing(enter=EnterFourByte.EXTENDED_ADDRESS_REGISTER))
    bench = marked(chip)
    bench("c501")
    assert bench("c8", 1) == b"\x00", "needs the write enable latch"
    bench("06")
    bench("c501")
    assert bench("c8", 1) == b"\x01"
    assert bench("03000010", 2).hex() == "3344"
    bench.program(0x10, b"\x00")
    assert bench.die.content[0x1000010] == 0
    bench("b7")
    assert bench("03000010", 1) == b"\x00", "there is no B7h"
    bench("66")
    bench("99")
    bench.wait()
    assert bench("03000010", 2).hex() == "1122"


def test_extended_address_register_that_survives_a_reset() -> None:
    chip = replace(
        W25Q256,
        addressing=Addressing(enter=EnterFourByte.EXTENDED_ADDRESS_REGISTER),
        quirks=frozenset({"address-register-survives"}),
    )
    bench = marked(chip)
    bench("06")
    bench("c501")
    bench("66")
    bench("99")
    bench.wait()
    assert bench("03000010", 2).hex() == "3344"
    bench.die.power_off()
    bench.die.restore_power()
    bench.wait()
    assert bench("03000010", 2).hex() == "1122"


def test_bank_register() -> None:
    bench = marked(S25FL128)
    bench("1701")
    assert bench("16", 1) == b"\x01"
    assert bench("03000010", 2).hex() == "3344"
    bench("1780")
    assert bench("0301000010", 2).hex() == "3344"
    assert bench("0300000010", 2).hex() == "1122"
    bench("1700")
    assert bench("03000010", 2).hex() == "1122"


def test_always_four_bytes() -> None:
    chip = replace(
        W25Q256, addressing=Addressing(three_byte=False, enter=EnterFourByte.ALWAYS, opcodes=True)
    )
    bench = marked(chip)
    assert bench("0301000010", 2).hex() == "3344"
    bench("e9")
    assert bench("0301000010", 2).hex() == "3344"


def test_power_up_address_mode_is_non_volatile() -> None:
    bench = marked(W25Q256)
    bench.write("1102")
    assert bench("03000010", 2).hex() == "1122"
    bench.die.power_off()
    bench.die.restore_power()
    bench.wait()
    assert bench("0301000010", 2).hex() == "3344"
    assert bench("15", 1) == b"\x03"


def test_read_goes_on_over_the_16_mib_border() -> None:
    bench = marked(W25Q256)
    bench.die.content[16 * MIB - 1] = 0x77
    assert bench("03ffffff", 0x12)[:1] == b"\x77"
    assert bench("03ffffff", 0x13)[-2:].hex() == "3344"
