"""People around a gang: who watches it, and who connects boards to its programmers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hwflash.jobs.gang_devices import Device
from hwflash.jobs.gang_result import Row
from hwflash.jobs.gang_wire import Said
from hwflash.progress import Progress


class Watcher(Protocol):
    """Is told how each programmer gets on."""

    def progress(self, device: Device, event: Progress, /) -> None:
        """Work went on."""
        ...

    def said(self, device: Device, said: Said, /) -> None:
        """A remark or a warning."""
        ...

    def ended(self, row: Row, /) -> None:
        """A unit is done or has failed."""
        ...

    def warning(self, message: str, /, **context: object) -> None:
        """Something about the gang as a whole."""
        ...


class Operator(Protocol):
    """Connects boards, unit after unit, and says when one is there."""

    def ask(self, device: Device, unit: int, /) -> None:
        """Ask for a board; does not wait."""
        ...

    def fileno(self) -> int:
        """What becomes readable when there is an answer."""
        ...

    def answer(self) -> bool:
        """The answer: go on, or stop."""
        ...


class Desk:
    """Where boards are asked for, one after the other."""

    def __init__(self, operator: Operator | None) -> None:
        self._operator = operator
        self._asked: Device | None = None
        self._there: set[int] = set()
        self.declined = False

    @property
    def immediate(self) -> bool:
        """An answer is there without waiting, as from a file."""
        return self._asked is not None and not self.waitable()

    def ready(self, device: Device, unit: int, *, first: bool) -> bool:
        """Whether a board is connected; asks for it when nobody else is being asked."""
        if self._operator is None or first:
            return True
        if device.number in self._there:
            self._there.discard(device.number)
            return True
        if self._asked is None:
            self._asked = device
            self._operator.ask(device, unit)
        return False

    def waitable(self) -> list[int]:
        """What to wait for, while somebody is asked."""
        if self._asked is None or self._operator is None:
            return []
        try:
            return [self._operator.fileno()]
        except (OSError, ValueError):
            return []

    def answered(self, ready: Sequence[object]) -> bool:
        """Take an answer in, if there is one."""
        if self._asked is None or self._operator is None:
            return False
        if not self.immediate and not any(item in ready for item in self.waitable()):
            return False
        if self._operator.answer():
            self._there.add(self._asked.number)
        else:
            self.declined = True
        self._asked = None
        return True
