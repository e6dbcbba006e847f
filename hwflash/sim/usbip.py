"""A USB/IP server for a simulated FT232H: a USB device for any computer or virtual machine.

`Connection` is the protocol of one client without any socket: bytes in, bytes out. `UsbipServer`
brings sockets to it, in one thread: many may ask for the list, one has the device. A client that
vanishes leaves a device that was reset, as unplugging its cable would.

Ref: `hwflash.sim.usbip_wire`; `hwflash.sim.urbs` for time and transfers.
Limits: one device; no authentication and no encryption: whoever reaches the port has the device.
"""

from __future__ import annotations

import errno
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import usb.core

from hwflash.progress import CancelToken, Reporter
from hwflash.sim import usbip_wire as wire
from hwflash.sim.endpoint0 import PRODUCT, RELEASE, VENDOR
from hwflash.sim.programmer import SimulatedProgrammer
from hwflash.sim.urbs import Done, Unplugged, UrbQueue

BUSID: Final = "1-1"
#: How often a request to stop is looked at while nothing comes.
POLL: Final = 0.2
#: A client may pause in the middle of a message, or take no answers, for so long.
STALL: Final = 30.0
#: One that has connected and asks for nothing is let go sooner.
IDLE: Final = 10.0
#: Connections at once, those that only ask for the list included.
MAX_CONNECTIONS: Final = 16
RECEIVE: Final = 262144
#: A client that leaves so many bytes of answers unread is not listened to meanwhile.
UNREAD: Final = 4 << 20
#: A computer that lost its power sends no more; the kernel finds out with these.
KEEPALIVE: Final = (
    (socket.TCP_KEEPIDLE, 20),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 4),
)


@dataclass(slots=True)
class Served:
    """What a server has done.

    Attributes:
        connections: how many came.
        imports: how many got the device.
        refused: how many did not, because it was in use, gone, or not theirs to have.
        urbs: transfers that ended.
    """

    connections: int = 0
    imports: int = 0
    refused: int = 0
    urbs: int = 0


class Export:
    """The device, and who has it.

    Args:
        programmer: the simulated programmer; closing it stays the caller's.
        real: real time in seconds.
    """

    def __init__(
        self, programmer: SimulatedProgrammer, real: Callable[[], float] = time.monotonic
    ) -> None:
        self._programmer = programmer
        self._real = real
        self.queue: UrbQueue | None = None
        self.served = Served()
        self.device = wire.Device(
            f"/sys/devices/platform/hwflash/usb1/{BUSID}", BUSID, 1, 2,
            VENDOR, PRODUCT, RELEASE, ((0xFF, 0xFF, 0xFF),),
        )  # fmt: skip

    def devices(self) -> list[wire.Device]:
        """What is there, in use or not."""
        return [self.device] if self._programmer.backend.plugged else []

    def take(self, busid: str) -> int:
        """Give the device to a client; the status of the reply, 0 when it has it."""
        status = self._take(busid)
        self.served.imports += not status
        self.served.refused += bool(status)
        return status

    def _take(self, busid: str) -> int:
        if busid != BUSID or not self.devices():
            return wire.NO_DEVICE
        if self.queue is not None:
            return wire.BUSY
        try:
            self.queue = UrbQueue(self._programmer.backend, self._programmer.clock, self._real)
        except usb.core.USBError as exc:
            return wire.BUSY if exc.errno == errno.EBUSY else wire.NOT_AVAILABLE
        return wire.OK

    def give_back(self) -> None:
        """The client has gone: reset the device, bring the chip's files up to date.

        Raises:
            EnvironmentFault: they cannot be written.
        """
        if self.queue is not None:
            self.queue.close()
            self.queue = None
            if self._programmer.backend.plugged:  # a power cut has saved what was left
                self._programmer.sync()


class Connection:
    """One client, from its first byte.

    Attributes:
        out: bytes for the client.
        ended: nothing more is to come but ``out``.
        imported: this client has the device.
        wrong: what was wrong with what it sent, "" if nothing was.
    """

    def __init__(self, export: Export) -> None:
        self._export = export
        self._buffer = bytearray()
        self.out = bytearray()
        self.ended = False
        self.imported = False
        self.wrong = ""

    @property
    def partial(self) -> bool:
        """Whether a message has begun whose end has not come."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take bytes of the client and act on all messages that are complete."""
        self._buffer += data
        try:
            while not self.ended and (self._message() if self.imported else self._operation()):
                pass
        except wire.Nonsense as exc:
            self._end(str(exc))
        except Unplugged:
            self._end("")

    def advance(self) -> None:
        """Answer transfers that ended in the meantime."""
        queue = self._export.queue
        if self.imported and queue is not None and not self.ended:
            try:
                self._answer(queue.advance())
            except Unplugged:
                self._end("")

    def delay(self) -> float | None:
        """Real seconds until `advance` is due, or None."""
        queue = self._export.queue
        return queue.delay() if self.imported and queue is not None and not self.ended else None

    def close(self) -> None:
        """The client has gone; a device it has is free again.

        Raises:
            EnvironmentFault: the chip's files cannot be written.
        """
        self.ended = True
        if self.imported:
            self.imported = False
            self._export.give_back()

    # --- before the import -----------------------------------------------------------------

    def _operation(self) -> bool:
        """Act on a request if it is complete; whether it was."""
        if len(self._buffer) < wire.OP_HEADER:
            return False
        version, code = wire.op_header(self._buffer)
        if version != wire.VERSION:
            self.out += wire.op_reply(code, wire.BAD_REQUEST)
            raise wire.Nonsense(f"protocol version {version:04x} instead of {wire.VERSION:04x}")
        if code == wire.REQUEST | wire.DEVLIST:
            self.out += wire.device_list(self._export.devices())
            self._end("")
            return True
        if code != wire.REQUEST | wire.IMPORT:
            self.out += wire.op_reply(code, wire.BAD_REQUEST)
            raise wire.Nonsense(f"request {code:04x}")
        if len(self._buffer) < wire.OP_HEADER + wire.BUSID:
            return False
        name = bytes(self._buffer[wire.OP_HEADER : wire.OP_HEADER + wire.BUSID])
        del self._buffer[: wire.OP_HEADER + wire.BUSID]
        status = self._export.take(name.split(b"\0")[0].decode("ascii", "replace"))
        if status:
            self.out += wire.op_reply(code, status)
            self._end("")
        else:
            self.out += wire.imported(self._export.device)
            self.imported = True
        return True

    # --- after it --------------------------------------------------------------------------

    def _message(self) -> bool:
        """Act on a transfer or its taking back if it is complete; whether it was."""
        queue = self._export.queue
        if len(self._buffer) < wire.HEADER or queue is None:
            return False
        length = wire.message_length(self._buffer, self._export.device.devid)
        if len(self._buffer) < length:
            return False
        found = wire.message(memoryview(self._buffer)[:length].tobytes())
        del self._buffer[:length]
        if isinstance(found, wire.Urb):
            self._answer(queue.submit(found))
        else:
            taken_back, done = queue.unlink(found.target)
            self._answer(done)
            self.out += wire.unlinked(found, done=not taken_back)
        return True

    def _answer(self, done: list[Done]) -> None:
        for item in done:
            self.out += wire.submitted(item.urb, item.status, item.actual, item.data)
        self._export.served.urbs += len(done)

    def _end(self, wrong: str) -> None:
        self.wrong = wrong
        self.ended = True
        self._buffer.clear()


class _Client:
    """A connection and its socket."""

    def __init__(self, connection: Connection, link: socket.socket, name: str) -> None:
        self.connection = connection
        self.link = link
        self.name = name
        self.last = time.monotonic()

    def events(self) -> int:
        """What the socket is watched for; 0 when there is nothing to wait for."""
        out = len(self.connection.out)
        reading = not self.connection.ended and out < UNREAD
        return (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if out else 0)

    def receive(self) -> bool:
        """Take what has come; False when the client has gone."""
        try:
            data = self.link.recv(RECEIVE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.last = time.monotonic()
        self.connection.feed(data)
        return bool(data)

    def send(self) -> bool:
        """Send what the socket takes; False when the client has gone."""
        out = self.connection.out
        try:
            while out:
                count = self.link.send(memoryview(out)[:RECEIVE].tobytes())
                del out[:count]
                self.last = time.monotonic()
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def stalled(self, now: float) -> bool:
        """Whether it left something half done for too long."""
        connection = self.connection
        if connection.imported and not connection.partial and not connection.out:
            return False
        return now - self.last > (STALL if connection.imported else IDLE)


class UsbipServer:
    """Serves one simulated programmer.

    Args:
        export: what is served.
        listener: a listening socket; closing it stays the caller's.
        reporter: told of clients that come and go.
        cancel: the request to stop; looked at several times a second.
    """

    def __init__(
        self, export: Export, listener: socket.socket, reporter: Reporter, cancel: CancelToken
    ) -> None:
        self._export = export
        self._listener = listener
        self._reporter = reporter
        self._cancel = cancel
        self._clients: list[_Client] = []

    def serve(self) -> Served:
        """Serve clients until a stop is asked for.

        Raises:
            EnvironmentFault: the chip's files cannot be written.
        """
        self._listener.setblocking(False)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._listener, selectors.EVENT_READ)
                while not self._cancel.cancelled:
                    self._turn(selector)
        finally:
            for client in self._clients:
                client.link.close()
            self._export.give_back()
        return self._export.served

    def _turn(self, selector: selectors.BaseSelector) -> None:
        delays = [client.connection.delay() for client in self._clients]
        timeout = min([POLL, *(delay for delay in delays if delay is not None)])
        gone: list[_Client] = []
        for key, events in selector.select(timeout):
            client: _Client | None = key.data
            if client is None:
                self._accept(selector)
            elif (events & selectors.EVENT_READ and not client.receive()) or (
                events & selectors.EVENT_WRITE and not client.send()
            ):
                gone.append(client)
        now = time.monotonic()
        for client in self._clients[:]:
            client.connection.advance()
            sent = client not in gone and client.send()
            stalled = client.stalled(now)
            if stalled:
                self._reporter.warning(
                    f"{client.name} was let go: it stopped in the middle", client=client.name
                )
            if not sent or stalled or not client.events():
                self._drop(selector, client)
            else:
                selector.modify(client.link, client.events(), client)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            link, address = self._listener.accept()
        except OSError:  # it left before it was taken
            return
        name = f"{address[0]}:{address[1]}"
        self._export.served.connections += 1
        if len(self._clients) >= MAX_CONNECTIONS:
            link.close()
            self._reporter.warning(f"turned away {name}: too many connections", client=name)
            return
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            link.setsockopt(socket.IPPROTO_TCP, option, value)
        client = _Client(Connection(self._export), link, name)
        self._clients.append(client)
        selector.register(link, selectors.EVENT_READ, client)
        self._reporter.info(f"connection from {name}", client=name)

    def _drop(self, selector: selectors.BaseSelector, client: _Client) -> None:
        selector.unregister(client.link)
        client.link.close()
        self._clients.remove(client)
        connection = client.connection
        had = connection.imported
        if connection.wrong:
            self._reporter.warning(
                f"{client.name} was let go, it sent {connection.wrong}", client=client.name
            )
        connection.close()
        if had:
            self._reporter.info(f"{client.name} has let go of the device", client=client.name)
