"""Asked before something that an operator should not do by a slip."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input, Static

from hwflash_tui.screens.base import Dialog


class UnlockScreen(Dialog[bool]):
    """True when the word was typed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "no", "Back")]

    def __init__(self, word: str, what: str) -> None:
        super().__init__()
        self._word, self._what = word, what

    def compose(self) -> ComposeResult:
        """What to type, and for what."""
        with Vertical(classes="dialog"):
            yield Static(
                f"To {self._what}, type the name of the job: {self._word}\nEscape goes back.",
                markup=False,
            )
            yield Input(id="word", compact=True)

    @on(Input.Submitted)
    def typed(self, event: Input.Submitted) -> None:
        """Compare."""
        if event.value.strip() == self._word:
            self.dismiss(True)
        else:
            self.query_one("#word", Input).value = ""
            self.notify("That is not the name of the job.", severity="warning")

    def action_no(self) -> None:
        """Back."""
        self.dismiss(False)
