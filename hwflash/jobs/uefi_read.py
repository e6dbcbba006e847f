"""Reading the UEFI variable stores of a SOURCE, and the keys that scripts get of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from hwflash.errors import ImageError, UsageError
from hwflash.jobs.source import Source
from hwflash.jobs.uefi_others import (
    anomaly_keys,
    listed_keys,
    nearest,
    other_variable,
    other_variable_keys,
    read_only,
)
from hwflash.progress import CancelToken, Reporter
from hwflash.uefi import guids
from hwflash.uefi.areas import KNOWN
from hwflash.uefi.decode import Decoded
from hwflash.uefi.find import Found, find_stores, read_at
from hwflash.uefi.find_others import find_others, span_of, told_apart
from hwflash.uefi.foreign import identify
from hwflash.uefi.headers import VOLUME_LIMIT
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.others import Listed, OtherStore
from hwflash.uefi.records import Record
from hwflash.uefi.volume import SIGNATURE, USUAL_HEADER, parse_volume
from hwflash.uefi.window import Window
from hwflash.units import Range, merge_ranges

if TYPE_CHECKING:
    from hwflash.boards import Nvram

#: Volumes begin at an erase block, which is 4 KiB on nearly every chip.
PROBE_STEP: Final = 0x1000
#: Holds a volume header and a store header behind it.
PROBE_LENGTH: Final = 0x80
#: What is read around a header whose own length cannot be believed.
USUAL_SPAN: Final = max(known.length for known in KNOWN)


@dataclass(frozen=True, slots=True)
class Reading:
    """The stores of a source.

    Attributes:
        found: in order of offsets.
        windows: what was read, for those who want to look at more than the stores.
        searched: ``all`` bytes, only at 4 KiB ``boundaries``, or where the ``board`` says.
        others: stores of other formats, in order of offsets.
    """

    found: tuple[Found, ...]
    windows: tuple[Window, ...]
    searched: str
    others: tuple[OtherStore, ...] = ()

    @property
    def bytes_read(self) -> int:
        """Bytes of the windows."""
        return sum(len(window.data) for window in self.windows)


def read_stores(
    source: Source,
    reporter: Reporter,
    cancel: CancelToken,
    *,
    full: bool = False,
    others: bool = False,
) -> Reading:
    """Find and read the variable stores of a source.

    A board's ``[nvram]`` is believed. Else a file is searched as a whole, and a chip at its
    4 KiB boundaries first; only if nothing is there is all of it read.

    Args:
        source: file or chip.
        reporter: is told what is odd about the search.
        cancel: is looked at between reads.
        full: search everything, wherever the board says the store is.
        others: stores of other formats will do, since nothing is going to be changed.

    Raises:
        ImageError: there is none (``uefi.no-store``), or only one of a format that is not written
            (``uefi.read-only``).
    """
    reading = _read(source, reporter, cancel, full)
    if not reading.found:
        if not reading.others:
            raise _none(source, reading.windows)
        if not others:
            raise read_only(nearest(reading.others))
    return reading


def _read(source: Source, reporter: Reporter, cancel: CancelToken, full: bool) -> Reading:
    nvram = source.board.nvram if source.board is not None and not full else None
    if nvram is not None and nvram.variables is not None and not nvram.find:
        return _where_named(source, nvram, reporter, cancel)
    if not source.whole and not full:
        windows = _windows_by_probe(source, reporter, cancel)
        reading = _searched(windows, "boundaries")
        if reading.found or reading.others:
            return reading
        reporter.info("no variable store begins at a 4 KiB boundary; everything is read")
    return _searched(_windows(source, source.ranges, reporter, cancel), "all")


def _searched(windows: tuple[Window, ...], searched: str) -> Reading:
    found = [item for window in windows for item in find_stores(window)]
    usual, others = told_apart(windows, found)
    return Reading(usual, windows, searched, others)


def _where_named(source: Source, nvram: Nvram, reporter: Reporter, cancel: CancelToken) -> Reading:
    areas = [
        Range(area.start, area.length) if area is not None else None
        for area in (nvram.variables, nvram.work, nvram.spare)
    ]
    named = [area for area in areas if area is not None]
    span = Range(named[0].address, 0)
    for area in named:
        start = min(span.address, area.address)
        span = Range(start, max(span.end, area.end) - start)
    if nvram.work is None:  # it is looked for behind the store
        room = next((item.end for item in source.ranges if item.contains(named[0])), span.end)
        span = Range(span.address, min(max(span.length, USUAL_SPAN), room - span.address))
    if not any(item.contains(span) for item in source.ranges):
        raise ImageError(
            f"the board has its variable store at {span}, {source.name} does not reach there",
            code="uefi.truncated",
            offset=span.address,
        )
    windows = _windows(source, [span], reporter, cancel)
    variables, work, spare = areas
    assert variables is not None  # noqa: S101 - the caller has looked
    try:
        found = [read_at(windows[0], variables, work, spare)]
    except ImageError as error:
        others = find_others(windows[0])
        if error.code != "uefi.no-store" or not others:
            raise
        return Reading((), windows, "board", others)
    usual, others = told_apart(windows, found)
    return Reading(usual, windows, "board", others)


def others_over(
    source: Source, found: Found, window: Window, reporter: Reporter, cancel: CancelToken
) -> tuple[OtherStore, ...]:
    """Stores of other formats that lie, or reach, where somebody wants a volume of EDK2.

    A file is searched as a whole, a chip at its 4 KiB boundaries and at the place itself.

    Args:
        source: file or chip.
        found: the volume.
        window: what was read of it.
        reporter: is told how the reading goes on.
        cancel: is looked at between reads.
    """
    if source.whole:
        windows = _windows(source, source.ranges, reporter, cancel)
    else:
        windows = (*_windows_by_probe(source, reporter, cancel), window)
    usual = [item for part in windows for item in find_stores(part)]
    _, others = told_apart(windows, [found, *usual])
    place = Range(found.base, found.length)
    return tuple(item for item in others if item.range.overlaps(place))


def _windows(
    source: Source, targets: Iterable[Range], reporter: Reporter, cancel: CancelToken
) -> tuple[Window, ...]:
    spans = list(targets)
    contents = source.read(spans, reporter, cancel)
    return tuple(Window(data, span.address) for span, data in zip(spans, contents, strict=True))


def _windows_by_probe(
    source: Source, reporter: Reporter, cancel: CancelToken
) -> tuple[Window, ...]:
    """Read around everything that looks like a header at a 4 KiB boundary."""
    limit = source.ranges[-1].end
    addresses = [
        address
        for span in source.ranges
        for address in range(span.address, span.end - PROBE_LENGTH + 1, PROBE_STEP)
    ]
    heads = dict(
        zip(addresses, source.sample(addresses, PROBE_LENGTH, reporter, cancel), strict=True)
    )
    wanted = [span for address, head in heads.items() for span in _by_header(address, head)]
    for address, head in heads.items():
        inside = any(span.contains(Range(address, PROBE_LENGTH)) for span in wanted)
        if head[:16] == guids.WORK_SPACE.bytes_le and not inside:
            # Its volume's own header may be gone; the volume then begins at one of these places.
            wanted += [Range(address - known.work.address, known.length) for known in KNOWN]
    starts = [max(span.address, 0) for span in wanted]
    clipped = [
        Range(start, min(span.end, limit) - start)
        for start, span in zip(starts, wanted, strict=True)
    ]
    return _windows(source, merge_ranges(clipped), reporter, cancel)


def _by_header(address: int, head: bytes) -> list[Range]:
    """What to read because of a volume or store header at a boundary."""
    signature = head[40:44]
    if signature == SIGNATURE and head[16:32] == guids.NV_VOLUME.bytes_le:
        volume = parse_volume(Window(head), 0)
        length = volume.length if volume.length <= VOLUME_LIMIT else 0
        return [Range(address, length if volume.checksum_ok else max(length, USUAL_SPAN))]
    for at in (0, USUAL_HEADER):
        if head[at : at + 16] in (guids.AUTHENTICATED_STORE.bytes_le, guids.PLAIN_STORE.bytes_le):
            size = int(STORE_HEADER.fields(head, at)["size"])
            return [Range(address, min(max(size + at, USUAL_SPAN), VOLUME_LIMIT))]
    other = span_of(address, head)
    return [other] if other is not None else []


def _none(source: Source, windows: tuple[Window, ...]) -> ImageError:
    what = identify(windows[0].data) if len(windows) == 1 else None
    text = f"there is no UEFI variable store in {source.name}"
    return ImageError(
        f"{text}: it is {what}" if what else text, code="uefi.no-store", source=source.name
    )


# --- one variable -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Selected:
    """A variable, and the store it is in."""

    found: Found
    record: Record


def select(
    reading: Reading, name: str, guid: UUID | None = None, store: int | None = None
) -> Selected:
    """The one live variable of a name.

    Args:
        reading: the stores.
        name: of the variable.
        guid: of its vendor; needed when several have a variable of this name.
        store: base of the store or of its volume; needed when there are several stores.

    Raises:
        UsageError: no such variable (``usage.variable``; ``context["near"]`` has similar
            names), or several (``usage.variable-ambiguous``).
    """
    stores = chosen(reading, store)
    hits = [
        Selected(found, record)
        for found in stores
        if found.store is not None
        for record in found.store.named(name)
        if guid in (None, record.guid)
    ]
    if not hits:
        raise no_variable(stores, name, guid)
    if len(hits) > 1:
        places = [f"{hit.record.guid} in the store at 0x{_base(hit.found):06X}" for hit in hits]
        raise UsageError(
            f"there are {len(hits)} variables {name!r}: {', '.join(places[:6])}",
            code="usage.variable-ambiguous",
            name=name,
            places=places,
        )
    return hits[0]


def chosen(reading: Reading, store: int | None) -> tuple[Found, ...]:
    """The stores, or the one at an address.

    Raises:
        UsageError: no store there (``usage.store``).
        ImageError: the one there is only read (``uefi.read-only``).
    """
    if store is None:
        return reading.found
    other = next((item for item in reading.others if item.base == store), None)
    if other is not None:
        raise read_only(other)
    hits = tuple(item for item in reading.found if store in (item.base, _base(item)))
    if not hits:
        bases = [*map(_base, reading.found), *(item.base for item in reading.others)]
        places = ", ".join(f"0x{base:06X}" for base in bases)
        raise UsageError(
            f"there is no variable store at 0x{store:06X}; there is one at {places}",
            code="usage.store",
            offset=store,
        )
    return hits


def find_listed(
    reading: Reading, name: str, guid: UUID | None, store: int | None
) -> tuple[Listed, dict[str, Any]]:
    """The one live variable of a name, in whatever store, and its keys for scripts.

    Stores of EDK2 come first.

    Raises:
        UsageError: see `select`.
    """
    named = any(item.base == store for item in reading.others)
    hit = other_variable(reading.others, name, guid, store)
    if not named and (reading.found or store is not None):
        try:
            usual = select(reading, name, guid, store)
            return usual.record, variable_keys(usual.found, usual.record)
        except UsageError as error:
            if hit is None or error.code != "usage.variable":
                raise
    if hit is None:
        raise no_variable((), name, guid, reading.others)
    return hit[1], other_variable_keys(*hit)


def no_variable(
    stores: Iterable[Found], name: str, guid: UUID | None, others: Iterable[OtherStore] = ()
) -> UsageError:
    """The error that a variable is not there, with names that are near."""
    import difflib

    names = {
        record.name for found in stores if found.store is not None for record in found.store.live
    } | {record.name for store in others for record in store.live}
    under = f" with GUID {guid}" if guid is not None and name in names else ""
    lower = {other.lower(): other for other in sorted(names)}
    close = [] if under else difflib.get_close_matches(name.lower(), lower, n=3)
    begin = [key for key in lower if key.startswith(name.lower())] if not (under or close) else []
    near = [lower[key] for key in (close or begin[:3])]
    return UsageError(
        f"there is no variable {name!r}{under}", code="usage.variable", name=name, near=near
    )


# --- keys of the JSON result ----------------------------------------------------------------


def _base(found: Found) -> int:
    return found.store.base if found.store is not None else found.base


def store_keys(found: Found) -> dict[str, Any]:
    """A store as scripts get it."""
    store = found.store
    usage = store.usage if store is not None else None
    areas = found.areas
    return {
        "base": _base(found),
        "size": store.size if store is not None else 0,
        "kind": "edk2",
        "format": store.kind if store is not None else None,
        "healthy": found.healthy,
        "used": usage.used if usage else 0,
        "free": usage.free if usage else 0,
        "reclaimable": usage.reclaimable if usage else 0,
        "layout": areas.layout,
        "volume": {"base": found.base, "size": found.length},
        "work_space": _area(areas.work),
        "spare": _area(areas.spare),
        "ftw": found.ftw.verdict,
        "pending": found.ftw.pending is not None,
        "anomalies": [anomaly_keys(item) for item in found.anomalies],
    }


def variable_keys(found: Found, record: Record, decoded: Decoded | None = None) -> dict[str, Any]:
    """A record as scripts get it."""
    return listed_keys(record, _base(found), decoded)


def _area(area: Range | None) -> dict[str, int] | None:
    return {"base": area.address, "size": area.length} if area is not None else None
