"""``hwflash keys``: Secure Boot databases changed offline, through the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import Bench
from uefi.keys import T2, hash_list, make_key, signed_update
from uefi.volumes import OVMF_4M, some_variables, volume_bytes

from hwflash.uefi.find import find_stores
from hwflash.uefi.guids import GLOBAL_VARIABLE, IMAGE_SECURITY

HASH = "5f" * 32


@pytest.fixture
def store(bench: Bench) -> Path:
    return bench.file("vars.fd", bytes(volume_bytes(some_variables(), OVMF_4M)))


def enroll(bench: Bench, store: Path, database: str, *words: object):
    answer = bench.json("keys", "enroll", store, database, *words, "-y")
    assert answer.code == 0, answer.out
    return answer.result


def listed(bench: Bench, store: Path) -> dict[str, list[str]]:
    answer = bench.json("keys", "list", store)
    assert answer.code == 0
    return {
        item["name"]: [entry["title"] for entry in item["entries"]]
        for item in answer.result["databases"]
    }


def test_an_empty_store_is_in_setup_mode(bench: Bench, store: Path):
    answer = bench.run("keys", "list", store)
    assert answer.code == 0
    assert "setup mode" in answer.out


def test_enroll_list_and_remove(bench: Bench, store: Path):
    owner, signer = make_key("Owner"), make_key("Signer")
    enroll(bench, store, "PK", "--certificate", bench.file("pk.pem", owner.pem))
    enroll(bench, store, "KEK", "--certificate", bench.file("kek.der", owner.der))
    result = enroll(bench, store, "db", "--certificate", bench.file("db.der", signer.der))
    assert (result["added"], result["erases"]) == (1, {})
    enroll(bench, store, "dbx", "--sha256", HASH)
    assert listed(bench, store) == {
        "PK": ["x509 Owner"],
        "KEK": ["x509 Owner"],
        "db": ["x509 Signer"],
        "dbx": [f"sha256 {HASH}"],
    }
    (found,) = find_stores(store.read_bytes())
    assert found.store.find("PK", GLOBAL_VARIABLE).attributes == 0x27
    assert found.store.find("db", IMAGE_SECURITY).time.year >= 2025
    again = enroll(bench, store, "dbx", "--sha256", HASH)
    assert (again["added"], again["executed"]) == (0, False)
    answer = bench.json("keys", "remove", store, "db", "Signer", "-y")
    assert (answer.code, answer.result["removed"]) == (0, 1)
    assert "db" not in listed(bench, store)
    answer = bench.run("keys", "remove", store, "PK", "--all", "-y")
    assert answer.code == 0
    assert "setup mode" in bench.run("keys", "list", store).out


def test_an_offline_edit_says_that_it_bypasses_the_signature(bench: Bench, store: Path):
    answer = bench.run("keys", "enroll", store, "dbx", "--sha256", HASH, "-y")
    assert re.search(r"^note: .*no signature", answer.out, re.MULTILINE)


def test_a_signed_update_is_judged_and_applied(bench: Bench, store: Path):
    platform, owner, stranger = make_key("Platform"), make_key("Owner"), make_key("Stranger")
    enroll(bench, store, "PK", "--certificate", bench.file("pk.der", platform.der))
    enroll(bench, store, "KEK", "--certificate", bench.file("kek.der", owner.der))
    payload = hash_list(b"\x11" * 32, b"\x22" * 32)
    good = bench.file("dbx.bin", signed_update("dbx", payload, owner, append=True, time=T2).build())
    bad = bench.file("bad.bin", signed_update("dbx", payload, stranger, append=True).build())
    before = store.read_bytes()
    answer = bench.run("keys", "update", store, "dbx", bad, "-y")
    assert answer.code == 7
    assert "[uefi.signature]" in answer.err
    assert "Stranger" in answer.err
    assert store.read_bytes() == before
    answer = bench.json("keys", "update", store, "dbx", good, "-y")
    assert answer.code == 0, answer.out
    signature = answer.result["signature"]
    assert (signature["valid"], signature["trusted_by"]) == (True, "KEK")
    assert listed(bench, store)["dbx"] == [f"sha256 {'11' * 32}", f"sha256 {'22' * 32}"]
    answer = bench.json("keys", "update", store, "dbx", bad, "--force", "-y")
    assert answer.code == 0
    assert answer.result["signature"]["valid"] is False
    assert answer.result["added"] == 0


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("enroll", "db"), 2, "usage.selection"),
        (("enroll", "db", "--sha256", "12"), 2, "usage.hash"),
        (("enroll", "KEK", "--sha256", HASH), 2, "usage.key-kind"),
        (("enroll", "MokList", "--sha256", HASH), 2, "usage.command-line"),
        (("enroll", "db", "--certificate", "junk"), 7, "uefi.certificate"),
        (("enroll", "db", "--lists", "junk"), 7, "uefi.signature-list"),
        (("enroll", "db", "--certificate", "missing"), 3, "environment.unreadable"),
        (("update", "dbx", "junk"), 7, "uefi.authentication"),
        (("remove", "db", "x"), 2, "usage.key"),
        (("remove", "db"), 2, "usage.selection"),
    ],
)
def test_bad_input_is_refused(bench: Bench, store: Path, words, code, error):
    junk = bench.file("junk", b"no certificate at all, and no list either")
    before = store.read_bytes()
    verb, *rest = (str(junk) if word == "junk" else word for word in words)
    answer = bench.run("keys", verb, store, *rest, "-y")
    assert (answer.code, f"[{error}]" in answer.err) == (code, True), answer.err
    assert store.read_bytes() == before
