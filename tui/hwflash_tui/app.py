"""The application: stations, the poll, the command palette, and an orderly end."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, cast

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from hwflash.errors import HwflashError
from hwflash_tui.names import short_name
from hwflash_tui.outcome import PASS
from hwflash_tui.plug import Plugged, PlugWatch
from hwflash_tui.recent import load_recent
from hwflash_tui.screens.base import View
from hwflash_tui.screens.bench import BenchScreen
from hwflash_tui.screens.quit import QuitScreen
from hwflash_tui.station import Standing, Station

if TYPE_CHECKING:
    from hwflash.jobs.jobfile import Checked

#: How often the interface looks what the threads said, in seconds.
POLL: Final = 1 / 12
#: Looks after which the screen is drawn though nothing came.
IDLE_TICKS: Final = 6
#: Signals that mean: end, but not under a page program.
END_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds that the interface has to end by itself after a signal.
GRACE: Final = 8.0
_CHANGING: Final = frozenset({Standing.RUNNING, Standing.STOPPING})


class BenchApp(App[None]):
    """The technician's bench.

    Args:
        programmers: URLs; none means whatever is plugged in.
        state: the state directory.
        environ: environment variables.
        watch: looks for programmers that are plugged in; None looks for none.
        signals: heed those that end a process.
        job: begin with production on the first programmer.
    """

    CSS_PATH = "bench.tcss"
    TITLE = "hwflash bench"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
        Binding("ctrl+t", "light_or_dark", "Light/dark", show=False),
        Binding("f1", "help", "Help"),
        Binding("f11", "history", "History", show=False),
        Binding("f12", "doctor", "Doctor", show=False),
    ]

    def __init__(
        self,
        programmers: Sequence[str],
        *,
        state: Path,
        environ: Mapping[str, str] = os.environ,
        watch: PlugWatch | None = None,
        signals: bool = False,
        job: Checked | None = None,
    ) -> None:
        super().__init__()
        self.HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]
        self.VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]
        self.state = state
        self.environ = environ
        self.recent = load_recent(state)
        self.stations: list[Station] = []
        self.leaving = False
        #: An operator works with one job file: no way out but the one of `ProductionScreen`.
        self.locked = False
        self.looks = 0
        self._cut_short: list[Station] = []
        self._watch = watch
        self._signals = signals
        self._job = job
        self._seen: Plugged | None = None
        self._logs = _ThreadLog(self)
        for url in programmers:
            self.add_station(url, short_name(url))

    # --- stations -------------------------------------------------------------------------

    def add_station(self, url: str, name: str) -> Station:
        """Put a programmer on the bench, and look what is on it."""
        station = Station(len(self.stations) + 1, url, name, self.state, self.environ)
        self.stations.append(station)
        if "{unit}" not in url:  # it is a programmer for each unit of a job
            station.look()
        return station

    def produce(self, station: Station, checked: Checked) -> None:
        """Give a programmer to an operator, with one job."""
        from hwflash_tui.screens.production import ProductionScreen

        if checked.batch is not None:
            self.locked = True
            self.push_screen(ProductionScreen(station, checked.batch, checked.notes))

    def on_mount(self) -> None:
        """Begin."""
        logging.root.addHandler(self._logs)
        if self._signals:
            self._heed_signals()
        self.push_screen(BenchScreen())
        if self._job is not None and self.stations:
            self.produce(self.stations[0], self._job)
        self.set_interval(POLL, self._poll)

    def _poll(self) -> None:
        news = False
        for station in self.stations:
            before = station.standing
            news |= station.poll()
            if before is not station.standing and station.outcome is not None:
                self._ended(station)
        news |= self._plugged()
        # Time left changes without news, but not that often.
        self.looks += 1
        if news or self.looks % IDLE_TICKS == 0:
            self.refresh_screen()
        if self.leaving and not any(station.actor.alive for station in self.stations):
            self.exit()

    def _ended(self, station: Station) -> None:
        if station.busy or station.standing is Standing.READY:
            return
        self.bell()
        outcome = station.outcome
        if outcome is not None and getattr(self.screen, "station", None) is not station:
            kind = "information" if outcome.verdict == PASS else "error"
            self.notify(outcome.headline, title=f"{station.name}: {outcome.verdict}", severity=kind)

    def refresh_screen(self) -> None:
        """Show what there is to show."""
        if isinstance(self.screen, View):
            self.screen.refresh_view()

    def _plugged(self) -> bool:
        latest = self._watch.latest if self._watch is not None else None
        if latest is None or latest is self._seen:
            return False
        self._seen = latest
        here = dict(latest.programmers)
        for station in self.stations:
            if station.url in here and station.standing is Standing.GONE:
                station.standing = Standing.NEW
                station.look()
            elif station.url not in here and station.url.startswith("ftdi:"):
                station.unplug()
        known = {station.url for station in self.stations}
        for url, name in here.items():
            if url not in known:
                self.add_station(url, name)
        return True

    @property
    def trouble(self) -> str:
        """Why programmers cannot be found, or ""."""
        error = self._seen.error if self._seen is not None else None
        return f"{error.message} [{error.code}]" if error is not None else ""

    # --- what every screen can do -----------------------------------------------------------

    def copy_command(self, command: str) -> None:
        """Copy a command line to the clipboard of the terminal, and show it in full."""
        self.copy_to_clipboard(command)
        self.notify(command, title="copied, if your terminal lets programs copy", timeout=8)

    def action_light_or_dark(self) -> None:
        """Change between a light and a dark theme."""
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"

    def action_help(self) -> None:
        """Say what this screen is for."""
        from hwflash_tui.screens.help import HelpScreen

        if isinstance(self.screen, View) and not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_history(self) -> None:
        """What was done on this computer."""
        from hwflash_tui.screens.history import HistoryScreen

        if not self.locked and not isinstance(self.screen, HistoryScreen):
            self.push_screen(HistoryScreen())

    def action_doctor(self) -> None:
        """Is this computer ready?"""
        from hwflash_tui.screens.doctor import DoctorScreen

        if not self.locked and not isinstance(self.screen, DoctorScreen):
            self.push_screen(DoctorScreen())

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the command palette offers: Textual's own, and what the screen at hand can do."""
        for key, active in screen.active_bindings.items():
            binding = active.binding
            if binding.description and active.enabled and binding.action != "command_palette":
                yield SystemCommand(
                    binding.description, f"key {key}",
                    lambda action=binding.action, node=active.node: self._run(action, node),
                )  # fmt: skip
        yield SystemCommand("Light or dark", "Change the theme", self.action_light_or_dark)
        for command in super().get_system_commands(screen):  # pyright: ignore[reportUnknownMemberType]
            if command.title not in ("Keys", "Quit"):
                yield command

    def _run(self, action: str, node: object) -> None:
        self.call_later(self.run_action, action, cast("App[None]", node))

    # --- the end ----------------------------------------------------------------------------

    async def action_quit(self) -> None:
        """Quit; while a chip is being changed only after asking."""
        if self.leaving or isinstance(self.screen, QuitScreen):
            return
        if self.locked:
            self.notify("Leave production first: Escape.", severity="warning")
            return
        changing = [item for item in self.stations if item.standing in _CHANGING]
        if changing:
            self.push_screen(QuitScreen(changing), lambda yes: self.leave() if yes else None)
        else:
            self.leave()

    def leave(self) -> None:
        """Stop after this block, everywhere; the application ends when every thread has."""
        if self.is_running and any(station.busy for station in self.stations):
            self.notify("Stopping after this block; then the bench ends.", timeout=60)
        self._leaving()
        for station in self.stations:
            station.stop()
            station.actor.close()
        if self._watch is not None:
            self._watch.close()

    def _leaving(self) -> None:
        """Remember whose work is cut short, the first time."""
        if not self.leaving:
            self._cut_short = [station for station in self.stations if station.busy]
        self.leaving = True

    @property
    def half_written(self) -> HwflashError | None:
        """What the end of the bench left in an unknown state; to be asked when every thread has
        ended. Nobody has seen it on the screen.
        """
        for station in self._cut_short:
            station.poll()
            if station.standing is Standing.UNKNOWN and station.trouble is not None:
                return station.trouble
        return None

    def close_threads(self) -> None:
        """Wait for every thread; however the application ended."""
        self.leave()
        for station in self.stations:
            station.actor.join()
        if self._watch is not None:
            self._watch.join()
        logging.root.removeHandler(self._logs)

    def _heed_signals(self) -> None:
        """A signal, such as of a lost SSH connection, ends the application in good order.

        Not by way of the event loop: that may be waiting for a terminal that is gone.
        """
        for number in END_SIGNALS:
            signal.signal(number, self._end_by_signal)

    def _end_by_signal(self, number: int, _frame: object) -> None:
        if self.leaving:
            return
        self._leaving()
        for station in self.stations:
            station.actor.close()
        if self._watch is not None:
            self._watch.close()
        threading.Thread(target=self._last_resort, args=(number,), daemon=True).start()

    def _last_resort(self, number: int) -> None:
        """End the process when every actor has ended and the interface does not, for want of a
        terminal. Nothing is lost by then: journals are closed, programmers released.
        """
        for station in self.stations:
            station.actor.join()
        time.sleep(GRACE)
        os._exit(128 + number)


class _ThreadLog(logging.Handler):
    """Errors that a library logs go to the log of the station whose thread it was."""

    def __init__(self, app: BenchApp) -> None:
        super().__init__(logging.ERROR)
        self._app = app

    def emit(self, record: logging.LogRecord) -> None:
        for station in self._app.stations:
            if station.actor.ident == record.thread:
                station.mailbox.warning(record.getMessage(), time=time.time())


def run_bench(
    programmers: Sequence[str],
    state: Path,
    environ: Mapping[str, str] = os.environ,
    job: Checked | None = None,
) -> None:
    """Run the bench in this terminal until somebody quits.

    Args:
        programmers: URLs; none means whatever is plugged in.
        state: the state directory.
        environ: environment variables.
        job: begin with production on the first programmer.

    Raises:
        ChipStateUnknown: the end of the bench stopped a write half way.
    """
    before = logging.root.handlers
    signals = {number: signal.getsignal(number) for number in END_SIGNALS}
    logging.root.handlers = []  # the screen is not for log lines
    watch = PlugWatch() if not programmers else None
    try:
        app = BenchApp(
            programmers, state=state, environ=environ, watch=watch, signals=True, job=job
        )
    except BaseException:
        if watch is not None:
            watch.close()
        raise
    try:
        with suppress(KeyboardInterrupt):
            app.run()
    finally:
        app.close_threads()
        logging.root.handlers = before
        for number, handler in signals.items():
            signal.signal(number, handler)
    if app.return_code:
        raise SystemExit(app.return_code)
    if (error := app.half_written) is not None:
        raise error
