"""Numbers that were handed out: serial numbers, MAC addresses, rows of a CSV file.

A number is on the disk as *taken* before anything is written to the unit, as *writing* before
the first byte of the unit changes, and as *done* or *failed* after. A process that is killed
anywhere in between leaves a number that nobody gets by accident: only a unit that is known to be
unchanged gives its numbers to another, and only if the job says so.

An SQLite file in the state directory keeps them, shared by all processes. A lock file per unit
tells whether the process that took its numbers still lives.

Limits: one computer; SQLite's locks cannot be relied on across a network file system. A store
that was put back from an old backup is not told from a current one.

Ref: sqlite.org/lockingv3.html, sqlite.org/pragma.html (synchronous=EXTRA).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.jobs.serial_file import BUSY_SECONDS, MARK, NAME, guarded, open_database
from hwflash.jobs.serial_units import Claim, Number, Origin, State, Unit, Wish

_UNITS: Final = "SELECT id, job, chip, owner, state, note FROM unit "


def is_there(state: Path) -> bool:
    """Whether a state directory has, or once had, a store of numbers."""
    return any((state / "serials" / name).exists() for name in (MARK, NAME))


class Ledger:
    """What has been handed out, seen while new numbers are chosen."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def taken(self, series: str, value: str) -> bool:
        """Whether a number was handed out ever before."""
        query = "SELECT 1 FROM number WHERE series = ? AND value = ?"
        return self._database.execute(query, (series, value)).fetchone() is not None

    def highest(self, series: str, low: int, high: int) -> int | None:
        """The highest position handed out from ``low`` to ``high``, both included."""
        query = "SELECT max(position) FROM number WHERE series = ? AND position BETWEEN ? AND ?"
        (found,) = self._database.execute(query, (series, low, high)).fetchone()
        return found


class SerialStore:
    """The store of a state directory; open it for the length of a batch.

    Args:
        state: the state directory.
        timeout: seconds to wait for another process.

    Raises:
        EnvironmentFault: ``serial.corrupt``, ``serial.missing`` (it was there before),
            ``serial.locked``, ``serial.unwritable``.
    """

    def __init__(self, state: Path, *, timeout: float = BUSY_SECONDS) -> None:
        self._folder = state / "serials"
        self._database = open_database(self._folder, timeout)
        self._owners: dict[int, tuple[Path, int]] = {}
        try:
            self._sweep()
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The file."""
        return self._folder / NAME

    def close(self) -> None:
        """Close it; units that are not ended count as abandoned from now on."""
        for _, descriptor in self._owners.values():
            os.close(descriptor)
        self._owners.clear()
        self._database.close()

    def take(self, wish: Wish, choose: Callable[[Ledger], Sequence[Number]]) -> Claim:
        """Give a unit its numbers; they are on the disk when this returns.

        Args:
            wish: who asks.
            choose: picks new numbers; not called when old ones may be used again.

        Raises:
            ImageError: ``serial.unit-done``, this chip was done before; ``serial.duplicate``, a
                number was handed out before; what ``choose`` raises.
            EnvironmentFault: the store cannot be used, see the class.
        """
        token, descriptor = self._own()
        try:
            with self._transaction():
                old, origin = self._old(wish)
                numbers = old.numbers if old is not None else tuple(choose(Ledger(self._database)))
                # Numbers that a chip may hold must not become free by this unit's failing
                # early: it counts as being written from the start.
                touched = old is not None and old.state not in ("taken", "unchanged")
                state = "writing" if touched else "taken"
                unit = self._insert(wish, token.name, state)
                if old is not None:
                    self._database.execute(
                        "UPDATE number SET unit = ? WHERE unit = ?", (unit, old.unit)
                    )
                    self._set(old.unit, "passed-on", old.note)
                else:
                    self._enter(unit, numbers)
        except BaseException:
            os.close(descriptor)
            token.unlink(missing_ok=True)
            raise
        self._owners[unit] = token, descriptor
        return Claim(unit, numbers, origin, touched)

    def would_reuse(self, wish: Wish) -> bool:
        """Whether `take` would give old numbers now; it may be otherwise when it is called.

        Raises:
            ImageError: ``serial.unit-done``, as `take` would.
            EnvironmentFault: the store cannot be used.
        """
        with guarded(self.path):
            return self._old(wish)[0] is not None

    def writing(self, claim: Claim) -> None:
        """The unit is about to be changed.

        Raises:
            EnvironmentFault: the store cannot be used; ``serial.overtaken``, the numbers are no
                longer this unit's.
        """
        self._mark(claim, ("taken", "writing"), "writing", "")

    def end(
        self,
        claim: Claim,
        state: Literal["done", "unchanged", "failed", "burned"],
        note: str = "",
    ) -> None:
        """The unit is finished.

        Args:
            claim: its numbers.
            state: ``done``; ``unchanged``, nothing was written to it (``failed`` for numbers that
                a chip may hold from before); ``failed`` after something was; ``burned``, the
                numbers themselves are of no use.
            note: why it failed.

        Raises:
            EnvironmentFault: as `writing`.
        """
        if claim.touched and state == "unchanged":
            state = "failed"
        self._mark(claim, ("taken", "writing"), state, note)
        token, descriptor = self._owners.pop(claim.unit)
        os.close(descriptor)
        token.unlink(missing_ok=True)

    def units(self, job: str | None = None) -> list[Unit]:
        """Every unit, or those of a job, in the order they came."""
        with guarded(self.path):
            rows = self._rows("WHERE job = ? OR ? IS NULL ORDER BY id", (job, job))
            return [self._unit(row) for row in rows]

    @property
    def ledger(self) -> Ledger:
        """What has been handed out so far; others may take numbers at any time."""
        return Ledger(self._database)

    # --- inside ---------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with guarded(self.path):
            # IMMEDIATE: two processes that both read first would choose the same number.
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                    self._database.execute("ROLLBACK")
                raise

    def _sweep(self) -> None:
        """Remove the lock files that killed processes left, once their units are settled.

        One without a unit stays: its owner may be about to enter it.
        """
        query = "SELECT 1 FROM unit WHERE owner = ? AND state NOT IN ('taken', 'writing')"
        with guarded(self.path):
            for token in self._folder.glob("unit-*.lock"):
                if self._database.execute(query, (token.name,)).fetchone() is not None:
                    token.unlink(missing_ok=True)

    def _own(self) -> tuple[Path, int]:
        """A lock file that the kernel gives free when this process ends, however it ends."""
        token = self._folder / f"unit-{secrets.token_hex(8)}.lock"
        try:
            descriptor = os.open(token, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise EnvironmentFault(
                f"{token} cannot be made: {error.strerror or error}",
                code="serial.unwritable",
                file=str(token),
                errno=error.errno,
            ) from error
        return token, descriptor

    def _abandoned(self, owner: str) -> bool | None:
        """Whether the process that took a unit's numbers has ended; None: nobody can tell."""
        try:
            descriptor = os.open(self._folder / owner, os.O_RDWR)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(descriptor)

    def _old(self, wish: Wish) -> tuple[Unit | None, Origin]:
        """The unit whose numbers may be used again."""
        last = self._done(wish)
        if last is not None:
            if wish.again == "refuse" or not _same_roles(wish, last):
                said = ", ".join(f"{item.role} {item.value}" for item in last.numbers)
                raise ImageError(
                    f"this chip ({last.chip}) was done before by job {wish.job}"
                    + (f", it has {said}" if said else ""),
                    code="serial.unit-done",
                    chip=last.chip,
                    unit=last.unit,
                )
            return last, "same"
        if wish.policy == "burn":
            return None, "new"
        rows = self._rows(
            "WHERE job = ? AND state IN ('taken', 'writing', 'unchanged', 'failed') "
            "ORDER BY (chip IS NOT NULL AND chip = ?) DESC, id",
            (wish.job, wish.chip),
        )
        for row in rows:
            if self._reusable(wish, row):
                unit = self._unit(row)
                if _same_roles(wish, unit):
                    return unit, "reused"
        return None, "new"

    def _done(self, wish: Wish) -> Unit | None:
        if wish.chip is None:
            return None
        rows = self._rows(
            "WHERE job = ? AND chip = ? AND state = 'done' ORDER BY id DESC LIMIT 1",
            (wish.job, wish.chip),
        )
        return self._unit(rows[0]) if rows else None

    def _reusable(self, wish: Wish, row: tuple[Any, ...]) -> bool:
        """Known to be unchanged, or the same chip; and nobody is at it."""
        _, _, chip, owner, state, _ = row
        same = wish.chip is not None and chip == wish.chip
        if state in ("unchanged", "failed"):
            return same or state == "unchanged"
        ended = self._abandoned(owner)
        # A lock file that is gone proves nothing about a unit that may lie elsewhere.
        return (same and ended is not False) or (state == "taken" and ended is True)

    def _insert(self, wish: Wish, owner: str, state: State) -> int:
        found = self._database.execute(
            "INSERT INTO unit (job, chip, owner, state, began, note) VALUES (?, ?, ?, ?, ?, '')",
            (wish.job, wish.chip, owner, state, _now()),
        )
        return found.lastrowid or 0

    def _enter(self, unit: int, numbers: Sequence[Number]) -> None:
        ledger = Ledger(self._database)
        for item in numbers:
            if ledger.taken(item.series, item.value):
                raise ImageError(
                    f"{item.role} {item.value} was handed out before",
                    code="serial.duplicate",
                    role=item.role,
                    value=item.value,
                    series=item.series,
                )
            self._database.execute(
                "INSERT INTO number (series, value, position, role, unit) VALUES (?, ?, ?, ?, ?)",
                (item.series, item.value, item.position, item.role, unit),
            )

    def _mark(self, claim: Claim, allowed: tuple[State, ...], state: State, note: str) -> None:
        with self._transaction():
            query = "SELECT state FROM unit WHERE id = ?"
            row = self._database.execute(query, (claim.unit,)).fetchone()
            if row is None or row[0] not in allowed:
                raise EnvironmentFault(
                    f"unit {claim.unit} of {self.path} is {row[0] if row else 'gone'}: somebody "
                    "else has changed it",
                    code="serial.overtaken",
                    file=str(self.path),
                    unit=claim.unit,
                )
            self._set(claim.unit, state, note)

    def _set(self, unit: int, state: State, note: str) -> None:
        self._database.execute(
            "UPDATE unit SET state = ?, note = ?, ended = ? WHERE id = ?",
            (state, note, None if state == "writing" else _now(), unit),
        )

    def _rows(self, where: str, words: Sequence[object]) -> list[tuple[Any, ...]]:
        return self._database.execute(_UNITS + where, words).fetchall()

    def _unit(self, row: tuple[Any, ...]) -> Unit:
        unit, job, chip, _, state, note = row
        query = (
            "SELECT role, series, value, position FROM number WHERE unit = ? "
            "ORDER BY role, position"
        )
        found = self._database.execute(query, (unit,)).fetchall()
        return Unit(unit, job, chip, state, tuple(Number(*item) for item in found), note)


def _same_roles(wish: Wish, unit: Unit) -> bool:
    return frozenset((item.role, item.series) for item in unit.numbers) == wish.roles


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
