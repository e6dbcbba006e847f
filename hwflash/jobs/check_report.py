"""Reports of checks of the simulated reference: text, JSON, JUnit XML.

A bench that runs ``hwflash qemu check all`` once a day keeps one of these: it certifies the
reference, or says exactly which step broke.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from hwflash import __version__
from hwflash.errors import HwflashError
from hwflash.jobs.junit import Case, Suite, Trouble, junit_text, visible
from hwflash.qemu.check import Step

FORMAT: Final = "hwflash-check"
VERSION: Final = 1
_STOPPED: Final = "stopped before its end: what is not listed was not checked"


@dataclass(slots=True)
class CheckRun:
    """A check on a machine.

    Attributes:
        name: of the check.
        code: its firmware.
        machine: QEMU's machine type.
        steps: as far as it got.
        error: what kept it from being tried to its end; nothing that the guest did.
        left_out: why it was not run at all; "": it was.
    """

    name: str
    code: str = ""
    machine: str = ""
    steps: list[Step] = field(default_factory=list[Step])
    error: HwflashError | None = None
    left_out: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is known to be wrong."""
        return self.error is None and all(step.ok for step in self.steps)

    def keys(self) -> dict[str, Any]:
        """As JSON, without the steps."""
        return {"name": self.name, "ok": self.ok, "code": self.code, "machine": self.machine}


@dataclass(slots=True)
class CheckReport:
    """Checks that were run one behind the other.

    Attributes:
        runs: in order.
        complete: every check that was wanted has come to its end.
        started: when, ISO 8601 in UTC.
        host: name of this computer.
    """

    runs: Sequence[CheckRun]
    complete: bool = False
    started: str = field(
        default_factory=lambda: datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    )
    host: str = field(default_factory=socket.gethostname)

    @property
    def done(self) -> list[CheckRun]:
        """Those that were not left out."""
        return [item for item in self.runs if not item.left_out]

    @property
    def passed(self) -> bool:
        """Whether every check that was wanted passed, and there was one."""
        return self.complete and bool(self.done) and all(item.ok for item in self.done)


def step_keys(check: str, step: Step) -> dict[str, Any]:
    """A step as JSON."""
    return {**asdict(step), "check": check, "seconds": round(step.seconds, 3)}


def step_lines(check: str, step: Step) -> list[str]:
    """A step for people: what was found, and where it is wrong, what was expected."""
    where, found = f"{check}: {visible(step.name)}", visible(step.found)
    if step.ok:
        return [f"ok      {where}: {found}"]
    expected = f"        expected: {visible(step.expected)}"
    return [f"FAILED  {where}", expected, f"        found:    {found}"]


def verdict(report: CheckReport) -> str:
    """The last line: how many steps, how many failed, and of which checks."""
    steps = [step for run in report.done for step in run.steps]
    count = f"{len(steps)} steps, {sum(not step.ok for step in steps)} failed"
    failed = [run.name for run in report.done if not run.ok]
    return f"{count}: {', '.join(failed)}" if failed else count


def text_report(report: CheckReport) -> str:
    """For people: every step with what was expected and found."""
    lines = [f"hwflash {__version__} on {visible(report.host)}, {report.started}Z"]
    for run in report.runs:
        if run.left_out:
            lines += ["", f"{run.name}: left out, {visible(run.left_out)}"]
            continue
        lines += ["", f"{run.name}: {visible(run.code)} on {visible(run.machine)}"]
        for step in run.steps:
            state, name = "ok" if step.ok else "FAILED", visible(step.name)
            lines.append(f"  {state:7} {name}  {step.seconds:.3f} s")
            lines.append(f"          expected: {visible(step.expected)}")
            lines.append(f"          found:    {visible(step.found)}")
        if run.error is not None:
            lines.append(f"  ERROR   {visible(run.error.message)} [{run.error.code}]")
    lines += ["", verdict(report), *([] if report.complete else [_STOPPED])]
    return "\n".join([*lines, "PASSED" if report.passed else "NOT PASSED", ""])


def json_report(report: CheckReport) -> str:
    """For scripts: the same as one object."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "passed": report.passed,
        "complete": report.complete,
        "started": f"{report.started}Z",
        "host": report.host,
        "tool": {"name": "hwflash", "version": __version__},
        "checks": [
            {
                **run.keys(),
                "steps": [step_keys(run.name, step) for step in run.steps],
                "error": _error(run.error),
            }
            for run in report.done
        ],
        "left_out": left_out(report),
    }
    return json.dumps(content, indent=2) + "\n"


def left_out(report: CheckReport) -> list[dict[str, str]]:
    """The checks that were not run, and why."""
    return [{"name": run.name, "reason": run.left_out} for run in report.runs if run.left_out]


def _error(error: HwflashError | None) -> dict[str, str] | None:
    return None if error is None else {"code": error.code, "message": error.message}


def junit_report(report: CheckReport) -> str:
    """For a build server: a suite per check, a case per step."""
    suites = [
        Suite(f"qemu check {run.name}", _cases(run), report.started, report.host)
        for run in report.runs
    ]
    if not report.complete and not any(run.error for run in report.runs):
        case = Case(
            "hwflash.qemu.check", "complete", 0.0, (), Trouble("error", "stopped", _STOPPED)
        )
        suites.append(Suite("qemu check", [case], report.started, report.host))
    return junit_text("hwflash qemu check", suites)


def _cases(run: CheckRun) -> list[Case]:
    group = f"hwflash.qemu.check.{run.name}"
    if run.left_out:
        return [Case(group, run.name, 0.0, (), Trouble("skipped", "left-out", run.left_out))]
    facts = [("code", run.code), ("machine", run.machine)]
    cases = [_case(group, facts, step) for step in run.steps]
    if run.error is not None:
        trouble = Trouble("error", run.error.code, run.error.message)
        cases.append(Case(group, run.name, 0.0, facts, trouble))
    return cases


def _case(group: str, facts: list[tuple[str, str]], step: Step) -> Case:
    told = [*facts, ("expected", step.expected), ("found", step.found)]
    trouble = None
    if not step.ok:
        message = f"expected: {step.expected}; found: {step.found}"
        trouble = Trouble("failure", f"check.{step.name}", message)
    return Case(group, step.name, step.seconds, told, trouble)
