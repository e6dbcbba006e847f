"""A serial console: a board's UART, or the serial port of a machine in QEMU.

`Console` reads a `hwflash.console_port.Port` as text and waits for patterns in it.

Limits: the cursor is not followed. Text that a firmware places on the screen (a setup menu)
comes out in the order in which it was sent. A match may span at most `LOOK_BACK` characters.
"""

from __future__ import annotations

import codecs
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hwflash.console_port import Port
from hwflash.errors import EnvironmentFault
from hwflash.progress import CancelToken

CHUNK: Final = 4096
#: Characters kept that no pattern has taken yet.
KEEP: Final = 1 << 20
LOOK_BACK: Final = 4096
#: Lines kept for `Console.lines`.
KEEP_LINES: Final = 10_000
#: A line without an end is cut here, in the log and in `Console.lines`.
LONGEST_LINE: Final = 4096
#: An escape sequence that has not ended after so many characters is none.
_LONGEST_ESCAPE: Final = 256
#: How long a wait looks away from its clock and the cancel token.
_SLICE: Final = 0.1

# --- text -----------------------------------------------------------------------------------

_ESCAPE: Final = re.compile(
    r"\x1b(?:"
    r"\[[0-?]*[ -/]*(?P<csi>[@-~])"  # control sequence
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\)"  # operating system command, such as a window title
    r"|[ -/]+[0-~]"  # character sets
    r"|[0-Z\\^-~])"  # the rest has one character
)
#: What may still become an escape sequence when more comes.
_BEGUN: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[ -/]*)\Z")
_CLEARED: Final = "\x0c"  # stands for a cleared screen while text is filtered
_DROPPED: Final = dict.fromkeys(
    code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\r" + _CLEARED
)


class TextFilter:
    """Bytes of a terminal to text: no escape sequences, a line feed at the end of a line.

    What is incomplete at the end (an escape sequence, a character of several bytes, a carriage
    return) waits for the rest. Clearing the screen begins a new line. Other control characters
    are dropped; bytes that are no UTF-8 come out as U+FFFD.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""
        self._return = ""
        self._last = "\n"

    def feed(self, data: bytes) -> str:
        """The text that is complete with these bytes."""
        text = self._rest + self._decode(data).replace(_CLEARED, "")
        self._rest = ""
        begun = _BEGUN.search(text)
        if begun is not None and len(text) - begun.start() <= _LONGEST_ESCAPE:
            text, self._rest = text[: begun.start()], text[begun.start() :]
        text = self._return + _ESCAPE.sub(self._instead, text).translate(_DROPPED)
        self._return = "\r" if text.endswith("\r") else ""
        text = re.sub(r"\r+\n?", "\n", text.rstrip("\r"))
        # A screen that is cleared at the beginning of a line needs no new one.
        text = re.sub(r"(?<=\n)\x0c+", "", self._last + text)[1:]
        text = re.sub(r"\x0c+", "\n", text)
        self._last = text[-1:] or self._last
        return text

    @staticmethod
    def _instead(match: re.Match[str]) -> str:
        return _CLEARED if match["csi"] == "J" else ""


# --- console --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a console.

    Attributes:
        seconds: when its first character came, in seconds since the console was opened.
        text: without its end.
    """

    seconds: float
    text: str

    def __str__(self) -> str:
        return f"[{self.seconds:10.3f}] {self.text}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a wait ended with.

    Attributes:
        index: which of the patterns.
        match: the match; positions in it mean nothing.
        before: the text in front of it since the last wait.
        seconds: when it was seen, in seconds since the console was opened.
    """

    index: int
    match: re.Match[str]
    before: str
    seconds: float


class Console:
    """Text from and to a serial console.

    Memory stays bounded whatever comes: `KEEP` characters that nobody waited for, and
    `KEEP_LINES` lines.

    Args:
        port: what to read; closed by `close`.
        log: file that every line is written to, with its time. None is no log.
        cancel: a request to stop ends every wait.

    Attributes:
        port: as given.
        dropped: characters that were thrown away because nobody waited for them.
        received: bytes so far.
        lines: the last complete lines.

    Raises:
        EnvironmentFault: the log cannot be written (``console.log``).
    """

    def __init__(
        self, port: Port, log: Path | None = None, cancel: CancelToken | None = None
    ) -> None:
        self.port = port
        self.dropped = 0
        self.received = 0
        self.lines: deque[Line] = deque(maxlen=KEEP_LINES)
        self._cancel = cancel or CancelToken()
        self._filter = TextFilter()
        self._text = ""
        self._searched = 0
        self._started = time.monotonic()
        self._open_line = ""
        self._open_since = 0.0
        self._log: IO[str] | None = None
        if log is not None:
            try:
                self._log = log.open("w", encoding="utf-8", errors="replace")
            except OSError as exc:
                raise _log_fault(log, exc) from exc
        self._log_path = log

    @property
    def text(self) -> str:
        """What has come since the last wait ended."""
        return self._text

    def elapsed(self) -> float:
        """Seconds since the console was opened."""
        return time.monotonic() - self._started

    def expect(
        self,
        patterns: str | re.Pattern[str] | Sequence[str | re.Pattern[str]],
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> Found:
        """Wait until one of some regular expressions matches; the text up to its end is taken.

        Where several match, the one that is first in the text wins, then the first of the list.

        Args:
            patterns: one or more; ``^`` and ``$`` in text patterns are line by line.
            timeout: how long to wait, in seconds of ``clock``.
            clock: what patience is counted by; a guest's own CPU time, for example.

        Raises:
            ProgrammerLost: the port is gone (``console.lost``); what came before it is in
                `text`.
            EnvironmentFault: nothing matched in time (``console.timeout``); ``context["text"]``
                is the end of what came.
            Interrupted: a stop was asked for.
        """
        many = [patterns] if isinstance(patterns, (str, re.Pattern)) else patterns
        compiled = [
            re.compile(item, re.MULTILINE) if isinstance(item, str) else item for item in many
        ]
        limit = clock() + timeout
        self._searched = 0
        while (found := self._search(compiled)) is None:
            self._cancel.check()
            if clock() >= limit:
                raise EnvironmentFault(
                    f"nothing on the console {self.port.name} matched "
                    f"{' or '.join(repr(item.pattern) for item in compiled)} in {timeout:g} s",
                    code="console.timeout",
                    text=self._text[-LOOK_BACK:],
                    seconds=timeout,
                )
            self._pump(_SLICE)
        return found

    def settle(self, quiet: float, timeout: float) -> str:
        """Read until nothing has come for ``quiet`` seconds, ``timeout`` at most; take it all.

        Raises:
            ProgrammerLost: the port is gone (``console.lost``).
            Interrupted: a stop was asked for.
        """
        limit = time.monotonic() + timeout
        last = time.monotonic()
        while (now := time.monotonic()) < limit and now - last < quiet:
            self._cancel.check()
            if self._pump(min(quiet, _SLICE)):
                last = time.monotonic()
        text, self._text = self._text, ""
        return text

    def send(self, data: str | bytes) -> None:
        """Send text (UTF-8) or bytes as they are.

        Raises:
            ProgrammerLost: the port is gone or takes nothing (``console.lost``).
        """
        self.port.write(data.encode("utf-8", "replace") if isinstance(data, str) else data)

    def close(self) -> None:
        """Close port and log. May be called twice.

        Raises:
            EnvironmentFault: the log cannot be written (``console.log``).
        """
        self.port.close()
        log, self._log = self._log, None
        if log is not None:
            with log:
                if self._open_line:
                    self._write_log(log, Line(self._open_since, self._open_line))

    # --- inside -------------------------------------------------------------------------

    def _pump(self, seconds: float) -> bool:
        """Take what comes within this time; whether anything came."""
        data = self.port.read(CHUNK, seconds)
        if not data:
            return False
        self.received += len(data)
        text = self._filter.feed(data)
        self._text += text
        excess = len(self._text) - KEEP
        if excess > 0:
            self.dropped += excess
            self._text = self._text[excess:]
            self._searched = max(self._searched - excess, 0)
        self._keep_lines(text)
        return True

    def _keep_lines(self, text: str) -> None:
        now = self.elapsed()
        *whole, last = text.split("\n")
        for piece in whole:
            self._line(now, piece)
        if last and not self._open_line:
            self._open_since = now
        self._open_line += last
        if len(self._open_line) >= LONGEST_LINE:
            self._line(now, "")

    def _line(self, now: float, piece: str) -> None:
        line = Line(self._open_since if self._open_line else now, self._open_line + piece)
        self._open_line = ""
        self.lines.append(line)
        if self._log is not None:
            self._write_log(self._log, line)

    def _write_log(self, log: IO[str], line: Line) -> None:
        try:
            log.write(f"{line}\n")
            log.flush()
        except OSError as exc:
            # Once is enough: the next line would fail as this one did.
            self._log = None
            with suppress(OSError):
                log.close()
            raise _log_fault(self._log_path, exc) from exc

    def _search(self, patterns: Sequence[re.Pattern[str]]) -> Found | None:
        start = max(self._searched - LOOK_BACK, 0)
        self._searched = len(self._text)
        best: tuple[int, int, re.Match[str]] | None = None
        for index, pattern in enumerate(patterns):
            match = pattern.search(self._text, start)
            if match is not None and (best is None or match.start() < best[0]):
                best = match.start(), index, match
        if best is None:
            return None
        place, index, match = best
        before, self._text = self._text[:place], self._text[match.end() :]
        return Found(index, match, before, self.elapsed())


def _log_fault(path: Path | None, exc: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"{path} cannot be written: {exc.strerror or exc}", code="console.log", path=str(path)
    )
