"""Old content that is known without reading it: from a file the user vouches for, or from the
journal and backup of a write that stopped.

What is known is spot-checked, and what will be changed is read in any case before it is changed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from hwflash.errors import ChipError, ImageError
from hwflash.flash import backup as backups
from hwflash.flash.device import FlashDevice
from hwflash.flash.execute import differences
from hwflash.flash.journal import JOB, JobRecord, load
from hwflash.layout.files import Segment
from hwflash.progress import Reporter
from hwflash.units import Range

SPOTS: Final = 32
SPOT_LENGTH: Final = 64


def from_image(segments: Sequence[Segment], places: Sequence[Range]) -> list[bytes] | None:
    """The content of ``places`` by a file, or None when it does not cover them."""
    found: list[bytes] = []
    for place in places:
        holder = next((item for item in segments if item.range.contains(place)), None)
        if holder is None:
            return None
        start = place.address - holder.address
        found.append(holder.data[start : start + place.length])
    return found


def from_journal(device: FlashDevice, record: JobRecord) -> list[bytes] | None:
    """What the windows of a stopped write should hold by its backup and its journal.

    Steps that began and did not end are read from the device. None when the backup cannot be
    used.
    """
    try:
        before = backups.load(Path(record.backup)).contents()
    except ImageError:
        return None
    if [place for place, _ in before] != list(record.plan.windows):
        return None
    found = [bytearray(content) for _, content in before]
    windows = list(zip(record.plan.windows, found, record.target(), strict=True))
    for kind, place, done in record.steps:
        for window, content, (_, new) in windows:
            if window.contains(place):
                part = slice(place.address - window.address, place.end - window.address)
                if not done:
                    content[part] = device.read(place.address, place.length)
                else:
                    content[part] = b"\xff" * place.length if kind == "erase" else new[part]
    return [bytes(content) for content in found]


def first_stranger(record: JobRecord, contents: Sequence[bytes]) -> int | None:
    """Where a chip first differs from a stopped write's backup outside the steps it had begun.

    Args:
        record: the stopped write.
        contents: what the chip holds in the windows of its plan.

    Raises:
        ImageError: the backup cannot be used.
    """
    before = backups.load(Path(record.backup)).contents()
    for (window, old), found in zip(before, contents, strict=True):
        expected = bytearray(old)
        for _, place, _ in record.steps:
            if window.contains(place):
                part = slice(place.address - window.address, place.end - window.address)
                expected[part] = found[part]
        wrong = differences(window.address, found, bytes(expected))
        if wrong:
            return wrong[0].address
    return None


def require_written(record: JobRecord, contents: Sequence[bytes]) -> None:
    """A chip without unique id is taken for the one that was written when it holds what was.

    That is what this write left, and whatever finished later on the same programmer.

    Args:
        record: the write, which is verified.
        contents: what the chip holds in the windows of its plan.

    Raises:
        ImageError: the job's files are damaged.
        ChipError: it holds something else (``journal.other-chip``).
    """
    windows = [(place, bytearray(new)) for place, new in record.target()]
    for later in _later_writes(record):
        for place, new in later.target():
            for window, content in windows:
                start, end = max(place.address, window.address), min(place.end, window.end)
                if start < end:
                    part = new[start - place.address : end - place.address]
                    content[start - window.address : end - window.address] = part
    for (place, new), found in zip(windows, contents, strict=True):
        wrong = differences(place.address, found, bytes(new))
        if wrong:
            raise ChipError(
                f"this is another chip than the one {record.name} wrote, or it was written since: "
                f"it differs at 0x{wrong[0].address:06X}",
                code="journal.other-chip",
                address=wrong[0].address,
            )


def _later_writes(record: JobRecord) -> Iterator[JobRecord]:
    """Finished writes on the same programmer to a chip of the same kind, oldest first."""

    def began(folder: Path) -> int:  # names tell seconds only, journals are added to later
        return (folder / JOB).stat().st_mtime_ns if (folder / JOB).is_file() else 0

    for folder in sorted(record.folder.parent.iterdir(), key=began):
        if began(folder) <= began(record.folder):
            continue
        with suppress(ImageError):
            found = load(folder)
            same = (found.programmer, found.jedec_id, found.unique_id) == (
                record.programmer, record.jedec_id, record.unique_id,
            )  # fmt: skip
            if found.finished and same:
                yield found


def spot_check(
    device: FlashDevice, places: Sequence[Range], contents: Sequence[bytes], reporter: Reporter
) -> bool:
    """Whether a device holds what is assumed, looked at in a few dozen places.

    Half of them are the places where a wrong assumption shows first: the ends of each range
    and the first bytes that are not FF; the others are drawn, anew each time.
    """
    draw = random.SystemRandom()
    for place, content in zip(places, contents, strict=True):
        filled = len(content) - len(content.lstrip(b"\xff"))
        starts = {0, place.length - SPOT_LENGTH, filled}
        starts |= {draw.randrange(place.length) for _ in range(SPOTS)}
        for start in sorted(starts):
            start = max(0, min(start, place.length - SPOT_LENGTH))
            expected = content[start : start + SPOT_LENGTH]
            if device.read(place.address + start, len(expected)) != expected:
                report_wrong(reporter, place.address + start)
                return False
    return True


def report_wrong(reporter: Reporter, address: int) -> None:
    """Say that an assumption does not hold."""
    reporter.warning(
        f"the chip does not hold what is assumed at 0x{address:06X}; reading all of it",
        code="assume.wrong",
        address=address,
    )
