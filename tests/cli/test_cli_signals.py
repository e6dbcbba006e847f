"""Ctrl-C, SIGTERM, pipes that close, two processes, a real terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Bench
from support import mostly_slow, pattern

from hwflash.cli.output import Console
from hwflash.progress import Progress

HWFLASH = [sys.executable, "-c", "from hwflash.cli.main import main; main()"]


def stop_at(
    monkeypatch: pytest.MonkeyPatch, phase: str, number: signal.Signals = signal.SIGINT
) -> None:
    """Have a real signal come in the middle of a phase."""
    seen = Console.progress

    def progress(self: Console, event: Progress) -> None:
        seen(self, event)
        if event.phase == phase:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Console, "progress", progress)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("phase", ["read", "backup"])
def test_stopped_before_anything_was_changed(
    small: Bench, monkeypatch: pytest.MonkeyPatch, phase: str, number: signal.Signals
) -> None:
    old = small.fill(1)
    image = small.file("x.bin", pattern(small.size, 2))
    stop_at(monkeypatch, phase, number)
    answer = small.chip("write", image, "-y")
    assert answer.code == 130
    assert f"{number.name}: stopping after this block" in answer.err
    assert "[interrupted]" in answer.err
    assert "  chip: nothing was changed\n" in answer.err
    assert small.content == old
    assert not list((small.state / "jobs").glob("*"))
    answer = small.chip("write", image, "-y", "--json")
    assert answer.error["code"] == "interrupted"
    # The handlers of the one who called are back.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", mostly_slow(1, [signal.SIGINT, signal.SIGTERM]))
@pytest.mark.parametrize("phase", ["erase", "program", "verify"])
def test_stopped_after_something_was_changed(
    small: Bench, monkeypatch: pytest.MonkeyPatch, phase: str, number: signal.Signals
) -> None:
    old = small.fill(1)
    new = pattern(small.size, 2)
    if phase == "verify":  # two places far apart, or all is over when the first was read
        new = new[:5000] + old[5000:200_000] + new[200_000:205_000] + old[205_000:]
    image = small.file("x.bin", new)
    with monkeypatch.context() as patch:
        stop_at(patch, phase, number)
        answer = small.chip("write", image, "-y")
    assert answer.code == 6
    assert "  chip: the chip is in an unknown state\n" in answer.err
    assert small.run(*answer.printed("resume"), typed="y\n").code == 0
    assert small.content == new
    assert small.run(*answer.printed("restore"), typed="y\n").code == 0
    assert small.content == old


@pytest.mark.parametrize("command", ["read", "verify"])
def test_stopped_while_reading(small: Bench, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    small.fill(1)
    whole = small.file("x.bin", small.content)
    stop_at(monkeypatch, "read")
    answer = small.chip("read", "out.bin", "--repeat", "2")
    assert answer.code == 130
    assert not Path("out.bin").exists()
    monkeypatch.undo()
    assert small.chip(command, whole).code == 0


# --- real processes -----------------------------------------------------------------------


@contextmanager
def terminal(bench: Bench, *words: object, **environ: str) -> Iterator[tuple[int, int]]:
    """A process on a terminal of its own: its pid, and the terminal."""
    pid, master = pty.fork()
    if pid == 0:  # pragma: no cover - another process
        os.environ.update(environ)
        os.execv(sys.executable, [*HWFLASH, *map(str, words)])  # noqa: S606
    try:
        yield pid, master
    finally:
        os.close(master)
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def until(master: int, text: bytes = b"", seconds: float = 20.0) -> bytes:
    """What a terminal shows until some text comes, or until the process ends."""
    shown = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(master, 65536)
        except OSError:  # EIO: the process has ended
            return shown
        shown += piece
        if text and text in shown:
            return shown
    raise AssertionError(f"{text!r} did not come: {shown!r}")


def code_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ask_on_terminal(bench: Bench) -> list[object]:
    bench.fill(1)
    image = bench.file("x.bin", pattern(bench.size, 2))
    return ["write", image, "-p", bench.url()]


@pytest.mark.slow
@pytest.mark.parametrize("key", mostly_slow(2, [b"\x03", b"y\n", b"\x04", b"n\n", b""]))
def test_the_question_on_a_terminal(small: Bench, key: bytes) -> None:
    """Ctrl-C, Ctrl-D, no, SIGTERM and yes; none of them needs a second key."""
    words = ask_on_terminal(small)
    old = small.content
    with terminal(small, *words) as (pid, master):
        shown = until(master, b"[y/N]: ")
        assert b"plan for P25Q21H" in shown
        time.sleep(0.1)  # the answer must be waited for
        if key:
            os.write(master, key)
        else:
            os.kill(pid, signal.SIGTERM)
        shown = until(master)
        code = code_of(pid)
    if key == b"y\n":
        assert code == 0
        assert b"written and verified" in shown
        assert small.content == pattern(small.size, 2)
        return
    assert code == 130
    assert b"nothing was changed" in shown
    assert small.content == old


@pytest.mark.slow
def test_a_terminal_gets_bars_and_no_colour_when_it_wants_none(small: Bench) -> None:
    words = [*ask_on_terminal(small), "-y"]
    with terminal(small, *words, TERM="xterm-256color") as (pid, master):
        coloured = until(master)
        assert code_of(pid) == 0
    assert re.search(rb"\x1b\[[0-9;]*3[0-7]m", coloured)
    assert b"program" in coloured
    small.fill(1)
    with terminal(small, *words, TERM="xterm-256color", NO_COLOR="1") as (pid, master):
        plain = until(master)
        assert code_of(pid) == 0
    assert not re.search(rb"\x1b\[[0-9;]*(3|4|9)[0-7]m", plain)
    assert b"program" in plain


@pytest.mark.slow
def test_ctrl_c_stops_waiting_for_standard_input(small: Bench) -> None:
    small.fill(1)
    old = small.content
    process = subprocess.Popen(
        [*HWFLASH, "write", "-", "-y", "-p", small.url()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(b"half of it")
    process.stdin.flush()
    time.sleep(0.6)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"nothing was changed" in err
    assert small.content == old


@pytest.mark.slow
def test_ctrl_c_from_outside(bench: Bench) -> None:
    old = bench.fill(1)
    new = pattern(bench.size, 2)
    process = subprocess.Popen(
        [*HWFLASH, "write", bench.file("x.bin", new), "-y", "-p", bench.url()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    err = ""
    for line in process.stderr:
        err += line
        if line.startswith("program: "):
            process.send_signal(signal.SIGINT)
            break
    err += process.stderr.read()
    assert process.stdout is not None
    assert process.stdout.read() == ""
    process.stdout.close()
    process.stderr.close()
    assert process.wait(10) == 6
    assert "SIGINT: stopping after this block" in err
    assert bench.content not in (old, new)
    resume = re.search(r"^  resume: (.*)$", err, re.MULTILINE)
    assert resume
    # As a person would: paste it into a shell.
    script = (
        f"hwflash() {{ {sys.executable} -c 'from hwflash.cli.main import main; main()' \"$@\"; }}"
    )
    pasted = ["bash", "-c", f"{script}; {resume[1]} --yes"]
    subprocess.run(pasted, check=True, capture_output=True, timeout=30)
    assert bench.content == new


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--json"], []])
@pytest.mark.parametrize("lines", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_reader_that_leaves_does_not_stop_a_write(
    small: Bench, words: list[str], lines: int
) -> None:
    """``hwflash write ... 2>&1 | head -1`` must not leave half an image behind."""
    small.fill(1)
    new = pattern(small.size, 2)
    process = subprocess.Popen(
        [*HWFLASH, "write", small.file("x.bin", new), "-y", "-p", small.url(), *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0,
    )  # fmt: skip
    assert process.stdout is not None
    got = b""
    while got.count(b"\n") < lines:
        got += process.stdout.read(1)
    process.stdout.close()
    assert process.wait(20) == 0
    assert small.content == new


@pytest.mark.parametrize(
    "line",
    [
        "chips list | head -1",
        pytest.param("read - -p '{url}' | head -c 1", marks=pytest.mark.slow),
        "write '{image}' -y -p '{url}' --json >/dev/full",
        pytest.param("probe -p '{url}' --json >/dev/full", marks=pytest.mark.slow),
        "chips list >/dev/full",
        pytest.param("layout '{image}' >/dev/full", marks=pytest.mark.slow),
        pytest.param("write '{image}' -y -p '{url}' >&- 2>&-", marks=pytest.mark.slow),
        pytest.param("write '{image}' -y -p '{url}' 2>/dev/full", marks=pytest.mark.slow),
        pytest.param("read - -p '{url}' >&-", marks=pytest.mark.slow),
        pytest.param("write - --at 0 -y -p '{url}' <&-", marks=pytest.mark.slow),
    ],
)
def test_standard_streams_that_do_not_work(small: Bench, line: str) -> None:
    old = small.fill(1)
    new = pattern(small.size, 2)
    words = line.format(url=small.url(), image=small.file("x.bin", new))
    prefix = f"set -o pipefail; {sys.executable} -c 'from hwflash.cli.main import main; main()' "
    done = subprocess.run(
        ["bash", "-c", prefix + words], capture_output=True, timeout=30, check=False
    )
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert b"internal" not in done.stderr
    if line.startswith("write '"):
        assert done.returncode == 0
        assert small.content == new
    else:
        assert small.content == old
    if ">/dev/full" in line and " 2>" not in line:
        assert b"the output cannot be written" in done.stderr
        assert done.returncode == (0 if line.startswith("write") else 3)
    if "&-" in line and not line.startswith("write '"):
        assert done.returncode == 2
        assert b"standard" in done.stderr


@pytest.mark.slow
def test_two_processes_on_one_programmer(small: Bench) -> None:
    words = ask_on_terminal(small)
    with terminal(small, *words) as (pid, master):
        until(master, b"[y/N]: ")
        answer = small.chip("erase", "-y", "--json")
        assert (answer.code, answer.error["code"]) == (3, "programmer.busy")
        assert f"process {pid} " in answer.error["message"]
        assert "write" in answer.error["message"], "the owner's command is told"
        assert small.content == pattern(small.size, 1)
        os.write(master, b"n\n")
        until(master)
        code_of(pid)
    assert small.chip("probe").code == 0, "the lock ends with its process"


@pytest.mark.slow
def test_a_killed_process_leaves_a_write_that_can_be_resumed(bench: Bench) -> None:
    """SIGKILL: nothing could be said any more, but the journal is there."""
    bench.fill(1)
    new = pattern(bench.size, 2)
    process = subprocess.Popen(
        [*HWFLASH, "write", bench.file("x.bin", new), "-y", "-p", bench.url()],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("program: "):
            process.kill()
            break
    process.stderr.close()
    process.wait(10)
    assert bench.chip("write", "--resume", "-y").code == 0
    assert bench.content == new
