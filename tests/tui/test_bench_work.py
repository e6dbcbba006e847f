"""A technician's day on simulated programmers: every way an order can go."""

from __future__ import annotations

import json

import pytest
from hwflash_tui.outcome import FAIL, PASS, STOPPED
from hwflash_tui.station import Standing
from rig import BLANK, NEW, OLD, SMALL, SMALL_OLD, Bench, Gate, bench_test

from hwflash.jobs.history import open_history

pytestmark = pytest.mark.slow


@bench_test
async def test_the_whole_way_to_a_pass(bench: Bench) -> None:
    """Board, image, plan, haste, yes, pass, the next board, the job again by one key."""
    url = bench.chip("one")
    bench.board("alpha")
    new = OLD[: 64 << 10] + NEW[64 << 10 : 100 << 10] + OLD[100 << 10 :]
    image = bench.image("new.fd", new)
    async with bench.run(url):
        assert bench.stations[0].standing is Standing.READY
        assert "ready" in bench.text
        assert "ef4014" in bench.text
        await bench.choose(image, "alpha")
        await bench.press("f5")
        assert bench.view.NAME == "Board and job", "the whole chip would take a guarded region"
        assert "protects boot" in bench.text
        bench.view.query_one("#regions").focus()
        await bench.press("down", "space")
        assert "--region main" in bench.view.command
        await bench.press("f5")
        await bench.until(lambda: bench.current.question is not None)
        bench.current.asked_at += 1e6  # it came this very moment
        await bench.press("y")
        assert bench.current.standing is Standing.ASKING, "a key pressed in haste is no yes"
        bench.current.asked_at -= 1e6
        assert bench.content("one") == OLD
        assert "Nothing has been changed yet" in bench.text
        assert "# protected, kept" in bench.text
        assert bench.current.backup is not None
        assert str(bench.current.backup)[:40] in bench.text
        await bench.agree()
        await bench.until(lambda: bench.current.outcome is not None)
        outcome = bench.current.outcome
        assert outcome is not None
        assert outcome.verdict == PASS
        assert bench.bells == 1
        assert "Take the board off" in bench.text
        assert bench.content("one") == new
        await bench.press("a")
        await bench.until(lambda: not bench.stations[0].busy)
        assert bench.view.NAME == "Bench"
        await bench.press("r")
        await bench.until(lambda: bench.current.outcome is not None)
        assert "holds this already" in bench.text
        with open_history(bench.state, create=False) as history:
            assert [item.outcome for item in history.entries()] == ["unchanged", "ok"]


@bench_test
async def test_images_that_differ(bench: Bench) -> None:
    content = bytearray(SMALL_OLD)
    url = bench.chip("one", SMALL, bytes(content))
    content[0x1234] ^= 0xFF
    async with bench.run(url):
        await bench.choose(bench.image("other.fd", bytes(content)))
        await bench.press("f6")
        await bench.until(lambda: bench.view.NAME == "Work" and bench.current.outcome is not None)
        assert bench.current.standing is Standing.FAILED
        assert "first at 0x001234" in bench.text
        assert "Nothing was changed" in bench.text
        assert bench.bells == 1


@bench_test
async def test_a_protected_chip(bench: Bench) -> None:
    url = bench.chip("one")
    async with bench.run(url):
        registers = bench.folder / "one.bin.state.json"
        state = json.loads(registers.read_text())
        state["registers"]["1"] = 0x1C
        registers.write_text(json.dumps(state))
        await bench.press("l")
        await bench.until(lambda: not bench.stations[0].busy)
        assert bench.stations[0].sight.chip.locked
        await bench.choose(bench.image("new.fd"))
        await bench.press("f5")
        await bench.until(lambda: bench.view.NAME == "Work" and bench.current.outcome is not None)
        outcome = bench.current.outcome
        assert (outcome.verdict, outcome.code) == (FAIL, "chip.protected")
        assert outcome.chip == "nothing was changed"
        assert "write-protected" in bench.text
        assert bench.content("one") == OLD


@bench_test
async def test_the_wrong_board(bench: Bench) -> None:
    bench.board("beta", chip="at25sf081")
    url = bench.chip("one")
    async with bench.run(url):
        await bench.choose(bench.image("new.fd"), "beta")
        bench.view.query_one("#regions").focus()
        await bench.press("down", "space", "f5")
        await bench.until(lambda: bench.view.NAME == "Work" and bench.current.outcome is not None)
        outcome = bench.current.outcome
        assert (outcome.verdict, outcome.code) == (FAIL, "board.other-chip")
        assert "not the one this job is for" in bench.text
        assert "Nothing was changed" in bench.text
        assert bench.content("one") == OLD


@bench_test
async def test_the_cable_is_pulled(bench: Bench) -> None:
    """In the middle of programming: unknown state; Resume finishes the job."""
    url = bench.chip("one", faults="disconnect=400")
    image = bench.image("new.fd")
    async with bench.run(url):
        await bench.choose(image)
        await bench.press("f5")
        await bench.agree()
        await bench.until(lambda: bench.current.outcome is not None)
        outcome = bench.current.outcome
        assert (outcome.verdict, outcome.unknown) == (FAIL, True)
        assert bench.current.standing is Standing.UNKNOWN
        assert "unknown state" in bench.text
        assert "Plug the programmer in again" in bench.text
        assert bench.content("one") not in (OLD, NEW)
        assert bench.app.focused.id == "resume"
        await bench.press("r")
        assert "--resume" in bench.view.command
        await bench.until(lambda: bench.current.question is not None)
        assert "before the write that is resumed" in bench.text
        await bench.agree()
        await bench.until(lambda: bench.current.outcome is not None)
        assert bench.current.outcome.verdict == PASS
        assert bench.content("one") == image.read_bytes()


@bench_test
async def test_stop_and_restore_on_another_day(bench: Bench) -> None:
    url = bench.chip("one", content=BLANK)
    async with bench.run(url):
        await bench.choose(bench.image("new.fd"))
        await bench.press("f5")
        await bench.until(lambda: bench.view.NAME == "Work" and bench.current.question is not None)
        gate = Gate(bench.current, "program")
        await bench.agree()
        await bench.until(gate.reached.is_set)
        assert bench.current.standing is Standing.RUNNING
        assert "programmed" in bench.text
        await bench.press("s")
        assert "Stopping after this block" in bench.text
        gate.open()
        await bench.until(lambda: bench.current.outcome is not None)
        outcome = bench.current.outcome
        assert (outcome.verdict, outcome.unknown) == (STOPPED, True)
        assert set(outcome.followups) == {"resume", "restore"}
    assert bench.content("one") not in (BLANK, NEW)
    async with bench.run(url):
        assert "! half written: press Enter" in bench.text
        await bench.press("enter")
        assert bench.view.NAME == "Work"
        await bench.press("z")
        await bench.agree()
        await bench.until(lambda: bench.current.outcome is not None)
        assert bench.current.outcome.verdict == PASS
        await bench.press("escape")
        await bench.until(lambda: "● ready" in bench.text, 5)
        assert "half written" not in bench.text
    assert bench.content("one") == BLANK


@bench_test
async def test_two_boards_at_once(bench: Bench) -> None:
    urls = bench.chip("one"), bench.chip("two", SMALL, SMALL_OLD)
    images = bench.image("one.fd"), bench.image("two.fd", NEW[: 256 << 10])
    async with bench.run(*urls):
        gates = []
        for station, image in zip(bench.stations, images, strict=True):
            bench.app.screen.query_one(f"#station-{station.number}").focus()
            await bench.choose(image)
            await bench.press("f5")
            await bench.until(lambda: bench.view.NAME == "Work")
            await bench.until(lambda: bench.current.question is not None)
            gates.append(Gate(station, "erase"))
            await bench.agree()
            await bench.until(gates[-1].reached.is_set)
            await bench.press("escape")
        assert [item.standing for item in bench.stations] == [Standing.RUNNING] * 2
        assert bench.text.count("► writing") == 2
        for gate in gates:
            gate.open()
        await bench.until(lambda: all(item.outcome is not None for item in bench.stations))
        assert [item.standing for item in bench.stations] == [Standing.PASSED] * 2
        assert bench.text.count("✓ PASS") == 2
        assert bench.bells == 2
        for name, image in zip(("one", "two"), images, strict=True):
            assert bench.content(name) == image.read_bytes()


@bench_test
async def test_dangerous_plans_want_a_name(bench: Bench) -> None:
    bench.board("alpha")
    url = bench.chip("one")
    async with bench.run(url):
        await bench.choose(bench.image("new.fd"), "alpha")
        bench.view.query_one("#regions").focus()
        await bench.press("space", "f5")  # the protected one
        await bench.until(lambda: bench.view.NAME == "Work" and bench.current.question is not None)
        await bench.until(lambda: bench.current.seconds_asked > 0.7)
        assert "region boot is protected and will be written" in bench.text
        assert bench.app.focused.id == "typed"
        await bench.type("alph")
        await bench.press("enter")
        assert bench.app.focused.id == "decline"
        await bench.press("y")
        assert bench.current.standing is Standing.ASKING, "the name is not complete"
        await bench.press("n")
        await bench.until(lambda: bench.current.outcome is not None)
        assert bench.current.outcome.verdict == STOPPED
        assert "Nothing was changed" in bench.text
    assert bench.content("one") == OLD


@pytest.mark.parametrize("fault", ["stuck=miso-high", "access=denied"])
def test_trouble_is_named(tmp_path, fault: str) -> None:
    @bench_test
    async def scenario(bench: Bench) -> None:
        async with bench.run(bench.chip("one", faults=fault)):
            assert bench.stations[0].standing is Standing.TROUBLE
            said = {"stuck=miso-high": "no chip answers", "access=denied": "permission"}[fault]
            assert said in bench.text
            assert "try:" in bench.text

    scenario(tmp_path)
