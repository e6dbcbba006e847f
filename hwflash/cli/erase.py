"""``hwflash erase``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from hwflash.cli import gang, params, reports, runner
from hwflash.cli.results import range_keys
from hwflash.errors import UsageError


@click.command("erase")
@params.gang_options
@params.selection_options
@params.change_options
@gang.all_or_nothing_option
@reports.report_option
@runner.command("erase")
@reports.reported
def command(run: runner.Run, all_or_nothing: bool, **options: Any) -> runner.Outcome:
    """Erase the whole chip, or the selected part, to FF.

    A selection need not fit the chip's erase blocks: what lies around it is kept.
    """
    from hwflash.cli.write import outcome, repeatable, write_options
    from hwflash.jobs.selection import ranges
    from hwflash.jobs.session import open_session
    from hwflash.jobs.write import write
    from hwflash.layout.files import Segment

    devices = gang.taken(options)
    chosen = params.selection(options)
    if any(choice.file for choice in chosen.regions):
        raise UsageError("erase takes no files", code="usage.selection")
    if chosen.at is not None:
        raise UsageError(
            "--at does not say how much to erase; use --range START:LENGTH", code="usage.selection"
        )
    how = replace(write_options(run, options, chosen.named, piped=False), kind="erase")
    words = params.repeated(options)
    if devices is not None:
        from hwflash.jobs.gang_task import WriteTask

        task = WriteTask("erase", chosen, replace(how, confirm=None))
        terms = gang.change_terms(run, how, all_or_nothing=all_or_nothing)
        request = params.request(options)
        return gang.run_gang(run, devices, request, how.state, lambda _: task, terms, words)[1]
    gang.require_one(all_or_nothing)
    with repeatable(words), open_session(params.request(options), run.console) as session:
        session.use_layout(chosen.layout)
        places = [part.range for part in ranges(chosen, session.chip.size, session.region)]
        run.console.begin("erase", ranges=range_keys(places))
        targets = [Segment(place.address, b"\xff" * place.length) for place in places]
        result = write(session, targets, how, run.console, run.cancel)
        stats = session.stats()
    return outcome(result, stats, "erased", dry_run=how.dry_run)
