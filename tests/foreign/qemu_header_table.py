"""Destroyed headers judged by the packaged firmware: the tables of ``docs/header-corruptions.md``.

``python tests/foreign/qemu_header_table.py FOLDER [NAME ...]`` measures firmware, keeps what it
finds in FOLDER, and prints the tables of all that is there. OVMF takes three minutes on two idle
cores, AAVMF one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from qemu_cut_table import FIRMWARE, Firmware

from hwflash.qemu.check import Bench
from hwflash.qemu.check_headers import FATES, Judged, judged
from hwflash.qemu.cut_judge import Board
from hwflash.uefi.corruptions import ELEVEN, SEALED

CORRUPTIONS = (*ELEVEN, *SEALED)


def as_json(row: Judged) -> str:
    """A row of a table, as it is kept."""
    return json.dumps({
        "name": row.corruption.name, "told": row.told, "repair": row.repair,
        "outlook": row.outlook.text, "recovery": row.recovery, "fate": row.fate,
        "alone": row.alone, "ftw": row.ftw, "left": row.left, "ours": row.ours,
        "choice": row.choice, "after": row.after, "foretold": row.foretold,
    })  # fmt: skip


def measure(firmware: Firmware, folder: Path) -> None:
    """Measure one firmware; what is there already is left alone."""
    file = file_of(firmware.name, folder)
    if file.exists():
        return
    board = Board(Bench(firmware.machine))
    part = file.with_suffix(".part")
    with part.open("w") as stream:
        for row in judged(board, firmware.machine, CORRUPTIONS):
            print(as_json(row), file=stream, flush=True)
    part.rename(file)


def file_of(name: str, folder: Path) -> Path:
    """Where a firmware's rows are kept."""
    return folder / f"{name.replace(' ', '-')}.headers.jsonl"


def read(folder: Path) -> dict[str, dict[str, dict]]:
    """Rows by firmware and by name."""
    found: dict[str, dict[str, dict]] = {}
    for name in FIRMWARE:
        file = file_of(name, folder)
        if file.exists():
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            found[name] = {row["name"]: row for row in rows}
    return found


def places() -> Iterator[str]:
    """Which bytes the eleven are."""
    yield "| name | header | field | bytes | as EDK2 calls it |"
    yield "|---|---|---|---|---|"
    for item in ELEVEN:
        last = item.offset + item.size - 1
        yield (
            f"| `{item.name}` | {item.header} | {item.text} | 0x{item.offset:02X}-0x{last:02X} | "
            f"{item.field} |"
        )


def outcomes(found: dict[str, dict[str, dict]]) -> Iterator[str]:
    """What each firmware makes of it, and what comes of it after a repair."""
    yield "| destroyed | " + " | ".join(found) + " |"
    yield "|---" * (len(found) + 1) + "|"
    for item in CORRUPTIONS:
        cells = [_outcome(rows[item.name]) for rows in found.values()]
        yield f"| `{item.name}` | " + " | ".join(cells) + " |"


def _outcome(row: dict) -> str:
    kept = row["fate"] == "kept"
    fate = FATES[row["fate"]] if kept else f"**{FATES[row['fate']]}**"
    if not kept:
        fate += f", {row['left']} of {row['ours']} left in the flash"
    areas = row["ftw"].split(", ")
    if all("erased" in area for area in areas):
        fate += "; work space and spare area erased"
    elif any("untouched" not in area for area in areas):
        fate += f"; {row['ftw']}"
    return f"{fate} / {row['after'] or 'boots with everything'}"


def sayings(found: dict[str, dict[str, dict]]) -> Iterator[str]:
    """What hwflash says before the power is on; the same for all builds but where it is told."""
    yield "| destroyed | `vars check` | repair | `ftw recover` alone | `ftw rescue` | foretold |"
    yield "|---|---|---|---|---|---|"
    for item in CORRUPTIONS:
        rows = [rows[item.name] for rows in found.values()]
        cells = [
            _same(", ".join(row["told"]) or "a note at most" for row in rows),
            _same(row["repair"] for row in rows),
            _same(row["recovery"] for row in rows),
            _same(f"`{row['choice']}`" if row["choice"] else "refused" for row in rows),
            f"{sum(row['foretold'] for row in rows)} of {len(rows)}",
        ]
        yield f"| `{item.name}` | " + " | ".join(cells) + " |"


def _same(texts: Iterator[str]) -> str:
    return " *or* ".join(dict.fromkeys(texts))


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        measure(FIRMWARE[name], folder)
    found = read(folder)
    for title, lines in (
        ("The eleven", places()), ("Outcomes", outcomes(found)), ("Said before", sayings(found))
    ):  # fmt: skip
        sys.stdout.write("\n".join(["", f"## {title}", "", *lines, ""]))


if __name__ == "__main__":
    main()
