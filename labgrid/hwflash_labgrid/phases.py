"""hwflash's progress as labgrid's steps and log lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from labgrid.step import steps

#: Erasing and programming take turns by the hundred: together they are one step.
_TOGETHER: Final = {"erase": "write", "program": "write", "plan": "write"}


class Phases:
    """A step for each phase of a job, inside the step of the driver's method.

    Args:
        driver: whose steps and log these are.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._step: Any = None
        self._name = ""
        self._tenth = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def heard(self, event: Mapping[str, Any]) -> None:
        """Take one JSON line of hwflash that is not the result."""
        logger = self._driver.logger
        match event["type"]:
            case "progress":
                self._progress(event["phase"], event["done"], event["total"])
            case "warning":
                logger.warning("%s", event["message"])
            case "info":
                logger.info("%s", event["message"])
            case _:  # task_begin, and what future versions may say
                logger.debug("%s", event)

    def _progress(self, phase: str, done: int, total: int) -> None:
        name = _TOGETHER.get(phase, phase)
        if name != self._name:
            self._end()
            self._begin(name)
        if name == "write" and phase != "plan":  # the plan counts both, by their time
            return
        tenth = 10 * done // max(total, 1)
        if tenth != self._tenth:
            self._tenth = tenth
            self._driver.logger.info("%s: %d %%", name, 100 * done // max(total, 1))

    def _begin(self, name: str) -> None:
        here = Path(__file__)
        step: Any = steps.get_new("phase", None, self._driver, (str(here), here.name, 1))
        step.args = {"name": name}
        step.start()
        self._step, self._name, self._tenth = step, name, -1

    def _end(self) -> None:
        if self._step is not None:
            self._step.stop()
            self._step = None
