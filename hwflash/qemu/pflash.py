"""QEMU's parallel flash: what ``cfi.pflash01`` is, where its units lie, what QEMU refuses.

A PC's unit 0 ends at 4 GiB, where the CPU starts; unit 1 ends where unit 0 begins. An Arm
``virt`` machine has two units of 64 MiB from address 0 upwards. Refusals are foretold in the
words of QEMU 7.2, from the sizes alone, before QEMU is started.

Ref: QEMU hw/i386/pc_sysfw.c; properties, addresses, sizes and messages as QEMU 7.2.22 itself
shows them (``info qtree``, ``info mtree``, ``-device cfi.pflash01,help``).
Limits: other versions may word their refusals differently, or allow more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hwflash.errors import ImageError
from hwflash.qemu.machine import Family, FlashFile, Machine, file_sizes
from hwflash.units import KIB, MIB, Range

FOUR_GIB: Final = 1 << 32
#: Flash units a board has.
UNITS: Final = 2
#: QEMU's block layer counts in these: a raw file appears padded to the next one.
BLOCK_LAYER_SECTOR: Final = 512
#: All units of a PC together, unless ``max-fw-size`` says otherwise; and its own limit.
USUAL_LIMIT: Final = 8 * MIB
HIGHEST_LIMIT: Final = 16 * MIB
#: The end of unit 0 that a PC shows again below 1 MiB.
ISA_WINDOW: Final = 128 * KIB


@dataclass(frozen=True, slots=True)
class FlashBoard:
    """How a board's code sets up its flash.

    Attributes:
        device: what QEMU calls the units, followed by their number.
        sector: bytes of an erase block.
        unit_size: bytes every unit must have; None: as many as the file has.
        properties: what the board code sets, by property name; ``num-blocks`` and ``name`` are
            in `Unit`.
    """

    device: str
    sector: int
    unit_size: int | None
    properties: tuple[tuple[str, int], ...]


PC: Final = FlashBoard("system.flash", 4 * KIB, None, (("sector-length", 4 * KIB), ("width", 1)))
VIRT: Final = FlashBoard(
    "virt.flash",
    256 * KIB,
    64 * MIB,
    (
        ("sector-length", 256 * KIB), ("width", 4), ("device-width", 2),
        ("max-device-width", 2), ("id0", 0x89), ("id1", 0x18),
    ),
)  # fmt: skip
BOARDS: Final[dict[Family, FlashBoard]] = {"q35": PC, "i440fx": PC, "virt": VIRT}


@dataclass(frozen=True, slots=True)
class Property:
    """A property of ``cfi.pflash01``.

    Attributes:
        kind: its type, as QEMU names it.
        default: before any board code; None for a name or drive that is not given.
        meaning: one line for people.
    """

    name: str
    kind: str
    default: int | bool | None
    meaning: str


PROPERTIES: Final = (
    Property("drive", "str", None, "the block device whose content it is"),
    Property("num-blocks", "uint32", 0, "erase blocks; the board sets size / sector-length"),
    Property("sector-length", "uint64", 0, "bytes of an erase block"),
    Property("width", "uint8", 0, "bytes of the bus"),
    Property("device-width", "uint8", 0, "bytes of each chip on the bus; 0: as wide as the bus"),
    Property("max-device-width", "uint8", 0, "widest bus a chip could take; 0: device-width"),
    Property("big-endian", "bool", False, "order of the bytes of one access"),
    Property("secure", "bool", False, "writes only in secure mode: on a PC, from SMM"),
    Property("id0", "uint16", 0, "first identification word (command 90h)"),
    Property("id1", "uint16", 0, "second identification word"),
    Property("id2", "uint16", 0, "third identification word"),
    Property("id3", "uint16", 0, "fourth identification word"),
    Property("name", "str", None, "name of the memory region"),
    Property(
        "old-multiple-chip-handling", "bool", False,
        "chips on one bus answer as in QEMU 2.8; set by machine types up to 2.8",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unit:
    """A flash unit in the guest's memory.

    Attributes:
        number: 0 or 1.
        name: what QEMU calls it, in ``info mtree`` and ``/machine``.
        range: physical addresses.
        sector: bytes of an erase block.
    """

    number: int
    name: str
    range: Range
    sector: int

    @property
    def blocks(self) -> int:
        """Erase blocks: the property ``num-blocks``."""
        return self.range.length // self.sector

    def properties(self, family: Family, *, secure: bool = False) -> dict[str, int | bool | str]:
        """Every property as it is once the board code is done, without ``drive``."""
        found: dict[str, int | bool | str] = {
            item.name: item.default for item in PROPERTIES if item.default is not None
        }
        found |= dict(BOARDS[family].properties)
        return found | {"num-blocks": self.blocks, "name": self.name, "secure": secure}


def units_of(family: Family, sizes: Sequence[int]) -> tuple[Unit, ...]:
    """Where the units lie.

    Args:
        family: the board code.
        sizes: bytes of each unit's image as QEMU sees it, unit 0 first.
    """
    board = BOARDS[family]
    found: list[Unit] = []
    end = FOUR_GIB
    for number, size in enumerate(sizes):
        if board.unit_size is not None:
            where = Range(number * board.unit_size, board.unit_size)
        else:
            end -= size
            where = Range(end, size)
        found.append(Unit(number, f"{board.device}{number}", where, board.sector))
    return tuple(found)


def isa_window(family: Family, size: int) -> Range | None:
    """Where the end of unit 0 appears a second time below 1 MiB; None on Arm."""
    if BOARDS[family] is not PC:
        return None
    length = min(size, ISA_WINDOW)
    return Range(MIB - length, length)


def seen_size(size: int) -> int:
    """Bytes of a raw file as QEMU sees it: padded to 512."""
    return -(-size // BLOCK_LAYER_SECTOR) * BLOCK_LAYER_SECTOR


# --- what QEMU refuses ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """QEMU will not start, and says so.

    Attributes:
        code: ``qemu.pflash-size`` and the like.
        message: what QEMU prints behind its name.
        unit: the flash unit it is about, or None.
    """

    code: str
    message: str
    unit: int | None = None


def refusal(
    family: Family | None,
    sizes: Sequence[int | None],
    *,
    limit: int | None = None,
    names: Sequence[str] = ("pflash0", "pflash1"),
) -> Refusal | None:
    """Why QEMU would not start, or None when the sizes give it no reason.

    Args:
        family: the board code; None: a machine without flash units.
        sizes: bytes of each unit's file, unit 0 first; None: a unit without a file, or one
            whose size is not known.
        limit: ``max-fw-size``.
        names: what QEMU calls the block devices: the ids of ``-drive``. Nodes of
            ``-blockdev`` have no such name: give "".
    """
    if family is None or len(sizes) > UNITS:
        unit = UNITS if family is not None else 0
        text = f"machine type does not support if=pflash,bus=0,unit={unit}"
        return Refusal("qemu.pflash-unit", text, unit)
    seen = [None if size is None else seen_size(size) for size in sizes]
    if BOARDS[family] is VIRT:
        return _virt_refusal(seen)
    return _pc_refusal(seen, limit, names)


def _virt_refusal(sizes: Sequence[int | None]) -> Refusal | None:
    needed = VIRT.unit_size
    for unit, size in enumerate(sizes):
        if size is not None and size != needed:
            text = f"device requires {needed} bytes, block backend provides {size} bytes"
            return Refusal("qemu.pflash-size", text, unit)
    return None


def _pc_refusal(
    sizes: Sequence[int | None], limit: int | None, names: Sequence[str]
) -> Refusal | None:
    most = limit or USUAL_LIMIT
    if most > HIGHEST_LIMIT:
        text = f"User specified max allowed firmware size {most} is greater than 16MiB"
        return Refusal("qemu.pflash-limit", text)
    total = 0
    for unit, size in enumerate(sizes):
        if size is None:
            continue
        if not size or size % PC.sector:
            text = f"system firmware block device {names[unit]} has invalid size {size}"
            return Refusal("qemu.pflash-size", text, unit)
        total += size
        if total > most:
            text = f"combined size of system firmware exceeds {most} bytes"
            return Refusal("qemu.pflash-total", text, unit)
    return None


def require_startable(machine: Machine) -> tuple[Unit, ...]:
    """Look at a machine's files as QEMU would, and say where its units will lie.

    A guest's own file that is still to be made is looked at in its template.

    Returns:
        The units; fewer than the machine has when the size of a qcow2 image is not known.

    Raises:
        ImageError: a file is not there (``qemu.pflash-missing``), or QEMU would refuse
            (``qemu.pflash-size``, ``-total``, ``-unit``, ``-limit``); ``context["qemu"]`` is
            what it would print.
    """
    files = tuple(_to_look_at(machine, item) for item in machine.units)
    sizes = file_sizes(files)
    for unit, (item, size) in enumerate(zip(files, sizes, strict=True)):
        if size is None and item.format == "raw":
            raise ImageError(
                f"flash unit {unit}: there is no file {item.path}",
                code="qemu.pflash-missing",
                file=item.path,
                unit=unit,
            )
    found = refusal(machine.family, sizes, limit=machine.max_firmware_size)
    if found is not None:
        file = None if found.unit is None else dict(enumerate(files)).get(found.unit)
        about = f"{file.path}: " if file else ""
        raise ImageError(
            f"{about}QEMU would not start: {found.message}",
            code=found.code,
            file=file.path if file else None,
            unit=found.unit,
            qemu=found.message,
        )
    known = sizes[: sizes.index(None)] if None in sizes else sizes
    seen = [seen_size(size) for size in known if size is not None]
    return units_of(machine.family, seen) if machine.family else ()


def _to_look_at(machine: Machine, item: FlashFile) -> FlashFile:
    missing = not item.readonly and file_sizes([replace(item, format="raw")])[0] is None
    return machine.template if missing and machine.template is not None else item


# --- what QEMU takes without a word -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Concern:
    """QEMU starts, and the firmware does not do what was meant.

    Attributes:
        code: ``qemu.same-file`` and the like.
        message: what will happen.
    """

    code: str
    message: str


def concerns(machine: Machine) -> tuple[Concern, ...]:
    """What is odd in a description although QEMU takes it."""
    found: list[Concern] = []
    own = machine.vars
    if own is not None and own.path == machine.code.path:
        found.append(Concern("qemu.same-file", f"{own.path} is behind both flash units"))
    if own is not None and not machine.code.readonly:
        text = f"{machine.code.path}: the guest may write to the code image"
        found.append(Concern("qemu.code-writable", text))
    if own is not None and own.readonly:
        text = f"{own.path} is read-only: the firmware takes it for no flash and keeps nothing"
        found.append(Concern("qemu.vars-readonly", text))
    if machine.mode == "stateless":
        text = "there is no writable flash unit: variables are lost when the guest ends"
        found.append(Concern("qemu.no-vars", text))
    if machine.secure and machine.family in ("q35", "i440fx") and machine.smm is False:
        text = "the flash takes writes from SMM only, and the machine has no SMM"
        found.append(Concern("qemu.secure-without-smm", text))
    if machine.secure and machine.family == "i440fx":
        text = "firmware that keeps its variables in SMM needs a q35 machine"
        found.append(Concern("qemu.secure-machine", text))
    shared = machine.template
    if shared is not None and any(
        item.path == shared.path and not item.readonly for item in machine.units
    ):
        found.append(Concern("qemu.template-writable", f"{shared.path} is a template and written"))
    return tuple(found)
