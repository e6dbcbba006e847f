"""The whole result of a comparison, as data.

Two sides are *identical* when every byte is the same, and *equal* when nothing differs that
matters: bytes outside of what the variables explain, variables that are not volatile, modules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hwflash.compare.bytes import Runs, find_runs
from hwflash.compare.modules import ModuleDifference, compare_modules
from hwflash.compare.regions import (
    RegionResult,
    compare_regions,
    inside,
    narrowed,
    parts_of,
)
from hwflash.compare.sides import Alignment, LeftOut, Segment, Side, align
from hwflash.compare.unpack import SECONDS
from hwflash.compare.variables import VariableDifference, compare_variables
from hwflash.progress import CancelToken
from hwflash.units import Range

#: Runs of differing bytes told to scripts; all are counted.
RUNS_TOLD: Final = 256
ROW: Final = 16


@dataclass(frozen=True, slots=True)
class Options:
    """What is compared, and what counts.

    Attributes:
        ignore: variables that are not compared, see `hwflash.uefi.difference.matcher`.
        regions: only these; empty: everything.
        everything: volatile variables count too.
        seconds: the most that unpacking modules may take.
    """

    ignore: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    everything: bool = False
    seconds: float = SECONDS


@dataclass(frozen=True, slots=True)
class Row:
    """Sixteen bytes of either side, at least one of which differs.

    Attributes:
        left_offset, right_offset: image offsets of the first byte.
        left, right: the bytes; fewer where what is compared ends.
        skipped: rows were left out before this one.
    """

    left_offset: int
    right_offset: int
    left: bytes
    right: bytes
    skipped: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What a comparison found.

    Attributes:
        left: one side.
        right: the other.
        options: what was asked for.
        alignment: what was compared with what.
        runs: where bytes differ.
        significant: bytes that differ and are not explained by the variables.
        regions: each region in common.
        modules: which modules differ.
        variables: which variables differ.
        notes: what else is to be known, for people.
    """

    left: Side
    right: Side
    options: Options
    alignment: Alignment
    runs: Runs
    significant: int
    regions: tuple[RegionResult, ...]
    modules: ModuleDifference
    variables: VariableDifference
    notes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether everything is in both, byte for byte."""
        return not (self.runs.differing or self.alignment.left_out)

    @property
    def equal(self) -> bool:
        """Whether nothing differs that matters."""
        if self.significant or not self.variables.difference.equal:
            return False
        if self.options.everything and self.variables.volatile:
            return False
        return not self.unmatched

    @property
    def unmatched(self) -> tuple[LeftOut, ...]:
        """What was left out and counts as a difference.

        Parts of one firmware (a VARS file and a whole image) are compared as far as both go. Of
        two images that have nothing to be aligned by, the longer one has more.
        """
        if self.alignment.how != "address":
            return ()
        return tuple(item for item in self.alignment.left_out if not item.blank)

    def keys(self) -> dict[str, Any]:
        """The keys of ``hwflash compare --json``."""
        return {
            "equal": self.equal,
            "identical": self.identical,
            "left": _side_keys(self.left),
            "right": _side_keys(self.right),
            "aligned_by": self.alignment.how,
            "bytes_compared": self.alignment.compared,
            "bytes_differing": self.runs.differing,
            "bytes_significant": self.significant,
            "segments": [
                {"left": item.left, "right": item.right, "length": item.length}
                for item in self.alignment.segments
            ],
            "left_out": [
                {
                    "side": item.side, "offset": item.range.address,
                    "length": item.range.length, "blank": item.blank,
                }
                for item in self.alignment.left_out
            ],
            "ranges": [
                {
                    "left": item.left, "right": item.right,
                    "length": item.length, "bytes_differing": item.differing,
                }
                for item in self.runs.runs[:RUNS_TOLD]
            ],
            "ranges_total": self.runs.total,
            "regions": [item.keys() for item in self.regions],
            "modules": self.modules.keys(),
            "variables": self.variables.keys(),
            "notes": list(self.notes),
        }  # fmt: skip

    def rows(self, most: int, places: Sequence[Range] | None = None) -> Iterator[Row]:
        """Rows that differ, of the runs that were kept.

        Args:
            most: rows at most.
            places: only those in these left offsets; default: all.
        """
        given, last = 0, -1
        for segment in self.alignment.segments:
            parts = [segment] if places is None else inside([segment], places)
            for part in parts:
                for row in self._rows_of(part):
                    if given >= most:
                        return
                    skipped = last >= 0 and row.left_offset != last + ROW
                    last = row.left_offset
                    given += 1
                    yield Row(row.left_offset, row.right_offset, row.left, row.right, skipped)

    def _rows_of(self, segment: Segment) -> Iterator[Row]:
        end, done = segment.left + segment.length, segment.left
        for run in self.runs.runs:
            if run.left + run.length <= segment.left or run.left >= end:
                continue
            first = max(run.left - run.left % ROW, segment.left, done)
            for at in range(first, min(run.left + run.length, end), ROW):
                length = min(ROW - at % ROW, end - at)
                there = at - segment.left + segment.right
                one = bytes(self.left.view(at, length))
                other = bytes(self.right.view(there, length))
                if one != other:
                    yield Row(at, there, one, other, False)
                done = at + length


def compare(
    left: Side, right: Side, options: Options | None = None, cancel: CancelToken | None = None
) -> Report:
    """Compare two sides.

    Args:
        left: one side.
        right: the other.
        options: what is compared; default: everything.
        cancel: a request to stop.

    Raises:
        UsageError: no such region (``usage.region``), or a pattern with a bad GUID
            (``usage.guid``).
        Interrupted: a stop was asked for.
    """
    options = options or Options()
    alignment = narrowed(left, right, align(left, right), options.regions)
    variables = compare_variables(left, right, alignment, options.ignore)
    runs = find_runs(left, right, alignment.segments)
    explained = 0
    if runs.differing and variables.explained:
        known = inside(alignment.segments, variables.explained)
        explained = find_runs(left, right, known).differing
    regions = compare_regions(left, right, alignment, variables.explained)
    modules = compare_modules(left, right, alignment, seconds=options.seconds, cancel=cancel)
    return Report(
        left, right, options, alignment, runs, runs.differing - explained, regions, modules,
        variables, tuple(_notes(left, right, alignment, modules, variables)),
    )  # fmt: skip


def _notes(
    left: Side,
    right: Side,
    alignment: Alignment,
    modules: ModuleDifference,
    variables: VariableDifference,
) -> Iterator[str]:
    """What a person has to know besides what differs."""
    for name, side in (("left", left), ("right", right)):
        yield from (f"{side.name}: {note}" for note in side.notes)
        for item in side.stores:
            if not item.healthy:
                yield f"{side.name}: the variable store at 0x{item.base:06X} ({name}) is not sound"
            if item.ftw.pending is not None:
                yield f"{side.name}: a fault-tolerant write is pending, which the next boot ends"
    if not alignment.segments and left.range.length and right.range.length:
        yield "the two have nothing in common"
    yield from variables.notes
    yield from modules.notes
    for item in alignment.left_out:
        side = left if item.side == "left" else right
        what = ", ".join(part.name for part in parts_of(side) if part.range.overlaps(item.range))
        blank = ", blank" if item.blank else ""
        yield f"{side.name}: {item.range} is not in the other and left out ({what}{blank})"


def _side_keys(side: Side) -> dict[str, Any]:
    return {
        "source": side.name,
        "kind": side.kind or None,
        "offset": side.range.address,
        "size": side.range.length,
        "sha256": hashlib.sha256(side.image.data).hexdigest(),
        "notes": list(side.notes),
    }
