"""Result keys that several commands share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwflash.errors import EnvironmentFault
from hwflash.units import Range

if TYPE_CHECKING:
    from hwflash.progress import Reporter


def range_keys(places: Iterable[Range]) -> list[dict[str, Any]]:
    """Ranges as ``[{address, length}]``."""
    return [{"address": place.address, "length": place.length} for place in places]


def state_for_history(reporter: Reporter) -> Path | None:
    """The state directory, for jobs that need it for nothing but the history.

    Without one, the job is done all the same, and a warning says that it is not recorded.
    """
    from hwflash.state import state_dir

    try:
        return state_dir(os.environ)
    except EnvironmentFault as error:
        reporter.warning(f"this will not be in the history: {error}", code=error.code)
        return None
