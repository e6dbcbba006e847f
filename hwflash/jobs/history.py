"""What was done to which chip, by whom and with what outcome: ``history.sqlite``.

SQLite, in the state directory. Several processes may write at once: a write waits for its turn,
at most `PATIENCE` seconds. The journal mode is SQLite's own default, rollback: the write-ahead
log would be faster, but does not work on a network file system, where a bench may keep its state.

An entry is written whole or not at all. A file ``history.jsonl``, as older versions kept it, is
taken over once and left where it is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

from hwflash.errors import EnvironmentFault, HwflashError, UsageError
from hwflash.jobs.history_entry import (
    COLUMNS,
    EVERY,
    OLD_FILE,
    Entry,
    Query,
    from_old_line,
    from_row,
    inside,
    to_row,
)

FILE: Final = "history.sqlite"
#: Of the schema, in SQLite's ``user_version``.
VERSION: Final = 1
#: SQLite's ``application_id``: "hwfh".
APPLICATION: Final = 0x68776668
#: Seconds to wait for another process.
PATIENCE: Final = 10.0

_TYPES: Final[Mapping[str, str]] = {
    "id": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "time": "TEXT NOT NULL",
    "kind": "TEXT NOT NULL",
    "outcome": "TEXT NOT NULL",
    "bytes": "INTEGER NOT NULL",
    "seconds": "REAL NOT NULL",
    "modelled": "INTEGER NOT NULL",
    "details": "TEXT NOT NULL",
}
_SCHEMA: Final = (
    "CREATE TABLE entries ("
    + ", ".join(f"{name} {_TYPES.get(name, 'TEXT')}" for name in COLUMNS)
    + ")",
    "CREATE INDEX entries_time ON entries (time)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)
_INSERT: Final = (
    f"INSERT INTO entries ({', '.join(COLUMNS[1:])}) "  # noqa: S608 - names of our own
    f"VALUES ({', '.join('?' * (len(COLUMNS) - 1))})"
)


class History:
    """An open history. Use `open_history`.

    Attributes:
        path: the file.
        notes: what is to be told of the taking over of an old history.
    """

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        self.notes: list[str] = []
        self._database = database
        database.text_factory = _decode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def add(self, entry: Entry) -> int:
        """Record a job.

        Returns:
            Its number.

        Raises:
            EnvironmentFault: see `open_history`; nothing was recorded.
        """
        with _named(self.path), self._transaction():
            return cast("int", self._database.execute(_INSERT, to_row(entry)).lastrowid)

    def entries(self, query: Query = EVERY) -> list[Entry]:
        """Entries, the newest first.

        Raises:
            EnvironmentFault: see `open_history`.
        """
        clause, values = query.where()
        text = f"SELECT {', '.join(COLUMNS)} FROM entries{clause} ORDER BY id DESC LIMIT ?"  # noqa: S608
        limit = -1 if query.limit is None else query.limit
        with _named(self.path):
            rows = self._database.execute(text, [*values, limit]).fetchall()
        return [self._entry(row) for row in rows]

    def count(self, query: Query = EVERY) -> int:
        """How many there are, whatever the limit.

        Raises:
            EnvironmentFault: see `open_history`.
        """
        clause, values = query.where()
        text = f"SELECT count(*) FROM entries{clause}"  # noqa: S608
        with _named(self.path):
            return int(self._database.execute(text, values).fetchone()[0])

    def entry(self, number: int) -> Entry:
        """One entry.

        Raises:
            UsageError: there is none of this number (``history.no-entry``).
            EnvironmentFault: see `open_history`.
        """
        text = f"SELECT {', '.join(COLUMNS)} FROM entries WHERE id = ?"  # noqa: S608
        row = None
        if 0 < number < 1 << 63:
            with _named(self.path):
                row = self._database.execute(text, [number]).fetchone()
        if row is None:
            raise UsageError(
                f"the history has no entry {number}", code="history.no-entry", id=number
            )
        return self._entry(row)

    def with_parts(self, numbers: Iterable[int]) -> list[Entry]:
        """Entries, with those that they include: of a unit, its steps. None of them twice.

        Raises:
            UsageError: there is none of a number (``history.no-entry``).
            EnvironmentFault: see `open_history`.
        """
        found: dict[int, Entry] = {}
        left = list(numbers)
        while left:
            number = left.pop()
            if number not in found:
                found[number] = self.entry(number)
                left += [item for item in inside(found[number]) if self._has(item)]
        return [found[number] for number in sorted(found)]

    def _has(self, number: int) -> bool:
        with _named(self.path):
            text = "SELECT count(*) FROM entries WHERE id = ?"
            return bool(self._database.execute(text, [number]).fetchone()[0])

    def _entry(self, row: Iterable[Any]) -> Entry:
        try:
            return from_row(row)
        except ValueError as error:
            raise _fault(self.path, "history.corrupt", "holds an entry that is none") from error

    # --- schema and old history -----------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back itself on some errors
                self._database.execute("ROLLBACK")
            raise

    def prepare(self) -> None:
        """Make the tables of a new file, check those of an old one."""
        with _named(self.path):
            if self._version() == 0:
                with self._transaction():
                    if self._version() == 0:  # nobody else was first
                        self._make()
            application = self._pragma("application_id")
            version = self._version()
        if application != APPLICATION:
            raise _fault(self.path, "history.corrupt", "is another program's database")
        if version > VERSION:
            raise _fault(
                self.path, "history.version",
                f"is of version {version}, made by a newer hwflash; this one knows {VERSION}",
            )  # fmt: skip

    def _make(self) -> None:
        if self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise _fault(self.path, "history.corrupt", "is another program's database")
        for statement in _SCHEMA:
            self._database.execute(statement)

    def _version(self) -> int:
        return self._pragma("user_version")

    def _pragma(self, name: str) -> int:
        return int(self._database.execute(f"PRAGMA {name}").fetchone()[0])

    def take_over(self, old: Path) -> None:
        """Take over a ``history.jsonl``, once."""
        try:
            if not old.is_file() or self._taken():
                return
            lines = old.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            self.notes.append(f"{old} cannot be read: {error.strerror}")
            return
        found = [from_old_line(line) for line in lines if line.strip()]
        entries = [entry for entry in found if entry is not None]
        with _named(self.path), self._transaction():
            if self._taken():
                return
            self._database.executemany(_INSERT, [to_row(entry) for entry in entries])
            self._database.execute("INSERT INTO facts VALUES ('jsonl', ?)", [str(len(entries))])
        if len(entries) < len(found):
            self.notes.append(
                f"{len(found) - len(entries)} of {len(found)} lines of {old} are no entries and "
                "were left out"
            )

    def _taken(self) -> bool:
        with _named(self.path):
            text = "SELECT count(*) FROM facts WHERE name = 'jsonl'"
            return bool(self._database.execute(text).fetchone()[0])


def open_history(state: Path, *, create: bool, patience: float = PATIENCE) -> History:
    """Open the history of a state directory.

    Args:
        state: the state directory.
        create: make the file if it is not there; else a missing one is an empty history.
        patience: seconds to wait for another process.

    Raises:
        EnvironmentFault: another process holds it all the time (``history.locked``), the disk is
            full (``history.full``), it is damaged or no history (``history.corrupt``), made by a
            newer hwflash (``history.version``), cannot be opened, read or written
            (``history.inaccessible``).
    """
    path, old = state / FILE, state / OLD_FILE
    with _named(path):
        writable = os.access(path if path.exists() else state, os.W_OK)
        missing = not path.exists() and not create and not (old.is_file() and writable)
        if missing:
            database = sqlite3.connect(":memory:", isolation_level=None)
        else:
            mode = "rwc" if create or writable else "ro"
            database = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=patience,
                isolation_level=None,
            )  # fmt: skip
    history = History(path, database)
    try:
        history.prepare()
        if not missing and writable:
            history.take_over(old)
    except BaseException:
        database.close()
        raise
    return history


# --- errors --------------------------------------------------------------------------

#: SQLite's primary result codes. Ref: https://www.sqlite.org/rescode.html
_CODES: Final[Mapping[int, tuple[str, str]]] = {
    sqlite3.SQLITE_BUSY: ("history.locked", "is held by another process"),
    sqlite3.SQLITE_LOCKED: ("history.locked", "is held by another process"),
    sqlite3.SQLITE_FULL: ("history.full", "cannot grow: the disk is full"),
    sqlite3.SQLITE_CORRUPT: ("history.corrupt", "is damaged"),
    sqlite3.SQLITE_NOTADB: ("history.corrupt", "is no SQLite database"),
    sqlite3.SQLITE_ERROR: ("history.corrupt", "has other tables than a history"),
}


@contextmanager
def _named(path: Path) -> Generator[None]:
    """Give SQLite's errors the names of ours."""
    try:
        yield
    except sqlite3.Error as error:
        number = getattr(error, "sqlite_errorcode", 0) & 0xFF
        code, text = _CODES.get(number, ("history.inaccessible", f"cannot be used: {error}"))
        raise _fault(path, code, text) from error
    except UnicodeDecodeError as error:  # SQLite's message quotes a damaged name
        raise _fault(path, "history.corrupt", "is damaged") from error
    except OSError as error:
        text = f"cannot be used: {error.strerror}"
        raise _fault(path, "history.inaccessible", text) from error


def _decode(data: bytes) -> str:
    """What another program wrote need not be UTF-8."""
    return data.decode("utf-8", "replace")


def _fault(path: Path, code: str, text: str) -> HwflashError:
    return EnvironmentFault(f"the history {path} {text}", code=code, path=str(path))
