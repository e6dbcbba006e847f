"""What the debug output tells of QEMU's ACPI linker/loader script and of the S3 boot script.

Ref: edk2 OvmfPkg/AcpiPlatformDxe, which carries the script out command by command;
MdeModulePkg/Library/PiDxeS3BootScriptLib/BootScriptExecute.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from hwflash.qemu import boot_script, loader
from hwflash.qemu.debuglog_events import PLACE, Event, place


@dataclass(frozen=True, slots=True)
class Allocate(Event):
    """A fw_cfg file is downloaded into memory; ``zone`` 1 anywhere, 2 below 1 MiB."""

    kind: ClassVar[str] = "allocate"
    file: str
    alignment: int
    zone: int
    size: int
    address: int | None = place()

    @property
    def command(self) -> loader.Allocate:
        """The command of the script."""
        return loader.Allocate(self.file, self.alignment, self.zone)

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.command.text}, {self.size:,} bytes"


@dataclass(frozen=True, slots=True)
class AddPointer(Event):
    """The address of ``pointee_file`` is added to a field of ``pointer_file``."""

    kind: ClassVar[str] = "add-pointer"
    pointer_file: str
    pointee_file: str
    pointer_offset: int
    pointer_size: int

    @property
    def command(self) -> loader.AddPointer:
        """The command of the script."""
        return loader.AddPointer(
            self.pointer_file, self.pointee_file, self.pointer_offset, self.pointer_size
        )

    @property
    def text(self) -> str:
        """In words."""
        return self.command.text


@dataclass(frozen=True, slots=True)
class AddChecksum(Event):
    """A checksum over ``length`` bytes from ``start`` is put at ``result_offset``."""

    kind: ClassVar[str] = "add-checksum"
    file: str
    result_offset: int
    start: int
    length: int

    @property
    def command(self) -> loader.AddChecksum:
        """The command of the script."""
        return loader.AddChecksum(self.file, self.result_offset, self.start, self.length)

    @property
    def text(self) -> str:
        """In words."""
        return self.command.text


@dataclass(frozen=True, slots=True)
class WritePointer(Event):
    """The address of ``pointee_file`` plus an offset is written back to a fw_cfg file.

    Attributes:
        pointer_file: the fw_cfg file that is written.
        pointee_file: the file whose address is told.
        pointer_offset: where in the former.
        pointer_size: bytes.
        pointee_offset: into the latter; None in logs of firmware from before it existed.
    """

    kind: ClassVar[str] = "write-pointer"
    pointer_file: str
    pointee_file: str
    pointer_offset: int
    pointer_size: int
    pointee_offset: int | None = None

    @property
    def command(self) -> loader.WritePointer:
        """The command of the script."""
        return loader.WritePointer(
            self.pointer_file, self.pointee_file, self.pointer_offset, self.pointee_offset,
            self.pointer_size,
        )  # fmt: skip

    @property
    def text(self) -> str:
        """In words."""
        return self.command.text


@dataclass(frozen=True, slots=True)
class CondensedPointer(Event):
    """A pointer that is kept so that resume from S3 can write it again.

    Attributes:
        size: bytes.
        offset: in the fw_cfg file.
        index: among the pointers that are kept, from 0.
        item: selector of the fw_cfg file; QEMU numbers its files anew in each machine.
        address: what is written.
    """

    kind: ClassVar[str] = "condensed-pointer"
    size: int
    offset: int
    index: int
    item: int | None = place()
    address: int | None = place()

    @property
    def text(self) -> str:
        """In words."""
        return f"pointer {self.index} kept for S3: {self.size} bytes at offset {self.offset}"


@dataclass(frozen=True, slots=True)
class BootScriptStep(Event):
    """One opcode of the S3 boot script, carried out.

    Attributes:
        opcode: such as ``MEM_WRITE``, ``IO_WRITE``, ``TERMINATE``.
        count: units written, if it writes.
        port: of an I/O access.
        mask: of a poll: the bits looked at.
        value: of a poll: what they must be.
        information: bytes of an INFORMATION opcode.
        width: bytes of a unit that is written.
        address: in memory or PCI space; of a poll too.
        data: (address, value) of each unit; holds addresses of its own.
        script: address of the opcode in the script.
    """

    kind: ClassVar[str] = "boot-script"
    opcode: str
    count: int | None = None
    port: int | None = None
    mask: int | None = None
    value: int | None = None
    information: bytes | None = None
    width: int | None = None
    address: int | None = place()
    data: tuple[tuple[int, int], ...] = field(default=(), metadata=PLACE)
    script: int | None = place()

    @property
    def entry(self) -> boot_script.Entry:
        """The entry of the script, as far as the log tells it."""
        width = self.width or 1
        data = b"".join(
            (value & (1 << 8 * width) - 1).to_bytes(width, "little") for _, value in self.data
        )
        places = [address for address, _ in self.data]
        first = places[0] if places else self.address or 0
        return boot_script.Entry(
            self.script or 0, self.opcode, width, len(self.data),
            first if self.port is None else self.port,
            data or self.information or b"", self.value or 0, self.mask or 0,
            same_address=len(set(places)) < len(places),
        )  # fmt: skip

    @property
    def text(self) -> str:
        """In words."""
        words = f"boot script {self.opcode}"
        if self.port is not None:
            words += f" port 0x{self.port:X}"
        if self.information is not None:
            words += f" {self.information.hex(' ')}"
        return words
