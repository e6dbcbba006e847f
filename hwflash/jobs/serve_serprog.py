"""A serprog server: any programmer for flashrom, or for hwflash on another computer.

One thread, one client at a time. A client that vanishes, stalls in the middle of a command or
takes no answers is let go, and the next one finds the device waiting for a command.

Limits: no authentication and no encryption: whoever reaches the port owns the chip.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
import tty
from dataclasses import dataclass
from typing import Final, Protocol

from hwflash.bus.serprog_protocol import NAK
from hwflash.errors import EnvironmentFault
from hwflash.jobs.serprog_device import BATCH_REPLY, SerprogDevice
from hwflash.progress import CancelToken, Reporter

#: How often a request to stop is looked at while nothing comes.
POLL: Final = 0.2
#: On a pty every byte is there at once; a client that stops here has died.
PTY_STALL: Final = 1.0
#: A connection over a bad network may pause in the middle of a command, but not for ever.
TCP_STALL: Final = 30.0
RECEIVE: Final = 65536
#: A peer that lost its power sends no more; the kernel finds out with these.
KEEPALIVE: Final = (
    (socket.TCP_KEEPIDLE, 20),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 4),
)


@dataclass(slots=True)
class Served:
    """What a server has done.

    Attributes:
        clients: how many were served.
        refused: how many came while another was being served.
        operations: operations that went to the chip.
    """

    clients: int = 0
    refused: int = 0
    operations: int = 0


class Gone(Exception):
    """The client is not there any more."""


class Channel(Protocol):
    """One client."""

    #: Seconds without progress in the middle of a command.
    stall: float

    def fileno(self) -> int:
        """For `select`."""
        ...

    def receive(self) -> bytes:
        """What has come, when it is readable.

        Raises:
            Gone: the client left.
        """
        ...

    def send(self, data: bytes, /) -> int:
        """Bytes that were taken, when it is writable.

        Raises:
            Gone: the client left.
        """
        ...

    def left(self) -> bool:
        """Whether the client has left and nothing of it is still to be read."""
        ...

    def stalled(self, device: SerprogDevice) -> bytes:
        """What to answer a client that stopped in the middle of a command.

        Raises:
            Gone: it is better to hang up.
        """
        ...


class TcpChannel:
    """A client on a socket."""

    def __init__(self, connection: socket.socket, stall: float) -> None:
        self.stall = stall
        self._connection = connection
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)

    def fileno(self) -> int:
        """The socket."""
        return self._connection.fileno()

    def receive(self) -> bytes:
        """What has come."""
        try:
            data = self._connection.recv(RECEIVE)
        except BlockingIOError:
            return b""
        except OSError as exc:
            raise Gone from exc
        if not data:
            raise Gone
        return data

    def send(self, data: bytes, /) -> int:
        """Bytes that were taken."""
        try:
            return self._connection.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise Gone from exc

    def left(self) -> bool:
        """Whether the client has left."""
        try:
            return not self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def stalled(self, device: SerprogDevice) -> bytes:
        """Hang up: the rest of the command may yet come, and is not to be taken for another."""
        raise Gone


class PtyChannel:
    """A client on the other side of a pseudo-terminal."""

    stall = PTY_STALL

    def __init__(self, master: int) -> None:
        self._master = master

    def fileno(self) -> int:
        """The master side."""
        return self._master

    def receive(self) -> bytes:
        """What has come."""
        try:
            return os.read(self._master, RECEIVE)
        except BlockingIOError:
            return b""
        except OSError as exc:  # EIO: nobody has the other side open
            raise Gone from exc

    def send(self, data: bytes, /) -> int:
        """Bytes that were taken."""
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise Gone from exc

    def left(self) -> bool:
        """Whether the client has left: not asked, since a pty has no second client."""
        return False

    def stalled(self, device: SerprogDevice) -> bytes:
        """Drop the half command: a serial port cannot be hung up."""
        device.reset()
        return bytes((NAK,))


class SerprogServer:
    """Serves one `SerprogDevice`.

    Args:
        device: the device; the bus behind it stays the caller's.
        reporter: told of clients that come and go.
        cancel: the request to stop; looked at several times a second.
        stall: seconds after which a TCP client in the middle of a command is let go.
    """

    def __init__(
        self,
        device: SerprogDevice,
        reporter: Reporter,
        cancel: CancelToken,
        *,
        stall: float = TCP_STALL,
    ) -> None:
        self._device = device
        self._reporter = reporter
        self._cancel = cancel
        self._stall = stall
        self.served = Served()

    def serve_tcp(self, listener: socket.socket) -> Served:
        """Serve clients of a listening socket until a stop is asked for.

        Raises:
            ProgrammerError: the programmer failed.
        """
        listener.setblocking(False)
        self._device.release()
        while not self._cancel.cancelled:
            if not select.select([listener], [], [], POLL)[0]:
                continue
            accepted = _accept(listener)
            if accepted is None:
                continue
            connection, name = accepted
            with connection:
                self._client(TcpChannel(connection, self._stall), name, listener)
        return self._done()

    def serve_pty(self, master: int, name: str) -> Served:
        """Serve whoever opens the other side of a pseudo-terminal, until a stop is asked for.

        Raises:
            ProgrammerError: the programmer failed.
        """
        os.set_blocking(master, False)
        self._device.release()
        watch = select.poll()
        watch.register(master, select.POLLIN)
        while not self._cancel.cancelled:
            # While nobody has the other side open, poll says so at once.
            if any(state & select.POLLHUP for _, state in watch.poll(0)):
                time.sleep(POLL / 4)
                continue
            self._client(PtyChannel(master), name, None)
        return self._done()

    # --- one client ---------------------------------------------------------------------------

    def _client(self, channel: Channel, name: str, listener: socket.socket | None) -> None:
        self.served.clients += 1
        self._reporter.info(f"client at {name}", client=name)
        try:
            self._converse(channel, listener)
        except Gone:
            self._reporter.info(f"client at {name} is gone", client=name)
        finally:
            self._device.reset()
        # Between clients the board may have its chip.
        self._device.release()

    def _converse(self, channel: Channel, listener: socket.socket | None) -> None:
        device = self._device
        out = b""
        last = time.monotonic()
        while not self._cancel.cancelled:
            if device.ready and len(out) < BATCH_REPLY:
                out += device.step()
                last = time.monotonic()
            # A client that takes no answers is given no more of them.
            listen = [channel] if not device.ready else []
            others = [listener] if listener is not None else []
            timeout = 0.0 if device.ready and len(out) < BATCH_REPLY else POLL
            readable, writable, _ = select.select(
                [*listen, *others], [channel] if out else [], [], timeout
            )
            if listener is not None and listener in readable:
                if channel.left():  # the next one came before we looked
                    raise Gone
                self._turn_away(listener)
            if channel in writable:
                taken = channel.send(out[:RECEIVE] if len(out) > RECEIVE else out)
                out = out[taken:]
                last = time.monotonic() if taken else last
            if channel in readable:
                data = channel.receive()
                device.feed(data)
                last = time.monotonic() if data else last
            elif (device.partial or out) and time.monotonic() - last > channel.stall:
                self._reporter.warning("the client stopped in the middle of a command")
                out += channel.stalled(device)
                last = time.monotonic()

    def _turn_away(self, listener: socket.socket) -> None:
        accepted = _accept(listener)
        if accepted is None:
            return
        connection, name = accepted
        connection.close()
        self.served.refused += 1
        self._reporter.warning(f"turned away {name}: another client is served", client=name)

    def _done(self) -> Served:
        self.served.operations = self._device.operations
        return self.served


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 lets the system choose.

    Raises:
        EnvironmentFault: the port is in use (``environment.port-in-use``) or the address is
            not this computer's (``environment.address``).
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=4)  # type: ignore[arg-type]
    except OSError as exc:
        in_use = exc.errno == errno.EADDRINUSE
        raise EnvironmentFault(
            f"cannot listen at {host}:{port}: {exc.strerror or exc}",
            code="environment.port-in-use" if in_use else "environment.address",
            address=f"{host}:{port}",
        ) from exc


def open_pty() -> tuple[int, str]:
    """The master side of a new pseudo-terminal, and the name of the other side.

    Raises:
        EnvironmentFault: there is none to be had (``environment.pty``).
    """
    try:
        master, slave = os.openpty()
    except OSError as exc:
        raise EnvironmentFault(
            f"no pseudo-terminal: {exc.strerror}", code="environment.pty"
        ) from exc
    try:
        tty.setraw(slave)
        return master, os.ttyname(slave)
    finally:
        # With this end open, nobody could tell that a client has left.
        os.close(slave)


def _accept(listener: socket.socket) -> tuple[socket.socket, str] | None:
    try:
        connection, address = listener.accept()
    except OSError:  # it left before it was taken
        return None
    return connection, f"{address[0]}:{address[1]}"
