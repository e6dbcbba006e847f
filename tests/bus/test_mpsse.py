import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwflash.bus import mpsse
from hwflash.bus.spi import Transfer, Wait
from hwflash.errors import UsageError

PINS = mpsse.Pins(value=0x0138, direction=0x013B, cs=0x08)
FREQUENCY = 30e6
FIFO, LIMIT = 900, 65536


def compiler(**changes) -> mpsse.Compiler:
    options = {"fifo": FIFO, "stream_limit": LIMIT, "clocked_wait_limit": 0.020}
    frequency = changes.pop("frequency", FREQUENCY)
    return mpsse.Compiler(PINS, frequency, **{**options, **changes})


def steps(*ops, **changes) -> list[mpsse.Step]:
    return list(compiler(**changes).compile(ops))


# --- golden streams -------------------------------------------------------------------------


def test_pins_are_set_byte_by_byte() -> None:
    assert PINS.deselect.hex() == "80383b"
    assert PINS.select.hex() == "80303b"
    assert PINS.high.hex() == "820101"


def test_a_transfer_is_select_write_read_deselect() -> None:
    (step,) = steps(Transfer(bytes.fromhex("9f"), 3))
    assert step.stream.hex(" ", 1) == "80 30 3b 11 00 00 9f 20 02 00 80 38 3b"
    assert step.reply == 3
    assert step.seconds == pytest.approx(4 * 8 / 30e6)


def test_transfers_without_write_or_read() -> None:
    assert steps(Transfer(b"", 1))[0].stream.hex() == "80303b20000080383b"
    assert steps(Transfer(b"\x06"))[0].stream.hex() == "80303b1100000680383b"
    assert steps(Transfer(b""))[0].stream.hex() == "80303b80383b"
    assert steps() == []


def test_a_short_wait_clocks_without_data_at_least_as_long() -> None:
    assert steps(Wait(8e-6))[0].stream.hex() == "8f1d00"  # 240 clocks: 30 bytes
    assert steps(Wait(8.1e-6))[0].stream.hex() == "8f1e00"
    assert steps(Wait(1e-12))[0].stream.hex() == "8f0000"
    # 20 ms at 30 MHz are 75,000 bytes of clocks: 65,536 and 9,464.
    assert steps(Wait(0.020))[0].stream.hex() == "8fffff8ff724"
    assert steps(Wait(0), Wait(-1)) == []


def test_a_long_wait_is_left_to_the_host() -> None:
    assert steps(Wait(0.0201)) == [mpsse.Sleep(0.0201)]
    before, sleep, after = steps(Transfer(b"\x05", 1), Wait(3), Transfer(b"\x05", 1))
    assert before == after
    assert sleep == mpsse.Sleep(3)


def test_timer_waits_never_clock() -> None:
    found = steps(Wait(1e-6), Transfer(b"\x05", 1), Wait(1e-4), clocked_wait_limit=0.0)
    assert [type(step).__name__ for step in found] == ["Sleep", "Round", "Sleep"]
    assert found[0] == mpsse.Sleep(1e-6)


def test_the_host_also_waits_for_commands_the_engine_has_not_answered() -> None:
    # 1,000 bytes at 100 kHz take 80 ms on the wire, and nothing tells when they are over.
    _, sleep = steps(Transfer(bytes(1000)), Wait(0.5), frequency=100e3)
    assert sleep.seconds == pytest.approx(0.58)
    _, sleep = steps(Transfer(bytes(1000), 1), Wait(0.5), frequency=100e3)
    assert sleep.seconds == pytest.approx(0.5)
    later = compiler(frequency=100e3)
    assert len(list(later.compile([Transfer(bytes(1000))]))) == 1
    assert next(later.compile([Wait(0.5)])).seconds == pytest.approx(0.58)
    assert next(later.compile([Wait(0.5)])).seconds == pytest.approx(0.5)


def test_a_large_write_is_split_at_64_kib() -> None:
    data = bytes(range(256)) * 513  # 131,328 bytes
    stream = mpsse.write_bytes(data)
    assert stream[:3].hex() == "11ffff"
    assert stream[3 : 3 + 65536] == data[:65536]
    second = stream[3 + 65536 :]
    assert second[:3].hex() == "11ffff"
    third = second[3 + 65536 :]
    assert third[:3].hex() == "11ff00"
    assert second[3 : 3 + 65536] + third[3:] == data[65536:]
    assert mpsse.write_bytes(data[:65536]).hex() == "11ffff" + data[:65536].hex()
    assert mpsse.write_bytes(b"") == b""


def test_an_answer_larger_than_the_fifo_is_streamed() -> None:
    ahead, stream, after = steps(
        Transfer(b"\x05", 1), Transfer(b"\x03\x00\x10\x00", 901), Transfer(b"\x06")
    )
    assert ahead.reply == 1
    assert stream == mpsse.Streaming(
        bytes.fromhex("80303b 110300 03001000"), 901, bytes.fromhex("80383b")
    )
    assert after.reply == 0
    assert isinstance(steps(Transfer(b"\x03\x00\x10\x00", 900))[0], mpsse.Round)


# --- clock ------------------------------------------------------------------------------------


@given(st.floats(min_value=458, max_value=200e6))
def test_sck_never_exceeds_what_was_asked(frequency: float) -> None:
    divisor = mpsse.divisor_for(frequency)
    assert 0 <= divisor <= 0xFFFF
    assert mpsse.frequency_of(divisor) <= frequency * (1 + 1e-12)
    if divisor:
        assert mpsse.frequency_of(divisor - 1) > frequency * (1 - 1e-12), "the next one is too fast"


def test_divisors() -> None:
    assert [mpsse.divisor_for(f) for f in (60e6, 30e6, 29.9e6, 15e6, 10e6, 1e6)] == [
        0, 0, 1, 1, 2, 29,
    ]  # fmt: skip
    assert mpsse.frequency_of(0) == 30e6
    assert mpsse.frequency_of(0xFFFF) == pytest.approx(457.76, abs=0.01)


@pytest.mark.parametrize("frequency", [457.0, 1.0, 0.0, -1e6])
def test_a_frequency_that_cannot_be_reached_is_refused(frequency: float) -> None:
    with pytest.raises(UsageError) as caught:
        mpsse.divisor_for(frequency)
    assert caught.value.code == "usage.frequency"
    assert caught.value.context["frequency"] == frequency


# --- rounds -----------------------------------------------------------------------------------

OPS = st.lists(
    st.one_of(
        st.builds(
            Transfer,
            st.binary(max_size=8) | st.integers(0, 1200).map(bytes),
            st.integers(0, 40) | st.integers(0, 2000),
        ),
        st.builds(Wait, st.floats(0, 0.03)),
    ),
    max_size=60,
)


@given(OPS)
def test_rounds_keep_one_of_the_fifos_free(ops: list) -> None:
    """A round that violates this blocks for ever: see SPI FIFOs of 1 KiB each."""
    for step in steps(*ops):
        if isinstance(step, mpsse.Round):
            assert step.stream
            assert step.reply <= FIFO or len(step.stream) <= FIFO
            assert len(step.stream) <= LIMIT


@given(OPS)
def test_nothing_is_lost_or_reordered(ops: list) -> None:
    """All streams together are the golden stream of each operation, one after the other."""
    expected = b"".join(_golden(op) for op in ops)
    found = bytearray()
    for step in steps(*ops):
        if isinstance(step, mpsse.Round):
            found += step.stream
        elif isinstance(step, mpsse.Streaming):
            found += step.head + b"<%d>" % step.read + step.tail
        else:
            assert step.seconds > 0.020
            found += b"<sleep>"
    assert bytes(found) == expected
    replies = sum(
        step.reply if isinstance(step, mpsse.Round) else getattr(step, "read", 0)
        for step in steps(*ops)
    )
    assert replies == sum(op.read for op in ops if isinstance(op, Transfer))


def _golden(op) -> bytes:
    if isinstance(op, Wait):
        if op.seconds <= 0:
            return b""
        return mpsse.clock_bytes(op.seconds, FREQUENCY) if op.seconds <= 0.020 else b"<sleep>"
    read = b""
    if op.read:
        read = b"<%d>" % op.read if op.read > FIFO else mpsse.read_bytes(op.read)
    return PINS.select + mpsse.write_bytes(op.write) + read + PINS.deselect


@given(st.floats(1e-9, 0.02), st.floats(500, 30e6))
def test_clocked_waits_are_never_short(seconds: float, frequency: float) -> None:
    stream = mpsse.clock_bytes(seconds, frequency)
    assert len(stream) % 3 == 0
    clocks = 0
    for start in range(0, len(stream), 3):
        assert stream[start] == 0x8F
        clocks += 8 * (1 + stream[start + 1] + 256 * stream[start + 2])
    assert clocks / frequency >= seconds * (1 - 1e-12)
    assert (clocks - 8) / frequency < seconds + 1e-12


def test_a_full_stream_begins_a_new_round() -> None:
    page = Transfer(bytes(260))
    found = steps(*[page] * 300)
    assert [len(step.stream) for step in found] == [243 * 269, 57 * 269]


def test_many_short_answers_fill_the_fifo_only_when_the_commands_fit_the_other() -> None:
    # 13 bytes of command a piece: 69 of them fit the OUT FIFO and answer 6,900 bytes.
    found = steps(*[Transfer(b"\x05", 100)] * 70)
    assert [(len(step.stream), step.reply) for step in found] == [(897, 6900), (13, 100)]
