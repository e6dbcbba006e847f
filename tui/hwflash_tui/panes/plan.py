"""Plan and confirm: what changes, drawn as a map of the chip."""

from __future__ import annotations

from typing import Final

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input

from hwflash.jobs.order import Order, Plan
from hwflash.units import format_seconds, format_size
from hwflash_tui.actor import Question
from hwflash_tui.jobform import dangers, word_to_type
from hwflash_tui.names import about_size
from hwflash_tui.station import Station
from hwflash_tui.widgets.bars import Words
from hwflash_tui.widgets.chipview import ChipView

#: A key that was pressed before anybody can have read the plan is no answer, in seconds.
HASTE: Final = 0.6


class PlanPane(Vertical):
    """The plan, and the question."""

    _asked: Question | None = None

    def compose(self) -> ComposeResult:
        """Words, map, dangers, buttons."""
        yield Words(id="plan-text")
        yield ChipView(id="plan-map")
        yield Words(id="dangers")
        yield Input(id="typed", compact=True)
        with Horizontal(classes="buttons"):
            yield Button("No, change nothing (N)", id="decline", variant="primary")
            yield Button("Yes, write now (Y)", id="agree", variant="warning")

    def show(self, station: Station) -> None:
        """Draw the plan that waits."""
        plan, order = station.plan, station.order
        if plan is None or order is None:
            return
        if station.question is not self._asked:  # what was typed was for the plan before
            self._asked = station.question
            self.query_one("#typed", Input).value = ""
        text = plan_text(station, plan, _backup_words(station, order))
        if order.sha256 is not None:
            text.append("\nsha256 of the image: ", "dim")
            text.append(order.sha256)
        self.query_one("#plan-text", Words).put(text)
        self.query_one(ChipView).show(plan.size, plan, station.guarded, None)
        found = dangers(order, station.board, plan.changed)
        box, typed = self.query_one("#dangers", Words), self.query_one("#typed", Input)
        box.display = typed.display = bool(found)
        word = word_to_type(order, station.board, plan.part)
        box.put("\n".join(f"! {text}" for text in found) + f"\nType {word} to allow it:")
        typed.placeholder = word
        complete = not found or typed.value.strip() == word
        self.query_one("#agree", Button).disabled = not complete

    def may_agree(self, station: Station) -> bool:
        """Whether a yes counts."""
        return station.seconds_asked >= HASTE and not self.query_one("#agree", Button).disabled


def _backup_words(station: Station, order: Order) -> str:
    if station.backup is None and order.action == "resume":
        return "the one that was made before the write that is resumed"
    return str(station.backup or "none is needed")


def plan_text(station: Station, plan: Plan, backup: str) -> Text:
    """The plan in a few lines; ``backup`` says where that is."""
    erases = ", ".join(
        f"{count} × {format_size(size)}" for size, count in sorted(plan.erases().items())
    )
    programmed = plan.bytes_of("program")
    touched = sum(item.length for item in plan.changed)
    kept = plan.size - touched
    text = Text()
    chip = f"{plan.part}, {format_size(plan.size)}"
    where = f"board {station.board.name}, " if station.board is not None else ""
    text.append("Nothing has been changed yet. ", "bold")
    text.append(f"{where}chip {chip}\n")
    text.append(f"erase {erases or 'nothing'}; program {about_size(programmed)}; ")
    text.append(f"keep {about_size(kept)}; about {format_seconds(plan.seconds)}\n")
    text.append("backup: ", "dim")
    text.append(backup)
    return text
