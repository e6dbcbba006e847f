"""Regions that a chip tells itself: honoured in every write, named, exported, imported."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from foreign.conftest import OVMF, require
from harness import Bench

sys.path.insert(0, str(Path(__file__).parents[1] / "layout"))
from descriptors import V1, descriptor, gbe, image
from test_layout_maps import AREAS, table

KIB = 1024
ME = slice(V1[2][0], V1[2][1] + 1)
BIOS = slice(V1[1][0], V1[1][1] + 1)


@pytest.fixture(scope="module")
def flash() -> bytes:
    return bytes(image(1))


@pytest.fixture
def board(tmp_path: Path, flash: bytes) -> Bench:
    """8 MiB with a version 1 descriptor; no board file is needed."""
    bench = Bench(tmp_path, "w25q64jv")
    bench.fill(flash)
    return bench


def changed(data: bytes, *places: int) -> bytes:
    found = bytearray(data)
    for place in places:
        found[place] ^= 0x5A
    return bytes(found)


def run(bench: Bench, code: int, *words: object) -> dict:
    answer = bench.json(*words, "-p", bench.url())
    assert answer.code == code, answer.out
    return answer.result


def test_the_management_engine_is_refused_and_then_allowed(board: Bench, flash: bytes) -> None:
    new = board.file("new.bin", changed(flash, ME.start + 100, BIOS.start + 100))
    error = run(board, 2, "write", new, "--yes")["error"]
    assert (error["code"], error["context"]["region"]) == ("usage.protected-region", "me")
    assert error["chip"] == "nothing was changed"
    assert board.content == flash
    run(board, 0, "write", new, "--yes", "--region", "bios")
    assert board.content == changed(flash, BIOS.start + 100)
    run(board, 0, "write", new, "--yes", "--region", "me")
    assert board.content == changed(flash, ME.start + 100, BIOS.start + 100)


@pytest.mark.slow
def test_a_layout_file_does_not_open_what_the_chip_protects(board: Bench, flash: bytes) -> None:
    """It says where names are; it cannot say that the management engine may be written."""
    me = f"{ME.start:08x}:{ME.stop - 1:08x} engine\n"
    layout = board.file("x.layout", f"{BIOS.start:08x}:{BIOS.stop - 1:08x} stuff\n{me}".encode())
    new = board.file("new.bin", changed(flash, ME.start + 100, BIOS.start + 100))
    for words in (["write", new], ["erase"]):
        error = run(board, 2, *words, "--layout", layout, "--yes")["error"]
        assert error["code"] == "usage.protected-region"
        assert board.content == flash
    run(board, 0, "write", new, "--layout", layout, "--region", "stuff", "--yes")
    assert board.content == changed(flash, BIOS.start + 100)
    run(board, 0, "write", new, "--layout", layout, "--region", "engine", "--yes")
    assert board.content == new.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("place", "region"), [(0x104, "fd"), (0x1010, "gbe"), (ME.start, "me")])
@pytest.mark.parametrize("how", ["at", "range", "erase"])
def test_no_road_leads_around_the_name(
    board: Bench, flash: bytes, place: int, region: str, how: str
) -> None:
    data = board.file("x.bin", bytes(4))
    words = {
        "at": ["write", data, "--at", hex(place)],
        "range": ["write", data, "--range", f"{place:#x}:4"],
        "erase": ["erase", "--range", f"{place:#x}:4"],
    }[how]
    error = run(board, 2, *words, "--yes")["error"]
    assert (error["code"], error["context"]["region"]) == ("usage.protected-region", region)
    assert board.content == flash
    run(board, 0, *words, "--yes", "--all-regions")
    assert board.content[place : place + 4] == (b"\xff" if how == "erase" else b"\0") * 4


@pytest.mark.slow
def test_a_whole_image_goes_where_nothing_protected_differs(board: Bench, flash: bytes) -> None:
    new = board.file("new.bin", changed(flash, BIOS.start, BIOS.stop - 1))
    run(board, 0, "write", new, "--yes")
    assert board.content == new.read_bytes()


@pytest.mark.slow
def test_export_and_import_of_a_region(board: Bench, flash: bytes) -> None:
    out = board.folder / "me.bin"
    run(board, 0, "read", "--region", f"me:{out}")
    assert out.read_bytes() == flash[ME]
    new = board.file("me2.bin", changed(flash[ME], 5))
    run(board, 0, "write", "--region", f"me:{new}", "--yes")
    assert board.content == changed(flash, ME.start + 5)
    answer = board.json("layout", board.image, "--export", f"gbe:{board.folder / 'g.bin'}")
    assert answer.code == 0
    assert (board.folder / "g.bin").read_bytes() == flash[0x1000:0x3000]
    answer = board.json("layout", board.image, "--export", "oops:x.bin")
    assert answer.error["code"] == "usage.region"
    assert board.json("layout", board.image, "--export", "gbe").error["code"] == "usage.selection"
    for words in (["--export", "gbe:/nowhere/x"], ["--save", "/nowhere/x"]):
        answer = board.json("layout", board.image, *words)
        assert (answer.code, answer.error["code"]) == (3, "environment.unwritable")


@pytest.mark.slow
def test_a_layout_file(board: Bench, flash: bytes) -> None:
    text = board.file("board.layout", "0:fff fd\n1000:1fff x\n2000:7fffff rest\n")
    data = board.file("x.bin", bytes(16))
    run(board, 0, "write", data, "--yes", "--layout", text, "--region", "x")
    assert board.content[0x1000:0x1010] == bytes(16)
    assert board.content[0x1010:] == flash[0x1010:]
    bad = board.file("bad.layout", "0:fff fd\n1000-1fff x\n")
    error = run(board, 7, "write", data, "--yes", "--layout", bad, "--region", "x")["error"]
    assert error["code"] == "layout.syntax"
    assert any("line 2" in fault for fault in error["context"]["faults"])
    missing = ("--layout", board.folder / "no.layout", "--region", "x")
    assert run(board, 7, "write", data, "--yes", *missing)["error"]["code"] == "layout.unreadable"


def test_layout_prints_and_saves(board: Bench) -> None:
    saved = board.folder / "out.layout"
    found = board.json("layout", board.image, "--save", saved).result
    assert [item["name"] for item in found["regions"]] == ["fd", "gbe", "me", "bios"]
    told = found["map"]
    assert (told["kind"], told["holes"], told["overlaps"]) == ("ifd", [], [])
    assert told["descriptor"]["components"] == [8192 * KIB]
    assert saved.read_text().splitlines()[1] == "00001000:00002fff gbe"
    again = board.json("layout", board.image, "--layout", saved).result
    assert again["map"]["kind"] == "file"
    assert [item["offset"] for item in again["regions"]] == [0, 0x1000, 0x3000, 0x200000]
    text = board.run("layout", board.image).out
    assert "host may read fd bios gbe; may write bios gbe" in text


@pytest.mark.slow
def test_a_region_of_another_image_is_imported(board: Bench, flash: bytes) -> None:
    """By its bytes, or from a whole image; nothing around it changes, and the file is backed up."""
    me = board.file("me.bin", bytes(ME.stop - ME.start))
    other = board.file("other.bin", bytes([7]) * 0x1000 + changed(flash, 0x1100)[0x1000:])
    out = board.folder / "out.bin"
    answer = board.json("layout", board.image, "--import", f"me:{me}", "-o", out)
    assert (answer.code, answer.result["executed"]) == (0, True), answer.out
    new = flash[: ME.start] + me.read_bytes() + flash[ME.stop :]
    assert out.read_bytes() == new
    assert board.content == flash
    both = ("layout", out, "--import", f"me:{board.image}", "--import", f"gbe:{other}")
    assert board.json(*both).error["code"] == "usage.confirm"
    assert not board.json(*both, "--dry-run").result["executed"]
    assert out.read_bytes() == new
    answer = board.json(*both, "--yes")
    assert [item["name"] for item in answer.result["imported"]] == ["me", "gbe"]
    assert out.read_bytes() == changed(flash, 0x1100)
    assert Path(answer.result["backup"]).read_bytes() == new
    assert "nothing to do" in board.run(*both, "--yes").out
    answer = board.run("layout", board.image, "--import", f"me:{me}", "-o", out, typed="n\n")
    assert answer.code == 130
    assert out.read_bytes() == changed(flash, 0x1100)
    assert board.json("history", "list").result["entries"][0]["kind"] == "layout import"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--import", "me:SHORT", "--yes"], "image.smaller-than-region"),
        (["--import", "gbe:LONG", "--yes"], "image.larger-than-region"),
        (["--import", "me:MOVED", "--yes"], "image.other-layout"),
        (["--import", "oops:SHORT", "--yes"], "usage.region"),
        (["--import", "me", "--yes"], "usage.selection"),
        (["--import", "me:nowhere.bin", "--yes"], "image.unreadable"),
        (["--import", "gbe:PAIR", "--import", "gbe:PAIR", "--yes"], "usage.overlap"),
        (["--output", "x.bin"], "usage.output"),
    ],
)
def test_import_slips(board: Bench, flash: bytes, words: list[str], code: str) -> None:
    moved = bytearray(flash)
    moved[:0x1000] = descriptor(1, {**V1, 2: (0x3000, 0x2FFFF), 1: (0x30000, BIOS.stop - 1)})
    board.file("MOVED", moved)
    for name, length in (("SHORT", 16), ("LONG", 0x2001), ("PAIR", 0x2000)):
        board.file(name, bytes(length))
    assert board.json("layout", board.image, *words).error["code"] == code
    assert board.content == flash


def test_import_is_not_for_chips(board: Bench, flash: bytes) -> None:
    pair = board.file("pair", bytes(0x2000))
    answer = board.json("layout", board.url(), "--import", f"gbe:{pair}", "--yes")
    assert answer.error["code"] == "usage.layout-import"
    assert board.content == flash


@pytest.mark.slow
def test_a_region_is_not_cut_from_an_image_that_has_it_elsewhere(
    board: Bench, flash: bytes
) -> None:
    """Its bytes there would be part of the management engine of the new image."""
    end = BIOS.start + 0x100000
    moved = bytearray(changed(flash, BIOS.start + 5))
    moved[:0x1000] = descriptor(1, {**V1, 2: (ME.start, end - 1), 1: (end, BIOS.stop - 1)})
    new = board.file("moved.bin", moved)
    for words in (["write", new, "--yes"], ["verify", new]):
        error = run(board, 7, *words, "--region", "bios")["error"]
        assert error["code"] == "image.other-layout"
        assert board.content == flash
    layout = board.file("x.layout", f"{end:08x}:{BIOS.stop - 1:08x} bios\n")
    run(board, 0, "write", new, "--yes", "--region", "bios", "--layout", layout)
    run(board, 0, "write", new, "--yes", "--range", f"{BIOS.start:#x}:64K")
    assert board.content == changed(flash, BIOS.start + 5)


@pytest.mark.slow
def test_a_broken_descriptor(board: Bench, flash: bytes) -> None:
    bad = bytearray(flash)
    bad[:0x1000] = descriptor(1, {**V1, 1: (0x100000, 0x7FFFFF)})
    board.fill(bytes(bad))
    answer = board.json("layout", board.image)
    assert (answer.code, answer.error["code"]) == (7, "ifd.overlap")
    data = board.file("x.bin", bytes(4))
    error = run(board, 7, "write", data, "--region", "bios", "--yes")["error"]
    assert error["code"] == "ifd.overlap"
    answer = board.json("write", data, "--at", "0x300000", "--yes", "-p", board.url())
    assert answer.code == 0
    warnings = [line["message"] for line in answer.lines if line["type"] == "warning"]
    assert any("protects nothing" in text for text in warnings)


def board_file(bench: Bench, kind: str) -> Path:
    return bench.file(
        "b.toml",
        'name = "b"\ndescription = "x"\n[flash]\nchip = "W25Q64JV"\nsize = "8M"\n'
        f'[layout]\nkind = "{kind}"\n',
    )


@pytest.mark.slow
def test_board_kind_fmap(board: Bench) -> None:
    content = bytearray(random.Random(1).randbytes(64 * KIB) + b"\xff" * (board.size - 64 * KIB))
    content[0x300:0x2000] = b"\xff" * 0x1D00
    areas = [*AREAS[:4], ("BIG", 0x10000, board.size - 0x10000, 0)]
    found = table(areas, board.size)
    content[0x1000 : 0x1000 + len(found)] = found
    board.fill(bytes(content))
    where = ("-b", board_file(board, "fmap"))
    out = board.folder / "rw.bin"
    run(board, 0, "read", "--region", f"RW_A:{out}", *where)
    assert out.read_bytes() == bytes(content[0x8000:0xC000])
    run(board, 0, "read", "--region", f"RW_A:{board.folder / 'again.bin'}")  # without a board
    assert (board.folder / "again.bin").read_bytes() == out.read_bytes()
    data = board.file("x.bin", bytes(4))
    run(board, 0, "write", data, "--region", "RW_A", "--yes", *where)
    error = run(board, 2, "write", data, "--at", "0x7000", "--yes", *where)["error"]
    assert error["context"]["region"] == "WP_RO"
    told = board.json("layout", board.image, *where).result["map"]
    assert told["overlaps"] == [["FMAP", "WP_RO"], ["COREBOOT", "WP_RO"]]
    assert told["holes"] == [{"address": 0xC000, "length": 0x4000}]


@pytest.mark.slow
def test_board_kinds_want_what_they_say(board: Bench) -> None:
    board.fill(b"\xff" * board.size)
    data = board.file("x.bin", bytes(4))
    for kind in ("ifd", "fmap"):
        where = ("-b", board_file(board, kind))
        error = run(board, 4, "write", data, "--at", "0", "--yes", *where)["error"]
        assert error["code"] == "board.blank"
        name = "fd" if kind == "ifd" else "FMAP"
        error = run(board, 7, "read", "--region", f"{name}:x", *where)["error"]
        assert error["code"] == f"{kind}.none"
        assert board.json("layout", board.image, *where).result["map"] is None
    assert board.content == b"\xff" * board.size


@pytest.mark.slow
def test_a_chip_of_another_board_is_accepted_on_demand_and_the_way_back_too(board: Bench) -> None:
    old = board.fill(2)
    where = ("-b", board_file(board, "ifd"))
    data = board.file("x.bin", bytes(3000))
    words = ("write", data, "--at", "0x300000", "--yes", *where)
    assert run(board, 4, *words)["error"]["code"] == "board.other-descriptor"
    erase = ("erase", "--range", "0x300000:4K", "--yes", *where)
    assert run(board, 4, *erase)["error"]["code"] == "board.other-descriptor"
    assert run(board, 4, *words, "--dry-run")["error"]["code"] == "board.other-descriptor"
    cut = board.run(*words, "--accept-other-board", "-p", board.url(power_cut=4))
    assert cut.code == 6
    for name in ("resume", "restore"):
        assert "--accept-other-board" in cut.printed(name)
    assert board.run(*cut.printed("restore"), "--yes").code == 0
    assert board.content == old
    run(board, 0, *words, "--accept-other-board")
    (entry, *_) = board.json("history", "list").result["entries"]
    assert entry["details"]["accept_other_board"] is True


@pytest.mark.slow
def test_gbe_of_an_image_and_of_a_chip(board: Bench, flash: bytes) -> None:
    found = board.json("gbe", "show", board.image).result["copies"]
    assert [(item["mac"], item["valid"]) for item in found] == [("00:11:22:33:44:55", True)] * 2
    other = board.folder / "other.bin"
    answer = board.json("gbe", "set", board.image, "--mac", "00:aa:bb:cc:dd:ee", "-o", other)
    assert answer.code == 0
    assert board.content == flash
    assert other.read_bytes()[0x1000:0x1006].hex() == "00aabbccddee"
    assert other.read_bytes()[0x1000:0x2000] == gbe("00aabbccddee")
    answer = board.json("gbe", "set", board.url(), "--mac", "00aabbccddee", "--yes")
    assert answer.code == 0, answer.out
    assert board.content == other.read_bytes()
    assert not board.json("gbe", "set", board.url(), "--checksum", "--yes").result["executed"]
    answer = board.json("gbe", "set", board.image, "--mac", "001122334455", "--yes")
    assert answer.result["backup"]
    assert board.content == flash


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["set", "SELF", "--yes"], "usage.selection"),
        (["set", "SELF", "--mac", "1", "--checksum", "--yes"], "usage.selection"),
        (["set", "SELF", "--mac", "01:00:00:00:00:00", "--yes"], "usage.mac"),
        (["set", "SELF", "--mac", "00:11:22:33:44:55"], "usage.confirm"),
        (["show", "plain.bin"], "gbe.none"),
        (["show", "nowhere.bin"], "image.unreadable"),
    ],
)
def test_gbe_slips(board: Bench, words: list[str], code: str) -> None:
    board.file("plain.bin", b"\xff" * 0x4000)
    words = [str(board.image) if word == "SELF" else word for word in words]
    assert board.json("gbe", *words).error["code"] == code


@pytest.mark.slow
def test_a_volume_by_its_guid(tmp_path: Path) -> None:
    ovmf = OVMF / "OVMF_CODE_4M.fd"
    require(ovmf.exists(), "package ovmf")
    bench = Bench(tmp_path, "w25q64jv")
    content = ovmf.read_bytes().ljust(bench.size, b"\xff")
    bench.fill(content)
    out = tmp_path / "sec.fv"
    name = "763BED0D-DE9F-48F5-81F1-3E90E1B1A015"
    run(bench, 0, "read", "--region", f"{name}:{out}")
    assert out.read_bytes() == content[0x348000:0x37C000]
    error = run(bench, 2, "read", "--region", "00000000-0000-0000-0000-000000000001:x.bin")
    assert error["error"]["code"] == "usage.region"
