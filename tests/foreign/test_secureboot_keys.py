"""openssl, efitools, sbsigntool and virt-firmware judge Secure Boot's keys and their signatures.

efitools and sbsigntool are taken out of Debian's packages, never installed, and kept in a cache.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import linux_guest
import pytest
from conftest import OVMF, require
from test_virt_firmware import Program, virt_fw_vars  # noqa: F401 - a fixture
from uefi.keys import (
    APPEND,
    OWNER,
    T1,
    T2,
    T3,
    Key,
    hash_list,
    make_key,
    signed_update,
)
from uefi.volumes import OVMF_4M, volume_bytes

from hwflash.uefi import guids
from hwflash.uefi.authenticated import (
    PKCS7,
    AuthenticatedUpdate,
    TrustAnchor,
    parse_update,
    signed_bytes,
    verify,
)
from hwflash.uefi.authenticode import image_sha256
from hwflash.uefi.enrolment import (
    after,
    apply_signed,
    enrol_certificate,
    enrol_hash,
    enrol_lists,
    remove,
    verify_update,
)
from hwflash.uefi.find import find_stores
from hwflash.uefi.keylists import certificate_der, check_lists, entries
from hwflash.uefi.records import make_record
from hwflash.uefi.secureboot import DATABASES, KEY_ATTRIBUTES, KeyStore, with_certificate

pytestmark = pytest.mark.foreign

DB = DATABASES["db"]
PAYLOAD = hash_list(b"\x5a" * 32)
SNAKEOIL = Path("/usr/share/ovmf/PkKek-1-snakeoil.pem")


def run(*words: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def tools() -> Path:
    """A folder with the programs and EFI programs of efitools and sbsigntool."""
    folder = linux_guest.cache_folder().parent / "efi-tools"
    wanted = folder / "parts"
    if not wanted.exists():
        try:
            apt = linux_guest.Apt(folder / "apt")
            apt.update()
            made = folder / "parts.new"
            shutil.rmtree(made, ignore_errors=True)
            apt.unpack("efitools", made, "./usr/bin/*", "./usr/lib/efitools/*")
            apt.unpack("sbsigntool", made, "./usr/bin/*")
        except linux_guest.GuestUnavailable as exc:
            require(None, f"packages efitools and sbsigntool ({exc})")
        made.rename(wanted)
        shutil.rmtree(folder / "apt")
    return wanted / "usr"


@pytest.fixture(scope="module")
def kek() -> Key:
    return make_key("Exchange")


@pytest.fixture
def files(tmp_path: Path, kek: Key) -> Path:
    """A folder with a key, its certificate and signature lists to sign."""
    (tmp_path / "key.pem").write_bytes(kek.private_pem)
    (tmp_path / "cert.pem").write_bytes(kek.pem)
    (tmp_path / "lists").write_bytes(PAYLOAD)
    return tmp_path


def template(name: str) -> KeyStore:
    path = OVMF / name
    require(path.exists(), "package ovmf")
    (found,) = find_stores(path.read_bytes())
    assert found.store is not None
    return KeyStore.of(found.store)


# --- openssl --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["-noattr"], ["-keyid"], ["-md", "sha512"]])
def test_what_openssl_signs_is_valid(options, files, kek):
    require(shutil.which("openssl"), "openssl")
    content = signed_bytes("db", DB.guid, KEY_ATTRIBUTES, T2, PAYLOAD)
    (files / "content").write_bytes(content)
    digest = [] if "-md" in options else ["-md", "sha256"]
    run(
        "openssl", "cms", "-sign", "-binary", "-in", "content", "-signer", "cert.pem",
        "-inkey", "key.pem", "-outform", "DER", "-out", "signed", *digest, *options, cwd=files,
    )  # fmt: skip
    made = AuthenticatedUpdate(T2, (files / "signed").read_bytes(), PAYLOAD)
    anchors = [TrustAnchor("KEK", kek.der)]
    report = verify(made, "db", DB.guid, KEY_ATTRIBUTES, anchors)
    assert report.valid, report
    assert not verify(made, "dbx", DB.guid, KEY_ATTRIBUTES, anchors).intact


@pytest.mark.parametrize(
    ("middle", "top"),
    [
        ({}, {}),
        ({"ca": False}, {}),
        ({"ca": None}, {}),
        ({"ca": None, "signs": True}, {}),
        ({"signs": False}, {}),
        ({"signs": True}, {"signs": True}),
        ({}, {"path_length": 0}),
        ({}, {"path_length": 1}),
        ({}, {"ca": None}),
        ({}, {"ca": None, "signs": True}),
        ({}, {"ca": None, "signs": False}),
        ({}, {"ca": False}),
    ],
)
@pytest.mark.parametrize("anchor", ["top", "middle", "leaf"])
def test_openssl_trusts_the_same_chains(middle, top, anchor, tmp_path):
    require(shutil.which("openssl"), "openssl")
    name = f"{sorted(middle.items())} {sorted(top.items())}"
    root = make_key(f"Top {name}", **top)
    between = make_key(f"Middle {name}", root, **middle)
    leaf = make_key(f"Leaf {name}", between, ca=False)
    trusted = {"top": root, "middle": between, "leaf": leaf}[anchor]
    made = signed_update("db", PAYLOAD, leaf, between, wrapped=True)
    (tmp_path / "signed").write_bytes(made.pkcs7)
    (tmp_path / "trusted.pem").write_bytes(trusted.pem)
    content = signed_bytes("db", DB.guid, KEY_ATTRIBUTES, T2, PAYLOAD)
    (tmp_path / "content").write_bytes(content)
    done = subprocess.run(
        ["openssl", "smime", "-verify", "-binary", "-inform", "DER", "-in", "signed",
         "-content", "content", "-CAfile", "trusted.pem", "-no-CApath", "-partial_chain",
         "-no_check_time", "-purpose", "any", "-out", "/dev/null"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    report = verify(made, "db", DB.guid, KEY_ATTRIBUTES, [TrustAnchor("KEK", trusted.der)])
    assert report.valid == (done.returncode == 0), (report.reason, done.stderr)
    assert report.intact


# --- efitools and sbsigntool ----------------------------------------------------------------


def test_efitools_makes_the_lists_we_make(tools, files, kek):
    run(tools / "bin/cert-to-efi-sig-list", "-g", OWNER, "cert.pem", "list", cwd=files)
    assert (files / "list").read_bytes() == with_certificate(b"", kek.pem, OWNER).data


@pytest.mark.parametrize("name", ["PK", "KEK", "db", "dbx"])
@pytest.mark.parametrize("append", [False, True])
def test_what_efitools_signs_is_valid(name, append, tools, files, kek):
    run(
        tools / "bin/sign-efi-sig-list", *(["-a"] if append else []), "-t", "2025-01-02 03:04:05",
        "-k", "key.pem", "-c", "cert.pem", name, "lists", "signed", cwd=files,
    )  # fmt: skip
    made = parse_update((files / "signed").read_bytes())
    assert (made.payload, made.timestamp) == (PAYLOAD, T2)
    guid = DATABASES[name].guid
    attributes = APPEND if append else KEY_ATTRIBUTES
    anchors = [TrustAnchor("KEK", kek.der)]
    report = verify(made, name, guid, attributes, anchors, T1)
    assert report.valid, report
    other = verify(made, name, guid, KEY_ATTRIBUTES ^ attributes ^ APPEND, anchors)
    assert not other.intact
    # What efitools would have had signed is what we check.
    run(
        tools / "bin/sign-efi-sig-list", *(["-a"] if append else []), "-t", "2025-01-02 03:04:05",
        "-o", name, "lists", "bundle", cwd=files,
    )  # fmt: skip
    assert (files / "bundle").read_bytes() == signed_bytes(name, guid, attributes, T2, PAYLOAD)


@pytest.mark.parametrize("append", [False, True])
def test_what_sbvarsign_signs_is_valid(append, tools, files, kek):
    words = "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS"
    run(
        tools / "bin/sbvarsign", "--key", "key.pem", "--cert", "cert.pem", "--output", "signed",
        "--attr", words + (",APPEND_WRITE" if append else ""), "db", "lists", cwd=files,
    )  # fmt: skip
    made = parse_update((files / "signed").read_bytes())
    attributes = APPEND if append else KEY_ATTRIBUTES
    report = verify(made, "db", DB.guid, attributes, [TrustAnchor("KEK", kek.der)], T3)
    assert report.intact
    assert report.trusted_by == TrustAnchor("KEK", kek.der)


def test_hashes_of_programs(tools, tmp_path, kek):
    """efitools pads what it hashes to 8 bytes, as signing does."""
    programs = sorted((tools / "lib/efitools").rglob("*.efi"))
    assert len(programs) > 5
    for path in programs:
        data = path.read_bytes()
        padded = data + bytes(-len(data) % 8)
        run(tools / "bin/hash-to-efi-sig-list", path, "list", cwd=tmp_path)
        (found,) = entries((tmp_path / "list").read_bytes())
        assert found.fingerprint == image_sha256(padded).hex(), path.name
        (tmp_path / "key.pem").write_bytes(kek.private_pem)
        (tmp_path / "cert.pem").write_bytes(kek.pem)
        run(
            tools / "bin/sbsign", "--key", "key.pem", "--cert", "cert.pem", "--output", "signed",
            path, cwd=tmp_path,
        )  # fmt: skip
        signed = (tmp_path / "signed").read_bytes()
        assert len(signed) > len(data)
        assert image_sha256(signed) == image_sha256(padded), path.name


def test_updates_that_debian_signed(tools):
    """LockDown.efi carries writes of PK, KEK and db, by keys of the package's build."""
    (path,) = (tools / "lib/efitools").rglob("LockDown.efi")
    data = path.read_bytes()
    found: list[AuthenticatedUpdate] = []
    at = data.find(PKCS7.bytes_le)
    while at >= 0:
        # The GUID alone stands among the program's constants, too.
        if data[at - 2 : at] == b"\xf1\x0e":
            update = parse_update(data[at - 24 :], at - 24)
            size = int.from_bytes(update.payload[16:20], "little")
            found.append(replace(update, payload=update.payload[:size]))
        at = data.find(PKCS7.bytes_le, at + 1)
    assert len(found) == 3
    titles = {entries(update.payload)[0].title: update for update in found}
    store = KeyStore({})
    for name, signer in (("PK", "PK"), ("KEK", "PK"), ("db", "KEK")):
        update = titles[f"x509 {name.upper()}"]
        change = apply_signed(store, name, update)
        assert change.report is not None
        assert change.report.valid, change.report
        assert change.report.signer == f"CN={signer}"
        assert change.data == update.payload
        store = after(store, change)
        flipped = bytes([update.payload[40] ^ 1])
        other = replace(update, payload=update.payload[:40] + flipped + update.payload[41:])
        assert verify_update(store, name, other)[0].fault == "signature"
        # A replacement must be later than what it replaces.
        assert verify_update(store, name, update)[0].fault == "time-stamp"
    assert set(store.databases) == {"PK", "KEK", "db"}


# --- Debian's templates ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["OVMF_VARS.ms.fd", "OVMF_VARS_4M.ms.fd"])
def test_the_enrolled_template(name):
    store = template(name)
    assert not store.setup_mode
    assert store.state == ("user mode: Secure Boot is on",)
    (platform,) = entries(store.keys("PK").data)
    assert platform.title == "x509 Debian UEFI Secure Boot (PK/KEK key)"
    assert "Microsoft Corporation KEK CA 2011" in [
        item.certificate.common_name for item in entries(store.keys("KEK").data)
    ]
    for database in store.databases:
        assert store.keys(database).attributes == KEY_ATTRIBUTES
        assert check_lists(store.keys(database).data)
    dbx = entries(store.keys("dbx").data)
    assert {item.kind for item in dbx} == {"sha256"}
    change = remove(store, "dbx", dbx[0].fingerprint[:16], T3)
    assert len(entries(change.data)) == len(dbx) - 1
    again = enrol_hash(after(store, change), "dbx", bytes.fromhex(dbx[0].fingerprint), OWNER, T3)
    assert len(again.data) == len(store.keys("dbx").data)


def test_an_owner_of_the_snakeoil_key_updates_the_template(files):
    """A platform whose private key everybody has: an update by it counts."""
    store = template("OVMF_VARS_4M.snakeoil.fd")
    require(SNAKEOIL.exists(), "package ovmf")
    der = certificate_der(SNAKEOIL.read_bytes())
    assert TrustAnchor("PK", der) in store.anchors("db")
    key = SNAKEOIL.with_suffix(".key")
    content = signed_bytes("db", DB.guid, APPEND, T3, PAYLOAD)
    (files / "content").write_bytes(content)
    require(shutil.which("openssl"), "openssl")
    run(
        "openssl", "cms", "-sign", "-binary", "-noattr", "-md", "sha256", "-in", "content",
        "-signer", SNAKEOIL, "-inkey", key, "-passin", "pass:snakeoil", "-outform", "DER",
        "-out", "signed", cwd=files,
    )  # fmt: skip
    update = AuthenticatedUpdate(T3, (files / "signed").read_bytes(), PAYLOAD)
    report, append = verify_update(store, "db", update)
    assert report.valid, report
    assert append
    change = apply_signed(store, "db", update)
    assert change.data == store.keys("db").data + PAYLOAD
    assert change.timestamp == T3
    assert not verify_update(template("OVMF_VARS_4M.ms.fd"), "db", update)[0].valid


# --- virt-firmware --------------------------------------------------------------------------


def test_virt_firmware_enrols_what_we_enrol(virt_fw_vars: Program, tmp_path, kek):  # noqa: F811
    path = OVMF / "OVMF_VARS_4M.fd"
    require(path.exists(), "package ovmf")
    (tmp_path / "cert.pem").write_bytes(kek.pem)
    target = tmp_path / "theirs.fd"
    virt_fw_vars(
        "-i", path, "-o", target, "--set-pk", OWNER, tmp_path / "cert.pem",
        "--add-kek", OWNER, tmp_path / "cert.pem", "--add-db", OWNER, tmp_path / "cert.pem",
        "--add-db-hash", OWNER, "5a" * 32,
    )  # fmt: skip
    (found,) = find_stores(target.read_bytes())
    theirs = KeyStore.of(found.store)
    ours = template("OVMF_VARS_4M.fd")
    for name in ("PK", "KEK", "db"):
        ours = after(ours, enrol_certificate(ours, name, kek.pem, OWNER, T2))
    ours = after(ours, enrol_hash(ours, "db", b"\x5a" * 32, OWNER, T2))
    for name in ("PK", "KEK", "db"):
        assert ours.keys(name).data == theirs.keys(name).data, name
        assert ours.keys(name).attributes == theirs.keys(name).attributes


def test_virt_firmware_reads_what_we_enrol(virt_fw_vars: Program, tmp_path, kek):  # noqa: F811
    store = KeyStore({})
    for name in ("PK", "KEK", "db"):
        store = after(store, enrol_certificate(store, name, kek.der, OWNER, T2))
    for number in range(5):
        store = after(store, enrol_hash(store, "dbx", bytes([0xA0 + number]) * 32, OWNER, T2))
    store = after(store, remove(store, "dbx", "a2a2", T3))
    records = [
        make_record(
            name, DATABASES[name].guid, item.attributes, item.data,
            timestamp=item.timestamp.build(),
        )
        for name, item in store.databases.items()
    ]  # fmt: skip
    path = tmp_path / "ours.fd"
    path.write_bytes(bytes(volume_bytes(records, OVMF_4M)))
    text = virt_fw_vars("-i", path, "--print", "--verbose", "--hashes")
    assert text.count("Exchange") >= 3
    for number in (0, 1, 3, 4):
        assert f"a{number}" * 32 in text
    assert "a2" * 32 not in text
    target = tmp_path / "auth"
    target.mkdir()
    virt_fw_vars("-i", path, "--output-auth", target)
    for name, item in store.databases.items():
        found = parse_update((target / f"{name}.auth").read_bytes())
        assert found.payload == item.data
        assert found.pkcs7 == b""
        report, _ = verify_update(store, name, found)
        assert report.reason == "it carries no signature"


def test_virt_firmware_takes_our_updates(virt_fw_vars: Program, tmp_path, kek):  # noqa: F811
    path = OVMF / "OVMF_VARS_4M.ms.fd"
    require(path.exists(), "package ovmf")
    update = signed_update("dbx", PAYLOAD, kek)
    (tmp_path / "dbx.auth").write_bytes(update.build())
    target = tmp_path / "updated.fd"
    virt_fw_vars("-i", path, "-o", target, "--set-dbx", tmp_path / "dbx.auth")
    (found,) = find_stores(target.read_bytes())
    record = found.store.find("dbx", guids.IMAGE_SECURITY)
    ours = apply_signed(template("OVMF_VARS_4M.ms.fd"), "dbx", update, force=True)
    assert record.data == ours.data == PAYLOAD
    assert record.time == (ours.timestamp or T2)
    lists = enrol_lists(template("OVMF_VARS_4M.ms.fd"), "dbx", PAYLOAD, T3, replacing=True)
    assert lists.data == record.data
