"""Questions and answers over a byte stream: pipelining, and finding the way back in step.

Commands are sent ahead of their answers as long as the bytes not yet acknowledged fit the
device's serial buffer.

Ref: flashrom, Documentation/serprog-protocol.txt (SYNCNOP, Q_SERBUF).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from hwflash.bus import serprog_protocol as sp
from hwflash.bus.links import CHUNK, Link
from hwflash.bus.spi import BusStats
from hwflash.errors import ProgrammerError, ProgrammerLost

#: Of a device that does not tell: what every serial port's hardware has.
DEFAULT_SERIAL_BUFFER: Final = 16
SYNC_ATTEMPTS: Final = 8
FILL: Final = 8
#: Bytes of nonsense after which a try to get in step is given up.
BABBLE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        data: opcode and parameters.
        reply: bytes that follow the ACK.
        seconds: least time it keeps the device busy.
        wanted: the answer belongs to the caller's list.
    """

    data: bytes
    reply: int = 0
    seconds: float = 0.0
    wanted: bool = False


class Refused(ProgrammerError):
    """The device answered NAK; it stays in step and usable."""

    code = "programmer.serprog-nak"


class Exchange:
    """Commands out, answers in.

    Args:
        link: the byte stream.
        stats: where writes, reads and bytes are counted.
        timeout: seconds without a byte, beyond what the device needs, that mean it is gone.
        sync_timeout: seconds to wait for the answer to each SYNCNOP.

    Attributes:
        serial_buffer: bytes of unacknowledged commands the device can hold.
    """

    def __init__(self, link: Link, stats: BusStats, *, timeout: float, sync_timeout: float) -> None:
        self._link = link
        self._stats = stats
        self._timeout = timeout
        self._sync_timeout = sync_timeout
        self.serial_buffer = DEFAULT_SERIAL_BUFFER
        self._forget()

    def _forget(self) -> None:
        self._received = bytearray()
        self._unsent = bytearray()
        self._outstanding: deque[Command] = deque()
        self._in_flight = 0
        self._owed = 0.0
        self._answers: list[bytes] = []

    # --- commands -------------------------------------------------------------------------

    def ask(self, data: bytes, reply: int = 0) -> bytes:
        """One command and its answer, nothing else under way.

        Raises:
            Refused: NAK.
            ProgrammerLost: silence (``programmer.serprog-timeout``), an answer that is none
                (``programmer.serprog-garbage``), or the link ended.
        """
        self.post(Command(data, reply, wanted=True))
        return self.settle()[0]

    def post(self, command: Command) -> None:
        """Send a command as soon as the device's buffer has room; see `ask` for errors."""
        window = min(self.serial_buffer, self._link.window)
        if self._outstanding and self._in_flight + len(command.data) > window:
            self._send()
            # Down to half, so that the next write carries many commands and not one.
            while self._outstanding and self._in_flight + len(command.data) > window // 2:
                self._collect()
        self._outstanding.append(command)
        self._unsent += command.data
        self._in_flight += len(command.data)
        self._owed += command.seconds + self._link.byte_seconds * (
            len(command.data) + 1 + command.reply
        )

    def settle(self) -> list[bytes]:
        """Wait for every answer; those wanted, in order, since the last call."""
        self._send()
        while self._outstanding:
            self._collect()
        self._owed = 0.0
        answers, self._answers = self._answers, []
        return answers

    def _send(self) -> None:
        if self._unsent:
            data, self._unsent = bytes(self._unsent), bytearray()
            self._stats.usb_out += 1
            self._stats.bytes_out += len(data)
            self._link.write(data)

    def _collect(self) -> None:
        command, accepted, answer = self._next_answer()
        if not accepted:
            self._drain_answers()
            raise Refused(
                f"{self._link.name} refused command {command.data[0]:02X}h "
                f"({len(command.data)} bytes out, {command.reply} in)",
                device=self._link.name,
                command=command.data[:16].hex(),
                reply=command.reply,
            )
        if command.wanted:
            self._answers.append(answer)

    def _next_answer(self) -> tuple[Command, bool, bytes]:
        first = self._take(1)[0]
        if first not in (sp.ACK, sp.NAK):
            raise ProgrammerLost(
                f"{self._link.name} answered {first:02X}h, which is neither ACK nor NAK: "
                "it is out of step with the commands",
                code="programmer.serprog-garbage",
                device=self._link.name,
                found=f"{first:02x}",
            )
        command = self._outstanding[0]
        answer = self._take(command.reply) if first == sp.ACK else b""
        self._outstanding.popleft()
        self._in_flight -= len(command.data)
        return command, first == sp.ACK, answer

    def _drain_answers(self) -> None:
        """After a NAK: what was sent behind it is answered too, and nobody wants it."""
        self._send()
        while self._outstanding:
            self._next_answer()
        self._answers = []
        self._owed = 0.0

    def _take(self, count: int) -> bytes:
        while len(self._received) < count:
            piece = self._link.read(CHUNK, self._timeout + 2 * self._owed)
            if not piece:
                raise ProgrammerLost(
                    f"{self._link.name} does not answer",
                    code="programmer.serprog-timeout",
                    device=self._link.name,
                    expected=count,
                    found=len(self._received),
                )
            self._stats.usb_in += 1
            self._stats.bytes_in += len(piece)
            self._received += piece
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    # --- getting in step --------------------------------------------------------------------

    def synchronise(self) -> None:
        """Make the device wait for a command, whatever it was doing before.

        SYNCNOP is answered NAK and ACK, which nothing else is. A device left in the middle of
        a command takes what comes as its parameters, so each try that fails is followed by
        one with more NOPs before it. Two answers running, with nothing between and behind
        them, prove that the first was not a piece of something older.

        Raises:
            ProgrammerError: no try succeeded (``programmer.serprog-sync``).
            ProgrammerLost: the link ended.
        """
        self._forget()
        heard = bytearray()
        for attempt in range(SYNC_ATTEMPTS):
            fill = bytes((sp.NOP,)) * (FILL << (attempt - 1) if attempt else 0)
            self._discard(heard)
            self._link.write(fill + bytes((sp.SYNCNOP,)))
            if self._hears_sync(heard, len(fill)) and self._confirms():
                return
        raise ProgrammerError(
            f"{self._link.name} does not speak serprog: "
            + (f"it answers {bytes(heard[:8]).hex()}" if heard else "it is silent"),
            code="programmer.serprog-sync",
            device=self._link.name,
            heard=bytes(heard[:16]).hex(),
        )

    def _hears_sync(self, heard: bytearray, fill: int) -> bool:
        seconds = self._sync_timeout + 2 * fill * self._link.byte_seconds
        tail = b""
        received = 0
        # Bounded in bytes too: a device that talks without end never falls silent.
        while received < BABBLE:
            piece = self._link.read(CHUNK, seconds)
            if not piece:
                return False
            received += len(piece)
            heard += piece[: 16 - len(heard)] if len(heard) < 16 else b""
            tail = (tail + piece)[-2:]
            if tail == sp.SYNC_ANSWER:
                return True
        return False

    def _confirms(self) -> bool:
        self._link.write(bytes((sp.SYNCNOP,)))
        answer = b""
        while len(answer) < len(sp.SYNC_ANSWER):
            piece = self._link.read(CHUNK, self._sync_timeout)
            if not piece:
                return False
            answer += piece
        return answer == sp.SYNC_ANSWER and not self._link.read(1, 0.0)

    def _discard(self, heard: bytearray) -> None:
        received = 0
        while received < BABBLE and (piece := self._link.read(CHUNK, 0.0)):
            received += len(piece)
            heard += piece[: 16 - len(heard)] if len(heard) < 16 else b""
