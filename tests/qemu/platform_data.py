"""What was recorded of QEMU's fw_cfg and of OVMF's memory; see tests/data/README.md."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from hwflash.errors import ReferenceFailed
from hwflash.qemu.acpi import Table, newest, read_tables
from hwflash.qemu.acpi import find_rsdps as find

DATA = Path(__file__).parents[1] / "data" / "platform" / "ovmf-q35.json.xz"
PAGE = 0x1000
#: Where OVMF has put things in the recorded memory.
RSDP_PAGE, GUID_PAGE, SCRIPT, SCRIPT_COPY = 0xF77D000, 0xF7FC000, 0xF766000, 0xF7E9000
GUID_ADDRESS = GUID_PAGE + 0x28


@cache
def recorded() -> dict[str, Any]:
    return json.loads(lzma.decompress(DATA.read_bytes()))


@cache
def items() -> dict[str, tuple[int, bytes]]:
    """Selector and content of every fw_cfg file."""
    return {
        name: (item["select"], bytes.fromhex(item["data"] or "").ljust(item["size"], b"\0"))
        for name, item in recorded()["fw_cfg"].items()
    }


@cache
def _pages() -> dict[int, bytes]:
    return {
        int(address, 16): bytes.fromhex(data).ljust(PAGE, b"\0")
        for address, data in recorded()["memory"].items()
    }


def content(name: str) -> bytes:
    return items()[name][1]


def smm_script() -> bytes:
    return bytes.fromhex(recorded()["smm_boot_script"])


class Ram:
    """Memory: the recorded pages, zeros elsewhere."""

    def __init__(self, size: int = 256 << 20) -> None:
        self.size = size
        self.pages = {address: bytearray(data) for address, data in _pages().items()}

    def read(self, address: int, size: int) -> bytes:
        if address + size > self.size:
            raise ReferenceFailed("no RAM", code="reference.memory-range")
        found = bytearray()
        while size:
            at = address % PAGE
            count = min(size, PAGE - at)
            found += self.pages.get(address - at, bytes(PAGE))[at : at + count]
            address, size = address + count, size - count
        return bytes(found)

    def write(self, address: int, data: bytes) -> None:
        while data:
            at = address % PAGE
            count = min(len(data), PAGE - at)
            self.pages.setdefault(address - at, bytearray(PAGE))[at : at + count] = data[:count]
            address, data = address + count, data[count:]


def attempt(look: Callable[[], Any], *codes: str) -> Any:
    """What ``look`` gives; None when it refuses, with one of these codes and a clean message."""
    try:
        return look()
    except ReferenceFailed as exc:
        refusal = exc
    assert refusal.code in codes
    assert refusal.message.isprintable()
    return None


def tables(ram: Ram | None = None) -> tuple[Table, ...]:
    ram = ram or Ram()
    return read_tables(ram, newest(find(ram.read(RSDP_PAGE, PAGE), RSDP_PAGE)))
