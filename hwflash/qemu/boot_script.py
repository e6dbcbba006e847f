"""The S3 boot script: what firmware does to the hardware on resume, before the OS goes on.

A script is found in memory by its header and decoded entry by entry. OVMF's holds the addresses
that are to be written back to fw_cfg: each is restored in a buffer, then moved by a DMA access
that is started by an I/O write and polled for its end. `fwcfg_transfers` recognises that.

Ref: edk2 MdeModulePkg/Library/PiDxeS3BootScriptLib/BootScriptInternalFormat.h; PI 1.7 volume 5
§8.7 (opcodes); OvmfPkg/Library/QemuFwCfgS3Lib.
Limits: scripts of edk2's own format; entries are packed and little endian.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import construct

from hwflash.errors import ReferenceFailed
from hwflash.qemu import fwcfg

# construct carries no annotations: its names enter as Any.
c: Any = construct

#: Begin of a script: opcode AA, length 13, version 1.
MAGIC: Final = bytes.fromhex("aa000d0100")
HEADER: Final = c.Struct(
    "opcode" / c.Int16ul, "length" / c.Int8ul, "version" / c.Int16ul, "table_length" / c.Int32ul,
    "reserved" / c.Bytes(4),
)  # fmt: skip
HEADER_BYTES: Final = 13
_ENTRY_BYTES: Final = 3
#: More than any firmware writes.
LARGEST: Final = 256 << 10
#: Begins of scripts that are looked at; memory full of them must not take minutes.
_HITS: Final = 1024
TERMINATE: Final = 0xFF
INFORMATION: Final = 0x0A

_HEAD: Final = ("opcode" / c.Int16ul, "length" / c.Int8ul)
_UNITS: Final = ("width" / c.Int32ul, "count" / c.Int32ul, "address" / c.Int64ul)
_UNIT: Final = ("width" / c.Int32ul, "address" / c.Int64ul)
#: Names and fields by opcode; what is behind the fields is data.
_OPCODES: Final[dict[int, tuple[str, Any]]] = {
    0x00: ("IO_WRITE", c.Struct(*_HEAD, *_UNITS)),
    0x01: ("IO_READ_WRITE", c.Struct(*_HEAD, *_UNIT)),
    0x02: ("MEM_WRITE", c.Struct(*_HEAD, *_UNITS)),
    0x03: ("MEM_READ_WRITE", c.Struct(*_HEAD, *_UNIT)),
    0x04: ("PCI_CONFIG_WRITE", c.Struct(*_HEAD, *_UNITS)),
    0x05: ("PCI_CONFIG_READ_WRITE", c.Struct(*_HEAD, *_UNIT)),
    0x06: ("SMBUS_EXECUTE", c.Struct(*_HEAD)),
    0x07: ("STALL", c.Struct(*_HEAD, "duration" / c.Int64ul)),
    0x08: ("DISPATCH", c.Struct(*_HEAD, "address" / c.Int64ul)),
    0x09: ("DISPATCH_2", c.Struct(*_HEAD, "address" / c.Int64ul, "context" / c.Int64ul)),
    INFORMATION: ("INFORMATION", c.Struct(*_HEAD, "size" / c.Int32ul)),
    0x0B: ("PCI_CONFIG2_WRITE", c.Struct(*_HEAD, *_UNITS, "segment" / c.Int16ul)),
    0x0C: ("PCI_CONFIG2_READ_WRITE", c.Struct(*_HEAD, *_UNIT, "segment" / c.Int16ul)),
    0x0D: ("IO_POLL", c.Struct(*_HEAD, *_UNIT, "duration" / c.Int64ul)),
    0x0E: ("MEM_POLL", c.Struct(*_HEAD, *_UNIT, "duration" / c.Int64ul, "loops" / c.Int64ul)),
    0x0F: ("PCI_CONFIG_POLL", c.Struct(*_HEAD, *_UNIT, "duration" / c.Int64ul)),
    0x10: ("PCI_CONFIG2_POLL", c.Struct(
        *_HEAD, *_UNIT, "segment" / c.Int16ul, "duration" / c.Int64ul)),
    TERMINATE: ("TERMINATE", c.Struct(*_HEAD)),
}  # fmt: skip
#: Opcodes that change bits: behind the fields are a value, and a mask.
_MASKED: Final = frozenset(
    {"IO_READ_WRITE", "MEM_READ_WRITE", "PCI_CONFIG_READ_WRITE", "PCI_CONFIG2_READ_WRITE",
     "IO_POLL", "MEM_POLL", "PCI_CONFIG_POLL", "PCI_CONFIG2_POLL"}
)  # fmt: skip
#: EFI_BOOT_SCRIPT_WIDTH: bytes of a unit; 4 to 7 repeat at one address, 8 to 11 repeat the data.
_WIDTHS: Final = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry.

    Attributes:
        offset: in the script.
        name: of its opcode, such as ``MEM_WRITE``.
        width: bytes of a unit; 0 where there are none.
        count: units.
        address: in memory, I/O or PCI space, as its opcode says.
        data: what is written; what is told, of ``INFORMATION``.
        value: of a poll or a change of bits.
        mask: the bits that count.
        loops: how often a poll looks before it gives up.
        same_address: the units of a write all go to one address.
    """

    offset: int
    name: str
    width: int = 0
    count: int = 0
    address: int = 0
    data: bytes = b""
    value: int = 0
    mask: int = 0
    loops: int = 0
    same_address: bool = False

    @property
    def text(self) -> str:
        """In words."""
        where = f"{self.name} 0x{self.address:X}"
        if self.name in _MASKED:
            return f"{where}: value 0x{self.value:X}, mask 0x{self.mask:X}"
        if self.count:
            return f"{where}, {self.count} x {self.width}: {self.data.hex(' ')}"
        if self.name in ("INFORMATION", "SMBUS_EXECUTE"):
            return f"{self.name} {self.data.hex(' ')}".rstrip()
        return where if self.address else self.name


@dataclass(frozen=True, slots=True)
class Script:
    """A boot script.

    Attributes:
        address: where it lies.
        entries: in order, the last one ``TERMINATE``.
    """

    address: int
    entries: tuple[Entry, ...]


def find_scripts(data: bytes, base: int) -> list[Script]:
    """Every script in a piece of memory that can be decoded to its end.

    Args:
        data: the piece.
        base: its address.
    """
    found: list[Script] = []
    at = data.find(MAGIC)
    for _ in range(_HITS):
        if at < 0:
            break
        head = data[at : at + HEADER_BYTES]
        length = HEADER.parse(head).table_length if len(head) == HEADER_BYTES else 0
        try:
            entries = parse_script(data[at : at + min(length, LARGEST)])
        except ReferenceFailed:
            pass  # five bytes that happen to be there, or half a script
        else:
            found.append(Script(base + at, entries))
        at = data.find(MAGIC, at + 1)
    return found


def parse_script(data: bytes) -> tuple[Entry, ...]:
    """The entries of a script.

    Args:
        data: from its header on; what is behind its end is not looked at.

    Raises:
        ReferenceFailed: there is no header, an entry reaches beyond the script, has an unknown
            opcode or contradicts itself, or the end is missing (``reference.boot-script``).
    """
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise _wrong("begins with no header", 0)
    end = HEADER.parse(data).table_length
    if not HEADER_BYTES <= end <= len(data):
        raise _wrong(f"claims {end:,} bytes of {len(data):,}", 0)
    at, found = HEADER_BYTES, list[Entry]()
    while at + _ENTRY_BYTES <= end:
        length = data[at + 2]
        if length < _ENTRY_BYTES or at + length > end:
            raise _wrong(f"has an entry of {length} bytes", at)
        entry = _entry(data[at : at + length], at)
        found.append(entry)
        at += length
        if entry.name == "TERMINATE":
            return tuple(found)
    raise _wrong("has no end", at)


def _entry(data: bytes, at: int) -> Entry:
    number = int.from_bytes(data[:2], "little")
    name, form = _OPCODES.get(number, ("", None))
    if form is None:
        raise _wrong(f"has the unknown opcode 0x{number:X}", at)
    if len(data) < form.sizeof():
        raise _wrong(f"has {name} in {len(data)} bytes", at)
    fields = form.parse(data)
    rest = data[form.sizeof() :]
    code: int = fields.get("width", 0)
    if code >= 3 * len(_WIDTHS):
        raise _wrong(f"has {name} of width {code}", at)
    width = _WIDTHS[code % 4] if "width" in fields else 0
    mode = code // 4
    count: int = fields.get("count", 0)
    value = mask = 0
    if name in _MASKED:
        if len(rest) != 2 * width:
            raise _wrong(f"has {name} with {len(rest)} bytes", at)
        value, mask = (int.from_bytes(half, "little") for half in (rest[:width], rest[width:]))
        rest = b""
    elif "count" in fields and len(rest) != width * (1 if mode == 2 else count):
        raise _wrong(f"has {name} of {count} units with {len(rest)} bytes", at)
    elif name == "INFORMATION" and len(rest) != fields.size:
        raise _wrong(f"has {name} of {fields.size} bytes with {len(rest)}", at)
    return Entry(
        at, name, width, count, fields.get("address", 0), rest, value, mask,
        fields.get("loops", 0), mode == 1,
    )  # fmt: skip


def _wrong(what: str, at: int) -> ReferenceFailed:
    return ReferenceFailed(
        f"the boot script {what} (at 0x{at:X})", code="reference.boot-script", offset=at
    )


# --- fw_cfg -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FwCfgTransfer:
    """What a boot script moves between memory and a fw_cfg item.

    Attributes:
        kind: which way.
        select: selector of the item.
        skip: bytes of it that are passed over first.
        length: bytes that are moved.
        data: what is written; empty for a read, and where the script does not say.
        polled: each DMA access is waited for.
    """

    kind: Literal["write", "read"]
    select: int
    skip: int
    length: int
    data: bytes = b""
    polled: bool = True

    def told(self, names: Mapping[int, str] | None = None) -> str:
        """In words; ``names`` are those of files by selector."""
        name = (names or {}).get(self.select)
        item = f"item 0x{self.select:04X}" + (f" ({name})" if name else "")
        text = f"{item}: skip {self.skip}, {self.kind} {self.length} bytes"
        if self.data:
            text += f": {self.data.hex(' ')}"
        return text if self.polled else f"{text}, not waited for"


@dataclass(frozen=True, slots=True)
class _Access:
    """A DMA access that a script starts."""

    control: int
    length: int
    data: bytes
    polled: bool


#: The upper half of the DMA register; the access starts with its lower half.
_PORT: Final = 0x514


def fwcfg_transfers(entries: Sequence[Entry]) -> list[FwCfgTransfer]:
    """What a script moves to and from fw_cfg.

    A transfer is one DMA access, or two: select and skip, then write or read. An access that
    moves nothing and is not followed by one that does is left out.
    """
    found: list[FwCfgTransfer] = []
    select: int | None = None
    skip, polled = 0, True
    for access in _accesses(entries):
        if access.control & fwcfg.SELECT:
            select, skip, polled = access.control >> 16, 0, True
        polled = polled and access.polled
        if access.control & fwcfg.SKIP:
            skip += access.length
        elif access.control & (fwcfg.WRITE | fwcfg.READ) and select is not None:
            kind = "write" if access.control & fwcfg.WRITE else "read"
            found.append(FwCfgTransfer(kind, select, skip, access.length, access.data, polled))
            skip += access.length
    return found


def _accesses(entries: Sequence[Entry]) -> Iterator[_Access]:
    """Every DMA access: memory as the script has written it when it writes the register."""
    written: dict[int, int] = {}
    for number, entry in enumerate(entries):
        if entry.name == "MEM_WRITE":
            unit = entry.width or 1
            for place, byte in enumerate(entry.data):
                at = place % unit if entry.same_address else place
                written[entry.address + at] = byte
        if entry.name != "IO_WRITE" or (entry.address, len(entry.data)) != (_PORT, 8):
            continue
        address = int.from_bytes(entry.data, "big")
        access = _bytes(written, address, fwcfg.ACCESS.sizeof())
        if access is None:
            continue
        fields = fwcfg.ACCESS.parse(access)
        following = entries[number + 1] if number + 1 < len(entries) else None
        polled = (
            following is not None
            and (following.name, following.address) == ("MEM_POLL", address)
            and (following.value, following.mask & 0xFFFFFFFF) == (0, 0xFFFFFFFF)
        )
        data = b""
        if fields.control & fwcfg.WRITE and fields.length <= LARGEST:
            data = _bytes(written, fields.address, fields.length) or b""
        yield _Access(fields.control, fields.length, data, polled)


def _bytes(written: dict[int, int], address: int, size: int) -> bytes | None:
    """What a script has written there; None if not all of it."""
    try:
        return bytes(written[address + place] for place in range(size))
    except KeyError:
        return None
