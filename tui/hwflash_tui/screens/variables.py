"""The variable store of a chip: values, the state of fault-tolerant writes, changes, repair."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final, cast

from rich.text import Text
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widget import Widget
from textual.widgets import DataTable

from hwflash.jobs.store_order import Preview, StoreOrder, StoreSight, Verb, preview, read_store
from hwflash_tui.actor import Finished, Task, TaskContext
from hwflash_tui.outcome import PASS
from hwflash_tui.screens.base import StationView
from hwflash_tui.screens.preview import PreviewScreen
from hwflash_tui.screens.value import ValueScreen
from hwflash_tui.station import Station
from hwflash_tui.widgets.bars import Bar, Words

READ: Final = "variables"
PREVIEW: Final = "preview"
#: As `hwflash vars list` has them.
_ATTRIBUTES: Final = {
    "NON_VOLATILE": "NV",
    "BOOTSERVICE_ACCESS": "BS",
    "RUNTIME_ACCESS": "RT",
    "TIME_BASED_AUTHENTICATED_WRITE_ACCESS": "AT",
    "AUTHENTICATED_WRITE_ACCESS": "AW",
    "HARDWARE_ERROR_RECORD": "HR",
    "APPEND_WRITE": "AP",
}
#: Bytes of a value that are shown in hex.
SHOWN: Final = 64


class VariablesScreen(StationView):
    """Browse, edit, repair."""

    NAME = "Variables"
    PURPOSE = (
        "The UEFI variables in the chip, with what their values mean. Enter changes one; the exact "
        "flash operations are shown before anything is written. F shows the state of "
        "fault-tolerant writes, P repairs a store that needs it."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d", "delete", "Delete"),
        Binding("f", "ftw", "FTW state"),
        Binding("p", "repair", "Repair"),
        Binding("l", "reload", "Read again"),
        Binding("s", "stop", "Stop", show=False),
    ]

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        self._sight: StoreSight | None = None
        self._handled: Finished | None = None
        self._ftw = False

    @property
    def command(self) -> str:
        """What lists the same."""
        verb = ["ftw", "status"] if self._ftw else ["vars", "list"]
        words = ["hwflash", *verb, self.station.url]
        return " ".join(f"'{word}'" if "?" in word else word for word in words)

    def body(self) -> Iterable[Widget]:
        """Summary, table, what the highlighted one means."""
        yield Words(id="store")
        yield Bar(id="store-bar")
        table: DataTable[Any] = DataTable(id="variables", cursor_type="row", zebra_stripes=True)
        yield table
        yield VerticalScroll(Words(id="value"), can_focus=False, id="value-box")

    def on_mount(self) -> None:
        """Read the store."""
        self._table.add_columns("Name", "Size", "Attributes", "Value")
        self._table.focus()
        self.action_reload()

    @property
    def _table(self) -> DataTable[Any]:
        return cast("DataTable[Any]", self.query_one("#variables"))

    # --- reading ----------------------------------------------------------------------------

    def _order(self, verb: Verb = "set", **more: Any) -> StoreOrder:
        board = self.station.order.board if self.station.order is not None else None
        store = self._sight.store["volume"]["base"] if self._sight is not None else None
        group = "ftw" if verb in ("recover", "rescue") else "vars"
        return StoreOrder(group, self.station.url, board, verb=verb, store=store, **more)

    def action_reload(self) -> None:
        """Read the store again."""
        station, order = self.station, self._order()
        self._sight = None
        station.submit(
            Task(READ, "reading the variables", lambda task: read_store(order, station.hooks(task)))
        )

    def action_stop(self) -> None:
        """Enough."""
        self.station.stop()

    def show(self) -> None:
        """What was read, or why it could not be."""
        station = self.station
        end = station.finished
        if end is not None and end is not self._handled:
            self._handled = end
            self._take(end)
        self.query_one(Bar).show(station.reading)
        self.query_one("#store", Words).put(self._summary())
        self.query_one("#value", Words).put(self._value())

    def _take(self, end: Finished) -> None:
        if isinstance(end.value, StoreSight):
            self._sight = end.value
            self._fill(end.value)
        elif isinstance(end.value, Preview):
            self.bench.push_screen(PreviewScreen(self.station, end.value), lambda _: self._back())
        elif (outcome := self.station.outcome) is not None and end.task.kind == "order":
            # Somebody left the screen of the change while it was carried out.
            kind = "information" if outcome.verdict == PASS else "error"
            self.notify(outcome.headline, title=outcome.verdict, severity=kind, timeout=10)
            if not outcome.unknown:
                self.action_reload()
        elif end.error is not None and end.task.kind == PREVIEW:
            self.notify(end.error.message, title=end.error.code, severity="error", timeout=10)

    def _back(self) -> None:
        """After a change, or none."""
        if not self.station.busy:
            self.action_reload()

    def _fill(self, sight: StoreSight) -> None:
        table = self._table
        table.clear()
        for number, item in enumerate(sight.variables):
            text = item["decoded"]["text"]
            table.add_row(
                Text(item["name"], no_wrap=True), str(item["size"]),
                "+".join(_short(name) for name in item["attributes"]),
                Text(text, no_wrap=True, overflow="ellipsis"), key=str(number),
            )  # fmt: skip

    def _summary(self) -> Text:
        station, sight = self.station, self._sight
        if station.busy:
            return Text(f"… {station.label}", "bold")
        if sight is None:
            trouble = station.trouble
            if trouble is None:
                return Text("")
            return Text(f"✗ {trouble.message}\n{station.help_for_trouble()}", "bold")
        store, check = sight.store, sight.check
        sign = (
            "✓ sound" if check["ok"] else f"! needs repair: {check['command'] or 'see FTW state'}"
        )
        text = Text.assemble((f"{sign}  ", "bold"))
        kind = store["format"] or "unreadable"
        text.append(
            f"store at 0x{store['base']:06X}, {kind}, {len(sight.variables)} variables; "
            f"{store['used']:,} bytes used, {store['free']:,} free, {store['reclaimable']:,} dead\n"
        )
        text.append(f"FTW: {sight.ftw['text']}", "" if not sight.ftw["pending"] else "bold")
        return text

    # --- one variable -------------------------------------------------------------------------

    @property
    def _chosen(self) -> dict[str, Any] | None:
        row = self._table.cursor_row
        if self._sight is None or not 0 <= row < len(self._sight.variables):
            return None
        return self._sight.variables[row]

    def _value(self) -> Text:
        sight = self._sight
        if self._ftw and sight is not None:
            return Text("\n".join(_ftw_lines(sight)))
        item = self._chosen
        if item is None:
            return Text("")
        text = Text.assemble((item["name"], "bold"))
        text.append(f"  {item['vendor'] or item['guid']}\n", "dim")
        text.append(f"{item['decoded']['text']}\n")
        data = item["data"]
        text.append(data[: 2 * SHOWN] + (" …" if len(data) > 2 * SHOWN else ""), "dim")
        return text

    @on(DataTable.RowHighlighted)
    def highlighted(self) -> None:
        """Another one."""
        self.refresh_view()

    @on(DataTable.RowSelected)
    def selected(self) -> None:
        """Change it."""
        item = self._chosen
        if item is None or self.station.busy or not self.on_top:
            return

        def typed(found: tuple[str, str] | None) -> None:
            if found is not None:
                kind, value = found
                order = self._order(
                    "set", name=item["name"], guid=item["guid"], kind=kind, value=value
                )
                self._preview(order)

        self.bench.push_screen(ValueScreen(item), typed)

    def action_delete(self) -> None:
        """Delete the highlighted one."""
        item = self._chosen
        if item is not None:
            self._preview(self._order("delete", name=item["name"], guid=item["guid"]))

    def action_ftw(self) -> None:
        """Show the fault-tolerant writes in place of the value, or the value again."""
        self._ftw = not self._ftw
        self.refresh_view()

    def action_repair(self) -> None:
        """Whatever repairs the store."""
        if self._sight is None:
            return
        repair = self._sight.check["repair"]
        if repair == "none":
            self.notify("The store is sound: there is nothing to repair.")
            return
        self._preview(self._order(repair))

    def _preview(self, order: StoreOrder) -> None:
        station = self.station
        if station.busy:
            return

        def work(task: TaskContext) -> Preview:
            return preview(order, station.hooks(task))

        station.submit(Task(PREVIEW, "working out the flash operations", work))


def _short(attribute: str) -> str:
    return _ATTRIBUTES.get(attribute, attribute)


def _ftw_lines(sight: StoreSight) -> list[str]:
    work, spare = sight.ftw["work_space"], sight.ftw["spare"]
    # First, as there may be room for a few lines only.
    lines = [f"! {item['message']}" for item in sight.check["problems"]]
    if work is not None:
        lines.append(f"work space 0x{work['base']:06X}, {work['size']:,} bytes: {work['state']}")
        lines += [
            f"write {number}: {item['text']}" for number, item in enumerate(work["writes"], 1)
        ]
    if spare is not None:
        lines.append(f"spare area 0x{spare['base']:06X}, {spare['size']:,} bytes: {spare['text']}")
    lines += [f"{item['firmware']}: {item['text']}" for item in sight.ftw["outlook"]]
    return lines
