"""``hwflash contact``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner
from hwflash.units import format_hz

if TYPE_CHECKING:
    from hwflash.jobs.contact import ContactReport


@click.command("contact")
@params.programmer_options
@click.option("--forget", is_flag=True, help="Forget the clock that an earlier test found good.")
@runner.command("contact")
def command(run: runner.Run, forget: bool, **options: Any) -> runner.Outcome:
    """Test the contact: shorts, swapped wires, supply, and id and SFDP at rising clocks.

    Nothing is changed on the chip. The highest good clock is remembered for this board on this
    programmer. Exit code 1 when something is wrong, or a clock up to --frequency is not good.
    """
    from hwflash.jobs.contact import contact_test, forget_clock

    request = params.request(options)
    if forget:
        hertz = forget_clock(request)
        said = "nothing was remembered" if hertz is None else f"forgotten: {format_hz(hertz)}"
        return runner.Outcome({"forgotten": hertz}, [said])
    report = contact_test(request, run.console, run.cancel)
    return runner.Outcome(report.as_dict(), report_lines(report), 0 if report.good else 1)


def report_lines(report: ContactReport) -> list[str]:
    """A contact test for people; the last lines are the verdict."""
    lines = [
        f"{'ok ' if item.ok else 'BAD'} {format_hz(item.frequency):>9}  id {item.jedec_id}  "
        f"{item.text}"
        for item in report.contacts
    ]
    lines += [
        f"BAD {format_hz(item.frequency):>9}  {item.length} bytes in one go"
        for item in report.bursts
        if not item.ok
    ]
    lines += [f"note: {note}" for note in report.notes]
    lines.append(f"{'good' if report.good else 'BAD'}: {report.verdict.text}")
    if report.verdict.suspects:
        lines.append(f"look at {', '.join(report.verdict.suspects)}")
    if report.verdict.alike and not report.good:
        lines.append(f"looks the same: {'; '.join(report.verdict.alike)}")
    if report.limit is not None:
        lines.append(
            f"used from now on: {format_hz(report.limit)} at most (hwflash contact --forget)"
        )
    return lines
