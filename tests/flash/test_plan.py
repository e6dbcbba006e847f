"""The planner, held against a flash that forgives nothing."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples, small_chip

from hwflash.chip.model import Duration, EraseRegion, EraseType
from hwflash.errors import ImageError
from hwflash.flash.device import Geometry
from hwflash.flash.plan import Plan, Step, Window, content_hash, make_plan, windows_for
from hwflash.units import KIB, Range

PAGE = 64
UNIT = 256  # the smallest erase block of these small flashes


def kind(size: int, milliseconds: float) -> EraseType:
    return EraseType(size, 0x20, Duration(milliseconds / 1000, 1.0))


@st.composite
def geometries(draw) -> Geometry:
    """Uniform, SST26-like (several blocks sizes by place), S25FS-like (a clipped block)."""
    times = [draw(st.integers(1, 200)) for _ in range(3)]
    small, middle, large = (
        kind(size, time) for size, time in zip((UNIT, 4 * UNIT, 16 * UNIT), times, strict=True)
    )
    form = draw(st.sampled_from(["uniform", "single", "sst26", "hybrid"]))
    size = 32 * UNIT
    if form == "uniform":
        regions = [(0, size, draw(st.sampled_from([(small, middle, large), (small, large)])))]
    elif form == "single":
        regions = [(0, size, (large,))]
    elif form == "sst26":
        regions = [(0, 4 * UNIT, (small, kind(2 * UNIT, times[1]))),
                   (4 * UNIT, 12 * UNIT, (small, middle)),
                   (16 * UNIT, 16 * UNIT, (small, large))]  # fmt: skip
    else:
        regions = [(0, 8 * UNIT, (small,)), (8 * UNIT, 8 * UNIT, (large,)),
                   (16 * UNIT, 16 * UNIT, (large,))]  # fmt: skip
    return Geometry(
        size=size,
        page_size=PAGE,
        regions=tuple(EraseRegion(*region) for region in regions),
        page_program=Duration(draw(st.integers(1, 20)) / 1000, 0.1),
        chip_erase=draw(st.none() | st.just(Duration(times[2] / 100, 9.0))),
        byte_seconds=1e-6,
        reprogram=draw(st.booleans()),
    )


class StrictFlash:
    """AND on program, FF on the erase of exactly one block; no ECC page is programmed twice."""

    def __init__(self, geometry: Geometry, content: bytes) -> None:
        self.geometry = geometry
        self.content = bytearray(content)
        self.touched: set[int] = set()

    def carry_out(self, plan: Plan, target: bytes) -> None:
        for step in plan.steps:
            place = step.range
            span = slice(place.address, place.end)
            self.touched.update(range(place.address, place.end))
            if step.kind == "erase":
                whole = self.geometry.chip_erase and place == Range(0, self.geometry.size)
                assert whole or self.geometry.block_for(place) is not None, place
                self.content[span] = b"\xff" * place.length
                continue
            for page in self.geometry.pages(place):
                data = target[page.address : page.end]
                old = self.content[page.address : page.end]
                start = page.address // PAGE * PAGE
                whole_page = self.content[start : start + PAGE]
                assert data.count(0xFF) != len(data), "a page of FF is not programmed"
                if not self.geometry.reprogram:
                    assert whole_page.count(0xFF) == PAGE, "programmed twice"
                self.content[page.address : page.end] = bytes(
                    a & b for a, b in zip(old, data, strict=True)
                )


def noise(draw, size: int) -> bytearray:
    """Mostly long runs, so that all kinds of blocks occur."""
    data = bytearray(b"\xff" * size)
    for _ in range(draw(st.integers(0, 6))):
        start, length = draw(st.integers(0, size - 1)), draw(st.integers(1, size // 2))
        value = draw(st.sampled_from([0x00, 0xFF, 0xF0, 0x0F, 0x5A]))
        length = min(length, size - start)
        data[start : start + length] = bytes((value,)) * length
    return data


@st.composite
def cases(draw) -> tuple[Geometry, bytes, bytes, list[Range], list[Range]]:
    geometry = draw(geometries())
    old = bytes(noise(draw, geometry.size))
    wanted = noise(draw, geometry.size)
    targets = []
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, geometry.size - 1))
        targets.append(Range(start, draw(st.integers(1, geometry.size - start))))
    if draw(st.booleans()):
        targets = [Range(0, geometry.size)]
    new = bytearray(old)
    for target in targets:
        new[target.address : target.end] = wanted[target.address : target.end]
    places = windows_for(targets, geometry)
    dirty = []
    if draw(st.booleans()):
        place = draw(st.sampled_from(places))
        spot = draw(st.integers(place.address, place.end - 1))
        blocks = [b.range for b in geometry.blocks_at(spot) if place.contains(b.range)]
        dirty = [draw(st.sampled_from(blocks))] if blocks else []
    return geometry, old, bytes(new), places, dirty


def planned(geometry, old, new, places, dirty) -> Plan:
    windows = [
        Window(p.address, old[p.address : p.end], new[p.address : p.end],
               tuple(d for d in dirty if p.contains(d)))
        for p in places
    ]  # fmt: skip
    return make_plan("PART", geometry, windows)


@settings(max_examples=examples(400), deadline=None)
@given(cases())
def test_executing_a_plan_always_yields_the_new_content(case) -> None:
    geometry, old, new, places, dirty = case
    plan = planned(*case)
    flash = StrictFlash(geometry, old)
    flash.carry_out(plan, new)
    assert flash.content == new
    inside = {place for window in places for place in range(window.address, window.end)}
    assert flash.touched <= inside, "nothing outside the windows is touched"
    erased = [step.range for step in plan.steps if step.kind == "erase"]
    for place in dirty:
        covered = {a for r in erased for a in range(r.address, r.end)}
        assert set(range(place.address, place.end)) <= covered, "dirty blocks are erased"
    assert plan.windows == tuple(places)
    assert plan.sha256 == content_hash([new[p.address : p.end] for p in places])
    if not dirty:
        if old == new:
            assert plan.steps == ()
        if geometry.reprogram and all(a & b == b for a, b in zip(old, new, strict=True)):
            assert erased == [], "clearing bits needs no erase"
    assert Plan.from_dict(plan.as_dict()) == replace(
        plan, steps=tuple(replace(s, seconds=round(s.seconds, 6)) for s in plan.steps)
    )


@settings(max_examples=examples(200), deadline=None)
@given(cases())
def test_no_plan_costs_more_than_the_naive_ones(case) -> None:
    geometry, old, new, places, dirty = case
    plan = planned(*case)
    naive = 0.0
    for place in places:
        address = place.address
        while address < place.end:
            block = geometry.blocks_at(address)[0]
            span = block.range
            part = slice(span.address, span.end)
            if old[part] != new[part] or any(span.overlaps(d) for d in dirty):
                naive += block.kind.time.typical
                naive += sum(
                    geometry.page_seconds(page.length)
                    for page in geometry.pages(span)
                    if new[page.address : page.end].count(0xFF) != page.length
                )
            address = span.end
    assert plan.seconds <= naive + 1e-9
    if places == [Range(0, geometry.size)] and geometry.chip_erase and plan.erases():
        at_once = geometry.chip_erase.typical + sum(
            geometry.page_seconds(page.length)
            for page in geometry.pages(Range(0, geometry.size))
            if new[page.address : page.end].count(0xFF) != page.length
        )
        assert plan.seconds <= at_once + 1e-9


@settings(max_examples=examples(200), deadline=None)
@given(geometries(), st.lists(st.tuples(st.integers(0, 32 * UNIT - 1), st.integers(1, 999)),
                              min_size=1, max_size=4))  # fmt: skip
def test_windows_hold_their_targets_in_whole_blocks(geometry, spots) -> None:
    targets = [Range(a, min(n, geometry.size - a)) for a, n in spots]
    places = windows_for(targets, geometry)
    for target in targets:
        assert any(place.contains(target) for place in places)
    for place in places:
        assert geometry.align(place) == place
    for one, other in pairwise(places):
        assert one.end < other.address, "sorted, and never touching"


# --- by hand ----------------------------------------------------------------------------------

CHIP = Geometry.of(small_chip(), 8 / 30e6)


def window(old: bytes, new: bytes, address: int = 0) -> Plan:
    return make_plan("PART", CHIP, [Window(address, old, new)])


def test_one_bit_cleared_is_one_byte_programmed() -> None:
    old = bytearray(b"\xf0" * 4096)
    new = bytearray(old)
    new[1000] = 0x70
    plan = window(bytes(old), bytes(new), 0x2000)
    assert [(s.kind, s.range) for s in plan.steps] == [("program", Range(0x2000 + 1000, 1))]
    assert plan.changed == [Range(0x2000 + 1000, 1)]
    assert plan.seconds == pytest.approx(0.0004 + 11 * 8 / 30e6)


def test_one_bit_set_erases_the_smallest_block_and_skips_ff_pages() -> None:
    old = bytearray(b"\xff" * 4096)
    old[0:256] = bytes(256)
    old[0x800:0x810] = bytes(16)
    new = bytearray(old)
    new[0] = 1
    plan = window(bytes(old), bytes(new))
    assert [(s.kind, s.range.address, s.range.length) for s in plan.steps] == [
        ("erase", 0, 4096), ("program", 0, 256), ("program", 0x800, 256),
    ]  # fmt: skip
    assert plan.erases() == {4096: 1}
    assert plan.bytes_of("erase") == 4096
    assert plan.bytes_of("program") == 512


def test_larger_blocks_where_they_are_quicker() -> None:
    size = 128 * KIB
    plan = window(bytes(size), b"\xff" * size)
    assert plan.erases() == {64 * KIB: 2}, "2 x 150 ms is less than the chip erase of 500 ms"
    fast = replace(CHIP, chip_erase=Duration(0.2, 1.0))
    plan = make_plan("PART", fast, [Window(0, bytes(size), b"\xff" * size)])
    assert [(s.kind, s.range) for s in plan.steps] == [("erase", Range(0, size))]
    # 2 sectors of 45 ms are quicker than 32 KiB of 120 ms; 3 are not.
    assert window(bytes(32 * KIB), b"\xff" * 8192 + bytes(24 * KIB)).erases() == {4096: 2}
    assert window(bytes(32 * KIB), b"\xff" * 32 * KIB).erases() == {32 * KIB: 1}


def test_a_window_grows_to_a_block_that_is_quicker_to_erase() -> None:
    assert windows_for([Range(100, 1)], CHIP) == [Range(0, 4096)]
    assert windows_for([Range(0, 60 * KIB)], CHIP) == [Range(0, 64 * KIB)]
    assert windows_for([Range(0x1000, 1), Range(0x2000, 1)], CHIP) == [Range(0x1000, 0x2000)]
    assert windows_for([Range(0x1000, 1), Range(0x3000, 1)], CHIP) == [
        Range(0x1000, 0x1000), Range(0x3000, 0x1000),
    ]  # fmt: skip


def test_pages_that_follow_each_other_are_one_step() -> None:
    plan = window(b"\xff" * 4096, b"\x00" * 1024 + b"\xff" * 3072)
    assert [(s.kind, s.range) for s in plan.steps] == [("program", Range(0, 1024))]


def test_ecc_parts_program_a_page_once() -> None:
    ecc = replace(CHIP, reprogram=False)
    old = bytearray(b"\xff" * 4096)
    old[0] = 0xF0
    new = bytearray(old)
    new[5] = 0
    plan = make_plan("P", ecc, [Window(0, bytes(old), bytes(new))])
    assert [s.kind for s in plan.steps] == ["erase", "program"]
    new = bytearray(old)
    new[256 + 5] = 0
    plan = make_plan("P", ecc, [Window(0, bytes(old), bytes(new))])
    assert [(s.kind, s.range) for s in plan.steps] == [("program", Range(261, 1))]


GOOD = Plan(
    "P", 8192, (Range(0, 4096),),
    (Step("erase", Range(0, 4096), 0.045), Step("program", Range(0, 256), 0.001)), "ab",
).as_dict()  # fmt: skip


def test_a_plan_as_data() -> None:
    assert GOOD["seconds"] == 0.046
    assert GOOD["windows"] == [{"address": 0, "length": 4096}]
    assert GOOD["steps"][1] == {"kind": "program", "address": 0, "length": 256, "seconds": 0.001}


@pytest.mark.parametrize(
    "damage",
    [
        {"steps": None}, {"steps": 3}, {"steps": [None]}, {"steps": [{"kind": "erase"}]},
        {"steps": [{**GOOD["steps"][0], "kind": "melt"}]}, {"windows": [{"address": 0}]},
        {"steps": [{**GOOD["steps"][0], "address": -1}]},
        {"steps": [{**GOOD["steps"][0], "length": 0}]},
        {"steps": [{**GOOD["steps"][0], "address": float("inf")}]},
        {"size": "large"}, {"size": None}, {"windows": "all"}, {"windows": [[0, 1]]},
        {"steps": [{**GOOD["steps"][0], "seconds": "soon"}]},
    ],
)  # fmt: skip
def test_damaged_plans_are_refused(damage) -> None:
    with pytest.raises(ImageError) as caught:
        Plan.from_dict({**GOOD, **damage})
    assert (caught.value.code, caught.value.exit_code) == ("plan.damaged", 7)


@pytest.mark.parametrize("key", ["part", "size", "windows", "steps", "sha256"])
def test_plans_without_a_part_are_refused(key: str) -> None:
    with pytest.raises(ImageError):
        Plan.from_dict({name: value for name, value in GOOD.items() if name != key})
