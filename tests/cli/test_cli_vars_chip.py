"""Changing a variable store on a chip: cost on the bus, and chips that do not allow it."""

from __future__ import annotations

import json

import pytest
from harness import Bench
from uefi.volumes import OVMF_4M, some_variables, variable, volume_bytes

from hwflash.uefi.find import find_stores
from hwflash.uefi.records import State


def chip_image(size: int, volume: bytes, at: int = 0) -> bytes:
    image = bytearray(b"\xff" * size)
    image[at : at + len(volume)] = volume
    return bytes(image)


def live(image: bytes) -> dict[str, bytes]:
    (found,) = find_stores(image)
    assert found.store is not None
    return {record.name: record.data for record in found.store.live}


def test_a_variable_costs_three_round_trips_more_than_its_pages(bench: Bench):
    """Bar of the house; a page that takes longer than the chip's typical time is polled."""
    bench.fill(chip_image(bench.size, bytes(volume_bytes(some_variables(), OVMF_4M))))
    trace = bench.folder / "t.jsonl"
    url = f"record+{bench.url(trace=trace)}"
    answer = bench.json("vars", "set", url, "Variable2", "--u32", "7", "-y")
    assert answer.code == 0, answer.out
    batches = [json.loads(line)["ops"] for line in trace.read_text().splitlines()[1:]]
    commands = [[op[0][:2] for op in batch if isinstance(op, list)] for batch in batches]
    first = next(index for index, batch in enumerate(commands) if "02" in batch)
    polls = [batch for batch in commands[first:] if set(batch) == {"05"}]
    pages = sum(batch.count("02") for batch in commands)
    assert 6 <= pages <= 8
    assert "20" not in {command for batch in commands for command in batch}
    assert len(commands[first:]) - len(polls) <= pages + 3


def test_each_operation_is_proven_before_the_next_is_sent(bench: Bench):
    bench.fill(chip_image(bench.size, bytes(volume_bytes(some_variables(), OVMF_4M))))
    trace = bench.folder / "t.jsonl"
    url = f"record+{bench.url(trace=trace)}"
    answer = bench.json("vars", "set", url, "Variable2", "--u32", "7", "-y")
    operations = [item for item in answer.result["operations"] if item["kind"] == "program"]
    lines = [json.loads(line) for line in trace.read_text().splitlines()[1:]]
    ready = True
    sent: list[int] = []
    for line in lines:
        programs = [op for op in line["ops"] if isinstance(op, list) and op[0][:2] == "02"]
        for op in programs:
            address = int(op[0][2:8], 16)
            starts = [item["address"] for item in operations]
            if address in starts:
                assert ready, "the operation before it was not seen to be finished"
                sent.append(address)
        status = [
            answer
            for op, answer in zip(line["ops"], line["answers"], strict=False)
            if isinstance(op, list) and op[0] == "05"
        ]
        if status:
            ready = int(status[-1], 16) & 1 == 0
    assert sent == [item["address"] for item in operations]


MY80 = """
maker = "Example"
[part.MY80]
jedec_id = "ef4014"
size = "1M"
page_size = 256
voltage = [2.7, 3.6]
read_max_mhz = 50
max_mhz = 104
erase.4K = { opcode = 0x20, ms = [45, 400] }
page_program_ms = [0.4, 3]
status.read = { 1 = 0x05 }
status.write = { 1 = 0x01 }
status.write_ms = [10, 15]
datasheet = "none: made for this test"
quirks = ["no-reprogram"]
"""


def test_a_chip_with_on_die_ecc_is_refused(bench: Bench):
    """Its pages cannot be programmed a second time, which every state byte needs."""
    image = bench.fill(chip_image(bench.size, bytes(volume_bytes(some_variables(), OVMF_4M))))
    words = ("--chip-file", bench.file("my80.toml", MY80), "--chip", "MY80", "-y")
    answer = bench.run("vars", "set", bench.url(), "Variable1", "--u8", "1", *words)
    assert answer.code == 4
    assert "[chip.no-reprogram]" in answer.err
    assert "nothing was changed" in answer.err
    assert bench.content == image


@pytest.mark.slow
def test_on_64_kib_erase_blocks_variables_are_appended_and_the_store_not_rewritten(tmp_path):
    bench = Bench(tmp_path, "s25fl128s")
    dead = [variable(f"D{number}", bytes(900), state=State.DELETED) for number in range(40)]
    volume = bytes(volume_bytes([*some_variables(), *dead]))
    image = bench.fill(chip_image(bench.size, volume, 0x400000))
    answer = bench.run("vars", "set", bench.url(), "Variable1", "--u8", "1", "-y")
    assert answer.code == 0, answer.err
    assert live(bench.content)["Variable1"] == b"\1"
    bench.fill(image)
    answer = bench.run("vars", "reclaim", bench.url(), "-y")
    assert answer.code == 7
    assert "[uefi.erase-block]" in answer.err
    assert bench.content == image


def test_a_protected_chip_is_refused_before_anything_is_sent(bench: Bench):
    image = bench.fill(chip_image(bench.size, bytes(volume_bytes(some_variables(), OVMF_4M))))
    bench.set_registers({1: 0x1C})
    answer = bench.run("vars", "set", bench.url(), "Variable1", "--u8", "1", "-y")
    assert answer.code == 5
    assert bench.content == image


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_a_person_who_does_not_say_yes_changes_nothing(bench: Bench, answer: str):
    image = bench.fill(chip_image(bench.size, bytes(volume_bytes(some_variables(), OVMF_4M))))
    said = bench.run("vars", "set", bench.url(), "Variable1", "--u8", "1", typed=answer)
    assert said.code == 130
    assert "Write to W25Q80" in said.err
    assert bench.content == image
