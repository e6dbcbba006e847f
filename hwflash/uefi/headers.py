"""Recognising volume and store headers in an image, whole or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from hwflash.uefi.areas import KNOWN, KnownLayout, known_layout, work_space_at
from hwflash.uefi.guids import AUTHENTICATED_STORE, NV_VOLUME, PLAIN_STORE
from hwflash.uefi.layouts import STORE_HEADER, VOLUME_HEADER
from hwflash.uefi.store import FORMATTED
from hwflash.uefi.volume import SIGNATURE, USUAL_HEADER, FirmwareVolume, parse_volume
from hwflash.uefi.window import Window, filled_with, find_guid

#: Signatures looked at in one image; an image full of them must not take seconds.
HIT_LIMIT: Final = 2048
#: No NV volume seen is larger than 1 MiB; beyond this a length is not believed.
VOLUME_LIMIT: Final = 16 << 20


def volume_hits(window: Window) -> Iterator[int]:
    """Image offsets of NV volume headers: GUID and signature in their places."""
    data = window.data
    for at in _hits(data, NV_VOLUME.bytes_le):
        start = at - 16
        whole = start >= 0 and start + VOLUME_HEADER.size <= len(data)
        if whole and data[start + 40 : start + 44] == SIGNATURE:
            yield window.base + start


def store_hits(window: Window) -> Iterator[int]:
    """Image offsets of what looks like a store header, and not like a GUID in some code."""
    for guid in (AUTHENTICATED_STORE, PLAIN_STORE):
        for at in _hits(window.data, guid.bytes_le):
            head = window.data[at : at + STORE_HEADER.size]
            if len(head) < STORE_HEADER.size:
                continue
            size, form = int.from_bytes(head[16:20], "little"), head[20]
            usual = any(size == known.store_size for known in KNOWN)
            if usual or (form == FORMATTED and STORE_HEADER.size < size <= VOLUME_LIMIT):
                yield window.base + at


def _hits(data: bytes, needle: bytes) -> Iterator[int]:
    at = find_guid(data, needle, 0, len(data))
    for _ in range(HIT_LIMIT):
        if at < 0:
            return
        yield at
        at = find_guid(data, needle, at + 1, len(data))


def volume_at(window: Window, base: int, *, damaged: bool = False) -> FirmwareVolume | None:
    """The NV volume header at an offset; a damaged one may lack GUID or signature."""
    if not window.has(base, VOLUME_HEADER.size):
        return None
    volume = parse_volume(window, base)
    half = volume.signature == SIGNATURE or volume.file_system == NV_VOLUME
    return volume if volume.is_nv or (damaged and half) else None


def mended(volume: FirmwareVolume) -> FirmwareVolume | None:
    """The header with one field put right, where the checksum proves that only it was wrong.

    Of fields that have the same value in every NV volume: the zero vector, the GUID and the
    signature.
    """
    for whole in (
        replace(volume, zero_vector=bytes(16)),
        replace(volume, file_system=NV_VOLUME),
        replace(volume, signature=SIGNATURE),
    ):
        if whole.is_nv and whole.checksum_ok:
            return whole
    return None


def is_store(window: Window, offset: int) -> bool:
    """Whether a store's signature is at an offset."""
    return window.has(offset, STORE_HEADER.size) and window.at(offset, 16) in (
        AUTHENTICATED_STORE.bytes_le,
        PLAIN_STORE.bytes_le,
    )


def store_end(window: Window, header: int, end: int) -> int:
    """Image offset behind a store, as far as its header can be believed."""
    if is_store(window, header):
        size = int.from_bytes(window.at(header + 16, 4), "little")
        if STORE_HEADER.size <= size <= end - header:
            return header + size
    return min(header + STORE_HEADER.size, end)


def volume_end(window: Window, volume: FirmwareVolume) -> int:
    """Image offset behind a volume; by the store's size where its own is not believed.

    A right checksum does not make the length right: the block map or the parts must agree.
    """
    believed = volume.header_length <= volume.length <= VOLUME_LIMIT
    covered = sum(run.count * run.length for run in volume.block_map) == volume.length
    if believed and volume.checksum_ok and covered:
        return volume.base + volume.length
    header = volume.base + USUAL_HEADER
    size = int.from_bytes(window.at(header + 16, 4), "little") if is_store(window, header) else 0
    usual = [known for known in KNOWN if known.store_size == size]
    spaces = [
        work_space_at(window, volume.base + known.work.address, window.end) for known in usual
    ]
    for known, space in zip(usual, spaces, strict=True):
        if space is not None and space.crc_ok and space.size == known.work.length:
            return volume.base + known.length
    if believed and (volume.checksum_ok or known_layout(volume.length)):
        return volume.base + volume.length
    for known, space in zip(usual, spaces, strict=True):
        if space is not None:
            return volume.base + known.length
    if believed:
        return min(volume.base + volume.length, window.end)
    return min(max(header + size, header + STORE_HEADER.size), window.end)


def origin_of_copy(window: Window, volume: FirmwareVolume) -> tuple[KnownLayout, int] | None:
    """The volume whose spare area one lies in, when that volume's own header is gone."""
    known = known_layout(volume.length)
    if known is None:
        return None
    base = volume.base - known.spare.address
    if base < window.base:
        return None
    here, there = (start + known.work.address for start in (volume.base, base))
    own = work_space_at(window, here, window.end)
    other = work_space_at(window, there, window.end)
    if other is None and volume.base + known.length > window.end:
        # No room for it here; where it came from, its header is erased.
        erased = filled_with(window.at(base, USUAL_HEADER), 0xFF)
        return (known, base) if own is None and erased else None
    return (known, base) if own is None and other is not None else None
