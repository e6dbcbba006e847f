"""``hwflash list``."""

from __future__ import annotations

import os
from typing import Any

import click

from hwflash.cli import params, runner


@click.command("list")
@params.json_option
@runner.command("list")
def command(run: runner.Run, **_options: Any) -> runner.Outcome:
    """List the programmers that are attached, with the URL that selects each."""
    from hwflash.bus.discovery import find_all

    found = find_all()
    programmers = [
        {
            "url": item.url,
            "name": item.name,
            "serial": item.serial,
            "product": item.product,
            "bus": item.bus,
            "address": item.address,
            "path": ".".join(map(str, item.path)),
            "node": item.node,
            "accessible": os.access(item.node, os.R_OK | os.W_OK),
        }
        for item in found
    ]
    lines = [
        f"{entry['url']:<36} {entry['product'] or 'FT232H'}"
        + ("" if entry["accessible"] else f"   no permission on {entry['node']}: `hwflash doctor`")
        for entry in programmers
    ]
    if not lines:
        run.console.talk("no programmer is attached; sim://w25q128jv works without hardware")
    return runner.Outcome({"programmers": programmers}, lines)
