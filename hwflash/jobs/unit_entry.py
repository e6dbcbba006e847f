"""What the history is to know of a unit of a job file: its numbers, its steps, what became of it.

Every step that writes has an entry of its own, with the unit's numbers; the unit has one more,
of the kind ``job run``, which names the others and tells of the after-steps.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwflash.errors import ChipStateUnknown, Interrupted, UsageError
from hwflash.jobs.after_steps import AfterFailed
from hwflash.jobs.history_entry import Entry
from hwflash.jobs.job_batch import Batch
from hwflash.jobs.job_result import UnitResult
from hwflash.jobs.placeholders import UnitValues, mac_text
from hwflash.jobs.remember import Facts, bare_entry, record
from hwflash.progress import Reporter

#: What the history calls a unit.
KIND = "job run"


def new_batch(name: str) -> str:
    """A name for a run of a job file, or of a gang, that no other run has."""
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def unit_details(batch: Batch, run: str, values: UnitValues, origin: str | None) -> dict[str, Any]:
    """Whose entry it is.

    Args:
        batch: the job.
        run: name of the run, from `new_batch`.
        values: the unit's numbers.
        origin: of its numbers, or None when it got none.
    """
    return {
        "unit": {
            "job": batch.form.job.name,
            "batch": run,
            "number": values.unit,
            "serial": values.serial,
            "macs": [mac_text(address) for address in values.macs],
            "row": dict(values.row),
            "origin": origin,
            "files": _files(batch.digests),
        }
    }


def _files(digests: Mapping[Path, str]) -> dict[str, str]:
    """Digests by name of the file, or by its path where two have the same name."""
    names = Counter(path.name for path in digests)
    return {
        path.name if names[path.name] == 1 else str(path): digest
        for path, digest in digests.items()
    }


def remember_unit(
    state: Path, details: dict[str, Any], result: UnitResult, began: float, reporter: Reporter
) -> int | None:
    """Record what became of a unit.

    A person's own decision before anything was changed is no failure of a unit, and not recorded.

    Args:
        state: the state directory.
        details: from `unit_details`.
        result: what became of it.
        began: when, as of `time.time`.
        reporter: is warned when it cannot be recorded.

    Returns:
        The number of the entry, or None when there is none.
    """
    if isinstance(result.error, (UsageError, Interrupted)) and not result.changed:
        return None
    return record(state, _entry(details, result, began), reporter)


def _entry(details: dict[str, Any], result: UnitResult, began: float) -> Entry:
    chip: dict[str, Any] = result.chip or {}
    last = [item for item in result.wrote if item.step == "image"]
    error = result.error
    more = {
        **details,
        "includes": list(result.entries),
        "variables_set": [item.name for item in result.variables if item.change != "unchanged"],
        "after": _shortened(result.after),
    }
    facts = Facts(
        KIND,
        sum(item.bytes for item in result.wrote),
        image_sha256=last[-1].sha256 if last else None,
        unique_id=chip.get("unique_id"),
        details=more | ({"message": error.message} if error is not None else {}),
    )
    return replace(
        bare_entry(facts, outcome_of(result), began),
        error=error.code if error is not None else None,
        seconds=round(result.seconds, 6),
        modelled=bool(chip.get("simulated")),
        programmer=chip.get("programmer"),
        part=chip.get("part"),
        jedec_id=chip.get("jedec_id"),
        board=chip.get("board"),
    )


def outcome_of(result: UnitResult) -> str:
    """One of `hwflash.jobs.history_entry.OUTCOMES`."""
    if result.error is None:
        return "ok" if result.changed else "unchanged"
    if isinstance(result.error, AfterFailed):
        return "rejected"
    # What is written, verified and merely not recorded as done is known.
    if result.error.code == "serial.unrecorded":
        return "rejected"
    return "unknown" if isinstance(result.error, ChipStateUnknown) else "failed"


def _shortened(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("command", "outcome", "exit_code", "text", "seconds")
    return [{key: step[key] for key in keys} for step in steps]
