from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Notes, Rig, pattern, small_chip
from writing import Job

from hwflash.errors import ChipStateUnknown, ChipTimeout, HwflashError, Interrupted
from hwflash.flash import execute
from hwflash.flash.device import Geometry
from hwflash.flash.execute import Executor, differences, gather, read_range, read_ranges
from hwflash.flash.journal import Journal, load
from hwflash.flash.pipeline import BATCH_PAGES
from hwflash.flash.plan import Step, Window, make_plan
from hwflash.progress import CancelToken, NullReporter, Progress
from hwflash.units import KIB, MIB, Range

SIZE = 64 * KIB
GEOMETRY = Geometry.of(small_chip(SIZE, chip_erase=None), 1e-6)


class Memory:
    """A flash device of bytes that may go wrong: ``broken`` bits never get programmed."""

    geometry = GEOMETRY

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.calls: list[tuple[str, int, int]] = []
        self.skip_programs = 0
        self.stuck: dict[int, int] = {}
        self.fail_at: int | None = None

    def _call(self, *call) -> None:
        self.calls.append(call)
        if len(self.calls) == self.fail_at:
            raise ChipTimeout("too slow", address=call[1], operation=call[0])

    def read(self, address: int, length: int) -> bytes:
        data = bytearray(self.content[address : address + length])
        for place, value in self.stuck.items():
            if address <= place < address + length:
                data[place - address] = value
        return bytes(data)

    def program(self, address: int, data: bytes) -> None:
        self._call("program", address, len(data))
        if self.skip_programs:
            self.skip_programs -= 1
            return
        for index, value in enumerate(data):
            self.content[address + index] &= value

    def erase(self, address: int, length: int) -> None:
        self._call("erase", address, length)
        self.content[address : address + length] = b"\xff" * length

    def sync(self) -> None:
        self._call("sync", 0, 0)


OLD = pattern(SIZE, 1)
NEW = OLD[:0x2000] + pattern(0x1800, 2) + OLD[0x3800:]
WINDOWS = [Window(0x2000, OLD[0x2000:0x4000], NEW[0x2000:0x4000])]
PLAN = make_plan("PART", GEOMETRY, WINDOWS)


class Bench:
    def __init__(self, tmp_path: Path) -> None:
        self.device = Memory(OLD)
        facts = {"programmer": "p", "jedec_id": "x", "unique_id": None, "backup": "b"}
        self.journal = Journal.create(tmp_path, PLAN, [w.new for w in WINDOWS], facts)
        self.notes, self.cancel = Notes(), CancelToken()
        self.executor = Executor(self.device, self.journal, self.notes, self.cancel)

    def run(self) -> None:
        try:
            self.executor.run(PLAN, WINDOWS, PLAN.changed)
        finally:
            self.journal.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_plan_is_carried_out_and_verified(bench: Bench) -> None:
    bench.run()
    assert bench.device.content == NEW
    assert [call[0] for call in bench.device.calls] == [
        "erase", "program", "erase", "program", "sync",
    ]  # fmt: skip
    record = load(bench.journal.folder)
    assert (record.begun, record.finished, record.unfinished) == (True, True, ())
    assert (bench.executor.mismatches, bench.executor.repairs) == ([], 0)
    assert bench.notes.phases == ["erase", "plan", "program", "verify"]
    for phase in bench.notes.phases:
        last = [event for event in bench.notes.events if event.phase == phase][-1]
        assert last.done == last.total


def test_what_verifies_wrong_is_written_again(bench: Bench) -> None:
    bench.device.skip_programs = 1
    bench.run()
    assert bench.device.content == NEW
    assert bench.executor.repairs == 1
    assert bench.executor.mismatches == [Range(0x2000, 0x1000)]
    assert len(bench.notes.warnings) == 1
    assert "verified wrong" in bench.notes.warnings[0][0]
    assert bench.notes.warnings[0][1]["address"] == 0x2000
    assert load(bench.journal.folder).finished


def test_what_stays_wrong_is_told(bench: Bench) -> None:
    bench.device.stuck = {0x2345: NEW[0x2345] ^ 1, 0x3000: NEW[0x3000] ^ 0x80}
    with pytest.raises(ChipStateUnknown) as caught:
        bench.run()
    assert (caught.value.code, caught.value.exit_code) == ("chip.verify-failed", 6)
    assert caught.value.context["address"] == 0x2345
    assert caught.value.context["mismatches"] == [
        {"address": 0x2345, "length": 1}, {"address": 0x3000, "length": 1},
    ]  # fmt: skip
    assert bench.executor.repairs == execute.REPAIRS
    assert not load(bench.journal.folder).finished


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_a_failure_after_the_first_step_is_an_unknown_state(bench: Bench, number: int) -> None:
    bench.device.fail_at = number
    with pytest.raises(ChipStateUnknown) as caught:
        bench.run()
    assert caught.value.code == "chip.state-unknown"
    assert caught.value.context["cause"] == "chip.timeout"
    assert caught.value.context["facts"]["operation"] == bench.device.calls[-1][0]
    assert isinstance(caught.value.__cause__, ChipTimeout)
    assert load(bench.journal.folder).begun


def test_an_error_of_python_is_no_exception(bench: Bench) -> None:
    bench.device.program = lambda *_: 1 / 0
    with pytest.raises(ChipStateUnknown) as caught:
        bench.run()
    assert caught.value.context["cause"] == "ZeroDivisionError"


def test_a_failure_before_the_first_step_changed_nothing(bench: Bench, tmp_path: Path) -> None:
    bench.cancel.cancel()
    with pytest.raises(Interrupted):
        bench.run()
    assert bench.device.calls == []
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_cannot_be_written_keeps_the_chip_untouched(bench: Bench) -> None:
    bench.journal._stream.close()
    bench.journal._stream = Path("/dev/full").open("a", encoding="utf-8")  # noqa: SIM115
    with pytest.raises(HwflashError) as caught:
        bench.run()
    assert (caught.value.code, caught.value.exit_code) == ("journal.unwritable", 3)
    assert bench.device.calls == []


# --- stopping -----------------------------------------------------------------------------------

TARGETS = {0x1000: pattern(0x3000, 7), 0x8000: pattern(0x2100, 8)}


@pytest.mark.parametrize("phase", ["read", "backup", "erase", "program", "verify"])
def test_stopping_in_every_phase(tmp_path: Path, phase: str) -> None:
    rig = Rig(small_chip(SIZE, chip_erase=None))
    rig.content[:] = OLD
    job = Job(rig, TARGETS, tmp_path)

    def stop(event: Progress) -> None:
        if event.phase == phase:
            job.cancel.cancel()

    job.notes.on_progress = stop
    result = job.write()
    assert phase in job.notes.phases
    if phase in ("read", "backup"):
        assert (result.code, result.exit_code) == ("interrupted", 130)
        assert job.content == job.before
        assert not list((tmp_path / "jobs").iterdir() if (tmp_path / "jobs").exists() else [])
    elif phase == "verify" and not isinstance(result, HwflashError):
        # asked to stop when the last byte was already verified
        assert job.content == job.after
    else:
        assert (result.code, result.exit_code) == ("chip.state-unknown", 6)
        assert result.context["cause"] == "interrupted"
        assert job.content != job.before
        rig.open()
        job.cancel = CancelToken()
        job.notes.on_progress = None
        assert not isinstance(job.resume(), HwflashError)
        assert job.content == job.after
    rig.close()


def test_a_declined_write_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(small_chip(SIZE))
    asked = []
    job = Job(rig, TARGETS, tmp_path, confirm=lambda plan: bool(asked.append(plan)))
    result = job.write()
    assert (result.code, result.exit_code) == ("interrupted.declined", 130)
    assert len(asked) == 1
    assert job.content == job.before
    rig.close()


# --- pieces ---------------------------------------------------------------------------------


def test_reading_in_pieces_with_progress() -> None:
    class Big:
        def read(self, address: int, length: int) -> bytes:
            assert length <= MIB
            return bytes((address // MIB,)) * length

    notes = Notes()
    data = read_range(Big(), Range(0, 2 * MIB + 5), phase="read", reporter=notes,
                      cancel=CancelToken())  # fmt: skip
    assert data == b"\0" * MIB + b"\1" * MIB + b"\2" * 5
    assert [(e.done, e.total, e.address) for e in notes.events] == [
        (MIB, 2 * MIB + 5, MIB), (2 * MIB, 2 * MIB + 5, 2 * MIB),
        (2 * MIB + 5, 2 * MIB + 5, 2 * MIB + 5),
    ]  # fmt: skip
    stop = CancelToken()
    notes.on_progress = lambda _: stop.cancel()
    with pytest.raises(Interrupted):
        read_range(Big(), Range(0, 2 * MIB), phase="read", reporter=notes, cancel=stop)


def test_several_ranges_are_one_phase() -> None:
    notes = Notes()
    found = read_ranges(Memory(OLD), [Range(0, 100), Range(500, 50)], phase="x", reporter=notes,
                        cancel=CancelToken())  # fmt: skip
    assert found == [OLD[:100], OLD[500:550]]
    assert [(e.phase, e.done, e.total) for e in notes.events] == [("x", 100, 150), ("x", 150, 150)]
    assert read_ranges(Memory(OLD), [], phase="x", reporter=NullReporter(),
                       cancel=CancelToken()) == []  # fmt: skip


@given(st.binary(max_size=9000), st.lists(st.tuples(st.integers(0, 8999), st.integers(1, 255))))
def test_differences_cover_exactly_what_differs(data: bytes, flips) -> None:
    found = bytearray(data)
    for place, value in flips:
        if place < len(found):
            found[place] ^= value
    ranges = differences(0x100, bytes(found), data)
    wrong = {0x100 + i for i, (a, b) in enumerate(zip(found, data, strict=True)) if a != b}
    covered = {place for r in ranges for place in range(r.address, r.end)}
    assert wrong <= covered
    for item in ranges:
        assert item.address in wrong
        assert item.end - 1 in wrong
    for one, other in pairwise(ranges):
        assert other.address - one.end > 16


STEPS = st.lists(
    st.tuples(st.sampled_from(["erase", "program", "program"]), st.integers(1, 300_000)),
    max_size=12,
)


@given(STEPS)
def test_gathering_keeps_order_and_bytes(wanted) -> None:
    steps, address = [], 0
    for kind, length in wanted:
        steps.append(Step(kind, Range(address, length), 1.0))
        address += length + length % 3000
    groups = list(gather(steps, 256))
    flat = [step for group in groups for step in group]
    joined: list[tuple[str, int, int]] = []
    for step in flat:
        last = joined[-1] if joined else None
        follows = last and last[0] == step.kind == "program" and last[2] == step.range.address
        cut = follows and step.range.address not in {s.range.address for s in steps}
        if cut:
            joined[-1] = (last[0], last[1], step.range.end)
        else:
            joined.append((step.kind, step.range.address, step.range.end))
    assert joined == [(s.kind, s.range.address, s.range.end) for s in steps]
    assert sum(s.seconds for s in flat) == pytest.approx(len(steps))
    for group in groups:
        kinds = {step.kind for step in group}
        assert len(kinds) == 1
        if kinds == {"erase"}:
            assert len(group) == 1
        else:
            assert group[-1].range.end - group[0].range.address <= execute.RUN_SPAN
            assert sum(-(-s.range.length // 256) for s in group) <= BATCH_PAGES
