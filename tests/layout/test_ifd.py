from __future__ import annotations

import struct

import pytest
from descriptors import V1, V2, descriptor, image
from hypothesis import given, settings
from hypothesis import strategies as st

from hwflash.errors import ImageError
from hwflash.layout import ifd
from hwflash.units import MIB, Range


def spans(found: ifd.Descriptor) -> dict[str, tuple[int, int]]:
    return {item.name: (item.range.address, item.range.end - 1) for item in found.regions}


@pytest.mark.parametrize(("version", "places"), [(1, V1), (2, V2)])
def test_regions_components_and_rights(version: int, places: dict[int, tuple[int, int]]) -> None:
    data = image(version)
    found = ifd.parse(data, len(data))
    assert found.version == version
    assert spans(found) == {ifd.NAMES[number]: place for number, place in places.items()}
    assert found.size == len(data)
    host, me, gbe = found.masters
    assert (host.read, host.write) == (("fd", "bios", "gbe"), ("bios", "gbe"))
    assert (me.name, me.write) == ("me", ("me", "gbe"))
    assert gbe.read == ("gbe",)
    assert found.notes == ()
    protected = {item.name for item in found.regions if item.protected}
    assert protected == set(spans(found)) - {"bios"}


@pytest.mark.parametrize(
    ("version", "density", "sizes"),
    [
        (1, (0,), (MIB // 2,)),
        (1, (4, 4), (8 * MIB, 8 * MIB)),
        (1, (5,), (16 * MIB,)),
        (2, (8,), (128 * MIB,)),
        (2, (5, 4), (16 * MIB, 8 * MIB)),
        (2, (5, 15), (16 * MIB,)),
    ],
)
def test_densities(version: int, density: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    places = V1 if version == 1 else V2
    assert ifd.parse(descriptor(version, places, density=density)).components == sizes


def test_the_first_of_two_chips() -> None:
    """8 MiB + 4 MiB: host firmware begins on the first and ends on the second chip."""
    places = {**V1, 1: (0x200000, 0xBFFFFF)}
    found = ifd.parse(descriptor(1, places, density=(4, 3)), 8 * MIB)
    assert spans(found)["bios"] == (0x200000, 0x7FFFFF)
    assert "first of two chips" in found.notes[0]
    whole = ifd.parse(descriptor(1, places, density=(4, 3)), 12 * MIB)
    assert spans(whole)["bios"] == (0x200000, 0xBFFFFF)
    places = {**V1, 1: (0x800000, 0xBFFFFF)}
    found = ifd.parse(descriptor(1, places, density=(4, 3)), 8 * MIB)
    assert "bios" not in spans(found)
    assert spans(found)["me"] == (0x3000, 0x1FFFFF), "still there, and protected"


def test_reserved_values_are_told() -> None:
    assert "reserved density" in ifd.parse(descriptor(1, V1, density=(7,))).notes[0]
    data = descriptor(1, V1)
    (word,) = struct.unpack_from("<I", data, 0x48)
    struct.pack_into("<I", data, 0x48, word | 1 << 15)
    assert "reserved bits" in ifd.parse(data).notes[0]
    data = descriptor(2, V2)
    data[0x800:0x804] = data[0x10:0x14]
    assert "there again, at 0x800" in ifd.parse(data).notes[0]
    assert "tells of 16 MiB, there are 32 MiB" in ifd.parse(descriptor(2, V2), 32 * MIB).notes[0]


@pytest.mark.parametrize(
    ("places", "code"),
    [
        ({**V1, 1: (0x100000, 0x7FFFFF)}, "ifd.overlap"),
        ({**V1, 1: (0x200000, 0x8FFFFF)}, "ifd.outside"),
        ({**V1, 0: (0x1000, 0x1FFF)}, "ifd.region"),
        ({**V1, 3: (0x0, 0x1FFF)}, "ifd.overlap"),
    ],
)
def test_regions_that_cannot_be(places: dict[int, tuple[int, int]], code: str) -> None:
    with pytest.raises(ImageError) as caught:
        ifd.parse(descriptor(1, places), 8 * MIB)
    assert caught.value.code == code


def test_no_descriptor_and_pointers_that_leave_it() -> None:
    with pytest.raises(ImageError) as caught:
        ifd.parse(b"\xff" * 4096)
    assert caught.value.code == "ifd.none"
    for at, value in ((0x14, 0x000400FF), (0x16, 0xFF), (0x18, 0xFF)):
        data = descriptor(1, V1)[:0x200]
        data[at] = value & 0xFF
        with pytest.raises(ImageError) as caught:
            ifd.parse(data)
        assert caught.value.code == "ifd.pointer"


@settings(max_examples=200)
@given(st.binary(min_size=0x60, max_size=0x120))
def test_any_bytes_are_a_descriptor_or_an_error(noise: bytes) -> None:
    data = bytearray(noise.ljust(0x1000, b"\xff"))
    data[0x10:0x14] = ifd.SIGNATURE.to_bytes(4, "little")
    try:
        found = ifd.parse(data, 16 * MIB)
    except ImageError:
        return
    whole = Range(0, 16 * MIB)
    assert all(whole.contains(item.range) for item in found.regions)
    ifd.region_map(found, 16 * MIB)
