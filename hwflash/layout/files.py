"""Image files: raw, Intel HEX and Motorola S-record, read and written.

The text formats are in `hwflash.layout.records`.

Limits: 1 GiB a file.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

from hwflash.errors import EnvironmentFault, ImageError
from hwflash.layout.records import (
    ADDRESS_LIMIT,
    RecordFormat,
    Segment,
    ordered,
    parse_records,
    render_records,
)
from hwflash.units import Range, format_size

Format = Literal["raw", "ihex", "srec"]

SIZE_LIMIT = 1 << 30
_CHUNK = 1 << 20

_SUFFIXES: dict[str, RecordFormat] = {
    **dict.fromkeys((".hex", ".ihex", ".ihx", ".mcs"), "ihex"),
    **dict.fromkeys((".srec", ".s19", ".s28", ".s37", ".mot"), "srec"),
}
_FORMAT_NAMES: dict[RecordFormat, str] = {"ihex": "Intel HEX", "srec": "S-record"}
# A first line of this shape is taken for a record even if its checksum is wrong: a damaged
# HEX file must be refused, not be programmed as the text it is.
_LOOKS_LIKE: dict[RecordFormat, re.Pattern[bytes]] = {
    "ihex": re.compile(rb"\s*:[0-9A-Fa-f]{10,}[ \t]*(?:\r?\n|$)"),
    "srec": re.compile(rb"\s*S[0-9][0-9A-Fa-f]{8,}[ \t]*(?:\r?\n|$)"),
}
_BOM = b"\xef\xbb\xbf"


class ByteSource(Protocol):
    """What an image can be read from besides a path: a binary stream."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, ``b""`` at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Image:
    """The content of an image file.

    Attributes:
        segments: in address order, without overlaps, none empty, none touching the next.
        absolute: the addresses come from the file (HEX, S-record); a raw file has one
            segment at 0, which the caller places.
        format: what the file was read as.
        name: the file's name as given, ``-`` for a stream.
        sha256: of the file itself, in hex.
    """

    segments: tuple[Segment, ...]
    absolute: bool
    format: Format
    name: str
    sha256: str

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def __len__(self) -> int:
        return len(self.segments)

    @property
    def size(self) -> int:
        """Bytes of data, gaps not counted."""
        return sum(len(item.data) for item in self.segments)

    @property
    def range(self) -> Range:
        """From the first byte to the last, gaps included."""
        start = self.segments[0].address
        return Range(start, self.segments[-1].range.end - start)

    def flat(self, fill: int = 0xFF) -> bytes:
        """All bytes from the first to the last, gaps filled with ``fill``.

        Raises:
            ImageError: ``image.too-large``, the addresses lie more than 1 GiB apart.
        """
        return flatten(self.segments, fill, name=self.name)


def load_image(
    source: Path | ByteSource,
    *,
    format: Literal["auto"] | Format = "auto",  # noqa: A002 - the word users know
) -> Image:
    """Read an image file or stream.

    With ``auto`` the content decides: it is HEX or S-record if its first line has the shape
    of a record. A file whose name says HEX or S-record and whose content does not is refused.

    Raises:
        ImageError: ``image.empty`` no data, ``image.hex-syntax`` a bad record (``context``:
            ``file``, ``line``), ``image.overlap`` two records for one address,
            ``image.unreadable``, ``image.too-large``, ``image.changed`` the file was
            written to while it was read.
    """
    name = str(source) if isinstance(source, Path) else "-"
    content = _read_path(source) if isinstance(source, Path) else _read_stream(source, name)
    if not content:
        raise ImageError(f"{name} is empty", code="image.empty", file=name)
    body = content.removeprefix(_BOM)
    found = _detect(body, source) if format == "auto" else format
    if found == "raw":
        segments: tuple[Segment, ...] = (Segment(0, content),)
    else:
        segments = parse_records(body, found, name)
    if not segments:
        raise ImageError(f"{name} has records, but no data", code="image.empty", file=name)
    digest = hashlib.sha256(content).hexdigest()
    return Image(segments, found != "raw", found, name, digest)


def save_image(
    target: Path | IO[bytes],
    segments: Sequence[Segment],
    format: Literal["auto"] | Format = "auto",  # noqa: A002
) -> int:
    """Write segments to a file, atomically and synced to disk, or to a stream.

    Raw files start at the first segment's address, gaps are FF. With ``auto`` the file's
    suffix decides; a stream is raw.

    Args:
        target: a path, or a binary stream that stays open.
        segments: what to write; they must not overlap.
        format: the format of the file.

    Returns:
        Bytes written.

    Raises:
        ImageError: ``image.empty``, ``image.overlap``, ``image.too-large`` (also: an address
            beyond 32 bits in a format that cannot hold it).
        EnvironmentFault: ``environment.unwritable``, the file cannot be written; the old
            file, if any, is as it was.
    """
    path = target if isinstance(target, Path) else None
    content = _render(segments, format_for(path, format), str(path or "-"))
    try:
        if isinstance(target, Path):
            write_atomically(target, content)
        else:
            target.write(content)
            target.flush()
    except OSError as error:
        raise EnvironmentFault(
            f"{path or 'the output'} cannot be written: {error.strerror or error}",
            code="environment.unwritable",
            file=str(path or "-"),
            errno=error.errno,
        ) from error
    return len(content)


def format_for(path: Path | None, wanted: Literal["auto"] | Format = "auto") -> Format:
    """The format a file is written in: the wanted one, or what its suffix says."""
    if wanted != "auto":
        return wanted
    return _SUFFIXES.get(path.suffix.lower(), "raw") if path else "raw"


def flatten(segments: Sequence[Segment], fill: int = 0xFF, *, name: str = "-") -> bytes:
    """Join segments into one run of bytes from the lowest address, gaps filled with ``fill``.

    Raises:
        ImageError: ``image.empty``, ``image.overlap`` or ``image.too-large``.
    """
    found = ordered(segments, name)
    start = found[0].address
    span = found[-1].range.end - start
    if span > SIZE_LIMIT:
        raise _too_large(name, span)
    out = bytearray([fill]) * span
    for item in found:
        out[item.address - start : item.range.end - start] = item.data
    return bytes(out)


# --- reading ------------------------------------------------------------------------------


def _read_stream(stream: ByteSource, name: str) -> bytes:
    parts = bytearray()
    try:
        while chunk := stream.read(_CHUNK):
            parts += chunk
            if len(parts) > SIZE_LIMIT:
                raise _too_large(name, len(parts))
    except OSError as error:
        raise _unreadable(name, error) from error
    return bytes(parts)


def _read_path(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            before = os.fstat(stream.fileno())
            if not stat.S_ISREG(before.st_mode):  # a pipe from a shell: cannot be read twice
                return _read_stream(stream, str(path))
            if before.st_size > SIZE_LIMIT:
                raise _too_large(str(path), before.st_size)
            content = _read_stream(stream, str(path))
            stream.seek(0)
            again = hashlib.file_digest(stream, "sha256").digest()  # type: ignore[arg-type]
            after = os.stat(path)  # noqa: PTH116 - the name may mean another file by now
    except OSError as error:
        raise _unreadable(str(path), error) from error
    same = _identity(before) == _identity(after) and len(content) == before.st_size
    if not same or again != hashlib.sha256(content).digest():
        raise ImageError(f"{path} changed while it was read", code="image.changed", file=str(path))
    return content


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _detect(body: bytes, source: Path | ByteSource) -> Format:
    for name, pattern in _LOOKS_LIKE.items():
        if pattern.match(body[:4096]):
            return name
    if isinstance(source, Path) and (named := _SUFFIXES.get(source.suffix.lower())):
        raise ImageError(
            f"{source} is named like an {_FORMAT_NAMES[named]} file, but does not start "
            "with a record",
            code="image.hex-syntax",
            file=str(source),
            line=1,
            format=named,
        )
    return "raw"


# --- writing ------------------------------------------------------------------------------


def _render(segments: Sequence[Segment], kind: Format, name: str) -> bytes:
    if kind == "raw":
        return flatten(segments, name=name)
    found = ordered(segments, name)
    if found[-1].range.end > ADDRESS_LIMIT or sum(len(item.data) for item in found) > SIZE_LIMIT:
        raise _too_large(name, found[-1].range.end)
    return render_records(found, kind)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is whole after a crash: beside, flushed, renamed."""
    path = path.resolve()  # a link stays a link, its target is replaced
    mode, found = 0o666, None
    with suppress(FileNotFoundError):
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # /dev/stdout, a named pipe: nothing to replace
            path.write_bytes(content)
            return
        mode = stat.S_IMODE(found.st_mode)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if found is not None:  # its group and mode may be what lets another program use it
                with suppress(PermissionError):
                    os.fchown(descriptor, found.st_uid, found.st_gid)
                os.fchmod(descriptor, mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a new file is not there before."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- errors -------------------------------------------------------------------------------


def _too_large(name: str, size: int) -> ImageError:
    return ImageError(
        f"{name} is larger than {format_size(SIZE_LIMIT)}",
        code="image.too-large",
        file=name,
        size=size,
        limit=SIZE_LIMIT,
    )


def _unreadable(name: str, error: OSError) -> ImageError:
    return ImageError(
        f"{name} cannot be read: {error.strerror or error}",
        code="image.unreadable",
        file=name,
        errno=error.errno,
    )
