"""Ctrl-C while a chip is being worked on: the job stops at its next safe point, then pytest does.

Python would raise `KeyboardInterrupt` wherever it happens to be, which on a programmer is the
middle of a transfer.

Limits: signals reach the main thread only; elsewhere nothing is changed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from hwflash.progress import CancelToken

#: Signals that end a process which does not heed them.
_ENDS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_at_safe_point(*, finish: bool = False) -> Generator[CancelToken]:
    """Turn SIGINT into a request to stop, and raise `KeyboardInterrupt` at the end.

    Args:
        finish: what runs is to be finished all the same, such as putting a chip back.
    """
    cancel = CancelToken()
    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    asked = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if not finish:
            cancel.cancel()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            raise KeyboardInterrupt


@contextmanager
def terminated_like_ctrl_c() -> Generator[None]:
    """SIGTERM, as CI sends it, ends the run as Ctrl-C does: what was begun is put back.

    So does SIGHUP, when the terminal or its ssh is gone. A handler of somebody else's is left
    alone.
    """
    own = threading.current_thread() is threading.main_thread()
    ours = [number for number in _ENDS if own and signal.getsignal(number) is signal.SIG_DFL]

    def stop(_number: int, _frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)  # a job on the chip has a handler of its own

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
