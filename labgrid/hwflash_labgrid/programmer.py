"""Where a resource's programmer is, and what hwflash calls it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from labgrid.driver.exception import ExecutionError
from labgrid.resource.common import NetworkResource
from labgrid.util.proxy import proxymanager
from labgrid.util.ssh import sshmanager

from hwflash_labgrid.errors import HwflashError

FT232H: Final = (0x0403, 0x6014)


@dataclass(frozen=True, slots=True)
class Programmer:
    """A programmer as hwflash is told of it.

    Attributes:
        url: what ``-p`` takes.
        board: what ``-b`` takes, or None.
        state_dir: hwflash's state directory, or None for the account's.
        remote: hwflash runs on the resource's host; else here.
    """

    url: str
    board: str | None = None
    state_dir: str | None = None
    remote: bool = False


def programmer(resource: Any) -> Programmer:
    """The programmer behind any resource that the drivers bind to.

    Raises:
        HwflashError: the USB device is no FT232H (``labgrid.not-ft232h``), the port speaks telnet
            and nobody says which device is behind it (``labgrid.serial-protocol``), or a stock
            exporter passed on what was meant for ours (``labgrid.wrong-exporter``).
    """
    _require_computer(resource)
    remote = isinstance(resource, NetworkResource)
    if hasattr(resource, "url"):
        return Programmer(resource.url, resource.board, resource.state_dir, remote)
    if hasattr(resource, "busnum"):
        return Programmer(_ftdi(resource), remote=remote)
    return _serprog(resource)


def _require_computer(resource: Any) -> None:
    """Refuse a programmer of a place that would be looked for on this computer."""
    if hasattr(resource, "_remote_entry") and not isinstance(resource, NetworkResource):
        raise HwflashError(
            "labgrid.wrong-exporter",
            f"the exporter passed on {type(resource).__name__} without its computer's name",
        )


def _ftdi(resource: Any) -> str:
    found = (resource.vendor_id, resource.model_id)
    bus, _, path = (resource.path or "").partition("-")
    if found != FT232H or not path:
        name = "nothing" if found == (None, None) else "{:04x}:{:04x}".format(*found)
        raise HwflashError(
            "labgrid.not-ft232h", f"at USB port {resource.path} is {name}, not an FT232H"
        )
    return f"ftdi:bus={bus},path={path}"


def _serprog(resource: Any) -> Programmer:
    """Raw TCP is spoken from here; what ser2net offers is telnet, so its device is used there."""
    if resource.protocol == "raw":
        host, port = proxymanager.get_host_and_port(resource)
        return Programmer(f"serprog://{host}:{port}")
    node = getattr(resource, "extra", {}).get("path")
    if not node:
        raise HwflashError(
            "labgrid.serial-protocol",
            f"{resource.host}:{resource.port} speaks {resource.protocol}, which serprog cannot "
            "pass, and no exporter says which device is behind it",
        )
    return Programmer(f"serprog://{node}?baud={resource.speed}", remote=True)


def wrapped(resource: Any, command: list[str]) -> list[str]:
    """The command as it is started here: as it is, or by ssh on the resource's host.

    A connection that broke is made anew; labgrid keeps the dead one for ever.

    Raises:
        HwflashError: no connection (``labgrid.unreachable``).
    """
    if not isinstance(resource, NetworkResource):
        return command
    extra: Any = getattr(resource, "extra", None) or {}
    host = extra.get("proxy") if extra.get("proxy_required") else resource.host
    try:
        if not sshmanager.get(host).isconnected():
            sshmanager.remove_by_name(host)
        return resource.wrap_command(command)
    except (ExecutionError, OSError) as exc:
        raise HwflashError(
            "labgrid.unreachable", f"no ssh connection to {host}: {getattr(exc, 'msg', exc)}"
        ) from exc


def environment(found: Programmer, session: Any) -> list[str]:
    """Words that set hwflash's environment where it runs: who works, and where state is kept.

    Args:
        found: the programmer.
        session: labgrid's session with the coordinator, or None.
    """
    who = f"{session.gethostname()}/{session.getuser()}" if session else os.environ.get("USER", "")
    words = [f"HWFLASH_OPERATOR={who}"] if who else []
    words += [f"HWFLASH_STATE_DIR={found.state_dir}"] if found.state_dir else []
    return ["env", *words] if words else []
