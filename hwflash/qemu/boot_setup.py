"""What a boot needs before QEMU runs: options, a folder, copies, the plain machine's words."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hwflash.errors import EnvironmentFault, ImageError, ReferenceFailed
from hwflash.qemu.args import Dialect
from hwflash.qemu.machine import Machine
from hwflash.qemu.qmp import QmpClient


@dataclass(frozen=True, slots=True)
class BootOptions:
    """How a machine is booted.

    Attributes:
        memory: RAM in MiB.
        console: how the serial port is reached: a TCP port of this computer, or a pseudo
            terminal.
        log: file for the console's lines with their times, or None.
        operations: write the operation log; see `Guest.operations`.
        dialect: in which words QEMU is told of the flash.
        in_place: the guest writes to the machine's own files, not to copies.
        paused: leave the processor where it is at power-on.
        qtest: open QEMU's qtest server beside the running CPU; see `Guest.qtest`.
        extra: more words for QEMU's command line.
    """

    memory: int = 256
    console: Literal["tcp", "pty"] = "tcp"
    log: Path | None = None
    operations: bool = False
    dialect: Dialect = "drive"
    in_place: bool = False
    paused: bool = False
    qtest: bool = False
    extra: tuple[str, ...] = ()


def plain_machine(machine: Machine, options: BootOptions) -> list[str]:
    """A machine without anything that costs time: no NIC, no display, no disks."""
    words = ["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-S"]
    words += ["-accel", "tcg", "-m", str(options.memory)]
    if machine.family == "virt":
        # The default CPU of virt is a 32-bit one.
        words += ["-cpu", "cortex-a57" if machine.architecture == "aarch64" else "cortex-a15"]
    else:
        words += ["-vga", "none"]
    kinds = {"tcp": "socket,id=console,host=127.0.0.1,port=0,server=on,wait=off",
             "pty": "pty,id=console"}  # fmt: skip
    return [*words, "-chardev", kinds[options.console], "-serial", "chardev:console"]


def chardev(name: str, number: int) -> list[str]:
    """The option for a character device on a socket that QEMU inherits with this number."""
    return ["-chardev", f"socket,id={name},fd={number}"]


def console_of(qmp: QmpClient) -> str:
    """Where QEMU has put the serial port, as `hwflash.console_port.open_port` takes it."""
    for item in qmp.execute("query-chardev"):
        if item.get("label") == "console":
            name = str(item.get("filename", ""))
            if match := re.search(r"tcp:(127\.0\.0\.1:\d+)", name):
                return f"socket://{match[1]}"
            if name.startswith("pty:"):
                return name.removeprefix("pty:")
    raise ReferenceFailed("QEMU does not tell where its console is", code="reference.qmp")


def make_folder() -> Path:
    """A new folder of the guest's own.

    Raises:
        EnvironmentFault: there is no place for it (``environment.unwritable``).
    """
    try:
        return Path(tempfile.mkdtemp(prefix="hwflash-qemu-"))
    except OSError as exc:
        raise unwritable(Path(tempfile.gettempdir()), exc) from exc


def copy_file(source: Path, target: Path) -> None:
    """Copy a file.

    Raises:
        ImageError: the source cannot be read (``image.unreadable``).
        EnvironmentFault: the copy cannot be written (``environment.unwritable``).
    """
    try:
        with source.open("rb"):
            pass
    except OSError as exc:
        raise _unreadable(source, exc) from exc
    try:
        shutil.copyfile(source, target)
    except OSError as exc:
        raise unwritable(target, exc) from exc


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        ImageError: it cannot be read (``image.unreadable``).
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: Path, exc: OSError) -> ImageError:
    return ImageError(
        f"{path} cannot be opened: {exc.strerror or exc}", code="image.unreadable", path=str(path)
    )


def unwritable(path: Path, exc: OSError) -> EnvironmentFault:
    """What to raise for a file that cannot be written."""
    return EnvironmentFault(
        f"{path} cannot be written: {exc.strerror or exc}",
        code="environment.unwritable",
        path=str(path),
    )
