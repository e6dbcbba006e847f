"""A change of a chip's protection that is under way, as it stands in the state directory.

Registers are written one after the other: whoever is killed or unplugged between two leaves a
protection that nobody asked for. So the way there and the way back are on the disk before the
first write is sent, and go when the change is proven or did not happen. What is still there
tells of a change that stopped half way.

A change is a folder: ``protection.json`` (how it was, what is wanted, see `hwflash.jobs.lift`)
and ``change.json`` (which chip, which command), which is written last and taken away first.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.flash.journal import fresh_folder
from hwflash.jobs.lift import PROTECTION, Lift, load_lift
from hwflash.layout.files import sync_folder, write_atomically
from hwflash.progress import Reporter

if TYPE_CHECKING:
    from hwflash.jobs.session import Session

FOLDER: Final = "protect"
CHANGE: Final = "change.json"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the protection that began and is not known to be over.

    Attributes:
        folder: where it is kept.
        kind: the command, such as ``protect set``.
        programmer: URL of the programmer.
        part: name of the chip.
        jedec_id: its id in hex.
        unique_id: its unique id in hex, or None.
        one_time: a bit that can be set once was allowed to be set.
        lift: how it was (``before``) and what is wanted (``during``).
    """

    folder: Path
    kind: str
    programmer: str
    part: str
    jedec_id: str
    unique_id: str | None
    one_time: bool
    lift: Lift

    @property
    def name(self) -> str:
        """The name under which it is finished or put back."""
        return self.folder.name


def begin(state: Path, session: Session, kind: str, lift: Lift, *, one_time: bool) -> Change:
    """Write down a change before anything of it is sent.

    Raises:
        EnvironmentFault: it cannot be written (``journal.unwritable``).
    """
    changes = state / FOLDER
    facts = {
        "v": _VERSION,
        "kind": kind,
        "programmer": session.programmer.url,
        "part": session.chip.part,
        "jedec_id": session.chip.jedec_id.hex(),
        "unique_id": session.unique_id(),
        "one_time": one_time,
    }
    try:
        folder = fresh_folder(changes, f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-protect")
        write_atomically(folder / PROTECTION, lift.dump())
        write_atomically(folder / CHANGE, (json.dumps(facts) + "\n").encode())
        sync_folder(folder)
        sync_folder(changes)
    except OSError as exc:
        raise EnvironmentFault(
            f"the change cannot be written down in {changes}: {exc.strerror}",
            code="journal.unwritable",
            path=str(changes),
        ) from exc
    return load(folder)


def close(change: Change, reporter: Reporter) -> None:
    """A change is over: done, put back, or never happened.

    A folder that cannot be taken away is a warning: what became of the chip stands.
    """
    try:
        (change.folder / CHANGE).unlink(missing_ok=True)
        sync_folder(change.folder)
        shutil.rmtree(change.folder, ignore_errors=True)
    except OSError as exc:
        reporter.warning(
            f"{change.name} is over, but {change.folder} cannot be removed: {exc.strerror}",
            code="journal.unwritable",
        )


def load(folder: Path) -> Change:
    """Read a change.

    Raises:
        ImageError: it is missing or damaged (``journal.damaged``).
    """
    try:
        found: Any = json.loads((folder / CHANGE).read_text(encoding="utf-8"))
        if found["v"] != _VERSION:
            raise ValueError(f"version {found['v']!r}")
        lift = load_lift(folder)
        if lift is None:
            raise ValueError(f"{PROTECTION} is missing")
        return Change(
            folder=folder,
            kind=str(found["kind"]),
            programmer=str(found["programmer"]),
            part=str(found["part"]),
            jedec_id=str(found["jedec_id"]),
            unique_id=None if found["unique_id"] is None else str(found["unique_id"]),
            one_time=bool(found["one_time"]),
            lift=lift,
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ImageError(
            f"change {folder.name} of a protection is damaged: {exc}",
            code="journal.damaged",
            path=str(folder),
        ) from exc


def unfinished(state: Path) -> list[Change]:
    """Changes that began and are not known to be over, oldest first; damaged ones are passed."""
    changes, found = state / FOLDER, list[Change]()
    for folder in sorted(changes.iterdir()) if changes.is_dir() else []:
        try:
            found.append(load(folder))
        except ImageError:
            continue
    return found


def damaged(state: Path) -> set[str]:
    """Names of changes that are there and cannot be read."""
    changes = state / FOLDER
    found = {folder.name for folder in changes.iterdir()} if changes.is_dir() else set[str]()
    return found - {change.name for change in unfinished(state)}


def of_chip(session: Session, state: Path) -> list[Change]:
    """Those of the chip that is there, as far as it can be told from others of its kind."""
    jedec_id = session.chip.jedec_id.hex()
    found = [change for change in unfinished(state) if change.jedec_id == jedec_id]
    if not found:
        return []
    unique_id, url = session.unique_id(), session.programmer.url
    return [
        change
        for change in found
        if change.unique_id == unique_id and (unique_id is not None or change.programmer == url)
    ]
