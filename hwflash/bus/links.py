"""Byte streams to a programmer box: a TCP connection or a serial port.

Limits: POSIX serial ports, 8 data bits, no parity, no flow control.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import termios
import time
from typing import Any, Final, Protocol

import serial

from hwflash.errors import (
    ProgrammerAbsent,
    ProgrammerBusy,
    ProgrammerError,
    ProgrammerInaccessible,
    ProgrammerLost,
)

CONNECT_TIMEOUT: Final = 10.0
#: Patience for the other end to take what is written, beyond what the line rate needs.
WRITE_PATIENCE: Final = 10.0
CHUNK: Final = 65536
BITS_PER_BYTE: Final = 10
TCP_WINDOW: Final = 32768
#: A Linux terminal buffers 4 KiB.
SERIAL_WINDOW: Final = 2048


class Link(Protocol):
    """A byte stream."""

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    @property
    def window(self) -> int:
        """Bytes the system surely takes although the other end has not yet."""
        ...

    @property
    def byte_seconds(self) -> float:
        """Time one byte needs on the line."""
        ...

    def write(self, data: bytes, /) -> None:
        """Send all of ``data``.

        Raises:
            ProgrammerLost: the other end is gone, or takes no more.
        """
        ...

    def read(self, limit: int, seconds: float, /) -> bytes:
        """Up to ``limit`` bytes as soon as there is one; none after ``seconds``.

        Raises:
            ProgrammerLost: the other end is gone (``programmer.serprog-closed``).
        """
        ...

    def close(self) -> None:
        """Let go. May be called twice."""
        ...


class TcpLink:
    """A TCP connection to ``host:port``.

    Raises:
        ProgrammerAbsent: nobody listens there, or the name is not known.
    """

    def __init__(self, host: str, port: int) -> None:
        self.byte_seconds = 0.0
        self.window = TCP_WINDOW
        self.name = f"serprog at {host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout=CONNECT_TIMEOUT)
        except OSError as exc:
            raise ProgrammerAbsent(
                f"nobody answers at {host}:{port}: {exc.strerror or exc}",
                code="programmer.serprog-unreachable",
                device=f"{host}:{port}",
            ) from exc
        # Many small questions wait for small answers.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(WRITE_PATIENCE)

    def write(self, data: bytes, /) -> None:
        """Send all of ``data``."""
        try:
            self._socket.sendall(data)
        except OSError as exc:
            raise _lost(self.name, exc) from exc

    def read(self, limit: int, seconds: float, /) -> bytes:
        """Up to ``limit`` bytes as soon as there is one; none after ``seconds``."""
        try:
            if not select.select([self._socket], [], [], max(seconds, 0.0))[0]:
                return b""
            data = self._socket.recv(min(limit, CHUNK))
        except (OSError, ValueError) as exc:
            raise _lost(self.name, exc) from exc
        if not data:
            raise ProgrammerLost(
                f"{self.name} closed the connection",
                code="programmer.serprog-closed",
                device=self.name,
            )
        return data

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class SerialLink:
    """A serial port such as ``/dev/ttyACM0``.

    Args:
        port: device node.
        baud: bits per second; USB serial ports ignore it.

    Raises:
        ProgrammerAbsent: there is no such node.
        ProgrammerInaccessible: no permission.
        ProgrammerBusy: another process holds it.
    """

    def __init__(self, port: str, baud: int) -> None:
        self.window = SERIAL_WINDOW
        self.name = f"serprog at {port}"
        self.byte_seconds = BITS_PER_BYTE / baud
        try:
            self._serial: Any = serial.Serial(port, baud, timeout=0, exclusive=True)
        except (serial.SerialException, ValueError) as exc:
            raise _port_error(port, exc) from exc
        self._serial.write_timeout = WRITE_PATIENCE + self.window * self.byte_seconds

    def write(self, data: bytes, /) -> None:
        """Send all of ``data``."""
        try:
            for start in range(0, len(data), self.window):
                self._serial.write(data[start : start + self.window])
        except (OSError, serial.SerialException) as exc:
            raise _lost(self.name, exc) from exc

    def read(self, limit: int, seconds: float, /) -> bytes:
        """Up to ``limit`` bytes as soon as there is one; none after ``seconds``."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                left = deadline - time.monotonic()
                if not select.select([self._serial.fd], [], [], max(left, 0.0))[0]:
                    return b""
                # pyserial asks again and again for a full buffer; here any byte will do.
                data = os.read(self._serial.fd, min(limit, CHUNK))
                if data:
                    return data
                raise _lost(self.name, OSError(errno.ENODEV, "the port is gone"))
        except (OSError, TypeError, ValueError, serial.SerialException) as exc:
            raise _lost(self.name, exc) from exc

    def close(self) -> None:
        """Close the port; what was not sent yet is thrown away."""
        if self._serial.is_open:
            # A port whose other end takes nothing would hold the process in close(); one that is
            # gone has nothing that waits.
            with contextlib.suppress(OSError, serial.SerialException, termios.error):
                self._serial.reset_output_buffer()
            self._serial.close()


def _lost(name: str, exc: BaseException) -> ProgrammerLost:
    if isinstance(exc, (TimeoutError, serial.SerialTimeoutException)):
        return ProgrammerLost(
            f"{name} takes no more data", code="programmer.serprog-timeout", device=name
        )
    return ProgrammerLost(f"{name} is gone: {exc}", code="programmer.serprog-closed", device=name)


def _port_error(port: str, exc: Exception) -> ProgrammerError:
    number = getattr(exc, "errno", None)
    name = errno.errorcode.get(number or 0, str(number))
    if number in (errno.EACCES, errno.EPERM):
        return ProgrammerInaccessible(f"no permission to open {port}", device=port, errno=name)
    if number in (errno.EBUSY, errno.EAGAIN):
        return ProgrammerBusy(f"{port} is held by another process", device=port, errno=name)
    return ProgrammerAbsent(f"{port} cannot be opened: {exc}", device=port, errno=name)
