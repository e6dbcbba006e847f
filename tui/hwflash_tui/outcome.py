"""Pass or fail, what the chip is now, and what to do next: in one sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hwflash.diagnostics import advice_for, chip_state
from hwflash.errors import ChipStateUnknown, HwflashError, Interrupted
from hwflash.jobs.order import Order, OrderResult, followups
from hwflash.units import Range, format_seconds, format_size
from hwflash_tui.names import about_size

PASS: Final = "PASS"  # noqa: S105 - no password
FAIL: Final = "FAIL"
STOPPED: Final = "STOPPED"

#: What to do next at a bench, by code or by its part before the last dot.
NEXT: Final[Mapping[str, str]] = {
    "chip.absent": "Check the clip and the supply, then run the contact test.",
    "chip.unstable": "Shorten the wires or seat the clip again, then run the contact test.",
    "chip.unstable-read": "Shorten the wires or seat the clip again, then run the contact test.",
    "chip.protected": "The chip is write-protected: ask whoever released this job.",
    "chip.voltage": "Take this board off: it needs a level shifter.",
    "board.other-chip": "Take the board off: it is not the one this job is for.",
    "board.other-size": "Take the board off: it is not the one this job is for.",
    "journal.other-chip": "Connect the board that this write began on.",
    "backup.other-chip": "Connect the board that this backup was made from.",
    "programmer.lost": "Plug the programmer in again, then press Resume.",
    "programmer.absent": "Plug the programmer in.",
    "programmer.busy": "Another program holds this programmer: close that first.",
    "programmer.inaccessible": "Open Doctor: this user may not use the programmer.",
    "image.smaller-than-chip": "Choose an image as large as the chip, or the region it belongs to.",
    "image.larger-than-chip": "Choose another image or another board: this one does not fit.",
    "image.changed": "Choose the image again, and compare its digits.",
    "usage.protected-region": "Choose the regions that may be written; one of these is protected.",
    "chip.verify-failed": "Press Resume; if it fails again, take another chip.",
    "interrupted.other-plan": "Look at the store again, and at what the change takes now.",
    "interrupted": "Nothing is to be done; start again when you like.",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an order ended.

    Attributes:
        verdict: `PASS`, `FAIL` or `STOPPED`.
        headline: what happened.
        chip: what the chip is now.
        next: what to do.
        order: what was asked for.
        code: of the error, or "".
        facts: more, as (name, value) pairs.
        followups: orders that go on or back, ``resume`` and ``restore``.
        wrong: where chip and image differ.
        unknown: the chip is in an unknown state.
    """

    verdict: str
    headline: str
    chip: str
    next: str
    order: Order
    code: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    followups: Mapping[str, Order] = field(default_factory=dict[str, Order])
    wrong: tuple[Range, ...] = ()
    unknown: bool = False


def of_result(result: OrderResult) -> Outcome:
    """The outcome of an order that came to its end."""
    order = result.order
    facts = [
        ("sha256", result.sha256),
        ("took", f"{format_seconds(result.seconds)} on the programmer"),
    ]
    if result.backup is not None:
        facts.append(("backup", str(result.backup)))
    if result.entry is not None:
        facts.append(("history", f"entry {result.entry}"))
    size = format_size(result.bytes)
    if not result.passed:
        wrong = about_size(sum(item.length for item in result.mismatches))
        what = "two reads differ" if order.action == "read" else "chip and image differ"
        return Outcome(
            FAIL,
            f"{what} in {wrong}, first at 0x{result.mismatches[0].address:06X}",
            "nothing was changed",
            "Run the contact test."
            if order.action == "read"
            else "Write the image, or choose the right one.",
            order,
            facts=tuple(facts),
            wrong=result.mismatches,
        )
    headline, chip = _good(result, size)
    return Outcome(PASS, headline, chip, "Take the board off.", order, facts=tuple(facts))


def _good(result: OrderResult, size: str) -> tuple[str, str]:
    action = result.order.action
    if action == "read":
        return f"read {size} twice, both reads agree", "nothing was changed"
    if action == "verify":
        return f"equal: {size} compared", "nothing was changed"
    if not result.executed:
        return "the chip holds this already", "nothing had to be changed"
    touched = about_size(sum(item.length for item in result.changed))
    if action in ("vars", "ftw"):
        return f"the variable store is changed and verified, {touched} touched", "as was shown"
    verb = {"erase": "erased", "restore": "restored", "resume": "finished"}.get(action, "written")
    return f"{verb} and verified: {size}, {touched} touched", f"the chip is {verb} and verified"


def of_error(error: HwflashError, order: Order) -> Outcome:
    """The outcome of an order that failed or was stopped."""
    cause = error.context.get("cause")
    reason = cause if isinstance(cause, str) else error.code
    more = followups(error, order)
    half = isinstance(error, ChipStateUnknown) or bool(error.context.get("unfinished"))
    stopped = isinstance(error, Interrupted) or reason.startswith("interrupted")
    facts = [("code", error.code if reason == error.code else f"{error.code} ({reason})")]
    if backup := error.context.get("backup"):
        facts.append(("backup", str(backup)))
    return Outcome(
        STOPPED if stopped else FAIL,
        _headline(error, half=half, stopped=stopped),
        "the chip is in an unknown state" if half else chip_state(error),
        _next(reason, stopped=stopped, more=bool(more)),
        order,
        error.code,
        tuple(facts),
        more,
        unknown=half,
    )


def _headline(error: HwflashError, *, half: bool, stopped: bool) -> str:
    if stopped and half:
        return "stopped after a block, as you asked: the chip is half written"
    if error.code == "interrupted.declined":
        return "you said no to the plan"
    if stopped:
        return "stopped, as you asked"
    return error.message


def _next(reason: str, *, stopped: bool, more: bool) -> str:
    if stopped and more:
        return "Press Resume to go on, or Restore to go back to what was there before."
    code = reason
    while True:
        if code in NEXT:
            return NEXT[code]
        if "." not in code:
            break
        code = code.rpartition(".")[0]
    if more:
        return "Press Resume to go on, or Restore to go back to what was there before."
    return advice_for(reason).hint


def backup_of(facts: Mapping[str, object]) -> Path | None:
    """The backup that a remark of a job tells of, or None."""
    found = facts.get("backup")
    return Path(found) if isinstance(found, str) else None
