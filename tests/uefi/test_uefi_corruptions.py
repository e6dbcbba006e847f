"""Destroyed header fields: where they are, what the check says, and that a rescue keeps it all."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import mostly_slow
from volumes import AAVMF, OVMF_2M, OVMF_4M, some_variables, variable, volume_bytes

from hwflash.errors import ImageError
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.check import check
from hwflash.uefi.corruptions import ELEVEN, SEALED, Corruption
from hwflash.uefi.find import Found, find_stores, read_at
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.outlook import ARM, PLAIN, SMM
from hwflash.uefi.recover import recover
from hwflash.uefi.rescue import rescue
from hwflash.uefi.volume import parse_volume
from hwflash.uefi.window import Window
from hwflash.units import Range

EVERY = (*ELEVEN, *SEALED)
NAMES = {item.name: item for item in EVERY}
BLOCK = {OVMF_2M: 0x1000, OVMF_4M: 0x1000, AAVMF: 0x40000}
#: No firmware minds: it is in nothing but the checksum.
HARMLESS = "volume-zero-vector-sealed"


@cache
def healthy(layout: KnownLayout = OVMF_2M, kind: str = "authenticated", base: int = 0) -> Found:
    records = [variable(f"V{n}", bytes([n]) * (n * 7 + 1), kind=kind) for n in range(20)]
    image = bytes(volume_bytes(records, layout, block=BLOCK[layout], kind=kind))
    (found,) = find_stores(bytes(base) + image)
    return found


def seen(image: bytes, base: int = 0) -> Found:
    (found,) = find_stores(image)
    assert found.base == base
    return found


def values(found: Found) -> dict:
    assert found.store is not None
    return {item.key: (item.attributes, item.data) for item in found.store.live}


def repaired(image: bytes, found: Found) -> Found:
    nvram = Nvram(Window(image), found)
    rescue(nvram)
    return nvram.found


def test_the_fields_are_those_of_edk2s_headers():
    places = [(item.name, item.header, item.offset, item.size) for item in ELEVEN]
    assert places == [
        ("volume-zero-vector", "volume", 0, 16), ("volume-guid", "volume", 16, 16),
        ("volume-length", "volume", 32, 8), ("volume-signature", "volume", 40, 4),
        ("volume-checksum", "volume", 50, 2), ("block-map-0", "volume", 56, 8),
        ("block-map-1", "volume", 64, 8), ("store-signature", "store", 0, 16),
        ("store-size", "store", 16, 4), ("store-format", "store", 20, 1),
        ("store-state", "store", 21, 1),
    ]  # fmt: skip
    assert len(SEALED) == 6
    assert len(NAMES) == len(EVERY)


@pytest.mark.parametrize("corruption", EVERY, ids=lambda item: item.name)
def test_nothing_but_the_field_and_the_checksum_changes(corruption: Corruption):
    found = healthy(base=0x3000)
    good = found.window.data
    for pattern in ("inverted", "erased", "cleared"):
        bad = corruption.of(found, pattern)
        place = corruption.place(found)
        field = set(range(place.address, place.end))
        differ = {at for at, (old, new) in enumerate(zip(good, bad, strict=True)) if old != new}
        assert differ - field <= ({0x3032, 0x3033} if corruption.sealed else set())
        if pattern == "inverted":
            assert differ >= field
        volume = parse_volume(Window(bad), 0x3000)
        assert volume.checksum_ok or (corruption.header == "volume" and not corruption.sealed)


@pytest.mark.parametrize("corruption", EVERY, ids=lambda item: item.name)
@pytest.mark.parametrize("layout", mostly_slow(1, BLOCK), ids=lambda item: item.name)
def test_what_is_destroyed_is_seen_and_repaired_with_every_variable(
    layout: KnownLayout, corruption: Corruption
):
    for kind in ("authenticated", "plain"):
        found = healthy(layout, kind)
        for pattern in ("inverted", "erased", "cleared")[: 3 if layout is OVMF_2M else 1]:
            bad = corruption.of(found, pattern)
            report = check(seen(bad))
            if bad == found.window.data or corruption.name == HARMLESS:
                assert report.repair == "none"
                assert report.ok
                continue
            assert report.repair == "rescue", pattern
            assert not report.ok
            after = repaired(bad, seen(bad))
            assert after.healthy
            assert values(after) == values(found)
            assert after.store is not None
            assert after.store.kind == kind
            assert check(after).ok


def test_a_place_in_the_middle_of_an_image_is_repaired_there():
    found = healthy(base=0x6000)
    bad = NAMES["volume-length"].of(found)
    after = repaired(bad, seen(bad, 0x6000))
    assert after.healthy
    assert values(after) == values(found)
    assert after.window.data[:0x6000] == bytes(0x6000)


@pytest.mark.parametrize("corruption", EVERY, ids=lambda item: item.name)
def test_a_recovery_alone_writes_nothing_over_a_destroyed_header(corruption: Corruption):
    bad = corruption.of(healthy())
    nvram = Nvram(Window(bad), seen(bad))
    try:
        recover(nvram)
    except ImageError:
        assert nvram.operations == []
    assert nvram.flash.window().data[:0xE000] == bad[:0xE000]


@pytest.mark.parametrize(
    ("name", "fates"),
    [
        ("volume-checksum", ("erases the whole", "erases the whole", "empty store")),
        ("volume-guid-sealed", ("nothing is erased", "nothing is erased", "empty store")),
        ("block-map-0-sealed", ("erases the whole", "erases the whole", "boots")),
        ("block-map-1-sealed", ("boots", "boots", "boots")),
        ("store-signature", ("exception", "exception", "empty one")),
        ("store-size", ("hangs", "exception", "empty one")),
        ("store-format", ("exception", "exception", "exception")),
        (HARMLESS, ("boots", "boots", "boots")),
    ],
)
def test_each_kind_of_firmware_is_foretold_as_it_was_measured(name: str, fates: tuple[str, ...]):
    told = {}
    for layout in (OVMF_2M, AAVMF):
        report = check(seen(NAMES[name].of(healthy(layout))))
        told |= {item.firmware: item for item in report.outlook}
    for kind, words in zip((PLAIN, SMM, ARM), fates, strict=True):
        assert words in told[kind].text
        assert (told[kind].severity == "error") == (words != "boots")


@pytest.mark.parametrize("length", [0x10000, 0x84000, 0xC0000, 0x21000])
def test_a_wrong_length_that_looks_right_does_not_move_the_parts(length: int):
    """Under a right checksum, and of another build: the parts say what it should be."""
    found = healthy()
    volume = parse_volume(found.window, 0)
    head = replace(volume, length=length).with_checksum().build()
    bad = (head + found.window.data[len(head) :]).ljust(0xC0000, b"\xff")
    (there,) = find_stores(bad)
    assert there.areas.layout == "OVMF 1M/2M"
    assert "volume.length" in {item.code for item in check(there).problems}
    after = repaired(bad, there)
    assert after.healthy
    assert values(after) == values(found)


def test_a_header_length_that_leads_past_the_records_loses_none():
    found = healthy()
    head = bytearray(found.window.data[:0x48])
    head[48] = 0x4A
    head = parse_volume(Window(bytes(head)), 0).with_checksum().build()
    bad = head[:0x48] + found.window.data[0x48:]
    after = repaired(bad, seen(bad))
    assert after.healthy
    assert values(after) == values(found)


@settings(deadline=None)
@given(st.integers(0, 0x63), st.integers(1, 255), st.booleans())
def test_any_damaged_byte_of_the_headers_is_survived(at: int, flip: int, sealed: bool):
    found = healthy()
    bad = bytearray(found.window.data)
    bad[at] ^= flip
    if sealed and at < 0x48 and at not in (50, 51):
        total = sum(int.from_bytes(bad[n : n + 2], "little") for n in range(0, 0x48, 2))
        total -= int.from_bytes(bad[50:52], "little")
        bad[50:52] = (-total & 0xFFFF).to_bytes(2, "little")
    there = seen(bytes(bad))
    assert values(repaired(bytes(bad), there)) == values(found)


@pytest.mark.parametrize("corruption", EVERY, ids=lambda item: item.name)
def test_a_board_that_names_the_places_can_be_rescued_too(corruption: Corruption):
    found = healthy()
    bad = corruption.of(found)
    areas = found.areas
    there = read_at(bad, areas.variables, areas.work, areas.spare)
    assert values(repaired(bad, there)) == values(found)


#: A layout of nobody's: only the headers say where the parts are.
OWN = KnownLayout("own", 0x1C000, 0xD000, Range(0xD000, 0x1000), Range(0xE000, 0xE000))


@pytest.mark.parametrize("name", ["volume-zero-vector", "volume-guid", "volume-signature"])
def test_the_checksum_proves_the_rest_of_a_header_of_a_layout_that_nobody_knows(name: str):
    (found,) = find_stores(bytes(volume_bytes(some_variables(), OWN)))
    assert found.areas.layout == "derived"
    bad = NAMES[name].of(found)
    after = repaired(bad, seen(bad))
    assert after.healthy
    assert after.window.data[:0x48] == found.window.data[:0x48]
    assert values(after) == values(found)


@pytest.mark.parametrize("name", ["volume-length", "volume-checksum", "block-map-0"])
def test_what_nothing_proves_is_refused_with_the_reason(name: str):
    (found,) = find_stores(bytes(volume_bytes(some_variables(), OWN)))
    bad = NAMES[name].of(found)
    nvram = Nvram(Window(bad), seen(bad))
    assert not check(nvram.found).ok
    with pytest.raises(ImageError) as caught:
        rescue(nvram)
    assert caught.value.code in ("rescue.no-volume", "ftw.no-work-space", "uefi.block-size")
    assert nvram.operations == []


def test_a_store_without_a_header_cannot_lose_it():
    image = bytearray(volume_bytes(some_variables()))
    image[0x48:0x58] = bytes(16)
    (found,) = find_stores(bytes(image))
    with pytest.raises(ImageError) as caught:
        NAMES["store-size"].of(found)
    assert caught.value.code == "uefi.no-store"
