from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uefi.volumes import recorded_volume

from hwflash.errors import UsageError
from hwflash.uefi import guids
from hwflash.uefi.decode import decode
from hwflash.uefi.find import find_stores
from hwflash.uefi.loadoption import parse_load_option
from hwflash.uefi.values import boot_entry, from_hex, from_integer, from_string, from_utf16

TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)


def refused(function, *args, code="usage.value", **options) -> UsageError:
    with pytest.raises(UsageError) as caught:
        function(*args, **options)
    assert caught.value.code == code
    assert len(caught.value.message) < 200
    return caught.value


def test_strings_end_with_a_nul_unless_declined():
    assert from_string("en") == b"en\0"
    assert from_string("en", terminated=False) == b"en"
    assert from_string("ä") == b"\xc3\xa4\0"
    assert from_string("") == b"\0"
    assert from_utf16("Aä") == b"A\0\xe4\0\0\0"
    assert from_utf16("A", terminated=False) == b"A\0"
    assert from_utf16("") == b"\0\0"
    assert decode("PlatformLang", guids.GLOBAL_VARIABLE, from_string("en-US")).summary == "en-US"


@given(TEXTS)
def test_strings_say_what_was_typed(text):
    assert from_string(text).decode() == text + "\0"
    assert from_utf16(text).decode("utf-16-le") == text + "\0"
    assert from_utf16(text, terminated=False) == from_utf16(text)[:-2]


@pytest.mark.parametrize("function", [from_string, from_utf16])
def test_what_no_string_can_hold_is_refused(function):
    assert refused(function, "a\0b").message == "the text has a NUL at character 2"
    assert "no valid character at 3: \\udcff" in refused(function, "ab\udcff").message
    assert refused(function, "", terminated=False).message == "the text is empty"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("0102ff", "0102ff"),
        ("01 02\tFF\n", "0102ff"),
        ("01:02:fF", "0102ff"),
        ("0x01 0X02FF", "0102ff"),
        ("0x0102:ff", "0102ff"),
    ],
)
def test_hexadecimal_digits_may_be_grouped(text, data):
    assert from_hex(text) == bytes.fromhex(data)


@given(st.binary(min_size=1), st.sampled_from(["", " ", ":", " 0x"]))
def test_hexadecimal_digits_are_read_back(data, separator):
    assert from_hex(data.hex(separator[0]) if separator == ":" else data.hex()) == data
    assert from_hex(separator.join(f"{byte:02X}" for byte in data)) == data


@pytest.mark.parametrize(
    ("text", "column", "part"),
    [
        ("01 023", 4, "the group at column 4 has 3 digits"),
        ("01:2:03", 4, "the group at column 4 has 1 hexadecimal digit"),
        ("01 0x", 4, "has 0 digits"),
        ("010g", 4, "'g' at column 4 is no hexadecimal digit"),
        ("01 0x2\u0663", 7, "at column 7"),
        ("01,02", 3, "',' at column 3"),
        ("01\x1b", 3, "'\\u001b' at column 3"),
    ],
)
def test_the_place_of_a_wrong_digit_is_told(text, column, part):
    error = refused(from_hex, text)
    assert error.context["column"] == column
    assert part in error.message


def test_no_digits_are_no_value():
    for text in ("", "  ", ":"):
        assert refused(from_hex, text).message == "there are no hexadecimal digits"


@pytest.mark.parametrize(
    ("text", "bits", "data"),
    [
        ("5", 8, "05"),
        ("0x1F", 16, "1f00"),
        ("3,0,0x1", 16, "030000000100"),
        (" 3 , 0 ", 16, "03000000"),
        ("007", 32, "07000000"),
        ("0x" + "0" * 30 + "1", 8, "01"),
        ("18446744073709551615", 64, "ff" * 8),
    ],
)
def test_integers_are_little_endian_and_may_be_several(text, bits, data):
    assert from_integer(text, bits) == bytes.fromhex(data)


@given(st.sampled_from([8, 16, 32, 64]), st.data())
def test_all_integers_that_fit_are_stored(bits, data):
    numbers = data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=1, max_size=5))
    size = bits // 8
    whole = b"".join(number.to_bytes(size, "little") for number in numbers)
    assert from_integer(",".join(map(str, numbers)), bits) == whole
    assert from_integer(",".join(map(hex, numbers)), bits) == whole
    assert "more than" in refused(from_integer, str(1 << bits), bits).message


def test_a_boot_order_is_a_list_of_integers():
    value = from_integer("3,0,1", 16)
    shown = decode("BootOrder", guids.GLOBAL_VARIABLE, value).summary
    assert shown == "Boot0003, Boot0000, Boot0001"


@pytest.mark.parametrize(
    ("text", "bits", "column", "message"),
    [
        ("256", 8, 1, "'256' at column 1 is more than 8 bits hold (0xFF)"),
        ("1,65536", 16, 3, "'65536' at column 3 is more than 16 bits hold (0xFFFF)"),
        ("0x10000000000000000", 64, 1, "is more than 64 bits hold"),
        ("9" * 5000, 64, 1, "...' at column 1 is more than 64 bits hold"),
        ("-1", 8, 1, "'-1' at column 1 is no unsigned number"),
        ("1_0", 8, 1, "is no unsigned number"),
        ("\u0661", 8, 1, "is no unsigned number"),
        ("0b1", 8, 1, "is no unsigned number"),
        ("0x", 8, 1, "is no unsigned number"),
        ("1,,2", 8, 3, "column 3 has no unsigned number"),
        ("", 8, 1, "column 1 has no unsigned number"),
    ],
)
def test_what_is_no_integer_or_too_large_is_told(text, bits, column, message):
    error = refused(from_integer, text, bits)
    assert message in error.message
    assert error.context["column"] == column


def test_only_common_widths_are_known():
    with pytest.raises(ValueError, match="24 bits"):
        from_integer("1", 24)


PATH = r"HD(1,GPT,00112233-4455-6677-8899-AABBCCDDEEFF,0x800,0x32000)/\EFI\debian\shimx64.efi"


def test_a_boot_entry_is_a_load_option():
    value = boot_entry("Debian ü", PATH, optional_data=b"quiet")
    option = parse_load_option(value)
    assert option.description == "Debian ü"
    assert option.device_path.text == PATH
    assert option.device_path.rest == b""
    assert option.optional_data == b"quiet"
    assert option.attributes == 1
    decoded = decode("Boot0000", guids.GLOBAL_VARIABLE, value)
    assert (decoded.kind, decoded.fault) == ("load-option", "")
    assert decoded.summary == f"Debian ü: {PATH}"


@pytest.mark.parametrize(
    ("options", "attributes"),
    [
        ({"active": False}, 0),
        ({"hidden": True}, 0x9),
        ({"category_app": True}, 0x101),
        ({"active": False, "hidden": True, "category_app": True}, 0x108),
    ],
)
def test_attributes_of_a_boot_entry(options, attributes):
    assert parse_load_option(boot_entry("x", "\\x", **options)).attributes == attributes


def test_the_boot_entries_that_firmware_wrote_can_be_made():
    (found,) = find_stores(recorded_volume())
    entries = [record for record in found.store.live if record.name.startswith("Boot0")]
    assert [record.name for record in entries] == ["Boot0000", "Boot0001", "Boot0002"]
    for record in entries:
        option = parse_load_option(record.data)
        flags = {flag.replace("-", "_"): True for flag in option.flags}
        value = boot_entry(
            option.description, option.device_path.text, optional_data=option.optional_data, **flags
        )
        assert value == record.data


def test_what_makes_no_boot_entry_is_refused():
    assert refused(boot_entry, "a\0", "\\x").message == "the label has a NUL at character 2"
    error = refused(boot_entry, "a", "Pci(0)", code="usage.device-path")
    assert error.message.startswith("column 6: ")
    assert "begins another" in refused(boot_entry, "a", "\\x,y", code="usage.device-path").message
    long = "/".join(["\\" + "x" * 30000] * 2)
    assert "65535" in refused(boot_entry, "a", long).message
