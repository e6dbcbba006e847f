"""Variable volumes made for tests, and the recorded ones."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from uuid import UUID

from hwflash.uefi.areas import KNOWN, KnownLayout
from hwflash.uefi.ftw import WriteEntry, WriteRecord, make_work_space
from hwflash.uefi.records import Attribute, Record, State, make_record
from hwflash.uefi.store import make_store
from hwflash.uefi.volume import USUAL_HEADER, make_volume

DATA = Path(__file__).parents[1] / "data"
OVMF_2M, OVMF_4M, AAVMF = KNOWN
GUID = UUID("11111111-2222-3333-4444-555555555555")
OTHER = UUID("99999999-2222-3333-4444-555555555555")
CALLER = UUID("fe5cea76-4f72-49e8-986f-2cd899dffe5d")
NV_BS = int(Attribute.NON_VOLATILE | Attribute.BOOTSERVICE_ACCESS)


def variable(name: str, data: bytes = b"value", guid: UUID = GUID, **options) -> Record:
    return make_record(name, guid, options.pop("attributes", NV_BS), data, **options)


def volume_bytes(
    records: Iterable[Record] = (),
    layout: KnownLayout = OVMF_2M,
    *,
    block: int = 0x1000,
    entries: tuple[WriteEntry, ...] = (),
    kind: str = "authenticated",
) -> bytearray:
    """A healthy volume of a known build, everything else erased."""
    image = bytearray(b"\xff" * layout.length)
    image[:USUAL_HEADER] = make_volume(layout.length, block).build()
    store = make_store(records, layout.variables - USUAL_HEADER, base=USUAL_HEADER, kind=kind)
    image[USUAL_HEADER : layout.variables] = store.build()
    work = make_work_space(layout.work.length, base=layout.work.address)
    image[layout.work.address : layout.work.end] = work.build()
    at = layout.work.address + 32
    for entry in entries:
        data = entry.build()
        image[at : at + len(data)] = data
        at += entry.total_size
    return image


def entry(layout: KnownLayout = OVMF_2M, *, header: int = 0xFC, record: int = 0xFF) -> WriteEntry:
    """The queue entry of a reclaim, with these flag bytes."""
    write = WriteRecord(
        offset=0, lba=0, start=0x48, length=layout.store_size,
        relative_offset=-layout.spare.address, flags=record,
    )  # fmt: skip
    return WriteEntry(0, CALLER, 1, 0, flags=header, records=(write,))


def some_variables(count: int = 5) -> list[Record]:
    return [
        variable(f"Variable{index}", bytes([index]) * (index * 7 + 1)) for index in range(count)
    ]


@cache
def recorded_volume() -> bytes:
    return lzma.decompress((DATA / "ovmf-2m-reclaim.pre.fd.xz").read_bytes())


@cache
def recorded_operations() -> list[tuple[str, int, bytes]]:
    """Every program, and every erase as the FF it leaves."""
    data = lzma.decompress((DATA / "ovmf-2m-reclaim.ops.xz").read_bytes())
    found: list[tuple[str, int, bytes]] = []
    at = 0
    while at < len(data):
        address, length = struct.unpack_from("<IH", data, at + 1)
        if data[at] == ord("w"):
            found.append(("w", address, data[at + 7 : at + 7 + length]))
            at += 7 + length
        else:
            found.append(("e", address, b"\xff" * length))
            at += 7
    return found


def after_power_cuts(cuts: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """The recorded volume after the first ``n`` operations, for each ``n`` in rising order."""
    image = bytearray(recorded_volume())
    done = 0
    operations = recorded_operations()
    for cut in cuts:
        for kind, address, data in operations[done:cut]:
            if kind == "w":
                old = image[address : address + len(data)]
                data = bytes(a & b for a, b in zip(old, data, strict=True))
            image[address : address + len(data)] = data
        done = cut
        yield cut, bytes(image)


__all__ = [
    "AAVMF", "CALLER", "GUID", "NV_BS", "OTHER", "OVMF_2M", "OVMF_4M", "State",
    "after_power_cuts", "entry", "recorded_operations", "recorded_volume", "some_variables",
    "variable", "volume_bytes",
]  # fmt: skip
