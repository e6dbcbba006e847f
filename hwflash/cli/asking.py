"""Questions before something is changed: a yes, or for what cannot be undone a name."""

from __future__ import annotations

import sys

import click

from hwflash.cli import runner
from hwflash.errors import Interrupted, UsageError


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


def for_ever(run: runner.Run, part: str, given: str | None, *, ask: bool) -> bool:
    """Have the name of the chip given or typed.

    Args:
        run: where to ask.
        part: the name.
        given: what was said on the command line, or None.
        ask: somebody may be asked.

    Raises:
        UsageError: it is another name, or nobody can be asked (``usage.confirm-text``).
    """
    text = given
    if text is None:
        if not ask or nobody_is_there(run):
            raise UsageError(
                f"this cannot be undone: --confirm {part}", code="usage.confirm-text", part=part
            )
        text = _typed(run, f"This can NEVER be undone. Type {part} to do it")
    if text.strip() != part:
        raise UsageError(f"{text.strip()!r} is not {part}", code="usage.confirm-text", part=part)
    return True


def _typed(run: runner.Run, question: str) -> str:
    with run.waiting():
        try:
            return str(click.prompt(question, default="", show_default=False, err=True))
        except click.Abort:
            click.echo(err=True)
            run.cancel.check()
            return ""
