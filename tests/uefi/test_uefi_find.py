from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples, pattern
from volumes import AAVMF, OVMF_2M, OVMF_4M, entry, some_variables, variable, volume_bytes

from hwflash.errors import ImageError
from hwflash.uefi.find import find_stores, read_at
from hwflash.uefi.foreign import identify
from hwflash.uefi.ftw import make_work_space
from hwflash.uefi.guids import AUTHENTICATED_STORE, NV_VOLUME, PLAIN_STORE, WORK_SPACE
from hwflash.uefi.store import make_store
from hwflash.uefi.volume import make_volume
from hwflash.uefi.window import Window, filled_with, find_guid
from hwflash.units import Range

LAYOUTS = pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M, AAVMF], ids=lambda item: item.name)


def codes(found) -> list[str]:
    return [item.code for item in found.anomalies]


@LAYOUTS
@pytest.mark.parametrize("at", [0, 0x10000, 0x123457], ids=["start", "aligned", "odd place"])
def test_a_volume_is_found_wherever_it_is(layout, at):
    volume = volume_bytes(some_variables(), layout)
    image = pattern(at) + bytes(volume) + pattern(0x3000, 7)
    (found,) = find_stores(image)
    assert (found.base, found.length) == (at, layout.length)
    assert found.areas.layout == layout.name
    assert found.areas.variables == Range(at, layout.variables)
    assert found.areas.work == Range(at + layout.work.address, layout.work.length)
    assert found.areas.spare == Range(at + layout.spare.address, layout.spare.length)
    assert [record.name for record in found.store.live] == [f"Variable{i}" for i in range(5)]
    assert all(record.offset > at for record in found.store.records)
    assert found.healthy
    assert found.anomalies == ()


def test_a_window_gives_offsets_of_the_image():
    (found,) = find_stores(Window(bytes(volume_bytes(some_variables())), 0x700000))
    assert found.base == 0x700000
    assert found.store.base == 0x700048
    assert found.store.live[0].offset == 0x700064
    assert found.ftw.work_space.base == 0x70F000


def test_all_stores_of_a_dump_are_found():
    first = volume_bytes([variable("First")])
    second = volume_bytes([variable("Second")], OVMF_4M)
    plain = make_store([variable("Third", kind="plain")], 0x1000, kind="plain").build()
    image = bytes(first) + bytes(first) + pattern(0x1234) + bytes(second) + bytes(64) + plain
    found = find_stores(image)
    assert [(item.base, item.store.live[0].name) for item in found] == [
        (0, "First"), (0x20000, "First"), (0x41234, "Second"), (0x41234 + 0x84000 + 64, "Third"),
    ]  # fmt: skip
    assert found[-1].store.kind == "plain"
    assert codes(found[-1])[0] == "areas.inferred"


def test_a_copy_in_the_spare_is_no_store_of_its_own():
    image = volume_bytes(some_variables())
    image[0x10000:0x1E000] = image[:0xE000]
    (found,) = find_stores(bytes(image))
    assert found.base == 0
    assert found.anomalies == ()


@LAYOUTS
def test_a_volume_whose_first_block_was_erased_is_found_by_its_spare(layout):
    image = volume_bytes(some_variables(), layout, entries=(entry(layout, record=0xFD),))
    spare, live = layout.spare.address, layout.variables
    image[spare : spare + live] = image[:live]
    image[: min(live, 0x4000)] = b"\xff" * min(live, 0x4000)
    (found,) = find_stores(pattern(0x8000) + bytes(image))
    assert found.base == 0x8000
    assert found.store is None
    assert found.volume is None
    assert found.ftw.verdict == "replay"
    assert found.ftw.spare_holds == "store"
    assert found.areas.layout == layout.name
    assert not found.healthy
    assert {"areas.inferred", "store.missing", "ftw.header-lost"} <= set(codes(found))
    (warning,) = (item for item in found.anomalies if item.code == "ftw.header-lost")
    assert "a copy with 5 variables" in warning.text


def test_a_volume_is_found_by_its_work_space_alone():
    image = volume_bytes(some_variables())
    image[:0xE000] = b"\xff" * 0xE000
    (found,) = find_stores(bytes(image))
    assert (found.base, found.store, found.areas.layout) == (0, None, "OVMF 1M/2M")
    assert found.ftw.work_space.valid
    assert "inferred" in found.anomalies[0].text


def test_a_store_whose_volume_header_is_torn_is_found():
    image = volume_bytes(some_variables())
    image[0x14:0x48] = b"\xff" * 0x34  # programmed up to the middle of the GUID
    (found,) = find_stores(bytes(image))
    assert found.base == 0
    assert len(found.store.live) == 5
    assert found.areas.spare == OVMF_2M.spare
    assert not found.healthy


def test_a_damaged_volume_length_is_seen_through():
    image = volume_bytes(some_variables())
    image[0x20:0x28] = (0x7FFF_0000).to_bytes(8, "little")
    second = volume_bytes([variable("Second")])
    found = find_stores(bytes(image) + bytes(second))
    assert [item.base for item in found] == [0, 0x20000]
    assert found[0].areas.spare == OVMF_2M.spare
    assert {"volume.checksum", "volume.length"} <= set(codes(found[0]))
    assert found[1].healthy


def test_a_volume_that_claims_too_much_does_not_hide_the_next():
    image = volume_bytes(some_variables())
    image[:0x48] = make_volume(0x90000, 0x1000).build()  # a right checksum over a wrong length
    second = volume_bytes([variable("Second")])
    found = find_stores(bytes(image) + bytes(second) + b"\xff" * 0x50000)
    assert found[0].areas.layout == "derived"
    assert len(found[0].store.live) == 5
    # Its spare is inferred up to the volume's end, so the second lies inside it as a copy would.
    assert found[0].areas.spare.end == 0x90000
    image[0xF000:0x10000] = b"\xff" * 0x1000
    found = find_stores(bytes(image) + bytes(second) + b"\xff" * 0x50000)
    assert [item.base for item in found] == [0, 0x20000]


def test_a_truncated_image_is_told_of():
    (found,) = find_stores(bytes(volume_bytes(some_variables())[:0x9000]))
    assert len(found.store.live) == 5
    assert not found.healthy
    assert {"volume.truncated", "store.size"} <= set(codes(found))


def test_an_erased_store_behind_a_volume_header_is_told_of():
    for value in (0x00, 0xFF):
        image = volume_bytes()
        image[0x48:0xE000] = bytes([value]) * (0xE000 - 0x48)
        (found,) = find_stores(bytes(image))
        assert found.store is None
        assert f"all {value:02X}" in found.anomalies[0].text
        assert found.anomalies[0].offset == 0x48


def test_a_store_of_another_size_than_its_layout_is_told_of():
    image = volume_bytes()
    image[0x58:0x5C] = (0x8000).to_bytes(4, "little")
    (found,) = find_stores(bytes(image))
    assert codes(found) == ["store.layout-size"]
    assert not found.healthy


def unknown_layout(*, block: int = 0x10000, work: int = 0x2E000) -> bytearray:
    """64 KiB blocks, variables and a work space of 8 KiB at the end of their third block."""
    image = bytearray(b"\xff" * 0x60000)
    image[:0x48] = make_volume(len(image), block).build()
    image[0x48:work] = make_store(some_variables(), work - 0x48, base=0x48).build()
    image[work : work + 0x2000] = make_work_space(0x2000).build()
    return image


def test_an_unknown_layout_is_derived_and_said_so():
    (found,) = find_stores(bytes(unknown_layout()))
    assert found.areas.layout == "derived"
    assert found.areas.work == Range(0x2E000, 0x2000)
    assert found.areas.spare == Range(0x30000, 0x30000)
    assert codes(found) == ["areas.derived"]
    assert found.healthy


def test_the_queue_tells_where_the_spare_is():
    image = unknown_layout()
    write = entry(record=0xF9, header=0xF8)
    write = write.build()[:72] + (-0x40000).to_bytes(8, "little", signed=True)
    image[0x2E020 : 0x2E020 + len(write)] = write
    (found,) = find_stores(bytes(image))
    assert found.areas.spare == Range(0x40000, 0x20000)
    assert "FTW queue" in found.anomalies[0].text


def test_a_volume_without_a_work_space_is_told_of():
    image = unknown_layout()
    image[0x2E000:0x30000] = b"\xff" * 0x2000
    (found,) = find_stores(bytes(image))
    assert codes(found) == ["areas.no-work-space"]
    assert found.areas.spare is None


def test_a_store_is_read_where_a_board_has_it():
    image = bytes(0x5000) + bytes(volume_bytes(some_variables()))
    place = Range(0x5000, 0xE000)
    found = read_at(image, place, Range(0x14000, 0x1000), Range(0x15000, 0x10000))
    assert found.areas.layout == "board file"
    assert found.ftw.verdict == "idle"
    assert len(found.store.live) == 5
    assert found.healthy
    found = read_at(image, place)
    assert found.areas.work == Range(0x14000, 0x1000)
    for wrong, code in ((Range(0, 0x1000), "no-store"), (Range(0x20000, 0xE000), "truncated")):
        with pytest.raises(ImageError) as caught:
            read_at(image, wrong)
        assert caught.value.code == f"uefi.{code}"
        assert f"0x{wrong.address:06X}" in caught.value.message


def test_more_stores_than_anybody_has_are_cut_off_and_said_so():
    found = find_stores(bytes(volume_bytes([variable("A")])) * 40)
    assert len(found) == 32
    assert codes(found[-1]) == ["areas.limit"]
    assert found[0].anomalies == ()


def test_a_work_space_at_another_place_than_its_layout_has_it_is_told_of():
    image = volume_bytes(some_variables())
    image[0xE000:0xF000] = image[0xF000:0x10000]
    image[0xF000:0x10000] = b"\xff" * 0x1000
    (found,) = find_stores(bytes(image))
    assert found.areas.work == Range(0xE000, 0x1000)
    assert codes(found) == ["areas.other-place", "areas.derived"]


def test_a_volume_that_ends_with_its_work_space_has_no_spare():
    image = unknown_layout()[:0x30000]
    image[:0x48] = make_volume(len(image), 0x10000).build()
    (found,) = find_stores(bytes(image))
    assert found.areas.spare is None
    assert "areas.no-spare" in codes(found)


def test_guids_in_code_are_no_stores():
    needles = [make_store([], 28).header()[:16], make_volume(0x1000, 0x1000).build()[16:32]]
    assert find_stores(bytes(100) + needles[0] + pattern(200) + needles[1] + pattern(200)) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff" * 4096, "all FF"),
        (bytes(4096), "all 00"),
        (b"QFI\xfb" + bytes(100), "qcow2"),
        (bytes(16) + b"$VSS\x00\x00\x01\x00\x5a\xfe" + bytes(60), "0x000010"),
        (bytes(12) + b"VMWNVRAM" + bytes(60), "VMware"),
    ],
)
def test_other_things_are_named(data, words):
    assert find_stores(data) == []
    assert words in identify(data)


def test_nobody_knows_what_random_bytes_are():
    assert identify(pattern(5000)) is None


# --- hostile images -------------------------------------------------------------------------


def check(image: bytes) -> None:
    """Whatever the image: no exception, offsets inside it, and the same bytes when built."""
    for found in find_stores(image):
        end = max(len(image), found.base + found.length)  # what is missing lies behind the image
        for item in found.anomalies:
            assert 0 <= item.offset <= end, item
        for part in (found.volume, found.store, found.ftw.work_space, found.ftw.spare_store):
            if part is not None:
                built = part.build()
                assert built == image[part.base : part.base + len(built)]
        if found.store is not None:
            usage = found.store.usage
            assert usage.used + usage.free + usage.reclaimable == usage.capacity
            assert min(usage.used, usage.free, usage.reclaimable) >= 0


@settings(max_examples=examples(150))
@given(st.data())
def test_a_damaged_volume_never_stops_the_search(data):
    image = volume_bytes(some_variables(), entries=(entry(record=0xFD),))
    image[0x10000:0x1E000] = image[:0xE000]
    interesting = st.one_of(
        st.integers(0, 0x300), st.integers(0xF000, 0xF0A0), st.integers(0x10000, 0x10200)
    )
    for at in data.draw(st.lists(interesting, max_size=6)):
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        value = data.draw(st.sampled_from([0, 1 << 31, 2**64 - 1, 2**64 - 2, 0x55AA, 17]))
        image[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    cut = data.draw(st.sampled_from([len(image), 0xF010, 0x10030, 0x40, 0x60, 0x70]))
    check(bytes(image[:cut]))


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_with_headers_in_them_never_stop_the_search(seed):
    rng = random.Random(seed)
    image = bytearray(rng.randbytes(0x60000))
    pieces = [
        bytes(volume_bytes()[:0x64]), bytes(volume_bytes(some_variables())[:0x300]),
        make_work_space(0x1000).header(), make_store([], 0xDFB8).header(),
    ]  # fmt: skip
    for _ in range(30):
        at = rng.randrange(0, len(image) - 0x400)
        piece = rng.choice(pieces)
        image[at : at + len(piece)] = piece
    check(bytes(image))


GUIDS = [guid.bytes_le for guid in (AUTHENTICATED_STORE, NV_VOLUME, PLAIN_STORE, WORK_SPACE)]


@given(st.sampled_from(GUIDS), st.data())
def test_a_guid_is_found_where_a_plain_search_finds_it(guid: bytes, data):
    piece = st.one_of(
        st.just(guid), st.integers(1, 15).map(lambda at: guid[at:]), st.just(b"\xff" * 20),
        st.integers(1, 15).map(lambda at: guid[:at]), st.binary(max_size=9),
    )  # fmt: skip
    image = b"".join(data.draw(st.lists(piece, max_size=8)))
    start, end = (data.draw(st.integers(0, len(image))) for _ in range(2))
    assert find_guid(image, guid, start, end) == image.find(guid, start, end)


def test_an_image_full_of_half_guids_is_searched_too():
    image = PLAIN_STORE.bytes_le[:13] * 1000 + PLAIN_STORE.bytes_le
    assert find_guid(image, PLAIN_STORE.bytes_le, 0, len(image)) == 13000


@given(st.binary(max_size=40), st.integers(0, 255))
def test_filled_with(data: bytes, value: int):
    assert filled_with(data, value) == all(byte == value for byte in data)
    assert filled_with(bytes([value]) * len(data), value)
