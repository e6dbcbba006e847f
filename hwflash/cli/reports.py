"""``--report``: what a command did, as a page, as JSON or as JUnit XML, however it ended."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from hwflash.cli import runner
from hwflash.errors import EnvironmentFault, HwflashError, UsageError

if TYPE_CHECKING:
    from hwflash.jobs.history_entry import Entry

F = TypeVar("F", bound=Callable[..., Any])
KINDS: Final = (".html", ".json", ".xml")


def report_option(function: F) -> F:
    """``--report``, for a command whose body is `reported`."""
    return click.option(
        "--report", "reports", multiple=True, type=click.Path(path_type=Path, dir_okay=False),
        help="Write a report, complete in itself, to this file: .html, .json, or .xml for JUnit; "
        "repeatable.",
    )(function)  # fmt: skip


class Entries(list[int]):
    """Numbers of what a command recorded in the history."""

    def note(self, facts: Mapping[str, Any]) -> None:
        """Take what a result, a unit or an error says of its entries."""
        for number in (facts.get("history"), *(facts.get("entries") or ())):
            if isinstance(number, int) and number not in self:
                self.append(number)


def reported(function: Callable[..., runner.Outcome]) -> Callable[..., runner.Outcome]:
    """Let a command's body write the reports of `report_option` when it ends."""

    @functools.wraps(function)
    def body(run: runner.Run, reports: tuple[Path, ...], **options: Any) -> runner.Outcome:
        with reporting(run, reports, f"hwflash {run.console.command}") as entries:
            outcome = function(run, **options)
            entries.note(outcome.keys)
            for unit in cast("list[dict[str, Any]]", outcome.keys.get("units", [])):
                entries.note(unit)
            return outcome

    return body


@contextmanager
def reporting(run: runner.Run, files: Sequence[Path], title: str) -> Generator[Entries]:
    """Write the reports that were asked for when the command ends, whether it failed or not.

    A report that cannot be written is a warning: what the command did stands.

    Args:
        run: of the command.
        files: to be written.
        title: of a page with several units.

    Yields:
        To be told the numbers of the command's entries in the history.

    Raises:
        UsageError, EnvironmentFault: before anything is done: another kind of file, or no such
            folder.
    """
    require(files)
    entries = Entries()
    try:
        yield entries
    except HwflashError as error:
        entries.note(error.context)
        _write(run, files, entries, title)
        raise
    _write(run, files, entries, title)


def texts(entries: Sequence[Entry], files: Sequence[Path], title: str) -> list[tuple[Path, str]]:
    """The reports of jobs, each as the suffix of its file says.

    Raises:
        UsageError: see `hwflash.jobs.report.manifest`.
    """
    from hwflash.jobs import report, report_html

    several = len(report.by_unit(entries)) > 1
    made: list[tuple[Path, str]] = []
    for path in files:
        match path.suffix.lower():
            case ".html" if several:
                text = report_html.batch_report(entries, title)
            case ".html":
                text = report_html.html_report(entries)
            case ".json":
                text = report.batch_text(entries) if several else report.manifest_text(entries)
            case _:
                text = report.junit(entries, title)
        made.append((path, text))
    return made


def require(files: Sequence[Path], kinds: Sequence[str] = KINDS) -> None:
    """Refuse files that cannot be reports, before anything is done.

    Args:
        files: reports.
        kinds: suffixes that they may have.

    Raises:
        UsageError: another kind of file, or one twice (``usage.selection``).
        EnvironmentFault: no such folder, or a pipe, for whose reader the end of the command would
            wait, or a device (``environment.unwritable``).
    """
    for path in files:
        if path.suffix.lower() not in kinds:
            raise UsageError(
                f"a report is a file {', '.join(kinds)}, not {path.name}", code="usage.selection"
            )
        if not path.absolute().parent.is_dir():
            raise EnvironmentFault(
                f"there is no folder {path.parent}", code="environment.unwritable", file=str(path)
            )
        if path.exists() and not path.is_file():
            raise EnvironmentFault(
                f"{path} is not a regular file", code="environment.unwritable", file=str(path)
            )
    if len({path.resolve() for path in files}) < len(files):
        raise UsageError("two reports cannot go to one file", code="usage.selection")


def _write(run: runner.Run, files: Sequence[Path], entries: Entries, title: str) -> None:
    from hwflash.jobs.history import open_history
    from hwflash.jobs.report import save_report
    from hwflash.state import state_path

    if not files:
        return
    try:
        if not entries:
            run.console.warning("there is no report: nothing was recorded in the history")
            return
        with open_history(state_path(os.environ), create=False) as history:
            found = history.with_parts(entries)
        for path, text in texts(found, files, title):
            save_report(path, text)
            run.console.info(f"report: {path}", report=str(path))
    except HwflashError as error:
        run.console.warning(f"there is no report: {error}", code=error.code)
