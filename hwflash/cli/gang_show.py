"""A gang as people and scripts see it: a bar or lines for each programmer, and one table."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hwflash import diagnostics
from hwflash.cli.output import JSON_INTERVAL, QUIET_SECONDS, Console
from hwflash.units import format_seconds, format_size

if TYPE_CHECKING:
    from hwflash.jobs.gang_devices import Device
    from hwflash.jobs.gang_result import Row
    from hwflash.jobs.gang_wire import Said
    from hwflash.progress import Progress


class GangView:
    """What the programmers of a gang have to say; the `hwflash.jobs.gang.Watcher` of a command.

    Args:
        console: where it goes.
        devices: the programmers.
    """

    def __init__(self, console: Console, devices: Sequence[Device]) -> None:
        self._console = console
        self._bars = _GangBars(console, devices) if console.terminal else None
        self._said: dict[tuple[int, str], float] = {}

    def progress(self, device: Device, event: Progress, /) -> None:
        """Show how far a programmer is."""
        if self._bars is not None:
            self._bars.update(device, event)
        elif self._console.json_lines:
            if self._due(device, event, JSON_INTERVAL):
                self._console.event(
                    "progress", device=device.url, phase=event.phase, done=event.done,
                    total=event.total, address=event.address,
                )  # fmt: skip
        elif event.phase != "plan" and self._due(device, event, QUIET_SECONDS):
            percent = 100 * event.done // max(event.total, 1)
            self._console.talk(f"{device}: {event.phase}: {percent} %")

    def said(self, device: Device, said: Said, /) -> None:
        """Pass on a remark or a warning."""
        kind = "warning" if said.warning else "info"
        self._console.event(kind, device=device.url, message=said.message, context=said.context)
        self.talk(f"{device}: {'warning: ' if said.warning else ''}{said.message}")

    def ended(self, row: Row, /) -> None:
        """A unit is done or has failed."""
        self._console.event(
            "info", device=row.device.url, message=row_text(row),
            context={"gang_unit": row_dict(row)},
        )  # fmt: skip
        self.talk(f"{row.device}: {row_text(row)}")

    def warning(self, message: str, /, **context: object) -> None:
        """Pass on a warning about the gang as a whole."""
        self._console.event("warning", message=message, context=context)
        self.talk(f"warning: {message}")

    def talk(self, line: str) -> None:
        """A line above the bars."""
        if self._bars is not None:
            self._bars.say(line)
        else:
            self._console.talk(line)

    def close(self) -> None:
        """Take the bars off the terminal, until a programmer goes on."""
        if self._bars is not None:
            self._bars.stop()

    def _due(self, device: Device, event: Progress, limit: float) -> bool:
        now = time.monotonic()
        key = device.number, event.phase
        # The beginning of a phase says nothing; its end does.
        last = self._said.setdefault(key, now)
        if event.done < event.total and now - last < limit:
            return False
        self._said[key] = now
        return True


def row_text(row: Row) -> str:
    """What became of a unit, on one line."""
    who = f"unit {row.unit}: " if row.unit is not None else ""
    if row.error is not None:
        return f"{who}{row.outcome}: {row.error.message} [{row.error.code}]"
    seconds = format_seconds(float(row.facts.get("seconds", 0.0)))
    return f"{who}{row.outcome} in {seconds}"


def row_dict(row: Row) -> dict[str, Any]:
    """A row as JSON has it: the unit's own keys, and what a gang adds to them."""
    facts = {key: value for key, value in row.facts.items() if key != "plan"}
    error = diagnostics.as_dict(row.error) if row.error is not None else None
    chip = {key: row.chip.get(key) for key in ("part", "jedec_id", "unique_id")}
    found: dict[str, Any] = {} if row.unit is not None else chip
    found |= {"unit": row.unit, **facts} if row.unit is not None else facts
    return {
        **found,
        "device": row.device.url,
        "number": row.device.number,
        "programmer": row.chip.get("programmer"),
        "outcome": row.outcome,
        "state": row.state,
        "exit_code": row.exit_code,
        "backup": row.backup,
        "resume": (error or {}).get("resume"),
        "restore": (error or {}).get("restore"),
        "error": error,
    }


def table(rows: Sequence[Row]) -> list[str]:
    """The summary: a line for each unit, then what helps those that failed."""
    units = any(row.unit is not None for row in rows)
    names = (*(("unit", "serial") if units else ()), "programmer", "part", "unique id", "outcome",
             "chip", "error")  # fmt: skip
    cells = [names] + [
        (
            *((str(row.unit or "-"), str(row.facts.get("serial") or "-")) if units else ()),
            str(row.device),
            str(row.chip.get("part") or "-"),
            str(row.chip.get("unique_id") or "-"),
            row.outcome,
            row.state,
            _code(row),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    saved = [row.backup for row in rows if row.passed and row.backup]
    if saved:
        folders = sorted({os.path.dirname(path) for path in saved})  # noqa: PTH120 - text
        lines.append(f"{len(saved)} backups in {', '.join(folders)}")
    for row in rows:
        lines += _help(row)
    return lines


def _code(row: Row) -> str:
    """The code of the error, and of its cause where the chip had been touched."""
    if row.error is None:
        return ""
    cause = row.error.context.get("cause")
    return row.error.code + (f" ({cause})" if cause and cause != row.error.code else "")


def _help(row: Row) -> list[str]:
    if row.error is None:
        return []
    facts = diagnostics.as_dict(row.error)
    who = f"{row.device}, unit {row.unit}" if row.unit is not None else str(row.device)
    lines = [f"{who}: {row.error.message}"]
    lines += [f"  backup: {row.backup}"] if row.backup else []
    lines += [
        f"  {name}: {facts[name]}" for name in ("recover", "resume", "restore") if name in facts
    ]
    return [*lines, f"  hint: {facts['hint']}"]


def plan_table(
    plans: Mapping[Device, Mapping[str, Any]], failed: Sequence[Row]
) -> tuple[list[str], float]:
    """Plans side by side, and the predicted seconds of the longest."""
    lines: list[str] = []
    longest = 0.0
    for device, plan in plans.items():
        sums = {
            kind: sum(step["length"] for step in plan["steps"] if step["kind"] == kind)
            for kind in ("erase", "program")
        }
        longest = max(longest, plan["seconds"])
        lines.append(
            f"  {device}: {plan['part']}, erase {format_size(sums['erase'])}, program "
            f"{format_size(sums['program'])}, about {format_seconds(plan['seconds'])}"
        )
    lines += [f"  {row.device}: {row_text(row)}" for row in failed]
    return lines, longest


class _GangBars:
    """A line for each programmer: its phase and how far it is, drawn by rich."""

    def __init__(self, console: Console, devices: Sequence[Device]) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._progress: Any = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}"),
            console=RichConsole(file=console.err, no_color="NO_COLOR" in os.environ),
        )
        self._tasks = {
            device.number: self._progress.add_task(f"{device}", total=None, amount="opening")
            for device in devices
        }
        self._progress.start()

    def update(self, device: Device, event: Progress) -> None:
        if event.phase == "plan":
            return
        self._progress.start()  # nothing, when it runs
        percent = 100 * event.done // max(event.total, 1)
        self._progress.update(
            self._tasks[device.number], completed=event.done, total=event.total,
            amount=f"{event.phase} {percent} %",
        )  # fmt: skip

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self._progress.stop()
