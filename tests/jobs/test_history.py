"""The history: whole entries, from several processes, and a clear word about a bad file."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Notes

from hwflash.errors import EnvironmentFault, ProgrammerLost, UsageError
from hwflash.jobs import history as histories
from hwflash.jobs.history import FILE, History, open_history
from hwflash.jobs.history_entry import OLD_FILE, OUTCOMES, Entry, Query, utc
from hwflash.jobs.opening import Request
from hwflash.jobs.read import verify
from hwflash.jobs.remember import operator, record
from hwflash.jobs.session import open_session
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken

ENTRY = Entry(
    time="2026-01-31T12:00:05Z",
    started="2026-01-31T12:00:00Z",
    kind="write",
    outcome="ok",
    programmer="sim://w25q80",
    part="W25Q80DV",
    jedec_id="ef4014",
    unique_id="00112233aabbccdd",
    board="bench",
    image_sha256="ab" * 32,
    backup="/backups/a.bin",
    backup_sha256="cd" * 32,
    bytes=1 << 20,
    seconds=4.25,
    modelled=True,
    operator="Ada",
    host="bench-1",
    version="0.1.0",
    job="20260131-120000-abcdef",
    details={"ranges": [{"address": 0, "length": 1 << 20}], "variables": []},
)
OLD: dict[str, Any] = {
    "time": "2025-12-31T23:59:59Z", "job": "erase", "outcome": "unknown",
    "error": "chip.state-unknown", "bytes": 4096, "seconds": 0.5,
    "programmer": "sim://w25q80?image=x", "part": "W25Q80DV", "jedec_id": "ef4014",
    "sha256": "ef" * 32, "backup": "/backups/b.bin",
}  # fmt: skip


def add(state: Path, *entries: Entry) -> list[int]:
    with open_history(state, create=True) as history:
        return [history.add(entry) for entry in entries]


def read(state: Path, query: Query | None = None) -> list[Entry]:
    with open_history(state, create=False) as history:
        return history.entries(query or Query())


def refused(code: str, do: Callable[[], object]) -> str:
    with pytest.raises(EnvironmentFault) as caught:
        do()
    assert caught.value.code == code
    assert FILE in caught.value.message
    return caught.value.message


def test_an_entry_comes_back_as_it_was(tmp_path: Path) -> None:
    (number,) = add(tmp_path, ENTRY)
    assert read(tmp_path) == [replace(ENTRY, id=number)]
    with open_history(tmp_path, create=False) as history:
        assert history.entry(number).as_dict() == {**ENTRY.as_dict(), "id": number}


texts = st.text(st.characters(codec=None, exclude_characters="\0"), max_size=20)
plain = st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | texts


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=texts, details=st.dictionaries(texts, plain | st.lists(plain, max_size=3), max_size=3))
def test_any_text_can_be_recorded(tmp_path: Path, text: str, details: dict[str, Any]) -> None:
    entry = replace(ENTRY, operator=text, file=text, details=details)
    (number,) = add(tmp_path, entry)
    with open_history(tmp_path, create=False) as history:
        found = history.entry(number)
    assert found.operator == text.encode("utf-8", "backslashreplace").decode()
    json.dumps(found.as_dict(), ensure_ascii=False).encode()
    if not any(0xD800 <= ord(char) < 0xE000 for char in json.dumps(details, ensure_ascii=False)):
        assert found.details == details


def test_what_is_no_json_becomes_text(tmp_path: Path) -> None:
    add(
        tmp_path,
        replace(ENTRY, details={"path": Path("/x"), "bad": float("nan"), "t": (1, "\udc80")}),
    )
    assert read(tmp_path)[0].details == {"path": "/x", "bad": "nan", "t": [1, "\\udc80"]}


def test_queries(tmp_path: Path) -> None:
    entries = [
        replace(ENTRY, time=f"2026-01-0{day}T00:00:00Z", outcome=outcome, part=part, unique_id=uid)
        for day, outcome, part, uid in (
            (1, "ok", "W25Q80DV", "aa"), (2, "failed", "W25Q80DV", None), (3, "ok", "MX25", "bb"),
        )
    ]  # fmt: skip
    assert add(tmp_path, *entries) == [1, 2, 3]

    def ids(**query: Any) -> list[int]:
        return [entry.id for entry in read(tmp_path, Query(**query))]

    assert ids() == [3, 2, 1], "the newest first"
    assert ids(limit=2) == [3, 2]
    assert ids(since="2026-01-02T00:00:00Z") == [3, 2]
    assert ids(outcome="failed") == [2]
    assert ids(chip="w25q80dv") == [2, 1]
    assert ids(chip="BB") == [3]
    assert ids(chip="EF4014", outcome="ok", limit=1) == [3]
    assert ids(chip="'; DROP TABLE entries; --") == []
    with open_history(tmp_path, create=False) as history:
        assert history.count(Query(chip="w25q80dv", limit=1)) == 2
        for number in (0, -1, 4, 1 << 63, 1 << 70):
            with pytest.raises(UsageError) as caught:
                history.entry(number)
            assert caught.value.code == "history.no-entry"


def test_units_are_found_by_their_numbers(tmp_path: Path) -> None:
    unit = {"batch": "b-1", "number": 3, "serial": "SN 'x'", "macs": ["02:00:5e:10:00:0a"]}
    add(tmp_path, ENTRY, replace(ENTRY, details={"unit": unit}))
    whole = replace(ENTRY, details={"unit": {"batch": "b-2"}, "includes": [2, 3, 99, "x", 1]})
    add(tmp_path, whole)
    for query in (Query(serial="SN 'x'"), Query(serial="02:00:5E:10:00:0A"), Query(batch="b-1")):
        assert [entry.id for entry in read(tmp_path, query)] == [2]
    assert read(tmp_path, Query(serial="%")) == []
    with open_history(tmp_path, create=False) as history:
        assert [entry.id for entry in history.with_parts([3])] == [1, 2, 3]


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    assert read(tmp_path / "missing") == []
    assert list(tmp_path.iterdir()) == []


def test_a_name_with_marks_of_a_uri(tmp_path: Path) -> None:
    state = tmp_path / "a ?b#c%20&mode=ro"
    state.mkdir()
    assert add(state, ENTRY) == [1]
    assert len(read(state)) == 1
    assert [path.name for path in state.iterdir()] == [FILE]


# --- several processes ------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from dataclasses import replace
sys.path.insert(0, sys.argv[3])
from test_history import ENTRY
from hwflash.jobs.history import open_history
for number in range(int(sys.argv[2])):
    with open_history(Path(sys.argv[1]), create=True) as history:
        print(history.add(replace(ENTRY, operator=f"{sys.argv[4]}/{number}")), flush=True)
"""


def writer(state: Path, count: int, name: str) -> subprocess.Popen[str]:
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests.parent), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(state), str(count), str(tests), name],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


@pytest.mark.slow
def test_several_processes_begin_a_history_and_write_it(tmp_path: Path) -> None:
    writers = [writer(tmp_path, 20, str(number)) for number in range(4)]
    numbers: list[int] = []
    for process in writers:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        numbers += map(int, out.split())
    assert sorted(numbers) == list(range(1, 81))
    found = [entry.operator for entry in read(tmp_path)]
    assert sorted(map(str, found)) == sorted(f"{who}/{n}" for who in range(4) for n in range(20))


def test_who_comes_second_finds_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process makes the file, and takes the old one over, after we looked."""
    (tmp_path / OLD_FILE).write_text(json.dumps(OLD))
    transaction = History._transaction
    first = [True]

    def late(history: History) -> Any:
        if first.pop() if first else False:
            assert add(tmp_path, ENTRY) == [2]
        return transaction(history)

    monkeypatch.setattr(History, "_transaction", late)
    assert add(tmp_path, ENTRY) == [3]

    def taken(history: History) -> bool:
        looked.append(real(history))
        return looked[-1] if len(looked) > 1 else False

    looked: list[bool] = []
    real = History._taken
    monkeypatch.setattr(History, "_taken", taken)
    assert add(tmp_path, ENTRY) == [4]
    assert looked == [True, True], "it looked again with the file to itself"
    assert len(read(tmp_path)) == 4


def test_a_transaction_has_the_file_to_itself_from_the_start(tmp_path: Path) -> None:
    """Two that only read first would each wait for the other to end."""
    other = sqlite3.connect(tmp_path / FILE, timeout=0, isolation_level=None)
    with (
        open_history(tmp_path, create=True) as history,
        history._transaction(),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")
    other.close()


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_no_half_entry(tmp_path: Path) -> None:
    add(tmp_path, ENTRY)
    process = writer(tmp_path, 100_000, "x")
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(10)]
    process.send_signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=10)
    told += [int(line) for line in out.splitlines()]
    found = read(tmp_path)
    # What it told of is there; the one it was writing is there whole, or not at all.
    assert len(found) in (len(told) + 1, len(told) + 2)
    assert add(tmp_path, ENTRY) == [len(found) + 1]
    with sqlite3.connect(tmp_path / FILE) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_a_transaction_that_was_cut_is_rolled_back(tmp_path: Path) -> None:
    """A hot journal, as a power cut in the middle of a write leaves it."""
    add(tmp_path, *[ENTRY] * 50)
    script = (
        "import os, sqlite3, sys\n"
        "d = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "d.execute('PRAGMA cache_size = 1'); d.execute('BEGIN IMMEDIATE')\n"
        "d.execute('UPDATE entries SET operator = hex(zeroblob(3000))')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / FILE], check=True)
    assert (tmp_path / f"{FILE}-journal").stat().st_size > 0
    assert {entry.operator for entry in read(tmp_path)} == {"Ada"}


@pytest.mark.slow
def test_it_waits_for_another_process_and_then_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path, ENTRY)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    message = refused("history.locked", lambda: open_history(tmp_path, create=True, patience=0.2))
    assert 0.15 < time.monotonic() - began < 5
    assert "another process" in message

    monkeypatch.setattr(histories, "PATIENCE", 0.0)
    ender = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    ender.start()
    with open_history(tmp_path, create=True, patience=10) as history:
        assert history.add(ENTRY) == 2
    ender.join()
    other.close()


# --- a bad file -------------------------------------------------------------------------------


def test_a_full_disk_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, ENTRY)
    connect = sqlite3.connect

    def small(*args: Any, **options: Any) -> sqlite3.Connection:
        database = connect(*args, **options)
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages}")
        return database

    notes = Notes()
    big = replace(ENTRY, operator="x" * 20_000)
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", small)
        message = refused("history.full", lambda: add(tmp_path, big))
        assert "disk is full" in message
        assert record(tmp_path, big, notes) is None
    ((text, facts),) = notes.warnings
    assert "not in the history" in text
    assert facts["code"] == "history.full"
    assert [entry.operator for entry in read(tmp_path)] == ["Ada"]
    assert record(tmp_path, big, notes) == 2


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"this is a text, and a long one, not a database at all" * 30, "history.corrupt"),
        (b"SQLite format 3\0" + bytes(2000), "history.corrupt"),
    ],
)
def test_no_database(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / FILE).write_bytes(content)
    refused(code, lambda: add(tmp_path, ENTRY))
    refused(code, lambda: read(tmp_path))
    assert (tmp_path / FILE).read_bytes() == content, "it is left for whoever can save it"
    notes = Notes()
    assert record(tmp_path, ENTRY, notes) is None
    assert notes.warnings[0][1]["code"] == code


def test_an_empty_file_becomes_a_history(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    assert add(tmp_path, ENTRY) == [1]


def test_damaged_pages(tmp_path: Path) -> None:
    add(tmp_path, *[ENTRY] * 200)
    data = bytearray((tmp_path / FILE).read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    (tmp_path / FILE).write_bytes(data)
    refused("history.corrupt", lambda: read(tmp_path))


def test_a_damaged_name_in_the_schema(tmp_path: Path) -> None:
    add(tmp_path, ENTRY)
    data = (tmp_path / FILE).read_bytes()
    assert data.count(b"CREATE TABLE entries (") == 1
    damaged = data.replace(b"CREATE TABLE entries (", b"CREATE TABLE entri\x80s (")
    (tmp_path / FILE).write_bytes(damaged)
    refused("history.corrupt", lambda: read(tmp_path))
    damaged = data.replace(b"tableentriesentries", b"tableentri\x80sentries")
    assert damaged != data
    (tmp_path / FILE).write_bytes(damaged)
    refused("history.corrupt", lambda: read(tmp_path))


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(damage=st.lists(st.tuples(st.integers(0, 40_000), st.binary(min_size=1, max_size=40))))
def test_any_damage_is_named(tmp_path: Path, damage: list[tuple[int, bytes]]) -> None:
    path = tmp_path / FILE
    path.unlink(missing_ok=True)
    add(tmp_path, *[ENTRY] * 20)
    data = bytearray(path.read_bytes())
    for at, content in damage:
        at %= len(data)
        data[at : at + len(content)] = content[: len(data) - at]
    path.write_bytes(data)
    for do in (lambda: read(tmp_path), lambda: add(tmp_path, ENTRY)):
        codes = ["history.none"]
        try:
            do()
        except EnvironmentFault as error:
            codes.append(error.code)
        assert {code.split(".")[0] for code in codes} == {"history"}


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("PRAGMA user_version = 2", "history.version"),
        ("PRAGMA application_id = 7", "history.corrupt"),
        ("DROP TABLE entries", "history.corrupt"),
        ("UPDATE entries SET details = 'no json'", "history.corrupt"),
        ("UPDATE entries SET details = '[]'", "history.corrupt"),
        ("UPDATE entries SET details = '{\"a\": NaN}'", "history.corrupt"),
        ("UPDATE entries SET seconds = 9e999", "history.corrupt"),
        ("UPDATE entries SET bytes = 'many'", "history.corrupt"),
        ("UPDATE entries SET operator = x'00ff'", "history.corrupt"),
    ],
)
def test_a_database_of_somebody_else(tmp_path: Path, statement: str, code: str) -> None:
    add(tmp_path, ENTRY)
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute(statement)
    database.close()
    message = refused(code, lambda: read(tmp_path))
    assert "version" not in code or "newer" in message


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("CREATE TABLE cookies (a)")
    database.close()
    before = (tmp_path / FILE).read_bytes()
    refused("history.corrupt", lambda: add(tmp_path, ENTRY))
    assert (tmp_path / FILE).read_bytes() == before


def test_text_that_is_no_utf_8(tmp_path: Path) -> None:
    add(tmp_path, ENTRY)
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("UPDATE entries SET operator = CAST(x'41ff' AS TEXT)")
    database.close()
    assert read(tmp_path)[0].operator == "A\ufffd"


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    refused("history.inaccessible", lambda: add(tmp_path, ENTRY))
    refused("history.inaccessible", lambda: read(tmp_path))


def test_no_folder_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused("history.inaccessible", lambda: add(tmp_path / "file", ENTRY))
    refused("history.inaccessible", lambda: add(tmp_path / "missing", ENTRY))


def test_a_history_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path, ENTRY)
    (tmp_path / OLD_FILE).write_text(json.dumps(OLD))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    assert [entry.operator for entry in read(tmp_path)] == ["Ada"]
    with open_history(tmp_path, create=False) as history:
        refused("history.inaccessible", lambda: history.add(ENTRY))


# --- what older versions kept -----------------------------------------------------------------


def test_an_old_history_is_taken_over_once(tmp_path: Path) -> None:
    lines = [json.dumps(OLD), json.dumps({**OLD, "outcome": "ok", "error": None})]
    (tmp_path / OLD_FILE).write_text("\n".join(lines) + "\n")
    with open_history(tmp_path, create=False) as history:
        assert history.notes == []
        newest, oldest = history.entries()
    assert oldest == Entry(
        id=1, time=OLD["time"], kind="erase", outcome="unknown", error="chip.state-unknown",
        bytes=4096, seconds=0.5, programmer=OLD["programmer"], part="W25Q80DV", jedec_id="ef4014",
        backup="/backups/b.bin", modelled=True,
        details={"imported": OLD_FILE, "content_sha256": "ef" * 32},
    )  # fmt: skip
    assert (newest.outcome, newest.error) == ("ok", None)
    assert add(tmp_path, ENTRY) == [3]
    assert len(read(tmp_path)) == 3, "not taken over again"
    assert (tmp_path / OLD_FILE).read_text().splitlines() == lines, "and left where it is"


def test_old_lines_that_are_no_entries(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"outcome": "great"}, {"time": 7}, {"bytes": "many"}, {"bytes": 1 << 64},
        {"seconds": float("nan")}, {"seconds": 1e400}, {"error": 3}, {"programmer": None},
    ]  # fmt: skip
    bad = [json.dumps({**OLD, **change}) for change in changes]
    bad += ["", "[]", "7", "{}", json.dumps(OLD)[:40], "[" * 100_000, "\udcff\x00"]
    text = "\n".join([*bad, json.dumps(OLD)])
    (tmp_path / OLD_FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    notes = Notes()
    assert record(tmp_path, ENTRY, notes) == 2
    ((message, _),) = notes.warnings
    count = len(bad) - 1  # an empty line is nothing
    assert f"{count} of {count + 1} lines" in message
    assert record(tmp_path, ENTRY, notes) == 3
    assert len(notes.warnings) == 1


def test_an_old_history_that_is_a_folder_is_nothing(tmp_path: Path) -> None:
    (tmp_path / OLD_FILE).mkdir()
    assert add(tmp_path, ENTRY) == [1]


# --- who and when -----------------------------------------------------------------------------


def test_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWFLASH_OPERATOR", " Ada Lovelace ")
    assert operator() == "Ada Lovelace"
    monkeypatch.setenv("HWFLASH_OPERATOR", " ")
    monkeypatch.setenv("LOGNAME", "ada")
    assert operator() == "ada"

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert operator() == f"uid {os.getuid()}"


def test_a_chip_that_stops_answering_after_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(programmer="sim://p25q21h", environ={"HWFLASH_STATE_DIR": str(tmp_path)})
    with open_session(request, Notes()) as session:

        def lost() -> str:
            raise ProgrammerLost("gone")

        monkeypatch.setattr(session, "unique_id", lost)
        target = [Segment(0, b"\xff" * 16)]
        found = verify(session, target, Notes(), CancelToken(), tmp_path)
    assert found.mismatches == ()
    assert [(entry.outcome, entry.unique_id) for entry in read(tmp_path)] == [("ok", None)]


def test_times_are_utc() -> None:
    assert utc(0) == "1970-01-01T00:00:00Z"
    assert utc(1769860805.9) == "2026-01-31T12:00:05Z"


def test_the_outcomes_that_passed() -> None:
    passed = [outcome for outcome in OUTCOMES if replace(ENTRY, outcome=outcome).passed]
    assert passed == ["ok", "unchanged"]
