"""Remains of a header behind the last record: closed in place, whatever the cut has left."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uefi.volumes import OVMF_2M, OVMF_4M, some_variables, variable, volume_bytes

from hwflash.uefi.find import find_stores
from hwflash.uefi.flashops import carried_out
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import State
from hwflash.uefi.rewrite import reclaim
from hwflash.uefi.seal import seal_tail
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window, filled_with

SIZES = {"authenticated": 60, "plain": 32}


def nvram_of(image: bytes) -> Nvram:
    window = Window(bytes(image))
    return Nvram(window, find_stores(window)[0])


def torn(image: bytearray, header: bytes, seed: int) -> int:
    """Program a header, not to its end: any of its bits may still be set. Gives its place."""
    chance = random.Random(seed)
    at = nvram_of(image).store.free_offset
    for index, byte in enumerate(header):
        image[at + index] = byte | chance.getrandbits(8)
    # A header whose start id came through is a record, and not what this is about.
    image[at + 1] |= 0x80
    return at


@pytest.mark.parametrize("kind", ["authenticated", "plain"])
@given(
    seed=st.integers(0, 1 << 32),
    name=st.text(st.characters(min_codepoint=0x41, max_codepoint=0x5A), min_size=1, max_size=40),
    data=st.binary(max_size=300),
)
def test_remains_of_any_header_become_a_deleted_record(kind, seed, name, data):
    image = volume_bytes([variable("Keep", b"kept", kind=kind)], OVMF_2M, kind=kind)
    header = variable(name, data, kind=kind, state=State.ERASED).build()[: SIZES[kind]]
    at = torn(image, header, seed)
    nvram = nvram_of(image)
    assert seal_tail(nvram)
    store = nvram.store
    assert store.healthy
    assert filled_with(store.tail, 0xFF)
    last = store.records[-1]
    assert (last.offset, last.state) == (at, State.DELETED_AFTER_TRANSITION)
    assert last.name_size >= 4
    assert last.name_size % 2 == 0
    assert last.name_bytes[-2:] == b"\0\0"
    assert {record.name for record in store.live} == {"Keep"}


def test_a_power_cut_while_closing_leaves_remains_or_the_record():
    image = volume_bytes(some_variables(), OVMF_4M)
    header = variable("Torn", b"data", state=State.ERASED).build()[:60]
    torn(image, header, 7)
    nvram = nvram_of(image)
    assert seal_tail(nvram)
    for count in range(len(nvram.operations) + 1):
        cut = carried_out(Window(bytes(image)), nvram.operations[:count])
        again = nvram_of(cut.data)
        assert len(again.store.live) == 5
        assert seal_tail(again)
        assert again.store.healthy
        VariableServices(again).set_variable("New", variable("x").guid, 3, b"\1")
        assert len(again.store.live) == 6
        assert not any(type(item).__name__ == "Erase" for item in again.operations)


def test_what_is_no_header_is_left_alone():
    image = volume_bytes(some_variables(), OVMF_4M)
    at = nvram_of(image).store.free_offset
    for place, byte in ((at, 0x00), (at + 200, 0xFE)):
        other = bytearray(image)
        other[place] = byte
        nvram = nvram_of(other)
        assert not seal_tail(nvram)
        assert nvram.operations == []


def test_a_clean_store_needs_nothing():
    nvram = nvram_of(volume_bytes(some_variables()))
    assert seal_tail(nvram)
    assert nvram.operations == []


def test_a_reclaim_closes_remains_in_the_first_block():
    image = volume_bytes([variable("Keep", b"kept"), variable("Gone", state=State.DELETED)])
    header = variable("Torn", b"data", state=State.ERASED).build()[:60]
    torn(image, header, 11)
    nvram = nvram_of(image)
    reclaim(nvram, adding=variable("New", bytes(0x1000)))
    assert {record.name for record in nvram.store.live} == {"Keep", "New"}
    assert nvram.store.healthy
