"""The SQLite file behind `hwflash.jobs.serials`: made once, never made again.

A store that vanished or was cut to nothing must not begin anew: it would hand out every number a
second time. It is therefore made under another name and renamed when it is whole, and a mark
beside it says that it was made.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from hwflash.errors import EnvironmentFault
from hwflash.layout.files import sync_folder

BUSY_SECONDS: Final = 10.0
NAME: Final = "numbers.sqlite3"
MARK: Final = "numbers.id"
#: "hwfS" in ASCII.
APPLICATION: Final = 0x68776653
VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE store (id TEXT NOT NULL);
CREATE TABLE unit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, chip TEXT, owner TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('taken', 'writing', 'done', 'unchanged', 'failed',
                                         'burned', 'passed-on')),
    began TEXT NOT NULL, ended TEXT, note TEXT NOT NULL
);
CREATE INDEX unit_by_job ON unit (job, state, chip);
CREATE INDEX unit_by_owner ON unit (owner);
CREATE TABLE number (
    series TEXT NOT NULL, value TEXT NOT NULL, position INTEGER, role TEXT NOT NULL,
    unit INTEGER NOT NULL REFERENCES unit (id), PRIMARY KEY (series, value)
) WITHOUT ROWID;
CREATE INDEX number_by_unit ON number (unit);
CREATE INDEX number_by_position ON number (series, position);
"""

_FULL: Final = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH,
}  # fmt: skip
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def open_database(folder: Path, timeout: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Open the store of a folder; make both if this is the first time.

    Args:
        folder: is made if missing, readable by its owner only.
        timeout: seconds to wait for another process.

    Raises:
        EnvironmentFault: ``serial.corrupt``, ``serial.missing``, ``serial.locked``,
            ``serial.unwritable``.
    """
    path = folder / NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = os.open(folder / MARK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        _lock(mark, path, timeout)
        known = os.read(mark, 100).decode("ascii", "replace").strip()
        if not path.exists():
            if known:
                raise EnvironmentFault(
                    f"{path} is gone: it held the numbers that were handed out",
                    code="serial.missing",
                    file=str(path),
                )
            _make(path)
        database = _open(path, timeout)
        try:
            found = _check(database, path)
            if known and known != found:
                raise _corrupt(path, "it is another store than the one that was made here")
            if not known:
                os.pwrite(mark, found.encode(), 0)
                os.fsync(mark)
                sync_folder(folder)
        except BaseException:
            database.close()
            raise
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        os.close(mark)
    return database


@contextmanager
def guarded(path: Path) -> Generator[None]:
    """Turn what SQLite says into errors of ours.

    Raises:
        EnvironmentFault: see `open_database`.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _BUSY:
            raise _locked(path) from error
        if code in _FULL:
            raise EnvironmentFault(
                f"{path} cannot be written: {error}", code="serial.unwritable", file=str(path)
            ) from error
        raise _corrupt(path, str(error)) from error


def _lock(mark: int, path: Path, timeout: float) -> None:
    end = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise _locked(path) from None
            time.sleep(0.02)


def _make(path: Path) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with guarded(path), closing(sqlite3.connect(new, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = EXTRA")
            database.execute(f"PRAGMA application_id = {APPLICATION}")
            database.execute(f"PRAGMA user_version = {VERSION}")
            database.executescript(_SCHEMA)
            database.execute("INSERT INTO store VALUES (?)", (secrets.token_hex(16),))
        new.chmod(0o600)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _open(path: Path, timeout: float) -> sqlite3.Connection:
    # mode=rw: a file that vanishes now must not be made anew.
    with guarded(path):
        return sqlite3.connect(
            path.absolute().as_uri() + "?mode=rw", uri=True, timeout=timeout, isolation_level=None
        )


def _check(database: sqlite3.Connection, path: Path) -> str:
    """Refuse a file that is damaged or none of ours; its id."""
    if path.stat().st_size == 0:  # SQLite takes that for a new database
        raise _corrupt(path, "it is empty")
    with guarded(path):
        # EXTRA also brings the end of a transaction to the disk, not only its data.
        database.execute("PRAGMA synchronous = EXTRA")
        database.execute("PRAGMA foreign_keys = ON")
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise _corrupt(path, "it is another program's file")
        if version != VERSION:
            raise _corrupt(path, f"it has version {version}, known is {VERSION}")
        (health,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        if health != "ok":
            raise _corrupt(path, str(health))
        rows = database.execute("SELECT id FROM store").fetchall()
    if len(rows) != 1:
        raise _corrupt(path, "it has no id")
    return str(rows[0][0])


def _corrupt(path: Path, what: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path}, which holds the numbers that were handed out, cannot be used: {what}",
        code="serial.corrupt",
        file=str(path),
    )


def _locked(path: Path) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} is held by another process", code="serial.locked", file=str(path)
    )


def _unwritable(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} cannot be made or read: {error.strerror or error}",
        code="serial.unwritable",
        file=str(path),
        errno=error.errno,
    )
