"""A board file says what its chip holds: another board, or another board's image, is stopped."""

from __future__ import annotations

import hashlib
import struct
import sys
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Notes, pattern

from hwflash.boards import Board, load_board
from hwflash.diagnostics import as_dict
from hwflash.errors import ChipStateUnknown, HwflashError
from hwflash.jobs.expectations import differences
from hwflash.jobs.opening import Request
from hwflash.jobs.regions import EVERY
from hwflash.jobs.session import open_session
from hwflash.jobs.source import ChipSource
from hwflash.jobs.uefi_edit import EditOptions, edit
from hwflash.jobs.write import WriteOptions, WriteResult, restore_targets, write
from hwflash.layout import ifd
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken
from hwflash.uefi.areas import KNOWN
from hwflash.uefi.rescue import rescue
from hwflash.units import MIB, Range

sys.path.insert(0, str(Path(__file__).parents[1] / "layout"))
from descriptors import descriptor
from test_layout_maps import table

SIZE = MIB
PLACES = {0: (0, 0xFFF), 3: (0x1000, 0x2FFF), 2: (0x3000, 0x3FFFF), 1: (0x40000, 0xFFFFF)}
FFS2 = "8c8ce578-8a3d-4f1c-9935-896185c32dd3"
NAME = "48db5e17-707c-472d-91cd-1613e7ef51b0"
OTHER = "5473c07a-3dcb-4dca-bd6f-1e9689e7349a"
VOLUME, MAP = 0x80000, 0xC0000
AREAS = [("FMAP", MAP, 0x1000, 0), ("COREBOOT", MAP + 0x1000, 0x1F000, 0)]
BOARD = f"""
name = "bench"
description = "a board on the bench"
[flash]
chip = "W25Q80DV"
size = "1M"
[expect]
volumes = ["{NAME}"]
fmap = ["COREBOOT"]
[expect.descriptor]
components = ["1M"]
regions = {{ me = {{ start = 0x3000, length = 0x3D000 }} }}
[[expect.volume]]
at = {VOLUME:#x}
guid = "{FFS2.upper()}"
"""


def volume(file_system: str = FFS2, name: str = NAME) -> bytes:
    """The headers of a firmware volume of 64 KiB, laid out by hand."""
    head = bytes(16) + UUID(file_system).bytes_le + struct.pack("<Q4sI", 0x10000, b"_FVH", 0)
    head += struct.pack("<HHHBBIIQ", 0x48, 0, 0x60, 0, 2, 16, 0x1000, 0)
    return head.ljust(0x60, b"\xff") + UUID(name).bytes_le + struct.pack("<I", 20)


def content(**changes: bytes) -> bytes:
    """A flash of the board; parts of it replaced."""
    parts = {"fd": bytes(descriptor(1, PLACES, density=(1,))), "fv": volume(),
             "map": table(AREAS, SIZE), **changes}  # fmt: skip
    data = bytearray(pattern(SIZE, 3))
    for at, part in ((0, parts["fd"]), (VOLUME, parts["fv"]), (MAP, parts["map"])):
        data[at : at + len(part)] = part
    return bytes(data)


GOOD = content()
PATCH = [Segment(0x50000, b"new")]


class Desk:
    """A simulated board, and how it is written."""

    def __init__(self, folder: Path, board: str = BOARD) -> None:
        (folder / "bench.toml").write_text(board)
        self.board = load_board(folder / "bench.toml")
        self.image, self.state, self.notes = folder / "chip.bin", folder / "state", Notes()
        self.state.mkdir(exist_ok=True)
        self.request = Request(
            programmer=f"sim://w25q80?image={self.image}", board=self.board,
            environ={"HWFLASH_STATE_DIR": str(self.state)},
        )  # fmt: skip

    def write(self, old: bytes, targets: list[Segment], **options: object) -> WriteResult:
        self.image.write_bytes(old)
        return self.again(targets, **options)

    def again(self, targets: list[Segment], **options: object) -> WriteResult:
        named = frozenset({EVERY})
        how = WriteOptions(self.state, named_regions=named, **options)  # type: ignore[arg-type]
        with open_session(self.request, self.notes) as session:
            return write(session, targets, how, self.notes, CancelToken())

    def refused(self, code: str, old: bytes, targets: list[Segment], **options: object) -> str:
        with pytest.raises(HwflashError) as caught:
            self.write(old, targets, **options)
        assert caught.value.code == code
        assert self.image.read_bytes() == old
        told = as_dict(caught.value)
        assert told["chip"] == "nothing was changed"
        assert caught.value.exit_code == (7 if code.startswith("image.") else 4)
        assert "please report" not in told["hint"]
        return caught.value.message


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


OTHERS = [
    ({"fd": bytes(descriptor(1, PLACES, density=(1, 1)))}, "board.other-descriptor",
     "expected 1 MiB, found 1 MiB and 1 MiB"),
    ({"fd": bytes(descriptor(1, {**PLACES, 2: (0x3000, 0x1FFFF)}, density=(1,)))},
     "board.other-descriptor", "region me: expected 0x003000-0x03FFFF, found 0x003000-0x01FFFF"),
    ({"fd": bytes(descriptor(1, {**PLACES, 1: (0, 0xFFFFF)}, density=(1,)))},
     "board.other-descriptor", "one that can be used"),
    ({"fd": bytes(4096)}, "board.other-descriptor", "no Intel flash descriptor"),
    ({"fv": volume(OTHER)}, "board.other-volume", OTHER),
    ({"fv": volume(name=OTHER)}, "board.other-volume", f"expected {NAME}, found"),
    ({"fv": bytes(96)}, "board.other-volume", "no volume"),
    ({"map": table([AREAS[0]], SIZE)}, "board.other-map", "COREBOOT"),
    ({"map": table([AREAS[1]] * 2, SIZE)}, "board.other-map", "one that can be used"),
    ({"map": bytes(200)}, "board.other-map", "found none"),
]  # fmt: skip


def test_another_board_is_stopped_and_so_is_its_image(desk: Desk) -> None:
    for changes, code, said in OTHERS:
        other = content(**changes)
        assert said in desk.refused(code, other, PATCH), said
        assert said in desk.refused("image.other-board", GOOD, [Segment(0, other)])
    # Where there is nothing of the board, its own image does not make it this board.
    desk.refused("board.other-descriptor", pattern(SIZE, 9), [Segment(0, GOOD)])
    result = desk.write(content(fv=volume(OTHER)), [Segment(0, GOOD)], accept_other_board=True)
    assert result.executed
    assert desk.image.read_bytes() == GOOD
    assert any(OTHER in text for text, _ in desk.notes.warnings)


def test_the_right_board_is_written(tmp_path: Path) -> None:
    desk = Desk(tmp_path, BOARD.replace(f'volumes = ["{NAME}"]', ""))
    desk.write(GOOD, PATCH)
    assert desk.image.read_bytes()[0x50000:0x50003] == b"new"
    desk.again([Segment(VOLUME, b"\xff" * 0x1000)], kind="erase")  # what is erased is backed up
    assert desk.again([Segment(VOLUME, GOOD[VOLUME : VOLUME + 0x1000])]).executed


@pytest.mark.slow
def test_a_blank_chip_is_written_when_it_becomes_the_board(desk: Desk) -> None:
    blank = b"\xff" * SIZE
    assert "erased" in desk.refused("board.blank", blank, PATCH)
    desk.refused("board.blank", blank, [Segment(0, content(map=b""))])
    assert not desk.write(blank, [Segment(0, blank)], kind="erase").executed
    desk.write(blank, PATCH, accept_other_board=True)
    desk.write(blank, [Segment(0, GOOD)])
    assert desk.image.read_bytes() == GOOD


def test_a_write_that_stopped_half_way_is_told_where_it_is_the_cause(desk: Desk) -> None:
    desk.image.write_bytes(b"\xff" * SIZE)
    whole = desk.request
    desk.request = replace(whole, programmer=f"{whole.programmer}&power_cut=60")
    with pytest.raises(ChipStateUnknown) as stopped:
        desk.again([Segment(0, GOOD)])
    desk.request = whole
    half = desk.image.read_bytes()
    with pytest.raises(HwflashError) as caught:
        desk.again([Segment(0, GOOD)])
    assert (caught.value.code, desk.image.read_bytes()) == ("board.other-volume", half)
    told = as_dict(caught.value)
    for key in ("resume", "restore"):
        assert told[key].split()[-1] == as_dict(stopped.value)[key].split()[-1]


def test_a_restore_is_judged_by_what_it_leads_to(desk: Desk) -> None:
    done = desk.write(GOOD, [Segment(0, b"\0" * 0x1000)], accept_other_board=True)
    assert done.backup is not None
    with pytest.raises(HwflashError, match="this is not board bench"):
        desk.again(PATCH)
    with open_session(desk.request, desk.notes) as session:
        targets = restore_targets(session, done.backup)
    desk.again(targets, kind="restore")
    assert desk.image.read_bytes() == GOOD


def test_one_unit_only(tmp_path: Path) -> None:
    desk = Desk(tmp_path, BOARD)
    desk.image.write_bytes(GOOD)
    with open_session(desk.request, desk.notes) as session:
        unit = session.unique_id()
    assert unit is not None
    for said, code in ((unit, None), (unit[:-2] + "00", "board.other-unit")):
        one = Desk(tmp_path, BOARD.replace("[expect]", f'[expect]\nunique_id = "{said.upper()}"'))
        if code is None:
            one.write(GOOD, PATCH)
        else:
            assert unit in one.refused(code, GOOD, PATCH)


def test_a_change_of_a_store_asks_for_the_board_too(desk: Desk) -> None:
    desk.image.write_bytes(content(fv=volume(OTHER)))
    with open_session(desk.request, desk.notes) as session:
        source = ChipSource("it", session, session.board, (Range(0, SIZE),))
        for repair, code in (("none", "board.other-volume"), ("rescue", "uefi.no-store")):
            how = EditOptions(WriteOptions(desk.state), repair=repair)  # type: ignore[arg-type]
            with pytest.raises(HwflashError) as caught:
                edit(source, how, lambda _nvram: None, desk.notes, CancelToken())
            assert caught.value.code == code


def test_a_repair_takes_nothing_that_the_board_must_have(desk: Desk) -> None:
    """A volume that is expected, or a blank chip, where a store is built by its place alone."""
    for data, code in ((GOOD, "image.other-board"), (b"\xff" * SIZE, "board.blank")):
        desk.image.write_bytes(data)
        with open_session(desk.request, desk.notes) as session:
            source = ChipSource("it", session, session.board, (Range(0, SIZE),))
            how = EditOptions(
                WriteOptions(desk.state, named_regions=frozenset({EVERY})),
                repair="as-is",
                place=(KNOWN[0], VOLUME),
            )
            with pytest.raises(HwflashError) as caught:
                edit(
                    source, how, lambda nvram: rescue(nvram, fresh=True), desk.notes, CancelToken()
                )
        assert (caught.value.code, desk.image.read_bytes()) == (code, data)


def found(board: Board, data: bytes) -> list[str]:
    def read(places: object) -> list[bytes]:
        return [data[place.address : place.end] for place in places]  # type: ignore[attr-defined]

    return [f"{item.code} {item.fact}" for item in differences(board, len(data), read)]


def test_hashes_of_descriptor_and_straps(tmp_path: Path) -> None:
    good = content()[:4096]
    table_of = "[expect.descriptor]\n"
    digests = {"sha256": good, "straps_sha256": ifd.straps(good)}
    more = "".join(f'{key} = "{hashlib.sha256(x).hexdigest()}"\n' for key, x in digests.items())
    board = Desk(tmp_path, BOARD.replace(table_of, table_of + more)).board
    assert ifd.straps(good) == bytes(range(0x48))
    assert found(board, GOOD) == []
    changed = bytearray(good)
    changed[0x120] ^= 1
    text = found(board, content(fd=bytes(changed)))
    assert text == [f"board.other-descriptor sha256 of the {x}" for x in ("descriptor", "straps")]


@given(st.lists(st.tuples(st.integers(0, 0xFFFFF), st.binary(min_size=1, max_size=24))))
def test_any_content_is_judged(pokes: list[tuple[int, bytes]]) -> None:
    data = bytearray(GOOD)
    for number, (at, piece) in enumerate(pokes):
        where = (0, VOLUME, MAP)[number % 3] + at % 0x100
        data[where : where + len(piece)] = piece
    kept = all(a == b for a, b in zip(data[:0x1000], GOOD[:0x1000], strict=True))
    kept = kept and data[MAP : MAP + 200] == GOOD[MAP : MAP + 200]
    text = found(ANY, bytes(data))
    assert kept <= all("volume" in item for item in text)


ANY = Board.model_validate({
    "name": "x", "description": "x", "flash": {"size": SIZE},
    "expect": {"descriptor": {"regions": {"me": {"start": 0x3000, "length": 0x3D000}}},
               "volumes": [NAME], "volume": [{"at": VOLUME, "guid": FFS2}], "fmap": ["COREBOOT"]},
})  # fmt: skip
