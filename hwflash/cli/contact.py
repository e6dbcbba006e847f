"""``hwflash contact``."""

from __future__ import annotations

from typing import Any

import click

from hwflash.cli import params, runner
from hwflash.units import format_hz


@click.command("contact")
@params.programmer_options
@runner.command("contact")
def command(run: runner.Run, **options: Any) -> runner.Outcome:
    """Test the contact: read id and SFDP again and again at rising clocks.

    Nothing is changed. Exit code 1 when a clock up to --frequency is not good.
    """
    from hwflash.jobs.contact import contact_test, suspects, verdict

    request = params.request(options)
    results = contact_test(request, run.console, run.cancel)
    good, text = verdict(results)
    keys = {
        "good": good,
        "text": text,
        "suspects": list(suspects(results)),
        "clocks": [item.as_dict() for item in results],
    }
    lines = [
        f"{'ok ' if item.ok else 'BAD'} {format_hz(item.frequency):>9}  id {item.jedec_id}  "
        f"{item.text}"
        for item in results
    ]
    lines.append(text)
    if not good:
        lines.append(f"look at {', '.join(suspects(results))}")
    return runner.Outcome(keys, lines, 0 if good else 1)
