"""Whole-store rewrites: what they leave, in which order, and what a power cut leaves of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from volumes import (
    AAVMF,
    GUID,
    OTHER,
    OVMF_2M,
    after_power_cuts,
    entry,
    recorded_operations,
    some_variables,
    variable,
    volume_bytes,
)

from hwflash.errors import ImageError
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.erase_blocks import erase_limits, geometry
from hwflash.uefi.find import Found, find_stores
from hwflash.uefi.flashops import Erase, Operation, Program, Verify, carried_out
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Record, State
from hwflash.uefi.rewrite import reclaim, replace_records
from hwflash.uefi.status import EfiError
from hwflash.uefi.store import VariableStore
from hwflash.uefi.suffix_plan import plan_suffix
from hwflash.uefi.window import Window, filled_with
from hwflash.units import Range

Values = dict[tuple[str, object], tuple[int, bytes]]
Effect = tuple[str, int, bytes]
STORE_ROOM = OVMF_2M.store_size - 28


def nvram_of(image: bytes, erase_size: int = 0x1000) -> Nvram:
    (found,) = find_stores(bytes(image))
    return Nvram(Window(bytes(image)), found, erase_size)


def values(store: VariableStore | None) -> Values:
    assert store is not None
    return {record.key: (record.attributes, record.data) for record in store.live}


def values_of(records: list[Record]) -> Values:
    return {record.key: (record.attributes, record.data) for record in records}


def effects(image: bytes, operations: list[Effect]) -> tuple[list[Effect], bytes]:
    """What operations change: erases, and runs of programmed bytes that were different."""
    data = bytearray(image)
    found: list[tuple[str, int, bytearray]] = []
    for kind, address, content in operations:
        if kind == "e":
            data[address : address + len(content)] = content
            found.append(("e", address, bytearray(content)))
            continue
        for at, byte in enumerate(content, address):
            if data[at] == byte:
                continue
            assert data[at] & byte == byte, hex(at)
            data[at] = byte
            if found and found[-1][0] == "w" and found[-1][1] + len(found[-1][2]) == at:
                found[-1][2].append(byte)
            else:
                found.append(("w", at, bytearray([byte])))
    return [(kind, address, bytes(content)) for kind, address, content in found], bytes(data)


def as_recorded(operations: list[Operation]) -> list[Effect]:
    return [
        ("e", step.address, b"\xff" * step.length)
        if isinstance(step, Erase)
        else ("w", step.address, step.data)
        for step in operations
        if not isinstance(step, Verify)
    ]


# What the firmware makes of a volume that a power cut left, with hwflash's own reader.


def repaired(image: bytes, found: Found) -> bytes:
    """The volume after the firmware's fault-tolerant write driver has run."""
    if found.ftw.verdict != "replay":
        harmless = ("idle", "abort", "finish", "reclaim-work-space", "restore-work-space")
        assert found.ftw.verdict in harmless
        return image
    entry = found.ftw.pending
    assert entry is not None
    (record,) = entry.records
    assert found.areas.spare is not None
    assert found.volume is not None
    assert found.volume.block_size is not None
    spare = found.areas.spare.address
    target = spare + record.relative_offset
    assert target == found.base + record.lba * found.volume.block_size
    copy = image[spare : spare + record.length]
    return image[:target] + copy + image[target + record.length :]


def check_cut(image: bytes, old: Values, new: Values, *, gone: int = 0) -> str:
    """Old or new values, never two added records; returns which.

    Args:
        image: the volume as the cut left it.
        old: values before the rewrite.
        new: values after it.
        gone: variables of the first erase block that the rewrite deletes.
    """
    (found,) = find_stores(image)
    assert found.volume is not None
    assert found.volume.checksum_ok
    after = repaired(image, found)
    (healed,) = find_stores(after)
    store = healed.store
    assert store is not None
    added = [item.key for item in store.records if item.state == State.ADDED and item.name_bytes]
    assert len(added) == len(set(added))
    now = values(store)
    if found.ftw.verdict == "replay":
        # Firmware without SMM has copied the torn store to memory before. It rebuilds it from
        # the flash when something behind the last record is not erased; else the copy must be
        # what the flash holds after the repair.
        assert found.store is not None
        begin, end = found.store.base, found.store.end
        if filled_with(found.store.tail, 0xFF):
            assert image[begin:end] == after[begin:end]
    if now == old:
        return "old"
    for key in old.keys() - new.keys():
        if gone and now.get(key) == old[key]:
            del now[key]
    assert now == new
    return "new"


def cuts(
    image: bytes, operations: list[Operation], seed: int = 0, torn: int = 3
) -> Iterator[bytes]:
    """The volume in the middle of every operation and after it."""
    chance = random.Random(seed)
    window = Window(image)
    for step in operations:
        after = carried_out(window, [step])
        if not isinstance(step, Verify):
            begin, end = step.range.address, step.range.end
            for _ in range(torn):
                middle = chance.randint(begin, end)
                yield window.data[:begin] + after.data[begin:middle] + window.data[middle:]
            mask = chance.randbytes(end - begin)
            mixed = bytes(
                (a & m) | (b & ~m & 0xFF)
                for a, b, m in zip(window.data[begin:end], after.data[begin:end], mask, strict=True)
            )
            if isinstance(step, Erase) or len(step.data) == 1:
                yield window.data[:begin] + mixed + window.data[end:]
        window = after
        yield window.data


def survives(
    image: bytes, change: Callable[[Nvram], None], new: Values, *, gone: int = 0, seed: int = 0
) -> Nvram:
    """Carry out a change and cut it everywhere: first the old values, then the new ones."""
    nvram = nvram_of(image)
    old = values(nvram.store)
    head = image[:0x48]
    change(nvram)
    seen = set()
    window = Window(bytes(image))
    for step in nvram.operations:
        now = {check_cut(cut, old, new, gone=gone) for cut in cuts(window.data, [step], seed)}
        assert "new" not in seen or "old" not in now or old == new
        seen |= now
        window = carried_out(window, [step])
        assert window.data[:0x48] == head
    assert seen == {"old", "new"} or old == new
    assert carried_out(Window(bytes(image)), nvram.operations) == nvram.flash.window()
    assert nvram.found.healthy
    assert nvram.found.ftw.verdict == "idle"
    assert not any(item.code == "store.tail" for item in nvram.found.anomalies)
    assert values(nvram.store) == new
    return nvram


def filling(size: int, name: str = "Filling", **options) -> Record:
    """A record of so many bytes."""
    empty = variable(name, b"")
    return variable(name, bytes(range(256)) * (size // 256 + 1), **options) if size < 0 else (
        variable(name, (b"\xa5" * size)[: size - empty.size], **options)
    )  # fmt: skip


def test_the_firmwares_order_is_the_recorded_one():
    operations = recorded_operations()
    start = next(index for index, step in enumerate(operations) if step[1] == 0xF020)
    ((_, image),) = after_power_cuts([start])
    nvram = nvram_of(image)
    reclaim(nvram, order="edk2")
    expected, end = effects(image, operations[start:])
    ours, ended = effects(image, as_recorded(nvram.operations))
    assert len(expected) == 116
    assert ours == expected
    assert ended == end


def test_a_recorded_store_is_compacted_without_touching_its_first_block():
    operations = recorded_operations()
    start = next(index for index, step in enumerate(operations) if step[1] == 0xF020)
    ((_, image),) = after_power_cuts([start])
    before = values(nvram_of(image).store)
    assert len(before) == 28
    nvram = survives(image, reclaim, before)
    erased = [step.address for step in nvram.operations if isinstance(step, Erase)]
    assert erased == [0x1000 * block for block in range(1, 14)] + [0x10000, 0x11000]
    assert nvram.store.usage.free > 45_000
    compact = nvram_of(image)
    reclaim(compact, order="edk2")
    assert values(compact.store) == before


def test_an_update_of_a_record_in_the_first_block_is_old_or_new():
    old = variable("Boot0000", b"old" * 20)
    image = volume_bytes(
        [old, variable("Boot0001"), *[filling(0x700, f"Dead{i}", state=0x3C) for i in range(20)],
         variable("Last", b"last")]
    )  # fmt: skip
    new = variable("Boot0000", b"new and longer" * 30)
    wanted = values(nvram_of(image).store) | values_of([new])
    nvram = survives(
        image, lambda item: reclaim(item, adding=new, without=frozenset({new.key})), wanted
    )
    (first,) = [record for record in nvram.store.records if record.offset == 0x64]
    assert first.state == State.DELETED_AFTER_TRANSITION
    states = [step.data for step in nvram.operations if step.range == Range(0x66, 1)]
    assert states == [b"\x3e", b"\x3e", b"\x3c"], "marked, read back, marked"
    order = [step.range.address for step in nvram.operations if isinstance(step, Program)]
    complete = nvram.work_space.entries[-1].records[0].offset
    marked, canary = order.index(0x66), order.index(0xDFFC)
    assert marked < canary < order.index(complete, canary)
    assert order[-1] == 0x66


def test_a_record_across_the_end_of_the_first_block_stays_readable():
    tall = filling(0x2000, "Tall")
    image = volume_bytes([filling(0xE00, "Below"), tall, *some_variables(), filling(0x900, "Dead",
                          state=0x3D), variable("Top")])  # fmt: skip
    before = values(nvram_of(image).store)
    nvram = survives(image, reclaim, before)
    assert nvram.store.records[1].offset < 0x1000 < nvram.store.records[1].end
    new = variable("Tall", b"short")
    survives(image, lambda item: reclaim(item, adding=new), before | values_of([new]))


def test_a_lone_record_in_transition_is_promoted_in_the_suffix():
    lone = variable("Lone", b"still live", state=0x3E)
    image = volume_bytes([lone, *[filling(0x500, f"V{i}") for i in range(8)],
                          variable("Dead", state=0x3C)])  # fmt: skip
    before = values(nvram_of(image).store)
    assert lone.key in before
    nvram = survives(image, reclaim, before)
    assert {record.state for record in nvram.store.live} == {State.ADDED}
    assert nvram.store.records[0].state == State.DELETED_AFTER_TRANSITION


def test_hidden_copies_do_not_come_back_to_life():
    """Whatever hides them is moved or deleted; each of the copies is one that firmware finds."""
    hidden = variable("Twin", b"older", state=0x3E)
    image = volume_bytes(
        [hidden, variable("Other", b"stays"), *[filling(0x700, f"V{i}") for i in range(6)],
         variable("Twin", b"newer"), variable("Other", b"older", state=0x3E)]
    )  # fmt: skip
    before = values(nvram_of(image).store)
    assert before[hidden.key][1] == b"newer"
    survives(image, reclaim, before)
    without = frozenset({hidden.key})
    after = {key: value for key, value in before.items() if key != hidden.key}
    survives(image, lambda item: reclaim(item, without=without), after)
    changed = variable("Other", b"changed")
    survives(image, lambda item: reclaim(item, adding=changed), before | values_of([changed]))


def test_two_added_records_of_one_variable_are_made_one():
    image = volume_bytes(
        [variable("Twice", b"first"), *[filling(0x700, f"V{i}") for i in range(6)],
         variable("Twice", b"second")]
    )  # fmt: skip
    nvram = nvram_of(image)
    before = values(nvram.store)
    reclaim(nvram)
    assert nvram.found.healthy
    assert values(nvram.store) == before
    other = nvram_of(image)
    reclaim(other, adding=variable("Twice", b"third"))
    assert other.found.healthy
    assert other.store.find("Twice", GUID).data == b"third"
    states = []
    for cut in cuts(bytes(image), other.operations, torn=1):
        store = find_stores(repaired(cut, find_stores(cut)[0]))[0].store
        states.append(store.find("Twice", GUID).data)
    assert states == sorted(states), "first, then third; never second"


def test_variables_of_the_first_block_are_deleted_last():
    image = volume_bytes([variable("A"), variable("B"), *[filling(0x700, f"V{i}")
                          for i in range(6)]])  # fmt: skip
    nvram = nvram_of(image)
    old = values(nvram.store)
    news = [filling(0x600, "New"), variable("B")]
    replace_records(nvram, news)
    assert values(nvram.store) == values_of(news)
    for cut in cuts(bytes(image), nvram.operations):
        check_cut(cut, old, values_of(news), gone=1)
    last = [step for step in nvram.operations if "leaves out" in getattr(step, "why", "")]
    assert nvram.operations[-len(last) :] == last
    assert {step.data for step in last if isinstance(step, Program)} == {b"\x3d"}
    assert [step.range.address for step in last] == [
        record.offset + 2 for record in nvram_of(image).store.records
        if record.offset < 0x1000 and record.name != "B"
    ]  # fmt: skip


def test_what_only_needs_marks_needs_no_erase():
    image = volume_bytes([variable("A"), variable("B")])
    nvram = nvram_of(image)
    replace_records(nvram, [])
    assert values(nvram.store) == {}
    programs = [step for step in nvram.operations if isinstance(step, Program)]
    assert not [step for step in nvram.operations if isinstance(step, Erase)]
    assert [step.address for step in programs][-2:] == [0x66, 0x66 + variable("A").end]


def test_a_short_list_is_followed_by_a_filler():
    image = volume_bytes(some_variables(3))
    wanted = [*some_variables(2), variable("New", b"n" * 300), variable("Other", guid=OTHER)]
    nvram = nvram_of(image)
    old = values(nvram.store)
    replace_records(nvram, wanted)
    assert values(nvram.store) == values_of(wanted)
    (filler,) = [record for record in nvram.store.records if record.state == 0x7F]
    assert filler.end == 0x1000
    for cut in cuts(bytes(image), nvram.operations, torn=8):
        check_cut(cut, old, values_of(wanted), gone=1)


@pytest.mark.parametrize("left", [4, 60, 64, 68, 0xF00])
def test_a_filler_fits_wherever_the_list_ends(left: int):
    first = filling(0x1000 - 0x64 - left, "Nearly")
    image = volume_bytes([first])
    wanted = [first, variable("New", b"n" * 3000), variable("Newer", b"n")]
    survives(image, lambda nvram: replace_records(nvram, wanted), values_of(wanted))


@pytest.mark.slow
def test_a_store_that_stays_full_is_opened_at_the_gate():
    size = 0x1C0
    records = [filling(size, f"V{index:02}") for index in range(STORE_ROOM // size - 1)]
    dead = replace(records[20], state=0x3C)
    image = volume_bytes([*records[:20], dead, *records[21:]])
    assert nvram_of(image).store.free_offset > 0xD000
    new = filling(size + 12, "V30")
    wanted = values_of([*records[:20], *records[21:]]) | values_of([new])
    nvram = survives(
        image, lambda item: reclaim(item, adding=new, without=frozenset({new.key})), wanted
    )
    assert nvram.store.free_offset > 0xD000, "the last block has content"
    gate = [step for step in nvram.operations if step.range.length == 2]
    assert [type(step) for step in gate] == [Program, Verify, Program, Verify]
    assert [step.data for step in gate] == [b"\0\0", b"\0\0", b"\xaa\x55", b"\xaa\x55"]
    last = max(i for i, step in enumerate(nvram.operations) if step.range.address == 0xD000)
    first = min(i for i, step in enumerate(nvram.operations) if step.range.address == 0x1000)
    assert nvram.operations.index(gate[0]) < first
    assert nvram.operations.index(gate[2]) > last


def test_without_erased_bytes_a_dead_record_is_the_canary():
    records = [filling(0x700, f"V{index:02}") for index in range(30)]
    used = sum(len(record.build()) for record in records)
    full = filling(STORE_ROOM - used, "Full", state=0x3C)
    image = volume_bytes([*records, full])
    assert nvram_of(image).store.tail == b""
    before = values_of(records)
    without = frozenset({records[9].key})
    wanted = {key: value for key, value in before.items() if key not in without}
    nvram = survives(image, lambda item: reclaim(item, without=without), wanted)
    canary = next(step for step in nvram.operations if "canary" in getattr(step, "why", ""))
    assert canary.data == b"\0\0"
    assert canary.address == 0x64 + used


def test_without_any_canary_the_store_is_refused():
    size = 0x1C0
    records = [filling(size, f"V{index:02}") for index in range(STORE_ROOM // size - 1)]
    used = sum(len(record.build()) for record in records)
    full = filling(STORE_ROOM - used, "Full")
    image = volume_bytes([*records[:50], replace(records[50], state=0x3D), *records[51:], full])
    nvram = nvram_of(image)
    assert nvram.store.tail == b""
    with pytest.raises(ImageError) as caught:
        reclaim(nvram)
    assert caught.value.code == "uefi.no-canary"
    assert nvram.operations == []
    before = values(nvram.store)
    reclaim(nvram, order="edk2")
    assert values(nvram.store) == before


@pytest.mark.slow
def test_aavmf_changes_erase_blocks_and_enters_whole_blocks():
    records = [filling(0x1300, f"V{index:02}") for index in range(12)]
    image = volume_bytes([*records[:5], replace(records[5], state=0x3C), *records[6:]], AAVMF,
                         block=0x40000)  # fmt: skip
    new = variable("V00", b"changed")
    wanted = values_of([*records[:5], *records[6:]]) | values_of([new])
    nvram = survives(image, lambda item: reclaim(item, adding=new), wanted)
    (written,) = nvram.work_space.entries[-1].records
    assert (written.lba, written.start, written.length) == (0, 0, 0x40000)
    erased = [step.address for step in nvram.operations if isinstance(step, Erase)]
    assert min(erased) >= 0x1000
    assert {step.length for step in nvram.operations if isinstance(step, Erase)} == {0x1000}


def random_records(chance: random.Random) -> list[Record]:
    """Records as a used store has them: live, dead, torn, in transition, some hidden."""
    found: list[Record] = []
    names = [f"Variable{index}" for index in range(chance.randint(4, 20))]
    room = STORE_ROOM - chance.choice([0, 4, 100, 3000, 20000, 40000])
    added: set[str] = set()
    while True:
        name = chance.choice(names)
        state = chance.choice([0x3F, 0x3F, 0x3C, 0x3D, 0x7F, 0x3E])
        if state == 0x3F and name in added:
            state = 0x3C
        added |= {name} if state == 0x3F else set()
        size = chance.choice([1, 40, 700, 2500, 6000])
        record = variable(name, chance.randbytes(chance.randint(1, size)), state=state)
        room -= len(record.build())
        if room < 0:
            return found
        found.append(record)


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 120))]
)
def test_used_stores_survive_cuts(seed: int):
    chance = random.Random(seed)
    image = volume_bytes(random_records(chance))
    nvram = nvram_of(image)
    old = values(nvram.store)
    live = list(nvram.store.live)
    new = variable(chance.choice([*live, variable("New")]).name, chance.randbytes(200))
    dropped = [item for item in live if chance.random() < 0.2 and item.key != new.key]
    without = frozenset(item.key for item in dropped)
    wanted = {key: value for key, value in old.items() if key not in without} | values_of([new])
    refused = ""
    try:
        reclaim(nvram, adding=new, without=without)
    except ImageError as error:
        refused = error.code
    if refused:
        assert refused in ("efi.out-of-resources", "uefi.no-canary")
        assert nvram.operations == []
        return
    assert values(nvram.store) == wanted
    erased = [step.address for step in nvram.operations if isinstance(step, Erase)]
    gone = sum(item.offset < min(erased, default=0xE000) for item in dropped)
    for cut in cuts(bytes(image), nvram.operations, seed, torn=1):
        check_cut(cut, old, wanted, gone=gone)


@pytest.mark.slow
def test_a_new_work_space_is_made_when_the_queue_is_full():
    done = entry(header=0xF8, record=0xF9)
    image = volume_bytes([*[filling(0x700, f"V{i}") for i in range(6)], variable("D", state=0x3C)],
                         entries=(done,) * 50)  # fmt: skip
    nvram = survives(image, reclaim, values(nvram_of(image).store))
    assert len(nvram.work_space.entries) == 1


def dead_and_alive() -> list[Record]:
    return [filling(0x700, "A"), *[filling(0x700, f"D{i}", state=0x3C) for i in range(9)]]


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("ftw.pending", lambda image: put_entry(image, 0xFC, 0xFD)),
        ("ftw.pending", lambda image: put_entry(image, 0xFC, 0xFF)),
        ("ftw.work-space-invalid", lambda image: poke(image, 0xF014, 0xFC)),
        ("ftw.work-space-invalid", lambda image: poke(image, 0xF010, 0x00)),
        ("uefi.volume-damaged", lambda image: poke(image, 0x32, 0x00)),
        ("uefi.store-damaged", lambda image: poke(image, 0x48 + 20, 0x00)),
        ("uefi.store-damaged", lambda image: poke(image, 0x48 + 21, 0xFC)),
    ],
)
def test_preconditions(code: str, change: Callable[[bytearray], None]):
    image = volume_bytes(dead_and_alive())
    change(image)
    nvram = nvram_of(image)
    with pytest.raises(ImageError) as caught:
        reclaim(nvram)
    assert caught.value.code == code
    assert nvram.operations == []


def put_entry(image: bytearray, header: int, record: int) -> None:
    content = entry(header=header, record=record).build()
    image[0xF020 : 0xF020 + len(content)] = content


def poke(image: bytearray, offset: int, value: int) -> None:
    image[offset] = value


def test_a_dirty_end_of_the_first_block_is_refused():
    image = volume_bytes(some_variables(2))
    image[0x900] = 0
    nvram = nvram_of(image)
    with pytest.raises(ImageError) as caught:
        replace_records(nvram, [variable("New")])
    assert caught.value.code == "uefi.first-block"
    replace_records(nvram, [variable("New")], order="edk2")
    assert values(nvram.store) == values_of([variable("New")])


@pytest.mark.parametrize("order", ["suffix", "edk2"])
def test_what_does_not_fit_changes_nothing(order):
    image = volume_bytes([filling(0x1000, f"V{i}") for i in range(13)])
    nvram = nvram_of(image)
    with pytest.raises(EfiError) as caught:
        reclaim(nvram, adding=filling(0x1800, "Much"), order=order)
    assert caught.value.code == "efi.out-of-resources"
    assert caught.value.context["needed"] > caught.value.context["size"]
    assert nvram.operations == []


def test_records_that_cannot_be_stored():
    nvram = nvram_of(volume_bytes())
    for records, code in (
        ([variable("A"), variable("A", b"other")], "uefi.duplicate"),
        ([variable("A", kind="plain")], "uefi.record"),
        ([variable("")], "uefi.record"),
        ([replace(variable("A"), data=b"")], "uefi.record"),
    ):
        with pytest.raises(ImageError) as caught:
            replace_records(nvram, records)
        assert caught.value.code == code
    assert nvram.operations == []


def test_a_plain_store_and_one_at_another_place():
    records = [filling(0x700, f"V{i}", kind="plain") for i in range(9)]
    volume = volume_bytes([*records[1:], replace(records[0], state=0x3C)], kind="plain")
    image = b"\0" * 0x30000 + bytes(volume)
    nvram = nvram_of(image)
    reclaim(nvram)
    assert values(nvram.store) == values_of(records[1:])
    assert min(step.range.address for step in nvram.operations) > 0x30000


#: A board's own layout; OVMF insists on its block size.
FINE = replace(OVMF_2M, name="fine", length=0x1F000, spare=Range(0x10000, 0xF000), block=None)


@pytest.mark.parametrize("block", [0x200, 0x400, 0x800])
def test_volumes_with_smaller_blocks_than_the_flash_erases(block: int):
    image = volume_bytes(dead_and_alive(), FINE, block=block)
    nvram = survives(image, reclaim, values(nvram_of(image).store))
    (record,) = nvram.work_space.entries[-1].records
    assert record.lba * block == 0x1000


def test_flash_that_erases_too_much_at_a_time():
    nvram = nvram_of(volume_bytes(dead_and_alive()), 0x10000)
    for order in ("suffix", "edk2"):
        with pytest.raises(ImageError) as caught:
            reclaim(nvram, order=order)
        assert caught.value.code == "uefi.erase-block"
        assert caught.value.context["erase_size"] == 0x10000
    assert nvram.operations == []
    limits = erase_limits(nvram)
    assert (limits.in_place, limits.suffix, limits.edk2) == (True, False, False)
    assert limits.code == "uefi.erase-block"
    assert "0x00E000" in limits.text[-1]


#: A board whose chip erases 64 KiB: three blocks of variables, one of work space, four of spare.
COARSE = KnownLayout(
    "coarse", 0x80000, 0x30000, Range(0x30000, 0x10000), Range(0x40000, 0x40000), None
)  # fmt: skip


def test_areas_made_of_large_erase_blocks_are_rewritten():
    image = volume_bytes([filling(0x5000, "Live"), filling(0x5000, "Dead", state=0x3C),
                          filling(0x7000, "More"), filling(0x3000, "End")], COARSE)  # fmt: skip
    nvram = nvram_of(image, 0x10000)
    assert geometry(nvram).work == COARSE.work
    assert erase_limits(nvram).suffix
    before = values(nvram.store)
    wanted = before | values_of([variable("Live", b"new")])
    reclaim(nvram, adding=variable("Live", b"new"))
    erased = [step.address for step in nvram.operations if isinstance(step, Erase)]
    assert min(erased) == 0x10000
    seen = [check_cut(cut, before, wanted) for cut in cuts(bytes(image), nvram.operations, torn=1)]
    assert seen[0] == "old"
    assert seen[-1] == "new"
    assert values(nvram.store) == wanted


@pytest.mark.parametrize("layout", [OVMF_2M, FINE], ids=lambda item: item.name)
@pytest.mark.parametrize("block", [0, 3, 0x30, 0x1800, 0x20000, 0x80000000, 0xFFFFFFFF])
def test_hostile_block_sizes_are_refused(block: int, layout: KnownLayout):
    image = volume_bytes(dead_and_alive(), layout)
    image[60:64] = block.to_bytes(4, "little")
    image[50:52] = b"\0\0"
    total = sum(int.from_bytes(image[at : at + 2], "little") for at in range(0, 0x48, 2))
    image[50:52] = (-total & 0xFFFF).to_bytes(2, "little")
    nvram = nvram_of(image)
    for order in ("suffix", "edk2"):
        with pytest.raises(ImageError) as caught:
            reclaim(nvram, order=order)
        assert caught.value.code in ("uefi.block-size", "uefi.block-areas", "uefi.volume-damaged")
    assert nvram.operations == []
    assert not erase_limits(nvram).edk2


def test_limits_in_words():
    limits = erase_limits(nvram_of(volume_bytes()))
    assert (limits.in_place, limits.suffix, limits.edk2, limits.code) == (True, True, True, "")
    assert "from 0x001000 to 0x00E000" in limits.text[-1]
    whole = erase_limits(nvram_of(volume_bytes(layout=AAVMF, block=0x40000), 0x40000))
    assert (whole.suffix, whole.edk2, whole.code) == (False, True, "uefi.erase-block")
    assert "256 KiB" in whole.text[0]


def test_a_plan_changes_nothing():
    nvram = nvram_of(volume_bytes(dead_and_alive()))
    plan = plan_suffix(nvram, [filling(0x700, "A")])
    assert (plan.head_end, plan.gone, plan.moved, plan.gate) == (0x1000, (), (), False)
    assert nvram.operations == []


def test_a_spare_area_that_is_too_small_is_refused():
    layout = KnownLayout("small", 0x24000, 0x18000, Range(0x18000, 0x1000), Range(0x19000, 0xB000))
    nvram = nvram_of(volume_bytes(dead_and_alive(), layout))
    for order, code in (("suffix", "ftw.spare-small"), ("edk2", "ftw.target")):
        with pytest.raises(ImageError) as caught:
            reclaim(nvram, order=order)
        assert caught.value.code == code
    assert nvram.operations == []
    limits = erase_limits(nvram)
    assert (limits.suffix, limits.edk2, limits.code) == (False, False, "ftw.spare-small")


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [*range(20), *(pytest.param(n, marks=pytest.mark.slow) for n in range(20, 200))]
)
def test_damaged_volumes_are_refused_or_rewritten(seed: int):
    """Bytes of headers, records and queue are changed at random; nothing else may be raised."""
    chance = random.Random(seed)
    image = volume_bytes(random_records(chance), entries=(entry(header=0xF8, record=0xF9),) * 2)
    for _ in range(chance.randint(1, 6)):
        place = chance.choice([(0, 0x90), (0, 0x2000), (0xF000, 0xF0F0), (0x10000, 0x10040)])
        image[chance.randrange(*place)] = chance.randrange(256)
    for order in ("suffix", "edk2"):
        for found in find_stores(bytes(image)):
            nvram = Nvram(Window(bytes(image)), found)
            erase_limits(nvram)
            before = values(found.store) if found.store is not None else {}
            refused = ""
            try:
                reclaim(nvram, order=order)
            except ImageError as error:
                refused = error.code
            if refused:
                assert refused.startswith(("uefi.", "ftw.", "efi."))
                assert nvram.operations == []
            else:
                assert values(nvram.store) == before


def test_a_reclaim_with_nothing_to_gain_writes_nothing():
    image = volume_bytes(some_variables())
    nvram = nvram_of(image)
    free = nvram.store.usage.free
    reclaim(nvram)
    assert nvram.operations == []
    assert nvram.store.usage.free == free


def test_a_reclaim_with_only_a_hidden_copy_marks_it_and_writes_nothing_else():
    hidden = variable("Variable1", b"older", state=State.IN_DELETED_TRANSITION)
    image = volume_bytes([hidden, *some_variables()])
    nvram = nvram_of(image)
    before = values(nvram.store)
    reclaim(nvram)
    assert [(step.range, step.data) for step in nvram.operations if isinstance(step, Program)] == [
        (Range(0x66, 1), b"\x3c")
    ]
    assert not any(isinstance(step, Erase) for step in nvram.operations)
    assert values(nvram.store) == before


def test_a_reclaim_with_nothing_to_gain_still_refuses_a_pending_write():
    image = volume_bytes(some_variables(), entries=(entry(record=0xFB),))
    nvram = nvram_of(image)
    with pytest.raises(ImageError) as caught:
        reclaim(nvram)
    assert caught.value.code == "ftw.pending"
    assert nvram.operations == []
