"""The variable services of the firmware on a store that is being changed.

GetVariable, GetNextVariableName, SetVariable and QueryVariableInfo with the results and status
codes of edk2, on the non-volatile store alone: volatile variables are not in it. What
SetVariable does is recorded by the `Nvram`; nothing reaches a chip from here.

Where this differs from edk2:

- Space is looked at before anything is marked. Firmware marks the old record 3E first and leaves
  it so when a store is full at run time; here a call that fails has done nothing. Before a
  reclaim nothing is marked either: the old value stays live until the reclaim has made the
  new one live, and what has to be marked for that only the reclaim knows.
- A write that changes neither data nor time stamp is none, also as an append.
- All older records of a variable are retired, and first, see `hwflash.uefi.set_variable`.
- Remains of a header behind the last record are completed to a deleted record (`seal_tail`);
  firmware reclaims the store for them.
- Signatures are not verified: authenticated variables are refused, or written with ``force``.
- A platform's own rules (edk2 VarCheckUefiLib, for example the size of BootNext) are not
  applied, except those for hardware error records and for the form of signature databases.

Ref: edk2 MdeModulePkg/Universal/Variable/RuntimeDxe/Variable.c and VariableParsing.c,
MdeModulePkg/Library/VarCheckUefiLib, SecurityPkg/Library/AuthVariableLib/AuthService.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from hwflash.uefi import variable_rules as rules
from hwflash.uefi.efitime import EfiTime
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import (
    LAYOUTS,
    Attribute,
    Record,
    State,
    StoreFormat,
    aligned,
    make_record,
)
from hwflash.uefi.rewrite import Order, reclaim
from hwflash.uefi.seal import seal_tail
from hwflash.uefi.set_variable import (
    SIGNED,
    append_record,
    appended,
    checked_lists,
    delete_record,
    fits,
    stored_time,
)
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.uefi.store import findable
from hwflash.uefi.variable_limits import AUTHENTICATED, Limits, kept, limits_of, taken
from hwflash.uefi.window import filled_with, printable

Change = Literal["new", "updated", "deleted", "unchanged"]
Key = tuple[str, UUID]


@dataclass(frozen=True, slots=True)
class Value:
    """A variable as GetVariable returns it, with the time that firmware keeps to itself."""

    attributes: int
    data: bytes
    timestamp: EfiTime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What SetVariable did.

    Attributes:
        change: ``new``, ``updated``, ``deleted`` or ``unchanged``.
        reclaimed: the store was rewritten to make room.
        record: the live record afterwards; None when there is none.
    """

    change: Change
    reclaimed: bool = False
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Info:
    """What QueryVariableInfo returns, in bytes.

    Attributes:
        maximum_storage: room for all variables of this kind.
        remaining: what is left of it; at boot time with what a reclaim would win.
        maximum_variable_size: name and data of the largest variable that can be set.
    """

    maximum_storage: int
    remaining: int
    maximum_variable_size: int


class VariableServices:
    """The four services on one store.

    Args:
        nvram: the store; it records the flash operations.
        at_runtime: answer as after ExitBootServices: only variables with run-time access, and
            no reclaim.
        order: how a reclaim goes about it.
        limits: those of the firmware; by default derived from the layout.
    """

    def __init__(
        self,
        nvram: Nvram,
        *,
        at_runtime: bool = False,
        order: Order = "suffix",
        limits: Limits | None = None,
    ) -> None:
        self.nvram = nvram
        self.at_runtime = at_runtime
        self.order: Order = order
        self.limits = limits if limits is not None else limits_of(nvram)

    def get_variable(self, name: str, guid: UUID) -> Value:
        """The value of a variable.

        Raises:
            EfiError: there is none (``efi.not-found``).
        """
        record = self._find(rules.canonical(name), guid)
        if record is None:
            raise rules.not_found(name, guid)
        return Value(record.attributes, record.data, record.time)

    def get_next_variable_name(self, name: str, guid: UUID | None) -> Key:
        """The variable behind another one in the store.

        Args:
            name: the one before, or an empty string for the first.
            guid: its GUID; not looked at with an empty name.

        Raises:
            EfiError: there is no further one (``efi.not-found``); there is no variable of this
                name and GUID (``efi.invalid-parameter``).
        """
        records = self.nvram.store.records
        first = 0
        if name:
            start = None if guid is None else self._find(rules.canonical(name), guid)
            if start is None:
                raise EfiError(
                    EfiStatus.INVALID_PARAMETER,
                    f"there is no variable {printable(name)!r} {guid} to go on from",
                    name=name,
                    guid=str(guid),
                )
            first = records.index(start) + 1
        added = {item.key for item in records if item.state == State.ADDED and findable(item)}
        for record in records[first:]:
            if not findable(record) or not self._visible(record):
                continue
            if record.state == State.ADDED or record.key not in added:
                return record.key
        raise EfiError(EfiStatus.NOT_FOUND, "there is no further variable", name=name)

    def set_variable(
        self,
        name: str,
        guid: UUID,
        attributes: int,
        data: bytes,
        *,
        timestamp: EfiTime | None = None,
        force: bool = False,
    ) -> Outcome:
        """Write, append to, or delete a variable.

        Args:
            name: its name.
            guid: its vendor's GUID.
            attributes: `Attribute` bits; 0 deletes.
            data: the value without any authentication header; empty deletes, unless appended.
            timestamp: of a time-based authenticated variable.
            force: write an authenticated variable although its signature is not verified.

        Raises:
            EfiError: what the firmware would refuse, with its status.
            ImageError: a fault-tolerant write is pending (``ftw.pending``); the store has
                errors (``uefi.unhealthy``).
        """
        name = rules.canonical(name)
        rules.check_request(
            name, guid, attributes, data, kind=self._kind, limits=self.limits, force=force
        )
        rules.check_store(self.nvram.found)
        stored = self.nvram.store.find(name, guid)
        if stored is not None:
            rules.check_match(stored, attributes, visible=self._visible(stored), force=force)
        append = bool(attributes & Attribute.APPEND_WRITE)
        if append and not data and stored is None:
            return Outcome("unchanged")
        if not (data or append) or not attributes & rules.ACCESS:
            return self._delete(name, guid, stored, timestamp)
        if stored is None:
            rules.check_new(name, attributes, at_runtime=self.at_runtime)
            _require_key_attributes(name, guid, attributes)
        if (name, guid) in SIGNED:
            checked_lists(name, data)
        return self._change(name, guid, attributes, data, stored, timestamp)

    def _change(
        self,
        name: str,
        guid: UUID,
        attributes: int,
        data: bytes,
        stored: Record | None,
        timestamp: EfiTime | None,
    ) -> Outcome:
        """Write or append, once all that the firmware would refuse is refused."""
        time = stored_time(name, stored, attributes, timestamp)
        if attributes & Attribute.APPEND_WRITE and stored is not None:
            data = appended(name, guid, stored, data)
            rules.check_size(name, attributes, len(data), kind=self._kind, limits=self.limits)
        if stored is not None and stored.data == data and stored.timestamp == time:
            return Outcome("unchanged", record=stored)
        record = self._record(name, guid, attributes, data, time, stored)
        reclaimed = self._write(record, stored)
        change: Change = "new" if stored is None else "updated"
        return Outcome(change, reclaimed, self.nvram.store.find(name, guid))

    def require_valid(self, name: str, guid: UUID, attributes: int, data: bytes) -> None:
        """Refuse a variable that could not even be set in an empty store.

        Raises:
            EfiError: what the firmware would refuse, with its status; a variable without data
                or access (``efi.invalid-parameter``), which would be none.
        """
        name = rules.canonical(name)
        rules.check_request(
            name, guid, attributes, data, kind=self._kind, limits=self.limits, force=True
        )
        if not data or not attributes & rules.ACCESS or attributes & Attribute.APPEND_WRITE:
            raise rules.invalid(
                name, attributes, "a stored variable has data and access, no append"
            )
        rules.check_new(name, attributes, at_runtime=False)
        _require_key_attributes(name, guid, attributes)
        if (name, guid) in SIGNED:
            checked_lists(name, data)

    def query_variable_info(self, attributes: int) -> Info:
        """Room for variables with these attributes.

        Raises:
            EfiError: an impossible combination of attributes (``efi.invalid-parameter``);
                volatile variables, or a kind that this store does not take
                (``efi.unsupported``).
        """
        rules.check_query(
            attributes, kind=self._kind, limits=self.limits, at_runtime=self.at_runtime
        )
        store, limits = self.nvram.store, self.limits
        maximum = limits.storage(store, attributes, at_runtime=self.at_runtime)
        counted = store.records if self.at_runtime else kept(store)
        remaining = max(maximum - taken(counted, attributes), 0)
        header = LAYOUTS[self._kind].size
        largest = max(min(limits.largest(attributes), remaining) - header, 0)
        return Info(maximum, remaining, largest)

    @property
    def _kind(self) -> StoreFormat:
        return self.nvram.store.kind or "plain"

    def _visible(self, record: Record) -> bool:
        return not self.at_runtime or bool(record.attributes & Attribute.RUNTIME_ACCESS)

    def _find(self, name: str, guid: UUID) -> Record | None:
        record = self.nvram.store.find(name, guid) if name else None
        return record if record is not None and self._visible(record) else None

    def _record(
        self,
        name: str,
        guid: UUID,
        attributes: int,
        data: bytes,
        time: bytes,
        stored: Record | None,
    ) -> Record:
        # A count and a key of deprecated counter-based authentication belong to the variable:
        # firmware compares the next count with the stored one.
        counted = stored if attributes & Attribute.AUTHENTICATED_WRITE_ACCESS else None
        return make_record(
            name,
            guid,
            attributes & ~Attribute.APPEND_WRITE,
            data,
            kind=self._kind,
            timestamp=time,
            monotonic_count=counted.monotonic_count if counted else 0,
            public_key_index=counted.public_key_index if counted else 0,
        )

    def _delete(
        self, name: str, guid: UUID, stored: Record | None, timestamp: EfiTime | None
    ) -> Outcome:
        if stored is None:
            raise rules.not_found(name, guid)
        stored_time(name, stored, stored.attributes, timestamp)
        delete_record(self.nvram, stored)
        return Outcome("deleted")

    def _write(self, record: Record, stored: Record | None) -> bool:
        """Append the record or have a reclaim put it in; says whether it was a reclaim."""
        store, limits = self.nvram.store, self.limits
        size = aligned(record.size)
        room = limits.storage(store, record.attributes, at_runtime=self.at_runtime)
        used = taken(store.records, record.attributes)
        if not filled_with(store.tail, 0xFF) and not self.at_runtime and used + size <= room:
            seal_tail(self.nvram)
            store = self.nvram.store
            used = taken(store.records, record.attributes)
        if fits(store, record) and used + size <= room:
            append_record(self.nvram, record, stored)
            return False
        if self.at_runtime:
            raise rules.full(record, max(room - used, 0), "at run time there is no reclaim")
        others = [item for item in kept(store) if item.key != record.key]
        used = taken(others, record.attributes)
        if used + size > room:
            raise rules.full(record, max(room - used, 0), "a reclaim would not make enough")
        reclaim(self.nvram, adding=record, without=frozenset({record.key}), order=self.order)
        return True


def _require_key_attributes(name: str, guid: UUID, attributes: int) -> None:
    """A key database without authentication could be changed by anybody, and is none."""
    if (name, guid) in SIGNED and not attributes & AUTHENTICATED:
        raise rules.invalid(name, attributes, "Secure Boot keys are authenticated variables")
