"""USB/IP: bytes against the protocol's document, transfers in time, bad input."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import examples, small_chip
from usbip_client import request, setup, submit, unlink

from hwflash.sim import usbip_wire as wire
from hwflash.sim.faults import Faults
from hwflash.sim.programmer import SimulatedProgrammer
from hwflash.sim.urbs import MAX_URBS
from hwflash.sim.usbip import Connection, Export

IMPORT = request(0x8003, "1-1")
PATH = b"/sys/devices/platform/hwflash/usb1/1-1"
DEVICE = (
    PATH.ljust(256, b"\0")
    + b"1-1".ljust(32, b"\0")
    + bytes.fromhex("00000001 00000002 00000003")  # bus, device, high speed
    + bytes.fromhex("0403 6014 0900")
    + bytes.fromhex("00 00 00 01 01 01")
)
LOW, HIGH = bytes((0x80, 0xF0, 0xFB)), bytes((0x80, 0xF8, 0xFB))
IDLE = b"\x32\x60"


def words(text: str) -> bytes:
    return bytes.fromhex(text)


class Real:
    """Real time, as far as a test lets it pass."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Wire:
    """A connection without a socket."""

    def __init__(self, *, imported: bool = True, mpsse: bool = False, **options: object) -> None:
        self.real = Real()
        self.sim = SimulatedProgrammer(small_chip(), timing="datasheet", **options)
        self.export = Export(self.sim, self.real)
        self.connection = Connection(self.export)
        self._seqnum = 100
        if imported:
            assert self.send(IMPORT) == words("0111 0003 00000000") + DEVICE
        if mpsse:
            self.vendor(0x09, 2)
            self.vendor(0x0B, 0x0200)
            self.write(b"\x8a\x97\x8d\x85\x86\x00\x00" + HIGH)

    def send(self, data: bytes) -> bytes:
        self.connection.feed(data)
        return self.taken()

    def taken(self) -> bytes:
        found = bytes(self.connection.out)
        self.connection.out.clear()
        return found

    def wait(self, seconds: float) -> bytes:
        """Let real time pass as a server does: it looks whenever something is due."""
        end = self.real.seconds + seconds
        while True:
            delay = self.connection.delay()
            if delay is None or self.real.seconds + delay > end:
                break
            self.real.seconds += delay
            self.connection.advance()
        self.real.seconds = end
        self.connection.advance()
        return self.taken()

    def number(self) -> int:
        self._seqnum += 1
        return self._seqnum

    def vendor(self, code: int, value: int) -> None:
        number = self.number()
        answer = self.send(submit(number, 0, b"", setup=setup(0x40, code, value, 1)))
        assert replies(answer) == [(3, number, 0, 0, b"")]

    def write(self, data: bytes) -> None:
        number = self.number()
        assert replies(self.send(submit(number, 2, data))) == [(3, number, 0, len(data), b"")]

    def ask(self, data: bytes, size: int = 512) -> bytes:
        """Commands, and the payload of one transfer, which must come at once."""
        self.write(data)
        number = self.number()
        ((_, found, status, _, answer),) = replies(self.send(submit(number, 1, size)))
        assert (found, status) == (number, 0)
        return b"".join(answer[at + 2 : at + 512] for at in range(0, len(answer), 512))


def replies(data: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """(command, seqnum, status, actual length, data); answers here are IN data or nothing."""
    found = []
    while data:
        command, seqnum, *zeros, status, actual = struct.unpack_from(">5Iii", data)
        assert zeros == [0, 0, 0]
        tail = data[28:48]
        assert tail in (bytes(20), bytes(4) + b"\xff" * 4 + bytes(12))
        data = data[48:]
        payload = b""
        if actual and data[:2] == IDLE:  # every IN transfer of this device begins so
            payload, data = data[:actual], data[actual:]
        found.append((command, seqnum, status, actual, payload))
    return found


def wr(data: bytes) -> bytes:
    return b"\x11" + struct.pack("<H", len(data) - 1) + data


def rd(length: int) -> bytes:
    return b"\x20" + struct.pack("<H", length - 1)


def spi(data: bytes, read: int = 0) -> bytes:
    return LOW + wr(data) + (rd(read) if read else b"") + HIGH


# --- golden exchanges -------------------------------------------------------------------------


def test_samples_of_the_protocols_document() -> None:
    # Ref: Linux, Documentation/usb/usbip_protocol.rst, "EXAMPLE".
    incoming = words(
        "00000001 00000d05 0001000f 00000001 00000001 00000200 00000040 ffffffff 00000000"
        "00000004 00000000 00000000"
    )
    assert wire.message_length(incoming, 0x1000F) == 48
    urb = wire.message(incoming)
    assert urb == wire.Urb(0xD05, 1, True, 64, start_frame=-1)
    answer = words("ffffffff860011a784ce5ae2123763612891b1020100000400000000") + bytes(36)
    assert wire.submitted(urb, 0, 64, answer) == answer_head(0xD05) + answer

    payload = words("ffffffff860008a784ce5ae21237630000") + bytes(47)
    outgoing = words(
        "00000001 00000d06 0001000f 00000000 00000001 00000000 00000040 ffffffff 00000000"
        "00000004 00000000 00000000"
    )
    assert wire.message_length(outgoing, 0x1000F) == 48 + 64
    urb = wire.message(outgoing + payload)
    assert urb == wire.Urb(0xD06, 1, False, 64, data=payload, start_frame=-1)
    assert wire.submitted(urb, 0, 64) == answer_head(0xD06)


def answer_head(seqnum: int) -> bytes:
    return words(
        f"00000003 {seqnum:08x} 00000000 00000000 00000000 00000000 00000040 ffffffff 00000000"
        "00000000 00000000 00000000"
    )


def test_list() -> None:
    link = Wire(imported=False)
    answer = link.send(words("0111 8005 00000000"))
    assert answer == words("0111 0005 00000000 00000001") + DEVICE + words("ff ff ff 00")
    assert len(answer) == 12 + 312 + 4
    assert link.connection.ended
    assert not link.connection.wrong


def test_list_without_a_device() -> None:
    link = Wire(imported=False)
    link.sim.unplug()
    assert link.send(words("0111 8005 00000000")) == words("0111 0005 00000000 00000000")


def test_import() -> None:
    link = Wire(imported=False)
    answer = link.send(words("0111 8003 00000000") + b"1-1".ljust(32, b"\0"))
    assert answer == words("0111 0003 00000000") + DEVICE
    assert link.connection.imported
    assert not link.connection.ended


@pytest.mark.parametrize("busid", ["1-2", "", "1-1.1", "\x7f" * 32])
def test_import_of_another_device(busid: str) -> None:
    link = Wire(imported=False)
    assert link.send(request(0x8003, busid)) == words("0111 0003 00000004")
    assert link.connection.ended
    assert link.export.served.refused == 1


def test_import_of_a_device_in_use() -> None:
    link = Wire()
    second = Connection(link.export)
    second.feed(IMPORT)
    assert second.out == words("0111 0003 00000002")
    assert second.ended
    second.close()
    assert link.connection.imported
    link.connection.close()
    third = Connection(link.export)
    third.feed(IMPORT)
    assert third.imported
    assert (link.export.served.imports, link.export.served.refused) == (2, 1)


@pytest.mark.parametrize(("access", "status"), [("denied", 1), ("busy", 2)])
def test_import_of_a_device_that_cannot_be_opened(access: str, status: int) -> None:
    link = Wire(imported=False, faults=Faults(access=access))
    assert link.send(IMPORT) == words(f"0111 0003 {status:08x}")
    assert not link.connection.imported


def test_other_version() -> None:
    link = Wire(imported=False)
    assert link.send(words("0106 8003 00000000")) == words("0111 0003 00000005")
    assert link.connection.ended
    assert "0106" in link.connection.wrong


def test_unknown_request() -> None:
    link = Wire(imported=False)
    assert link.send(words("0111 8007 00000000")) == words("0111 0007 00000005")
    assert link.connection.ended


def test_device_descriptor() -> None:
    sent = words(
        "00000001 00000001 00010002 00000001 00000000"  # submit, 1, device, in, endpoint 0
        "00000200 00000040 00000000 00000000 00000000"  # flags, 64 bytes, no packets
        "8006 0001 0000 4000"  # GET_DESCRIPTOR, device, 64 bytes
    )
    descriptor = words("12 01 0002 00 00 00 40 0304 1460 0009 01 02 00 01")
    assert Wire().send(sent) == (
        words(
            "00000003 00000001 00000000 00000000 00000000"
            "00000000 00000012 00000000 00000000 00000000 00000000 00000000"
        )
        + descriptor
    )


def test_stalled_request() -> None:
    sent = submit(7, 0, 10, setup=setup(0xC0, 0x77, length=10), packets=0)
    assert Wire().send(sent) == words(
        "00000003 00000007 00000000 00000000 00000000"
        "ffffffe0 00000000 00000000 00000000 00000000 00000000 00000000"
    )


def test_bulk_out_and_in() -> None:
    link = Wire(mpsse=True)
    answer = link.send(submit(1, 2, b"\xab\x87", packets=0) + submit(2, 1, 512, packets=0))
    assert answer == words(
        "00000003 00000001 00000000 00000000 00000000"
        "00000000 00000002 00000000 00000000 00000000 00000000 00000000"
        "00000003 00000002 00000000 00000000 00000000"
        "00000000 00000004 00000000 00000000 00000000 00000000 00000000"
        "3260 faab"
    )


def test_unlink_of_a_transfer_under_way_and_of_one_that_has_ended() -> None:
    link = Wire()
    assert link.send(submit(5, 1, 512)) == b""
    assert link.send(unlink(6, 5)) == words("00000004 00000006 00000000 00000000 00000000") + (
        words("ffffff98") + bytes(24)
    )
    assert link.send(unlink(7, 5)) == words("00000004 00000007") + bytes(12) + bytes(28)
    assert link.wait(0.1) == b""


# --- the device through it ----------------------------------------------------------------------


def control(
    link: Wire, kind: int, code: int, value: int = 0, index: int = 0, length: int = 0
) -> tuple[int, bytes]:
    number = link.number()
    size = length if kind & 0x80 else b""
    answer = link.send(submit(number, 0, size, setup=setup(kind, code, value, index, length)))
    _, found, *_, status, actual = struct.unpack_from(">5Iii", answer)
    assert found == number
    assert len(answer) == 48 + (actual if kind & 0x80 else 0)
    return status, answer[48:]


def test_standard_requests() -> None:
    link = Wire(serial="HW1")
    whole = control(link, 0x80, 6, 0x0200, 0, 255)[1]
    assert whole[2:4] == struct.pack("<H", len(whole))
    assert control(link, 0x80, 6, 0x0200, 0, 9) == (0, whole[:9])
    assert control(link, 0x80, 6, 0x0300, 0, 255) == (0, words("04 03 0904"))
    assert control(link, 0x80, 6, 0x0303, 0x409, 255)[1][2:].decode("utf-16-le") == "HW1"
    assert control(link, 0x80, 6, 0x0600, 0, 10) == (0, words("0a 06 0002 00 00 00 40 01 00"))
    for missing in (0x0101, 0x0201, 0x0304, 0x0700, 0x0F00):
        assert control(link, 0x80, 6, missing, 0, 255) == (-errno.EPIPE, b"")
    assert control(link, 0x80, 0, 0, 0, 2) == (0, b"\0\0")
    assert control(link, 0x81, 0, 0, 0, 2) == (0, b"\0\0")
    assert control(link, 0x81, 0, 0, 1, 2)[0] == -errno.EPIPE
    assert control(link, 0x82, 0, 0, 0x81, 2) == (0, b"\0\0")
    assert control(link, 0x82, 0, 0, 0x83, 2)[0] == -errno.EPIPE
    assert control(link, 0x80, 8, 0, 0, 1) == (0, b"\1")
    assert control(link, 0x00, 9, 2)[0] == -errno.EPIPE
    assert control(link, 0x00, 9, 0) == (0, b"")
    assert control(link, 0x80, 8, 0, 0, 1) == (0, b"\0")
    assert control(link, 0x81, 10, 0, 0, 1)[0] == -errno.EPIPE
    assert control(link, 0x00, 9, 1) == (0, b"")
    assert control(link, 0x01, 11, 0, 0) == (0, b"")
    assert control(link, 0x01, 11, 1, 0)[0] == -errno.EPIPE
    assert control(link, 0x81, 10, 0, 0, 1) == (0, b"\0")
    assert control(link, 0x02, 1, 1, 0x81)[0] == -errno.EPIPE
    assert control(link, 0x20, 1, 1, 0x81)[0] == -errno.EPIPE


def test_a_halted_endpoint() -> None:
    link = Wire(mpsse=True)
    assert control(link, 0x02, 3, 0, 0x02) == (0, b"")
    assert control(link, 0x82, 0, 0, 0x02, 2) == (0, b"\1\0")
    assert replies(link.send(submit(1, 2, b"\xab"))) == [(3, 1, -errno.EPIPE, 0, b"")]
    assert control(link, 0x02, 1, 0, 0x02) == (0, b"")
    assert control(link, 0x82, 0, 0, 0x02, 2) == (0, b"\0\0")
    assert link.ask(b"\xab\x87") == b"\xfa\xab"


def test_vendor_requests_and_direction() -> None:
    link = Wire()
    link.vendor(0x09, 77)
    assert control(link, 0xC0, 0x0A, 0, 1, 1) == (0, b"\x4d")
    # A setup packet that says the opposite of the message is refused.
    sent = submit(1, 0, b"x", setup=setup(0xC0, 0x0A, length=1))
    assert replies(link.send(sent)) == [(3, 1, -errno.EPIPE, 0, b"")]


def test_a_port_reset_ends_mpsse_mode() -> None:
    link = Wire(mpsse=True)
    assert link.sim.backend.chip.bit_mode == 2
    assert control(link, 0x23, 3, 4, 1) == (0, b"")
    assert link.sim.backend.chip.bit_mode == 0


@pytest.mark.parametrize(("endpoint", "into"), [(1, False), (2, True), (3, False), (15, True)])
def test_an_endpoint_that_is_not_there(endpoint: int, into: bool) -> None:
    sent = submit(1, endpoint, 64 if into else b"x")
    assert replies(Wire().send(sent)) == [(3, 1, -errno.EPIPE, 0, b"")]


def test_nothing_to_say_is_said_each_latency_period() -> None:
    link = Wire()
    link.vendor(0x09, 16)
    assert link.send(b"".join(submit(n, 1, 512) for n in (1, 2, 3))) == b""
    assert link.wait(0.015) == b""
    assert replies(link.wait(0.002)) == [(3, 1, 0, 2, IDLE)]
    assert replies(link.wait(0.016)) == [(3, 2, 0, 2, IDLE)]
    assert link.wait(0.014) == b""
    assert replies(link.wait(0.002)) == [(3, 3, 0, 2, IDLE)]
    assert link.wait(1) == b""


def test_a_waiting_transfer_gets_data_when_they_come() -> None:
    link = Wire(mpsse=True)
    link.vendor(0x09, 255)
    assert link.send(submit(1, 1, 512) + submit(2, 1, 512)) == b""
    assert link.wait(0.1) == b""
    answer = replies(link.send(submit(3, 2, b"\xab\x87")))
    assert answer == [(3, 3, 0, 2, b""), (3, 1, 0, 4, IDLE + b"\xfa\xab")]
    assert link.wait(0.1) == b""


def test_a_full_packet_needs_no_flush() -> None:
    link = Wire(mpsse=True)
    link.vendor(0x09, 255)
    assert link.send(submit(1, 1, 512) + submit(2, 1, 512)) == b""
    before = link.sim.clock.now()
    answer = replies(link.send(submit(3, 2, spi(b"\x9f", 700))))
    assert [item[:4] for item in answer[:2]] == [(3, 3, 0, len(spi(b"\x9f", 700))), (3, 1, 0, 512)]
    assert answer[1][4][2:5] == b"\xef\x40\x11"
    assert link.sim.clock.now() - before < 0.3  # the second one may have waited for the timer
    assert answer[2][:4] == (3, 2, 0, 192)


def test_several_packets_in_one_transfer() -> None:
    link = Wire(mpsse=True)
    link.sim.die.content[:2000] = bytes(n % 251 for n in range(2000))
    found = link.ask(spi(b"\x03\0\0\0", 2000) + b"\x87", 4096)
    assert found == bytes(n % 251 for n in range(2000))


def test_a_short_answer_where_the_client_cannot_have_one() -> None:
    link = Wire(mpsse=True)
    link.write(b"\xab\x87")
    answer = link.send(submit(1, 1, 512, flags=1))
    assert replies(answer) == [(3, 1, -errno.EREMOTEIO, 4, IDLE + b"\xfa\xab")]


def test_a_buffer_too_small_for_the_packet() -> None:
    link = Wire(mpsse=True)
    link.write(b"\xab\x87")
    assert replies(link.send(submit(1, 1, 3))) == [(3, 1, -errno.EOVERFLOW, 0, b"")]


def test_an_empty_buffer() -> None:
    link = Wire()
    assert link.send(submit(1, 1, 0)) == b""
    assert replies(link.wait(0.1)) == [(3, 1, 0, 0, b"")]
    assert link.wait(1) == b""


def test_out_waits_until_somebody_reads() -> None:
    link = Wire(mpsse=True)
    commands = spi(b"\x9f", 3) * 500  # 1,500 bytes of answers do not fit in 1 KiB
    assert link.send(submit(1, 2, commands)) == b""
    assert link.wait(1) == b""
    assert link.send(submit(2, 2, b"\x87")) == b""
    answer = replies(link.send(submit(3, 1, 4096)))
    assert [item[:3] for item in answer] == [(3, 3, 0), (3, 1, 0), (3, 2, 0)]
    payload = answer[0][4]
    found = b"".join(payload[at + 2 : at + 512] for at in range(0, len(payload), 512))
    assert found == b"\xef\x40\x11" * 500


def test_a_hanging_out_transfer_is_taken_back() -> None:
    link = Wire(mpsse=True)
    commands = spi(b"\x9f", 3) * 500
    assert link.send(submit(1, 2, commands) + submit(2, 2, b"\xab")) == b""
    answer = replies(link.send(unlink(3, 1)))
    # The next one is waiting for the same FIFO, which is as full as before.
    assert answer == [(4, 3, -errno.ECONNRESET, 0, b"")]
    assert replies(link.send(unlink(4, 2))) == [(4, 4, -errno.ECONNRESET, 0, b"")]
    link.vendor(0x0B, 0)
    link.vendor(0x0B, 0x0200)
    link.write(b"\x8a\x97\x8d\x85")
    assert link.ask(b"\xab\x87") == b"\xfa\xab"


def test_a_client_that_sleeps_finds_the_erase_done() -> None:
    link = Wire(mpsse=True)
    link.sim.die.content[:4096] = bytes(4096)
    link.write(spi(b"\x06") + spi(b"\x20\0\0\0"))
    assert link.ask(spi(b"\x05", 1) + b"\x87") == b"\x03"
    started = link.sim.clock.now()
    link.wait(0.030)
    assert link.ask(spi(b"\x05", 1) + b"\x87") == b"\x03"  # 45 ms are needed
    link.wait(0.020)
    assert link.ask(spi(b"\x05", 1) + b"\x87") == b"\x00"
    assert link.sim.clock.now() - started == pytest.approx(0.050, abs=0.005)
    assert link.sim.die.content[:4096] == b"\xff" * 4096


def test_time_that_ran_ahead_does_not_make_a_client_wait() -> None:
    link = Wire(mpsse=True)
    link.vendor(0x09, 255)
    link.write(b"\x86\xe7\x03")  # 30 kHz
    assert len(link.ask(spi(b"\x9f", 500) + b"\x87")) == 500
    assert link.sim.clock.now() > 500 * 8 / 30e3  # in no real time
    link.vendor(0x09, 2)
    assert link.send(submit(1, 1, 512)) == b""
    assert replies(link.wait(0.003)) == [(3, 1, 0, 2, IDLE)]


def test_time_goes_on_between_clients_only_by_what_they_see() -> None:
    link = Wire()
    link.real.seconds += 5
    link.connection.advance()
    assert link.sim.clock.now() >= 5


def test_the_device_is_reset_when_its_client_has_gone() -> None:
    link = Wire(mpsse=True)
    link.sim.die.content[:512] = bytes([0xFF]) * 512
    page = bytes(range(256))
    whole = spi(b"\x06") + spi(b"\x02\0\0\0" + page)
    link.write(whole + b"\x8f\xff\x1f" + spi(b"\x06") + LOW + wr(b"\x02\0\1\0" + page[:100]))
    link.connection.feed(submit(1, 2, bytes(1000))[:500])  # the rest never comes
    link.real.seconds += 0.01
    link.connection.close()
    assert link.sim.backend.chip.bit_mode == 0
    following = Wire.__new__(Wire)
    following.__dict__.update(link.__dict__)
    following.connection = Connection(link.export)
    assert following.send(IMPORT)[4:8] == bytes(4)
    assert link.sim.die.content[:256] == page
    # Its pins float: CS# rises by itself and the page it had begun is programmed.
    assert link.sim.die.content[256:512] == page[:100] + b"\xff" * 156


def test_a_cable_that_is_pulled_ends_the_connection() -> None:
    link = Wire(mpsse=True, faults=Faults(disconnect=6))
    answer = link.send(b"".join(submit(n, 2, b"\xab") for n in range(1, 10)))
    assert link.connection.ended
    assert 1 <= len(replies(answer)) < 9
    assert not link.connection.wrong
    link.connection.close()
    assert link.export.queue is None
    gone = Connection(link.export)
    gone.feed(IMPORT)
    assert gone.out == words("0111 0003 00000004")


def test_a_power_cut_ends_the_connection() -> None:
    link = Wire(mpsse=True, power_cut=1)
    link.send(submit(1, 2, spi(b"\x06") + spi(b"\x02\0\0\0" + bytes(256))))
    link.send(submit(2, 1, 512))
    link.wait(0.1)
    assert link.connection.ended
    link.connection.close()


# --- bad input ------------------------------------------------------------------------------------

NONSENSE = {
    "command": words("00000005") + submit(1, 1, 64)[4:],
    "device": submit(1, 1, 64, devid=0x10003),
    "endpoint": submit(1, 16, 64),
    "direction": submit(1, 1, 64)[:12] + words("00000002") + submit(1, 1, 64)[16:],
    "negative": submit(1, 1, -1),
    "huge in": submit(1, 1, (16 << 20) + 1),
    "huge out": submit(1, 2, b"")[:24] + words("7fffffff") + submit(1, 2, b"")[28:],
    "isochronous": submit(1, 1, 64, packets=3),
    "number twice": submit(1, 1, 64) * 2,
    "reply": words("00000003") + submit(1, 1, 64)[4:],
    "too many": b"".join(submit(n, 1, 64) for n in range(MAX_URBS + 2)),
}


@pytest.mark.parametrize("sent", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_ends_the_connection(sent: bytes) -> None:
    link = Wire()
    link.send(sent)
    assert link.connection.ended
    assert link.connection.wrong
    link.connection.close()
    second = Connection(link.export)
    second.feed(IMPORT)
    assert second.imported


def test_a_message_may_come_in_any_pieces() -> None:
    whole = IMPORT + b"".join(
        (
            submit(1, 0, 18, setup=setup(0x80, 6, 0x0100, length=18)),
            submit(2, 0, b"", setup=setup(0x40, 0x0B, 0x0200, 1)),
            submit(3, 2, b"\xab" * 20 + b"\x87"),
            submit(4, 1, 512),
            unlink(5, 4),
        )
    )
    expected = Wire(imported=False).send(whole)
    assert expected.endswith(bytes(28))
    for size in (1, 7, 47, 49):
        link = Wire(imported=False)
        found = b"".join(link.send(whole[at : at + size]) for at in range(0, len(whole), size))
        assert found == expected


def test_half_a_message_waits() -> None:
    link = Wire(imported=False)
    assert link.send(IMPORT[:20]) == b""
    assert link.connection.partial
    assert not link.connection.ended
    link.connection.close()
    assert link.export.queue is None


numbers = st.one_of(
    st.integers(0, 5),
    st.sampled_from([0x10002, 512, 0x7FFFFFFF, 0xFFFFFFFF]),
    st.integers(0, 1 << 20),
)
headers = st.builds(
    lambda fields, setup_bytes, tail: struct.pack(">10I", *fields) + setup_bytes + tail,
    st.tuples(
        st.sampled_from([1, 1, 1, 2, 3, 9]), numbers, st.just(0x10002), st.integers(0, 1),
        st.integers(0, 3), numbers, st.one_of(st.integers(0, 2000), numbers),
        st.just(0), st.sampled_from([0, 0xFFFFFFFF, 1]), numbers,
    ),
    st.one_of(st.binary(min_size=8, max_size=8), st.just(setup(0x40, 0x0B, 0x0200, 1))),
    st.binary(max_size=600),
)  # fmt: skip


@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    start=st.sampled_from([b"", IMPORT, words("0111"), IMPORT[:30]]),
    pieces=st.lists(st.one_of(st.binary(max_size=400), headers), max_size=12),
    pause=st.floats(0, 0.02),
)
def test_any_bytes_are_survived(start: bytes, pieces: list[bytes], pause: float) -> None:
    link = Wire(imported=False)
    link.send(start)
    for piece in pieces:
        link.send(piece)
        link.wait(pause)
    link.connection.close()
    assert link.export.queue is None
    after = Connection(link.export)
    after.feed(IMPORT)
    assert after.imported
