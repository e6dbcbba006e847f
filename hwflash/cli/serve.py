"""``hwflash serve``: a programmer for other programs, and for other computers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from hwflash.cli import params, runner
from hwflash.cli.listening import listen_option, named, warn_if_open
from hwflash.cli.serve_usbip import usbip

if TYPE_CHECKING:
    from hwflash.jobs.serve_serprog import SerprogServer, Served

DEFAULT_LISTEN: Final = "127.0.0.1:6475"


@click.group("serve")
def command() -> None:
    """Put a programmer behind a protocol that other programs speak."""


@command.command("serprog")
@click.option(
    "-p",
    "--programmer",
    metavar="URL",
    help="Programmer URL. Default: $HWFLASH_PROGRAMMER, or the only one attached.",
)
@click.option(
    "-f",
    "--frequency",
    type=params.FREQUENCY,
    help="Highest SCK; clients may ask for less. Default: 30M.",
)
@listen_option(DEFAULT_LISTEN)
@click.option("--pty", is_flag=True, help="Serve a pseudo-terminal instead; its name is printed.")
@params.json_option
@runner.command("serve serprog")
def serprog(run: runner.Run, listen: tuple[str, int], pty: bool, **options: Any) -> runner.Outcome:
    """Serve flashrom's serial flasher protocol, until Ctrl-C.

    flashrom -p serprog:ip=127.0.0.1:6475, or hwflash -p serprog://127.0.0.1:6475
    """
    from hwflash.jobs.opening import Request, open_programmer
    from hwflash.jobs.serprog_device import SerprogDevice
    from hwflash.jobs.serve_serprog import SerprogServer

    programmer = open_programmer(
        Request(
            programmer=options["programmer"], frequency=options["frequency"], environ=os.environ
        )
    )
    try:
        run.console.info(f"serving {programmer.name}", programmer=programmer.url)
        server = SerprogServer(SerprogDevice(programmer.bus), run.console, run.cancel)
        served = _over_pty(run, server) if pty else _over_tcp(run, server, *listen)
    finally:
        programmer.release()
    keys = {"clients": served.clients, "refused": served.refused, "operations": served.operations}
    return runner.Outcome(keys)


def _over_tcp(run: runner.Run, server: SerprogServer, host: str, port: int) -> Served:
    from hwflash.jobs.serve_serprog import listen

    with listen(host, port) as listener:
        warn_if_open(run, host, "read and erase the chip")
        chosen = listener.getsockname()[1]
        _announce(run, f"serprog://{named(host, chosen)}", port=chosen)
        return server.serve_tcp(listener)


def _over_pty(run: runner.Run, server: SerprogServer) -> Served:
    from hwflash.jobs.serve_serprog import open_pty

    master, name = open_pty()
    try:
        _announce(run, f"serprog://{name}", node=name)
        return server.serve_pty(master, name)
    finally:
        os.close(master)


def _announce(run: runner.Run, url: str, **facts: object) -> None:
    """The one line a script waits for: on stdout in either form."""
    run.console.data([url])
    if run.console.json_lines:
        run.console.info("listening", url=url, **facts)


command.add_command(usbip)
