"""One run of a program on the computer with the programmer, and never longer than ours.

ssh without a terminal does not tell the other side that its caller is gone. So the program runs
under a few lines of POSIX shell that also hold standard input open: when it ends, because this
process closed it, was killed, or the connection broke, they send SIGTERM, and hwflash stops at the
next safe point. The same lines receive an image before the program starts, and send a file after it
has ended, over the one connection: nothing else need be set up on the other computer, and nothing
is left there.

Limits: POSIX sh, `head -c` and `mktemp -d` (GNU and busybox have both) on the other computer.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Exit codes of our own lines, which hwflash does not use.
NO_ROOM: Final = 124
#: What a shell says of a program that is not there, or no program.
NOT_FOUND: Final = frozenset({126, 127})
#: What ssh says when the connection could not be made, or broke.
SSH_FAILED: Final = 255
TERMINATED: Final = 128 + 15
_CHUNK: Final = 1 << 16
#: Lines of stderr that are kept for an error.
_LAST: Final = 20

# $1: bytes to receive, or empty. $2: "get" to send the file back. $3: what to call the file. Then
# the command, which is given the file's path as its last word.
_SCRIPT: Final = r"""
put=$1 get=$2 name=$3 dir=
shift 3
trap '[ -z "$dir" ] || rm -rf "$dir"' EXIT
trap 'exit 143' HUP INT TERM
if [ -n "$put$get" ]; then
    dir=$(mktemp -d) || exit 124
    [ -z "$put" ] || head -c "$put" >"$dir/$name" || exit 124
    if [ -n "$put" ] && [ "$(wc -c <"$dir/$name")" -ne "$put" ]; then exit 143; fi
    set -- "$@" "$dir/$name"
fi
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
trap 'kill -TERM "$child"' HUP INT TERM
( read -r _ <&3; kill -TERM "$child" ) >/dev/null 2>&1 &
watcher=$!
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
kill "$watcher" 2>/dev/null
if [ -n "$get" ] && [ "$code" -le 1 ]; then cat "$dir/$name"; fi
exit "$code"
"""


def guarded(
    words: Sequence[str], *, put: int | None = None, get: bool = False, name: str = "file"
) -> list[str]:
    """The command that runs ``words`` under guard.

    Args:
        words: program and arguments.
        put: so many bytes come on standard input; their file is the last argument.
        get: the program writes a file, its last argument, which follows the output.
        name: what messages call the file; only letters, digits, and ``._-`` of it are kept.
    """
    size = "" if put is None else str(put)
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return ["sh", "-c", _SCRIPT, "hwflash-labgrid", size, "get" if get else "", plain, *words]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a run ended.

    Attributes:
        result: hwflash's last line, or None when there was none.
        begun: hwflash said anything at all.
        code: exit code of the program, or `SSH_FAILED`; None when it had to be left behind.
        stopped: we asked it to stop: "timeout" or "interrupt"; else empty.
        data: the file that was sent back.
        stderr: the last lines of standard error.
    """

    result: Mapping[str, Any] | None
    begun: bool
    code: int | None
    stopped: str
    data: bytes
    stderr: list[str]


class Run:
    """A program under guard, and what it says.

    Args:
        command: what is started here: the output of `guarded`, or ssh and that.
        image: bytes that are sent to it.
        heard: called with each JSON line.
    """

    def __init__(
        self,
        command: Sequence[str],
        image: bytes,
        heard: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._heard = heard
        self._unsent = memoryview(image)
        self._rest = b""
        self._data = bytearray()
        self._errors = b""
        self._result: Mapping[str, Any] | None = None
        self._begun = False
        self._stopped = ""
        # A session of its own: Ctrl-C is for us to pass on, and must not kill the ssh below us.
        self._process: Any = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._stdin: Any = self._process.stdin

    def finish(self, seconds: float | None, grace: float) -> Answer:
        """Wait for the end.

        Args:
            seconds: when to ask it to stop; None for never.
            grace: how long to wait for it after that.
        """
        self._end_in(seconds)
        process = self._process
        for stream in (self._stdin, process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
        with selectors.DefaultSelector() as selector, process:
            selector.register(process.stdout, selectors.EVENT_READ, self._take_output)
            selector.register(process.stderr, selectors.EVENT_READ, self._take_errors)
            if self._unsent:
                selector.register(self._stdin, selectors.EVENT_WRITE, self._send)
            try:
                code = self._follow(selector, grace)
            finally:
                if process.poll() is None:
                    process.kill()
        lines = self._errors.decode("utf-8", "replace").splitlines()
        return Answer(
            self._result, self._begun, code, self._stopped, bytes(self._data),
            [line for line in lines if line.strip()][-_LAST:],
        )  # fmt: skip

    # --- inside ---------------------------------------------------------------------------

    def _end_in(self, seconds: float | None) -> None:
        self._limit = None if seconds is None else time.monotonic() + seconds

    def _follow(self, selector: selectors.BaseSelector, grace: float) -> int | None:
        """Until it has ended, or will not end."""
        while self._reading(selector):
            try:
                left = None if self._limit is None else self._limit - time.monotonic()
                if left is None or left > 0:
                    self._step(selector, left)
                elif self._stopped:
                    return None
                else:
                    self._stop(selector, "timeout")
                    self._end_in(grace)
            except KeyboardInterrupt:
                if self._stopped:  # the second time
                    raise
                self._stop(selector, "interrupt")
                self._end_in(grace)
        try:
            return self._process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            return None

    def _reading(self, selector: selectors.BaseSelector) -> bool:
        streams = (self._process.stdout, self._process.stderr)
        return any(key.fileobj in streams for key in selector.get_map().values())

    def _step(self, selector: selectors.BaseSelector, seconds: float | None) -> None:
        for key, _ in selector.select(seconds):
            if not key.data(key.fileobj):
                selector.unregister(key.fileobj)

    def _stop(self, selector: selectors.BaseSelector, why: str) -> None:
        """Closing its standard input is the request to stop."""
        self._stopped = why
        if self._stdin in [key.fileobj for key in selector.get_map().values()]:
            selector.unregister(self._stdin)
        self._stdin.close()

    def _send(self, stream: Any) -> bool:
        try:
            self._unsent = self._unsent[os.write(stream.fileno(), self._unsent[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:  # it says on stderr or by its exit code why it takes no more
            return False
        return bool(self._unsent)

    def _take_errors(self, stream: Any) -> bool:
        data = stream.read(_CHUNK)
        self._errors = (self._errors + (data or b""))[-_CHUNK:]
        return data != b""

    def _take_output(self, stream: Any) -> bool:
        data = stream.read(_CHUNK)
        if data is None:
            return True
        if self._result is not None:
            self._data += data
            return data != b""
        self._rest += data
        while self._result is None and b"\n" in self._rest:
            # Taken out first: Ctrl-C may come in a listener, and the next lines still count.
            line, _, self._rest = self._rest.partition(b"\n")
            self._line(line)
        if self._result is not None:
            self._data += self._rest
        return data != b""

    def _line(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind = event["type"]
        except (ValueError, TypeError, KeyError):  # a login shell that greets
            self._errors += line + b"\n"
            return
        self._begun = True
        if kind == "result":
            self._result = event
        else:
            self._heard(event)
