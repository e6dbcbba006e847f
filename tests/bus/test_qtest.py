"""The qtest client against a peer that is not QEMU, and the life of the process."""

from __future__ import annotations

import base64
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwflash.bus import qemu_spi, qtest
from hwflash.bus.qemu_spi import QemuSpiBus, SckClock
from hwflash.bus.qtest import QemuProcess, QtestClient, abilities, find_program
from hwflash.bus.spi import Transfer, Wait
from hwflash.bus.url import parse_url
from hwflash.errors import (
    EnvironmentFault,
    ImageError,
    ProgrammerError,
    ProgrammerLost,
    UsageError,
)

Serve = Callable[[Callable[[bytes], bytes | None]], QtestClient]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A client whose peer answers each line by a function; None hangs up."""
    made: list[tuple[QtestClient, socket.socket, threading.Thread]] = []

    def make(answer: Callable[[bytes], bytes | None]) -> QtestClient:
        ours, theirs = socket.socketpair()

        def run() -> None:
            with theirs, theirs.makefile("rb") as lines:
                for line in lines:
                    said = answer(line.rstrip(b"\n"))
                    if said is None:
                        return
                    theirs.sendall(said)

        thread = threading.Thread(target=run)
        thread.start()
        client = QtestClient(ours, "the peer", silence=0.5)
        made.append((client, theirs, thread))
        return client

    yield make
    for client, _, thread in made:
        client.close()
        thread.join(5)
        assert not thread.is_alive()


def test_answers_come_in_order(serve: Serve) -> None:
    client = serve(lambda line: b"OK 0x" + line[-2:] + b"\n")
    commands = [b"readl %02d" % number for number in range(100)]
    assert client.execute(commands) == [b"0x%02d" % number for number in range(100)]
    assert client.bursts == 2
    assert client.sent == sum(len(command) + 1 for command in commands)
    assert client.received == 100 * len(b"OK 0x00\n")


def test_nothing_is_sent_for_nothing(serve: Serve) -> None:
    client = serve(lambda _: None)
    assert client.execute([]) == []
    assert client.bursts == 0


def test_no_more_than_a_burst_is_under_way(serve: Serve) -> None:
    """A peer that reads a whole burst before it answers gets it, and not a line more."""
    waiting: list[bytes] = []

    def answer(line: bytes) -> bytes:
        waiting.append(line)
        if len(waiting) < qtest.BURST_COMMANDS:
            return b""
        said = b"OK\n" * len(waiting)
        waiting.clear()
        return said

    assert serve(answer).execute([b"x"] * (3 * qtest.BURST_COMMANDS)) == [b""] * 192


def test_long_commands_go_alone(serve: Serve) -> None:
    client = serve(lambda _: b"OK\n")
    client.execute([b"a" * qtest.BURST_BYTES] * 3 + [b"b", b"c"])
    assert client.bursts == 4


def test_interrupts_are_passed_over(serve: Serve) -> None:
    client = serve(lambda _: b"IRQ raise 3\nOK 0x1\r\nIRQ lower 3\n")
    assert client.execute([b"a", b"b"]) == [b"0x1", b"0x1"]


def test_long_answers_come_in_pieces(serve: Serve) -> None:
    data = base64.b64encode(os.urandom(600_000))
    assert serve(lambda _: b"OK " + data + b"\n").execute([b"b64read"] * 2) == [data, data]


@pytest.mark.parametrize("answer", [b"FAIL Unknown command 'x'\n", b"ERR\n", b"\n", b"what?\n"])
def test_refusals(serve: Serve, answer: bytes) -> None:
    client = serve(lambda _: answer)
    with pytest.raises(ProgrammerError) as caught:
        client.execute([b"x"])
    assert caught.value.code == "programmer.qtest"
    assert client.broken


def test_peer_that_hangs_up(serve: Serve) -> None:
    client = serve(lambda line: None if line == b"4" else b"OK\n")
    with pytest.raises(ProgrammerLost) as caught:
        client.execute([b"%d" % number for number in range(10)])
    assert caught.value.code == "programmer.qemu-lost"
    with pytest.raises(ProgrammerLost):  # and it stays lost
        client.execute([b"1"])


def test_silent_peer(serve: Serve) -> None:
    client = serve(lambda _: b"OK")  # no line end
    with pytest.raises(ProgrammerLost) as caught:
        client.execute([b"1"])
    assert caught.value.code == "programmer.qemu-timeout"
    assert caught.value.context["seconds"] == 0.5


# --- processes -------------------------------------------------------------------------------


def children() -> set[int]:
    """Processes whose parent is this one, the dead that were not waited for included."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            if int(text.rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(entry.name))
    return found


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = children(), descriptors()
    yield
    assert (children(), descriptors()) == before
    assert list(scratch.iterdir()) == []


FAKE = """#!{python}
import os, signal, socket, sys, time
if "-qmp" in sys.argv:
    sys.stdout.write({qmp!r})
    sys.exit()
name = sys.argv[sys.argv.index("-chardev") + 1]
wire = socket.socket(fileno=int(name.rpartition("fd=")[2]))
lines = wire.makefile("rb")
def answer(text=b"OK 0x0"):
    line = lines.readline()
    wire.sendall(text + b"\\n")
    return line
{body}
"""
QMP = (
    '{"QMP": {"version": {"qemu": {"major": 9, "minor": 1, "micro": 2}}}}\n'
    '{"return": {}}\n{"event": "X"}\n{"return": [{"name": "w25q64"}, {"name": "w25q256"}]}\n'
    '{"return": [{"name": "fmc-model"}, {"name": "type"}]}\n{"return": {}}\n'
)


@pytest.fixture
def fake(tmp_path: Path) -> Callable[..., str]:
    """Makes a program that is started like QEMU."""

    def make(body: str = "", qmp: str = QMP) -> str:
        path = tmp_path / "bin" / f"qemu-{len(list(tmp_path.iterdir()))}-{abs(hash(body + qmp))}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(FAKE.format(python=sys.executable, body=body, qmp=qmp))
        path.chmod(0o755)
        return str(path)

    return make


FOREVER = "while answer(): pass"


def test_a_process_is_ended(fake: Callable[..., str]) -> None:
    process = QemuProcess(fake(f"signal.signal(15, lambda *_: os._exit(0))\n{FOREVER}"), [])
    assert process.pid in children()
    assert process.execute([b"readl 0"]) == [b"0x0"]
    process.close()
    process.close()


def test_ctrl_c_does_not_reach_it(fake: Callable[..., str]) -> None:
    process = QemuProcess(fake(f"signal.signal(15, lambda *_: os._exit(0))\n{FOREVER}"), [])
    try:
        assert os.getpgid(process.pid) == process.pid
    finally:
        process.close()


def test_it_dies_in_the_middle(fake: Callable[..., str]) -> None:
    process = QemuProcess(
        fake("answer(); answer()\nprint('disk on fire', file=sys.stderr)\nsys.exit(3)"), []
    )
    with pytest.raises(ProgrammerLost) as caught:
        process.execute([b"a", b"b", b"c"])
    assert caught.value.code == "programmer.qemu-lost"
    assert caught.value.context["status"] == 3
    assert caught.value.context["output"] == "disk on fire"
    process.close()


def test_it_does_not_start(fake: Callable[..., str]) -> None:
    said = "x: warning: no peer\nx: no such disk\nx: warning: y"
    body = f"print({said!r}, file=sys.stderr)\nsys.exit(1)"
    with pytest.raises(ProgrammerError) as caught:
        QemuProcess(fake(body), [])
    assert caught.value.code == "programmer.qemu-start"
    assert caught.value.context["output"] == "x: no such disk"


def test_it_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        find_program("qemu-system-nonesuch")
    assert caught.value.code == "environment.qemu-missing"
    assert caught.value.context["program"] == "qemu-system-nonesuch"


def test_it_hangs_and_ignores_sigterm(
    fake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qtest, "_LAST_WORDS_SECONDS", 0.2)
    body = "signal.signal(15, signal.SIG_IGN)\nanswer()\ntime.sleep(60)"
    process = QemuProcess(fake(body), [], silence=2.0)
    process.qtest._socket.settimeout(0.2)
    with pytest.raises(ProgrammerLost) as caught:
        process.execute([b"a"])
    assert caught.value.code == "programmer.qemu-timeout"
    process.close()


def test_an_image_that_may_be_incomplete_is_told_of(fake: Callable[..., str]) -> None:
    process = QemuProcess(fake(FOREVER), [])  # SIGTERM kills it: nothing is written back
    with pytest.raises(ProgrammerLost, match="incomplete") as caught:
        process.close()
    assert caught.value.context["status"] == -15


def test_abilities(fake: Callable[..., str]) -> None:
    found = abilities(fake(), "ast2500-evb")
    assert found.version == "9.1.2"
    assert found.flash_models == {"w25q64", "w25q256"}
    assert found.machine_properties == {"fmc-model", "type"}


@pytest.mark.parametrize(
    "qmp",
    ["", "hello\n", "[]\n", '{"QMP": {}}\n', QMP.splitlines(keepends=True)[0]],
    ids=["silent", "talks", "list", "no-version", "greets-only"],
)
def test_not_qemu(fake: Callable[..., str], qmp: str) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        abilities(fake(qmp=qmp), "ast2500-evb")
    assert caught.value.code == "environment.qemu-version"


@pytest.mark.parametrize(
    "change", [('"fmc-model"', '"kernel"'), ('{"name": "w25q64"}, {"name": "w25q256"}', "")]
)
def test_qemu_without_machine_or_chips(fake: Callable[..., str], change: tuple[str, str]) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        QemuSpiBus("w25q64", program=fake(qmp=QMP.replace(*change)))
    assert caught.value.code == "environment.qemu-version"
    assert caught.value.context["version"] == "9.1.2"


def test_unknown_model(fake: Callable[..., str]) -> None:
    with pytest.raises(UsageError) as caught:
        QemuSpiBus("W25Q128", program=fake())
    assert caught.value.code == "usage.qemu-model"
    assert caught.value.context["known"] == ["w25q256", "w25q64"]
    assert "w25q256" in caught.value.context["near"]


# --- the bus ---------------------------------------------------------------------------------

#: Answers like the controller: every byte read is 5Ah. Leaves its lines in $TRACE.
CONTROLLER = """
import base64
signal.signal(15, lambda *_: os._exit(0))
trace = open(os.environ["TRACE"], "w")
for line in lines:
    word, *rest = line.decode().split()
    print(line.decode().strip(), file=trace, flush=True)
    if word == "b64read":
        said = " " + base64.b64encode(b"Z" * int(rest[1], 16)).decode()
    else:
        said = " 0xa" if word == "readl" else ""
    wire.sendall(f"OK{said}\\n".encode())
"""


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    path = tmp_path / "trace"
    monkeypatch.setenv("TRACE", str(path))
    return lambda: path.read_text().splitlines()


SELECT, DESELECT = "writel 0x1e620010 0x3", "writel 0x1e620010 0x7"


def test_what_the_bus_sends(fake: Callable[..., str], trace: Callable[[], list[str]]) -> None:
    bus = QemuSpiBus("w25q64", program=fake(CONTROLLER), frequency=8e6)
    assert trace() == [
        "endianness", "readl 0x1e620000", "writel 0x1e620000 0x1000a", DESELECT,
    ]  # fmt: skip
    answers = bus.execute([Transfer(b"\x9f", 3), Wait(0.25), Transfer(b"\x06")])
    assert answers == [b"ZZZ", b"", b""]
    assert trace()[4:] == [
        SELECT, "b64write 0x20000000 0x1 nw==", "b64read 0x20000000 0x3", DESELECT,
        SELECT, "b64write 0x20000000 0x1 Bg==", DESELECT,
    ]  # fmt: skip
    assert bus.clock.now() == pytest.approx(5 * 8 / 8e6 + 0.25)
    assert bus.stats.sck_bytes == 5
    assert bus.stats.usb_out == bus.stats.usb_in == 4
    bus.close()
    bus.close()


def test_width_of_fast_reads(fake: Callable[..., str], trace: Callable[[], list[str]]) -> None:
    """The controller must know how many address bytes stand before the dummy byte."""
    bus = QemuSpiBus("w25q64", program=fake(CONTROLLER))
    narrow, wide = Transfer(b"\x0b\1\2\3\0", 1), Transfer(b"\x0c\1\2\3\4\0", 1)
    bus.execute([narrow, wide, wide, narrow])
    told = [line for line in trace() if "0x1e620004" in line]
    assert told == ["writel 0x1e620004 0x1", "writel 0x1e620004 0x0"]
    single = [line.split()[2] for line in trace() if line.startswith("writeb")]
    assert single[:5] == ["0xb", "0x1", "0x2", "0x3", "0x0"]
    assert not any("b64write" in line for line in trace())
    bus.close()


def test_long_transfers_stay_one_window(
    fake: Callable[..., str], trace: Callable[[], list[str]]
) -> None:
    bus = QemuSpiBus("w25q64", program=fake(CONTROLLER))
    start = len(trace())
    length = 3 * (1 << 18) + 5
    assert bus.execute([Transfer(bytes(length), length)]) == [b"Z" * length]
    words = [line.split()[0] for line in trace()[start:]]
    assert words == ["writel", *["b64write"] * 4, *["b64read"] * 4, "writel"]
    bus.close()


def test_clock_and_frequency(fake: Callable[..., str], trace: Callable[[], list[str]]) -> None:
    clock = SckClock()
    clock.sleep(-1)
    clock.sleep(2)
    assert clock.now() == 2
    bus = QemuSpiBus("w25q64", program=fake(CONTROLLER))
    bus.set_frequency(1e6)
    assert bus.frequency == 1e6
    with pytest.raises(UsageError):
        bus.set_frequency(0)
    bus.close()


# --- images ----------------------------------------------------------------------------------


def test_image_that_cannot_be_used(
    fake: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for image in (tmp_path, tmp_path / "no" / "such" / "folder.bin", Path("/dev/null")):
        with pytest.raises(EnvironmentFault) as caught:
            QemuSpiBus("w25q64", image, program=fake())
        assert caught.value.code == "qemu.image-unusable"
    program = fake()
    plain = os.access
    monkeypatch.setattr(
        qemu_spi.os, "access", lambda path, mode, **_: not mode & os.W_OK and plain(path, mode)
    )
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        QemuSpiBus("w25q64", tmp_path / "chip.bin", program=program)


def test_size_that_cannot_be_told(
    fake: Callable[..., str], trace: Callable[[], list[str]], tmp_path: Path
) -> None:
    """The peer answers 5Ah everywhere: address 0 never shows up again."""
    with pytest.raises(ImageError) as caught:
        QemuSpiBus("w25q64", tmp_path / "chip.bin", program=fake(CONTROLLER))
    assert caught.value.code == "qemu.image-size"
    assert not (tmp_path / "chip.bin").exists()


def test_full_disk(fake: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        qemu_spi._make(Path("/dev/full/chip.bin"), 4096)
    assert caught.value.code == "qemu.image-unusable"


# --- URLs ------------------------------------------------------------------------------------


def test_url() -> None:
    url = parse_url("qemu://w25q256?image=a/b.bin&frequency=10M")
    assert (url.scheme, url.target) == ("qemu", "w25q256")
    assert url.options == {"image": "a/b.bin", "frequency": "10M"}
    assert url.lasting == url.text


@pytest.mark.parametrize(
    ("text", "code"),
    [("qemu://", "usage.url"), ("qemu://w25q64?seed=1", "usage.url-option")],
)
def test_bad_urls(text: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_url(text)
    assert caught.value.code == code
