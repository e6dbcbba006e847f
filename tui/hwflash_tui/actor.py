"""The device actor: the one thread that touches a programmer.

Tasks come through a queue and are done one after the other. A stop is a request that the job
looks at between blocks; the thread is never killed, and `join` waits for it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hwflash.errors import HwflashError
from hwflash.jobs.order import Plan
from hwflash.progress import CancelToken
from hwflash_tui.mailbox import Mailbox

_log = logging.getLogger(__name__)

#: How often a thread that waits for an answer looks whether it should stop.
LOOK_SECONDS: Final = 0.05


class Question:
    """A plan that somebody has to agree to; asked in the actor's thread.

    Attributes:
        plan: what will be done.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def answer(self, agreed: bool) -> None:
        """The person's answer; the first one counts."""
        self._answers.put(agreed)

    def wait(self, cancel: CancelToken) -> bool:
        """Wait for it.

        Raises:
            Interrupted: a stop was asked for meanwhile.
        """
        while True:
            cancel.check()
            try:
                return self._answers.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a task is given.

    Attributes:
        mailbox: the reporter; also takes posts for the interface.
        cancel: a request to stop.
    """

    mailbox: Mailbox
    cancel: CancelToken

    def confirm(self, plan: Plan) -> bool:
        """Ask the person at the bench, and wait."""
        question = Question(plan)
        self.mailbox.post(question)
        return question.wait(self.cancel)


@dataclass(frozen=True, slots=True)
class Task:
    """Something to do on a programmer.

    Attributes:
        kind: what it is, for the screen that asked: ``look``, ``order``, ``contact`` …
        label: the same for people, such as ``reading the variables``.
        work: does it; runs in the actor's thread.
    """

    kind: str
    label: str
    work: Callable[[TaskContext], Any]


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a task: what it returned, or why it failed."""

    task: Task
    value: Any = None
    error: HwflashError | None = None


class DeviceActor:
    """A thread with a queue.

    Args:
        name: of the thread.
        mailbox: where its words and results go.
    """

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        # A signal may come while the interface's thread holds it, and wants to close the actor.
        self._lock = threading.RLock()
        self._cancel = CancelToken()
        self._closed = False
        # No daemon: the interpreter must not end under a page program.
        self._thread = threading.Thread(target=self._run, name=name, daemon=False)
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """The thread's identifier."""
        return self._thread.ident

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def submit(self, task: Task) -> None:
        """Do a task when those before it are done; nothing after `close`."""
        with self._lock:
            if not self._closed:
                self._tasks.put(task)

    def stop(self) -> None:
        """Ask the task at work to stop at the next safe point."""
        with self._lock:
            self._cancel.cancel()

    def close(self) -> None:
        """Ask for a stop, and take no more tasks. Returns at once; see `join`."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._cancel.cancel()
                self._tasks.put(None)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end of the thread; whether it came."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            with self._lock:
                if self._closed:
                    continue
                self._cancel = CancelToken()
            self._mailbox.post(self._carry_out(task))

    def _carry_out(self, task: Task) -> Finished:
        try:
            return Finished(task, task.work(TaskContext(self._mailbox, self._cancel)))
        except HwflashError as exc:
            return Finished(task, error=exc)
        except Exception as exc:
            _log.exception("%s failed", task.label)
            return Finished(task, error=HwflashError(f"internal error: {exc!r}", code="internal"))
