"""QEMU over qtest: a machine without a running CPU, whose devices are reached from outside.

Lines of text go to QEMU over one end of a socket pair whose other end it inherits, so there is
no socket file, and nothing to clean up but the process. The process gets SIGTERM, which lets
QEMU finish writing to its images, and dies with the thread that opened it.

Ref: QEMU 7.2 softmmu/qtest.c (the protocol), docs/interop/qmp-spec.txt.
Limits: no interrupts and no virtual clock of QEMU's own; POSIX only.
"""

from __future__ import annotations

import functools
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Final, cast

from hwflash.errors import EnvironmentFault, ProgrammerError, ProgrammerLost

PROGRAM: Final = "qemu-system-arm"
#: QEMU answers within milliseconds. Silence this long, in seconds, on a machine however busy,
#: is a process that hangs.
SILENCE: Final = 60.0
#: What is under way at once. QEMU stops reading while it cannot write its answers, so more
#: could fill the buffers of both directions, and both sides would wait for ever.
BURST_COMMANDS: Final = 64
BURST_BYTES: Final = 1 << 16
_RECEIVE: Final = 1 << 18
#: Writing back what is left of an image, and what remains to a process that has failed.
_STOP_SECONDS: Final = 30.0
_LAST_WORDS_SECONDS: Final = 2.0


class QtestClient:
    """The client's side of the qtest protocol.

    Args:
        connection: a connected stream socket; closed by `close`.
        name: how messages call the other side.
        silence: seconds without a byte after which the other side is given up.

    Attributes:
        sent, received: bytes so far.
        bursts: groups of commands sent so far, each a round trip.
        broken: an error left the conversation in an unknown state.
    """

    def __init__(
        self, connection: socket.socket, name: str = "QEMU", silence: float = SILENCE
    ) -> None:
        self._socket = connection
        self._socket.settimeout(silence)
        self._name = name
        self._silence = silence
        self._rest = b""
        self.sent = 0
        self.received = 0
        self.bursts = 0
        self.broken = False

    def execute(self, commands: Sequence[bytes]) -> list[bytes]:
        """Send commands, many at once, and return what each ``OK`` says.

        Args:
            commands: without line ends.

        Raises:
            ProgrammerLost: the connection ended (``programmer.qemu-lost``), or nothing came
                for too long (``programmer.qemu-timeout``).
            ProgrammerError: QEMU refused a command, or answered something else
                (``programmer.qtest``).
        """
        answers: list[bytes] = []
        try:
            for burst in _bursts(commands):
                lines = b"".join(command + b"\n" for command in burst)
                self._socket.sendall(lines)
                self.sent += len(lines)
                self.bursts += 1
                answers += [self._answer(command) for command in burst]
        except TimeoutError as exc:
            self.broken = True
            raise ProgrammerLost(
                f"{self._name} has not answered for {self._silence:g} s",
                code="programmer.qemu-timeout",
                seconds=self._silence,
            ) from exc
        except OSError as exc:
            raise self._lost() from exc
        except ProgrammerError:
            self.broken = True
            raise
        return answers

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _answer(self, command: bytes) -> bytes:
        line = self._line()
        while line.startswith(b"IRQ "):  # told at any time, to whoever asked for it
            line = self._line()
        status, _, data = line.partition(b" ")
        if status != b"OK":
            raise ProgrammerError(
                f"{self._name} answers {line[:80]!r} to {command[:40]!r}",
                code="programmer.qtest",
                answer=line[:80].decode("ascii", "replace"),
            )
        return data

    def _line(self) -> bytes:
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            piece = self._socket.recv(_RECEIVE)
            if not piece:
                raise self._lost()
            self.received += len(piece)
            pieces.append(piece)
        last, _, self._rest = pieces[-1].partition(b"\n")
        return (b"".join(pieces[:-1]) + last).rstrip(b"\r")

    def _lost(self) -> ProgrammerLost:
        self.broken = True
        return ProgrammerLost(f"{self._name} ended", code="programmer.qemu-lost")


def _bursts(commands: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Cut a list of commands into runs that may be under way together; at least one each."""
    found: list[Sequence[bytes]] = []
    start = size = 0
    for place, command in enumerate(commands):
        size += len(command) + 1
        if place > start and (size > BURST_BYTES or place - start >= BURST_COMMANDS):
            found.append(commands[start:place])
            start, size = place, len(command) + 1
    if start < len(commands):
        found.append(commands[start:])
    return found


class QemuProcess:
    """A QEMU process that is driven over qtest.

    Args:
        program: path of the program.
        arguments: machine and devices.
        name: how messages call it.
        silence: see `QtestClient`.

    Attributes:
        qtest: the conversation with it.

    Raises:
        ProgrammerError: it ended at once (``programmer.qemu-start``); ``context["output"]``
            is what it said.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        name: str = "QEMU",
        silence: float = SILENCE,
    ) -> None:
        ours, theirs = socket.socketpair()
        self.qtest = QtestClient(ours, name, silence)
        self._name = name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _release
        try:
            with theirs:
                self._process = subprocess.Popen(
                    _command(program, arguments, theirs.fileno()),
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    # Ctrl-C is for hwflash, which stops where it is safe to stop.
                    process_group=0,
                )
        except OSError as exc:
            self._release()
            raise EnvironmentFault(
                f"{program} cannot be started: {exc.strerror}",
                code="environment.qemu-missing",
                program=program,
            ) from exc
        try:
            self.qtest.execute([b"endianness"])
        except ProgrammerLost as exc:
            hangs = exc.code == "programmer.qemu-timeout"
            self._end(ending=not hangs)
            said = self._said()
            self._release()
            if hangs:
                raise
            raise ProgrammerError(
                f"{name} does not start: {said or 'it gives no reason'}",
                code="programmer.qemu-start",
                output=said,
                program=program,
            ) from exc
        except BaseException:
            self._end()
            self._release()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def execute(self, commands: Sequence[bytes]) -> list[bytes]:
        """Carry out qtest commands; see `QtestClient.execute`.

        Raises:
            ProgrammerLost: as there, with what QEMU said and how it ended in the context.
            ProgrammerError: as there.
        """
        try:
            return self.qtest.execute(commands)
        except ProgrammerLost as exc:
            if exc.code == "programmer.qemu-timeout":
                raise
            status = self._end(ending=True)
            raise ProgrammerLost(
                f"{self._name} ended in the middle: {_ending(status)}",
                code=exc.code,
                status=status,
                output=self._said(),
            ) from exc

    def close(self) -> None:
        """End QEMU and wait until its images are written. May be called twice.

        Raises:
            ProgrammerLost: it did not end well, so that an image may be incomplete
                (``programmer.qemu-lost``); not raised when `execute` has failed before.
        """
        if self._errors.closed:
            return
        status = self._end()
        said = self._said()
        self._release()
        if status != 0 and not self.qtest.broken:
            raise ProgrammerLost(
                f"{self._name} did not end well: {_ending(status)}; its image may be incomplete",
                code="programmer.qemu-lost",
                status=status,
                output=said,
            )

    def _end(self, *, ending: bool = False) -> int:
        """SIGTERM, and SIGKILL for a process that does not take it; the exit status.

        Args:
            ending: the process closed the connection, so it is about to end by itself.
        """
        if ending:
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(_LAST_WORDS_SECONDS)
        patience = _LAST_WORDS_SECONDS if self.qtest.broken else _STOP_SECONDS
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _said(self) -> str:
        """The last line on its standard error that is more than a warning."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").splitlines()
        told = [line.strip() for line in lines if line.strip() and ": warning: " not in line]
        return told[-1][:300] if told else ""

    def _release(self) -> None:
        self.qtest.close()
        self._errors.close()


def _command(program: str, arguments: Sequence[str], descriptor: int) -> list[str]:
    # setpriv (util-linux) has the kernel end QEMU when hwflash is killed.
    guard = shutil.which("setpriv")
    return [
        *([guard, "--pdeathsig", "TERM", "--"] if guard else []),
        program, "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none",
        # The qtest server looks for a character device of exactly this name. The accelerator
        # is TCG with a stopped CPU, as not every QEMU is built with the one named qtest.
        "-accel", "tcg", "-S", "-chardev", f"socket,id=qtest,fd={descriptor}",
        "-qtest", "chardev:qtest", "-qtest-log", "/dev/null", *arguments,
    ]  # fmt: skip


def _ending(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"


# --- what a QEMU can do -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QemuAbilities:
    """What a QEMU program says about itself.

    Attributes:
        program: its path.
        version: such as ``7.2.22``.
        flash_models: names of its SPI flash models.
        machine_properties: options of the machine asked for; empty when it has no such machine.
    """

    program: str
    version: str
    flash_models: frozenset[str]
    machine_properties: frozenset[str]


def find_program(program: str = PROGRAM) -> str:
    """The path of a QEMU program.

    Raises:
        EnvironmentFault: it is not installed (``environment.qemu-missing``).
    """
    found = shutil.which(program)
    if found is None:
        raise EnvironmentFault(
            f"{program} is not installed", code="environment.qemu-missing", program=program
        )
    return found


@functools.cache
def abilities(program: str, machine: str) -> QemuAbilities:
    """Ask a QEMU program for its version, flash models and the options of a machine.

    Args:
        program: its path.
        machine: name of the machine.

    Raises:
        EnvironmentFault: it does not answer like QEMU (``environment.qemu-version``).
    """
    requests: list[dict[str, Any]] = [
        {"execute": "qmp_capabilities"},
        {"execute": "qom-list-types", "arguments": {"implements": "m25p80-generic"}},
        {"execute": "qom-list-properties", "arguments": {"typename": f"{machine}-machine"}},
        {"execute": "quit"},
    ]
    try:
        done = subprocess.run(
            [program, "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio"],
            input="".join(json.dumps(item) + "\n" for item in requests).encode(),
            capture_output=True,
            timeout=SILENCE,
            process_group=0,
        )
        version, models, properties = _qmp_answers(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as exc:
        raise EnvironmentFault(
            f"{program} does not answer like QEMU", code="environment.qemu-version", program=program
        ) from exc
    return QemuAbilities(program, version, models, properties)


def _qmp_answers(output: bytes) -> tuple[str, frozenset[str], frozenset[str]]:
    replies = [cast("dict[str, Any]", json.loads(line)) for line in output.splitlines() if line]
    greeting, *rest = [reply for reply in replies if "event" not in reply]
    numbers = greeting["QMP"]["version"]["qemu"]
    version = f"{numbers['major']}.{numbers['minor']}.{numbers['micro']}"
    names = [
        frozenset(str(item["name"]) for item in reply.get("return", ())) for reply in rest[1:3]
    ]
    if len(names) != 2:
        raise ValueError("answers are missing")
    return version, names[0], names[1]
