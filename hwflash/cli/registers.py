"""``hwflash registers``."""

from __future__ import annotations

from typing import Any

import click

from hwflash.cli import params, runner


@click.command("registers")
@params.programmer_options
@runner.command("registers")
def command(run: runner.Run, **options: Any) -> runner.Outcome:
    """Show every status and configuration register of the chip, in hex and in words.

    Bits whose meaning is not known are not named. Nothing is changed.
    """
    from hwflash.jobs.registers import register_keys
    from hwflash.jobs.session import open_session

    with open_session(params.request(options), run.console) as session:
        found, part = register_keys(session), session.chip.part
    lines = [part]
    for register in found:
        digits = len(register["hex"])
        lines.append(
            f"  {register['name']:<5} {register['value']:0{digits}X}h  {register['title']} "
            f"({register['opcode']:02X}h)"
        )
        for bit in register["bits"]:
            words = f"  {bit['words']}" if bit["words"] else ""
            lines.append(f"    {bit['name']:<20} {bit['value']:0{bit['width']}b}{words}")
    return runner.Outcome({"part": part, "registers": found}, lines)
