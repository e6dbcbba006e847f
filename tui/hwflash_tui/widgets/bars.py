"""The lines at the top and the bottom of every screen, and a bar for progress."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget
from textual.widgets import Static

from hwflash_tui.meter import Reading

#: Colours that can be read on light and on dark; a sign always stands beside them.
GOOD, WARN, BAD = "#3fa860", "#c08a20", "#d8504d"


class Words(Static):
    """Text that is put there many times a second, and drawn only when it is another."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes, markup=False)
        self._said: Text | None = None

    def put(self, text: Text | str) -> None:
        """Say something."""
        if isinstance(text, str):
            text = Text(text)
        if self._said is None or text != self._said or text.spans != self._said.spans:
            self._said = text
            # A new layout of the whole screen is dear; most words stand in a place of fixed height.
            self.update(text, layout=self.styles.is_auto_height)

    @property
    def said(self) -> str:
        """What it says, without styles."""
        return self._said.plain if self._said is not None else ""


class TitleBar(Words):
    """Where one is."""

    DEFAULT_CSS = """
    TitleBar { dock: top; height: 1; padding: 0 1; background: $panel; text-style: bold; }
    """


class CommandBar(Words):
    """The command line that does what the screen does."""

    DEFAULT_CSS = """
    CommandBar { height: 1; padding: 0 1; color: $text-muted; }
    """

    def show(self, command: str) -> None:
        """Put it there, cut in the middle where it is too long: both ends say something."""
        room = max(self.size.width - 4, 20)
        if len(command) > room:
            half = (room - 3) // 2
            command = f"{command[:half]} … {command[-half:]}"
        self.put(Text(f"$ {command}" if command else "", no_wrap=True))


class Bar(Widget):
    """A bar that says its number too."""

    DEFAULT_CSS = "Bar { height: 1; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's word
        super().__init__(id=id)
        self._reading: Reading | None = None

    def show(self, reading: Reading | None) -> None:
        """What to draw."""
        if reading != self._reading:
            self._reading = reading
            self.refresh()

    def render(self) -> Text:
        """Full and empty parts differ in shape."""
        if self._reading is None:
            return Text("")
        width = max(self.size.width, 1)
        full = round(self._reading.fraction * width)
        return Text("━" * full, "bold") + Text("·" * (width - full), "dim")
