"""``hwflash qemu``: the simulated reference in the dialects of QEMU and libvirt."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from hwflash.cli import params, runner
from hwflash.cli.qemu_check import command as check_
from hwflash.cli.qemu_fwcfg import command as fwcfg_
from hwflash.cli.qemu_run import command as run_
from hwflash.errors import ImageError, UsageError

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.qemu.autoselect import Verdict, Wish
    from hwflash.qemu.machine import FlashFile, Machine

#: The largest description in another dialect that is read.
TEXT_LIMIT: Final = 1 << 20


@click.group("qemu")
def command() -> None:
    """Describe, boot and check the simulated reference: OVMF in QEMU."""


command.add_command(run_)
command.add_command(check_)
command.add_command(fwcfg_)


def _wish_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_WISH_OPTIONS):
        function = option(function)
    return function


_WISH_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("--machine", help="QEMU's machine type, such as q35, pc-q35-7.2 or virt."),
    click.option("--arch", help="x86_64, i386, aarch64 or arm. Default: that of the machine."),
    click.option(
        "--with", "wanted", metavar="FEATURE", multiple=True,
        help="Firmware must have this, such as secure-boot; repeatable.",
    ),
    click.option(
        "--without", "unwanted", metavar="FEATURE", multiple=True,
        help="Firmware must not have this; repeatable.",
    ),
]  # fmt: skip


def _machine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_MACHINE_OPTIONS):
        function = option(function)
    return params.json_option(_wish_options(function))


_MACHINE_OPTIONS: list[Callable[[Any], Any]] = [
    click.option(
        "-b", "--board", type=params.BoardName(), help="Board whose [reference] is meant."
    ),
    click.option(
        "--from", "other", metavar="FILE",
        help="Translate this: a QEMU command line or libvirt XML; - is standard input.",
    ),
    click.option("--code", metavar="FILE", help="Firmware code. Default: found by descriptors."),
    click.option("--template", metavar="FILE", help="Template of the variable store."),
    click.option("--vars", "own", metavar="FILE", help="The guest's own copy of the template."),
    click.option("--secure", is_flag=True, help="The flash takes writes from SMM only."),
    click.option("--s3/--no-s3", default=None, help="Whether the machine has S3."),
    click.option("--make-vars", is_flag=True, help="Make the copy now, unless it exists."),
]  # fmt: skip


@command.command("args")
@click.option(
    "--as", "dialect", type=click.Choice(["drive", "named", "blockdev"]), default="drive",
    show_default=True, help="-drive if=pflash, named drives, or -blockdev nodes.",
)  # fmt: skip
@_machine_options
@runner.command("qemu args")
def args(run: runner.Run, dialect: Any, **options: Any) -> runner.Outcome:
    """Print a machine's flash as a QEMU command line."""
    from hwflash.qemu.args import to_args, to_shell

    machine = _machine(run, options)
    words = to_args(machine, dialect)
    keys = {"words": words, "dialect": dialect, **_finish(run, machine, options)}
    return runner.Outcome(keys, [to_shell(words)])


@command.command("xml")
@click.option("--auto", is_flag=True, help="Let libvirt choose the firmware by its features.")
@_machine_options
@runner.command("qemu xml")
def xml(run: runner.Run, auto: bool, **options: Any) -> runner.Outcome:
    """Print a machine's flash as libvirt's domain XML."""
    from hwflash.qemu.libvirt import to_auto_xml, to_xml

    if auto and not any(options[name] for name in ("board", "other", "code")):
        wish = _wish(options)
        text = to_auto_xml(wish)
        return runner.Outcome({"xml": text, "wish": _wish_keys(wish)}, [text.rstrip("\n")])
    machine = _machine(run, options)
    if auto:
        from hwflash.qemu.autoselect import wish_of
        from hwflash.qemu.descriptors import read_folders, usual_folders

        wish = wish_of(machine, read_folders(usual_folders()))
        text = to_auto_xml(wish)
        keys: dict[str, Any] = {"xml": text, "wish": _wish_keys(wish)}
    else:
        text = to_xml(machine)
        keys = {"xml": text, **_finish(run, machine, options)}
    return runner.Outcome(keys, [text.rstrip("\n")])


@command.command("firmware")
@_wish_options
@click.option("--interface", default="uefi", show_default=True, help="uefi, bios, ...")
@click.option("--no-smm", is_flag=True, help="The machine has no SMM.")
@params.json_option
@runner.command("qemu firmware")
def firmware(run: runner.Run, interface: str, no_smm: bool, **options: Any) -> runner.Outcome:
    """List the firmware descriptors here, which one a machine gets, and why not the others."""
    from hwflash.qemu.autoselect import match
    from hwflash.qemu.descriptors import read_folders, usual_folders

    wish = _wish(options, interface, False if no_smm else None)
    verdicts = match(read_folders(usual_folders()), wish)
    chosen = next((item for item in verdicts if item.chosen), None)
    keys = {
        "wish": _wish_keys(wish),
        "chosen": str(chosen.entry.file) if chosen else None,
        "descriptors": [_verdict_keys(item) for item in verdicts],
    }
    lines = [line for item in verdicts for line in _verdict_lines(item)]
    return runner.Outcome(keys, lines or ["no firmware descriptors here"])


# --- which machine --------------------------------------------------------------------------


def _machine(run: runner.Run, options: dict[str, Any]) -> Machine:
    """The machine that the options mean."""
    machine = _meant(run, options)
    return machine if options["s3"] is None else replace(machine, s3=options["s3"])


def _meant(run: runner.Run, options: dict[str, Any]) -> Machine:
    named = [name for name in ("board", "other", "code") if options[name]]
    if len(named) > 1:
        raise UsageError("give one of --board, --from and --code", code="usage.selection")
    if options["other"]:
        return _translated(run, options)
    from hwflash.qemu.autoselect import choose, machine_for
    from hwflash.qemu.descriptors import read_folders, usual_folders
    from hwflash.qemu.machine import from_board, make_machine

    board: Board | None = options["board"]
    if board is not None:
        _require_vars(options, bool(board.reference and board.reference.vars))
        return from_board(board, options["own"])
    if options["code"]:
        _require_vars(options, bool(options["template"]))
        return make_machine(
            options["code"], options["template"], options["own"],
            machine=options["machine"] or "q35", architecture=options["arch"],
            secure=options["secure"],
        )  # fmt: skip
    wish = _wish(options)
    _, chosen = choose(read_folders(usual_folders()), wish)
    _require_vars(options, chosen.mode != "stateless")
    return machine_for(chosen, wish, options["own"])


def _require_vars(options: dict[str, Any], template: bool) -> None:
    if template and not options["own"]:
        raise UsageError(
            "there is a template, but no file for the guest's own copy of it (--vars)",
            code="usage.qemu-template",
        )


def _translated(run: runner.Run, options: dict[str, Any]) -> Machine:
    """The machine of a command line or of XML."""
    from hwflash.qemu.args import parse_shell
    from hwflash.qemu.autoselect import Wish, choose, machine_for
    from hwflash.qemu.descriptors import read_folders, usual_folders
    from hwflash.qemu.libvirt import from_xml

    text = _text(run, options["other"])
    if not text.lstrip("\ufeff \t\r\n").startswith("<"):
        parsed = parse_shell(text, options["arch"] or "x86_64")
        for note in parsed.notes:
            run.console.warning(note)
        return parsed.machine
    found = from_xml(text.removeprefix("\ufeff"), options["own"])
    if not isinstance(found, Wish):
        return found
    entry, chosen = choose(read_folders(usual_folders()), found)
    run.console.info(f"the XML leaves the choice of the firmware: {entry.file}")
    _require_vars(options, chosen.mode != "stateless")
    return machine_for(chosen, found, options["own"])


def _text(run: runner.Run, name: str) -> str:
    image = params.load_file(run, Path(name), "raw")
    content = image.flat()
    if len(content) > TEXT_LIMIT:
        raise ImageError(f"{name} is larger than 1 MiB", code="image.too-large", file=name)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ImageError(
            f"{name} is no UTF-8 text (byte {error.start})", code="image.text", file=name
        ) from error


def _wish(options: dict[str, Any], interface: str = "uefi", smm: bool | None = None) -> Wish:
    from hwflash.qemu.autoselect import make_wish
    from hwflash.qemu.machine import usual_architecture

    machine = options["machine"] or "q35"
    return make_wish(
        options["arch"] or usual_architecture(machine), machine,
        wanted=options["wanted"], unwanted=options["unwanted"], interface=interface, smm=smm,
    )  # fmt: skip


# --- what is said besides -------------------------------------------------------------------


def _finish(run: runner.Run, machine: Machine, options: dict[str, Any]) -> dict[str, Any]:
    """Make the copy when asked to, foretell what QEMU would refuse, and warn."""
    from hwflash.qemu.machine import prepare_copy
    from hwflash.qemu.pflash import concerns, require_startable

    made = prepare_copy(machine) if options["make_vars"] else False
    warnings = [{"code": item.code, "message": item.message} for item in concerns(machine)]
    units: list[dict[str, Any]] = []
    try:
        units = [
            {"unit": unit.number, "name": unit.name, "base": unit.range.address,
             "length": unit.range.length, "sector": unit.sector}
            for unit in require_startable(machine)
        ]  # fmt: skip
        warnings += _pairing(machine)
    except ImageError as error:
        warnings.append({"code": error.code, "message": error.message})
    for warning in warnings:
        run.console.warning(warning["message"], code=warning["code"])
    return {
        "machine": _machine_keys(machine),
        "units": units,
        "warnings": warnings,
        "made_vars": made,
    }


def _pairing(machine: Machine) -> list[dict[str, str]]:
    """A warning when code and variable store do not belong together."""
    from hwflash.qemu.pairing import judge_pair

    own = machine.vars
    if own is None or {own.format, machine.code.format} != {"raw"}:
        return []
    place = Path(own.path)
    if not place.exists() and machine.template is not None:
        place = Path(machine.template.path)
    try:
        found = judge_pair(Path(machine.code.path).read_bytes(), place.read_bytes())
    except OSError:  # a file QEMU may be allowed to read and we are not
        return []
    if found.answer != "no-pair":
        return []
    outcome = f": {found.outcome}" if found.outcome else ""
    text = f"code and variable store do not belong together{outcome} ({found.reasons[-1]})"
    return [{"code": "qemu.no-pair", "message": text}]


def _machine_keys(machine: Machine) -> dict[str, Any]:
    return {
        "architecture": machine.architecture,
        "machine": machine.machine,
        "mode": machine.mode,
        "code": _file_keys(machine.code),
        "vars": _file_keys(machine.vars),
        "template": _file_keys(machine.template),
        "secure": machine.secure,
        "smm": machine.smm,
        "s3": machine.s3,
        "max_firmware_size": machine.max_firmware_size,
    }


def _file_keys(file: FlashFile | None) -> dict[str, Any] | None:
    if file is None:
        return None
    return {"path": file.path, "format": file.format, "readonly": file.readonly}


def _wish_keys(wish: Wish) -> dict[str, Any]:
    return {
        "architecture": wish.architecture,
        "machine": wish.machine,
        "interface": wish.interface,
        "features": dict(wish.features),
        "smm": wish.smm,
    }


def _verdict_keys(verdict: Verdict) -> dict[str, Any]:
    entry, described = verdict.entry, verdict.entry.descriptor
    keys: dict[str, Any] = {
        "name": entry.name, "file": str(entry.file), "origin": entry.origin,
        "state": entry.state, "chosen": verdict.chosen, "fits": verdict.fits,
        "reasons": list(verdict.reasons),
    }  # fmt: skip
    if described is not None:
        keys |= {
            "description": described.description,
            "interfaces": list(described.interfaces),
            "device": described.device,
            "mode": described.mode or None,
            "executable": _file_keys(described.executable),
            "template": _file_keys(described.template),
            "features": sorted(described.features),
            "targets": [
                {"architecture": item.architecture, "machines": list(item.machines)}
                for item in described.targets
            ],
        }
    return keys


def _verdict_lines(verdict: Verdict) -> list[str]:
    from hwflash.uefi.window import printable

    mark = "*" if verdict.chosen else "+" if verdict.fits else "-"
    entry, described = verdict.entry, verdict.entry.descriptor
    lines = [f"{mark} {printable(entry.name)}  ({entry.origin}, {printable(str(entry.file))})"]
    if described is not None:
        lines.append(f"    {printable(described.description)}")
        lines.append(
            f"    {', '.join(map(printable, sorted(described.features))) or 'no features'}"
        )
        if verdict.chosen:
            lines += [f"    {printable(os.fspath(file))}" for file in described.files]
    lines += [f"    {printable(reason)}" for reason in verdict.reasons]
    return lines
