"""``hwflash doctor``."""

from __future__ import annotations

from typing import Any

import click

from hwflash.cli import params, runner
from hwflash.errors import UsageError
from hwflash.remedies import REMEDIES


@click.command("doctor")
@click.option("--install-udev", is_flag=True, help="Write the udev rules and the system group.")
@click.option("--bus", is_flag=True, help="Test programmer and wires too, as hwflash contact does.")
@params.programmer_options
@runner.command("doctor")
def command(run: runner.Run, install_udev: bool, bus: bool, **options: Any) -> runner.Outcome:
    """Check this computer and say what to do; exit code 1 when something fails.

    Programmer and board count with --bus only.
    """
    from hwflash.jobs import doctor

    if not bus and (given := [name for name, value in options.items() if value]):
        raise UsageError(
            f"--{given[0].replace('_', '-')} says what --bus is to test", code="usage.doctor"
        )

    if install_udev:
        written = [str(path) for path in doctor.install_udev()]
        after = [" ".join(words) for words in doctor.AFTER_INSTALL]
        lines = [*(f"wrote {path}" for path in written), "now run:", *(f"  {it}" for it in after)]
        return runner.Outcome({"written": written, "next": after}, lines)
    checks = doctor.run_checks()
    tested: dict[str, object] = {}
    lines: list[str] = []
    if bus:
        from hwflash.cli.contact import report_lines
        from hwflash.jobs.doctor_bus import check_bus

        check, report = check_bus(params.request(options), run.console, run.cancel)
        checks.append(check)
        if report is not None:
            tested["contact"] = report.as_dict()
            lines = report_lines(report)
    keys = [
        {
            "name": check.name,
            "status": check.status,
            "found": check.found,
            "expected": check.expected,
            "code": check.code,
            "remedy": REMEDIES.get(check.code or ""),
        }
        for check in checks
    ]
    failed = any(check.status == "fail" for check in checks)
    return runner.Outcome({"checks": keys, **tested}, _lines(keys) + lines, 1 if failed else 0)


def _lines(keys: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for check in keys:
        lines.append(f"{check['status']:<5} {check['name']}: {check['found']}")
        if check["status"] in ("warn", "fail"):
            if check["expected"]:
                lines.append(f"        expected: {check['expected']}")
            if check["remedy"]:
                lines.append(f"        do: {check['remedy']}")
    return lines
