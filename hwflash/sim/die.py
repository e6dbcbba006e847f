"""A SPI NOR flash die that behaves like one, seen from its wires.

The die sees CS#, clocked bits, WP#, HOLD#, RESET# and its supply; what the commands do is in
`hwflash.sim.die_reads` and `hwflash.sim.die_writes`. Runs of bytes are handled as runs, so that
a 16 MiB read is a few slices.

Ref: W25Q128JV Rev. F chapters 6 to 9; JESD216F for the 4-byte modes.
Limits: no dual and quad transfers (an FT232H has none); HOLD# works whatever the QE bit says.
"""

from __future__ import annotations

from typing import Final

from hwflash.chip.model import Chip, DieAccess
from hwflash.sim.die_core import DieCore, Now, Stream
from hwflash.sim.die_table import Command, build_table
from hwflash.sim.die_timing import Timing
from hwflash.sim.faults import NO_FAULTS, Faults

_LEAVE: Final = 0xFF  # mode bits that end a continuous read


class NorDie(DieCore):
    """One SPI NOR chip.

    Args:
        chip: what kind of chip it is.
        sfdp: the bytes answered to 5Ah, or None for a chip without SFDP.
        clock: where the time comes from.
        seed: of every random draw.
        timing: how busy times are drawn, see `hwflash.sim.die_timing`.
        power_cut: number of the primitive in whose middle the power goes away, or None.
        wp: level of WP# while nobody drives it.
        faults: what is broken.
        unique_id: bytes answered to 4Bh; None draws them for makers that have the command.
        content: the memory, used in place; None is an erased chip.

    Attributes:
        wp, hold: levels of the two pins.
        sck_hz: the clock the bytes come at, 0 when not known.
        primitives: programs, erases and status writes begun so far.
        cut: what the power cut interrupted, or None.
    """

    def __init__(
        self,
        chip: Chip,
        sfdp: bytes | None,
        clock: Now,
        *,
        seed: int = 0,
        timing: Timing = "typical",
        power_cut: int | None = None,
        wp: int = 1,
        faults: Faults = NO_FAULTS,
        unique_id: bytes | None = None,
        content: bytearray | None = None,
    ) -> None:
        super().__init__(
            chip, clock, seed=seed, timing=timing, power_cut=power_cut, wp=wp,
            faults=faults, content=content,
        )  # fmt: skip
        self._command: Command | None = None
        self._stream: Stream | None = None
        self._header = 0
        self._received = bytearray()
        self._bits = 0
        self._bits_in = 0
        self._bits_out = -1  # what MISO shows during this byte, -1 while that is open
        self._too_fast = False
        self._in_reset = False
        self._table = build_table(self, sfdp, unique_id, seed)

    # --- the wires -------------------------------------------------------------------------

    def select(self) -> None:
        """CS# goes low."""
        self.selected = True
        self._command = self._stream = None
        self._received = bytearray()
        self._bits, self._bits_out = 0, -1

    def exchange(self, mosi: bytes) -> bytes:
        """Clock ``mosi`` in while selected; returns as many bytes, FF where nothing drives."""
        size = len(mosi)
        if not (self.selected and self.powered and self.hold) or self._in_reset:
            return b"\xff" * size
        if self.busy_on_miso and self.aai is not None and self._stream is None:
            return self._show_busy(mosi)
        if self._bits:
            return self.exchange_bits(int.from_bytes(mosi), 8 * size).to_bytes(size)
        if self._bits_out >= 0 and size:  # the first byte was looked at already
            first, self._bits_out = self._bits_out, -1
            if self._stream is not None:
                return bytes((first,)) + self._emit(size - 1)
        if self._stream is not None:
            return self._emit(size)
        had = len(self._received)
        self._received += mosi
        if not had and size:
            self._begin()
        if not self._start_stream():
            return b"\xff" * size
        skipped = self._header - had
        return b"\xff" * skipped + self._emit(size - skipped)

    def exchange_bits(self, value: int, count: int) -> int:
        """Clock ``count`` bits of ``value`` in, highest first; returns as many."""
        out = 0
        for place in range(count - 1, -1, -1):
            out = out << 1 | self._clock_bit(value >> place & 1)
        return out

    def miso(self) -> int:
        """The level of MISO before the next clock."""
        if not (self.selected and self.powered and self.hold) or self._in_reset:
            return 1
        self._fetch()
        return self._bits_out >> 7 - self._bits & 1

    @property
    def driving(self) -> bool:
        """Whether the chip drives MISO; else the line is left alone."""
        listens = self.selected and self.powered and self.hold and not self._in_reset
        return listens and self._stream is not None

    def deselect(self) -> None:
        """CS# goes high: a complete command is carried out now."""
        if not self.selected:
            return
        self.selected = False
        command, self._command, self._stream = self._command, None, None
        if command is None or command.act is None or self._bits:
            return
        size = len(self._received)
        data = size - self._length(command)
        if size < 1 or data < command.least or (command.most is not None and data > command.most):
            return
        if command.needs_wel and not self.wel:
            return
        command.act(self._address(command), bytes(self._received[self._length(command) :]))

    def set_reset(self, level: bool) -> None:
        """RESET#: low stops everything, the rising edge starts the chip anew."""
        if self._in_reset and level:
            self.reset()
        self._in_reset = not level

    # --- inside a window -------------------------------------------------------------------

    def _begin(self) -> None:
        """The opcode is known: find the command, unless the chip does not listen."""
        opcode = self._received[0]
        if self.continuous:
            self.continuous = opcode != _LEAVE
            return
        command = self._table.get(opcode)
        armed, self.reset_enabled = self.reset_enabled, False
        if command is None or self.clock.now() < self.ignore_until:
            return
        if self.deep and not command.wakes:
            return
        if self.aai is not None and not command.in_aai:
            return
        if self.busy() and not command.while_busy:
            return
        self.reset_armed = armed
        self._command = command
        self._header = self._length(command) + command.dummy
        limit = self.chip.read_max_hz if command.slow else self.chip.fast_read_max_hz
        self._too_fast = limit is not None and self.sck_hz > limit

    def _length(self, command: Command) -> int:
        """Opcode and address bytes."""
        return 1 + (command.address if command.address >= 0 else self.address_bytes())

    def _address(self, command: Command) -> int:
        length = self._length(command)
        address = int.from_bytes(self._received[1:length])
        if command.address < 0 and length == 4:
            address |= self.extended << 24
        if not command.memory:
            return address
        if self.chip.dies.access is DieAccess.SELECT:
            size = self.chip.die_size
            return address % size + self.active * size
        return address % self.chip.size

    def _start_stream(self) -> bool:
        command = self._command
        if command is None or command.stream is None or len(self._received) < self._header:
            return False
        self._stream = command.stream(self._address(command))
        return True

    def _emit(self, size: int) -> bytes:
        stream = self._stream
        data = stream(size) if stream is not None and size else b""
        if self._too_fast and size:
            data = self._disturb(data)
        return data

    def _show_busy(self, mosi: bytes) -> bytes:
        """After 70h MISO is a busy line during auto address increment: low while busy."""
        self.busy_on_miso = False
        idle = self.exchange(mosi)
        self.busy_on_miso = True
        return bytes(len(idle)) if self.busy() and self._stream is None else idle

    def _disturb(self, data: bytes) -> bytes:
        """Above its highest clock a chip drives too late: one random bit in 32 is wrong."""
        noise = -1
        for _ in range(5):
            noise &= self.random.getrandbits(8 * len(data))
        return (int.from_bytes(data) ^ noise).to_bytes(len(data))

    def _fetch(self) -> None:
        """At the start of a byte: what MISO shows during it."""
        if not self._bits and self._bits_out < 0:
            self._bits_out = self._emit(1)[0] if self._stream is not None else 0xFF

    def _clock_bit(self, mosi: int) -> int:
        if not (self.selected and self.powered and self.hold) or self._in_reset:
            return 1
        if not self._bits:
            self._bits_in = 0
        self._fetch()
        answer = self._bits_out >> 7 - self._bits & 1
        self._bits_in = self._bits_in << 1 | mosi
        self._bits += 1
        if self._bits == 8:
            self._bits, self._bits_out = 0, -1
            if self._stream is None:
                self._received.append(self._bits_in)
                if len(self._received) == 1:
                    self._begin()
                self._start_stream()
        return answer
