"""The endurance test: power cut at random moments while the firmware writes its variables.

A cycle: the board is switched on and writes (at its boot, and what its UEFI Shell is told to), the
power is cut, the chip is read, and the store is held against what must be in it. The next cycle
begins with what the cut has left, so it is also the firmware's own repair that is tested. A store
that was lost is kept on disk, put back, and counted.

Limits: one variable store, the first one. What is lost is noticed when it is read: a store that a
firmware ruins by its repair counts for the cycle of that repair, whose ``start`` says from what.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from hwflash.errors import EnvironmentFault, HwflashError, ImageError
from hwflash.flash.execute import read_ranges
from hwflash.jobs.boot_check import stores_in
from hwflash.jobs.endurance_cut import CutPlan, Cutter, LinkedToken, plan_cut
from hwflash.jobs.endurance_judge import FAILED, Expected, Judged, Place, judge
from hwflash.jobs.endurance_result import Cycle, EnduranceResult, summary
from hwflash.jobs.power_qemu import QemuSwitch
from hwflash.jobs.remember import Facts, looked
from hwflash.jobs.rig import Rig, behind_a_change
from hwflash.jobs.write import WriteOptions, write
from hwflash.layout.files import Segment
from hwflash.progress import CancelToken, NullReporter, Progress, Reporter
from hwflash.qemu.shell import PROMPT, Shell
from hwflash.uefi.exchange import variables_of
from hwflash.uefi.records import State, make_record
from hwflash.units import Range

if TYPE_CHECKING:
    from hwflash.jobs.opening import Request
    from hwflash.jobs.session import Session
    from hwflash.uefi.find import Found

Stress = Literal["shell", "boot"]

#: Vendor of the variables that are set, and of the dead records that fill a store.
VENDOR: Final = UUID("6b9f5a0e-3b8c-4d0e-9a43-0d6c4f0c7a11")
ATTRIBUTES: Final = 7
#: What is known of a chip when a test ends before its time.
CHANGED: Final = "the variable store may not be as it was; the file 'before' has the whole chip"
#: Variables that take turns, and the longest value: a line of the Shell carries no more.
NAMES: Final = tuple(f"HwflashEndurance{number}" for number in range(6))
LONGEST_VALUE: Final = 320
#: Data of a dead record; firmware has a limit of its own for a variable.
_FILLING: Final = 0x700
#: Errors that only say that the board is not there any more, or never came.
_GONE: Final = ("console.lost", "console.timeout", "interrupted", "reference.")


@dataclass(frozen=True, slots=True)
class EnduranceOptions:
    """How a board is tested.

    Attributes:
        cycles: how many.
        folder: where the content before, lost stores and the report go; it exists.
        seed: of all that is random.
        window: longest time on, in seconds of the board's clock.
        stress: ``shell`` sets variables by the UEFI Shell on the console once it comes up;
            ``boot`` leaves it to the firmware.
        fill: before a cycle the store is filled with dead records until so many bytes are free,
            so that the firmware must reclaim it; None leaves it.
        ignore: variables that are not looked at.
        state: the state directory, for the history; None records nothing.
    """

    cycles: int
    folder: Path
    seed: int = 0
    window: float = 30.0
    stress: Stress = "shell"
    fill: int | None = None
    ignore: tuple[str, ...] = ()
    state: Path | None = None


@dataclass(slots=True)
class _Bench:
    """What the cycles share."""

    rig: Rig
    options: EnduranceOptions
    chance: random.Random
    place: Place
    expected: Expected
    good: bytes
    reporter: Reporter
    cancel: CancelToken
    token: LinkedToken
    start: str = "as found"
    failures: set[bytes] = field(default_factory=set[bytes])

    @property
    def switch(self) -> QemuSwitch | None:
        found = self.rig.power.switch
        return found if isinstance(found, QemuSwitch) else None

    def volume(self, session: Session) -> bytes:
        span = [self.place.volume]
        quiet = NullReporter()
        return read_ranges(session.flash, span, phase="read", reporter=quiet, cancel=self.cancel)[0]

    def put(self, session: Session, segments: list[Segment]) -> None:
        """Write; its backups and history are the test's own."""
        how = WriteOptions(
            self.options.folder / "work",
            kind="endurance",
            named_regions=frozenset(region.name for region in self.rig.board.region_map()),
        )
        write(session, segments, how, NullReporter(), self.cancel)


def run_endurance(
    request: Request,
    options: EnduranceOptions,
    reporter: Reporter,
    cancel: CancelToken,
    on_cycle: Callable[[Cycle], None] | None = None,
) -> EnduranceResult:
    """Run the cycles; the board is off at the end, and its store as it was, whatever happened.

    Args:
        request: board and programmer.
        options: how.
        reporter: is told how it goes.
        cancel: a request to stop: the power is cut, the store is not put back.
        on_cycle: is given each cycle when it is over.

    Raises:
        ImageError: there is no variable store (``uefi.no-store``), or it is not sound
            (``uefi.unhealthy``): what is lost later could not be told.
        HwflashError: see `Rig`; nothing was changed.
        ChipStateUnknown: it ended between the first cycle and the last;
            ``context["before"]`` is the way back.
    """
    began, started = time.time(), time.monotonic()
    token = LinkedToken(cancel)
    log = options.folder / "console.log"
    cycles: list[Cycle] = []
    with Rig(request, reporter, cancel, log, token) as rig:
        rig.off()
        with rig.session() as session:
            bench, before = _prepared(rig, session, options, reporter, cancel, token)
        try:
            for number in range(1, options.cycles + 1):
                cycles.append(_cycle(bench, number))
                reporter.progress(Progress("cycles", number, options.cycles))
                if on_cycle is not None:
                    on_cycle(cycles[-1])
            result = EnduranceResult(
                rig.board.name, options.seed, tuple(cycles), options.cycles,
                round(time.monotonic() - started, 3), before,
            )  # fmt: skip
            _finish(bench, result, began)
        except HwflashError as exc:
            # A journal of the test's own is not what `hwflash write --resume` goes on with.
            kept = {key: exc.context[key] for key in exc.context if key not in ("resume", "backup")}
            more = {"before": str(before), "cycles": len(cycles), "chip_state": CHANGED}
            raise behind_a_change(exc, "the test was not finished", {**kept, **more}) from exc
    return result


def _finish(bench: _Bench, result: EnduranceResult, began: float) -> None:
    """Put the store back as it was, and record the test."""
    span, options = bench.place.volume, bench.options
    with bench.rig.session() as session:
        first = result.before.read_bytes()
        bench.put(session, [Segment(span.address, first[span.address : span.end])])
        facts = Facts("endurance", span.length, details=summary(result))
        outcome = "differs" if result.lost else "ok"
        looked(options.state, session, facts, outcome, began, bench.reporter)


# --- one cycle --------------------------------------------------------------------------------


def _prepared(
    rig: Rig,
    session: Session,
    options: EnduranceOptions,
    reporter: Reporter,
    cancel: CancelToken,
    token: LinkedToken,
) -> tuple[_Bench, Path]:
    """Save the whole chip, and find the store."""
    whole = [Range(0, session.chip.size)]
    content = read_ranges(session.flash, whole, phase="read", reporter=reporter, cancel=cancel)[0]
    before = options.folder / "before.bin"
    _save(before, content)
    found = stores_in(rig, content)
    if not found:
        raise ImageError(f"there is no variable store on {rig.board.name}", code="uefi.no-store")
    place = Place.of(found[0])
    data = content[place.volume.address : place.volume.end]
    expected = Expected(())
    first = judge(place, data, data, expected)
    if first.verdict in FAILED:
        raise ImageError(
            f"the store at 0x{place.volume.address:06X} must be repaired first: {first.why}",
            code="uefi.unhealthy",
            offset=place.volume.address,
        )
    expected = Expected(first.variables, options.ignore)
    chance = random.Random(options.seed)  # noqa: S311 - the same moments for the same seed
    bench = _Bench(rig, options, chance, place, expected, data, reporter, cancel, token)
    return bench, before


def _cycle(bench: _Bench, number: int) -> Cycle:
    bench.cancel.check()
    rig, options = bench.rig, bench.options
    with rig.session() as session:
        before = bench.volume(session)
        found = bench.place.read(before)
        if options.fill is not None and found is not None:
            dead = filling(found, options.fill)
            if dead is not None:
                bench.put(session, [dead])
                before = bench.volume(session)
                found = bench.place.read(before)
    watched = bench.switch is not None
    chance = random.Random(f"{options.seed} {number}")  # noqa: S311 - each cycle by itself
    plan = plan_cut(chance, options.window, bench.place, found, watched=watched)
    shell, sets, seconds, by_byte = _stressed(bench, plan, chance)
    with rig.session() as session:
        data = bench.volume(session)
        judged = judge(bench.place, before, data, bench.expected)
        kept = _after(bench, session, number, judged, data)
    switch = bench.switch
    cycle = Cycle(
        number, bench.start, plan.where if by_byte or plan.address is None else "at the end",
        round(seconds, 3), shell, sets,
        len(switch.operations) if switch is not None else 0,
        len(switch.impossible) if switch is not None else 0,
        judged.state, judged.verdict, judged.why, kept,
    )  # fmt: skip
    bench.start = "put back" if judged.verdict in FAILED else judged.state
    return cycle


def _stressed(bench: _Bench, plan: CutPlan, chance: random.Random) -> tuple[bool, int, float, bool]:
    """Switch on, let the board write, cut: Shell seen, variables set, seconds on, by a byte."""
    rig, switch = bench.rig, bench.switch
    bench.token.reset()
    sets = 0
    shell = False
    rig.on()
    on = rig.seconds()
    cut = switch.pull if switch is not None else bench.token.cancel
    image = switch.image if switch is not None else None
    with Cutter(plan, rig.seconds, cut, image, bench.cancel) as cutter:
        try:
            if bench.options.stress == "shell":
                prompt = _shell(rig, bench.options.window)
                shell = True
                while not cutter.fired.is_set():
                    _set_one(prompt, bench.expected, chance)
                    sets += 1
        except HwflashError as exc:
            bench.cancel.check()
            if not exc.code.startswith(_GONE):
                raise
        while not cutter.fired.wait(0.05):
            bench.cancel.check()
        seconds = rig.seconds() - on
    rig.off()
    return shell, sets, seconds, cutter.by_byte


def _shell(rig: Rig, patience: float) -> Shell:
    switch = rig.power.switch
    if isinstance(switch, QemuSwitch) and switch.guest is not None:
        return switch.guest.wait_for_shell(patience)
    rig.console.expect(PROMPT, patience)
    return Shell(rig.console)


def _set_one(shell: Shell, expected: Expected, chance: random.Random) -> None:
    name = chance.choice(NAMES)
    data = chance.randbytes(chance.randint(1, LONGEST_VALUE))
    expected.begin((name, VENDOR), (ATTRIBUTES, data))
    try:
        shell.setvar(name, data, VENDOR, ATTRIBUTES)
    except HwflashError as exc:
        if exc.code != "reference.shell-command":  # refused: no room; the old value stays
            raise
    else:
        expected.done((name, VENDOR), (ATTRIBUTES, data))


def _after(
    bench: _Bench, session: Session, number: int, judged: Judged, data: bytes
) -> Path | None:
    """Go on from a good store, or keep the lost one and put the last good one back."""
    if judged.verdict not in FAILED:
        bench.expected.settle(judged.variables)
        if judged.verdict == "kept":
            bench.good = data
        return None
    kept = None
    if data not in bench.failures:
        bench.failures.add(data)
        kept = bench.options.folder / f"lost-{number:04d}.bin"
        _save(kept, data)
    bench.reporter.warning(
        f"cycle {number}: the store is {judged.verdict} ({judged.why}); the last good one is "
        "put back",
        code="endurance.lost",
        cycle=number,
    )
    bench.put(session, [Segment(bench.place.volume.address, bench.good)])
    found = bench.place.read(bench.good)
    if found is not None and found.store is not None:
        bench.expected.settle(variables_of(found.store))
    return kept


def filling(found: Found, free: int) -> Segment | None:
    """Dead records behind the last one, until ``free`` bytes are left; None where that is done,
    or where the store is not at rest.
    """
    store = found.store
    if store is None or store.kind is None or found.ftw.verdict != "idle" or not found.healthy:
        return None
    if any(store.tail.strip(b"\xff")):
        return None
    room, at, pieces = store.end - free - store.free_offset, store.free_offset, list[bytes]()
    while True:
        head = len(make_record("Filling", VENDOR, ATTRIBUTES, b"", kind=store.kind).build())
        size = min(_FILLING, room - head)
        if size < 4:
            break
        record = make_record(
            "Filling", VENDOR, ATTRIBUTES, bytes(size - size % 4), kind=store.kind,
            state=State.DELETED_AFTER_TRANSITION, offset=at,
        ).build()  # fmt: skip
        pieces.append(record)
        at += len(record)
        room -= len(record)
    return Segment(store.free_offset, b"".join(pieces)) if pieces else None


def _save(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as exc:
        raise EnvironmentFault(
            f"{path} cannot be written: {exc.strerror}", code="environment.unwritable",
            file=str(path),
        ) from exc  # fmt: skip
