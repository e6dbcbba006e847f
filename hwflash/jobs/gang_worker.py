"""One programmer of a gang, in a process of its own: ``python -m hwflash.jobs.gang_worker FD``.

It is told what to do over a socket pair that it inherits, and tells how it goes. SIGTERM and
SIGINT are a request to stop at the next safe point. When the parent is gone, what was begun is
brought to its end and recorded, and nothing new is begun.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from hwflash.errors import ChipStateUnknown, HwflashError, Interrupted, UsageError
from hwflash.flash.plan import Plan
from hwflash.jobs.gang_pool import PoolView
from hwflash.jobs.gang_task import Bench, JobTask, ReadTask, VerifyTask, WriteTask
from hwflash.jobs.gang_wire import (
    Changing,
    Claimed,
    Ended,
    Failure,
    Free,
    Go,
    Hello,
    Hold,
    Identified,
    NextUnit,
    Planned,
    Report,
    Said,
    plain,
)
from hwflash.jobs.jobrun import Run, run_unit
from hwflash.jobs.opening import Request
from hwflash.jobs.serials import SerialStore
from hwflash.jobs.session import Session, open_session
from hwflash.jobs.unit_entry import outcome_of
from hwflash.progress import CancelToken, Progress

#: Seconds between two lines of progress of a phase.
PACE: Final = 0.1
_GONE: Final = "gang.parent-gone"


class Link:
    """The way to the parent; also the `hwflash.progress.Reporter` of the work."""

    def __init__(self, connection: Connection, cancel: CancelToken) -> None:
        self._connection = connection
        self._cancel = cancel
        self._gone = False
        self._said: dict[str, float] = {}

    def send(self, report: Report) -> None:
        """Tell the parent. One that is gone is no reason to leave a chip half written."""
        if not self._gone:
            try:
                self._connection.send(report)
            except OSError:
                self._gone = True

    def order(self) -> Any:
        """Wait for an order.

        Raises:
            Interrupted: a stop was asked for, or the parent is gone (``gang.parent-gone``).
        """
        try:
            while not self._connection.poll(PACE):
                self._cancel.check()
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise Interrupted("the gang was given up", code=_GONE) from error

    def progress(self, event: Progress, /) -> None:
        """Pass progress on, not too often."""
        now = time.monotonic()
        ended = event.done >= event.total
        if ended or now - self._said.get(event.phase, 0.0) >= PACE:
            self._said[event.phase] = now
            self.send(event)

    def info(self, message: str, /, **context: object) -> None:
        """Pass on a remark."""
        self.send(Said(False, message, plain(context)))

    def warning(self, message: str, /, **context: object) -> None:
        """Pass on a warning."""
        self.send(Said(True, message, plain(context)))


class _Log(logging.Handler):
    """What would be a line on stderr is a warning of this programmer."""

    def __init__(self, link: Link) -> None:
        super().__init__(logging.ERROR)
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        self._link.warning(record.getMessage(), logger=record.name)


def main(arguments: list[str]) -> int:
    """Entry point; the exit code tells the parent nothing."""
    connection = Connection(int(arguments[0]))
    cancel = CancelToken()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: cancel.cancel())
    link = Link(connection, cancel)
    logging.root.handlers = [_Log(link)]
    link.send(Hello())
    try:
        task, request, number, descriptor = connection.recv()
    except (EOFError, OSError):
        return 0
    view = PoolView(descriptor)
    if isinstance(task, JobTask):
        _run_units(task, request, number, view, link, cancel)
    else:
        _run_once(task, request, number, view, link, cancel)
    return 0


# --- write, erase, verify, read ---------------------------------------------------------------


def _run_once(
    task: WriteTask | VerifyTask | ReadTask,
    request: Request,
    number: int,
    view: PoolView,
    link: Link,
    cancel: CancelToken,
) -> None:
    facts: dict[str, Any] = {}

    def confirm(plan: Plan) -> bool:
        link.send(Planned(plan.as_dict()))
        order = link.order()
        if isinstance(order, Hold):
            raise Interrupted(order.message, code=order.code)
        return isinstance(order, Go)

    def claim(files: Sequence[Path]) -> None:
        link.send(Claimed(tuple(str(file.resolve()) for file in files)))
        order = link.order()
        if isinstance(order, Hold):
            raise UsageError(order.message, code=order.code)

    try:
        cancel.check()
        with open_session(request, link) as session:
            link.send(Identified(chip_facts(session)))
            bench = Bench(number, view, link, cancel, confirm, claim)
            keys, outcome = task.carry_out(session, bench)
            facts = {**keys, "seconds": round(session.seconds, 6), "stats": session.stats()}
        facts["cpu_seconds"] = round(time.process_time(), 3)
        link.send(Ended(plain(facts), outcome))
    except HwflashError as error:
        link.send(Ended(plain(facts), _outcome(error), Failure.of(error)))


def chip_facts(session: Session) -> dict[str, Any]:
    """Which chip is on which programmer."""
    return {
        "programmer": session.programmer.url,
        "part": session.chip.part,
        "jedec_id": session.chip.jedec_id.hex(),
        "unique_id": session.unique_id(),
        "board": session.board.name if session.board is not None else None,
        "simulated": session.programmer.simulated,
    }


def _outcome(error: HwflashError) -> str:
    if isinstance(error, Interrupted):
        return "interrupted"
    return "unknown" if isinstance(error, ChipStateUnknown) else "failed"


# --- job run ----------------------------------------------------------------------------------


def _run_units(
    task: JobTask, request: Request, number: int, view: PoolView, link: Link, cancel: CancelToken
) -> None:
    batch = task.batch(view)
    form_url = request.programmer

    def of_unit(unit: int) -> Request:
        url = form_url.replace("{unit}", str(unit)) if form_url is not None else None
        return replace(request, programmer=url)

    try:
        with SerialStore(task.state) if batch.supply.series else nullcontext() as store:
            run = Run(
                batch, of_unit, store, task.state, link, cancel, task.backup_folder,
                changing=lambda _unit: link.send(Changing()), name=task.name,
                identified=lambda session: link.send(Identified(chip_facts(session))),
            )  # fmt: skip
            _serve(run, link)
    except HwflashError as error:  # of the store of numbers
        link.send(Ended({}, _outcome(error), Failure.of(error)))


def _serve(run: Run, link: Link) -> None:
    while True:
        link.send(Free())
        try:
            order = link.order()
        except Interrupted:
            return
        if not isinstance(order, NextUnit):
            return
        result = run_unit(run, order.unit)
        failure = Failure.of(result.error) if result.error is not None else None
        link.send(Ended(plain(result.as_dict()), outcome_of(result), failure))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
