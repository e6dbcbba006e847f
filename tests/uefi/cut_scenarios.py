"""What is cut: start images, and the flash operations that hwflash plans on them.

Each scenario has a start, its operations, the sets of variables that are allowed afterwards, and
which builds must survive being switched on without any recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import volumes
from edk2_ftw import Nor
from edk2_model import AAVMF, MTC, OVMF_2M, OVMF_4M, Build, Layout, variables_in
from power_cuts import BUILDS, Variables, opened
from volumes import GUID, NV_BS, entry, variable, volume_bytes

from hwflash.uefi.flashops import Erase, Program, carried_out
from hwflash.uefi.ftw_write import ftw_write, reclaim_work_space
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import Record
from hwflash.uefi.recover import recover
from hwflash.uefi.rescue import rescue
from hwflash.uefi.rewrite import Order, reclaim
from hwflash.uefi.services import VariableServices
from hwflash.uefi.window import Window

KNOWN = {OVMF_2M: volumes.OVMF_2M, OVMF_4M: volumes.OVMF_4M, AAVMF: volumes.AAVMF}
APPEND = 0x40


@dataclass(frozen=True, slots=True)
class Scenario:
    """One operation on one start image.

    Attributes:
        name: the operation.
        layout: of the firmware.
        erase_size: of the chip.
        start: the flash before.
        finished: the flash after all operations.
        operations: what was planned.
        allowed: sets of variables that may be there after a cut; the last one is the new set.
        must: builds that have to survive without a recovery.
    """

    name: str
    layout: Layout
    erase_size: int
    start: bytes
    finished: bytes
    operations: Sequence
    allowed: tuple[Variables, ...]
    must: tuple[Build, ...]

    @property
    def label(self) -> str:
        """For test ids."""
        return f"{self.name}, {self.layout.name}, {self.erase_size // 1024} KiB"


def image_of(records: Sequence[Record], layout: Layout, **options) -> bytes:
    """A healthy volume; AAVMF has one block for all variables."""
    return bytes(volume_bytes(records, KNOWN[layout], block=layout.block, **options))


def counter() -> Record:
    return variable(MTC[0], bytes([7, 0, 0, 0]), MTC[1], attributes=7)


def some(layout: Layout, live: int, dead: int = 3, size: int = 300) -> list[Record]:
    """Live records of many sizes, each ``dead``-th with a dead one behind it."""
    found = [counter(), variable("Target", b"old value" * 5)]
    for index in range(live):
        found.append(variable(f"Live{index}", bytes([index % 251 + 1]) * (size + index * 7 % 61)))
        if index % dead == 0:
            found.append(variable(f"Dead{index}", b"x" * (size // 2), state=0x3C))
    return found


def full(layout: Layout, spare: int = 0x90) -> list[Record]:
    """Records to the end of the store, but for ``spare`` bytes, and dead ones all over."""
    room = layout.variables - 0x48 - 28 - spare
    size = 300 if layout is OVMF_2M else 2000
    found: list[Record] = []
    used = 0
    for record in some(layout, 10_000, 9, size):
        length = (record.size + 3) & ~3
        if used + length > room:
            break
        found.append(record)
        used += length
    if room - used >= 80:
        found.append(variable("Dead", b"x" * (room - used - 72), state=0x3C))
    return found


def planned(
    name: str,
    layout: Layout,
    start: bytes,
    change: Callable[[Nvram], object],
    must: Sequence[Build] | None = None,
    erase_size: int | None = None,
    old: Variables | None = None,
) -> Scenario:
    """Have hwflash plan a change."""
    size = layout.block if erase_size is None else erase_size
    nvram = opened(start, size)
    change(nvram)
    finished = nvram.flash.window().data
    before = variables_in(start, layout) if old is None else old
    sets = (before, variables_in(finished, layout))
    builds = BUILDS[layout] if must is None else tuple(must)
    return Scenario(name, layout, size, start, finished, list(nvram.operations), sets, builds)


def setting(*call) -> Callable[[Nvram], object]:
    return lambda nvram: VariableServices(nvram).set_variable(*call)


def after_programs(start: bytes, call: tuple, count: int) -> bytes:
    """The flash after the first programs of a SetVariable."""
    nvram = opened(start)
    setting(*call)(nvram)
    return bytes(carried_out(Window(start), nvram.operations[:count]).data)


def reclaiming(order: Order, adding: Record | None = None) -> Callable[[Nvram], object]:
    return lambda nvram: reclaim(nvram, adding=adding, order=order)


def in_place(layout: Layout, erase_size: int | None = None) -> Iterator[Scenario]:
    """New, update, delete, append; nothing is erased."""
    start = image_of(some(layout, 12), layout)
    twins = image_of(
        [counter(), variable("Target", b"older", state=0x3E), variable("Target", b"old"),
         *some(layout, 4)[2:]],
        layout,
    )  # fmt: skip
    # A header that lacks its start id and half of its bits.
    new = after_programs(start, ("Torn", GUID, NV_BS, b"torn"), 1)
    end = next(at for at, (one, other) in enumerate(zip(start, new, strict=True)) if one != other)
    torn = start[:end] + b"\xff\x55\xff\x00\x03" + start[end + 5 :]
    target = ("Target", GUID)
    for name, image, call in (
        ("set, new", start, ("New", GUID, NV_BS, b"new value" * 60)),
        ("set, update", start, (*target, NV_BS, b"a value that is new" * 20)),
        ("set, update over two records", twins, (*target, NV_BS, b"newest")),
        ("set, delete", start, (*target, NV_BS, b"")),
        ("set, delete of two records", twins, (*target, 0, b"")),
        ("set, behind a torn header", torn, (*target, NV_BS, b"a value that is new" * 20)),
        ("set, append", start, (*target, NV_BS | APPEND, b" and more" * 9)),
    ):
        yield planned(name, layout, image, setting(*call), erase_size=erase_size)


def suffixes(layout: Layout, erase_size: int | None = None) -> Iterator[Scenario]:
    """Reclaims that never erase the first block."""
    # Well beyond the first erase block, whatever its size.
    size = 300 if erase_size in (None, 0x1000) else 3000
    half = image_of(some(layout, 60, size=size), layout)
    packed = image_of(full(layout), layout)
    moved = [variable("Target", b"in transition", state=0x3E), *some(layout, 40, size=size)[2:]]
    lone = image_of([counter(), *moved], layout)
    # A search finds the last of them, the firmware's own reclaim keeps the first.
    both = [variable("Target", b"older", state=0x3E), *moved]
    twins = image_of([counter(), *both], layout)
    tail = half[: layout.variables - 8] + bytes(4) + half[layout.variables - 4 :]
    head = image_of([counter(), *[variable(f"D{i}", b"d" * 90, state=0x3C) for i in range(9)],
                     variable("Target", b"old")], layout)  # fmt: skip
    big = variable("Big", b"B" * 0x1800)
    for name, image, change in (
        ("reclaim, half full", half, reclaiming("suffix")),
        ("reclaim, dirty tail", tail, reclaiming("suffix")),
        ("reclaim, adding", half, reclaiming("suffix", variable("New", b"n" * 700))),
        ("reclaim, moving from block 0", half,
         reclaiming("suffix", variable("Target", b"moved" * 99))),
        ("reclaim, lone in transition", lone, reclaiming("suffix")),
        ("reclaim, two in transition", twins, reclaiming("suffix")),
        ("reclaim, all in block 0", head, reclaiming("suffix", big)),
        ("reclaim, full to the end", packed, reclaiming("suffix")),
        ("set, full store", packed,
         setting("Target", GUID, NV_BS, b"a value that is new" * 20)),
    ):  # fmt: skip
        yield planned(name, layout, image, change, erase_size=erase_size)


def as_firmware(layout: Layout, erase_size: int | None = None) -> Iterator[Scenario]:
    """The firmware's own order; a board must not be switched on before a recovery."""
    half = image_of(some(layout, 30), layout)
    new = variable("New", b"n" * 900)
    yield planned("reclaim as edk2", layout, half, reclaiming("edk2", new), (), erase_size)


def fault_tolerant(layout: Layout) -> Iterator[Scenario]:
    """A write of some bytes of one block, and a new work space."""
    records = [counter(), *[variable(f"Live{index}", b"v" * 700) for index in range(30)]]
    image = image_of(records, layout)
    # One record's data, inside of a block of its own where there is one.
    at = image.index(b"v" * 700, 0x2000 if layout.block < 0x40000 else 0)
    while layout.block < 0x40000 and at // 0x1000 != (at + 700) // 0x1000:
        at = image.index(b"v" * 700, at + 700)
    lba, offset = divmod(at, layout.block)
    yield planned(
        "FTW write", layout, image, lambda nvram: ftw_write(nvram, lba, offset, b"w" * 700), ()
    )
    known = KNOWN[layout]
    entries = tuple(entry(known, header=0xF8, record=0xF9) for _ in range(50))
    worn = image_of(records, layout, entries=entries)
    spare = known.spare.address
    worn = worn[:spare] + image[: known.variables] + worn[spare + known.variables :]
    yield planned("new work space", layout, worn, reclaim_work_space)


def recoveries(layout: Layout) -> Iterator[Scenario]:
    """Recoveries of what cuts leave, to be cut themselves."""
    (reclaim_,) = as_firmware(layout)
    states = list(states_of(reclaim_))
    new = reclaim_.allowed[1]
    places = {
        "recover, spare complete": next(i for i, (step, _) in enumerate(states) if step == 0) - 1,
        "recover, block 0 erased": next(i for i, (step, _) in enumerate(states) if step == 0),
        "recover, half programmed": _half(states, layout),
        "recover, not yet complete": len(states) - 1 - _tail(states, layout),
    }
    for name, index in places.items():
        yield planned(name, layout, states[index][1], recover, (), old=new)
    worn = next(item for item in fault_tolerant(layout) if item.name == "new work space")
    for step, image in states_of(worn):
        if step == layout.work:
            yield planned("recover, work space erased", layout, image, recover, old=worn.allowed[0])
            break


def states_of(scenario: Scenario) -> Iterator[tuple[int, bytes]]:
    """Erased block, or -1, and the flash after each erase and program."""
    nor = Nor(scenario.start)
    for step in scenario.operations:
        if isinstance(step, Erase):
            nor.erase(step.address, step.length, step.length)
            yield step.address, bytes(nor.data)
        elif isinstance(step, Program):
            nor.program(step.address, step.data)
            yield -1, bytes(nor.data)


def _half(states: list[tuple[int, bytes]], layout: Layout) -> int:
    """The target's first blocks are back."""
    first = next(index for index, (step, _) in enumerate(states) if step == 0)
    program = next(index for index in range(first, len(states)) if states[index][0] == -1)
    return program if layout is AAVMF else program + 2


def _tail(states: list[tuple[int, bytes]], layout: Layout) -> int:
    """States behind *destination complete*."""
    flags = [image[layout.work + 72] for _, image in states]
    return len(states) - 1 - flags.index(0xF9)


def rescues(layout: Layout) -> Iterator[Scenario]:
    """Rescues of broken stores, to be cut themselves."""
    records = some(layout, 20)
    healthy = image_of(records, layout)
    kept = variables_in(healthy, layout)
    spare = layout.spare
    copy = healthy[: layout.variables]
    backed = healthy[:spare] + copy + healthy[spare + layout.variables :]
    broken = bytearray(backed)
    broken[0x64 : layout.variables // 2] = b"\xff" * (layout.variables // 2 - 0x64)
    broken[layout.work : layout.work + 32] = b"\xff" * 32
    yield planned("rescue, from the spare", layout, bytes(broken), rescue, (), old=kept)
    # The chain breaks at one record in place; the spare is older and lacks another one.
    older = image_of(records[:-2], layout)[: layout.variables]
    chain = bytearray(healthy[:spare] + older + healthy[spare + layout.variables :])
    at = healthy.index("Live7".encode("utf-16-le")) - 60
    chain[at : at + 2] = bytes(2)
    yield planned("rescue, salvage", layout, bytes(chain), rescue, (), old=kept)
    headless = bytearray(healthy)
    headless[0x20:0x64] = b"\xff" * 0x44
    yield planned("rescue, headers erased", layout, bytes(headless), rescue, (), old=kept)
    gone = bytearray(healthy)
    gone[layout.work : layout.work + 16] = bytes(16)
    yield planned("rescue, work space lost", layout, bytes(gone), rescue, (), old=kept)


def every() -> Iterator[Scenario]:
    """All of them, in the order of the table."""
    for layout in (OVMF_2M, OVMF_4M, AAVMF):
        yield from in_place(layout)
    yield from in_place(OVMF_4M, 0x10000)
    yield from suffixes(OVMF_2M)
    yield from suffixes(OVMF_4M)
    yield from suffixes(AAVMF, 0x1000)
    yield from suffixes(AAVMF, 0x10000)
    for layout in (OVMF_2M, OVMF_4M, AAVMF):
        yield from as_firmware(layout)
        yield from fault_tolerant(layout)
        yield from recoveries(layout)
        yield from rescues(layout)
