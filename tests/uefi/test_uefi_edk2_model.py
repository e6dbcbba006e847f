"""The model of edk2's boot against what real firmware was measured to do, cell by cell.

Measured with OVMF 2022.11 (2M, 4M, with and without SMM) and 2026.08, and AAVMF 2022.11, in QEMU:
images after a power cut were booted and compared. Where a fact is from reading edk2, it is in
the comments.
"""

from __future__ import annotations

import struct

import pytest
import volumes
from edk2_ftw import CALLERS, Ftw, Nor
from edk2_model import AAVMF, MTC, OVMF_2M, OVMF_4M, Boot, Build, Layout, boot, variables_in, walk
from power_cuts import firmware_survives
from volumes import (
    GUID,
    NV_BS,
    OTHER,
    recorded_operations,
    recorded_volume,
    some_variables,
    variable,
    volume_bytes,
)

KNOWN = {OVMF_2M: volumes.OVMF_2M, OVMF_4M: volumes.OVMF_4M, AAVMF: volumes.AAVMF}
BLOCK = {OVMF_2M: 0x1000, OVMF_4M: 0x1000, AAVMF: 0x40000}
BUILDS = [
    (OVMF_2M, "plain"), (OVMF_2M, "smm"), (OVMF_4M, "plain"), (OVMF_4M, "smm"), (AAVMF, "aavmf"),
]  # fmt: skip
OVMF_BUILDS = BUILDS[:4]
FF = b"\xff"


def counter(value: int = 7):
    return variable(MTC[0], value.to_bytes(4, "little"), MTC[1], attributes=7)


def made(records, layout: Layout) -> bytes:
    return bytes(volume_bytes([*records], KNOWN[layout], block=BLOCK[layout]))


def used_store(layout: Layout, live: int = 60) -> bytes:
    """Live records, and dead ones before them, so that a reclaim moves everything."""
    records = [variable("Gone", b"-" * 700, state=0x3C), counter()]
    for index in range(live):
        records.append(variable(f"Live{index}", bytes([index]) * (200 + index % 9)))
        if index % 4 == 0:
            records.append(variable(f"Dead{index}", b"x" * 90, state=0x3D))
    return made(records, layout)


def dirty(image: bytes, layout: Layout) -> bytes:
    """A byte behind the last record."""
    return image[: layout.variables - 9] + b"\x00" + image[layout.variables - 8 :]


def names(result: Boot) -> set[str]:
    return {name for name, _ in result.variables}


def merged(operations) -> list[tuple[str, int, bytes]]:
    """Programs of adjacent bytes as one."""
    found: list[list] = []
    for kind, address, data in operations:
        if kind == "w" and found and found[-1][0] == "w":
            last = found[-1]
            if last[1] + len(last[2]) == address:
                last[2] += data
                continue
        found.append([kind, address, data if kind == "w" else b""])
    return [tuple(item) for item in found]


def replay(image: bytes, operations) -> bytes:
    nor = Nor(image)
    for kind, address, data in operations:
        if kind == "w":
            nor.program(address, data)
        else:
            nor.erase(address, 0x1000, 0x1000)
    assert nor.illegal == 0
    return bytes(nor.data)


class Reclaim:
    """The operations of the model's own reclaim, with the places of their steps."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # The tail is clean: the reclaim is that of a variable that does not fit. So firmware
        # finds the same tail again after a power cut, as in the measurements.
        live = [variable(f"Live{index}", bytes([index]) * 300) for index in range(60)]
        used = sum((record.size + 3) & ~3 for record in [counter(), *live])
        # So much is free that the end of a boot needs no reclaim.
        dead = layout.variables - 0x48 - 28 - used - layout.largest - 0x50 - 72
        self.start = made([counter(), variable("Dead", b"d" * dead, state=0x3C), *live], layout)
        write = ("Added", GUID, NV_BS, b"a" * (layout.largest + 0x40))
        done = boot(self.start, layout, "plain", [write], count=False)
        assert done.sound
        assert done.reclaimed
        self.operations = done.operations
        self.old = variables_in(self.start, layout)
        self.new = done.variables
        self.erase_0 = self.operations.index(("e", 0, b""))
        self.spare_complete = self.erase_0
        self.program = next(
            index for index, item in enumerate(self.operations)
            if index > self.erase_0 and item[0] == "w"
        )  # fmt: skip

    def after(self, count: int, part: int | None = None) -> bytes:
        """The flash after ``count`` operations and ``part`` bytes of the next."""
        done = list(self.operations[:count])
        if part is not None:
            kind, address, data = self.operations[count]
            done.append((kind, address, data[:part]))
        return replay(self.start, done)

    def verdict(self, build: Build, image: bytes) -> str:
        return firmware_survives(image, self.layout, build, [self.old, self.new])


# --- the driver's own operations -------------------------------------------------------------


def test_a_reclaim_is_byte_for_byte_that_of_real_firmware():
    real = recorded_operations()
    starts = [index for index, item in enumerate(real) if item[1] == 0xF020 and item[2][0] == 0xFE]
    before = replay(recorded_volume(), real[: starts[0]])
    done = boot(before, OVMF_2M, "plain", count=False)
    assert done.sound
    assert merged(done.operations) == merged(real[starts[0] :])


def test_setting_a_variable_is_byte_for_byte_that_of_real_firmware():
    real = merged(recorded_operations())[:6]
    done = boot(recorded_volume(), OVMF_2M, "plain")
    assert merged(done.operations)[:6] == real


def test_headers_are_those_that_were_measured():
    assert OVMF_2M.volume_header()[50:52].hex() == "19f9"
    assert OVMF_4M.volume_header()[50:52].hex() == "afb8"
    assert AAVMF.volume_header()[50:52].hex() == "f8f8"
    golden = "2b29589e687c7d49a0ce6500fd9f1b952caf2c64feffffffe00f000000000000"
    assert OVMF_2M.work_header().hex() == OVMF_4M.work_header().hex() == golden
    assert AAVMF.work_header()[16:20] == struct.pack("<I", 0x86C6E75B)
    assert struct.unpack_from("<Q", AAVMF.work_header(), 24) == (0x3FFE0,)


@pytest.mark.parametrize(("layout", "erases"), [(OVMF_2M, 46), (OVMF_4M, 196)])
def test_a_reclaim_erases_as_often_as_measured(layout: Layout, erases: int):
    done = boot(dirty(used_store(layout), layout), layout, "plain", count=False)
    assert done.sound
    assert sum(kind == "e" for kind, *_ in done.operations) == erases


# --- a reclaim of the firmware, cut (per build, per step) ------------------------------------


@pytest.fixture(scope="module", params=[OVMF_2M, OVMF_4M], ids=["2M", "4M"])
def reclaim(request) -> Reclaim:
    return Reclaim(request.param)


@pytest.mark.parametrize("build", ["plain", "smm"])
def test_until_the_spare_is_complete_the_old_set_counts(reclaim: Reclaim, build: Build):
    for count in range(reclaim.spare_complete):
        if reclaim.operations[count][0] == "w":
            assert reclaim.verdict(build, reclaim.after(count)) == "", count
    image = reclaim.after(reclaim.spare_complete - 2, part=0x2345)
    assert reclaim.verdict(build, image) == ""
    assert boot(image, reclaim.layout, build).variables.keys() == reclaim.old.keys()


def test_spare_complete_and_nothing_erased(reclaim: Reclaim):
    image = reclaim.after(reclaim.spare_complete)
    assert reclaim.verdict("smm", image) == ""
    assert boot(image, reclaim.layout, "smm").variables.keys() == reclaim.new.keys()
    plain = boot(image, reclaim.layout, "plain")
    assert plain.replayed
    assert plain.stale or plain.illegal


def test_two_counters_hang_every_boot_after_a_stale_copy():
    """4M 2026.08 without SMM: the new counter lands behind the records of the repaired flash."""
    records = [variable("Big", b"b" * 96, state=0x3C), counter(), *some_variables(20)]
    image = made(records, OVMF_4M)
    size = 60 + 8 + 96
    # The new store is as long as the old one: one record more, one dead one less.
    nor = Nor(image)
    store = image[0x48 : OVMF_4M.variables]
    entries = list(walk(store))
    content = store[:28] + store[entries[1].at : entries[-1].end]
    added = variable("New", b"n" * (size - 68)).build()
    content += added
    assert len(content) == entries[-1].end
    ftw = Ftw(nor, OVMF_4M, 0, CALLERS["plain"])
    assert ftw.write(0x48, content.ljust(len(store), FF))
    cut = nor.operations.index(("e", 0, b""))
    after = boot(replay(image, nor.operations[:cut]), OVMF_4M, "plain")
    assert after.duplicates == {MTC}
    assert boot(after.image, OVMF_4M, "plain").outcome == "hang"
    assert boot(after.image, OVMF_4M, "smm").outcome == "hang"


@pytest.mark.parametrize("build", ["plain", "smm"])
def test_a_missing_volume_header_is_the_end(reclaim: Reclaim, build: Build):
    places = [reclaim.erase_0 + 1, reclaim.erase_0 + 5, reclaim.program]
    images = [reclaim.after(place) for place in places] + [reclaim.after(reclaim.program, 0x47)]
    for image in images:
        first = boot(image, reclaim.layout, build)
        assert first.outcome == "wiped"
        assert first.variables == {}
        assert first.image[0x48 : OVMF_2M.work].strip(FF) == b""
        for _ in range(2):
            first = boot(first.image, reclaim.layout, build)
            assert first.outcome == "exception"


def test_the_header_is_back_and_live_data_is_missing(reclaim: Reclaim):
    image = reclaim.after(reclaim.program, 0x2000)
    assert reclaim.verdict("smm", image) == ""
    assert boot(image, reclaim.layout, "smm").variables.keys() == reclaim.new.keys()
    plain = boot(image, reclaim.layout, "plain")
    assert plain.illegal > 0
    assert reclaim.verdict("plain", image) != ""


@pytest.mark.parametrize("build", ["plain", "smm"])
def test_all_live_data_is_back(reclaim: Reclaim, build: Build):
    last = max(entry.end for entry in walk(boot_store(reclaim)))
    assert reclaim.verdict(build, reclaim.after(reclaim.program, 0x48 + last)) == ""
    for count in range(reclaim.program + 1, len(reclaim.operations) + 1):
        assert reclaim.verdict(build, reclaim.after(count)) == "", count


def boot_store(reclaim: Reclaim) -> bytes:
    done = replay(reclaim.start, reclaim.operations)
    return done[0x48 : reclaim.layout.variables]


# --- the safe rewrite's controls: without a canary, with a record of one block ---------------


def suffix_operations(layout: Layout, *, canary: bool, blocks: int | None) -> tuple:
    """The rewrite of the store behind block 0, written down by hand."""
    first = [counter(), *[variable(f"Head{i}", b"h" * 800) for i in range(3)]]
    first.append(variable("Edge", b"e" * 3000))
    # Eight of them to a block, so that old and new ones line up at the edge of a block.
    rest = [variable(f"V{i:02}", bytes([i]) * 444) for i in range(60)]
    assert {record.size for record in rest} == {512}
    dead = [variable(f"Dead{i}", b"d" * 440, state=0x3C) for i in range(8)]
    # They take exactly one block: each new block is what the next one was.
    assert sum(record.size for record in dead) == 0x1000
    old, new = made([*first, *dead, *rest], layout), made([*first, *rest], layout)
    count = layout.variables // 0x1000
    length = (count - 1 if blocks is None else blocks) * 0x1000
    last = count - 1 if blocks is None else blocks
    work, spare = layout.work, layout.spare
    entry = b"\xfe\xff\xff\xff" + CALLERS["plain"] + FF * 4 + struct.pack("<QQ", 1, 0)
    record = FF * 8 + struct.pack("<QQQq", 1, 0, length, 0x1000 - spare)
    steps = [("w", work + 32, entry), ("w", work + 32, b"\xfc"), ("w", work + 72, record)]
    steps += [("w", spare, new[0x1000 : 0x1000 + length])]
    steps += [("w", layout.variables - 4, bytes(4))] if canary else []
    steps += [("w", work + 72, b"\xfd")]
    begin = len(steps)
    for block in range(1, last + 1):
        at = block * 0x1000
        if old[at : at + 0x1000] != new[at : at + 0x1000] or (canary and block == last):
            steps += [("e", at, b""), ("w", at, new[at : at + 0x1000])]
    end = len(steps)
    steps += [("w", work + 72, b"\xf9"), ("w", work + 32, b"\xf8")]
    steps += [("e", spare + at, b"") for at in range(0, length, 0x1000)]
    return old, steps, begin, end


@pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M], ids=["2M", "4M"])
@pytest.mark.parametrize("build", ["plain", "smm"])
def test_the_rewrite_with_a_canary_survives_everywhere(layout: Layout, build: Build):
    old, steps, _, _ = suffix_operations(layout, canary=True, blocks=None)
    allowed = [variables_in(old, layout)]
    for count in range(len(steps) + 1):
        assert firmware_survives(replay(old, steps[:count]), layout, build, allowed) == "", count


@pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M], ids=["2M", "4M"])
def test_without_the_canary_it_does_not(layout: Layout):
    old, steps, begin, end = suffix_operations(layout, canary=False, blocks=None)
    allowed = [variables_in(old, layout)]

    def verdict(count: int, build: Build) -> str:
        return firmware_survives(replay(old, steps[:count]), layout, build, allowed)

    assert verdict(begin, "plain") != "", "right after spare complete"
    assert verdict(begin + 2, "plain") != "", "after the first block"
    assert all(verdict(count, "smm") == "" for count in range(begin, end))


def test_a_record_of_one_block_loses_what_is_behind_it_in_smm_builds():
    # All sixty stand behind the block, and the HOB takes everything behind it from the spare.
    records = [counter(), *[variable(f"Live{index}", b"v" * 500) for index in range(60)]]
    image = made(records, OVMF_2M)
    nor = Nor(image)
    assert Ftw(nor, OVMF_2M, 0, CALLERS["smm"]).write(0x1000, image[0x1000:0x2000])
    cut = replay(image, nor.operations[: nor.operations.index(("e", 0x1000, b""))])
    result = boot(cut, OVMF_2M, "smm")
    # The copy in RAM ends with the block: new records go over those behind it.
    assert result.stale
    assert result.illegal
    assert firmware_survives(cut, OVMF_2M, "smm", [variables_in(image, OVMF_2M)]) != ""


# --- pairs of code and variables, blank chips ------------------------------------------------


def test_2m_variables_with_4m_code_are_never_written():
    image = used_store(OVMF_2M)
    result = boot(image, OVMF_4M, "plain")
    assert (result.outcome, result.operations) == ("emulated", [])


def test_4m_variables_with_2m_code_lose_their_spare():
    result = boot(used_store(OVMF_4M), OVMF_2M, "plain")
    erases = [address for kind, address, _ in result.operations if kind == "e"]
    assert erases[:32] == list(range(0x64000, 0x84000, 0x1000))
    assert result.outcome == "wiped"
    assert boot(result.image, OVMF_2M, "plain").outcome == "exception"


@pytest.mark.parametrize(("layout", "build"), OVMF_BUILDS)
def test_an_erased_chip_gets_a_header_and_no_store(layout: Layout, build: Build):
    result = boot(FF * layout.length, layout, build)
    assert result.outcome == "wiped"
    assert result.image[:0x48] == layout.volume_header()
    assert result.image[0x48 : layout.variables].strip(FF) == b""
    for _ in range(2):
        result = boot(result.image, layout, build)
        assert result.outcome == "exception"


@pytest.mark.parametrize(("layout", "build"), OVMF_BUILDS)
def test_a_chip_of_zeros_is_no_flash(layout: Layout, build: Build):
    result = boot(bytes(layout.length), layout, build)
    assert (result.outcome, result.operations) == ("emulated", [])


def test_aavmf_formats_a_chip_of_zeros():
    first = boot(bytes(AAVMF.length), AAVMF, "aavmf")
    assert first.outcome == "wiped"
    assert names(first) == {"MTC"}
    assert boot(first.image, AAVMF, "aavmf").sound


# --- states of records -----------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "build"), BUILDS)
def test_two_live_records_of_one_name_hang(layout: Layout, build: Build):
    image = made([*some_variables(3), variable("V", b"1"), variable("V", b"2")], layout)
    for _ in range(2):
        result = boot(image, layout, build)
        assert result.outcome == "hang"
        image = result.image


@pytest.mark.parametrize(("layout", "build"), BUILDS)
def test_one_name_with_two_guids_is_fine(layout: Layout, build: Build):
    image = made([variable("V", b"1"), variable("V", b"2", OTHER)], layout)
    result = boot(image, layout, build)
    assert result.sound
    assert result.variables["V", GUID][1] == b"1"
    assert result.variables["V", OTHER][1] == b"2"


@pytest.mark.parametrize(("layout", "build"), BUILDS)
@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        (0x3E, None, b"old"), (0x3E, 0xFF, b"old"), (0x3E, 0x7F, b"old"), (0x3E, 0x3F, b"new"),
        (0x3C, 0x3F, b"new"), (0x3D, None, None), (0x7F, None, None),
    ],
)  # fmt: skip
def test_torn_states(layout: Layout, build: Build, old: int, new: int | None, value: bytes | None):
    records = [counter(), variable("V", b"old", state=old)]
    records += [] if new is None else [variable("V", b"new", state=new)]
    image = bytearray(made(records, layout))
    if new == 0xFF:
        place = image.rfind("V".encode("utf-16-le") + bytes(2))
        image[place : place + 7] = FF * 7
    result = boot(bytes(image), layout, build)
    assert result.sound
    found = result.variables.get(("V", GUID))
    assert (found and found[1]) == value


def test_a_torn_header_takes_sixty_bytes_and_hides_nothing():
    image = bytearray(made([variable("A", b"1"), variable("B", b"2")], OVMF_2M))
    at = image.find("B".encode("utf-16-le") + bytes(2)) - 60
    record = bytes(image[at : at + 68])
    image[at : at + 68] = FF * 68
    image[at : at + 3] = b"\xaa\x55\xff"
    image[at + 60 : at + 60 + 68] = record
    result = boot(bytes(image), OVMF_2M, "plain")
    assert result.sound
    assert {"A", "B"} <= names(result)


@pytest.mark.parametrize(("layout", "build"), BUILDS)
def test_a_lone_transition_is_live_and_a_reclaim_promotes_it(layout: Layout, build: Build):
    records = [counter(), variable("Lone", b"1", state=0x3E), variable("Half", b"2", state=0x7F)]
    image = made(records, layout)
    states = {b"L": 0x3E, b"H": 0x7F}
    for step in range(2):
        store = boot(image, layout, build).image[0x48 : layout.variables]
        found = {e.key[1][:1]: e.state for e in walk(store) if e.key[1][:1] in (b"L", b"H")}
        assert found == states
        if step == 0:
            image, states = dirty(image, layout), {b"L": 0x3F}


@pytest.mark.parametrize(("layout", "build"), BUILDS)
def test_a_byte_behind_the_last_record_costs_one_reclaim(layout: Layout, build: Build):
    image = dirty(used_store(layout), layout)
    first = boot(image, layout, build)
    assert first.sound
    assert first.reclaimed
    assert first.variables.keys() == variables_in(image, layout).keys()
    assert not boot(first.image, layout, build).reclaimed


# --- setting variables, cut ------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "build"), BUILDS)
def test_every_cut_inside_of_an_update_leaves_old_or_new(layout: Layout, build: Build):
    image = made([counter(), *some_variables(4), variable("V", b"old value")], layout)
    write = ("V", GUID, NV_BS, b"a value that is new")
    done = boot(image, layout, build, [write], count=False)
    assert [len(data) for _, _, data in done.operations] == [1, 60, 1, 23, 1, 1]
    kept = [variables_in(image, layout), done.variables]
    now = image
    values = []
    for count, (_, address, data) in enumerate(done.operations):
        for part in sorted({1, 2, 3, 40, 59, len(data)} & set(range(1, len(data) + 1))):
            torn = Nor(now)
            torn.program(address, data[:part])
            image = bytes(torn.data)
            assert firmware_survives(image, layout, build, kept) == "", (count, part)
        now = image
        values.append(boot(now, layout, build).variables["V", GUID][1])
    assert values == [b"old value"] * 4 + [b"a value that is new"] * 2


# --- the work space --------------------------------------------------------------------------


def test_the_51st_entry_renews_the_work_space():
    image = used_store(OVMF_2M, 5)
    for count in range(50):
        image = boot(dirty(image, OVMF_2M), OVMF_2M, "plain", count=False).image
        free = image[OVMF_2M.work + 32 + 80 * (count + 1) : OVMF_2M.spare]
        assert free.strip(FF) == b""
    last = boot(dirty(image, OVMF_2M), OVMF_2M, "plain", count=False)
    assert ("e", OVMF_2M.work, b"") in last.operations
    assert last.sound
    assert last.image[OVMF_2M.work + 32 + 80 : OVMF_2M.spare].strip(FF) == b""


@pytest.mark.parametrize(("layout", "build"), BUILDS)
@pytest.mark.parametrize("tail", [b"\x00", b"\xf0" * 100])
def test_a_work_space_reclaim_survives_at_every_operation(
    layout: Layout, build: Build, tail: bytes
):
    image = bytearray(used_store(layout, 12))
    at = layout.work + 32 + 200
    image[at : at + len(tail)] = tail
    start = bytes(image)
    done = boot(start, layout, build, count=False)
    assert done.sound
    assert ("e", layout.work, b"") in done.operations
    kept = [variables_in(start, layout)]
    nor = Nor(start)
    for kind, address, data in done.operations:
        if kind == "w":
            nor.program(address, data)
        else:
            nor.erase(address, layout.block, layout.block)
        assert firmware_survives(bytes(nor.data), layout, build, kept) == ""


@pytest.mark.parametrize(("layout", "build"), BUILDS)
def test_two_damaged_copies_of_the_work_space_are_started_anew(layout: Layout, build: Build):
    image = bytearray(used_store(layout, 12))
    image[layout.work : layout.work + 16] = bytes(16)
    result = boot(bytes(image), layout, build)
    assert result.sound
    assert result.image[layout.work : layout.work + 32] == layout.work_header()


# --- builds against states of a pending write (AAVMF has one block of variables) -------------


def pending(layout: Layout, build: Build) -> tuple[bytes, list, int]:
    """The operations of a write of the whole store, and where the target's erase begins."""
    start = used_store(layout, 12)
    nor = Nor(start)
    store = start[0x48 : layout.variables]
    # As a reclaim: the live records close up.
    live = b"".join(store[item.at : item.end] for item in walk(store) if item.state == 0x3F)
    content = (store[:28] + live).ljust(len(store), FF)
    assert Ftw(nor, layout, 0, CALLERS[build]).write(0x48, content)
    return start, nor.operations, nor.operations.index(("e", 0, b""))


def carried(start: bytes, operations, layout: Layout) -> bytes:
    nor = Nor(start)
    for kind, address, data in operations:
        if kind == "w":
            nor.program(address, data)
        else:
            nor.erase(address, layout.block, layout.block)
    return bytes(nor.data)


@pytest.mark.parametrize(("layout", "build"), BUILDS)
def test_spare_not_complete(layout: Layout, build: Build):
    start, operations, erase = pending(layout, build)
    image = carried(start, operations[: erase - 1], layout)
    assert firmware_survives(image, layout, build, [variables_in(start, layout)]) == ""
    assert boot(image, layout, build).image[layout.work + 32] == 0xF8, "aborted"


@pytest.mark.parametrize(("layout", "build"), BUILDS)
@pytest.mark.parametrize("target", ["old", "garbage", "half"])
def test_spare_complete_and_a_volume_header(layout: Layout, build: Build, target: str):
    start, operations, erase = pending(layout, build)
    image = bytearray(carried(start, operations[:erase], layout))
    keep = 0x48 + 28
    if target == "garbage":
        image[keep:0x3000] = bytes(index * 37 & 0xFF for index in range(0x3000 - keep))
    if target == "half":
        image[0x300 : layout.variables] = FF * (layout.variables - 0x300)
    result = boot(bytes(image), layout, build)
    assert result.replayed
    kept = [variables_in(start, layout)]
    verdict = firmware_survives(bytes(image), layout, build, kept)
    if build != "plain":
        assert verdict == ""
    elif target == "garbage":
        # What is behind the last record is not erased, so the store is rebuilt from flash.
        assert verdict == ""
    else:
        assert result.stale or result.illegal
        assert verdict != ""


@pytest.mark.parametrize(("layout", "build"), BUILDS)
def test_block_0_erased(layout: Layout, build: Build):
    start, operations, erase = pending(layout, build)
    result = boot(carried(start, operations[: erase + 1], layout), layout, build)
    assert result.outcome == "wiped"
    assert not result.replayed
    assert names(result) <= {"MTC"}
    assert boot(result.image, layout, build).outcome == ("ok" if build == "aavmf" else "exception")


@pytest.mark.parametrize(("layout", "build"), OVMF_BUILDS)
def test_volume_header_and_no_store_header(layout: Layout, build: Build):
    start, operations, erase = pending(layout, build)
    nor = Nor(carried(start, operations[: erase + layout.variables // layout.block], layout))
    nor.program(0, start[:0x48])
    result = boot(bytes(nor.data), layout, build)
    if build == "smm":
        assert result.sound
        assert names(result) == {name for name, _ in variables_in(start, layout)}
        return
    assert result.outcome == "exception"
    assert result.replayed
    assert boot(result.image, layout, build).sound


@pytest.mark.parametrize(("layout", "build"), BUILDS)
def test_destination_complete_and_complete(layout: Layout, build: Build):
    start, operations, erase = pending(layout, build)
    kept = [variables_in(start, layout)]
    marks = [
        index for index, (kind, address, _) in enumerate(operations)
        if kind == "w" and index > erase and layout.work <= address < layout.work + 0x80
    ]  # fmt: skip
    assert len(marks) == 2
    for index in marks:
        image = carried(start, operations[: index + 1], layout)
        assert firmware_survives(image, layout, build, kept) == ""


# --- every prefix of the recording -----------------------------------------------------------


@pytest.mark.slow
def test_prefixes_of_the_recorded_boot():
    """What a plain and an SMM build make of the volume at each step of the recording."""
    runs = merged(recorded_operations())
    image = recorded_volume()
    nor = Nor(image)
    verdicts: dict[str, list[str]] = {"plain": [], "smm": []}
    for kind, address, data in runs:
        keys = set(variables_in(bytes(nor.data), OVMF_2M))
        for build, found in verdicts.items():
            result = boot(bytes(nor.data), OVMF_2M, build)
            fine = result.sound and keys - set(result.variables) == set()
            found.append(result.outcome if result.outcome != "ok" else "ok" if fine else "damage")
        if kind == "w":
            nor.program(address, data)
        else:
            nor.erase(address, 0x1000, 0x1000)
    erases = [index for index, item in enumerate(runs) if item == ("e", 0, b"")]
    target = erases[0]
    wiped = [index for index, outcome in enumerate(verdicts["plain"]) if outcome == "wiped"]
    # From the erase of block 0 until it is programmed: 14 erases.
    assert wiped == list(range(target + 1, target + 15))
    assert [i for i, outcome in enumerate(verdicts["smm"]) if outcome == "wiped"] == wiped
    others = {i: outcome for i, outcome in enumerate(verdicts["smm"]) if i not in wiped}
    assert set(others.values()) == {"ok"}
    plain = {i: outcome for i, outcome in enumerate(verdicts["plain"]) if i not in wiped}
    # The store is so full that each boot ends with a reclaim, from flash: that mends the copy.
    assert set(plain.values()) == {"ok"}
