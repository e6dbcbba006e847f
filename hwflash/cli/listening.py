"""``--listen``, for commands that serve others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from hwflash.cli import runner

LOOPBACK: Final = ("127.", "localhost", "::1")


def endpoint(_ctx: click.Context, _param: click.Parameter, text: str) -> tuple[str, int]:
    """``HOST:PORT`` as a pair; an IPv6 address stands in brackets."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT")
    return host, int(port)


def listen_option(default: str) -> Callable[[Any], Any]:
    """``--listen HOST:PORT``, given to the command as a pair."""
    return click.option(
        "--listen",
        metavar="HOST:PORT",
        callback=endpoint,
        default=default,
        show_default=True,
        help="Where to listen; port 0 lets the system choose. There is no authentication: leave "
        "it on this computer and tunnel it.",
    )


def warn_if_open(run: runner.Run, host: str, what: str) -> None:
    """Say what an address that others can reach means."""
    if not host.startswith(LOOPBACK):
        run.console.warning(
            f"anybody who reaches {host} can {what}: there is no authentication",
            code="serve.open",
            host=host,
        )


def named(host: str, port: int) -> str:
    """``HOST:PORT`` as a URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
