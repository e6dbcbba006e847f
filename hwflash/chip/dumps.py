"""Real SFDP tables of real parts, shipped with hwflash.

The simulator serves them and the tests are held against them. Each is a JSON file under
``data/sfdp`` with the bytes, where they come from, and what is known of the part.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from hwflash.errors import UsageError

_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Dump:
    """One table.

    Attributes:
        name: what `load` takes.
        part: name of the part, as in the source.
        manufacturer: its maker.
        jedec_id: the bytes answered to 9Fh; empty when the source does not tell.
        sfdp: the SFDP space from address 0; some are cut short.
        expected: what the source (mostly the Linux kernel) makes of the part.
        origin: how the bytes were obtained.
        source: where they were published.
        notes: what is odd about them, or "".
        synthetic: not read from any chip, put together from a model's tables.
    """

    name: str
    part: str
    manufacturer: str
    jedec_id: bytes
    sfdp: bytes
    expected: Mapping[str, Any]
    origin: str
    source: str
    notes: str
    synthetic: bool


@cache
def names() -> tuple[str, ...]:
    """Names of all tables, sorted."""
    folder = files("hwflash.chip") / "data" / "sfdp"
    found = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


def load(name: str) -> Dump:
    """Load a table.

    Args:
        name: one of `names`, in any case.

    Raises:
        UsageError: there is no such table.
    """
    match = next((known for known in names() if known.lower() == name.lower()), None)
    if match is None:
        raise UsageError(
            f"no SFDP table of {name!r} is shipped",
            code="usage.dump",
            name=name,
            known=list(names()),
        )
    path = files("hwflash.chip") / "data" / "sfdp" / f"{match}{_SUFFIX}"
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return Dump(
        name=match,
        part=content["part"],
        manufacturer=content["manufacturer"],
        jedec_id=bytes.fromhex(content["jedec_id"] or ""),
        sfdp=bytes.fromhex(content["sfdp"]),
        expected=content.get("expected", {}),
        origin=content["origin"],
        source=content["source"],
        notes=content.get("notes", ""),
        synthetic=content.get("synthetic", False),
    )
