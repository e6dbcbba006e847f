"""A simulated programmer: an FT232H with a flash chip on it, ready for pyftdi.

::

    sim = SimulatedProgrammer(chip, sfdp=table)
    ftdi = Ftdi()
    ftdi.open_mpsse_from_device(sim.device, frequency=30e6)

Everything a programmer does is on its own clock; any number of them live in one process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import usb.core
import usb.util

from hwflash.chip.model import Chip
from hwflash.sim.clock import VirtualClock
from hwflash.sim.crossed import CrossedWiring, crosses
from hwflash.sim.die import NorDie
from hwflash.sim.die_timing import Timing
from hwflash.sim.faults import NO_FAULTS, Faults
from hwflash.sim.ft232h import Ft232h
from hwflash.sim.mpsse import Mpsse
from hwflash.sim.state import load_content, load_state, save
from hwflash.sim.usb import SimulatedUsb
from hwflash.sim.wiring import PinMap, Wiring


class _EngineTime:
    """The time of the command processor, which is the time the die lives in."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.engine: Mpsse | None = None

    def now(self) -> float:
        """Seconds of virtual time."""
        return self._clock.now() if self.engine is None else self.engine.time


class SimulatedProgrammer:
    """An FT232H at USB level, a SPI NOR die behind it.

    Args:
        chip: the chip on the programmer.
        sfdp: bytes it answers to 5Ah, or None for a chip without SFDP.
        image: file with the content, made when absent; the state is kept beside it.
        seed: of every random draw; equal seeds give equal runs.
        timing: busy times: drawn around ``typical``, always ``max``, or as in the ``datasheet``.
        power_cut: lose the power in the middle of this program, erase or status write.
        wp: level of WP# while the programmer does not drive it.
        faults: what is broken.
        unique_id: answer to 4Bh; None draws one for makers that have the command.
        serial: USB serial number; "" is a device without one.
        pins: which programmer pins drive WP#, HOLD#, RESET# and the supply.
        second: another chip on the same lines and the bytes it answers to 5Ah, or None.

    Attributes:
        clock: the time the host lives in.
        backend: the PyUSB backend.
        device: the device as PyUSB sees it; a new object after it was plugged in again.

    Raises:
        ImageError: the image or its state do not fit (``sim.image-size``, ``sim.state``).
    """

    def __init__(
        self,
        chip: Chip,
        *,
        sfdp: bytes | None = None,
        image: Path | None = None,
        seed: int = 0,
        timing: Timing = "typical",
        power_cut: int | None = None,
        wp: int = 1,
        faults: Faults = NO_FAULTS,
        unique_id: bytes | None = None,
        serial: str = "",
        pins: PinMap = PinMap(),  # noqa: B008 - a frozen value
        second: tuple[Chip, bytes | None] | None = None,
    ) -> None:
        self.chip = chip
        self.clock = VirtualClock()
        self._image = image
        self._closed = False
        time = _EngineTime(self.clock)
        content = None if image is None else load_content(image, chip)
        self._die = NorDie(
            chip, sfdp, time, seed=seed, timing=timing, power_cut=power_cut, wp=wp,
            faults=faults, unique_id=unique_id, content=content,
        )  # fmt: skip
        if image is not None:
            load_state(image, self._die)
        self._die.found(faults.chip)
        other = None if second is None else NorDie(*second, time, seed=seed + 1)
        wires = CrossedWiring if crosses(faults) else Wiring
        self._engine = Mpsse(wires(self._die, pins, wp, faults, seed, other))
        time.engine = self._engine
        self.backend = SimulatedUsb(Ft232h(self._engine, self.clock), serial, faults)
        self._die.on_power_cut = self._power_lost
        self.device: usb.core.Device = usb.core.Device(self.backend, self.backend)

    @property
    def die(self) -> NorDie:
        """The die, after every command the FT232H has taken was carried out."""
        if self.backend.plugged:
            self.backend.chip.settle()
        return self._die

    @property
    def stats(self) -> dict[str, Any]:
        """Counters: USB transfers and bytes, bytes clocked, primitives, modelled seconds."""
        usb_counters = self.backend.counters
        return {
            "usb_out": usb_counters.bulk_out,
            "usb_in": usb_counters.bulk_in,
            "usb_control": usb_counters.control,
            "bytes_out": usb_counters.bytes_out,
            "bytes_in": usb_counters.bytes_in,
            "sck_bytes": self._engine.shifter.clocked,
            "primitives": self._die.primitives,
            "modelled_seconds": self.clock.now(),
        }

    def plug(self) -> None:
        """Plug the programmer in again after a disconnection."""
        self.backend.plug()
        self.device = usb.core.Device(self.backend, self.backend)

    def unplug(self) -> None:
        """Pull the USB cable; the chip keeps its own supply."""
        self.backend.unplug()

    def restore_power(self) -> None:
        """End a power cut: the chip starts with what was left, the programmer is back."""
        self._die.restore_power()
        self.plug()

    def sync(self) -> None:
        """Write the image and its state; nothing happens without an image file.

        Raises:
            EnvironmentFault: they cannot be written.
        """
        if self._image is not None:
            save(self._image, self.die)

    def close(self) -> None:
        """Write the image and let go of the device. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self.sync()
        finally:
            usb.util.dispose_resources(self.device)  # pyright: ignore[reportUnknownMemberType]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _power_lost(self) -> None:
        self.backend.plugged = False
        if self._image is not None:
            save(self._image, self._die)
