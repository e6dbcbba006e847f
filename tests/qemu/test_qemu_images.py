from __future__ import annotations

import pytest
from firmware_images import (
    FFS2,
    MAIN,
    SEC,
    code_image,
    code_volume,
    compressed,
    constants,
    store_image,
)
from hypothesis import given
from hypothesis import strategies as st

from hwflash.layout.ovmf import OVMF_1M, OVMF_2M, OVMF_4M, VIRT_UNIT
from hwflash.qemu.codeimage import (
    build_by_addresses,
    expectations,
    table_entries,
    tdx_configuration_volume,
    unpacked_sections,
)
from hwflash.qemu.imagemap import map_image
from hwflash.qemu.pairing import judge_pair
from hwflash.qemu.volumes import list_volumes
from hwflash.uefi.areas import KNOWN
from hwflash.uefi.volume import parse_volume
from hwflash.uefi.window import Window
from hwflash.units import Range

VARS_2M, VARS_4M, AAVMF_VARS = KNOWN
BUILDS = {"2M": (OVMF_2M, VARS_2M), "4M": (OVMF_4M, VARS_4M)}


# --- volumes --------------------------------------------------------------------------------


def test_volumes_and_their_names():
    image = store_image(VARS_4M) + code_image(OVMF_4M)
    found = list_volumes(image)
    assert [(item.label, item.range) for item in found] == [
        ("NV data", Range(0, 0x84000)), ("FVMAIN_COMPACT", Range(0x84000, 0x348000)),
        ("SECFV", Range(0x3CC000, 0x34000)),
    ]  # fmt: skip
    assert [item.name for item in found] == [None, MAIN, SEC]
    assert not any(item.anomalies for item in found)


def test_a_volume_inside_another_is_not_listed():
    image = bytearray(store_image(VARS_2M))
    image[0x10000:0x20000] = image[:0x10000]  # what FTW leaves in the spare area
    assert [item.header.base for item in list_volumes(bytes(image))] == [0]


def test_the_signature_among_code_is_no_volume():
    image = bytearray(code_volume(0x4000, body=b"\x81\x7a\x28_FVH\x75\x05" * 40))
    image += b"\x81\x7a\x28_FVH\x75\x05" * 400
    assert [item.header.base for item in list_volumes(bytes(image))] == [0]


def test_an_unknown_file_system_counts_with_a_right_checksum_only():
    image = code_volume(0x4000)
    image[16:32] = bytes(range(16))
    assert list_volumes(bytes(image)) == ()
    header = parse_volume(Window(bytes(image)), 0).with_checksum().build()
    image[: len(header)] = header
    [found] = list_volumes(bytes(image))
    assert found.header.file_system.bytes_le == bytes(range(16))


def test_a_damaged_header_is_listed_as_such():
    image = bytearray(b"\x11" * 0x1000) + code_volume(0x4000)
    image[0x1000 + 50] ^= 1
    [found] = list_volumes(bytes(image))
    assert not found.header.checksum_ok
    [anomaly] = found.anomalies
    assert (anomaly.code, anomaly.offset) == ("volume.checksum", 0x1032)
    del image[-0x1000:]
    [found] = list_volumes(bytes(image))
    assert {item.code for item in found.anomalies} == {"volume.checksum", "volume.length"}
    assert found.range == Range(0x1000, 0x3000), "clipped to the image"
    assert "0x3000" in found.anomalies[1].text


@given(st.binary(max_size=200), st.integers(0, 60), st.booleans())
def test_any_bytes_have_volumes_or_none(data, at, known):
    image = bytearray(data)
    image[at : at + 4] = b"_FVH"
    if known:
        image[max(at - 24, 0) : max(at - 8, 0)] = FFS2.bytes_le
    for item in list_volumes(bytes(image)):
        assert item.range.end <= len(image)
    map_image(bytes(image))


# --- the map --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDS)
def test_the_map_of_whole_and_split_images(name):
    build, layout = BUILDS[name]
    vars_, code = store_image(layout), code_image(build)
    whole = map_image(vars_ + code)
    assert (whole.kind, whole.base) == (f"OVMF {name}, unified", build.base)
    assert whole.notes == ()
    places = {item.name: whole.physical(item.range.address) for item in whole.regions}
    assert places["vars"] == build.base
    assert places["ftw-spare"] == build.base + build.spare.address
    assert places["seccode"] == (1 << 32) - 0x34000
    assert len(whole.stores) == 1
    assert map_image(code).base == build.code_base
    assert map_image(vars_).base == build.base
    assert map_image(code).notes == ()


def test_the_places_are_those_of_the_issue():
    assert map_image(store_image(VARS_4M) + code_image(OVMF_4M)).physical(0) == 0xFFC00000
    assert map_image(code_image(OVMF_4M)).physical(0) == 0xFFC84000


def test_a_small_store_could_be_that_of_two_builds():
    [note] = map_image(store_image(VARS_2M)).notes
    assert note == "OVMF 1M has a part of the same size, which would lie elsewhere"


@pytest.mark.parametrize("fill", [0, 0xFF])
def test_a_blank_store(fill):
    found = map_image(bytes([fill]) * 0x84000)
    assert found.kind == "OVMF 4M, vars"
    assert "blank" in found.notes[0]


def test_a_store_of_the_wrong_size_in_an_image_of_the_right_one():
    image = bytearray(store_image(VARS_2M)) + b"\xff" * 0x64000 + code_image(OVMF_4M)
    found = map_image(bytes(image))
    assert found.kind == "OVMF 4M, unified"
    assert found.notes == ("its NV volume has 0x20000 bytes, OVMF 4M has 0x84000",)


def test_code_volumes_elsewhere():
    image = bytearray(code_volume(0x37C000, MAIN))
    assert "not where OVMF 4M has them: 0x000000-0x37BFFF" in map_image(bytes(image)).notes[0]


def test_an_image_of_no_known_size():
    image = b"\xff" * 0x7000 + store_image(VARS_4M)
    found = map_image(image)
    assert (found.fit, found.base, found.kind) == (None, None, "not known")
    assert [item.name for item in found.regions] == ["vars", "event-log", "ftw-work", "ftw-spare"]
    assert found.regions[0].range.address == 0x7000
    assert "no build of OVMF" in found.notes[0]
    assert map_image(image, 0xFF000000).physical(0x7000) == 0xFF007000


def test_the_size_of_a_part_and_not_its_content():
    [note] = map_image(bytes(code_volume(0x84000))).notes
    assert note == "by its size it is OVMF 4M, vars, by its content it is not"


# --- what code knows ------------------------------------------------------------------------


@pytest.mark.parametrize("build", [OVMF_1M, OVMF_2M, OVMF_4M])
def test_addresses_in_compressed_code(build):
    assert build_by_addresses(b"x" * 77 + compressed(constants(build))) is build
    assert build_by_addresses(constants(build)) is None, "not compressed: could be anything"


def test_addresses_of_two_builds_prove_nothing():
    assert build_by_addresses(compressed(constants(OVMF_2M) + constants(OVMF_4M))) is None


def test_the_tdx_metadata():
    image = code_image(OVMF_2M, tdx=(0xFFE00000, 0x20000))
    assert tdx_configuration_volume(image) == Range(0xFFE00000, 0x20000)
    assert len(list(table_entries(image))) == 2
    assert tdx_configuration_volume(code_image(OVMF_2M)) is None


def test_both_together():
    image = code_image(OVMF_2M, knows=OVMF_2M, tdx=(0xFFE00000, 0x20000))
    assert [(item.source, item.vars) for item in expectations(image)] == [
        ("TDX metadata", Range(0xFFE00000, 0x20000)),
        ("addresses in the code", Range(0xFFE00000, 0x20000)),
    ]


@given(st.data())
def test_a_damaged_table_is_no_table(data):
    image = bytearray(code_image(OVMF_2M, tdx=(0xFFE00000, 0x20000))[-0x400:])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(len(image) - 0xE0, len(image) - 1))
        image[at] = data.draw(st.integers(0, 255))
    list(table_entries(bytes(image)))
    tdx_configuration_volume(bytes(image))


def test_damaged_compression_is_no_content():
    section = bytearray(compressed(constants(OVMF_2M)))
    section[30] ^= 0xFF
    section[34:44] = bytes(10)
    assert build_by_addresses(bytes(section)) is None
    assert list(unpacked_sections(bytes(section[4:]))) == [], "no room for a section header"


@pytest.mark.slow
def test_compression_is_unpacked_up_to_a_limit():
    bomb = compressed(bytes(80 << 20))
    [unpacked] = unpacked_sections(bomb)
    assert len(unpacked) == 64 << 20


# --- pairs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["size", "addresses", "tdx"])
@pytest.mark.parametrize(
    ("code", "vars_"), [("2M", "2M"), ("2M", "4M"), ("4M", "2M"), ("4M", "4M")]
)
def test_pairs(how, code, vars_):
    build, _ = BUILDS[code]
    image = code_image(
        build,
        knows=build if how == "addresses" else None,
        tdx=(build.base, build.vars_size) if how == "tdx" else None,
    )
    found = judge_pair(image, store_image(BUILDS[vars_][1]))
    assert found.answer == ("pair" if code == vars_ else "no-pair")
    assert {"size": "whose store has", "addresses": "addresses in", "tdx": "TDX"}[how] in str(
        found.reasons
    )
    expected = {"42": "without a message", "24": "inside the spare area"}.get(code[0] + vars_[0])
    assert (expected in found.outcome) if expected else not found.outcome


def test_code_that_says_otherwise_than_its_size():
    """A 4M image around drivers of a 2M build: what the code says counts."""
    found = judge_pair(code_image(OVMF_4M, knows=OVMF_2M), store_image(VARS_4M))
    assert found.answer == "no-pair"
    assert "0xFFE00000-0xFFE1FFFF" in found.reasons[0]
    assert "0xFFC00000-0xFFC83FFF" in found.reasons[0]


def test_code_of_no_known_size():
    code = bytes(code_volume(0x700000))
    found = judge_pair(code, store_image(VARS_4M))
    assert (found.answer, found.outcome) == ("unknown", "")
    assert "no build known" in found.reasons[0]


@pytest.mark.parametrize(("fill", "text"), [(0xFF, "exception"), (0, "no flash is detected")])
def test_a_blank_store_is_no_pair(fill, text):
    found = judge_pair(code_image(OVMF_4M), bytes([fill]) * 0x84000)
    assert found.answer == "no-pair"
    assert text in found.outcome


def test_images_that_are_something_else():
    code, vars_ = code_image(OVMF_4M), store_image(VARS_4M)
    for first, second, text in (
        (vars_ + code, vars_, "store of its own"),
        (vars_, code, "store of its own"),
        (b"\xff" * len(code), vars_, "no code volume"),
        (code, b"\x12" * len(vars_), "no volume at its start"),
        (code, store_image(VARS_2M) + b"\xff" * 0x64000, "its file has 540,672"),
    ):
        found = judge_pair(first, second)
        assert found.answer == "no-pair"
        assert text in found.reasons[-1]


@pytest.mark.slow
def test_virt_units():
    code = (b"\x12" * 0x1000 + bytes(code_volume(0x1FF000))).ljust(VIRT_UNIT, b"\0")
    blank = bytes(VIRT_UNIT)
    assert judge_pair(code, blank).answer == "pair"
    assert judge_pair(blank, code).answer == "no-pair"
    vars_ = store_image(AAVMF_VARS, 0x40000).ljust(VIRT_UNIT, b"\0")
    assert judge_pair(code, vars_).answer == "pair"
    other = store_image(VARS_4M).ljust(VIRT_UNIT, b"\0")
    found = judge_pair(code, other)
    assert (found.answer, "540,672" in found.reasons[0]) == ("no-pair", True)
    assert map_image(code).kind == "AAVMF, code"
    assert map_image(vars_).physical(0x40000) == 0x04040000
    assert "blank" in map_image(blank).notes[0]
