"""``hwflash probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hwflash.cli import params, runner


@click.command("probe")
@params.programmer_options
@click.option(
    "--sfdp",
    type=params.PATH,
    metavar="FILE",
    help="Write the chip's SFDP tables to FILE, raw bytes as `hwflash chips decode` takes them.",
)
@runner.command("probe")
def command(run: runner.Run, sfdp: Path | None, **options: Any) -> runner.Outcome:
    """Identify the chip: part, geometry, SFDP, status registers, protection."""
    from hwflash.cli.show import probe_lines
    from hwflash.jobs.describe import probe_keys, save_sfdp
    from hwflash.jobs.session import open_session

    with open_session(params.request(options), run.console) as session:
        if sfdp is not None:
            save_sfdp(session, sfdp)
        keys = probe_keys(session) | {"sfdp_file": str(sfdp) if sfdp is not None else None}
    lines = probe_lines(keys)
    if sfdp is not None:
        lines.append(f"  SFDP written  {sfdp}")
    return runner.Outcome(keys, lines)
