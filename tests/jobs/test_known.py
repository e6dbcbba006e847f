"""Content that is known without reading: assumed files, journals, and what happens when the
assumption is wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hwflash.errors import ChipStateUnknown
from hwflash.jobs.opening import Request
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.write import WriteOptions, resume, unfinished, write
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, NullReporter
from hwflash.units import KIB, MIB

SIZE = MIB


class Listener(NullReporter):
    def __init__(self) -> None:
        self.codes: list[object] = []

    def warning(self, message: str, /, **context: object) -> None:
        self.codes.append(context.get("code"))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = folder / "chip.bin"
        self.old = random.Random(5).randbytes(SIZE)
        self.image.write_bytes(self.old)
        self.listener = Listener()
        self.cancel = CancelToken()

    def open(self, options: str = "") -> Session:
        url = f"sim://w25q80dv?image={self.image}&timing=datasheet{options}"
        state = {"HWFLASH_STATE_DIR": str(self.folder / "state")}
        return open_session(Request(programmer=url, environ=state), self.listener)

    def write(self, new: bytes, assume: bytes | None = None, options: str = "") -> int:
        """Write the whole chip; the bytes that were clocked."""
        assumed = () if assume is None else (Segment(0, assume),)
        how = WriteOptions(self.folder / "state", assume=assumed)
        with self.open(options) as session:
            before = session.programmer.bus.stats.sck_bytes
            write(session, [Segment(0, new)], how, self.listener, self.cancel)
            return session.programmer.bus.stats.sck_bytes - before


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "state").mkdir()
    return Bench(tmp_path)


def changed(content: bytes, at: int, data: bytes) -> bytes:
    return content[:at] + data + content[at + len(data) :]


def test_a_right_assumption_saves_the_read(bench: Bench) -> None:
    new = changed(bench.old, 0x5678, b"\xff\xfe\xfd")
    clocked = bench.write(new, assume=bench.old)
    assert bench.image.read_bytes() == new
    assert clocked < 40 * KIB, "one sector read twice and written, and a few spots"
    assert bench.listener.codes == []


def test_a_wrong_assumption_in_what_changes_is_noticed(bench: Bench) -> None:
    new = changed(bench.old, 0x5678, b"\xff\xfe\xfd")
    wrong = changed(bench.old, 0x5000, b"\x00" * 16)
    clocked = bench.write(new, assume=wrong)
    assert bench.image.read_bytes() == new
    assert clocked > SIZE
    assert bench.listener.codes == ["assume.wrong"]


def test_another_image_altogether_is_noticed(bench: Bench) -> None:
    new = changed(bench.old, 0x80000, b"hwflash")
    bench.write(new, assume=random.Random(6).randbytes(SIZE))
    assert bench.image.read_bytes() == new
    assert bench.listener.codes == ["assume.wrong"]


def test_nothing_to_do_by_assumption_alone_is_not_believed(bench: Bench) -> None:
    new = changed(bench.old, 0x80003, bytes([bench.old[0x80003] ^ 0xFF]))
    clocked = bench.write(new, assume=new)
    assert bench.image.read_bytes() == new
    assert clocked > SIZE


def test_an_assumption_that_does_not_cover_the_target_is_not_used(bench: Bench) -> None:
    new = changed(bench.old, 0x80000, b"hwflash")
    clocked = bench.write(new, assume=bench.old[: SIZE // 2])
    assert bench.image.read_bytes() == new
    assert clocked > SIZE


def test_resume_takes_what_is_known_from_the_journal(bench: Bench) -> None:
    new = random.Random(8).randbytes(SIZE)
    with pytest.raises(ChipStateUnknown):
        bench.write(new, options="&power_cut=3500")
    state = bench.folder / "state"
    record = unfinished(state, None)
    with bench.open() as session:
        before = session.programmer.bus.stats.sck_bytes
        result = resume(session, record, WriteOptions(state), bench.listener, bench.cancel)
        clocked = session.programmer.bus.stats.sck_bytes - before
    assert bench.image.read_bytes() == new
    assert 0 < result.plan.bytes_of("program") < SIZE // 4
    assert clocked < 1.4 * SIZE, "verification reads everything, planning does not"


@pytest.mark.slow
def test_resume_reads_everything_when_the_backup_is_gone(bench: Bench) -> None:
    new = random.Random(9).randbytes(SIZE)
    with pytest.raises(ChipStateUnknown):
        bench.write(new, options="&power_cut=1000")
    state = bench.folder / "state"
    record = unfinished(state, None)
    Path(record.backup).unlink()
    with bench.open() as session:
        resume(session, record, WriteOptions(state), bench.listener, bench.cancel)
    assert bench.image.read_bytes() == new


def test_a_fast_clock_that_flips_bits_is_stepped_down(bench: Bench) -> None:
    new = changed(bench.old, 0x1000, random.Random(2).randbytes(300 * KIB))
    bench.write(new, options="&faults=flip=3e-6@9M")
    assert bench.image.read_bytes() == new
    assert set(bench.listener.codes) == {"chip.unstable-read"}
