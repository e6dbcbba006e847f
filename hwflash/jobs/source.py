"""A SOURCE: an image file, a programmer URL, or ``board:NAME``.

What only looks opens a source through here, so that a chip and a dump of it are the same thing.
A file is there at once; of a chip, only what is asked for is read. What talks to programmers is
loaded when a chip is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

from hwflash.layout.files import Image
from hwflash.progress import CancelToken, Progress, Reporter
from hwflash.units import Range

if TYPE_CHECKING:
    from hwflash.boards import Board
    from hwflash.jobs.opening import Request
    from hwflash.jobs.session import Session

BOARD: Final = "board:"
#: Short reads sent in one batch.
PROBE_BATCH: Final = 512

Kind = Literal["file", "board", "programmer"]


class Source(Protocol):
    """Something whose bytes can be looked at.

    Attributes:
        name: how messages call it.
        board: the board it belongs to, or None.
        ranges: the bytes there are; a HEX file may have gaps.
        whole: everything can be had at no cost.
    """

    name: str
    board: Board | None
    ranges: tuple[Range, ...]
    whole: bool

    def read(
        self, targets: Sequence[Range], reporter: Reporter, cancel: CancelToken
    ) -> list[bytes]:
        """The content of ranges, each inside one of ``ranges``."""
        ...

    def sample(
        self, addresses: Sequence[int], length: int, reporter: Reporter, cancel: CancelToken
    ) -> list[bytes]:
        """``length`` bytes at each address: many short reads, as cheaply as can be."""
        ...


@dataclass(slots=True)
class FileSource:
    """An image file."""

    name: str
    image: Image
    board: Board | None
    ranges: tuple[Range, ...]
    whole: bool = True

    def read(
        self, targets: Sequence[Range], reporter: Reporter, cancel: CancelToken
    ) -> list[bytes]:
        """Slices of the file."""
        return [self._slice(target.address, target.length) for target in targets]

    def sample(
        self, addresses: Sequence[int], length: int, reporter: Reporter, cancel: CancelToken
    ) -> list[bytes]:
        """Slices of the file."""
        return [self._slice(address, length) for address in addresses]

    def _slice(self, address: int, length: int) -> bytes:
        for segment in self.image:
            if segment.range.address <= address < segment.range.end:
                start = address - segment.address
                return segment.data[start : start + length]
        return b""


@dataclass(slots=True)
class ChipSource:
    """A chip behind a programmer."""

    name: str
    session: Session
    board: Board | None
    ranges: tuple[Range, ...]
    whole: bool = False

    def read(
        self, targets: Sequence[Range], reporter: Reporter, cancel: CancelToken
    ) -> list[bytes]:
        """Read from the chip."""
        from hwflash.flash.execute import read_ranges

        return read_ranges(
            self.session.flash, targets, phase="read", reporter=reporter, cancel=cancel
        )

    def sample(
        self, addresses: Sequence[int], length: int, reporter: Reporter, cancel: CancelToken
    ) -> list[bytes]:
        """Short reads, gathered into batches."""
        found: list[bytes] = []
        for start in range(0, len(addresses), PROBE_BATCH):
            cancel.check()
            batch = addresses[start : start + PROBE_BATCH]
            found += self.session.flash.read_pieces([Range(at, length) for at in batch])
            done, total = len(found) * length, len(addresses) * length
            reporter.progress(Progress("search", done, total, batch[-1]))
        return found


def kind_of(text: str) -> Kind:
    """What a SOURCE means. A file of that name wins over a programmer."""
    if text.startswith(BOARD):
        return "board"
    if text == "-" or Path(text).exists():
        return "file"
    from hwflash.bus.url import RECORD, SCHEMES

    scheme, colon, _ = text.removeprefix(RECORD).partition(":")
    return "programmer" if colon and scheme in SCHEMES else "file"


@contextmanager
def open_source(
    text: str,
    board: Board | None,
    request: Callable[[], Request],
    reporter: Reporter,
    load: Callable[[Path], Image],
) -> Generator[Source]:
    """Open a SOURCE; a chip is released at the end.

    Args:
        text: image file, programmer URL, or ``board:NAME``.
        board: the board the user named, or None; ``board:NAME`` names its own.
        request: makes what else is known of programmer and chip, for a source that is no file;
            its programmer and board are not used.
        reporter: is told what is odd about the chip.
        load: reads an image file.

    Raises:
        ImageError: the file is not usable.
        UsageError: no such board, or a bad URL.
        ProgrammerError, ChipError: see `hwflash.jobs.session.open_session`.
    """
    kind = kind_of(text)
    if kind == "file":
        image = load(Path(text))
        spans = tuple(segment.range for segment in image)
        yield FileSource(text, image, board, spans)
        return
    from hwflash.boards import load_board
    from hwflash.jobs.session import open_session

    wanted = request()
    if kind == "board":
        board = load_board(text.removeprefix(BOARD), wanted.environ)
    programmer = text if kind == "programmer" else None
    with open_session(replace(wanted, programmer=programmer, board=board), reporter) as session:
        spans = (Range(0, session.chip.size),)
        yield ChipSource(session.programmer.name, session, session.board, spans)
