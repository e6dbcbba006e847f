"""A recorded trace in place of a programmer.

A replayed trace keeps the recorded time, so that whatever depends on time (polls, time-outs, the
adaptive wait of the page pipeline) goes the way it went.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from hwflash.bus.abilities import NO_LIMITS, Limits
from hwflash.bus.spi import BusStats, Op, Transfer
from hwflash.bus.trace import VERSION, decode_bytes, encode_op, encode_sck
from hwflash.errors import EnvironmentFault, ImageError, ProgrammerError
from hwflash.units import format_hz


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
        self.frequency = float(header["frequency"])
        limits = header.get("limits")
        self.limits = Limits(*limits) if limits else NO_LIMITS
        self.simulated = bool(header.get("simulated"))
        self._next = 1
        self.clock = ReplayClock()
        self.stats = BusStats()
        self._failed = False

    def execute(self, ops: Sequence[Op], /) -> list[bytes]:
        """Answer a batch from the next line.

        Raises:
            ProgrammerError: the batch is not the recorded one (``trace.mismatch``), the trace
                is at its end (``trace.ended``), or the recorded batch had failed
                (``trace.failed``).
        """
        line, number = self._match([encode_op(op) for op in ops])
        dealt = self._answers(number, line, ops)
        self._next += 1
        self.clock.set(float(line.get("time", 0.0)))
        return dealt

    def set_frequency(self, hertz: float, /) -> None:
        """Change SCK as it was changed when the trace was recorded; see `execute` for errors."""
        line, number = self._match([encode_sck(hertz)])
        if not isinstance(line.get("frequency"), (int, float)):
            raise self._malformed(number, "it has no frequency")
        self.frequency = float(line["frequency"])
        self._next += 1

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

    def _match(self, sent: list[Any]) -> tuple[dict[str, Any], int]:
        """The next line and its number, if it is what was sent."""
        number = self._next + 1
        if self._next >= len(self._lines):
            raise self._differs(
                "trace.ended", number, "the trace ends here", None, sent[0] if sent else None
            )
        line = self._lines[self._next]
        recorded = line.get("ops")
        if not isinstance(recorded, list):
            raise self._malformed(number, "it has no operations")
        self._compare(number, cast("list[Any]", recorded), sent)
        if "failed" in line:
            self._failed = True
            raise ProgrammerError(
                f"line {number} of {self._path} is a batch that failed: {line['failed']}",
                code="trace.failed",
                line=number,
                cause=str(line["failed"]),
            )
        return line, number

    def _compare(self, number: int, recorded: list[Any], sent: list[Any]) -> None:
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
                self.stats.sck_bytes += len(op.write) + op.read
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


def _text(op: object) -> str:
    match op:
        case None:
            return "nothing"
        case [str(write), int(read)]:
            return f"{write or '-'} then {read} in"
        case {"sck": float(hertz)}:
            return f"SCK {format_hz(hertz)}"
        case _:
            return f"a wait of {op} s"
