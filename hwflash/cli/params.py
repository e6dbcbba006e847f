"""Parameter types and the option groups that several commands share.

A domain value is checked here, before any hardware is touched.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hwflash.errors import UsageError
from hwflash.units import parse_frequency, parse_range, parse_size

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from hwflash.boards import Board
    from hwflash.cli.runner import Run
    from hwflash.jobs.opening import Request
    from hwflash.jobs.selection import Image, RegionChoice, Selection

F = TypeVar("F", bound=Callable[..., Any])


class _Parsed(click.ParamType[Any]):
    """A click type around one of the parsers of `hwflash.units`."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; a default that is parsed already passes."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except UsageError as exc:
            self.fail(exc.message, param, ctx)


def _parse_region(text: str) -> RegionChoice:
    from hwflash.jobs.selection import RegionChoice

    name, colon, file = text.partition(":")
    if not name or (colon and not file):
        raise UsageError(f"{text!r} is not NAME or NAME:FILE")
    return RegionChoice(name, Path(file) if file else None)


SIZE = _Parsed("size", parse_size)
FREQUENCY = _Parsed("hertz", parse_frequency)
RANGE = _Parsed("start:length", parse_range)
REGION = _Parsed("name[:file]", _parse_region)
PATH = click.Path(path_type=Path, dir_okay=False, allow_dash=False)


_BOARD_AS_GIVEN = "hwflash.board"


class BoardName(click.ParamType["Board"]):
    """A board by name or file, loaded and checked."""

    name = "board"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Board:
        """Load the board; its faults are an error of their own, not one of usage."""
        from hwflash.boards import load_board

        if not isinstance(value, str):
            return value
        if ctx is not None:
            ctx.meta[_BOARD_AS_GIVEN] = value
        return load_board(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of boards."""
        from click.shell_completion import CompletionItem

        from hwflash.boards import list_boards

        names = (entry.name for entry in list_boards())
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class PartName(click.ParamType[str]):
    """The name of a chip; looked up later, because a chip file may bring its own."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Any text."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of parts."""
        from click.shell_completion import CompletionItem

        from hwflash.chip import catalog

        names = (part.chip.part for part in catalog.load().parts)
        wanted = incomplete.lower()
        return [CompletionItem(name) for name in names if name.lower().startswith(wanted)]


def json_option(function: F) -> F:
    """``--json``."""
    return click.option("--json", "json_lines", is_flag=True, help="Print JSON Lines on stdout.")(
        function
    )


def programmer_options(function: F) -> F:
    """Everything that says which programmer and chip; collected by `request`."""
    for option in reversed(_PROGRAMMER_OPTIONS):
        function = option(function)
    return function


#: What is to be known of a chip, wherever it is.
CHIP_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "-c", "--chip", type=PartName(), help="Insist on this part instead of what the chip says."
    ),
    click.option("--chip-file", type=PATH, help="TOML file that describes parts of your own."),
    click.option("--size", type=SIZE, help="Insist on this chip size, such as 16M."),
    click.option(
        "-f", "--frequency", type=FREQUENCY, help="Highest SCK, such as 10M. Default: 30M."
    ),
    click.option(
        "--allow-voltage", is_flag=True,
        help="The chip takes less than 3.3 V and is properly level-shifted.",
    ),
]  # fmt: skip

#: Which programmer, or which programmers.
GANG_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "-p", "--programmer", "programmers", multiple=True, metavar="URL",
        help="Programmer URL, such as ftdi://ftdi:232h/1 or sim://w25q128jv; repeatable, for "
        "several at once. Default: $HWFLASH_PROGRAMMER, the board's, or the only one attached.",
    ),
    click.option("--all", "every", is_flag=True, help="All programmers on the USB, at once."),
    click.option(
        "--count", type=click.IntRange(1, 128), metavar="N",
        help="N programmers from one URL: {n} in it is 1 to N.",
    ),
]  # fmt: skip

_PROGRAMMER_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "-p", "--programmer", metavar="URL",
        help="Programmer URL, such as ftdi://ftdi:232h/1 or sim://w25q128jv. "
        "Default: $HWFLASH_PROGRAMMER, the board's, or the only one attached.",
    ),
    click.option("-b", "--board", type=BoardName(), help="Board: a name or a board file."),
    *CHIP_OPTIONS,
    json_option,
]  # fmt: skip


def gang_options(function: F) -> F:
    """`programmer_options` for one programmer or several; collected by `hwflash.cli.gang.taken`."""
    for option in reversed(_PROGRAMMER_OPTIONS[1:]):
        function = option(function)
    return which_programmers(function)


def which_programmers(function: F) -> F:
    """The part of `gang_options` that says which programmers, and no more."""
    for option in reversed(GANG_OPTIONS):
        function = option(function)
    return function


def selection_options(function: F) -> F:
    """``--at``, ``--range`` and ``--region``; collected by `selection`."""
    function = click.option(
        "--layout", type=PATH, metavar="FILE",
        help="Layout file (START:END NAME a line) that says where regions are.",
    )(function)  # fmt: skip
    function = click.option(
        "--region", "regions", type=REGION, multiple=True,
        help="Only this region of the layout, the board or the chip's own descriptor or map, or "
        "the firmware volume with this GUID; from or to a file of its own; repeatable.",
    )(function)  # fmt: skip
    function = click.option(
        "--range", "range_", type=RANGE, help="Only START:LENGTH, such as 0x10000:64K."
    )(function)
    return click.option("--at", type=SIZE, help="Address at which the file belongs.")(function)


def format_option(function: F) -> F:
    """``--format``."""
    return click.option(
        "--format",
        "kind",
        type=click.Choice(["auto", "raw", "ihex", "srec"]),
        default="auto",
        show_default=True,
        help="Form of the file; auto goes by its content, or by its name when it is written.",
    )(function)


def change_options(function: F) -> F:
    """Options of commands that change the chip."""
    for option in reversed(_CHANGE_OPTIONS):
        function = option(function)
    return function


ACCEPT_OTHER_BOARD: Callable[[Any], Any] = click.option(
    "--accept-other-board", is_flag=True,
    help="Chip and image need not be what the board file expects.",
)  # fmt: skip

_CHANGE_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--all-regions", is_flag=True,
        help="Protected regions, such as descriptor and management engine, may change too.",
    ),
    ACCEPT_OTHER_BOARD,
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option("-n", "--dry-run", is_flag=True, help="Show the plan, change nothing."),
    click.option(
        "--verify", type=click.Choice(["touched", "full"]), default="touched", show_default=True,
        help="Read back what was touched, or everything the job covers.",
    ),
    click.option(
        "--lift-protection", is_flag=True,
        help="Lift the chip's own protection where it is in the way, and put it back afterwards.",
    ),
    click.option(
        "--backup-dir", type=click.Path(path_type=Path, file_okay=False),
        help="Folder for the backup. Default: in the state directory.",
    ),
]  # fmt: skip


def request(options: dict[str, Any]) -> Request:
    """Take the programmer options out of a command's options."""
    from hwflash.jobs.opening import Request

    return Request(
        programmer=options.pop("programmer"),
        board=options.pop("board"),
        chip=options.pop("chip"),
        chip_file=options.pop("chip_file"),
        size=options.pop("size"),
        frequency=options.pop("frequency"),
        allow_voltage=options.pop("allow_voltage"),
        environ=os.environ,
    )


def repeated(options: dict[str, Any]) -> list[str]:
    """The words with which a later command meets the same chip on the same terms.

    The programmer is not among them: its URL is known once it was opened.
    """
    words: list[str] = []
    if options["board"] is not None:
        words += ["-b", str(click.get_current_context().meta[_BOARD_AS_GIVEN])]
    for key, word in (("chip", "-c"), ("chip_file", "--chip-file"), ("size", "--size")):
        if options[key] is not None:
            words += [word, str(options[key])]
    if options["frequency"] is not None:
        words += ["-f", f"{options['frequency']:.0f}"]
    words += ["--accept-other-board"] if options.get("accept_other_board") else []
    return words + (["--allow-voltage"] if options["allow_voltage"] else [])


def selection(options: dict[str, Any]) -> Selection:
    """Take the selection options out of a command's options."""
    from hwflash.jobs.selection import Selection

    found = Selection(
        options.pop("at"), options.pop("range_"), tuple(options.pop("regions")),
        options.pop("layout"), options.pop("all_regions", False),
    )  # fmt: skip
    found.check()
    return found


def require_file(file: Path | None, chosen: Selection) -> None:
    """Refuse a job without a file before any hardware is touched.

    Raises:
        UsageError: there is none, and not every region has one (``usage.selection``).
    """
    if file is None and not (chosen.regions and all(item.file for item in chosen.regions)):
        raise UsageError("no file is given", code="usage.selection")


def load_file(run: Run, name: Path, kind: str = "auto") -> Image:
    """Read an image; ``-`` is standard input."""
    import sys

    from hwflash.layout.files import load_image

    if str(name) == "-" and sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise UsageError("standard input is closed", code="usage.selection")
    source: Any = sys.stdin.buffer if str(name) == "-" else name
    with run.waiting():
        return load_image(source, format=kind)  # type: ignore[arg-type]
