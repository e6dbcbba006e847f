"""Job files: what every unit of a batch gets, in TOML that people edit.

`check_job` lists every fault with its place in the file, `load_job` refuses a file with faults.
No hardware is touched by either. The form of the file is in `hwflash.jobs.jobfile_form`.

Limits: files up to 1 MiB. What only the chip can tell, its protection and a store that the image
does not bring, is seen when a unit is run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from hwflash.board_rules import Fault
from hwflash.errors import HwflashError, ImageError
from hwflash.jobs.job_batch import Batch
from hwflash.jobs.job_numbers import Supply, shown
from hwflash.jobs.jobfile_check import Files, file_faults, samples
from hwflash.jobs.jobfile_form import JobForm
from hwflash.jobs.jobfile_rules import Parts, parts_of, rule_faults
from hwflash.jobs.jobfile_trial import try_variables
from hwflash.jobs.serials import SerialStore, is_there
from hwflash.state import state_path
from hwflash.tomlfile import model_fault, read_toml

#: What another process may hold the store of numbers for while a job is merely looked at.
CHECK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Checked:
    """A job file that was looked at.

    Attributes:
        faults: what is wrong, in the order of the file's tables.
        notes: what could not be checked, and which numbers come next.
        batch: the job, ready to run; None when there are faults.
    """

    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    batch: Batch | None


def load_job(path: Path, environ: Mapping[str, str] = os.environ) -> Batch:
    """Read a job file and all it names.

    Raises:
        ImageError: ``job.faults``; ``context["faults"]`` lists every `Fault`.
    """
    checked = check_job(path, environ)
    if checked.batch is None:
        count = len(checked.faults)
        raise ImageError(
            f"{path} has {count} fault{'s' if count > 1 else ''}",
            code="job.faults",
            file=str(path),
            faults=[str(fault) for fault in checked.faults],
        )
    return checked.batch


def check_job(path: Path, environ: Mapping[str, str] = os.environ) -> Checked:
    """Everything that is wrong with a job file and the files it names. Never raises for them."""
    with suppress(OSError):  # said when it is opened
        if path.exists() and not path.is_file():  # a pipe cannot be read again for the next unit
            return Checked((Fault("", "is no regular file"),), (), None)
    raw, faults = read_toml(path, "job file")
    if raw is None:
        return Checked(tuple(faults), (), None)
    form: JobForm | None = None
    try:
        form = JobForm.model_validate(raw)
    except ValidationError as error:
        faults += [model_fault(item, JobForm) for item in error.errors(include_url=False)]
    parts = parts_of(raw)
    files = Files(path.absolute().parent, environ)
    # A value that is wrong in itself needs no second fault for what follows from it.
    _add(faults, rule_faults(parts))
    _add(faults, file_faults(parts, files, _identities(parts)))
    if form is None or faults:
        return Checked(tuple(faults), (), None)
    batch = Batch(path, form, files.board, files.images, files.blobs, files.digests)
    units = samples(parts, files.sheet)
    trial, notes = try_variables(batch, [units[0], units[-1]])
    faults += trial
    if batch.needs_chip:
        notes = [*notes, "only the chip tells where the regions are; they are looked up there"]
    more, coming = _numbers(batch.supply, environ)
    faults += more
    return Checked(tuple(faults), (*notes, *coming), None if faults else batch)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of job files, draft 2020-12."""
    schema = JobForm.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "hwflash job file",
    }


def _add(faults: list[Fault], more: Sequence[Fault]) -> None:
    known = {fault.path for fault in faults}
    faults += [fault for fault in more if fault.path not in known]


def _identities(parts: Parts) -> dict[str, str]:
    """Columns of the CSV file that must not repeat, as far as the file says which."""
    if parts.job is None or parts.csv is None:
        return {}
    form = JobForm(job=parts.job, csv=parts.csv, serial=parts.serial, mac=parts.mac)
    return Supply(form, Path()).identities


def _numbers(supply: Supply, environ: Mapping[str, str]) -> tuple[list[Fault], list[str]]:
    """Whether the store can be used, and which numbers a unit would get now."""
    if not supply.series:
        return [], []
    commands = [
        role for role, table in (("serial", supply.form.serial), ("mac", supply.form.mac))
        if table is not None and table.source == "command"
    ]  # fmt: skip
    try:
        state = state_path(environ)
        if not is_there(state):  # looking makes nothing
            return [], ["no number was handed out yet in this state directory"]
        with SerialStore(state, timeout=CHECK_SECONDS) as store:
            if commands:
                return [], [f"a command gives {' and '.join(commands)}; it was not run"]
            return [], [f"next: {shown(supply.choose({})(store.ledger))}"]
    except HwflashError as error:
        form = supply.form
        old_ones_do = form.policy == "reuse" or form.job.again == "same"
        if error.code == "serial.exhausted" and old_ones_do:
            return [], [f"{error.message}; a unit that failed or was done may have its own again"]
        return [Fault("", error.message)], []
