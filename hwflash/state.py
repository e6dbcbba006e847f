"""Where hwflash keeps what outlives a run: backups, journals, history.

``HWFLASH_STATE_DIR``, else ``$XDG_STATE_HOME/hwflash``, else ``~/.local/state/hwflash``.

Ref: XDG Base Directory Specification 0.8.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hwflash.errors import EnvironmentFault


def state_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The state directory, whether it exists or not.

    Raises:
        EnvironmentFault: ``state.unwritable``, nothing says where it should be.
    """
    if own := environ.get("HWFLASH_STATE_DIR"):
        return Path(own).absolute()
    base = environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):  # the specification tells to ignore relative paths
        return Path(base) / "hwflash"
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        raise EnvironmentFault(
            "there is no home directory to keep backups and journals in",
            code="state.unwritable",
            home=home,
        )
    return Path(home) / ".local" / "state" / "hwflash"


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The state directory, made if need be, readable by its owner only (mode 0700).

    A directory that exists keeps its mode: a bench may share one on purpose.

    Raises:
        EnvironmentFault: ``state.unwritable``, it cannot be made or written to.
    """
    path = state_path(environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"the state directory {path} cannot be made: {error.strerror or error}",
            code="state.unwritable",
            path=str(path),
            errno=error.errno,
        ) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise EnvironmentFault(
            f"the state directory {path} cannot be written to",
            code="state.unwritable",
            path=str(path),
        )
    return path
