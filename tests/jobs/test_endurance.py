"""The endurance test: what it calls a loss, when it cuts, and a board that ruins its store."""

from __future__ import annotations

import lzma
import random
import struct
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from fake_board import OVMF_2M, SOUND, FakeBoard, store_volume, variable

from hwflash.errors import ChipStateUnknown, ImageError, Interrupted
from hwflash.jobs.endurance import EnduranceOptions, filling, run_endurance
from hwflash.jobs.endurance_cut import CutPlan, Cutter, LinkedToken, plan_cut
from hwflash.jobs.endurance_judge import Expected, Place, judge
from hwflash.jobs.endurance_result import html_page
from hwflash.jobs.history import open_history
from hwflash.progress import CancelToken, NullReporter
from hwflash.uefi.exchange import Variable, variables_of
from hwflash.uefi.find import find_stores
from hwflash.uefi.records import State

QUIET, GO = NullReporter(), CancelToken()
DATA = Path(__file__).parents[1] / "data"
GUID = UUID("11111111-2222-3333-4444-555555555555")
KEY, OLD, NEW = ("Own", GUID), (7, b"old"), (7, b"new")


def own(value: tuple[int, bytes]) -> Variable:
    return Variable(KEY[0], KEY[1], value[0], value[1])


OTHER = Variable("Firmware", GUID, 7, b"x")


# --- what must be there -------------------------------------------------------------------


def test_a_variable_that_is_being_set_has_its_old_or_its_new_value() -> None:
    expected = Expected([OTHER])
    expected.begin(KEY, OLD)
    assert expected.missing([OTHER]) == []
    assert expected.missing([OTHER, own(OLD)]) == []
    expected.done(KEY, OLD)
    assert expected.missing([OTHER]) == ["Own is gone"]
    expected.begin(KEY, NEW)
    assert expected.missing([OTHER, own(OLD)]) == []
    assert expected.missing([OTHER, own(NEW)]) == []
    assert expected.missing([OTHER, own((7, b"nld"))]) == ["Own has a value that nobody has set"]
    assert expected.missing([OTHER, own((3, b"new"))]) == ["Own has a value that nobody has set"]
    expected.done(KEY, NEW)
    assert expected.missing([OTHER, own(OLD)]) == ["Own has a value that nobody has set"]


def test_after_a_cut_what_is_there_is_what_must_stay() -> None:
    expected = Expected([OTHER, own(OLD)])
    expected.begin(KEY, NEW)
    expected.settle([OTHER, own(OLD)])
    assert expected.missing([OTHER, own(NEW)]) == ["Own has a value that nobody has set"]


def test_the_firmware_s_own_may_change_and_must_not_go() -> None:
    expected = Expected([OTHER, Variable("MTC", GUID, 7, b"1")], ignore=["MTC"])
    assert expected.missing([replace(OTHER, data=b"another")]) == []
    assert expected.missing([]) == ["Firmware is gone"]


# --- what a cut has left: the recorded reclaim of a real OVMF -----------------------------


def recorded(count: int) -> list[bytes]:
    """The volume after some of the firmware's own operations, from none to all of them."""
    data = lzma.decompress((DATA / "ovmf-2m-reclaim.ops.xz").read_bytes())
    image = bytearray(lzma.decompress((DATA / "ovmf-2m-reclaim.pre.fd.xz").read_bytes()))
    found, at = [bytes(image)], 0
    while at < len(data):
        address, length = struct.unpack_from("<IH", data, at + 1)
        size = 7 + length if data[at] == ord("w") else 7
        for index in range(length):
            byte = data[at + 7 + index] if size > 7 else 0
            image[address + index] = image[address + index] & byte if size > 7 else 0xFF
        at += size
        if at * count // len(data) >= len(found):
            found.append(bytes(image))
    return found


@pytest.mark.slow
def test_the_phases_of_a_real_reclaim_are_told_apart_and_nothing_is_lost() -> None:
    images = recorded(40)
    (first,) = find_stores(images[0])
    assert first.store is not None
    place, expected = Place.of(first), Expected(variables_of(first.store))
    judged = [judge(place, images[0], image, expected) for image in images]
    assert [item.why for item in judged if item.verdict not in ("kept", "recoverable")] == []
    states = {item.state for item in judged}
    assert "at rest" in states
    assert sum(state.startswith("write of the store: ") for state in states) >= 3, states


@pytest.mark.parametrize(
    ("change", "state", "verdict"),
    [
        (lambda image: image, "at rest", "kept"),
        (lambda image: b"\xff" * len(image), "erased", "lost"),
        (lambda image: b"\x00" * 64 + image[64:], "volume header not whole", "broken"),
        (lambda image: store_volume(variable("Setting0", b"zero")), "at rest", "lost"),
        (
            lambda image: store_volume(
                variable("Setting0", b"zero"),
                variable("Setting1", b"one"),
                replace(variable("Half", b"value"), state=int(State.HEADER_VALID_ONLY)),
            ),
            "record: header written, data not complete",
            "kept",
        ),
    ],
)
def test_verdicts(change: object, state: str, verdict: str) -> None:
    (found,) = find_stores(SOUND)
    assert found.store is not None
    expected = Expected(variables_of(found.store))
    judged = judge(Place.of(found), SOUND, change(SOUND), expected)  # type: ignore[operator]
    assert (judged.state, judged.verdict) == (state, verdict)
    assert bool(judged.why) == (verdict != "kept")


def test_a_store_is_filled_up_with_dead_records() -> None:
    (found,) = find_stores(SOUND)
    assert found.store is not None
    segment = filling(found, 600)
    assert segment is not None
    image = SOUND[: segment.address] + segment.data + SOUND[segment.range.end :]
    (filled,) = find_stores(image)
    assert filled.healthy
    assert filled.store is not None
    assert 600 <= filled.store.usage.free < 700
    assert variables_of(filled.store) == variables_of(found.store)
    assert filling(filled, 600) is None, "it is full"


# --- when it is cut -----------------------------------------------------------------------


def test_the_same_seed_cuts_at_the_same_moments() -> None:
    (found,) = find_stores(SOUND)
    place = Place.of(found)

    def plans(seed: int) -> list[CutPlan]:
        return [
            plan_cut(random.Random(f"{seed} {number}"), 10, place, found, watched=True)
            for number in range(200)
        ]

    assert plans(1) == plans(1)
    assert plans(1) != plans(2)
    assert {item.where for item in plans(1)} == {
        "at a random time",
        "on a change in the work space",
        "on a change in the spare area",
        "on a change in the room behind the last record",
        "on a change in the variables",
    }
    for item in plans(1):
        assert 0 <= item.after <= 10
        assert item.address is None or 0 <= item.address < OVMF_2M.length


def test_a_byte_that_changes_triggers_the_cut(tmp_path: Path) -> None:
    image, cut = tmp_path / "chip.bin", []
    image.write_bytes(bytes(0x2000))
    plan = CutPlan(60, 0x1234, 0.0, "on a change")
    with Cutter(plan, lambda: 0.0, lambda: cut.append(1), image, GO) as cutter:
        assert not cutter.fired.wait(0.05)
        with image.open("r+b") as chip:
            chip.seek(0x1233)
            chip.write(b"!")
        assert not cutter.fired.wait(0.05)
        with image.open("r+b") as chip:
            chip.seek(0x1234)
            chip.write(b"!")
        assert cutter.fired.wait(5)
    assert (cut, cutter.by_byte) == ([1], True)


def test_a_request_to_stop_keeps_the_cutter_from_cutting(tmp_path: Path) -> None:
    cancel, cut = CancelToken(), []
    with Cutter(CutPlan(60, None, 0, ""), lambda: 0.0, lambda: cut.append(1), None, cancel) as it:
        cancel.cancel()
        it.join(5)
        assert not it.is_alive()
    assert cut == []


def test_a_cutter_that_fails_is_waited_for_no_longer(tmp_path: Path) -> None:
    plan = CutPlan(60, 0x1234, 0.0, "on a change")
    gone = tmp_path / "gone.bin"
    with (
        pytest.raises(FileNotFoundError),
        Cutter(plan, lambda: 0.0, lambda: None, gone, GO) as cutter,
    ):
        assert cutter.fired.wait(5)


def test_a_linked_request_to_stop() -> None:
    parent = CancelToken()
    own_token = LinkedToken(parent)
    own_token.cancel()
    assert own_token.cancelled
    assert not parent.cancelled
    own_token.reset()
    own_token.check()
    parent.cancel()
    assert own_token.cancelled
    with pytest.raises(Interrupted):
        own_token.check()


# --- a whole test, of a board that is no QEMU ---------------------------------------------

#: Each boot appends a variable; the third erases the store instead.
RUINS = """
def on():
    boots = open(LOG).read().split().count('on') if os.path.exists(LOG) else 0
    with open(CHIP, 'r+b') as chip:
        if boots == 3:
            chip.write(b'\\xff' * 0x20000)
"""


def endure(fake: FakeBoard, folder: Path, cycles: int = 4, **options: object) -> object:
    (folder / "state").mkdir(parents=True, exist_ok=True)
    told = EnduranceOptions(
        cycles, folder, window=0.05, stress="boot", state=folder / "state", **options
    )
    return run_endurance(fake.request(), told, QUIET, GO)


@pytest.mark.slow
def test_a_lost_store_is_kept_put_back_and_counted(tmp_path: Path) -> None:
    ruins = RUINS.replace("LOG", repr(str(tmp_path / "power.log")))
    fake = FakeBoard(tmp_path, ruins)
    result = endure(fake, tmp_path / "out")
    assert [item.verdict for item in result.cycles] == ["kept", "kept", "lost", "kept"]
    assert result.lost == 1
    assert result.cycles[2].start == "at rest"
    assert result.cycles[3].start == "put back"
    kept = tmp_path / "out" / "lost-0003.bin"
    assert result.cycles[2].kept == kept
    assert kept.read_bytes() == b"\xff" * 0x20000
    assert (tmp_path / "out" / "before.bin").read_bytes() == fake.chip.read_bytes()
    assert result.by_state()["erased"] == {"lost": 1}
    assert result.by_start()["put back"] == {"kept": 1}
    page = html_page(result)
    assert "NOT PASSED" in page
    assert "<script" not in page
    with open_history(tmp_path / "out" / "state", create=False) as history:
        (entry,) = history.entries()
    assert (entry.kind, entry.outcome, entry.details["lost"]) == ("endurance", "differs", 1)
    assert fake.switched[-1] == "off"
    fake.close()


def test_a_store_that_is_broken_already_is_not_tested(tmp_path: Path) -> None:
    fake = FakeBoard(tmp_path)
    content = bytearray(fake.chip.read_bytes())
    content[0x48:0x60] = bytes(0x18)
    fake.chip.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        endure(fake, tmp_path / "out")
    assert caught.value.code == "uefi.unhealthy"
    assert "on" not in fake.switched
    fake.chip.write_bytes(b"\x55" * len(content))
    with pytest.raises(ImageError) as caught:
        endure(fake, tmp_path / "out")
    assert caught.value.code == "uefi.no-store"
    fake.close()


def test_a_stop_leaves_the_board_off_and_says_the_way_back(tmp_path: Path) -> None:
    fake, cancel = FakeBoard(tmp_path), CancelToken()
    (tmp_path / "out").mkdir()
    told = EnduranceOptions(50, tmp_path / "out", window=0.01, stress="boot")
    with pytest.raises(ChipStateUnknown) as caught:
        run_endurance(fake.request(), told, QUIET, cancel, lambda _: cancel.cancel())
    assert caught.value.context["before"] == str(tmp_path / "out" / "before.bin")
    assert caught.value.context["cycles"] == 1
    assert caught.value.context["cause"] == "interrupted"
    assert fake.switched[-1] == "off"
    fake.close()
