"""What a gang's parent and its workers tell one another, over a socket pair, pickled.

Both ends are this program; nothing of it is meant for others, and nothing of it comes from
outside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwflash.errors import HwflashError
from hwflash.progress import Progress

# --- to a worker ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Go:
    """Carry the plan out."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Change nothing, and end with this code."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class NextUnit:
    """Run this unit of the job."""

    unit: int


@dataclass(frozen=True, slots=True)
class Leave:
    """There is nothing more to do."""


# --- from a worker ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hello:
    """The worker heeds signals from now on."""


@dataclass(frozen=True, slots=True)
class Free:
    """The programmer has nothing to do; the next unit may be connected."""


@dataclass(frozen=True, slots=True)
class Identified:
    """The programmer is open: its URL, part, jedec_id, unique_id."""

    chip: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Planned:
    """Everything is known, checked and backed up; the plan waits for `Go`."""

    plan: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Claimed:
    """These files are to be made; they wait for `Go`, or for `Hold` where another has them."""

    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changing:
    """From now on the chip may change."""


@dataclass(frozen=True, slots=True)
class Said:
    """A remark or a warning, with its facts."""

    warning: bool
    message: str
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error, taken apart."""

    exit_code: int
    code: str
    message: str
    context: Mapping[str, Any]

    @classmethod
    def of(cls, error: HwflashError) -> Failure:
        """Take an error apart; what cannot be JSON becomes text."""
        return cls(error.exit_code, error.code, error.message, plain(error.context))

    def error(self) -> HwflashError:
        """The error again, of the base class."""
        facts = {key: value for key, value in self.context.items() if key != "code"}
        found = HwflashError(self.message, code=self.code, **facts)
        found.exit_code = self.exit_code
        return found


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a unit.

    Attributes:
        facts: JSON values; the keys of the command's own result.
        outcome: one of `hwflash.jobs.history_entry.OUTCOMES`, or ``interrupted``.
        failure: why it failed, or None.
    """

    facts: Mapping[str, Any]
    outcome: str
    failure: Failure | None = None


Order = Go | Hold | NextUnit | Leave
Report = Hello | Free | Identified | Planned | Claimed | Changing | Said | Ended | Progress


def plain(value: Mapping[str, Any] | Mapping[str, object]) -> dict[str, Any]:
    """The same as JSON can hold it."""
    found: dict[str, Any] = json.loads(json.dumps(dict(value), default=_text, skipkeys=True))
    return found


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
