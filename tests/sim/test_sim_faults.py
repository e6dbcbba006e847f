import errno
import random

import pytest
import usb.core
from sim_chips import MX25L128, W25Q128
from test_sim_ft232h import HIGH, LOW, Host, rd, wr

from hwflash.errors import UsageError
from hwflash.sim.faults import NO_FAULTS, Faults
from hwflash.sim.programmer import SimulatedProgrammer

IDENT = LOW + wr(b"\x9f") + rd(3) + HIGH


def test_parse() -> None:
    text = "slow=0.2, flip=1e-6@20M,stuck=miso-high,cs=low,hold=low,disconnect=500,never_ready=10"
    assert Faults.parse(text) == Faults(
        slow=0.2, flip=1e-6, flip_above=20e6, stuck="miso-high", cs="low", hold="low",
        disconnect=500, never_ready=10,
    )  # fmt: skip
    assert Faults.parse("fail=3,access=busy,flip=1") == Faults(fail=3, access="busy", flip=1.0)
    assert Faults.parse("") == NO_FAULTS == Faults()


@pytest.mark.parametrize(
    "text",
    [
        "fire=1", "slow", "slow=2", "slow=-0.1", "slow=nan", "flip=x", "stuck=miso", "disconnect=0",
        "never_ready=1.5", "fail=1,fail=2", "cs=", "=", "access=maybe",
    ],
)  # fmt: skip
def test_bad_text(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Faults.parse(text)
    assert caught.value.code == "usage.faults"


def test_bad_frequency() -> None:
    with pytest.raises(UsageError) as caught:
        Faults.parse("flip=0.1@fast")
    assert caught.value.code == "usage.faults"


def test_flipped_bits() -> None:
    host = Host(faults=Faults(flip=0.001))
    host.sim.die.content[:50_000] = bytes(50_000)
    read = LOW + wr(b"\x03\x00\x00\x00") + rd(50_000) + HIGH
    first = host.ask(read, 50_000)
    wrong = int.from_bytes(first).bit_count()
    assert 280 < wrong < 520
    assert host.ask(read, 50_000) != first
    again = Host(faults=Faults(flip=0.001))
    again.sim.die.content[:50_000] = bytes(50_000)
    assert again.ask(read, 50_000) == first, "seeded"


def test_every_bit_flipped_and_only_above_a_clock() -> None:
    host = Host(faults=Faults(flip=1.0, flip_above=10e6))
    assert host.ask(IDENT, 3) == bytes.fromhex("10bfe7")
    assert host.ask(LOW + wr(b"\x9f") + b"\x22\x02" + HIGH, 1) == b"\x00"
    host.write(b"\x86\x02\x00")
    assert host.ask(IDENT, 3).hex() == "ef4018"


@pytest.mark.parametrize(("stuck", "level"), [("miso-high", 0xFF), ("miso-low", 0x00)])
def test_stuck_miso(stuck: str, level: int) -> None:
    host = Host(faults=Faults(stuck=stuck))
    assert host.ask(IDENT, 3) == bytes((level,)) * 3
    assert host.ask(b"\x81", 1)[0] & 0x04 == level & 0x04
    assert host.ask(b"\x80\xf0\xfa" + rd(2) + HIGH, 2) == bytes((level,)) * 2


def test_floating_chip_select() -> None:
    host = Host(faults=Faults(cs="floating"))
    assert host.ask(IDENT, 3) == b"\xff" * 3


def test_chip_select_shorted_low() -> None:
    host = Host(faults=Faults(cs="low"))
    assert host.ask(IDENT, 3).hex() == "ef4018", "the first command still works"
    host.ask(LOW + wr(b"\x06") + HIGH, 0)
    assert host.ask(LOW + wr(b"\x05") + rd(1) + HIGH, 1) != b"\x02"
    assert host.sim.die.wel is False


def test_hold_that_nobody_drives() -> None:
    host = Host(faults=Faults(hold="low"))
    undriven = b"\x80\xd0\xdb"
    assert host.ask(undriven + wr(b"\x9f") + rd(3) + b"\x80\xd8\xdb", 3) == b"\xff" * 3
    assert host.ask(HIGH + IDENT, 3).hex() == "ef4018", "driven high"
    assert host.ask(b"\x80\xd8\xdb\x81", 1)[0] & 0x20 == 0


def test_disconnection_and_replugging() -> None:
    host = Host(faults=Faults(disconnect=20))
    host.ask(IDENT, 3)

    def until_it_is_gone() -> None:
        for _ in range(30):
            host.ask(IDENT, 3)

    with pytest.raises(usb.core.USBError) as caught:
        until_it_is_gone()
    assert caught.value.errno == errno.ENODEV
    stats = host.sim.stats
    assert stats["usb_out"] + stats["usb_in"] + stats["usb_control"] == 20
    sim = host.sim
    assert usb.core.find(backend=sim.backend) is None
    for call in (
        lambda: host.write(b"\x00"), host.packet, lambda: host.inp(5, 2), host.device.reset,
        lambda: usb.core.Device(sim.backend, sim.backend).set_configuration(),
    ):  # fmt: skip
        with pytest.raises(usb.core.USBError) as caught:
            call()
        assert caught.value.errno == errno.ENODEV
    old = host.device
    sim.plug()
    with pytest.raises(usb.core.USBError) as caught:
        old.read(0x81, 512)
    assert caught.value.errno == errno.ENODEV, "a handle does not survive"
    host.device = sim.device
    host.device.detach_kernel_driver(0)
    host.out(0x0B, 0x0200)
    for _ in range(30):
        assert host.ask(HIGH + IDENT, 3).hex() == "ef4018"


def test_disconnection_in_the_middle_of_a_program_raises_cs() -> None:
    host = Host()
    host.ask(LOW + wr(b"\x06") + HIGH, 0)
    host.write(LOW + wr(b"\x02\x00\x00\x00" + bytes(8)))
    host.clock.sleep(0.001)
    host.inp(0x05, 2)
    host.sim.unplug()
    assert host.sim.die.content[:9] == bytes(8) + b"\xff"


def test_slow_pages() -> None:
    host = Host(faults=Faults(slow=0.25))
    times = host.sim.die.times
    drawn = [times.draw(W25Q128.page_program, page=True) for _ in range(1000)]
    slow = [time for time in drawn if time > 0.0024]
    assert 200 < len(slow) < 300
    assert set(drawn) - set(slow) == {0.0004}
    assert times.draw(W25Q128.erase_types[0].time) == 0.045


def test_access_faults() -> None:
    denied = SimulatedProgrammer(W25Q128, faults=Faults(access="denied"))
    with pytest.raises(usb.core.USBError) as caught:
        denied.device.set_configuration()
    assert caught.value.errno == errno.EACCES
    busy = SimulatedProgrammer(W25Q128, faults=Faults(access="busy"))
    busy.device.detach_kernel_driver(0)
    with pytest.raises(usb.core.USBError) as caught:
        busy.device.read(0x81, 512)
    assert caught.value.errno == errno.EBUSY


def test_fail_flag_over_the_wire() -> None:
    sim = SimulatedProgrammer(MX25L128, faults=Faults(fail=1), timing="datasheet")
    host = Host.__new__(Host)
    host.sim, host.device, host.clock = sim, sim.device, sim.clock
    host.device.detach_kernel_driver(0)
    host.out(0x0B, 0x0200)
    data = random.Random(1).randbytes(256)
    host.write(HIGH + LOW + wr(b"\x06") + HIGH + LOW + wr(b"\x02\x00\x00\x00" + data) + HIGH)
    host.clock.sleep(0.01)
    assert host.ask(LOW + wr(b"\x2b") + rd(1) + HIGH, 1) == b"\x20"
