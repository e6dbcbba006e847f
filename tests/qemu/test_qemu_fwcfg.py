"""fw_cfg over qtest, with a device written from its specification."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fwcfg_device import Device
from hypothesis import given
from hypothesis import strategies as st
from platform_data import attempt, content, items

from hwflash.errors import EnvironmentFault, ReferenceFailed
from hwflash.qemu.fwcfg import FwCfg, FwCfgFile, file_name, named, parse_directory
from hwflash.qemu.guest_memory import GuestMemory


def opened(device: Device, tmp_path: Path, family: Any = "q35", size: int = 256 << 20) -> FwCfg:
    qmp = SimpleNamespace(execute=lambda name, **args: save(device, **args))
    memory = GuestMemory(device, qmp, tmp_path, family, size)  # type: ignore[arg-type]
    return FwCfg(device, memory, family)  # type: ignore[arg-type]


def save(device: Device, val: int, size: int, filename: str) -> None:
    if device.fault == "no-file":
        return
    data = device.ram.read(val, size)
    Path(filename).write_bytes(data[:-1] if device.fault == "short" else data)


@pytest.mark.parametrize("family", ["q35", "i440fx", "virt"])
def test_files_by_port_and_by_dma(tmp_path: Path, family: str) -> None:
    device = Device(mapped=family == "virt")
    view = opened(device, tmp_path, family)
    assert (view.signature(), view.features(), view.dma_signature()) == (b"QEMU", 3, b"QEMU CFG")
    files = view.files()
    assert [item.name for item in files] == list(items())
    script = view.file("etc/table-loader")
    assert script == FwCfgFile("etc/table-loader", 0x2C, 4096)
    assert view.read_port(0x2C, 4096) == view.read_dma(0x2C, 4096) == content("etc/table-loader")
    assert view.content(view.file("etc/system-states")) == bytes.fromhex("800000818280")


def test_a_long_file_comes_in_pieces_and_ram_is_put_back(tmp_path: Path) -> None:
    device = Device()
    long = bytes(range(256)) * 0x801
    device.files["long"] = (0x60, long)
    before = {address: bytes(page) for address, page in device.ram.pages.items()}
    view = opened(device, tmp_path)
    assert view.content(view.file("long")) == long
    assert sum(line.startswith(b"outl 0x518") for line in device.lines) == 3
    pages = {address: bytes(page) for address, page in device.ram.pages.items() if any(page)}
    assert pages == {address: page for address, page in before.items() if any(page)}
    assert list(tmp_path.iterdir()) == []


def test_without_dma_bytes_come_by_the_port(tmp_path: Path) -> None:
    device = Device()
    device.items[1] = b"\1\0\0\0"
    view = opened(device, tmp_path)
    assert view.content(view.file("etc/table-loader")) == content("etc/table-loader")
    assert not any(line.startswith(b"outl") for line in device.lines)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("absent", "fwcfg"), ("error", "fwcfg-dma"), ("dead", "fwcfg-dma"), ("short", "memory")],
)
def test_a_device_that_fails(tmp_path: Path, fault: str, code: str) -> None:
    device = Device()
    device.files["long"] = (0x60, bytes(0x20000))
    device.fault = fault
    view = opened(device, tmp_path)
    with pytest.raises(ReferenceFailed) as caught:
        view.content(view.file("long"))
    assert caught.value.code == f"reference.{code}"
    if fault in ("error", "dead"):
        assert not any(device.ram.read(0x20000, 16)), "RAM is put back all the same"


def test_no_file_from_qemu(tmp_path: Path) -> None:
    device = Device()
    device.fault = "no-file"
    view = opened(device, tmp_path)
    with pytest.raises(EnvironmentFault) as caught:
        view.read_dma(0x23, 131072)
    assert caught.value.code == "environment.unwritable"


def test_answers_that_are_none(tmp_path: Path) -> None:
    qtest = SimpleNamespace(execute=lambda lines: [b"what"] * len(lines))
    view = opened(qtest, tmp_path)  # type: ignore[arg-type]
    for look in (view.signature, view.dma_signature, lambda: view.read_dma(1, 4)):
        with pytest.raises(ReferenceFailed) as caught:
            look()
        assert caught.value.code in ("reference.fwcfg", "reference.memory")


@pytest.mark.parametrize(
    ("address", "size"), [(-1, 4), (256 << 20, 1), ((256 << 20) - 2, 4), (0xFFC00000, 16)]
)
def test_only_ram_is_touched(tmp_path: Path, address: int, size: int) -> None:
    device = Device()
    memory = opened(device, tmp_path)._memory
    for touch in (lambda: memory.read(address, size), lambda: memory.write(address, bytes(size))):
        with pytest.raises(ReferenceFailed) as caught:
            touch()
        assert caught.value.code == "reference.memory-range"
    assert device.lines == []
    assert memory.read(0, 0) == b""


def test_ram_ends_where_devices_begin(tmp_path: Path) -> None:
    assert opened(Device(), tmp_path, size=64 << 30)._memory.ram.end == 2 << 30
    assert opened(Device(), tmp_path, "virt")._memory.ram.end == (1 << 30) + (256 << 20)


# --- the directory ------------------------------------------------------------------------------


def entry(name: bytes = b"a", select: int = 0x20, size: int = 1) -> bytes:
    return size.to_bytes(4, "big") + select.to_bytes(2, "big") + bytes(2) + name.ljust(56, b"\0")


def directory(*entries: bytes, count: int | None = None) -> bytes:
    return (len(entries) if count is None else count).to_bytes(4, "big") + b"".join(entries)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0\0\0", directory(count=1), directory(entry(), count=2),
        directory(count=0xFFFFFFFF), directory(count=0x3FE1), directory(entry()[:-1]),
        directory(entry(b"x" * 56)), directory(entry(b"")), directory(entry(b"\x1b[31m")),
        directory(entry(b"\xff")), directory(entry(select=0x19)), directory(entry(select=0x4000)),
        directory(entry(), entry(select=0x21)),
    ],
)  # fmt: skip
def test_a_directory_that_cannot_be(data: bytes) -> None:
    with pytest.raises(ReferenceFailed) as caught:
        parse_directory(data)
    assert caught.value.code == "reference.fwcfg-directory"


@pytest.mark.parametrize("count", [b"\xff\xff\xff\xff", b"\0\0\x40\0"])
def test_an_absurd_count_is_not_read(tmp_path: Path, count: bytes) -> None:
    device = Device()
    device.items[0x19] = count
    with pytest.raises(ReferenceFailed) as caught:
        opened(device, tmp_path).files()
    assert caught.value.code == "reference.fwcfg-directory"
    assert len(device.lines) < 20


def test_an_absurd_size_is_not_read(tmp_path: Path) -> None:
    device = Device()
    device.items[0x19] = directory(entry(size=0xFFFFFFFF))
    view = opened(device, tmp_path)
    (file,) = view.files()
    for look in (view.content, lambda item: view.read_port(item.select, item.size)):
        with pytest.raises(ReferenceFailed) as caught:
            look(file)
        assert caught.value.code == "reference.fwcfg-size"
    assert len(device.lines) < 200


@given(st.binary(max_size=300))
def test_any_directory(data: bytes) -> None:
    found = attempt(lambda: parse_directory(data), "reference.fwcfg-directory")
    assert found is None or len(found) == int.from_bytes(data[:4], "big")


@given(st.binary(min_size=56, max_size=56))
def test_any_name(field: bytes) -> None:
    name = attempt(lambda: file_name(field, "reference.loader"), "reference.loader")
    assert name is None or name.encode() == field[: len(name)]


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ReferenceFailed, match="no file \\\\u001b") as caught:
        named((FwCfgFile("etc/e820", 0x20, 1),), "\x1b")
    assert (caught.value.code, caught.value.context["known"]) == (
        "reference.fwcfg-file", ["etc/e820"]
    )  # fmt: skip
