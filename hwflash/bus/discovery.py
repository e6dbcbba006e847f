"""Finding FT232H programmers on the USB.

PyUSB is asked directly: pyftdi's own search keeps a process-wide cache and cannot tell two
devices with empty EEPROMs, which share one (empty) serial, apart.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import usb.core
import usb.util

from hwflash.bus.url import FtdiSelector
from hwflash.errors import (
    EnvironmentFault,
    ProgrammerAbsent,
    ProgrammerError,
    ProgrammerInaccessible,
    UsageError,
)

VENDOR: Final = 0x0403
PRODUCT: Final = 0x6014

#: Serials that can stand in a URL as they are; up to two digits would be an index there.
_PLAIN_SERIAL: Final = re.compile(r"(?!\d{1,2}$)[A-Za-z0-9_-]+", re.ASCII)

_usb_core: Any = usb.core  # PyUSB carries no annotations
_usb_util: Any = usb.util


@dataclass(frozen=True, slots=True)
class FoundProgrammer:
    """An attached FT232H.

    Attributes:
        device: the `usb.core.Device`.
        bus: USB bus number.
        address: USB device address; changes at every plugging.
        path: USB port path, such as (1, 2); stays with the socket.
        serial: serial string, "" when the EEPROM is blank, None when it may not be read.
        product: product string, likewise.
    """

    device: Any
    bus: int
    address: int
    path: tuple[int, ...]
    serial: str | None
    product: str | None

    @property
    def url(self) -> str:
        """A URL that selects this programmer: by serial where there is one, else by port."""
        if self.serial and _PLAIN_SERIAL.fullmatch(self.serial):
            return f"ftdi://ftdi:232h:{self.serial}/1"
        if self.path:
            return f"ftdi:bus={self.bus},path={'.'.join(map(str, self.path))}"
        return f"ftdi://ftdi:232h:{self.bus:x}:{self.address:x}/1"

    @property
    def node(self) -> str:
        """The device node that must be writable."""
        return f"/dev/bus/usb/{self.bus:03d}/{self.address:03d}"

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"FT232H {self.serial or 'at ' + self.node}"


def find_all(backend: Any = None, known: Sequence[FoundProgrammer] = ()) -> list[FoundProgrammer]:
    """Every FT232H attached, by bus and port path.

    Args:
        backend: a PyUSB backend; None is the system's libusb.
        known: found before; those that are still there are not spoken to again, because
            somebody may be at work with them.

    Raises:
        EnvironmentFault: libusb is missing (``environment.libusb``), or does not list the
            devices (``environment.usb``).
    """
    try:
        devices = list(
            _usb_core.find(find_all=True, idVendor=VENDOR, idProduct=PRODUCT, backend=backend)
        )
    except usb.core.NoBackendError as exc:
        raise EnvironmentFault(
            "libusb 1.0 cannot be loaded", code="environment.libusb", library="libusb-1.0.so.0"
        ) from exc
    except usb.core.USBError as exc:
        raise EnvironmentFault(
            f"the USB devices cannot be listed: {exc}",
            code="environment.usb",
            errno=errno.errorcode.get(exc.errno or 0),
        ) from exc
    before = {(item.bus, item.address, item.path): item for item in known}
    found = [before.get(_place(device)) or _describe(device) for device in devices]
    return sorted(found, key=lambda item: (item.bus, item.path, item.address))


def select(found: list[FoundProgrammer], selector: FtdiSelector, url: str) -> FoundProgrammer:
    """The one programmer that a URL means.

    Raises:
        ProgrammerAbsent: none matches.
        ProgrammerInaccessible: a serial is asked for, and one device keeps its own secret.
        ProgrammerError: several match (``programmer.ambiguous``); they are in the context.
        UsageError: the index is beyond the matching devices.
    """
    matching = [item for item in found if _matches(item, selector)]
    listing = [item.url for item in matching or found]
    if not matching:
        unread = [
            i for i in found if i.serial is None and _matches(i, replace(selector, serial=None))
        ]
        if selector.serial is not None and unread:
            raise ProgrammerInaccessible(
                f"no permission to read the serial number of {unread[0].name}",
                device=unread[0].name,
                url=url,
                attached=listing,
            )
        raise ProgrammerAbsent(
            f"no FT232H matches {url}" if found else "no FT232H is attached",
            url=url,
            attached=listing,
        )
    if selector.index is not None:
        if not 1 <= selector.index <= len(matching):
            raise UsageError(
                f"{url} asks for FT232H number {selector.index} of {len(matching)}",
                code="usage.url",
                url=url,
                attached=listing,
            )
        return matching[selector.index - 1]
    if len(matching) > 1:
        raise ProgrammerError(
            f"{len(matching)} FT232H match {url}",
            code="programmer.ambiguous",
            url=url,
            attached=listing,
        )
    return matching[0]


def _matches(item: FoundProgrammer, selector: FtdiSelector) -> bool:
    return (
        selector.serial in (None, item.serial)
        and selector.bus in (None, item.bus)
        and selector.address in (None, item.address)
        and selector.path in (None, item.path)
    )


def _place(device: Any) -> tuple[int, int, tuple[int, ...]]:
    """Where a device is; the kernel gives a new address at every plugging."""
    return device.bus or 0, device.address or 0, tuple(device.port_numbers or ())


def _describe(device: Any) -> FoundProgrammer:
    bus, address, path = _place(device)
    return FoundProgrammer(
        device=device,
        bus=bus,
        address=address,
        path=path,
        serial=_string(device, device.iSerialNumber),
        product=_string(device, device.iProduct),
    )


def _string(device: Any, index: int) -> str | None:
    """A descriptor string: "" when the device has none, None when it cannot be read."""
    if not index:
        return ""
    try:
        return _usb_util.get_string(device, index) or ""
    except (usb.core.USBError, ValueError, NotImplementedError):
        return None
