"""Variable stores that are not EDK2's: which one is meant, why none is written, their keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from hwflash.errors import ImageError, UsageError
from hwflash.uefi import guids
from hwflash.uefi.decode import Decoded, decode
from hwflash.uefi.exchange import Variable
from hwflash.uefi.find import Found
from hwflash.uefi.others import Listed, OtherStore, OtherVariable
from hwflash.uefi.records import attribute_names
from hwflash.uefi.vss import FACTORY_COPY, FACTORY_HEADER
from hwflash.uefi.window import Anomaly

#: Of variables of a format that has no GUIDs; decoding then goes by the look.
NO_GUID = guids.from_bytes(bytes(16))


def read_only(store: OtherStore) -> ImageError:
    """The error that a store is not written."""
    return ImageError(
        f"the {store.title} at 0x{store.base:06X} is listed, shown and exported, and nothing else: "
        f"{store.reason}",
        code="uefi.read-only",
        offset=store.base,
        kind=store.kind,
    )


def require_no_factory_copy(found: Found) -> None:
    """Refuse a store of EDK2's format that is Insyde's copy of the defaults.

    Raises:
        ImageError: it is (``uefi.read-only``).
    """
    if any(found.window.at(found.base - size, 4) == FACTORY_COPY for size in (8, FACTORY_HEADER)):
        raise ImageError(
            f"the store at 0x{found.base:06X} lies in an Insyde factory data copy (_FDC), from "
            "which the firmware restores its defaults; it is only read",
            code="uefi.read-only",
            offset=found.base,
            kind="edk2",
        )


def exported(store: OtherStore) -> list[Variable]:
    """The live variables of a store; those without a GUID have one of zeros and its number."""
    return [
        Variable(item.name, item.guid or _numbered(item), item.attributes, item.data, item.time)
        for item in store.live
    ]


def _numbered(item: OtherVariable) -> UUID:
    # Where the table of GUIDs is lost, their numbers still tell variables of one name apart.
    number = item.details.get("guid_index", item.details.get("guid_id", 0))
    return UUID(int=int(number))


def one_other(
    stores: Sequence[OtherStore], store: int | None, *, usual: bool = False
) -> OtherStore | None:
    """The store that is meant; None when it is one of EDK2.

    Args:
        stores: those of other formats.
        store: base of the one that was named, or None.
        usual: whether there is a store of EDK2, which is meant where none was named.

    Raises:
        UsageError: there are several, and none was named (``usage.store``).
    """
    if store is not None or usual:
        return next((item for item in stores if item.base == store), None)
    hits = [item for item in stores if not item.copy] or list(stores)
    if len(hits) > 1:
        raise several([item.base for item in hits])
    return hits[0] if hits else None


def several(bases: list[int]) -> UsageError:
    """The error that there are several stores, and none was named."""
    places = ", ".join(f"0x{base:06X}" for base in bases)
    return UsageError(
        f"there are {len(bases)} variable stores, at {places}; say which",
        code="usage.store",
        stores=bases,
    )


def other_variable(
    stores: Iterable[OtherStore], name: str, guid: UUID | None, store: int | None
) -> tuple[OtherStore, OtherVariable] | None:
    """The one live variable of a name, and its store; None when there is none.

    Defaults and factory copies are asked only when nothing else has the variable, or when their
    store was named.

    Raises:
        UsageError: there are several (``usage.variable-ambiguous``).
    """
    hits = [
        (item, record)
        for item in stores
        if store in (None, item.base)
        for record in item.live
        if record.name == name and guid in (None, record.guid)
    ]
    hits = [hit for hit in hits if not hit[0].copy] or hits
    if len(hits) > 1:
        places = [f"{record.guid} in the store at 0x{item.base:06X}" for item, record in hits]
        raise UsageError(
            f"there are {len(hits)} variables {name!r}: {', '.join(places[:6])}",
            code="usage.variable-ambiguous",
            name=name,
            places=places,
        )
    return hits[0] if hits else None


def nearest(stores: Sequence[OtherStore]) -> OtherStore:
    """The store that a refusal speaks of: the first that is no copy."""
    return next((item for item in stores if not item.copy), stores[0])


# --- keys of the JSON result ----------------------------------------------------------------


def other_keys(store: OtherStore) -> dict[str, Any]:
    """A store as scripts get it: the keys of EDK2's, and what it is."""
    volume = store.volume
    return {
        "base": store.base,
        "size": store.size,
        "kind": store.kind,
        "title": store.title,
        "format": store.form,
        "copy": store.copy,
        "writable": False,
        "reason": store.reason,
        "healthy": store.healthy,
        "used": store.used,
        "free": store.free,
        "reclaimable": store.reclaimable,
        "layout": "derived",
        "volume": {"base": volume.address, "size": volume.length} if volume else None,
        "work_space": None,
        "spare": None,
        "ftw": None,
        "pending": False,
        "anomalies": [anomaly_keys(item) for item in store.anomalies],
    }


def other_check_keys(store: OtherStore) -> dict[str, Any]:
    """What is wrong with a store; what its firmware makes of it is not known."""
    return {
        "base": store.base,
        "ok": store.healthy,
        "repair": "none",
        "command": None,
        "problems": [anomaly_keys(item) for item in store.anomalies],
        "outlook": [],
    }


def other_variable_keys(store: OtherStore, record: OtherVariable) -> dict[str, Any]:
    """An entry as scripts get it."""
    more = {"older": list(record.older), "details": record.details}
    return listed_keys(record, store.base) | more


def anomaly_keys(item: Anomaly) -> dict[str, Any]:
    """An anomaly as scripts get it."""
    return {
        "code": item.code,
        "severity": item.severity,
        "offset": item.offset,
        "message": item.text,
    }


def value_of(record: Listed) -> Decoded:
    """What the value of a variable means."""
    return decode(record.name, record.guid or NO_GUID, record.data, record.data_offset)


def listed_keys(record: Listed, store: int, decoded: Decoded | None = None) -> dict[str, Any]:
    """A variable of any store as scripts get it.

    Args:
        record: the variable.
        store: base of the store it is in.
        decoded: its value, where it is decoded already.
    """
    value = decoded or value_of(record)
    return {
        "name": record.name,
        "guid": str(record.guid) if record.guid is not None else None,
        "vendor": guids.guid_name(record.guid) if record.guid is not None else None,
        "attributes": attribute_names(record.attributes),
        "state": record.state_name,
        "offset": record.offset,
        "size": len(record.data),
        "sha256": hashlib.sha256(record.data).hexdigest(),
        "data": record.data.hex(),
        "timestamp": None if record.time.is_zero else str(record.time),
        "store": store,
        "state_byte": record.state,
        "decoded": {"kind": value.kind, "text": value.summary, **value.facts}
        | ({"fault": value.fault} if value.fault else {}),
    }
