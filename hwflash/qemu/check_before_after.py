"""The check ``before-after``: what boots change in the flash, from the log of every operation.

A first boot from the template, and the usual one after it.

Limits: what the firmware of Debian 12 does (OVMF and AAVMF 2022.11): a usual boot counts itself
and writes its console variables anew. AAVMF erases the whole block of the variable area for
that; OVMF never does outside of a reclaim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hwflash.qemu import trace
from hwflash.qemu.boot_setup import BootOptions
from hwflash.qemu.check import Bench, Step, equal, store_of
from hwflash.qemu.check_variables import boot_counter, counted, store_healthy
from hwflash.uefi.difference import compare
from hwflash.uefi.exchange import Variable
from hwflash.uefi.find import Found, find_stores
from hwflash.uefi.flashops import Program
from hwflash.uefi.window import Window, printable

#: Variables whose value a usual boot may change: its counter, and what it finds attached.
OWN: Final = (
    "MTC:MtcVendor", "MemoryTypeInformation", "ConIn:EfiGlobalVariable",
    "ConOut:EfiGlobalVariable", "ErrOut:EfiGlobalVariable",
)  # fmt: skip
_NAMED: Final = 12
_BLOCK: Final = 0x1000


@dataclass(frozen=True, slots=True)
class Boot:
    """A boot, as its flash saw it.

    Attributes:
        before: content of the guest's own unit at power-on.
        after: the same when it had been switched off.
        operations: everything that was done to it in between, in order.
    """

    before: bytes
    after: bytes
    operations: tuple[trace.Primitive, ...]


def before_after(bench: Bench) -> Generator[Step]:
    """Two boots, each held against the log of its operations."""
    first = _watched(bench, bench.template())
    blank = not find_stores(Window(first.before[: store_of(first.after).length]))
    yield from _sound("first", first)
    yield _places("first", first, everywhere=blank)
    if not blank:
        yield _lost("first", first)
    usual = _watched(bench, first.after)
    yield from _sound("usual", usual)
    yield _places("usual", usual, everywhere=False)
    yield _lost("usual", usual)
    yield _values(usual)
    yield _records(usual)
    yield counted("usual-boot-counted", boot_counter(usual.before), usual.after)


def _watched(bench: Bench, image: bytes) -> Boot:
    with bench.shell(image, BootOptions(operations=True)) as (guest, shell):
        guest.power_off(shell)
        return Boot(image, guest.image(), guest.operations().operations)


# --- steps --------------------------------------------------------------------------------------


def _sound(name: str, boot: Boot) -> Generator[Step]:
    """The log is the whole truth, and a NOR chip could have done all of it."""
    before = Window(boot.before)
    same = trace.replayed(before, boot.operations).data == boot.after
    count = f"{len(boot.operations):,} operations"
    yield Step(
        f"{name}-log-complete", same, "the operations lead to what the flash holds",
        count if same else f"{count} lead to something else",
    )  # fmt: skip
    found = trace.impossible_programs(before, boot.operations)
    told = "; ".join(str(item) for item in found[:3]) or "none"
    yield equal(f"{name}-bits-set", "none", told)
    yield store_healthy(f"{name}-store-healthy", boot.after)


def _places(name: str, boot: Boot, *, everywhere: bool) -> Step:
    """What was programmed and erased, by the parts of the volume."""
    found = store_of(boot.after)
    touched: dict[str, list[int]] = {}
    for step in boot.operations:
        counts = touched.setdefault(_part(found, step.range.address), [0, 0])
        if isinstance(step, Program):
            counts[0] += len(step.data)
        else:
            counts[1] += 1
    told = ", ".join(
        f"{part}: {programmed:,} bytes programmed, {erased} blocks erased"
        for part, (programmed, erased) in sorted(touched.items())
    )
    differing = _differing(boot.before, boot.after)
    allowed = {"vars", "ftw-work", "ftw-spare"} if everywhere else {"vars"}
    expected = "nothing outside of the volume" if everywhere else "the variable area only"
    return Step(
        f"{name}-regions", set(touched) <= allowed, expected, f"{told or 'nothing'}; "
        f"{differing:,} bytes differ",
    )  # fmt: skip


def _differing(before: bytes, after: bytes) -> int:
    """How many bytes differ; block by block, as AAVMF's unit has 64 MiB and few that do."""
    count = abs(len(before) - len(after))
    for at in range(0, len(before), _BLOCK):
        one, other = before[at : at + _BLOCK], after[at : at + _BLOCK]
        if one != other:
            count += sum(x != y for x, y in zip(one, other, strict=False))
    return count


def _part(found: Found, address: int) -> str:
    areas = found.areas
    for name, part in (
        ("vars", areas.variables), ("event-log", areas.event_log), ("ftw-work", areas.work),
        ("ftw-spare", areas.spare),
    ):  # fmt: skip
        if part is not None and part.address <= address < part.end:
            return name
    return "elsewhere"


def _lost(name: str, boot: Boot) -> Step:
    """No boot may lose a variable; that it makes some is its business."""
    found = compare(_live(boot.before), _live(boot.after))
    gone = _names(found.only_left)
    made = _names(found.only_right)
    return Step(
        f"{name}-variables", not gone, "none is lost",
        f"lost: {gone}" if gone else f"new: {made}" if made else "the same",
    )  # fmt: skip


def _values(boot: Boot) -> Step:
    """Values that a usual boot changes."""
    every = compare(_live(boot.before), _live(boot.after))
    other = compare(_live(boot.before), _live(boot.after), ignore=OWN)
    told = _names(item.left for item in every.changed) or "none"
    foreign = _names([*(item.left for item in other.changed), *other.only_right])
    return Step(
        "usual-values", not foreign, "only the firmware's own for a boot change",
        f"changed or new: {foreign}" if foreign else told,
    )  # fmt: skip


def _records(boot: Boot) -> Step:
    """Records that a boot wrote, by variable: also those it retired again at once."""
    old = store_of(boot.before).store
    new = store_of(boot.after).store
    known = {(item.offset, item.key) for item in (old.records if old is not None else ())}
    written = [
        item for item in (new.records if new is not None else ())
        if (item.offset, item.key) not in known
    ]  # fmt: skip
    counts = Counter(item.name for item in written)
    told = ", ".join(f"{printable(name)} {count}" for name, count in sorted(counts.items()))
    size = sum(item.size for item in written)
    return Step(
        "usual-records", counts["MTC"] == 1, "MTC once", f"{told or 'none'}: {size:,} bytes"
    )


def _live(image: bytes) -> Sequence[Variable]:
    store = store_of(image).store
    return [] if store is None else [Variable.of(item) for item in store.live]


def _names(items: Iterable[Variable]) -> str:
    names = [printable(item.name) for item in items]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
