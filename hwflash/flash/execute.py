"""Carrying out a plan, with a journal, verification and an honest word about failures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from hwflash.errors import ChipStateUnknown, HwflashError
from hwflash.flash.device import FlashDevice
from hwflash.flash.journal import Journal
from hwflash.flash.pipeline import BATCH_PAGES
from hwflash.flash.plan import Plan, Step, Window, make_plan
from hwflash.progress import PLAN, CancelToken, Progress, Reporter
from hwflash.units import Range, merge_ranges

READ_PIECE: Final = 1 << 20
#: Ranges closer than this are verified by one read: a read command costs about as much.
VERIFY_GAP: Final = 256
#: How often bytes that verify wrong are written again.
REPAIRS: Final = 2
#: Program runs gathered for one call of the device, at most.
RUN_SPAN: Final = 1 << 20


def read_range(
    device: FlashDevice,
    target: Range,
    *,
    phase: str,
    reporter: Reporter,
    cancel: CancelToken,
    before: int = 0,
    total: int | None = None,
) -> bytes:
    """Read a range in pieces, with progress and a look at the cancel token."""
    pieces: list[bytes] = []
    done = 0
    while done < target.length:
        cancel.check()
        count = min(READ_PIECE, target.length - done)
        pieces.append(device.read(target.address + done, count))
        done += count
        reporter.progress(
            Progress(phase, before + done, total or target.length, target.address + done)
        )
    return b"".join(pieces)


def read_ranges(
    device: FlashDevice,
    targets: Sequence[Range],
    *,
    phase: str,
    reporter: Reporter,
    cancel: CancelToken,
) -> list[bytes]:
    """Read several ranges as one phase."""
    total = sum(target.length for target in targets)
    before = 0
    contents: list[bytes] = []
    for target in targets:
        contents.append(
            read_range(
                device,
                target,
                phase=phase,
                reporter=reporter,
                cancel=cancel,
                before=before,
                total=total,
            )
        )
        before += target.length
    return contents


def differences(address: int, found: bytes, expected: bytes) -> list[Range]:
    """Ranges in which two equally long pieces differ, those closer than 16 bytes joined."""
    if found == expected:
        return []
    ranges: list[Range] = []
    for start in range(0, len(expected), 4096):
        left, right = found[start : start + 4096], expected[start : start + 4096]
        if left != right:
            single = [
                Range(address + start + index, 1)
                for index, (one, other) in enumerate(zip(left, right, strict=True))
                if one != other
            ]
            # Joined at once: a chip that differs in every byte would fill the memory.
            ranges += merge_ranges(single, gap=16)
    return merge_ranges(ranges, gap=16)


def stopped_half_way(exc: Exception) -> ChipStateUnknown:
    """The failure of a write that had begun, with the facts of its cause."""
    cause = exc.code if isinstance(exc, HwflashError) else type(exc).__name__
    facts = dict(exc.context) if isinstance(exc, HwflashError) else {}
    for key in ("code", "cause"):
        facts.pop(key, None)
    return ChipStateUnknown(f"the write stopped half way: {exc}", cause=cause, facts=facts)


class Executor:
    """Carries out a plan on a device.

    Attributes:
        mismatches: bytes that verified wrong at first, whether or not repaired since.
        repairs: how often something was written again after verification.
    """

    def __init__(
        self,
        device: FlashDevice,
        journal: Journal,
        reporter: Reporter,
        cancel: CancelToken,
        kept: Sequence[Range] = (),
    ) -> None:
        self._kept = kept
        self._device = device
        self._journal = journal
        self._reporter = reporter
        self._cancel = cancel
        self.mismatches: list[Range] = []
        self.repairs = 0

    def run(self, plan: Plan, windows: Sequence[Window], verify: Sequence[Range]) -> None:
        """Execute, then verify, then write again what verified wrong.

        Args:
            plan: what to do.
            windows: the windows it was planned for.
            verify: what to read back; inside the windows.

        Raises:
            ChipStateUnknown: it failed or was stopped after a step had begun; the cause is
                chained.
            HwflashError: it failed before the chip was touched.
        """
        try:
            self._execute(plan, windows)
            for attempt in range(REPAIRS + 1):
                wrong = self._verify(windows, verify)
                if not wrong:
                    break
                self.mismatches = merge_ranges(self.mismatches + wrong)
                if attempt == REPAIRS:
                    raise ChipStateUnknown(
                        f"{sum(r.length for r in wrong)} bytes differ from the image after "
                        f"{REPAIRS} repairs, the first at 0x{wrong[0].address:06X}",
                        code="chip.verify-failed",
                        address=wrong[0].address,
                        mismatches=[{"address": r.address, "length": r.length} for r in wrong],
                    )
                self._repair(plan.part, windows, wrong)
            self._journal.finish()
        except ChipStateUnknown:
            raise
        except Exception as exc:
            if not self._journal.begun:
                raise
            raise stopped_half_way(exc) from exc

    def _execute(self, plan: Plan, windows: Sequence[Window]) -> None:
        content = _Content(windows)
        totals = {kind: plan.bytes_of(kind) for kind in ("erase", "program")}
        done = {"erase": 0, "program": 0}
        spent = 0.0
        for group in gather(plan.steps, self._device.geometry.page_size):
            self._cancel.check()
            for step in group:
                self._journal.begin(step)
            first = group[0]
            if first.kind == "erase":
                self._device.erase(first.range.address, first.range.length)
            else:
                self._device.program(first.range.address, content.run(group))
            for step in group:
                self._journal.done(step)
                done[step.kind] += step.range.length
                spent += step.seconds
            self._reporter.progress(
                Progress(first.kind, done[first.kind], totals[first.kind], group[-1].range.end)
            )
            self._reporter.progress(Progress(PLAN, round(spent * 1e3), round(plan.seconds * 1e3)))
        self._device.sync()

    def _verify(self, windows: Sequence[Window], verify: Sequence[Range]) -> list[Range]:
        targets = [
            target
            for window in windows
            for target in merge_ranges(
                [item for item in verify if window.range.contains(item)], gap=VERIFY_GAP
            )
        ]
        content = _Content(windows)
        found = read_ranges(
            self._device, targets, phase="verify", reporter=self._reporter, cancel=self._cancel
        )
        wrong: list[Range] = []
        for target, data in zip(targets, found, strict=True):
            wrong += differences(target.address, data, content.new(target))
        return wrong

    def _repair(self, part: str, windows: Sequence[Window], wrong: Sequence[Range]) -> None:
        """Read the blocks that verified wrong, plan them anew, and write them again."""
        self.repairs += 1
        content = _Content(windows)
        geometry = self._device.geometry
        blocks = merge_ranges([geometry.align(item) for item in wrong])
        again = [
            Window(
                block.address, self._device.read(block.address, block.length), content.new(block)
            )
            for block in blocks
        ]
        self._reporter.warning(
            f"{sum(item.length for item in wrong)} bytes verified wrong; writing them again",
            address=wrong[0].address,
        )
        self._execute(make_plan(part, geometry, again, self._kept), again)


class _Content:
    """The new content of all windows, by address."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows

    def new(self, target: Range) -> bytes:
        for window in self._windows:
            if window.range.contains(target):
                start = target.address - window.address
                return window.new[start : start + target.length]
        raise AssertionError(f"{target} is in no window")

    def run(self, steps: Sequence[Step]) -> bytes:
        """The data for a run of program steps; what lies between them is FF: no change."""
        start = steps[0].range.address
        data = bytearray(b"\xff" * (steps[-1].range.end - start))
        for step in steps:
            at = step.range.address - start
            data[at : at + step.range.length] = self.new(step.range)
        return bytes(data)


def gather(steps: Iterable[Step], page_size: int) -> Iterator[list[Step]]:
    """Group steps for execution: erases alone, programs in runs of about one batch of pages.

    A program step longer than a batch is cut, so that a stop request is heard in time.
    """
    run: list[Step] = []
    pages = 0
    limit = BATCH_PAGES * page_size
    for step in steps:
        if step.kind == "erase":
            if run:
                yield run
            run, pages = [], 0
            yield [step]
            continue
        for piece in _cut(step, limit):
            count = -(-piece.range.length // page_size)
            far = run and piece.range.end - run[0].range.address > RUN_SPAN
            if run and (pages + count > BATCH_PAGES or far):
                yield run
                run, pages = [], 0
            run.append(piece)
            pages += count
    if run:
        yield run


def _cut(step: Step, limit: int) -> Iterator[Step]:
    """A program step in pieces that end at multiples of ``limit``."""
    address = step.range.address
    while address < step.range.end:
        end = min((address // limit + 1) * limit, step.range.end)
        share = (end - address) / step.range.length
        yield Step(step.kind, Range(address, end - address), step.seconds * share)
        address = end
