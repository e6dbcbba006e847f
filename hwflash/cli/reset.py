"""``hwflash reset``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from hwflash.cli import params, runner


@click.command("reset")
@params.programmer_options
@click.option(
    "--force",
    is_flag=True,
    help="Also while a program or erase is going on: what it was changing is then undefined.",
)
@runner.command("reset")
def command(run: runner.Run, force: bool, **options: Any) -> runner.Outcome:
    """Make a chip listen again: wake it, leave continuous reads, reset it (66h 99h, or F0h).

    Locks and modes that last until the supply goes away may be gone afterwards; the content and
    non-volatile settings stay.
    """
    from hwflash.jobs.reset import reset_chip

    done = reset_chip(params.request(options), run.console, force=force)
    lines = [f"{done.part or 'a chip nobody knows'} answers, id {done.jedec_id[:6]}"]
    lines.append(
        f"  it listened only after {done.woken_by}" if done.woken_by else "  it was listening"
    )
    lines.append(
        f"  reset by {done.reset_by}" if done.reset_by else "  this part has no software reset"
    )
    if done.torn:
        lines.append("  a program or erase was torn: verify the content")
    lines.append(f"  status register {done.status:02X}h")
    return runner.Outcome(asdict(done), lines)
