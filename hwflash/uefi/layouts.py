"""Where the fields lie: volume, store, record, FTW, signature and load option headers.

Declared with `construct`. Walking a dump means unpacking tens of thousands of headers, for
which construct's own parser is too slow (about 20 µs each); `Layout` therefore derives a
`struct.Struct` from the declaration and unpacks with that (about 1 µs).

Ref: edk2 MdePkg/Include/Pi/PiFirmwareVolume.h, MdeModulePkg/Include/Guid/VariableFormat.h,
MdeModulePkg/Include/Guid/SystemNvDataGuid.h (EFI_FAULT_TOLERANT_WORKING_BLOCK_HEADER,
EFI_FAULT_TOLERANT_WRITE_HEADER and _RECORD, naturally aligned), UEFI 2.10 §3.1.3 (load
option), §8.3 (EFI_TIME), §32.4.1 (signature lists), §10.3.1 (device path nodes); of formats
that are not EDK2's, what the module says that reads them. Sizes and
offsets were checked against the images of Debian's ovmf and qemu-efi-aarch64 packages.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import construct

# construct carries no annotations: its names enter as Any.
c: Any = construct


class Layout:
    """A structure of fixed size, little endian.

    Attributes:
        construct: the declaration.
        names: the fields in order.
        size: bytes.
    """

    __slots__ = ("_packer", "construct", "names", "size")

    def __init__(self, *fields: Any) -> None:
        self.construct: Any = c.Struct(*fields)
        self.names: tuple[str, ...] = tuple(field.name for field in fields)
        self._packer = struct.Struct("<" + "".join(_code(field.subcon) for field in fields))
        self.size: int = self._packer.size

    def unpack(self, data: bytes, offset: int = 0) -> tuple[Any, ...]:
        """The values in field order; ``data`` must hold ``size`` bytes from ``offset``."""
        return self._packer.unpack_from(data, offset)

    def fields(self, data: bytes, offset: int = 0) -> dict[str, Any]:
        """The values by field name."""
        return dict(zip(self.names, self._packer.unpack_from(data, offset), strict=True))

    def place(self, name: str) -> tuple[int, int]:
        """Offset and size of a field."""
        before = self.names.index(name)
        fields = self.construct.subcons
        return sum(field.sizeof() for field in fields[:before]), fields[before].sizeof()

    def build(self, **values: Any) -> bytes:
        """The bytes of a structure; every field must be given."""
        return self._packer.pack(*(values[name] for name in self.names))


def _code(field: Any) -> str:
    """The `struct` code of a construct field: an integer or a run of bytes."""
    if isinstance(field, c.FormatField):
        return str(field.fmtstr).lstrip("<")
    return f"{field.length}s"


VOLUME_HEADER: Final = Layout(
    "zero_vector" / c.Bytes(16),
    "file_system" / c.Bytes(16),
    "length" / c.Int64ul,
    "signature" / c.Bytes(4),
    "attributes" / c.Int32ul,
    "header_length" / c.Int16ul,
    "checksum" / c.Int16ul,
    "ext_header_offset" / c.Int16ul,
    "reserved" / c.Int8ul,
    "revision" / c.Int8ul,
)

BLOCK_MAP_ENTRY: Final = Layout("count" / c.Int32ul, "length" / c.Int32ul)

STORE_HEADER: Final = Layout(
    "signature" / c.Bytes(16),
    "size" / c.Int32ul,
    "format" / c.Int8ul,
    "state" / c.Int8ul,
    "reserved" / c.Int16ul,
    "reserved1" / c.Int32ul,
)

AUTHENTICATED_RECORD: Final = Layout(
    "start_id" / c.Int16ul,
    "state" / c.Int8ul,
    "reserved" / c.Int8ul,
    "attributes" / c.Int32ul,
    "monotonic_count" / c.Int64ul,
    "timestamp" / c.Bytes(16),
    "public_key_index" / c.Int32ul,
    "name_size" / c.Int32ul,
    "data_size" / c.Int32ul,
    "guid" / c.Bytes(16),
)

PLAIN_RECORD: Final = Layout(
    "start_id" / c.Int16ul,
    "state" / c.Int8ul,
    "reserved" / c.Int8ul,
    "attributes" / c.Int32ul,
    "name_size" / c.Int32ul,
    "data_size" / c.Int32ul,
    "guid" / c.Bytes(16),
)

EFI_TIME: Final = Layout(
    "year" / c.Int16ul,
    "month" / c.Int8ul,
    "day" / c.Int8ul,
    "hour" / c.Int8ul,
    "minute" / c.Int8ul,
    "second" / c.Int8ul,
    "pad1" / c.Int8ul,
    "nanosecond" / c.Int32ul,
    "time_zone" / c.Int16sl,
    "daylight" / c.Int8ul,
    "pad2" / c.Int8ul,
)

WORK_SPACE_HEADER: Final = Layout(
    "signature" / c.Bytes(16),
    "crc" / c.Int32ul,
    "state" / c.Int8ul,
    "reserved" / c.Bytes(3),
    "write_queue_size" / c.Int64ul,
)

WRITE_HEADER: Final = Layout(
    "flags" / c.Int8ul,
    "reserved" / c.Bytes(3),
    "caller" / c.Bytes(16),
    "gap" / c.Bytes(4),
    "number_of_writes" / c.Int64ul,
    "private_data_size" / c.Int64ul,
)

WRITE_RECORD: Final = Layout(
    "flags" / c.Int8ul,
    "reserved" / c.Bytes(7),
    "lba" / c.Int64ul,
    "offset" / c.Int64ul,
    "length" / c.Int64ul,
    "relative_offset" / c.Int64sl,
)

SIGNATURE_LIST_HEADER: Final = Layout(
    "signature_type" / c.Bytes(16),
    "list_size" / c.Int32ul,
    "header_size" / c.Int32ul,
    "signature_size" / c.Int32ul,
)

#: A `$VSS` record with Apple's CRC-32 of the data, and Intel's old one with one size for all.
APPLE_RECORD: Final = Layout(
    "start_id" / c.Int16ul,
    "state" / c.Int8ul,
    "reserved" / c.Int8ul,
    "attributes" / c.Int32ul,
    "name_size" / c.Int32ul,
    "data_size" / c.Int32ul,
    "guid" / c.Bytes(16),
    "crc" / c.Int32ul,
)

LEGACY_RECORD: Final = Layout(
    "start_id" / c.Int16ul,
    "state" / c.Int8ul,
    "reserved" / c.Int8ul,
    "attributes" / c.Int32ul,
    "total_size" / c.Int32ul,
    "guid" / c.Bytes(16),
)

VSS_HEADER: Final = Layout(
    "signature" / c.Bytes(4),
    "size" / c.Int32ul,
    "format" / c.Int8ul,
    "state" / c.Int8ul,
    "reserved" / c.Int16ul,
    "reserved1" / c.Int32ul,
)

#: Of an AMI NVAR entry; ``next`` counts from the entry itself.
NVAR_HEADER: Final = Layout(
    "signature" / c.Bytes(4), "size" / c.Int16ul, "next" / c.Bytes(3), "attributes" / c.Int8ul
)

EVSA_ENTRY: Final = Layout("type" / c.Int8ul, "checksum" / c.Int8ul, "size" / c.Int16ul)

EVSA_STORE: Final = Layout(
    "signature" / c.Bytes(4), "attributes" / c.Int32ul, "size" / c.Int32ul, "reserved" / c.Int32ul
)

EVSA_DATA: Final = Layout("guid_id" / c.Int16ul, "name_id" / c.Int16ul, "attributes" / c.Int32ul)

FSYS_HEADER: Final = Layout("signature" / c.Bytes(4), "unknown" / c.Bytes(5), "size" / c.Int16ul)

#: A file in a firmware volume (PI 1.8 volume 3 §3.2.3).
FILE_HEADER: Final = Layout(
    "name" / c.Bytes(16),
    "header_checksum" / c.Int8ul,
    "data_checksum" / c.Int8ul,
    "type" / c.Int8ul,
    "attributes" / c.Int8ul,
    "size" / c.Bytes(3),
    "state" / c.Int8ul,
)

LOAD_OPTION_HEADER: Final = Layout("attributes" / c.Int32ul, "file_path_size" / c.Int16ul)

DEVICE_PATH_HEADER: Final = Layout("type" / c.Int8ul, "subtype" / c.Int8ul, "length" / c.Int16ul)
