"""Bus traffic on disk, batch by batch; `hwflash.bus.replay` serves it again.

A trace is JSON Lines. The first line is a header (version, SCK, longest transfer); each further
line is a batch: its operations, the answers, and the time of the bus's clock when it was over::

    {"trace": 1, "frequency": 30000000.0, "simulated": true}
    {"ops": [["ab", 0], 3.5e-05, ["9f", 6]], "answers": ["ef40180000000000"], "time": 0.000251}

An operation is ``[bytes out, count in]``, or a number of seconds to wait; waits have no answer.
A change of SCK is a batch of its own, ``{"ops": [{"sck": wanted}], "frequency": what it became}``.
Bytes are hex; a run of one value is ``ff*4096``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from hwflash.bus.abilities import NO_LIMITS, Limits, limits_of
from hwflash.bus.spi import BusStats, Clock, Op, SpiBus, Transfer, Wait
from hwflash.errors import EnvironmentFault

_log = logging.getLogger(__name__)

VERSION: Final = 1
_RUN: Final = 8


def encode_bytes(data: bytes) -> str:
    """Bytes as they stand in a trace."""
    if len(data) > _RUN and data == data[:1] * len(data):
        return f"{data[:1].hex()}*{len(data)}"
    return data.hex()


def decode_bytes(text: str) -> bytes:
    """The reverse of `encode_bytes`.

    Raises:
        ValueError: not bytes as they stand in a trace.
    """
    value, star, count = text.partition("*")
    data = bytes.fromhex(value)
    if star and (len(data) != 1 or int(count) < 1):
        raise ValueError(text)
    return data * int(count) if star else data


def encode_op(op: Op) -> list[object] | float:
    """An operation as it stands in a trace."""
    if isinstance(op, Wait):
        return round(op.seconds, 9)
    return [encode_bytes(op.write), op.read]


def encode_sck(hertz: float) -> dict[str, float]:
    """A change of SCK as it stands in a trace."""
    return {"sck": float(hertz)}


class RecordingBus:
    """A bus that carries what another one does, and writes it down.

    A trace that cannot be written (a full disk) never stops a job: half a write is worse than
    half a trace. `finish` tells.

    Args:
        bus: the bus that does the work; closed with this one.
        path: file of the trace; replaced.
        simulated: time on that bus is modelled.

    Raises:
        EnvironmentFault: the file cannot be made (``trace.unwritable``).
    """

    def __init__(self, bus: SpiBus, path: Path, *, simulated: bool = False) -> None:
        self._bus = bus
        self._path = path
        self._failure: OSError | None = None
        try:
            self._stream: IO[str] | None = path.open("w", encoding="utf-8", buffering=1)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        limits = limits_of(bus)
        header: dict[str, object] = {
            "trace": VERSION,
            "frequency": bus.frequency,
            "simulated": simulated,
        }
        if limits != NO_LIMITS:
            header["limits"] = [limits.write, limits.read]
        self._write(header)

    @property
    def clock(self) -> Clock:
        """The clock of the bus that does the work."""
        return self._bus.clock

    @property
    def stats(self) -> BusStats:
        """What that bus has carried."""
        return self._bus.stats

    @property
    def frequency(self) -> float:
        """That bus's SCK in hertz."""
        return self._bus.frequency

    @property
    def limits(self) -> Limits:
        """That bus's longest transfer."""
        return limits_of(self._bus)

    def execute(self, ops: Sequence[Op], /) -> list[bytes]:
        """Carry out a batch and write it down; one that failed is there with the reason."""
        line: dict[str, object] = {"ops": [encode_op(op) for op in ops]}
        try:
            answers = self._bus.execute(ops)
        except BaseException as exc:
            self._write({**line, "failed": getattr(exc, "code", type(exc).__name__)})
            raise
        line["answers"] = [
            encode_bytes(answer)
            for op, answer in zip(ops, answers, strict=True)
            if isinstance(op, Transfer)
        ]
        self._write({**line, "time": round(self._bus.clock.now(), 9)})
        return answers

    def set_frequency(self, hertz: float, /) -> None:
        """Change SCK and write it down."""
        self._bus.set_frequency(hertz)
        self._write({"ops": [encode_sck(hertz)], "frequency": self._bus.frequency})

    def close(self) -> None:
        """Close the bus and the trace. May be called twice."""
        try:
            self._bus.close()
        finally:
            stream, self._stream = self._stream, None
            if stream is not None:
                try:
                    stream.close()
                except OSError as exc:
                    self._failure = self._failure or exc

    def finish(self) -> None:
        """Close, and say whether the trace is whole.

        Raises:
            EnvironmentFault: it could not be written to its end (``trace.unwritable``).
        """
        self.close()
        if self._failure is not None:
            raise self._unwritable(self._failure) from self._failure

    def _write(self, line: dict[str, object]) -> None:
        if self._stream is None or self._failure is not None:
            return
        try:
            self._stream.write(json.dumps(line) + "\n")
        except OSError as exc:
            self._failure = exc
            _log.error("the trace %s ends here: %s", self._path, exc.strerror)

    def _unwritable(self, exc: OSError) -> EnvironmentFault:
        return EnvironmentFault(
            f"the trace {self._path} cannot be written: {exc.strerror}",
            code="trace.unwritable",
            path=str(self._path),
        )
