"""How large variables may be, and how much of a store they have taken.

The firmware has its limits as build constants (PcdMaxVariableSize, PcdMaxAuthVariableSize,
PcdHwErrStorageSize and others), not in the flash. Those of the known builds come from their
platform files; for another layout nobody outside the firmware knows them. There the limits are
the smallest of the known builds, or the largest record that the store holds already, which
its firmware accepted: never more, since a value that is too large for it can keep a
firmware from updating that variable again.

Ref: edk2 OvmfPkg/OvmfPkgX64.dsc, ArmVirtPkg/ArmVirtQemu.dsc, MdeModulePkg/MdeModulePkg.dec.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hwflash.uefi.areas import KNOWN, of_known
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Attribute, Record, State
from hwflash.uefi.store import VariableStore

AUTHENTICATED: Final = int(
    Attribute.AUTHENTICATED_WRITE_ACCESS | Attribute.TIME_BASED_AUTHENTICATED_WRITE_ACCESS
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes; those of a variable are of header, name and data together.

    Attributes:
        variable: largest variable.
        authenticated: largest authenticated variable.
        hardware_error: largest hardware error record.
        hardware_error_storage: part of the store kept for hardware error records; 0 when the
            firmware does not take any.
        boottime_reserved: part of the store that run time leaves to boot time.
    """

    variable: int
    authenticated: int
    hardware_error: int = 0
    hardware_error_storage: int = 0
    boottime_reserved: int = 0

    def largest(self, attributes: int) -> int:
        """Largest variable with these attributes."""
        if attributes & Attribute.HARDWARE_ERROR_RECORD:
            return self.hardware_error
        return self.authenticated if attributes & AUTHENTICATED else self.variable

    def storage(self, store: VariableStore, attributes: int, *, at_runtime: bool = False) -> int:
        """Bytes for all variables of the kind that these attributes make."""
        if attributes & Attribute.HARDWARE_ERROR_RECORD:
            return self.hardware_error_storage
        space = store.size - STORE_HEADER.size - self.hardware_error_storage
        return max(space - (self.boottime_reserved if at_runtime else 0), 0)


SMALL: Final = Limits(0x2000, 0x2800)
BY_LAYOUT: Final[dict[str, Limits]] = {
    "OVMF 1M/2M": SMALL,
    "OVMF 4M": Limits(0x8400, 0x8400),
    "AAVMF": SMALL,
}


def limits_of(nvram: Nvram) -> Limits:
    """The limits of the firmware that a store belongs to, or careful ones (see above)."""
    areas = nvram.areas
    for known in KNOWN:
        # A board file names the places of a known build as well.
        usual = of_known(known, nvram.base)
        if (areas.variables, areas.work) == (usual.variables, usual.work):
            return BY_LAYOUT.get(known.name, SMALL)
    plain = authenticated = 0
    for record in nvram.store.live:
        if record.attributes & AUTHENTICATED:
            authenticated = max(authenticated, record.size)
        elif not record.attributes & Attribute.HARDWARE_ERROR_RECORD:
            plain = max(plain, record.size)
    return Limits(max(SMALL.variable, plain), max(SMALL.authenticated, authenticated, plain))


def taken(records: Iterable[Record], attributes: int) -> int:
    """Bytes of those records that are of the kind that these attributes make.

    A header that was never finished has all attributes, as firmware counts it: it is taken for
    a hardware error record.
    """
    kind = attributes & Attribute.HARDWARE_ERROR_RECORD
    return sum(
        record.end - record.offset
        for record in records
        if record.attributes & Attribute.HARDWARE_ERROR_RECORD == kind
    )


def kept(store: VariableStore) -> list[Record]:
    """The records that a reclaim keeps: added ones, and in transition without an added one."""
    added = {record.key for record in store.records if record.state == State.ADDED}
    return [
        record
        for record in store.records
        if record.state == State.ADDED
        or (record.state == State.IN_DELETED_TRANSITION and record.key not in added)
    ]
