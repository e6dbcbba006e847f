"""What the debug output of EDK2 firmware tells, as events.

An event has facts that must agree between two boots of the same firmware (a driver's GUID, a
status, an offset in a file), and facts that need not: the line of the log, addresses in memory,
sizes that depend on what a store went through. The latter are called *places* here; `Event.key`
leaves them out.

Ref: the DEBUG messages of edk2's MdeModulePkg and OvmfPkg, as named in `debuglog_patterns`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Final, Literal
from uuid import UUID

#: Metadata of a field that may differ between two boots.
PLACE: Final = {"place": True}

Value = int | str | UUID
#: Who loads a driver: the PEI core, the DXE core, the SMM core or the standalone MM core.
Phase = Literal["PEI", "DXE", "SMM", "MM"]
#: Where a protocol is installed; ``PPI`` stands for PEI's own kind of protocol.
Space = Literal["PPI", "DXE", "SMM", "MM"]


def place() -> Any:
    """A field that may differ between two boots; absent by default."""
    return field(default=None, metadata=PLACE)


@cache
def _names(kind: type[Event], *, places: bool) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind) if places or not item.metadata.get("place"))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a log tells.

    Attributes:
        line: of the log, counted from 1.
    """

    kind: ClassVar[str] = ""
    line: int = field(metadata=PLACE)

    @property
    def problem(self) -> bool:
        """Whether the firmware itself calls this wrong."""
        return False

    @property
    def text(self) -> str:
        """In words."""
        raise NotImplementedError

    def key(self) -> tuple[object, ...]:
        """What must agree between two boots."""
        return (self.kind, *(getattr(self, name) for name in _names(type(self), places=False)))

    def keys(self) -> dict[str, Any]:
        """As JSON: kind, line, words, and the facts that are known."""
        found: dict[str, Any] = {"kind": self.kind, "line": self.line, "text": self.text}
        for name in _names(type(self), places=True):
            value = getattr(self, name)
            if value is not None and name != "line":
                found[name] = plain(value)
        if self.problem:
            found["problem"] = True
        return found


def plain(value: object) -> Any:
    """A fact as JSON has it."""
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    return value


@dataclass(frozen=True, slots=True)
class Start(Event):
    """Firmware begins: after power-on or reset, or after S3 when ``resume``."""

    kind: ClassVar[str] = "start"
    resume: bool = False

    @property
    def text(self) -> str:
        """In words."""
        return "resume from S3" if self.resume else "firmware starts"


@dataclass(frozen=True, slots=True)
class DriverLoad(Event):
    """A driver, or an application, is loaded.

    Attributes:
        phase: by whom.
        guid: of its firmware file; None for what comes from elsewhere.
        name: of its image, without ``.efi``; None where the build has no names, or the line is
            damaged.
        address: where it lies.
        entry_point: address of its first instruction.
    """

    kind: ClassVar[str] = "driver"
    phase: Phase
    guid: UUID | None
    name: str | None
    address: int | None = place()
    entry_point: int | None = place()

    @property
    def title(self) -> str:
        """Its name, or else its GUID."""
        return self.name or (str(self.guid) if self.guid else "unnamed")

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.title} loaded by {self.phase}"


@dataclass(frozen=True, slots=True)
class StartFailed(Event):
    """A driver's entry point returned an error; many drivers do when they are not needed.

    Attributes:
        name: the driver at that address, if its load was seen.
        status: such as ``Aborted``.
        address: of the image.
    """

    kind: ClassVar[str] = "start-failed"
    name: str | None
    status: str
    address: int | None = place()

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.name or 'a driver'} did not start: {self.status}"


@dataclass(frozen=True, slots=True)
class ProtocolInstall(Event):
    """A protocol is installed; ``address`` is that of its interface."""

    kind: ClassVar[str] = "protocol"
    space: Space
    guid: UUID
    address: int | None = place()

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.space} protocol {self.guid} installed"


@dataclass(frozen=True, slots=True)
class Message(Event):
    """A line of one of the drivers that matter here.

    Attributes:
        area: ``flash``, ``ftw``, ``variable``, ``loader``, ``s3``, ``boot`` or ``fault``.
        code: what it says.
        values: facts that must agree.
        places: facts that need not.
        words: in words.
        wrong: the firmware calls it an error.
    """

    kind: ClassVar[str] = "message"
    area: str
    code: str
    values: tuple[tuple[str, Value], ...]
    places: tuple[tuple[str, Value], ...] = field(default=(), metadata=PLACE)
    words: str = field(default="", metadata=PLACE)
    wrong: bool = field(default=False, metadata=PLACE)

    @property
    def problem(self) -> bool:
        """Whether the firmware itself calls this wrong."""
        return self.wrong

    @property
    def text(self) -> str:
        """In words."""
        return self.words

    def value(self, name: str) -> Value | None:
        """The fact of this name."""
        return dict((*self.values, *self.places)).get(name)

    def keys(self) -> dict[str, Any]:
        """As JSON, with its facts side by side."""
        found: dict[str, Any] = {"kind": self.kind, "line": self.line, "text": self.words}
        found |= {"area": self.area, "code": self.code}
        found["facts"] = {name: plain(value) for name, value in (*self.values, *self.places)}
        if self.wrong:
            found["problem"] = True
        return found


@dataclass(frozen=True, slots=True)
class SetVariable(Event):
    """The variable policy's verdict on a SetVariable call, before anything is written."""

    kind: ClassVar[str] = "set-variable"
    guid: UUID
    name: str
    status: str

    @property
    def problem(self) -> bool:
        """Whether the call was refused."""
        return self.status != "Success"

    @property
    def text(self) -> str:
        """In words."""
        return f"SetVariable {self.name} ({self.guid}): {self.status}"


@dataclass(frozen=True, slots=True)
class Assert(Event):
    """A condition of the firmware that does not hold.

    Attributes:
        module: the driver, where the build prints it.
        file: source file, from its package on; the folder of the build is left out.
        expression: the condition, or a status in words.
        source_line: of the file; other versions have it elsewhere.
    """

    kind: ClassVar[str] = "assert"
    module: str | None
    file: str
    expression: str
    source_line: int | None = place()

    @property
    def problem(self) -> bool:
        """Always."""
        return True

    @property
    def text(self) -> str:
        """In words."""
        where = self.file if self.source_line is None else f"{self.file}:{self.source_line}"
        return f"ASSERT in {where}: {self.expression}"


@dataclass(frozen=True, slots=True)
class CpuException(Event):
    """The processor stopped the firmware.

    Attributes:
        name: such as ``#PF - Page-Fault`` or ``Synchronous``.
        architecture: ``X64``, ``IA32``, ``AArch64``; None if the message does not say.
        vector: number of the exception, on x86.
        address: of the instruction, where the same line says it.
    """

    kind: ClassVar[str] = "exception"
    name: str
    architecture: str | None = None
    vector: int | None = None
    address: int | None = place()

    @property
    def problem(self) -> bool:
        """Always."""
        return True

    @property
    def text(self) -> str:
        """In words."""
        return f"CPU exception {self.name}"
