"""probe, chips, boards, doctor, list, bench, completion."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness import KIB, Bench

from hwflash.chip import catalog, dumps
from hwflash.resources import data_files

MIB = 1024 * KIB
#: What scripts rely on, for probe, chips show and chips decode alike.
CHIP_KEYS = {
    "jedec_id", "part", "manufacturer", "size", "page_size", "erase_blocks", "address_bytes",
    "sfdp", "source", "protection", "unique_id",
}  # fmt: skip


def probe(bench: Bench, part: str, *words: object) -> dict[str, object]:
    answer = bench.json("probe", "-p", f"sim://{part}", *words)
    assert answer.code == 0, answer.out
    assert set(answer.result) >= CHIP_KEYS
    return answer.result


def test_what_is_odd_about_a_chip_is_told_in_words(bench: Bench) -> None:
    found = probe(bench, "sst25vf512a")
    assert found["programming"] == "aai-byte"
    for text in (*found["words"].values(), "bf48bf"):
        assert text == "one die" or text in bench.run("chips", "show", "sst25vf512a").out
    assert "C4h erases one" in bench.run("chips", "show", "mt25ql01g").out


def test_probe_of_a_common_chip(bench: Bench) -> None:
    found = probe(bench, "W25Q128JV")
    assert found["jedec_id"] == "ef4018"
    assert found["part"] == "W25Q128JV"
    assert found["manufacturer"] == "Winbond"
    assert found["size"] == 16 * MIB
    assert found["page_size"] == 256
    assert [(b["size"], b["opcode"]) for b in found["erase_blocks"]] == [
        (4 * KIB, 0x20), (32 * KIB, 0x52), (64 * KIB, 0xD8),
    ]  # fmt: skip
    assert found["address_bytes"] == "3"
    assert found["source"] == "sfdp"
    assert [table["name"] for table in found["sfdp"]["tables"]][:1]
    assert found["protection"]["locked"] == []
    assert found["unique_id"]
    assert len(found["registers"]) == 3
    words = bench.run("probe", "-p", "sim://W25Q128JV").out
    for text in ("Winbond W25Q128JV", "ef4018", "16 MiB", "at 30 MHz", "No block is protected"):
        assert text in words


def test_probe_of_a_chip_with_four_byte_addresses(bench: Bench) -> None:
    found = probe(bench, "W25Q256JV")
    assert found["size"] == 32 * MIB
    assert found["address_bytes"] == "3 or 4"
    assert found["four_byte"] == {"enter": "b7", "opcodes": False, "read_opcodes": False}, (
        "its SFDP names none"
    )
    assert "entered by B7h and left by E9h" in bench.run("probe", "-p", "sim://W25Q256JV").out


def test_probe_of_a_chip_with_sectors_of_several_sizes(bench: Bench) -> None:
    found = probe(bench, "SST26VF064B")
    regions = found["erase_regions"]
    assert len(regions) > 1
    assert sum(region["length"] for region in regions) == found["size"] == 8 * MIB
    assert [region["address"] for region in regions] == sorted(r["address"] for r in regions)
    assert found["protection"]["locked"], "every block is locked when the supply comes"
    assert "0x000000-0x007FFF: " in bench.run("probe", "-p", "sim://SST26VF064B").out


def test_probe_of_a_chip_without_sfdp(bench: Bench) -> None:
    found = probe(bench, "W25Q80DV")
    assert found["sfdp"] is None
    assert found["source"] == "catalog"
    assert found["also"] == ["W25Q80BL"]
    assert "SFDP          none" in bench.run("probe", "-p", "sim://W25Q80DV").out


def test_probe_with_the_users_word(bench: Bench) -> None:
    found = probe(bench, "W25Q80DV", "--chip", "W25Q80BL")
    assert (found["part"], found["source"]) == ("W25Q80BL", "override")
    found = probe(bench, "W25Q80DV", "--size", "512K")
    assert (found["size"], found["source"]) == (512 * KIB, "override")


def test_probe_changes_nothing(bench: Bench) -> None:
    old = bench.fill(1)
    assert bench.chip("probe").code == 0
    registers = bench.registers.read_bytes()
    assert bench.chip("probe").code == 0
    assert bench.content == old
    assert bench.registers.read_bytes() == registers


@pytest.mark.parametrize("part", [part.chip.part for part in catalog.load().parts])
def test_every_part_of_the_catalog_can_be_shown(bench: Bench, part: str) -> None:
    found = bench.json("chips", "show", part).result
    assert found["part"] == part
    assert found["source"] == "catalog"
    assert bench.run("chips", "show", part).out.splitlines()[0].endswith(part)


def test_chips_list(bench: Bench) -> None:
    every = bench.json("chips", "list").result["chips"]
    assert len(every) == len(catalog.load().parts)
    found = bench.json("chips", "list", "EF4018").result["chips"]
    assert "W25Q128JV" in [item["part"] for item in found]
    assert {item["jedec_id"] for item in found} == {"ef4018"}
    assert bench.run("chips", "list", "winbond").out.count("Winbond") >= 10
    nothing = bench.run("chips", "list", "xyzzy")
    assert nothing.code == 1
    assert "no part of the catalog matches 'xyzzy'" in nothing.err


def test_chips_decode(bench: Bench) -> None:
    raw = bench.file("sfdp.bin", dumps.load("W25Q128JV").sfdp)
    answer = bench.json("chips", "decode", raw, "--id", "ef4018")
    found = answer.result
    assert set(found) >= CHIP_KEYS | {"decoded"}
    assert found["size"] == 16 * MIB
    assert found["manufacturer"] == "Winbond"
    assert found["source"] == "sfdp"
    probed = probe(bench, "W25Q128JV")
    for key in ("size", "page_size", "address_bytes", "sfdp"):
        assert found[key] == probed[key]
    assert {b["opcode"] for b in found["erase_blocks"]} == {0x20, 0x52, 0xD8}
    from_pipe = bench.json("chips", "decode", "-", stdin=raw.read_bytes())
    assert from_pipe.result["size"] == 16 * MIB
    assert "16 MiB" in bench.run("chips", "decode", raw).out


@pytest.mark.parametrize("name", dumps.names())
def test_every_stored_table_decodes_or_says_why_not(bench: Bench, name: str) -> None:
    answer = bench.json("chips", "decode", bench.file("x", dumps.load(name).sfdp))
    assert answer.code in (0, 4), answer.out
    if answer.code:
        assert answer.error["code"].startswith(("chip.", "sfdp"))


@pytest.mark.parametrize("content", [b"", b"hello", b"SFDP", b"SFDP" + bytes(300), b"\xff" * 256])
def test_bytes_that_are_no_sfdp(bench: Bench, content: bytes) -> None:
    answer = bench.json("chips", "decode", bench.file("x", content))
    assert answer.code == 7
    assert answer.error["code"].startswith(("sfdp", "image.empty"))


# --- boards -------------------------------------------------------------------------------


def test_boards(bench: Bench, own_home: Path) -> None:
    shipped = {name.removesuffix(".toml") for name in data_files("boards", ".toml")}
    listed = bench.json("boards", "list").result["boards"]
    assert {item["name"] for item in listed} == shipped
    assert not any(item["faults"] for item in listed)
    own = own_home / ".config" / "hwflash" / "boards"
    own.mkdir(parents=True)
    (own / "mine.toml").write_text('name = "mine"\ndescription = "x"\n[flash]\nsize = "1M"\n')
    (own / "broken.toml").write_text("name = 1\n")
    listed = {item["name"]: item for item in bench.json("boards", "list").result["boards"]}
    assert listed["mine"]["origin"] == "user"
    assert listed["broken"]["faults"]
    assert "faults in" in bench.run("boards", "list").out
    assert bench.json("boards", "show", "mine").result["board"]["flash"]["size"] == MIB


@pytest.mark.parametrize("name", [name.removesuffix(".toml") for name in data_files("boards")])
def test_every_shipped_board_can_be_shown(bench: Bench, name: str) -> None:
    words = bench.run("boards", "show", name)
    assert words.code == 0
    assert words.out.startswith(name + "\n")
    board = bench.json("boards", "show", name).result["board"]
    for region in board["region"]:
        assert region["name"] in words.out


def test_boards_check_and_schema(bench: Bench) -> None:
    good = bench.file("b.toml", 'name = "b"\ndescription = "x"\n[flash]\nsize = "1M"\n')
    assert bench.run("boards", "check", good).out.endswith("no faults\n")
    assert bench.json("boards", "check", good).result["faults"] == []
    schema = json.loads(bench.run("boards", "schema").out)
    assert schema == bench.json("boards", "schema").result["schema"]
    assert schema["title"] == "hwflash board file"
    assert bench.run("boards", "check", bench.folder / "none.toml").code == 7


# --- doctor, bench, completion ------------------------------------------------------------


def test_doctor(bench: Bench) -> None:
    answer = bench.json("doctor")
    checks = {check["name"]: check for check in answer.result["checks"]}
    assert {"libusb", "state", "disk"} <= set(checks)
    assert answer.code == int(any(c["status"] == "fail" for c in checks.values()))
    for check in checks.values():
        if check["status"] in ("warn", "fail"):
            assert check["remedy"], f"{check['name']} needs a remedy"
    words = bench.run("doctor")
    assert words.code == answer.code
    assert str(bench.state) in words.out
    assert not bench.state.exists(), "a check changes nothing"


def test_doctor_without_permission_prints_the_commands(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hwflash.jobs import doctor

    install = doctor.install_udev
    blocked = bench.file("etc", b"a file, no folder")
    monkeypatch.setattr(doctor, "install_udev", lambda: install(blocked))
    answer = bench.json("doctor", "--install-udev")
    assert (answer.code, answer.error["code"]) == (3, "doctor.permission")
    assert answer.error["context"]["commands"][0][0] == "install"
    assert "sudo" in answer.error["hint"]


def test_doctor_installs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwflash.jobs import doctor

    install = doctor.install_udev
    monkeypatch.setattr(doctor, "install_udev", lambda: install(bench.folder))
    answer = bench.json("doctor", "--install-udev")
    assert all(Path(path).exists() for path in answer.result["written"])
    assert answer.result["next"][0] == "systemd-sysusers"


@pytest.mark.slow
def test_bench(bench: Bench) -> None:
    answer = bench.json("bench", "-c", "p25q21h", "--no-peer")
    rows = answer.result["rows"]
    assert rows
    assert all(row["seconds"] >= 0.99 * row["limit"] for row in rows)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(bench: Bench, shell: str) -> None:
    script = bench.run("completion", shell).out
    assert "_HWFLASH_COMPLETE" in script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script.encode(), check=True)


@pytest.mark.parametrize(
    ("line", "wanted", "unwanted"),
    [
        ("hwflash pr", {"probe"}, {"read"}),
        ("hwflash ", {"list", "probe", "read", "write", "verify", "erase", "doctor"}, set()),
        ("hwflash chips ", {"list", "show", "decode"}, set()),
        ("hwflash chips show w25q80", {"W25Q80DV", "W25Q80BL"}, {"P25Q21H"}),
        ("hwflash boards show ft232h", {"ft232h-w25q128"}, {"up-squared"}),
        ("hwflash write -b qemu", {"qemu-q35-ovmf-4m"}, {"up-squared"}),
        ("hwflash probe --chip w25q128", {"W25Q128JV"}, {"W25Q80DV"}),
        ("hwflash write --ver", {"--verify"}, {"--yes"}),
        ("hwflash write --verify ", {"touched", "full"}, set()),
        ("hwflash completion ", {"bash", "zsh", "fish"}, set()),
        ("hwflash nonsense ", set(), set()),
    ],
)
def test_completion(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, line: str, wanted: set[str], unwanted: set[str]
) -> None:
    words = line.split(" ")
    monkeypatch.setenv("_HWFLASH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    answer = bench.run()
    found = {item.partition(",")[2] for item in answer.out.splitlines()}
    assert wanted <= found
    assert not unwanted & found
    assert answer.err == ""
    assert os.environ["_HWFLASH_COMPLETE"]
