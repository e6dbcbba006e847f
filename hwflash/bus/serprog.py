"""SPI through a serprog box: flashrom's serial flasher protocol over TCP or a serial port.

Ref: flashrom, Documentation/serprog-protocol.txt (version 1).
Limits: SPI; one chip-select window is one SPI operation (13h), so a window longer than the
device's maximum cannot be carried; `SerprogBus.limits` tells the layers above.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Final

from hwflash.bus import serprog_protocol as sp
from hwflash.bus.abilities import Limits
from hwflash.bus.links import Link
from hwflash.bus.serprog_exchange import Command, Exchange, Refused
from hwflash.bus.spi import BusStats, Op, RealClock, Transfer
from hwflash.errors import ProgrammerBusy, ProgrammerError, ProgrammerLost

_log = logging.getLogger(__name__)

TIMEOUT: Final = 5.0
SYNC_TIMEOUT: Final = 1.0
#: One delay on the device; a longer wait is several, so that no answer is long in coming.
DELAY_PIECE: Final = 0.5
#: Identifying a chip takes commands of 5 bytes and answers of 8.
LEAST_LENGTH: Final = 16


class SerprogBus:
    """`hwflash.bus.spi.SpiBus` over a serprog device.

    Args:
        link: the byte stream to it; closed with the bus, also when opening fails.
        frequency: highest SCK in hertz. A device that cannot be told keeps its own, and this
            is what `frequency` says then.
        timeout: seconds without a byte, beyond what the device needs, that mean it is gone.
        sync_timeout: seconds to wait for each answer while getting in step.

    Raises:
        ProgrammerBusy: a server that has another client (``programmer.serprog-busy``).
        ProgrammerError: not a serprog device that can do SPI: ``programmer.serprog-sync``,
            ``-version``, ``-no-spi``, ``-buffer``, ``-limits``, ``-pins``.
        ProgrammerLost: it stopped answering.
    """

    def __init__(
        self,
        link: Link,
        *,
        frequency: float,
        timeout: float = TIMEOUT,
        sync_timeout: float = SYNC_TIMEOUT,
    ) -> None:
        self._link = link
        self.clock = RealClock()
        self.stats = BusStats()
        self._broken: ProgrammerError | None = None
        self._closed = False
        self._drives = False
        self._exchange = Exchange(link, self.stats, timeout=timeout, sync_timeout=sync_timeout)
        self.device_name = ""
        try:
            self._synchronise()
            self._offered = self._commands()
            self._require_spi()
            self._exchange.serial_buffer = self._serial_buffer()
            self.limits = self._query_limits()
            self.device_name = self._query_name()
            self._delays = self._prepare_delays()
            self.frequency = frequency
            self.set_frequency(frequency)
            self._enable_pins()
        except BaseException:
            self._link.close()
            raise

    # --- the protocol -----------------------------------------------------------------------

    def execute(self, ops: Sequence[Op], /) -> list[bytes]:
        """Carry out a batch; see `hwflash.bus.spi.SpiBus.execute`.

        Raises:
            ProgrammerError: a transfer is longer than the device's maximum and nothing was
                sent (``programmer.serprog-length``), or the device refused an operation
                (``programmer.serprog-nak``). The bus stays usable.
            ProgrammerLost: silence or nonsense. The bus stays usable if the device could be
                brought back in step.
        """
        self._require_open()
        for op in ops:
            self._require_length(op)
        try:
            answers = iter(self._run(ops))
        except ProgrammerLost as exc:
            self._recover(exc)
            raise
        dealt: list[bytes] = []
        for op in ops:
            dealt.append(next(answers) if isinstance(op, Transfer) else b"")
            if isinstance(op, Transfer):
                self.stats.sck_bytes += len(op.write) + op.read
        return dealt

    def set_frequency(self, hertz: float, /) -> None:
        """Change SCK, if the device can; see `execute` for errors."""
        self._require_open()
        if sp.S_SPI_FREQ not in self._offered:
            return
        wanted = min(max(int(hertz), 1), 0xFFFFFFFF)
        try:
            data = bytes((sp.S_SPI_FREQ,)) + wanted.to_bytes(4, "little")
            found = int.from_bytes(self._exchange.ask(data, 4), "little")
        except Refused:
            _log.warning("%s does not take %d Hz as SCK", self._link.name, wanted)
            return
        except ProgrammerLost as exc:
            self._recover(exc)
            raise
        self.frequency = float(found or wanted)

    def close(self) -> None:
        """Let go of the chip's pins and of the link. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._drives and self._broken is None:
                self._exchange.ask(bytes((sp.S_PIN_STATE, 0)))
        except ProgrammerError as exc:
            _log.warning("%s: could not release the pins: %s", self._link.name, exc)
        finally:
            self._link.close()

    # --- opening ----------------------------------------------------------------------------

    def _synchronise(self) -> None:
        try:
            self._exchange.synchronise()
        except ProgrammerLost as exc:
            if exc.code != "programmer.serprog-closed":
                raise
            raise ProgrammerBusy(
                f"{self._link.name} closed the connection at once; "
                "it may be serving another client",
                code="programmer.serprog-busy",
                device=self._link.name,
            ) from exc

    def _commands(self) -> frozenset[int]:
        version = int.from_bytes(self._required(sp.Q_IFACE, 2, "version"), "little")
        if version != sp.VERSION:
            raise ProgrammerError(
                f"{self._link.name} speaks serprog version {version}, not {sp.VERSION}",
                code="programmer.serprog-version",
                device=self._link.name,
                found=version,
                expected=sp.VERSION,
            )
        return sp.commands_in(self._required(sp.Q_CMDMAP, sp.MAP_LENGTH, "version"))

    def _require_spi(self) -> None:
        buses = self._optional(sp.Q_BUSTYPE, 1)
        able = sp.O_SPIOP in self._offered and (buses is None or buses[0] & sp.BUS_SPI)
        if able and sp.S_BUSTYPE in self._offered:
            try:
                self._exchange.ask(bytes((sp.S_BUSTYPE, sp.BUS_SPI)))
            except Refused:
                able = False
        if not able:
            raise ProgrammerError(
                f"{self._link.name} is not for SPI chips",
                code="programmer.serprog-no-spi",
                device=self._link.name,
                buses=buses[0] if buses is not None else None,
            )

    def _serial_buffer(self) -> int:
        answer = self._optional(sp.Q_SERBUF, 2)
        if answer is None:
            return self._exchange.serial_buffer
        size = int.from_bytes(answer, "little")
        if size == 0:
            raise ProgrammerError(
                f"{self._link.name} says that its serial buffer has 0 bytes",
                code="programmer.serprog-buffer",
                device=self._link.name,
            )
        return size

    def _query_limits(self) -> Limits:
        lengths: list[int] = []
        for opcode in (sp.Q_WRNMAXLEN, sp.Q_RDNMAXLEN):
            answer = self._optional(opcode, 3)
            said = int.from_bytes(answer, "little") if answer is not None else 0
            lengths.append(said or sp.LENGTH_LIMIT)
        limits = Limits(*lengths)
        if min(limits.write, limits.read) < LEAST_LENGTH:
            raise ProgrammerError(
                f"{self._link.name} takes {limits.write} bytes and gives {limits.read} bytes "
                f"per operation; {LEAST_LENGTH} are needed",
                code="programmer.serprog-limits",
                device=self._link.name,
                write=limits.write,
                read=limits.read,
            )
        return limits

    def _query_name(self) -> str:
        answer = self._optional(sp.Q_PGMNAME, sp.NAME_LENGTH) or b""
        text = answer.partition(b"\0")[0].decode("ascii", "replace")
        return "".join(char if char.isprintable() else "?" for char in text)

    def _prepare_delays(self) -> bool:
        """Whether waits can be queued on the device; else the computer's clock makes them."""
        if not {sp.O_INIT, sp.O_DELAY, sp.O_EXEC} <= self._offered:
            return False
        answer = self._optional(sp.Q_OPBUF, 2)
        if answer is not None and int.from_bytes(answer, "little") < sp.DELAY_SIZE:
            return False
        try:
            self._exchange.ask(bytes((sp.O_INIT,)))
        except Refused:
            return False
        return True

    def _enable_pins(self) -> None:
        if sp.S_PIN_STATE not in self._offered:
            return
        try:
            self._exchange.ask(bytes((sp.S_PIN_STATE, 1)))
        except Refused as exc:
            raise ProgrammerError(
                f"{self._link.name} does not drive its pins",
                code="programmer.serprog-pins",
                device=self._link.name,
            ) from exc
        self._drives = True

    def _required(self, opcode: int, reply: int, what: str) -> bytes:
        try:
            return self._exchange.ask(bytes((opcode,)), reply)
        except Refused as exc:
            raise ProgrammerError(
                f"{self._link.name} refuses command {opcode:02X}h, which every device has",
                code=f"programmer.serprog-{what}",
                device=self._link.name,
                command=f"{opcode:02x}",
            ) from exc

    def _optional(self, opcode: int, reply: int) -> bytes | None:
        if opcode not in self._offered:
            return None
        try:
            return self._exchange.ask(bytes((opcode,)), reply)
        except Refused:
            return None

    # --- batches ----------------------------------------------------------------------------

    def _run(self, ops: Sequence[Op]) -> list[bytes]:
        answers: list[bytes] = []
        for op in ops:
            if isinstance(op, Transfer):
                seconds = 8 * (len(op.write) + op.read) / self.frequency
                command = Command(sp.spiop(op.write, op.read), op.read, seconds, wanted=True)
                self._exchange.post(command)
            elif op.seconds > 0 and self._delays:
                for command in _delay_commands(op.seconds):
                    self._exchange.post(command)
            elif op.seconds > 0:
                answers += self._exchange.settle()
                self.clock.sleep(op.seconds)
        return answers + self._exchange.settle()

    def _recover(self, error: ProgrammerLost) -> None:
        """Bring the device back in step; what was under way is lost all the same."""
        try:
            self._exchange.synchronise()
            if self._delays:
                self._exchange.ask(bytes((sp.O_INIT,)))
        except ProgrammerError:
            self._broken = error

    def _require_open(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._closed:
            raise ProgrammerLost(f"{self._link.name} has been closed", device=self._link.name)

    def _require_length(self, op: Op) -> None:
        if not isinstance(op, Transfer):
            return
        if len(op.write) > self.limits.write or op.read > self.limits.read:
            raise ProgrammerError(
                f"{self._link.name} takes {self.limits.write} bytes and gives "
                f"{self.limits.read} bytes per operation; this one has {len(op.write)} and "
                f"{op.read}",
                code="programmer.serprog-length",
                device=self._link.name,
                write=len(op.write),
                read=op.read,
            )


def _delay_commands(seconds: float) -> Iterator[Command]:
    left = math.ceil(seconds * 1e6)
    piece = int(DELAY_PIECE * 1e6)
    while left > 0:
        now = min(left, piece)
        yield Command(sp.delay(now))
        yield Command(bytes((sp.O_EXEC,)), seconds=now / 1e6)
        left -= now
