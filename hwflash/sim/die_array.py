"""The memory cells of the simulated die, their wear, and changes that can be torn apart.

A change is a value: it can be carried out, or be left half done when the power goes away, the
chip is reset, or the operation is suspended. The model of a half-done operation is the worst
that data sheets allow: a program leaves any subset of its pending 1-to-0 bits done; an erase
leaves random bits in a prefix of the block, or in all of it.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from random import Random

from hwflash.chip.model import Chip


@dataclass(slots=True)
class Change:
    """A program or an erase of a run of bytes.

    Attributes:
        cells: what is changed.
        address: of the first byte.
        old: the bytes before.
        new: the bytes afterwards.
        erase: an erase, otherwise a program.
    """

    cells: bytearray
    address: int
    old: bytes
    new: bytes
    erase: bool

    def commit(self) -> None:
        """Carry it out."""
        self.cells[self.address : self.address + len(self.new)] = self.new

    def tear(self, random: Random) -> None:
        """Leave it half done."""
        size = len(self.old)
        if self.erase:
            cut = size if random.random() < 0.5 else random.randrange(size + 1)
            torn = random.randbytes(cut) + self.old[cut:]
        else:
            old, new = int.from_bytes(self.old), int.from_bytes(self.new)
            torn = (new | (old & random.getrandbits(8 * size))).to_bytes(size)
        self.cells[self.address : self.address + size] = torn

    def overlaps(self, address: int, length: int) -> bool:
        """Whether the change touches bytes of the range."""
        return address < self.address + len(self.old) and self.address < address + length


def and_change(cells: bytearray, address: int, data: bytes) -> Change:
    """A program: the bytes at ``address`` become the AND of what they are and ``data``."""
    old = bytes(cells[address : address + len(data)])
    if old.count(0xFF) == len(old):
        new = bytes(data)
    else:
        new = (int.from_bytes(old) & int.from_bytes(data)).to_bytes(len(old))
    return Change(cells, address, old, new, erase=False)


class FlashArray:
    """The main memory.

    Attributes:
        content: the bytes; may be looked at and set from outside.
        wear: erases of each block of ``wear_block`` bytes.
        wear_block: the smallest erase size of the chip in bytes.
    """

    def __init__(self, chip: Chip, content: bytearray | None = None) -> None:
        self._chip = chip
        self.content = bytearray(b"\xff") * chip.size if content is None else content
        kinds = [kind.size for region in chip.erase for kind in region.types]
        self.wear_block = min(kinds, default=chip.size)
        self.wear = array("L", bytes(array("L").itemsize)) * -(-chip.size // self.wear_block)

    def read(self, address: int, length: int) -> bytes:
        """``length`` bytes from ``address``, going on at the start behind the end of the die."""
        size = self._chip.die_size
        base = address - address % size
        end = address + length
        if end <= base + size:
            return bytes(self.content[address:end])
        whole = bytes(self.content[base : base + size])
        rest = end - base - size
        return whole[address - base :] + whole * (rest // size) + whole[: rest % size]

    def program(self, address: int, data: bytes) -> Change:
        """A page program: wraps at the end of the page, the last page-size bytes count."""
        page = self._chip.page_size
        offset = address % page
        if offset + len(data) <= page:
            return and_change(self.content, address, data)
        # The page buffer is a ring: byte i of the data lands at (offset + i) mod page.
        skipped = max(0, len(data) - page)
        buffer = bytearray(b"\xff") * page
        place = (offset + skipped) % page
        kept = data[skipped:]
        head = kept[: page - place]
        buffer[place : place + len(head)] = head
        buffer[: len(kept) - len(head)] = kept[len(head) :]
        return and_change(self.content, address - offset, bytes(buffer))

    def erase(self, address: int, length: int) -> Change:
        """An erase of the range; the wear counters of its blocks go up."""
        for block in range(address // self.wear_block, -(-(address + length) // self.wear_block)):
            self.wear[block] += 1
        old = bytes(self.content[address : address + length])
        return Change(self.content, address, old, b"\xff" * length, erase=True)
