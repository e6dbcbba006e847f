"""What a worker of a gang is to do, in a form that travels to it; and the doing itself.

A task has no bytes of images: they are in the pool (`hwflash.jobs.gang_pool`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from hwflash.boards import Board
from hwflash.errors import EnvironmentFault, UsageError
from hwflash.flash.plan import Plan
from hwflash.jobs.gang_pool import Blob, Pool, PoolView, SharedImage
from hwflash.jobs.job_batch import Batch
from hwflash.jobs.jobfile_form import JobForm
from hwflash.jobs.read import read, verify
from hwflash.jobs.selection import Selection, ranges, segments
from hwflash.jobs.session import Session
from hwflash.jobs.write import WriteOptions, write
from hwflash.layout.files import Segment, format_for, save_image
from hwflash.progress import CancelToken, Reporter
from hwflash.units import Range

#: What the name of a file of ``read`` may have, so that each chip has its own.
NUMBER: Final = "{n}"
UNIQUE_ID: Final = "{uid}"


@dataclass(frozen=True, slots=True)
class Bench:
    """What a task is carried out with.

    Attributes:
        number: of the programmer in the gang, from 1.
        pool: the shared files.
        reporter: is told how it goes.
        cancel: a request to stop.
        confirm: asked with the plan before anything is changed.
        claim: told the files that are to be made, before they are; refuses those of another.
    """

    number: int
    pool: PoolView
    reporter: Reporter
    cancel: CancelToken
    confirm: Callable[[Plan], bool]
    claim: Callable[[Sequence[Path]], None]


@dataclass(frozen=True, slots=True)
class Sources:
    """Files that go to a chip: the command's own, and those of regions by their paths."""

    image: SharedImage | None = None
    files: Mapping[Path, SharedImage] = field(default_factory=dict[Path, SharedImage])

    def segments(self, chosen: Selection, pool: PoolView, session: Session) -> list[Segment]:
        """What should stand where.

        Raises:
            ImageError, UsageError: see `hwflash.jobs.selection.segments`.
        """
        image = pool.image(self.image) if self.image is not None else None
        files = pool.images(self.files)
        session.use_layout(chosen.layout)
        return segments(chosen, image, files.__getitem__, session.chip.size, session.region)


@dataclass(frozen=True, slots=True)
class WriteTask:
    """Write, or erase: a write of FF."""

    kind: Literal["write", "erase"]
    selection: Selection
    options: WriteOptions
    sources: Sources = field(default_factory=Sources)
    assume: SharedImage | None = None

    def carry_out(self, session: Session, bench: Bench) -> tuple[dict[str, Any], str]:
        """Do it; the result's keys, and the outcome."""
        if self.kind == "erase":
            session.use_layout(self.selection.layout)
            places = [
                part.range for part in ranges(self.selection, session.chip.size, session.region)
            ]
            targets = [Segment(place.address, b"\xff" * place.length) for place in places]
        else:
            targets = self.sources.segments(self.selection, bench.pool, session)
        assume = bench.pool.image(self.assume).segments if self.assume is not None else ()
        options = replace(self.options, confirm=bench.confirm, assume=assume)
        done = write(session, targets, options, bench.reporter, bench.cancel)
        keys = {
            "bytes": done.bytes,
            "sha256": done.sha256,
            "changed": _ranges(done.changed),
            "mismatches": _ranges(done.mismatches),
            "backup": str(done.backup) if done.backup else None,
            "dry_run": options.dry_run,
            "plan": done.plan.as_dict(),
            "history": done.entry,
        }
        return keys, "ok" if done.executed else "unchanged"


@dataclass(frozen=True, slots=True)
class VerifyTask:
    """Compare chips with files; ``state`` is for the history."""

    selection: Selection
    sources: Sources
    state: Path | None

    def carry_out(self, session: Session, bench: Bench) -> tuple[dict[str, Any], str]:
        """Do it; the result's keys, and the outcome."""
        targets = self.sources.segments(self.selection, bench.pool, session)
        found = verify(session, targets, bench.reporter, bench.cancel, self.state)
        keys = {
            "bytes": found.bytes,
            "sha256": found.sha256,
            "changed": [],
            "mismatches": _ranges(found.mismatches),
            "backup": None,
            "history": found.entry,
        }
        return keys, "differs" if found.mismatches else "ok"


@dataclass(frozen=True, slots=True)
class ReadTask:
    """Read chips into files of their own; their names have `NUMBER` or `UNIQUE_ID`."""

    selection: Selection
    file: Path | None
    repeat: int
    format: str
    state: Path | None

    def carry_out(self, session: Session, bench: Bench) -> tuple[dict[str, Any], str]:
        """Do it; the result's keys, and the outcome."""
        session.use_layout(self.selection.layout)
        parts = ranges(self.selection, session.chip.size, session.region)
        names = [self._name(part.file or self.file, session, bench.number) for part in parts]
        for name in names:
            one_run = names.count(name) == 1
            if not one_run and format_for(name, self.format) == "raw":  # type: ignore[arg-type]
                raise UsageError(f"several regions do not fit into the raw file {name}",
                                 code="usage.selection")  # fmt: skip
        bench.claim(names)
        places = [part.range for part in parts]
        found = read(session, places, bench.reporter, bench.cancel, self.repeat, self.state)
        for name in dict.fromkeys(names):
            pieces = [
                Segment(place.address, data)
                for other, (place, data) in zip(names, found.pieces, strict=True)
                if other == name
            ]
            save_image(name, pieces, self.format)  # type: ignore[arg-type]
        keys = {
            "bytes": sum(place.length for place in places),
            "sha256": found.sha256,
            "changed": [],
            "mismatches": _ranges(found.disagreements),
            "backup": None,
            "files": [str(name) for name in dict.fromkeys(names)],
            "history": found.entry,
        }
        return keys, "differs" if found.disagreements else "ok"

    def _name(self, pattern: Path | None, session: Session, number: int) -> Path:
        text = str(pattern).replace(NUMBER, str(number))
        if UNIQUE_ID in text:
            unique_id = session.unique_id()
            if unique_id is None:
                raise EnvironmentFault(
                    f"{session.chip.part} has no unique id to name a file after",
                    code="gang.no-unique-id",
                    part=session.chip.part,
                )
            text = text.replace(UNIQUE_ID, unique_id)
        return Path(text)


@dataclass(frozen=True, slots=True)
class JobTask:
    """Run units of a job file; see `hwflash.jobs.job_batch.Batch` and `hwflash.jobs.jobrun.Run`."""

    file: Path
    form: JobForm
    board: Board | None
    images: Mapping[str, SharedImage]
    blobs: Mapping[str, Blob]
    digests: Mapping[Path, str]
    state: Path
    backup_folder: Path | None
    name: str

    @classmethod
    def of(cls, batch: Batch, pool: Pool, state: Path, backups: Path | None, name: str) -> JobTask:
        """Put the files of a job into the pool."""
        return cls(
            batch.file.absolute(),
            batch.form,
            batch.board,
            {key: pool.add_image(image) for key, image in batch.images.items()},
            {key: pool.add(data) for key, data in batch.blobs.items()},
            batch.digests,
            state,
            backups,
            name,
        )

    def batch(self, pool: PoolView) -> Batch:
        """The job again, with its files."""
        images, blobs = pool.images(self.images), pool.blobs(self.blobs)
        return Batch(self.file, self.form, self.board, images, blobs, self.digests)


Task = WriteTask | VerifyTask | ReadTask | JobTask


def _ranges(places: tuple[Range, ...]) -> list[dict[str, int]]:
    return [{"address": place.address, "length": place.length} for place in places]
