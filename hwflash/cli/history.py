"""``hwflash history``: what was done, on which chip, by whom, with what outcome."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from hwflash.cli import params, runner
from hwflash.errors import UsageError
from hwflash.jobs.history_entry import OUTCOMES
from hwflash.units import format_seconds, format_size

if TYPE_CHECKING:
    from hwflash.jobs.history import History
    from hwflash.jobs.history_entry import Entry, Query

F = TypeVar("F", bound=Callable[..., Any])

#: Entries that `history list` shows unless told otherwise.
LIMIT: Final = 20
_AGO: Final = re.compile(r"(\d{1,6})([mhdw])")
_UNIT: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class SinceType(click.ParamType[str]):
    """A date, a date with a time (UTC unless it says otherwise), or how long ago: ``7d``."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As entries have their times."""
        ago = _AGO.fullmatch(str(value))
        try:
            if ago is not None:
                moment = datetime.now(UTC) - timedelta(**{_UNIT[ago[2]]: int(ago[1])})
            else:
                moment = datetime.fromisoformat(str(value))
                moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a date such as 2026-01-31, or 12h, 7d, 4w", param, ctx)
        return moment.isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def _filters(function: F) -> F:
    function = click.option("--batch", help="Only units of this run of a job file.")(function)
    function = click.option("--serial", help="Only units with this serial number or MAC.")(function)
    function = click.option("--chip", help="Only this part, JEDEC id or unique id.")(function)
    function = click.option(
        "--outcome", type=click.Choice(OUTCOMES), help="Only jobs that ended like this."
    )(function)
    return click.option(
        "--since", type=SinceType(), help="Not before: 2026-01-31, 2026-01-31T12:00, 12h, 7d, 4w."
    )(function)


@click.group("history")
def command() -> None:
    """Look at what was done, and make reports of it."""


@command.command("list")
@click.option(
    "--limit", type=click.IntRange(1, 1 << 31), default=LIMIT, show_default=True,
    help="The newest so many.",
)  # fmt: skip
@_filters
@params.json_option
@runner.command("history list")
def list_(run: runner.Run, limit: int, **options: Any) -> runner.Outcome:
    """List jobs, the newest first."""
    query = _query(limit, options)
    with _opened(run) as history:
        found, total = history.entries(query), history.count(query)
    keys = {"entries": [entry.as_dict() for entry in found], "total": total}
    lines = [_line(entry) for entry in found] or ["the history has no such jobs"]
    if total > len(found):
        lines.append(f"and {total - len(found)} older ones: --limit {total}")
    return runner.Outcome(keys, lines)


@command.command("show")
@click.argument("entries", metavar="ID...", type=int, nargs=-1, required=True)
@click.option("--html", type=params.PATH, help="Write a page, complete in itself, to this file.")
@click.option("--junit", type=params.PATH, help="Write JUnit XML to this file.")
@click.option("--manifest", type=params.PATH, help="Write the unit's manifest (JSON) to this file.")
@params.json_option
@runner.command("history show")
def show(
    run: runner.Run, entries: tuple[int, ...], html: Path | None, junit: Path | None,
    manifest: Path | None,
) -> runner.Outcome:  # fmt: skip
    """Show the job ID, or all the jobs on one unit; write reports of them.

    The entry of a unit of a job file brings those of its steps.
    """
    from hwflash.jobs import report, report_html

    _require_different(html, junit, manifest)
    with _opened(run) as history:
        found = history.with_parts(entries)
    makers: list[tuple[str, Path | None, Callable[[list[Entry]], str]]] = [
        ("html", html, report_html.html_report),
        ("junit", junit, report.junit),
        ("manifest", manifest, report.manifest_text),
    ]
    # All are made before any is written: an error leaves no half of the set behind.
    made = [(kind, path, make(found)) for kind, path, make in makers if path is not None]
    for _, path, text in made:
        report.save_report(path, text)
    keys = {
        "entries": [entry.as_dict() for entry in found],
        "passed": all(entry.passed for entry in found),
        "files": {kind: str(path) for kind, path, _ in made},
    }
    lines = [line for entry in found for line in _entry_lines(entry)]
    return runner.Outcome(keys, [*lines, *(f"{kind} written to {path}" for kind, path, _ in made)])


@command.command("export")
@click.argument("kind", metavar="FORMAT", type=click.Choice(["csv"]))
@click.argument(
    "file", default="-", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@_filters
@params.json_option
@runner.command("history export")
def export(run: runner.Run, kind: str, file: Path, **options: Any) -> runner.Outcome:
    """Write jobs as a table to FILE, or to stdout, the oldest first. FORMAT is csv."""
    from hwflash.jobs.report import csv_text, save_report

    to_stdout = str(file) == "-"
    if to_stdout and run.console.json_lines:
        raise UsageError("--json and a FILE of - both want stdout", code="usage.selection")
    with _opened(run) as history:
        found = history.entries(_query(None, options))
    text = csv_text(reversed(found))
    keys = {"file": str(file), "format": kind, "exported": len(found)}
    if to_stdout:
        return runner.Outcome(keys, [text.rstrip("\n")])
    save_report(file, text)
    return runner.Outcome(keys, [f"{len(found)} entries written to {file}"])


@command.command("report")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True,
    type=click.Path(path_type=Path, dir_okay=False),
)  # fmt: skip
@click.option("--title", default="hwflash report", show_default=True, help="Of the page.")
@_filters
@params.json_option
@runner.command("history report")
def report_(run: runner.Run, files: tuple[Path, ...], title: str, **options: Any) -> runner.Outcome:
    """Write reports of many jobs, unit by unit, such as of a whole --batch.

    The suffix of each FILE says what it is: .html, .json, or .xml for JUnit.
    """
    from hwflash.cli.reports import require, texts
    from hwflash.jobs.report import by_unit, save_report

    require(files)
    with _opened(run) as history:
        asked = history.entries(_query(None, options))
        found = history.with_parts(entry.id for entry in asked)
    if not found:
        raise UsageError("the history has no such jobs", code="history.no-entry")
    for path, text in texts(found, files, title):
        save_report(path, text)
    units = len(by_unit(found))
    keys = {
        "files": [str(path) for path in files],
        "units": units,
        "entries": [entry.id for entry in found],
    }
    written = ", ".join(map(str, files))
    return runner.Outcome(keys, [f"{units} units, {len(found)} jobs written to {written}"])


def _opened(run: runner.Run) -> History:
    """The history, to be looked at; nothing is made where there is none."""
    from hwflash.jobs.history import open_history
    from hwflash.state import state_path

    history = open_history(state_path(os.environ), create=False)
    for note in history.notes:
        run.console.warning(note)
    return history


def _query(limit: int | None, options: dict[str, Any]) -> Query:
    from hwflash.jobs.history_entry import Query

    names = ("since", "outcome", "chip", "serial", "batch")
    return Query(limit, *(options[name] for name in names))


def _require_different(*paths: Path | None) -> None:
    given = [path.resolve() for path in paths if path is not None]
    if len(set(given)) < len(given):
        raise UsageError("two reports cannot go to one file", code="usage.selection")


def _line(entry: Entry) -> str:
    from hwflash.uefi.window import printable

    where = entry.file or " ".join(filter(None, (entry.part, entry.unique_id or entry.jedec_id)))
    who = f"  {entry.operator}" if entry.operator else ""
    if unit := _unit_text(entry):
        who = f"  {unit}{who}"
    error = f"  [{entry.error}]" if entry.error else ""
    return printable(
        f"{entry.id:>5}  {entry.time}  {entry.outcome:<9}  {entry.kind:<10}  {where}{who}{error}"
    )


def _entry_lines(entry: Entry) -> list[str]:
    """Everything about a job, a fact a line."""
    from hwflash.jobs.report import MEANING, variables
    from hwflash.uefi.window import printable

    how = "modelled" if entry.modelled else "measured"
    shown = [
        ("chip", " ".join(filter(None, (entry.part, entry.jedec_id)))),
        ("unique id", entry.unique_id),
        ("board", entry.board),
        ("file", entry.file),
        ("programmer", entry.programmer),
        ("outcome", MEANING.get(entry.outcome, entry.outcome)),
        ("error", entry.error),
        ("cause", entry.details.get("message")),
        ("image", entry.image_sha256 and f"sha256 {entry.image_sha256}"),
        ("backup", entry.backup),
        ("", entry.backup_sha256 and f"sha256 {entry.backup_sha256}"),
        ("covers", f"{format_size(entry.bytes)} in {format_seconds(entry.seconds)} ({how})"),
        ("time", f"{entry.started or '?'} to {entry.time}"),
        ("operator", entry.operator and f"{entry.operator} on {entry.host or '?'}"),
        ("unit", _unit_text(entry)),
        ("job", entry.job),
        ("hwflash", entry.version),
    ]
    lines = [f"entry {entry.id}: {entry.kind}, {entry.outcome}"]
    lines += [f"  {name:<10} {value}" for name, value in shown if value]
    lines += [
        f"  variable   {item.get('name')} {item.get('guid')}: {item.get('change')}, "
        f"{item.get('size')} bytes, sha256 {item.get('sha256')}"
        for item in variables(entry)
    ]
    return [printable(line) for line in lines]


def _unit_text(entry: Entry) -> str:
    """Serial number and MAC addresses of a unit; "" where there are none."""
    from hwflash.jobs.report import listed, unit_of

    unit = unit_of([entry]) or {}
    names = [unit.get("serial"), *listed(unit.get("macs"))]
    return " ".join(str(name) for name in names if name)
