import pytest
from support import DieBus, Notes, Rig, small_chip

from hwflash.bus.abilities import Limits
from hwflash.bus.spi import Transfer
from hwflash.chip.model import FailFlags
from hwflash.errors import BusUnstable, ChipTimeout
from hwflash.flash.identify import read_id
from hwflash.flash.nor import NorFlash
from hwflash.flash.pipeline import StatusPoller
from hwflash.flash.steady import SLOWEST_HZ, until_steady


def test_the_clock_goes_down_until_reads_agree() -> None:
    rig = Rig(faults="flip=0.05@6M", flash=False)
    notes = Notes()
    identity = until_steady(rig.bus, notes, lambda: twenty_equal(rig.bus))
    assert identity == b"\xef\x40\x11"
    assert rig.bus.frequency == pytest.approx(5e6, rel=0.26)
    assert [context["unstable_hz"] for _, context in notes.warnings][:3] == [30e6, 15e6, 7.5e6]
    assert all("too fast for these wires" in message for message, _ in notes.warnings)
    rig.close()


def twenty_equal(bus) -> bytes:
    found = {read_id(bus)[:3] for _ in range(20)}
    if len(found) > 1:
        raise BusUnstable("ids differ")
    return found.pop()


def test_wires_that_never_agree() -> None:
    rig = Rig(flash=False)
    tried = []

    def never() -> None:
        tried.append(rig.bus.frequency)
        raise BusUnstable("two reads differ")

    notes = Notes()
    with pytest.raises(BusUnstable):
        until_steady(rig.bus, notes, never)
    assert tried == sorted(tried, reverse=True)
    assert min(tried) >= SLOWEST_HZ
    assert len(notes.warnings) == len(tried) - 1
    rig.close()


def test_a_clock_that_cannot_be_changed() -> None:
    bus = DieBus(small_chip())
    bus.set_frequency = lambda hertz: None

    def never() -> None:
        raise BusUnstable("two reads differ")

    notes = Notes()
    with pytest.raises(BusUnstable):
        until_steady(bus, notes, never)
    assert notes.warnings == []


# --- parts that tell the end in their flag status register ---------------------------------------

FLAGGED = small_chip(fail_flags=FailFlags.MICRON_FSR, quirks=frozenset({"flag-status-poll"}))


def test_the_flag_status_register_is_polled_where_the_part_demands_it() -> None:
    bus = DieBus(FLAGGED)
    flash = NorFlash(bus, FLAGGED)
    flash.erase(0, 4096)
    flash.program(0, bytes(range(256)) * 8)
    assert bus.die.content[:2048] == bytes(range(256)) * 8
    assert flash.pages.retries == 0
    polls = [op.write for op in bus.sent if isinstance(op, Transfer) and op.write == b"\x70"]
    assert len(polls) >= 8 + 2


def test_a_flag_status_that_never_gets_ready() -> None:
    bus = DieBus(FLAGGED, override=lambda op: b"\x00" if op.write == b"\x70" else None)
    with pytest.raises(ChipTimeout):
        StatusPoller(bus, FLAGGED).wait_ready(0.003, 0.001, "x", 0)


# --- buses with a longest transfer ----------------------------------------------------------------


@pytest.mark.parametrize(("write", "read"), [(69, 64), (37, 1000), (300, 100), (260, 1 << 20)])
def test_pages_are_cut_to_what_a_bus_carries(write: int, read: int) -> None:
    class Narrow(DieBus):
        limits = Limits(write=write, read=read)

        def execute(self, ops, /):
            for op in ops:
                if isinstance(op, Transfer):
                    assert len(op.write) <= write
                    assert op.read <= read
            return super().execute(ops)

    chip = small_chip()
    bus = Narrow(chip)
    flash = NorFlash(bus, chip)
    data = bytes((n * 7 + n // 256) & 0xFF for n in range(5000))
    flash.program(100, data)
    assert bus.die.content[100:5100] == data
    assert flash.read(100, 5000) == data
