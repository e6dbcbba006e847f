"""The after-steps of a job: commands that are run when a unit is programmed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hwflash.errors import HwflashError
from hwflash.jobs.job_batch import Batch
from hwflash.jobs.jobfile_form import AfterTable
from hwflash.jobs.placeholders import UnitValues, fill, mac_text
from hwflash.jobs.run_command import Ran, run_command
from hwflash.progress import CancelToken, Reporter

#: Bytes of a step's output that a result keeps.
SAID_LIMIT = 2000


class AfterFailed(HwflashError):
    """An after-step failed; the chip itself is written and verified."""

    code = "job.after"
    exit_code = 1


def run_after(
    batch: Batch,
    unit: UnitValues,
    reporter: Reporter,
    cancel: CancelToken,
    done: Callable[[dict[str, Any]], None],
) -> None:
    """Run the after-steps of a unit in order; the first that fails is the last.

    Args:
        batch: the job.
        unit: what placeholders stand for.
        reporter: is told of warnings.
        cancel: ends the step that runs when a stop is asked for.
        done: is given what each step said, as JSON can hold it.

    Raises:
        AfterFailed: one failed, or a stop was asked for.
    """
    environ = _environ(batch, unit)
    for index, step in enumerate(batch.form.after):
        words = [fill(word, unit) for word in step.command]
        ran = run_command(
            words, folder=batch.folder, timeout=step.timeout, environ=environ, cancel=cancel
        )
        outcome, text = _judge(step, ran)
        done(
            {
                "command": words,
                "outcome": outcome,
                "exit_code": ran.exit_code,
                "text": text,
                "out": _tail(ran.out),
                "err": _tail(ran.err),
                "seconds": round(ran.seconds, 3),
            }
        )
        if outcome == "warning":
            reporter.warning(f"after[{index}] {words[0]}: {text}", code="job.after", step=index)
        if outcome == "failed":
            raise AfterFailed(
                f"the chip is written and verified, but after[{index}], {words[0]}, {text}",
                step=index,
                command=words,
                exit_code=ran.exit_code,
                said=_tail(ran.err).strip()[-300:] or None,
            )


def _environ(batch: Batch, unit: UnitValues) -> dict[str, str]:
    return {
        **os.environ,
        "HWFLASH_JOB": batch.form.job.name,
        "HWFLASH_UNIT": str(unit.unit),
        "HWFLASH_SERIAL": unit.serial or "",
        "HWFLASH_MAC": mac_text(unit.macs[0]) if unit.macs else "",
        "HWFLASH_CHIP": unit.chip,
    }


def _judge(step: AfterTable, ran: Ran) -> tuple[str, str]:
    """``ok``, ``warning`` or ``failed``, and what it means in words."""
    if ran.exit_code is None:
        return "failed", ran.problem
    code = ran.exit_code
    meaning = step.meaning.get(str(code))
    text = f"ended with {code}" + (f": {meaning}" if meaning else "")
    if code in step.ok:
        return "ok", text
    return ("warning" if code in step.warning else "failed"), text


def _tail(output: bytes) -> str:
    return output[-SAID_LIMIT:].decode("utf-8", "replace")
