"""All that a run of pytest shares about its bench: settings, board, programmer, records."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from hwflash.errors import HwflashError, UsageError
from hwflash.testing.record import Record
from hwflash.testing.settings import Settings, is_model

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.console import Console
    from hwflash.testing.board import BenchBoard
    from hwflash.testing.flash import BenchFlash
    from hwflash.testing.programmer import BenchProgrammer

#: Fixtures that stand for the chip; a test that names one reports which it was.
FIXTURES: Final = frozenset({"board", "programmer", "flash", "variables", "power", "console"})
#: Lines of a console that are shown with a test that failed.
LINES: Final = 40


class Scope(Protocol):
    """A test or a fixture that runs at present."""

    def addfinalizer(self, finalizer: Callable[[], object], /) -> object:
        """Register what is to be done when it ends."""
        ...


class Bench:
    """The bench of a run, or of one worker of it. Opens nothing before it is used.

    Args:
        settings: what the run was told; its folder is made here.
        scopes: tests and fixtures that run at present, the innermost last.

    Attributes:
        settings: as given, with a folder of the run's own.
        consoles: of the present test, by name.
    """

    def __init__(self, settings: Callable[[Path], Settings], scopes: list[Scope]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hwflash-bench-")
        self.settings = settings(Path(self._folder.name))
        self.consoles: dict[str, Console] = {}
        self._scopes = scopes

    @cached_property
    def definition(self) -> Board | None:
        """The board that was named, or None.

        Raises:
            UsageError: there is no such board (``usage.board``).
            BoardError: its file has faults.
        """
        if not self.settings.board:
            return None
        from hwflash.boards import load_board

        return load_board(self.settings.board, self.settings.environ)

    @cached_property
    def programmer(self) -> BenchProgrammer:
        """The programmer, which may not be open yet."""
        from hwflash.testing.programmer import BenchProgrammer

        return BenchProgrammer(self.settings, self.definition)

    @cached_property
    def flash(self) -> BenchFlash:
        """The flash behind it."""
        from hwflash.testing.flash import BenchFlash

        return BenchFlash(self.programmer, self.until)

    @cached_property
    def board(self) -> BenchBoard:
        """The board.

        Raises:
            UsageError: none was named (``usage.bench-board``), or there is none of that name.
        """
        from hwflash.testing.board import BenchBoard

        if self.definition is None:
            raise UsageError("no board was named", code="usage.bench-board")
        return BenchBoard(
            self.definition, self.flash, lambda console: self.consoles.update(board=console)
        )

    def until(self, finalizer: Callable[[], object]) -> None:
        """Have something done when the present fixture or test ends, if there is one."""
        if self._scopes:
            self._scopes[-1].addfinalizer(finalizer)

    # --- around each test -----------------------------------------------------------------

    def begin(self) -> None:
        """A test begins."""
        if "programmer" not in self.__dict__:
            self.consoles.clear()
            return
        self.programmer.record = Record()
        power = self.programmer.power
        if power is None or not power.is_on:  # a fixture may keep a board on over several tests
            self.consoles.clear()

    def properties(self, fixtures: Iterable[str]) -> list[tuple[str, str]]:
        """What a test that ends has to report.

        Args:
            fixtures: names of those it used.
        """
        if "programmer" not in self.__dict__:
            return []
        record = self.programmer.record
        if not record.used and FIXTURES.isdisjoint(fixtures):
            return []
        board = self.definition.name if self.definition is not None else None
        return list(record.properties(self.programmer.chip, board))

    def reason_to_skip(self, marker: str) -> str | None:
        """Why a test with a marker is not for this bench, or None.

        Raises:
            HwflashError: a bad board or URL.
        """
        if marker == "hwflash_hardware" and not self._is_real:
            return "needs a real programmer (--hwflash-programmer)"
        if marker == "hwflash_simulated" and self._is_real:
            return "for simulated programmers only"
        if marker == "hwflash_destructive" and self._is_real and not self.settings.destructive:
            return "may wear or lose the board: say --hwflash-destructive"
        return None

    @cached_property
    def _is_real(self) -> bool:
        """Whether a real programmer is named or attached."""
        named = self.settings.programmer(
            self.definition.programmer.url if self.definition else None
        )
        if named is not None:
            return not is_model(named)
        from hwflash.bus.discovery import find_all

        try:
            return bool(find_all())
        except HwflashError:  # no libusb, no permission: nothing that could be used
            return False

    def console_sections(self) -> Iterator[tuple[str, str]]:
        """The last lines of each console of the present test."""
        for name, console in self.consoles.items():
            lines = [str(line) for line in console.lines][-LINES:]
            if console.text.strip():
                lines.append(console.text.rpartition("\n")[2])
            yield f"console of {name}", "\n".join(lines)

    def close(self) -> None:
        """The end of the run: give free what no fixture has given free."""
        if "programmer" in self.__dict__:
            self.programmer.drop()
        self._folder.cleanup()
