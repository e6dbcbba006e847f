"""Several programmers at once: who is in it, what is shared, and what one's end does to others."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import pattern

from hwflash.bus.discovery import FoundProgrammer
from hwflash.errors import (
    ChipAbsent,
    ChipStateUnknown,
    EnvironmentFault,
    HwflashError,
    ImageError,
    Interrupted,
    ProgrammerLost,
    UsageError,
)
from hwflash.jobs import gang_devices
from hwflash.jobs.bench_gang import Silent, measure
from hwflash.jobs.gang import Gang, Terms
from hwflash.jobs.gang_devices import Device, attached, devices
from hwflash.jobs.gang_pool import Pool, PoolView
from hwflash.jobs.gang_result import WORST_FIRST, Row, failure, worst
from hwflash.jobs.gang_rules import GangRules
from hwflash.jobs.gang_task import Sources, WriteTask
from hwflash.jobs.history import open_history
from hwflash.jobs.opening import Request
from hwflash.jobs.prepare import WriteOptions
from hwflash.jobs.selection import Selection
from hwflash.layout.files import load_image
from hwflash.progress import CancelToken, Progress

SIM = "sim://w25q80?image=chip-{n}.bin&seed={n}"


# --- which programmers ------------------------------------------------------------------------


def test_a_count_makes_programmers_of_a_pattern() -> None:
    found = devices([SIM], 3)
    assert [item.number for item in found] == [1, 2, 3]
    assert found[2].url == "sim://w25q80?image=chip-3.bin&seed=3"
    assert str(found[2]) == "3 sim://w25q80 chip-3.bin"


@pytest.mark.parametrize(
    ("urls", "count", "code"),
    [
        ([SIM], None, "usage.gang"),
        (["sim://w25q80"], 2, "usage.gang"),
        ([SIM, SIM], 2, "usage.gang"),
        ([], 2, "usage.gang"),
        (["sim://w25q80"] * 2, None, "usage.gang-twice"),
        (["sim://w25q80?image=a.bin", "sim://w25q64?image=./x/../a.bin"], None, "usage.gang-twice"),
        (["serprog:///dev/ttyS0", "serprog:///dev/ttyS0?baud=9600"], None, "usage.gang-twice"),
        (["record+sim://w25q80?image=a&trace=t", "sim://w25q80?image=a"], None, "usage.gang-twice"),
        ([f"sim://w25q80?image={n}" for n in range(200)], None, "usage.gang"),
        (["sim://w25q80", "nonsense"], None, "usage.url-scheme"),
    ],
)
def test_programmers_that_make_no_gang(urls: list[str], count: int | None, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        devices(urls, count)
    assert caught.value.code == code


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_one_image_by_another_name(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    image, other = tmp_path / "a.bin", tmp_path / "b.bin"
    image.write_bytes(b"")
    link(other, image)
    with pytest.raises(UsageError) as caught:
        devices([f"sim://w25q80?image={path}" for path in (image, other)])
    assert caught.value.code == "usage.gang-twice"


def test_one_device_on_the_usb_by_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        FoundProgrammer(None, 1, 5, (2,), "FT1", ""),
        FoundProgrammer(None, 1, 6, (3,), "", ""),
    ]
    monkeypatch.setattr(gang_devices, "find_all", lambda: found)
    urls = attached()
    assert urls == ["ftdi://ftdi:232h:FT1/1", "ftdi:bus=1,path=3"]
    assert [item.name for item in devices(urls)] == ["FT1", "ftdi:bus=1,path=3"]
    with pytest.raises(UsageError) as caught:
        devices([urls[0], "ftdi:bus=1,path=2"])
    assert caught.value.code == "usage.gang-twice"
    # One that is not there says so itself, when it is opened.
    assert len(devices([urls[0], "ftdi://ftdi:232h:GONE/1"])) == 2


# --- what is shared ---------------------------------------------------------------------------


def test_the_pool_is_sealed_and_checked(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"firmware")
    with Pool() as pool:
        blob = pool.add(b"value")
        image = pool.add_image(load_image(tmp_path / "a.bin"))
        pool.seal()
        view = PoolView(pool.descriptor)
        assert view.bytes_of(blob) == b"value"
        assert view.image(image) == load_image(tmp_path / "a.bin")
        assert view.images({"x": image})["x"].segments[0].data == b"firmware"
        with pytest.raises(PermissionError):
            os.pwrite(pool.descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            mmap.mmap(pool.descriptor, 5, prot=mmap.PROT_WRITE)
        with pytest.raises(EnvironmentFault) as caught:
            view.bytes_of(replace(blob, offset=1))
        assert caught.value.code == "gang.image"


# --- one exit code, and who goes on -------------------------------------------------------------


def row(error: HwflashError | None = None, outcome: str = "ok", **more: Any) -> Row:
    return Row(Device(1, "sim://w25q80"), outcome=outcome, error=error, **more)


def test_the_worst_comes_first() -> None:
    assert worst([]) == 0
    assert worst([0, 1, 130, 3, 4, 6, 7]) == 6
    assert worst([1, 130, 7, 5, 3]) == 5
    assert worst([0, 130, 1]) == 130
    assert set(WORST_FIRST) == {0, 1, 2, 3, 4, 5, 6, 7, 8, 70, 130}


def test_the_error_of_a_gang_says_what_each_chip_is() -> None:
    rows = [
        row(facts={"changed": [{"address": 0, "length": 1}]}),
        row(ChipAbsent("x"), "failed"),
        row(ChipStateUnknown("x"), "unknown"),
    ]
    assert [item.state for item in rows] == ["done", "unchanged", "unknown"]
    error = failure(rows, 3, "programmer")
    assert error is not None
    assert (error.exit_code, error.code) == (6, "gang.failed")
    assert error.context["chip_state"] == "1 done, 1 unchanged, 1 in an unknown state"
    assert failure(rows[:1], 1, "unit") is None
    assert failure([row(outcome="differs")], 1, "unit") is None, "exit code 1 is an answer"
    stopped = failure(rows[:1], 5, "unit", stopped=True)
    assert stopped is not None
    assert (stopped.exit_code, stopped.code) == (130, "interrupted.declined")


@pytest.mark.parametrize(
    ("error", "ends", "out", "out_asked"),
    [
        (ProgrammerLost("x"), False, True, True),
        (ChipStateUnknown("x", cause="programmer.lost"), False, True, True),
        (ChipStateUnknown("x", cause="chip.timeout"), False, False, False),
        (ChipAbsent("x"), False, True, False),
        (ImageError("x", code="serial.unit-done"), False, True, False),
        (ImageError("x", code="serial.exhausted"), True, False, False),
        (ImageError("x", code="job.image-changed"), True, False, False),
        (Interrupted(), True, False, False),
    ],
)
def test_who_goes_on(error: HwflashError, ends: bool, out: bool, out_asked: bool) -> None:
    rules = GangRules(stop=False, asked=False)
    assert rules.ends_batch(error) == ends
    assert rules.out_of_work(error) == out
    assert GangRules(stop=False, asked=True).out_of_work(error) == out_asked
    board = error.code == "serial.unit-done"
    assert GangRules(stop=True, asked=False).ends_batch(error) != board


# --- processes --------------------------------------------------------------------------------


class Watcher(Silent):
    """Does something when a programmer, or any of them, gets to a phase, once."""

    def __init__(self, number: int | None, phase: str, do: Callable[[], object]) -> None:
        self._number = number
        self._phase = phase
        self._do: Callable[[], object] | None = do

    def progress(self, device: Any, event: Progress, /) -> None:
        here = self._number in (None, device.number) and event.phase == self._phase
        if self._do is not None and here:
            do, self._do = self._do, None
            do()


class Running:
    """A gang of simulated chips full of other content."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.chips = [folder / f"chip-{number}.bin" for number in range(1, count + 1)]
        self.cancel = CancelToken()
        for chip in self.chips:
            chip.write_bytes(pattern(1 << 20, 2))
        self.image = folder / "new.bin"
        self.image.write_bytes(pattern(1 << 18, 3))
        (folder / "state").mkdir()
        self.gang: Gang | None = None

    def run(self, watcher: Silent, terms: Terms | None = None) -> Sequence[Row]:
        url = f"sim://w25q80?image={self.folder}/chip-{{n}}.bin&seed={{n}}"
        state = self.folder / "state"
        request = Request(environ={**os.environ, "HWFLASH_STATE_DIR": str(state)})
        with Pool() as pool:
            found = Sources(pool.add_image(load_image(self.image)))
            task = WriteTask("write", Selection(at=0), WriteOptions(state), found)
            pool.seal()
            programmers = devices([url], len(self.chips))
            with Gang(programmers, task, request, pool, state, watcher, self.cancel) as self.gang:
                return self.gang.run(terms or Terms())


@pytest.mark.slow
def test_a_worker_that_is_killed_harms_no_other(tmp_path: Path) -> None:
    running = Running(tmp_path, 3)

    def kill() -> None:
        assert running.gang is not None
        os.kill(running.gang.pids[2], signal.SIGKILL)

    rows = running.run(Watcher(2, "erase", kill))
    assert [item.outcome for item in rows] == ["ok", "unknown", "ok"]
    assert [item.state for item in rows] == ["done", "unknown", "done"]
    for number in (0, 2):
        assert running.chips[number].read_bytes()[: 1 << 18] == running.image.read_bytes()
    lost = rows[1].error
    assert lost is not None
    assert (lost.code, lost.exit_code) == ("gang.worker-lost", 6)
    assert "SIGKILL" in lost.message
    assert (tmp_path / "state" / "jobs" / str(lost.context["resume"])).is_dir()
    assert Path(str(lost.context["backup"])).exists()
    with open_history(tmp_path / "state", create=False) as history:
        entry = history.entry(rows[1].history[0])
        assert (entry.outcome, entry.error) == ("unknown", "gang.worker-lost")
        assert entry.job == lost.context["resume"]
        assert history.count() == 3


@pytest.mark.slow
def test_a_stop_reaches_all(tmp_path: Path) -> None:
    running = Running(tmp_path, 2)
    rows = running.run(Watcher(None, "erase", running.cancel.cancel))
    assert len(rows) == 2
    for item in rows:
        assert item.error is not None
        assert item.error.exit_code in (6, 130)
        if item.error.exit_code == 6:
            assert item.error.context["resume"]
    # Whoever began first was stopped in the middle; the other then too, or before.
    causes = [item.error.context.get("cause") for item in rows if item.error is not None]
    assert "interrupted" in causes


@pytest.mark.slow
def test_eight_at_once_keep_up_with_one_alone() -> None:
    found = measure("AT25SF041", 8, 30e6, "typical", CancelToken())
    assert found.ratio <= 1.25
    assert found.fastest > 0.75 * found.alone, "all of them did the whole work"
