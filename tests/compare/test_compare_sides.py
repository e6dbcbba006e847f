from __future__ import annotations

import pytest
from compare.firmware_sides import MIB, changed, firmware, module, side, volume
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples

from hwflash.compare.regions import compare_regions, narrowed, parts_of
from hwflash.compare.sides import Alignment, Segment, Side, Volume, align, pair_volumes
from hwflash.errors import UsageError
from hwflash.layout.regions import Region
from hwflash.qemu.volumes import FFS2
from hwflash.uefi.window import Window
from hwflash.units import Range

WHOLE = firmware(code=[module(1, "One", b"code" * 100)], last=module(2, "Sec", b"sec" * 50))
VARS, CODE = WHOLE[:0x84000], WHOLE[0x84000:]


def test_images_of_one_size_are_compared_place_by_place():
    found = align(side(WHOLE), side(changed(WHOLE, 5, 0x84010)))
    assert found == Alignment("position", (Segment(0, 0, 4 * MIB),))


def test_a_vars_file_lies_where_the_whole_image_has_its_volume():
    found = align(side(VARS), side(WHOLE))
    assert found.how == "volumes"
    assert found.segments == (Segment(0, 0, 0x84000),)
    (out,) = found.left_out
    assert (out.side, out.range, out.blank) == ("right", Range(0x84000, 0x37C000), False)


def test_a_code_file_lies_behind_the_variables_of_the_whole_image():
    found = align(side(WHOLE), side(CODE))
    assert found.segments == (Segment(0x84000, 0, 0x37C000),)
    assert [(item.side, item.range) for item in found.left_out] == [("left", Range(0, 0x84000))]


def test_a_dump_of_the_whole_chip_has_the_image_somewhere():
    dump = b"\xff" * (12 * MIB) + WHOLE
    found = align(side(dump), side(WHOLE))
    assert (found.how, found.segments) == ("volumes", (Segment(12 * MIB, 0, 4 * MIB),))
    assert [item.blank for item in found.left_out] == [True]


def test_volumes_that_lie_otherwise_are_compared_one_by_one():
    gap = b"\xff" * 0x1000
    moved = VARS + gap + CODE
    found = align(side(WHOLE), side(moved))
    assert found.segments == (Segment(0, 0, 0x84000), Segment(0x84000, 0x85000, 0x37C000))
    assert [(item.side, item.range, item.blank) for item in found.left_out] == [
        ("right", Range(0x84000, 0x1000), True)
    ]


def test_an_erased_store_is_found_by_its_region():
    found = align(side(b"\xff" * 0x84000), side(WHOLE))
    assert found.how == "regions"
    assert found.segments[0] == Segment(0, 0, 0x84000)


def test_a_region_beyond_the_end_is_no_anchor():
    left = Side("left", Window(bytes(100)), regions=(Region("vars", Range(50, 100)),))
    right = Side("right", Window(bytes(80), 16), regions=(Region("vars", Range(0, 40)),))
    found = align(left, right)
    assert (found.how, found.segments) == ("address", ())
    assert sum(item.range.length for item in found.left_out) == 180


def test_different_parts_have_nothing_in_common():
    found = align(side(VARS), side(CODE))
    assert found.segments == ()
    assert [(item.side, item.range.length) for item in found.left_out] == [
        ("left", 0x84000), ("right", 0x37C000),
    ]  # fmt: skip


def test_images_with_nothing_in_common_are_laid_over_each_other():
    found = align(side(b"abc" * 100), side(b"abd" * 200))
    assert (found.how, found.segments) == ("address", (Segment(0, 0, 300),))
    (out,) = found.left_out
    assert (out.side, out.range) == ("right", Range(300, 300))


def test_files_with_addresses_meet_where_they_overlap():
    found = align(side(b"a" * 0x100, base=0x1000), side(b"b" * 0x100, base=0x1080))
    assert found.segments == (Segment(0x1080, 0x1080, 0x80),)
    assert [(item.side, item.range) for item in found.left_out] == [
        ("left", Range(0x1000, 0x80)), ("right", Range(0x1100, 0x80)),
    ]  # fmt: skip
    apart = align(side(b"a" * 16, base=0x1000), side(b"b" * 8, base=0x2000))
    assert apart.segments == (Segment(0x1000, 0x2000, 8),)


def test_a_side_without_bytes():
    found = align(side(b"", "nothing"), side(b"abc"))
    assert found.segments == ()
    assert [item.range for item in found.left_out] == [Range(0, 3)]


def test_of_several_volumes_those_with_the_same_content_belong_together():
    one, two = volume([module(1, "A", b"a")], 0x1000), volume([module(2, "B", b"b")], 0x1000)
    left, right = side(one + two + b"\xff" * 16), side(two + one)
    pairs = [(a.range.address, b.range.address) for a, b in pair_volumes(left, right) if a and b]
    assert pairs == [(0, 0x1000), (0x1000, 0)]


def test_volumes_without_a_counterpart_are_told():
    pairs = pair_volumes(side(VARS), side(CODE))
    assert [(bool(one), bool(other)) for one, other in pairs] == [
        (True, False), (False, True), (False, True),
    ]  # fmt: skip


@settings(max_examples=examples(60))
@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40), st.integers(0, 2)), max_size=6),
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40), st.integers(0, 2)), max_size=6),
    st.integers(1, 130), st.integers(1, 130),
)  # fmt: skip
def test_every_byte_is_compared_once_or_left_out(first, second, one, other):
    """Whatever volumes claim, as long as they lie in the image."""

    def made(places, size):
        volumes = [
            Volume(Range(start, min(length, size - start)), "v", FFS2 if not kind else UID[kind])
            for start, length, kind in places
            if start < size
        ]
        return Side("s", Window(bytes(size)), volumes=tuple(volumes))

    left, right = made(first, one), made(second, other)
    found = align(left, right)
    for name, size in (("left", one), ("right", other)):
        covered = [item.of(name) for item in found.segments]
        covered += [item.range for item in found.left_out if item.side == name]
        seen = [at for part in covered for at in range(part.address, part.end)]
        assert sorted(seen) == list(range(size))


UID = {number: volume.key for number, volume in enumerate(side(WHOLE).volumes)}


# --- regions --------------------------------------------------------------------------------


def test_parts_cover_an_image_whatever_it_is():
    for data in (WHOLE, VARS, b"\xff" * 100 + VARS + b"rest", b"plain"):
        made = side(data)
        assert sum(part.range.length for part in parts_of(made)) == len(data)
    assert [part.name for part in parts_of(side(b"plain"))] == ["image"]


def test_each_region_says_how_much_of_it_differs():
    left, right = side(WHOLE), side(changed(WHOLE, 0x41000, 0x84100, 0x84101))
    found = {item.name: item for item in compare_regions(left, right, align(left, right), [])}
    assert {name: item.bytes_differing for name, item in found.items()} == {
        "vars": 0, "event-log": 0, "ftw-work": 1, "ftw-spare": 0, "fvmain-compact": 2, "seccode": 0,
    }  # fmt: skip
    assert found["vars"].equal
    assert not found["ftw-work"].equal
    assert found["fvmain-compact"].keys()["bytes_differing"] == 2


def test_what_is_explained_is_counted_apart():
    left, right = side(WHOLE), side(changed(WHOLE, 0x100, 0x200))
    found = compare_regions(left, right, align(left, right), [Range(0x180, 0x1000)])
    assert (found[0].bytes_differing, found[0].significant) == (2, 1)


def test_the_side_that_knows_more_regions_names_them():
    plain = Side("plain", Window(WHOLE))
    found = compare_regions(plain, side(WHOLE), align(plain, side(WHOLE)), [])
    assert [item.name for item in found][:2] == ["vars", "event-log"]


def test_only_one_region():
    left, right = side(WHOLE), side(changed(WHOLE, 0x100, 0x41000))
    only = narrowed(left, right, align(left, right), ["ftw-work"])
    assert only.segments == (Segment(0x41000, 0x41000, 0x1000),)
    both = narrowed(left, right, align(left, right), ["ftw-work", "event-log", "ftw-work"])
    assert both.compared == 0x2000
    with pytest.raises(UsageError) as caught:
        narrowed(left, right, align(left, right), ["ftw-wrok"])
    assert caught.value.code == "usage.region"
    assert "ftw-work" in caught.value.context["near"]


def test_a_region_that_is_not_in_both():
    left, right = side(VARS), side(WHOLE)
    with pytest.raises(UsageError, match="only one side has the region 'seccode'") as caught:
        narrowed(left, right, align(left, right), ["vars", "seccode"])
    assert caught.value.code == "usage.region"
    assert caught.value.context["known"] == ["vars", "event-log", "ftw-work", "ftw-spare"]


def test_a_region_that_only_the_other_side_knows():
    left = Side("left", Window(WHOLE), regions=(Region("boot", Range(0, 16)),))
    right = Side("right", Window(WHOLE), regions=(Region("main", Range(64, 4096)),))
    only = narrowed(left, right, align(left, right), ["boot"])
    assert only.segments == (Segment(0, 0, 16),)
