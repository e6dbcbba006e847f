"""Fault-tolerant writes: every operation in its order, and what each refuses."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from volumes import AAVMF, OVMF_2M, OVMF_4M, entry, some_variables, variable, volume_bytes

from hwflash.errors import ImageError
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.erase_blocks import erase_limits, geometry
from hwflash.uefi.find import find_stores
from hwflash.uefi.flashops import Erase, Program, Verify, carried_out
from hwflash.uefi.ftw import make_work_space
from hwflash.uefi.ftw_write import (
    DRIVER_CALLER,
    SMM_CALLER,
    abort,
    allocate,
    flush_spare_to_work_space,
    ftw_write,
    initialise_work_space,
    mark_complete,
    mark_destination_complete,
    mark_spare_complete,
    reclaim_work_space,
    restart,
)
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.rewrite import reclaim
from hwflash.uefi.window import Window
from hwflash.units import Range

WORK, SPARE = OVMF_2M.work.address, OVMF_2M.spare.address
QUEUE = WORK + 32
GOLDEN = bytes.fromhex("2b29589e687c7d49a0ce6500fd9f1b952caf2c64feffffffe00f000000000000")


def nvram_of(image: bytes, erase_size: int = 0x1000) -> Nvram:
    (found,) = find_stores(bytes(image))
    return Nvram(Window(bytes(image)), found, erase_size)


def steps(nvram: Nvram) -> list[tuple[str, int, bytes]]:
    """Programs with the data of short ones, and erases."""
    return [
        ("P", step.address, step.data if len(step.data) <= 4 else step.data[:1])
        if isinstance(step, Program)
        else ("E", step.address, b"")
        for step in nvram.operations
        if not isinstance(step, Verify)
    ]


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(ImageError) as caught:
        call()
    assert "offset" in caught.value.context
    return caught.value.code


def pending(header: int, record: int, **options) -> bytearray:
    write = entry(header=header, record=record)
    return volume_bytes(some_variables(), entries=(write,), **options)


def test_a_write_of_two_blocks_in_the_drivers_order():
    nvram = nvram_of(volume_bytes(some_variables()))
    before = nvram.flash.window().data
    data = bytes(range(1, 201)) * 25
    ftw_write(nvram, 3, 0x10, data, caller=SMM_CALLER)
    record = QUEUE + 40
    spare = [("E", block, b"") for block in range(SPARE, SPARE + 0x10000, 0x1000)]
    assert steps(nvram) == [
        ("P", QUEUE, b"\xfe"), ("P", QUEUE, b"\xfc"), ("P", record, b"\xff"),
        *spare, ("P", SPARE, b"\xff"), ("P", SPARE + 0x1000, data[0xFF0:0xFF1]),
        ("P", record, b"\xfd"), ("E", 0x3000, b""), ("E", 0x4000, b""),
        ("P", 0x3000, b"\xff"), ("P", 0x4000, data[0xFF0:0xFF1]),
        ("P", record, b"\xf9"), ("P", QUEUE, b"\xf8"), *spare,
    ]  # fmt: skip
    after = nvram.flash.window().data
    assert after[0x3010 : 0x3010 + len(data)] == data
    changed = [at for at, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
    assert {at // 0x1000 for at in changed} == {3, 4, 15}
    (done,) = nvram.work_space.entries
    assert (done.caller, done.flags, done.records[0].flags) == (SMM_CALLER, 0xF8, 0xF9)
    assert done.records[0].relative_offset == 0x3000 - SPARE
    verified = [step.range for step in nvram.operations if isinstance(step, Verify)]
    header, flag = Range(QUEUE, 1), Range(record, 1)
    spare, target = Range(SPARE, 0x2000), Range(0x3000, 0x2000)
    assert verified == [header, spare, flag, target, flag, header]


def test_the_spare_areas_content_is_restored():
    image = volume_bytes(some_variables())
    image[SPARE + 0x5000 : SPARE + 0x5008] = b"\x80\0\x80\0\x80\0\x80\0"
    nvram = nvram_of(image)
    ftw_write(nvram, 4, 0, b"data")
    assert nvram.flash.read(SPARE, 0x10000) == bytes(image[SPARE : SPARE + 0x10000])
    assert nvram.work_space.last.caller == DRIVER_CALLER


def test_the_marks_one_by_one():
    nvram = nvram_of(volume_bytes(some_variables()))
    waiting = allocate(nvram, 0, 0x48, OVMF_2M.store_size)
    assert nvram.found.ftw.verdict == "abort"
    assert nvram.work_space.last == waiting
    mark_spare_complete(nvram, waiting)
    assert nvram.found.ftw.verdict == "replay"
    mark_destination_complete(nvram, waiting)
    assert nvram.found.ftw.verdict == "finish"
    mark_complete(nvram, waiting)
    assert nvram.found.ftw.verdict == "idle"
    assert nvram.work_space.last.flags == 0xF8
    assert nvram.work_space.last.records[0].flags == 0xF9


def test_the_fifty_first_write_renews_the_work_space():
    nvram = nvram_of(volume_bytes(some_variables()))
    for count in range(1, 51):
        ftw_write(nvram, 5, 0, bytes([count]))
        assert len(nvram.work_space.entries) == count
    assert nvram.work_space.free == 64
    begin = len(steps(nvram))
    ftw_write(nvram, 5, 0, b"\x33")
    spare = [("E", block, b"") for block in range(SPARE, SPARE + 0x10000, 0x1000)]
    assert steps(nvram)[begin : begin + 38] == [
        *spare, ("P", SPARE, b"\x2b"), ("P", SPARE + 20, b"\xfe"), ("P", WORK + 20, b"\xfc"),
        ("E", WORK, b""), ("P", WORK, b"\x2b"), ("P", WORK + 20, b"\xfe"), *spare,
    ]  # fmt: skip
    assert len(nvram.work_space.entries) == 1
    assert nvram.flash.read(WORK, 32) == GOLDEN


@pytest.mark.parametrize(
    ("offset", "content"),
    [
        (0xFFF, b"\0"),
        (40, b"\xff" * 39 + b"\0"),
        (0, b"\xff" * 4 + bytes(36)),
    ],
)
def test_a_dirty_queue_is_renewed_before_a_write(offset: int, content: bytes):
    image = volume_bytes(some_variables())
    at = WORK + offset if offset == 0xFFF else QUEUE + offset
    image[at : at + len(content)] = content
    nvram = nvram_of(image)
    assert nvram.found.ftw.verdict == "reclaim-work-space"
    ftw_write(nvram, 5, 0, b"data")
    assert nvram.found.ftw.verdict == "idle"
    assert nvram.flash.read(0x5000, 4) == b"data"


def test_a_queue_that_leads_out_of_the_work_space_is_renewed():
    image = pending(0xF8, 0xF9)
    image[QUEUE + 24 : QUEUE + 32] = (1 << 40).to_bytes(8, "little")
    nvram = nvram_of(image)
    assert not nvram.work_space.walkable
    ftw_write(nvram, 5, 0, b"data")
    assert len(nvram.work_space.entries) == 1


def test_what_a_write_refuses():
    invalid = volume_bytes()
    invalid[WORK + 20] = 0xFC
    odd = volume_bytes()
    odd[WORK + 21] = 0x7F
    cases: list[tuple[str, bytearray, int, int, int]] = [
        ("ftw.pending", pending(0xFC, 0xFF), 1, 0, 1),
        ("ftw.pending", pending(0xFE, 0xFF), 1, 0, 1),
        ("ftw.pending", pending(0xFC, 0xFD), 1, 0, 1),
        ("ftw.work-space-invalid", invalid, 1, 0, 1),
        ("ftw.work-space-invalid", odd, 1, 0, 1),
        ("ftw.target", volume_bytes(), 16, 0, 1),
        ("ftw.target", volume_bytes(), -1, 0, 1),
        ("ftw.target", volume_bytes(), 1, -1, 1),
        ("ftw.target", volume_bytes(), 1, 0, 0),
        ("ftw.target", volume_bytes(), 15, 0, 0x1001),
        ("ftw.working-block", volume_bytes(), 15, 0, 1),
    ]
    for code, image, lba, offset, length in cases:
        nvram = nvram_of(image)
        data = bytes(length)
        assert code_of(lambda n=nvram, a=(lba, offset, data): ftw_write(n, *a)) == code
        assert nvram.operations == []


def test_without_work_space_or_spare():
    bare = volume_bytes()[:0x48] + volume_bytes()[0x48:0xE000]
    bare[32:40] = (0xE000).to_bytes(8, "little")
    assert code_of(lambda: ftw_write(nvram_of(bare), 1, 0, b"x")) == "ftw.no-work-space"
    assert erase_limits(nvram_of(bare)).code == "ftw.no-work-space"


@pytest.mark.parametrize("flags", [(0xFE, 0xFF), (0xFC, 0xFF), (0xFC, 0xFD), (0xFC, 0xF9)])
def test_abort_sets_one_bit(flags: tuple[int, int]):
    nvram = nvram_of(pending(*flags))
    abort(nvram)
    assert steps(nvram) == [("P", QUEUE, bytes([flags[0] & 0xFB]))]
    assert nvram.found.ftw.verdict == "idle"
    assert code_of(lambda: abort(nvram)) == "ftw.nothing-pending"


def test_restart_finishes_from_the_spare():
    image = pending(0xFC, 0xFD)
    new = volume_bytes([variable("New")])
    image[SPARE : SPARE + 0xE000] = new[:0xE000]
    image[0x3000:0x5000] = b"\xff" * 0x2000
    nvram = nvram_of(image)
    restart(nvram)
    assert nvram.flash.read(0, 0xE000) == bytes(new[:0xE000])
    assert nvram.flash.read(SPARE, 0x10000) == b"\xff" * 0x10000
    record = QUEUE + 40
    order = [step for step in steps(nvram) if step[1] >= WORK and step[0] == "P"]
    assert order == [("P", record, b"\xf9"), ("P", QUEUE, b"\xf8")]
    assert [step[1] for step in steps(nvram)][:14] == list(range(0, 0xE000, 0x1000))
    assert nvram.found.ftw.verdict == "idle"


def test_what_restart_refuses():
    assert code_of(lambda: restart(nvram_of(volume_bytes()))) == "ftw.nothing-pending"
    assert code_of(lambda: restart(nvram_of(pending(0xFC, 0xFF)))) == "ftw.spare-incomplete"
    assert code_of(lambda: restart(nvram_of(pending(0xFC, 0xF9)))) == "ftw.spare-incomplete"
    assert code_of(lambda: restart(nvram_of(pending(0xFC, 0xFC)))) == "ftw.boot-block"
    record = QUEUE + 40
    hostile = {
        8: (b"\xff" * 8, "ftw.target"), 16: (b"\xff" * 8, "ftw.target"),
        24: (b"\xff" * 8, "ftw.target"), 32: (bytes(8), "ftw.target"),
    }  # fmt: skip
    for offset, (content, code) in hostile.items():
        image = pending(0xFC, 0xFD)
        image[record + offset : record + offset + 8] = content
        nvram = nvram_of(image)
        assert code_of(lambda n=nvram: restart(n)) == code
        assert nvram.operations == []
    for number in (0, 2, 200, 1 << 62):
        image = pending(0xFC, 0xFD)
        image[QUEUE + 24 : QUEUE + 32] = number.to_bytes(8, "little")
        nvram = nvram_of(image)
        if number == 2:
            # The second record is erased: the first is done, and the entry stays open.
            restart(nvram)
            assert nvram.work_space.last.flags == 0xFC
            continue
        assert code_of(lambda n=nvram: restart(n)) == "ftw.queue"
        assert nvram.operations == []


def test_a_renewed_work_space_keeps_what_is_pending():
    image = pending(0xFC, 0xFD)
    image[SPARE : SPARE + 0xE000] = image[:0xE000]
    nvram = nvram_of(image)
    waiting = nvram.work_space.last
    reclaim_work_space(nvram, keep_last=True)
    assert nvram.work_space.last == waiting
    assert nvram.found.ftw.verdict == "replay"
    assert nvram.flash.read(SPARE, 0x10000) == bytes(image[SPARE : SPARE + 0x10000])
    reclaim_work_space(nvram)
    assert nvram.work_space.entries == ()
    hostile = pending(0xFC, 0xFD)
    hostile[QUEUE + 24 : QUEUE + 32] = b"\xff" * 8
    nvram = nvram_of(hostile)
    assert code_of(lambda: reclaim_work_space(nvram, keep_last=True)) == "ftw.queue"


@pytest.mark.parametrize("layout", [OVMF_2M, OVMF_4M, AAVMF])
@pytest.mark.parametrize("junk", [b"", b"\0", b"\xff", b"\x5a"])
def test_a_work_space_is_made_where_there_is_none(layout: KnownLayout, junk: bytes):
    block = 0x40000 if layout is AAVMF else 0x1000
    image = volume_bytes(some_variables(), layout, block=block)
    work = layout.work
    image[work.address : work.end] = (junk or image[:1]) * work.length
    nvram = nvram_of(image)
    initialise_work_space(nvram)
    assert nvram.flash.read(work.address, work.length) == make_work_space(work.length).build()
    assert nvram.found.ftw.verdict == "idle"
    ftw_write(nvram, 0, 0, bytes(image[:0x48]))
    assert nvram.found.healthy


def test_cuts_while_the_work_space_is_renewed_leave_one_that_is_valid():
    done = entry(header=0xF8, record=0xF9)
    image = bytes(volume_bytes(some_variables(), entries=(done,) * 50))
    nvram = nvram_of(image)
    reclaim_work_space(nvram)
    chance = random.Random(4)
    window = Window(image)
    verdicts = set()
    for step in nvram.operations:
        after = carried_out(window, [step])
        begin, end = step.range.address, step.range.end
        for middle in (begin, chance.randint(begin, end), end):
            cut = window.data[:begin] + after.data[begin:middle] + window.data[middle:]
            (found,) = find_stores(cut)
            verdicts.add(found.ftw.verdict)
            assert len(found.store.live) == 5
            if found.ftw.verdict != "restore-work-space":
                continue
            restored = Nvram(Window(cut), found)
            flush_spare_to_work_space(restored)
            assert restored.found.ftw.verdict == "idle"
            assert restored.work_space.entries == ()
        window = after
    assert verdicts == {"idle", "restore-work-space"}


def test_a_copy_that_is_not_there_is_not_flushed():
    nvram = nvram_of(volume_bytes())
    assert code_of(lambda: flush_spare_to_work_space(nvram)) == "ftw.no-copy"
    assert nvram.operations == []


#: 64 KiB blocks; variables and work space share the fourth one.
SHARED = KnownLayout(
    "shared", 0x80000, 0x3E000, Range(0x3E000, 0x2000), Range(0x40000, 0x40000), None
)  # fmt: skip


def test_a_target_with_the_work_space_in_it():
    image = volume_bytes([*some_variables(), variable("Dead", state=0x3C)], SHARED, block=0x10000)
    nvram = nvram_of(image)
    place = geometry(nvram)
    assert (place.shared, place.work_block, place.work_in_spare) == (
        True, Range(0, 0x40000), 0x7E000,
    )  # fmt: skip
    assert code_of(lambda: reclaim(nvram)) == "ftw.work-space-shared"
    assert code_of(lambda: ftw_write(nvram, 1, 0, b"x")) == "ftw.working-block"
    assert nvram.operations == []
    limits = erase_limits(nvram)
    assert (limits.suffix, limits.edk2, limits.code) == (False, True, "ftw.work-space-shared")
    live = {record.key: record.data for record in nvram.store.live}
    reclaim(nvram, order="edk2")
    assert {record.key: record.data for record in nvram.store.live} == live
    assert len(nvram.store.records) == 5
    record = 0x3E000 + 32 + 40
    marks = [step for step in steps(nvram) if step[0] == "P" and len(step[2]) == 1]
    marks = [step for step in marks if step[1] % 0x1000 or step[1] == 0x3E000]
    assert marks == [
        ("P", 0x3E020, b"\xfe"), ("P", 0x3E020, b"\xfc"), ("P", record, b"\xff"),
        ("P", record, b"\xfd"), ("P", record + 0x40000, b"\xfd"), ("P", 0x3E014, b"\xfc"),
        ("P", 0x3E014, b"\xfe"), ("P", record, b"\xf9"), ("P", 0x3E020, b"\xf8"),
    ]  # fmt: skip
    assert nvram.found.ftw.verdict == "idle"
    assert nvram.found.healthy
    reclaim_work_space(nvram)
    assert nvram.work_space.entries == ()
    assert {record.key: record.data for record in nvram.store.live} == live


def test_larger_erase_blocks_are_checked_before_anything_is_done():
    nvram = nvram_of(volume_bytes(layout=OVMF_4M), 0x10000)
    for call in (
        lambda: ftw_write(nvram, 0, 0, b"x"),
        lambda: reclaim_work_space(nvram),
        lambda: initialise_work_space(nvram),
    ):
        assert code_of(call) == "uefi.erase-block"
    assert nvram.operations == []
    small = nvram_of(volume_bytes(), 0x800)
    ftw_write(small, 3, 0, b"data")
    assert {step.length for step in small.operations if isinstance(step, Erase)} == {0x800}
