"""Security registers: read, written with the rest kept, locked for ever and only when meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Bench


def run(bench: Bench, code: int, *words: object, **url: object) -> dict:
    answer = bench.json("otp", *words, "-p", bench.url(**url))
    assert answer.code == code, answer.out
    return answer.result


def stored(bench: Bench) -> dict[str, int]:
    return json.loads(bench.registers.read_text())["registers"]


def test_read_write_lock(bench: Bench) -> None:
    found = run(bench, 0, "read")
    assert len(found["unique_id"]) == 16
    assert [(r["number"], r["size"], r["blank"], r["locked"]) for r in found["registers"]] == [
        (1, 256, True, False), (2, 256, True, False), (3, 256, True, False)
    ]  # fmt: skip
    serial = bench.file("serial.bin", b"SN-000042")
    done = run(bench, 0, "write", serial, "--number", 2, "--at", "0x10", "--yes")
    assert done["executed"]
    assert Path(done["backup"]).read_bytes() == b"\xff" * 256
    assert not run(bench, 0, "write", serial, "--number", 2, "--at", 16, "--yes")["executed"]
    other = bench.file("other.bin", b"SN-000043 and more")
    run(bench, 0, "write", other, "--number", 2, "--at", "0x20", "--yes")
    data = bytes.fromhex(run(bench, 0, "read")["registers"][1]["data"])
    assert data == (b"\xff" * 16 + b"SN-000042").ljust(32, b"\xff") + other.read_bytes().ljust(
        224, b"\xff"
    )
    # Bits that have to be set take an erase; the rest of the register is kept.
    run(bench, 0, "write", other, "--number", 2, "--at", "0x10", "--yes")
    saved = bench.folder / "out.bin"
    run(bench, 0, "read", "--number", 2, "--save", saved)
    assert saved.read_bytes()[0x10:0x22] == b"SN-000043 and more"
    assert saved.read_bytes()[0x22:0x32] == b"-000043 and more"

    bench.set_registers({2: 0x42})
    assert run(bench, 0, "lock", "--number", 2, "--confirm", "W25Q80DV")["register"]["locked"]
    assert stored(bench)["2"] == 0x42 | 0x10, "LB2 and no other bit"
    assert [r["locked"] for r in run(bench, 0, "read")["registers"]] == [False, True, False]
    error = run(bench, 5, "write", serial, "--number", 2, "--yes")["error"]
    assert error["code"] == "otp.locked"
    assert error["chip"] == "nothing was changed"
    assert not run(bench, 0, "lock", "--number", 2, "--yes")["executed"]
    kinds = [entry["kind"] for entry in bench.json("history", "list").result["entries"]]
    assert kinds == ["otp lock", "otp write", "otp write", "otp write"]


def test_for_ever_wants_the_name_of_the_chip(bench: Bench) -> None:
    run(bench, 0, "read")
    lock = ("lock", "--number", 1)
    assert run(bench, 2, *lock)["error"]["code"] == "usage.confirm"
    for words in (["--yes"], ["--confirm", "yes"], ["--confirm", "W25Q80"]):
        assert run(bench, 2, *lock, *words)["error"]["code"] == "usage.confirm-text"
    for typed in ("y\n", "", "W25Q80\n"):
        assert bench.run("otp", *lock, "-p", bench.url(), typed=typed).code == 2
    assert not run(bench, 0, *lock, "--dry-run")["executed"]
    assert stored(bench)["2"] == 0
    assert bench.run("otp", *lock, "-p", bench.url(), typed="W25Q80DV\n").code == 0
    assert stored(bench)["2"] == 0x08


def test_locked_registers(bench: Bench) -> None:
    run(bench, 0, "read")
    bench.set_registers({1: 0x80, 2: 0x01})
    error = run(bench, 5, "lock", "--number", 1, "--confirm", "W25Q80DV")["error"]
    assert error["code"] == "protection.register-locked"
    assert stored(bench)["2"] == 0x01


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["write", "x.bin", "--number", "4", "--yes"], "usage.otp"),
        (["write", "x.bin", "--number", "0", "--yes"], "usage.otp"),
        (["write", "x.bin", "--number", "1", "--at", "250", "--yes"], "usage.otp"),
        (["write", "empty.bin", "--number", "1", "--yes"], "usage.otp"),
        (["write", "x.bin", "--number", "1"], "usage.confirm"),
        (["write", "no.bin", "--number", "1", "--yes"], "usage.command-line"),
        (["read", "--number", "9"], "usage.otp"),
        (["lock", "--number", "-1", "--confirm", "W25Q80DV"], "usage.otp"),
    ],
)
def test_slips_of_the_pen(bench: Bench, words: list[str], code: str) -> None:
    bench.file("x.bin", b"0123456789")
    bench.file("empty.bin", b"")
    error = run(bench, 2, *words)["error"]
    assert (error["code"], error["chip"]) == (code, "nothing was changed")


def test_a_chip_without_them(small: Bench) -> None:
    small.fill(b"\xff" * small.size)
    assert run(small, 4, "read")["error"]["code"] == "otp.none"


@pytest.mark.parametrize("cut", [1, 2])
def test_a_power_cut(bench: Bench, cut: int) -> None:
    """A register that has to be erased first: the old content is on the disk."""
    run(bench, 0, "read")
    run(bench, 0, "write", bench.file("a.bin", b"old" * 20), "--number", 1, "--yes")
    new = bench.file("b.bin", b"new" * 20)
    error = run(bench, 6, "write", new, "--number", 1, "--yes", power_cut=cut)["error"]
    assert error["chip"] == "the chip is in an unknown state"
    backup = error["message"].rpartition(" ")[2]
    assert Path(backup).read_bytes() == (b"old" * 20).ljust(256, b"\xff")
    run(bench, 0, "write", new, "--number", 1, "--yes")
    assert bytes.fromhex(run(bench, 0, "read")["registers"][0]["data"])[:60] == b"new" * 20


def test_an_area_that_can_never_be_erased_wants_the_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "n25q032a")
    serial = bench.file("serial.bin", b"SN-000042")
    write = ("write", serial, "--number", 1)
    assert run(bench, 2, *write)["error"]["code"] == "usage.confirm"
    assert run(bench, 2, *write, "--yes")["error"]["code"] == "usage.confirm-text"
    assert run(bench, 2, *write, "--confirm", "N25Q")["error"]["code"] == "usage.confirm-text"
    assert run(bench, 0, "read")["registers"][0]["blank"]
    assert run(bench, 0, *write, "--confirm", "N25Q032A")["executed"]
    other = bench.file("other.bin", b"SN-000043")
    error = run(bench, 5, "write", other, "--number", 1, "--confirm", "N25Q032A")["error"]
    assert (error["code"], error["chip"]) == ("otp.one-time", "nothing was changed")
    assert run(bench, 0, "lock", "--number", 1, "--confirm", "N25Q032A")["executed"]
    register = run(bench, 0, "read")["registers"][0]
    assert (register["locked"], register["size"]) == (True, 64)
    assert bytes.fromhex(register["data"])[:9] == b"SN-000042"
