"""The check ``pflash``: where the firmware sees its flash, and who came up in which order.

What the firmware says of its own handle database (``dh``) is held against QEMU's memory map and
against the addresses of `hwflash.layout.ovmf` and `hwflash.uefi.fvb`.

Ref: drivers by their names in edk2 2022.11: OvmfPkg/QemuFlashFvbServicesRuntimeDxe
(FvbServicesRuntimeDxe, FvbServicesSmm), OvmfPkg/VirtNorFlashDxe, OvmfPkg/EmuVariableFvbRuntimeDxe,
MdeModulePkg/Universal/Variable/RuntimeDxe, MdeModulePkg/Universal/FaultTolerantWriteDxe.
Limits: handle numbers tell an order, no times. The protocols of an SMM driver are in a database
of SMM's own that the Shell does not see: there the driver's image stands for it.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Final

from hwflash.layout.ovmf import fits
from hwflash.qemu.boot import Guest
from hwflash.qemu.check import Bench, Step, equal, store_of
from hwflash.qemu.check_variables import made_store
from hwflash.qemu.pflash import require_startable
from hwflash.qemu.shell import Shell
from hwflash.uefi.fvb import physical_base
from hwflash.units import Range

_HANDLE: Final = re.compile(r"^\s*([0-9A-Fa-f]{1,4}): (.*)$", re.MULTILINE)
_MAPPED: Final = re.compile(r"MemoryMapped\(0x[0-9A-Fa-f]+,0x([0-9A-Fa-f]+),0x([0-9A-Fa-f]+)\)")
_TREE: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16}) \(.*\): \S+\.(flash[01])\s*$", re.M)
_IMAGE: Final = re.compile(r"LoadedImage\((\w+)\)")

#: In a volume's header; that of a volume with variables is not that of one with code.
_FILE_SYSTEM_GUID: Final = 0x10

#: Protocols by which a driver says that it is up, as the Shell names them or by their GUID.
FTW_PROTOCOL: Final = "3EBD9E82-2C78-4DE6-9786-8D4BFCB7C881"
#: Images of the three drivers; those of SMM first, which have no protocols in the database.
_FLASH_DRIVERS: Final = (
    "FvbServicesSmm", "FvbServicesRuntimeDxe", "VirtNorFlashDxe", "ArmVeNorFlashDxe",
    "EmuVariableFvbRuntimeDxe",
)  # fmt: skip
_VARIABLE_DRIVERS: Final = ("VariableSmm", "VariableRuntimeDxe")
_FTW_DRIVERS: Final = ("SmmFaultTolerantWriteDxe", "FaultTolerantWriteDxe")
_EMULATION: Final = "EmuVariableFvbRuntimeDxe"


@dataclass(frozen=True, slots=True)
class Volume:
    """A firmware volume that the firmware offers as blocks.

    Attributes:
        handle: its number.
        place: where it says it is; None: its device path has no address.
        code: it has files in it, so it is not the one of the variables.
    """

    handle: int
    place: Range | None
    code: bool

    def __str__(self) -> str:
        where = "no address" if self.place is None else _span(self.place)
        return f"0x{self.handle:02X} {where}" + (" (code)" if self.code else "")


@dataclass(frozen=True, slots=True)
class Driver:
    """One of the three drivers of variables: its image, and the handle at which it was up."""

    name: str
    handle: int

    def __str__(self) -> str:
        return f"{self.name} 0x{self.handle:02X}"


def pflash(bench: Bench) -> Generator[Step]:
    """One boot, and on plain PC firmware another one without a variable store."""
    image = yield from made_store(bench)
    with bench.shell(image) as (guest, shell):
        place = yield from _addresses(guest, image)
        yield from _volumes(shell, bench.machine.secure, place)
        yield _mapped(shell, place, image)
        drivers = drivers_of(shell)
        yield _order(drivers)
        yield Step(
            "not-emulated",
            all(item.name != _EMULATION for item in drivers),
            "the flash driver found flash",
            drivers[0].name if drivers else "no driver",
        )
        guest.power_off(shell)
    machine = bench.machine
    if machine.family in ("q35", "i440fx") and machine.vars is not None and not machine.secure:
        yield from _emulated(bench)


# --- steps --------------------------------------------------------------------------------------


def _addresses(guest: Guest, image: bytes) -> Generator[Step, None, Range]:
    """Where the units and the volume lie: QEMU's memory map, and our own three answers."""
    machine, found = guest.machine, store_of(image)
    sizes = unit_ranges(guest)
    own = sizes.get("flash1" if machine.vars is not None else "flash0")
    code = sizes.get("flash0")
    split = code.length if code is not None and machine.vars is not None else None
    told = "QEMU has no such unit" if own is None else f"0x{own.address:08X}"
    foretold = {item.name.rpartition(".")[2]: item.range for item in require_startable(machine)}
    yield equal("units-foretold", _units(foretold), _units(sizes))
    base = physical_base(Range(0, found.length), len(image), split)
    yield equal("address-fvb", told, "unknown" if base is None else f"0x{base:08X}")
    builds = [
        fit for fit in fits(len(image))
        if fit.part == ("vars" if split is not None else "unified")
        and (split is None or fit.build.code_size == split)
    ]  # fmt: skip
    layout = f"0x{builds[0].base:08X}" if builds else f"no build of {len(image):,} bytes"
    yield equal("address-layout", told, layout)
    return Range(own.address if own is not None else 0, found.length)


def _volumes(shell: Shell, secure: bool, place: Range) -> Generator[Step]:
    """Which firmware volumes the firmware offers as blocks."""
    found = volumes_of(shell)
    told = ", ".join(str(item) for item in found) or "none"
    data = [item for item in found if not item.code]
    if secure:
        # The one of the variables is in SMM, out of the Shell's sight.
        yield Step("fvb-instances", bool(found) and not data, "volumes of code only", told)
        return
    yield Step(
        "fvb-instances",
        len(data) == 1 and len(found) > 1,
        "volumes of code, one of variables",
        told,
    )
    # AAVMF's device path has no address; `mapped` looks at the memory instead.
    places = [item.place for item in data if item.place is not None]
    if places or not data:
        text = ", ".join(_span(item) for item in places) or "no volume of variables"
        yield equal("fvb-address", _span(place), text)


def _mapped(shell: Shell, place: Range, image: bytes) -> Step:
    """Whether the processor reads the image where we say it lies."""
    wanted = int.from_bytes(image[_FILE_SYSTEM_GUID : _FILE_SYSTEM_GUID + 8], "little")
    where = place.address + _FILE_SYSTEM_GUID
    found = shell.peek(where, 8)
    return equal("mapped", f"0x{wanted:016X} at 0x{where:08X}", f"0x{found:016X} at 0x{where:08X}")


def _order(drivers: list[Driver]) -> Step:
    """The drivers in the order in which they came up; which one it is, is the firmware's own."""
    told = ", ".join(str(item) for item in drivers) or "none"
    expected = "a flash driver first, and drivers for variables and fault-tolerant writes"
    first = bool(drivers) and drivers[0].name in _FLASH_DRIVERS
    return Step("driver-order", first and len(drivers) == 3, expected, told)


def _emulated(bench: Bench) -> Generator[Step]:
    """Without a variable store the firmware keeps variables in memory, and does not say so."""
    alone = replace(bench.machine, vars=None, template=None)
    with bench.shell(machine=alone) as (guest, shell):
        units = unit_ranges(guest)
        data = [item for item in volumes_of(shell) if not item.code]
        outside = [
            item for item in data
            if item.place is not None
            and not any(item.place.overlaps(unit) for unit in units.values())
        ]  # fmt: skip
        told = ", ".join(str(item) for item in data) or "no volume of variables"
        yield Step(
            "emulated-in-memory", len(data) == len(outside) == 1, "a volume outside the flash", told
        )
        drivers = drivers_of(shell)
        told = ", ".join(item.name for item in drivers) or "none"
        yield Step(
            "emulated-driver", any(item.name == _EMULATION for item in drivers), _EMULATION, told
        )
        guest.power_off(shell)


# --- what the firmware and QEMU say -------------------------------------------------------------


def unit_ranges(guest: Guest) -> dict[str, Range]:
    """Where the flash units lie, ``flash0`` and ``flash1``, by QEMU's own memory map."""
    tree = guest.qmp.monitor("info mtree -f")
    return {
        match[3]: Range(int(match[1], 16), int(match[2], 16) - int(match[1], 16) + 1)
        for match in _TREE.finditer(tree)
    }


def volumes_of(shell: Shell) -> list[Volume]:
    """The volumes with FirmwareVolumeBlock, by ``dh -v``, whose device paths are not cut."""
    found: list[Volume] = []
    for match in _HANDLE.finditer(shell.run("dh -p FirmwareVolumeBlock -v")):
        mapped = _MAPPED.search(match[2])
        place = None
        if mapped is not None:
            start, last = int(mapped[1], 16), int(mapped[2], 16)
            place = Range(start, max(last - start + 1, 0))
        found.append(Volume(int(match[1], 16), place, "FirmwareVolume2" in match[2]))
    return found


def drivers_of(shell: Shell) -> list[Driver]:
    """The drivers of flash, variables and fault-tolerant writes, as they came up.

    A driver is up where its protocol is; for one in SMM, where its image is.
    """
    return drivers_in(shell.run("dh"))


def drivers_in(output: str) -> list[Driver]:
    """The same from the output of ``dh``, in order of handles."""
    handles = [(int(match[1], 16), match[2]) for match in _HANDLE.finditer(output)]
    images = {match[1]: number for number, text in handles for match in _IMAGE.finditer(text)}
    found: list[Driver] = []
    for names, mark in (
        (_FLASH_DRIVERS, "FirmwareVolumeBlock"),
        (_VARIABLE_DRIVERS, "VariableArch"),
        (_FTW_DRIVERS, FTW_PROTOCOL),
    ):
        name = next((name for name in names if name in images), None)
        if name is None:
            continue
        start = images[name]
        ups = [number for number, text in handles if number > start and mark in text]
        hidden = name.endswith("Smm") or name.startswith("Smm")
        found.append(Driver(name, start if hidden or not ups else ups[0]))
    return sorted(found, key=lambda item: item.handle)


def _units(places: dict[str, Range]) -> str:
    return ", ".join(f"{name} {_span(place)}" for name, place in sorted(places.items())) or "none"


def _span(place: Range) -> str:
    return f"0x{place.address:08X}-0x{place.end - 1:08X}"
