"""Which variables of two sides differ, and which of the differences mean nothing.

Firmware writes some variables at every boot, and some follow from which firmware or which
devices there are. A difference in these is *volatile*: it is told with its reason, and the sides
still count as equal. Everything else matters.

Ref: edk2 MdeModulePkg/Universal/MonotonicCounterRuntimeDxe (MTC),
MdeModulePkg/Library/UefiBootManagerLib: BmMisc.c (MemoryTypeInformation), BmBoot.c (HDDP, options
of the boot manager's own, marked in their optional data). That the console variables are written
at each boot was seen with OVMF and AAVMF 2022.11.
Limits: by name, GUID and value; what a vendor's firmware writes at each boot is not known here, use
``ignore`` for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from hwflash.compare.sides import Alignment, Side, SideName, cut
from hwflash.uefi import guids
from hwflash.uefi.decode import Decoded, decode
from hwflash.uefi.difference import Change, Difference, compare
from hwflash.uefi.exchange import Variable
from hwflash.uefi.find import Found
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.units import Range

#: What the boot manager puts behind options that it makes from devices.
AUTO_CREATED: Final = UUID("8108ac4e-9f11-4d59-850e-e21a522c59b2")
HD_BOOT: Final = UUID("fab7e9e1-39dd-4f2b-8408-e20e906cb6de")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a difference means nothing: a stable word, and a sentence."""

    name: str
    text: str


BOOT_COUNTER: Final = Reason("boot-counter", "the monotonic counter goes up at every boot")
MEMORY_HINT: Final = Reason(
    "memory-hint", "how much memory of each type the last boot used, a hint for the next one"
)
CONSOLE: Final = Reason("console", "firmware writes its list of consoles at every boot")
BOOT_CACHE: Final = Reason("boot-cache", "where the boot manager last found a hard disk's path")
TIMESTAMP: Final = Reason("timestamp", "value and attributes are equal, only the time differs")
OWN_OPTION: Final = Reason(
    "firmware-option", "it starts a module of the firmware that runs, which registers it itself"
)
AUTO_OPTION: Final = Reason(
    "device-option", "the boot manager makes it from the devices it finds at each boot"
)
OPTION_ORDER: Final = Reason(
    "option-order", "without the options that firmware makes itself the order is equal"
)
HOT_KEY: Final = Reason("hot-key", "it names an option that firmware makes itself")

_BY_NAME: Final[Mapping[tuple[str, UUID], Reason]] = {
    ("MTC", guids.MONOTONIC_COUNTER): BOOT_COUNTER,
    ("MemoryTypeInformation", guids.MEMORY_TYPE_INFORMATION): MEMORY_HINT,
    ("ConIn", guids.GLOBAL_VARIABLE): CONSOLE,
    ("ConOut", guids.GLOBAL_VARIABLE): CONSOLE,
    ("ErrOut", guids.GLOBAL_VARIABLE): CONSOLE,
    ("HDDP", HD_BOOT): BOOT_CACHE,
}
_HEX: Final = frozenset("0123456789ABCDEF")
#: Offset of the boot option's number in a hot key: KeyData u32, BootOptionCrc u32.
#: Ref: UEFI 2.10 §3.1.6.
_KEY_OPTION: Final = 8


@dataclass(frozen=True, slots=True)
class Volatile:
    """A difference that means nothing.

    Attributes:
        reason: why.
        left, right: the variable, None on the side that has it not.
        change: what differs, when both have it.
    """

    reason: Reason
    left: Variable | None
    right: Variable | None
    change: Change | None = None

    @property
    def variable(self) -> Variable:
        """The variable, of the side that has it."""
        found = self.left or self.right
        assert found is not None  # noqa: S101 - one side has it
        return found


@dataclass(frozen=True, slots=True)
class VariableDifference:
    """What differs between the variables of two sides.

    Attributes:
        difference: what matters.
        volatile: what does not, in order of names.
        stores: how many pairs of stores were compared.
        notes: what was not compared, and why.
        explained: left offsets of the stores' inside: how records lie in it, which of them are
            dead and what the spare area holds says nothing that the variables do not say.
    """

    difference: Difference = field(default_factory=Difference)
    volatile: tuple[Volatile, ...] = ()
    stores: int = 0
    notes: tuple[str, ...] = ()
    explained: tuple[Range, ...] = ()

    def keys(self) -> dict[str, Any]:
        """The content of ``variables`` of ``hwflash compare --json``."""
        changes = [item.change for item in self.volatile if item.change is not None]
        alone = [item for item in self.volatile if item.change is None]
        sorted_out = Difference(
            tuple(item.left for item in alone if item.left is not None),
            tuple(item.right for item in alone if item.right is not None),
            tuple(changes),
        ).keys()
        reasons = {(item.variable.name, str(item.variable.guid)): item.reason
                   for item in self.volatile}  # fmt: skip
        for entries in sorted_out.values():
            for entry in entries:
                reason = reasons[entry["name"], entry["guid"]]
                entry["class"], entry["reason"] = reason.name, reason.text
        return {
            **self.difference.keys(),
            "volatile": sorted_out,
            "stores": self.stores,
            "notes": list(self.notes),
        }


def compare_variables(
    left: Side, right: Side, alignment: Alignment, ignore: Iterable[str] = ()
) -> VariableDifference:
    """Compare the variables of all stores that both sides should have.

    Args:
        left: one side.
        right: the other.
        alignment: what is compared; a store with no byte in it is left out.
        ignore: names, or ``name:guid``; see `hwflash.uefi.difference.matcher`.

    Raises:
        UsageError: a pattern has something else than a GUID behind its colon (``usage.guid``).
    """
    patterns = tuple(ignore)
    compare((), (), ignore=patterns)  # a bad pattern is told even where there is no store
    only_left: list[Variable] = []
    only_right: list[Variable] = []
    changed: list[Change] = []
    volatile: list[Volatile] = []
    notes = [*_not_compared(left, "left", alignment), *_not_compared(right, "right", alignment)]
    explained: list[Range] = []
    pairs = _pairs(left, right, alignment)
    for one, other in pairs:
        for name, side, found in (("left", left, one), ("right", right, other)):
            if found is None or found.store is None:
                what = "is no variable store" if found is None else "is no store in the volume"
                notes.append(f"there {what} on the {name} side ({side.name}) to compare with")
        ones, others = (list(item.store.live) if item and item.store else []
                        for item in (one, other))  # fmt: skip
        difference = compare(ones, others, ignore=patterns)
        kept, sorted_out = classify(difference, ones, others)
        only_left += kept.only_left
        only_right += kept.only_right
        changed += kept.changed
        volatile += sorted_out
        if one is not None and other is not None:
            explained += _inside(left, right, one, other)
    return VariableDifference(
        Difference(tuple(only_left), tuple(only_right), tuple(changed)),
        tuple(sorted(volatile, key=lambda item: (item.variable.name, str(item.variable.guid)))),
        len(pairs), tuple(notes), tuple(explained),
    )  # fmt: skip


def _not_compared(side: Side, name: SideName, alignment: Alignment) -> Iterator[str]:
    """That the variables of stores of other formats are not compared, in one line."""
    others = [item for item in side.others if any(cut(alignment.segments, name, item.range))]
    if others:
        more = f" and {len(others) - 1} more" if others[1:] else ""
        yield (
            f"{side.name}: only the bytes, and not the variables, are compared of the "
            f"{others[0].title} at 0x{others[0].base:06X}{more} ({name})"
        )


# --- which stores -----------------------------------------------------------------------------


def _pairs(
    left: Side, right: Side, alignment: Alignment
) -> list[tuple[Found | None, Found | None]]:
    """Stores with their counterparts; None where the other side has the place but no store."""
    waiting = [item for item in right.stores if _touched(alignment, "right", item)]
    found: list[tuple[Found | None, Found | None]] = []
    for item in left.stores:
        place = next(cut(alignment.segments, "left", _range(item)), None)
        if place is None:
            continue
        start = place.right - (place.left - item.base)
        hits = [other for other in waiting if other.base == start] or waiting[:1]
        if hits:
            waiting.remove(hits[0])
        found.append((item, hits[0] if hits else None))
    return found + [(None, item) for item in waiting]


def _range(found: Found) -> Range:
    """Where the variables lie: who compares the spare area alone does not ask for them."""
    return found.areas.variables if found.areas.variables.length else Range(found.base, 1)


def _touched(alignment: Alignment, side: SideName, found: Found) -> bool:
    return any(cut(alignment.segments, side, _range(found)))


def _inside(left: Side, right: Side, one: Found, other: Found) -> list[Range]:
    """Left offsets that the comparison of variables explains; none unless both are sound."""
    for item in (one, other):
        if item.store is None or not item.healthy or item.ftw.pending is not None:
            return []
    first, second = _parts(one), _parts(other)
    alike = [(item.address - one.base, item.length) for item in first] == [
        (item.address - other.base, item.length) for item in second
    ]
    return first if alike and left.range.length and right.range.length else []


def _parts(found: Found) -> list[Range]:
    """Where records, log, work space and spare lie: all but the headers of volume and store."""
    areas, store = found.areas, found.store
    assert store is not None  # noqa: S101 - the caller has looked
    start = store.base + STORE_HEADER.size
    parts = [Range(start, max(areas.variables.end - start, 0))]
    return parts + [item for item in (areas.event_log, areas.work, areas.spare) if item is not None]


# --- which differences ------------------------------------------------------------------------


def classify(
    difference: Difference, lefts: Sequence[Any], rights: Sequence[Any]
) -> tuple[Difference, list[Volatile]]:
    """Part what matters from what does not.

    Args:
        difference: what differs.
        lefts: all live variables or records of the left side, for what the orders name.
        rights: likewise.
    """
    options = _own_options(lefts), _own_options(rights)
    found: list[Volatile] = []

    def alone(items: Iterable[Variable], own: Mapping[str, Reason]) -> Iterable[Variable]:
        for item in items:
            reason = _reason_alone(item, own)
            if reason is None:
                yield item
            elif own is options[0]:
                found.append(Volatile(reason, item, None))
            else:
                found.append(Volatile(reason, None, item))

    only_left = tuple(alone(difference.only_left, options[0]))
    only_right = tuple(alone(difference.only_right, options[1]))
    changed: list[Change] = []
    for change in difference.changed:
        reason = _reason_changed(change, options)
        if reason is None:
            changed.append(change)
        else:
            found.append(Volatile(reason, change.left, change.right, change))
    return Difference(only_left, only_right, tuple(changed)), found


def _own_options(items: Iterable[Any]) -> dict[str, Reason]:
    """Boot options that firmware makes itself, by name."""
    found: dict[str, Reason] = {}
    for item in items:
        if item.guid == guids.GLOBAL_VARIABLE and _is_numbered(item.name, "Boot"):
            reason = _own_option(decode(item.name, item.guid, item.data))
            if reason is not None:
                found[item.name] = reason
    return found


def _own_option(value: Decoded) -> Reason | None:
    if value.kind != "load-option":
        return None
    if value.facts["optional_data"] == AUTO_CREATED.bytes_le.hex():
        return AUTO_OPTION
    path = str(value.facts["device_path"])
    inside = path.startswith(("Fv(", "MemoryMapped(")) and "FvFile(" in path
    return OWN_OPTION if inside else None


def _is_numbered(name: str, prefix: str) -> bool:
    """``Boot0001`` and the like."""
    digits = name.removeprefix(prefix)
    return name.startswith(prefix) and len(digits) == 4 and set(digits) <= _HEX


def _reason_alone(item: Variable, own: Mapping[str, Reason]) -> Reason | None:
    """Why it means nothing that only one side has a variable; ``own``: options of that side."""
    reason = _BY_NAME.get(item.key)
    if reason is None and item.guid == guids.GLOBAL_VARIABLE:
        reason = own.get(item.name)
        if item.name == "BootOrder" and all(name in own for name in _order(item)):
            reason = OPTION_ORDER
        if _key_option(item) in own:
            reason = HOT_KEY
    return reason


def _reason_changed(
    change: Change, options: tuple[Mapping[str, Reason], Mapping[str, Reason]]
) -> Reason | None:
    left, right = change.left, change.right
    if "attributes" in change.what:
        return None
    if change.what == ("timestamp",):
        return TIMESTAMP
    if left.key in _BY_NAME:
        return _BY_NAME[left.key]
    if left.guid != guids.GLOBAL_VARIABLE:
        return None
    if left.name in options[0] and left.name in options[1]:
        return options[0][left.name] if left.data[:4] == right.data[:4] else None
    if left.name == "BootOrder":
        rests = [
            [name for name in _order(item) if name not in own]
            for item, own in zip((left, right), options, strict=True)
        ]
        return OPTION_ORDER if rests[0] == rests[1] else None
    if _key_option(left) in options[0] and _key_option(right) in options[1]:
        return HOT_KEY if _key_combination(left) == _key_combination(right) else None
    return None


def _order(item: Variable) -> list[str]:
    value = decode(item.name, item.guid, item.data)
    return [str(name) for name in value.facts.get("order", ())]


def _key_option(item: Variable) -> str | None:
    """The option that a hot key starts."""
    if not _is_numbered(item.name, "Key") or len(item.data) < _KEY_OPTION + 2:
        return None
    return f"Boot{int.from_bytes(item.data[_KEY_OPTION : _KEY_OPTION + 2], 'little'):04X}"


def _key_combination(item: Variable) -> tuple[bytes, bytes]:
    """A hot key without its option and the option's checksum."""
    return item.data[:4], item.data[_KEY_OPTION + 2 :]
