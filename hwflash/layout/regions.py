"""Named regions of a flash, as a board file, an IFD or an FMAP gives them.

Limits: knows neither erase blocks nor protection of a chip; ``protected`` is what the layout
asks for, not what the chip enforces.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hwflash.errors import ImageError, UsageError
from hwflash.units import Range, format_size, merge_ranges


@dataclass(frozen=True, slots=True)
class Region:
    """A named run of bytes in the flash.

    Attributes:
        name: unique in its map, such as ``bios``.
        range: where it lies, in bytes from the start of the flash.
        protected: it is not to be written unless asked for by name.
        description: one line for people, or "".
    """

    name: str
    range: Range
    protected: bool = False
    description: str = ""


class RegionMap:
    """Regions of one flash, in address order.

    Args:
        regions: the regions, in any order.
        size: bytes of the flash, or None when not known (nothing can then lie outside).
        nested: a region may lie wholly inside another one (as FMAP areas do).

    Raises:
        ImageError: ``layout.duplicate`` two regions of one name, ``layout.empty`` a region
            without bytes, ``layout.outside`` a region that leaves the flash,
            ``layout.overlap`` two regions that share bytes.
    """

    __slots__ = ("_by_name", "_regions", "nested", "size")

    def __init__(
        self, regions: Iterable[Region], size: int | None = None, *, nested: bool = False
    ) -> None:
        # The larger region of two with the same start comes first: a parent before its child.
        self._regions = tuple(
            sorted(regions, key=lambda item: (item.range.address, -item.range.length))
        )
        self._by_name: dict[str, Region] = {}
        self.size = size
        self.nested = nested
        for problem in _problems(self._regions, size, nested=nested):
            raise problem
        self._by_name = {region.name: region for region in self._regions}

    @property
    def regions(self) -> tuple[Region, ...]:
        """All regions in address order, a parent before its children."""
        return self._regions

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def __len__(self) -> int:
        return len(self._regions)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Region:
        """The region of this name.

        Raises:
            UsageError: ``usage.region``; ``context`` has ``name``, ``near`` (similar names)
                and ``known`` (every name).
        """
        region = self._by_name.get(name)
        if region is None:
            known = [item.name for item in self._regions]
            lower = {item.lower(): item for item in known}
            near = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=3)]
            raise UsageError(
                f"there is no region {name!r} in this layout",
                code="usage.region",
                name=name,
                near=near,
                known=known,
            )
        return region

    def at(self, address: int) -> Region | None:
        """The smallest region that has this address, or None."""
        found = [item for item in self._regions if item.range.contains(Range(address, 1))]
        return min(found, key=lambda item: item.range.length, default=None)

    def touching(self, where: Range) -> list[Region]:
        """Every region that shares at least one byte with ``where``, in address order."""
        return [item for item in self._regions if item.range.overlaps(where)]

    def holes(self) -> list[Range]:
        """The runs of bytes that belong to no region, up to the end of the flash.

        Without a known size, only those between the regions.
        """
        found: list[Range] = []
        reached = 0
        for covered in merge_ranges([item.range for item in self._regions]):
            if covered.address > reached:
                found.append(Range(reached, covered.address - reached))
            reached = covered.end
        if self.size is not None and reached < self.size:
            found.append(Range(reached, self.size - reached))
        return found


def find_problems(
    regions: Iterable[Region], size: int | None = None, *, nested: bool = False
) -> list[ImageError]:
    """Everything that is wrong with a set of regions; empty when they make a map.

    Each error names the region it is about in ``context["region"]``, and in
    ``context["other"]`` the one it collides with. See `RegionMap` for the codes.
    """
    return list(_problems(regions, size, nested=nested))


def _problems(regions: Iterable[Region], size: int | None, *, nested: bool) -> Iterator[ImageError]:
    """The same one by one: data that only look like a map have millions."""
    seen: list[Region] = []
    for region in regions:
        yield from _problems_alone(region, size)
        for other in seen:
            if other.name == region.name:
                yield _error("duplicate", "has the name of another region", region)
            if _collide(other.range, region.range, nested=nested):
                yield _error("overlap", f"overlaps {other.name!r} ({other.range})", region, other)
        seen.append(region)


def _problems_alone(region: Region, size: int | None) -> list[ImageError]:
    if region.range.length <= 0:
        return [_error("empty", "has no bytes", region)]
    if region.range.address < 0 or (size is not None and region.range.end > size):
        limit = (
            "address 0" if region.range.address < 0 else f"the flash of {format_size(size or 0)}"
        )
        return [_error("outside", f"reaches beyond {limit}", region)]
    return []


def _collide(one: Range, two: Range, *, nested: bool) -> bool:
    if one.length <= 0 or two.length <= 0 or not one.overlaps(two):
        return False
    return not (nested and (one.contains(two) or two.contains(one)))


def _error(kind: str, text: str, region: Region, other: Region | None = None) -> ImageError:
    return ImageError(
        f"region {region.name!r} ({region.range}) {text}",
        code=f"layout.{kind}",
        region=region.name,
        address=region.range.address,
        length=region.range.length,
        other=other.name if other else None,
    )
