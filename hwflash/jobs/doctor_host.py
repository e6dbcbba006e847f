"""The computer as the doctor looks at it: everything a test may want to replace."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    INFO = "info"  # worth knowing, nothing to do
    WARN = "warn"  # some things will not work
    FAIL = "fail"  # nothing will work, or a device will not


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: stable name of what was checked, such as ``udev-rules``.
        status: how it ended.
        found: what is there.
        expected: what should be there, "" when that is plain.
        code: stable name of the remedy, such as ``doctor.udev-rules``; "" when there is
            nothing to do.
        context: facts the remedy needs: paths, names, numbers.
    """

    name: str
    status: Status
    found: str
    expected: str = ""
    code: str = ""
    context: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class User:
    """Who runs hwflash: numbers as the kernel sees them in this very session."""

    name: str
    uid: int
    gids: frozenset[int]


def current_user() -> User:
    """The user of this process."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return User(name, uid, frozenset({os.getegid(), *os.getgroups()}))


def find_libusb() -> str | None:
    """The name of the libusb library that PyUSB loads, or None."""
    # PyUSB has no types, and is not needed by whoever only reads images.
    libusb1: Any = importlib.import_module("usb.backend.libusb1")
    backend = libusb1.get_backend()
    return None if backend is None else str(getattr(backend.lib, "_name", "libusb-1.0"))


def module_version(name: str) -> str | None:
    """The version of an importable module's distribution, or None when it is missing."""
    if importlib.util.find_spec(name.partition(":")[0]) is None:
        return None
    try:
        return importlib.metadata.version(name.partition(":")[2] or name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def first_line(command: Sequence[str]) -> str:
    """The first line a program prints, "" when it fails or takes more than 10 s."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.partition("\n")[0].strip()


@dataclass(frozen=True, slots=True)
class Host:
    """The computer the checks look at.

    Attributes:
        root: in front of /sys, /proc, /dev, /etc, /usr and /var.
        environ: environment variables.
        user: who runs hwflash.
        which: path of a program by name, or None.
        first_line: first line of a program's output.
        libusb: name of the libusb library, or None.
        module_version: version of ``module`` or ``module:distribution``, or None.
        access: whether this user may read and write a path.
        free_bytes: free space of the file system that has a path, in bytes.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    user: User = field(default_factory=current_user)
    which: Callable[[str], str | None] = shutil.which
    first_line: Callable[[Sequence[str]], str] = first_line
    libusb: Callable[[], str | None] = find_libusb
    module_version: Callable[[str], str | None] = module_version
    access: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free

    def path(self, absolute: str) -> Path:
        """A path of the system, under `root`."""
        return self.root / absolute.lstrip("/")

    def text(self, path: Path) -> str | None:
        """The content of a small text file without its line end, or None."""
        try:
            return path.read_text("utf-8", errors="replace").strip()
        except OSError:
            return None

    def groups(self) -> dict[str, tuple[int, frozenset[str]]]:
        """Number and members of every group in /etc/group, by name."""
        found: dict[str, tuple[int, frozenset[str]]] = {}
        for line in (self.text(self.path("/etc/group")) or "").splitlines():
            parts = line.split(":")
            if len(parts) == 4 and parts[2].isdecimal():
                found[parts[0]] = (int(parts[2]), frozenset(filter(None, parts[3].split(","))))
        return found
