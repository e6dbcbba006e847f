"""Finding variable stores that are not EDK2's in an image.

By the GUID of the file that holds an AMI store, and by the signatures of the others. An AMI
store without a file header is found where an image, or a part that was cut out of one, begins
with an entry. What stands inside of a store that was found is no store of its own, but for the
defaults that AMI keeps as variables, which are stores themselves.

Ref: UEFITool common/nvram.h, chipsec hal/uefi_platform.py (GUIDs of volumes); PI 1.8 volume 3
(volumes and files).

Limits: what is compressed is not looked into. An AMI store in the middle of bytes that are no
firmware file has no known end; its entries are read, but not the GUIDs of its table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final
from uuid import UUID

from hwflash.uefi import evsa, fsys, nvar, vss
from hwflash.uefi.find import Found
from hwflash.uefi.guids import NV_VOLUME, from_bytes
from hwflash.uefi.layouts import FILE_HEADER, STORE_HEADER, VOLUME_HEADER
from hwflash.uefi.others import OtherStore
from hwflash.uefi.records import FORMATS
from hwflash.uefi.salvage import scan
from hwflash.uefi.store import RECORD_LIMIT
from hwflash.uefi.volume import SIGNATURE, USUAL_HEADER, FirmwareVolume, parse_volume
from hwflash.uefi.window import Anomaly, Window, filled_with, find_guid, printable
from hwflash.units import Range, merge_ranges

#: Stores told of in one image.
FOUND_LIMIT: Final = 32
#: Signatures looked at in one image, of each kind.
HIT_LIMIT: Final = 2048
#: File system of a second NV volume, in which Phoenix keeps EVSA stores.
ADDITIONAL_VOLUME: Final = UUID("00504624-8a59-4eeb-bd0f-6b36e96128e0")
#: Defaults within defaults that are looked into.
_DEPTH: Final = 2
#: Entries that make a run of them a store, and bytes that hold them and the head of the next.
_PROBED: Final = 3
_PROBED_SPAN: Final = (_PROBED + 1) << 16

_ERASE_POLARITY: Final = 0x800
_LARGE_FILE: Final = 0x01
_FILE_DELETED: Final = 0x10
#: Bits of a file's state that say that header and data are there.
_FILE_WHOLE: Final = 0x07


def find_others(window: Window, claimed: Iterable[Range] = ()) -> tuple[OtherStore, ...]:
    """Every store of another format, in order of offsets.

    Args:
        window: the image, or a part of it; offsets are those of the image.
        claimed: bytes that are known to be something else, such as EDK2's stores.
    """
    search = _Search(window, list(claimed))
    search.files()
    search.signatures()
    search.bare()
    return search.result()


def told_apart(
    windows: Iterable[Window], found: Iterable[Found]
) -> tuple[tuple[Found, ...], tuple[OtherStore, ...]]:
    """The stores of EDK2 and those of other formats.

    A volume with the GUID of EDK2's but without its store, in which a store of another format
    lies, is that of another vendor: rescuing it would destroy what is there. What lies in a record
    of EDK2 is the value of a variable, also where the headers before it are gone.
    """
    found = tuple(found)
    sound = [item for item in found if item.store is not None]
    parts = [part for item in sound for part in (item.areas.variables, item.areas.spare)]
    claimed = [part for part in parts if part is not None]
    windows = tuple(windows)
    others = tuple(store for window in windows for store in find_others(window, claimed))
    doubtful = [item for item in found if item.store is None and _within(item, others)]
    if doubtful:
        claimed += [part for item in doubtful for part in _records(item)]
        others = tuple(store for window in windows for store in find_others(window, claimed))

    def foreign(item: Found) -> bool:
        # AMI has volumes of files; its entries in one of EDK2's are the value of a variable.
        return item.store is None and any(
            other.kind != "ami-nvar" for other in _within(item, others)
        )

    return tuple(item for item in found if not foreign(item)), others


def _within(found: Found, others: Iterable[OtherStore]) -> list[OtherStore]:
    return [item for item in others if found.base <= item.base < found.base + found.length]


def _records(found: Found) -> Iterator[Range]:
    """Records that a rescue could find in a volume of EDK2 without a store, and in its spare."""
    header = found.volume.header_length if found.volume is not None else USUAL_HEADER
    first, end = found.base + header + STORE_HEADER.size, found.base + found.length
    for kind in FORMATS.values():
        for record in scan(found.window, first, end, kind, found.base).records:
            yield Range(record.offset, record.end - record.offset)


def span_of(address: int, head: bytes) -> Range | None:
    """What to read of a chip because of how a 4 KiB block begins, or None.

    Args:
        address: of the block.
        head: its first bytes, 128 are enough.
    """
    window = Window(head, address)
    if head[40:44] == SIGNATURE:
        volume = parse_volume(window, address)
        first = head[volume.header_length : volume.header_length + 16]
        holds = volume.file_system in (NV_VOLUME, ADDITIONAL_VOLUME) or (
            len(first) == 16 and from_bytes(first) in nvar.FILES
        )
        return Range(address, volume.length) if holds and volume.length <= 16 << 20 else None
    found = vss.header_at(window, address)
    sizes = (
        found[1] if found else None, evsa.size_at(window, address), fsys.size_at(window, address),
    )  # fmt: skip
    size = next((item for item in sizes if item), None)
    if size is None and head[:4] == vss.FACTORY_COPY:
        size = int.from_bytes(head[4:8], "little")
    return Range(address, size) if size and size <= vss.SIZE_LIMIT else None


class _Search:
    """One pass over an image: what has been found, and which bytes are something else."""

    def __init__(self, window: Window, claimed: list[Range]) -> None:
        self.window = window
        self.claimed = merge_ranges(claimed)
        self.found: list[OtherStore] = []
        self.records = RECORD_LIMIT
        self.volumes = list(_volumes(window))

    def result(self) -> tuple[OtherStore, ...]:
        found = sorted(self.found, key=lambda item: item.base)
        if len(found) >= FOUND_LIMIT:
            last = found[-1]
            text = f"the search ends with {FOUND_LIMIT} stores; there may be more"
            note = Anomaly("others.limit", last.base, text, "warning")
            found[-1] = replace(last, anomalies=(*last.anomalies, note))
        return tuple(found)

    def files(self) -> None:
        """AMI stores: the content of firmware files with one of their GUIDs."""
        for guid, title in nvar.FILES.items():
            for at in _hits(self.window, guid.bytes_le, find_guid):
                volume = self._volume(at)
                content = _content(self.window, at, volume)
                if content is None or self._taken(at):
                    continue
                erased = (
                    0 if volume is not None and not volume.attributes & _ERASE_POLARITY else 255
                )
                note = ""
                if content.end > self.window.end:
                    note = f"the file reaches to 0x{content.end:06X}, beyond the image"
                self._nvar(
                    content.address, content.end, title, erased, copy=guid != nvar.MAIN_FILE,
                    note=note,
                )  # fmt: skip

    def signatures(self) -> None:
        """Stores with a header of their own."""
        readers: list[tuple[tuple[bytes, ...], int, Callable[[int], OtherStore | None]]] = [
            (vss.SIGNATURES, 0, lambda at: vss.parse_vss(self.window, at, self.records)),
            ((vss.VSS2.bytes_le,), 0, lambda at: vss.parse_vss(self.window, at, self.records)),
            ((evsa.SIGNATURE,), -4, lambda at: evsa.parse_evsa(self.window, at, self.records)),
            (fsys.SIGNATURES, 0, lambda at: fsys.parse_fsys(self.window, at)),
        ]
        for needles, shift, parse in readers:
            for needle in needles:
                find = find_guid if len(needle) == 16 else _find
                for at in _hits(self.window, needle, find):
                    base = at + shift
                    if base < self.window.base or self._taken(base):
                        continue
                    if len(self.found) >= FOUND_LIMIT:
                        return
                    store = parse(base)
                    if store is not None:
                        self._add(store)

    def bare(self) -> None:
        """AMI entries without a file: to the end of what begins with them, or as far as they go."""
        data, at = self.window.data, 0
        for _ in range(HIT_LIMIT):
            at = data.find(nvar.SIGNATURE, at)
            if at < 0 or len(self.found) >= FOUND_LIMIT:
                return
            place = self.window.base + at
            size = int.from_bytes(data[at + 4 : at + 6], "little")
            likely = data[at + 9 : at + 10] >= b"\x80" and 10 <= size <= len(data) - at
            taken = self._taken(place)
            if taken or not likely:
                at = max(taken - self.window.base, at + 4)
                continue
            at = self._bare(place) - self.window.base

    def _bare(self, place: int) -> int:
        """Read entries at a place, if they are some; where to go on."""
        title, end = nvar.FILES[nvar.MAIN_FILE], self.window.end
        if place == self.window.base:
            self._nvar(place, end, title, 0xFF)
            return end
        near = min(place + _PROBED_SPAN, end)  # not the whole image for each word in it
        probe = nvar.parse_nvar(self.window, place, near, table=False, most=_PROBED)
        if not _believed(self.window, probe):
            return probe.records[-1].end if probe.records else place + 4
        end = nvar.run_end(self.window, place, end, self.records)
        self._nvar(
            place, end, f"{title} without a file around it", 0xFF, note="its end is not known"
        )
        return end

    def _nvar(
        self, base: int, end: int, title: str, erased: int, *, note: str = "", copy: bool = False,
        depth: int = _DEPTH,
    ) -> None:  # fmt: skip
        """Read an AMI store, and those that its variables hold.

        Args:
            base: image offset of the first entry.
            end: image offset behind the store.
            title: what it is.
            erased: the byte of erased flash.
            note: why the table of GUIDs cannot be read, or "".
            copy: whether it holds defaults.
            depth: how deep stores inside of stores are looked into.
        """
        if len(self.found) >= FOUND_LIMIT:
            return
        store = nvar.parse_nvar(
            self.window, base, end, title, erased=erased, table=not note, most=self.records
        )
        if note:
            text = f"{note}: GUIDs that are kept at the end of the store are not known"
            odd = Anomaly("nvar.no-end", base, text, "warning")
            store = replace(store, anomalies=(odd, *store.anomalies))
        self._add(replace(store, copy=copy))
        for item in store.live if depth else ():
            if item.data[:4] == nvar.SIGNATURE:
                inner = f"AMI NVAR store in the variable {printable(item.name) or '-'}"
                end = item.data_offset + len(item.data)
                self._nvar(item.data_offset, end, inner, erased, copy=True, depth=depth - 1)

    def _add(self, store: OtherStore) -> None:
        volume = self._volume(store.base)
        where = Range(volume.base, volume.length) if volume is not None else None
        self.found.append(replace(store, volume=where))
        self.records = max(self.records - len(store.records), 1)

    def _taken(self, offset: int) -> int:
        """Where what has an offset already ends; 0 where nothing has it."""
        index = bisect_right(self.claimed, offset, key=lambda item: item.end)
        ranges = (*self.claimed[index : index + 1], *(item.range for item in self.found))
        return max((item.end for item in ranges if item.address <= offset < item.end), default=0)

    def _volume(self, offset: int) -> FirmwareVolume | None:
        """The smallest volume around an offset."""
        around = [item for item in self.volumes if item.base < offset < item.base + item.length]
        return min(around, key=lambda item: item.length, default=None)


def _believed(window: Window, store: OtherStore) -> bool:
    """Whether what was found by "NVAR" alone, which programs hold too, is made of entries.

    The first has a name, and there are several, or erased flash or the end behind the last one.
    """
    if not store.records:
        return False
    first, last = store.records[0], store.records[-1]
    odd = any(item.offset == first.offset for item in store.anomalies)
    behind = window.at(last.end, 8)
    named = bool(first.name) and first.name.isprintable() and not odd
    return named and (filled_with(behind, 0xFF) or len(store.records) == _PROBED)


def _find(data: bytes, needle: bytes, start: int, end: int) -> int:
    return data.find(needle, start, end)


def _hits(
    window: Window, needle: bytes, find: Callable[[bytes, bytes, int, int], int]
) -> Iterator[int]:
    """Image offsets of a signature."""
    data = window.data
    at = find(data, needle, 0, len(data))
    for _ in range(HIT_LIMIT):
        if at < 0:
            return
        yield window.base + at
        at = find(data, needle, at + 1, len(data))


def _volumes(window: Window) -> Iterator[FirmwareVolume]:
    """Headers of firmware volumes of any file system, as far as they can be believed."""
    for at in _hits(window, SIGNATURE, _find):
        base = at - 40
        if window.has(base, VOLUME_HEADER.size):
            volume = parse_volume(window, base)
            if volume.header_length < volume.length <= 1 << 32:
                yield volume


def _content(window: Window, at: int, volume: FirmwareVolume | None) -> Range | None:
    """The content of the firmware file at an offset; None where there is no file, or a deleted one.

    Ref: PI 1.8 volume 3 §3.2.3: size and state; the bits of the state are those that differ from
    erased flash. The header's checksum leaves out that of the data, and the state.
    """
    if not window.has(at, FILE_HEADER.size):
        return None
    fields = FILE_HEADER.fields(window.at(at, FILE_HEADER.size))
    inverted = volume is None or volume.attributes & _ERASE_POLARITY
    state = fields["state"] ^ (0xFF if inverted else 0)
    length, skip = int.from_bytes(fields["size"], "little"), FILE_HEADER.size
    if fields["attributes"] & _LARGE_FILE and not length:
        length, skip = int.from_bytes(window.at(at + skip, 8), "little"), skip + 8
    if not skip < length <= vss.SIZE_LIMIT or state & _FILE_DELETED:
        return None
    if state & _FILE_WHOLE != _FILE_WHOLE:
        return None
    summed = sum(window.at(at, skip)) - fields["data_checksum"] - fields["state"]
    if summed % 256 and window.at(at + skip, 4) != nvar.SIGNATURE:
        return None
    return Range(at + skip, length - skip)
