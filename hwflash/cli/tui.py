"""``hwflash tui``: starts the technician's bench, which is a package of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from hwflash.cli import params, runner
from hwflash.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from hwflash.jobs.jobfile import Checked

EXTRA: Final = "hwflash[tui]"


@click.command("tui")
@click.option(
    "-p", "--programmer", "programmers", metavar="URL", multiple=True,
    help="Programmer URL; repeatable. Default: $HWFLASH_PROGRAMMER, or all that are plugged in.",
)  # fmt: skip
@click.option(
    "--job", "job_file", type=click.Path(path_type=Path),
    help="Begin with production: this job file, on the first programmer, for an operator.",
)  # fmt: skip
@params.json_option
@runner.command("tui")
def command(run: runner.Run, programmers: tuple[str, ...], job_file: Path | None) -> runner.Outcome:
    """Open the technician's bench: every board side by side, in this terminal.

    Without hardware: hwflash tui -p sim://w25q128jv
    """
    import importlib.util

    from hwflash.jobs.opening import ENVIRONMENT
    from hwflash.state import state_dir

    if importlib.util.find_spec("textual") is None:
        raise EnvironmentFault(
            "the bench needs Textual, which is not installed",
            code="environment.tui-missing",
            extra=EXTRA,
        )
    if not programmers and os.environ.get(ENVIRONMENT):
        programmers = (os.environ[ENVIRONMENT],)
    job = _checked(job_file) if job_file is not None else None
    if job is not None and job.batch is not None and not programmers:
        own = job.batch.form.job.programmer
        programmers = (own,) if own is not None else ()
    for url in programmers:
        _require_url(url)
    # Textual draws on standard error.
    streams: tuple[TextIO | None, ...] = (sys.stdin, sys.stdout, sys.stderr)
    nobody = not all(stream is not None and stream.isatty() for stream in streams)
    if nobody or run.console.json_lines:
        raise UsageError("the bench needs a terminal", code="usage.terminal")
    from hwflash_tui.app import run_bench

    run_bench(programmers, state_dir(os.environ), os.environ, job)
    return runner.Outcome({"programmers": list(programmers)})


def _require_url(text: str) -> None:
    """Refuse what is no programmer URL before the screen is taken."""
    from hwflash.bus.url import parse_url

    parse_url(text)


def _checked(file: Path) -> Checked:
    """The job, if it has no faults."""
    from hwflash.jobs.jobfile import check_job, load_job

    checked = check_job(file, os.environ)
    if checked.batch is None:
        load_job(file, os.environ)  # raises, with all the faults
    return checked
