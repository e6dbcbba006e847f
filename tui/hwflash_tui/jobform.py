"""What a person has chosen so far, what is wrong with it, and the order it makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hwflash.boards import Board, Region
from hwflash.jobs.order import Action, ImageFacts, Order
from hwflash.units import Range, format_size

#: What happens to a region.
WRITTEN: Final = "is written"
KEPT: Final = "is kept"
GUARDED: Final = "protected, is kept"
FORCED: Final = "PROTECTED, IS WRITTEN"


@dataclass(frozen=True, slots=True)
class RegionLine:
    """A region of the board, and what happens to it."""

    name: str
    range: Range
    fate: str
    description: str


@dataclass(frozen=True, slots=True)
class JobForm:
    """A form that is being filled in.

    Attributes:
        programmer: URL.
        chip_size: bytes of the chip, or None while it is not known.
        board_name: the board as chosen, or None.
        board: the same, loaded.
        file: the image, or where a read goes.
        image: what is known of it, or None.
        image_problem: why it cannot be used, or "".
        regions: names of the regions that were chosen; none means the whole chip.
    """

    programmer: str
    chip_size: int | None = None
    board_name: str | None = None
    board: Board | None = None
    file: Path | None = None
    image: ImageFacts | None = None
    image_problem: str = ""
    regions: tuple[str, ...] = ()

    def order(self, action: Action) -> Order:
        """The order it makes."""
        of_image = action in ("write", "verify")
        return Order(
            action,
            self.programmer,
            self.board_name,
            None if action == "erase" else self.file,
            regions=self.regions,
            sha256=self.image.sha256 if self.image is not None and of_image else None,
        )

    def problem(self, action: Action) -> str:
        """Why that cannot be started, in one sentence; "" when it can."""
        size = self.board.flash.size if self.board is not None else self.chip_size
        if self.board is not None and self.chip_size not in (None, self.board.flash.size):
            return (
                f"The board has a chip of {format_size(self.board.flash.size)}, this one has "
                f"{format_size(self.chip_size or 0)}."
            )
        if action in ("write", "erase") and (guarded := self._guarded()):
            return f"The board protects {', '.join(guarded)}: choose the regions to be written."
        if action == "read":
            return self._target_problem()
        if action in ("write", "verify"):
            return self._image_problem(size)
        return ""

    def lines(self) -> list[RegionLine]:
        """The board's regions, and what a write would do to them."""
        return [
            RegionLine(item.name, item.range, self._fate(item.name, item.protected),
                       item.description)
            for item in self._all()
        ]  # fmt: skip

    def _all(self) -> tuple[Region, ...]:
        return self.board.region_map().regions if self.board is not None else ()

    def _fate(self, name: str, protected: bool) -> str:
        if self.regions and name not in self.regions:
            return GUARDED if protected else KEPT
        if protected:
            return FORCED if name in self.regions else GUARDED
        return WRITTEN

    def _guarded(self) -> list[str]:
        """Protected regions that the whole chip would take along."""
        return [] if self.regions else [item.name for item in self._all() if item.protected]

    def _target_problem(self) -> str:
        if self.file is None:
            return "Name the file to read into."
        try:
            if not self.file.parent.is_dir():
                return f"There is no folder {self.file.parent}."
            return "That file exists already: name a new one." if self.file.exists() else ""
        except OSError as exc:  # a name that is too long, a folder that is closed to this user
            return f"That file cannot be used: {exc.strerror}."

    def _image_problem(self, size: int | None) -> str:
        if self.file is None:
            return "Choose an image."
        if self.image is None:
            return self.image_problem or "The image is being looked at."
        whole = not self.regions and not self.image.absolute
        if whole and size is not None and self.image.size != size:
            return (
                f"The image has {format_size(self.image.size)}, the chip {format_size(size)}: "
                "choose another, or the region it belongs to."
            )
        return ""


def dangers(order: Order, board: Board | None, changed: list[Range]) -> list[str]:
    """Why this plan needs more than a yes: what could not be had back by writing again.

    Args:
        order: what is asked for.
        board: its board, or None.
        changed: what the plan changes.
    """
    found: list[str] = []
    if order.action == "erase":
        found.append("the content is erased, nothing is written in its place")
    if order.allow_voltage:
        found.append("the check of the supply voltage is switched off")
    if board is None:
        return found
    for region in board.region_map():
        hit = any(item.overlaps(region.range) for item in changed)
        if region.protected and hit:
            found.append(f"region {region.name} is protected and will be written")
    nvram = board.nvram
    if order.action == "write" and nvram is not None and nvram.variables is not None:
        area = Range(nvram.variables.start, nvram.variables.length)
        if any(item.overlaps(area) for item in changed):
            found.append("the UEFI variables of this board will be replaced")
    return found


def word_to_type(order: Order, board: Board | None, part: str) -> str:
    """What has to be typed before a dangerous plan: the board's name, or the chip's."""
    return board.name if board is not None else (order.board or part)
