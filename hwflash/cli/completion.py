"""``hwflash completion``."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL; put it where the shell looks for such scripts.

    For bash: hwflash completion bash > ~/.local/share/bash-completion/completions/hwflash
    """
    from click.shell_completion import get_completion_class

    from hwflash.cli.main import root

    found = get_completion_class(shell)
    if found is None:
        raise AssertionError(f"click knows no completion for {shell}")
    click.echo(found(root, {}, "hwflash", "_HWFLASH_COMPLETE").source())
