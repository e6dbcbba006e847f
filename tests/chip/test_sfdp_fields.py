"""Fields, limits and errors, by tables made to order."""

import struct

import pytest
from sfdp_build import basic, build, chip, codes, header, table_of

from hwflash.chip import sfdp
from hwflash.chip.model import EnterFourByte
from hwflash.errors import SfdpError


@pytest.mark.parametrize(
    ("dword", "size"),
    [
        (0x00007FFF, 4 << 10),
        (0x7FFFFFFF, 256 << 20),
        (0x80000020, 512 << 20),
        (0x80000021, 1 << 30),
        (0x80000023, 4 << 30),
        (0x8000001B, 16 << 20),
    ],
)
def test_density(dword: int, size: int) -> None:
    table = sfdp.parse(build(basic("W25Q128JV", d2=dword)))
    assert table.size == size
    assert ("density-form" in codes(table)) is (dword == 0x8000001B)


@pytest.mark.parametrize("dword", [0, 0x6, 0x7FFE, 0x7FFD, 0xFFFFFFFF, 0x80000024, 0x8000000E])
def test_impossible_density(dword: int) -> None:
    with pytest.raises(SfdpError) as caught:
        sfdp.parse(build(basic("W25Q128JV", d2=dword)))
    assert caught.value.code == "sfdp.density"
    assert caught.value.context["offset"] == 0x84
    assert caught.value.context["dword"] == dword


@pytest.mark.parametrize(
    ("methods", "way"),
    [
        (0x01, EnterFourByte.B7),
        (0x02, EnterFourByte.WREN_B7),
        (0x04, EnterFourByte.EXTENDED_ADDRESS_REGISTER),
        (0x08, EnterFourByte.BANK_REGISTER),
        (0x0C, EnterFourByte.BANK_REGISTER),
        (0x10, EnterFourByte.NONE),
        (0x20, EnterFourByte.NONE),
        (0x00, EnterFourByte.NONE),
        (0x7F, EnterFourByte.B7),
    ],
)
def test_ways_to_4_byte_addresses(methods: int, way: EnterFourByte) -> None:
    dwords = {"d16": methods << 24 | 0x00F830E9}
    table = sfdp.parse(build(basic("W25Q256JV", **dwords)))
    assert chip(table).addressing.enter is way
    assert ("4byte-entry-unknown" in codes(table)) is (way is EnterFourByte.NONE)


@pytest.mark.parametrize(
    ("field", "registers"),
    [
        (0, ({1: 0x05}, {1: 0x01})),
        (2, ({1: 0x05}, {1: 0x01})),
        (5, ({1: 0x05, 2: 0x35}, {1: 0x01})),
        (6, ({1: 0x05, 2: 0x35}, {1: 0x01, 2: 0x31})),
    ],
)
def test_status_commands_from_quad_enable(
    field: int, registers: tuple[dict[int, int], dict[int, int]]
) -> None:
    table = sfdp.parse(build(basic("W25Q128JV", d15=0xFF0DF719 | field << 20)))
    status = chip(table).status
    assert (status.read, status.write) == registers


@pytest.mark.parametrize(("bits", "volatile"), [(0x01, False), (0x04, True), (0x08, True)])
def test_volatile_status_writes(bits: int, volatile: bool) -> None:
    table = sfdp.parse(build(basic("W25Q128JV", d16=0x80F83080 | bits)))
    assert chip(table).status.volatile_enable is volatile


def test_erase_fallback_to_dword_1() -> None:
    table = sfdp.parse(build(basic("W25Q128JV", d8=0, d9=0)))
    layout = sfdp.erase_layout(table)
    assert [note.code for note in layout.notes] == ["erase-types-missing"]
    assert [(kind.size, kind.opcode) for kind in layout.regions[0].types] == [(4096, 0x20)]


def test_no_erase_at_all() -> None:
    table = sfdp.parse(build(basic("W25Q128JV", d1=0xFFF920E7, d8=0, d9=0)))
    with pytest.raises(SfdpError) as caught:
        chip(table)
    assert caught.value.code == "sfdp.erase"
    assert sfdp.describe(table)["erase_regions"] == []


def test_erase_larger_than_the_chip_is_dropped() -> None:
    table = sfdp.parse(build(basic("W25Q128JV", d9=0xD81CD8FF)))
    assert [item.index for item in table.bfpt.erases] == [1, 2]
    assert "erase-size-impossible" in codes(table)


def test_sector_map_of_a_region_without_erase() -> None:
    data = build(basic(), (0xFF81, [0xFF0000FF, 0x00FFFFF0]))
    table = sfdp.parse(data)
    with pytest.raises(SfdpError) as caught:
        chip(table)
    assert caught.value.code == "sfdp.erase"
    assert caught.value.context["address"] == 0


@pytest.mark.parametrize(
    "dwords",
    [
        [0xFF0100FF, 0x00FFFFF1],  # two regions announced, one there
        [0xFF0000FE, 0x00FFFFF1],  # no last map
        [0x08FF65FC, 0x00800004],  # a command and no map
        [0x08FF65FC],
    ],
)
def test_malformed_sector_map(dwords: list[int]) -> None:
    table = sfdp.parse(build(basic(), (0xFF81, dwords)))
    assert "sector-map-malformed" in codes(table)
    assert sum(region.length for region in chip(table).erase) == 16 << 20


def test_detection_command_fields() -> None:
    dwords = [0x1245_35FC, 0x00123456, 0xFF80_9FFD, 0, 0xFF0000FF, 0x00FFFFF1]
    commands = sfdp.detection_commands(sfdp.parse(build(basic(), (0xFF81, dwords))))
    assert commands[0] == sfdp.DetectionCommand(0x35, 3, 0x123456, 5, 0x12)
    assert commands[1] == sfdp.DetectionCommand(0x9F, 4, 0, 0, 0xFF)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "sfdp.truncated"),
        (b"SFDP\x06\x01\x00", "sfdp.truncated"),
        (bytes(256), "sfdp.signature"),
        (b"\xff" * 256, "sfdp.signature"),
        (b"SFDP\x06\x02\x00\xff" + bytes(248), "sfdp.revision"),
        (b"SFDP\x06\x01\x00\xff", "sfdp.bfpt"),
        (b"SFDP\x06\x01\x00\xff" + header(0xFF84, 2, 0x80) + bytes(240), "sfdp.bfpt"),
        (b"SFDP\x06\x01\x00\xff" + header(0xFF00, 8, 0x80) + bytes(240), "sfdp.bfpt"),
        (b"SFDP\x06\x01\x00\xff" + header(0xFF00, 16, 0x80, major=2) + bytes(240), "sfdp.bfpt"),
        (b"SFDP\x06\x01\x00\xff" + header(0xFF00, 16, 0x1000) + bytes(240), "sfdp.truncated"),
    ],
)
def test_errors(data: bytes, code: str) -> None:
    with pytest.raises(SfdpError) as caught:
        sfdp.parse(data)
    assert caught.value.code == code
    assert "offset" in caught.value.context


def test_length_needed_of_absurd_headers() -> None:
    assert sfdp.length_needed(b"") == 8
    assert sfdp.length_needed(b"SFDP\x06\x01\xff\xff") == 8 + 256 * 8 + 32
    with pytest.raises(SfdpError) as caught:
        sfdp.length_needed(b"\xff" * 8)
    assert caught.value.code == "sfdp.signature"
    far = b"SFDP\x06\x01\x00\xff" + header(0xFF00, 16, 0xFFFFFC)
    with pytest.raises(SfdpError) as caught:
        sfdp.length_needed(far.ljust(64, b"\xff"))
    assert caught.value.code == "sfdp.pointer"
    mixed = b"SFDP\x06\x01\x01\xff" + header(0xFF00, 16, 0x30) + header(0xFF84, 2, 0xFFFFFC)
    assert sfdp.length_needed(mixed.ljust(64, b"\xff")) == 0x70


def test_describe_is_complete() -> None:
    found = sfdp.describe(table_of("SST26VF064B"))
    assert found["revision"] == "1.6"
    assert found["tables"][0] == {  # type: ignore[index]
        "id": "ff00",
        "name": "basic flash parameters",
        "revision": "1.6",
        "pointer": 0x30,
        "dwords": 16,
        "vendor": False,
        "beyond_nph": False,
    }
    assert len(found["tables"][2]["data"]) == 192  # type: ignore[index]
    bfpt = found["bfpt"]
    assert bfpt["reset"] == ["reset_66_99", "exit_0_4_4_first"]  # type: ignore[index]
    assert bfpt["quad"]["quad_enable"] == "sr2-bit1-read-35"  # type: ignore[index]
    assert found["sector_map"]["maps"][0]["regions"][0] == {  # type: ignore[index]
        "length": 0x8000,
        "erase_types": [1, 2],
    }
    assert {note["code"] for note in found["notes"]} == {"shared-erase-opcode"}  # type: ignore[union-attr]


def test_odd_headers_are_noted() -> None:
    identity, dwords = basic()
    data = build((0xFF05, []), (identity, dwords), (0xFF87, [0, 0]))
    table = sfdp.parse(data)
    assert {"bfpt-not-first", "empty-table"} <= codes(table)
    cut = sfdp.parse(build((identity, dwords), nph=40))
    assert {"table-overlaps-headers"} <= codes(cut)
    short = b"SFDP\x06\x01\x09\xff" + header(0xFF00, 9, 0x10)
    table = sfdp.parse(short + struct.pack("<9I", *dwords[:9]))
    assert "truncated-headers" in codes(table)
    other = bytearray(build((identity, dwords), (0xFF84, [0x1FF, 0xFFDC5C21])))
    other[0x12] = 2  # major revision of the 4-byte table
    table = sfdp.parse(bytes(other))
    assert "table-revision" in codes(table)
    assert table.four_byte is None
    assert [item.header.id for item in table.tables] == [0xFF84]


def test_four_byte_erase_without_opcode() -> None:
    table = sfdp.parse(build(basic("W25Q256JV"), (0xFF84, [0x1E43, 0x00DCFF21])))
    assert [note.code for note in table.notes].count("4bait-erase-opcode-missing") == 1
    assert table.four_byte is not None
    assert table.four_byte.erases == {1: 0x21, 3: 0xDC}


def test_odd_sizes_and_address_fields() -> None:
    table = sfdp.parse(build(basic("W25Q128JV", d2=0x05FFFFFF)))
    assert table.size == 12 << 20
    assert "size-not-power-of-two" in codes(table)
    assert chip(table).erase[0].length == 12 << 20
    table = sfdp.parse(build(basic("W25Q128JV", d1=0xFFFF20E5, d3=0x00000000)))
    assert {"address-bytes-reserved", "read-opcode-missing"} <= codes(table)
