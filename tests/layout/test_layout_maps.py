"""FMAP, layout files and GbE settings: what is right, and every way to be wrong."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from descriptors import gbe as gbe_copy
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import ImageError, UsageError
from hwflash.layout import fmap, gbe, textfile
from hwflash.layout.regions import Region
from hwflash.units import Range

AREAS = [
    ("WP_RO", 0, 0x8000, 4),
    ("FMAP", 0x100, 0x800, 0),
    ("COREBOOT", 0x1000, 0x7000, 2),
    ("RW_A", 0x8000, 0x4000, 0),
    ("EMPTY", 0xC000, 0, 0),
]


def table(areas: list[tuple[str, int, int, int]] = AREAS, size: int = 0x10000, **changes) -> bytes:
    count = changes.get("count", len(areas))
    head = fmap.HEADER.pack(
        b"__FMAP__", changes.get("major", 1), 1, 0xFFFF0000, size, changes.get("name", b"FLASH"),
        count,
    )  # fmt: skip
    rows = [struct.pack("<II32sH", at, length, name.encode(), flags)
            for name, at, length, flags in areas]  # fmt: skip
    return head + b"".join(rows)


def placed(found: bytes, at: int = 0x100) -> bytes:
    image = bytearray(b"\xff" * 0x10000)
    image[at : at + len(found)] = found
    return bytes(image)


def test_a_map_is_found_and_read() -> None:
    found = fmap.find(placed(table()))
    assert found is not None
    assert (found.offset, found.name, found.base, found.skipped) == (
        0x100, "FLASH", 0xFFFF0000, ("EMPTY",)
    )  # fmt: skip
    assert [(r.name, r.range, r.protected) for r in found.regions][:2] == [
        ("WP_RO", Range(0, 0x8000), True), ("FMAP", Range(0x100, 0x800), False)
    ]  # fmt: skip
    assert fmap.build(found)[: fmap.HEADER.size - 2] == table()[: fmap.HEADER.size - 2]
    again = fmap.parse(fmap.build(found), 0, 0x10000)
    assert again.regions == found.regions


def test_a_program_that_looks_for_maps_is_none() -> None:
    image = bytearray(placed(table(), 0x8100))
    image[0x40:0x48] = b"__FMAP__"
    found = fmap.find(bytes(image))
    assert found is not None
    assert found.offset == 0x8100
    assert fmap.find(b"__FMAP__" + b"\xff" * 100) is None
    assert fmap.find(b"") is None


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (table([("A", 0, 1, 0)] * 513), "fmap.truncated"),  # as many would take long to compare
        (table(count=2000), "fmap.truncated"),
        (table([("A", 0, 0x20000, 0)]), "layout.outside"),
        (table([("A", 0, 0x100, 0), ("A", 0x200, 0x100, 0)]), "layout.duplicate"),
        (table([("A", 0, 0x200, 0), ("B", 0x100, 0x200, 0)]), "layout.overlap"),
    ],
)
def test_maps_that_cannot_be(found: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        fmap.find(placed(found, 0x10000 - len(found) if "truncated" in code else 0))
    assert caught.value.code == code


@given(st.binary(max_size=300))
def test_any_bytes_are_a_map_or_an_error(noise: bytes) -> None:
    with suppress(ImageError):
        fmap.find(b"__FMAP__\x01" + noise)


def test_layout_files_both_ways() -> None:
    text = "# of a board\n00000000:00000fff fd\n\n0x001000:0x7fffff bios\n"
    found = textfile.parse(text, "x", 0x800000)
    assert [(item.name, item.range.end) for item in found] == [("fd", 0x1000), ("bios", 0x800000)]
    assert textfile.dump(found) == "00000000:00000fff fd\n00001000:007fffff bios\n"
    assert textfile.dump([Region("a b", Range(0, 1))]) == "00000000:00000000 a_b\n"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "layout.syntax", "names no region"),
        ("0:fff a\n1000:zz b\n", "layout.syntax", "line 2: '1000:zz b'"),
        ("0:fff a\n\n2000:1000 b\nc\n", "layout.syntax", "line 3: b ends before"),
        ("0-fff a", "layout.syntax", "line 1"),
        ("0:fff a b", "layout.syntax", "line 1"),
        ("0:ffffff a", "layout.outside", "beyond"),
        ("0:fff a\n1000:1fff a", "layout.duplicate", "name of another"),
        ("0:fff a\n800:1fff b", "layout.overlap", "overlaps"),
    ],
)
def test_layout_files_with_faults(text: str, code: str, words: str) -> None:
    with pytest.raises(ImageError) as caught:
        textfile.parse(text, "board.layout", 0x100000)
    assert caught.value.code == code
    assert words in str(caught.value) + str(caught.value.context.get("faults", ""))


def test_gbe_settings() -> None:
    region = gbe_copy("001122334455") + b"\xff" * 0x1000
    first, second = gbe.read(region)
    assert (first.mac.hex(), first.valid, first.blank) == ("001122334455", True, False)
    assert second.blank
    new = gbe.with_mac(region, bytes.fromhex("00aabbccddee"))
    first, second = gbe.read(new)
    assert (first.mac.hex(), first.valid, second.blank) == ("00aabbccddee", True, True)
    changed = [at for at in range(len(new)) if new[at] != region[at]]
    assert set(changed) <= {1, 2, 3, 4, 5, 0x7E, 0x7F}
    broken = bytearray(region)
    broken[0x20] ^= 1
    assert not gbe.read(bytes(broken))[0].valid
    assert gbe.read(gbe.with_mac(bytes(broken), None))[0].valid
    for bad, code in ((b"\xff" * 0x2000, "gbe.blank"), (b"\0" * 10, "gbe.size")):
        with pytest.raises(ImageError) as caught:
            gbe.with_mac(bad, None)
        assert caught.value.code == code


@pytest.mark.parametrize(
    "text", ["", "001122", "01:00:00:00:00:00", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff",
             "00:11-22:33:44:55", "00:11:22:33:44:5g", "00:11:22:33:44:55:66"]
)  # fmt: skip
def test_addresses_no_card_can_have(text: str) -> None:
    with pytest.raises(UsageError):
        gbe.parse_mac(text)
    for good in ("00:11:22:33:44:aa", "00-11-22-33-44-AA", " 0011223344aa "):
        assert gbe.parse_mac(good).hex() == "0011223344aa"
