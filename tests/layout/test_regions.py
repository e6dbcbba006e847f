from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import ImageError, UsageError
from hwflash.layout.regions import Region, RegionMap, find_problems
from hwflash.units import Range


def region(name: str, start: int, length: int) -> Region:
    return Region(name, Range(start, length))


def test_lookup_order_and_address() -> None:
    layout = RegionMap([region("bios", 0x500, 0xB00), region("fd", 0, 0x100)], 0x1000)
    assert [item.name for item in layout] == ["fd", "bios"]
    assert layout["bios"].range == Range(0x500, 0xB00)
    assert layout.at(0xFF) == layout["fd"]
    assert layout.at(0x100) is None
    assert "fd" in layout
    assert "me" not in layout
    assert [item.name for item in layout.touching(Range(0xFF, 0x402))] == ["fd", "bios"]


def test_unknown_name_says_what_is_near() -> None:
    layout = RegionMap([region("BIOS", 0, 16), region("gbe", 16, 16)])
    with pytest.raises(UsageError) as caught:
        layout["boos"]
    assert caught.value.code == "usage.region"
    assert caught.value.context["near"] == ["BIOS"]
    assert caught.value.context["known"] == ["BIOS", "gbe"]


def test_holes_reach_the_end_of_the_flash() -> None:
    layout = RegionMap([region("a", 0x100, 0x100), region("b", 0x300, 0x100)], 0x800)
    assert layout.holes() == [Range(0, 0x100), Range(0x200, 0x100), Range(0x400, 0x400)]
    assert RegionMap([region("a", 0, 0x800)], 0x800).holes() == []
    assert RegionMap([region("a", 0x10, 0x10)]).holes() == [Range(0, 0x10)]


@pytest.mark.parametrize(
    ("regions", "code", "name"),
    [
        ([region("a", 0, 0x20), region("b", 0x1F, 1)], "layout.overlap", "b"),
        ([region("a", 0xFF, 2)], "layout.outside", "a"),
        ([region("a", -1, 2)], "layout.outside", "a"),
        ([region("a", 0, 0)], "layout.empty", "a"),
        ([region("a", 0, 1), region("a", 8, 1)], "layout.duplicate", "a"),
        ([region("a", 0, 8), region("b", 2, 2)], "layout.overlap", "b"),
    ],
)
def test_what_is_no_map(regions: list[Region], code: str, name: str) -> None:
    with pytest.raises(ImageError) as caught:
        RegionMap(regions, 0x100)
    assert caught.value.code == code
    assert caught.value.context["region"] == name


def test_nested_regions_where_the_format_has_them() -> None:
    inner, outer = region("inner", 0x10, 0x10), region("outer", 0, 0x40)
    layout = RegionMap([inner, outer], 0x40, nested=True)
    assert [item.name for item in layout] == ["outer", "inner"]
    assert layout.at(0x18) == inner
    with pytest.raises(ImageError, match="overlaps"):
        RegionMap([outer, region("astride", 0x30, 0x20)], 0x100, nested=True)


def test_find_problems_finds_them_all() -> None:
    found = find_problems([region("a", 0, 8), region("b", 4, 8), region("c", 0, 999)], 64)
    assert [(item.code, item.context["region"], item.context["other"]) for item in found] == [
        ("layout.overlap", "b", "a"),
        ("layout.outside", "c", None),
        ("layout.overlap", "c", "a"),
        ("layout.overlap", "c", "b"),
    ]


@given(st.sets(st.integers(0, 64), min_size=2, max_size=12), st.integers(65, 100))
def test_regions_and_holes_tile_the_flash(cuts: set[int], size: int) -> None:
    edges = sorted(cuts)
    regions = [
        region(f"r{index}", start, end - start)
        for index, (start, end) in enumerate(itertools.pairwise(edges))
        if index % 2 == 0
    ]
    layout = RegionMap(regions, size)
    covered = sorted([item.range for item in layout] + layout.holes())
    assert covered[0].address == 0
    assert covered[-1].end == size
    assert all(one.end == two.address for one, two in itertools.pairwise(covered))
