"""Recording bus traffic and serving it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import DieBus, pattern, small_chip

from hwflash.bus.abilities import Limits, limits_of
from hwflash.bus.replay import ReplayBus
from hwflash.bus.spi import Op, Transfer, Wait
from hwflash.bus.trace import RecordingBus, decode_bytes, encode_bytes, encode_op
from hwflash.errors import EnvironmentFault, ImageError, ProgrammerError, ProgrammerLost
from hwflash.flash.nor import NorFlash

READ_ID = Transfer(b"\x9f", 3)
BATCHES: list[list[Op]] = [
    [READ_ID, Wait(0.001), Transfer(b"\x05", 1)],
    [Transfer(b"\x03\0\0\0", 4096)],
    [],
]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """`BATCHES` on an erased chip, and a change of SCK behind the first."""
    path = tmp_path / "trace.jsonl"
    bus = RecordingBus(DieBus(small_chip()), path, simulated=True)
    bus.execute(BATCHES[0])
    bus.set_frequency(1e6)
    for batch in BATCHES[1:]:
        bus.execute(batch)
    bus.finish()
    return path


def replayed(path: Path) -> ReplayBus:
    bus = ReplayBus(path)
    bus.execute(BATCHES[0])
    bus.set_frequency(1e6)
    return bus


def test_what_a_trace_looks_like(trace: Path) -> None:
    header, first, change, second, empty = map(json.loads, trace.read_text().splitlines())
    assert header == {"trace": 1, "frequency": 30e6, "simulated": True}
    assert first["ops"] == [["9f", 3], 0.001, ["05", 1]]
    assert first["answers"] == ["ef4011", "00"]
    assert first["time"] == pytest.approx(0.001 + 6 * 8 / 30e6)
    assert change == {"ops": [{"sck": 1e6}], "frequency": 1e6}
    assert (second["ops"], second["answers"]) == ([["03000000", 4096]], ["ff*4096"])
    assert (empty["ops"], empty["answers"]) == ([], [])


def test_replay_gives_answers_time_and_frequency(trace: Path) -> None:
    bus = ReplayBus(trace)
    assert (bus.frequency, bus.simulated) == (30e6, True)
    assert bus.execute(BATCHES[0]) == [b"\xef\x40\x11", b"", b"\0"]
    assert bus.clock.now() == pytest.approx(0.0010016)
    bus.set_frequency(1e6)
    assert bus.frequency == 1e6
    assert bus.execute(BATCHES[1]) == [b"\xff" * 4096]
    assert bus.clock.now() == pytest.approx(0.0010016 + 4100 * 8e-6)
    assert bus.execute([]) == []
    assert bus.stats.sck_bytes == 4 + 2 + 4100
    bus.clock.sleep(1.0)
    bus.close()
    bus.finish()


@pytest.mark.parametrize(
    ("sent", "place", "recorded", "now"),
    [
        ([Transfer(b"\x9f", 4), *BATCHES[0][1:]], 1, "9f then 3 in", "9f then 4 in"),
        ([READ_ID, Wait(0.002), Transfer(b"\x05", 1)], 2, "a wait of 0.001 s", "a wait of 0.002 s"),
        ([READ_ID, Transfer(b"\x05", 1)], 2, "a wait of 0.001 s", "05 then 1 in"),
        (BATCHES[0][:2], 3, "05 then 1 in", "nothing"),
        ([*BATCHES[0], Transfer(b"\x06")], 4, "nothing", "06 then 0 in"),
    ],
)
def test_the_first_difference(
    trace: Path, sent: list[Op], place: int, recorded: str, now: str
) -> None:
    bus = ReplayBus(trace)
    with pytest.raises(ProgrammerError) as caught:
        bus.execute(sent)
    assert caught.value.code == "trace.mismatch"
    assert caught.value.context["line"] == 2
    expected = BATCHES[0][place - 1 : place]
    assert caught.value.context["expected"] == (encode_op(expected[0]) if expected else None)
    assert caught.value.message == (
        f"line 2 of {trace}: operation {place} of the batch differs: recorded {recorded}, now {now}"
    )
    bus.finish()  # has been said already


def test_a_change_of_frequency_is_part_of_it(trace: Path) -> None:
    bus = ReplayBus(trace)
    bus.execute(BATCHES[0])
    with pytest.raises(ProgrammerError, match="recorded SCK 1 MHz, now 03000000 then 4096 in"):
        bus.execute(BATCHES[1])
    bus = ReplayBus(trace)
    bus.execute(BATCHES[0])
    with pytest.raises(ProgrammerError, match="recorded SCK 1 MHz, now SCK 2 MHz"):
        bus.set_frequency(2e6)


def test_more_and_less_than_was_recorded(trace: Path) -> None:
    bus = replayed(trace)
    with pytest.raises(ProgrammerError) as less:
        bus.finish()
    assert (less.value.code, less.value.context["line"]) == ("trace.unfinished", 4)
    bus = replayed(trace)
    for batch in BATCHES[1:]:
        bus.execute(batch)
    with pytest.raises(ProgrammerError) as more:
        bus.execute([READ_ID])
    assert (more.value.code, more.value.context["line"]) == ("trace.ended", 6)


def test_a_batch_that_failed_fails_again(tmp_path: Path) -> None:
    class Broken(DieBus):
        def execute(self, ops: object, /) -> list[bytes]:
            raise ProgrammerLost("gone", code="programmer.timeout")

    path = tmp_path / "trace.jsonl"
    bus = RecordingBus(Broken(small_chip()), path)
    with pytest.raises(ProgrammerLost):
        bus.execute([READ_ID])
    bus.finish()
    with pytest.raises(ProgrammerError) as caught:
        ReplayBus(path).execute([READ_ID])
    assert (caught.value.code, caught.value.context["cause"]) == (
        "trace.failed",
        "programmer.timeout",
    )


def test_limits_are_recorded(tmp_path: Path) -> None:
    class Narrow(DieBus):
        limits = Limits(100, 200)

    path = tmp_path / "trace.jsonl"
    bus = RecordingBus(Narrow(small_chip()), path)
    assert limits_of(bus) == Limits(100, 200)
    bus.close()
    assert limits_of(ReplayBus(path)) == Limits(100, 200)


def test_a_whole_job_through_recording_and_replay(tmp_path: Path) -> None:
    """Erase, program with retries (typical times) and read: the replay goes the same way."""
    path = tmp_path / "trace.jsonl"
    chip = small_chip()

    def job(flash: NorFlash) -> bytes:
        flash.erase(0, 64 * 1024)
        flash.program(0x100, pattern(40_000))
        return flash.read(0, chip.size)

    die = DieBus(chip, timing="typical", seed=5)
    recording = RecordingBus(die, path)
    first = job(NorFlash(recording, chip))
    recording.finish()
    assert first == die.die.content
    replay = ReplayBus(path)
    flash = NorFlash(replay, chip)
    assert job(flash) == first
    replay.finish()


@given(
    st.one_of(
        st.binary(max_size=40),
        st.builds(lambda b, n: bytes((b,)) * n, st.integers(0, 255), st.integers(0, 100_000)),
    )
)
def test_bytes_round_trip(data: bytes) -> None:
    assert decode_bytes(encode_bytes(data)) == data
    assert len(encode_bytes(data)) <= max(2 * len(data), 16)


@pytest.mark.parametrize("text", ["f", "ff*", "ff*0", "ff*-3", "ffff*3", "*3", "zz", "ff*3*4"])
def test_what_bytes_are_not(text: str) -> None:
    with pytest.raises(ValueError):
        decode_bytes(text)


HEADER = '{"trace": 1, "frequency": 30000000.0, "simulated": false}\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("hello\n", 1),
        ("[1]\n", 1),
        ('{"trace": 2, "frequency": 1.0}\n', 1),
        ('{"trace": 1, "frequency": "fast"}\n', 1),
        (HEADER + "{\n", 2),
        (HEADER + '{"answers": []}\n', 2),
        (HEADER + '{"ops": [["9f", 3]]}\n', 2),
        (HEADER + '{"ops": [["9f", 3]], "answers": []}\n', 2),
        (HEADER + '{"ops": [["9f", 3]], "answers": ["ef40"]}\n', 2),
        (HEADER + '{"ops": [["9f", 3]], "answers": ["zz"]}\n', 2),
        (HEADER + '{"ops": [["9f", 3]], "answers": [7]}\n', 2),
    ],
)
def test_files_that_are_no_trace(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    with pytest.raises(ImageError) as caught:
        ReplayBus(path).execute([READ_ID])
    assert caught.value.code == "trace.malformed"
    assert caught.value.context["line"] == line


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as read:
        ReplayBus(tmp_path / "absent")
    assert read.value.code == "trace.unreadable"
    with pytest.raises(EnvironmentFault) as write:
        RecordingBus(DieBus(small_chip()), tmp_path / "no" / "folder")
    assert write.value.code == "trace.unwritable"
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImageError):
        ReplayBus(tmp_path / "binary")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_does_not_stop_the_job() -> None:
    bus = RecordingBus(DieBus(small_chip()), Path("/dev/full"))
    assert bus.execute([READ_ID]) == [b"\xef\x40\x11"]
    with pytest.raises(EnvironmentFault) as caught:
        bus.finish()
    assert caught.value.code == "trace.unwritable"
