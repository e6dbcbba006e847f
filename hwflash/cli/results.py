"""Result keys that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hwflash.units import Range


def range_keys(places: Iterable[Range]) -> list[dict[str, Any]]:
    """Ranges as ``[{address, length}]``."""
    return [{"address": place.address, "length": place.length} for place in places]
