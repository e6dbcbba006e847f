"""``hwflash vars``: the UEFI variables of an image, a chip or a board."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import runner, vars_compare, vars_edit
from hwflash.cli.stores import GUID, read, source_options
from hwflash.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from hwflash.uefi.find import Found
    from hwflash.uefi.others import Listed, OtherStore
    from hwflash.uefi.records import Record
    from hwflash.uefi.window import Anomaly

#: Characters of a value in the table.
VALUE_WIDTH = 120
#: Anomalies of one store that are printed; all are in the JSON result.
ANOMALIES = 20


@click.group("vars")
def command() -> None:
    """Look at the UEFI variables in SOURCE, and change them as firmware does.

    SOURCE is an image, a programmer URL, or board:NAME. Stores of AMI, Phoenix, Insyde and Apple
    firmware are only read.
    """


for item in (*vars_compare.COMMANDS, *vars_edit.COMMANDS):
    command.add_command(item)


@command.command("list")
@source_options
@click.option("--all", "every", is_flag=True, help="Deleted and half-written records too.")
@click.option("--hex", "dump", is_flag=True, help="Show the bytes of every value.")
@runner.command("vars list")
def list_(
    run: runner.Run,
    source: str,
    every: bool,
    dump: bool,
    store: int | None,
    full: bool,
    **options: Any,
) -> runner.Outcome:
    """List the variables, with their values decoded, and how full the store is."""
    from hwflash.jobs.uefi_others import other_keys, other_variable_keys
    from hwflash.jobs.uefi_read import chosen, store_keys, variable_keys

    reading, chip = read(run, source, options, full, others=True)
    stores: list[dict[str, Any]] = []
    variables: list[dict[str, Any]] = []
    lines: list[str] = []
    others = [item for item in reading.others if store in (None, item.base)]
    for found in () if others and store is not None else chosen(reading, store):
        stores.append(store_keys(found))
        records = _records(found, every)
        if run.console.json_lines:
            variables += [variable_keys(found, record) for record in records]
        else:
            lines += ([""] if lines else []) + _store_lines(found)
            lines += _table(records, every, dump)
    for other in others:
        stores.append(other_keys(other))
        entries = other.records if every else other.live
        if run.console.json_lines:
            variables += [other_variable_keys(other, entry) for entry in entries]
        else:
            lines += ([""] if lines else []) + _other_lines(other)
            lines += _table(entries, every, dump)
    facts = {"stores": stores, "variables": variables, "searched": reading.searched,
             "bytes_read": reading.bytes_read}  # fmt: skip
    # One line for all: a store can have tens of thousands of records.
    return runner.Outcome(facts | chip, ["\n".join(lines)])


@command.command("get")
@source_options
@click.argument("name")
@click.option("--guid", type=GUID, help="Vendor of the variable: a GUID or its well-known name.")
@click.option("--hex", "dump", is_flag=True, help="Show the bytes of the value.")
@click.option(
    "--raw",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write the bytes of the value to this file; - is stdout.",
)
@runner.command("vars get")
def get(
    run: runner.Run,
    source: str,
    name: str,
    guid: UUID | None,
    dump: bool,
    raw: Path | None,
    store: int | None,
    full: bool,
    **options: Any,
) -> runner.Outcome:
    """Show the variable NAME."""
    from hwflash.jobs.uefi_others import value_of
    from hwflash.jobs.uefi_read import find_listed

    if str(raw) == "-" and run.console.json_lines:
        raise UsageError("--json and --raw - both want stdout", code="usage.selection")
    if str(raw) == "-" and sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise UsageError("standard output is closed", code="usage.selection")
    reading, chip = read(run, source, options, full, others=True)
    record, variable = find_listed(reading, name, guid, store)
    value = value_of(record)
    keys = {"variable": variable}
    lines = _variable_lines(record, variable)
    lines += [f"  {line}" for line in value.lines or (value.summary,)]
    if value.fault:
        lines.append(f"  note: {value.fault}")
    if dump:
        lines += hex_lines(record.data, "  ")
    if raw is not None:
        _save(raw, record.data)
    if str(raw) == "-":
        for line in lines[:1]:
            run.console.talk(line)
        lines = []
    return runner.Outcome(keys | chip, lines)


def _save(raw: Path, data: bytes) -> None:
    if str(raw) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    from hwflash.errors import EnvironmentFault

    try:
        raw.write_bytes(data)
    except OSError as error:
        raise EnvironmentFault(
            f"{raw} cannot be written: {error.strerror or error}",
            code="environment.unwritable",
            file=str(raw),
            errno=error.errno,
        ) from error


# --- for people -----------------------------------------------------------------------------


def _records(found: Found, every: bool) -> tuple[Record, ...]:
    if found.store is None:
        return ()
    return found.store.records if every else found.store.live


def _store_lines(found: Found) -> list[str]:
    store = found.store
    where = f"0x{found.base:06X}, {found.length:,} bytes, layout {found.areas.layout}"
    if store is None:
        lines = [f"no variable store in the volume at {where}"]
    else:
        usage = store.usage
        spent = f"{usage.used:,} used, {usage.free:,} free, {usage.reclaimable:,} reclaimable"
        lines = [
            f"variable store at 0x{store.base:06X} in the volume at {where}",
            f"  {store.kind}, {store.size:,} bytes: {spent}",
            f"  {len(store.live)} variables in {len(store.records)} records",
        ]
    lines.append(f"  fault-tolerant write: {found.ftw.text}")
    return lines + _odd_lines(found.anomalies)


def _other_lines(store: OtherStore) -> list[str]:
    where = f" in the volume at {store.volume}" if store.volume is not None else ""
    form = f"{store.form}, " if store.form is not None else ""
    spent = f"{store.used:,} used, {store.free:,} free, {store.reclaimable:,} reclaimable"
    lines = [
        f"{store.title} at 0x{store.base:06X}{where}, only read",
        f"  {form}{store.size:,} bytes: {spent}",
        f"  {len(store.live)} variables in {len(store.records)} entries",
    ]
    return lines + _odd_lines(store.anomalies)


def _odd_lines(anomalies: Iterable[Anomaly]) -> list[str]:
    # What power cuts leave is no news; what is only inferred about the place is.
    shown = [
        item for item in anomalies if item.severity != "note" or item.code.startswith("areas.")
    ]
    lines = [f"  {item.severity}: {item}" for item in shown[:ANOMALIES]]
    if shown[ANOMALIES:]:
        lines.append(f"  and {len(shown) - ANOMALIES} more; --json lists all")
    return lines


def _table(records: Sequence[Listed], every: bool, dump: bool) -> list[str]:
    from hwflash.jobs.uefi_others import value_of
    from hwflash.uefi.guids import describe
    from hwflash.uefi.records import short_attributes
    from hwflash.uefi.window import printable

    names = [printable(record.name) or "-" for record in records]
    vendors = [describe(record.guid) if record.guid else "-" for record in records]
    wide = min(max(map(len, names), default=0), 40)
    wider = max(map(len, vendors), default=0)
    lines: list[str] = []
    for record, name, vendor in zip(records, names, vendors, strict=True):
        place = f"0x{record.offset:06X}  {record.state_name:<21}  " if every else ""
        attributes = short_attributes(record.attributes)
        lines.append(
            f"  {place}{name:<{wide}}  {vendor:<{wider}}  {attributes:<11}  "
            f"{len(record.data):>6}  {_shortened(value_of(record).summary)}".rstrip()
        )
        if dump:
            lines += hex_lines(record.data, "      ")
    return lines


def _variable_lines(record: Listed, keys: dict[str, Any]) -> list[str]:
    from hwflash.uefi.guids import guid_name
    from hwflash.uefi.records import attribute_names
    from hwflash.uefi.window import printable

    vendor = guid_name(record.guid) if record.guid else None
    lines = [
        f"{printable(record.name)}: {len(record.data):,} bytes at 0x{record.data_offset:06X}",
        f"  vendor      {record.guid or '-'}" + (f" ({vendor})" if vendor else ""),
        f"  attributes  {', '.join(attribute_names(record.attributes))}",
        f"  state       {record.state_name}, record at 0x{record.offset:06X}",
    ]
    if not record.time.is_zero:
        lines.append(f"  time stamp  {record.time}")
    if keys.get("older"):
        places = ", ".join(f"0x{offset:06X}" for offset in keys["older"])
        lines.append(f"  older       values at {places}")
    return lines


def _shortened(text: str) -> str:
    return text if len(text) <= VALUE_WIDTH else text[: VALUE_WIDTH - 3] + "..."


def hex_lines(data: bytes, indent: str = "") -> list[str]:
    """A hex dump, 16 bytes a line, offsets within the value."""
    lines: list[str] = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"{indent}{at:04x}  {row.hex(' '):<47}  {text}")
    return lines
