"""Messaging nodes of a device path from their text.

Ref: edk2 MdePkg/Library/UefiDevicePathLib/DevicePathFromText.c (defaults,
byte orders, the bits of device topologies and of iSCSI's login options).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final
from uuid import UUID

from hwflash.uefi import devicepath_names as names
from hwflash.uefi.devicepath import MESSAGING, Node
from hwflash.uefi.devicepath_arguments import Arguments, bad, shown

Form = Callable[[Arguments], Node]

_IPV6_ORIGINS: Final = {
    "Static": 0, "StatelessAutoConfigure": 1, "StatefulAutoConfigure": 2,
}  # fmt: skip
_VENDOR_SUBTYPE: Final = 10
#: A node's length has 16 bits and counts a header of 4 bytes.
BODY_LIMIT: Final = 0xFFFF - 4


def fixed(kind: int, subtype: int, code: str, *whats: str, order: tuple[int, ...] = ()) -> Form:
    """A node of numbers only.

    Args:
        kind: type of the node.
        subtype: its sub-type.
        code: of `struct`; ``x`` are reserved bytes, which become zero.
        whats: what the arguments are, in the order of the text.
        order: for each argument its place among the numbers, where it has another.
    """
    packer = struct.Struct("<" + code)
    widths = [8 * struct.calcsize("<" + letter) for letter in code if letter in "BHIQ"]
    places = order or tuple(range(len(widths)))

    def form(args: Arguments) -> Node:
        values = [0] * len(widths)
        for place, what in zip(places, whats, strict=True):
            values[place] = args.integer(widths[place], what)
        return Node(kind, subtype, packer.pack(*values))

    return form


def vendor(kind: int, subtype: int) -> Form:
    """A vendor's node: a GUID, and bytes."""

    def form(args: Arguments) -> Node:
        guid = args.guid()
        return Node(kind, subtype, guid + (args.hex("data", 0, BODY_LIMIT) if args.left else b""))

    return form


def _well_known(guid: UUID) -> Form:
    return lambda args: Node(MESSAGING, _VENDOR_SUBTYPE, guid.bytes_le)


def _uart_flow(args: Arguments) -> Node:
    words = {"None": 0, "Hardware": 1, "XonXoff": 2}
    control = args.choice(words, 0, "a flow control")
    body = names.UART_FLOW.bytes_le + control.to_bytes(4, "little")
    return Node(MESSAGING, _VENDOR_SUBTYPE, body)


def _topology(args: Arguments) -> int:
    """The four arguments of a device topology."""
    first = args.peek()
    if first.lower() not in ("sas", "sata"):
        info = args.choice({"NoTopology": 0}, 16, "a topology: SAS, SATA")
        for what in ("a location", "a connection", "a drive bay"):
            args.integer(8, what, 0)
        return info
    info = args.choice({"SAS": 0, "SATA": 0x10}, 0, "a topology")
    info |= args.choice({"Internal": 0, "External": 1}, 1, "a location") << 5
    info |= args.choice({"Direct": 0, "Expanded": 1}, 1, "a connection") << 6
    column = args.next_column
    bay = args.integer(16, "a drive bay", 0)
    if bay > 0x100:
        raise bad(column, f"{args.name} needs a drive bay up to 0x100, not 0x{bay:X}")
    return info | (1 if bay == 0 else 2 | (bay - 1) << 8)


def _sas(args: Arguments) -> Node:
    address, lun = args.integer(64, "an address"), args.integer(64, "a LUN")
    port = args.integer(16, "a target port")
    topology = _topology(args)
    reserved = args.integer(32, "a reserved number", 0)
    body = struct.pack("<IQQHH", reserved, address, lun, topology, port)
    return Node(MESSAGING, _VENDOR_SUBTYPE, names.SAS.bytes_le + body)


def _sas_ex(args: Arguments) -> Node:
    address, lun = args.integer(64, "an address"), args.integer(64, "a LUN")
    port = args.integer(16, "a target port")
    body = struct.pack(">QQ", address, lun) + struct.pack("<HH", _topology(args), port)
    return Node(MESSAGING, 22, body)


def _fibre_ex(args: Arguments) -> Node:
    body = struct.pack(">4xQQ", args.integer(64, "a world wide name"), args.integer(64, "a LUN"))
    return Node(MESSAGING, 21, body)


def _ata(args: Arguments) -> Node:
    secondary = args.choice({"Primary": 0, "Secondary": 1}, 8, "a channel")
    slave = args.choice({"Master": 0, "Slave": 1}, 8, "a drive")
    return Node(MESSAGING, 1, struct.pack("<BBH", secondary, slave, args.integer(16, "a LUN")))


def _i1394(args: Arguments) -> Node:
    digits = args.hex("a GUID", 8, 8)
    return Node(MESSAGING, 4, bytes(4) + digits[::-1])


def _infiniband(args: Arguments) -> Node:
    flags, gid = args.integer(32, "flags"), args.guid()
    numbers = [args.integer(64, what) for what in ("a service", "a target port", "a device")]
    return Node(MESSAGING, 9, struct.pack("<I16sQQQ", flags, gid, *numbers))


def _mac(args: Arguments) -> Node:
    column = args.next_column
    address = args.hex("an address", 1, 32)
    kind = args.integer(8, "an interface type", 0)
    if kind in (0, 1) and len(address) != 6:
        raise bad(
            column, f"MAC of interface type {kind} needs an address of 6 bytes, not {len(address)}"
        )
    return Node(MESSAGING, 11, address.ljust(32, b"\0") + bytes([kind]))


def _ipv4(args: Arguments) -> Node:
    remote, protocol = args.ipv4("a remote address"), args.protocol()
    static = args.choice({"DHCP": 0, "Static": 1}, 0, "an origin")
    local = args.ipv4("a local address")
    body = local + remote + struct.pack("<4xHB", protocol, static)
    if args.left:
        body += args.ipv4("a gateway") + args.ipv4("a subnet mask")
    return Node(MESSAGING, 12, body)


def _ipv6(args: Arguments) -> Node:
    remote, protocol = args.ipv6("a remote address"), args.protocol()
    origin = args.choice(_IPV6_ORIGINS, 0, "an origin")
    local = args.ipv6("a local address")
    body = local + remote + struct.pack("<4xHB", protocol, origin)
    if args.left:
        body += bytes([args.integer(8, "a prefix length")]) + args.ipv6("a gateway")
    return Node(MESSAGING, 13, body)


def _uart(args: Arguments) -> Node:
    # DEFAULT is what is printed for 0; edk2 makes 115200 and 8 of it.
    baud = args.choice({"DEFAULT": 0}, 64, "a baud rate")
    bits = args.choice({"DEFAULT": 0}, 8, "data bits")
    parity = args.choice({word: value for value, word in names.PARITY.items()}, 0, "a parity")
    words = {word: value for value, word in names.STOP_BITS.items()}
    stop = args.choice(words, 0, "stop bits")
    return Node(MESSAGING, 14, struct.pack("<4xQBBB", baud, bits, parity, stop))


def _usb_class(kind: int | None = None, subclass: int | None = None) -> Form:
    def form(args: Arguments) -> Node:
        vendor_id = args.integer(16, "a vendor", 0xFFFF)
        product = args.integer(16, "a product", 0xFFFF)
        number = args.integer(8, "a class", 0xFF) if kind is None else kind
        sub = args.integer(8, "a sub-class", 0xFF) if subclass is None else subclass
        protocol = args.integer(8, "a protocol", 0xFF)
        return Node(MESSAGING, 15, struct.pack("<HHBBB", vendor_id, product, number, sub, protocol))

    return form


def _usb_wwid(args: Arguments) -> Node:
    args.free_text(3, 0)
    vendor_id, product = args.integer(16, "a vendor"), args.integer(16, "a product")
    interface = args.integer(16, "an interface")
    serial = args.word("a serial number", "")
    if len(serial) >= 2 and serial[0] == serial[-1] == '"':
        serial = serial[1:-1]
    body = struct.pack("<HHH", interface, vendor_id, product)
    return Node(MESSAGING, 16, body + serial.encode("utf-16-le", "surrogatepass"))


def _sata(args: Arguments) -> Node:
    port = args.integer(16, "a port")
    multiplier = args.integer(16, "a port multiplier", 0xFFFF)
    return Node(MESSAGING, 18, struct.pack("<HHH", port, multiplier, args.integer(16, "a LUN")))


def _iscsi(args: Arguments) -> Node:
    args.free_text(0, 6)
    name = args.latin1("a target name", 223, empty=False)
    group, lun = args.integer(16, "a portal group"), args.integer(64, "a LUN")
    options = args.choice({"None": 0, "CRC32C": 0x2}, 0, "a header digest")
    options |= args.choice({"None": 0, "CRC32C": 0x8}, 0, "a data digest")
    logins = {"None": 0x800, "CHAP_UNI": 0x1000, "CHAP_BI": 0}
    options |= args.choice(logins, 0, "an authentication")
    protocol = args.choice({"TCP": 0, "reserved": 1}, 0, "a protocol")
    head = struct.pack("<HH", protocol, options) + struct.pack(">Q", lun)
    return Node(MESSAGING, 19, head + struct.pack("<H", group) + name + b"\0")


def _nvme(args: Arguments) -> Node:
    namespace = args.integer(32, "a namespace")
    column, word = args.next_column, args.word("an EUI-64")
    digits = word.split("-")
    if len(digits) != 8 or any(len(part) != 2 for part in digits):
        digits = [""]
    try:
        eui = bytes.fromhex("".join(digits))
    except ValueError:
        eui = b""
    if len(eui) != 8:
        raise bad(column, f"NVMe needs an EUI-64: 8 bytes parted by '-', not {shown(word)}")
    return Node(MESSAGING, 23, struct.pack("<I", namespace) + eui[::-1])


def _uri(args: Arguments) -> Node:
    args.free_text(0, 0)
    return Node(MESSAGING, 24, args.latin1("a URI", BODY_LIMIT))


def _bluetooth(args: Arguments) -> Node:
    return Node(MESSAGING, 27, args.hex("an address", 6, 6))


def _wifi(args: Arguments) -> Node:
    args.free_text(0, 0)
    return Node(MESSAGING, 28, args.latin1("an SSID", 32).ljust(32, b"\0"))


def _bluetooth_le(args: Arguments) -> Node:
    address = args.hex("an address", 6, 6)
    return Node(MESSAGING, 30, address + bytes([args.integer(8, "an address type")]))


def _dns(args: Arguments) -> Node:
    wide = ":" in args.text
    body = bytes([wide])
    while args.left or len(body) == 1:
        found = args.ipv6("a server") if wide else args.ipv4("a server")
        body += found.ljust(16, b"\0")
    return Node(MESSAGING, 31, body)


MESSAGES: Final[dict[str, Form]] = {
    "Ata": _ata,
    "Scsi": fixed(MESSAGING, 2, "HH", "a target", "a LUN"),
    "Fibre": fixed(MESSAGING, 3, "4xQQ", "a world wide name", "a LUN"),
    "I1394": _i1394,
    "USB": fixed(MESSAGING, 5, "BB", "a port", "an interface"),
    "I2O": fixed(MESSAGING, 6, "I", "a TID"),
    "Infiniband": _infiniband,
    "VenMsg": vendor(MESSAGING, _VENDOR_SUBTYPE),
    **{text.removesuffix("()"): _well_known(guid) for guid, text in names.VENDOR_MESSAGES.items()},
    "UartFlowCtrl": _uart_flow,
    "SAS": _sas,
    "MAC": _mac,
    "IPv4": _ipv4,
    "IPv6": _ipv6,
    "Uart": _uart,
    "UsbClass": _usb_class(),
    **{name: _usb_class(number) for number, name in names.USB_CLASSES.items()},
    **{name: _usb_class(0xFE, number) for number, name in names.USB_RESERVED.items()},
    "UsbWwid": _usb_wwid,
    "Unit": fixed(MESSAGING, 17, "B", "a LUN"),
    "Sata": _sata,
    "iSCSI": _iscsi,
    "Vlan": fixed(MESSAGING, 20, "H", "a VLAN"),
    "FibreEx": _fibre_ex,
    "SasEx": _sas_ex,
    "NVMe": _nvme,
    "Uri": _uri,
    "UFS": fixed(MESSAGING, 25, "BB", "a target", "a LUN"),
    "SD": fixed(MESSAGING, 26, "B", "a slot"),
    "Bluetooth": _bluetooth,
    "Wi-Fi": _wifi,
    "eMMC": fixed(MESSAGING, 29, "B", "a slot"),
    "BluetoothLE": _bluetooth_le,
    "Dns": _dns,
}
