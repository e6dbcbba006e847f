"""The bench in a real terminal: tmux types, and reads the screen."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import pattern

from hwflash.flash.journal import unfinished_jobs
from hwflash.jobs.lock import ProgrammerLock

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

HWFLASH = [sys.executable, "-c", "from hwflash.cli.main import main; main()"]


class Terminal:
    """A terminal of 80 columns and 24 rows, on a tmux server of its own."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("tmux") is None:
            pytest.fail("tmux is missing: sh .ci/tools tmux")
        self._socket = folder / "tmux"
        self.folder = folder
        self.environ = {
            **os.environ,
            "HOME": str(folder),
            "HWFLASH_STATE_DIR": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "LC_ALL": "C.UTF-8",
            "TERM": "screen-256color",
        }
        self.environ.pop("NO_COLOR", None)
        self.transcript: list[str] = []

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", os.devnull, *words],
            capture_output=True, text=True, timeout=60, env=self.environ, check=False,
        )  # fmt: skip
        return done.stdout

    def start(self, *words: str) -> None:
        line = f"{shlex.join([*HWFLASH, *words])}; echo ended with $?; exec sleep 600"
        self._tmux("new-session", "-d", "-x", "80", "-y", "24", "-s", "bench", "sh", "-c", line)

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-t", "bench")

    def keys(self, *names: str) -> None:
        self._tmux("send-keys", "-t", "bench", *names)

    def until(self, text: str, seconds: float = 90) -> str:
        end = time.monotonic() + seconds
        while text not in (screen := self.screen):
            assert time.monotonic() < end, f"{text!r} never came:\n{screen}"
            time.sleep(0.1)
        self.transcript.append(screen)
        return screen

    @property
    def alive(self) -> bool:
        """Whether a process of the bench is still there."""
        words = f"sim://w25q128jv?image={self.folder}/chip.bin".encode()
        found = Path("/proc").glob("[0-9]*/cmdline")
        return any(words in read(path) and b"main()" in read(path) for path in found)

    def hang_up(self) -> None:
        self._tmux("kill-server")


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    found = Terminal(tmp_path)
    yield found
    found.hang_up()


def fill_in(terminal: Terminal, image: Path) -> None:
    """From the bench to a plan that waits."""
    terminal.until("ready")
    terminal.keys("Enter")
    terminal.until("type to search")
    time.sleep(1)
    terminal.keys("Tab", "Tab")
    time.sleep(1)
    terminal.keys("-l", str(image))
    terminal.until("Ready: F5")
    terminal.keys("F5")
    terminal.until("Nothing has been changed yet")
    time.sleep(1)


def test_a_whole_job_by_keys(terminal: Terminal) -> None:
    chip, image = terminal.folder / "chip.bin", terminal.folder / "new.fd"
    image.write_bytes(pattern(1 << 16, 1) * 16)
    terminal.start("tui", "-p", f"sim://w25q80?image={chip}")
    fill_in(terminal, image)
    assert chip.read_bytes().count(0xFF) == 1 << 20
    terminal.keys("y")
    screen = terminal.until("Take the board off")
    assert "Written and verified" in screen
    terminal.keys("Escape")
    terminal.until("Repeat")
    terminal.keys("q")
    terminal.until("ended with 0")
    assert chip.read_bytes() == image.read_bytes()


def test_a_line_that_breaks_in_the_middle_of_a_write(terminal: Terminal) -> None:
    """As a lost SSH connection: the block at work is finished, the journal knows the rest."""
    chip, image = terminal.folder / "chip.bin", terminal.folder / "new.fd"
    image.write_bytes(pattern(1 << 16, 1) * 256)
    terminal.start("tui", "-p", f"sim://w25q128jv?image={chip}")
    fill_in(terminal, image)
    terminal.keys("y")
    terminal.until("programming")
    terminal.hang_up()
    end = time.monotonic() + 60
    while not (state := free(terminal, chip)):
        assert time.monotonic() < end, "the process did not end"
        time.sleep(0.1)
    while terminal.alive:
        assert time.monotonic() < end, "the process did not end"
        time.sleep(0.1)
    (record,) = unfinished_jobs(terminal.folder / "state" / "jobs")
    assert state
    assert record.begun
    assert not record.finished
    assert chip.read_bytes() != image.read_bytes()


def free(terminal: Terminal, chip: Path) -> bool:
    """Whether nobody holds the programmer any more."""
    from hwflash.errors import ProgrammerBusy

    try:
        lock = ProgrammerLock(terminal.folder / "state" / "locks", f"sim-{chip.resolve()}")
    except ProgrammerBusy:
        return False
    lock.release()
    return True
