"""``hwflash compare``: what a technician and a script see of two flash contents."""

from __future__ import annotations

import pytest
from compare.firmware_sides import changed, firmware, module
from harness import Bench
from uefi import other_stores as o
from uefi.volumes import GUID, variable

from hwflash.jobs import compare_reference
from hwflash.jobs.compare_reference import Reference
from hwflash.qemu.machine import FlashFile, Machine
from hwflash.uefi import guids

MTC = guids.MONOTONIC_COUNTER
CODE = [module(1, "First", b"one" * 40), module(2, "Second", b"two" * 40)]
LEFT = firmware([variable("Mine", b"1"), variable("MTC", b"\1\0\0\0", MTC)], CODE)
OTHER = [module(1, "First", b"ONE" * 40), module(3, "Third", b"three")]
RIGHT = firmware(
    [variable("Mine", b"2"), variable("MTC", b"\2\0\0\0", MTC), variable("New", b"x")], OTHER
)
BOOTED = firmware([variable("Mine", b"1"), variable("MTC", b"\2\0\0\0", MTC)], CODE)


def files(bench: Bench, left: bytes = LEFT, right: bytes = RIGHT):
    return bench.file("left.fd", left), bench.file("right.fd", right)


def test_equal_images(bench: Bench):
    left, right = files(bench, LEFT, LEFT)
    answer = bench.run("compare", left, right)
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "- left.fd: OVMF 4M, unified, 4 MiB", "+ right.fd: OVMF 4M, unified, 4 MiB", "identical",
    ]  # fmt: skip
    result = bench.json("compare", left, right).result
    assert (result["ok"], result["equal"], result["identical"]) == (True, True, True)
    assert {item["name"]: item["bytes_differing"] for item in result["regions"]} == {
        "vars": 0, "event-log": 0, "ftw-work": 0, "ftw-spare": 0, "fvmain-compact": 0, "seccode": 0,
    }  # fmt: skip


def test_what_differs_is_named(bench: Bench):
    answer = bench.run("compare", *files(bench))
    assert answer.code == 1
    assert answer.err == ""
    lines = [line.strip() for line in answer.out.splitlines()]
    assert "- Second: driver, 168 bytes, volume" in lines
    assert "+ Third: driver, 52 bytes, volume" in lines
    assert "! First: PE32 image, 164 bytes" in lines
    assert f"+ New ({GUID})" in lines
    assert f"! Mine ({GUID}): data" in lines
    assert "not counted 1 (boot-counter); --all lists them" in lines
    (seccode,) = [line for line in lines if "seccode" in line]
    assert seccode.endswith("equal")
    assert lines[-1].startswith("different: ")


def test_what_differs_as_json(bench: Bench):
    answer = bench.json("compare", *files(bench))
    result = answer.result
    assert (answer.code, result["ok"], result["equal"]) == (1, False, False)
    assert [item["name"] for item in result["variables"]["only_right"]] == ["New"]
    assert [item["name"] for item in result["variables"]["changed"]] == ["Mine"]
    volatile = result["variables"]["volatile"]["changed"]
    assert [(item["name"], item["class"]) for item in volatile] == [("MTC", "boot-counter")]
    assert [item["name"] for item in result["modules"]["only_left"]] == ["Second"]
    assert [item["name"] for item in result["modules"]["only_right"]] == ["Third"]
    assert [item["what"] for item in result["modules"]["changed"]] == [["PE32 image"]]
    assert result["html"] is None


def test_a_board_that_was_booted_equals_its_image(bench: Bench):
    left, right = files(bench, LEFT, BOOTED)
    answer = bench.run("compare", left, right)
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "equal: nothing differs that matters"
    assert "which the variables explain" in answer.out
    answer = bench.run("compare", left, right, "--all")
    assert answer.code == 1
    assert "! MTC: the monotonic counter goes up at every boot" in answer.out


def test_variables_that_are_not_compared(bench: Bench):
    left, right = files(bench, LEFT, firmware([variable("Mine", b"2")], CODE))
    assert bench.run("compare", left, right).code == 1
    assert bench.run("compare", left, right, "--ignore", "Mi*").code == 0
    answer = bench.json("compare", left, right, "--ignore", "Mine:nobody")
    assert (answer.code, answer.error["code"]) == (2, "usage.guid")


def test_one_region(bench: Bench):
    left, right = files(bench)
    assert bench.run("compare", left, right, "--region", "seccode").code == 0
    answer = bench.json("compare", left, right, "--region", "fvmain-compact")
    assert [item["name"] for item in answer.result["regions"]] == ["fvmain-compact"]
    answer = bench.json("compare", left, right, "--region", "seccod")
    assert (answer.code, answer.error["code"]) == (2, "usage.region")
    assert answer.error["context"]["near"] == ["seccode"]


def test_a_part_and_a_whole_image(bench: Bench):
    answer = bench.run("compare", *files(bench, LEFT[:0x84000], LEFT))
    assert answer.code == 0
    assert "+ right.fd: OVMF 4M, unified, 4 MiB" in answer.out
    assert "0x084000-0x3FFFFF is not in the other and left out" in answer.out
    assert answer.out.splitlines()[-1] == "equal: no byte differs in what both have"


@pytest.mark.slow
def test_the_page(bench: Bench):
    page = bench.folder / "page.html"
    answer = bench.run("compare", *files(bench), "--html", page)
    assert answer.code == 1
    assert f"page written to {page}" in answer.out
    assert page.read_text().startswith("<!doctype html>")
    answer = bench.json("compare", *files(bench), "--html", page)
    assert answer.result["html"] == str(page)
    refused = bench.json("compare", *files(bench), "--html", bench.folder / "no" / "page.html")
    assert (refused.code, refused.error["code"]) == (3, "environment.unwritable")


def test_a_chip_and_its_image(bench: Bench):
    content = firmware([variable("Mine")], CODE)[: bench.size]
    bench.fill(content)
    path = bench.file("chip.fd", content)
    answer = bench.json("compare", bench.url(), path)
    assert answer.code == 0
    assert answer.result["identical"] is True
    assert answer.result["stats"]["left"]["bytes_in"] > bench.size
    assert answer.result["stats"]["right"] is None
    bench.fill(changed(content, 0x90000))
    assert bench.run("compare", bench.url(), path).code == 1


def test_hex_files_have_gaps_and_addresses(bench: Bench):
    left = bench.file("left.hex", ":020000040001F9\n:0400000001020304F2\n:00000001FF\n")
    right = bench.file("right.bin", b"\xff" * 0x10000 + b"\1\2\3\5")
    answer = bench.json("compare", left, right)
    assert answer.code == 1
    assert answer.result["ranges"] == [
        {"left": 0x10003, "right": 0x10003, "length": 1, "bytes_differing": 1}
    ]
    assert answer.result["left"]["offset"] == 0x10000


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("missing.fd", "left.fd"), "image.unreadable", 7),
        (("-", "-"), "usage.selection", 2),
        (("ovmf:40-none", "left.fd"), "qemu.no-firmware", 8),
        (("boot:left.fd", "missing.fd"), "image.unreadable", 7),
        (("boot:text", "left.fd"), "image.boot", 7),
        (("boot:boot:left.fd", "left.fd"), "usage.compare-boot", 2),
    ],
)
def test_what_cannot_be_compared(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, words, code: str, exit_code: int
):
    monkeypatch.setattr(compare_reference, "usual_folders", tuple)
    monkeypatch.setattr(compare_reference, "boot", lambda found, _cancel: found)
    bench.file("left.fd", LEFT)
    bench.file("text", "no firmware at all")
    answer = bench.json("compare", *words)
    assert (answer.code, answer.error["code"]) == (exit_code, code)
    assert bench.run("compare", *words).code == exit_code


def test_an_empty_file_is_told(bench: Bench):
    answer = bench.json("compare", *files(bench, b"", LEFT))
    assert answer.code == 7
    assert answer.error["code"].startswith("image.")


def test_names_of_images_cannot_move_the_cursor(bench: Bench):
    left = firmware([], [module(1, "A\x1b[2J", b"one")])
    right = firmware([variable("B\x1b[2J")], [module(1, "A\x1b[2J", b"two")])
    answer = bench.run("compare", *files(bench, left, right))  # which looks for escapes
    assert "A\\u001b[2J" in answer.out
    assert "B\\u001b[2J" in answer.out


def test_a_store_of_another_format_is_not_silently_left_out(bench: Bench):
    left = o.vss_image(o.vss_sample())
    answer = bench.json("compare", *files(bench, left, left.replace(b"\5\0", b"\6\0", 1)))
    assert (answer.code, answer.result["bytes_significant"]) == (1, 1)
    sides = [note.split("of the ")[1] for note in answer.result["variables"]["notes"]]
    assert sides == ["$VSS store at 0x000048 (left)", "$VSS store at 0x000048 (right)"]


def test_a_reference_and_a_boot(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    machine = Machine(FlashFile("code", "raw"), FlashFile("vars", "raw", readonly=False))
    found = Reference(machine, LEFT[0x84000:], LEFT[:0x84000])
    asked: list[str] = []

    def reference(text: str) -> Reference:
        asked.append(text)
        return found

    def boot(before: Reference, _cancel: object) -> Reference:
        assert before.store == LEFT[:0x84000]
        return Reference(machine, before.code, BOOTED[:0x84000])

    monkeypatch.setattr(compare_reference, "reference", reference)
    monkeypatch.setattr(compare_reference, "boot", boot)
    answer = bench.json("compare", "ovmf:one", bench.file("whole.fd", LEFT))
    assert answer.result["identical"] is True
    answer = bench.json("compare", "ovmf:one", "boot:ovmf:two")
    assert (answer.code, asked) == (0, ["one", "one", "two"])
    assert answer.result["variables"]["volatile"]["changed"][0]["name"] == "MTC"
    assert answer.result["right"]["source"] == "boot:ovmf:two"
