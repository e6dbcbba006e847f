"""What breaks in a lab while a chip is written: client, exporter, computer, coordinator."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import pattern, start_alpha
from lab import Client, Host, Lab, wait_for

from hwflash_labgrid import HwflashError, remote
from hwflash_labgrid.errors import UNKNOWN

AtPhase = Callable[[str, Callable[[], Any]], None]
NEW = pattern(1 << 20, 9)
BIG = pattern(1 << 22, 9)


@pytest.fixture
def image(tmp_path: Path) -> str:
    """A file for the chips of places `store` and `served`."""
    (tmp_path / "new.bin").write_bytes(NEW)
    return str(tmp_path / "new.bin")


@pytest.fixture
def big(tmp_path: Path) -> str:
    """A file for the chip of place `big`, which takes long enough to be stopped in."""
    (tmp_path / "big.bin").write_bytes(BIG)
    return str(tmp_path / "big.bin")


def content(host: Host, place: str = "store") -> bytes:
    return (host.folder / f"{place}.bin").read_bytes()


def test_out_of_time_it_stops_at_a_safe_point_and_can_go_on(
    client: Client, alpha: Host, big: str, at_phase: AtPhase, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.acquire("big")
    driver = client.driver("big")
    runs: list[remote.Run] = []
    made = remote.Run.__init__

    def keep(self: remote.Run, *args: Any) -> None:
        made(self, *args)
        runs.append(self)

    monkeypatch.setattr(remote.Run, "__init__", keep)
    at_phase("program", lambda: runs[-1]._end_in(0))
    with pytest.raises(HwflashError) as caught:
        driver.load(big)
    error = caught.value
    assert error.code == "chip.state-unknown"
    assert error.chip == UNKNOWN
    assert error.job
    assert f"--resume {error.job}" in str(error)
    assert not alpha.running()
    assert 0 < len(content(alpha, "big").rstrip(b"\xff")) < len(BIG)
    driver.resume(error.job)
    assert content(alpha, "big") == BIG


def test_ctrl_c_stays_ctrl_c_but_tells_what_became_of_the_chip(
    client: Client, alpha: Host, big: str, at_phase: AtPhase, caplog: pytest.LogCaptureFixture
) -> None:
    def ctrl_c() -> None:
        raise KeyboardInterrupt

    client.acquire("big")
    driver = client.driver("big")
    at_phase("task_begin", ctrl_c)
    with pytest.raises(KeyboardInterrupt) as caught:
        driver.load(big)
    assert isinstance(caught.value.__cause__, HwflashError)
    assert caught.value.__cause__.code == "interrupted"
    assert "chip: nothing was changed" in caplog.text
    assert not alpha.running()


CLIENT = """
import sys
from lab import Client, Lab
class Found: address, environ = sys.argv[1], {}
client = Client(Found)
client.acquire("big")
client.driver("big").load(sys.argv[2])
"""


def test_a_client_that_is_killed_leaves_nothing_running(
    running: Lab, client: Client, alpha: Host, big: str
) -> None:
    victim = subprocess.Popen(
        [sys.executable, "-c", CLIENT, running.address, big],
        env=running.environ,
        cwd=Path(__file__).parent,
        stdout=subprocess.DEVNULL,
    )
    jobs = alpha.folder / "state-big" / "jobs"
    before = set(jobs.glob("*/journal.jsonl"))
    wait_for("the write", lambda: set(jobs.glob("*/journal.jsonl")) - before, 60)
    assert alpha.running()
    victim.kill()
    victim.wait()
    wait_for("its end", lambda: not alpha.running())
    # It stopped in time, and by its own will: the history knows.
    client.session.loop.run_until_complete(client.session.sync_with_coordinator())
    driver = client.driver("big")  # alice still has the place
    entry = driver.run("history", "list")["entries"][0]
    assert entry["outcome"] == "unknown"
    driver.resume(entry["job"])
    assert content(alpha, "big") == BIG


def test_exporter_killed_in_the_middle(
    running: Lab, client: Client, alpha: Host, image: str, at_phase: AtPhase
) -> None:
    """hwflash does not run below the exporter: what was begun is finished."""
    client.acquire("store")
    driver = client.driver("store")
    exporter = alpha.exporter
    assert exporter
    at_phase("program", lambda: exporter.stop(signal.SIGKILL))
    driver.load(image)
    assert content(alpha) == NEW
    with pytest.raises(HwflashError) as caught:
        driver.verify(image)
    assert caught.value.code == "labgrid.exporter-gone"

    start_alpha(running)
    said = running.client("-p", "store", "acquire", code=1, LG_USERNAME="bob")
    assert "acquired by desk/alice" in said  # it stays ours meanwhile
    client.release("store")
    client.acquire("store")
    client.driver("store").verify(image)


def test_power_failure_of_the_exporters_computer_in_the_middle(
    running: Lab, client: Client, alpha: Host, image: str, at_phase: AtPhase
) -> None:
    """The chip, served by a process of its own, keeps what came until then."""
    client.acquire("served")
    driver = client.driver("served")
    at_phase("program", alpha.crash)
    with pytest.raises(HwflashError) as caught:
        driver.load(image)
    assert caught.value.code == "labgrid.connection-lost"
    assert caught.value.chip == UNKNOWN
    with pytest.raises(HwflashError) as caught:
        driver.verify(image)
    assert caught.value.code == "labgrid.exporter-gone"

    alpha.start_sshd()
    start_alpha(running)
    client.release("served")
    client.acquire("served")
    driver = client.driver("served")
    with pytest.raises(HwflashError) as caught:
        driver.verify(image)
    assert caught.value.code == "differs"
    # The journal is on that computer's disk; only what is missing is programmed.
    left = sum(step["length"] for step in driver.resume()["plan"]["steps"])
    assert left <= len(NEW) - (1 << 16)  # the first progress comes after 64 KiB
    driver.verify(image)


def test_coordinator_gone(
    running: Lab, client: Client, alpha: Host, image: str, at_phase: AtPhase
) -> None:
    """Last, because it takes the lab with it."""
    client.acquire("store")
    driver = client.driver("store")
    coordinator = running.coordinator
    assert coordinator
    at_phase("program", lambda: coordinator.stop(signal.SIGKILL))
    driver.load(image)  # ssh needs no coordinator
    assert content(alpha) == NEW
    with pytest.raises(HwflashError) as caught:
        driver.load(image)
    assert caught.value.code == "labgrid.coordinator-gone"
    assert caught.value.unchanged
    assert "Could not connect to coordinator" in running.client("places", code=1)

    running.start_coordinator()
    with pytest.raises(HwflashError) as caught:  # it has forgotten whose place it was
        driver.load(image)
    assert caught.value.code == "labgrid.coordinator-gone"
    # The exporter ends when its coordinator does, and is started again by systemd.
    assert alpha.exporter
    assert wait_for("its end", lambda: alpha.exporter.process.poll() is not None or None)
    assert alpha.exporter.process.returncode == 100
    start_alpha(running)
    again = Client(running)
    again.acquire("store")
    again.driver("store").verify(image)
    again.release("store")
    again.close()
