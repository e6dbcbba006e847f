"""What a debug log tells, in words: the drivers, what became of the variable store, problems.

Ref: the order in which edk2's flash, FTW and variable drivers start, and what a replay then
means, was measured with OVMF 2022.11.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal
from uuid import UUID

from hwflash.qemu.debuglog import DebugLog
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
    Start,
    StartFailed,
)
from hwflash.qemu.debuglog_resume import resumes

#: What a driver of the store is: the flash, fault-tolerant writes, or variables.
Role = Literal["FVB", "FTW", "variable"]
#: Areas of `Message` that tell of the store.
STORE_AREAS: Final = ("flash", "ftw", "variable")
LOADER: Final = (Allocate, AddPointer, AddChecksum, WritePointer)
_WIDTH: Final = 98
#: Many, and of one kind; the events have them.
_LEFT_OUT: Final = frozenset(
    {"context", "context-found", "lockbox-saved", "lockbox-restored", "lockbox-in-place"}
)

_ROLES: Final[tuple[tuple[re.Pattern[str], Role], ...]] = (
    (re.compile(r"Fvb|NorFlash"), "FVB"),
    (re.compile(r"FaultTolerantWrite"), "FTW"),
    (re.compile(r"(?:Pei)?Variable(?:RuntimeDxe|Smm\w*|StandaloneMm|Pei)?\Z"), "variable"),
)
_FILES: Final[dict[UUID, Role]] = {
    UUID("733cbac2-b23f-4b92-bc8e-fb01ce5907b7"): "FVB",
    UUID("22dc2b60-fe40-42ac-b01f-3ab1fad9aad8"): "FVB",
    UUID("fe5cea76-4f72-49e8-986f-2cd899dffe5d"): "FTW",
    UUID("470cb248-e8ac-473c-bb4f-81069a1fe6fd"): "FTW",
    UUID("cbd2e4d5-7068-4ff5-b462-9822b4ad8d60"): "variable",
}
#: Protocols that say that a part of the store is in service.
PROTOCOLS: Final[dict[UUID, str]] = {
    UUID("8f644fa9-e850-4db1-9ce2-0b44698e8da4"): "FirmwareVolumeBlock",
    UUID("d326d041-bd31-4c01-b5a8-628be87f0653"): "SmmFirmwareVolumeBlock",
    UUID("3ebd9e82-2c78-4de6-9786-8d4bfcb7c881"): "FaultTolerantWrite",
    UUID("3868fc3b-7e45-43a7-906c-4ba47de1754d"): "SmmFaultTolerantWrite",
    UUID("1e5668e2-8481-11d4-bcf1-0080c73c8881"): "VariableArch",
    UUID("6441f818-6362-4e44-b570-7dba31dd2453"): "VariableWriteArch",
}


def store_role(load: DriverLoad) -> Role | None:
    """What the driver is to the variable store, by its name or else its file's GUID."""
    if load.name is None:
        return _FILES.get(load.guid) if load.guid else None
    return next((role for pattern, role in _ROLES if pattern.search(load.name)), None)


def is_store_problem(event: Event) -> bool:
    """Whether the event stops the firmware, or says that the store is not as it should be."""
    if isinstance(event, Message):
        return event.wrong and event.area in STORE_AREAS
    return isinstance(event, Assert | CpuException)


def summary(log: DebugLog) -> list[str]:
    """The log in words, a line each."""
    starts = [event for event in log.events if isinstance(event, Start)]
    resumes = sum(event.resume for event in starts)
    counts = f"{len(log.events):,} events in {log.lines:,} lines"
    lines = [f"{counts}; {_count(log.boots, 'boot')}, {_count(resumes, 'resume')} from S3"]
    lines += _drivers(log.events)
    told = [*_numbered(_store_events(log.events)), *verdicts(log.events)]
    lines += ["variable store", *_indent(told or ["nothing is said of it"])]
    lines += _platform(log.events)
    problems = [event for event in log.events if event.problem]
    lines.append(f"problems: {len(problems)}" if problems else "no problems")
    lines += _indent(_numbered(problems))
    if log.damaged:
        lines.append(
            f"{_count(log.damaged, 'message')} cannot be read, first in line {log.first_damaged}"
        )
    return lines


def verdicts(events: Iterable[Event]) -> list[str]:
    """What became of the variable store, from what the firmware said about it."""
    said: dict[tuple[str, str], Message] = {}
    first: dict[Role, DriverLoad] = {}
    for event in events:
        if isinstance(event, Message):
            said.setdefault((event.area, event.code), event)
        elif isinstance(event, DriverLoad) and (role := store_role(event)) and event.phase != "PEI":
            first.setdefault(role, event)
    lines: list[str] = []
    if ("flash", "reinitialised") in said:
        lines.append("the volume was erased with its spare: every variable is lost")
    if ("flash", "emu-installed") in said or ("flash", "emu-block") in said:
        lines.append("variables are in RAM only: the flash is not written")
    elif ("flash", "emu-disabled") in said:
        lines.append("variables are in flash")
    if ("ftw", "initialised") in said:
        lines.append("the work space was lost: an unfinished write in the spare is dropped")
    if ("ftw", "aborted") in said:
        lines.append("an unfinished write was dropped: the old content stays")
    replayed = said.get(("ftw", "replayed"))
    if replayed is not None:
        lines.append(f"an unfinished write was replayed: {replayed.value('status')}")
        variable, ftw = first.get("variable"), first.get("FTW")
        if variable and ftw and variable.line < ftw.line:
            lines.append(
                f"{variable.title} started before {ftw.title}: it read the store before the "
                "replay, and works on a copy that may be stale"
            )
    elif "FTW" in first and not {("ftw", "initialised"), ("ftw", "aborted")} & said.keys():
        lines.append("no unfinished write was found")
    return lines


def _store_events(events: Iterable[Event]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, DriverLoad):
            wanted = store_role(event) is not None
        elif isinstance(event, ProtocolInstall):
            wanted = event.guid in PROTOCOLS
        elif isinstance(event, StartFailed):
            load = DriverLoad(event.line, "DXE", None, event.name)
            wanted = store_role(load) is not None
        elif isinstance(event, Message):
            wanted = event.area in STORE_AREAS and not event.wrong
        else:
            wanted = False
        if wanted:
            yield event


def _drivers(events: Iterable[Event]) -> list[str]:
    loads = [event for event in events if isinstance(event, DriverLoad)]
    lines: list[str] = []
    for phase in dict.fromkeys(load.phase for load in loads):
        titles = [load.title for load in loads if load.phase == phase]
        lines.append(f"{_count(len(titles), 'driver')} loaded by {phase}, in order")
        lines += _indent(textwrap.wrap(", ".join(titles), _WIDTH, break_long_words=False))
    return lines


def _platform(events: Sequence[Event]) -> list[str]:
    commands = kept = 0
    script: list[str] = []
    others: list[Event] = []
    for event in events:
        commands += isinstance(event, LOADER)
        kept += isinstance(event, CondensedPointer)
        if isinstance(event, BootScriptStep):
            script.append(event.opcode)
        if isinstance(event, Message):
            told = event.area in ("s3", "boot") and event.code not in _LEFT_OUT
            if told and not event.wrong:
                others.append(event)
        elif isinstance(event, WritePointer):
            others.append(event)
    lines: list[str] = []
    if commands:
        pointers = _count(kept, "pointer")
        lines.append(f"{_count(commands, 'ACPI loader command')}, {pointers} kept for S3")
    if script:
        text = f"boot script: {', '.join(script)}"
        lines += textwrap.wrap(text, _WIDTH, subsequent_indent="  ")
    for resume in resumes(events):
        lines += [f"boot script for fw_cfg: {item.told()}" for item in resume.moved]
        lines += [f"kept for S3 and not written again: {item.told()}" for item in resume.missing]
    if others:
        lines += ["platform", *_indent(_numbered(others))]
    return lines


def _numbered(events: Iterable[Event]) -> list[str]:
    """With line numbers; what is said again only counts."""
    first: dict[str, int] = {}
    times: dict[str, int] = {}
    for event in events:
        text = event.text
        if isinstance(event, ProtocolInstall):
            text = f"{PROTOCOLS.get(event.guid, event.guid)} protocol installed"
        first.setdefault(text, event.line)
        times[text] = times.get(text, 0) + 1
    return [
        f"line {line}: {text}" + (f" ({times[text]} times)" if times[text] > 1 else "")
        for text, line in first.items()
    ]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _indent(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]
