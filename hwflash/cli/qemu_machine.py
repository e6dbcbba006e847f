"""Which simulated machine a command line means."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import click

from hwflash.cli import params
from hwflash.errors import EnvironmentFault, ReferenceFailed, UsageError

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.qemu.machine import Machine

#: A file that cannot exist: the guest then gets a copy of the template.
NOWHERE: Final = f"{os.devnull}/vars"
#: Debian packages of the firmware.
_PACKAGES: Final = {
    "x86_64": "ovmf", "aarch64": "qemu-efi-aarch64", "arm": "qemu-efi-arm",
}  # fmt: skip

_GUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

_OPTIONS: list[Callable[[Any], Any]] = [
    click.option("-b", "--board", type=params.BoardName(),
                 help="Board whose [reference] is meant."),
    click.option("--code", metavar="FILE", help="Firmware code. Default: found by descriptors."),
    click.option("--template", metavar="FILE", help="Template of the variable store."),
    click.option("--machine", "kind", default=None, help="QEMU's machine type. Default: q35."),
    click.option("--arch", help="x86_64, i386, aarch64 or arm. Default: that of the machine."),
    click.option("--secure", is_flag=True, help="The flash takes writes from SMM only."),
    click.option("--with", "wanted", metavar="FEATURE", multiple=True,
                 help="Without --code and --board: firmware must have this; repeatable."),
    click.option("--without", "unwanted", metavar="FEATURE", multiple=True,
                 help="Likewise: firmware must not have this; repeatable."),
    click.option("--patience", type=click.FloatRange(1, 3600), default=90, show_default=True,
                 help="For a boot: guest's CPU seconds, with a fifth of the wall time."),
]  # fmt: skip


def machine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that boot a machine."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def vm_generation(text: str | None) -> UUID | None:
    """The GUID of a VM Generation ID device, as QEMU takes it: 8-4-4-4-12 digits.

    Raises:
        UsageError: it is none (``usage.vm-guid``).
    """
    if text is None:
        return None
    if not _GUID.fullmatch(text):
        raise UsageError(f"{text!r} is not a GUID", code="usage.vm-guid", text=text)
    return UUID(text)


def machine_of(options: dict[str, Any], *, secure: bool = False) -> Machine:
    """The machine that the options mean.

    Args:
        options: those of `machine_options`.
        secure: without any, take firmware that guards its flash by SMM.

    Raises:
        UsageError: options that exclude each other (``usage.selection``).
        EnvironmentFault: no firmware is installed (``environment.firmware-missing``).
        ReferenceFailed: there is none of this wish (``qemu.no-firmware``).
    """
    from hwflash.qemu.machine import from_board, make_machine

    board: Board | None = options["board"]
    code: str | None = options["code"]
    if board is not None and code:
        raise UsageError("give one of --board and --code", code="usage.selection")
    if options["template"] and not code:
        raise UsageError("--template goes with --code", code="usage.selection")
    if board is not None:
        return from_board(board, NOWHERE)
    if code:
        return make_machine(
            code, options["template"], NOWHERE,
            machine=options["kind"] or "q35", architecture=options["arch"],
            secure=options["secure"],
        )  # fmt: skip
    return _described(options, secure=secure)


def _described(options: dict[str, Any], *, secure: bool) -> Machine:
    """Firmware by the descriptors of this computer."""
    from hwflash.qemu.autoselect import choose, machine_for, make_wish
    from hwflash.qemu.descriptors import read_folders, usual_folders
    from hwflash.qemu.machine import usual_architecture

    kind = options["kind"] or "q35"
    wanted, unwanted = set(options["wanted"]), set(options["unwanted"])
    selected = bool(wanted or unwanted or options["secure"] or options["kind"] or options["arch"])
    guarded = options["secure"] or (secure and not selected)
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
    return machine_for(found, wish, NOWHERE if found.mode != "stateless" else None)
