"""Consoles of real boards, watched; and the boot check on a board without QEMU."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import serial
import serial.rfc2217
from fake_board import OVMF_2M, PART, SOUND, FakeBoard, store_volume, variable

from hwflash.boards import Console as ConsoleTable
from hwflash.errors import (
    ChipStateUnknown,
    EnvironmentFault,
    HwflashError,
    Interrupted,
    ProgrammerAbsent,
    ProgrammerBusy,
    ProgrammerLost,
    UsageError,
)
from hwflash.jobs.boot_check import BootOptions, check_boot
from hwflash.jobs.history import open_history
from hwflash.jobs.prepare import WriteOptions
from hwflash.jobs.rig import Rig, open_console
from hwflash.jobs.watch import check_patterns, watch
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, NullReporter

QUIET, GO = NullReporter(), CancelToken()

#: What a healthy fake board says; Linux echoes nothing back on a raw pty.
SPEAKS = """
def on():
    port = os.open(PORT, os.O_WRONLY | os.O_NOCTTY)
"""


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeBoard]:
    board = FakeBoard(tmp_path)
    yield board
    board.close()


# --- watching -----------------------------------------------------------------------------


def test_every_pattern_must_come_in_any_order(fake: FakeBoard, tmp_path: Path) -> None:
    heard: list[str] = []
    with closing(open_console(fake.board, tmp_path / "log")) as console:
        fake.say("starting\r\nready 2\r\nmemory ok\r\nlogin: ")
        found = watch(console, ["memory", r"ready \d", "login: $"], 5, on_line=heard.append)
    assert [item.pattern for item in found.heard] == [r"ready \d", "memory", "login: $"]
    assert [item.line for item in found.heard] == ["ready 2", "memory ok", "login: "]
    assert found.missing == ()
    assert heard == ["starting", "ready 2", "memory ok", "login: "]
    assert [line[13:] for line in (tmp_path / "log").read_text().splitlines()] == heard


def test_a_pattern_across_pieces_of_a_line(fake: FakeBoard) -> None:
    with closing(open_console(fake.board)) as console:
        threading.Timer(0.05, fake.say, ["dy\r\n"]).start()
        fake.say("rea")
        assert watch(console, ["^ready$"], 5).heard[0].line == "ready"


def test_what_does_not_come_leaves_the_last_lines(fake: FakeBoard) -> None:
    with closing(open_console(fake.board)) as console:
        fake.say("".join(f"line {number}\r\n" for number in range(50)))
        found = watch(console, ["line 7$", "panic"], 0.3)
    assert found.missing == ("panic",)
    assert found.tail[-1] == "line 49"
    assert (len(found.tail), found.lines) == (20, 50)


def test_a_silent_console(fake: FakeBoard) -> None:
    with closing(open_console(fake.board)) as console:
        found = watch(console, ["x"], 0.05)
    assert (found.lines, found.tail, found.bytes) == (0, (), 0)


def test_a_console_that_is_lost_in_the_middle(fake: FakeBoard) -> None:
    with closing(open_console(fake.board)) as console:
        fake.say("one\r\ntwo")
        threading.Timer(0.1, os.close, [fake.master]).start()
        with pytest.raises(ProgrammerLost) as caught:
            watch(console, ["three"], 5)
    assert caught.value.code == "console.lost"
    assert caught.value.context["tail"] == ["one", "two"]


def test_a_request_to_stop_ends_the_watch(fake: FakeBoard) -> None:
    cancel = CancelToken()
    with closing(open_console(fake.board, cancel=cancel)) as console:
        threading.Timer(0.05, cancel.cancel).start()
        with pytest.raises(Interrupted):
            watch(console, ["x"], None)


def test_what_is_no_pattern() -> None:
    with pytest.raises(UsageError) as caught:
        check_patterns(["ok", "("])
    assert caught.value.code == "usage.pattern"


def test_a_board_without_console(fake: FakeBoard) -> None:
    with pytest.raises(UsageError) as caught:
        open_console(fake.board.model_copy(update={"console": None}))
    assert caught.value.code == "console.none"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:set:DeprecationWarning")  # pyserial 3.5's own
def test_a_console_over_rfc2217() -> None:
    """pyserial's own server of the protocol, with its loop port behind it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        server = threading.Thread(target=_serve_rfc2217, args=[listener], daemon=True)
        server.start()
        board = FakeConsole(f"rfc2217://127.0.0.1:{listener.getsockname()[1]}")
        with closing(open_console(board)) as console:  # type: ignore[arg-type]
            console.send("hello\n")
            assert watch(console, ["^you said hello$"], 10).missing == ()
    server.join(5)


class FakeConsole:
    name = "remote"

    def __init__(self, port: str) -> None:
        self.console = ConsoleTable(port=port, baud=57_600)


class _Wire:
    """A socket as pyserial's PortManager writes to it."""

    def __init__(self, link: socket.socket) -> None:
        self.write = link.sendall


def _serve_rfc2217(listener: socket.socket) -> None:
    link, _ = listener.accept()
    port: Any = serial.serial_for_url("loop://", timeout=0)
    manager: Any = serial.rfc2217.PortManager(port, _Wire(link))
    with link, suppress(OSError):
        while data := link.recv(1024):
            text = b"".join(manager.filter(data))
            if text:
                assert port.baudrate == 57_600, "the rate went through the protocol"
                link.sendall(b"".join(manager.escape(b"you said " + text)))


# --- the rig ------------------------------------------------------------------------------


def test_the_console_is_open_before_the_board_is_on(tmp_path: Path) -> None:
    fake = FakeBoard(
        tmp_path, SPEAKS + "    os.write(port, b'first byte\\r\\n')\n    os.close(port)\n"
    )
    # What is written to the slave comes out of the master: the test is the UART in between.
    with Rig(fake.request(), QUIET, GO) as rig:
        with pytest.raises(UsageError) as caught:
            _ = rig.console
        assert caught.value.code == "power.is-off"
        rig.on()
        fake.say(os.read(fake.master, 100).decode())
        assert watch(rig.console, ["first byte"], 5).missing == ()
        with pytest.raises(ProgrammerBusy) as busy:
            rig.session()
        assert busy.value.code == "power.board-on"
        rig.off()
        rig.session().close()
    fake.close()


def test_a_console_that_comes_with_the_supply(tmp_path: Path) -> None:
    """The UART bridge is on the board: its port is there while the board is."""
    node = tmp_path / "ttyBoard"
    fake = FakeBoard(tmp_path, f"def on():\n    os.symlink(PORT, {str(node)!r})\n")
    fake.file.write_text(fake.file.read_text().replace(f'port = "{fake.port}"', f'port = "{node}"'))
    with Rig(fake.request(), QUIET, GO) as rig:
        rig.on()
        fake.say("here\r\n")
        assert watch(rig.console, ["here"], 5).missing == ()
    assert fake.switched == ["on", "off"]
    fake.close()


def test_a_console_that_never_appears_leaves_the_board_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwflash.jobs.rig.APPEAR_SECONDS", 0.2)
    fake = FakeBoard(tmp_path)
    fake.file.write_text(fake.file.read_text().replace(fake.port, "/dev/no-such-port"))
    with pytest.raises(ProgrammerAbsent), Rig(fake.request(), QUIET, GO) as rig:
        rig.on()
    assert fake.switched == ["on", "off"]
    fake.close()


# --- the boot check -----------------------------------------------------------------------


def _boots(fake: FakeBoard, text: str = "Welcome\r\n", **options: Any) -> Any:
    """Check a boot of a board that says ``text`` once it is on."""

    def speak() -> None:
        limit = time.monotonic() + 20
        while "on" not in fake.switched and time.monotonic() < limit:
            time.sleep(0.01)
        fake.say(text)

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    targets = options.pop("targets", [])
    told = BootOptions(until=("Welcome",), timeout=options.pop("timeout", 10), **options)
    with Rig(fake.request(), QUIET, GO) as rig:
        result = check_boot(rig, targets, told, QUIET, GO)
        assert rig.power.state == "off"
    speaker.join()
    return result


def test_a_boot_that_sets_a_variable(tmp_path: Path) -> None:
    after = store_volume(variable("Setting0", b"zero"), variable("BootCount", b"\x01"))
    (tmp_path / "after").write_bytes(after)
    fake = FakeBoard(
        tmp_path,
        f"def on():\n    with open(CHIP, 'r+b') as chip:\n"
        f"        chip.write(open({str(tmp_path / 'after')!r}, 'rb').read())\n",
    )
    result = _boots(fake, state=tmp_path / "state")
    assert result.ok
    assert [item.name for item in result.variables.only_left] == ["Setting1"]
    assert [item.name for item in result.variables.only_right] == ["BootCount"]
    assert result.elsewhere == ()
    assert fake.switched == ["off", "on", "off"], "it is off before anything is driven"
    with open_history(tmp_path / "state", create=False) as history:
        entry = history.entries()[-1]
    assert (entry.kind, entry.outcome) == ("boot", "ok")
    assert {item["name"] for item in entry.details["variables"]} == {"BootCount", "Setting1"}
    fake.close()


def test_a_boot_that_changes_code_is_found(tmp_path: Path) -> None:
    at = OVMF_2M.length + 0x1234
    fake = FakeBoard(
        tmp_path,
        f"def on():\n    with open(CHIP, 'r+b') as chip:\n"
        f"        chip.seek({at})\n        chip.write(b'!')\n",
    )
    result = _boots(fake)
    assert result.booted
    assert not result.ok
    assert [(item.address, item.length) for item in result.elsewhere] == [(at, 1)]
    fake.close()


def test_an_image_is_written_before(fake: FakeBoard, tmp_path: Path) -> None:
    new = store_volume(variable("New", b"value"))
    how = WriteOptions(tmp_path / "state", kind="boot")
    result = _boots(fake, targets=lambda session: [Segment(session.chip.size * 0, new)], write=how)
    assert result.ok
    assert result.written is not None
    assert result.written.executed
    assert fake.chip.read_bytes()[: len(new)] == new
    assert result.variables.equal


@pytest.mark.slow
def test_a_marker_that_never_comes(fake: FakeBoard) -> None:
    result = _boots(fake, "kernel panic\r\n", timeout=0.5)
    assert not result.booted
    assert result.watched.missing == ("Welcome",)
    assert result.watched.tail == ("kernel panic",)
    assert fake.switched[-1] == "off"
    assert fake.chip.read_bytes().startswith(SOUND)


def test_a_console_that_is_lost_is_a_result_and_the_chip_is_read(fake: FakeBoard) -> None:
    def pull() -> None:
        while "on" not in fake.switched:
            time.sleep(0.01)
        time.sleep(0.2)
        os.close(fake.master)

    puller = threading.Thread(target=pull)
    puller.start()
    result = _boots(fake, "half a line")
    puller.join()
    assert not result.ok
    assert "is gone" in result.lost
    assert result.store is not None


def test_nothing_says_what_a_healthy_board_prints(fake: FakeBoard) -> None:
    with pytest.raises(UsageError) as caught, Rig(fake.request(), QUIET, GO) as rig:
        check_boot(rig, [], BootOptions(), QUIET, GO)
    assert caught.value.code == "boot.no-marker"
    assert fake.switched == []


def test_a_command_that_fails_in_the_middle_leaves_the_board_off(tmp_path: Path) -> None:
    fake = FakeBoard(tmp_path, "def on():\n    sys.exit(4)\n")
    with pytest.raises(EnvironmentFault) as caught, Rig(fake.request(), QUIET, GO) as rig:
        check_boot(rig, [], BootOptions(until=("x",)), QUIET, GO)
    assert caught.value.context["exit_code"] == 4
    assert fake.switched == ["off", "on", "off"]
    fake.close()


def test_another_chip_than_the_board_s(tmp_path: Path) -> None:
    fake = FakeBoard(tmp_path)
    fake.file.write_text(fake.file.read_text().replace(PART, "w25q80"))
    with pytest.raises(HwflashError), Rig(fake.request(), QUIET, GO) as rig:
        check_boot(rig, [], BootOptions(until=("x",)), QUIET, GO)
    assert "on" not in fake.switched
    fake.close()


def test_a_failure_behind_the_write_says_that_it_was_written(
    fake: FakeBoard, tmp_path: Path
) -> None:
    cancel = CancelToken()
    new = [Segment(0, store_volume())]
    how = WriteOptions(tmp_path / "state", kind="boot")
    told = BootOptions(until=("x",), write=how, on_line=lambda _: cancel.cancel())
    with (
        fake.saying("hello\r\n"),
        pytest.raises(ChipStateUnknown) as caught,
        Rig(fake.request(), QUIET, cancel) as rig,
    ):
        check_boot(rig, new, told, QUIET, cancel)
    assert "was written and verified" in str(caught.value.context["chip_state"])
    assert caught.value.context["cause"] == "interrupted"
    assert caught.value.context["backup"]
    assert fake.switched[-1] == "off"
