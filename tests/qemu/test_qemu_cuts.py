"""Cut images, which of them are tried, and what is taken for a loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
from uefi.volumes import OVMF_2M, some_variables, variable, volume_bytes

from hwflash.chip.strict import bits_to_set
from hwflash.errors import ImageError
from hwflash.qemu.cut_changes import (
    GONE,
    TARGET,
    firmwares_order,
    half_full,
    reclaim_start,
    rewrites,
)
from hwflash.qemu.cut_judge import (
    MTC,
    PowerOn,
    Variables,
    store_of,
    variables_of,
    verdict,
    with_records,
)
from hwflash.qemu.cuts import chosen, cut_images, phase_by_reason, some_cuts
from hwflash.uefi.find import find_stores
from hwflash.uefi.flashops import Erase, Program, carried_out
from hwflash.uefi.window import Window


def counter(value: int):
    return variable(MTC[0], value.to_bytes(4, "little"), MTC[1], attributes=7)


WARM = bytes(volume_bytes([counter(7), *some_variables()]))


def test_cuts_come_in_order_and_end_with_everything_done():
    start = bytes(range(0x80)) * 0x20 + b"\xff" * 0x1000
    steps = [Erase(0, 0x1000, "erase"), Program(0x10, b"\x0f" * 0x1800, "write")]
    cuts = list(cut_images(start, steps, phase_by_reason))
    assert cuts[0].image == start
    assert (cuts[0].phase, cuts[0].how) == ("before", "after")
    assert cuts[-1].image == carried_out(Window(start), steps).data
    assert [cut.number for cut in cuts] == list(range(len(cuts)))
    assert len({cut.image for cut in cuts}) == len(cuts)
    hows = [cut.how for cut in cuts if cut.phase == "erase"]
    assert hows == ["first half", "cleared, not erased", "some bits", "after"]
    assert "program 0x001000+0x810" in {cut.where for cut in cuts}, "block by block"
    erased = next(cut for cut in cuts if cut.phase == "erase" and cut.how == "after").image
    for cut in cuts:
        if cut.phase == "write":
            assert list(bits_to_set(0, erased, cut.image)) == []


def test_what_was_observed_is_torn_between_bytes_only():
    steps = [Erase(0, 0x1000), Program(0, b"\x00" * 0x1000)]
    start = b"\x55" * 0x1000
    cuts = list(cut_images(start, steps, phase_by_reason, atomic=True))
    zeros = [cut.image.count(0) for cut in cuts]
    assert zeros == sorted(zeros)
    assert cuts[1].image == b"\xff" * 0x1000
    assert 0x48 in zeros, "behind a volume header"


@pytest.mark.parametrize(
    ("phases", "count", "picked"),
    [
        ("aaaaabbb", 4, [0, 2, 5, 6]),
        ("aaaaaaaaa", 3, [0, 4, 8]),
        ("aaaaaaaaa", 5, [0, 2, 4, 6, 8]),
        ("aabbccdd", 2, [0, 4]),
        ("ab", 9, [0, 1]),
        ("", 3, []),
    ],
)
def test_every_phase_is_picked_from(phases: str, count: int, picked: list[int]):
    assert chosen(phases, count) == picked


def test_the_phases_of_the_firmwares_reclaim():
    change = firmwares_order(WARM, OVMF_2M)
    cuts = list(cut_images(change.start, change.operations, change.phase))
    phases = list(dict.fromkeys(cut.phase for cut in cuts))
    assert phases == [
        "before", "spare not complete", "spare complete",
        "volume header erased", "store header erased", "headers written, records not",
        "store copied",
        "destination complete", "complete",
    ]  # fmt: skip
    for cut in cuts:
        whole = cut.image[:0x48] == change.start[:0x48]
        assert whole != (cut.phase == "volume header erased"), cut
    assert len(change.cuts(12)) == 12
    assert {cut.phase for cut in change.cuts(9)} == set(phases)


def test_stores_that_are_cut():
    half, full = store_of(half_full(WARM, OVMF_2M)), store_of(reclaim_start(WARM, OVMF_2M))
    assert half.healthy
    assert full.healthy
    assert {counter(7).key, TARGET, GONE} < set(variables_of(half))
    assert len(full.tail) < 0x300
    for change in rewrites(WARM, OVMF_2M):
        (found,) = find_stores(carried_out(Window(change.start), change.operations).data)
        assert found.healthy
        assert variables_of(store_of(found.window.data)) == change.allowed[-1] != change.allowed[0]
        if change.name == "set in a full store":
            assert store_of(change.start).tail == b"", "the canary is a dead record's start id"
        erased = {step.address for step in change.operations if isinstance(step, Erase)}
        assert 0 not in erased
        assert bool(erased) == change.erases == (change.name != "set")
        assert len(some_cuts(change.start, change.operations, change.phase, 5)) == 5


def test_records_that_do_not_fit():
    with pytest.raises(ImageError, match="do not fit"):
        with_records(WARM, [variable("Large", bytes(0xF000))])


def booted(records, outcome="shell", impossible=()) -> PowerOn:
    return PowerOn(outcome, bytes(volume_bytes(records)), (), impossible, 3.0)


def test_what_is_a_loss():
    old: Variables = variables_of(store_of(WARM))
    new = old | {variable("New").key: (3, b"value")}
    same = some_variables()
    assert verdict(booted([counter(8), *same]), [old, new]) == ""
    assert verdict(booted([counter(8), *same, variable("New")]), [old, new]) == ""
    assert verdict(booted([counter(8), *same, variable("New")]), [old]) == (
        "New: there, and should not be"
    )
    assert verdict(booted([counter(7), *same]), [old]) == "MTC was 7 and is 7"
    assert verdict(booted(same), [old]) == "1 of 6 variables are lost"
    assert verdict(booted([counter(8), *same[1:]]), [old]) == "1 of 6 variables are lost"
    other = [variable(same[0].name, b"other"), *same[1:]]
    assert verdict(booted([counter(8), *other]), [old]) == f"{same[0].name}: another value"
    twice = [counter(8), *same, same[-1]]
    assert verdict(booted(twice), [old]).startswith("the store is damaged: ")
    hang = booted([counter(8), *same], outcome="hang")
    assert verdict(hang, [old]) == "the firmware hangs"
    set_bits = booted([counter(8), *same], impossible=("0x000100: 1 byte, first 00 to FF",))
    assert verdict(set_bits, [old]).startswith("1 programs set bits: 0x000100")
    gone = replace(set_bits, impossible=(), image=b"\xff" * 0x20000)
    assert verdict(gone, [old]) == "there is no store any more"
    assert verdict(booted([counter(1), *same]), [{}], any_new=True) == ""
    assert verdict(booted(same), [{}], any_new=True) == "the firmware has not written MTC"
