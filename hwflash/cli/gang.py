"""Commands on several programmers at once: what they share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import asking, params, runner
from hwflash.errors import UsageError
from hwflash.units import format_seconds

if TYPE_CHECKING:
    from hwflash.jobs.gang import Terms
    from hwflash.jobs.gang_devices import Device
    from hwflash.jobs.gang_pool import Pool
    from hwflash.jobs.gang_result import Row
    from hwflash.jobs.gang_task import Sources, Task
    from hwflash.jobs.opening import Request
    from hwflash.jobs.selection import Selection
    from hwflash.jobs.write import WriteOptions


def taken(options: dict[str, Any], url: str | None = None) -> list[Device] | None:
    """Take the programmers out of a command's options; None where it is one, as usual.

    Args:
        options: of the command; ``programmer`` is put there where it is one.
        url: what stands in for a URL that is not given.

    Raises:
        UsageError: see `hwflash.jobs.gang_devices.devices`.
        ProgrammerError, EnvironmentFault: ``--all`` finds none.
    """
    urls: tuple[str, ...] = options.pop("programmers")
    every, count = options.pop("every"), options.pop("count")
    if every and (urls or count is not None):
        raise UsageError("--all takes every programmer: name none", code="usage.gang")
    if not every and len(urls) < 2 and count is None:
        if any("{n}" in word for word in (*urls, *([] if urls or url is None else [url]))):
            raise UsageError("{n} in a URL needs --count", code="usage.gang", urls=list(urls))
        options["programmer"] = urls[0] if urls else None
        return None
    from hwflash.jobs.gang_devices import attached, devices
    from hwflash.jobs.opening import ENVIRONMENT

    options["programmer"] = None
    if every:
        return devices(attached())
    usual = os.environ.get(ENVIRONMENT) or url
    return devices(urls or ([usual] if usual else []), count)


def all_or_nothing_option(function: Any) -> Any:
    """``--all-or-nothing``."""
    return click.option(
        "--all-or-nothing", is_flag=True,
        help="Several programmers: write to none if one fails before the first is written.",
    )(function)  # fmt: skip


def require_one(all_or_nothing: bool) -> None:
    """Refuse what has no meaning for one programmer.

    Raises:
        UsageError: ``--all-or-nothing`` (``usage.gang``).
    """
    if all_or_nothing:
        raise UsageError("--all-or-nothing goes with several programmers", code="usage.gang")


def sources(
    run: runner.Run, pool: Pool, file: Path | None, kind: str, chosen: Selection
) -> Sources:
    """Read the files that go to the chips, once."""
    from hwflash.jobs.gang_task import Sources

    image = pool.add_image(params.load_file(run, file, kind)) if file is not None else None
    named = dict.fromkeys(item.file for item in chosen.regions if item.file is not None)
    files = {path: pool.add_image(params.load_file(run, path, kind)) for path in named}
    return Sources(image, files)


def change_terms(run: runner.Run, how: WriteOptions, *, all_or_nothing: bool) -> Terms:
    """When plans are carried out: with ``--yes`` each on its own, else after one question."""
    from hwflash.jobs.gang import Terms

    def ask(plans: Mapping[Device, Mapping[str, Any]], failed: Sequence[Row]) -> bool:
        from hwflash.cli.gang_show import plan_table

        lines, longest = plan_table(plans, failed)
        for line in ["plans:", *lines]:
            run.console.talk(line)
        of = f" of {len(plans) + len(failed)}" if failed else ""
        question = f"Write to {len(plans)}{of} chips, about {format_seconds(longest)}, now?"
        return asking.agrees(run, question)

    return Terms(ask if how.confirm is not None else None, all_or_nothing)


def run_gang(
    run: runner.Run,
    devices: Sequence[Device],
    request: Request,
    state: Path,
    make: Callable[[Pool], Task],
    terms: Terms,
    words: Sequence[str] = (),
) -> tuple[list[Row], runner.Outcome]:
    """Do a task on every programmer; what became of each, and the command's outcome.

    Args:
        run: of the command.
        devices: the programmers.
        request: what is known of programmers and chips.
        state: the state directory.
        make: makes the task, and puts its files into the pool.
        terms: when plans are carried out.
        words: options that printed commands repeat.
    """
    from hwflash.cli.gang_show import GangView
    from hwflash.jobs.gang import Gang
    from hwflash.jobs.gang_pool import Pool

    with Pool() as pool:
        task = make(pool)
        pool.seal()
        run.cancel.check()
        run.console.begin(run.console.command, devices=[device.url for device in devices])
        request = replace(request, environ=dict(os.environ))
        view = GangView(run.console, devices)
        asking = terms
        if terms.confirm is not None:
            asking = replace(terms, confirm=_without_bars(view, terms.confirm))
        try:
            with Gang(devices, task, request, pool, state, view, run.cancel) as gang:
                rows = gang.run(asking)
        finally:
            view.close()
    return rows, outcome(rows, len(devices), "programmer", words)


def outcome(
    rows: Sequence[Row],
    wanted: int,
    what: str,
    words: Sequence[str],
    more: Mapping[str, object] | None = None,
    *,
    stopped: bool = False,
) -> runner.Outcome:
    """The summary of a gang: a table, one exit code, and an error where it is none of 0 and 1."""
    from hwflash.cli.gang_show import row_dict, table
    from hwflash.jobs.gang_result import failure, worst

    for row in rows:
        if row.error is not None and row.error.context.get("resume"):
            row.error.context = {**row.error.context, "options": list(words)}
    done = sum(row.passed for row in rows)
    keys: dict[str, object] = {
        **(more or {}),
        "gang": sorted({row.device.url for row in rows}),
        "wanted": wanted,
        "done": done,
        "failed": len(rows) - done,
        "units": [row_dict(row) for row in rows],
    }
    begun = f", {wanted - len(rows)} not begun" if wanted > len(rows) else ""
    bad = f", {len(rows) - done} failed" if len(rows) > done else ""
    lines = [*table(rows), f"{done} of {wanted} {what}s done{bad}{begun}"]
    code = worst(row.exit_code for row in rows)
    return runner.Outcome(keys, lines, code, failure(rows, wanted, what, stopped=stopped))


def _without_bars(view: Any, confirm: Callable[..., bool]) -> Callable[..., bool]:
    def ask(*plans: Any) -> bool:
        view.close()
        return confirm(*plans)

    return ask


class Keyboard:
    """The person who connects boards; the `hwflash.jobs.gang.Operator` of a run."""

    def __init__(self, view: Any, units: int) -> None:
        self._view = view
        self._units = units

    def ask(self, device: Device, unit: int, /) -> None:
        """Ask for a board; the answer is a line."""
        self._view.talk(
            f"{device}: connect unit {unit} of {self._units}; Enter writes to it, q stops"
        )

    def fileno(self) -> int:
        """Standard input."""
        return sys.stdin.fileno()

    def answer(self) -> bool:
        """What was typed: an empty line or a yes; anything else, and the end, stops."""
        line = sys.stdin.readline()
        return bool(line) and line.strip().lower() in ("", "y", "yes")
