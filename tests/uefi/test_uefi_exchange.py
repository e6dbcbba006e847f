from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uefi.volumes import GUID, NV_BS, OTHER, variable

from hwflash.errors import ImageError
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.exchange import (
    SIZE_LIMIT,
    Variable,
    export_json,
    export_virt_firmware,
    import_json,
    variables_of,
    virt_firmware_losses,
)
from hwflash.uefi.records import State
from hwflash.uefi.store import RECORD_LIMIT, make_store
from hwflash.uefi.window import decode_utf16

TIME = EfiTime(2025, 3, 10, 2, 53, 39)
#: As they come from a store: any 16-bit units without a NUL.
NAMES = st.lists(st.integers(1, 0xFFFF), max_size=12).map(
    lambda units: decode_utf16(b"".join(unit.to_bytes(2, "little") for unit in units))
)
VARIABLES = st.lists(
    st.builds(
        Variable,
        NAMES,
        st.uuids(),
        st.integers(0, 0xFFFFFFFF) | st.sampled_from([3, 7, 0x27, 0x80000007]),
        st.binary(max_size=40),
        st.just(EfiTime()) | st.just(TIME) | st.binary(min_size=16, max_size=16).map(EfiTime.parse),
    ),
    unique_by=lambda item: item.key,
    max_size=6,
)


def by_key(items) -> dict:
    return {item.key: item for item in items}


@given(VARIABLES)
def test_variables_come_back_as_they_were(variables):
    for text in (export_json(variables), export_virt_firmware(variables)):
        assert text.isascii()
        assert by_key(import_json(text)) == by_key(variables)
        assert len(import_json(text)) == len(variables)
        assert import_json(text.encode()) == import_json(text)


@given(VARIABLES)
def test_the_order_does_not_depend_on_the_store(variables):
    for export in (export_json, export_virt_firmware):
        written = export(variables)
        assert export(reversed(variables)) == written
        assert export(import_json(written)) == written


def test_our_form_reads_well():
    item = Variable("db", GUID, 0x80000027, b"\1\2", TIME)
    assert json.loads(export_json([item])) == {
        "format": "hwflash-variables",
        "version": 1,
        "variables": [
            {
                "name": "db",
                "guid": str(GUID),
                "attributes": [
                    "NON_VOLATILE", "BOOTSERVICE_ACCESS", "RUNTIME_ACCESS",
                    "TIME_BASED_AUTHENTICATED_WRITE_ACCESS", "0x80000000",
                ],
                "timestamp": "2025-03-10T02:53:39Z",
                "data": "0102",
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (EfiTime(), None),
        (TIME, "2025-03-10T02:53:39Z"),
        (EfiTime(2025, 13, 40, 99, 99, 99), "2025-13-40T99:99:99Z"),
        (EfiTime(2025, 3, 10, 2, 53, 39, 1), "e907030a023527010000000000000000"),
        (EfiTime(2025, 3, 10, 2, 53, 39, 0, 5), "e907030a023527000500000000000000"),
        (EfiTime(2025, 3, 10, 2, 53, 39, time_zone=60), "e907030a02352700000000003c000000"),
        (EfiTime(12025, 3, 10), "f92e030a000000000000000000000000"),
    ],
)
def test_a_time_is_a_date_where_that_says_all(time, text):
    written = export_json([Variable("x", GUID, 3, b"", time)])
    assert json.loads(written)["variables"][0]["timestamp"] == text
    assert import_json(written)[0].timestamp == time


def test_virt_firmwares_form():
    items = [Variable("db", GUID, 0x27, b"\1\2", TIME), Variable("Boot0000", GUID, 7, b"\3")]
    assert json.loads(export_virt_firmware(items)) == {
        "version": 2,
        "variables": [
            {"name": "Boot0000", "guid": str(GUID), "attr": 7, "data": "03"},
            {"name": "db", "guid": str(GUID), "attr": 0x27, "data": "0102",
             "time": "e907030a023527000000000000000000"},
        ],
    }  # fmt: skip


def test_more_keys_in_virt_firmwares_form_do_no_harm():
    entry = {
        "name": "x",
        "guid": str(GUID).upper(),
        "attr": 3,
        "data": "AA",
        "digest": "00",
        "n": 1,
    }
    text = json.dumps({"version": 2, "variables": [entry], "generator": "x"})
    assert import_json(text) == [Variable("x", GUID, 3, b"\xaa")]
    assert import_json(b"\xef\xbb\xbf" + text.encode()) == [  # with a byte order mark
        Variable("x", GUID, 3, b"\xaa")
    ]


def test_of_a_store_the_live_variables_are_taken():
    records = [
        variable("Old", state=State.DELETED),
        variable("Both", b"old", state=State.IN_DELETED_TRANSITION),
        variable("Both", b"new", timestamp=TIME.build()),
        variable("Moving", b"value", state=State.IN_DELETED_TRANSITION),
    ]
    store = make_store(records, 0x1000)
    assert variables_of(store) == [
        Variable("Both", GUID, NV_BS, b"new", TIME), Variable("Moving", GUID, NV_BS, b"value"),
    ]  # fmt: skip
    assert by_key(import_json(export_json(store))) == by_key(variables_of(store))
    assert variables_of(records[:1]) == [Variable("Old", GUID, NV_BS, b"value")]


def test_what_virt_firmware_cannot_do_is_told():
    items = [
        Variable("A", GUID, 3, b"1"),
        Variable("A", OTHER, 3, b"1", TIME),
        Variable("\ud800", GUID, 3, b"1"),
        Variable("B", GUID, 0x27, b"1", replace(TIME, nanosecond=1)),
        Variable("C", GUID, 0x27, b"1", replace(TIME, month=13)),
    ]
    more = "it has more than a date and a time of day"
    assert virt_firmware_losses(items) == (
        f"virt-firmware keeps one variable A of {GUID} and {OTHER}",
        f"virt-firmware does not keep the time stamp of B: {more}",
        "virt-firmware refuses the time stamp of C: it is no date",
        "virt-firmware refuses the name \\ud800: it has a lone surrogate",
    )
    assert virt_firmware_losses(items[1:2]) == ()


# --- files that are not as they should be ----------------------------------------------------

OURS = {"name": "x", "guid": str(GUID), "attributes": [], "timestamp": None, "data": "00"}
THEIRS = {"name": "x", "guid": str(GUID), "attr": 3, "data": "00"}


def ours(*entries, **top) -> str:
    return json.dumps({"format": "hwflash-variables", "version": 1, "variables": entries} | top)


def theirs(*entries, **top) -> str:
    return json.dumps({"version": 2, "variables": entries} | top)


def without(entry: dict, key: str) -> dict:
    return {name: value for name, value in entry.items() if name != key}


HOSTILE = {
    "nothing": ("", "", "the file is no JSON: line 1, column 1"),
    "cut": ('{"version": 2,\n "variables": [', "", "the file is no JSON: line 2, column 16"),
    "bytes": (b"\xff\xfe{}", "", "the file is no UTF-8 text: byte 0 is 0xFF"),
    "list": ("[1]", "", "the file holds a list, not an object"),
    "number": ("12", "", "the file holds a number"),
    "null": ("null", "", "the file holds null"),
    "nan": ('{"version": NaN}', "", "the file has NaN, which is no JSON"),
    "empty": ("{}", "version", "version is missing"),
    "deep": ("[" * 100_000, "", "the file is nested too deeply"),
    "deep objects": ('{"a":' * 100_000, "", "the file is nested too deeply"),
    "digits": ('{"version": ' + "9" * 5000 + "}", "", "a number of too many digits"),
    "key twice": ('{"version": 2, "version": 2}', "", "has the key 'version' twice"),
    "format": (ours(format="other"), "format", "is 'other', not 'hwflash-variables'"),
    "format type": (ours(format=["x"] * 50), "format", "is a list, not 'hwflash-variables'"),
    "version": (ours(version=2), "version", "version is 2, known are versions up to 1"),
    "version 0": (theirs(version=0), "version", "version is 0"),
    "version 3": (theirs(version=3), "version", "version is 3, known are versions up to 2"),
    "version huge": (theirs(version=1 << 4000), "version", "is a number of 4001 bits"),
    "version text": (ours(version="1"), "version", "version is a string, not a number"),
    "version true": (ours(version=True), "version", "version is a truth value, not a number"),
    "no variables": ('{"version": 2}', "variables", "variables is missing"),
    "variables": (theirs(variables={}), "variables", "is an object, not a list"),
    "entry": (ours(OURS, 5), "variables[1]", "is a number, not an object"),
    "name": (ours(OURS | {"name": 5}), "variables[0].name", "is a number, not a string"),
    "name NUL": (ours(OURS | {"name": "a\0"}), "variables[0].name", "has a NUL at character 2"),
    "guid": (ours(OURS | {"guid": "x" * 999}), "variables[0].guid", "not a GUID"),
    "guid braces": (ours(OURS | {"guid": f"{{{GUID}}}"}), "variables[0].guid", "not a GUID"),
    "data": (ours(OURS | {"data": "0g"}), "variables[0].data", "has 'g' at character 2"),
    "data space": (ours(OURS | {"data": "00 00"}), "variables[0].data", "' ' at character 3"),
    "data odd": (theirs(THEIRS, THEIRS | {"name": "y", "data": "000"}), "variables[1].data",
                 "has 3 hexadecimal digits, an odd number"),
    "data type": (ours(OURS | {"data": None}), "variables[0].data", "is null, not a string"),
    "unknown key": (ours(OURS | {"attr": 3}), "variables[0].attr", "is no key of a variable"),
    "attributes": (ours(OURS | {"attributes": 3}), "variables[0].attributes", "is a number"),
    "attribute": (ours(OURS | {"attributes": ["NON_VOLATILE", "NV"]}),
                  "variables[0].attributes[1]", "is 'NV', no name of an attribute"),
    "attribute bits": (ours(OURS | {"attributes": ["0x100000000"]}),
                       "variables[0].attributes[0]", "is '0x100000000', no name"),
    "attribute type": (
        ours(OURS | {"attributes": [{}]}), "variables[0].attributes[0]", "is an object",
    ),
    "time": (ours(OURS | {"timestamp": "yesterday"}), "variables[0].timestamp",
             "is 'yesterday', neither of the form"),
    "time zone": (ours(OURS | {"timestamp": "2025-03-10T02:53:39+01:00"}),
                  "variables[0].timestamp", "neither of the form"),
    "time type": (ours(OURS | {"timestamp": 5}), "variables[0].timestamp", "is a number"),
    "attr": (theirs(THEIRS | {"attr": -1}), "variables[0].attr", "is -1, not a number of 32 bits"),
    "attr wide": (theirs(THEIRS | {"attr": 1 << 32}), "variables[0].attr", "is 4294967296"),
    "attr text": (theirs(THEIRS | {"attr": "7"}), "variables[0].attr", "is a string"),
    "attr true": (theirs(THEIRS | {"attr": True}), "variables[0].attr", "is a truth value"),
    "attr fraction": (theirs(THEIRS | {"attr": 7.0}), "variables[0].attr", "is a fraction"),
    "their time": (theirs(THEIRS | {"time": "00"}), "variables[0].time", "has 1 bytes"),
    "duplicate": (ours(OURS, OURS | {"name": "y"}, OURS | {"data": "01"}), "variables[2]",
                  f"is x {GUID}, as variables[0]"),
    "many": (theirs(*[THEIRS] * (RECORD_LIMIT + 1)), "variables", "has 20001 entries"),
    **{f"no {key}": (ours(without(OURS, key)), f"variables[0].{key}", "is missing")
       for key in OURS},
    **{f"their no {key}": (theirs(without(THEIRS, key)), f"variables[0].{key}", "is missing")
       for key in THEIRS},
}  # fmt: skip


@pytest.mark.parametrize("which", HOSTILE)
def test_the_fault_of_a_file_and_its_place_are_told(which):
    text, path, part = HOSTILE[which]
    with pytest.raises(ImageError) as caught:
        import_json(text)
    error = caught.value
    assert (error.code, error.context["path"]) == ("uefi.exchange", path)
    assert part in error.message
    assert error.message.startswith(path)
    assert len(error.message) < 200


@pytest.mark.parametrize("depth", range(500, 1100, 20))
def test_no_depth_of_nesting_is_a_surprise(depth):
    nested = "[" * depth + "]" * depth
    for text in (
        f'{{"format": {nested}}}',
        ours(OURS).replace("[]", f"[{nested}]"),
        theirs(THEIRS).replace('"00"', nested),
    ):
        with pytest.raises(ImageError) as caught:
            import_json(text)
        assert caught.value.code == "uefi.exchange"


def test_a_file_of_100_mib_is_not_read():
    for text in (b"[" * (SIZE_LIMIT + 1), " " * (100 << 20)):
        with pytest.raises(ImageError, match="more than 32 MiB") as caught:
            import_json(text)
        assert caught.value.code == "uefi.exchange"


def attempt(text: str) -> tuple[list[Variable], ImageError | None]:
    try:
        return import_json(text), None
    except ImageError as error:
        return [], error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([str(GUID), "00", "hwflash-variables"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([*OURS, "attr", "time", "format", "version", "variables"]),
                      inner, max_size=5),
)  # fmt: skip


@given(JSON, JSON, st.sampled_from(sorted({*OURS, *THEIRS, "time"})))
def test_no_file_gives_anything_but_variables_or_that_error(content, value, key):
    for text in (
        json.dumps(content), ours(OURS | {key: value}), theirs(THEIRS | {key: value}),
        ours(variables=content), theirs(variables=content),
    ):  # fmt: skip
        found, error = attempt(text)
        assert error is None or error.code == "uefi.exchange"
        assert all(isinstance(item, Variable) for item in found)


@given(st.binary(max_size=60))
def test_no_bytes_give_anything_but_that_error(data):
    with pytest.raises(ImageError) as caught:
        import_json(data)
    assert caught.value.code == "uefi.exchange"
