"""The contact test on simulated wires, good and bad."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from support import Notes

from hwflash.boards import Board, Flash, Programmer
from hwflash.bus.spi import Transfer
from hwflash.chip import catalog, dumps
from hwflash.errors import ChipUnsupported, EnvironmentFault, Interrupted, ProgrammerBusy
from hwflash.jobs import clocks
from hwflash.jobs.contact import ContactReport, contact_test, forget_clock, wait_for_chip
from hwflash.jobs.contact_reads import judge, shift
from hwflash.jobs.contact_verdict import SILENT, of_identity
from hwflash.jobs.lock import Mark, ProgrammerLock
from hwflash.jobs.opening import Request, board_key, locks, open_programmer
from hwflash.jobs.session import open_session
from hwflash.progress import CancelToken
from hwflash.sim.die import NorDie
from hwflash.sim.programmer import SimulatedProgrammer

PART = "w25q16jv"  # it has SFDP tables
LINES = ("clk", "mosi", "miso", "cs")
DOCS = Path(__file__).parents[2] / "docs"
DOC = (DOCS / "contact.md").read_text(encoding="utf-8")
#: So many cases of the table belong to the quick set.
QUICK = 7
BOARD = Board(
    name="one", description="a board", flash=Flash(size=2 << 20),
    programmer=Programmer(reset="ACBUS1"),
)  # fmt: skip


def request(folder: Path, faults: str = "", board: Board | None = None, **options) -> Request:
    url = f"sim://{PART}?faults={faults}"
    environ = {"HWFLASH_STATE_DIR": str(folder)}
    return Request(url, board=board, environ=environ, **options)


def tried(folder: Path, faults: str = "", board: Board | None = None, **options) -> ContactReport:
    return contact_test(request(folder, faults, board, **options), Notes(), CancelToken())


#: Fault, finding, the signal to look at first, and what the sentence has in it.
TABLE = [
    ("", "good", None, "good at every clock up to 30 MHz"),
    ("open=miso", "silent", "VCC", "nobody drives MISO"),
    ("swap=mosi-miso", "swapped", "DI", "MOSI (DI) and MISO (DO) are swapped"),
    ("stuck=miso-low", "stuck-low", "DO", "MISO (DO) is shorted to ground"),
    ("short=mosi-miso", "short", "DI", "MOSI (DI) and MISO (DO) touch"),
    ("open=miso-coupled", "loose-miso", "DO", "MISO shows what MOSI sends"),
    ("cs=low", "cs-ignored", "CS#", "although CS# is high"),
    ("supply=off", "no-supply", "VCC", "connect VCC"),
    ("sag=500", "supply", "VCC", "after 499 bytes: probably the supply sags"),
    ("slip=late@12M", "clock-late", "DO", "good up to 10 MHz; above that 24 of 24 reads come"),
    ("master=on", "other-master", None, "another master has the bus"),
    ("engine=deaf", "programmer", None, "the fault is in the programmer"),
    ("second=mx25l3206e", "strange-id", "DO", "probably two chips answer at once"),
    *((f"open={line}", "silent", "VCC", "nobody drives MISO") for line in ("clk", "mosi", "cs")),
    ("cs=floating", "silent", "VCC", "HOLD#"),
    ("hold=low,open=hold", "silent", "VCC", "HOLD#"),
    ("reset=low", "silent", "VCC", "HOLD#"),
    *((f"swap={one}-{other}", "swapped", None, "are swapped") for one, other in (
        ("clk", "mosi"), ("clk", "miso"), ("clk", "cs"), ("mosi", "cs"), ("miso", "cs"),
        ("cs", "hold"), ("cs", "wp"), ("clk", "wp"), ("miso", "hold"), ("mosi", "wp"),
    )),
    ("swap=clk-mosi+mosi-cs", "swapped", None, "in a wrong order"),
    *((f"short={one}-{other}", "short", None, "touch") for one, other in (
        ("clk", "mosi"), ("clk", "miso"), ("clk", "cs"), ("mosi", "cs"), ("miso", "cs"),
    )),
    *((f"stuck={line}-{level}", f"stuck-{level}", signal, f"is shorted to {rail}")
      for line, signal in (("clk", "CLK"), ("mosi", "DI"), ("miso", "DO"), ("cs", "CS#"),
                           ("wp", "WP#"), ("hold", "HOLD#"))
      for level, rail in (("high", "the supply"), ("low", "ground"))
      if (line, level) not in (("miso", "low"), ("wp", "high"), ("hold", "high"))),
    ("sag=500@12M", "clock-supply", "VCC", "good up to 10 MHz; above that short reads are good"),
    ("slip=late", "edges", "CLK", "only when every clock is made by hand"),
    ("ring=0.0005", "bits-early", "CLK", "the chip is a clock ahead"),
    ("ring=0.0005@12M", "clock-early", "CLK", "33 to 100 ohms into CLK"),
    ("flip=0.001@12M", "clock-flipping", "CLK", "good up to 10 MHz"),
    ("flip=0.005", "bits-flipping", "CLK", "23 of 24 reads differ"),
    ("second=w25q80dv", "strange-id", "DO", "its SFDP tables tell 2 MiB"),
    # What reading cannot see:
    ("open=wp", "good", None, "good"),
    ("swap=wp-hold", "good", None, "good"),
    (f"second={PART}", "good", None, "good"),
    ("open=hold", "good", None, "good"),
]  # fmt: skip


@cache
def published() -> Any:
    """What docs/output.schema.json says of a contact test."""
    definitions = json.loads((DOCS / "output.schema.json").read_text(encoding="utf-8"))["$defs"]
    return jsonschema.Draft202012Validator({"$ref": "#/$defs/contact", "$defs": definitions})


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Every window that a chip sees, and that nothing in them writes.

    A window is the bytes that are whole when CS# rises.
    """
    windows: list[bytes] = []
    dies: list[NorDie] = []
    deselect, made = NorDie.deselect, NorDie.__init__

    def end(die: NorDie) -> None:
        if die.selected and not die._bits:
            windows.append(bytes(die._received))
        deselect(die)

    def make(die: NorDie, *args, **options) -> None:
        made(die, *args, **options)
        dies.append(die)

    with monkeypatch.context() as patch:
        patch.setattr(NorDie, "deselect", end)
        patch.setattr(NorDie, "__init__", make)
        yield windows
    assert b"\x06" not in windows
    assert b"\x50" not in windows
    for die in dies:
        assert die.primitives == 0
        assert not die.wel
        assert not die.volatile_enabled


def check(
    folder: Path, monkeypatch: pytest.MonkeyPatch, faults: str, finding: str,
    signal: str | None, said: str,
) -> ContactReport:  # fmt: skip
    with watched(monkeypatch) as windows:
        report = tried(folder, faults)
    if not faults.startswith("ring"):  # edges that count twice make other bytes of ours
        assert not {window[:6].hex() for window in windows if window and window[0] in WRITES}
    verdict = report.verdict
    assert (verdict.finding, verdict.good) == (finding, finding == "good"), (faults, verdict)
    assert said in verdict.text, faults
    assert signal is None or verdict.suspects[0] == signal, (faults, verdict)
    assert "\n" not in verdict.text
    assert f"| {verdict.text}" in DOC or "+" in faults, "docs/contact.md shows another sentence"
    if finding == "silent":
        assert verdict.alike == SILENT
    published().validate(json.loads(json.dumps(report.as_dict())))
    return report


#: Write enable, volatile write enable, programs, erases, status writes, security registers, locks.
WRITES = bytes.fromhex("0650022052d8c760c401311142443901ad98dc122138f2b1c0c5")


@pytest.mark.parametrize(("faults", "finding", "signal", "said"), TABLE[:QUICK])
def test_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: str, finding: str,
    signal: str | None, said: str,
) -> None:  # fmt: skip
    check(tmp_path, monkeypatch, faults, finding, signal, said)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_more_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    for row in TABLE[QUICK + part :: 4]:
        check(tmp_path, monkeypatch, *row)


def test_what_looks_the_same_is_said() -> None:
    """Faults of one finding and one sentence are those that the sentence lists."""
    silent = {faults for faults, finding, *_ in TABLE if finding == "silent"}
    assert silent == {
        "open=clk", "open=mosi", "open=miso", "open=cs", "cs=floating", "hold=low,open=hold",
        "reset=low",
    }  # fmt: skip


# --- nothing is written --------------------------------------------------------------------


def orders() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every order of the four lines in which at least three are wrong, as swaps one by one."""
    for order in permutations(LINES):
        swaps, now = [], list(LINES)
        for place, line in enumerate(order):
            if now[place] != line:
                other = now.index(line)
                swaps.append(f"{LINES[place]}-{LINES[other]}")
                now[place], now[other] = now[other], now[place]
        if len(swaps) > 1:
            yield "+".join(swaps), order


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_nothing_that_writes_reaches_a_chip_whatever_the_order_of_its_wires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    every = list(orders())
    assert len(every) == 24 - 1 - 6
    for swaps, order in every[part::4]:
        swap = f"swap={swaps}"
        report = check(tmp_path, monkeypatch, swap, "swapped", None, "in a wrong order")
        assert report.answers is not None
        roles = dict(report.answers.roles)
        assert tuple(roles[line] for line in LINES) == order


@pytest.mark.slow
@pytest.mark.parametrize("faults", ["ring=0.02", "flip=0.3", "master=on"])
def test_nothing_is_written_on_a_wild_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: str
) -> None:
    with watched(monkeypatch) as windows:
        assert not tried(tmp_path, faults).good
    assert windows or faults == "master=on"


def test_a_write_enable_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def enable() -> None:
        with watched(monkeypatch):
            programmer = open_programmer(request(tmp_path))
            programmer.bus.execute([Transfer(b"\x06")])
            programmer.release()

    with pytest.raises(AssertionError):
        enable()


# --- other masters, boards, programmers without pins ----------------------------------------


def test_another_master_that_the_reset_pin_holds(tmp_path: Path) -> None:
    report = tried(tmp_path, "master=ACBUS1", BOARD)
    assert report.good
    assert report.lines is not None
    assert report.lines.moving_free
    assert not report.lines.moving
    assert any("another master uses this bus" in note for note in report.notes)
    assert report.answers is not None
    assert report.answers.free_id is None, "a board that runs is not driven against"
    quiet = tried(tmp_path, "", BOARD)
    assert quiet.answers is not None
    assert quiet.answers.free_id == "ef4015"


def test_another_master_that_holds_the_lines_still(tmp_path: Path) -> None:
    verdict = tried(tmp_path, "master=ACBUS1-still", BOARD).verdict
    assert verdict.finding == "other-master"
    assert "the id is ef4015 with the board's processor in reset and ffffff without" in verdict.text


@pytest.fixture
def driven(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Levels and directions that the programmer's pins were given, one after the other."""
    found: list[tuple[int, int]] = []
    original = SimulatedProgrammer.__init__

    def init(sim: SimulatedProgrammer, *args, **options) -> None:
        original(sim, *args, **options)
        wires = sim._engine.shifter.wires
        drive = wires.drive

        def noted(value: int, direction: int) -> None:
            found.append((value, direction))
            drive(value, direction)

        wires.drive = noted

    monkeypatch.setattr(SimulatedProgrammer, "__init__", init)
    return found


def test_nothing_is_driven_into_a_moving_bus(tmp_path: Path, driven: list[tuple[int, int]]) -> None:
    assert tried(tmp_path, "master=on").verdict.finding == "other-master"
    assert {direction for _, direction in driven} == {0}
    driven.clear()
    assert tried(tmp_path, "master=on", BOARD).verdict.finding == "other-master"
    assert {direction for _, direction in driven} == {0, 0x0200}, "the reset pin at most"


@pytest.mark.parametrize("faults", ["", "master=on", "open=miso"])
def test_a_board_that_is_switched_on_by_the_test_does_not_boot(
    tmp_path: Path, driven: list[tuple[int, int]], faults: str
) -> None:
    pins = Programmer(reset="ACBUS1", power="ACBUS0")
    board = BOARD.model_copy(update={"name": "switched", "programmer": pins})
    tried(tmp_path, faults, board)
    on = [(value, way) for value, way in driven if value & way & 0x0100]
    assert on
    # The engine sets one bank after the other: the low bank alone is not a change of these two.
    assert all(way & 0x0200 and not value & 0x0200 for value, way in on)
    assert not driven[-1][1] & 0x0100, "off again"


def test_a_board_that_is_on_or_takes_less_is_left_alone(tmp_path: Path) -> None:
    lock = ProgrammerLock(locks(request(tmp_path)), board_key(BOARD), switching=True)
    lock.set_mark(Mark("one", "now", lasting=True))
    lock.release()
    with pytest.raises(ProgrammerBusy) as caught:
        tried(tmp_path, "", BOARD)
    assert caught.value.code == "power.board-on"
    low = BOARD.model_copy(update={"name": "low", "flash": Flash(size=2 << 20, voltage=1.8)})
    with pytest.raises(ChipUnsupported):
        tried(tmp_path, "", low)
    assert tried(tmp_path, "", low, allow_voltage=True).good
    little = replace(request(tmp_path), programmer="sim://w25q64jw")
    with pytest.raises(ChipUnsupported) as refused:
        contact_test(little, Notes(), CancelToken())
    assert refused.value.code == "chip.voltage"


@pytest.mark.parametrize(
    ("faults", "finding"),
    [("", "good"), ("stuck=miso-low", "silent-low"), ("swap=mosi-miso", "silent"),
     ("flip=0.01", "bits-flipping"), ("sag=500", "supply")],
)  # fmt: skip
def test_a_programmer_without_pins_says_what_it_cannot_do(
    tmp_path: Path, faults: str, finding: str
) -> None:
    url = f"record+sim://{PART}?faults={faults}&trace={tmp_path / 'trace'}"
    asked = Request(url, environ={"HWFLASH_STATE_DIR": str(tmp_path)})
    report = contact_test(asked, Notes(), CancelToken())
    assert report.verdict.finding == finding
    assert report.lines is report.answers is None
    assert "carries whole transfers only" in report.notes[0]
    if finding == "silent":
        assert "swapped wires" in report.verdict.alike


# --- clocks ----------------------------------------------------------------------------------


def test_the_clocks_rise_to_the_limit(tmp_path: Path) -> None:
    found = [item.frequency for item in tried(tmp_path, frequency=10e6).contacts]
    assert found == sorted(found)
    assert 9e6 < found[-1] <= 10e6
    assert [item.frequency for item in tried(tmp_path, frequency=100e3).contacts] == [
        pytest.approx(100e3, rel=0.1)
    ]


def frequency(folder: Path, board: Board | None = None, **options) -> float:
    programmer = open_programmer(request(folder, "", board, **options))
    programmer.release()
    return programmer.bus.frequency


@pytest.mark.slow
def test_the_good_clock_is_remembered_until_better_is_found(tmp_path: Path) -> None:
    bad = "slip=late@12M"
    assert tried(tmp_path, bad).limit == 10e6
    assert frequency(tmp_path) == 10e6
    assert frequency(tmp_path, frequency=30e6) == 30e6, "what is asked for is asked for"
    assert frequency(tmp_path, BOARD) == 30e6, "another board is another board"
    notes = Notes()
    open_session(request(tmp_path), notes).close()
    assert any("SCK is 10 MHz" in text for text, _ in notes.infos)
    assert tried(tmp_path, "open=cs").limit is None
    assert frequency(tmp_path) == 10e6, "a bad contact says nothing of clocks"
    assert tried(tmp_path, bad, frequency=5e6).limit == 10e6, "not tried any higher"
    assert tried(tmp_path, "", frequency=15e6).limit == 15e6
    assert frequency(tmp_path) == 15e6
    assert tried(tmp_path).limit is None
    assert frequency(tmp_path) == 30e6
    tried(tmp_path, "sag=500@12M")
    assert frequency(tmp_path) == 10e6
    assert forget_clock(request(tmp_path)) == 10e6
    assert forget_clock(request(tmp_path)) is None
    assert frequency(tmp_path) == 30e6


@pytest.mark.slow
def test_a_clock_belongs_to_a_board_and_a_programmer(tmp_path: Path) -> None:
    assert tried(tmp_path, "slip=late@12M", BOARD).limit == 10e6
    assert frequency(tmp_path, BOARD) == 10e6
    assert frequency(tmp_path) == 30e6
    slow = BOARD.model_copy(update={"programmer": Programmer(reset="ACBUS1", frequency="5M")})
    assert frequency(tmp_path, slow) == 5e6, "the board file's own limit stands"
    other = replace(request(tmp_path, "", BOARD), programmer="sim://w25q80dv")
    programmer = open_programmer(other)
    programmer.release()
    assert programmer.bus.frequency == 30e6


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"any board on sim://w25q16jv": 3}', "[" * 100_000,
     *(f'{{"any board on sim://w25q16jv": {{"hertz": {value}}}}}'
       for value in ("-1", "0", "1", f"1{0:0400}", "true", "null", '"10M"', "NaN", "Infinity",
                     "[]"))],
    ids=lambda text: f"{len(text)} {text[-8:]}",
)  # fmt: skip
def test_damaged_memory_is_no_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / clocks.FILE).write_text(text)
    environ, key = request(tmp_path).environ, "any board on sim://w25q16jv"
    assert clocks.remembered(environ, key) is None
    clocks.remember(environ, key, 10e6)
    assert clocks.remembered(environ, key) == 10e6
    assert frequency(tmp_path) == 10e6


def test_memory_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / clocks.FILE).mkdir()
    notes = Notes()
    report = contact_test(request(tmp_path, "slip=late@12M"), notes, CancelToken())
    assert (report.verdict.finding, report.limit) == ("clock-late", None)
    assert notes.warnings[0][1]["code"] == "state.unwritable"
    with pytest.raises(EnvironmentFault):
        clocks.remember(request(tmp_path).environ, "one", 1e6)


# --- bits ------------------------------------------------------------------------------------


def test_one_bit_is_told_from_many() -> None:
    right = b"\xef\x40\x18" + bytes(range(256))
    flipped = bytes([right[0] ^ 1]) + right[1:]
    found = judge([right, flipped, right], 1e6)
    assert "one bit flips" in found.text
    assert (found.place, found.rate) == (0, pytest.approx(1 / (3 * 8 * len(right))))
    # A slower clock has shown what is right: now every answer is wrong.
    assert judge([flipped] * 3, 1e6, right).good == 0
    assert judge([flipped] * 3, 1e6).ok


def test_shifts_are_told_from_flips() -> None:
    right = bytes(range(256))
    number, size = int.from_bytes(right), len(right)
    for way in (1, 2):
        late = (number >> way).to_bytes(size)
        early = (number << way & (1 << 8 * size) - 1).to_bytes(size)
        assert shift(late, right) == way
        assert shift(early, right) == -way
    assert shift(right, right) == 0
    assert shift(bytes([1]) + right[1:], right) == 0
    constant = b"\xff" * 32
    assert shift(b"\x7f" + constant[1:], constant) == 0, "a run of ones looks the same shifted"
    assert shift(bytes.fromhex("77a00c"), bytes.fromhex("ef4018")) == 1


def test_every_known_chip_has_an_id_that_is_not_strange() -> None:
    library = catalog.load()
    for part in library.parts:
        jedec_id = part.chip.jedec_id[:3]
        dump = dumps.load(part.sfdp_dump).sfdp if part.sfdp_dump else b""
        tables = (dump + b"\xff" * 256)[:256]
        sizes = {other.chip.size for other in library.by_jedec_id(jedec_id)}
        assert of_identity(jedec_id, tables, sizes) is None, part.chip.part
        if dump:
            assert of_identity(jedec_id, tables, ()) is None, "a part not in the catalog yet"


# --- waiting -----------------------------------------------------------------------------------


def test_waiting_for_a_chip(tmp_path: Path) -> None:
    environ = {"HWFLASH_STATE_DIR": str(tmp_path)}
    here = Request("sim://w25q80", environ=environ)
    wait_for_chip(here, CancelToken(), None, pause=0.01)
    wait_for_chip(here, CancelToken(), "another", pause=0.01)
    cancel = CancelToken()
    threading.Timer(0.3, cancel.cancel).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):  # the board that is done is still on
        wait_for_chip(here, cancel, "eb819e1f3516b5b2", pause=0.01)
    assert time.monotonic() - began < 20
    cancel.cancel()
    with pytest.raises(Interrupted):
        contact_test(here, Notes(), cancel)
