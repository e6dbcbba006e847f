"""Asked before quitting while a chip is being changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from hwflash_tui.screens.base import Dialog
from hwflash_tui.station import Station


class QuitScreen(Dialog[bool]):
    """Yes stops after the block at work; no goes on."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "no", "Go on")]

    def __init__(self, changing: Sequence[Station]) -> None:
        super().__init__()
        self._changing = changing

    def compose(self) -> ComposeResult:
        """The question; the harmless answer has the focus."""
        names = ", ".join(station.name for station in self._changing)
        with Vertical(classes="dialog"):
            yield Static(
                f"A chip is being changed: {names}.\n\nQuitting stops after the block at work. "
                "The chip is then half written; the write can be resumed, or the backup restored.",
                markup=False,
            )
            with Horizontal(classes="buttons"):
                yield Button("Go on writing", id="no", variant="primary")
                yield Button("Stop after this block and quit", id="yes", variant="error")

    def on_mount(self) -> None:
        """The harmless one."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The answer."""
        self.dismiss(event.button.id == "yes")

    def action_no(self) -> None:
        """Escape."""
        self.dismiss(False)
