"""Bad input: each is refused with its own code, and the chip is what the message says."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import KIB, Bench
from support import pattern

from hwflash.chip import catalog
from hwflash.chip.catalog import Catalog, Part
from hwflash.chip.identity import resize
from hwflash.flash import backup
from hwflash.layout import files
from hwflash.layout.files import Segment, save_image
from hwflash.sim.programmer import SimulatedProgrammer

GOOD_HEX = ":10010000214601360121470136007EFE09D2190140\n:00000001FF\n"
BOARD = """
name = "mine"
description = "test bench"
[flash]
chip = "P25Q21H"
size = "256K"
[layout]
kind = "regions"
[[region]]
name = "boot"
start = 0
length = "4K"
[[region]]
name = "app"
start = "4K"
length = "60K"
"""


def refused(bench: Bench, code: int, name: str, *words: object, **options: Any) -> dict[str, Any]:
    """Run a write that must be refused, for people and for scripts; the chip stays as it is."""
    before = bench.content if bench.image.exists() else None
    answer = bench.run(*words, **options)
    assert answer.code == code, answer.err
    assert f"[{name}]" in answer.err
    assert "  chip: nothing was changed\n" in answer.err
    answer = bench.json(*words, **options)
    assert answer.code == code
    assert answer.error["code"] == name
    assert answer.error["chip"] == "nothing was changed"
    assert "resume" not in answer.error
    after = bench.content if bench.image.exists() else None
    assert after in (before, None if before else b"\xff" * bench.size)
    assert not list((bench.state / "jobs").glob("*"))
    return answer.error


# --- image files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words", "code", "name"),
    [
        (bytes(256 * KIB + 1), [], 7, "image.larger-than-chip"),
        (bytes(300), [], 7, "image.smaller-than-chip"),
        (b"", [], 7, "image.empty"),
        (b"", ["--at", "0"], 7, "image.empty"),
        (bytes(2), ["--at", "0x3FFFF"], 2, "usage.address"),
        (bytes(2), ["--at", "256K"], 2, "usage.address"),
        (bytes(2), ["--at", "4G"], 2, "usage.address"),
        (bytes(2), ["--range", "0x3FFFF:2"], 2, "usage.address"),
        (bytes(5), ["--range", "0:4"], 7, "image.larger-than-region"),
        (bytes(4097), ["-b", "mine.toml", "--region", "boot"], 7, "image.larger-than-region"),
        (bytes(5), ["-b", "mine.toml", "--region", "nope"], 2, "usage.region"),
        (bytes(5), ["--region", "boot"], 2, "usage.region-board"),
        (bytes(5), ["--at", "0", "--range", "0:5"], 2, "usage.selection"),
        (bytes(5), ["-b", "mine.toml", "--at", "0", "--region", "boot"], 2, "usage.selection"),
        (bytes(5), ["--at", "0", "--resume"], 2, "usage.selection"),
        (bytes(5), ["--restore", "x.bin"], 2, "usage.selection"),
        (bytes(5), ["-b", "mine.toml", "--region", "app", "--region", "app"], 2, "usage.overlap"),
    ],
)  # fmt: skip
def test_raw_files(small: Bench, content: bytes, words: list[str], code: int, name: str) -> None:
    small.fill(1)
    small.file("mine.toml", BOARD)
    image = small.file("x.bin", content)
    refused(small, code, name, "write", image, "-y", "-p", small.url(), *words)


@pytest.mark.parametrize(
    ("file", "content", "name", "line"),
    [
        ("x.hex", GOOD_HEX.replace("0140", "0141"), "image.hex-syntax", 1),
        ("x.hex", ":020000040003F7\n" + GOOD_HEX.replace("0140", "0141"), "image.hex-syntax", 2),
        ("x.bin", GOOD_HEX.replace("0140", "0141"), "image.hex-syntax", 1),
        ("x.hex", GOOD_HEX.split("\n")[0] + "\n", "image.hex-syntax", 1),
        ("x.hex", GOOD_HEX + GOOD_HEX, "image.hex-syntax", 3),
        ("x.hex", GOOD_HEX.splitlines()[0] + "\n" + GOOD_HEX, "image.overlap", 2),
        ("x.hex", pattern(500, 9), "image.hex-syntax", 1),
        ("x.s19", pattern(500, 9), "image.hex-syntax", 1),
        ("x.hex", ":00000001FF\n", "image.empty", None),
        ("x.hex", "", "image.empty", None),
        ("x.hex", ":0200000400FFFB\n:0100000055AA\n:00000001FF\n", "image.larger-than-chip", None),
    ],
)
def test_files_with_records(
    small: Bench, file: str, content: bytes | str, name: str, line: int | None
) -> None:
    small.fill(1)
    path = small.file(file, content)
    error = refused(small, 7, name, "write", path, "-y", "-p", small.url())
    assert path.name in error["message"]
    if line is not None:
        assert error["context"]["line"] == line
        assert f"line {line}" in error["message"] or name == "image.hex-syntax"


def test_addresses_cannot_be_moved(small: Bench) -> None:
    small.fill(1)
    path = small.file("x.hex", GOOD_HEX)
    refused(small, 2, "usage.selection", "write", path, "--at", "4K", "-y", "-p", small.url())


def test_records_outside_of_the_range(small: Bench) -> None:
    small.fill(1)
    path = small.file("x.hex", GOOD_HEX)
    words = ["write", path, "--range", "4K:4K", "-y", "-p", small.url()]
    refused(small, 7, "image.empty", *words)


def test_a_file_that_is_not_there_or_not_a_file(small: Bench) -> None:
    small.fill(1)
    for path in (small.folder / "none.bin", small.folder):
        refused(small, 7, "image.unreadable", "write", path, "-y", "-p", small.url())


def test_empty_standard_input(small: Bench) -> None:
    small.fill(1)
    refused(small, 7, "image.empty", "write", "-", "-y", "-p", small.url(), stdin=b"")


@pytest.mark.parametrize("change", ["grows", "other bytes", "replaced"])
def test_a_file_that_changes_while_it_is_read(
    small: Bench, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    small.fill(1)
    path = small.file("x.bin", pattern(small.size, 2))
    read = files._read_stream  # pyright: ignore[reportPrivateUsage]
    again = 0

    def meddle(stream: Any, name: str) -> bytes:
        nonlocal again
        again += 1
        content = read(stream, name)
        if change == "grows":
            path.write_bytes(content + b"x")
        elif change == "other bytes":
            path.write_bytes(bytes([again]) + content[1:])
        else:
            path.unlink()
            path.write_bytes(content)
        return content

    monkeypatch.setattr(files, "_read_stream", meddle)
    refused(small, 7, "image.changed", "write", path, "-y", "-p", small.url())


def test_a_write_without_a_file_is_refused_before_anything_is_opened(small: Bench) -> None:
    for command in ("write", "verify", "read"):
        words = ["-y"] if command == "write" else []
        answer = small.run(command, *words, "-p", "ftdi://::/1")
        assert answer.code == 2
        assert "usage.selection" in answer.err


# --- folders ------------------------------------------------------------------------------


def test_a_backup_folder_that_cannot_be_written(small: Bench) -> None:
    small.fill(1)
    image = small.file("x.bin", pattern(small.size, 2))
    words = ["write", image, "-y", "-p", small.url(), "--backup-dir", image / "below-a-file"]
    error = refused(small, 3, "backup.unwritable", *words)
    assert "--backup-dir" in error["hint"]


def test_a_full_disk(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    small.fill(1)

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backup, "write_atomically", full)
    image = small.file("x.bin", pattern(small.size, 2))
    error = refused(small, 3, "backup.unwritable", "write", image, "-y", "-p", small.url())
    assert "No space left" in error["message"]


def test_a_disk_that_is_full_for_the_journal(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    small.fill(1)

    def full(_path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hwflash.flash.journal.write_atomically", full)
    old = small.content
    image = small.file("x.bin", pattern(small.size, 2))
    answer = small.chip("write", image, "-y", "--json")
    assert (answer.code, answer.error["code"]) == (3, "journal.unwritable")
    assert small.content == old
    # What is left of the job is nothing that could be resumed.
    assert small.run("write", "--resume", "-y").code == 2


@pytest.mark.parametrize("command", ["write", "erase", "probe"])
def test_a_state_folder_that_cannot_be_made(
    small: Bench, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    small.fill(1)
    image = small.file("x.bin", pattern(small.size, 2))
    monkeypatch.setenv("HWFLASH_STATE_DIR", str(image / "state"))
    words = {"write": [image, "-y"], "erase": ["-y"], "probe": []}[command]
    error = refused(small, 3, "state.unwritable", command, *words, "-p", small.url())
    assert "HWFLASH_STATE_DIR" in error["hint"]


def test_a_read_into_a_folder_that_is_not_there(small: Bench) -> None:
    small.fill(1)
    target = small.folder / "none" / "x.bin"
    answer = small.chip("read", target, "--json")
    assert (answer.code, answer.error["code"]) == (3, "environment.unwritable")


def test_a_failed_read_leaves_the_old_file(small: Bench) -> None:
    small.fill(1)
    old = small.file("x.bin", b"precious")
    assert small.chip("read", old, url=small.url(faults="disconnect=30")).code == 3
    assert old.read_bytes() == b"precious"
    assert sorted(path.name for path in small.folder.glob(".x.bin*")) == []


# --- programmers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("w25q80", "usage.url-scheme"),
        ("usb://x", "usage.url-scheme"),
        ("", "usage.url-scheme"),
        ("sim://", "usage.url"),
        ("sim://?seed=1", "usage.url"),
        ("sim://w25q8", "chips.unknown-part"),
        ("sim://w25q80?bogus=1", "usage.url-option"),
        ("sim://w25q80?seed=x", "usage.url-option"),
        ("sim://w25q80?seed=-1", "usage.url-option"),
        ("sim://w25q80?wp=2", "usage.url-option"),
        ("sim://w25q80?timing=fast", "usage.url-option"),
        ("sim://w25q80?power_cut=0", "usage.url-option"),
        ("sim://w25q80?latency=0", "usage.url-option"),
        ("sim://w25q80?faults=fire", "usage.faults"),
        ("sim://w25q80?faults=flip=2", "usage.faults"),
        ("sim://w25q80?faults=flip=nan", "usage.faults"),
        ("sim://w25q80?faults=disconnect=0", "usage.faults"),
        ("sim://w25q80?faults=stuck=x", "usage.faults"),
        ("sim://w25q80?frequency=fast", "usage.frequency"),
        ("ftdi://ftdi:2232h/1", "usage.url"),
        ("ftdi://ftdi:232h/2", "usage.url"),
        ("ftdi://ftdi:232h/1?wp=ADBUS9", None),
        ("ftdi:path", "usage.url"),
    ],
)
def test_programmer_urls(bench: Bench, url: str, name: str | None) -> None:
    answer = bench.json("probe", "-p", url)
    if name is None:
        assert answer.code in (2, 3)
    else:
        assert (answer.code, answer.error["code"]) == (2, name)
    assert bench.run("probe", "-p", url).code == answer.code


def test_a_power_of_ten_is_not_a_space(bench: Bench) -> None:
    image = bench.folder / "a+b.bin"
    answer = bench.json("probe", "-p", f"sim://w25q80?image={image}")
    assert answer.code == 0
    assert image.exists()


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[SimulatedProgrammer]]]:
    """Plug simulated FT232H into this computer's USB, by serial number."""
    plugged: list[SimulatedProgrammer] = []

    def plug(*serials: str) -> list[SimulatedProgrammer]:
        chip = catalog.load().by_name("p25q21h").chip
        plugged.extend(SimulatedProgrammer(chip, serial=serial) for serial in serials)
        monkeypatch.setattr("usb.core.find", lambda **_: iter([item.device for item in plugged]))
        return plugged

    yield plug
    for item in plugged:
        item.close()


Attach = Callable[..., list[SimulatedProgrammer]]


def test_the_only_programmer_attached_is_used(small: Bench, attach: Attach) -> None:
    (programmer,) = attach("AAA")
    for url in ([], ["-p", "ftdi://ftdi:232h:AAA/1"], ["-p", "ftdi://::/1"]):
        found = small.json("probe", *url)
        assert found.result["part"] == "P25Q21H"
        assert "modelled_seconds" not in found.out
    data = small.file("x.bin", pattern(600, 2))
    answer = small.json("write", data, "--at", "1K", "-y")
    assert answer.code == 0
    assert programmer.die.content[KIB : KIB + 600] == pattern(600, 2)
    assert small.json("list").result["programmers"][0]["url"] == "ftdi://ftdi:232h:AAA/1"


def test_no_programmer_attached(small: Bench, attach: Attach) -> None:
    attach()
    for words in ([], ["-p", "ftdi://::/1"]):
        answer = small.json("probe", *words)
        assert (answer.code, answer.error["code"]) == (3, "programmer.absent")
        assert "sim://" in answer.error["hint"]
    listed = small.run("list")
    assert (listed.code, listed.out) == (0, "")
    assert "no programmer is attached" in listed.err
    assert small.json("list").result["programmers"] == []


def test_several_programmers_attached(small: Bench, attach: Attach) -> None:
    attach("AAA", "BBB")
    answer = small.run("probe")
    assert answer.code == 3
    assert "[programmer.ambiguous]" in answer.err
    for url in ("ftdi://ftdi:232h:AAA/1", "ftdi://ftdi:232h:BBB/1"):
        assert url in answer.err
    listed = small.json("list").result["programmers"]
    assert [item["serial"] for item in listed] == ["AAA", "BBB"]
    assert "ftdi://ftdi:232h:BBB/1" in small.run("list").out
    assert small.json("probe", "-p", "ftdi://ftdi:232h:CCC/1").error["code"] == "programmer.absent"


@pytest.mark.parametrize(
    ("access", "code"), [("denied", "programmer.inaccessible"), ("busy", "programmer.busy")]
)
def test_a_programmer_that_may_not_be_opened(small: Bench, access: str, code: str) -> None:
    small.fill(1)
    url = small.url(faults=f"access={access}")
    refused(small, 3, code, "erase", "-y", "-p", url)


def test_a_chip_image_of_another_size(small: Bench) -> None:
    small.image.write_bytes(b"short")
    answer = small.chip("erase", "-y", "--json")
    assert (answer.code, answer.error["code"]) == (7, "sim.image-size")
    assert small.content == b"short"


# --- chips --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ("stuck=miso-high", "chip.absent"),
        ("stuck=miso-low", "chip.absent"),
        ("cs=floating", "chip.absent"),
        ("hold=low", None),
        ("flip=0.2", "chip.unstable"),
    ],
)
def test_wiring(bench: Bench, faults: str, code: str | None) -> None:
    bench.fill(1)
    if code is None:
        # HOLD# is driven high by the programmer, so a board that leaves it low does no harm.
        assert bench.chip("probe", url=bench.url(faults=faults)).code == 0
        return
    image = bench.file("x.bin", pattern(bench.size, 2))
    url = bench.url(faults=faults, seed=5)
    error = refused(bench, 4, code, "write", image, "-y", "-p", url)
    assert "wiring" in error["blame"]


@pytest.mark.slow
def test_a_few_flipped_bits_stop_a_write(bench: Bench) -> None:
    bench.fill(1)
    image = bench.file("x.bin", pattern(bench.size, 2))
    words = ["write", image, "-y", "-p", bench.url(faults="flip=2e-6", seed=4)]
    error = refused(bench, 4, "chip.unstable-read", *words)
    assert error["context"]["differing"]
    assert not list((bench.state / "backups").glob("*"))


def test_a_protected_chip(bench: Bench) -> None:
    bench.fill(1)
    bench.set_registers({1: 0x1C})
    image = bench.file("x.bin", pattern(bench.size, 2))
    error = refused(bench, 5, "chip.protected", "write", image, "-y", "-p", bench.url())
    assert error["context"]["ranges"] == [{"address": 0, "length": bench.size}]
    refused(bench, 5, "chip.protected", "erase", "-y", "-p", bench.url())
    assert bench.chip("write", image, "--dry-run").code == 5
    assert bench.chip("read", "x.bin").code == 0
    probe = bench.json("probe", "-p", bench.url()).result["protection"]
    assert probe["locked"] == [{"address": 0, "length": bench.size}]


def test_a_partly_protected_chip_can_be_written_elsewhere(bench: Bench) -> None:
    old = bench.fill(1)
    bench.set_registers({1: 0x04})  # BP0: the last 64 KiB of a W25Q80
    data = bench.file("x.bin", bytes(100))
    refused(bench, 5, "chip.protected", "write", data, "--at", "0xF0000", "-y", "-p", bench.url())
    assert bench.chip("write", data, "--at", "0", "-y").code == 0
    assert bench.content == bytes(100) + old[100:]


def test_a_chip_for_less_than_the_adapters_voltage(tmp_path: Path) -> None:
    low = Bench(tmp_path, "w25q32jw")
    low.fill(b"\xff" * low.size)
    error = refused(low, 4, "chip.voltage", "erase", "-y", "-p", low.url())
    assert "--allow-voltage" in error["hint"]
    assert "level shifter" in error["hint"]
    data = low.file("x.bin", b"data")
    answer = low.chip("write", data, "--at", "0", "-y", "--allow-voltage")
    assert answer.code == 0
    assert low.content[:5] == b"data\xff"


class Contradicting(Catalog):
    """A catalog that takes every chip for twice its size."""

    def by_jedec_id(self, jedec_id: bytes) -> tuple[Part, ...]:
        found = super().by_jedec_id(jedec_id)
        return tuple(Part(resize(part.chip, 2 * part.chip.size)) for part in found)


@pytest.mark.slow
def test_sfdp_against_the_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, "w25q80bl")
    old = bench.fill(1)
    parts = catalog.load().parts
    monkeypatch.setattr("hwflash.chip.catalog.load", lambda: Contradicting(parts))
    image = bench.file("x.bin", pattern(bench.size, 2))
    error = refused(bench, 4, "chip.conflict", "write", image, "-y", "-p", bench.url())
    assert "1048576" in str(error["context"]["conflicts"])
    probe = bench.run("probe", "-p", bench.url())
    assert probe.code == 0
    assert "warning: conflict in size" in probe.err
    kinds = [line["type"] for line in bench.json("probe", "-p", bench.url()).lines]
    assert kinds == ["warning", "result"]
    assert bench.chip("read", "x.out").code == 0
    assert Path("x.out").read_bytes() == old
    # The user decides.
    assert bench.chip("write", image, "-y", "--chip", "w25q80bl").code == 0
    assert bench.content == image.read_bytes()


CHIP_FILE = """
maker = "Nobody"
[part.MY80]
datasheet = "written on a napkin"
jedec_id = "ef4014"
size = 1048576
page_size = 256
page_program_ms = [0.8, 4]
[part.MY80.erase.4096]
opcode = 0x20
ms = [45, 400]
[part.MY80.status]
read = { 1 = 0x05 }
write = { 1 = 0x01 }
write_ms = [10, 15]
"""


def test_a_chip_file(bench: Bench) -> None:
    old = bench.fill(1)
    path = bench.file("my.toml", CHIP_FILE)
    answer = bench.json("probe", "-p", bench.url(), "--chip-file", path)
    assert answer.code == 0, answer.out
    assert answer.result["part"] == "MY80"
    assert answer.result["source"] == "override"
    shown = bench.json("chips", "show", "MY80", "--chip-file", path)
    assert shown.result["part"] == "MY80"
    data = bench.file("x.bin", bytes(9))
    assert bench.chip("write", data, "--at", "100", "-y", "--chip-file", path).code == 0
    assert bench.content == old[:100] + bytes(9) + old[109:]


def test_a_bad_chip_file_lists_its_faults(bench: Bench) -> None:
    for wrong, places in (
        (CHIP_FILE.replace("0x20", "0x2000").replace("ef4014", "zz"), ("opcode", "jedec_id")),
        (CHIP_FILE.replace("256", "300").replace("1048576", "0"), ("page_size", "size")),
    ):
        path = bench.file("my.toml", wrong)
        answer = bench.run("probe", "-p", bench.url(), "--chip-file", path)
        assert answer.code == 7
        assert "[chip-file]" in answer.err
        for place in places:
            assert f"{place}: " in answer.err


def test_an_unknown_part_names_the_near_ones(bench: Bench) -> None:
    answer = bench.run("chips", "show", "w25q80bw")
    assert answer.code == 2
    assert "did you mean: " in answer.err
    assert "W25Q80" in answer.err
    assert bench.json("probe", "-p", bench.url(), "-c", "nope").error["code"] == (
        "chips.unknown-part"
    )


# --- boards -------------------------------------------------------------------------------


def test_a_board_with_another_chip(bench: Bench) -> None:
    bench.fill(1)
    board = bench.file("mine.toml", BOARD)
    error = refused(bench, 4, "board.other-chip", "erase", "-y", "-b", board, "-p", bench.url())
    assert error["context"]["found"] == "ef4014"
    assert error["context"]["expected"] == ["856012"]


def test_a_board_with_another_size(bench: Bench) -> None:
    bench.fill(1)
    text = BOARD.replace('chip = "P25Q21H"\n', "")
    board = bench.file("mine.toml", text)
    refused(bench, 4, "board.other-size", "erase", "-y", "-b", board, "-p", bench.url())


def test_a_board_of_low_voltage_stops_before_anything_is_driven(bench: Bench) -> None:
    text = BOARD.replace('chip = "P25Q21H"\nsize = "256K"', 'size = "1M"\nvoltage = 1.8')
    board = bench.file("mine.toml", text)
    answer = bench.json("erase", "-y", "-b", board, "-p", bench.url())
    assert (answer.code, answer.error["code"]) == (4, "chip.voltage")
    assert not bench.image.exists()


HOSTILE = """
name = "bad name!"
colour = "red"
[flash]
chip = "W25Q80X"
size = "1 apple"
voltage = 12
[programmer]
frequency = "fast"
wp = "ADBUS4"
hold = "ADBUS4"
[power]
method = "command"
[layout]
kind = "regions"
[[region]]
name = "a"
start = 0
length = 100
[[region]]
name = "a"
start = 50
length = 0
[[region]]
name = "b"
start = 60
lenght = 100
"""


def test_a_hostile_board_file_lists_every_fault(small: Bench) -> None:
    board = small.file("bad.toml", HOSTILE)
    places = [
        "name", "description", "colour", "flash.chip", "flash.size", "flash.voltage",
        "programmer.frequency", "programmer.hold", "power.on", "power.off",
        "region[1].length", "region[2].length", "region[2].lenght",
    ]  # fmt: skip
    check = small.run("boards", "check", board)
    assert check.code == 7
    for place in places:
        assert f"\n    {place}: " in check.err, place
    assert "'W25Q80'" in check.err
    assert "did you mean 'length'" in check.err
    assert not [line for line in check.err.splitlines() if line != line.rstrip(" ,")]
    faults = small.json("boards", "check", board).error["context"]["faults"]
    assert len(faults) >= len(places)
    # The same faults stop every command that is given the board, before hardware is touched.
    small.fill(1)
    error = refused(small, 7, "board", "erase", "-y", "-b", board, "-p", small.url())
    assert len(error["context"]["faults"]) == len(faults)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"name = ", b"[" * 5000, pattern(4096, 5), b"", b"a" * (2 << 20)]
)
def test_files_that_are_no_board(small: Bench, content: bytes) -> None:
    board = small.file("bad.toml", content)
    assert small.run("boards", "check", board).code == 7
    assert small.json("probe", "-b", board).error["code"] == "board"


def test_overlapping_regions_of_a_board(small: Bench) -> None:
    board = small.file("bad.toml", BOARD.replace('start = "4K"', 'start = "3K"'))
    answer = small.run("boards", "check", board)
    assert answer.code == 7
    assert "region[1]: overlaps 'boot' (0x000000-0x000FFF)" in answer.err


def test_an_unknown_board_names_the_near_ones(small: Bench) -> None:
    answer = small.run("probe", "-b", "ft232h-w25q12")
    assert answer.code == 2
    assert "did you mean: ft232h-w25q128" in answer.err


# --- the command line itself --------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prob"], "did you mean probe?"),
        (["wriet", "x"], "did you mean write?"),
        (["chips", "shwo"], "show"),
        (["xyzzy"], "no such command 'xyzzy'"),
        (["read", "--bogus"], "--bogus"),
        (["read", "x", "--at", "twelve"], "'twelve' is not a size"),
        (["read", "x", "--range", "12"], "'12' is not START:LENGTH"),
        (["read", "x", "--range", "0:0"], "empty range"),
        (["read", "x", "--at", "-5"], "-5"),
        (["read", "x", "--repeat", "0"], "0"),
        (["read", "x", "-f", "0"], "'0' is not a frequency"),
        (["write", "x", "--region", ":f"], "is not NAME or NAME:FILE"),
        (["write", "x", "--format", "elf"], "elf"),
        (["write", "x", "--verify", "never"], "never"),
        (["chips", "decode", "/etc/passwd", "--id", "xy"], "not a JEDEC id"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_usage(bench: Bench, words: list[str], said: str) -> None:
    answer = bench.run(*words)
    assert answer.code == 2
    assert said in answer.err
    if words[0] != "completion":
        wanted = bench.json(*words)
        assert wanted.code == 2
        assert wanted.error["chip"] == "nothing was changed"
        assert wanted.result["command"].startswith(words[0])


@pytest.mark.parametrize("words", [[], ["chips"], ["boards"]])
def test_a_group_alone_shows_its_help(bench: Bench, words: list[str]) -> None:
    answer = bench.run(*words)
    assert answer.code == 2
    assert answer.err.startswith("Usage: hwflash")
    assert "error:" not in answer.err


def test_a_size_against_the_facts(small: Bench) -> None:
    """A file as large as the size that was insisted on goes nowhere beyond it."""
    old = small.fill(1)
    data = small.file("x.bin", pattern(128 * KIB, 2))
    answer = small.chip("write", data, "--size", "128K", "-y")
    assert answer.code == 0
    assert small.content == data.read_bytes() + old[128 * KIB :]


def test_records_beyond_the_end_are_not_cut_off(small: Bench) -> None:
    small.fill(1)
    save_image(small.folder / "x.hex", [Segment(0x3FF00, bytes(0x200))], "ihex")
    words = ["write", small.folder / "x.hex", "-y", "-p", small.url()]
    refused(small, 7, "image.larger-than-chip", *words)
