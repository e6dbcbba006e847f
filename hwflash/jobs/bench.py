"""The benchmark: modelled time and transfers on a simulated programmer, beside the limit.

Times are virtual (SCK, chip, USB on one clock), so they are the same on every computer; only the
CPU time is this computer's. The limit of a job is what no program could beat on this wire and
this chip: bytes on the wire plus the chip's typical times.

The peer is pyspiflash (PyPI), run unmodified on the same simulated hardware in the same run, with
its sleeps taken from the virtual clock. flashrom cannot run below a PyUSB backend; its figures
are quoted (`FLASHROM`).
"""

from __future__ import annotations

import importlib
import random
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hwflash.chip import catalog
from hwflash.chip.model import Chip
from hwflash.chip.protection_choice import choose, protection_bits
from hwflash.chip.registers import masks
from hwflash.errors import ReferenceFailed
from hwflash.flash.device import Geometry
from hwflash.flash.plan import Window, make_plan
from hwflash.flash.protection import ProtectionAccess
from hwflash.jobs.opening import Request
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.write import WriteOptions, write
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, NullReporter
from hwflash.units import MIB

SEED: Final = 1


@dataclass(frozen=True, slots=True)
class Quoted:
    """Figures that were not measured here: USB transfers, and seconds at least and at most."""

    job: str
    usb: int
    least: float
    most: float


#: flashrom 1.3.0, ft2232_spi:type=232H, programming a 16 MiB W25Q128: USB transfers counted
#: below libusb, seconds computed from its wait on the 2 ms latency timer once or twice a page.
FLASHROM: Final = (Quoted("program blank", 205_835, 131.0, 262.0),)


@dataclass(frozen=True, slots=True)
class Row:
    """One measured job.

    Attributes:
        who: ``hwflash`` or ``pyspiflash``.
        part: the simulated chip.
        job: what was done.
        bytes: bytes the job is about.
        seconds: modelled time.
        limit: modelled time of the wire and the chip alone.
        usb: USB bulk transfers.
        erases: erase commands.
        programs: page programs sent.
        retries: page programs sent again.
        cpu: CPU seconds of this process, the simulator's included.
    """

    who: str
    part: str
    job: str
    bytes: int
    seconds: float
    limit: float
    usb: int
    erases: int
    programs: int
    retries: int
    cpu: float

    @property
    def ratio(self) -> float:
        """Modelled time over the limit."""
        return self.seconds / self.limit

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "ratio": round(self.ratio, 4)}


class Limits:
    """What no program could beat, in seconds."""

    def __init__(self, chip: Chip, frequency: float) -> None:
        self._geometry = Geometry.of(chip, 8 / frequency)
        self._chip = chip

    def read(self, length: int) -> float:
        """Data on the wire."""
        return length * self._geometry.byte_seconds

    def program(self, length: int) -> float:
        """Write enable, one status read, command, address and data, and the chip's time."""
        return self._programs(length, -(-length // self._geometry.page_size))

    def change(self, old: bytes, new: bytes, address: int = 0) -> float:
        """Erases and programs of the cheapest plan."""
        plan = make_plan("", self._geometry, [Window(address, old, new)])
        erase = sum(step.seconds for step in plan.steps if step.kind == "erase")
        pages = sum(
            len(list(self._geometry.pages(step.range)))
            for step in plan.steps
            if step.kind == "program"
        )
        return erase + self._programs(plan.bytes_of("program"), pages)

    def _programs(self, length: int, pages: int) -> float:
        """The least for so many bytes in so many pages; of bytes and words, an opcode for each."""
        count, overhead = pages, pages * (1 + 2 + 4)
        if self._geometry.program_unit:
            count = overhead = -(-length // self._geometry.program_unit)
        wire = (length + overhead) * self._geometry.byte_seconds
        return wire + count * self._chip.page_program.typical


class Bench:
    """Runs the jobs on one part.

    Args:
        part: name of the part to simulate.
        frequency: SCK in hertz.
        timing: how the chip's times are drawn; see the ``sim:`` URL.
    """

    def __init__(self, part: str, frequency: float = 30e6, timing: str = "typical") -> None:
        self.chip = catalog.load().by_name(part).chip
        self._frequency = frequency
        self._timing = timing
        self._limits = Limits(self.chip, frequency)
        draw = random.Random(SEED)  # noqa: S311 - the same content in every run
        self._old = draw.randbytes(self.chip.size)
        self._new = draw.randbytes(self.chip.size)

    def rows(self) -> Iterator[Row]:
        """Every job in turn."""
        size = self.chip.size
        page = Geometry.of(self.chip, 0.0).page_size
        blank = b"\xff" * size
        read_all = self._limits.read(size)
        yield self._measure(
            "read all", self._old, self._old, read_all, size, lambda it: it.flash.read(0, size)
        )
        yield self._measure(
            "program blank", blank, self._new, self._limits.program(size), size,
            self._program_all,
        )  # fmt: skip
        yield self._write("write to blank", blank, self._new, size, read_all * 2)
        yield self._write("rewrite random", self._old, self._new, size, read_all * 2)
        one = bytearray(self._old)
        one[size // 2] ^= 0xFF
        yield self._write("change one byte", self._old, bytes(one), 1, read_all)
        bit = bytearray(self._old)
        at = next(index for index in range(size // 2, size) if bit[index])
        bit[at] &= bit[at] - 1
        yield self._write("clear one bit", self._old, bytes(bit), 1, read_all)
        store = self._old[: -size // 4] + b"\xff" * (size // 4)
        start = len(store) - size // 4 + 12
        grown = bytearray(store)
        grown[start : start + page] = random.Random(3).randbytes(page)  # noqa: S311
        yield self._write("append a variable", store, bytes(grown), page, read_all)

    def _program_all(self, session: Session) -> None:
        chip = session.chip
        if chip.locked_at_power_up:
            access = ProtectionAccess(session.flash)
            open_locks = choose(chip, access.read(), ()).exact
            if open_locks is not None:
                access.apply(open_locks, masks(protection_bits(chip)))
        session.flash.program(0, self._new)

    def _write(self, job: str, old: bytes, new: bytes, length: int, reads: float) -> Row:
        def run(session: Session) -> None:
            with tempfile.TemporaryDirectory() as folder:
                options = WriteOptions(Path(folder))
                write(session, [Segment(0, new)], options, NullReporter(), CancelToken())

        limit = reads + self._limits.change(old, new)
        return self._measure(job, old, new, limit, length, run)

    def _measure(
        self,
        job: str,
        content: bytes,
        expected: bytes,
        limit: float,
        length: int,
        run: Callable[[Session], object],
    ) -> Row:
        with self._session(content) as session:
            started, stats = session.seconds, session.stats()
            cpu = time.process_time()
            run(session)
            cpu = time.process_time() - cpu
            after = session.stats()
            seconds = session.seconds - started
            if session.flash.read(0, len(expected)) != expected:
                raise ReferenceFailed(
                    f"{job} left other content than it should", code="bench.wrong-content", job=job
                )
            return Row(
                who="hwflash",
                part=self.chip.part,
                job=job,
                bytes=length,
                seconds=round(seconds, 6),
                limit=round(limit, 6),
                usb=sum(after[key] - stats[key] for key in ("usb_out", "usb_in")),
                erases=sum(after["erases"].values()),
                programs=after["programs"],
                retries=after["retries"],
                cpu=round(cpu, 3),
            )

    @contextmanager
    def _session(self, content: bytes) -> Generator[Session]:
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "chip.bin"
            image.write_bytes(content)
            url = f"sim://{self.chip.part}?image={image}&timing={self._timing}"
            request = Request(
                programmer=url,
                frequency=self._frequency,
                allow_voltage=True,
                environ={"HWFLASH_STATE_DIR": folder},
            )
            with open_session(request, NullReporter()) as session:
                yield session


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw time against size for programming and reading, as straight lines from measured speed.

    Args:
        rows: what was measured.
        path: an ``.svg`` or ``.png`` file; matplotlib must be installed.
    """
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for row in rows:
        if row.job in ("program blank", "read all"):
            sizes = [0, row.bytes, 16 * MIB]
            label = f"{row.who}: {row.job}, {row.part}"
            axes.plot(
                [size / MIB for size in sizes],
                [size * row.seconds / row.bytes for size in sizes],
                marker="o",
                markevery=[1],
                label=label,
            )
    axes.set_xlabel("size (MiB); the marked point is measured")
    axes.set_ylabel("modelled time (s)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
