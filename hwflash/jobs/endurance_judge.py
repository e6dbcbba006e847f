"""What a power cut has left of a variable store: a name for the state, and what is missing.

A variable that was being set may have its old or its new value; one that was set before has the
value that was set; one of the firmware's own may have any value, and must be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.qemu.cuts import FtwPhase
from hwflash.uefi.check import Report, check
from hwflash.uefi.difference import matcher
from hwflash.uefi.exchange import Variable, variables_of
from hwflash.uefi.find import Found, find_stores, read_at
from hwflash.uefi.flashops import Program
from hwflash.uefi.records import State
from hwflash.uefi.window import Window, filled_with, printable
from hwflash.units import Range

Key = tuple[str, UUID]
Value = tuple[int, bytes]
Verdict = Literal["kept", "recoverable", "broken", "lost"]

#: What each verdict means, in words.
MEANING: Final[dict[Verdict, str]] = {
    "kept": "every variable is there, nothing has to be done",
    "recoverable": "every variable is there; a write is to be finished or dropped first",
    "broken": "every variable is there; only a rescue makes a store of it again",
    "lost": "a variable is gone, or has a value that nobody has set",
}
#: After these the store is put back.
FAILED: Final[frozenset[Verdict]] = frozenset({"broken", "lost"})
#: Names told of one by one.
_TOLD: Final = 6


class Expected:
    """The variables that must be there.

    Args:
        variables: those that are there now.
        ignore: names, or ``name:guid``, that are not looked at; see
            `hwflash.uefi.difference.matcher`.

    Raises:
        UsageError: a pattern has no GUID behind its colon (``usage.guid``).
    """

    def __init__(self, variables: Iterable[Variable], ignore: Sequence[str] = ()) -> None:
        self._ignored = matcher(ignore)
        self._any: set[Key] = set()
        #: Values that are allowed; None is a variable that is not there.
        self._own: dict[Key, set[Value | None]] = {}
        self.settle(variables)

    def begin(self, key: Key, value: Value) -> None:
        """A variable is being set from here on: its old value or this one."""
        self._any.discard(key)
        self._own[key] = self._own.get(key, {None}) | {value}

    def done(self, key: Key, value: Value) -> None:
        """It is set."""
        self._own[key] = {value}

    def missing(self, variables: Iterable[Variable]) -> list[str]:
        """What is wrong with the variables that are there, in words."""
        found = {item.key: (item.attributes, item.data) for item in variables}
        wrong = [f"{printable(name)} is gone" for name, guid in self._any - found.keys()
                 if (name, guid) not in self._own]  # fmt: skip
        for key, allowed in self._own.items():
            value = found.get(key)
            if value not in allowed:
                what = "has a value that nobody has set" if value is not None else "is gone"
                wrong.append(f"{printable(key[0])} {what}")
        return sorted(wrong)

    def settle(self, variables: Iterable[Variable]) -> None:
        """Go on from what is there now."""
        found = {item.key: item for item in variables if not self._ignored(item)}
        for key in list(self._own):
            item = found.get(key)
            self._own[key] = {(item.attributes, item.data) if item is not None else None}
        self._any = set(found)


@dataclass(frozen=True, slots=True)
class Judged:
    """A store after a power cut.

    Attributes:
        state: what the cut has left, in a few words.
        verdict: see `MEANING`.
        why: what is wrong, or "".
        variables: what is there, or can be brought back.
        report: the store looked over; None where none is left.
    """

    state: str
    verdict: Verdict
    why: str
    variables: tuple[Variable, ...]
    report: Report | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is on the chip.

    Attributes:
        volume: all that belongs to it.
        variables, work, spare: its parts; the last two None where there are none.
    """

    volume: Range
    variables: Range
    work: Range | None
    spare: Range | None

    @classmethod
    def of(cls, found: Found) -> Place:
        """The place of a store that was found."""
        areas = found.areas
        return cls(Range(found.base, found.length), areas.variables, areas.work, areas.spare)

    def read(self, data: bytes) -> Found | None:
        """The store in the bytes of ``volume``; None when nothing is left that could be one."""
        window = Window(data, self.volume.address)
        with suppress(ImageError):
            return read_at(window, self.variables, self.work, self.spare)
        found = find_stores(window)
        return found[0] if found else None


def judge(place: Place, before: bytes, data: bytes, expected: Expected) -> Judged:
    """Look at what a cut has left.

    Args:
        place: where the store is.
        before: the volume when the board was switched on.
        data: the volume now.
        expected: what must be there.
    """
    found = place.read(data)
    if found is None:
        gone = "erased" if filled_with(data, 0xFF) else "no store"
        return Judged(gone, "lost", "there is no variable store any more", (), None)
    report = check(found)
    variables = tuple(variables_of(report.diagnosis.variables))
    state = _state(place, found, before, data)
    wrong = expected.missing(variables)
    if wrong:
        more = f" and {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else ""
        return Judged(state, "lost", ", ".join(wrong[:_TOLD]) + more, variables, report)
    if report.repair == "rescue":
        problems = [str(item) for item in report.problems if item.severity == "error"]
        return Judged(state, "broken", "; ".join(problems[:2]), variables, report)
    verdict: Verdict = "recoverable" if report.repair == "recover" else "kept"
    return Judged(state, verdict, "", variables, report)


def _state(place: Place, found: Found, before: bytes, data: bytes) -> str:
    """The phase of a fault-tolerant write, or what the last record looks like."""
    if found.volume is None or not found.volume.checksum_ok:
        return "volume header not whole"
    with suppress(ImageError):
        front = b"\xff" * place.volume.address
        phase = FtwPhase(found.areas)
        phase(None, front + before)
        name = phase(Program(place.volume.address, b"\0"), front + data)
        if name not in ("before", "complete"):
            return f"write of the store: {name}"
    if found.store is None:
        return "store header not whole"
    return _of_records(found)


def _of_records(found: Found) -> str:
    store = found.store
    assert store is not None  # noqa: S101 - the caller has looked
    states = [item.state for item in store.records]
    if any(item.sizes_erased for item in store.records):
        return "record: header half written"
    if State.HEADER_VALID_ONLY in states:
        return "record: header written, data not complete"
    if State.IN_DELETED_TRANSITION in states:
        added = {item.key for item in store.records if item.state == State.ADDED}
        between = [item for item in store.records if item.state == State.IN_DELETED_TRANSITION]
        if any(item.key in added for item in between):
            return "record: old and new value both there"
        return "record: old value in transition, new one not there"
    if not filled_with(store.tail, 0xFF):
        return "record: first bytes written"
    return "at rest"
