"""``hwflash chips``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hwflash.cli import params, runner
from hwflash.units import format_size


@click.group("chips")
def command() -> None:
    """Look into the chip catalog and decode SFDP tables."""


@command.command("list")
@click.argument("pattern", required=False, default="")
@params.json_option
@runner.command("chips list")
def list_(run: runner.Run, pattern: str) -> runner.Outcome:
    """List the parts of the catalog whose name, maker or id contains PATTERN."""
    from hwflash.chip import catalog

    wanted = pattern.lower()
    parts = [
        part
        for part in catalog.load().parts
        if wanted in " ".join(
            (part.chip.part, part.chip.manufacturer, part.chip.jedec_id.hex(), *part.aliases)
        ).lower()
    ]  # fmt: skip
    keys = [
        {
            "part": part.chip.part,
            "manufacturer": part.chip.manufacturer,
            "jedec_id": part.chip.jedec_id.hex(),
            "size": part.chip.size,
            "voltage": list(part.chip.voltage) if part.chip.voltage else None,
            "aliases": list(part.aliases),
            "sfdp": part.sfdp_dump is not None,
        }
        for part in parts
    ]
    lines = [
        f"{part.chip.part:<16} {part.chip.manufacturer:<22} {part.chip.jedec_id.hex():<14} "
        f"{format_size(part.chip.size):>8}"
        for part in parts
    ]
    if not parts:
        run.console.talk(f"no part of the catalog matches {pattern!r}")
    return runner.Outcome({"chips": keys}, lines, 0 if parts else 1)


@command.command("show")
@click.argument("part", type=params.PartName())
@click.option("--chip-file", type=params.PATH, help="Look it up in this TOML file.")
@params.json_option
@runner.command("chips show")
def show(run: runner.Run, part: str, chip_file: Path | None) -> runner.Outcome:
    """Show what the catalog knows about PART."""
    from hwflash.chip import catalog, dumps, sfdp
    from hwflash.cli.show import chip_lines
    from hwflash.jobs.describe import chip_keys

    library = catalog.Catalog(catalog.load_file(chip_file)) if chip_file else catalog.load()
    found = library.by_name(part)
    tables = sfdp.parse(dumps.load(found.sfdp_dump).sfdp) if found.sfdp_dump else None
    keys = chip_keys(found.chip, tables, "catalog")
    return runner.Outcome(keys, chip_lines(keys))


@command.command("decode")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--id", "jedec_id", default="", help="JEDEC id in hex, such as ef4018.")
@params.json_option
@runner.command("chips decode")
def decode(run: runner.Run, file: Path, jedec_id: str) -> runner.Outcome:
    """Decode FILE, raw SFDP bytes from address 0 (- is stdin)."""
    from hwflash.chip import sfdp
    from hwflash.chip.identity import manufacturer_name
    from hwflash.cli.show import chip_lines
    from hwflash.jobs.describe import chip_keys

    known = _id_bytes(jedec_id)
    image = params.load_file(run, file, "raw")
    tables = sfdp.parse(image.segments[0].data)
    maker = manufacturer_name(known) if known else "unknown"
    chip = sfdp.to_chip(tables, known, None, "unknown" if str(file) == "-" else file.stem, maker)
    keys: dict[str, Any] = {
        **chip_keys(chip, tables, "sfdp"),
        "decoded": sfdp.describe(tables),
    }
    return runner.Outcome(keys, chip_lines(keys))


def _id_bytes(text: str) -> bytes:
    from hwflash.errors import UsageError

    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b"\0"
    if text and len(found) < 3:
        raise UsageError(f"{text!r} is not a JEDEC id in hex", code="usage.jedec-id", text=text)
    return found
