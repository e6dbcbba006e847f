"""The linker/loader script: QEMU's own, and what no QEMU writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from debug_logs import BOOT, log
from hypothesis import given
from hypothesis import strategies as st
from platform_data import GUID_ADDRESS, GUID_PAGE, attempt, content, items, tables

from hwflash.errors import ReferenceFailed
from hwflash.qemu import debuglog_acpi
from hwflash.qemu.acpi import split_tables
from hwflash.qemu.loader import (
    SCRIPT,
    AddChecksum,
    AddPointer,
    Allocate,
    Command,
    Unknown,
    WritePointer,
    Written,
    link,
    parse_script,
    told_places,
)

FILES = {name: data for name, (_, data) in items().items()}
REAL = parse_script(content(SCRIPT))
#: Files of a small script of our own.
SMALL = {"t": bytes(64), "p": bytes(32), "w": bytes(8)}
HEAD = (Allocate("t", 16, 1), Allocate("p", 4096, 1))


def field(name: str, size: int = 56) -> bytes:
    return name.encode().ljust(size, b"\0")


def raw(number: int, body: bytes = b"") -> bytes:
    return (number.to_bytes(4, "little") + body).ljust(128, b"\0")


def u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def test_qemus_own_script_in_words() -> None:
    assert len(REAL) == 32
    assert [item.text for item in REAL[:4]] == [
        "allocate etc/acpi/rsdp below 1 MiB, alignment 16",
        "allocate etc/vmgenid_guid anywhere, alignment 4096",
        "allocate etc/acpi/tables anywhere, alignment 64",
        "checksum of etc/acpi/tables[0x40+0x2028] at 0x49",
    ]
    assert REAL[9:11] == (
        WritePointer("etc/vmgenid_addr", "etc/vmgenid_guid", 0, 40, 8),
        AddPointer("etc/acpi/tables", "etc/vmgenid_guid", 0x21FE, 4),
    )
    assert REAL[24:] == (Unknown(0),) * 8
    assert REAL[24].text == "padding"


def test_the_firmwares_log_tells_the_same_commands() -> None:
    """Recorded with the same QEMU: a DEBUG build says what it carried out."""
    told = [
        event
        for event in log(BOOT).events
        if isinstance(
            event,
            (
                debuglog_acpi.Allocate,
                debuglog_acpi.AddPointer,
                debuglog_acpi.AddChecksum,
                debuglog_acpi.WritePointer,
            ),
        )
    ]
    ours = [item for item in REAL if not isinstance(item, Unknown)]
    assert [event.command for event in told] == ours  # fmt: skip


def test_carried_out_it_gives_what_the_firmware_has_in_memory() -> None:
    places = told_places(REAL, FILES)
    assert places == {"etc/vmgenid_guid": GUID_PAGE}
    linked = link(REAL, FILES, places)
    ours = {table.name: table for table in split_tables(bytes(linked.blobs["etc/acpi/tables"]))}
    assert all(table.ok for table in ours.values())
    memory = {table.name: table for table in tables()}
    # The firmware has put these two together with addresses of its own.
    for name in set(ours) - {"FACP BXPC", "RSDT BXPC"}:
        assert ours[name].data == memory[name].data, name
    assert linked.written == [
        Written("etc/vmgenid_addr", 0, GUID_ADDRESS.to_bytes(8, "little"))
    ]  # fmt: skip
    assert linked.written[0].value == GUID_ADDRESS
    assert sum(linked.blobs["etc/acpi/rsdp"]) & 0xFF == 0
    assert 0xE0000 <= linked.addresses["etc/acpi/rsdp"] < 0x100000
    rsdt = int.from_bytes(linked.blobs["etc/acpi/rsdp"][16:20], "little")
    assert rsdt == linked.addresses["etc/acpi/tables"] + ours["RSDT BXPC"].address
    assert len(linked.skipped) == 8


def test_before_the_firmware_has_run_nothing_is_told() -> None:
    assert told_places(REAL, FILES | {"etc/vmgenid_addr": bytes(8)}) == {}
    assert told_places(REAL, {}) == {}


def test_entries_that_are_no_command_are_skipped() -> None:
    data = raw(0) + raw(7, b"\xff" * 124) + raw(0xFFFFFFFF)
    found = parse_script(data)
    assert found == (Unknown(0), Unknown(7), Unknown(0xFFFFFFFF))
    assert [item.text for item in found[1:]] == ["unknown command 7", "unknown command 4294967295"]
    assert link(found, {}).skipped == list(found)


def test_every_command_from_its_bytes() -> None:
    assert parse_script(
        raw(1, field("t") + u32(16) + b"\2")
        + raw(2, field("t") + field("p") + u32(4) + b"\4")
        + raw(3, field("t") + u32(9, 0, 64))
        + raw(4, field("w") + field("p") + u32(0, 40) + b"\x08")
    ) == (
        Allocate("t", 16, 2), AddPointer("t", "p", 4, 4), AddChecksum("t", 9, 0, 64),
        WritePointer("w", "p", 0, 40, 8),
    )  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        b"\0", content(SCRIPT)[:-1], raw(1, b"x" * 56), raw(1), raw(2, field("t")),
        raw(4, field("t\x1b") + field("p")), raw(3, b"\xff" + field("t", 55)),
    ],
)  # fmt: skip
def test_a_script_that_cannot_be(data: bytes) -> None:
    with pytest.raises(ReferenceFailed) as caught:
        parse_script(data)
    assert caught.value.code == "reference.loader"
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Allocate("t", 16, 1), "allocated before"),
        (Allocate("w", 0, 1), "power of two"),
        (Allocate("w", 3, 1), "power of two"),
        (Allocate("w", 1, 9), "no such zone"),
        (Allocate("gone", 1, 1), "no such file"),
        (AddPointer("w", "p", 0, 4), "w is not allocated"),
        (AddPointer("t", "w", 0, 4), "w is not allocated"),
        (AddPointer("t", "p", 61, 4), "beyond the file"),
        (AddPointer("t", "p", 0xFFFFFFFF, 8), "beyond the file"),
        (AddPointer("t", "p", 0, 3), "no pointer has 3 bytes"),
        (AddPointer("t", "p", 0, 0), "no pointer has 0 bytes"),
        (AddPointer("t", "p", 0, 2), "does not fit in 2 bytes"),
        (AddChecksum("t", 64, 0, 1), "beyond the file"),
        (AddChecksum("t", 0, 1, 64), "beyond the file"),
        (AddChecksum("w", 0, 0, 1), "not allocated"),
        (WritePointer("gone", "p", 0, 0, 8), "no file gone"),
        (WritePointer("t", "p", 0, 0, 8), "not written back"),
        (WritePointer("w", "t", 1, 0, 8), "beyond the file"),
        (WritePointer("w", "p", 0, 32, 8), "outside of p"),
        (WritePointer("w", "gone", 0, 0, 8), "gone is not allocated"),
    ],
)
def test_a_command_that_does_not_fit(command: Command, reason: str) -> None:
    with pytest.raises(ReferenceFailed, match=reason) as caught:
        link([*HEAD, command], SMALL)
    assert (caught.value.code, caught.value.context["command"]) == ("reference.loader-run", 2)
    assert command.text in caught.value.message


def test_a_pointer_whose_offset_is_outside() -> None:
    files = SMALL | {"t": b"\x20".ljust(64, b"\0")}
    with pytest.raises(ReferenceFailed, match="0x20 is outside of p"):
        link([*HEAD, AddPointer("t", "p", 0, 4)], files)
    files["t"] = b"\x1f".ljust(64, b"\0")
    linked = link([*HEAD, AddPointer("t", "p", 0, 4)], files)
    assert linked.blobs["t"][:4] == (linked.addresses["p"] + 0x1F).to_bytes(4, "little")


def test_a_place_that_is_not_aligned() -> None:
    with pytest.raises(ReferenceFailed, match="0x1010 is not aligned"):
        link(HEAD, SMALL, {"p": 0x1010})
    assert link(HEAD, SMALL, {"p": 0x2000}).addresses["p"] == 0x2000


def test_the_sum_is_zero_whatever_stood_there() -> None:
    files = SMALL | {"t": bytes(range(1, 65))}
    linked = link([*HEAD, AddChecksum("t", 9, 0, 64)], files)
    assert sum(linked.blobs["t"]) & 0xFF == 0
    assert files["t"] == bytes(range(1, 65)), "files are only read"


@given(st.binary(max_size=4).flatmap(lambda head: st.binary(max_size=260).map(lambda b: head + b)))
def test_any_script(data: bytes) -> None:
    attempt(lambda: link(parse_script(data), FILES), "reference.loader", "reference.loader-run")


NUMBERS = st.integers(0, 80) | st.integers(0, 0xFFFFFFFF)
NAMES = st.sampled_from(["t", "p", "w", "gone"])
BYTES = st.integers(0, 255) | st.sampled_from([1, 2, 4, 8])
COMMANDS: Any = st.one_of(
    st.builds(Allocate, NAMES, NUMBERS, BYTES),
    st.builds(AddPointer, NAMES, NAMES, NUMBERS, BYTES),
    st.builds(AddChecksum, NAMES, NUMBERS, NUMBERS, NUMBERS),
    st.builds(WritePointer, NAMES, NAMES, NUMBERS, NUMBERS, BYTES),
    st.builds(Unknown, NUMBERS),
)


@given(st.lists(COMMANDS, max_size=8), st.binary(min_size=64, max_size=64))
def test_any_commands_on_any_file(commands: list[Command], data: bytes) -> None:
    files = SMALL | {"t": data}
    linked = attempt(lambda: link([*HEAD, *commands], files), "reference.loader-run")
    if linked is not None:
        sizes = {name: len(blob) for name, blob in linked.blobs.items()}
        assert sizes == {name: len(files[name]) for name in sizes}


def test_an_older_log_has_no_offset() -> None:
    event = debuglog_acpi.WritePointer(1, "w", "p", 0, 8)
    assert event.command == replace(WritePointer("w", "p", 0, 0, 8), pointee_offset=None)
    assert event.text == "write the address of p to w[0x0], 8 bytes"
