"""A gang on simulated programmers, beside one of them alone.

Each simulated programmer has a clock of its own, so the modelled time says what the wires, the
chips and the protocol between the processes allow: whether a programmer waits for another. What
this computer needed is told beside it; there the simulator itself is the larger part.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hwflash.chip import catalog
from hwflash.errors import ReferenceFailed
from hwflash.jobs.gang import Gang, Terms
from hwflash.jobs.gang_devices import devices
from hwflash.jobs.gang_pool import Pool
from hwflash.jobs.gang_result import Row
from hwflash.jobs.gang_task import Sources, WriteTask
from hwflash.jobs.gang_wire import Said
from hwflash.jobs.opening import Request
from hwflash.jobs.prepare import WriteOptions
from hwflash.jobs.selection import Selection
from hwflash.layout.files import load_image
from hwflash.progress import CancelToken, Progress

SEED: Final = 1


@dataclass(frozen=True, slots=True)
class GangTimes:
    """What was measured.

    Attributes:
        part: the simulated chip.
        count: programmers at once.
        bytes: that each wrote.
        alone: modelled seconds of one programmer alone.
        fastest: modelled seconds of the first of the gang to end.
        slowest: of the last.
        wall_alone: seconds of this computer for the one, with the start of its process.
        wall: for all of them.
        cpu: CPU seconds of all workers, the simulator's included.
        cores: of this computer.
    """

    part: str
    count: int
    bytes: int
    alone: float
    fastest: float
    slowest: float
    wall_alone: float
    wall: float
    cpu: float
    cores: int

    @property
    def ratio(self) -> float:
        """Modelled time of the slowest over that of one alone."""
        return self.slowest / self.alone

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "ratio": round(self.ratio, 4)}


class Silent:
    """A watcher that tells nobody."""

    def progress(self, device: object, event: Progress, /) -> None:
        """Drop the event."""

    def said(self, device: object, said: Said, /) -> None:
        """Drop the message."""

    def ended(self, row: Row, /) -> None:
        """Drop the row."""

    def warning(self, message: str, /, **context: object) -> None:
        """Drop the warning."""


def measure(part: str, count: int, frequency: float, timing: str, cancel: CancelToken) -> GangTimes:
    """Write the same random image over random content, once alone and once by all.

    Raises:
        ReferenceFailed: a programmer failed, or a chip holds something else afterwards
            (``bench.wrong-content``).
    """
    size = catalog.load().by_name(part).chip.size
    draw = random.Random(SEED)  # noqa: S311 - the same content in every run
    old, new = draw.randbytes(size), draw.randbytes(size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "new.bin"
        image.write_bytes(new)
        one, wall_alone = _run(folder / "one", part, 1, old, image, frequency, timing, cancel)
        all_, wall = _run(folder / "all", part, count, old, image, frequency, timing, cancel)
    seconds = [float(row.facts["seconds"]) for row in all_]
    return GangTimes(
        part=part,
        count=count,
        bytes=size,
        alone=float(one[0].facts["seconds"]),
        fastest=min(seconds),
        slowest=max(seconds),
        wall_alone=round(wall_alone, 2),
        wall=round(wall, 2),
        cpu=round(sum(float(row.facts["cpu_seconds"]) for row in all_), 2),
        cores=len(os.sched_getaffinity(0)),
    )


def _run(
    folder: Path,
    part: str,
    count: int,
    old: bytes,
    image: Path,
    frequency: float,
    timing: str,
    cancel: CancelToken,
) -> tuple[Sequence[Row], float]:
    folder.mkdir()
    chips = [folder / f"chip-{number}.bin" for number in range(1, count + 1)]
    for chip in chips:
        chip.write_bytes(old)
    url = f"sim://{part}?image={folder}/chip-{{n}}.bin&seed={{n}}&timing={timing}"
    request = Request(
        frequency=frequency, allow_voltage=True,
        environ={**os.environ, "HWFLASH_STATE_DIR": str(folder)},
    )  # fmt: skip
    began = time.monotonic()
    with Pool() as pool:
        found = Sources(pool.add_image(load_image(image)))
        task = WriteTask("write", Selection(), WriteOptions(folder), found)
        pool.seal()
        with Gang(devices([url], count), task, request, pool, folder, Silent(), cancel) as gang:
            rows = gang.run(Terms())
    wall = time.monotonic() - began
    cancel.check()
    bad = [row for row in rows if not row.passed]
    wrong = [chip for chip in chips if chip.read_bytes() != image.read_bytes()]
    if bad or wrong:
        why = bad[0].error.message if bad and bad[0].error is not None else "other content"
        raise ReferenceFailed(f"the gang failed: {why}", code="bench.wrong-content", part=part)
    return rows, wall
