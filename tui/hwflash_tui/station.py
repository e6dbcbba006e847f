"""A station: one programmer as the interface knows it.

All of it is used by the interface's thread only; what the actor's thread says comes through the
mailbox, when `Station.poll` looks.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

from hwflash.boards import Board, BoardEntry, load_board
from hwflash.diagnostics import advice_for
from hwflash.errors import HwflashError
from hwflash.jobs.look import ChipFacts, chip_facts, half_written, likely_boards
from hwflash.jobs.opening import Request
from hwflash.jobs.order import Hooks, Order, OrderResult, Plan, run_order
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.write import unfinished
from hwflash.progress import PLAN
from hwflash.units import Range
from hwflash_tui.actor import DeviceActor, Finished, Question, Task, TaskContext
from hwflash_tui.chipmap import Done
from hwflash_tui.mailbox import Line, Mailbox
from hwflash_tui.meter import Meter, Reading
from hwflash_tui.outcome import FAIL, PASS, Outcome, backup_of, of_error, of_result

#: Words of one job that are kept.
LOG_LINES: Final = 500


class Standing(Enum):
    """What a station is doing: a sign and a word."""

    NEW = ("○", "not looked at yet")
    WORKING = ("…", "working")
    READY = ("●", "ready")
    TROUBLE = ("✗", "trouble")
    PREPARING = ("…", "reading and backing up")
    ASKING = ("?", "waits for your yes")
    RUNNING = ("►", "writing")
    STOPPING = ("■", "stopping after this block")
    PASSED = ("✓", "PASS")
    FAILED = ("✗", "FAIL, chip unchanged")
    UNKNOWN = ("!", "FAIL, chip in unknown state")
    STOPPED = ("■", "stopped, chip unchanged")
    GONE = ("-", "unplugged")

    def __init__(self, sign: str, word: str) -> None:
        self.sign = sign
        self.word = word

    @property
    def css(self) -> str:
        """Its class in style sheets."""
        return f"standing-{self.name.lower()}"


#: Somebody is at work, or waits for an answer.
BUSY: Final = frozenset(
    {Standing.WORKING, Standing.PREPARING, Standing.ASKING, Standing.RUNNING, Standing.STOPPING}
)


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at a programmer found.

    Attributes:
        chip: what is on it.
        boards: what that may be.
        unfinished: orders that go on or back when a write to this chip stopped half way.
    """

    chip: ChipFacts
    boards: tuple[BoardEntry, ...]
    unfinished: Mapping[str, Order]


class Station:
    """One programmer.

    Attributes:
        url: opens it.
        name: how people call it.
        number: on the screen, from 1.
        standing: what it is doing.
        sight: what a look found, or None.
        trouble: why the last look or task failed, or None.
        order: the order at work, or the last one.
        board: the board of that order, or None.
        question: the plan that waits for a yes, or None.
        plan: the last plan, kept while it is carried out and afterwards.
        done: how far the plan is.
        meter: progress.
        log: words of the job at work.
        backup: of what was there before, as soon as it is on disk.
        outcome: how the last order ended, or None.
        finished: the last task that ended.
        found: what else the task has posted so far.
        label: what is being done, in words.
    """

    def __init__(
        self, number: int, url: str, name: str, state: Path,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.number = number
        self.url = url
        self.name = name
        self.state = state
        self.environ = environ
        self.standing = Standing.NEW
        self.sight: Sight | None = None
        self.trouble: HwflashError | None = None
        self.order: Order | None = None
        self.board: Board | None = None
        self.question: Question | None = None
        self.done = Done()
        self.meter = Meter()
        self.log: deque[Line] = deque(maxlen=LOG_LINES)
        self.backup: Path | None = None
        self.outcome: Outcome | None = None
        self.finished: Finished | None = None
        self.found: list[object] = []
        self.label = ""
        self.asked_at = 0.0
        self.mailbox = Mailbox()
        self._clock = clock
        self.plan: Plan | None = None
        self._stopping = False
        self.actor = DeviceActor(f"programmer {number}", self.mailbox)

    @property
    def busy(self) -> bool:
        """Somebody is at work, or waits for an answer."""
        return self.standing in BUSY

    @property
    def half_written(self) -> bool:
        """A write to the chip stopped half way, and nothing is being done about it."""
        sight = self.sight
        return self.standing is Standing.READY and sight is not None and bool(sight.unfinished)

    @property
    def sign(self) -> str:
        """The sign that goes with `word`."""
        return Standing.UNKNOWN.sign if self.half_written else self.standing.sign

    @property
    def word(self) -> str:
        """What it is doing, in words."""
        if self.standing is Standing.WORKING:
            return self.label
        if self.half_written:
            return "half written: press Enter"
        if self.standing is Standing.TROUBLE and self.trouble is not None:
            return self.trouble.message
        return self.standing.word

    @property
    def reading(self) -> Reading | None:
        """Phase, rate and time left of the work at hand."""
        return self.meter.reading(self._clock()) if self.busy else None

    @property
    def seconds_asked(self) -> float:
        """How long a plan waits for its yes."""
        return self._clock() - self.asked_at

    @property
    def guarded(self) -> list[Range]:
        """Regions that the board protects and the order does not name."""
        regions = self.board.region_map() if self.board is not None else ()
        named = self.order.regions if self.order is not None else ()
        return [item.range for item in regions if item.protected and item.name not in named]

    # --- what a person asks for -----------------------------------------------------------

    def look(self) -> None:
        """See what is on it."""
        self.submit(Task("look", "looking at the chip", self._look))

    def start(self, order: Order, work: Callable[[Hooks], OrderResult] | None = None) -> None:
        """Carry an order out.

        Args:
            order: what is to be done.
            work: does it, if that is not `hwflash.jobs.order.run_order`; somebody has agreed to it.
        """
        order = replace(order, programmer=order.programmer or self.url)
        self.order = order
        self.board = None
        with suppress(HwflashError):  # the order itself will say what is wrong with it
            self.board = load_board(order.board, self.environ) if order.board else None
        self.outcome = None
        self.backup = None
        self.plan = None
        self.done = Done()
        if work is None:
            self.submit(
                Task("order", order.action, lambda task: run_order(order, self.hooks(task)))
            )
        else:
            self.submit(Task("order", order.action, lambda task: work(self.agreed(task))))
        self.standing = Standing.PREPARING

    def submit(self, task: Task) -> None:
        """Do something on the programmer; the end comes as `finished`."""
        if self.busy:
            return
        self._lay_aside()
        self.meter = Meter()
        self.log.clear()
        self.found.clear()
        self.trouble = None
        self.finished = None
        self._stopping = False
        self.label = task.label
        self.standing = Standing.WORKING
        self.actor.submit(task)

    def answer(self, agreed: bool) -> None:
        """Answer the plan that waits."""
        if self.question is None:
            return
        self.question.answer(agreed)
        self.question = None
        self.standing = Standing.RUNNING if agreed else Standing.PREPARING

    def stop(self) -> None:
        """Ask the work to stop after this block."""
        if not self.busy:
            return
        self.actor.stop()
        self._stopping = True
        if self.standing is not Standing.ASKING:
            self.standing = Standing.STOPPING

    def settle(self) -> None:
        """The result was seen: back to what the chip is."""
        if not self.busy:
            self.outcome = None
            self.standing = Standing.READY if self.sight is not None else Standing.NEW

    def forget(self) -> None:
        """The board is changed for the next one: look at that."""
        if not self.busy:
            self.outcome = None
            self.order = None
            self.sight = None
            self.look()

    def _lay_aside(self) -> None:
        """Another board may be there by now, which must not show the verdict of the last one; but
        a way on or back is kept.
        """
        if self.outcome is not None and not self.outcome.followups:
            self.outcome = None

    def unplug(self) -> None:
        """The programmer is gone from the USB."""
        if not self.busy:
            self._lay_aside()
            self.standing = Standing.GONE
            self.sight = None

    # --- what the thread said --------------------------------------------------------------

    def poll(self) -> bool:
        """Look into the mailbox; whether anything came."""
        delivery = self.mailbox.take()
        now = self._clock()
        for event in delivery.progress:
            self.meter.update(event, now)
            plan = self.plan
            if event.phase == PLAN and plan is not None:
                if event.total == round(plan.seconds * 1e3):  # and not that of a repair
                    self.done = replace(self.done, seconds=event.done / 1e3)
            elif event.phase == "verify" and event.address is not None:
                self.done = replace(self.done, verified=event.address)
        for line in delivery.lines:
            self.log.append(line)
            self.backup = backup_of(line.facts) or self.backup
        for item in delivery.posts:
            self._take(item)
        return bool(delivery)

    def _take(self, item: object) -> None:
        match item:
            case Question():
                self._ask(item)
            case Plan():
                self.plan, self.done = item, Done()
                self.standing = Standing.STOPPING if self._stopping else Standing.RUNNING
            case Sight():
                self.sight = item
            case Finished():
                self._finish(item)
            case _:
                self.found.append(item)

    def _ask(self, question: Question) -> None:
        self.plan = question.plan
        self.done = Done()
        if self._stopping:
            return  # the thread hears of it while it waits
        self.question = question
        self.asked_at = self._clock()
        self.standing = Standing.ASKING

    def _finish(self, end: Finished) -> None:
        self.finished = end
        self.question = None
        self.trouble = end.error
        if end.task.kind == "order" and self.order is not None:
            self._judge(end, self.order)
        elif end.error is not None:
            self.standing = Standing.TROUBLE
            if end.task.kind == "look":
                self.sight = None
        else:
            if isinstance(end.value, Sight):
                self.sight = end.value
                self.outcome = None  # what is half written is in the sight
            self.standing = Standing.READY

    def _judge(self, end: Finished, order: Order) -> None:
        if isinstance(end.value, OrderResult):
            self.outcome = of_result(end.value)
        else:
            self.outcome = of_error(end.error or HwflashError("nothing came back"), order)
        outcome = self.outcome
        for after in outcome.followups.values():
            # As the programmer names itself: without the accidents of one run of a simulation.
            self.url = after.programmer or self.url
        self.done = replace(self.done, wrong=outcome.wrong)
        if outcome.verdict == PASS:
            self.standing = Standing.PASSED
            self._forget_finished()
        elif outcome.unknown:
            self.standing = Standing.UNKNOWN
        else:
            self.standing = Standing.FAILED if outcome.verdict == FAIL else Standing.STOPPED

    def _forget_finished(self) -> None:
        """The look came before the order: what that finished is not half written now."""
        found = self.sight.unfinished.get("resume") if self.sight is not None else None
        if self.sight is not None and found is not None:
            try:
                unfinished(self.state, found.job)
            except HwflashError:
                self.sight = replace(self.sight, unfinished={})

    def help_for_trouble(self) -> str:
        """What helps against the trouble at hand."""
        return advice_for(self.trouble.code).hint if self.trouble is not None else ""

    # --- in the actor's thread -------------------------------------------------------------

    def _look(self, task: TaskContext) -> Sight:
        request = Request(programmer=self.url, environ=self.environ)
        with open_session(request, task.mailbox) as session:
            return self._sight(session)

    def _sight(self, session: Session) -> Sight:
        record = half_written(session, self.state)
        orders: dict[str, Order] = {}
        if record is not None:
            url = session.programmer.url
            orders["resume"] = Order("resume", url, job=record.name)
            orders["restore"] = Order("restore", url, file=Path(record.backup))
        boards = tuple(likely_boards(session, self.environ))
        return Sight(chip_facts(session), boards, orders)

    def hooks(self, task: TaskContext) -> Hooks:
        """What a job is given that asks before it changes anything."""

        def opened(session: Session) -> None:
            task.mailbox.post(self._sight(session))

        return Hooks(self.state, task.mailbox, task.cancel, task.confirm, opened, self.environ)

    def agreed(self, task: TaskContext) -> Hooks:
        """The same for a plan that was shown and agreed to before."""

        def announce(plan: Plan) -> bool:
            task.mailbox.post(plan)
            return True

        return replace(self.hooks(task), confirm=announce)
