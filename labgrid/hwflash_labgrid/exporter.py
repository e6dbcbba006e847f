"""labgrid's exporter, which also knows `HwflashProgrammer`.

A stock exporter passes on a resource that it does not know as it stands in its configuration
(``NetworkHwflashProgrammer`` with its ``host``), and calls it available always. This one fills in
the host, and says when the programmer is not there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import attr
from labgrid.remote import exporter

from hwflash_labgrid.resources import HwflashProgrammer

_USB: Final = Path("/sys/bus/usb/devices")
_IDS: Final = ("0403", "6014")


def present(url: str, devices: Path = _USB) -> bool:
    """Whether a programmer is there, as far as a look four times a second can tell.

    An FT232H named by port path or serial number is looked up in sysfs, a serprog box by its
    device node, a simulated chip by its file's folder. All others are taken to be there.
    """
    scheme, _, rest = url.partition(":")
    where, _, query = rest.partition("?")
    if scheme == "serprog" and where.startswith("///"):
        return Path(where[2:]).exists()
    if scheme == "sim":
        image = dict(parse_qsl(query.replace("+", "%2B"))).get("image")
        return image is None or Path(image).absolute().parent.is_dir()
    if scheme != "ftdi":
        return True
    ours = [device for device in devices.glob("*-*") if _ids(device) == _IDS]
    if where.startswith("//"):
        words = where.strip("/").partition("/")[0].split(":")
        serial = words[2] if len(words) == 3 and words[2] and not words[2].isdigit() else None
        return any(serial in (None, _read(device / "serial")) for device in ours)
    wanted = dict(item.split("=", 1) for item in where.split(",") if "=" in item)
    return any(_fits(device, wanted) for device in ours)


def _fits(device: Path, wanted: dict[str, str]) -> bool:
    bus, _, path = device.name.partition("-")
    found = {"bus": bus, "path": path, "serial": _read(device / "serial")}
    return all(found.get(key) == value for key, value in wanted.items())


def _ids(device: Path) -> tuple[str, str]:
    return _read(device / "idVendor"), _read(device / "idProduct")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


@attr.s(eq=False)
class HwflashProgrammerExport(exporter.ResourceExport):
    """Exports an `HwflashProgrammer` as a ``NetworkHwflashProgrammer``."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        try:
            self.local = HwflashProgrammer(None, None, **self.local_params)  # pyright: ignore[reportCallIssue]
        except TypeError as exc:
            text = (
                f"HwflashProgrammer takes url, board and state_dir, not {dict(self.local_params)}"
            )
            raise exporter.ExporterError(text) from exc
        self.data["cls"] = f"Network{self.cls}"

    def poll(self) -> bool:
        """Look whether the programmer is there, and tell the coordinator what changed."""
        self.local.avail = present(self.local.url)
        return super().poll()

    def _get_params(self) -> dict[str, Any]:
        local = self.local
        return {
            "host": self.host,
            "url": local.url,
            "board": local.board,
            "state_dir": local.state_dir,
        }


def main() -> None:
    """``hwflash-labgrid-exporter``: the options are those of ``labgrid-exporter``."""
    exporter.exports["HwflashProgrammer"] = HwflashProgrammerExport
    try:
        exporter.main()
    except exporter.ExporterError as exc:
        sys.exit(f"hwflash-labgrid-exporter: {exc}")
