"""The clock that a contact test found good, remembered for a board on a programmer.

It caps the clock of later jobs until a test finds better or somebody forgets it. A clock that is
asked for (``-f``, ``frequency=`` in the URL) is asked for.

Limits: one file, replaced as a whole; of two tests that end at once one is remembered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast

from hwflash.errors import EnvironmentFault
from hwflash.layout.files import write_atomically
from hwflash.state import state_dir, state_path

FILE: Final = "clocks.json"
#: Hertz that a programmer can be set to; what is outside of it no test has left.
_POSSIBLE: Final = (1e3, 1e9)


def any_remembered(environ: Mapping[str, str]) -> bool:
    """Whether there is anything to look up."""
    try:
        return (state_path(environ) / FILE).is_file()
    except (OSError, EnvironmentFault):
        return False


def remembered(environ: Mapping[str, str], key: str) -> float | None:
    """The highest good SCK in hertz, or None.

    A file that is damaged, or cannot be read, remembers nothing.

    Args:
        environ: environment variables: they say where the state is.
        key: board and programmer, as `hwflash.jobs.opening.clock_key` names them.
    """
    hertz: Any = _load(environ).get(key, {}).get("hertz")
    if isinstance(hertz, bool) or not isinstance(hertz, int | float):
        return None
    lowest, highest = _POSSIBLE
    return float(hertz) if lowest <= hertz <= highest else None


def remember(environ: Mapping[str, str], key: str, hertz: float | None) -> None:
    """Remember a clock; None forgets it.

    Raises:
        EnvironmentFault: it cannot be written (``state.unwritable``).
    """
    found = _load(environ)
    if hertz is None:
        if found.pop(key, None) is None:
            return
    else:
        found[key] = {"hertz": hertz, "found": datetime.now(UTC).isoformat(timespec="seconds")}
    path = state_dir(environ) / FILE
    try:
        write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
    except OSError as exc:
        raise EnvironmentFault(
            f"{path} cannot be written: {exc.strerror}", code="state.unwritable", path=str(path)
        ) from exc


def _load(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    try:
        found: Any = json.loads((state_path(environ) / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, EnvironmentFault):
        return {}
    if not isinstance(found, dict):
        return {}
    entries = cast("dict[str, Any]", found).items()
    return {key: cast("dict[str, Any]", value) for key, value in entries if isinstance(value, dict)}
