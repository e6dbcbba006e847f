"""The board under test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwflash.testing.flash import BenchFlash

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.compare.sides import Side


class BenchBoard:
    """The board under test: what its file says, and its flash.

    Args:
        definition: the board file.
        flash: the flash of the board.

    Attributes:
        definition: as given.
        flash: as given; the programmer is opened when it is used.
    """

    def __init__(self, definition: Board, flash: BenchFlash) -> None:
        self.definition = definition
        self.flash = flash

    @property
    def name(self) -> str:
        """As the board file says."""
        return self.definition.name

    def side(self) -> Side:
        """Its flash, for a comparison."""
        return self.flash.side()
