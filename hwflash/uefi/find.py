"""Finding variable stores in an image.

By the GUID of the NV volume, by that of a store, and, where the first block was erased in the
middle of a reclaim, by the work space behind it. A copy of a volume in the spare area of
another is not a store of its own.

Limits: stores of EDK2 only; `hwflash.uefi.find_others` finds those of other formats.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from hwflash.errors import ImageError
from hwflash.uefi.areas import (
    KNOWN,
    Areas,
    KnownLayout,
    derive,
    of_known,
    work_space_at,
    work_space_hits,
)
from hwflash.uefi.headers import (
    is_store,
    mended,
    origin_of_copy,
    store_end,
    store_hits,
    volume_at,
    volume_end,
    volume_hits,
)
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.recovery import FtwState
from hwflash.uefi.spare import read_ftw
from hwflash.uefi.store import RECORD_LIMIT, VariableStore, parse_store
from hwflash.uefi.volume import (
    USUAL_HEADER,
    FirmwareVolume,
    parse_volume,
    volume_anomalies,
)
from hwflash.uefi.window import Anomaly, Window, filled_with
from hwflash.units import Range

#: Stores told of in one image.
FOUND_LIMIT: Final = 32


@dataclass(frozen=True, slots=True)
class Found:
    """A variable store in an image, with the volume and the work space that belong to it.

    Attributes:
        base: image offset of the volume, or of the store where there is no volume.
        length: bytes of the volume, or of what is left of it.
        volume: the volume header; None when it is not there.
        store: the store; None when its header is not there.
        areas: where the parts lie.
        ftw: work space, spare area and what is pending.
        notes: what is not sure about the place.
        window: what it was read from.
        anomalies: everything that is odd, in order of offsets.
    """

    base: int
    length: int
    volume: FirmwareVolume | None
    store: VariableStore | None
    areas: Areas
    ftw: FtwState
    notes: tuple[Anomaly, ...] = ()
    window: Window = field(default=Window(b""), repr=False, compare=False)

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """Of volume, store, areas and FTW."""
        found = [*self.notes, *self.areas.anomalies, *self.ftw.anomalies]
        found += self._of_volume()
        if self.store is not None:
            found += self.store.anomalies
        return tuple(sorted(found, key=lambda item: item.offset))

    @property
    def volume_faults(self) -> tuple[Anomaly, ...]:
        """Errors of the volume header; none where there is no header."""
        return tuple(item for item in self._of_volume() if item.severity == "error")

    def _of_volume(self) -> list[Anomaly]:
        if self.volume is None:
            return []
        return volume_anomalies(self.volume, self.base + self.length, self.areas.known)

    @property
    def healthy(self) -> bool:
        """Whether volume, store and FTW are as the firmware wants them."""
        return self.store is not None and not any(
            item.severity == "error" for item in self.anomalies
        )


def find_stores(image: bytes | Window) -> list[Found]:
    """Every variable store in an image, in order of offsets.

    Args:
        image: the bytes, or a window on a part of an image; offsets are those of the image.
    """
    window = image if isinstance(image, Window) else Window(image)
    search = _Search(window)
    for offset in volume_hits(window):
        search.volume(offset)
    for offset in store_hits(window):
        search.store(offset)
    for offset in work_space_hits(window, window.base, window.end):
        search.work_space(offset)
    return search.result()


def read_at(
    image: bytes | Window,
    variables: Range,
    work: Range | None = None,
    spare: Range | None = None,
) -> Found:
    """The store at a place somebody names, such as a board file's ``[nvram]``.

    Args:
        image: the bytes.
        variables: volume header and store; the store may also begin at once.
        work: the work space, or None to look for it.
        spare: the spare area, or None.

    Raises:
        ImageError: the image ends before (``uefi.truncated``); neither volume nor store
            is there (``uefi.no-store``).
    """
    window = image if isinstance(image, Window) else Window(image)
    base = variables.address
    if not window.has(base, variables.length):
        raise ImageError(
            f"the variable store at {variables} reaches beyond the image, which ends at "
            f"0x{window.end:06X}",
            code="uefi.truncated",
            offset=base,
            end=window.end,
        )
    volume = volume_at(window, base, damaged=True)
    bare = is_store(window, base)
    if volume is None and not bare and not is_store(window, base + USUAL_HEADER):
        raise ImageError(
            f"there is neither a volume nor a variable store at 0x{base:06X}",
            code="uefi.no-store",
            offset=base,
        )
    ends = [part.end for part in (variables, work, spare) if part is not None]
    areas = Areas("board file", variables, work, spare)
    if work is None and volume is not None:
        found = derive(window, base, volume, variables.end, volume_end(window, volume))
        areas = replace(found, variables=variables)
        ends += [part.end for part in (found.work, found.spare) if part is not None]
    end = min(max(ends), window.end)
    return _assemble(window, base, end, None if bare else volume, areas)


def read_again(image: bytes | Window, found: Found) -> Found:
    """The store in the same place, after the image was changed.

    Args:
        image: the bytes; at least those of the volume.
        found: what was there before; its areas hold on.
    """
    window = image if isinstance(image, Window) else Window(image)
    volume = volume_at(window, found.base, damaged=True)
    bare = found.volume is None and is_store(window, found.base)
    end = found.base + found.length
    return _assemble(window, found.base, end, None if bare else volume, found.areas)


def assume(image: bytes | Window, known: KnownLayout, base: int = 0) -> Found:
    """The place of a known build's store, whatever stands there: all headers may be gone.

    Args:
        image: the bytes.
        known: the build.
        base: image offset of the volume.

    Raises:
        ImageError: the image ends before the volume does (``uefi.truncated``).
    """
    window = image if isinstance(image, Window) else Window(image)
    if not window.has(base, known.length):
        raise ImageError(
            f"a volume of {known.name} at 0x{base:06X} needs 0x{known.length:X} bytes, the image "
            f"ends at 0x{window.end:06X}",
            code="uefi.truncated",
            offset=base,
            end=window.end,
        )
    volume = volume_at(window, base, damaged=True)
    return _assemble(window, base, base + known.length, volume, of_known(known, base))


class _Search:
    """One pass over an image: what has been found, and which bytes it has claimed."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self.found: list[Found] = []
        self.records = RECORD_LIMIT

    def result(self) -> list[Found]:
        """What was found, in order of offsets; the last one says if there may be more."""
        found = sorted(self.found, key=lambda item: item.base)
        if len(found) >= FOUND_LIMIT:
            last = found[-1]
            text = f"the search ends with the first {FOUND_LIMIT} stores; there may be more"
            note = Anomaly("areas.limit", last.base, text, "warning")
            found[-1] = replace(last, notes=(*last.notes, note))
        return found

    def volume(self, offset: int) -> None:
        """A volume header with signature and GUID."""
        window = self.window
        if self._claimed(offset) or len(self.found) >= FOUND_LIMIT:
            return
        volume = parse_volume(window, offset)
        end = volume_end(window, volume)
        origin = origin_of_copy(window, volume)
        if origin is not None:
            known, base = origin
            text = (
                f"the volume header at 0x{base:06X} is gone; the place is known from its copy "
                f"in the spare area at 0x{offset:06X} and from the work space or the image's end"
            )
            self._add(base, base + known.length, None, of_known(known, base), text)
            return
        header = offset + volume.header_length
        areas = derive(window, offset, volume, store_end(window, header, end), end)
        self._add(offset, end, volume, areas)

    def store(self, offset: int) -> None:
        """A store header; its volume's header is damaged or was never there."""
        if self._claimed(offset) or len(self.found) >= FOUND_LIMIT:
            return
        window = self.window
        size = int.from_bytes(window.at(offset + 16, 4), "little")
        base = offset - USUAL_HEADER
        damaged = volume_at(window, base, damaged=True) if base >= window.base else None
        for known in KNOWN:
            place = base + known.work.address
            if known.store_size == size and base >= window.base and (
                work_space_at(window, place, window.end) is not None
            ):  # fmt: skip
                text = f"the volume header at 0x{base:06X} is damaged; the work space is in place"
                areas = of_known(known, base)
                end = min(base + known.length, window.end)
                self._add(base, end, damaged, areas, text, store=offset)
                return
        whole = mended(damaged) if damaged is not None else None
        if whole is not None:
            text = f"the volume header at 0x{base:06X} is damaged; its checksum proves the rest"
            end = volume_end(window, whole)
            areas = derive(window, base, whole, store_end(window, offset, end), end)
            self._add(base, end, damaged, areas, text, store=offset)
            return
        start = base if damaged is not None else offset
        text = "a variable store without a usable volume header"
        areas = Areas("derived", Range(start, max(offset + size - start, 0)))
        end = min(max(offset + size, offset + STORE_HEADER.size), window.end)
        self._add(start, end, damaged, areas, text, store=offset)

    def work_space(self, offset: int) -> None:
        """A work space whose volume and store headers are both gone."""
        if self._claimed(offset) or len(self.found) >= FOUND_LIMIT:
            return
        window = self.window
        space = work_space_at(window, offset, window.end)
        if space is None or not space.crc_ok:
            return
        fits = [
            (known, offset - known.work.address)
            for known in KNOWN
            if space.size == known.work.length and offset - known.work.address >= window.base
            and offset - known.work.address + known.length <= window.end
        ]  # fmt: skip
        fits = [item for item in fits if item[1] % 0x1000 == 0] or fits
        if not fits:
            return
        # The larger image has room for both; the one that begins the image is the likely one.
        known, base = min(fits, key=lambda item: (item[1] != 0, item[1]))
        text = (
            f"volume header and store header are gone; the place 0x{base:06X} is inferred from "
            f"the work space at 0x{offset:06X}, as {known.name} has it"
        )
        self._add(base, base + known.length, None, of_known(known, base), text)

    def _add(
        self,
        base: int,
        end: int,
        volume: FirmwareVolume | None,
        areas: Areas,
        text: str = "",
        store: int | None = None,
    ) -> None:
        notes = (Anomaly("areas.inferred", base, text, "error"),) if text else ()
        found = _assemble(self.window, base, end, volume, areas, store, self.records)
        if found.store is not None:
            self.records = max(self.records - len(found.store.records), 1)
        self.found.append(replace(found, notes=(*notes, *found.notes)))

    def _claimed(self, offset: int) -> bool:
        """Whether a hit is a part of what was found: its content, its copy, its work space.

        The gaps between the parts are not claimed: a volume whose length is damaged must not
        hide the next one.
        """
        for item in self.found:
            areas = item.areas
            for part in (areas.variables, areas.work, areas.spare, areas.event_log):
                if part is not None and part.address <= offset < part.end:
                    return True
        return False


def _assemble(
    window: Window,
    base: int,
    end: int,
    volume: FirmwareVolume | None,
    areas: Areas,
    store_at: int | None = None,
    most: int = RECORD_LIMIT,
) -> Found:
    """Read what stands in the areas of a volume."""
    if store_at is None:
        places = [base + USUAL_HEADER, base]
        if volume is not None:
            places.insert(0, base + volume.header_length)
        store_at = next((place for place in places if is_store(window, place)), None)
    notes: list[Anomaly] = []
    store = None
    if store_at is None:
        at = min(base + USUAL_HEADER, window.end)
        text = f"there is no variable store header: {_filling(window, areas.variables, at)}"
        notes.append(Anomaly("store.missing", at, text, "error"))
    else:
        limit = areas.variables.end
        if areas.layout == "derived":
            limit = areas.work.address if areas.work is not None else end
        store = parse_store(window, store_at, limit, most)
        room = areas.variables.end - store_at
        if areas.layout != "derived" and store.base + store.size < areas.variables.end:
            text = (
                f"the store claims 0x{store.size:X} bytes, {areas.layout} gives it 0x{room:X}: "
                "the firmware does not accept it"
            )
            notes.append(Anomaly("store.layout-size", store_at + 16, text, "error"))
    if end > window.end:
        text = f"the image ends at 0x{window.end:06X}, before the volume does (0x{end:06X})"
        notes.append(Anomaly("volume.truncated", window.end, text, "error"))
    ftw = read_ftw(window, areas)
    notes += _header_lost(base, end, volume, areas, ftw)
    return Found(base, end - base, volume, store, areas, ftw, tuple(notes), window)


def _header_lost(
    base: int, end: int, volume: FirmwareVolume | None, areas: Areas, ftw: FtwState
) -> list[Anomaly]:
    """The state that switching on makes worse.

    Ref: edk2 OvmfPkg/QemuFlashFvbServicesRuntimeDxe, InitializeVariableFvHeader, which runs
    before the fault-tolerant write driver; measured with OVMF 2022.11 and 2026.08.
    """
    if ftw.spare_store is None:
        return []
    if volume is not None and not any(
        item.severity == "error" for item in volume_anomalies(volume, end, areas.known)
    ):
        return []
    text = (
        f"the spare holds a copy with {len(ftw.spare_store.live)} variables, and the volume header "
        "is not as OVMF wants it: OVMF would erase both, so do not switch the board on"
    )
    return [Anomaly("ftw.header-lost", base, text, "error")]


def _filling(window: Window, place: Range, at: int) -> str:
    """What stands in place of a store header."""
    data = window.at(at, place.end - at)
    if not data:
        return "the image ends before it"
    for value in (0xFF, 0x00):
        if filled_with(data, value):
            return f"the variable area is all {value:02X}"
    return f"0x{at:06X} has {data[:16].hex(' ')}"
