"""A change of a chip's protection as a file: what a write lifts, or what ``protect`` sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hwflash.chip.protection_choice import Locks
from hwflash.chip.sectors import SectorMode, SectorState
from hwflash.errors import ImageError
from hwflash.units import Range

#: File of a job with the protection that is to be put back.
PROTECTION: Final = "protection.json"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Lift:
    """A protection that is lifted for a while, or changed.

    Attributes:
        before: what is to be put back.
        during: what is in force while the write goes on, or what is wanted.
        allow: the register bits that are changed, as a mask for each register.
        volatile: registers are written until the supply goes away only.
    """

    before: Locks
    during: Locks
    allow: Mapping[int, int]
    volatile: bool

    def dump(self) -> bytes:
        """As a file of the job's folder."""
        found = {
            "v": _VERSION,
            "before": _dump(self.before),
            "during": _dump(self.during),
            "allow": {str(number): mask for number, mask in self.allow.items()},
            "volatile": self.volatile,
        }
        return (json.dumps(found) + "\n").encode()


def load_lift(folder: Path) -> Lift | None:
    """What a job lifts; None when it lifts nothing.

    Raises:
        ImageError: the file is damaged (``journal.damaged``).
    """
    path = folder / PROTECTION
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        if found["v"] != _VERSION:
            raise ValueError(f"version {found['v']!r}")
        return Lift(
            _load(found["before"]),
            _load(found["during"]),
            {int(number): int(mask) for number, mask in found["allow"].items()},
            bool(found["volatile"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ImageError(
            f"job {folder.name}: what it says of the chip's protection is damaged: {exc}",
            code="journal.damaged",
            path=str(path),
        ) from exc


def _dump(locks: Locks) -> dict[str, Any]:
    return {
        "registers": {str(number): value for number, value in locks.registers.items()},
        "bpr": locks.bpr.hex() if locks.bpr is not None else None,
        "individual": None if locks.individual is None else _pairs(locks.individual),
        "sectors": None
        if locks.sectors is None
        else {
            "dynamic": _pairs(locks.sectors.dynamic),
            "persistent": _pairs(locks.sectors.persistent),
            "exclusive": locks.sectors.exclusive,
            "frozen": locks.sectors.frozen,
            "mode": locks.sectors.mode.value,
        },
    }


def _pairs(places: tuple[Range, ...]) -> list[list[int]]:
    return [[item.address, item.length] for item in places]


def _load(found: Any) -> Locks:
    return Locks(
        {int(number): int(value) & 0xFF for number, value in found["registers"].items()},
        None if found["bpr"] is None else bytes.fromhex(found["bpr"]),
        None if found["individual"] is None else _ranges(found["individual"]),
        _sectors(found.get("sectors")),
    )


def _ranges(pairs: Any) -> tuple[Range, ...]:
    return tuple(Range(int(address), int(length)) for address, length in pairs)


def _sectors(found: Any) -> SectorState | None:
    if found is None:
        return None
    return SectorState(
        dynamic=_ranges(found["dynamic"]),
        persistent=_ranges(found["persistent"]),
        exclusive=bool(found["exclusive"]),
        frozen=bool(found["frozen"]),
        mode=SectorMode(found["mode"]),
    )
