"""What a screen is for, and its keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.text import Text
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.dom import DOMNode
from textual.widget import Widget
from textual.widgets import Static

from hwflash_tui.screens.base import View

EVERYWHERE: Final = """\
Everywhere: Tab and Shift+Tab go from field to field, arrows move in lists, Enter opens or presses,
Escape goes back (work goes on). Ctrl+P finds every action by name, Ctrl+Y copies the command line
shown below, Ctrl+T changes between light and dark, Ctrl+Q quits.

Nothing is written before the chip was identified, held against the board, read, backed up, and you
have said yes to the plan. A stop means: after this block. A write that stopped can be resumed, and
the backup restored, also tomorrow.

Signs: ● ready   … at work   ? waits for your yes   ► writing   ■ stopping or stopped
       ✓ PASS   ✗ FAIL, chip unchanged   ! chip in an unknown state   - unplugged"""


def _own(node: DOMNode) -> list[Binding]:
    """Keys that classes of the bench give, not those that every Textual widget has."""
    classes = [item for item in type(node).__mro__ if item.__module__.startswith("hwflash_tui")]
    return list(
        Binding.make_bindings(key for item in classes for key in vars(item).get("BINDINGS", ()))
    )


class HelpScreen(View):
    """Help for the screen below."""

    NAME = "Help"

    def __init__(self, about: View) -> None:
        super().__init__()
        self._about = about
        self._keys = [
            (active.binding.key_display or key, active.binding.description)
            for key, active in about.active_bindings.items()
            if active.binding.description
            and type(active.node).__module__.startswith("hwflash_tui")
            and active.binding in _own(active.node)
        ]

    def body(self) -> Iterable[Widget]:
        """Purpose, keys, what holds everywhere."""
        text = Text()
        text.append(f"{self._about.NAME}\n", "bold")
        text.append(f"{self._about.PURPOSE}\n\n")
        for key, description in self._keys:
            text.append(f"{key:>10}  ", "bold")
            text.append(f"{description}\n")
        text.append(f"\n{EVERYWHERE}")
        yield VerticalScroll(Static(text), classes="page")
