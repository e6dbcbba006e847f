"""Tables decoded by hand from their dwords and data sheets, and the choice of sector maps."""

import pytest
from sfdp_build import chip, codes, table_of

from hwflash.chip import sfdp
from hwflash.chip.model import Addressing, Duration, EnterFourByte


def test_w25q128jv_by_hand() -> None:
    bfpt = table_of("W25Q128JV").bfpt
    assert bfpt.revision == (1, 5)
    assert bfpt.size == 16 << 20
    assert bfpt.address_bytes is sfdp.AddressBytes.THREE
    assert bfpt.erase_4k_opcode == 0x20
    assert bfpt.dtr
    assert bfpt.granularity_64
    assert bfpt.erases == (
        sfdp.BasicErase(1, 4 << 10, 0x20, Duration(0.064, 0.896)),
        sfdp.BasicErase(2, 32 << 10, 0x52, Duration(0.128, 1.792)),
        sfdp.BasicErase(3, 64 << 10, 0xD8, Duration(0.160, 2.240)),
    )
    assert bfpt.page_size == 256
    assert bfpt.times == sfdp.ProgramTimes(
        page=Duration(0.000704, 0.004224),
        first_byte=Duration(32e-6, 192e-6),  # tBP1 30 us
        next_byte=Duration(3e-6, 18e-6),  # tBP2 2.5 us
        chip_erase=Duration(40.0, 560.0),
    )
    assert bfpt.suspend is not None
    assert (bfpt.suspend.erase_suspend, bfpt.suspend.erase_resume) == (0x75, 0x7A)
    assert (bfpt.suspend.program_suspend, bfpt.suspend.program_resume) == (0x75, 0x7A)
    assert bfpt.suspend.erase_latency == pytest.approx(20e-6)  # tSUS 20 us
    assert bfpt.power_down == sfdp.PowerDown(0xB9, 0xAB, 3e-6)  # tRES1 3 us
    assert bfpt.polling == sfdp.Polling.STATUS_05
    assert bfpt.quad is not None
    assert bfpt.quad.quad_enable is sfdp.QuadEnable.SR2_BIT1_KEPT
    assert bfpt.quad.read_0_4_4
    assert bfpt.reset == sfdp.ResetMethods.RESET_66_99 | sfdp.ResetMethods.EXIT_0_4_4_FIRST
    assert bfpt.octal is None
    found = chip(table_of("W25Q128JV"))
    assert found.addressing == Addressing()
    assert found.soft_reset
    assert found.deep_power_down
    assert found.chip_erase == (0xC7, Duration(40.0, 560.0))
    assert [(kind.size, kind.opcode, kind.opcode_4byte) for kind in found.erase_types] == [
        (4096, 0x20, None),
        (32768, 0x52, None),
        (65536, 0xD8, None),
    ]


def test_sst26vf064b_by_hand() -> None:
    table = table_of("SST26VF064B")
    bfpt = table.bfpt
    assert bfpt.volatile_block_protect
    assert bfpt.volatile_enable == 0x06
    assert [(item.size, item.opcode) for item in bfpt.erases] == [
        (4096, 0x20),
        (8192, 0xD8),
        (32768, 0xD8),
        (65536, 0xD8),
    ]
    assert bfpt.erases[0].time == Duration(0.019, 0.038)
    assert bfpt.times is not None
    assert bfpt.times.page == Duration(0.001024, 0.002048)
    assert bfpt.times.chip_erase == Duration(0.032, 0.064)
    assert bfpt.suspend is not None
    assert (bfpt.suspend.erase_suspend, bfpt.suspend.erase_resume) == (0xB0, 0x30)
    assert bfpt.suspend.erase_latency == pytest.approx(25e-6)
    assert bfpt.power_down is None
    assert bfpt.quad is not None
    assert bfpt.quad.quad_enable is sfdp.QuadEnable.SR2_BIT1_35
    assert "shared-erase-opcode" in codes(table)
    regions = sfdp.erase_regions(table)
    assert [(region.start, region.length, region.types[1].size) for region in regions] == [
        (0, 0x8000, 8192),
        (0x8000, 0x8000, 32768),
        (0x10000, 0x7E0000, 65536),
        (0x7F0000, 0x8000, 32768),
        (0x7F8000, 0x8000, 8192),
    ]
    assert not chip(table).deep_power_down
    assert table.vendor_tables[0].header.id == 0x01BF
    assert len(table.vendor_tables[0].data) == 96


def test_mx25l25645g_by_hand() -> None:
    table = table_of("MX25L25645G")
    bfpt = table.bfpt
    assert bfpt.address_bytes is sfdp.AddressBytes.THREE_OR_FOUR
    assert bfpt.erases[0].time == Duration(0.030, 0.420)
    assert bfpt.erases[2].time == Duration(0.384, 5.376)
    assert bfpt.power_down == sfdp.PowerDown(0xB9, 0xAB, 30e-6)
    assert bfpt.quad is not None
    assert bfpt.quad.quad_enable is sfdp.QuadEnable.SR1_BIT6
    assert bfpt.enter_4byte == (sfdp.EnterMethods.B7 | sfdp.EnterMethods.EXTENDED_ADDRESS_REGISTER)
    assert bfpt.exit_4byte == (
        sfdp.ExitMethods.E9
        | sfdp.ExitMethods.EXTENDED_ADDRESS_REGISTER
        | sfdp.ExitMethods.HARDWARE_RESET
        | sfdp.ExitMethods.SOFTWARE_RESET
        | sfdp.ExitMethods.POWER_CYCLE
    )
    assert table.four_byte is not None
    assert table.four_byte.erases == {1: 0x21, 2: 0x5C, 3: 0xDC}
    assert table.four_byte.programs == {"1S-1S-1S": 0x12, "1S-4S-4S": 0x3E}
    assert chip(table).addressing == Addressing(True, EnterFourByte.B7, True)
    assert chip(table).erase_types[2].opcode_4byte == 0xDC


def test_semper_by_hand() -> None:
    table = table_of("S25HS01GT-model")
    bfpt = table.bfpt
    assert bfpt.erases[0].time == Duration(0.048, 0.384)  # data sheet: 42 ms typical
    assert bfpt.erases[1].time == Duration(0.768, 6.144)
    assert bfpt.erases[1].index == 4
    assert bfpt.times is not None
    assert bfpt.times.page == Duration(0.000512, 0.003072)
    assert bfpt.suspend is not None
    assert (bfpt.suspend.program_suspend, bfpt.suspend.program_resume) == (0x85, 0x8A)
    assert sfdp.detection_commands(table) == (
        sfdp.DetectionCommand(0x65, None, 0x800004, None, 0x08),
        sfdp.DetectionCommand(0x65, None, 0x800002, None, 0x40),
        sfdp.DetectionCommand(0x65, None, 0x800002, None, 0x04),
    )
    assert "4byte-exit-without-e9" in codes(table)
    assert "bytes-outside-tables" in codes(table)


@pytest.mark.parametrize(
    ("answers", "sizes"),
    [
        ([0x00, 0x00, 0x00], [(0x20000, 4), (0x20000, 256), (0x7FC0000, 256)]),
        ([0xF7, 0xBF, 0xFB], [(0x20000, 4), (0x20000, 256), (0x7FC0000, 256)]),
        ([0x00, 0x00, 0x04], [(0x7FC0000, 256), (0x20000, 256), (0x20000, 4)]),
        (
            [0x00, 0x40, 0x00],
            [(0x10000, 4), (0x30000, 256), (0x7F80000, 256), (0x30000, 256), (0x10000, 4)],
        ),
        ([0x08, 0x00, 0x00], [(0x8000000, 256)]),
    ],
)
def test_sector_map_follows_the_answers(answers: list[int], sizes: list[tuple[int, int]]) -> None:
    table = table_of("S25HS01GT-model")
    regions = chip(table, answers).erase
    assert [(item.length, item.types[0].size >> 10) for item in regions] == sizes
    assert sum(item.length for item in regions) == 128 << 20
    assert sfdp.erase_layout(table, answers).notes == ()


def test_two_die_map_asks_both_dies() -> None:
    table = table_of("S28HS02GT")
    assert [command.address for command in sfdp.detection_commands(table)] == [
        0x800004,
        0x800002,
        0x8800004,
        0x8800002,
    ]
    regions = sfdp.erase_regions(table, [8, 0, 8, 0])
    assert [(item.start, item.length) for item in regions] == [(0, 256 << 20)]
