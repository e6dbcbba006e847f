"""What edk2 firmware does with a variable volume when it is switched on: bytes in, bytes out.

Written from the sources of edk2 alone and without any code of hwflash, so that it can judge what
hwflash writes. It follows, as of 2022.11:

- OvmfPkg/QemuFlashFvbServicesRuntimeDxe/FwBlockService.c (the header check that wipes),
  QemuFlash.c (the probe), and its counterpart for AAVMF, VirtNorFlashDxe;
- MdeModulePkg/Universal/FaultTolerantWritePei (the HOB that SMM builds read);
- MdeModulePkg/Universal/FaultTolerantWriteDxe, in `edk2_ftw`;
- MdeModulePkg/Universal/Variable/RuntimeDxe (VariableNonVolatile.c, VariableParsing.c,
  Variable.c: UpdateVariable, Reclaim, ReclaimForOS, VariableWriteServiceInitialize), in
  `edk2_variables`.

The flash is a NOR flash: a program that would set bits leaves them clear and is counted. Not
modelled: boot-block updates, work spaces smaller than a block, hardware error storage, QEMU's
flash staying in status mode after an erase, and assertions of DEBUG builds.

What differs between the builds is the order: plain ones read the variables into RAM before a
pending write is finished, SMM ones too but from the spare copy, AAVMF does it afterwards.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from edk2_ftw import (
    AAVMF,
    AUTHENTICATED,
    CALLERS,
    NV_FV,
    OVMF_2M,
    OVMF_4M,
    WORK_SIGNATURE,
    Ftw,
    Layout,
    Nor,
    sum16,
)
from edk2_variables import (
    ADDED,
    STORE_HEADER,
    Entry,
    Key,
    Variables,
    find,
    named,
    raw_key,
    store_valid,
    twice,
    walk,
)

Build = Literal["plain", "smm", "aavmf"]
#: ``wiped``: the flash driver found a bad volume header and erased everything.
#: ``emulated``: no flash was found at the place; nothing is ever stored.
Outcome = Literal["ok", "hang", "exception", "wiped", "emulated"]
Write = tuple[str, UUID, int, bytes]

#: The counter that every boot writes.
MTC: Final = ("MTC", UUID("eb704011-1402-11d3-8e77-00a0c969723b"))


@dataclass(frozen=True, slots=True)
class Boot:
    """How a boot went.

    Attributes:
        outcome: see `Outcome`.
        image: the flash afterwards.
        variables: what a search in that flash finds; empty without a store.
        duplicates: variables with two live records.
        operations: programs ``("w", address, data)`` and erases ``("e", address, b"")``.
        illegal: programs that would have set bits.
        stale: the firmware's copy in RAM differs from the flash.
        replayed: a pending write was finished.
        reclaimed: the store was rewritten.
    """

    outcome: Outcome
    image: bytes
    variables: dict[Key, tuple[int, bytes]]
    duplicates: frozenset[Key]
    operations: list[tuple[str, int, bytes]]
    illegal: int
    stale: bool
    replayed: bool
    reclaimed: bool

    @property
    def sound(self) -> bool:
        """Came up, wrote nothing that a NOR flash cannot hold, and knows what is in it."""
        return self.outcome == "ok" and not (self.illegal or self.stale or self.duplicates)


def variables_in(
    image: bytes | bytearray, layout: Layout, base: int = 0
) -> dict[Key, tuple[int, bytes]]:
    """What a search in the flash finds; nothing when a header is bad."""
    volume = memoryview(image)[base : base + layout.variables]
    if not volume_valid(volume, layout):
        return {}
    store = bytes(volume[struct.unpack_from("<H", volume, 48)[0] :])
    if len(store) < STORE_HEADER or not store_valid(store):
        return {}
    found: dict[tuple[bytes, bytes], Entry] = {}
    for entry in walk(store):
        if entry.live and (entry.key not in found or found[entry.key].state != ADDED):
            found[entry.key] = entry
    return {named(key): (entry.attributes, entry.data) for key, entry in found.items()}


def volume_valid(volume: bytes | memoryview, layout: Layout) -> bool:
    """ValidateFvHeader and InitializeVariableFvHeader of the flash driver."""
    signature, header, revision = bytes(volume[40:44]), volume[48:50], volume[55]
    (length,) = struct.unpack_from("<H", header)
    if signature != b"_FVH" or revision != 2 or length & 1:
        return False
    if sum16(bytes(volume[:length])):
        return False
    (fv_length,) = struct.unpack_from("<Q", volume, 32)
    (block,) = struct.unpack_from("<I", volume, 60)
    # The block map of AAVMF says 64 MiB, and its driver does not look at it.
    return fv_length == layout.length and (layout is AAVMF or block == layout.block)


def ftw_hob(nor: Nor, layout: Layout, base: int) -> int | None:
    """FaultTolerantWritePei: where the content of the spare belongs, from the volume's start."""
    work, size, spare = base + layout.work, layout.work_size, base + layout.spare

    def valid(at: int) -> bool:
        header = nor.read(at, 32)
        queue = struct.unpack_from("<Q", header, 24)[0]
        signed = header[:16] in (WORK_SIGNATURE, NV_FV)
        return header[20] & 3 == 2 and queue == size - 32 and signed

    if valid(work):
        queue = Ftw(nor, layout, base, b"")
        queue.space = bytearray(nor.read(work, size))
        if not queue.locate() or not queue.flag(queue.record, 2) or queue.flag(queue.record, 4):
            return None
        return layout.spare + struct.unpack_from("<q", queue.space, queue.record + 32)[0]
    # The last match at a multiple of 16 bytes is taken, whatever it is.
    content = nor.read(spare, layout.spare_size)
    at = content.rfind(WORK_SIGNATURE)
    while at >= 0 and (at % 16 or at > layout.spare_size - size):
        at = content.rfind(WORK_SIGNATURE, 0, at + 15)
    return layout.work - at if at >= 0 and valid(spare + at) else None


def _probe(nor: Nor, layout: Layout, base: int, build: Build) -> bool:
    """Whether the flash driver finds a flash: a byte that is none of its commands."""
    if build == "aavmf":
        return True
    block = nor.read(base, layout.block) if base >= 0 else b""
    return bool(block.strip(b"\x00\x50\x70"))


def _check_volume(nor: Nor, layout: Layout, base: int, build: Build) -> bool:
    """The flash driver's check; False when it wiped the volume."""
    volume = nor.read(base, layout.variables)
    good = volume_valid(volume, layout)
    if build == "aavmf":
        good = good and volume[16:32] == NV_FV and volume[0x48:0x58] == AUTHENTICATED
        good = good and struct.unpack_from("<I", volume, 0x58)[0] == layout.variables - 0x48
    if good:
        return True
    nor.erase(base, layout.length, layout.block)
    header = layout.volume_header()
    if build == "aavmf":
        size = layout.variables - 0x48
        header += AUTHENTICATED + struct.pack("<IBBHI", size, 0x5A, 0xFE, 0, 0)
    nor.program(base, header)
    return False


def boot(
    image: bytes,
    layout: Layout,
    build: Build,
    writes: Sequence[Write] = (),
    *,
    count: bool = True,
) -> Boot:
    """Switch a board on.

    Args:
        image: the flash. OVMF takes its volume from the image's end, where the code follows;
            AAVMF from its start.
        layout: the one the code was built for.
        build: ``smm`` has the PEI driver and its HOB, ``aavmf`` starts the fault-tolerant write
            driver before the variable driver.
        writes: variables set at boot time: name, GUID, attributes, data; empty data deletes.
        count: write MTC, as every real boot does.
    """
    nor = Nor(image)
    base = 0 if build == "aavmf" else len(image) - layout.length
    ftw = Ftw(nor, layout, base, CALLERS[build])
    variables = Variables(nor, ftw, layout, base)
    outcome = _boot(nor, ftw, variables, base, build, writes, count)
    store = nor.read(variables.store, len(variables.cache)) if variables.cache else b""
    return Boot(
        outcome=outcome,
        image=bytes(nor.data),
        variables=variables_in(nor.data, layout, base) if base >= 0 else {},
        duplicates=frozenset(named(key) for key in twice(walk(store))),
        operations=nor.operations,
        illegal=nor.illegal,
        stale=variables.stale,
        replayed=ftw.replayed,
        reclaimed=variables.reclaimed,
    )


def _boot(
    nor: Nor,
    ftw: Ftw,
    variables: Variables,
    base: int,
    build: Build,
    writes: Sequence[Write],
    count: bool,
) -> Outcome:
    layout = ftw.layout
    if not _probe(nor, layout, base, build):
        return "emulated"
    hob = ftw_hob(nor, layout, base) if build == "smm" else None
    kept = _check_volume(nor, layout, base, build)
    if build == "aavmf":
        ftw.start()
    loaded = variables.load(hob)
    if build != "aavmf":
        ftw.start()
    if not loaded:
        return "exception" if kept else "wiped"
    variables.start_writing()
    if variables.duplicates():
        return "hang"
    if count:
        _, current = _value(variables, MTC)
        number = int.from_bytes(current, "little") + 1
        variables.set(*MTC, 7, number.to_bytes(4, "little"))
    for write in writes:
        variables.set(*write)
    variables.ready_to_boot()
    if variables.duplicates():
        return "hang"
    return "ok" if kept else "wiped"


def _value(variables: Variables, key: Key) -> tuple[int, bytes]:
    current, _ = find(variables.entries, raw_key(*key))
    return (current.attributes, current.data) if current is not None else (0, b"")


__all__ = [
    "AAVMF", "MTC", "OVMF_2M", "OVMF_4M", "Boot", "Build", "Key", "Layout", "Outcome", "Write",
    "boot", "find", "raw_key", "variables_in", "walk",
]  # fmt: skip
