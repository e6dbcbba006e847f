"""An operator's line: START by key and on contact, counters, stop after failures, numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hwflash_tui.screens.unlock import UnlockScreen
from rig import SMALL, SMALL_OLD, Bench, bench_test

from hwflash.jobs.history import open_history
from hwflash.jobs.jobfile import Checked, check_job

JOB = """
[job]
name = "gizmo"
programmer = "sim://{part}?image={folder}/unit-{{unit}}.bin&seed={{unit}}{more}"
on_failure = "{on_failure}"
[image]
file = "firmware.fd"
[[bytes]]
at = "0x1000"
length = 16
fill = 0
string = "{{serial}}"
[serial]
source = "counter"
format = "GZ-{{n:04}}"
start = 7
"""

pytestmark = pytest.mark.slow


def job(
    bench: Bench, *, part: str = "w25q80", on_failure: str = "go-on", more: str = ""
) -> Checked:
    size = (1 << 20) if part == "w25q80" else (256 << 10)
    (bench.folder / "firmware.fd").write_bytes((SMALL_OLD * 4)[:size])
    path = bench.folder / "gizmo.toml"
    path.write_text(JOB.format(part=part, folder=bench.folder, on_failure=on_failure, more=more))
    checked = check_job(path, bench.environ)
    assert checked.batch is not None, checked.faults
    return checked


def serial_of(bench: Bench, unit: int) -> bytes:
    return (bench.folder / f"unit-{unit}.bin").read_bytes()[0x1000:0x1010]


def url(checked: Checked) -> str:
    assert checked.batch is not None
    return str(checked.batch.form.job.programmer)


@bench_test
async def test_units_by_key_and_on_contact(bench: Bench) -> None:
    checked = job(bench)
    async with bench.run(url(checked), job=checked):
        tally = bench.view.tally  # type: ignore[attr-defined]
        assert "READY" not in bench.text  # it is drawn, in letters five rows high
        assert "press START" in bench.text
        await bench.press("space")
        await bench.until(lambda: tally.units == 1)
        assert tally.done == 1
        assert "Take the board off" in bench.text
        assert "GZ-0007" in bench.text
        assert "no number was handed out" not in bench.text, "it was, by now"
        assert serial_of(bench, 1) == b"GZ-0007".ljust(16, b"\0")
        await bench.press("t")  # each unit has a unique id of its own: the next starts by itself
        await bench.until(lambda: tally.units >= 3)
        await bench.press("t")
        await bench.until(lambda: not bench.current.busy)
        assert serial_of(bench, 3) == b"GZ-0009".ljust(16, b"\0")
        assert "100.0 %" in bench.text
        with open_history(bench.state, create=False) as history:
            assert {item.kind for item in history.entries()} == {"job", "job run"}
        # Locked: neither Ctrl+Q nor Escape leaves without the name of the job.
        await bench.press("ctrl+q")
        assert not bench.app.leaving
        await bench.press("escape")
        assert isinstance(bench.app.screen, UnlockScreen)
        await bench.type("gizmos")
        await bench.press("enter")
        assert isinstance(bench.app.screen, UnlockScreen)
        await bench.type("gizmo")
        await bench.press("enter")
        assert bench.view.NAME == "Bench"


@bench_test
async def test_a_line_stops_after_failures(bench: Bench) -> None:
    checked = job(bench, part=SMALL, more="&faults=stuck=miso-high")
    async with bench.run(url(checked), job=checked):
        tally = bench.view.tally  # type: ignore[attr-defined]
        for number in range(1, 4):
            await bench.pilot.pause(1.1)  # a START right behind a unit does not count
            await bench.press("space")
            await bench.until(lambda: tally.units == number)  # noqa: B023 - waited for at once
        assert (tally.failed, tally.streak) == (3, 3)
        assert "3 units one after the other failed" in bench.text
        assert "Put the board aside" not in bench.text
        await bench.pilot.pause(1.1)
        await bench.press("space")
        await bench.pilot.pause(0.3)
        assert tally.units == 3, "it is stopped"
        await bench.press("u")
        await bench.type("gizmo")
        await bench.press("enter")
        assert not tally.halted
        assert "Put the board aside: nothing was changed" in bench.text
    assert not Path(bench.state / "jobs").exists() or not list((bench.state / "jobs").iterdir())
