"""Files that a gang's processes share: read and hashed once, in memory once.

The parent puts all of them into one anonymous file in memory (memfd), seals it so that nobody can
write to it any more, and lets the workers inherit it. A worker maps it, and checks the hash of
what it takes. The kernel frees it when the last process that holds it has ended, however it
ended; nothing is left in a file system.

Limits: Linux. A worker's own plan holds a copy of what belongs on its chip.

Ref: memfd_create(2), fcntl(2) "File Sealing".
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from hwflash.errors import EnvironmentFault
from hwflash.layout.files import Format, Image, Segment

K = TypeVar("K")
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Blob:
    """Where some bytes lie in the pool, and their SHA-256 in hex."""

    offset: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SharedImage:
    """An image whose bytes are in the pool; see `hwflash.layout.files.Image`."""

    segments: tuple[tuple[int, Blob], ...]
    absolute: bool
    format: Format
    name: str
    sha256: str


class Pool:
    """What the parent makes. Use it as a context manager.

    Raises:
        EnvironmentFault: the kernel gives no memory (``gang.memory``).
    """

    def __init__(self) -> None:
        try:
            self.descriptor = os.memfd_create("hwflash", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise _no_memory(error) from error
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.descriptor)

    @property
    def length(self) -> int:
        """Bytes in it."""
        return self._length

    def add(self, data: bytes) -> Blob:
        """Put bytes into the pool.

        Raises:
            EnvironmentFault: there is no memory for them (``gang.memory``).
        """
        found = Blob(self._length, len(data), hashlib.sha256(data).hexdigest())
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[
                    os.pwrite(self.descriptor, rest, self._length + len(data) - len(rest)) :
                ]
        except OSError as error:
            raise _no_memory(error) from error
        self._length += len(data)
        return found

    def add_image(self, image: Image) -> SharedImage:
        """Put an image into the pool."""
        segments = tuple((item.address, self.add(item.data)) for item in image)
        return SharedImage(segments, image.absolute, image.format, image.name, image.sha256)

    def seal(self) -> None:
        """Nobody can write to it any more, this process included."""
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)


class PoolView:
    """What a worker sees of the pool.

    Args:
        descriptor: of the sealed file.
    """

    def __init__(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        self._map = mmap.mmap(descriptor, size, prot=mmap.PROT_READ) if size else None

    def bytes_of(self, blob: Blob) -> bytes:
        """A copy of some bytes, whose hash was checked.

        Raises:
            EnvironmentFault: they are not what the parent put there (``gang.image``).
        """
        data = self._map[blob.offset : blob.offset + blob.length] if self._map is not None else b""
        found = hashlib.sha256(data).hexdigest()
        if found != blob.sha256:
            raise EnvironmentFault(
                "the shared image is not what was read", code="gang.image", sha256=found,
                expected=blob.sha256,
            )  # fmt: skip
        return data

    def image(self, shared: SharedImage) -> Image:
        """An image of the pool.

        Raises:
            EnvironmentFault: see `bytes_of`.
        """
        segments = tuple(Segment(at, self.bytes_of(blob)) for at, blob in shared.segments)
        return Image(segments, shared.absolute, shared.format, shared.name, shared.sha256)

    def images(self, shared: Mapping[K, SharedImage]) -> Mapping[K, Image]:
        """Images of the pool by their names; each is taken when it is asked for."""
        return _Taken(shared, self.image)

    def blobs(self, shared: Mapping[K, Blob]) -> Mapping[K, bytes]:
        """The same of bytes."""
        return _Taken(shared, self.bytes_of)


class _Taken(Mapping[K, T]):
    """Things of the pool, copied out of it for no longer than they are needed."""

    def __init__(self, shared: Mapping[K, S], take: Callable[[S], T]) -> None:
        self._shared: Mapping[K, Any] = shared
        self._take: Callable[[Any], T] = take

    def __getitem__(self, key: K) -> T:
        return self._take(self._shared[key])

    def __iter__(self) -> Iterator[K]:
        return iter(self._shared)

    def __len__(self) -> int:
        return len(self._shared)


def _no_memory(error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"there is no memory for the image: {error.strerror}", code="gang.memory",
        errno=error.errno,
    )  # fmt: skip
