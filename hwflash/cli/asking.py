"""Asking the person at the terminal."""

from __future__ import annotations

import sys

import click

from hwflash.cli import runner
from hwflash.errors import Interrupted


def nobody_is_there(run: runner.Run) -> bool:
    """Whether there is nobody who could answer."""
    return run.console.json_lines or sys.stdin is None or not sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def ask(run: runner.Run, question: str, declined: str) -> None:
    """Ask a person; the end of input is a no.

    Raises:
        Interrupted: it was declined.
    """
    with run.waiting():
        try:
            agreed = click.confirm(question, err=True)
        except click.Abort:  # Ctrl-C has set the cancel token, Ctrl-D has not
            click.echo(err=True)
            run.cancel.check()
            agreed = False
    if not agreed:
        raise Interrupted(declined, code="interrupted.declined")
