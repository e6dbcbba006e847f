"""Backups: what a chip held before it was changed, on disk, before anything is changed.

A backup is a raw file with a JSON file of the same name beside it that says from which chip and
which addresses it is. Both are named by what that file says, the hash of the content included:
equal content of two boards, or of other addresses, makes another backup.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.layout.files import write_atomically
from hwflash.units import Range

VERSION = 1


@dataclass(frozen=True, slots=True)
class Backup:
    """A stored backup.

    Attributes:
        path: the raw file.
        jedec_id: id of the chip in hex.
        unique_id: its unique id in hex, or None.
        size: size of the chip in bytes.
        pieces: what it holds: chip ranges, in the order in which they stand in the file.
        sha256: hash of the file.
    """

    path: Path
    jedec_id: str
    unique_id: str | None
    size: int
    pieces: tuple[Range, ...]
    sha256: str

    def contents(self) -> list[tuple[Range, bytes]]:
        """The pieces with their bytes.

        Raises:
            ImageError: the file is missing, no longer what was backed up, or not as long as
            the pieces.
        """
        try:
            data = self.path.read_bytes()
        except OSError as exc:
            raise ImageError(
                f"backup {self.path} cannot be read: {exc.strerror}",
                code="backup.unreadable",
                path=str(self.path),
            ) from exc
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ImageError(
                f"backup {self.path} is not what was backed up: its SHA-256 differs",
                code="backup.damaged",
                path=str(self.path),
                sha256=self.sha256,
            )
        found: list[tuple[Range, bytes]] = []
        offset = 0
        for piece in self.pieces:
            found.append((piece, data[offset : offset + piece.length]))
            offset += piece.length
        if offset != len(data):
            raise ImageError(
                f"backup {self.path} has {len(data)} bytes, its pieces have {offset}",
                code="backup.damaged",
                path=str(self.path),
            )
        return found


def save(
    folder: Path,
    pieces: Sequence[tuple[int, bytes]],
    *,
    jedec_id: str,
    unique_id: str | None,
    part: str,
    size: int,
) -> Backup:
    """Write a backup and make sure it is on the disk.

    Args:
        folder: where; made if it does not exist.
        pieces: (address, content) in order of address.
        jedec_id: id of the chip in hex.
        unique_id: its unique id in hex, or None.
        part: name of the chip.
        size: size of the chip in bytes.

    Raises:
        EnvironmentFault: it cannot be written (``backup.unwritable``).
    """
    data = b"".join(content for _, content in pieces)
    digest = hashlib.sha256(data).hexdigest()
    start = pieces[0][0] if pieces else 0
    ranges = tuple(Range(address, len(content)) for address, content in pieces)
    description = {
        "v": VERSION,
        "jedec_id": jedec_id,
        "unique_id": unique_id,
        "part": part,
        "size": size,
        "sha256": digest,
        "pieces": [{"address": piece.address, "length": piece.length} for piece in ranges],
    }
    described = (json.dumps(description, indent=1) + "\n").encode()
    label = re.sub(r"[^a-z0-9.+-]+", "-", part.lower())
    path = folder / f"{label}-{start:08x}-{hashlib.sha256(described).hexdigest()[:16]}.bin"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, data)
        write_atomically(path.with_suffix(".json"), described)
    except OSError as exc:
        raise EnvironmentFault(
            f"the backup cannot be written to {folder}: {exc.strerror}",
            code="backup.unwritable",
            path=str(folder),
        ) from exc
    return Backup(path, jedec_id, unique_id, size, ranges, digest)


def load(path: Path) -> Backup:
    """A stored backup by the name of its raw file.

    Raises:
        ImageError: it is missing, not a backup, or damaged.
    """
    describing = path.with_suffix(".json")
    try:
        found: Any = json.loads(describing.read_text(encoding="utf-8"))
        pieces = tuple(
            Range(int(item["address"]), int(item["length"]))
            for item in cast("list[dict[str, Any]]", found["pieces"])
        )
        backup = Backup(
            path,
            str(found["jedec_id"]),
            None if found["unique_id"] is None else str(found["unique_id"]),
            int(found["size"]),
            pieces,
            str(found["sha256"]),
        )
    except OSError as exc:
        raise ImageError(
            f"{path} is not a backup: {describing} cannot be read: {exc.strerror}",
            code="backup.unreadable",
            path=str(path),
        ) from exc
    except (ValueError, KeyError, TypeError, OverflowError) as exc:
        raise ImageError(
            f"{describing} does not describe a backup", code="backup.damaged", path=str(path)
        ) from exc
    _check(backup)
    return backup


def _check(backup: Backup) -> None:
    end = 0
    for piece in backup.pieces:
        if piece.address < end or piece.length <= 0 or piece.end > backup.size:
            raise ImageError(
                f"{backup.path} describes impossible ranges",
                code="backup.damaged",
                path=str(backup.path),
            )
        end = piece.end
    backup.contents()
