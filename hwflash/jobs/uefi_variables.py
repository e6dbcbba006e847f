"""Setting, deleting and importing variables in a store that is being changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from hwflash.errors import UsageError
from hwflash.jobs.uefi_read import no_variable
from hwflash.uefi.decode import vendor_of
from hwflash.uefi.difference import matcher
from hwflash.uefi.erase_blocks import erase_limits
from hwflash.uefi.exchange import Variable
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Attribute, Record, make_record
from hwflash.uefi.rewrite import Order, replace_records
from hwflash.uefi.secureboot import KEY_ATTRIBUTES
from hwflash.uefi.services import SIGNED, VariableServices
from hwflash.uefi.window import printable

#: More variables than this are imported by one rewrite, where the flash allows it.
AT_ONCE = 64
#: Attributes of a new variable, unless the user says others.
USUAL: int = Attribute.NON_VOLATILE | Attribute.BOOTSERVICE_ACCESS | Attribute.RUNTIME_ACCESS


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of a variable.

    Attributes:
        guid: its vendor.
        change: ``new``, ``updated``, ``deleted`` or ``unchanged``.
        reclaimed: the store had to be rewritten for it.
        notes: what else is to be said.
    """

    guid: UUID
    change: str
    reclaimed: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did.

    Attributes:
        set: names of variables that were created or updated.
        removed: names of those that the file does not have.
        same: how many were there already.
        reclaimed: the store had to be rewritten.
        notes: what else is to be said.
    """

    set: tuple[str, ...]
    removed: tuple[str, ...]
    same: int
    reclaimed: bool
    notes: tuple[str, ...] = ()


def set_variable(
    nvram: Nvram,
    name: str,
    guid: UUID | None,
    attributes: int | None,
    data: bytes,
    *,
    force: bool = False,
    extra: int = 0,
    order: Order = "suffix",
) -> Changed:
    """Give a variable a value.

    Args:
        nvram: the store.
        name: of the variable.
        guid: of its vendor, or None: see `vendor`.
        attributes: None takes those of the variable, or `USUAL`.
        data: the value.
        force: change an authenticated variable without a signature.
        extra: attributes of this call, such as append.
        order: of a rewrite of the store.

    Raises:
        UsageError: the vendor is not known, or there are several (``usage.guid``).
        EfiError: what firmware would answer.
    """
    key = vendor(nvram, name, guid)
    known = nvram.store.find(name, key)
    if attributes is None:
        usual = KEY_ATTRIBUTES if (name, key) in SIGNED else USUAL
        attributes = known.attributes if known is not None else int(usual)
    services = VariableServices(nvram, order=order)
    done = services.set_variable(name, key, attributes | extra, data, force=force)
    return Changed(key, done.change, done.reclaimed)


def delete_variable(
    nvram: Nvram,
    name: str,
    guid: UUID | None,
    *,
    force: bool = False,
    order: Order = "suffix",
) -> Changed:
    """Delete a variable.

    Raises:
        UsageError: there is none, or there are several (``usage.variable``).
        EfiError: what firmware would answer.
    """
    hits = [record for record in nvram.store.named(name) if guid in (None, record.guid)]
    if not hits:
        raise no_variable([nvram.found], name, guid)
    key = vendor(nvram, name, guid)
    record = next(record for record in hits if record.guid == key)
    services = VariableServices(nvram, order=order)
    done = services.set_variable(name, key, record.attributes, b"", force=force)
    return Changed(key, done.change, done.reclaimed)


def vendor(nvram: Nvram, name: str, guid: UUID | None) -> UUID:
    """The GUID that is meant: the one given, that of the variable, or the specified one.

    Raises:
        UsageError: several variables have this name, or nobody knows (``usage.guid``).
    """
    if guid is not None:
        return guid
    found = [record.guid for record in nvram.store.named(name)]
    if len(found) > 1:
        raise UsageError(
            f"there are {len(found)} variables {name!r}, of {', '.join(map(str, found[:6]))}",
            code="usage.guid",
            name=name,
            guids=[str(item) for item in found],
        )
    known = found[0] if found else vendor_of(name)
    if known is None:
        raise UsageError(f"whose variable {name!r} is, must be said", code="usage.guid", name=name)
    return known


def import_variables(
    nvram: Nvram,
    variables: Sequence[Variable],
    *,
    replace: bool = False,
    ignore: Sequence[str] = (),
    order: Order = "suffix",
) -> Imported:
    """Take over variables: in place where they fit, else by one rewrite of the store.

    Args:
        nvram: the store.
        variables: what should be there.
        replace: delete the variables that are not among them.
        ignore: which are left as they are; see `hwflash.uefi.difference.matcher`.
        order: of a rewrite of the store.

    Raises:
        EfiError: what firmware would answer; nothing is changed then.
    """
    ignored = matcher(ignore)
    wanted = {item.key: item for item in variables if not ignored(item)}
    live = {record.key: record for record in nvram.store.live}
    others = [record for key, record in live.items() if key not in wanted]
    removed = [item.key for item in others if replace and not ignored(Variable.of(item))]
    changed = [item for key, item in wanted.items() if not _same(live.get(key), item)]
    services = VariableServices(nvram, order=order)
    for item in changed:
        services.require_valid(item.name, item.guid, item.attributes, item.data)
    # Firmware never takes an older time stamp; a rewrite does.
    back = [
        item
        for item in changed
        if item.key in live and item.timestamp.order < live[item.key].time.order
    ]
    in_place = not (removed or back) and _fit(nvram, changed, live)
    if in_place:
        _set_each(services, changed)
    elif changed or removed:
        # One rewrite, so that a power cut leaves all of the old variables or all of the new.
        made = {item.key: _record(nvram, item) for item in changed}
        kept = [made.pop(key, record) for key, record in live.items() if key not in removed]
        replace_records(nvram, [*kept, *made.values()], order=order)
    return Imported(
        tuple(item.name for item in changed),
        tuple(name for name, _ in removed),
        len(wanted) - len(changed),
        not in_place,
        tuple(f"the time stamp of {printable(item.name)} goes back" for item in back),
    )


def _fit(
    nvram: Nvram, changed: Sequence[Variable], live: Mapping[tuple[str, UUID], Record]
) -> bool:
    """Whether variables can be set one by one, and whether that is the better way.

    Of many variables each would be looked at anew; and attributes cannot be changed in place.
    """
    if len(changed) > AT_ONCE and erase_limits(nvram).suffix:
        return False
    if any(item.key in live and live[item.key].attributes != item.attributes for item in changed):
        return False
    made = [_record(nvram, item) for item in changed]
    return sum(record.end - record.offset for record in made) <= nvram.store.usage.free


def _record(nvram: Nvram, item: Variable) -> Record:
    return make_record(
        item.name, item.guid, item.attributes, item.data,
        kind=nvram.store.kind or "authenticated", timestamp=item.timestamp.build(),
    )  # fmt: skip


def _set_each(services: VariableServices, changed: Sequence[Variable]) -> None:
    for item in changed:
        timed = item.attributes & Attribute.TIME_BASED_AUTHENTICATED_WRITE_ACCESS
        services.set_variable(
            item.name, item.guid, item.attributes, item.data,
            timestamp=item.timestamp if timed else None, force=True,
        )  # fmt: skip


def _same(record: Record | None, item: Variable) -> bool:
    return record is not None and Variable.of(record) == item
