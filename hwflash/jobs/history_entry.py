"""An entry of the history: what it says, and its form as a row of a table or an old line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, cast

#: done; nothing had to be done; chip and image differ; done, but a step after it failed; failed,
#: nothing was changed; stopped half way, the chip is in an unknown state.
OUTCOMES: Final = ("ok", "unchanged", "differs", "rejected", "failed", "unknown")
PASSED: Final = frozenset({"ok", "unchanged"})

#: As older versions kept the history: a JSON object a line.
OLD_FILE: Final = "history.jsonl"

_NUMBERS: Final = ("id", "bytes", "seconds", "modelled")
_OLD_TEXTS: Final = ("time", "outcome", "programmer", "part", "jedec_id", "backup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A job, as the history knows it.

    Attributes:
        id: number in the history; 0 before it is there.
        time: when it ended, UTC, such as ``2026-01-31T12:00:00Z``.
        started: when it began, likewise.
        kind: ``write``, ``erase``, ``restore``, ``resume``, ``read``, ``verify``, ``vars set`` …
        outcome: one of `OUTCOMES`.
        error: code of the error, or None.
        programmer: URL of the programmer; None for an image file.
        part: name of the chip.
        jedec_id: its id in hex.
        unique_id: its unique id in hex, or None when it has none.
        board: name of the board, or None.
        file: image file that was changed, or None.
        image_sha256: of what was to be written, was read, or stands in the file afterwards.
        backup: path of the backup.
        backup_sha256: of the backup's content.
        bytes: bytes the job covers.
        seconds: time on the programmer.
        modelled: the seconds are those of a simulation.
        operator: who ran it.
        host: on which computer.
        version: of hwflash.
        job: name of the journal, by which a write is resumed.
        details: more, such as ``variables`` that were set, or ``unit``: whose job file, serial
            number and MAC addresses; JSON values.
    """

    time: str
    kind: str
    outcome: str
    id: int = 0
    started: str | None = None
    error: str | None = None
    programmer: str | None = None
    part: str | None = None
    jedec_id: str | None = None
    unique_id: str | None = None
    board: str | None = None
    file: str | None = None
    image_sha256: str | None = None
    backup: str | None = None
    backup_sha256: str | None = None
    bytes: int = 0
    seconds: float = 0.0
    modelled: bool = False
    operator: str | None = None
    host: str | None = None
    version: str | None = None
    job: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def passed(self) -> bool:
        """Whether the chip holds what was asked for."""
        return self.outcome in PASSED

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it, ``id`` first."""
        found = {name: getattr(self, name) for name in COLUMNS}
        return found | {"details": dict(self.details)}


#: Names of an entry's facts, in the order of tables.
COLUMNS: Final = ("id", *(item.name for item in fields(Entry) if item.name != "id"))


#: A damaged entry must not fail the search for others; it says so itself when it is read.
_SERIAL: Final = (
    "CASE WHEN json_valid(details) THEN json_extract(details, '$.unit.serial') = ? OR EXISTS "
    "(SELECT 1 FROM json_each(details, '$.unit.macs') WHERE value = lower(?)) END"
)
_BATCH: Final = "CASE WHEN json_valid(details) THEN json_extract(details, '$.unit.batch') = ? END"


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries.

    Attributes:
        limit: the newest so many; None is all.
        since: not those that ended before, UTC as in `Entry.time`.
        outcome: only this one.
        chip: only this part, JEDEC id or unique id, whatever its case.
        serial: only units with this serial number or MAC address.
        batch: only units of this run of a job file or gang.
    """

    limit: int | None = None
    since: str | None = None
    outcome: str | None = None
    chip: str | None = None
    serial: str | None = None
    batch: str | None = None

    def where(self) -> tuple[str, list[str]]:
        """A WHERE clause and its values."""
        clauses: list[str] = []
        values: list[str] = []
        if self.since is not None:
            clauses.append("time >= ?")
            values.append(self.since)
        if self.outcome is not None:
            clauses.append("outcome = ?")
            values.append(self.outcome)
        if self.chip is not None:
            clauses.append("lower(?) IN (lower(part), lower(jedec_id), lower(unique_id))")
            values.append(text_for_sql(self.chip))
        if self.serial is not None:
            clauses.append(_SERIAL)
            values += [text_for_sql(self.serial)] * 2
        if self.batch is not None:
            clauses.append(_BATCH)
            values.append(text_for_sql(self.batch))
        return (f" WHERE {' AND '.join(clauses)}" if clauses else ""), values


EVERY: Final = Query()


def utc(seconds: float) -> str:
    """A POSIX time as entries have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_row(row: Iterable[Any]) -> Entry:
    """An entry from the values of a row; whatever they are, it has the types it promises.

    Raises:
        ValueError: they are no entry's.
    """
    found = dict(zip(COLUMNS, row, strict=True))
    try:
        details: Any = json.loads(found.pop("details"), parse_constant=_no_constant)
        found |= {
            "id": int(found["id"]),
            "bytes": int(found["bytes"]),
            "seconds": float(found["seconds"]),
            "modelled": bool(found["modelled"]),
        }
    except (TypeError, OverflowError, RecursionError) as error:
        raise ValueError("no entry") from error
    texts = [found[name] for name in COLUMNS if name not in (*_NUMBERS, "details")]
    good = (
        isinstance(details, dict)
        and math.isfinite(found["seconds"])
        and all(isinstance(text, str | None) for text in texts)
        and None not in (found["time"], found["kind"], found["outcome"])
    )
    if not good:
        raise ValueError("no entry")
    return Entry(**found, details=cast("dict[str, Any]", details))


def to_row(entry: Entry) -> list[Any]:
    """The values of a row, without the number."""
    found: dict[str, Any] = _clean({name: getattr(entry, name) for name in COLUMNS[1:]})
    found["details"] = json.dumps(found["details"], ensure_ascii=False)
    return list(found.values())


def inside(entry: Entry) -> list[int]:
    """Numbers of the entries that one includes, as that of a unit does its steps."""
    found = entry.details.get("includes")
    items = cast("list[Any]", found) if isinstance(found, list) else []
    # Only older ones: an entry cannot include what was not there yet, nor itself.
    return [item for item in items if isinstance(item, int) and 0 < item < entry.id]


def from_old_line(line: str) -> Entry | None:
    """A line of a ``history.jsonl``; None where it is no entry, such as half a line."""
    try:
        found: Any = json.loads(line, parse_constant=_no_constant)
        texts = {name: found[name] for name in _OLD_TEXTS}
        kind, digest, error = found["job"], found["sha256"], found["error"]
        count, seconds = int(found["bytes"]), float(found["seconds"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    good = (
        all(isinstance(text, str) for text in (*texts.values(), kind, digest))
        and isinstance(error, str | None)
        and texts["outcome"] in OUTCOMES
        and 0 <= count < 1 << 63
        and math.isfinite(seconds)
    )
    if not good:
        return None
    return Entry(
        **texts,
        kind=kind,
        error=error,
        bytes=count,
        seconds=seconds,
        modelled=texts["programmer"].startswith(("sim:", "qemu:")),
        # The hash was that of whole erase blocks, which need not be the image's.
        details={"imported": OLD_FILE, "content_sha256": digest},
    )


def text_for_sql(text: str) -> str:
    """Text as SQLite takes it: a lone surrogate, such as of a file name, is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return text_for_sql(value)
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        return {text_for_sql(str(key)): _clean(item) for key, item in pairs.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in cast("Iterable[Any]", value)]
    plain = value is None or isinstance(value, (bool, int))
    if plain or (isinstance(value, float) and math.isfinite(value)):
        return value
    return text_for_sql(str(value))


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
