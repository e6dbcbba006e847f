"""Typing a new value for a variable."""

from __future__ import annotations

from typing import Any, ClassVar, Final, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input, Select, Static

from hwflash.errors import HwflashError
from hwflash.jobs.store_order import KINDS, StoreOrder
from hwflash_tui.screens.base import Dialog

NAMES: Final = {
    "u8": "number, 8 bits",
    "u16": "number, 16 bits",
    "u32": "number, 32 bits",
    "u64": "number, 64 bits",
    "string": "text",
    "utf16": "text, UTF-16",
    "hex": "bytes in hex",
}


class ValueScreen(Dialog[tuple[str, str] | None]):
    """Returns how the value is typed, and the value; nothing is written here."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "none", "Back")]

    def __init__(self, item: dict[str, Any]) -> None:
        super().__init__()
        self._item = item

    def compose(self) -> ComposeResult:
        """The old value, kinds, the new value."""
        data = bytes.fromhex(self._item["data"])
        kind, value = guess(data)
        with Vertical(classes="dialog"):
            yield Static(
                f"{self._item['name']}\nnow: {self._item['decoded']['text']}", markup=False
            )
            yield Select(
                [(NAMES[name], name) for name in KINDS], value=kind, allow_blank=False, id="kinds",
                compact=True,
            )  # fmt: skip
            yield Input(value, id="new-value", compact=True)
            yield Static("", id="value-problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Show what it takes", id="show", variant="primary")
                yield Button("Back", id="back")

    def on_mount(self) -> None:
        """The value is what most people change."""
        self.query_one("#new-value").focus()

    @property
    def _kind(self) -> str:
        return str(cast("Select[str]", self.query_one("#kinds")).value)

    @on(Input.Submitted)
    @on(Button.Pressed, "#show")
    def done(self) -> None:
        """Take it, if it is a value."""
        value = self.query_one("#new-value", Input).value
        try:
            StoreOrder("vars", kind=self._kind, value=value).data()
        except HwflashError as exc:
            self.query_one("#value-problem", Static).update(f"! {exc.message}")
            return
        self.dismiss((self._kind, value))

    @on(Button.Pressed, "#back")
    def action_none(self) -> None:
        """Change nothing."""
        self.dismiss(None)


def guess(data: bytes) -> tuple[str, str]:
    """How a value is probably typed, and as what."""
    if len(data) in (1, 2, 4, 8):
        return f"u{8 * len(data)}", str(int.from_bytes(data, "little"))
    body = data[:-1] if data.endswith(b"\0") else b""
    if body and all(0x20 <= byte < 0x7F for byte in body):
        return "string", body.decode("ascii")
    return "hex", data.hex()
