"""The doctor: is this computer ready to flash, and if not, what is missing.

Nothing is changed by a check. Facts and stable remedy codes only; `hwflash.cli` turns the
codes into advice.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from hwflash.errors import EnvironmentFault
from hwflash.jobs.doctor_host import Check, Host, Status, User
from hwflash.jobs.doctor_usb import RULES_NAME, SYSUSERS_NAME, usb_checks
from hwflash.resources import data_files
from hwflash.state import state_path
from hwflash.units import MIB, format_size

__all__ = [
    "AFTER_INSTALL",
    "Check",
    "Host",
    "Status",
    "User",
    "install_udev",
    "run_checks",
]

QEMU_PROGRAMS = ("qemu-system-x86_64", "qemu-system-aarch64", "qemu-system-arm")
# Where QEMU's own firmware descriptors are; QEMU docs/interop/firmware.json.
DESCRIPTOR_FOLDERS = ("/usr/share/qemu/firmware", "/etc/qemu/firmware")
FIRMWARE_PACKAGES = ("ovmf", "qemu-efi-aarch64", "qemu-efi-arm")

# A write keeps a backup and a journal: the largest common chip, 64 MiB, twice, and some air.
ROOM_NEEDED = 160 * MIB
ROOM_WANTED = 1024 * MIB

# The group must exist before udev reads a rule that names it.
AFTER_INSTALL = (
    ("systemd-sysusers",),
    ("udevadm", "control", "--reload"),
    ("udevadm", "trigger", "--subsystem-match=usb", "--attr-match=idVendor=0403"),
)


def run_checks(host: Host | None = None) -> list[Check]:
    """Every check, in the order in which a remedy helps the next one.

    Args:
        host: the computer to look at, this one when None.
    """
    host = host or Host()
    return [
        check_libusb(host),
        check_pyserial(host),
        *usb_checks(host),
        *check_qemu(host),
        check_firmware(host),
        check_flashrom(host),
        check_state(host),
        check_room(host),
    ]


def install_udev(root: Path = Path("/")) -> list[Path]:
    """Install the udev rules and the system group's definition; `AFTER_INSTALL` comes next.

    Either both files are written or none.

    Args:
        root: in front of /etc, for packaging and tests.

    Returns:
        The files written.

    Raises:
        EnvironmentFault: ``doctor.permission``; ``context["commands"]`` lists the commands,
            each a list of words, that do it as root.
    """
    shipped = data_files("udev")
    targets = {
        root / "etc/udev/rules.d" / RULES_NAME: shipped[RULES_NAME],
        root / "etc/sysusers.d/hwflash.conf": shipped[SYSUSERS_NAME],
    }
    temporary: dict[Path, Path] = {}
    try:
        for target, source in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            new = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            temporary[target] = new
            new.write_bytes(source.read_bytes())
            new.chmod(0o644)
        for target, new in temporary.items():
            new.replace(target)
    except OSError as error:
        commands = [
            ["install", "-D", "-m", "0644", str(source), str(target)]
            for target, source in targets.items()
        ]
        raise EnvironmentFault(
            f"{error.filename or root} cannot be written: {error.strerror}",
            code="doctor.permission",
            commands=commands + [list(command) for command in AFTER_INSTALL],
            paths=[str(target) for target in targets],
            errno=error.errno,
        ) from error
    finally:
        for new in temporary.values():
            new.unlink(missing_ok=True)
    return list(targets)


def check_libusb(host: Host) -> Check:
    """Whether PyUSB finds the libusb library, without which no FT232H can be reached."""
    library = host.libusb()
    if library is None:
        expected = "a libusb 1.0 library that PyUSB can load"
        return Check("libusb", Status.FAIL, "not found", expected, "doctor.libusb")
    return Check("libusb", Status.OK, library)


def check_pyserial(host: Host) -> Check:
    """Whether serial ports can be used."""
    version = host.module_version("serial:pyserial")
    if version is None:
        return Check("pyserial", Status.WARN, "not found", "pyserial", "doctor.pyserial")
    return Check("pyserial", Status.OK, f"pyserial {version}")


def check_qemu(host: Host) -> Iterator[Check]:
    """Which QEMU programs there are; the simulated reference needs the first."""
    for program in QEMU_PROGRAMS:
        path = host.which(program)
        if path is None:
            # Only the x86 machine is what most boards are compared with.
            status = Status.WARN if program == QEMU_PROGRAMS[0] else Status.INFO
            yield Check(program, status, "not found", program, "doctor.qemu", {"program": program})
            continue
        version = host.first_line([path, "--version"])
        if not version:
            found = f"{path} does not start"
            yield Check(program, Status.WARN, found, program, "doctor.qemu", {"program": program})
        else:
            yield Check(program, Status.OK, f"{path}, {version}")


def check_firmware(host: Host) -> Check:
    """Which UEFI firmware for QEMU is complete, as the firmware descriptors tell."""
    expected = "UEFI firmware with a firmware descriptor for x86_64"
    complete: dict[str, str] = {}
    broken: dict[str, str] = {}
    architectures: set[str] = set()
    for name, descriptor in _descriptors(host).items():
        mapping = _table(descriptor.get("mapping"))
        entries = [_table(mapping.get(key)) for key in ("executable", "nvram-template")]
        files = [str(entry["filename"]) for entry in entries if "filename" in entry]
        missing = [file for file in files if not host.path(file).is_file()]
        if missing or not files:
            broken[name] = missing[0] if missing else ""
            continue
        complete[name] = files[0]
        targets = descriptor.get("targets")
        for target in cast("list[Any]", targets) if isinstance(targets, list) else []:
            architectures.add(str(_table(target).get("architecture")))
    versions = _packages(host)
    facts = {"complete": complete, "broken": broken, "packages": versions}
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    said = f"{len(complete)} complete" + (f" ({said})" if said else ", of unknown version")
    if broken:
        said += f"; {', '.join(sorted(broken))} without its files"
    if "x86_64" not in architectures:
        return Check("ovmf", Status.WARN, said, expected, "doctor.ovmf", facts)
    return Check("ovmf", Status.OK, said, expected, context=facts)


def _descriptors(host: Host) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for folder in DESCRIPTOR_FOLDERS:  # a later folder hides files of an earlier one by name
        for path in sorted(host.path(folder).glob("*.json")):
            text = host.text(path)
            found.pop(path.name, None)
            if not text:  # an empty file masks a descriptor
                continue
            try:
                found[path.name] = _table(json.loads(text))
            except (ValueError, RecursionError):
                found[path.name] = {}
    return found


def _table(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _packages(host: Host) -> dict[str, str]:
    """Versions of the firmware packages, where dpkg keeps them."""
    found: dict[str, str] = {}
    package = ""
    for line in (host.text(host.path("/var/lib/dpkg/status")) or "").splitlines():
        if line.startswith("Package: "):
            package = line.partition(" ")[2]
        elif line.startswith("Version: ") and package in FIRMWARE_PACKAGES:
            found[package] = line.partition(" ")[2]
    return found


def check_flashrom(host: Host) -> Check:
    """Whether flashrom is there; hwflash does not need it."""
    path = host.which("flashrom") or host.which("/usr/sbin/flashrom")
    if path is None:
        return Check("flashrom", Status.INFO, "not found (optional)")
    return Check("flashrom", Status.OK, host.first_line([path, "--version"]) or path)


def check_state(host: Host) -> Check:
    """Whether the state directory can be used, and by nobody else."""
    expected = "a directory of the user's own, mode 0700"
    try:
        path = state_path(host.environ)
    except EnvironmentFault as error:
        return Check("state", Status.FAIL, error.message, expected, "doctor.state")
    facts: dict[str, object] = {"path": str(path)}
    parent = _existing(path)
    if not parent.is_dir() or not host.access(parent):
        said = f"{parent} is not writable" if parent.is_dir() else f"{parent} is no directory"
        return Check("state", Status.FAIL, said, expected, "doctor.state", facts)
    if parent != path:
        return Check("state", Status.OK, f"{path}, is made when needed", expected, context=facts)
    found = path.stat()
    facts["mode"] = f"{stat.S_IMODE(found.st_mode):04o}"
    if found.st_mode & 0o077 or found.st_uid != host.user.uid:
        said = f"{path} is {facts['mode']} of user {found.st_uid}: others may see backups"
        return Check("state", Status.WARN, said, expected, "doctor.state-private", facts)
    return Check("state", Status.OK, str(path), expected, context=facts)


def check_room(host: Host) -> Check:
    """Whether backups have room."""
    expected = f"{format_size(ROOM_WANTED)} free for backups"
    try:
        path = _existing(state_path(host.environ))
        free = host.free_bytes(path)
    except (EnvironmentFault, OSError) as error:
        return Check("disk", Status.FAIL, f"unknown: {error}", expected, "doctor.disk")
    facts: dict[str, object] = {"path": str(path), "free": free}
    said = f"{format_size(free // MIB * MIB)} free at {path}"
    if free < ROOM_WANTED:
        status = Status.FAIL if free < ROOM_NEEDED else Status.WARN
        return Check("disk", status, said, expected, "doctor.disk", facts)
    return Check("disk", Status.OK, said, expected, context=facts)


def _existing(path: Path) -> Path:
    """The path itself, or the nearest of its parents that exists."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path
