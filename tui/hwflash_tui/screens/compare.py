"""Compare: the board against an image or a reference."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, TabbedContent, TabPane

from hwflash_tui.actor import Task, TaskContext
from hwflash_tui.comparing import Compared, compare_chip
from hwflash_tui.paths import PathSuggester
from hwflash_tui.screens.base import StationView
from hwflash_tui.screens.files import FileScreen
from hwflash_tui.widgets.bars import Bar, Words

COMPARE: Final = "compare"


class CompareScreen(StationView):
    """Name the other side and press Enter."""

    NAME = "Compare"
    PURPOSE = (
        "Reads the chip and holds it against an image file, another board (board:NAME), the "
        "firmware of this computer (ovmf:60-edk2-x86_64) or an image after one boot in QEMU "
        "(boot:FILE). Only what differs is shown; equal bytes are ·· in the rows."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "browse", "Find image"),
        Binding("f5", "compare", "Compare"),
        Binding("f8", "stop", "Stop"),
    ]

    @property
    def command(self) -> str:
        """The same on the command line."""
        if not self._ready:
            return ""
        other = self.query_one("#other", Input).value.strip()
        words = ["hwflash", "compare", self.station.url, other or "IMAGE"]
        board = self.station.order.board if self.station.order is not None else None
        return shlex.join(words + (["-b", board] if board else []))

    def body(self) -> Iterable[Widget]:
        """The other side, the verdict, and three lists."""
        yield Input(
            placeholder="image file, board:NAME, ovmf:NAME or boot:FILE; then Enter",
            id="other", compact=True, suggester=PathSuggester(), select_on_focus=False,
        )  # fmt: skip
        yield Words(id="compare-verdict")
        yield Bar(id="compare-bar")
        with TabbedContent(id="lists"):
            for name in ("Regions", "Variables", "Bytes"):
                key = name.lower()
                with TabPane(name, id=f"tab-{key}"):
                    yield VerticalScroll(Words(id=f"list-{key}", classes="list"))

    def on_mount(self) -> None:
        """The other side is what is missing."""
        order = self.station.order
        if order is not None and order.file is not None:
            self.query_one("#other", Input).value = str(order.file)
        self.query_one("#other").focus()

    def action_browse(self) -> None:
        """Choose an image from a list."""

        def chosen(file: Path | None) -> None:
            if file is not None:
                self.query_one("#other", Input).value = str(file)

        self.bench.push_screen(FileScreen(Path.cwd()), chosen)

    @on(Input.Submitted, "#other")
    def action_compare(self) -> None:
        """Read and compare."""
        other = self.query_one("#other", Input).value.strip()
        if not other or self.station.busy:
            return
        station = self.station
        url, board = station.url, station.board

        def work(task: TaskContext) -> Compared:
            return compare_chip(url, other, board, station.hooks(task))

        station.submit(Task(COMPARE, "reading and comparing", work))
        self.refresh_view()

    def action_stop(self) -> None:
        """Enough."""
        self.station.stop()

    def show(self) -> None:
        """What was found."""
        station = self.station
        end = station.finished
        found = end.value if end is not None and isinstance(end.value, Compared) else None
        self.query_one(Bar).show(station.reading)
        self.query_one("#compare-verdict", Words).put(self._verdict(found))
        for name in ("regions", "variables", "bytes"):
            lines = getattr(found, {"bytes": "rows"}.get(name, name)) if found is not None else ()
            text = "\n".join(lines) or ("nothing differs" if found is not None else "")
            self.query_one(f"#list-{name}", Words).put(text)

    def _verdict(self, found: Compared | None) -> Text:
        station = self.station
        if station.busy:
            reading = station.reading
            return Text(f"… {station.label}{': ' + reading.text if reading else ''}", "bold")
        if found is not None:
            return Text(f"{'✓' if found.equal else '✗'} {found.verdict}", "bold")
        if station.trouble is not None and station.finished is not None:
            return Text(f"✗ {station.trouble.message}. {station.help_for_trouble()}", "bold")
        return Text("Nothing was compared yet.")
