"""QEMU's own flash device, ``cfi.pflash01``, as a flash device, driven over qtest.

The device has the command set of Intel's parallel NOR flash: 98 CFI query, 20/D0 block erase,
40 program, E8/D0 buffered program, 70 and 50 status, FF read array. It is not like the SPI NOR
chip that it stands for:

- a program stores what it is given: it can set bits. `PflashFlash.program` keeps to what a chip
  can do, as `FlashDevice` asks for, and remembers what it was asked for beyond that
  (`PflashFlash.impossible`); `PflashFlash.store` does what the device does;
- it is never busy, and has no write enable latch, page limit or block protection;
- with ``secure=on`` it ignores every write that does not come from SMM, those of qtest too, and
  tells nobody: `PflashFlash` notices at the query (``pflash.no-query``).

Ref: QEMU's device ``cfi.pflash01`` (hw/block/pflash_cfi01.c), as version 7.2.22 behaves.
Limits: little-endian units of the PC boards (one chip of 8 bits) and of ``virt`` (two of 16).
The CPU must be stopped while this is used, and must not be in the middle of a command of its own.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from hwflash.bus.qtest import QemuProcess, find_program
from hwflash.chip.model import Duration, EraseRegion, EraseType
from hwflash.chip.strict import SetBits, bits_to_set
from hwflash.errors import (
    ChipAbsent,
    ChipProtected,
    ChipStateUnknown,
    HwflashError,
    ImageError,
    UsageError,
)
from hwflash.flash.device import Geometry
from hwflash.units import Range

READ_ARRAY: Final = 0xFF
READ_STATUS: Final = 0x70
CLEAR_STATUS: Final = 0x50
CFI_QUERY: Final = 0x98
BLOCK_ERASE: Final = 0x20
CONFIRM: Final = 0xD0
WORD_PROGRAM: Final = 0x40
BUFFERED_PROGRAM: Final = 0xE8

STATUS_READY: Final = 0x80
STATUS_ERASE_FAILED: Final = 0x20
STATUS_PROGRAM_FAILED: Final = 0x10
#: Ready is left out: QEMU 7.2 clears it with the rest of the status.
_STATUS_FAILED: Final = STATUS_ERASE_FAILED | STATUS_PROGRAM_FAILED

#: One access of a buffered program. QEMU splits a write to a device into aligned accesses of
#: four bytes, and counts accesses.
_ACCESS: Final = 4
_READ_PIECE: Final = 1 << 18
#: CFI: where "QRY" is, the buffer size as a power of two, blocks less one, block size / 256.
_QUERY: Final = 0x10
_BUFFER: Final = 0x2A
_BLOCKS: Final = 0x2D
_BLOCK_SIZE: Final = 0x2F


class Qtest(Protocol):
    """Who carries out qtest commands: `hwflash.bus.qtest.QtestClient` or `QemuProcess`."""

    def execute(self, commands: Sequence[bytes], /) -> list[bytes]:
        """Carry out commands and return what each ``OK`` says."""
        ...


@dataclass(frozen=True, slots=True)
class _Wiring:
    """How chips are put together to a bus.

    Attributes:
        width: bytes of the bus; addresses of the CFI table count in these.
        chips: chips side by side; each takes the same command in its part of the bus.
    """

    width: int
    chips: int

    def spread(self, value: int) -> int:
        """A command or count for every chip."""
        step = 8 * self.width // self.chips
        return sum(value << step * chip for chip in range(self.chips))


_WIRINGS: Final = (_Wiring(1, 1), _Wiring(4, 2))
_LETTERS: Final = {1: b"b", 2: b"w", 4: b"l"}


class PflashFlash:
    """`hwflash.flash.device.FlashDevice` on a flash unit of a machine in QEMU.

    Args:
        qtest: the machine.
        base: physical address of the unit's first byte.

    Attributes:
        base: as given.
        impossible: every program asked for that a NOR chip could not do, in order.
        programs: program commands sent.
        erases: erase commands sent.

    Raises:
        ChipAbsent: nothing there answers the CFI query: the address is wrong, or the unit is
            ``secure`` (``pflash.no-query``).
        ProgrammerError: QEMU ended or refuses a command.
    """

    def __init__(self, qtest: Qtest, base: int) -> None:
        self.base = base
        self.impossible: list[SetBits] = []
        self.programs = 0
        self.erases = 0
        self._qtest = qtest
        self._wiring, table = self._query()
        chips = self._wiring.chips
        self._buffer = (1 << table[_BUFFER]) * chips
        blocks = 1 + int.from_bytes(table[_BLOCKS : _BLOCKS + 2], "little")
        block = 256 * int.from_bytes(table[_BLOCK_SIZE : _BLOCK_SIZE + 2], "little") * chips
        instant = Duration(0.0, 0.0)
        # The size in the table (at 27) is a power of two, which OVMF's store of 528 KiB is not.
        self._geometry = Geometry(
            size=blocks * block,
            page_size=self._buffer,
            regions=(EraseRegion(0, blocks * block, (EraseType(block, BLOCK_ERASE, instant),)),),
            page_program=instant,
        )

    @property
    def geometry(self) -> Geometry:
        """Blocks and buffer size from the CFI table, no times."""
        return self._geometry

    # --- flash device -------------------------------------------------------------------

    def read(self, address: int, length: int, /) -> bytes:
        """``length`` bytes from ``address``."""
        self._check(address, length)
        pieces = [
            b"b64read %#x %#x" % (self.base + place, min(_READ_PIECE, address + length - place))
            for place in range(address, address + length, _READ_PIECE)
        ]
        return b"".join(base64.b64decode(answer) for answer in self._qtest.execute(pieces))

    def program(self, address: int, data: bytes, /) -> None:
        """Clear bits: afterwards the device holds ``old & data``.

        What a chip could not do is remembered in `impossible`.

        Raises:
            ChipProtected: the unit's file is read-only (``pflash.program-failed``).
        """
        old = self.read(address, len(data))
        self.impossible += bits_to_set(address, old, data)
        new = int.from_bytes(old, "big") & int.from_bytes(data, "big")
        self._change(address, old, new.to_bytes(len(old), "big"))

    def store(self, address: int, data: bytes) -> None:
        """Program as the device does: bits may be set.

        What a chip could not do is remembered in `impossible`.

        Raises:
            ChipProtected: the unit's file is read-only (``pflash.program-failed``).
        """
        old = self.read(address, len(data))
        self.impossible += bits_to_set(address, old, data)
        self._change(address, old, bytes(data))

    def erase(self, address: int, length: int, /) -> None:
        """Set an erase block, or the whole unit, to FF.

        Raises:
            UsageError: not exactly an erase block (``usage.erase-alignment``).
            ChipProtected: the unit's file is read-only (``pflash.erase-failed``).
        """
        target = Range(address, length)
        whole = target == Range(0, self._geometry.size)
        if not whole and (address < 0 or self._geometry.block_for(target) is None):
            raise UsageError(
                f"0x{address:06X}+{length} is not an erase block of the unit at 0x{self.base:X}",
                code="usage.erase-alignment",
                address=address,
                length=length,
            )
        size = self._geometry.regions[0].types[0].size
        for block in range(address, address + length, size):
            self.erases += 1
            self._run(
                [self._command(block, BLOCK_ERASE), self._command(block, CONFIRM)],
                Range(block, size),
                "erase",
            )

    def sync(self) -> None:
        """See that the device is ready; QEMU writes each change to the file at once.

        Raises:
            ChipProtected: an operation before has failed.
        """
        self._run([], Range(0, 0), "operation")

    # --- inside -------------------------------------------------------------------------

    def _change(self, address: int, old: bytes, new: bytes) -> None:
        """Program what differs, in runs that end where the write buffer does."""
        end = address + len(new)
        while address < end:
            length = min(self._buffer - address % self._buffer, end - address)
            was, want = old[:length], new[:length]
            if was != want:
                same_before = _same(was, want)
                same_after = _same(was[::-1], want[::-1])
                first, last = address + same_before, address + length - same_after
                self._program_run(first, want[same_before : length - same_after])
                if self.read(first, last - first) != want[same_before : length - same_after]:
                    raise ChipStateUnknown(
                        f"the flash does not hold what was programmed at 0x{first:06X}",
                        code="pflash.not-stored",
                        address=first,
                        length=last - first,
                    )
            old, new, address = old[length:], new[length:], address + length

    def _program_run(self, address: int, data: bytes) -> None:
        """Program bytes within one write buffer."""
        step = max(self._wiring.width, 1)
        commands: list[bytes] = []
        # Whole bus words: what stands beside the data is programmed as it is.
        start, end = address // step * step, -(-(address + len(data)) // step) * step
        if (start, end) != (address, address + len(data)):
            data = self.read(start, address - start) + data
            data += self.read(start + len(data), end - start - len(data))
        head = min(-start % _ACCESS, end - start)
        body = (end - start - head) // _ACCESS * _ACCESS
        for place in (*range(0, head, step), *range(head + body, end - start, step)):
            word = int.from_bytes(data[place : place + step], "little")
            commands += [self._command(start + place, WORD_PROGRAM), self._put(start + place, word)]
            self.programs += 1
        if body:
            first = start + head
            count = body // _ACCESS - 1
            commands += [
                self._command(first, BUFFERED_PROGRAM),
                self._put(first, self._wiring.spread(count)),
                b"b64write %#x %#x %s"
                % (self.base + first, body, base64.b64encode(data[head : head + body])),
                self._command(first, CONFIRM),
            ]
            self.programs += 1
        self._run(commands, Range(start, end - start), "program")

    def _run(self, commands: Sequence[bytes], where: Range, what: str) -> None:
        """Carry out an operation, look at the status, and go back to reading the array."""
        status = self._command(where.address, READ_STATUS)
        width = self._wiring.width
        look = b"read%s %#x" % (_LETTERS[width], self.base + where.address)
        clear, array = self._command(0, CLEAR_STATUS), self._command(0, READ_ARRAY)
        try:
            answers = self._qtest.execute([*commands, status, look, clear, array])
        except BaseException:
            with suppress(HwflashError):
                self._qtest.execute([array])
            raise
        found = int(answers[-3], 16)
        if found & self._wiring.spread(_STATUS_FAILED):
            raise ChipProtected(
                f"the {what} at 0x{where.address:06X} failed, status {found & 0xFF:02X}: the "
                "flash is read-only",
                code=f"pflash.{what}-failed",
                address=where.address,
                length=where.length,
                status=found & 0xFF,
            )

    def _query(self) -> tuple[_Wiring, bytes]:
        """Find out how the chips are wired, and their CFI table."""
        for wiring in _WIRINGS:
            self._wiring = wiring
            letter = _LETTERS[wiring.width]
            try:
                answers = self._qtest.execute(
                    [self._command(0, CFI_QUERY)]
                    + [
                        b"read%s %#x" % (letter, self.base + wiring.width * index)
                        for index in range(_BLOCK_SIZE + 2)
                    ]
                )
            finally:
                with suppress(HwflashError):
                    self._qtest.execute([self._command(0, READ_ARRAY)])
            words = [int(answer, 16) for answer in answers[1:]]
            table = bytes(word & 0xFF for word in words)
            # Every chip must answer, and all the same.
            if table[_QUERY : _QUERY + 3] == b"QRY" and all(
                word == wiring.spread(word & 0xFF) for word in words[_QUERY:]
            ):
                return wiring, table
        raise ChipAbsent(
            f"no flash answers the CFI query at 0x{self.base:X}",
            code="pflash.no-query",
            address=self.base,
        )

    def _command(self, address: int, command: int) -> bytes:
        return self._put(address // self._wiring.width * self._wiring.width,
                         self._wiring.spread(command))  # fmt: skip

    def _put(self, address: int, value: int) -> bytes:
        return b"write%s %#x %#x" % (_LETTERS[self._wiring.width], self.base + address, value)

    def _check(self, address: int, length: int) -> None:
        if address < 0 or length < 0 or address + length > self._geometry.size:
            raise UsageError(
                f"0x{address:06X}+{length} is outside the flash of {self._geometry.size} bytes",
                code="usage.address",
                address=address,
                length=length,
                size=self._geometry.size,
            )


@contextmanager
def open_pflash(
    image: Path, program: str = "qemu-system-x86_64", *, secure: bool = False
) -> Generator[PflashFlash]:
    """An image file behind QEMU's flash device, in a machine whose CPU never runs.

    Args:
        image: raw image, a multiple of 4 KiB and at most 8 MiB; changed in place.
        program: the QEMU program, for a PC.
        secure: only SMM may write: `PflashFlash` then finds no flash that listens.

    Raises:
        EnvironmentFault: QEMU is missing (``environment.qemu-missing``).
        ImageError: the image cannot be written (``image.unreadable``).
        ProgrammerError: it does not start, as with an image of a wrong size
            (``programmer.qemu-start``).
        ChipAbsent: see `PflashFlash`.
    """
    try:
        with image.open("r+b") as stream:
            size = os.fstat(stream.fileno()).st_size
    except OSError as exc:
        raise ImageError(
            f"{image} cannot be opened: {exc.strerror}", code="image.unreadable", path=str(image)
        ) from exc
    file = str(image.absolute()).replace(",", ",,")
    words = ["-machine", "q35", "-drive", f"if=pflash,unit=0,format=raw,file={file}"]
    if secure:
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    machine = QemuProcess(find_program(program), words, name=f"QEMU with {image.name}")
    try:
        yield PflashFlash(machine, (1 << 32) - size)
    except BaseException:
        with suppress(HwflashError):
            machine.close()
        raise
    machine.close()


def _same(left: bytes, right: bytes) -> int:
    """How many bytes are the same at the beginning."""
    for index, (one, other) in enumerate(zip(left, right, strict=True)):
        if one != other:
            return index
    return len(left)
