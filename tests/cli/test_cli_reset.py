"""Chips that are found asleep, busy or in the middle of a read; and their tables in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Bench
from support import DieBus, small_chip

from hwflash.chip import dumps, sfdp
from hwflash.errors import HwflashError
from hwflash.flash.identify import read_sfdp


def found(bench: Bench, state: str, *words: str) -> tuple[int, dict, str]:
    answer = bench.json(*words, "-p", bench.url(faults=f"chip={state}"))
    return answer.code, answer.result, answer.out


def test_a_chip_that_sleeps_is_woken_and_that_is_said(bench: Bench) -> None:
    code, result, text = found(bench, "asleep", "probe")
    assert (code, result["part"]) == (0, "W25Q80DV")
    assert "woken (ABh)" in text
    assert "woken" not in bench.json("probe", "-p", bench.url()).out
    code, result, _ = found(bench, "asleep", "reset")
    assert (code, result["woken_by"]) == (0, "ABh (deep power-down)")


def test_a_chip_in_the_middle_of_a_read(bench: Bench) -> None:
    code, result, _ = found(bench, "reading", "probe")
    assert (code, result["error"]["code"]) == (4, "chip.absent")
    code, result, _ = found(bench, "reading", "reset")
    assert (code, result["woken_by"]) == (0, "FFh (continuous read or QPI mode)")
    assert (result["part"], result["torn"], result["status"]) == ("W25Q80DV", False, 0)


@pytest.mark.slow
def test_a_busy_chip_is_not_torn_unless_that_is_asked_for(bench: Bench) -> None:
    old = bench.fill(1)
    code, result, _ = found(bench, "busy", "reset")
    assert (code, result["error"]["code"]) == (4, "chip.busy-reset")
    assert result["error"]["chip"] == "nothing was changed"
    code, result, _ = found(bench, "busy", "reset", "--force")
    assert (code, result["torn"], result["reset_by"]) == (0, True, "66h 99h")
    assert bench.content[0x10000:] == old[0x10000:]


@pytest.mark.parametrize(
    ("part", "expected"), [("w25q80", "66h 99h"), ("s25fl128s", "F0h"), ("mx25l3206e", None)]
)
def test_each_family_by_its_own_commands(tmp_path: Path, part: str, expected: str | None) -> None:
    bench = Bench(tmp_path, part)
    answer = bench.json("reset", "-p", f"sim://{part}")
    assert answer.result.get("reset_by", "none") == expected
    assert "no software reset" in bench.run("reset", "-p", f"sim://{part}").out or expected


@pytest.mark.parametrize("faults", ["stuck=miso-high", "stuck=miso-low", "cs=floating"])
def test_no_chip_at_all(bench: Bench, faults: str) -> None:
    answer = bench.json("reset", "-p", bench.url(faults=faults))
    assert (answer.code, answer.error["code"]) == (4, "chip.absent")


@pytest.mark.slow
def test_tables_into_a_file_and_decoded_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "w25q128jv")
    file = tmp_path / "tables.bin"
    probe = bench.json("probe", "--sfdp", file, "-p", "sim://w25q128jv").result
    assert probe["sfdp_file"] == str(file)
    assert dumps.load("W25Q128JV").sfdp.startswith(file.read_bytes())
    decoded = bench.json("chips", "decode", file, "--id", "ef4018").result
    assert decoded["sfdp"] == probe["sfdp"]
    for key in ("size", "page_size", "address_bytes"):
        assert decoded[key] == probe[key]
    answer = bench.json("probe", "--sfdp", tmp_path, "-p", "sim://w25q128jv")
    assert answer.code != 0
    answer = bench.json("probe", "--sfdp", tmp_path / "no.bin", "-p", "sim://w25q80")
    assert (answer.code, answer.error["code"]) == (4, "chip.no-sfdp")
    assert not (tmp_path / "no.bin").exists()


def test_every_table_there_is_comes_back_from_a_chip() -> None:
    """Real tables, from other people's chips; those that are cut short are refused either way."""
    whole = 0
    for name in dumps.names():
        table = dumps.load(name).sfdp
        bus = DieBus(small_chip(), sfdp=table)
        try:
            expected = sfdp.parse(table)
        except HwflashError:
            with pytest.raises(HwflashError):
                sfdp.parse(read_sfdp(bus) or b"")
            continue
        raw = read_sfdp(bus)
        assert raw is not None
        assert table.ljust(len(raw), b"\xff").startswith(raw), name
        assert sfdp.parse(raw).headers == expected.headers, name
        whole += 1
    assert whole > 30


def test_registers_in_hex_and_in_words(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "n25q032a")
    found = bench.json("registers", "-p", bench.url()).result["registers"]
    by_name = {item["name"]: item for item in found}
    assert by_name["NVCR"]["hex"] == "ffff"
    assert {"name": "XIP", "low": 3, "width": 1, "value": 1, "words": "off"} in (
        by_name["VCR"]["bits"]
    )
    text = bench.run("registers", "-p", bench.url()).out
    assert "NVCR  FFFFh  non-volatile configuration register (B5h)" in text
    assert "ready                1  ready" in text
