"""``hwflash qemu check``: real firmware in QEMU as the judge."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click

from hwflash.cli import params, runner
from hwflash.cli.qemu_log import command as log_
from hwflash.errors import EnvironmentFault, ReferenceFailed, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from hwflash.boards import Board
    from hwflash.qemu.check import Check, Step
    from hwflash.qemu.machine import Machine

#: A file that cannot exist: the guest then gets a copy of the template.
_NOWHERE: Final = f"{os.devnull}/vars"
#: Debian packages of the firmware.
_PACKAGES: Final = {
    "x86_64": "ovmf", "aarch64": "qemu-efi-aarch64", "arm": "qemu-efi-arm",
}  # fmt: skip
_FAILED: Final = 8


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

        return [
            CompletionItem(check.name, help=check.help)
            for check in CHECKS.values()
            if check.name.startswith(incomplete)
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
@click.option("-b", "--board", type=params.BoardName(), help="Board whose [reference] is checked.")
@click.option("--code", metavar="FILE", help="Firmware code. Default: found by descriptors.")
@click.option("--template", metavar="FILE", help="Template of the variable store.")
@click.option("--machine", "kind", default=None, help="QEMU's machine type. Default: q35.")
@click.option("--arch", help="x86_64, i386, aarch64 or arm. Default: that of the machine.")
@click.option("--secure", is_flag=True, help="The flash takes writes from SMM only.")
@click.option("--with", "wanted", metavar="FEATURE", multiple=True,
              help="Without --code and --board: firmware must have this; repeatable.")  # fmt: skip
@click.option("--without", "unwanted", metavar="FEATURE", multiple=True,
              help="Likewise: firmware must not have this; repeatable.")  # fmt: skip
@click.option("--patience", type=click.FloatRange(1, 3600), default=90, show_default=True,
              help="For a boot: guest's CPU seconds, with a fifth of the wall time.")  # fmt: skip
@params.json_option
@runner.command("qemu check")
def command(
    run: runner.Run, names: tuple[str, ...], listed: bool, patience: float, **options: Any
) -> runner.Outcome:
    """Let real firmware in QEMU judge what hwflash says and writes.

    Without NAME every check runs that is for the machine. Nothing outside of folders of their
    own is written; exit 8 when a check fails.

    `hwflash qemu check log FILE` reads a debug log instead, or compares two.
    """
    from hwflash.qemu.check import CHECKS, Bench, find_check, run_check

    if listed:
        known = [{"name": check.name, "help": check.help} for check in CHECKS.values()]
        return runner.Outcome({"known": known}, [f"{i['name']:14} {i['help']}" for i in known])
    chosen = [find_check(name) for name in dict.fromkeys(names)] or list(CHECKS.values())
    checks: list[dict[str, object]] = []
    steps: list[dict[str, object]] = []
    for check in chosen:
        machine = _machine(check, options)
        if check.secure and not machine.secure and not names:
            run.console.info(f"{check.name}: left out, the flash takes writes from everywhere")
            continue
        code = machine.template if machine.mode == "combined" else machine.code
        firmware = code.path if code is not None else machine.code.path
        run.console.info(f"{check.name}: {firmware} on {machine.machine}", program=machine.program)
        bench = Bench(machine, run.console, run.cancel, patience)
        done = [_told(run, check, step) for step in run_check(check, bench)]
        steps += done
        checks.append(
            {"name": check.name, "ok": all(step["ok"] for step in done),
             "code": firmware, "machine": machine.machine}
        )  # fmt: skip
    failed = [str(item["name"]) for item in checks if not item["ok"]]
    keys = {"checks": checks, "steps": steps}
    count = f"{len(steps)} steps, {sum(not step['ok'] for step in steps)} failed"
    last = f"{count}: {', '.join(failed)}" if failed else count
    return runner.Outcome(keys, [last], _FAILED if failed else 0)


def _told(run: runner.Run, check: Check, step: Step) -> dict[str, object]:
    """Print a step as soon as it is known; the same for scripts."""
    from hwflash.uefi.window import printable

    where, found = f"{check.name}: {step.name}", printable(step.found)
    if step.ok:
        run.console.data([f"ok      {where}: {found}"])
    else:
        expected = printable(step.expected)
        run.console.data(
            [f"FAILED  {where}", f"        expected: {expected}", f"        found:    {found}"]
        )
    keys: dict[str, object] = {
        **asdict(step), "check": check.name, "seconds": round(step.seconds, 3)
    }  # fmt: skip
    if run.console.json_lines:
        state = "ok" if step.ok else "failed"
        run.console.info(f"{where}: {state}", step=keys)
    return keys


# --- which machine --------------------------------------------------------------------------


def _machine(check: Check, options: dict[str, Any]) -> Machine:
    """The machine that the options mean; without any, the one that fits the check."""
    from hwflash.qemu.machine import from_board, make_machine

    board: Board | None = options["board"]
    code: str | None = options["code"]
    if board is not None and code:
        raise UsageError("give one of --board and --code", code="usage.selection")
    if options["template"] and not code:
        raise UsageError("--template goes with --code", code="usage.selection")
    if board is not None:
        return from_board(board, _NOWHERE)
    if code:
        return make_machine(
            code, options["template"], _NOWHERE,
            machine=options["kind"] or "q35", architecture=options["arch"],
            secure=options["secure"],
        )  # fmt: skip
    return _described(check, options)


def _described(check: Check, options: dict[str, Any]) -> Machine:
    """Firmware by the descriptors of this computer."""
    from hwflash.qemu.autoselect import choose, machine_for, make_wish
    from hwflash.qemu.descriptors import read_folders, usual_folders
    from hwflash.qemu.machine import usual_architecture

    kind = options["kind"] or "q35"
    wanted, unwanted = set(options["wanted"]), set(options["unwanted"])
    selected = bool(wanted or unwanted or options["secure"] or options["kind"] or options["arch"])
    guarded = options["secure"] or (check.secure and not selected)
    features = {"secure-boot", "requires-smm"}
    wanted |= features if guarded else set()
    # Plain firmware unless something else is asked for. One with enrolled keys starts no Shell:
    # that one is not signed.
    unwanted |= {"enrolled-keys", *(() if guarded else features)} - wanted
    architecture = options["arch"] or usual_architecture(kind)
    wish = make_wish(architecture, kind, wanted=sorted(wanted), unwanted=sorted(unwanted - wanted))
    try:
        _, found = choose(read_folders(usual_folders()), wish)
    except ReferenceFailed as exc:
        package = _PACKAGES.get(architecture)
        if options["wanted"] or package is None:
            raise
        raise EnvironmentFault(
            f"{exc.message} (Debian package {package})",
            code="environment.firmware-missing",
            package=package,
            **exc.context,
        ) from exc
    return machine_for(found, wish, _NOWHERE if found.mode != "stateless" else None)
