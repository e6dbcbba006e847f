"""Power cuts and damaged stores, judged by the firmware itself; see docs/qemu-power-cuts.md.

A quick selection; ``tests/foreign/qemu_cut_table.py`` measures all of it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import require, require_qemu_arm
from qemu_cut_table import FIRMWARE, Firmware

from hwflash.qemu.check import Bench, Step
from hwflash.qemu.check_recovery import measured, recovery, rewrite
from hwflash.qemu.check_rescue import damaged_stores, rescued
from hwflash.qemu.cut_changes import firmwares_order, rewrites
from hwflash.qemu.cut_judge import Board
from hwflash.uefi.flashops import Erase

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

FINE = "boots with everything"


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Guests and images have a folder of their own, which must be empty in the end."""
    place = tmp_path / "guests"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield
    assert list(place.iterdir()) == []


def bench(name: str) -> Bench:
    firmware: Firmware = FIRMWARE[name]
    require(firmware.there, f"firmware {name}")
    machine = firmware.machine
    if machine.architecture == "aarch64":
        require_qemu_arm()
    require(shutil.which(machine.program), machine.program)
    return Bench(machine)


def alone(step: Step) -> str:
    return step.found.rpartition("switched on at once: ")[2]


def test_a_reclaim_of_aavmf_is_lost_or_recovered() -> None:
    steps = list(recovery(bench("AAVMF"), cuts=8))
    assert [step for step in steps if not step.ok] == []
    cuts = {step.name: step for step in steps if step.name.endswith("-recovered")}
    assert len(cuts) == 8
    lost = [step for step in cuts.values() if alone(step) != FINE]
    assert lost, "some cuts lose everything when the board is switched on at once"
    for step in lost:
        assert re.search(r"\((volume|store) header erased\)", step.expected), step
        assert re.fullmatch(r"\d+ of \d+ variables are lost", alone(step)), step
    assert steps[-1].name == "survived"
    assert steps[-1].found == f"8 of 8; {8 - len(lost)} of 8 without one"


def test_ovmf_wipes_what_a_recovery_brings_back() -> None:
    board = Board(bench("OVMF 2M"))
    change = firmwares_order(board.warm(), board.layout)
    (cut,) = [cut for cut in change.cuts(9) if cut.phase == "volume header erased"]
    (row,) = measured(board, change, [cut])
    assert row.cut.image[:0x1000] != change.start[:0x1000]
    assert row.alone == "the firmware crashes"
    assert row.recovered == ""


def test_ovmf_boots_with_a_rewrite_that_is_cut() -> None:
    """The moments of danger: a closed gate, an erased block, a torn one, the last one."""
    board = Board(bench("OVMF 2M"))
    warm = board.warm()
    (change,) = [item for item in rewrites(warm, board.layout) if item.name == "rewrite"]
    erases = [step for step in change.operations if isinstance(step, Erase)]
    assert all(step.address != 0 for step in erases)
    dangerous = re.compile("spare complete|clear the start id|over the store|visible")
    cuts = [cut for cut in change.cuts(40) if dangerous.search(cut.phase)]
    cuts = list({cut.phase: cut for cut in cuts}.values())[:3]  # the last of each phase
    rows = list(measured(board, change, cuts, recovering=False))
    assert [(row.cut.phase, row.cut.how, row.alone) for row in rows if row.alone] == []
    assert len({row.cut.phase for row in rows}) == 3


def test_aavmf_boots_with_every_change_that_is_cut() -> None:
    steps = list(rewrite(bench("AAVMF"), cuts=2))
    assert [step for step in steps if not step.ok] == []
    assert len(steps) == 2 * 3 + 2


def test_ovmf_boots_what_it_cannot_use_after_a_rescue() -> None:
    board = Board(bench("OVMF 2M"))
    chosen = {"both-headers-erased": ("crashes", "headers"), "two-live-records": ("hangs", "keep")}
    damages = [item for item in damaged_stores(board) if item.name in chosen]
    for row in rescued(board, damages):
        how, choice = chosen.pop(row.damage.name)
        assert row.alone.startswith(f"the firmware {how}"), row.damage
        assert row.after == ""
        assert row.choice == choice
    assert chosen == {}
