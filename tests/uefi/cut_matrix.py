"""Trying power cuts on a scenario, and the table of what came out.

``python tests/uefi/cut_matrix.py`` tries all of them and writes docs/power-cuts.md; it takes
some minutes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cut_scenarios import Scenario, every
from edk2_model import OVMF_2M
from power_cuts import (
    ALL,
    BUILDS,
    Density,
    Variables,
    cuts,
    firmware_survives,
    pending_hob,
    recovered,
    recovery_survives,
    sound_after_recovery,
    variables_in,
)
from volumes import recorded_operations, recorded_volume

from hwflash.errors import HwflashError

TABLE = Path(__file__).parents[2] / "docs" / "power-cuts.md"


@dataclass(slots=True)
class Count:
    """Cuts tried and survived, and what went wrong."""

    tried: int = 0
    survived: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    def add(self, place: str, verdict: str) -> None:
        self.tried += 1
        if verdict == "":
            self.survived += 1
            return
        self.reasons[verdict] = self.reasons.get(verdict, 0) + 1
        if len(self.examples) < 5:
            self.examples.append(f"{place}: {verdict}")

    @property
    def whole(self) -> bool:
        return self.tried == self.survived

    @property
    def text(self) -> str:
        if not self.tried:
            return "-"
        return f"{self.survived:,}" if self.whole else f"**{self.survived:,}**"


@dataclass(slots=True)
class Result:
    """What came of the cuts of one scenario."""

    scenario: Scenario
    cuts: int = 0
    builds: dict[str, Count] = field(default_factory=dict)
    recovery: Count = field(default_factory=Count)
    second: Count = field(default_factory=Count)

    @property
    def line(self) -> str:
        """For people."""
        parts = [f"{name} {count.survived}" for name, count in self.builds.items()]
        parts += [f"recovered {self.recovery.survived}/{self.recovery.tried}"]
        parts += [f"cut twice {self.second.survived}/{self.second.tried}"]
        return f"{self.scenario.label}: {self.cuts} cuts, {', '.join(parts)}"


def tried(
    scenario: Scenario, density: Density = ALL, second: float = 0.02, seed: int = 1
) -> Result:
    """Cut a scenario everywhere.

    Args:
        scenario: what is cut.
        density: how many of the cuts.
        second: the part of the recoveries that are cut again.
        seed: of the arbitrary choices.
    """
    result = Result(scenario, builds={build: Count() for build in BUILDS[scenario.layout]})
    chance = random.Random(seed)
    known: dict[int, str] = {}
    for cut in cuts(scenario.start, scenario.operations, density, seed):
        result.cuts += 1
        place = f"{scenario.label}, operation {cut.index}, {cut.how}"
        verdict = ""
        for build, count in result.builds.items():
            # Without its HOB an SMM build does what a plain one did just before.
            if build != "smm" or pending_hob(cut.image, scenario.layout):
                verdict = firmware_survives(cut.image, scenario.layout, build, scenario.allowed)
            count.add(place, verdict)
        operations = _recovery(scenario, cut.image, place, result.recovery, known)
        if operations and chance.random() < second:
            _cut_again(scenario, cut.image, operations, place, result.second, known)
    return result


def _recovery(
    scenario: Scenario, image: bytes, place: str, count: Count, known: dict[int, str]
) -> list:
    """Recover and judge; returns what the recovery did to the flash."""
    try:
        again = scenario.name.startswith("rescue")
        nvram = recovered(image, scenario.erase_size, again=again)
        after = nvram.flash.window().data
        key = hash(after)
        if key not in known:
            known[key] = sound_after_recovery(
                after, scenario.layout, scenario.erase_size, scenario.allowed
            )
        count.add(place, known[key])
    except (HwflashError, ValueError) as error:
        count.add(place, f"{type(error).__name__} {getattr(error, 'code', '')}: {error}")
        return []
    return nvram.operations


def _cut_again(
    scenario: Scenario, image: bytes, operations: list, place: str, count: Count,
    known: dict[int, str],
) -> None:  # fmt: skip
    again = list(cuts(image, operations, Density(seeds=1, pages=1), seed=3))
    for cut in random.Random(4).sample(again, min(len(again), 8)):
        inner = f"{place}, then operation {cut.index} of the recovery, {cut.how}"
        _recovery(scenario, cut.image, inner, count, known)


def recorded_cuts(step: int) -> Iterator[tuple[int, bytes, list[Variables]]]:
    """Prefixes of the recorded boot, with the sets of variables that may be there.

    All at which a run of programs begins or ends, and of the runs each ``step``-th byte.
    """
    image = bytearray(recorded_volume())
    operations = recorded_operations()
    last = new = variables_in(image, OVMF_2M)
    previous = -2
    for index, (kind, address, data) in enumerate(operations):
        edge = kind == "e" or address != previous + 1
        if edge or address % step == 0:
            if edge and (now := variables_in(image, OVMF_2M)):
                last, new = new, now
            yield index, bytes(image), [last, new]
        if kind == "w":
            old = image[address : address + len(data)]
            data = bytes(one & other for one, other in zip(old, data, strict=True))
        image[address : address + len(data)] = data
        previous = address + len(data) - 1
    yield len(operations), bytes(image), [last, variables_in(image, OVMF_2M)]


def recorded(step: int) -> Count:
    """Recover the different prefixes of the recorded boot of OVMF."""
    count = Count()
    seen: set[int] = set()
    for index, image, allowed in recorded_cuts(step):
        key = hash(image)
        if key not in seen:
            seen.add(key)
            count.add(f"after {index}", recovery_survives(image, OVMF_2M, 0x1000, allowed))
    return count


HEAD = """# Power cuts

What becomes of a variable store when the power goes away while `hwflash` writes to it. Each list
of flash operations was cut after each operation and inside of each: pages programmed in part,
some of their bits cleared, blocks erased in part, with what is left of them arbitrary. States
that are the same are counted once; of torn pages and erases a fixed sample is tried, in OVMF 2M
a denser one than in the larger layouts. No variable may be lost and none may have a value that is
neither the old nor the new one; a further variable must be writable; two boots must come up.

- *cuts*: different states of the flash.
- *plain*, *SMM*, *AAVMF*: survived when a board with such a build is switched on without any
  recovery, as a model of edk2's boot has it. The model (`tests/uefi/edk2_model.py`) shares no code
  with `hwflash` and does what OVMF and AAVMF were measured to do.
- *recovered*: survived when a recovery by `hwflash`, or a rescue where it refuses, comes first.
- *cut twice*: states of a sample of those recoveries, cut themselves, and survived.

A number in bold is less than all. The firmware's own order of a reclaim and a write of one block
are like that by their nature, and most recoveries and rescues begin with a store that firmware
would already lose: such a board must not be switched on before `hwflash` is done.

Made by `python tests/uefi/cut_matrix.py`, with the same arbitrary choices each time.

| what | layout | erases | operations | cuts | plain | SMM | AAVMF | recovered | cut twice |
|---|---|---|---|---|---|---|---|---|---|
"""


def table(results: Iterable[Result], recording: Count) -> str:
    """The document."""
    rows = []
    total = Count()
    for result in results:
        scenario = result.scenario
        total.tried += result.cuts
        builds = [
            result.builds[build].text if build in result.builds else "-"
            for build in ("plain", "smm", "aavmf")
        ]
        twice = result.second
        cells = [
            scenario.name, scenario.layout.name, f"{scenario.erase_size // 1024} KiB",
            f"{len(scenario.operations)}", f"{result.cuts:,}", *builds, result.recovery.text,
            f"{twice.survived:,} of {twice.tried:,}" if twice.tried else "-",
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |\n")
    return (
        f"{HEAD}{''.join(rows)}\n{total.tried:,} cuts in all.\n\n"
        "A reclaim by a real OVMF of the 2M layout was recorded, one program of a byte after "
        "another (`tests/data/README.md`). "
        f"{recording.tried:,} prefixes of it were tried, and {recording.survived:,} recovered.\n"
    )


def main() -> None:
    """Try everything and write the table."""
    results = []
    for scenario in every():
        # The large layouts have states by the ten thousand; every second one is tried.
        large = scenario.layout is not OVMF_2M
        density = Density(seeds=1, pages=1, share=0.5) if large else Density(seeds=2, pages=4)
        results.append(tried(scenario, density))
        sys.stderr.write(results[-1].line + "\n")
        for count in (results[-1].recovery, results[-1].second):
            for example in count.examples:
                sys.stderr.write(f"  {example}\n")
    TABLE.write_text(table(results, recorded(4)), encoding="utf-8")


if __name__ == "__main__":
    main()
