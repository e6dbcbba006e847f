"""Whether a chip holds what its board file expects: a wrong board stops before the plan.

Everything that writes goes through `require_board`. It looks at the chip as it is, and at what it
would hold afterwards: neither another board is written to, nor another board's image to this one.

A chip that is blank wherever something is expected tells of no board. It is written when it holds
all that is expected afterwards, which is the first flash of a board, or when it is only erased.

Limits: firmware volumes that have no place of their own, and the FMAP, are looked for at multiples
of 4 KiB. A restore is judged by what the chip holds afterwards alone: what went wrong before it may
have taken what is expected. A resume is not judged: the write that it goes on with was.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hwflash.boards import Board, ExpectedDescriptor
from hwflash.errors import BusUnstable, ChipError, HwflashError, ImageError
from hwflash.jobs.look import half_written
from hwflash.jobs.regions import DESCRIPTOR, STRIDE, Read, quick_fmap
from hwflash.layout import fmap, ifd
from hwflash.layout.files import Segment
from hwflash.uefi.guids import from_bytes
from hwflash.uefi.layouts import VOLUME_HEADER
from hwflash.uefi.volume import SIGNATURE, parse_volume
from hwflash.uefi.window import Window
from hwflash.units import Range, format_size

if TYPE_CHECKING:
    from hwflash.flash.nor import NorFlash
    from hwflash.jobs.prepare import Job

#: Of a write that puts a backup back.
RESTORE: Final = "restore"
_BLANK: Final = "erased"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that a board file expects, and that is not so.

    Attributes:
        code: what kind of thing, such as ``board.other-volume``.
        fact: which, such as ``volume at 0x084000``.
        expected, found: in words.
        blank: where it should be there is nothing but FF.
    """

    code: str
    fact: str
    expected: str
    found: str
    blank: bool = False

    def __str__(self) -> str:
        return f"{self.fact}: expected {self.expected}, found {self.found}"


def require_board(job: Job, targets: Sequence[Segment] = (), skip: Range | None = None) -> None:
    """Hold the chip against its board file, as it is and as it would be; nothing is changed.

    Args:
        job: what is written where.
        targets: what would be written.
        skip: what lies in here is repaired: it may be wrong before, and afterwards where it was.

    Raises:
        ChipError: this is another board (``board.other-descriptor``, ``board.other-volume``,
            ``board.other-map``, ``board.other-unit``), or a blank chip which would not hold what
            is expected afterwards either (``board.blank``).
        ImageError: the image is for another board (``image.other-board``).
        BusUnstable: two reads differ.
    """
    board = job.session.board
    if board is None:
        return
    flash = job.session.flash
    chip = _Steady(flash).read
    before: list[Difference] = []
    if job.options.kind != RESTORE:
        before = [*_unit(job, board), *differences(board, flash.chip.size, chip, skip)]
    others = [item for item in before if not item.blank]
    if others and not _accepted(job, board, others):
        said = f"this is not board {board.name}"
        raise _error(ChipError, others[0].code, said, board, others, _stopped_write(job))
    if targets and not any(target.data.strip(b"\xff") for target in targets):
        return  # erasing takes nothing that the backup does not have
    after = list(differences(board, flash.chip.size, _overlaid(chip, targets)))
    if skip is not None:
        here = {item.fact for item in differences(board, flash.chip.size, chip)}
        broken = here - {item.fact for item in before}
        after = [item for item in after if item.fact not in broken]
    if before and not others and after and not _accepted(job, board, after):
        said = f"the chip is blank and would not hold what board {board.name} has"
        raise _error(ChipError, "board.blank", said, board, after, _stopped_write(job))
    if not before and after and not _accepted(job, board, after):
        said = f"the {'image' if skip is None else 'repair'} is not for board {board.name}"
        raise _error(ImageError, "image.other-board", said, board, after)
    if before and not others and not after:
        job.reporter.info(f"the chip is blank; it gets what board {board.name} has")


def differences(
    board: Board, size: int, read: Read, skip: Range | None = None
) -> Iterator[Difference]:
    """All that a board file expects of a flash and that is not so.

    Args:
        board: the board file.
        size: bytes of the flash.
        read: gives bytes of it.
        skip: what lies in here is not looked at.
    """
    expect, kind = board.expect, board.layout.kind if board.layout is not None else None
    wanted = expect.descriptor or (ExpectedDescriptor() if kind == "ifd" else None)
    if wanted is not None and not (skip is not None and skip.contains(DESCRIPTOR)):
        yield from _descriptor(wanted, read([DESCRIPTOR])[0], size)
    for item in expect.volume:
        head = Range(item.at, VOLUME_HEADER.size)
        if skip is None or not skip.contains(head):
            yield from _volume(item.at, item.guid.lower(), read, size)
    if expect.volumes:
        yield from _volumes(expect.volumes, read, size, skip)
    if expect.fmap or kind == "fmap":
        yield from _map(expect.fmap, read, size)


class _Steady:
    """Reads of a chip, each made twice: a wrong bit must not decide whose board it is."""

    def __init__(self, flash: NorFlash) -> None:
        self._flash = flash
        self._known: dict[Range, bytes] = {}

    def read(self, places: Sequence[Range]) -> list[bytes]:
        """The bytes of many ranges.

        Raises:
            BusUnstable: two reads differ.
        """
        missing = [place for place in places if place not in self._known]
        pieces = [
            Range(at, min(STRIDE, place.end - at))
            for place in missing
            for at in range(place.address, place.end, STRIDE)
        ]
        first, second = (self._flash.read_pieces(pieces) for _ in range(2))
        for piece, one, two in zip(pieces, first, second, strict=True):
            if one != two:
                raise BusUnstable(
                    f"two reads of the chip differ at 0x{piece.address:06X}",
                    code="chip.unstable-read",
                    address=piece.address,
                )
        bytes_of = iter(first)
        for place in missing:
            count = -(-place.length // STRIDE)
            self._known[place] = b"".join(next(bytes_of) for _ in range(count))
        return [self._known[place] for place in places]


def _overlaid(read: Read, targets: Sequence[Segment]) -> Read:
    """Reads of what a chip would hold."""
    found = sorted(targets, key=lambda item: item.address)
    starts = [item.address for item in found]

    def after(places: Sequence[Range]) -> list[bytes]:
        return [
            _patched(place, data, found[max(bisect_right(starts, place.address) - 1, 0) :])
            for place, data in zip(places, read(places), strict=True)
        ]

    return after


def _patched(place: Range, data: bytes, targets: Iterable[Segment]) -> bytes:
    content = bytearray(data)
    for target in targets:
        start, end = max(place.address, target.address), min(place.end, target.range.end)
        if target.address >= place.end:
            break
        if start < end:
            piece = target.data[start - target.address : end - target.address]
            content[start - place.address : end - place.address] = piece
    return bytes(content)


# --- what can be expected -----------------------------------------------------------------------


def _unit(job: Job, board: Board) -> Iterator[Difference]:
    if board.expect.unique_id is None:
        return
    wanted, found = board.expect.unique_id.replace(" ", "").lower(), job.session.unique_id()
    if found != wanted:
        yield Difference("board.other-unit", "unique id", wanted, found or "none")


def _descriptor(wanted: ExpectedDescriptor, head: bytes, size: int) -> Iterator[Difference]:
    code = "board.other-descriptor"
    if _blank(head):
        yield Difference(code, "descriptor", "one", _BLANK, blank=True)
        return
    try:
        found, straps = ifd.parse(head, size), ifd.straps(head)
    except ImageError as error:
        yield Difference(code, "descriptor", "one that can be used", error.message)
        return
    digests = (("descriptor", wanted.sha256, head), ("straps", wanted.straps_sha256, straps))
    for fact, digest, data in digests:
        if digest is not None and digest.lower() != (there := hashlib.sha256(data).hexdigest()):
            yield Difference(code, f"sha256 of the {fact}", digest.lower(), there)
    if wanted.components and tuple(wanted.components) != found.components:
        both = (wanted.components, found.components)
        expected, there = (" and ".join(map(format_size, sizes)) or "none" for sizes in both)
        yield Difference(code, "chips that the descriptor tells of", expected, there)
    places = {region.name: str(region.range) for region in found.regions}
    for name, area in wanted.regions.items():
        expected = str(Range(area.start, area.length))
        if places.get(name) != expected:
            yield Difference(code, f"region {name}", expected, places.get(name, "none"))


def _volume(at: int, guid: str, read: Read, size: int) -> Iterator[Difference]:
    (head,) = read([Range(at, VOLUME_HEADER.size)])
    found = _guids(at, head, read, size)
    if guid not in found:
        text = _BLANK if _blank(head) else " ".join(found) or "no volume"
        fact = f"volume at 0x{at:06X}"
        yield Difference("board.other-volume", fact, guid, text, blank=_blank(head))


def _volumes(
    wanted: Sequence[str], read: Read, size: int, skip: Range | None
) -> Iterator[Difference]:
    last = size - VOLUME_HEADER.size
    places = [Range(at, VOLUME_HEADER.size) for at in range(0, last + 1, STRIDE)]
    heads = read(places)
    if skip is not None and any(
        skip.contains(place) and head[40:44] != SIGNATURE
        for place, head in zip(places, heads, strict=True)
    ):
        return  # the one that is missing may be the one that is repaired
    found: dict[str, None] = {}
    for place, head in zip(places, heads, strict=True):
        found |= dict.fromkeys(_guids(place.address, head, read, size))
    blank = all(map(_blank, heads))
    text = _BLANK if blank else " ".join(found) or "no volume"
    for guid in wanted:
        if guid.lower() not in found:
            yield Difference("board.other-volume", "volumes", guid.lower(), text, blank=blank)


def _guids(at: int, head: bytes, read: Read, size: int) -> list[str]:
    """GUID of a volume's file system and, where it has one, its name; none: it is no volume."""
    if head[40:44] != SIGNATURE:
        return []
    header = parse_volume(Window(head, at), at)
    found = [str(header.file_system)]
    more = header.ext_header_offset
    if more >= VOLUME_HEADER.size and at + more + 16 <= size:
        found.append(str(from_bytes(read([Range(at + more, 16)])[0])))
    return found


def _map(names: Sequence[str], read: Read, size: int) -> Iterator[Difference]:
    code, expected = "board.other-map", f"one with {', '.join(names)}" if names else "one"
    try:
        found = quick_fmap(read, size)
        if found is None:
            if all(map(_blank, read([Range(at, 8) for at in range(0, size, STRIDE)]))):
                yield Difference(code, "FMAP", expected, _BLANK, blank=True)
                return
            whole = fmap.find(read([Range(0, size)])[0])
            areas = {region.name for region in whole.regions} if whole is not None else None
        else:
            areas = {region.name for region in found}
    except ImageError as error:
        yield Difference(code, "FMAP", "one that can be used", error.message)
        return
    if areas is None:
        yield Difference(code, "FMAP", expected, "none")
        return
    for name in names:
        if name not in areas:
            yield Difference(code, f"area {name} of the FMAP", "there", "none of that name")


def _blank(data: bytes) -> bool:
    return not data.strip(b"\xff")


# --- what comes of it ---------------------------------------------------------------------------


def _accepted(job: Job, board: Board, found: Sequence[Difference]) -> bool:
    if not job.options.accept_other_board:
        return False
    for item in found:
        text = f"accepted, though board {board.name} is another: {item}"
        job.reporter.warning(text, code=item.code)
    return True


def _stopped_write(job: Job) -> dict[str, Any]:
    """Facts of a write to this very chip that stopped half way: it may be why the chip differs."""
    record = half_written(job.session, job.options.state)
    if record is None:
        return {}
    name, programmer = record.name, job.session.programmer.url
    return {"unfinished": name, "resume": name, "backup": record.backup, "programmer": programmer}


def _error(
    kind: type[HwflashError],
    code: str,
    said: str,
    board: Board,
    found: Sequence[Difference],
    more: Mapping[str, Any] | None = None,
) -> HwflashError:
    first = found[0]
    facts: dict[str, Any] = {"fact": first.fact, "expected": first.expected, "found": first.found}
    facts |= more or {}
    if len(found) > 1:
        facts["faults"] = [str(item) for item in found]
    return kind(f"{said}: {first}", code=code, board=board.name, **facts)
