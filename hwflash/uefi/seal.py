"""Closing the remains of a header behind the last record, in place.

A power cut while a record's header is programmed can leave bytes behind the last record that
are not FF, without the start id that would make them a record. Firmware then reclaims the store
at its next boot, and nothing can be appended before. But bits can still be cleared: the remains
are completed to the header of a deleted record, and the store goes on behind it, without an
erase.

The record keeps to what the strictest reader asks (edk2 OvmfPkg/VirtNorFlashDxe, validation of
the variable store): a known state, and a name of an even size, four bytes or more, with its
terminator. The start id is programmed last, so that a power cut in between leaves remains as
before.
"""

from __future__ import annotations

from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import LAYOUTS, START_ID, State, aligned
from hwflash.uefi.store import VariableStore
from hwflash.uefi.window import filled_with

#: An erased name character that is programmed to something printable.
_LETTER = b"x\0"


def seal_tail(nvram: Nvram) -> bool:
    """Make a deleted record of what stands behind the last one, where that can be done.

    Returns:
        Whether the free space is erased afterwards, down to the store's end.
    """
    store = nvram.store
    if filled_with(store.tail, 0xFF):
        return True
    made = _deleted(store)
    if made is None:
        return False
    flash, start = nvram.flash, store.free_offset
    flash.because("complete the remains of a header: a deleted record")
    flash.program(start + 2, made[2:])
    flash.verify(start, len(made))
    flash.program(start, made[:2])
    return True


def _deleted(store: VariableStore) -> bytes | None:
    """The bytes of the record, or None when clearing bits does not lead to one."""
    layout = LAYOUTS[store.kind or "authenticated"]
    if len(store.tail) < layout.size:
        return None
    fields = layout.fields(store.tail)
    # The smallest even size of four or more that can still be reached, and its room in the tail.
    size = next(
        (1 << bit for bit in range(2, 16) if fields["name_size"] & 1 << bit), len(store.tail)
    )
    if not filled_with(store.tail[aligned(layout.size + size) :], 0xFF):
        return None
    fields |= {
        "start_id": START_ID,
        "state": State.DELETED_AFTER_TRANSITION,
        "attributes": fields["attributes"] & 0x07,
        "name_size": size,
        "data_size": 0,
    }
    made = layout.build(**fields) + _LETTER * (size // 2 - 1) + b"\0\0"
    found = store.tail[: len(made)]
    reachable = all(old & new == new for old, new in zip(found, made, strict=False))
    return made if reachable and len(found) == len(made) else None
