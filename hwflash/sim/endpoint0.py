"""Endpoint 0 of a simulated FT232H: the descriptors and the standard requests.

Ref: USB 2.0 §9.4 (requests), §9.6 (descriptors); values of a blank FT232H.
Limits: one configuration, one interface, one alternate setting; no remote wake-up, no test
modes. SET_ADDRESS never comes so far: whatever stands between has given the address.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

VENDOR: Final = 0x0403
PRODUCT: Final = 0x6014
RELEASE: Final = 0x0900
IN_ENDPOINT: Final = 0x81
OUT_ENDPOINT: Final = 0x02
PACKET: Final = 512
POWER: Final = 45  # in units of 2 mA

_LANGUAGE: Final = b"\x04\x03\x09\x04"  # US English is the only one
_ENDPOINTS: Final = (0x00, 0x80, IN_ENDPOINT, OUT_ENDPOINT)
_IN, _OUT = 0x80, 0x00
_DEVICE, _INTERFACE, _ENDPOINT = 0, 1, 2
_HALT: Final = 0


class Stalled(Exception):
    """The device does not know the control request."""


class Endpoint0:
    """The standard side of the control endpoint.

    Args:
        strings: string descriptors; number 0 is not one of them.

    Attributes:
        configuration: the active configuration, 0 for none.
        halted: endpoints on which a halt was set.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self.reset()
        self._handlers: dict[tuple[int, int], Callable[[int, int], bytes]] = {
            (_IN, 0x00): lambda _value, _index: b"\x00\x00",
            (_IN | _INTERFACE, 0x00): lambda _value, index: self._interface(index, b"\x00\x00"),
            (_IN | _ENDPOINT, 0x00): self._endpoint_status,
            (_OUT | _ENDPOINT, 0x01): self._clear_halt,
            (_OUT | _ENDPOINT, 0x03): self._set_halt,
            (_IN, 0x06): self._descriptor,
            (_IN, 0x08): lambda _value, _index: bytes((self.configuration,)),
            (_OUT, 0x09): self._set_configuration,
            (_IN | _INTERFACE, 0x0A): lambda _value, index: self._interface(index, b"\x00"),
            (_OUT | _INTERFACE, 0x0B): self._set_interface,
        }

    def reset(self) -> None:
        """The state after a USB reset, as the operating system then configures it."""
        self.configuration = 1
        self.halted: set[int] = set()

    def request(self, kind: int, request: int, value: int, index: int) -> bytes:
        """Carry out a standard request.

        Args:
            kind: bmRequestType.
            request: bRequest.
            value: wValue.
            index: wIndex.

        Returns:
            The answer in full length; the caller cuts it to wLength.

        Raises:
            Stalled: there is no such request or descriptor.
        """
        handler = self._handlers.get((kind, request))
        if handler is None:
            raise Stalled
        return handler(value, index)

    # --- state -----------------------------------------------------------------------------

    def _interface(self, index: int, answer: bytes) -> bytes:
        if index or not self.configuration:
            raise Stalled
        return answer

    def _endpoint_status(self, _value: int, index: int) -> bytes:
        if index not in _ENDPOINTS:
            raise Stalled
        return bytes((index in self.halted, 0))

    def _clear_halt(self, value: int, index: int) -> bytes:
        if value != _HALT or index not in _ENDPOINTS:
            raise Stalled
        self.halted.discard(index)
        return b""

    def _set_halt(self, value: int, index: int) -> bytes:
        if value != _HALT or index not in (IN_ENDPOINT, OUT_ENDPOINT):
            raise Stalled
        self.halted.add(index)
        return b""

    def _set_configuration(self, value: int, _index: int) -> bytes:
        if value not in (0, 1):
            raise Stalled
        self.configuration = value
        self.halted.clear()
        return b""

    def _set_interface(self, value: int, index: int) -> bytes:
        self._interface(index, b"")
        if value:
            raise Stalled
        self.halted.clear()
        return b""

    # --- descriptors -----------------------------------------------------------------------

    def _descriptor(self, value: int, _language: int) -> bytes:
        kind, number = value >> 8, value & 0xFF
        if kind == 1 and number == 0:
            return self.device_descriptor()
        if kind == 2 and number == 0:
            return configuration_descriptor()
        if kind == 3 and number == 0:
            return _LANGUAGE
        if kind == 3 and number < len(self._strings):
            text = self._strings[number].encode("utf-16-le")
            return bytes((len(text) + 2, 3)) + text
        if kind == 6 and number == 0:  # what it would be at full speed
            return struct.pack("<BBHBBBBBB", 10, 6, 0x0200, 0, 0, 0, 64, 1, 0)
        raise Stalled

    def device_descriptor(self) -> bytes:
        """18 bytes."""
        return struct.pack(
            "<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0, 0, 0, 64, VENDOR, PRODUCT, RELEASE, 1, 2,
            3 if len(self._strings) > 3 else 0, 1,
        )  # fmt: skip


def configuration_descriptor() -> bytes:
    """The configuration, its interface (vendor specific) and its two bulk endpoints."""
    return (
        struct.pack("<BBHBBBBB", 9, 2, 32, 1, 1, 0, 0xA0, POWER)
        + struct.pack("<9B", 9, 4, 0, 0, 2, 0xFF, 0xFF, 0xFF, 2)
        + struct.pack("<BBBBHB", 7, 5, IN_ENDPOINT, 2, PACKET, 0)
        + struct.pack("<BBBBHB", 7, 5, OUT_ENDPOINT, 2, PACKET, 0)
    )
