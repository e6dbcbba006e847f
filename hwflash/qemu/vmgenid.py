"""QEMU's VM Generation ID device: the names, offsets and words that belong to it.

Ref: QEMU docs/specs/vmgenid.txt, hw/acpi/vmgenid.c of 7.2; Microsoft, Virtual Machine Generation
ID (2012), for the device's objects.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from hwflash.qemu.loader import AddPointer, Allocate, Command, WritePointer

#: The page that firmware downloads, with the GUID in it.
PAGE_FILE: Final = "etc/vmgenid_guid"
#: The file to which firmware writes where the GUID lies in memory.
ADDRESS_FILE: Final = "etc/vmgenid_addr"
#: Offset of the GUID in the page: firmware takes the begin of a page for an ACPI table if it can.
OFFSET: Final = 0x28
GUID_BYTES: Final = 16
#: OEM table id of its SSDT, the name of the page's address there, and its objects.
TABLE_ID: Final = "VMGENID"
PAGE_NAME: Final = "VGIA"
HARDWARE_ID: Final = "QEMUVGID"
COMPATIBLE_ID: Final = "VM_Gen_Counter"
#: The general purpose event that tells of a new GUID, and what the device is told then.
EVENT: Final = 5
NOTIFICATION: Final = 0x80
#: Every byte is another one, so that a wrong order of bytes shows.
USUAL: Final = UUID("00112233-4455-6677-8899-aabbccddeeff")


def device(guid: UUID | str) -> tuple[str, ...]:
    """Words for QEMU's command line: the device with a GUID, or ``auto``."""
    return ("-device", f"vmgenid,guid={guid},id=vmgenid0")


def told(guid: bytes) -> str:
    """16 bytes of memory as the GUID they are, or as bytes."""
    if len(guid) != GUID_BYTES:
        return guid.hex(" ") or "nothing"
    return f"{guid.hex(' ')} ({UUID(bytes_le=guid)})"


def commands_of(script: tuple[Command, ...]) -> tuple[Command, ...]:
    """The commands of a loader script that are about this device."""
    return tuple(
        item for item in script
        if (isinstance(item, Allocate) and item.file == PAGE_FILE)
        or (isinstance(item, (AddPointer, WritePointer)) and item.pointee_file == PAGE_FILE)
    )  # fmt: skip
