"""The supply of the board, and its console while it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from hwflash.errors import HwflashError
from hwflash.testing.programmer import BenchProgrammer

if TYPE_CHECKING:
    from hwflash.console import Console, Found
    from hwflash.jobs.watch import Watched

#: Patience with a board, in seconds; of a simulated one in seconds of its own.
PATIENCE: Final = 90.0


class BenchPower:
    """The supply of the board; off at the end, whatever happened.

    The programmer is given free before the board is switched on, and refused while it is on.

    Args:
        programmer: the programmer of the run.
        opened: is told of each console that is opened.
        log: file for the lines of the console.

    Attributes:
        console: what the board says and is told.

    Raises:
        UsageError: no board, or one that cannot be switched (``power.none``).
    """

    def __init__(
        self,
        programmer: BenchProgrammer,
        opened: Callable[[Console], object],
        log: Path | None = None,
    ) -> None:
        from hwflash.jobs.rig import Rig
        from hwflash.progress import CancelToken

        self._programmer = programmer
        self._opened = opened
        self.rig: Rig = Rig(programmer.request(), programmer.reporter, CancelToken(), log)
        self.console = BenchConsole(self)
        self._before = programmer.power
        programmer.power = self

    @property
    def is_on(self) -> bool:
        """Whether the board was switched on."""
        return self.rig.power.state == "on"

    def on(self) -> None:
        """Switch the board on, its console open from the first byte on.

        Raises:
            HwflashError: see `hwflash.jobs.rig.Rig.on`.
        """
        self._programmer.release()
        with self.told():
            self.rig.on()
        if self.rig.board.console is not None or self.rig.power.console is not None:
            self._opened(self.rig.console)

    def off(self) -> None:
        """Switch the board off, as by pulling the plug, and wait until it is without supply."""
        with self.told():
            self.rig.off()

    def cycle(self) -> None:
        """Off and on."""
        self.off()
        self.on()

    def boot(self, *until: str, timeout: float = PATIENCE) -> Watched:
        """Switch the board on, and wait until it says what a healthy one says.

        Args:
            until: regular expressions that must all come, in any order; default: those of the
                board's ``[expect]``.
            timeout: seconds by `seconds`.

        Raises:
            AssertionError: some did not come; says which, and what came last.
            UsageError: nothing says what must come (``boot.no-marker``), or it is no regular
                expression (``usage.pattern``).
        """
        __tracebackhide__ = True
        from hwflash.jobs.boot_check import BootOptions, markers
        from hwflash.jobs.watch import check_patterns, watch

        wanted = markers(self.rig, BootOptions(until))
        check_patterns(wanted)
        self.on()
        with self.told():
            found = watch(self.rig.console, wanted, timeout, clock=self.seconds)
        if found.missing:
            lines = [f"board {self.rig.board.name} did not say {', '.join(found.missing)}"]
            raise AssertionError("\n".join([*lines, *(f"  {line}" for line in found.tail)]))
        return found

    @contextmanager
    def told(self) -> Generator[None]:
        """A failure here must not say that nothing was changed when the board has run."""
        try:
            yield
        except HwflashError as error:
            self.rig.power.add_to(error)
            raise

    def seconds(self) -> float:
        """The clock by which patience is counted: the wall's, or a simulated board's own."""
        return self.rig.seconds()

    def close(self) -> None:
        """Leave the board off. May be called twice."""
        self._step_back()
        self.rig.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._step_back()
        self.rig.__exit__(kind, error, trace)

    def _step_back(self) -> None:
        """A supply of a wider scope is again the one that has to be off for the programmer."""
        if self._programmer.power is self:
            self._programmer.power = self._before


class BenchConsole:
    """The console of the board, the same object whenever it is on.

    Args:
        power: the supply of the board.
    """

    def __init__(self, power: BenchPower) -> None:
        self._power = power

    @property
    def now(self) -> Console:
        """The console of the board that is on.

        Raises:
            UsageError: the board has none (``console.none``) or is off (``power.is-off``).
        """
        return self._power.rig.console

    @property
    def text(self) -> str:
        """What has come since the last wait ended."""
        return self.now.text

    @property
    def lines(self) -> list[str]:
        """The last lines, with the seconds since the console was opened."""
        return [str(line) for line in self.now.lines]

    def expect(
        self,
        patterns: str | re.Pattern[str] | Sequence[str | re.Pattern[str]],
        timeout: float = PATIENCE,
    ) -> Found:
        """Wait until one of some regular expressions matches.

        Args:
            patterns: one or more; ``^`` and ``$`` are line by line.
            timeout: seconds by `BenchPower.seconds`.

        Raises:
            EnvironmentFault: nothing matched in time (``console.timeout``).
            ProgrammerLost: the console is gone (``console.lost``).
        """
        with self._power.told():
            return self.now.expect(patterns, timeout, self._power.seconds)

    def send(self, data: str | bytes) -> None:
        """Send text (UTF-8) or bytes as they are."""
        with self._power.told():
            self.now.send(data)
