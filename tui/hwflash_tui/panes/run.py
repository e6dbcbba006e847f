"""Run: the map filling in, phase, rate, time left, log, stop."""

from __future__ import annotations

from typing import Final

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button

from hwflash_tui.chipmap import Done
from hwflash_tui.station import Standing, Station
from hwflash_tui.widgets.bars import Bar, Words
from hwflash_tui.widgets.chipview import ChipView

LOG_ROWS: Final = 4


class RunPane(Vertical):
    """Work in progress."""

    def compose(self) -> ComposeResult:
        """Words, bar, map, log, one button."""
        yield Words(id="run-state")
        yield Words(id="run-rate")
        yield Bar(id="run-bar")
        yield ChipView(id="run-map")
        yield Words(id="run-log")
        with Horizontal(classes="buttons"):
            yield Button("Stop after this block (S)", id="stop", variant="warning")

    def show(self, station: Station) -> None:
        """Bring it up to date."""
        standing = station.standing
        self.query_one("#run-state", Words).put(
            Text(f"{standing.sign} {_state(station)}", "bold", overflow="ellipsis", no_wrap=True)
        )
        reading = station.reading
        self.query_one("#run-rate", Words).put(reading.text if reading is not None else "")
        self.query_one(Bar).show(reading)
        if station.plan is not None:
            self.query_one(ChipView).show(
                station.plan.size, station.plan, station.guarded, station.done
            )
        elif station.sight is not None:
            self.query_one(ChipView).show(station.sight.chip.size, None, station.guarded, Done())
        lines = list(station.log)[-LOG_ROWS:]
        log = Text("\n").join(
            Text(f"{'! ' if line.warning else '  '}{line.text}", "bold" if line.warning else "")
            for line in lines
        )
        log.no_wrap, log.overflow = True, "ellipsis"
        self.query_one("#run-log", Words).put(log)
        stop = self.query_one("#stop", Button)
        stop.disabled = standing is Standing.STOPPING
        stop.label = (
            "Stopping after this block…"
            if standing is Standing.STOPPING
            else "Stop after this block (S)"
        )


def _state(station: Station) -> str:
    order = station.order
    what = f"{order.action} {order.file.name if order.file is not None else ''}" if order else ""
    return f"{station.word}: {what}".rstrip(": ")
