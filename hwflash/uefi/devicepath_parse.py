r"""Device paths from their text, the reverse of `hwflash.uefi.devicepath_text`.

Ref: edk2 MdePkg/Library/UefiDevicePathLib/DevicePathFromText.c. Unlike there, an unknown name,
a number too large and a wrong count of arguments are errors.

Nodes are parted by ``/``, instances by ``,``. A node is a name with arguments in parentheses;
anything else is a file path. Names are taken in either case, white space around nodes is
dropped.

Printing does not keep everything, and what it drops comes back as zero: reserved fields, ports
of IPv4 and IPv6, bytes behind a terminator or behind the address of a MAC node, unnamed bits
of topologies, iSCSI options, EISA ids and flow controls, the MBR type where it is not that of
the signature, data behind a well-known vendor's GUID. Characters that are printed as escapes
come back as the text of the escape, and a fault behind the path as text. File paths and BBS
descriptions come back with a terminator, serial numbers and URIs without. A file path with
``/`` or ``,``, or one that looks like a node, does not come back as one file path.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from hwflash.uefi import devicepath_names as names
from hwflash.uefi.devicepath import (
    ACPI,
    BBS,
    END,
    END_ENTIRE,
    END_INSTANCE,
    HARDWARE,
    MEDIA,
    DevicePath,
    Node,
)
from hwflash.uefi.devicepath_arguments import Arguments, bad, shown
from hwflash.uefi.devicepath_messages import BODY_LIMIT, MESSAGES, Form, fixed, vendor
from hwflash.uefi.window import encode_utf16

_NAMED: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]*(?=\()")
_EISA: Final = re.compile(r"[@-_]{3}[0-9A-Fa-f]{4}")
_NUMERIC: Final = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+", re.ASCII)
#: Arguments of UsbWwid with a quoted serial number, which may hold parentheses.
_WITH_SERIAL: Final = re.compile(r'(?:[^,()]*,){3}\s*".*?"(?=\)\s*(?:[/,]|$))', re.DOTALL)
_EISA_PNP: Final = 0x41D0


def parse_text(text: str) -> DevicePath:
    r"""Build a device path from its text, end node included.

    ``PciRoot(0x0)/Pci(0x1F,0x2)/Sata(0x0,0xFFFF,0x0)`` is a full path; a path that begins with
    ``HD(...)``, or is a file path alone such as ``\EFI\BOOT\BOOTX64.EFI``, is a short-form
    path, which the firmware completes.

    Args:
        text: the path.

    Raises:
        UsageError: it is none (``usage.device-path``); ``context["column"]`` says where.
    """
    at = len(text) - len(text.lstrip())
    end = len(text.rstrip())
    if at >= end:
        raise bad(1, "the device path is empty")
    nodes: list[Node] = []
    while True:
        node, after = _node(text, at, end)
        if len(node.body) > BODY_LIMIT:
            raise bad(at + 1, f"the node has {len(node.body)} bytes, {BODY_LIMIT} are possible")
        nodes.append(node)
        after = _skip(text, after, end)
        if after >= end:
            break
        if text[after] == ",":
            nodes.append(Node(END, END_INSTANCE))
        elif text[after] != "/":
            raise bad(
                after + 1, f"'/' or ',' is expected behind a node, not {shown(text[after:end])}"
            )
        at = after + 1
    return DevicePath((*nodes, Node(END, END_ENTIRE)))


def _node(text: str, at: int, end: int) -> tuple[Node, int]:
    """The node at a place, and the place behind it."""
    at = _skip(text, at, end)
    named = _NAMED.match(text, at, end)
    if named is None:
        after = next((place for place in range(at, end) if text[place] in "/,"), end)
        return _file_path(text[at:after].rstrip(), at + 1), after
    name = named.group()
    known = _FORMS.get(name.lower())
    if known is None:
        text = (
            f"no node is called {shown(name)}; file paths with parentheses begin with a backslash"
        )
        raise bad(at + 1, text)
    first = named.end() + 1
    last = _closing(text, first, end, quoted=name.lower() == "usbwwid")
    args = Arguments(known[0], text[first:last], first + 1)
    node = known[1](args)
    args.done()
    return node, last + 1


def _skip(text: str, at: int, end: int) -> int:
    """The place behind white space."""
    while at < end and text[at].isspace():
        at += 1
    return at


def _closing(text: str, first: int, end: int, *, quoted: bool) -> int:
    """Place of the parenthesis that closes the one before ``first``."""
    if quoted and (found := _WITH_SERIAL.match(text, first, end)):
        return found.end()
    depth = 1
    for place in range(first, end):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if not depth:
            return place
    raise bad(first, "this parenthesis is not closed")


def _file_path(text: str, column: int) -> Node:
    if not text:
        raise bad(column, "a node is expected")
    if text.lower() in _FORMS:
        raise bad(column, f"{_FORMS[text.lower()][0]} needs arguments in parentheses")
    if "\0" in text:
        raise bad(column + text.index("\0"), "a NUL cannot be in a file path")
    return Node(MEDIA, 4, encode_utf16(text))


# --- hardware, ACPI ----------------------------------------------------------------------


def _generic(kind: int) -> Form:
    def form(args: Arguments) -> Node:
        subtype = args.integer(8, "a sub-type")
        return Node(kind, subtype, args.hex("data", 0, BODY_LIMIT) if args.left else b"")

    return form


def _path(args: Arguments) -> Node:
    column, kind = args.next_column, args.integer(8, "a type")
    if kind == END:
        raise bad(column, "an end node cannot be in the middle of a path")
    return _generic(kind)(args)


def _eisa(text: str) -> int:
    letters = [(ord(char) - 0x40) & 0x1F for char in text[:3]]
    return letters[0] << 10 | letters[1] << 5 | letters[2] | int(text[3:], 16) << 16


def _acpi(args: Arguments) -> Node:
    word = args.peek()
    if _EISA.fullmatch(word):
        args.word("an EISA id")
        hid = _eisa(word)
    elif _NUMERIC.fullmatch(word):
        hid = args.integer(32, "a HID")
    else:
        raise args.bad("a HID such as PNP0A03")
    return Node(ACPI, 1, struct.pack("<II", hid, args.integer(32, "a UID", 0)))


def _acpi_named(number: int) -> Form:
    def form(args: Arguments) -> Node:
        hid = number << 16 | _EISA_PNP
        return Node(ACPI, 1, struct.pack("<II", hid, args.integer(32, "a UID", 0)))

    return form


def _id_or_text(args: Arguments, what: str) -> tuple[int, bytes]:
    """An EISA id as a number, or else text; nothing and 0 are neither."""
    word = args.peek()
    if _EISA.fullmatch(word):
        args.word(what)
        return _eisa(word), b""
    text = args.latin1(what, 255)
    return 0, b"" if word == "0" else text


def _acpi_extended(args: Arguments) -> Node:
    """Three arguments as they are printed, or the three strings behind them."""
    hid, hid_text = _id_or_text(args, "a HID")
    cid, cid_text = _id_or_text(args, "a CID")
    uid, uid_text = 0, b""
    if not args.peek() or _NUMERIC.fullmatch(args.peek()):
        uid = args.integer(32, "a UID", 0)
    else:
        uid_text = args.latin1("a UID", 255)
    texts = [hid_text, cid_text, uid_text]
    for index in range(min(args.left, 3)):
        texts[index] = args.latin1("a string", 255) or texts[index]
    body = struct.pack("<III", hid, uid, cid)
    return Node(ACPI, 2, body + b"\0".join((texts[0], texts[2], texts[1])) + b"\0")


def _acpi_expanded(args: Arguments) -> Node:
    """HID, CID and the UID as a string."""
    args.free_text(2, 0)
    ids: list[int] = []
    for what in ("a HID such as PNP0A03", "a CID such as PNP0A03, or 0"):
        word = args.peek()
        if not _EISA.fullmatch(word) and word not in ("", "0"):
            raise args.bad(what)
        ids.append(_eisa(args.word(what)) if len(word) > 1 else 0 * len(args.word(what, "0")))
    uid = args.latin1("a UID", 255)
    return Node(ACPI, 2, struct.pack("<III", ids[0], 0, ids[1]) + b"\0" + uid + b"\0\0")


def _acpi_adr(args: Arguments) -> Node:
    numbers = [args.integer(32, "an address")]
    while args.left:
        numbers.append(args.integer(32, "an address"))
    return Node(ACPI, 3, struct.pack(f"<{len(numbers)}I", *numbers))


# --- media, BBS --------------------------------------------------------------------------


def _hard_drive(args: Arguments) -> Node:
    number = args.integer(32, "a partition")
    kind = args.choice({"MBR": 1, "GPT": 2}, 8, "a signature type")
    if kind == 2:
        signature = args.guid()
    else:
        signature = args.integer(32, "a signature").to_bytes(4, "little").ljust(16, b"\0")
    start, size = args.integer(64, "a start", 0), args.integer(64, "a size", 0)
    partition_format = kind if kind in (1, 2) else 0
    body = struct.pack("<IQQ16sBB", number, start, size, signature, partition_format, kind)
    return Node(MEDIA, 1, body)


def _guid_only(subtype: int) -> Form:
    return lambda args: Node(MEDIA, subtype, args.guid())


def _ram_disk(name: str) -> Form:
    known = next((guid for guid, word in names.RAM_DISKS.items() if word == name), None)

    def form(args: Arguments) -> Node:
        start, end = args.integer(64, "a start"), args.integer(64, "an end")
        instance = args.integer(16, "an instance", 0)
        guid = known.bytes_le if known is not None else args.guid("the GUID of a type")
        return Node(MEDIA, 9, struct.pack("<QQ16sH", start, end, guid, instance))

    return form


def _bbs(args: Arguments) -> Node:
    args.free_text(1, 1)
    kinds = {word: value for value, word in names.BBS_TYPES.items()}
    kind = args.choice(kinds, 16, "a device type")
    name = args.latin1("a description", BODY_LIMIT)
    status = args.integer(16, "a status", 0)
    return Node(BBS, 1, struct.pack("<HH", kind, status) + name + b"\0")


_NODES: Final[dict[str, Form]] = {
    "Path": _path,
    **{name: _generic(kind) for kind, name in names.GENERIC.items()},
    "Pci": fixed(HARDWARE, 1, "BB", "a device", "a function", order=(1, 0)),
    "PcCard": fixed(HARDWARE, 2, "B", "a function"),
    "MemoryMapped": fixed(HARDWARE, 3, "IQQ", "a memory type", "a start", "an end"),
    "VenHw": vendor(HARDWARE, 4),
    "Ctrl": fixed(HARDWARE, 5, "I", "a controller"),
    "BMC": fixed(HARDWARE, 6, "BQ", "an interface type", "an address"),
    "Acpi": _acpi,
    **{name: _acpi_named(number) for number, name in names.ACPI_NAMES.items()},
    "AcpiEx": _acpi_extended,
    "AcpiExp": _acpi_expanded,
    "AcpiAdr": _acpi_adr,
    **MESSAGES,
    "HD": _hard_drive,
    "CDROM": fixed(MEDIA, 2, "IQQ", "a boot entry", "a start", "a size"),
    "VenMedia": vendor(MEDIA, 3),
    "Media": _guid_only(5),
    "FvFile": _guid_only(6),
    "Fv": _guid_only(7),
    "Offset": fixed(MEDIA, 8, "4xQQ", "a start", "an end"),
    "RamDisk": _ram_disk("RamDisk"),
    **{name: _ram_disk(name) for name in names.RAM_DISKS.values()},
    "BBS": _bbs,
}
_FORMS: Final[dict[str, tuple[str, Form]]] = {
    name.lower(): (name, form) for name, form in _NODES.items()
}
