"""One order from its preparation to its result; a pane for each part of the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, ContentSwitcher, Input

from hwflash.jobs.order import Order
from hwflash_tui.panes.plan import PlanPane
from hwflash_tui.panes.result import ResultPane
from hwflash_tui.panes.run import RunPane
from hwflash_tui.screens.base import StationView
from hwflash_tui.station import BUSY, Standing


class WorkScreen(StationView):
    """Plan and confirm, run, result."""

    NAME = "Work"
    PURPOSE = (
        "First the chip is read and what will change is backed up. Then the plan is shown as a map "
        "of the chip: nothing has been changed until you say yes with Y. S stops after the block "
        "at work; Resume goes on with a write that stopped, Restore puts back what was there "
        "before. Escape leaves the screen, the work goes on."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "agree", "Yes, write now"),
        Binding("n", "decline", "No"),
        Binding("s", "stop", "Stop"),
        Binding("r", "resume", "Resume"),
        Binding("z", "restore", "Restore"),
        Binding("a", "again", "Next board"),
    ]

    @property
    def heading(self) -> str:
        """The part of the way."""
        if self.station.standing is Standing.ASKING:
            return "Plan"
        return "Run" if self.station.busy else "Result"

    @property
    def command(self) -> str:
        """The order at work, or the one that would go on."""
        station = self.station
        if station.order is not None:
            return station.order.command
        return next((order.command for order in self._followups().values()), "")

    def body(self) -> Iterable[Widget]:
        """A pane for each part of the way."""
        with ContentSwitcher(initial="run"):
            yield RunPane(id="run")
            yield PlanPane(id="plan")
            yield VerticalScroll(ResultPane(), id="result")

    def show(self) -> None:
        """The pane that belongs to what the station is doing."""
        station = self.station
        switcher = self.query_one(ContentSwitcher)
        wanted = (
            "plan"
            if station.standing is Standing.ASKING
            else "run"
            if station.standing in BUSY
            else "result"
        )
        changed = switcher.current != wanted
        switcher.current = wanted
        match wanted:
            case "plan":
                self.query_one(PlanPane).show(station)
            case "run":
                self.query_one(RunPane).show(station)
            case _:
                self.query_one(ResultPane).show(station, self._followups())
        if changed:
            self.call_after_refresh(self._focus_harmless)
            self.refresh_bindings()

    def _focus_harmless(self) -> None:
        """What Enter presses by haste does no harm."""
        ids = {"plan": ("#typed", "#decline"), "result": ("#resume", "#again")}
        for name in ids.get(self.query_one(ContentSwitcher).current or "", ()):
            widget = self.query_one(name)
            if widget.display and not widget.disabled:
                widget.focus()
                return
        self.set_focus(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only keys that mean something now are shown."""
        standing = self.station.standing
        match action:
            case "agree" | "decline":
                return standing is Standing.ASKING
            case "stop":
                return standing in BUSY and standing is not Standing.ASKING
            case "resume" | "restore":
                return standing not in BUSY and action in self._followups()
            case "again":
                return standing not in BUSY
            case _:
                return True

    # --- what a person wants --------------------------------------------------------------

    def _followups(self) -> Mapping[str, Order]:
        station = self.station
        if station.outcome is not None:
            return station.outcome.followups
        return station.sight.unfinished if station.sight is not None else {}

    def action_agree(self) -> None:
        """Yes, if everything that has to be typed was."""
        if self.query_one(PlanPane).may_agree(self.station):
            self.station.answer(True)
            self.refresh_view()

    def action_decline(self) -> None:
        """No."""
        self.station.answer(False)
        self.refresh_view()

    def action_stop(self) -> None:
        """Stop after the block at work."""
        self.station.stop()
        self.refresh_view()

    def action_resume(self) -> None:
        """Go on with what stopped."""
        self._follow("resume")

    def action_restore(self) -> None:
        """Go back to what was there before."""
        self._follow("restore")

    def _follow(self, name: str) -> None:
        order = self._followups().get(name)
        if order is not None:
            self.station.start(order)
            self.refresh_view()

    def action_again(self) -> None:
        """The next board: look at it, then back to the bench."""
        self.station.forget()
        self.dismiss()

    def action_back(self) -> None:
        """Leave; a result that was seen is done with, unless something can still be done."""
        if self.station.standing is Standing.PASSED:
            self.station.settle()
        self.dismiss()

    @on(Button.Pressed)
    def pressed(self, event: Button.Pressed) -> None:
        """Buttons do what keys do."""
        name = event.button.id or ""
        getattr(self, f"action_{name}")()

    @on(Input.Changed, "#typed")
    def typed(self) -> None:
        """The button is free when the name is complete."""
        self.query_one(PlanPane).show(self.station)

    @on(Input.Submitted, "#typed")
    def submitted(self) -> None:
        """Enter behind a complete name goes to the button, and does not press it."""
        agree = self.query_one("#agree", Button)
        (self.query_one("#decline") if agree.disabled else agree).focus()
