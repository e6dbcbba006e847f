"""Reports of jobs, from what the history knows: manifest (JSON), JUnit XML, CSV.

A manifest is of one entry, or of several that make up the work on one unit; a batch is the
manifests of several. The pages are in `hwflash.jobs.report_html`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from hwflash.errors import EnvironmentFault, UsageError
from hwflash.jobs.history_entry import COLUMNS, Entry, inside
from hwflash.jobs.junit import Case, Suite, Trouble, junit_text, visible
from hwflash.layout.files import write_atomically
from hwflash.uefi.window import printable

FORMAT: Final = "hwflash-manifest"
BATCH_FORMAT: Final = "hwflash-batch"
VERSION: Final = 1
#: What an outcome means, in words.
MEANING: Final = {
    "ok": "done and verified",
    "unchanged": "nothing had to be done: the content was there already",
    "differs": "the content differs",
    "rejected": "done and verified, but a step after it failed",
    "failed": "failed before anything was changed",
    "unknown": "stopped half way: the chip is in an unknown state",
}
#: A cell that begins so is a formula to a spreadsheet, or an attempt at one; also in the full
#: width forms that some take for the same.
_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_UNITS: Final = ("jedec_id", "unique_id", "file")
_LOOKS: Final = frozenset({"read", "verify"})
_FAILURES: Final = frozenset({"failed", "differs", "rejected"})


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
        "passed": all(item.passed for item in tops(jobs)),
        "chip": {"part": last.part, "jedec_id": last.jedec_id, "unique_id": unique_id_of(jobs)},
        "board": last.board,
        "file": last.file,
        "unit": unit_of(jobs),
        "image_sha256": images[-1].image_sha256 if images else None,
        # The way back to before the first of the jobs.
        "backup": {"path": backups[0].backup, "sha256": backups[0].backup_sha256}
        if backups
        else None,
        "variables": [each for item in jobs for each in variables(item)],
        "times": {
            "started": jobs[0].started,
            "finished": last.time,
            "seconds": round(sum(item.seconds for item in tops(jobs)), 6),
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
    return [mapping(item) for item in listed(found) if isinstance(item, dict)]


def tops(entries: Iterable[Entry]) -> list[Entry]:
    """Entries without those that another of them includes, as that of a unit does its steps."""
    found = list(entries)
    parts = {number for item in found for number in inside(item)}
    return [item for item in found if item.id not in parts]


def unit_of(entries: Iterable[Entry]) -> dict[str, Any] | None:
    """Job file, batch, serial number and MAC addresses of a unit; None where it has none."""
    units = [unit for item in entries if (unit := mapping(item.details.get("unit")))]
    return units[-1] if units else None


def mapping(value: Any) -> dict[str, Any]:
    """A detail that should be an object; the history may hold anything."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """A detail that should be a list."""
    return cast("list[Any]", value) if isinstance(value, list) else []


# --- batch ------------------------------------------------------------------------------------


def by_unit(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Entries of several units, parted: by batch and number, else by chip and programmer."""
    found: dict[tuple[Any, ...], list[Entry]] = {}
    for item in sorted(entries, key=lambda entry: entry.id):
        unit = unit_of([item])
        if unit is not None:
            key: tuple[Any, ...] = (str(unit.get("batch")), str(unit.get("number")))
        else:
            key = (item.jedec_id, item.unique_id, item.programmer, item.file)
        found.setdefault(key, []).append(item)
    first: dict[str, int] = {}
    for jobs in found.values():
        first.setdefault(_batch_of(jobs), jobs[0].id)
    # Runs in the order in which they began, units of a run by their numbers.
    return sorted(found.values(), key=lambda jobs: (first[_batch_of(jobs)], _order(jobs)))


def _batch_of(jobs: Sequence[Entry]) -> str:
    return str((unit_of(jobs) or {}).get("batch", jobs[0].id))


def _order(jobs: Sequence[Entry]) -> int:
    number = (unit_of(jobs) or {}).get("number")
    return number if isinstance(number, int) else 0


def batch(entries: Sequence[Entry]) -> dict[str, Any]:
    """The record of several units: how many passed, and the manifest of each.

    ``sha256`` is as in `manifest`.

    Args:
        entries: the jobs on them, at least one, in any order.

    Raises:
        UsageError: see `manifest`.
    """
    units = [manifest(jobs) for jobs in by_unit(entries)]
    passed = sum(item["passed"] for item in units)
    first, last = min(entries, key=lambda e: e.id), max(entries, key=lambda e: e.id)
    found: dict[str, Any] = {
        "format": BATCH_FORMAT,
        "version": VERSION,
        "passed": passed == len(units),
        "counts": {"units": len(units), "passed": passed, "not_passed": len(units) - passed},
        "times": {"started": first.started or first.time, "finished": last.time},
        "operator": last.operator,
        "host": last.host,
        "tool": {"name": "hwflash", "version": last.version},
        "units": units,
    }
    return found | {"sha256": digest(found)}


def batch_text(entries: Sequence[Entry]) -> str:
    """The batch as a file.

    Raises:
        UsageError: see `manifest`.
    """
    return json.dumps(batch(entries), indent=2) + "\n"


def unique_id_of(jobs: Iterable[Entry]) -> str | None:
    """The chip's unique id, as far as one of the jobs could ask for it."""
    return next((item.unique_id for item in jobs if item.unique_id is not None), None)


# --- JUnit ------------------------------------------------------------------------------------


def junit(entries: Sequence[Entry], name: str = "hwflash") -> str:
    """JUnit XML: a test case per job, its facts as properties; a unit's steps are in its own case.

    Args:
        entries: jobs, of one unit or of several.
        name: of the test suite.
    """
    jobs = tops(sorted(entries, key=lambda item: item.id))
    cases = [_case(item, _steps_of(item, entries)) for item in jobs]
    began = (jobs[0].started or jobs[0].time).removesuffix("Z")
    return junit_text(name, [Suite(name, cases, began, jobs[-1].host or "")])


def _steps_of(entry: Entry, entries: Sequence[Entry]) -> list[Entry]:
    parts = inside(entry)
    return [item for item in entries if item.id in parts]


def _case(entry: Entry, steps: Sequence[Entry]) -> Case:
    unit = entry.unique_id or entry.file or entry.jedec_id or ""
    own = unit_of([entry]) or {}
    words = (str(entry.id), entry.kind, cell(own.get("serial")), entry.part or "file", unit)
    trouble = None
    if not entry.passed:
        kind = "failure" if entry.outcome in _FAILURES else "error"
        said = str(entry.details.get("message", ""))
        trouble = Trouble(kind, entry.error or entry.outcome, meaning(entry), said)
    return Case(
        f"hwflash.{entry.kind.replace(' ', '.')}",
        " ".join(filter(None, words)),
        entry.seconds,
        _properties(entry, own, steps),
        trouble,
    )


def _properties(
    entry: Entry, own: Mapping[str, Any], steps: Sequence[Entry]
) -> list[tuple[str, str]]:
    found = [
        (key, cell(value))
        for key, value in entry.as_dict().items()
        if key != "details" and value is not None
    ]
    found += [
        ("unit" if key == "number" else key, cell(value))
        for key, value in own.items()
        if value not in (None, [], {})
    ]
    found += [
        (f"backup {step.id}", f"{step.backup} {step.backup_sha256}")
        for step in steps
        if step.backup is not None
    ]
    found += [
        (f"variable {item.get('name')} {item.get('guid')}",
         f"{item.get('change')} {item.get('sha256')}")
        for job in (*steps, entry)
        for item in variables(job)
    ]  # fmt: skip
    return found


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
        return value if isinstance(value, (int, float)) and value is not True else cell(value)
    text = visible(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


# --- all of them ------------------------------------------------------------------------------


def cell(value: Any) -> str:
    """A value as text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"))
    return str(value)


def meaning(entry: Entry) -> str:
    """What its outcome means, with the code of its error."""
    text = MEANING.get(entry.outcome, visible(entry.outcome))
    return f"{text} [{visible(entry.error)}]" if entry.error else text


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
