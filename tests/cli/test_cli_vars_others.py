"""``hwflash vars`` on stores that are not EDK2's: shown like its own, and never written."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from uuid import UUID

import pytest
from harness import Bench, nvram_board
from uefi import other_stores as o
from uefi.volumes import some_variables, volume_bytes

from hwflash.jobs.uefi_export import load_variables

KIB = 1024


def names(answer) -> list[str]:
    return [item["name"] for item in answer.result["variables"]]


def test_list_shows_an_ami_store_like_one_of_edk2(bench: Bench):
    image = bench.file("ami.rom", bytes(0x8000) + o.nvar_image())
    lines = bench.run("vars", "list", image).out.splitlines()
    assert lines[:3] == [
        "AMI NVAR store at 0x008060 in the volume at 0x008000-0x00BFFF, only read",
        "  8,192 bytes: 347 used, 7,793 free, 52 reclaimable",
        "  8 variables in 11 entries",
    ]
    assert "  Timeout       EfiGlobalVariable                     NV+BS+RT          2  5" in lines
    assert any(line.startswith("AMI NVAR store in the variable StdDefaults") for line in lines)
    every = bench.run("vars", "list", image, "--all", "--store", "0x8060").out
    assert "0x008060  superseded             Timeout" in every
    assert "0x0080EB  deleted                Gone" in every
    assert "StdDefaults at" not in every
    answer = bench.json("vars", "list", image)
    main, defaults = answer.result["stores"]
    assert (main["kind"], main["base"], main["size"], main["writable"]) == (
        "ami-nvar", 0x8060, 0x2000, False,
    )  # fmt: skip
    assert (defaults["copy"], defaults["title"]) == (
        True, "AMI NVAR store in the variable StdDefaults",
    )  # fmt: skip
    assert "not published" in main["reason"]
    timeout = next(item for item in answer.result["variables"] if item["name"] == "Timeout")
    assert timeout["decoded"] == {"kind": "integer", "text": "5", "value": 5}
    assert (timeout["older"], timeout["store"]) == ([0x8060, 0x8093], 0x8060)


def test_get_shows_one_variable_and_prefers_what_counts(bench: Bench):
    image = bench.file("ami.rom", o.nvar_image())
    lines = bench.run("vars", "get", image, "Timeout").out.splitlines()
    assert lines[-2:] == ["  older       values at 0x000060, 0x000093", "  5"]
    # Setup is in the defaults, too; those are shown when their store is named.
    usual = bench.json("vars", "get", image, "Setup")
    assert usual.result["variable"]["data"] == "01" * 8
    default = bench.json("vars", "get", image, "Setup", "--store", "0x17F")
    assert default.result["variable"]["data"] == "07" * 8
    raw = bench.folder / "setup.bin"
    assert bench.run("vars", "get", image, "Setup", "--raw", raw).code == 0
    assert raw.read_bytes() == b"\1" * 8
    answer = bench.json("vars", "get", image, "Timeuot")
    assert (answer.code, answer.error["code"]) == (2, "usage.variable")
    assert answer.error["context"]["near"] == ["Timeout"]
    answer = bench.json("vars", "get", image, "Setup", "--store", "0x999")
    assert (answer.code, answer.error["code"]) == (2, "usage.store")
    assert "0x000060, 0x00017F" in answer.error["message"]


def test_export_and_diff_take_any_store(bench: Bench):
    ami = bench.file("ami.rom", o.nvar_image())
    phoenix = bench.file("phoenix.rom", o.vss_image(o.vss_sample()))
    exported = bench.folder / "phoenix.json"
    answer = bench.json("vars", "export", phoenix, exported)
    assert answer.result["exported"] == 4
    found = {item.name: item for item in load_variables(exported)}
    assert (found["Timeout"].data, str(found["db"].timestamp)) == (b"\5\0", "2024-05-17T10:20:30Z")
    assert bench.run("vars", "diff", phoenix, exported).code == 0
    answer = bench.json("vars", "diff", ami, phoenix)
    assert answer.code == 1
    assert [item["name"] for item in answer.result["variables"]["changed"]] == ["Setup", "db"]
    apple = bench.file("apple.rom", o.vss_image(o.vss_sample(0x1000) + o.fsys_sample()))
    answer = bench.json("vars", "export", apple, exported)
    assert (answer.code, answer.error["code"]) == (2, "usage.store")
    answer = bench.run("vars", "export", apple, exported, "--store", "0x1048")
    assert "warning: variables without a GUID" in answer.err
    assert json.loads(exported.read_text())["variables"][1]["name"] == "ssn"
    assert bench.run("vars", "export", apple, "--store", "0x48").code == 0


def test_variables_of_one_name_are_told_apart_without_their_guids(bench: Bench):
    def cut_out(*values: int):
        entries = [o.nvar_entry("A", bytes([value]), guid=i) for i, value in enumerate(values)]
        return bench.file(f"{values}.rom", bytes(16) + b"".join(entries) + b"\xff" * 64)

    left, exported = cut_out(1, 2, 3), bench.folder / "exported.json"
    answer = bench.json("vars", "diff", left, cut_out(1, 9, 3))
    assert [item["guid"][-1] for item in answer.result["variables"]["changed"]] == ["1"]
    assert bench.json("vars", "export", left, exported).result["exported"] == 3
    assert bench.json("vars", "diff", left, exported).code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("vars set", "Timeout", "--u16", "3", "-y"), ("vars append", "Timeout", "--u16", "3", "-y"),
        ("vars delete", "Timeout", "-y"), ("vars import", "x.json", "-y"), ("vars reclaim", "-y"),
        ("ftw recover", "-y"), ("ftw rescue", "-y"), ("ftw rescue", "--fresh", "-y"),
        ("ftw rescue", "--fresh", "-y", "--layout", "ovmf-2m"), ("ftw status",),
        ("keys enroll", "db", "--sha256", "00" * 32, "-y"),
    ],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_what_would_write_one_is_refused_with_the_reason(bench: Bench, words: tuple[str, ...]):
    bench.file("x.json", '{"format": "hwflash-variables", "version": 1, "variables": []}')
    for content in (o.nvar_image(), o.vss_image(o.vss_sample())):
        image = content.ljust(0x20000, b"\xff")
        path = bench.file("board.rom", image)
        answer = bench.json(*words[0].split(), path, *words[1:])
        assert (answer.code, answer.error["code"]) == (7, "uefi.read-only"), answer.out
        assert "not published" in answer.error["message"]
        assert answer.error["chip"] == "nothing was changed"
        assert path.read_bytes() == image


def test_no_store_is_built_over_the_middle_of_one(bench: Bench):
    content = o.vss_image(o.vss_store([o.vss_plain("A", bytes(99))] * 9, 0x60000), 0x80000)
    path = bench.file("board.rom", content)
    bench.fill(content.ljust(bench.size, b"\xff"))
    rescue = ("-y", "--fresh", "--layout", "ovmf-2m", "--at", "0x10000")
    for source in (path, bench.url()):
        answer = bench.json("ftw", "rescue", source, *rescue)
        assert (answer.code, answer.error["code"]) == (7, "uefi.read-only")
        assert answer.error["context"]["offset"] == 0x48
    assert path.read_bytes() == content == bench.content[: len(content)]


def test_beside_a_store_of_edk2(bench: Bench):
    image = bench.file("both.rom", bytes(volume_bytes(some_variables())) + o.nvar_image())
    answer = bench.json("vars", "list", image)
    assert [item["kind"] for item in answer.result["stores"]] == ["edk2", "ami-nvar", "ami-nvar"]
    assert names(bench.json("vars", "list", image, "--store", "0x20060"))[:2] == [
        "PlatformLang", "Timeout",
    ]  # fmt: skip
    assert len(names(bench.json("vars", "list", image, "--store", "0x48"))) == 5
    assert bench.json("vars", "get", image, "Timeout").result["variable"]["store"] == 0x20060
    assert bench.json("vars", "get", image, "Variable1").result["variable"]["store"] == 0x48
    assert bench.json("vars", "set", image, "Variable1", "--u8", "1", "-y").code == 0
    answer = bench.json("vars", "set", image, "Timeout", "--u16", "1", "-y", "--store", "0x20060")
    assert (answer.code, answer.error["code"]) == (7, "uefi.read-only")
    assert bench.json("vars", "export", image, bench.folder / "x").result["exported"] == 5


def test_keys_are_listed(bench: Bench):
    hashes = UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le
    listed = hashes + struct.pack("<III", 76, 0, 48) + bytes(16) + bytes(range(32))
    store = o.nvar_store([o.nvar_entry("dbx", listed, guid=0)], [o.SECURITY], 0x400)
    answer = bench.json("keys", "list", bench.file("ami.rom", o.nvar_image(store)))
    (database,) = answer.result["databases"]
    assert (database["name"], len(database["entries"])) == ("dbx", 1)
    assert database["entries"][0]["fingerprint"] == bytes(range(32)).hex()
    # Where this firmware keeps its switches is not known: nothing is said of the state.
    assert (answer.result["setup_mode"], answer.result["state"]) == (True, [])


def test_a_factory_copy_in_edk2_s_own_format_is_not_written(bench: Bench):
    volume = bytes(volume_bytes(some_variables()))
    copy = bytes(0xFF8) + b"_FDC" + struct.pack("<I", 8 + len(volume))
    image = bench.file("insyde.rom", volume + copy + volume)
    change = ("vars", "set", image, "Variable1", "--u8", "7", "-y", "--store")
    answer = bench.json(*change, "0x21000")
    assert (answer.code, answer.error["code"]) == (7, "uefi.read-only")
    assert "_FDC" in answer.error["message"]
    assert bench.json(*change, "0x0").code == 0


def test_check_names_what_is_wrong(bench: Bench):
    good = bench.json("vars", "check", bench.file("good.rom", o.nvar_image()))
    assert (good.code, good.result["healthy"]) == (0, True)
    store = o.nvar_store([o.nvar_entry("A", b"1", following=0x500)], [o.GLOBAL], 0x400)
    answer = bench.run("vars", "check", bench.file("bad.rom", o.nvar_image(store)))
    assert answer.code == 1
    link = "the link to 0x000560 leads to no valid entry of data; the value before it is shown"
    assert answer.out.splitlines() == [
        "variable store at 0x000060: not sound",
        f"  error    0x000060: {link} [nvar.link]",
    ]


def test_on_a_chip_only_the_volume_is_read(bench: Bench):
    content = bytearray(b"\xff" * bench.size)
    content[0x41000:0x45000] = o.nvar_image()
    content[0x80000:0x84000] = o.vss_image(o.vss_sample())
    before = bench.fill(bytes(content))
    answer = bench.json("vars", "list", bench.url())
    assert (answer.code, answer.result["searched"]) == (0, "boundaries")
    assert answer.result["bytes_read"] == 0x8000
    assert [item["base"] for item in answer.result["stores"]] == [0x41060, 0x4117F, 0x80048]
    answer = bench.json("vars", "set", bench.url(), "Timeout", "--u16", "3", "-y")
    assert (answer.code, answer.error["code"]) == (7, "uefi.read-only")
    assert bench.content == before
    # Not the first file of its volume, or no volume at all: everything is read.
    content[0x41000:0x45000] = o.volume(o.ffs_file(o.SETUP, b"12345678") + o.ffs_file(
        o.NVAR_FILE, o.nvar_sample()), o.FFS2, 0x4000)  # fmt: skip
    content[0x80000:0x84000] = b"\xff" * 0x4000
    bench.fill(bytes(content))
    answer = bench.json("vars", "get", bench.url(), "Timeout")
    assert answer.result["variable"]["data"] == "0500"


def test_on_a_board_and_in_layout(bench: Bench):
    bench.image = bench.folder / "chip.bin"  # a URL in a board file has no spaces
    content = bytearray(b"\xff" * bench.size)
    content[0x40000:0x44000] = o.vss_image(o.vss_sample())
    bench.fill(bytes(content))

    bare = nvram_board(bench, "variables = { start = 0x40048, length = 0x2000 }")
    assert names(bench.json("vars", "list", bare)) == ["Timeout", "db", "Setup", "Moved"]
    board = nvram_board(bench, "variables = { start = 0x40000, length = 0x4000 }")
    answer = bench.json("vars", "list", board)
    assert (answer.code, answer.result["searched"]) == (0, "board"), answer.out
    assert answer.result["stores"][0]["title"] == "$VSS store"
    answer = bench.json("vars", "delete", board, "Timeout", "-y")
    assert (answer.code, answer.error["code"]) == (7, "uefi.read-only")
    drawn = bench.run("layout", bench.image).out
    assert "0x040048-0x042047      8 KiB  $VSS store, 4 variables" in drawn
    assert bench.json("layout", bench.image).result["stores"][0]["kind"] == "vss"


def test_hostile_stores_end_in_words(bench: Bench, tmp_path: Path):
    # The second is a store of defaults, whose title has the name; the third turns the direction.
    control = [
        o.nvar_entry("A\x1b[31m\r", b"1"),
        o.nvar_entry("B\x9b2J", o.nvar_entry("C", b"1")),
        o.nvar_entry("D\u202eE", b"1", bits=o.VALID),
    ]
    path = bench.file("x.rom", o.nvar_store(control, [o.GLOBAL], 256))
    out = bench.run("vars", "list", path).out + bench.run("layout", path).out
    assert "A\\u001b[31m\\u000d" in out
    assert out.count("in the variable B\\u009b2J") == 2
    assert "D\\u202eE" in out
    assert all(line.isprintable() for line in out.splitlines())
    cut = bench.json("vars", "list", bench.file("x.rom", o.nvar_image()[:0x100]))
    assert [item["code"] for item in cut.result["stores"][0]["anomalies"]] == [
        "nvar.no-end", "nvar.tail",
    ]  # fmt: skip
    for content in (b"NVAR", b"$VSS", b"NVAR" * 9, b"_FDC" + bytes(99), b"EVSA" * 9):
        answer = bench.json("vars", "list", bench.file("x.rom", content))
        assert (answer.code, answer.error["code"]) == (7, "uefi.no-store")
