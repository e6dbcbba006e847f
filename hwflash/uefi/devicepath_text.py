"""Device path nodes as text, in the forms of the UEFI specification and of edk2.

Ref: UEFI 2.10 §10.6; edk2 MdePkg/Library/UefiDevicePathLib/DevicePathToText.c (full forms,
with the shortcuts for well-known vendor nodes; hexadecimal digits are capital).

Limits: nodes that neither names, and nodes of a wrong length, are given as hexadecimal, such
as ``Msg(24,0102)``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from hwflash.uefi.devicepath import ACPI, BBS, HARDWARE, MEDIA, MESSAGING, Node
from hwflash.uefi.devicepath_names import (
    ACPI_NAMES,
    BBS_TYPES,
    GENERIC,
    PARITY,
    PROTOCOLS,
    RAM_DISKS,
    SAS,
    STOP_BITS,
    UART_FLOW,
    USB_CLASSES,
    USB_RESERVED,
    VENDOR_MESSAGES,
    VENDOR_TYPES,
)
from hwflash.uefi.guids import from_bytes
from hwflash.uefi.window import decode_utf16, printable

Text = Callable[[bytes], str]


class _NotThisNode(Exception):
    """The body has another length than the node's type asks for."""


def node_text(node: Node) -> str:
    """One node as text."""
    convert = _TEXTS.get((node.type, node.subtype))
    if convert is not None:
        try:
            return convert(node.body)
        except (_NotThisNode, struct.error):
            pass
    body = f",{node.body.hex().upper()}" if node.body else ""
    name = GENERIC.get(node.type)
    if name is None:
        return f"Path({node.type},{node.subtype}{body})"
    return f"{name}({node.subtype}{body})"


def _fixed(code: str, text: str, order: tuple[int, ...] = ()) -> Text:
    """A node of fixed size: its `struct` code, and a format for its values."""
    packer = struct.Struct("<" + code)

    def convert(body: bytes) -> str:
        values = packer.unpack(body)
        return text.format(*(values[index] for index in order) if order else values)

    return convert


def _take(code: str, body: bytes) -> tuple[tuple[Any, ...], bytes]:
    """Values at the beginning of a body, and what follows."""
    packer = struct.Struct("<" + code)
    return packer.unpack_from(body), body[packer.size :]


def _guid(data: bytes) -> str:
    return str(from_bytes(data)).upper()


def _ascii(data: bytes) -> str:
    return printable(data.partition(b"\0")[0].decode("latin-1"))


def _guid_only(name: str) -> Text:
    def convert(body: bytes) -> str:
        if len(body) != 16:
            raise _NotThisNode
        return f"{name}({_guid(body)})"

    return convert


def _hex_only(name: str, size: int) -> Text:
    def convert(body: bytes) -> str:
        if len(body) != size:
            raise _NotThisNode
        return f"{name}({body.hex().upper()})"

    return convert


def _vendor(kind: int) -> Text:
    def convert(body: bytes) -> str:
        if len(body) < 16:
            raise _NotThisNode
        guid, more = from_bytes(body[:16]), body[16:]
        if kind == MESSAGING:
            known = _vendor_message(guid, more)
            if known is not None:
                return known
        data = f",{more.hex().upper()}" if more else ""
        return f"Ven{VENDOR_TYPES[kind]}({_guid(body[:16])}{data})"

    return convert


def _vendor_message(guid: UUID, more: bytes) -> str | None:
    if guid in VENDOR_MESSAGES:
        return VENDOR_MESSAGES[guid]
    if guid == UART_FLOW and len(more) == 4:
        flow = {0: "None", 1: "Hardware", 2: "XonXoff"}.get(more[0] & 3)
        return f"UartFlowCtrl({flow})" if flow else None
    if guid == SAS and len(more) == 24:
        reserved, address, lun, topology, port = struct.unpack("<IQQHH", more)
        return f"SAS(0x{address:X},0x{lun:X},0x{port:X},{_topology(topology)},0x{reserved:X})"
    return None


def _topology(info: int) -> str:
    """Device topology of a SAS node: protocol, place, connection, drive bay."""
    if info & 0x8F == 0:
        return "NoTopology,0,0,0"
    if info & 0x0F <= 2 and not info & 0x80:
        words = ("SATA" if info & 0x10 else "SAS", "External" if info & 0x20 else "Internal",
                 "Expanded" if info & 0x40 else "Direct")  # fmt: skip
        bay = "0" if info & 0x0F == 1 else f"0x{(info >> 8 & 0xFF) + 1:X}"
        return ",".join((*words, bay))
    return f"0x{info:X},0,0,0"


def _eisa(value: int) -> str:
    letters = "".join(chr((value >> shift & 0x1F) + 0x40) for shift in (10, 5, 0))
    return f"{letters}{value >> 16:04X}"


def _acpi(body: bytes) -> str:
    hid, uid = struct.unpack("<II", body)
    if hid & 0xFFFF != 0x41D0:
        return f"Acpi(0x{hid:08X},0x{uid:X})"
    number = hid >> 16
    if number in ACPI_NAMES:
        return f"{ACPI_NAMES[number]}(0x{uid:X})"
    return f"Acpi(PNP{number:04X},0x{uid:X})"


def _acpi_extended(body: bytes) -> str:
    (hid, uid, cid), strings = _take("III", body)
    hid_text, uid_text, cid_text = (
        _ascii(part) for part in [*strings.split(b"\0"), b"", b"", b""][:3]
    )
    if not hid_text and not cid_text and uid == 0:
        return f"AcpiExp({_eisa(hid)},{_eisa(cid)},{uid_text})"
    return (
        f"AcpiEx({_eisa(hid) if hid else hid_text},{_eisa(cid) if cid else cid_text},"
        f"{f'0x{uid:X}' if uid else uid_text})"
    )


def _acpi_adr(body: bytes) -> str:
    if len(body) < 4 or len(body) % 4:
        raise _NotThisNode
    numbers = struct.unpack(f"<{len(body) // 4}I", body)
    return f"AcpiAdr({','.join(f'0x{number:X}' for number in numbers)})"


def _atapi(body: bytes) -> str:
    secondary, slave, lun = struct.unpack("<BBH", body)
    first = "Secondary" if secondary == 1 else "Primary"
    return f"Ata({first},{'Slave' if slave == 1 else 'Master'},0x{lun:X})"


def _fibre_ex(body: bytes) -> str:
    if len(body) != 20:
        raise _NotThisNode
    return f"FibreEx(0x{body[4:12].hex().upper()},0x{body[12:].hex().upper()})"


def _sas_ex(body: bytes) -> str:
    if len(body) != 20:
        raise _NotThisNode
    topology, port = struct.unpack("<HH", body[16:])
    return (
        f"SasEx(0x{body[:8].hex().upper()},0x{body[8:16].hex().upper()},0x{port:X},"
        f"{_topology(topology)})"
    )


def _nvme(body: bytes) -> str:
    if len(body) != 12:
        raise _NotThisNode
    (namespace,), uuid = _take("I", body)
    return f"NVMe(0x{namespace:X},{'-'.join(f'{byte:02X}' for byte in reversed(uuid))})"


def _usb_wwid(body: bytes) -> str:
    (interface, vendor, product), serial = _take("HHH", body)
    text = printable(decode_utf16(serial))
    return f'UsbWwid(0x{vendor:X},0x{product:X},0x{interface:X},"{text}")'


def _usb_class(body: bytes) -> str:
    vendor, product, kind, sub, protocol = struct.unpack("<HHBBB", body)
    if kind in USB_CLASSES:
        return f"{USB_CLASSES[kind]}(0x{vendor:X},0x{product:X},0x{sub:X},0x{protocol:X})"
    if kind == 0xFE and sub in USB_RESERVED:
        return f"{USB_RESERVED[sub]}(0x{vendor:X},0x{product:X},0x{protocol:X})"
    return f"UsbClass(0x{vendor:X},0x{product:X},0x{kind:X},0x{sub:X},0x{protocol:X})"


def _mac(body: bytes) -> str:
    if len(body) != 33:
        raise _NotThisNode
    kind = body[32]
    return f"MAC({body[: 6 if kind in (0, 1) else 32].hex().upper()},0x{kind:X})"


def _v4(data: bytes) -> str:
    return ".".join(str(byte) for byte in data)


def _v6(data: bytes) -> str:
    return ":".join(data[at : at + 2].hex().upper() for at in range(0, 16, 2))


def _protocol(number: int) -> str:
    return PROTOCOLS.get(number, f"0x{number:X}")


def _ipv4(body: bytes) -> str:
    if len(body) not in (15, 23):
        raise _NotThisNode
    local, remote, _, _, protocol, static = struct.unpack("<4s4sHHHB", body[:15])
    more = f",{_v4(body[15:19])},{_v4(body[19:])}" if len(body) == 23 else ""
    origin = "Static" if static else "DHCP"
    return f"IPv4({_v4(remote)},{_protocol(protocol)},{origin},{_v4(local)}{more})"


def _ipv6(body: bytes) -> str:
    if len(body) not in (39, 56):
        raise _NotThisNode
    local, remote, _, _, protocol, origin = struct.unpack("<16s16sHHHB", body[:39])
    words = {0: "Static", 1: "StatelessAutoConfigure"}.get(origin, "StatefulAutoConfigure")
    more = f",0x{body[39]:X},{_v6(body[40:])}" if len(body) == 56 else ""
    return f"IPv6({_v6(remote)},{_protocol(protocol)},{words},{_v6(local)}{more})"


def _infiniband(body: bytes) -> str:
    flags, gid, service, target, device = struct.unpack("<I16sQQQ", body)
    return f"Infiniband(0x{flags:X},{_guid(gid)},0x{service:X},0x{target:X},0x{device:X})"


def _uart(body: bytes) -> str:
    _, baud, bits, parity, stop = struct.unpack("<IQBBB", body)
    return (
        f"Uart({baud or 'DEFAULT'},{bits or 'DEFAULT'},{PARITY.get(parity, 'x')},"
        f"{STOP_BITS.get(stop, 'x')})"
    )


def _iscsi(body: bytes) -> str:
    (protocol, options, lun, group), name = _take("HH8sH", body)
    digests = ["CRC32C" if options >> bit & 1 else "None" for bit in (1, 3)]
    login = "None" if options >> 11 & 1 else "CHAP_UNI" if options >> 12 & 1 else "CHAP_BI"
    words = [*digests, login, "reserved" if protocol else "TCP"]
    return f"iSCSI({_ascii(name)},0x{group:X},0x{lun.hex().upper()},{','.join(words)})"


def _dns(body: bytes) -> str:
    if len(body) % 16 != 1:
        raise _NotThisNode
    servers = [body[at : at + 16] for at in range(1, len(body), 16)]
    return f"Dns({','.join(_v6(item) if body[0] else _v4(item[:4]) for item in servers)})"


def _hard_drive(body: bytes) -> str:
    number, start, size, signature, _, kind = struct.unpack("<IQQ16sBB", body)
    if kind == 1:
        what = f"MBR,0x{int.from_bytes(signature[:4], 'little'):08X}"
    elif kind == 2:
        what = f"GPT,{_guid(signature)}"
    else:
        what = f"{kind},0"
    return f"HD({number},{what},0x{start:X},0x{size:X})"


def _file_path(body: bytes) -> str:
    return printable(decode_utf16(body))


def _ram_disk(body: bytes) -> str:
    start, end, guid, instance = struct.unpack("<QQ16sH", body)
    name = RAM_DISKS.get(from_bytes(guid))
    if name is not None:
        return f"{name}(0x{start:X},0x{end:X},{instance})"
    return f"RamDisk(0x{start:X},0x{end:X},{instance},{_guid(guid)})"


def _bbs(body: bytes) -> str:
    (kind, status), name = _take("HH", body)
    return f"BBS({BBS_TYPES.get(kind, f'0x{kind:X}')},{_ascii(name)},0x{status:X})"


def _bluetooth_le(body: bytes) -> str:
    if len(body) != 7:
        raise _NotThisNode
    return f"BluetoothLE({body[:6].hex().upper()},0x{body[6]:02X})"


_TEXTS: Final[dict[tuple[int, int], Text]] = {
    (HARDWARE, 1): _fixed("BB", "Pci(0x{:X},0x{:X})", (1, 0)),
    (HARDWARE, 2): _fixed("B", "PcCard(0x{:X})"),
    (HARDWARE, 3): _fixed("IQQ", "MemoryMapped(0x{:X},0x{:X},0x{:X})"),
    (HARDWARE, 4): _vendor(HARDWARE),
    (HARDWARE, 5): _fixed("I", "Ctrl(0x{:X})"),
    (HARDWARE, 6): _fixed("BQ", "BMC(0x{:X},0x{:X})"),
    (ACPI, 1): _acpi,
    (ACPI, 2): _acpi_extended,
    (ACPI, 3): _acpi_adr,
    (MESSAGING, 1): _atapi,
    (MESSAGING, 2): _fixed("HH", "Scsi(0x{:X},0x{:X})"),
    (MESSAGING, 3): _fixed("IQQ", "Fibre(0x{:X},0x{:X})", (1, 2)),
    (MESSAGING, 4): _fixed("IQ", "I1394({:016X})", (1,)),
    (MESSAGING, 5): _fixed("BB", "USB(0x{:X},0x{:X})"),
    (MESSAGING, 6): _fixed("I", "I2O(0x{:X})"),
    (MESSAGING, 9): _infiniband,
    (MESSAGING, 10): _vendor(MESSAGING),
    (MESSAGING, 11): _mac,
    (MESSAGING, 12): _ipv4,
    (MESSAGING, 13): _ipv6,
    (MESSAGING, 14): _uart,
    (MESSAGING, 15): _usb_class,
    (MESSAGING, 16): _usb_wwid,
    (MESSAGING, 17): _fixed("B", "Unit(0x{:X})"),
    (MESSAGING, 18): _fixed("HHH", "Sata(0x{:X},0x{:X},0x{:X})"),
    (MESSAGING, 19): _iscsi,
    (MESSAGING, 20): _fixed("H", "Vlan({})"),
    (MESSAGING, 21): _fibre_ex,
    (MESSAGING, 22): _sas_ex,
    (MESSAGING, 23): _nvme,
    (MESSAGING, 24): lambda body: f"Uri({_ascii(body)})",
    (MESSAGING, 25): _fixed("BB", "UFS(0x{:X},0x{:X})"),
    (MESSAGING, 26): _fixed("B", "SD(0x{:X})"),
    (MESSAGING, 27): _hex_only("Bluetooth", 6),
    (MESSAGING, 28): lambda body: f"Wi-Fi({_ascii(body[:32])})",
    (MESSAGING, 29): _fixed("B", "eMMC(0x{:X})"),
    (MESSAGING, 30): _bluetooth_le,
    (MESSAGING, 31): _dns,
    (MEDIA, 1): _hard_drive,
    (MEDIA, 2): _fixed("IQQ", "CDROM(0x{:X},0x{:X},0x{:X})"),
    (MEDIA, 3): _vendor(MEDIA),
    (MEDIA, 4): _file_path,
    (MEDIA, 5): _guid_only("Media"),
    (MEDIA, 6): _guid_only("FvFile"),
    (MEDIA, 7): _guid_only("Fv"),
    (MEDIA, 8): _fixed("IQQ", "Offset(0x{:X},0x{:X})", (1, 2)),
    (MEDIA, 9): _ram_disk,
    (BBS, 1): _bbs,
}
