"""Reports as pages: of one unit, or of a batch with a line for each unit.

A page stands by itself: no scripts, nothing loaded, and nothing in it depends on colour. It is
made of a manifest (`hwflash.jobs.report`), which it also holds as JSON.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hwflash import __version__
from hwflash.jobs.history_entry import Entry
from hwflash.jobs.report import (
    batch,
    by_unit,
    cell,
    in_order,
    listed,
    manifest,
    mapping,
    meaning,
    tops,
    visible,
)
from hwflash.units import format_seconds

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root{color-scheme:light dark;--ok:#1a7f37;--bad:#b42318;--line:#8886;--soft:#8881}
body{font:15px/1.45 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1.2em}
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.15em;margin:1.8em 0 .5em}
h3{font-size:1em;margin:1.2em 0 .4em}
.verdict{border:2px solid;border-left-width:.6em;padding:.5em .8em;font-weight:600}
.ok{color:var(--ok)}.bad{color:var(--bad)}
table{border-collapse:collapse;width:100%}
th,td{border:1px solid var(--line);padding:.28em .55em;text-align:left;vertical-align:top}
thead th{background:var(--soft);white-space:normal}td.ok,td.bad{min-width:8em}
tbody tr:nth-child(even){background:var(--soft)}
table.facts th{width:13em;font-weight:600;background:var(--soft)}
th{white-space:nowrap}td,pre{overflow-wrap:anywhere}td.id{white-space:nowrap}
code,pre,.mono{font-family:ui-monospace,monospace;font-size:.88em}pre{white-space:pre-wrap}
details{border:1px solid var(--line);padding:.4em .8em;margin:.5em 0}
summary{cursor:pointer;font-weight:600}details[open]>summary{margin-bottom:.5em}
details details{font-size:.93em}details details summary{font-weight:400}
.sign{display:flex;gap:3em;margin-top:3.5em}.sign div{border-top:1px solid;flex:1;padding-top:.2em}
footer{margin-top:2em;opacity:.75;font-size:.85em}
@media print{body{margin:0;max-width:none}details.json{display:none}h2,h3{break-after:avoid}
tr,details{break-inside:avoid}}
""".strip()
_VARIABLES: Final = ("name", "guid", "change", "attributes", "size", "sha256", "data")
_COLUMNS: Final = ("unit", "serial", "MAC", "chip", "unique id", "outcome", "image SHA-256",
                   "backup SHA-256")  # fmt: skip
#: Hashes in tables are shown so far; they are whole below.
_SHORT: Final = 12
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})


def html_report(entries: Sequence[Entry]) -> str:
    """The page of one unit.

    Args:
        entries: the jobs on it.

    Raises:
        UsageError: they are of different units (``history.units``).
    """
    content = manifest(entries)
    jobs = in_order(entries)
    title = f"{_unit_title(content)} - hwflash report"
    words = "; ".join(f"{item.kind} {item.id}: {meaning(item)}" for item in tops(jobs))
    return page(
        title,
        [
            verdict_line("PASSED" if content["passed"] else "NOT PASSED", words, content["passed"]),
            "<h2>Unit</h2>",
            _facts(_unit_rows(content)),
            *_variables(content["variables"]),
            *_after(content),
            *_jobs(jobs, "h2"),
            *_manifest(content),
            *_sign(content),
        ],
    )


def batch_report(entries: Sequence[Entry], title: str) -> str:
    """The page of several units: a table, then each unit.

    Args:
        entries: the jobs on them.
        title: of the page.

    Raises:
        UsageError: see `hwflash.jobs.report.batch`.
    """
    content = batch(entries)
    counts, units = content["counts"], content["units"]
    verdict = f"{counts['passed']} OF {counts['units']} UNITS PASSED"
    bad = [f"{_unit_title(item)}: {_why(item)}" for item in units if not item["passed"]]
    parts = [
        verdict_line(verdict, "; ".join(bad) or "all done and verified", content["passed"]),
        _facts(_batch_rows(content)),
        "<h2>Units</h2>",
        _unit_table(units),
        "<h2>Each unit</h2>",
    ]
    for number, (unit, jobs) in enumerate(zip(units, by_unit(entries), strict=True), 1):
        state = "passed" if unit["passed"] else "NOT PASSED"
        parts += [
            f'<details id="u{number}"{"" if unit["passed"] else " open"}>',
            f"<summary>{as_html(_unit_title(unit))}: {state}</summary>",
            _facts(_unit_rows(unit)),
            *_variables(unit["variables"], "h3"),
            *_after(unit, "h3"),
            *_jobs(jobs, "h3"),
            "</details>",
        ]
    return page(title, [*parts, *_manifest(content), *_sign(content)])


# --- parts ------------------------------------------------------------------------------------


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page of parts in HTML; the title is text."""
    head = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{as_html(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{as_html(title)}</h1>",
    ]
    foot = f"<footer>made by hwflash {as_html(__version__)}</footer></body></html>"
    return "\n".join([*head, *parts, foot]) + "\n"


def verdict_line(verdict: str, words: str, passed: bool) -> str:
    """The paragraph that a page begins with."""
    kind = "ok" if passed else "bad"
    return f'<p class="verdict {kind}">{as_html(verdict)}: {as_html(words)}</p>'


def _unit_title(content: Mapping[str, Any]) -> str:
    unit = mapping(content["unit"])
    number = f"unit {unit['number']}" if unit.get("number") else ""
    words = [number, cell(unit.get("serial")), content["chip"]["part"] or content["file"] or "unit"]
    return " ".join(filter(None, words))


def _unit_rows(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    chip, times, unit = content["chip"], content["times"], mapping(content["unit"])
    backup = mapping(content["backup"])
    how = "modelled" if times["modelled"] else "measured"
    rows = [
        ("serial number", unit.get("serial")),
        ("MAC addresses", ", ".join(map(str, listed(unit.get("macs"))))),
        ("job file", unit.get("job")),
        ("batch", unit.get("batch")),
        ("line of the CSV file", unit.get("row")),
        ("numbers are", unit.get("origin")),
    ]
    # What a unit without a job file cannot have is not missing.
    found = [pair for pair in rows if pair[1] not in _EMPTY]
    return [
        *found,
        ("chip", chip["part"]),
        ("JEDEC id", chip["jedec_id"]),
        ("unique id", chip["unique_id"]),
        *(pair for pair in (("board", content["board"]), ("file", content["file"])) if pair[1]),
        ("programmer", content["jobs"][-1]["programmer"]),
        ("image SHA-256", content["image_sha256"]),
        *((f"SHA-256 of {name}", digest) for name, digest in mapping(unit.get("files")).items()),
        ("backup", backup.get("path")),
        ("backup SHA-256", backup.get("sha256")),
        ("started", times["started"]),
        ("finished", times["finished"]),
        ("time on the programmer", f"{format_seconds(times['seconds'])} ({how})"),
        ("operator", content["operator"]),
        ("host", content["host"]),
        ("tool", f"hwflash {content['tool']['version'] or '(unknown version)'}"),
    ]


def _batch_rows(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    units = [mapping(item["unit"]) for item in content["units"]]
    files = {name: digest for unit in units for name, digest in mapping(unit.get("files")).items()}
    names = {key: sorted({str(unit[key]) for unit in units if unit.get(key)})
             for key in ("job", "batch")}  # fmt: skip
    times = content["times"]
    rows = [
        ("job file", ", ".join(names["job"])),
        ("batch", ", ".join(names["batch"])),
        *((f"SHA-256 of {name}", digest) for name, digest in files.items()),
        ("started", times["started"]),
        ("finished", times["finished"]),
        ("operator", content["operator"]),
        ("host", content["host"]),
        ("tool", f"hwflash {content['tool']['version'] or '(unknown version)'}"),
    ]
    return [pair for pair in rows if pair[1] not in _EMPTY]


def _unit_table(units: Sequence[Mapping[str, Any]]) -> str:
    modelled = any(item["times"]["modelled"] for item in units)
    names = (*_COLUMNS, "time, modelled" if modelled else "time")
    rows: list[str] = []
    for number, item in enumerate(units, 1):
        unit = mapping(item["unit"])
        kind = "ok" if item["passed"] else "bad"
        cells = [
            unit.get("serial"),
            "\n".join(map(str, listed(unit.get("macs")))),
            item["chip"]["part"] or item["file"],
            item["chip"]["unique_id"],
        ]
        outcome = f'<td class="{kind}">{as_html(_why(item))}</td>'
        hashes = [item["image_sha256"], mapping(item["backup"]).get("sha256")]
        rows.append(
            f'<tr><td><a href="#u{number}">{as_html(unit.get("number") or number)}</a></td>'
            + "".join(f'<td class="id">{as_html(value, lines=True)}</td>' for value in cells)
            + outcome
            + "".join(f'<td class="mono">{_short(value)}</td>' for value in hashes)
            + f'<td class="id">{as_html(format_seconds(item["times"]["seconds"]))}</td></tr>'
        )
    return table(names, rows)


def _why(content: Mapping[str, Any]) -> str:
    """What became of a unit, in a few words."""
    if content["passed"]:
        return "passed"
    parts = [number for job in content["jobs"] for number in listed(job["details"].get("includes"))]
    bad = [
        f"{job['outcome']} [{job['error']}]" if job["error"] else job["outcome"]
        for job in content["jobs"]
        if job["outcome"] not in ("ok", "unchanged") and job["id"] not in parts
    ]
    return ", ".join(bad)


def _jobs(jobs: Sequence[Entry], level: str) -> list[str]:
    """What was done, a line a job; then everything about each, folded."""
    names = ("job", "kind", "outcome", "from", "to", "bytes", "backup", "cause")
    rows: list[str] = []
    for item in jobs:
        cause = item.details.get("message") or (item.error if not item.passed else None)
        values = (item.id, item.kind, item.outcome, item.started, item.time, f"{item.bytes:,}",
                  item.backup, cause)  # fmt: skip
        cells = "".join(f"<td>{as_html(value)}</td>" for value in values)
        rows.append(f"<tr>{cells}</tr>")
    return [f"<{level}>Jobs</{level}>", table(names, rows), *(_job(item) for item in jobs)]


def _job(entry: Entry) -> str:
    rows = [(key, value) for key, value in entry.as_dict().items() if key != "details"]
    hidden = ("variables", "unit", "after")
    rows += [(key, value) for key, value in entry.details.items() if key not in hidden]
    facts = _facts([pair for pair in rows if pair[1] not in _EMPTY])
    title = f"everything about job {entry.id}: {entry.kind}, {entry.outcome}"
    return f"<details><summary>{as_html(title)}</summary>{facts}</details>"


def _variables(items: Sequence[Mapping[str, Any]], level: str = "h2") -> list[str]:
    if not items:
        return []
    rows = [
        "<tr>" + "".join(_variable_cell(name, item.get(name)) for name in _VARIABLES) + "</tr>"
        for item in items
    ]
    return [f"<{level}>Variables</{level}>", table(_VARIABLES, rows)]


def _variable_cell(name: str, value: Any) -> str:
    if name == "attributes":
        value = ", ".join(map(str, listed(value)))
    kind = "id" if name in ("name", "change") else "mono" if name in ("sha256", "data") else "any"
    return f'<td class="{kind}">{as_html(value)}</td>'


def _after(content: Mapping[str, Any], level: str = "h2") -> list[str]:
    """The after-steps of a unit."""
    found = [step for job in content["jobs"] for step in listed(job["details"].get("after"))]
    steps = [mapping(step) for step in found if isinstance(step, dict)]
    if not steps:
        return []
    rows: list[str] = []
    for step in steps:
        text = " ".join(map(str, listed(step.get("command"))))
        values = (text, step.get("outcome"), step.get("text"), step.get("seconds"))
        rows.append("<tr>" + "".join(f"<td>{as_html(value)}</td>" for value in values) + "</tr>")
    names = ("command", "outcome", "what it said", "seconds")
    return [f"<{level}>After-steps</{level}>", table(names, rows)]


def _manifest(content: Mapping[str, Any]) -> list[str]:
    text = as_html(json.dumps(content, indent=2), lines=True)
    return [
        f"<h2>Manifest</h2><p>SHA-256 <code>{content['sha256']}</code></p>",
        f'<details class="json"><summary>JSON</summary><pre>{text}</pre></details>',
    ]


def _sign(content: Mapping[str, Any]) -> list[str]:
    who = as_html(content["operator"])
    return [f'<div class="sign"><div>Signed off by (operator {who})</div><div>Date</div></div>']


def _facts(rows: Iterable[tuple[str, Any]]) -> str:
    cells = [
        f'<tr><th scope="row">{as_html(key)}</th><td>{as_html(value)}</td></tr>'
        for key, value in rows
    ]
    return f'<table class="facts"><tbody>{"".join(cells)}</tbody></table>'


def table(names: Iterable[str], rows: Iterable[str]) -> str:
    """A table of column names, which are text, and rows in HTML."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _short(digest: Any) -> str:
    if digest is None:
        return "-"
    text = as_html(digest)
    return f'<span title="{text}">{as_html(str(digest)[:_SHORT])}…</span>'


def as_html(value: Any, *, lines: bool = False) -> str:
    """A value as HTML; with ``lines``, its line breaks stay."""
    text = cell(value)
    if lines:
        broken = "\n" if text.startswith("{") else "<br>"
        return broken.join(html.escape(visible(line)) for line in text.split("\n")) or "-"
    return html.escape(visible(text)) or "-"
