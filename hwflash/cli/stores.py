"""What the commands on UEFI variable stores share: SOURCE, options, changing a store."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hwflash.cli import params, runner
from hwflash.cli.results import range_keys
from hwflash.cli.write import repeatable, write_options
from hwflash.errors import UsageError
from hwflash.units import format_seconds, format_size

if TYPE_CHECKING:
    from hwflash.jobs.opening import Request
    from hwflash.jobs.source import Source
    from hwflash.jobs.uefi_edit import Edited, EditOptions
    from hwflash.jobs.uefi_read import Reading
    from hwflash.uefi.areas import KnownLayout
    from hwflash.uefi.nvram import Nvram

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

#: Names on the command line of `hwflash.uefi.areas.KNOWN`, in its order.
LAYOUT_NAMES = ("ovmf-2m", "ovmf-4m", "aavmf")


class GuidType(click.ParamType[Any]):
    """A GUID, or the well-known name of one."""

    name = "guid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text."""
        from hwflash.uefi.guids import parse_guid

        try:
            return parse_guid(value) if isinstance(value, str) else value
        except UsageError as exc:
            self.fail(exc.message, param, ctx)


GUID = GuidType()


def source_options(function: F) -> F:
    """SOURCE, and what is to be known of a chip behind a programmer."""
    for option in reversed(_SOURCE_OPTIONS):
        function = option(function)
    return function


_SOURCE_OPTIONS: list[Callable[[Any], Any]] = [
    click.argument("source", metavar="SOURCE"),
    click.option(
        "-b", "--board", type=params.BoardName(),
        help="Board whose [nvram] says where the store is.",
    ),
    *params.CHIP_OPTIONS,
    click.option("--store", type=params.SIZE, help="Only the store at this offset."),
    click.option(
        "--full", is_flag=True,
        help="Search every byte, and not only where a board or the headers say.",
    ),
    params.json_option,
]  # fmt: skip


@contextmanager
def opened(run: runner.Run, text: str, options: dict[str, Any]) -> Generator[Source]:
    """Open the SOURCE of a command."""
    from hwflash.jobs.source import open_source

    def request() -> Request:
        return params.request({"programmer": None, **options})

    load = partial(params.load_file, run)
    with open_source(text, options["board"], request, run.console, load) as source:
        yield source


def read(
    run: runner.Run, source: str, options: dict[str, Any], full: bool, *, others: bool = False
) -> tuple[Reading, dict[str, Any]]:
    """The stores of a source, and the counters of the programmer they came over.

    ``others``: stores that are not EDK2's will do.
    """
    from hwflash.jobs.source import ChipSource
    from hwflash.jobs.uefi_read import read_stores

    with opened(run, source, options) as place:
        reading = read_stores(place, run.console, run.cancel, full=full, others=others)
        stats = {"stats": place.session.stats()} if isinstance(place, ChipSource) else {}
    return reading, {"source": source, **stats}


# --- changing a store -------------------------------------------------------------------------

_EDIT_OPTIONS: list[Callable[[Any], Any]] = [
    params.ACCEPT_OTHER_BOARD,
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option(
        "-n", "--dry-run", is_flag=True, help="Show the flash operations, change nothing."
    ),
    click.option(
        "-o", "--output", type=params.PATH,
        help="Write the changed image there, and leave SOURCE, a file, as it is.",
    ),
    click.option(
        "--erase-foreign", is_flag=True,
        help="The places that the board file has for work space and spare may be erased, "
        "whatever they hold.",
    ),
    click.option(
        "--region", "regions", multiple=True,
        help="Name a protected region of the board that may be changed; repeatable.",
    ),
    click.option(
        "--verify", type=click.Choice(["touched", "full"]), default="touched", show_default=True,
        help="Read back what was touched, or the whole volume.",
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
_REPAIR_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "--repair", type=click.Choice(["none", "recover", "reclaim", "rescue"]), default="none",
        show_default=True,
        help="What to do first to a store that `vars check` finds broken. A write that is "
        "pending is always finished or dropped first.",
    ),
    click.option(
        "--order", type=click.Choice(["suffix", "edk2"]), default="suffix", show_default=True,
        help="Order of the flash operations when the store is rewritten: the one that survives "
        "a power cut at any point, or that of EDK2.",
    ),
]  # fmt: skip


def edit_options(function: F) -> F:
    """SOURCE, and how to change the store in it."""
    for option in reversed(_REPAIR_OPTIONS):
        function = option(function)
    return repair_options(function)


def repair_options(function: F) -> F:
    """The same for commands that are a repair themselves."""
    for option in reversed(_EDIT_OPTIONS):
        function = option(function)
    return source_options(function)


def _edit_options(run: runner.Run, source: str, options: dict[str, Any]) -> EditOptions:
    """Take what `edit_options` added out of ``options``."""
    from hwflash.jobs.uefi_edit import EditOptions

    output = options.pop("output")
    if output is not None and not output.exists():  # nothing that exists is changed
        options["yes"] = True
    named = frozenset(options.pop("regions"))
    return EditOptions(
        write=write_options(run, options, named, piped=source == "-"),
        store=options.pop("store"),
        full=options.pop("full"),
        repair=options.pop("repair", "as-is"),
        order=options.pop("order", "suffix"),
        erase_foreign=options.pop("erase_foreign"),
        place=_place(options.pop("layout", None), options.pop("at", None)),
        output=output,
    )


def _place(layout: str | None, at: int | None) -> tuple[KnownLayout, int] | None:
    """The build and place that were named."""
    from hwflash.uefi.areas import KNOWN

    if layout is None:
        if at is not None:
            raise UsageError("--at goes with --layout", code="usage.selection")
        return None
    return KNOWN[LAYOUT_NAMES.index(layout)], at or 0


def edit_store(
    run: runner.Run,
    source: str,
    options: dict[str, Any],
    change: Callable[[Nvram, EditOptions], T],
) -> tuple[Edited[T], dict[str, Any]]:
    """Change the store of SOURCE; what was done, and its keys for scripts."""
    from hwflash.jobs.source import ChipSource
    from hwflash.jobs.uefi_edit import edit

    how = _edit_options(run, source, options)
    words = params.repeated(options)
    where = ["--store", str(how.store)] if how.store is not None else []
    where += ["--full"] if how.full else []
    with (
        repeatable(words, store=source, store_options=where),
        opened(run, source, options) as place,
    ):
        if isinstance(place, ChipSource) and how.output is not None:
            raise UsageError("--output goes with an image file", code="usage.output")
        edited = edit(place, how, lambda nvram: change(nvram, how), run.console, run.cancel)
        stats = {"stats": place.session.stats()} if isinstance(place, ChipSource) else {}
    return edited, {"source": source, **_edit_keys(edited, how), **stats}


def _edit_keys(edited: Edited[Any], how: EditOptions) -> dict[str, Any]:
    from hwflash.jobs.uefi_operations import operation_keys
    from hwflash.jobs.uefi_read import store_keys

    return {
        "bytes": sum(item.length for item in edited.plan.changed),
        "sha256": edited.plan.sha256,
        "seconds": round(edited.seconds, 6),
        "changed": range_keys(edited.plan.changed) if edited.executed else [],
        "mismatches": [],
        "backup": str(edited.backup) if edited.backup else None,
        "output": str(how.output) if how.output else None,
        "dry_run": how.write.dry_run,
        "executed": edited.executed,
        "first": list(edited.first),
        "operations": [operation_keys(item) for item in edited.operations],
        "erases": edited.plan.erases(),
        "programs": sum(step.kind == "program" for step in edited.plan.steps),
        "before": store_keys(edited.before),
        "after": store_keys(edited.after),
        "history": edited.entry,
    }


def edit_outcome(
    edited: Edited[Any], keys: dict[str, Any], text: str, notes: tuple[str, ...] = ()
) -> runner.Outcome:
    """The result of a change.

    Args:
        edited: what was done.
        keys: the keys for scripts.
        text: what became of the variable, in a few words.
        notes: what else is to be said.
    """
    from hwflash.jobs.uefi_operations import operation_lines

    lines = [f"first: {item}" for item in edited.first]
    if not edited.plan.steps:
        copied = [f"written to {keys['output']}"] if edited.executed else []
        return runner.Outcome(keys, [*lines, *notes, f"{text}: nothing had to be changed", *copied])
    lines += operation_lines(edited.operations) if keys["dry_run"] else []
    lines += notes
    if keys["dry_run"]:
        return runner.Outcome(keys, [*lines, "dry run: nothing was written"])
    erases = sum(edited.plan.erases().values())
    touched = sum(item.length for item in edited.plan.changed)
    spent = f", {format_seconds(edited.seconds)}" if edited.seconds else ""
    lines.append(
        f"{text}: {keys['programs']} programs, {erases} erases, {format_size(touched)} touched"
        + spent
    )
    where = keys["output"] or keys["backup"]
    if where is not None:
        lines.append(f"{'written to' if keys['output'] else 'backup'} {where}")
    return runner.Outcome(keys, lines)
