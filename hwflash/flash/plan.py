"""The planner: the cheapest way from what a flash holds to what it should hold.

It knows what NOR flash is: a change that only clears bits needs no erase, pages of FF need no
programming, an erase takes its neighbours along, and larger blocks erase faster per byte. The
result is a value that can be printed, stored, executed and resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from hwflash.errors import ImageError, UsageError
from hwflash.flash.device import EraseBlock, Geometry, clip
from hwflash.units import Range, merge_ranges


@dataclass(frozen=True, slots=True)
class Window:
    """A run of flash whose old and new content is known in full.

    Attributes:
        address: its start, at the start of an erase block.
        old: what the flash holds.
        new: what it should hold; as long as ``old``.
        dirty: ranges whose erase was cut short: they must be erased whatever they read as.
    """

    address: int
    old: bytes
    new: bytes
    dirty: tuple[Range, ...] = ()

    @property
    def range(self) -> Range:
        """Where it is."""
        return Range(self.address, len(self.new))


@dataclass(frozen=True, slots=True)
class Step:
    """One erase, or the programming of one run of bytes.

    Attributes:
        kind: ``erase`` or ``program``.
        range: what it touches.
        seconds: predicted time.
    """

    kind: str
    range: Range
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a write will do, in order.

    Attributes:
        part: the chip it was made for.
        size: the chip's size in bytes.
        windows: where content is known; nothing outside is touched.
        steps: erases and programs, by address; a block's programs follow its erase.
        sha256: hash of the new content of all windows, one after the other.
    """

    part: str
    size: int
    windows: tuple[Range, ...]
    steps: tuple[Step, ...]
    sha256: str

    @property
    def changed(self) -> list[Range]:
        """What the steps touch, joined."""
        return merge_ranges([step.range for step in self.steps])

    @property
    def seconds(self) -> float:
        """Predicted time of all steps, without verification."""
        return sum(step.seconds for step in self.steps)

    def bytes_of(self, kind: str) -> int:
        """Bytes that the steps of a kind touch."""
        return sum(step.range.length for step in self.steps if step.kind == kind)

    def erases(self) -> dict[int, int]:
        """How many erases of which size."""
        counts: dict[int, int] = {}
        for step in self.steps:
            if step.kind == "erase":
                counts[step.range.length] = counts.get(step.range.length, 0) + 1
        return counts

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON-ready data; `from_dict` reads it back."""
        return {
            "part": self.part,
            "size": self.size,
            "sha256": self.sha256,
            "seconds": round(self.seconds, 6),
            "windows": [_range_dict(window) for window in self.windows],
            "steps": [
                {"kind": step.kind, **_range_dict(step.range), "seconds": round(step.seconds, 6)}
                for step in self.steps
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """The plan that `as_dict` described.

        Raises:
            ImageError: the data are not a plan (``plan.damaged``).
        """
        try:
            steps = cast("list[dict[str, Any]]", data["steps"])
            return cls(
                part=str(data["part"]),
                size=int(data["size"]),
                windows=tuple(_range_of(item) for item in data["windows"]),
                steps=tuple(
                    Step(_kind(item["kind"]), _range_of(item), float(item["seconds"]))
                    for item in steps
                ),
                sha256=str(data["sha256"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            raise ImageError("the stored plan is damaged", code="plan.damaged") from exc


def content_hash(contents: Sequence[bytes]) -> str:
    """SHA-256 over several pieces, one after the other."""
    digest = hashlib.sha256()
    for piece in contents:
        digest.update(piece)
    return digest.hexdigest()


def windows_for(
    targets: Sequence[Range], geometry: Geometry, kept: Sequence[Range] = ()
) -> list[Range]:
    """What must be known of the old content before a change of ``targets`` can be planned.

    Args:
        targets: what will change.
        geometry: the flash.
        kept: what must not even be erased and put back; no window grows into it.

    Each target grows to whole smallest erase blocks. Where it fills so much of a larger
    block that erasing that block at once would be quicker, it grows to that block.
    """
    found: list[Range] = []
    for target in merge_ranges(list(targets)):
        window = geometry.align(target)
        for end in (target.address, target.end - 1):
            blocks = geometry.blocks_at(end)
            smallest = blocks[0].kind
            for block in blocks[1:]:
                if any(block.range.overlaps(item) for item in kept):
                    break
                covered = _overlap(window, block.range)
                if covered * smallest.time.typical > block.kind.time.typical * smallest.size:
                    window = _join(window, block.range)
        found.append(window)
    return merge_ranges(found)


def make_plan(
    part: str, geometry: Geometry, windows: Sequence[Window], kept: Sequence[Range] = ()
) -> Plan:
    """Plan the change of all windows from old to new.

    Args:
        part: name of the chip, for the record.
        geometry: the flash.
        windows: what is known, aligned as `windows_for` gives it; in order of address.
        kept: what must not be erased, not even to be put back.

    Raises:
        UsageError: a smallest erase block that must be erased holds bytes to be kept
            (``usage.shared-block``).
    """
    planner = _Planner(geometry, kept)
    steps: list[Step] = []
    for window in windows:
        steps += planner.plan(window)
    return Plan(
        part=part,
        size=geometry.size,
        windows=tuple(window.range for window in windows),
        steps=tuple(steps),
        sha256=content_hash([window.new for window in windows]),
    )


@dataclass(slots=True)
class _Choice:
    """The best way found for a run of flash: its cost and its steps."""

    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list[Step])

    def add(self, other: _Choice) -> None:
        self.seconds += other.seconds
        self.steps += other.steps


class _Planner:
    def __init__(self, geometry: Geometry, kept: Sequence[Range]) -> None:
        self._geometry = geometry
        self._kept = kept

    def plan(self, window: Window) -> list[Step]:
        best = self._by_blocks(window)
        geometry = self._geometry
        whole = window.range == Range(0, geometry.size) and not self._kept
        if whole and geometry.chip_erase is not None and any(s.kind == "erase" for s in best.steps):
            at_once = self._erased(window, window.range, geometry.chip_erase.typical)
            if at_once.seconds < best.seconds:
                best = at_once
        return best.steps

    def _by_blocks(self, window: Window) -> _Choice:
        choice = _Choice()
        address = window.address
        while address < window.range.end:
            block = self._largest_inside(window, address)
            choice.add(self._best(window, block))
            address = block.range.end
        return choice

    def _largest_inside(self, window: Window, address: int) -> EraseBlock:
        blocks = self._geometry.blocks_at(address)
        inside = [
            block
            for block in blocks
            if block.range.address == address and window.range.contains(block.range)
        ]
        return inside[-1] if inside else blocks[0]

    def _best(self, window: Window, block: EraseBlock) -> _Choice:
        """The cheapest way for one block: as it is, erased whole, or by its smaller blocks."""
        target = block.range
        start = target.address - window.address
        old = window.old[start : start + target.length]
        new = window.new[start : start + target.length]
        if not any(target.overlaps(item) for item in window.dirty):
            if old == new:
                return _Choice()
            if not self._needs_erase(old, new):
                return self._programmed(target.address, old, new)
        smaller = self._smaller(block)
        if any(target.overlaps(item) for item in self._kept):
            if not smaller:
                raise UsageError(
                    f"the erase block {target} must be erased, and holds bytes to be kept",
                    code="usage.shared-block",
                    address=target.address,
                    length=target.length,
                )
            return self._sum(window, smaller)
        whole = self._erased(window, target, block.kind.time.typical)
        if not smaller:
            return whole
        parts = _Choice()
        for part in smaller:
            parts.add(self._best(window, part))
            if parts.seconds >= whole.seconds:
                return whole
        return parts

    def _sum(self, window: Window, blocks: Sequence[EraseBlock]) -> _Choice:
        choice = _Choice()
        for block in blocks:
            choice.add(self._best(window, block))
        return choice

    def _smaller(self, block: EraseBlock) -> list[EraseBlock]:
        region = self._geometry.region_at(block.range.address)
        below = [kind for kind in region.types if kind.size < block.kind.size]
        if not below:
            return []
        kind = below[-1]
        found: list[EraseBlock] = []
        address = block.range.address
        while address < block.range.end:
            piece = clip(region, kind, address)
            found.append(EraseBlock(piece, kind))
            address = piece.end
        return found

    def _needs_erase(self, old: bytes, new: bytes) -> bool:
        if not self._geometry.reprogram:
            return any(
                old[page.address : page.end] != new[page.address : page.end]
                and old[page.address : page.end].count(0xFF) != page.length
                for page in self._geometry.pages(Range(0, len(old)))
            )
        before = int.from_bytes(old, "little")
        return before | int.from_bytes(new, "little") != before

    def _programmed(self, address: int, old: bytes, new: bytes) -> _Choice:
        """Program only the bytes that differ, page by page."""
        choice = _Choice()
        for page in self._geometry.pages(Range(address, len(new))):
            part = slice(page.address - address, page.end - address)
            first, last = _differing(old[part], new[part])
            if first <= last:
                changed = Range(page.address + first, last - first + 1)
                self._append(choice, changed)
        return choice

    def _erased(self, window: Window, target: Range, seconds: float) -> _Choice:
        """Erase a block and program everything in it that is not FF."""
        choice = _Choice(seconds, [Step("erase", target, seconds)])
        for page in self._geometry.pages(target):
            start = page.address - window.address
            content = window.new[start : start + page.length]
            if content.count(0xFF) != page.length:
                self._append(choice, page)
        return choice

    def _append(self, choice: _Choice, changed: Range) -> None:
        """Add a page program, joined to the one before where it follows it."""
        seconds = self._geometry.page_seconds(changed.length)
        choice.seconds += seconds
        last = choice.steps[-1] if choice.steps else None
        if last is not None and last.kind == "program" and last.range.end == changed.address:
            joined = Range(last.range.address, last.range.length + changed.length)
            choice.steps[-1] = Step("program", joined, last.seconds + seconds)
        else:
            choice.steps.append(Step("program", changed, seconds))


def _differing(old: bytes, new: bytes) -> tuple[int, int]:
    """First and last index at which two equally long pieces differ; (0, -1) if none."""
    if old == new:
        return 0, -1
    difference = int.from_bytes(old, "big") ^ int.from_bytes(new, "big")
    first = len(old) - (difference.bit_length() + 7) // 8
    trailing_zero_bits = (difference & -difference).bit_length() - 1
    return first, len(old) - 1 - trailing_zero_bits // 8


def _overlap(one: Range, other: Range) -> int:
    return max(0, min(one.end, other.end) - max(one.address, other.address))


def _join(one: Range, other: Range) -> Range:
    start = min(one.address, other.address)
    return Range(start, max(one.end, other.end) - start)


def _range_dict(item: Range) -> dict[str, int]:
    return {"address": item.address, "length": item.length}


def _range_of(item: Any) -> Range:
    found = Range(int(item["address"]), int(item["length"]))
    if found.address < 0 or found.length <= 0:
        raise ValueError("a range below zero")
    return found


def _kind(text: Any) -> str:
    if text not in ("erase", "program"):
        raise ValueError("not a kind of step")
    return text
