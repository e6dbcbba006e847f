"""What every screen has: a title, a command line, keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Footer

from hwflash_tui.station import Station
from hwflash_tui.widgets.bars import CommandBar, TitleBar

if TYPE_CHECKING:
    from hwflash_tui.app import BenchApp


Answer = TypeVar("Answer")


class OnTop(Screen[Answer]):
    """A screen that leaves once. Textual's `dismiss` takes away whatever lies on top: a key that is
    held down would take the screens behind it too, and let an operator out of production.
    """

    @property
    def on_top(self) -> bool:
        """Whether keys are for this screen."""
        return self.app.screen is self  # pyright: ignore[reportUnknownMemberType]

    def dismiss(self, result: Answer | None = None) -> AwaitComplete:
        """Leave; nothing when that was done already."""
        return super().dismiss(result) if self.on_top else AwaitComplete.nothing()


class Dialog(ModalScreen[Answer], OnTop[Answer]):
    """The same over another screen; Textual takes the looks from the first base only."""


class View(OnTop[None]):
    """A screen of the bench.

    Subclasses give `NAME`, `PURPOSE`, `body`, and, where there is one, `command`.
    """

    #: In the title, such as ``Bench``.
    NAME: ClassVar[str] = ""
    #: What it is for and which keys it has, for the help screen.
    PURPOSE: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("ctrl+y", "copy_command", "Copy command", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._ready = False

    @property
    def bench(self) -> BenchApp:
        """The application."""
        return cast("BenchApp", self.app)  # pyright: ignore[reportUnknownMemberType]

    @property
    def heading(self) -> str:
        """The name in the title."""
        return self.NAME

    @property
    def where(self) -> str:
        """What stands behind the name in the title."""
        return ""

    @property
    def command(self) -> str:
        """The command line that does what this screen does; "" where there is none."""
        return ""

    def compose(self) -> ComposeResult:
        """Title, body, command line, keys."""
        yield TitleBar()
        yield from self.body()
        yield CommandBar()
        yield Footer(show_command_palette=False)

    def body(self) -> Iterable[Widget]:
        """What lies between title and command line."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Show what there is. Textual calls this after `on_mount` of a subclass."""
        self._ready = True
        self.refresh_view()

    def on_screen_resume(self) -> None:
        """Show what came meanwhile."""
        self.refresh_view()

    def on_resize(self) -> None:
        """The command line is cut to the width."""
        self.call_after_refresh(self.refresh_view)

    def refresh_view(self) -> None:
        """Something may have changed."""
        if not self._ready or not self.query(TitleBar):  # not there yet, or being taken down
            return
        parts = ["hwflash bench", self.heading, self.where]
        self.query_one(TitleBar).put(" › ".join(part for part in parts if part))
        self.query_one(CommandBar).show(self.command)
        self.show()

    def show(self) -> None:
        """Put on the screen what stations say; called often, must be quick."""

    def action_back(self) -> None:
        """Leave the screen; work goes on."""
        self.dismiss()

    def action_copy_command(self) -> None:
        """Copy the command line, and show it in full."""
        if self.command:
            self.bench.copy_command(self.command)


class StationView(View):
    """A screen about one programmer."""

    def __init__(self, station: Station) -> None:
        super().__init__()
        self.station = station

    @property
    def where(self) -> str:
        """Which programmer."""
        return f"{self.station.number} {self.station.name}"
