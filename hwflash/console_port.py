"""Where a serial console is: a port of this computer, a pseudo terminal, or a socket.

`open_port` takes what the ``port`` of a board file's ``[console]`` takes: a device node
(a pseudo terminal is one too), or a URL of pyserial's such as ``socket://127.0.0.1:4555`` or
``rfc2217://box:2001``.

Limits: POSIX; 8 data bits, no parity, no flow control.
"""

from __future__ import annotations

import errno
import os
import select
import termios
from contextlib import suppress
from typing import Any, Final, Protocol

from hwflash.errors import (
    ProgrammerAbsent,
    ProgrammerBusy,
    ProgrammerError,
    ProgrammerInaccessible,
    ProgrammerLost,
)

_WRITE_SECONDS: Final = 10.0


class Port(Protocol):
    """Bytes from and to a console."""

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    def read(self, limit: int, seconds: float, /) -> bytes:
        """Up to ``limit`` bytes as soon as there is one; none after ``seconds``.

        Raises:
            ProgrammerLost: the other end is gone (``console.lost``).
        """
        ...

    def write(self, data: bytes, /) -> None:
        """Send all of ``data``.

        Raises:
            ProgrammerLost: the other end is gone or takes nothing (``console.lost``).
        """
        ...

    def close(self) -> None:
        """Let go. May be called twice."""
        ...


class SerialPort:
    """A `Port` of pyserial's.

    Args:
        port: device node or pyserial URL.
        baud: bits per second; pseudo terminals and sockets have none.

    Raises:
        ProgrammerAbsent: there is no such port (``console.absent``).
        ProgrammerInaccessible: no permission (``console.inaccessible``).
        ProgrammerBusy: another process holds it (``console.busy``).
    """

    def __init__(self, port: str, baud: int = 115_200) -> None:
        import serial

        self.name = port
        self._gone: tuple[type[Exception], ...] = (
            OSError,
            serial.SerialException,
            termios.error,
            TypeError,  # pyserial's way to say that it was closed meanwhile
        )
        options: dict[str, Any] = {} if "://" in port else {"exclusive": True}
        if not port.startswith("rfc2217://"):  # which pyserial has no such limit for
            options["write_timeout"] = _WRITE_SECONDS
        try:
            self._serial: Any = serial.serial_for_url(port, baudrate=baud, timeout=0, **options)
        except (OSError, ValueError) as exc:
            raise _cannot_open(port, exc) from exc
        self._descriptor: int | None = None
        with suppress(AttributeError, OSError):  # rfc2217 and other URLs have none
            self._descriptor = self._serial.fileno()

    def read(self, limit: int, seconds: float, /) -> bytes:
        """Up to ``limit`` bytes as soon as there is one; none after ``seconds``."""
        try:
            if self._descriptor is None:
                self._serial.timeout = seconds
                first = self._serial.read(1)
                return first + self._serial.read(min(self._serial.in_waiting, limit - 1))
            # pyserial would wait on for a full buffer; here any byte will do.
            if not select.select([self._descriptor], [], [], max(seconds, 0.0))[0]:
                return b""
            data = os.read(self._descriptor, limit)
        except (*self._gone, ValueError) as exc:
            raise self._lost(exc) from exc
        if not data:
            raise self._lost(OSError("the other end closed it"))
        return data

    def write(self, data: bytes, /) -> None:
        """Send all of ``data``."""
        try:
            self._serial.write(data)
        except (*self._gone, ValueError) as exc:
            raise self._lost(exc) from exc

    def close(self) -> None:
        """Close the port; what was not sent yet is thrown away."""
        if self._serial.is_open:
            # One that takes nothing would hold the process in close().
            with suppress(*self._gone, NotImplementedError):
                self._serial.reset_output_buffer()
            # pyserial does not close a socket whose other end went first.
            link = getattr(self._serial, "_socket", None)
            with suppress(*self._gone):
                self._serial.close()
            if link is not None:
                link.close()

    def _lost(self, exc: Exception) -> ProgrammerLost:
        return ProgrammerLost(
            f"the console at {self.name} is gone: {exc}", code="console.lost", port=self.name
        )


def open_port(port: str, baud: int = 115_200) -> Port:
    """The port that a board file names; see `SerialPort`."""
    return SerialPort(port, baud)


def _cannot_open(port: str, exc: Exception) -> ProgrammerError:
    number = getattr(exc, "errno", None)
    kinds: dict[int, tuple[type[ProgrammerError], str]] = {
        errno.EACCES: (ProgrammerInaccessible, "inaccessible"),
        errno.EPERM: (ProgrammerInaccessible, "inaccessible"),
        errno.EBUSY: (ProgrammerBusy, "busy"),
        errno.EAGAIN: (ProgrammerBusy, "busy"),
    }
    kind, word = kinds.get(number or 0, (ProgrammerAbsent, "absent"))
    return kind(f"the console at {port} cannot be opened: {exc}", code=f"console.{word}", port=port)
