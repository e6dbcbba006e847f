"""Bytes that differ: how many, and where.

Two images are nearly always equal in nearly all places, so equal blocks are passed over as fast
as memory can be read; the others are looked at through one exclusive or.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from hwflash.compare.sides import Segment, Side
from hwflash.units import KIB

#: Bytes compared at once.
BLOCK: Final = 64 * KIB
#: Differences with no more equal bytes between them are told as one.
GAP: Final = 15
#: Runs that are kept; all are counted.
RUN_LIMIT: Final = 4096

_RUN: Final = re.compile(rb"[^\0]+(?:\0{1,%d}[^\0]+)*" % GAP)


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes that differ, with few equal ones between them.

    Attributes:
        left, right: image offsets of the first byte, which differs; so does the last one.
        length: in bytes.
        differing: how many of them differ.
    """

    left: int
    right: int
    length: int
    differing: int


@dataclass(frozen=True, slots=True)
class Runs:
    """Where two sides differ.

    Attributes:
        runs: the first ones, in order of the left offsets.
        total: how many there are.
        differing: bytes that differ, in all of them.
    """

    runs: tuple[Run, ...]
    total: int
    differing: int


def count(left: Side, right: Side, segments: Iterable[Segment]) -> int:
    """How many bytes of some segments differ."""
    return sum(
        len(mask) - mask.count(0) for _, mask in _masks(left, right, segments) if mask is not None
    )


def find_runs(left: Side, right: Side, segments: Iterable[Segment]) -> Runs:
    """Where some segments differ."""
    found: list[Run] = []
    total = differing = 0
    last: Run | None = None
    for place, mask in _masks(left, right, segments):
        for match in _RUN.finditer(mask or b""):
            here = match.group()
            changed = len(here) - here.count(0)
            differing += changed
            at = Run(place.left + match.start(), place.right + match.start(), len(here), changed)
            if last is not None and _near(last, at):
                at = Run(last.left, last.right, at.left + at.length - last.left,
                         last.differing + changed)  # fmt: skip
                if total <= RUN_LIMIT:
                    found[-1] = at
            else:
                total += 1
                if total <= RUN_LIMIT:
                    found.append(at)
            last = at
    return Runs(tuple(found), total, differing)


def cells(left: Side, right: Side, segments: Iterable[Segment], size: int) -> dict[int, int]:
    """How many bytes differ in each ``size`` bytes of the left side that have any, by number."""
    found: dict[int, int] = {}
    for place, mask in _masks(left, right, segments):
        if mask is None:
            continue
        start = place.left
        while start < place.left + place.length:
            number = start // size
            end = min((number + 1) * size, place.left + place.length)
            part = mask[start - place.left : end - place.left]
            changed = len(part) - part.count(0)
            if changed:
                found[number] = found.get(number, 0) + changed
            start = end
    return found


def _near(last: Run, at: Run) -> bool:
    """Whether two runs, the second from the next block, are one."""
    gap = at.left - (last.left + last.length)
    return 0 <= gap <= GAP and at.right - at.left == last.right - last.left


def _masks(
    left: Side, right: Side, segments: Iterable[Segment]
) -> Iterator[tuple[Segment, bytes | None]]:
    """Blocks of segments with the exclusive or of both sides, None where they are equal."""
    for item in segments:
        one, other = left.view(item.left, item.length), right.view(item.right, item.length)
        for start in range(0, item.length, BLOCK):
            here, there = one[start : start + BLOCK], other[start : start + BLOCK]
            place = Segment(item.left + start, item.right + start, len(here))
            if here == there:
                yield place, None
                continue
            mask = int.from_bytes(here, "little") ^ int.from_bytes(there, "little")
            yield place, mask.to_bytes(len(here), "little")
