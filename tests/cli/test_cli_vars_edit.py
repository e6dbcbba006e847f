"""Changing a variable store: what a technician sees, what reaches the chip, what a cut leaves."""

from __future__ import annotations

import fcntl
import json
import re
import struct
from pathlib import Path

import pytest
from harness import Bench
from uefi.volumes import (
    OVMF_2M,
    OVMF_4M,
    State,
    entry,
    some_variables,
    variable,
    volume_bytes,
)

from hwflash.uefi import guids
from hwflash.uefi.find import find_stores


def values(image: bytes) -> dict[str, bytes]:
    (found,) = find_stores(image)
    assert found.store is not None
    assert found.healthy, found.anomalies
    return {record.name: record.data for record in found.store.live}


def board_image(size: int, volume: bytes, at: int = 0x20000) -> bytes:
    image = bytearray(b"\xa5" * size)
    image[at : at + len(volume)] = volume
    return bytes(image)


@pytest.fixture
def volume() -> bytes:
    return bytes(volume_bytes(some_variables(), OVMF_4M))


# --- a file -----------------------------------------------------------------------------------


def test_set_changes_one_variable_of_a_file_and_keeps_a_backup(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    answer = bench.json("vars", "set", path, "Variable2", "--hex", "0a 0b", "--yes")
    assert answer.code == 0
    result = answer.result
    before, after = values(volume), values(path.read_bytes())
    assert after == {**before, "Variable2": b"\x0a\x0b"}
    assert result["change"] == "updated"
    assert result["variable"]["data"] == "0a0b"
    assert result["erases"] == {}
    assert [item["kind"] for item in result["operations"]].count("erase") == 0
    assert Path(result["backup"]).read_bytes() == volume
    touched = {
        address
        for item in result["changed"]
        for address in range(item["address"], item["address"] + item["length"])
    }
    new = path.read_bytes()
    assert {at for at in range(len(new)) if new[at] != volume[at]} <= touched


def test_nothing_is_written_when_the_value_is_there_already(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    answer = bench.run("vars", "set", path, "Variable1", "--file",
                       bench.file("v", values(volume)["Variable1"]), "--yes")  # fmt: skip
    assert answer.code == 0
    assert "nothing had to be changed" in answer.out
    assert path.read_bytes() == volume
    assert not (bench.state / "backups").exists()


def test_dry_run_shows_every_operation_and_writes_nothing(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    answer = bench.run("vars", "set", path, "Variable2", "--u16", "7", "--dry-run")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "dry run: nothing was written"
    assert len(re.findall(r"^  program ", answer.out, re.MULTILINE)) == 6
    assert path.read_bytes() == volume


def test_output_leaves_the_source_alone_and_asks_nothing(bench: Bench, volume: bytes):
    path, other = bench.file("vars.fd", volume), bench.folder / "new.fd"
    answer = bench.run("vars", "set", path, "Variable2", "--string", "en", "-o", other)
    assert answer.code == 0
    assert path.read_bytes() == volume
    assert values(other.read_bytes())["Variable2"].rstrip(b"\0") == b"en"


def test_a_new_variable_takes_the_guid_the_specification_gives_it(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    answer = bench.run("vars", "set", path, "BootOrder", "--u16", "1,0x2,3", "-y")
    assert answer.code == 0
    (found,) = find_stores(path.read_bytes())
    record = found.store.find("BootOrder", guids.GLOBAL_VARIABLE)
    assert record.data == b"\1\0\2\0\3\0"
    assert record.attributes == 7
    answer = bench.run("vars", "set", path, "Foreign", "--u8", "1", "-y")
    assert answer.code == 2
    assert "[usage.guid]" in answer.err


def test_boot_entry_is_made_from_label_and_device_path(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    answer = bench.run(
        "vars", "set", path, "Boot0007", "--boot", "Debian", r"\EFI\debian\shimx64.efi", "-y"
    )
    assert answer.code == 0, answer.err
    answer = bench.run("vars", "get", path, "Boot0007")
    assert r"Debian" in answer.out
    assert r"\EFI\debian\shimx64.efi" in answer.out


def test_append_and_delete(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    old = values(volume)["Variable1"]
    assert bench.run("vars", "append", path, "Variable1", "--hex", "ff", "-y").code == 0
    assert values(path.read_bytes())["Variable1"] == old + b"\xff"
    answer = bench.run("vars", "delete", path, "Variable1", "-y")
    assert answer.code == 0
    assert "Variable1" not in values(path.read_bytes())
    answer = bench.run("vars", "delete", path, "Variabel2", "-y")
    assert answer.code == 2
    assert "Variable2" in answer.err


def test_export_import_and_diff(bench: Bench, volume: bytes):
    path, exported = bench.file("vars.fd", volume), bench.folder / "vars.json"
    assert bench.run("vars", "export", path, exported).code == 0
    assert len(json.loads(exported.read_text())["variables"]) == 5
    other = bench.file("other.fd", bytes(volume_bytes([variable("Extra")], OVMF_4M)))
    answer = bench.json("vars", "diff", other, exported)
    assert answer.code == 1
    assert [item["name"] for item in answer.result["variables"]["only_left"]] == ["Extra"]
    assert len(answer.result["variables"]["only_right"]) == 5
    answer = bench.json("vars", "import", other, exported, "--replace", "-y")
    assert answer.code == 0
    assert answer.result["removed"] == ["Extra"]
    assert values(other.read_bytes()) == values(volume)
    answer = bench.run("vars", "diff", other, path)
    assert (answer.code, answer.out) == (0, "no variable differs\n")
    answer = bench.run("vars", "export", path)
    assert json.loads(answer.out) == json.loads(exported.read_text())


def test_reclaim_wins_the_room_of_dead_records(bench: Bench):
    dead = [variable(f"D{number}", bytes(900), state=State.DELETED) for number in range(40)]
    image = bytes(volume_bytes([variable("Keep"), *dead, variable("Last")]))
    path = bench.file("vars.fd", image)
    answer = bench.json("vars", "reclaim", path, "-y")
    assert answer.code == 0
    assert answer.result["after"]["free"] > answer.result["before"]["free"] + 30_000
    assert values(path.read_bytes()) == {"Keep": b"value", "Last": b"value"}


def test_a_pending_write_is_dropped_first_and_that_is_said(bench: Bench):
    path = bench.file("vars.fd", bytes(volume_bytes(some_variables(), entries=(entry(),))))
    answer = bench.run("vars", "set", path, "Variable0", "--u8", "9", "-y")
    assert answer.code == 0
    assert re.search(r"^first: \S", answer.out, re.MULTILINE)
    assert values(path.read_bytes())["Variable0"] == b"\x09"


def test_a_broken_store_is_refused_until_the_repair_is_named(bench: Bench, volume: bytes):
    twice = volume_bytes([variable("Twin", b"one"), variable("Twin", b"two"), variable("Other")])
    path = bench.file("vars.fd", bytes(twice))
    answer = bench.run("vars", "set", path, "Other", "--u8", "1", "-y")
    assert answer.code == 7
    assert "[uefi.unhealthy]" in answer.err
    assert "nothing was changed" in answer.err
    assert path.read_bytes() == twice
    answer = bench.run("vars", "check", path)
    assert answer.code == 1
    assert "hwflash ftw rescue" in answer.out
    answer = bench.run("vars", "set", path, "Other", "--u8", "1", "-y", "--repair", "rescue")
    assert answer.code == 0, answer.err
    assert values(path.read_bytes())["Other"] == b"\x01"
    assert bench.run("vars", "check", path).code == 0


def test_an_image_that_another_process_has_locked_is_left_alone(bench: Bench, volume: bytes):
    path = bench.file("vars.fd", volume)
    with path.open("r+b") as stream:
        # As QEMU locks: a lock of the open file, on bytes behind 100.
        lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 100, 1, 0)
        fcntl.fcntl(stream, 37, lock)  # F_OFD_SETLK
        answer = bench.run("vars", "set", path, "Variable1", "--u8", "1", "-y")
    assert answer.code == 3
    assert "[environment.file-busy]" in answer.err
    assert path.read_bytes() == volume


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        ((), 2, "usage.value"),
        (("--u8", "1", "--u16", "2"), 2, "usage.value"),
        (("--u8", "256"), 2, "usage.value"),
        (("--hex", "abc"), 2, "usage.value"),
        (("--boot", "x", "Pci(zz)"), 2, "usage.device-path"),
        (("--file", "missing"), 3, "environment.unreadable"),
        (("--u8", "1", "--attributes", "NV+XX"), 2, "usage.command-line"),
        (("--u8", "1", "--attributes", "BS"), 7, "efi.invalid-parameter"),
        (("--string", "x" * 40_000), 7, "efi.invalid-parameter"),
    ],
)
def test_bad_values_are_refused(bench: Bench, volume: bytes, words, code, error):
    path = bench.file("vars.fd", volume)
    answer = bench.run("vars", "set", path, "Variable1", *words, "-y")
    assert (answer.code, f"[{error}]" in answer.err) == (code, True), answer.err
    assert path.read_bytes() == volume


# --- a chip -----------------------------------------------------------------------------------


def test_set_on_a_chip_programs_a_few_pages_and_erases_nothing(bench: Bench, volume: bytes):
    image = bench.fill(board_image(bench.size, volume))
    answer = bench.json("vars", "set", bench.url(), "Variable2", "--hex", "0a0b", "-y")
    assert answer.code == 0, answer.out
    stats = answer.result["stats"]
    assert stats["erases"] == {}
    pages = sum(
        -(-(item["address"] % 256 + item["length"]) // 256)
        for item in answer.result["operations"]
        if item["kind"] == "program"
    )
    assert stats["programs"] == pages
    new = bench.content
    assert new[:0x20000] == image[:0x20000]
    assert new[0xA4000:] == image[0xA4000:]
    assert values(new)["Variable2"] == b"\x0a\x0b"
    backup = Path(answer.result["backup"])
    assert backup.read_bytes() == volume


@pytest.mark.slow
def test_power_cut_at_every_operation_leaves_the_old_or_the_new_value(bench: Bench):
    volume = bytes(volume_bytes(some_variables()))
    bench.fill(board_image(bench.size, volume))
    before = values(bench.content)
    outcomes: set[str] = set()
    for cut in range(1, 20):
        bench.fill(board_image(bench.size, volume))
        bench.registers.unlink(missing_ok=True)
        url = bench.url(power_cut=cut, seed=cut)
        answer = bench.run("vars", "set", url, "Variable3", "--hex", "0102", "-y")
        now = values(bench.content)
        others = {name: data for name, data in now.items() if name != "Variable3"}
        assert others == {name: data for name, data in before.items() if name != "Variable3"}
        if answer.code == 0:
            assert now["Variable3"] == b"\1\2"
            break
        assert answer.code == 6, answer.err
        outcomes.add("new" if now["Variable3"] == b"\1\2" else "old")
        assert now["Variable3"] in (before["Variable3"], b"\1\2")
        words = answer.printed("recover")
        assert words[:2] == ["ftw", "recover"]
        assert bench.run("ftw", "recover", bench.url(), "-y").code == 0
        assert bench.run("vars", "set", bench.url(), "Variable3", "--hex", "0102", "-y").code == 0
        assert values(bench.content)["Variable3"] == b"\1\2"
    else:
        raise AssertionError("more operations than a variable needs")
    assert outcomes == {"old", "new"}
    assert cut > 6


@pytest.mark.slow
def test_reclaim_on_a_chip_survives_a_cut_in_its_middle(bench: Bench):
    dead = [variable(f"D{number}", bytes(900), state=State.DELETED) for number in range(40)]
    volume = bytes(volume_bytes([variable("First"), *dead, *some_variables()]))
    before = values(volume)
    bench.fill(board_image(bench.size, volume))
    whole = bench.json("vars", "reclaim", bench.url(), "-y")
    assert whole.code == 0
    steps = len([item for item in whole.result["operations"] if item["kind"] != "verify"])
    for cut in range(2, steps * 2, max(steps // 12, 1)):
        bench.fill(board_image(bench.size, volume))
        bench.registers.unlink(missing_ok=True)
        answer = bench.run("vars", "reclaim", bench.url(power_cut=cut, seed=cut), "-y")
        if answer.code == 0:
            break
        assert answer.code == 6, answer.err
        answer = bench.run("ftw", "recover", bench.url(), "-y")
        assert answer.code == 0, answer.err
        assert values(bench.content) == before


def test_resume_and_restore_of_a_cut_write(bench: Bench):
    volume = bytes(volume_bytes(some_variables()))
    image = bench.fill(board_image(bench.size, volume))
    answer = bench.run(
        "vars", "set", bench.url(power_cut=4, seed=4), "Variable3", "--hex", "0102", "-y"
    )
    assert answer.code == 6
    resume, restore = answer.printed("resume"), answer.printed("restore")
    resume[resume.index("-p") + 1] = restore[restore.index("-p") + 1] = bench.url(seed=4)
    assert bench.run(*resume, "--yes").code == 0
    assert values(bench.content)["Variable3"] == b"\1\2"
    assert bench.run(*restore, "--yes").code == 0
    assert bench.content == image


def test_ftw_recover_finishes_what_ovmf_would_wipe(bench: Bench):
    """Spare complete, first destination block erased: measured to brick OVMF."""
    volume = volume_bytes(some_variables(), entries=(entry(header=0xFC, record=0xFD),))
    volume[OVMF_2M.spare.address : OVMF_2M.spare.address + 0xE000] = volume[:0xE000]
    volume[:0x1000] = b"\xff" * 0x1000
    bench.fill(board_image(bench.size, bytes(volume)))
    answer = bench.json("ftw", "status", bench.url())
    assert answer.code == 0
    assert (answer.result["pending"], answer.result["verdict"]) == (True, "replay")
    assert answer.result["work_space"]["writes"][0]["records"][0]["spare_complete"] is True
    answer = bench.json("ftw", "recover", bench.url(), "-y")
    assert answer.code == 0, answer.out
    assert answer.result["ftw"]["pending"] is False
    assert len(values(bench.content)) == 5
    answer = bench.run("ftw", "recover", bench.url(), "-y")
    assert answer.code == 0
    assert "nothing had to be changed" in answer.out


def test_ftw_rescue_says_what_is_lost_before_it_writes(bench: Bench):
    volume = volume_bytes(some_variables())
    volume[0x48:0x64] = b"\xff" * 28  # the store's header
    path = bench.file("vars.fd", bytes(volume))
    answer = bench.json("ftw", "rescue", path, "--dry-run")
    assert answer.code == 0, answer.out
    assert answer.result["kept"] == 5
    assert path.read_bytes() == volume
    assert bench.run("ftw", "rescue", path, "-y").code == 0
    assert len(values(path.read_bytes())) == 5
