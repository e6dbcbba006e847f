import errno
from types import SimpleNamespace

import pytest
import usb.core
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import DieBus, Rig, RigFactory, examples, pattern, small_chip

from hwflash.bus import ftdi as module
from hwflash.bus.discovery import find_all
from hwflash.bus.ftdi import Ft232hBus
from hwflash.bus.mpsse import SEND_IMMEDIATE, Compiler, Round
from hwflash.bus.pins import PinUse, pin_mask
from hwflash.bus.spi import RealClock, Transfer, Wait
from hwflash.bus.usb_faults import usb_error
from hwflash.errors import (
    HwflashError,
    ProgrammerAbsent,
    ProgrammerBusy,
    ProgrammerError,
    ProgrammerInaccessible,
    ProgrammerLost,
    UsageError,
)
from hwflash.sim.programmer import SimulatedProgrammer
from hwflash.sim.wiring import PinMap
from hwflash.units import KIB, MIB

ID = Transfer(b"\x9f", 3)


def address(place: int) -> bytes:
    return place.to_bytes(3, "big")


# --- any batch, against the die itself --------------------------------------------------------

PIECES = st.one_of(
    st.builds(lambda a, n: [Transfer(b"\x03" + address(a), n)], st.integers(0, 0x1FFFF),
              st.integers(0, 3000)),
    st.builds(lambda n: [Transfer(b"\x9f", n)], st.integers(0, 20)),
    st.builds(lambda a, d: [Transfer(b"\x06"), Transfer(b"\x02" + address(a) + d), Wait(0.001)],
              st.integers(0, 0x1FFFF), st.binary(min_size=1, max_size=300)),
    st.builds(lambda a: [Transfer(b"\x06"), Transfer(b"\x20" + address(a)), Wait(0.5)],
              st.integers(0, 0x1FFFF)),
    st.builds(lambda d, n: [Transfer(d, n)], st.sampled_from([b"", b"\x04", b"\xee\x11"]),
              st.integers(0, 5)),
    st.builds(lambda s: [Wait(s)], st.sampled_from([0.0, 1e-6, 0.019, 0.021])),
    st.just([Transfer(b"\x06"), Transfer(b"\x05", 2), Transfer(b"\x04"), Transfer(b"\x05", 1)]),
)  # fmt: skip


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(PIECES, max_size=25),
    st.sampled_from([30e6, 1e6, 100e3]),
    st.booleans(),
    st.integers(1, 4),
)
def test_any_batch_answers_as_the_die_does(pieces, frequency, timer, split) -> None:
    ops = [op for piece in pieces for op in piece]
    chip, memory = small_chip(), pattern(128 * KIB)
    oracle = DieBus(chip, content=bytearray(memory))
    rig = Rig(chip, flash=False, bus={"frequency": frequency, "timer_waits": timer})
    try:
        rig.content[:] = memory
        found = []
        for start in range(split):  # the cut between two batches must not matter
            part = slice(start * len(ops) // split, (start + 1) * len(ops) // split)
            found += rig.bus.execute(ops[part])
        assert found == oracle.execute(ops)
        assert rig.content == oracle.die.content
        assert rig.bus.stats.sck_bytes == sum(
            len(op.write) + op.read for op in ops if isinstance(op, Transfer)
        )
        assert rig.sim.stats["sck_bytes"] == rig.bus.stats.sck_bytes
    finally:
        rig.close()


def test_lengths_of_nothing(rig: RigFactory) -> None:
    bus = rig().bus
    assert bus.execute([]) == []
    before = bus.stats.usb_out
    assert bus.execute([Wait(0), Wait(-5)]) == [b"", b""]
    assert bus.stats.usb_out == before, "nothing to say"
    assert bus.execute([Transfer(b""), Transfer(b"", 2), ID]) == [
        b"", b"\xff\xff", b"\xef\x40\x11",
    ]  # fmt: skip


@pytest.mark.parametrize("length", [899, 900, 901, 1020, 65536, 65537, 300 * KIB + 1, 1, 509, 511])
def test_odd_lengths_around_every_limit(rig: RigFactory, length: int) -> None:
    chip = small_chip(512 * KIB)
    bench = rig(chip, flash=False)
    memory = pattern(512 * KIB)
    bench.content[:] = memory
    read = Transfer(b"\x03\x00\x00\x07", length)
    assert bench.bus.execute([read, ID, read]) == [
        memory[7 : 7 + length], b"\xef\x40\x11", memory[7 : 7 + length],
    ]  # fmt: skip


@pytest.mark.parametrize("size", [16 * MIB, 32 * MIB + 12_345])
def test_long_streams_are_whole_and_as_fast_as_the_wire(rig: RigFactory, size: int) -> None:
    bench = rig(small_chip(4 * MIB), flash=False)
    memory = pattern(4 * MIB)
    bench.content[:] = memory
    start = bench.sim.clock.now()
    (data,) = bench.bus.execute([Transfer(b"\x03\x00\x00\x00", size)])
    assert bench.sim.clock.now() - start <= 1.10 * size * 8 / 30e6
    assert len(data) == size
    whole = size // len(memory)
    assert data == memory * whole + memory[: size % len(memory)]


def test_a_write_beyond_64_kib_in_one_window(rig: RigFactory) -> None:
    # 128 KiB into one page buffer: the last 256 bytes count (W25Q128JV Rev. F §8.2.17).
    bench = rig(flash=False)
    data = pattern(130_000)
    bench.bus.execute([Transfer(b"\x06"), Transfer(b"\x02\x00\x01\x00" + data), Wait(0.01)])
    place = len(data) % 256
    last = data[-256:]
    assert bench.content[256:512] == last[256 - place :] + last[: 256 - place]


def test_waits_really_pass_between_two_windows(rig: RigFactory) -> None:
    """At 20 kHz one page program takes 0.1 s on the wire; the wait begins after it."""
    for options in ({"timer_waits": True}, {}):
        bench = rig(flash=False, bus={"frequency": 20e3, **options})
        page = Transfer(b"\x02\x00\x00\x00" + bytes(256))
        status = Transfer(b"\x05", 1)
        for seconds in (0.0004, 0.05):
            answers = bench.bus.execute([Transfer(b"\x06"), page, Wait(seconds), status])
            assert answers[-1] == b"\x00", "the program time of 0.4 ms is over"


@pytest.mark.slow
@pytest.mark.parametrize("latency", [1, 16, 255])
@pytest.mark.parametrize("frequency", [1e3, 20e3, 100e3, 260e3, 5e6])
def test_slow_clocks_do_not_count_as_lost(rig: RigFactory, frequency: float, latency: int) -> None:
    bench = rig(flash=False, bus={"frequency": frequency, "latency": latency})
    memory = pattern(128 * KIB)
    bench.content[:] = memory
    for size in (5, 900, 2000) if frequency < 20e3 else (2000, 70_000):
        (data,) = bench.bus.execute([Transfer(b"\x03\x00\x00\x00", size)])
        assert data == memory[:size]


def test_frequency_is_what_the_divisor_gives(rig: RigFactory) -> None:
    bench = rig(flash=False, bus={"frequency": 29e6})
    assert bench.bus.frequency == 15e6
    bench.bus.set_frequency(7e6)
    assert bench.bus.frequency == 6e6
    assert bench.bus.execute([ID]) == [b"\xef\x40\x11"]
    assert bench.sim.die.sck_hz == 6e6
    with pytest.raises(UsageError):
        bench.bus.set_frequency(100)
    assert bench.bus.execute([ID]) == [b"\xef\x40\x11"]


def test_stats_count_what_the_usb_carried(rig: RigFactory) -> None:
    bench = rig(flash=False)
    usb, start = bench.sim.stats, bench.bus.stats.as_dict()
    bench.bus.execute([ID, Transfer(b"\x03\0\0\0", 100_000), Transfer(b"\x02" + bytes(70_000))])
    moved = {key: bench.bus.stats.as_dict()[key] - value for key, value in start.items()}
    for key in ("usb_out", "usb_in", "bytes_out", "bytes_in"):
        assert moved[key] == bench.sim.stats[key] - usb[key], key
    assert moved["sck_bytes"] == 4 + 4 + 100_000 + 70_001


# --- opening and closing ----------------------------------------------------------------------


def wires(sim: SimulatedProgrammer):
    return sim.backend.chip.engine.shifter.wires


def test_open_drives_the_pins_and_close_lets_go(rig: RigFactory) -> None:
    pins = PinUse(reset="ACBUS1", power="ACBUS0")
    bench = rig(
        flash=False, bus={"pins": pins}, pins=PinMap(reset="ACBUS1", power="ACBUS0"),
    )  # fmt: skip
    line = wires(bench.sim)
    assert line._driven == 0x033B, "SCK MOSI CS WP# HOLD# power reset"
    assert line._level & 0x0338 == 0x0138, "CS, WP#, HOLD# and power high, reset low"
    assert bench.sim.die.powered
    bench.bus.close()
    assert line._driven == 0, "every pin is an input"
    assert line._level == 0xFFFF
    assert bench.sim.backend.chip.bit_mode == 0
    assert not bench.sim.die.selected
    bench.bus.close()  # twice does no harm
    with pytest.raises(ProgrammerLost):
        bench.bus.execute([ID])
    bench.open()
    assert line._driven == 0x033B


def test_close_in_the_middle_of_nothing_deselects_first(rig: RigFactory) -> None:
    bench = rig(flash=False)
    edges = []
    line = wires(bench.sim)
    drive = line.drive
    line.drive = lambda value, direction: (
        edges.append((value, direction)),
        drive(value, direction),
    )
    bench.bus.close()
    assert edges[0] == (0x38, 0x3B), "CS high while the pins are still driven"
    assert edges[-1] == (0, 0)


def test_the_device_can_be_opened_again_and_again(rig: RigFactory) -> None:
    bench = rig(flash=False)
    for _ in range(3):
        assert bench.bus.execute([ID]) == [b"\xef\x40\x11"]
        bench.bus.close()
        bench.open()


def test_two_programmers_in_one_process(rig: RigFactory) -> None:
    one, other = rig(flash=False), rig(small_chip(jedec_id=b"\xc2\x20\x11"), flash=False)
    for _ in range(3):
        assert one.bus.execute([ID]) == [b"\xef\x40\x11"]
        assert other.bus.execute([ID]) == [b"\xc2\x20\x11"]
    one.bus.close()
    assert other.bus.execute([ID]) == [b"\xc2\x20\x11"]


def test_a_former_user_left_answers_behind(rig: RigFactory) -> None:
    bench = rig(flash=False)
    bench.bus._ftdi.write_data(b"\xab" * 100 + bytes((SEND_IMMEDIATE,)))
    bench.bus._ftdi.close()
    bench.open()
    assert bench.bus.execute([ID]) == [b"\xef\x40\x11"]


def test_the_clock_is_real_unless_told_otherwise() -> None:
    clock = RealClock()
    start = clock.now()
    clock.sleep(0.002)
    clock.sleep(-1)
    assert 0.002 <= clock.now() - start < 1
    sim = SimulatedProgrammer(small_chip())
    bus = Ft232hBus(sim.device)
    assert isinstance(bus.clock, RealClock)
    bus.close()
    sim.close()


# --- who is to blame ---------------------------------------------------------------------------


def open_with(change) -> HwflashError:
    sim = SimulatedProgrammer(small_chip())
    change(sim)
    with pytest.raises(HwflashError) as caught:
        Ft232hBus(sim.device, clock=sim.clock, name="the device")
    assert sim.backend._owner is None, "nothing is left claimed"
    return caught.value


def failing(number: int):
    def fail(*_: object, **__: object) -> None:
        raise usb.core.USBError("no", -1, number)

    return fail


@pytest.mark.parametrize("call", ["open_device", "claim_interface"])
@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.EACCES, ProgrammerInaccessible, "programmer.inaccessible"),
        (errno.EPERM, ProgrammerInaccessible, "programmer.inaccessible"),
        (errno.EBUSY, ProgrammerBusy, "programmer.busy"),
        (errno.ENODEV, ProgrammerAbsent, "programmer.absent"),
        (errno.ENOENT, ProgrammerAbsent, "programmer.absent"),
    ],
)
def test_absent_inaccessible_and_busy_are_three_things(call, number, kind, code) -> None:
    error = open_with(lambda sim: setattr(sim.backend, call, failing(number)))
    assert (type(error), error.code, error.exit_code) == (kind, code, 3)
    assert error.context == {"device": "the device", "errno": errno.errorcode[number]}
    assert "the device" in error.message


@pytest.mark.parametrize(("fault", "kind"), [
    ("access=denied", ProgrammerInaccessible), ("access=busy", ProgrammerBusy),
])  # fmt: skip
def test_simulated_access(fault: str, kind: type) -> None:
    with pytest.raises(kind):
        Rig(faults=fault)


def test_a_kernel_driver_that_does_not_go_away_is_busy() -> None:
    error = open_with(lambda sim: setattr(sim.backend, "detach_kernel_driver", failing(16)))
    assert error.code == "programmer.busy"
    error = open_with(lambda sim: setattr(sim.backend, "detach_kernel_driver", failing(13)))
    assert error.code == "programmer.inaccessible"


def test_systems_without_kernel_drivers() -> None:
    def unknown(*_: object) -> bool:
        raise NotImplementedError

    sim = SimulatedProgrammer(small_chip())
    sim.backend.kernel_driver = False
    sim.backend.is_kernel_driver_active = unknown
    bus = Ft232hBus(sim.device, clock=sim.clock)
    assert bus.execute([ID]) == [b"\xef\x40\x11"]
    bus.close()
    sim.close()


def test_a_device_that_is_no_ft232h() -> None:
    def other_device(sim: SimulatedProgrammer) -> None:
        describe = sim.backend.get_device_descriptor

        def older(dev: object) -> SimpleNamespace:
            return SimpleNamespace(**{**vars(describe(dev)), "bcdDevice": 0x0600})

        sim.backend.get_device_descriptor = older  # an FT232R has no MPSSE
        sim.device = usb.core.Device(sim.backend, sim.backend)

    error = open_with(other_device)
    assert (type(error), error.code) == (ProgrammerError, "programmer.sync")


def test_an_interface_without_bulk_in() -> None:
    def no_endpoints(sim: SimulatedProgrammer) -> None:
        describe = sim.backend.get_endpoint_descriptor

        def out_only(*place: object) -> SimpleNamespace:
            return SimpleNamespace(**{**vars(describe(*place)), "bEndpointAddress": 2})

        sim.backend.get_endpoint_descriptor = out_only

    error = open_with(no_endpoints)
    assert (type(error), error.code) == (ProgrammerError, "programmer.sync")


def test_an_engine_that_does_not_run_is_found_at_open() -> None:
    def mute(sim: SimulatedProgrammer) -> None:
        sim.backend.chip._set_bit_mode = lambda mode: None

    error = open_with(mute)
    assert error.code in ("programmer.sync", "programmer.short-read")
    assert error.exit_code == 3


def test_an_engine_that_echoes_something_else() -> None:
    def twisted(sim: SimulatedProgrammer) -> None:
        engine = sim.backend.chip.engine
        engine._table[0xAA] = (1, lambda *_: engine._push(b"\xfa\xab", 0.0))

    error = open_with(twisted)
    assert error.code == "programmer.sync"
    assert error.context["found"] == "faab"


@pytest.mark.parametrize(
    ("number", "opening", "kind", "code"),
    [
        (errno.ETIMEDOUT, False, ProgrammerLost, "programmer.timeout"),
        (errno.EIO, False, ProgrammerLost, "programmer.lost"),
        (errno.EIO, True, ProgrammerAbsent, "programmer.absent"),
        (None, False, ProgrammerLost, "programmer.lost"),
    ],
)
def test_what_libusb_means(number, opening, kind, code) -> None:
    error = usb_error(usb.core.USBError("x", -1, number), "it", opening=opening)
    assert (type(error), error.code) == (kind, code)
    try:
        try:
            raise usb.core.USBError("x", -1, number)
        except usb.core.USBError as cause:
            raise RuntimeError("wrapped") from cause
    except RuntimeError as wrapped:
        error = usb_error(wrapped, "it", opening=opening)
    assert error.code == code


# --- trouble on the way ------------------------------------------------------------------------


def test_the_cable_is_pulled_at_every_transfer_of_opening() -> None:
    """Control transfers included; never anything but a programmer error, never a claim left."""
    opened, seen = 0, set()
    for limit in range(1, 200):
        try:
            bench = Rig(faults=f"disconnect={limit}", flash=False)
        except ProgrammerError as error:
            seen.add((error.code, error.exit_code))
            continue
        opened += 1
        with pytest.raises(ProgrammerLost) as caught:
            forever(bench)
        with pytest.raises(ProgrammerLost) as again:
            bench.bus.execute([ID])
        assert again.value is caught.value, "it stays broken"
        bench.bus.close()
        if opened == 4:
            break
    assert opened == 4
    assert limit > 20
    assert seen == {("programmer.absent", 3), ("programmer.lost", 3)}


def forever(bench: Rig) -> None:
    while True:
        bench.bus.execute([ID])


def test_the_cable_is_pulled_before_close(rig: RigFactory) -> None:
    bench = rig(flash=False)
    bench.sim.unplug()
    bench.bus.close()
    bench.bus.close()
    bench.sim.plug()
    bench.open()
    assert bench.bus.execute([ID]) == [b"\xef\x40\x11"]


def test_the_cable_is_pulled_before_the_frequency_changes(rig: RigFactory) -> None:
    bench = rig(flash=False)
    bench.sim.unplug()
    with pytest.raises(ProgrammerLost):
        bench.bus.set_frequency(1e6)


def edited(bench: Rig, edit) -> None:
    """Change what bulk IN transfers bring."""
    read = bench.sim.backend.chip.read
    bench.sim.backend.chip.read = lambda size, timeout: edit(read(size, timeout), size)


def test_short_answers_end_as_lost_within_a_time_limit(rig: RigFactory) -> None:
    bench = rig(flash=False)
    edited(bench, lambda data, size: data[:3] if len(data) > 3 else data)
    start = bench.sim.clock.now()
    with pytest.raises(ProgrammerLost) as caught:
        bench.bus.execute([ID])
    assert caught.value.code == "programmer.short-read"
    assert bench.sim.clock.now() - start < 2 * module.PATIENCE + 1


def test_surplus_bytes_mean_out_of_step(rig: RigFactory) -> None:
    for size in (3, 2000):
        bench = rig(flash=False)
        edited(bench, lambda data, size: data + b"\x99" if len(data) not in (2, 512) else data)
        with pytest.raises(ProgrammerLost) as caught:
            bench.bus.execute([Transfer(b"\x9f", size)])
        assert caught.value.code == "programmer.out-of-step"
        assert caught.value.context["expected"] == size
        assert caught.value.context["found"] > size


def test_status_only_packets_in_between_are_passed_over(rig: RigFactory) -> None:
    bench = rig(flash=False)
    memory = pattern(128 * KIB)
    bench.content[:] = memory
    read, turn = bench.sim.backend.chip.read, [0]

    def sparse(size: int, timeout: float) -> bytes:
        turn[0] += 1
        return b"\x32\x60" if turn[0] % 3 else read(size, timeout)

    bench.sim.backend.chip.read = sparse
    assert bench.bus.execute([ID, Transfer(b"\x03\0\0\0", 100_000)]) == [
        b"\xef\x40\x11", memory[:100_000],
    ]  # fmt: skip


def test_packets_cut_anywhere_add_up(rig: RigFactory) -> None:
    """A device may send short packets at any time: one packet a transfer, of odd sizes."""
    bench = rig(flash=False)
    memory = pattern(128 * KIB)
    bench.content[:] = memory
    engine, read, turn = bench.sim.backend.chip.engine, bench.sim.backend.chip.read, [0]

    def choppy(size: int, timeout: float) -> bytes:
        turn[0] += 1
        count = min(turn[0] * 37 % 511, len(engine.inbox))
        if count:
            return b"\x32\x60" + engine.take(count, bench.sim.clock.now())
        return read(512, timeout)

    bench.sim.backend.chip.read = choppy
    (data,) = bench.bus.execute([Transfer(b"\x03\0\0\0", 50_001)])
    assert data == memory[:50_001]


def test_a_batch_that_overfills_the_fifo_hangs_and_ours_never_does(
    rig: RigFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = [Transfer(b"\x03\0\0\0", 300), Transfer(b"\x02" + bytes(300))] * 20
    assert len(rig(flash=False).bus.execute(reads)) == 40

    def careless(self: Compiler, ops):
        stream = b"".join(self._transfer(op) for op in ops)
        yield Round(stream, sum(op.read for op in ops), 0.001)

    monkeypatch.setattr(Compiler, "compile", careless)
    bench = rig(flash=False)
    with pytest.raises(ProgrammerLost) as caught:
        bench.bus.execute(reads)
    assert caught.value.code == "programmer.timeout"


# --- pins --------------------------------------------------------------------------------------


def test_pin_masks() -> None:
    assert [pin_mask(name) for name in ("ADBUS0", "adbus7", "ACBUS0", "ACBUS7")] == [
        1, 0x80, 0x100, 0x8000,
    ]  # fmt: skip
    for name in ("", "ADBUS", "ADBUS8", "BDBUS1", "7", "ACBUS12", "ADBUS-1"):
        with pytest.raises(UsageError) as caught:
            pin_mask(name)
        assert caught.value.code == "usage.pin"


def test_pins_of_a_wiring() -> None:
    plain = PinUse().pins()
    assert (plain.value, plain.direction, plain.cs) == (0x38, 0x3B, 0x08)
    full = PinUse(cs=2, wp="ACBUS7", hold=None, reset="ADBUS3", power="ADBUS7").pins()
    assert (full.value, full.direction, full.cs) == (0x80A0, 0x80AB, 0x20)
    assert full.select.hex() == "8080ab"


@pytest.mark.parametrize(
    "use",
    [
        PinUse(cs=5), PinUse(cs=-1), PinUse(wp="ADBUS0"), PinUse(wp="ADBUS2"),
        PinUse(wp="ADBUS3"), PinUse(wp="ADBUS5"), PinUse(cs=1), PinUse(reset="ACBUS0",
        power="ACBUS0"), PinUse(power="VCC"),
    ],
)  # fmt: skip
def test_pins_with_two_uses_are_refused(use: PinUse) -> None:
    with pytest.raises(UsageError) as caught:
        use.pins()
    assert caught.value.code == "usage.pin"


def test_another_chip_select_reaches_no_chip(rig: RigFactory) -> None:
    bench = rig(flash=False, bus={"pins": PinUse(cs=4, wp=None, hold=None)})
    assert bench.bus.execute([ID]) == [b"\xff\xff\xff"]
    assert find_all(bench.sim.backend)[0].device == bench.sim.device


def test_a_slow_request_is_given_the_time_the_wire_needs(rig: RigFactory) -> None:
    """64 KiB at 50 kHz are 10.5 s: libusb must not give up after the usual two."""
    bench = rig(flash=False, bus={"frequency": 50e3, "latency": 255})
    read, asked = bench.sim.backend.chip.read, []

    def timed(size: int, timeout: float) -> bytes:
        asked.append((size, timeout))
        return read(size, timeout)

    bench.sim.backend.chip.read = timed
    bench.bus.execute([Transfer(b"\x03\0\0\0", 65536)])
    assert max(size for size, _ in asked) >= 65536
    for size, timeout in asked:
        assert timeout > size * 8 / 50e3
