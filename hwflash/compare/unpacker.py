"""The process in which firmware volumes are unpacked; run as a program, not imported.

Reads volumes from standard input: a line with their lengths as JSON, then their bytes. Answers
with one JSON line for each volume: ``modules`` and ``fault``, or a single line with ``missing``
when the package is not there. What the package itself prints goes nowhere.

It may be given anything: address space, CPU time and output are limited, and whoever started it
ends it when its time is over.

Ref: UEFI PI 1.8 volume 3 chapter 3 (state bits of files, types of sections).
Limits: what the ``uefi-firmware`` package unpacks; it stops at the first file of 16 MiB or more.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import UUID

MEMORY_LIMIT: Final = 2 << 30
CPU_LIMIT: Final = 60
OUTPUT_LIMIT: Final = 64 << 20
MODULE_LIMIT: Final = 8192
SECTION_LIMIT: Final = 64

_DELETED: Final = 0x10 | 0x20  # EFI_FILE_DELETED, EFI_FILE_HEADER_INVALID
_PAD_FILE: Final = 0xF0
_RAW: Final = 0x19
_USER_INTERFACE: Final = 0x15
_COMPRESSION: Final = 0x01
_WRAPPED: Final = (_COMPRESSION, 0x02)  # the other one is GUID defined


def limit() -> None:
    """Take away from this process what unpacking does not need."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_LIMIT),
        (resource.RLIMIT_CPU, CPU_LIMIT),
        (resource.RLIMIT_FSIZE, OUTPUT_LIMIT),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def main() -> None:
    """Unpack what is on standard input."""
    limit()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    lengths = json.loads(sys.stdin.buffer.readline())
    try:
        library: Any = importlib.import_module("uefi_firmware.uefi")
    except Exception as error:  # an extension module may fail in any way
        answer.write(json.dumps({"missing": f"{type(error).__name__}: {error}"}) + "\n")
        answer.flush()
        return
    for length in lengths:
        line = unpack(library, sys.stdin.buffer.read(length))
        answer.write(json.dumps(line) + "\n")
        answer.flush()


def unpack(library: Any, data: bytes) -> dict[str, Any]:
    """The modules of a volume, and what went wrong with the rest of it."""
    walk = Walk(library)
    try:
        volume = library.FirmwareVolume(data)
        if not volume.valid_header:
            return {"modules": [], "fault": "its file system is not known"}
        volume.process()
        walk.volume(volume, ())
        body = bytes(volume.data)
        if not (walk.modules or walk.faults) and body.count(0xFF) != len(body):
            walk.faults.append("no module was found in it")
    except Exception as error:  # the package promises nothing about bytes it does not like
        walk.faults.append(f"{type(error).__name__} while it was unpacked")
    fault = "; ".join(dict.fromkeys(walk.faults)) or None
    return {"modules": walk.modules, "fault": fault}


class Walk:
    """One pass over the objects that the package has made.

    Attributes:
        modules: what was found, in order.
        faults: sentences on what was not.
    """

    def __init__(self, library: Any) -> None:
        self.library = library
        self.modules: list[dict[str, Any]] = []
        self.faults: list[str] = []

    def volume(self, volume: Any, path: tuple[str, ...]) -> None:
        """A volume, ``path`` being the names of those it lies in."""
        for system in volume.firmware_filesystems:
            rest = bytes(system.overflow_data or b"")
            if rest.count(0xFF) != len(rest):
                self.faults.append(f"0x{len(rest):X} bytes behind a damaged or large file")
            for file in system.files:
                self.file(file, path)

    def file(self, file: Any, path: tuple[str, ...]) -> None:
        """A file, and the volumes inside it."""
        if file.type == _PAD_FILE or (file.state ^ 0xFF) & _DELETED:
            return
        leaves: list[tuple[int, bytes, str | None]] = []
        inner: list[Any] = []
        self._gather(file.sections, leaves, inner)
        for blob in file.raw_blobs:
            self._blob(blob, leaves, inner)
        if not (leaves or inner):
            leaves = [(0, bytes(file.data), None)]
        # The raw sections that align what follows them depend on the place, not on the content.
        leaves = [item for item in leaves if len(leaves) == 1 or not _filler(item[0], item[1])]
        if leaves and not (inner and all(_filler(kind, data) for kind, data, _ in leaves)):
            self._module(file, leaves, path)
        for volume in inner:
            name = getattr(volume, "fvname", None)
            self.volume(volume, (*path, str(UUID(bytes_le=name)) if name else "volume"))

    def _gather(self, sections: Iterable[Any], leaves: list[Any], inner: list[Any]) -> None:
        """Sections without those that only wrap others."""
        for section in sections:
            wrapped = section.parsed_object
            if section.type in _WRAPPED and not _unwrapped(section):
                self.faults.append(f"a section of {section.size:,} bytes does not unpack")
            if wrapped is None:
                leaves.append((section.type, bytes(section.data), section.name))
            elif _is_volume(wrapped):
                inner.append(wrapped)
            elif getattr(wrapped, "subsections", None):
                for item in wrapped.subsections:
                    if _is_volume(item):
                        inner.append(item)
                    elif hasattr(item, "parsed_object"):
                        self._gather([item], leaves, inner)
                    else:
                        leaves.append((section.type, bytes(item.data), None))
            else:
                leaves.append((section.type, bytes(section.data), section.name))

    @staticmethod
    def _blob(blob: Any, leaves: list[Any], inner: list[Any]) -> None:
        if _is_volume(blob):
            inner.append(blob)
        elif isinstance(blob, bytes):
            leaves.append((0, blob, None))
        else:
            leaves.append((0, bytes(getattr(blob, "data", None) or b""), None))

    def _module(self, file: Any, leaves: list[Any], path: tuple[str, ...]) -> None:
        if len(self.modules) >= MODULE_LIMIT:
            self.faults.append(f"more than {MODULE_LIMIT} modules")
            return
        digest = hashlib.sha256(bytes([file.type]))
        sections: list[tuple[str, int, str]] = []
        for kind, data, _ in leaves:
            own = hashlib.sha256(data)
            digest.update(bytes([kind]) + own.digest())
            if len(sections) < SECTION_LIMIT:
                sections.append((self._kind(kind), len(data), own.hexdigest()))
        names = [name for kind, _, name in leaves if kind == _USER_INTERFACE and name]
        self.modules.append(
            {
                "guid": str(UUID(bytes_le=file.guid)),
                "name": names[0] if names else self._known_name(file.guid),
                "kind": str(file.attrs["type_name"]),
                "size": int(file.size),
                "sha256": digest.hexdigest(),
                "volume": list(path),
                "sections": sections,
            }
        )

    def _kind(self, kind: int) -> str:
        known = self.library.EFI_SECTION_TYPES.get(kind)
        return str(known[0]) if known else ("content" if kind == 0 else f"section 0x{kind:02x}")

    def _known_name(self, guid: bytes) -> str | None:
        name = self.library.get_guid_name(guid)
        return str(name) if name else None


def _unwrapped(section: Any) -> bool:
    """Whether the package got to what is in a section; one of a GUID it does not know counts."""
    wrapped = section.parsed_object
    return wrapped is not None and bool(wrapped.subsections or section.type != _COMPRESSION)


def _is_volume(item: object) -> bool:
    return hasattr(item, "firmware_filesystems")


def _filler(kind: int, data: bytes) -> bool:
    return kind == _RAW and bool(data) and data.count(data[0]) == len(data) and data[0] in (0, 0xFF)


def lines(text: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What `main` has written, for whoever started it; a line that was cut off ends it."""
    for line in text:
        try:
            yield json.loads(line)
        except ValueError:
            return


if __name__ == "__main__":
    main()
