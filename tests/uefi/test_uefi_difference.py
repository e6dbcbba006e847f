from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uefi.volumes import GUID, NV_BS, OTHER, recorded_volume, variable

from hwflash.errors import UsageError
from hwflash.uefi import guids
from hwflash.uefi.difference import Change, compare, matcher
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.exchange import Variable, export_json, import_json
from hwflash.uefi.find import find_stores
from hwflash.uefi.records import State
from hwflash.uefi.siglist import Signature, SignatureList
from hwflash.uefi.store import make_store
from hwflash.uefi.values import boot_entry, from_integer, from_string

TIME = EfiTime(2025, 3, 10, 2, 53, 39)
A = Variable("A", GUID, NV_BS, b"1")
B = Variable("B", GUID, NV_BS, b"2")
C = Variable("C", OTHER, NV_BS, b"3")


def global_variable(name: str, data: bytes) -> Variable:
    return Variable(name, guids.GLOBAL_VARIABLE, 7, data)


def only_change(left: Variable, right: Variable) -> Change:
    found = compare([left], [right])
    assert not found.equal
    assert (found.only_left, found.only_right) == ((), ())
    (change,) = found.changed
    assert (change.left, change.right) == (left, right)
    return change


def test_variables_are_told_apart_by_name_and_guid():
    other = replace(A, guid=OTHER)
    found = compare([B, A, C], [C, other, B])
    assert (found.only_left, found.only_right, found.changed) == ((A,), (other,), ())
    assert not found.equal


def test_the_order_of_variables_does_not_matter():
    assert compare([A, B, C], [C, A, B]).equal
    found = compare([C, B, A], [])
    assert found.only_left == (A, B, C)
    assert compare([], [C, B, A]).only_right == (A, B, C)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data": b"x"}, ("data",)),
        ({"attributes": 7}, ("attributes",)),
        ({"timestamp": TIME}, ("timestamp",)),
        ({"data": b"", "attributes": 7, "timestamp": TIME}, ("attributes", "timestamp", "data")),
    ],
)
def test_what_changed_is_told(changes, what):
    assert only_change(A, replace(A, **changes)).what == what


def test_of_a_store_the_live_variables_are_compared():
    records = [
        variable("A", b"old", state=State.DELETED),
        variable("A", b"1"),
        variable("B", b"old", state=State.IN_DELETED_TRANSITION),
        variable("B", b"2"),
    ]
    assert compare(make_store(records, 0x1000), [A, B]).equal
    assert compare([A, B], make_store(records[1:], 0x2000, kind="plain")).equal is True
    assert compare([A, replace(A, data=b"later")], [A]).equal


# --- values ----------------------------------------------------------------------------------


def test_entries_of_a_boot_order():
    change = only_change(
        global_variable("BootOrder", from_integer("0,1,2", 16)),
        global_variable("BootOrder", from_integer("3,2,0", 16)),
    )
    assert (change.left_text, change.right_text) == (
        "Boot0000, Boot0001, Boot0002", "Boot0003, Boot0002, Boot0000",
    )  # fmt: skip
    assert (change.added, change.removed, change.reordered) == (("Boot0003",), ("Boot0001",), False)
    assert change.details == ("added Boot0003", "removed Boot0001")


def test_a_boot_order_in_another_order():
    change = only_change(
        global_variable("BootOrder", from_integer("0,1", 16)),
        global_variable("BootOrder", from_integer("1,0", 16)),
    )
    assert (change.added, change.removed, change.reordered) == ((), (), True)
    assert change.details == ("the same entries in another order",)


def test_an_entry_that_is_there_once_more():
    change = only_change(
        global_variable("BootOrder", from_integer("0,1", 16)),
        global_variable("BootOrder", from_integer("0,1,0", 16)),
    )
    assert (change.added, change.removed, change.reordered) == (("Boot0000",), (), False)


def database(*hashes: int) -> Variable:
    entries = tuple(Signature(OTHER, bytes([value]) * 32) for value in hashes)
    data = SignatureList(guids.CERT_SHA256, entries).build()
    return Variable("dbx", guids.IMAGE_SECURITY, 0x27, data, TIME)


def test_entries_of_a_signature_database():
    change = only_change(database(1, 2), database(2, 3))
    assert change.added == (f"EfiCertSha256 {'03' * 32} (owner {OTHER})",)
    assert change.removed == (f"EfiCertSha256 {'01' * 32} (owner {OTHER})",)
    assert change.left_text == change.right_text == "2 x SHA-256"


def test_certificates_are_named():
    left = database(1)
    der = SignatureList(guids.CERT_X509, (Signature(OTHER, b"no certificate"),)).build()
    change = only_change(left, replace(left, data=left.data + der))
    assert change.added == (f"EfiCertX509 {b'no certificate'.hex()} (owner {OTHER})",)
    assert change.removed == ()


def test_parts_of_a_boot_entry():
    change = only_change(
        global_variable("Boot0001", boot_entry("Linux", "\\a.efi")),
        global_variable(
            "Boot0001", boot_entry("Linux\1", "\\b.efi", active=False, optional_data=b"q")
        ),
    )
    assert change.details == (
        "description: Linux -> Linux\\u0001",
        "attributes: 0x00000001 -> 0x00000000",
        "device path: \\a.efi -> \\b.efi",
        "optional data: none -> 71",
    )
    assert change.left_text == "Linux: \\a.efi"


def test_instances_of_a_console_path_and_flags():
    one = boot_entry("", "PciRoot(0x0)")[8:]
    both = bytes(one[:-4]) + bytes.fromhex("7f010400") + bytes(one)
    change = only_change(global_variable("ConOut", one), global_variable("ConOut", both))
    assert (change.added, change.removed) == (("PciRoot(0x0)",), ())
    flags = [global_variable("OsIndications", from_integer(text, 64)) for text in ("1", "0x21")]
    assert only_change(*flags).added == ("start OS recovery",)


def test_a_value_that_is_not_as_its_name_says_is_shown_as_bytes():
    change = only_change(
        global_variable("BootOrder", b"\0\0\1"), global_variable("BootOrder", bytes(20))
    )
    assert change.left_text == "00 00 01"
    assert "0x000000" not in change.left_text + change.right_text
    assert (change.added, change.removed, change.details) == ((), (), ())
    assert only_change(database(1), replace(database(1), data=b"\1\2")).right_text == "01 02"
    assert only_change(database(1), replace(database(1), data=b"")).right_text == "no signatures"


# --- what is left out ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("MTC", ["MTC"]),
        ("mtc", []),
        ("Boot####", ["Boot0001", "BootABCD"]),
        ("Boot*", ["Boot0001", "BootABCD", "BootOrder", "Bootabcd"]),
        ("Boot000?", ["Boot0001"]),
        ("Boot[0A]###", ["Boot0001", "BootABCD"]),
        ("*:MtcVendor", ["MTC"]),
        (f"*:{guids.MONOTONIC_COUNTER}", ["MTC"]),
        ("MTC:EfiGlobalVariable", []),
        ("Boot####:EfiGlobalVariable", ["Boot0001", "BootABCD"]),
        ("Line*", ["Line\nbreak"]),
    ],
)
def test_patterns_say_what_is_left_out(pattern, names):
    items = [Variable("MTC", guids.MONOTONIC_COUNTER, 7, b"")] + [
        global_variable(name, b"")
        for name in ("Boot0001", "BootABCD", "BootOrder", "Bootabcd", "Line\nbreak")
    ]
    meant = matcher([pattern])
    assert [item.name for item in items if meant(item)] == names
    left = {item.name for item in items} - set(names)
    assert {item.name for item in compare(items, [], ignore=[pattern]).only_left} == left
    assert {item.name for item in compare([], items, ignore=[pattern]).only_right} == left


def test_several_patterns_are_alternatives():
    assert compare([A, B], [C], ignore=["A", f"B:{GUID}", "C"]).equal
    assert not compare([A, B], [C], ignore=["A", f"B:{OTHER}", "C"]).equal


def test_a_pattern_without_a_guid_behind_its_colon_is_refused():
    with pytest.raises(UsageError) as caught:
        compare([], [], ignore=["A:B"])
    assert caught.value.code == "usage.guid"


# --- for scripts -----------------------------------------------------------------------------


def test_keys_of_the_result():
    right = replace(B, data=from_string("text"), attributes=7, timestamp=TIME)
    keys = compare([A, B], [right, C]).keys()
    assert json.loads(json.dumps(keys)) == {
        "only_left": [
            {
                "name": "A", "guid": str(GUID), "vendor": None,
                "attributes": ["NON_VOLATILE", "BOOTSERVICE_ACCESS"], "timestamp": None, "size": 1,
                "sha256": "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
                "text": "31 (49)",
            }
        ],
        "only_right": [
            {
                "name": "C", "guid": str(OTHER), "vendor": None,
                "attributes": ["NON_VOLATILE", "BOOTSERVICE_ACCESS"], "timestamp": None, "size": 1,
                "sha256": "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce",
                "text": "33 (51)",
            }
        ],
        "changed": [
            {
                "name": "B", "guid": str(GUID), "vendor": None,
                "what": ["attributes", "timestamp", "data"],
                "left": {
                    "attributes": ["NON_VOLATILE", "BOOTSERVICE_ACCESS"], "timestamp": None,
                    "size": 1, "text": "32 (50)",
                    "sha256": "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",
                },
                "right": {
                    "attributes": ["NON_VOLATILE", "BOOTSERVICE_ACCESS", "RUNTIME_ACCESS"],
                    "timestamp": "2025-03-10T02:53:39Z", "size": 5, "text": '"text"',
                    "sha256": "619be496336510a6ba6d293cf53b436b7eb7c09dd209989264c663420e7dbcde",
                },
                "added": [], "removed": [], "reordered": False,
            }
        ],
    }  # fmt: skip


def test_nothing_differs_between_a_store_and_its_export():
    (found,) = find_stores(recorded_volume())
    assert len(found.store.live) == 28
    assert compare(found.store, import_json(export_json(found.store))).equal
    without = [record for record in found.store.live if record.name != "MTC"]
    difference = compare(found.store, without)
    assert [item.name for item in difference.only_left] == ["MTC"]
    assert compare(found.store, without, ignore=["MTC"]).equal


VARIABLES = st.lists(
    st.builds(
        Variable, st.sampled_from(["A", "BootOrder", "dbx", "ConIn", "Boot0001", "OsIndications"]),
        st.sampled_from([GUID, guids.GLOBAL_VARIABLE, guids.IMAGE_SECURITY]),
        st.integers(0, 3), st.binary(max_size=8),
    ),
    unique_by=lambda item: item.key,
    max_size=6,
)  # fmt: skip


@given(VARIABLES, VARIABLES)
def test_every_variable_is_accounted_for_once(left, right):
    found = compare(left, right)
    assert {*found.only_left} == {v for v in left if v.key not in {w.key for w in right}}
    assert {*found.only_right} == {w for w in right if w.key not in {v.key for v in left}}
    changed = {(v, w) for v in left for w in right if v.key == w.key and v != w}
    assert {(item.left, item.right) for item in found.changed} == changed
    assert found.equal == ({*left} == {*right})
    json.dumps(found.keys())
    back = compare(right, left)
    assert [item.added for item in back.changed] == [item.removed for item in found.changed]
