"""The board under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hwflash.testing.flash import BenchFlash

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.compare.sides import Side
    from hwflash.console import Console
    from hwflash.testing.power import BenchPower


class BenchBoard:
    """The board under test: what its file says, and its flash.

    Args:
        definition: the board file.
        flash: the flash of the board.
        opened: is told of each console that is opened.

    Attributes:
        definition: as given.
        flash: as given; the programmer is opened when it is used.
    """

    def __init__(
        self, definition: Board, flash: BenchFlash, opened: Callable[[Console], object]
    ) -> None:
        self.definition = definition
        self.flash = flash
        self._opened = opened

    @property
    def name(self) -> str:
        """As the board file says."""
        return self.definition.name

    def powered(self, log: Path | None = None) -> BenchPower:
        """Its supply, still off, for a ``with`` statement; for fixtures of any scope.

        Args:
            log: file for the lines of the console.

        Raises:
            UsageError: its file does not say how it is switched (``power.none``).
        """
        from hwflash.testing.power import BenchPower

        return BenchPower(self.flash.programmer, self._opened, log)

    def side(self) -> Side:
        """Its flash, for a comparison."""
        return self.flash.side()
