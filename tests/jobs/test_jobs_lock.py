from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwflash.errors import EnvironmentFault, ProgrammerBusy
from hwflash.jobs.lock import Mark, ProgrammerLock


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    lock = ProgrammerLock(tmp_path / "locks", "ftdi-3-1.2")
    with pytest.raises(ProgrammerBusy) as caught:
        ProgrammerLock(tmp_path / "locks", "ftdi-3-1.2")
    assert f"process {os.getpid()} (" in caught.value.message
    assert caught.value.exit_code == 3
    other = ProgrammerLock(tmp_path / "locks", "ftdi-3-1.3")
    lock.release()
    lock.release()
    again = ProgrammerLock(tmp_path / "locks", "ftdi-3-1.2")
    again.release()
    other.release()


def test_what_an_earlier_holder_left_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.lock").write_text("process 1 (init) and a lot of text that is longer\n" * 20)
    lock = ProgrammerLock(tmp_path, "a")
    assert (tmp_path / "a.lock").read_text().startswith(f"process {os.getpid()} (")
    assert (tmp_path / "a.lock").read_text().count("\n") == 1
    lock.release()


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x", "a b\n", "x" * 4000, "é", "sim-/a/b"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    lock = ProgrammerLock(tmp_path / "locks", name)
    (made,) = (tmp_path / "locks").iterdir()
    assert made.name.endswith(".lock")
    lock.release()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("board-é", "board-ü"),
        ("sim-/a b", "sim-/a_b"),
        (f"sim-/{'x' * 300}/1", f"sim-/{'x' * 300}/2"),
    ],
)
def test_names_that_look_alike_are_two_devices(tmp_path: Path, one: str, other: str) -> None:
    first, second = ProgrammerLock(tmp_path, one), ProgrammerLock(tmp_path, other)
    first.set_mark(Mark("one", "today", lasting=True))
    assert second.mark is None
    first.release()
    second.release()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault) as caught:
        ProgrammerLock(tmp_path / "file" / "locks", "a")
    assert caught.value.code == "state.unwritable"
