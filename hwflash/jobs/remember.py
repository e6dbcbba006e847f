"""Telling the history of a job: who did what to which chip, and what came of it.

A history that cannot be written is a warning: it does not make a good job a bad one.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hwflash import __version__
from hwflash.errors import (
    BusUnstable,
    ChipStateUnknown,
    ChipTimeout,
    HwflashError,
    Interrupted,
    ProgrammerError,
    UsageError,
)
from hwflash.jobs.history import open_history
from hwflash.jobs.history_entry import Entry, utc
from hwflash.progress import Reporter
from hwflash.units import Range

if TYPE_CHECKING:
    from hwflash.flash.journal import JobRecord
    from hwflash.jobs.prepare import Job
    from hwflash.jobs.session import Session
    from hwflash.jobs.uefi_edit import Edited
    from hwflash.uefi.find import Found

OPERATOR: Final = "HWFLASH_OPERATOR"
#: File of a job's folder with its `Facts`: a resume records them, too.
FACTS: Final = "facts.json"
#: Ranges that an entry lists.
RANGES: Final = 64
#: Values of variables up to so many bytes are recorded themselves, beside their hash.
VALUE: Final = 64


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a write before it begins.

    Attributes:
        kind: ``write``, ``erase``, ``vars set`` …
        bytes: bytes it covers.
        image_sha256: of the image, or None where there is none.
        unique_id: of the chip, in hex, or None.
        backup_sha256: of the backup's content.
        details: more for the history; JSON values.
    """

    kind: str
    bytes: int
    image_sha256: str | None = None
    unique_id: str | None = None
    backup_sha256: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def dump(self) -> bytes:
        """As a file of the job's folder."""
        return (json.dumps(asdict(self)) + "\n").encode()


def load_facts(folder: Path) -> Facts | None:
    """The facts of a job; None where they are missing or damaged, as of an older version."""
    try:
        found: Any = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        texts = ("image_sha256", "unique_id", "backup_sha256")
        if not all(isinstance(found[name], str | None) for name in texts):
            return None
        return Facts(
            kind=str(found["kind"]),
            bytes=int(found["bytes"]),
            details=dict(found["details"]),
            **{name: found[name] for name in texts},
        )
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def facts_to_resume(job: JobRecord) -> Facts:
    """The facts of a write that is resumed, as far as they were kept."""
    length = sum(window.length for window in job.plan.windows)
    kept = load_facts(job.folder) or Facts("write", length, unique_id=job.unique_id)
    return replace(kept, details={**kept.details, "resumes": job.name, "resumed_kind": kept.kind})


def record(state: Path, entry: Entry, reporter: Reporter) -> int | None:
    """Add an entry.

    Args:
        state: the state directory.
        entry: what happened.
        reporter: is warned when it cannot be recorded.

    Returns:
        Its number, or None when it could not be recorded.
    """
    try:
        with open_history(state, create=True) as history:
            number = history.add(entry)
            notes = history.notes
    except HwflashError as error:
        reporter.warning(
            f"this is not in the history: {error}",
            code=error.code, kind=entry.kind, outcome=entry.outcome,
        )  # fmt: skip
        return None
    for note in notes:
        reporter.warning(note)
    return number


def chip_entry(session: Session, facts: Facts, outcome: str, began: float) -> Entry:
    """What a job on a chip is in the history.

    Args:
        session: programmer and chip.
        facts: of the job.
        outcome: one of `hwflash.jobs.history_entry.OUTCOMES`.
        began: when, as of `time.time`.
    """
    chip, board = session.chip, session.board
    return replace(
        bare_entry(facts, outcome, began),
        seconds=round(session.seconds, 6),
        modelled=session.programmer.simulated,
        programmer=session.programmer.url,
        part=chip.part,
        jedec_id=chip.jedec_id.hex(),
        board=board.name if board is not None else None,
    )


def file_entry(file: Path, board: str | None, facts: Facts, began: float) -> Entry:
    """What the change of an image file is in the history.

    Args:
        file: as it is now.
        board: its board, or None.
        facts: of the change; its image is the file as it is now.
        began: when, as of `time.time`.
    """
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:  # somebody has taken it away
        digest = None
    return replace(
        bare_entry(replace(facts, image_sha256=digest), "ok", began),
        seconds=round(max(time.time() - began, 0.0), 6),
        file=str(file.absolute()),
        board=board,
    )


def told(job: Job, facts: Facts) -> Facts:
    """The facts, with what the job's options add for the history."""
    return replace(facts, details={**facts.details, **job.options.details})


def remember(
    job: Job,
    facts: Facts,
    outcome: str,
    *,
    error: str | None = None,
    backup: Path | None = None,
    journal: str | None = None,
) -> int | None:
    """Record the outcome of a write.

    Args:
        job: what was written where.
        facts: what was known before.
        outcome: one of `hwflash.jobs.history_entry.OUTCOMES`.
        error: code of the error.
        backup: the way back.
        journal: name of the journal.

    Returns:
        The number of the entry, or None when it could not be recorded.
    """
    entry = chip_entry(job.session, told(job, facts), outcome, job.began)
    entry = replace(
        entry,
        seconds=round(entry.seconds - job.started, 6),
        kind=job.options.kind,
        error=error,
        backup=str(backup) if backup is not None else None,
        job=journal,
    )
    return record(job.options.state, entry, job.reporter)


@contextmanager
def remembering(job: Job) -> Generator[None]:
    """Record a job that failed before anything was changed.

    One that stopped half way was recorded already, and a person's own decision or slip of the
    pen is no failure of a unit.
    """
    try:
        yield
    except (UsageError, Interrupted, ChipStateUnknown):
        raise
    except HwflashError as error:
        if not job.options.dry_run:
            unique_id = None
            if not isinstance(error, (ProgrammerError, BusUnstable, ChipTimeout)):
                with suppress(HwflashError):  # the bus is good, the chip can be asked
                    unique_id = job.session.unique_id()
            facts = Facts(job.options.kind, 0, unique_id=unique_id, details={"message": str(error)})
            _told_of(error, remember(job, facts, "failed", error=error.code))
        raise


def looked(
    state: Path | None, session: Session, facts: Facts, outcome: str, began: float,
    reporter: Reporter,
) -> int | None:  # fmt: skip
    """Record a job that only looked at the chip; without a state directory nothing is done.

    Returns:
        The number of the entry, or None when there is none.
    """
    if state is None:
        return None
    with suppress(HwflashError):  # the job itself is done
        facts = replace(facts, unique_id=session.unique_id())
    return record(state, chip_entry(session, facts, outcome, began), reporter)


def _told_of(error: HwflashError, entry: int | None) -> None:
    """Let a failure know its entry, from which reports are made."""
    if entry is not None:
        error.context = {**error.context, "history": entry}


def ranges_detail(ranges: Sequence[Range]) -> dict[str, Any]:
    """Ranges as a detail of an entry: the first `RANGES`, and how many there are."""
    shown = [{"address": item.address, "length": item.length} for item in ranges[:RANGES]]
    return {"ranges": shown, "range_count": len(ranges)}


def variables_set(before: Found, after: Found) -> list[dict[str, Any]]:
    """The variables that a change of a store set or deleted, as a detail of an entry.

    A store that could not be read before has none to compare with: all that it holds now were
    set.
    """
    from hwflash.uefi.exchange import Variable, variables_of
    from hwflash.uefi.records import attribute_names
    from hwflash.uefi.window import printable

    def live(found: Found) -> dict[object, Variable]:
        return {item.key: item for item in variables_of(found.store)} if found.store else {}

    def described(item: Variable, change: str) -> dict[str, Any]:
        return {
            "name": printable(item.name),
            "guid": str(item.guid),
            "change": change,
            "attributes": attribute_names(item.attributes),
            "size": len(item.data),
            "sha256": hashlib.sha256(item.data).hexdigest(),
            "data": item.data.hex() if len(item.data) <= VALUE else None,
        }

    old, new = live(before), live(after)
    found = [described(item, "set") for key, item in new.items() if old.get(key) != item]
    return found + [described(item, "deleted") for key, item in old.items() if key not in new]


def edit_facts(kind: str, edited: Edited[Any]) -> Facts:
    """What the history is to know of a change of a variable store.

    Args:
        kind: what it is called.
        edited: the change, as it was made in memory.
    """
    details = {
        "store": edited.before.base,
        "content_sha256": edited.plan.sha256,
        "variables": variables_set(edited.before, edited.after),
    }
    return Facts(kind, sum(place.length for place in edited.plan.windows), details=details)


def operator() -> str | None:
    """Who is at work: ``HWFLASH_OPERATOR``, else the login name."""
    if named := os.environ.get(OPERATOR, "").strip():
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in a container
        return f"uid {os.getuid()}"


def bare_entry(facts: Facts, outcome: str, began: float) -> Entry:
    """What is known of a job whatever it was done to: what, when, by whom, with which version."""
    return Entry(
        time=utc(time.time()),
        started=utc(began),
        kind=facts.kind,
        outcome=outcome,
        unique_id=facts.unique_id,
        image_sha256=facts.image_sha256,
        backup_sha256=facts.backup_sha256,
        bytes=facts.bytes,
        operator=operator(),
        host=os.uname().nodename,
        version=__version__,
        details=facts.details,
    )
