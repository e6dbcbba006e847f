"""A programmer on the bench, as a card."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message

from hwflash.units import format_hz, format_size
from hwflash_tui.station import BUSY, Standing, Station
from hwflash_tui.widgets.bars import Bar, Words

STATES = [standing.css for standing in Standing]


class StationCard(Vertical, can_focus=True):
    """State in sign and word, chip, board, progress."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "Open")]
    DEFAULT_CSS = """
    StationCard { height: 10; width: 1fr; border: round $foreground 30%; padding: 0 1; }
    StationCard:focus { border: heavy $accent; background: $boost; }
    StationCard .sign { text-style: bold; height: 1; }
    StationCard .facts { height: 5; }
    StationCard .rate { height: 1; }
    StationCard.standing-passed .sign { color: $text-success; }
    StationCard.standing-ready .sign { color: $text-success; }
    StationCard.standing-failed .sign, StationCard.standing-unknown .sign { color: $text-error; }
    StationCard.standing-trouble .sign { color: $text-error; }
    StationCard.standing-asking .sign, StationCard.standing-stopping .sign {
        color: $text-warning;
    }
    """

    class Opened(Message):
        """Somebody wants to work with this programmer."""

        def __init__(self, station: Station) -> None:
            super().__init__()
            self.station = station

    def __init__(self, station: Station) -> None:
        super().__init__(id=f"station-{station.number}")
        self.station = station
        self.border_title = f"{station.number} {station.name}"

    def compose(self) -> ComposeResult:
        """Four parts."""
        yield Words(classes="sign")
        yield Words(classes="facts")
        yield Bar()
        yield Words(classes="rate")

    def show(self) -> None:
        """Put the station's state on the card."""
        station = self.station
        standing = station.standing
        for name in STATES:
            self.set_class(name == standing.css, name)
        self.query_one(".sign", Words).put(
            Text(f"{station.sign} {station.word}", overflow="ellipsis", no_wrap=True)
        )
        trouble = standing is Standing.TROUBLE
        lines = Text("\n".join(facts(station)), no_wrap=not trouble, overflow="ellipsis")
        self.query_one(".facts", Words).put(lines)
        reading = station.reading
        self.query_one(Bar).show(reading)
        text = reading.text if reading is not None else _last(station)
        self.query_one(".rate", Words).put(Text(text, overflow="ellipsis", no_wrap=True))

    def action_open(self) -> None:
        """The enter key."""
        self.post_message(self.Opened(self.station))

    def on_click(self) -> None:
        """The mouse, or a finger."""
        self.focus()


def facts(station: Station) -> list[str]:
    """What is known of the chip, or what helps against trouble."""
    if station.standing is Standing.TROUBLE:
        return [f"try: {station.help_for_trouble()}"]
    if station.standing is Standing.GONE:
        return ["plug it in, and it comes back"]
    sight = station.sight
    if sight is None:
        return []
    chip = sight.chip
    lines = [
        f"{chip.manufacturer} {chip.part}, {format_size(chip.size)}",
        f"id {chip.jedec_id}" + (f", unit {chip.unique_id}" if chip.unique_id else ""),
    ]
    if station.order is not None and station.order.board is not None:
        lines.append(f"board {station.order.board}")
    elif boards := [entry.name for entry in sight.boards]:
        more = f" (+{len(boards) - 1})" if len(boards) > 1 else ""
        lines.append(f"perhaps {boards[0]}{more}")
    else:
        lines.append("no known board has this chip")
    if chip.locked:
        lines.append(f"# {chip.protection}")
    else:
        kind = "simulated, " if chip.simulated else ""
        lines.append(f"{kind}{format_hz(chip.frequency)}")
    return lines


def _last(station: Station) -> str:
    if station.outcome is not None and station.standing not in BUSY:
        return station.outcome.headline
    return ""
