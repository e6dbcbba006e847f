"""Command bytes for a chip: which opcode, how many address bytes, how many dummies.

Pure. `CommandSet` decides once how a chip is addressed; everybody above asks it for bytes.

Ref: JESD216F §6.4.19 (BFPT dword 16, 4-byte entry and exit), §6.5 (4-byte instructions).
"""

from __future__ import annotations

from dataclasses import dataclass

from hwflash.chip import opcodes
from hwflash.chip.model import Chip, DieAccess, EnterFourByte, EraseType, Programming
from hwflash.errors import ChipUnsupported

THREE_BYTE_SPAN = 1 << 24


@dataclass(frozen=True, slots=True)
class CommandSet:
    """The commands by which one chip is read, programmed and erased.

    Attributes:
        chip: the chip.
        width: address bytes, 3 or 4.
        dedicated: the opcodes that always take 4-byte addresses are used.
        segmented: addresses have 3 bytes and a register holds the fourth.
        fast: use Fast Read (one dummy byte).
    """

    chip: Chip
    width: int
    dedicated: bool
    segmented: bool
    fast: bool

    @classmethod
    def choose(cls, chip: Chip, frequency: float) -> CommandSet:
        """How to address ``chip`` with SCK at ``frequency`` hertz.

        Dedicated opcodes are preferred: they leave no mode behind in which a board's
        firmware, which expects 3-byte addresses after reset, could not boot.

        Raises:
            ChipUnsupported: more than 16 MiB and no way to reach it (``chip.addressing``).
        """
        fast = chip.read_max_hz is None or frequency > chip.read_max_hz
        addressing = chip.addressing
        if not addressing.three_byte or addressing.enter is EnterFourByte.ALWAYS:
            return cls(chip, 4, dedicated=False, segmented=False, fast=fast)
        span = chip.die_size if chip.dies.access is DieAccess.SELECT else chip.size
        if span <= THREE_BYTE_SPAN:
            return cls(chip, 3, dedicated=False, segmented=False, fast=fast)
        reachable = all(
            any(kind.opcode_4byte is not None for kind in region.types) for region in chip.erase
        )
        if addressing.opcodes and reachable:
            return cls(chip, 4, dedicated=True, segmented=False, fast=fast)
        if addressing.enter in (EnterFourByte.B7, EnterFourByte.WREN_B7):
            return cls(chip, 4, dedicated=False, segmented=False, fast=fast)
        if addressing.enter in (
            EnterFourByte.EXTENDED_ADDRESS_REGISTER,
            EnterFourByte.BANK_REGISTER,
        ):
            return cls(chip, 3, dedicated=False, segmented=True, fast=fast)
        raise ChipUnsupported(
            f"{chip.part} has {chip.size} bytes, and no way beyond the first 16 MiB is known",
            code="chip.addressing",
            part=chip.part,
            size=chip.size,
        )

    def enter(self) -> tuple[bytes, ...]:
        """Commands that bring the chip into the addressing this set uses.

        A segment register survives whoever used the chip before, so it is set to 0.
        """
        if self.segmented:
            return self.select_segment(0)
        wanted = self.chip.addressing.enter in (EnterFourByte.B7, EnterFourByte.WREN_B7)
        if self.width == 4 and not self.dedicated and wanted:
            return self._mode(opcodes.ENTER_4BYTE)
        return ()

    def leave(self) -> tuple[bytes, ...]:
        """Commands that undo `enter` and the last `select_segment`."""
        if self.segmented:
            return self.select_segment(0)
        return tuple(
            bytes((opcodes.EXIT_4BYTE,)) if command[0] == opcodes.ENTER_4BYTE else command
            for command in self.enter()
        )

    def segment(self, address: int) -> int:
        """The 16 MiB segment an address is in, as the segment register counts; else 0."""
        return address // THREE_BYTE_SPAN if self.segmented else 0

    def select_segment(self, segment: int) -> tuple[bytes, ...]:
        """Commands that set the segment register."""
        if self.chip.addressing.enter is EnterFourByte.BANK_REGISTER:
            return (bytes((opcodes.WRITE_BANK_REGISTER, segment)),)
        return (
            bytes((opcodes.WRITE_ENABLE,)),
            bytes((opcodes.WRITE_EXTENDED_ADDRESS, segment)),
        )

    def die(self, address: int) -> int:
        """The die an address is in."""
        return address // self.chip.die_size

    def selects(self) -> bool:
        """Whether a die must be selected before it is worked on."""
        return self.chip.dies.access is not DieAccess.ADDRESS

    def select_die(self, die: int) -> bytes:
        """The command after which a die listens, and its status register is read."""
        return bytes((opcodes.SELECT_DIE, die))

    def erase_die(self, address: int) -> tuple[bytes, ...]:
        """Commands that erase the die an address is in, the last of them the erase.

        C4h has no 4-byte command of its own: where only such are used, the mode is entered for
        it, and `leave_erase_die` leaves it.
        """
        erase = self.chip.dies.erase
        if erase is None:
            raise AssertionError("a chip without a die erase was to erase a die")
        mode = self._mode(opcodes.ENTER_4BYTE) if self.dedicated else ()
        width = 4 if self.dedicated else self.width
        return (*mode, self._with_address(erase[0], address, width))

    def leave_erase_die(self) -> tuple[bytes, ...]:
        """Commands that bring the addressing back that was before `erase_die`."""
        return self._mode(opcodes.EXIT_4BYTE) if self.dedicated else ()

    def _mode(self, opcode: int) -> tuple[bytes, ...]:
        change = bytes((opcode,))
        if self.chip.addressing.enter is not EnterFourByte.WREN_B7:
            return (change,)
        # A part that did not need the write enable would keep it: take it back.
        return (bytes((opcodes.WRITE_ENABLE,)), change, bytes((opcodes.WRITE_DISABLE,)))

    def read(self, address: int) -> bytes:
        """The command after which the chip streams data from ``address``."""
        if self.fast:
            opcode = opcodes.FAST_READ_4BYTE if self.dedicated else opcodes.FAST_READ
            return self._with_address(opcode, address) + b"\0"
        opcode = opcodes.READ_4BYTE if self.dedicated else opcodes.READ
        return self._with_address(opcode, address)

    def auto_increment(self, address: int, data: bytes) -> tuple[bytes, ...]:
        """The commands of an auto address increment, one for each byte or word of ``data``."""
        word = self.chip.programming is Programming.AAI_WORD
        opcode, unit = (opcodes.AAI_WORD, 2) if word else (opcodes.AAI_BYTE, 1)
        first = self._with_address(opcode, address) + data[:unit]
        rest = (bytes((opcode,)) + data[at : at + unit] for at in range(unit, len(data), unit))
        return (first, *rest)

    def program(self, address: int, data: bytes) -> bytes:
        """Page program; ``data`` must not cross a page."""
        opcode = opcodes.PAGE_PROGRAM_4BYTE if self.dedicated else opcodes.PAGE_PROGRAM
        return self._with_address(opcode, address) + data

    def erase(self, kind: EraseType, address: int) -> bytes:
        """Erase the block of ``kind`` that holds ``address``."""
        opcode = kind.opcode_4byte if self.dedicated else kind.opcode
        if opcode is None:
            raise AssertionError("an erase type without 4-byte opcode was offered")
        return self._with_address(opcode, address)

    def usable(self, kind: EraseType) -> bool:
        """Whether this erase type can be commanded with this addressing."""
        return not self.dedicated or kind.opcode_4byte is not None

    def _with_address(self, opcode: int, address: int, width: int | None = None) -> bytes:
        width = width or self.width
        if self.chip.dies.access is DieAccess.SELECT:
            address %= self.chip.die_size
        return bytes((opcode,)) + (address % (1 << 8 * width)).to_bytes(width, "big")
