"""What a clumsy or hostile user does to variable stores, and what must not come of it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from harness import HWFLASH, Bench
from test_cli_vars_edit import board_image, values
from uefi.volumes import GUID, OVMF_4M, State, some_variables, variable, volume_bytes

AT = 0x20000


@pytest.fixture
def volume() -> bytes:
    return bytes(volume_bytes(some_variables(), OVMF_4M))


@pytest.mark.parametrize("failing", range(1, 8))
def test_a_program_that_silently_fails_never_costs_the_variable(bench: Bench, failing: int):
    """Some chips have no flag that says so: only reading back tells."""
    volume = bytes(volume_bytes(some_variables()))
    bench.fill(board_image(bench.size, volume))
    old = values(volume)
    url = bench.url(faults=f"fail={failing}", seed=1)
    answer = bench.run("vars", "set", url, "Variable3", "--u16", "7", "-y")
    after = values(bench.content)
    assert after.keys() == old.keys()
    assert after["Variable3"] in (old["Variable3"], b"\7\0")
    if answer.code:
        assert answer.code == 6
        words = answer.printed("recover")
        assert "fail=" not in " ".join(words)
        assert bench.run(*words, "-y").code == 0
        assert values(bench.content).keys() == old.keys()


@pytest.mark.slow
@pytest.mark.parametrize("first", [2, 6, 12, 18])
def test_a_resumed_rewrite_survives_a_second_cut(bench: Bench, first: int):
    dead = [variable(f"D{number}", bytes(900), state=State.DELETED) for number in range(30)]
    volume = bytes(volume_bytes([*dead, *some_variables()]))
    before = values(volume)
    for second in (1, 3, 9, 20):
        bench.fill(board_image(bench.size, volume))
        bench.registers.unlink(missing_ok=True)
        answer = bench.run("vars", "reclaim", bench.url(power_cut=first, seed=9), "-y")
        assert answer.code == 6, answer.err
        resume = answer.printed("resume")
        resume[resume.index("-p") + 1] = bench.url(power_cut=second, seed=9)
        again = bench.run(*resume, "--yes")
        if again.code == 0:
            assert values(bench.content) == before
            return
        resume[resume.index("-p") + 1] = bench.url(seed=9)
        if second == 3:
            assert bench.run("ftw", "recover", bench.url(seed=9), "-y").code == 0
        else:
            done = bench.run(*resume, "--yes")
            assert done.code == 0, done.err
        assert values(bench.content) == before


def test_a_change_that_firmware_went_on_with_is_not_resumed(bench: Bench):
    volume = bytes(volume_bytes(some_variables()))
    bench.fill(board_image(bench.size, volume))
    answer = bench.run(
        "vars", "set", bench.url(power_cut=4, seed=4), "Variable3", "--u8", "1", "-y"
    )
    assert answer.code == 6
    resume = answer.printed("resume")
    resume[resume.index("-p") + 1] = bench.url(seed=4)
    image = bytearray(bench.content)
    image[AT + 0x9000] = 0x12
    bench.fill(bytes(image))
    answer = bench.run(*resume, "--yes")
    assert answer.code == 7
    assert "[journal.overtaken]" in answer.err
    assert bench.content == image


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": ["0xffffffff"]},
        {"attributes": ["RUNTIME_ACCESS", "NON_VOLATILE"]},
        {"attributes": ["NON_VOLATILE", "BOOTSERVICE_ACCESS", "APPEND_WRITE"]},
        {"attributes": ["BOOTSERVICE_ACCESS"]},
        {"data": ""},
        {"data": "00" * 40_000},
        {"name": ""},
    ],
)
@pytest.mark.parametrize("replace", [(), ("--replace",)])
def test_an_import_takes_nothing_that_firmware_would_refuse(
    bench: Bench, volume: bytes, change, replace
):
    path, exported = bench.file("vars.fd", volume), bench.folder / "vars.json"
    assert bench.run("vars", "export", path, exported).code == 0
    content = json.loads(exported.read_text())
    content["variables"][0] |= change
    exported.write_text(json.dumps(content))
    answer = bench.run("vars", "import", path, exported, "-y", *replace)
    assert answer.code == 7, answer.out
    assert path.read_bytes() == volume


def test_an_import_changes_ordinary_variables_in_place(bench: Bench, volume: bytes):
    path, exported = bench.file("vars.fd", volume), bench.folder / "vars.json"
    assert bench.run("vars", "export", path, exported).code == 0
    content = json.loads(exported.read_text())
    content["variables"][1]["data"] = "0102"
    content["variables"].append(content["variables"][1] | {"name": "Fresh"})
    exported.write_text(json.dumps(content))
    answer = bench.json("vars", "import", path, exported, "-y")
    assert answer.code == 0, answer.out
    assert answer.result["erases"] == {}
    assert answer.result["set"] == [content["variables"][1]["name"], "Fresh"]
    assert values(path.read_bytes())["Fresh"] == b"\1\2"
    again = bench.json("vars", "import", path, "-", "-y", stdin=exported.read_bytes())
    assert (again.code, again.result["executed"]) == (0, False)


def test_a_board_file_that_places_the_work_space_elsewhere_erases_nothing(bench: Bench):
    volume = bytes(volume_bytes(some_variables(), OVMF_4M))
    image = bench.fill(board_image(bench.size, volume, 0))
    board = bench.file("b.toml", f"""
name = "b"
description = "a board with a wrong place in it"
[flash]
chip = "W25Q80DV"
size = "{bench.size}"
[nvram]
variables = {{ start = 0x0, length = 0x40000 }}
work = {{ start = 0xC0000, length = 0x1000 }}
spare = {{ start = 0x42000, length = 0x42000 }}
""")  # fmt: skip
    answer = bench.run("vars", "set", bench.url(), "Variable1", "--u8", "1", "-y", "-b", board)
    assert answer.code == 7, answer.out
    assert "[uefi.foreign-area]" in answer.err
    assert bench.content == image


def test_output_onto_the_source_is_a_change_of_the_source(bench: Bench, volume: bytes):
    path, other = bench.file("vars.fd", volume), bench.file("precious", b"precious")
    answer = bench.run("vars", "set", path, "Variable1", "--u8", "1", "-o", path)
    assert answer.code == 2, "nobody was asked"
    answer = bench.run("vars", "set", path, "Variable1", "--u8", "1", "-o", other)
    assert answer.code == 2
    assert other.read_bytes() == b"precious"
    assert path.read_bytes() == volume
    answer = bench.json("vars", "set", path, "Variable1", "--u8", "1", "-o", path, "-y")
    assert answer.code == 0
    assert Path(answer.result["backup"]).read_bytes() == volume


@pytest.mark.slow
def test_several_processes_on_one_file_lose_no_update(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    words = [
        [*HWFLASH, "vars", "set", str(path), f"V{number}", "--guid", str(GUID), "--u8", "1", "-y"]
        for number in range(4)
    ]
    running = [
        subprocess.Popen(item, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for item in words
    ]
    done = {}
    for number, process in enumerate(running):
        _, err = process.communicate(timeout=60)
        done[number] = process.returncode
        assert process.returncode in (0, 7), err
        if process.returncode:
            assert b"[image.changed]" in err
    found = values(path.read_bytes())
    assert {number for number in done if f"V{number}" in found} == {
        number for number, code in done.items() if code == 0
    }
    assert 0 in done.values()


def test_an_empty_value_deletes_nothing(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    empty = bench.file("empty", b"")
    for words in (("--file", empty), ("--hex", "")):
        answer = bench.run("vars", "set", path, "Variable1", *words, "-y")
        assert answer.code == 2
        assert "[usage.value]" in answer.err
    assert path.read_bytes() == volume


def test_mode_and_owner_of_the_file_stay(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    path.chmod(0o660)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
    before = path.stat()
    assert bench.run("vars", "set", path, "Variable1", "--u8", "1", "-y").code == 0
    after = path.stat()
    assert stat.S_IMODE(after.st_mode) == 0o660
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


def test_the_printed_recovery_names_the_store_that_is_meant(bench: Bench):
    volume = bytes(volume_bytes(some_variables()))
    image = bytearray(board_image(bench.size, volume, 0))
    image[0x80000 : 0x80000 + len(volume)] = volume
    bench.fill(bytes(image))
    url = bench.url(power_cut=3, seed=3)
    answer = bench.run("vars", "set", url, "Variable1", "--u8", "1", "-y", "--store", "0x80000")
    assert answer.code == 6
    words = answer.printed("recover")
    assert "power_cut" not in " ".join(words)
    words[2] = bench.url(seed=3)
    answer = bench.run(*words, "-y")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("name", ["", "\udc80", "a\udcffb"])
def test_names_that_are_no_text_are_refused(bench: Bench, volume: bytes, name: str):
    path = bench.file("vars.fd", volume)
    answer = bench.run("vars", "set", path, name, "--guid", GUID, "--u8", "1", "-y")
    assert answer.code == 2
    assert path.read_bytes() == volume


def test_a_name_with_escapes_is_printed_escaped(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    answer = bench.run("vars", "set", path, "\x1b[31mred\n", "--guid", GUID, "--u8", "1", "-y")
    assert answer.code == 0
    assert "\\u001b[31mred\\u000a new" in answer.out
    answer = bench.run("vars", "delete", path, "\x1b[31mred\n", "-y")
    assert answer.code == 0


def test_what_is_no_file_needs_an_output(bench: Bench, volume: bytes):
    answer = bench.run("vars", "set", "-", "Variable1", "--u8", "1", "-y", stdin=volume)
    assert answer.code == 2
    assert "[usage.output]" in answer.err
    target = bench.folder / "new.fd"
    answer = bench.run("vars", "set", "-", "Variable1", "--u8", "1", "-o", target, stdin=volume)
    assert answer.code == 0
    assert values(target.read_bytes())["Variable1"] == b"\1"
