"""What a screen shows, without any screen."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hwflash_tui.chipmap import ChipMap, Done, Mark, legend
from hwflash_tui.jobform import FORCED, GUARDED, KEPT, WRITTEN, JobForm, dangers
from hwflash_tui.mailbox import LINES, Mailbox
from hwflash_tui.meter import Meter
from hwflash_tui.names import about_size, short_name
from hwflash_tui.outcome import FAIL, PASS, STOPPED, of_error, of_result
from hwflash_tui.paths import folder_entries
from hwflash_tui.recent import FILE, add_recent, load_recent
from hwflash_tui.screens.value import guess
from hwflash_tui.widgets.banner import big
from hwflash_tui.wiring import draw

from hwflash.boards import load_board
from hwflash.errors import ChipProtected, ChipStateUnknown, HwflashError, Interrupted
from hwflash.flash.plan import Plan, Step
from hwflash.jobs.order import ImageFacts, Order, OrderResult
from hwflash.progress import PLAN, Progress
from hwflash.units import KIB, Range

SIZE = 64 * KIB
PLAN_OF_THREE = Plan(
    "TINY", SIZE, (Range(0, SIZE),),
    (
        Step("erase", Range(0, 8 * KIB), 1.0),
        Step("program", Range(0, 4 * KIB), 1.0),
        Step("program", Range(16 * KIB, 8 * KIB), 2.0),
    ),
    "",
)  # fmt: skip


def signs(marks: list[Mark]) -> str:
    return "".join(mark.sign for mark in marks)


def test_the_map_of_a_plan() -> None:
    chip = ChipMap(SIZE, 16, PLAN_OF_THREE, [Range(60 * KIB, 4 * KIB)])
    assert signs(chip.planned()) == "▓░··▒▒·········#"
    assert len({mark.sign for mark in Mark}) == len(Mark), "told apart without colour"
    assert legend(chip.planned())[0] is Mark.KEPT


@pytest.mark.parametrize(
    ("done", "shown"),
    [
        (Done(), "▓░··▒▒·········#"),
        (Done(1.0), "__··▒▒·········#"),
        (Done(2.0), "▄_··▒▒·········#"),
        (Done(3.0), "▄_··▄▒·········#"),
        (Done(4.0), "▄_··▄▄·········#"),
        (Done(4.0, verified=20 * KIB), "██··█▄·········#"),
        (Done(4.0, verified=24 * KIB), "██··██·········#"),
        (Done(4.0, wrong=(Range(5, 1),)), "!_··▄▄·········#"),
    ],
)
def test_the_map_fills_in(done: Done, shown: str) -> None:
    assert signs(ChipMap(SIZE, 16, PLAN_OF_THREE, [Range(60 * KIB, 4 * KIB)]).at(done)) == shown


def test_cells_are_whole_blocks_and_cover_the_chip() -> None:
    for cells in (1, 7, 100, 1000):
        chip = ChipMap(16 << 20, cells)
        assert len(chip) <= cells
        assert chip.cell_size % 4096 == 0
        assert len(chip) * chip.cell_size >= 16 << 20


def test_a_mailbox_keeps_the_last_of_each_phase() -> None:
    box = Mailbox()
    threads = [threading.Thread(target=fill, args=(box, name)) for name in ("read", "erase")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = box.take()
    assert {(item.phase, item.done) for item in found.progress} == {("read", 999), ("erase", 999)}
    assert found.events == 2000
    assert len(found.lines) == LINES
    assert len(found.posts) == 2000, "posts are never dropped"
    assert not box.take()


def fill(box: Mailbox, phase: str) -> None:
    for number in range(1000):
        box.progress(Progress(phase, number, 1000))
        box.info(str(number))
        box.post(number)


def test_rate_and_time_left() -> None:
    meter = Meter()
    assert meter.reading(0) is None
    meter.update(Progress("read", 0, 100 * KIB), 10.0)
    meter.update(Progress("read", 25 * KIB, 100 * KIB), 15.0)
    reading = meter.reading(15.0)
    assert reading is not None
    assert reading.text == "reading the chip 25 %, 5 KiB/s, 15 s left"
    meter.update(Progress("erase", 4096, 8192, 4096), 20.0)
    meter.update(Progress(PLAN, 100, 1000), 20.0)
    meter.update(Progress(PLAN, 500, 1000), 21.0)
    reading = meter.reading(21.0)
    assert reading is not None
    assert (reading.phase, reading.fraction) == ("erasing", 0.5)


ORDER = Order("write", "sim://w25q80", "alpha", Path("a b.fd"), regions=("main",))


def test_orders_have_their_command() -> None:
    assert ORDER.command == "hwflash write 'a b.fd' -p sim://w25q80 -b alpha --region main"
    assert "--restore" in Order("restore", file=Path("x.bin")).words()
    assert Order("resume", job="j").words()[1:4] == ["write", "--resume", "j"]
    assert Order("read", file=Path("x")).command == "hwflash read x --repeat 2"
    assert Order("erase", file=None, verify_full=True).command == "hwflash erase --verify full"


@pytest.mark.parametrize(
    ("error", "verdict", "unknown", "followups"),
    [
        (ChipProtected("no"), FAIL, False, set()),
        (Interrupted(), STOPPED, False, set()),
        (
            ChipStateUnknown("half", cause="programmer.lost", resume="j", backup="/b.bin",
                             programmer="sim://w25q80"),
            FAIL, True, {"resume", "restore"},
        ),
        (
            ChipStateUnknown("half", cause="interrupted", resume="j", backup="/b.bin"),
            STOPPED, True, {"resume", "restore"},
        ),
        (ChipProtected("no", unfinished="j", resume="j", backup="/b"), FAIL, True,
         {"resume", "restore"}),
        (HwflashError("what", code="internal"), FAIL, False, set()),
    ],
)  # fmt: skip
def test_an_error_says_what_the_chip_is(
    error: HwflashError, verdict: str, unknown: bool, followups: set[str]
) -> None:
    outcome = of_error(error, ORDER)
    assert (outcome.verdict, outcome.unknown) == (verdict, unknown)
    assert set(outcome.followups) == followups
    assert ("unknown state" in outcome.chip) == unknown
    assert outcome.next.endswith((".", "it printed"))
    for order in outcome.followups.values():
        assert order.board == "alpha"
        assert order.regions == ()


def test_results() -> None:
    done = OrderResult(ORDER, True, True, 4096, "ab", 1.0, (Range(0, 4096),))
    assert of_result(done).verdict == PASS
    assert "already" in of_result(replace(done, executed=False)).headline
    wrong = of_result(replace(done, passed=False, mismatches=(Range(0x10, 3),)))
    assert (wrong.verdict, wrong.wrong) == (FAIL, (Range(0x10, 3),))
    assert "0x000010" in wrong.headline


def test_recent_orders(tmp_path: Path) -> None:
    assert load_recent(tmp_path) == []
    for number in range(12):
        add_recent(tmp_path, replace(ORDER, file=Path(f"{number}.fd")))
    add_recent(tmp_path, Order("erase", "sim://w25q80"))
    found = load_recent(tmp_path)
    assert [item.file.name for item in found if item.file] == [f"{n}.fd" for n in range(11, 2, -1)]
    assert found[0].programmer is None
    assert add_recent(tmp_path, found[3])[0] == found[3]
    for damaged in ("", "[]", '{"recent": 3}', '{"recent": [{"action": "explode"}]}', "\0"):
        (tmp_path / FILE).write_text(damaged)
        assert load_recent(tmp_path) == []
    assert add_recent(tmp_path / "nowhere", ORDER)


BOARD = """
name = "b"
description = "b"
[flash]
size = "1M"
[[region]]
name = "boot"
start = 0
length = "64K"
protected = true
[[region]]
name = "main"
start = "64K"
length = "64K"
[nvram]
variables = { start = "64K", length = "4K" }
"""


def test_a_form_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text(BOARD)
    board = load_board(tmp_path / "b.toml")
    image = ImageFacts(1 << 20, "ab" * 32, "raw", False)
    form = JobForm("sim://w25q80", 1 << 20)
    assert "Choose an image" in form.problem("write")
    form = replace(form, file=tmp_path / "x.fd", image=image)
    assert form.problem("write") == ""
    assert "has 512 KiB" in replace(form, image=replace(image, size=1 << 19)).problem("write")
    form = replace(form, board=board, board_name="b")
    assert "protects boot" in form.problem("write")
    assert form.problem("verify") == ""
    assert [line.fate for line in form.lines()] == [GUARDED, WRITTEN]
    form = replace(form, regions=("main",))
    assert form.problem("write") == ""
    assert [line.fate for line in form.lines()] == [GUARDED, WRITTEN]
    assert [line.fate for line in replace(form, regions=("boot",)).lines()] == [FORCED, KEPT]
    assert "16 MiB" in replace(form, chip_size=16 << 20).problem("write")
    assert form.problem("read") == ""
    (tmp_path / "x.fd").touch()
    assert "exists already" in form.problem("read")
    order = form.order("write")
    assert dangers(order, board, [Range(0x20000, 4)]) == []
    assert "variables" in dangers(order, board, [Range(0x10010, 4)])[0]
    assert "boot is protected" in dangers(order, board, [Range(0, 4)])[0]
    assert dangers(form.order("erase"), None, [])


def test_wires(tmp_path: Path) -> None:
    usual = draw(None, ("DO",))
    assert [row.suspect for row in usual] == [False, False, True, False, False, False]
    assert len({len(row.text.rstrip(" !")) for row in usual if "┤" in row.text}) == 1
    text = BOARD + '[[wiring.pin]]\npin = "J1-3"\nsignal = "CS#"\nto = "ADBUS3"\n'
    (tmp_path / "b.toml").write_text(text)
    rows = draw(load_board(tmp_path / "b.toml"), ("CS#",))
    assert rows[0].suspect
    assert "J1-3" in rows[0].text


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\x03\0", ("u16", "3")),
        (b"en\0", ("string", "en")),
        (b"\xff" * 5, ("hex", "ffffffffff")),
        (b"\0" * 3, ("hex", "000000")),
    ],
)
def test_how_a_value_is_typed(data: bytes, found: tuple[str, str]) -> None:
    assert guess(data) == found


def test_names() -> None:
    assert short_name("sim://w25q80?image=/x/board-1.bin") == "sim w25q80 board-1"
    assert short_name("serprog:///dev/ttyACM0") == "serprog dev/ttyACM0"
    assert len(short_name("sim://" + "x" * 99)) == 30
    assert (about_size(4096), about_size(3932048), about_size(7)) == (
        "4 KiB",
        "3.75 MiB",
        "7 bytes",
    )


def test_large_letters_fit() -> None:
    for word in ("PASS", "FAIL", "STOPPED", "READY", "RUN"):
        for width in (20, 76, 116):
            assert max(map(len, big(word, width))) <= max(width, len(word))
        assert len(big(word, 76)) == 5


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "b.fd").write_bytes(b"x")
    (tmp_path / ".hidden").touch()
    (tmp_path / "a").mkdir()
    assert [item.path.name for item in folder_entries(tmp_path)] == ["a", "b.fd"]
    with pytest.raises(FileNotFoundError):
        folder_entries(tmp_path / "nowhere")
