from __future__ import annotations

from dataclasses import replace

import pytest
from asn1crypto import algos, cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st
from uefi.keys import APPEND, T1, T2, T3, hash_list, make_key, sign, signed_update

from hwflash.errors import ImageError
from hwflash.uefi.authenticated import (
    HEADER_SIZE,
    AuthenticatedUpdate,
    TrustAnchor,
    parse_update,
    signed_bytes,
    verify,
)
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.pkcs7 import parse_signed_data
from hwflash.uefi.secureboot import DATABASES, KEY_ATTRIBUTES

DBX = DATABASES["dbx"].guid
PAYLOAD = hash_list(bytes(range(32)))


@pytest.fixture(scope="module")
def pk():
    return make_key("Platform")


@pytest.fixture(scope="module")
def kek():
    return make_key("Exchange")


@pytest.fixture(scope="module")
def leaf(kek):
    return make_key("Signer", kek, ca=False)


@pytest.fixture(scope="module")
def anchors(pk, kek):
    return [TrustAnchor("PK", pk.der), TrustAnchor("KEK", kek.der)]


# --- the structure --------------------------------------------------------------------------


def test_what_is_signed_has_no_terminator():
    content = signed_bytes("db", DBX, 0x67, T1, b"\xaa\xbb")
    assert content.hex() == (
        "64006200" + "cbb219d73a3d9645a3bcdad00e67656f" + "67000000"
        + "e80701020304050000000000" + "00000000" + "aabb"
    )  # fmt: skip


def test_a_write_is_parsed_and_built(kek):
    made = signed_update("dbx", PAYLOAD, kek)
    data = made.build()
    assert data[:2] == (2025).to_bytes(2, "little")
    assert int.from_bytes(data[16:20], "little") == 24 + len(made.pkcs7)
    assert data[20:24].hex() == "0002f10e"
    assert data[24:40].hex() == "9dd2af4adf68ee498aa9347d375665a7"
    assert parse_update(data) == made
    assert parse_update(data, 0x40) == replace(made, offset=0x40)


@given(st.binary(max_size=64), st.binary(max_size=32))
def test_any_parts_come_back(pkcs7, payload):
    made = AuthenticatedUpdate(T1, pkcs7, payload)
    assert parse_update(made.build()) == made


@pytest.mark.parametrize(
    ("at", "bytes_", "offset", "word"),
    [
        (16, b"\x17\0\0\0", 0x110, "claims 23 bytes"),
        (16, b"\xff\xff\xff\xff", 0x110, "4294967295"),
        (22, b"\xf0\x0e", 0x116, "0EF0"),
        (24, b"\0", 0x118, "4aafd200"),
    ],
)
def test_a_damaged_header_is_refused(at, bytes_, offset, word):
    data = bytearray(AuthenticatedUpdate(T1, b"x", b"y").build())
    data[at : at + len(bytes_)] = bytes_
    with pytest.raises(ImageError) as caught:
        parse_update(bytes(data), 0x100)
    assert caught.value.code == "uefi.authentication"
    assert caught.value.context["offset"] == offset
    assert word in caught.value.message


@given(st.integers(0, HEADER_SIZE - 1))
def test_a_cut_header_is_refused(size):
    data = AuthenticatedUpdate(T1, b"", b"").build()
    with pytest.raises(ImageError) as caught:
        parse_update(data[:size])
    assert caught.value.code == "uefi.authentication"


# --- the signature --------------------------------------------------------------------------


@pytest.mark.parametrize("attributes", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_signature_by_a_trusted_key_is_valid(attributes, wrapped, kind):
    key = make_key(f"Trusted {kind}", kind=kind)
    made = signed_update("dbx", PAYLOAD, key, append=True, attributes=attributes, wrapped=wrapped)
    report = verify(made, "dbx", DBX, APPEND, [TrustAnchor("KEK", key.der)], T3)
    assert report.valid
    assert report.intact
    assert (report.fault, report.digest) == ("", "sha256")
    assert report.algorithm == {"rsa": "rsassa_pkcs1v15", "ec": "ecdsa"}[kind]
    assert report.signer == f"CN=Trusted {kind}"
    assert report.trusted_by == TrustAnchor("KEK", key.der)
    assert report.chain == (report.signer,)
    older = [note for note in report.notes if "ContentInfo" in note]
    assert len(older) == wrapped


@pytest.mark.parametrize(
    ("digest", "fault"),
    [(hashes.SHA384(), ""), (hashes.SHA512(), ""), (hashes.SHA224(), "algorithm")],
)
def test_digests(kek, anchors, digest, fault):
    made = signed_update("dbx", PAYLOAD, kek, digest=digest)
    report = verify(made, "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert report.fault == fault
    assert report.valid is (fault == "")
    assert digest.name in (report.reason if fault else report.notes[0])


@pytest.mark.parametrize("attributes", [False, True])
def test_one_bit_of_anything_signed_makes_it_invalid(leaf, anchors, attributes):
    made = signed_update("dbx", PAYLOAD, leaf, attributes=attributes)
    call = ("dbx", DBX, int(KEY_ATTRIBUTES))
    assert verify(made, *call, anchors).valid

    def broken(update, name, guid, bits):
        report = verify(update, name, guid, bits, anchors)
        assert not report.valid
        assert not report.intact
        # Signed attributes hold the content's digest; without them there is the signature only.
        assert report.fault == ("digest" if attributes else "signature")

    for bit in range(32):
        broken(made, "dbx", DBX, call[2] ^ 1 << bit)
    for bit in range(128):
        guid = type(DBX)(int=DBX.int ^ 1 << bit)
        broken(made, "dbx", guid, call[2])
    for index in range(3):
        name = "dbx"[:index] + chr(ord("dbx"[index]) ^ 1) + "dbx"[index + 1 :]
        broken(made, name, DBX, call[2])
    time = made.timestamp.build()
    for at in range(len(time)):
        flipped = time[:at] + bytes([time[at] ^ 0x10]) + time[at + 1 :]
        broken(replace(made, timestamp=EfiTime.parse(flipped)), *call)
    for at in range(len(PAYLOAD)):
        flipped = PAYLOAD[:at] + bytes([PAYLOAD[at] ^ 0x80]) + PAYLOAD[at + 1 :]
        broken(replace(made, payload=flipped), *call)


def test_one_bit_of_the_signature_makes_it_invalid(leaf, anchors):
    made = signed_update("dbx", PAYLOAD, leaf, attributes=True)
    signed = parse_signed_data(made.pkcs7)
    start = made.pkcs7.index(signed.signature)
    signed_part = signed.attributes[1:]
    begin = made.pkcs7.index(signed_part)
    places = [*range(start, start + len(signed.signature)),
              *range(begin, begin + len(signed_part))]  # fmt: skip
    for at in places:
        flipped = made.pkcs7[:at] + bytes([made.pkcs7[at] ^ 1]) + made.pkcs7[at + 1 :]
        report = verify(replace(made, pkcs7=flipped), "dbx", DBX, KEY_ATTRIBUTES, anchors)
        assert not report.intact, at


@given(st.data())
def test_damage_in_the_signature_never_gives_a_traceback(data):
    kek = make_key("Exchange")
    made = signed_update("dbx", PAYLOAD, kek, make_key("Platform"), attributes=True)
    raw = bytearray(made.pkcs7)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    report = verify(
        replace(made, pkcs7=bytes(raw)), "dbx", DBX, KEY_ATTRIBUTES, [TrustAnchor("KEK", kek.der)]
    )
    assert report.valid == (not report.fault)
    assert report.reason


def test_no_signature_at_all():
    report = verify(AuthenticatedUpdate(T1, b"", PAYLOAD), "dbx", DBX, 0x27, [])
    assert (report.fault, report.reason) == ("pkcs7", "it carries no signature")


@given(st.binary(min_size=1, max_size=80))
def test_anything_as_a_signature(data):
    report = verify(AuthenticatedUpdate(T1, data, b""), "dbx", DBX, 0x27, [])
    assert report.fault == "pkcs7"
    assert "0x000028" in report.reason


@pytest.mark.parametrize("data", [b"\x30\x80" * 20000, b"\x30\x84\xff\xff\xff\xff", b"\x30\0"])
def test_hostile_lengths(data):
    with pytest.raises(ImageError) as caught:
        parse_signed_data(data)
    assert caught.value.code == "uefi.authentication"


def changed(made, change):
    """The same write with something of its SignedData changed."""
    signed = cms.SignedData.load(made.pkcs7)
    change(signed)
    return replace(made, pkcs7=signed.dump(force=True))


def test_signers_are_counted(kek, anchors):
    made = signed_update("dbx", PAYLOAD, kek)

    def twice(signed):
        signed["signer_infos"] = [*signed["signer_infos"]] * 2

    def none(signed):
        signed["signer_infos"] = []

    for change, count in ((twice, 2), (none, 0)):
        report = verify(changed(made, change), "dbx", DBX, KEY_ATTRIBUTES, anchors)
        assert report.fault == "pkcs7"
        assert f"has {count} signers" in report.reason


def test_without_the_signers_certificate(kek, pk, anchors):
    made = signed_update("dbx", PAYLOAD, kek, pk)

    def cut(signed):
        signed["certificates"] = [
            item for item in signed["certificates"] if item.chosen.dump() != kek.der
        ]

    report = verify(changed(made, cut), "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert report.fault == "signer"

    def drop(signed):
        del signed["certificates"]

    report = verify(changed(made, drop), "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert report.fault == "signer"


def test_a_signature_of_another_kind_is_named(kek, anchors):
    made = signed_update("dbx", PAYLOAD, kek)

    def pss(signed):
        signed["signer_infos"][0]["signature_algorithm"] = algos.SignedDigestAlgorithm(
            {"algorithm": "rsassa_pss"}
        )

    report = verify(changed(made, pss), "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert report.fault == "algorithm"
    assert "rsassa_pss" in report.reason


def test_embedded_content_is_noted(kek, anchors):
    made = signed_update("dbx", PAYLOAD, kek)

    def embed(signed):
        signed["encap_content_info"]["content"] = b"something else"

    report = verify(changed(made, embed), "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert report.valid
    assert "the content itself" in " ".join(report.notes)


# --- trust ----------------------------------------------------------------------------------


def test_chains(kek, anchors):
    middle = make_key("Middle", kek)
    leaf = make_key("Below", middle, ca=False)
    whole = signed_update("dbx", PAYLOAD, leaf, middle)
    report = verify(whole, "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert report.valid
    assert report.chain == ("CN=Below", "CN=Middle", "CN=Exchange")
    gap = signed_update("dbx", PAYLOAD, leaf)
    report = verify(gap, "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert (report.fault, report.intact) == ("untrusted", True)
    assert report.reason == ("CN=Below is neither in PK or KEK nor issued by a certificate there")


def test_a_trusted_certificate_need_not_be_a_root(pk):
    middle = make_key("Middle of platform", pk)
    leaf = make_key("Leaf of middle", middle, ca=False)
    made = signed_update("dbx", PAYLOAD, leaf)
    anchors = [TrustAnchor("KEK", middle.der)]
    assert verify(made, "dbx", DBX, KEY_ATTRIBUTES, anchors).valid


def test_only_authorities_issue(kek, anchors):
    ordinary = make_key("No authority", kek, ca=False)
    leaf = make_key("Below no authority", ordinary, ca=False)
    made = signed_update("dbx", PAYLOAD, leaf, ordinary)
    assert verify(made, "dbx", DBX, KEY_ATTRIBUTES, anchors).fault == "untrusted"
    # Itself it may sign: it is issued by KEK's certificate.
    made = signed_update("dbx", PAYLOAD, ordinary)
    assert verify(made, "dbx", DBX, KEY_ATTRIBUTES, anchors).valid


def test_a_trusted_signer_brings_only_authorities(kek):
    """As OpenSSL has it: the signer is trusted itself, and fails by what it brings along."""
    ordinary = make_key("Ordinary", kek, ca=False)
    leaf = make_key("Trusted itself", ordinary, ca=False)
    anchors = [TrustAnchor("KEK", leaf.der)]
    alone = signed_update("dbx", PAYLOAD, leaf)
    assert verify(alone, "dbx", DBX, KEY_ATTRIBUTES, anchors).valid
    along = signed_update("dbx", PAYLOAD, leaf, ordinary)
    assert verify(along, "dbx", DBX, KEY_ATTRIBUTES, anchors).fault == "untrusted"
    kek_leaf = make_key("By an authority", kek, ca=False)
    along = signed_update("dbx", PAYLOAD, kek_leaf, kek)
    assert verify(along, "dbx", DBX, KEY_ATTRIBUTES, [TrustAnchor("KEK", kek_leaf.der)]).valid


def test_path_lengths():
    root = make_key("Short root", path_length=0)
    middle = make_key("Too long", root)
    leaf = make_key("Far below", middle, ca=False)
    anchors = [TrustAnchor("KEK", root.der)]
    made = signed_update("dbx", PAYLOAD, leaf, middle)
    assert verify(made, "dbx", DBX, KEY_ATTRIBUTES, anchors).fault == "untrusted"
    made = signed_update("dbx", PAYLOAD, middle)
    assert verify(made, "dbx", DBX, KEY_ATTRIBUTES, anchors).valid


def test_a_name_alone_is_no_trust(kek):
    other = make_key("Exchange", kind="ec")
    made = signed_update("dbx", PAYLOAD, make_key("Forged", other, ca=False))
    report = verify(made, "dbx", DBX, KEY_ATTRIBUTES, [TrustAnchor("KEK", kek.der)])
    assert report.fault == "untrusted"


def test_the_platform_key_must_be_in_the_signature(pk):
    leaf = make_key("Of the platform", pk, ca=False)
    anchors = [TrustAnchor("PK", pk.der)]
    without = signed_update("KEK", PAYLOAD, leaf)
    guid = DATABASES["KEK"].guid
    assert verify(without, "KEK", guid, KEY_ATTRIBUTES, anchors).fault == "untrusted"
    along = signed_update("KEK", PAYLOAD, leaf, pk)
    assert verify(along, "KEK", guid, KEY_ATTRIBUTES, anchors).valid


def test_nobody_is_trusted(kek):
    made = signed_update("dbx", PAYLOAD, kek)
    for anchors in ([], [TrustAnchor("KEK", b"no certificate")]):
        report = verify(made, "dbx", DBX, KEY_ATTRIBUTES, anchors)
        assert (report.fault, report.trusted_by, report.chain) == ("untrusted", None, ())


# --- time stamps ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "append", "fault"),
    [
        (None, False, ""),
        (T1, False, ""),
        (T2, False, "time-stamp"),
        (T3, False, "time-stamp"),
        (T3, True, ""),
        (EfiTime(), False, ""),
    ],
)
def test_a_replacement_must_be_later(kek, anchors, stored, append, fault):
    made = signed_update("dbx", PAYLOAD, kek, append=append)
    attributes = APPEND if append else KEY_ATTRIBUTES
    report = verify(made, "dbx", DBX, attributes, anchors, stored)
    assert report.fault == fault
    assert report.intact


@pytest.mark.parametrize("field", ["pad1", "nanosecond", "time_zone", "daylight", "pad2"])
def test_other_fields_of_the_time_are_zero(kek, anchors, field):
    made = signed_update("dbx", PAYLOAD, kek, time=replace(T2, **{field: 1}))
    report = verify(made, "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert (report.valid, report.fault, report.intact) == (False, "time-fields", True)


def test_a_revision_is_noted(kek, anchors):
    made = replace(signed_update("dbx", PAYLOAD, kek), revision=0x0100)
    report = verify(parse_update(made.build()), "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert report.valid
    assert "revision 0100" in report.notes[0]


def test_signed_data_bare_and_wrapped(kek):
    bare, wrapped = (parse_signed_data(sign(b"x", kek, wrapped=item)) for item in (False, True))
    assert not bare.wrapped
    assert replace(wrapped, wrapped=False, signature=b"") == replace(bare, signature=b"")


def test_a_signer_by_its_key_identifier(kek, anchors):
    made = signed_update("dbx", PAYLOAD, kek, make_key("Platform"))
    identifier = kek.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)

    def by_key(signed):
        signed["signer_infos"][0]["sid"] = cms.SignerIdentifier(
            name="subject_key_identifier", value=identifier.value.digest
        )

    report = verify(changed(made, by_key), "dbx", DBX, KEY_ATTRIBUTES, anchors)
    assert report.valid
    assert report.signer == "CN=Exchange"


@pytest.mark.parametrize(
    ("usage", "basic", "issues"),
    [
        (None, None, False),
        (True, None, True),
        (False, None, False),
        (True, True, True),
        (False, True, False),
        (True, False, False),
    ],
)
def test_what_makes_an_authority(usage, basic, issues):
    root = make_key(f"Root {usage} {basic}", ca=basic, signs=usage)
    made = signed_update("dbx", PAYLOAD, make_key(f"Of {usage} {basic}", root, ca=False))
    report = verify(made, "dbx", DBX, KEY_ATTRIBUTES, [TrustAnchor("KEK", root.der)])
    assert report.valid is issues
