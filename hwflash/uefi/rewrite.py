"""Rewriting a variable store: reclaim, compaction, import.

Two orders. ``edk2`` is that of the firmware: one fault-tolerant write of the whole store. While
it copies the spare area over the store, the block with the volume header is erased; OVMF that
is switched on then erases everything. ``suffix`` never erases that block, see
`hwflash.uefi.suffix`, and is the order to use wherever it is possible.

Ref: edk2 MdeModulePkg/Universal/Variable/RuntimeDxe/Reclaim.c and Variable.c, Reclaim().
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal
from uuid import UUID

from hwflash.errors import ImageError
from hwflash.uefi.ftw_write import ftw_write
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Record, State, aligned
from hwflash.uefi.status import EfiError, EfiStatus
from hwflash.uefi.suffix import rewrite_suffix

Order = Literal["suffix", "edk2"]


def reclaim(
    nvram: Nvram,
    *,
    adding: Record | None = None,
    without: frozenset[tuple[str, UUID]] = frozenset(),
    order: Order = "suffix",
) -> None:
    """Drop what is dead, and put in a new record on the way.

    Added records come first, then those in deleted transition that no added one hides, then
    the new one; all of them as added records.

    Args:
        nvram: the variable store.
        adding: the new record; its state and place do not matter.
        without: variables to leave out, by name and GUID; one that is being changed is also
            in ``adding``.
        order: in which order the flash is written.

    Raises:
        EfiError: it does not fit (``efi.out-of-resources``); nothing is changed.
        ImageError: as `replace_records`.
    """
    dropped = without if adding is None else without | {adding.key}
    live = [record for record in nvram.store.live if record.key not in dropped]
    kept = [record for record in live if record.state == State.ADDED]
    kept += [record for record in live if record.state != State.ADDED]
    replace_records(nvram, kept if adding is None else [*kept, adding], order=order)


def replace_records(nvram: Nvram, records: Sequence[Record], *, order: Order = "suffix") -> None:
    """Make these records the content of the store.

    In the ``suffix`` order, records that stand unchanged in the first erase block stay there;
    so do dead ones. What the store holds is the same in both orders, where it lies is not.

    Args:
        nvram: the variable store.
        records: one for each variable; their states and places do not matter.
        order: in which order the flash is written.

    Raises:
        EfiError: they do not fit (``efi.out-of-resources``); nothing is changed.
        ImageError: a record cannot be stored (``uefi.record``), two are for one variable
            (``uefi.duplicate``), or the order is not possible here, see `ftw_write` and
            `rewrite_suffix`.
    """
    wanted = [_added(nvram, record) for record in records]
    seen: set[tuple[str, UUID]] = set()
    for record in wanted:
        if record.key in seen:
            name, guid = record.key
            raise ImageError(
                f"there are two records of {name!r} ({guid}); two live ones hang the firmware",
                code="uefi.duplicate",
                offset=nvram.base,
                name=name,
                guid=guid,
            )
        seen.add(record.key)
    if order == "suffix":
        rewrite_suffix(nvram, wanted)
    else:
        _as_firmware(nvram, wanted)


def _as_firmware(nvram: Nvram, wanted: Sequence[Record]) -> None:
    """One fault-tolerant write of the store, its header included."""
    store, faults = nvram.store, nvram.found.volume_faults
    if faults:
        raise ImageError(
            f"the volume at 0x{nvram.base:06X} is damaged: {faults[0].text}",
            code="uefi.volume-damaged",
            offset=nvram.base,
        )
    content = nvram.flash.read(store.base, STORE_HEADER.size)
    content += b"".join(record.build() for record in wanted)
    if len(content) > store.size:
        raise EfiError(
            EfiStatus.OUT_OF_RESOURCES,
            f"{len(wanted)} variables need {len(content)} bytes, the store at "
            f"0x{store.base:06X} has {store.size}",
            offset=store.base,
            needed=len(content),
            size=store.size,
        )
    block = nvram.block_size
    lba, offset = divmod(store.base - nvram.base, block)
    ftw_write(nvram, lba, offset, content + b"\xff" * (store.size - len(content)))


def _added(nvram: Nvram, record: Record) -> Record:
    """A record as it will be stored."""
    store = nvram.store
    whole = len(record.name_bytes) == record.name_size and len(record.data) == record.data_size
    if record.format != store.kind or not whole or not record.name:
        kind = store.kind or "unknown"
        raise ImageError(
            f"the record of {record.name!r} ({record.format}, {len(record.name_bytes)} of "
            f"{record.name_size} bytes of name, {len(record.data)} of {record.data_size} bytes of "
            f"data) cannot be stored in the {kind} store at 0x{store.base:06X}",
            code="uefi.record",
            offset=store.base,
            name=record.name,
        )
    padding = b"\xff" * (aligned(record.size) - record.size)
    return replace(record, state=int(State.ADDED), padding=padding)
