from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples
from test_uefi_power_cuts import cuts
from volumes import (
    AAVMF,
    OVMF_2M,
    OVMF_4M,
    after_power_cuts,
    entry,
    recorded_volume,
    some_variables,
    variable,
    volume_bytes,
)

from hwflash.errors import ImageError
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.find import find_stores
from hwflash.uefi.flashops import Erase, Operation, Program, Verify, carried_out
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.recover import recover
from hwflash.uefi.rewrite import replace_records
from hwflash.uefi.store import make_store
from hwflash.uefi.window import Window


def opened(image: bytes, erase: int = 0x1000) -> Nvram:
    window = Window(bytes(image))
    return Nvram(window, find_stores(window)[0], erase)


def values(found) -> dict:
    return {record.key: (record.attributes, record.data) for record in found.store.live}


def interrupted(image: bytes, operations: list[Operation]) -> Iterator[tuple[str, bytes]]:
    """The image after every number of operations, and with the next one half done."""
    window = Window(bytes(image))
    for index, step in enumerate(operations):
        yield f"{index}", window.data
        if isinstance(step, Program) and len(step.data) > 1:
            for torn in sorted({1, 71, len(step.data) // 2, len(step.data) - 1}):
                if torn < len(step.data):
                    part = replace(step, data=step.data[:torn])
                    yield f"{index} torn {torn}", carried_out(window, [part]).data
        elif isinstance(step, Erase):
            half = bytearray(window.data)
            half[step.address : step.address + step.length // 2] = b"\xff" * (step.length // 2)
            yield f"{index} half erased", bytes(half)
        window = carried_out(window, [step])
    yield "all", window.data


def interrupted_reclaim(
    layout: KnownLayout = OVMF_2M, *, lba: int = 0, done: int = 0
) -> tuple[bytearray, bytearray]:
    """A volume whose spare is complete and whose first ``done`` blocks are erased; the result."""
    block = 0x40000 if layout is AAVMF else 0x1000
    old = [variable(f"Old{n}", bytes([n]) * 700, state=0x3C) for n in range(40)]
    new = [variable(f"New{n}", bytes([n]) * 600) for n in range(40)]
    item = entry(layout, header=0xFC, record=0xFD)
    at = lba * block
    write = replace(
        item.records[0], lba=lba, start=0 if lba else 0x48,
        length=layout.variables - at - (0 if lba else 0x48),
        relative_offset=at - layout.spare.address,
    )  # fmt: skip
    image = volume_bytes(old, layout, entries=(replace(item, records=(write,)),), block=block)
    wanted = volume_bytes(new, layout, block=block)
    if lba:
        wanted[:at] = image[:at] = volume_bytes(new, layout, block=block)[:at]
    spare = layout.spare.address
    image[spare : spare + layout.variables - at] = wanted[at : layout.variables]
    image[at : at + done * block] = b"\xff" * (done * block)
    return image, wanted[: layout.variables]


# --- the recorded reclaim -------------------------------------------------------------------


@pytest.mark.slow
def test_every_cut_of_a_recorded_reclaim_is_recovered():
    before = values(find_stores(recorded_volume())[0]).keys()
    verdicts, rewritten = set(), []
    for cut, image in after_power_cuts(cuts()):
        was = find_stores(image)[0]
        nvram = opened(image)
        done = recover(nvram)
        verdicts.add(done.verdict)
        found = nvram.found
        assert found.healthy, (cut, found.anomalies)
        assert found.ftw.verdict == "idle", cut
        assert values(found).keys() >= before, cut
        if done.verdict == "replay":
            rewritten.append(values(found))
        else:
            assert values(found) == values(was), cut
            if done.verdict == "finish":
                rewritten.append(values(found))
        assert done.changed == bool([s for s in nvram.operations if not isinstance(s, Verify)])
        again = opened(nvram.flash.window().data)
        assert not recover(again).changed, cut
        assert again.operations == [], cut
    assert verdicts == {"idle", "abort", "replay", "finish"}
    assert len(rewritten) > 50
    assert all(item == rewritten[-1] for item in rewritten), "what is finished is one new set"


def test_nothing_but_the_reclaimed_places_is_touched():
    for cut, image in after_power_cuts(cuts()[::12]):
        nvram = opened(image)
        recover(nvram)
        content = nvram.flash.window().data
        assert content[0xE000:0xF000] == image[0xE000:0xF000], cut
        assert content[0x10000:] == image[0x10000:], cut
        if content[:0xE000] != image[:0xE000]:
            assert content[:0xE000] == image[0x10000:0x1E000], cut


@pytest.mark.slow
def test_a_cut_inside_the_recovery_of_the_recording_is_recovered():
    for cut, image in after_power_cuts(cuts()[::9]):
        nvram = opened(image)
        if recover(nvram).verdict != "replay":
            continue
        for where, state in interrupted(image, nvram.operations):
            second = opened(state)
            recover(second)
            assert second.flash.window().data == nvram.flash.window().data, (cut, where)


# --- made volumes ---------------------------------------------------------------------------


@pytest.mark.parametrize("done", [0, 1, 5, 14])
@pytest.mark.parametrize("lba", [0, 2])
def test_a_cut_inside_a_recovery_is_recovered_to_the_same_bytes(lba, done):
    image, wanted = interrupted_reclaim(lba=lba, done=min(done, 14 - lba))
    nvram = opened(image)
    assert recover(nvram).verdict == "replay"
    final = nvram.flash.window().data
    assert final[: len(wanted)] == wanted
    for where, state in interrupted(image, nvram.operations):
        second = opened(state)
        recover(second)
        assert second.flash.window().data == final, where
        assert second.found.healthy, where


def test_every_cut_of_a_rewrite_is_recovered_to_the_old_or_the_new_set():
    image = volume_bytes([variable(f"Setting{n}", bytes([n]) * 500) for n in range(80)])
    nvram = opened(image)
    new = [item for item in nvram.store.live if item.name not in ("Setting20", "Setting40")]
    old = values(nvram.found)
    replace_records(nvram, new)
    both = (old, {item.key: (item.attributes, item.data) for item in new})
    for where, state in interrupted(image, nvram.operations):
        second = opened(state)
        recover(second)
        assert values(second.found) in both, where
        assert second.found.ftw.verdict == "idle", where


@pytest.mark.parametrize("layout", [OVMF_4M, AAVMF], ids=lambda item: item.name)
def test_other_layouts_are_recovered(layout):
    image, wanted = interrupted_reclaim(layout, done=1)
    nvram = opened(image)
    recover(nvram)
    assert nvram.flash.window().data[: len(wanted)] == wanted
    assert nvram.found.healthy


def test_a_volume_inside_of_an_image_is_recovered():
    image, wanted = interrupted_reclaim(done=3)
    nvram = opened(b"\0" * 0x7000 + bytes(image) + bytes(0x3000))
    recover(nvram)
    assert nvram.base == 0x7000
    assert nvram.flash.window().data[0x7000 : 0x7000 + len(wanted)] == wanted


def test_block_0_comes_last_and_its_volume_header_last_of_all():
    image, _ = interrupted_reclaim(done=14)
    nvram = opened(image)
    recover(nvram)
    target = [s for s in nvram.operations if isinstance(s, Program) and s.address < 0xE000]
    assert [s.address for s in target[-2:]] == [0x48, 0]
    assert len(target[-1].data) == 0x48
    marks = [s for s in nvram.operations if s.range.address >= 0xF000]
    assert [type(s) for s in marks] == [Program, Verify, Program, Verify]
    at = nvram.operations.index(marks[0])
    assert isinstance(nvram.operations[at - 1], Verify), "read back before it is promised"


def test_an_intact_block_0_is_never_erased():
    image, wanted = interrupted_reclaim(done=0)
    image[:0x1000] = wanted[:0x1000]
    nvram = opened(image)
    recover(nvram)
    assert all(s.address for s in nvram.operations if isinstance(s, Erase))
    first = nvram.operations[0]
    assert (first.address, first.data) == (0xDFFC, bytes(4)), "the store is marked first"
    erased = [s.address for s in nvram.operations if isinstance(s, Erase)]
    assert erased == sorted(erased)
    assert erased[-1] == 0xD000, "the mark goes last"


def test_equal_blocks_are_skipped():
    image, wanted = interrupted_reclaim()
    image[: len(wanted)] = wanted
    nvram = opened(image)
    done = recover(nvram)
    assert done.changed
    assert "0 of 14 blocks" in done.actions[0]
    assert [len(s.data) for s in nvram.operations if isinstance(s, Program)] == [1, 1]


def test_a_healthy_volume_is_left_alone():
    nvram = opened(volume_bytes(some_variables()))
    done = recover(nvram)
    assert (done.verdict, done.changed) == ("idle", False)
    assert done.actions == ("Nothing is pending: nothing was done.",)
    assert nvram.operations == []


def test_a_dirty_tail_is_only_told_of():
    image = volume_bytes(some_variables())
    image[0xD000] = 0
    nvram = opened(image)
    done = recover(nvram)
    assert not done.changed
    assert "0x00D000" in done.actions[-1]


@pytest.mark.parametrize("value", [0x00, 0xFF, 0x55])
def test_a_lost_work_space_of_a_sound_store_is_begun_anew(value):
    image = volume_bytes(some_variables())
    image[0xF000:0x10000] = bytes([value]) * 0x1000
    nvram = opened(image)
    assert recover(nvram).verdict == "initialise-work-space"
    assert nvram.found.healthy
    for where, state in interrupted(image, nvram.operations):
        second = opened(state)
        recover(second)
        assert second.flash.window().data[:0x10000] == nvram.flash.window().data[:0x10000], where


def test_a_damaged_work_space_is_restored_from_its_copy():
    image = volume_bytes(some_variables(), entries=(entry(header=0xFC, record=0xFF),))
    image[0x10000:0x11000] = image[0xF000:0x10000]
    image[0xF000:0x10000] = b"\xff" * 0x1000
    nvram = opened(image)
    done = recover(nvram)
    assert done.verdict == "restore-work-space"
    assert nvram.found.ftw.verdict == "idle"
    assert nvram.found.ftw.work_space.entries[0].complete
    assert len(done.actions) == 2


def test_a_queue_that_cannot_be_added_to_is_begun_anew():
    image = volume_bytes(some_variables(), entries=(entry(header=0xF8, record=0xF9),))
    image[0xF800] = 0
    nvram = opened(image)
    assert recover(nvram).verdict == "reclaim-work-space"
    assert nvram.found.ftw.verdict == "idle"
    assert nvram.found.ftw.work_space.entries == ()


def test_a_complete_spare_is_replayed_before_a_dirty_queue_is_cleaned():
    image, wanted = interrupted_reclaim(done=3)
    image[0xF800] = 0
    nvram = opened(image)
    recover(nvram)
    assert nvram.flash.window().data[: len(wanted)] == wanted
    assert nvram.found.ftw.work_space.entries == ()


def test_a_broken_store_is_not_followed_by_a_new_work_space():
    image = volume_bytes(some_variables())
    image[:0x1000] = b"\xff" * 0x1000
    image[0xF000:0x10000] = bytes(0x1000)
    image[0x10000:0x1E000] = volume_bytes(some_variables())[:0xE000]
    window = Window(bytes(image))
    nvram = Nvram(window, find_stores(bytes(volume_bytes()))[0])
    nvram.flash.program(0x20000 - 1, b"\xfe")
    with pytest.raises(ImageError) as caught:
        recover(nvram)
    assert caught.value.code == "ftw.store-broken"
    assert len(nvram.operations) == 1


# --- what is refused ------------------------------------------------------------------------


def broken(change) -> bytearray:
    image, _ = interrupted_reclaim(done=2)
    change(image)
    return image


def at_record(offset: int, data: bytes):
    def change(image: bytearray) -> None:
        at = 0xF000 + 32 + 40 + offset
        image[at : at + len(data)] = data

    return change


def in_spare(offset: int, data: bytes):
    def change(image: bytearray) -> None:
        image[0x10000 + offset : 0x10000 + offset + len(data)] = data

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (at_record(0, b"\xfc"), "ftw.boot-block"),
        (at_record(8, b"\x01"), "ftw.target"),
        (at_record(16, bytes(7) + b"\x7f"), "ftw.target"),
        (at_record(24, b"\xff" * 8), "ftw.target"),
        (at_record(32, bytes(8)), "ftw.target"),
        (at_record(24, (0xFFB8).to_bytes(8, "little")), "ftw.working-block"),
        (in_spare(0x20, b"\x01"), "ftw.replay-implausible"),
        (in_spare(0x48, bytes(16)), "ftw.replay-implausible"),
        (in_spare(0x58, bytes(4)), "ftw.replay-implausible"),
        (in_spare(0xDFFF, b"\0"), "ftw.replay-implausible"),
        (in_spare(0x64 + 40, b"\0\0\xff\0"), "ftw.replay-implausible"),
        (in_spare(0x4000, b"\xff" * 0x1000), "ftw.replay-implausible"),
    ],
)
def test_what_cannot_be_believed_is_refused_and_nothing_done(change, code):
    nvram = opened(broken(change))
    with pytest.raises(ImageError) as caught:
        recover(nvram)
    assert caught.value.code == code
    assert nvram.operations == []


def test_erase_blocks_that_are_shared_are_refused():
    image, _ = interrupted_reclaim(done=2)
    nvram = opened(image, erase=0x10000)
    with pytest.raises(ImageError) as caught:
        recover(nvram)
    assert caught.value.code == "uefi.erase-block"
    assert nvram.operations == []


def test_dropping_a_write_needs_no_erase():
    image = volume_bytes(some_variables(), entries=(entry(),))
    nvram = opened(image, erase=0x10000)
    assert recover(nvram).verdict == "abort"
    assert [type(step) for step in nvram.operations] == [Program, Verify]


def test_a_bare_store_has_nothing_to_be_recovered():
    nvram = opened(make_store(some_variables(), 0x4000).build())
    done = recover(nvram)
    assert (done.verdict, done.changed) == ("unknown", False)


@settings(max_examples=examples(150), deadline=2000)
@given(
    st.integers(0, 14),
    st.lists(st.tuples(st.integers(0, 0x1FFFF), st.binary(min_size=1, max_size=40)), max_size=12),
)
def test_a_damaged_volume_never_gives_a_traceback(done, changes):
    image, _ = interrupted_reclaim(done=done)
    for at, data in changes:
        image[at : at + len(data)] = data
    image = image[:0x20000]
    for found in find_stores(bytes(image)):
        nvram = Nvram(Window(bytes(image)), found)
        try:
            recover(nvram)
        except ImageError:
            assert nvram.operations == []
        else:
            assert nvram.found.ftw.verdict in ("idle", "unknown")
