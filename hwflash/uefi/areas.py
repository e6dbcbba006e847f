"""Where variables, work space and spare area lie in a volume.

The firmware has these as build constants (PcdFlashNvStorage...), not in the flash. They are
taken from the layouts that are known, from the work-space header, from addresses in the FTW
queue, and by the rule that the spare follows the work space up to the volume's end; what was
only inferred is said.

Ref: edk2 OvmfPkg/Include/Fdf/OvmfPkgDefines.fdf.inc and VarStore.fdf.inc; ArmVirtPkg
(ArmVirtQemu: three equal parts). Lengths and places were checked against the images of Debian's
ovmf and qemu-efi-aarch64 packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hwflash.uefi.ftw import SIGNATURES, WorkSpace, parse_work_space
from hwflash.uefi.guids import NV_VOLUME
from hwflash.uefi.layouts import WORK_SPACE_HEADER
from hwflash.uefi.volume import SIGNATURE, FirmwareVolume
from hwflash.uefi.window import Anomaly, Severity, Window, find_guid
from hwflash.units import Range

#: Work-space signatures looked at in one volume; a volume full of them must not take seconds.
CANDIDATE_LIMIT: Final = 256


@dataclass(frozen=True, slots=True)
class KnownLayout:
    """Places in a volume of a known build, counted from its start.

    ``block`` is the size of blocks that its flash driver wants to read in the block map; AAVMF's
    does not look there.
    """

    name: str
    length: int
    variables: int
    work: Range
    spare: Range
    event_log: Range | None = None
    block: int | None = None

    @property
    def store_size(self) -> int:
        """What the variable store's header says in this build."""
        return self.variables - 0x48


KNOWN: Final = (
    KnownLayout(
        "OVMF 1M/2M", 0x20000, 0xE000,
        Range(0xF000, 0x1000), Range(0x10000, 0x10000), Range(0xE000, 0x1000), 0x1000,
    ),
    KnownLayout(
        "OVMF 4M", 0x84000, 0x40000,
        Range(0x41000, 0x1000), Range(0x42000, 0x42000), Range(0x40000, 0x1000), 0x1000,
    ),
    KnownLayout("AAVMF", 0xC0000, 0x40000, Range(0x40000, 0x40000), Range(0x80000, 0x40000)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Areas:
    """Places of a volume's parts, as image offsets.

    Attributes:
        layout: ``OVMF 4M`` and the like, ``derived``, or ``board file``.
        variables: from the volume header to the end of the variable store.
        work: the FTW work space.
        spare: the FTW spare area.
        event_log: between the two in OVMF.
        anomalies: what was only inferred, or does not fit.
    """

    layout: str
    variables: Range
    work: Range | None = None
    spare: Range | None = None
    event_log: Range | None = None
    anomalies: tuple[Anomaly, ...] = ()

    @property
    def known(self) -> KnownLayout | None:
        """The build whose layout this is, by its name or by the places that a board file names."""
        mine = (self.variables, self.work, self.spare)
        for item in KNOWN:
            usual = of_known(item, self.variables.address)
            same = self.layout == "board file" and mine == (
                usual.variables,
                usual.work,
                usual.spare,
            )
            if same or self.layout == item.name:
                return item
        return None


def known_layout(length: int) -> KnownLayout | None:
    """The known build with a volume of this length."""
    return next((item for item in KNOWN if item.length == length), None)


def work_space_hits(window: Window, first: int, end: int) -> Iterator[int]:
    """Image offsets of work-space signatures in a range; the newer signature first."""
    for guid in SIGNATURES:
        needle, stop = guid.bytes_le, min(max(end - window.base, 0), len(window.data))
        at = find_guid(window.data, needle, max(first - window.base, 0), stop)
        for _ in range(CANDIDATE_LIMIT):
            if at < 0:
                break
            # The GUID of the NV volume is also that of the volume header, 24 bytes before _FVH.
            if guid != NV_VOLUME or window.data[at + 24 : at + 28] != SIGNATURE:
                yield window.base + at
            at = find_guid(window.data, needle, at + 1, stop)


def work_space_at(window: Window, offset: int, limit: int) -> WorkSpace | None:
    """The work space at an offset, or None when no signature is there."""
    if not window.has(offset, WORK_SPACE_HEADER.size):
        return None
    if window.at(offset, 16) not in [guid.bytes_le for guid in SIGNATURES]:
        return None
    return parse_work_space(window, offset, limit)


def derive(
    window: Window, base: int, volume: FirmwareVolume | None, store_end: int, end: int
) -> Areas:
    """Find work space and spare area of a volume.

    Args:
        window: the image.
        base: image offset of the volume.
        volume: its header, where there is one.
        store_end: image offset behind the variable store, as its header says.
        end: image offset behind the volume.
    """
    known = known_layout(end - base)
    if known is not None:
        areas = of_known(known, base)
        at_place = _acceptable(window, base + known.work.address, end)
        elsewhere = None if at_place else _best(window, store_end, base + known.spare.address)
        if elsewhere is None or not elsewhere.crc_ok:
            # A header torn by a power cut says nothing about places, its own size least.
            return areas
        place = base + known.work.address
        text = f"the work space is not where {known.name} has it (0x{place:06X})"
        note = _note(elsewhere.base, "areas.other-place", "warning", text)
        return _around(window, base, volume, store_end, end, elsewhere, (note,))
    found = _best(window, store_end, end)
    if found is None:
        text = "no work space was found behind the variable store"
        note = _note(store_end, "areas.no-work-space", "warning", text)
        return Areas("derived", Range(base, store_end - base), anomalies=(note,))
    return _around(window, base, volume, store_end, end, found, ())


def of_known(known: KnownLayout, base: int) -> Areas:
    """The areas of a known build with its volume at ``base``."""

    def place(part: Range) -> Range:
        return Range(base + part.address, part.length)

    return Areas(
        known.name,
        Range(base, known.variables),
        place(known.work),
        place(known.spare),
        place(known.event_log) if known.event_log else None,
    )


def _around(
    window: Window,
    base: int,
    volume: FirmwareVolume | None,
    store_end: int,
    end: int,
    work: WorkSpace,
    notes: tuple[Anomaly, ...],
) -> Areas:
    """The areas around a work space that was found by its signature."""
    block = (volume.block_size if volume else None) or 0x1000
    work_end = min(work.base + work.size, end)
    spare_start, how = _spare_from_queue(work, base, block), "the FTW queue"
    if spare_start is None or not work_end <= spare_start < end:
        spare_start = base + -(-(work_end - base) // block) * block
        how = "the end of the work space"
    text = f"the spare area is inferred from {how} and the end of the volume"
    notes = (*notes, _note(work.base, "areas.derived", "note", text))
    spare = Range(spare_start, end - spare_start) if spare_start < end else None
    if spare is None:
        text = "there is no room for a spare area behind the work space"
        notes = (*notes, _note(work_end, "areas.no-spare", "warning", text))
    variables = Range(base, min(store_end, work.base) - base)
    return Areas("derived", variables, Range(work.base, work_end - work.base), spare, None, notes)


def _spare_from_queue(work: WorkSpace, base: int, block: int) -> int | None:
    """The spare's start from the last record: target = spare + relative offset."""
    entry = work.last
    if not work.valid or entry is None or not entry.records:
        return None
    record = entry.records[0]
    return base + record.lba * block - record.relative_offset


def _acceptable(window: Window, offset: int, end: int) -> bool:
    found = work_space_at(window, offset, end)
    return found is not None and found.crc_ok


def _best(window: Window, first: int, end: int) -> WorkSpace | None:
    """The first work space with a right CRC, or else the first with a signature."""
    fallback: WorkSpace | None = None
    for at in work_space_hits(window, first, end):
        found = work_space_at(window, at, end)
        if found is None:
            continue
        if found.crc_ok:
            return found
        fallback = fallback or found
    return fallback


def _note(offset: int, code: str, severity: Severity, text: str) -> Anomaly:
    return Anomaly(code, offset, text, severity)
