"""``hwflash qemu check``: real firmware in QEMU as the judge."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from hwflash.cli import params, runner
from hwflash.cli.qemu_log import command as log_
from hwflash.cli.qemu_machine import machine_of, machine_options, vm_generation
from hwflash.cli.reports import require
from hwflash.errors import HwflashError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from hwflash.jobs.check_report import CheckReport, CheckRun
    from hwflash.qemu.check import Check, Step
    from hwflash.qemu.machine import Machine

_FAILED: Final = 8
_REPORTS: Final = (".txt", ".json", ".xml")
#: What certifies a reference, in one word.
_ALL: Final = "all"


class CheckName(click.ParamType[str]):
    """The name of a check; looked up later, with the other faults of a command line."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Any text."""
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Names of checks."""
        from click.shell_completion import CompletionItem

        from hwflash.qemu.check import CHECKS

        known = {check.name: check.help for check in CHECKS.values()}
        known[_ALL] = "What certifies a reference."
        return [
            CompletionItem(name, help=text)
            for name, text in known.items()
            if name.startswith(incomplete)
        ]


class CheckCommand(click.Command):
    """``check NAME...``, where the word ``log`` leads to a command of its own.

    Attributes:
        commands: those commands, by their first word.
    """

    commands: Final[Mapping[str, click.Command]] = {"log": log_}

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse; the context of the other command when its word comes first."""
        other = self.commands.get(args[0]) if args else None
        if other is None:
            return super().make_context(info_name, args, parent, **extra)
        return other.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)


@click.command("check", cls=CheckCommand)
@click.argument("names", metavar="[NAME]...", nargs=-1, type=CheckName())
@click.option("--list", "listed", is_flag=True, help="List the checks, and do nothing.")
@machine_options
@click.option("--guid", metavar="GUID", help="VM Generation ID of the machine, for vmgenid and s3.")
@click.option(
    "--fault",
    metavar="FAULT",
    default="",
    help="Break this on purpose, to see that the check notices; --list names them.",
)
@click.option(
    "--report",
    "files",
    multiple=True,
    type=params.PATH,
    help="Write every step to this file: .txt in words, .json, or .xml for JUnit; repeatable.",
)
@params.json_option
@runner.command("qemu check")
def command(
    run: runner.Run, names: tuple[str, ...], listed: bool, files: tuple[Path, ...], **options: Any
) -> runner.Outcome:
    """Let real firmware in QEMU judge what hwflash says and writes, and the reference itself.

    Without NAME every check runs that is for the machine; the NAME `all` stands for those that
    certify a reference: pflash, variables, recovery, secure, vmgenid, s3. Nothing is written
    outside of folders of their own but the reports that are asked for; exit 8 when a check fails.

    `hwflash qemu check log FILE` reads a debug log instead, or compares two.
    """
    from hwflash.jobs.check_report import CheckReport, left_out, step_keys, verdict

    if listed:
        return _listed()
    require(files, _REPORTS)
    runs: list[CheckRun] = []
    found = CheckReport(runs)
    with _written(files, found):  # whatever is wrong: the report of yesterday must not stay
        chosen, asked = _chosen(names)
        wish = _Wish(run, vm_generation(options["guid"]), options["fault"], options)
        for check in chosen:
            wish.run_check(check, runs, asked=check.name in asked)
        found.complete = True
    if not found.done:
        reasons = "; ".join(f"{item.name}: {item.left_out}" for item in runs)
        raise UsageError(f"no check is left: {reasons}", code="usage.qemu-check")
    keys = {
        "checks": [item.keys() for item in found.done],
        "steps": [step_keys(item.name, step) for item in found.done for step in item.steps],
        "left_out": left_out(found),
        "reports": [str(path) for path in files],
    }
    lines = [verdict(found), *(f"report: {path}" for path in files)]
    return runner.Outcome(keys, lines, 0 if found.passed else _FAILED)


def _listed() -> runner.Outcome:
    from hwflash.qemu.check import ALL, CHECKS

    known = [
        {"name": check.name, "help": check.help, "faults": list(check.faults)}
        for check in CHECKS.values()
    ]
    lines = [f"{check.name:14} {check.help}" for check in CHECKS.values()]
    lines.append(f"{_ALL:14} {', '.join(ALL)}: what certifies a reference.")
    lines += [f"faults of {check.name}: {', '.join(check.faults)}"
              for check in CHECKS.values() if check.faults]  # fmt: skip
    return runner.Outcome({"known": known}, lines)


def _chosen(names: Sequence[str]) -> tuple[list[Check], set[str]]:
    """The checks that names mean, and those that were asked for by their own name."""
    from hwflash.qemu.check import ALL, CHECKS, find_check

    wanted = [item for name in names for item in (ALL if name == _ALL else (name,))]
    found = [find_check(name) for name in dict.fromkeys(wanted)]
    return found or list(CHECKS.values()), set(names)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the command line wants of each check."""

    run: runner.Run
    guid: UUID | None
    fault: str
    options: dict[str, Any]

    def run_check(self, check: Check, runs: list[CheckRun], *, asked: bool) -> None:
        """Run a check, its steps told as they come; add it to the others before it begins."""
        from hwflash.jobs.check_report import CheckRun

        runs.append(found := CheckRun(check.name))
        try:
            self._run(check, found, asked=asked)
        except HwflashError as exc:
            found.error = exc
            raise

    def _run(self, check: Check, found: CheckRun, *, asked: bool) -> None:
        from hwflash.qemu.check import Bench, run_check

        console = self.run.console
        machine = machine_of(self.options, secure=check.secure)
        if not asked:
            found.left_out = self._not_for(check, machine)
        if found.left_out:
            console.info(f"{check.name}: left out, {found.left_out}")
            return
        found.code, found.machine = _firmware(machine), machine.machine
        console.info(f"{check.name}: {found.code} on {found.machine}", program=machine.program)
        bench = Bench(
            machine, console, self.run.cancel, self.options["patience"], guid=self.guid,
            fault=self.fault,
        )  # fmt: skip
        for step in run_check(check, bench):
            found.steps.append(step)
            _tell(self.run, check, step)

    def _not_for(self, check: Check, machine: Machine) -> str:
        """Why a check that nobody named is not for the machine; "": it is."""
        if check.secure and not machine.secure:
            return "the flash takes writes from everywhere"
        if check.families and machine.family not in check.families:
            return f"it is about {' and '.join(check.families)}"
        if self.fault and self.fault not in check.faults:
            return f"it has no fault {self.fault}"
        return ""


def _firmware(machine: Machine) -> str:
    code = machine.template if machine.mode == "combined" else machine.code
    return code.path if code is not None else machine.code.path


def _tell(run: runner.Run, check: Check, step: Step) -> None:
    """Print a step as soon as it is known; the same for scripts."""
    from hwflash.jobs.check_report import step_keys, step_lines

    run.console.data(step_lines(check.name, step))
    if run.console.json_lines:
        state = "ok" if step.ok else "failed"
        keys = step_keys(check.name, step)
        run.console.info(f"{check.name}: {step.name}: {state}", step=keys)


@contextmanager
def _written(files: Sequence[Path], report: CheckReport) -> Generator[None]:
    """Write reports now and at the end, also at that of a run that an error has stopped.

    What is written now says that nothing has passed; it stays when hwflash is killed, and shows
    at once that it can be written.

    Raises:
        EnvironmentFault: one cannot be written (``environment.unwritable``).
    """
    from hwflash.jobs.check_report import json_report, junit_report, text_report
    from hwflash.jobs.report import save_report

    makers = {".txt": text_report, ".json": json_report, ".xml": junit_report}

    def write() -> None:
        for path in files:
            save_report(path, makers[path.suffix.lower()](report))

    write()
    try:
        yield
    finally:
        write()
