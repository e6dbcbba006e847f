"""The programmer of a run: opened when it is needed, kept, and given free on request."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from hwflash.errors import (
    ChipError,
    ChipStateUnknown,
    HwflashError,
    ProgrammerBusy,
    ProgrammerError,
)
from hwflash.testing.interrupts import stop_at_safe_point
from hwflash.testing.record import ChipFacts, Record
from hwflash.testing.settings import Settings

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.jobs.opening import Request
    from hwflash.jobs.session import Session
    from hwflash.progress import CancelToken, Progress
    from hwflash.testing.power import BenchPower

_log = logging.getLogger(__name__)
#: Wall seconds between two looks whether a programmer is free.
_LOOK_EVERY: Final = 0.2
#: After these the bus is not what it was, and the chip may be another one.
_LOST: Final = (ProgrammerError, ChipError, ChipStateUnknown)


class LogReporter:
    """A reporter that writes to the log, which pytest shows with a test that failed."""

    def progress(self, event: Progress, /) -> None:
        """Drop the event."""

    def info(self, message: str, /, **context: object) -> None:
        """What a job has to say."""
        _log.info("%s", message)

    def warning(self, message: str, /, **context: object) -> None:
        """What a person must know."""
        _log.warning("%s", message)


class BenchProgrammer:
    """The programmer of this run, or of this worker.

    It is opened and its chip identified when it is needed first, and then held: nobody else gets
    it between two tests. After a failure of programmer or chip it is opened anew.

    Args:
        settings: what the run was told.
        board: the board, or None.

    Attributes:
        settings: as given.
        board: as given.
        record: what the present test did.
        chip: the chip that was found last, or None.
        reporter: where jobs report.
        notes: of transactions that have not ended.
        power: the supply of the board, where a test uses it.
    """

    def __init__(self, settings: Settings, board: Board | None) -> None:
        self.settings = settings
        self.board = board
        self.record = Record()
        self.chip: ChipFacts | None = None
        self.reporter = LogReporter()
        self.notes: set[Path] = set()
        self.power: BenchPower | None = None
        self._session: Session | None = None
        self._again: str | None = None

    @property
    def named(self) -> str | None:
        """The URL it is named by; None means the only one attached.

        Raises:
            UsageError: this worker has none (``usage.bench-workers``).
        """
        return self.settings.programmer(self.board.programmer.url if self.board else None)

    @property
    def url(self) -> str:
        """The URL that opens it again; it is opened for that once."""
        if self._again is None:
            self.session()
        assert self._again is not None  # noqa: S101 - a session has one
        return self._again

    def session(self) -> Session:
        """Programmer and chip, opened if they are not open.

        Raises:
            ProgrammerError: none, several, not accessible, or busy for longer than
                ``--hwflash-wait``.
            ChipError: no chip, an unknown one, or not the board's.
            UsageError: a bad URL.
        """
        if self._session is not None:
            return self._session
        session = self._opened()
        self._session, self._again = session, session.programmer.url
        self.chip = ChipFacts.of(session)
        return session

    def request(self) -> Request:
        """What opens it: as it is named, and once it was open without a simulated accident."""
        from hwflash.jobs.opening import Request

        url = self._again or self.named
        return Request(
            programmer=self._with_content(url) if url is not None else None,
            board=self.board,
            # What it says was looked at, and a worker may have another programmer.
            environ={**self.settings.environ, "HWFLASH_PROGRAMMER": ""},
        )

    def release(self) -> None:
        """Give the programmer free; the next use opens it again."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def drop(self) -> None:
        """Close what is broken, or at the end; that closing fails too is no news."""
        with suppress(HwflashError, OSError):
            self.release()

    @contextmanager
    def released(self) -> Generator[str]:
        """The programmer is free meanwhile, for a command or a board that runs; gives its URL."""
        url = self.url
        self.release()
        try:
            yield url
        finally:
            self.release()

    @contextmanager
    def working(self, *, finish: bool = False) -> Generator[tuple[Session, CancelToken]]:
        """Around everything that is done on the chip; time and failures are looked after.

        Args:
            finish: Ctrl-C waits until it is done.
        """
        with stop_at_safe_point(finish=finish) as cancel:
            session = self.session()
            clock = session.programmer.bus.clock
            began = clock.now()
            self.record.used = True
            try:
                yield session, cancel
            except HwflashError as error:
                if isinstance(error, _LOST):
                    self.drop()
                raise
            finally:
                self.record.seconds += clock.now() - began

    # --- inside -------------------------------------------------------------------------

    def _opened(self) -> Session:
        from hwflash.jobs.session import open_session

        request = self.request()
        limit = time.monotonic() + self.settings.patience()
        while True:
            try:
                return open_session(request, self.reporter)
            except ProgrammerBusy as busy:
                # A board that is on stays on, however long is waited.
                if busy.code != ProgrammerBusy.code or time.monotonic() >= limit:
                    raise
                self.reporter.info(f"waiting: {busy}")
                time.sleep(_LOOK_EVERY)

    def _with_content(self, text: str) -> str:
        """A simulated chip keeps its content for the run, as a real one would."""
        from hwflash.bus.url import parse_url

        url = parse_url(text)
        if url.scheme != "sim" or "image" in url.options:
            return text
        file = self.settings.folder.absolute() / "chip.bin"
        return f"{text}{'&' if '?' in text else '?'}image={quote(str(file), safe='/')}"
