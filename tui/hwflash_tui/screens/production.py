"""Production: one job file, unit after unit, for operators who do nothing else."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from contextlib import nullcontext
from typing import ClassVar, Final

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget

from hwflash.errors import HwflashError, Interrupted
from hwflash.jobs.contact import wait_for_chip
from hwflash.jobs.job_batch import Batch
from hwflash.jobs.job_result import UnitResult
from hwflash.jobs.jobrun import FATAL, Run, run_unit
from hwflash.jobs.opening import Request
from hwflash.jobs.serials import SerialStore
from hwflash_tui.actor import Finished, Task, TaskContext
from hwflash_tui.production import Tally
from hwflash_tui.screens.base import StationView
from hwflash_tui.screens.unlock import UnlockScreen
from hwflash_tui.station import Station
from hwflash_tui.widgets.banner import Banner
from hwflash_tui.widgets.bars import Bar, Words

UNIT: Final = "unit"
CONTACT: Final = "contact"
#: START counts when nobody has pressed it, and no unit has ended, for so long, in seconds: a key
#: that is held down, or typed ahead, must not flash the same board again.
QUIET: Final = 1.0


class ProductionScreen(StationView):
    """START, and again; leaving takes the name of the job."""

    NAME = "Production"
    PURPOSE = (
        "Connect a board and press START (Space or Enter). PASS: take it off, connect the next. "
        "FAIL: put it aside. With T a board is started as soon as it has contact. After several "
        "failures one after the other the line stops; whoever is in charge lets it go on with U. "
        "Leaving takes the name of the job."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "go", "START"),
        Binding("t", "auto", "Start on contact"),
        Binding("s", "stop", "Stop"),
        Binding("u", "unlock", "Go on", show=False),
        Binding("escape", "back", "Leave"),
    ]

    def __init__(self, station: Station, batch: Batch, notes: tuple[str, ...] = ()) -> None:
        super().__init__(station)
        self.job = batch
        stop = 1 if batch.form.job.on_failure == "stop" else None
        self.tally = Tally(stop) if stop is not None else Tally()
        self.auto = False
        self._notes = notes
        self._quiet_since = float("-inf")
        self._handled: Finished | None = station.finished

    @property
    def command(self) -> str:
        """The same on the command line."""
        words = ["hwflash", "job", "run", str(self.job.file), "-p", self.station.url]
        return shlex.join(words)

    @property
    def where(self) -> str:
        """The job, and the programmer."""
        return f"{self.job.form.job.name}, programmer {self.station.number}"

    def body(self) -> Iterable[Widget]:
        """Verdict, counters, what is done now, the last units."""
        yield Banner(id="verdict")
        yield Words(id="line-state")
        yield Bar(id="line-bar")
        with Horizontal(id="line"):
            yield Words(id="counters")
            yield VerticalScroll(Words(id="units"), can_focus=False)

    # --- work ---------------------------------------------------------------------------------

    def _request(self, unit: int) -> Request:
        return Request(
            programmer=self.station.url.replace("{unit}", str(unit)),
            board=self.job.board,
            environ=self.station.environ,
        )

    def action_go(self) -> None:
        """START was pressed: a unit, unless that is the key of the one before."""
        if self._quiet_for() < QUIET:
            return
        if self.tally.halted:
            self.notify(self.tally.halted, severity="error")
            return
        self._start()

    def _quiet_for(self) -> float:
        """Seconds since the last START, or the end of the last unit; counted anew from now."""
        before, self._quiet_since = self._quiet_since, time.monotonic()
        return self._quiet_since - before

    def _start(self) -> None:
        unit = self.tally.units + 1
        batch, state, request = self.job, self.station.state, self._request

        def work(task: TaskContext) -> UnitResult:
            with SerialStore(state) if batch.supply.series else nullcontext() as store:
                run = Run(batch, request, store, state, task.mailbox, task.cancel)
                return run_unit(run, unit)

        self.station.submit(Task(UNIT, f"unit {unit} is written", work))
        self.refresh_view()

    def action_auto(self) -> None:
        """Start on contact, or by key again."""
        self.auto = not self.auto
        if self.auto:
            self._await_contact()
        elif self.station.finished is None and self.station.label == "waiting for a board":
            self.station.stop()
        self.refresh_view()

    def _await_contact(self) -> None:
        last = self.tally.last
        request = self._request(self.tally.units + 1)
        done = str((last.chip or {}).get("unique_id") or "") if last is not None else None

        def work(task: TaskContext) -> None:
            wait_for_chip(request, task.cancel, done)

        self.station.submit(Task(CONTACT, "waiting for a board", work))

    def action_stop(self) -> None:
        """Stop after the block at work."""
        self.auto = False
        self.station.stop()

    def action_unlock(self) -> None:
        """Let a line that stopped go on."""
        if self.tally.halted:
            self._ask("go on", self._go_on)

    def _go_on(self) -> None:
        self.tally.resume()
        self._quiet_for()  # the Enter behind the name is no START
        self.refresh_view()

    def action_back(self) -> None:
        """Leave; not by an operator's slip."""
        if not self.station.busy or self.station.label == "waiting for a board":
            self._ask("leave production", self._leave)

    def _ask(self, what: str, then: object) -> None:
        def answered(yes: bool | None) -> None:
            if yes and callable(then):
                then()

        self.bench.push_screen(UnlockScreen(self.job.form.job.name, what), answered)

    def _leave(self) -> None:
        self.auto = False
        self.station.stop()
        self.bench.locked = False
        self.dismiss()

    def _take(self, end: Finished) -> None:
        if isinstance(end.value, UnitResult):
            error = end.value.error
            fatal = error is not None and error.code.startswith(FATAL)
            self.tally.add(end.value, fatal)
            self._quiet_for()
            self.bench.bell()
            if self.auto and not self.tally.halted:
                self._await_contact()
        elif end.task.kind == CONTACT and self.auto:
            if end.error is None:
                self._start()
            elif not isinstance(end.error, Interrupted):
                self.auto = False
        elif end.task.kind == UNIT and end.error is not None:
            self.tally.halted = end.error.message

    # --- what is shown --------------------------------------------------------------------------

    def show(self) -> None:
        """Bring it up to date."""
        station = self.station
        end = station.finished
        if end is not None and end is not self._handled:
            self._handled = end
            self._take(end)
        word, css = self._verdict()
        banner = self.query_one(Banner)
        banner.word = word
        for name in ("pass", "fail", "stopped"):
            banner.set_class(name == css, name)
        self.query_one("#line-state", Words).put(self._state())
        self.query_one(Bar).show(station.reading)
        self.query_one("#counters", Words).put(self._counters())
        self.query_one("#units", Words).put("\n".join(self.tally.lines) or "no unit yet")

    @property
    def _waiting(self) -> bool:
        return self.station.busy and self.station.label == "waiting for a board"

    def _verdict(self) -> tuple[str, str]:
        if self.tally.halted:
            return "STOPPED", "stopped"
        if self.station.busy and not self._waiting:
            return "RUN", ""
        last = self.tally.last
        if last is None:
            return "READY", ""
        return ("PASS", "pass") if last.ok else ("FAIL", "fail")

    def _state(self) -> Text:
        station, last = self.station, self.tally.last
        if self.tally.halted:
            return Text(f"! {self.tally.halted}. U: go on.", "bold")
        if self._waiting:
            return Text("… connect the next board: it starts when it has contact", "bold")
        if station.busy:
            reading = station.reading
            return Text(f"► {station.label}: {reading.text if reading else ''}", "bold")
        if station.trouble is not None:
            return Text(f"✗ {station.trouble.message}. {station.help_for_trouble()}", "bold")
        if last is None:
            return Text("Connect a board and press START (Space).", "bold")
        chip = _chip(last.error) if last.error is not None else "Take the board off."
        return Text(f"{chip} Connect the next board and press START (Space).", "bold")

    def _counters(self) -> Text:
        tally = self.tally
        text = Text()
        for name, value in (
            ("passed", str(tally.done)), ("failed", str(tally.failed)),
            ("yield", tally.yield_text),
            ("start", "on contact" if self.auto else "by key"),
            ("stops", f"after {tally.stop_after} failure{'s' if tally.stop_after > 1 else ''}"),
        ):  # fmt: skip
            text.append(f"{name:>8} ", "dim")
            text.append(f"{value}\n", "bold")
        for note in self._notes if not tally.units else ():  # of numbers, before the first unit
            text.append(f"{note}\n", "dim")
        return text


def _chip(error: HwflashError) -> str:
    from hwflash.diagnostics import chip_state

    return f"Put the board aside: {chip_state(error)}."
