"""pyspiflash, a flash driver we did not write, judges the simulated FT232H and die."""

import random
from dataclasses import replace

import pytest
import spiflash.serialflash
from pyftdi.spi import SpiController
from sim_chips import W25Q128
from spiflash.serialflash import SerialFlashManager, SerialFlashTimeout

from hwflash.chip.model import Duration
from hwflash.sim.faults import Faults
from hwflash.sim.programmer import SimulatedProgrammer


@pytest.fixture
def flash(request, monkeypatch):
    sim = SimulatedProgrammer(**{"chip": W25Q128, **getattr(request, "param", {})})
    monkeypatch.setattr(spiflash.serialflash.time, "sleep", sim.clock.sleep)
    monkeypatch.setattr(spiflash.serialflash.time, "time", sim.clock.now)
    controller = SpiController()
    controller.configure(sim.device)
    flash = SerialFlashManager.get_from_controller(controller, freq=30e6)
    yield sim, flash
    monkeypatch.undo()
    controller.close()


def test_identifies_erases_programs_and_reads(flash) -> None:
    sim, chip = flash
    assert str(chip) == "Winbond W25Q128 16 MiB"
    data = random.Random(7).randbytes(70_000)
    sim.die.content[: 256 * 1024] = bytes(256 * 1024)
    chip.erase(0, 128 * 1024, verify=True)
    chip.write(0x1234, data)
    assert chip.read(0x1234, len(data)) == data
    assert chip.read(0, 0x1234) == b"\xff" * 0x1234
    assert bytes(sim.die.content[0x1234 : 0x1234 + len(data)]) == data
    assert sim.die.content[128 * 1024] == 0
    assert sim.die.wear[:33] == [1] * 32 + [0]
    assert sim.clock.now() > 70_000 / 256 * 0.0004 + 2 * 0.15


QUICK = replace(W25Q128, chip_erase=(0xC7, Duration(8.0, 14.0)))


@pytest.mark.parametrize("flash", [{"chip": QUICK}], indirect=True)
def test_chip_erase_and_unlock(flash) -> None:
    sim, chip = flash
    sim.die.status.stored[1] = 0x1C
    sim.die.restart()
    sim.die.content[0x500000] = 0
    chip.erase(0, -1)
    assert sim.die.content[0x500000] == 0, "protected"
    chip.unlock()
    chip.erase(0, -1)
    assert sim.die.content[0x500000] == 0xFF
    assert 6 < sim.clock.now() < 16


def test_gives_up_too_early_on_a_chip_of_the_usual_speed(flash) -> None:
    """The driver allows 15 s for a chip erase, the data sheet 40 to 200 s."""
    _, chip = flash
    with pytest.raises(SerialFlashTimeout):
        chip.erase(0, -1)


@pytest.mark.parametrize("flash", [{"faults": Faults(never_ready=1)}], indirect=True)
def test_times_out_on_a_chip_that_never_gets_ready(flash) -> None:
    _, chip = flash
    with pytest.raises(SerialFlashTimeout):
        chip.erase(0, 4096)
