"""A machine's flash as a QEMU command line, and a command line read back.

Three forms that give the same memory map: ``drive`` (``-drive if=pflash``), ``named`` (drives
with a name, and ``-machine pflash0=``) and ``blockdev`` (``-blockdev`` nodes, as libvirt writes
them). What is read back is the description without the template, which QEMU is never told of.

Ref: QEMU docs/interop/firmware.json; tried with QEMU 7.2.22.
Limits: of a foreign command line only what has to do with the flash is understood; the rest is
handed back as it is. QEMU has no option with two arguments, so a word that follows an unknown
option and has no dash is its argument.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from hwflash.errors import UsageError
from hwflash.qemu import optstring
from hwflash.qemu.machine import FlashFile, Machine, family_of
from hwflash.units import parse_size

Dialect = Literal["drive", "named", "blockdev"]
DIALECTS: Final[tuple[Dialect, ...]] = ("drive", "named", "blockdev")

#: The device that has the switch for S3, by board code.
_S3: Final = {"q35": "ICH9-LPC", "i440fx": "PIIX4_PM"}
#: What QEMU takes when no machine is named; Arm has no default.
_DEFAULT_MACHINE: Final = {"x86_64": "pc", "i386": "pc"}
_PROGRAM: Final = re.compile(r"(?:.*/)?qemu-system-([a-z0-9_]+)")
#: Keys of a drive or node that the description holds; others are told of.
_KNOWN_KEYS: Final = frozenset(
    {"if", "id", "unit", "index", "format", "file", "readonly", "read-only", "driver",
     "node-name", "filename", "auto-read-only", "file.driver", "file.filename", "discard",
     "file.read-only", "file.auto-read-only", "bus"}
)  # fmt: skip


def to_args(machine: Machine, dialect: Dialect = "drive") -> list[str]:
    """The command line: the program and what has to do with the flash, word by word."""
    options: list[tuple[str, str]] = []
    if machine.smm is not None:
        options.append(("smm", _on(machine.smm)))
    if machine.max_firmware_size is not None:
        options.append(("max-fw-size", str(machine.max_firmware_size)))
    if dialect != "drive":
        options += [(f"pflash{number}", f"pflash{number}") for number in range(len(machine.units))]
    words = [machine.program, "-machine", optstring.join(options, machine.machine)]
    if machine.secure:
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    if machine.s3 is not None:
        words += ["-global", f"{_s3_device(machine)}.disable_s3={0 if machine.s3 else 1}"]
    for number, item in enumerate(machine.units):
        words += _blockdev(number, item) if dialect == "blockdev" else _drive(number, item, dialect)
    return words


def _drive(number: int, item: FlashFile, dialect: Dialect) -> list[str]:
    named = [("if", "none"), ("id", f"pflash{number}")]
    pairs = named if dialect == "named" else [("if", "pflash"), ("unit", str(number))]
    pairs += [("format", item.format)]
    pairs += [("readonly", "on")] if item.readonly else []
    pairs += _part(item)
    pairs += [("file", optstring.guard_protocol(item.path))]
    return ["-drive", optstring.join(pairs)]


def _blockdev(number: int, item: FlashFile) -> list[str]:
    # Without auto-read-only=off, QEMU would open a file it may not write to read-only, silently.
    closed = [("read-only", "on")] if item.readonly else []
    node = f"pflash{number}-storage"
    storage = [("driver", "file"), ("node-name", node), ("filename", item.path), *closed,
               ("auto-read-only", "off")]  # fmt: skip
    layer = [("driver", item.format), ("node-name", f"pflash{number}"), ("file", node), *closed,
             *_part(item)]  # fmt: skip
    return ["-blockdev", optstring.join(storage), "-blockdev", optstring.join(layer)]


def _part(item: FlashFile) -> list[tuple[str, str]]:
    if item.part is None:
        return []
    return [("offset", str(item.part.address)), ("size", str(item.part.length))]


def to_shell(words: Sequence[str]) -> str:
    """A command line for a shell: quoted, an option a line."""
    lines: list[str] = []
    option = False  # the last line is an option that may take an argument
    for word in words:
        quoted = shlex.quote(word)
        if option and not word.startswith("-"):
            lines[-1] += f" {quoted}"
            option = False
        else:
            lines.append(f"  {quoted}" if lines else quoted)
            option = word.startswith("-")
    return " \\\n".join(lines)


# --- reading ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a command line says.

    Attributes:
        machine: the description; it has no template.
        rest: the words that have nothing to do with the flash.
        notes: settings of the flash's drives that the description does not hold.
    """

    machine: Machine
    rest: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reading:
    architecture: str
    machine: dict[str, str] = field(default_factory=dict[str, str])
    units: dict[int, dict[str, str]] = field(default_factory=dict[int, dict[str, str]])
    nodes: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    secure: bool = False
    s3: dict[str, bool] = field(default_factory=dict[str, bool])
    rest: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])


def from_args(words: Sequence[str], architecture: str = "x86_64") -> Parsed:
    """Read a command line, in any of the forms, mixed as QEMU takes them.

    Args:
        words: the words of the command line; the first may be the program.
        architecture: for a line that does not begin with ``qemu-system-...``.

    Raises:
        UsageError: no flash unit 0 (``usage.qemu-no-flash``), or something QEMU would not
            take (``usage.qemu-args`` and what `Machine` refuses).
    """
    reading = _Reading(architecture)
    at = 0
    if words and (program := _PROGRAM.fullmatch(words[0])):
        reading.architecture, at = program[1], 1
    while at < len(words):
        word = words[at]
        option = word[2:] if word.startswith("--") else word[1:]
        value = words[at + 1] if at + 1 < len(words) else None
        if not word.startswith("-") or value is None or not _take(reading, option, value):
            # An unknown option: what follows without a dash is its argument, and kept as well.
            reading.rest.append(word)
            at += 1
            continue
        at += 2
    return _result(reading)


def parse_shell(text: str, architecture: str = "x86_64") -> Parsed:
    """Read a command line as it is typed: `from_args` on a shell's words.

    Raises:
        UsageError: quotes that do not end (``usage.qemu-args``), or see `from_args`.
    """
    try:
        words = shlex.split(text.replace("\\\n", " "))
    except ValueError as error:
        raise _bad(f"the command line cannot be read: {error}") from error
    return from_args(words, architecture)


def _take(reading: _Reading, option: str, value: str) -> bool:
    """Understand an option; whether it has to do with the flash."""
    if option in ("machine", "M"):
        reading.machine |= optstring.split(value, "type")
    elif option == "global":
        return _take_global(reading, value)
    elif option == "blockdev":
        node = optstring.from_json(value) if value.startswith("{") else optstring.split(value)
        reading.nodes[node.get("node-name", "")] = node
    elif option == "drive":
        return _take_drive(reading, optstring.split(value))
    elif option == "pflash":
        reading.units[_next_unit(reading)] = {"file": value}
    else:
        return False
    return True


def _take_global(reading: _Reading, value: str) -> bool:
    pairs = optstring.split(value)
    if {"driver", "property", "value"} <= pairs.keys():
        name, setting = f"{pairs['driver']}.{pairs['property']}", pairs["value"]
    else:
        name, _, setting = value.partition("=")
    driver, _, key = name.rpartition(".")
    if (driver, key) == ("cfi.pflash01", "secure"):
        reading.secure = optstring.to_bool(setting, name)
    elif key == "disable_s3" and driver in _S3.values():
        if setting not in ("0", "1"):
            raise _bad(f"{name}={setting!r} is neither 0 nor 1")
        reading.s3[driver] = setting == "0"
    else:
        return False
    return True


def _take_drive(reading: _Reading, drive: dict[str, str]) -> bool:
    if drive.get("if") == "pflash":
        text = drive.get("unit", drive.get("index"))
        if text is not None and not text.isdecimal():
            raise _bad(f"unit={text!r} is no number")
        unit = _next_unit(reading) if text is None else int(text)
        if unit in reading.units:
            raise _bad(f"flash unit {unit} is given twice")
        reading.units[unit] = drive
        return True
    if drive.get("if") == "none" and "id" in drive:
        reading.nodes[drive["id"]] = {"if": "none", **drive}
        return True
    return False


def _next_unit(reading: _Reading) -> int:
    return next(number for number in range(len(reading.units) + 1) if number not in reading.units)


def _result(reading: _Reading) -> Parsed:
    kind = reading.machine.get("type") or _DEFAULT_MACHINE.get(reading.architecture)
    if kind is None:
        raise _bad(f"no machine is named, and {reading.architecture} has no default")
    files = _files(reading)
    if 0 not in files:
        text = "pflash1 requires pflash0" if files else "nothing is behind flash unit 0"
        raise UsageError(text, code="usage.qemu-no-flash")
    if extra := [unit for unit in files if unit > 1]:
        text = f"machine type does not support if=pflash,bus=0,unit={extra[0]}"
        raise UsageError(text, code="usage.qemu-args")
    smm = reading.machine.get("smm", "auto")
    limit = reading.machine.get("max-fw-size")
    family = family_of(kind, reading.architecture)
    machine = Machine(
        code=files[0],
        vars=files.get(1),
        machine=kind,
        architecture=reading.architecture,
        secure=reading.secure,
        smm=None if smm == "auto" else optstring.to_bool(smm, "smm"),
        s3=reading.s3.get(_S3.get(family or "", "")),
        max_firmware_size=None if limit is None else parse_size(limit),
    )
    return Parsed(machine, tuple(reading.rest), tuple(reading.notes))


def _files(reading: _Reading) -> dict[int, FlashFile]:
    """The file behind each unit; ``-machine pflashN=`` goes before ``-drive if=pflash``."""
    found: dict[int, FlashFile] = {}
    used: set[str] = set()
    for unit, drive in sorted(reading.units.items()):
        found[unit] = _of_drive(reading, drive, unit)
    for unit in range(2):
        name = reading.machine.get(f"pflash{unit}")
        if name is None:
            continue
        node = reading.nodes.get(name)
        if node is None:
            raise _bad(f"pflash{unit}={name}: there is no drive or node {name!r}")
        used.add(name)
        if node.get("if") == "none":
            found[unit] = _of_drive(reading, node, unit)
        else:
            found[unit] = _of_node(reading, node, unit, used)
    for name, node in reading.nodes.items():
        if name not in used:
            option = "drive" if node.get("if") == "none" else "blockdev"
            reading.rest += [f"-{option}", optstring.join(node.items())]
    return found


def _of_drive(reading: _Reading, drive: dict[str, str], unit: int) -> FlashFile:
    path = drive.get("file")
    if path is None:
        raise _bad(f"flash unit {unit}: the drive has no file=")
    if "format" not in drive:
        reading.notes.append(f"flash unit {unit}: no format is given, QEMU guesses it")
    _tell(reading, drive, unit)
    readonly = drive.get("readonly", drive.get("read-only", "off"))
    form = drive.get("format", drive.get("driver", "raw"))
    return FlashFile(
        optstring.unguard_protocol(path), form, optstring.to_bool(readonly, "readonly")
    )


def _of_node(
    reading: _Reading, node: dict[str, str], unit: int, used: set[str]
) -> FlashFile:  # fmt: skip
    """The file under a format node, which may be a node of its own or written into it."""
    _tell(reading, node, unit)
    readonly = optstring.to_bool(node.get("read-only", "off"), "read-only")
    if node.get("driver") == "file":  # a protocol node used as it is: raw bytes
        return _checked(node, "filename", "driver", "raw", readonly)
    below = node.get("file")
    if below is None:
        form = node.get("driver", "raw")
        return _checked(node, "file.filename", "file.driver", form, readonly)
    storage = reading.nodes.get(below)
    if storage is None:
        raise _bad(f"flash unit {unit}: there is no node {below!r}")
    used.add(below)
    _tell(reading, storage, unit)
    return _checked(storage, "filename", "driver", node.get("driver", "raw"), readonly)


def _checked(
    node: dict[str, str], name: str, driver: str, form: str, readonly: bool
) -> FlashFile:  # fmt: skip
    path = node.get(name)
    if path is None or node.get(driver) != "file":
        raise _bad(f"the node {node.get('node-name', '')!r} has no file behind it")
    return FlashFile(path, form, readonly)


def _tell(reading: _Reading, keys: dict[str, str], unit: int) -> None:
    extra = sorted(keys.keys() - _KNOWN_KEYS)
    reading.notes += [f"flash unit {unit}: {key}={keys[key]} is left out" for key in extra]


def _s3_device(machine: Machine) -> str:
    return _S3[machine.family or ""]


def _on(value: bool) -> str:
    return "on" if value else "off"


def _bad(message: str) -> UsageError:
    return UsageError(message, code="usage.qemu-args")
