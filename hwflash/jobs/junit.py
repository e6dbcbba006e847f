"""JUnit XML from suites of cases, whatever they are about.

Ref: the schema of Apache Ant's JUnit task, as Jenkins and GitLab read it; XML 1.0.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hwflash.uefi.window import printable

Kind = Literal["failure", "error", "skipped"]
_COUNTS: Final[dict[Kind, str]] = {
    "failure": "failures", "error": "errors", "skipped": "skipped",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a case is not well.

    Attributes:
        kind: it failed, could not be tried, or was left out.
        type: a stable code.
        message: one line.
        text: more.
    """

    kind: Kind
    type: str
    message: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """Something that was tried.

    Attributes:
        group: what it belongs to, with dots.
        name: its name.
        seconds: it took.
        properties: facts.
        trouble: None when it is well.
    """

    group: str
    name: str
    seconds: float
    properties: Sequence[tuple[str, str]] = ()
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Suite:
    """Cases that were tried together.

    Attributes:
        name: its name.
        cases: in order.
        timestamp: its begin, ISO 8601 without a zone, in UTC.
        host: name of the computer.
    """

    name: str
    cases: Sequence[Case]
    timestamp: str = ""
    host: str = ""


def junit_text(name: str, suites: Sequence[Suite]) -> str:
    """A JUnit file.

    Args:
        name: of all suites together.
        suites: at least one.
    """
    every = [case for suite in suites for case in suite.cases]
    top = ET.Element("testsuites", {"name": visible(name), **_counted(every)})
    for suite in suites:
        facts = {"name": visible(suite.name), **_counted(suite.cases)}
        facts |= {"timestamp": visible(suite.timestamp), "hostname": visible(suite.host)}
        part = ET.SubElement(top, "testsuite", facts)
        part.extend(_case(case) for case in suite.cases)
    ET.indent(top)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(top, encoding="unicode") + "\n"


def _counted(cases: Sequence[Case]) -> dict[str, str]:
    kinds = [case.trouble.kind for case in cases if case.trouble is not None]
    found = {"tests": str(len(cases))}
    found |= {word: str(kinds.count(kind)) for kind, word in _COUNTS.items()}
    return found | {"time": f"{sum(case.seconds for case in cases):.6f}"}


def _case(case: Case) -> ET.Element:
    facts = {"classname": visible(case.group), "name": visible(case.name)}
    found = ET.Element("testcase", {**facts, "time": f"{case.seconds:.6f}"})
    if case.properties:
        properties = ET.SubElement(found, "properties")
        for key, value in case.properties:
            item = {"name": visible(key), "value": visible(value)}
            ET.SubElement(properties, "property", item)
    if case.trouble is not None:
        trouble = case.trouble
        facts = {"type": visible(trouble.type), "message": visible(trouble.message)}
        ET.SubElement(found, trouble.kind, facts).text = visible(trouble.text)
    return found


def visible(text: str) -> str:
    """Text on one line that every form can hold: what cannot be printed is escaped."""
    # XML has no way to write these two. Ref: XML 1.0, production Char.
    return printable(text).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
