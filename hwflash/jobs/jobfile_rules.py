"""What must hold in a job file beyond the type of each value; other files are not looked at.

The rules look at the tables that are well-formed, so that they also find their faults in a file
that has wrong types elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeVar, cast

from pydantic import ValidationError

from hwflash.board_rules import Fault
from hwflash.errors import UsageError
from hwflash.jobs import jobfile_form as form
from hwflash.jobs.job_numbers import mac_fault, serial_text
from hwflash.jobs.job_values import texts
from hwflash.jobs.placeholders import placeholders
from hwflash.uefi.decode import vendor_of

T = TypeVar("T", bound=form.Table)

_MAC_NAME: Final = re.compile(r"(?:mac|MAC)(?:\+(\d{1,3}))?(?::[^0-9A-Za-z{}]?)?")
#: Keys of a table of numbers that one source has a use for.
_ONLY: Final = {
    "counter": ("format", "start", "last", "step"),
    "csv": ("column",),
    "command": ("command", "timeout"),
}

#: Keys that a table can be judged without: a fault in one hides no other.
_SPARE: Final[dict[type[form.Table], frozenset[str]]] = {
    form.JobTable: frozenset(form.JobTable.model_fields) - {"name"},
    form.ImageTable: frozenset({"sha256"}),
    form.RegionTable: frozenset({"sha256"}),
    form.CsvTable: frozenset({"policy"}),
    form.VariableTable: frozenset({"attributes", "force"}),
    form.AfterTable: frozenset({"timeout", "meaning"}),
}


@dataclass(frozen=True, slots=True)
class Parts:
    """The tables of a job file that are well-formed; lists with the index of each.

    Attributes:
        raw: the file as TOML has it.
    """

    raw: Mapping[str, Any]
    job: form.JobTable | None
    image: form.ImageTable | None
    region: list[tuple[int, form.RegionTable]]
    variable: list[tuple[int, form.VariableTable]]
    bytes: list[tuple[int, form.BytesTable]]
    csv: form.CsvTable | None
    serial: form.SerialTable | None
    mac: form.MacTable | None
    after: list[tuple[int, form.AfterTable]]


def parts_of(raw: Mapping[str, Any]) -> Parts:
    """Take a file apart."""
    return Parts(
        raw,
        _table(raw, "job", form.JobTable),
        _table(raw, "image", form.ImageTable),
        _tables(raw, "region", form.RegionTable),
        _tables(raw, "variable", form.VariableTable),
        _tables(raw, "bytes", form.BytesTable),
        _table(raw, "csv", form.CsvTable),
        _table(raw, "serial", form.SerialTable),
        _table(raw, "mac", form.MacTable),
        _tables(raw, "after", form.AfterTable),
    )


def rule_faults(parts: Parts) -> list[Fault]:
    """Every rule that a file breaks."""
    rules = (_content, _values, _names, _numbers, _counters, _use, _policy, _steps)
    return list(chain.from_iterable(rule(parts) for rule in rules))


def _table(raw: Mapping[str, Any], key: str, kind: type[T]) -> T | None:
    return _valid(raw.get(key), kind)


def _tables(raw: Mapping[str, Any], key: str, kind: type[T]) -> list[tuple[int, T]]:
    value = raw.get(key)
    items = cast("list[Any]", value) if isinstance(value, list) else []
    found = ((index, _valid(item, kind)) for index, item in enumerate(items))
    return [(index, item) for index, item in found if item is not None]


def _valid(value: object, kind: type[T]) -> T | None:
    if value is None:
        return None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        bad = {str(item["loc"][0]) for item in error.errors() if item["loc"]}
        spare = _SPARE.get(kind, frozenset()) | (bad - kind.model_fields.keys())
    if not isinstance(value, dict) or not bad or bad - spare:
        return None
    table = cast("dict[str, Any]", value)
    try:
        return kind.model_validate({key: table[key] for key in table if key not in bad})
    except ValidationError:
        return None


def _content(parts: Parts) -> Iterator[Fault]:
    if not any(parts.raw.get(key) for key in ("image", "region", "variable", "bytes")):
        yield Fault("", "has nothing to write: no image, region, variable or bytes")
    image = parts.image
    if image is not None and image.at is not None and image.regions:
        yield Fault("image.at", "is given, though image.regions say where the image belongs")
    seen = {name: f"image.regions[{at}]" for at, name in enumerate(image.regions if image else [])}
    for index, item in parts.region:
        if item.name in seen:
            yield Fault(f"region[{index}].name", f"is {item.name}, which {seen[item.name]} is too")
        seen.setdefault(item.name, f"region[{index}]")


def _values(parts: Parts) -> Iterator[Fault]:
    for path, value in values_of(parts):
        given = value.given()
        if isinstance(value, form.VariableTable) and value.delete:
            if given:
                yield Fault(f"{path}.{given[0]}", "is given, though the variable shall be deleted")
        elif not given:
            yield Fault(path, f"has no value: it takes one of {', '.join(form.FORMS)}")
        elif len(given) > 1:
            yield Fault(path, f"has {len(given)} values: {', '.join(given)}")
        for key, text in texts(value):
            yield from _placeholders(parts, f"{path}.{key}", text, ())


def values_of(parts: Parts) -> list[tuple[str, form.Value]]:
    """Variables and bytes with their paths."""
    found: list[tuple[str, form.Value]] = []
    found += [(f"variable[{index}]", item) for index, item in parts.variable]
    found += [(f"bytes[{index}]", item) for index, item in parts.bytes]
    return found


def _placeholders(parts: Parts, path: str, text: str, more: Sequence[str]) -> Iterator[Fault]:
    try:
        names = placeholders(text)
    except UsageError as error:
        yield Fault(path, error.message)
        return
    for name in names:
        role = "mac" if _MAC_NAME.fullmatch(name) else name.partition(".")[0]
        if name in more:
            continue
        if role not in ("serial", "mac", "csv") or (role == "serial" and name != role):
            yield Fault(path, f"has {{{name}}}, which stands for nothing here")
        elif role not in parts.raw:
            yield Fault(path, f"has {{{name}}}, but there is no [{role}]")
        elif role == "mac" and parts.mac is not None:
            match = _MAC_NAME.fullmatch(name)
            if match is not None and int(match[1] or 0) >= parts.mac.increment:
                yield Fault(path, f"has {{{name}}}, but mac.increment is {parts.mac.increment}")


def _names(parts: Parts) -> Iterator[Fault]:
    seen: dict[tuple[str, str], int] = {}
    for index, item in parts.variable:
        owner = item.guid or str(vendor_of(item.name) or "")
        if not owner:
            yield Fault(f"variable[{index}].guid", f"is missing: nobody knows whose {item.name} is")
        if (item.name, owner) in seen:
            first = seen[item.name, owner]
            yield Fault(f"variable[{index}].name", f"is {item.name}, as variable[{first}] is")
        seen.setdefault((item.name, owner), index)


def _numbers(parts: Parts) -> Iterator[Fault]:
    columns = False
    for role, table in _number_tables(parts):
        columns = columns or table.source == "csv"
        for source, keys in _ONLY.items():
            for key in keys:
                if source != table.source and key in table.model_fields_set:
                    yield Fault(f"{role}.{key}", f'has no use when the source is "{table.source}"')
        if table.source == "csv":
            if table.column is None:
                yield Fault(f"{role}.column", "is missing")
            if "csv" not in parts.raw:
                yield Fault(f"{role}.source", 'is "csv", but there is no [csv]')
        if table.source == "command":
            if table.command is None:
                yield Fault(f"{role}.command", "is missing")
            for at, word in enumerate(table.command or []):
                for name in _braces(word):
                    if name not in ("unit", "chip"):
                        where = f"{role}.command[{at}]"
                        yield Fault(where, f"has {{{name}}}, which stands for nothing here")
    bad = {role for role in ("serial", "mac") if role in parts.raw} - dict(
        _number_tables(parts)
    ).keys()
    if parts.csv is not None and parts.csv.key is None and not columns and not bad:
        yield Fault("csv.key", "is missing: which column tells the lines apart")


def _braces(text: str) -> list[str]:
    try:
        return placeholders(text)
    except UsageError:
        return [text]


def _number_tables(parts: Parts) -> list[tuple[str, form.NumberTable]]:
    found: list[tuple[str, form.NumberTable | None]] = [
        ("serial", parts.serial), ("mac", parts.mac)
    ]  # fmt: skip
    return [(role, table) for role, table in found if table is not None]


def _counters(parts: Parts) -> Iterator[Fault]:
    serial, mac = parts.serial, parts.mac
    if serial is not None and serial.source == "counter":
        if serial.start is None:
            yield Fault("serial.start", "is missing: where the counter begins")
        for key in ("start", "last"):
            position = getattr(serial, key)
            if position is not None and serial_text(serial, position) is None:
                text = f"is {position}, which has more digits than {serial.format}"
                yield Fault(f"serial.{key}", text)
        if serial.start is not None and serial.last is not None and serial.last < serial.start:
            yield Fault("serial.last", f"is {serial.last}, below serial.start")
    if mac is not None and mac.source == "counter":
        for key in ("start", "last"):
            address = getattr(mac, key)
            if address is None:
                yield Fault(f"mac.{key}", "is missing: the first and the last address of the block")
            elif fault := mac_fault(address, mac):
                yield Fault(f"mac.{key}", fault)
        if mac.start is not None and mac.last is not None:
            if mac.last < mac.start + mac.increment - 1:
                yield Fault("mac.last", "is too low for one unit")
            elif mac.last >> 24 != mac.start >> 24:
                yield Fault("mac.last", "has other first three octets than mac.start")


def _use(parts: Parts) -> Iterator[Fault]:
    every = [text for _, value in values_of(parts) for _, text in texts(value)]
    every += [word for _, item in parts.after for word in item.command]
    known = " ".join(name for text in every for name in _braces(text))
    # A value with faults of its own may be the one that would use it.
    whole = all(
        len(getattr(parts, key)) == len(parts.raw.get(key, []))
        for key in ("variable", "bytes", "after")
        if isinstance(parts.raw.get(key, []), list)
    )
    for role, words in (("serial", ("serial",)), ("mac", ("mac", "MAC"))):
        table = getattr(parts, role)
        if table is not None and whole and not any(word in known for word in words):
            yield Fault(role, f"is given, but no value has {{{role}}}")


def _policy(parts: Parts) -> Iterator[Fault]:
    first: tuple[str, str] | None = None
    for role, table in (("serial", parts.serial), ("mac", parts.mac), ("csv", parts.csv)):
        if table is None or table.policy is None:
            continue
        if first is not None and table.policy != first[1]:
            text = f"is {table.policy}, but {first[0]} is {first[1]}: the numbers of a unit"
            yield Fault(f"{role}.policy", f"{text} stay together")
        first = first or (f"{role}.policy", table.policy)


def _steps(parts: Parts) -> Iterator[Fault]:
    for index, item in parts.after:
        for at, word in enumerate(item.command):
            path = f"after[{index}].command[{at}]"
            yield from _placeholders(parts, path, word, ("unit", "chip"))
        for code in sorted(set(item.ok) & set(item.warning)):
            yield Fault(f"after[{index}].warning", f"has {code}, which after[{index}].ok has too")
        for code in item.meaning:
            if int(code) > 255:
                yield Fault(f"after[{index}].meaning.{code}", "is no exit code: they end at 255")
