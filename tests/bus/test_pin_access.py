"""Single pins of an FT232H, on the simulated one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hwflash.bus.ftdi import Ft232hBus
from hwflash.bus.pin_access import SPI, PinAccess, pin_access
from hwflash.bus.pins import PinUse
from hwflash.bus.spi import Transfer
from hwflash.chip import catalog
from hwflash.sim.faults import Faults
from hwflash.sim.programmer import SimulatedProgrammer

STRAIGHT = dict(zip(SPI, (1, 2, 4, 8), strict=True))


@pytest.fixture
def bus(request: Any) -> Iterator[Ft232hBus]:
    faults = Faults.parse(getattr(request, "param", ""))
    sim = SimulatedProgrammer(catalog.load().by_name("w25q80dv").chip, faults=faults)
    found = Ft232hBus(
        sim.device, frequency=1e6, clock=sim.clock, pins=PinUse(reset="ACBUS1", power="ACBUS0")
    )
    found.sim = sim  # type: ignore[attr-defined]
    yield found
    found.close()


def pins_of(bus: Ft232hBus) -> PinAccess:
    found = pin_access(bus)
    assert found is not None
    return found


def driven(bus: Any) -> tuple[int, int]:
    bus.execute([Transfer(b"\x9f", 3)])  # an answer: all commands before it are carried out
    wires = bus.sim._engine.shifter.wires
    return wires._level & wires._driven, wires._driven


def test_lines_by_name(bus: Ft232hBus) -> None:
    pins = pins_of(bus)
    assert pins.lines == {**STRAIGHT, "wp": 0x10, "hold": 0x20, "reset": 0x0200}
    assert pins.supply == 0x0100
    assert pins.usual == (0x0138, 0x033B)
    assert pins.selected == (0x0130, 0x033B)


def test_every_call_puts_the_pins_back(bus: Ft232hBus) -> None:
    pins, before = pins_of(bus), driven(bus)
    assert before == pins.usual
    for call in (
        lambda: pins.levels([(0, 0), (0, 0x3F)]),
        lambda: pins.exchange(b"\x9f\0\0\0", pins.selected),
        lambda: pins.exchange(b"\x55", loopback=True),
        lambda: pins.by_hand(STRAIGHT, b"\x9f", 3),
    ):
        call()
        assert driven(bus) == before
        assert bus.execute([Transfer(b"\x9f", 3)])[0].hex() == "ef4014"


def test_levels_of_more_settings_than_the_fifo_holds(bus: Ft232hBus) -> None:
    settings = [(number & 0xFF, 0xC0) for number in range(0, 4000, 4)]
    found = pins_of(bus).levels(settings)
    assert [level & 0xC0 for level in found] == [value & 0xC0 for value, _ in settings]


def test_transfers(bus: Ft232hBus) -> None:
    pins = pins_of(bus)
    assert pins.exchange(b"\x9f\0\0\0", pins.selected)[1:].hex() == "ef4014"
    assert pins.exchange(b"\x9f\0\0\0") == b"\xff" * 4
    assert pins.exchange(bytes(range(256)) * 2, loopback=True) == bytes(range(256)) * 2
    assert pins.exchange(b"\x9f\0\0\0") == b"\xff" * 4, "the loopback is off again"
    assert pins.by_hand(STRAIGHT, b"\x9f", 3).hex() == "ef4014"


@pytest.mark.parametrize("bus", ["swap=clk-cs"], indirect=True)
def test_by_hand_on_other_pins(bus: Ft232hBus) -> None:
    pins = pins_of(bus)
    assert pins.by_hand({**STRAIGHT, "clk": 8, "cs": 1}, b"\x9f", 3).hex() == "ef4014"
    assert pins.by_hand(STRAIGHT, b"\x9f", 3) == b"\xff" * 3


def test_a_bus_that_let_go_can_still_be_watched(bus: Ft232hBus) -> None:
    bus.let_go(supply=True, reset=True)
    wires = bus.sim._engine.shifter.wires  # type: ignore[attr-defined]
    assert pins_of(bus).levels([(0x0100, 0x0300)])[0] & 0x0F == 0x0F
    bus.sim.backend.chip.settle()  # type: ignore[attr-defined]
    assert (wires._level & wires._driven, wires._driven) == (0x0100, 0x0300)
