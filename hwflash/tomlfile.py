"""TOML files that people edit: reading one, and every fault of it with its place.

Used for board files and job files; their forms are pydantic models.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, cast, get_args

from pydantic import BaseModel

from hwflash.board_rules import Fault

#: Bytes; nobody writes more by hand.
FILE_LIMIT: Final = 1 << 20


def read_toml(file: Path | Traversable, what: str) -> tuple[dict[str, Any] | None, list[Fault]]:
    """The tables of a file, or what keeps it from being read.

    Args:
        file: where.
        what: what it should be, such as ``board file``.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
    except (OSError, ValueError) as error:
        text = (isinstance(error, OSError) and error.strerror) or str(error)
        return None, [Fault("", f"cannot be read: {text}")]
    if len(content) > FILE_LIMIT:
        return None, [Fault("", f"is larger than 1 MiB, this is no {what}")]
    try:
        return tomllib.loads(content.decode("utf-8")), []
    except UnicodeDecodeError as error:
        return None, [Fault("", f"is not UTF-8 text (byte {error.start})")]
    except RecursionError:
        return None, [Fault("", "is no usable TOML: nested too deeply")]
    except ValueError as error:  # TOMLDecodeError, and numbers too long for Python
        match = re.search(r"\(at line (\d+), column \d+\)$", str(error))
        return None, [Fault(f"line {match[1]}" if match else "", f"is no valid TOML: {error}")]


def model_fault(error: Mapping[str, Any], form: type[BaseModel]) -> Fault:
    """An error of pydantic in words; a key that is not known is told with the nearest one.

    Args:
        error: one of ``ValidationError.errors()``.
        form: the model that the file was held against.
    """
    path = ""
    for part in cast("Sequence[str | int]", error["loc"]):
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    if error["type"] == "missing":
        return Fault(path, "is missing")
    if error["type"] == "extra_forbidden":
        *parents, key = error["loc"]
        near = difflib.get_close_matches(str(key), _keys_at(form, parents), n=1)
        return Fault(path, "is not known" + (f"; did you mean {near[0]!r}?" if near else ""))
    message = str(error["msg"]).removeprefix("Value error, ")
    return Fault(path, message[:1].lower() + message[1:])


def _keys_at(form: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    table = form
    for key in path:
        if isinstance(key, str) and key in table.model_fields:
            table = _table_in(table.model_fields[key].annotation) or table
    return list(table.model_fields)


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _table_in(part))), None)
