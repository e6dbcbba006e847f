import pytest
from support import BLOCK_64K, SECTOR, large_chip, small_chip

from hwflash.chip.commands import CommandSet
from hwflash.chip.model import Addressing, Duration, EnterFourByte, EraseRegion, EraseType
from hwflash.errors import ChipUnsupported
from hwflash.units import KIB, MIB

PLACE = 0x1234567


def choose(enter: EnterFourByte, *, opcodes: bool = False, three: bool = True, **changes):
    addressing = Addressing(three_byte=three, enter=enter, opcodes=opcodes)
    return CommandSet.choose(large_chip(addressing, **changes), 30e6)


def hexes(commands) -> list[str]:
    return [command.hex() for command in commands]


def test_a_small_chip_has_three_address_bytes() -> None:
    commands = CommandSet.choose(small_chip(), 30e6)
    assert commands.read(0x12345).hex() == "03012345"
    assert commands.program(0x12345, b"\xaa").hex() == "02012345aa"
    assert commands.erase(SECTOR, 0x12000).hex() == "20012000"
    assert commands.erase(BLOCK_64K, 0x10000).hex() == "d8010000"
    assert commands.enter() == commands.leave() == ()
    assert commands.segment(0x12345) == 0


def test_a_16_mib_chip_with_4_byte_opcodes_still_uses_three() -> None:
    chip = small_chip(16 * MIB, addressing=Addressing(enter=EnterFourByte.B7, opcodes=True))
    commands = CommandSet.choose(chip, 30e6)
    assert commands.read(0xFFFFFF).hex() == "03ffffff"
    assert commands.enter() == ()


@pytest.mark.parametrize(
    ("limit", "frequency", "command"),
    [(50e6, 30e6, "03000001"), (20e6, 30e6, "0b00000100"), (30e6, 30e6, "03000001"),
     (None, 1e6, "0b00000100")],
)  # fmt: skip
def test_fast_read_above_the_limit_of_read(limit, frequency, command) -> None:
    chip = small_chip(read_max_hz=limit)
    assert CommandSet.choose(chip, frequency).read(1).hex() == command


def test_dedicated_opcodes_are_preferred_and_leave_no_mode_behind() -> None:
    commands = choose(EnterFourByte.B7, opcodes=True)
    assert (commands.width, commands.dedicated) == (4, True)
    assert commands.read(PLACE).hex() == "1301234567"
    assert commands.program(PLACE, b"\x01").hex() == "120123456701"
    assert commands.erase(SECTOR, PLACE).hex() == "2101234567"
    assert commands.erase(BLOCK_64K, PLACE).hex() == "dc01234567"
    assert commands.enter() == commands.leave() == ()
    fast = choose(EnterFourByte.NONE, opcodes=True, read_max_hz=None)
    assert fast.read(PLACE).hex() == "0c0123456700"


def test_erase_types_without_a_4_byte_opcode_are_not_usable_then() -> None:
    block = EraseType(32 * KIB, 0x52, Duration(0.1, 1))
    erase = (EraseRegion(0, 32 * MIB, (SECTOR, block, BLOCK_64K)),)
    commands = choose(EnterFourByte.B7, opcodes=True, erase=erase)
    assert commands.dedicated
    assert [commands.usable(kind) for kind in erase[0].types] == [True, False, True]
    with pytest.raises(AssertionError):
        commands.erase(block, 0)


def test_a_region_without_any_4_byte_erase_falls_back_to_the_mode() -> None:
    block = EraseType(64 * KIB, 0xD8, Duration(0.1, 1))
    erase = (EraseRegion(0, 16 * MIB, (SECTOR,)), EraseRegion(16 * MIB, 16 * MIB, (block,)))
    commands = choose(EnterFourByte.B7, opcodes=True, erase=erase)
    assert not commands.dedicated
    assert commands.usable(block)
    assert commands.erase(block, PLACE).hex() == "d801234567"


@pytest.mark.parametrize(
    ("enter", "going_in", "going_out"),
    [
        (EnterFourByte.B7, ["b7"], ["e9"]),
        (EnterFourByte.WREN_B7, ["06", "b7", "04"], ["06", "e9", "04"]),
        (EnterFourByte.ALWAYS, [], []),
    ],
)
def test_the_four_byte_mode(enter, going_in, going_out) -> None:
    commands = choose(enter)
    assert hexes(commands.enter()) == going_in
    assert hexes(commands.leave()) == going_out
    assert commands.read(PLACE).hex() == "0301234567"
    assert commands.program(PLACE, b"").hex() == "0201234567"
    assert commands.erase(SECTOR, PLACE).hex() == "2001234567"
    assert commands.segment(PLACE) == 0


def test_a_chip_that_takes_four_bytes_only() -> None:
    commands = choose(EnterFourByte.NONE, three=False)
    assert commands.read(PLACE).hex() == "0301234567"
    assert commands.enter() == ()


@pytest.mark.parametrize(
    ("enter", "first", "second"),
    [
        (EnterFourByte.EXTENDED_ADDRESS_REGISTER, ["06", "c500"], ["06", "c501"]),
        (EnterFourByte.BANK_REGISTER, ["1700"], ["1701"]),
    ],
)
def test_segments(enter, first, second) -> None:
    commands = choose(enter)
    assert (commands.width, commands.segmented) == (3, True)
    assert hexes(commands.enter()) == first, "whoever used the chip before may have left another"
    assert hexes(commands.select_segment(1)) == second
    assert hexes(commands.leave()) == first
    assert [commands.segment(place) for place in (0, 0xFFFFFF, 0x1000000, PLACE)] == [0, 0, 1, 1]
    assert commands.read(PLACE).hex() == "03234567"
    assert commands.erase(SECTOR, PLACE).hex() == "20234567"


def test_no_way_beyond_16_mib() -> None:
    with pytest.raises(ChipUnsupported) as caught:
        choose(EnterFourByte.NONE)
    assert (caught.value.code, caught.value.exit_code) == ("chip.addressing", 4)
    assert caught.value.context == {"part": "LARGE", "size": 32 * MIB}
