"""What differs between the variables of two stores."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import translate
from typing import Any, Final
from uuid import UUID

from hwflash.uefi.decode import Decoded, decode
from hwflash.uefi.exchange import Variable, Variables, variables_of
from hwflash.uefi.guids import guid_name, parse_guid
from hwflash.uefi.records import attribute_names
from hwflash.uefi.window import printable

#: Parts of a load option that are compared one by one, and their names for people.
_OPTION_PARTS: Final = {
    "description": "description",
    "attributes": "attributes",
    "device_path": "device path",
    "optional_data": "optional data",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A variable that both sides have, and not alike.

    Attributes:
        left, right: the variable on either side.
        what: which of ``attributes``, ``timestamp`` and ``data`` differ.
        left_text, right_text: the values in words.
        added: entries that only the right value has: of a boot order, of the instances of a
            device path, of a signature database, of flags.
        removed: entries that only the left one has.
        reordered: the values have the same entries in another order.
        details: sentences for people on what differs inside the values.
    """

    left: Variable
    right: Variable
    what: tuple[str, ...]
    left_text: str
    right_text: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reordered: bool = False
    details: tuple[str, ...] = ()

    def keys(self) -> dict[str, Any]:
        """The change as scripts get it."""
        return {
            "name": self.left.name,
            "guid": str(self.left.guid),
            "vendor": guid_name(self.left.guid),
            "what": list(self.what),
            "left": _side(self.left, self.left_text),
            "right": _side(self.right, self.right_text),
            "added": list(self.added),
            "removed": list(self.removed),
            "reordered": self.reordered,
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two sides, each part sorted by name and GUID."""

    only_left: tuple[Variable, ...] = ()
    only_right: tuple[Variable, ...] = ()
    changed: tuple[Change, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether both sides have the same variables."""
        return not (self.only_left or self.only_right or self.changed)

    def keys(self) -> dict[str, Any]:
        """The content of ``variables`` of ``hwflash compare --json``."""
        return {
            "only_left": [_entry(item) for item in self.only_left],
            "only_right": [_entry(item) for item in self.only_right],
            "changed": [item.keys() for item in self.changed],
        }


def compare(left: Variables, right: Variables, *, ignore: Iterable[str] = ()) -> Difference:
    """Compare variables by name and GUID.

    Args:
        left: a store (its live variables), records or variables. Of several of one name and
            GUID the first counts, as for the firmware.
        right: likewise.
        ignore: names, or ``name:guid``; see `matcher`.

    Raises:
        UsageError: a pattern has something else than a GUID behind its colon
            (``usage.guid``).
    """
    ignored = matcher(ignore)
    one, other = (
        {item.key: item for item in reversed(variables_of(side)) if not ignored(item)}
        for side in (left, right)
    )
    changes = [_change(one[key], other[key]) for key in _ordered(one) if key in other]
    return Difference(
        tuple(one[key] for key in _ordered(one) if key not in other),
        tuple(other[key] for key in _ordered(other) if key not in one),
        tuple(change for change in changes if change is not None),
    )


def matcher(patterns: Iterable[str]) -> Callable[[Variable], bool]:
    """Whether a variable is meant by one of the patterns.

    A pattern is a name with ``*``, ``?`` and ``[...]`` as in file names, and ``#`` for a
    capital hexadecimal digit, as in ``Boot####``. Behind a colon a GUID may follow, or its
    well-known name: ``*:MtcVendor``. Names are told apart by case.

    Raises:
        UsageError: what follows the last colon is no GUID (``usage.guid``).
    """
    tests: list[tuple[re.Pattern[str], UUID | None]] = []
    for pattern in patterns:
        name, colon, vendor = pattern.rpartition(":")
        guid = parse_guid(vendor) if colon else None
        glob = translate((name if colon else pattern).replace("#", "[0-9A-F]"))
        tests.append((re.compile(glob), guid))

    def matches(item: Variable) -> bool:
        return any(guid in (None, item.guid) and test.match(item.name) for test, guid in tests)

    return matches


def _ordered(items: Iterable[tuple[str, UUID]]) -> list[tuple[str, UUID]]:
    return sorted(items, key=lambda key: (key[0], str(key[1])))


def _change(left: Variable, right: Variable) -> Change | None:
    what = tuple(
        part
        for part in ("attributes", "timestamp", "data")
        if getattr(left, part) != getattr(right, part)
    )
    if not what:
        return None
    one, other = _decoded(left), _decoded(right)
    if "data" not in what:
        return Change(left, right, what, one.summary, other.summary)
    before, after = _entries(one), _entries(other)
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reordered = False
    if before is not None and after is not None:
        added, removed = _beyond(after, before), _beyond(before, after)
        reordered = before != after and not (added or removed)
    details = [f"added {entry}" for entry in added] + [f"removed {entry}" for entry in removed]
    details += ["the same entries in another order"] if reordered else []
    details += _option_details(one, other)
    return Change(left, right, what, one.summary, other.summary, added, removed, reordered,
                  tuple(details))  # fmt: skip


def _beyond(these: list[str], those: list[str]) -> tuple[str, ...]:
    """Entries of the first list that the second lacks, each as often as it lacks it."""
    spare = Counter(those)
    found: list[str] = []
    for entry in these:
        if spare[entry]:
            spare[entry] -= 1
        else:
            found.append(entry)
    return tuple(found)


def _entries(value: Decoded) -> list[str] | None:
    """What a value is a list of, or None."""
    if value.fault:
        return None
    if value.kind == "option-order":
        return [str(name) for name in value.facts["order"]]
    if value.kind == "signature-database":
        return [_signature(fact) for fact in value.facts["signatures"]]
    if value.kind == "flags":
        return [str(name) for name in value.facts["flags"]]
    if value.kind == "device-path":
        return list(value.lines) or [value.summary]
    return None


def _signature(fact: dict[str, Any]) -> str:
    """A signature in a line that no other one has."""
    if "subject" in fact:
        subject = printable(fact["subject"])
        return f"certificate {subject} (sha256 {fact['sha256']}, owner {fact['owner']})"
    return f"{fact['type']} {fact['data']} (owner {fact['owner']})"


def _option_details(left: Decoded, right: Decoded) -> list[str]:
    if left.kind != "load-option" or right.kind != "load-option":
        return []
    return [
        f"{words}: {_word(left.facts[key])} -> {_word(right.facts[key])}"
        for key, words in _OPTION_PARTS.items()
        if left.facts[key] != right.facts[key]
    ]


def _word(value: Any) -> str:
    if isinstance(value, int):
        return f"0x{value:08X}"
    return printable(str(value)) or "none"


def _decoded(item: Variable) -> Decoded:
    value = decode(item.name, item.guid, item.data)
    if not value.fault or value.kind != "bytes":
        return value
    # The fault names an image offset, which a variable by itself has not.
    text = item.data[:16].hex(" ") + (" ..." if len(item.data) > 16 else "")
    return replace(value, summary=text or "no bytes")


def _entry(item: Variable) -> dict[str, Any]:
    return {
        "name": item.name,
        "guid": str(item.guid),
        "vendor": guid_name(item.guid),
        **_side(item, _decoded(item).summary),
    }


def _side(item: Variable, text: str) -> dict[str, Any]:
    return {
        "attributes": attribute_names(item.attributes),
        "timestamp": None if item.timestamp.is_zero else str(item.timestamp),
        "size": len(item.data),
        "sha256": hashlib.sha256(item.data).hexdigest(),
        "text": text,
    }
