"""Fault-tolerant writes of a store in words, and the keys that scripts get of them."""

from __future__ import annotations

from typing import Any

from hwflash.jobs.uefi_others import anomaly_keys
from hwflash.jobs.uefi_settle import foreign_areas
from hwflash.uefi.check import Report, check
from hwflash.uefi.find import Found
from hwflash.uefi.ftw import WorkSpace, WriteEntry

#: What the spare area can hold, in words.
SPARE_TEXTS = {
    "erased": "erased",
    "store": "a copy of the variable store",
    "work-space": "a copy of the work space",
    "other": "something that is no store",
    "nothing": "not in the image",
}


def ftw_keys(found: Found) -> dict[str, Any]:
    """Work space, queue, spare area and verdict as scripts get them."""
    ftw = found.ftw
    spare = None
    if ftw.spare is not None:
        store = ftw.spare_store
        text = SPARE_TEXTS[ftw.spare_holds]
        if store is not None:
            text += f" with {len(store.live)} variables"
        spare = {
            "base": ftw.spare.address,
            "size": ftw.spare.length,
            "holds": ftw.spare_holds,
            "holds_store": store is not None,
            "text": text,
        }
    return {
        "volume": {"base": found.base, "size": found.length},
        "layout": found.areas.layout,
        "work_space": _work_space_keys(found, ftw.work_space),
        "spare": spare,
        "pending": ftw.pending is not None,
        "verdict": ftw.verdict,
        "text": ftw.text,
        "outlook": _outlook_keys(check(found)),
        "anomalies": [anomaly_keys(item) for item in found.anomalies],
    }


def check_keys(found: Found) -> dict[str, Any]:
    """What is wrong with a store, what firmware would do, and what repairs it."""
    report = check(found)
    foreign = foreign_areas(found)
    commands = {
        "none": None,
        "recover": "ftw recover",
        "rescue": "ftw rescue",
        "reclaim": "vars reclaim",
    }
    return {
        "base": found.base,
        "ok": report.ok and not foreign,
        "repair": report.repair,
        # No repair before the board file is right.
        "command": None if foreign else commands[report.repair],
        "problems": [anomaly_keys(item) for item in (*foreign, *report.problems)],
        "outlook": _outlook_keys(report),
    }


def _outlook_keys(report: Report) -> list[dict[str, Any]]:
    """What each kind of firmware would do at the next boot."""
    return [
        {"firmware": item.firmware, "text": item.text, "severity": item.severity}
        for item in report.outlook
    ]


def _work_space_keys(found: Found, space: WorkSpace | None) -> dict[str, Any] | None:
    place = found.areas.work
    if space is None:
        if place is None:
            return None
        return {
            "base": place.address, "size": place.length, "valid": False, "state": "missing",
            "free": 0, "writes": [],
        }  # fmt: skip
    return {
        "base": space.base,
        "size": space.size if space.crc_ok or place is None else place.length,
        "valid": space.valid,
        "state": space.state,
        "free": space.free if space.valid else 0,
        "writes": [_entry_keys(entry) for entry in space.entries],
    }


def _entry_keys(entry: WriteEntry) -> dict[str, Any]:
    records = [
        {
            "spare_complete": record.spare_complete,
            "destination_complete": record.destination_complete,
            "lba": record.lba,
            "offset": record.start,
            "length": record.length,
            "relative_offset": record.relative_offset,
        }
        for record in entry.records
    ]
    return {
        "offset": entry.offset,
        "caller": str(entry.caller),
        "allocated": entry.header_allocated and entry.writes_allocated,
        "complete": entry.complete,
        "records": records,
        "text": _entry_text(entry),
    }


def _entry_text(entry: WriteEntry) -> str:
    """An entry in words."""
    if not entry.header_allocated:
        return "its header is being written"
    if not entry.records:
        return "dropped" if entry.complete else "allocated, nothing written yet"
    places = ", ".join(
        f"{record.length:,} bytes at block {record.lba} + 0x{record.start:X}"
        for record in entry.records
    )
    if entry.complete:
        done = all(record.destination_complete for record in entry.records)
        return f"{places}: {'complete' if done else 'dropped'}"
    if all(record.destination_complete for record in entry.records):
        return f"{places}: destination complete, not yet marked complete"
    if entry.records[0].spare_complete:
        return f"{places}: spare complete, to be copied over its target"
    return f"{places}: allocated, spare not complete"
