"""Lock bits of single sectors: four families, what they refuse, what is lifted and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import DieBus, Notes, Rig, mostly_slow, pattern, session_over, small_chip
from writing import Job

from hwflash.bus.spi import Transfer
from hwflash.chip import catalog
from hwflash.chip.model import Chip, EraseRegion
from hwflash.chip.protection_choice import choose, ranges_of
from hwflash.chip.sectors import SectorMode, SectorState, sectors_of
from hwflash.errors import ChipError, ChipProtected, HwflashError
from hwflash.flash import journal as journals
from hwflash.flash.nor import NorFlash
from hwflash.flash.protection import ProtectionAccess
from hwflash.jobs import protect_journal
from hwflash.jobs.protect import clear_protection, set_protection
from hwflash.jobs.protect_change import ProtectOptions
from hwflash.jobs.protect_resume import end_change
from hwflash.jobs.protect_status import changes_keys, status
from hwflash.units import KIB, Range

SIZE = 256 * KIB
BLOCKS = [Range(at, 64 * KIB) for at in range(0, SIZE, 64 * KIB)]
PARTS = ["MX25L12835F", "N25Q128A", "MT25QL128ABA", "S25FL128S"]
LASTING = ["MX25L12835F", "MT25QL128ABA", "S25FL128S"]


def like(part: str) -> Chip:
    chip = catalog.load().by_name(part).chip
    small = small_chip(
        SIZE,
        part=part,
        jedec_id=chip.jedec_id,
        status=chip.status,
        protection=replace(chip.protection, unit=64 * KIB),
        quirks=chip.quirks - {"flag-status-poll", "sector-map-configurable"},
        fail_flags=chip.fail_flags,
        sector_locks=chip.sector_locks,
    )
    if part != "S25FL128S":
        return small
    fine, _, coarse = small.erase[0].types
    half = 128 * KIB
    regions = (EraseRegion(0, half, (fine, coarse)), EraseRegion(half, half, (coarse,)))
    return replace(small, erase=regions)


def select(die) -> None:
    """Macronix: the bits are put in force; as the others, nothing is locked then."""
    if die.chip.part == "MX25L12835F":
        die.locks.bits.wpsel = True
        die.locks.bits.dynamic = set()


def bench(part: str) -> tuple[DieBus, ProtectionAccess]:
    bus = DieBus(like(part))
    select(bus.die)
    access = ProtectionAccess(NorFlash(bus, bus.die.chip))
    return bus, access


def lock(bus: DieBus, dynamic=(), persistent=()) -> None:
    bits = bus.die.locks.bits
    bits.dynamic = {bits.at(at) for at in dynamic}
    bits.persistent = {bits.at(at) for at in persistent}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["dynamic", "persistent"])
def test_a_locked_sector_refuses_with_the_flag_of_its_family(part: str, kind: str) -> None:
    """By commands of the data sheet alone, without the code that is tested elsewhere."""
    bus = DieBus(like(part))
    die = bus.die
    if kind == "persistent" and part == "N25Q128A":
        return
    address = bytes.fromhex("00010000")

    def send(*commands: str) -> bytes:
        for command in commands:
            bus.execute([Transfer(b"\x06"), Transfer(bytes.fromhex(command))])
            bus.clock.sleep(1.0)
        return b""

    if part == "MX25L12835F":
        send("68", "98")
        assert bus.execute([Transfer(b"\x2b", 1)])[0][0] & 0x80
    if kind == "persistent":
        send("e3" + address.hex())
        read = bus.execute([Transfer(b"\xe2" + address, 1)])[0]
        assert read == (b"\xff" if part == "MX25L12835F" else b"\0")
    else:
        send({"MX25L12835F": "e100010000ff", "S25FL128S": "e10001000000"}.get(part, "e501000001"))
    before = bytes(die.content)
    flags = {
        "MX25L12835F": (b"\x2b", 0x20, 0x40),
        "S25FL128S": (b"\x05", 0x40, 0x20),
    }.get(part, (b"\x70", 0x12, 0x22))
    for command, mask in (("0201000000", flags[1]), ("d8010000", flags[2])):
        send(command)
        assert bus.execute([Transfer(flags[0], 1)])[0][0] & mask == mask, command
        bus.execute([Transfer(b"\x30"), Transfer(b"\x50")])
        die.clear_status()
    send("c7")
    assert bytes(die.content) == before
    send("0202000000", "d8020000")
    assert die.content[0x20000] == 0xFF
    # Volatile bits go with the supply, the others stay.
    die.power_off()
    die.restore_power()
    bus.clock.sleep(1e-3)
    locked = die.locks.refuses(0x10000, 1)
    assert locked == (kind == "persistent" or part == "MX25L12835F")


@pytest.mark.parametrize("part", PARTS)
def test_read_and_said(part: str) -> None:
    bus, access = bench(part)
    assert access.read().sectors == SectorState(exclusive=part == "MX25L12835F")
    lasting = [] if part == "N25Q128A" else [0x30000]
    lock(bus, [0x10000], lasting)
    found = access.read().sectors
    assert found is not None
    units = list(sectors_of(bus.die.chip))
    assert sum(unit.length for unit in units) == SIZE
    assert list(found.dynamic) == [unit for unit in units if unit.contains(Range(0x10000, 1))]
    assert [item.address for item in found.persistent] == lasting
    told = status(session_over(bus))
    assert told.lift == "command"
    assert told.state.ranges == ranges_of(bus.die.chip, access.read())
    assert [item.lift for item in told.sources] == ["command"] * len(told.sources)
    assert len(told.sources) == 1 + len(lasting)
    # Only what was asked about is read.
    bus.sent.clear()
    assert access.sectors([Range(0x20000, 4)]) == replace(found, dynamic=(), persistent=())
    assert len(bus.sent) < 20


@pytest.mark.parametrize("part", PARTS)
def test_locks_that_no_command_lifts(part: str) -> None:
    bus, access = bench(part)
    bits = bus.die.locks.bits
    lock(bus, [0x10000], [] if part == "N25Q128A" else [0x30000])
    if part in ("N25Q128A", "MT25QL128ABA"):
        bits.held = set(bits.dynamic)
        assert status(session_over(bus)).lift == "power-cycle"
        with pytest.raises(ChipProtected) as caught:
            access.apply(replace(access.read(), sectors=SectorState()), {})
        assert caught.value.code == "protection.held"
        bits.held = set()
    if part == "N25Q128A":
        return
    bus.execute([Transfer(b"\x06"), Transfer(b"\xa6")])
    assert status(session_over(bus)).lift == "power-cycle"
    with pytest.raises(ChipProtected) as caught:
        clear_protection(session_over(bus), None, ProtectOptions(Path()), Notes())
    assert caught.value.code == "protection.frozen"
    # The password mode is frozen from power-up, for ever; the persistent one is not.
    for mode, expected in ((0xFFFB, ("password", SectorMode.PASSWORD)),
                           (0xFFFD, ("command", SectorMode.PERSISTENT))):  # fmt: skip
        bits.mode = mode
        bits.power_up()
        select(bus.die)
        assert (status(session_over(bus)).lift, access.read().sectors.mode) == expected


@pytest.mark.parametrize("part", ["MT25QL128ABA", "S25FL128S"])
@pytest.mark.parametrize("answer", [0x00, 0xFF])
def test_a_chip_that_does_not_know_the_commands_has_no_locks(part: str, answer: int) -> None:
    bus, access = bench(part)
    asked = {0xE0, 0xE2, 0xE8, 0xA7, 0x2B, 0x2D}
    bus.override = lambda op: bytes((answer,)) * op.read if op.write[0] in asked else None
    found = access.read().sectors
    assert found is None or found.ranges == ()


# --- a write --------------------------------------------------------------------------------


def rig_for(part: str, dynamic=(0x10000, 0x20000), persistent=(), **options: object) -> Rig:
    rig = Rig(like(part), flash=False, **options)
    die = rig.sim._die
    select(die)
    die.locks.bits.dynamic = {die.locks.bits.at(at) for at in dynamic}
    die.locks.bits.persistent = {die.locks.bits.at(at) for at in persistent}
    rig._flash = True
    rig.bus.close()
    rig.open()
    return rig


@pytest.mark.parametrize("part", mostly_slow(2, PARTS))
def test_lifted_for_a_write_and_put_back(tmp_path: Path, part: str) -> None:
    rig = rig_for(part)
    bits = rig.sim.die.locks.bits
    before = set(bits.dynamic)
    targets = {0x10080: pattern(700, 4)}
    refused = Job(rig, targets, tmp_path / "no").write()
    assert isinstance(refused, ChipProtected), refused
    assert refused.code == "chip.protected"
    rig.revive()
    select(rig.sim.die)
    bits.dynamic = set(before)
    job, seen = Job(rig, targets, tmp_path / "yes", lift_protection=True), list[bool]()
    job.notes.on_progress = lambda _: seen.append(0x20000 in bits.dynamic)
    result = job.write()
    assert not isinstance(result, HwflashError), result
    assert job.content == job.after
    assert bits.dynamic == before
    assert seen
    assert all(seen), "a sector that is not in the way stays locked"
    assert journals.unfinished_jobs(tmp_path / "yes" / "jobs") == []
    assert not isinstance(
        Job(rig_for(part), {0x30000: b"\0"}, tmp_path / "free").write(), HwflashError
    )


@pytest.mark.parametrize("part", LASTING)
def test_non_volatile_bits_are_not_lifted(tmp_path: Path, part: str) -> None:
    rig = rig_for(part, (), (0x10000,))
    job = Job(rig, {0x10080: b"\0"}, tmp_path, lift_protection=True)
    result = job.write()
    assert isinstance(result, ChipProtected)
    assert result.code == "protection.persistent"
    assert job.content == job.before
    assert rig.sim.die.locks.bits.persistent == {0x10000}
    rig.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["MX25L12835F", "MT25QL128ABA"])
def test_power_is_cut_while_a_sector_is_unlocked(tmp_path: Path, part: str) -> None:
    """The locks are volatile: they are gone with the supply, and resume sets them again."""
    rig = rig_for(part, power_cut=2)
    before = set(rig.sim.die.locks.bits.dynamic)
    job = Job(rig, {0x10080: pattern(700, 4)}, tmp_path, lift_protection=True)
    assert isinstance(job.write(), HwflashError)
    rig.revive()
    result = job.resume()
    assert not isinstance(result, HwflashError), result
    assert job.content == job.after
    assert rig.sim.die.locks.bits.dynamic == before
    rig.close()


# --- protect --------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_clear_some_and_all(tmp_path: Path, part: str) -> None:
    bus, access = bench(part)
    lasting = [] if part == "N25Q128A" else [0x10000, 0x20000, 0x30000]
    lock(bus, [0x10000, 0x20000], lasting)
    options = ProtectOptions(tmp_path, kind="protect clear")
    done = clear_protection(session_over(bus), [Range(0x10000, 64 * KIB)], options, Notes())
    assert done.executed
    bits = bus.die.locks.bits
    # Spansion has sectors of 4 KiB there, of which one was locked.
    assert 0x10000 not in bits.dynamic | bits.persistent
    assert bits.persistent == {at for at in lasting if at != 0x10000}
    assert bits.dynamic == {bits.at(0x20000)}
    if lasting:
        assert "erased and 2 of them set again" in done.proposal.words
        with pytest.raises(ChipProtected) as caught:
            set_protection(session_over(bus), [Range(0, 4 * KIB)], options, Notes())
        assert caught.value.code == "protection.persistent"
    clear_protection(session_over(bus), None, options, Notes())
    assert access.read().sectors.ranges == ()
    assert not bus.die.locks.any()
    assert protect_journal.unfinished(tmp_path) == []


class Killed(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("part", LASTING)
@pytest.mark.parametrize("back", [False, True])
def test_killed_between_erase_and_setting_again(tmp_path: Path, part: str, back: bool) -> None:
    for number in range(1, 9):
        bus, _ = bench(part)
        lock(bus, [], [0x10000, 0x20000, 0x30000])
        seen = 0

        def stop(op: Transfer) -> bytes | None:
            nonlocal seen
            seen += op.write[0] in (0xE3, 0xE4)
            if seen == number:  # noqa: B023 - used in the same turn
                raise Killed
            return None

        bus.override = stop
        state = tmp_path / f"{number}"
        options = ProtectOptions(state, kind="protect clear")
        try:
            clear_protection(session_over(bus), [Range(0x10000, 64 * KIB)], options, Notes())
        except Killed:
            bus.override = None
            bus.clock.sleep(1.0)
        else:
            break
        (told,) = changes_keys(bus.die.chip, status(session_over(bus), state))
        assert told["state"] == ("as-before" if number == 1 else "between")
        end_change(session_over(bus), None, ProtectOptions(state), Notes(), back=back)
        wanted = {0x10000, 0x20000, 0x30000} if back else {0x20000, 0x30000}
        assert bus.die.locks.bits.persistent == wanted
        assert protect_journal.unfinished(state) == []
    assert number == 4


def test_sectors_of_wpsel_can_be_had_as_one_likes(tmp_path: Path) -> None:
    bus, access = bench("MX25L12835F")
    wanted = [Range(0, 8 * KIB), Range(64 * KIB, 64 * KIB)]
    set_protection(session_over(bus), wanted, ProtectOptions(tmp_path), Notes())
    assert list(access.read().sectors.ranges) == wanted
    assert bus.die.locks.refuses(0x1FFF, 1)
    assert not bus.die.locks.refuses(0x2000, 4)
    near = choose(bus.die.chip, access.read(), [Range(100, 70 * KIB)])
    assert near.exact is None


@pytest.mark.parametrize("part", ["N25Q128A", "S25FL128S"])
def test_bp_bits_and_sector_locks_add_up(tmp_path: Path, part: str) -> None:
    bus, access = bench(part)
    lock(bus, [0x00000])
    set_protection(
        session_over(bus), [Range(0x20000, 128 * KIB)], ProtectOptions(tmp_path), Notes()
    )
    assert access.read().sectors.dynamic == ()
    lock(bus, [0x10000])
    assert bus.die.locks.refuses(0x10000, 1)
    assert bus.die.locks.refuses(0x20000, 1)
    clear_protection(
        session_over(bus), [Range(0x20000, 128 * KIB)], ProtectOptions(tmp_path), Notes()
    )
    assert bus.die.locks.refuses(0x10000, 1)
    assert not bus.die.locks.refuses(0x20000, 1)


def test_a_refused_bit_is_read_back(tmp_path: Path) -> None:
    bus, access = bench("S25FL128S")
    bus.override = lambda op: b"" if op.write[:1] == b"\xe1" else None
    wanted = replace(access.read(), sectors=SectorState(dynamic=(Range(0, 4 * KIB),)))
    with pytest.raises(ChipProtected) as caught:
        access.apply(wanted, {})
    assert caught.value.code == "protection.refused"
    assert isinstance(caught.value, HwflashError)
    assert not isinstance(caught.value, ChipError)
