"""Asking the person at the terminal."""

from __future__ import annotations

import sys

import click

from hwflash.cli import runner
from hwflash.errors import Interrupted


def nobody_is_there(run: runner.Run) -> bool:
    """Whether there is nobody who could answer."""
    return run.console.json_lines or sys.stdin is None or not sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def agrees(run: runner.Run, question: str) -> bool:
    """Whether a person says yes; the end of input is a no.

    Raises:
        Interrupted: a stop was asked for instead.
    """
    with run.waiting():
        try:
            return click.confirm(question, err=True)
        except click.Abort:  # Ctrl-C has set the cancel token, Ctrl-D has not
            click.echo(err=True)
            run.cancel.check()
            return False


def ask(run: runner.Run, question: str, declined: str) -> None:
    """Ask a person, and stop where the answer is no.

    Raises:
        Interrupted: it was declined.
    """
    if not agrees(run, question):
        raise Interrupted(declined, code="interrupted.declined")
