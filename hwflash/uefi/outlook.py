"""What boot-time firmware would do with a volume as it is.

Measured with OVMF 2022.11 and 2026.08, and AAVMF 2022.11, by starting them on images of power
cuts; the texts say what comes of it, not how.

- *OVMF, plain build*: the variable driver reads the store before fault-tolerant writes are
  finished, and goes on with what it read.
- *OVMF, SMM build*: an early driver tells the variable driver of a complete spare.
- *AAVMF*: finishes the write first; makes a new, empty store of a volume it does not accept.

Both kinds of OVMF erase the whole volume, spare included, when its header is not right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from hwflash.uefi.diagnosis import Diagnosis
from hwflash.uefi.find import Found
from hwflash.uefi.nvram import USUAL_BLOCK
from hwflash.uefi.salvage import value
from hwflash.uefi.window import Severity, filled_with

Firmware = Literal["OVMF, plain build", "OVMF, SMM build", "AAVMF"]

PLAIN: Final[Firmware] = "OVMF, plain build"
SMM: Final[Firmware] = "OVMF, SMM build"
ARM: Final[Firmware] = "AAVMF"

_STOPS: Final = "stops with an exception, at this boot and every later one"
_EMPTIES: Final = "does not accept the store and makes an empty one: the variables are lost"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one kind of firmware would do at the next boot.

    Attributes:
        firmware: which.
        text: what it does, in a sentence.
        severity: ``note`` when nothing is lost, ``warning`` when it changes the flash or may go
            wrong, ``error`` when variables are lost or it does not boot.
    """

    firmware: Firmware
    text: str
    severity: Severity


def outlooks(found: Found, diagnosis: Diagnosis) -> tuple[Outlook, ...]:
    """One outlook for each kind of firmware that has this layout.

    Args:
        found: the store.
        diagnosis: what is left of it.
    """
    if found.areas.layout == "AAVMF":
        kinds: tuple[Firmware, ...] = (ARM,)
    elif found.areas.layout.startswith("OVMF"):
        kinds = (PLAIN, SMM)
    else:
        kinds = (PLAIN, SMM, ARM)
    return tuple(Outlook(kind, *_outlook(kind, found, diagnosis)) for kind in kinds)


def _outlook(kind: Firmware, found: Found, diagnosis: Diagnosis) -> tuple[str, Severity]:
    headers = _headers(kind, found)
    if headers is not None:
        return headers
    if found.ftw.verdict == "replay":
        return _replayed(kind, found, diagnosis)
    here = diagnosis.copies[0]
    refused = _store_refused(kind, found)
    if refused is not None:
        return refused
    if found.store is None:
        if kind == ARM:
            return _EMPTIES, "error"
        return _STOPS, "error"
    if any(item.code == "record.duplicate" for item in found.store.anomalies):
        if kind == ARM:
            return (
                ("has the variable driver that hangs in OVMF, at every boot, when one variable has "
                "two live records"), "error",
            )  # fmt: skip
        return "hangs at every boot: one variable has two live records", "error"
    # What this firmware does not look at is not what it stumbles over.
    passed = bool(found.volume_faults) and not any(
        item.severity == "error" for item in found.store.anomalies
    )
    if here.fault and not passed:
        return f"works with a damaged store and loses variables: {here.fault}", "error"
    return _sound(found)


def _headers(kind: Firmware, found: Found) -> tuple[str, Severity] | None:
    """What comes of a volume header that is not right."""
    volume = found.volume
    bare = volume is None and found.store is not None and found.store.base == found.base
    if bare:
        return "has no use for a store without a volume header", "error"
    faults = _looked_at(kind, found)
    if volume is not None and not faults:
        return None
    if kind == ARM:
        return "makes a new, empty store of the volume: it boots, the variables are lost", "error"
    if faults == {"volume.guid"}:
        # The flash driver does not look at the GUID; the variable driver, behind it, does.
        return f"{_STOPS}; nothing is erased", "error"
    copy = " with the complete copy in the spare area" if found.ftw.spare_store else ""
    return (
        f"erases the whole volume{copy}, writes a volume header only, and {_STOPS}", "error",
    )  # fmt: skip


def _looked_at(kind: Firmware, found: Found) -> set[str]:
    """Codes of the faults of a volume header that a kind of firmware minds."""
    faults = {item.code for item in found.volume_faults}
    runs = found.volume.block_map if found.volume is not None else ()
    known = found.areas.known
    usual = (known.block if known is not None else None) or USUAL_BLOCK
    # AAVMF does not look at the block map, OVMF only at the block size of its first run.
    if kind == ARM or (runs and runs[0].length == usual):
        faults -= {"volume.block-map", "volume.block-size"}
    return faults


def _store_refused(kind: Firmware, found: Found) -> tuple[str, Severity] | None:
    """What comes of a store header that is there and not right."""
    if found.store is None:
        return None
    faults = {item.code for item in (*found.notes, *found.store.anomalies)}
    if kind == ARM and faults & {"store.size", "store.layout-size"}:
        return _EMPTIES, "error"
    if faults & {"store.format", "store.state"}:
        return f"{_STOPS}; nothing is erased", "error"
    if "store.size" in faults:
        how = "hangs, at this boot and every later one" if kind == PLAIN else _STOPS
        return f"{how}; nothing is erased", "error"
    return None


def _replayed(kind: Firmware, found: Found, diagnosis: Diagnosis) -> tuple[str, Severity]:
    """What comes of a pending write whose spare is complete; the volume header is right."""
    if diagnosis.recovery is None:
        return (
            f"copies the spare area over the variables, which loses some: {diagnosis.refused}",
            "error",
        )
    if kind != PLAIN:
        return "copies the spare area over the variables; nothing is lost", "note"
    store = found.store
    if store is None:
        return "stops with an exception once; the flash is repaired, and later boots are fine", (
            "warning"
        )
    after = {record.key: value(record) for record in diagnosis.variables}
    if {record.key: value(record) for record in store.live} == after:
        return "copies the spare area over the variables, which are the same already", "note"
    if not filled_with(store.tail, 0xFF):
        return (
            (
                "copies the spare area over the variables, then rewrites the store from the flash, "
                "since bytes behind the last record it had read are not erased; nothing is lost"
            ),
            "note",
        )
    return (
        ("copies the spare area over the variables, but works on with what it had read before: "
        "its next writes damage the store"), "error",
    )  # fmt: skip


def _sound(found: Found) -> tuple[str, Severity]:
    """What comes of a store that is right, whatever its work space is."""
    store, verdict = found.store, found.ftw.verdict
    if verdict == "initialise-work-space":
        spare = "; the copy of the store in the spare area is lost" if found.ftw.spare_store else ""
        return f"starts an empty work space{spare}; the variables are kept", "warning"
    done = {
        "abort": "drops the pending write; the old content is kept",
        "finish": "marks the last write complete; nothing is lost",
        "reclaim-work-space": "begins a new queue; the variables are kept",
        "restore-work-space": "copies the work space back from the spare; the variables are kept",
    }.get(verdict, "boots; nothing has to be done")
    if store is not None and not filled_with(store.tail, 0xFF):
        return (
            (f"{done}; it rewrites the store once, since bytes behind the last record are not "
            "erased"), "note",
        )  # fmt: skip
    return done, "note"
