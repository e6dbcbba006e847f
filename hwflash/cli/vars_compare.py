"""``hwflash vars check``, ``export`` and ``diff``: looking at stores as a whole."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwflash.cli import params, runner
from hwflash.cli.stores import read, source_options

if TYPE_CHECKING:
    from hwflash.jobs.uefi_read import Reading
    from hwflash.uefi.exchange import Variables


@click.command("check")
@source_options
@runner.command("vars check")
def check(
    run: runner.Run, source: str, store: int | None, full: bool, **options: Any
) -> runner.Outcome:
    """Name each inconsistency of the store, and what firmware would do with it at boot."""
    from hwflash.jobs.uefi_ftw import check_keys
    from hwflash.jobs.uefi_others import other_check_keys
    from hwflash.jobs.uefi_read import chosen

    words = [source, *params.repeated(options), *(["--full"] if full else [])]
    reading, chip = read(run, source, options, full, others=True)
    several = len(reading.found) > 1
    others = [item for item in reading.others if store in (None, item.base)]
    usual = () if others and store is not None else chosen(reading, store)
    checked = [check_keys(found) for found in usual]
    checked += [other_check_keys(item) for item in others]
    ok = all(item["ok"] for item in checked)
    lines: list[str] = []
    for item in checked:
        word = "not sound" if item["repair"] == "none" else f"needs {item['repair']}"
        word = "healthy" if item["ok"] else word
        lines.append(f"variable store at 0x{item['base']:06X}: {word}")
        lines += [
            f"  {each['severity']:<8} 0x{each['offset']:06X}: {each['message']} [{each['code']}]"
            for each in item["problems"]
        ]
        lines += [f"  {each['firmware']}: {each['text']}" for each in item["outlook"]]
        if item["command"]:
            where = ["--store", f"0x{item['base']:X}"] if several else []
            command = shlex.join(["hwflash", *item["command"].split(), *words, *where])
            lines.append(f"  repair: {command}")
    return runner.Outcome({"healthy": ok, "stores": checked} | chip, lines, 0 if ok else 1)


@click.command("export")
@source_options
@click.argument(
    "file", default="-", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True)
)
@click.option(
    "--format", "kind", type=click.Choice(["hwflash", "virt-firmware"]), default="hwflash",
    show_default=True, help="Our JSON, or that of virt-firmware.",
)  # fmt: skip
@runner.command("vars export")
def export(
    run: runner.Run,
    source: str,
    file: Path,
    kind: str,
    store: int | None,
    full: bool,
    **options: Any,
) -> runner.Outcome:
    """Write the variables as JSON to FILE, or to stdout."""
    from hwflash.errors import UsageError
    from hwflash.jobs.uefi_export import save_text
    from hwflash.uefi.exchange import (
        export_json,
        export_virt_firmware,
        variables_of,
        virt_firmware_losses,
    )

    to_stdout = str(file) == "-"
    if to_stdout and run.console.json_lines:
        raise UsageError("--json and a FILE of - both want stdout", code="usage.selection")
    reading, chip = read(run, source, options, full, others=True)
    variables = _variables(run, reading, store)
    losses = virt_firmware_losses(variables) if kind == "virt-firmware" else ()
    for loss in losses:
        run.console.warning(loss)
    count = len(variables_of(variables))
    text = export_virt_firmware(variables) if kind == "virt-firmware" else export_json(variables)
    keys = {
        "file": str(file),
        "format": kind,
        "exported": count,
        "losses": list(losses),
    }
    if to_stdout:
        return runner.Outcome(keys | chip, [text.rstrip("\n")])
    save_text(file, text)
    return runner.Outcome(keys | chip, [f"{count} variables written to {file}"])


@click.command("diff")
@source_options
@click.argument("other", metavar="OTHER")
@click.option("--other-store", type=params.SIZE, help="Only the store at this offset of OTHER.")
@click.option("--ignore", multiple=True, help="Not these variables: NAME or NAME:GUID; * is any.")
@runner.command("vars diff")
def diff(
    run: runner.Run,
    source: str,
    other: str,
    other_store: int | None,
    ignore: tuple[str, ...],
    store: int | None,
    full: bool,
    **options: Any,
) -> runner.Outcome:
    """Compare the variables of SOURCE with those of OTHER: another source, or exported JSON."""
    from hwflash.compare.text import diff_lines
    from hwflash.jobs.uefi_export import is_exported, load_variables
    from hwflash.uefi.difference import compare

    def side(text: str, wanted: int | None) -> tuple[Variables, dict[str, Any]]:
        if is_exported(text):
            return load_variables(Path(text)), {"source": text}
        reading, chip = read(run, text, dict(options), full, others=True)
        return _variables(run, reading, wanted), chip

    left, chip = side(source, store)
    right, _ = side(other, other_store)
    found = compare(left, right, ignore=ignore)
    keys = {"equal": found.equal, "variables": found.keys(), "other": other}
    return runner.Outcome(keys | chip, diff_lines(found), 0 if found.equal else 1)


def _variables(run: runner.Run, reading: Reading, store: int | None) -> Variables:
    """The variables of the store that is meant, of whatever format."""
    from hwflash.jobs.uefi_edit import one_store
    from hwflash.jobs.uefi_export import store_of
    from hwflash.jobs.uefi_others import exported, one_other

    other = one_other(reading.others, store, usual=bool(reading.found))
    if other is None:
        return store_of(one_store(reading, store))
    if any(item.guid is None for item in other.live):
        run.console.warning("variables without a GUID are given one of zeros and its number")
    return exported(other)


COMMANDS = (check, export, diff)
