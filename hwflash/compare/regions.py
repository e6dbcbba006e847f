"""Which regions of two images differ.

The regions are those of the side that knows more of the bytes in common; what no region has is
told by its volume, and what has no volume either as ``other``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwflash.compare.bytes import count
from hwflash.compare.sides import Alignment, Segment, Side, SideName, cut
from hwflash.errors import UsageError
from hwflash.layout.regions import Region, RegionMap
from hwflash.units import Range, merge_ranges


@dataclass(frozen=True, slots=True)
class RegionResult:
    """A region, and whether it differs.

    Attributes:
        name: of the region.
        description: one line for people, or "".
        left, right: image offsets of its first byte that both sides have.
        length: bytes that both sides have of it.
        bytes_differing: of them.
        significant: bytes that differ and are not explained otherwise, see
            `hwflash.compare.variables`.
    """

    name: str
    description: str
    left: int
    right: int
    length: int
    bytes_differing: int
    significant: int

    @property
    def equal(self) -> bool:
        """Whether no byte differs."""
        return self.bytes_differing == 0

    def keys(self) -> dict[str, Any]:
        """The region as scripts get it."""
        return {
            "name": self.name,
            "equal": self.equal,
            "bytes_differing": self.bytes_differing,
            "bytes_significant": self.significant,
            "length": self.length,
            "left": self.left,
            "right": self.right,
            "description": self.description,
        }


def parts_of(side: Side) -> RegionMap:
    """Regions, the volumes outside of them, and the rest of an image, all of it together."""
    found = [item for item in side.regions if side.range.overlaps(item.range)]
    names = {item.name for item in found}
    known = [item.range for item in found]
    for volume in side.volumes:
        if not any(volume.range.overlaps(item) for item in known):
            label = _unique(volume.label, volume.range.address, names)
            found.append(Region(label, volume.range, description="firmware volume"))
    reached = side.range.address
    ends = [*merge_ranges([item.range for item in found]), Range(side.range.end, 0)]
    for item in ends:
        if item.address > reached:
            alone = item.address == side.range.end and reached == side.range.address
            name = "image" if alone else "other"
            gap = Range(reached, item.address - reached)
            found.append(Region(_unique(name, gap.address, names), gap))
        reached = max(reached, item.end)
    return RegionMap(found, nested=True)


def reference_side(left: Side, right: Side, alignment: Alignment) -> SideName:
    """The side whose regions say more of the bytes that both have."""

    def named(side: Side, name: SideName) -> int:
        parts = merge_ranges([item.range for item in side.regions])
        return sum(item.length for part in parts for item in cut(alignment.segments, name, part))

    return "right" if named(right, "right") > named(left, "left") else "left"


def compare_regions(
    left: Side, right: Side, alignment: Alignment, explained: Sequence[Range]
) -> tuple[RegionResult, ...]:
    """Every region that both sides have something of, in order.

    Args:
        left: one side.
        right: the other.
        alignment: what is compared.
        explained: left offsets whose bytes are not told as differences of their own.
    """
    name = reference_side(left, right, alignment)
    found: list[RegionResult] = []
    for region in parts_of(left if name == "left" else right):
        segments = list(cut(alignment.segments, name, region.range))
        if not segments:
            continue
        differing = count(left, right, segments)
        known = count(left, right, inside(segments, explained)) if differing else 0
        found.append(
            RegionResult(
                region.name, region.description, segments[0].left, segments[0].right,
                sum(item.length for item in segments), differing, differing - known,
            )
        )  # fmt: skip
    return tuple(found)


def inside(segments: Sequence[Segment], places: Sequence[Range]) -> list[Segment]:
    """The parts of segments that lie in ranges of the left side."""
    merged = merge_ranges(list(places))
    return [part for place in merged for part in cut(segments, "left", place)]


def narrowed(left: Side, right: Side, alignment: Alignment, names: Sequence[str]) -> Alignment:
    """Only these regions.

    Raises:
        UsageError: no region of this name, or not in both sides (``usage.region``).
    """
    if not names:
        return alignment
    side = reference_side(left, right, alignment)
    first, second = (left, right) if side == "left" else (right, left)
    other: SideName = "right" if side == "left" else "left"
    parts, further = parts_of(first), parts_of(second)
    found: list[Segment] = []
    for name in dict.fromkeys(names):
        hits: list[Segment] = []
        if name in parts:
            hits = list(cut(alignment.segments, side, parts[name].range))
        if not hits and name in further:
            hits = list(cut(alignment.segments, other, further[name].range))
        if not hits and name in (*_names(parts), *_names(further)):
            raise UsageError(
                f"only one side has the region {name!r}", code="usage.region", name=name, near=[],
                known=[item for item in _names(parts) if item in further],
            )  # fmt: skip
        # Where neither has it, this raises, with the names that there are.
        found += hits or cut(alignment.segments, side, parts[name].range)
    spans = merge_ranges([item.of("left") for item in found])
    kept = [part for span in spans for part in cut(alignment.segments, "left", span)]
    return Alignment(alignment.how, tuple(kept))


def _names(parts: RegionMap) -> list[str]:
    return [item.name for item in parts]


def _unique(name: str, address: int, names: set[str]) -> str:
    found = name if name not in names and name != "other" else f"{name}-{address:06x}"
    while found in names:
        found += "+"
    names.add(found)
    return found
