"""What an actor's thread says, kept until the interface looks.

A job may report hundreds of events a second. Of progress only the last event of each phase
counts, so that is all that is kept; words are kept up to a number, the oldest go first.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hwflash.progress import Progress

#: Words kept between two looks.
LINES: Final = 200


@dataclass(frozen=True, slots=True)
class Line:
    """Something a job said.

    Attributes:
        time: when, as of `time.time`.
        text: what.
        warning: the user must know it.
        facts: the facts in it.
    """

    time: float
    text: str
    warning: bool
    facts: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came since the last look.

    Attributes:
        progress: the last event of each phase, the phase that spoke last at the end.
        lines: words, the oldest first.
        posts: what the thread wants the interface to know, in order.
        events: how many progress events these stand for.
    """

    progress: tuple[Progress, ...]
    lines: tuple[Line, ...]
    posts: tuple[Any, ...]
    events: int

    def __bool__(self) -> bool:
        return bool(self.progress or self.lines or self.posts)


class Mailbox:
    """A `hwflash.progress.Reporter` for one thread to fill and another to empty."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._progress: dict[str, Progress] = {}
        self._lines: deque[Line] = deque(maxlen=LINES)
        self._posts: list[Any] = []
        self._events = 0

    def progress(self, event: Progress, /) -> None:
        """Keep the event in place of the last one of its phase."""
        with self._lock:
            self._progress.pop(event.phase, None)
            self._progress[event.phase] = event
            self._events += 1

    def info(self, message: str, /, **context: object) -> None:
        """Keep a remark."""
        self._say(message, context, warning=False)

    def warning(self, message: str, /, **context: object) -> None:
        """Keep a warning."""
        self._say(message, context, warning=True)

    def post(self, item: Any) -> None:
        """Let the interface know something; never dropped."""
        with self._lock:
            self._posts.append(item)

    def take(self) -> Delivery:
        """Everything that came since the last time; the mailbox is empty then."""
        with self._lock:
            found = Delivery(
                tuple(self._progress.values()), tuple(self._lines), tuple(self._posts),
                self._events,
            )  # fmt: skip
            self._progress.clear()
            self._lines.clear()
            self._posts.clear()
            self._events = 0
        return found

    def _say(self, message: str, context: Mapping[str, object], *, warning: bool) -> None:
        with self._lock:
            self._lines.append(Line(time.time(), message, warning, dict(context)))
