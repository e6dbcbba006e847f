"""ACPI tables in memory that OVMF has made, and in memory that nobody has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from platform_data import PAGE, RSDP_PAGE, Ram, attempt, content, tables

from hwflash.errors import ReferenceFailed
from hwflash.qemu.acpi import (
    Rsdp,
    Table,
    dsdt_of,
    event_port,
    facs_of,
    find_rsdps,
    make_table,
    newest,
    one,
    read_table,
    read_tables,
    sleep_port,
    split_tables,
)

XSDT, SSDT = 0xF77C0E8, 0xF776000


def table(signature: bytes = b"TEST", body: bytes = b"", length: int | None = None) -> bytes:
    size = 36 + len(body) if length is None else length
    data = bytearray(signature + size.to_bytes(4, "little") + bytes(28) + body)
    data[9] = -sum(data) & 0xFF
    return bytes(data)


def rsdp(revision: int = 2, rsdt: int = 0x1000, xsdt: int = 0x2000, length: int = 36) -> bytes:
    first = bytearray(b"RSD PTR \0OEMID " + bytes([revision]) + rsdt.to_bytes(4, "little"))
    first[8] = -sum(first) & 0xFF
    if revision < 2:
        return bytes(first)
    whole = first + length.to_bytes(4, "little") + xsdt.to_bytes(8, "little") + bytes(4)
    whole[32] = -sum(whole) & 0xFF
    return bytes(whole)


def test_the_tables_of_ovmf() -> None:
    found = find_rsdps(Ram().read(RSDP_PAGE, PAGE), RSDP_PAGE)
    assert found == [
        Rsdp(RSDP_PAGE, 0, 0xF77C000, 0, "BOCHS"),
        Rsdp(RSDP_PAGE + 0x14, 2, 0xF77C074, XSDT, "BOCHS"),
    ]
    every = tables()
    assert [item.name for item in every] == [
        "XSDT BXPC", "FACP BXPC", "APIC BXPC", "SSDT VMGENID", "HPET BXPC", "MCFG BXPC",
        "WAET BXPC", "FACS", "DSDT BXPC",
    ]  # fmt: skip
    assert all(item.ok for item in every)
    assert every[3].address == SSDT
    fadt = one(every, "FACP")
    assert (sleep_port(fadt), event_port(fadt)) == (0x604, 0x620)
    assert (facs_of(fadt), dsdt_of(fadt)) == (every[7].address, every[8].address)
    older = read_tables(Ram(), found[0])
    assert older[0].name == "RSDT BXPC"
    assert {item.data for item in older[1:]} == {item.data for item in every[1:]}


def test_qemus_file_before_the_firmware() -> None:
    found = list(split_tables(content("etc/acpi/tables")))
    assert [item.signature for item in found] == [
        "FACS", "DSDT", "FACP", "APIC", "SSDT", "HPET", "MCFG", "WAET", "RSDT"
    ]  # fmt: skip
    assert [item.signature for item in found if item.ok] == ["FACS"], "checksums come later"


def test_a_changed_byte_is_noticed() -> None:
    ram = Ram()
    ram.write(SSDT + 100, b"\x55")
    assert [item.name for item in tables(ram) if not item.ok] == ["SSDT VMGENID"]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (rsdp(), 1), (rsdp(0), 1), (rsdp(0) + rsdp(), 2), (b"", 0), (b"RSD PTR ", 0),
        (rsdp()[:35], 0), (rsdp(0)[:19], 0), (rsdp(length=20), 0), (rsdp(length=37), 0),
        (rsdp(length=0xFFFFFFFF), 0), (b"\1" + rsdp(), 0),
        (rsdp()[:8] + b"\0" + rsdp()[9:], 0), (rsdp()[:32] + b"\1" + rsdp()[33:], 0),
    ],
)  # fmt: skip
def test_root_pointers(data: bytes, count: int) -> None:
    assert len(find_rsdps(data, 0x1000)) == count


def test_no_root_pointer() -> None:
    with pytest.raises(ReferenceFailed) as caught:
        newest([])
    assert caught.value.code == "reference.acpi-rsdp"


@pytest.mark.parametrize(
    ("root", "code"),
    [
        (table(b"RSDT"), "acpi-root"), (table(b"XSDT", bytes(7)), "acpi-root"),
        (table(b"XSDT", bytes(8 * 1025)), "acpi-root"),
        (table(b"XSDT", (1 << 40).to_bytes(8, "little")), "memory-range"),
        (table(b"XSDT", bytes(8)), "acpi-table"), (table(b"XSDT", length=35), "acpi-table"),
        (table(b"XSDT", length=0xFFFFFFFF), "acpi-table"), (bytes(64), "acpi-table"),
        (table(b"xsdt"), "acpi-table"), (table(b"\xff\xff\xff\xff"), "acpi-table"),
    ],
)  # fmt: skip
def test_a_root_that_is_none(root: bytes, code: str) -> None:
    ram = Ram()
    ram.write(0x2000, root)
    with pytest.raises(ReferenceFailed) as caught:
        read_tables(ram, Rsdp(0x1000, 2, 0, 0x2000, ""))
    assert caught.value.code == f"reference.{code}"
    assert caught.value.message.isprintable()


def test_a_root_pointer_that_points_nowhere() -> None:
    with pytest.raises(ReferenceFailed, match="names no table"):
        read_tables(Ram(), Rsdp(0, 0, 0, 0, ""))


def test_the_one_table() -> None:
    two = (Table(0, "SSDT", "A", b""), Table(0, "SSDT", "B", b""))
    assert one(two, "SSDT", "B") is two[1]
    for words in (("SSDT",), ("SSDT", "C"), ("FACP",)):
        with pytest.raises(ReferenceFailed) as caught:
            one(two, *words)
        assert caught.value.code == "reference.acpi-missing"


def test_a_short_table_has_no_later_fields() -> None:
    fadt = make_table(table(b"FACP", bytes(80)))
    assert (facs_of(fadt), dsdt_of(fadt), sleep_port(fadt)) == (0, 0, 0)
    assert make_table(table(b"FACS", bytes(28))).ok


@given(st.binary(max_size=100), st.integers(0, 0xFFFFFFFF))
def test_any_memory(data: bytes, address: int) -> None:
    ram = Ram()
    ram.write(0x2000, b"XSDT" + data)
    codes = ("reference.acpi-root", "reference.acpi-table", "reference.memory-range")
    attempt(lambda: read_tables(ram, Rsdp(0, 2, 0, 0x2000, "")), *codes)
    attempt(lambda: read_table(ram, address), *codes)
    find_rsdps(b"RSD PTR " + data, 0)
    assert sum(len(item.data) for item in split_tables(data)) <= len(data)
