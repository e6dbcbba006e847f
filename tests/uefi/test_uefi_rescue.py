from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples, mostly_slow
from test_uefi_recover import interrupted, interrupted_reclaim, opened, values
from volumes import (
    AAVMF,
    GUID,
    OTHER,
    OVMF_2M,
    OVMF_4M,
    State,
    entry,
    some_variables,
    variable,
    volume_bytes,
)

from hwflash.errors import ImageError
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.find import assume, find_stores
from hwflash.uefi.flashops import Erase, Program
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.rescue import diagnose, rescue
from hwflash.uefi.window import Window

WORK = slice(0xF000, 0x10000)
SPARE = 0x10000


def assumed(image: bytes, layout: KnownLayout = OVMF_2M) -> Nvram:
    window = Window(bytes(image))
    return Nvram(window, assume(window, layout))


def wanted(records) -> dict:
    return {record.key: (record.attributes, record.data) for record in records}


def many(count: int = 60, size: int = 500) -> list:
    return [variable(f"Setting{n}", bytes([n + 1]) * size) for n in range(count)]


def in_spare(image: bytearray, records, layout: KnownLayout = OVMF_2M) -> None:
    spare = layout.spare.address
    image[spare : spare + layout.variables] = volume_bytes(records, layout)[: layout.variables]


def rescued(image: bytes, choice: str, expected: dict, *, every: int = 1) -> Nvram:
    """Rescue, and rescue again after a cut at every operation; always to the same variables."""
    nvram = assumed(image)
    found = diagnose(nvram)
    assert found.choice == choice, found
    assert nvram.operations == [], "a diagnosis changes nothing"
    done = rescue(nvram)
    assert done.choice == choice
    assert wanted(done.kept) == expected == wanted(found.variables)
    assert done.lost == found.lost
    assert done.actions
    assert nvram.found.healthy, nvram.found.anomalies
    assert nvram.found.ftw.verdict == "idle"
    assert values(nvram.found) == expected
    for number, (where, state) in enumerate(interrupted(image, nvram.operations)):
        if number % every:
            continue
        second = assumed(state)
        rescue(second)
        assert values(second.found) == expected, where
        assert second.found.healthy, (where, second.found.anomalies)
        assert second.found.ftw.verdict == "idle", where
    again = assumed(nvram.flash.window().data)
    assert rescue(again).choice == "nothing"
    assert [s for s in again.operations if isinstance(s, Program | Erase)] == []
    return nvram


# --- nothing, recover -----------------------------------------------------------------------


def test_a_healthy_volume_is_left_alone():
    nvram = opened(volume_bytes(some_variables()))
    done = rescue(nvram)
    assert (done.choice, done.lost) == ("nothing", ())
    assert wanted(done.kept) == wanted(some_variables())
    assert nvram.operations == []


def test_a_pending_write_is_a_recovery():
    image, area = interrupted_reclaim(done=4)
    expected = values(find_stores(bytes(volume_bytes(many(0)))[:0] + bytes(area) + bytes(
        volume_bytes()[0xE000:]))[0])  # fmt: skip
    rescued(image, "recover", expected, every=5)


# --- spare ----------------------------------------------------------------------------------


@pytest.mark.parametrize("work", mostly_slow(2, [0x00, None, 0xFF, 0x55]))
@pytest.mark.parametrize("erased", [1, 6, 14])
def test_an_erased_variable_area_comes_back_from_the_spare(work, erased):
    image = volume_bytes(many())
    in_spare(image, many())
    image[: erased * 0x1000] = b"\xff" * (erased * 0x1000)
    if work is not None:
        image[WORK] = bytes([work]) * 0x1000
    nvram = rescued(image, "spare", wanted(many()), every=4)
    assert not [s for s in nvram.operations if isinstance(s, Erase) and s.address >= SPARE]


def test_a_store_that_looks_whole_and_has_only_some_of_the_spare_is_half_copied():
    image = volume_bytes(many())
    in_spare(image, many())
    first = find_stores(bytes(image))[0].store.records[5].end
    image[first:0xE000] = b"\xff" * (0xE000 - first)
    image[WORK] = bytes(0x1000)
    rescued(image, "spare", wanted(many()), every=5)


def test_with_a_good_queue_a_store_that_has_less_than_the_spare_is_the_newer_one():
    image = volume_bytes(some_variables(2))
    in_spare(image, some_variables(5))
    assert diagnose(assumed(image)).choice == "nothing"


@pytest.mark.parametrize("layout", [OVMF_4M, AAVMF], ids=lambda item: item.name)
def test_other_layouts_come_back_from_the_spare(layout):
    block = 0x40000 if layout is AAVMF else 0x1000
    image = volume_bytes(some_variables(), layout, block=block)
    spare = layout.spare.address
    image[spare : spare + layout.variables] = image[: layout.variables]
    image[:0x2000] = b"\xff" * 0x2000
    image[layout.work.address : layout.work.end] = b"\xff" * layout.work.length
    nvram = assumed(image, layout)
    done = rescue(nvram)
    assert done.choice == "spare"
    assert values(nvram.found) == wanted(some_variables())
    assert nvram.found.healthy, nvram.found.anomalies


# --- keep -----------------------------------------------------------------------------------


def test_a_lost_work_space_beside_an_older_copy_is_renewed_in_place():
    new = [*some_variables(5), variable("Later", b"!")]
    image = volume_bytes(new)
    in_spare(image, some_variables(5))
    image[WORK] = b"\x55" * 0x1000
    nvram = rescued(image, "keep", wanted(new))
    assert nvram.flash.window().data[SPARE:] == image[SPARE:], "the spare is left alone"
    assert nvram.flash.window().data[:0xE000] == image[:0xE000]


def test_a_write_that_cannot_be_believed_is_dropped_over_a_sound_store():
    image = volume_bytes(some_variables(), entries=(entry(header=0xFC, record=0xFD),))
    nvram = rescued(image, "keep", wanted(some_variables()))
    assert sum(isinstance(step, Program) for step in nvram.operations) == 1
    assert not any(isinstance(step, Erase) for step in nvram.operations)


def test_of_two_live_records_the_one_that_firmware_finds_is_kept():
    image = volume_bytes([*some_variables(3), variable("Variable1", b"second")])
    nvram = rescued(image, "keep", wanted(some_variables(3)))
    (step,) = nvram.operations
    assert step.data == bytes([State.DELETED])
    assert "other live record" in diagnose(assumed(image)).lost[0]


# --- headers --------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [0, 1, 16, 40, 60, 71, 72, 73, 90, 92, 93])
def test_half_written_headers_are_completed_without_an_erase(whole):
    image = volume_bytes(some_variables())
    image[whole:0x64] = b"\xff" * (0x64 - whole)
    nvram = rescued(image, "headers", wanted(some_variables()))
    assert not [step for step in nvram.operations if isinstance(step, Erase)]
    assert nvram.flash.window().data[:0xE000] == volume_bytes(some_variables())[:0xE000]


@pytest.mark.parametrize(
    ("at", "data"),
    [(0, bytes(72)), (0x21, b"\1"), (0x2C, b"\x01"), (0x48, bytes(28)), (0x58, bytes(4)),
     (0x5C, b"\0"), (0x5D, b"\0"), (0, bytes(0x64)), (0, b"\x55" * 0x64)],
)  # fmt: skip
def test_damaged_headers_are_written_anew(at, data):
    image = volume_bytes(many(20))
    image[at : at + len(data)] = data
    rescued(image, "headers", wanted(many(20)), every=4)


def test_damaged_headers_do_not_bring_back_an_older_copy():
    new = [*some_variables(4), variable("Later", b"!")]
    image = volume_bytes(new)
    in_spare(image, some_variables(5))
    image[:0x48] = bytes(0x48)
    rescued(image, "headers", wanted(new), every=4)


# --- salvage --------------------------------------------------------------------------------


def test_what_lies_behind_a_damaged_record_is_found():
    image = volume_bytes(many(40))
    record = find_stores(bytes(image))[0].store.records[7]
    image[record.offset + 36 : record.offset + 44] = b"\0\0\xff\0\0\0\xff\0"
    expected = wanted(item for item in many(40) if item.name != "Setting7")
    nvram = rescued(image, "salvage", expected, every=5)
    assert nvram.found.store.tail.count(b"\xff") == len(nvram.found.store.tail)
    (lost,) = diagnose(assumed(image)).lost
    assert f"0x{record.offset:06X}" in lost


def test_a_lost_start_id_does_not_lose_what_follows():
    image = volume_bytes(many(40))
    in_spare(image, many(40)[:20])
    record = find_stores(bytes(image))[0].store.records[3]
    image[record.offset] = 0
    found = diagnose(assumed(image))
    assert found.choice == "salvage"
    assert wanted(found.variables) == wanted(many(40)), "the damaged one is in the spare"
    rescued(image, "salvage", wanted(many(40)), every=7)


@pytest.mark.slow
def test_two_damaged_copies_give_one_whole_store():
    image = volume_bytes(many(60))
    in_spare(image, many(60))
    image[:0x3000] = b"\xff" * 0x3000
    image[SPARE + 0x6000 : SPARE + 0x7000] = bytes(0x1000)
    image[WORK] = b"\xff" * 0x1000
    rescued(image, "salvage", wanted(many(60)), every=11)


@pytest.mark.slow
def test_a_broken_spare_alone_is_written_over_an_area_without_variables():
    image = volume_bytes([])
    in_spare(image, many(60))
    image[:0xE000] = bytes(0xE000)
    image[SPARE + 0x6000 : SPARE + 0x6400] = bytes(0x400)
    nvram = assumed(image)
    found = diagnose(nvram)
    assert found.choice == "salvage"
    assert 50 < len(found.variables) < 60
    rescued(image, "salvage", wanted(found.variables), every=4)


def test_values_that_look_like_records_are_not_taken_for_variables():
    inner = variable("Inner", b"inside").build()
    records = [variable("Outer", b"\0" * 2 + inner + inner), *many(10)]
    image = volume_bytes(records)
    broken = find_stores(bytes(image))[0].store.records[4]
    image[broken.offset] = 0
    expected = wanted(item for item in records if item.name != "Setting3")
    found = diagnose(assumed(image))
    assert wanted(found.variables) == expected


def test_no_room_to_put_records_aside_is_refused_before_anything_is_done():
    noise = bytes(random.Random(7).randbytes(0xE000))
    image = volume_bytes([])
    image[:0xE000] = noise
    image[0x100:0x2000] = volume_bytes(many(12))[0x64 : 0x64 + 0x1F00]
    in_spare(image, many(60)[20:])
    image[SPARE + 0x6000 : SPARE + 0x6400] = bytes(0x400)
    nvram = assumed(image)
    with pytest.raises(ImageError) as caught:
        rescue(nvram)
    assert caught.value.code == "rescue.no-room"
    assert nvram.operations == []


# --- lost, fresh ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0xFF, 0x00])
@pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M, AAVMF], ids=lambda item: item.name)
def test_a_blank_volume_is_lost_and_made_anew_only_when_asked(layout, value):
    image = bytes([value]) * layout.length
    nvram = assumed(image, layout)
    found = diagnose(nvram)
    assert found.choice == "lost"
    assert f"all {value:02X}" in found.lost[0]
    with pytest.raises(ImageError) as caught:
        rescue(nvram)
    assert caught.value.code == "rescue.lost"
    assert nvram.operations == []
    assert rescue(nvram, fresh=True).choice == "fresh"
    (again,) = find_stores(nvram.flash.window().data)
    assert again.healthy, again.anomalies
    assert again.store.records == ()
    assert again.areas.layout == layout.name
    block = 0x40000 if layout is AAVMF else 0x1000
    made = volume_bytes([], layout, block=block)
    assert nvram.flash.window().data[: layout.variables] == made[: layout.variables]


def test_a_volume_that_ovmf_wiped_is_said_to_be_lost():
    image = bytearray(b"\xff" * 0x20000)
    image[:0x48] = volume_bytes()[:0x48]
    found = diagnose(opened(image))
    assert found.choice == "lost"
    assert "wiped" in found.lost[0]
    assert "spare area is erased" in found.lost[0]


def test_an_empty_store_is_not_a_lost_one():
    assert diagnose(opened(volume_bytes([]))).choice == "nothing"


def test_fresh_is_an_option_that_says_what_it_drops():
    nvram = opened(volume_bytes(some_variables(3)))
    done = rescue(nvram, choice="fresh")
    assert done.kept == ()
    assert len(done.lost) == 3
    assert nvram.found.store.records == ()


# --- told what to do ------------------------------------------------------------------------


def test_a_choice_that_is_not_possible_is_refused():
    nvram = opened(volume_bytes(some_variables()))
    with pytest.raises(ImageError) as caught:
        rescue(nvram, choice="spare")
    assert caught.value.code == "rescue.choice"


def test_the_spare_can_be_chosen_over_what_is_in_place():
    new = [*some_variables(5), variable("Later", b"!")]
    image = volume_bytes(new)
    in_spare(image, some_variables(5))
    image[WORK] = b"\x55" * 0x1000
    nvram = assumed(image)
    done = rescue(nvram, choice="spare")
    assert values(nvram.found) == wanted(some_variables(5))
    assert len(done.lost) == 1
    assert "Later" in done.lost[0]


def test_shared_erase_blocks_are_refused():
    image = volume_bytes(many())
    in_spare(image, many())
    image[:0x1000] = b"\xff" * 0x1000
    window = Window(bytes(image))
    nvram = Nvram(window, assume(window, OVMF_2M), erase_size=0x10000)
    assert diagnose(nvram).choice == "spare"
    with pytest.raises(ImageError) as caught:
        rescue(nvram)
    assert caught.value.code == "uefi.erase-block"


def test_names_and_guids_keep_variables_apart():
    records = [variable("Same", b"one"), variable("Same", b"two", guid=OTHER)]
    image = volume_bytes([*records, *many(5)])
    image[:0x48] = bytes(0x48)
    nvram = assumed(image)
    rescue(nvram)
    assert nvram.found.store.find("Same", GUID).data == b"one"
    assert nvram.found.store.find("Same", OTHER).data == b"two"


def test_variables_in_deleted_transition_are_kept():
    records = [*many(5), replace(variable("Moving", b"old"), state=0x3E)]
    image = volume_bytes(records)
    image[find_stores(bytes(image))[0].store.records[2].offset] = 0
    assert "Moving" in {record.name for record in diagnose(assumed(image)).variables}


# --- anything -------------------------------------------------------------------------------


@settings(max_examples=examples(60), deadline=2000)
@given(
    st.integers(0, 14),
    st.lists(st.tuples(st.integers(0, 0x1FFFF), st.binary(min_size=1, max_size=60)), max_size=15),
)
def test_a_damaged_volume_is_rescued_or_refused(done, changes):
    image, _ = interrupted_reclaim(done=done)
    for at, data in changes:
        image[at : at + len(data)] = data
    nvram = assumed(image[:0x20000])
    found = diagnose(nvram)
    if found.choice == "lost":
        return
    try:
        rescue(nvram)
    except ImageError as error:
        code, operations = error.code, nvram.operations
    else:
        assert values(nvram.found) == wanted(found.variables)
        assert nvram.found.healthy, nvram.found.anomalies
        return
    assert code in ("rescue.no-room", "uefi.store-full")
    assert operations == []


def mangled(seed: int) -> bytes:
    """Two copies of a store, one older, with holes, noise and a lost or a good work space."""
    rng = random.Random(seed)
    states = [0x3F] * 8 + [0x3E, 0x3C, 0x3D]
    records = [
        replace(item, state=rng.choice(states))
        for item in many(rng.randrange(1, 50), rng.choice([30, 300, 500]))
    ]
    older = [item for item in records if rng.random() < 0.9]
    if rng.random() < 0.5:
        older.append(variable("Older", b"x" * 40))
    image = volume_bytes(records)
    in_spare(image, older)
    if rng.random() < 0.5:
        image[WORK] = bytes([rng.choice([0, 255, 0x55])]) * 0x1000
    for _ in range(rng.randrange(1, 6)):
        at = rng.choice([0, 0, SPARE])
        block = at + rng.randrange(14) * 0x1000
        noise = at + rng.randrange(0x8000)
        change = rng.choice(["erased", "noise", "header", "zeros"])
        if change == "erased":
            image[block : block + 0x1000] = b"\xff" * 0x1000
        elif change == "header":
            image[at + rng.randrange(100)] = rng.randrange(256)
        else:
            data = rng.randbytes(60) if change == "noise" else bytes(rng.randrange(1, 0x900))
            image[noise : noise + len(data)] = data
    return bytes(image)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_a_rescue_that_is_cut_comes_to_the_same_variables(seed):
    image = mangled(seed)
    nvram = assumed(image)
    found = diagnose(nvram)
    if found.choice == "lost":
        return
    rescue(nvram)
    assert values(nvram.found) == wanted(found.variables)
    states = list(interrupted(image, nvram.operations))
    for where, state in random.Random(seed).sample(states, min(20, len(states))):
        second = assumed(state)
        rescue(second)
        assert values(second.found) == wanted(found.variables), where
        assert second.found.healthy, where


@settings(max_examples=examples(30), deadline=2000)
@given(st.integers(0, 2**32), st.sampled_from([b"", b"\xaa\x55", b"\xaa\x55\x3f\0"]))
def test_noise_never_gives_a_traceback(seed, pattern):
    noise = bytearray(random.Random(seed).randbytes(0x20000))
    if pattern:
        noise = bytearray(pattern * (0x20000 // len(pattern)))
        noise[seed % 0x1FFF0 : seed % 0x1FFF0 + 8] = random.Random(seed).randbytes(8)
    nvram = assumed(noise[:0x20000])
    if diagnose(nvram).choice == "lost":
        with pytest.raises(ImageError):
            rescue(nvram)
