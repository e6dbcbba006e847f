"""History: what was done to which chip, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final, cast

from rich.text import Text
from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import DataTable

from hwflash.errors import HwflashError
from hwflash.jobs.history import open_history
from hwflash.jobs.history_entry import OUTCOMES, Entry, Query
from hwflash.jobs.report import MEANING, visible
from hwflash.units import format_seconds
from hwflash_tui.names import about_size
from hwflash_tui.screens.base import View
from hwflash_tui.widgets.bars import Words

#: Entries that are listed.
MOST: Final = 500
SIGNS: Final = {"ok": "✓", "unchanged": "✓", "differs": "✗", "failed": "✗", "unknown": "!"}


class HistoryScreen(View):
    """The newest first; O shows one outcome only."""

    NAME = "History"
    PURPOSE = (
        "Every job of this computer, the newest first, with who did it, to which chip, and what "
        "came of it. O shows one kind of outcome only. The command below makes a report of the "
        "highlighted one."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "outcome", "Other outcome"),
        Binding("l", "reload", "Read again"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[Entry] = []
        self._outcome: str | None = None
        self._trouble = ""
        self._count = 0

    @property
    def command(self) -> str:
        """A report of the highlighted one, or the list."""
        entry = self._chosen
        if entry is not None:
            return f"hwflash history show {entry.id} --html entry-{entry.id}.html"
        return "hwflash history list"

    def body(self) -> Iterable[Widget]:
        """How many, the table, one in full."""
        yield Words(id="history-head")
        table: DataTable[Any] = DataTable(id="entries", cursor_type="row", zebra_stripes=True)
        yield table
        yield VerticalScroll(Words(id="entry"), can_focus=False, id="value-box")

    @property
    def _table(self) -> DataTable[Any]:
        return cast("DataTable[Any]", self.query_one("#entries"))

    @property
    def _chosen(self) -> Entry | None:
        row = self._table.cursor_row
        return self._entries[row] if 0 <= row < len(self._entries) else None

    def on_mount(self) -> None:
        """Read it."""
        self._table.add_columns("No.", "Ended (UTC)", "What", "Outcome", "Board or chip", "By")
        self._table.focus()
        self.action_reload()

    def action_outcome(self) -> None:
        """All, then one outcome after the other."""
        wheel = [None, *OUTCOMES]
        self._outcome = wheel[(wheel.index(self._outcome) + 1) % len(wheel)]
        self.action_reload()

    def action_reload(self) -> None:
        """Read it again."""
        self._load(Query(limit=MOST, outcome=self._outcome))

    @work(thread=True, exclusive=True)
    def _load(self, query: Query) -> None:
        """In a thread: another process may hold the database for a while."""
        trouble, entries, count = "", list[Entry](), 0
        try:
            with open_history(self.bench.state, create=False) as history:
                entries, count = history.entries(query), history.count(query)
        except HwflashError as exc:
            trouble = f"✗ {exc.message} [{exc.code}]"
        self.bench.call_from_thread(self._loaded, entries, count, trouble)

    def _loaded(self, entries: list[Entry], count: int, trouble: str) -> None:
        self._entries, self._count, self._trouble = entries, count, trouble
        table = self._table
        table.clear()
        for entry in entries:
            table.add_row(
                str(entry.id), entry.time.replace("T", " ").rstrip("Z"), entry.kind,
                f"{SIGNS.get(entry.outcome, '?')} {entry.outcome}",
                Text(visible(entry.board or entry.part or entry.file or "-"), no_wrap=True),
                Text(visible(entry.operator or "-"), no_wrap=True),
            )  # fmt: skip
        self.refresh_view()

    @on(DataTable.RowHighlighted)
    def highlighted(self) -> None:
        """Another one."""
        self.refresh_view()

    def show(self) -> None:
        """How many, and one in full."""
        which = self._outcome or "any outcome"
        shown = f"the newest {MOST} of {self._count}" if self._count > MOST else str(self._count)
        self.query_one("#history-head", Words).put(
            self._trouble or f"{shown} entries, {which}" + ("" if self._count else ": none yet")
        )
        entry = self._chosen
        self.query_one("#entry", Words).put(_full(entry) if entry is not None else "")


def _full(entry: Entry) -> Text:
    text = Text.assemble((f"{entry.kind}: {MEANING.get(entry.outcome, entry.outcome)}\n", "bold"))
    rows = (
        ("chip", " ".join(item for item in (entry.part, entry.jedec_id, entry.unique_id) if item)),
        ("error", entry.error or ""),
        ("image", entry.image_sha256 or ""),
        ("backup", entry.backup or ""),
        ("size", f"{about_size(entry.bytes)} in {format_seconds(entry.seconds)}"
         + (" (simulated time)" if entry.modelled else "")),
        ("by", f"{entry.operator or '-'} at {entry.host or '-'}"),
        ("message", str(entry.details.get("message", ""))),
    )  # fmt: skip
    for name, value in rows:
        if value:
            text.append(f"{name:>8}  ", "dim")
            text.append(f"{visible(value)}\n")
    return text
