"""Contact test: one sentence, id and SFDP at rising clocks, and the wires to look at."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget

from hwflash.jobs.contact import ContactReport, contact_test
from hwflash.jobs.contact_reads import Contact
from hwflash.jobs.opening import Request
from hwflash.units import format_hz
from hwflash_tui.actor import Task, TaskContext
from hwflash_tui.screens.base import StationView
from hwflash_tui.widgets.bars import BAD, GOOD, Bar, Words
from hwflash_tui.wiring import draw

KIND = "contact"


class ContactScreen(StationView):
    """Runs the test when it is opened, and again on demand."""

    NAME = "Contact test"
    PURPOSE = (
        "Watches and pulls the lines, then reads the chip's id and SFDP tables again and again, at "
        "one clock after the other. Good says 'good' and is green; bad says why, and what to "
        "change. The wires to look at are marked with ! in the drawing. Nothing is changed on the "
        "chip."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "test", "Test again"),
        Binding("s", "stop", "Stop"),
    ]

    @property
    def command(self) -> str:
        """The same on the command line."""
        return shlex.join(["hwflash", "contact", "-p", self.station.url])

    def body(self) -> Iterable[Widget]:
        """The verdict, the clocks on the left, the wires on the right."""
        yield Words(id="contact-verdict")
        yield Bar(id="contact-bar")
        with Horizontal(id="contact"):
            yield VerticalScroll(Words(id="clocks"), can_focus=False, id="clocks-box")
            yield VerticalScroll(Words(id="wires"), can_focus=False)

    def on_mount(self) -> None:
        """Begin."""
        self.action_test()

    def action_test(self) -> None:
        """Test the contact, if nobody is at work."""
        url, environ, board = self.station.url, self.station.environ, self.station.board

        def work(task: TaskContext) -> ContactReport:
            request = Request(programmer=url, board=board, environ=environ)
            return contact_test(request, task.mailbox, task.cancel, task.mailbox.post)

        self.station.submit(Task(KIND, "testing the contact", work))

    def action_stop(self) -> None:
        """Enough."""
        self.station.stop()

    def show(self) -> None:
        """What was found so far."""
        station = self.station
        found = [item for item in station.found if isinstance(item, Contact)]
        self.query_one(Bar).show(station.reading)
        self.query_one("#contact-verdict", Words).put(self._verdict())
        report = self._report
        lines = [_line(item) for item in found]
        if report is not None:
            lines += [Text(f"note: {note}", "dim") for note in report.notes]
            if report.usable and report.limit is not None:
                lines.append(Text(f"used from now on: {format_hz(report.limit)} at most"))
        clocks = Text("\n").join(lines)
        self.query_one("#clocks", Words).put(clocks)
        wires = Text()
        for row in draw(station.board, report.verdict.suspects if report else ()):
            wires.append(f"{row.text}\n", "bold" if row.suspect else "")
        if station.board is not None:
            wires.append(
                f"\n{station.board.wiring.connector}\n{station.board.wiring.notes.strip()}"
            )
        else:
            wires.append("\nAs an FT232H is usually wired. AD0 is ADBUS0, on some boards D0.")
        self.query_one("#wires", Words).put(wires)

    @property
    def _report(self) -> ContactReport | None:
        """What the last test found, when it is over."""
        task = self.station.finished if not self.station.busy else None
        return task.value if task is not None and isinstance(task.value, ContactReport) else None

    def _verdict(self) -> Text:
        station = self.station
        if station.busy:
            return Text("… testing", "bold")
        if station.trouble is not None and station.finished is not None:
            return Text(f"✗ {station.trouble.message}. {station.help_for_trouble()}", f"bold {BAD}")
        if (report := self._report) is None:
            return Text("… testing", "bold")
        return Text(
            f"{'✓ good' if report.good else '✗ bad'}: {report.verdict.text}",
            f"bold {GOOD if report.good else BAD}",
        )


def _line(item: Contact) -> Text:
    sign, style = ("● good", GOOD) if item.ok else ("✗ bad ", f"bold {BAD}")
    text = Text.assemble((f"{sign} ", style))
    text.append(f"{format_hz(item.frequency):>7} {item.good:>2}/{item.rounds} {item.jedec_id}")
    if not item.ok:
        text.append(f"\n  {item.text}")
    return text
