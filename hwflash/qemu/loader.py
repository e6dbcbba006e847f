"""QEMU's linker/loader script: how firmware puts ACPI tables together.

``etc/table-loader`` is a list of commands of 128 bytes: download a file into memory, add a file's
address to a field of another, compute a checksum, write an address back to fw_cfg. `link` carries
them out on the files as firmware would, so that pointers and checksums can be judged.

Ref: QEMU 7.2 hw/acpi/bios-linker-loader.c; edk2 OvmfPkg/AcpiPlatformDxe/QemuFwCfgAcpi.c, which
skips what it does not know and refuses what does not fit, as is done here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import construct

from hwflash.errors import ReferenceFailed
from hwflash.qemu.fwcfg import NAME_BYTES, file_name

# construct carries no annotations: its names enter as Any.
c: Any = construct

SCRIPT: Final = "etc/table-loader"
COMMAND_BYTES: Final = 128
#: Zones of an allocation: anywhere, or where the BIOS lies.
HIGH, BIOS = 1, 2
ZONES: Final = {HIGH: "anywhere", BIOS: "below 1 MiB"}
_WIDTHS: Final = (1, 2, 4, 8)
#: Where files are put whose address nobody gives: upward from here, by zone.
_PLACES: Final = {HIGH: 0x7000_0000, BIOS: 0xE_0000}

_FILE: Any = c.Bytes(NAME_BYTES)
_BODIES: Final[dict[int, Any]] = {
    1: c.Struct("file" / _FILE, "alignment" / c.Int32ul, "zone" / c.Int8ul),
    2: c.Struct(
        "pointer_file" / _FILE, "pointee_file" / _FILE, "offset" / c.Int32ul, "size" / c.Int8ul
    ),
    3: c.Struct("file" / _FILE, "result" / c.Int32ul, "start" / c.Int32ul, "length" / c.Int32ul),
    4: c.Struct(
        "pointer_file" / _FILE, "pointee_file" / _FILE, "offset" / c.Int32ul,
        "pointee_offset" / c.Int32ul, "size" / c.Int8ul,
    ),
}  # fmt: skip
COMMAND: Final = c.FixedSized(
    COMMAND_BYTES,
    c.Struct("number" / c.Int32ul, "body" / c.Switch(c.this.number, _BODIES, c.GreedyBytes)),
)


@dataclass(frozen=True, slots=True)
class Allocate:
    """A file is downloaded into memory; ``zone`` is `HIGH` or `BIOS`."""

    file: str
    alignment: int
    zone: int

    @property
    def text(self) -> str:
        """In words."""
        zone = ZONES.get(self.zone, f"zone {self.zone}")
        return f"allocate {self.file} {zone}, alignment {self.alignment}"


@dataclass(frozen=True, slots=True)
class AddPointer:
    """The address of ``pointee_file`` is added to ``size`` bytes of ``pointer_file``."""

    pointer_file: str
    pointee_file: str
    offset: int
    size: int

    @property
    def text(self) -> str:
        """In words."""
        where = f"{self.pointer_file}[0x{self.offset:X}]"
        return f"add the address of {self.pointee_file} to {where}, {self.size} bytes"


@dataclass(frozen=True, slots=True)
class AddChecksum:
    """A byte at ``result`` makes the sum of ``length`` bytes from ``start`` zero."""

    file: str
    result: int
    start: int
    length: int

    @property
    def text(self) -> str:
        """In words."""
        covered = f"0x{self.start:X}+0x{self.length:X}"
        return f"checksum of {self.file}[{covered}] at 0x{self.result:X}"


@dataclass(frozen=True, slots=True)
class WritePointer:
    """The address of ``pointee_file`` plus an offset is written back to a fw_cfg file.

    Attributes:
        pointer_file: the fw_cfg file that is written.
        pointee_file: the file whose address is told.
        offset: where in the former.
        pointee_offset: into the latter; None in debug logs from before it existed.
        size: bytes.
    """

    pointer_file: str
    pointee_file: str
    offset: int
    pointee_offset: int | None
    size: int

    @property
    def text(self) -> str:
        """In words."""
        more = f"+0x{self.pointee_offset:X}" if self.pointee_offset is not None else ""
        where = f"{self.pointer_file}[0x{self.offset:X}]"
        return f"write the address of {self.pointee_file}{more} to {where}, {self.size} bytes"


@dataclass(frozen=True, slots=True)
class Unknown:
    """An entry that firmware skips: padding (0), or a command from the future."""

    number: int

    @property
    def text(self) -> str:
        """In words."""
        return "padding" if self.number == 0 else f"unknown command {self.number}"


Command = Allocate | AddPointer | AddChecksum | WritePointer | Unknown
_KINDS: Final = {1: Allocate, 2: AddPointer, 3: AddChecksum, 4: WritePointer}


def files_of(command: Command) -> tuple[str, ...]:
    """The files that a command is about."""
    match command:
        case Allocate() | AddChecksum():
            return (command.file,)
        case AddPointer() | WritePointer():
            return (command.pointer_file, command.pointee_file)
        case Unknown():
            return ()


def told_places(script: Sequence[Command], files: Mapping[str, bytes]) -> dict[str, int]:
    """Where files lie in memory, as far as firmware has written it back to fw_cfg.

    Args:
        script: the commands.
        files: content of fw_cfg's files by name, read after the firmware has run.
    """
    found: dict[str, int] = {}
    for item in script:
        if isinstance(item, WritePointer) and item.pointer_file in files:
            told = files[item.pointer_file][item.offset : item.offset + item.size]
            address = int.from_bytes(told, "little") - (item.pointee_offset or 0)
            if address > 0:
                found[item.pointee_file] = address
    return found


def parse_script(data: bytes) -> tuple[Command, ...]:
    """The commands of a script, in order.

    Args:
        data: content of `SCRIPT`.

    Raises:
        ReferenceFailed: the last command is not whole, or a command names no file
            (``reference.loader``).
    """
    if len(data) % COMMAND_BYTES:
        raise ReferenceFailed(
            f"a loader script of {len(data):,} bytes ends within a command",
            code="reference.loader",
            size=len(data),
        )
    return tuple(
        _command(data[at : at + COMMAND_BYTES]) for at in range(0, len(data), COMMAND_BYTES)
    )


def _command(data: bytes) -> Command:
    found = COMMAND.parse(data)
    kind = _KINDS.get(found.number)
    if kind is None:
        return Unknown(found.number)
    facts: dict[str, Any] = {
        name: file_name(value, "reference.loader") if isinstance(value, bytes) else value
        for name, value in found.body.items()
        if not name.startswith("_")
    }
    return kind(**facts)


# --- carried out --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """An address that firmware writes back to fw_cfg.

    Attributes:
        file: the fw_cfg file.
        offset: where in it.
        data: the bytes.
    """

    file: str
    offset: int
    data: bytes

    @property
    def value(self) -> int:
        """The address."""
        return int.from_bytes(self.data, "little")


@dataclass(slots=True)
class Linked:
    """What a script makes of its files.

    Attributes:
        blobs: the downloaded files, as they are in the end.
        addresses: where each lies.
        written: what goes back to fw_cfg.
        skipped: entries that are no command.
    """

    blobs: dict[str, bytearray] = field(default_factory=dict[str, bytearray])
    addresses: dict[str, int] = field(default_factory=dict[str, int])
    written: list[Written] = field(default_factory=list[Written])
    skipped: list[Unknown] = field(default_factory=list[Unknown])


def link(
    commands: Sequence[Command],
    files: Mapping[str, bytes],
    addresses: Mapping[str, int] | None = None,
) -> Linked:
    """Carry out a script as firmware does.

    Args:
        commands: the script.
        files: content of fw_cfg's files by name.
        addresses: where files lie, such as a guest tells; others get a place of their own.

    Raises:
        ReferenceFailed: a command does not fit the files (``reference.loader-run``;
            ``context["command"]`` counts them from 0).
    """
    linked = Linked()
    places = dict(_PLACES)
    for number, command in enumerate(commands):
        try:
            match command:
                case Allocate():
                    _allocate(linked, command, files, addresses or {}, places)
                case AddPointer():
                    _add_pointer(linked, command)
                case AddChecksum():
                    _add_checksum(linked, command)
                case WritePointer():
                    _write_pointer(linked, command, files)
                case Unknown():
                    linked.skipped.append(command)
        except _Misfit as exc:
            raise ReferenceFailed(
                f"loader command {number} ({command.text}): {exc}",
                code="reference.loader-run",
                command=number,
            ) from None
    return linked


class _Misfit(Exception):
    """A command does not fit its files; why."""


def _allocate(
    linked: Linked,
    command: Allocate,
    files: Mapping[str, bytes],
    addresses: Mapping[str, int],
    places: dict[int, int],
) -> None:
    align = command.alignment
    if align == 0 or align & (align - 1):
        raise _Misfit("the alignment is no power of two")
    if command.file in linked.blobs:
        raise _Misfit("the file was allocated before")
    if command.file not in files:
        raise _Misfit("there is no such file")
    if command.zone not in ZONES:
        raise _Misfit("there is no such zone")
    data = files[command.file]
    address = addresses.get(command.file)
    if address is None:
        address = (places[command.zone] + align - 1) & -align
        places[command.zone] = address + len(data)
    if address % align:
        raise _Misfit(f"the address 0x{address:X} is not aligned")
    linked.blobs[command.file] = bytearray(data)
    linked.addresses[command.file] = address


def _add_pointer(linked: Linked, command: AddPointer) -> None:
    blob = _blob(linked, command.pointer_file)
    target = _blob(linked, command.pointee_file)
    place = _field(command.offset, command.size, len(blob))
    value = int.from_bytes(blob[place], "little")
    if value >= len(target):
        raise _Misfit(f"the pointer's offset 0x{value:X} is outside of {command.pointee_file}")
    blob[place] = _bytes(value + linked.addresses[command.pointee_file], command.size)


def _add_checksum(linked: Linked, command: AddChecksum) -> None:
    blob = _blob(linked, command.file)
    if command.result >= len(blob) or command.start + command.length > len(blob):
        raise _Misfit("the range reaches beyond the file")
    total = sum(blob[command.start : command.start + command.length])
    blob[command.result] = (blob[command.result] - total) & 0xFF


def _write_pointer(linked: Linked, command: WritePointer, files: Mapping[str, bytes]) -> None:
    target = _blob(linked, command.pointee_file)
    if command.pointer_file in linked.blobs:
        raise _Misfit(f"{command.pointer_file} was downloaded: it is not written back")
    if command.pointer_file not in files:
        raise _Misfit(f"there is no file {command.pointer_file}")
    place = _field(command.offset, command.size, len(files[command.pointer_file]))
    offset = command.pointee_offset or 0
    if offset >= len(target):
        raise _Misfit(f"the offset 0x{offset:X} is outside of {command.pointee_file}")
    data = _bytes(linked.addresses[command.pointee_file] + offset, command.size)
    linked.written.append(Written(command.pointer_file, place.start, data))


def _blob(linked: Linked, name: str) -> bytearray:
    blob = linked.blobs.get(name)
    if blob is None:
        raise _Misfit(f"{name} is not allocated")
    return blob


def _field(offset: int, size: int, length: int) -> slice:
    if size not in _WIDTHS:
        raise _Misfit(f"no pointer has {size} bytes")
    if offset + size > length:
        raise _Misfit("the pointer lies beyond the file")
    return slice(offset, offset + size)


def _bytes(value: int, size: int) -> bytes:
    if value >> (8 * size):
        raise _Misfit(f"0x{value:X} does not fit in {size} bytes")
    return value.to_bytes(size, "little")
