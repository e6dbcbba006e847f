"""The one description of a simulated machine's flash, from which every dialect is made.

QEMU's flash device has two units: unit 0 ends where the CPU starts, unit 1 lies beside it. The
code image is shared and read-only; the variable store is the guest's own writable copy of a
template. QEMU is never told of the template: a command line cannot change it.

Ref: QEMU docs/interop/firmware.json, hw/i386/pc_sysfw.c; tried with QEMU 7.2.22.
Limits: the flash and what belongs to it (SMM, S3); disks, network and the like are no part of it.
Images are files, not block devices.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Protocol

from hwflash.errors import EnvironmentFault, ImageError, UsageError
from hwflash.units import Range

Mode = Literal["split", "combined", "stateless"]
Family = Literal["q35", "i440fx", "virt"]

#: Architectures whose flash is known here, as QEMU's programs are named.
ARCHITECTURES: Final = ("x86_64", "i386", "aarch64", "arm")
#: A machine type is an alias or a versioned name: q35, pc-q35-7.2, pc, virt.
_MACHINE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FORMAT: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
_COPY_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class FlashFile:
    """A file behind a flash unit.

    Attributes:
        path: its name; relative to wherever QEMU is started.
        format: QEMU's name of the format, ``raw`` or ``qcow2``.
        readonly: the guest may not write to it.
        part: only these bytes of the file; raw images only.

    Raises:
        UsageError: a name that not every dialect can carry (``usage.qemu-path``), or a format
            that is none (``usage.qemu-format``).
    """

    path: str
    format: str = "raw"
    readonly: bool = False
    part: Range | None = None

    def __post_init__(self) -> None:
        # NUL ends a string in QEMU; XML has no control characters; a lone surrogate is a byte
        # that is no UTF-8, which neither XML nor JSON can say.
        bad = next((char for char in self.path if _unprintable(ord(char))), None)
        if not self.path or bad is not None:
            text = f"the character U+{ord(bad):04X}" if bad else "no character at all"
            raise UsageError(
                f"the file name {self.path!r} has {text}", code="usage.qemu-path", file=self.path
            )
        if not _FORMAT.fullmatch(self.format):
            raise UsageError(
                f"{self.format!r} is no image format",
                code="usage.qemu-format",
                format=self.format,
            )


@dataclass(frozen=True, slots=True)
class Machine:
    """A simulated machine, as far as its flash goes.

    Attributes:
        code: flash unit 0: firmware code, or code and variables in one image.
        vars: flash unit 1: the guest's own variable store; None when there is no such unit.
        template: what the guest's writable image is a copy of, or None. Never given to QEMU.
        machine: QEMU's machine type, alias or versioned.
        architecture: as in ``qemu-system-...``.
        secure: the flash takes writes from SMM only (``cfi.pflash01``'s ``secure``).
        smm: whether the machine has SMM; None leaves it to QEMU.
        s3: whether the machine has S3; None leaves it to QEMU.
        max_firmware_size: limit of all flash units together, bytes; None: QEMU's 8 MiB.

    Raises:
        UsageError: what no QEMU takes (``usage.qemu-machine``).
    """

    code: FlashFile
    vars: FlashFile | None = None
    template: FlashFile | None = None
    machine: str = "q35"
    architecture: str = "x86_64"
    secure: bool = False
    smm: bool | None = None
    s3: bool | None = None
    max_firmware_size: int | None = None

    def __post_init__(self) -> None:
        if not _MACHINE.fullmatch(self.machine):
            raise _nonsense(f"{self.machine!r} is no machine type", machine=self.machine)
        if self.architecture not in ARCHITECTURES:
            raise _nonsense(
                f"the flash of {self.architecture!r} machines is not known",
                architecture=self.architecture,
                known=list(ARCHITECTURES),
            )
        if self.family in ("virt", None):
            for name in ("smm", "s3", "max_firmware_size"):
                if getattr(self, name) is not None:
                    raise _nonsense(f"a {self.machine} machine has no option for {name}")
        if self.max_firmware_size is not None and self.max_firmware_size <= 0:
            raise _nonsense("the limit of the firmware's size must be above zero")

    @property
    def family(self) -> Family | None:
        """The board code that lays the flash out; None: a machine whose flash is not known."""
        return family_of(self.machine, self.architecture)

    @property
    def mode(self) -> Mode:
        """How code and variables are kept, in the words of QEMU's firmware descriptors."""
        if self.vars is not None:
            return "split"
        return "stateless" if self.code.readonly else "combined"

    @property
    def program(self) -> str:
        """The QEMU program that has this machine."""
        return f"qemu-system-{self.architecture}"

    @property
    def units(self) -> tuple[FlashFile, ...]:
        """The files behind the flash units, unit 0 first."""
        return (self.code,) if self.vars is None else (self.code, self.vars)

    def for_guest(self) -> Machine:
        """The description without what QEMU is never told: the template."""
        return replace(self, template=None)


def family_of(machine: str, architecture: str) -> Family | None:
    """Whose flash a machine type has, or None when it has none or it is not known."""
    if architecture in ("aarch64", "arm"):
        return "virt" if machine == "virt" or machine.startswith("virt-") else None
    if machine == "q35" or machine.startswith("pc-q35-"):
        return "q35"
    return "i440fx" if machine == "pc" or machine.startswith("pc-i440fx-") else None


# --- making descriptions ----------------------------------------------------------------------


def make_machine(
    code: str,
    template: str | None,
    copy: str | None,
    *,
    machine: str = "q35",
    architecture: str | None = None,
    secure: bool = False,
    format: str = "raw",  # noqa: A002 - QEMU's word
) -> Machine:
    """The usual machine: shared code, and the guest's own copy of a template.

    Args:
        code: firmware code image; without ``template``, one with the variables in it.
        template: template of the variable store, or None.
        copy: the guest's own file; None: nothing is kept (``stateless``).
        machine: QEMU's machine type.
        architecture: default: that of the machine type.
        secure: the firmware is built for Secure Boot with SMM: writes to the flash come from
            SMM only, and the machine has SMM.
        format: of all files.

    Raises:
        UsageError: the guest's file is the template, or the code (``usage.qemu-template``), or
            what `Machine` and `FlashFile` refuse.
    """
    if copy is not None and copy in (code, template):
        raise UsageError(
            f"{copy} would be the guest's own file and its template at once",
            code="usage.qemu-template",
            file=copy,
        )
    shared = FlashFile(code, format, readonly=True)
    chosen = architecture or usual_architecture(machine)
    smm = True if secure else None
    if copy is None:
        return Machine(
            shared, machine=machine, architecture=chosen, secure=secure, smm=smm,
        )  # fmt: skip
    own = FlashFile(copy, format)
    if template is None:
        return Machine(
            own, None, shared, machine=machine, architecture=chosen, secure=secure, smm=smm,
        )  # fmt: skip
    master = FlashFile(template, format, readonly=True)
    return Machine(
        shared, own, master, machine=machine, architecture=chosen, secure=secure, smm=smm,
    )  # fmt: skip


def usual_architecture(machine: str) -> str:
    """The architecture of a machine type: aarch64 for ``virt``, x86_64 else."""
    return "aarch64" if machine == "virt" or machine.startswith("virt-") else "x86_64"


class ReferenceTable(Protocol):
    """The ``[reference]`` table of a board file."""

    @property
    def code(self) -> str:
        """Firmware code image."""
        ...

    @property
    def vars(self) -> str | None:
        """Template of the variable store."""
        ...

    @property
    def machine(self) -> str:
        """QEMU's machine type."""
        ...

    @property
    def secure(self) -> bool:
        """Whether the flash takes writes from SMM only."""
        ...


class HasReference(Protocol):
    """A board, as far as it matters here."""

    @property
    def name(self) -> str:
        """The board's name."""
        ...

    @property
    def reference(self) -> ReferenceTable | None:
        """Its ``[reference]`` table."""
        ...


def from_board(board: HasReference, copy: str | None) -> Machine:
    """The machine of a board file's ``[reference]``.

    Args:
        board: a `hwflash.boards.Board`.
        copy: the guest's own file, or None for a machine that keeps nothing.

    Raises:
        UsageError: the board has no reference (``usage.qemu-reference``), or see `make_machine`.
    """
    table = board.reference
    if table is None:
        raise UsageError(
            f"the board {board.name} has no [reference]",
            code="usage.qemu-reference",
            board=board.name,
        )
    return make_machine(table.code, table.vars, copy, machine=table.machine, secure=table.secure)


# --- the guest's own copy ---------------------------------------------------------------------


def prepare_copy(machine: Machine) -> bool:
    """Make the guest's own file from its template, unless it exists.

    The template is only read. A file that exists is the guest's and left as it is.

    Returns:
        Whether the file was made.

    Raises:
        UsageError: the file is missing and there is no template, the formats differ, or both
            names mean one file (``usage.qemu-template``).
        ImageError: the template cannot be read (``image.unreadable``).
        EnvironmentFault: the copy cannot be written (``environment.unwritable``).
    """
    own = machine.vars or (None if machine.code.readonly else machine.code)
    if own is None:
        return False
    target, template = Path(own.path), machine.template
    there = _identity(target)
    if there is not None:
        if template is not None and there == _identity(Path(template.path)):
            raise _template(f"{own.path} is the template itself", own.path)
        return False
    if template is None:
        raise _template(f"{own.path} does not exist, and has no template", own.path)
    if template.format != own.format:
        raise _template(
            f"{own.path} is to be {own.format}, its template is {template.format}", own.path
        )
    _copy(Path(template.path), target)
    return True


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None: there is no such file."""
    try:
        found = path.stat()
    except OSError:  # also a folder that may not be entered: the copy will say so
        return None
    return found.st_dev, found.st_ino


def _copy(template: Path, target: Path) -> None:
    try:
        source = template.open("rb")
    except OSError as error:
        raise _unreadable(template, error) from error
    with source:
        made = False
        try:
            # "x": a guest that starts at the same moment keeps its file. The template's mode
            # (read-only in most packages) is not copied.
            with target.open("xb") as stream:
                made = True
                while chunk := source.read(_COPY_CHUNK):
                    stream.write(chunk)
        except OSError as error:
            if made:
                target.unlink(missing_ok=True)
            raise EnvironmentFault(
                f"{template} cannot be copied to {target}: {error.strerror or error}",
                code="environment.unwritable",
                file=str(target),
                errno=error.errno,
            ) from error


# --- sizes ------------------------------------------------------------------------------------


def file_sizes(files: Sequence[FlashFile]) -> tuple[int | None, ...]:
    """Bytes of each file; None: there is no such file, or it is no raw image."""
    found: list[int | None] = []
    for item in files:
        try:
            status = Path(item.path).stat()
        except OSError:
            found.append(None)
            continue
        usable = item.format == "raw" and not stat.S_ISDIR(status.st_mode)
        found.append(status.st_size if usable else None)
    return tuple(found)


# --- errors -----------------------------------------------------------------------------------


def _unprintable(char: int) -> bool:
    return char < 0x20 or 0x7F <= char < 0xA0 or 0xD800 <= char < 0xE000 or char in (0xFFFE, 0xFFFF)


def _nonsense(message: str, **context: object) -> UsageError:
    return UsageError(message, code="usage.qemu-machine", **context)


def _template(message: str, file: str) -> UsageError:
    return UsageError(message, code="usage.qemu-template", file=file)


def _unreadable(path: Path, error: OSError) -> ImageError:
    return ImageError(
        f"{path} cannot be read: {error.strerror or error}",
        code="image.unreadable",
        file=str(path),
        errno=error.errno,
    )
