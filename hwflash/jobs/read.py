"""Reading and comparing what a chip holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hwflash.errors import BusUnstable
from hwflash.flash.execute import differences, read_ranges
from hwflash.flash.plan import content_hash
from hwflash.flash.steady import SLOWEST_HZ, until_steady
from hwflash.jobs.remember import Facts, looked, ranges_detail
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
        entry: its number in the history; None when it is not there.
    """

    pieces: tuple[tuple[Range, bytes], ...]
    sha256: str
    disagreements: tuple[Range, ...]
    seconds: float
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """How a chip compares with an image.

    Attributes:
        bytes: bytes compared.
        sha256: hash of what the chip holds there.
        mismatches: where they differ.
        seconds: time of the job.
        entry: its number in the history; None when it is not there.
    """

    bytes: int
    sha256: str
    mismatches: tuple[Range, ...]
    seconds: float
    entry: int | None = None


def read(
    session: Session,
    ranges: Sequence[Range],
    reporter: Reporter,
    cancel: CancelToken,
    repeat: int = 1,
    state: Path | None = None,
) -> ReadResult:
    """Read ranges ``repeat`` times; with a state directory, the history records it.

    Reads that disagree are told of, and repeated at a slower clock; where they disagree at
    the slowest one too, the result says where.
    """
    began = time.time()
    last: list[Range] = []

    def attempt() -> list[bytes]:
        contents = read_ranges(
            session.flash, ranges, phase="read", reporter=reporter, cancel=cancel
        )
        last.clear()
        for number in range(2, repeat + 1):
            again = read_ranges(
                session.flash, ranges, phase=f"read {number}", reporter=reporter, cancel=cancel
            )
            for place, first, other in zip(ranges, contents, again, strict=True):
                last.extend(differences(place.address, other, first))
        last[:] = merge_ranges(last, gap=16)
        slower_exists = session.programmer.bus.frequency / 2 >= SLOWEST_HZ
        if last and slower_exists:
            raise BusUnstable(
                f"{repeat} reads disagree in {sum(item.length for item in last)} bytes, "
                f"the first at 0x{last[0].address:06X}",
                code="chip.unstable-read",
                address=last[0].address,
            )
        return contents

    contents = until_steady(session.programmer.bus, reporter, attempt)
    result = ReadResult(
        pieces=tuple(zip(ranges, contents, strict=True)),
        sha256=content_hash(contents),
        disagreements=tuple(last),
        seconds=session.seconds,
    )
    length = sum(item.length for item in ranges)
    facts = Facts("read", length, result.sha256, details=ranges_detail(ranges))
    entry = looked(state, session, facts, "differs" if last else "ok", began, reporter)
    return replace(result, entry=entry)


def verify(
    session: Session,
    targets: Sequence[Segment],
    reporter: Reporter,
    cancel: CancelToken,
    state: Path | None = None,
) -> VerifyResult:
    """Compare the chip with what should be there; with a state directory, it is recorded."""
    began = time.time()
    ranges = [target.range for target in targets]
    found = read_ranges(session.flash, ranges, phase="verify", reporter=reporter, cancel=cancel)
    wrong: list[Range] = []
    for target, data in zip(targets, found, strict=True):
        wrong += differences(target.address, data, target.data)
    result = VerifyResult(
        bytes=sum(item.length for item in ranges),
        sha256=content_hash(found),
        mismatches=tuple(merge_ranges(wrong)),
        seconds=session.seconds,
    )
    details = ranges_detail(ranges) | {
        "wanted_sha256": content_hash([target.data for target in targets]),
        "differing": sum(item.length for item in result.mismatches),
    }
    facts = Facts("verify", result.bytes, result.sha256, details=details)
    entry = looked(state, session, facts, "differs" if wrong else "ok", began, reporter)
    return replace(result, entry=entry)
