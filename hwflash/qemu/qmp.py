"""QEMU's monitor protocol: commands, their answers, and events.

Ref: QMP as QEMU 7.2.22 talks it.
Limits: one command at a time; no out-of-band execution.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from hwflash.errors import ReferenceFailed
from hwflash.uefi.window import printable

#: QEMU answers within milliseconds unless the command itself takes time (migrate, pmemsave).
#: So long without an answer, in seconds, is a QEMU that hangs.
SILENCE: Final = 60.0
#: One message; `query-qmp-schema` answers with about 200 KiB.
LONGEST: Final = 16 << 20
_KEEP_EVENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in QEMU.

    Attributes:
        name: such as ``SHUTDOWN``.
        data: what it says.
        seconds: QEMU's time stamp, in seconds since 1970.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 0.0


class QmpClient:
    """The client's side of QMP.

    Args:
        connection: a connected stream socket; closed by `close`, and when this fails.
        silence: see `SILENCE`.

    Attributes:
        version: QEMU's version, such as ``7.2.22``.
        events: those that came and were not waited for, oldest first; the last 1,000.

    Raises:
        ReferenceFailed: the other side ended (``reference.qmp-lost``), is silent
            (``reference.qmp-timeout``) or does not talk QMP (``reference.qmp``).
    """

    def __init__(self, connection: socket.socket, silence: float = SILENCE) -> None:
        self._socket = connection
        self._silence = silence
        self._rest = b""
        self._number = 0
        self.version = ""
        self.events: deque[Event] = deque(maxlen=_KEEP_EVENTS)
        try:
            limit = time.monotonic() + silence
            while not self.version:
                self._take(self._message(limit))
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def execute(self, command: str, /, **arguments: object) -> Any:
        """Run a command and return what it says.

        Args:
            command: such as ``query-status``.
            arguments: an underscore stands for the hyphen that Python does not take.

        Raises:
            ReferenceFailed: QEMU refused it (``reference.qmp-refused``; ``context["class"]`` is
                QMP's error class), or as at construction.
        """
        self._number += 1
        request: dict[str, object] = {"execute": command, "id": self._number}
        if arguments:
            request["arguments"] = {key.replace("_", "-"): arguments[key] for key in arguments}
        try:
            self._socket.settimeout(self._silence)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except TimeoutError as exc:
            raise self._silent(f"has not taken {command}") from exc
        except OSError as exc:
            raise _lost() from exc
        limit = time.monotonic() + self._silence
        while True:
            message = self._message(limit)
            if message.get("id") != self._number or not self._is_answer(message):
                self._take(message)
                continue
            if "error" not in message:
                return message["return"]
            error = message["error"]
            text = printable(str(error.get("desc", "")))
            raise ReferenceFailed(
                f"QEMU refuses {command}: {text}",
                code="reference.qmp-refused",
                command=command,
                reason=text,
                **{"class": error.get("class")},
            )

    def monitor(self, line: str) -> str:
        """Run a command of the human monitor and return its output.

        Raises:
            ReferenceFailed: see `execute`. What the monitor itself refuses it only says.
        """
        said = self.execute("human-monitor-command", command_line=line)
        return str(said).replace("\r\n", "\n")

    def wait_event(
        self, *names: str, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> Event:
        """Wait for an event; one that came before counts, and is taken out of `events`.

        Args:
            names: any of these.
            timeout: how long to wait, in seconds of ``clock``.
            clock: what patience is counted by.

        Raises:
            ReferenceFailed: it did not come in time (``reference.qmp-timeout``), or as at
                construction.
        """
        limit = clock() + timeout
        while True:
            for event in self.events:
                if event.name in names:
                    self.events.remove(event)
                    return event
            if clock() >= limit:
                raise ReferenceFailed(
                    f"QEMU has not told {' or '.join(names)} in {timeout:g} s",
                    code="reference.qmp-timeout",
                    seconds=timeout,
                )
            message = self._message(time.monotonic() + 0.1, patient=True)
            if message:
                self._take(message)

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._socket.close()

    # --- inside -------------------------------------------------------------------------

    @staticmethod
    def _is_answer(message: dict[str, Any]) -> bool:
        return "return" in message or isinstance(message.get("error"), dict)

    def _take(self, message: dict[str, Any]) -> None:
        """A message that is no answer: an event, or a greeting, which may come twice."""
        try:
            if "QMP" in message:
                numbers = message["QMP"]["version"]["qemu"]
                self.version = f"{numbers['major']}.{numbers['minor']}.{numbers['micro']}"
            elif "event" in message:
                stamp = message.get("timestamp", {})
                seconds = stamp.get("seconds", 0) + stamp.get("microseconds", 0) / 1e6
                self.events.append(Event(str(message["event"]), message.get("data", {}), seconds))
        except (KeyError, TypeError, AttributeError) as exc:
            raise _nonsense(json.dumps(message)) from exc

    def _message(self, limit: float, *, patient: bool = False) -> dict[str, Any]:
        """The next message; with ``patient`` an empty one when none comes in time."""
        while b"\n" not in self._rest:
            left = limit - time.monotonic()
            try:
                self._socket.settimeout(max(left, 0.001))
                data = self._socket.recv(1 << 16)
            except TimeoutError as exc:
                if patient:
                    return {}
                raise self._silent("has not answered") from exc
            except OSError as exc:
                raise _lost() from exc
            if not data:
                raise _lost()
            self._rest += data
            if len(self._rest) > LONGEST:
                raise _nonsense(f"more than {LONGEST:,} bytes without an end")
        line, _, self._rest = self._rest.partition(b"\n")
        if not line.strip():
            return {}
        try:
            message: object = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise _nonsense(line[:80].decode("utf-8", "replace")) from exc
        if not isinstance(message, dict):
            raise _nonsense(line[:80].decode("utf-8", "replace"))
        return cast("dict[str, Any]", message)

    def _silent(self, what: str) -> ReferenceFailed:
        return ReferenceFailed(
            f"QEMU's monitor {what} for {self._silence:g} s",
            code="reference.qmp-timeout",
            seconds=self._silence,
        )


def _lost() -> ReferenceFailed:
    return ReferenceFailed("QEMU's monitor is gone", code="reference.qmp-lost")


def _nonsense(what: str) -> ReferenceFailed:
    return ReferenceFailed(
        f"QEMU's monitor says what is no QMP: {printable(what)[:200]}", code="reference.qmp"
    )
