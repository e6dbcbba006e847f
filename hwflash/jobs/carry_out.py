"""Carrying out what was prepared: the journal begun, the chip changed, the outcome remembered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hwflash.errors import ChipStateUnknown, HwflashError
from hwflash.flash import journal as journals
from hwflash.flash.journal import Journal
from hwflash.flash.plan import Plan
from hwflash.jobs.prepare import Job, Prepared
from hwflash.uefi.flashops import Operation, dump_operations
from hwflash.units import Range, merge_ranges

#: File of a job with its operations in order.
OPERATIONS: Final = "operations.json"


def begin(
    job: Job,
    prepared: Prepared,
    unique_id: str | None,
    backup: Path,
    operations: Sequence[Operation] = (),
) -> Journal:
    """Start the journal: from here on the write can be resumed.

    Args:
        job: what is written where.
        prepared: the plan.
        unique_id: that of the chip.
        backup: the file to which the old content went.
        operations: the plan's steps with their data, where their order matters.
    """
    facts = {
        "programmer": job.session.programmer.url,
        "jedec_id": job.session.chip.jedec_id.hex(),
        "unique_id": unique_id,
        "backup": str(backup),
        "order": "as-listed" if operations else "any",
    }
    target = [window.new for window in prepared.windows]
    more = {OPERATIONS: dump_operations(operations)} if operations else {}
    return Journal.create(job.options.state / "jobs", prepared.plan, target, facts, more)


def carry_out(
    job: Job, plan: Plan, journal: Journal, backup: Path, change: Callable[[], object]
) -> None:
    """Change the chip, and know afterwards what became of it.

    Args:
        job: what is written where.
        plan: what will be done.
        journal: open; closed at the end.
        backup: the way back.
        change: carries the plan out and verifies it.

    Raises:
        ChipStateUnknown: it failed or was stopped after the chip was touched.
        HwflashError: it failed before that.
    """
    verified = False
    try:
        with job.session.flash.unlocked():
            change()
            verified = True
    except HwflashError as exc:
        if not journal.begun:
            raise
        if not verified:
            _remember(job, plan, backup, "unknown", exc.code)
            raise _unknown(job, exc, journal, backup) from exc
        job.reporter.warning(
            f"written and verified, but the block locks were not put back: {exc}", code=exc.code
        )
    finally:
        journal.close()
    _remember(job, plan, backup, "ok", None)


def supersede(job: Job, journal: Journal, written: Sequence[Range], unique_id: str | None) -> None:
    """Close older unfinished writes of this chip that this one has written over in full."""
    covered = merge_ranges(list(written))
    for record in journals.unfinished_jobs(job.options.state / "jobs"):
        same = (record.programmer, record.jedec_id, record.unique_id) == (
            job.session.programmer.url,
            job.session.chip.jedec_id.hex(),
            unique_id,
        )
        done = all(any(place.contains(item) for place in covered) for item in record.plan.changed)
        if not (same and done) or record.name == journal.name:
            continue
        try:
            older = Journal.reopen(record.folder)
            older.finish()
            older.close()
        except HwflashError as exc:  # the write itself is done and good
            job.reporter.warning(f"{record.name} could not be closed: {exc}", code=exc.code)
        else:
            job.reporter.info(f"{record.name} need not be resumed any more", job=record.name)


def _remember(job: Job, plan: Plan, backup: Path, outcome: str, code: str | None) -> None:
    """Add a line to the history; a full disk must not turn a good write into a failure."""
    chip = job.session.chip
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "job": job.options.kind,
        "outcome": outcome,
        "error": code,
        "bytes": sum(window.length for window in plan.windows),
        "seconds": round(job.session.seconds, 3),
        "programmer": job.session.programmer.url,
        "part": chip.part,
        "jedec_id": chip.jedec_id.hex(),
        "sha256": plan.sha256,
        "backup": str(backup),
    }
    path = job.options.state / "history.jsonl"
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
    except OSError as exc:
        job.reporter.warning(f"the history {path} cannot be written: {exc.strerror}")


def _unknown(job: Job, exc: HwflashError, journal: Journal, backup: Path) -> ChipStateUnknown:
    """The failure, with what it takes to go on or back.

    A lost programmer also keeps block locks from being put back; that second failure hides
    the first, and is no less the end of a write that had begun.
    """
    facts = _facts(exc.context)
    message, code = exc.message, exc.code
    if not isinstance(exc, ChipStateUnknown):
        facts = {"cause": exc.code, "facts": facts}
        message, code = f"the write stopped half way: {exc}", ChipStateUnknown.code
    facts |= {
        "resume": journal.name,
        "backup": str(backup),
        "programmer": job.session.programmer.url,
    }
    return ChipStateUnknown(message, code=code, **facts)


def _facts(context: Mapping[str, object]) -> dict[str, Any]:
    return {key: value for key, value in context.items() if key != "code"}
