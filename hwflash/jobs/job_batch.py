"""A job that is ready to run: its form, its board, its files in memory, and their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwflash.boards import Board
from hwflash.errors import ImageError
from hwflash.jobs.job_numbers import Supply
from hwflash.jobs.job_values import placed_bytes
from hwflash.jobs.jobfile_form import JobForm
from hwflash.jobs.placeholders import UnitValues
from hwflash.jobs.regions import Lookup, board_lookup, told_by
from hwflash.jobs.selection import RegionChoice, Selection, segments
from hwflash.layout.files import Image, Segment


@dataclass(frozen=True, slots=True)
class Batch:
    """What every unit of a run gets.

    Attributes:
        file: the job file.
        form: what it says.
        board: its board, or None.
        images: image files by the names in the job file.
        blobs: files with values, likewise.
        digests: SHA-256 of every file, in hex, by path.
    """

    file: Path
    form: JobForm
    board: Board | None
    images: Mapping[str, Image]
    blobs: Mapping[str, bytes]
    digests: Mapping[Path, str]

    @property
    def folder(self) -> Path:
        """Where names in the job file are meant from."""
        return self.file.absolute().parent

    @property
    def supply(self) -> Supply:
        """Where its numbers come from."""
        return Supply(self.form, self.folder)

    @property
    def named(self) -> frozenset[str]:
        """Regions that the job names; protected ones among them may be written."""
        image = self.form.image.regions if self.form.image is not None else []
        regions = [item.name for item in self.form.region]
        return frozenset([*image, *regions, *self.form.job.protected])

    @property
    def needs_chip(self) -> bool:
        """Where its regions are only the chip tells."""
        regions = [*self.form.region, *(self.form.image.regions if self.form.image else [])]
        return bool(regions) and told_by(self.board) is not None

    def require_unchanged(self) -> None:
        """Refuse to go on with files that are not those the batch began with.

        Raises:
            ImageError: one was changed, or cannot be read any more (``job.image-changed``).
        """
        for path, known in self.digests.items():
            try:
                with path.open("rb") as stream:
                    found = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise ImageError(
                    f"{path} cannot be read any more: {error.strerror or error}",
                    code="job.image-changed",
                    file=str(path),
                    errno=error.errno,
                ) from error
            if found != known:
                raise ImageError(
                    f"{path} is not what the batch began with: sha256 {found}, not {known}",
                    code="job.image-changed",
                    file=str(path),
                    sha256=found,
                    expected=known,
                )

    def content(self, size: int, unit: UnitValues, lookup: Lookup | None = None) -> list[Segment]:
        """What one unit's flash shall hold, in address order: image, regions over it, bytes over
        both. Variables come later, into the store that is then there.

        Args:
            size: of the chip, in bytes.
            unit: what placeholders stand for.
            lookup: where regions are, on the chip that is there; None: where the board says.

        Raises:
            ImageError: a file does not fit.
            UsageError: a place outside the chip, an unknown region, a value that is none.
        """
        found = self.image_content(size, lookup)
        where = lookup or board_lookup(self.board)
        for choice, image in self.region_choices():
            for segment in segments(Selection(regions=(choice,)), image, _none, size, where):
                found = lay_over(found, segment)
        for item in self.form.bytes:
            found = lay_over(found, placed_bytes(item, unit, self.blobs.__getitem__))
        return found

    def image_content(self, size: int, lookup: Lookup | None = None) -> list[Segment]:
        """The part of the content that comes from the image.

        Raises:
            ImageError, UsageError: see `content`.
        """
        image = self.form.image
        if image is None:
            return []
        choices = tuple(RegionChoice(name) for name in image.regions)
        chosen = Selection(at=image.at, regions=choices)
        where = lookup or board_lookup(self.board)
        return segments(chosen, self.images[image.file], _none, size, where)

    def region_choices(self) -> Iterable[tuple[RegionChoice, Image]]:
        """Regions with files of their own."""
        return [(RegionChoice(item.name), self.images[item.file]) for item in self.form.region]


def lay_over(base: Sequence[Segment], top: Segment) -> list[Segment]:
    """Segments with another one put over them, in address order, none overlapping.

    What lies under it is replaced; the parts of one segment stay one where they can.
    """
    found: list[Segment] = []
    for item in base:
        if item.range.contains(top.range):
            start = top.address - item.address
            data = item.data[:start] + top.data + item.data[start + len(top.data) :]
            return sorted(
                [*(other for other in base if other is not item), Segment(item.address, data)],
                key=lambda segment: segment.address,
            )
        if not item.range.overlaps(top.range):
            found.append(item)
            continue
        if item.address < top.address:
            found.append(Segment(item.address, item.data[: top.address - item.address]))
        if item.range.end > top.range.end:
            found.append(Segment(top.range.end, item.data[top.range.end - item.address :]))
    return sorted([*found, top], key=lambda segment: segment.address)


def _none(path: Path) -> Image:
    raise AssertionError(f"{path} was not loaded")
