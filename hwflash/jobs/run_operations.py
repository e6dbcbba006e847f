"""Carrying out flash operations in their very order, each proven before the next is sent.

The planner's executor may program a run of pages in one batch, because any order leads to the
same content. Here the order is what makes a power cut harmless: a state byte that says *valid*
must not reach the chip before what it vouches for.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from hwflash.errors import ChipStateUnknown
from hwflash.flash.execute import VERIFY_GAP, differences, read_ranges, stopped_half_way
from hwflash.flash.journal import Journal
from hwflash.flash.nor import NorFlash
from hwflash.flash.plan import Plan, Window
from hwflash.progress import PLAN, CancelToken, Progress, Reporter
from hwflash.uefi.flashops import Erase, Operation, Program, Verify
from hwflash.units import Range, merge_ranges

#: Bytes that are read back in one round trip.
AT_ONCE: Final = 4096


def run_operations(
    flash: NorFlash,
    operations: Sequence[Operation],
    plan: Plan,
    window: Window,
    journal: Journal,
    reporter: Reporter,
    cancel: CancelToken,
    *,
    full: bool = False,
) -> None:
    """Carry operations out, then read back what they touched.

    A request to stop is heard before the first of them, and before an erase: a few programs
    that follow one another take less time than the question what to do with half of them.

    Args:
        flash: the chip.
        operations: what to do, in order.
        plan: the same as a plan, for progress.
        window: what should stand there afterwards.
        journal: is told of every operation.
        reporter: is told how it goes.
        cancel: a request to stop.
        full: read back the whole window in the end.

    Raises:
        ChipStateUnknown: it failed or was stopped after an operation had begun, or the flash
            does not hold what it should (``chip.verify-failed``).
        HwflashError: it failed before the chip was touched.
    """
    try:
        _run(flash, operations, plan, journal, reporter, cancel)
        touched = [window.range] if full else merge_ranges(plan.changed, gap=VERIFY_GAP)
        for place, data in zip(touched, _read(flash, touched, reporter, cancel), strict=True):
            at = place.address - window.address
            _require(place, data, window.new[at : at + place.length])
        journal.finish()
    except ChipStateUnknown:
        raise
    except Exception as exc:
        if not journal.begun:
            raise
        raise stopped_half_way(exc) from exc


def _run(
    flash: NorFlash,
    operations: Sequence[Operation],
    plan: Plan,
    journal: Journal,
    reporter: Reporter,
    cancel: CancelToken,
) -> None:
    steps = iter(plan.steps)
    spent = 0.0
    for verifies, group in groupby(operations, key=lambda item: isinstance(item, Verify)):
        if verifies:
            _prove(flash, [item for item in group if isinstance(item, Verify)], reporter, cancel)
            continue
        for operation in group:
            if isinstance(operation, Erase) or not journal.begun:
                cancel.check()
            step = next(steps)
            journal.begin(step)
            if isinstance(operation, Program):
                flash.program(operation.address, operation.data)
            elif isinstance(operation, Erase):
                flash.erase(operation.address, operation.length)
            journal.done(step)
            spent += step.seconds
            end = operation.range.end
            reporter.progress(Progress(PLAN, round(spent * 1e3), round(plan.seconds * 1e3), end))


def _prove(
    flash: NorFlash, expected: Sequence[Verify], reporter: Reporter, cancel: CancelToken
) -> None:
    """Read back what the next operation counts on."""
    found = _read(flash, [item.range for item in expected], reporter, cancel)
    for item, data in zip(expected, found, strict=True):
        _require(item.range, data, item.data)


def _read(
    flash: NorFlash, places: Sequence[Range], reporter: Reporter, cancel: CancelToken
) -> list[bytes]:
    """Short reads in one round trip, long ones with progress."""
    if sum(place.length for place in places) <= AT_ONCE:
        return flash.read_pieces(places)
    return read_ranges(flash, places, phase="verify", reporter=reporter, cancel=cancel)


def _require(place: Range, found: bytes, expected: bytes) -> None:
    wrong = differences(place.address, found, expected)
    if wrong:
        raise ChipStateUnknown(
            f"{sum(item.length for item in wrong)} bytes are not what was written, the first "
            f"at 0x{wrong[0].address:06X}",
            code="chip.verify-failed",
            address=wrong[0].address,
            mismatches=[{"address": item.address, "length": item.length} for item in wrong],
        )
