"""``hwflash tui``: starts the technician's bench, which is a package of its own."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

import click

from hwflash.cli import params, runner
from hwflash.errors import EnvironmentFault, UsageError

EXTRA: Final = "hwflash[tui]"


@click.command("tui")
@click.option(
    "-p", "--programmer", "programmers", metavar="URL", multiple=True,
    help="Programmer URL; repeatable. Default: $HWFLASH_PROGRAMMER, or all that are plugged in.",
)  # fmt: skip
@params.json_option
@runner.command("tui")
def command(run: runner.Run, programmers: tuple[str, ...], **_options: Any) -> runner.Outcome:
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
    for url in programmers:
        _require_url(url)
    nobody = sys.stdin is None or not (sys.stdin.isatty() and sys.stdout.isatty())  # pyright: ignore[reportUnnecessaryComparison]
    if nobody or run.console.json_lines:
        raise UsageError("the bench needs a terminal", code="usage.terminal")
    from hwflash_tui.app import run_bench

    run_bench(programmers, state_dir(os.environ), os.environ)
    return runner.Outcome()


def _require_url(text: str) -> None:
    """Refuse what is no programmer URL before the screen is taken."""
    from hwflash.bus.url import parse_url

    parse_url(text)
