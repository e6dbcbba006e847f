"""``hwflash probe``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hwflash.cli import params, runner


@click.command("probe")
@params.programmer_options
@click.option("--contact", is_flag=True, help="Test the wires first, as hwflash contact does.")
@click.option(
    "--sfdp",
    type=params.PATH,
    metavar="FILE",
    help="Write the chip's SFDP tables to FILE, raw bytes as `hwflash chips decode` takes them.",
)
@runner.command("probe")
def command(run: runner.Run, contact: bool, sfdp: Path | None, **options: Any) -> runner.Outcome:
    """Identify the chip: part, geometry, SFDP, status registers, protection.

    With --contact the chip is identified only if some clock is good; exit code 1 when not all are.
    """
    from hwflash.cli.contact import report_lines
    from hwflash.cli.show import probe_lines
    from hwflash.jobs.describe import probe_keys, save_sfdp
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
        if sfdp is not None:
            save_sfdp(session, sfdp)
        keys = probe_keys(session) | {"sfdp_file": str(sfdp) if sfdp is not None else None}
    lines += probe_lines(keys)
    if sfdp is not None:
        lines.append(f"  SFDP written  {sfdp}")
    return runner.Outcome({**keys, **tested}, lines, 0 if good else 1)
