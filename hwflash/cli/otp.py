"""``hwflash otp``: security registers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner
from hwflash.cli.asking import agrees, for_ever, nobody_is_there
from hwflash.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hwflash.jobs.otp import OtpOptions, OtpResult, Register


@click.group("otp")
def command() -> None:
    """Read, write and lock the security registers of a chip."""


@command.command("read")
@params.programmer_options
@click.option("--save", type=params.PATH, metavar="FILE", help="Write the content to a file.")
@click.option("--number", type=int, help="Only this register, from 1.")
@runner.command("otp read")
def read(run: runner.Run, save: Path | None, number: int | None, **options: Any) -> runner.Outcome:
    """Show the security registers, whether they are locked, and the unique id."""
    from hwflash.jobs.otp import read_registers
    from hwflash.jobs.session import open_session
    from hwflash.layout.files import Segment, save_image

    with open_session(params.request(options), run.console) as session:
        found = read_registers(session)
        part, unique_id = session.chip.part, session.unique_id()
    if number is not None:
        found = tuple(item for item in found if item.number == number)
        if not found:
            raise UsageError(f"{part} has no security register {number}", code="usage.otp")
    if save is not None:
        save_image(save, [Segment(0, b"".join(item.data for item in found))], "raw")
    keys = {"part": part, "unique_id": unique_id, "registers": [_keys(item) for item in found]}
    lines = [f"{part}, unique id {unique_id or 'not known'}"]
    for item in found:
        state = "locked for ever" if item.locked else "not locked"
        lines.append(f"  register {item.number}, {item.area.size} bytes, {state}")
        lines += [f"    {text}" for text in _dump(item.data)]
    return runner.Outcome(keys, lines)


def _change_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        [
            click.option("--number", type=int, required=True, help="Which register, from 1."),
            click.option("-y", "--yes", is_flag=True, help="Do not ask."),
            click.option("-n", "--dry-run", is_flag=True, help="Change nothing."),
        ]
    ):
        function = option(function)
    return params.programmer_options(function)


@command.command("write")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--at", type=params.SIZE, default=0, help="Offset in the register. Default: 0.")
@_change_options
@click.option(
    "--confirm",
    metavar="PART",
    help="For areas that can never be erased: the name of the chip, instead of typing it.",
)
@runner.command("otp write")
def write(
    run: runner.Run, file: Path, at: int, number: int, confirm: str | None, **options: Any
) -> runner.Outcome:
    """Write FILE, raw bytes, into a register; what lies around it stays.

    Areas that can never be erased want the name of the chip; --yes is not enough.
    """
    from hwflash.chip.model import OtpAccess
    from hwflash.jobs.otp import write_register
    from hwflash.jobs.session import open_session

    data = file.read_bytes()
    yes = options.pop("yes")
    how = _how(run, "otp write", options.pop("dry_run"), sure=yes or bool(confirm))
    with open_session(params.request(options), run.console) as session:
        part, once = session.chip.part, session.chip.otp_access is not OtpAccess.SECURITY

        def ask(words: str) -> bool:
            run.console.talk(words)
            if once:
                return for_ever(run, part, confirm, ask=not yes)
            return yes or bool(confirm) or agrees(run, "Write it now?")

        done = write_register(session, number, at, data, how(ask), run.console)
    return _outcome(done, "written and verified")


@command.command("lock")
@_change_options
@click.option(
    "--confirm", metavar="PART", help="The name of the chip, instead of typing it: for ever."
)
@runner.command("otp lock")
def lock(run: runner.Run, number: int, confirm: str | None, **options: Any) -> runner.Outcome:
    """Lock a register for ever. --yes is not enough: the name of the chip has to be given."""
    from hwflash.jobs.otp import lock_register
    from hwflash.jobs.session import open_session

    yes = options.pop("yes")
    how = _how(run, "otp lock", options.pop("dry_run"), sure=yes or bool(confirm))
    with open_session(params.request(options), run.console) as session:
        part = session.chip.part

        def ask(words: str) -> bool:
            run.console.talk(words)
            return for_ever(run, part, confirm, ask=not yes)

        done = lock_register(session, number, how(ask), run.console)
    return _outcome(done, "locked for ever")


def _how(
    run: runner.Run, kind: str, dry_run: bool, *, sure: bool
) -> Callable[[Callable[[str], bool]], OtpOptions]:
    from hwflash.jobs.otp import OtpOptions
    from hwflash.state import state_dir

    if nobody_is_there(run) and not sure and not dry_run:
        raise UsageError("nobody is there to confirm the change", code="usage.confirm")
    return lambda ask: OtpOptions(state_dir(os.environ), dry_run, ask, kind)


def _outcome(done: OtpResult, verb: str) -> runner.Outcome:
    keys = {
        "register": _keys(done.register),
        "executed": done.executed,
        "backup": str(done.backup) if done.backup else None,
        "history": done.entry,
    }
    what = f"register {done.register.number}"
    return runner.Outcome(
        keys, [f"{what} {verb}" if done.executed else f"{what}: nothing was sent"]
    )


def _keys(item: Register) -> dict[str, Any]:
    return {
        "number": item.number,
        "address": item.area.address,
        "size": item.area.size,
        "locked": item.locked,
        "blank": not item.data.strip(b"\xff"),
        "data": item.data.hex(),
    }


def _dump(data: bytes) -> list[str]:
    """Lines of 16 bytes, without those that are FF."""
    return [
        f"{at:04x}  {data[at : at + 16].hex(' ')}"
        for at in range(0, len(data), 16)
        if data[at : at + 16].strip(b"\xff")
    ] or ["erased"]
