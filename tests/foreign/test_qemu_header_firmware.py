"""Destroyed headers, judged by the firmware itself; see docs/header-corruptions.md.

A quick selection; ``tests/foreign/qemu_header_table.py`` measures all of it.
"""

from __future__ import annotations

import pytest
from test_qemu_recovery import bench

from hwflash.qemu.check_headers import Judged, judged
from hwflash.qemu.cut_judge import Board
from hwflash.uefi.corruptions import ELEVEN, SEALED

pytestmark = [pytest.mark.foreign, pytest.mark.slow]

NAMES = {item.name: item for item in (*ELEVEN, *SEALED)}


def rows(firmware: str, *names: str) -> dict[str, Judged]:
    made = bench(firmware)
    found = judged(Board(made), made.machine, [NAMES[name] for name in names])
    return {row.corruption.name: row for row in found}


def test_aavmf_empties_its_store_or_crashes_as_foretold_and_boots_after_a_repair() -> None:
    found = rows("AAVMF", "volume-checksum", "volume-guid-sealed", "store-size", "store-format")
    assert {name: row.fate for name, row in found.items()} == {
        "volume-checksum": "emptied", "volume-guid-sealed": "emptied", "store-size": "emptied",
        "store-format": "crash",
    }  # fmt: skip
    for row in found.values():
        assert row.foretold, row
        assert (row.choice, row.after) == ("headers", "")
    assert found["store-size"].left == 0
    assert found["store-format"].left == found["store-format"].ours


def test_ovmf_erases_all_for_a_block_size_that_no_checksum_tells_of() -> None:
    (row,) = rows("OVMF 2M", "block-map-0-sealed").values()
    assert (row.fate, row.left) == ("crash", 0)
    assert "spare area erased" in row.ftw
    assert row.foretold, row
    assert (row.choice, row.after) == ("headers", "")
