"""``hwflash job boot``: does a board boot from what is on its chip?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner
from hwflash.cli.console import missing_lines, watched_keys
from hwflash.cli.results import range_keys, state_for_history
from hwflash.cli.write import repeatable, write_options
from hwflash.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwflash.boards import Board
    from hwflash.jobs.boot_check import BootResult
    from hwflash.jobs.selection import Image, Selection
    from hwflash.jobs.session import Session
    from hwflash.layout.files import Segment


@click.command("boot")
@click.argument("file", type=params.PATH, required=False)
@params.selection_options
@params.format_option
@params.programmer_options
@params.change_options
@click.option(
    "--until", multiple=True, metavar="REGEX",
    help="A console line that a board which has booted prints; repeatable, all must come. "
    "Default: the board's [expect] log.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=120.0, show_default=True,
    help="Seconds from power on until all have come.",
)  # fmt: skip
@click.option(
    "--stay", type=click.FloatRange(min=0), default=0.0,
    help="Seconds to stay on afterwards.",
)  # fmt: skip
@click.option("--log", type=params.PATH, help="Write every console line with its time there.")
@click.option("--quiet", is_flag=True, help="Do not print the console.")
@runner.command("job boot")
def command(
    run: runner.Run, file: Path | None, kind: str, log: Path | None, quiet: bool, **options: Any
) -> runner.Outcome:
    """Write FILE, if one is given, boot the board, and see what it does to its chip.

    The board is switched off first, and is off at the end, whatever happens. Exit code 1 when a
    line did not come, or when the boot changed something outside of the variable stores.
    """
    from hwflash.jobs.boot_check import BootOptions, check_boot
    from hwflash.jobs.rig import Rig
    from hwflash.jobs.watch import check_patterns

    until, timeout = options.pop("until"), options.pop("timeout")
    check_patterns(until)
    chosen = params.selection(options)
    if options["board"] is None:
        raise UsageError("say which board with -b", code="usage.board")
    if file is None and not chosen.regions:
        if chosen.at is not None or chosen.range is not None:
            raise UsageError("no file is given", code="usage.selection")
        options["yes"] = True  # there is nothing to confirm
    else:
        params.require_file(file, chosen)
    stay = options.pop("stay")
    how = write_options(run, options, chosen.named, piped=str(file) == "-")
    image = params.load_file(run, file, kind) if file is not None else None
    words = params.repeated(options)
    request = params.request(options)
    board = request.board
    assert board is not None  # noqa: S101 - looked at above
    content = _content(board, image, chosen, partial(params.load_file, run, kind=kind))
    told = BootOptions(
        until=until,
        timeout=timeout,
        stay=stay,
        write=how,
        state=state_for_history(run.console),
        on_line=None if quiet else lambda line: run.console.info(f"| {line}"),
    )
    with repeatable(words), Rig(request, run.console, run.cancel, log) as rig:
        run.console.begin("boot", board=board.name)
        result = check_boot(rig, content, told, run.console, run.cancel)
    return _outcome(board.name, result, dry_run=how.dry_run)


def _content(
    board: Board, image: Image | None, chosen: Selection, load: Callable[[Path], Image]
) -> list[Segment] | Callable[[Session], list[Segment]]:
    """What is written first; a session tells it where only the chip knows its regions."""
    from hwflash.jobs.regions import board_lookup, told_by
    from hwflash.jobs.selection import segments

    size = board.flash.size
    if image is None and not chosen.regions:
        return []
    if chosen.regions and told_by(board) is not None:
        return lambda session: segments(chosen, image, load, size, session.region)
    return segments(chosen, image, load, size, board_lookup(board))


def _outcome(board: str, result: BootResult, *, dry_run: bool) -> runner.Outcome:
    from hwflash.cli.show import places_text, plan_lines
    from hwflash.compare.text import diff_lines

    if dry_run and result.written is not None:
        plan = result.written.plan.as_dict()
        keys: dict[str, object] = {"board": board, "dry_run": True, "plan": plan}
        lines = [*plan_lines(plan), "dry run: nothing was written, the board stays off"]
        return runner.Outcome(keys, lines)
    store = result.store
    keys = {
        "board": board,
        "dry_run": False,
        "booted": result.booted,
        "lost": result.lost or None,
        "console": watched_keys(result.watched) if result.watched is not None else None,
        "backup": str(result.written.backup) if result.written and result.written.backup else None,
        "variables": result.variables.keys(),
        "store": {"ok": store.ok, "repair": store.repair} if store is not None else None,
        "elsewhere": range_keys(result.elsewhere),
        "sha256": result.sha256,
    }
    lines: list[str] = []
    if result.lost:
        lines.append(f"{board} did not boot: {result.lost}")
    elif result.watched is not None and result.watched.missing:
        lines += [f"{board} did not boot", *missing_lines(result.watched)]
    elif result.watched is not None:
        last = result.watched.heard[-1]
        lines.append(f"{board} booted in {last.seconds:.1f} s: {last.line.strip()}")
    lines += [f"  {line}" for line in diff_lines(result.variables)]
    if store is not None and store.repair != "none":
        lines.append(f"  the variable store needs: {store.repair}")
    if result.elsewhere:
        lines.append(f"  changed outside of it: {places_text(result.elsewhere)}")
    return runner.Outcome(keys, lines, 0 if result.ok else 1)
