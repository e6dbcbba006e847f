from __future__ import annotations

import tomllib

import pytest

from hwflash.layout.ovmf import AAVMF, BUILDS, FOUR_GIB, OVMF_1M, OVMF_2M, OVMF_4M, fits, regions_of
from hwflash.resources import data_files
from hwflash.uefi.areas import KNOWN
from hwflash.units import MIB, Range

#: Size of a file, and what it can be.
SIZES = {
    0x20000: [("OVMF 2M", "vars"), ("OVMF 1M", "vars")],
    0x84000: [("OVMF 4M", "vars")],
    0xC0000: [("AAVMF", "vars")],
    0xE0000: [("OVMF 1M", "code")],
    0x1E0000: [("OVMF 2M", "code")],
    0x37C000: [("OVMF 4M", "code")],
    1 * MIB: [("OVMF 1M", "unified")],
    2 * MIB: [("OVMF 2M", "unified")],
    4 * MIB: [("OVMF 4M", "unified")],
    64 * MIB: [("AAVMF", "vars"), ("AAVMF", "code")],
    4 * MIB - 4096: [],
    0: [],
}


@pytest.mark.parametrize("size", SIZES)
def test_the_size_says_what_an_image_could_be(size):
    assert [(fit.build.name, fit.part) for fit in fits(size)] == SIZES[size]


def test_physical_addresses():
    addresses = {
        (fit.build.name, fit.part): fit.base for size in SIZES for fit in fits(size)
    }  # fmt: skip
    assert addresses == {
        ("OVMF 1M", "unified"): 0xFFF00000,
        ("OVMF 1M", "vars"): 0xFFF00000,
        ("OVMF 1M", "code"): 0xFFF20000,
        ("OVMF 2M", "unified"): 0xFFE00000,
        ("OVMF 2M", "vars"): 0xFFE00000,
        ("OVMF 2M", "code"): 0xFFE20000,
        ("OVMF 4M", "unified"): 0xFFC00000,
        ("OVMF 4M", "vars"): 0xFFC00000,
        ("OVMF 4M", "code"): 0xFFC84000,
        ("AAVMF", "vars"): 0x04000000,
        ("AAVMF", "code"): 0,
    }


@pytest.mark.parametrize("build", [OVMF_1M, OVMF_2M, OVMF_4M])
def test_a_build_ends_at_4_gib_whole_and_split(build):
    assert build.base + build.size == FOUR_GIB
    assert build.code_base + build.code_size == FOUR_GIB
    assert build.base + build.vars_size == build.code_base
    assert sum(length for _, length in build.volumes) in (0, build.code_size)


def test_the_areas_are_those_that_the_variable_store_is_read_by():
    """Two rooms that may not import one another hold the same figures."""
    known = {item.length: item for item in KNOWN}
    for build in BUILDS:
        other = known[build.vars_size]
        assert build.variables == Range(0, other.variables)
        assert (build.work, build.spare, build.event_log) == (
            other.work, other.spare, other.event_log,
        )  # fmt: skip
    assert {build.vars_size for build in BUILDS} == set(known)


@pytest.mark.parametrize(("board", "build"), [("2m", OVMF_2M), ("4m", OVMF_4M)])
def test_the_regions_are_those_of_the_shipped_boards(board, build):
    text = data_files("boards")[f"qemu-q35-ovmf-{board}.toml"].read_text()
    expected = {
        item["name"]: (Range(item["start"], item["length"]), item.get("protected", False))
        for item in tomllib.loads(text)["region"]
    }
    [fit] = fits(build.size)
    found = regions_of(fit)
    assert {item.name: (item.range, item.protected) for item in found} == expected
    assert found.size == build.size
    assert not found.holes()


@pytest.mark.parametrize("size", [size for size in SIZES if SIZES[size]])
def test_every_part_is_covered_from_its_start(size):
    for fit in fits(size):
        regions = regions_of(fit, size)
        assert regions.regions[0].range.address == 0
        padded = fit.build is AAVMF and fit.part == "vars" and size > fit.build.vars_size
        assert regions.holes() == ([Range(0xC0000, 64 * MIB - 0xC0000)] if padded else [])
        names = {item.name for item in regions}
        assert ("vars" in names) == (fit.part != "code")
        assert any(item.protected for item in regions) == (fit.part != "vars")
