"""Several programmers at once: a process for each, one image, one summary.

The parent opens no programmer. It starts a worker for each (`hwflash.jobs.gang_worker`), as a new
program and not as a fork, hands out what is to be done and collects what became of it. A worker
that crashes, is killed or loses its programmer harms no other; what its chip is known to be is
then told by its last words and its journal.

Nothing is written to a chip before its worker said that it has identified, backed up and planned,
and the parent said go. Whether the parent waits for all of them first is `Terms`.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any, Final

from hwflash.bus.url import parse_url
from hwflash.errors import HwflashError, Interrupted
from hwflash.jobs.gang_desk import Desk, Operator, Watcher
from hwflash.jobs.gang_devices import Device
from hwflash.jobs.gang_lost import remember_lost, what_became
from hwflash.jobs.gang_pool import Pool
from hwflash.jobs.gang_result import Row
from hwflash.jobs.gang_task import JobTask, Task
from hwflash.jobs.gang_wire import (
    Changing,
    Claimed,
    Ended,
    Free,
    Go,
    Hello,
    Hold,
    Identified,
    Leave,
    NextUnit,
    Order,
    Planned,
    Said,
)
from hwflash.jobs.opening import Request
from hwflash.progress import CancelToken, Progress

#: Seconds between looks at the request to stop.
PACE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Terms:
    """When plans are carried out.

    Attributes:
        confirm: asked once, with the plans by device and the rows of those that failed, when
            every programmer has planned or failed; None asks nobody.
        all_or_nothing: nothing is written to any chip when one programmer failed before.
    """

    confirm: Callable[[Mapping[Device, Mapping[str, Any]], Sequence[Row]], bool] | None = None
    all_or_nothing: bool = False

    @property
    def together(self) -> bool:
        """Whether all wait for the slowest."""
        return self.confirm is not None or self.all_or_nothing


@dataclass(slots=True)
class _Worker:
    """A process and what is known of it."""

    device: Device
    process: subprocess.Popen[bytes]
    connection: Connection
    errors: IO[bytes]
    row: Row
    started: float = field(default_factory=time.time)
    plan: Mapping[str, Any] | None = None
    hello: bool = False
    free: bool = False
    busy: bool = True

    def send(self, order: Order) -> None:
        with suppress(OSError):  # one that died is seen when its connection ends
            self.connection.send(order)


class Gang:
    """Programmers at work. Use it as a context manager.

    Args:
        devices: the programmers.
        task: what each is to do.
        request: what is known of programmers and chips; each device's URL goes into it.
        pool: the shared files, sealed.
        state: the state directory.
        watcher: is told how it goes.
        cancel: a request to stop: each worker stops at its next safe point.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        task: Task,
        request: Request,
        pool: Pool,
        state: Path,
        watcher: Watcher,
        cancel: CancelToken,
    ) -> None:
        self._state = state
        self._watcher = watcher
        self._batch = task.name if isinstance(task, JobTask) else None
        self._cancel = cancel
        self._rows: list[Row] = []
        self._stopped = False
        self._files: dict[str, Device] = {}
        #: Somebody said that enough is enough.
        self.declined = False
        self._stack = ExitStack()
        self._workers: list[_Worker] = []
        try:
            for device in devices:
                self._workers.append(_started(device, pool, self._stack))
            for worker in self._workers:
                mine = replace(request, programmer=worker.device.url)
                number = worker.device.number
                with suppress(OSError):
                    worker.connection.send((task, mine, number, pool.descriptor))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Gang:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pids(self) -> dict[int, int]:
        """Process ids of the workers, by number of the device."""
        return {worker.device.number: worker.process.pid for worker in self._workers}

    def close(self) -> None:
        """Wait for workers that are still there; what they began, they bring to a safe point."""
        for worker in self._workers:
            worker.connection.close()
            if worker.hello:
                worker.process.terminate()  # a request to stop
        for worker in self._workers:
            worker.process.wait()
        self._stack.close()

    # --- write, erase, verify, read -----------------------------------------------------------

    def run(self, terms: Terms) -> list[Row]:
        """Do the task once on each programmer; a row for each, in their order."""
        waiting = True
        for worker in self._reports():
            if worker.plan is not None and not worker.row.begun and not terms.together:
                self._go(worker)
            if waiting and terms.together and not self._unplanned():
                waiting = False
                self._decide(terms)
        return sorted(self._rows, key=lambda row: row.device.number)

    def _unplanned(self) -> bool:
        return any(worker.busy and worker.plan is None for worker in self._workers)

    def _decide(self, terms: Terms) -> None:
        ready = [worker for worker in self._workers if worker.busy and worker.plan is not None]
        failed = [row for row in self._rows if not row.passed]
        if not ready:
            return
        if terms.all_or_nothing and failed:
            names = ", ".join(str(row.device) for row in failed)
            self._hold(ready, "gang.held-back", f"another programmer failed: {names}")
            return
        agreed = True
        if terms.confirm is not None and not self._cancel.cancelled:
            plans = {worker.device: worker.plan or {} for worker in ready}
            try:
                agreed = terms.confirm(plans, failed)
            except Interrupted:
                self._cancel.cancel()
        if not agreed or self._cancel.cancelled:
            self._hold(ready, "interrupted.declined", "not confirmed")
            return
        for worker in ready:
            self._go(worker)

    def _go(self, worker: _Worker) -> None:
        worker.row.begun = True
        worker.send(Go())

    def _hold(self, workers: Sequence[_Worker], code: str, message: str) -> None:
        for worker in workers:
            worker.send(Hold(code, message))

    # --- job run ------------------------------------------------------------------------------

    def run_units(
        self,
        units: int,
        operator: Operator | None,
        ends_batch: Callable[[HwflashError], bool],
        out_of_work: Callable[[HwflashError], bool],
    ) -> list[Row]:
        """Hand out units to programmers that are free; a row for each that was begun.

        Args:
            units: how many.
            operator: is asked for each board but the first of a programmer; None: a rig changes
                them.
            ends_batch: whether no more units are handed out after this failure.
            out_of_work: whether the programmer gets no more after this failure.
        """
        desk = Desk(operator)
        following = 1
        ended = False
        for worker in self._reports(desk):
            for row in self._rows:
                if row.error is not None and ends_batch(row.error):
                    ended = True
            self.declined = self._cancel.cancelled or desk.declined
            ended = ended or self.declined
            last = [row for row in self._rows if row.device is worker.device][-1:]
            if last and last[0].error is not None and out_of_work(last[0].error) and worker.free:
                worker.free = False
                worker.send(Leave())
            for other in self._workers:
                if not other.free:
                    continue
                if ended or following > units:
                    other.free = False
                    other.send(Leave())
                elif desk.ready(other.device, following, first=other.row.unit is None):
                    other.free = False
                    other.busy = True
                    other.row = Row(other.device, following)
                    other.send(NextUnit(following))
                    following += 1
        return sorted(self._rows, key=lambda row: (row.unit or 0, row.device.number))

    # --- what workers say ---------------------------------------------------------------------

    def _reports(self, desk: Desk | None = None) -> Generator[_Worker]:
        """Take in what comes; the worker after each of its reports that matters."""
        alive = {worker.connection: worker for worker in self._workers}
        while alive:
            self._pass_on_the_stop()
            asked = desk.waitable() if desk is not None else []
            ready = wait([*alive, *asked], PACE if desk is None or not desk.immediate else 0)
            if desk is not None and desk.answered(ready):
                yield next(iter(alive.values()))
            for item in ready:
                worker = alive.get(item)  # type: ignore[call-overload]
                if worker is None:
                    continue
                try:
                    report: Any = worker.connection.recv()
                except (EOFError, OSError):
                    del alive[worker.connection]
                    self._gone(worker)
                    yield worker
                    continue
                if self._taken(worker, report):
                    yield worker

    def _taken(self, worker: _Worker, report: Any) -> bool:
        """Take a report in; whether something has to be decided."""
        match report:
            case Progress():
                self._watcher.progress(worker.device, report)
                return False
            case Said():
                self._watcher.said(worker.device, report)
                return False
            case Hello():
                worker.hello = True
                self._stopped = False  # it may have to be told, too
                return False
            case Identified():
                worker.row.chip = report.chip
                return False
            case Changing():
                worker.row.begun = True
                return False
            case Claimed():
                self._claim(worker, report.files)
                return False
            case Planned():
                worker.plan = report.plan
            case Free():
                worker.free, worker.busy = True, False
            case Ended():
                failure = report.failure
                row = worker.row
                row.facts, row.outcome = report.facts, report.outcome
                row.error = failure.error() if failure is not None else None
                self._end(worker)
            case _:
                raise AssertionError(report)
        return True

    def _claim(self, worker: _Worker, files: Sequence[str]) -> None:
        """Let a file be made by one programmer only: unique ids need not be unique."""
        for file in files:
            other = self._files.setdefault(file, worker.device)
            if other is not worker.device:
                text = f"{file} is the file of {other} already: name files after {{n}}"
                self._hold([worker], "gang.same-file", text)
                return
        worker.send(Go())

    def _end(self, worker: _Worker) -> None:
        worker.busy = False
        worker.plan = None
        self._rows.append(worker.row)
        self._watcher.ended(worker.row)

    def _gone(self, worker: _Worker) -> None:
        """The process has ended: as it should, or in the middle of something."""
        worker.free = False
        code = worker.process.wait()
        if not worker.busy:
            return
        row = worker.row
        if self._cancel.cancelled and not row.begun:
            row.error, row.outcome = Interrupted(), "interrupted"
        else:
            url = str(row.chip.get("programmer") or parse_url(worker.device.url).lasting)
            row.error = what_became(row, code, worker.errors, self._state, url, worker.started)
            row.outcome = "unknown" if row.error.exit_code == 6 else "failed"
            entry = remember_lost(self._state, row, self._batch, worker.started, self._watcher)
            if entry is not None:
                row.error.context = {**row.error.context, "history": entry}
        self._end(worker)

    def _pass_on_the_stop(self) -> None:
        if not self._cancel.cancelled or self._stopped:
            return
        self._stopped = True
        for worker in self._workers:
            if worker.hello and worker.process.poll() is None:
                worker.process.terminate()


def _started(device: Device, pool: Pool, stack: ExitStack) -> _Worker:
    """Start a worker. It has its own session: Ctrl-C reaches it through the parent only."""
    mine, its = socket.socketpair()
    errors = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the gang closes it
    try:
        process = subprocess.Popen(
            # -P: a file json.py in the folder we are in must not be taken for the library's.
            [sys.executable, "-P", "-m", "hwflash.jobs.gang_worker", str(its.fileno())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
            pass_fds=(its.fileno(), pool.descriptor), start_new_session=True,
        )  # fmt: skip
    except BaseException:
        mine.close()
        raise
    finally:
        its.close()
    return _Worker(device, process, Connection(mine.detach()), errors, Row(device))
