"""QEMU's option strings: ``key=value,key=value``, where a comma in a value is doubled.

Tried with QEMU 7.2.22.
Limits: keys with dots stay flat (``file.driver``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final, cast

from hwflash.errors import UsageError

_TRUE: Final = ("on", "yes", "true", "y")
_FALSE: Final = ("off", "no", "false", "n")
#: What comes before the first colon, when no slash does: QEMU takes it for a protocol.
_PROTOCOL: Final = re.compile(r"[^:/]*:")
#: The same behind any number of "./", so that one more of them can be taken off again.
_GUARDED: Final = re.compile(r"(?:\./)*[^:/]*:")
#: JSON that nests deeper is no node of QEMU's.
_DEPTH: Final = 8


def join(pairs: Iterable[tuple[str, str]], first: str | None = None) -> str:
    """An option string.

    Args:
        pairs: keys and values in order.
        first: a value without key that comes first, such as a machine type.
    """
    parts = [escape(first)] if first is not None else []
    parts += [f"{key}={escape(value)}" for key, value in pairs]
    return ",".join(parts)


def escape(value: str) -> str:
    """A value with its commas doubled."""
    return value.replace(",", ",,")


def split(text: str, first: str | None = None) -> dict[str, str]:
    """The keys and values of an option string; of a key given twice, the last.

    A key without value is ``on``; ``nokey`` without value stays as it is.

    Args:
        text: the string.
        first: the key that a first part without ``=`` belongs to.
    """
    found: dict[str, str] = {}
    for place, part in enumerate(_parts(text)):
        key, equals, value = part.partition("=")
        if equals:
            found[key] = value
        elif place == 0 and first is not None:
            found[first] = part
        elif part:
            found[key] = "on"
    return found


def _parts(text: str) -> list[str]:
    """Cut at single commas; two commas are one in the text."""
    parts, at = [""], 0
    while at < len(text):
        if text[at] != ",":
            stop = text.find(",", at)
            stop = len(text) if stop < 0 else stop
            parts[-1] += text[at:stop]
            at = stop
        elif text[at : at + 2] == ",,":
            parts[-1] += ","
            at += 2
        else:
            parts.append("")
            at += 1
    return parts


def to_bool(value: str, what: str) -> bool:
    """An on/off value.

    Raises:
        UsageError: neither (``usage.qemu-args``).
    """
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise UsageError(f"{what}={value!r} is neither on nor off", code="usage.qemu-args", option=what)


def from_json(text: str) -> dict[str, str]:
    """A JSON option value, as ``-blockdev`` takes it, with nested keys made flat.

    Raises:
        UsageError: no JSON object (``usage.qemu-args``).
    """
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_json(text) from error
    if not isinstance(value, dict):
        raise _bad_json(text)
    found: dict[str, str] = {}
    _flatten(cast("dict[str, Any]", value), "", found, _DEPTH, text)
    return found


def _flatten(
    value: dict[str, Any], prefix: str, found: dict[str, str], depth: int, text: str
) -> None:
    if not depth:
        raise _bad_json(text)
    for key, item in value.items():
        if isinstance(item, dict):
            _flatten(cast("dict[str, Any]", item), f"{prefix}{key}.", found, depth - 1, text)
        elif isinstance(item, bool):
            found[prefix + key] = "on" if item else "off"
        elif isinstance(item, (str, int, float)):
            found[prefix + key] = str(item)


def guard_protocol(path: str) -> str:
    """A file name for ``-drive file=``, where ``a:b`` would mean the protocol ``a``."""
    return f"./{path}" if _GUARDED.match(path) else path


def unguard_protocol(path: str) -> str:
    """The file name that ``-drive file=`` means.

    Raises:
        UsageError: a protocol other than ``file:`` (``usage.qemu-args``).
    """
    if path.startswith("./") and _GUARDED.match(path[2:]):
        return path[2:]
    if path.startswith("file:"):
        return path.removeprefix("file:")
    if _PROTOCOL.match(path):
        raise UsageError(
            f"{path!r} is no file: QEMU takes {path.partition(':')[0]!r} for a protocol",
            code="usage.qemu-args",
            file=path,
        )
    return path


def _bad_json(text: str) -> UsageError:
    return UsageError(f"{text[:60]!r} is no JSON object", code="usage.qemu-args")
