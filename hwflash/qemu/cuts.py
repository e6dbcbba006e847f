"""Power cuts: what a flash holds when the power goes away in the middle of recorded operations.

The operations are those of `hwflash.qemu.trace`, the firmware's own, or those that hwflash plans.
Power is cut after an operation or inside of it. Cuts are few, since real firmware is to be
switched on with each: every phase of what is done gets some, see `chosen`.

A torn program has its first bytes done, or some of its bits. A torn erase leaves half a block,
zeros (NOR flash clears a block before it erases it), or a mixture of old and erased bits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from hwflash.errors import ImageError
from hwflash.uefi.areas import Areas
from hwflash.uefi.flashops import Erase, Operation, Program
from hwflash.uefi.ftw import parse_work_space
from hwflash.uefi.headers import volume_at
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.volume import USUAL_HEADER
from hwflash.uefi.window import Window

#: Long programs are cut at these boundaries too; firmware writes block by block.
_PIECE: Final = 0x1000
#: A program that is longer is more than a small record.
_RECORD: Final = 0x400

#: Says in which phase a flash is, from the operation that was last begun and what there is now.
PhaseOf = Callable[[Program | Erase | None, bytes], str]


@dataclass(frozen=True, slots=True)
class Cut:
    """The flash after a power cut.

    Attributes:
        number: of the cut among all that are possible, in order of time; 0 is before anything.
        phase: what was being done.
        how: ``after`` an operation, or how it was torn.
        where: image offset and bytes of that operation, in words; "" before the first.
        image: what the flash holds.
    """

    number: int
    phase: str
    how: str
    where: str
    image: bytes


def cut_images(
    start: bytes, operations: Sequence[Operation], phase: PhaseOf, *, atomic: bool = False
) -> Iterator[Cut]:
    """Every cut that is different from the one before, in order of time.

    Args:
        start: the flash before, from image offset 0.
        operations: what is done.
        phase: names the phase of each.
        atomic: operations were observed byte by byte, as QEMU's flash carries them out: a
            program is torn between two bytes, an erase not at all.
    """
    now = bytearray(start)
    chance = random.Random(1)  # noqa: S311 - the same mixtures each time
    number = 0
    yield Cut(0, phase(None, start), "after", "", start)
    for step in _pieces(operations):
        at, end = step.range.address, step.range.end
        before = bytes(now[at:end])
        name = "erase" if isinstance(step, Erase) else "program"
        where = f"{name} 0x{at:06X}+0x{end - at:X}"
        done = _done(step, before)
        seen = {before, done}
        for how, content in _torn(step, before, chance, atomic):
            if content in seen and (how != "after" or done == before):
                continue
            seen.add(content)
            now[at:end] = content
            number += 1
            image = bytes(now)
            yield Cut(number, phase(step, image), how, where, image)
        now[at:end] = done


def chosen(phases: Sequence[str], count: int) -> list[int]:
    """Which cuts to try: some of each phase: one in its middle, its first, its last.

    Args:
        phases: the phase of each cut that is possible.
        count: how many; with less than there are phases, some of those are left out.

    Returns:
        Positions in ``phases``, rising.
    """
    groups: dict[str, list[int]] = {}
    for position, name in enumerate(phases):
        groups.setdefault(name, []).append(position)
    queues = [_spread(members) for members in groups.values()]
    if count < len(queues):
        queues = [queues[index * len(queues) // count] for index in range(count)]
    picked: list[int] = []
    for turn in range(max(map(len, queues), default=0)):
        picked += [queue[turn] for queue in queues if turn < len(queue)]
    return sorted(picked[:count])


def some_cuts(
    start: bytes,
    operations: Sequence[Operation],
    phase: PhaseOf,
    count: int,
    *,
    atomic: bool = False,
) -> list[Cut]:
    """`count` of `cut_images`, picked by `chosen`."""
    phases = [cut.phase for cut in cut_images(start, operations, phase, atomic=atomic)]
    wanted = set(chosen(phases, count))
    every = cut_images(start, operations, phase, atomic=atomic)
    return [cut for position, cut in enumerate(every) if position in wanted]


def phase_by_reason(step: Program | Erase | None, _image: bytes) -> str:
    """The phase of an operation that hwflash planned: what it is for."""
    return "before" if step is None else step.why


def in_place(step: Program | Erase | None, _image: bytes) -> str:
    """The phase of writes that bypass the queue: a block that is erased has no copy anywhere."""
    if step is None:
        return "before"
    whole = isinstance(step, Erase) or step.range.length > _RECORD
    return "the block of all variables erased and written again" if whole else "a record written"


class FtwPhase:
    """The phase of a fault-tolerant write of a whole store, as the firmware does it.

    What there is decides, not what was done: the flags of the last queue entry, and which of
    the headers can be read.

    Args:
        areas: where the parts of the volume lie.

    Raises:
        ImageError: there is no work space or no spare area (``ftw.no-work-space``).
    """

    def __init__(self, areas: Areas) -> None:
        if areas.work is None or areas.spare is None:
            raise ImageError("the volume has no FTW work space", code="ftw.no-work-space")
        self._variables, self._work, self._spare = areas.variables, areas.work, areas.spare
        self._done, self._complete, self._erased = 0, False, False

    def __call__(self, step: Program | Erase | None, image: bytes) -> str:
        """The phase of a flash; ``step`` None begins a new change."""
        window = Window(image)
        space = parse_work_space(window, self._work.address, self._work.end)
        done = sum(entry.complete for entry in space.entries)
        if step is None:
            self._done, self._complete, self._erased = done, False, False
        if not space.valid:
            return "work space being renewed"
        entry = space.pending
        if entry is None or not entry.header_allocated:
            # Firmware may begin a new, empty queue later.
            self._complete |= done != self._done
            return "complete" if self._complete else "before"
        record = entry.records[0] if entry.records else None
        if record is None or not record.spare_complete:
            return "spare not complete"
        if record.destination_complete:
            return "destination complete"
        first, last = self._variables.address, self._variables.end
        volume = volume_at(window, first)
        if volume is None or not volume.checksum_ok:
            self._erased = True
            return "volume header erased"
        spare = self._spare.address
        ends = USUAL_HEADER, USUAL_HEADER + STORE_HEADER.size
        header, copy = (image[at + ends[0] : at + ends[1]] for at in (first, spare))
        if header != copy:
            return "store header erased"
        same = image[first:last] == image[spare : spare + last - first]
        if same:
            return "store copied"
        return "headers written, records not" if self._erased else "spare complete"


def _pieces(operations: Sequence[Operation]) -> Iterator[Program | Erase]:
    for step in operations:
        if isinstance(step, Erase):
            yield step
        elif isinstance(step, Program):
            edges = [step.address, *range(step.address - step.address % _PIECE + _PIECE,
                                          step.range.end, _PIECE), step.range.end]  # fmt: skip
            for begin, end in pairwise(edges):
                data = step.data[begin - step.address : end - step.address]
                yield Program(begin, data, step.why)


def _torn(
    step: Program | Erase, before: bytes, chance: random.Random, atomic: bool
) -> Iterator[tuple[str, bytes]]:
    """What can be there when power is cut inside the operation; last, when it is done."""
    after, size = _done(step, before), len(before)
    if isinstance(step, Program):
        # Behind a volume header, and inside of the store header that follows.
        heads = {USUAL_HEADER // 2, USUAL_HEADER, USUAL_HEADER + 10} if size > 0x80 else set[int]()
        for count in sorted({*heads, size // 2}):
            yield f"first {count} bytes", after[:count] + before[count:]
        if not atomic:
            yield "some bits", _and(before, _or(after, chance.randbytes(size)))
    elif not atomic:
        yield "first half", after[: size // 2] + before[size // 2 :]
        yield "cleared, not erased", bytes(size)
        yield "some bits", _or(before, chance.randbytes(size))
    yield "after", after


def _done(step: Program | Erase, before: bytes) -> bytes:
    return b"\xff" * len(before) if isinstance(step, Erase) else _and(before, step.data)


def _and(one: bytes, other: bytes) -> bytes:
    held = int.from_bytes(one, "big") & int.from_bytes(other, "big")
    return held.to_bytes(len(one), "big")


def _or(one: bytes, other: bytes) -> bytes:
    held = int.from_bytes(one, "big") | int.from_bytes(other, "big")
    return held.to_bytes(len(one), "big")


def _spread(members: list[int]) -> list[int]:
    """The middle, first, last, then the middle of the longest stretch without one, and so on."""
    top = len(members) - 1
    order = [top // 2, 0, top]
    stretches = [(0, top // 2), (top // 2, top)]
    while stretches:
        stretches.sort(key=lambda pair: pair[0] - pair[1])
        low, high = stretches.pop(0)
        if high - low < 2:
            break
        middle = (low + high) // 2
        order.append(middle)
        stretches += [(low, middle), (middle, high)]
    return [members[index] for index in dict.fromkeys(order)]
