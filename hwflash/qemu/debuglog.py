"""Debug output of EDK2 firmware, read as events.

The text may come from a file, a serial console or QEMU's debugcon port, whole or cut off, with
carriage returns, terminal sequences and other output among it. What is not understood is passed
over; a message that is recognised and cannot be read is counted as damaged.

Ref: see `hwflash.qemu.debuglog_patterns` and `hwflash.qemu.debuglog_platform`.
Limits: a message that other output interrupts is damaged. Lines are counted by line feeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.qemu.debuglog_acpi import BootScriptStep
from hwflash.qemu.debuglog_events import (
    Assert,
    DriverLoad,
    Event,
    Message,
    Phase,
    Start,
    StartFailed,
    Value,
)
from hwflash.qemu.debuglog_patterns import STORE
from hwflash.qemu.debuglog_platform import PLATFORM
from hwflash.qemu.debuglog_rules import Rule

#: Events that are kept of one log; a boot to the Shell gives about 800.
EVENTS: Final = 200_000
_CHUNK: Final = 1 << 16
#: Bytes of a line; longer ones are read in pieces.
_LINE: Final = 1 << 16
_IMAGES: Final = 4096
_UNITS: Final = 4096
#: Bytes of a unit, by the bits that its name has.
_WIDTHS: Final = {8: 1, 16: 2, 32: 4, 64: 8}

_RULES: Final[Mapping[str, tuple[Rule, ...]]] = {**STORE, **PLATFORM}
# Longer markers first: some begin with others.
_MARKER: Final = re.compile("|".join(re.escape(item) for item in sorted(_RULES, reverse=True)))

_COLOUR: Final = re.compile(r"\x1b\[[0-?]*m")
# Whatever else moves the cursor ends a message.
_BREAK: Final = re.compile(
    r"[\r\x0c]|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?"
)
_PLAIN: Final = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]*\Z")
_DROPPED: Final = dict.fromkeys(
    code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\r\x07\x0c\x1b"
)


@dataclass(frozen=True, slots=True)
class DebugLog:
    """A log that was read.

    Attributes:
        events: in order.
        lines: of the whole log.
        boots: how often firmware started, resumes from S3 not counted; a log that begins in the
            middle of a boot has that one too.
        damaged: messages that were recognised and could not be read.
        first_damaged: line of the first of them.
        cut: there were more than `EVENTS` events; the rest is not here.
    """

    events: tuple[Event, ...]
    lines: int
    boots: int
    damaged: int = 0
    first_damaged: int | None = None
    cut: bool = False


def read_log(file: Path, boot: int | None = None) -> DebugLog:
    """Read a log; memory stays bounded however long it is.

    Args:
        file: the log.
        boot: only this boot, counted from 1, with its resumes from S3.

    Raises:
        ImageError: it cannot be read (``log.unreadable``); nothing in it is debug output of
            EDK2 firmware (``log.no-events``); it has no such boot (``log.no-boot``).
    """
    try:
        with file.open("rb") as stream:
            log = parse(iter(lambda: stream.read(_CHUNK), b""), boot)
    except OSError as error:
        raise ImageError(
            f"the log {file} cannot be read: {error.strerror or error}",
            code="log.unreadable",
            file=str(file),
            errno=error.errno,
        ) from error
    if boot is not None and not 1 <= boot <= log.boots and log.boots:
        raise ImageError(
            f"the log {file} has no boot {boot} (boots: {log.boots})",
            code="log.no-boot", file=str(file), boots=log.boots,
        )  # fmt: skip
    if not log.events:
        raise ImageError(
            f"{file} holds no debug output of EDK2 firmware", code="log.no-events",
            file=str(file), lines=log.lines,
        )  # fmt: skip
    return log


def parse(chunks: Iterable[bytes], boot: int | None = None) -> DebugLog:
    """Read a log from pieces of bytes, however they are cut.

    Args:
        chunks: the log.
        boot: see `read_log`.
    """
    return _collect(_lines(chunks), boot)


def parse_lines(lines: Iterable[str], boot: int | None = None) -> DebugLog:
    """The same from lines of text, with or without their ends."""
    return _collect(enumerate(lines, 1), boot)


def _collect(lines: Iterable[tuple[int, str]], boot: int | None) -> DebugLog:
    reader = _Reader()
    found: list[Event] = []
    current, cut = 0, False
    for event in reader.events(lines):
        begins = isinstance(event, Start) and not event.resume
        current += 1 if begins or not current else 0
        if boot not in (None, current):
            continue
        if len(found) == EVENTS:
            cut = True
            continue
        found.append(event)
    return DebugLog(
        tuple(found), reader.line, current, reader.damaged, reader.first_damaged, cut
    )  # fmt: skip


def _lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    number, rest = 1, b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield number, line.decode("utf-8", "replace")
            number += 1
        whole_pieces = len(rest) // _LINE * _LINE
        for at in range(0, whole_pieces, _LINE):
            yield number, rest[at : at + _LINE].decode("utf-8", "replace")
        rest = rest[whole_pieces:]
    if rest:
        yield number, rest.decode("utf-8", "replace")


def _pieces(line: str) -> list[str]:
    """A line without terminal sequences, cut where the cursor was moved."""
    if _PLAIN.match(line):
        return [line]
    kept = _COLOUR.sub("", line.translate(_DROPPED))
    return [piece.replace("\x07", "") for piece in _BREAK.split(kept) if piece]


@dataclass(slots=True)
class _Reader:
    """Reads lines; remembers only what joins lines that belong together."""

    line: int = 0
    damaged: int = 0
    first_damaged: int | None = None
    _file: DriverLoad | None = None
    _start: int | None = None
    _step: BootScriptStep | None = None
    _images: dict[int, str] = field(default_factory=dict[int, str])

    def events(self, lines: Iterable[tuple[int, str]]) -> Iterator[Event]:
        """Every event of these lines, in order."""
        for number, line in lines:
            self.line = number
            # Nearly all lines of a long log hold no marker, and no terminal sequence.
            for piece in _pieces(line.rstrip("\r\n")):
                for match in _MARKER.finditer(piece):
                    yield from self._message(piece, match)
        yield from self._pending_step()
        yield from self._pending_file()
        yield from self._pending_start()

    def _message(self, text: str, marker: re.Match[str]) -> Iterator[Event]:
        for rule in _RULES[marker[0]]:
            facts = rule.read(text, marker.start())
            if facts is None:
                continue
            if rule.make == "nothing":
                return
            if isinstance(rule.make, str):
                yield from _ACTIONS[rule.make](self, {**rule.constants, **facts})
                return
            yield from self._before()
            yield _made(rule, self.line, facts)
            return
        self.damaged += 1
        self.first_damaged = self.first_damaged or self.line

    # What came before is complete as soon as something else begins.

    def _before(self) -> Iterator[Event]:
        yield from self._pending_start()
        yield from self._pending_step()

    def _pending_start(self) -> Iterator[Event]:
        if self._start is not None:
            yield Start(self._start)
            self._start = None

    def _pending_step(self) -> Iterator[Event]:
        if self._step is not None and self._step.opcode:
            yield self._step
        self._step = None

    def _pending_file(self) -> Iterator[Event]:
        if self._file is not None:
            yield self._file
            self._file = None

    # One method for each message that is more than an event by itself.

    def start(self, facts: dict[str, Any]) -> Iterator[Event]:
        del facts
        yield from self._before()
        yield from self._pending_file()
        self._start = self.line

    def resume(self, facts: dict[str, Any]) -> Iterator[Event]:
        del facts
        line, self._start = self._start or self.line, None
        yield from self._pending_step()
        yield Start(line, resume=True)

    def file(self, facts: dict[str, Any]) -> Iterator[Event]:
        yield from self._before()
        yield from self._pending_file()
        self._file = DriverLoad(self.line, facts["phase"], facts["guid"], None)

    def image(self, facts: dict[str, Any]) -> Iterator[Event]:
        yield from self._before()
        phase: Phase = facts["phase"]
        guid: UUID | None = None
        if self._file is not None and self._file.phase == phase:
            guid, self._file = self._file.guid, None
        load = DriverLoad(
            self.line, phase, guid, facts.get("name"), facts["address"], facts.get("entry_point")
        )
        if len(self._images) >= _IMAGES:
            self._images.clear()
        self._images[facts["address"]] = load.title
        yield load

    def failed(self, facts: dict[str, Any]) -> Iterator[Event]:
        yield from self._before()
        address: int = facts["address"]
        yield StartFailed(self.line, self._images.get(address), facts["status"], address)

    def asserted(self, facts: dict[str, Any]) -> Iterator[Event]:
        yield from self._before()
        file = source_file(facts["file"])
        yield Assert(
            self.line, facts.get("module"), file, facts["expression"], facts["source_line"]
        )

    def script_entry(self, facts: dict[str, Any]) -> Iterator[Event]:
        yield from self._before()
        self._step = BootScriptStep(self.line, "", script=facts["address"])

    def script_opcode(self, facts: dict[str, Any]) -> Iterator[Event]:
        yield from self._pending_start()
        if self._step is None or self._step.opcode:
            yield from self._pending_step()
            self._step = BootScriptStep(self.line, facts["opcode"])
        else:
            self._step = replace(self._step, opcode=facts["opcode"])

    def script_facts(self, facts: dict[str, Any]) -> Iterator[Event]:
        yield from self._pending_start()
        if "information" in facts:
            facts["information"] = bytes.fromhex(facts["information"])
        if self._step is not None:
            self._step = replace(self._step, **facts)

    def script_data(self, facts: dict[str, Any]) -> Iterator[Event]:
        yield from self._pending_start()
        step = self._step
        if step is not None and len(step.data) < _UNITS:
            width = _WIDTHS.get(facts["bits"], 1)
            data = (*step.data, (facts["address"], facts["data"]))
            self._step = replace(step, width=width, data=data)


_ACTIONS: Final[Mapping[str, Callable[[_Reader, dict[str, Any]], Iterator[Event]]]] = {
    "start": _Reader.start,
    "resume": _Reader.resume,
    "file": _Reader.file,
    "image": _Reader.image,
    "failed": _Reader.failed,
    "assert": _Reader.asserted,
    "script-entry": _Reader.script_entry,
    "script-opcode": _Reader.script_opcode,
    "script-facts": _Reader.script_facts,
    "script-data": _Reader.script_data,
}


def _made(rule: Rule, line: int, facts: Mapping[str, Value]) -> Event:
    if rule.make is Message:
        values = tuple((name, item) for name, item in facts.items() if name not in rule.places)
        places = tuple((name, item) for name, item in facts.items() if name in rule.places)
        area, code = rule.constants["area"], rule.constants["code"]
        return Message(
            line, area, code, values, places, rule.words.format_map(facts), wrong=rule.wrong
        )
    make = cast("Callable[..., Event]", rule.make)
    return make(line=line, **rule.constants, **facts)


def source_file(path: str) -> str:
    """A source file from its package on: the folder it was built in says nothing."""
    parts = [part for part in re.split(r"[/\\]+", path) if part]
    for at, part in enumerate(parts[:-1]):
        if part.endswith("Pkg"):
            return "/".join(parts[at:])
    return parts[-1] if parts else path
