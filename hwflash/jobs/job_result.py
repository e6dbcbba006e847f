"""What became of a unit of a job, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hwflash.errors import HwflashError
from hwflash.jobs.placeholders import UnitValues, mac_text
from hwflash.units import Range


@dataclass(frozen=True, slots=True)
class Wrote:
    """One step that writes to the chip.

    Attributes:
        step: ``image`` (with regions and bytes) or ``variables``.
        executed: False when the chip held it already.
        bytes: that it covers.
        changed: what was touched.
        backup: of what was there, or None when none was needed.
        seconds: since the chip was identified, when it ended.
        sha256: of what it put there, in hex.
        entry: its number in the history; None when it is not there.
    """

    step: Literal["image", "variables"]
    executed: bool
    bytes: int
    changed: tuple[Range, ...]
    backup: Path | None
    seconds: float
    sha256: str
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class VariableResult:
    """What became of a variable: ``created``, ``updated``, ``deleted`` or ``unchanged``."""

    name: str
    guid: str
    change: str


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What became of a unit.

    Attributes:
        unit: its number in the run, from 1.
        error: why it failed; None when it is done.
        origin: of its numbers: ``new``, ``reused``, ``same``; None when it got none.
        values: its numbers.
        chip: part, JEDEC id, unique id, board and programmer; None when none was found.
        changed: something was written to it.
        wrote: the steps that were carried out.
        variables: what became of each.
        after: what the after-steps said.
        seconds: time on the programmer, modelled on a simulated one.
        history: number of its entry in the history; None when it is not there.
    """

    unit: int
    error: HwflashError | None
    origin: str | None
    values: UnitValues
    chip: dict[str, Any] | None
    changed: bool
    wrote: tuple[Wrote, ...]
    variables: tuple[VariableResult, ...]
    after: tuple[dict[str, Any], ...]
    seconds: float
    history: int | None = None

    @property
    def entries(self) -> tuple[int, ...]:
        """Numbers of its steps in the history, a failed one included."""
        found = [item.entry for item in self.wrote]
        found.append(_number(self.error.context.get("history")) if self.error else None)
        return tuple(item for item in found if item is not None)

    @property
    def ok(self) -> bool:
        """Whether it is done."""
        return self.error is None

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        error = self.error
        return {
            "unit": self.unit,
            "ok": self.ok,
            "serial": self.values.serial,
            "macs": [mac_text(address) for address in self.values.macs],
            "row": dict(self.values.row),
            "origin": self.origin,
            "chip": self.chip,
            "changed": self.changed,
            "steps": [
                {
                    "step": item.step,
                    "executed": item.executed,
                    "bytes": item.bytes,
                    "changed": [
                        {"address": place.address, "length": place.length} for place in item.changed
                    ],
                    "backup": str(item.backup) if item.backup is not None else None,
                    "sha256": item.sha256,
                    "seconds": round(item.seconds, 6),
                }
                for item in self.wrote
            ],
            "variables": [
                {"name": item.name, "guid": item.guid, "change": item.change}
                for item in self.variables
            ],
            "after": list(self.after),
            "seconds": round(self.seconds, 6),
            "history": self.history,
            "error": {"code": error.code, "message": error.message} if error is not None else None,
        }

    def __str__(self) -> str:
        """One line for people."""
        macs = [mac_text(address) for address in self.values.macs]
        names = [*([self.values.serial] if self.values.serial else []), *macs[:1]]
        who = f" {' '.join(names)}" if names else ""
        if self.error is not None:
            return f"unit {self.unit}{who}: failed: {self.error.message} [{self.error.code}]"
        touched = sum(place.length for item in self.wrote for place in item.changed)
        what = f"{touched:,} bytes touched" if touched else "nothing had to be changed"
        how = f" ({self.origin} numbers)" if self.origin in ("reused", "same") else ""
        return f"unit {self.unit}{who}{how}: done, {what}, {self.seconds:.2f} s"


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
