"""Data files shipped with hwflash: board definitions and udev files.

In an installed package they lie beside the code (``hwflash/_boards``, ``hwflash/_udev``); in
a checkout, where nothing copies them, in ``boards/`` and ``udev/`` next to the package.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from hwflash.errors import EnvironmentFault

Kind = Literal["boards", "udev"]


def data_dir(kind: Kind, /, *, package: Traversable | None = None) -> Traversable:
    """The folder with the shipped files of one kind.

    Args:
        kind: which folder.
        package: the package folder to look in, hwflash's own when None.

    Raises:
        EnvironmentFault: ``environment.data-missing``, the installation is incomplete.
    """
    root = files("hwflash") if package is None else package
    installed = root / f"_{kind}"
    if installed.is_dir():
        return installed
    if isinstance(root, Path) and (checkout := root.parent / kind).is_dir():
        return checkout
    raise EnvironmentFault(
        f"hwflash is installed without its {kind} folder",
        code="environment.data-missing",
        folder=str(installed),
    )


def data_files(kind: Kind, suffix: str = "", /) -> dict[str, Traversable]:
    """The shipped files of one kind whose name ends in ``suffix``, by name, sorted."""
    found = [item for item in data_dir(kind).iterdir() if item.name.endswith(suffix)]
    return {item.name: item for item in sorted(found, key=lambda item: item.name)}
