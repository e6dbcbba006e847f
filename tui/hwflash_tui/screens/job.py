"""Board and job: recent jobs, board, image, regions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final, cast

from rich.text import Text
from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Digits, Input, OptionList, SelectionList, Static
from textual.widgets.option_list import Option
from textual.widgets.selection_list import Selection

from hwflash.boards import BoardEntry, list_boards, load_board
from hwflash.errors import HwflashError
from hwflash.jobs.order import Action, ImageFacts, Order, image_facts
from hwflash.units import format_size
from hwflash_tui.jobform import FORCED, GUARDED, KEPT, WRITTEN, JobForm, RegionLine
from hwflash_tui.paths import PathSuggester, typed_path
from hwflash_tui.recent import add_recent
from hwflash_tui.screens.base import StationView
from hwflash_tui.screens.files import FileScreen
from hwflash_tui.screens.work import WorkScreen
from hwflash_tui.station import Station
from hwflash_tui.widgets.bars import Words

#: Option of the list that stands for no board at all.
NO_BOARD: Final = ""
#: An image is looked at when nobody has typed for so long, in seconds.
PAUSE: Final = 0.25
BIG_DIGITS: Final = 8
KEPT_WORD, WRITTEN_WORD = "is kept", "is written"
#: What happens to a region, short; # is the sign of protected ones.
_WORDS: Final = {WRITTEN: "write", KEPT: "keep", GUARDED: "keep #", FORCED: "WRITE #"}


class JobScreen(StationView):
    """Fills in a `JobForm`."""

    NAME = "Board and job"
    PURPOSE = (
        "Choose the board (type a part of its name), the image, and, if only a part is to be "
        "written, its regions. The large digits are the beginning of the image's SHA-256: compare "
        "them with the ones you were given. A recent job fills all of it in: its digit, or Enter."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "browse", "Find"),
        Binding("f5", "go('write')", "Write…"),
        Binding("f6", "go('verify')", "Verify"),
        Binding("f7", "go('read')", "Read"),
        Binding("f9", "go('erase')", "Erase…"),
        *(
            Binding(str(n), f"recent({n - 1})", f"Recent {n}", show=False)
            for n in range(1, 10)
        ),
    ]  # fmt: skip

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        sight = station.sight
        self.form: JobForm = JobForm(station.url, sight.chip.size if sight is not None else None)
        self._entries: list[BoardEntry] = []
        self._likely = {entry.name for entry in sight.boards} if sight is not None else set[str]()
        self._timer: Timer | None = None
        self._action: Action = "write"

    @property
    def command(self) -> str:
        """The order as it would be started."""
        return self.form.order(self._action).command

    def body(self) -> Iterable[Widget]:
        """Recent jobs above, board on the left, image and regions on the right."""
        yield OptionList(id="recent", compact=True, markup=False)
        with Horizontal(id="columns"):
            with Vertical(id="board"):
                yield Static("Board", classes="label")
                yield Input(placeholder="type to search", id="search", compact=True)
                yield OptionList(id="boards", compact=True, markup=False)
            with Vertical(id="image"):
                yield Static("Image", classes="label")
                yield Input(
                    placeholder="path of the file, or F2", id="file", compact=True,
                    suggester=PathSuggester(), select_on_focus=False,
                )  # fmt: skip
                yield Digits("", id="digest")
                yield Words(id="facts")
                yield SelectionList[str](id="regions", compact=True)
        yield Words(id="problem")

    def on_mount(self) -> None:
        """Fill the lists; the first thing to choose has the focus."""
        self._entries = sorted(
            (entry for entry in list_boards(self.bench.environ) if not entry.faults),
            key=lambda entry: (entry.name not in self._likely, entry.name),
        )
        recent = self.query_one("#recent", OptionList)
        recent.border_title = "Recent jobs"
        for number, order in enumerate(self.bench.recent, 1):
            recent.add_option(Option(f"{number} {describe(order)}"))
        recent.display = bool(self.bench.recent)
        self._list_boards("")
        self._list_regions()
        first = [entry for entry in self._entries if entry.name in self._likely]
        if len(first) == 1:
            self._choose_board(first[0].name)
        (recent if self.bench.recent else self.query_one("#search")).focus()

    # --- board ------------------------------------------------------------------------------

    @on(Input.Changed, "#search")
    def search_changed(self, event: Input.Changed) -> None:
        """Narrow the list down."""
        self._list_boards(event.value)

    @on(Input.Submitted, "#search")
    def search_submitted(self) -> None:
        """Enter takes the first one."""
        boards = self.query_one("#boards", OptionList)
        if boards.option_count > 1:
            self._choose_board(boards.get_option_at_index(1).id or NO_BOARD)
            self.query_one("#file").focus()

    @on(OptionList.OptionSelected, "#boards")
    def board_selected(self, event: OptionList.OptionSelected) -> None:
        """One was chosen."""
        self._choose_board(event.option_id or NO_BOARD)
        self.query_one("#file").focus()

    def _list_boards(self, text: str) -> None:
        boards = self.query_one("#boards", OptionList)
        boards.clear_options()
        boards.add_option(Option("  no board: no check", id="-"))
        wanted = text.lower().split()
        for entry in self._entries:
            if all(word in f"{entry.name} {entry.description}".lower() for word in wanted):
                sign = "●" if entry.name == self.form.board_name else " "
                fits = "  fits" if entry.name in self._likely else ""
                boards.add_option(Option(f"{sign} {entry.name}{fits}", id=entry.name))

    def _choose_board(self, name: str) -> None:
        board = None
        if name in ("-", NO_BOARD):
            name = ""
        else:
            try:
                board = load_board(name, self.bench.environ)
            except HwflashError as exc:
                self.notify(str(exc), severity="error")
                return
        self.form = replace(self.form, board_name=name or None, board=board, regions=())
        self._list_boards(self.query_one("#search", Input).value)
        self._list_regions()
        self.refresh_view()

    @property
    def _regions(self) -> SelectionList[str]:
        return cast("SelectionList[str]", self.query_one("#regions"))

    # --- regions ----------------------------------------------------------------------------

    def _list_regions(self, chosen: tuple[str, ...] = ()) -> None:
        regions = self._regions
        regions.clear_options()
        form = replace(self.form, regions=chosen)
        options = [
            Selection(_region_text(line), line.name, line.name in chosen) for line in form.lines()
        ]
        regions.add_options(options)
        regions.highlighted = 0 if options else None
        regions.display = bool(options)
        regions.border_title = "Only these regions (none: the whole chip)"

    @on(SelectionList.SelectedChanged, "#regions")
    def regions_changed(self) -> None:
        """Some were chosen."""
        regions = self._regions
        order = [line.name for line in self.form.lines()]
        self.form = replace(
            self.form, regions=tuple(name for name in order if name in regions.selected)
        )
        for index, line in enumerate(self.form.lines()):  # the mark alone is told by its colour
            regions.replace_option_prompt_at_index(index, _region_text(line))
        self.refresh_view()

    # --- image ------------------------------------------------------------------------------

    @on(Input.Changed, "#file")
    def file_changed(self, event: Input.Changed) -> None:
        """Look at the image when the typing pauses."""
        file = typed_path(event.value.strip())
        self.form = replace(self.form, file=file, image=None, image_problem="")
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE, self._look_at_image)
        self.refresh_view()

    def _look_at_image(self) -> None:
        if self.form.file is not None:
            self._load(self.form.file)

    @work(thread=True, exclusive=True)
    def _load(self, file: Path) -> None:
        """In a thread: a file of many megabytes is hashed. No hardware is touched."""
        try:
            found: ImageFacts | str = image_facts(file)
        except HwflashError as exc:
            found = exc.message
        self.bench.call_from_thread(self._loaded, file, found)

    def _loaded(self, file: Path, found: ImageFacts | str) -> None:
        if file != self.form.file:
            return  # somebody typed on
        if isinstance(found, str):
            self.form = replace(self.form, image=None, image_problem=found)
        else:
            self.form = replace(self.form, image=found)
        self.refresh_view()

    def action_browse(self) -> None:
        """Choose the image from a list."""
        start = self.form.file.parent if self.form.file is not None else Path.cwd()

        def chosen(file: Path | None) -> None:
            if file is not None:
                self.query_one("#file", Input).value = str(file)
                self.query_one("#file").focus()

        self.bench.push_screen(FileScreen(start), chosen)

    # --- recent jobs --------------------------------------------------------------------------

    @on(OptionList.OptionSelected, "#recent")
    def recent_selected(self, event: OptionList.OptionSelected) -> None:
        """Take one."""
        self.action_recent(event.option_index)

    def action_recent(self, index: int) -> None:
        """Fill the form in from a recent job."""
        if index >= len(self.bench.recent):
            return
        order = self.bench.recent[index]
        self._choose_board(order.board or NO_BOARD)
        self._list_regions(order.regions)
        self._action = order.action
        self.form = replace(self.form, regions=order.regions)
        self.query_one("#file", Input).value = str(order.file or "")
        self.refresh_view()

    # --- go -----------------------------------------------------------------------------------

    def action_go(self, action: Action) -> None:
        """Start, if nothing is wrong."""
        self._action = action
        problem = self.form.problem(action)
        self.refresh_view()
        if problem:
            self.notify(problem, severity="warning")
            return
        order = self.form.order(action)
        self.bench.recent = add_recent(self.bench.state, order)
        self.station.start(order)
        self.dismiss()
        self.bench.push_screen(WorkScreen(self.station))

    def show(self) -> None:
        """What is known of the image, and what is still missing."""
        image = self.form.image
        self.query_one("#digest", Digits).update(
            image.sha256[:BIG_DIGITS].upper() if image is not None else ""
        )
        self.query_one("#digest").display = image is not None
        self.query_one("#facts", Words).put(_facts(self.form))
        problem = self.form.problem(self._action)
        ready = "Ready: F5 reads, backs up and plans; nothing is changed before you say yes."
        self.query_one("#problem", Words).put(f"! {problem}" if problem else f"✓ {ready}")
        self.query_one("#problem").set_class(bool(problem), "wrong")


def describe(order: Order) -> str:
    """An order in a line."""
    parts = [order.action, order.file.name if order.file is not None else ""]
    parts.append(f"on {order.board}" if order.board else "without a board")
    if order.regions:
        parts.append(f"({', '.join(order.regions)})")
    return " ".join(part for part in parts if part)


def _region_text(line: RegionLine) -> Text:
    word = _WORDS[line.fate]
    return Text(f"{word:<7} {line.name:<12} {line.range}", no_wrap=True, overflow="ellipsis")


def _facts(form: JobForm) -> Text:
    if form.image is None:
        return Text(form.image_problem or "")
    digest = form.image.sha256
    text = Text()
    text.append(digest[:BIG_DIGITS], "bold underline")
    text.append(digest[BIG_DIGITS:])
    text.append("\nsha256 above, ", "dim")
    text.append(f"{format_size(form.image.size)}, {form.image.format}")
    lines = form.lines()
    for what, word in (("kept", KEPT_WORD), ("written", WRITTEN_WORD)):
        names = [line.name for line in lines if word in line.fate.lower()]
        text.append(f"\n{what}: {', '.join(names)}" if names else "")
    if not form.regions:
        text.append("\nwhat is equal is not touched")
    return text
