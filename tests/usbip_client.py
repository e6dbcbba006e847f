"""A USB/IP client in plain Python, and PyUSB over it: what a kernel's vhci_hcd does.

Nothing of it is shared with the server, so that a mistake is not made twice.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from types import SimpleNamespace
from typing import Any

import usb.core
from usb.backend import IBackend

DEVID = 0x10002


def request(code: int, busid: str | None = None, version: int = 0x0111) -> bytes:
    tail = b"" if busid is None else busid.encode().ljust(32, b"\0")
    return struct.pack(">HHI", version, code, 0) + tail


def submit(
    seqnum: int, endpoint: int, size: int | bytes, *, setup: bytes = bytes(8), flags: int = 0,
    devid: int = DEVID, packets: int = 0xFFFFFFFF,
) -> bytes:  # fmt: skip
    """USBIP_CMD_SUBMIT: bytes go out, a number is the length of a buffer for what comes in."""
    data, length, into = (b"", size, 1) if isinstance(size, int) else (size, len(size), 0)
    return (
        struct.pack(">5I", 1, seqnum, devid, into, endpoint)
        + struct.pack(">IIIII", flags, length & 0xFFFFFFFF, 0, packets, 0)
        + setup
        + data
    )


def setup(kind: int, number: int, value: int = 0, index: int = 0, length: int = 0) -> bytes:
    return struct.pack("<BBHHH", kind, number, value, index, length)


def unlink(seqnum: int, target: int) -> bytes:
    return struct.pack(">5II24x", 2, seqnum, DEVID, 0, 0, target)


class Closed(Exception):
    """The server hung up."""


class UsbipClient:
    """A connection that has a device."""

    def __init__(self, port: int, busid: str = "1-1") -> None:
        self.link = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._buffer = b""
        self._seqnum = 0
        self._reading: dict[int, bool] = {}
        self.link.sendall(request(0x8003, busid))
        status = struct.unpack(">HHI", self.take(8))[2]
        if status:
            self.link.close()
            raise usb.core.USBError(f"import refused: {status}", errno=errno.EBUSY)
        self.info = self.take(312)

    def take(self, count: int, limit: float | None = None) -> bytes:
        while len(self._buffer) < count:
            if limit is not None:
                left = limit - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self.link.settimeout(left)
            try:
                data = self.link.recv(65536)
            finally:
                self.link.settimeout(20)
            if not data:
                raise Closed
            self._buffer += data
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def submit(self, endpoint: int, size: int | bytes, **options: Any) -> int:
        self._seqnum += 1
        self._reading[self._seqnum] = isinstance(size, int)
        self.link.sendall(submit(self._seqnum, endpoint, size, **options))
        return self._seqnum

    def unlink(self, target: int) -> int:
        self._seqnum += 1
        self.link.sendall(unlink(self._seqnum, target))
        return self._seqnum

    def reply(self, limit: float | None = None) -> tuple[int, int, int, bytes]:
        """(command, seqnum, status, data) of the next answer."""
        head = self.take(48, limit)
        command, seqnum, devid, direction, endpoint, status, actual = struct.unpack_from(
            ">5Iii", head
        )
        assert (devid, direction, endpoint) == (0, 0, 0)
        if command == 4:
            return command, seqnum, status, b""
        assert command == 3
        data = self.take(actual) if self._reading.pop(seqnum) else b""
        return command, seqnum, status, data

    def transfer(
        self, endpoint: int, size: int | bytes, timeout: float = 20, **options: Any
    ) -> bytes:
        """One transfer; it is taken back when it takes too long."""
        try:
            return self._transfer(endpoint, size, timeout, options)
        except (Closed, ConnectionError) as exc:  # what a kernel makes of it
            raise usb.core.USBError("No such device", errno=errno.ENODEV) from exc

    def _transfer(
        self, endpoint: int, size: int | bytes, timeout: float, options: dict[str, Any]
    ) -> bytes:
        seqnum = self.submit(endpoint, size, **options)
        try:
            command, found, status, data = self.reply(time.monotonic() + timeout)
        except TimeoutError:
            request_number = self.unlink(seqnum)
            while True:
                command, found, status, data = self.reply()
                if (command, found) == (4, request_number):
                    raise usb.core.USBTimeoutError("timed out", errno=errno.ETIMEDOUT) from None
        assert (command, found) == (3, seqnum)
        if status:
            raise usb.core.USBError(f"status {status}", errno=-status)
        return data

    def close(self) -> None:
        self.link.close()

    def __enter__(self) -> UsbipClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class UsbipBackend(IBackend):
    """PyUSB's way to a device behind USB/IP; descriptors are read from the device."""

    def __init__(self, client: UsbipClient) -> None:
        self.client = client
        self._device = self._descriptor(0x0100, 18)
        whole = struct.unpack_from("<H", self._descriptor(0x0200, 9), 2)[0]
        self._configuration = self._descriptor(0x0200, whole)

    def _descriptor(self, value: int, length: int) -> bytes:
        wanted = setup(0x80, 6, value, 0, length)
        return self.client.transfer(0, length, setup=wanted)

    def enumerate_devices(self):
        return iter([self])

    def get_parent(self, dev):
        return None

    def get_device_descriptor(self, dev):
        names = (
            "bLength bDescriptorType bcdUSB bDeviceClass bDeviceSubClass bDeviceProtocol "
            "bMaxPacketSize0 idVendor idProduct bcdDevice iManufacturer iProduct iSerialNumber "
            "bNumConfigurations"
        )
        values = struct.unpack("<BBHBBBBHHHBBBB", self._device)
        return SimpleNamespace(
            **dict(zip(names.split(), values, strict=True)),
            bus=1, address=2, port_number=1, port_numbers=(1,), speed=3,
        )  # fmt: skip

    def get_configuration_descriptor(self, dev, config):
        if config:
            raise IndexError
        names = (
            "bLength bDescriptorType wTotalLength bNumInterfaces bConfigurationValue "
            "iConfiguration bmAttributes bMaxPower"
        )
        values = struct.unpack_from("<BBHBBBBB", self._configuration)
        return SimpleNamespace(
            **dict(zip(names.split(), values, strict=True)), extra_descriptors=[]
        )

    def get_interface_descriptor(self, dev, intf, alt, config):
        if intf or alt or config:
            raise IndexError
        names = (
            "bLength bDescriptorType bInterfaceNumber bAlternateSetting bNumEndpoints "
            "bInterfaceClass bInterfaceSubClass bInterfaceProtocol iInterface"
        )
        values = self._configuration[9:18]
        return SimpleNamespace(
            **dict(zip(names.split(), values, strict=True)), extra_descriptors=[]
        )

    def get_endpoint_descriptor(self, dev, ep, intf, alt, config):
        names = "bLength bDescriptorType bEndpointAddress bmAttributes wMaxPacketSize bInterval"
        values = struct.unpack_from("<BBBBHB", self._configuration, 18 + 7 * ep)
        return SimpleNamespace(
            **dict(zip(names.split(), values, strict=True)),
            bRefresh=0, bSynchAddress=0, extra_descriptors=[],
        )  # fmt: skip

    def open_device(self, dev):
        return self

    def close_device(self, dev_handle):
        pass

    def set_configuration(self, dev_handle, config_value):
        self.client.transfer(0, b"", setup=setup(0x00, 9, config_value))

    def get_configuration(self, dev_handle):
        return self.client.transfer(0, 1, setup=setup(0x80, 8, length=1))[0]

    def set_interface_altsetting(self, dev_handle, intf, altsetting):
        self.client.transfer(0, b"", setup=setup(0x01, 11, altsetting, intf))

    def claim_interface(self, dev_handle, intf):
        pass

    def release_interface(self, dev_handle, intf):
        pass

    def is_kernel_driver_active(self, dev_handle, intf):
        return False

    def reset_device(self, dev_handle):
        self.client.transfer(0, b"", setup=setup(0x23, 3, 4, 1))

    def clear_halt(self, dev_handle, ep):
        self.client.transfer(0, b"", setup=setup(0x02, 1, 0, ep))

    def bulk_write(self, dev_handle, ep, intf, data, timeout):
        self.client.transfer(ep, data.tobytes(), timeout / 1000)
        return len(data)

    def bulk_read(self, dev_handle, ep, intf, buff, timeout):
        data = self.client.transfer(ep & 0x0F, len(buff), timeout / 1000)
        memoryview(buff)[: len(data)] = memoryview(data)
        return len(data)

    def ctrl_transfer(self, dev_handle, kind, number, value, index, data, timeout):
        wanted = setup(kind, number, value, index, len(data))
        if not kind & 0x80:
            self.client.transfer(0, data.tobytes(), timeout / 1000, setup=wanted)
            return len(data)
        found = self.client.transfer(0, len(data), timeout / 1000, setup=wanted)
        memoryview(data)[: len(found)] = memoryview(found)
        return len(found)
