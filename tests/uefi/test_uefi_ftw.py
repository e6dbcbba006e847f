from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from volumes import CALLER, OVMF_2M, OVMF_4M, entry, some_variables, volume_bytes

from hwflash.errors import ImageError
from hwflash.uefi.find import find_stores
from hwflash.uefi.ftw import (
    WriteEntry,
    WriteRecord,
    entry_size,
    make_work_space,
    parse_work_space,
)
from hwflash.uefi.guids import NV_VOLUME
from hwflash.uefi.window import Window

# As it stands at 0x41000 of OVMF_VARS_4M.fd and 0xF000 of OVMF_VARS.fd (Debian ovmf 2022.11-6).
GOLDEN = bytes.fromhex(
    "2b29589e687c7d49a0ce6500fd9f1b95 2caf2c64 fe ffffff e00f000000000000".replace(" ", "")
)


def test_the_header_is_that_of_ovmf():
    space = make_work_space(0x1000)
    assert space.header() == GOLDEN
    assert space.valid
    assert space.size == 0x1000
    assert space.build() == GOLDEN + b"\xff" * 0xFE0
    assert space.free == 0xFE0


def test_the_crc_is_that_of_aavmf():
    assert make_work_space(0x40000).crc == 0x86C6E75B


def test_structures_have_their_flags_in_their_places():
    record = WriteRecord(0, lba=1, start=2, length=3, relative_offset=-4, flags=0xF9)
    assert record.build().hex() == (
        "f9ffffffffffffff 0100000000000000 0200000000000000 0300000000000000 fcffffffffffffff"
    ).replace(" ", "")
    assert (record.boot_block_update, record.spare_complete, record.destination_complete) == (
        False, True, True,
    )  # fmt: skip
    item = WriteEntry(0, CALLER, 1, 0, flags=0xFA, records=(record,))
    assert item.build()[:40].hex() == (
        "faffffff 76ea5cfe724fe849986f2cd899dffe5d ffffffff 0100000000000000 0000000000000000"
    ).replace(" ", "")
    assert (item.header_allocated, item.writes_allocated, item.complete) == (True, False, True)
    assert item.total_size == entry_size(1, 0) == 80


@pytest.mark.parametrize(
    ("state", "meaning"),
    [(0xFE, "valid"), (0xFC, "being-replaced"), (0xFD, "invalid"), (0xFF, "not-yet-valid")],
)
def test_the_state_byte_has_a_meaning(state, meaning):
    data = bytearray(make_work_space(0x1000).build())
    data[20] = state
    space = parse_work_space(Window(bytes(data), 0x5000), 0x5000)
    assert space.crc_ok, "the CRC does not cover the state"
    assert space.state == meaning
    assert space.build() == data
    assert [item.offset for item in space.anomalies] == ([] if state == 0xFE else [0x5014])


@pytest.mark.parametrize(("at", "code"), [(0, "signature"), (16, "crc"), (24, "crc")])
def test_a_damaged_header_is_named(at, code):
    data = bytearray(make_work_space(0x1000).build())
    data[at] ^= 1
    space = parse_work_space(Window(bytes(data)), 0)
    assert space.state == "damaged"
    assert f"ftw.{code}" in [item.code for item in space.anomalies]
    assert space.build() == data[: len(space.build())]


def test_old_firmware_signs_with_the_volumes_guid():
    space = make_work_space(0x1000, signature=NV_VOLUME)
    found = parse_work_space(Window(space.build()), 0)
    assert found.valid
    assert [item.code for item in found.anomalies] == ["ftw.old-signature"]


def test_fifty_entries_fit_into_4_kib():
    done = entry(header=0xF8, record=0xF9)
    data = bytearray(make_work_space(0x1000).build())
    data[32 : 32 + 50 * 80] = done.build() * 50
    space = parse_work_space(Window(bytes(data)), 0)
    assert len(space.entries) == 50
    assert space.pending is None
    assert space.free == 0x1000 - 32 - 4000 < 80
    assert space.build() == data
    assert space.anomalies == ()


@given(st.binary(max_size=600))
def test_any_queue_is_parsed_and_built_alike(queue):
    space = make_work_space(32 + len(queue))
    data = space.header() + queue
    found = parse_work_space(Window(data, 0x41000), 0x41000)
    assert found.build() == data


@given(st.binary(min_size=32, max_size=200))
def test_any_bytes_are_parsed_and_built_alike(data):
    found = parse_work_space(Window(data, 0x41000), 0x41000)
    assert found.build() == data[: len(found.build())]


def test_a_cut_header_is_an_error_with_its_place():
    with pytest.raises(ImageError, match="0x00F000") as caught:
        parse_work_space(Window(bytes(31), 0xF000), 0xF000)
    assert caught.value.code == "uefi.truncated"


@pytest.mark.parametrize("number", [102, 1 << 40, 2**64 - 1])
def test_an_entry_that_leaves_the_work_space_ends_the_queue(number):
    broken = replace(entry(header=0xF8, record=0xF9), number_of_writes=number)
    space = make_work_space(0x1000)
    data = bytearray(space.build())
    data[32:112] = broken.build()
    found = parse_work_space(Window(bytes(data)), 0)
    assert [item.code for item in found.anomalies][:1] == ["ftw.queue"]
    assert not found.walkable
    assert found.build() == data


# --- what the firmware would do -------------------------------------------------------------


def verdict(image: bytearray) -> str:
    (found,) = find_stores(bytes(image))
    return found.ftw.verdict


@pytest.mark.parametrize(
    ("header", "record", "expected"),
    [
        (0xFE, 0xFF, "abort"),
        (0xFC, 0xFF, "abort"),
        (0xFC, 0xFD, "replay"),
        (0xFC, 0xF9, "finish"),
        (0xF8, 0xF9, "idle"),
        (0xF8, 0xFF, "idle"),
        (0xFA, 0xFF, "idle"),
    ],
)
@pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M], ids=lambda item: item.name)
def test_the_verdict_is_the_drivers(layout, header, record, expected):
    item = entry(layout, header=header, record=record)
    if header == 0xFE:
        item = replace(item, records=())
    image = volume_bytes(some_variables(), layout, entries=(item,))
    (found,) = find_stores(bytes(image))
    assert found.ftw.verdict == expected
    assert (found.ftw.pending is not None) == (expected != "idle")
    assert found.healthy


def test_a_dirty_or_broken_queue_is_reclaimed():
    image = volume_bytes(entries=(entry(header=0xF8, record=0xF9),))
    image[OVMF_2M.work.address + 0x800] = 0
    assert verdict(image) == "reclaim-work-space"
    image = volume_bytes(entries=(replace(entry(header=0xF8), number_of_writes=1000),))
    assert verdict(image) == "reclaim-work-space"


def test_a_damaged_work_space_is_restored_from_its_copy_in_the_spare():
    image = volume_bytes(some_variables())
    work = slice(OVMF_2M.work.address, OVMF_2M.work.end)
    spare = OVMF_2M.spare.address
    image[spare : spare + 0x1000] = image[work]
    image[work] = b"\xff" * 0x1000
    (found,) = find_stores(bytes(image))
    assert found.ftw.verdict == "restore-work-space"
    assert found.ftw.spare_holds == "work-space"
    assert [item.code for item in found.ftw.anomalies] == ["ftw.missing"]


@pytest.mark.parametrize("value", [0x00, 0xFF, 0x55])
def test_a_work_space_without_a_copy_is_initialised(value):
    image = volume_bytes(some_variables())
    image[OVMF_2M.work.address : OVMF_2M.work.end] = bytes([value]) * 0x1000
    assert verdict(image) == "initialise-work-space"


def test_an_old_copy_in_the_spare_is_seen_and_not_current():
    image = volume_bytes(some_variables())
    spare = OVMF_2M.spare.address
    image[spare : spare + 0xE000] = image[:0xE000]
    (found,) = find_stores(bytes(image))
    assert found.ftw.spare_holds == "store"
    assert found.ftw.spare_store is not None
    assert len(found.ftw.spare_store.live) == 5
    assert found.ftw.verdict == "idle"
    assert found.healthy


def test_status_bytes_in_the_spare_are_other():
    image = volume_bytes()
    spare = OVMF_2M.spare
    image[spare.address : spare.end] = b"\x80\x00" * (spare.length // 2)
    (found,) = find_stores(bytes(image))
    assert found.ftw.spare_holds == "other"
    assert found.healthy
