"""A SPI NOR chip on a bus, as a flash device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from hwflash.bus.abilities import limits_of
from hwflash.bus.spi import SpiBus, Transfer, Wait
from hwflash.chip import opcodes
from hwflash.chip.commands import THREE_BYTE_SPAN, CommandSet
from hwflash.chip.model import (
    Chip,
    DieAccess,
    Duration,
    FailFlags,
    Programming,
    ProtectionStyle,
)
from hwflash.chip.protection import sst26_bpr_length
from hwflash.errors import ChipProtected, UsageError
from hwflash.flash.byte_program import ByteProgrammer
from hwflash.flash.device import EraseBlock, Geometry
from hwflash.flash.pipeline import Page, PageProgrammer, StatusPoller
from hwflash.units import Range

#: One read command serves this much, so that progress and a stop request get a word in.
READ_CHUNK: Final = 1 << 20
#: Short reads sent in one batch.
PIECES: Final = 512
#: Opcode and address of a page program.
LONGEST_HEADER: Final = 5
#: Share of the typical erase time to sleep before the first poll.
ERASE_SLEEP: Final = 0.8
ERASE_POLL: Final = 0.001
WINBOND: Final = 0xEF
#: Bit of Winbond's register 3: the address mode after power-up.
ADP: Final = 0x02
#: Makers whose data sheets give 4Bh as Read Unique ID with 32 dummy clocks: Winbond,
#: GigaDevice, Boya, Zbit, Puya, Fudan, XTX.
UNIQUE_ID_MAKERS: Final = frozenset({0xEF, 0xC8, 0x68, 0x5E, 0x85, 0xA1, 0x0B})


class NorFlash:
    """`hwflash.flash.device.FlashDevice` for a chip on a `SpiBus`.

    The 4-byte mode, where one is used, is entered at construction and left by `close`, unless
    the chip is set to power up in it.

    Attributes:
        bus: the bus.
        chip: what the chip is.
        erases: erase commands sent, by block size in bytes.
        pages: the page programmer, with its counters.
    """

    def __init__(self, bus: SpiBus, chip: Chip) -> None:
        self.bus = bus
        self.chip = chip
        self.erases: Counter[int] = Counter()
        self._limits = limits_of(bus)
        self._commands = CommandSet.choose(chip, bus.frequency)
        self._poller = StatusPoller(bus, chip)
        single = chip.programming is not Programming.PAGE
        self.pages = (ByteProgrammer if single else PageProgrammer)(bus, self._commands)
        usable = Geometry.of(chip, 8 / bus.frequency)
        self._geometry = Geometry(
            size=usable.size,
            page_size=usable.page_size,
            regions=tuple(
                type(region)(
                    region.start,
                    region.length,
                    tuple(kind for kind in region.types if self._commands.usable(kind)),
                )
                for region in usable.regions
            ),
            page_program=usable.page_program,
            chip_erase=usable.chip_erase,
            byte_seconds=usable.byte_seconds,
            program_unit=usable.program_unit,
            reprogram=usable.reprogram,
        )
        self._segment = 0
        self._die = 0
        if self._commands.selects():  # whoever used the chip before may have left another
            self._select_die(0)
        changes_mode = self._commands.enter() or (self._commands.dedicated and chip.dies.erase)
        self._starts_so = bool(changes_mode) and self._starts_wide()
        self._every_die(self._commands.enter())

    @property
    def geometry(self) -> Geometry:
        """The chip's geometry with this bus's speed, erase types it can command."""
        return self._geometry

    @property
    def in_four_byte_mode(self) -> bool:
        """Whether every address sent has four bytes."""
        return self._commands.width == 4 and not self._commands.dedicated

    # --- flash device -------------------------------------------------------------------

    def read(self, address: int, length: int, /) -> bytes:
        """``length`` bytes from ``address``."""
        return b"".join(self.stream(address, length))

    def read_pieces(self, places: Sequence[Range]) -> list[bytes]:
        """Several short reads, in as few batches as can be: a round trip for each would cost."""
        if self._commands.segmented or self.chip.dies.count > 1:  # something is set in between
            return [self.read(place.address, place.length) for place in places]
        found: list[bytes] = []
        for start in range(0, len(places), PIECES):
            group = places[start : start + PIECES]
            for place in group:
                self._check(place.address, place.length)
            found += self.bus.execute(
                [Transfer(self._commands.read(place.address), place.length) for place in group]
            )
        return found

    def stream(self, address: int, length: int) -> Iterator[bytes]:
        """The same as `read`, in pieces of at most 1 MiB as they come."""
        self._check(address, length)
        end = address + length
        while address < end:
            count = min(READ_CHUNK, self._limits.read, end - address)
            if self._commands.segmented:
                count = min(count, THREE_BYTE_SPAN - address % THREE_BYTE_SPAN)
            if self.chip.dies.count > 1:  # a read goes on at the start of its die
                count = min(count, self.chip.die_size - address % self.chip.die_size)
            self._reach(address)
            yield self.bus.execute([Transfer(self._commands.read(address), count)])[0]
            address += count

    def program(self, address: int, data: bytes, /) -> None:
        """Clear bits from ``address`` on; pages that are all FF are not sent."""
        self.program_pages(self.split(address, data))

    def erase(self, address: int, length: int, /) -> None:
        """Erase one erase block, or the whole chip: at once, or block by block.

        Raises:
            UsageError: the range is neither (``usage.erase-alignment``).
            ChipTimeout: the chip did not get ready within its maximum time.
            ChipProtected: the chip refused the write enable.
        """
        self._check(address, length)
        whole = (address, length) == (0, self.chip.size) and not self._commands.selects()
        if whole and self.chip.chip_erase is not None:
            opcode, time = self.chip.chip_erase
            self._erase(bytes((opcode,)), time, length, "chip erase", 0)
            return
        block = self._geometry.block_for(Range(address, length))
        if block is None and (address, length) == (0, self.chip.size):
            while address < length:
                block = self._geometry.blocks_at(address)[-1]
                self._erase_block(block)
                address = block.range.end
            return
        if block is None:
            raise UsageError(
                f"0x{address:06X}+{length} is not an erase block of {self.chip.part}",
                code="usage.erase-alignment",
                address=address,
                length=length,
            )
        self._erase_block(block)

    def sync(self) -> None:
        """Wait until the chip is ready."""
        self._poller.wait_ready(self.chip.page_program.maximum, ERASE_POLL, "operation", 0)

    # --- beyond the protocol ------------------------------------------------------------

    def split(self, address: int, data: bytes) -> list[Page]:
        """Cut data into pages, without those that are all FF and without FF at their ends."""
        self._check(address, len(data))
        found: list[Page] = []
        for piece in self._geometry.pages(Range(address, len(data))):
            content = data[piece.address - address : piece.end - address]
            trimmed = content.lstrip(b"\xff")
            if trimmed:
                start = piece.end - len(trimmed)
                found += self._fitting(Page(start, trimmed.rstrip(b"\xff")))
        return found

    def _fitting(self, page: Page) -> Iterator[Page]:
        """A page in pieces that the bus can carry; as it is where the chip wants it whole."""
        room = min(self._limits.write - LONGEST_HEADER, self._limits.read)
        if len(page.data) <= room or not self._geometry.reprogram:
            yield page
            return
        piece = 1 << (room.bit_length() - 1)
        end = page.address + len(page.data)
        start = page.address
        while start < end:
            stop = min(start - start % piece + piece, end)
            yield Page(start, page.data[start - page.address : stop - page.address])
            start = stop

    def program_pages(
        self, pages: Sequence[Page], done: Callable[[Sequence[Page]], None] | None = None
    ) -> None:
        """Program pages through the pipeline; see `Programmer.program`."""
        if not self._commands.segmented and not self._commands.selects():
            self.pages.program(pages, done)
            return
        by_place: dict[tuple[int, int], list[Page]] = {}
        for page in pages:
            place = self._commands.die(page.address), self._commands.segment(page.address)
            by_place.setdefault(place, []).append(page)
        for group in by_place.values():
            self._reach(group[0].address)
            self.pages.program(group, done)

    def registers(self, chip: Chip | None = None) -> dict[int, int]:
        """Status register values by register number.

        Args:
            chip: read those of a twin of the chip, by its opcodes.
        """
        commands = [
            (number, Transfer(bytes((opcode,)), 1))
            for number, opcode in (chip or self.chip).status.read.items()
        ]
        answers = self.bus.execute([transfer for _, transfer in commands])
        return {number: answer[0] for (number, _), answer in zip(commands, answers, strict=True)}

    def block_protection(self) -> bytes | None:
        """The SST26 block-protection register; None for other chips."""
        if self.chip.protection.style is not ProtectionStyle.SST26:
            return None
        length = sst26_bpr_length(self.chip.size)
        return self.bus.execute([Transfer(bytes((opcodes.READ_BLOCK_PROTECTION,)), length)])[0]

    def unique_id(self) -> str | None:
        """The factory-set unique id in hex, or None when the chip has none that can be told.

        Only parts of `UNIQUE_ID_MAKERS` are asked: elsewhere 4Bh is another command.
        """
        if self.chip.jedec_id[0] not in UNIQUE_ID_MAKERS:
            return None
        # One dummy byte more in the 4-byte mode, as 256 Mbit Winbond parts want it.
        command = bytes((opcodes.READ_UNIQUE_ID,)) + bytes(5 if self.in_four_byte_mode else 4)
        found = self.bus.execute([Transfer(command, 8)])[0]
        return None if len(set(found)) == 1 else found.hex()

    def close(self) -> None:
        """Leave the 4-byte mode, so that firmware finds the addressing it starts with."""
        self._every_die(() if self._starts_so else self._commands.leave())
        if self._commands.selects():
            self._select_die(0)

    # --- inside -------------------------------------------------------------------------

    def _erase_block(self, block: EraseBlock) -> None:
        address = block.range.address
        self._reach(address)
        time, length = block.kind.time, block.range.length
        dies = self.chip.dies
        if dies.erase is not None and (length, block.kind.opcode) == (
            self.chip.die_size,
            dies.erase[0],
        ):
            *mode, command = self._commands.erase_die(address)
            self._send(mode)
            self._erase(command, time, length, "die erase", address)
            self._send(() if self._starts_so else self._commands.leave_erase_die())
            return
        command = self._commands.erase(block.kind, address)
        self._erase(command, time, length, f"{block.kind.size}-byte erase", address)

    def _erase(self, command: bytes, time: Duration, size: int, what: str, address: int) -> None:
        status = Transfer(bytes((opcodes.READ_STATUS_1,)), 1)
        answers = self.bus.execute(
            [Transfer(bytes((opcodes.WRITE_ENABLE,))), status, Transfer(command)]
        )
        self.erases[size] += 1
        if not answers[1][0] & opcodes.STATUS_WEL:
            raise ChipProtected(
                f"the chip did not take write enable before the {what} at 0x{address:06X}",
                code="chip.write-enable",
                address=address,
                status=answers[1][0],
            )
        self.bus.execute([Wait(time.typical * ERASE_SLEEP)])
        self._poller.wait_ready(time.maximum, ERASE_POLL, what, address)

    def _reach(self, address: int) -> None:
        """Select the die and the 16 MiB segment of an address, on chips that want it."""
        die = self._commands.die(address)
        if die != self._die and self._commands.selects():
            self._select_die(die)
        segment = self._commands.segment(address)
        if segment != self._segment:
            self._send(self._commands.select_segment(segment))
            self._segment = segment

    def _select_die(self, die: int) -> None:
        self._send((self._commands.select_die(die),))
        self._die = die

    def _every_die(self, commands: Sequence[bytes]) -> None:
        """Send something that each die must be told for itself."""
        if self.chip.dies.access is not DieAccess.SELECT or not commands:
            self._send(commands)
            return
        for die in range(self.chip.dies.count):
            self._select_die(die)
            self._send(commands)
        self._select_die(0)

    def _starts_wide(self) -> bool:
        """Whether the chip is set to power up in the 4-byte mode: ADP, or Micron's register."""
        if self.chip.fail_flags is FailFlags.MICRON_FSR:
            ask = Transfer(bytes((opcodes.READ_NONVOLATILE_CONFIGURATION,)), 2)
            value = int.from_bytes(self.bus.execute([ask])[0], "little")
            return value != 0 and not value & 1
        if self.chip.jedec_id[0] == WINBOND and 3 in self.chip.status.read:
            ask = Transfer(bytes((self.chip.status.read[3],)), 1)
            value = self.bus.execute([ask])[0][0]
            return value != 0xFF and bool(value & ADP)
        return False

    def _send(self, commands: Sequence[bytes]) -> None:
        if commands:
            self.bus.execute([Transfer(command) for command in commands])

    def _check(self, address: int, length: int) -> None:
        if address < 0 or length < 0 or address + length > self.chip.size:
            raise UsageError(
                f"0x{address:06X}+{length} is outside the chip of {self.chip.size} bytes",
                code="usage.address",
                address=address,
                length=length,
                size=self.chip.size,
            )
