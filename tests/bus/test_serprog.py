"""The serprog client: byte for byte, and against devices that misbehave."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import DieBus, examples, small_chip

from hwflash.bus import serprog_protocol as sp
from hwflash.bus.abilities import Limits, limits_of
from hwflash.bus.serprog import SerprogBus
from hwflash.bus.spi import Transfer, Wait
from hwflash.errors import ProgrammerBusy, ProgrammerError, ProgrammerLost
from hwflash.flash.identify import identify
from hwflash.flash.nor import NorFlash
from hwflash.jobs.serprog_device import SerprogDevice

SYNC = bytes((sp.NAK, sp.ACK))
EVERYTHING = sp.command_map(
    (0, 1, 2, 3, 4, 5, 7, 8, 0x0B, 0x0E, 0x0F, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15)
)


class MemoryLink:
    """A link whose other end is a function: bytes in, bytes out."""

    name = "serprog in memory"
    byte_seconds = 0.0

    def __init__(self, respond: Callable[[bytes], bytes], window: int = 32768) -> None:
        self.window = window
        self.written: list[bytes] = []
        self.closed = 0
        self.deepest = 0
        self._respond = respond
        self._waiting = bytearray()

    def write(self, data: bytes, /) -> None:
        self.written.append(data)
        self._waiting += self._respond(data)
        self.deepest = max(self.deepest, len(self._waiting))

    def read(self, limit: int, seconds: float, /) -> bytes:
        assert seconds >= 0
        piece = bytes(self._waiting[:limit])
        del self._waiting[:limit]
        return piece

    def close(self) -> None:
        self.closed += 1


class Script:
    """A device that expects exactly these bytes, and says exactly those."""

    def __init__(self, *exchanges: tuple[str, str]) -> None:
        self.exchanges = [(bytes.fromhex(out), bytes.fromhex(back)) for out, back in exchanges]
        self.heard = bytearray()

    def __call__(self, data: bytes) -> bytes:
        self.heard += data
        said = bytearray()
        while self.exchanges and self.heard.startswith(self.exchanges[0][0]):
            expected, answer = self.exchanges.pop(0)
            del self.heard[: len(expected)]
            said += answer
        if self.exchanges:
            assert self.exchanges[0][0].startswith(self.heard)
        else:
            assert not self.heard
        return bytes(said)


OPENING = [
    ("10", "1506"),  # SYNCNOP
    ("10", "1506"),  # and once more, to be sure
    ("01", "060100"),  # interface version 1
    ("02", "06" + EVERYTHING.hex()),
    ("05", "0608"),  # SPI
    ("1208", "06"),
    ("04", "06ffff"),  # serial buffer
    ("08", "06000100"),  # 256 bytes out
    ("11", "06000200"),  # 512 bytes in
    ("03", "06" + b"golden".ljust(16, b"\0").hex()),
    ("07", "062c01"),  # operation buffer
    ("0b", "06"),
    ("1480c3c901", "0600e1f505"),  # 30 MHz asked for, 100 MHz got
    ("1501", "06"),
]
CLOSING = ("1500", "06")


def opened(link: MemoryLink, frequency: float = 30e6) -> SerprogBus:
    return SerprogBus(link, frequency=frequency, timeout=0.01, sync_timeout=0.01)


def test_golden_exchange() -> None:
    script = Script(
        *OPENING,
        ("13010000030000" + "9f", "06" + "ef4018"),
        ("0ee8030000", "06"),  # 1,000 microseconds
        ("0f", "06"),
        ("13040000000000" + "02aabbcc", "06"),
        ("13000000020000", "06" + "1234"),
        CLOSING,
    )
    link = MemoryLink(script)
    bus = opened(link)
    assert (bus.frequency, bus.limits, bus.device_name) == (100e6, Limits(256, 512), "golden")
    ops = [
        Transfer(b"\x9f", 3), Wait(0.001), Transfer(b"\x02\xaa\xbb\xcc"), Wait(0), Transfer(b"", 2)
    ]  # fmt: skip
    assert bus.execute(ops) == [b"\xef\x40\x18", b"", b"", b"", b"\x12\x34"]
    assert bus.stats.sck_bytes == 4 + 4 + 2
    bus.close()
    bus.close()
    assert not script.exchanges
    assert link.closed == 1


def test_a_device_with_no_more_than_must_be() -> None:
    """No queries but version and map, no delays, no pins, no frequency."""
    least = sp.command_map((0, 1, 2, 0x10, 0x13))
    script = Script(
        ("10", "1506"),
        ("10", "1506"),
        ("01", "060100"),
        ("02", "06" + least.hex()),
        ("13010000010000" + "05", "0600"),
        ("13010000010000" + "35", "0602"),
    )
    bus = opened(MemoryLink(script), 5e6)
    assert bus.frequency == 5e6
    assert bus.limits == Limits(sp.LENGTH_LIMIT, sp.LENGTH_LIMIT)
    before = bus.clock.now()
    assert bus.execute([Transfer(b"\x05", 1), Wait(0.02), Transfer(b"\x35", 1)]) == [
        b"\0", b"", b"\x02"
    ]  # fmt: skip
    assert bus.clock.now() - before >= 0.02
    bus.set_frequency(1e6)
    assert bus.frequency == 5e6
    bus.close()


def test_a_long_wait_is_several_delays() -> None:
    script = Script(*OPENING, *[("0e20a10700", "06"), ("0f", "06")] * 2, ("0ea0860100", "06"),
                    ("0f", "06"))  # fmt: skip
    assert opened(MemoryLink(script)).execute([Wait(1.1)]) == [b""]
    assert not script.exchanges


# --- a real device behind the link ----------------------------------------------------------


def behind(device: SerprogDevice) -> Callable[[bytes], bytes]:
    def respond(data: bytes) -> bytes:
        device.feed(data)
        said = b""
        while device.ready:
            said += device.step()
        return said

    return respond


def patched(
    device: SerprogDevice, answers: dict[int, bytes], offered: bytes | None = None
) -> Callable[[bytes], bytes]:
    """The same, with other answers to commands that come alone."""
    respond = behind(device)
    replaced = dict(answers)
    if offered is not None:
        replaced[sp.Q_CMDMAP] = bytes((sp.ACK,)) + offered

    def other(data: bytes) -> bytes:
        return replaced[data[0]] if data[0] in replaced else respond(data)

    return other


def die(**options: object) -> DieBus:
    return DieBus(small_chip(), **options)


def test_pipelined_within_the_serial_buffer() -> None:
    """Bytes under way never exceed what the device can hold, and come in large writes."""
    size = 100
    buffer = {sp.Q_SERBUF: bytes((sp.ACK, size, 0))}
    link = MemoryLink(patched(SerprogDevice(die()), buffer))
    bus = opened(link)
    link.written.clear()
    answers = bus.execute([Transfer(b"\x05", 1)] * 60)
    assert answers == [b"\0"] * 60
    assert max(map(len, link.written)) <= size
    # 12 commands of 8 bytes fit; half of them are waited for before more are sent.
    assert len(link.written) <= 60 // 6
    link.written.clear()
    bus.execute([Transfer(b"\x05" + bytes(300), 0)])
    assert link.written == [sp.spiop(b"\x05" + bytes(300), 0)]


@pytest.mark.parametrize("window", [64, 4096])
def test_programs_and_reads_within_small_limits(window: int) -> None:
    """NorFlash cuts reads and pages to what the device can carry."""
    chip = small_chip()
    bus = die()
    maximum = {
        sp.Q_WRNMAXLEN: bytes((sp.ACK, 69, 0, 0)),
        sp.Q_RDNMAXLEN: bytes((sp.ACK, 100, 0, 0)),
    }
    client = opened(MemoryLink(patched(SerprogDevice(bus), maximum), window))
    assert limits_of(client) == Limits(69, 100)
    flash = NorFlash(client, chip)
    data = bytes(range(256)) * 4
    flash.program(0x1010, data)
    assert flash.read(0x1000, 0x500) == b"\xff" * 16 + data + b"\xff" * (0x500 - 16 - len(data))
    assert bus.die.content[0x1010 : 0x1010 + len(data)] == data
    client.close()


def test_sfdp_is_read_within_small_limits() -> None:
    from hwflash.chip import catalog, dumps

    part = catalog.load().by_name("W25Q128JV")
    assert part.sfdp_dump is not None
    bus = DieBus(part.chip, sfdp=dumps.load(part.sfdp_dump).sfdp)
    small = {sp.Q_RDNMAXLEN: bytes((sp.ACK, 16, 0, 0))}
    client = opened(MemoryLink(patched(SerprogDevice(bus), small)))
    found = identify(client, lambda jedec_id: [part.chip])
    assert found.chip.part == "W25Q128JV"
    assert found.sfdp is not None


@settings(max_examples=examples(30), deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 80)), max_size=40),
    st.integers(1, 200),
)
def test_any_batch_gives_what_the_bus_gives(batch: list[tuple[bytes, int]], size: int) -> None:
    ops = [Transfer(write, read) for write, read in batch]
    buffer = {sp.Q_SERBUF: bytes((sp.ACK, size, 0))}
    client = opened(MemoryLink(patched(SerprogDevice(die()), buffer)))
    assert client.execute(ops) == die().execute(ops)


# --- getting in step --------------------------------------------------------------------------


def test_resynchronises_with_a_device_left_in_the_middle_of_a_command() -> None:
    device = SerprogDevice(die())
    device.feed(sp.spiop(b"\x05" + bytes(99), 1)[:20])
    bus = opened(MemoryLink(behind(device)))
    assert bus.execute([Transfer(b"\x9f", 3)]) == [b"\xef\x40\x11"]


def test_stale_bytes_that_look_like_an_answer_are_not_taken_for_one() -> None:
    device = behind(SerprogDevice(die()))
    link = MemoryLink(device)
    first = True

    def with_echo(data: bytes) -> bytes:
        nonlocal first
        if first:
            first = False
            return SYNC + b"\x42" + SYNC  # what an interrupted read may have left
        return device(data)

    link._respond = with_echo
    assert opened(link).execute([Transfer(b"\x9f", 3)]) == [b"\xef\x40\x11"]


@pytest.mark.parametrize("said", [b"", b"\x55", b"\x06", b"hello\r\n"])
def test_a_device_that_is_no_serprog_device(said: bytes) -> None:
    link = MemoryLink(lambda _data: said)
    with pytest.raises(ProgrammerError) as caught:
        opened(link)
    assert caught.value.code == "programmer.serprog-sync"
    assert caught.value.context["heard"] == (said * 8)[:16].hex()
    assert ("silent" in caught.value.message) is (not said)
    assert link.closed == 1


def test_a_server_that_hangs_up_at_once() -> None:
    def hang_up(_data: bytes) -> bytes:
        raise ProgrammerLost("closed", code="programmer.serprog-closed")

    with pytest.raises(ProgrammerBusy) as caught:
        opened(MemoryLink(hang_up))
    assert caught.value.code == "programmer.serprog-busy"


NAK = bytes((sp.NAK,))


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({sp.Q_IFACE: b"\x06\x02\x00"}, "programmer.serprog-version"),
        ({sp.Q_IFACE: NAK}, "programmer.serprog-version"),
        ({sp.Q_CMDMAP: NAK}, "programmer.serprog-version"),
        ({sp.Q_CMDMAP: b"\x06" + sp.command_map((0, 1, 2, 16))}, "programmer.serprog-no-spi"),
        ({sp.Q_BUSTYPE: b"\x06\x07"}, "programmer.serprog-no-spi"),
        ({sp.S_BUSTYPE: NAK}, "programmer.serprog-no-spi"),
        ({sp.Q_SERBUF: b"\x06\x00\x00"}, "programmer.serprog-buffer"),
        ({sp.Q_WRNMAXLEN: b"\x06\x04\x00\x00"}, "programmer.serprog-limits"),
        ({sp.Q_RDNMAXLEN: b"\x06\x01\x00\x00"}, "programmer.serprog-limits"),
        ({sp.S_PIN_STATE: NAK}, "programmer.serprog-pins"),
        ({sp.Q_SERBUF: b"\x06\xff"}, "programmer.serprog-timeout"),
        ({sp.Q_SERBUF: b"\x99"}, "programmer.serprog-garbage"),
    ],
)
def test_devices_that_are_refused(answers: dict[int, bytes], code: str) -> None:
    offered = None if sp.Q_CMDMAP in answers else EVERYTHING
    link = MemoryLink(patched(SerprogDevice(die()), answers, offered))
    with pytest.raises(ProgrammerError) as caught:
        opened(link)
    assert caught.value.code == code
    assert link.closed == 1


def test_optional_commands_that_are_refused() -> None:
    """In the map, and NAK all the same: as if they were not there."""
    refused = dict.fromkeys(
        (sp.Q_PGMNAME, sp.Q_SERBUF, sp.Q_OPBUF, sp.Q_WRNMAXLEN, sp.Q_RDNMAXLEN, sp.O_INIT,
         sp.S_SPI_FREQ), NAK
    )  # fmt: skip
    bus = opened(MemoryLink(patched(SerprogDevice(die()), refused)), 7e6)
    assert (bus.frequency, bus.device_name) == (7e6, "")
    assert bus.limits == Limits(sp.LENGTH_LIMIT, sp.LENGTH_LIMIT)
    assert bus.execute([Wait(0.001), Transfer(b"\x9f", 3)]) == [b"", b"\xef\x40\x11"]


def test_a_name_is_printable_whatever_the_device_says() -> None:
    name = {sp.Q_PGMNAME: b"\x06" + b"\x1b[31m\xff evil\n".ljust(16, b"\0")}
    bus = opened(MemoryLink(patched(SerprogDevice(die()), name)))
    assert bus.device_name.isprintable()


def test_a_device_that_lies_about_its_maximum() -> None:
    """It promises 2^24 bytes and refuses 1 MiB + 1; the bus stays in step behind that."""
    promise = {sp.Q_RDNMAXLEN: b"\x06\x00\x00\x00"}
    link = MemoryLink(patched(SerprogDevice(die()), promise))
    bus = opened(link)
    status = Transfer(b"\x05", 1)
    with pytest.raises(ProgrammerError) as caught:
        bus.execute([status, Transfer(b"\x03\0\0\0", (1 << 20) + 1), status])
    assert caught.value.code == "programmer.serprog-nak"
    assert not isinstance(caught.value, ProgrammerLost)
    assert caught.value.context["reply"] == (1 << 20) + 1
    assert bus.execute([status, status]) == [b"\0", b"\0"]


def test_longer_than_the_maximum_is_not_sent() -> None:
    link = MemoryLink(behind(SerprogDevice(die())))
    bus = opened(link)
    sent = len(link.written)
    with pytest.raises(ProgrammerError) as caught:
        bus.execute([Transfer(b"\x06"), Transfer(bytes(70000), 0)])
    assert caught.value.code == "programmer.serprog-length"
    assert len(link.written) == sent


def answering(device: SerprogDevice, bad: list[bytes | None]) -> Callable[[bytes], bytes]:
    """The device's answer to an SPI operation is replaced by the next of ``bad``, if not None."""
    respond = behind(device)

    def other(data: bytes) -> bytes:
        said = respond(data)
        if data[0] == sp.O_SPIOP and bad:
            instead = bad.pop(0)
            return said if instead is None else instead
        return said

    return other


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"", "programmer.serprog-timeout"),
        (b"\x06\xef", "programmer.serprog-timeout"),
        (b"\x7f\xef\x40\x11", "programmer.serprog-garbage"),
    ],
)
def test_nonsense_in_the_middle(bad: bytes, code: str) -> None:
    """The job fails, since nobody knows what the chip saw; the bus gets in step again."""
    bus = opened(MemoryLink(answering(SerprogDevice(die()), [bad])))
    with pytest.raises(ProgrammerLost) as caught:
        bus.execute([Transfer(b"\x9f", 3)])
    assert caught.value.code == code
    assert bus.execute([Transfer(b"\x9f", 3)]) == [b"\xef\x40\x11"]


def test_a_device_that_dies_stays_dead() -> None:
    device = behind(SerprogDevice(die()))
    alive = True
    link = MemoryLink(lambda data: device(data) if alive else b"")
    bus = opened(link)
    alive = False
    with pytest.raises(ProgrammerLost) as first:
        bus.execute([Transfer(b"\x9f", 3)])
    alive = True
    with pytest.raises(ProgrammerLost) as second:
        bus.execute([Transfer(b"\x9f", 3)])
    assert first.value is second.value
    bus.close()
    assert link.closed == 1
    with pytest.raises(ProgrammerLost):
        bus.execute([])
