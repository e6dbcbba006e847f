"""Slips of people in haste, and files that are not what they seem."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hwflash_tui.screens.work import WorkScreen
from hwflash_tui.station import Standing
from rig import SMALL, SMALL_OLD, Bench, Gate, bench_test
from test_bench_production import job, url
from test_bench_screens import store_image
from uefi.volumes import OVMF_4M, entry, some_variables, volume_bytes

from hwflash.errors import ChipStateUnknown
from hwflash.jobs.order import Order

pytestmark = pytest.mark.slow


@bench_test
async def test_a_start_that_is_held_down_starts_one_unit(bench: Bench) -> None:
    checked = job(bench, part=SMALL)
    async with bench.run(url(checked), job=checked):
        tally = bench.view.tally  # type: ignore[attr-defined]
        while tally.units == 0:
            await bench.press("space")
        for _ in range(20):
            await bench.press("space")
        await bench.until(lambda: not bench.current.busy)
        assert tally.units == 1, "the same board was flashed again"
        await bench.pilot.pause(1.2)
        await bench.press("space")
        await bench.until(lambda: tally.units == 2)


@bench_test
async def test_paths_that_nobody_has(bench: Bench) -> None:
    """A path that is being typed never ends the bench, which may be writing another board."""
    async with bench.run(bench.chip("one", SMALL, SMALL_OLD)):
        await bench.press("enter")
        await bench.until(lambda: bench.view.NAME == "Board and job")
        field = bench.view.query_one("#file")
        field.focus()
        await bench.type("~nobody/x")  # completed while it is typed, too
        os.mkfifo(bench.folder / "pipe")
        said = {"~nobody/x.fd": "folder", "x" * 300: "too long", f"{bench.folder}/pipe": "exists"}
        for text, problem in said.items():
            field.value = text
            await bench.press("f7")
            assert problem in bench.text
            await bench.press("f6")
            assert bench.view.NAME == "Board and job"
        await bench.until(
            lambda: "not a regular" in bench.view.form.image_problem  # type: ignore[attr-defined]
        )


@bench_test
async def test_another_board_has_not_passed(bench: Bench) -> None:
    """A verdict goes when somebody looks at what is there now."""
    image = bench.image("same.fd", SMALL_OLD)
    async with bench.run(bench.chip("one", SMALL, SMALL_OLD)):
        station = bench.stations[0]
        station.start(Order("verify", file=image))
        await bench.until(lambda: "✓ PASS" in bench.text)
        await bench.press("l")
        await bench.until(lambda: station.standing is Standing.READY)
        await bench.press("enter")
        assert bench.view.NAME == "Board and job", "the PASS of the board before"


@bench_test
async def test_each_danger_is_typed_for(bench: Bench) -> None:
    async with bench.run(bench.chip("one", SMALL, SMALL_OLD)):
        station = bench.stations[0]
        station.start(Order("erase"))
        bench.app.push_screen(WorkScreen(station))
        await bench.until(lambda: station.question is not None)
        await bench.type(station.plan.part)
        assert not bench.view.query_one("#agree").disabled
        station.answer(False)
        await bench.until(lambda: station.outcome is not None)
        station.start(Order("erase"))
        await bench.until(lambda: station.question is not None)
        assert bench.view.query_one("#agree").disabled
    assert bench.content("one") == SMALL_OLD


@bench_test
async def test_an_image_that_is_exchanged_after_it_was_chosen(bench: Bench) -> None:
    """What is written is what the large digits were of, or nothing."""
    async with bench.run(bench.chip("one", SMALL, SMALL_OLD)):
        image = bench.image("new.fd", SMALL_OLD[::-1])
        await bench.choose(image)
        image.write_bytes(bytes(256 << 10))
        await bench.press("f5")
        station = bench.current
        await bench.until(lambda: station.question is not None or station.outcome is not None)
        assert station.question is None
        assert "image.changed" in bench.text
        assert "Nothing was changed" in bench.text


def pending() -> tuple[bytes, str]:
    """A reclaim that a power cut stopped, and what finishes it."""
    image = volume_bytes([], OVMF_4M, entries=(entry(OVMF_4M, header=0xFC, record=0xFD),))
    spare = OVMF_4M.spare.address
    image[spare : spare + OVMF_4M.variables] = volume_bytes(some_variables(), OVMF_4M)[
        : OVMF_4M.variables
    ]
    return bytes(image), "recover"


def headless() -> tuple[bytes, str]:
    """A store without its header, and what makes a new one."""
    image = bytearray(store_image(1 << 20))
    image[0x48:0x58] = bytes(16)
    return bytes(image), "rescue"


@pytest.mark.parametrize("broken", [pending, headless])
def test_a_store_that_is_broken_is_repaired(
    tmp_path: Path, broken: Callable[[], tuple[bytes, str]]
) -> None:
    """Looked at, previewed, carried out; somebody who left meanwhile sees the new state."""

    @bench_test
    async def scenario(bench: Bench) -> None:
        image, verb = broken()
        content = image + b"\xff" * ((1 << 20) - len(image))
        async with bench.run(bench.chip("one", "w25q80", content)):
            await bench.press("v")
            await bench.until(lambda: not bench.current.busy)
            assert f"! needs repair: ftw {verb}" in bench.text
            await bench.press("p")
            await bench.until(lambda: bench.view.NAME == "What it takes")
            assert bench.content("one") == content
            await bench.pilot.pause(0.7)
            gate = Gate(bench.current, "plan")
            await bench.press("y")
            await bench.until(gate.reached.is_set)
            await bench.press("escape")
            gate.open()
            await bench.until(lambda: bench.view.NAME == "Variables" and "✓ sound" in bench.text)
            assert bench.content("one") != content
            await bench.press("p")
            said = [note.message for note in bench.app._notifications]
            assert any("nothing to repair" in text for text in said)

    scenario(tmp_path)


@bench_test
async def test_a_bench_that_ends_says_what_it_left_half_written(bench: Bench) -> None:
    """The screen is gone by then: the command says it, with its exit code."""
    async with bench.run(bench.chip("one")):
        station = bench.stations[0]
        gate = Gate(station, "erase")
        station.start(Order("write", file=bench.image("new.fd")))
        await bench.until(lambda: station.question is not None)
        station.answer(True)
        await bench.until(gate.reached.is_set)
        bench.app.leave()
        gate.open()
        await bench.until(lambda: not bench.app.is_running, poll=False)
        error = bench.app.half_written
        assert isinstance(error, ChipStateUnknown)
        assert error.context["resume"]


@bench_test
async def test_a_key_that_is_held_down_leaves_one_screen(bench: Bench) -> None:
    checked = job(bench, part=SMALL)
    async with bench.run(url(checked), job=checked):
        tally = bench.view.tally  # type: ignore[attr-defined]
        tally.halted = "somebody halted it"
        await bench.press("u")
        await bench.type("gizmo")
        await bench.hold("enter")
        assert bench.view.NAME == "Production", "an operator got out by Enter"
        assert not tally.halted
        assert not bench.current.busy, "and that Enter is no START"
        assert bench.app.locked


@bench_test
async def test_a_key_that_is_held_down_opens_one_screen(bench: Bench) -> None:
    async with bench.run(bench.chip("one", SMALL, SMALL_OLD)):
        await bench.hold("enter")
        assert bench.view.NAME == "Board and job"
        await bench.press("escape")
        assert bench.view.NAME == "Bench"
