"""Unpack firmware volumes into modules, with the ``uefi-firmware`` package if it is there.

The package is run in a process of its own: images may be hostile, its decompressors are C code
and it promises neither an end nor silence. That process has limits of memory and CPU time, and is
ended after `SECONDS`; what it had finished by then counts.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from hwflash.compare import unpacker
from hwflash.progress import CancelToken

PACKAGE: Final = "uefi_firmware"
#: Wall seconds for all volumes of both sides. Debian's OVMF takes 0.5 s.
SECONDS: Final = 30.0
_LOOK_EVERY: Final = 0.01


@dataclass(frozen=True, slots=True)
class Section:
    """A leaf section of a module: its kind in words, its bytes, its SHA-256."""

    kind: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Module:
    """A file of a firmware volume, or a volume as a whole where it was not unpacked.

    Attributes:
        guid: its name, as the firmware knows it.
        name: its user interface name, or a well-known one, or None.
        kind: ``dxe driver`` and the like, or ``volume``.
        size: bytes, with its header.
        sha256: of its sections without those that only align others; of a volume's bytes.
        volume: names of the volumes it lies in, from the outermost.
        sections: its leaves.
    """

    guid: str
    name: str | None
    kind: str
    size: int
    sha256: str
    volume: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()

    @property
    def label(self) -> str:
        """What people call it."""
        return self.name or self.guid


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A volume after unpacking.

    Attributes:
        modules: what was found; None: it could not be unpacked.
        fault: why not, or why not all of it; "" when all is well.
    """

    modules: tuple[Module, ...] | None
    fault: str = ""


def available() -> bool:
    """Whether the package is installed."""
    try:
        return find_spec(PACKAGE) is not None
    except (ImportError, ValueError):
        return False


def unpack(
    batches: Sequence[Sequence[bytes | memoryview]],
    seconds: float = SECONDS,
    cancel: CancelToken | None = None,
) -> list[list[Unpacked]]:
    """Unpack volumes, each batch in a process of its own, all at once.

    Args:
        batches: lists of volumes, from the first byte of their headers.
        seconds: after which what is not done stays undone.
        cancel: a request to stop.

    Raises:
        Interrupted: a stop was asked for.
    """
    if not available():
        return [[_undone("the package uefi-firmware is not installed") for _ in batch]
                for batch in batches]  # fmt: skip
    workers: list[_Worker] = []
    try:
        workers = [_Worker(batch) for batch in batches]
        limit = time.monotonic() + seconds
        while any(worker.running for worker in workers) and time.monotonic() < limit:
            if cancel is not None:
                cancel.check()
            time.sleep(_LOOK_EVERY)
        late = f"not unpacked after {seconds:g} s"
        return [worker.result(late if worker.running else "") for worker in workers]
    except OSError as error:
        reason = f"it cannot be unpacked: {error.strerror or error}"
        return [[_undone(reason) for _ in batch] for batch in batches]
    finally:
        for worker in workers:
            worker.close()


class _Worker:
    """A process that unpacks a batch."""

    def __init__(self, batch: Sequence[bytes | memoryview]) -> None:
        self._count = len(batch)
        self._process: subprocess.Popen[bytes] | None = None
        self._answer: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        if not batch:
            return
        # -P: nothing in this folder, nor in the user's, may take the place of a library.
        words = [sys.executable, "-P", "-W", "ignore", str(Path(unpacker.__file__))]
        with tempfile.TemporaryFile() as task:
            task.write(f"[{','.join(str(len(item)) for item in batch)}]\n".encode())
            for item in batch:
                task.write(item)
            task.seek(0)
            self._process = subprocess.Popen(
                words, stdin=task, stdout=self._answer, stderr=subprocess.DEVNULL
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def result(self, late: str) -> list[Unpacked]:
        """What was answered; volumes without an answer get ``late`` or how the process ended."""
        self._end()
        self._answer.seek(0)
        text = self._answer.read().decode("utf-8", "replace")
        found = [_read(line) for line in unpacker.lines(text.splitlines())][: self._count]
        status = self._process.returncode if self._process is not None else 0
        reason = late or f"the unpacking process ended with status {status}"
        if len(found) == 1 and found[0].modules is None:  # the package itself is broken
            reason = found.pop().fault
        return found + [_undone(reason)] * (self._count - len(found))

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        self._end()
        self._answer.close()


def _undone(reason: str) -> Unpacked:
    return Unpacked(None, reason)


def _read(line: dict[str, Any]) -> Unpacked:
    if "missing" in line:
        return _undone(f"the package uefi-firmware does not load: {line['missing']}")
    modules = tuple(
        Module(
            item["guid"], item["name"], item["kind"], item["size"], item["sha256"],
            tuple(item["volume"]), tuple(Section(*section) for section in item["sections"]),
        )
        for item in line["modules"]
    )  # fmt: skip
    fault = line["fault"] or ""
    return Unpacked(modules if modules or not fault else None, fault)
