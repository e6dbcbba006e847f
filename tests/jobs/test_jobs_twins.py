"""Chips that cannot be told apart, boards with regions to be kept, and jobs that are stale."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from hwflash.boards import load_board
from hwflash.errors import (
    ChipError,
    ChipProtected,
    ChipStateUnknown,
    HwflashError,
    ImageError,
    UsageError,
)
from hwflash.jobs.opening import Request
from hwflash.jobs.prepare import WriteOptions
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.write import WriteResult, resume, unfinished, write
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, NullReporter
from hwflash.units import KIB, Range

QUIET, GO = NullReporter(), CancelToken()


class Desk:
    """A folder with chips and a state directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.board = None

    def open(
        self, part: str, image: str = "chip.bin", more: str = "", chip: str | None = None
    ) -> Session:
        url = f"sim://{part}?image={self.folder / image}{more}"
        environ = {"HWFLASH_STATE_DIR": str(self.state)}
        return open_session(Request(url, chip=chip, board=self.board, environ=environ), QUIET)

    def write(self, session: Session, address: int, data: bytes, **options) -> WriteResult:
        how = WriteOptions(self.state, **options)
        with session:
            return write(session, [Segment(address, data)], how, QUIET, GO)

    def content(self, image: str = "chip.bin") -> bytes:
        return (self.folder / image).read_bytes()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def pattern(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def test_the_slower_twin_gets_its_time(desk: Desk) -> None:
    """MX25L12835F takes up to 3 ms a page, its twin MX25L12833F 1.2 ms."""
    data = pattern(8 * KIB)
    desk.write(desk.open("mx25l12835f", more="&timing=max"), 0, data)
    assert desk.content()[: len(data)] == data


def test_what_any_twin_locks_is_locked(desk: Desk) -> None:
    """One id, two ways to read the same protection bits: neither may be written past."""
    desk.open("mx25l3233f").close()
    state = desk.folder / "chip.bin.state.json"
    facts = json.loads(state.read_text())
    registers = next(
        value for key, value in facts.items() if isinstance(value, dict) and "1" in value
    )
    registers["1"] = 9 << 2
    state.write_text(json.dumps(facts))
    with pytest.raises(ChipProtected):
        desk.write(desk.open("mx25l3233f"), 0x200000, b"boot")
    assert desk.content() == b"\xff" * len(desk.content())


BOARD = """
name = "kept"
description = "a boot block that nobody may touch"
[flash]
size = "1M"
[[region]]
name = "boot"
start = 0
length = "16K"
protected = true
[[region]]
name = "app"
start = "16K"
length = "48K"
[[region]]
name = "tail"
start = "65K"
length = "4K"
[[region]]
name = "shared"
start = "69K"
length = "1K"
protected = true
"""


@pytest.fixture
def board_desk(desk: Desk) -> Desk:
    file = desk.folder / "kept.toml"
    file.write_text(BOARD)
    desk.board = load_board(file)
    (desk.folder / "chip.bin").write_bytes(pattern(1024 * KIB, 4))
    return desk


def test_a_protected_region_is_not_erased_on_the_way(board_desk: Desk) -> None:
    app = pattern(48 * KIB, 5)
    with pytest.raises(ChipStateUnknown):
        board_desk.write(board_desk.open("w25q80dv", more="&power_cut=30"), 16 * KIB, app)
    assert board_desk.content()[: 16 * KIB] == pattern(1024 * KIB, 4)[: 16 * KIB]
    record = unfinished(board_desk.state, None)
    assert all(step.range.address >= 16 * KIB for step in record.plan.steps)
    with board_desk.open("w25q80dv") as session:
        resume(session, record, WriteOptions(board_desk.state), QUIET, GO)
    assert board_desk.content()[16 * KIB : 64 * KIB] == app


def test_a_block_shared_with_a_protected_region_is_refused(board_desk: Desk) -> None:
    before = board_desk.content()
    with pytest.raises(UsageError) as caught:
        board_desk.write(board_desk.open("w25q80dv"), 65 * KIB, pattern(4 * KIB, 6))
    assert caught.value.code == "usage.shared-block"
    assert board_desk.content() == before
    named = frozenset({"shared", "tail"})
    board_desk.write(
        board_desk.open("w25q80dv"), 65 * KIB, pattern(4 * KIB, 6), named_regions=named
    )
    assert board_desk.content()[65 * KIB : 69 * KIB] == pattern(4 * KIB, 6)
    assert board_desk.content()[69 * KIB :] == before[69 * KIB :]


def twin_boards(desk: Desk, at: int) -> None:
    """Two boards with one firmware, each with its serial number."""
    old = bytearray(pattern(16 * 1024 * KIB, 7))
    for image, serial in (("one.bin", b"SERIAL-BOARD-ONE"), ("two.bin", b"SERIAL-BOARD-TWO")):
        old[at : at + 16] = serial
        (desk.folder / image).write_bytes(old)


@pytest.mark.slow
def test_an_identical_board_without_unique_id_is_not_resumed(desk: Desk) -> None:
    twin_boards(desk, 0x1800)
    new = pattern(0x1700, 8)
    with pytest.raises(ChipStateUnknown):
        desk.write(desk.open("mx25l12835f", "one.bin", "&power_cut=1"), 0, new)
    record = unfinished(desk.state, None)
    assert record.unique_id is None
    before = desk.content("two.bin")
    with desk.open("mx25l12835f", "two.bin") as session, pytest.raises(ChipError) as caught:
        resume(session, record, WriteOptions(desk.state), QUIET, GO)
    assert caught.value.code == "journal.other-chip"
    assert desk.content("two.bin") == before
    with desk.open("mx25l12835f", "one.bin") as session:
        resume(session, record, WriteOptions(desk.state), QUIET, GO)
    assert desk.content("one.bin")[: len(new)] == new
    assert desk.content("one.bin")[0x1800:0x1810] == b"SERIAL-BOARD-ONE"


@pytest.mark.slow
def test_a_board_that_cannot_be_told_apart_loses_nothing(desk: Desk) -> None:
    """The serial is in the block whose erase was cut short: no content can tell the boards
    apart, so what the chip holds is saved before the write goes on."""
    twin_boards(desk, 0x800)
    with pytest.raises(ChipStateUnknown):
        desk.write(desk.open("mx25l12835f", "one.bin", "&power_cut=1"), 0, pattern(0x700, 8))
    record = unfinished(desk.state, None)
    with desk.open("mx25l12835f", "two.bin") as session:
        result = resume(session, record, WriteOptions(desk.state), QUIET, GO)
    assert result.backup == Path(record.backup)
    saved = [file.read_bytes() for file in (desk.state / "backups").glob("*.bin")]
    assert sorted(content[0x800:0x810] for content in saved) == [
        b"SERIAL-BOARD-ONE", b"SERIAL-BOARD-TWO",
    ]  # fmt: skip


def test_a_journal_is_not_believed_after_another_write(desk: Desk) -> None:
    new = pattern(256 * KIB, 9)
    with pytest.raises(ChipStateUnknown):
        desk.write(desk.open("w25q80dv", more="&power_cut=600"), 0, new)
    first = unfinished(desk.state, None)
    desk.write(desk.open("w25q80dv"), 0x8000, b"something else")
    with desk.open("w25q80dv") as session:
        resume(session, first, WriteOptions(desk.state), QUIET, GO)
    assert desk.content()[: len(new)] == new


@pytest.mark.slow
def test_a_cable_pulled_after_the_write_does_not_deny_it(desk: Desk) -> None:
    with pytest.raises(ChipStateUnknown):
        desk.write(desk.open("w25q80dv", more="&power_cut=2"), 0x40000, pattern(9000))
    new = pattern(4 * KIB, 3)
    blank = b"\xff" * len(desk.content())
    outcomes: set[int] = set()
    for transfers in range(22, 120, 2):
        (desk.folder / "chip.bin").write_bytes(blank)
        (desk.folder / "chip.bin.state.json").unlink(missing_ok=True)
        try:
            desk.write(desk.open("w25q80dv", more=f"&faults=disconnect={transfers}"), 0, new)
        except HwflashError as exc:
            outcomes.add(exc.exit_code)
            if exc.exit_code != 6:
                assert (exc.exit_code, desk.content()) == (3, blank), transfers  # noqa: PT017
        else:
            outcomes.add(0)
            assert desk.content()[: len(new)] == new
    assert outcomes == {0, 3, 6}


def test_a_damaged_job_says_so(desk: Desk) -> None:
    with pytest.raises(ChipStateUnknown):
        desk.write(desk.open("w25q80dv", more="&power_cut=2"), 0, pattern(9000))
    record = unfinished(desk.state, None)
    (record.folder / "job.json").write_text("")
    with pytest.raises(ImageError) as caught:
        unfinished(desk.state, record.name)
    assert caught.value.code == "journal.damaged"


def test_boot_block_parts_that_answer_alike_are_written_only_when_named(desk: Desk) -> None:
    environ = {"HWFLASH_STATE_DIR": str(desk.state)}
    with open_session(Request("sim://en25b16t", environ=environ), QUIET) as session:
        with pytest.raises(ChipError) as caught:
            session.require_writable()
        assert caught.value.code == "chip.ambiguous"
        assert set(caught.value.context["parts"]) == {"EN25P16", "EN25B16", "EN25B16T"}
    request = Request("sim://en25b16t", chip="EN25B16T", environ=environ)
    with open_session(request, QUIET) as session:
        session.require_writable()


@pytest.mark.slow
def test_a_stack_whose_dies_are_selected_is_written_only_when_named(desk: Desk) -> None:
    with desk.open("w25m512jv") as session:
        assert len(session.flash.read(32 * 1024 * 1024 - 2, 4)) == 4
        with pytest.raises(ChipError) as caught:
            session.require_writable()
        assert caught.value.code == "chip.stacked"
    with desk.open("w25m512jv", chip="W25M512JV") as session:
        session.require_writable()


def test_the_supply_settles_before_the_chip_is_asked(board_desk: Desk) -> None:
    file = board_desk.folder / "power.toml"
    text = BOARD + '\n[programmer]\npower = "ACBUS0"\n[power]\nmethod = "gpio"\nsettle = 0.75\n'
    file.write_text(text)
    board_desk.board = load_board(file)
    with board_desk.open("w25q80dv") as session:
        assert session.programmer.bus.clock.now() >= 0.75


def test_a_unique_id_is_the_same_in_both_addressings(desk: Desk) -> None:
    """W25Q256 wants a dummy byte more in the 4-byte mode; a shifted id would begin with FF."""
    with desk.open("w25q256jv") as session:
        assert session.unique_id() is not None
        assert not session.unique_id().startswith("ff")
        assert Range(0, session.chip.size).length == 32 * 1024 * KIB
