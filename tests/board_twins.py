"""A simulated twin of a board file: a chip of its size with content as the board would have it.

The content is made by what the file says, with descriptors, maps and volumes laid out by hand; that
it fulfils the file's expectations is for the tests to see.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from support import pattern

from hwflash.boards import Board

sys.path.insert(0, str(Path(__file__).parent / "layout"))
from descriptors import KIB, Places, descriptor
from test_layout_maps import table

MIB = 1024 * KIB
#: A part of each size, for boards whose source does not name one.
PARTS = {
    512 * KIB: "AT25SF041", 2 * MIB: "W25Q16JV", 4 * MIB: "W25Q32JV", 8 * MIB: "W25Q64JV",
    16 * MIB: "W25Q128JV",
}  # fmt: skip
NUMBERS = {"fd": 0, "bios": 1, "bios-low": 1, "me": 2, "gbe": 3, "pd": 4}
#: Boards whose own descriptor calls the whole flash BIOS, as their source says.
OVERLAPPING = ("gigabyte-ga-h61m-s2pv",)
FFS2 = "8c8ce578-8a3d-4f1c-9935-896185c32dd3"
NV = "fff12b8d-7696-4c8b-a985-2747075b4f50"


def part(board: Board) -> str:
    named = board.flash.chip[0] if board.flash.chip else ""
    # These answer as their JV twins do, but have no third register, whose FF locks a JV.
    no_twin = not named or named in ("W25Q32FV", "W25Q64FV")
    return PARTS[board.flash.size] if no_twin else named


def content(board: Board) -> bytes:
    """What a healthy chip of the board could hold."""
    data = bytearray(b"\xff" * board.flash.size)
    for region in board.region_map():
        where = region.range
        data[where.address : where.end] = filled(len(region.name), where.length)
    if not board.region:
        data[:] = filled(1, len(data))
    kind = board.layout.kind if board.layout is not None else None
    if kind == "ifd" or board.expect.descriptor is not None or "fd" in board.region_map():
        data[:0x1000] = descriptor(1, places(board), density=tuple(densities(board)))
    if kind == "fmap":
        areas = [("FMAP", 0x10000, 0x1000, 0), ("COREBOOT", 0x11000, len(data) - 0x11000, 0)]
        data[0x10000:0x11000] = table(areas, len(data)).ljust(0x1000, b"\xff")
    for at, guid in volumes(board):
        data[at : at + 0x48] = volume(guid)
    return bytes(data)


def filled(seed: int, length: int) -> bytes:
    """Bytes in the first KiB of each 64; the rest is erased, which is quick to read and write."""
    block = pattern(KIB, seed).ljust(64 * KIB, b"\xff")
    return (block * -(-length // len(block)))[:length]


def places(board: Board) -> Places:
    found = {
        NUMBERS[item.name]: (item.start, item.start + item.length - 1)
        for item in board.region if item.name in NUMBERS
    }  # fmt: skip
    if board.name in OVERLAPPING:
        found[1] = (0, board.flash.size - 1)
    size = sum(board.expect.descriptor.components) if board.expect.descriptor else 0
    if size:  # of two chips: its last region ends on the second
        found[1] = (found[1][0], size - 1)
    half = board.flash.size // 2
    return found or {0: (0, 0xFFF), 2: (0x1000, half - 1), 1: (half, board.flash.size - 1)}


def densities(board: Board) -> Iterator[int]:
    wanted = board.expect.descriptor.components if board.expect.descriptor else []
    for size in wanted or [board.flash.size]:
        yield (size // (512 * KIB)).bit_length() - 1


def volumes(board: Board) -> Iterator[tuple[int, str]]:
    """Headers at the places that are expected; what has no place, behind one another."""
    at = [item.start for item in board.region if item.name in ("vars", "fvmain-compact", "seccode")]
    by_kind = dict(zip(at, (NV, FFS2, FFS2), strict=False)) if board.expect.volumes else {}
    yield from by_kind.items()
    assert set(board.expect.volumes) <= set(by_kind.values())
    for item in board.expect.volume:
        yield item.at, item.guid


def volume(guid: str) -> bytes:
    head = bytes(16) + UUID(guid).bytes_le + struct.pack("<Q4sI", 0x10000, b"_FVH", 0)
    return head + struct.pack("<HHHBBIIQ", 0x48, 0, 0, 0, 2, 16, 0x1000, 0)
