"""The map of a chip on the screen: rows of cells with their addresses, and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual.widget import Widget

from hwflash.jobs.order import Plan
from hwflash.units import Range
from hwflash_tui.chipmap import ChipMap, Done, legend

#: ``0x000000 ``, in front of each row.
LABEL: Final = 11
COLUMNS: Final = (128, 64, 32, 16)
#: One row of the legend, one for what a sign stands for.
BELOW: Final = 2


class ChipView(Widget):
    """Shows a `ChipMap` that fits its own size."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "mark--kept",
        "mark--protected",
        "mark--erase",
        "mark--program",
        "mark--rewrite",
        "mark--erased",
        "mark--programmed",
        "mark--verified",
        "mark--wrong",
    }
    DEFAULT_CSS = """
    ChipView { height: 1fr; min-height: 4; }
    ChipView .mark--kept { color: $text-muted; }
    ChipView .mark--protected { color: $text-secondary; }
    ChipView .mark--erase, ChipView .mark--erased { color: $text-warning; }
    ChipView .mark--program, ChipView .mark--rewrite { color: $text-warning; }
    ChipView .mark--programmed { color: $text-accent; }
    ChipView .mark--verified { color: $text-success; }
    ChipView .mark--wrong { color: $text-error; text-style: bold reverse; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._what: tuple[int, Plan | None, tuple[Range, ...]] | None = None
        self._done: Done | None = None
        self._map: ChipMap | None = None
        self._grid = (0, 0)

    def show(
        self, size: int, plan: Plan | None, protected: Sequence[Range], done: Done | None
    ) -> None:
        """What to draw.

        Args:
            size: of the chip in bytes.
            plan: what is to be done, or None.
            protected: ranges that are not written.
            done: how far that is; None before it begins.
        """
        what = (size, plan, tuple(protected))
        if what != self._what:
            self._what, self._map = what, None
        elif done == self._done:
            return
        self._done = done
        self.refresh()

    def render(self) -> Text:
        """Rows, then the legend."""
        if self._what is None:
            return Text("")
        columns = next((n for n in COLUMNS if n + LABEL <= self.size.width), COLUMNS[-1])
        rows = max(self.size.height - BELOW, 1)
        rows = 1 << (rows.bit_length() - 1)
        if self._map is None or self._grid != (columns, rows):
            self._map = ChipMap(self._what[0], columns * rows, self._what[1], self._what[2])
            self._grid = (columns, rows)
        marks = self._map.at(self._done) if self._done is not None else self._map.planned()
        text = Text(no_wrap=True)
        styles = {
            mark: self.get_component_rich_style(f"mark--{mark.css}", partial=True)
            for mark in legend(marks)
        }
        for start in range(0, len(marks), columns):
            text.append(f"0x{start * self._map.cell_size:07X}  ", "dim")
            for mark in marks[start : start + columns]:
                text.append(mark.sign, styles[mark])
            text.append("\n")
        for mark in legend(marks):
            text.append(mark.sign, styles[mark])
            text.append(f" {mark.meaning}   ")
        text.append(f"\n{self._map.cell_text}", "dim")
        return text
