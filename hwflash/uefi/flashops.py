"""Flash in memory that remembers what is done to it, in order.

Every change of a variable store is first made here. What comes out is a list of primitive
operations in the one order that survives a power cut at any point; it is shown, counted,
journalled, and only then carried out on a chip or an image.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hwflash.errors import ImageError
from hwflash.uefi.window import Window, filled_with
from hwflash.units import Range


@dataclass(frozen=True, slots=True)
class Program:
    """Clear bits: afterwards the flash holds ``data`` here.

    Attributes:
        address: address in the image.
        data: bytes that stand there afterwards; every bit it sets was set before.
        why: what this does, in the words of the algorithm.
    """

    address: int
    data: bytes
    why: str = ""

    @property
    def range(self) -> Range:
        """What it touches."""
        return Range(self.address, len(self.data))


@dataclass(frozen=True, slots=True)
class Erase:
    """Set one erase block to FF."""

    address: int
    length: int
    why: str = ""

    @property
    def range(self) -> Range:
        """What it touches."""
        return Range(self.address, self.length)


@dataclass(frozen=True, slots=True)
class Verify:
    """Read back before going on: what follows counts on it.

    Attributes:
        address: address in the image.
        data: what must stand there.
    """

    address: int
    data: bytes

    @property
    def range(self) -> Range:
        """What it reads."""
        return Range(self.address, len(self.data))


Operation = Program | Erase | Verify


class Flash(Protocol):
    """What the write paths need; every `hwflash.flash.device.FlashDevice` has it."""

    def read(self, address: int, length: int, /) -> bytes:
        """``length`` bytes from ``address``."""
        ...

    def program(self, address: int, data: bytes, /) -> None:
        """Clear bits."""
        ...

    def erase(self, address: int, length: int, /) -> None:
        """Set one erase block to FF."""
        ...


class ShadowFlash:
    """A part of a flash in memory, and the operations carried out on it so far.

    A program that would set a bit is refused: QEMU's pflash would carry it out, a chip cannot.
    A program that changes nothing is left out; a verification that nothing follows is not.

    Args:
        window: the content, and where it lies.
        erase_size: bytes of the smallest erase block.
        origin: address from which blocks are counted. Not 0 for a volume at an odd place of a
            file, which has no erase blocks of its own.
    """

    def __init__(self, window: Window, erase_size: int = 0x1000, origin: int = 0) -> None:
        self.base = window.base
        self.erase_size = erase_size
        self.origin = origin
        self.operations: list[Operation] = []
        self._data = bytearray(window.data)
        self._why = ""

    @property
    def end(self) -> int:
        """Address behind the last byte."""
        return self.base + len(self._data)

    def window(self) -> Window:
        """The content as it is now."""
        return Window(bytes(self._data), self.base)

    def because(self, why: str) -> None:
        """Say what the operations that follow are for."""
        self._why = why

    def read(self, address: int, length: int, /) -> bytes:
        """``length`` bytes from ``address``."""
        at = self._at(address, length)
        return bytes(self._data[at : at + length])

    def program(self, address: int, data: bytes, /) -> None:
        """Clear bits.

        Raises:
            ImageError: a bit would have to be set (``uefi.not-erased``).
        """
        at = self._at(address, len(data))
        old = bytes(self._data[at : at + len(data)])
        if old == data:
            return
        reached = int.from_bytes(old, "big") & int.from_bytes(data, "big")
        if reached != int.from_bytes(data, "big"):
            pairs = zip(old, data, strict=True)
            bad = next(index for index, (was, want) in enumerate(pairs) if want & ~was)
            raise ImageError(
                f"0x{address + bad:06X} holds {old[bad]:02X}; programming cannot make it "
                f"{data[bad]:02X}, only an erase can",
                code="uefi.not-erased",
                offset=address + bad,
                found=old[bad],
                wanted=data[bad],
            )
        self._data[at : at + len(data)] = data
        self.operations.append(Program(address, bytes(data), self._why))

    def erase(self, address: int, length: int, /) -> None:
        """Set whole erase blocks to FF; each is one operation."""
        at = self._at(address, length)
        if (address - self.origin) % self.erase_size or length % self.erase_size:
            raise ImageError(
                f"0x{address:06X}+0x{length:X} are not whole erase blocks of 0x{self.erase_size:X}",
                code="uefi.erase-blocks",
                offset=address,
                length=length,
                erase_size=self.erase_size,
            )
        self._data[at : at + length] = b"\xff" * length
        for block in range(address, address + length, self.erase_size):
            self.operations.append(Erase(block, self.erase_size, self._why))

    def erase_unless_blank(self, address: int, length: int) -> None:
        """Erase those of the erase blocks that hold anything."""
        for block in range(address, address + length, self.erase_size):
            if not filled_with(self.read(block, self.erase_size), 0xFF):
                self.erase(block, self.erase_size)

    def verify(self, address: int, length: int) -> None:
        """Have the flash read back here before anything else is done to it."""
        self.operations.append(Verify(address, self.read(address, length)))

    def sync(self) -> None:
        """Nothing waits to be written."""

    def _at(self, address: int, length: int) -> int:
        if address < self.base or length < 0 or address + length > self.end:
            raise ImageError(
                f"0x{address:06X}+0x{length:X} is outside of what was read "
                f"(0x{self.base:06X} to 0x{self.end:06X})",
                code="uefi.truncated",
                offset=address,
                length=length,
            )
        return address - self.base


def carried_out(window: Window, operations: Iterable[Operation]) -> Window:
    """What a window holds after operations, as NOR flash carries them out."""
    data = bytearray(window.data)
    for step in operations:
        at = step.range.address - window.base
        if isinstance(step, Program):
            old = int.from_bytes(data[at : at + len(step.data)], "big")
            new = old & int.from_bytes(step.data, "big")
            data[at : at + len(step.data)] = new.to_bytes(len(step.data), "big")
        elif isinstance(step, Erase):
            data[at : at + step.length] = b"\xff" * step.length
    return Window(bytes(data), window.base)


def dump_operations(operations: Iterable[Operation]) -> bytes:
    """Operations as JSON; `load_operations` reads them back."""
    return json.dumps(
        [
            {"kind": "erase", "address": step.address, "length": step.length, "why": step.why}
            if isinstance(step, Erase)
            else {
                "kind": "verify" if isinstance(step, Verify) else "program",
                "address": step.address,
                "data": step.data.hex(),
                "why": "" if isinstance(step, Verify) else step.why,
            }
            for step in operations
        ]
    ).encode()


def load_operations(content: bytes) -> list[Operation]:
    """Operations that `dump_operations` wrote.

    Raises:
        ImageError: they are damaged (``journal.damaged``).
    """
    found: list[Operation] = []
    try:
        entries: Any = json.loads(content)
        for entry in entries:
            address, why = int(entry["address"]), str(entry["why"])
            if entry["kind"] == "erase":
                found.append(Erase(address, int(entry["length"]), why))
                continue
            data = bytes.fromhex(entry["data"])
            verify = entry["kind"] == "verify"
            found.append(Verify(address, data) if verify else Program(address, data, why))
    except (ValueError, KeyError, TypeError) as exc:
        raise ImageError("the operations of the job are damaged", code="journal.damaged") from exc
    return found


def done_so_far(window: Window, operations: Sequence[Operation], content: bytes) -> int | None:
    """How many operations were carried out, by what the flash holds.

    Args:
        window: what it held before them.
        operations: in order.
        content: what it holds now; as long as the window.

    Returns:
        The index of the operation that was cut, or comes next; None when the flash holds what
        none of them leaves behind.
    """
    now = window
    for index, step in enumerate(operations):
        if isinstance(step, Verify):
            continue
        first = step.range.address - window.base
        end = step.range.end - window.base
        if content[:first] == now.data[:first] and content[end:] == now.data[end:]:
            inside = content[first:end]
            if isinstance(step, Erase) or _between(inside, now.data[first:end], step.data):
                return index
        now = carried_out(now, [step])
    return len(operations) if content == now.data else None


def _between(found: bytes, old: bytes, new: bytes) -> bool:
    """Whether a program from old to new, cut anywhere, can leave this."""
    number, before, after = (int.from_bytes(item, "big") for item in (found, old, new))
    return number & after == after and number & before == number
