from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from volumes import GUID, NV_BS, OTHER, State, variable

from hwflash.errors import ImageError
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.records import attribute_names, make_record, short_attributes
from hwflash.uefi.store import VariableStore, make_store, parse_store
from hwflash.uefi.window import Window

SIZE = 0x2000
BASE = 0x7048


def parsed(*records, size=SIZE, base=BASE, kind="authenticated") -> VariableStore:
    data = make_store(records, size, base=base, kind=kind).build()
    assert len(data) == size
    return parse_store(Window(data, base), base)


def codes(store: VariableStore) -> list[str]:
    return [item.code for item in store.anomalies]


names = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), min_size=1, max_size=20)
records = st.builds(
    make_record,
    names,
    st.uuids(),
    st.sampled_from([3, 7, 0x27]),
    st.binary(max_size=40),
    state=st.sampled_from(list(State)),
    timestamp=st.binary(min_size=16, max_size=16),
    monotonic_count=st.integers(0, 2**64 - 1),
    public_key_index=st.integers(0, 2**32 - 1),
)


@given(st.lists(records, max_size=6))
def test_what_is_built_is_parsed_and_built_alike(items):
    whole = [item for item in items if item.state != State.ERASED]
    store = make_store(whole, SIZE, base=BASE)
    found = parse_store(Window(store.build(), BASE), BASE)
    assert replace(found, anomalies=()) == store
    assert found.build() == store.build()
    assert found.usage.capacity == SIZE - 28
    usage = found.usage
    assert usage.used + usage.free + usage.reclaimable == usage.capacity


@given(st.binary(min_size=28, max_size=400), st.sampled_from(["authenticated", "plain"]))
def test_any_bytes_are_parsed_and_built_alike(junk, kind):
    head = make_store([], 28, kind=kind).header()
    for data in (head[:16] + junk[16:], head + b"\xaa\x55" + junk):
        store = parse_store(Window(data, 0x100), 0x100)
        built = store.build()
        assert built == data[: len(built)]
        assert all(0x100 <= item.offset <= 0x100 + len(data) for item in store.anomalies)


@pytest.mark.parametrize("kind", ["authenticated", "plain"])
def test_a_variable_is_read_with_its_place(kind):
    value = variable("Überraschung", b"\1\2\3", kind=kind)
    store = parsed(variable("First", b"x", kind=kind), value, kind=kind)
    found = store.find("Überraschung", GUID)
    assert found is not None
    assert (found.data, found.attributes, found.state_name) == (b"\1\2\3", NV_BS, "added")
    assert found.offset == store.records[0].end
    assert found.offset % 4 == 0
    header = 60 if kind == "authenticated" else 32
    assert found.data_offset == found.offset + header + 2 * len("Überraschung") + 2
    assert found.padding == b"\xff" * (-(found.size) % 4)
    assert store.kind == kind
    assert store.healthy
    assert codes(store) == []


# --- states ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "live"),
    [
        ([State.ADDED], 0),
        ([State.IN_DELETED_TRANSITION], 0),
        ([State.IN_DELETED_TRANSITION, State.ADDED], 1),
        ([State.ADDED, State.IN_DELETED_TRANSITION], 0),
        ([State.IN_DELETED_TRANSITION, State.HEADER_VALID_ONLY], 0),
        ([State.IN_DELETED_TRANSITION, State.ERASED], 0),
        ([State.DELETED_AFTER_TRANSITION, State.ADDED], 1),
        ([State.IN_DELETED_TRANSITION, State.DELETED], 0),
        ([State.DELETED], None),
        ([State.DELETED_AFTER_TRANSITION], None),
        ([State.HEADER_VALID_ONLY], None),
        ([0x7E], None),
        ([0x00], None),
        # As edk2's FindVariableEx: the first added one, the last in transition.
        ([State.ADDED, State.ADDED], 0),
        ([State.IN_DELETED_TRANSITION, State.IN_DELETED_TRANSITION], 1),
    ],
)
def test_the_live_record_is_the_firmwares(states, live):
    items = [variable("Same", bytes([i]), state=state) for i, state in enumerate(states)]
    items = [
        replace(item, name_bytes=b"", data=b"", padding=b"") if item.state == 0xFF else item
        for item in items
    ]
    store = parsed(variable("Before"), *items, variable("Behind"))
    found = store.find("Same", GUID)
    assert (found.data if found else None) == (None if live is None else bytes([live]))
    assert store.find("Before", GUID) is not None
    assert store.find("Behind", GUID) is not None


def test_the_same_name_under_two_guids_is_two_variables():
    store = parsed(variable("Same", b"1"), variable("Same", b"2", OTHER))
    assert [item.data for item in store.named("Same")] == [b"1", b"2"]
    assert codes(store) == []


@pytest.mark.parametrize(
    ("kind", "size"), [("authenticated", 60), ("plain", 32)], ids=["60 bytes", "32 bytes"]
)
@pytest.mark.parametrize(
    "field", ["state", "name_size", "data_size", "attributes"], ids=lambda name: f"{name} erased"
)
def test_a_torn_header_takes_its_header_only_and_the_walk_goes_on(kind, size, field):
    erased = {"state": 0xFF}.get(field, 0xFFFFFFFF)
    torn = replace(
        variable("Torn", b"lost", kind=kind), name_bytes=b"", data=b"", padding=b"",
        **{field: erased},
    )  # fmt: skip
    store = parsed(variable("First", kind=kind), torn, variable("Last", kind=kind), kind=kind)
    assert [record.size for record in store.records][1] == size
    assert [record.name for record in store.live] == ["First", "Last"]
    assert codes(store) == ["record.torn-header"]
    assert store.anomalies[0].severity == "note"
    assert store.healthy


def test_a_start_id_inside_a_value_is_no_record():
    store = parsed(variable("Value", b"\xaa\x55" * 40), variable("Next"))
    assert [record.name for record in store.records] == ["Value", "Next"]


def test_free_space_begins_behind_a_torn_header():
    torn = replace(variable("T"), state=0xFF, name_bytes=b"", data=b"", padding=b"")
    store = parsed(variable("First"), torn)
    assert store.free_offset == store.records[0].end + 60
    assert store.usage.free == store.base + SIZE - store.free_offset
    assert store.usage.reclaimable == 60


def test_usage_counts_live_free_and_reclaimable_bytes():
    first, dead, last = variable("A"), variable("A", state=State.DELETED), variable("B")
    store = parsed(first, dead, last)
    length = first.size + len(first.padding)
    assert store.usage.used == 2 * length
    assert store.usage.reclaimable == length
    assert store.usage.free == SIZE - 28 - 3 * length


# --- what is odd ----------------------------------------------------------------------------


def test_a_tail_that_is_not_erased_leaves_nothing_free():
    data = bytearray(make_store([variable("A")], SIZE, base=BASE).build())
    data[-100] = 0
    store = parse_store(Window(bytes(data), BASE), BASE)
    assert store.usage.free == 0
    assert [(item.code, item.offset, item.severity) for item in store.anomalies] == [
        ("store.tail", BASE + SIZE - 100, "warning")
    ]
    assert store.build() == data


def test_two_live_records_of_one_variable_are_an_error():
    store = parsed(variable("Same", b"1"), variable("Same", b"2"))
    assert codes(store) == ["record.duplicate"]
    assert store.anomalies[0].offset == store.records[1].offset
    assert not store.healthy


def test_two_in_transition_are_told_of():
    state = State.IN_DELETED_TRANSITION
    store = parsed(variable("S", b"1", state=state), variable("S", b"2", state=state))
    assert codes(store) == ["record.transitions"]


def test_a_record_that_leaves_the_store_is_not_live():
    long = replace(variable("Long", b"abcd"), data_size=0x10000, padding=b"")
    store = parsed(variable("First"), long)
    assert [record.name for record in store.live] == ["First"]
    assert store.records[1].cut_short
    assert codes(store) == ["record.size"]
    assert not store.healthy
    assert f"0x{BASE + SIZE:06X}" in store.anomalies[0].text


@pytest.mark.parametrize("field", ["name_size", "data_size"])
def test_absurd_sizes_end_the_walk_at_the_store(field):
    absurd = replace(variable("Absurd"), **{field: 0xFFFFFFFE}, padding=b"")
    store = parsed(absurd)
    assert codes(store) == ["record.size"]
    assert store.free_offset == BASE + SIZE
    assert store.live == ()


def test_a_record_that_swallows_another_is_told_of():
    inner = variable("Inner", b"payload")
    store = parsed(variable("Outer", bytes(8) + inner.build()), variable("Next"))
    at = store.records[0].data_offset + 8
    assert at % 4 == 0
    assert [(item.code, item.offset) for item in store.anomalies] == [("record.overlap", at)]


@pytest.mark.parametrize(
    ("name_bytes", "code"),
    [(b"A\0B\0", "record.name"), (b"A\0\0", "record.name"), (b"", "record.name")],
    ids=["no terminator", "odd", "none"],
)
def test_bad_names_are_told_of(name_bytes, code):
    odd = replace(variable("A"), name_bytes=name_bytes, name_size=len(name_bytes), padding=b"\xff")
    size = 60 + len(name_bytes) + 5
    odd = replace(odd, padding=b"\xff" * (-size % 4))
    store = parsed(odd, variable("Next"))
    assert codes(store) == [code]
    assert store.find("Next", GUID) is not None


def test_a_lone_surrogate_in_a_name_is_no_accident():
    store = parsed(variable("A\ud800"), variable("B"))
    assert [record.name for record in store.live] == ["A\ud800", "B"]


@pytest.mark.parametrize("attributes", [0x43, 0x06, 0x1003])
def test_attributes_no_firmware_stores_are_told_of(attributes):
    assert codes(parsed(variable("A", attributes=attributes))) == ["record.attributes"]


def test_an_unknown_state_is_told_of_and_dead():
    store = parsed(variable("A", state=0x7B))
    assert codes(store) == ["record.state"]
    assert store.live == ()
    assert store.records[0].state_name == "unknown"


def test_padding_is_kept():
    data = bytearray(make_store([variable("AB"), variable("B")], SIZE).build())
    at = 28 + variable("AB").size
    data[at] = 0
    store = parse_store(Window(bytes(data)), 0)
    assert store.records[0].padding[:1] == b"\0"
    assert codes(store) == ["record.padding"]
    assert store.build() == data


@pytest.mark.parametrize(
    ("at", "value", "code"),
    [(16, 27, "size"), (16, 0, "size"), (16, 0xFFFFFFFF, "size"), (20, 0xFF, "format"),
     (21, 0xFF, "state")],
)  # fmt: skip
def test_a_bad_store_header_is_told_of_and_the_records_are_read(at, value, code):
    data = bytearray(make_store([variable("A")], SIZE, base=BASE).build())
    data[at : at + (4 if at == 16 else 1)] = value.to_bytes(4 if at == 16 else 1, "little")
    store = parse_store(Window(bytes(data), BASE), BASE)
    assert [(item.code, item.offset) for item in store.anomalies] == [(f"store.{code}", BASE + at)]
    assert [record.name for record in store.live] == ["A"]


def test_a_store_larger_than_its_volume_ends_with_it():
    data = make_store([variable("A")], SIZE, base=BASE).build()
    store = parse_store(Window(data + bytes(100), BASE), BASE, BASE + 0x1000)
    assert codes(store) == ["store.size"]
    assert store.end == BASE + 0x1000


def test_no_store_and_a_cut_header_are_errors_with_image_offsets():
    for data, code in ((bytes(100), "uefi.no-store"), (bytes(27), "uefi.truncated")):
        with pytest.raises(ImageError, match="0x004000") as caught:
            parse_store(Window(data, 0x4000), 0x4000)
        assert caught.value.code == code


def test_what_does_not_fit_is_not_made():
    with pytest.raises(ImageError) as caught:
        make_store([variable("A", bytes(100))], 100)
    assert caught.value.code == "uefi.store-full"


def test_records_beyond_the_limit_are_left_out():
    data = make_store([variable(str(i)) for i in range(10)], SIZE).build()
    store = parse_store(Window(data), 0, most=4)
    assert len(store.records) == 4
    assert "store.records" in codes(store)
    assert store.build() == data


# --- attributes and time --------------------------------------------------------------------


def test_attributes_have_names():
    assert attribute_names(0x27) == [
        "NON_VOLATILE", "BOOTSERVICE_ACCESS", "RUNTIME_ACCESS",
        "TIME_BASED_AUTHENTICATED_WRITE_ACCESS",
    ]  # fmt: skip
    assert attribute_names(0x101) == ["NON_VOLATILE", "0x00000100"]
    assert short_attributes(0x27) == "NV+BS+RT+AT"
    assert short_attributes(0) == "none"


@given(st.binary(min_size=16, max_size=16))
def test_any_time_is_parsed_built_and_printed(data):
    time = EfiTime.parse(data)
    assert time.build() == data
    assert str(time)


def test_time_is_iso_8601():
    assert str(EfiTime(2025, 3, 10, 2, 53, 39)) == "2025-03-10T02:53:39Z"
    # UEFI: UTC = local time + time zone, so -60 is one hour east of Greenwich.
    assert str(EfiTime(2025, 3, 10, 2, 53, 39, time_zone=-60)) == "2025-03-10T02:53:39+01:00"
    assert str(EfiTime(2025, 3, 10, 2, 53, 39, time_zone=0x7FF)) == "2025-03-10T02:53:39"
    assert EfiTime().is_zero
    assert not EfiTime(2025, 13, 1).is_date
    assert EfiTime(2025, 12, 1).is_date
