"""One process per programmer.

The kernel keeps two processes from claiming one USB interface, but not from taking turns in
the middle of a write. A lock file tells who holds a programmer, by name.

A mark beside the lock says that a board is switched on whose chip the programmer is wired to:
while the board runs by itself, nobody may drive its bus. A mark of a supply that stays on when
hwflash ends (a relay) is believed until it is taken away; one of a supply that ends with its
process is believed while that process holds the lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from hwflash.errors import EnvironmentFault, ProgrammerBusy

#: Characters of a name that the name of its lock file keeps, and hex digits that tell it apart.
_READABLE: Final = 200
_TOLD_APART: Final = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """A board that is switched on.

    Attributes:
        board: its name.
        since: when, UTC.
        lasting: it stays on when the process that switched it on ends.
    """

    board: str
    since: str
    lasting: bool


class ProgrammerLock:
    """An exclusive lock on a programmer, held until `release` or the end of the process.

    Args:
        folder: where lock files are kept; made if missing.
        programmer: what is locked; the same text for the same device.
        switching: the lock is for switching the board that hangs on the programmer.

    Raises:
        ProgrammerBusy: another process holds it; its pid and command are in the context. Or the
            board is switched on (``power.board-on``).
        EnvironmentFault: the lock file cannot be made.
    """

    def __init__(self, folder: Path, programmer: str, *, switching: bool = False) -> None:
        self._path = _path(folder, programmer)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._stream: IO[str] | None = self._path.open("a+", encoding="utf-8")
        except OSError as exc:
            raise _unwritable(self._path, exc) from exc
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            owner = self._owner()
            self._stream.close()
            if (mark := self.mark) is not None:
                raise _is_on(programmer, mark, owner) from exc
            raise ProgrammerBusy(
                f"{programmer} is in use by {owner}", device=programmer, owner=owner
            ) from exc
        mark = self.mark
        if mark is not None and not mark.lasting:
            self.set_mark(None)  # its process is gone, and the supply with it
        elif mark is not None and not switching:
            self.release()
            raise _is_on(programmer, mark, None)
        self._stream.truncate(0)
        command = " ".join(os.fsencode(word).decode("utf-8", "replace") for word in sys.argv)
        self._stream.write(f"process {os.getpid()} ({command[:200]})\n")
        self._stream.flush()

    @property
    def mark(self) -> Mark | None:
        """The board that is marked as switched on."""
        return _read_mark(self._path)

    def set_mark(self, mark: Mark | None) -> None:
        """Mark the board as switched on, or as off.

        Raises:
            EnvironmentFault: it cannot be written (``state.unwritable``).
        """
        path = self._path.with_suffix(".on")
        try:
            if mark is None:
                path.unlink(missing_ok=True)
            else:
                part = path.with_suffix(f".{os.getpid()}.part")
                part.write_text(json.dumps(asdict(mark)), encoding="utf-8")
                part.replace(path)
        except OSError as exc:
            raise _unwritable(path, exc) from exc

    def release(self) -> None:
        """Give the programmer free. May be called twice."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _owner(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"


def require_off(folder: Path, name: str) -> None:
    """Refuse to go on while something is marked as switched on for good.

    Raises:
        ProgrammerBusy: it is (``power.board-on``).
    """
    mark = read_mark(folder, name)
    if mark is not None and mark.lasting:
        raise _is_on("the programmer", mark, None)


def read_mark(folder: Path, name: str) -> Mark | None:
    """The mark beside the lock of a programmer or board; None when there is none."""
    return _read_mark(_path(folder, name))


def _path(folder: Path, name: str) -> Path:
    plain = re.sub(r"[^A-Za-z0-9.=-]+", "_", name)[:_READABLE]
    if plain != name:
        # Two names that look alike then (other letters, a long path) are two devices all the same.
        plain += "-" + hashlib.sha256(os.fsencode(name)).hexdigest()[:_TOLD_APART]
    return folder / (plain + ".lock")


def _read_mark(lock: Path) -> Mark | None:
    try:
        found: Any = json.loads(lock.with_suffix(".on").read_text(encoding="utf-8"))
        return Mark(str(found["board"]), str(found["since"]), bool(found["lasting"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):  # a damaged mark is a mark
        return Mark("of an unknown name", "an unknown time", lasting=True)


def _is_on(programmer: str, mark: Mark, owner: str | None) -> ProgrammerBusy:
    by = f" by {owner}" if owner else ""
    return ProgrammerBusy(
        f"board {mark.board} is switched on{by}, since {mark.since}: the programmer must not drive "
        "the bus of a board that runs",
        code="power.board-on",
        device=programmer,
        board=mark.board,
        since=mark.since,
    )


def _unwritable(path: Path, exc: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} cannot be written: {exc.strerror}", code="state.unwritable", path=str(path)
    )
