"""Job files: every fault is listed with its place, before any hardware is touched."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import examples
from uefi.volumes import GUID, OVMF_2M, some_variables, volume_bytes

from hwflash.errors import ImageError, UsageError
from hwflash.jobs.jobfile import check_job, json_schema, load_job
from hwflash.jobs.placeholders import UnitValues, fill
from hwflash.jobs.serial_units import Wish
from hwflash.jobs.serials import SerialStore
from hwflash.layout.files import Segment
from hwflash.units import KIB

SIZE = 256 * KIB
VOLUME = bytes(volume_bytes(some_variables(), OVMF_2M))
GOOD = f"""
[job]
name = "gizmo"
[image]
file = "fw.bin"
[[variable]]
name = "Serial"
guid = "{GUID}"
string = "{{serial}}"
[[bytes]]
at = "0x30000"
length = 16
string = "{{serial}}"
[[bytes]]
at = 0x30010
hex = "{{mac:}}"
[serial]
source = "counter"
format = "SN{{n:04}}"
start = 7
last = 9
policy = "reuse"
[mac]
source = "counter"
start = "00:11:22:33:44:50"
last = "00:11:22:33:44:5f"
increment = 2
[[after]]
command = ["true", "{{serial}}", "{{mac+1}}"]
warning = [2]
meaning = {{ "2" = "no label" }}
"""
BOARD = """
name = "gizmo-board"
description = "for tests"
[flash]
size = "256K"
[layout]
kind = "regions"
[[region]]
name = "nvram"
start = 0
length = "128K"
[[region]]
name = "boot"
start = "128K"
length = "64K"
protected = true
[[region]]
name = "rest"
start = "192K"
length = "64K"
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Path:
    (tmp_path / "fw.bin").write_bytes(VOLUME.ljust(SIZE, b"\xff"))
    (tmp_path / "board.toml").write_text(BOARD)
    return tmp_path


def environ(folder: Path) -> dict[str, str]:
    return {"HWFLASH_STATE_DIR": str(folder / "state"), "HOME": str(folder)}


def faults(folder: Path, text: str) -> list[str]:
    path = folder / "job.toml"
    path.write_text(text)
    checked = check_job(path, environ(folder))
    assert (checked.batch is None) == bool(checked.faults)
    assert not (folder / "state").exists(), "looking makes nothing"
    return [str(fault) for fault in checked.faults]


def changed(*pairs: tuple[str, str]) -> str:
    text = GOOD
    for old, new in pairs:
        assert text.count(old) >= 1, old
        text = text.replace(old, new, 1)
    return text


def test_a_good_job(place: Path) -> None:
    assert faults(place, GOOD) == []
    batch = load_job(place / "job.toml", environ(place))
    assert batch.form.policy == "reuse"
    unit = UnitValues("SN0007", (0x001122334450, 0x001122334451))
    (whole,) = batch.content(SIZE, unit)
    assert whole.data[:0x30000] == VOLUME.ljust(0x30000, b"\xff")
    assert whole.data[0x30000:0x30018] == b"SN0007" + b"\xff" * 10 + bytes.fromhex(
        "001122334450ffff"
    )
    digest = hashlib.sha256(whole.data[:0x30000].ljust(SIZE, b"\xff")).hexdigest()
    assert batch.digests == {place / "fw.bin": digest}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("[image]", "[image]\nfiel = 1")], "image.fiel: is not known; did you mean 'file'?"),
        ([('name = "gizmo"', "")], "job.name: is missing"),
        ([("at = 0x30010", "")], "bytes[1].at: is missing"),
        ([("at = 0x30010", "at = true")], "bytes[1].at: must be a size such as"),
        ([('"fw.bin"', '"none.bin"')], "image.file: {}/none.bin cannot be read: No such file"),
        ([("[[variable]]", 'sha256 = "' + "0" * 64 + '"\n[[variable]]')],
         "image.sha256: is another than that of {}/fw.bin: "),
        ([("[[variable]]", 'regions = ["boot"]\n[[variable]]')], "job.board: is missing"),
        ([("[[variable]]", 'regions = ["boot"]\nat = 0\n[[variable]]')],
         "image.at: is given, though image.regions"),
        ([('string = "{serial}"', "")], "variable[0]: has no value: it takes one of string, utf16"),
        ([('string = "{serial}"', 'string = "a"\nhex = "00"')],
         "variable[0]: has 2 values: string, hex"),
        ([('string = "{serial}"', 'delete = true\nhex = "00"')],
         "variable[0].hex: is given, though the variable shall be deleted"),
        ([('string = "{serial}"', 'string = "{serail}"')],
         "variable[0].string: has {{serail}}, which stands for nothing here"),
        ([('string = "{serial}"', 'string = "{serial"')],
         "variable[0].string: a '{{' at column 1 has no partner"),
        ([('string = "{serial}"', 'string = "{csv.x}"')],
         "variable[0].string: has {{csv.x}}, but there is no [csv]"),
        ([('string = "{serial}"', 'u32 = "{serial}"')],
         "variable[0].u32: 'SN0007' at column 1 is no unsigned number"),
        ([('string = "{serial}"', 'boot = { label = "x", path = "nonsense(" }')],
         "variable[0].boot: "),
        ([('string = "{serial}"', 'file = "none"')], "variable[0].file: {}/none cannot be read"),
        ([("{mac+1}", "{mac+2}")], "after[0].command[2]: has {{mac+2}}, but mac.increment is 2"),
        ([("length = 16", "length = 5")], "bytes[0].string: 6 bytes at 0x030000 have room for 5"),
        ([("at = 0x30010", "at = 0x30008")], "bytes[1]: overlaps bytes[0]"),
        ([(str(GUID), "nonsense")], "variable[0].guid: is no GUID and no well-known name"),
        ([(f'guid = "{GUID}"', "")], "variable[0].guid: is missing: nobody knows whose Serial is"),
        ([(f'guid = "{GUID}"', f'guid = "{GUID}"\nattributes = "XX"')],
         "variable[0].attributes: 'XX' is no attribute"),
        ([("start = 7", "")], "serial.start: is missing"),
        ([("last = 9", "last = 6")], "serial.last: is 6, below serial.start"),
        ([("last = 9", "last = 10000")], "serial.last: is 10000, which has more digits than SN"),
        ([("SN{n:04}", "SN")], "serial.format: must have one {{n}}"),
        ([("start = 7", 'start = 7\ncolumn = "x"')],
         'serial.column: has no use when the source is "counter"'),
        ([('policy = "reuse"', 'policy = "twice"')], "serial.policy: input should be 'reuse' or"),
        ([("increment = 2", 'increment = 2\npolicy = "burn"')],
         "mac.policy: is burn, but serial.policy is reuse: the numbers of a unit stay together"),
        ([('start = "00:11', 'start = "01:11'), ('last = "00:11', 'last = "01:11')],
         "mac.start: is a group address"),
        ([('start = "00:11', 'start = "02:11'), ('last = "00:11', 'last = "02:11')],
         "mac.start: is locally administered (bit 1 of its first octet): say local = true"),
        ([("increment = 2", "increment = 2\nlocal = true")],
         "mac.start: is not locally administered"),
        ([("00:11:22:33:44:5f", "00:11:23:33:44:5f")],
         "mac.last: has other first three octets than mac.start"),
        ([("00:11:22:33:44:5f", "00:11:22:33:44:50")], "mac.last: is too low for one unit"),
        ([("00:11:22:33:44:50", "00:11-22:33:44:50")], "mac.start: must be a MAC address"),
        ([('"true"', '"no-such-program"')],
         "after[0].command[0]: no-such-program is no program that can be run"),
        ([("warning = [2]", "warning = [0]")], "after[0].warning: has 0, which after[0].ok has"),
        ([("warning = [2]", "warning = [256]")], "after[0].warning[0]: input should be less than"),
        ([('"2" =', '"300" =')], "after[0].meaning.300: is no exit code"),
        ([('hex = "{mac:}"', 'hex = "00"'), ("{mac+1}", "x")],
         "mac: is given, but no value has {{mac}}"),
        ([('name = "gizmo"', 'name = "gizmo"\nboard = "no-such-board"')],
         "job.board: there is no board 'no-such-board'"),
        ([('name = "gizmo"', 'name = "gizmo"\nprogrammer = "usb:what"')], "job.programmer: "),
        ([('name = "gizmo"', 'name = "gizmo"\nboard = "board.toml"')],
         "job.protected: does not name boot, which the board protects and the job writes"),
        ([('source = "counter"', 'source = "csv"')], 'serial.source: is "csv", but there is no'),
        ([('source = "counter"', 'source = "command"')], "serial.command: is missing"),
        ([("name = \"Serial\"", 'name = "' + "x" * 40000 + '"')], "variable[0]: "),
    ],
)  # fmt: skip
def test_each_fault_with_its_place(
    place: Path, pairs: list[tuple[str, str]], expected: str
) -> None:
    found = faults(place, changed(*pairs))
    wanted = expected.replace("{{", "\0").replace("}}", "\1").replace("{}", str(place))
    wanted = wanted.replace("\0", "{").replace("\1", "}")
    assert any(item.startswith(wanted) for item in found), found
    with pytest.raises(ImageError) as caught:
        load_job(place / "job.toml", environ(place))
    assert caught.value.code == "job.faults"
    assert caught.value.context["faults"] == found


def test_many_faults_are_all_listed_at_once(place: Path) -> None:
    found = faults(
        place,
        changed(
            ("[image]", "[image]\nfiel = 1"), ("length = 16", "length = 5"),
            ("last = 9", "last = 6"), ('"true"', '"no-such-program"'),
            ("increment = 2", "increment = 0"), ('"fw.bin"', '"none.bin"\nsha256 = "12"'),
            ('name = "gizmo"', 'name = "gizmo"\nboard = "none"\nverify = 3'),
        ),
    )  # fmt: skip
    places = [item.partition(":")[0] for item in found]
    assert sorted(places) == sorted(
        [
            "image.fiel",
            "mac.increment",
            "serial.last",
            "after[0].command[0]",
            "bytes[0].string",
            "image.file",
            "image.sha256",
            "job.board",
            "job.verify",
        ]
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ["job: is missing", "has nothing to write: no image, region, variable or bytes"]),
        (b"\xff", ["is not UTF-8 text (byte 0)"]),
        (b"[job\n", ["line 1: is no valid TOML"]),
        (b"a=" + b"[" * 5000, ["is no usable TOML: nested too deeply"]),
        (b"#" * (1 << 20) + b"\n", ["is larger than 1 MiB"]),
        (b'job = 3\nimage = []\nbytes = {}\nregion = "x"\n', ["job: input should be"]),
    ],
)
def test_files_that_are_no_job_files(place: Path, content: bytes, expected: list[str]) -> None:
    path = place / "job.toml"
    path.write_bytes(content)
    found = [str(fault) for fault in check_job(path, environ(place)).faults]
    for wanted in expected:
        assert any(item.startswith(wanted) for item in found), found
    assert [str(f) for f in check_job(place / "none.toml").faults] == [
        "cannot be read: No such file or directory"
    ]
    assert check_job(place).faults


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 1 << 70), st.floats(allow_nan=False),
    st.sampled_from(["", "counter", "csv", "command", "{serial}", "{n}", "fw.bin", "\0", "{"]),
)  # fmt: skip


@settings(
    max_examples=examples(120),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    table=st.sampled_from(["job", "image", "serial", "mac", "csv", "variable", "bytes", "after"]),
    key=st.sampled_from(
        ["name", "file", "at", "regions", "source", "start", "last", "format", "column", "command",
         "length", "string", "u32", "hex", "guid", "key", "ok", "meaning", "boot"]
    ),
    value=LEAVES,
    listed=st.booleans(),
)  # fmt: skip
def test_no_value_anywhere_gives_a_traceback(
    place: Path, table: str, key: str, value: object, listed: bool
) -> None:
    if value is None:
        text = "[]"
    elif isinstance(value, str | bool | int):
        text = json.dumps(value)
    else:
        text = repr(value)
    text = f"[{text}]" if listed and value is not None else text
    lines: list[str] = []
    inside = done = False
    for line in GOOD.splitlines():
        starts = line.strip("[]") == table and line.startswith("[")
        if inside and line.startswith(f"{key} ="):
            continue
        lines.append(line)
        inside = starts or (inside and not line.startswith("["))
        if starts and not done:
            lines.append(f"{key} = {text}")
            done = True
    if not done:
        lines += [f"[{table}]", f"{key} = {text}"]
    faults(place, "\n".join(lines))


CSV_JOB = f"""
[job]
name = "gizmo"
[csv]
file = "units.csv"
[serial]
source = "csv"
column = "sn"
[mac]
source = "csv"
column = "mac"
[[variable]]
name = "Serial"
guid = "{GUID}"
string = "{{serial}} {{csv.colour}}"
[[bytes]]
at = 0
length = 12
string = "{{MAC:}}"
"""


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("sn,mac,colour\nA,00:11:22:33:44:55,red\n\n B , 001122334456,\"bl,ue\"\n", []),
        ("", ["units.csv is empty"]),
        ("sn,mac,colour\n", ["units.csv has no line for a unit"]),
        ("sn,mac\nA,001122334455\n", ["variable[0].string: has {csv.colour}, but there is no"]),
        ("sn,colour\nA,red\n", ["has no column 'mac'; it has sn, colour"]),
        ("sn,sn,mac,colour\nA,A,001122334455,x\n", ["has column 'sn' twice"]),
        ("sn,mac,colour\nA,001122334455,x\nA,001122334456,x\n",
         ["line 3 of {}/units.csv has sn 'A', as line 2 has"]),
        ("sn,mac,colour\nA,001122334455,x\nB,00-11-22-33-44-55,x\n",
         ["line 3 of {}/units.csv has mac '00-11-22-33-44-55', as line 2 has"]),
        ("sn,mac,colour\nA,001122334455\n", ["line 2 of {}/units.csv has 2 values, not 3"]),
        ("sn,mac,colour\nA,hello,x\n,001122334455,x\n",
         ["mac 'hello' must be a MAC address", "line 3 of {}/units.csv: sn '' is empty"]),
        ("sn,mac,colour\nA,031122334455,x\n", ["line 2: 031122334455 is a group address"]),
        ('sn,mac,colour\nA,001122334455,"x\n', ["cannot be read: unexpected end of data"]),
        ("sn,mac,colour\nA,001122334455,\0\n", ["it has a NUL"]),
        ("\xff", ["is not UTF-8"]),
    ],
)  # fmt: skip
def test_csv_files(place: Path, rows: str, expected: list[str]) -> None:
    (place / "units.csv").write_bytes(rows.encode("latin-1"))
    found = faults(place, CSV_JOB)
    assert bool(found) == bool(expected)
    for wanted in expected:
        assert any(wanted.replace("{}", str(place)) in item for item in found), found


def test_pipes_are_not_waited_for(place: Path) -> None:
    os.mkfifo(place / "pipe")
    text = CSV_JOB.replace("units.csv", "pipe") + '[image]\nfile = "pipe"\n'
    text = text.replace('string = "{MAC:}"', 'file = "pipe"')
    found = [item for item in faults(place, text) if "is no regular file" in item]
    assert [item.partition(":")[0] for item in found] == ["image.file", "bytes[0].file", "csv.file"]
    assert [str(fault) for fault in check_job(place / "pipe").faults] == ["is no regular file"]


def test_a_value_that_only_one_line_breaks_is_found(place: Path) -> None:
    rows = "".join(f"S{index},{0x001122000000 + index:012x},x\n" for index in range(50))
    (place / "units.csv").write_text("sn,mac,colour\n" + rows.replace("S37,", "S37-far-too-long,"))
    short = CSV_JOB.replace('"{MAC:}"', '"{serial}"')
    assert faults(place, short + '[[bytes]]\nat = 100\nhex = "{mac:}"\n') == [
        "bytes[0].string: 16 bytes at 0x000000 have room for 12 (line 39 of the CSV file)"
    ]


def test_a_store_without_room_is_found_in_the_image(place: Path) -> None:
    found = faults(place, changed(('string = "{serial}"', 'hex = "' + "00" * 60000 + '"')))
    assert any(item.startswith("variable[0]: ") for item in found), found


def test_an_image_that_should_bring_a_store_and_does_not(place: Path) -> None:
    (place / "fw.bin").write_bytes(b"\xff" * SIZE)
    (fault,) = faults(place, GOOD)
    assert fault.startswith("image.file: ")
    elsewhere = changed(("[[variable]]", "at = 0\n[[variable]]"))
    assert faults(place, elsewhere) == []
    notes = check_job(place / "job.toml", environ(place)).notes
    assert any("on the chip" in note for note in notes), notes


def test_regions_lie_over_the_image_and_bytes_over_both(place: Path) -> None:
    (place / "rest.bin").write_bytes(b"r" * 0x8000)
    text = """
[job]
name = "gizmo"
board = "board.toml"
protected = ["boot"]
[image]
file = "fw.bin"
[[region]]
name = "rest"
file = "rest.bin"
[[bytes]]
at = 0x30004
hex = "0102"
[[bytes]]
at = 0x37FFF
hex = "0304"
"""
    assert faults(place, text) == []
    batch = load_job(place / "job.toml", environ(place))
    (whole,) = batch.content(SIZE, UnitValues())
    assert whole.data[0x30000:0x30008] == b"rrrr\1\2rr"
    assert whole.data[0x37FFC:0x38003] == b"rrr\3\4\xff\xff"
    assert batch.named == {"boot", "rest"}
    only = text.replace('[image]\nfile = "fw.bin"\n', "").replace('protected = ["boot"]\n', "")
    assert faults(place, only) == []
    batch = load_job(place / "job.toml", environ(place))
    assert batch.content(SIZE, UnitValues()) == [
        Segment(0x30000, b"rrrr\1\2" + b"r" * (0x7FFF - 6) + b"\3\4")
    ] or [item.range.length for item in batch.content(SIZE, UnitValues())] == [0x7FFF, 2]
    unknown = only.replace('name = "rest"', 'name = "rset"')
    assert any(item.startswith("region[0].name: ") for item in faults(place, unknown))


def test_a_changed_file_is_seen(place: Path) -> None:
    faults(place, GOOD)
    batch = load_job(place / "job.toml", environ(place))
    batch.require_unchanged()
    (place / "fw.bin").write_bytes((place / "fw.bin").read_bytes()[:-1] + b"\0")
    with pytest.raises(ImageError) as caught:
        batch.require_unchanged()
    assert caught.value.code == "job.image-changed"
    (place / "fw.bin").unlink()
    with pytest.raises(ImageError) as caught:
        batch.require_unchanged()
    assert caught.value.code == "job.image-changed"


def test_the_numbers_that_come_next_and_those_that_are_gone(place: Path) -> None:
    faults(place, GOOD.replace('policy = "reuse"', ""))
    path = place / "job.toml"
    batch = load_job(path, environ(place))
    wish = Wish("gizmo", None, frozenset(batch.supply.series.items()), "burn", "refuse")
    with SerialStore(place / "state") as store:
        store.take(wish, batch.supply.choose({}))
        assert check_job(path, environ(place)).notes == (
            "next: serial SN0008, mac 00:11:22:33:44:52, mac 00:11:22:33:44:53",
        )
        for _ in range(2):
            store.take(wish, batch.supply.choose({}))
        (fault,) = check_job(path, environ(place)).faults
        assert str(fault) == "the counter of serial numbers (serial:gizmo) has none left"
    (place / "state" / "serials" / "numbers.sqlite3").write_bytes(b"")
    (fault,) = check_job(path, environ(place)).faults
    assert "cannot be used: it is empty" in str(fault)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{serial}", "SN1"), ("{mac}", "0a:1b:2c:3d:4e:5f"), ("{mac:-}", "0a-1b-2c-3d-4e-5f"),
        ("{MAC:}", "0A1B2C3D4E5F"), ("{mac+1::}", "0a:1b:2c:3d:4e:60"), ("{csv.a b}", "x{y}"),
        ("{{{unit}}}", "{3}"), ("{{serial}}", "{serial}"), ("{chip}", ""), ("", ""),
    ],
)  # fmt: skip
def test_placeholders(text: str, expected: str) -> None:
    macs = (0x0A1B2C3D4E5F, 0x0A1B2C3D4E60)
    assert fill(text, UnitValues("SN1", macs, {"a b": "x{y}"}, 3)) == expected


@pytest.mark.parametrize("text", ["{mac+2}", "{csv.b}", "{", "a}", "{serial", "{serial.x}", "{}"])
def test_placeholders_that_stand_for_nothing(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        fill(text, UnitValues("SN1", (1, 2), {"a": "x"}))
    assert caught.value.code == "job.placeholder"


MACS = """
[job]
name = "{name}"
[mac]
source = "counter"
start = "00:11:22:33:44:{start:02x}"
last = "00:11:22:33:44:{last:02x}"
increment = {increment}
[[bytes]]
at = 0
hex = "{{mac:}}"
"""


@pytest.mark.slow
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    blocks=st.lists(
        st.tuples(st.integers(0, 40), st.integers(10, 60), st.integers(1, 5)),
        min_size=2, max_size=3,
    ),
    turns=st.lists(st.integers(0, 2), max_size=14),
)  # fmt: skip
def test_jobs_that_share_a_block_share_no_address(
    tmp_path_factory: pytest.TempPathFactory,
    blocks: list[tuple[int, int, int]],
    turns: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("macs")
    batches = []
    for index, (start, length, increment) in enumerate(blocks):
        path = folder / f"{index}.toml"
        path.write_text(
            MACS.format(name=f"j{index}", start=start, last=start + length, increment=increment)
        )
        batches.append(load_job(path, environ(folder)))
    seen: set[int] = set()
    with SerialStore(folder / "state") as store:
        for turn in turns:
            index = turn % len(batches)
            supply, (start, length, increment) = batches[index].supply, blocks[index]
            wish = Wish(f"j{index}", None, frozenset(supply.series.items()), "burn", "refuse")
            try:
                claim = store.take(wish, supply.choose({}))
            except ImageError:
                continue  # the block has none left
            macs = [item.position & 0xFF for item in claim.of("mac") if item.position is not None]
            assert macs == list(range(macs[0], macs[0] + increment))
            assert start <= macs[0]
            assert macs[-1] <= start + length
            assert not seen & set(macs)
            seen |= set(macs)


def test_good_files_satisfy_the_schema(place: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    for text in (GOOD, CSV_JOB, MACS.format(name="a", start=1, last=9, increment=1)):
        assert not list(validator.iter_errors(tomllib.loads(text)))
    assert list(validator.iter_errors(tomllib.loads(GOOD.replace("[image]", "[image]\nx = 1"))))


def test_the_schema_names_every_table() -> None:
    assert set(json_schema()["properties"]) == {
        "job", "image", "region", "variable", "bytes", "csv", "serial", "mac", "after",
    }  # fmt: skip
