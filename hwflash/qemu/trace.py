"""The operation log of a boot: what firmware did to QEMU's flash, in order.

QEMU writes a line for each access that programs and each block that is erased. Read back, every
prefix of the list is the flash after a power cut at that point, and every program that a chip
could not have done is found (`impossible_programs`).

Ref: the trace events of QEMU's ``cfi.pflash01``, lines as version 7.2.22 writes them.
Limits: little-endian flash, as on PCs and on ``virt``. QEMU writes line by line: the log of a
guest that was killed ends with its last access.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hwflash.chip.strict import SetBits, bits_to_set
from hwflash.errors import ReferenceFailed
from hwflash.uefi.flashops import Erase, Program
from hwflash.uefi.window import Window

#: The events that change the flash: a program of one access, one access of a buffered program,
#: an erase.
EVENTS: Final = ("pflash_data_write", "pflash_data_write_block", "pflash_write_block_erase")

# With `-msg timestamp=on` a line begins with process id and time.
_LINE: Final = re.compile(
    r"(?:\S+@\d+\.\d+:|\d{4}-\S+Z )?(?P<event>pflash_\w+) (?P<unit>\S+): (?P<rest>.*)"
)
_WRITE: Final = re.compile(r"data offset:0x([0-9a-f]+) size:([1248]) value:0x([0-9a-f]+)")
_ERASE: Final = re.compile(r"block erase offset:0x([0-9a-f]+) bytes:0x([0-9a-f]+)")

Primitive = Program | Erase


@dataclass(frozen=True, slots=True)
class OperationLog:
    """What was done to one flash unit.

    Attributes:
        unit: QEMU's name of it, such as ``system.flash1``.
        operations: each access and each erase by itself, in order; addresses count from the
            unit's first byte. Each is atomic: power is cut between two of them.
    """

    unit: str
    operations: tuple[Primitive, ...]

    def folded(self) -> list[Primitive]:
        """The same with runs of adjacent programs joined to one each, as people read them."""
        return list(fold(self.operations))


def arguments(file: Path) -> list[str]:
    """The options that have QEMU write its operation log to ``file``."""
    words = [word for event in EVENTS for word in ("-trace", event)]
    return [*words, "-D", str(file)]


def parse(lines: Iterable[str]) -> dict[str, OperationLog]:
    """Read an operation log.

    Args:
        lines: of QEMU's log; those of other events and messages are passed over.

    Returns:
        By the name of the flash unit, in order of first use.

    Raises:
        ReferenceFailed: a line of one of `EVENTS` cannot be read (``reference.trace``).
    """
    found: dict[str, list[Primitive]] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.match(line)
        if match is None or match["event"] not in EVENTS:
            continue
        found.setdefault(match["unit"], []).append(_primitive(match, number))
    return {unit: OperationLog(unit, tuple(done)) for unit, done in found.items()}


def read_log(file: Path) -> dict[str, OperationLog]:
    """The same from a file; see `parse`.

    Raises:
        ReferenceFailed: it cannot be read (``reference.trace``), or as there.
    """
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return parse(stream)
    except OSError as exc:
        raise ReferenceFailed(
            f"the operation log {file} cannot be read: {exc.strerror}", code="reference.trace"
        ) from exc


def fold(operations: Iterable[Primitive]) -> Iterator[Primitive]:
    """Join programs that follow one another in time and in place."""
    start, pieces, end = 0, list[bytes](), -1
    for step in operations:
        if isinstance(step, Program) and step.address == end:
            pieces.append(step.data)
            end += len(step.data)
            continue
        if pieces:
            yield Program(start, b"".join(pieces))
            pieces, end = [], -1
        if isinstance(step, Program):
            start, pieces, end = step.address, [step.data], step.address + len(step.data)
        else:
            yield step
    if pieces:
        yield Program(start, b"".join(pieces))


def replayed(before: Window, operations: Iterable[Primitive]) -> Window:
    """What QEMU's flash holds after operations: a program stores what it is given.

    Args:
        before: the whole unit as it was.
        operations: all, or as many as were done before a power cut.
    """
    data = bytearray(before.data)
    for step in operations:
        _apply(data, step)
    return Window(bytes(data), before.base)


def impossible_programs(before: Window, operations: Iterable[Primitive]) -> list[SetBits]:
    """Every program that a NOR chip could not have carried out.

    Args:
        before: the whole unit as it was at power-on.
        operations: see `OperationLog.operations`.

    Returns:
        In order of time, with addresses in the image (``before.base`` added).
    """
    data = bytearray(before.data)
    found: list[SetBits] = []
    for step in fold(operations):
        if isinstance(step, Program):
            old = bytes(data[step.address : step.address + len(step.data)])
            found += bits_to_set(before.base + step.address, old, step.data[: len(old)])
        _apply(data, step)
    return found


def _apply(data: bytearray, step: Primitive) -> None:
    if step.range.end > len(data):
        raise ReferenceFailed(
            f"the operation log has {step.range}, behind the end of a flash of {len(data)} bytes",
            code="reference.trace",
            address=step.address,
            size=len(data),
        )
    if isinstance(step, Program):
        data[step.address : step.range.end] = step.data
    else:
        data[step.address : step.range.end] = b"\xff" * step.length


def _primitive(match: re.Match[str], number: int) -> Primitive:
    if match["event"] == "pflash_write_block_erase":
        erase = _ERASE.match(match["rest"])
        if erase is not None:
            return Erase(int(erase[1], 16), int(erase[2], 16))
    else:
        write = _WRITE.match(match["rest"])
        if write is not None:
            size, value = int(write[2]), int(write[3], 16)
            if value < 1 << 8 * size:
                return Program(int(write[1], 16), value.to_bytes(size, "little"))
    raise ReferenceFailed(
        f"line {number} of the operation log cannot be read", code="reference.trace", line=number
    )
