"""A decoded SFDP as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from typing import cast

from hwflash.chip.sfdp.chip import addressing, erase_layout
from hwflash.chip.sfdp.decode import Sfdp
from hwflash.chip.sfdp.four_byte import read_modes
from hwflash.errors import SfdpError


def plain(value: object) -> object:
    """Turn a decoded value into dicts, lists, strings and numbers.

    Flags become a list of lower-case names, other enums their value.
    """
    if isinstance(value, Flag):
        return [str(item.name).lower() for item in type(value) if item in value]
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        return {str(key): plain(item) for key, item in mapping.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return value


def describe(sfdp: Sfdp) -> dict[str, object]:
    """Everything a table says, JSON-ready; numbers are plain integers, times seconds.

    Keys: ``revision`` ("1.6"), ``access_protocol``, ``tables`` (headers with name, id in hex,
    and the bytes of those not decoded), ``bfpt``, ``four_byte``, ``sector_map``,
    ``read_modes`` {``3-byte``, ``4-byte``}, ``erase_regions`` (as without detection; empty when
    the tables give none), ``addressing``, ``notes``.
    """
    raw = {table.header.offset: table.data.hex() for table in sfdp.tables}
    tables: list[dict[str, object]] = []
    for header in sfdp.headers:
        entry: dict[str, object] = {
            "id": f"{header.id:04x}",
            "name": header.name,
            "revision": f"{header.major}.{header.minor}",
            "pointer": header.pointer,
            "dwords": header.dwords,
            "vendor": header.vendor,
            "beyond_nph": header.beyond_nph,
        }
        if header.offset in raw:
            entry["data"] = raw[header.offset]
        tables.append(entry)
    notes = list(sfdp.notes)
    try:
        layout = erase_layout(sfdp)
    except SfdpError:
        regions: object = []
    else:
        regions = plain(layout.regions)
        notes += layout.notes
    modes = {"3-byte": plain(read_modes(sfdp.bfpt, None))}
    if sfdp.four_byte is not None:
        modes["4-byte"] = plain(read_modes(sfdp.bfpt, sfdp.four_byte))
    return {
        "revision": f"{sfdp.revision[0]}.{sfdp.revision[1]}",
        "access_protocol": sfdp.access_protocol,
        "tables": tables,
        "bfpt": plain(sfdp.bfpt),
        "four_byte": plain(sfdp.four_byte),
        "sector_map": plain(sfdp.sector_map),
        "read_modes": modes,
        "erase_regions": regions,
        "addressing": plain(addressing(sfdp)),
        "notes": plain(notes),
    }
