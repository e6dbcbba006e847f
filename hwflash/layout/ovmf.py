"""How OVMF lays out its image, and where QEMU shows it in memory.

An OVMF image is the variable store (VARS) followed by the code (CODE); the build also splits it
into two files. The image ends at 4 GiB, where the CPU starts, whole or split. ArmVirtQemu
(AAVMF) has its code at address 0 and its variables at 64 MiB.

Ref: edk2 OvmfPkg/Include/Fdf/OvmfPkgDefines.fdf.inc and VarStore.fdf.inc; QEMU
hw/i386/pc_sysfw.c. Sizes were checked against the images of Debian's ovmf and qemu-efi-aarch64
packages, addresses against QEMU 7.2.22.
Limits: by size only; content is looked at elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from hwflash.layout.regions import Region, RegionMap
from hwflash.units import MIB, Range

Part = Literal["unified", "vars", "code"]

FOUR_GIB: Final = 1 << 32
#: QEMU's ``virt`` machine has two flash units of this size, from address 0.
VIRT_UNIT: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class OvmfBuild:
    """One of the sizes OVMF is built in.

    Places are counted from the start of the variable store, which is the start of the image.

    Attributes:
        name: ``OVMF 4M`` and the like.
        size: bytes of the whole image; of the two flash units for AAVMF.
        vars_size: bytes of the VARS part; a file may be padded beyond it.
        variables: the volume's header and the variable store.
        event_log: between the two in OVMF.
        work: FTW work space.
        spare: FTW spare area.
        volumes: the code's volumes, names as in the build's description, from its start; AAVMF
            has one, of no fixed size.
        base: physical address of the VARS part.
        code_base: physical address of the CODE part.
    """

    name: str
    size: int
    vars_size: int
    variables: Range
    event_log: Range | None
    work: Range
    spare: Range
    base: int
    code_base: int
    volumes: tuple[tuple[str, int], ...] = ()

    @property
    def code_size(self) -> int:
        """Bytes of the CODE part; of the whole flash unit for AAVMF."""
        return VIRT_UNIT if self is AAVMF else self.size - self.vars_size


def _ovmf(
    name: str, size: int, variables: int, spare: int, volumes: tuple[tuple[str, int], ...] = ()
) -> OvmfBuild:
    log = Range(variables, 0x1000)
    work = Range(log.end, 0x1000)
    room = Range(work.end, spare)
    base = FOUR_GIB - size
    return OvmfBuild(
        name, size, room.end, Range(0, variables), log, work, room, base, base + room.end, volumes
    )


OVMF_1M: Final = _ovmf("OVMF 1M", 1 * MIB, 0xE000, 0x10000)
OVMF_2M: Final = _ovmf(
    "OVMF 2M", 2 * MIB, 0xE000, 0x10000, (("fvmain-compact", 0x1AC000), ("seccode", 0x34000))
)
OVMF_4M: Final = _ovmf(
    "OVMF 4M", 4 * MIB, 0x40000, 0x42000, (("fvmain-compact", 0x348000), ("seccode", 0x34000))
)
AAVMF: Final = OvmfBuild(
    "AAVMF", 2 * VIRT_UNIT, 0xC0000, Range(0, 0x40000), None, Range(0x40000, 0x40000),
    Range(0x80000, 0x40000), VIRT_UNIT, 0,
)  # fmt: skip
#: 4M first: what 2M and 1M have in common is then told as 2M.
BUILDS: Final = (OVMF_4M, OVMF_2M, OVMF_1M, AAVMF)


@dataclass(frozen=True, slots=True)
class Fit:
    """A build of which an image could be a part, by its size.

    Attributes:
        build: the build.
        part: which part.
    """

    build: OvmfBuild
    part: Part

    @property
    def base(self) -> int:
        """Physical address of the image's first byte."""
        return self.build.code_base if self.part == "code" else self.build.base


def fits(size: int) -> tuple[Fit, ...]:
    """What an image of this size could be, likeliest first; empty: nothing known.

    A VARS file of 128 KiB belongs to 2M and 1M builds alike, and the two files of AAVMF have
    the same size: the content, or the other file, must tell.
    """
    found: list[Fit] = []
    for build in BUILDS:
        if build is AAVMF:
            if size == VIRT_UNIT:
                found += [Fit(build, "vars"), Fit(build, "code")]
            elif size == build.vars_size:
                found.append(Fit(build, "vars"))
            continue
        if size == build.size:
            found.append(Fit(build, "unified"))
        if size == build.vars_size:
            found.append(Fit(build, "vars"))
        if size == build.code_size:
            found.append(Fit(build, "code"))
    return tuple(found)


def regions_of(fit: Fit, size: int | None = None) -> RegionMap:
    """The regions of an image, as image offsets.

    Args:
        fit: what it is.
        size: bytes of the image; default: those of the build.
    """
    build, found = fit.build, list[Region]()
    if fit.part != "code":
        found += [
            Region("vars", build.variables, description="UEFI variables, with the volume header"),
            Region("ftw-work", build.work, description="fault-tolerant write work space"),
            Region("ftw-spare", build.spare, description="fault-tolerant write spare area"),
        ]
        if build.event_log is not None:
            found.append(Region("event-log", build.event_log, description="event log area"))
    if fit.part != "vars":
        found += _code_regions(fit)
    usual = {"unified": build.size, "vars": build.vars_size, "code": build.code_size}[fit.part]
    return RegionMap(found, size if size is not None else usual)


def _code_regions(fit: Fit) -> list[Region]:
    build = fit.build
    start = build.vars_size if fit.part == "unified" else 0
    if not build.volumes:
        where = Range(start, build.code_size)
        return [Region("code", where, protected=True, description="firmware code")]
    found: list[Region] = []
    for name, length in build.volumes:
        where = Range(start, length)
        found.append(Region(name, where, protected=True, description=_VOLUMES[name]))
        start += length
    return found


_VOLUMES: Final = {
    "fvmain-compact": "compressed PEI and DXE volumes",
    "seccode": "reset vector and SEC phase",
}
