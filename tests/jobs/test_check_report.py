"""Reports of checks, and JUnit as such."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from hwflash.errors import EnvironmentFault
from hwflash.jobs.check_report import (
    CheckReport,
    CheckRun,
    json_report,
    junit_report,
    left_out,
    text_report,
    verdict,
)
from hwflash.jobs.junit import Case, Suite, Trouble, junit_text
from hwflash.qemu.check import Step

GOOD = Step("boots", True, "the Shell", "the Shell", 4.25)
BAD = Step("memory-guid", False, "33 22", "44 55", 0.5)


def report(*runs: CheckRun) -> CheckReport:
    return CheckReport(runs, True, "2026-01-31T12:00:00", "bench-1")


WELL = CheckRun("pflash", "code.fd", "q35", [GOOD])
BROKEN = CheckRun("vmgenid", "code.fd", "q35", [GOOD, BAD])
SKIPPED = CheckRun("secure", left_out="the flash takes writes from everywhere")
STOPPED = CheckRun(
    "s3", "code.fd", "q35", [GOOD], EnvironmentFault("no QEMU", code="environment.qemu-missing")
)


def test_certified() -> None:
    found = report(WELL, SKIPPED)
    assert found.passed
    assert verdict(found) == "1 steps, 0 failed"
    assert json.loads(json_report(found))["passed"] is True
    assert text_report(found).endswith("\n1 steps, 0 failed\nPASSED\n")
    assert not report().passed, "nothing was looked at"
    assert not report(SKIPPED).passed


def test_which_step_broke() -> None:
    found = report(WELL, BROKEN, SKIPPED, STOPPED)
    assert not found.passed
    assert verdict(found) == "4 steps, 1 failed: vmgenid, s3"
    text = text_report(found).splitlines()
    assert text[0].endswith(" on bench-1, 2026-01-31T12:00:00Z")
    at = text.index("  FAILED  memory-guid  0.500 s")
    assert text[at + 1 : at + 3] == ["          expected: 33 22", "          found:    44 55"]
    assert "secure: left out, the flash takes writes from everywhere" in text
    assert "  ERROR   no QEMU [environment.qemu-missing]" in text
    assert text[-1] == "NOT PASSED"


def test_a_run_that_was_stopped_certifies_nothing() -> None:
    """By a kill, or by a fault of hwflash's own: no check says that it failed."""
    for runs in ((), (WELL,)):
        found = CheckReport(runs)
        assert not found.passed
        assert json.loads(json_report(found))["passed"] is False
        assert text_report(found).splitlines()[-2:] == [
            "stopped before its end: what is not listed was not checked", "NOT PASSED"
        ]  # fmt: skip
        assert ET.fromstring(junit_report(found)).attrib["errors"] == "1"  # noqa: S314


def test_json() -> None:
    found = json.loads(json_report(report(BROKEN, SKIPPED, STOPPED)))
    assert (found["format"], found["version"], found["passed"]) == ("hwflash-check", 1, False)
    assert (found["started"], found["host"]) == ("2026-01-31T12:00:00Z", "bench-1")
    assert [item["name"] for item in found["checks"]] == ["vmgenid", "s3"]
    assert found["checks"][0]["steps"][1] == {
        "name": "memory-guid", "ok": False, "expected": "33 22", "found": "44 55",
        "seconds": 0.5, "check": "vmgenid",
    }  # fmt: skip
    assert found["checks"][1]["error"] == {
        "code": "environment.qemu-missing", "message": "no QEMU"
    }  # fmt: skip
    assert found["left_out"] == left_out(report(SKIPPED)) == [
        {"name": "secure", "reason": "the flash takes writes from everywhere"}
    ]  # fmt: skip


def test_junit() -> None:
    top = ET.fromstring(junit_report(report(WELL, BROKEN, SKIPPED, STOPPED)))  # noqa: S314
    assert top.attrib == {
        "name": "hwflash qemu check", "tests": "6", "failures": "1", "errors": "1",
        "skipped": "1", "time": "13.250000",
    }  # fmt: skip
    suites = {suite.attrib["name"]: suite for suite in top}
    assert list(suites) == [
        "qemu check pflash", "qemu check vmgenid", "qemu check secure", "qemu check s3"
    ]  # fmt: skip
    broken = suites["qemu check vmgenid"]
    assert broken.attrib["timestamp"] == "2026-01-31T12:00:00"
    (failure,) = broken.iter("failure")
    assert failure.attrib == {
        "type": "check.memory-guid", "message": "expected: 33 22; found: 44 55"
    }  # fmt: skip
    facts = {item.attrib["name"]: item.attrib["value"] for item in broken[1].iter("property")}
    assert facts == {
        "code": "code.fd", "machine": "q35", "expected": "33 22", "found": "44 55"
    }  # fmt: skip
    assert [item.attrib["type"] for item in suites["qemu check s3"].iter("error")] == [
        "environment.qemu-missing"
    ]
    assert len(list(suites["qemu check secure"].iter("skipped"))) == 1


@given(text=st.text(st.characters(codec=None), max_size=30))
def test_any_text(text: str) -> None:
    """What a hostile guest says is in every report, on one line, and escaped."""
    step = Step(text, False, text, text, 1.0)
    error = EnvironmentFault(text, code="environment")
    found = report(CheckRun("x", text, text, [step], error), CheckRun("y", left_out=text or "-"))
    cases = list(ET.fromstring(junit_report(found)).iter("testcase"))  # noqa: S314
    assert [[child.tag for child in case if child.tag != "properties"] for case in cases] == [
        ["failure"], ["error"], ["skipped"]
    ]  # fmt: skip
    assert json.loads(json_report(found))["checks"][0]["steps"][0]["found"] == text
    lines = text_report(found).split("\n")
    assert len(lines) == 13
    # A line is a line to a terminal, and no character on it moves the cursor.
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for line in lines for char in line)


def test_counts_of_suites() -> None:
    cases = [Case("a", "b", 1.0), Case("a", "c", 2.0, (), Trouble("skipped", "t", "m"))]
    top = ET.fromstring(junit_text("all", [Suite("one", cases), Suite("two", [])]))  # noqa: S314
    assert [item.attrib["tests"] for item in top] == ["2", "0"]
    assert (top.attrib["skipped"], top.attrib["time"]) == ("1", "3.000000")
