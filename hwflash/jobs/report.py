"""Reports of jobs, from what the history knows: manifest (JSON), JUnit XML, HTML, CSV.

A report is of one entry, or of several that make up the work on one unit. It stands by itself:
nothing is loaded from elsewhere, and nothing in it depends on colour.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, cast

from hwflash import __version__
from hwflash.errors import EnvironmentFault, UsageError
from hwflash.jobs.history_entry import COLUMNS, Entry
from hwflash.jobs.junit import Case, Suite, Trouble, junit_text, visible
from hwflash.layout.files import write_atomically
from hwflash.uefi.window import printable

FORMAT: Final = "hwflash-manifest"
VERSION: Final = 1
#: What an outcome means, in words.
MEANING: Final = {
    "ok": "done and verified",
    "unchanged": "nothing had to be done: the content was there already",
    "differs": "the content differs",
    "failed": "failed before anything was changed",
    "unknown": "stopped half way: the chip is in an unknown state",
}
#: A cell that begins so is a formula to a spreadsheet, or an attempt at one; also in the full
#: width forms that some take for the same.
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_UNITS: Final = ("jedec_id", "unique_id", "file")
_LOOKS: Final = frozenset({"read", "verify"})


# --- manifest ---------------------------------------------------------------------------------


def manifest(entries: Sequence[Entry]) -> dict[str, Any]:
    """The record of a unit: what it is, what it holds now, who put it there, and the way back.

    ``sha256`` is that of all the rest (`digest`): it tells of a change by accident, or by
    somebody who does not care to be found out; it is no signature.

    Args:
        entries: the jobs on the unit, at least one, in any order.

    Raises:
        UsageError: they are of different units (``history.units``).
    """
    jobs = in_order(entries)
    last = jobs[-1]
    done = [item for item in jobs if item.kind not in _LOOKS] or jobs
    backups = [item for item in jobs if item.backup is not None]
    images = [item for item in done if item.image_sha256 is not None]
    found: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "passed": all(item.passed for item in jobs),
        "chip": {"part": last.part, "jedec_id": last.jedec_id, "unique_id": _unique_id(jobs)},
        "board": last.board,
        "file": last.file,
        "image_sha256": images[-1].image_sha256 if images else None,
        # The way back to before the first of the jobs.
        "backup": {"path": backups[0].backup, "sha256": backups[0].backup_sha256}
        if backups
        else None,
        "variables": [each for item in jobs for each in variables(item)],
        "times": {
            "started": jobs[0].started,
            "finished": last.time,
            "seconds": round(sum(item.seconds for item in jobs), 6),
            "modelled": any(item.modelled for item in jobs),
        },
        "operator": last.operator,
        "host": last.host,
        "tool": {"name": "hwflash", "version": last.version},
        "jobs": [item.as_dict() for item in jobs],
    }
    return found | {"sha256": digest(found)}


def digest(content: dict[str, Any]) -> str:
    """SHA-256 of a manifest, in hex.

    Of its JSON in UTF-8 without ``sha256``, keys sorted, nothing escaped that need not be, no
    spaces.
    """
    rest = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def manifest_text(entries: Sequence[Entry]) -> str:
    """The manifest as a file.

    Raises:
        UsageError: see `manifest`.
    """
    return json.dumps(manifest(entries), indent=2) + "\n"


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Entries in the order in which they were made.

    Raises:
        UsageError: they are of different units (``history.units``).
    """
    jobs = sorted(entries, key=lambda item: item.id)
    for name in _UNITS:
        values = {getattr(item, name) for item in jobs}
        if name == "unique_id":  # a chip that could not be asked may be the same
            values.discard(None)
        if len(values) > 1:
            raise UsageError(
                f"entries {', '.join(str(item.id) for item in jobs)} are of different units: "
                f"{name} {' and '.join(sorted(printable(str(value)) for value in values))}",
                code="history.units",
                ids=[item.id for item in jobs],
            )
    return jobs


def variables(entry: Entry) -> list[dict[str, Any]]:
    """The variables that a job set or deleted."""
    found: Any = entry.details.get("variables")
    items = cast("list[Any]", found) if isinstance(found, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _unique_id(jobs: Iterable[Entry]) -> str | None:
    return next((item.unique_id for item in jobs if item.unique_id is not None), None)


# --- JUnit ------------------------------------------------------------------------------------


def junit(entries: Sequence[Entry], name: str = "hwflash") -> str:
    """JUnit XML: a test case per job, its facts as properties.

    Args:
        entries: jobs, of one unit or of several.
        name: of the test suite.
    """
    jobs = sorted(entries, key=lambda item: item.id)
    began = (jobs[0].started or jobs[0].time).removesuffix("Z")
    suite = Suite(name, [_case(item) for item in jobs], began, jobs[-1].host or "")
    return junit_text(name, [suite])


def _case(entry: Entry) -> Case:
    unit = entry.unique_id or entry.file or entry.jedec_id or ""
    properties = [
        (key, _cell(value))
        for key, value in entry.as_dict().items()
        if key != "details" and value is not None
    ]
    properties += [
        (f"variable {item.get('name')} {item.get('guid')}",
         f"{item.get('change')} {item.get('sha256')}")
        for item in variables(entry)
    ]  # fmt: skip
    trouble = None
    if not entry.passed:
        kind = "failure" if entry.outcome in ("failed", "differs") else "error"
        said = str(entry.details.get("message", ""))
        trouble = Trouble(kind, entry.error or entry.outcome, _meaning(entry), said)
    return Case(
        f"hwflash.{entry.kind.replace(' ', '.')}",
        f"{entry.id} {entry.kind} {entry.part or 'file'} {unit}".rstrip(),
        entry.seconds, properties, trouble,
    )  # fmt: skip


# --- HTML -------------------------------------------------------------------------------------

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.8em}
.verdict{border:3px solid;padding:.5em .8em;font-weight:bold}
table{border-collapse:collapse;width:100%}
th,td{border:1px solid #8888;padding:.25em .5em;text-align:left;vertical-align:top}
tr>th:first-child{white-space:nowrap}td,pre{overflow-wrap:anywhere}
code,pre{font-family:ui-monospace,monospace;font-size:.9em}pre{white-space:pre-wrap}
.sign{margin-top:3em;border-top:1px solid;width:24em}
@media print{details>pre{display:none}}
""".strip()


def html_report(entries: Sequence[Entry]) -> str:
    """One HTML page, complete in itself: no scripts, nothing loaded, readable without colour.

    Args:
        entries: the jobs on one unit.

    Raises:
        UsageError: they are of different units (``history.units``).
    """
    content = manifest(entries)
    jobs = in_order(entries)
    title = f"{content['chip']['part'] or content['file'] or 'unit'} - hwflash report"
    verdict = "PASSED" if content["passed"] else "NOT PASSED"
    words = "; ".join(f"{item.kind} {item.id}: {_meaning(item)}" for item in jobs)
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_escaped(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_escaped(title)}</h1>",
        f'<p class="verdict">{verdict}: {_escaped(words)}</p>',
        "<h2>Unit</h2>",
        _facts_table(_unit_rows(content)),
        *_variables_part(content["variables"]),
    ]
    for item in jobs:
        rows = [(key, value) for key, value in item.as_dict().items() if key != "details"]
        more = [(key, value) for key, value in item.details.items() if key != "variables"]
        parts += [
            f"<h2>Job {item.id}: {_escaped(item.kind)}, {_escaped(item.outcome)}</h2>",
            _facts_table([pair for pair in rows + more if pair[1] is not None]),
        ]
    text = _escaped(json.dumps(content, indent=2), lines=True)
    parts += [
        f"<h2>Manifest</h2><p>SHA-256 <code>{content['sha256']}</code></p>",
        f"<details><summary>JSON</summary><pre>{text}</pre></details>",
        f'<p class="sign">Signed off by (operator {_escaped(content["operator"])})</p>',
        f"<p>hwflash {__version__}</p></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _unit_rows(content: dict[str, Any]) -> list[tuple[str, Any]]:
    chip, times = content["chip"], content["times"]
    backup: dict[str, Any] = content["backup"] or {}
    how = "modelled" if times["modelled"] else "measured"
    return [
        ("chip", chip["part"]),
        ("JEDEC id", chip["jedec_id"]),
        ("unique id", chip["unique_id"]),
        ("board", content["board"]),
        ("file", content["file"]),
        ("image SHA-256", content["image_sha256"]),
        ("backup", backup.get("path")),
        ("backup SHA-256", backup.get("sha256")),
        ("started", times["started"]),
        ("finished", times["finished"]),
        ("seconds", f"{times['seconds']} ({how})"),
        ("operator", content["operator"]),
        ("host", content["host"]),
        ("tool", f"hwflash {content['tool']['version'] or '(unknown version)'}"),
    ]


def _facts_table(rows: Iterable[tuple[str, Any]]) -> str:
    cells = [
        f'<tr><th scope="row">{_escaped(key)}</th><td>{_escaped(value)}</td></tr>'
        for key, value in rows
    ]
    return "<table>" + "".join(cells) + "</table>"


def _variables_part(items: Sequence[dict[str, Any]]) -> list[str]:
    if not items:
        return []
    names = ("name", "guid", "change", "attributes", "size", "sha256", "data")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = [
        "<tr>" + "".join(f"<td>{_escaped(item.get(name))}</td>" for name in names) + "</tr>"
        for item in items
    ]
    return ["<h2>Variables</h2>", f"<table><tr>{head}</tr>{''.join(rows)}</table>"]


# --- CSV --------------------------------------------------------------------------------------


def csv_text(entries: Iterable[Entry]) -> str:
    """A table for spreadsheets and scripts: a line per entry, UTF-8, its details as JSON.

    A text that a spreadsheet could take for a formula has an apostrophe before it; control
    characters are escaped, so that a line is a line.
    """
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(COLUMNS)
    for entry in entries:
        table.writerow([_safe_cell(value) for value in entry.as_dict().values()])
    return stream.getvalue()


def _safe_cell(value: Any) -> Any:
    if not isinstance(value, str):
        # A number is one; what else is there begins with a letter, a brace or a bracket.
        return value if isinstance(value, (int, float)) and value is not True else _cell(value)
    text = visible(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


# --- all of them ------------------------------------------------------------------------------


def _cell(value: Any) -> str:
    """A value as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"))
    return str(value)


def _escaped(value: Any, *, lines: bool = False) -> str:
    """A value as HTML; with ``lines``, its line breaks stay."""
    text = _cell(value)
    if lines:
        return "\n".join(html.escape(visible(line)) for line in text.split("\n"))
    return html.escape(visible(text)) or "-"


def _meaning(entry: Entry) -> str:
    meaning = MEANING.get(entry.outcome, visible(entry.outcome))
    return f"{meaning} [{visible(entry.error)}]" if entry.error else meaning


def save_report(path: Path, text: str) -> None:
    """Write a report, whole or not at all.

    Raises:
        EnvironmentFault: it cannot be written (``environment.unwritable``).
    """
    try:
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be written: {error.strerror or error}",
            code="environment.unwritable",
            file=str(path),
            errno=error.errno,
        ) from error
