"""Setting a job's variables in memory: in the store that its image brings along."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

from hwflash.board_rules import Fault
from hwflash.errors import HwflashError
from hwflash.jobs.job_batch import Batch
from hwflash.jobs.job_values import variable_data
from hwflash.jobs.placeholders import UnitValues
from hwflash.jobs.prepare import WriteOptions
from hwflash.jobs.source import FileSource
from hwflash.jobs.uefi_edit import EditOptions, edit
from hwflash.jobs.uefi_variables import Changed, delete_variable, set_variable
from hwflash.layout.files import Image
from hwflash.progress import CancelToken, NullReporter
from hwflash.uefi.nvram import Nvram

#: The image does not bring the store; it is on the chip already, or nowhere.
ELSEWHERE: Final = ("uefi.no-store", "uefi.truncated")


def set_variables(nvram: Nvram, batch: Batch, unit: UnitValues) -> list[tuple[str, Changed]]:
    """Give a job's variables their values for one unit.

    Raises:
        HwflashError: what firmware would answer; its context has ``variable``, the index in the
            job file.
    """
    done: list[tuple[str, Changed]] = []
    for index, item in enumerate(batch.form.variable):
        guid = UUID(item.guid) if item.guid is not None else None
        try:
            if item.delete:
                changed = _deleted(nvram, item.name, guid, force=item.force)
            else:
                data = variable_data(item, unit, batch.blobs.__getitem__)
                changed = set_variable(
                    nvram, item.name, guid, item.attributes, data, force=item.force
                )
        except HwflashError as error:
            error.context = {**error.context, "variable": index}
            raise
        done.append((item.name, changed))
    return done


def _deleted(nvram: Nvram, name: str, guid: UUID | None, *, force: bool) -> Changed:
    """That a variable to be deleted is not there is as good."""
    if not any(guid in (None, record.guid) for record in nvram.store.named(name)):
        return Changed(guid or UUID(int=0), "unchanged")
    return delete_variable(nvram, name, guid, force=force)


def try_variables(batch: Batch, units: Sequence[UnitValues]) -> tuple[list[Fault], list[str]]:
    """Set the variables in a copy of the image, for each of some units.

    Returns:
        Faults, and notes on what could not be tried.
    """
    if not batch.form.variable:
        return [], []
    image = batch.form.image
    brings = image is not None and not image.regions and image.at is None
    for unit in units:
        try:
            source = _source(batch, unit)
            if source is None:
                return [], ["the variable store is on the chip only; it is looked at there"]
            options = EditOptions(WriteOptions(Path(), dry_run=True))
            edit(
                source, options, lambda nvram, unit=unit: set_variables(nvram, batch, unit),
                NullReporter(), CancelToken(),
            )  # fmt: skip
        except HwflashError as error:
            if error.code in ELSEWHERE and not brings:
                return [], ["the image brings no variable store; that on the chip is looked at"]
            index = error.context.get("variable")
            path = f"variable[{index}]" if isinstance(index, int) else "image.file"
            return [Fault(path, error.message)], []
    return [], []


def _source(batch: Batch, unit: UnitValues) -> FileSource | None:
    if batch.needs_chip:
        return None
    size = batch.board.flash.size if batch.board is not None else 1 << 32
    image = batch.form.image
    if batch.board is None and image is not None and image.at is None:
        loaded = batch.images[image.file]
        size = size if loaded.absolute else loaded.size
    content = tuple(batch.content(size, unit))
    if not content:
        return None
    name = image.file if image is not None else str(batch.file)
    whole = Image(content, absolute=True, format="raw", name=name, sha256="")
    return FileSource(name, whole, batch.board, tuple(item.range for item in content))
