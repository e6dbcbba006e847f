"""Choosing a file from lists of folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from hwflash.units import format_size
from hwflash_tui.paths import Item, folder_entries
from hwflash_tui.screens.base import Dialog


class FileScreen(Dialog[Path | None]):
    """Enter opens a folder or takes a file; Backspace goes up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "none", "Back"),
        Binding("backspace,left", "up", "Folder above"),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder.absolute() if os.path.isdir(folder) else Path.cwd()  # noqa: PTH112 - never raises
        self._items: list[Item] = []

    def compose(self) -> ComposeResult:
        """The folder's name and its list."""
        with Vertical(classes="dialog files"):
            yield Static(id="folder", markup=False)
            yield OptionList(id="entries", compact=True, markup=False)
            yield Static("Enter opens   Backspace: the folder above   Escape: back", markup=False)

    def on_mount(self) -> None:
        """Show the folder."""
        self._open(self._folder)

    def _open(self, folder: Path) -> None:
        self._folder = folder
        trouble = ""
        try:
            self._items = folder_entries(folder)
        except OSError as exc:
            self._items = []
            trouble = f"  cannot be read: {exc.strerror}"
        self.query_one("#folder", Static).update(f"{folder}{trouble}")
        entries = self.query_one("#entries", OptionList)
        entries.clear_options()
        entries.add_option(Option(".."))
        for item in self._items:
            size = "folder" if item.folder else format_size(item.size)
            sign = "/" if item.folder else ""
            entries.add_option(Option(f"{item.path.name}{sign}  ({size})"))
        entries.highlighted = 1 if self._items else 0
        entries.focus()

    @on(OptionList.OptionSelected)
    def selected(self, event: OptionList.OptionSelected) -> None:
        """Go there, or take it."""
        if event.option_index == 0:
            self.action_up()
            return
        item = self._items[event.option_index - 1]
        if item.folder:
            self._open(item.path)
        else:
            self.dismiss(item.path)

    def action_up(self) -> None:
        """The folder above."""
        self._open(self._folder.parent)

    def action_none(self) -> None:
        """Take none."""
        self.dismiss(None)
