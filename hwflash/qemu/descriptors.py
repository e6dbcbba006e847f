"""Firmware descriptors: which firmware there is on this computer.

A descriptor is a JSON file in one of three folders. Files of all folders are taken in the order
of their names; of two with one name the more specific folder's counts, and an empty one hides
the name.

Ref: QEMU docs/interop/firmware.json.
Limits: files of 1 MiB at most. Which one fits is decided in `hwflash.qemu.autoselect`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

from hwflash.errors import UsageError
from hwflash.qemu.machine import FlashFile

Origin = Literal["distribution", "system", "user"]
State = Literal["read", "overridden", "masked", "mask", "broken"]

FILE_LIMIT: Final = 1 << 20
#: Words of firmware.json; a feature that is not among them is kept and ignored.
FEATURES: Final = (
    "acpi-s3", "acpi-s4", "amd-sev", "amd-sev-es", "amd-sev-snp", "intel-tdx", "enrolled-keys",
    "requires-smm", "secure-boot", "verbose-dynamic", "verbose-static", "host-uefi-vars",
)  # fmt: skip
INTERFACES: Final = ("uefi", "bios", "openfirmware", "uboot")
MODES: Final = ("split", "combined", "stateless")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with descriptors, and whose it is."""

    origin: Origin
    path: Path


@dataclass(frozen=True, slots=True)
class Target:
    """An architecture, and globs of concrete machine types."""

    architecture: str
    machines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a descriptor says.

    Attributes:
        description: one line for people.
        interfaces: ``uefi``, ``bios`` and the like, the best first.
        device: where the firmware is mapped: ``flash``, ``kernel`` or ``memory``.
        mode: for flash: ``split``, ``combined`` or ``stateless``; "" else.
        executable: the firmware.
        template: template of the variable store, for ``split``.
        targets: what may run it.
        features: what it supports, and what it requires.
    """

    description: str
    interfaces: tuple[str, ...]
    device: str
    mode: str
    executable: FlashFile
    template: FlashFile | None
    targets: tuple[Target, ...]
    features: frozenset[str]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files it points to."""
        both = (self.executable, self.template)
        return tuple(item.path for item in both if item is not None)


@dataclass(frozen=True, slots=True)
class Entry:
    """A descriptor file.

    Attributes:
        name: its name without folder, which decides on the order.
        file: where it is.
        origin: whose it is.
        state: ``read``; ``overridden`` or ``masked`` by a file of its name in a more specific
            folder; ``mask``, an empty file; ``broken``.
        descriptor: what it says, when it was read.
        reason: why it was not read.
    """

    name: str
    file: Path
    origin: Origin
    state: State
    descriptor: Descriptor | None = None
    reason: str = ""


# --- reading ----------------------------------------------------------------------------------


def usual_folders(
    environ: Mapping[str, str] = os.environ, root: Path = Path("/")
) -> tuple[Folder, ...]:
    """The three folders, from general to specific.

    Args:
        environ: for ``XDG_CONFIG_HOME`` and ``HOME``.
        root: where the file system begins, for the first two.
    """
    base = environ.get("XDG_CONFIG_HOME", "")
    # The XDG base directory specification tells to ignore relative paths.
    config = Path(base) if base.startswith("/") else Path(environ.get("HOME", "/")) / ".config"
    return (
        Folder("distribution", root / "usr/share/qemu/firmware"),
        Folder("system", root / "etc/qemu/firmware"),
        Folder("user", config / "qemu/firmware"),
    )


def read_folders(folders: Sequence[Folder]) -> tuple[Entry, ...]:
    """Every descriptor file, in the order in which they are tried.

    Files that do not count come right behind the one of their name that does.

    Args:
        folders: from general to specific; one that does not exist is empty.
    """
    by_name: dict[str, list[tuple[Folder, Path]]] = {}
    for folder in folders:
        for file in _files_in(folder.path):
            by_name.setdefault(file.name, []).append((folder, file))
    found: list[Entry] = []
    # Bytewise, not by locale: every program must come to the same order.
    for name in sorted(by_name, key=os.fsencode):
        *hidden, (folder, file) = by_name[name]
        effective = _entry(name, folder, file)
        found.append(effective)
        state: State = "masked" if effective.state == "mask" else "overridden"
        reason = f"{state} by {file}"
        found += [
            Entry(name, other, owner.origin, state, None, reason)
            for owner, other in reversed(hidden)
        ]
    return tuple(found)


def _files_in(folder: Path) -> list[Path]:
    try:
        return [file for file in folder.iterdir() if file.name.endswith(".json")]
    except OSError:
        return []


def _entry(name: str, folder: Folder, file: Path) -> Entry:
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        return Entry(name, file, folder.origin, "broken", None, str(error.strerror or error))
    if not content:
        return Entry(name, file, folder.origin, "mask", None, "an empty file hides this name")
    try:
        if len(content) > FILE_LIMIT:
            raise _Broken("is larger than 1 MiB")
        return Entry(name, file, folder.origin, "read", parse_descriptor(content))
    except _Broken as fault:
        return Entry(name, file, folder.origin, "broken", None, str(fault))


class _Broken(ValueError):
    """The file is no usable descriptor."""


def parse_descriptor(content: bytes) -> Descriptor:
    """Read a descriptor.

    Raises:
        ValueError: it is none; the message reads on from the file's name.
    """
    try:
        raw: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deeply"
        raise _Broken(f"is no JSON: {reason}") from error
    top = _object(raw, "the file")
    mapping = _object(top.get("mapping"), "mapping")
    device = _text(mapping.get("device"), "mapping.device")
    mode, template = "", None
    if device == "flash":
        mode = _text(mapping.get("mode", "split"), "mapping.mode")
        if mode not in MODES:
            raise _Broken(f"mapping.mode: {mode!r} is none of {', '.join(MODES)}")
        readonly = mode != "combined"
        executable = _flash_file(mapping.get("executable"), "mapping.executable", readonly)
        if mode == "split":
            place = "mapping.nvram-template"
            template = _flash_file(mapping.get("nvram-template"), place, readonly=True)
    elif device in ("kernel", "memory"):
        executable = _file(_text(mapping.get("filename"), "mapping.filename"), "raw", True)
    else:
        raise _Broken(f"mapping.device: {device!r} is not known")
    return Descriptor(
        description=_text(top.get("description", ""), "description"),
        interfaces=_texts(top.get("interface-types"), "interface-types"),
        device=device,
        mode=mode,
        executable=executable,
        template=template,
        targets=tuple(
            _target(item, f"targets[{place}]")
            for place, item in enumerate(_list(top.get("targets"), "targets"))
        ),
        features=frozenset(_texts(top.get("features"), "features")),
    )


def _target(value: object, place: str) -> Target:
    table = _object(value, place)
    return Target(
        _text(table.get("architecture"), f"{place}.architecture"),
        _texts(table.get("machines"), f"{place}.machines"),
    )


def _flash_file(value: object, place: str, readonly: bool) -> FlashFile:
    table = _object(value, place)
    name = _text(table.get("filename"), f"{place}.filename")
    return _file(name, _text(table.get("format"), f"{place}.format"), readonly)


def _file(name: str, form: str, readonly: bool) -> FlashFile:
    try:
        return FlashFile(name, form, readonly)
    except UsageError as error:
        raise _Broken(error.message) from error


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Broken(f"{place} is missing or no object")
    return cast("dict[str, Any]", value)


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise _Broken(f"{place} is missing or no list")
    return cast("list[Any]", value)


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _Broken(f"{place} is missing or no text")
    return value


def _texts(value: object, place: str) -> tuple[str, ...]:
    return tuple(_text(item, f"{place}[{at}]") for at, item in enumerate(_list(value, place)))
