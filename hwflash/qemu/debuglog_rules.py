"""How one message of a debug log is read: a pattern, and the event that it makes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from hwflash.qemu import debuglog_events as events
from hwflash.qemu.debuglog_events import Value

#: Characters of a fact that is text; edk2's DebugLib cuts a message at 256.
LONGEST: Final = 256
_GUID: Final = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_HEX: Final = r"[0-9A-Fa-f]{1,16}(?![0-9A-Fa-f])"
_NUMBER: Final = r"(?:0x[0-9A-Fa-f]{1,16}|[0-9]{1,20})(?![0-9A-Fa-f])"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one message is read.

    Names of groups end in how their text is read: ``_g`` a GUID, ``_x`` a hexadecimal number,
    ``_d`` a decimal one, ``_n`` either, by its ``0x``; anything else is text.

    Attributes:
        pattern: of the message, from its marker on.
        make: the event, or the name of what the reader does with it (`hwflash.qemu.debuglog`).
        constants: facts that the message means without saying them.
        words: of a `Message`, with its facts in braces.
        wrong: of a `Message`: an error.
        places: names of a `Message`'s facts that may differ between two boots.
    """

    pattern: re.Pattern[str]
    make: type[events.Event] | str
    constants: Mapping[str, str]
    words: str = ""
    wrong: bool = False
    places: frozenset[str] = frozenset()

    def read(self, text: str, start: int) -> dict[str, Value] | None:
        """The facts of the message at ``start``, or None if it is not this one."""
        match = self.pattern.match(text, start)
        if match is None:
            return None
        found = match.groupdict()
        return {_bare(name): _value(name, item) for name, item in found.items() if item is not None}


def _bare(name: str) -> str:
    return name[:-2] if name[-2:] in _READERS else name


def _number(text: str) -> int:
    return int(text, 16) if text[:2] == "0x" else int(text)


def _hexadecimal(text: str) -> int:
    return int(text, 16)


_READERS: Final[Mapping[str, Callable[[str], Value]]] = {
    "_g": UUID,
    "_x": _hexadecimal,
    "_d": int,
    "_n": _number,
}


def _value(name: str, text: str) -> Value:
    reader = _READERS.get(name[-2:])
    return reader(text) if reader is not None else text.rstrip()


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern whose ``<g:NAME>``, ``<x:NAME>``, ``<d:NAME>``, ``<n:NAME>`` and ``<NAME>`` are
    groups: a GUID, a hexadecimal, decimal or C number, and text.
    """
    shapes = {"g": _GUID, "x": _HEX, "d": r"[0-9]{1,20}", "n": _NUMBER}

    def group(match: re.Match[str]) -> str:
        kind, name = match[1], match[2]
        return f"(?P<{name}_{kind}>{shapes[kind]})" if kind else f"(?P<{name}>.{{1,{LONGEST}}}?)"

    return re.compile(re.sub(r"(?<!\?P)<(?:([gxdn]):)?([a-z_]+)>", group, pattern))


def rule(pattern: str, make: type[events.Event] | str, **constants: str) -> Rule:
    """A rule with the shorthand of `compile_pattern`."""
    return Rule(compile_pattern(pattern), make, constants)


def say(
    area: str, code: str, pattern: str, words: str, *, wrong: bool = False, places: str = ""
) -> Rule:
    """A rule that makes a `Message`; ``places`` names facts, between blanks."""
    constants = {"area": area, "code": code}
    hidden = frozenset(places.split())
    return Rule(compile_pattern(pattern), events.Message, constants, words, wrong, hidden)
