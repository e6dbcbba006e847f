"""The map of both sides as inline SVG: regions to scale, what belongs together, what differs.

Nothing in it depends on colour: regions have outlines and names, differing places have marks of
their own row, and every shape has a title.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from hwflash.compare.bytes import cells
from hwflash.compare.regions import parts_of
from hwflash.compare.report import Report
from hwflash.compare.sides import Side, SideName
from hwflash.uefi.window import printable
from hwflash.units import Range

WIDTH: Final = 1000
#: Shapes a side has at most; a map of thousands of regions shows none of them.
SHAPES: Final = 256
_STRIP: Final = 34
_MARKS: Final = 16
_LETTER: Final = 7.5
#: Upper edges: names and marks of the left side, the links, marks and names of the right side.
_TOP: Final = {"left": 18, "right": 140}


def clean(text: object) -> str:
    """Text for HTML: control characters visible, markup escaped."""
    return escape(printable(str(text)))


def draw(report: Report) -> str:
    """The map of a comparison."""
    if not (report.left.range.length and report.right.range.length):
        return "<p>One side has no bytes: there is nothing to draw.</p>"
    size = max(1, report.left.range.length // WIDTH)
    changed = cells(report.left, report.right, report.alignment.segments, size)
    shapes = [
        *_strip(report.left, "left"),
        *_strip(report.right, "right"),
        *_links(report),
        *_marks(report, changed, size),
    ]
    label = "Map of both sides: regions to scale; a stroke marks where bytes differ"
    return (
        f'<svg viewBox="-1 0 {WIDTH + 2} 196" role="img" aria-label="{label}">'
        + "".join(shapes)
        + "</svg>"
    )


def bar(part: int, whole: int) -> str:
    """How much of a region differs; something differing is never drawn as nothing."""
    width = max(2.0, 200 * part / whole) if part and whole else 0.0
    return (
        '<svg class="bar" viewBox="0 0 202 14" width="202" height="14" aria-hidden="true">'
        '<rect class="frame" x="1" y="1" width="200" height="12"/>'
        f'<rect class="part" x="1" y="1" width="{width:.1f}" height="12"/></svg>'
    )


def _scale(side: Side, where: Range) -> tuple[float, float]:
    """Left edge and width of a place."""
    whole = side.range.length
    start = WIDTH * (where.address - side.range.address) / whole
    return start, WIDTH * where.length / whole


def _strip(side: Side, name: SideName) -> Iterator[str]:
    top = _TOP[name]
    caption = top - 5 if name == "left" else top + _STRIP + 15
    text = f"{'A' if name == 'left' else 'B'}: {_short(side.name, 110)}"
    yield f'<text class="caption" x="0" y="{caption}">{clean(text)}</text>'
    yield f'<rect class="frame" x="0" y="{top}" width="{WIDTH}" height="{_STRIP}"/>'
    parts = list(parts_of(side))
    for part in parts if len(parts) <= SHAPES else ():
        x, width = _scale(side, part.range)
        title = f"{part.name}: {part.range}, {part.range.length:,} bytes"
        yield (
            f'<g><title>{clean(title)}</title><rect class="region" x="{x:.2f}" y="{top}" '
            f'width="{max(width, 0.5):.2f}" height="{_STRIP}"/>'
        )
        letters = int(width / _LETTER) - 1
        if letters >= min(len(part.name), 4):
            shown = clean(_short(part.name, letters))
            yield f'<text x="{x + width / 2:.2f}" y="{top + 21}">{shown}</text>'
        yield "</g>"


def _links(report: Report) -> Iterator[str]:
    """Which places belong together."""
    above = _TOP["left"] + _STRIP + _MARKS
    below = _TOP["right"] - _MARKS
    for item in report.alignment.segments[:SHAPES]:
        x, width = _scale(report.left, item.of("left"))
        other, wide = _scale(report.right, item.of("right"))
        title = f"{item.of('left')} of A belongs to {item.of('right')} of B"
        yield (
            f'<path class="link" d="M{x:.2f} {above}H{x + width:.2f}L{other + wide:.2f} {below}'
            f'H{other:.2f}Z"><title>{clean(title)}</title></path>'
        )


def _marks(report: Report, changed: dict[int, int], size: int) -> Iterator[str]:
    """A stroke for each place that differs, the longer the more bytes of it do."""
    strokes: dict[SideName, list[str]] = {"left": [], "right": []}
    edges: dict[SideName, int] = {"left": _TOP["left"] + _STRIP, "right": _TOP["right"]}
    width = max(WIDTH * size / report.left.range.length, 0.7)
    for number, count in sorted(changed.items()):
        length = 4 + (_MARKS - 4) * min(count / size, 1.0)
        where = Range(number * size, size)
        for item in report.alignment.segments[:SHAPES]:
            part = item.cut("left", where)
            if part is None:
                continue
            for name in strokes:
                side = report.left if name == "left" else report.right
                x, _ = _scale(side, part.of(name))
                down = length if name == "left" else -length
                strokes[name].append(f"M{x + width / 2:.2f} {edges[name]}v{down:.1f}")
    for path in strokes.values():
        if path:
            yield f'<path class="mark" stroke-width="{width:.2f}" d="{"".join(path)}"/>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 1, 1)] + "…"
