"""Short names of programmers, and sizes as people say them."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final
from urllib.parse import parse_qs

from hwflash.units import KIB, MIB, format_size

LONGEST: Final = 30


def about_size(size: int) -> str:
    """A size in three digits: ``3.75 MiB``; exact where that is short."""
    for factor, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size >= 0.99 * factor and size % factor:
            return f"{size / factor:.3g} {name}"
    return format_size(size)


def short_name(url: str) -> str:
    """What people call the programmer of a URL: ``sim w25q128jv board-1``, ``FT232H FT1ABC``."""
    scheme, _, rest = url.partition(":")
    target, _, query = rest.lstrip("/").partition("?")
    image = parse_qs(query).get("image", [""])[0]
    parts = [scheme, target.strip("/"), PurePath(image).stem if image else ""]
    name = " ".join(part for part in parts if part)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
