"""The two sides of a comparison, and which bytes of one belong to which of the other.

Images of one size are compared place by place. Of others (a VARS file and a whole image, a whole
image and a chip's dump) the firmware volumes are the anchors, or else regions of one name; where
neither is in both, the images are laid over each other by their addresses, unless both are known to
be different parts. What has no counterpart is left out, and said.

Limits: a volume is recognised by its name (extended header), or else by its file system.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar
from uuid import UUID

from hwflash.layout.regions import Region
from hwflash.uefi.find import Found
from hwflash.uefi.others import OtherStore
from hwflash.uefi.window import Window, filled_with
from hwflash.units import Range, merge_ranges

T = TypeVar("T")

SideName = Literal["left", "right"]
How = Literal["position", "volumes", "regions", "address"]


@dataclass(frozen=True, slots=True)
class Volume:
    """A firmware volume of an image.

    Attributes:
        range: where it lies, image offsets.
        label: what people call it, such as ``FVMAIN_COMPACT``.
        file_system: GUID of its header.
        name: GUID of its extended header, or None.
    """

    range: Range
    label: str
    file_system: UUID
    name: UUID | None = None

    @property
    def key(self) -> UUID:
        """What makes it the same volume in another image."""
        return self.name or self.file_system


@dataclass(frozen=True, slots=True)
class Side:
    """One of two flash contents.

    Attributes:
        name: how messages call it.
        image: the bytes; offsets below are those of the image.
        kind: what it is, in words, such as ``OVMF 4M, vars``; "" when not known.
        regions: its layout, from a board file or from the build it is.
        volumes: outer firmware volumes, in order of offsets.
        stores: UEFI variable stores of EDK2.
        others: those of other formats.
        notes: what is not sure about it.
    """

    name: str
    image: Window
    kind: str = ""
    regions: tuple[Region, ...] = ()
    volumes: tuple[Volume, ...] = ()
    stores: tuple[Found, ...] = ()
    others: tuple[OtherStore, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def range(self) -> Range:
        """All of it."""
        return Range(self.image.base, len(self.image.data))

    def view(self, offset: int, length: int) -> memoryview:
        """Bytes at an image offset, not copied."""
        start = offset - self.image.base
        return memoryview(self.image.data)[start : start + length]


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes that both sides have.

    Attributes:
        left, right: image offsets of the first byte.
        length: in bytes.
    """

    left: int
    right: int
    length: int

    def of(self, side: SideName) -> Range:
        """Where it lies on a side."""
        return Range(self.left if side == "left" else self.right, self.length)

    def cut(self, side: SideName, where: Range) -> Segment | None:
        """The part of it that lies in a range of a side, or None."""
        own = self.of(side)
        start, end = max(own.address, where.address), min(own.end, where.end)
        if start >= end:
            return None
        skip = start - own.address
        return Segment(self.left + skip, self.right + skip, end - start)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Bytes that only one side has.

    Attributes:
        side: which.
        range: where.
        blank: they are all FF or all 00.
    """

    side: SideName
    range: Range
    blank: bool


@dataclass(frozen=True, slots=True)
class Alignment:
    """Which bytes are compared with which.

    Attributes:
        how: ``position`` (images of one size), ``volumes``, ``regions``, or ``address`` (by the
            addresses of two images that have neither in common).
        segments: in order of the left offsets.
        left_out: what only one side has.
    """

    how: How
    segments: tuple[Segment, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def compared(self) -> int:
        """Bytes of a side that have a counterpart."""
        return sum(item.length for item in self.segments)


def align(left: Side, right: Side) -> Alignment:
    """Find out which bytes of one side belong to which of the other."""
    if left.range == right.range:
        whole = Segment(left.range.address, right.range.address, left.range.length)
        return Alignment("position", (whole,) if whole.length else ())
    how: How = "volumes"
    pairs = [(one.range, other.range) for one, other in pair_volumes(left, right) if one and other]
    if not pairs:
        how = "regions"
        places = _whole_regions(right)
        pairs = [(item, places[name]) for name, item in _whole_regions(left).items()
                 if name in places]  # fmt: skip
    shifts = {other.address - one.address for one, other in pairs}
    segments: list[Segment] = []
    if len(shifts) == 1:
        segments = _overlap(left, right, shifts.pop())
    elif pairs:
        segments = _by_pair(pairs)
    if not segments:
        how = "address"
        # Two parts of firmware that are known to be different parts have nothing in common.
        known = left.regions and right.regions
        segments = [] if known else _overlap(left, right, 0)
    out = [*_left_out(left, "left", segments), *_left_out(right, "right", segments)]
    return Alignment(how, tuple(segments), tuple(out))


def pair_volumes(left: Side, right: Side) -> list[tuple[Volume | None, Volume | None]]:
    """Volumes of one side with their counterparts, None where there is none.

    Of several with one name those at the same place belong together, then those with the same
    content, then the others in their order.
    """
    keys: list[tuple[Callable[[Volume], Hashable], Callable[[Volume], Hashable]]] = []
    if left.range == right.range:
        keys.append((_place, _place))
    keys.append((partial(_content, left), partial(_content, right)))
    keys.append((_key, _key))
    pairs, alone, others = pair_up(left.volumes, right.volumes, keys)
    found: list[tuple[Volume | None, Volume | None]] = [*pairs, *((item, None) for item in alone)]
    found.sort(key=lambda pair: pair[0].range if pair[0] else Range(0, 0))
    return found + [(None, item) for item in others]


def pair_up(
    lefts: Sequence[T],
    rights: Sequence[T],
    keys: Sequence[tuple[Callable[[T], Hashable], Callable[[T], Hashable]]],
) -> tuple[list[tuple[T, T]], list[T], list[T]]:
    """Pair things that have the same key, by one kind of key after the other.

    Args:
        lefts: things of one side.
        rights: things of the other.
        keys: for each kind, the key of a left and of a right thing.

    Returns:
        The pairs, and what is left over of either side in its order.
    """
    pairs: list[tuple[T, T]] = []
    rest, others = list(lefts), list(rights)
    for key, other_key in keys:
        waiting: dict[Hashable, deque[int]] = defaultdict(deque)
        for place, item in enumerate(others):
            waiting[other_key(item)].append(place)
        still: list[T] = []
        taken: set[int] = set()
        for item in rest:
            queue = waiting.get(key(item))
            if queue:
                place = queue.popleft()
                taken.add(place)
                pairs.append((item, others[place]))
            else:
                still.append(item)
        rest = still
        others = [item for place, item in enumerate(others) if place not in taken]
    return pairs, rest, others


def _place(volume: Volume) -> Hashable:
    return volume.key, volume.range.address


def _content(side: Side, volume: Volume) -> Hashable:
    data = side.view(volume.range.address, volume.range.length)
    return volume.key, hashlib.sha256(data).digest()


def _key(volume: Volume) -> Hashable:
    return volume.key


def cut(segments: Iterable[Segment], side: SideName, where: Range) -> Iterator[Segment]:
    """The parts of segments that lie in a range of a side."""
    for item in segments:
        part = item.cut(side, where)
        if part is not None:
            yield part


def _whole_regions(side: Side) -> dict[str, Range]:
    """Regions by name; a damaged header may claim some beyond the end of an image."""
    whole = side.range
    return {item.name: item.range for item in side.regions if whole.contains(item.range)}


def _overlap(left: Side, right: Side, shift: int) -> list[Segment]:
    """Everything both have when left offset + shift = right offset."""
    start = max(left.range.address, right.range.address - shift)
    end = min(left.range.end, right.range.end - shift)
    if start >= end and shift == 0:  # two files at different addresses: from their starts
        length = min(left.range.length, right.range.length)
        return [Segment(left.range.address, right.range.address, length)] if length else []
    return [Segment(start, start + shift, end - start)] if start < end else []


def _by_pair(pairs: list[tuple[Range, Range]]) -> list[Segment]:
    """Each pair by itself; neighbours that lie alike on both sides are joined."""
    found: list[Segment] = []
    used: list[Range] = []
    for one, other in sorted(pairs):
        here = Segment(one.address, other.address, min(one.length, other.length))
        last = found[-1] if found else None
        if last is not None and last.left + last.length > here.left:
            continue  # damaged lengths: a byte is compared once
        if any(item.overlaps(here.of("right")) for item in used):
            continue
        used.append(here.of("right"))
        joins = last is not None and last.left + last.length == here.left
        if last is not None and joins and last.right + last.length == here.right:
            found[-1] = Segment(last.left, last.right, last.length + here.length)
        else:
            found.append(here)
    return found


def _left_out(side: Side, name: SideName, segments: list[Segment]) -> Iterator[LeftOut]:
    reached = side.range.address
    covered = merge_ranges([item.of(name) for item in segments])
    for item in [*covered, Range(side.range.end, 0)]:
        if item.address > reached:
            where = Range(reached, item.address - reached)
            data = bytes(side.view(where.address, where.length))
            blank = filled_with(data, 0xFF) or filled_with(data, 0)
            yield LeftOut(name, where, blank)
        reached = max(reached, item.end)
