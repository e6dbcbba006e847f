"""Variables of a store as a file, and files of variables as a side of a comparison."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.layout.files import write_atomically
from hwflash.uefi.exchange import SIZE_LIMIT, Variable, import_json
from hwflash.uefi.find import Found
from hwflash.uefi.store import VariableStore

ExchangeFormat = Literal["hwflash", "virt-firmware"]


def store_of(found: Found) -> VariableStore:
    """The variable store.

    Raises:
        ImageError: its header is not there (``uefi.no-store``).
    """
    if found.store is None:
        raise ImageError(
            f"the volume at 0x{found.base:06X} has no variable store header",
            code="uefi.no-store",
            offset=found.base,
        )
    return found.store


def save_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        EnvironmentFault: it cannot be written (``environment.unwritable``).
    """
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be written: {error.strerror or error}",
            code="environment.unwritable",
            file=str(path),
            errno=error.errno,
        ) from error


def load_variables(path: Path) -> list[Variable]:
    """Variables of a JSON file (``-`` is stdin), ours or virt-firmware's.

    Raises:
        EnvironmentFault: it cannot be read (``environment.unreadable``).
        ImageError: it is not of this kind (``uefi.exchange``).
    """
    try:
        if str(path) == "-" and sys.stdin is not None:  # pyright: ignore[reportUnnecessaryComparison]
            return import_json(sys.stdin.buffer.read(SIZE_LIMIT + 1))
        with path.open("rb") as stream:
            return import_json(stream.read(SIZE_LIMIT + 1))
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be read: {error.strerror or error}",
            code="environment.unreadable",
            file=str(path),
            errno=error.errno,
        ) from error


def is_exported(text: str) -> bool:
    """Whether a SOURCE is a file of exported variables, and not an image."""
    try:
        with Path(text).open("rb") as stream:
            return stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    except OSError:
        return False
