from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import ImageError
from hwflash.uefi import guids
from hwflash.uefi.certificates import read_certificate
from hwflash.uefi.decode import decode
from hwflash.uefi.devicepath import Node
from hwflash.uefi.loadoption import LoadOption, parse_load_option
from hwflash.uefi.siglist import Signature, SignatureList, parse_signature_lists
from hwflash.uefi.window import encode_utf16

OWNER = guids.parse_guid("77fa9abd-0359-4d32-bd60-28f4e78f784b")
END = Node(0x7F, 0xFF).build()
PATH = Node(2, 1, struct.pack("<II", 0x0A0341D0, 0)).build() + END


@pytest.fixture(scope="module")
def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Test\x1bKey"),
            x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@b.example"),
        ]
    )
    issuer = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Issuer")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(0x1234)
        .not_valid_before(datetime(2024, 1, 2, tzinfo=UTC))
        .not_valid_after(datetime(2034, 1, 2, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


# --- load options ---------------------------------------------------------------------------


@given(
    st.integers(0, 2**32 - 1),
    st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=10),
    st.binary(max_size=30),
    st.binary(max_size=20),
)
def test_a_load_option_is_built_and_parsed(attributes, description, paths, optional):
    option = LoadOption(attributes, encode_utf16(description), paths, optional)
    found = parse_load_option(option.build())
    assert found == option
    assert found.description == description
    assert decode("Boot0001", guids.GLOBAL_VARIABLE, option.build()).kind == "load-option"


@given(st.binary(max_size=60))
def test_any_bytes_as_a_load_option(data):
    try:
        found = parse_load_option(data, 0x100)
    except ImageError as error:
        refused = error
    else:
        assert found.build() == data
        return
    assert refused.code == "uefi.load-option"
    assert "0x000100" in refused.message


def test_a_boot_option_in_words():
    data = LoadOption(0x9, encode_utf16("debian"), PATH + PATH, encode_utf16("quiet")).build()
    found = decode("Boot000A", guids.GLOBAL_VARIABLE, data)
    assert found.summary == "debian: PciRoot(0x0)"
    assert found.facts["device_path"] == "PciRoot(0x0)"
    assert found.facts["flags"] == ["active", "hidden"]
    assert found.lines == (
        "description    debian",
        "attributes     0x00000009 active, hidden",
        "device path    PciRoot(0x0)",
        "further path   PciRoot(0x0)",
        'optional data  "quiet"',
    )
    inactive = LoadOption(0, encode_utf16("x"), PATH).build()
    assert decode("Boot0000", guids.GLOBAL_VARIABLE, inactive).summary.startswith("[inactive]")


def test_control_characters_do_not_reach_the_terminal():
    data = LoadOption(1, encode_utf16("a\x1b[2Jb"), PATH).build()
    assert decode("Boot0000", guids.GLOBAL_VARIABLE, data).summary.startswith("a\\u001b[2Jb:")


# --- signature databases --------------------------------------------------------------------


def test_certificates_and_hashes_are_named(certificate):
    lists = (
        SignatureList(guids.CERT_X509, (Signature(OWNER, certificate),)),
        SignatureList(guids.CERT_SHA256, tuple(Signature(OWNER, bytes([i]) * 32) for i in (1, 2))),
        SignatureList(guids.CERT_X509, (Signature(OWNER, b"junk"),)),
    )
    data = b"".join(item.build() for item in lists)
    assert [item.build() for item in parse_signature_lists(data)] == [i.build() for i in lists]
    found = decode("db", guids.IMAGE_SECURITY, data)
    assert found.summary == ("Test\\u001bKey; bytes that are no X.509 certificate; 2 x SHA-256")
    first = found.facts["signatures"][0]
    assert first["subject"] == "emailAddress=a@b.example,CN=Test\x1bKey"
    assert (first["issuer"], first["serial"]) == ("O=Issuer", "1234")
    assert first["not_before"] == "2024-01-02T00:00:00+00:00"
    assert first["owner"] == str(OWNER)
    assert "  valid    2024-01-02 to 2034-01-02" in found.lines
    assert f"SHA-256 {'01' * 32} (owner MicrosoftOwner)" in found.lines
    assert decode("db", guids.SHIM_LOCK, data).kind == "signature-database"
    assert decode("db", guids.CUSTOM_MODE, data).kind == "bytes", "db of another vendor"


@given(st.binary(max_size=100))
def test_any_bytes_are_a_certificate_or_not(data):
    assert read_certificate(data) is None


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "is left|bytes are left"),
        (struct.pack("<16sIII", bytes(16), 27, 0, 48), "claims 27 bytes"),
        (struct.pack("<16sIII", bytes(16), 1000, 0, 48), "claims 1000 bytes"),
        (struct.pack("<16sIII", bytes(16), 28, 1 << 31, 48), "claims 28 bytes"),
        (struct.pack("<16sIII", bytes(16), 28, 0, 0), "claim 0 bytes each"),
    ],
)
def test_a_damaged_list_is_named_with_its_place(head, words):
    good = SignatureList(guids.CERT_SHA256, (Signature(OWNER, bytes(32)),)).build()
    data = good + (head or b"rest")
    with pytest.raises(ImageError, match=words) as caught:
        parse_signature_lists(data, 0x1000)
    assert caught.value.code == "uefi.signature-list"
    assert caught.value.context["offset"] == 0x1000 + len(good)
    found = decode("dbx", guids.IMAGE_SECURITY, data, 0x1000)
    assert found.kind == "bytes"
    assert f"0x{0x1000 + len(good):06X}" in found.fault


@given(st.binary(max_size=120))
def test_any_bytes_as_signature_lists(data):
    try:
        found = parse_signature_lists(data)
    except ImageError as error:
        refused = error
    else:
        assert b"".join(item.build() for item in found) == data
        return
    assert refused.code == "uefi.signature-list"


# --- the other values -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "guid", "data", "kind", "summary"),
    [
        ("BootOrder", guids.GLOBAL_VARIABLE, "0100 0a00 0000", "option-order",
         "Boot0001, Boot000A, Boot0000"),
        ("DriverOrder", guids.GLOBAL_VARIABLE, "", "option-order", "empty"),
        ("BootNext", guids.GLOBAL_VARIABLE, "0300", "option-order", "Boot0003"),
        ("Timeout", guids.GLOBAL_VARIABLE, "ffff", "integer", "65535"),
        ("PlatformLang", guids.GLOBAL_VARIABLE, "656e00", "string", "en"),
        ("SecureBootEnable", guids.SECURE_BOOT_ENABLE, "01", "boolean", "on"),
        ("CustomMode", guids.CUSTOM_MODE, "00", "boolean", "off"),
        ("SetupMode", guids.GLOBAL_VARIABLE, "07", "boolean", "0x07"),
        ("MTC", guids.MONOTONIC_COUNTER, "03000000", "integer", "3"),
        ("OsIndications", guids.GLOBAL_VARIABLE, "0500000000000080", "flags",
         "boot to firmware user interface, file capsule delivery, 0x8000000000000000"),
        ("certdb", guids.CERT_DB, "04000000", "certificate-database", "0 signers"),
        ("ConOut", guids.GLOBAL_VARIABLE, PATH.hex(), "device-path", "PciRoot(0x0)"),
        ("Any", OWNER, "68006900210021000000", "string", '"hi!!"'),
        ("Any", OWNER, "6869212100", "string", '"hi!!"'),
        ("Any", OWNER, PATH.hex(), "device-path", "PciRoot(0x0)"),
        ("Any", OWNER, "07", "integer", "07 (7)"),
        ("Any", OWNER, "", "bytes", "no bytes"),
        ("Any", OWNER, "00" * 17, "bytes", " ".join(["00"] * 16) + " ..."),
        ("BootOrder", OWNER, "010002", "bytes", "01 00 02"),
    ],
)  # fmt: skip
def test_values_by_name_or_by_look(name, guid, data, kind, summary):
    found = decode(name, guid, bytes.fromhex(data.replace(" ", "")))
    assert (found.kind, found.summary, found.fault) == (kind, summary, "")


@pytest.mark.parametrize(
    ("name", "guid", "data"),
    [
        ("BootOrder", guids.GLOBAL_VARIABLE, b"\1"),
        ("BootNext", guids.GLOBAL_VARIABLE, b"\1\2\3"),
        ("Timeout", guids.GLOBAL_VARIABLE, b""),
        ("SecureBoot", guids.GLOBAL_VARIABLE, b"\1\2"),
        ("OsIndications", guids.GLOBAL_VARIABLE, b"\1"),
        ("ConIn", guids.GLOBAL_VARIABLE, b"xyz"),
        ("Boot0001", guids.GLOBAL_VARIABLE, b"\1\0\0\0\xff\xff"),
        ("certdb", guids.CERT_DB, b"\5\0\0\0"),
        ("certdb", guids.CERT_DB, b"\5\0\0\0\0"),
    ],
)
def test_a_value_of_a_wrong_form_is_shown_as_bytes_with_the_reason(name, guid, data):
    found = decode(name, guid, data, 0x123)
    assert found.kind == "bytes"
    assert "0x000123" in found.fault or "0x000127" in found.fault
    assert found.fault in found.summary


def test_console_paths_are_listed_one_by_one():
    both = PATH[:-4] + Node(0x7F, 1).build() + PATH
    found = decode("ConOut", guids.GLOBAL_VARIABLE, both)
    assert found.lines == ("PciRoot(0x0)", "PciRoot(0x0)")


def test_signers_of_private_variables():
    name = "Private".encode("utf-16-le")
    entry = OWNER.bytes_le + struct.pack("<III", 28 + len(name) + 32, 7, 32) + name + bytes(32)
    found = decode("certdb", guids.CERT_DB, struct.pack("<I", 4 + len(entry)) + entry)
    assert found.summary == "1 signer"
    assert found.facts["entries"] == [{"name": "Private", "guid": str(OWNER), "data": "00" * 32}]


NAMES = ["PK", "db", "Boot0000", "BootOrder", "ConIn", "Lang", "OsIndications", "Timeout", "Own"]


@given(st.sampled_from(NAMES), st.binary(max_size=80))
def test_no_value_is_too_odd(name, data):
    for guid in (guids.GLOBAL_VARIABLE, guids.IMAGE_SECURITY, OWNER):
        found = decode(name, guid, data)
        assert "\x1b" not in found.summary + "".join(found.lines)
