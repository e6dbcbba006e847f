"""Comparing two flash contents: any SOURCE, ``ovmf:DESCRIPTOR`` or ``boot:IMAGE``.

``ovmf:`` takes the firmware of a descriptor of this computer, by the descriptor's name
(``ovmf:60-edk2-x86_64``), by its file, or by what it shall be for
(``ovmf:aarch64``, ``ovmf:q35,secure-boot``), laid out as one flash content: the template of the
variable store and the code, as the machine shows them.

``boot:`` boots a copy of an image, of any SOURCE or of ``ovmf:DESCRIPTOR`` in QEMU until the
firmware has done its own and gives the flash as it is then. What the image lacks (code for a VARS
file, a store for a CODE file) comes from the descriptors of this computer.

What needs QEMU is loaded when it is asked for.
Limits: raw images; ``boot:`` takes OVMF and AAVMF.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hwflash.compare.sides import Side, Volume
from hwflash.errors import ImageError, UsageError
from hwflash.jobs.source import ChipSource, Source, open_source
from hwflash.layout.regions import Region
from hwflash.progress import CancelToken, Reporter
from hwflash.uefi.window import Window
from hwflash.units import Range

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.compare.report import Options, Report
    from hwflash.jobs.opening import Request
    from hwflash.layout.files import Image
    from hwflash.uefi.find import Found

REFERENCE: Final = "ovmf:"
BOOTED: Final = "boot:"
#: A content larger than this is not believed; AAVMF has 128 MiB.
SIZE_LIMIT: Final = 512 << 20
#: Volumes of a part; real firmware has a dozen.
VOLUME_LIMIT: Final = 256


@dataclass(frozen=True, slots=True)
class Opening:
    """How the sides are opened, see `hwflash.jobs.source.open_source`.

    Attributes:
        board: the board the user named, or None.
        request: makes what else is known of programmer and chip.
        load: reads an image file.
        reporter: is told what is odd, and how far reading is.
        cancel: a request to stop.
    """

    board: Board | None
    request: Callable[[], Request]
    load: Callable[[Path], Image]
    reporter: Reporter
    cancel: CancelToken = field(default_factory=CancelToken)


@dataclass(frozen=True, slots=True)
class Opened:
    """A side, and the counters of the programmer it came over."""

    side: Side
    stats: dict[str, Any] | None = None


def compare_sources(
    left: str, right: str, opening: Opening, options: Options | None = None
) -> tuple[Report, dict[str, Any]]:
    """Open two sides and compare them.

    Args:
        left: SOURCE, ``ovmf:DESCRIPTOR`` or ``boot:IMAGE``.
        right: likewise.
        opening: how they are opened.
        options: what is compared.

    Returns:
        The report, and ``stats`` of the programmers by side, for scripts.

    Raises:
        UsageError: both sides are standard input (``usage.selection``), and see
            `hwflash.compare.report.compare`.
        ImageError: a side has no bytes or cannot be read (``image.empty``, ``image.unreadable``).
        ReferenceFailed: no such firmware, or it does not boot.
    """
    from hwflash.compare.report import compare

    if left == right == "-":
        raise UsageError("only one side can be standard input", code="usage.selection")
    one, other = open_side(left, opening), open_side(right, opening)
    report = compare(one.side, other.side, options, opening.cancel)
    stats = {"left": one.stats, "right": other.stats}
    return report, {"stats": stats} if one.stats or other.stats else {}


def open_side(text: str, opening: Opening) -> Opened:
    """One side: its bytes, and what is where in them."""
    if not _is_file(text):
        if text.startswith(REFERENCE):
            from hwflash.jobs.compare_reference import reference

            return Opened(make_side(text, reference(text.removeprefix(REFERENCE)).parts()))
        if text.startswith(BOOTED):
            return Opened(_booted(text, opening))
    with open_source(
        text, opening.board, opening.request, opening.reporter, opening.load
    ) as source:
        base, data = read_whole(source, opening.reporter, opening.cancel)
        stats = source.session.stats() if isinstance(source, ChipSource) else None
        side = make_side(text, [(base, data)], source.board)
    return Opened(side, stats)


def _is_file(text: str) -> bool:
    """Whether a file of this name is there; it wins over what the name means otherwise."""
    try:
        return Path(text).exists()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def _booted(text: str, opening: Opening) -> Side:
    from hwflash.jobs.compare_reference import Reference, boot, of_image, reference

    inner = text.removeprefix(BOOTED)
    if inner.startswith(REFERENCE) and not _is_file(inner):
        found: Reference = reference(inner.removeprefix(REFERENCE))
    elif inner.startswith(BOOTED) and not _is_file(inner):
        raise UsageError("boot: boots an image once", code="usage.compare-boot", text=text)
    else:
        with open_source(
            inner, opening.board, opening.request, opening.reporter, opening.load
        ) as source:
            base, data = read_whole(source, opening.reporter, opening.cancel)
        if base:
            raise ImageError(
                f"{inner} begins at 0x{base:06X}: what is booted begins at 0",
                code="image.boot", offset=base,
            )  # fmt: skip
        found = of_image(inner, data)
    opening.reporter.info(f"{text}: booting a copy in QEMU")
    return make_side(text, boot(found, opening.cancel).parts())


def read_whole(source: Source, reporter: Reporter, cancel: CancelToken) -> tuple[int, bytes]:
    """Every byte there is, and the offset of the first; what a HEX file leaves out is FF.

    Raises:
        ImageError: there are none (``image.empty``), or they are spread over more than
            `SIZE_LIMIT` (``image.too-large``).
    """
    if not any(item.length for item in source.ranges):
        raise ImageError(f"{source.name} has no bytes", code="image.empty", source=source.name)
    start, end = source.ranges[0].address, source.ranges[-1].end
    if end - start > SIZE_LIMIT:
        raise ImageError(
            f"{source.name} reaches from 0x{start:X} to 0x{end - 1:X}, more than is compared",
            code="image.too-large", source=source.name, size=end - start,
        )  # fmt: skip
    contents = source.read(source.ranges, reporter, cancel)
    if len(contents) == 1:
        return start, contents[0]
    image = bytearray(b"\xff" * (end - start))
    for where, data in zip(source.ranges, contents, strict=True):
        image[where.address - start : where.end - start] = data
    return start, bytes(image)


def make_side(name: str, parts: Sequence[tuple[int, bytes]], board: Board | None = None) -> Side:
    """What is where in some bytes.

    Args:
        name: how messages call them.
        parts: offsets and bytes, in order, one behind the other; each is looked at by itself.
        board: the board they belong to; its regions and its store's place count.
    """
    mapped = [_part(name, offset, data) for offset, data in parts]
    base = parts[0][0]
    data = parts[0][1] if len(parts) == 1 else b"".join(content for _, content in parts)
    stores = tuple(item for part in mapped for item in part.stores)
    regions = tuple(item for part in mapped for item in part.regions)
    if board is not None:
        regions = board.region_map().regions or regions
        stores = _named_store(board, Window(data, base)) or stores
    return Side(
        name, Window(data, base), " + ".join(part.kind for part in mapped if part.kind), regions,
        tuple(item for part in mapped for item in part.volumes), stores,
        tuple(item for part in mapped for item in part.others),
        tuple(note for part in mapped for note in part.notes),
    )  # fmt: skip


def _part(name: str, offset: int, data: bytes) -> Side:
    """One part, its offsets moved to where it lies."""
    from hwflash.qemu.imagemap import map_image
    from hwflash.uefi.find import find_stores
    from hwflash.uefi.find_others import told_apart

    found = map_image(data)
    window = Window(data, offset)
    stores, others = found.stores, found.others
    if offset:
        stores, others = told_apart([window], find_stores(window))
    known = found.fit is not None
    notes = found.notes if known else ()
    if found.volumes[VOLUME_LIMIT:]:
        notes += (f"only its first {VOLUME_LIMIT} firmware volumes are told apart",)
    return Side(
        name, window, found.kind if known else "",
        tuple(_moved(item, offset) for item in found.regions),
        tuple(
            Volume(_shift(item.range, offset), item.label, item.header.file_system, item.name)
            for item in found.volumes[:VOLUME_LIMIT]
        ),
        stores, others, notes,
    )  # fmt: skip


def _moved(region: Region, offset: int) -> Region:
    return replace(region, range=_shift(region.range, offset))


def _shift(where: Range, offset: int) -> Range:
    return Range(where.address + offset, where.length)


def _named_store(board: Board, window: Window) -> tuple[Found, ...]:
    """The store where the board has it; none when it is not there."""
    from hwflash.uefi.find import read_at

    nvram = board.nvram
    if nvram is None or nvram.variables is None or nvram.find:
        return ()
    areas = [
        Range(area.start, area.length) if area is not None else None
        for area in (nvram.work, nvram.spare)
    ]
    try:
        return (read_at(window, Range(nvram.variables.start, nvram.variables.length), *areas),)
    except ImageError:  # a file without that part, or an erased chip: what was found counts
        return ()
