"""The journal of a write: enough on disk to go on, or to go back, after anything.

A job is a folder in the state directory: ``job.json`` (plan, chip, backup), ``target.bin``
(what the windows of the plan should hold) and ``journal.jsonl``, to which a line is added when
a step begins and when it is over. The line that announces an erase is on the disk before the
erase is sent: a block whose erase began and never ended may read as erased and still be
unreliable, and must be erased again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.flash.plan import Plan, Step
from hwflash.layout.files import sync_folder, write_atomically
from hwflash.units import Range

JOB = "job.json"
TARGET = "target.bin"
JOURNAL = "journal.jsonl"
VERSION = 1


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A write as the state directory knows it.

    Attributes:
        folder: where it is kept.
        programmer: URL of the programmer.
        jedec_id: id of the chip in hex.
        unique_id: its unique id in hex, or None.
        plan: what was to be done.
        backup: path of the backup.
        begun: a step was begun: the chip may have changed.
        unfinished: erase ranges that began and did not end.
        steps: steps as they began, in order, each with whether it ended.
        finished: the write came to its end, verification included.
        lifted: the chip's protection was lifted, and is not known to be back.
        ordered: its steps write over one another; what a step left is not always the target.
    """

    folder: Path
    programmer: str
    jedec_id: str
    unique_id: str | None
    plan: Plan
    backup: str
    begun: bool
    unfinished: tuple[Range, ...]
    steps: tuple[tuple[str, Range, bool], ...]
    finished: bool
    ordered: bool = False
    lifted: bool = False

    @property
    def name(self) -> str:
        """The name under which it is resumed."""
        return self.folder.name

    def target(self) -> list[tuple[Range, bytes]]:
        """What each window of the plan should hold.

        Raises:
            ImageError: the stored target is missing or damaged.
        """
        path = self.folder / TARGET
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise _damaged(self.folder, exc) from exc
        if hashlib.sha256(data).hexdigest() != self.plan.sha256:
            raise _damaged(self.folder)
        found: list[tuple[Range, bytes]] = []
        offset = 0
        for window in self.plan.windows:
            found.append((window, data[offset : offset + window.length]))
            offset += window.length
        if offset != len(data):
            raise _damaged(self.folder)
        return found


class Journal:
    """An open journal; steps are told to it as they happen."""

    def __init__(self, folder: Path, stream: IO[str]) -> None:
        self.folder = folder
        self._stream = stream
        self.begun = False
        self.lifted = False

    @property
    def name(self) -> str:
        """The name under which the job is resumed."""
        return self.folder.name

    @classmethod
    def create(
        cls,
        jobs: Path,
        plan: Plan,
        target: Sequence[bytes],
        facts: Mapping[str, str | None],
        more: Mapping[str, bytes] = MappingProxyType({}),
    ) -> Journal:
        """Start a job folder.

        Args:
            jobs: folder of all jobs.
            plan: what will be done.
            target: new content of each window.
            facts: ``programmer``, ``jedec_id``, ``unique_id``, ``backup``, ``order``.
            more: further files of the job, by name.

        Raises:
            EnvironmentFault: it cannot be written (``journal.unwritable``).
        """
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        try:
            folder = fresh_folder(jobs, f"{stamp}-{plan.sha256[:6]}")
            write_atomically(folder / TARGET, b"".join(target))
            for name, content in more.items():
                write_atomically(folder / name, content)
            record = {"v": VERSION, **facts, "plan": plan.as_dict()}
            write_atomically(folder / JOB, json.dumps(record).encode())
            stream = (folder / JOURNAL).open("a", encoding="utf-8")
            sync_folder(folder)
            sync_folder(jobs)
        except OSError as exc:
            raise _unwritable(jobs, exc) from exc
        return cls(folder, stream)

    @classmethod
    def reopen(cls, folder: Path, *, begun: bool = True, lifted: bool = False) -> Journal:
        """Go on writing the journal of an unfinished job.

        Args:
            folder: where it is kept.
            begun: a step was begun before.
            lifted: the protection was lifted before, and not put back.

        Raises:
            EnvironmentFault: it cannot be written (``journal.unwritable``).
        """
        try:
            journal = cls(folder, (folder / JOURNAL).open("a", encoding="utf-8"))
        except OSError as exc:
            raise _unwritable(folder, exc) from exc
        journal.begun, journal.lifted = begun, lifted
        # A crash may have left half a line.
        journal._stream.write("\n")
        return journal

    def keep(self, name: str, content: bytes | None) -> None:
        """Put a further file into the job's folder in place of an older one; None: have none.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        try:
            if content is None:
                (self.folder / name).unlink(missing_ok=True)
            else:
                write_atomically(self.folder / name, content)
            sync_folder(self.folder)
        except OSError as exc:
            raise _unwritable(self.folder, exc) from exc

    def lift(self) -> None:
        """The chip's protection is about to be lifted.

        Raises:
            EnvironmentFault: it cannot be written, and the protection must not be lifted.
        """
        self._write({"event": "lift"}, durable=True)
        self.lifted = True

    def put_back(self) -> None:
        """The chip's protection is as it was."""
        self._write({"event": "put-back"}, durable=True)
        self.lifted = False

    def begin(self, step: Step) -> None:
        """A step is about to be sent to the chip.

        Raises:
            EnvironmentFault: it cannot be written, and must not be sent.
        """
        # The first step tells that there is something to resume, whatever it is.
        self._add("begin", step, durable=step.kind == "erase" or not self.begun)
        self.begun = True

    def done(self, step: Step) -> None:
        """A step is over."""
        self._add("done", step, durable=False)

    def finish(self) -> None:
        """The whole write is over and verified."""
        self._write({"event": "finished"}, durable=True)

    def close(self) -> None:
        """Close the file; a job whose write never began leaves nothing to resume."""
        # What a full disk did not take is tried again here; `_write` has reported it already.
        with suppress(OSError):
            self._stream.close()
        if not (self.begun or self.lifted):
            with suppress(OSError):
                for file in self.folder.iterdir():
                    file.unlink()
                self.folder.rmdir()

    def _add(self, event: str, step: Step, *, durable: bool) -> None:
        record = {
            "event": event,
            "kind": step.kind,
            "address": step.range.address,
            "length": step.range.length,
        }
        self._write(record, durable=durable)

    def _write(self, record: Mapping[str, object], *, durable: bool) -> None:
        try:
            self._stream.write(json.dumps(record) + "\n")
            self._stream.flush()
            if durable:
                os.fsync(self._stream.fileno())
        except OSError as exc:
            raise _unwritable(self.folder, exc) from exc


def load(folder: Path) -> JobRecord:
    """Read a job folder.

    Raises:
        ImageError: it is missing or damaged (``journal.damaged``).
    """
    try:
        job: Any = json.loads((folder / JOB).read_text(encoding="utf-8"))
        lines = (folder / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
        record = JobRecord(
            folder=folder,
            programmer=str(job["programmer"]),
            jedec_id=str(job["jedec_id"]),
            unique_id=None if job["unique_id"] is None else str(job["unique_id"]),
            plan=Plan.from_dict(job["plan"]),
            backup=str(job["backup"]),
            begun=False,
            unfinished=(),
            steps=(),
            finished=False,
            ordered=job.get("order", "any") != "any",
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as exc:
        raise _damaged(folder, exc) from exc
    return _replay(record, lines)


def overtaken(record: JobRecord) -> bool:
    """Whether another job was carried out since this one stopped; its journal is then stale."""

    def last(folder: Path) -> int:
        try:
            return (folder / JOURNAL).stat().st_mtime_ns
        except OSError:
            return 0

    own = last(record.folder)
    return any(
        last(other) >= own for other in record.folder.parent.iterdir() if other != record.folder
    )


def unfinished_jobs(jobs: Path) -> list[JobRecord]:
    """Jobs that began and did not finish, or left the chip's protection lifted, oldest first.

    Damaged folders are passed over.
    """
    found: list[JobRecord] = []
    for folder in sorted(jobs.iterdir()) if jobs.is_dir() else []:
        try:
            record = load(folder)
        except ImageError:
            continue
        if (record.begun and not record.finished) or record.lifted:
            found.append(record)
    return found


def _replay(record: JobRecord, lines: Sequence[str]) -> JobRecord:
    begun = finished = lifted = False
    open_erases: set[Range] = set()
    steps: dict[int, tuple[str, Range, bool]] = {}
    latest: dict[tuple[str, Range], int] = {}
    for line in lines:
        try:
            event: Any = json.loads(line)
            kind = event["event"]
            if kind == "finished":
                finished = True
                continue
            if kind in ("lift", "put-back"):
                lifted = kind == "lift"
                continue
            begun = True
            place = Range(int(event["address"]), int(event["length"]))
            what = str(event["kind"])
            if kind == "begin":
                latest[what, place] = len(steps)
            steps[latest[what, place]] = (what, place, kind == "done")
            if what == "erase":
                (open_erases.add if kind == "begin" else open_erases.discard)(place)
        except (ValueError, KeyError, TypeError, OverflowError):
            continue  # half a line, written when the power went
    return JobRecord(
        record.folder,
        record.programmer,
        record.jedec_id,
        record.unique_id,
        record.plan,
        record.backup,
        begun,
        tuple(sorted(open_erases)),
        tuple(steps.values()),
        finished,
        record.ordered,
        lifted,
    )


def fresh_folder(jobs: Path, name: str) -> Path:
    """Make a folder that did not exist; its name may get a number."""
    jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in range(1000):
        folder = jobs / (name if number == 0 else f"{name}-{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise OSError(17, "too many jobs of the same second")


def _unwritable(path: Path, exc: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"the journal cannot be written to {path}: {exc.strerror}",
        code="journal.unwritable",
        path=str(path),
    )


def _damaged(folder: Path, exc: Exception | None = None) -> ImageError:
    reason = getattr(exc, "strerror", None) or "its files are damaged"
    return ImageError(
        f"job {folder.name} cannot be resumed: {reason}",
        code="journal.damaged",
        path=str(folder),
    )
