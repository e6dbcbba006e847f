"""A word in letters that can be read across a room."""

from __future__ import annotations

from typing import Final

from rich.text import Text
from textual.widget import Widget

#: Five rows of five dots, as far as verdicts need them.
_FONT: Final = {
    "A": (" ### ", "#   #", "#####", "#   #", "#   #"),
    "D": ("#### ", "#   #", "#   #", "#   #", "#### "),
    "E": ("#####", "#    ", "#### ", "#    ", "#####"),
    "F": ("#####", "#    ", "#### ", "#    ", "#    "),
    "I": ("#####", "  #  ", "  #  ", "  #  ", "#####"),
    "N": ("#   #", "##  #", "# # #", "#  ##", "#   #"),
    "R": ("#### ", "#   #", "#### ", "#  # ", "#   #"),
    "U": ("#   #", "#   #", "#   #", "#   #", " ### "),
    "W": ("#   #", "#   #", "# # #", "## ##", "#   #"),
    "Y": ("#   #", " # # ", "  #  ", "  #  ", "  #  "),
    "L": ("#    ", "#    ", "#    ", "#    ", "#####"),
    "O": (" ### ", "#   #", "#   #", "#   #", " ### "),
    "P": ("#### ", "#   #", "#### ", "#    ", "#    "),
    "S": (" ####", "#    ", " ### ", "    #", "#### "),
    "T": ("#####", "  #  ", "  #  ", "  #  ", "  #  "),
}
ROWS: Final = 5


def big(word: str, width: int) -> list[str]:
    """A word in large letters, as wide as fits into ``width`` columns; else the word itself."""
    dots = len(word) * 6 - 1
    scale = 2 if 2 * dots <= width else 1
    if dots > width or any(letter not in _FONT for letter in word):
        return [word]
    return [
        " ".join(
            "".join(("█" if dot == "#" else " ") * scale for dot in _FONT[letter][row])
            + " " * (scale - 1)
            for letter in word
        ).rstrip()
        for row in range(ROWS)
    ]


class Banner(Widget):
    """The word, in the middle, over the whole width."""

    DEFAULT_CSS = "Banner { height: 7; content-align: center middle; }"

    def __init__(self, word: str = "", *, id: str | None = None) -> None:  # noqa: A002 - Textual's
        super().__init__(id=id)
        self._word = word

    @property
    def word(self) -> str:
        """What it says."""
        return self._word

    @word.setter
    def word(self, word: str) -> None:
        if word != self._word:
            self._word = word
            self.refresh()

    def render(self) -> Text:
        """The letters."""
        rows = big(self._word, self.size.width - 4)
        width = max(map(len, rows))
        return Text("\n".join(row.ljust(width) for row in rows), no_wrap=True)
