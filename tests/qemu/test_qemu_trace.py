"""The operation log: lines as QEMU 7.2 writes them, a recorded reclaim, and strict NOR."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.chip.strict import SetBits, bits_to_set
from hwflash.errors import ReferenceFailed
from hwflash.qemu.trace import (
    arguments,
    fold,
    impossible_programs,
    parse,
    read_log,
    replayed,
)
from hwflash.uefi.flashops import Erase, Program
from hwflash.uefi.window import Window

LOG = """\
pflash_write system.flash1: single byte program (0)
pflash_data_write system.flash1: data offset:0x0064 size:1 value:0x00aa
pflash_data_write system.flash1: data offset:0x0065 size:1 value:0x0055
pflash_data_write system.flash1: data offset:0x0070 size:1 value:0x0000
qemu-system-x86_64: warning: something else
pflash_write_block_erase system.flash1: block erase offset:0x1000 bytes:0x1000
pflash_data_write_block virt.flash1: data offset:0x0010 size:4 value:0xfff12b8d counter:0x000000000000001b
4711@1700000000.123456:pflash_data_write virt.flash1: data offset:0x0014 size:2 value:0x0201
2026-01-02T03:04:05.678901Z pflash_data_write virt.flash1: data offset:0x0016 size:1 value:0x0003
"""  # noqa: E501


def test_lines_become_operations_by_unit() -> None:
    logs = parse(LOG.splitlines())
    assert list(logs) == ["system.flash1", "virt.flash1"]
    assert logs["system.flash1"].operations == (
        Program(0x64, b"\xaa"),
        Program(0x65, b"\x55"),
        Program(0x70, b"\x00"),
        Erase(0x1000, 0x1000),
    )
    assert logs["system.flash1"].folded() == [
        Program(0x64, b"\xaa\x55"),
        Program(0x70, b"\x00"),
        Erase(0x1000, 0x1000),
    ]
    assert logs["virt.flash1"].folded() == [Program(0x10, b"\x8d\x2b\xf1\xff\x01\x02\x03")]


@pytest.mark.parametrize(
    "line",
    [
        "pflash_data_write system.flash1: data offset:0x0064 size:1 value:0x1aa",
        "pflash_data_write system.flash1: data offset:0x0064 size:3 value:0xaa",
        "pflash_data_write system.flash1: offset 64",
        "pflash_write_block_erase system.flash1: data offset:0x0064 size:1 value:0xaa",
    ],
)
def test_a_line_that_cannot_be_read_is_told(line: str) -> None:
    with pytest.raises(ReferenceFailed, match="line 2") as caught:
        parse(["first", line])
    assert caught.value.code == "reference.trace"


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "operations.log"
    file.write_bytes(LOG.encode() + b"\xff\xfe\n")
    assert read_log(file) == parse(LOG.splitlines())
    with pytest.raises(ReferenceFailed):
        read_log(tmp_path / "none")
    words = arguments(file)
    assert words[-2:] == ["-D", str(file)]
    assert words.count("-trace") == 3


def test_programs_that_set_bits_are_found_with_their_image_address() -> None:
    before = Window(b"\xf0\xf0\xf0\xf0" + b"\x00" * 4, 0x1000)
    steps = [
        Program(0, b"\xf1"),  # sets bit 0
        Program(1, b"\xe0"),
        Program(2, b"\xff"),  # sets four bits
        Program(1, b"\xf0"),  # sets what was cleared just before
        Erase(4, 4),
        Program(4, b"\x12\x34"),  # nothing wrong with that
    ]
    assert impossible_programs(before, steps) == [
        SetBits(0x1000, b"\xf0", b"\xf1"),
        SetBits(0x1002, b"\xf0", b"\xff"),
        SetBits(0x1001, b"\xe0", b"\xf0"),
    ]
    assert replayed(before, steps).data == b"\xf1\xf0\xff\xf0\x12\x34\xff\xff"
    assert replayed(before, steps[:2]).data[:2] == b"\xf1\xe0"


def test_an_operation_behind_the_end_is_told() -> None:
    with pytest.raises(ReferenceFailed, match="16 bytes"):
        replayed(Window(bytes(16)), [Program(15, b"ab")])
    with pytest.raises(ReferenceFailed):
        impossible_programs(Window(bytes(16)), [Erase(0, 32)])


PRIMITIVES = st.lists(
    st.one_of(
        st.builds(Program, st.integers(0, 28), st.binary(min_size=1, max_size=4)),
        st.builds(lambda block: Erase(16 * block, 16), st.integers(0, 1)),
    ),
    max_size=20,
)


@given(PRIMITIVES, st.binary(min_size=32, max_size=32))
def test_folding_changes_neither_the_outcome_nor_what_is_found(
    steps: list[Program | Erase], content: bytes
) -> None:
    before = Window(content)
    assert replayed(before, fold(steps)) == replayed(before, steps)
    state = bytearray(content)
    expected: set[tuple[int, int, int]] = set()
    for step in steps:
        if isinstance(step, Program):
            for at, want in enumerate(step.data, step.address):
                if want & ~state[at]:
                    expected.add((at, state[at], want))
                state[at] = want
        else:
            state[step.address : step.range.end] = b"\xff" * step.length
    found = {
        (run.address + index, run.found[index], run.wanted[index])
        for run in impossible_programs(before, steps)
        for index in range(len(run.found))
    }
    assert found == expected


def test_runs_of_bytes_are_told_as_one() -> None:
    found = list(bits_to_set(0x100, b"\x00\x00\xff\x00\x01", b"\x01\x02\xff\x03\x01"))
    assert found == [
        SetBits(0x100, b"\x00\x00", b"\x01\x02"),
        SetBits(0x103, b"\x00", b"\x03"),
    ]
    assert str(found[0]) == "0x000100: 2 bytes, first 00 to 01"
    assert str(found[1]) == "0x000103: 1 byte, first 00 to 03"
    assert list(bits_to_set(0, b"\xff\x0f", b"\x00\x0f")) == []
    assert list(bits_to_set(0, b"", b"")) == []


DATA = Path(__file__).parents[1] / "data"


@pytest.mark.slow
def test_a_recorded_reclaim_of_ovmf_sets_no_bit() -> None:
    records = lzma.decompress((DATA / "ovmf-2m-reclaim.ops.xz").read_bytes())
    steps: list[Program | Erase] = []
    at = 0
    while at < len(records):
        kind, address = records[at], int.from_bytes(records[at + 1 : at + 5], "little")
        length = int.from_bytes(records[at + 5 : at + 7], "little")
        at += 7
        if kind == ord("w"):
            steps.append(Program(address, records[at : at + length]))
            at += length
        else:
            steps.append(Erase(address, length))
    before = Window(lzma.decompress((DATA / "ovmf-2m-reclaim.pre.fd.xz").read_bytes()))
    assert impossible_programs(before, steps) == []
    # The same without its erases could not have been done by a chip.
    assert impossible_programs(before, [step for step in steps if isinstance(step, Program)])
