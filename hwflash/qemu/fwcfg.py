"""QEMU's fw_cfg: what QEMU hands to firmware, read as firmware reads it.

The device is driven over qtest while the processor stands still: a selector is written, then bytes
come one by one, or as a whole by DMA into the guest's RAM. The RAM that DMA needs is put back
afterwards.

Ref: QEMU docs/specs/fw_cfg.txt; hw/nvram/fw_cfg.c of 7.2.
Limits: what a guest's firmware has selected and not read to its end is lost to it. Reading
``etc/table-loader`` or ``etc/acpi/*`` before the firmware has set up its devices freezes the ACPI
tables of that boot. Nothing is written to fw_cfg.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import construct

from hwflash.bus.qtest import QtestClient
from hwflash.errors import ReferenceFailed
from hwflash.qemu.guest_memory import GuestMemory
from hwflash.qemu.machine import Family
from hwflash.uefi.window import printable

# construct carries no annotations: its names enter as Any.
c: Any = construct

SIGNATURE: Final = b"QEMU"
DMA_SIGNATURE: Final = b"QEMU CFG"
SIGNATURE_ITEM: Final = 0x0000
FEATURES_ITEM: Final = 0x0001
DIRECTORY_ITEM: Final = 0x0019
#: Files have selectors from here on.
FIRST_FILE: Final = 0x0020
#: Bits of a selector that name an item.
_ITEMS: Final = 0x4000
NAME_BYTES: Final = 56
#: The largest file that is read; a kernel would be larger, and there is none here.
LARGEST: Final = 64 << 20
#: Above this, byte by byte takes minutes.
_LARGEST_BY_PORT: Final = 1 << 20

#: What the features item says.
TRADITIONAL: Final = 1
DMA: Final = 2

#: Control word of a DMA access. Its upper half is the selector, where `SELECT` is set.
ERROR, READ, SKIP, SELECT, WRITE = 1, 2, 4, 8, 16

#: RAM for a DMA access and its data, from the begin of RAM on; in no machine is it ROM.
_SCRATCH: Final = 0x20000
_DMA_BYTES: Final = 0x40000

ENTRY: Final = c.Struct(
    "size" / c.Int32ub, "select" / c.Int16ub, "reserved" / c.Int16ub, "name" / c.Bytes(NAME_BYTES)
)
#: A DMA access as it lies in memory.
ACCESS: Final = c.Struct("control" / c.Int32ub, "length" / c.Int32ub, "address" / c.Int64ub)


@dataclass(frozen=True, slots=True)
class FwCfgFile:
    """A file of fw_cfg: its name, its selector, and its size in bytes."""

    name: str
    select: int
    size: int


@dataclass(frozen=True, slots=True)
class _Door:
    """Where the registers are, as qtest commands with a place for a value.

    Attributes:
        select: chooses an item.
        data: reads the next byte.
        dma: read the two halves of the DMA register.
        start: write them; the second carries out the access that lies at the address.
        big: the selector is a register in memory, and big endian.
    """

    select: bytes
    data: bytes
    dma: tuple[bytes, bytes]
    start: tuple[bytes, bytes]
    big: bool = False


_PORTS: Final = _Door(
    b"outw 0x510 0x%x", b"inb 0x511", (b"inl 0x514", b"inl 0x518"),
    (b"outl 0x514 0x%x", b"outl 0x518 0x%x"),
)  # fmt: skip
_MAPPED: Final = _Door(
    b"writew 0x9020008 0x%x", b"readb 0x9020000", (b"readl 0x9020010", b"readl 0x9020014"),
    (b"writel 0x9020010 0x%x", b"writel 0x9020014 0x%x"), big=True,
)  # fmt: skip
_DOORS: Final[dict[Family, _Door]] = {"q35": _PORTS, "i440fx": _PORTS, "virt": _MAPPED}


def _swapped(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "big"), "little")


class FwCfg:
    """The fw_cfg device of a guest.

    Args:
        qtest: the guest's qtest server.
        memory: its RAM, for DMA.
        family: of its machine.
    """

    def __init__(self, qtest: QtestClient, memory: GuestMemory, family: Family) -> None:
        self._qtest = qtest
        self._memory = memory
        self._door = _DOORS[family]
        self._scratch = memory.ram.address + _SCRATCH

    def signature(self) -> bytes:
        """What the device calls itself; `SIGNATURE` where it is one."""
        return self.read_port(SIGNATURE_ITEM, len(SIGNATURE))

    def features(self) -> int:
        """Bits `TRADITIONAL` and `DMA`."""
        return int.from_bytes(self.read_port(FEATURES_ITEM, 4), "little")

    def dma_signature(self) -> bytes:
        """What the DMA register reads as; `DMA_SIGNATURE` where there is DMA."""
        halves = self._qtest.execute(self._door.dma)
        return b"".join(_number(item).to_bytes(4, "little") for item in halves)

    def require(self) -> None:
        """See that there is such a device.

        Raises:
            ReferenceFailed: there is none (``reference.fwcfg``).
        """
        found = self.signature()
        if found != SIGNATURE:
            raise ReferenceFailed(
                f"there is no fw_cfg: its signature reads {found.hex(' ')}", code="reference.fwcfg"
            )

    def files(self) -> tuple[FwCfgFile, ...]:
        """The directory.

        Raises:
            ReferenceFailed: there is no device (``reference.fwcfg``), or its directory cannot be
                (``reference.fwcfg-directory``).
        """
        self.require()
        count = int.from_bytes(self.read_port(DIRECTORY_ITEM, 4), "big")
        require_count(count)
        return parse_directory(self.read_port(DIRECTORY_ITEM, 4 + count * ENTRY.sizeof()))

    def file(self, name: str) -> FwCfgFile:
        """A file by name.

        Raises:
            ReferenceFailed: there is none (``reference.fwcfg-file``), or as `files`.
        """
        return named(self.files(), name)

    def content(self, file: FwCfgFile) -> bytes:
        """A file's content: by DMA where it is long and there is DMA.

        Raises:
            ReferenceFailed: see `read_port` and `read_dma`.
        """
        if file.size > NAME_BYTES and self.features() & DMA:
            return self.read_dma(file.select, file.size)
        return self.read_port(file.select, file.size)

    def read_port(self, item: int, size: int) -> bytes:
        """The first bytes of an item, one by one through the data port.

        Raises:
            ReferenceFailed: too much for this way (``reference.fwcfg-size``).
        """
        _require_size(size, _LARGEST_BY_PORT)
        select = self._door.select % (_swapped(item, 2) if self._door.big else item)
        answers = self._qtest.execute([select, *[self._door.data] * size])
        return bytes(_number(answer) & 0xFF for answer in answers[1:])

    def read_dma(self, item: int, size: int) -> bytes:
        """The first bytes of an item, by DMA.

        Raises:
            ReferenceFailed: the device reports an error or does nothing
                (``reference.fwcfg-dma``), or too much is asked for (``reference.fwcfg-size``).
        """
        _require_size(size, LARGEST)
        pieces: list[bytes] = []
        with self._borrowed(min(size, _DMA_BYTES)) as buffer:
            control = item << 16 | SELECT | READ
            for start in range(0, size, _DMA_BYTES):
                length = min(size - start, _DMA_BYTES)
                self._transfer(control, length, buffer)
                pieces.append(self._memory.read(buffer, length))
                control = READ
        return b"".join(pieces)

    def _transfer(self, control: int, length: int, address: int) -> None:
        access = ACCESS.build({"control": control, "length": length, "address": address})
        self._memory.write(self._scratch, access)
        halves = divmod(self._scratch, 1 << 32)
        lines = zip(self._door.start, halves, strict=True)
        self._qtest.execute([line % _swapped(half, 4) for line, half in lines])
        left = ACCESS.parse(self._memory.read(self._scratch, len(access))).control
        # Done within the write of the register; what is left tells how.
        if left:
            raise ReferenceFailed(
                "fw_cfg reports an error of a DMA access"
                if left & ERROR
                else "fw_cfg does not carry out a DMA access",
                code="reference.fwcfg-dma",
                control=control,
                left=left,
            )

    @contextmanager
    def _borrowed(self, size: int) -> Generator[int]:
        """RAM behind a DMA access, put back afterwards."""
        whole = ACCESS.sizeof() + size
        before = self._memory.read(self._scratch, whole)
        try:
            yield self._scratch + ACCESS.sizeof()
        finally:
            self._memory.write(self._scratch, before)


def parse_directory(data: bytes) -> tuple[FwCfgFile, ...]:
    """The files of a directory.

    Raises:
        ReferenceFailed: it cannot be (``reference.fwcfg-directory``): more files than selectors,
            a selector that is no file's, a name without an end or used twice, bytes missing.
    """
    if len(data) < 4:
        raise _directory(f"has {len(data)} bytes")
    count, step = int.from_bytes(data[:4], "big"), ENTRY.sizeof()
    require_count(count)
    if len(data) < 4 + count * step:
        raise _directory(f"has {len(data)} bytes for {count:,} files")
    found: dict[str, FwCfgFile] = {}
    for start in range(4, 4 + count * step, step):
        entry = ENTRY.parse(data[start : start + step])
        name = file_name(entry.name, "reference.fwcfg-directory")
        if not FIRST_FILE <= entry.select < _ITEMS:
            raise _directory(f"gives {name} the selector 0x{entry.select:04X}")
        if name in found:
            raise _directory(f"lists {name} twice")
        found[name] = FwCfgFile(name, entry.select, entry.size)
    return tuple(found.values())


def require_count(count: int) -> None:
    """See that so many files can be.

    Raises:
        ReferenceFailed: there are not so many selectors (``reference.fwcfg-directory``).
    """
    if count > _ITEMS - FIRST_FILE:
        raise _directory(f"claims {count:,} files")


def file_name(field: bytes, code: str) -> str:
    """The name in a field of 56 bytes.

    Raises:
        ReferenceFailed: it is empty, has no end, or is no text (``code``).
    """
    text, end, _ = field.partition(b"\0")
    name = text.decode("ascii", "replace")
    if not end or not name or not name.isascii() or not name.isprintable():
        raise ReferenceFailed(f"{printable(repr(field))} is no name of a fw_cfg file", code=code)
    return name


def named(files: tuple[FwCfgFile, ...], name: str) -> FwCfgFile:
    """A file of a directory by name.

    Raises:
        ReferenceFailed: there is none (``reference.fwcfg-file``).
    """
    for item in files:
        if item.name == name:
            return item
    raise ReferenceFailed(
        f"fw_cfg has no file {printable(name)}",
        code="reference.fwcfg-file",
        file=name,
        known=[item.name for item in files],
    )


def _require_size(size: int, largest: int) -> None:
    if size > largest:
        raise ReferenceFailed(
            f"a fw_cfg item of {size:,} bytes is not read here; {largest:,} at most",
            code="reference.fwcfg-size",
            size=size,
            largest=largest,
        )


def _directory(what: str) -> ReferenceFailed:
    return ReferenceFailed(f"the directory of fw_cfg {what}", code="reference.fwcfg-directory")


def _number(answer: bytes) -> int:
    try:
        return int(answer, 16)
    except ValueError as exc:
        raise ReferenceFailed(
            f"QEMU's qtest server answers {answer[:40]!r}", code="reference.fwcfg"
        ) from exc
