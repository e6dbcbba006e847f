"""Which modules of two firmwares differ.

Volumes that differ are unpacked, those that are equal are not. A module is known by its GUID; of
several with one GUID those with the same content belong together, then those in the same volume.

Without the ``uefi-firmware`` package, or where a volume cannot be unpacked as a whole, the volumes
themselves are told as modules of kind ``volume``, besides the modules that both sides have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hwflash.compare.sides import Alignment, Side, SideName, Volume, cut, pair_up, pair_volumes
from hwflash.compare.unpack import SECONDS, Module, Unpacked, unpack
from hwflash.progress import CancelToken
from hwflash.uefi.guids import NV_VOLUME
from hwflash.uefi.window import printable

#: Names of volumes inside others. Ref: edk2 OvmfPkg/OvmfPkgX64.fdf (FvNameGuid).
_VOLUMES: Final = {
    "6938079b-b503-4e3d-9d24-b28337a25806": "PEIFV",
    "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1": "DXEFV",
}


@dataclass(frozen=True, slots=True)
class ModuleChange:
    """A module that both sides have, and not alike.

    Attributes:
        left, right: the module on either side.
        what: kinds of sections that differ, or ``content``.
    """

    left: Module
    right: Module
    what: tuple[str, ...]

    def keys(self) -> dict[str, Any]:
        """The change as scripts get it."""
        return {
            "name": self.left.label,
            "guid": self.left.guid,
            "kind": self.left.kind,
            "what": list(self.what),
            "left": module_keys(self.left),
            "right": module_keys(self.right),
        }


@dataclass(frozen=True, slots=True)
class ModuleDifference:
    """What differs between the modules of two sides, sorted by name and GUID.

    Attributes:
        level: ``modules``, or ``volumes`` where something could not be unpacked, or ``none``
            when no volume differs.
        notes: why something was not unpacked.
    """

    level: str = "none"
    only_left: tuple[Module, ...] = ()
    only_right: tuple[Module, ...] = ()
    changed: tuple[ModuleChange, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether no module differs."""
        return not (self.only_left or self.only_right or self.changed)

    def keys(self) -> dict[str, Any]:
        """The content of ``modules`` of ``hwflash compare --json``."""
        return {
            "level": self.level,
            "only_left": [module_keys(item) for item in self.only_left],
            "only_right": [module_keys(item) for item in self.only_right],
            "changed": [item.keys() for item in self.changed],
            "notes": list(self.notes),
        }


def module_keys(item: Module) -> dict[str, Any]:
    """A module as scripts get it."""
    return {
        "name": item.label,
        "guid": item.guid,
        "kind": item.kind,
        "size": item.size,
        "sha256": item.sha256,
        "volume": "/".join(item.volume),
        "sections": [
            {"kind": part.kind, "size": part.size, "sha256": part.sha256} for part in item.sections
        ],
    }


def compare_modules(
    left: Side,
    right: Side,
    alignment: Alignment,
    *,
    seconds: float = SECONDS,
    cancel: CancelToken | None = None,
) -> ModuleDifference:
    """Compare the modules of all volumes that both sides should have.

    Args:
        left: one side.
        right: the other.
        alignment: what is compared; a volume with no byte in it is left out.
        seconds: the most that unpacking may take.
        cancel: a request to stop.

    Raises:
        Interrupted: a stop was asked for.
    """
    pairs = [
        (one, other)
        for one, other in pair_volumes(left, right)
        if _differs(left, right, one, other)
        and (_touched(alignment, "left", one) or _touched(alignment, "right", other))
    ]
    both = [(one, other) for one, other in pairs if one is not None and other is not None]
    unpacked = unpack(
        [
            [left.view(one.range.address, one.range.length) for one, _ in both],
            [right.view(other.range.address, other.range.length) for _, other in both],
        ],
        seconds,
        cancel,
    )
    collected = _Collected(left, right)
    for (one, other), first, second in zip(both, *unpacked, strict=True):
        collected.pair(one, other, first, second)
    for one, other in pairs:
        if other is None and one is not None:
            collected.lefts.append(_whole(left, one))
        elif one is None and other is not None:
            collected.rights.append(_whole(right, other))
    return collected.result()


class _Collected:
    """What volumes have brought together."""

    def __init__(self, left: Side, right: Side) -> None:
        self.sides = (left, right)
        self.lefts: list[Module] = []
        self.rights: list[Module] = []
        self.notes: list[str] = []

    def pair(self, one: Volume, other: Volume, first: Unpacked, second: Unpacked) -> None:
        """Volumes that belong together."""
        for side, volume, result in zip(self.sides, (one, other), (first, second), strict=True):
            if result.fault:
                where = f"{volume.label} at 0x{volume.range.address:06X} of {side.name}"
                self.notes.append(f"{where}: {result.fault}")
        lefts = [_named(item, one) for item in first.modules or ()]
        rights = [_named(item, other) for item in second.modules or ()]
        if first.fault or second.fault:
            # What was not reached on one side would seem to be only on the other one.
            common = {item.guid for item in lefts} & {item.guid for item in rights}
            lefts = [item for item in lefts if item.guid in common]
            rights = [item for item in rights if item.guid in common]
            lefts.append(_whole(self.sides[0], one))
            rights.append(_whole(self.sides[1], other))
        self.lefts += lefts
        self.rights += rights

    def result(self) -> ModuleDifference:
        changed, only_left, only_right = match(self.lefts, self.rights)
        everything = [*self.lefts, *self.rights]
        level = "volumes" if any(item.kind == "volume" for item in everything) else "modules"
        return ModuleDifference(
            level if everything or self.notes else "none",
            _ordered(only_left), _ordered(only_right),
            tuple(sorted(changed, key=lambda item: _order(item.left))),
            tuple(dict.fromkeys(self.notes)),
        )  # fmt: skip


def match(
    lefts: Sequence[Module], rights: Sequence[Module]
) -> tuple[list[ModuleChange], list[Module], list[Module]]:
    """Changed modules, and those that only one side has."""

    def content(item: Module) -> tuple[str, str]:
        return item.guid, item.sha256

    def place(item: Module) -> tuple[str, tuple[str, ...]]:
        return item.guid, item.volume

    def guid(item: Module) -> str:
        return item.guid

    keys = [(content, content), (place, place), (guid, guid)]
    pairs, only_left, only_right = pair_up(lefts, rights, keys)
    changes = [
        ModuleChange(one, other, _what(one, other))
        for one, other in pairs
        if one.sha256 != other.sha256
    ]
    return changes, only_left, only_right


def _what(one: Module, other: Module) -> tuple[str, ...]:
    """Kinds of sections that one module has and the other has not alike."""
    sides = [{(part.kind, part.sha256) for part in item.sections} for item in (one, other)]
    kinds = sorted({kind for kind, _ in sides[0] ^ sides[1]})
    return tuple(kinds) or ("order of sections" if one.sections else "content",)


def _differs(left: Side, right: Side, one: Volume | None, other: Volume | None) -> bool:
    """Whether a pair is code, and not the same on both sides."""
    if NV_VOLUME in [item.file_system for item in (one, other) if item is not None]:
        return False  # its variables are compared
    if one is None or other is None:
        return True
    here, there = one.range, other.range
    return left.view(here.address, here.length) != right.view(there.address, there.length)


def _touched(alignment: Alignment, side: SideName, volume: Volume | None) -> bool:
    return volume is not None and any(cut(alignment.segments, side, volume.range))


def _whole(side: Side, volume: Volume) -> Module:
    """A volume as a module."""
    where = volume.range
    digest = hashlib.sha256(side.view(where.address, where.length)).hexdigest()
    return Module(str(volume.key), volume.label, "volume", where.length, digest)


def _named(item: Module, outer: Volume) -> Module:
    """A module with printable names, and the name of the volume it was unpacked from."""
    inner = [_VOLUMES.get(name, name) for name in item.volume]
    name = printable(item.name) if item.name else None
    return replace(item, name=name, volume=(outer.label, *inner))


def _ordered(items: Iterable[Module]) -> tuple[Module, ...]:
    return tuple(sorted(items, key=_order))


def _order(item: Module) -> tuple[str, str, tuple[str, ...]]:
    return item.label.lower(), item.guid, item.volume
