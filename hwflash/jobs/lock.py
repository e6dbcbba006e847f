"""One process per programmer.

The kernel keeps two processes from claiming one USB interface, but not from taking turns in
the middle of a write. A lock file tells who holds a programmer, by name.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
from pathlib import Path
from typing import IO

from hwflash.errors import EnvironmentFault, ProgrammerBusy


class ProgrammerLock:
    """An exclusive lock on a programmer, held until `release` or the end of the process.

    Args:
        folder: where lock files are kept; made if missing.
        programmer: what is locked; the same text for the same device.

    Raises:
        ProgrammerBusy: another process holds it; its pid and command are in the context.
        EnvironmentFault: the lock file cannot be made.
    """

    def __init__(self, folder: Path, programmer: str) -> None:
        self._path = folder / (re.sub(r"[^A-Za-z0-9.=-]+", "_", programmer)[:200] + ".lock")
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._stream: IO[str] | None = self._path.open("a+", encoding="utf-8")
        except OSError as exc:
            raise EnvironmentFault(
                f"the lock file {self._path} cannot be made: {exc.strerror}",
                code="state.unwritable",
                path=str(self._path),
            ) from exc
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            owner = self._owner()
            self._stream.close()
            raise ProgrammerBusy(
                f"{programmer} is in use by {owner}", device=programmer, owner=owner
            ) from exc
        self._stream.truncate(0)
        command = " ".join(os.fsencode(word).decode("utf-8", "replace") for word in sys.argv)
        self._stream.write(f"process {os.getpid()} ({command[:200]})\n")
        self._stream.flush()

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
