"""How locks of a chip are asked for: everything twice, and at addresses as wide as they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hwflash.bus.spi import Transfer
from hwflash.chip import opcodes
from hwflash.chip.commands import THREE_BYTE_SPAN
from hwflash.chip.model import EnterFourByte
from hwflash.errors import BusUnstable, ChipProtected, ChipStateUnknown
from hwflash.flash.nor import NorFlash
from hwflash.units import Range

ENABLE: Final = Transfer(bytes((opcodes.WRITE_ENABLE,)))
DISABLE: Final = Transfer(bytes((opcodes.WRITE_DISABLE,)))


class LockBus:
    """The bus of a chip, as the locks of the chip use it.

    Args:
        flash: the chip on its bus.
        live: bits of registers that may differ from read to read, as a mask for each opcode.

    Attributes:
        bus, chip: those of the flash.
    """

    def __init__(self, flash: NorFlash, live: Mapping[int, int]) -> None:
        self.bus = flash.bus
        self.chip = flash.chip
        self._flash = flash
        self._live = live

    def twice(self, asked: Sequence[Transfer]) -> list[bytes]:
        """Answers that came twice the same.

        Raises:
            BusUnstable: they did not (``chip.unstable-register``).
        """
        answers = self.bus.execute([*asked, *asked])
        first, second = answers[: len(asked)], answers[len(asked) :]
        same = all(
            a == b or (len(op.write) == 1 and not (a[0] ^ b[0]) & ~self._live.get(op.write[0], 0))
            for op, a, b in zip(asked, first, second, strict=True)
        )
        if not same:
            raise BusUnstable(
                "two reads of the chip's protection registers differ",
                code="chip.unstable-register",
                first=b"".join(first[:8]).hex(),
                second=b"".join(second[:8]).hex(),
            )
        return first

    def addressed(self, opcode: int, unit: Range, width: int = 0) -> bytes:
        """A command with the address of a block; ``width`` 0: as wide as `in_mode` makes it."""
        width = width or (4 if self.chip.size > THREE_BYTE_SPAN else 3)
        return bytes((opcode,)) + unit.address.to_bytes(width, "big")

    def in_mode(self, transfers: Sequence[Transfer]) -> list[Transfer]:
        """In the 4-byte mode on large chips: for commands that have no 4-byte form."""
        enter = self.chip.addressing.enter
        if self.chip.size <= THREE_BYTE_SPAN or self._flash.in_four_byte_mode:
            return list(transfers)
        first = [ENABLE] if enter is EnterFourByte.WREN_B7 else []
        leave, back = (
            Transfer(bytes((opcodes.EXIT_4BYTE,))),
            Transfer(bytes((opcodes.ENTER_4BYTE,))),
        )
        return [*first, back, *transfers, *first, leave, DISABLE]


def locks_refused(unchanged: bool, what: str) -> ChipProtected | ChipStateUnknown:
    """What it is when locks that were written are not as they should be."""
    if unchanged:
        return ChipProtected(
            f"the chip does not let its {what} be written", code="protection.refused"
        )
    return ChipStateUnknown(f"the {what} is not what was written", code="protection.verify-failed")
