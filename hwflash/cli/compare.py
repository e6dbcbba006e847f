"""``hwflash compare``: what differs between two flash contents, and whether it matters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner

if TYPE_CHECKING:
    from hwflash.jobs.opening import Request


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
    from hwflash.compare.text import report_lines
    from hwflash.jobs.compare import Opening, compare_sources

    def request() -> Request:
        return params.request({"programmer": None, **options})

    opening = Opening(
        options["board"], request, partial(params.load_file, run), run.console, run.cancel
    )
    wanted = Options(ignore, regions, everything)
    report, stats = compare_sources(left, right, opening, wanted)
    keys = {**report.keys(), **stats, "html": str(html_file) if html_file else None}
    lines = report_lines(report)
    if html_file is not None:
        from hwflash.compare.html import render
        from hwflash.jobs.uefi_export import save_text

        save_text(html_file, render(report))
        lines.append(f"page written to {html_file}")
    return runner.Outcome(keys, lines, 0 if report.equal else 1)
