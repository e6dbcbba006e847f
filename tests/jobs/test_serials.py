"""The store of handed-out numbers: kept through kills, never twice, honest when it is broken."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import examples

from hwflash.errors import EnvironmentFault, HwflashError, ImageError
from hwflash.jobs.serial_units import Claim, Number, Wish
from hwflash.jobs.serials import Ledger, SerialStore, is_there

#: Locks, files on disk and killed processes take their time.
pytestmark = pytest.mark.slow

ROLES = frozenset({("serial", "s")})


def wish(chip: str | None = None, policy: str = "burn", again: str = "refuse") -> Wish:
    return Wish("job", chip, ROLES, policy, again)  # type: ignore[arg-type]


def counter(ledger: Ledger) -> list[Number]:
    position = (ledger.highest("s", 1, 10**6) or 0) + 1
    return [Number("serial", "s", f"N{position}", position)]


def serial(claim: Claim) -> str:
    return claim.of("serial")[0].value


def take(store: SerialStore, **terms: Any) -> Claim:
    return store.take(wish(**terms), counter)


def forked(work: Callable[[], None]) -> int:
    """Run something in a child process; how it ended, as `os.waitpid` says."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # the test's own machinery must not run in a child
            os._exit(99)
    return os.waitpid(child, 0)[1]


def test_numbers_follow_one_another_and_survive_the_process(tmp_path: Path) -> None:
    assert not is_there(tmp_path)
    with SerialStore(tmp_path) as store:
        first, second = take(store), take(store)
        assert (serial(first), serial(second)) == ("N1", "N2")
        store.writing(first)
        store.end(first, "done")
        store.end(second, "failed", "why")
    assert is_there(tmp_path)
    with SerialStore(tmp_path) as store:
        assert serial(take(store)) == "N3"
        assert [(unit.state, unit.note) for unit in store.units("job")][:2] == [
            ("done", ""), ("failed", "why"),
        ]  # fmt: skip
    assert {path.suffix for path in (tmp_path / "serials").iterdir()} <= {
        ".sqlite3", ".id", ".lock"
    }  # fmt: skip


@pytest.mark.parametrize("state", ["done", "unchanged", "failed", "burned"])
def test_burned_numbers_are_never_seen_again(tmp_path: Path, state: str) -> None:
    with SerialStore(tmp_path) as store:
        claim = take(store, chip="A")
        store.end(claim, state)  # type: ignore[arg-type]
        assert serial(take(store, chip="B")) == "N2"


@pytest.mark.parametrize(
    ("state", "same_chip", "other_chip"),
    [("unchanged", "N1", "N1"), ("failed", "N1", "N2"), ("burned", "N2", "N2")],
)
def test_who_may_have_a_failed_units_number(
    tmp_path: Path, state: str, same_chip: str, other_chip: str
) -> None:
    for chip, expected in (("A", same_chip), ("B", other_chip), (None, other_chip)):
        folder = tmp_path / str(chip)
        with SerialStore(folder) as store:
            claim = take(store, chip="A", policy="reuse")
            store.end(claim, state)  # type: ignore[arg-type]
            again = take(store, chip=chip, policy="reuse")
            assert serial(again) == expected
            assert again.origin == ("reused" if expected == "N1" else "new")


def test_a_number_that_a_chip_may_hold_is_not_freed_by_failing_early_there(
    tmp_path: Path,
) -> None:
    """Written to A, failed; tried on A again, failed before anything: B must not get it."""
    with SerialStore(tmp_path) as store:
        first = take(store, chip="A", policy="reuse")
        store.writing(first)
        store.end(first, "failed")
        second = take(store, chip="A", policy="reuse")
        assert (serial(second), second.touched) == ("N1", True)
        store.end(second, "unchanged")
        assert serial(take(store, chip="B", policy="reuse")) == "N2"
        assert serial(take(store, chip="A", policy="reuse")) == "N1"


def test_the_same_when_the_second_try_is_killed_at_once(tmp_path: Path) -> None:
    with SerialStore(tmp_path) as store:
        first = take(store, chip="A", policy="reuse")
        store.end(first, "failed")

    def second() -> None:
        assert serial(SerialStore(tmp_path).take(wish("A", "reuse"), counter)) == "N1"
        os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(forked(second)) == signal.SIGKILL
    with SerialStore(tmp_path) as store:
        assert serial(take(store, chip="B", policy="reuse")) == "N2"
        assert serial(take(store, chip="A", policy="reuse")) == "N1"


def test_a_chip_that_was_done_is_refused_or_keeps_its_number(tmp_path: Path) -> None:
    with SerialStore(tmp_path) as store:
        store.end(take(store, chip="A"), "done")
        with pytest.raises(ImageError) as caught:
            take(store, chip="A", policy="reuse")
        assert caught.value.code == "serial.unit-done"
        assert "N1" in caught.value.message
        again = take(store, chip="A", again="same")
        assert (serial(again), again.origin) == ("N1", "same")
        store.end(again, "unchanged")
        assert serial(take(store, chip="B", policy="reuse", again="same")) == "N2"
        assert serial(take(store, chip=None, policy="reuse")) == "N3"


def test_numbers_are_reused_as_a_set_or_not_at_all(tmp_path: Path) -> None:
    both = frozenset({("serial", "s"), ("mac", "m")})
    with SerialStore(tmp_path) as store:
        store.end(take(store, chip="A", policy="reuse"), "unchanged")
        other = Wish("job", "A", both, "reuse", "refuse")
        claim = store.take(other, lambda ledger: [*counter(ledger), Number("mac", "m", "02", 2)])
        assert serial(claim) == "N2"
        assert claim.of("mac")[0].position == 2
        with pytest.raises(ImageError) as caught:
            store.take(other, lambda ledger: [*counter(ledger), Number("mac", "m", "02", 2)])
        assert caught.value.code == "serial.duplicate"
        assert serial(take(store)) == "N3", "a refused unit costs no number"


def test_what_another_process_holds_is_not_reused_while_it_lives(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from hwflash.jobs.serials import SerialStore
from hwflash.jobs.serial_units import Number, Wish
store = SerialStore(Path(sys.argv[1]))
wish = Wish("job", None, frozenset({("serial", "s")}), "reuse", "refuse")
store.take(wish, lambda ledger: [Number("serial", "s", "N1", 1)])
print("taken", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    with SerialStore(tmp_path) as store:
        claim = take(store, policy="reuse")
        assert serial(claim) == "N2"
        process.kill()
        process.communicate()
        reused = take(store, policy="reuse")
        assert (serial(reused), reused.origin) == ("N1", "reused")
        assert len(list((tmp_path / "serials").glob("*.lock"))) == 3
    with SerialStore(tmp_path):
        assert len(list((tmp_path / "serials").glob("*.lock"))) == 2, "one was settled"


def events_until_done(state: Path, report: int, kill_at: int | None) -> None:
    """Take, mark and end a unit; say each stage on a pipe; die at an event of SQLite or the OS."""
    seen = 0

    def event(*_: object) -> None:
        nonlocal seen
        if kill_at is not None and seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    def audit(name: str, args: tuple[Any, ...]) -> None:
        if name in ("fcntl.flock", "os.rename", "os.remove", "sqlite3.connect") or (
            name == "open" and str(state) in str(args[0])
        ):
            event()

    sys.addaudithook(audit)
    store = SerialStore(state)
    store._database.set_trace_callback(event)
    claim = store.take(wish("A", "reuse"), counter)
    os.write(report, f"taken {serial(claim)}\n".encode())
    event()
    store.writing(claim)
    os.write(report, b"writing\n")
    event()
    store.end(claim, "done")
    os.write(report, b"done\n")
    event()
    store.close()
    os.write(report, f"events {seen}\n".encode())


def crash(state: Path, kill_at: int | None) -> list[str]:
    reader, writer = os.pipe()
    status = forked(lambda: events_until_done(state, writer, kill_at))
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read().splitlines()
    assert status == 0 if kill_at is None else os.WTERMSIG(status) == signal.SIGKILL
    return said


def test_killed_at_every_step_no_number_goes_to_two_units(tmp_path: Path) -> None:
    whole = crash(tmp_path / "whole", None)
    events = int(whole[-1].split()[1])
    assert whole[:3] == ["taken N1", "writing", "done"]
    assert events > 25
    stages: set[int] = set()
    for at in range(events):
        state = tmp_path / str(at)
        said = crash(state, at)
        stages.add(len(said))
        with SerialStore(state) as store:
            other = take(store, chip="B", policy="reuse")
            store.writing(other)
            if "writing" in said:
                assert serial(other) == "N2", f"event {at}: A may hold N1"
            units = [unit for unit in store.units() if unit.state in ("writing", "done")]
            numbers = [item.value for unit in units for item in unit.numbers]
            assert len(numbers) == len(set(numbers))
            if serial(other) == "N1":
                assert all(unit.chip != "A" for unit in units)
            # A itself may go on with what it had, or is done.
            if "done" not in said and not any(u.state == "done" for u in store.units()):
                assert serial(take(store, chip="A", policy="reuse")) in (
                    ("N1",) if "writing" in said else ("N1", "N2")
                )
    assert stages == {0, 1, 2, 3}, "every stage was cut"


@pytest.mark.slow
def test_processes_that_are_killed_at_random_share_a_store(tmp_path: Path) -> None:
    """Each writes a number to a file of its own once it is taken; no two have the same."""
    script = """
import sys
from pathlib import Path
from hwflash.jobs.serials import SerialStore
from hwflash.jobs.serial_units import Number, Wish
store = SerialStore(Path(sys.argv[1]), timeout=60)
def counter(ledger):
    position = (ledger.highest("s", 1, 10**6) or 0) + 1
    return [Number("serial", "s", f"N{position}", position)]
wish = Wish("job", None, frozenset({("serial", "s")}), "burn", "refuse")
for _ in range(40):
    claim = store.take(wish, counter)
    print(claim.of("serial")[0].value, flush=True)
    store.writing(claim)
    store.end(claim, "done")
"""
    outputs = [tmp_path / f"out-{index}" for index in range(6)]
    children: list[subprocess.Popen[bytes]] = []
    for path in outputs:
        with path.open("wb") as stream:
            words = [sys.executable, "-c", script, str(tmp_path)]
            children.append(subprocess.Popen(words, stdout=stream))
    for index, child in enumerate(children[:3]):
        try:
            child.wait(0.3 + index * 0.2)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    assert [child.wait(120) for child in children[3:]] == [0, 0, 0]
    said = [line for path in outputs for line in path.read_text().split("\n") if line]
    assert len(said) == len(set(said)) >= 120


# --- broken stores ------------------------------------------------------------------------------


def opened(state: Path, **options: Any) -> str:
    with pytest.raises(EnvironmentFault) as caught:
        SerialStore(state, **options)
    assert str(state) in caught.value.message
    return caught.value.code


@pytest.fixture
def used(tmp_path: Path) -> Path:
    with SerialStore(tmp_path) as store:
        for _ in range(300):  # more than one page of SQLite
            store.end(take(store), "done")
    return tmp_path


def path_of(state: Path) -> Path:
    return state / "serials" / "numbers.sqlite3"


def test_a_store_that_is_gone_is_not_made_anew(used: Path) -> None:
    path_of(used).unlink()
    assert is_there(used)
    assert opened(used) == "serial.missing"
    assert not path_of(used).exists()


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + bytes(4000)])
def test_another_file_in_its_place_is_corrupt(used: Path, content: bytes) -> None:
    path_of(used).write_bytes(content)
    assert opened(used) == "serial.corrupt"
    assert path_of(used).read_bytes() == content


def test_a_store_cut_short_or_damaged_is_corrupt(used: Path) -> None:
    whole = path_of(used).read_bytes()
    path_of(used).write_bytes(whole[: len(whole) // 2])
    assert opened(used) == "serial.corrupt"
    damaged = bytearray(whole)
    for at in range(4096 * 2, len(damaged), 4096):
        damaged[at : at + 64] = bytes(64)
    path_of(used).write_bytes(damaged)
    assert opened(used) == "serial.corrupt"


def test_a_store_from_elsewhere_is_refused(used: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    SerialStore(other).close()
    path_of(used).write_bytes(path_of(other).read_bytes())
    assert opened(used) == "serial.corrupt"


def test_another_programs_database_is_refused(used: Path) -> None:
    path_of(used).unlink()
    database = sqlite3.connect(path_of(used))
    database.execute("CREATE TABLE a (b)")
    database.close()
    assert opened(used) == "serial.corrupt"


def test_a_locked_store_is_named_and_gives_nothing(used: Path) -> None:
    database = sqlite3.connect(path_of(used), isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    assert opened(used, timeout=0.1) == "serial.locked"
    database.execute("ROLLBACK")
    with SerialStore(used, timeout=0.1) as store:
        database.execute("BEGIN IMMEDIATE")
        with pytest.raises(EnvironmentFault) as caught:
            take(store)
        assert caught.value.code == "serial.locked"
        database.execute("ROLLBACK")
        assert serial(take(store)) == "N301"
    database.close()


def test_a_full_disk_gives_nothing_and_half_records_nothing(used: Path) -> None:
    with SerialStore(used) as store:
        (pages,) = store._database.execute("PRAGMA page_count").fetchone()
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        before, got = len(store.units()), 0
        code = ""
        while not code:  # until the pages at hand are full
            try:
                take(store)
                got += 1
            except EnvironmentFault as error:
                code = error.code
        assert code == "serial.unwritable"
        units = store.units()
        assert len(units) == before + got
        assert all(len(unit.numbers) == 1 for unit in units)
        store._database.execute("PRAGMA max_page_count = 100000")
        assert serial(take(store)) == f"N{len(units) + 1}"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "serials").write_text("a file")
    assert opened(tmp_path) == "serial.unwritable"


def test_a_unit_that_ended_cannot_be_ended_again(tmp_path: Path) -> None:
    with SerialStore(tmp_path) as store:
        claim = take(store)
        store.end(claim, "done")
        with pytest.raises(EnvironmentFault) as caught:
            store.writing(claim)
        assert caught.value.code == "serial.overtaken"


# --- a model ------------------------------------------------------------------------------------

STEP = st.tuples(
    st.sampled_from(["A", "B", None]),
    st.sampled_from(["reuse", "burn"]),
    st.sampled_from(["nothing", "early", "written", "done", "killed"]),
)


@settings(
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEP, min_size=1, max_size=8))
def test_no_two_boards_ever_hold_one_number(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[tuple[str | None, str, str]]
) -> None:
    """Boards without id are a new one each time."""
    state = tmp_path_factory.mktemp("state")
    holders: dict[str, str] = {}
    for index, (chip, policy, fate) in enumerate(steps):
        board = chip or f"board {index}"
        store = SerialStore(state)
        try:
            claim = store.take(wish(chip, policy, "same"), counter)
        except HwflashError:
            store.close()
            continue
        number = serial(claim)
        assert holders.get(number, board) == board, "another board may hold it"
        if fate in ("written", "done", "killed"):
            store.writing(claim)
            holders[number] = board
        if fate == "early":
            store.end(claim, "unchanged")
        elif fate in ("written", "done"):
            store.end(claim, "failed" if fate == "written" else "done")
        store.close()  # with "nothing" and "killed" as a dying process leaves it
