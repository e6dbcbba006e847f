"""The life of a QEMU process, with a stand-in for QEMU: nothing is ever left behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from hwflash.errors import EnvironmentFault, ReferenceFailed
from hwflash.qemu import process
from hwflash.qemu.process import GuestProcess, ending, find_qemu

Start = Callable[..., GuestProcess]
#: An argument of ``sleep`` that no other process has, other runs of these tests neither.
MARK = f"86400.{os.getpid()}{time.time_ns()}"


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Start:
    """Start a shell script in the place of QEMU."""

    def make(script: str, *passed: socket.socket) -> GuestProcess:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        guest = GuestProcess(["/bin/sh", "-c", script], folder, passed)
        request.addfinalizer(guest.close)
        return guest

    return make


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def marked() -> list[int]:
    """Processes that carry `MARK` and are not dead."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if MARK.encode() in words and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def soon(condition: Callable[[], bool], seconds: float = 20) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if condition():
            return True
        time.sleep(0.01)
    return False


# --- how it ends ----------------------------------------------------------------------------


def test_close_kills_and_removes_the_folder(start: Start) -> None:
    guest = start("exec sleep 1000")
    (guest.folder / "vars").write_bytes(bytes(1000))
    assert alive(guest.pid)
    assert guest.poll() is None
    assert guest.close() is None
    assert not alive(guest.pid)
    assert not guest.folder.exists()
    assert guest.close() is None


def test_an_exit_status_is_kept(start: Start) -> None:
    guest = start("echo qemu: warning: slow >&2; echo '-drive: no such file' >&2; exit 3")
    assert guest.wait(20) == 3
    assert guest.poll() == 3
    assert guest.said() == "-drive: no such file"
    failure = guest.failure("start")
    assert isinstance(failure, ReferenceFailed)
    assert failure.code == "reference.qemu-start"
    assert str(failure) == "QEMU failed at start (exit status 3): -drive: no such file"
    assert failure.context["status"] == 3
    assert guest.close() == 3
    assert not guest.folder.exists()


def test_death_by_a_signal_is_told(start: Start) -> None:
    guest = start("kill -SEGV $$")
    assert guest.wait(20) == -signal.SIGSEGV
    assert "signal SIGSEGV" in str(guest.failure("boot"))
    assert guest.failure("boot").code == "reference.qemu-ended"
    assert ending(-200) == "signal 200"
    assert ending(0) == "exit status 0"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("qemu: -chardev socket: Failed to find an available port: Address already in use",
         "environment.port-in-use"),
        ('qemu: -drive file=v.fd: Failed to get "write" lock\nIs another process using the image?',
         "environment.file-in-use"),
    ],
)  # fmt: skip
def test_what_is_in_use_is_no_failure_of_the_reference(start: Start, said: str, code: str) -> None:
    guest = start(f"printf '%s\\n' '{said}' >&2; exit 1")
    guest.wait(20)
    failure = guest.failure("start")
    assert isinstance(failure, EnvironmentFault)
    assert failure.code == code


def test_terminate_lets_it_finish(start: Start, tmp_path: Path) -> None:
    up, done = tmp_path / "up", tmp_path / "done"
    guest = start(
        f"trap 'sleep 0.1; echo x > {done}; exit 7' TERM; echo x > {up}\n"
        "while :; do sleep 0.05; done"
    )
    assert soon(up.exists)
    guest.terminate()
    assert guest.close(patience=20) == 7
    assert done.exists()


def test_an_endless_standard_error_is_read_from_its_end(start: Start) -> None:
    guest = start("yes 'trace line' | head -n 30000 >&2; echo last >&2; exit 1")
    guest.wait(20)
    assert len(guest.said()) <= 64 << 10
    assert guest.said().endswith("\nlast")


def test_cpu_seconds_count_work_not_sleep(start: Start) -> None:
    busy = start("while :; do :; done")
    idle = start("exec sleep 1000")
    assert soon(lambda: busy.cpu_seconds() > 0.1)
    assert idle.cpu_seconds() < 0.1
    before = idle.guest_seconds()
    time.sleep(0.2)
    # A guest that only sleeps uses up its patience too, slowly.
    assert idle.guest_seconds() - before > 0.2 * process.IDLE_SHARE * 0.9
    last = busy.cpu_seconds()
    busy.close()
    assert busy.cpu_seconds() >= last > 0


def test_sockets_are_handed_over(start: Start) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        assert process.FIRST_PASSED == 4
        guest = start("echo hello >&4; exec sleep 1000", theirs)
        assert theirs.fileno() == -1, "closed on this side"
        ours.settimeout(20)
        assert ours.recv(100) == b"hello\n"
        os.kill(guest.pid, signal.SIGKILL)
        assert ours.recv(100) == b"", "nobody else holds the other end"


def test_many_sockets_keep_their_order(start: Start) -> None:
    pairs = [socket.socketpair() for _ in range(5)]
    start("for n in 4 5 6 7 8; do echo $n >&$n; done; exec sleep 1000", *(b for _, b in pairs))
    for number, (ours, _) in enumerate(pairs, 4):
        with ours:
            ours.settimeout(20)
            assert ours.recv(100) == f"{number}\n".encode()


# --- nothing is left behind -----------------------------------------------------------------

PARENT = f"""
import sys, time
from pathlib import Path
from hwflash.qemu.process import GuestProcess
guest = GuestProcess(["/bin/sleep", "{MARK}"], Path(sys.argv[1]))
(Path(sys.argv[1]) / "vars").write_bytes(b"x")
print(guest.pid, flush=True)
{{then}}
"""


@pytest.mark.parametrize(
    ("then", "by"),
    [
        ("time.sleep(1000)", signal.SIGKILL),
        ("time.sleep(1000)", signal.SIGTERM),
        ("time.sleep(1000)", signal.SIGINT),
        ("raise RuntimeError", None),
        ("import os; os._exit(1)", None),
        ("import os; os.abort()", None),
        ("sys.exit(0)", None),
    ],
)
def test_whatever_ends_the_parent_ends_qemu(
    tmp_path: Path, then: str, by: signal.Signals | None
) -> None:
    folder = tmp_path / "guest"
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=then), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if by is not None:
            assert alive(pid)
            parent.send_signal(by)
        parent.wait(20)
        assert soon(lambda: not alive(pid))
        assert soon(lambda: not folder.exists())


def test_ctrl_c_of_the_terminal_reaches_the_parent_only(tmp_path: Path) -> None:
    folder = tmp_path / "guest"
    folder.mkdir()
    then = "import signal; signal.signal(2, lambda *_: print('told', flush=True)); time.sleep(1000)"
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=then), str(folder)],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout.readline() == b"told\n"
        assert alive(pid)
        parent.kill()
        assert soon(lambda: not alive(pid))


LOOP = f"""
import sys, tempfile
from pathlib import Path
from hwflash.qemu.process import GuestProcess
print("up", flush=True)
while True:
    guest = GuestProcess(["/bin/sleep", "{MARK}"], Path(tempfile.mkdtemp(dir=sys.argv[1])))
    guest.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_no_moment_is_unwatched(tmp_path: Path, by: signal.Signals) -> None:
    random = Random(by)
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", LOOP, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as parent:
            assert parent.stdout is not None
            parent.stdout.readline()
            time.sleep(random.uniform(0, 0.03))
            parent.send_signal(by)
            parent.wait(20)
    assert soon(lambda: not marked()), marked()


def test_a_forked_child_that_holds_the_pipe_does_not_keep_it_alive(start: Start) -> None:
    guest = start("exec sleep 1000")
    release, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(release, 1)
        os._exit(0)
    started = time.monotonic()
    guest.close()
    assert time.monotonic() - started < 10
    assert not alive(guest.pid)
    os.write(hold, b"x")
    os.waitpid(child, 0)
    os.close(release)
    os.close(hold)


def test_a_watching_shell_that_is_killed_is_not_the_end_of_the_watch(start: Start) -> None:
    guest = start("exec sleep 1000")
    shell = int(Path(f"/proc/{guest.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(shell, signal.SIGKILL)
    assert alive(guest.pid)
    guest.close()
    assert soon(lambda: not alive(guest.pid))
    assert not guest.folder.exists()


def test_a_thread_that_ends_does_not_end_it(start: Start) -> None:
    made: list[GuestProcess] = []
    thread = threading.Thread(target=lambda: made.append(start("exec sleep 1000")))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert made[0].poll() is None
    made[0].close()


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_what_cannot_be_started_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "posix_spawn", refuse)
    folder = tmp_path / "guest"
    folder.mkdir()
    before = descriptors()
    with pytest.raises(EnvironmentFault) as caught:
        GuestProcess(["/bin/true"], folder)
    assert caught.value.code == "environment.process"
    assert not folder.exists()
    assert descriptors() == before


# --- finding QEMU ---------------------------------------------------------------------------


def fake(folder: Path, says: str) -> str:
    program = folder / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_a_missing_qemu_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EnvironmentFault, match="Debian package qemu-system-arm") as caught:
        find_qemu("qemu-system-aarch64")
    assert caught.value.code == "environment.qemu-missing"
    assert caught.value.context["package"] == "qemu-system-arm"
    with pytest.raises(EnvironmentFault, match=r"qemu-system-vax is not installed$"):
        find_qemu("qemu-system-vax")


def test_versions(tmp_path: Path) -> None:
    good = fake(tmp_path, "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)")
    assert find_qemu(good) == good
    assert process.qemu_version(good) == (7, 2, 22)
    for name, says, why in (
        ("old", "QEMU emulator version 3.1.0", "4.0 is the oldest"),
        ("other", "Bochs 2.7", "does not answer like QEMU"),
        ("silent", "", "does not answer like QEMU"),
    ):
        (tmp_path / name).mkdir()
        with pytest.raises(EnvironmentFault, match=why) as caught:
            find_qemu(fake(tmp_path / name, says))
        assert caught.value.code == "environment.qemu-version"
