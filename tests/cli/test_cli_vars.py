"""``hwflash vars``: what a technician and a script see of a variable store."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import pytest
from harness import Bench, nvram_board
from uefi.volumes import (
    GUID,
    OTHER,
    OVMF_2M,
    State,
    entry,
    some_variables,
    variable,
    volume_bytes,
)

from hwflash.uefi import guids
from hwflash.uefi.devicepath import Node
from hwflash.uefi.loadoption import LoadOption
from hwflash.uefi.window import encode_utf16

END = Node(0x7F, 0xFF).build()
ENTRY = LoadOption(1, encode_utf16("debian"), Node(1, 1, b"\0\x1f").build() + END).build()
MIB = 1 << 20


@pytest.fixture
def volume() -> bytes:
    return bytes(
        volume_bytes(
            [
                variable("Boot0001", ENTRY, guids.GLOBAL_VARIABLE, attributes=7),
                variable("BootOrder", b"\1\0", guids.GLOBAL_VARIABLE, attributes=7),
                variable("Same", b"one"),
                variable("Same", b"two", OTHER),
                variable("Gone", b"old", state=State.DELETED),
                variable("Half", b"new", state=State.HEADER_VALID_ONLY),
                variable("Lone", b"kept", state=State.IN_DELETED_TRANSITION),
            ]
        )
    )


def names(answer) -> list[str]:
    return [item["name"] for item in answer.result["variables"]]


def test_list_shows_variables_decoded_and_the_store_s_usage(bench: Bench, volume: bytes):
    answer = bench.run("vars", "list", bench.file("vars.fd", volume))
    assert answer.code == 0
    assert answer.err == ""
    lines = answer.out.splitlines()
    assert lines[0] == (
        "variable store at 0x000048 in the volume at 0x000000, 131,072 bytes, layout OVMF 1M/2M"
    )
    assert "5 variables in 7 records" in lines[2]
    assert lines[3] == "  fault-tolerant write: nothing is pending"
    rows = {line.split()[0]: line for line in lines[4:]}
    assert rows["Boot0001"].endswith("debian: Pci(0x1F,0x0)")
    assert "EfiGlobalVariable" in rows["Boot0001"]
    assert "NV+BS+RT" in rows["Boot0001"]
    assert rows["BootOrder"].endswith("Boot0001")
    assert rows["Lone"].endswith('"kept"')
    assert not {"Gone", "Half"} & set(rows)


def test_list_as_json_has_the_promised_keys(bench: Bench, volume: bytes):
    answer = bench.json("vars", "list", bench.file("vars.fd", volume))
    (store,) = answer.result["stores"]
    assert (store["base"], store["size"], store["format"]) == (0x48, 0xDFB8, "authenticated")
    assert store["healthy"] is True
    assert store["used"] + store["free"] + store["reclaimable"] == 0xDFB8 - 28
    assert store["work_space"] == {"base": 0xF000, "size": 0x1000}
    assert store["spare"] == {"base": 0x10000, "size": 0x10000}
    assert names(answer) == ["Boot0001", "BootOrder", "Same", "Same", "Lone"]
    first = answer.result["variables"][0]
    assert first["guid"] == str(guids.GLOBAL_VARIABLE)
    assert first["attributes"] == ["NON_VOLATILE", "BOOTSERVICE_ACCESS", "RUNTIME_ACCESS"]
    assert first["state"] == "added"
    assert first["offset"] == 0x64
    assert (first["size"], first["data"]) == (len(ENTRY), ENTRY.hex())
    assert first["decoded"]["device_path"] == "Pci(0x1F,0x0)"
    assert first["timestamp"] is None
    assert answer.result["variables"][-1]["state"] == "in-deleted-transition"


def test_list_all_shows_the_dead_with_their_offsets(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    answer = bench.json("vars", "list", path, "--all")
    states = {item["name"]: item["state"] for item in answer.result["variables"]}
    assert states["Gone"] == "deleted"
    assert states["Half"] == "header-valid-only"
    offsets = {item["name"]: item["offset"] for item in answer.result["variables"]}
    text = bench.run("vars", "list", path, "--all").out
    assert f"0x{offsets['Gone']:06X}  deleted" in text
    assert f"0x{offsets['Half']:06X}  header-valid-only" in text


def test_list_hex_dumps_values(bench: Bench, volume: bytes):
    answer = bench.run("vars", "list", bench.file("vars.fd", volume), "--hex")
    assert "      0000  6b 65 70 74" + " " * 38 + "kept" in answer.out.splitlines()


# --- get ------------------------------------------------------------------------------------


def test_get_shows_one_variable(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    answer = bench.run("vars", "get", path, "Boot0001", "--hex")
    assert "  description    debian" in answer.out.splitlines()
    assert "  device path    Pci(0x1F,0x0)" in answer.out.splitlines()
    assert "  0000  01 00 00 00 0a 00 64 00" in answer.out
    answer = bench.json("vars", "get", path, "Boot0001")
    assert answer.result["variable"]["data"] == ENTRY.hex()


@pytest.mark.parametrize("form", [str, str.upper, lambda text: f"{{{text}}}"])
def test_get_parts_variables_of_one_name_by_guid(bench: Bench, volume: bytes, form):
    path = bench.file("vars.fd", volume)
    answer = bench.json("vars", "get", path, "Same", "--guid", form(str(OTHER)))
    assert bytes.fromhex(answer.result["variable"]["data"]) == b"two"
    answer = bench.json("vars", "get", path, "Same")
    assert (answer.code, answer.error["code"]) == (2, "usage.variable-ambiguous")
    assert str(GUID) in answer.error["message"]
    assert "--guid" in answer.error["hint"]


def test_get_raw_writes_the_bytes(bench: Bench, volume: bytes, tmp_path: Path):
    path, target = bench.file("vars.fd", volume), tmp_path / "value.bin"
    assert bench.run("vars", "get", path, "Boot0001", "--raw", target).code == 0
    assert target.read_bytes() == ENTRY
    answer = bench.run("vars", "get", path, "Boot0001", "--raw", "-", binary=True)
    assert answer.data == ENTRY
    refused = bench.json("vars", "get", path, "Boot0001", "--raw", "-")
    assert (refused.code, refused.error["code"]) == (2, "usage.selection")
    answer = bench.json("vars", "get", path, "Boot0001", "--raw", tmp_path / "no" / "such")
    assert (answer.code, answer.error["code"]) == (3, "environment.unwritable")


@pytest.mark.parametrize(
    ("name", "near"), [("boot0001", ["Boot0001"]), ("boot", ["Boot0001", "BootOrder"]), ("X", [])]
)
def test_a_wrong_name_is_helped(bench: Bench, volume: bytes, name: str, near: list[str]):
    answer = bench.json("vars", "get", bench.file("vars.fd", volume), name)
    assert (answer.code, answer.error["code"]) == (2, "usage.variable")
    assert answer.error["context"]["near"] == near


def test_a_deleted_variable_is_not_got(bench: Bench, volume: bytes):
    for name in ("Gone", "Half"):
        answer = bench.json("vars", "get", bench.file("vars.fd", volume), name)
        assert answer.error["code"] == "usage.variable"


def test_a_bad_guid_is_refused_first(bench: Bench):
    answer = bench.json("vars", "get", "nothing.fd", "A", "--guid", "1234")
    assert answer.code == 2
    assert "'1234' is not a GUID" in answer.error["message"]


# --- sources --------------------------------------------------------------------------------


def test_standard_input_is_a_source(bench: Bench, volume: bytes):
    assert bench.run("vars", "get", "-", "Lone", stdin=volume).code == 0


def test_a_hex_file_keeps_its_addresses(bench: Bench, volume: bytes):
    from hwflash.layout.files import Segment, save_image

    path = bench.folder / "dump.hex"
    save_image(path, [Segment(0, bytes(100)), Segment(0x40000, volume)])
    answer = bench.json("vars", "list", path)
    assert answer.result["stores"][0]["volume"] == {"base": 0x40000, "size": 0x20000}
    assert answer.result["variables"][0]["offset"] == 0x40064


def put(bench: Bench, at: int, volume: bytes) -> None:
    content = bytearray(b"\xff" * bench.size)
    content[at : at + len(volume)] = volume
    bench.image.write_bytes(content)


def test_of_a_chip_only_the_headers_and_the_volume_are_read(bench: Bench, volume: bytes):
    put(bench, 0x41000, volume)
    answer = bench.json("vars", "list", bench.url())
    assert answer.result["searched"] == "boundaries"
    assert answer.result["stores"][0]["volume"]["base"] == 0x41000
    assert names(answer)[0] == "Boot0001"
    assert answer.result["bytes_read"] == OVMF_2M.length
    probes = bench.size // 0x1000 * 0x80
    assert answer.result["stats"]["bytes_in"] < OVMF_2M.length + 3 * probes < bench.size
    assert answer.result["stats"]["erases"] == {}
    assert answer.result["stats"]["programs"] == 0


def test_a_store_at_an_odd_place_of_a_chip_is_found_by_reading_it_all(bench: Bench, volume: bytes):
    put(bench, 0x41234, volume)
    answer = bench.json("vars", "list", bench.url())
    assert answer.result["searched"] == "all"
    assert answer.result["stores"][0]["volume"]["base"] == 0x41234
    assert any("4 KiB" in line["message"] for line in answer.lines if line["type"] == "info")


def test_a_chip_in_the_middle_of_a_reclaim_is_understood(bench: Bench):
    image = volume_bytes(some_variables(), entries=(entry(record=0xFD),))
    image[0x10000:0x1E000] = image[:0xE000]
    image[:0x1000] = b"\xff" * 0x1000
    put(bench, 0x40000, bytes(image))
    answer = bench.json("vars", "list", bench.url())
    (store,) = answer.result["stores"]
    assert store["volume"]["base"] == 0x40000
    assert (store["ftw"], store["pending"], store["healthy"]) == ("replay", True, False)
    text = bench.run("vars", "list", bench.url()).out
    assert "a write is pending and its spare copy is complete" in text


def test_a_board_says_where_its_store_is(bench: Bench, volume: bytes):
    bench.image = bench.folder / "chip.bin"  # a URL in a board file has no spaces
    put(bench, 0x41234, volume)  # where no search at boundaries would find it
    source = nvram_board(bench, "variables = { start = 0x41234, length = 0xE000 }\n"
                   "work = { start = 0x50234, length = 0x1000 }\n"
                   "spare = { start = 0x51234, length = 0x10000 }")  # fmt: skip
    answer = bench.json("vars", "list", source)
    assert answer.result["searched"] == "board"
    assert answer.result["stores"][0]["layout"] == "board file"
    assert answer.result["stores"][0]["healthy"] is True
    assert answer.result["bytes_read"] == OVMF_2M.length
    file = nvram_board(bench, "variables = { start = 0x41234, length = 0xE000 }").removeprefix(
        "board:"
    )
    answer = bench.json("vars", "list", bench.image, "-b", file)
    assert answer.result["stores"][0]["work_space"] == {"base": 0x50234, "size": 0x1000}
    wrong = nvram_board(bench, "variables = { start = 0x1000, length = 0xE000 }")
    answer = bench.json("vars", "list", wrong)
    assert (answer.code, answer.error["code"]) == (7, "uefi.no-store")
    assert "0x001000" in answer.error["message"]
    beyond = nvram_board(bench, "variables = { start = 0xF8000, length = 0x8000 }").removeprefix(
        "board:"
    )
    answer = bench.json("vars", "list", bench.file("short.fd", volume), "-b", beyond)
    assert (answer.code, answer.error["code"]) == (7, "uefi.truncated")
    assert "0x0F8000" in answer.error["message"]
    wrong = nvram_board(bench, "variables = { start = 0x1000, length = 0xE000 }")
    answer = bench.json("vars", "list", wrong, "--full")
    assert answer.result["searched"] == "all"
    answer = bench.json("vars", "list", nvram_board(bench, "find = true"))
    assert answer.result["searched"] == "all"


def test_several_stores_are_told_apart(bench: Bench, volume: bytes):
    second = bytes(volume_bytes([variable("Lone", b"other")]))
    path = bench.file("dump.bin", volume + second)
    answer = bench.json("vars", "list", path)
    assert [item["volume"]["base"] for item in answer.result["stores"]] == [0, 0x20000]
    assert {item["store"] for item in answer.result["variables"]} == {0x48, 0x20048}
    answer = bench.json("vars", "list", path, "--store", "0x20000")
    assert names(answer) == ["Lone"]
    assert bench.json("vars", "get", path, "Lone").error["code"] == "usage.variable-ambiguous"
    answer = bench.json("vars", "get", path, "Lone", "--store", "0x20048")
    assert bytes.fromhex(answer.result["variable"]["data"]) == b"other"
    answer = bench.json("vars", "get", path, "Lone", "--store", "0x10000")
    assert (answer.code, answer.error["code"]) == (2, "usage.store")
    assert "0x020048" in answer.error["message"]


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff" * 4096, "all FF"),
        (bytes(4096), "all 00"),
        (b"QFI\xfb" + bytes(100), "qcow2"),
        (bytes(range(256)) * 16, "there is no UEFI variable store"),
        (b"x", "there is no UEFI variable store"),
    ],
)
def test_an_image_without_a_store_is_an_error_that_says_what_it_is(bench, content, words):
    answer = bench.json("vars", "list", bench.file("image.bin", content))
    assert (answer.code, answer.error["code"]) == (7, "uefi.no-store")
    assert words in answer.error["message"]
    assert bench.run("vars", "list", bench.file("image.bin", content)).code == 7


def test_a_missing_file_is_an_error(bench: Bench):
    answer = bench.json("vars", "list", "nothing.fd")
    assert (answer.code, answer.error["code"]) == (7, "image.unreadable")


def test_anomalies_are_printed_with_offsets(bench: Bench, volume: bytes):
    broken = bytearray(volume)
    broken[0x32] ^= 1
    broken[0xD000] = 0
    answer = bench.run("vars", "list", bench.file("vars.fd", bytes(broken)))
    assert answer.code == 0
    assert "  error: 0x000032: the volume header's checksum is" in answer.out
    assert "  warning: 0x00D000: bytes behind the last record are not erased" in answer.out


def test_a_store_that_is_gone_is_told_of(bench: Bench):
    image = volume_bytes()
    image[0x48:0xE000] = bytes(0xDFB8)
    answer = bench.json("vars", "list", bench.file("vars.fd", bytes(image)))
    assert answer.result["stores"][0]["format"] is None
    assert answer.result["stores"][0]["healthy"] is False
    assert answer.result["variables"] == []
    assert "all 00" in bench.run("vars", "list", bench.file("vars.fd", bytes(image))).out


def test_names_that_would_move_the_cursor_are_escaped(bench: Bench):
    image = bytes(volume_bytes([variable("a\x1b[2Jb\ud800", b"\x1b[2J")]))
    path = bench.file("vars.fd", image)
    assert "a\\u001b[2Jb\\ud800" in bench.run("vars", "list", path).out
    assert names(bench.json("vars", "list", path)) == ["a\x1b[2Jb\ud800"]


@pytest.mark.slow
def test_16_mib_of_torn_headers_take_less_than_two_seconds(bench: Bench):
    from hwflash.uefi.store import make_store
    from hwflash.uefi.volume import make_volume

    size = 16 * MIB
    head = make_volume(size, 0x1000).build() + make_store([], size - 0x48, base=0x48).header()
    torn = b"\xaa\x55\xff" + bytes(57)
    image = head + torn * ((size - len(head)) // 60 + 1)
    path = bench.file("torn.bin", image[:size])
    start = time.process_time()
    answer = bench.run("vars", "list", path, "--all")
    assert time.process_time() - start < 2
    assert answer.code == 0
    assert "more than 20000 records" in answer.out


def test_the_guid_of_a_vendor_may_be_a_name(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    answer = bench.json("vars", "get", path, "Boot0001", "--guid", "EfiGlobalVariable")
    assert UUID(answer.result["variable"]["guid"]) == guids.GLOBAL_VARIABLE
