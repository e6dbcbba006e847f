"""The write job below the command line: any targets, any old content, and its odd endings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Notes, pattern

from hwflash.errors import ChipStateUnknown, Interrupted, UsageError
from hwflash.flash.plan import Plan
from hwflash.jobs.history import FILE
from hwflash.jobs.opening import Request
from hwflash.jobs.read import read, verify
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.write import WriteOptions, WriteResult, resume, unfinished, write
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, NullReporter
from hwflash.units import KIB, Range

SIZE = 256 * KIB


@pytest.fixture
def request_for(tmp_path: Path) -> Request:
    environ = {"HWFLASH_STATE_DIR": str(tmp_path / "state")}
    return Request(programmer=f"sim://p25q21h?image={tmp_path / 'chip.bin'}", environ=environ)


def options(folder: Path, **changes: object) -> WriteOptions:
    (folder / "state").mkdir(exist_ok=True)
    return WriteOptions(state=folder / "state", **changes)  # type: ignore[arg-type]


def run(
    session: Session, targets: list[Segment], how: WriteOptions, notes: Notes | None = None
) -> WriteResult:
    return write(session, targets, how, notes or NullReporter(), CancelToken())


target = st.tuples(
    st.integers(0, SIZE - 1),
    st.integers(1, 9000),
    st.sampled_from(["random", "zeros", "erased", "same"]),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(1, 99),
    blank=st.booleans(),
    wanted=st.lists(target, min_size=1, max_size=4),
    full=st.booleans(),
)
def test_what_was_asked_for_stands_there_and_nothing_else_moved(
    tmp_path: Path,
    request_for: Request,
    seed: int,
    blank: bool,
    wanted: list[tuple[int, int, str]],
    full: bool,
) -> None:
    old = b"\xff" * SIZE if blank else pattern(SIZE, seed)
    (tmp_path / "chip.bin").write_bytes(old)
    model = bytearray(old)
    targets: list[Segment] = []
    for address, length, kind in sorted(wanted):
        if targets and address < targets[-1].range.end:
            continue
        end = min(address + length, SIZE)
        data = {
            "random": pattern(end - address, seed + address + 1),
            "zeros": bytes(end - address),
            "erased": b"\xff" * (end - address),
            "same": old[address:end],
        }[kind]
        targets.append(Segment(address, data))
        model[address:end] = data
    with open_session(request_for, NullReporter()) as session:
        result = run(session, targets, options(tmp_path, verify_full=full))
        assert verify(session, targets, NullReporter(), CancelToken()).mismatches == ()
    assert (tmp_path / "chip.bin").read_bytes() == model
    assert result.executed == (bytes(model) != old)
    different = {at // 256 for at in range(SIZE) if model[at] != old[at]}
    touched = {at // 256 for item in result.changed for at in range(item.address, item.end, 256)}
    touched |= {(item.end - 1) // 256 for item in result.changed}
    assert different <= touched


def test_targets_must_not_overlap_or_leave_the_chip(tmp_path: Path, request_for: Request) -> None:
    with open_session(request_for, NullReporter()) as session:
        how = options(tmp_path)
        for targets, code in (
            ([Segment(0, bytes(10)), Segment(9, bytes(1))], "usage.overlap"),
            ([Segment(9, bytes(1)), Segment(0, bytes(10))], "usage.overlap"),
            ([Segment(SIZE - 1, bytes(2))], "usage.address"),
            ([Segment(-1, bytes(2))], "usage.address"),
        ):
            with pytest.raises(UsageError) as caught:
                run(session, targets, how)
            assert caught.value.code == code
    assert set((tmp_path / "chip.bin").read_bytes()) == {0xFF}


def test_whoever_confirms_sees_the_plan_that_is_carried_out(
    tmp_path: Path, request_for: Request
) -> None:
    seen: list[Plan] = []

    def confirm(plan: Plan) -> bool:
        seen.append(plan)
        return len(seen) > 1

    how = options(tmp_path, confirm=confirm)
    with open_session(request_for, NullReporter()) as session:
        with pytest.raises(Interrupted) as caught:
            run(session, [Segment(100, b"data")], how)
        assert caught.value.code == "interrupted.declined"
        assert session.flash.read(100, 4) == b"\xff" * 4
        result = run(session, [Segment(100, b"data")], how)
    assert result.plan == seen[0] == seen[1]
    assert result.changed == (Range(100, 4),)


def test_a_history_that_cannot_be_written_is_a_warning(
    tmp_path: Path, request_for: Request
) -> None:
    how, notes = options(tmp_path), Notes()
    (how.state / FILE).mkdir()
    with open_session(request_for, notes) as session:
        assert run(session, [Segment(0, b"data")], how, notes).executed
    assert [message for message, _ in notes.warnings if "history" in message]


def test_a_stop_is_heard_within_a_batch_of_pages(tmp_path: Path, request_for: Request) -> None:
    cancel, notes = CancelToken(), Notes()
    notes.on_progress = lambda event: cancel.cancel() if event.phase == "program" else None
    data = pattern(SIZE, 3)
    with open_session(request_for, notes) as session:
        with pytest.raises(ChipStateUnknown) as caught:
            write(session, [Segment(0, data)], options(tmp_path), notes, cancel)
        assert caught.value.context["cause"] == "interrupted"
        programmed = [event for event in notes.events if event.phase == "program"]
        assert len(programmed) == 1
        assert programmed[0].done <= 64 * KIB
        record = unfinished(tmp_path / "state", None)
        assert record.name == caught.value.context["resume"]
        result = resume(session, record, options(tmp_path), notes, CancelToken())
        assert result.executed
        assert session.flash.read(0, SIZE) == data


def test_reads_of_several_ranges_are_hashed_together(request_for: Request) -> None:
    with open_session(request_for, NullReporter()) as session:
        ranges = [Range(0, 10), Range(1000, 5)]
        found = read(session, ranges, NullReporter(), CancelToken(), repeat=2)
        assert found.pieces == ((ranges[0], b"\xff" * 10), (ranges[1], b"\xff" * 5))
        once = read(session, [Range(0, 15)], NullReporter(), CancelToken())
        assert found.sha256 == once.sha256
