"""What `hwflash.jobs.serials` hands out, to whom, and on which terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: ``taken`` before anything, ``writing`` before the unit's first byte changes; ended as ``done``,
#: ``unchanged`` (nothing was written), ``failed``, ``burned`` (the numbers are of no use) or
#: ``passed-on`` (another unit has the numbers now).
State = Literal["taken", "writing", "done", "unchanged", "failed", "burned", "passed-on"]
Policy = Literal["reuse", "burn"]
Again = Literal["refuse", "same"]
Origin = Literal["new", "reused", "same"]


@dataclass(frozen=True, slots=True)
class Number:
    """One number.

    Attributes:
        role: what the unit uses it for: ``serial``, ``mac``, ``csv``.
        series: where no two may be the same.
        value: as text.
        position: as a number, where a counter goes on behind it.
    """

    role: str
    series: str
    value: str
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The numbers of one unit, which are its own from now on.

    Attributes:
        unit: its number in the store.
        numbers: what it got.
        origin: ``new``, ``reused`` after a failure, or ``same`` for a unit that was done before.
        touched: a chip may hold them already; only that chip may ever get them again.
    """

    unit: int
    numbers: tuple[Number, ...]
    origin: Origin = "new"
    touched: bool = False

    def of(self, role: str) -> list[Number]:
        """The numbers of a role, in the order of their positions."""
        found = [item for item in self.numbers if item.role == role]
        return sorted(found, key=lambda item: item.position or 0)


@dataclass(frozen=True, slots=True)
class Unit:
    """What the store knows of a unit.

    Attributes:
        unit: its number in the store.
        job: name of the job.
        chip: identity of its chip, or None.
        state: see `State`.
        numbers: its numbers; none when they were passed on.
        note: why it failed.
    """

    unit: int
    job: str
    chip: str | None
    state: State
    numbers: tuple[Number, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Wish:
    """Who asks for numbers, and on which terms.

    Attributes:
        job: name of the job.
        chip: identity of the chip (JEDEC id and unique id), or None when it has none.
        roles: (role, series) of what is needed; numbers are reused as a set or not at all.
        policy: what becomes of the numbers of a failed unit.
        again: what to do with a chip that was done before.
    """

    job: str
    chip: str | None
    roles: frozenset[tuple[str, str]]
    policy: Policy
    again: Again
