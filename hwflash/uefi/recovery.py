"""What the firmware's fault-tolerant write driver would do at the next boot, and from what.

Ref: edk2 FtwMisc.c, InitFtwProtocol; the order of questions is its order, except that the
queue is read before the volume header is judged. Nothing is written here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from hwflash.uefi.ftw import WorkSpace, WriteEntry
from hwflash.uefi.store import VariableStore
from hwflash.uefi.volume import FirmwareVolume
from hwflash.uefi.window import Anomaly
from hwflash.units import Range

Verdict = Literal[
    "idle",
    "abort",
    "replay",
    "finish",
    "reclaim-work-space",
    "restore-work-space",
    "initialise-work-space",
    "unknown",
]
SpareHolds = Literal["erased", "store", "work-space", "other", "nothing"]

#: What each verdict means, in words.
VERDICTS: Final[dict[Verdict, str]] = {
    "idle": "nothing is pending",
    "abort": "a write was begun and its spare copy not finished: the firmware drops it, "
    "the old content counts",
    "replay": "a write is pending and its spare copy is complete: the firmware copies it over "
    "the target",
    "finish": "a write is done except for its last mark: the firmware sets it",
    "reclaim-work-space": "the queue cannot be followed to its end, or is followed by bytes that "
    "are not erased: the firmware starts a new one",
    "restore-work-space": "the work space is damaged and the spare has a copy of it: the firmware "
    "copies it back",
    "initialise-work-space": "the work space is damaged and no copy of it is left: the firmware "
    "starts an empty one, and a copy of the store in the spare is lost",
    "unknown": "no work space was found",
}


@dataclass(frozen=True, slots=True)
class FtwState:
    """The work space, the spare area, and what follows from them.

    Attributes:
        work: where the work space is, or is known to belong; None when nobody knows.
        work_space: its content; None when there is no header to be read.
        spare: where the spare area is.
        spare_holds: what the spare area holds.
        spare_volume: the volume header at its start, if there is one.
        spare_store: the variable store behind that.
        spare_work_space: the copy of the work space in it, if there is one.
        verdict: what the firmware's driver would do.
        anomalies: what is odd in the work space, and about its place.
    """

    work: Range | None = None
    work_space: WorkSpace | None = None
    spare: Range | None = None
    spare_holds: SpareHolds = "nothing"
    spare_volume: FirmwareVolume | None = None
    spare_store: VariableStore | None = None
    spare_work_space: WorkSpace | None = None
    verdict: Verdict = "unknown"
    anomalies: tuple[Anomaly, ...] = ()

    @property
    def pending(self) -> WriteEntry | None:
        """The entry that waits to be finished or dropped, or None."""
        if self.work_space is None or not self.work_space.valid:
            return None
        return self.work_space.pending

    @property
    def text(self) -> str:
        """The verdict in words."""
        return VERDICTS[self.verdict]


def judge(work: WorkSpace | None, copy: WorkSpace | None, known: bool) -> Verdict:
    """What the firmware's driver would do with a work space.

    Args:
        work: the work space, or None when there is no header in its place.
        copy: the copy in the spare area, or None.
        known: the place of the work space is known.
    """
    if work is None or not work.valid:
        if copy is not None and copy.valid:
            return "restore-work-space"
        return "initialise-work-space" if known else "unknown"
    if not work.walkable:
        return "reclaim-work-space"
    entry = work.pending
    dirty = any(item.code == "ftw.tail" for item in work.anomalies)
    if entry is None or not entry.header_allocated:
        return "reclaim-work-space" if dirty or entry is not None else "idle"
    records = entry.records
    if not records or not records[0].spare_complete:
        return "abort"
    if records[-1].destination_complete:
        return "finish"
    return "reclaim-work-space" if dirty else "replay"
