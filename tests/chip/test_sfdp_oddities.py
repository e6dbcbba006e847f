"""Every oddity known from real tables, by name."""

from dataclasses import replace

import pytest
from sfdp_build import basic, build, chip, codes, header, table_of

from hwflash.chip import dumps, sfdp
from hwflash.chip.model import Addressing, EnterFourByte, FailFlags
from hwflash.errors import ChipUnsupported, SfdpError


def test_headers_beyond_nph() -> None:
    for name in ("W25Q01JV", "W25Q02JVM"):
        table = table_of(name)
        assert "headers-beyond-nph" in codes(table)
        beyond = [item for item in table.headers if item.beyond_nph]
        assert [(item.id, item.pointer, item.offset) for item in beyond] == [(0xFF03, 0xF0, 0x18)]
    assert table_of("W25Q02JVM").tables[0].data != b""


def test_uncounted_headers_do_not_reach_into_a_table() -> None:
    # AT25FF321A: its basic table stands right behind the only header.
    table = table_of("AT25FF321A")
    assert len(table.headers) == 1
    assert table.notes == ()


def test_uncounted_four_byte_table_is_not_believed() -> None:
    extra = header(0xFF84, 2, 0xC0)
    data = build(basic("MX25L25645G"), extra=extra) + bytes.fromhex("7f8fffff215cdcff")
    table = sfdp.parse(data)
    assert table.four_byte is None
    assert [item.header.id for item in table.tables] == [0xFF84]
    assert "headers-beyond-nph" in codes(table)


def test_user_text_in_sfdp() -> None:
    table = table_of("W25Q512NW-IM")
    note = next(note for note in table.notes if note.code == "user-text-in-sfdp")
    assert "hello world" in note.text
    assert "0x21" in note.text
    assert not any(item.beyond_nph for item in table.headers)


def test_32_mib_part_that_claims_3_byte_addresses() -> None:
    table = table_of("IS25WP256")
    assert "address-bytes-3-only-above-16M" in codes(table)
    assert chip(table).addressing == Addressing(True, EnterFourByte.B7, False)


@pytest.mark.parametrize("name", ["MT25QU01G", "MT25QU512A", "W25Q01JV", "W25H01NW"])
def test_4bait_without_32k(name: str) -> None:
    table = table_of(name)
    assert "4bait-missing-32k" in codes(table)
    kinds = {kind.size: kind.opcode_4byte for kind in chip(table).erase_types}
    assert kinds == {4096: 0x21, 32768: None, 65536: 0xDC}


@pytest.mark.parametrize("name", ["W25Q64JWM", "MX25L128xx-c22018"])
def test_4bait_empty(name: str) -> None:
    table = table_of(name)
    assert "4bait-empty" in codes(table)
    assert table.four_byte is not None
    assert table.four_byte.reads == {}
    assert not chip(table).addressing.opcodes


def test_same_id_different_tables_and_same_table_different_ids() -> None:
    for names in (("MX25L12835F", "MX25L128xx-c22018"), ("MX25L25635E", "MX25L25645G")):
        first, second = (dumps.load(name) for name in names)
        assert first.jedec_id == second.jedec_id
        assert sfdp.parse(first.sfdp) != sfdp.parse(second.sfdp)
    first, second = dumps.load("MT25QU01G"), dumps.load("N25Q00A")
    assert first.jedec_id != second.jedec_id
    assert sfdp.parse(first.sfdp) == sfdp.parse(second.sfdp)


def test_shared_opcode_without_a_map_is_not_used() -> None:
    table = replace(table_of("SST26VF064B"), sector_map=None)
    layout = sfdp.erase_layout(table)
    assert [kind.opcode for kind in layout.regions[0].types] == [0x20]
    assert [note.code for note in layout.notes] == ["ambiguous-erase-opcode"]


def test_map_that_does_not_add_up() -> None:
    table = table_of("S28HS512T-model")
    assert "sector-map-short" in codes(table)
    assert len(sfdp.erase_regions(table, [0, 0, 0])) == 3
    with pytest.raises(SfdpError) as caught:
        sfdp.erase_regions(table, [0, 0x40, 0])
    assert caught.value.code == "sfdp.sector-map"
    assert caught.value.context["covered"] == 67104256


def test_single_region_larger_than_the_chip_is_cut() -> None:
    table = table_of("S25FL512S-composed")
    assert {"sector-map-larger-than-chip", "multiple-bfpt"} <= codes(table)
    assert table.bfpt.revision == (1, 6)
    (region,) = sfdp.erase_regions(table)
    assert (region.start, region.length) == (0, 64 << 20)
    assert [(kind.size, kind.opcode, kind.opcode_4byte) for kind in region.types] == [
        (262144, 0xD8, 0xDC)
    ]
    assert chip(table).addressing.enter is EnterFourByte.BANK_REGISTER
    assert chip(table).page_size == 512


def test_sector_map_answers_are_checked() -> None:
    table = table_of("S25HS01GT-model")
    for answers in ([], [0], [0, 0, 0, 0], [0x08, 0x40, 0x04]):
        with pytest.raises(SfdpError) as caught:
            sfdp.erase_regions(table, answers)
        assert caught.value.code == "sfdp.sector-map"
    layout = sfdp.erase_layout(table)
    assert [note.code for note in layout.notes] == ["sector-map-undetected"]


def test_cyrs17b512_is_refused() -> None:
    dump = dumps.load("CYRS17B512")
    table = sfdp.parse(dump.sfdp)
    assert "page-size-not-256" in codes(table)
    with pytest.raises(ChipUnsupported) as caught:
        sfdp.to_chip(table, dump.jedec_id)
    assert caught.value.code == "chip.erased-value"
    assert caught.value.context["erased_value"] == 0
    assert caught.value.context["page_size"] == 2048
    with pytest.raises(ChipUnsupported) as caught:
        sfdp.to_chip(table, bytes.fromhex("010203"))
    assert caught.value.code == "chip.page-size"
    assert caught.value.context["page_size"] == 2048


@pytest.mark.parametrize(
    ("name", "dwords"),
    [("MX25L3233F", 9), ("W25Q128JV", 16), ("ATXP032", 20), ("MT35XU01GBBA", 23)],
)
def test_bfpt_lengths(name: str, dwords: int) -> None:
    table = table_of(name)
    assert len(table.bfpt.dwords) == dwords
    assert ("bfpt-short" in codes(table)) is (dwords < 16)
    assert (table.bfpt.times is None) is (dwords < 11)
    assert (table.bfpt.octal is None) is (dwords < 18)


@pytest.mark.parametrize("count", range(9, 24))
def test_every_bfpt_length_decodes(count: int) -> None:
    identity, dwords = basic("MT35XU01GBBA")
    table = sfdp.parse(build((identity, dwords[:count])))
    assert table.size == 128 << 20
    assert (table.bfpt.erases[0].time is None) is (count < 10)
    assert (table.bfpt.suspend is None) is (count < 13)
    assert (table.bfpt.quad is None) is (count < 15)
    assert (table.bfpt.reset is None) is (count < 16)
    assert any(mode.protocol == "1S-8S-8S" for mode in table.bfpt.reads) is (count >= 17)
    assert chip(table).size == 128 << 20


def test_longer_bfpt_is_kept() -> None:
    identity, dwords = basic("MT35XU01GBBA")
    assert len(sfdp.parse(build((identity, [*dwords, 1, 2]))).bfpt.dwords) == 25


def test_truncated_dumps() -> None:
    table = table_of("MX25R6435F")
    assert [note.code for note in table.notes].count("truncated-table") == 2
    assert table.four_byte is None
    table = table_of("MT25QL256ABA")
    assert "truncated-table" in codes(table)
    assert chip(table).addressing == Addressing(True, EnterFourByte.WREN_B7, False)
    cut = sfdp.parse(dumps.load("W25Q128JV").sfdp[:-12])
    assert "truncated-table" in codes(cut)
    assert len(cut.bfpt.dwords) == 13


def test_settings_without_support_bit() -> None:
    table = table_of("BH25Q128AS")
    assert "read-settings-without-support" in codes(table)
    assert "4S-4S-4S" not in {mode.protocol for mode in table.bfpt.reads}


def test_three_byte_part_with_all_methods_set() -> None:
    table = table_of("MX25R6435F")
    assert "always-4byte-contradicted" in codes(table)
    assert chip(table).addressing == Addressing()


def test_four_byte_only_part() -> None:
    table = table_of("ATXP032")
    assert table.bfpt.address_bytes is sfdp.AddressBytes.FOUR
    assert chip(table).addressing == Addressing(False, EnterFourByte.ALWAYS, False)


def test_octal_part_without_0c() -> None:
    table = table_of("S28HS02GT")
    expected = {"4bait-incomplete", "4byte-entry-unknown", "4byte-erase-opcode-in-bfpt"}
    assert expected <= codes(table)


def test_jesd216_1_0_part_above_16_mib() -> None:
    table = table_of("MX25L25635E")
    assert {"4byte-entry-assumed", "times-assumed", "bfpt-short"} <= codes(table)
    assert chip(table).addressing.enter is EnterFourByte.WREN_B7


def test_micron_facts() -> None:
    dump = dumps.load("MT25QU512A")
    found = sfdp.to_chip(sfdp.parse(dump.sfdp), dump.jedec_id, part="MT25QU512A")
    assert found.fail_flags is FailFlags.MICRON_FSR
    assert found.addressing.enter is EnterFourByte.WREN_B7
    assert found.part == "MT25QU512A"
    assert found.chip_erase is not None


def test_jedec_ids_and_vendor_ids_of_old_tables() -> None:
    named = {item.id: (item.name, item.vendor) for item in table_of("MX25L25645G").headers}
    assert named[0xFFC2] == ("vendor table", True)
    assert named[0xFF84] == ("4-byte address instructions", False)
    named = {item.id: (item.name, item.vendor) for item in table_of("S28HS02GT").headers}
    assert named[0xFF87][0] == "status, control and configuration registers"
    assert not any(vendor for _name, vendor in named.values())
    assert table_of("IS25WP256").vendor_tables[0].header.id == 0x029D
