"""The map of a chip, cell by cell: what a plan will do to it, and how far that is.

A cell stands for a run of bytes. It shows the strongest thing that happens in it: a byte that
is erased says more than thousands that stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from hwflash.jobs.order import Plan
from hwflash.units import KIB, Range, format_size

#: Plans count predicted time in whole milliseconds.
ROUNDING: Final = 0.001
#: A cell stands for whole smallest erase blocks of most chips.
CELL_UNIT: Final = 4 * KIB


class Mark(Enum):
    """What a cell shows: a sign that is told apart without colour, and its meaning."""

    KEPT = ("·", "kept")
    PROTECTED = ("#", "protected, kept")
    ERASE = ("░", "to be erased")
    PROGRAM = ("▒", "to be programmed")
    REWRITE = ("▓", "to be rewritten")
    ERASED = ("_", "erased")
    PROGRAMMED = ("▄", "programmed")
    VERIFIED = ("█", "done and verified")
    WRONG = ("!", "differs")

    def __init__(self, sign: str, meaning: str) -> None:
        self.sign = sign
        self.meaning = meaning

    @property
    def css(self) -> str:
        """The last part of its component class."""
        return self.name.lower()


_PLANNED: Final = {
    (True, False): Mark.ERASE,
    (False, True): Mark.PROGRAM,
    (True, True): Mark.REWRITE,
}


@dataclass(frozen=True, slots=True)
class Done:
    """How far a plan is.

    Attributes:
        seconds: predicted time of the steps that are done.
        verified: address up to which it was read back, 0 before that began.
        wrong: where the chip was found to differ.
    """

    seconds: float = 0.0
    verified: int = 0
    wrong: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class _Cell:
    """When what happens to a cell is over: seconds of the plan, or None."""

    range: Range
    erased: float | None = None
    programmed: float | None = None
    touched_to: int = 0
    protected: bool = False

    @property
    def touched(self) -> bool:
        return self.erased is not None or self.programmed is not None


class ChipMap:
    """The map of one chip.

    Args:
        size: of the chip in bytes.
        cells: how many cells at most.
        plan: what will be done, or None.
        protected: ranges that are protected and not written.
    """

    def __init__(
        self, size: int, cells: int, plan: Plan | None = None, protected: Sequence[Range] = ()
    ) -> None:
        self.size = size
        self.cell_size = max(_round_up(-(-size // max(cells, 1))), 1)
        places = [
            Range(start, min(self.cell_size, size - start))
            for start in range(0, size, self.cell_size)
        ]
        erased, programmed, reach = self._ends(plan, len(places))
        self._cells = [
            _Cell(
                place, erased.get(number), programmed.get(number), reach.get(number, 0),
                any(place.overlaps(item) for item in protected),
            )
            for number, place in enumerate(places)
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def cell_text(self) -> str:
        """What a cell stands for."""
        return f"one sign is {format_size(self.cell_size)}"

    def planned(self) -> list[Mark]:
        """What will happen, before anything has."""
        return [self._planned(cell) for cell in self._cells]

    def at(self, done: Done) -> list[Mark]:
        """What has happened so far."""
        return [self._at(cell, done) for cell in self._cells]

    def _planned(self, cell: _Cell) -> Mark:
        if not cell.touched:
            return Mark.PROTECTED if cell.protected else Mark.KEPT
        return _PLANNED[cell.erased is not None, cell.programmed is not None]

    def _at(self, cell: _Cell, done: Done) -> Mark:
        if any(cell.range.overlaps(item) for item in done.wrong):
            return Mark.WRONG
        if not cell.touched:
            return self._planned(cell)
        reached = done.seconds + ROUNDING
        erased = cell.erased is not None and reached >= cell.erased
        over = reached >= max(cell.erased or 0.0, cell.programmed or 0.0)
        if over and done.verified >= cell.touched_to:
            return Mark.VERIFIED
        if over:
            return Mark.PROGRAMMED if cell.programmed is not None else Mark.ERASED
        return Mark.ERASED if erased else self._planned(cell)

    def _ends(
        self, plan: Plan | None, count: int
    ) -> tuple[dict[int, float], dict[int, float], dict[int, int]]:
        """For each cell, when its last erase and its last program are over, and up to where."""
        reach: dict[int, int] = {}
        ends: dict[str, dict[int, float]] = {"erase": {}, "program": {}}
        before = 0.0
        for step in plan.steps if plan is not None else ():
            place = step.range
            last = min((place.end - 1) // self.cell_size, count - 1)
            for number in range(place.address // self.cell_size, last + 1):
                end = min(place.end, (number + 1) * self.cell_size)
                reach[number] = max(reach.get(number, 0), end)
                # An erase is over at once, a run of programs byte by byte.
                share = 1.0 if step.kind == "erase" else (end - place.address) / place.length
                known = ends[step.kind].get(number, 0.0)
                ends[step.kind][number] = max(known, before + share * step.seconds)
            before += step.seconds
        return ends["erase"], ends["program"], reach


def _round_up(size: int) -> int:
    return -(-size // CELL_UNIT) * CELL_UNIT if size > CELL_UNIT // 2 else size


def legend(marks: Sequence[Mark]) -> list[Mark]:
    """The marks that occur, in the order of their definition."""
    found = set(marks)
    return [mark for mark in Mark if mark in found]
