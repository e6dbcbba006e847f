"""``protect`` at the command line: happy paths, what the chip cannot do, what cannot be undone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Answer, Bench
from uefi.volumes import OVMF_4M, some_variables, volume_bytes

from hwflash.chip import catalog

KIB = 1024
SIZE = 1024 * KIB
ALL = [{"address": 0, "length": SIZE}]


def stored(bench: Bench) -> dict[int, int]:
    found = json.loads(bench.registers.read_text())["registers"]
    return {int(number): value for number, value in found.items()}


def ok(bench: Bench, *words: object, **more: object) -> Answer:
    answer = bench.json(*words, "-p", bench.url(), **more)
    assert answer.code == 0, answer.out
    return answer


def refused(bench: Bench, code: int, name: str, *words: object, **url: object) -> Answer:
    before = stored(bench) if bench.registers.exists() else {}
    answer = bench.json(*words, "-p", bench.url(**url))
    assert (answer.code, answer.error["code"]) == (code, name), answer.out
    assert answer.error["chip"] == "nothing was changed"
    if before:
        assert stored(bench) == before
    return answer


def test_status_set_clear(bench: Bench) -> None:
    ok(bench, "probe")
    bench.set_registers({2: 0x02})  # quad enable is to stay
    found = ok(bench, "protect", "status", "--list").result
    assert (found["protection"]["locked"], found["protection"]["lift"]) == ([], "none")
    assert [ALL[0]] in found["possible"]
    assert [] in found["possible"]
    done = ok(bench, "protect", "set", "0xF0000:64K", "--yes").result
    assert done["executed"]
    assert done["exact"]
    assert done["locked"] == [{"address": 0xF0000, "length": 64 * KIB}]
    assert stored(bench) == {1: 0x04, 2: 0x02}
    found = ok(bench, "protect", "status").result
    assert found["protection"]["locked"] == done["locked"]
    assert found["protection"]["lift"] == "command"
    assert found["protection"]["by"] == done["after"]
    assert found["possible"] is None
    assert not ok(bench, "protect", "set", "0xF0000:64K", "--yes").result["executed"]
    assert ok(bench, "protect", "clear", "--yes").result["locked"] == []
    assert stored(bench) == {1: 0, 2: 0x02}
    kinds = [entry["kind"] for entry in bench.json("history", "list").result["entries"]]
    assert kinds == ["protect clear", "protect set"]


def test_the_nearest_setting(bench: Bench) -> None:
    answer = refused(bench, 2, "usage.protect-range", "protect", "set", "0:100K", "--yes")
    assert answer.error["context"]["more"] == "0x000000-0x01FFFF"
    assert answer.error["context"]["less"] == "0x000000-0x00FFFF"
    done = ok(bench, "protect", "set", "0:100K", "--nearest", "--yes").result
    assert not done["exact"]
    assert done["locked"] == [{"address": 0, "length": 128 * KIB}]
    done = ok(bench, "protect", "clear", "0:4K", "--nearest", "--yes").result
    assert done["locked"] == [], "what is cleared is at least what was asked for"


def test_volatile_and_dry_run(bench: Bench) -> None:
    ok(bench, "probe")
    assert not ok(bench, "protect", "set", "0:1M", "--dry-run").result["executed"]
    assert stored(bench)[1] == 0
    assert ok(bench, "protect", "set", "0:1M", "--volatile", "--yes").result["executed"]
    assert stored(bench)[1] == 0, "gone with the supply"
    micron = Bench(bench.folder, "n25q032a")
    micron.image = bench.folder / "micron.bin"
    refused(micron, 4, "protection.no-volatile", "protect", "set", "0:4M", "--volatile", "--yes")


def test_a_region_of_a_board(bench: Bench, tmp_path: Path) -> None:
    board = bench.file(
        "b.toml",
        'name = "b"\ndescription = "x"\n[flash]\nchip = "W25Q80DV"\nsize = "1M"\n'
        '[layout]\nkind = "regions"\n'
        '[[region]]\nname = "boot"\nstart = 0\nlength = "64K"\n',
    )
    done = ok(bench, "protect", "set", "--region", "boot", "--yes", "-b", board).result
    assert done["locked"] == [{"address": 0, "length": 64 * KIB}]
    refused(bench, 2, "usage.region-board", "protect", "set", "--region", "boot", "--yes")
    refused(bench, 2, "usage.region", "protect", "set", "--region", "x", "--yes", "-b", board)


def test_locks_of_the_registers(bench: Bench) -> None:
    ok(bench, "protect", "set", "0:1M", "--yes")
    ok(bench, "protect", "lock", "wp-pin", "--yes")
    assert ok(bench, "protect", "status").result["protection"]["lift"] == "wp-pin"
    # The board pulls WP# low, the programmer drives it high.
    answer = bench.json("protect", "clear", "--yes", "-p", bench.url(wp=0))
    assert answer.code == 0, answer.out
    ok(bench, "protect", "lock", "none", "--yes")
    assert stored(bench) == {1: 0, 2: 0}


def test_for_ever_wants_the_name_of_the_chip(bench: Bench) -> None:
    lock = ("protect", "lock", "permanent")
    ok(bench, "probe")
    for words in (("--yes",), ("--confirm", "yes"), ("--confirm", "w25q80dv"), ("--confirm", "")):
        refused(bench, 2, "usage.confirm-text" if words != ("--confirm", "") else "usage.confirm",
                *lock, *words)  # fmt: skip
    assert bench.run(*lock, "-p", bench.url(), typed="yes\n").code == 2
    assert bench.run(*lock, "-p", bench.url(), typed="").code == 2
    assert bench.run(*lock, "-p", bench.url(), "--yes", typed="W25Q80DV\n").code == 2
    assert stored(bench) == {1: 0, 2: 0}
    assert bench.run(*lock, "-p", bench.url(), typed="W25Q80DV\n").code == 0
    assert stored(bench) == {1: 0x80, 2: 0x01}
    for words in (("set", "0:1M"), ("clear",), ("lock", "none")):
        refused(bench, 5, "protection.register-locked", "protect", *words, "--yes")
    assert ok(bench, "protect", "status").result["protection"]["register_lock"] == "permanent"


def test_until_the_supply_goes_away(bench: Bench) -> None:
    ok(bench, "protect", "lock", "power-cycle", "--yes")
    # Every command is a power cycle of the simulated board.
    assert ok(bench, "protect", "status").result["protection"]["register_lock"] == "none"


def test_a_bit_that_can_be_set_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "mx25l12835f")
    bench.fill(b"\xff" * bench.size)
    words = ("protect", "set", "0:64K")
    answer = refused(bench, 2, "usage.protect-range", *words, "--yes", "-c", "MX25L12835F")
    assert answer.error["context"]["more"] is not None
    words = (*words, "--one-time", "-c", "MX25L12835F")
    refused(bench, 2, "usage.confirm-text", *words, "--yes")
    refused(bench, 4, "protection.no-volatile", *words, "--volatile", "--confirm", "MX25L12835F")
    assert ok(bench, *words, "--confirm", "MX25L12835F").result["executed"]
    assert stored(bench) == {1: 0x04, 2: 0x08}
    answer = refused(bench, 2, "usage.protect-range", "protect", "set", "0xFF0000:64K", "--yes",
                     "-c", "MX25L12835F")  # fmt: skip


def test_sst26(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "sst26vf016b")
    bench.fill(b"\xff" * bench.size)
    found = ok(bench, "protect", "status").result
    assert found["protection"]["locked"] == [{"address": 0, "length": bench.size}]
    assert "block-protection register 5555" in found["protection"]["by"]
    answer = refused(bench, 2, "usage.protect-range", "protect", "set", "0:12K", "--yes")
    assert answer.error["context"]["more"] == "0x000000-0x003FFF"
    assert ok(bench, "protect", "set", "0:16K", "--yes").result["locked"] == [
        {"address": 0, "length": 16 * KIB}
    ]
    assert ok(bench, "protect", "lock", "power-cycle", "--yes").result["executed"]
    refused(bench, 2, "usage.protect-lock", "protect", "lock", "permanent", "--yes")


def test_a_chip_whose_protection_is_not_known(small: Bench) -> None:
    small.fill(b"\xff" * small.size)
    found = ok(small, "protect", "status").result["protection"]
    assert (found["known"], found["lift"]) == (False, "unknown")
    refused(small, 4, "protection.unknown", "protect", "set", "0:4K", "--yes")
    refused(small, 4, "protection.unknown", "protect", "lock", "wp-pin", "--yes")


def test_twins_that_keep_their_bits_elsewhere(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "mx25l3206e")
    bench.fill(b"\xff" * bench.size)
    refused(bench, 4, "protection.twins", "protect", "set", "0:4M", "--yes")
    named = ("-c", catalog.load().by_name("mx25l3206e").chip.part)
    assert ok(bench, "protect", "set", "0:4M", "--yes", *named).result["executed"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("set", "--yes"), "usage.selection"),
        (("set", "2M:4K", "--yes"), "usage.address"),
        (("set", "0:2M", "--yes"), "usage.address"),
        (("clear", "0xFFFFF:2", "--yes"), "usage.address"),
        (("set", "0:64K"), "usage.confirm"),
        (("set", "oops", "--yes"), "usage.command-line"),
        (("lock", "tomorrow", "--yes"), "usage.command-line"),
        (("set", "0:64K", "--one-time", "--volatile", "--region", "x", "-y"), "usage.region-board"),
    ],
)
def test_slips_of_the_pen(bench: Bench, words: tuple[str, ...], code: str) -> None:
    refused(bench, 2, code, "protect", *words)


def test_a_person_who_says_no(bench: Bench) -> None:
    ok(bench, "probe")
    answer = bench.run("protect", "set", "0:1M", "-p", bench.url(), typed="n\n")
    assert answer.code == 130
    assert "will be locked" in answer.err
    assert stored(bench)[1] == 0


@pytest.mark.parametrize("command", [["write", "x.bin", "--at", "0xF0000"], ["erase"]])
def test_a_write_lifts_and_puts_back(bench: Bench, command: list[str]) -> None:
    bench.fill(1)
    bench.file("x.bin", bytes(100))
    bench.set_registers({1: 0x1C, 2: 0x02})
    refused(bench, 5, "chip.protected", *command, "--yes")
    assert ok(bench, *command, "--yes", "--lift-protection", "--dry-run").result["dry_run"]
    answer = ok(bench, *command, "--yes", "--lift-protection")
    messages = [line["message"] for line in answer.lines if line["type"] == "info"]
    assert any("protection is as it was" in message for message in messages)
    assert stored(bench) == {1: 0x1C, 2: 0x02}
    assert ok(bench, "protect", "status").result["protection"]["locked"] == ALL


@pytest.mark.slow
def test_a_cut_write_says_that_the_protection_is_lifted(tmp_path: Path) -> None:
    """N25Q has no volatile writes: the cut leaves it open, status says so, resume closes it."""
    bench = Bench(tmp_path, "n25q032a")
    old = bench.fill(1)
    bench.set_registers({1: 0x1C})
    data = bench.file("x.bin", bytes(300))
    words = ("write", data, "--at", "0x100", "--yes", "--lift-protection", "--json")
    answer = bench.run(*words, "-p", bench.url(power_cut=3))
    assert answer.code == 6
    assert "protection is still lifted" in answer.error["message"]
    assert stored(bench)[1] == 0x18, "no more than needed: the upper half stays locked"
    found = ok(bench, "protect", "status")
    assert found.result["unfinished"] == [answer.error["context"]["resume"]]
    assert "--resume" in bench.run("protect", "status", "-p", bench.url()).out
    ok(bench, "write", "--resume", "--yes")
    assert stored(bench)[1] == 0x1C
    assert bench.content == old[:0x100] + bytes(300) + old[0x100 + 300 :]
    assert ok(bench, "protect", "status").result["unfinished"] == []


@pytest.mark.slow
def test_variables_that_are_as_asked_for_put_an_old_protection_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No simulated chip has both a unique id and protection bits that always outlast a cut.
    monkeypatch.setattr("hwflash.flash.nor.NorFlash.unique_id", lambda _: "00112233")
    bench = Bench(tmp_path, "n25q032a")
    bench.fill(bytes(volume_bytes(some_variables(), OVMF_4M)).ljust(bench.size, b"\xff"))
    bench.set_registers({1: 0x1C})
    data = bench.file("x.bin", bytes(300))
    words = ("write", data, "--at", "0x300000", "--yes", "--lift-protection", "--json")
    assert bench.run(*words, "-p", bench.url(power_cut=3)).code == 6
    lifted = stored(bench)[1]
    assert lifted != 0x1C
    same = ("vars", "set", bench.url(), "Variable2", "--hex", "02" * 15, "-y")
    assert bench.json(*same, "--dry-run").result["operations"] == []
    assert stored(bench)[1] == lifted
    answer = bench.json(*same)
    assert (answer.code, answer.result["executed"]) == (0, False), answer.out
    assert stored(bench)[1] == 0x1C


@pytest.mark.slow
def test_a_change_that_was_cut_is_finished_or_taken_back(tmp_path: Path) -> None:
    """CMP lies in a register of its own; the power goes away in the middle of its write."""
    words = ("protect", "set", "0:1984K", "--yes")
    for verb in ("resume", "restore"):
        bench = Bench(tmp_path / verb, "w25q16jv")
        bench.folder.mkdir()
        bench.fill(b"\xff" * bench.size)
        ok(bench, "probe")
        error = bench.json(*words, "-p", bench.url(power_cut=2)).error
        assert (error["code"], error["chip"]) == (
            "chip.state-unknown", "the chip is in an unknown state",
        )  # fmt: skip
        name = error["context"]["change"]
        assert f"protect resume {name}" in error["resume"]
        found = ok(bench, "protect", "status").result["changes"]
        assert [(item["name"], item["command"]) for item in found] == [(name, "protect set")]
        text = bench.run("protect", "status", "-p", bench.url()).out
        assert "stopped half way; the chip is " in text
        assert "    wanted  0x000000-0x1EFFFF locked (" in text
        assert f"hwflash protect restore {name}" in text
        refused(bench, 5, "protection.unfinished", "protect", "lock", "wp-pin", "--yes")
        assert ok(bench, "protect", verb, "--dry-run").result["dry_run"]
        refused(bench, 2, "usage.confirm", "protect", verb)
        refused(bench, 2, "usage.change", "protect", verb, "nonsense", "--yes")
        ok(bench, "protect", verb, name, "--yes")
        found = ok(bench, "protect", "status").result
        assert found["changes"] == []
        wanted = [{"address": 0, "length": 1984 * KIB}]
        assert found["protection"]["locked"] == (wanted if verb == "resume" else [])
        refused(bench, 2, "usage.change", "protect", verb, "--yes")


def test_a_part_that_does_not_take_volatile_writes(bench: Bench) -> None:
    ok(bench, "probe")
    words = ("protect", "set", "0:1M", "--yes", "--volatile")
    answer = bench.json(*words, "-p", bench.url(faults="volatile=ignored"))
    assert (answer.code, answer.error["code"]) == (5, "protection.volatile-refused")
    assert answer.error["chip"] == "nothing was changed"
    assert ok(bench, "protect", "status").result["changes"] == []


@pytest.mark.slow
def test_non_volatile_locks_of_single_sectors(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "mt25ql128aba")
    bench.fill(b"\xff" * bench.size)
    ok(bench, "probe")
    state = json.loads(bench.registers.read_text())
    state["lock_bits"]["persistent"] = [0x10000, 0x20000]
    bench.registers.write_text(json.dumps(state))
    found = ok(bench, "protect", "status").result["protection"]
    assert found["sources"] == [
        {"by": "lock bit", "locked": [{"address": 0x10000, "length": 128 * KIB}], "lift": "command"}
    ]
    data = bench.file("x.bin", bytes(16))
    for words in ((), ("--lift-protection",)):
        code = "protection.persistent" if words else "chip.protected"
        refused(bench, 5, code, "write", data, "--at", "0x10010", "--yes", *words)
    answer = bench.run("protect", "clear", "0x10000:64K", "--dry-run", "-p", bench.url())
    assert "lock bits of all sectors will be erased and 1 of them set again" in answer.out
    ok(bench, "protect", "clear", "0x10000:64K", "--yes")
    ok(bench, "write", data, "--at", "0x10010", "--yes")
    assert ok(bench, "protect", "status").result["protection"]["locked"] == [
        {"address": 0x20000, "length": 64 * KIB}
    ]


@pytest.mark.parametrize("part", ["w25q32fv", "w25q64fv"])
def test_a_register_that_is_not_there_locks_nothing(tmp_path: Path, part: str) -> None:
    """Their JV twins have a third register, whose WPS reads as set where nothing answers 15h."""
    bench = Bench(tmp_path, part)
    found = ok(bench, "protect", "status").result["protection"]
    assert (found["locked"], found["lift"]) == ([], "none")
    probed = ok(bench, "probe")
    assert probed.result["part"] == part.upper()
    assert "status register 3 (15h) reads FF" in probed.out
    new = tmp_path / "new"
    new.write_bytes(b"content")
    assert ok(bench, "write", new, "--at", "0", "--yes").result["changed"]
    done = ok(bench, "protect", "set", "0:256K", "--nearest", "--yes").result
    assert done["executed"]
    assert done["locked"]
    assert ok(bench, "protect", "clear", "--yes").result["locked"] == []
