"""Every shipped table against what its source (mostly the Linux kernel) makes of the part."""

import json

import pytest

from hwflash.chip import dumps, sfdp
from hwflash.chip.model import Chip
from hwflash.errors import ChipUnsupported, UsageError

# Where the source differs from the tables, and why. (name, key) -> reason.
EXCEPTIONS = {
    ("CYRS17B512", "read_modes"): "mode clocks of 0Ch come from a late_init fixup of the kernel",
    ("MX25L25645G", "program_modes"): "34h (1-1-4) is added by a kernel fixup, the 4BAIT lacks it",
    ("MX66L51235F", "program_modes"): "34h (1-1-4) is added by a kernel fixup, there is no 4BAIT",
    ("MX66L51235F", "address_bytes"): "4 by the kernel's 4B_OPCODES fixup; no table tells 13h",
    ("MT35XU01GBBA", "program_modes"): "the kernel does not look at 4BAIT bits 23 and 24",
}

# Sizes of tables whose source tells no `expected`: from the part's name or data sheet.
SIZES = {
    "AT25FF321A": 4 << 20,
    "ATXP032": 4 << 20,
    "GD25Q32C": 4 << 20,
    "IS25LP02GG": 256 << 20,
    "IS25WP256": 32 << 20,
    "IS25WX256": 32 << 20,
    "MT25QL256ABA": 32 << 20,
    "MT25QU512A": 64 << 20,
    "MT35XU01G": 128 << 20,
    "MX25L12835F": 16 << 20,
    "MX25L25635E": 32 << 20,
    "MX25L25635F": 32 << 20,
    "MX66UW1G345G": 128 << 20,
    "N25Q256A": 32 << 20,
    "S25FL512S-composed": 64 << 20,
    "S25HS01GT-model": 128 << 20,
    "S28HS512T-model": 64 << 20,
    "W25Q16JV": 2 << 20,
    "W25Q256JV": 32 << 20,
    "W25Q512NW-IM": 64 << 20,
    "W25Q64JWM": 8 << 20,
}

REFUSED = {"CYRS17B512"}
KEYS = {
    "size_bytes",
    "page_size",
    "erase",
    "chip_erase",
    "read_modes",
    "program_modes",
    "address_bytes",
    "sector_map",
    # Choices and fixups of the kernel, not statements of the tables:
    "linux_flags",
    "linux_selected",
    "linux_erase_index",
    # `test_command_extension`:
    "cmd_ext_8d",
}


def decoded(name: str) -> tuple[dumps.Dump, sfdp.Sfdp]:
    dump = dumps.load(name)
    return dump, sfdp.parse(dump.sfdp)


def chip_of(dump: dumps.Dump, table: sfdp.Sfdp) -> Chip:
    return sfdp.to_chip(table, dump.jedec_id, None, dump.part, dump.manufacturer)


def with_key(key: str) -> list[str]:
    return [name for name in dumps.names() if key in dumps.load(name).expected]


def four_byte(table: sfdp.Sfdp) -> sfdp.FourByteInstructions | None:
    """The 4-byte table, as the kernel takes it: only when it names an erase."""
    return table.four_byte if table.four_byte is not None and table.four_byte.erases else None


def test_every_table_is_tested() -> None:
    assert len(dumps.names()) == 47
    told = set(with_key("size_bytes"))
    untold = {name for name in dumps.names() if name not in told}
    assert untold == set(SIZES)
    assert {key for name in dumps.names() for key in dumps.load(name).expected} == KEYS


def test_exceptions_are_needed() -> None:
    for name, key in EXCEPTIONS:
        assert key in dumps.load(name).expected, (name, key)


def test_names_are_files_and_load_ignores_case() -> None:
    assert dumps.load("w25q128jv").name == "W25Q128JV"
    assert dumps.load("W25Q128JV").jedec_id == bytes.fromhex("ef4018")
    assert dumps.load("ATXP032").jedec_id == b""
    assert dumps.load("S25FL512S-composed").synthetic
    with pytest.raises(UsageError) as caught:
        dumps.load("W25Q999")
    assert caught.value.code == "usage.dump"
    assert "W25Q128JV" in caught.value.context["known"]  # type: ignore[operator]


@pytest.mark.parametrize("name", dumps.names())
def test_table(name: str) -> None:
    dump, table = decoded(name)
    assert table.size == dump.expected.get("size_bytes", SIZES.get(name))
    assert table.bfpt.page_size == dump.expected.get("page_size", table.bfpt.page_size)
    assert table.headers[0].id == 0xFF00
    text = json.dumps(sfdp.describe(table))
    assert json.loads(text)["bfpt"]["size"] == table.size
    if name in REFUSED:
        with pytest.raises(ChipUnsupported):
            chip_of(dump, table)
        return
    chip = chip_of(dump, table)
    assert chip.size == table.size
    place = 0
    for region in chip.erase:
        assert region.start == place
        assert region.types
        assert list(region.types) == sorted(region.types, key=lambda kind: kind.size)
        place += region.length
    assert place == chip.size
    for kind in chip.erase_types:
        assert 0 < kind.time.typical < kind.time.maximum < 10
    assert 0 < chip.page_program.typical < chip.page_program.maximum < 0.02


@pytest.mark.parametrize("name", with_key("erase"))
def test_erase(name: str) -> None:
    dump, table = decoded(name)
    dedicated = four_byte(table)
    found = [
        [item.size, dedicated.erases[item.index] if dedicated else item.opcode]
        for item in table.bfpt.erases
        if dedicated is None or item.index in dedicated.erases
    ]
    expected = [[size, int(opcode, 16)] for size, opcode in dump.expected["erase"]]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("name", with_key("read_modes"))
def test_read_modes(name: str) -> None:
    dump, table = decoded(name)
    found = {
        (
            "1S-1S-1S(fast)" if mode.opcode in (0x0B, 0x0C) and index == 1 else mode.protocol,
            mode.opcode,
            mode.mode_clocks,
            mode.wait_states,
        )
        for index, mode in enumerate(sfdp.read_modes(table.bfpt, four_byte(table)))
    }
    expected = {
        (mode["protocol"], int(mode["opcode"], 16), mode["mode_cycles"], mode["dummy_cycles"])
        for mode in dump.expected["read_modes"]
        # 8D-8D-8D is told by the xSPI profile table, which is kept raw.
        if mode["protocol"] != "8D-8D-8D"
    }
    if name == "MX25R6435F":  # Zephyr's output: without 1S-1S-1S, and "1-1-2" for "1S-1S-2S"
        expected = {("-".join(f"{n}S" for n in p.split("-")), *rest) for p, *rest in expected}
        found = {mode for mode in found if not mode[0].startswith("1S-1S-1S")}
    if "1S-1S-1S(fast)" not in {mode[0] for mode in expected}:
        # Most kernel entries leave 0Bh out; SFDP takes it for granted.
        found = {mode for mode in found if mode[0] != "1S-1S-1S(fast)"}
    if (name, "read_modes") in EXCEPTIONS:
        assert found - expected == {("1S-1S-1S(fast)", 0x0C, 0, 8)}
        assert expected - found == {("1S-1S-1S(fast)", 0x0C, 8, 8)}
    else:
        assert found == expected


@pytest.mark.parametrize("name", with_key("program_modes"))
def test_program_modes(name: str) -> None:
    dump, table = decoded(name)
    dedicated = four_byte(table)
    found = set(dedicated.programs.items()) if dedicated else {("1S-1S-1S", 0x02)}
    expected = {
        (mode["protocol"], int(mode["opcode"], 16))
        for mode in dump.expected["program_modes"]
        if mode["protocol"] != "8D-8D-8D"
    }
    if name == "MT35XU01GBBA":
        assert found - expected == {("1S-1S-8S", 0x84), ("1S-8S-8S", 0x8E)}
        assert not expected - found
    elif (name, "program_modes") in EXCEPTIONS:
        assert not found - expected
        assert expected - found == {("1S-1S-4S", 0x34)}
    else:
        assert found == expected


@pytest.mark.parametrize("name", with_key("address_bytes"))
def test_address_bytes(name: str) -> None:
    dump, table = decoded(name)
    found = 4 if four_byte(table) or table.bfpt.address_bytes == "4" else 3
    assert (found == dump.expected["address_bytes"]) is ((name, "address_bytes") not in EXCEPTIONS)


@pytest.mark.parametrize("name", sorted(set(with_key("sector_map")) - REFUSED))
def test_sector_map(name: str) -> None:
    dump, table = decoded(name)
    chip = chip_of(dump, table)
    expected = [
        (int(item["start"], 16), int(item["end"], 16), item["erase_sizes"])
        for item in dump.expected["sector_map"]
    ]
    found = [
        (region.start, region.start + region.length - 1, [kind.size for kind in region.types])
        for region in chip.erase
    ]
    if len(expected) > 1:
        assert found == expected
    else:
        # Of a uniform chip the kernel lists the types it chose, some without a 4-byte opcode left
        # out; the tables list all.
        assert [item[:2] for item in found] == [item[:2] for item in expected]
        assert set(expected[0][2]) <= set(found[0][2])
    if dump.expected["chip_erase"] == "0xc4":
        assert chip.chip_erase is None  # one erase per die, which no table tells
    else:
        assert chip.chip_erase is not None
        assert chip.chip_erase[0] == int(dump.expected["chip_erase"], 16)


@pytest.mark.parametrize("name", with_key("cmd_ext_8d"))
def test_command_extension(name: str) -> None:
    dump, table = decoded(name)
    octal = table.bfpt.octal
    expected = dump.expected["cmd_ext_8d"]
    assert (octal.command_extension if octal else "none") == expected


@pytest.mark.parametrize("name", sorted(set(with_key("linux_flags")) - REFUSED))
def test_soft_reset(name: str) -> None:
    dump, table = decoded(name)
    assert chip_of(dump, table).soft_reset is ("SOFT_RESET" in dump.expected["linux_flags"])


@pytest.mark.parametrize("name", dumps.names())
def test_length_needed(name: str) -> None:
    dump, table = decoded(name)
    have, rounds = 0, []
    while (need := sfdp.length_needed(dump.sfdp[:have])) > have and need not in rounds:
        rounds.append(need)
        have = min(need, len(dump.sfdp))
    assert len(rounds) <= 3
    assert rounds[0] == 8
    assert rounds[-1] >= max(header.end for header in table.headers)


def test_default_times_are_not_below_any_table() -> None:
    short = sfdp.parse(dumps.load("MX25L12835F").sfdp)
    assert short.noted("times-assumed")
    assumed = chip_of(dumps.load("MX25L12835F"), short)
    slowest = {kind.size: kind.time.maximum for kind in assumed.erase_types}
    for name in sorted(set(dumps.names()) - REFUSED):
        dump, table = decoded(name)
        if table.bfpt.times is None:
            continue
        chip = chip_of(dump, table)
        assert chip.page_program.maximum <= assumed.page_program.maximum, name
        for kind in chip.erase_types:
            if kind.size in slowest:
                assert kind.time.maximum <= slowest[kind.size], (name, kind)
