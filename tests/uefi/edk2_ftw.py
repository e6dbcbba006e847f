"""The fault-tolerant write driver of edk2, and the flash it works on: a part of `edk2_model`.

Ref: edk2 MdeModulePkg/Universal/FaultTolerantWriteDxe/FtwMisc.c, FaultTolerantWrite.c and
UpdateWorkingBlock.c, as they were until 2022.11. Nothing of hwflash is used.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

MASK: Final = (1 << 64) - 1
NV_FV: Final = UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le
AUTHENTICATED: Final = UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
ORDINARY: Final = UUID("ddcf3616-3275-4164-98b6-fe85707ffe7d").bytes_le
WORK_SIGNATURE: Final = UUID("9e58292b-7c68-497d-a0ce-6500fd9f1b95").bytes_le
CALLERS: Final = {
    "plain": UUID("fe5cea76-4f72-49e8-986f-2cd899dffe5d").bytes_le,
    "aavmf": UUID("fe5cea76-4f72-49e8-986f-2cd899dffe5d").bytes_le,
    "smm": UUID("470cb248-e8ac-473c-bb4f-81069a1fe6fd").bytes_le,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a build has compiled in; offsets from the start of the volume."""

    name: str
    length: int
    variables: int
    work: int
    work_size: int
    spare: int
    spare_size: int
    block: int
    blocks: int
    attributes: int
    largest: int

    def volume_header(self) -> bytes:
        """What the flash driver writes into a wiped volume."""
        parts = struct.pack(
            "<16s16sQ4sIHHHBBIIQ", bytes(16), NV_FV, self.length, b"_FVH", self.attributes,
            0x48, 0, 0, 0, 2, self.blocks, self.block, 0,
        )  # fmt: skip
        checksum = -sum16(parts) & 0xFFFF
        return parts[:50] + struct.pack("<H", checksum) + parts[52:]

    def work_header(self) -> bytes:
        """The one work-space header that is accepted."""
        blank = WORK_SIGNATURE + b"\xff" * 8 + struct.pack("<Q", self.work_size - 32)
        return blank[:16] + struct.pack("<I", zlib.crc32(blank)) + b"\xfe\xff\xff\xff" + blank[24:]


OVMF_2M: Final = Layout(
    "OVMF 2M", 0x20000, 0xE000, 0xF000, 0x1000, 0x10000, 0x10000, 0x1000, 32, 0x4FEFF, 0x2800
)
OVMF_4M: Final = Layout(
    "OVMF 4M", 0x84000, 0x40000, 0x41000, 0x1000, 0x42000, 0x42000, 0x1000, 132, 0x4FEFF, 0x8400
)
AAVMF: Final = Layout(
    "AAVMF", 0xC0000, 0x40000, 0x40000, 0x40000, 0x80000, 0x40000, 0x40000, 256, 0xE36, 0x2800
)


def sum16(data: bytes) -> int:
    """Sum of little-endian words, 16 bits."""
    return sum(struct.unpack(f"<{len(data) // 2}H", data[: len(data) & ~1])) & 0xFFFF


class Nor:
    """A NOR flash: programs clear bits, erases set whole blocks."""

    def __init__(self, image: bytes) -> None:
        self.data = bytearray(image)
        self.operations: list[tuple[str, int, bytes]] = []
        self.illegal = 0

    def read(self, at: int, length: int) -> bytes:
        return bytes(self.data[at : at + length])

    def program(self, at: int, data: bytes) -> None:
        old = self.data[at : at + len(data)]
        self.operations.append(("w", at, data))
        if old == b"\xff" * len(data):
            self.data[at : at + len(data)] = data
            return
        held = int.from_bytes(old, "little") & int.from_bytes(data, "little")
        reached = held.to_bytes(len(data), "little")
        self.illegal += reached != data
        self.data[at : at + len(data)] = reached

    def erase(self, at: int, length: int, block: int) -> None:
        self.data[at : at + length] = b"\xff" * length
        self.operations += [("e", each, b"") for each in range(at, at + length, block)]

    def clear(self, at: int, bits: int) -> None:
        """edk2 FtwUpdateFvState."""
        self.program(at, bytes([self.data[at] & ~bits & 0xFF]))


class Ftw:
    """The fault-tolerant write driver; addresses in its queue count from the work space."""

    def __init__(self, nor: Nor, layout: Layout, base: int, caller: bytes) -> None:
        self.nor, self.layout, self.base, self.caller = nor, layout, base, caller
        self.work, self.spare = base + layout.work, base + layout.spare
        self.size = layout.work_size
        self.space = bytearray()
        self.header = self.record = 32
        self.replayed = False

    def _total(self, header: int) -> int:
        count, private = self._words(header + 24)
        return (40 + count * (40 + private)) & MASK

    def _words(self, at: int) -> tuple[int, ...]:
        # What lies behind the copy in RAM is not known; it is taken as erased.
        part = bytes(self.space[at : at + 16])
        return struct.unpack("<QQ", part.ljust(16, b"\xff"))

    def flag(self, at: int, bit: int) -> bool:
        """A flag is set when its bit is clear."""
        return 0 <= at < len(self.space) and not self.space[at] & bit

    def locate(self) -> bool:
        """FtwGetLastWriteHeader and FtwGetLastWriteRecord; False when the queue is damaged."""
        at = self.header = 32
        while self.flag(at, 4):
            step = self._total(at)
            if not step or at + step >= self.size:
                self.header = at
                return False
            at += step
        self.header = at
        count, private = self._words(at + 24)
        self.record = at + 40
        for _ in range(min(count, self.size // 40)):
            if not self.flag(self.record, 4):
                return True
            self.record += 40 + private
        self.record -= 40 + private
        return True

    def refresh(self) -> None:
        """WorkSpaceRefresh."""
        self.space = bytearray(self.nor.read(self.work, self.size))
        if not self.locate() or self.size - self.header < 80:
            self.reclaim_work_space(preserve=True)
            self.space = bytearray(self.nor.read(self.work, self.size))
            self.locate()

    def reclaim_work_space(self, *, preserve: bool) -> None:
        """FtwReclaimWorkSpace."""
        new = bytearray(b"\xff" * self.size)
        new[:32] = self.space[:32]
        if preserve and self.locate() and self.flag(self.header, 1):
            entry = self.space[self.header : self.header + self._total(self.header)]
            new[32 : 32 + len(entry)] = entry
            del new[self.size :]
        self.space = bytearray(new)
        self.locate()
        new[20] |= 3
        kept = self.nor.read(self.spare, self.layout.spare_size)
        self._erase(self.layout.spare, self.layout.spare_size)
        self.nor.program(self.spare, bytes(new))
        self.nor.clear(self.spare + 20, 1)
        self.nor.clear(self.work + 20, 2)
        self._flush_to_work_space()
        self._erase(self.layout.spare, self.layout.spare_size)
        self.nor.program(self.spare, kept)

    def _flush_to_work_space(self) -> None:
        """FlushSpareBlockToWorkingBlock."""
        self.nor.clear(self.spare + 20, 1)
        image = bytearray(self.nor.read(self.spare, self.size))
        image[:32] = self.layout.work_header()
        image[20] = 0xFF
        self.nor.clear(self.work + 20, 2)
        self._erase(self.layout.work, self.size)
        self.nor.program(self.work, bytes(image))
        self.nor.clear(self.work + 20, 1)
        self.space[:32] = self.layout.work_header()

    def _erase(self, at: int, length: int) -> None:
        self.nor.erase(self.base + at, length, self.layout.block)

    def abort(self) -> None:
        """FtwAbort."""
        self.refresh()
        if self.flag(self.header, 1) and not self.flag(self.header, 4):
            self.nor.clear(self.work + self.header, 4)
            self.space[self.header] &= ~4 & 0xFF

    def _last(self) -> bool:
        count, private = self._words(self.header + 24)
        return self.record == (self.header + 40 + (count - 1) * (40 + private)) & MASK

    def start(self) -> None:
        """InitFtwProtocol."""
        good = self.layout.work_header()
        self.refresh()
        if self.space[:32] != good:
            self.space = bytearray(self.nor.read(self.spare, self.size))
            if self.space[:32] == good:
                self._flush_to_work_space()
                self.abort()
                self.refresh()
            else:
                self.space = bytearray(good.ljust(self.size, b"\xff"))
                self.reclaim_work_space(preserve=False)
        header, record = self.header, self.record
        if self.flag(header, 1) and not self.flag(record, 2) and record == header + 40:
            self.abort()
        if not self.flag(self.header, 4) and self.flag(self.record, 4) and self._last():
            self.abort()
        at = self.header
        if at < self.size and self.space[at] != 0xFF:
            at += self._total(at)
        tail = self.space[at:]
        if at > self.size or tail.count(0xFF) != len(tail):
            self.reclaim_work_space(preserve=True)
        if not self.flag(self.header, 4) and self.flag(self.record, 2):
            relative = struct.unpack_from("<q", self.space, self.record + 32)[0]
            if 0 <= self.layout.spare + relative < self.layout.length:
                self._restart()
            self.abort()

    def _restart(self) -> None:
        """FtwRestart."""
        self.refresh()
        if self.flag(self.header, 4) or self.flag(self.record, 4):
            return
        if self.flag(self.record, 2) and self._write_record():
            self.replayed = True
            self._erase(self.layout.spare, self.layout.spare_size)

    def _write_record(self) -> bool:
        """FtwWriteRecord."""
        lba, offset, length = struct.unpack_from("<QQQ", self.space, self.record + 8)
        target, size = lba * self.layout.block, -(-(offset + length) // self.layout.block)
        size *= self.layout.block
        if target + size > self.layout.length or size > self.layout.spare_size:
            return False
        if target == self.layout.work:
            self.nor.clear(self.spare + self.record, 2)
            self._flush_to_work_space()
        else:
            content = self.nor.read(self.spare, size)
            self._erase(target, size)
            self.nor.program(self.base + target, content)
        self.nor.clear(self.work + self.record, 4)
        if self._last():
            self.nor.clear(self.work + self.header, 4)
        return True

    def write(self, at: int, data: bytes) -> bool:
        """FtwWrite of one record, allocated on the way; ``at`` counts from the volume."""
        self.refresh()
        if self.space[self.header : self.header + 40].count(0xFF) != 40:
            return False
        block, layout = self.layout.block, self.layout
        lba, offset = divmod(at, block)
        entry = b"\xfe\xff\xff\xff" + self.caller + b"\xff" * 4 + struct.pack("<QQ", 1, 0)
        self.nor.program(self.work + self.header, entry)
        self.nor.clear(self.work + self.header, 2)
        relative = lba * block - layout.spare
        record = b"\xff" * 8 + struct.pack("<QQQq", lba, offset, len(data), relative)
        self.nor.program(self.work + self.record, record)
        size = -(-(offset + len(data)) // block) * block
        image = bytearray(self.nor.read(self.base + lba * block, size))
        image[offset : offset + len(data)] = data
        kept = self.nor.read(self.spare, layout.spare_size)
        self._erase(layout.spare, layout.spare_size)
        self.nor.program(self.spare, bytes(image))
        self.nor.clear(self.work + self.record, 2)
        self.space = bytearray(self.nor.read(self.work, self.size))
        if not self._write_record():
            return False
        self._erase(layout.spare, layout.spare_size)
        self.nor.program(self.spare, kept)
        return True
