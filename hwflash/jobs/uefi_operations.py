"""The flash operations of a change of a variable store, for scripts and for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hwflash.uefi.flashops import Erase, Operation, Program, Verify
from hwflash.units import Range

#: Operations that are listed for people.
OPERATIONS: Final = 24


def operation_keys(item: Operation) -> dict[str, Any]:
    """A flash operation as scripts get it."""
    kind = {Program: "program", Erase: "erase", Verify: "verify"}[type(item)]
    why = "" if isinstance(item, Verify) else item.why
    return {"kind": kind, "address": item.range.address, "length": item.range.length, "why": why}


def operation_lines(operations: Sequence[Operation]) -> list[str]:
    """Flash operations, one a line, erases that follow one another joined."""
    rows: list[tuple[str, Range, str, int]] = []
    for keys in map(operation_keys, operations):
        kind, why, place = keys["kind"], keys["why"], Range(keys["address"], keys["length"])
        last = rows[-1] if rows else None
        if last is not None and last[0] == kind == "erase" and last[1].end == place.address:
            joined = Range(last[1].address, last[1].length + place.length)
            rows[-1] = (kind, joined, why, last[3] + 1)
        else:
            rows.append((kind, place, why, 1))
    lines: list[str] = []
    for kind, place, why, count in rows[:OPERATIONS]:
        many = f" in {count} blocks" if count > 1 else ""
        lines.append(f"  {kind:<8} {place}{many}" + (f": {why}" if why else ""))
    if len(rows) > OPERATIONS:
        lines.append(f"  and {len(rows) - OPERATIONS} more; --json lists all")
    return lines
