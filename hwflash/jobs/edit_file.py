"""Replacing an image file by a changed one: not while somebody else holds it, never half."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from hwflash.errors import EnvironmentFault, ImageError, Interrupted, UsageError
from hwflash.flash.plan import Plan, Step, content_hash
from hwflash.jobs.prepare import WriteOptions
from hwflash.jobs.remember import Facts, file_entry, record
from hwflash.jobs.source import FileSource
from hwflash.layout.files import Segment, load_image, save_image, write_atomically
from hwflash.progress import Reporter
from hwflash.uefi.window import Window
from hwflash.units import Range

#: struct flock: l_type, l_whence, l_start, l_len, l_pid (Linux, 64 bit).
_FLOCK: Final = "hhqqi4x"


def names_same_file(name: str, other: Path) -> bool:
    """Whether two names mean one file."""
    try:
        return name != "-" and Path(name).samefile(other)
    except OSError:
        return False


def write_other(source: FileSource, new: Window, output: Path) -> None:
    """Write the changed image to another file, in the format its name says.

    Raises:
        UsageError: the output is no file name (``usage.output``).
        EnvironmentFault: it cannot be written.
    """
    if str(output) == "-":
        raise UsageError("--output wants the name of a file", code="usage.output")
    save_image(output, [_changed(segment, new) for segment in source.image], "auto")


def replace_file(
    source: FileSource, new: Window, options: WriteOptions, plan: Plan, reporter: Reporter
) -> Path:
    """Replace an image file by one with changed content, in the format it had.

    Args:
        source: the file as it was read.
        new: what changed, and where.
        options: whom to ask, where backups go.
        plan: what the question is about.
        reporter: is told of the backup.

    Returns:
        The backup of the file as it was.

    Raises:
        UsageError: the image is no regular file, and there is no output (``usage.output``).
        EnvironmentFault: somebody holds the file (``environment.file-busy``), or file or
            backup cannot be written.
        ImageError: the file changed since it was read (``image.changed``).
        Interrupted: not confirmed.
    """
    path = Path(source.name)
    if source.name == "-" or not path.is_file():
        raise UsageError(
            f"{source.name} is no file that could be replaced; it needs --output",
            code="usage.output",
        )
    if options.confirm is not None and not options.confirm(plan):
        raise Interrupted("not confirmed", code="interrupted.declined")
    with _held(path):
        if load_image(path, format=source.image.format).sha256 != source.image.sha256:
            raise ImageError(
                f"{path} was changed by somebody else since it was read",
                code="image.changed",
                file=str(path),
            )
        backup = _back_up(path, options)
        reporter.info(f"backup: {backup}", backup=str(backup))
        segments = [_changed(segment, new) for segment in source.image]
        save_image(path, segments, source.image.format)
    return backup


def change_file(
    source: FileSource,
    new: Window,
    places: Sequence[Range],
    options: WriteOptions,
    facts: Facts,
    output: Path | None,
    reporter: Reporter,
) -> Path | None:
    """Put changed parts of an image into its file, or into another one.

    Args:
        source: the file as it was read.
        new: its new content, around what changes at least.
        places: what changes.
        options: whom to ask, where backups and the history are.
        facts: for the history.
        output: where the result goes; None: it replaces the file.
        reporter: is told of the backup.

    Returns:
        The backup of the file as it was, where it was replaced.

    Raises:
        UsageError, EnvironmentFault, ImageError, Interrupted: see `replace_file` and
            `write_other`.
    """
    began, backup = time.time(), None
    plan = Plan(
        part=source.name, size=source.ranges[-1].end, windows=tuple(places),
        steps=tuple(Step("program", place, 0.0) for place in places),
        sha256=content_hash([new.at(place.address, place.length) for place in places]),
    )  # fmt: skip
    if output is not None and not names_same_file(source.name, output):
        if output.exists() and options.confirm is not None and not options.confirm(plan):
            raise Interrupted("not confirmed", code="interrupted.declined")
        write_other(source, new, output)
    else:
        backup = replace_file(source, new, options, plan, reporter)
        output = None
    remember_file(source, output, backup, options, facts, began, reporter)
    return backup


def remember_file(
    source: FileSource,
    output: Path | None,
    backup: Path | None,
    options: WriteOptions,
    facts: Facts,
    began: float,
    reporter: Reporter,
) -> int | None:
    """Record a change of an image file in the history.

    Args:
        source: the file as it was.
        output: where the result went, or None when it replaced the file.
        backup: of the file as it was, or None.
        options: where the history is.
        facts: what was changed.
        began: when, as of `time.time`.
        reporter: is warned when it cannot be recorded.

    Returns:
        The number of the entry, or None when it could not be recorded.
    """
    details = {**facts.details, "source": source.name, "source_sha256": source.image.sha256}
    facts = replace(facts, details=details, backup_sha256=source.image.sha256 if backup else None)
    board = source.board.name if source.board is not None else None
    entry = file_entry(output or Path(source.name), board, facts, began)
    entry = replace(entry, backup=str(backup) if backup is not None else None)
    return record(options.state, entry, reporter)


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


@contextmanager
def _held(path: Path) -> Generator[None]:
    """Hold a file while it is replaced; another hwflash waits, and then finds it changed.

    Raises:
        EnvironmentFault: another program has locked it, as QEMU locks its images: it would go
            on with the old file, and lose what it writes (``environment.file-busy``).
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise EnvironmentFault(
            f"{path} cannot be written: {error.strerror or error}",
            code="environment.unwritable",
            file=str(path),
            errno=error.errno,
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _require_idle(path, descriptor)
        yield
    finally:
        os.close(descriptor)


def _require_idle(path: Path, descriptor: int) -> None:
    """Ref: QEMU block/file-posix.c, which holds locks on bytes from 100 on."""
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))
    except OSError:
        return  # a file system without locks: nobody can hold one
    if answer[0] != fcntl.F_UNLCK:
        holder = f" (process {answer[4]})" if answer[4] > 0 else ""
        raise EnvironmentFault(
            f"{path} is in use by another program{holder}, such as a running QEMU",
            code="environment.file-busy",
            file=str(path),
            pid=answer[4] if answer[4] > 0 else None,
        )
