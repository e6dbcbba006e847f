"""What has to be right before a variable store is changed, and after."""

from __future__ import annotations

from typing import Final, Literal, Protocol

from hwflash.errors import ImageError
from hwflash.progress import Reporter
from hwflash.uefi.check import check
from hwflash.uefi.find import Found
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.recover import recover
from hwflash.uefi.rescue import rescue
from hwflash.uefi.rewrite import Order, reclaim
from hwflash.uefi.window import Anomaly

#: ``as-is``: the change is a repair itself, and takes the store as it finds it.
Repair = Literal["as-is", "none", "recover", "reclaim", "rescue"]
#: What a work space or spare area may be filled with: erased, zeroed, or read back by firmware
#: while the flash showed its status (UEFI variable stores under QEMU).
_FILLS: Final = (b"\xff", b"\0", b"\x80\0")


class HowToSettle(Protocol):
    """What `settle` has to know; `hwflash.jobs.uefi_edit.EditOptions` has it."""

    @property
    def repair(self) -> Repair:
        """What to do first to a broken store."""
        ...

    @property
    def order(self) -> Order:
        """Of operations when the store is rewritten."""
        ...

    @property
    def erase_foreign(self) -> bool:
        """Places that a board file names may be erased whatever they hold."""
        ...


def settle(nvram: Nvram, how: HowToSettle, reporter: Reporter) -> list[str]:
    """Bring a store into a state in which it may be changed; what was done, in words.

    Args:
        nvram: the store.
        how: which repairs were asked for.
        reporter: is warned of what a rescue cannot keep.

    Raises:
        ImageError: it needs a repair that was not asked for (``uefi.unhealthy``), or a place
            that the board file names holds something else (``uefi.foreign-area``).
    """
    said: list[str] = []
    if not how.erase_foreign:
        for item in foreign_areas(nvram.found):
            raise ImageError(item.text, code=item.code, offset=item.offset)
    if how.repair == "as-is":
        return said
    if how.repair == "rescue":
        rescued = rescue(nvram)
        for text in rescued.lost:
            reporter.warning(f"lost: {text}")
        said += rescued.actions
    flash = nvram.flash
    report = check(nvram.found, flash.erase_size, flash.origin)
    if report.repair == "recover":
        said += recover(nvram).actions
        report = check(nvram.found, flash.erase_size, flash.origin)
    if how.repair == "reclaim" and report.repair in ("none", "reclaim"):
        reclaim(nvram, order=how.order)
        said.append("the store was reclaimed")
    elif report.repair not in ("none", "reclaim"):
        raise ImageError(
            f"the store at 0x{nvram.base:06X} must be repaired first ({report.repair}): "
            + "; ".join(str(item) for item in report.problems[:3]),
            code="uefi.unhealthy",
            offset=nvram.base,
            repair=report.repair,
            problems=[f"{item.code} {item}" for item in report.problems[:32]],
        )
    return said


def foreign_areas(found: Found) -> list[Anomaly]:
    """Places that a board file names for work space and spare, and that hold something else."""
    ftw, areas = found.ftw, found.areas
    if areas.layout != "board file":
        return []
    odd: list[Anomaly] = []
    for what, place, own in (
        ("work space", areas.work, ftw.work_space is not None),
        ("spare area", areas.spare, ftw.spare_holds in ("erased", "store", "work-space")),
    ):
        if place is None or own:
            continue
        content = found.window.at(place.address, place.length)
        if not any(content == fill * (len(content) // len(fill)) for fill in _FILLS):
            text = f"the board file has the {what} at {place}, which holds something else"
            odd.append(Anomaly("uefi.foreign-area", place.address, text, "error"))
    return odd


def require_sound(nvram: Nvram) -> None:
    """Nothing is written that would leave a broken store.

    Raises:
        ImageError: it would (``uefi.unsound``).
    """
    report = check(nvram.found, nvram.flash.erase_size, nvram.flash.origin)
    broken = [item for item in report.problems if item.severity == "error"]
    if nvram.operations and (broken or report.repair in ("recover", "rescue")):
        raise ImageError(
            "the store would not be sound afterwards, so nothing is written: "
            + "; ".join(map(str, broken[:3])),
            code="uefi.unsound",
            offset=nvram.base,
            repair=report.repair,
        )
