"""The chip catalog: what data sheets say and SFDP does not.

One TOML file per maker in ``data/catalog``, in the form that `hwflash.chip.chipfile` describes
and that a user's own ``--chip-file`` has as well. Source of every fact: the document a part
names in ``datasheet``.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hwflash.chip.model import Chip
from hwflash.errors import ImageError, UsageError


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of the catalog.

    Attributes:
        chip: what the data sheet says.
        aliases: other names of the part, ordering codes and older names.
        shares_id_with: parts that answer 9Fh with the same bytes and have the same size.
        sfdp_dump: name of a stored SFDP dump of this very part, or None.
        file: name of the TOML file it is from.
    """

    chip: Chip
    aliases: tuple[str, ...] = ()
    shares_id_with: tuple[str, ...] = ()
    sfdp_dump: str | None = None
    file: str = ""


@dataclass(frozen=True, slots=True)
class Catalog:
    """All parts hwflash knows."""

    parts: tuple[Part, ...]

    def by_name(self, name: str) -> Part:
        """Find a part by its name or an alias, upper and lower case alike.

        Raises:
            UsageError: no part has the name; ``context["near"]`` lists similar names.
        """
        wanted = name.strip().casefold()
        names: dict[str, str] = {}
        for part in self.parts:
            for known in (part.chip.part, *part.aliases):
                if known.casefold() == wanted:
                    return part
                names[known.casefold()] = known
        close = difflib.get_close_matches(wanted, names, n=5, cutoff=0.6)
        raise UsageError(
            f"no part named {name!r} in the chip catalog",
            code="chips.unknown-part",
            name=name,
            near=[names[item] for item in close],
        )

    def by_jedec_id(self, jedec_id: bytes) -> tuple[Part, ...]:
        """Every part that can answer 9Fh with ``jedec_id``, the closest match first.

        Bytes are compared as far as both the answer and the catalog entry go: a chip may be
        asked for three bytes only, and many repeat or pad theirs.
        """
        found = [
            part
            for part in self.parts
            if len(jedec_id) >= 3
            and all(a == b for a, b in zip(part.chip.jedec_id, jedec_id, strict=False))
        ]
        return tuple(sorted(found, key=lambda part: -len(part.chip.jedec_id)))


@functools.cache
def load() -> Catalog:
    """Read the catalog that is shipped with hwflash.

    Raises:
        ImageError: a catalog file has faults (code ``chip-file``).
    """
    from hwflash.chip import chipfile  # pydantic is loaded when a catalog is asked for

    folder = resources.files("hwflash.chip") / "data" / "catalog"
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".toml")), key=str)
    parts: list[Part] = []
    for item in files:
        parts.extend(chipfile.parse(item.read_text("utf-8"), item.name))
    chipfile.refuse_duplicates("the chip catalog", parts)
    return Catalog(tuple(parts))


def load_file(path: Path | str) -> tuple[Part, ...]:
    """Read a user's chip file.

    Raises:
        ImageError: code ``chip-file``; ``context["faults"]`` lists every (path, message).
    """
    from hwflash.chip import chipfile

    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"cannot read {path}: {error}", code="chip-file", faults=[]) from error
    parts = chipfile.parse(text, str(path))
    chipfile.refuse_duplicates(str(path), parts)
    return parts
