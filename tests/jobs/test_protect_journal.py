"""A change of the protection that is killed or unplugged between two register writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import DieBus, Notes, failure, mostly_slow, session_over, small_chip

from hwflash.bus.spi import Transfer
from hwflash.chip import catalog
from hwflash.chip.model import Chip, ProtectionLayout, ProtectionStyle
from hwflash.chip.protection import lock_units
from hwflash.errors import (
    ChipProtected,
    ChipStateUnknown,
    EnvironmentFault,
    HwflashError,
    ImageError,
    Interrupted,
    ProgrammerLost,
    UsageError,
)
from hwflash.jobs import protect_journal as journal
from hwflash.jobs.protect import LockMode, clear_protection, lock_registers, set_protection
from hwflash.jobs.protect_change import ProtectOptions
from hwflash.jobs.protect_resume import end_change
from hwflash.jobs.protect_status import changes_keys, status
from hwflash.jobs.session import Session
from hwflash.units import KIB, Range

SIZE = 256 * KIB


def like(part: str) -> Chip:
    chip = catalog.load().by_name(part).chip
    unit = min(chip.protection.unit, 64 * KIB)
    return small_chip(
        SIZE,
        part=chip.part,
        jedec_id=chip.jedec_id,
        status=chip.status,
        protection=replace(chip.protection, unit=unit),
        quirks=chip.quirks - {"flag-status-poll"},
        fail_flags=chip.fail_flags,
    )


#: Chip, registers before, what is to be locked.
CASES = {
    "own commands": (like("W25Q128JV"), {1: 0, 2: 2, 3: 0}, Range(0, 192 * KIB)),
    "one command": (like("S25FL128L"), {1: 0x1C, 2: 2}, Range(4 * KIB, 252 * KIB)),
    "no unique id": (like("N25Q128A"), {1: 0}, Range(192 * KIB, 64 * KIB)),
    "block locks": (like("W25Q128JV"), {1: 0, 2: 0, 3: 4}, Range(0, 8 * KIB)),
    "sst26": (
        small_chip(SIZE, chip_erase=None, jedec_id=b"\xbf\x26\x41",
                   protection=ProtectionLayout(style=ProtectionStyle.SST26)),
        {}, Range(0, 16 * KIB),
    ),
}  # fmt: skip
CHANGES = (0x01, 0x31, 0x11, 0x42, 0x36, 0x39)


class Killed(BaseException):
    """As SIGKILL: nothing of the program runs after it."""


class Bench:
    """A chip, and sessions on it that may be stopped at the n-th command that changes it."""

    def __init__(self, name: str, state: Path) -> None:
        self.chip, registers, self.wanted = CASES[name]
        self.bus = DieBus(self.chip)
        self.bus.die.status.stored.update(registers)
        self.bus.die.restart()
        self.state = state
        self.notes = Notes()

    def session(self) -> Session:
        return session_over(self.bus)

    def options(self, **more: object) -> ProtectOptions:
        return ProtectOptions(self.state, **more)

    def stop_at(self, number: int | None, error: BaseException, *, sent: bool, once: bool) -> None:
        seen, stopped = 0, False

        def override(op: Transfer) -> bytes | None:
            nonlocal seen, stopped
            if stopped and not once:
                raise error
            if stopped or op.write[0] not in CHANGES:
                return None
            seen += 1
            if seen != number:
                return None
            stopped = True
            if sent:
                self.bus.override = None
                self.bus.execute([op])
                self.bus.override = override
            raise error

        self.bus.override = override

    def go_on(self) -> None:
        self.bus.override = None
        self.bus.clock.sleep(1.0)
        self.bus.die.busy()

    def change(self) -> None:
        set_protection(self.session(), [self.wanted], self.options(), self.notes)

    def end(self, *, back: bool, name: str | None = None) -> object:
        return end_change(self.session(), name, self.options(), self.notes, back=back)

    @property
    def locks(self) -> object:
        die = self.bus.die
        blocks = [unit for unit in lock_units(SIZE) if die.locks.block_locked(unit.address)]
        return dict(die.status.live), die.locks.bpr, blocks if die.locks.individual else None


@pytest.mark.parametrize("name", mostly_slow(1, CASES))
@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("back", [False, True])
def test_killed_at_every_write(tmp_path: Path, name: str, sent: bool, back: bool) -> None:
    whole = Bench(name, tmp_path / "whole")
    before = whole.locks
    whole.change()
    wanted = whole.locks
    assert wanted != before
    assert journal.unfinished(tmp_path / "whole") == []
    for number in range(1, 9):
        bench = Bench(name, tmp_path / f"{number}")
        bench.stop_at(number, Killed(), sent=sent, once=False)
        try:
            bench.change()
        except Killed:
            bench.go_on()
        else:
            break
        left = bench.locks
        session = bench.session()
        found = status(session, bench.state)
        (told,) = changes_keys(bench.chip, found)
        assert told["command"] == "protect set"
        expected = "as-before" if left == before else "as-wanted" if left == wanted else "between"
        assert told["state"] == expected
        assert all(f"0x{at:06X}" in told["wanted"] for at in (bench.wanted.address,))
        bench.end(back=back)
        assert bench.locks == (before if back else wanted)
        assert journal.unfinished(bench.state) == []
        assert not list((bench.state / "protect").iterdir())
    assert number > 1


@pytest.mark.parametrize("name", mostly_slow(1, ["own commands", "block locks"]))
def test_a_failure_half_way_says_what_the_chip_holds(tmp_path: Path, name: str) -> None:
    """One answer lost: the chip can be read, and the error has all three states."""
    bench = Bench(name, tmp_path)
    bench.stop_at(2, ProgrammerLost("gone"), sent=False, once=True)
    with pytest.raises(ChipStateUnknown) as caught:
        bench.change()
    context = caught.value.context
    assert failure(caught.value) == ("chip.state-unknown", 6)
    assert len({context["holds"], context["goal"], context["was"]}) == 3
    assert [change.name for change in journal.unfinished(tmp_path)] == [context["change"]]
    bench.go_on()
    # What the registers hold now is not locked for anybody.
    with pytest.raises(ChipProtected) as refused:
        lock_registers(bench.session(), LockMode.WP_PIN, bench.options(), bench.notes)
    assert refused.value.code == "protection.unfinished"
    bench.change()  # said anew: the old change is settled
    assert any("stopped half way" in text for text, _ in bench.notes.warnings)
    assert journal.unfinished(tmp_path) == []


def test_a_cable_that_is_gone_for_good(tmp_path: Path) -> None:
    bench = Bench("own commands", tmp_path)
    bench.stop_at(1, ProgrammerLost("gone"), sent=True, once=False)
    with pytest.raises(ChipStateUnknown) as caught:
        bench.change()
    assert "cannot be read" in str(caught.value.context["holds"])
    assert len(journal.unfinished(tmp_path)) == 1


def test_a_failure_that_changed_nothing_leaves_nothing(tmp_path: Path) -> None:
    bench = Bench("own commands", tmp_path)
    before = bench.locks
    bench.stop_at(1, ProgrammerLost("gone"), sent=False, once=True)
    with pytest.raises(ProgrammerLost):
        bench.change()
    assert (bench.locks, journal.unfinished(tmp_path)) == (before, [])
    bench.bus.override = None
    bench.bus.die.wp = False
    bench.bus.die.status.stored[1] = bench.bus.die.status.live[1] = 0x80
    with pytest.raises(ChipProtected):
        bench.change()
    assert journal.unfinished(tmp_path) == []


def test_nothing_is_sent_that_could_not_be_written_down(tmp_path: Path) -> None:
    bench = Bench("own commands", tmp_path)
    (tmp_path / "protect").write_text("no folder")
    before = bench.locks
    with pytest.raises(EnvironmentFault) as caught:
        bench.change()
    assert (caught.value.code, bench.locks) == ("journal.unwritable", before)


def test_a_folder_that_cannot_be_removed_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chip was changed and proven: that is not to be called unchanged."""
    bench = Bench("own commands", tmp_path)

    def full(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(journal, "sync_folder", lambda _: None)
    change = journal.begin

    def begin(*words: object, **more: object) -> journal.Change:
        found = change(*words, **more)
        monkeypatch.setattr(journal, "sync_folder", full)
        return found

    monkeypatch.setattr("hwflash.jobs.protect_change.begin", begin)
    bench.change()
    assert bench.bus.die.status.stored[1] != 0
    assert [more["code"] for _, more in bench.notes.warnings] == ["journal.unwritable"]


def stopped(tmp_path: Path, name: str = "own commands") -> tuple[Bench, journal.Change]:
    bench = Bench(name, tmp_path)
    bench.stop_at(1, Killed(), sent=True, once=False)
    with pytest.raises(Killed):
        bench.change()
    bench.go_on()
    (change,) = journal.unfinished(tmp_path)
    return bench, change


def refused(bench: Bench, code: str, *, back: bool = True, name: str | None = None) -> None:
    before = bench.locks
    with pytest.raises(HwflashError) as caught:
        bench.end(back=back, name=name)
    assert (caught.value.code, bench.locks) == (code, before)


def test_another_chip_and_damaged_files(tmp_path: Path) -> None:
    bench, change = stopped(tmp_path)
    refused(bench, "usage.change", name="nonsense")
    file = change.folder / "change.json"
    kept = json.loads(file.read_text())
    for facts in ({"unique_id": "00" * 8}, {"jedec_id": "ef4019"}):
        file.write_text(json.dumps({**kept, **facts}))
        refused(bench, "usage.change")  # not of this chip
        refused(bench, "journal.other-chip", name=change.name)
    for text in ("", "{}", '{"v": 2}', "[1]", json.dumps({**kept, "v": 9})):
        file.write_text(text)
        assert journal.unfinished(tmp_path) == []
        refused(bench, "journal.damaged", name=change.name)
    file.write_text(json.dumps(kept))
    lift = change.folder / "protection.json"
    for text in ("", '{"v": 1}', lift.read_text().replace('"1"', '"7"')):
        lift.write_text(text)
        refused(bench, "journal.damaged", name=change.name)


def test_a_file_is_no_authority_on_bits_that_may_change(tmp_path: Path) -> None:
    """SRP1, a security register's lock and QE stay, whatever the file asks for."""
    bench, change = stopped(tmp_path)
    path = change.folder / "protection.json"
    found = json.loads(path.read_text())
    found["allow"] = {"1": 255, "2": 255, "3": 255}
    found["during"]["registers"] = {"1": 255, "2": 255, "3": 255}
    path.write_text(json.dumps(found))
    bench.end(back=False)
    assert bench.bus.die.status.stored == {1: 0x7C, 2: 0x42, 3: 0}


def test_a_chip_without_unique_id_that_was_set_otherwise(tmp_path: Path) -> None:
    bench, _ = stopped(tmp_path, "no unique id")
    bench.bus.die.status.stored[1] = 0x58
    bench.bus.die.restart()
    refused(bench, "journal.other-chip")


def test_one_of_several(tmp_path: Path) -> None:
    bench, change = stopped(tmp_path)
    second = journal.begin(tmp_path, bench.session(), "protect clear", change.lift, one_time=False)
    assert second.name != change.name
    refused(bench, "usage.change")
    bench.end(back=True, name=change.name)
    assert journal.unfinished(tmp_path) == [second]
    clear_protection(bench.session(), None, bench.options(), bench.notes)
    assert journal.unfinished(tmp_path) == []


def test_a_person_is_asked_and_for_ever_wants_more(tmp_path: Path) -> None:
    bench, _ = stopped(tmp_path)
    asked: list[bool] = []
    how = bench.options(confirm=lambda proposal: asked.append(proposal.for_ever) or False)
    with pytest.raises(Interrupted):
        end_change(bench.session(), None, how, bench.notes, back=False)
    bench.end(back=False)
    # SRP0, killed before SRP1: what is left of it is for ever.
    bench.stop_at(2, Killed(), sent=False, once=False)
    lock = bench.options(kind="protect lock")
    with pytest.raises(Killed):
        lock_registers(bench.session(), LockMode.PERMANENT, lock, bench.notes)
    bench.go_on()
    with pytest.raises(Interrupted):
        end_change(bench.session(), None, how, bench.notes, back=False)
    assert asked == [False, True]
    bench.end(back=True)
    assert not bench.bus.die.status.stored[1] & 0x80


def test_a_bit_that_was_burnt_cannot_be_taken_back(tmp_path: Path) -> None:
    chip = like("MX25L12835F")
    bench = Bench("own commands", tmp_path)
    bench.chip, bench.bus = chip, DieBus(chip)
    bench.stop_at(1, Killed(), sent=True, once=False)
    with pytest.raises(Killed):
        set_protection(
            bench.session(), [Range(0, 64 * KIB)], bench.options(one_time=True), bench.notes
        )
    bench.go_on()
    assert bench.bus.die.status.stored[2] == 0x08
    refused(bench, "protection.one-time")
    bench.end(back=False)
    assert bench.bus.die.status.stored == {1: 0x04, 2: 0x08}


def test_nothing_to_end(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Bench("own commands", tmp_path).end(back=False)
    with pytest.raises(ImageError):
        journal.load(tmp_path)
