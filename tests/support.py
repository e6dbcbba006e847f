"""Small chips, simulated programmers with a chip on them, and a bus without any programmer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from hwflash.bus.ftdi import Ft232hBus
from hwflash.bus.spi import BusStats, Op, Transfer, Wait
from hwflash.chip.model import (
    Addressing,
    Chip,
    Duration,
    EraseRegion,
    EraseType,
    StatusCommands,
)
from hwflash.errors import HwflashError
from hwflash.flash.nor import NorFlash
from hwflash.progress import Progress
from hwflash.sim.clock import VirtualClock
from hwflash.sim.die import NorDie
from hwflash.sim.faults import NO_FAULTS, Faults
from hwflash.sim.programmer import SimulatedProgrammer
from hwflash.units import KIB

if TYPE_CHECKING:
    from hwflash.jobs.session import Session

SECTOR = EraseType(4 * KIB, 0x20, Duration(0.045, 0.4), 0x21)
BLOCK_32K = EraseType(32 * KIB, 0x52, Duration(0.120, 1.6), 0x5C)
BLOCK_64K = EraseType(64 * KIB, 0xD8, Duration(0.150, 2.0), 0xDC)


def small_chip(size: int = 128 * KIB, **changes: object) -> Chip:
    """A chip that behaves like a W25Q, and is small enough to be compared as a whole."""
    plain = Chip(
        part="TINY",
        manufacturer="Winbond",
        jedec_id=bytes.fromhex("ef4011"),
        size=size,
        page_size=256,
        erase=(EraseRegion(0, size, (SECTOR, BLOCK_32K, BLOCK_64K)),),
        page_program=Duration(0.0004, 0.003),
        chip_erase=(0xC7, Duration(0.5, 2.0)),
        read_max_hz=50e6,
        fast_read_max_hz=133e6,
        status=StatusCommands(read={1: 0x05, 2: 0x35}, write={1: 0x01, 2: 0x31}),
    )
    return replace(plain, **changes)


def large_chip(addressing: Addressing, **changes: object) -> Chip:
    """32 MiB: addresses need a fourth byte."""
    return small_chip(32 * 1024 * KIB, part="LARGE", addressing=addressing, **changes)


class Rig:
    """A simulated programmer, an open bus, and the flash behind it."""

    def __init__(
        self,
        chip: Chip | None = None,
        *,
        faults: Faults | str = NO_FAULTS,
        flash: bool = True,
        bus: dict[str, object] | None = None,
        timing: str = "datasheet",
        **options: object,
    ) -> None:
        if isinstance(faults, str):
            faults = Faults.parse(faults)
        self.chip = chip or small_chip()
        self.sim = SimulatedProgrammer(self.chip, faults=faults, timing=timing, **options)
        self._options = bus or {}
        self._flash = flash
        self.bus: Ft232hBus
        self.flash: NorFlash
        self.open()

    def open(self) -> None:
        self.bus = Ft232hBus(
            self.sim.device, clock=self.sim.clock, **{"name": "sim", **self._options}
        )
        if self._flash:
            self.flash = NorFlash(self.bus, self.chip)

    @property
    def content(self) -> bytearray:
        return self.sim.die.content

    def revive(self) -> None:
        """Plug the programmer in and switch the supply on again, and open both anew."""
        self.bus.close()
        self.sim.die.restore_power()
        self.sim.plug()
        self.open()

    def close(self) -> None:
        self.bus.close()
        self.sim.close()


RigFactory = Callable[..., Rig]


class DieBus:
    """A `SpiBus` straight on a simulated die; keeps every operation.

    ``override`` may answer a transfer instead of the die.
    """

    def __init__(
        self,
        chip: Chip,
        *,
        frequency: float = 30e6,
        override: Callable[[Transfer], bytes | None] | None = None,
        sfdp: bytes | None = None,
        **options: object,
    ) -> None:
        self.clock = VirtualClock()
        self.frequency = frequency
        self.stats = BusStats()
        self.die = NorDie(chip, sfdp, self.clock, **{"timing": "datasheet", **options})
        self.sent: list[Op] = []
        self.override = override
        self.closed = False

    def execute(self, ops: Sequence[Op], /) -> list[bytes]:
        return [self._one(op) for op in ops]

    def _one(self, op: Op) -> bytes:
        self.sent.append(op)
        if isinstance(op, Wait):
            self.clock.sleep(op.seconds)
            return b""
        if self.override is not None:
            answer = self.override(op)
            if answer is not None:
                self.clock.sleep(8 * (len(op.write) + op.read) / self.frequency)
                return answer
        self.die.select()
        self.die.exchange(op.write)
        self.clock.sleep(8 * len(op.write) / self.frequency)
        answer = self.die.exchange(bytes(op.read))
        self.clock.sleep(8 * op.read / self.frequency)
        self.die.deselect()
        return answer

    def set_frequency(self, hertz: float, /) -> None:
        self.frequency = hertz

    def commands(self) -> list[str]:
        """What was sent, in hex, page data cut off."""
        return [op.write[:6].hex() for op in self.sent if isinstance(op, Transfer)]

    def close(self) -> None:
        self.closed = True


def session_over(bus: DieBus) -> Session:
    """A session on a chip without any programmer; jobs run on it."""
    from hwflash.chip.identity import Resolved
    from hwflash.flash.identify import Identity
    from hwflash.jobs.programmer import Programmer
    from hwflash.jobs.session import Session

    chip = bus.die.chip
    identity = Identity(chip.jedec_id, chip.jedec_id, Resolved(chip, "catalog"), None, None, None)
    return Session(Programmer("sim://tiny", "sim", bus, True, bus.close), identity, None)


class Notes:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.events: list[Progress] = []
        self.infos: list[tuple[str, dict[str, object]]] = []
        self.warnings: list[tuple[str, dict[str, object]]] = []
        self.on_progress: Callable[[Progress], None] | None = None

    def progress(self, event: Progress, /) -> None:
        self.events.append(event)
        if self.on_progress is not None:
            self.on_progress(event)

    def info(self, message: str, /, **context: object) -> None:
        self.infos.append((message, context))

    def warning(self, message: str, /, **context: object) -> None:
        self.warnings.append((message, context))

    @property
    def phases(self) -> list[str]:
        return list(dict.fromkeys(event.phase for event in self.events))


# A few sizes and seeds are asked for again and again, and it took a tenth of all CPU time.
@lru_cache(maxsize=32)
def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes that look random and never change."""
    state, data = seed * 2654435761 % 2**32 or 1, bytearray()
    while len(data) < size:
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        data += state.to_bytes(4, "little")
    return bytes(data[:size])


def examples(full: int) -> int:
    """How many random cases a test tries: all of them, in the quick set as many fewer as others."""
    return max(full * settings.default.max_examples // 100, 1)


def mostly_slow(quick: int, values: Iterable[object]) -> list[object]:
    """Values of a parameter; all but the first ones are for the slow set."""
    every = list(values)
    return [*every[:quick], *(pytest.param(item, marks=pytest.mark.slow) for item in every[quick:])]


def failure(error: HwflashError) -> tuple[str, int]:
    """What a script sees of an error."""
    return error.code, error.exit_code
