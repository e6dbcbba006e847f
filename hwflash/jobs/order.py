"""An order: what is to be done with one board, as data, and its command line.

A person at a bench puts an order together step by step; `run_order` carries it out, and
`Order.command` is what does the same on the command line. Nothing here is decided twice: all
the work is in the jobs it calls.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from hwflash.boards import Board, load_board
from hwflash.errors import HwflashError, ImageError, UsageError
from hwflash.flash.plan import Plan
from hwflash.jobs.opening import Request
from hwflash.jobs.read import VerifyResult, read, verify
from hwflash.jobs.regions import EVERY
from hwflash.jobs.selection import RegionChoice, Selection, ranges, segments
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.write import (
    WriteOptions,
    WriteResult,
    restore_targets,
    resume,
    still_half_written,
    unfinished,
    write,
)
from hwflash.layout.files import Image, Segment, load_image, save_image
from hwflash.progress import CancelToken, Reporter
from hwflash.units import Range

__all__ = [
    "Action",
    "Hooks",
    "ImageFacts",
    "Order",
    "OrderResult",
    "Plan",
    "followups",
    "image_facts",
    "load_image",
    "run_order",
]

Action = Literal["write", "verify", "read", "erase", "resume", "restore", "vars", "ftw"]
#: How often a chip is read that is to be kept as a file.
READS: Final = 2


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done.

    Attributes:
        action: what kind of work; ``vars`` and ``ftw`` are `hwflash.jobs.store_order`'s.
        programmer: URL, or None to take what `Request` takes.
        board: name or file of the board, as the person gave it, or None.
        file: the image; of ``read`` where it goes; of ``restore`` the backup.
        at: address at which the image belongs, or None.
        regions: the only regions of the board that are touched.
        job: of ``resume``: name of the journal.
        verify_full: read back everything, not only what was touched.
        allow_voltage: the chip takes less than 3.3 V and is level-shifted.
        sha256: of the image as the person saw it, in hex; None when nobody looked.
    """

    action: Action
    programmer: str | None = None
    board: str | None = None
    file: Path | None = None
    at: int | None = None
    regions: tuple[str, ...] = ()
    job: str | None = None
    verify_full: bool = False
    allow_voltage: bool = False
    sha256: str | None = None

    @property
    def selection(self) -> Selection:
        """The part of the chip it touches."""
        return Selection(at=self.at, regions=tuple(RegionChoice(name) for name in self.regions))

    def words(self) -> list[str]:
        """The command that does the same."""
        changing = self.action in ("write", "erase", "resume", "restore")
        verb = "write" if self.action in ("resume", "restore") else self.action
        words = ["hwflash", verb]
        if self.action == "resume":
            words += ["--resume", self.job or ""]
        elif self.action == "restore":
            words += ["--restore", str(self.file)]
        elif self.file is not None and self.action != "erase":
            words.append(str(self.file))
        words += ["-p", self.programmer] if self.programmer is not None else []
        words += ["-b", self.board] if self.board is not None else []
        words += ["--at", f"0x{self.at:X}"] if self.at is not None else []
        for name in self.regions:
            words += ["--region", name]
        words += ["--repeat", str(READS)] if self.action == "read" else []
        words += ["--verify", "full"] if self.verify_full and changing else []
        return words + (["--allow-voltage"] if self.allow_voltage else [])

    @property
    def command(self) -> str:
        """The same as one line for a shell."""
        return shlex.join(self.words())


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is to be known of an image file before it is written.

    Attributes:
        size: bytes of data.
        sha256: of the file, in hex.
        format: ``raw``, ``ihex`` or ``srec``.
        absolute: the file has addresses of its own.
    """

    size: int
    sha256: str
    format: str
    absolute: bool


def image_facts(file: Path) -> ImageFacts:
    """Look at an image file.

    Raises:
        ImageError: it cannot be read, or is damaged.
    """
    with suppress(OSError):  # which load_image explains
        if not stat.S_ISREG(file.stat().st_mode) and not file.is_dir():
            raise ImageError(  # a pipe would be waited for, and be empty the second time
                f"{file} is not a regular file", code="image.unreadable", file=str(file)
            )
    image = load_image(file)
    return ImageFacts(image.size, image.sha256, image.format, image.absolute)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What an order is given by whoever watches it.

    Attributes:
        state: the state directory.
        reporter: is told how it goes.
        cancel: a request to stop.
        confirm: asked with the plan before anything is changed.
        opened: told when the chip is known and fits the board.
        environ: environment variables.
    """

    state: Path
    reporter: Reporter
    cancel: CancelToken
    confirm: Callable[[Plan], bool]
    opened: Callable[[Session], None] = lambda _session: None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


@dataclass(frozen=True, slots=True)
class OrderResult:
    """What became of an order that came to its end.

    Attributes:
        order: what was asked for.
        passed: the chip holds what it should; of ``read``, it was read.
        executed: the chip was changed.
        bytes: bytes that were written, compared or read.
        sha256: of the image, or of what was read.
        seconds: time on the programmer, modelled on a simulated one.
        changed: what was touched.
        mismatches: where chip and image differ, or differed before a repair.
        backup: of what was there before, or None.
        entry: its number in the history, or None.
    """

    order: Order
    passed: bool
    executed: bool
    bytes: int
    sha256: str
    seconds: float
    changed: tuple[Range, ...] = ()
    mismatches: tuple[Range, ...] = ()
    backup: Path | None = None
    entry: int | None = None


def run_order(order: Order, hooks: Hooks) -> OrderResult:
    """Carry an order out.

    Raises:
        UsageError: it lacks a file, names an unknown region, or contradicts itself.
        ImageError: the image is not the one the person saw (``image.changed``).
        HwflashError: see the jobs it stands for, such as `hwflash.jobs.write.write`.
    """
    order.selection.check()
    if order.file is None and order.action in ("write", "verify", "read", "restore"):
        raise UsageError("no file is given", code="usage.selection")
    board = load_board(order.board, hooks.environ) if order.board is not None else None
    if order.action == "resume":
        return _resume(order, board, hooks)
    image = _image(order)
    with open_session(_request(order, board, hooks), hooks.reporter) as session:
        hooks.opened(session)
        if order.action == "read":
            return _read(order, session, hooks)
        if order.action == "verify":
            targets = _targets(order, image, session)
            found = verify(session, targets, hooks.reporter, hooks.cancel, hooks.state)
            return _verified(order, found)
        return _write(order, image, session, hooks)


def _image(order: Order) -> Image | None:
    if order.file is None or order.action not in ("write", "verify"):
        return None
    image = load_image(order.file)
    if order.sha256 not in (None, image.sha256):
        raise ImageError(
            f"{order.file} is not the file that was chosen: it has changed since",
            code="image.changed",
            file=str(order.file),
            sha256=image.sha256,
        )
    return image


def _request(order: Order, board: Board | None, hooks: Hooks) -> Request:
    return Request(
        programmer=order.programmer,
        board=board,
        allow_voltage=order.allow_voltage,
        environ=hooks.environ,
    )


def _targets(order: Order, image: Image | None, session: Session) -> list[Segment]:
    return segments(order.selection, image, load_image, session.chip.size, session.region)


def _write(order: Order, image: Image | None, session: Session, hooks: Hooks) -> OrderResult:
    named = order.selection.named
    if order.action == "restore":
        assert order.file is not None  # noqa: S101 - run_order has looked
        targets = restore_targets(session, order.file)
        named = frozenset({EVERY})  # a backup that is named names what it holds
    elif order.action == "erase":
        parts = ranges(order.selection, session.chip.size, session.region)
        targets = [Segment(part.range.address, b"\xff" * part.range.length) for part in parts]
    else:
        targets = _targets(order, image, session)
    options = replace(_options(order, hooks), named_regions=named)
    return _written(order, write(session, targets, options, hooks.reporter, hooks.cancel))


def _options(order: Order, hooks: Hooks) -> WriteOptions:
    return WriteOptions(
        state=hooks.state,
        verify_full=order.verify_full,
        confirm=hooks.confirm,
        kind=order.action,
    )


def _resume(order: Order, board: Board | None, hooks: Hooks) -> OrderResult:
    record = unfinished(hooks.state, order.job)
    request = _request(order, board, hooks)
    if request.programmer is None:
        request = replace(request, programmer=record.programmer)
    with still_half_written(record), open_session(request, hooks.reporter) as session:
        hooks.opened(session)
        options = _options(order, hooks)
        return _written(order, resume(session, record, options, hooks.reporter, hooks.cancel))


def _read(order: Order, session: Session, hooks: Hooks) -> OrderResult:
    parts = ranges(order.selection, session.chip.size, session.region)
    places = [part.range for part in parts]
    found = read(session, places, hooks.reporter, hooks.cancel, READS, hooks.state)
    assert order.file is not None  # noqa: S101 - run_order has looked
    pieces = [Segment(place.address, data) for place, data in found.pieces]
    save_image(order.file, pieces, "auto")
    return OrderResult(
        order, not found.disagreements, False, sum(place.length for place in places),
        found.sha256, found.seconds, mismatches=found.disagreements,
    )  # fmt: skip


def _written(order: Order, done: WriteResult) -> OrderResult:
    return OrderResult(
        order, True, done.executed, done.bytes, done.sha256, done.seconds, done.changed,
        done.mismatches, done.backup, done.entry,
    )  # fmt: skip


def _verified(order: Order, found: VerifyResult) -> OrderResult:
    return OrderResult(
        order, not found.mismatches, False, found.bytes, found.sha256, found.seconds,
        mismatches=found.mismatches,
    )  # fmt: skip


def followups(error: HwflashError, order: Order) -> dict[str, Order]:
    """The orders that go on or go back after a failure, ``resume`` and ``restore``.

    Args:
        error: what went wrong.
        order: what was being done.
    """
    context = error.context
    programmer = context.get("programmer")
    base = Order(
        "resume",
        str(programmer) if programmer else order.programmer,
        order.board,
        allow_voltage=order.allow_voltage,
    )
    found: dict[str, Order] = {}
    if job := context.get("resume"):
        found["resume"] = replace(base, job=str(job))
        if backup := context.get("backup"):
            found["restore"] = replace(base, action="restore", file=Path(str(backup)))
    return found
