"""``hwflash history``: what jobs leave behind, and what is made of it."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from harness import Answer, Bench
from support import pattern
from uefi.volumes import OVMF_4M, some_variables, volume_bytes

from hwflash import __version__
from hwflash.jobs.history import FILE


def sha(data: bytes) -> str:
    return sha256(data).hexdigest()


@pytest.fixture(autouse=True)
def ada(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWFLASH_OPERATOR", "Ada")


def entries(bench: Bench, *words: object) -> list[dict[str, Any]]:
    answer = bench.json("history", "list", *words)
    assert answer.code == 0
    return list(answer.result["entries"])


def entry(bench: Bench) -> dict[str, Any]:
    return entries(bench, "--limit", 1)[0]


# --- what jobs record -------------------------------------------------------------------------


def test_a_write(bench: Bench) -> None:
    old = bench.fill(1)
    new = pattern(5000, 2)
    answer = bench.chip("write", bench.file("new.bin", new), "--at", "0x800", "-y", "--json")
    found = entry(bench)
    assert answer.result["history"] == found["id"] == 1
    assert (found["kind"], found["outcome"], found["error"]) == ("write", "ok", None)
    assert found["image_sha256"] == answer.result["sha256"] == sha(new)
    assert found["bytes"] == 5000
    assert found["details"]["ranges"] == [{"address": 0x800, "length": 5000}]
    backup = Path(found["backup"])
    assert found["backup"] == answer.result["backup"]
    assert found["backup_sha256"] == sha(backup.read_bytes())
    assert backup.read_bytes() in old
    assert found["unique_id"] == bench.json("probe", "-p", bench.url()).result["unique_id"]
    assert (found["part"], found["jedec_id"]) == ("W25Q80DV", "ef4014")
    assert (found["operator"], found["version"]) == ("Ada", __version__)
    assert found["modelled"] is True
    assert 0 < found["seconds"] <= answer.result["stats"]["modelled_seconds"] + 1e-6
    assert (bench.state / "jobs" / found["job"]).is_dir()
    started, ended = (datetime.fromisoformat(found[key]) for key in ("started", "time"))
    assert started <= ended <= datetime.now(UTC)
    assert found["file"] is None


def test_nothing_to_do_is_recorded_and_a_dry_run_is_not(bench: Bench) -> None:
    image = bench.file("same.bin", bench.fill(1))
    assert bench.chip("write", image, "-n", "--json").result["history"] is None
    assert bench.chip("erase", "-n").code == 0
    assert entries(bench) == []
    assert not (bench.state / FILE).exists()
    assert bench.chip("write", image, "-y", "--json").result["history"] == 1
    found = entry(bench)
    assert (found["outcome"], found["backup"], found["job"]) == ("unchanged", None, None)
    assert found["image_sha256"] == sha(image.read_bytes())
    assert found["unique_id"]


def test_declined_and_misused_are_not_recorded(bench: Bench) -> None:
    bench.fill(1)
    image = bench.file("x.bin", pattern(300, 2))
    assert bench.chip("write", image, "--at", "0", typed="n\n").code == 130
    assert bench.chip("write", image, "--at", "1M", "-y").code == 2
    assert entries(bench) == []


@pytest.mark.slow
def test_a_write_that_is_cut_and_resumed(bench: Bench) -> None:
    bench.fill(1)
    new = pattern(bench.size, 2)
    cut = bench.chip("write", bench.file("n.bin", new), "-y", url=bench.url(power_cut=9))
    assert cut.code == 6
    first = entry(bench)
    assert (first["outcome"], first["error"]) == ("unknown", "chip.state-unknown")
    assert bench.chip("write", "--resume", "-y", "--json").result["history"] == 2
    found = entry(bench)
    assert (found["kind"], found["outcome"], found["job"]) == ("resume", "ok", first["job"])
    assert found["details"]["resumes"] == first["job"]
    for key in ("image_sha256", "backup", "backup_sha256", "unique_id", "bytes"):
        assert found[key] == first[key], key
    assert found["image_sha256"] == sha(new)
    restored = bench.chip("write", "--restore", first["backup"], "-y", "--json")
    assert restored.result["history"] == 3
    assert entry(bench)["kind"] == "restore"


@pytest.mark.slow
def test_a_resume_by_the_journal_of_an_older_version(bench: Bench) -> None:
    bench.fill(1)
    image = bench.file("n.bin", pattern(bench.size, 2))
    assert bench.chip("write", image, "-y", url=bench.url(power_cut=9)).code == 6
    (facts,) = (bench.state / "jobs").glob("*/facts.json")
    facts.write_text('{"half')
    assert bench.chip("write", "--resume", "-y").code == 0
    found = entry(bench)
    assert (found["outcome"], found["image_sha256"]) == ("ok", None)
    assert found["unique_id"]
    assert found["bytes"] == bench.size


def test_erase_has_no_image(bench: Bench) -> None:
    bench.fill(1)
    assert bench.chip("erase", "--range", "0:64K", "-y").code == 0
    found = entry(bench)
    assert (found["kind"], found["outcome"], found["bytes"]) == ("erase", "ok", 64 << 10)
    assert found["image_sha256"] is None


def test_read_and_verify(bench: Bench) -> None:
    old = bench.fill(1)
    assert bench.chip("read", bench.folder / "out.bin").code == 0
    found = entry(bench)
    assert (found["kind"], found["outcome"]) == ("read", "ok")
    assert found["image_sha256"] == sha(old)
    assert bench.chip("verify", bench.folder / "out.bin").code == 0
    assert entry(bench)["outcome"] == "ok"
    other = bench.file("other.bin", b"\0" + old[1:])
    assert bench.chip("verify", other).code == 1
    found = entry(bench)
    assert (found["kind"], found["outcome"]) == ("verify", "differs")
    assert found["image_sha256"] == sha(old)
    assert found["details"]["wanted_sha256"] == sha(other.read_bytes())
    assert found["details"]["differing"] == 1
    assert found["unique_id"]


def test_a_chip_that_refuses_is_recorded(bench: Bench) -> None:
    bench.fill(1)
    bench.set_registers({1: 0x1C})
    answer = bench.chip("write", bench.file("x.bin", pattern(300, 2)), "--at", "0", "-y")
    assert answer.code == 5
    found = entry(bench)
    assert (found["outcome"], found["error"]) == ("failed", "chip.protected")
    assert found["unique_id"]
    assert found["details"]["message"] in answer.err
    assert found["image_sha256"] is None


GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.fixture
def volume() -> bytes:
    return bytes(volume_bytes(some_variables(), OVMF_4M))


def test_variables_of_a_file(bench: Bench, volume: bytes) -> None:
    store = bench.file("vars.fd", volume)
    answer = bench.run(
        "vars", "set", store, "Unit", "--guid", GUID, "--hex", "4142", "-y", "--json"
    )
    assert answer.code == 0
    found = entry(bench)
    assert answer.result["history"] == found["id"] == 1
    assert (found["kind"], found["outcome"], found["file"]) == ("vars set", "ok", str(store))
    assert found["image_sha256"] == sha(store.read_bytes())
    assert found["backup_sha256"] == sha(volume) == sha(Path(found["backup"]).read_bytes())
    assert (found["programmer"], found["part"]) == (None, None)
    (variable,) = found["details"]["variables"]
    assert (variable["name"], variable["guid"], variable["change"]) == ("Unit", GUID, "set")
    assert (variable["data"], variable["sha256"]) == ("4142", sha(b"AB"))
    assert "variable   Unit" in bench.run("history", "show", 1).out

    other = bench.folder / "other.fd"
    assert bench.run("vars", "delete", store, "Unit", "-y", "-o", other).code == 0
    found = entry(bench)
    assert (found["file"], found["backup"]) == (str(other), None)
    assert found["image_sha256"] == sha(other.read_bytes())
    assert found["details"]["source_sha256"] == sha(store.read_bytes())
    assert [item["change"] for item in found["details"]["variables"]] == ["deleted"]

    assert bench.run("vars", "set", store, "Unit", "--guid", GUID, "--hex", "43", "-n").code == 0
    assert len(entries(bench)) == 2, "a dry run is not recorded"


def test_variables_of_a_chip(bench: Bench, volume: bytes) -> None:
    """One manifest for a unit that was written, given its variables, and verified."""
    bench.fill(volume.ljust(bench.size, b"\xff"))
    long = "41" * 65
    words = ("-p", bench.url())
    assert bench.run("write", bench.file("i.bin", bench.content), *words, "-y").code == 0
    for name, data in (("Unit", "4142"), ("Long", long)):
        change = ("vars", "set", bench.url(), name, "--guid", GUID, "--hex", data, "-y", "--json")
        answer = bench.run(*change)
        assert answer.code == 0
    assert bench.run(*change).code == 0
    assert bench.run("verify", bench.image, *words).code == 0
    found = entries(bench)
    assert [(item["kind"], item["outcome"]) for item in found] == [
        ("verify", "ok"), ("vars set", "unchanged"), ("vars set", "ok"), ("vars set", "ok"),
        ("write", "unchanged"),
    ]  # fmt: skip
    assert len({item["unique_id"] for item in found}) == 1
    assert found[2]["id"] == answer.result["history"] == 3
    (variable,) = found[2]["details"]["variables"]
    assert (variable["size"], variable["data"]) == (65, None), "long values are hashed only"
    assert variable["sha256"] == sha(bytes.fromhex(long))
    file = bench.folder / "m.json"
    assert bench.run("history", "show", 1, 2, 3, 5, "--manifest", file).code == 0
    manifest = json.loads(file.read_text())
    assert manifest["passed"] is True
    assert [item["name"] for item in manifest["variables"]] == ["Unit", "Long"]
    assert manifest["backup"] == {"path": found[3]["backup"], "sha256": found[3]["backup_sha256"]}


def test_a_change_of_variables_that_is_cut_and_resumed(bench: Bench, volume: bytes) -> None:
    bench.fill(volume.ljust(bench.size, b"\xff"))
    change = ("--guid", GUID, "--hex", "4142", "-y")
    assert bench.run("vars", "set", bench.url(power_cut=2), "Unit", *change).code == 6
    assert (entry(bench)["kind"], entry(bench)["outcome"]) == ("vars set", "unknown")
    assert bench.chip("write", "--resume", "-y", "--json").result["history"] == 2
    found = entry(bench)
    assert (found["kind"], found["outcome"]) == ("resume", "ok")
    assert found["details"]["resumed_kind"] == "vars set"
    assert [item["name"] for item in found["details"]["variables"]] == ["Unit"]


# --- the history fails, the job does not ------------------------------------------------------


def test_a_broken_history_is_a_warning(bench: Bench) -> None:
    old = bench.fill(1)
    bench.state.mkdir()
    (bench.state / FILE).write_bytes(b"no database" * 100)
    answer = bench.chip("write", bench.file("x.bin", b"\0" + old[1:]), "-y")
    assert answer.code == 0
    assert "warning: this is not in the history: " in answer.err
    assert bench.content[0] == 0
    answer = bench.chip("verify", bench.folder / "x.bin", "--json")
    assert answer.code == 0
    (warning,) = [line for line in answer.lines if line["type"] == "warning"]
    assert warning["context"]["code"] == "history.corrupt"
    for words in (["list"], ["show", "1"], ["export", "csv"]):
        answer = bench.run("history", *words)
        assert answer.code == 3
        assert "[history.corrupt]" in answer.err


def test_a_state_directory_that_cannot_be(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWFLASH_STATE_DIR", str(bench.file("file", b"") / "state"))
    answer = bench.run("read", bench.folder / "o.bin", "-p", "sim://p25q21h")
    assert answer.code == 0
    assert "warning: this will not be in the history: " in answer.err
    assert (bench.folder / "o.bin").stat().st_size == 256 << 10


def test_a_locked_history(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.fill(1)
    bench.chip("read", bench.folder / "o.bin")
    other = sqlite3.connect(bench.state / FILE, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("hwflash.jobs.history.open_history.__kwdefaults__", {"patience": 0.1})
    try:
        assert bench.json("history", "list").error["code"] == "history.locked"
        assert bench.chip("verify", bench.folder / "o.bin").code == 0
    finally:
        other.close()
    assert len(entries(bench)) == 1


# --- looking ----------------------------------------------------------------------------------


@pytest.fixture
def used(bench: Bench) -> Bench:
    """Three jobs: a read, a verify that differs, a write."""
    old = bench.fill(1)
    bench.chip("read", bench.folder / "old.bin")
    other = bench.file("other.bin", b"\0" + old[1:])
    bench.chip("verify", other)
    bench.chip("write", other, "-y")
    return bench


def test_list(used: Bench) -> None:
    lines = used.run("history", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "2", "1"]
    assert re.fullmatch(
        r" +3  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  ok +write +W25Q80DV [0-9a-f]{16}  Ada", lines[0]
    )
    assert used.run("history", "list", "--limit", 1).out.splitlines()[1:] == [
        "and 2 older ones: --limit 3"
    ]
    answer = used.json("history", "list", "--limit", 2)
    assert ([item["id"] for item in answer.result["entries"]], answer.result["total"]) == (
        [3, 2],
        3,
    )

    def ids(*words: object) -> list[int]:
        return [item["id"] for item in entries(used, *words)]

    assert ids("--outcome", "differs") == [2]
    assert ids("--chip", "w25q80DV", "--outcome", "ok") == [3, 1]
    assert ids("--chip", "none") == []
    for since in ("1h", "2020-01-31", "2020-01-31T12:00:00+02:00"):
        assert ids("--since", since) == [3, 2, 1]
    assert ids("--since", "2999-01-01") == []
    assert used.run("history", "list", "--since", "2999-01-01").out == (
        "the history has no such jobs\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--since", "yesterday"], ["list", "--since", "9999999d"],
        ["list", "--since", "0001-01-01T00:00+10:00"], ["list", "--since", "999999w"],
        ["list", "--limit", "0"], ["list", "--outcome", "good"], ["show"], ["show", "x"],
        ["export", "xls"], ["nothing"],
    ],
)  # fmt: skip
def test_misuse(bench: Bench, words: list[str]) -> None:
    answer = bench.run("history", *words, "--json")
    assert answer.code == 2
    assert answer.error["code"] == "usage.command-line"


def test_nothing_was_done_yet(bench: Bench) -> None:
    assert bench.run("history", "list").out == "the history has no such jobs\n"
    for number in ("1", "99999999999999999999999"):
        answer = bench.json("history", "show", number)
        assert (answer.code, answer.error["code"]) == (2, "history.no-entry")
    assert bench.run("history", "export", "csv").out.count("\n") == 1
    assert not bench.state.exists(), "looking makes nothing"


def test_show_and_reports(used: Bench) -> None:
    html, junit, manifest = (used.folder / name for name in ("r.html", "r.xml", "m.json"))
    answer = used.run(
        "history", "show", 3, "--html", html, "--junit", junit, "--manifest", manifest
    )
    assert answer.code == 0
    for text in ("entry 3: write, ok", "W25Q80DV ef4014", "done and verified", "Ada on ",
                 "modelled", f"html written to {html}"):  # fmt: skip
        assert text in answer.out, text
    found = json.loads(manifest.read_text())
    assert found["passed"] is True
    assert found["image_sha256"] == sha(used.content)
    assert found["operator"] == "Ada"
    assert found["chip"]["unique_id"] == found["jobs"][0]["unique_id"]
    assert found["sha256"] in html.read_text()
    (case,) = ET.parse(junit).getroot().iter("testcase")  # noqa: S314
    assert case.attrib["classname"] == "hwflash.write"

    answer = used.json("history", "show", 2, 3, 2, "--manifest", manifest)
    assert answer.result["passed"] is False
    assert answer.result["files"] == {"manifest": str(manifest)}
    assert [item["id"] for item in answer.result["entries"]] == [2, 3]
    assert json.loads(manifest.read_text())["passed"] is False


def test_reports_that_cannot_be(used: Bench) -> None:
    junit = used.folder / "r.xml"
    answer = used.json("history", "show", 3, "--junit", junit, "--html", junit)
    assert answer.error["code"] == "usage.selection"
    missing = used.folder / "missing" / "r.xml"
    assert used.json("history", "show", 3, "--junit", missing).error["code"] == (
        "environment.unwritable"
    )
    small = Bench(used.folder, "p25q21h")
    small.image = used.folder / "small.bin"
    small.fill(1)
    small.chip("read", used.folder / "s.bin")
    answer = used.json("history", "show", 3, 4, "--junit", junit, "--html", used.folder / "r.html")
    assert answer.error["code"] == "history.units"
    assert not junit.exists(), "none of the set is written"


def rows(answer: Answer) -> list[dict[str, str]]:
    assert answer.code == 0
    return list(csv.DictReader(io.StringIO(answer.out)))


def test_export(used: Bench) -> None:
    assert [row["id"] for row in rows(used.run("history", "export", "csv"))] == ["1", "2", "3"]
    (row,) = rows(used.run("history", "export", "csv", "-", "--outcome", "differs"))
    assert row["kind"] == "verify"
    file = used.folder / "h.csv"
    answer = used.json("history", "export", "csv", file)
    assert answer.result["exported"] == 3
    assert file.read_text() == used.run("history", "export", "csv").out
    assert used.json("history", "export", "csv").error["code"] == "usage.selection"


def test_hostile_names(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWFLASH_OPERATOR", "=HYPERLINK()\x1b[31m\r\udcff")
    bench.fill(1)
    bench.chip("read", bench.folder / "o.bin")
    assert "=HYPERLINK()\\u001b[31m\\u000d\\udcff" in bench.run("history", "list").out
    assert "\\u001b" in bench.run("history", "show", 1).out
    (row,) = rows(bench.run("history", "export", "csv"))
    assert row["operator"].startswith("'=HYPERLINK")
