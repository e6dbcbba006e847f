"""Every board file that is shipped: a write on its simulated twin is undone by its backup."""

from __future__ import annotations

from pathlib import Path

import board_twins
import pytest
from support import Notes, pattern

from hwflash.boards import list_boards, load_board
from hwflash.errors import HwflashError
from hwflash.jobs.expectations import differences
from hwflash.jobs.opening import Request
from hwflash.jobs.regions import EVERY
from hwflash.jobs.session import open_session
from hwflash.jobs.write import WriteOptions, restore_targets, write
from hwflash.layout.files import Segment
from hwflash.layout.regions import Region
from hwflash.progress import CancelToken
from hwflash.units import Range

#: Each board is a chip of up to 32 MiB.
pytestmark = pytest.mark.slow

SHIPPED = [entry.name for entry in list_boards({"HOME": "/nonexistent"})]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_backup_undoes_a_write(tmp_path: Path, name: str) -> None:
    board = load_board(name, {})
    old = board_twins.content(board)
    image = tmp_path / "chip.bin"
    image.write_bytes(old)
    state = tmp_path / "state"
    request = Request(
        f"sim://{board_twins.part(board).lower()}?image={image}", board, allow_voltage=True,
        environ={"HWFLASH_STATE_DIR": str(state)},
    )  # fmt: skip
    state.mkdir()
    notes, go = Notes(), CancelToken()
    every = WriteOptions(state, named_regions=frozenset({EVERY}))
    with open_session(request, notes) as session:
        regions = list(session.regions()) or [Region("all", Range(0, len(old)))]
        inner = [item.range for item in regions
                 if not any(item.range.contains(x.range) for x in regions if x is not item)
                 ]  # fmt: skip
        targets = [Segment(place.address + 0xF00, pattern(40, 5)) for place in inner]
        places = [item.range for item in targets]
        before = session.flash.read_pieces(places)
        done = write(session, targets, every, notes, go)
        assert session.flash.read_pieces(places) == [item.data for item in targets] != before
        assert done.backup is not None
        back = WriteOptions(state, named_regions=frozenset({EVERY}), kind="restore")
        assert write(session, restore_targets(session, done.backup), back, notes, go).executed

        def spoilt(where: list[Range]) -> list[bytes]:
            return [bytes(item.length) for item in where]

        expected = list(differences(board, len(old), spoilt))  # type: ignore[arg-type]
        if expected:  # what the board expects is held against what would be written
            with pytest.raises(HwflashError) as caught:
                write(session, [Segment(0, bytes(len(old)))], every, notes, go)
            assert caught.value.code == "image.other-board"
    assert image.read_bytes() == old
    codes = {told.get("code") for _, told in notes.warnings}
    assert codes == ({"ifd.overlap"} if name in board_twins.OVERLAPPING else set())


def test_boards_with_expectations_are_among_them() -> None:
    known = {name: load_board(name, {}) for name in SHIPPED}
    blank: dict[str, int] = {}
    for name, board in known.items():
        read = lambda places: [b"\xff" * item.length for item in places]  # noqa: E731
        found = list(differences(board, board.flash.size, read))
        assert all(item.blank for item in found)
        blank[name] = len(found)
    assert sum(map(bool, blank.values())) > 20
    assert len(known) > 30
