"""Power cuts: every state that a list of flash operations goes through, and who survives it.

A cut falls after an operation or inside of it. Programs go page by page; a torn page has its
first bytes programmed, or an arbitrary part of its bits cleared. A torn erase leaves half a
block, an arbitrary mixture of old and erased bytes or bits, or, since NOR flash clears a block
before it erases it, zeros and any mixture of ones in them. Bits are taken to read the same each
time: cells between two levels, which a real chip can leave behind, are not modelled.

`firmware_survives` asks `edk2_model`, `recovery_survives` asks hwflash's own recovery and has
`edk2_model` judge what it left. `tests/uefi/cut_scenarios.py` has what is tried.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from edk2_ftw import Nor
from edk2_model import AAVMF, MTC, OVMF_2M, OVMF_4M, Build, Key, Layout, boot, ftw_hob, variables_in

from hwflash.errors import ImageError
from hwflash.uefi.erase_blocks import erase_limits
from hwflash.uefi.find import find_stores
from hwflash.uefi.flashops import Erase, Operation, Program
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import make_record
from hwflash.uefi.recover import recover
from hwflash.uefi.rescue import rescue
from hwflash.uefi.services import VariableServices
from hwflash.uefi.set_variable import fits
from hwflash.uefi.window import Window

PAGE = 0x100
AFTERWARDS = UUID("0badc0de-2222-3333-4444-555555555555")
BUILDS: dict[Layout, tuple[Build, ...]] = {
    OVMF_2M: ("plain", "smm"), OVMF_4M: ("plain", "smm"), AAVMF: ("aavmf",),
}  # fmt: skip
Variables = dict[Key, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Cut:
    """The flash after a power cut.

    Attributes:
        index: operations that were carried out wholly.
        how: ``after``, or how the next one was torn.
        image: what the flash holds.
    """

    index: int
    how: str
    image: bytes


@dataclass(frozen=True, slots=True)
class Density:
    """How many cuts are tried.

    Attributes:
        seeds: arbitrary mixtures for each torn page and erase.
        pages: pages torn in each program, None for all of them.
        share: part of the cuts inside of operations that is tried.
        after: part of the cuts after an operation that is tried.
    """

    seeds: int = 2
    pages: int | None = None
    share: float = 1.0
    after: float = 1.0


ALL = Density()


def cuts(
    image: bytes, operations: Sequence[Operation], density: Density = ALL, seed: int = 0
) -> Iterator[Cut]:
    """Every different state, in order; the first is the start, the last the finished flash."""
    chance = random.Random(seed)
    now = bytearray(image)
    seen = {hash(bytes(image))}
    yield Cut(0, "after", bytes(image))
    steps = [step for step in operations if isinstance(step, Program | Erase)]
    for index, step in enumerate(steps):
        inside = _torn_program if isinstance(step, Program) else _torn_erase
        at = step.range.address
        # Only the bytes of the step are compared; equal ones cannot make a new state.
        before = bytes(now[at : at + step.range.length])
        local = {before}
        finished = _finished(step, before)
        for how, part in inside(step, before, chance, density):
            nothing_torn = part == finished and how != "after"
            wanted = density.after if how == "after" else density.share
            drawn = how != "after" or wanted < 1
            if nothing_torn or part in local or (drawn and chance.random() >= wanted):
                continue
            local.add(part)
            torn = now.copy()
            torn[at : at + len(part)] = part
            key = hash(bytes(torn))
            if key not in seen:
                seen.add(key)
                done = index + 1 if how == "after" else index
                yield Cut(done, how, bytes(torn))
        now[at : at + step.range.length] = finished


def _finished(step: Program | Erase, before: bytes) -> bytes:
    if isinstance(step, Erase):
        return b"\xff" * step.length
    return _and(before, step.data)


def _and(one: bytes, other: bytes) -> bytes:
    held = int.from_bytes(one, "big") & int.from_bytes(other, "big")
    return held.to_bytes(len(one), "big")


def _or(one: bytes, other: bytes) -> bytes:
    held = int.from_bytes(one, "big") | int.from_bytes(other, "big")
    return held.to_bytes(len(one), "big")


def _torn_program(
    step: Program, before: bytes, chance: random.Random, density: Density
) -> Iterator[tuple[str, bytes]]:
    """Page after page; inside of each some first bytes, and some of the bits."""
    finished = _finished(step, before)
    edges = [*range(PAGE - step.address % PAGE, len(before), PAGE), len(before)]
    begins = [0, *edges[:-1]]
    pages = list(zip(begins, edges, strict=True))
    pages = [pair for pair in pages if before[slice(*pair)] != finished[slice(*pair)]]
    picked = pages if density.pages is None else chance.sample(
        pages, min(density.pages, len(pages))
    )  # fmt: skip
    for begin, end in sorted(picked):
        done, rest = finished[:begin], before[end:]
        old, new = before[begin:end], finished[begin:end]
        for _ in range(density.seeds):
            count = chance.randrange(1, max(len(old), 2))
            yield "first bytes", done + new[:count] + old[count:] + rest
            mask = chance.randbytes(len(old))
            yield "some bits", done + _and(old, _or(new, mask)) + rest
        if end < len(before):
            yield "page", finished[:end] + before[end:]
    yield "after", finished


def _torn_erase(
    step: Erase, before: bytes, chance: random.Random, density: Density
) -> Iterator[tuple[str, bytes]]:
    """Half of it, mixtures of bytes, mixtures of bits, and what clearing it first leaves."""
    size, half = len(before), len(before) // 2
    yield "first half erased", b"\xff" * half + before[half:]
    yield "second half erased", before[:half] + b"\xff" * (size - half)
    yield "cleared", bytes(size)
    for _ in range(density.seeds):
        bits = chance.randbytes(size)
        yield "some bits erased", _or(before, bits)
        yield "cleared, some bits erased", bits
        yield "cleared, most bits erased", _or(bits, _or(chance.randbytes(size), before))
        picked = chance.randbytes(size)
        mixed = bytes(0xFF if pick & 1 else old for pick, old in zip(picked, before, strict=True))
        yield "some bytes erased", mixed
    yield "after", b"\xff" * size


def firmware_survives(
    image: bytes, layout: Layout, build: Build, allowed: Sequence[Variables]
) -> str:
    """Switch on twice; empty when all is well, or what is not.

    Args:
        image: the flash after a power cut.
        layout: that of the firmware.
        build: its order.
        allowed: the sets of variables that may be there.
    """
    first = boot(image, layout, build)
    if first.outcome != "ok":
        return first.outcome
    if first.illegal:
        return "programs bits that cannot be set"
    if first.stale or first.duplicates:
        return "works on a stale copy"
    if (wrong := _wrong(first.variables, allowed)) != "":
        return wrong
    write = ("Afterwards", AFTERWARDS, 7, b"still writable")
    second = boot(first.image, layout, build, [write])
    if not second.sound:
        return f"second boot: {second.outcome}"
    there = second.variables.pop((write[0], write[1]), None)
    if there != (7, b"still writable"):
        return "second boot: not writable"
    return _wrong(second.variables, [first.variables])


def pending_hob(image: bytes, layout: Layout) -> bool:
    """Whether an SMM build's PEI driver finds anything."""
    return ftw_hob(Nor(image), layout, 0) is not None


def _wrong(found: Variables, allowed: Sequence[Variables]) -> str:
    """Empty when a set is one of those allowed; the counter of boots is not compared."""
    content = {key: value for key, value in found.items() if key != MTC}
    sets = [{key: value for key, value in each.items() if key != MTC} for each in allowed]
    if content in sets:
        return ""
    new = sets[-1]
    lost = sorted(name for name, guid in new.keys() - content.keys())
    return f"{len(lost)} variables lost" if lost else "neither the old nor the new set"


def opened(image: bytes, erase_size: int = 0x1000) -> Nvram:
    """The only store of an image, to be changed."""
    (found,) = find_stores(image)
    return Nvram(Window(image), found, erase_size)


def recovered(image: bytes, erase_size: int, *, again: bool = False) -> Nvram:
    """What a recovery plans, and where that refuses or is not enough, what a rescue does.

    Args:
        image: the flash after a power cut.
        erase_size: of the chip.
        again: a rescue was cut, and is done again.
    """
    nvram = opened(image, erase_size)
    if not again:
        try:
            recover(nvram)
            if nvram.found.healthy:
                return nvram
        except ImageError:
            pass
        nvram = opened(image, erase_size)
    rescue(nvram)
    return nvram


def recovery_survives(
    image: bytes, layout: Layout, erase_size: int, allowed: Sequence[Variables]
) -> str:
    """Recover, look at what is there, set a further variable, switch on; empty when all is well.

    The arguments are those of `firmware_survives`.
    """
    after = recovered(image, erase_size).flash.window().data
    return sound_after_recovery(after, layout, erase_size, tuple(allowed))


def sound_after_recovery(
    image: bytes, layout: Layout, erase_size: int, allowed: Sequence[Variables]
) -> str:
    """Whether a recovered flash is as it should be."""
    found = variables_in(image, layout)
    if (wrong := _wrong(found, allowed)) != "":
        return f"after recovery: {wrong}"
    nvram = opened(image, erase_size)
    if not nvram.found.healthy:
        return "after recovery: not healthy"
    if _can_write(nvram):
        VariableServices(nvram).set_variable("Written", AFTERWARDS, 7, b"by hwflash")
        found = found | {("Written", AFTERWARDS): (7, b"by hwflash")}
        image = nvram.flash.window().data
    for build in BUILDS[layout]:
        if build == "smm" and not pending_hob(image, layout):
            continue
        if (verdict := firmware_survives(image, layout, build, [found])) != "":
            return f"after recovery, {build}: {verdict}"
    return ""


def _can_write(nvram: Nvram) -> bool:
    """A chip whose erase blocks do not fit the volume cannot rewrite a store with a dirty tail."""
    return fits(nvram.store, make_record("Written", AFTERWARDS, 7, bytes(10))) or (
        erase_limits(nvram).suffix
    )


__all__ = [
    "ALL", "BUILDS", "Cut", "Density", "Variables", "cuts", "firmware_survives", "opened",
    "pending_hob", "recovered", "recovery_survives", "sound_after_recovery", "variables_in",
]  # fmt: skip
