"""``hwflash qemu run``: boot an image headless, on a copy, and talk to its Shell."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from hwflash.cli import params, runner
from hwflash.errors import ImageError, UsageError

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.qemu.boot import Guest
    from hwflash.qemu.machine import Machine
    from hwflash.qemu.shell import Shell

#: A file that cannot exist: the guest then gets a copy of the template.
_NOWHERE: Final = f"{os.devnull}/vars"
#: Programs that could not be, told one by one.
_SHOWN: Final = 20


@click.command("run")
@click.argument("file", required=False, type=params.PATH)
@click.option(
    "-b", "--board", type=params.BoardName(), help="Board whose [reference] has the code."
)
@click.option("--code", metavar="CODE", help="Firmware code; FILE is its variable store.")
@click.option("--machine", "kind", default=None, help="QEMU's machine type. Default: q35.")
@click.option("--arch", help="x86_64, i386, aarch64 or arm. Default: that of the machine.")
@click.option("--secure", is_flag=True, help="The flash takes writes from SMM only.")
@click.option("--with", "wanted", metavar="FEATURE", multiple=True,
              help="Without --code and --board: firmware must have this; repeatable.")  # fmt: skip
@click.option("-x", "--command", "commands", metavar="LINE", multiple=True,
              help="Shell command to run, its output printed; repeatable.")  # fmt: skip
@click.option("--until", metavar="REGEX", help="Wait for this instead of the Shell.")
@click.option("--patience", type=click.FloatRange(1, 3600), default=90, show_default=True,
              help="CPU seconds of the guest, with a fifth of the wall time.")  # fmt: skip
@click.option("--memory", type=click.IntRange(64, 65536), default=256, show_default=True,
              help="RAM in MiB.")  # fmt: skip
@click.option("--console", "how", type=click.Choice(["tcp", "pty"]), default="tcp",
              show_default=True, help="How the serial port is reached.")  # fmt: skip
@click.option("--log", type=params.PATH, help="Write the console's lines here, with their times.")
@click.option("--keep", type=params.PATH, help="Keep the guest's copy here, as it is in the end.")
@click.option("--strict-nor", is_flag=True,
              help="Report every write of the firmware that a chip could not do.")  # fmt: skip
@params.json_option
@runner.command("qemu run")
def command(
    run: runner.Run,
    file: Path | None,
    commands: tuple[str, ...],
    until: str | None,
    patience: float,
    memory: int,
    how: Literal["tcp", "pty"],
    log: Path | None,
    keep: Path | None,
    strict_nor: bool,
    **options: Any,
) -> runner.Outcome:
    """Boot FILE headless until the Shell's prompt: an image with code and variables, or a store.

    FILE itself is only read: the guest has a copy. Without FILE it is the template's.
    """
    from hwflash.qemu.boot import Guest
    from hwflash.qemu.boot_setup import BootOptions

    if until is not None and commands:
        raise UsageError("--until does not wait for a Shell to run -x in", code="usage.selection")
    pattern = _pattern(until) if until is not None else None
    machine, began = _machine(file, options), time.monotonic()
    boot = BootOptions(memory=memory, console=how, log=log, operations=strict_nor)
    with Guest(machine, boot, run.cancel) as guest:
        run.console.info(f"booting {machine.code.path}", program=machine.program)
        shell = None if pattern is not None else guest.wait_for_shell(patience)
        shown = guest.wait_for(pattern, patience).match[0] if pattern is not None else "Shell"
        run.console.info(
            f"{shown!r} after {time.monotonic() - began:.1f} s, "
            f"{guest.process.cpu_seconds():.1f} s of CPU time"
        )
        outputs = [] if shell is None else _run(run, shell, commands, patience)
        keys: dict[str, object] = {
            "reached": shown,
            "seconds": round(time.monotonic() - began, 3),
            "cpu_seconds": round(guest.process.cpu_seconds(), 3),
            "commands": outputs,
        }
        if shell is not None:
            guest.power_off(shell)
        impossible = _strict(run, guest) if strict_nor else None
        guest.stop()
        if keep is not None:
            guest.keep(keep)
    keys |= {"impossible_programs": impossible, "kept": str(keep) if keep else None}
    return runner.Outcome(keys, exit_code=1 if impossible else 0)


def _run(
    run: runner.Run, shell: Shell, commands: tuple[str, ...], patience: float
) -> list[dict[str, object]]:
    from hwflash.uefi.window import printable

    found: list[dict[str, object]] = []
    for line in commands:
        output = shell.run(line, patience)
        status = shell.last_error()
        run.console.data([printable(text) for text in output.splitlines()])
        if status:
            run.console.warning(f"{line!r} ends with status 0x{status:X}")
        found.append({"command": line, "output": output, "status": status})
    return found


def _strict(run: runner.Run, guest: Guest) -> list[dict[str, object]]:
    """What the firmware did that no chip can do."""
    from hwflash.qemu.trace import impossible_programs

    operations = guest.operations().operations
    found = impossible_programs(guest.content_before(), operations)
    for item in found[:_SHOWN]:
        run.console.warning(f"no chip can do this: {item}")
    run.console.info(
        f"{len(operations)} flash operations, {len(found)} of them set bits"
        if len(found) <= _SHOWN
        else f"{len(operations)} flash operations, {len(found)} runs set bits, {_SHOWN} shown"
    )
    return [
        {"address": item.address, "found": item.found.hex(), "wanted": item.wanted.hex()}
        for item in found
    ]


def _pattern(text: str) -> str:
    import re

    try:
        re.compile(text)
    except re.error as exc:
        raise UsageError(f"{text!r} is no regular expression: {exc}", code="usage.pattern") from exc
    return text


def _machine(file: Path | None, options: dict[str, Any]) -> Machine:
    """The machine that the options mean."""
    from hwflash.qemu.machine import FlashFile, from_board, make_machine

    board: Board | None = options["board"]
    code: str | None = options["code"]
    if board is not None and code:
        raise UsageError("give one of --board and --code", code="usage.selection")
    if file is not None and not file.exists():
        raise ImageError(f"{file} does not exist", code="image.unreadable", path=str(file))
    own = str(file) if file is not None else _NOWHERE
    if board is not None:
        return from_board(board, own)
    kind = options["kind"] or "q35"
    if code:
        if file is None:
            raise UsageError("--code needs FILE, its variable store", code="usage.selection")
        made = make_machine(
            code, None, None,
            machine=kind, architecture=options["arch"], secure=options["secure"],
        )  # fmt: skip
        return replace(made, vars=FlashFile(own))
    if file is not None:
        stateless = make_machine(
            own, None, None,
            machine=kind, architecture=options["arch"], secure=options["secure"],
        )  # fmt: skip
        return replace(stateless, code=FlashFile(own))
    return _chosen(kind, options)


def _chosen(kind: str, options: dict[str, Any]) -> Machine:
    """Firmware by the descriptors of this computer."""
    from hwflash.qemu.autoselect import choose, machine_for, make_wish
    from hwflash.qemu.descriptors import read_folders, usual_folders
    from hwflash.qemu.machine import usual_architecture

    wanted: tuple[str, ...] = options["wanted"]
    # Firmware with enrolled keys starts no Shell: that one is not signed.
    unwanted = () if "enrolled-keys" in wanted else ("enrolled-keys",)
    architecture = options["arch"] or usual_architecture(kind)
    wish = make_wish(architecture, kind, wanted=wanted, unwanted=unwanted)
    _, chosen = choose(read_folders(usual_folders()), wish)
    return machine_for(chosen, wish, _NOWHERE if chosen.mode != "stateless" else None)
