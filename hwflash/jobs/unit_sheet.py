"""The CSV file of a job: a line of column names, then a line for each unit.

UTF-8, comma-separated, quoted as in RFC 4180; spaces around a value are dropped, empty lines left
out. Limits: 64 MiB.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hwflash.errors import ImageError
from hwflash.jobs.jobfile_form import to_mac

SIZE_LIMIT: Final = 64 << 20
#: More faults of one file help nobody.
FAULTS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Line:
    """A line: its number in the file, from 1, and its values by column."""

    number: int
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a CSV file says.

    Attributes:
        name: of the file.
        columns: their names.
        lines: for the units.
        faults: what is wrong with it.
    """

    name: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    faults: tuple[str, ...]


def read_sheet(path: Path, identities: Mapping[str, str]) -> Sheet:
    """Read a CSV file; every fault is listed, none raised.

    Args:
        path: the file.
        identities: columns that must not repeat, with their roles: ``mac`` columns hold MAC
            addresses, however they are written.
    """
    try:
        table = list(_parsed(_content(path)))
    except (OSError, ValueError, csv.Error) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        return Sheet(str(path), (), (), (f"{path} cannot be read: {text}",))
    columns = tuple(table[0][1]) if table else ()
    faults: list[str] = [] if columns else [f"{path} is empty"]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    faults += [f"{path} has column {name!r} twice" for name in doubled]
    faults += [
        f"{path} has no column {name!r}; it has {', '.join(columns)}"
        for name in identities
        if columns and name not in columns
    ]
    lines: list[Line] = []
    for number, cells in table[1:]:
        if len(cells) != len(columns):
            faults.append(f"line {number} of {path} has {len(cells)} values, not {len(columns)}")
        else:
            lines.append(Line(number, dict(zip(columns, cells, strict=True))))
    if not lines and not faults:
        faults.append(f"{path} has no line for a unit")
    faults += _repeated(path, lines, {k: v for k, v in identities.items() if k in columns})
    return Sheet(str(path), columns, tuple(lines), tuple(_shortened(path, faults)))


def require_sound(sheet: Sheet) -> None:
    """Refuse a file with faults.

    Raises:
        ImageError: it has some (``serial.csv``).
    """
    if sheet.faults:
        raise ImageError(
            "; ".join(sheet.faults[:3]), code="serial.csv", file=sheet.name,
            faults=list(sheet.faults),
        )  # fmt: skip


def identity(role: str, value: str) -> str:
    """What makes a value the same as another: of MAC addresses the digits.

    Raises:
        ValueError: it is no value at all.
    """
    if not value:
        raise ValueError("is empty")
    if not value.isprintable():
        raise ValueError("has a character that cannot be printed")
    return f"{to_mac(value):012x}" if role == "mac" else value


def _content(path: Path) -> str:
    with path.open("rb") as stream:
        content = stream.read(SIZE_LIMIT + 1)
    if len(content) > SIZE_LIMIT:
        raise ValueError("it is larger than 64 MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from error
    if "\0" in text:
        raise ValueError("it has a NUL: this is no text")
    return text


def _parsed(content: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    for cells in reader:
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            yield reader.line_num, stripped


def _repeated(path: Path, lines: list[Line], identities: Mapping[str, str]) -> Iterator[str]:
    for column, role in identities.items():
        seen: dict[str, int] = {}
        for line in lines:
            value = line.values[column]
            try:
                key = identity(role, value)
            except ValueError as error:
                yield f"line {line.number} of {path}: {column} {value!r} {error}"
                continue
            if key in seen:
                first = seen[key]
                yield f"line {line.number} of {path} has {column} {value!r}, as line {first} has"
            seen.setdefault(key, line.number)


def _shortened(path: Path, faults: list[str]) -> list[str]:
    if len(faults) <= FAULTS_SHOWN:
        return faults
    return [*faults[:FAULTS_SHOWN], f"and {len(faults) - FAULTS_SHOWN} more faults in {path}"]
