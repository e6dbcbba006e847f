"""A QEMU process that never outlives whoever started it.

QEMU runs under a small shell. The shell's standard input is a pipe whose other end hwflash
holds: when that end is closed, by `GuestProcess.close`, by an exception at any place, or by the
kernel because hwflash was killed, the shell kills QEMU and removes the folder. There is no
moment at which QEMU runs and nothing watches it.

Limits: POSIX. CPU seconds are read from ``/proc`` and are wall seconds elsewhere. A process
that was forked off hwflash without an exec holds the pipe too; `GuestProcess.close` does not
depend on it, but death by SIGKILL then does.
"""

from __future__ import annotations

import fcntl
import functools
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from hwflash.errors import EnvironmentFault, HwflashError, ReferenceFailed
from hwflash.uefi.window import printable

#: Debian packages of the programs.
PACKAGES: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-i386": "qemu-system-x86",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-arm": "qemu-system-arm",
}
#: The machine properties pflash0 and pflash1 came with QEMU 4.0.
OLDEST: Final = (4, 0)
#: How much a second of wall time counts against a guest's patience; see `guest_seconds`.
IDLE_SHARE: Final = 0.2
#: The kernel needs moments to end a killed process; a disk that hangs may need longer.
_KILL_SECONDS: Final = 30.0
#: What is kept of QEMU's standard error.
_SAID: Final = 64 << 10

#: Sockets that QEMU inherits have these numbers there.
FIRST_PASSED: Final = 4
_MOST_PASSED: Final = 5
#: Above all numbers that the shell is given, so that none overwrites another's source.
_HIGH: Final = 64

# $1 is the folder, the rest is QEMU's command line. Lines on standard output: the process id,
# and, when QEMU has ended, its exit status; nobody may be there to read them (`trap`). Both
# `read`s wait for a line or the end of the pipe. The sockets are closed here, so that QEMU's end
# is seen on them.
_SUPERVISOR: Final = """
folder=$1; shift
exec 3<&0
"$@" </dev/null 3<&- >"$folder/stdout" 2>"$folder/stderr" &
qemu=$!
trap '' PIPE
exec 4<&- 5<&- 6<&- 7<&- 8<&-
{ read -r line <&3; kill -KILL "$qemu"; } >/dev/null 2>&1 &
guard=$!
echo "$qemu"
wait "$qemu" 2>/dev/null
status=$?
kill "$guard" 2>/dev/null
echo "$status"
read -r line <&3
rm -rf -- "$folder"
"""


def find_qemu(program: str) -> str:
    """The path of a QEMU program, if it is there and new enough.

    Args:
        program: its name or path.

    Raises:
        EnvironmentFault: it is not installed (``environment.qemu-missing``), does not answer
            like QEMU or is older than `OLDEST` (``environment.qemu-version``).
    """
    found = shutil.which(program)
    if found is None:
        package = PACKAGES.get(Path(program).name)
        of = f" (Debian package {package})" if package else ""
        raise EnvironmentFault(
            f"{program} is not installed{of}",
            code="environment.qemu-missing",
            program=program,
            package=package,
        )
    version = qemu_version(found)
    if version < OLDEST:
        have, want = (".".join(str(part) for part in item) for item in (version, OLDEST))
        raise EnvironmentFault(
            f"{found} is QEMU {have}; {want} is the oldest that can do this",
            code="environment.qemu-version",
            program=found,
            version=have,
            oldest=want,
        )
    return found


@functools.cache
def qemu_version(program: str) -> tuple[int, ...]:
    """The version of a QEMU program, such as (7, 2, 22).

    Raises:
        EnvironmentFault: it does not answer like QEMU (``environment.qemu-version``).
    """
    said = b""
    with suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            process_group=0,
        ).stdout
    match = re.match(rb"QEMU emulator version (\d+)\.(\d+)(?:\.(\d+))?", said)
    if match is None:
        raise EnvironmentFault(
            f"{program} does not answer like QEMU", code="environment.qemu-version", program=program
        )
    return tuple(int(part) for part in match.groups(default=b"0"))


class GuestProcess:
    """QEMU in a folder of its own; both are gone after `close`, and after any kind of death.

    Args:
        command: program and arguments.
        folder: an empty or prepared folder. It belongs to the process from here on and is
            removed with it; QEMU's messages are kept in it.
        passed: sockets that QEMU inherits, five at most: the first has the number
            `FIRST_PASSED` there (``fd=4``), and so on. Closed here once it has them.

    Attributes:
        pid: QEMU's process id.
        folder: as given.

    Raises:
        EnvironmentFault: there is no shell, or no process can be made
            (``environment.process``).
    """

    def __init__(
        self, command: Sequence[str], folder: Path, passed: Sequence[socket.socket] = ()
    ) -> None:
        self.folder = folder
        self._status: int | None = None
        self._rest = b""
        self._cpu = 0.0
        self._started = time.monotonic()
        self._closed = False
        # Everything that must be undone is reachable before anything is started.
        self._life: int | None = None
        self._told: int | None = None
        self._shell: int | None = None
        try:
            self._start(command, passed)
            self.pid = int(self._line(_KILL_SECONDS) or b"0")
            if self.pid == 0:
                raise EnvironmentFault(
                    f"{command[0]} cannot be started", code="environment.process"
                )
        except BaseException as exc:
            self._let_go()
            if isinstance(exc, OSError):
                raise EnvironmentFault(
                    f"{command[0]} cannot be started: {exc.strerror}", code="environment.process"
                ) from exc
            raise

    # --- how it is ----------------------------------------------------------------------

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while QEMU runs."""
        return self.wait(0.0)

    def wait(self, seconds: float) -> int | None:
        """Wait until QEMU has ended; its exit status, or None if it still runs."""
        if self._status is None:
            line = self._line(seconds)
            if line is not None:
                number = int(line or b"255")
                # A shell tells death by a signal as 128 and more.
                self._status = 128 - number if 128 < number < 192 else number
        return self._status

    def cpu_seconds(self) -> float:
        """CPU time QEMU has used, user and system, in seconds; the last known after its end."""
        try:
            line = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
            # Behind the name in parentheses: field 3 on; utime is field 14, stime 15.
            fields = line.rpartition(")")[2].split()
            self._cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError, ValueError):
            if not Path("/proc/self/stat").exists():
                return time.monotonic() - self._started
        return self._cpu

    def guest_seconds(self) -> float:
        """The clock a guest's patience is counted by: CPU seconds, and a little wall time.

        A busy computer slows a guest down without using up its patience; a guest that only
        sleeps does use it up, at a fifth of the pace (`IDLE_SHARE`).
        """
        return self.cpu_seconds() + IDLE_SHARE * (time.monotonic() - self._started)

    def said(self) -> str:
        """The end of QEMU's standard error, without warnings; "" if it said nothing."""
        try:
            with (self.folder / "stderr").open("rb") as stream:
                stream.seek(max(os.fstat(stream.fileno()).st_size - _SAID, 0))
                text = stream.read(_SAID).decode("utf-8", "replace")
        except OSError:
            return ""
        lines = (line.strip() for line in text.splitlines())
        return "\n".join(printable(line) for line in lines if line and ": warning: " not in line)

    def failure(self, doing: str) -> HwflashError:
        """What to raise when QEMU ended by itself, or went silent.

        Args:
            doing: what was under way, such as ``start``.

        Returns:
            `EnvironmentFault` for a port or file that is in use, else `ReferenceFailed`
            (``reference.qemu-start`` before the guest ran, ``reference.qemu-ended``).
        """
        status, said = self.wait(1.0), self.said()
        context = {"status": status, "output": said, "program": self._program}
        # QEMU adds hints behind the error itself.
        errors = [line for line in said.splitlines() if ": info: " not in line]
        last = errors[-1][:300] if errors else "it gives no reason"
        if "Address already in use" in said:
            return EnvironmentFault(last, code="environment.port-in-use", **context)
        if 'Failed to get "write" lock' in said or 'Failed to get shared "write" lock' in said:
            return EnvironmentFault(
                f"a file is in use by another QEMU: {last}",
                code="environment.file-in-use",
                **context,
            )
        code = "reference.qemu-start" if doing == "start" else "reference.qemu-ended"
        how = "still runs" if status is None else ending(status)
        return ReferenceFailed(f"QEMU failed at {doing} ({how}): {last}", code=code, **context)

    # --- its end ------------------------------------------------------------------------

    def terminate(self) -> None:
        """Ask QEMU to end (SIGTERM): it writes back what it holds."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End QEMU at once (SIGKILL), and wait until it has ended; its folder stays."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait(_KILL_SECONDS)

    def close(self, patience: float = 0.0) -> int | None:
        """End QEMU and remove its folder. May be called twice.

        Args:
            patience: seconds it has to end by itself, after `terminate` or a shutdown of the
                guest, before it is killed.

        Returns:
            Its exit status if it ended by itself, else None.
        """
        status = self._status
        try:
            if not self._closed and patience > 0:
                status = self.wait(patience)
            elif not self._closed:
                status = self.poll()
        finally:
            self._let_go()
        return status

    # --- inside -------------------------------------------------------------------------

    def _start(self, command: Sequence[str], passed: Sequence[socket.socket]) -> None:
        self._program = command[0]
        words = ["/bin/sh", "-c", _SUPERVISOR, "hwflash-qemu", str(self.folder), *command]
        with ExitStack() as undo:
            for item in passed:
                undo.callback(item.close)
            theirs, self._life = os.pipe()
            undo.callback(os.close, theirs)
            self._told, ours = os.pipe()
            undo.callback(os.close, ours)
            quiet = os.open(os.devnull, os.O_RDWR)
            undo.callback(os.close, quiet)
            sources = [theirs, ours, quiet]
            targets = [0, 1, 2]
            for number, item in enumerate(passed[:_MOST_PASSED], FIRST_PASSED):
                sources.append(item.fileno())
                targets.append(number)
            actions: list[tuple[int, int, int]] = []
            for source, target in zip(sources, targets, strict=True):
                high = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _HIGH)
                undo.callback(os.close, high)
                actions.append((os.POSIX_SPAWN_DUP2, high, target))
            # Not subprocess: its constructor can be interrupted when the process exists already.
            self._shell = os.posix_spawn(
                words[0],
                words,
                os.environ,
                file_actions=actions,
                # Ctrl-C is for hwflash; its terminal's end is noticed through the pipe.
                setpgroup=0,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM),
            )

    def _line(self, seconds: float) -> bytes | None:
        """A line of the shell; None if none came in time, b"" if the shell has ended."""
        if self._told is None:
            return b""
        limit = time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = max(limit - time.monotonic(), 0.0)
            if not select.select([self._told], [], [], left)[0]:
                return None
            data = os.read(self._told, 4096)
            if not data:
                return b""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _let_go(self) -> None:
        """Close the life line, and wait until QEMU and folder are gone."""
        if self._closed:
            return
        self._closed = True
        if self._life is not None:
            # A line for each of the shell's two reads: a forked child may hold the pipe open.
            with suppress(OSError):
                os.write(self._life, b"end\nend\n")
            os.close(self._life)
        if self._shell is not None:
            limit = time.monotonic() + _KILL_SECONDS
            while (left := limit - time.monotonic()) > 0 and self._line(left):
                pass  # its last words; it has ended when the pipe has
            if left <= 0:
                os.kill(self._shell, signal.SIGKILL)
            os.waitpid(self._shell, 0)
        if self._told is not None:
            os.close(self._told)
            self._told = None
        shutil.rmtree(self.folder, ignore_errors=True)


def ending(status: int) -> str:
    """How a process ended: ``exit status 1``, ``signal SIGKILL``."""
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"
