"""Words and GUIDs of device path nodes, for printing them and for reading their text.

Ref: UEFI 2.10 §10.6; edk2 MdePkg/Library/UefiDevicePathLib/DevicePathToText.c.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from hwflash.uefi.devicepath import ACPI, BBS, HARDWARE, MEDIA, MESSAGING

GENERIC: Final = {
    HARDWARE: "HardwarePath",
    ACPI: "AcpiPath",
    MESSAGING: "Msg",
    MEDIA: "MediaPath",
    BBS: "BbsPath",
}
VENDOR_TYPES: Final = {HARDWARE: "Hw", MESSAGING: "Msg", MEDIA: "Media"}
VENDOR_MESSAGES: Final = {
    UUID("e0c14753-f9be-11d2-9a0c-0090273fc14d"): "VenPcAnsi()",
    UUID("dfa66065-b419-11d3-9a2d-0090273fc14d"): "VenVt100()",
    UUID("7baec70b-57e0-4c76-8e87-2f9e28088343"): "VenVt100Plus()",
    UUID("ad15a0d6-8bec-4acf-a073-d01de77e2d88"): "VenUtf8()",
    UUID("eba4e8d2-3858-41ec-a281-2647ba9660d0"): "DebugPort()",
}
UART_FLOW: Final = UUID("37499a9d-542f-4c89-a026-35da142094e4")
SAS: Final = UUID("d487ddb4-008b-11d9-afdc-001083ffca4d")
RAM_DISKS: Final = {
    UUID("77ab535a-45fc-624b-5560-f7b281d1f96e"): "VirtualDisk",
    UUID("3d5abd30-4175-87ce-6d64-d2ade523c4bb"): "VirtualCD",
    UUID("5cea02c9-4d07-69d3-269f-4496fbe096f9"): "PersistentVirtualDisk",
    UUID("08018188-42cd-bb48-100f-5387d53ded3d"): "PersistentVirtualCD",
}
ACPI_NAMES: Final = {
    0x0A03: "PciRoot",
    0x0A08: "PcieRoot",
    0x0604: "Floppy",
    0x0301: "Keyboard",
    0x0501: "Serial",
    0x0401: "ParallelPort",
}
USB_CLASSES: Final = {
    0x01: "UsbAudio", 0x02: "UsbCDCControl", 0x03: "UsbHID", 0x06: "UsbImage",
    0x07: "UsbPrinter", 0x08: "UsbMassStorage", 0x09: "UsbHub", 0x0A: "UsbCDCData",
    0x0B: "UsbSmartCard", 0x0E: "UsbVideo", 0xDC: "UsbDiagnostic", 0xE0: "UsbWireless",
}  # fmt: skip
USB_RESERVED: Final = {
    1: "UsbDeviceFirmwareUpdate",
    2: "UsbIrdaBridge",
    3: "UsbTestAndMeasurement",
}
BBS_TYPES: Final = {1: "Floppy", 2: "HD", 3: "CDROM", 4: "PCMCIA", 5: "USB", 6: "Network"}
PARITY: Final = {0: "D", 1: "N", 2: "E", 3: "O", 4: "M", 5: "S"}
STOP_BITS: Final = {0: "D", 1: "1", 2: "1.5", 3: "2"}
PROTOCOLS: Final = {6: "TCP", 17: "UDP"}
