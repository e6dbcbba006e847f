"""The GbE region: settings of Intel's gigabit Ethernet, with the MAC address and a checksum.

Two copies of 4 KiB; in each the first 128 bytes sum up, word by word, to BABAh.

Ref: Intel I217/82579 data sheets, NVM map (words 00h-02h MAC address, 3Fh checksum); coreboot's
util/nvmutil documentation.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from hwflash.errors import ImageError, UsageError

COPY: Final = 0x1000
COPIES: Final = 2
_CHECKED: Final = 0x80
_SUM: Final = 0xBABA
_CHECKSUM_AT: Final = 0x7E
_MAC = re.compile(r"^([0-9A-Fa-f]{2})([:-]?)(?:[0-9A-Fa-f]{2}\2){4}[0-9A-Fa-f]{2}$")


@dataclass(frozen=True, slots=True)
class GbeCopy:
    """One of the copies.

    Attributes:
        offset: in the region.
        mac: six bytes.
        checksum: the one that is there.
        valid: it is right.
        blank: the copy is erased.
    """

    offset: int
    mac: bytes
    checksum: int
    valid: bool
    blank: bool


def read(region: bytes) -> tuple[GbeCopy, ...]:
    """The copies in a GbE region.

    Raises:
        ImageError: the region is too small (``gbe.size``).
    """
    if len(region) < COPY * COPIES:
        raise ImageError(
            f"a GbE region has {COPY * COPIES} bytes, this has {len(region)}",
            code="gbe.size",
            length=len(region),
        )
    found: list[GbeCopy] = []
    for at in range(0, COPY * COPIES, COPY):
        words = region[at : at + _CHECKED]
        found.append(
            GbeCopy(
                at,
                words[:6],
                int(struct.unpack_from("<H", words, _CHECKSUM_AT)[0]),
                sum(struct.unpack("<64H", words)) & 0xFFFF == _SUM,
                words == b"\xff" * _CHECKED,
            )
        )
    return tuple(found)


def with_mac(region: bytes, mac: bytes | None) -> bytes:
    """The region with another MAC address and right checksums in every copy that is not blank.

    Args:
        region: as it is.
        mac: six bytes, or None to keep each copy's own and mend the checksums only.

    Raises:
        ImageError: every copy is blank (``gbe.blank``), or the region is too small.
    """
    copies = [item for item in read(region) if not item.blank]
    if not copies:
        raise ImageError("the GbE region is erased: there is nothing to change", code="gbe.blank")
    new = bytearray(region)
    for item in copies:
        if mac is not None:
            new[item.offset : item.offset + 6] = mac
        struct.pack_into("<H", new, item.offset + _CHECKSUM_AT, 0)
        rest = sum(struct.unpack_from("<64H", new, item.offset))
        struct.pack_into("<H", new, item.offset + _CHECKSUM_AT, _SUM - rest & 0xFFFF)
    return bytes(new)


def parse_mac(text: str) -> bytes:
    """Read a MAC address: ``00:11:22:33:44:55``, with ``-`` or without anything between.

    Raises:
        UsageError: it is none, or one that no card can have (``usage.mac``): all zero, or a group.
    """
    match = _MAC.match(text.strip())
    value = bytes.fromhex(re.sub("[:-]", "", text.strip())) if match else b""
    if not match or not any(value) or value[0] & 1:
        raise UsageError(f"{text!r} is not the MAC address of a card", code="usage.mac", text=text)
    return value
