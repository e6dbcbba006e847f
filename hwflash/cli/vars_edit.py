"""``hwflash vars set``, ``append``, ``delete``, ``import`` and ``reclaim``: changing a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import runner
from hwflash.cli.stores import GUID, edit_options, edit_outcome, edit_store
from hwflash.cli.value_options import take_value, value_options
from hwflash.errors import UsageError
from hwflash.uefi.window import printable

if TYPE_CHECKING:
    from uuid import UUID

    from hwflash.jobs.uefi_edit import EditOptions
    from hwflash.uefi.nvram import Nvram


class AttributesType(click.ParamType[int]):
    """Attributes such as ``NV+BS+RT``, ``nv,bs``, or a number."""

    name = "attributes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text."""
        from hwflash.uefi.records import parse_attributes

        try:
            return parse_attributes(value) if isinstance(value, str) else value
        except UsageError as exc:
            self.fail(exc.message, param, ctx)


_guid = click.option(
    "--guid", type=GUID,
    help="Vendor of the variable: a GUID or its well-known name. Default: that of the variable "
    "of this name, or what the UEFI specification says.",
)  # fmt: skip
_force = click.option(
    "--force",
    is_flag=True,
    help="Change an authenticated variable without the signature that firmware would ask for.",
)


@click.command("set")
@edit_options
@click.argument("name")
@_guid
@value_options
@click.option(
    "--attributes",
    type=AttributesType(),
    help="Such as NV+BS+RT. Default: those of the variable, or NV+BS+RT for a new one.",
)
@_force
@runner.command("vars set")
def set_(
    run: runner.Run,
    source: str,
    name: str,
    guid: UUID | None,
    attributes: int | None,
    force: bool,
    **options: Any,
) -> runner.Outcome:
    """Give the variable NAME a value, as firmware would: no erase unless the store is full."""
    data = take_value(options)
    return _set(run, source, options, name, guid, attributes, data, force=force)


@click.command("append")
@edit_options
@click.argument("name")
@_guid
@value_options
@_force
@runner.command("vars append")
def append(
    run: runner.Run, source: str, name: str, guid: UUID | None, force: bool, **options: Any
) -> runner.Outcome:
    """Append to the value of the variable NAME; entries of key databases are not doubled."""
    from hwflash.uefi.records import Attribute

    data = take_value(options)
    extra = int(Attribute.APPEND_WRITE)
    return _set(run, source, options, name, guid, None, data, force=force, extra=extra)


def _set(
    run: runner.Run,
    source: str,
    options: dict[str, Any],
    name: str,
    guid: UUID | None,
    attributes: int | None,
    data: bytes,
    *,
    force: bool,
    extra: int = 0,
) -> runner.Outcome:
    from hwflash.jobs.uefi_read import variable_keys
    from hwflash.jobs.uefi_variables import set_variable

    def change(nvram: Nvram, how: EditOptions) -> Any:
        return set_variable(
            nvram, name, guid, attributes, data, force=force, extra=extra, order=how.order
        )

    require_name(name)
    edited, keys = edit_store(run, source, options, change)
    done = edited.value
    store = edited.after.store
    record = store.find(name, done.guid) if store is not None else None
    found = variable_keys(edited.after, record) if record is not None else None
    keys |= {"variable": found, "change": done.change, "reclaimed": done.reclaimed}
    return edit_outcome(edited, keys, f"{printable(name)} {done.change}", done.notes)


def require_name(name: str) -> None:
    """Refuse a name that is empty, or made of bytes that are no text.

    Raises:
        UsageError: it is (``usage.name``).
    """
    if not name or any(0xDC80 <= ord(char) <= 0xDCFF for char in name):
        raise UsageError(f"{printable(name)!r} is no name of a variable", code="usage.name")


@click.command("delete")
@edit_options
@click.argument("name")
@_guid
@_force
@runner.command("vars delete")
def delete(
    run: runner.Run, source: str, name: str, guid: UUID | None, force: bool, **options: Any
) -> runner.Outcome:
    """Delete the variable NAME: one bit of its record is cleared."""
    from hwflash.jobs.uefi_variables import delete_variable

    def change(nvram: Nvram, how: EditOptions) -> Any:
        return delete_variable(nvram, name, guid, force=force, order=how.order)

    edited, keys = edit_store(run, source, options, change)
    done = edited.value
    keys |= {"change": done.change, "name": name, "guid": str(done.guid)}
    return edit_outcome(edited, keys, f"{printable(name)} {done.change}", done.notes)


@click.command("import")
@edit_options
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--replace", is_flag=True, help="Remove the variables that FILE does not have.")
@click.option("--ignore", multiple=True, help="Not these variables: NAME or NAME:GUID; * is any.")
@runner.command("vars import")
def import_(
    run: runner.Run,
    source: str,
    file: Path,
    replace: bool,
    ignore: tuple[str, ...],
    **options: Any,
) -> runner.Outcome:
    """Take over the variables of FILE: JSON of `vars export`, or of virt-firmware."""
    from hwflash.jobs.uefi_export import load_variables
    from hwflash.jobs.uefi_variables import import_variables

    with run.waiting():
        variables = load_variables(file)

    def change(nvram: Nvram, how: EditOptions) -> Any:
        return import_variables(nvram, variables, replace=replace, ignore=ignore, order=how.order)

    edited, keys = edit_store(run, source, options, change)
    done = edited.value
    keys |= {"set": list(done.set), "removed": list(done.removed), "same": done.same,
             "reclaimed": done.reclaimed}  # fmt: skip
    text = f"{len(done.set)} set, {len(done.removed)} removed, {done.same} already there"
    return edit_outcome(edited, keys, text, done.notes)


@click.command("reclaim")
@edit_options
@runner.command("vars reclaim")
def reclaim(run: runner.Run, source: str, **options: Any) -> runner.Outcome:
    """Rewrite the store without its dead records, so that their room is free again."""
    from hwflash.uefi.rewrite import reclaim as rewrite

    def change(nvram: Nvram, how: EditOptions) -> None:
        rewrite(nvram, order=how.order)

    edited, keys = edit_store(run, source, options, change)
    before, after = (found.store for found in (edited.before, edited.after))
    text = "reclaimed"
    if before is not None and after is not None:
        text = f"reclaimed: {before.usage.free:,} bytes were free, {after.usage.free:,} are"
    return edit_outcome(edited, keys, text)


COMMANDS = (set_, append, delete, import_, reclaim)
