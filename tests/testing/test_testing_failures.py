"""What a script is told when the bench is not as it should be: short, with code and hint."""

from __future__ import annotations

import threading
import time

import pytest
from bench_desk import Desk, section

from hwflash.bus.discovery import find_all
from hwflash.jobs.lock import ProgrammerLock
from hwflash.testing.settings import Settings

pytest_plugins = ["pytester"]

SWITCHED = """
name = "switched"
description = "a board of the tests"
[flash]
chip = "P25Q21H"
size = "256K"
[power]
method = "command"
on = ["{on}"]
off = ["true"]
"""
READ = "def test_read(flash):\n    flash.read(0, 1)\n"


@pytest.mark.slow
def test_one_line_of_the_script_and_what_the_command_says(desk: Desk) -> None:
    desk.fill(1 << 20)
    desk.run("def test_nothing(programmer): pass", programmer=desk.url("w25q80"))
    desk.protect(0x1C)
    answer = desk.run(
        """
        def helper(flash):
            flash.write(b"x", at=0)

        def test_protected(flash):
            helper(flash)
        """,
        programmer=desk.url("w25q80"),
    )
    assert answer.counts == {"failed": 1}
    shown = section(answer.text, "test_protected")
    assert ">       helper(flash)" in answer.text
    assert '>       flash.write(b"x", at=0)' in answer.text
    assert "E       hwflash.errors.ChipProtected: the chip's protection covers" in answer.text
    assert "chip: nothing was changed" in section(answer.text, "hwflash: chip.protected")
    assert "hint: `hwflash protect status` says" in section(answer.text, "hwflash: chip.protected")
    assert len(shown.splitlines()) < 30
    assert "hwflash/jobs" not in answer.text
    assert "session.require_unlocked" not in answer.text
    full = desk.run(READ, "--full-trace", programmer="sim://nowhere")
    assert "hwflash/jobs/opening.py" in full.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "programmer", "code"),
    [
        ((), "sim://p25q21h?faults=stuck=miso-high", "chip.absent"),
        ((), "sim://p25q21h?faults=access=denied", "programmer.inaccessible"),
        (("--hwflash-board=./test_bench.py",), "sim://p25q21h", "board"),
        (("--hwflash-wait=soon",), "sim://p25q21h", "usage.bench-wait"),
    ],
)
def test_setup_says_what_is_wrong(
    desk: Desk, words: tuple[str, ...], programmer: str, code: str
) -> None:
    answer = desk.run(READ, *words, programmer=programmer)
    assert answer.counts == {"errors": 1}, answer.text
    assert "hint: " in section(answer.text, f"hwflash: {code}")
    assert len(section(answer.text, "ERROR at setup of test_read").splitlines()) < 12


@pytest.mark.slow
def test_what_was_not_named(desk: Desk) -> None:
    answer = desk.run(
        """
        def test_board(board): pass
        def test_image(image): pass
        def test_power(power): pass
        """
    )
    assert answer.counts == {"errors": 3}
    assert "--hwflash-board NAME" in section(answer.text, "hwflash: usage.bench-board")
    assert "--hwflash-image FILE" in section(answer.text, "hwflash: usage.bench-image")
    answer = desk.run(
        "def test_image(image): pass\ndef test_power(power): pass\n",
        "--hwflash-image=absent.bin", "--hwflash-board=qemu-q35-ovmf-4m",
    )  # fmt: skip
    assert section(answer.text, "hwflash: image.unreadable")
    assert section(answer.text, "hwflash: power.none")


@pytest.mark.slow
def test_the_only_programmer_is_taken_and_there_is_none(desk: Desk) -> None:
    if find_all():
        pytest.skip("a real programmer is attached")
    answer = desk.run(READ, programmer=None)
    assert answer.counts == {"errors": 1}
    assert "`hwflash list` shows" in section(answer.text, "hwflash: programmer.absent")


@pytest.mark.slow
def test_programmer_of_another_process(desk: Desk) -> None:
    desk.fill()
    lock = ProgrammerLock(desk.state / "locks", f"sim-{desk.image.resolve()}")
    began = time.monotonic()
    answer = desk.run(READ)
    assert answer.counts == {"errors": 1}
    assert "is in use by process" in answer.text
    assert "hint: `hwflash doctor` names" in section(answer.text, "hwflash: programmer.busy")
    took = time.monotonic() - began
    timer = threading.Timer(took + 1.0, lock.release)
    timer.start()
    answer = desk.run(READ, "--hwflash-wait=60")
    timer.join()
    assert answer.counts == {"passed": 1}, answer.text


@pytest.mark.slow
def test_a_failed_test_does_not_spoil_the_next(desk: Desk) -> None:
    """The cable is pulled and put back in: the next test opens the programmer anew."""
    desk.fill()
    answer = desk.run(
        """
        def test_pulled(flash):
            while True:
                flash.read()

        def test_back(flash):
            assert len(flash.read()) == 256 * 1024
        """,
        programmer=desk.url(faults="disconnect=400"),
    )
    assert answer.counts == {"failed": 1, "passed": 1}, answer.text
    assert section(answer.text, "hwflash: programmer.lost")


@pytest.mark.slow
def test_markers(desk: Desk) -> None:
    script = """
        import pytest

        @pytest.mark.hwflash_hardware
        def test_hardware(flash): pass

        @pytest.mark.hwflash_simulated
        def test_simulated(): pass

        @pytest.mark.hwflash_destructive
        def test_destructive(): pass
    """
    answer = desk.run(script, "-rs")
    assert answer.counts == {"passed": 2, "skipped": 1}
    assert "needs a real programmer (--hwflash-programmer)" in answer.text
    real = "serprog:///dev/nothing"
    answer = desk.run(script, "-rs", programmer=real)
    assert answer.counts == {"errors": 1, "skipped": 2}
    assert "for simulated programmers only" in answer.text
    assert "say --hwflash-destructive" in answer.text
    answer = desk.run(script, "--hwflash-destructive", programmer=real)
    assert answer.counts == {"errors": 1, "passed": 1, "skipped": 1}
    markers = desk.run(script, "--markers").text
    assert markers.count("@pytest.mark.hwflash_") == 3


def test_programmers_of_workers() -> None:
    two = Settings(programmers=["sim://a", "sim://b?image={worker}.bin"])
    assert two.programmer(None) == "sim://a"
    workers = {name: Settings(programmers=two.programmers, worker=name) for name in ("gw0", "gw1")}
    assert workers["gw0"].programmer(None) == "sim://a"
    assert workers["gw1"].programmer(None) == "sim://b?image=gw1.bin"
    with pytest.raises(Exception, match="worker gw2 has no programmer: 2 are named"):
        Settings(programmers=two.programmers, worker="gw2").programmer(None)
    environ = {"HWFLASH_PROGRAMMER": "sim://{worker}"}
    assert Settings(worker="gw7", environ=environ).programmer("sim://board") == "sim://gw7"
    assert Settings(environ={}).programmer("sim://board") == "sim://board"
    assert Settings(environ={}).programmer(None) is None
    assert Settings(programmers=[""], environ=environ).programmer("sim://board") == ""


@pytest.mark.slow
def test_a_worker_for_each_programmer(desk: Desk) -> None:
    script = """
        import pytest

        @pytest.mark.parametrize("number", range(6))
        def test_write(flash, number, worker_id):
            assert flash.programmer.url.endswith(f"{worker_id}.bin")
            with flash.transaction():
                flash.write(b"here", at=number)
                assert flash.read(number, 4) == b"here"
    """
    url = f"sim://p25q21h?image={desk.folder}/{{worker}}.bin"
    answer = desk.run(script, "-p", "xdist.plugin", "-p", "xdist.looponfail", "-n2", programmer=url)
    assert answer.counts == {"passed": 6}, answer.text
    used = {dict(case)["hwflash.programmer"] for case in answer.cases.values()}
    assert used == {url.replace("{worker}", name) for name in ("gw0", "gw1")}
    assert all(dict(case)["hwflash.written_sha256"] for case in answer.cases.values())
    summary = section(answer.text, "hwflash")
    assert summary.count("P25Q21H") == 2


@pytest.mark.foreign
@pytest.mark.slow
def test_qemu_is_missing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the firmware here, and without."""
    monkeypatch.setenv("PATH", str(desk.folder))
    script = "def test_reference(ovmf): pass\n"
    answer = desk.run(script)
    assert answer.counts == {"errors": 1}
    assert "qemu-system-x86" in section(answer.text, "hwflash: environment.qemu-missing")
    answer = desk.run(script, "--hwflash-reference=x86_64,no-such-machine")
    assert answer.counts == {"errors": 1}
    assert section(answer.text, "hwflash: qemu.no-firmware")


@pytest.mark.foreign
@pytest.mark.slow
def test_a_board_that_is_on(desk: Desk) -> None:
    """On a blank chip QEMU runs and says nothing."""
    old = desk.fill(2 << 20)
    answer = desk.run(
        """
        import pytest
        from hwflash.errors import ProgrammerBusy, UsageError

        def test_left_on(flash, power):
            flash.transaction()
            flash.write(b"changed", at=0)
            power.on()
            with pytest.raises(ProgrammerBusy) as caught:
                flash.read(0, 1)
            assert caught.value.code == "power.board-on"

        def test_off_and_as_before(flash, power, console):
            assert not power.is_on
            assert flash.read(0, 7) != b"changed"
            with pytest.raises(UsageError, match="is off"):
                console.expect("anything")

        def test_silent(power):
            power.boot("Shell>", timeout=0.5)

        @pytest.fixture(scope="module")
        def running(board):
            with board.powered() as power:
                power.on()
                yield power

        @pytest.mark.parametrize("number", range(2))
        def test_stays_on(running, number):
            assert running.is_on
            running.console.send("hello")
        """,
        "--hwflash-board=sim-ovmf-2m",
        programmer=desk.url("w25q16jv"),
    )
    assert answer.counts == {"passed": 4, "failed": 1}, answer.text
    assert "AssertionError: board sim-ovmf-2m did not say Shell>" in answer.text
    assert desk.image.read_bytes() == old


@pytest.mark.slow
def test_behind_a_board_that_may_have_run_nobody_says_that_nothing_was_changed(desk: Desk) -> None:
    desk.fill()
    desk.file("board.toml", SWITCHED.format(on="false"))
    answer = desk.run("def test_on(power):\n    power.on()\n", "--hwflash-board=board.toml")
    assert answer.counts == {"failed": 1}, answer.text
    shown = section(answer.text, "hwflash: power.command")
    assert "chip: the board has run since" in shown


@pytest.mark.slow
def test_a_supply_of_a_test_does_not_hide_that_of_its_module(desk: Desk) -> None:
    """The chip is put back at the end: for that the board is switched off, whoever has it on."""
    old = desk.fill()
    desk.file("board.toml", SWITCHED.format(on="true"))
    answer = desk.run(
        """
        import pytest

        @pytest.fixture(scope="module")
        def running(board):
            with board.powered() as supply:
                yield supply

        def test_on(flash, running, board):
            with flash.transaction():
                flash.write(b"changed", at=0)
                running.on()
                with board.powered():
                    pass
        """,
        "--hwflash-board=board.toml",
    )
    assert answer.counts == {"passed": 1}, answer.text
    assert desk.image.read_bytes() == old
