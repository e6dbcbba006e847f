"""Placeholders in the values of a job file: ``{serial}``, ``{mac:-}``, ``{csv.column}``.

``{mac}`` has colons, ``{mac:-}`` another separator, ``{mac:}`` none; ``{MAC}`` has capitals and
``{mac+1}`` is the unit's second address. ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from hwflash.errors import UsageError

_TOKEN: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_MAC: Final = re.compile(r"(mac|MAC)(?:\+(\d{1,3}))?(?::([^0-9A-Za-z{}]?))?")


@dataclass(frozen=True, slots=True)
class UnitValues:
    """What placeholders stand for, for one unit.

    Attributes:
        serial: its serial number.
        macs: its MAC addresses.
        row: its line of the CSV file, by column.
        unit: its number in this run, from 1.
        chip: identity of its chip; "" when it has none.
    """

    serial: str | None = None
    macs: tuple[int, ...] = ()
    row: Mapping[str, str] = field(default_factory=dict[str, str])
    unit: int = 1
    chip: str = ""


def mac_text(address: int, separator: str = ":") -> str:
    """A MAC address as it is written, in small letters."""
    digits = f"{address:012x}"
    return separator.join(digits[at : at + 2] for at in range(0, 12, 2))


def placeholders(text: str) -> list[str]:
    """What stands in braces.

    Raises:
        UsageError: a brace without its partner (``job.placeholder``).
    """
    found: list[str] = []
    for token in _TOKEN.finditer(text):
        if token[0] in ("{", "}"):
            raise _bad(f"a {token[0]!r} at column {token.start() + 1} has no partner", text)
        if token[1] is not None:
            found.append(token[1])
    return found


def fill(text: str, values: UnitValues) -> str:
    """Text with its placeholders filled in.

    Raises:
        UsageError: one that is not known here (``job.placeholder``).
    """
    placeholders(text)

    def put(token: re.Match[str]) -> str:
        return token[0][0] if token[1] is None else _value(token[1], values)

    return _TOKEN.sub(put, text)


def _value(name: str, values: UnitValues) -> str:
    if name == "serial" and values.serial is not None:
        return values.serial
    if name == "unit":
        return str(values.unit)
    if name == "chip":
        return values.chip
    if name.startswith("csv.") and name[4:] in values.row:
        return values.row[name[4:]]
    match = _MAC.fullmatch(name)
    if match is not None and int(match[2] or 0) < len(values.macs):
        separator = ":" if match[3] is None else match[3]
        text = mac_text(values.macs[int(match[2] or 0)], separator)
        return text.upper() if match[1] == "MAC" else text
    raise _bad(f"{{{name}}} stands for nothing here", name)


def _bad(message: str, text: str) -> UsageError:
    return UsageError(message, code="job.placeholder", text=text)
