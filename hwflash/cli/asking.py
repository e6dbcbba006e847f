"""Questions before something is changed: a yes, or for what cannot be undone a name."""

from __future__ import annotations

import sys

import click

from hwflash.cli import runner
from hwflash.errors import UsageError


def answered(run: runner.Run, question: str) -> bool:
    """Ask; the end of input is a no."""
    with run.waiting():
        try:
            return click.confirm(question, err=True)
        except click.Abort:  # Ctrl-C has set the cancel token, Ctrl-D has not
            click.echo(err=True)
            run.cancel.check()
            return False


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
    nobody = run.console.json_lines or sys.stdin is None or not sys.stdin.isatty()  # pyright: ignore[reportUnnecessaryComparison]
    text = given
    if text is None:
        if nobody or not ask:
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
