"""Power cuts at every place of every write to a variable store, judged by the model of edk2.

The quick part tries a sample; the slow part tries what docs/power-cuts.md counts, with fewer
arbitrary mixtures. Each prints its counts with ``-s``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from cut_matrix import Count, Result, recorded, table, tried
from cut_scenarios import (
    Scenario,
    as_firmware,
    fault_tolerant,
    full,
    image_of,
    in_place,
    recoveries,
    rescues,
    setting,
    some,
    suffixes,
)
from edk2_model import AAVMF, OVMF_2M, OVMF_4M, Layout
from power_cuts import Density, cuts, opened, recovered, sound_after_recovery, variables_in
from support import mostly_slow
from volumes import GUID, NV_BS

from hwflash.errors import ImageError
from hwflash.uefi.flashops import Erase, Program, Verify
from hwflash.uefi.rewrite import reclaim

Make = Callable[..., Iterator[Scenario]]
QUICK = Density(seeds=1, pages=1, share=0.04)


def shown(result: Result) -> Result:
    sys.stdout.write(result.line + "\n")
    return result


def whole(count: Count) -> bool:
    assert count.examples == [], count.reasons
    return count.tried == count.survived


def check(scenario: Scenario, density: Density, second: float = 0.02) -> Result:
    """Recovery survives everywhere, and so do the builds that must."""
    result = shown(tried(scenario, density, second))
    assert whole(result.recovery)
    assert whole(result.second)
    for build in scenario.must:
        assert whole(result.builds[build])
        assert result.builds[build].tried == result.cuts
    assert result.recovery.tried == result.cuts
    return result


# --- the cuts themselves ---------------------------------------------------------------------


def test_a_program_is_torn_in_every_page():
    start = b"\xff" * 0x400
    found = list(cuts(start, [Program(0x80, bytes(0x200)), Verify(0x80, bytes(0x200))]))
    assert found[0].image == start
    assert found[-1].image == b"\xff" * 0x80 + bytes(0x200) + b"\xff" * 0x180
    assert [cut.how for cut in found].count("page") == 2
    assert len({cut.image for cut in found}) == len(found) == 1 + 3 * 4 + 2 + 1
    for cut in found:
        touched = [at // 0x100 for at, byte in enumerate(cut.image) if byte not in (0, 0xFF)]
        assert len(set(touched)) <= 1, "one page is torn at a time"
        assert cut.image[:0x80] + cut.image[0x280:] == b"\xff" * 0x200


def test_an_erase_leaves_anything_in_its_block_and_nothing_elsewhere():
    start = bytes(range(256)) * 12
    found = list(cuts(start, [Erase(0x400, 0x400)]))
    assert found[-1].image == start[:0x400] + b"\xff" * 0x400 + start[0x800:]
    assert {"cleared", "first half erased", "some bits erased"} <= {cut.how for cut in found}
    for cut in found:
        assert cut.image[:0x400] + cut.image[0x800:] == start[:0x400] + start[0x800:]


def test_equal_states_are_tried_once_and_choices_are_repeatable():
    steps = [Program(0, b"\xfe"), Program(0, b"\xfe"), Erase(0x100, 0x100)]
    start = b"\xff" * 0x200
    found = list(cuts(start, steps))
    assert [cut.index for cut in found[:2]] == [0, 1]
    # An erase of a blank block can still be cut while the block is cleared.
    assert all(cut.index in (0, 1, 2) for cut in found)
    assert [cut.image for cut in cuts(start, steps)] == [cut.image for cut in found]
    assert len({cut.image for cut in found}) == len(found)


# --- quick: samples --------------------------------------------------------------------------


@pytest.mark.parametrize("layout", mostly_slow(1, [OVMF_2M, AAVMF]), ids=["2M", "AAVMF"])
def test_setting_in_place_survives_everywhere(layout: Layout):
    names = {check(scenario, Density(seeds=1)).scenario.name for scenario in in_place(layout)}
    assert len(names) == 7


@pytest.mark.parametrize("name", ["reclaim, adding", "reclaim, all in block 0"])
def test_a_suffix_rewrite_survives(name: str):
    scenario = next(item for item in suffixes(OVMF_2M) if item.name == name)
    result = check(scenario, QUICK, second=0.01)
    assert result.cuts > len(scenario.operations) // 2


@pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M], ids=["2M", "4M"])
def test_the_firmwares_order_fails_exactly_where_it_was_measured(layout: Layout):
    (scenario,) = as_firmware(layout)
    result = shown(tried(scenario, Density(seeds=0, pages=0, share=0), second=0))
    assert whole(result.recovery)
    blocks = layout.variables // layout.block
    # Of the states between whole operations: in SMM builds those without a volume header, from
    # the erase of block 0 to the program of block 0, are lost and no others.
    smm = result.builds["smm"]
    live = 4
    # 30 variables and some dead ones end in the fourth block: until that is back, the plain
    # build works on a stale copy; the state before the erases is one more.
    plain = result.builds["plain"]
    used = max(
        at for at in range(0, layout.variables, layout.block)
        if scenario.finished[at : at + layout.block].strip(b"\xff")
    ) // layout.block + 1  # fmt: skip
    assert used == live
    # Erases of blank blocks leave no new state.
    old = sum(
        scenario.start[at : at + layout.block].strip(b"\xff") != b""
        for at in range(0, layout.variables, layout.block)
    )
    assert smm.reasons == {"wiped": old}
    assert plain.reasons["wiped"] == old
    stale = {reason: count for reason, count in plain.reasons.items() if reason != "wiped"}
    assert sum(stale.values()) == 1 + live - 1
    assert blocks > old


@pytest.mark.parametrize(
    ("layout", "erase_size", "order", "code"),
    [
        (OVMF_2M, 0x10000, "suffix", "uefi.erase-block"),
        (OVMF_2M, 0x10000, "edk2", "uefi.erase-block"),
        (OVMF_4M, 0x10000, "suffix", "uefi.erase-block"),
        (OVMF_4M, 0x10000, "edk2", "uefi.erase-block"),
        (AAVMF, 0x40000, "suffix", "uefi.erase-block"),
    ],
)
def test_a_chip_that_erases_too_much_is_refused(
    layout: Layout, erase_size: int, order: str, code: str
):
    nvram = opened(image_of(some(layout, 30), layout), erase_size)
    with pytest.raises(ImageError) as caught:
        reclaim(nvram, order=order)
    assert caught.value.code == code
    assert nvram.operations == []
    full_up = opened(image_of(full(layout), layout), erase_size)
    with pytest.raises(ImageError):
        setting("Target", GUID, NV_BS, b"a value that is new" * 20)(full_up)
    assert full_up.operations == []


@pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M], ids=["2M", "4M"])
def test_a_broken_chain_is_not_reclaimed_away(layout: Layout):
    """One start id is gone, thirty live records stand behind it."""
    image = bytearray(image_of(some(layout, 60), layout))
    at = image.index("Live30".encode("utf-16-le")) - 60
    image[at : at + 2] = bytes(2)
    nvram = opened(bytes(image))
    with pytest.raises(ImageError) as caught:
        setting("New", GUID, NV_BS, b"new")(nvram)
    assert caught.value.code == "uefi.unhealthy"
    assert "29 records behind" in caught.value.message
    assert nvram.operations == []


@pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M, AAVMF], ids=["2M", "4M", "AAVMF"])
def test_block_0_and_the_work_space_lost_with_a_copy_in_the_spare(layout: Layout):
    healthy = image_of(some(layout, 20), layout)
    image = bytearray(healthy)
    image[layout.spare : layout.spare + layout.variables] = healthy[: layout.variables]
    for first, length in ((0, layout.block), (layout.work, 32)):
        image[first : first + length] = b"\xff" * length
    nvram = recovered(bytes(image), layout.block)
    assert nvram.base == 0
    after = nvram.flash.window().data
    kept = [variables_in(healthy, layout)]
    assert sound_after_recovery(after, layout, layout.block, kept) == ""


@pytest.mark.parametrize("kept", [16, 20, 24, 31])
def test_a_torn_work_space_header_moves_nothing(kept: int):
    """Its own size says nothing about places while its CRC is wrong."""
    image = bytearray(image_of(some(OVMF_2M, 5), OVMF_2M))
    header = slice(OVMF_2M.work + kept, OVMF_2M.work + 32)
    image[header] = b"\xff" * (32 - kept)
    areas = opened(bytes(image)).areas
    assert areas.spare is not None
    assert areas.work is not None
    assert (areas.spare.address, areas.work.address) == (OVMF_2M.spare, OVMF_2M.work)


def test_in_place_changes_need_no_erase_block():
    for scenario in in_place(OVMF_4M, 0x10000):
        assert not any(isinstance(step, Erase) for step in scenario.operations)
        check(scenario, Density(seeds=1, pages=1, share=0.2))


@pytest.mark.slow
def test_prefixes_of_the_recorded_reclaim_are_recovered():
    count = recorded(0x8000)
    assert whole(count)
    assert count.tried > 90


def test_the_table_says_what_was_tried():
    scenario = next(in_place(OVMF_2M))
    result = tried(scenario, Density(seeds=1))
    text = table([result], Count(tried=9, survived=9))
    assert "9 prefixes of it were tried, and 9 recovered" in text
    assert f"| set, new | OVMF 2M | 4 KiB | {len(scenario.operations)} | {result.cuts} |" in text
    result.recovery.add("somewhere", "1 variables lost")
    assert f"**{result.cuts}**" in table([result], Count())


# --- slow: everything ------------------------------------------------------------------------

SLOW_PARTS: list[tuple[Make, Layout, int | None, Density]] = [
    (in_place, OVMF_4M, None, Density(seeds=2)),
    (suffixes, OVMF_2M, None, Density(seeds=1, pages=1, share=0.3)),
    (suffixes, OVMF_4M, None, Density(seeds=1, pages=1, share=0.02, after=0.3)),
    (suffixes, AAVMF, 0x1000, Density(seeds=1, pages=1, share=0.02, after=0.2)),
    (suffixes, AAVMF, 0x10000, Density(seeds=1, pages=1, share=0.15)),
    *((make, OVMF_2M, None, Density(seeds=1, pages=2))
      for make in (as_firmware, fault_tolerant, recoveries, rescues)),
    *((make, OVMF_4M, None, Density(seeds=1, pages=1, share=0.1))
      for make in (as_firmware, fault_tolerant, recoveries, rescues)),
    *((make, AAVMF, None, Density(seeds=1, pages=1, share=0.3))
      for make in (as_firmware, fault_tolerant, recoveries, rescues)),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "layout", "erase_size", "density"),
    SLOW_PARTS,
    ids=[f"{make.__name__}-{layout.name}-{size}" for make, layout, size, _ in SLOW_PARTS],
)
def test_everything(make: Make, layout: Layout, erase_size: int | None, density: Density):
    for scenario in make(layout) if erase_size is None else make(layout, erase_size):
        check(scenario, density)


@pytest.mark.slow
def test_the_whole_of_the_recorded_reclaim_is_recovered():
    count = recorded(0x20)
    sys.stdout.write(f"recorded reclaim of OVMF: {count.survived} prefixes recovered\n")
    assert whole(count)
    assert count.tried > 750
