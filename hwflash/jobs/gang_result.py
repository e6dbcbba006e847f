"""What became of the units of a gang, as data: a row for each, and one exit code for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from hwflash.errors import HwflashError, Interrupted
from hwflash.jobs.gang_devices import Device
from hwflash.jobs.history_entry import PASSED

#: Exit codes of units, the worst first: what somebody must look at before anything else.
WORST_FIRST: Final = (6, 70, 5, 4, 3, 7, 8, 2, 130, 1, 0)

State = Literal["unchanged", "done", "unknown"]


@dataclass(slots=True)
class Row:
    """A unit, or a programmer that never got as far as a unit.

    Attributes:
        device: the programmer.
        unit: its number in a run of a job file, or None.
        chip: URL of the programmer, part, jedec_id, unique_id; empty when none was found.
        begun: the chip may have been changed.
        outcome: one of `hwflash.jobs.history_entry.OUTCOMES`, or ``interrupted``.
        facts: the result's keys.
        error: why it failed, or None.
    """

    device: Device
    unit: int | None = None
    chip: Mapping[str, Any] = field(default_factory=dict[str, Any])
    begun: bool = False
    outcome: str = "failed"
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: HwflashError | None = None

    @property
    def passed(self) -> bool:
        """Whether the chip holds what was asked for."""
        return self.error is None and self.outcome in PASSED

    @property
    def exit_code(self) -> int:
        """What it would be for this unit alone."""
        if self.error is not None:
            return self.error.exit_code
        return 0 if self.passed else 1

    @property
    def state(self) -> State:
        """What is known of the chip: as before, as it should be, or neither."""
        if self.outcome == "unknown" or self.exit_code == 6:
            return "unknown"
        if self.outcome == "rejected" or (self.outcome == "ok" and self.facts.get("changed")):
            return "done"
        return "unchanged"

    @property
    def backup(self) -> str | None:
        """The way back to what the chip held before."""
        steps: list[dict[str, Any]] = self.facts.get("steps", [])
        found = [self.facts.get("backup"), *(step["backup"] for step in steps)]
        found.append(self.error.context.get("backup") if self.error is not None else None)
        return next((str(item) for item in found if item), None)

    @property
    def history(self) -> list[int]:
        """Its entries in the history."""
        found: list[Any] = [self.facts.get("history")]
        found.append(self.error.context.get("history") if self.error is not None else None)
        return [item for item in dict.fromkeys(found) if isinstance(item, int)]


def worst(codes: Iterable[int]) -> int:
    """The exit code of a gang: the first of `WORST_FIRST` that a unit has."""
    found = set(codes)
    return next((code for code in WORST_FIRST if code in found), max(found, default=0))


class GangFailed(HwflashError):
    """Some units of a gang failed; its exit code is that of the worst."""

    code = "gang.failed"


def failure(
    rows: Sequence[Row], wanted: int, what: str, *, stopped: bool = False
) -> HwflashError | None:
    """The error of the whole gang, or None where all exit codes are 0 or 1.

    Args:
        rows: what became of the units.
        wanted: how many units there should be.
        what: they are called: ``unit`` or ``programmer``.
        stopped: a person or a signal ended it before all were begun.
    """
    stopped = stopped and len(rows) < wanted
    code = worst([*(row.exit_code for row in rows), *([Interrupted.exit_code] if stopped else [])])
    if code in (0, 1):
        return None
    bad = [row for row in rows if not row.passed]
    states = {name: sum(row.state == name for row in rows) for name in ("done", "unchanged")}
    unknown = sum(row.state == "unknown" for row in rows)
    text = [f"{count} {name}" for name, count in states.items() if count]
    text += [f"{unknown} in an unknown state"] if unknown else []
    kind = GangFailed if bad else Interrupted
    error = kind(
        f"{len(bad)} of {wanted} {what}s failed"
        + (f", stopped after {len(rows)}" if stopped else ""),
        code=kind.code if bad else "interrupted.declined",
        failed=len(bad),
        wanted=wanted,
        codes=sorted({row.error.code for row in bad if row.error is not None}),
        chip_state=", ".join(text) or "none was reached",
    )
    error.exit_code = code
    return error
