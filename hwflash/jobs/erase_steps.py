"""Erases of an operation list in the blocks that a chip has."""

from __future__ import annotations

from collections.abc import Sequence

from hwflash.errors import ChipUnsupported
from hwflash.flash.device import Geometry
from hwflash.uefi.flashops import Erase, Operation


def fit_erases(operations: Sequence[Operation], geometry: Geometry) -> list[Operation]:
    """Erases in blocks that the chip has; at its ends it may have others than in the middle.

    Raises:
        ChipUnsupported: they cannot be made of whole blocks (``chip.erase-map``).
    """
    found: list[Operation] = []
    for step in operations:
        if not isinstance(step, Erase) or geometry.block_for(step.range) is not None:
            found.append(step)
            continue
        at = step.address
        while at < step.range.end:
            fitting = [
                block.range
                for block in geometry.blocks_at(at)
                if block.range.address == at and block.range.end <= step.range.end
            ]
            if not fitting:
                raise ChipUnsupported(
                    f"{step.range} cannot be erased alone on this chip",
                    code="chip.erase-map",
                    address=step.address,
                    length=step.length,
                )
            found.append(Erase(at, fitting[-1].length, step.why))
            at = fitting[-1].end
    return found


def fold_erases(operations: Sequence[Operation], geometry: Geometry) -> list[Operation]:
    """Erases that follow one another as one of a larger block, where the chip has it.

    Nothing stands between them that a power cut could separate; larger blocks erase faster.
    """
    found: list[Operation] = []
    index = 0
    while index < len(operations):
        step = operations[index]
        best, taken = step, 1
        if isinstance(step, Erase):
            for block in geometry.blocks_at(step.address):
                count = block.range.length // step.length
                run = operations[index : index + count]
                wanted = [step.address + step.length * number for number in range(count)]
                same = [item.address for item in run if isinstance(item, Erase)] == wanted
                if count > 1 and same and block.range.address == step.address:
                    best, taken = Erase(step.address, block.range.length, step.why), count
        found.append(best)
        index += taken
    return found
