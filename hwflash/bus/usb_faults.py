"""What libusb's errors mean, and leaving a device as it was found."""

from __future__ import annotations

import errno
import logging
from typing import Any

import usb.core
import usb.util

from hwflash.errors import (
    ProgrammerAbsent,
    ProgrammerBusy,
    ProgrammerError,
    ProgrammerInaccessible,
    ProgrammerLost,
)

_log = logging.getLogger(__name__)
_usb_util: Any = usb.util  # PyUSB carries no annotations


def usb_error(exc: BaseException, where: str, *, opening: bool = False) -> ProgrammerError:
    """Tell apart what libusb means: absent, inaccessible, busy, lost."""
    cause: BaseException | None = exc
    number = None
    while cause is not None and number is None:
        if isinstance(cause, OSError):  # libusb's own words, wherever pyftdi wrapped them
            number, exc = cause.errno, cause
        cause = cause.__cause__ or cause.__context__
    name = errno.errorcode.get(number or 0, str(number))
    if number in (errno.EACCES, errno.EPERM):
        return ProgrammerInaccessible(f"no permission to open {where}", device=where, errno=name)
    if number == errno.EBUSY:
        return ProgrammerBusy(
            f"{where} is held by another driver or process", device=where, errno=name
        )
    if opening:
        return ProgrammerAbsent(f"{where} cannot be opened: {exc}", device=where, errno=name)
    if number == errno.ETIMEDOUT:
        return ProgrammerLost(
            f"{where} did not take or answer data in time",
            code="programmer.timeout",
            device=where,
            errno=name,
        )
    return ProgrammerLost(f"{where} stopped answering: {exc}", device=where, errno=name)


def kernel_driver(device: Any, interface: int) -> bool:
    """Whether a driver of the kernel holds an interface."""
    try:
        return bool(device.is_kernel_driver_active(interface))
    except (NotImplementedError, usb.core.USBError):
        return False


def let_go_of(device: Any, detached: int | None) -> None:
    """After a failed opening: give the interface back to the driver it was taken from."""
    if detached is not None:
        try:
            _usb_util.release_interface(device, detached)
            device.attach_kernel_driver(detached)
        except (NotImplementedError, usb.core.USBError) as exc:
            _log.warning("the kernel driver could not be put back: %s", exc)
    _usb_util.dispose_resources(device)
