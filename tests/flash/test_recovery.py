"""A write that is cut at any point: what the message says is so, and it can go on or back."""

from pathlib import Path

import pytest
from support import Rig, mostly_slow, pattern, small_chip
from writing import Job

from hwflash.chip.model import EraseRegion, ProtectionLayout, ProtectionStyle
from hwflash.errors import ChipStateUnknown, HwflashError, ProgrammerError
from hwflash.flash import journal as journals
from hwflash.flash.plan import windows_for
from hwflash.units import KIB, Range

SIZE = 32 * KIB
CHIP = small_chip(SIZE, chip_erase=None)
LOCKED = small_chip(
    4 * SIZE,
    chip_erase=None,
    jedec_id=b"\xbf\x26\x41",
    protection=ProtectionLayout(style=ProtectionStyle.SST26),
)
#: Erases (bits are set), a page program only (bits are cleared), an untouched middle.
OLD = pattern(SIZE, 3)
TARGETS = {
    0x1080: pattern(1500, 4),
    0x3000: bytes(a & 0x5A for a in OLD[0x3000:0x3200]),
    0x5000: b"\xff" * 4096,
}


def rig_for(chip=CHIP, **options) -> Rig:
    rig = Rig(chip, **options)
    rig.sim._die.content[:SIZE] = OLD
    return rig


def outside_is_untouched(job: Job, content: bytes) -> None:
    windows = windows_for([target.range for target in job.targets], rig_geometry(job))
    mask = bytearray(b"\x01" * len(content))
    for window in windows:
        mask[window.address : window.end] = bytes(window.length)
    for place in range(0, len(content), 256):
        if all(mask[place : place + 256]):
            assert content[place : place + 256] == job.before[place : place + 256], hex(place)


def rig_geometry(job: Job):
    return job.rig.flash.geometry


def primitives() -> int:
    job = Job(rig_for(), TARGETS, Path("/nonexistent"), dry_run=True)
    plan = job.write().plan
    job.rig.close()
    return sum(1 if s.kind == "erase" else -(-s.range.length // 256) for s in plan.steps) + 1


COUNT = primitives()


def test_the_job_has_erases_and_programs() -> None:
    assert 8 <= COUNT <= 60


@pytest.mark.parametrize("chip", [CHIP, LOCKED], ids=["plain", "sst26"])
@pytest.mark.parametrize("seed", mostly_slow(1, [1, 2]))
def test_power_is_cut_in_every_primitive(tmp_path: Path, chip, seed: int) -> None:
    """Old or new after `resume` or after putting the backup back, whatever was torn."""
    cuts = 0
    for number in range(1, COUNT + 2):
        rig = rig_for(chip, power_cut=number, seed=seed)
        job = Job(rig, TARGETS, tmp_path / f"{number}")
        error = job.write()
        if not isinstance(error, HwflashError):
            assert job.content == job.after
            rig.close()
            break
        cuts += 1
        assert isinstance(error, ChipStateUnknown), (number, error)
        assert (error.code, error.exit_code) == ("chip.state-unknown", 6)
        assert error.context["cause"] in ("programmer.lost", "programmer.absent")
        backup = error.context["backup"]
        outside_is_untouched(job, bytes(rig.sim._die.content))
        rig.revive()
        if number % 2:
            result = job.resume()
            assert not isinstance(result, HwflashError), (number, result)
            assert job.content == job.after, number
            assert journals.unfinished_jobs(tmp_path / f"{number}" / "jobs") == []
        else:
            result = job.restore(backup)
            assert not isinstance(result, HwflashError), (number, result)
            assert job.content == job.before, number
        rig.close()
    assert cuts >= 8


def test_power_is_cut_again_while_resuming(tmp_path: Path) -> None:
    for number in range(1, COUNT, 3):
        rig = rig_for(power_cut=number)
        job = Job(rig, TARGETS, tmp_path / f"{number}")
        assert isinstance(job.write(), ChipStateUnknown)
        rig.revive()
        rig.sim._die.power_cut = rig.sim._die.primitives + 2
        second = job.resume()
        if isinstance(second, HwflashError):
            assert second.exit_code == 6
            rig.revive()
            third = job.resume()
            assert not isinstance(third, HwflashError), third
        assert job.content == job.after
        rig.close()


def test_a_torn_erase_is_erased_again_whatever_it_reads_as(tmp_path: Path) -> None:
    target = {0x2000: b"\xff" * 4096}
    rig = rig_for(power_cut=1)
    job = Job(rig, target, tmp_path)
    assert isinstance(job.write(), ChipStateUnknown)
    rig.revive()
    rig.content[0x2000:0x3000] = b"\xff" * 4096  # it reads as erased, and is unreliable
    erases = rig.sim.die.wear[2]
    result = job.resume()
    assert not isinstance(result, HwflashError), result
    assert [step.kind for step in result.plan.steps] == ["erase"]
    assert rig.sim.die.wear[2] == erases + 1
    rig.close()


@pytest.mark.slow
@pytest.mark.parametrize("chip", [CHIP, LOCKED], ids=["plain", "sst26"])
def test_the_cable_is_pulled_at_every_usb_transfer(tmp_path: Path, chip) -> None:
    """Exit 3 means that nothing was changed, 6 that something may be: never the other way."""
    codes: list[int] = []
    for number in range(1, 2000):
        try:
            rig = rig_for(chip, faults=f"disconnect={number}")
        except ProgrammerError as error:
            codes.append(error.exit_code)
            continue
        job = Job(rig, TARGETS, tmp_path / f"{number}")
        error = job.write()
        if not isinstance(error, HwflashError):
            assert bytes(rig.sim._die.content) == job.after
            rig.close()
            break
        codes.append(error.exit_code)
        content = bytes(rig.sim._die.content)
        outside_is_untouched(job, content)
        left = journals.unfinished_jobs(tmp_path / f"{number}" / "jobs")
        if error.exit_code == 3:
            assert error.code in ("programmer.lost", "programmer.absent"), (number, error.code)
            assert content == job.before, f"cut at {number}: changed, and nothing was said"
            assert left == []
        else:
            assert error.exit_code == 6, (number, error)
            assert error.code in ("chip.state-unknown", "protection.not-restored")
            assert [record.name for record in left] == [error.context["resume"]]
            assert Path(str(error.context["backup"])).is_file()
            if number % 7 == 0:
                rig.sim.clock.sleep(10)  # the chip keeps its supply and finishes what it does
                rig.bus.close()
                rig.sim.plug()
                rig.open()
                result = job.resume()
                assert not isinstance(result, HwflashError), (number, result)
                assert job.content == job.after
        rig.close()
    assert codes.count(3) > 10
    assert codes.count(6) > 10
    assert codes == sorted(codes), "first nothing was changed, then it is not known"


def test_another_chip_is_not_resumed(tmp_path: Path) -> None:
    rig = rig_for(power_cut=2)
    job = Job(rig, TARGETS, tmp_path)
    error = job.write()
    rig.close()
    other = rig_for(unique_id=b"another!")
    again = Job(other, TARGETS, tmp_path)
    result = again.resume()
    assert (result.code, result.exit_code) == ("journal.other-chip", 4)
    other.open()
    result = again.restore(error.context["backup"])
    assert (result.code, result.exit_code) == ("backup.other-chip", 4)
    assert again.content == OLD
    other.close()


def test_two_boards_with_equal_content_keep_their_own_backups(tmp_path: Path) -> None:
    """Blank boards in a row: the second backup must not become the first one's."""
    errors = []
    for name in (b"board--A", b"board--B"):
        rig = Rig(CHIP, unique_id=name, power_cut=2)
        errors.append((rig, Job(rig, {0: bytes(4096)}, tmp_path)))
    found = [job.write() for _, job in errors]
    for (rig, job), error in zip(errors, found, strict=True):
        rig.revive()
        result = job.restore(error.context["backup"])
        assert not isinstance(result, HwflashError), result
        assert job.content == b"\xff" * SIZE
        rig.close()


def test_small_erase_blocks_and_two_targets(tmp_path: Path) -> None:
    """Chips with 256-byte erase blocks: windows lie as close as ranges verified together."""
    kind = small_chip().erase[0].types[0]
    tiny = type(kind)(256, 0x81, kind.time)
    rig = rig_for(small_chip(SIZE, chip_erase=None, erase=(EraseRegion(0, SIZE, (tiny,)),)))
    job = Job(rig, {0x000: pattern(256, 8), 0x200: pattern(256, 9)}, tmp_path)
    result = job.write()
    assert not isinstance(result, HwflashError), result
    assert job.content == job.after
    assert result.changed == (Range(0, 256), Range(0x200, 256))
    rig.close()
