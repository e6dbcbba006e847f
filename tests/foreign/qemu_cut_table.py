"""Power cuts judged by the packaged firmware: the tables of ``docs/qemu-power-cuts.md``.

``python tests/foreign/qemu_cut_table.py FOLDER [NAME[:TABLE] ...]`` measures firmware, keeps
what it finds in FOLDER, and prints the tables of all that is there. All of them take half
an hour on two idle cores.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hwflash.qemu.check import Bench
from hwflash.qemu.check_recovery import Row, measured
from hwflash.qemu.check_rescue import damaged_stores, rescued
from hwflash.qemu.cut_changes import firmwares_order, own_changes, rewrites
from hwflash.qemu.cut_judge import Board
from hwflash.qemu.machine import Machine, make_machine

OVMF, AAVMF = "/usr/share/OVMF", "/usr/share/AAVMF"
NOWHERE = "/dev/null/vars"


@dataclass(frozen=True, slots=True)
class Firmware:
    """Firmware as packaged, and how many cuts are tried.

    Attributes:
        reclaim: cuts of a reclaim in the firmware's order.
        rewrite: cuts of each rewrite by hwflash.
        writes: cuts of what the firmware writes before the reclaim.
        slow: a reclaim takes half a minute: hwflash's operations in the firmware's order are
            cut instead of recorded ones, and of the rewrites only one.
    """

    name: str
    code: str
    template: str
    secure: bool = False
    reclaim: int = 10
    rewrite: int = 14
    writes: int = 0
    slow: bool = False

    @property
    def machine(self) -> Machine:
        """The machine that it runs on."""
        kind = "virt" if self.name == "AAVMF" else "q35"
        made = make_machine(self.code, self.template, NOWHERE, machine=kind, secure=self.secure)
        # The 2 MiB build with SMM hangs on a machine with S3.
        return replace(made, s3=False) if self.secure else made

    @property
    def there(self) -> bool:
        """Whether it is installed."""
        return Path(self.code).exists() and Path(self.template).exists()


def ovmf(name: str, code: str, template: str, **options: Any) -> Firmware:
    """A build of OVMF."""
    secure = ".secboot" in code
    return Firmware(name, f"{OVMF}/{code}.fd", f"{OVMF}/{template}.fd", secure, **options)


FIRMWARE = {
    item.name: item
    for item in (
        ovmf("OVMF 2M", "OVMF_CODE", "OVMF_VARS"),
        ovmf("OVMF 2M secboot", "OVMF_CODE.secboot", "OVMF_VARS"),
        ovmf("OVMF 4M", "OVMF_CODE_4M", "OVMF_VARS_4M",
             reclaim=9, rewrite=14, slow=True),
        ovmf("OVMF 4M secboot", "OVMF_CODE_4M.secboot", "OVMF_VARS_4M",
             reclaim=9, rewrite=14, slow=True),
        Firmware("AAVMF", f"{AAVMF}/AAVMF_CODE.fd", f"{AAVMF}/AAVMF_VARS.fd",
                 reclaim=40, rewrite=16, writes=10),
    )
}  # fmt: skip


def as_json(kind: str, row: Row) -> str:
    """A row of a table, as it is kept."""
    return json.dumps({
        "kind": kind, "change": row.change, "phase": row.cut.phase, "how": row.cut.how,
        "where": row.cut.where, "number": row.cut.number, "alone": row.alone,
        "recovered": row.recovered, "seconds": round(row.seconds, 1),
    })  # fmt: skip


def measure(firmware: Firmware, kind: str, folder: Path) -> None:
    """Measure one firmware; what is there already is left alone."""
    file = folder / f"{firmware.name.replace(' ', '-')}.{kind}.jsonl"
    if file.exists():
        return
    board = Board(Bench(firmware.machine))
    part = file.with_suffix(".part")
    with part.open("w") as stream:
        for line in MEASURES[kind](board, firmware):
            print(line, file=stream, flush=True)
    part.rename(file)


def reclaims(board: Board, firmware: Firmware) -> Iterator[str]:
    """The firmware's reclaim and its other writes, as they are and recovered first."""
    warm = board.warm()
    if firmware.slow:
        changes = [(firmwares_order(warm, board.layout), firmware.reclaim)]
    else:
        writes, reclaim = own_changes(board, warm)
        changes = [(reclaim, firmware.reclaim), (writes, firmware.writes)]
    for change, many in changes:
        for row in measured(board, change, change.cuts(many)):
            yield as_json("reclaim", row)


def our_rewrites(board: Board, firmware: Firmware) -> Iterator[str]:
    """What hwflash does, switched on at once."""
    for change in rewrites(board.warm(), board.layout):
        many = firmware.rewrite if change.erases else firmware.rewrite // 2
        if firmware.slow and change.name != "rewrite":
            continue
        for row in measured(board, change, change.cuts(many), recovering=False):
            yield as_json("rewrite", row)


def damages(board: Board, _firmware: Firmware) -> Iterator[str]:
    """Damaged stores, as they are and rescued."""
    for row in rescued(board, list(damaged_stores(board))):
        yield json.dumps({
            "kind": "rescue", "change": row.damage.text, "phase": row.damage.text,
            "alone": row.alone, "recovered": row.after, "choice": row.choice,
        })  # fmt: skip


MEASURES = {"reclaim": reclaims, "rewrite": our_rewrites, "rescue": damages}


def table(folder: Path, kind: str) -> Iterable[str]:
    """A Markdown table of everything of one kind: phases by firmware."""
    found: dict[str, list[dict]] = {}
    for name in FIRMWARE:
        file = folder / f"{name.replace(' ', '-')}.{kind}.jsonl"
        if file.exists():
            found[name] = [json.loads(line) for line in file.read_text().splitlines()]
    phases: dict[tuple[str, str], None] = {}
    for rows in found.values():
        phases |= dict.fromkeys(map(_place, rows))
    both = kind != "rescue"
    yield "| " + ("change | " if both else "") + "power cut | " + " | ".join(found) + " |"
    yield "|---" * (len(found) + 1 + both) + "|"
    for place in sorted(phases, key=lambda item: _order(item, found)):
        cells = [_cell([row for row in rows if _place(row) == place], kind)
                 for rows in found.values()]  # fmt: skip
        yield "| " + " | ".join([*(place if both else place[1:]), *cells]) + " |"


def _place(row: dict) -> tuple[str, str]:
    phase = re.sub(r"(entry) for block \d+ of the volume", r"\1", row["phase"])
    change = row["change"].replace("a reclaim in the firmware's order", "the firmware's reclaim")
    return change, re.sub(r"^FTW: ", "queue: ", phase)


def _order(place: tuple[str, str], found: dict[str, list[dict]]) -> tuple[int, int]:
    changes = list(dict.fromkeys(_place(row)[0] for rows in found.values() for row in rows))
    # In order of time, as the firmware has it of which most phases were tried.
    orders = [list(dict.fromkeys(map(_place, rows))) for rows in found.values()]
    best = max((each for each in orders if place in each), key=len)
    return changes.index(place[0]), best.index(place)


def _cell(rows: list[dict], kind: str) -> str:
    if not rows:
        return "-"
    alone = _kept([row["alone"] for row in rows])
    return alone if kind == "rewrite" else f"{alone} / {_kept([r['recovered'] for r in rows])}"


def _kept(wrong: list[str]) -> str:
    bad = [text for text in wrong if text]
    if not bad:
        return f"{len(wrong)} of {len(wrong)}"
    bad = [re.sub(r"^\w+: another value$", "another value", text) for text in bad]
    why = dict.fromkeys(re.sub(r":.*", "", re.sub(r"^\d+ (of \d+ )?", "", text)) for text in bad)
    return f"**{len(wrong) - len(bad)} of {len(wrong)}** ({', '.join(why)})"


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    for text in names:
        name, _, kind = text.partition(":")
        for each in [kind] if kind else MEASURES:
            measure(FIRMWARE[name], each, folder)
    for kind in MEASURES:
        sys.stdout.write("\n".join(["", f"### {kind}", "", *table(folder, kind), ""]))


if __name__ == "__main__":
    main()
