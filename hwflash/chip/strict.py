"""What no NOR flash can do: set a bit by programming.

Programming clears bits, erasing sets them. QEMU's pflash stores what it is given instead, so
firmware, or hwflash itself, may come to count on something that a chip will not do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetBits:
    """A run of bytes in which a program wants to set bits.

    Attributes:
        address: of the first byte.
        found: what was there.
        wanted: what was to be there; in every byte it has a bit that ``found`` has not.
    """

    address: int
    found: bytes
    wanted: bytes

    def __str__(self) -> str:
        return (
            f"0x{self.address:06X}: {len(self.found)} "
            f"{'byte' if len(self.found) == 1 else 'bytes'}, first {self.found[0]:02X} to "
            f"{self.wanted[0]:02X}"
        )


def bits_to_set(address: int, found: bytes, wanted: bytes) -> Iterator[SetBits]:
    """The runs of bytes that a program cannot bring to what is wanted.

    Args:
        address: of the first byte.
        found: what is there, as many bytes as ``wanted``.
        wanted: what the program is given.
    """
    have, want = int.from_bytes(found, "big"), int.from_bytes(wanted, "big")
    if not want & ~have:
        return
    bad = [index for index, (a, b) in enumerate(zip(found, wanted, strict=True)) if b & ~a]
    start = previous = bad[0]
    for index in [*bad[1:], -1]:
        if index != previous + 1:
            end = previous + 1
            yield SetBits(address + start, found[start:end], wanted[start:end])
            start = index
        previous = index
