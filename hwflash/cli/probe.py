"""``hwflash probe``."""

from __future__ import annotations

from typing import Any

import click

from hwflash.cli import params, runner


@click.command("probe")
@params.programmer_options
@runner.command("probe")
def command(run: runner.Run, **options: Any) -> runner.Outcome:
    """Identify the chip: part, geometry, SFDP, status registers, protection."""
    from hwflash.cli.show import probe_lines
    from hwflash.jobs.describe import probe_keys
    from hwflash.jobs.session import open_session

    with open_session(params.request(options), run.console) as session:
        keys = probe_keys(session)
    return runner.Outcome(keys, probe_lines(keys))
