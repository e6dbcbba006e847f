"""The simulated FT232H as a PyUSB backend: descriptors, claims, transfers.

One backend holds one device. It is given to PyUSB instead of libusb, so that pyftdi and every
other program built on PyUSB talks to it through the same calls as to a real one.

Ref: USB 2.0 chapter 9; descriptors of a blank FT232H (no EEPROM, so no serial number).
"""

from __future__ import annotations

import errno
import itertools
import threading
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final, NoReturn

import usb.core
from usb.backend import IBackend

from hwflash.sim.endpoint0 import (
    IN_ENDPOINT,
    OUT_ENDPOINT,
    PRODUCT,
    RELEASE,
    VENDOR,
    Endpoint0,
    Stalled,
)
from hwflash.sim.faults import Faults
from hwflash.sim.ft232h import Ft232h, Overflowed, TimedOut

_BUS: Final = 200  # far from the buses of a real computer
_TURN: Final = 5.0  # real seconds a hanging write waits for another thread to read
_places = itertools.count(1)


@dataclass(slots=True)
class UsbCounters:
    """Transfers so far: bulk calls and bytes by direction, control requests."""

    bulk_out: int = 0
    bulk_in: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    control: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Handle:
    """An opened device; one opened before the device was unplugged is dead."""

    plugged: int


# IBackend carries no annotations: every method of it seems to return None.
_Backend: Any = IBackend


class SimulatedUsb(_Backend):
    """A USB bus with one FT232H on it.

    Args:
        chip: the FT232H behind the endpoints.
        serial: serial number; "" gives a device without one.
        faults: what is wrong.

    Attributes:
        counters: transfers so far.
        plugged: whether the device is there.
        kernel_driver: whether the serial-port driver of the operating system holds the
            interface, as it does on Linux until it is detached.
    """

    def __init__(self, chip: Ft232h, serial: str, faults: Faults) -> None:
        self.chip = chip
        self.counters = UsbCounters()
        self.plugged = True
        self.kernel_driver = True
        place = next(_places)
        self._bus, self._address = _BUS + (place - 1) // 127, (place - 1) % 127 + 1
        self._serial = serial
        self._endpoint0 = Endpoint0(["", "FTDI", "FT232H Simulated"] + ([serial] if serial else []))
        self._faults = faults
        self._transfers = 0
        self._owner: object = None
        self._times_plugged = 0
        self._lock = threading.Condition(threading.RLock())
        self._reader: int | None = None
        self._reads = 0

    def plug(self) -> None:
        """Put the device back on the bus, as new; the fault that removed it is spent."""
        with self._lock:
            self.chip.reset()
            self._endpoint0.reset()
            self.plugged = True
            self.kernel_driver = True
            self._owner = None
            self._times_plugged += 1
            self._transfers = -1

    def unplug(self) -> None:
        """Take the device from the bus: every call fails with ENODEV, its pins float."""
        with self._lock:
            self.plugged = False
            self._owner = None
            self.chip.reset()

    # --- discovery -------------------------------------------------------------------------

    def enumerate_devices(self) -> Iterator[SimulatedUsb]:
        """The device, if it is plugged."""
        return iter([self] if self.plugged else [])

    def get_parent(self, dev: object) -> None:
        """There is no hub."""

    def get_device_descriptor(self, dev: object) -> SimpleNamespace:
        """The 18 bytes by name, and where the device is plugged."""
        return SimpleNamespace(
            bLength=18, bDescriptorType=1, bcdUSB=0x0200, bDeviceClass=0, bDeviceSubClass=0,
            bDeviceProtocol=0, bMaxPacketSize0=64, idVendor=VENDOR, idProduct=PRODUCT,
            bcdDevice=RELEASE, iManufacturer=1, iProduct=2,
            iSerialNumber=3 if self._serial else 0, bNumConfigurations=1,
            bus=self._bus, address=self._address, port_number=self._address,
            port_numbers=(self._address,), speed=3,
        )  # fmt: skip

    def get_configuration_descriptor(self, dev: object, config: int) -> SimpleNamespace:
        """The only configuration."""
        _only(config)
        return SimpleNamespace(
            bLength=9, bDescriptorType=2, wTotalLength=32, bNumInterfaces=1,
            bConfigurationValue=1, iConfiguration=0, bmAttributes=0xA0, bMaxPower=45,
            extra_descriptors=[],
        )  # fmt: skip

    def get_interface_descriptor(
        self, dev: object, intf: int, alt: int, config: int
    ) -> SimpleNamespace:
        """The only interface: vendor specific, two endpoints."""
        _only(config, intf, alt)
        return SimpleNamespace(
            bLength=9, bDescriptorType=4, bInterfaceNumber=0, bAlternateSetting=0,
            bNumEndpoints=2, bInterfaceClass=0xFF, bInterfaceSubClass=0xFF,
            bInterfaceProtocol=0xFF, iInterface=2, extra_descriptors=[],
        )  # fmt: skip

    def get_endpoint_descriptor(
        self, dev: object, ep: int, intf: int, alt: int, config: int
    ) -> SimpleNamespace:
        """Bulk IN 81h and bulk OUT 02h."""
        _only(config, intf, alt)
        return SimpleNamespace(
            bLength=7, bDescriptorType=5, bEndpointAddress=(IN_ENDPOINT, OUT_ENDPOINT)[ep],
            bmAttributes=2, wMaxPacketSize=512, bInterval=0, bRefresh=0, bSynchAddress=0,
            extra_descriptors=[],
        )  # fmt: skip

    # --- opening and claiming ----------------------------------------------------------------

    def open_device(self, dev: object) -> Handle:
        """Open the device node."""
        self.present()
        if self._faults.access == "denied":
            _fail("Access denied (insufficient permissions)", -3, errno.EACCES)
        return Handle(self._times_plugged)

    def close_device(self, dev_handle: Handle) -> None:
        """Close it; what it had claimed is free."""
        if self._owner is dev_handle:
            self._owner = None

    def set_configuration(self, dev_handle: Handle, config_value: int) -> None:
        """Possible only while nobody holds the interface."""
        self.present(dev_handle)
        if self.kernel_driver or self._owner not in (None, dev_handle) or self._busy():
            _fail("Resource busy", -6, errno.EBUSY)
        self._endpoint0.configuration = config_value

    def get_configuration(self, dev_handle: Handle) -> int:
        """The active configuration."""
        self.present(dev_handle)
        return self._endpoint0.configuration

    def set_interface_altsetting(self, dev_handle: Handle, intf: int, altsetting: int) -> None:
        """There is only setting 0."""
        self.present(dev_handle)
        if (intf, altsetting) != (0, 0):
            _fail("Entity not found", -5, errno.ENOENT)

    def claim_interface(self, dev_handle: Handle, intf: int) -> None:
        """Take the interface; the kernel driver or another handle may have it."""
        self.present(dev_handle)
        if intf != 0:
            _fail("Entity not found", -5, errno.ENOENT)
        if self.kernel_driver or self._owner not in (None, dev_handle) or self._busy():
            _fail("Resource busy", -6, errno.EBUSY)
        self._owner = dev_handle

    def release_interface(self, dev_handle: Handle, intf: int) -> None:
        """Give the interface back."""
        self.present(dev_handle)
        if self._owner is dev_handle:
            self._owner = None

    def is_kernel_driver_active(self, dev_handle: Handle, intf: int) -> bool:
        """Whether the serial-port driver holds the interface."""
        self.present(dev_handle)
        return self.kernel_driver

    def detach_kernel_driver(self, dev_handle: Handle, intf: int) -> None:
        """Send the serial-port driver away."""
        self.present(dev_handle)
        if not self.kernel_driver:
            _fail("Entity not found", -5, errno.ENOENT)
        self.kernel_driver = False

    def attach_kernel_driver(self, dev_handle: Handle, intf: int) -> None:
        """Call the serial-port driver back."""
        self.present(dev_handle)
        if self._owner is not None or self.kernel_driver:
            _fail("Resource busy", -6, errno.EBUSY)
        self.kernel_driver = True

    def clear_halt(self, dev_handle: Handle, ep: int) -> None:
        """End a halt that was set by a standard request; nothing else halts an endpoint."""
        self.present(dev_handle)
        self._endpoint0.halted.discard(ep)

    def reset_device(self, dev_handle: Handle) -> None:
        """A USB port reset: the chip starts anew, its pins float."""
        with self._lock:
            self.present(dev_handle)
            self.chip.reset()
            self._endpoint0.reset()

    def _busy(self) -> bool:
        return self._faults.access == "busy"

    # --- transfers -------------------------------------------------------------------------

    def bulk_write(
        self, dev_handle: Handle, ep: int, intf: int, data: array[int], timeout: int
    ) -> int:
        """A bulk OUT transfer; ``timeout`` in milliseconds."""
        with self._lock:
            self._count(dev_handle, ep, OUT_ENDPOINT)
            self.counters.bulk_out += 1
            self.counters.bytes_out += len(data)
            try:
                written = self.chip.write(data.tobytes(), timeout / 1000, self._starved)
            except TimedOut:
                self.present()
                _time_out()
            self.present()
            return written

    def bulk_read(
        self, dev_handle: Handle, ep: int, intf: int, buff: array[int], timeout: int
    ) -> int:
        """A bulk IN transfer into ``buff``; ``timeout`` in milliseconds."""
        with self._lock:
            self._count(dev_handle, ep, IN_ENDPOINT)
            self.counters.bulk_in += 1
            self._reader = threading.get_ident()
            try:
                data = self.chip.read(len(buff), timeout / 1000)
            except TimedOut:
                self.present()
                _time_out()
            except Overflowed:
                _fail("Overflow", -8, errno.EOVERFLOW)
            self.present()
            self._reads += 1
            self._lock.notify_all()
            self.counters.bytes_in += len(data)
            memoryview(buff)[: len(data)] = array(buff.typecode, data)
            return len(data)

    def _starved(self) -> bool:
        """A write hangs on a full IN FIFO: give a reading thread its turn, if there is one."""
        if self._reader in (None, threading.get_ident()):
            return False
        before = self._reads
        return self._lock.wait_for(lambda: self._reads != before, _TURN)

    def ctrl_transfer(
        self,
        dev_handle: Handle,
        bmRequestType: int,  # noqa: N803
        bRequest: int,  # noqa: N803
        wValue: int,  # noqa: N803
        wIndex: int,  # noqa: N803
        data: array[int],
        timeout: int,
    ) -> int:
        """A control transfer: standard requests for descriptors, and the vendor's own."""
        with self._lock:
            self._count(dev_handle)
            self.counters.control += 1
            try:
                answer = self._control(bmRequestType, bRequest, wValue, wIndex)
            except Stalled:
                _fail("Pipe error", -9, errno.EPIPE)
            self.present()
            if not bmRequestType & 0x80:
                return len(data)
            answer = answer[: len(data)]
            memoryview(data)[: len(answer)] = array(data.typecode, answer)
            return len(answer)

    def _control(self, kind: int, request: int, value: int, index: int) -> bytes:
        """A request to the device or its interface; the answer of one to the device is empty."""
        if kind == 0x40:
            self.chip.control_out(request, value, index)
            return b""
        if kind == 0xC0:
            return self.chip.control_in(request, index)
        return self._endpoint0.request(kind, request, value, index)

    # --- transfers without waiting ---------------------------------------------------------

    def begin_out(self, dev_handle: Handle, data: bytes) -> None:
        """Begin a bulk OUT transfer; `Ft232h.taken` tells when it has ended."""
        self._count(dev_handle, OUT_ENDPOINT, OUT_ENDPOINT)
        self.counters.bulk_out += 1
        self.counters.bytes_out += len(data)
        self.chip.offer(data)
        self.present()

    def begin_in(self, dev_handle: Handle) -> None:
        """Begin a bulk IN transfer; `finish_in` ends it."""
        self._count(dev_handle, IN_ENDPOINT, IN_ENDPOINT)
        self.counters.bulk_in += 1

    def finish_in(self, dev_handle: Handle, size: int) -> bytes:
        """What a bulk IN transfer gets, at the latest when the latency timer ends.

        Raises:
            Overflowed: a packet is longer than what is left of ``size``.
        """
        data = self.chip.read(size, 0)
        self.present(dev_handle)
        self.counters.bytes_in += len(data)
        return data

    # --- presence --------------------------------------------------------------------------

    def _count(self, handle: Handle, ep: int = 0, expected: int = 0) -> None:
        self.present(handle)
        limit = self._faults.disconnect
        if limit is not None and self._transfers >= 0:
            if self._transfers >= limit:
                self.unplug()
                self.present()
            self._transfers += 1
        if ep != expected:
            _fail("Entity not found", -5, errno.ENOENT)
        if ep and self._owner is not handle:
            _fail("Input/Output Error", -1, errno.EIO)
        if ep in self._endpoint0.halted:
            _fail("Pipe error", -9, errno.EPIPE)

    def present(self, handle: Handle | None = None) -> None:
        """Fail with ENODEV when the device is gone, or was since ``handle`` was opened."""
        if not self.plugged or (handle is not None and handle.plugged != self._times_plugged):
            _fail("No such device (it may have been disconnected)", -4, errno.ENODEV)


def _only(*indices: int) -> None:
    if any(indices):
        raise IndexError


def _fail(text: str, code: int, number: int) -> NoReturn:
    raise usb.core.USBError(text, code, number)


def _time_out() -> NoReturn:
    raise usb.core.USBTimeoutError("Operation timed out", -7, errno.ETIMEDOUT)
