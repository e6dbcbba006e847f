"""The USB/IP server over real sockets, and our own driver over it."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import usb.core
from serving import Heard
from support import pattern, small_chip
from usbip_client import Closed, UsbipBackend, UsbipClient, request, setup, submit

from hwflash.bus.ftdi import Ft232hBus
from hwflash.errors import EnvironmentFault, ProgrammerLost
from hwflash.flash.identify import read_id
from hwflash.flash.nor import NorFlash
from hwflash.jobs.serve_serprog import listen
from hwflash.progress import CancelToken
from hwflash.sim import usbip
from hwflash.sim.faults import Faults
from hwflash.sim.programmer import SimulatedProgrammer
from hwflash.sim.usbip import Export, UsbipServer
from hwflash.units import KIB


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usbip, "POLL", 0.02)


class Served:
    """A server in a thread."""

    def __init__(self, **options: object) -> None:
        self.chip = small_chip()
        self.sim = SimulatedProgrammer(self.chip, timing="datasheet", **options)
        self.listener = listen("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]
        self.heard = Heard()
        self.failure: BaseException | None = None
        self._cancel = CancelToken()
        self.export = Export(self.sim)
        self.server = UsbipServer(self.export, self.listener, self.heard, self._cancel)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.server.serve()
        except BaseException as exc:  # handed to the test
            self.failure = exc

    def stop(self) -> None:
        self._cancel.cancel()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.listener.close()
        self.sim.close()
        assert self.failure is None

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def client(self) -> UsbipClient:
        return UsbipClient(self.port)

    def until(self, true: Callable[[], bool]) -> None:
        limit = time.monotonic() + 10
        while not true():
            assert time.monotonic() < limit
            time.sleep(0.01)


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    yield server
    server.stop()


@contextmanager
def driver(server: Served) -> Iterator[Ft232hBus]:
    """Our own driver on pyftdi and PyUSB, over the network."""
    with server.client() as client:
        backend = UsbipBackend(client)
        bus = Ft232hBus(usb.core.Device(backend, backend), name="usbip")
        try:
            yield bus
        finally:
            bus.close()


def everything(link: socket.socket) -> bytes:
    """What comes until the server hangs up, with a reset if it had not read all."""
    found = b""
    with suppress(ConnectionResetError):
        while data := link.recv(65536):
            found += data
    return found


def test_our_driver_identifies_erases_programs_and_reads(served: Served) -> None:
    served.sim.die.content[:] = pattern(served.chip.size, 1)
    image = pattern(24 * KIB, 2)
    with driver(served) as bus:
        assert read_id(bus)[:3] == served.chip.jedec_id
        flash = NorFlash(bus, served.chip)
        flash.erase(0, 64 * KIB)
        flash.program(0x1000, image)
        found = flash.read(0, served.chip.size)
    assert found[: 64 * KIB] == (b"\xff" * 0x1000 + image).ljust(64 * KIB, b"\xff")
    assert found[64 * KIB :] == pattern(served.chip.size, 1)[64 * KIB :]
    served.until(lambda: served.export.queue is None)
    assert found == served.sim.die.content


def test_sleeping_lets_the_chip_get_on(served: Served) -> None:
    with driver(served) as bus:
        started, before = time.monotonic(), served.sim.clock.now()
        NorFlash(bus, served.chip).erase(0, 64 * KIB)
        assert time.monotonic() - started >= 0.1  # typically 150 ms, of which 80 % are slept
        assert served.sim.clock.now() - before >= 0.15


def test_a_read_without_data_does_not_spin(served: Served) -> None:
    with served.client() as client:
        started = time.monotonic()
        for _ in range(5):
            assert client.transfer(1, 512) == b"\x32\x60"
        assert time.monotonic() - started >= 4 * 0.016


def test_a_read_that_is_given_up_loses_nothing(served: Served) -> None:
    with served.client() as client:
        client.transfer(0, b"", setup=setup(0x40, 0x09, 255, 1))
        client.transfer(0, b"", setup=setup(0x40, 0x0B, 0x0200, 1))
        with pytest.raises(usb.core.USBTimeoutError):
            client.transfer(1, 512, timeout=0.02)
        client.transfer(2, b"\xab\x87")
        assert client.transfer(1, 512) == b"\x32\x60\xfa\xab"


def test_the_second_client_is_refused(served: Served) -> None:
    with served.client():
        with pytest.raises(usb.core.USBError) as caught:
            served.client()
        assert caught.value.errno == errno.EBUSY
        with served.socket() as link:
            link.sendall(request(0x8005))
            assert everything(link)[8:12] == b"\0\0\0\1"
    served.until(lambda: served.export.queue is None)
    served.client().close()


def test_a_client_vanishes_in_the_middle_of_a_program(served: Served) -> None:
    served.sim.die.content[:] = b"\xff" * served.chip.size
    page = bytes(range(256))
    with driver(served) as bus:
        flash = NorFlash(bus, served.chip)
        flash.program(0, page)
        client = bus._device.backend.client
        client.link.sendall(submit(10000, 2, bytes(4000))[:1000])
        client.link.shutdown(socket.SHUT_RDWR)
        served.until(lambda: served.export.queue is None)
        with pytest.raises(ProgrammerLost):
            flash.read(0, 1)
    assert served.sim.backend.chip.bit_mode == 0
    with driver(served) as bus:
        flash = NorFlash(bus, served.chip)
        assert flash.read(0, 512) == page + b"\xff" * 256
        flash.program(256, page)
        assert flash.read(0, 512) == page * 2


def test_a_cable_that_is_pulled_is_a_lost_programmer() -> None:
    served = Served(faults=Faults(disconnect=60))
    try:
        with driver(served) as bus, pytest.raises(ProgrammerLost):
            _ = [read_id(bus) for _ in range(100)]
        with served.socket() as link:
            link.sendall(request(0x8005))
            assert everything(link)[8:12] == b"\0\0\0\0"
    finally:
        served.stop()


def test_the_image_is_written_when_a_client_has_gone(tmp_path: Path) -> None:
    image = tmp_path / "chip.bin"
    served = Served(image=image)
    try:
        with driver(served) as bus:
            NorFlash(bus, served.chip).program(0x100, b"firmware")
        served.until(lambda: served.export.queue is None)
        served.until(lambda: image.exists() and image.read_bytes()[0x100:0x108] == b"firmware")
    finally:
        served.stop()


@pytest.mark.parametrize("sent", [b"", b"\x01\x11\x80", request(0x8003, "1-1")[:30]])
def test_half_a_request_is_let_go(
    served: Served, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usbip, "IDLE", 0.1)
    with served.socket() as link:
        link.sendall(sent)
        assert everything(link) == b""
    served.client().close()


def test_half_a_transfer_is_let_go(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usbip, "STALL", 0.1)
    with served.client() as client:
        time.sleep(0.3)  # a client may be silent for as long as it likes
        assert client.transfer(0, 1, setup=setup(0x80, 8, length=1)) == b"\x01"
        client.link.sendall(submit(9, 2, bytes(100))[:90])
        assert everything(client.link) == b""
    served.until(lambda: served.export.queue is None)


def test_nonsense_is_reported_and_the_next_client_served(served: Served) -> None:
    with served.client() as client:
        client.link.sendall(submit(1, 2, b"")[:24] + b"\x7f\xff\xff\xff" + bytes(20))
        with pytest.raises((Closed, ConnectionError)):
            client.take(1)
    served.until(lambda: served.export.queue is None)
    assert any("2147483647 bytes" in text for text in served.heard.warnings)
    served.client().close()


def test_many_connections_that_ask_for_nothing(served: Served) -> None:
    links: list[socket.socket] = []
    try:
        for _ in range(usbip.MAX_CONNECTIONS + 4):
            links.append(served.socket())
            served.until(lambda: served.export.served.connections == len(links))
        served.until(lambda: len(served.heard.warnings) == 4)
    finally:
        for link in links:
            link.close()
    served.until(lambda: not served.server._clients)
    served.client().close()


@pytest.mark.slow
def test_a_client_that_takes_no_answers_is_let_go(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usbip, "STALL", 0.3)
    monkeypatch.setattr(usbip, "UNREAD", 1 << 16)
    with served.client() as client:
        client.link.setblocking(False)
        question = submit(1, 0, 255, setup=setup(0x80, 6, 0x0200, 0, 255))

        def let_go() -> bool:
            try:
                client.link.send(question * 1000)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True
            return False

        served.until(let_go)
    served.until(lambda: served.export.queue is None)


def test_a_port_in_use() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(EnvironmentFault) as caught:
        listen("127.0.0.1", first.getsockname()[1])
    assert caught.value.code == "environment.port-in-use"


def test_stopping_leaves_nothing_behind() -> None:
    before = threading.active_count()
    served = Served()
    client = served.client()
    client.submit(1, 512)
    served.stop()
    assert threading.active_count() == before
    everything(client.link)  # it ends
    client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), timeout=1)
    assert served.export.queue is None
