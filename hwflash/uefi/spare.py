"""Reading the FTW work space and the spare area of a volume, and what they hold."""

from __future__ import annotations

from typing import Final

from hwflash.uefi.areas import Areas, work_space_at, work_space_hits
from hwflash.uefi.ftw import WorkSpace
from hwflash.uefi.guids import from_bytes
from hwflash.uefi.layouts import VOLUME_HEADER
from hwflash.uefi.records import FORMATS
from hwflash.uefi.recovery import FtwState, SpareHolds, judge
from hwflash.uefi.store import VariableStore, parse_store
from hwflash.uefi.volume import FirmwareVolume, parse_volume
from hwflash.uefi.window import Anomaly, Window, filled_with
from hwflash.units import Range

#: The driver looks for its work space in the spare in steps of this (edk2 FtwPei).
COPY_STEP: Final = 16


def read_ftw(window: Window, areas: Areas) -> FtwState:
    """The state of fault-tolerant writes in a volume whose areas are known."""
    work = None
    if areas.work is not None:
        work = work_space_at(window, areas.work.address, areas.work.end)
    anomalies = list(work.anomalies) if work is not None else _missing(window, areas)
    if work is not None and areas.work is not None and work.crc_ok:
        anomalies += _size_anomaly(work, areas.work)
    spare = areas.spare
    if spare is not None and not window.has(spare.address, spare.length):
        text = f"the spare area {spare} is not wholly in the image"
        anomalies.append(Anomaly("ftw.spare", spare.address, text, "warning"))
    holds, volume, store, copy = _read_spare(window, spare)
    return FtwState(
        work=areas.work,
        work_space=work,
        spare=spare,
        spare_holds=holds,
        spare_volume=volume,
        spare_store=store,
        spare_work_space=copy,
        verdict=judge(work, copy, areas.work is not None),
        anomalies=tuple(anomalies),
    )


def _missing(window: Window, areas: Areas) -> list[Anomaly]:
    """Why there is no work space where one belongs."""
    if areas.work is None:
        return []
    content = window.at(areas.work.address, areas.work.length)
    if not content:
        what = "lies beyond the image"
    elif filled_with(content, 0xFF):
        what = "is erased"
    elif filled_with(content, 0):
        what = "is all 00"
    else:
        what = "has no header"
    text = f"the FTW work space at {areas.work} {what}"
    return [Anomaly("ftw.missing", areas.work.address, text, "warning")]


def _size_anomaly(work: WorkSpace, place: Range) -> list[Anomaly]:
    if work.size == place.length:
        return []
    text = f"the work space says 0x{work.size:X} bytes, its place has 0x{place.length:X}"
    return [Anomaly("ftw.layout-size", work.base + 24, text, "error")]


def _read_spare(
    window: Window, spare: Range | None
) -> tuple[SpareHolds, FirmwareVolume | None, VariableStore | None, WorkSpace | None]:
    if spare is None:
        return "nothing", None, None, None
    area = window.within(spare.address, spare.length)
    if not area.data:
        return "nothing", None, None, None
    if filled_with(area.data, 0xFF):
        return "erased", None, None, None
    copy = next(
        (
            found
            for at in work_space_hits(area, area.base, area.end)
            if (at - area.base) % COPY_STEP == 0
            and (found := work_space_at(area, at, area.end)) is not None
            and found.crc_ok
        ),
        None,
    )
    volume = None
    if area.has(area.base, VOLUME_HEADER.size):
        volume = parse_volume(area, area.base)
    if volume is None or not volume.is_nv:
        at_start = copy is not None and copy.base == area.base
        return ("work-space" if at_start else "other"), None, None, copy
    offset = area.base + volume.header_length
    store = None
    if area.has(offset, 28) and from_bytes(area.at(offset, 16)) in FORMATS:
        store = parse_store(area, offset)
    return ("store" if store is not None else "other"), volume, store, copy
