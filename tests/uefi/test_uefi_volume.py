from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from volumes import OVMF_2M, volume_bytes

from hwflash.errors import ImageError
from hwflash.uefi import guids
from hwflash.uefi.volume import (
    BlockRun,
    checksum,
    make_volume,
    parse_volume,
    volume_anomalies,
)
from hwflash.uefi.window import Window


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0x20000, 0xF919), (0x84000, 0xB8AF)],
    ids=["1M and 2M builds", "4M build"],
)
def test_the_header_has_the_checksum_of_the_real_ones(length, expected):
    volume = make_volume(length, 0x1000)
    assert volume.checksum == expected
    assert volume.checksum_ok
    assert volume.block_map == (BlockRun(length // 0x1000, 0x1000),)
    assert volume.block_size == 0x1000
    assert len(volume.build()) == 0x48


def test_aavmf_maps_more_blocks_than_the_volume_has():
    # FvLength 0xC0000, block map 256 x 256 KiB, attributes 0xE36: its checksum is 0xF8F8.
    volume = make_volume(0xC0000, 0x40000, attributes=0xE36)
    raw = bytearray(volume.build())
    raw[56:60] = (256).to_bytes(4, "little")
    found = parse_volume(Window(bytes(raw)), 0).with_checksum()
    assert found.checksum == 0xF8F8
    assert [(item.code, item.severity) for item in volume_anomalies(found, 1 << 26)] == [
        ("volume.block-map-length", "note")
    ]


@given(st.binary(min_size=56, max_size=600), st.integers(0, 1 << 30))
def test_any_bytes_are_parsed_and_built_alike(data, base):
    volume = parse_volume(Window(data, base), base)
    built = volume.build()
    assert built == data[: len(built)]
    assert all(item.offset >= base for item in volume_anomalies(volume, base + len(data)))
    assert parse_volume(Window(volume.with_checksum().build()), 0).checksum_ok


def test_words_add_up_to_zero():
    assert checksum(b"\x01\x00\xff\xff") == 0
    assert checksum(b"\x34\x12") == 0x10000 - 0x1234
    assert checksum(b"\x01") == 0xFFFF


def test_a_truncated_header_names_its_place():
    with pytest.raises(ImageError, match="0x001000") as caught:
        parse_volume(Window(bytes(55), 0x1000), 0x1000)
    assert caught.value.code == "uefi.truncated"
    assert caught.value.context["offset"] == 0x1000


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [
        (0x28, b"XXXX", "signature"),
        (0x10, bytes(16), "guid"),
        (0x32, b"\0\0", "checksum"),
        (0x30, b"\x10\0", "header-length"),
        (0x37, b"\3", "revision"),
        (0x20, (1 << 40).to_bytes(8, "little"), "length"),
        (0x40, b"\1\0\0\0\1\0\0\0", "block-map"),
    ],
)
def test_every_damage_is_named_with_its_offset(at, value, code):
    base = 0x3000
    image = bytes(base) + bytes(volume_bytes())
    broken = bytearray(image)
    broken[base + at : base + at + len(value)] = value
    found = volume_anomalies(parse_volume(Window(bytes(broken)), base), base + OVMF_2M.length)
    assert f"volume.{code}" in {item.code for item in found}
    assert all(base <= item.offset < base + 0x48 for item in found)
    assert volume_anomalies(parse_volume(Window(image), base), base + OVMF_2M.length) == []


def test_guids_have_names_and_are_read_by_them():
    assert guids.guid_name(guids.GLOBAL_VARIABLE) == "EfiGlobalVariable"
    assert guids.parse_guid("efiglobalvariable") == guids.GLOBAL_VARIABLE
    assert guids.parse_guid("{8BE4DF61-93CA-11D2-AA0D-00E098032B8C}") == guids.GLOBAL_VARIABLE
    assert guids.GLOBAL_VARIABLE.bytes_le.hex() == "61dfe48bca93d211aa0d00e098032b8c"
    for text in ("", "8be4df61", "8be4df61-93ca-11d2-aa0d-00e098032b8g"):
        with pytest.raises(Exception, match="is not a GUID"):
            guids.parse_guid(text)
