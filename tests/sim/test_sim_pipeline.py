"""The pipelined traffic the driver is meant to send, and what the bus makes of it."""

import random
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_chips import MT25Q256, W25Q128, Bench
from support import examples
from test_sim_ft232h import HIGH, LOW, Host, rd, wr

from hwflash.sim.faults import Faults

RDSR = LOW + wr(b"\x05") + rd(1) + HIGH


def page(address: int, data: bytes, wait: float) -> bytes:
    clocks = round(wait * 30e6 / 8) - 1
    program = LOW + wr(b"\x02" + address.to_bytes(3, "big") + data) + HIGH
    idle = b"\x8f" + clocks.to_bytes(2, "little")
    return LOW + wr(b"\x06") + HIGH + RDSR + program + idle + RDSR


def program(host: Host, data: bytes, wait: float) -> list[bytes]:
    """The two status bytes of each page."""
    answers = []
    for first in range(0, len(data), 64 * 256):
        pages = range(first, min(first + 64 * 256, len(data)), 256)
        batch = b"".join(page(at, data[at : at + 256], wait) for at in pages)
        answer = host.ask(batch, 2 * len(pages))
        answers += [answer[n : n + 2] for n in range(0, len(answer), 2)]
    return answers


def test_pipelined_program_with_enough_wait() -> None:
    host = Host()
    data = random.Random(1).randbytes(1 << 18)
    start, cpu = host.clock.now(), time.process_time()
    assert program(host, data, 0.000402) == [b"\x02\x00"] * 1024
    assert time.process_time() - cpu < 2
    assert host.sim.die.content[: 1 << 18] == data
    limit = 1024 * (263 * 8 / 30e6 + 0.0004)
    assert limit < host.clock.now() - start < 1.05 * limit


def test_too_short_a_wait_skips_pages_and_never_misplaces_them() -> None:
    host = Host(faults=Faults(slow=0.1))
    data = random.Random(1).randbytes(1 << 17)
    answers = program(host, data, 0.000402)
    content = host.sim.die.content
    skipped = 0
    for number, status in enumerate(answers):
        place = slice(number * 256, number * 256 + 256)
        if status[0] == 0x02:
            assert content[place] == data[place]
        else:
            skipped += 1
            assert status[0] == 0x03
            assert content[place] == b"\xff" * 256
    assert 50 < skipped < 400
    assert host.sim.stats["primitives"] == len(answers) - skipped


@pytest.mark.slow
def test_a_whole_chip() -> None:
    host = Host()
    data = random.Random(1).randbytes(16 << 20)
    cpu, start = time.process_time(), host.clock.now()
    assert set(program(host, data, 0.000402)) == {b"\x02\x00"}
    assert host.clock.now() - start < 1.1 * 65536 * (263 * 8 / 30e6 + 0.0004)
    start = host.clock.now()
    host.write(LOW + wr(b"\x03\x00\x00\x00") + rd(65536) * 256 + HIGH + b"\x87")
    assert host.read(16 << 20, size=16384) == data
    assert host.clock.now() - start < 1.02 * 4.474
    assert time.process_time() - cpu < 30


@pytest.mark.parametrize(
    ("command", "answer"),
    [(b"\x81", b"\xfc"), (b"\xaa", b"\xfa\xaa"), (b"\x22\x07", b"\xff"), (b"\x83", b"\xff")],
)
def test_every_answering_command_waits_for_room(command: bytes, answer: bytes) -> None:
    host = Host()
    count = 1100 // len(answer)
    host.write(command * count + b"\x87")
    host.clock.sleep(0.1)
    host.inp(0x05, 2)
    inbox = host.sim.backend.chip.engine.inbox
    assert 1024 - len(answer) < len(inbox) <= 1024, "the rest waits in the OUT FIFO"
    assert host.read(count * len(answer)) == answer * count


TINY = replace(W25Q128, size=64 * 1024, erase=(replace(W25Q128.erase[0], length=64 * 1024),))
COMMANDS = [
    b"\x06", b"\x04", b"\x05" + bytes(3), b"\x9f" + bytes(5), b"\x03\x00\x00\x00" + bytes(20),
    b"\x0b\x00\x01\x00\x00" + bytes(9), b"\x02\x00\x00\x05" + b"\x5a" * 7, b"\x20\x00\x00\x00",
    b"\x90\x00\x00\x01" + bytes(3), b"\xab" + bytes(5), b"\x4b" + bytes(10),
    b"\x48\x00\x10\x00" + bytes(5),
]  # fmt: skip


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_how_a_window_is_cut_into_runs_makes_no_difference(data: st.DataObject) -> None:
    whole, cut = Bench(TINY), Bench(TINY)
    for bench in (whole, cut):
        bench.die.content[:512] = random.Random(3).randbytes(512)
    for command in data.draw(st.lists(st.sampled_from(COMMANDS), min_size=1, max_size=8)):
        whole.die.select()
        expected = whole.die.exchange(command)
        whole.die.deselect()
        cut.die.select()
        value, left, answer = int.from_bytes(command), 8 * len(command), 0
        while left:
            count = data.draw(st.integers(1, left))
            if data.draw(st.booleans()):
                cut.die.miso()
            bits = value >> (left - count) & (1 << count) - 1
            if count % 8 == 0:
                part = int.from_bytes(cut.die.exchange(bits.to_bytes(count // 8)))
            else:
                part = cut.die.exchange_bits(bits, count)
            answer, left = answer << count | part, left - count
        cut.die.deselect()
        assert answer.to_bytes(len(command)) == expected
        pause = data.draw(st.sampled_from((0.0, 0.0002, 10.0)))
        for bench in (whole, cut):
            bench.wait(pause)
    assert whole.die.content == cut.die.content
    assert whole.die.wel == cut.die.wel


def test_flag_status_poll() -> None:
    bench = Bench(replace(MT25Q256, quirks=frozenset({"flag-status-poll"})))
    bench.program(0, b"\x00")
    bench.program(1, b"\x00")
    assert bench("03000000", 2).hex() == "00ff", "70h was not read"
    assert bench("70", 1) == b"\x80"
    bench.program(1, b"\x00")
    assert bench("03000000", 2).hex() == "0000"
