"""The chip catalog: its facts are sane, and a chip file's faults are all found."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.chip import catalog, dumps, opcodes
from hwflash.chip.catalog import Catalog, Part
from hwflash.chip.model import (
    Chip,
    EnterFourByte,
    EraseType,
    FailFlags,
    Programming,
    ProtectionStyle,
    RegisterBit,
)
from hwflash.chip.quirks import QUIRKS
from hwflash.chip.sfdp import parse, to_chip
from hwflash.errors import ImageError, UsageError
from hwflash.units import KIB, MIB

CATALOG = catalog.load()
PARTS = CATALOG.parts
each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.chip.part)
with_dump = pytest.mark.parametrize(
    "part", [part for part in PARTS if part.sfdp_dump], ids=lambda part: part.chip.part
)


def by_size(chip: Chip) -> dict[int, EraseType]:
    return {kind.size: kind for kind in chip.erase_types}


# --- the shipped catalog -----------------------------------------------------------------------


def test_parts_and_makers() -> None:
    makers = Counter(part.chip.manufacturer for part in PARTS)
    assert len(PARTS) >= 100
    assert len(makers) >= 15
    assert {"Winbond", "Macronix", "Micron", "GigaDevice", "ISSI", "Infineon"} <= makers.keys()
    assert all(part.file.endswith(".toml") for part in PARTS)


@pytest.mark.parametrize(
    ("name", "jedec_id", "size"),
    [
        ("W25Q80DV", "ef4014", 1),
        ("W25Q128JV", "ef4018", 16),
        ("W25Q128JV-IM", "ef7018", 16),
        ("W25Q512JV", "ef4020", 64),
        ("W25Q01JV", "ef4021", 128),
        ("W25Q64JW-IM", "ef8017", 8),
        ("MX25L6433F", "c22017", 8),
        ("MX25U12835F", "c22538", 16),
        ("N25Q128A", "20ba18", 16),
        ("MT25QU512", "20bb20104400", 64),
        ("GD25Q256", "c84019", 32),
        ("IS25LP128", "9d6018", 16),
        ("IS25WP256", "9d7019", 32),
        ("S25FL256S", "0102194d0180", 32),
        ("SST26VF032B", "bf2642", 4),
        ("XM25QH64A", "207017", 8),
        ("EN25QH128", "1c7018", 16),
        ("P25Q80H", "856014", 1),
        ("ZB25VQ128", "5e4018", 16),
    ],
)
def test_known_parts(name: str, jedec_id: str, size: int) -> None:
    chip = CATALOG.by_name(name).chip
    assert chip.jedec_id.hex() == jedec_id
    assert chip.size == size * MIB


def test_w25q128jv_facts() -> None:
    """Ref: W25Q128JV Revision F, chapters 7, 8.1 and 9.6."""
    chip = CATALOG.by_name("w25q128jv").chip
    assert chip.manufacturer == "Winbond"
    assert [(kind.size, kind.opcode) for kind in chip.erase_types] == [
        (4 * KIB, 0x20),
        (32 * KIB, 0x52),
        (64 * KIB, 0xD8),
    ]
    times = [(kind.time.typical, kind.time.maximum) for kind in chip.erase_types]
    assert times == [pytest.approx(x) for x in ((0.045, 0.4), (0.12, 1.6), (0.15, 2.0))]
    assert chip.page_program.typical == pytest.approx(0.0004)
    assert chip.page_program.maximum == pytest.approx(0.003)
    assert chip.chip_erase is not None
    assert chip.chip_erase[0] == 0xC7
    assert (chip.chip_erase[1].typical, chip.chip_erase[1].maximum) == (40, 200)
    assert (chip.read_max_hz, chip.fast_read_max_hz) == (50e6, 133e6)
    assert chip.status.read == {1: 0x05, 2: 0x35, 3: 0x15}
    assert chip.status.write == {1: 0x01, 2: 0x31, 3: 0x11}
    assert chip.status.volatile_enable
    assert chip.protection.cmp == RegisterBit(2, 6)
    assert chip.protection.unit == 256 * KIB
    assert [(area.address, area.size, area.lock) for area in chip.otp] == [
        (0x1000, 256, RegisterBit(2, 3)),
        (0x2000, 256, RegisterBit(2, 4)),
        (0x3000, 256, RegisterBit(2, 5)),
    ]


def test_families_are_merged_into_parts() -> None:
    large = CATALOG.by_name("W25Q256JV").chip
    assert large.protection.bp == tuple(RegisterBit(1, bit) for bit in (2, 3, 4, 5))
    assert large.protection.sec is None
    assert large.protection.wps == RegisterBit(3, 2)
    assert by_size(large)[4 * KIB].opcode_4byte == 0x21
    assert by_size(large)[32 * KIB].opcode_4byte is None
    assert large.addressing.enter is EnterFourByte.B7
    assert CATALOG.by_name("N25Q256A").chip.fail_flags is FailFlags.MICRON_FSR


def test_non_uniform_parts() -> None:
    """Ref: SST26VF064B DS20005119 figure 4-1; S25FS128S 002-00368 table 'Sector Address Map'."""
    sst = CATALOG.by_name("SST26VF064B").chip
    assert [(region.start, region.length) for region in sst.erase] == [
        (0x000000, 0x8000),
        (0x008000, 0x8000),
        (0x010000, 0x7E0000),
        (0x7F0000, 0x8000),
        (0x7F8000, 0x8000),
    ]
    assert [[kind.size // KIB for kind in region.types] for region in sst.erase] == [
        [4, 8],
        [4, 32],
        [4, 64],
        [4, 32],
        [4, 8],
    ]
    assert {kind.opcode for kind in sst.erase_types if kind.size > 4096} == {0xD8}
    hybrid = CATALOG.by_name("S25FS128S").chip
    assert [(r.start, r.length, r.types[0].opcode) for r in hybrid.erase] == [
        (0x0000, 0x8000, 0x20),
        (0x8000, 0x8000, 0xD8),
        (0x10000, 0xFF0000, 0xD8),
    ]


@each_part
def test_erase_map_covers_the_chip(part: Part) -> None:
    chip = part.chip
    end = 0
    for region in chip.erase:
        assert region.start == end
        assert region.length > 0
        assert region.types
        assert list(region.types) == sorted(region.types, key=lambda kind: kind.size)
        end = region.start + region.length
    assert end == chip.size
    for kind in chip.erase_types:
        assert kind.size & (kind.size - 1) == 0
        assert 0 <= kind.opcode <= 0xFF
        assert kind.opcode_4byte != kind.opcode


@each_part
def test_sizes_and_times_are_sane(part: Part) -> None:
    chip = part.chip
    assert chip.page_size in ({256, 512} if chip.programming is Programming.PAGE else {1})
    assert chip.page_size <= min(kind.size for kind in chip.erase_types)
    spans = [kind.time for kind in chip.erase_types] + [chip.page_program, chip.status.write_time]
    if chip.chip_erase is not None:
        assert chip.chip_erase[0] in (0xC7, 0x60)
        spans.append(chip.chip_erase[1])
    for span in spans:
        assert 0 < span.typical <= span.maximum
    # From "a page in 30 us" (a byte in 5) to "a block in 5 s": anything else is a wrong unit.
    least = 30e-6 if chip.programming is Programming.PAGE else 5e-6
    assert least <= chip.page_program.typical <= chip.page_program.maximum <= 15e-3
    for kind in chip.erase_types:
        assert 1e-3 <= kind.time.typical <= kind.time.maximum <= 5 * max(1, kind.size >> 16)
    if chip.status.power_up is None:  # volatile bits take no time
        assert chip.status.write_time.typical >= 1e-3
    assert chip.status.write_time.typical <= chip.status.write_time.maximum <= 2
    if chip.chip_erase is not None:
        largest = chip.erase_types[-1]
        whole = chip.chip_erase[1]
        assert whole.typical <= max(0.1, chip.size / largest.size * largest.time.maximum)
        assert whole.maximum <= 1000


@each_part
def test_electrical_facts(part: Part) -> None:
    chip = part.chip
    assert chip.voltage is not None
    low, high = chip.voltage
    assert 1.6 <= low < high <= 3.6
    assert chip.read_max_hz is not None
    assert chip.fast_read_max_hz is not None
    assert 20e6 <= chip.read_max_hz <= chip.fast_read_max_hz <= 200e6


@each_part
def test_registers_and_protection(part: Part) -> None:
    chip = part.chip
    layout = chip.protection
    bits = [*layout.bp, *layout.srp, layout.tb, layout.sec, layout.cmp, layout.wps]
    named = [bit for bit in bits if bit is not None]
    named += [area.lock for area in chip.otp if area.lock is not None]
    assert {bit.register for bit in named} <= chip.status.read.keys()
    assert chip.status.read[1] == 0x05
    assert chip.status.write[1] == 0x01
    assert RegisterBit(1, 0) not in named  # WIP
    assert RegisterBit(1, 1) not in named  # WEL
    if layout.style is ProtectionStyle.BP:
        largest = layout.unit << ((1 << len(layout.bp)) - 3)
        assert largest * 2 >= chip.size, "the last but one code reaches half of the chip"
    if chip.fail_flags is FailFlags.MICRON_FSR:
        assert not chip.status.volatile_enable, "50h clears the flag status register there"


@each_part
def test_addressing(part: Part) -> None:
    chip = part.chip
    if chip.size > 16 * MIB:
        assert chip.addressing.opcodes or chip.addressing.enter is not EnterFourByte.NONE
    assert any(kind.opcode_4byte for kind in chip.erase_types) == chip.addressing.opcodes


@each_part
def test_every_part_names_its_source(part: Part) -> None:
    assert len(part.chip.datasheet) > 8
    assert part.chip.quirks <= QUIRKS.keys()


def test_every_quirk_is_used() -> None:
    used = set().union(*(part.chip.quirks for part in PARTS))
    # No part of the catalog has on-die ECC; SEMPER chips are told by their SFDP alone.
    semper = to_chip(parse(dumps.load("S25HS01GT-model").sfdp), b"\x34\x2b\x1b")
    assert used | semper.quirks == QUIRKS.keys()


def test_one_id_and_size_is_one_part_or_declared() -> None:
    for part in PARTS:
        same = {
            other.chip.part
            for other in CATALOG.by_jedec_id(part.chip.jedec_id)
            if other.chip.size == part.chip.size and other is not part
        }
        assert same == set(part.shares_id_with), part.chip.part


# --- against real SFDP dumps -------------------------------------------------------------------


@with_dump
def test_dump_is_of_this_part(part: Part) -> None:
    assert part.sfdp_dump is not None
    dump = dumps.load(part.sfdp_dump)
    shared = min(len(dump.jedec_id), len(part.chip.jedec_id))
    assert shared >= 3
    assert dump.jedec_id[:shared] == part.chip.jedec_id[:shared]
    assert not dump.synthetic


def test_enough_parts_have_a_dump() -> None:
    assert sum(part.sfdp_dump is not None for part in PARTS) >= 20


@with_dump
def test_geometry_is_that_of_sfdp(part: Part) -> None:
    assert part.sfdp_dump is not None
    chip = part.chip
    told = to_chip(parse(dumps.load(part.sfdp_dump).sfdp), chip.jedec_id)
    assert told.size == chip.size
    assert told.page_size == chip.page_size
    regions = [
        [
            (region.start, region.length, [(kind.size, kind.opcode) for kind in region.types])
            for region in which.erase
        ]
        for which in (told, chip)
    ]
    assert regions[0] == regions[1]


# What these tables leave out although the data sheet has it; everything else must agree.
SFDP_SILENT_ON_4BYTE = {
    "IS25WP256D",  # claims 3-byte addresses only
    "MX25L25635F",  # JESD216 (1.0) has no 4-byte instruction table
    "MX66L51235F",  # the same
    "W25Q256JV",  # revision 1.5 without a 4-byte instruction table
    "MT25QL256ABA",  # the dump ends before its 4-byte instruction table
}


@with_dump
def test_4byte_opcodes_are_those_of_sfdp(part: Part) -> None:
    assert part.sfdp_dump is not None
    told = to_chip(parse(dumps.load(part.sfdp_dump).sfdp), part.chip.jedec_id)
    theirs = {kind.size: kind.opcode_4byte for kind in told.erase_types}
    ours = {kind.size: kind.opcode_4byte for kind in part.chip.erase_types}
    if part.chip.part in SFDP_SILENT_ON_4BYTE:
        assert set(theirs.values()) == {None}
        assert any(ours.values())
    else:
        assert theirs == ours
        assert told.addressing == part.chip.addressing


# --- look-up -----------------------------------------------------------------------------------


@each_part
def test_names_and_aliases_are_found_in_any_case(part: Part) -> None:
    for name in (part.chip.part, *part.aliases):
        assert CATALOG.by_name(name.lower()) is part
        assert CATALOG.by_name(f" {name.upper()} ") is part


def test_unknown_name_lists_near_ones() -> None:
    with pytest.raises(UsageError) as caught:
        CATALOG.by_name("W25Q128JX")
    assert caught.value.code == "chips.unknown-part"
    near = caught.value.context["near"]
    assert isinstance(near, list)
    assert "W25Q128JV" in near
    with pytest.raises(UsageError) as caught:
        CATALOG.by_name("zzz")
    assert caught.value.context["near"] == []


def names(jedec_id: str) -> list[str]:
    return [part.chip.part for part in CATALOG.by_jedec_id(bytes.fromhex(jedec_id))]


def test_all_candidates_of_an_id() -> None:
    assert set(names("ef4018")) == {"W25Q128JV", "W25Q128FV"}
    assert set(names("20ba18")) == {"N25Q128A", "MT25QL128ABA"}
    assert names("000000") == []
    assert names("ef") == [], "an id of one byte says nothing"


def test_longer_ids_tell_parts_apart() -> None:
    assert set(names("012018")) == {"S25FL128S", "S25FS128S"}
    assert names("0120184d0181") == ["S25FS128S"]
    assert names("0120184d0180") == ["S25FL128S"]
    assert names("20bb20104400") == ["MT25QU512ABB"]
    assert names("ef4018ef4018")[0] in {"W25Q128JV", "W25Q128FV"}


def test_importing_the_catalog_does_not_load_pydantic() -> None:
    code = "import sys, hwflash.chip.catalog as c; assert 'pydantic' not in sys.modules; c.load()"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- chip files --------------------------------------------------------------------------------

GOOD = """
maker = "Acme"

[family.base]
page_size = 256
voltage = [2.7, 3.6]
page_program_ms = [0.5, 3]
status.write_ms = [5, 10]
erase.4K = { opcode = 0x20, ms = [50, 400] }
erase.64K = { opcode = 0xD8, ms = [150, 2000] }

[part.AC25Q16]
family = "base"
aliases = ["AC25Q16-X"]
jedec_id = "aa4015"
size = "2M"
erase.4K = { ms = [20, 100] }
chip_erase = { opcode = 0x60, s = [5, 25] }
datasheet = "AC25Q16, Rev. A"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "chips.toml"
    path.write_text(text, "utf-8")
    return path


def faults(folder: Path, text: str) -> list[tuple[str, str]]:
    with pytest.raises(ImageError) as caught:
        catalog.load_file(write(folder, text))
    assert caught.value.code == "chip-file"
    found = caught.value.context["faults"]
    assert isinstance(found, list)
    assert found
    return found


def test_a_users_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    (part,) = catalog.load_file(path)
    assert part.file == str(path)
    assert part.aliases == ("AC25Q16-X",)
    chip = part.chip
    assert (chip.part, chip.manufacturer, chip.size) == ("AC25Q16", "Acme", 2 * MIB)
    assert by_size(chip)[4 * KIB].opcode == 0x20, "the opcode is the family's"
    assert by_size(chip)[4 * KIB].time.maximum == pytest.approx(0.1), "the time is the part's"
    assert chip.chip_erase is not None
    assert chip.chip_erase[0] == 0x60
    assert chip.protection.style is ProtectionStyle.NONE
    assert Catalog((part,)).by_name("ac25q16-x") is part


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ('size = "2M"', "size = 0", "size", "positive"),
        ('size = "2M"', 'size = "8G"', "size", "4 GiB"),
        ('size = "2M"', "size = -65536", "size", "negative"),
        ('size = "2M"', "size = 100000", "size", "multiple of the erase sizes"),
        ('size = "2M"', 'size = "2 apples"', "size", "must be a size"),
        ('size = "2M"', "size = true", "size", "must be a size"),
        ('size = "2M"', "", "size", "field required"),
        ("opcode = 0x20", "opcode = 256", "erase.4K.opcode", "less than or equal to 255"),
        ("opcode = 0x20", "opcode = -1", "erase.4K.opcode", "greater than or equal to 0"),
        ("opcode = 0x60", 'opcode = "60"', "chip_erase.opcode", "valid integer"),
        ("erase.64K", "erase.60K", "erase.61440", "power of two"),
        ("erase.64K", "erase.huge", "erase.huge", "must be a size"),
        ("page_size = 256", "page_size = 200", "page_size", "power of two"),
        ("page_size = 256", "page_size = 8192", "page_size", "smallest erase size"),
        ("s = [5, 25]", "s = [25, 5]", "chip_erase.s", "must not be below the first"),
        ("ms = [20, 100]", "ms = [-1, 100]", "erase.4K.ms.0", "greater than 0"),
        ("ms = [20, 100]", "ms = [0, 100]", "erase.4K.ms.0", "greater than 0"),
        ("ms = [20, 100]", "ms = [20, inf]", "erase.4K.ms.1", "finite"),
        ("ms = [20, 100]", "ms = [20]", "erase.4K.ms.1", "field required"),
        ("[2.7, 3.6]", "[3.6, 2.7]", "voltage", "must not be below the first"),
        ('"aa4015"', '"aa40"', "jedec_id", "3 to 20 bytes"),
        ('"aa4015"', '"ffffff"', "jedec_id", "3 to 20 bytes"),
        ('"aa4015"', '"hello!"', "jedec_id", "3 to 20 bytes"),
        ('datasheet = "AC25Q16, Rev. A"', "", "datasheet", "field required"),
        ('size = "2M"', 'size = "2M"\ncolour = "red"', "colour", "extra inputs"),
        ('size = "2M"', 'size = "2M"\nquirks = ["odd"]', "quirks.0", "unknown quirk 'odd'"),
        ('size = "2M"', 'size = "32M"', "addressing", "above 16 MiB"),
        ('size = "2M"', 'size = "2M"\nfail_flags = "led"', "fail_flags", "input should be"),
        ('family = "base"', 'family = "bass"', "family", "no [family.bass]"),
        (
            'size = "2M"',
            'size = "2M"\nprotection = { style = "bp", bp = ["SR4.2"], unit = "64K" }',
            "protection.bp.0",
            "register bit",
        ),
        (
            'size = "2M"',
            'size = "2M"\nprotection = { style = "bp", bp = ["SR1.2"], tb = "SR1.2", unit = 4096 }',
            "protection",
            "named twice",
        ),
        (
            'size = "2M"',
            'size = "2M"\nprotection = { style = "bp", bp = ["SR2.2"], unit = "64K" }',
            "status.read",
            "no read opcode",
        ),
        (
            'size = "2M"',
            'size = "2M"\nprotection = { style = "bp", bp = ["SR1.2"], unit = "4M" }',
            "protection.unit",
            "within the chip",
        ),
        (
            'size = "2M"',
            'size = "2M"\nprotection = { style = "bp", unit = "64K" }',
            "protection.bp",
            "must name",
        ),
        (
            'size = "2M"',
            'size = "2M"\nprotection = { style = "bp-mirrored", bp = ["SR1.2"], unit = "64K" }',
            "protection.bp",
            "four BP bits",
        ),
        ('size = "2M"', 'size = "2M"\nstatus.read = { 1 = 6 }', "status.read.1", "always read"),
        ("[family.base]", '[family.base]\nfamily = "base"', "family", "its own ancestor"),
    ],
)
def test_absurd_values(tmp_path: Path, old: str, new: str, path: str, words: str) -> None:
    assert old in GOOD
    found = faults(tmp_path, GOOD.replace(old, new, 1))
    (message,) = [text for where, text in found if where == f"part.AC25Q16.{path}"]
    assert words in message


@pytest.mark.parametrize(
    ("regions", "path", "words"),
    [
        ([(0, 1024, 4), (1536, 512, 64)], "regions.1.start", "leaves a hole"),
        ([(0, 1024, 4), (512, 1536, 64)], "regions.1.start", "overlaps"),
        ([(0, 1024, 4), (1024, 512, 64)], "regions", "end at 0x180000"),
        ([(0, 1024, 4), (1024, 1024, 32)], "regions.1.erase", "no erase of 32768 bytes"),
        ([(0, 2048, 4)], "erase.65536", "used in no region"),
        ([(0, 2048, 4), (2048, 0, 64)], "regions.1.size", "multiples of the page size"),
    ],
)
def test_bad_regions(
    tmp_path: Path, regions: list[tuple[int, int, int]], path: str, words: str
) -> None:
    rows = ", ".join(
        f'{{ start = "{start}K", size = "{size}K", erase = ["{kind}K"] }}'
        for start, size, kind in regions
    )
    found = faults(tmp_path, GOOD + f"regions = [{rows}]\n")
    assert any(where == f"part.AC25Q16.{path}" and words in text for where, text in found), found


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    second = """
[part.AC25Q32]
family = "base"
jedec_id = "aa4016"
size = "4M"
voltage = [5, 1]
datasheet = "x"
"""
    text = GOOD.replace("opcode = 0x60", "opcode = 999").replace('"aa4015"', '"zz"') + second
    where = {path for path, _ in faults(tmp_path, text)}
    assert where == {
        "part.AC25Q16.jedec_id",
        "part.AC25Q16.chip_erase.opcode",
        "part.AC25Q32.voltage",
    }


def test_duplicate_names(tmp_path: Path) -> None:
    body = GOOD[GOOD.index("[part.AC25Q16]") :]
    again = body.replace("[part.AC25Q16]", "[part.ac25q16-x]").replace('"AC25Q16-X"', '"other"')
    (fault,) = faults(tmp_path, GOOD + again)
    assert fault == ("part.ac25q16-x", "the name ac25q16-x is also that of AC25Q16")
    (fault,) = faults(tmp_path, GOOD + body)
    assert "not valid TOML" in fault[1]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("maker = ", ""),
        ("[part.X]\n", "maker"),
        ('maker = "A"\n', "part"),
        ('maker = "A"\npart = 3\n', "part"),
        ('maker = "A"\n[part]\nX = 1\n', "part.X"),
        ('maker = "A"\nchip = 1\n[part.X]\n', "chip"),
    ],
)
def test_broken_documents(tmp_path: Path, text: str, path: str) -> None:
    assert path in [where for where, _ in faults(tmp_path, text)]


def test_an_unreadable_file(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ImageError) as caught:
            catalog.load_file(path)
        assert caught.value.code == "chip-file"
    path = tmp_path / "latin1.toml"
    path.write_bytes(b'maker = "\xe9"')
    with pytest.raises(ImageError):
        catalog.load_file(path)


@given(position=st.integers(0, len(GOOD) - 1), junk=st.text(max_size=4))
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, position: int, junk: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.toml"
    path.write_bytes((GOOD[:position] + junk + GOOD[position + 1 :]).encode("utf-8", "replace"))
    try:
        parts = catalog.load_file(path)
    except ImageError:
        return
    assert all(part.chip.size > 0 for part in parts)


def test_die_erase_where_linux_has_it() -> None:
    """Linux erases them by C4h, die by die: ours have dies, that erase, and no chip erase."""
    seen = set()
    for part in PARTS:
        if part.sfdp_dump is None:
            continue
        expected = dumps.load(part.sfdp_dump).expected.get("chip_erase")
        chip = part.chip
        if expected is not None:
            stacked = int(expected, 16) == opcodes.DIE_ERASE
            assert stacked == (chip.dies.erase is not None), chip.part
            assert not (stacked and chip.chip_erase), chip.part
            seen.add((chip.part, stacked))
    assert ("N25Q00AA", True) in seen
    assert len(seen) > 5


def test_stacks_that_sfdp_alone_describes_are_read_die_by_die() -> None:
    dump = dumps.load("MT35XU01GBBA")
    assert to_chip(parse(dump.sfdp), bytes.fromhex("2c5b1b")).dies.count == 4
    assert to_chip(parse(dump.sfdp), bytes.fromhex("ef5b1b")).dies.count == 1
