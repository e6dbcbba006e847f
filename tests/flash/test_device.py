"""What every flash device does alike: a chip on a bus, and an image file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from support import RigFactory, pattern, small_chip

from hwflash.chip.model import EnterFourByte, EraseRegion
from hwflash.errors import EnvironmentFault, ImageError, UsageError
from hwflash.flash.device import FlashDevice, Geometry
from hwflash.flash.image import ImageFlash
from hwflash.units import KIB, Range

SIZE = 128 * KIB


@pytest.fixture(params=["chip", "chip without chip erase", "image"])
def device(
    request: pytest.FixtureRequest, tmp_path: Path, rig: RigFactory
) -> Callable[[bytes], FlashDevice]:
    def make(content: bytes) -> FlashDevice:
        if request.param == "image":
            path = tmp_path / "image.bin"
            path.write_bytes(content)
            image = ImageFlash(path, writable=True)
            request.addfinalizer(image.close)
            return image
        changes = {} if request.param == "chip" else {"chip_erase": None}
        bench = rig(small_chip(**changes))
        bench.content[:] = content
        return bench.flash

    return make


def test_reading(device) -> None:
    memory = pattern(SIZE)
    flash = device(memory)
    assert flash.geometry.size == SIZE
    assert flash.read(0, SIZE) == memory
    assert flash.read(SIZE - 1, 1) == memory[-1:]
    assert flash.read(777, 3000) == memory[777:3777]
    assert flash.read(5, 0) == b""
    assert flash.read(SIZE, 0) == b""


def test_programming_clears_bits_across_pages(device) -> None:
    memory = pattern(SIZE)
    flash = device(memory)
    data = pattern(1000, seed=9)
    flash.program(250, data)
    flash.sync()
    expected = bytearray(memory)
    expected[250:1250] = bytes(a & b for a, b in zip(memory[250:1250], data, strict=True))
    assert flash.read(0, SIZE) == expected
    flash.program(0, b"")
    flash.program(4096, b"\xff" * 4096)
    assert flash.read(0, SIZE) == expected


def test_erasing_a_block(device) -> None:
    memory = pattern(SIZE)
    flash = device(memory)
    flash.erase(0x3000, 0x1000)
    flash.sync()
    assert flash.read(0, SIZE) == memory[:0x3000] + b"\xff" * 0x1000 + memory[0x4000:]


def test_erasing_everything(device) -> None:
    flash = device(pattern(SIZE))
    flash.erase(0, SIZE)
    assert flash.read(0, SIZE) == b"\xff" * SIZE


@pytest.mark.parametrize(
    ("address", "length"),
    [(0, 1), (1, 4096), (0x1000, 0x1800), (0, 0), (0x800, 0x1000), (0x1000, 0x2000)],
)
def test_only_whole_blocks_are_erased(device, address: int, length: int) -> None:
    memory = pattern(SIZE)
    flash = device(memory)
    with pytest.raises(UsageError) as caught:
        flash.erase(address, length)
    assert caught.value.code == "usage.erase-alignment"
    assert caught.value.context["address"] == address
    assert flash.read(0, SIZE) == memory


@pytest.mark.parametrize(("address", "length"), [(-1, 2), (SIZE, 1), (0, SIZE + 1), (5, -1)])
def test_nothing_lies_outside(device, address: int, length: int) -> None:
    flash = device(b"\xff" * SIZE)
    with pytest.raises(UsageError) as caught:
        flash.read(address, length)
    assert caught.value.code == "usage.address"
    if length >= 0:
        with pytest.raises(UsageError):
            flash.program(address, bytes(length))
    with pytest.raises(UsageError):
        flash.erase(SIZE, 4096)


# --- image files -------------------------------------------------------------------------------


def test_an_image_is_changed_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(pattern(8192))
    image = ImageFlash(path, writable=True)
    image.program(10, b"\x00\xff\x00")
    image.erase(4096, 4096)
    image.sync()
    image.close()
    expected = bytearray(pattern(8192))
    expected[10] = expected[12] = 0
    assert path.read_bytes() == expected[:4096] + b"\xff" * 4096


@pytest.mark.parametrize("size", [0, 1, 4095, 4097])
def test_images_of_odd_sizes_are_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(ImageError) as caught:
        ImageFlash(path)
    assert (caught.value.code, caught.value.context["size"]) == ("image.size", size)


def test_images_that_are_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.bin", tmp_path):
        with pytest.raises(ImageError) as caught:
            ImageFlash(path)
        assert (caught.value.code, caught.value.exit_code) == ("image.unreadable", 7)


def test_an_image_that_shrinks_or_may_not_be_written(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(8192))
    image = ImageFlash(path)
    with pytest.raises(EnvironmentFault) as caught:
        image.erase(0, 4096)
    assert caught.value.code == "image.unwritable"
    path.write_bytes(bytes(100))
    with pytest.raises(ImageError) as shrunk:
        image.read(4096, 10)
    assert shrunk.value.code == "image.changed"
    image.close()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(8192))
    image = ImageFlash(path, writable=True)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        image.sync()
    image.close()


# --- geometry ----------------------------------------------------------------------------------

HYBRID = Geometry.of(
    small_chip(
        erase=(
            EraseRegion(0, 32 * KIB, small_chip().erase[0].types[:1]),
            EraseRegion(32 * KIB, 96 * KIB, small_chip().erase[0].types[2:]),
        )
    ),
    1e-6,
)


def test_blocks_are_clipped_to_their_region() -> None:
    assert [b.range for b in HYBRID.blocks_at(0)] == [Range(0, 4096)]
    assert [b.range for b in HYBRID.blocks_at(32 * KIB)] == [Range(32 * KIB, 32 * KIB)]
    assert [b.range for b in HYBRID.blocks_at(SIZE - 1)] == [Range(64 * KIB, 64 * KIB)]
    assert HYBRID.block_for(Range(32 * KIB, 32 * KIB)).kind.size == 64 * KIB
    assert HYBRID.block_for(Range(0, 64 * KIB)) is None
    assert HYBRID.block_for(Range(SIZE, 4096)) is None
    assert HYBRID.align(Range(0x7FFF, 2)) == Range(0x7000, 0x9000)
    with pytest.raises(AssertionError, match="0x20000"):
        HYBRID.region_at(SIZE)


def test_pages_are_clipped_to_the_range() -> None:
    assert list(HYBRID.pages(Range(250, 300))) == [
        Range(250, 6), Range(256, 256), Range(512, 38),
    ]  # fmt: skip
    assert list(HYBRID.pages(Range(250, 0))) == []
    assert HYBRID.page_seconds(256) == pytest.approx(0.0004 + 266e-6)


def test_a_clipped_block_is_erased_whole(rig: RigFactory) -> None:
    chip = small_chip(erase=HYBRID.regions)
    bench = rig(chip)
    memory = pattern(SIZE)
    bench.content[:] = memory
    bench.flash.erase(32 * KIB, 32 * KIB)
    assert bench.content == memory[: 32 * KIB] + b"\xff" * 32 * KIB + memory[64 * KIB :]
    assert dict(bench.flash.erases) == {32 * KIB: 1}
    assert chip.addressing.enter is EnterFourByte.NONE
