"""The messages of USB/IP, protocol version 1.1.1: bytes in, objects out, and back.

Ref: Linux, Documentation/usb/usbip_protocol.rst; status numbers of replies as in
tools/usb/usbip/libsrc/usbip_common.h. Everything is big-endian but the setup packet.
Limits: no isochronous transfers, the FT232H has none.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import Final

VERSION: Final = 0x0111
PORT: Final = 3240

REQUEST: Final = 0x8000
DEVLIST: Final = 0x0005
IMPORT: Final = 0x0003

OK: Final = 0
NOT_AVAILABLE: Final = 1
BUSY: Final = 2
NO_DEVICE: Final = 4
BAD_REQUEST: Final = 5

HIGH_SPEED: Final = 3

SUBMIT: Final = 1
UNLINK: Final = 2
RET_SUBMIT: Final = 3
RET_UNLINK: Final = 4

HEADER: Final = 48
OP_HEADER: Final = 8
BUSID: Final = 32
#: No sensible transfer is longer: Linux gives all of a machine's user transfers 16 MiB together.
MAX_TRANSFER: Final = 16 << 20

_SHORT_NOT_OK: Final = 1
_NO_PACKETS: Final = (0, -1)  # what Linux sends, and what the document asks for
_OP: Final = struct.Struct(">HHI")
_BASIC: Final = struct.Struct(">5I")
_SUBMIT: Final = struct.Struct(">IiiiI8s")
_RETURN: Final = struct.Struct(">5IiiiiI8x")
_UNLINKED: Final = struct.Struct(">5Ii24x")
_DEVICE: Final = struct.Struct(">256s32s3I3H6B")


class Nonsense(Exception):
    """Bytes that are no USB/IP message; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device as lists and imports show it.

    Attributes:
        path: where it is on the exporting computer.
        busid: its name, such as ``1-1``.
        bus: bus number.
        address: device number.
        vendor: idVendor.
        product: idProduct.
        release: bcdDevice.
        interfaces: (class, subclass, protocol) of each.
    """

    path: str
    busid: str
    bus: int
    address: int
    vendor: int
    product: int
    release: int
    interfaces: tuple[tuple[int, int, int], ...]

    @property
    def devid(self) -> int:
        """What transfers name it by."""
        return self.bus << 16 | self.address

    def pack(self) -> bytes:
        """312 bytes, without the interfaces."""
        return _DEVICE.pack(
            self.path.encode(), self.busid.encode(), self.bus, self.address, HIGH_SPEED,
            self.vendor, self.product, self.release, 0, 0, 0, 1, 1, len(self.interfaces),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Urb:
    """A transfer the client asks for.

    Attributes:
        seqnum: its number; the answer bears the same.
        endpoint: 0 to 15, without the direction.
        incoming: whether data go to the client.
        length: bytes of the client's buffer.
        setup: eight bytes of a control transfer.
        data: what goes to the device.
        short_not_ok: less data than the buffer holds is an error.
        start_frame: of no meaning here; sent back as it came, as Linux does.
        packets: likewise.
    """

    seqnum: int
    endpoint: int
    incoming: bool
    length: int
    setup: bytes = bytes(8)
    data: bytes = b""
    short_not_ok: bool = False
    start_frame: int = 0
    packets: int = 0


@dataclass(frozen=True, slots=True)
class Unlink:
    """The client wants a transfer back.

    Attributes:
        seqnum: number of this request.
        target: number of the transfer.
    """

    seqnum: int
    target: int


def op_header(data: bytes | bytearray) -> tuple[int, int]:
    """(version, code) of the first eight bytes of a connection."""
    version, code, _ = _OP.unpack_from(data)
    return version, code


def op_reply(code: int, status: int) -> bytes:
    """The head of a reply to the request ``code``."""
    return _OP.pack(VERSION, code & ~REQUEST, status)


def device_list(devices: list[Device]) -> bytes:
    """OP_REP_DEVLIST."""
    parts = [op_reply(DEVLIST, OK), struct.pack(">I", len(devices))]
    for device in devices:
        parts.append(device.pack())
        parts += (bytes((*interface, 0)) for interface in device.interfaces)
    return b"".join(parts)


def imported(device: Device) -> bytes:
    """OP_REP_IMPORT of a device that can be had."""
    return op_reply(IMPORT, OK) + device.pack()


def message_length(head: bytes | bytearray, devid: int) -> int:
    """Bytes of the message that begins with these `HEADER` bytes.

    Raises:
        Nonsense: it is none, or none for this device.
    """
    command, _, device, direction, endpoint = _BASIC.unpack_from(head)
    if device != devid:
        raise Nonsense(f"device {device:#x} instead of {devid:#x}")
    if command == UNLINK:
        return HEADER
    if command != SUBMIT:
        raise Nonsense(f"command {command:#x}")
    _, length, _, packets, _, _ = _SUBMIT.unpack_from(head, _BASIC.size)
    if direction > 1 or endpoint > 15:
        raise Nonsense(f"endpoint {endpoint}, direction {direction}")
    if not 0 <= length <= MAX_TRANSFER:
        raise Nonsense(f"a transfer of {length} bytes")
    if packets not in _NO_PACKETS:
        raise Nonsense(f"{packets} isochronous packets")
    return HEADER if direction else HEADER + length


def message(data: bytes | bytearray) -> Urb | Unlink:
    """A message of the length that `message_length` gave."""
    command, seqnum, _, direction, endpoint = _BASIC.unpack_from(data)
    if command == UNLINK:
        return Unlink(seqnum, int.from_bytes(data[20:24], "big"))
    flags, length, start_frame, packets, _, setup = _SUBMIT.unpack_from(data, _BASIC.size)
    return Urb(
        seqnum, endpoint, bool(direction), length, setup, bytes(data[HEADER:]),
        bool(flags & _SHORT_NOT_OK), start_frame, packets,
    )  # fmt: skip


def submitted(urb: Urb, status: int, actual: int, data: bytes = b"") -> bytes:
    """USBIP_RET_SUBMIT.

    Args:
        urb: what is answered.
        status: 0, or a negative error number of Linux.
        actual: bytes that were transferred.
        data: what the client gets.
    """
    if urb.incoming and urb.short_not_ok and not status and actual < urb.length:
        status = -errno.EREMOTEIO
    head = _RETURN.pack(
        RET_SUBMIT, urb.seqnum, 0, 0, 0, status, actual, urb.start_frame, urb.packets, 0
    )
    return head + data


def unlinked(request: Unlink, *, done: bool) -> bytes:
    """USBIP_RET_UNLINK: -ECONNRESET, or 0 when the transfer was answered before."""
    status = 0 if done else -errno.ECONNRESET
    return _UNLINKED.pack(RET_UNLINK, request.seqnum, 0, 0, 0, status)
