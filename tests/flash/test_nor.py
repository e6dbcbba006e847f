import pytest
from support import DieBus, Rig, RigFactory, large_chip, pattern, small_chip

from hwflash.bus.spi import Transfer
from hwflash.chip.model import Addressing, EnterFourByte
from hwflash.flash.nor import NorFlash
from hwflash.flash.pipeline import Page
from hwflash.units import KIB, MIB

EDGE = 16 * MIB

WAYS = {
    "opcodes": Addressing(enter=EnterFourByte.B7, opcodes=True),
    "b7": Addressing(enter=EnterFourByte.B7),
    "wren-b7": Addressing(enter=EnterFourByte.WREN_B7),
    "ear": Addressing(enter=EnterFourByte.EXTENDED_ADDRESS_REGISTER),
    "bank": Addressing(enter=EnterFourByte.BANK_REGISTER),
    "always": Addressing(three_byte=False, enter=EnterFourByte.ALWAYS),
}


@pytest.mark.parametrize("way", WAYS)
def test_both_halves_of_a_32_mib_chip(way: str) -> None:
    chip = large_chip(WAYS[way])
    bus = DieBus(chip)
    flash = NorFlash(bus, chip)
    low, high = pattern(3000, 1), pattern(3000, 2)
    memory = bus.die.content
    memory[0:4096] = memory[EDGE : EDGE + 4096] = bytes(4096)
    flash.erase(EDGE, 4096)
    assert memory[0:4096] == bytes(4096), "the lower half is not touched"
    assert memory[EDGE : EDGE + 4096] == b"\xff" * 4096
    flash.erase(0, 4096)
    flash.program(EDGE + 100, high)
    flash.program(100, low)
    flash.program(EDGE - 1000, pattern(2000, 3)[:1000])  # ends at the edge
    assert flash.read(100, 3000) == low
    assert flash.read(EDGE + 100, 3000) == high
    assert flash.read(EDGE - 1000, 1200) == pattern(2000, 3)[:1000] + memory[EDGE : EDGE + 200]
    assert memory[EDGE + 100 : EDGE + 3100] == high
    flash.program_pages(
        [Page(EDGE + 0x8000, b"\1"), Page(0x8000, b"\2"), Page(EDGE + 0x8100, b"\3")]
    )
    assert (memory[EDGE + 0x8000], memory[0x8000], memory[EDGE + 0x8100]) == (1, 2, 3)
    flash.close()
    assert not bus.die.four_byte
    assert bus.die.extended == 0


@pytest.mark.parametrize("way", ["ear", "bank"])
def test_a_segment_left_by_somebody_else_is_not_believed(way: str) -> None:
    chip = large_chip(WAYS[way])
    bus = DieBus(chip)
    bus.die.extended = bus.die.bank = 1
    bus.die.content[0:4] = b"low!"
    bus.die.content[EDGE : EDGE + 4] = b"high"
    flash = NorFlash(bus, chip)
    assert flash.read(0, 4) == b"low!"
    flash.erase(0, 4096)
    assert bus.die.content[EDGE : EDGE + 4] == b"high"
    assert bus.die.content[0:4] == b"\xff" * 4


@pytest.mark.parametrize("way", ["ear", "bank", "b7"])
def test_a_whole_erase_without_a_chip_erase(way: str) -> None:
    chip = large_chip(WAYS[way], chip_erase=None)
    bus = DieBus(chip)
    bus.die.content[:] = bytes(32 * MIB)
    flash = NorFlash(bus, chip)
    flash.erase(0, 32 * MIB)
    assert bus.die.content.count(0xFF) == 32 * MIB
    assert dict(flash.erases) == {64 * KIB: 512}


def test_one_read_command_serves_a_mib(rig: RigFactory) -> None:
    chip = small_chip(4 * MIB)
    bus = DieBus(chip)
    bus.die.content[:] = pattern(4 * MIB)
    flash = NorFlash(bus, chip)
    sizes = [len(piece) for piece in flash.stream(100, 3 * MIB)]
    assert sizes == [MIB, MIB, MIB]
    assert flash.read(100, 3 * MIB) == pattern(4 * MIB)[100 : 100 + 3 * MIB]


def test_pages_are_cut_and_trimmed() -> None:
    flash = NorFlash(DieBus(small_chip()), small_chip())
    data = b"\xff" * 10 + b"\x01" + b"\xff" * 500 + b"\x02\xff\x03\xff"
    assert flash.split(250, data) == [
        Page(260, b"\x01"), Page(761, b"\x02\xff\x03"),
    ]  # fmt: skip
    assert flash.split(0, b"\xff" * 1000) == []
    assert flash.split(256, bytes(512)) == [Page(256, bytes(256)), Page(512, bytes(256))]


def test_erases_are_counted_by_size_and_use_their_opcode() -> None:
    bus = DieBus(small_chip())
    flash = NorFlash(bus, small_chip())
    flash.erase(0x1000, 0x1000)
    flash.erase(0x8000, 0x8000)
    flash.erase(0x10000, 0x10000)
    flash.erase(0, 0x20000)
    assert dict(flash.erases) == {4096: 1, 32768: 1, 65536: 1, 131072: 1}
    sent = [command for command in bus.commands() if command not in ("05", "06")]
    assert sent == ["20001000", "52008000", "d8010000", "c7"]


def test_an_erase_waits_most_of_its_time_before_it_asks() -> None:
    bus = DieBus(small_chip())
    flash = NorFlash(bus, small_chip())
    flash.erase(0, 4096)
    asked = sum(1 for op in bus.sent if isinstance(op, Transfer) and op.write == b"\x05")
    assert asked <= 1 + 0.045 * 0.2 / 0.001 + 2
    assert bus.clock.now() < 0.045 * 1.05


def test_registers_and_unique_id() -> None:
    chip = small_chip()
    bus = DieBus(chip, unique_id=b"ABCDEFGH")
    bus.die.status.live[2] = 0x42
    flash = NorFlash(bus, chip)
    assert flash.registers() == {1: 0x00, 2: 0x42}
    assert flash.unique_id() == b"ABCDEFGH".hex()
    assert flash.block_protection() is None
    assert NorFlash(DieBus(chip, unique_id=b"\xff" * 8), chip).unique_id() is None
    other = small_chip(jedec_id=b"\xc2\x20\x11")
    bus = DieBus(other)
    assert NorFlash(bus, other).unique_id() is None
    assert "4b00000000" not in bus.commands(), "elsewhere it is another command"


def test_close_leaves_the_four_byte_mode_through_the_programmer() -> None:
    chip = large_chip(WAYS["wren-b7"])
    bench = Rig(chip)
    assert bench.sim.die.four_byte
    bench.flash.close()
    assert not bench.sim.die.four_byte
    bench.close()
