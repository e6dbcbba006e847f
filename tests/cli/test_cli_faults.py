"""Cables pulled, supplies cut, chips that hang: old, new, or a way there. Never silence."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

import pytest
from harness import KIB, Answer, Bench
from support import mostly_slow, pattern

Image = tuple[bytes, bytes, Path]


def prepare(bench: Bench, seed: int = 1) -> Image:
    """A chip with content, and a file with other content: erases, programs and gaps of FF."""
    rng = random.Random(seed)
    old = bytearray(bench.fill(seed))
    new = bytearray(pattern(bench.size, seed + 100))
    for _ in range(4):
        start = rng.randrange(bench.size - 20 * KIB)
        new[start : start + 20 * KIB] = old[start : start + 20 * KIB]
        start = rng.randrange(bench.size - 9 * KIB)
        new[start : start + 9 * KIB] = b"\xff" * 9 * KIB
    return bytes(old), bytes(new), bench.file(f"new {seed}.bin", bytes(new))


def follow(bench: Bench, answer: Answer, image: Image) -> None:
    """Both commands an error printed do what they say, exactly as printed."""
    old, new, _ = image
    assert "  chip: the chip is in an unknown state\n" in answer.err
    resumed = bench.run(*answer.printed("resume"), typed="y\n")
    assert resumed.code == 0, resumed.err
    assert bench.content == new
    assert resumed.out.startswith("resumed and verified: ")
    restored = bench.run(*answer.printed("restore"), typed="y\n")
    assert restored.code == 0, restored.err
    assert bench.content == old


def honest(bench: Bench, answer: Answer, image: Image) -> str:
    """Hold what an answer says against what the chip holds."""
    old, new, _ = image
    if answer.code == 0:
        assert bench.content == new
        return "done"
    if answer.code == 6:
        follow(bench, answer, image)
        return "unknown"
    assert answer.code in (3, 4)
    assert "  chip: nothing was changed\n" in answer.err
    assert bench.content == old, "it said that nothing was changed"
    assert not list((bench.state / "jobs").glob("*"))
    return "unchanged"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "step"), [("p25q21h", 1.5), pytest.param("at25sf041", 1.3, marks=pytest.mark.slow)]
)
def test_the_cable_is_pulled_in_every_phase(tmp_path: Path, part: str, step: float) -> None:
    bench = Bench(tmp_path, part)
    image = prepare(bench)
    fate: list[str] = []
    transfers = 1
    while "done" not in fate:
        bench.image.write_bytes(image[0])
        url = bench.url(faults=f"disconnect={transfers}")
        answer = bench.chip("write", image[2], "-y", url=url)
        fate.append(honest(bench, answer, image))
        transfers = int(transfers * step) + 3
    assert fate == sorted(fate, key=["unchanged", "unknown", "done"].index)
    assert fate.count("unchanged") >= 3
    assert fate.count("unknown") >= 3


@pytest.mark.slow
def test_the_cable_is_pulled_from_a_chip_with_block_locks(tmp_path: Path) -> None:
    """Locks that cannot be put back must not hide that a write had begun."""
    bench = Bench(tmp_path, "sst26vf016b")
    old = bench.fill(1)
    new = pattern(40 * KIB, 2) + old[40 * KIB :]
    image = old, new, bench.file("new.bin", new[: 40 * KIB])
    fate: list[str] = []
    for transfers in (20, 60, 70, 75, 80, 85, 90, 95, 100, 120, 600):
        bench.image.write_bytes(old)
        url = bench.url(faults=f"disconnect={transfers}")
        answer = bench.chip("write", image[2], "--at", "0", "-y", url=url)
        fate.append(honest(bench, answer, image))
    assert "unknown" in fate
    assert "done" in fate


@pytest.mark.parametrize("command", ["probe", "read", "verify"])
def test_the_cable_is_pulled_while_reading(small: Bench, command: str) -> None:
    old = small.fill(1)
    words = {"probe": [], "read": ["out.bin"], "verify": [small.image]}[command]
    codes = []
    for transfers in (1, 5, 10, 15, 20, 25, 30, 60):
        url = small.url(faults=f"disconnect={transfers}")
        answer = small.json(command, *words, "-p", url)
        codes.append(answer.code)
        if answer.code:
            assert answer.error["code"] in ("programmer.absent", "programmer.lost")
    assert codes[0] == 3
    assert codes[-1] == 0
    assert codes == sorted(codes, reverse=True)
    assert small.content == old


@pytest.mark.parametrize("when", [1, 2, 40, 300])
def test_a_chip_that_never_gets_ready(small: Bench, when: int) -> None:
    image = prepare(small)
    answer = small.chip("write", image[2], "-y", url=small.url(faults=f"never_ready={when}"))
    assert answer.code == 6
    assert "probably: the chip, its supply or its HOLD# pin" in answer.err
    follow(small, answer, image)


def test_a_chip_that_says_it_failed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "n25q032a")
    old = bench.fill(b"\xff" * bench.size)
    new = pattern(9000, 3)
    data = bench.file("x.bin", new)
    answer = bench.chip("write", data, "--at", "0", "-y", url=bench.url(faults="fail=5"))
    assert answer.code == 6
    follow(bench, answer, (old, new + old[9000:], data))


def test_what_verifies_wrong_is_written_again(small: Bench) -> None:
    image = prepare(small)
    answer = small.chip("write", image[2], "-y", "--json", url=small.url(faults="fail=9"))
    assert answer.code == 0
    assert small.content == image[1]
    assert answer.result["mismatches"]
    assert any(line["type"] == "warning" for line in answer.lines)


@pytest.mark.slow
def test_bits_that_flip_while_verifying_do_not_pass_silently(small: Bench) -> None:
    """Reads agree by luck, verification does not: then the chip's state is not known."""
    image = prepare(small)
    for seed in range(6):
        small.image.write_bytes(image[0])
        url = small.url(faults="flip=3e-7", seed=seed)
        answer = small.chip("write", image[2], "-y", "--verify", "full", url=url)
        honest(small, answer, image)


def power_cut(bench: Bench, seed: int, faults: str) -> None:
    image = prepare(bench, seed)
    rng = random.Random(seed)
    options = {"seed": seed, "faults": faults} if faults else {"seed": seed}
    plan = bench.json("write", image[2], "-n", "-p", bench.url()).result["plan"]["steps"]
    pages = sum(-(-step["length"] // 256) for step in plan if step["kind"] == "program")
    erases = sum(step["kind"] == "erase" for step in plan)
    # Half of the cuts hit the first primitives, where the erases are.
    last = pages + erases if seed % 2 else min(erases + 3, pages)
    url = bench.url(power_cut=rng.randint(1, last), **options)
    answer = bench.chip("write", image[2], "-y", url=url)
    assert answer.code == 6, answer.err
    assert bench.content != image[1]
    follow(bench, answer, image)


@pytest.mark.parametrize("faults", ["", "slow=0.2"])
@pytest.mark.parametrize("seed", mostly_slow(2, range(5)))
def test_a_power_cut_anywhere(small: Bench, seed: int, faults: str) -> None:
    power_cut(small, seed, faults)


@pytest.mark.slow
@pytest.mark.parametrize("faults", ["", "slow=0.2"])
@pytest.mark.parametrize("part", ["p25q21h", "at25sf041", "w25q80"])
@pytest.mark.parametrize("seed", range(100, 106))
def test_power_cuts_on_other_chips(tmp_path: Path, part: str, seed: int, faults: str) -> None:
    power_cut(Bench(tmp_path, part), seed, faults)


def test_one_cut_after_another(small: Bench) -> None:
    """A resume may be cut too; restoring may be cut; the backup of the first write stays good."""
    old, new, path = prepare(small)
    first = small.chip("write", path, "-y", url=small.url(power_cut=50))
    assert first.code == 6
    again = small.run("write", "-p", small.url(power_cut=70), "--resume", "-y")
    assert again.code == 6
    assert again.printed("resume") == first.printed("resume")
    assert again.printed("restore") == first.printed("restore")
    *_, backup = first.printed("restore")
    halfway = small.run("write", "-p", small.url(power_cut=60), "--restore", backup, "-y")
    assert halfway.code == 6
    assert small.run(*halfway.printed("resume"), "-y").code == 0
    assert small.content == old
    assert small.run(*first.printed("resume"), "-y").code == 0
    assert small.content == new


def test_an_interrupted_erase(small: Bench) -> None:
    old = small.fill(1)
    answer = small.chip("erase", "-y", url=small.url(power_cut=1))
    assert answer.code == 6
    follow(small, answer, (old, b"\xff" * small.size, small.image))


def test_printed_commands_repeat_what_they_need(tmp_path: Path) -> None:
    """A part for 1.8 V, named by the user, at a slow clock: all of it is needed again."""
    bench = Bench(tmp_path, "w25q32jw")
    old = bench.fill(b"\xff" * bench.size)
    new = pattern(5000, 2)
    words = ["--chip", "w25q32jw", "-f", "5M", "--allow-voltage", "--size", "4M"]
    answer = bench.chip(
        "write", bench.file("x.bin", new), "--at", "1K", "-y", *words, url=bench.url(power_cut=9)
    )
    assert answer.code == 6
    for name in ("resume", "restore"):
        printed = shlex.join(answer.printed(name))
        assert "-c w25q32jw" in printed
        assert "-f 5000000" in printed
        assert "--allow-voltage" in printed
    follow(bench, answer, (old, old[:KIB] + new + old[KIB + 5000 :], bench.image))


def test_printed_commands_repeat_the_board(small: Bench) -> None:
    board = small.file("my board.toml", BOARD)
    old = small.fill(1)
    new = pattern(4 * KIB, 2)
    answer = small.chip(
        "write", "-b", board, "--region", f"boot:{small.file('x.bin', new)}", "-y",
        url=small.url(power_cut=4),
    )  # fmt: skip
    assert answer.code == 6
    assert answer.printed("resume")[3:5] == ["-b", str(board)]
    follow(small, answer, (old, new + old[4 * KIB :], board))


BOARD = """
name = "mine"
description = "test bench"
[flash]
chip = "P25Q21H"
size = "256K"
[[region]]
name = "boot"
start = 0
length = "4K"
protected = true
"""
