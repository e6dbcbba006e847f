"""What a failed unit means for units that are not begun yet, when a gang runs a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hwflash.errors import HwflashError

#: No programmer could do better: the files, the numbers and this computer are the same for all.
_FOR_ALL: Final = (
    "serial.", "job.image-changed", "interrupted", "state.", "usage.", "gang.image", "backup.",
)  # fmt: skip
#: About the board that is connected, not about the numbers.
_BOARD: Final = "serial.unit-done"
#: Exit codes: programmer or environment; no chip, or an unstable bus.
_PROGRAMMER: Final = 3
_CHIP: Final = 4


@dataclass(frozen=True, slots=True)
class GangRules:
    """The rules of a run.

    Attributes:
        stop: the job's ``on_failure`` is ``stop``.
        asked: a person connects each board; without one, a programmer whose board is missing or
            was not changed would use up all units in no time.
    """

    stop: bool
    asked: bool

    def ends_batch(self, error: HwflashError) -> bool:
        """Whether no more units are begun, on any programmer."""
        if error.code == _BOARD:
            return False
        return self.stop or _cause(error).startswith(_FOR_ALL)

    def out_of_work(self, error: HwflashError) -> bool:
        """Whether the programmer gets no more units, while others go on."""
        if error.exit_code == _PROGRAMMER or _cause(error).startswith("programmer."):
            return True
        return not self.asked and (error.exit_code == _CHIP or error.code == _BOARD)


def _cause(error: HwflashError) -> str:
    """What stopped it, also where the chip had been touched by then."""
    return str(error.context.get("cause") or error.code)
