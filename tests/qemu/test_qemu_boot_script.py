"""S3 boot scripts: OVMF's own, and what no firmware writes."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from platform_data import GUID_ADDRESS, PAGE, SCRIPT, SCRIPT_COPY, Ram, attempt, smm_script

from hwflash.errors import ReferenceFailed
from hwflash.qemu.boot_script import (
    MAGIC,
    Entry,
    FwCfgTransfer,
    find_scripts,
    fwcfg_transfers,
    parse_script,
)

ADDRESS = GUID_ADDRESS.to_bytes(8, "little")


def script(*entries: bytes, end: bytes = b"\xff\0\3") -> bytes:
    body = b"".join(entries) + end
    return MAGIC + struct.pack("<I", 13 + len(body)) + b"\xaf" * 4 + body


def entry(opcode: int, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<HB", opcode, 3 + len(body) if length is None else length) + body


def write(opcode: int, width: int, address: int, data: bytes, count: int | None = None) -> bytes:
    units = len(data) // (1, 2, 4, 8)[width & 3] if count is None else count
    return entry(opcode, struct.pack("<IIQ", width, units, address) + data)


def poll(address: int, value: bytes = bytes(4), mask: bytes = b"\xff" * 4) -> bytes:
    return entry(0x0E, struct.pack("<IQQQ", 2, address, 1, 9) + value + mask)


def access(control: int, length: int = 0, address: int = 0) -> bytes:
    return struct.pack(">IIQ", control, length, address)


def start(address: int) -> bytes:
    return write(0, 2, 0x514, struct.pack(">Q", address))


def test_the_script_of_ovmf() -> None:
    ram = Ram()
    found = [*find_scripts(ram.read(SCRIPT, PAGE), SCRIPT),
             *find_scripts(ram.read(SCRIPT_COPY, PAGE), SCRIPT_COPY)]  # fmt: skip
    assert [item.address for item in found] == [SCRIPT, SCRIPT_COPY]
    assert found[0].entries == found[1].entries
    assert [item.text for item in found[0].entries] == [
        "MEM_WRITE 0xF76A018, 16 x 1: 00 2e 00 0c" + " 00" * 12,
        "IO_WRITE 0x514, 2 x 4: 00 00 00 00 0f 76 a0 18",
        "MEM_POLL 0xF76A018: value 0x0, mask 0xFFFFFFFF",
        "MEM_WRITE 0xF76A018, 24 x 1: 00 00 00 10 00 00 00 08 00 00 00 00 0f 76 a0 28 "
        + ADDRESS.hex(" "),
        "IO_WRITE 0x514, 2 x 4: 00 00 00 00 0f 76 a0 18",
        "MEM_POLL 0xF76A018: value 0x0, mask 0xFFFFFFFF",
        "INFORMATION de ad be ef",
        "TERMINATE",
    ]
    assert fwcfg_transfers(found[0].entries) == [FwCfgTransfer("write", 0x2E, 0, 8, ADDRESS)]


def test_the_script_of_the_build_with_smm() -> None:
    entries = parse_script(smm_script())
    assert [item.name for item in entries[:2]] == ["IO_READ_WRITE", "PCI_CONFIG_READ_WRITE"]
    found = fwcfg_transfers(entries)
    assert [(item.kind, item.select, item.length) for item in found] == [
        ("write", 0x29, 8), ("read", 0x28, 1), ("write", 0x2E, 8)
    ]  # fmt: skip
    assert all(item.polled for item in found)
    assert found[0].told({0x29: "etc/smi/requested-features"}) == (
        "item 0x0029 (etc/smi/requested-features): skip 0, write 8 bytes: 07 00 00 00 00 00 00 00"
    )
    assert found[1].told() == "item 0x0028: skip 0, read 1 bytes"


def test_every_opcode() -> None:
    unit = struct.pack("<IQ", 1, 0x10)
    masked = b"\1\0\2\0"
    found = parse_script(script(
        write(0x00, 0, 0x80, b"\x55"), entry(0x01, unit + masked), write(0x02, 3, 8, bytes(16)),
        entry(0x03, unit + masked), write(0x04, 1, 4, b"ab"), entry(0x05, unit + masked),
        entry(0x06, b"\1\2"), entry(0x07, struct.pack("<Q", 50)),
        entry(0x08, struct.pack("<Q", 0x99)), entry(0x09, struct.pack("<QQ", 0x98, 1)),
        entry(0x0A, struct.pack("<I", 2) + b"hi"),
        entry(0x0B, struct.pack("<IIQH", 0, 1, 4, 7) + b"a"), entry(0x0C, unit + b"\7\0" + masked),
        entry(0x0D, unit + struct.pack("<Q", 5) + masked), poll(0x1000),
        entry(0x0F, unit + struct.pack("<Q", 5) + masked),
        entry(0x10, unit + struct.pack("<HQ", 7, 5) + masked),
    ))  # fmt: skip
    assert [item.name for item in found] == [
        "IO_WRITE", "IO_READ_WRITE", "MEM_WRITE", "MEM_READ_WRITE", "PCI_CONFIG_WRITE",
        "PCI_CONFIG_READ_WRITE", "SMBUS_EXECUTE", "STALL", "DISPATCH", "DISPATCH_2", "INFORMATION",
        "PCI_CONFIG2_WRITE", "PCI_CONFIG2_READ_WRITE", "IO_POLL", "MEM_POLL", "PCI_CONFIG_POLL",
        "PCI_CONFIG2_POLL", "TERMINATE",
    ]  # fmt: skip
    assert (found[2].count, found[2].width) == (2, 8)
    assert {(item.value, item.mask) for item in found if item.mask == 2} == {(1, 2)}
    assert found[14].loops == 9
    assert [item.text for item in found[6:11]] == [
        "SMBUS_EXECUTE 01 02", "STALL", "DISPATCH 0x99", "DISPATCH_2 0x98", "INFORMATION 68 69"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no header"), (MAGIC, "no header"), (b"x" * 20, "no header"),
        (MAGIC + b"\xff" * 4 + bytes(4), "claims"), (MAGIC + bytes(8), "claims"),
        (script(end=b""), "no end"), (script(entry(0x0A, b"", 0)), "an entry of 0"),
        (script(entry(0x02, b"", 200)), "an entry of 200"), (script(entry(0x11)), "opcode 0x11"),
        (script(entry(0xFFFE)), "opcode 0xFFFE"), (script(entry(0x02, bytes(4))), "MEM_WRITE in 7"),
        (script(write(2, 0, 0, b"abc", count=4)), "4 units with 3"),
        (script(write(2, 12, 0, b"a", count=1)), "width 12"),
        (script(write(2, 2, 0, b"abcd", count=0xFFFFFFFF)), "4294967295 units"),
        (script(write(2, 8, 0, b"ab", count=4)), "4 units with 2"),
        (script(poll(0, mask=b"\xff")), "MEM_POLL with 5"),
        (script(entry(0x0A, b"\x05\0\0\0hi")), "INFORMATION of 5"),
    ],
)  # fmt: skip
def test_a_script_that_cannot_be(data: bytes, what: str) -> None:
    with pytest.raises(ReferenceFailed, match=what) as caught:
        parse_script(data)
    assert caught.value.code == "reference.boot-script"


def test_only_whole_scripts_are_found() -> None:
    whole = script(entry(0x0A, b"\1\0\0\0x"))
    data = MAGIC + bytes(3) + whole + b"\xff" * 5 + whole[:-1]
    assert [item.address for item in find_scripts(data, 0x1000)] == [0x1008]
    assert find_scripts(b"", 0) == []


@pytest.mark.slow
def test_memory_full_of_beginnings() -> None:
    began = time.process_time()
    assert find_scripts(MAGIC * 100_000, 0) == []
    # Each claims to be as long as can be, and all of them end nowhere.
    assert find_scripts((MAGIC + b"\0\0\x04\0" + bytes(4)) * 20_000, 0) == []
    assert time.process_time() - began < 5


# --- fw_cfg -------------------------------------------------------------------------------------


def transfers(*entries: bytes) -> list[FwCfgTransfer]:
    return fwcfg_transfers(parse_script(script(*entries)))


BUFFER = 0x1010
SELECT = write(2, 0, 0x1000, access(0x2E << 16 | 8 | 4, 5))
WRITE = write(2, 0, 0x1000, access(16, 4, BUFFER) + b"data")


def test_select_and_skip_then_write() -> None:
    found = transfers(SELECT, start(0x1000), poll(0x1000), WRITE, start(0x1000), poll(0x1000))
    assert found == [FwCfgTransfer("write", 0x2E, 5, 4, b"data")]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ((), []),
        ((SELECT, start(0x1000), poll(0x1000)), []),
        ((WRITE, start(0x1000), poll(0x1000)), []),  # to whatever was selected before
        ((start(0x1000),), []),  # memory that the script has not written
        ((SELECT, start(0x1001)), []),
        # Not waited for, or for something else.
        ((write(2, 0, 0x1000, access(0x20 << 16 | 24, 4, 0x2000)), write(2, 0, 0x2000, b"1234"),
          start(0x1000)), [FwCfgTransfer("write", 0x20, 0, 4, b"1234", polled=False)]),
        ((write(2, 0, 0x1000, access(0x20 << 16 | 24, 4, 0x2000)), write(2, 0, 0x2000, b"1234"),
          start(0x1000), poll(0x1004)),
         [FwCfgTransfer("write", 0x20, 0, 4, b"1234", polled=False)]),
        ((write(2, 0, 0x1000, access(0x20 << 16 | 24, 4, 0x2000)), write(2, 0, 0x2000, b"1234"),
          start(0x1000), poll(0x1000, value=b"\1\0\0\0")),
         [FwCfgTransfer("write", 0x20, 0, 4, b"1234", polled=False)]),
        # Data that the script has not written; absurdly much of it.
        ((write(2, 0, 0x1000, access(0x20 << 16 | 24, 4, 0x9000)), start(0x1000), poll(0x1000)),
         [FwCfgTransfer("write", 0x20, 0, 4)]),
        ((write(2, 0, 0x1000, access(0x20 << 16 | 24, 0xFFFFFFFF)), start(0x1000), poll(0x1000)),
         [FwCfgTransfer("write", 0x20, 0, 0xFFFFFFFF)]),
        ((write(2, 0, 0x1000, access(0x19 << 16 | 10, 4, 0x2000)), start(0x1000), poll(0x1000)),
         [FwCfgTransfer("read", 0x19, 0, 4)]),
    ],
)  # fmt: skip
def test_transfers(entries: tuple[bytes, ...], expected: list[FwCfgTransfer]) -> None:
    assert transfers(*entries) == expected


def test_a_write_that_nobody_waits_for_says_so() -> None:
    told = FwCfgTransfer("write", 0x20, 0, 1, b"\1", polled=False).told()
    assert told == "item 0x0020: skip 0, write 1 bytes: 01, not waited for"


def test_units_that_go_to_one_address() -> None:
    (first, _) = parse_script(script(write(2, 4, 0x1000, b"abc")))
    assert first == Entry(13, "MEM_WRITE", 1, 3, 0x1000, b"abc", same_address=True)
    # Only the last byte stays: no access can be made of it.
    assert transfers(write(2, 4, 0x1000, access(24, 1)), start(0x1000)) == []


@given(st.binary(max_size=120))
def test_any_bytes(data: bytes) -> None:
    body = MAGIC + struct.pack("<I", 13 + len(data)) + bytes(4) + data
    found = attempt(lambda: parse_script(body), "reference.boot-script")
    if found is not None:
        fwcfg_transfers(found)
        assert all(item.text for item in found)


PLACES = st.sampled_from([0, 0x1000, 0x1008, 0x2000, (1 << 64) - 4])
ENTRIES: Any = st.one_of(
    st.builds(write, st.just(2), st.sampled_from([0, 4, 8]), PLACES, st.binary(max_size=40),
              st.none()),
    st.builds(lambda control, length, at: write(2, 0, 0x1000, access(control, length, at)),
              st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), PLACES),
    st.builds(start, PLACES), st.builds(poll, PLACES),
)  # fmt: skip


@given(st.lists(ENTRIES, max_size=8))
def test_any_entries(entries: list[bytes]) -> None:
    found = attempt(lambda: transfers(*entries), "reference.boot-script")
    assert found is None or all(item.told() for item in found)
