"""``hwflash erase``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from hwflash.cli import params, runner
from hwflash.cli.results import range_keys
from hwflash.errors import UsageError


@click.command("erase")
@params.programmer_options
@params.selection_options
@params.change_options
@runner.command("erase")
def command(run: runner.Run, **options: Any) -> runner.Outcome:
    """Erase the whole chip, or the selected part, to FF.

    A selection need not fit the chip's erase blocks: what lies around it is kept.
    """
    from hwflash.cli.write import outcome, repeatable, write_options
    from hwflash.jobs.selection import ranges
    from hwflash.jobs.session import open_session
    from hwflash.jobs.write import write
    from hwflash.layout.files import Segment

    chosen = params.selection(options)
    if any(choice.file for choice in chosen.regions):
        raise UsageError("erase takes no files", code="usage.selection")
    if chosen.at is not None:
        raise UsageError(
            "--at does not say how much to erase; use --range START:LENGTH", code="usage.selection"
        )
    how = replace(write_options(run, options, chosen.named, piped=False), kind="erase")
    words = params.repeated(options)
    with repeatable(words), open_session(params.request(options), run.console) as session:
        params.use_layout(session, chosen)
        places = [part.range for part in ranges(chosen, session.chip.size, session.region)]
        run.console.begin("erase", ranges=range_keys(places))
        targets = [Segment(place.address, b"\xff" * place.length) for place in places]
        result = write(session, targets, how, run.console, run.cancel)
        stats = session.stats()
    return outcome(result, stats, "erased", dry_run=how.dry_run)
