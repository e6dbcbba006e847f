"""``hwflash serve usbip``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import click

from hwflash.cli import params, runner
from hwflash.cli.listening import listen_option, named, warn_if_open
from hwflash.errors import UsageError

if TYPE_CHECKING:
    from hwflash.bus.url import ProgrammerUrl

DEFAULT_LISTEN: Final = "127.0.0.1:3240"


@click.command("usbip")
@click.option(
    "-p",
    "--programmer",
    metavar="URL",
    help="Simulated programmer, such as sim://w25q128jv. Default: $HWFLASH_PROGRAMMER.",
)
@listen_option(DEFAULT_LISTEN)
@params.json_option
@runner.command("serve usbip")
def usbip(run: runner.Run, programmer: str | None, listen: tuple[str, int]) -> runner.Outcome:
    """Show a simulated FT232H as a USB device to any computer or virtual machine, until Ctrl-C.

    There: modprobe vhci-hcd; usbip attach -r HOST -b 1-1
    """
    from hwflash.jobs.serve_serprog import listen as open_port
    from hwflash.jobs.simulated import simulate
    from hwflash.sim.usbip import Export, UsbipServer

    url = _simulated(programmer)
    simulated, release = simulate(url, os.environ)
    try:
        with open_port(*listen) as listener:
            host, port = listener.getsockname()[:2]
            warn_if_open(run, listen[0], "use the programmer")
            export = Export(simulated)
            run.console.info(f"serving a simulated FT232H with {simulated.chip.part}")
            _announce(run, host, port, export.device.busid)
            served = UsbipServer(export, listener, run.console, run.cancel).serve()
    finally:
        release()
    return runner.Outcome(
        {
            "connections": served.connections,
            "imports": served.imports,
            "refused": served.refused,
            "urbs": served.urbs,
        }
    )


def _simulated(programmer: str | None) -> ProgrammerUrl:
    from hwflash.bus.url import parse_url
    from hwflash.jobs.opening import ENVIRONMENT

    text = programmer if programmer is not None else os.environ.get(ENVIRONMENT)
    if text is None:
        raise UsageError("no programmer is named", code="usage.usbip-programmer")
    url = parse_url(text)
    if url.scheme != "sim":
        raise UsageError(
            f"{text} is not a simulated programmer", code="usage.usbip-programmer", url=text
        )
    return url


def _announce(run: runner.Run, host: str, port: int, busid: str) -> None:
    """The one line a script waits for: on stdout in either form."""
    url = f"usbip://{named(host, port)}/{busid}"
    run.console.data([url])
    if run.console.json_lines:
        run.console.info("listening", url=url, host=host, port=port, busid=busid)
