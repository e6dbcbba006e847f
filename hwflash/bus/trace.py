"""Bus traffic on disk: recorded batch by batch, and served again.

A trace is JSON Lines. The first line is a header (version, SCK, longest transfer); each further
line is a batch: its operations, the answers, and the time of the bus's clock when it was over::

    {"trace": 1, "frequency": 30000000.0, "simulated": true}
    {"ops": [["ab", 0], 3.5e-05, ["9f", 6]], "answers": ["ef40180000000000"], "time": 0.000251}

An operation is ``[bytes out, count in]``, or a number of seconds to wait; waits have no answer.
Bytes are hex; a run of one value is ``ff*4096``.

A replayed trace keeps the recorded time, so that whatever depends on time (polls, time-outs, the
adaptive wait of the page pipeline) goes the way it went.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, cast

from hwflash.bus.abilities import NO_LIMITS, Limits, limits_of
from hwflash.bus.spi import BusStats, Clock, Op, SpiBus, Transfer, Wait
from hwflash.errors import EnvironmentFault, ImageError, ProgrammerError

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
        return op.seconds
    return [encode_bytes(op.write), op.read]


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

    def close(self) -> None:
        """Close the bus and the trace. May be called twice."""
        try:
            self._bus.close()
        finally:
            if self._stream is not None:
                self._stream.close()
                self._stream = None

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


class ReplayClock:
    """Time as it was recorded."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Seconds of recorded time."""
        return self._now

    def sleep(self, seconds: float, /) -> None:
        """Let ``seconds`` pass at once."""
        self._now += max(seconds, 0.0)

    def set(self, instant: float) -> None:
        """Move on to a recorded instant."""
        self._now = max(self._now, instant)


class ReplayBus:
    """A bus that answers from a trace and accepts nothing but what is in it.

    Args:
        path: file of the trace.

    Raises:
        EnvironmentFault: it cannot be read (``trace.unreadable``).
        ImageError: it is no trace (``trace.malformed``).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as exc:
            raise EnvironmentFault(
                f"the trace {path} cannot be read: {exc.strerror}",
                code="trace.unreadable",
                path=str(path),
            ) from exc
        except UnicodeDecodeError as exc:
            raise self._malformed(1, "it is not text") from exc
        self._lines = [self._object(number, text) for number, text in enumerate(lines, 1)]
        header = self._lines[0] if self._lines else {}
        if header.get("trace") != VERSION or not isinstance(header.get("frequency"), float):
            raise self._malformed(1, f"it has no header of version {VERSION}")
        self._frequency = float(header["frequency"])
        limits = header.get("limits")
        self._limits = Limits(*limits) if limits else NO_LIMITS
        self.simulated = bool(header.get("simulated"))
        self._next = 1
        self._clock = ReplayClock()
        self._stats = BusStats()
        self._failed = False

    @property
    def clock(self) -> Clock:
        """Recorded time."""
        return self._clock

    @property
    def stats(self) -> BusStats:
        """Bytes clocked; a replay has no transfers."""
        return self._stats

    @property
    def frequency(self) -> float:
        """SCK of the recorded bus."""
        return self._frequency

    @property
    def limits(self) -> Limits:
        """Longest transfer of the recorded bus."""
        return self._limits

    def execute(self, ops: Sequence[Op], /) -> list[bytes]:
        """Answer a batch from the next line.

        Raises:
            ProgrammerError: the batch is not the recorded one (``trace.mismatch``), the trace
                is at its end (``trace.ended``), or the recorded batch had failed
                (``trace.failed``).
        """
        number = self._next + 1
        if self._next >= len(self._lines):
            raise self._differs(
                "trace.ended", number, "the trace ends here", None, _show(ops[0] if ops else None)
            )
        line = self._lines[self._next]
        recorded = line.get("ops")
        if not isinstance(recorded, list):
            raise self._malformed(number, "it has no operations")
        self._compare(number, cast("list[Any]", recorded), ops)
        if "failed" in line:
            self._failed = True
            raise ProgrammerError(
                f"line {number} of {self._path} is a batch that failed: {line['failed']}",
                code="trace.failed",
                line=number,
                cause=str(line["failed"]),
            )
        dealt = self._answers(number, line, ops)
        self._next += 1
        self._clock.set(float(line.get("time", 0.0)))
        return dealt

    def close(self) -> None:
        """Nothing is held. May be called twice."""

    def finish(self) -> None:
        """Say whether all of the trace was used.

        Raises:
            ProgrammerError: the job sent less than what was recorded (``trace.unfinished``).
        """
        if not self._failed and self._next < len(self._lines):
            ops = cast("list[Any]", self._lines[self._next].get("ops") or [None])
            raise self._differs(
                "trace.unfinished", self._next + 1, "the trace goes on", ops[0], None
            )

    # --- inside -----------------------------------------------------------------------------

    def _compare(self, number: int, recorded: list[Any], ops: Sequence[Op]) -> None:
        sent = [encode_op(op) for op in ops]
        if sent == recorded:
            return
        place = next(
            (at for at, pair in enumerate(zip(recorded, sent, strict=False)) if pair[0] != pair[1]),
            min(len(recorded), len(sent)),
        )
        expected = recorded[place] if place < len(recorded) else None
        found = sent[place] if place < len(sent) else None
        what = f"operation {place + 1} of the batch differs"
        raise self._differs("trace.mismatch", number, what, expected, found)

    def _answers(self, number: int, line: dict[str, Any], ops: Sequence[Op]) -> list[bytes]:
        try:
            answers = iter([decode_bytes(text) for text in line["answers"]])
            dealt = [next(answers) if isinstance(op, Transfer) else b"" for op in ops]
        except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as exc:
            raise self._malformed(number, "its answers are not as many, or no bytes") from exc
        for op, answer in zip(ops, dealt, strict=True):
            if isinstance(op, Transfer):
                if len(answer) != op.read:
                    raise self._malformed(number, f"an answer has {len(answer)} bytes")
                self._stats.sck_bytes += len(op.write) + op.read
        return dealt

    def _differs(
        self, code: str, number: int, what: str, expected: object, found: object
    ) -> ProgrammerError:
        self._failed = True
        return ProgrammerError(
            f"line {number} of {self._path}: {what}: recorded {_text(expected)}, "
            f"now {_text(found)}",
            code=code,
            path=str(self._path),
            line=number,
            expected=expected,
            found=found,
        )

    def _malformed(self, number: int, what: str) -> ImageError:
        self._failed = True
        return ImageError(
            f"line {number} of {self._path} is not of a trace: {what}",
            code="trace.malformed",
            path=str(self._path),
            line=number,
        )

    def _object(self, number: int, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except ValueError as exc:
            raise self._malformed(number, "it is no JSON") from exc
        if not isinstance(found, dict):
            raise self._malformed(number, "it is no JSON object")
        return cast("dict[str, Any]", found)


def _show(op: Op | None) -> object:
    return None if op is None else encode_op(op)


def _text(op: object) -> str:
    if op is None:
        return "nothing"
    if isinstance(op, list):
        write, read = cast("tuple[str, int]", op)
        return f"{write or '-'} then {read} in"
    return f"a wait of {op} s"
