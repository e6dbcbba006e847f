"""Watching a console: every line as it comes, until what was waited for has come.

Limits: patterns are looked for line by line, and in the line that has no end yet, such as a
prompt.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from hwflash.console import Console
from hwflash.errors import EnvironmentFault, Interrupted, ProgrammerError, UsageError

#: Lines that a result keeps.
TAIL_LINES: Final = 20
_ANYTHING: Final = re.compile(r"(?s).+")
_LOOK_EVERY: Final = 0.25


@dataclass(frozen=True, slots=True)
class Heard:
    """A pattern that was found.

    Attributes:
        pattern: the regular expression.
        line: where it was found.
        seconds: when, since the console was opened.
    """

    pattern: str
    line: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen on a console.

    Attributes:
        heard: the patterns that came, in that order.
        missing: those that did not.
        tail: the last lines.
        lines: how many lines came.
        seconds: how long it was watched.
        bytes: received in that time.
    """

    heard: tuple[Heard, ...]
    missing: tuple[str, ...]
    tail: tuple[str, ...]
    lines: int
    seconds: float
    bytes: int


@dataclass(slots=True)
class _Ear:
    patterns: dict[str, re.Pattern[str]]
    on_line: Callable[[str], None] | None
    heard: list[Heard] = field(default_factory=list[Heard])
    tail: deque[str] = field(default_factory=lambda: deque[str](maxlen=TAIL_LINES))
    lines: int = 0
    rest: str = ""

    def take(self, text: str, now: float) -> None:
        *whole, self.rest = (self.rest + text).split("\n")
        for line in whole:
            self._look(line, now)
            self._end(line)
        self._look(self.rest, now)

    def finish(self) -> None:
        """The line without an end is one after all."""
        if self.rest:
            self._end(self.rest)
            self.rest = ""

    def _end(self, line: str) -> None:
        self.lines += 1
        self.tail.append(line)
        if self.on_line is not None:
            self.on_line(line)

    def _look(self, line: str, now: float) -> None:
        for name in [name for name, pattern in self.patterns.items() if pattern.search(line)]:
            del self.patterns[name]
            self.heard.append(Heard(name, line, round(now, 3)))


def check_patterns(patterns: Sequence[str]) -> None:
    """Refuse what is no regular expression.

    Raises:
        UsageError: one is none (``usage.pattern``).
    """
    for item in patterns:
        try:
            re.compile(item)
        except (re.error, RecursionError) as exc:
            raise UsageError(
                f"{item!r} is no regular expression: {exc}", code="usage.pattern", pattern=item
            ) from exc


def watch(
    console: Console,
    patterns: Sequence[str],
    timeout: float | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    on_line: Callable[[str], None] | None = None,
) -> Watched:
    """Read a console until every pattern has come, in any order, or time is up.

    Args:
        console: which.
        patterns: regular expressions; none: watch until time is up.
        timeout: seconds of the clock; None: for ever.
        clock: what patience is counted by.
        on_line: is given every line as it ends.

    Raises:
        ProgrammerLost: the port is gone (``console.lost``); ``context["tail"]`` has the last
            lines.
        Interrupted: a stop was asked for.
        EnvironmentFault: the log cannot be written (``console.log``).
    """
    ear = _Ear({item: re.compile(item) for item in patterns}, on_line)
    began, received = time.monotonic(), console.received
    limit = None if timeout is None else clock() + timeout
    try:
        while (ear.patterns or not patterns) and (limit is None or clock() < limit):
            left = _LOOK_EVERY if limit is None else min(_LOOK_EVERY, limit - clock())
            try:
                found = console.expect(_ANYTHING, max(left, 0.0))
            except EnvironmentFault as exc:
                if exc.code != "console.timeout":
                    raise
            else:
                ear.take(found.match[0], console.elapsed())
    except ProgrammerError as exc:
        ear.take(console.text, console.elapsed())
        ear.finish()
        exc.context = {**exc.context, "tail": list(ear.tail)}
        raise
    except Interrupted:
        ear.finish()
        raise
    ear.finish()
    return Watched(
        tuple(ear.heard), tuple(ear.patterns), tuple(ear.tail), ear.lines,
        round(time.monotonic() - began, 3), console.received - received,
    )  # fmt: skip
