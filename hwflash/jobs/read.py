"""Reading and comparing what a chip holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwflash.flash.execute import differences, read_ranges
from hwflash.flash.plan import content_hash
from hwflash.jobs.session import Session
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, Reporter
from hwflash.units import Range, merge_ranges


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What was read.

    Attributes:
        pieces: content of each range, of the first read.
        sha256: hash over all pieces.
        disagreements: where further reads gave other bytes.
        seconds: time of the job.
    """

    pieces: tuple[tuple[Range, bytes], ...]
    sha256: str
    disagreements: tuple[Range, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """How a chip compares with an image.

    Attributes:
        bytes: bytes compared.
        sha256: hash of what the chip holds there.
        mismatches: where they differ.
        seconds: time of the job.
    """

    bytes: int
    sha256: str
    mismatches: tuple[Range, ...]
    seconds: float


def read(
    session: Session,
    ranges: Sequence[Range],
    reporter: Reporter,
    cancel: CancelToken,
    repeat: int = 1,
) -> ReadResult:
    """Read ranges ``repeat`` times and say where the reads disagree."""
    contents = read_ranges(session.flash, ranges, phase="read", reporter=reporter, cancel=cancel)
    disagreements: list[Range] = []
    for number in range(2, repeat + 1):
        again = read_ranges(
            session.flash, ranges, phase=f"read {number}", reporter=reporter, cancel=cancel
        )
        for place, first, other in zip(ranges, contents, again, strict=True):
            disagreements += differences(place.address, other, first)
    return ReadResult(
        pieces=tuple(zip(ranges, contents, strict=True)),
        sha256=content_hash(contents),
        disagreements=tuple(merge_ranges(disagreements, gap=16)),
        seconds=session.seconds,
    )


def verify(
    session: Session, targets: Sequence[Segment], reporter: Reporter, cancel: CancelToken
) -> VerifyResult:
    """Compare the chip with what should be there."""
    ranges = [target.range for target in targets]
    found = read_ranges(session.flash, ranges, phase="verify", reporter=reporter, cancel=cancel)
    wrong: list[Range] = []
    for target, data in zip(targets, found, strict=True):
        wrong += differences(target.address, data, target.data)
    return VerifyResult(
        bytes=sum(item.length for item in ranges),
        sha256=content_hash(found),
        mismatches=tuple(merge_ranges(wrong)),
        seconds=session.seconds,
    )
