"""Replacing an image file by a changed one: not while somebody else holds it, never half."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hwflash.errors import EnvironmentFault, ImageError, Interrupted, UsageError
from hwflash.flash.plan import Plan
from hwflash.jobs.prepare import WriteOptions
from hwflash.jobs.source import FileSource
from hwflash.layout.files import Segment, load_image, save_image, write_atomically
from hwflash.progress import Reporter
from hwflash.uefi.window import Window

#: struct flock: l_type, l_whence, l_start, l_len, l_pid (Linux, 64 bit).
_FLOCK: Final = "hhqqi4x"


def replace_file(
    source: FileSource,
    new: Window,
    output: Path | None,
    options: WriteOptions,
    confirm: Callable[[Plan], bool] | None,
    plan: Plan,
    reporter: Reporter,
) -> Path | None:
    """Write an image with changed content, in the format it had.

    Args:
        source: the file as it was read.
        new: what changed, and where.
        output: where to; None replaces the file itself.
        options: where backups go.
        confirm: asked before the file is replaced; None asks nobody.
        plan: what the question is about.
        reporter: is told of the backup.

    Returns:
        The backup of the file that was replaced; None when another file was written.

    Raises:
        UsageError: the image came from stdin and there is no output (``usage.output``).
        EnvironmentFault: somebody holds the file (``environment.file-busy``), or file or
            backup cannot be written.
        ImageError: the file changed since it was read (``image.changed``).
        Interrupted: not confirmed.
    """
    segments = [_changed(segment, new) for segment in source.image]
    if output is not None:
        save_image(output, segments, source.image.format)
        return None
    if source.name == "-":
        raise UsageError("an image from stdin needs --output", code="usage.output")
    path = Path(source.name)
    if confirm is not None and not confirm(plan):
        raise Interrupted("not confirmed", code="interrupted.declined")
    _require_idle(path)
    if load_image(path, format=source.image.format).sha256 != source.image.sha256:
        raise ImageError(
            f"{path} was changed by somebody else since it was read",
            code="image.changed",
            file=str(path),
        )
    backup = _back_up(path, options)
    reporter.info(f"backup: {backup}", backup=str(backup))
    save_image(path, segments, source.image.format)
    return backup


def _changed(segment: Segment, new: Window) -> Segment:
    """A segment with the part of it that the window covers replaced."""
    start = max(segment.address, new.base)
    end = min(segment.range.end, new.end)
    if start >= end:
        return segment
    data = bytearray(segment.data)
    data[start - segment.address : end - segment.address] = new.at(start, end - start)
    return Segment(segment.address, bytes(data))


def _back_up(path: Path, options: WriteOptions) -> Path:
    """A copy of the file, named by its content, on the disk."""
    content = path.read_bytes()
    folder = options.backup_folder or options.state / "backups"
    digest = hashlib.sha256(content).hexdigest()[:16]
    backup = folder / f"{path.stem}-{digest}{path.suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (backup.exists() and backup.read_bytes() == content):
            write_atomically(backup, content)
    except OSError as error:
        raise EnvironmentFault(
            f"the backup {backup} cannot be written: {error.strerror or error}",
            code="backup.unwritable",
            path=str(backup),
        ) from error
    return backup


def _require_idle(path: Path) -> None:
    """Refuse a file that another process has locked, as QEMU locks its images.

    It would go on with the old file, and lose what it writes. Ref: QEMU block/file-posix.c,
    which holds locks on bytes from 100 on.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be written: {error.strerror or error}",
            code="environment.unwritable",
            file=str(path),
            errno=error.errno,
        ) from error
    try:
        wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))
    except OSError:
        return  # a file system without locks: nobody can hold one
    finally:
        os.close(descriptor)
    if answer[0] != fcntl.F_UNLCK:
        holder = f" (process {answer[4]})" if answer[4] > 0 else ""
        raise EnvironmentFault(
            f"{path} is in use by another program{holder}, such as a running QEMU",
            code="environment.file-busy",
            file=str(path),
            pid=answer[4] if answer[4] > 0 else None,
        )
