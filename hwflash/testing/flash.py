"""The flash of the board: read, write, verify, erase, and transactions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwflash.errors import UsageError
from hwflash.testing.programmer import BenchProgrammer
from hwflash.testing.transaction import Transaction

if TYPE_CHECKING:
    from hwflash.chip.model import Chip
    from hwflash.compare.sides import Side
    from hwflash.jobs.selection import Selection
    from hwflash.jobs.write import WriteOptions, WriteResult
    from hwflash.layout.files import Image

    #: An image: its content, its file, or what `hwflash.layout.files.load_image` has read.
    Content = bytes | bytearray | str | Path | Image


class BenchFlash:
    """The flash of the board.

    Places are given as the commands take them: ``at`` an address, ``length`` bytes (sizes may be
    text such as ``"64K"``), or regions of the board by name; nothing means the whole chip.

    Args:
        programmer: the programmer of the run.
        until: registers what is to be done when the present test or fixture ends.
    """

    def __init__(
        self,
        programmer: BenchProgrammer,
        until: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:
        self.programmer = programmer
        self._until = until

    @property
    def chip(self) -> Chip:
        """What the chip is."""
        return self.programmer.session().chip

    @property
    def size(self) -> int:
        """Bytes of the chip."""
        return self.chip.size

    def read(
        self,
        at: int | str | None = None,
        length: int | str | None = None,
        *,
        region: str | None = None,
        repeat: int = 1,
    ) -> bytes:
        """What the chip holds.

        Args:
            at: address of the first byte.
            length: bytes; default: up to the end.
            region: of the board, instead of both.
            repeat: read so many times; reads that disagree are an error.

        Raises:
            UsageError: outside the chip, no such region, or no number.
            BusUnstable: reads disagree at the slowest clock too (``chip.unstable-read``).
        """
        from hwflash.errors import BusUnstable
        from hwflash.jobs.read import read
        from hwflash.jobs.selection import ranges

        if _number(repeat) < 1:
            raise UsageError(f"a chip is not read {repeat} times", code="usage.repeat")
        chosen = _selection(at, length, _names(region))
        with self.programmer.working() as (session, cancel):
            places = [part.range for part in ranges(chosen, session.chip.size, session.region)]
            found = read(session, places, self.programmer.reporter, cancel, repeat)
            if found.disagreements:
                raise BusUnstable(
                    f"{repeat} reads disagree, first at 0x{found.disagreements[0].address:06X}",
                    code="chip.unstable-read", address=found.disagreements[0].address,
                )  # fmt: skip
        self.programmer.record.read.append(found.sha256)
        return b"".join(data for _, data in found.pieces)

    def write(
        self,
        image: Content,
        *,
        at: int | str | None = None,
        region: str | Sequence[str] | None = None,
        verify: str = "touched",
    ) -> WriteResult:
        """Bring an image onto the chip and verify it; what lies around it stays.

        Args:
            image: bytes, a file (raw, Intel HEX, S-record) or a loaded image.
            at: address of its first byte.
            region: regions of the board that are written from it; naming a protected one
                unlocks it.
            verify: ``touched``, or ``full``: read back all that the image covers.

        Raises:
            ImageError: it does not fit.
            ChipProtected: the chip refuses.
            ChipStateUnknown: it stopped half way; ``context`` has ``backup`` and ``resume``.
        """
        from hwflash.jobs.selection import segments
        from hwflash.jobs.write import write
        from hwflash.layout.files import load_image

        if verify not in ("touched", "full"):
            raise UsageError(f"verify is touched or full, not {verify!r}")
        chosen = _selection(at, None, _names(region))
        loaded = load(image)
        with self.programmer.working() as (session, cancel):
            targets = segments(chosen, loaded, load_image, session.chip.size, session.region)
            options = replace(self.options("write"), named_regions=chosen.named)
            options = replace(options, verify_full=verify == "full")
            result = write(session, targets, options, self.programmer.reporter, cancel)
        self._wrote(result)
        return result

    def erase(
        self,
        at: int | str | None = None,
        length: int | str | None = None,
        *,
        region: str | Sequence[str] | None = None,
    ) -> WriteResult:
        """Erase to FF; what lies around it stays, also within an erase block.

        Raises:
            UsageError: an address without a length, outside the chip, or no such region.
        """
        from hwflash.jobs.selection import ranges
        from hwflash.jobs.write import write
        from hwflash.layout.files import Segment

        if at is not None and length is None:
            raise UsageError("erase needs a length", code="usage.selection")
        chosen = _selection(at, length, _names(region))
        with self.programmer.working() as (session, cancel):
            places = [part.range for part in ranges(chosen, session.chip.size, session.region)]
            targets = [Segment(place.address, b"\xff" * place.length) for place in places]
            options = replace(self.options("erase"), named_regions=chosen.named)
            result = write(session, targets, options, self.programmer.reporter, cancel)
        self._wrote(result)
        return result

    def verify(
        self,
        image: Content,
        *,
        at: int | str | None = None,
        region: str | Sequence[str] | None = None,
    ) -> None:
        """Fail unless the chip holds an image.

        Args:
            image: as for `write`.
            at: likewise.
            region: likewise.

        Raises:
            AssertionError: it does not; says where. `hwflash.testing.assert_same` says what.
        """
        __tracebackhide__ = True
        from hwflash.jobs.read import verify
        from hwflash.jobs.selection import segments
        from hwflash.layout.files import load_image
        from hwflash.units import format_size

        chosen = _selection(at, None, _names(region))
        loaded = load(image)
        with self.programmer.working() as (session, cancel):
            targets = segments(chosen, loaded, load_image, session.chip.size, session.region)
            state = self.options("verify").state
            found = verify(session, targets, self.programmer.reporter, cancel, state)
        self.programmer.record.read.append(found.sha256)
        if found.mismatches:
            total = sum(item.length for item in found.mismatches)
            places = ", ".join(map(str, found.mismatches[:4]))
            more = f" and {len(found.mismatches) - 4} more" if found.mismatches[4:] else ""
            raise AssertionError(
                f"the chip differs from {loaded.name} in {format_size(total)} of "
                f"{format_size(found.bytes)}: {places}{more}"
            )

    def transaction(self, *, region: str | Sequence[str] | None = None) -> Transaction:
        """Back the chip up now, and put it back when the test ends, however it ends.

        In a ``with`` statement it is put back at its end; else at the end of the test, or of the
        fixture that began it.

        Args:
            region: only these regions of the board; default: the whole chip. Less is faster.

        Raises:
            BusUnstable: two reads differ.
            EnvironmentFault: the backup cannot be written, or a run that was killed left the
                chip changed (``transaction.unfinished``).
        """
        begun = Transaction(self.programmer, _selection(None, None, _names(region)))
        begun.begin()
        if self._until is not None:
            self._until(begun.end)
        return begun

    def side(self) -> Side:
        """The whole chip, for a comparison."""
        from hwflash.jobs.compare import make_side

        board = self.programmer.board
        name = board.name if board is not None else self.programmer.session().programmer.name
        return make_side(name, [(0, self.read())], board)

    def options(self, kind: str) -> WriteOptions:
        """How a chip is written here: backups and journals go to the state directory."""
        from hwflash.jobs.write import WriteOptions
        from hwflash.state import state_dir

        return WriteOptions(state=state_dir(self.programmer.settings.environ), kind=kind)

    def _wrote(self, result: WriteResult) -> None:
        record = self.programmer.record
        record.written.append(result.sha256)
        if result.backup is not None:
            record.backups.append(str(result.backup))


def load(image: object) -> Image:
    """An image as a test gives it.

    Raises:
        ImageError: it cannot be read, or is empty.
        UsageError: it is nothing of the kind (``usage.image``).
    """
    from hwflash.errors import ImageError
    from hwflash.layout.files import Image, Segment, load_image

    if isinstance(image, Image):
        return image
    if isinstance(image, (str, Path)):
        return load_image(Path(image))
    if isinstance(image, (bytes, bytearray)):
        data = bytes(image)
        if not data:
            raise ImageError("the image is empty", code="image.empty")
        digest = hashlib.sha256(data).hexdigest()
        return Image((Segment(0, data),), False, "raw", f"{len(data):,} bytes", digest)
    raise UsageError(
        f"an image is bytes, a file or a loaded image, not {type(image).__name__}",
        code="usage.image",
    )


def _names(region: str | Sequence[str] | None) -> tuple[str, ...]:
    if region is None:
        return ()
    names = (region,) if isinstance(region, str) else tuple(region)
    if not names:  # whatever a script has left over is not the whole chip
        raise UsageError("no region is named; None is the whole chip", code="usage.selection")
    return names


def _selection(at: int | str | None, length: int | str | None, regions: Sequence[str]) -> Selection:
    from hwflash.jobs.selection import RegionChoice, Selection
    from hwflash.units import Range

    start = None if at is None else _number(at)
    size = None if length is None else _number(length)
    if size is not None:
        if size < 1 or (start or 0) < 0:
            raise UsageError("a place has at least one byte", code="usage.address")
        chosen = Selection(range=Range(start or 0, size))
        if regions:
            raise UsageError("a region knows its length", code="usage.selection")
        return chosen
    if start is not None and start < 0:
        raise UsageError(f"there is no address {start}", code="usage.address", address=start)
    found = Selection(at=start, regions=tuple(RegionChoice(name) for name in regions))
    found.check()
    return found


def _number(given: object) -> int:
    """An address or a size: `True` and 1.5 are mistakes, also where Python would count by them."""
    from hwflash.units import parse_size

    if isinstance(given, str):
        return parse_size(given)
    if not isinstance(given, int) or isinstance(given, bool):
        raise UsageError(
            f"{given!r} is not a size or an address", code="usage.size", text=repr(given)
        )
    return given
