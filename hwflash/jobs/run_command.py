"""Running a command of a job file: a time limit, a bounded output, a request to stop.

The command gets no input, and a process group of its own that is ended as a whole. Its output
goes to a file and not through a pipe: something that it leaves running in the background would
hold a pipe open.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from hwflash.progress import CancelToken

OUTPUT_LIMIT: Final = 1 << 20
_PACE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended.

    Attributes:
        exit_code: its exit code; None when it did not end by itself.
        problem: why it did not, in words; "" when it did.
        out: what it printed, at most 1 MiB.
        err: its complaints, likewise.
        seconds: time it took.
    """

    exit_code: int | None
    problem: str
    out: bytes
    err: bytes
    seconds: float


def run_command(
    words: Sequence[str],
    *,
    folder: Path,
    timeout: float,
    environ: Mapping[str, str],
    cancel: CancelToken,
) -> Ran:
    """Run a command to its end; never raises for what the command does.

    Args:
        words: program and arguments.
        folder: where it runs.
        timeout: seconds.
        environ: its environment variables.
        cancel: ends it when a stop is asked for.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                list(words), cwd=folder, env=dict(environ), stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) else str(error)
            return Ran(None, f"cannot be started: {text}", b"", b"", 0.0)
        problem = ""
        try:
            problem = _wait(process, (out, err), began + timeout, timeout, cancel)
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        code = process.returncode
        if not problem and code < 0:
            problem = f"was ended by {_signal_name(-code)}"
        spent = time.monotonic() - began
        return Ran(None if problem else code, problem, _start_of(out), _start_of(err), spent)


def _wait(
    process: subprocess.Popen[bytes],
    streams: Sequence[IO[bytes]],
    end: float,
    timeout: float,
    cancel: CancelToken,
) -> str:
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PACE)
            return ""
        if cancel.cancelled:
            return "was stopped on request"
        if time.monotonic() >= end:
            return f"did not end within {timeout:g} s"
        if any(os.fstat(stream.fileno()).st_size > OUTPUT_LIMIT for stream in streams):
            return "printed more than 1 MiB"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _start_of(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read(OUTPUT_LIMIT)
