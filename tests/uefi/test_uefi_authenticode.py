from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import ImageError
from hwflash.uefi.authenticode import image_sha256

PE = 0x40


def program(
    *,
    plus: bool = True,
    directories: int = 16,
    sections: tuple[bytes, ...] = (b"code" * 16, b"", b"data" * 8),
    tail: bytes = b"symbols!",
    certificates: bytes = b"",
    backwards: bool = False,
) -> bytearray:
    """A PE file with headers of 0x200 bytes."""
    first = PE + 24 + (112 if plus else 96)
    table = first + 8 * directories
    image = bytearray(0x200)
    image[:2] = b"MZ"
    struct.pack_into("<I", image, 0x3C, PE)
    image[PE : PE + 4] = b"PE\0\0"
    struct.pack_into("<H", image, PE + 6, len(sections))
    struct.pack_into("<H", image, PE + 20, table - PE - 24)
    struct.pack_into("<H", image, PE + 24, 0x20B if plus else 0x10B)
    struct.pack_into("<II", image, PE + 24 + 60, 0x200, 0xC0FFEE)
    struct.pack_into("<I", image, first - 4, directories)
    for index, body in enumerate(sections):
        # The table need not be in the order of the file.
        slot = len(sections) - 1 - index if backwards else index
        struct.pack_into("<II", image, table + 40 * slot + 16, len(body), len(image))
        image += body
    image += tail
    if certificates:
        struct.pack_into("<II", image, first + 32, len(image), len(certificates))
    return image + certificates


def expected(image: bytes, plus: bool, directories: int = 16) -> bytes:
    """The same by hand: the checksum and the entry of the certificate table left out."""
    optional = PE + 24
    entry = optional + (112 if plus else 96) + 32
    kept = image[: optional + 64] + image[optional + 68 : entry] + image[entry + 8 :]
    if directories <= 4:
        kept = image[: optional + 64] + image[optional + 68 :]
    return hashlib.sha256(kept).digest()


@pytest.mark.parametrize("plus", [True, False])
@pytest.mark.parametrize("directories", [16, 5, 4, 0])
def test_the_hash_leaves_out_what_signing_changes(plus, directories):
    image = bytes(program(plus=plus, directories=directories))
    assert image_sha256(image) == expected(image, plus, directories)


def test_signing_does_not_change_it():
    plain = bytes(program())
    signed = program(certificates=b"WIN_CERT" * 5)
    struct.pack_into("<I", signed, PE + 24 + 64, 0x12345678)
    assert image_sha256(bytes(signed)) == image_sha256(plain)


def test_the_order_is_that_of_the_file():
    image = bytes(program(backwards=True))
    assert image_sha256(image) == expected(image, True)


@given(st.data())
def test_every_other_byte_counts(data):
    image = program(tail=b"")
    at = data.draw(st.integers(0x180, len(image) - 1))
    before = image_sha256(bytes(image))
    image[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert image_sha256(bytes(image)) != before
    except ImageError as error:
        assert error.code == "uefi.pe"  # noqa: PT017 - a section's place may be hit


@pytest.mark.parametrize(
    ("at", "value", "word"),
    [
        (0, b"ZM", "MZ"),
        (0x3C, b"\xff\xff\xff\xff", "PE header"),
        (PE, b"NE", "PE header"),
        (PE + 24, b"\x07\x01", "0x107"),
        (PE + 24 + 60, b"\xff\xff\xff\x7f", "of headers"),
        (PE + 24 + 60, b"\0\0\0\0", "of headers"),
        (PE + 6, b"\xff\xff", "inside its headers"),
        (PE + 24 + 112 + 36, b"\xff\xff\xff\x7f", "its parts claim"),
    ],
)
def test_damaged_programs_are_refused(at, value, word):
    image = program()
    image[at : at + len(value)] = value
    with pytest.raises(ImageError, match=word) as caught:
        image_sha256(bytes(image))
    assert caught.value.code == "uefi.pe"


def test_sections_that_overlap_are_not_hashed_forever():
    image = program(sections=(b"x" * 4096,) * 4, tail=b"")
    table = PE + 24 + 112 + 128
    for slot in range(4):
        struct.pack_into("<II", image, table + 40 * slot + 16, len(image) - 0x200, 0x200)
    with pytest.raises(ImageError, match="its parts claim"):
        image_sha256(bytes(image))


@given(st.binary(max_size=200), st.integers(0, 0x200))
def test_any_bytes_are_a_program_or_not(data, at):
    for image in (data, bytes(program())[:at], bytes(program())[:at] + data):
        try:
            assert len(image_sha256(image)) == 32
        except ImageError as error:
            assert error.code == "uefi.pe"  # noqa: PT017
