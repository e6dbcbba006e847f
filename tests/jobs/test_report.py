"""Reports: well-formed, complete in themselves, harmless whatever the history holds."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwflash.errors import EnvironmentFault, UsageError
from hwflash.jobs.history_entry import COLUMNS, OUTCOMES, Entry
from hwflash.jobs.report import (
    MEANING,
    batch,
    by_unit,
    csv_text,
    digest,
    junit,
    manifest,
    manifest_text,
    save_report,
)
from hwflash.jobs.report_html import batch_report, html_report

VARIABLE = {
    "name": "SerialNumber", "guid": "8be4df61-93ca-11d2-aa0d-00e098032b8c", "change": "set",
    "attributes": ["NON_VOLATILE"], "size": 2, "sha256": "12" * 32, "data": "4142",
}  # fmt: skip
WRITE = Entry(
    id=4, time="2026-01-31T12:00:05Z", started="2026-01-31T12:00:00Z", kind="write", outcome="ok",
    programmer="sim://w25q80", part="W25Q80DV", jedec_id="ef4014", unique_id="00112233aabbccdd",
    board="bench", image_sha256="ab" * 32, backup="/b/a.bin", backup_sha256="cd" * 32,
    bytes=1 << 20, seconds=4.25, modelled=True, operator="Ada", host="bench-1", version="0.1.0",
    job="20260131-120000-abcdef", details={"ranges": []},
)  # fmt: skip
SET = replace(
    WRITE, id=5, started="2026-01-31T12:00:06Z", time="2026-01-31T12:00:07Z", kind="vars set",
    image_sha256=None, backup="/b/b.bin", seconds=0.5, details={"variables": [VARIABLE]},
)  # fmt: skip
VERIFY = replace(
    WRITE, id=6, time="2026-01-31T12:00:09Z", kind="verify", image_sha256="ee" * 32, backup=None,
    backup_sha256=None, seconds=0.25, operator="Grace", details={},
)  # fmt: skip
CUT = replace(WRITE, id=7, outcome="unknown", error="chip.state-unknown")
NASTY = "<script>alert(1)</script>\"'&\x00\x1b[31m\ud800\uffff\r\n]]>"


def nasty(entry: Entry) -> Entry:
    texts = {
        name: NASTY
        for name in COLUMNS
        if isinstance(getattr(entry, name), str) and name != "outcome"
    }
    return replace(
        entry, **texts, details={NASTY: NASTY, "variables": [{**VARIABLE, "name": NASTY}]}
    )


class Page(HTMLParser):
    """What is on a page."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}" if "style" not in self.open else ""


# --- manifest ---------------------------------------------------------------------------------


def test_the_manifest_of_a_unit() -> None:
    found = manifest([VERIFY, WRITE, SET])
    assert found["passed"] is True
    assert found["chip"] == {
        "part": "W25Q80DV", "jedec_id": "ef4014", "unique_id": "00112233aabbccdd",
    }  # fmt: skip
    assert found["image_sha256"] == "ab" * 32, "what was written, not what verify saw afterwards"
    assert found["backup"] == {"path": "/b/a.bin", "sha256": "cd" * 32}, "of before the first job"
    assert found["variables"] == [VARIABLE]
    assert found["times"] == {
        "started": "2026-01-31T12:00:00Z", "finished": "2026-01-31T12:00:09Z", "seconds": 5.0,
        "modelled": True,
    }  # fmt: skip
    assert (found["operator"], found["host"]) == ("Grace", "bench-1")
    assert found["tool"] == {"name": "hwflash", "version": "0.1.0"}
    assert [job["id"] for job in found["jobs"]] == [4, 5, 6]
    assert json.loads(manifest_text([WRITE, SET, VERIFY])) == found


def test_a_manifest_of_a_verify_alone_names_what_the_chip_holds() -> None:
    assert manifest([VERIFY])["image_sha256"] == "ee" * 32
    assert manifest([VERIFY])["backup"] is None


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_only_what_passed_passes(outcome: str) -> None:
    found = manifest([WRITE, replace(SET, outcome=outcome)])
    assert found["passed"] is (outcome in ("ok", "unchanged"))


def test_the_digest_is_of_all_the_rest() -> None:
    found = manifest([WRITE])
    rest = {key: value for key, value in found.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert found["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert digest(json.loads(manifest_text([WRITE]))) == found["sha256"]
    assert digest({**found, "operator": "Eve"}) != found["sha256"]


@pytest.mark.parametrize(
    "other",
    [{"unique_id": "ff" * 8}, {"jedec_id": "c22018"}, {"jedec_id": None, "file": "/x.fd"}],
)
def test_two_units_have_no_manifest_together(other: dict[str, Any]) -> None:
    for make in (manifest, html_report):
        with pytest.raises(UsageError) as caught:
            make([WRITE, replace(SET, **other)])
        assert caught.value.code == "history.units"
    assert junit([WRITE, replace(SET, **other)]).count("<testcase ") == 2


def test_a_job_that_could_not_ask_the_chip_may_be_of_the_same_unit() -> None:
    found = manifest([replace(WRITE, unique_id=None, outcome="failed"), replace(WRITE, id=9)])
    assert found["chip"]["unique_id"] == "00112233aabbccdd"
    assert found["passed"] is False


# --- JUnit ------------------------------------------------------------------------------------


def test_junit() -> None:
    failed = replace(
        WRITE, id=8, outcome="failed", error="chip.protected", details={"message": "no"}
    )
    top = ET.fromstring(junit([CUT, WRITE, failed, SET], name="batch 7"))  # noqa: S314
    assert top.tag == "testsuites"
    (suite,) = top
    wanted = {"name": "batch 7", "tests": "4", "failures": "1", "errors": "1", "skipped": "0",
              "time": "13.250000", "hostname": "bench-1",
              "timestamp": "2026-01-31T12:00:00"}  # fmt: skip
    assert suite.attrib == wanted
    names = [case.attrib["name"] for case in suite]
    assert names[0] == "4 write W25Q80DV 00112233aabbccdd"
    assert [case.attrib["classname"] for case in suite][1] == "hwflash.vars.set"
    results = [[child.tag for child in case if child.tag != "properties"] for case in suite]
    assert results == [[], [], ["error"], ["failure"]]
    failure = suite[3].find("failure")
    assert failure is not None
    assert failure.attrib["type"] == "chip.protected"
    assert failure.attrib["message"] == f"{MEANING['failed']} [chip.protected]"
    assert failure.text == "no"
    facts = {item.attrib["name"]: item.attrib["value"] for item in suite[1].iter("property")}
    assert facts["jedec_id"] == "ef4014"
    assert facts["modelled"] == "true"
    assert facts["seconds"] == "0.5"
    assert facts[f"variable SerialNumber {VARIABLE['guid']}"] == f"set {'12' * 32}"
    assert "image_sha256" not in facts


def test_junit_of_what_xml_cannot_hold() -> None:
    text = junit([nasty(replace(CUT, error="x"))], name=NASTY)
    text.encode()
    top = ET.fromstring(text)  # noqa: S314
    assert top.attrib["name"] == (
        "<script>alert(1)</script>\"'&\\u0000\\u001b[31m\\ud800\\uffff\\u000d\\u000a]]>"
    )
    assert [item.tag for item in top.iter() if item.tag == "script"] == []


@settings(deadline=None)
@given(text=st.text(st.characters(codec=None), max_size=30))
def test_any_text_in_any_report(text: str) -> None:
    entry = replace(WRITE, operator=text, part=text, outcome="unknown", details={text: text})
    (case,) = ET.fromstring(junit([entry], name=text)).iter("testcase")  # noqa: S314
    assert case.find("error") is not None
    assert Page(html_report([entry])).open == []
    rows = list(csv.reader(io.StringIO(csv_text([entry]))))
    assert [len(row) for row in rows] == [len(COLUMNS)] * 2
    assert json.loads(manifest_text([entry]))["operator"] == text


# --- HTML -------------------------------------------------------------------------------------


def test_the_page_says_everything_without_colour() -> None:
    page = Page(html_report([WRITE, SET]))
    for text in (
        "PASSED: write 4: done and verified; vars set 5: done and verified", "W25Q80DV", "ef4014",
        "00112233aabbccdd", "ab" * 32, "cd" * 32, "/b/a.bin", "SerialNumber", "4142", "Ada",
        "4.75 s (modelled)", "hwflash 0.1.0", manifest([WRITE, SET])["sha256"],
    ):  # fmt: skip
        assert text in page.text, text
    assert "NOT PASSED" not in page.text
    cut = Page(html_report([CUT]))
    assert f"NOT PASSED: write 7: {MEANING['unknown']} [chip.state-unknown]" in cut.text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    for entries in ([WRITE, SET, VERIFY], [nasty(CUT)]):
        text = html_report(entries)
        page = Page(text)
        assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
        names = {name for name, _ in page.attributes}
        assert names <= {"lang", "charset", "http-equiv", "content", "name", "class", "scope"}
        assert "url(" not in text
        assert "@import" not in text
        assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_hostile_text_stays_text() -> None:
    page = Page(html_report([nasty(CUT)]))
    assert "<script>alert(1)</script>\"'&\\u0000\\u001b[31m" in page.text
    html_report([nasty(CUT)]).encode()


# --- CSV --------------------------------------------------------------------------------------


def test_csv() -> None:
    text = csv_text([WRITE, SET])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["id"] == "4"
    assert rows[0]["seconds"] == "4.25"
    assert rows[0]["modelled"] == "true"
    assert rows[1]["image_sha256"] == ""
    assert json.loads(rows[1]["details"])["variables"] == [VARIABLE]
    assert text.count("\n") == 3
    assert csv_text([]) == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", '="x",=1', "\uff1d1", "\x0b-1"],
)
def test_no_cell_is_a_formula(text: str) -> None:
    entry = replace(WRITE, operator=text, part=f"x{text}", details={text: text})
    ((cells),) = list(csv.DictReader(io.StringIO(csv_text([entry]))))
    for cell in cells.values():
        assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r", "\uff1d")), cell
    assert cells["operator"].startswith(("'", "\\"))
    assert cells["part"].startswith("x")


def test_an_entry_is_a_line() -> None:
    text = csv_text([nasty(WRITE), replace(WRITE, operator="a\nb\rc\x85d")])
    assert len(text.splitlines()) == 3
    assert "a\\u000ab\\u000dc\\u0085d" in text


# --- files ------------------------------------------------------------------------------------


def test_a_report_that_cannot_be_written(tmp_path: Path) -> None:
    save_report(tmp_path / "r.html", "ä")
    assert (tmp_path / "r.html").read_bytes() == "ä".encode()
    with pytest.raises(EnvironmentFault) as caught:
        save_report(tmp_path / "missing" / "r.html", "x")
    assert caught.value.code == "environment.unwritable"


# --- units of job files, and batches --------------------------------------------------------------

UNIT = {
    "job": "gizmo", "batch": "gizmo-1", "number": 2, "serial": "GZ-2",
    "macs": ["02:00:00:00:00:02"], "row": {"colour": "red"}, "origin": "new",
    "files": {"fw.fd": "99" * 32},
}  # fmt: skip
STEP = replace(WRITE, kind="job", details={"unit": UNIT, "variables": [VARIABLE]})
AFTER = {
    "command": ["./label", "GZ-2"], "outcome": "failed", "exit_code": 3, "text": "out of labels",
    "seconds": 0.1,
}  # fmt: skip
WHOLE = replace(
    WRITE, id=8, kind="job run", outcome="rejected", error="job.after", backup=None,
    backup_sha256=None, details={"unit": UNIT, "includes": [4], "after": [AFTER]},
)  # fmt: skip
OTHER = replace(
    WHOLE, id=9, unique_id="ff" * 8, outcome="ok", error=None,
    details={"unit": {**UNIT, "number": 1, "serial": "GZ-1"}, "includes": []},
)  # fmt: skip


def test_the_manifest_of_a_unit_of_a_job_file() -> None:
    found = manifest([STEP, WHOLE])
    assert found["unit"] == UNIT
    assert found["passed"] is False, "the after-step failed, though the write did not"
    assert found["times"]["seconds"] == 4.25, "the unit's time has that of its steps in it"
    assert found["backup"] == {"path": "/b/a.bin", "sha256": "cd" * 32}
    assert found["variables"] == [VARIABLE]


def test_a_batch_is_its_units_in_their_order() -> None:
    found = batch([WHOLE, OTHER, STEP])
    assert found["counts"] == {"units": 2, "passed": 1, "not_passed": 1}
    assert [item["unit"]["serial"] for item in found["units"]] == ["GZ-1", "GZ-2"]
    assert digest(found) == found["sha256"]
    page = Page(batch_report([WHOLE, OTHER, STEP], "lot <1>"))
    for text in (
        "1 OF 2 UNITS PASSED", "unit 2 GZ-2 W25Q80DV: rejected [job.after]", "lot <1>",
        "02:00:00:00:00:02", "./label GZ-2", "out of labels", "fw.fd", "Signed off",
    ):  # fmt: skip
        assert text in page.text, text
    assert "script" not in page.tags
    assert all(not str(value).startswith("http") for _, value in page.attributes)


def test_units_of_two_runs_do_not_mix() -> None:
    later = replace(OTHER, id=20, details={"unit": {**UNIT, "batch": "gizmo-2", "number": 1}})
    numbers = [[job.id for job in unit] for unit in by_unit([later, WHOLE, OTHER, STEP])]
    assert numbers == [[9], [4, 8], [20]]


def test_a_unit_is_one_test_case() -> None:
    suite = ET.fromstring(junit([STEP, WHOLE, OTHER]))  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    case = suite.findall(".//testcase")[0]
    assert "GZ-2" in (case.get("name") or "")
    said = {item.get("name"): item.get("value") for item in case.iter("property")}
    assert (said["serial"], said["unit"]) == ("GZ-2", "2")
    assert said["backup 4"] == f"/b/a.bin {'cd' * 32}"


@pytest.mark.parametrize("bad", [7, "x", [], {"macs": 3, "files": 4, "number": "x"}, [{}]])
def test_details_that_are_none(bad: Any) -> None:
    odd = replace(WHOLE, details={"unit": bad, "includes": bad, "after": bad, "variables": bad})
    Page(batch_report([odd, OTHER], "x"))
    junit([odd, OTHER])
    batch([odd, OTHER])
