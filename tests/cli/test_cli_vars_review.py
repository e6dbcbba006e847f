"""Changing variable stores where it is easy to be wrong: odd chips, boards, unfinished writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Bench
from test_cli_vars_edit import board_image, values
from uefi.keys import make_key
from uefi.volumes import (
    AAVMF,
    GUID,
    OVMF_2M,
    OVMF_4M,
    State,
    some_variables,
    variable,
    volume_bytes,
)

from hwflash.jobs import uefi_read
from hwflash.uefi.corruptions import ELEVEN
from hwflash.uefi.find import find_stores
from hwflash.uefi.guids import GLOBAL_VARIABLE, IMAGE_SECURITY
from hwflash.uefi.window import Window

AT = 0x20000


def stores(image: bytes) -> dict[str, bytes]:
    (found,) = find_stores(image)
    return {record.name: record.data for record in found.store.live}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["suffix", "edk2"])
def test_a_rewrite_uses_the_erase_blocks_that_the_chip_has(tmp_path, order: str):
    """S25FS128S: 4 KiB and one of 32 KiB below, 64 KiB above."""
    bench = Bench(tmp_path, "s25fs128s")
    dead = [variable(f"D{number}", bytes(2000), state=State.DELETED) for number in range(80)]
    volume = bytes(volume_bytes([*some_variables(), *dead, variable("Last")], AAVMF, block=0x40000))
    bench.fill(board_image(bench.size, volume, 0))
    words = ("-y", "--order", order, "--allow-voltage")
    answer = bench.run("vars", "reclaim", bench.url(), *words)
    assert answer.code == 0, answer.err
    assert stores(bench.content) == stores(volume)


def test_one_misread_bit_stops_the_change(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A live record that reads as deleted once would get a second one: OVMF then hangs."""
    volume = bytes(volume_bytes(some_variables(), OVMF_4M))
    image = bench.fill(board_image(bench.size, volume))
    state = AT + find_stores(volume)[0].store.find("Variable3", GUID).offset + 2
    real = uefi_read._windows

    def once_wrong(*words):
        found = []
        for window in real(*words):
            data = bytearray(window.data)
            data[state - window.base] &= ~0x02
            found.append(Window(bytes(data), window.base))
        return tuple(found)

    monkeypatch.setattr(uefi_read, "_windows", once_wrong)
    answer = bench.run("vars", "set", bench.url(), "Variable3", "--u8", "1", "-y", "--guid", GUID)
    assert answer.code == 4, answer.out
    assert "[chip.unstable" in answer.err
    assert bench.content == image


def test_a_rescue_before_a_change_says_what_is_lost(bench: Bench):
    volume = volume_bytes([variable(f"V{number}", bytes(300)) for number in range(30)])
    at = find_stores(bytes(volume))[0].store.records[10].offset
    volume[at : at + 120] = b"\x55" * 120
    path = bench.file("vars.fd", bytes(volume))
    rescued = bench.json("ftw", "rescue", path, "--dry-run")
    assert rescued.code == 0, rescued.out
    assert rescued.result["lost"]
    assert len(rescued.result["variables"]) == rescued.result["kept"] > 20
    answer = bench.run("vars", "set", path, "V0", "--u8", "1", "-y", "--repair", "rescue")
    assert answer.code == 0, answer.err
    assert all(f"lost: {text}" in answer.err for text in rescued.result["lost"])


@pytest.mark.parametrize("verb", [("ftw", "recover"), ("ftw", "rescue"), ("vars", "reclaim")])
def test_repairs_respect_what_a_board_file_places_wrongly(bench: Bench, verb):
    image = bench.fill(board_image(bench.size, bytes(volume_bytes(some_variables(), OVMF_4M)), 0))
    board = bench.file("b.toml", board_text(bench.size, work=0xC0000))
    answer = bench.run(*verb, bench.url(), "-y", "-b", board)
    assert answer.code == 7, answer.out
    assert "[uefi.foreign-area]" in answer.err
    assert bench.content == image
    checked = bench.json("vars", "check", bench.url(), "-b", board)
    assert checked.code == 1
    assert checked.result["stores"][0]["command"] is None
    assert "uefi.foreign-area" in [item["code"] for item in checked.result["stores"][0]["problems"]]


def board_text(size: int, work: int, region: str = "") -> str:
    return f"""
name = "b"
description = "a board"
[flash]
chip = "W25Q80DV"
size = "{size}"
[nvram]
variables = {{ start = 0x0, length = 0x40000 }}
work = {{ start = {work}, length = 0x1000 }}
spare = {{ start = 0x42000, length = 0x42000 }}
{region}
"""


def test_a_protected_region_of_the_board_is_changed_only_by_name(bench: Bench):
    region = """
[[region]]
name = "nvram"
start = 0x0
length = 0x84000
protected = true
"""
    image = bench.fill(board_image(bench.size, bytes(volume_bytes(some_variables(), OVMF_4M)), 0))
    board = bench.file("b.toml", board_text(bench.size, 0x41000, region))
    path = bench.file("dump.bin", image)
    for source in (bench.url(), path):
        words = ("vars", "set", source, "Variable1", "--u8", "1", "-y", "-b", board)
        answer = bench.run(*words)
        assert answer.code == 2, answer.out
        assert "[usage.protected-region]" in answer.err
        assert (bench.content, path.read_bytes()) == (image, image)
    answer = bench.run(*words, "--region", "nvram")
    assert answer.code == 0, answer.err
    assert stores(path.read_bytes())["Variable1"] == b"\1"


def test_keys_are_not_made_without_authentication(bench: Bench):
    path = bench.file("vars.fd", bytes(volume_bytes(some_variables(), OVMF_4M)))
    lists = bench.file("db.esl", make_key("Some").list)
    for name in ("PK", "db"):
        answer = bench.run("vars", "set", path, name, "--file", lists, "-y")
        assert (answer.code, "[efi.security-violation]" in answer.err) == (7, True), answer.err
        answer = bench.run(
            "vars", "set", path, name, "--file", lists, "-y", "--attributes", "NV+BS+RT"
        )
        assert (answer.code, "[efi.invalid-parameter]" in answer.err) == (7, True), answer.err
    assert bench.run("vars", "set", path, "db", "--file", lists, "-y", "--force").code == 0
    (found,) = find_stores(path.read_bytes())
    assert found.store.find("db", IMAGE_SECURITY).attributes == 0x27
    assert found.store.find("PK", GLOBAL_VARIABLE) is None


def test_somebody_else_s_unfinished_write_stays_to_be_resumed(bench: Bench):
    volume = bytes(volume_bytes(some_variables(), OVMF_4M))
    bench.fill(board_image(bench.size, volume, 0))
    part = bench.file("part.bin", bytes(range(256)) * 128)
    answer = bench.chip("write", part, "--at", "0x50000", "-y", url=bench.url(power_cut=9, seed=2))
    assert answer.code == 6, answer.err
    answer = bench.run("vars", "set", bench.url(seed=2), "Variable1", "--u8", "1", "-y")
    assert answer.code in (0, 7), answer.err
    answer = bench.chip("write", "--resume", "-y", url=bench.url(seed=2))
    assert answer.code == 0, answer.err


def test_an_older_export_comes_back_whole_and_that_is_said(bench: Bench):
    path, exported = bench.file("vars.fd", bytes(volume_bytes([], OVMF_4M))), bench.folder / "x"
    first = bench.file("a.esl", make_key("First").list)
    assert bench.run("keys", "enroll", path, "db", "--lists", first, "-y").code == 0
    assert bench.run("vars", "export", path, exported).code == 0
    content = json.loads(exported.read_text())
    content["variables"][0]["timestamp"] = "2020-01-02T03:04:05Z"
    exported.write_text(json.dumps(content))
    answer = bench.run("vars", "import", path, exported, "-y")
    assert answer.code == 0, answer.err
    assert "goes back" in answer.out
    (found,) = find_stores(path.read_bytes())
    assert found.store.find("db", IMAGE_SECURITY).time.year == 2020


def test_a_check_prints_a_repair_that_can_be_pasted(bench: Bench):
    twin = volume_bytes([variable("Twin", b"one"), variable("Twin", b"two"), variable("Other")])
    whole = bytes(twin) + bytes(volume_bytes(some_variables()))
    path = bench.file("two stores.fd", whole)
    answer = bench.run("vars", "check", path)
    assert answer.code == 1
    words = answer.out.split("repair: hwflash ")[1].splitlines()[0]
    import shlex

    answer = bench.run(*shlex.split(words), "-y")
    assert answer.code == 0, answer.err
    assert bench.run("vars", "check", path).code == 0
    assert values(path.read_bytes()[: len(twin)])["Other"] == b"value"


@pytest.mark.parametrize("fill", [b"\xff", b"\0"])
@pytest.mark.parametrize(("layout", "known"), [("ovmf-2m", OVMF_2M), ("ovmf-4m", OVMF_4M)])
def test_an_erased_chip_gets_an_empty_store(bench: Bench, layout, known, fill):
    """OVMF does not start on such a flash; with an empty store it does."""
    content = bytearray(b"\xa5" * bench.size)
    content[0x8000 : 0x8000 + known.length] = fill * known.length
    image = bench.fill(bytes(content))
    answer = bench.run("ftw", "rescue", bench.url(), "-y", "--fresh")
    assert answer.code == 7
    words = ("ftw", "rescue", bench.url(), "-y", "--fresh", "--layout", layout, "--at", "0x8000")
    answer = bench.run(*words)
    assert answer.code == 0, answer.err
    (found,) = find_stores(bench.content)
    assert (found.base, found.healthy, found.store.live) == (0x8000, True, ())
    assert bench.content[:0x8000] == image[:0x8000]
    assert bench.content[0x8000 + known.length :] == image[0x8000 + known.length :]
    assert bench.run("vars", "set", bench.url(), "Timeout", "--u16", "3", "-y").code == 0


def test_a_recovery_says_that_the_store_still_needs_a_rescue(bench: Bench):
    """Nothing is pending; OVMF would erase the volume all the same."""
    (found,) = find_stores(bytes(volume_bytes(some_variables())))
    file = bench.file("bad.fd", ELEVEN[0].of(found))
    answer = bench.run("ftw", "recover", file, "-y")
    assert answer.code == 1
    assert "Do not switch the board on" in answer.err
    answer = bench.run("ftw", "rescue", file, "-y")
    assert (answer.code, answer.err.count("warning")) == (0, 0)
    assert bench.run("ftw", "recover", file, "-y").code == 0
    assert Path(file).read_bytes() == found.window.data


@pytest.mark.parametrize("length", [0x2000, 0x40000000])
def test_a_wrong_length_does_not_hide_a_part_of_the_store_on_a_chip(bench: Bench, length: int):
    volume = volume_bytes(some_variables())
    volume[32:40] = length.to_bytes(8, "little")
    bench.fill(bytes(volume).ljust(bench.size, b"\xff"))
    assert bench.run("vars", "check", bench.url()).code == 1
    answer = bench.json("ftw", "rescue", bench.url(), "-y")
    assert answer.code == 0, answer.err
    assert answer.result["kept"] == len(some_variables())
