from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uefi.keys import OWNER, T1, T2, T3, hash_list, make_key, signed_update
from uefi.volumes import OVMF_2M, volume_bytes

from hwflash.errors import HwflashError, ImageError, UsageError
from hwflash.uefi import guids
from hwflash.uefi.authenticated import TrustAnchor
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.enrolment import (
    after,
    apply_signed,
    clear,
    efi_time,
    enrol_certificate,
    enrol_hash,
    enrol_lists,
    remove,
    verify_update,
)
from hwflash.uefi.find import find_stores
from hwflash.uefi.guids import parse_guid
from hwflash.uefi.keylists import KINDS, certificate_der, certificates, check_lists, entries, select
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import make_record
from hwflash.uefi.secureboot import (
    DATABASES,
    KEY_ATTRIBUTES,
    KeyStore,
    StoredKeys,
    apply_update,
    find_database,
    with_certificate,
    with_hash,
    without,
)
from hwflash.uefi.services import VariableServices
from hwflash.uefi.siglist import Signature, SignatureList, parse_signature_lists
from hwflash.uefi.store import make_store
from hwflash.uefi.window import Window

OTHER = parse_guid("99999999-2222-3333-4444-555555555555")
H1, H2, H3 = (bytes([number]) * 32 for number in (0xA1, 0xB2, 0xC3))


@pytest.fixture(scope="module")
def pk():
    return make_key("Platform")


@pytest.fixture(scope="module")
def kek():
    return make_key("Exchange")


def keys(**databases) -> KeyStore:
    """A store with these databases, all of T1; ``enable`` is SecureBootEnable."""
    enable = databases.pop("enable", None)
    found = {name: StoredKeys(data, T1) for name, data in databases.items()}
    return KeyStore(found, secure_boot_enable=enable)


def outcome(function, data) -> str | None:
    """The code of the error it ends with, or None."""
    try:
        function(data)
    except HwflashError as error:
        return error.code
    return None


# --- names ----------------------------------------------------------------------------------


def test_where_the_databases_are():
    assert KEY_ATTRIBUTES == 0x27
    assert {name: str(item.guid)[:8] for name, item in DATABASES.items()} == {
        "PK": "8be4df61", "KEK": "8be4df61",
        "db": "d719b2cb", "dbx": "d719b2cb", "dbt": "d719b2cb", "dbr": "d719b2cb",
    }  # fmt: skip
    assert find_database("DBX") is DATABASES["dbx"]
    with pytest.raises(UsageError) as caught:
        find_database("MokList")
    assert caught.value.code == "usage.database"


def test_sizes_of_kinds():
    assert sorted((kind, size) for kind, size in KINDS.values() if size > 64) == [
        ("rsa2048", 256), ("rsa2048-sha1", 256), ("rsa2048-sha256", 256), ("x509-sha512", 80),
    ]  # fmt: skip


# --- entries --------------------------------------------------------------------------------


def test_entries_of_all_kinds(kek):
    time = T2.build()
    revoked = SignatureList(
        parse_guid("EfiCertX509Sha256"), (Signature(OTHER, H2 + time), Signature(OTHER, H3 + time))
    )
    unknown = SignatureList(OTHER, (Signature(OWNER, b"abc"),))
    broken = SignatureList(guids.CERT_X509, (Signature(OWNER, b"no certificate"),))
    data = kek.list + hash_list(H1) + revoked.build() + unknown.build() + broken.build()
    found = entries(data)
    assert [item.index for item in found] == [0, 1, 2, 3, 4, 5]
    assert [item.kind for item in found] == [
        "x509", "sha256", "x509-sha256", "x509-sha256", str(OTHER), "x509",
    ]  # fmt: skip
    assert [item.owner for item in found] == [OWNER, OWNER, OTHER, OTHER, OWNER, OWNER]
    assert found[0].subject == "CN=Exchange"
    assert found[0].certificate.issuer == "CN=Exchange"
    assert found[0].certificate.not_after.year == 2012
    assert found[0].fingerprint == hashlib.sha256(kek.der).hexdigest()
    assert found[0].title == "x509 Exchange"
    assert (found[1].fingerprint, found[1].title) == (H1.hex(), f"sha256 {H1.hex()}")
    assert (found[2].fingerprint, found[2].revoked_at) == (H2.hex(), T2)
    assert found[4].fingerprint == hashlib.sha256(b"abc").hexdigest()
    assert (found[5].certificate, found[5].subject) == (None, "")
    assert certificates(data) == (kek.der,)


@given(st.binary(max_size=120))
def test_any_bytes_are_entries_or_a_named_error(data):
    for function in (entries, check_lists, lambda item: apply_update(b"", item)):
        assert outcome(function, data) in (None, "uefi.signature-list", "uefi.certificate")


@given(st.data())
def test_damaged_lists_are_entries_or_a_named_error(data):
    raw = bytearray(make_key("Exchange").list + hash_list(H1, H2))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for function in (entries, check_lists, lambda item: without(item, "#0"), certificates):
        found = outcome(function, bytes(raw))
        assert found in (None, "uefi.signature-list", "uefi.certificate", "usage.key")


# --- certificates in files ------------------------------------------------------------------


def test_certificates_in_der_and_pem(pk, kek):
    assert certificate_der(kek.der) == kek.der
    assert certificate_der(kek.pem) == kek.der
    assert certificate_der(b"Bag Attributes\n" + kek.pem) == kek.der
    for bad, word in (
        (b"", "0 bytes"),
        (kek.der + b"\0", "no X.509"),
        (kek.der[:-1], "no X.509"),
        (kek.private_pem, "PEM"),
        (kek.pem + pk.pem, "2 certificates"),
        (kek.pem.replace(b"A", b"B"), "PEM"),
    ):
        with pytest.raises(ImageError) as caught:
            certificate_der(bad)
        assert caught.value.code == "uefi.certificate"
        assert word in caught.value.message


# --- changes of values ----------------------------------------------------------------------


def test_certificates_get_lists_of_their_own(pk, kek):
    one = with_certificate(b"", pk.pem, OWNER)
    assert (one.data, one.added, one.notes) == (pk.list, 1, ())
    two = with_certificate(one.data, kek.der, OWNER)
    assert two.data == pk.list + kek.list
    again = with_certificate(two.data, kek.der, OTHER)
    assert (again.data, again.added) == (two.data, 0)
    assert again.notes == ("x509 Exchange is there already, as #1",)


def test_hashes_share_a_list(kek):
    data = with_hash(b"", H1, OWNER).data
    assert data == hash_list(H1)
    data = with_certificate(data, kek.der, OWNER).data
    change = with_hash(data, H2, OWNER)
    assert change.data == hash_list(H1, H2) + kek.list
    assert with_hash(change.data, H1, OTHER).data == change.data
    assert "#0" in with_hash(change.data, H1, OTHER).notes[0]
    with pytest.raises(UsageError) as caught:
        with_hash(b"", H1[:-1], OWNER)
    assert caught.value.code == "usage.hash"


def test_a_list_with_odd_bytes_is_left_alone():
    odd = SignatureList(guids.CERT_SHA256, (Signature(OWNER, H1),), signature_size=48,
                        padding=b"xy").build()  # fmt: skip
    assert with_hash(odd, H2, OWNER).data == odd + hash_list(H2)


def test_removing_leaves_the_rest_as_it_was(pk, kek):
    data = pk.list + hash_list(H1, H2, H3) + kek.list
    change = without(data, "#2")
    assert change.data == pk.list + hash_list(H1, H3) + kek.list
    assert (change.removed, change.notes) == (1, (f"removed sha256 {H2.hex()}",))
    assert without(data, "0").data == hash_list(H1, H2, H3) + kek.list
    assert without(data, "Exchange").data == pk.list + hash_list(H1, H2, H3)
    assert without(data, "cn=platform").data == hash_list(H1, H2, H3) + kek.list
    assert without(data, "a1A1").data == pk.list + hash_list(H2, H3) + kek.list
    colons = ":".join(hashlib.sha256(kek.der).hexdigest()[at : at + 2] for at in range(0, 64, 2))
    assert without(data, colons.upper()).data == pk.list + hash_list(H1, H2, H3)
    last = without(pk.list, "0")
    assert (last.data, last.notes) == (b"", ("removed x509 Platform, the last entry",))


@pytest.mark.parametrize(
    ("selector", "code", "count"),
    [
        ("#4", "usage.key", 4),
        ("7", "usage.key", 4),
        ("", "usage.key", 4),
        ("#", "usage.key", 4),
        ("nobody", "usage.key", 4),
        ("ffff", "usage.key", 4),
        ("a1", "usage.key", 4),
        ("²", "usage.key", 4),
        ("CN=", "usage.key-ambiguous", 2),
        ("b2b2", "usage.key-ambiguous", 2),
    ],
)
def test_selectors_that_mean_nothing_or_too_much(pk, kek, selector, code, count):
    near = H2[:-1] + b"\0"
    data = pk.list + kek.list + hash_list(H2, near)
    with pytest.raises(UsageError) as caught:
        without(data, selector)
    assert caught.value.code == code
    assert len(caught.value.context["candidates"]) == count
    assert "#" in caught.value.message


def test_an_exact_subject_wins():
    data = make_key("Vendor").list + make_key("Vendor second").list
    assert select(entries(data), "CN=Vendor").index == 0
    with pytest.raises(UsageError, match="2 entries fit 'Vendor'"):
        select(entries(data), "Vendor")


def test_an_empty_database_has_no_candidates():
    with pytest.raises(UsageError, match="the database is empty"):
        without(b"", "#0")


@given(st.lists(st.integers(0, 9), max_size=8, unique=True), st.data())
def test_adding_and_removing_hashes(numbers, data):
    value = b""
    for number in numbers:
        value = with_hash(value, bytes([number]) * 32, OWNER).data
    assert [item.data[0] for item in entries(value)] == numbers
    for number in data.draw(st.permutations(numbers)):
        value = without(value, bytes([number]).hex() * 32).data
    assert value == b""


# --- updates --------------------------------------------------------------------------------


def test_an_update_leaves_out_what_is_there(kek):
    old = hash_list(H1, H2)
    change = apply_update(old, hash_list(H2, H3) + kek.list)
    assert change.data == old + hash_list(H3) + kek.list
    assert (change.added, change.removed) == (2, 0)
    assert change.notes == ("1 entries are there already and left out",)
    # The owner is a part of an entry: the same hash of another owner comes in.
    assert apply_update(old, hash_list(H1, owner=OTHER)).added == 1
    same = apply_update(old, hash_list(H2, H1))
    assert (same.data, same.added) == (old, 0)


def test_an_update_replaces(kek):
    change = apply_update(hash_list(H1, H2), kek.list, append=False)
    assert (change.data, change.added, change.removed) == (kek.list, 1, 2)
    assert apply_update(kek.list, b"", append=False).data == b""


@pytest.mark.parametrize(
    ("lists", "offset", "word"),
    [
        (SignatureList(OTHER, (Signature(OWNER, b"abc"),)), 76, "unknown type"),
        (SignatureList(guids.CERT_SHA256, (Signature(OWNER, b"abc"),)), 76, "3 bytes"),
        (SignatureList(guids.CERT_SHA256, (Signature(OWNER, H1),), header=b"h"), 76, "1 bytes"),
        (
            SignatureList(
                guids.CERT_SHA256, (Signature(OWNER, H1),), signature_size=48, padding=b"p"
            ),
            76,
            "no entry",
        ),
    ],
)
def test_what_firmware_would_not_store(lists, offset, word):
    with pytest.raises(ImageError) as caught:
        check_lists(hash_list(H1) + lists.build())
    assert caught.value.code == "uefi.signature-list"
    assert caught.value.context["offset"] == offset
    assert word in caught.value.message


def test_a_certificate_in_an_update_is_one():
    lists = SignatureList(guids.CERT_X509, (Signature(OWNER, b"abc"),)).build()
    with pytest.raises(ImageError) as caught:
        apply_update(b"", lists)
    assert caught.value.code == "uefi.certificate"


# --- the variables of a store ---------------------------------------------------------------


def test_the_keys_of_a_store(pk):
    records = [
        make_record("PK", DATABASES["PK"].guid, 0x27, pk.list, timestamp=T2.build()),
        make_record("db", OTHER, 0x27, b"another vendor's"),
        make_record("SecureBootEnable", guids.SECURE_BOOT_ENABLE, 3, b"\1"),
        make_record("CustomMode", guids.CUSTOM_MODE, 3, b"\1"),
    ]
    store = make_store(records, 0x4000, base=0x100)
    found = KeyStore.of(store)
    assert dict(found.databases) == {
        "PK": StoredKeys(pk.list, T2, 0x27, store.records[0].data_offset)
    }
    assert (found.secure_boot_enable, found.custom_mode) == (1, 1)
    assert not found.setup_mode
    plain = make_store([], 0x4000, kind="plain")
    with pytest.raises(ImageError) as caught:
        KeyStore.of(plain)
    assert caught.value.code == "uefi.plain-store"


def test_modes_in_words(pk):
    db = hash_list(H1)
    setup = keys(db=db, enable=1)
    assert setup.setup_mode
    assert not setup.enforcing
    assert setup.state == (
        "there is no platform key: setup mode, Secure Boot is off",
        "SecureBootEnable counts for nothing without a platform key",
    )
    assert keys(PK=pk.list, db=db, enable=1).state == ("user mode: Secure Boot is on",)
    assert "creates SecureBootEnable" in keys(PK=pk.list, db=db).state[0]
    assert "there is no db" in keys(PK=pk.list).state[1]
    off = keys(PK=pk.list, enable=0)
    assert not off.enforcing
    assert off.state == ("user mode: SecureBootEnable switches Secure Boot off",)
    assert "CustomMode" in replace(setup, custom_mode=1).state[-1]


def test_who_may_sign(pk, kek):
    other = make_key("New platform")
    store = keys(PK=pk.list, KEK=kek.list + hash_list(H1))
    assert store.anchors("KEK") == (TrustAnchor("PK", pk.der),)
    assert store.anchors("dbx") == (TrustAnchor("PK", pk.der), TrustAnchor("KEK", kek.der))
    assert keys().anchors("dbx") == ()
    assert keys().anchors("PK", other.list) == (TrustAnchor("the new PK", other.der),)
    assert store.anchors("PK", other.list) == (TrustAnchor("PK", pk.der),)


# --- whole writes ---------------------------------------------------------------------------


def test_enrolling_a_platform_key_ends_setup_mode(pk, kek):
    change = enrol_certificate(keys(), "pk", pk.pem, OWNER, T2)
    assert (change.name, change.guid) == ("PK", guids.GLOBAL_VARIABLE)
    assert (change.attributes, change.data, change.timestamp) == (0x27, pk.list, T2)
    assert (change.changed, change.added, change.removed) == (True, 1, 0)
    assert "no signature authorizes this: the write goes past the firmware" in change.notes
    assert any("user mode" in note for note in change.notes)
    store = after(keys(), change)
    assert store.databases["PK"] == StoredKeys(pk.list, T2)
    with pytest.raises(UsageError) as caught:
        enrol_certificate(store, "PK", kek.der, OWNER, T2)
    assert caught.value.code == "usage.platform-key"
    assert "x509 Platform, x509 Exchange" in caught.value.message
    again = enrol_certificate(store, "PK", kek.der, OWNER, T2, replacing=True)
    assert (again.data, again.removed) == (kek.list, 1)


def test_what_a_platform_key_is_not(pk):
    for lists in (hash_list(H1), pk.list + hash_list(H1)):
        with pytest.raises(UsageError) as caught:
            enrol_lists(keys(), "PK", lists, T2)
        assert caught.value.code == "usage.platform-key"
    with pytest.raises(UsageError) as caught:
        enrol_hash(keys(), "KEK", H1, OWNER, T2)
    assert caught.value.code == "usage.key-kind"


def test_removing_the_platform_key_is_setup_mode(pk):
    store = keys(PK=pk.list, db=hash_list(H1), enable=1)
    for change in (remove(store, "PK", "Platform", T2), clear(store, "PK", T2)):
        assert (change.data, change.changed, change.removed) == (b"", True, 1)
        assert any("setup mode" in note for note in change.notes)
        assert after(store, change).setup_mode
    assert not clear(keys(), "PK", T2).changed


def test_time_stamps_never_go_back():
    store = keys(db=hash_list(H1))
    assert enrol_hash(store, "db", H2, OWNER, T2).timestamp == T2
    older = EfiTime(2020, 1, 1)
    change = enrol_hash(store, "db", H2, OWNER, older)
    assert change.timestamp is None
    assert after(store, change).keys("db").timestamp == T1
    assert any(str(older) in note and str(T1) in note for note in change.notes)


def test_nothing_to_do_is_no_change():
    change = enrol_hash(keys(db=hash_list(H1)), "db", H1, OWNER, T2)
    assert not change.changed
    assert change.notes[-1] == "db stays as it is"


def test_stored_attributes_stay():
    store = KeyStore({"db": StoredKeys(hash_list(H1), T1, 0x23)})
    change = enrol_hash(store, "db", H2, OWNER, T2)
    assert change.attributes == 0x23
    assert any("0x23" in note for note in change.notes)


def test_lists_are_added_or_put_in_place(kek):
    store = keys(dbx=hash_list(H1))
    assert enrol_lists(store, "dbx", hash_list(H1, H2), T2).data == hash_list(H1) + hash_list(H2)
    change = enrol_lists(store, "dbx", kek.list, T2, replacing=True)
    assert (change.data, change.added, change.removed) == (kek.list, 1, 1)


def test_a_damaged_database_is_named_and_can_be_cleared(kek):
    store = KeyStore({"db": StoredKeys(b"\0" * 40, T1, 0x27, 0x1234)})
    for act in (
        lambda: enrol_hash(store, "db", H1, OWNER, T2),
        lambda: enrol_certificate(store, "db", kek.der, OWNER, T2),
        lambda: remove(store, "db", "#0", T2),
        lambda: enrol_lists(store, "db", kek.list, T2),
    ):
        with pytest.raises(ImageError) as caught:
            act()
        assert caught.value.code == "uefi.signature-list"
        assert caught.value.context["offset"] == 0x1234
    assert clear(store, "db", T2).data == b""
    assert enrol_certificate(store, "db", kek.der, OWNER, T2, replacing=True).data == kek.list


def test_a_moment_becomes_utc():
    zone = timezone(timedelta(hours=2))
    assert str(efi_time(datetime(2026, 1, 1, 1, 2, 3, 999, zone))) == "2025-12-31T23:02:03Z"


# --- signed updates -------------------------------------------------------------------------


@pytest.mark.parametrize("append", [True, False])
def test_whether_an_update_appends_is_found_out(pk, kek, append):
    store = keys(PK=pk.list, KEK=kek.list, dbx=hash_list(H1))
    update = signed_update("dbx", hash_list(H1, H2), kek, append=append)
    report, found = verify_update(store, "dbx", update)
    assert report.valid
    assert found is append
    change = apply_signed(store, "dbx", update)
    together = hash_list(H1) + hash_list(H2) if append else hash_list(H1, H2)
    assert (change.data, change.timestamp, change.report) == (together, T2, report)
    assert (change.added, change.removed) == ((1, 0) if append else (2, 1))
    assert not any("goes past the firmware" in note for note in change.notes)


def test_an_append_keeps_the_later_time(pk, kek):
    store = KeyStore({"PK": StoredKeys(pk.list), "KEK": StoredKeys(kek.list),
                      "dbx": StoredKeys(hash_list(H1), T3)})  # fmt: skip
    update = signed_update("dbx", hash_list(H2), kek, append=True)
    assert apply_signed(store, "dbx", update).timestamp is None
    update = signed_update("dbx", hash_list(H2), kek)
    with pytest.raises(ImageError) as caught:
        apply_signed(store, "dbx", update)
    assert caught.value.code == "uefi.signature"
    assert caught.value.context["fault"] == "time-stamp"
    forced = apply_signed(store, "dbx", update, force=True)
    assert (forced.data, forced.timestamp) == (hash_list(H2), None)


def test_an_update_nobody_trusts(pk, kek):
    store = keys(PK=pk.list, KEK=kek.list)
    update = signed_update("db", hash_list(H2), make_key("Stranger"), append=True)
    with pytest.raises(ImageError) as caught:
        apply_signed(store, "db", update)
    assert caught.value.code == "uefi.signature"
    assert caught.value.context["report"].fault == "untrusted"
    change = apply_signed(store, "db", update, force=True)
    assert change.data == hash_list(H2)
    assert any("does not count" in note for note in change.notes)
    assert any("goes past the firmware" in note for note in change.notes)
    elsewhere = signed_update("dbx", hash_list(H2), kek, append=True)
    with pytest.raises(ImageError, match="does not fit the content"):
        apply_signed(store, "db", elsewhere)


def test_updates_of_the_platform_key(pk):
    new = make_key("New platform")
    store = keys(PK=pk.list)
    assert apply_signed(store, "PK", signed_update("PK", new.list, pk)).data == new.list
    with pytest.raises(ImageError):
        apply_signed(store, "PK", signed_update("PK", new.list, new))
    with pytest.raises(UsageError):
        apply_signed(store, "PK", signed_update("PK", new.list + pk.list, pk))
    gone = apply_signed(store, "PK", signed_update("PK", b"", pk))
    assert (gone.data, gone.removed) == (b"", 1)
    # The first platform key signs itself.
    assert apply_signed(keys(), "PK", signed_update("PK", new.list, new)).data == new.list
    with pytest.raises(ImageError):
        apply_signed(keys(), "PK", signed_update("PK", new.list, pk))


def test_in_setup_mode_anything_is_taken(kek):
    change = apply_signed(keys(), "db", signed_update("db", hash_list(H1), kek))
    assert change.data == hash_list(H1)
    assert not change.report.valid
    assert "setup mode: the firmware would take it" in change.notes


def test_a_payload_that_is_no_list(pk, kek):
    store = keys(PK=pk.list, KEK=kek.list)
    with pytest.raises(ImageError) as caught:
        apply_signed(store, "db", signed_update("db", b"not a list", kek))
    assert caught.value.code == "uefi.signature-list"


def test_values_parse_back(pk, kek):
    data = with_hash(with_certificate(pk.list, kek.der, OTHER).data, H1, OWNER).data
    assert [part.signature_type for part in parse_signature_lists(data)] == [
        guids.CERT_X509, guids.CERT_X509, guids.CERT_SHA256,
    ]  # fmt: skip
    assert check_lists(data) == parse_signature_lists(data)


def test_writes_are_what_set_variable_takes(pk, kek):
    image = bytes(volume_bytes([], OVMF_2M))
    (found,) = find_stores(image)
    service = VariableServices(Nvram(Window(image), found))

    def write(change):
        service.set_variable(
            change.name, change.guid, change.attributes, change.data,
            timestamp=change.timestamp, force=True,
        )  # fmt: skip
        return KeyStore.of(service.nvram.store)

    store = KeyStore.of(service.nvram.store)
    expected = store
    steps = [
        lambda: enrol_certificate(store, "PK", pk.der, OWNER, T1),
        lambda: enrol_certificate(store, "KEK", kek.der, OWNER, T2),
        lambda: enrol_hash(store, "dbx", H1, OWNER, T2),
        lambda: enrol_hash(store, "dbx", H2, OWNER, T2),
        lambda: enrol_hash(store, "dbx", H3, OWNER, T1),
        lambda: apply_signed(store, "dbx", signed_update("dbx", hash_list(H1, bytes(32)), kek,
                                                         time=T1, append=True)),
        lambda: apply_signed(store, "dbx", signed_update("dbx", hash_list(H2), kek, time=T3)),
        lambda: remove(store, "dbx", "#0", T1),
        lambda: enrol_certificate(store, "PK", kek.der, OWNER, T2, replacing=True),
        lambda: clear(store, "PK", T3),
    ]  # fmt: skip
    for step in steps:
        change = step()
        expected = after(expected, change)
        store = write(change)
        shown = {name: (item.data, item.timestamp) for name, item in store.databases.items()}
        assert shown == {
            name: (item.data, item.timestamp) for name, item in expected.databases.items()
        }
    assert set(store.databases) == {"KEK"}
