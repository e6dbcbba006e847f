"""The serprog server: over TCP and a pty, with clients that behave and clients that do not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import ServedPart, Serving
from support import DieBus, examples, pattern, small_chip

from hwflash.bus import serprog_protocol as sp
from hwflash.bus.links import SerialLink, TcpLink
from hwflash.bus.serprog import SerprogBus
from hwflash.bus.spi import Op, Transfer, Wait
from hwflash.errors import (
    EnvironmentFault,
    ProgrammerAbsent,
    ProgrammerBusy,
    ProgrammerError,
    ProgrammerLost,
)
from hwflash.flash.nor import NorFlash
from hwflash.jobs.opening import Request, open_programmer
from hwflash.jobs.serprog_device import MAX_READ, MAX_WRITE, SerprogDevice
from hwflash.jobs.serve_serprog import listen
from hwflash.units import KIB

ACK = bytes((sp.ACK,))
NAK = bytes((sp.NAK,))
SYNC = sp.SYNC_ANSWER
ID = b"\xef\x40\x11"
READ_ID = sp.spiop(b"\x9f", 3)


def die(**options: object) -> DieBus:
    return DieBus(small_chip(), **options)


def told(device: SerprogDevice, data: bytes) -> bytes:
    device.feed(data)
    said = b""
    while device.ready:
        said += device.step()
    return said


# --- the device, without a wire ----------------------------------------------------------------


def test_what_the_device_says_of_itself() -> None:
    device = SerprogDevice(die(), "a very long name indeed")
    assert told(device, b"\x00\x01\x10") == ACK + ACK + b"\x01\x00" + SYNC
    offered = sp.commands_in(told(device, b"\x02")[1:])
    assert offered == {0, 1, 2, 3, 4, 5, 7, 8, 0x0B, 0x0E, 0x0F, 0x10, 0x11, 0x12, 0x13, 0x14}
    assert told(device, b"\x03") == ACK + b"a very long name"
    assert told(device, b"\x04\x05\x07") == ACK + b"\xff\xff" + ACK + b"\x08" + ACK + b"\x00\x04"
    assert told(device, b"\x08\x11") == ACK + b"\x00\x00\x01" + ACK + b"\x00\x00\x10"
    assert told(device, b"\x12\x08\x12\x07") == ACK + NAK
    # Commands for other buses, unknown ones, and pins that this bus cannot let go of.
    assert told(device, b"\x06\x09\x0a\x0c\x0d\x15\x16\xff") == NAK * 8


def test_a_simulated_chip_gets_ready_while_its_client_is_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client's patience is real time: eight milliseconds for a page, however few its polls."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    device = SerprogDevice(die())
    poll = sp.spiop(b"\x05", 1)
    assert told(device, sp.spiop(b"\x06", 0) + sp.spiop(b"\x02\0\0\0\x55", 0)) == ACK * 2
    assert told(device, poll) == ACK + b"\x03"
    now[0] += 0.010  # another process had the processor
    assert told(device, poll) == ACK + b"\0"


def test_frequency_is_never_above_what_the_server_was_given() -> None:
    bus = die(frequency=10e6)
    device = SerprogDevice(bus)
    assert told(device, b"\x14" + (50_000_000).to_bytes(4, "little")) == ACK + (
        10_000_000
    ).to_bytes(4, "little")
    assert told(device, b"\x14" + (3_000_000).to_bytes(4, "little"))[:1] == ACK
    assert bus.frequency == 3e6
    assert told(device, b"\x14\0\0\0\0") == NAK
    assert bus.frequency == 3e6


def test_operations_that_came_together_are_one_batch() -> None:
    batches: list[list[Op]] = []
    bus = die()
    execute = bus.execute
    bus.execute = lambda ops: (batches.append(list(ops)), execute(ops))[1]  # type: ignore[method-assign]
    device = SerprogDevice(bus)
    stream = READ_ID + sp.delay(500) + sp.delay(250) + b"\x0f" + READ_ID
    device.feed(stream[:5])
    assert device.partial
    assert not device.ready
    assert told(device, stream[5:]) == (ACK + ID) + ACK * 3 + (ACK + ID)
    assert batches == [[Transfer(b"\x9f", 3), Wait(0.00075), Transfer(b"\x9f", 3)]]
    assert not device.partial


def test_delays_are_bounded() -> None:
    device = SerprogDevice(die())
    assert told(device, sp.delay(11_000_000)) == NAK
    assert told(device, sp.delay(6_000_000) * 2) == ACK + NAK
    assert told(device, b"\x0b" + sp.delay(6_000_000)) == ACK * 2
    assert told(device, b"\x0b" + sp.delay(1) * 205) == ACK * 205 + NAK
    assert told(device, b"\x0f\x0f") == ACK * 2


class Pins(DieBus):
    """A bus that can let go of its pins."""

    def __init__(self) -> None:
        super().__init__(small_chip())
        self.driven: list[bool] = []

    def drive(self, on: bool) -> None:
        self.driven.append(on)

    def execute(self, ops: object, /) -> list[bytes]:
        assert self.driven[-1:] != [False]
        return super().execute(ops)


def test_pins_are_released_and_driven_again_for_the_next_operation() -> None:
    bus = Pins()
    device = SerprogDevice(bus)
    assert sp.S_PIN_STATE in sp.commands_in(told(device, b"\x02")[1:])
    assert told(device, READ_ID + b"\x15\x00" + b"\x00") == ACK + ID + ACK + ACK
    assert bus.driven == [False]
    assert told(device, b"\x15\x01\x15\x01" + READ_ID) == ACK * 2 + ACK + ID
    assert bus.driven == [False, True]
    device.release()
    device.release()
    assert told(device, READ_ID) == ACK + ID
    assert bus.driven == [False, True, False, True]


def test_between_clients_the_board_has_its_chip() -> None:
    """On a simulated FT232H: every pin is an input, and what the chip holds stays."""
    with ServedPart("W25Q80DV", wp=0) as served:
        for _ in range(2):
            programmer = open_programmer(Request(programmer=served.url, environ={}))
            programmer.bus.execute([Transfer(b"\x06")])
            # WP# is driven high while a client is there ...
            assert served.sim.die.wp
            assert programmer.bus.execute([Transfer(b"\x05", 1)]) == [b"\x02"]
            programmer.release()
            for _ in range(100):
                if not served.sim.die.wp:
                    break
                time.sleep(0.01)
            # ... and has the level of its strap afterwards.
            assert not served.sim.die.wp


@pytest.mark.parametrize(
    ("write", "read"),
    [(MAX_WRITE + 1, 0), (0xFFFFFF, 0xFFFFFF), (4, MAX_READ + 1), (0xFFFFFF, 0), (0, 0xFFFFFF)],
)
def test_nonsense_lengths_are_refused_and_their_data_skipped(write: int, read: int) -> None:
    """The data of a refused operation are not commands: here each byte would be one."""
    bus = die()
    device = SerprogDevice(bus)
    header = b"\x13" + write.to_bytes(3, "little") + read.to_bytes(3, "little")
    assert told(device, header) == NAK
    data = bytes((sp.SYNCNOP,)) * write
    assert not any(told(device, data[at : at + 100_000]) for at in range(0, write, 100_000))
    assert told(device, READ_ID) == ACK + ID
    assert bus.commands() == ["9f"]


def test_the_answers_of_one_step_are_bounded() -> None:
    device = SerprogDevice(die())
    device.feed(sp.spiop(b"\x03\0\0\0", MAX_READ) * 5)
    sizes: list[int] = []
    while device.ready:
        sizes.append(len(device.step()))
    assert sizes == [MAX_READ + 1] * 5


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8))
def test_no_bytes_can_break_it(pieces: list[bytes]) -> None:
    device = SerprogDevice(die())
    for piece in pieces:
        said = told(device, piece)
        assert len(said) <= 64 * (MAX_READ + 1)
    device.reset()
    assert told(device, b"\x10\x00" + READ_ID) == SYNC + ACK + ACK + ID


_COMMANDS = st.one_of(
    st.sampled_from([b"\x00", b"\x10", b"\x01", b"\x04", b"\x0b", b"\x0f", b"\xff"]),
    st.integers(0, 20_000).map(sp.delay),
    st.tuples(st.binary(max_size=20), st.integers(0, 50)).map(lambda op: sp.spiop(*op)),
)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(_COMMANDS, max_size=30), st.integers(1, 64))
def test_where_the_stream_is_cut_does_not_matter(commands: list[bytes], piece: int) -> None:
    stream = b"".join(commands)
    whole, cut = SerprogDevice(die()), SerprogDevice(die())
    expected = told(whole, stream)
    found = b"".join(told(cut, stream[at : at + piece]) for at in range(0, len(stream), piece))
    assert found == expected


# --- over TCP and a pty ------------------------------------------------------------------------


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    started: list[Serving] = []
    before = threading.active_count()

    def start(bus: DieBus | None = None, **options: object) -> Serving:
        started.append(Serving(bus or die(), **options))
        return started[-1]

    yield start
    for item in started:
        item.stop()
        if item.failure is not None:
            raise item.failure
    assert threading.active_count() == before


def connect(serving: Serving) -> socket.socket:
    return socket.create_connection(("127.0.0.1", serving.port), timeout=5)


def receive(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = client.recv(count - len(found))
        if not piece:
            break
        found += piece
    return found


def is_served(serving: Serving) -> None:
    """A new client finds everything in order, once the chip is done with what it was doing."""
    with connect(serving) as client:
        client.sendall(b"\x10" + sp.delay(10_000) + b"\x0f" + READ_ID)
        assert receive(client, 8) == SYNC + ACK * 3 + ID


@pytest.mark.parametrize("pty", [False, True], ids=["tcp", "pty"])
def test_reads_erases_and_programs(serve: Callable[..., Serving], pty: bool) -> None:
    bus = die()
    serving = serve(bus, pty=pty)
    programmer = open_programmer(Request(programmer=serving.url, environ={}))
    try:
        assert programmer.name.startswith("hwflash (serprog at ")
        flash = NorFlash(programmer.bus, small_chip())
        data = pattern(20 * KIB)
        flash.program(0x1080, data)
        assert flash.read(0, 128 * KIB) == bus.die.content
        flash.erase(0x2000, 4 * KIB)
        assert bus.die.content[0x1080:0x2000] == data[: 0x2000 - 0x1080]
        assert bus.die.content[0x2000:0x3000] == b"\xff" * 4 * KIB
        assert programmer.bus.stats.usb_out < 60
    finally:
        programmer.release()


@pytest.mark.parametrize("pty", [False, True], ids=["tcp", "pty"])
def test_one_client_after_the_other(serve: Callable[..., Serving], pty: bool) -> None:
    serving = serve(pty=pty)
    for _ in range(3):
        programmer = open_programmer(Request(programmer=serving.url, environ={}))
        assert programmer.bus.execute([Transfer(b"\x9f", 3)]) == [ID]
        programmer.release()
    # Nobody hangs up a pty: a client that opens it at once may be taken for the one before.
    assert pty or serving.server.served.clients == 3


@pytest.mark.parametrize(
    "last_words",
    [
        b"",
        b"\x13",
        sp.spiop(b"\x02\0\0\0" + bytes(200), 0)[:100],
        sp.spiop(b"\x06", 0) + sp.spiop(b"\x02\0\0\0" + b"\x55" * 256, 0),
        sp.spiop(b"\x03\0\0\0", MAX_READ) * 30,
        b"\x13\xff\xff\xff\xff\xff\xff",
    ],
    ids=["nothing", "opcode", "half a program", "program", "answers not taken", "16 MiB"],
)
def test_a_client_that_vanishes(serve: Callable[..., Serving], last_words: bytes) -> None:
    serving = serve()
    client = connect(serving)
    client.sendall(last_words)
    if last_words:
        time.sleep(0.05)
    # An abortive close, as of a process that was killed with bytes unread.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    is_served(serving)


def test_a_program_that_was_cut_short_never_reaches_the_chip(
    serve: Callable[..., Serving],
) -> None:
    bus = die()
    serving = serve(bus)
    with connect(serving) as client:
        client.sendall(sp.spiop(b"\x06", 0) + sp.spiop(b"\x02\0\0\0" + bytes(256), 0)[:-1])
        assert receive(client, 1) == ACK
    is_served(serving)
    assert bus.die.content.count(0xFF) == 128 * KIB


def test_two_clients(serve: Callable[..., Serving]) -> None:
    serving = serve()
    first = open_programmer(Request(programmer=serving.url, environ={}))
    with pytest.raises(ProgrammerBusy) as caught:
        open_programmer(Request(programmer=serving.url, environ={}))
    assert caught.value.code == "programmer.serprog-busy"
    assert first.bus.execute([Transfer(b"\x9f", 3)]) == [ID]
    first.release()
    is_served(serving)
    assert serving.server.served.refused == 1
    assert any("turned away" in line for line in serving.heard.warnings)


@pytest.mark.slow
def test_a_client_that_stalls_is_let_go(serve: Callable[..., Serving]) -> None:
    serving = serve(stall=0.3)
    with connect(serving) as client:
        client.sendall(READ_ID[:-1])
        began = time.monotonic()
        assert receive(client, 1) == b""
        assert time.monotonic() - began > 0.25
    with connect(serving) as idle:  # one that says nothing at all may stay
        time.sleep(0.6)
        idle.sendall(READ_ID)
        assert receive(idle, 4) == ACK + ID


@pytest.mark.slow
def test_a_stalled_command_on_a_pty_is_dropped(serve: Callable[..., Serving]) -> None:
    serving = serve(pty=True)
    link = SerialLink(serving.node, 115200)
    link.write(sp.spiop(b"\x02\0\0\0" + bytes(256), 0)[:50])
    assert link.read(10, 5.0) == NAK
    link.write(READ_ID)
    answer = link.read(10, 5.0)
    while len(answer) < 4:
        answer += link.read(10, 5.0)
    assert answer == ACK + ID
    link.close()


@pytest.mark.slow
def test_the_client_gets_in_step_on_a_pty_that_was_left_in_the_middle(
    serve: Callable[..., Serving],
) -> None:
    serving = serve(pty=True)
    link = SerialLink(serving.node, 115200)
    link.write(sp.spiop(b"\x9f" + bytes(30), 3)[:20])
    bus = SerprogBus(link, frequency=30e6)
    assert bus.execute([Transfer(b"\x9f", 3)]) == [ID]
    bus.close()


def test_the_port_has_one_user(serve: Callable[..., Serving]) -> None:
    serving = serve(pty=True)
    link = SerialLink(serving.node, 115200)
    with pytest.raises(ProgrammerBusy) as caught:
        SerialLink(serving.node, 115200)
    assert caught.value.code == "programmer.busy"
    link.close()
    with pytest.raises(ProgrammerAbsent):
        SerialLink("/dev/no-such-node", 115200)


class Dying(DieBus):
    """A programmer whose cable is pulled."""

    def execute(self, ops: object, /) -> list[bytes]:
        raise ProgrammerLost("the cable was pulled")


def test_a_programmer_that_dies_ends_the_server() -> None:
    with Serving(Dying(small_chip())) as serving:
        with connect(serving) as client:
            client.sendall(b"\x10" + READ_ID)
            assert receive(client, 100) in (SYNC, b"")
        for _ in range(50):
            if serving.failure is not None:
                break
            time.sleep(0.02)
    assert isinstance(serving.failure, ProgrammerLost)


def test_a_server_that_goes_away_in_the_middle() -> None:
    serving = Serving(die())
    programmer = open_programmer(Request(programmer=serving.url, environ={}))
    serving.stop()
    with pytest.raises(ProgrammerError) as caught:
        programmer.bus.execute([Transfer(b"\x9f", 3)] * 3)
    assert caught.value.code == "programmer.serprog-closed"
    programmer.release()


def test_addresses_that_do_not_do() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentFault) as caught:
            listen("127.0.0.1", port)
        assert caught.value.code == "environment.port-in-use"
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(EnvironmentFault) as caught:
            listen(host, 0)
        assert caught.value.code == "environment.address"
    with pytest.raises(ProgrammerAbsent) as absent:
        TcpLink("127.0.0.1", port)
    assert absent.value.code == "programmer.serprog-unreachable"


def test_ipv6() -> None:
    try:
        listener = listen("::1", 0)
    except EnvironmentFault:
        pytest.skip("this computer has no IPv6")
    with listener:
        TcpLink("::1", listener.getsockname()[1]).close()


def test_nothing_stays_open(serve: Callable[..., Serving]) -> None:
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir()))
    for pty in (False, True):
        with Serving(die(), pty=pty) as serving:
            open_programmer(Request(programmer=serving.url, environ={})).release()
    assert len(list(folder.iterdir())) == before
