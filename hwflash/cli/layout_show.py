"""What ``layout`` tells of a map that the image itself, a board or a file gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwflash.units import format_size

if TYPE_CHECKING:
    from hwflash.layout.ifd import Descriptor
    from hwflash.layout.regions import RegionMap


def map_keys(kind: str | None, regions: RegionMap | None, found: Descriptor | None) -> Any:
    """The keys of a map: where it is from, its holes, and what a descriptor tells besides."""
    if kind is None or regions is None:
        return None
    keys: dict[str, Any] = {
        "kind": kind,
        "holes": [{"address": hole.address, "length": hole.length} for hole in regions.holes()],
        "overlaps": [list(pair) for pair in overlaps(regions)],
    }
    if found is not None:
        keys["descriptor"] = {
            "version": found.version,
            "components": list(found.components),
            "masters": [
                {"name": item.name, "read": list(item.read), "write": list(item.write)}
                for item in found.masters
            ],
            "notes": list(found.notes),
        }
    return keys


def map_lines(kind: str | None, regions: RegionMap | None, found: Descriptor | None) -> list[str]:
    """The same for people."""
    if kind is None or regions is None:
        return []
    lines = ["", f"  {_NAMES[kind]}"]
    if found is not None:
        chips = " + ".join(format_size(size) for size in found.components) or "no chip"
        lines[-1] += f", version {found.version}, {chips}"
        for item in found.masters:
            read, write = " ".join(item.read) or "nothing", " ".join(item.write) or "nothing"
            lines.append(f"    {item.name} may read {read}; may write {write}")
        lines += [f"    note: {note}" for note in found.notes]
    lines += [f"    {one} lies in {other}" for one, other in overlaps(regions)]
    lines += [f"    in no region: {hole}" for hole in regions.holes()]
    return lines


_NAMES = {
    "ifd": "Intel flash descriptor",
    "fmap": "FMAP",
    "board": "regions of the board file",
    "file": "regions of the layout file",
}


def overlaps(regions: RegionMap) -> list[tuple[str, str]]:
    """Regions that lie in another: (inner, the smallest outer)."""
    found: list[tuple[str, str]] = []
    items = list(regions)
    for index, inner in enumerate(items):
        around = [
            other
            for place, other in enumerate(items)
            if place != index
            and other.range.contains(inner.range)
            and (other.range != inner.range or place < index)
        ]
        if around:
            outer = min(around, key=lambda item: item.range.length)
            found.append((inner.name, outer.name))
    return found
