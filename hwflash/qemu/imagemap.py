"""What is where in a firmware image, and at which physical address the machine shows it.

The size says which build an image could be, the volumes in it say whether it is that build.

Limits: OVMF and AAVMF; of other images only the volumes are listed, without addresses unless
the caller knows where the image lies.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwflash.layout.ovmf import AAVMF, Fit, fits, regions_of
from hwflash.layout.regions import Region
from hwflash.qemu.volumes import Volume, list_volumes
from hwflash.uefi.areas import Areas
from hwflash.uefi.find import Found, find_stores
from hwflash.uefi.find_others import told_apart
from hwflash.uefi.guids import NV_VOLUME
from hwflash.uefi.others import OtherStore
from hwflash.uefi.window import Window, filled_with
from hwflash.units import Range


@dataclass(frozen=True, slots=True)
class ImageMap:
    """An image, drawn.

    Attributes:
        size: bytes of the image.
        fit: the build and part it is; None: not known.
        base: physical address of its first byte; None: not known.
        regions: in order of offsets.
        volumes: firmware volumes, in order of offsets.
        stores: variable stores that were found.
        others: variable stores of other formats than EDK2's.
        notes: what does not fit, or is not sure.
    """

    size: int
    fit: Fit | None
    base: int | None
    regions: tuple[Region, ...]
    volumes: tuple[Volume, ...]
    stores: tuple[Found, ...]
    others: tuple[OtherStore, ...]
    notes: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Build and part in words."""
        return f"{self.fit.build.name}, {self.fit.part}" if self.fit else "not known"

    def physical(self, offset: int) -> int | None:
        """The physical address of an image offset, or None."""
        return None if self.base is None else self.base + offset


def map_image(image: bytes, base: int | None = None) -> ImageMap:
    """Draw an image.

    Args:
        image: the bytes.
        base: physical address of the first byte, when the caller knows; else that of the build.
    """
    volumes = list_volumes(image)
    stores, others = told_apart([Window(image)], find_stores(image))
    fit, notes = _fit(image, volumes)
    regions: tuple[Region, ...] = ()
    if fit is not None:
        regions = tuple(regions_of(fit, len(image)))
        notes += _differences(fit, regions, volumes, stores)
        base = fit.base if base is None else base
    elif stores:
        regions = tuple(_of_areas(stores[0].areas))
    return ImageMap(len(image), fit, base, regions, volumes, stores, others, tuple(notes))


def _fit(image: bytes, volumes: tuple[Volume, ...]) -> tuple[Fit | None, list[str]]:
    """The build an image is, and what is not sure about it."""
    candidates = fits(len(image))
    if not candidates:
        return None, [f"no build of OVMF or AAVMF has {len(image):,} bytes"]
    starts_nv = bool(volumes) and volumes[0].header.base == 0 and (
        volumes[0].header.file_system == NV_VOLUME
    )  # fmt: skip
    if filled_with(image[:4096], 0) or filled_with(image[:4096], 0xFF):
        starts_nv = starts_nv or not volumes
    chosen = next((fit for fit in candidates if (fit.part != "code") == starts_nv), None)
    if chosen is None:
        return None, [f"by its size it is {_named(candidates[0])}, by its content it is not"]
    same = [fit.build.name for fit in candidates if fit.part == chosen.part and fit != chosen]
    notes: list[str] = []
    if same:
        text = f"{', '.join(same)} has a part of the same size, which would lie elsewhere"
        notes.append(text)
    if not volumes:
        notes.append("the image is blank at its start: there is no volume yet")
    return chosen, notes


def _named(fit: Fit) -> str:
    return f"{fit.build.name}, {fit.part}"


def _differences(
    fit: Fit, regions: tuple[Region, ...], volumes: tuple[Volume, ...], stores: tuple[Found, ...]
) -> list[str]:
    """Where the content is not what the build has."""
    found: list[str] = []
    if fit.part != "code":
        store = next((item for item in stores if item.base == 0), None)
        if store is None and volumes:
            found.append("there is no variable store at its start")
        elif store is not None and store.length != fit.build.vars_size:
            found.append(
                f"its NV volume has 0x{store.length:X} bytes, "
                f"{fit.build.name} has 0x{fit.build.vars_size:X}"
            )
    if fit.part != "vars" and fit.build is not AAVMF:
        expected = [item.range for item in regions if item.protected]
        code = [item.range for item in volumes if item.header.file_system != NV_VOLUME]
        if fit.build.volumes and code != expected:
            places = ", ".join(map(str, code)) or "nowhere"
            found.append(f"its code volumes are not where {fit.build.name} has them: {places}")
    return found


def _of_areas(areas: Areas) -> list[Region]:
    parts: list[tuple[str, Range | None]] = [
        ("vars", areas.variables), ("event-log", areas.event_log),
        ("ftw-work", areas.work), ("ftw-spare", areas.spare),
    ]  # fmt: skip
    return [Region(name, where) for name, where in parts if where is not None and where.length]
