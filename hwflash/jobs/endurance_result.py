"""What an endurance test found: cycles, counts by state, and the page that shows them.

The page is complete in itself, as those of `hwflash.jobs.report` are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from hwflash import __version__
from hwflash.jobs.endurance_judge import FAILED, MEANING, Verdict
from hwflash.jobs.report import escaped, page_head

#: Order of the columns.
VERDICTS: Final[tuple[Verdict, ...]] = ("kept", "recoverable", "broken", "lost")


@dataclass(frozen=True, slots=True)
class Cycle:
    """What became of one cycle.

    Attributes:
        number: from 1.
        start: the state the board was switched on with.
        cut: when the power went, in words.
        seconds: how long the board was on, by its own clock.
        shell: the UEFI Shell came up.
        sets: variables that were set, as far as the Shell said so.
        operations: accesses to the flash, of a simulated board.
        impossible: those that a chip could not have carried out.
        state: what the cut has left.
        verdict: see `hwflash.jobs.endurance_judge.MEANING`.
        why: what is wrong, or "".
        kept: file with the content, of the first failure and further ones that differ.
    """

    number: int
    start: str
    cut: str
    seconds: float
    shell: bool
    sets: int
    operations: int
    impossible: int
    state: str
    verdict: Verdict
    why: str
    kept: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        found = asdict(self)
        return found | {"kept": str(self.kept) if self.kept is not None else None}


@dataclass(frozen=True, slots=True)
class EnduranceResult:
    """What became of all of them.

    Attributes:
        board: its name.
        seed: as given.
        cycles: in order.
        wanted: how many were asked for.
        seconds: wall time.
        before: file with the whole chip as it was at the beginning.
    """

    board: str
    seed: int
    cycles: tuple[Cycle, ...]
    wanted: int
    seconds: float
    before: Path

    @property
    def lost(self) -> int:
        """Cycles after which the store had to be put back."""
        return sum(item.verdict in FAILED for item in self.cycles)

    @property
    def impossible(self) -> int:
        """Cycles in which the firmware did to QEMU's flash what a chip could not have done."""
        return sum(item.impossible > 0 for item in self.cycles)

    def by_state(self) -> dict[str, Counter[str]]:
        """Verdicts by the state that a cut has left, the commonest first."""
        return _counted((item.state, item.verdict) for item in self.cycles)

    def by_start(self) -> dict[str, Counter[str]]:
        """Verdicts by the state that a board was switched on with."""
        return _counted((item.start, item.verdict) for item in self.cycles)

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return summary(self) | {"cycles_run": [item.as_dict() for item in self.cycles]}


def summary(result: EnduranceResult) -> dict[str, Any]:
    """The counts, as JSON can hold them."""
    return {
        "board": result.board,
        "seed": result.seed,
        "cycles": len(result.cycles),
        "wanted": result.wanted,
        "lost": result.lost,
        "impossible": result.impossible,
        "seconds": result.seconds,
        "before": str(result.before),
        "by_state": {name: dict(counts) for name, counts in result.by_state().items()},
        "by_start": {name: dict(counts) for name, counts in result.by_start().items()},
    }


def _counted(pairs: Iterable[tuple[str, Verdict]]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for name, verdict in pairs:
        found.setdefault(name, Counter())[verdict] += 1
    return dict(sorted(found.items(), key=lambda item: -item[1].total()))


def html_page(result: EnduranceResult) -> str:
    """One HTML page: no scripts, nothing loaded, readable without colour."""
    title = f"{result.board} - power-cut endurance"
    verdict = "PASSED" if not result.lost else "NOT PASSED"
    words = (
        f"{len(result.cycles)} power cuts, seed {result.seed}, {result.lost} stores lost, "
        f"{result.seconds:.0f} s"
    )
    parts = [
        *page_head(title),
        f"<h1>{escaped(title)}</h1>",
        f'<p class="verdict">{verdict}: {escaped(words)}</p>',
        "<h2>What the cuts have left</h2>",
        _counts("state", result.by_state()),
        "<h2>What became of a board that was switched on with it</h2>",
        _counts("switched on with", result.by_start()),
        "<ul>",
        *(f"<li>{name}: {escaped(text)}</li>" for name, text in MEANING.items()),
        "</ul><h2>Cycles</h2>",
        _cycles(result.cycles),
        f"<p>hwflash {__version__}</p></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _counts(what: str, counts: dict[str, Counter[str]]) -> str:
    rows = [[name, *(counted[verdict] for verdict in VERDICTS)] for name, counted in counts.items()]
    return _table([what, *VERDICTS], rows)


def _cycles(cycles: Iterable[Cycle]) -> str:
    head = ["cycle", "switched on with", "cut", "s on", "shell", "set", "operations", "left",
            "verdict", "why"]  # fmt: skip
    rows = [
        [item.number, item.start, item.cut, f"{item.seconds:.2f}", "yes" if item.shell else "no",
         item.sets, item.operations, item.state, item.verdict, item.why]
        for item in cycles
    ]  # fmt: skip
    return _table(head, rows)


def _table(head: list[str], rows: list[list[Any]]) -> str:
    top = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    body = [
        "<tr>" + "".join(f"<td>{escaped(value)}</td>" for value in row) + "</tr>" for row in rows
    ]
    return f"<table><tr>{top}</tr>{''.join(body)}</table>"
