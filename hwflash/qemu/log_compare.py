"""Two debug logs held against each other, by event: a board's and its reference's.

Addresses, sizes that depend on history and line numbers are no difference (`Event.key`); nor is
how often a protocol is installed or a driver loaded, which depends on the devices there are.

Limits: drivers without name and GUID cannot be told apart, and are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hwflash.qemu.debuglog_acpi import (
    AddChecksum,
    AddPointer,
    Allocate,
    BootScriptStep,
    CondensedPointer,
    WritePointer,
)
from hwflash.qemu.debuglog_events import (
    Assert,
    CpuException,
    DriverLoad,
    Event,
    Message,
    ProtocolInstall,
    SetVariable,
    Start,
    StartFailed,
)
from hwflash.qemu.debuglog_story import PROTOCOLS, store_role

Side = Literal["log", "reference", "both"]

#: Messages whose number or presence depends on what a store went through, or on the size of a
#: script, and not on the firmware.
_UNSTEADY: Final = frozenset({"remaining", "padding", "pei"})


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not the same.

    Attributes:
        side: where it is: in the log only, in the reference only, or in both and unlike.
        text: what, in words.
        line: in that log; of the log if it is in both.
    """

    side: Side
    text: str
    line: int

    def keys(self) -> dict[str, Any]:
        """As JSON."""
        return {"side": self.side, "text": self.text, "line": self.line}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was compared.

    Attributes:
        name: what.
        expected: the reference's, in short.
        found: the log's.
        differences: in order, the log's first.
        seconds: that the comparison took.
    """

    name: str
    expected: str
    found: str
    differences: tuple[Difference, ...]
    seconds: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def keys(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "ok": self.ok,
            "expected": self.expected,
            "found": self.found,
            "seconds": round(self.seconds, 6),
            "differences": [item.keys() for item in self.differences],
        }


def compare(log: Sequence[Event], reference: Sequence[Event]) -> tuple[Step, ...]:
    """Compare two logs.

    Args:
        log: events of the log in question.
        reference: events of what it should be like.

    Returns:
        One step for each thing compared, those without a difference too.
    """
    steps: list[Step] = []
    for make in _STEPS:
        begun = time.perf_counter()
        step = make(log, reference)
        spent = time.perf_counter() - begun
        steps.append(Step(step.name, step.expected, step.found, step.differences, spent))
    return tuple(steps)


# --- what is compared -----------------------------------------------------------------------

_Make = Callable[[Sequence[Event], Sequence[Event]], Step]
_Choose = Callable[[Event], bool]


def _boots(log: Sequence[Event], reference: Sequence[Event]) -> Step:
    found, expected = _starts(log), _starts(reference)
    differences: tuple[Difference, ...] = ()
    if found != expected:
        text = f"{found}, reference: {expected}"
        differences = (Difference("both", text, log[0].line if log else 0),)
    return Step("boots", expected, found, differences)


def _starts(events: Iterable[Event]) -> str:
    starts = [event for event in events if isinstance(event, Start)]
    resumes = sum(event.resume for event in starts)
    return f"{_count(len(starts) - resumes, 'start')}, {_count(resumes, 'resume')} from S3"


def _drivers(log: Sequence[Event], reference: Sequence[Event]) -> Step:
    left, right = _loads(log), _loads(reference)
    differences = [
        *_unmatched("log", left, right),
        *_unmatched("reference", right, left),
        *_changed(left, right),
    ]
    return Step("drivers", _count(len(right), "driver"), _count(len(left), "driver"),
                tuple(differences))  # fmt: skip


def _loads(events: Iterable[Event]) -> list[DriverLoad]:
    """The drivers, each once, in the order of their first load."""
    found: dict[object, DriverLoad] = {}
    for event in events:
        if isinstance(event, DriverLoad) and (event.guid or event.name):
            known = found.setdefault(event.guid or event.name, event)
            if known.name is None and event.name is not None:
                found[event.guid or event.name] = event
    return list(found.values())


def _partners(loads: list[DriverLoad], others: list[DriverLoad]) -> list[DriverLoad | None]:
    """For each driver the other log's: by GUID, or by name if its own GUID is nowhere."""
    guids = {load.guid: load for load in others if load.guid}
    own = {load.guid for load in loads}
    names = {load.name: load for load in others if load.name and load.guid not in own - {None}}
    return [
        (guids.get(load.guid) if load.guid else None)
        or (names.get(load.name) if load.name else None)
        for load in loads
    ]


def _same(load: DriverLoad, other: DriverLoad) -> bool:
    if load.guid and other.guid:
        return load.guid == other.guid
    return load.name is not None and load.name == other.name


def _unmatched(side: Side, loads: list[DriverLoad], others: list[DriverLoad]) -> list[Difference]:
    pairs = zip(loads, _partners(loads, others), strict=True)
    return [
        Difference(side, _driver_title(load), load.line) for load, other in pairs if other is None
    ]


def _changed(loads: list[DriverLoad], others: list[DriverLoad]) -> list[Difference]:
    found: list[Difference] = []
    for load, other in zip(loads, _partners(loads, others), strict=True):
        if other is None:
            continue
        if load.guid and other.guid and load.guid != other.guid:
            text = f"{load.title} has GUID {load.guid}, reference: {other.guid}"
            found.append(Difference("both", text, load.line))
        if load.name and other.name and load.name != other.name:
            text = f"{load.guid} is {load.name}, reference: {other.name}"
            found.append(Difference("both", text, load.line))
        if load.phase != other.phase:
            text = f"{load.title} is loaded by {load.phase}, reference: {other.phase}"
            found.append(Difference("both", text, load.line))
    return found


def _driver_title(load: DriverLoad) -> str:
    return f"{load.name} ({load.guid})" if load.name and load.guid else load.title


def _order(log: Sequence[Event], reference: Sequence[Event]) -> Step:
    left = [load for load in _loads(log) if store_role(load)]
    right = [load for load in _loads(reference) if store_role(load)]
    found, expected = (
        ", ".join(f"{load.title} ({store_role(load)})" for load in loads) or "none"
        for loads in (left, right)
    )
    same = len(left) == len(right) and all(map(_same, left, right))
    differences = () if same else (
        Difference("both", f"{found}; reference: {expected}", left[0].line if left else 0),
    )  # fmt: skip
    return Step("order of the store's drivers", expected, found, differences)


def _listed(
    name: str, noun: str, choose: _Choose, *, ordered: bool = False, repeated: bool = False
) -> _Make:
    """Compare the events that ``choose`` takes: which there are, and their order if wanted.

    Args:
        name: of the step.
        noun: of one event.
        choose: which events.
        ordered: their order counts.
        repeated: how often one comes counts.
    """

    def make(log: Sequence[Event], reference: Sequence[Event]) -> Step:
        left = _keyed(filter(choose, log), repeated)
        right = _keyed(filter(choose, reference), repeated)
        differences = [
            Difference("log", _title(item), item.line)
            for key, item in left.items()
            if key not in right
        ] + [
            Difference("reference", _title(item), item.line)
            for key, item in right.items()
            if key not in left
        ]
        if ordered:
            common = [key for key in left if key in right]
            other = [key for key in right if key in left]
            for key, wanted in zip(common, other, strict=True):
                if key != wanted:
                    text = f"{_title(left[key])} comes before {_title(left[wanted])}"
                    differences.append(Difference("both", text, left[key].line))
                    break
        return Step(name, _count(len(right), noun), _count(len(left), noun), tuple(differences))

    return make


def _keyed(events: Iterable[Event], repeated: bool) -> dict[tuple[object, ...], Event]:
    found: dict[tuple[object, ...], Event] = {}
    times: dict[tuple[object, ...], int] = {}
    for event in events:
        key = event.key()
        times[key] = times.get(key, 0) + 1
        found.setdefault((*key, times[key]) if repeated else key, event)
    return found


def _title(event: Event) -> str:
    if isinstance(event, ProtocolInstall):
        name = PROTOCOLS.get(event.guid)
        return f"{event.space} {event.guid}" + (f" ({name})" if name else "")
    return event.text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _is(*kinds: type[Event]) -> _Choose:
    return lambda event: isinstance(event, kinds)


def _says(area: str, *kinds: type[Event]) -> _Choose:
    def choose(event: Event) -> bool:
        if isinstance(event, Message):
            return event.area == area and event.code not in _UNSTEADY
        return isinstance(event, kinds)

    return choose


def _refused(event: Event) -> bool:
    return isinstance(event, SetVariable) and event.problem


_STEPS: Final[tuple[_Make, ...]] = (
    _boots,
    _drivers,
    _order,
    _listed("drivers that do not start", "driver", _is(StartFailed)),
    _listed("protocols", "protocol", _is(ProtocolInstall)),
    _listed("flash", "message", _says("flash"), ordered=True),
    _listed("fault-tolerant writes", "message", _says("ftw"), ordered=True),
    _listed("variable driver", "message", _says("variable"), ordered=True),
    _listed("variables refused", "call", _refused),
    _listed(
        "ACPI loader", "command",
        _says("loader", Allocate, AddPointer, AddChecksum, WritePointer),
        ordered=True, repeated=True,
    ),
    _listed("S3", "message", _says("s3", CondensedPointer), ordered=True),
    _listed("S3 boot script", "opcode", _is(BootScriptStep), ordered=True, repeated=True),
    _listed("boot options", "message", _says("boot"), ordered=True),
    _listed("asserts and exceptions", "fault", _says("fault", Assert, CpuException)),
)  # fmt: skip
