"""The exact flash operations of a change of a variable store, before any of them is sent."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button

from hwflash.jobs.store_order import Preview, run_store_order
from hwflash_tui.panes.plan import HASTE, plan_text
from hwflash_tui.screens.base import StationView
from hwflash_tui.screens.work import WorkScreen
from hwflash_tui.station import Station
from hwflash_tui.widgets.bars import Words
from hwflash_tui.widgets.chipview import ChipView


class PreviewScreen(StationView):
    """Yes carries out exactly what is shown."""

    NAME = "What it takes"
    PURPOSE = (
        "The flash operations of the change, in the order that survives a power cut at any point. "
        "Nothing has been changed yet. Yes carries out exactly these; if the chip has changed "
        "meanwhile, nothing is done."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "agree", "Yes, write now"),
        Binding("n", "back", "No"),
    ]

    def __init__(self, station: Station, seen: Preview) -> None:
        super().__init__(station)
        self._seen = seen
        self._since = time.monotonic()

    @property
    def command(self) -> str:
        """The same on the command line."""
        return self._seen.order.command

    def body(self) -> Iterable[Widget]:
        """Words, map, operations, buttons."""
        yield Words(id="plan-text")
        yield ChipView(id="plan-map")
        yield VerticalScroll(Words(id="operations"), id="operations-box")
        with Horizontal(classes="buttons"):
            yield Button("No, change nothing (N)", id="back", variant="primary")
            yield Button("Yes, write now (Y)", id="agree", variant="warning")

    def on_mount(self) -> None:
        """The harmless button."""
        self.query_one("#back").focus()
        self.query_one("#agree", Button).disabled = not self._seen.plan.steps

    def show(self) -> None:
        """All of it stands."""
        seen = self._seen
        self.query_one("#plan-text", Words).put(
            plan_text(
                self.station, seen.plan, "is made when you say yes, before the first operation"
            )
        )
        self.query_one(ChipView).show(seen.plan.size, seen.plan, (), None)
        text = Text()
        for note in seen.notes:
            lost = note.startswith("LOST")
            text.append(f"{'! ' if lost else ''}{note}\n", "bold" if lost else "")
        text.append("\n".join(seen.lines) if seen.lines else "nothing has to be changed")
        self.query_one("#operations", Words).put(text)

    @on(Button.Pressed, "#agree")
    def action_agree(self) -> None:
        """Carry it out."""
        early = time.monotonic() - self._since < HASTE
        if early or not self._seen.plan.steps or self.station.busy:
            return
        seen = self._seen
        self.station.start(seen.order, lambda hooks: run_store_order(seen, hooks))
        self.bench.push_screen(WorkScreen(self.station), lambda _: self.dismiss())

    @on(Button.Pressed, "#back")
    def back(self) -> None:
        """Change nothing."""
        self.dismiss()
