"""power, console, job boot and job endurance at the command line, on boards without QEMU."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_board import FakeBoard, store_volume, variable
from harness import HWFLASH, Bench


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeBoard]:
    board = FakeBoard(tmp_path)
    yield board
    board.close()


def after(wait: Callable[[], bool], then: Callable[[], None]) -> threading.Thread:
    """Do something when the board has come so far."""

    def run() -> None:
        limit = time.monotonic() + 20
        while not wait() and time.monotonic() < limit:
            time.sleep(0.01)
        then()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


# --- power --------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_status_and_off(bench: Bench, fake: FakeBoard) -> None:
    assert "unknown" in bench.run("power", "status", "-b", fake.file).out
    answer = bench.json("power", "on", "-b", fake.file)
    assert (answer.result["state"], answer.result["method"]) == ("on", "command")
    status = bench.json("power", "status", "-b", fake.file).result
    assert (status["state"], bool(status["since"])) == ("on", True)
    for words in (["probe"], ["read", "x.bin"], ["vars", "list", f"board:{fake.file}"]):
        board = [] if words[0] == "vars" else ["-b", fake.file]
        refused = bench.json(*words, *board)
        assert (refused.code, refused.error["code"]) == (3, "power.board-on"), words
        assert "power off" in refused.error["hint"]
    assert "fake is off" in bench.run("power", "off", "-b", fake.file).out
    assert bench.json("probe", "-b", fake.file).code == 0
    assert fake.switched == ["on", "off"]


def test_cycle_and_on_for_a_while(bench: Bench, fake: FakeBoard) -> None:
    assert bench.json("power", "cycle", "-b", fake.file).result["state"] == "on"
    assert bench.json("power", "on", "-b", fake.file, "--for", "0.05").result["state"] == "off"
    assert fake.switched == ["off", "on", "on", "off"]


@pytest.mark.parametrize("command", ["on", "off", "cycle"])
def test_a_board_that_cannot_be_switched(bench: Bench, command: str) -> None:
    answer = bench.json("power", command, "-b", "ft232h-w25q128")
    assert (answer.code, answer.error["code"]) == (2, "power.none")
    assert bench.run("power", command).code == 2


def test_a_supply_that_ends_with_the_command_needs_a_time_in_scripts(
    bench: Bench, tmp_path: Path
) -> None:
    power = 'power = "ACBUS0"\n[power]\nmethod = "gpio"\n'
    fake = FakeBoard(tmp_path, power=power)
    answer = bench.json("power", "on", "-b", fake.file)
    assert (answer.code, answer.error["code"]) == (2, "usage.power-for")
    assert bench.json("power", "on", "-b", fake.file, "--for", "0").result["state"] == "off"
    fake.close()


def test_a_command_that_fails_is_told_with_what_it_said(bench: Bench, tmp_path: Path) -> None:
    power = (
        '[power]\nmethod = "command"\non = ["sh", "-c", "echo dark >&2; exit 7"]\noff = ["true"]\n'
    )
    fake = FakeBoard(tmp_path, power=power)
    answer = bench.run("power", "on", "-b", fake.file)
    assert answer.code == 3
    assert "sh, ended with 7: dark [power.command]" in answer.err
    fake.close()


# --- console ------------------------------------------------------------------------------


def test_watch_until_a_line_comes(bench: Bench, fake: FakeBoard, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    words = ["console", "-b", fake.file, "--until", "^two$", "--timeout", "10", "--log", log]
    with fake.saying("one\r\ntwo\r\n"):
        answer = bench.run(*words)
    assert answer.code == 0
    assert answer.out.startswith("one\ntwo\n")
    assert log.read_text().splitlines()[1].endswith("] two")
    assert fake.switched == []


def test_a_line_that_never_comes(bench: Bench, fake: FakeBoard) -> None:
    with fake.saying("Kernel panic - not syncing\r\n"):
        answer = bench.run("console", "-b", fake.file, "--until", "login:", "--timeout", "0.3")
    assert answer.code == 1
    assert "'login:' did not come in 0." in answer.out
    assert answer.out.endswith("  Kernel panic - not syncing\n")
    answer = bench.json("console", "-b", fake.file, "--until", "login:", "--timeout", "0.1")
    assert (answer.code, answer.result["missing"]) == (1, ["login:"])
    assert answer.result["lines"] == 0


def test_power_around_the_console(bench: Bench, fake: FakeBoard) -> None:
    speaker = after(lambda: "on" in fake.switched, lambda: fake.say("ready\r\n"))
    answer = bench.json(
        "console", "-b", fake.file, "--power", "--until", "ready", "--timeout", "10"
    )
    assert answer.code == 0
    assert answer.result["heard"][0]["line"] == "ready"
    assert fake.switched == ["on", "off"]
    speaker.join()


def test_a_console_that_is_lost(bench: Bench, fake: FakeBoard, tmp_path: Path) -> None:
    log = tmp_path / "log"
    pulled = after(lambda: log.exists() and log.stat().st_size > 0, lambda: os.close(fake.master))
    words = ["console", "-b", fake.file, "--until", "x", "--timeout", "20", "--log", log]
    with fake.saying("half\r\n"):
        answer = bench.run(*words, binary=True)
    pulled.join()
    assert answer.code == 3
    assert "[console.lost]" in answer.err
    assert "last lines:\n    half\n" in answer.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--until", "("], "usage.pattern"),
        (["--log", "/no/such/folder/log"], "console.log"),
        (["--timeout", "-1"], "usage.command-line"),
    ],
)
def test_bad_options(bench: Bench, fake: FakeBoard, words: list[str], code: str) -> None:
    answer = bench.json("console", "-b", fake.file, *words)
    assert answer.error["code"] == code


def test_a_port_that_is_not_there_or_not_named(bench: Bench, fake: FakeBoard) -> None:
    fake.file.write_text(fake.file.read_text().replace(fake.port, "/dev/no-such-port"))
    assert bench.json("console", "-b", fake.file).error["code"] == "console.absent"
    text = fake.file.read_text()
    fake.file.write_text(text[: text.index("[console]")])
    assert bench.json("console", "-b", fake.file).error["code"] == "console.none"


# --- the boot check -----------------------------------------------------------------------


def test_boot_writes_boots_and_compares(bench: Bench, fake: FakeBoard, tmp_path: Path) -> None:
    image = tmp_path / "new.fd"
    image.write_bytes(store_volume(variable("New", b"value")))
    speaker = after(lambda: "on" in fake.switched, lambda: fake.say("Welcome\r\n"))
    answer = bench.json(
        "job",
        "boot",
        image,
        "--at",
        0,
        "-b",
        fake.file,
        "--until",
        "Welcome",
        "-y",
        "--timeout",
        "10",
    )
    speaker.join()
    assert answer.code == 0, answer.out
    assert answer.result["booted"]
    assert answer.result["variables"] == {"only_left": [], "only_right": [], "changed": []}
    assert Path(answer.result["backup"]).exists()
    assert fake.switched == ["off", "on", "off"]
    listed = bench.json("history", "list").result["entries"]
    assert [item["kind"] for item in listed][:1] == ["boot"]


@pytest.mark.slow
def test_boot_that_does_not(bench: Bench, fake: FakeBoard) -> None:
    speaker = after(lambda: "on" in fake.switched, lambda: fake.say("no medium\r\n"))
    words = ["job", "boot", "-b", fake.file, "--until", "Welcome", "--timeout", "0.6"]
    answer = bench.run(*words)
    speaker.join()
    assert answer.code == 1
    assert answer.out.startswith("fake did not boot\n'Welcome' did not come in 0.")
    assert "\n  no medium\n" in answer.out
    assert fake.switched[-1] == "off"


def test_boot_dry_run_and_bad_input(bench: Bench, fake: FakeBoard, tmp_path: Path) -> None:
    image = tmp_path / "new.fd"
    image.write_bytes(store_volume())
    before = fake.chip.read_bytes()
    answer = bench.json("job", "boot", image, "--at", 0, "-b", fake.file, "--until", "x", "-n")
    assert (answer.code, answer.result["dry_run"]) == (0, True)
    assert fake.chip.read_bytes() == before
    assert "on" not in fake.switched
    for words, code in (
        ([image, "-b", fake.file, "--until", "x"], "usage.confirm"),
        (["-b", fake.file], "boot.no-marker"),
        (["--until", "x"], "usage.board"),
        (["-b", fake.file, "--until", "x", "--at", "0"], "usage.selection"),
        (["no-such-file", "-b", fake.file, "--until", "x", "-y"], "image.unreadable"),
        (["-b", "ft232h-w25q128", "--until", "x"], "power.none"),
    ):
        answer = bench.json("job", "boot", *words)
        assert answer.error["code"] == code, words
    assert "on" not in fake.switched


# --- Ctrl-C -------------------------------------------------------------------------------


def interrupted(fake: FakeBoard, *words: object) -> tuple[int, str]:
    """A command that is stopped once the board is on: its exit code, and what it said."""
    process = subprocess.Popen(
        [*HWFLASH, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 30
    while "on" not in fake.switched and time.monotonic() < limit:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["job", "boot", "--until", "never"], 130),
        (["console", "--power", "--until", "never"], 130),
        (["console", "--power"], 0),
        (["power", "on", "--for", "60"], 130),
        (["job", "endurance", "--window", "60", "--yes"], 6),
    ],
)
def test_ctrl_c_leaves_the_board_off_and_says_so(
    bench: Bench, fake: FakeBoard, words: list[str], code: int
) -> None:
    found, err = interrupted(fake, *words, "-b", fake.file)
    assert found == code, err
    assert fake.switched[-1] == "off"
    if words[0] != "power":
        assert "board fake is switched off" in err
    if code:
        assert "nothing was changed" not in err, "its firmware has run"
    assert bench.json("probe", "-b", fake.file).code == 0


# --- endurance ----------------------------------------------------------------------------


@pytest.mark.slow
def test_endurance_at_the_command_line(bench: Bench, fake: FakeBoard, tmp_path: Path) -> None:
    words = ["job", "endurance", "-b", fake.file, "-n", "2", "--window", "0.1"]
    assert bench.json(*words).error["code"] == "usage.job-confirm"
    answer = bench.json(*words, "-y", "-o", tmp_path / "out")
    assert answer.code == 0, answer.out
    assert answer.result["by_state"] == {"at rest": {"kept": 2}}
    assert (tmp_path / "out" / "report.html").exists()
    cycles = [
        line for line in answer.lines if line["type"] == "info" and "cycle" in line["context"]
    ]
    assert [item["context"]["cycle"]["number"] for item in cycles] == [1, 2]
    text = bench.run(*words, "-y", "-o", tmp_path / "out")
    assert "fake: 2 power cuts, 0 stores lost" in text.out


def test_endurance_on_a_board_without_store(bench: Bench, fake: FakeBoard) -> None:
    fake.chip.write_bytes(b"\x55" * len(fake.chip.read_bytes()))
    answer = bench.json("job", "endurance", "-b", fake.file, "-n", "1", "-y")
    assert (answer.code, answer.error["code"]) == (7, "uefi.no-store")
