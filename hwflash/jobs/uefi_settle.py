"""What has to be right before a variable store is changed, and after."""

from __future__ import annotations

from typing import Final, Literal

from hwflash.errors import ImageError
from hwflash.uefi.check import check
from hwflash.uefi.find import Found
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.recover import recover
from hwflash.uefi.rescue import rescue
from hwflash.uefi.rewrite import Order, reclaim

#: ``as-is``: the change is a repair itself, and takes the store as it finds it.
Repair = Literal["as-is", "none", "recover", "reclaim", "rescue"]
#: What a work space or spare area may be filled with: erased, zeroed, or read back by firmware
#: while the flash showed its status (UEFI variable stores under QEMU).
_FILLS: Final = (b"\xff", b"\0", b"\x80\0")


def settle(nvram: Nvram, repair: Repair, order: Order) -> list[str]:
    """Bring a store into a state in which it may be changed; what was done, in words.

    Raises:
        ImageError: it needs a repair that was not asked for (``uefi.unhealthy``).
    """
    said: list[str] = []
    if repair == "as-is":
        return said
    if repair == "none":
        _require_own(nvram.found)
    if repair == "rescue":
        said += rescue(nvram).actions
    needed = check(nvram.found).repair
    if needed == "recover":
        said += recover(nvram).actions
        needed = check(nvram.found).repair
    if repair == "reclaim" and needed in ("none", "reclaim"):
        reclaim(nvram, order=order)
        said.append("the store was reclaimed")
    elif needed not in ("none", "reclaim"):
        report = check(nvram.found)
        raise ImageError(
            f"the store at 0x{nvram.base:06X} must be repaired first ({needed}): "
            + "; ".join(str(item) for item in report.problems[:3]),
            code="uefi.unhealthy",
            offset=nvram.base,
            repair=needed,
            problems=[f"{item.code} {item}" for item in report.problems[:32]],
        )
    return said


def _require_own(found: Found) -> None:
    """Places that a board file names are erased only when what they hold belongs there.

    Raises:
        ImageError: a place holds something else (``uefi.foreign-area``).
    """
    ftw, areas = found.ftw, found.areas
    if areas.layout != "board file":
        return
    for place, own in (
        (areas.work, ftw.work_space is not None),
        (areas.spare, ftw.spare_holds in ("erased", "store", "work-space")),
    ):
        content = found.window.at(place.address, place.length) if place is not None else b""
        if own or any(content == fill * (len(content) // len(fill)) for fill in _FILLS):
            continue
        raise ImageError(
            f"the board file places work space or spare area at {place}, which holds something "
            "else",
            code="uefi.foreign-area",
            offset=place.address if place is not None else found.base,
        )


def require_sound(nvram: Nvram) -> None:
    """Nothing is written that would leave a broken store.

    Raises:
        ImageError: it would (``uefi.unsound``).
    """
    report = check(nvram.found)
    broken = [item for item in report.problems if item.severity == "error"]
    if nvram.operations and (broken or report.repair in ("recover", "rescue")):
        raise ImageError(
            "the store would not be sound afterwards, so nothing is written: "
            + "; ".join(map(str, broken[:3])),
            code="uefi.unsound",
            offset=nvram.base,
            repair=report.repair,
        )
