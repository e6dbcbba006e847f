"""The exporter's look at whether a programmer is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from labgrid.remote.exporter import ExporterError

from hwflash_labgrid.exporter import HwflashProgrammerExport, present


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """sysfs with an FT232H, something else, and a hub."""
    for name, ids, serial in (
        ("3-1.2", ("0403", "6014"), "FT6ABCDE"),
        ("3-1.3", ("0403", "6001"), "OTHER"),
        ("3-1", ("05e3", "0610"), ""),
        ("3-1.2:1.0", ("", ""), ""),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for file, text in zip(("idVendor", "idProduct", "serial"), (*ids, serial), strict=True):
            if text:
                (folder / file).write_text(f"{text}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("ftdi:bus=3,path=1.2?cs=1", True),
        ("ftdi:bus=3,path=1.3", False),
        ("ftdi:bus=3,path=1.4", False),
        ("ftdi:bus=4,path=1.2", False),
        ("ftdi:serial=FT6ABCDE", True),
        ("ftdi://ftdi:232h:FT6ABCDE/1", True),
        ("ftdi://ftdi:232h:FT000000/1", False),
        ("ftdi://ftdi:232h/1", True),
        ("ftdi://::/1", True),
        ("serprog:///dev/null?baud=9600", True),
        ("serprog:///dev/nowhere", False),
        ("serprog://box:2000", True),
        ("sim://w25q128jv", True),
        ("sim://w25q128jv?image=/nowhere/chip.bin", False),
    ],
)
def test_present(url: str, there: bool, devices: Path) -> None:
    assert present(url, devices) is there


def test_a_programmer_that_goes_is_not_available(tmp_path: Path) -> None:
    folder = tmp_path / "chips"
    folder.mkdir()
    url = f"sim://w25q80dv?image={folder}/chip.bin"
    entry = {"cls": "HwflashProgrammer", "params": {"url": url, "board": "one"}, "avail": False}
    export = HwflashProgrammerExport(entry, host="alpha", proxy="gate", proxy_required=True)
    assert export.poll()
    assert export.avail
    assert export.cls == "NetworkHwflashProgrammer"
    assert export.args == {"host": "alpha", "url": url, "board": "one", "state_dir": None}
    assert export.extra == {"proxy": "gate", "proxy_required": True}
    assert not export.poll()
    folder.rmdir()
    assert export.poll()
    assert not export.avail


@pytest.mark.parametrize(
    "params", [{"uri": "sim://w25q80dv"}, {"url": 5}, {"url": "sim://w25q80dv", "clock": 1}]
)
def test_a_mistake_in_the_configuration_is_named(params: dict[str, object]) -> None:
    entry = {"cls": "HwflashProgrammer", "params": params, "avail": False}
    with pytest.raises(ExporterError, match="takes url, board and state_dir, not"):
        HwflashProgrammerExport(entry, host="alpha", proxy="gate", proxy_required=True)
