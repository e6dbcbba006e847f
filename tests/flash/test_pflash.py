"""The pflash driver against a flash of our own that can be made to fail; QEMU's own one is in
tests/foreign."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.chip.strict import SetBits
from hwflash.errors import ChipAbsent, ChipProtected, ChipStateUnknown, ProgrammerLost, UsageError
from hwflash.flash.pflash import PflashFlash

BASE = 0xFFF00000
SIZE = 12 * 4096
BLOCK = 4096


class Unit:
    """One 8-bit chip with the command set of cfi.pflash01, programs stored as given.

    Attributes:
        data: its content.
        commands: qtest commands it was given.
        fail: status bits that every program and erase ends with, changing nothing.
        stuck: programs are ignored, and nothing is told.
        lost_after: the connection is gone after so many commands.
    """

    def __init__(self) -> None:
        self.data = bytearray(b"\xff" * SIZE)
        self.commands = 0
        self.fail = 0
        self.stuck = False
        self.lost_after = 1 << 30
        self.mode = 0xFF
        self._state: list[int] = []
        self._status = 0x80

    def execute(self, commands: Sequence[bytes], /) -> list[bytes]:
        return [self._one(line.split()) for line in commands]

    def _one(self, words: list[bytes]) -> bytes:
        self.commands += 1
        if self.commands > self.lost_after:
            raise ProgrammerLost("QEMU ended", code="programmer.qemu-lost")
        at = int(words[1], 16) - BASE
        match words[0]:
            case b"readb":
                return b"0x%016x" % self._read(at)
            case b"readl":
                return b"0x%016x" % sum(self._read(at + i) << 8 * i for i in range(4))
            case b"b64read":
                assert self.mode == 0xFF, "the array is read in array mode only"
                length = int(words[2], 16)
                assert 0 <= at <= at + length <= SIZE
                return base64.b64encode(self.data[at : at + length])
            case b"b64write":
                data = base64.b64decode(words[3])
                assert at % 4 == len(data) % 4 == 0
                assert at // 256 == (at + len(data) - 1) // 256, "within one buffer"
                assert self._state == [0xE8, len(data) // 4 - 1]
                self._store(at, data)
                self._state.append(0)
            case b"writeb":
                self._write(at, int(words[2], 16))
            case b"writel":
                for index in range(4):
                    self._write(at + index, int(words[2], 16) >> 8 * index & 0xFF)
            case other:
                raise AssertionError(other)
        return b""

    def _read(self, at: int) -> int:
        if self.mode == 0x98:
            table = {0x10: 0x51, 0x11: 0x52, 0x12: 0x59, 0x2A: 8, 0x2D: SIZE // BLOCK - 1}
            return (table | {0x2F: BLOCK // 256}).get(at, 0)
        return self._status if self.mode != 0xFF else self.data[at]

    def _write(self, at: int, value: int) -> None:
        match self._state:
            case [0x20]:
                assert value == 0xD0
                if not self._failed():
                    start = at // BLOCK * BLOCK
                    self.data[start : start + BLOCK] = b"\xff" * BLOCK
                self._state = []
            case [0x40]:
                self._store(at, bytes([value]))
                self._state = []
            case [0xE8]:
                self._state.append(value)
            case [0xE8, _, 0]:
                assert value == 0xD0
                self._state = []
            case _:
                if value == 0x50:
                    self._status = 0x80
                elif value in (0x20, 0x40, 0xE8):
                    self._state = [value]
                self.mode = value

    def _failed(self) -> bool:
        self._status |= self.fail
        return bool(self.fail)

    def _store(self, at: int, data: bytes) -> None:
        if not self._failed() and not self.stuck:
            self.data[at : at + len(data)] = data


@given(
    st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=600)), max_size=6),
    st.binary(min_size=1200, max_size=1200),
)
def test_programs_clear_bits_and_touch_nothing_else(
    steps: list[tuple[int, bytes]], content: bytes
) -> None:
    unit = Unit()
    unit.data[: len(content)] = content
    model = bytearray(unit.data)
    flash = PflashFlash(unit, BASE)
    impossible = 0
    for address, data in steps:
        flash.program(address, data)
        for at, value in enumerate(data, address):
            impossible += bool(value & ~model[at])
            model[at] &= value
    assert unit.data == model
    assert unit.mode == 0xFF
    assert sum(len(item.found) for item in flash.impossible) == impossible
    assert flash.read(0, SIZE) == model


def test_geometry_comes_from_the_cfi_table() -> None:
    flash = PflashFlash(Unit(), BASE)
    assert (flash.geometry.size, flash.geometry.page_size) == (SIZE, 256)
    assert flash.geometry.block_for(flash.geometry.blocks_at(5000)[0].range) is not None


def test_what_stands_there_already_is_not_programmed() -> None:
    unit = Unit()
    flash = PflashFlash(unit, BASE)
    flash.program(100, b"\xff" * 300)
    assert flash.programs == 0
    flash.program(100, b"\xff" * 100 + b"\x01" + b"\xff" * 100)
    assert flash.programs == 1
    flash.erase(0, SIZE)
    assert flash.erases == 12
    assert unit.data == b"\xff" * SIZE


def test_store_sets_bits_and_remembers() -> None:
    unit = Unit()
    flash = PflashFlash(unit, BASE)
    flash.store(7, b"\x0f")
    flash.store(7, b"\xf0")
    assert unit.data[7] == 0xF0
    assert flash.impossible == [SetBits(7, b"\x0f", b"\xf0")]


@pytest.mark.parametrize(("bits", "code"), [(0x10, "program"), (0x20, "erase")])
def test_a_failure_is_told_and_the_array_can_be_read(bits: int, code: str) -> None:
    unit = Unit()
    flash = PflashFlash(unit, BASE)
    unit.fail = bits
    with pytest.raises(ChipProtected) as caught:
        flash.erase(BLOCK, BLOCK) if bits == 0x20 else flash.program(BLOCK, b"\0")
    assert caught.value.code == f"pflash.{code}-failed"
    assert caught.value.context["address"] == BLOCK
    unit.fail = 0
    flash.sync()
    assert flash.read(0, 4) == b"\xff" * 4


def test_a_flash_that_ignores_programs_is_noticed() -> None:
    unit = Unit()
    flash = PflashFlash(unit, BASE)
    unit.stuck = True
    with pytest.raises(ChipStateUnknown) as caught:
        flash.program(0x123, b"abc")
    assert caught.value.code == "pflash.not-stored"
    assert caught.value.context["address"] == 0x123


def test_no_flash_and_no_machine() -> None:
    unit = Unit()
    with pytest.raises(ChipAbsent):
        PflashFlash(unit, BASE + BLOCK)
    flash = PflashFlash(unit, BASE)
    unit.lost_after = unit.commands + 3
    with pytest.raises(ProgrammerLost):
        flash.program(0, b"abcdefgh")


@pytest.mark.parametrize("place", [(-4096, 4096), (0, 100), (100, 4096), (SIZE, 4096), (0, 0)])
def test_only_whole_blocks_are_erased(place: tuple[int, int]) -> None:
    unit = Unit()
    flash = PflashFlash(unit, BASE)
    unit.data[:] = bytes(SIZE)
    with pytest.raises(UsageError):
        flash.erase(*place)
    with pytest.raises(UsageError):
        flash.read(SIZE - 1, 2)
    assert unit.data == bytes(SIZE)
