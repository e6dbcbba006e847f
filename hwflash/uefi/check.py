"""Is a variable store sound, and what would firmware make of it at the next boot?

What is said of a kind of firmware was measured with OVMF 2022.11 and 2026.08 (2 MiB and 4 MiB
builds, with and without SMM) and AAVMF 2022.11, or is read in their source where the text says
so. The rules that some firmware applies before it uses a store are notes of their own.

Ref: edk2 OvmfPkg/VirtNorFlashDxe/VirtNorFlashFvb.c (ValidateFvHeader),
OvmfPkg/QemuFlashFvbServicesRuntimeDxe, MdeModulePkg/Universal/Variable/RuntimeDxe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hwflash.uefi.diagnosis import Diagnosis, diagnose
from hwflash.uefi.find import Found
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.outlook import Outlook, outlooks
from hwflash.uefi.records import Record, State
from hwflash.uefi.window import Anomaly, filled_with

__all__ = ["Outlook", "Repair", "Report", "check"]

Repair = Literal["none", "recover", "reclaim", "rescue"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        problems: every inconsistency, in order of image offsets.
        outlook: what each kind of firmware would do at the next boot.
        repair: what has to be done before anything is written: ``recover`` a pending write or
            a work space, ``reclaim`` a store that nothing can be added to, ``rescue`` what
            neither of them mends.
        ok: nothing has to be done, and nothing is wrong that firmware stumbles over.
        lint: rules of firmware that looks closer than others; notes.
        diagnosis: the copies that are left, and what a rescue would do.
    """

    problems: tuple[Anomaly, ...]
    outlook: tuple[Outlook, ...]
    repair: Repair
    ok: bool
    lint: tuple[Anomaly, ...]
    diagnosis: Diagnosis


def check(found: Found, erase_size: int = 0x1000, origin: int = 0) -> Report:
    """Look a store over.

    Args:
        found: a store, as `hwflash.uefi.find` returns it.
        erase_size: bytes of the smallest erase block of the flash that holds it.
        origin: image offset from which erase blocks are counted.
    """
    window = found.window.within(found.base, found.length)
    diagnosis = diagnose(Nvram(window, found, erase_size, origin))
    repair = _repair(found, diagnosis)
    problems = list(found.anomalies)
    here = diagnosis.copies[0]
    if here.fault and not any(item.severity == "error" for item in problems):
        problems.append(Anomaly("store.unsound", here.base, here.fault, "error"))
    if repair == "recover":
        at = _work_offset(found)
        text = f"fault-tolerant write: {found.ftw.text}"
        problems.append(Anomaly(f"ftw.{found.ftw.verdict}", at, text, "warning"))
    problems.sort(key=lambda item: item.offset)
    ok = repair == "none" and not any(item.severity == "error" for item in problems)
    return Report(
        tuple(problems), outlooks(found, diagnosis), repair, ok, tuple(lint(found)), diagnosis
    )


def _repair(found: Found, diagnosis: Diagnosis) -> Repair:
    if diagnosis.choice == "recover":
        return "recover"
    if diagnosis.choice != "nothing":
        return "rescue"
    store = found.store
    dirty = store is not None and not filled_with(store.tail, 0xFF)
    return "reclaim" if dirty else "none"


def _work_offset(found: Found) -> int:
    if found.ftw.pending is not None:
        return found.ftw.pending.offset
    return found.ftw.work.address if found.ftw.work is not None else found.base


def lint(found: Found) -> Iterator[Anomaly]:
    """Rules that only some firmware applies, as notes.

    Two sets: ``lint.aavmf`` of AAVMF's flash driver (edk2 from 2024 on looks at the records),
    and ``lint.ovmf-memory`` of OVMF where the store is memory and not flash (-bios, SEV, TDX:
    PlatformValidateNvVarStore).
    """
    store, volume = found.store, found.volume
    if volume is not None and volume.attributes != 0x4FEFF:
        text = f"the volume's attributes are 0x{volume.attributes:X}, not 0x4FEFF"
        yield Anomaly("lint.ovmf-memory", volume.base + 44, text, "note")
    if store is None:
        return
    if store.kind != "authenticated":
        text = "the store is not one of authenticated variables"
        yield Anomaly("lint.aavmf", store.base, text, "note")
        yield Anomaly("lint.ovmf-memory", store.base, text, "note")
    listed = True
    for record in store.records:
        if record.state == State.ERASED:
            text = "a record in state FF is refused; AAVMF takes it as the end of the list"
            yield Anomaly("lint.ovmf-memory", record.offset + 2, text, "note")
            listed = False
        for rule in _record_rules(record):
            if listed:
                yield Anomaly("lint.aavmf", record.offset, rule, "note")
            yield Anomaly("lint.ovmf-memory", record.offset, rule, "note")
        if not filled_with(record.padding, 0xFF):
            text = "the padding behind the record is not FF"
            yield Anomaly("lint.ovmf-memory", record.offset + record.size, text, "note")
    if not filled_with(store.tail, 0xFF):
        text = "bytes behind the last record are not FF"
        yield Anomaly("lint.ovmf-memory", store.free_offset, text, "note")


def _record_rules(record: Record) -> Iterator[str]:
    """What both sets of rules want of a record; AAVMF forms an empty store otherwise."""
    if record.state == State.ERASED:
        return
    if record.state not in frozenset(State):
        yield f"state {record.state:02X} is none of 7F, 3F, 3E, 3D and 3C"
    if record.name_size % 2 or record.name_size < 4:
        yield f"a name of {record.name_size} bytes is odd or too short"
    elif record.state != State.HEADER_VALID_ONLY and record.name_bytes[-2:] != b"\0\0":
        yield "the name does not end with NUL"
    if record.cut_short:
        yield "name and data reach beyond the store"
