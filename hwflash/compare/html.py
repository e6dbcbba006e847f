"""A comparison as one HTML page that needs nothing else.

No script, no font, no image from elsewhere: a policy in the page forbids them. Light or dark as
the reader's system has it; every mark that has a colour has a sign too. All text that comes from
an image, a file name or a variable is escaped.

Limits: as many rows as stand at the top of this module; the rest is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, TypeVar

from hwflash.compare.modules import ModuleDifference
from hwflash.compare.picture import bar, clean, draw
from hwflash.compare.report import ROW, Report, Row
from hwflash.compare.unpack import Module
from hwflash.compare.variables import VariableDifference
from hwflash.uefi.decode import decode
from hwflash.uefi.exchange import Variable
from hwflash.uefi.guids import describe
from hwflash.units import Range, format_size

T = TypeVar("T")

ENTRIES: Final = 500
HEX_ROWS: Final = 512
HEX_REGIONS: Final = 64
REGION_ROWS: Final = 64
TEXT: Final = 400

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #f2f4f7;
  --line: #8a929c; --mark: #b42318; --fill: #dbe4f0; --glow: #ffe1db; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --paper: #14171b; --soft: #1e2329;
  --line: #6d7783; --mark: #ff8f7d; --fill: #2b3a4d; --glow: #54241c; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 72rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { padding: .6rem 1rem; border: 2px solid var(--line); background: var(--soft);
  font-weight: 600; } .verdict.different { border-color: var(--mark); }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; }
th, td { text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0;
  border-bottom: 1px solid var(--soft); overflow-wrap: anywhere; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code, pre, .hex { font: 13px/1.45 ui-monospace, monospace; }
svg { max-width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif;
  fill: var(--ink); text-anchor: middle; } svg text.caption { text-anchor: start; }
.frame { fill: none; stroke: var(--line); } .region { fill: var(--fill); stroke: var(--line); }
.link { fill: var(--soft); stroke: var(--line); stroke-dasharray: 3 3; }
.mark { stroke: var(--mark); fill: none; } .part { fill: var(--mark); }
.scroll { overflow-x: auto; } .hex td { white-space: pre; padding: 0 1.2rem 0 0; border: 0; }
.hex b { color: var(--mark); background: var(--glow); text-decoration: underline; }
.sign { font-family: ui-monospace, monospace; font-weight: 700; }
"""


def render(report: Report) -> str:
    """The page of a comparison."""
    left, right = report.left, report.right
    title = f"{clean(left.name)} against {clean(right.name)}"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        *_verdict(report),
        *_sides(report),
        f"<h2>Map</h2>{draw(report)}",
        *_regions(report),
        *_variables(report.variables),
        *_modules(report.modules),
        *_hex(report),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _verdict(report: Report) -> Iterator[str]:
    word = "Equal" if report.equal else "Different"
    if report.identical:
        text = "every byte is the same"
    elif not report.alignment.compared:
        text = "nothing of one is in the other"
    else:
        text = f"{report.runs.differing:,} of {report.alignment.compared:,} bytes differ"
        if report.equal:
            text += ", nothing of it matters" if report.runs.differing else " in what both have"
    css = "equal" if report.equal else "different"
    yield f'<p class="verdict {css}">{"=" if report.equal else "≠"} {word}: {text}.</p>'
    if report.notes:
        yield "<ul>" + "".join(f"<li>{clean(note)}</li>" for note in report.notes) + "</ul>"


def _sides(report: Report) -> Iterator[str]:
    yield "<table><tr><th></th><th>source</th><th>what it is</th><th>size</th></tr>"
    for letter, side in (("A", report.left), ("B", report.right)):
        kind, size = side.kind or "an image", format_size(side.range.length)
        yield _cells(f"<b>{letter}</b>", clean(side.name), clean(kind), clean(size))
    yield "</table>"


def _regions(report: Report) -> Iterator[str]:
    if not report.regions:
        return
    yield f"<h2>Regions</h2><p>Aligned by {clean(report.alignment.how)}.</p><table>"
    yield "<tr><th></th><th>region</th><th>in A</th><th>in B</th><th>differs</th><th></th></tr>"
    for item in report.regions[:ENTRIES]:
        share = f"{item.bytes_differing:,} of {item.length:,} bytes"
        if item.bytes_differing and not item.significant:
            share += ", which the variables explain"
        name = clean(item.name)
        if item.description:
            name += f"<br><small>{clean(item.description)}</small>"
        yield _cells(
            _sign("=" if item.equal else "≠"), name, f"<code>0x{item.left:06X}</code>",
            f"<code>0x{item.right:06X}</code>", share, bar(item.bytes_differing, item.length),
        )  # fmt: skip
    yield "</table>" + _more(report.regions)


# --- variables and modules ------------------------------------------------------------------


def _variables(found: VariableDifference) -> Iterator[str]:
    if not found.stores:
        return
    yield "<h2>UEFI variables</h2>"
    difference = found.difference
    if difference.equal:
        yield "<p>No variable differs that matters.</p>"
    else:
        yield "<p>- only in A, + only in B, ≠ in both and not alike.</p><table>"
        for sign, items in (("-", difference.only_left), ("+", difference.only_right)):
            for item in items[:ENTRIES]:
                yield _cells(_sign(sign), _name(item), _value(item))
        for change in difference.changed[:ENTRIES]:
            words = [", ".join(change.what), *change.details]
            if not change.details and "data" in change.what:
                words += [f"- {_clip(change.left_text)}", f"+ {_clip(change.right_text)}"]
            text = "<br>".join(clean(_clip(word)) for word in words)
            yield _cells(_sign("≠"), _name(change.left), text)
        yield "</table>"
        for items in (difference.only_left, difference.only_right, difference.changed):
            yield _more(items)
    if found.volatile:
        yield f"<details><summary>{len(found.volatile)} that change by themselves</summary><table>"
        for item in found.volatile[:ENTRIES]:
            sign = "≠" if item.change else "-" if item.left else "+"
            yield _cells(_sign(sign), _name(item.variable), clean(item.reason.text))
        yield "</table>" + _more(found.volatile) + "</details>"


def _modules(found: ModuleDifference) -> Iterator[str]:
    if found.equal:
        return
    yield "<h2>Firmware modules</h2><p>- only in A, + only in B, ≠ in both and not alike.</p>"
    yield "<table><tr><th></th><th>module</th><th>kind</th><th>volume</th><th>bytes</th></tr>"
    for sign, items in (("-", found.only_left), ("+", found.only_right)):
        for item in items[:ENTRIES]:
            yield _module(sign, item, clean(item.kind), f"{item.size:,}")
    for change in found.changed[:ENTRIES]:
        left, right = change.left, change.right
        size = f"{left.size:,}" + (f" → {right.size:,}" if left.size != right.size else "")
        yield _module("≠", left, clean(f"{left.kind}: {', '.join(change.what)}"), size)
    yield "</table>"
    for items in (found.only_left, found.only_right, found.changed):
        yield _more(items)


def _module(sign: str, item: Module, kind: str, size: str) -> str:
    name = f"{clean(item.label)}<br><small><code>{clean(item.guid)}</code></small>"
    return _cells(_sign(sign), name, kind, clean("/".join(item.volume)), size)


def _name(item: Variable) -> str:
    return f"{clean(item.name)}<br><small>{clean(describe(item.guid))}</small>"


def _value(item: Variable) -> str:
    text = decode(item.name, item.guid, item.data).summary
    return f"{clean(_clip(text))}<br><small>{len(item.data):,} bytes</small>"


# --- bytes ----------------------------------------------------------------------------------


def _hex(report: Report) -> Iterator[str]:
    if not report.runs.differing:
        return
    yield (
        f"<h2>Bytes</h2><p>{report.runs.total:,} places differ. Only rows that differ are shown, "
        f"at most {REGION_ROWS} of a region; bytes that differ are underlined.</p>"
    )
    left = HEX_ROWS
    different = [region for region in report.regions if not region.equal]
    for region in different[:HEX_REGIONS]:
        if left <= 0:
            break
        places = [Range(region.left, region.length)]
        rows = list(report.rows(min(left, REGION_ROWS) + 1, places))
        shown = rows[: min(left, REGION_ROWS)]
        left -= len(shown)
        yield f"<h3>{clean(region.name)}</h3>"
        if shown:
            table = "".join(map(_row, shown))
            yield f'<div class="scroll"><table class="hex">{table}</table></div>'
        if len(rows) > len(shown):
            yield "<p>… and more rows.</p>"
        elif not rows:
            yield "<p>Its rows are not kept: too many places before it differ.</p>"
    if left <= 0 or len(different) > HEX_REGIONS:
        yield f"<p>… this page has {HEX_ROWS} rows of {HEX_REGIONS} regions at most.</p>"


def _row(row: Row) -> str:
    gap = "<tr><td>⋮</td></tr>" if row.skipped else ""
    sides = ((row.left_offset, row.left, row.right), (row.right_offset, row.right, row.left))
    return gap + _cells(*(_bytes(*side) for side in sides))


def _bytes(offset: int, data: bytes, other: bytes) -> str:
    words: list[str] = []
    letters: list[str] = []
    pairs = zip(data, other, strict=True)
    for differs, run in groupby(pairs, key=lambda pair: pair[0] != pair[1]):
        part = bytes(one for one, _ in run)
        text = "".join(chr(one) if 0x20 <= one < 0x7F else "." for one in part)
        words.append(_marked(part.hex(" "), differs=differs))
        letters.append(_marked(clean(text), differs=differs))
    fill = "   " * (ROW - len(data))
    return f"{offset:06X}  {' '.join(words)}{fill}  {''.join(letters)}"


def _marked(text: str, *, differs: bool) -> str:
    return f"<b>{text}</b>" if differs else text


# --- pieces ---------------------------------------------------------------------------------


def _cells(*items: str) -> str:
    return "<tr>" + "".join(f"<td>{item}</td>" for item in items) + "</tr>"


def _sign(text: str) -> str:
    return f'<span class="sign">{text}</span>'


def _clip(text: str) -> str:
    return text if len(text) <= TEXT else text[:TEXT] + "…"


def _more(items: Sequence[T]) -> str:
    rest = len(items) - ENTRIES
    return f"<p>… and {rest} more; --json lists all.</p>" if rest > 0 else ""
