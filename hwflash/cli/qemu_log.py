"""``hwflash qemu check log``: debug output of firmware, in words or held against a reference."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner

if TYPE_CHECKING:
    from hwflash.qemu.debuglog import DebugLog
    from hwflash.qemu.log_compare import Step

#: Differences of one step that are printed; all are in the JSON result.
DIFFERENCES = 20


@click.command("log")
@click.argument("file", type=params.PATH)
@click.argument("reference", type=params.PATH, required=False)
@click.option(
    "--boot", type=click.IntRange(min=1),
    help="Only this boot of FILE, counted from 1, with its resumes from S3.",
)  # fmt: skip
@params.json_option
@runner.command("qemu check log")
def command(
    run: runner.Run, file: Path, reference: Path | None, boot: int | None
) -> runner.Outcome:
    """Tell what a debug log says, or compare it with that of REFERENCE.

    FILE holds the debug output of EDK2 firmware: drivers, the variable store's story, asserts.
    Logs are compared by event: addresses, line numbers and the folder of the build are no
    difference. Exit code 1: the firmware stopped or found its store broken, a resume from S3 did
    not put back what was kept for it, or the logs differ.
    """
    begun = time.perf_counter()
    log = _read(run, file, boot)
    if reference is None:
        return _told(log, file, time.perf_counter() - begun)
    from hwflash.qemu.log_compare import compare

    other = _read(run, reference, None)
    steps = compare(log.events, other.events)
    equal = all(step.ok for step in steps)
    keys = {
        **_keys(log, file),
        "equal": equal,
        "steps": [step.keys() for step in steps],
        "reference": {**_facts(other, reference), "events": _events(other)},
    }
    return runner.Outcome(keys, [line for step in steps for line in _lines(step)], int(not equal))


def _read(run: runner.Run, file: Path, boot: int | None) -> DebugLog:
    from hwflash.qemu.debuglog import EVENTS, read_log

    # A long log, or a pipe, is not waited for when a stop is asked for.
    with run.waiting():
        log = read_log(file, boot)
    if log.cut:
        run.console.warning(
            f"{file}: only the first {EVENTS:,} events are used", code="log.cut", file=str(file)
        )
    return log


def _told(log: DebugLog, file: Path, seconds: float) -> runner.Outcome:
    """The outcome for one log by itself."""
    from hwflash.qemu.debuglog_resume import resumes
    from hwflash.qemu.debuglog_story import is_store_problem, summary, verdicts

    wrong = [event for event in log.events if is_store_problem(event)]
    step = {
        "name": "firmware runs, store is sound",
        "ok": not wrong,
        "expected": "no assert, no exception, no broken store",
        "found": "; ".join(dict.fromkeys(event.text for event in wrong)) or "none",
        "seconds": round(seconds, 6),
    }
    steps = [step]
    for number, item in enumerate(resumes(log.events), 1):
        expected = "; ".join(each.told() for each in item.kept) or "nothing was kept"
        moved = "; ".join(each.told() for each in item.moved) or "nothing for fw_cfg"
        name = f"resume {number} writes to fw_cfg what was kept"
        steps.append(
            {"name": name, "ok": not item.missing, "expected": expected, "found": moved,
             "seconds": 0.0}
        )  # fmt: skip
    keys = {**_keys(log, file), "steps": steps, "verdicts": verdicts(log.events)}
    failed = any(not item["ok"] for item in steps)
    return runner.Outcome(keys, summary(log), int(failed))


def _keys(log: DebugLog, file: Path) -> dict[str, Any]:
    return {**_facts(log, file), "events": _events(log)}


def _facts(log: DebugLog, file: Path) -> dict[str, Any]:
    return {
        "file": str(file),
        "lines": log.lines,
        "boots": log.boots,
        "damaged": log.damaged,
        "problems": sum(event.problem for event in log.events),
    }


def _events(log: DebugLog) -> list[dict[str, Any]]:
    return [event.keys() for event in log.events]


def _lines(step: Step) -> list[str]:
    if step.ok:
        return [f"{step.name}: {step.found}"]
    signs = {"log": "+", "reference": "-", "both": "!"}
    lines = [f"{step.name}: {step.found}, reference: {step.expected}"]
    if step.found == step.expected or step.differences[0].side == "both":
        lines = [f"{step.name}: not the same"]
    lines += [
        f"  {signs[item.side]} line {item.line}: {item.text}"
        for item in step.differences[:DIFFERENCES]
    ]
    if step.differences[DIFFERENCES:]:
        lines.append(f"  and {len(step.differences) - DIFFERENCES} more; --json lists all")
    return lines
