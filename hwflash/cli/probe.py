"""``hwflash probe``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from hwflash.cli import params, runner


@click.command("probe")
@params.programmer_options
@click.option("--contact", is_flag=True, help="Test the wires first, as hwflash contact does.")
@runner.command("probe")
def command(run: runner.Run, contact: bool, **options: Any) -> runner.Outcome:
    """Identify the chip: part, geometry, SFDP, status registers, protection.

    With --contact the chip is identified only if some clock is good; exit code 1 when not all are.
    """
    from hwflash.cli.contact import report_lines
    from hwflash.cli.show import probe_lines
    from hwflash.jobs.describe import probe_keys
    from hwflash.jobs.session import open_session

    request = params.request(options)
    tested: dict[str, object] = {}
    lines: list[str] = []
    good = True
    if contact:
        from hwflash.jobs.contact import contact_test

        report = contact_test(request, run.console, run.cancel)
        tested["contact"] = report.as_dict()
        lines, good = report_lines(report), report.good
        if not report.usable:
            return runner.Outcome(tested, lines, 1)
        if request.frequency is not None and report.limit is not None:
            request = replace(request, frequency=min(request.frequency, report.limit))
    with open_session(request, run.console) as session:
        keys = probe_keys(session)
    return runner.Outcome({**keys, **tested}, [*lines, *probe_lines(keys)], 0 if good else 1)
