"""``hwflash compare``: what differs between two flash contents, and whether it matters."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from hwflash.cli import params, runner
from hwflash.cli.vars_compare import diff_lines
from hwflash.units import format_size

if TYPE_CHECKING:
    from hwflash.compare.modules import ModuleDifference
    from hwflash.compare.report import Report
    from hwflash.compare.variables import VariableDifference
    from hwflash.jobs.opening import Request

T = TypeVar("T")

#: Lines of a list that are printed; all are in the JSON result.
LINES: Final = 40
#: Characters of the widest bar.
BAR: Final = 20


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS: list[Callable[[Any], Any]] = [
    click.argument("left", metavar="A"),
    click.argument("right", metavar="B"),
    click.option("-b", "--board", type=params.BoardName(), help="Board whose regions are told."),
    *params.CHIP_OPTIONS,
    click.option(
        "--html", "html_file", type=params.PATH, help="Write the result as one page to this file."
    ),
    click.option(
        "--ignore", multiple=True, help="Not these variables: NAME or NAME:GUID; * is any."
    ),
    click.option(
        "--all", "everything", is_flag=True,
        help="Variables that change at every boot count too, and are listed.",
    ),
    click.option("--region", "regions", multiple=True, help="Only this region; repeatable."),
    params.json_option,
]  # fmt: skip


@click.command("compare")
@_options
@runner.command("compare")
def command(
    run: runner.Run,
    left: str,
    right: str,
    html_file: Path | None,
    ignore: tuple[str, ...],
    everything: bool,
    regions: tuple[str, ...],
    **options: Any,
) -> runner.Outcome:
    """Compare A with B by bytes, regions, firmware modules and UEFI variables.

    A and B are images, programmer URLs, board:NAME, ovmf:DESCRIPTOR (firmware of this computer,
    such as ovmf:60-edk2-x86_64 or ovmf:aarch64) or boot:IMAGE (a copy of it after a boot in QEMU).
    Of a part and a whole image only what both have is compared. Exit 0: nothing differs that
    matters; 1: something does.
    """
    from hwflash.compare.report import Options
    from hwflash.jobs.compare import Opening, compare_sources

    def request() -> Request:
        return params.request({"programmer": None, **options})

    opening = Opening(
        options["board"], request, partial(params.load_file, run), run.console, run.cancel
    )
    wanted = Options(ignore, regions, everything)
    report, stats = compare_sources(left, right, opening, wanted)
    keys = {**report.keys(), **stats, "html": str(html_file) if html_file else None}
    lines = _lines(report)
    if html_file is not None:
        from hwflash.compare.html import render
        from hwflash.jobs.uefi_export import save_text

        save_text(html_file, render(report))
        lines.append(f"page written to {html_file}")
    return runner.Outcome(keys, lines, 0 if report.equal else 1)


# --- for people -----------------------------------------------------------------------------


def _lines(report: Report) -> list[str]:
    left, right = report.left, report.right
    lines = [
        f"{mark} {_name(side.name)}: {side.kind or 'an image'}, {format_size(side.range.length)}"
        for mark, side in (("-", left), ("+", right))
    ]
    lines += [f"  note: {note}" for note in report.notes]
    if report.identical:
        return [*lines, "identical"]
    lines += _regions(report)
    lines += _modules(report.modules)
    lines += _variables(report.variables, everything=report.options.everything)
    return [*lines, "", verdict(report)]


def verdict(report: Report) -> str:
    """The result in a sentence."""
    if report.equal:
        if not report.runs.differing:
            return "equal: no byte differs in what both have"
        return "equal: nothing differs that matters"
    if not report.alignment.compared:
        return "different: nothing of one is in the other"
    return f"different: {report.runs.differing:,} of {report.alignment.compared:,} bytes"


def _name(text: str) -> str:
    """A source without its folders; what was done to it stays in front."""
    begin = "boot:" if text.startswith("boot:") else ""
    rest = text.removeprefix(begin)
    return begin + (os.path.basename(rest) or rest)  # noqa: PTH119 - may be a URL


def _regions(report: Report) -> list[str]:
    if not report.regions:
        return []
    lines = ["", f"  regions, aligned by {report.alignment.how}"]
    wide = max(len(item.name) for item in report.regions)
    for item in report.regions[:LINES]:
        if item.equal:
            state = "equal"
        else:
            state = f"{item.bytes_differing:,} of {item.length:,} bytes differ"
            if not item.significant:
                state += ", which the variables explain"
        bar = _bar(item.bytes_differing, item.length)
        lines.append(f"  0x{item.left:06X} {item.name:<{wide}}  {bar}  {state}")
    return lines + _more(report.regions)


def _bar(part: int, whole: int) -> str:
    """How much of a region differs, at least one mark where something does."""
    marks = max(1, round(BAR * part / whole)) if part else 0
    return f"{'#' * marks:.<{BAR}}"


def _modules(found: ModuleDifference) -> list[str]:
    if found.equal:
        return ["", "  no module differs"] if found.level == "modules" else []
    lines = ["", f"  {'modules' if found.level == 'modules' else 'firmware volumes and modules'}"]
    for mark, items in (("-", found.only_left), ("+", found.only_right)):
        lines += [
            f"  {mark} {item.label}: {item.kind}, {item.size:,} bytes, {'/'.join(item.volume)}"
            .removesuffix(", ")
            for item in items[:LINES]
        ]  # fmt: skip
        lines += _more(items)
    for change in found.changed[:LINES]:
        sizes = f"{change.left.size:,} bytes"
        if change.left.size != change.right.size:
            sizes = f"{change.left.size:,} -> {change.right.size:,} bytes"
        lines.append(f"  ! {change.left.label}: {', '.join(change.what)}, {sizes}")
    lines += _more(found.changed)
    counts = (len(found.only_left), len(found.only_right), len(found.changed))
    return [*lines, "  only left {}, only right {}, changed {}".format(*counts)]


def _variables(found: VariableDifference, *, everything: bool) -> list[str]:
    lines: list[str] = []
    if found.stores:
        told = diff_lines(found.difference)
        lines = ["", "  variables", *(f"  {line}" for line in told[: 2 * LINES])]
        if told[2 * LINES :]:
            lines += [f"  and {len(told) - 2 * LINES} more lines; --json lists all"]
    if not found.volatile:
        return lines
    if not everything:
        names = sorted({item.reason.name for item in found.volatile})
        return [
            *lines,
            f"  not counted {len(found.volatile)} ({', '.join(names)}); --all lists them",
        ]
    from hwflash.uefi.window import printable

    lines += ["", "  variables that change by themselves"]
    for item in found.volatile[:LINES]:
        mark = "!" if item.change else "-" if item.left else "+"
        lines.append(f"  {mark} {printable(item.variable.name)}: {item.reason.text}")
    return lines + _more(found.volatile)


def _more(items: Sequence[T]) -> list[str]:
    return [f"  and {len(items) - LINES} more; --json lists all"] if items[LINES:] else []
