"""Consoles: escape sequences, patterns, bounded memory, logs, and real pseudo terminals."""

from __future__ import annotations

import os
import pty
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash import console as console_module
from hwflash.console import KEEP, KEEP_LINES, LONGEST_LINE, Console, TextFilter
from hwflash.console_port import SerialPort, open_port
from hwflash.errors import EnvironmentFault, Interrupted, ProgrammerAbsent, ProgrammerLost
from hwflash.progress import CancelToken

#: As AAVMF's Shell sends it on a terminal of 80 columns.
PROMPT_BYTES = b"\r\n\x1b[09;01H\x1b[1m\x1b[33m\x1b[40mShell> \x1b[0m\x1b[37m\x1b[40m"


class Script:
    """A port that has some pieces to say, then nothing, or is gone."""

    def __init__(self, *pieces: bytes, gone: bool = False) -> None:
        self.name = "script"
        self.pieces = list(pieces)
        self.gone = gone
        self.written = b""
        self.closed = 0

    def read(self, limit: int, seconds: float, /) -> bytes:
        if self.pieces:
            piece = self.pieces.pop(0)
            if len(piece) > limit:
                self.pieces.insert(0, piece[limit:])
            return piece[:limit]
        if self.gone:
            raise ProgrammerLost("the script is over", code="console.lost")
        time.sleep(min(seconds, 0.001))
        return b""

    def write(self, data: bytes, /) -> None:
        self.written += data

    def close(self) -> None:
        self.closed += 1


def test_escape_sequences_are_taken_out() -> None:
    text = TextFilter().feed(
        b"\x1b[2J\x1b[01;01H\x1b[=3hmap\x1b[0m: ok\x1b]0;title\x07!\x1b(B\x1b=\x00\x08\r\r\nend"
    )
    assert text == "map: ok!\nend"


def test_a_cleared_screen_begins_a_line_once() -> None:
    seen = TextFilter()
    assert seen.feed(b"one\x1b[2J\x1b[1;1H\x1b[2Jtwo\r\n\x1b[2Jthree") == "one\ntwo\nthree"
    assert seen.feed(b"\x1b[2J") == "\n"
    assert seen.feed(b"\x1b[2Jfour\x0c") == "four"


def test_what_is_incomplete_waits_for_the_rest() -> None:
    seen = TextFilter()
    assert seen.feed(b"Shell> \x1b[0") == "Shell> "
    assert seen.feed(b"m\r") == ""
    assert seen.feed(b"\n\xc3") == "\n"
    assert seen.feed(b"\xa4\r") == "ä"
    assert seen.feed(b"next") == "\nnext"


def test_an_escape_that_never_ends_is_text() -> None:
    seen = TextFilter()
    assert seen.feed(b"\x1b[" + b"1;" * 300) == "[" + "1;" * 300
    assert seen.feed(b"x") == "x"


@given(
    st.lists(
        st.sampled_from(
            [b"\x1b[1m", b"\x1b[2J", b"\x1b[01;01H", b"\x1b]0;t\x07", b"\r\n", b"\r", b"text",
             b"\x1b", b"[", b"\xc3\xa4", b"\xff", b"\x0c", b"> "]
        ),
        max_size=30,
    ),
    st.integers(1, 7),
)  # fmt: skip
def test_pieces_give_the_same_text_as_the_whole(parts: list[bytes], size: int) -> None:
    data = b"".join(parts) + b"."
    by_piece = TextFilter()
    pieces = "".join(by_piece.feed(data[i : i + size]) for i in range(0, len(data), size))
    assert pieces == TextFilter().feed(data)


def test_expect_takes_the_text_up_to_the_match() -> None:
    console = Console(Script(b"one two", b" three\r\nfo", b"ur"))
    found = console.expect([r"nothing", r"t(\w+)e"], 1)
    assert (found.index, found.match[1], found.before) == (1, "hre", "one two ")
    assert console.expect("^fou", 1).before == "\n"
    assert console.text == "r"


def test_the_first_match_in_the_text_wins() -> None:
    console = Console(Script(b"alpha beta"))
    assert console.expect(["beta", "alpha", "al"], 1).index == 1
    assert console.text == " beta"


def test_a_prompt_is_found_whatever_the_pieces() -> None:
    data = b"output" + PROMPT_BYTES
    for size in (1, 2, 3, 5, 100):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        found = Console(Script(*pieces)).expect(re.compile(r"\nShell> \Z"), 5)
        assert found.before == "output"


def test_silence_ends_in_an_error_with_the_text() -> None:
    console = Console(Script(b"booting\r\nstuck"))
    with pytest.raises(EnvironmentFault, match=r"'Shell' or 'login'") as caught:
        console.expect(["Shell", "login"], 0.05)
    assert caught.value.code == "console.timeout"
    assert caught.value.context["text"] == "booting\nstuck"
    assert console.expect("stuck", 0).before == "booting\n"


def test_patience_is_counted_by_the_clock_that_is_given() -> None:
    ticks = iter(range(1000))
    console = Console(Script())
    started = time.monotonic()
    with pytest.raises(EnvironmentFault):
        console.expect("never", 50, clock=lambda: float(next(ticks)))
    assert time.monotonic() - started < 5
    assert next(ticks) == 51


class Garbage(Script):
    """A port that never stops talking."""

    def __init__(self, piece: bytes) -> None:
        super().__init__()
        self.piece = piece

    def read(self, limit: int, seconds: float, /) -> bytes:
        return self.piece[:limit]


@pytest.mark.parametrize(
    "piece", [b"\xff\x00\x1b[", b"x" * 4096, b"line\n" * 800, b"\x1b]" + b"y" * 4000]
)
def test_endless_garbage_is_bounded_in_time_and_memory(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "KEEP", 1 << 16)
    console = Console(Garbage(piece))
    with pytest.raises(EnvironmentFault):
        console.expect("never comes", 0.3)
    assert len(console.text) <= 1 << 16 < KEEP
    assert len(console.lines) <= KEEP_LINES
    assert all(len(line.text) <= LONGEST_LINE + 4096 for line in console.lines)
    if len(piece) == 4096:
        assert console.dropped == console.received - (1 << 16) > 0


def test_a_stop_request_ends_a_wait() -> None:
    cancel = CancelToken()
    threading.Timer(0.05, cancel.cancel).start()
    with pytest.raises(Interrupted):
        Console(Script(), cancel=cancel).expect("never", 30)


def test_what_came_before_the_port_went_is_kept() -> None:
    console = Console(Script(b"last words", gone=True))
    with pytest.raises(ProgrammerLost):
        console.expect("never", 5)
    assert console.text == "last words"


def test_lines_have_their_time_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    console = Console(Script(b"one\r\ntw", b"o\r\n\r\nlast"), log)
    console.expect("last", 1)
    console.send("reset\r")
    console.close()
    console.close()
    assert [line.text for line in console.lines] == ["one", "two", ""]
    assert re.fullmatch(
        r"\[ +0\.\d{3}\] one\n\[ +0\.\d{3}\] two\n\[ +0\.\d{3}\] \n\[ +0\.\d{3}\] last\n",
        log.read_text(),
    )
    assert isinstance(console.port, Script)
    assert console.port.written == b"reset\r"


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        Console(Script(), tmp_path / "no" / "console.log")
    assert caught.value.code == "console.log"
    full = Console(Script(b"text\n"), Path("/dev/full"))
    with pytest.raises(EnvironmentFault, match="/dev/full cannot be written"):
        full.expect("text", 1)
    full.close()


def test_settle_takes_everything_until_it_is_quiet() -> None:
    console = Console(Script(b"a", b"b", b"c"))
    assert console.settle(0.02, 5) == "abc"
    assert console.text == ""


# --- ports ----------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """The master's descriptor and the name of a pseudo terminal."""
    master, slave = pty.openpty()
    yield master, os.ttyname(slave)
    for descriptor in (master, slave):
        try:
            os.close(descriptor)
        except OSError:
            assert descriptor == master, "the test itself closes only the master"


def test_a_pseudo_terminal_is_a_port(terminal: tuple[int, str]) -> None:
    master, name = terminal
    console = Console(open_port(name, 115_200))
    os.write(master, b"U-Boot\r\n=> ")
    assert console.expect(r"^=> \Z", 5).before == "U-Boot\n"
    console.send("boot\r")
    assert os.read(master, 100) == b"boot\r"
    console.close()
    console.close()


def test_a_pseudo_terminal_that_goes_away_is_lost(terminal: tuple[int, str]) -> None:
    master, name = terminal
    port = SerialPort(name)
    os.close(master)
    with pytest.raises(ProgrammerLost) as caught:
        port.read(100, 5)
    assert caught.value.code == "console.lost"
    port.close()


def test_a_socket_is_a_port_and_answers_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = open_port(f"socket://127.0.0.1:{server.getsockname()[1]}")
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"x")
            started = time.monotonic()
            assert port.read(4096, 10) == b"x"
            assert time.monotonic() - started < 5
            assert port.read(4096, 0.01) == b""
            port.write(b"hello")
            assert peer.recv(100) == b"hello"
        with pytest.raises(ProgrammerLost):
            port.read(4096, 10)
        port.close()


def test_ports_that_do_not_exist_are_absent() -> None:
    with pytest.raises(ProgrammerAbsent) as caught:
        open_port("/dev/does-not-exist")
    assert caught.value.code == "console.absent"
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with pytest.raises(ProgrammerAbsent):
        open_port(f"socket://127.0.0.1:{free}")
    with pytest.raises(ProgrammerAbsent):
        open_port("nonsense://here")
