"""Paths: completion while one is typed, and what a folder holds."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from textual.suggester import Suggester

#: Entries of a folder that are listed.
MOST: Final = 2000


def typed_path(text: str) -> Path | None:
    """The path that was typed, with ``~`` expanded where there is such a person; None for none."""
    if not text:
        return None
    try:
        return Path(text).expanduser()
    except RuntimeError:  # nobody is called that, perhaps not yet: somebody is typing
        return Path(text)


class PathSuggester(Suggester):
    """Completes a path; the right arrow takes it."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """The first entry of the folder that begins as the text ends."""
        head, _, tail = value.rpartition("/")
        if not tail:
            return None
        folder = typed_path(f"{head}/" if value.startswith("/") or head else ".")
        with suppress(OSError):  # somebody is typing: it need not be there yet
            for entry in folder_entries(folder or Path()):
                if entry.path.name.startswith(tail):
                    return value + entry.path.name[len(tail) :] + ("/" if entry.folder else "")
        return None


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of a folder."""

    path: Path
    folder: bool
    size: int


def folder_entries(folder: Path) -> list[Item]:
    """What a folder holds: folders first, then files, by name; hidden ones are left out.

    Raises:
        OSError: the folder is not there, or cannot be read.
    """
    found: list[Item] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or len(found) >= MOST:
                continue
            try:
                is_folder = entry.is_dir()
                size = 0 if is_folder else entry.stat().st_size
            except OSError:
                continue
            found.append(Item(Path(entry.path), is_folder, size))
    return sorted(found, key=lambda item: (not item.folder, item.path.name.lower()))
