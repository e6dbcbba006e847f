"""The bench: every programmer side by side.

Screens that bring much with them are loaded when they are opened, so that the bench comes at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Grid, VerticalScroll
from textual.widget import Widget

from hwflash_tui.screens.base import View
from hwflash_tui.screens.files import FileScreen
from hwflash_tui.screens.job import JobScreen
from hwflash_tui.screens.work import WorkScreen
from hwflash_tui.station import Standing, Station
from hwflash_tui.widgets.bars import Words
from hwflash_tui.widgets.card import StationCard

if TYPE_CHECKING:
    from hwflash.jobs.jobfile import Checked


class BenchScreen(View):
    """All stations; Enter works with the one that has the focus."""

    NAME = "Bench"
    PURPOSE = (
        "Every programmer with what is on it. Choose one with Tab or the arrows and press Enter: a "
        "free one asks for board and image, a busy one shows its work. R repeats the last job on "
        "the chosen programmer; you still have to say yes to its plan."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", show=False),
        Binding("r", "repeat", "Repeat"),
        Binding("l", "look", "Look again", show=False),
        Binding("c", "contact", "Contact"),
        Binding("v", "variables", "Variables"),
        Binding("x", "compare", "Compare"),
        Binding("p", "production", "Produce"),
        Binding("h", "app.history", "History", show=False),
        Binding("o", "app.doctor", "Doctor", show=False),
        Binding("s", "stop", "Stop", show=False),
        Binding("right,down", "app.focus_next", "Next", show=False),
        Binding("left,up", "app.focus_previous", "Previous", show=False),
        Binding("q", "app.quit", "Quit"),
    ]

    def body(self) -> Iterable[Widget]:
        """Cards, or a word about why there are none."""
        yield Words(id="none")
        yield VerticalScroll(Grid(id="cards"), can_focus=False)

    @property
    def chosen(self) -> Station | None:
        """The station with the focus, or the only one."""
        focused = self.focused
        if isinstance(focused, StationCard):
            return focused.station
        stations = self.bench.stations
        return stations[0] if len(stations) == 1 else None

    @property
    def command(self) -> str:
        """A look at the chosen programmer."""
        station = self.chosen
        return shlex.join(["hwflash", "probe", "-p", station.url]) if station else "hwflash list"

    def show(self) -> None:
        """Bring the cards up to date."""
        grid = self.query_one("#cards", Grid)
        cards = {card.station.number: card for card in self.query(StationCard)}
        for station in self.bench.stations:
            card = cards.get(station.number)
            if card is None:
                card = StationCard(station)
                grid.mount(card)
                self.call_after_refresh(self._first_focus)
            elif card.is_mounted:
                card.show()
        nothing = self.query_one("#none", Words)
        nothing.display = not self.bench.stations
        if not self.bench.stations:
            reason = self.bench.trouble or "No programmer is plugged in."
            nothing.put(
                f"{reason}\n\nPlug an FT232H in, and it appears here. Without hardware:\n"
                "hwflash tui -p sim://w25q128jv"
            )

    def _first_focus(self) -> None:
        if self.focused is None:
            for card in self.query(StationCard):
                card.focus()
                break

    @on(StationCard.Opened)
    def open_station(self, event: StationCard.Opened) -> None:
        """Go where the station's work is."""
        station = event.station
        half = station.sight is not None and station.sight.unfinished
        if not self.on_top:
            return  # the key was held down: it is open already
        if station.busy and station.order is None:
            return  # it is being looked at, which takes a moment
        if station.busy or station.outcome is not None or half:
            self.bench.push_screen(WorkScreen(station))
        elif station.standing in (Standing.TROUBLE, Standing.GONE):
            station.look()
        else:
            self.bench.push_screen(JobScreen(station))

    def action_repeat(self) -> None:
        """Start the last order on the chosen programmer."""
        station = self.chosen
        if station is None or station.busy:
            return
        if not self.bench.recent:
            self.notify("There is no job to repeat yet.")
            return
        station.start(self.bench.recent[0])
        self.bench.push_screen(WorkScreen(station))

    def action_look(self) -> None:
        """Look at the chosen programmer again."""
        if self.chosen is not None:
            self.chosen.look()

    def action_contact(self) -> None:
        """Test the contact of the chosen programmer."""
        from hwflash_tui.screens.contact import ContactScreen

        if self.chosen is not None and not self.chosen.busy:
            self.bench.push_screen(ContactScreen(self.chosen))

    def action_variables(self) -> None:
        """Open the variable store on the chosen programmer."""
        from hwflash_tui.screens.variables import VariablesScreen

        if self.chosen is not None and not self.chosen.busy:
            self.bench.push_screen(VariablesScreen(self.chosen))

    def action_compare(self) -> None:
        """Hold the chip on the chosen programmer against something."""
        from hwflash_tui.screens.compare import CompareScreen

        if self.chosen is not None and not self.chosen.busy:
            self.bench.push_screen(CompareScreen(self.chosen))

    def action_production(self) -> None:
        """Choose a job file, and give the chosen programmer to an operator."""
        station = self.chosen
        if station is None or station.busy:
            return

        def chosen(file: Path | None) -> None:
            if file is not None:
                self._check_job(station, file)

        self.bench.push_screen(FileScreen(Path.cwd()), chosen)

    @work(thread=True, exclusive=True)
    def _check_job(self, station: Station, file: Path) -> None:
        """In a thread: all files of the job are read. No hardware is touched."""
        from hwflash.jobs.jobfile import check_job

        checked = check_job(file, station.environ)
        self.bench.call_from_thread(self._checked, station, checked)

    def _checked(self, station: Station, checked: Checked) -> None:
        if checked.batch is None:
            faults = "\n".join(str(fault) for fault in checked.faults[:8])
            self.notify(faults, title="This job file has faults", severity="error", timeout=15)
        else:
            self.bench.produce(station, checked)

    def action_stop(self) -> None:
        """Stop the work of the chosen programmer."""
        if self.chosen is not None:
            self.chosen.stop()

    def action_back(self) -> None:
        """Nothing lies behind the bench."""
