"""The check ``headers`` with stand-ins for firmware: it must notice what is not as was said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import pytest
from fake_guest import LAYOUT
from firmware_images import store_image

from hwflash.qemu import check_headers as module
from hwflash.qemu.check import Bench
from hwflash.qemu.check_headers import headers, judged
from hwflash.qemu.cut_judge import MTC, Board, PowerOn
from hwflash.uefi.areas import KnownLayout
from hwflash.uefi.corruptions import ELEVEN, SEALED
from hwflash.uefi.find import find_stores
from hwflash.uefi.flashops import Erase, Program
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window

NAMES = {item.name: item for item in (*ELEVEN, *SEALED)}


@dataclass
class Machine:
    """What the check asks of a machine."""

    family: str = "pc"
    secure: bool = False


@cache
def warm() -> bytes:
    """A store that firmware has booted with once."""
    return boots(store_image(LAYOUT)).image


def boots(image: bytes) -> PowerOn:
    """A boot that counts itself and keeps the rest."""
    (found,) = find_stores(image)
    nvram = Nvram(Window(image), found)
    (count,) = [item.data for item in nvram.store.live if item.key == MTC] or [bytes(4)]
    value = (int.from_bytes(count, "little") + 1).to_bytes(4, "little")
    VariableServices(nvram).set_variable(*MTC, 7, value)
    return PowerOn("shell", nvram.flash.window().data, (), (), 1.0)


def stops(image: bytes) -> PowerOn:
    return PowerOn("crash", image, (), (), 1.0)


def wipes(image: bytes) -> PowerOn:
    """Erases all of the volume but for its header, as OVMF does."""
    steps = (*(Erase(at, 0x1000) for at in range(0, LAYOUT.length, 0x1000)), Program(0, b"\0" * 72))
    return PowerOn("crash", b"\xff" * LAYOUT.length, steps, (), 1.0)


class FakeBoard:
    """A board whose firmware does one thing with a healthy header and another with a bad one."""

    layout: KnownLayout = LAYOUT

    def __init__(self, bad: Callable[[bytes], PowerOn], good: Callable[[bytes], PowerOn] = boots):
        self.bad, self.good = bad, good

    def warm(self) -> bytes:
        return warm()

    def switch_on(self, image: bytes) -> PowerOn:
        found = find_stores(image)
        return (self.good if found and found[0].healthy else self.bad)(image)


def rows(board: FakeBoard, *names: str) -> list[module.Judged]:
    chosen = [NAMES[name] for name in names]
    return list(judged(cast("Board", board), cast("Any", Machine()), chosen))


def test_a_firmware_that_wipes_is_foretold_and_the_repaired_store_boots():
    (row,) = rows(FakeBoard(wipes), "volume-checksum")
    assert (row.fate, row.left, row.choice, row.after) == ("crash", 0, "headers", "")
    assert row.ours > 20
    assert row.told == ("volume.checksum",)
    assert row.ftw == "work space erased, spare area erased"
    assert row.foretold


def test_what_the_firmware_leaves_in_the_flash_is_counted():
    (row,) = rows(FakeBoard(stops), "store-state")
    assert (row.fate, row.left) == ("crash", row.ours)
    assert row.ftw == "work space untouched, spare area untouched"


def test_a_firmware_that_keeps_what_it_should_lose_was_not_foretold():
    def lenient(image: bytes) -> PowerOn:
        return boots(warm()[:0x48] + image[0x48:])

    (row,) = rows(FakeBoard(lenient), "volume-checksum")
    assert row.fate == "kept"
    assert not row.foretold


def test_a_firmware_that_stops_where_nothing_was_told_was_not_foretold():
    (row,) = rows(FakeBoard(boots, stops), "volume-zero-vector-sealed")
    assert row.fate == "crash"
    assert row.told == ()
    assert not row.foretold
    assert row.after == "the firmware crashes"


@pytest.mark.parametrize(("good", "ok"), [(boots, True), (stops, False)])
def test_every_corruption_gives_two_steps(good: Any, ok: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "Board", lambda bench: FakeBoard(wipes, good))
    steps = list(headers(Bench(cast("Any", Machine())), sealed=False))
    assert len(steps) == 2 * len(ELEVEN)
    repaired = [step for step in steps if step.name.endswith("-repaired")]
    assert [step.ok for step in repaired] == [ok] * len(ELEVEN)
