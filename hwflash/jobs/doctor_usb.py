"""Checks of the way to a programmer: udev rules, device nodes, and who else holds them.

Ref: Linux Documentation/ABI/stable/sysfs-bus-usb, proc(5) (``/proc/PID/fd``).

Limits: knows FT232H only; another user's processes show their open files to root alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwflash.jobs.doctor_host import Check, Host, Status
from hwflash.resources import data_files

RULES_NAME = "70-hwflash.rules"
SYSUSERS_NAME = "hwflash-sysusers.conf"
GROUP = "hwflash"
# In the order in which the first of one name hides the others, udev(7).
RULES_FOLDERS = (
    "/etc/udev/rules.d",
    "/run/udev/rules.d",
    "/usr/local/lib/udev/rules.d",
    "/usr/lib/udev/rules.d",
    "/lib/udev/rules.d",
)


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """A USB device in sysfs: ``port`` (``3-1.2``), ``bus`` and ``number``, strings."""

    port: str
    bus: int
    number: int
    product: str
    serial: str
    folder: Path

    @property
    def node(self) -> str:
        """Path of its device node."""
        return f"/dev/bus/usb/{self.bus:03d}/{self.number:03d}"


def find_ft232h(host: Host) -> list[UsbDevice]:
    """Every attached FT232H (0403:6014), by port."""
    found: list[UsbDevice] = []
    folder = host.path("/sys/bus/usb/devices")
    for device in sorted(folder.iterdir()) if folder.is_dir() else []:
        ids = (host.text(device / "idVendor"), host.text(device / "idProduct"))
        bus, number = host.text(device / "busnum"), host.text(device / "devnum")
        if ids != ("0403", "6014") or not (bus or "").isdecimal() or not (number or "").isdecimal():
            continue
        product, serial = (host.text(device / name) or "" for name in ("product", "serial"))
        found.append(
            UsbDevice(device.name, int(bus or 0), int(number or 0), product, serial, device)
        )
    return found


def usb_checks(host: Host) -> Iterator[Check]:
    """Rules and group, then each programmer: its node, its driver, its holders."""
    yield check_rules(host)
    yield check_group(host)
    devices = find_ft232h(host)
    if not devices:
        yield Check(
            "programmer",
            Status.INFO,
            "no FT232H (0403:6014) is attached",
            code="doctor.no-programmer",
        )
    for device in devices:
        yield check_node(host, device)
        yield check_holders(host, device)


def check_rules(host: Host) -> Check:
    """Whether the shipped udev rules are the ones udev uses."""
    shipped = data_files("udev")[RULES_NAME].read_bytes()
    installed = [
        path for folder in RULES_FOLDERS if os.path.lexists(path := host.path(folder) / RULES_NAME)
    ]
    expected = f"{RULES_NAME} as shipped in {RULES_FOLDERS[0]}"
    if not installed:
        return Check("udev-rules", Status.WARN, "not installed", expected, "doctor.udev-rules")
    used = installed[0]
    facts = {"path": str(used)}
    try:
        same = used.read_bytes() == shipped
    except OSError as error:
        found = f"{used} cannot be read: {error.strerror}"
        return Check("udev-rules", Status.WARN, found, expected, "doctor.udev-rules", facts)
    if not same:
        found = f"{used} is of another version, or was edited"
        return Check("udev-rules", Status.WARN, found, expected, "doctor.udev-rules", facts)
    return Check("udev-rules", Status.OK, f"{used}, as shipped", expected, context=facts)


def check_group(host: Host) -> Check:
    """Whether the system group exists and this session is in it."""
    expected = f"the system group {GROUP!r}, for use without a seat"
    groups = host.groups()
    if GROUP not in groups:
        found = f"there is no group {GROUP!r}"
        return Check("udev-group", Status.WARN, found, expected, "doctor.group-missing")
    gid, members = groups[GROUP]
    user = host.user
    facts: dict[str, object] = {"user": user.name, "group": GROUP, "gid": gid}
    if gid in user.gids or user.uid == 0:
        return Check("udev-group", Status.OK, f"{user.name} is a member", expected, context=facts)
    if user.name in members:
        found = f"{user.name} is a member, but logged in before that"
        return Check("udev-group", Status.WARN, found, expected, "doctor.group-login", facts)
    # No fault: whoever sits at the machine gets access by the seat.
    found = f"{user.name} is no member"
    return Check("udev-group", Status.INFO, found, expected, "doctor.group-member", facts)


def check_node(host: Host, device: UsbDevice) -> Check:
    """Whether this user may open the device node, and who may besides."""
    name = f"node {device.port}"
    node = host.path(device.node)
    expected = f"read and write access to {device.node} for {host.user.name}"
    facts: dict[str, object] = {"node": device.node, "port": device.port, "user": host.user.name}
    try:
        found = node.stat()
    except OSError:
        said = f"{device.node} does not exist (a container without /dev/bus/usb?)"
        return Check(name, Status.FAIL, said, expected, "doctor.node-missing", facts)
    names = {gid: group for group, (gid, _) in host.groups().items()}
    mode, group = stat.S_IMODE(found.st_mode), names.get(found.st_gid, str(found.st_gid))
    owner = _user_name(host, found.st_uid)
    facts |= {"mode": f"{mode:04o}", "owner": owner, "group": group}
    facts["groups"] = sorted(names.get(gid, str(gid)) for gid in host.user.gids)
    said = f"{device.node} is {mode:04o} {owner}:{group}"
    if not host.access(node):
        text = f"{said}, {host.user.name} may not open it"
        return Check(name, Status.FAIL, text, expected, "doctor.node-access", facts)
    if mode & 0o002:
        text = f"{said}: every user and service may reprogram the board"
        return Check(name, Status.WARN, text, "mode 0660", "doctor.node-world", facts)
    return Check(name, Status.OK, said, expected, context=facts)


def check_holders(host: Host, device: UsbDevice) -> Check:
    """Whether a kernel driver or a process holds the device."""
    name = f"holder {device.port}"
    expected = "no process has it open"
    drivers: dict[str, str] = {}
    ports: list[str] = []
    for interface in sorted(device.folder.glob(f"{device.port}:*")):
        link = interface / "driver"
        if link.is_symlink():
            drivers[interface.name] = link.readlink().name
        ports += [port.name for port in sorted(interface.glob("ttyUSB*"))]
    facts: dict[str, object] = {"port": device.port, "drivers": drivers, "ttys": ports}
    holders = list(_holders(host, {device.node, *(f"/dev/{port}" for port in ports)}))
    if holders:
        facts["processes"] = [
            {"pid": pid, "name": comm, "path": path} for pid, comm, path in holders
        ]
        said = ", ".join(f"{comm} (process {pid}) has {path} open" for pid, comm, path in holders)
        return Check(name, Status.FAIL, said, expected, "doctor.device-busy", facts)
    # Bound to usbfs means that some process has claimed the interface through libusb.
    if "usbfs" in drivers.values():
        said = "claimed by a process of another user"
        return Check(name, Status.FAIL, said, expected, "doctor.device-busy", facts)
    if drivers:
        said = f"kernel driver {', '.join(sorted(set(drivers.values())))}"
        said += f" ({', '.join(ports)})" if ports else ""
        said += ", is detached when hwflash opens the device"
        return Check(name, Status.INFO, said, expected, "doctor.kernel-driver", facts)
    return Check(name, Status.OK, "free", expected, context=facts)


def _holders(host: Host, nodes: set[str]) -> Iterator[tuple[int, str, str]]:
    processes = [item for item in host.path("/proc").glob("[0-9]*") if item.name.isdecimal()]
    for process in sorted(processes, key=lambda item: int(item.name)):
        if int(process.name) == os.getpid() and host.root == Path("/"):
            continue
        open_files: set[str] = set()
        try:
            for entry in (process / "fd").iterdir():
                open_files.add(os.readlink(entry))  # noqa: PTH115 - Path drops " (deleted)"
        except OSError:  # ended meanwhile, or not ours to look at
            pass
        for path in sorted(open_files & nodes):
            yield int(process.name), host.text(process / "comm") or "?", path


def _user_name(host: Host, uid: int) -> str:
    for line in (host.text(host.path("/etc/passwd")) or "").splitlines():
        parts = line.split(":")
        if len(parts) > 2 and parts[2] == str(uid):
            return parts[0]
    return str(uid)
