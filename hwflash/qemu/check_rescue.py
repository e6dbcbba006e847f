"""Check ``rescue``: stores that firmware cannot use, or loses, boot after a rescue.

Each is switched on as it is and after `hwflash.uefi.rescue`. Rescued, it must boot with every
variable, and with an empty store where the flash was erased as a whole.

Limits: firmware of edk2 in one of the layouts known to `hwflash.uefi.areas`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

from hwflash.errors import HwflashError
from hwflash.qemu.check import Bench, Step
from hwflash.qemu.check_recovery import in_turn
from hwflash.qemu.cut_changes import TARGET, half_full
from hwflash.qemu.cut_judge import Board, Variables, store_of, variables_of, verdict
from hwflash.uefi.areas import KnownLayout, of_known
from hwflash.uefi.find import Found, find_stores
from hwflash.uefi.layouts import STORE_HEADER
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.records import make_record
from hwflash.uefi.rescue import rescue
from hwflash.uefi.spare import read_ftw
from hwflash.uefi.volume import USUAL_HEADER
from hwflash.uefi.window import Window

#: Where the store header begins in every layout known, and the first record behind it.
_STORE: Final = USUAL_HEADER
_FIRST: Final = USUAL_HEADER + STORE_HEADER.size


@dataclass(frozen=True, slots=True)
class Damage:
    """A store that is damaged.

    Attributes:
        name: short and stable.
        text: what is wrong, in words.
        image: the volume.
        wanted: variables that must be there after a rescue.
        fresh: no variable is left in the flash; an empty store will do.
    """

    name: str
    text: str
    image: bytes
    wanted: Variables
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Rescued:
    """What became of a damaged store.

    Attributes:
        damage: which.
        alone: what is wrong after the board was switched on at once; "" when nothing is.
        after: the same after a rescue.
        choice: what the rescue chose to do, "" when it was refused.
    """

    damage: Damage
    alone: str
    after: str
    choice: str


def rescues(bench: Bench, damages: int | None = None) -> Generator[Step]:
    """Damage stores, switch on, rescue, switch on; see the module's text.

    Args:
        bench: the machine.
        damages: how many of `damaged_stores`, from the first on; default: all.

    Raises:
        HwflashError: see `hwflash.qemu.check.run_check`.
    """
    board = Board(bench)
    for row in rescued(board, list(damaged_stores(board))[:damages]):
        yield Step(
            row.damage.name, not row.after,
            f"{row.damage.text}: boots with everything after a rescue",
            f"{row.after or f'boots after the rescue {row.choice!r}'}; switched on at once: "
            f"{row.alone or 'boots with everything'}",
        )  # fmt: skip


def rescued(board: Board, damages: list[Damage]) -> Generator[Rescued]:
    """Switch a board on with damaged stores, as they are and rescued.

    Raises:
        HwflashError: QEMU cannot be started.
    """

    def try_out(damage: Damage) -> Rescued:
        wanted = [damage.wanted]
        alone = verdict(board.switch_on(damage.image), wanted, any_new=damage.fresh)
        nvram = Nvram(Window(damage.image), _found(damage.image, board.layout))
        try:
            choice = rescue(nvram, fresh=damage.fresh).choice
        except HwflashError as exc:
            return Rescued(damage, alone, f"the rescue is refused: {exc.message} ({exc.code})", "")
        after = board.switch_on(nvram.flash.window().data)
        return Rescued(damage, alone, verdict(after, wanted, any_new=damage.fresh), choice)

    yield from in_turn(try_out, damages)


def damaged_stores(board: Board) -> Iterator[Damage]:
    """Stores that OVMF crashes or hangs on, or that it erases.

    Args:
        board: whose firmware's own variables are in them.

    Raises:
        ReferenceFailed: see `Board.warm`.
    """
    image = half_full(board.warm(), board.layout)
    store = store_of(image)
    wanted = variables_of(store)

    def damage(name: str, text: str, at: int, data: bytes) -> Damage:
        return Damage(name, text, image[:at] + data + image[at + len(data) :], wanted)

    yield damage("volume-header-erased", "the volume header is erased", 0, b"\xff" * _STORE)
    yield damage(
        "both-headers-erased", "volume header and store header are erased", 0, b"\xff" * _FIRST
    )
    half = STORE_HEADER.size // 2
    yield damage("store-header-torn", "the second half of the store header was not programmed",
                 _STORE + half, b"\xff" * (STORE_HEADER.size - half))  # fmt: skip
    yield _two_live(image, wanted)
    torn = bytes(2) + image[_STORE + 2 : _FIRST]
    yield damage("store-signature-torn", "the first bytes of the store header are cleared",
                 _STORE, torn)  # fmt: skip
    yield Damage("erased", "the flash is erased as a whole", b"\xff" * len(image), {}, True)


def _two_live(image: bytes, wanted: Variables) -> Damage:
    """Two added records of one variable: firmware counts through its variables for ever."""
    store = store_of(image)
    attributes, value = wanted[TARGET]
    data, at = make_record(*TARGET, attributes, value).build(), store.free_offset
    return Damage(
        "two-live-records", "a variable has two live records",
        image[:at] + data + image[at + len(data) :], wanted,
    )  # fmt: skip


def _found(image: bytes, layout: KnownLayout) -> Found:
    """The store of a volume; where nothing of it is left, where this layout has it."""
    found = find_stores(image)
    if found:
        return found[0]
    window, areas = Window(image), of_known(layout, 0)
    ftw = read_ftw(window, areas)
    return Found(0, layout.length, None, None, areas, ftw, window=window)
