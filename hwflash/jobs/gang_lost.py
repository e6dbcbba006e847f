"""A worker of a gang that ended in the middle of something: what is known of its chip."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final

from hwflash.errors import ChipStateUnknown, EnvironmentFault, HwflashError
from hwflash.flash import journal as journals
from hwflash.flash.journal import JobRecord
from hwflash.jobs.gang_result import Row
from hwflash.jobs.remember import Facts, bare_entry, record

CODE: Final = "gang.worker-lost"
#: Clocks of the file system are coarser than ours.
_SLACK: Final = 2.0


def what_became(
    row: Row, exit_code: int, errors: IO[bytes], state: Path, url: str, started: float
) -> HwflashError:
    """The error of a unit whose worker is gone.

    Args:
        row: what is known of the unit.
        exit_code: of the process; negative is a signal.
        errors: what it printed on its standard error.
        state: the state directory.
        url: of its programmer, as journals have it.
        started: when the worker was started, as of `time.time`.
    """
    said = _last_line(errors)
    how = f"was ended by {_signal(-exit_code)}" if exit_code < 0 else f"ended with {exit_code}"
    text = f"the process at {row.device} {how}" + (f": {said}" if said else "")
    if not row.begun:
        return EnvironmentFault(text, code=CODE, device=row.device.url)
    found = _journal(state, url, started)
    if found is not None and not found.begun:  # the journal is on the disk before a step begins
        return EnvironmentFault(text, code=CODE, device=row.device.url)
    facts: dict[str, Any] = {"programmer": url}
    if found is not None:
        facts |= {"resume": found.name, "backup": found.backup}
    return ChipStateUnknown(text, code=CODE, device=row.device.url, **facts)


def remember_lost(
    state: Path, row: Row, batch: str | None, started: float, reporter: Any
) -> int | None:
    """Record it: the worker cannot any more. ``batch`` is the name of the run of a job file.

    Returns:
        The number of the entry, or None when it could not be recorded.
    """
    error = row.error
    if error is None:
        return None
    details: dict[str, Any] = {"message": error.message}
    if row.unit is not None:
        details["unit"] = {"number": row.unit, "batch": batch}
    resume, backup = error.context.get("resume"), error.context.get("backup")
    entry = replace(
        bare_entry(Facts("gang", 0, unique_id=row.chip.get("unique_id"), details=details),
                   row.outcome, started),
        error=error.code,
        programmer=row.chip.get("programmer") or row.device.url,
        part=row.chip.get("part"),
        jedec_id=row.chip.get("jedec_id"),
        board=row.chip.get("board"),
        backup=str(backup) if backup else None,
        job=str(resume) if resume else None,
        modelled=bool(row.chip.get("simulated")),
    )  # fmt: skip
    return record(state, entry, reporter)


def _journal(state: Path, url: str, started: float) -> JobRecord | None:
    """The newest unfinished write of this programmer that began since."""
    try:
        unfinished = journals.unfinished_jobs(state / "jobs")
        found = [
            item for item in unfinished
            if item.programmer == url and item.folder.stat().st_mtime >= started - _SLACK
        ]  # fmt: skip
        return max(found, key=lambda item: item.folder.stat().st_mtime, default=None)
    except (HwflashError, OSError):
        return None


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0, 2)
    errors.seek(max(errors.tell() - 4000, 0))
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
