"""What a comparison found, as lines: regions, variables, and bytes side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hwflash.jobs.compare import Opening, compare_sources
from hwflash.jobs.opening import Request
from hwflash.jobs.order import Hooks, load_image

#: Rows of bytes that are shown.
ROWS: Final = 400
#: Cells of the bar behind a region.
BAR: Final = 10


@dataclass(frozen=True, slots=True)
class Compared:
    """What a screen shows of a comparison.

    Attributes:
        equal: nothing differs that matters.
        verdict: the result in a sentence.
        regions: a line each.
        variables: likewise.
        rows: bytes side by side, only rows that differ.
    """

    equal: bool
    verdict: str
    regions: tuple[str, ...]
    variables: tuple[str, ...]
    rows: tuple[str, ...]


def compare_chip(url: str, other: str, board: Any, hooks: Hooks) -> Compared:
    """Hold the chip behind a programmer against an image or a reference.

    Args:
        url: of the programmer; the left side.
        other: image file, ``board:NAME``, ``ovmf:DESCRIPTOR`` or ``boot:IMAGE``.
        board: the board of the chip, or None.
        hooks: reporter and stop request.

    Raises:
        HwflashError: see `hwflash.jobs.compare.compare_sources`.
    """
    request: Callable[[], Request] = lambda: Request(environ=hooks.environ)  # noqa: E731
    opening = Opening(board, request, load_image, hooks.reporter, hooks.cancel)
    report, _ = compare_sources(url, other, opening)
    keys = report.keys()
    rows = [_row(item) for item in report.rows(ROWS)]
    if len(rows) == ROWS:
        rows.append("… more; the command below tells of all")
    return Compared(
        report.equal, _verdict(keys), tuple(_region(item) for item in keys["regions"]),
        tuple(_variables(keys["variables"])), tuple(rows),
    )  # fmt: skip


def _verdict(keys: dict[str, Any]) -> str:
    if keys["identical"]:
        return "identical, byte for byte"
    if keys["equal"]:
        return "nothing differs that matters"
    return f"{keys['bytes_differing']:,} of {keys['bytes_compared']:,} bytes differ"


def _region(item: dict[str, Any]) -> str:
    part, whole = item["bytes_differing"], item["length"]
    marks = max(1, round(BAR * part / whole)) if part else 0
    sign = "=" if item["equal"] else "≠"
    state = "equal" if item["equal"] else f"{part:,} of {whole:,} bytes differ"
    if not item["equal"] and not item["bytes_significant"]:
        state += ", which the variables explain"
    return f"{sign} 0x{item['left']:06X} {item['name'][:24]:<24} {'#' * marks:.<{BAR}} {state}"


def _variables(found: dict[str, Any]) -> list[str]:
    lines = [f"- {item['name']}: only on the board" for item in found["only_left"]]
    lines += [f"+ {item['name']}: only in the other" for item in found["only_right"]]
    lines += [
        f"≠ {item['name']}: {item['left']['text'][:60]} → {item['right']['text'][:60]}"
        for item in found["changed"]
    ]
    volatile = sum(len(items) for items in found["volatile"].values())
    if volatile:
        lines.append(f"· {volatile} more that change by themselves at a boot are not counted")
    if not found["stores"]:
        return ["no variable store on both sides"]
    return lines or ["= all variables are equal"]


def _row(row: Any) -> str:
    left: list[str] = []
    right: list[str] = []
    for one, other in zip(row.left, row.right, strict=True):
        left.append(f"{one:02x}" if one != other else "··")
        right.append(f"{other:02x}" if one != other else "··")
    gap = "┄\n" if row.skipped else ""
    there = "" if row.left_offset == row.right_offset else f" at {row.right_offset:06X}"
    return f"{gap}{row.left_offset:06X} {''.join(left):<32}  {''.join(right)}{there}"
