"""Is this code made for this variable store?

QEMU starts any two images. A store of the wrong size shifts what the code looks for: with a
small store the firmware finds no flash and keeps variables in memory only; with a large one it
erases blocks in the middle of it. Neither says so.

Ref: measured with Debian's OVMF 2022.11 in QEMU 7.2.
Limits: decides by sizes, volumes, and what the code says (`hwflash.qemu.codeimage`); does not
look at what the variables are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from hwflash.layout.ovmf import AAVMF, BUILDS, VIRT_UNIT, OvmfBuild, fits
from hwflash.qemu.codeimage import expectations
from hwflash.qemu.volumes import list_volumes
from hwflash.uefi.find import find_stores
from hwflash.uefi.guids import NV_VOLUME
from hwflash.uefi.window import filled_with
from hwflash.units import Range

FOUR_GIB: Final = 1 << 32
Answer = Literal["pair", "no-pair", "unknown"]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Whether two images belong together.

    Attributes:
        answer: ``pair``, ``no-pair`` or ``unknown``.
        reasons: what that was decided by.
        outcome: what the machine would do, where that was measured; "" else.
    """

    answer: Answer
    reasons: tuple[str, ...]
    outcome: str = ""


def judge_pair(code: bytes, store: bytes) -> Pairing:
    """Hold a code image and a variable store against each other.

    Args:
        code: content of flash unit 0.
        store: content of flash unit 1.
    """
    if len(code) == len(store) == VIRT_UNIT:
        return _judge_virt(code, store)
    if find_stores(code):
        text = "the code image has a variable store of its own: it needs no second unit"
        return Pairing("no-pair", (text,))
    if not any(item.header.file_system != NV_VOLUME for item in list_volumes(code)):
        return Pairing("no-pair", ("there is no code volume in the code image",))
    placed = Range(FOUR_GIB - len(code) - len(store), len(store))
    expected = expectations(code)
    wrong = [
        f"the code looks for its store at {_span(item.vars)} ({item.source}), "
        f"it would lie at {_span(placed)}"
        for item in expected
        if item.vars != placed
    ]
    right = [
        f"the code looks for its store where it will lie, at {_span(placed)} ({item.source})"
        for item in expected
        if item.vars == placed
    ]
    build = _build_of(code)
    answer: Answer = "no-pair" if wrong else "pair" if right else "unknown"
    reasons = wrong or right
    if not reasons and build is not None:
        fine = len(store) == build.vars_size
        answer = "pair" if fine else "no-pair"
        reasons.append(
            f"a code image of {len(code):,} bytes is {build.name}'s, whose store has "
            f"{build.vars_size:,} bytes; this one has {len(store):,}"
        )
    if not reasons:
        reasons.append(f"no build known has a code image of {len(code):,} bytes")
    outcome = _outcome(build, len(store)) if answer == "no-pair" else ""
    return _with_store(Pairing(answer, tuple(reasons), outcome), store)


def _with_store(pairing: Pairing, store: bytes) -> Pairing:
    """The same, after a look into the store."""
    if pairing.answer == "no-pair":
        return pairing
    for value, what in ((0xFF, "an exception at this and every boot: OVMF needs its template"),
                        (0x00, "no flash is detected, variables are lost")):  # fmt: skip
        if filled_with(store, value):
            return Pairing("no-pair", (*pairing.reasons, f"the store is all {value:02X}"), what)
    found = find_stores(store)
    if not found or found[0].base != 0:
        return Pairing("no-pair", (*pairing.reasons, "the store has no volume at its start"))
    if found[0].length != len(store):
        text = (
            f"the store's volume has {found[0].length:,} bytes, its file has {len(store):,}"
        )  # fmt: skip
        return Pairing("no-pair", (*pairing.reasons, text))
    return pairing


def _judge_virt(code: bytes, store: bytes) -> Pairing:
    """Two units of 64 MiB: the sizes say nothing, what is in them does."""
    if not any(item.header.file_system != NV_VOLUME for item in list_volumes(code)):
        return Pairing("no-pair", ("there is no code volume in the code image",))
    found = find_stores(store)
    if filled_with(store, 0):
        return Pairing("pair", ("the store is blank; the firmware formats it at its first boot",))
    if found and found[0].base == 0 and found[0].length == AAVMF.vars_size:
        return Pairing("pair", (f"the store's volume has {AAVMF.vars_size:,} bytes, as AAVMF's",))
    what = f"a volume of {found[0].length:,} bytes" if found else "no volume at its start"
    return Pairing("no-pair", (f"the store has {what}, AAVMF's has {AAVMF.vars_size:,}",))


def _build_of(code: bytes) -> OvmfBuild | None:
    found = [fit.build for fit in fits(len(code)) if fit.part == "code"]
    return found[0] if found else None


def _outcome(build: OvmfBuild | None, size: int) -> str:
    small, large = (next(item for item in BUILDS if item.name == name).vars_size
                    for name in ("OVMF 2M", "OVMF 4M"))  # fmt: skip
    if build is None:
        return ""
    if (build.vars_size, size) == (large, small):
        return "it boots, writes nothing to its flash and loses its variables, without a message"
    if (build.vars_size, size) == (small, large):
        return "it erases blocks inside the spare area of the store, then stops with an exception"
    return ""


def _span(where: Range) -> str:
    return f"0x{where.address:08X}-0x{max(where.end - 1, where.address):08X}"
