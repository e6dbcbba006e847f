"""SetVariable: flash operations in order, against real firmware, a model, and power cuts."""

from __future__ import annotations

import random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import examples
from variable_services import (
    APPEND,
    AT,
    AW,
    FIRST,
    INVALID,
    NV_BS_RT,
    T1,
    T2,
    VIOLATION,
    attempt,
    live,
    names,
    nvram_of,
    programs,
    refused,
    services,
)
from volumes import (
    GUID,
    NV_BS,
    OTHER,
    OVMF_2M,
    recorded_operations,
    recorded_volume,
    some_variables,
    variable,
    volume_bytes,
)

from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.find import find_stores
from hwflash.uefi.flashops import Erase, Program, Verify, carried_out
from hwflash.uefi.ftw_write import restart
from hwflash.uefi.guids import CERT_SHA256, GLOBAL_VARIABLE, IMAGE_SECURITY
from hwflash.uefi.records import Record, State
from hwflash.uefi.services import VariableServices
from hwflash.uefi.siglist import Signature, SignatureList, parse_signature_lists
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.uefi.store import walk
from hwflash.uefi.window import Window

# ---------------------------------------------------------------- operations


def test_a_new_variable_in_four_programs():
    """UEFI-SPEC: header with state FF, 7F, name and data, 3F; read back before the last."""
    service = services([variable("Old", b"old!")])
    at = FIRST + 60 + 8 + 4
    outcome = service.set_variable("New", GUID, NV_BS, b"value")
    assert outcome.change == "new"
    assert not outcome.reclaimed
    whole = variable("New", b"value", state=State.HEADER_VALID_ONLY).build()[:-3]
    header = whole[:2] + b"\xff" + whole[3:60]
    body = "New\0".encode("utf-16-le") + b"value"
    steps = service.nvram.operations
    assert [(step.address, step.data) for step in steps] == [
        (at, header),
        (at + 2, b"\x7f"),
        (at + 60, body),
        (at, whole),
        (at + 2, b"\x3f"),
    ]
    assert [type(step) for step in steps] == [Program, Program, Program, Verify, Program]
    assert all(step.why.startswith("New: ") for step in steps if isinstance(step, Program))
    assert outcome.record.offset == at
    assert service.nvram.found.healthy


def test_an_update_marks_the_old_record_before_and_after():
    service = services([variable("Old", b"old!"), variable("Next", b"1234")])
    old, at = FIRST, FIRST + 72 + 60 + 10 + 4 + 2
    outcome = service.set_variable("Old", GUID, NV_BS, b"new")
    assert outcome.change == "updated"
    found = programs(service)
    assert found[0] == (old + 2, b"\x3e")
    assert [(address, data[-1:]) for address, data in found[1:]] == [
        (at, b"\x55"),
        (at + 2, b"\x7f"),
        (at + 60, b"w"),
        (at + 2, b"\x3f"),
        (old + 2, b"\x3c"),
    ]


def test_an_update_and_a_deletion_retire_every_older_record():
    records = [
        variable("Old", b"1", state=State.IN_DELETED_TRANSITION),
        variable("Old", b"2", state=State.IN_DELETED_TRANSITION),
        variable("Old", b"3"),
    ]
    one, two, three = (FIRST + index * 72 + 2 for index in range(3))
    service = services(records)
    service.set_variable("Old", GUID, NV_BS, b"4")
    states = [step for step in programs(service) if step[0] in (one, two, three)]
    assert states == [(one, b"\x3c"), (two, b"\x3c"), (three, b"\x3e"), (three, b"\x3c")]
    service = services(records)
    assert service.set_variable("Old", GUID, 0, b"").change == "deleted"
    assert programs(service) == [(one, b"\x3c"), (two, b"\x3c"), (three, b"\x3d")]
    # A lone record in transition is the value; it goes from 3E to 3C.
    service = services(records[:1])
    assert service.set_variable("Old", GUID, NV_BS, b"").change == "deleted"
    assert programs(service) == [(one, b"\x3c")]
    service = services(records[:1])
    service.set_variable("Old", GUID, NV_BS, b"2")
    assert programs(service)[0][0] == FIRST + 72, "3E already"
    assert programs(service)[-1] == (one, b"\x3c")


def test_the_same_value_is_no_operation():
    service = services([variable("Old", b"old"), variable("Lone", b"l", state=0x3E)])
    for call in (
        ("Old", NV_BS, b"old"),
        ("Old", NV_BS | APPEND, b""),
        ("New", NV_BS | APPEND, b""),
        ("Lone", NV_BS, b"l"),
    ):
        outcome = service.set_variable(call[0], GUID, *call[1:])
        assert outcome.change == "unchanged"
        assert service.nvram.operations == []
    assert service.set_variable("New", GUID, NV_BS | APPEND, b"").record is None


def test_append():
    service = services([variable("Old", b"old")])
    assert service.set_variable("Old", GUID, NV_BS | APPEND, b"+new").change == "updated"
    assert service.get_variable("Old", GUID).data == b"old+new"
    assert service.set_variable("New", GUID, NV_BS | APPEND, b"x").change == "new"
    assert service.get_variable("New", GUID).attributes == NV_BS, "the bit is never stored"


def hashes(*numbers: int, owner: UUID = GUID) -> bytes:
    signatures = tuple(Signature(owner, bytes([number]) * 32) for number in numbers)
    return SignatureList(CERT_SHA256, signatures, signature_size=48).build()


def test_append_to_a_signature_database_leaves_out_what_is_there():
    stored = variable("dbx", hashes(1, 2), IMAGE_SECURITY, attributes=NV_BS_RT | AT)
    service = services([stored])
    call = ("dbx", IMAGE_SECURITY, NV_BS_RT | AT | APPEND)
    assert refused(service, *call, hashes(3)) == VIOLATION
    assert service.set_variable(*call, hashes(2, 1), force=True).change == "unchanged"
    assert service.nvram.operations == []
    service.set_variable(*call, hashes(1, 3) + hashes(2), force=True)
    data = service.get_variable("dbx", IMAGE_SECURITY).data
    assert data == hashes(1, 2) + hashes(3)
    # Another owner makes another signature.
    service.set_variable(*call, hashes(1, owner=OTHER), force=True)
    data = service.get_variable("dbx", IMAGE_SECURITY).data
    assert [len(item.signatures) for item in parse_signature_lists(data)] == [2, 1, 1]
    before = len(service.nvram.operations)
    for bad in (b"rubbish", hashes(4)[:-1], hashes(), hashes(4) + b"x"):
        with pytest.raises(EfiError) as caught:
            service.set_variable(*call, bad, force=True)
        assert caught.value.status == INVALID
    assert len(service.nvram.operations) == before


def test_an_ordinary_variable_with_the_name_of_a_database_is_none():
    service = services([variable("dbx", b"rubbish")])
    service.set_variable("dbx", GUID, NV_BS | APPEND, b"rubbish")
    assert service.get_variable("dbx", GUID).data == b"rubbish" * 2


def test_a_platform_key_is_one_signature():
    service = services()
    call = ("PK", GLOBAL_VARIABLE, NV_BS_RT | AT)
    assert refused(service, *call, hashes(1, 2), force=True) == INVALID
    assert service.set_variable(*call, hashes(1), force=True, timestamp=T1).change == "new"


def test_time_stamps_of_forced_writes():
    attributes = NV_BS_RT | AT
    service = services([variable("Old", b"1", attributes=attributes, timestamp=T1.build())])

    def put(data: bytes, flags: int = attributes, when: EfiTime | None = None) -> EfiTime:
        service.set_variable("Old", GUID, flags, data, timestamp=when, force=True)
        return service.get_variable("Old", GUID).timestamp

    earlier = EfiTime(2023, 1, 1)
    for when in (T1, earlier, EfiTime(2026, 1, 1, nanosecond=1), EfiTime(2026, 1, 1, time_zone=60)):
        for flags, data in ((attributes, b"2"), (0, b"")):
            wrong = refused(service, "Old", GUID, flags, data, timestamp=when, force=True)
            assert wrong == VIOLATION
    assert refused(service, "Old", GUID, attributes, b"2", timestamp=T2) == VIOLATION
    assert put(b"2") == T1, "without a time the stored one stays"
    assert put(b"+", attributes | APPEND, earlier) == T1
    assert put(b"+", attributes | APPEND, T2) == T2
    done = len(service.nvram.operations)
    assert put(b"", attributes | APPEND, EfiTime(2025, 1, 2)) == EfiTime(2025, 1, 2)
    assert len(service.nvram.operations) > done, "the time alone is a change"
    assert put(b"2++", attributes, EfiTime(2025, 1, 3)) == EfiTime(2025, 1, 3)
    with pytest.raises(EfiError) as caught:
        service.set_variable("Plain", GUID, NV_BS, b"x", timestamp=T1, force=True)
    assert caught.value.status == INVALID
    for name, flags, time in (("A", attributes, T1), ("B", attributes | APPEND, EfiTime())):
        service.set_variable(name, GUID, flags, b"x", timestamp=T1, force=True)
        assert service.get_variable(name, GUID).timestamp == time


def test_a_forced_write_keeps_the_count_of_counter_based_authentication():
    attributes = NV_BS_RT | AW
    stored = variable("Old", b"1", attributes=attributes, monotonic_count=7, public_key_index=3)
    service = services([stored])
    record = service.set_variable("Old", GUID, attributes, b"2", force=True).record
    assert (record.monotonic_count, record.public_key_index) == (7, 3)


def recorded_runs() -> list[tuple[int, bytes]]:
    """The programs of a boot before its reclaim, adjoining bytes joined."""
    runs: list[tuple[int, bytearray]] = []
    for kind, address, data in recorded_operations():
        if kind == "e" or address >= OVMF_2M.work.address:
            break
        if runs and runs[-1][0] + len(runs[-1][1]) == address:
            runs[-1][1].extend(data)
        else:
            runs.append((address, bytearray(data)))
    return [(address, bytes(data)) for address, data in runs]


def test_the_operations_of_real_firmware():
    """Every SetVariable that OVMF 2022.11 did before its reclaim, done again here."""
    expected = recorded_runs()
    bodies = [index for index, (_, data) in enumerate(expected) if len(data) > 60]
    headers = [index for index, (_, data) in enumerate(expected) if len(data) == 60]
    assert len(headers) >= 5
    service = VariableServices(nvram_of(recorded_volume()))
    changes = set()
    for index in headers:
        image = bytearray(expected[index][1] + expected[index + 2][1])
        image[2] = State.ADDED
        store = make_record_from(bytes(image))
        outcome = service.set_variable(store.name, store.guid, store.attributes, store.data)
        changes.add(outcome.change)
        assert not outcome.reclaimed
    done = programs(service)
    assert done == expected[: len(done)]
    # What is left is the mark on the record whose update made the firmware reclaim.
    assert [data for _, data in expected[len(done) :]] in ([], [b"\x3e"])
    assert "updated" in changes
    assert bodies


def make_record_from(data: bytes) -> Record:
    (record,) = walk(Window(data), 0, len(data), "authenticated", 0)
    return record


@pytest.mark.parametrize("at_runtime", [True, False])
def test_a_store_that_is_full_of_live_variables_is_left_as_it_is(at_runtime):
    most = bytes(0x2000 - 60 - 4)
    records = [variable(f"{index}", most, attributes=NV_BS_RT) for index in range(6)]
    records.append(variable("Old", bytes(0xDF9C - 6 * 0x2000 - 68 - 40), attributes=NV_BS_RT))
    service = services(records, at_runtime=at_runtime)
    call = ("New", GUID, NV_BS_RT, b"x")
    assert refused(service, *call) == EfiStatus.OUT_OF_RESOURCES
    # An update that does not fit leaves no record in transition behind.
    larger = bytes(len(records[-1].data) + 41)
    assert refused(service, "Old", GUID, NV_BS_RT, larger) == EfiStatus.OUT_OF_RESOURCES


def test_at_runtime_dead_records_are_no_room():
    records = [
        variable(f"{index}", bytes(0x1FBC), attributes=NV_BS_RT, state=State.DELETED)
        for index in range(6)
    ]
    service = services([*records, variable("Old", attributes=NV_BS_RT)], at_runtime=True)
    size = service.query_variable_info(NV_BS_RT).remaining
    assert 0x1000 < size < 0x2000
    assert refused(service, "Old", GUID, NV_BS_RT, bytes(size)) == EfiStatus.OUT_OF_RESOURCES
    outcome = service.set_variable("Old", GUID, NV_BS_RT, bytes(size - 68))
    assert outcome.change == "updated", "the last byte can be used"
    assert service.query_variable_info(NV_BS_RT).remaining == 0


def test_at_runtime_a_tail_that_is_not_erased_is_no_room():
    image = volume_bytes([variable("Old", attributes=NV_BS_RT)])
    image[0xD000] = 0
    service = VariableServices(nvram_of(image), at_runtime=True)
    assert refused(service, "New", GUID, NV_BS_RT, b"x") == EfiStatus.OUT_OF_RESOURCES
    assert service.set_variable("Old", GUID, NV_BS_RT, b"").change == "deleted"


def crowded(**options) -> VariableServices:
    """A store with no room left at its end, and dead records in front."""
    records = [
        variable("Head", b"in the first block"),
        *(variable(f"Dead{index}", bytes(0x1000), state=State.DELETED) for index in range(6)),
        variable("Old", b"old value" * 100),
        *(variable(f"Live{index}", bytes([index]) * 0x1000) for index in range(7)),
    ]
    left = 0xDF9C - sum(len(record.build()) for record in records)
    records.append(variable("Last", bytes(left - 60 - 10 - 40)))
    return services(records, **options)


@pytest.mark.parametrize("order", ["suffix", "edk2"])
@pytest.mark.parametrize(
    ("name", "attributes", "data"),
    [
        ("New", NV_BS, b"x" * 100),
        ("Old", NV_BS, b"new value" * 100),
        ("Old", NV_BS | APPEND, b"+"),
        ("Head", NV_BS, b"out of the first block"),
    ],
)
def test_without_room_a_reclaim_puts_the_value_in(order, name, attributes, data):
    service = crowded(order=order)
    start = service.nvram.flash.window()
    before = live(start)
    old = before.pop((name, GUID), (0, b""))[1]
    outcome = service.set_variable(name, GUID, attributes, data)
    assert outcome.reclaimed
    assert outcome.change == ("updated" if old else "new")
    assert any(isinstance(step, Erase) for step in service.nvram.operations)
    after = live(service.nvram.flash.window())
    value = old + data if attributes & APPEND else data
    assert after.pop((name, GUID)) == (NV_BS, value)
    assert after == before
    assert service.nvram.found.healthy
    assert carried_out(start, service.nvram.operations) == service.nvram.flash.window()
    # There is room again: the next one is written in place.
    assert not service.set_variable("Next", GUID, NV_BS, b"x" * 100).reclaimed


@pytest.mark.parametrize(("name", "data"), [("Old", b"new value" * 100), ("Head", b"moved" * 20)])
def test_a_power_cut_in_the_reclaim_of_an_update(name, data):
    """What the firmware drops or repeats leaves the old value or the new one."""
    service = crowded()
    start = service.nvram.flash.window()
    old = live(start)
    assert service.set_variable(name, GUID, NV_BS, data).reclaimed
    new = live(service.nvram.flash.window())
    seen = []
    for count in range(len(service.nvram.operations) + 1):
        nvram = nvram_of(carried_out(start, service.nvram.operations[:count]).data)
        if nvram.found.ftw.verdict == "replay":
            restart(nvram)
        now = {item.key: (item.attributes, item.data) for item in nvram.store.live}
        assert now in (old, new), count
        assert nvram.found.healthy, count
        seen.append(now == new)
    assert seen == sorted(seen), "once it is new it stays new"
    assert len(set(seen)) == 2


def test_remains_of_a_header_are_closed_by_the_next_write():
    others = [variable(f"{index}", bytes(0x800)) for index in range(4)]
    image = volume_bytes([variable("Old", b"old"), *others])
    service = VariableServices(nvram_of(image))
    before = live(bytes(image))
    service.set_variable("Old", GUID, NV_BS, b"new")
    # The header's first byte is missing: the walk ends before it.
    header = service.nvram.operations[1]
    assert isinstance(header, Program)
    torn = bytearray(carried_out(Window(bytes(image)), service.nvram.operations[:1]).data)
    torn[header.address + 1 : header.address + 60] = header.data[1:]
    service = VariableServices(nvram_of(torn))
    assert service.get_variable("Old", GUID).data == b"old"
    assert not service.set_variable("Old", GUID, NV_BS, b"new").reclaimed
    assert live(service.nvram.flash.window()) == before | {("Old", GUID): (NV_BS, b"new")}


# ---------------------------------------------------------------- model and power cuts

KEYS = [("A", GUID), ("A", OTHER), ("B\U0001f600", GUID), ("Long" * 20, GUID)]


@st.composite
def calls(draw):
    name, guid = draw(st.sampled_from(KEYS))
    data = draw(st.binary(max_size=40) | st.just(bytes(range(200))) | st.just(b"\xaa\x55" * 30))
    attributes = draw(
        st.sampled_from([NV_BS, NV_BS, NV_BS_RT, NV_BS | APPEND, NV_BS_RT | APPEND, 0])
    )
    return name, guid, attributes, data


def model_set(model: dict, name: str, guid: UUID, attributes: int, data: bytes) -> EfiStatus:
    """SetVariable on a plain dict of (attributes, data)."""
    old = model.get((name, guid))
    plain = attributes & ~APPEND
    if old is not None and attributes and plain != old[0]:
        return EfiStatus.INVALID_PARAMETER
    if attributes & APPEND:
        if data:
            model[name, guid] = (plain, (old[1] if old else b"") + data)
    elif data and attributes:
        model[name, guid] = (plain, data)
    elif old is None:
        return EfiStatus.NOT_FOUND
    else:
        del model[name, guid]
    return EfiStatus.SUCCESS


@given(st.lists(calls(), max_size=25), st.sampled_from(["authenticated", "plain"]))
@settings(max_examples=examples(60), deadline=None)
def test_sequences_against_a_model(sequence, kind):
    others = some_variables(3)
    service = services(others, kind=kind)
    if kind == "plain":
        service = services(
            [variable(item.name, item.data, kind="plain") for item in others], kind=kind
        )
    model = {item.key: (item.attributes, item.data) for item in others}
    for call in sequence:
        before = len(service.nvram.operations)
        wanted = model_set(model, *call)
        if wanted != EfiStatus.SUCCESS:
            with pytest.raises(EfiError) as caught:
                service.set_variable(*call)
            assert caught.value.status == wanted
            assert len(service.nvram.operations) == before
            continue
        outcome = service.set_variable(*call)
        assert (outcome.change == "unchanged") == (len(service.nvram.operations) == before)
        store = service.nvram.store
        assert {item.key: (item.attributes, item.data) for item in store.live} == model
        assert service.nvram.found.healthy
        assert service.nvram.found.anomalies == ()
        if outcome.record is not None:
            assert model[call[:2]] == (outcome.record.attributes, outcome.record.data)
    assert set(names(service)) == set(model)


def torn_images(start: Window, operations: list, seed: int):
    """What a power cut can leave: whole operations, then a part of the next one's bytes."""
    choose = random.Random(seed)
    for index, step in enumerate(operations):
        before = carried_out(start, operations[:index])
        yield index, before.data
        if isinstance(step, Verify):
            continue
        length = step.range.length
        at = step.range.address - start.base
        new = step.data if isinstance(step, Program) else b"\xff" * length
        ordered = {1, 2, 3, 4, 7, length // 2, length - 1}
        parts = [range(count) for count in sorted(ordered) if 0 < count < length]
        parts += [choose.sample(range(length), choose.randrange(length + 1)) for _ in range(4)]
        for part in parts:
            image = bytearray(before.data)
            for place in part:
                image[at + place] = new[place]
            yield index, bytes(image)
    yield len(operations), carried_out(start, operations).data


def check_cuts(start: Window, service: VariableServices, key, seed: int = 1) -> set:
    """Every cut leaves the old value or the new one, all others, and a store to be walked."""
    before, after = live(start), live(service.nvram.flash.window())
    old, new = before.pop(key, None), after.pop(key, None)
    assert before == after
    seen = set()
    for index, image in torn_images(start, service.nvram.operations, seed):
        (found,) = find_stores(image)
        now = {item.key: (item.attributes, item.data) for item in found.store.live}
        value = now.pop(key, None)
        assert value in (old, new), index
        assert now == before, index
        assert found.healthy, (index, found.anomalies)
        # Of two records in transition and none added firmware reads one and keeps the other.
        assert "record.transitions" not in [item.code for item in found.anomalies], index
        seen.add(value)
    return seen


CUTS = [
    ("New", NV_BS, b"a new value"),
    ("Old", NV_BS, b"another value, and a longer one"),
    ("Old", NV_BS | APPEND, b"more"),
    ("Old", 0, b""),
    ("Lone", NV_BS, b"other"),
    ("Lone", NV_BS, b""),
    ("Twin", NV_BS, b"newest"),
    ("Twin", NV_BS, b""),
    ("Old", NV_BS, b"\xaa\x55\x3f\x00" * 40),
]


@pytest.mark.parametrize(("name", "attributes", "data"), CUTS)
@pytest.mark.parametrize("kind", ["authenticated", "plain"])
def test_power_cuts(name, attributes, data, kind):
    records = [
        variable("First", kind=kind),
        variable("Twin", b"old", state=State.IN_DELETED_TRANSITION, kind=kind),
        variable("Twin", b"older", state=State.IN_DELETED_TRANSITION, kind=kind),
        variable("Old", b"old value", kind=kind),
        variable("Lone", b"lone", state=State.IN_DELETED_TRANSITION, kind=kind),
        variable("Twin", b"new", kind=kind),
        variable("Twin", b"behind", state=State.IN_DELETED_TRANSITION, kind=kind),
        variable("Old", b"of somebody else", OTHER, kind=kind),
    ]
    service = services(records, kind=kind)
    start = service.nvram.flash.window()
    service.set_variable(name, GUID, attributes, data)
    assert len(check_cuts(start, service, (name, GUID))) == 2


@pytest.mark.parametrize("before", [0x100000, 0x1000])
def test_offsets_are_those_of_the_image(before):
    """A volume that does not begin the image: the same operations, farther behind."""
    image = bytes(volume_bytes([variable("Old", b"old")]))
    first, second = (VariableServices(nvram_of(data)) for data in (image, bytes(before) + image))
    for service in (first, second):
        service.set_variable("Old", GUID, NV_BS, b"new")
    moved = [(address + before, data) for address, data in programs(first)]
    assert programs(second) == moved


@pytest.mark.slow
@pytest.mark.parametrize("order", ["suffix", "edk2"])
def test_a_long_sequence_through_many_reclaims(order):
    choose = random.Random(5)
    service = services(some_variables(), order=order)
    model = live(service.nvram.flash.window())
    reclaims = full = 0
    for _ in range(150):
        name, guid = choose.choice([(f"V{index}", GUID) for index in range(24)] + KEYS)
        flags = choose.choice([*[NV_BS] * 6, NV_BS | APPEND, 0])
        data = choose.randbytes(choose.choice([3, 1000, 6000, 7000]))
        before = dict(model)
        wanted = model_set(model, name, guid, flags, data)
        value = model.get((name, guid), (0, b""))[1]
        if 60 + len((name + "\0").encode("utf-16-le")) + len(value) > 0x2000:
            wanted = INVALID
        done = len(service.nvram.operations)
        status, outcome = attempt(service.set_variable, name, guid, flags, data)
        if status != EfiStatus.SUCCESS:
            full += status == EfiStatus.OUT_OF_RESOURCES
            assert status in (wanted, EfiStatus.OUT_OF_RESOURCES)
            assert len(service.nvram.operations) == done
            model = before
        else:
            assert wanted == EfiStatus.SUCCESS
            reclaims += outcome.reclaimed
        window = service.nvram.flash.window()
        assert live(window) == model
        assert service.nvram.found.healthy
    assert reclaims >= 3
    assert full >= 1
    # Every program was one that a chip can do: the operations give the same content there.
    start = Window(bytes(volume_bytes(some_variables())))
    assert carried_out(start, service.nvram.operations) == window
