"""``hwflash layout --import``: regions of an image file replaced by those of other files."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from hwflash.cli import params
from hwflash.cli.results import range_keys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hwflash.cli.runner import Run
    from hwflash.jobs.selection import RegionChoice
    from hwflash.jobs.source import Source
    from hwflash.layout.regions import Region


def import_regions(
    run: Run,
    place: Source,
    image: bytes,
    regions: Sequence[Region],
    imports: Sequence[RegionChoice],
    output: Path | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Replace regions of an image file.

    Args:
        run: the command.
        place: the image file.
        image: all its bytes.
        regions: of the image.
        imports: which, and by what.
        output: where the result goes; None: it replaces the file.
        options: the rest of the command's; those that belong here are taken out.

    Returns:
        The keys of the result that tell of it.

    Raises:
        UsageError: SOURCE is no file (``usage.layout-import``); a region that is not there, or
            without a file; two that overlap (``usage.overlap``).
        ImageError: a file that does not fill its region, or has it elsewhere.
    """
    from hwflash.cli.write import write_options
    from hwflash.jobs.edit_file import change_file
    from hwflash.jobs.region_import import imported, require_file
    from hwflash.jobs.remember import Facts
    from hwflash.uefi.window import Window

    source = require_file(place)
    named = frozenset(choice.name for choice in imports)
    if output is not None and not output.exists():  # nothing that exists is changed
        options["yes"] = True
    how = write_options(run, {"verify": "touched", **options}, named, piped=source.name == "-")
    load = partial(params.load_file, run)
    found = imported(image, regions, imports, load)
    keys = {
        "imported": [{"name": name, **keys} for name, keys in
                     zip(found.names, range_keys(found.places), strict=True)],
        "output": str(output) if output else None,
        "dry_run": how.dry_run,
        "executed": False,
        "backup": None,
    }  # fmt: skip
    changes = found.data != image
    if how.dry_run or not (changes or output is not None):
        return keys
    facts = Facts("layout import", sum(item.length for item in found.places),
                  details={"regions": list(found.names)})  # fmt: skip
    window, places = Window(found.data), found.places
    backup = change_file(source, window, places, how, facts, output, run.console)
    return {**keys, "executed": True, "backup": str(backup) if backup else None}


def import_lines(keys: dict[str, Any]) -> list[str]:
    """What was imported, for people."""
    verb = "imported" if keys["executed"] else "would be imported"
    if not (keys["executed"] or keys["dry_run"]):
        return ["nothing to do: the image holds this already"]
    return [
        *(f"{verb}: {item['name']}, {item['length']} bytes at 0x{item['address']:06X}"
          for item in keys["imported"]),
        *([f"backup {keys['backup']}"] if keys["backup"] else []),
    ]  # fmt: skip
