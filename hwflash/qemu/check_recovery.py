"""Checks ``recovery`` and ``rewrite``: real firmware judges what power cuts leave.

``recovery`` cuts the firmware's reclaim of its variable store, as QEMU's flash saw it. Each
cut is tried twice: the board is switched on at once, and `hwflash.uefi.recover` comes first.
While the firmware copies its spare area over the store, a cut can lose everything when the board
is switched on; recovered first it must boot with all its variables.

``rewrite`` cuts what hwflash does, and switches the board on at once: it must boot with the old
variables or with the new ones, never with a mixture.

Cuts are few and spread over all phases, see `hwflash.qemu.cuts`. Recording a reclaim takes OVMF
long (4M: half a minute of CPU time); hwflash's own operations in the firmware's order are cut
there instead, unless it is asked for.

Limits: firmware of edk2 in one of the layouts known to `hwflash.uefi.areas`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from hwflash.errors import ImageError
from hwflash.qemu.check import Bench, Step
from hwflash.qemu.cut_changes import Change, firmwares_order, own_changes, rewrites
from hwflash.qemu.cut_judge import Board, only_store, verdict
from hwflash.qemu.cuts import Cut
from hwflash.uefi.nvram import Nvram
from hwflash.uefi.recover import recover
from hwflash.uefi.rescue import rescue
from hwflash.uefi.window import Window

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Guests at once.
_GUESTS: Final = 2
#: Cuts by default: of AAVMF, which boots in a second, and of others.
_CUTS_QUICK: Final = 16
_CUTS_SLOW: Final = 9
#: Changes that are cut where boots are slow: in place, and a rewrite.
_FEW: Final = 2
#: Phases in which the old or the new store is whole: firmware needs no help.
_SAFE: Final = (
    "before", "spare not complete", "work space being renewed",
    "destination complete", "complete",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """A power cut, and what the firmware made of it.

    Attributes:
        change: what was cut.
        cut: where.
        alone: what is wrong after the board was switched on at once; "" when nothing is.
        recovered: the same when it was recovered first; "" also when that was not tried.
        seconds: CPU seconds of the guests.
    """

    change: str
    cut: Cut
    alone: str
    recovered: str
    seconds: float


def recovery(bench: Bench, cuts: int | None = None, own: bool | None = None) -> Generator[Step]:
    """Cut the firmware's reclaim; see the module's text.

    Args:
        bench: the machine.
        cuts: how many; default: as many as take about a minute.
        own: record the firmware's own reclaim; default: where that is quick.

    Raises:
        HwflashError: see `hwflash.qemu.check.run_check`.
    """
    board = Board(bench)
    quick = bench.machine.family == "virt"
    change = reclaim_of(board, quick if own is None else own)
    many = cuts or (_CUTS_QUICK if quick else _CUTS_SLOW)
    lost, back, count = 0, 0, 0
    for row in measured(board, change, change.cuts(many)):
        count += 1
        lost += bool(row.alone)
        back += not row.recovered
        name = f"cut-{row.cut.number}"
        if row.cut.phase in _SAFE:
            yield Step(
                f"{name}-alone", not row.alone,
                f"switched on at once ({row.cut.phase}): boots with everything",
                row.alone or "boots with everything",
            )  # fmt: skip
        yield Step(
            f"{name}-recovered", not row.recovered,
            f"recovered first ({row.cut.phase}): boots with everything",
            f"{row.recovered or 'boots with everything'}; switched on at once: "
            f"{row.alone or 'boots with everything'}",
        )  # fmt: skip
    yield Step(
        "survived", back == count, f"{count} of {count} cuts are survived after a recovery",
        f"{back} of {count}; {count - lost} of {count} without one",
    )  # fmt: skip


def rewrite(bench: Bench, cuts: int = 10, every: bool | None = None) -> Generator[Step]:
    """Cut what hwflash does, and switch on at once; see the module's text.

    Args:
        bench: the machine.
        cuts: how many of each rewrite; of what needs no erase half as many.
        every: all of `rewrites`; else an update in place and one rewrite. Default: where the
            firmware is quick.

    Raises:
        HwflashError: see `hwflash.qemu.check.run_check`.
    """
    board = Board(bench)
    if every is None:
        every = bench.machine.family == "virt"
    for change in islice(rewrites(board.warm(), board.layout), None if every else _FEW):
        many = cuts if change.erases else max(cuts // 2, 2)
        for row in measured(board, change, change.cuts(many), recovering=False):
            yield Step(
                f"{change.name.replace(',', '').replace(' ', '-')}-{row.cut.number}",
                not row.alone,
                f"{row.cut.phase}, {row.cut.how}: boots with the old or the new variables",
                row.alone or "boots with the old or the new variables",
            )


def reclaim_of(board: Board, own: bool) -> Change:
    """The reclaim that is cut: the firmware's own, or the same made by hwflash.

    Raises:
        ReferenceFailed: see `Board.warm` and `own_changes`.
    """
    warm = board.warm()
    return own_changes(board, warm)[1] if own else firmwares_order(warm, board.layout)


def measured(
    board: Board, change: Change, cuts: Sequence[Cut], *, recovering: bool = True
) -> Generator[Row]:
    """Switch a board on with each of some cuts, two guests at a time.

    Args:
        board: the board.
        change: what is cut.
        cuts: where, such as `Change.cuts` gives them.
        recovering: also recover each first and switch on then.

    Yields:
        In the order of the cuts; each as soon as it is known.
    """

    def try_out(cut: Cut) -> Row:
        alone = board.switch_on(cut.image)
        seconds, wrong = alone.seconds, ""
        if recovering:
            wrong, after = _recovered(board, change, cut)
            seconds += after
        return Row(change.name, cut, verdict(alone, change.allowed), wrong, seconds)

    yield from in_turn(try_out, cuts)


def in_turn(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Results in the order of the items, `_GUESTS` of them at work; none begins after an error."""
    pool = ThreadPoolExecutor(_GUESTS)
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)


def brought_back(image: bytes) -> bytes:
    """A volume after `recover`, or after `rescue` where that refuses or is not enough.

    Raises:
        ImageError: nothing is left.
    """
    found = only_store(image)
    nvram = Nvram(Window(image), found)
    try:
        recover(nvram)
        if nvram.found.healthy:
            return nvram.flash.window().data
    except ImageError:
        pass
    nvram = Nvram(Window(image), found)
    rescue(nvram)
    return nvram.flash.window().data


def _recovered(board: Board, change: Change, cut: Cut) -> tuple[str, float]:
    """What is wrong when it is recovered first, and the CPU seconds of that boot."""
    try:
        image = brought_back(cut.image)
    except ImageError as exc:
        return f"the recovery is refused: {exc.message} ({exc.code})", 0.0
    after = board.switch_on(image)
    return verdict(after, change.allowed), after.seconds
