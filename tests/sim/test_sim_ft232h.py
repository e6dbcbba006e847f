import errno
import random
import threading
import time

import pytest
import usb.core
import usb.util
from pyftdi.ftdi import Ftdi
from sim_chips import W25Q128, sfdp_table

from hwflash.errors import UsageError
from hwflash.sim.programmer import SimulatedProgrammer
from hwflash.sim.wiring import PinMap

LOW, HIGH = bytes((0x80, 0xF0, 0xFB)), bytes((0x80, 0xF8, 0xFB))


class Host:
    """Raw USB calls to an opened simulated FT232H in MPSSE mode."""

    def __init__(self, *, mpsse: bool = True, latency: int = 2, **options) -> None:
        self.sim = SimulatedProgrammer(W25Q128, timing="datasheet", **options)
        self.device = self.sim.device
        self.clock = self.sim.clock
        self.device.detach_kernel_driver(0)
        self.device.set_configuration()
        self.out(0x09, latency)
        if mpsse:
            self.out(0x0B, 0x0200)
            self.write(b"\x8a\x97\x8d\x85\x86\x00\x00" + HIGH + b"\x82\x00\x00")

    def out(self, request: int, value: int, index: int = 1) -> None:
        assert self.device.ctrl_transfer(0x40, request, value, index, b"", 1000) == 0

    def inp(self, request: int, length: int, index: int = 1) -> bytes:
        return bytes(self.device.ctrl_transfer(0xC0, request, 0, index, length, 1000))

    def write(self, data: bytes, timeout: int = 1000) -> None:
        assert self.device.write(0x02, data, timeout) == len(data)

    def packet(self, size: int = 512, timeout: int = 1000) -> bytes:
        """One bulk read, status bytes included."""
        return bytes(self.device.read(0x81, size, timeout))

    def read(self, length: int, size: int = 512) -> bytes:
        """Payload of as many bulk reads as it takes."""
        found = b""
        while len(found) < length:
            data = self.packet(size)
            found += b"".join(data[p + 2 : p + 512] for p in range(0, len(data), 512))
        assert len(found) == length
        return found

    def ask(self, data: bytes, length: int) -> bytes:
        self.write(data + b"\x87")
        return self.read(length)


def wr(data: bytes) -> bytes:
    return b"\x11" + (len(data) - 1).to_bytes(2, "little") + data


def rd(length: int, opcode: int = 0x20) -> bytes:
    return bytes((opcode,)) + (length - 1).to_bytes(2, "little")


@pytest.fixture
def host() -> Host:
    return Host()


# --- the device as USB sees it --------------------------------------------------------------


def test_descriptors() -> None:
    sim = SimulatedProgrammer(W25Q128, serial="HW0001")
    device = usb.core.find(backend=sim.backend, idVendor=0x0403, idProduct=0x6014)
    assert device == sim.device
    assert (device.bcdDevice, device.bcdUSB, device.speed) == (0x0900, 0x0200, 3)
    assert (device.manufacturer, device.serial_number) == ("FTDI", "HW0001")
    interface = device[0][(0, 0)]
    assert interface.bInterfaceClass == 0xFF
    ends = [(e.bEndpointAddress, e.bmAttributes, e.wMaxPacketSize) for e in interface]
    assert ends == [(0x81, 2, 512), (0x02, 2, 512)]
    raw = device.ctrl_transfer(0x80, 6, 0x0100, 0, 64)
    assert bytes(raw)[:14].hex() == "1201000200000040030414600009"
    raw = bytes(device.ctrl_transfer(0x80, 6, 0x0200, 0, 255))
    assert len(raw) == raw[2] == 32
    assert raw[18:].hex() == "07058102000200" + "07050202000200"
    assert bytes(device.ctrl_transfer(0x80, 8, 0, 0, 1)) == b"\x01"
    assert bytes(device.ctrl_transfer(0x80, 0, 0, 0, 2)) == b"\x00\x00"
    assert device.parent is None
    assert "0403:6014" in str(device)


def test_device_without_a_serial_number() -> None:
    device = SimulatedProgrammer(W25Q128).device
    assert device.iSerialNumber == 0
    assert device.serial_number is None
    assert device.product == "FT232H Simulated"


def test_every_programmer_is_a_device_of_its_own() -> None:
    first, second = SimulatedProgrammer(W25Q128), SimulatedProgrammer(W25Q128)
    places = {(sim.device.bus, sim.device.address) for sim in (first, second)}
    assert len(places) == 2
    assert list(usb.core.find(find_all=True, backend=first.backend)) == [first.device]


def test_vendor_requests(host: Host) -> None:
    assert host.inp(0x05, 2) == b"\x32\x60"
    assert host.inp(0x0A, 1) == b"\x02"
    host.out(0x09, 77)
    assert host.inp(0x0A, 1) == b"\x4d"
    assert host.inp(0x0C, 1)[0] & 0x08
    for request in (0x01, 0x02, 0x03, 0x04, 0x06, 0x07):
        host.out(request, 0x1234)
    assert host.inp(0x90, 2, index=5) == b"\xff\xff"
    host.out(0x91, 0xBEEF, index=5)
    assert host.inp(0x90, 2, index=5) == b"\xef\xbe"
    host.out(0x92, 0)
    assert host.inp(0x90, 2, index=5) == b"\xff\xff"
    for kind in (0x40, 0xC0):
        with pytest.raises(usb.core.USBError) as caught:
            host.device.ctrl_transfer(kind, 0x55, 0, 1, 1)
        assert caught.value.errno == errno.EPIPE


def test_claims_and_kernel_driver() -> None:
    sim = SimulatedProgrammer(W25Q128)
    device = sim.device
    assert device.is_kernel_driver_active(0)
    with pytest.raises(usb.core.USBError) as caught:
        device.write(0x02, b"\x00")
    assert caught.value.errno == errno.EBUSY
    device.detach_kernel_driver(0)
    with pytest.raises(usb.core.USBError):
        device.detach_kernel_driver(0)
    device.write(0x02, b"\x00")
    other = usb.core.find(backend=sim.backend)
    with pytest.raises(usb.core.USBError) as caught:
        other.read(0x81, 512)
    assert caught.value.errno == errno.EBUSY
    with pytest.raises(usb.core.USBError):
        device.attach_kernel_driver(0)
    usb.util.dispose_resources(device)
    assert bytes(other.read(0x81, 512)) == b"\x32\x60"
    other.set_interface_altsetting(0, 0)
    other.clear_halt(0x81)
    other.reset()
    other.attach_kernel_driver(0)
    assert other.is_kernel_driver_active(0)


def test_wrong_endpoint_is_refused(host: Host) -> None:
    backend, handle = host.sim.backend, host.device._ctx.handle
    with pytest.raises(usb.core.USBError) as caught:
        backend.bulk_write(handle, 0x04, 0, usb.util.create_buffer(1), 10)
    assert caught.value.errno == errno.ENOENT
    backend.release_interface(handle, 0)
    with pytest.raises(usb.core.USBError) as caught:
        backend.bulk_write(handle, 0x02, 0, usb.util.create_buffer(1), 10)
    assert caught.value.errno == errno.EIO


# --- packets, latency, time -------------------------------------------------------------------


def test_idle_device_answers_status_packets_each_latency_period(host: Host) -> None:
    host.packet()
    start = host.clock.now()
    assert [host.packet() for _ in range(5)] == [b"\x32\x60"] * 5
    assert host.clock.now() - start == pytest.approx(0.010)


def test_send_immediate_beats_the_latency_timer() -> None:
    host = Host(latency=255)
    start = host.clock.now()
    host.write(b"\xaa\x87")
    assert host.packet() == b"\x32\x60\xfa\xaa"
    assert host.clock.now() - start == pytest.approx(250e-6)
    start = host.clock.now()
    host.write(b"\xab")
    assert host.packet() == b"\x32\x60\xfa\xab"
    assert 0.250 < host.clock.now() - start <= 0.255


def test_read_shorter_than_the_latency_times_out() -> None:
    host = Host(latency=255)
    host.packet()
    start = host.clock.now()
    with pytest.raises(usb.core.USBTimeoutError) as caught:
        host.packet(timeout=100)
    assert caught.value.errno == errno.ETIMEDOUT
    assert host.clock.now() - start == pytest.approx(0.1)


def test_status_bytes_head_every_packet(host: Host) -> None:
    host.sim.die.content[:1024] = bytes(range(256)) * 4
    host.write(LOW + wr(b"\x03\x00\x00\x00") + rd(1024) + HIGH + b"\x87")
    data = host.packet(4096)
    assert len(data) == 1024 + 3 * 2
    assert (data[:2], data[512:514], data[1024:1026]) == (b"\x32\x60",) * 3
    assert data[2:512] + data[514:1024] + data[1026:] == bytes(range(256)) * 4


def test_small_request_overflows(host: Host) -> None:
    host.write(b"\xaa\x87")
    with pytest.raises(usb.core.USBError) as caught:
        host.packet(3)
    assert caught.value.errno == errno.EOVERFLOW


def test_stream_runs_at_wire_speed(host: Host) -> None:
    content = random.Random(5).randbytes(1 << 20)
    host.sim.die.content[: 1 << 20] = content
    host.write(LOW + wr(b"\x03\x00\x00\x00") + rd(65536) * 16 + HIGH + b"\x87")
    start = host.clock.now()
    assert host.read(1 << 20, size=16384) == content
    wire = (1 << 20) * 8 / 30e6
    assert wire * 0.98 < host.clock.now() - start < wire * 1.02
    assert host.sim.stats["usb_in"] < 80


def test_slow_stream_comes_in_short_packets(host: Host) -> None:
    host.write(b"\x86\xff\x0a")  # 60 MHz / 2 / 2816: 751 µs a byte
    start = host.clock.now()
    host.write(LOW + wr(b"\x9f") + rd(30) + HIGH)
    data = host.packet(512)
    assert 2 <= len(data) < 2 + 6
    host.read(30 - (len(data) - 2))
    assert host.clock.now() - start == pytest.approx(31 * 8 * 2816 / 30e6, rel=0.1)


def test_divisor_and_divide_by_five() -> None:
    host = Host()
    for setup, frequency in (
        (b"\x8a\x86\x00\x00", 30e6),
        (b"\x8b\x86\x00\x00", 6e6),
        (b"\x8a\x86\x02\x00", 10e6),
        (b"\x8a\x8c\x86\x00\x00", 20e6),
        (b"\x8d\x86\x2b\x01", 100e3),
    ):
        host.write(setup)
        host.ask(b"\xaa", 2)
        assert host.sim.die.sck_hz == pytest.approx(frequency)
        start = host.clock.now()
        host.ask(b"\x8f\xe7\x03\xaa", 2)
        assert host.clock.now() - start == pytest.approx(8000 / frequency, abs=2.1e-3)


def test_clock_is_6_mhz_after_a_reset() -> None:
    host = Host()
    host.out(0x0B, 0)
    host.out(0x0B, 0x0200)
    assert host.sim.die.sck_hz == 6e6


# --- FIFOs ------------------------------------------------------------------------------------


def test_batch_with_too_many_replies_stalls_and_times_out(host: Host) -> None:
    ask = LOW + wr(b"\x9f") + rd(3) + HIGH
    batch = ask * 1000
    start = host.clock.now()
    with pytest.raises(usb.core.USBTimeoutError):
        host.write(batch, timeout=500)
    assert host.clock.now() - start == pytest.approx(0.5)
    taken = b""
    while True:
        data = host.packet(512)
        if data == b"\x32\x60":
            break
        taken += data[2:]
    # 1 KiB of answers, and those of what the OUT FIFO held
    assert 1024 < len(taken) <= 1024 + 3 * (1024 // len(ask) + 1)
    assert taken == (b"\xef\x40\x18" * 1000)[: len(taken)]


def test_the_same_batch_passes_when_its_replies_fit(host: Host) -> None:
    ask = LOW + wr(b"\x9f") + rd(3) + HIGH
    host.write(ask * 341 + b"\x87", timeout=500)
    assert host.read(1023) == b"\xef\x40\x18" * 341


def test_a_second_thread_that_reads_keeps_a_long_batch_going(host: Host) -> None:
    ask = LOW + wr(b"\x9f") + rd(3) + HIGH
    host.packet()
    found = bytearray()

    def read() -> None:
        while len(found) < 30_000:
            found.extend(host.packet()[2:])

    reader = threading.Thread(target=read)
    reader.start()
    while host.sim.stats["usb_in"] < 3:
        time.sleep(0.001)
    host.write(ask * 10_000 + b"\x87", timeout=100_000_000)
    reader.join(20)
    assert bytes(found) == b"\xef\x40\x18" * 10_000


def test_endless_write_timeout_ends_in_virtual_time(host: Host) -> None:
    start = host.clock.now()
    with pytest.raises(usb.core.USBTimeoutError):
        host.write((LOW + wr(b"\x9f") + rd(100) + HIGH) * 200, timeout=0)
    assert host.clock.now() - start == pytest.approx(3600)


def test_full_in_fifo_stops_the_clock(host: Host) -> None:
    host.write(LOW + wr(b"\x03\x00\x00\x00") + rd(65536))
    host.clock.sleep(1)
    host.inp(0x05, 2)
    assert host.sim.stats["sck_bytes"] == 4 + 1024
    assert len(host.packet(1024)) == 1024
    host.clock.sleep(1)
    host.inp(0x05, 2)
    assert host.sim.stats["sck_bytes"] == 4 + 1024 + 1020


def test_write_returns_when_the_fifo_holds_the_rest(host: Host) -> None:
    start = host.clock.now()
    host.write(LOW + wr(bytes(10_000)))
    assert host.clock.now() - start == pytest.approx((10_000 - 1024) * 8 / 30e6, rel=0.01)
    start = host.clock.now()
    host.write(HIGH)
    assert host.clock.now() - start == pytest.approx(125e-6)


def test_commands_may_be_split_anywhere(host: Host) -> None:
    stream = (
        b"\xaa" + LOW + wr(b"\x9f") + rd(3) + HIGH + b"\x13\x02\xa0\x86\x01\x00\x8f\x01\x00\x81\x87"
    )
    whole = host.ask(stream, 6)
    for cut in range(1, len(stream)):
        other = Host()
        other.write(stream[:cut])
        other.clock.sleep(0.01)
        other.write(stream[cut:])
        assert other.read(6) == whole, cut


def test_purge_and_reset_requests(host: Host) -> None:
    host.write(b"\xaa\xab\xac")
    host.clock.sleep(0.1)
    host.out(0x00, 2)
    assert host.packet() == b"\x32\x60"
    host.write(b"\x11\x05\x00abc")  # three bytes are missing
    host.out(0x00, 1)
    host.write(b"def\xaa\x87")
    assert host.read(2) == b"\xfa\xaa"
    host.write(b"\xab")
    host.out(0x00, 0)
    assert host.packet() == b"\x32\x60"


def test_commands_in_flight_are_lost_by_a_bit_mode_reset(host: Host) -> None:
    host.write(b"\x8f\xff\xff" + LOW + wr(b"\x06") + HIGH)
    host.out(0x0B, 0)
    assert host.sim.die.wel is False
    assert not host.sim.die.selected


def test_nothing_is_executed_before_the_mpsse_mode() -> None:
    host = Host(mpsse=False)
    host.write(b"\xaa" + LOW + wr(b"\x06") + HIGH)
    assert host.packet() == b"\x32\x60"
    host.out(0x0B, 0x0200)
    assert host.packet() == b"\x32\x60"
    assert host.sim.die.wel is False


# --- opcodes ----------------------------------------------------------------------------------


def test_bad_commands_are_answered(host: Host) -> None:
    known = {0x10, 0x11, 0x12, 0x13, 0x18, 0x19, 0x1A, 0x1B, 0x20, 0x22, 0x24, 0x26, 0x28, 0x2A}
    known |= {0x2C, 0x2E, 0x31, 0x33, 0x34, 0x36, 0x39, 0x3B, 0x3C, 0x3E, *range(0x80, 0x90)}
    known |= {0x94, 0x95, 0x96, 0x97, 0x9C, 0x9D, 0x9E}
    for opcode in sorted(set(range(256)) - known):
        assert host.ask(bytes((opcode,)), 2) == bytes((0xFA, opcode))


def test_mode_0_opcodes_and_their_wrong_edges(host: Host) -> None:
    def ident(write: int, read: int) -> bytes:
        command = LOW + bytes((write, 0, 0, 0x9F)) + rd(3, read) + HIGH
        return host.ask(command, 3)

    assert ident(0x11, 0x20).hex() == "ef4018"
    assert ident(0x11, 0x24).hex() == "ef4018", "late sampling still meets the hold time"
    assert ident(0x10, 0x20) == b"\xff" * 3, "9Fh arrives as 4Fh"
    assert host.ask(LOW + b"\x31\x03\x00\x9f\x00\x00\x00" + HIGH, 4).hex() == "ffef4018"
    assert host.ask(LOW + b"\x34\x03\x00\x9f\x00\x00\x00" + HIGH, 4) == b"\xff" * 4


def test_writing_on_the_rising_edge_shifts_the_data(host: Host) -> None:
    host.ask(
        LOW + wr(b"\x06") + HIGH + LOW + wr(b"\x02\x00\x00\x00") + b"\x10\x01\x00\xf0\x0f" + HIGH, 0
    )
    assert host.sim.die.content[:2] == b"\x78\x07"


def test_reading_on_the_falling_edge_with_the_clock_idling_high_is_late(host: Host) -> None:
    low, high = bytes((0x80, 0xF1, 0xFB)), bytes((0x80, 0xF9, 0xFB))
    host.write(high)
    assert host.ask(low + wr(b"\x9f") + rd(3) + high, 3).hex() == "ef4018", "mode 3"
    assert host.ask(low + wr(b"\x9f") + rd(3, 0x24) + high, 3) == (
        (0x1EF4018 >> 1) & 0xFFFFFF
    ).to_bytes(3, "big")
    assert host.ask(low + wr(b"\x9f") + b"\x26\x07" + high, 1) == b"\xf7"


def test_bit_commands(host: Host) -> None:
    assert host.ask(LOW + b"\x13\x07\x9f" + b"\x22\x07\x22\x02" + HIGH, 2) == bytes(
        (0xEF, 0x40 >> 5)
    )
    assert host.ask(LOW + b"\x13\x03\x90\x13\x03\xf0" + rd(1) + HIGH, 1) == b"\xef"
    assert host.ask(LOW + b"\x33\x07\x9f\x33\x03\x00" + HIGH, 2) == b"\xff\x0e"
    assert host.ask(LOW + b"\x12\x07\x9f" + rd(1) + HIGH, 1) == b"\xff"


def test_lsb_first(host: Host) -> None:
    assert host.ask(LOW + b"\x19\x00\x00\xf9" + rd(3, 0x28) + HIGH, 3).hex() == "f70218"
    assert host.ask(LOW + b"\x1b\x07\xf9\x2a\x03" + HIGH, 1) == b"\x70"


def test_loopback(host: Host) -> None:
    assert host.ask(b"\x84\x31\x02\x00abc\x33\x02\xa0", 4) == b"abc\x05"
    assert host.ask(b"\x85\x31\x02\x00abc", 3) == b"\xff" * 3


def test_clocks_without_data(host: Host) -> None:
    host.ask(b"\x8f\x10\x00\x8e\x05" + LOW + wr(b"\x9f") + HIGH, 0)
    ident = LOW + wr(b"\x9f") + b"\x8f\x00\x00" + rd(2) + HIGH
    assert host.ask(ident, 2).hex() == "4018", "clocks with the chip selected are clocks"
    assert host.ask(LOW + wr(b"\x9f") + b"\x8e\x03" + rd(1) + HIGH, 1) == b"\xf4"
    start = host.clock.now()
    host.ask(b"\x8f\xff\xff\xaa", 2)
    assert host.clock.now() - start == pytest.approx(65536 * 8 / 30e6, rel=0.1)


def test_wait_for_a_pin(host: Host) -> None:
    assert host.ask(b"\x88\xaa\x94\xab\x9c\xff\xff\xac", 6) == b"\xfa\xaa\xfa\xab\xfa\xac"
    start = host.clock.now()
    assert host.ask(b"\x9d\xff\xff\xad", 2) == b"\xfa\xad"
    assert host.clock.now() - start > 0.017
    host.write(b"\x89\xae\x87")
    assert [host.packet() for _ in range(20)] == [b"\x32\x60"] * 20, "it waits for ever"
    host.out(0x0B, 0)
    host.out(0x0B, 0x0200)
    assert host.ask(b"\xaf", 2) == b"\xfa\xaf"


def test_adaptive_clock_without_a_return_clock_hangs(host: Host) -> None:
    host.write(b"\x96" + LOW + wr(b"\x9f") + rd(3) + HIGH + b"\x87")
    assert host.packet() == b"\x32\x60"
    host.out(0x0B, 0)
    host.out(0x0B, 0x0200)
    host.write(b"\x96\x97" + HIGH)
    assert host.ask(LOW + wr(b"\x9f") + rd(1) + HIGH, 1) == b"\xef"


# --- pins -------------------------------------------------------------------------------------


def test_pins_are_read_back(host: Host) -> None:
    assert host.ask(b"\x81", 1) == b"\xfc"
    assert host.ask(b"\x80\x50\xfb\x81", 1)[0] & 0xFB == 0x50
    assert host.ask(b"\x80\x08\x0b\x81", 1) == b"\xfc"
    assert host.ask(b"\x82\x05\x0f\x83", 1) == b"\xf5"
    assert host.ask(b"\x9e\x00\x00\x83", 1) == b"\xf5"


def test_chip_is_deaf_without_clock_or_data_output(host: Host) -> None:
    ident = wr(b"\x9f") + rd(3)
    assert host.ask(b"\x80\xf0\xfa" + ident + b"\x80\xf8\xfa", 3) == b"\xff" * 3, "SCK is an input"
    assert host.ask(b"\x80\xf0\xf9" + ident + b"\x80\xf8\xf9", 3) == b"\xff" * 3, "MOSI is one"
    assert host.ask(b"\x80\xf0\xf9\x13\x07\x9f\x22\x07" + HIGH, 1) == b"\xff"
    assert host.ask(b"\x80\xf0\xf3" + ident + HIGH, 3) == b"\xff" * 3, "CS# is one"
    assert host.ask(LOW + ident + HIGH, 3).hex() == "ef4018"


def test_clock_made_by_hand(host: Host) -> None:
    stream = LOW
    for place in range(7, -1, -1):
        bit = 0x9F >> place & 1
        stream += bytes((0x80, 0xF0 | bit << 1, 0xFB, 0x80, 0xF1 | bit << 1, 0xFB))
    stream += LOW
    for _ in range(8):
        stream += bytes((0x81, 0x80, 0xF1, 0xFB, 0x80, 0xF0, 0xFB))
    levels = host.ask(stream + HIGH, 8)
    assert "".join(str(level >> 2 & 1) for level in levels) == f"{0xEF:08b}"


def test_hold_pin(host: Host) -> None:
    hold = bytes((0x80, 0xD0, 0xFB))
    assert host.ask(LOW + wr(b"\x9f") + rd(1) + hold + rd(2) + LOW + rd(2) + HIGH, 5).hex() == (
        "efffff4018"
    )


def test_wp_pin_and_strap() -> None:
    for strap, drive, allowed in ((1, None, True), (0, None, False), (0, 1, True), (1, 0, False)):
        host = Host(wp=strap)
        host.sim.die.status.stored[1] = 0x80
        host.sim.die.restart()
        direction = 0x0B if drive is None else 0x1B
        level = 0x10 if drive else 0
        low, high = bytes((0x80, level, direction)), bytes((0x80, level | 8, direction))
        host.ask(high + low + wr(b"\x06") + high + low + wr(b"\x01\x00") + high, 0)
        assert host.sim.die.registers[1] == (0 if allowed else 0x80)


def test_power_and_reset_pins() -> None:
    host = Host(pins=PinMap(power="ACBUS0", reset="ACBUS1"))
    ident = LOW + wr(b"\x9f") + rd(3) + HIGH
    assert host.ask(ident, 3).hex() == "ef4018", "undriven pins leave the chip powered"
    host.ask(LOW + wr(b"\x06") + HIGH + b"\x82\x02\x03", 0)
    assert host.ask(ident, 3) == b"\xff" * 3
    assert host.sim.die.powered is False
    host.ask(b"\x82\x03\x03", 0)
    assert host.sim.die.wel is False
    host.clock.sleep(0.001)
    assert host.ask(ident, 3).hex() == "ef4018"
    host.ask(LOW + wr(b"\x06") + HIGH + b"\x82\x01\x03", 0)
    assert host.ask(ident, 3) == b"\xff" * 3
    assert host.ask(LOW + b"\x22\x07" + HIGH, 1) == b"\xff"
    host.ask(b"\x82\x03\x03", 0)
    host.clock.sleep(0.001)
    assert host.ask(ident, 3).hex() == "ef4018"
    assert host.sim.die.wel is False


def test_power_off_tears_a_running_program() -> None:
    host = Host(pins=PinMap(power="ACBUS0"))
    program = LOW + wr(b"\x02\x00\x00\x00" + bytes(256)) + HIGH
    host.ask(LOW + wr(b"\x06") + HIGH + program + b"\x82\x00\x01", 0)
    left = bytes(host.sim.die.content[:256])
    assert left not in (bytes(256), b"\xff" * 256)


def test_unknown_pin_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        SimulatedProgrammer(W25Q128, pins=PinMap(power="ADBUS1"))
    assert caught.value.code == "usage.pin"


# --- pyftdi -----------------------------------------------------------------------------------


def test_pyftdi_opens_several_and_reads_each_its_own() -> None:
    sims = [SimulatedProgrammer(W25Q128, sfdp=sfdp_table(n)) for n in ("W25Q128JV", "W25Q16JV")]
    ports = []
    for sim in sims:
        ftdi = Ftdi()
        assert ftdi.open_mpsse_from_device(sim.device, frequency=30e6, latency=2) == 30e6
        assert ftdi.ic_name == "ft232h"
        ports.append(ftdi)
    for ftdi, name in zip(ports, ("W25Q128JV", "W25Q16JV"), strict=True):
        ftdi.write_data(HIGH + LOW + wr(b"\x5a\x00\x00\x00\x00") + rd(96) + HIGH + b"\x87")
        assert ftdi.read_data_bytes(96, 4) == sfdp_table(name)[:96]
        ftdi.close()
    assert sims[0].device.is_kernel_driver_active(0)


def test_pyftdi_large_chunks() -> None:
    sim = SimulatedProgrammer(W25Q128)
    content = random.Random(2).randbytes(200_000)
    sim.die.content[: len(content)] = content
    ftdi = Ftdi()
    ftdi.open_mpsse_from_device(sim.device, frequency=30e6, latency=2, direction=0xFB, initial=0xF8)
    ftdi.write_data_set_chunksize(65536)
    ftdi.read_data_set_chunksize(16384)
    before = sim.stats["usb_in"]
    ftdi.write_data(LOW + wr(b"\x03\x00\x00\x00") + rd(65536) * 3 + rd(3392) + HIGH + b"\x87")
    assert ftdi.read_data_bytes(200_000, 4) == content
    assert sim.stats["usb_in"] - before == 13
    ftdi.close()


def test_pyftdi_gets_the_error_of_a_lost_device() -> None:
    sim = SimulatedProgrammer(W25Q128)
    ftdi = Ftdi()
    ftdi.open_from_device(sim.device)
    assert ftdi.get_latency_timer() == 1
    sim.unplug()
    with pytest.raises(OSError, match="No such device"):
        ftdi.get_latency_timer()
