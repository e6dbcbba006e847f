"""The numbers the house must keep, on the simulated programmer; virtual time, so no noise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hwflash.jobs.bench import Bench, Limits, Row, draw
from hwflash.jobs.bench_peer import peer_rows


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    """16 MiB, 30 MHz, exactly typical W25Q128JV times."""
    return {row.job: row for row in Bench("W25Q128JV", timing="datasheet").rows()}


@pytest.fixture(scope="module")
def small() -> dict[str, Row]:
    return {row.job: row for row in Bench("W25Q80DV", timing="typical").rows()}


@pytest.mark.slow
def test_bars_of_a_16_mib_chip(rows: dict[str, Row]) -> None:
    read = 16 * 1024 * 1024 * 8 / 30e6
    assert rows["read all"].seconds <= 1.10 * read
    assert rows["program blank"].seconds <= 1.20 * 30.8
    assert rows["program blank"].usb <= 2100
    erase, program = 256 * 0.150, rows["program blank"].limit
    assert rows["rewrite random"].seconds <= 1.10 * (erase + program + read + read)
    assert rows["rewrite random"].erases == 256
    assert rows["change one byte"].seconds <= read + 0.35
    assert rows["change one byte"].erases == 1
    assert rows["clear one bit"].erases == 0
    assert rows["clear one bit"].programs == 1
    assert rows["append a variable"].erases == 0
    assert rows["append a variable"].programs == 2, "256 bytes from the middle of a page"
    for job in ("read all", "program blank"):
        assert rows[job].cpu <= 0.25 * rows[job].seconds


@pytest.mark.slow
def test_drawn_times_keep_the_bars_too(small: dict[str, Row]) -> None:
    assert small["read all"].ratio <= 1.10
    assert small["program blank"].ratio <= 1.20
    assert small["clear one bit"].erases == 0


@pytest.mark.slow
def test_three_and_a_half_times_as_fast_as_the_peer(small: dict[str, Row]) -> None:
    peer = {row.job: row for row in peer_rows("W25Q128JV", 30e6)}
    ours = Bench("W25Q128JV").chip
    page = Limits(ours, 30e6).program(256)
    assert peer["program blank"].seconds / peer["program blank"].limit > 3.5 * 1.2
    assert page == pytest.approx(0.0004 + 263 * 8 / 30e6)
    assert peer["read all"].seconds >= peer["read all"].limit


@pytest.mark.slow
def test_the_peer_gets_its_clock_back() -> None:
    import time

    import spiflash.serialflash

    peer_rows("W25Q128JV", 30e6)
    assert spiflash.serialflash.time is time


@pytest.mark.slow
def test_the_picture_is_drawn(small: dict[str, Row], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code = (
        "import sys, json; from pathlib import Path; from hwflash.jobs.bench import Row, draw;"
        "draw([Row(**row) for row in json.loads(sys.stdin.read())], Path(sys.argv[1]))"
    )
    facts = []
    for row in small.values():
        found = row.as_dict()
        del found["ratio"]
        facts.append(found)
    target = tmp_path / "speed.svg"
    subprocess.run(
        [sys.executable, "-c", code, str(target)], input=json.dumps(facts), text=True, check=True
    )
    assert "<svg" in target.read_text()
    assert callable(draw)
