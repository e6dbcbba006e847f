"""The result of a comparison as lines for people, as the command and failing tests print them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from hwflash.compare.modules import ModuleDifference
from hwflash.compare.report import Report
from hwflash.compare.sides import Side
from hwflash.compare.variables import VariableDifference
from hwflash.uefi.difference import Difference
from hwflash.uefi.exchange import Variable
from hwflash.uefi.guids import describe
from hwflash.uefi.window import printable
from hwflash.units import format_size

T = TypeVar("T")

#: Lines of a list; all are in `hwflash.compare.report.Report.keys`.
LINES: Final = 40
#: Characters of the widest bar.
BAR: Final = 20


@dataclass(frozen=True, slots=True)
class Words:
    """How the reader gets to see what is left out.

    Attributes:
        rest: of a long list.
        volatile: variables that change at every boot.
    """

    rest: str = "--json lists all"
    volatile: str = "--all lists them"


COMMAND: Final = Words()


def report_lines(report: Report, words: Words = COMMAND) -> list[str]:
    """The whole result; ``-`` is the left side, ``+`` the right one."""
    lines = _sides(report.left, report.right)
    lines += [f"  note: {note}" for note in report.notes]
    if report.identical:
        return [*lines, "identical"]
    lines += _regions(report, words)
    lines += _modules(report.modules, words)
    lines += _variables(report.variables, words, everything=report.options.everything)
    return [*lines, "", verdict(report)]


def variable_lines(
    left: Side, right: Side, found: VariableDifference, words: Words, *, everything: bool = False
) -> list[str]:
    """The variables alone, of sides that need not have anything else in common.

    Args:
        left: one side.
        right: the other.
        found: what differs.
        words: see there.
        everything: variables that change at every boot count too.
    """
    lines = _sides(left, right) + [f"  note: {note}" for note in found.notes]
    return lines + _variables(found, words, everything=everything)


def _sides(left: Side, right: Side) -> list[str]:
    return [
        f"{mark} {_name(side.name)}: {side.kind or 'an image'}, {format_size(side.range.length)}"
        for mark, side in (("-", left), ("+", right))
    ]


def verdict(report: Report) -> str:
    """The result in a sentence."""
    if report.equal:
        if not report.runs.differing:
            return "equal: no byte differs in what both have"
        return "equal: nothing differs that matters"
    if not report.alignment.compared:
        return "different: nothing of one is in the other"
    return f"different: {report.runs.differing:,} of {report.alignment.compared:,} bytes"


def _name(text: str) -> str:
    """A source without its folders; what was done to it stays in front."""
    begin = "boot:" if text.startswith("boot:") else ""
    rest = text.removeprefix(begin)
    return begin + (os.path.basename(rest) or rest)  # noqa: PTH119 - may be a URL


def _regions(report: Report, words: Words) -> list[str]:
    if not report.regions:
        return []
    lines = ["", f"  regions, aligned by {report.alignment.how}"]
    wide = max(len(item.name) for item in report.regions)
    for item in report.regions[:LINES]:
        if item.equal:
            state = "equal"
        else:
            state = f"{item.bytes_differing:,} of {item.length:,} bytes differ"
            if not item.significant:
                state += ", which the variables explain"
        bar = _bar(item.bytes_differing, item.length)
        lines.append(f"  0x{item.left:06X} {item.name:<{wide}}  {bar}  {state}")
    return lines + _more(report.regions, words)


def _bar(part: int, whole: int) -> str:
    """How much of a region differs, at least one mark where something does."""
    marks = max(1, round(BAR * part / whole)) if part else 0
    return f"{'#' * marks:.<{BAR}}"


def _modules(found: ModuleDifference, words: Words) -> list[str]:
    if found.equal:
        return ["", "  no module differs"] if found.level == "modules" else []
    lines = ["", f"  {'modules' if found.level == 'modules' else 'firmware volumes and modules'}"]
    for mark, items in (("-", found.only_left), ("+", found.only_right)):
        lines += [
            f"  {mark} {item.label}: {item.kind}, {item.size:,} bytes, {'/'.join(item.volume)}"
            .removesuffix(", ")
            for item in items[:LINES]
        ]  # fmt: skip
        lines += _more(items, words)
    for change in found.changed[:LINES]:
        sizes = f"{change.left.size:,} bytes"
        if change.left.size != change.right.size:
            sizes = f"{change.left.size:,} -> {change.right.size:,} bytes"
        lines.append(f"  ! {change.left.label}: {', '.join(change.what)}, {sizes}")
    lines += _more(found.changed, words)
    counts = (len(found.only_left), len(found.only_right), len(found.changed))
    return [*lines, "  only left {}, only right {}, changed {}".format(*counts)]


def _variables(found: VariableDifference, words: Words, *, everything: bool) -> list[str]:
    lines: list[str] = []
    if found.stores:
        told = diff_lines(found.difference)
        lines = ["", "  variables", *(f"  {line}" for line in told[: 2 * LINES])]
        if told[2 * LINES :]:
            lines += [f"  and {len(told) - 2 * LINES} more lines; {words.rest}"]
    if not found.volatile:
        return lines
    if not everything:
        names = sorted({item.reason.name for item in found.volatile})
        return [
            *lines,
            f"  not counted {len(found.volatile)} ({', '.join(names)}); {words.volatile}",
        ]
    lines += ["", "  variables that change by themselves"]
    for item in found.volatile[:LINES]:
        mark = "!" if item.change else "-" if item.left else "+"
        lines.append(f"  {mark} {printable(item.variable.name)}: {item.reason.text}")
    return lines + _more(found.volatile, words)


def _more(items: Sequence[T], words: Words) -> list[str]:
    return [f"  and {len(items) - LINES} more; {words.rest}"] if items[LINES:] else []


def diff_lines(found: Difference) -> list[str]:
    """Which variables differ: ``-`` is the left side, ``+`` the right one."""
    if found.equal:
        return ["no variable differs"]
    lines = [f"- {_titled(item)}" for item in found.only_left]
    lines += [f"+ {_titled(item)}" for item in found.only_right]
    for change in found.changed:
        lines.append(f"! {_titled(change.left)}: {', '.join(change.what)}")
        if change.details:
            lines += [f"    {text}" for text in change.details]
        elif "data" in change.what:
            lines += [f"    - {change.left_text}", f"    + {change.right_text}"]
    counts = (len(found.only_left), len(found.only_right), len(found.changed))
    return [*lines, "only left {}, only right {}, changed {}".format(*counts)]


def _titled(item: Variable) -> str:
    return f"{printable(item.name)} ({describe(item.guid)})"
