"""The firmware volume block services, on a flash that records what is done to it."""

from __future__ import annotations

import pytest
from volumes import AAVMF, OVMF_2M, OVMF_4M, volume_bytes

from hwflash.errors import ImageError
from hwflash.uefi.flashops import Erase, Program, ShadowFlash
from hwflash.uefi.fvb import (
    OVMF_ATTRIBUTES,
    FirmwareVolumeBlock,
    FvbAttribute,
    ShortTransfer,
    physical_base,
)
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.uefi.window import Window
from hwflash.units import Range

A = FvbAttribute
OPEN = int(
    A.READ_DISABLED_CAP | A.READ_ENABLED_CAP | A.READ_STATUS | A.WRITE_DISABLED_CAP
    | A.WRITE_ENABLED_CAP | A.WRITE_STATUS | A.LOCK_CAP | A.MEMORY_MAPPED | A.ERASE_POLARITY
)  # fmt: skip
BASE = 0x2000
MIB = 1 << 20


def blocks(
    attributes: int = OPEN, *, erase: int = 0x1000, block: int = 0x1000, fill: int = 0xFF, **more
) -> FirmwareVolumeBlock:
    """Eight blocks of a volume that does not begin where the flash does."""
    flash = ShadowFlash(Window(bytes([fill]) * (0x2000 + 8 * block)), erase)
    return FirmwareVolumeBlock(flash, Range(BASE, 8 * block), block, attributes=attributes, **more)


def status(call, *arguments) -> EfiStatus:
    with pytest.raises(EfiError) as caught:
        call(*arguments)
    assert caught.value.code == caught.value.status.code
    return caught.value.status


def test_a_volume_is_a_whole_number_of_blocks():
    flash = ShadowFlash(Window(b"\xff" * 0x2000))
    for length, block in ((0x1800, 0x1000), (0, 0x1000), (0x1000, 0)):
        with pytest.raises(ImageError) as caught:
            FirmwareVolumeBlock(flash, Range(0, length), block)
        assert caught.value.code == "fvb.blocks"


def test_block_size_and_the_blocks_that_are_left():
    fvb = blocks()
    assert fvb.get_block_size(0) == (0x1000, 8)
    assert fvb.get_block_size(7) == (0x1000, 1)
    for lba in (8, -1):
        assert status(fvb.get_block_size, lba) == EfiStatus.INVALID_PARAMETER


def test_a_write_clears_bits_and_a_read_gives_them_back():
    fvb = blocks()
    assert fvb.write(3, 0x10, b"\x12\x34") == 2
    assert fvb.read(3, 0x0F, 4) == b"\xff\x12\x34\xff"
    assert fvb.flash.operations == [Program(BASE + 0x3010, b"\x12\x34")]
    with pytest.raises(ImageError) as caught:
        fvb.write(3, 0x10, b"\xed")
    assert caught.value.code == "uefi.not-erased"


def test_a_transfer_ends_with_its_block_and_says_how_far_it_came():
    fvb = blocks()
    with pytest.raises(ShortTransfer) as caught:
        fvb.write(1, 0xFFE, b"\x01\x02\x03")
    assert caught.value.status == EfiStatus.BAD_BUFFER_SIZE
    assert caught.value.code == "efi.bad-buffer-size"
    assert caught.value.count == 2
    assert fvb.flash.read(BASE + 0x1FFE, 4) == b"\x01\x02\xff\xff", "the next block is untouched"
    with pytest.raises(ShortTransfer) as caught:
        fvb.read(1, 0xFFD, 0x1000)
    assert caught.value.count == 3
    assert caught.value.data == b"\xff\x01\x02"
    with pytest.raises(ShortTransfer) as caught:
        fvb.read(1, 0x1000, 1)
    assert caught.value.count == 0
    assert fvb.read(1, 0x1000, 0) == b""


@pytest.mark.parametrize(("lba", "offset"), [(8, 0), (-1, 0), (0, 0x1001), (0, -1)])
def test_what_is_not_in_the_volume_is_refused_and_nothing_is_written(lba, offset):
    fvb = blocks()
    assert status(fvb.read, lba, offset, 1) == EfiStatus.INVALID_PARAMETER
    assert status(fvb.write, lba, offset, b"\0") == EfiStatus.INVALID_PARAMETER
    assert fvb.flash.operations == []


def test_a_negative_length_is_refused():
    assert status(blocks().read, 0, 0, -1) == EfiStatus.INVALID_PARAMETER


def test_disabled_reads_and_writes():
    fvb = blocks(OPEN & ~int(A.WRITE_STATUS))
    assert status(fvb.write, 0, 0, b"\0") == EfiStatus.ACCESS_DENIED
    assert status(fvb.erase_blocks, (0, 1)) == EfiStatus.ACCESS_DENIED
    assert fvb.read(0, 0, 1) == b"\xff"
    fvb = blocks(OPEN & ~int(A.READ_STATUS))
    assert status(fvb.read, 0, 0, 1) == EfiStatus.ACCESS_DENIED
    assert fvb.write(0, 0, b"\0") == 1


def test_erase_of_several_ranges():
    fvb = blocks(fill=0)
    fvb.erase_blocks((5, 2), (1, 1))
    assert [step.address for step in fvb.flash.operations] == [0x7000, 0x8000, 0x3000]
    assert fvb.read(5, 0, 0x1000) == b"\xff" * 0x1000
    assert fvb.read(4, 0, 0x1000) == bytes(0x1000)


def test_a_block_named_twice_is_erased_once():
    fvb = blocks(fill=0)
    fvb.erase_blocks((1, 2), (2, 2))
    assert [step.address for step in fvb.flash.operations] == [0x3000, 0x4000, 0x5000]


@pytest.mark.parametrize("bad", [(8, 1), (7, 2), (-1, 1), (0, 0), (0, -1)])
def test_all_ranges_are_checked_before_one_is_erased(bad):
    fvb = blocks(fill=0)
    assert status(fvb.erase_blocks, (0, 1), bad) == EfiStatus.INVALID_PARAMETER
    assert fvb.flash.operations == []


def test_a_smaller_erase_block_takes_several_erases():
    fvb = blocks(block=0x4000, erase=0x1000, fill=0)
    fvb.erase_blocks((1, 1))
    assert fvb.flash.operations == [
        Erase(BASE + 0x4000 + index * 0x1000, 0x1000) for index in range(4)
    ]


def test_a_larger_erase_block_is_erased_only_as_a_whole():
    fvb = blocks(erase=0x2000, fill=0)
    for ranges in ([(0, 1)], [(1, 2)], [(0, 2), (2, 1)]):
        with pytest.raises(ImageError) as caught:
            fvb.erase_blocks(*ranges)
        assert caught.value.code == "fvb.erase-block"
    assert fvb.flash.operations == []
    fvb.erase_blocks((3, 1), (2, 1))
    assert fvb.flash.operations == [Erase(0x4000, 0x2000)]
    # The volume itself may begin in the middle of an erase block.
    fvb = blocks(erase=0x4000)
    with pytest.raises(ImageError) as caught:
        fvb.erase_blocks((0, 4))
    assert "16 KiB" in caught.value.message
    assert "4 KiB" in caught.value.message


def test_erase_blocks_are_counted_from_where_the_flash_says():
    flash = ShadowFlash(Window(bytes(0x4000), 0x800), 0x1000, origin=0x800)
    fvb = FirmwareVolumeBlock(flash, Range(0x800, 0x4000), 0x1000)
    fvb.erase_blocks((2, 1))
    assert flash.operations == [Erase(0x2800, 0x1000)]
    flash = ShadowFlash(Window(bytes(0x4000), 0x800), 0x1000)
    with pytest.raises(ImageError) as caught:
        FirmwareVolumeBlock(flash, Range(0x800, 0x4000), 0x1000).erase_blocks((2, 1))
    assert caught.value.code == "fvb.erase-block"


def test_the_erase_size_can_be_given():
    class Plain:
        """A flash that does not say how it erases."""

        def __init__(self) -> None:
            self.erased: list[tuple[int, int]] = []

        def read(self, address: int, length: int, /) -> bytes:
            return bytes(length)

        def program(self, address: int, data: bytes, /) -> None:
            raise AssertionError

        def erase(self, address: int, length: int, /) -> None:
            self.erased.append((address, length))

    flash = Plain()
    FirmwareVolumeBlock(flash, Range(0, 0x8000), 0x1000).erase_blocks((1, 1))
    FirmwareVolumeBlock(flash, Range(0, 0x8000), 0x1000, erase_size=0x800).erase_blocks((1, 1))
    assert flash.erased == [(0x1000, 0x1000), (0x1000, 0x800), (0x1800, 0x800)]


def test_status_bits_can_be_changed_where_the_volume_is_capable():
    fvb = blocks()
    closed = OPEN & ~int(A.WRITE_STATUS | A.READ_STATUS)
    assert fvb.set_attributes(closed) == closed
    assert fvb.get_attributes() == closed
    assert fvb.set_attributes(OPEN) == OPEN
    locked = OPEN | int(A.LOCK_STATUS)
    assert fvb.set_attributes(locked) == locked
    assert fvb.set_attributes(locked) == locked, "no change is no offence"
    assert status(fvb.set_attributes, OPEN) == EfiStatus.ACCESS_DENIED
    assert status(fvb.set_attributes, closed | A.LOCK_STATUS) == EfiStatus.ACCESS_DENIED
    assert fvb.get_attributes() == locked


@pytest.mark.parametrize(
    ("has", "wanted"),
    [
        (OPEN & ~int(A.READ_DISABLED_CAP), OPEN & ~int(A.READ_DISABLED_CAP | A.READ_STATUS)),
        (OPEN & ~int(A.WRITE_DISABLED_CAP), OPEN & ~int(A.WRITE_DISABLED_CAP | A.WRITE_STATUS)),
        (
            OPEN & ~int(A.READ_ENABLED_CAP | A.READ_STATUS),
            OPEN & ~int(A.READ_ENABLED_CAP),
        ),
        (
            OPEN & ~int(A.WRITE_ENABLED_CAP | A.WRITE_STATUS),
            OPEN & ~int(A.WRITE_ENABLED_CAP),
        ),
        (OPEN & ~int(A.LOCK_CAP), (OPEN & ~int(A.LOCK_CAP)) | int(A.LOCK_STATUS)),
        (OPEN, OPEN | int(A.STICKY_WRITE)),
        (OPEN, OPEN & ~int(A.MEMORY_MAPPED)),
        (OPEN, OPEN & ~int(A.ERASE_POLARITY)),
        (OPEN, OPEN | 0x40000),
    ],
)
def test_attributes_against_the_capabilities_are_refused(has, wanted):
    fvb = blocks(has)
    assert status(fvb.set_attributes, wanted) == EfiStatus.INVALID_PARAMETER
    assert fvb.get_attributes() == has


def test_the_attributes_of_ovmf_are_locked_and_open():
    fvb = blocks(OVMF_ATTRIBUTES)
    assert fvb.write(0, 0, b"\0") == 1
    assert fvb.read(0, 0, 1) == b"\0"
    denied = status(fvb.set_attributes, OVMF_ATTRIBUTES & ~int(A.WRITE_STATUS))
    assert denied == EfiStatus.ACCESS_DENIED


def test_the_physical_address_is_told_when_there_is_one():
    assert blocks(physical_base=0xFFC00000).get_physical_address() == 0xFFC00000
    assert status(blocks().get_physical_address) == EfiStatus.UNSUPPORTED
    unmapped = blocks(OPEN & ~int(A.MEMORY_MAPPED), physical_base=0xFFC00000)
    assert status(unmapped.get_physical_address) == EfiStatus.UNSUPPORTED


@pytest.mark.parametrize(
    ("layout", "offset", "image", "code", "address"),
    [
        (OVMF_4M, 0, 0x84000, None, 0xFFC00000),
        (OVMF_4M, 0, 0x84000, 0x37C000, 0xFFC00000),
        (OVMF_4M, 0, 4 * MIB, None, 0xFFC00000),
        (OVMF_2M, 0, 2 * MIB, None, 0xFFE00000),
        (OVMF_2M, 0, 1 * MIB, None, 0xFFF00000),
        (OVMF_2M, 0, 0x20000, 0x1E0000, 0xFFE00000),
        (OVMF_2M, 0, 0x20000, 0xE0000, 0xFFF00000),
        (OVMF_2M, 0, 0x20000, None, None),
        (OVMF_2M, 0x300000, 16 * MIB, None, 0xFF300000),
        (AAVMF, 0, 64 * MIB, None, 0x04000000),
        (AAVMF, 0, 0xC0000, None, 0x04000000),
        (OVMF_2M, 0, 8 << 30, None, None),
    ],
)
def test_physical_addresses_of_known_builds(layout, offset, image, code, address):
    assert physical_base(Range(offset, layout.length), image, code) == address


def test_a_whole_volume_of_a_build():
    data = bytes(volume_bytes())
    fvb = FirmwareVolumeBlock(ShadowFlash(Window(data)), Range(0, OVMF_2M.length), 0x1000)
    assert fvb.blocks == 32
    assert b"".join(fvb.read(lba, 0, 0x1000) for lba in range(fvb.blocks)) == data
