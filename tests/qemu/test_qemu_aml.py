"""AML: QEMU's own tables, small ones of our own, garbage."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from platform_data import GUID_ADDRESS, GUID_PAGE, attempt, tables

from hwflash.errors import ReferenceFailed
from hwflash.qemu.acpi import Table, one
from hwflash.qemu.aml import Method, Namespace, Operation, Reference, parse_body, parse_table
from hwflash.qemu.aml_run import Notification, call

ONES = (1 << 64) - 1


def package(body: bytes) -> bytes:
    """A PkgLength and what it covers."""
    size = len(body) + 1
    if size < 0x40:
        return bytes([size]) + body
    size += 1
    return bytes([0x40 | size & 0x0F, size >> 4]) + body


def ssdt(code: bytes) -> Table:
    return Table(0, "SSDT", "", bytes(36) + code)


def method(code: bytes, name: bytes = b"TEST", flags: int = 0) -> bytes:
    return b"\x14" + package(name + bytes([flags]) + code)


def names(code: bytes) -> Namespace:
    return parse_table(ssdt(code))


def run(code: bytes, before: bytes = b"") -> object:
    found = names(before + method(code))
    return call(found.method("TEST"), found).value


# --- QEMU's -------------------------------------------------------------------------------------


def test_the_device_of_vmgenid() -> None:
    found = parse_table(one(tables(), "SSDT", "VMGENID"))
    assert found.value("VGIA") == ("\\VGIA", GUID_PAGE)
    assert found.value("_HID") == ("\\_SB_.VGEN._HID", "QEMUVGID")
    assert found.devices == ["\\_SB_.VGEN"]
    assert call(found.method("ADDR"), found).value == [GUID_ADDRESS, 0]
    assert call(found.method("_STA"), found).value == 0x0F
    event = call(found.method("_E05"), found)
    assert (event.value, event.notifications) == (None, [Notification("\\_SB_.VGEN", 0x80)])


def test_without_an_address_the_device_is_not_there() -> None:
    found = parse_table(one(tables(), "SSDT", "VMGENID"))
    found.values["\\VGIA"] = 0
    assert call(found.method("_STA"), found).value == 0


def test_the_whole_dsdt() -> None:
    found = parse_table(one(tables(), "DSDT"))
    assert found.value("_S3_") == ("\\_S3_", Operation("Package", (4, 1, 1, 0, 0)))
    assert len(found.devices) == 31
    bodies = [attempt(lambda item=item: parse_body(item, found), "reference.aml")
              for item in found.methods.values()]  # fmt: skip
    assert sum(body is not None for body in bodies) == len(found.methods) == 69


# --- grammar ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (b"\x00", 0), (b"\x01", 1), (b"\xff", ONES), (b"\x0a\xfe", 0xFE),
        (b"\x0b\x34\x12", 0x1234), (b"\x0c\x78\x56\x34\x12", 0x12345678),
        (b"\x0e" + b"\x11" * 8, 0x1111111111111111), (b"\x0dtext\0", "text"),
        (b"\x11" + package(b"\x0a\x02ab"), Operation("Buffer", (2, b"ab"))),
        (b"\x12" + package(b"\x02\x01"), Operation("Package", (2, 1))),
        (b"\x13" + package(b"\x0a\x03\x01"), Operation("Package", (3, 1))),
        (b"^PCI0", Reference("^PCI0")), (b"\\\x2eAAAABBBB", Reference("\\AAAA.BBBB")),
        (b"\x2f\x03AAAABBBBCCCC", Reference("AAAA.BBBB.CCCC")),
    ],
)  # fmt: skip
def test_constants(code: bytes, value: object) -> None:
    assert names(b"\x08NAME" + code).values == {"\\NAME": value}


def test_where_names_belong() -> None:
    inner = b"\x5b\x82" + package(b"DEV0\x08AAAA\x01" + b"\x08^BBBB\x01" + b"\x08\\CCCC\x01")
    found = names(b"\x10" + package(b"\\_SB_" + inner) + b"\x10" + package(b"\\\0\x08DDDD\x01"))
    assert set(found.values) == {"\\_SB_.DEV0.AAAA", "\\_SB_.BBBB", "\\CCCC", "\\DDDD"}
    assert found.devices == ["\\_SB_.DEV0"]
    assert found.search("DDDD", "\\_SB_.DEV0") == 1
    assert found.search("\\_SB_.BBBB", "\\") == 1
    assert found.search("AAAA", "\\_SB_") is None
    with pytest.raises(ReferenceFailed) as caught:
        found.value("ZZZZ")
    assert caught.value.code == "reference.aml-name"


def test_what_is_stepped_over() -> None:
    code = (
        b"\x5b\x80REGN\x01\x0b\x00\x06\x0a\x10"  # an operation region
        b"\x5b\x81" + package(b"REGN\x01FLD0\x08")  # its fields
        + b"\x5b\x01MUTX\x00" + b"\x5b\x02EVNT" + b"\x06AAAABBBB" + b"\x15EXTN\x08\x02"
        + b"\x8aBUFF\x0a\x04DWRD" + b"\xa0" + package(b"\x01\xcc\xcc") + b"\x08LAST\x01"
    )  # fmt: skip
    assert names(code).values == {"\\LAST": 1}


@pytest.mark.parametrize(
    "code",
    [
        b"\xcc", b"\x5b", b"\x5b\xcc", b"\x08", b"\x08NAM", b"\x08name\x01", b"\x081NAM\x01",
        b"\x08NAME", b"\x08NAME\x0a", b"\x08NAME\xcc", b"\x08NAME\x0dtext", b"\x08NAME\x5b",
        b"\x10", b"\x10\x00", b"\x10\x3f\\_SB_", b"\x10\xff\xff\xff\xff", b"\x14\x06NAME",
        b"\x10" + package(b"\\_SB_\x08NAM") + b"E\x01", b"\x08\\^NAME\x01", b"\x08\x2f",
        b"\x08NAME\x12\x00", b"\x08NAME\x11" + package(b""), b"\x08NAME\x13" + package(b""),
        b"\x08\\\\NAME\x01",
    ],
)  # fmt: skip
def test_what_is_no_aml(code: bytes) -> None:
    with pytest.raises(ReferenceFailed) as caught:
        names(code)
    assert caught.value.code == "reference.aml"
    assert caught.value.context["offset"] >= 36
    assert caught.value.message.isprintable()


def test_nesting_has_an_end() -> None:
    deep, wide = b"\x08NAME\x01", b"\x01"
    for _ in range(100):
        wide = b"\x12" + package(b"\x01" + wide) if len(wide) < 0xF00 else wide
        deep = b"\x10" + package(b"SCOP" + deep) if len(deep) < 0xF00 else deep
    for code in (deep, b"\x08NAME" + wide, b"\x08NAME" + b"\x92" * 5000 + b"\x01"):
        with pytest.raises(ReferenceFailed, match="nests deeper"):
            names(code)


# --- carried out --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (b"\xa4\x72\x0a\x02\x0a\x03\x00", 5), (b"\xa4\x72\xff\x01\x00", 0),
        (b"\xa4\x74\x00\x01\x00", ONES), (b"\xa4\x7b\x0a\x0c\x0a\x06\x00", 4),
        (b"\xa4\x7d\x0a\x0c\x0a\x06\x00", 14), (b"\xa4\x79\x01\x0a\x04\x00", 16),
        (b"\xa4\x79\x01\x0a\x40\x00", 0), (b"\xa4\x7a\x0a\x10\x0a\x04\x00", 1),
        (b"\x72\x01\x01\x60\xa4\x60", 2), (b"\x70\x0dx\0\x61\xa4\x61", "x"),
        (b"\xa4\x93\x01\x01", ONES), (b"\xa4\x92\x01", 0), (b"\xa4\x92\x93\x01\x00", ONES),
        (b"\xa0" + package(b"\x01\xa4\x0a\x07") + b"\xa4\x01", 7),
        (b"\xa0" + package(b"\x00\xa4\x0a\x07") + b"\xa1" + package(b"\xa4\x0a\x08"), 8),
        (b"\xa0" + package(b"\x01\xa3") + b"\xa1" + package(b"\xa4\x0a\x08") + b"\xa4\x01", 1),
        (b"\xa4NAME", 9), (b"\xa3", None),
    ],
)  # fmt: skip
def test_methods(code: bytes, value: object) -> None:
    assert run(code, b"\x08NAME\x0a\x09") == value


@pytest.mark.parametrize(
    "code",
    [
        b"\xa4\x60", b"\xa4NONE", b"\xa4\x68", b"\x70\x01NAME", b"\xa2" + package(b"\x01\xa5"),
        b"\xa4\x77\x01\x01\x00", b"\x86\x01\x01",
        b"\x70\x01\x88\x12" + package(b"\x01") + b"\x01\x00",
        b"\x70\x01\x88\x01\x00\x00", b"\xa4\x12" + package(b"\x01\x01\x01"), b"\x5b\x22\xff",
        b"\xa4\x72\x0dx\0\x01\x00", b"\xa4\x11" + package(b"\x01a"), b"NAME", b"\x01", b"\xa4TEST",
    ],
)  # fmt: skip
def test_what_is_not_carried_out(code: bytes) -> None:
    with pytest.raises(ReferenceFailed) as caught:
        run(code, b"\x08NAME\x01")
    assert caught.value.code == "reference.aml-run"


def test_calls_take_as_many_arguments_as_are_declared() -> None:
    found = names(method(b"\xa4\x68", b"ECHO", flags=2) + method(b"\xa4ECHO\x01\x0a\x02"))
    (term,) = parse_body(found.method("TEST"), found)
    assert term == Operation("Return", (Operation("Call", (Reference("ECHO"), 1, 2)),))


GOOD = one(tables(), "SSDT", "VMGENID").data[36:]


@given(st.binary(max_size=80))
@example(b"\x5b\x83\x05PR00")
def test_any_table(code: bytes) -> None:
    attempt(lambda: names(code), "reference.aml")
    body = Method("\\TEST", 0, code)
    attempt(lambda: call(body, Namespace()), "reference.aml", "reference.aml-run")


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3))
def test_a_real_table_with_changed_bytes(place: int, change: bytes) -> None:
    code = GOOD[:place] + change + GOOD[place + len(change) :]
    found = attempt(lambda: names(code), "reference.aml")
    if found is not None:
        codes = ("reference.aml", "reference.aml-run")
        for item in found.methods.values():
            attempt(lambda item=item: call(item, found), *codes)
