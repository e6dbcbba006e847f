"""Protection that is lifted for a write comes back: after success, failure, cuts, a lost cable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import Rig, pattern, small_chip
from writing import Job, session_on

from hwflash.chip.model import ProtectionLayout, ProtectionStyle, RegisterBit, StatusCommands
from hwflash.chip.protection_choice import Locks
from hwflash.errors import (
    ChipError,
    ChipProtected,
    ChipStateUnknown,
    HwflashError,
    Interrupted,
    ProgrammerError,
)
from hwflash.flash import journal as journals
from hwflash.flash.protection import ProtectionAccess
from hwflash.jobs.lift import PROTECTION
from hwflash.jobs.lifting import pending
from hwflash.jobs.protect import (
    LockMode,
    ProtectOptions,
    clear_protection,
    lock_registers,
    set_protection,
)
from hwflash.units import KIB, Range

SIZE = 128 * KIB
BP = tuple(RegisterBit(1, bit) for bit in (2, 3, 4))
LAYOUT = ProtectionLayout(
    style=ProtectionStyle.BP,
    bp=BP,
    tb=RegisterBit(1, 5),
    sec=RegisterBit(1, 6),
    cmp=RegisterBit(2, 6),
    srp=(RegisterBit(1, 7), RegisterBit(2, 0)),
    unit=64 * KIB,
)
TWO = {1: 0x05, 2: 0x35}
JOINED = StatusCommands(read=TWO, write={1: 0x01})
#: 50h, both registers in one command; registers 2 and 3 by themselves; no 50h; one-time TB.
VOLATILE = small_chip(SIZE, status=replace(JOINED, volatile_enable=True), protection=LAYOUT)
LASTING = small_chip(
    SIZE, status=StatusCommands(read=TWO, write={1: 1, 2: 0x31}), protection=LAYOUT
)
ONE_TIME = small_chip(
    SIZE,
    jedec_id=bytes.fromhex("c22011"),
    status=StatusCommands(read={1: 0x05, 2: 0x15}),
    quirks=frozenset({"tb-one-time"}),
    protection=ProtectionLayout(
        style=ProtectionStyle.BP, bp=BP, tb=RegisterBit(2, 3), srp=(RegisterBit(1, 7),),
        unit=64 * KIB,
    ),
)  # fmt: skip
INDIVIDUAL = small_chip(
    256 * KIB,
    status=StatusCommands(read={**TWO, 3: 0x15}, write={1: 1, 2: 0x31, 3: 0x11}),
    protection=replace(LAYOUT, wps=RegisterBit(3, 2)),
)
SST26 = small_chip(
    SIZE, chip_erase=None, jedec_id=b"\xbf\x26\x41",
    protection=ProtectionLayout(style=ProtectionStyle.SST26),
)  # fmt: skip
#: Chip, and what its registers hold: everything locked, and quad enable or a burnt bit to keep.
CHIPS = {
    "volatile": (VOLATILE, {1: 0x1C, 2: 0x02}),
    "lasting": (LASTING, {1: 0, 2: 0x42}),  # CMP turns nothing into everything
    "one-time": (ONE_TIME, {1: 0x3C, 2: 0x00}),
    "individual": (INDIVIDUAL, {1: 0, 2: 2, 3: 4}),
    "sst26": (SST26, {}),
}
OLD = pattern(32 * KIB, 3)
TARGETS = {0x1080: pattern(700, 4), 0x3000: b"\xff" * 4096}


def rig_for(name: str, **options: object) -> Rig:
    chip, registers = CHIPS[name]
    rig = Rig(chip, flash=False, **options)
    die = rig.sim._die
    die.content[: len(OLD)] = OLD
    die.status.stored.update(registers)
    die.restart()
    rig.bus.close()
    rig._flash = True
    rig.open()
    return rig


def job_for(rig: Rig, state: Path, **options: object) -> Job:
    return Job(rig, TARGETS, state, **{"lift_protection": True, **options})


def locks(rig: Rig) -> object:
    die = rig.sim.die
    blocks = [die.locks.block_locked(at) for at in range(0, rig.chip.size, 4096)]
    return dict(die.status.live), die.locks.bpr, blocks if die.locks.individual else None


def stored(rig: Rig) -> dict[int, int]:
    return dict(rig.sim.die.status.stored)


@pytest.mark.parametrize("name", CHIPS)
def test_lifted_for_a_write_and_put_back(tmp_path: Path, name: str) -> None:
    rig = rig_for(name)
    before, kept = locks(rig), stored(rig)
    if name != "sst26":
        refused = job_for(rig, tmp_path / "no", lift_protection=False).write()
        assert isinstance(refused, ChipProtected), refused
        assert refused.code == "chip.protected"
        assert locks(rig) == before
        rig.revive()
    job = job_for(rig, tmp_path / "yes")
    result = job.write()
    assert not isinstance(result, HwflashError), result
    assert job.content == job.after != job.before
    assert (locks(rig), stored(rig)) == (before, kept)
    assert journals.unfinished_jobs(tmp_path / "yes" / "jobs") == []
    rig.close()


def test_a_lift_falls_back_to_lasting_writes(tmp_path: Path) -> None:
    """50h does nothing: the job's folder says that it was lifted for good before it is."""
    rig = rig_for("volatile", faults="volatile=ignored")
    before, kept = locks(rig), stored(rig)
    job, seen = job_for(rig, tmp_path), set[bool]()
    job.notes.on_progress = lambda _: seen.update(
        json.loads(path.read_text())["volatile"] for path in tmp_path.glob(f"jobs/*/{PROTECTION}")
    )
    result = job.write()
    assert not isinstance(result, HwflashError), result
    assert seen == {False}
    assert job.content == job.after
    assert (locks(rig), stored(rig)) == (before, kept)
    assert any("does not take volatile" in text for text, _ in job.notes.warnings)
    rig.close()


def test_a_lift_does_not_fall_back_where_the_catalog_says_no(tmp_path: Path) -> None:
    rig = rig_for("volatile", faults="volatile=ignored")
    rig.chip = replace(rig.chip, status=replace(rig.chip.status, lasting_instead=False))
    rig.flash.chip = rig.chip
    before = locks(rig)
    job = job_for(rig, tmp_path)
    result = job.write()
    assert isinstance(result, HwflashError)
    assert locks(rig) == before
    assert job.content == job.before
    rig.close()


@pytest.mark.parametrize("name", CHIPS)
def test_a_dry_run_lifts_nothing(tmp_path: Path, name: str) -> None:
    rig = rig_for(name)
    before = locks(rig)
    sent = rig.sim.die.primitives
    assert not isinstance(job_for(rig, tmp_path, dry_run=True).write(), HwflashError)
    assert (locks(rig), rig.sim.die.primitives) == (before, sent)
    rig.close()


def test_only_as_much_is_lifted_as_is_needed(tmp_path: Path) -> None:
    """The last 64 KiB stay locked while the first are written."""
    rig = rig_for("volatile")
    job, seen = job_for(rig, tmp_path), list[bool]()
    job.notes.on_progress = lambda _: seen.append(rig.sim.die.locks.refuses(SIZE - 1, 1))
    assert not isinstance(job.write(), HwflashError)
    assert seen
    assert all(seen)
    assert rig.sim.die.locks.refuses(0, SIZE)
    rig.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", CHIPS)
def test_power_is_cut_in_every_primitive(tmp_path: Path, name: str) -> None:
    """After `resume`, or after putting the backup back: the content, and the protection."""
    probe = rig_for(name)
    original, kept = locks(probe), stored(probe)
    probe.close()
    cuts = 0
    for number in range(1, 60):
        rig = rig_for(name, power_cut=number, seed=number)
        folder = tmp_path / f"{number}"
        job = job_for(rig, folder)
        error = job.write()
        if not isinstance(error, HwflashError):
            rig.close()
            break
        cuts += 1
        assert isinstance(error, ChipStateUnknown), (number, error)
        rig.revive()
        backup = str(error.context.get("backup", ""))
        if number % 2 or not backup:
            result = job.resume()
            assert not isinstance(result, HwflashError), (number, result)
            assert job.content == job.after, number
        else:
            result = job.restore(backup)
            assert not isinstance(result, HwflashError), (number, result)
            assert job.content == job.before, number
            if journals.unfinished_jobs(folder / "jobs"):  # no unique id: it may be another chip
                rig.revive()
                assert not isinstance(job.resume(), HwflashError)
                assert job.content == job.before, number
        assert (locks(rig), stored(rig)) == (original, kept), number
        assert journals.unfinished_jobs(folder / "jobs") == []
        rig.close()
    assert 5 <= cuts < 59


@pytest.mark.slow
@pytest.mark.parametrize("name", CHIPS)
def test_the_cable_is_pulled_at_every_usb_transfer(tmp_path: Path, name: str) -> None:
    """The board stays on, so the chip stays as it is left; a resume puts all of it back."""
    probe = rig_for(name)
    original, kept = locks(probe), stored(probe)
    probe.close()
    codes: list[int] = []
    for number in range(1, 600, 2 if name == "lasting" else 3):
        try:
            rig = rig_for(name, faults=f"disconnect={number}")
        except ProgrammerError:
            continue
        job = job_for(rig, tmp_path / f"{number}")
        error = job.write()
        if not isinstance(error, HwflashError):
            assert (locks(rig), stored(rig)) == (original, kept)
            rig.close()
            break
        codes.append(error.exit_code)
        state = rig.sim._die
        now = (dict(state.status.live), state.locks.bpr)
        if error.exit_code == 3:
            assert now == (original[0], original[1]), f"{number}: lifted, and nothing was said"
            assert bytes(state.content) == job.before
            rig.close()
            continue
        assert error.exit_code == 6, (number, error)
        rig.bus.close()
        rig.sim.plug()
        rig.open()
        result = job.resume()
        assert not isinstance(result, HwflashError), (number, result)
        assert job.content == job.after, number
        assert (locks(rig), stored(rig)) == (original, kept), number
        assert journals.unfinished_jobs(tmp_path / f"{number}" / "jobs") == []
        rig.close()
    assert codes.count(6) >= 10
    assert number < 590


@pytest.mark.parametrize("name", CHIPS)
def test_a_stop_puts_it_back_at_once(tmp_path: Path, name: str) -> None:
    """Ctrl-C in the middle: the content is half written, the protection is as it was."""
    rig = rig_for(name)
    before, kept = locks(rig), stored(rig)
    job = job_for(rig, tmp_path)
    job.notes.on_progress = lambda event: job.cancel.cancel() if event.phase == "plan" else None
    error = job.write()
    assert isinstance(error, ChipStateUnknown), error
    assert error.context["cause"] == "interrupted"
    assert (locks(rig), stored(rig)) == (before, kept)
    (left,) = journals.unfinished_jobs(tmp_path / "jobs")
    assert not left.lifted
    rig.revive()
    again = job_for(rig, tmp_path)
    assert not isinstance(again.resume(), HwflashError)
    assert again.content == job.after
    assert (locks(rig), stored(rig)) == (before, kept)
    rig.close()


def half_way(rig: Rig, folder: Path, at: int) -> Job:
    job = job_for(rig, folder)
    rig.sim._die.power_cut = at
    assert isinstance(job.write(), ChipStateUnknown)
    return job


def test_another_write_puts_back_what_an_older_one_left(tmp_path: Path) -> None:
    rig = rig_for("lasting")
    before = locks(rig)
    half_way(rig, tmp_path, 3)
    rig.revive()
    assert locks(rig) != before, "the registers are lasting ones: a cut leaves them lifted"
    other = Job(rig, {0x100: b"hello"}, tmp_path)
    session = session_on(rig)
    assert len(pending(session, tmp_path)) == 1
    session.close()
    rig.revive()
    assert not isinstance(other.write(), HwflashError)
    assert locks(rig) == before
    assert any("this write will" in text for text, _ in other.notes.warnings)
    (left,) = journals.unfinished_jobs(tmp_path / "jobs")
    assert not left.lifted, "its content is still half written, its protection is back"
    rig.close()


def test_a_new_setting_is_not_overwritten_by_an_old_write(tmp_path: Path) -> None:
    rig = rig_for("lasting")
    job = half_way(rig, tmp_path, 3)
    rig.revive()
    session = session_on(rig)
    set_protection(session, [Range(64 * KIB, 64 * KIB)], ProtectOptions(tmp_path), job.notes)
    session.close()
    rig.revive()
    chosen = locks(rig)
    assert not isinstance(job.resume(), HwflashError)
    assert job.content == job.after
    assert locks(rig) == chosen
    rig.close()


def test_a_chip_without_unique_id_keeps_a_setting_that_the_write_cannot_have_left(
    tmp_path: Path,
) -> None:
    """Set anew since, or it is another chip of the kind, with a protection of its own."""
    rig = rig_for("one-time")
    job = half_way(rig, tmp_path, 4)
    rig.revive()
    for where in (rig.sim._die.status.stored, rig.sim._die.status.live):
        where[1] = where[1] & ~0x1C | 0x10
    chosen = locks(rig)
    result = job.resume()
    assert not isinstance(result, HwflashError), result
    assert job.content == job.after
    assert locks(rig) == chosen
    assert any("stays as it is" in text for text, _ in job.notes.warnings)
    assert journals.unfinished_jobs(tmp_path / "jobs") == []
    rig.close()


def test_registers_that_are_locked_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    rig = rig_for("volatile")
    rig.sim._die.status.live[2] |= 1  # SRP1, SRP0 = 1, 0: until the supply goes away
    error = job_for(rig, tmp_path).write()
    assert isinstance(error, ChipProtected)
    assert error.code == "protection.register-locked"
    rig.revive()
    rig.sim._die.status.live[1] |= 0x80  # and WP# low
    rig.sim._die.status.live[2] &= ~1
    rig.sim._die.wp = False
    job = job_for(rig, tmp_path)
    error = job.write()
    assert isinstance(error, ChipProtected), error
    assert (error.code, error.exit_code) == ("protection.refused", 5)
    assert job.content == job.before
    assert journals.unfinished_jobs(tmp_path / "jobs") == [], "nothing was changed"
    rig.close()


def test_a_protection_that_cannot_be_put_back_is_an_error(tmp_path: Path) -> None:
    """WP# falls at the end: the bytes are right, the chip is open, and hwflash says so."""
    rig = rig_for("lasting")
    before = locks(rig)
    job = job_for(rig, tmp_path)
    access = ProtectionAccess.apply

    def refuse(self: ProtectionAccess, wanted: Locks, *more: object, **options: object) -> bool:
        if wanted.registers == before[0]:  # not the lifting, the putting back
            raise ChipProtected("WP# is low", code="protection.refused")
        return access(self, wanted, *more, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProtectionAccess, "apply", refuse)
        error = job.write()
    assert isinstance(error, ChipStateUnknown)
    assert error.code == "protection.not-restored"
    assert error.context["resume"]
    assert job.content == job.after
    rig.revive()
    assert not isinstance(job.resume(), HwflashError)
    assert locks(rig) == before
    assert job.content == job.after
    rig.close()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"v": 1, "before": null}', '{"v": 9}'])
def test_a_damaged_file_of_a_job(tmp_path: Path, text: str) -> None:
    rig = rig_for("lasting")
    job = half_way(rig, tmp_path, 3)
    rig.revive()
    (folder,) = (tmp_path / "jobs").iterdir()
    (folder / PROTECTION).write_text(text)
    before = locks(rig)
    error = job.resume()
    assert isinstance(error, HwflashError)
    assert error.code == "journal.damaged"
    assert locks(rig) == before
    rig.close()


def moved(folder: Path) -> None:
    """As if the job had run on another programmer."""
    (job,) = (folder / "jobs").glob("*/job.json")
    facts = json.loads(job.read_text())
    job.write_text(json.dumps({**facts, "programmer": "sim://other"}))


def test_a_chip_without_unique_id_resumed_on_another_programmer(tmp_path: Path) -> None:
    rig = rig_for("one-time")
    before = locks(rig)
    job = half_way(rig, tmp_path, 4)
    assert locks(rig) != before
    moved(tmp_path)
    rig.revive()
    result = job.resume()
    assert not isinstance(result, HwflashError), result
    assert job.content == job.after
    assert locks(rig) == before
    assert journals.unfinished_jobs(tmp_path / "jobs") == []
    rig.close()


def left_open(rig: Rig, folder: Path) -> Job:
    """Written and verified, killed before the protection was put back."""
    job = job_for(rig, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hwflash.jobs.lifting._put_back", killed)
        with pytest.raises(KeyboardInterrupt):
            job.write()
    rig.revive()
    assert job.content == job.after
    return job


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_another_chip_does_not_get_the_protection_of_the_one_that_was_written(
    tmp_path: Path,
) -> None:
    rig = rig_for("one-time")
    before = locks(rig)
    job = left_open(rig, tmp_path)
    moved(tmp_path)
    lifted, at = locks(rig), min(job.targets, key=lambda item: item.address).address
    rig.sim._die.content[at] ^= 1  # a chip of the same kind that was never written
    error = job.resume()
    assert isinstance(error, ChipError), error
    assert error.code == "journal.other-chip"
    assert locks(rig) == lifted
    rig.revive()
    rig.sim._die.content[at] ^= 1
    assert not isinstance(job.resume(), HwflashError)
    assert locks(rig) == before
    rig.close()


def test_a_write_that_another_one_made_pointless_still_puts_its_protection_back(
    tmp_path: Path,
) -> None:
    rig = rig_for("one-time")
    before = locks(rig)
    first = half_way(rig, tmp_path, 4)
    rig.revive()
    whole = dict.fromkeys((0x1000, 0x3000), bytes(4096))
    second = Job(rig, whole, tmp_path, lift_protection=True)
    assert not isinstance(second.write(), HwflashError)
    assert any("chip like this one" in text for text, _ in second.notes.warnings)
    assert locks(rig) != before
    rig.revive()
    result = first.resume()
    assert not isinstance(result, HwflashError), result
    assert locks(rig) == before
    assert second.content == second.after
    rig.close()


def test_the_same_write_again_puts_back_what_was_left(tmp_path: Path) -> None:
    """It has nothing to write, and must not say that all is well with the chip left open."""
    rig = rig_for("lasting")
    before = locks(rig)
    job = left_open(rig, tmp_path)
    open_ = locks(rig)
    assert open_ != before
    declined = job_for(rig, tmp_path, confirm=lambda _: False)
    assert isinstance(declined.write(), Interrupted)
    rig.revive()
    assert not isinstance(job_for(rig, tmp_path, dry_run=True).write(), HwflashError)
    assert locks(rig) == open_
    rig.revive()
    again = job_for(rig, tmp_path, lift_protection=False)
    result = again.write()
    assert not isinstance(result, HwflashError), result
    assert not result.executed
    assert locks(rig) == before
    assert job.content == job.after
    assert journals.unfinished_jobs(tmp_path / "jobs") == []
    rig.close()


def test_what_an_unfinished_write_lifted_is_not_locked_open(tmp_path: Path) -> None:
    rig = rig_for("lasting")
    before = locks(rig)
    job = left_open(rig, tmp_path)
    open_ = locks(rig)
    session, how = session_on(rig), ProtectOptions(tmp_path)
    for mode in (LockMode.WP_PIN, LockMode.POWER_CYCLE, LockMode.PERMANENT):
        with pytest.raises(ChipProtected) as caught:
            lock_registers(session, mode, how, job.notes)
        assert caught.value.code == "protection.lifted"
    assert locks(rig) == open_
    lock_registers(session, LockMode.NONE, how, job.notes)
    assert pending(session, tmp_path), "a lock of the registers says nothing of the range"
    session.close()
    rig.revive()
    assert not isinstance(job.resume(), HwflashError)
    assert locks(rig) == before
    rig.close()


def test_who_says_that_nothing_is_to_be_locked_is_believed(tmp_path: Path) -> None:
    """Also when the unfinished write had lifted everything already."""
    rig = rig_for("lasting")
    job = half_way(rig, tmp_path, 3)
    rig.revive()
    rig.sim._die.status.stored.update({1: 0, 2: 0})
    rig.sim._die.restart()
    session = session_on(rig)
    assert len(pending(session, tmp_path)) == 1
    assert not clear_protection(session, None, ProtectOptions(tmp_path), job.notes).executed
    assert pending(session, tmp_path) == []
    session.close()
    rig.close()


def test_a_job_file_cannot_name_the_bits_that_may_change(tmp_path: Path) -> None:
    """Locks of security registers, SRP1: a damaged file must not burn them."""
    rig = rig_for("lasting")
    before, kept = locks(rig), stored(rig)
    job = left_open(rig, tmp_path)
    (folder,) = (tmp_path / "jobs").iterdir()
    lift = json.loads((folder / PROTECTION).read_text())
    lift["before"]["registers"]["2"] |= 0x39
    lift["allow"] = {"1": 255, "2": 255}
    (folder / PROTECTION).write_text(json.dumps(lift))
    assert not isinstance(job.resume(), HwflashError)
    assert (locks(rig), stored(rig)) == (before, kept)
    rig.close()


def test_a_job_file_without_a_register_is_damaged(tmp_path: Path) -> None:
    rig = rig_for("lasting")
    job = left_open(rig, tmp_path)
    now = locks(rig)
    (folder,) = (tmp_path / "jobs").iterdir()
    lift = json.loads((folder / PROTECTION).read_text())
    del lift["before"]["registers"]["2"]
    (folder / PROTECTION).write_text(json.dumps(lift))
    error = job.resume()
    assert isinstance(error, HwflashError)
    assert error.code == "journal.damaged"
    assert locks(rig) == now
    rig.close()
